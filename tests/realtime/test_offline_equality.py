"""Offline staging is real-time staging: the same stages at the same moments, whatever the sampling rate."""

import mne
import numpy as np
import pytest

from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.resample import Resampler
from sleep_interpreter.utils.staging.cue_gate import states
from sleep_interpreter.utils.staging.registry import STAGERS
from sleep_interpreter.utils.staging.replay import of_windows, replay
from sleep_interpreter.utils.staging.settings import GateSettings, StagingSettings
from sleep_interpreter.utils.staging.stagers import SIStagingStager, YasaStager, build_without_checkpoint

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


PLUG_IN = """
from pathlib import Path
import numpy as np
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.staging.stagers import StageEstimate

class Thresholds:
    def __init__(self, settings, present, restore):
        if settings.checkpoint is None:
            raise UserError("--stager thresholds needs a file with its threshold")
        self.limit = float(Path(settings.checkpoint).read_text())

    def warm_up(self):
        self.update(np.zeros((3, 15000)), 15000)

    def update(self, window, end):
        if np.std(window[0]) < self.limit:
            return StageEstimate(None, "too quiet")
        return StageEstimate(np.array([0.0, 1.0, 0.0, 0.0]))
"""


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """Another package, installed, that brings a stager."""
    about = tmp_path / "packages" / "plug_in-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[sleep_interpreter.stagers]\n"
        "thresholds = plug_in_stager:Thresholds\nyasa = plug_in_stager:Thresholds\n"
        "broken = plug_in_stager:Nothing\n"
    )
    (tmp_path / "packages" / "plug_in_stager.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    (tmp_path / "threshold.txt").write_text("5")
    return tmp_path / "threshold.txt"


def test_a_stager_of_another_package_is_offered_and_staged_offline_and_in_a_session(
    plug_in, session, main, recording, capsys
):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--stager {yasa,sistaging,broken,thresholds}" in capsys.readouterr().out
    flags = ["--stager", "thresholds", "--stager-checkpoint", plug_in]
    result = session(recording, *flags, "--set", "gate.nrem_detections=2")
    staging = StagingSettings(stager="thresholds", checkpoint=str(plug_in))
    stager = STAGERS.load("thresholds")(staging, (True, True, True), restore=None)
    same(result, replay(stager, offline(recording), staging.every_seconds), GateSettings(nrem_detections=2))
    assert of(result, "stage")[-1]["detail"]["open"]
    with pytest.raises(UserError, match="thresholds needs a file with its threshold"):
        session(recording, "--stager", "thresholds")
    with pytest.raises(UserError, match=r"stager .broken. cannot be loaded"):
        session(recording, "--stager", "broken")
    assert STAGERS.load("yasa") is YasaStager, "no other package takes the place of our own"
    assert list(build_without_checkpoint(StagingSettings(), (True, True, True))) == ["yasa"]


def test_a_stager_that_nobody_registered_is_refused_with_the_known_ones(session, recording):
    for name in ("yasaa", "[1]"):
        with pytest.raises(UserError, match=r"--set staging\.stager=.*: staging\.stager = "):
            session(recording, "--set", f"staging.stager={name}")
    with pytest.raises(UserError, match=r"unknown stager 'yasaa'; did you mean 'yasa'\? registered: yasa, sistaging$"):
        session(recording, "--set", "staging.stager=yasaa")
    with pytest.raises(UserError, match="registered: yasa, sistaging"):
        STAGERS.load("yasaa")


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
