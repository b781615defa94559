"""Arousals as they begin, and how the study of them counts."""

import numpy as np
import pytest

from benchmarks.realtime import arousal
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.utils.core import config

RATE = 500


def sleep(seconds, seed=0):
    """EEG of quiet N3 (slow oscillations, a spindle every 5 s), EOG and EMG, (3, n) µV."""
    rng = np.random.default_rng(seed)
    t = np.arange(seconds * RATE) / RATE
    eeg = 60 * np.sin(2 * np.pi * 0.8 * t) + np.cumsum(rng.normal(0, 0.5, t.size)) * 0.3
    eeg -= np.convolve(eeg - 60 * np.sin(2 * np.pi * 0.8 * t), np.ones(1000) / 1000, "same")
    eeg += rng.normal(0, 3, t.size)
    for onset in range(3, seconds - 3, 5):
        eeg += 20 * np.sin(2 * np.pi * 13 * t) * np.exp(-0.5 * ((t - onset) / 0.25) ** 2)
    return np.stack([eeg, rng.normal(0, 10, t.size), rng.normal(0, 2, t.size)])


def _planted(kind, data, at):
    t = np.arange(data.shape[1]) / RATE
    on = (t >= at) & (t < at + 4)
    rng = np.random.default_rng(1)
    if kind == "EMG rise":
        data[2, on] += rng.normal(0, 20, on.sum())
    elif kind == "alpha burst":
        data[0, on] += 40 * np.sin(2 * np.pi * 9 * t[on])
    elif kind == "beta burst":
        data[0, on] += 25 * np.sin(2 * np.pi * 23 * t[on])
    else:
        data[0, on] += np.cumsum(rng.normal(0, 30, on.sum()))
    return data


@pytest.fixture(scope="module")
def settings():
    return config.load(SessionSettings, "realtime").arousal


def test_quiet_sleep_with_spindles_pauses_nothing(settings):
    assert arousal.signs(sleep(90), settings) == []


@pytest.mark.parametrize("kind", ["EMG rise", "alpha burst", "beta burst", "movement"])
def test_each_sign_is_seen_within_a_second(kind, settings):
    found = arousal.signs(_planted(kind, sleep(80), 60.1), settings)
    assert found and 60.1 < found[0][0] <= 61.1 and any(kind in why for _, why in found)


def test_a_stage_of_wakefulness_is_a_sign(settings):
    from sleep_interpreter.realtime.Session.signal_monitor import ArousalDetector

    assert ArousalDetector(settings).wake_reason([0.6, 0.4, 0, 0]) == "stage W/N1"
    assert ArousalDetector(settings).wake_reason([0.4, 0.6, 0, 0]) is None


def test_the_study_counts_delays_and_what_nothing_explains():
    planted = np.array([[10.0, 12.0], [50.0, 55.0], [56.0, 58.0], [100.0, 104.0]])
    found = [(t, "x") for t in (10.5, 50.75, 51.0, 57.0, 70.0, 71.0, 99.0, 150.0)]
    result = arousal.judge(found, planted, 235.0, 20.0)
    # the first lies before the medians are there; two that touch are one; 70 and 71 are one pause
    assert result["events"] == 2 and result["delays"] == [0.75] and result["false"] == 3
    assert result["hours"] == pytest.approx((235 - 35 - 11 - 7) / 3600)
