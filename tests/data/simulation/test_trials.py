"""Simulated trials: a signal that is really there, only where it is planted, the same for the same seed."""

from functools import cache

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from sleep_interpreter.data.formats.subject_writer import SubjectWriter, main_file
from sleep_interpreter.data.formats.tfrecords import STAGING_SAMPLES
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.data.simulation.subject import Subject
from sleep_interpreter.data.simulation.trials import (
    awake_trials,
    data_types,
    draw_awake,
    precue_trials,
    sleep_trials,
    staging_night,
)
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.safe_pickle import read_pickle


def _features(eeg):
    """Mean over 0.1 s after the cue: (n, 55, 200) becomes (n, 990)."""
    return eeg[:, :, 20:].reshape(len(eeg), 55, 18, 10).mean(axis=-1).reshape(len(eeg), -1)


@cache
def _decoded(*overrides, kind="N2N3", train=4):
    """Train an LDA on simulated subjects, return hits and truth of two others' trials."""
    settings = load_settings("demo", overrides)
    fit = [sleep_trials(Subject(settings, "train", number), kind, 60) for number in range(train)]
    test = [sleep_trials(Subject(settings, "test", number), kind, 45) for number in range(2)]
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    lda.fit(np.concatenate([_features(t.eeg) for t in fit]), np.concatenate([t.item for t in fit]))
    hits = np.concatenate([lda.predict(_features(t.eeg)) == t.item for t in test])
    return int(hits.sum()), len(hits)


def test_unseen_subjects_can_be_decoded_with_the_demo_strength():
    hits, count = _decoded()
    assert binom.sf(hits - 1, count, 1 / 15) < 1e-6
    assert 0.3 < hits / count < 0.85


def test_nothing_can_be_decoded_with_strength_zero():
    hits, count = _decoded("memory.strength=0", train=2)
    assert binom.cdf(hits, count, 1 / 15) > 0.001
    assert binom.sf(hits - 1, count, 1 / 15) > 0.001


@pytest.mark.slow
def test_accuracy_grows_with_the_strength_and_with_what_subjects_share():
    hits = [_decoded(f"memory.strength={strength}")[0] for strength in (0.0, 0.5, 1.0, 2.0)]
    assert hits == sorted(hits) and hits[3] > 1.2 * hits[2] > 1.5 * hits[1]
    assert _decoded("memory.similarity=0")[0] < 0.6 * _decoded("memory.similarity=0.8")[0]


@cache
def subject(*overrides, number=0, group="test"):
    """Return a subject of preset test with changed settings."""
    return Subject(load_settings("test", overrides), group, number)


def test_items_are_balanced_and_trials_scaled():
    trials = sleep_trials(subject(), "N2N3", 30)
    assert np.bincount(trials.item).tolist() == [2] * 15
    assert trials.eeg.shape == (30, 55, 200) and trials.eeg.dtype == np.float32
    low, high = np.percentile(trials.eeg, [25, 75], axis=2)
    assert np.allclose(high - low, 1, atol=1e-4)  # robust scaling
    assert np.array_equal(trials.truth["item_index"], trials.item)
    assert (trials.truth["stage"] == "N3").sum() == 15
    assert trials.truth.index.tolist() == list(range(30))
    assert sleep_trials(subject(), "REM", 0).eeg.shape == (0, 55, 200)


def test_the_same_seed_gives_the_same_bytes_and_other_subjects_change_nothing():
    first = sleep_trials(subject(), "N2N3", 8)
    large = sleep_trials(subject("cohort.train_subjects=50", "cohort.test_subjects=9"), "N2N3", 8)
    assert np.array_equal(first.eeg, large.eeg) and first.truth.equals(large.truth)
    other = sleep_trials(subject(number=1), "N2N3", 8)
    assert not np.array_equal(first.eeg, other.eeg)


