"""Slow oscillations, their phase and spindles, against planted ones."""

import numpy as np
import pandas as pd
import pytest
import recordings

from benchmarks.preparation.planted_events import phase_error
from sleep_interpreter.data.events import slow_oscillations
from sleep_interpreter.data.events.cue_phases import at_cues
from sleep_interpreter.data.events.slow_oscillations import SlowOscillationDetection, SpindleDetection
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS

RATE = 100


def eeg(minutes, seed=0):
    """Return pink noise in µV at 100 Hz, SD 12."""
    n = minutes * 60 * RATE
    hz = np.fft.rfftfreq(n, 1 / RATE)
    data = np.fft.irfft(np.fft.rfft(np.random.default_rng(seed).standard_normal(n)) / np.maximum(hz, 0.5), n)
    return 12 * data / data.std()


@pytest.fixture(scope="module")
def planted():
    """Return (signal, stages, true table) of 8 min with a slow oscillation every 4 s or so."""
    data, (shape, marks) = eeg(8), recordings.wave(amplitude=150.0)
    shape = shape[::5] * 1e6
    rng, rows, at = np.random.default_rng(1), [], 5.0
    while at < 470:
        start = round(at * RATE)
        data[start : start + len(shape)] += shape
        rows.append({key: start / RATE + t for key, t in marks.items()})
        at += rng.uniform(3.5, 5)
    return data, np.full(len(data), 2), pd.DataFrame(rows)


def test_planted_oscillations_are_found_with_their_phase(planted):
    data, stages, truth = planted
    found = slow_oscillations.detect_so(data, stages, SlowOscillationDetection())
    score = slow_oscillations.compare_events(found.trough_s, truth.trough_s, 0.2)
    assert score["recall"] > 0.7
    assert score["precision"] > 0.5  # pink noise has waves of its own above the threshold
    cues = np.random.default_rng(2).uniform(10, 460, 400)
    true_group, true_phase, _ = slow_oscillations.so_phase(truth, cues)
    group, phase, _ = slow_oscillations.so_phase(found, cues)
    error = phase_error(phase, true_phase)
    assert error["n"] > 80 and abs(error["mean_rad"]) < 0.3 and error["sd_rad"] < 0.8
    inside = (true_group >= 1) & (true_group <= 6)
    inside &= group >= 0
    near = np.abs(group - true_group)[inside] <= 1
    assert inside.sum() > 80 and near.mean() > 0.85 and (group == true_group)[inside].mean() > 0.5


def test_only_n2_and_n3_are_searched(planted):
    data, stages, _ = planted
    assert len(slow_oscillations.detect_so(data, np.zeros_like(stages), SlowOscillationDetection())) == 0
    half = stages.copy()
    half[: len(half) // 2] = 3
    found = slow_oscillations.detect_so(data, half, SlowOscillationDetection())
    assert found.trough_s.min() > 238


def test_the_groups_follow_each_other_and_fill_the_oscillation():
    _, marks = recordings.wave()
    table = pd.DataFrame([{key: 10 + t for key, t in marks.items()}])
    times = np.arange(9.0, 12.5, 0.001)
    group, phase, row = slow_oscillations.so_phase(table, times)
    known = group[group >= 0]
    assert (np.diff(known) >= 0).all() and set(known) == set(range(8))
    start, end = table.start_s[0], table.end_s[0]
    assert np.allclose(times[group >= 0][[0, -1]], [start - 0.5, end + 0.5], atol=0.002)
    inside = (times >= start) & (times < end)
    assert np.isfinite(phase[inside]).all() and np.isnan(phase[~inside]).all()
    assert (row >= 0).sum() == (group >= 0).sum()

    def at(t):
        g, p, _ = slow_oscillations.so_phase(table, t)
        return SO_GROUPS[g[0]], p[0]

    assert at(table.trough_s[0]) == ("Down", pytest.approx(np.pi))
    assert at(table.peak_s[0]) == ("2nd-Up", pytest.approx(0, abs=1e-9))
    assert at(table.up_start_s[0]) == ("trans-2nd-Up", pytest.approx(-np.pi / 2))
    assert at(table.trough_start_s[0]) == ("trans-Down", pytest.approx(np.pi / 2))
    first = table.trough_start_s[0] - start
    assert at(start + 0.1 * first)[0] == "trans-1st-Up" and at(start + 0.5 * first)[0] == "1st-Up"
    assert at(start - 0.2)[0] == "Pre-SO" and at(end + 0.2)[0] == "Post-SO"
    assert slow_oscillations.so_phase(table, [start - 0.6])[0][0] == -1


def test_inside_beats_near():
    _, marks = recordings.wave()
    table = pd.DataFrame([{key: shift + t for key, t in marks.items()} for shift in (10, 11.5)])
    _, _, row = slow_oscillations.so_phase(table, [11.3, 11.6])
    assert row.tolist() == [0, 1]


def test_planted_spindles_are_found_and_coupled(planted):
    data, stages, truth = planted
    signal = data.copy()
    t = np.arange(100) / RATE
    shape = 40 * np.hanning(100) * np.cos(2 * np.pi * 13.5 * (t - 0.5))
    onsets = truth.up_start_s.to_numpy()[::2] - 0.2
    for onset in onsets:
        start = round(onset * RATE)
        signal[start : start + 100] += shape
    oscillations = slow_oscillations.detect_so(data, stages, SlowOscillationDetection())
    found = slow_oscillations.detect_spindles(
        np.stack([signal, 0.9 * signal]), ["Cz", "Pz"], stages, SpindleDetection(), oscillations
    )
    score = slow_oscillations.compare_events(found.peak_s, onsets + 0.5, 0.4)
    assert score["recall"] > 0.6 and score["precision"] > 0.8
    assert (found.so >= 0).mean() > 0.7 and (found.kind == "fast").mean() > 0.7
    assert (np.diff(found.start_s) > 0).all()  # one spindle in two channels is one

    cues = pd.DataFrame({"onset_s": [onsets[3] - 0.5, onsets[3] + 1.5], "stage": [2, 0]})
    known, _ = at_cues(cues, oscillations, found, SlowOscillationDetection(), 1.0, None)
    assert known.spindle_coupled.tolist() == [True, False]
    assert known.so_group[1] == "none"  # stage W


def test_counting_hits():
    score = slow_oscillations.compare_events([1.0, 1.05, 5.0], [1.02, 9.0], 0.1)
    assert (score["hits"], score["precision"], score["recall"]) == (1, 1 / 3, 1 / 2)
    assert slow_oscillations.compare_events([], [], 0.1)["precision"] is None
    assert phase_error([np.pi - 0.1], [-np.pi + 0.1])["mean_rad"] == pytest.approx(-0.2)
