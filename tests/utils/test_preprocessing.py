"""Steps shared by offline preparation and real time."""

import numpy as np
import pytest
from scipy import signal

from sleep_interpreter.utils.signal import preprocessing


@pytest.fixture
def eeg():
    return np.random.default_rng(0).standard_normal((55, 1000)) * 20


def test_decoding_window_follows_the_published_rule(eeg):
    """Average reference, scipy's zero-phase decimation, median and interquartile range, clip at 15."""
    eeg[3, 500] = 5000
    trial = preprocessing.decoding_window(eeg)
    assert trial.shape == (200, 55) and trial.dtype == np.float32
    decimated = signal.decimate(eeg - eeg.mean(axis=0), 5, axis=1, zero_phase=True)
    spread = np.subtract(*np.percentile(decimated, [75, 25], axis=1))[:, None]
    expected = (decimated - np.median(decimated, axis=1, keepdims=True)) / spread
    np.testing.assert_allclose(trial, np.clip(expected, -15, 15).T, atol=1e-5)
    assert trial.max() == 15


def test_gain_and_offset_do_not_matter(eeg):
    expected = preprocessing.decoding_window(eeg)
    np.testing.assert_allclose(preprocessing.decoding_window(eeg * 7 + 100), expected, atol=1e-4)


def test_flat_channels_become_zeros_and_nan_is_refused(eeg):
    flat = eeg * 0
    assert np.all(preprocessing.decoding_window(flat) == 0)
    eeg[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        preprocessing.decoding_window(eeg)


def test_staging_window():
    rate = 500
    times = np.arange(15000) / rate
    slow, fast = np.sin(2 * np.pi * 2 * times), np.sin(2 * np.pi * 60 * times)
    window = preprocessing.staging_window([slow + fast, slow + 50, slow + fast], rate, [(0.3, 35)] * 2 + [(10, 100)])
    assert window.shape == (3, 15000) and window.dtype == np.float32
    np.testing.assert_allclose(window.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(window.std(axis=1), 1, atol=1e-4)
    middle = slice(5000, 10000)
    assert np.corrcoef(window[0, middle], slow[middle])[0, 1] > 0.999  # passed without delay
    assert np.corrcoef(window[1, middle], slow[middle])[0, 1] > 0.999
    assert np.corrcoef(window[2, middle], fast[middle])[0, 1] > 0.99
