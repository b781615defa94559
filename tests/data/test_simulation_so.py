"""Simulated slow oscillations at the cue, the memory signal by group, and trials from before the cue."""

from functools import cache

import numpy as np
import pytest

from data.pickles import read_pickle
from data.simulation_memory import Subject
from data.simulation_settings import load_settings
from data.simulation_so import slow_oscillation, so_trials
from data.simulation_trials import precue_trials, sleep_trials
from data.so_groups import SO_GROUPS, read_so_groups
from data.trials import read_test_subjects
from utils.vocabulary import EEG_MONTAGE

ONSET = 1500
CUE = 20
"""Sample of the cue in a trial at 100 Hz."""


def _waves(group, count=60):
    settings = load_settings("test").slow_oscillation
    rng = np.random.default_rng(0)
    return np.stack([slow_oscillation(rng, settings, group, 3000, ONSET) for _ in range(count)])


@pytest.mark.parametrize("group", SO_GROUPS)
def test_the_cue_falls_on_the_phase_of_its_group(group):
    for wave in _waves(group):
        trough = int(wave.argmin())
        first, second = int(wave[:trough].argmax()), trough + int(wave[trough:].argmax())
        around = np.flatnonzero(np.abs(wave) > 1e-9)
        begin, end = int(around[0]), int(around[-1])
        assert begin < first < trough < second < end
        middle_down = first + int(np.abs(wave[first:trough]).argmin())
        middle_up = trough + int(np.abs(wave[trough:second]).argmin())
        near = 0.1 * 500
        where = {
            "Pre-SO": begin - 0.5 * 500 < ONSET < begin + near,
            "trans-1st-Up": begin < ONSET < first,
            "1st-Up": abs(ONSET - first) < near,
            "trans-Down": abs(ONSET - middle_down) < near,
            "Down": abs(ONSET - trough) < near,
            "trans-2nd-Up": abs(ONSET - middle_up) < near,
            "2nd-Up": abs(ONSET - second) < near,
            "Post-SO": end - near < ONSET < end + 0.5 * 500,
        }
        assert where[group]
        slope = wave[ONSET + 5] - wave[ONSET - 5]
        if group.startswith("trans"):
            assert (slope > 0) == group.endswith("Up")


def test_amplitude_and_frequency_are_those_of_slow_oscillations():
    low, high = load_settings("test").slow_oscillation.amplitude_uv
    for wave in _waves("Down"):
        assert 0.85 * low < wave.max() - wave.min() < high
        trough, peak = int(wave.argmin()), int(wave.argmax())
        assert 0.5 < 500 / (2 * (peak - trough)) < 1.5  # Hz; half a period lies between them


@pytest.fixture(scope="module")
def grouped():
    """Thirty trials in each group of one subject of preset test."""
    return so_trials(Subject(load_settings("test"), "test", 0), 30)


def test_stored_trials_show_the_phase_over_the_frontal_midline(grouped):
    frontal = [EEG_MONTAGE.index(name) for name in ("F1", "Fz", "F2", "FCz")]
    course = {name: eeg[:, :, frontal].mean(axis=(0, 2)) for name, (_, eeg) in grouped.items()}
    at = {name: values[CUE - 2 : CUE + 3].mean() for name, values in course.items()}
    slope = {name: values[CUE + 6] - values[CUE - 6] for name, values in course.items()}
    assert min(at, key=at.get) == "Down" and at["Down"] < -0.8
    assert max(at, key=at.get) == "2nd-Up" and at["2nd-Up"] > 0.5
    assert at["1st-Up"] > 0.3
    assert slope["trans-Down"] < -0.5 and slope["trans-2nd-Up"] > 0.5 and slope["trans-1st-Up"] > 0.1
    # From before the first up-state the down-state is still to come, after the oscillation nothing is.
    assert course["Pre-SO"][CUE:].min() < -0.6
    assert np.abs(course["Post-SO"][:CUE]).max() < 0.5


def test_items_are_balanced_in_each_group(grouped):
    assert tuple(grouped) == SO_GROUPS
    for items, eeg in grouped.values():
        assert np.bincount(items).tolist() == [2] * 15
        assert eeg.shape == (30, 200, 55) and eeg.dtype == np.float32
        low, high = np.percentile(eeg, [25, 75], axis=1)
        assert np.allclose(high - low, 1, atol=1e-4)


@cache
def _signals():
    """Size of what the memory signal changes in the trials of each group."""
    with_signal, without = (
        so_trials(Subject(load_settings("test", change), "test", 1), 15)
        for change in ((), ("memory.strength=0",))
    )
    return {
        name: float(np.sqrt(((with_signal[name][1] - without[name][1]) ** 2).mean())) for name in SO_GROUPS
    }


def test_the_memory_signal_depends_on_the_group():
    assert _signals()["Down"] < 0.15 * _signals()["2nd-Up"]
    assert _signals()["trans-Down"] < _signals()["trans-2nd-Up"]
    assert 0.5 * _signals()["2nd-Up"] < _signals()["1st-Up"]
    assert _signals()["Pre-SO"] < _signals()["1st-Up"]


def test_one_group_more_or_less_strength_is_a_setting():
    change = ("slow_oscillation.share.Down=2",)
    usual, changed = (so_trials(Subject(load_settings("test", c), "test", 0), 4) for c in ((), change))
    for name in SO_GROUPS:
        assert np.array_equal(usual[name][1], changed[name][1]) == (name != "Down")


def test_written_files_hold_all_groups(cohort, tiny):
    (subject,) = read_so_groups(cohort)
    assert subject.simulated
    own = so_trials(Subject(tiny, "test", 0), 2)
    for name, (sleep, label) in subject.groups.items():
        assert np.array_equal(sleep, own[name][1])
        assert np.array_equal(label, own[name][0])
    content = read_pickle(subject.file)
    assert {key for group in content.values() for key in group} == {"simulated", "label", "decode_data"}


@pytest.mark.parametrize("stage", ["N2N3", "REM"])
def test_written_trials_from_before_the_cue_have_the_labels_and_parts_of_their_cues(cohort, stage):
    (before,), (cued,) = (read_test_subjects(cohort, stage, window=window) for window in ("precue", "cue"))
    assert np.array_equal(before.label, cued.label)
    assert np.array_equal(before.data_type, cued.data_type)
    assert before.simulated
    assert before.sleep.shape == cued.sleep.shape


@pytest.mark.parametrize("kind", ["N2N3", "REM"])
def test_nothing_of_cue_or_item_is_before_the_cue(kind):
    usual = Subject(load_settings("test"), "test", 0)
    silent = Subject(load_settings("test", ["memory.strength=0", "memory.evoked_uv=0"]), "test", 0)
    before = precue_trials(usual, kind, 20)
    assert np.array_equal(before.eeg, precue_trials(silent, kind, 20).eeg)
    cued = sleep_trials(usual, kind, 20)
    assert np.array_equal(before.item, cued.item)
    around = sleep_trials(silent, kind, 20).eeg
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(before.eeg, around, strict=True)]
    assert abs(np.mean(alike)) < 0.1 and max(alike) < 0.7  # other stretches of sleep
