"""Simulated slow oscillations at the cue, and the memory signal by group of their phase."""

from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS, read_so_groups
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.data.simulation.subject import Subject
from sleep_interpreter.data.simulation.trials import awake_trials, place_oscillations, planned_so_trials, so_trials
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.safe_pickle import read_pickle

EEG_MONTAGE = published().channels

CUE = 20
"""Sample of the cue in a trial at 100 Hz."""


@pytest.mark.parametrize("group", SO_GROUPS)
def test_the_cue_falls_on_the_phase_of_its_group(group):
    cue = 50.0
    settings, rng = load_settings("test").stages, np.random.default_rng(0)
    waves = place_oscillations(rng, [group] * 200, np.full(200, cue), "N2", settings)
    near = 0.1
    for wave in waves.itertuples():
        times = [wave.start_s, wave.trough_start_s, wave.trough_s, wave.up_start_s, wave.peak_s, wave.end_s]
        assert times == sorted(times)
        assert 0.45 < 1 / (wave.end_s - wave.trough_start_s) < 1.3  # Hz
        first_peak = 0.5 * (wave.start_s + wave.trough_start_s)
        assert {
            "Pre-SO": wave.start_s - 0.5 < cue < wave.start_s,
            "trans-1st-Up": wave.start_s < cue < first_peak,
            "1st-Up": abs(cue - first_peak) < near,
            "trans-Down": abs(cue - wave.trough_start_s) < near,
            "Down": abs(cue - wave.trough_s) < near,
            "trans-2nd-Up": abs(cue - wave.up_start_s) < near,
            "2nd-Up": abs(cue - wave.peak_s) < near,
            "Post-SO": wave.end_s < cue < wave.end_s + 0.5,
        }[group]


@pytest.fixture(scope="module")
def trials():
    """Thirty trials in each group of one subject of preset test, in the order of the groups."""
    return planned_so_trials(Subject(load_settings("test"), "test", 0), 30)


@pytest.fixture(scope="module")
def grouped(trials):
    """EEG (30, 200, 55) by group."""
    eeg = np.swapaxes(trials.eeg, 1, 2)
    return {group: eeg[30 * k : 30 * (k + 1)] for k, group in enumerate(SO_GROUPS)}


def test_the_true_phase_is_that_of_the_group(trials):
    assert trials.truth["so_group"].tolist() == np.repeat(SO_GROUPS, 30).tolist()
    inside = ~trials.truth["so_group"].isin(["Pre-SO", "Post-SO"])
    assert trials.truth["so_phase_rad"][inside].notna().all()


def test_stored_trials_show_the_phase_over_the_frontal_midline(grouped):
    frontal = [EEG_MONTAGE.index(name) for name in ("F1", "Fz", "F2", "FCz")]
    course = {name: eeg[:, :, frontal].mean(axis=(0, 2)) for name, eeg in grouped.items()}
    at = {name: values[CUE - 2 : CUE + 3].mean() for name, values in course.items()}
    slope = {name: values[CUE + 6] - values[CUE - 6] for name, values in course.items()}
    assert min(at, key=at.get) == "Down" and at["Down"] < -0.8
    assert max(at, key=at.get) in ("1st-Up", "2nd-Up") and at["2nd-Up"] > 0.4
    assert at["1st-Up"] > 0.2
    assert slope["trans-Down"] < -0.4 and slope["trans-2nd-Up"] > 0.4 and slope["trans-1st-Up"] > 0.1
    # From before the first up-state the down-state is still to come, after the oscillation it is over.
    assert course["Pre-SO"][CUE:].min() < -0.6
    assert course["Post-SO"][:CUE].min() > -0.6


def test_items_are_balanced_in_each_group(trials):
    for k, group in enumerate(SO_GROUPS):
        assert np.bincount(trials.item[30 * k : 30 * (k + 1)]).tolist() == [2] * 15, group
    small = so_trials(Subject(load_settings("test"), "test", 0), 2)
    assert tuple(small) == SO_GROUPS
    for items, eeg in small.values():
        assert len(set(items)) == 2
        assert eeg.shape == (2, 200, 55) and eeg.dtype == np.float32
        low, high = np.percentile(eeg, [25, 75], axis=1)
        assert np.allclose(high - low, 1, atol=1e-4)


@cache
def _signals():
    """Size of what the memory signal changes in the trials of each group."""
    with_signal, without = (
        so_trials(Subject(load_settings("test", change), "test", 1), 15) for change in ((), ("memory.strength=0",))
    )
    return {name: float(np.sqrt(((with_signal[name][1] - without[name][1]) ** 2).mean())) for name in SO_GROUPS}


def test_the_memory_signal_depends_on_the_group():
    assert _signals()["Down"] < 0.15 * _signals()["2nd-Up"]
    assert _signals()["trans-Down"] < _signals()["trans-2nd-Up"]
    assert 0.5 * _signals()["2nd-Up"] < _signals()["1st-Up"]
    assert _signals()["Pre-SO"] < _signals()["1st-Up"]


def test_one_group_more_or_less_strength_is_a_setting():
    change = ("gate.share.Down=2",)
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


@pytest.mark.parametrize("threads", [2, 5])
def test_no_byte_depends_on_the_number_of_threads(cohort, tiny, threads):
    with threadpool_limits(threads):
        subject = Subject(tiny, "test", 0)
        own, awake = so_trials(subject, 2), awake_trials(subject, "audio")
    (written,) = read_so_groups(cohort)
    assert all(np.array_equal(written.groups[name][0], own[name][1]) for name in SO_GROUPS)
    with threadpool_limits(1):
        assert np.array_equal(awake, awake_trials(Subject(tiny, "test", 0), "audio"))


@pytest.mark.parametrize("stage", ["N2N3", "REM"])
def test_written_trials_from_before_the_cue_have_the_labels_and_parts_of_their_cues(cohort, stage):
    (before,), (cued,) = (read_test_subjects(cohort, stage, window=window) for window in ("precue", "cue"))
    assert np.array_equal(before.label, cued.label)
    assert np.array_equal(before.data_type, cued.data_type)
    assert before.simulated
    assert before.sleep.shape == cued.sleep.shape
