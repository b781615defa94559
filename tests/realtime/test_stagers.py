"""The stagers: YASA on the past alone, and why a window cannot be staged."""

import logging

import numpy as np
import pytest
from scipy import signal

from realtime.Parameters.settings import StagingSettings
from utils.errors import UserError


@pytest.fixture(scope="module")
def yasa_settings():
    return StagingSettings(yasa={"minimum_minutes": 1, "history_minutes": 3})


def _noise(seconds, seed=0):
    return np.random.default_rng(seed).standard_normal((3, seconds * 500)).astype(np.float32) * 20


def test_yasa_stager_gives_yasas_own_probabilities(yasa_settings):
    import mne
    import yasa

    from realtime.Model.stagers import YasaStager

    data = np.cumsum(_noise(135), axis=1) * 0.2
    stager = YasaStager(yasa_settings, (True, True, True))
    found = [stager.update(data[:, end - 15000 : end], end) for end in range(15000, data.shape[1] + 1, 2500)]
    assert found[0].reason == "YASA needs 1 min" and found[-1].probabilities is not None
    # the same past, resampled and cut by other means, through YASA's own predict()
    past = signal.resample_poly(data.astype(float), 1, 5, axis=1)[:, :13490][:, -12000:]
    raw = mne.io.RawArray(
        past * 1e-6, mne.create_info(["a", "b", "c"], 100, ["eeg", "eog", "emg"]), verbose=False
    )
    last = yasa.SleepStaging(raw, "a", eog_name="b", emg_name="c").predict().proba.iloc[-1]
    expected = [last["WAKE"] + last["N1"], last["N2"], last["N3"], last["REM"]]
    np.testing.assert_allclose(found[-1].probabilities, expected, atol=1e-6)


def test_yasa_stager_says_what_is_wrong(yasa_settings, caplog):
    from realtime.Model.stagers import YasaStager

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
    from realtime.Model.stagers import fault

    found = fault(_noise(30) * scale / 20 + 5, (True, False, False), 0.01)
    if reason is None or scale < 1e-6:
        assert found == reason
    else:
        assert found.startswith(reason)


def test_yasa_stager_needs_eeg(yasa_settings):
    from realtime.Model.stagers import YasaStager

    with pytest.raises(UserError, match="needs an EEG channel"):
        YasaStager(yasa_settings, (False, True, True))
