"""Offline staging is real-time staging: the same stages at the same moments, whatever the sampling rate."""

import mne
import numpy as np
import pytest

from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.utils.signal.resample import Resampler
from sleep_interpreter.utils.staging.cue_gate import states
from sleep_interpreter.utils.staging.replay import of_windows, replay
from sleep_interpreter.utils.staging.settings import GateSettings, StagingSettings
from sleep_interpreter.utils.staging.stagers import SIStagingStager, YasaStager

from .conftest import of

CHANNELS = ("C4", "EOG1", "EMG1")


def offline(path, rate=500.0):
    """EEG, EOG and EMG as a script reads them, with MNE alone."""
    raw = mne.io.read_raw(path, verbose="error")
    data = (raw.get_data(picks=list(CHANNELS)) * 1e6).astype(np.float32)
    return data if rate == 500 else Resampler(rate, 500.0, 3).push(data)


def same(events, estimates, gate):
    """Assert that a session's log and offline estimates hold the same numbers at the same times."""
    logged = [event["detail"] for event in of(events, "stage")]
    times = [event["seconds"] for event in of(events, "stage")]
    assert times == pytest.approx(estimates.seconds[: len(times)].tolist()) and len(times) > 5
    for detail, row, known in zip(logged, estimates.probability, estimates.known, strict=False):
        if detail["probabilities"] is None:
            assert not known
        else:
            np.testing.assert_array_equal(detail["probabilities"], np.round(row, 6))
    for detail, state in zip(logged, states(estimates.history, gate), strict=False):
        assert detail["open"] == state.open and detail["consecutive"]["NREM"] == state.nrem
    assert [d["reason"] for d in logged] == estimates.reason[: len(logged)]


def test_sistaging(session, recording, checkpoints):
    flags = ["--stager", "sistaging", "--stager-checkpoint", checkpoints.stager]
    result = session(recording, *flags, "--set", "gate.nrem_detections=2")
    staging = StagingSettings(stager="sistaging")
    stager = SIStagingStager(staging, checkpoint.restore(checkpoints.stager))
    found = replay(stager, offline(recording), staging.every_seconds)
    same(result, found, GateSettings(nrem_detections=2))
    assert of(result, "stage")[-1]["detail"]["open"]


@pytest.mark.slow
def test_yasa_at_another_rate(session, raw55, tmp_path):
    """256 Hz and a dead electrode: YASA's past and the reasons are the same too."""
    raw = raw55.copy().resample(256, verbose="error")
    raw._data[raw.ch_names.index("C4"), 60 * 256 : 66 * 256] = 1e-4
    raw.set_annotations(None)
    path = tmp_path / "night_raw.fif"
    raw.save(path, verbose="error")
    settings = ["--stager", "yasa", "--set", "staging.yasa.minimum_minutes=0.5"]
    result = session(path, *settings)
    staging = StagingSettings(yasa={"minimum_minutes": 0.5})
    found = replay(YasaStager(staging, (True, True, True)), offline(path, 256.0), staging.every_seconds)
    same(result, found, GateSettings())
    assert found.known.any() and "EEG is flat for 10% of the window or more" in found.reason


def test_stored_windows_are_staged_as_the_loop_would_stage_them(recording, checkpoints):
    """What the released data set stores, filtered and z-scored, gives what the raw window gives."""
    from sleep_interpreter.utils.signal.preprocessing import staging_window

    staging = StagingSettings(stager="sistaging")
    network = checkpoint.restore(checkpoints.stager)
    signal = offline(recording)
    filters = staging.filters
    windows = [
        staging_window(signal[:, start : start + 15000], 500, (filters.eeg, filters.eog, filters.emg))
        for start in range(0, signal.shape[1] - 15000 + 1, 1500)
    ]
    stored = of_windows(SIStagingStager(staging, network, prepared=True), np.stack(windows), 4)
    live = replay(SIStagingStager(staging, network), signal, 3.0)
    np.testing.assert_allclose(stored.seconds, live.seconds)
    np.testing.assert_allclose(stored.probability, live.probability, atol=1e-6)
    np.testing.assert_allclose(stored.probability.sum(axis=1), 1, atol=1e-6)


def test_a_recording_shorter_than_a_window(checkpoints):
    stager = SIStagingStager(StagingSettings(), checkpoint.restore(checkpoints.stager))
    found = replay(stager, np.zeros((3, 14999)), 5.0)
    assert len(found) == 0 and found.smoothed(0.2).shape == (0, 4)