@pytest.mark.parametrize("kind", ["N2N3", "REM"])
def test_nothing_of_cue_or_item_is_before_the_cue(kind):
    quiet = ("memory.strength=0", "memory.sound.share={N2: 0, N3: 0}",
             "memory.sound.potential_uv={N2: 0, N3: 0, R: 0}")  # fmt: skip
    usual, silent = subject(), subject(*quiet)
    before, cued = precue_trials(usual, kind, 12), sleep_trials(usual, kind, 12)
    # The same stretches, but every window is cut and filtered alone, so no ringing leads over the cut.
    assert np.array_equal(before.eeg, precue_trials(silent, kind, 12).eeg)
    assert np.array_equal(before.item, cued.item) and before.truth.equals(cued.truth)
    around = sleep_trials(silent, kind, 12).eeg
    difference = np.abs(cued.eeg - around).mean(axis=(0, 1))
    assert difference[20:160].mean() > 0.05
    # Both hold the 0.2 s before the cue, scaled differently and with other filter edges.
    alike = [
        np.corrcoef(a[:, 183:197].ravel(), b[:, 3:17].ravel())[0, 1] for a, b in zip(before.eeg, around, strict=True)
    ]
    assert np.median(alike) > 0.5


def test_awake_trials_hold_what_was_planted():
    strong, silent = subject("memory.strength=5"), subject("memory.strength=0")
    for modality in ("image", "audio"):
        with_signal, without = awake_trials(strong, modality), awake_trials(silent, modality)
        per_item = strong.settings.cohort.awake_trials
        assert with_signal.shape == (15, per_item, 55, 80) and with_signal.dtype == np.float32
        mean = with_signal.mean(axis=1)
        within = [
            np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(with_signal[:, 0], with_signal[:, 1], strict=True)
        ]
        assert np.mean(within) > 0.3  # two trials of an item look alike
        assert with_signal[:, :, :, 8:60].std() > 0
        assert np.abs(mean - without.mean(axis=1)).mean() > 0.1


def test_data_types_and_drawn_awake_trials():
    parts = data_types(subject(), "N2N3", 20)
    assert [parts.count(part) for part in ("train", "val", "test")] == [12, 4, 4]
    pool = np.arange(15.0)[:, None, None] * np.ones((15, 55, 80))
    drawn = draw_awake(subject(), "N2N3", 3, pool)
    assert sorted(drawn[:, 0, 0]) == list(range(15))
    assert len(draw_awake(subject(), "N2N3", 3, pool[:4])) == 15


def test_whole_data_hold_the_same_trials_as_the_other_files(tmp_path):
    who = subject("cohort.awake_trials=2")
    awake = {modality: awake_trials(who, modality) for modality in ("image", "audio")}
    sleep = {kind: sleep_trials(who, kind, count) for kind, count in {"N2N3": 6, "REM": 0}.items()}
    kinds = {f"awake_{kind}": (np.repeat(np.arange(15), 2), np.concatenate(pool)) for kind, pool in awake.items()}
    kinds |= {kind: (trials.item, trials.eeg) for kind, trials in sleep.items()}
    SubjectWriter(tmp_path, "subject_0", published(), simulated=True).single_trials(kinds)
    content = read_pickle(tmp_path / main_file("subject_0", "Whole_data"))
    assert {name: len(trials) for name, trials in content.items()} == {
        "awake_image": 30, "awake_audio": 30, "N2N3": 6, "REM": 0,
    }  # fmt: skip
    for trials in content.values():
        for one in trials:
            assert next(iter(one)) == "simulated" and one["simulated"] is True
            assert one["category"].shape == (15,) and one["category"].sum() == 1
    fourth = content["awake_audio"][7]
    assert fourth["category"].argmax() == 3
    assert np.array_equal(fourth["EEG"], awake["audio"][3, 1])
    assert np.array_equal(content["N2N3"][5]["EEG"], sleep["N2N3"].eeg[5])


def test_staging_nights_have_a_window_every_three_seconds():
    windows, stages = staging_night(subject(), 4)
    assert windows.shape == (31, 3, STAGING_SAMPLES) and windows.dtype == np.float32
    assert np.allclose(windows.mean(axis=2), 0, atol=1e-4) and np.allclose(windows.std(axis=2), 1, atol=1e-3)
    assert stages.tolist() == [0, 1, 2, 3]
    assert staging_night(subject(number=1), 4)[1].tolist() == [1, 2, 3, 0]
    assert len(staging_night(subject(), 0)[0]) == 0
    # What lies 3 s later in one window is in the next one, but for the filter's edges and the scaling.
    middle = slice(5000, 9000)
    assert np.corrcoef(windows[3, 0, 6500:10500], windows[4, 0, middle])[0, 1] > 0.98
