"""The stagers: YASA on the past alone, and why a window cannot be staged."""

import logging

import numpy as np
import pytest
from scipy import signal

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.staging.settings import StagingSettings


@pytest.fixture(scope="module")
def yasa_settings():
    return StagingSettings(yasa={"minimum_minutes": 1, "history_minutes": 3})


def _noise(seconds, seed=0):
    return np.random.default_rng(seed).standard_normal((3, seconds * 500)).astype(np.float32) * 20


@pytest.mark.slow
def test_yasa_stager_gives_yasas_own_probabilities(yasa_settings):
    import mne
    import yasa

    from sleep_interpreter.utils.staging.stagers import YasaStager

    data = np.cumsum(_noise(135), axis=1) * 0.2
    stager = YasaStager(yasa_settings, (True, True, True))
    found = [stager.update(data[:, end - 15000 : end], end) for end in range(15000, data.shape[1] + 1, 2500)]
    assert found[0].reason == "YASA needs 1 min" and found[-1].probabilities is not None
    # the same past, resampled and cut by other means, through YASA's own predict()
    past = signal.resample_poly(data.astype(float), 1, 5, axis=1)[:, :13490][:, -12000:]
    raw = mne.io.RawArray(past * 1e-6, mne.create_info(["a", "b", "c"], 100, ["eeg", "eog", "emg"]), verbose=False)
    last = yasa.SleepStaging(raw, "a", eog_name="b", emg_name="c").predict().proba.iloc[-1]
    expected = [last["WAKE"] + last["N1"], last["N2"], last["N3"], last["REM"]]
    np.testing.assert_allclose(found[-1].probabilities, expected, atol=1e-6)


def test_yasa_stager_says_what_is_wrong(yasa_settings, caplog):
    from sleep_interpreter.utils.staging.stagers import YasaStager

    stager = YasaStager(yasa_settings, (True, False, True))
    data = _noise(300)
    data[1] = np.nan  # no EOG
    data[0, 40000:75000] = 0.5  # a disconnected electrode for more than a minute
    data[2, 100000] = np.nan

    def update(end):
        return stager.update(data[:, end - 15000 : end], end)

    reasons = {end: update(end).reason for end in range(15000, 120001, 5000)}
    assert reasons[30000] == "YASA needs 1 min"
    assert reasons[60000] == "EEG is flat"
    assert reasons[110000] == "EMG holds samples that are not finite"
    assert reasons[95000] is None and reasons[120000] is None  # both are in the history by now
    with pytest.raises(ValueError, match="after one for sample 120000"):
        update(120000)
    with caplog.at_level(logging.WARNING):
        assert update(150000).reason == "YASA needs 1 min"
    assert "starts again" in caplog.text


@pytest.mark.parametrize(
    ("scale", "reason"),
    [
        (20, None),
        (0, "EEG is flat"),
        (2e-5, "EEG is flat, yet not constant: volts taken for µV?"),
        (1e-8, "EEG is flat"),
    ],
)
def test_a_flat_channel_and_one_in_volts_are_told_apart(scale, reason):
    from sleep_interpreter.utils.staging.stagers import fault

    found = fault(_noise(30) * scale / 20 + 5, (True, False, False), 0.01)
    if reason is None or scale < 1e-6:
        assert found == reason
    else:
        assert found.startswith(reason)


def test_yasa_stager_needs_eeg(yasa_settings):
    from sleep_interpreter.utils.staging.stagers import YasaStager

    with pytest.raises(UserError, match="needs an EEG channel"):
        YasaStager(yasa_settings, (False, True, True))


def _with(change):
    data = _noise(30)
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        # the electrode comes off for 3 s and more of the window
        (lambda x: x.__setitem__((0, slice(0, 2000)), 3.0), "EEG is flat for 10% of the window or more"),
        (lambda x: x.__setitem__((1, slice(4000, 4900)), 3.0), None),
        # the amplifier is at the end of its range
        (lambda x: x.__setitem__((2, slice(0, 1600)), 200.0), "EMG is railed"),
        # mains on an open input, cut off above and below
        (lambda x: x.__setitem__(0, np.clip(900 * np.sin(np.arange(15000) * 0.2 * np.pi), -300, 300)), "EEG is railed"),
        # a sine is at its extremes often, yet no rail
        (lambda x: x.__setitem__(0, 50 * np.sin(np.arange(15000) / 80)), None),
        # a pop of the electrode is no rail either
        (lambda x: x.__setitem__((0, 7000), 10_000.0), None),
    ],
)
def test_a_disconnected_electrode_is_unknown_with_its_reason(change, reason):
    from sleep_interpreter.utils.staging.stagers import fault

    settings = StagingSettings()
    found = fault(_with(change), (True, True, True), settings.flat_microvolts, settings.dead_share)
    assert found is None if reason is None else found.startswith(reason)


def test_both_stagers_say_unknown(yasa_settings):
    """EMG off: no stage, from the network neither, though it would give probabilities for anything."""
    from sleep_interpreter.utils.staging.stagers import SIStagingStager, YasaStager

    class Sure:
        def predict_proba(self, windows):
            return np.tile(np.float32([0, 1, 0, 0]), (len(windows), 1))

    window = _with(lambda x: x.__setitem__(2, 0.0))
    network = SIStagingStager(StagingSettings(), Sure())
    found = network.update(window, 15000)
    assert found.probabilities is None and found.reason == "EMG is flat"
    np.testing.assert_array_equal(network.update(_noise(30), 17500).probabilities, [0, 1, 0, 0])
    assert YasaStager(yasa_settings, (True, True, True)).update(window, 15000).reason == "EMG is flat"
    prepared = SIStagingStager(StagingSettings(), Sure(), prepared=True)
    windows = np.stack([_noise(30) / 20, window / 20, _noise(30) / 20])
    assert [e.reason for e in prepared.estimates(windows)] == [None, "EMG is flat", None]
    windows[1, 2] = np.nan
    assert prepared.estimates(windows)[1].reason == "EMG holds samples that are not finite"


def test_yasa_on_the_whole_recording_is_yasas_own():
    import mne
    import yasa

    from sleep_interpreter.utils.signal.resample import Resampler
    from sleep_interpreter.utils.staging.stagers import yasa_whole_night

    data = np.cumsum(_noise(330), axis=1) * 0.2
    found = yasa_whole_night(data, (True, True, True), 5)
    longer = np.concatenate([data, np.repeat(data[:, -1:], 500, axis=1)], axis=1)
    past = Resampler(500, 100, 3).push(longer)[:, :33000]
    raw = mne.io.RawArray(past * 1e-6, mne.create_info(["a", "b", "c"], 100, ["eeg", "eog", "emg"]), verbose=False)
    theirs = yasa.SleepStaging(raw, "a", eog_name="b", emg_name="c").predict().proba
    expected = np.column_stack([theirs["WAKE"] + theirs["N1"], theirs["N2"], theirs["N3"], theirs["REM"]])
    assert found.shape == (11, 4)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.isnan(yasa_whole_night(data[:, :60000], (True, True, True), 5)).all(), "4 of 5 min"
