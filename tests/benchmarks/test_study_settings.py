"""The two studies' settings and arithmetic; the studies themselves run in the slow tests."""

import numpy as np
import pytest

from benchmarks.decoding import class_loss, real_eeg, real_eeg_choice
from benchmarks.decoding.fingermovements import Trials
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError


@pytest.fixture(scope="module")
def real():
    return config.load(real_eeg.RealEegSettings, "fingermovements_study")


@pytest.fixture(scope="module")
def simulated():
    return config.load(class_loss.ClassLossSettings, "class_loss_study")


def test_candidates_change_what_they_say_and_nothing_else(real):
    base = config.load(experiment.Experiment, "fingermovements")
    assert (base.model.channels, base.model.sleep_samples, base.model.classes) == (16, 50, 2)
    assert not base.model.awake and base.network == "N23SISD"
    for candidate in real.candidates.values():
        made = real_eeg_choice.experiment_of(real, candidate, "logits", train__epochs=7)
        flat = [config.flat(s.model_dump(mode="json")) for s in (base, made)]
        changed = {k: v for k, v in flat[1].items() if v != flat[0][k]}
        assert changed == {**config.flat(candidate.change), "model.class_loss": "logits", "train.epochs": 7}


def test_an_unknown_candidate_is_refused(real):
    with pytest.raises(UserError, match="no candidate 'fats'; did you mean fast"):
        real.model_copy(update={"only": ("fats",)}).chosen_from()
    assert list(real.model_copy(update={"only": ("fast",)}).chosen_from()) == ["fast"]
    assert real.chosen_from() == real.candidates


def test_folds_are_stratified_and_the_same_every_time():
    label = np.arange(316) % 2
    found = real_eeg_choice.folds(label, 5, 3)
    assert sorted(np.concatenate([held_out for _, held_out in found]).tolist()) == list(range(316))
    for train, held_out in found:
        assert not set(train) & set(held_out) and len(train) + len(held_out) == 316
        assert abs(label[held_out].mean() - 0.5) < 0.02
    for one, other in zip(found, real_eeg_choice.folds(label, 5, 3), strict=True):
        np.testing.assert_array_equal(one[1], other[1])


def test_window_means():
    trials = Trials(np.arange(24.0).reshape(2, 6, 2), np.array([0, 1]))
    found = real_eeg_choice.window_means(trials, 4)  # the last two samples make no whole window
    np.testing.assert_array_equal(found, [[3, 4], [15, 16]])
    np.testing.assert_array_equal(real_eeg_choice.window_means(trials, 1), trials.eeg.reshape(2, -1))


@pytest.mark.slow
def test_the_lda_s_choice_finds_what_was_planted(real):
    """Only the slow drift of one channel tells the hands apart: long windows without trial scaling win."""
    random = np.random.default_rng(0)
    label = np.arange(120) % 2
    eeg = random.normal(size=(120, 50, 4)) * 3
    eeg[:, :, 1] += (2 * label - 1)[:, None] * 0.8
    choice = real_eeg_choice.choose_lda(real, Trials(eeg, label))
    assert choice["accuracy"] > 0.85 and choice["samples"] == 10 and choice["scale"] != "trial"
    assert len(choice["table"]) == 18
    shuffled = Trials(eeg, random.permutation(label))
    assert real_eeg_choice.choose_lda(real, shuffled)["accuracy"] < 0.68


def test_a_network_is_set_beside_the_lda_trial_by_trial():
    label = np.array([0, 1] * 10)

    def right(count):
        decoded = np.where(np.arange(20) < count, label, 1 - label)
        return np.eye(2)[decoded]

    decoded = {"LDA": right(10), "logits, seed 1": right(18), "logits, seed 2": right(12)}
    row = real_eeg._over_seeds(decoded, ["logits, seed 1", "logits, seed 2"], label)
    assert (row["accuracies"], row["mean"], row["reported"]) == ([0.9, 0.6], 0.75, "logits, seed 1")
    against = row["against_lda"]
    assert (against["only_network_right"], against["only_lda_right"]) == (8, 0)
    assert against["p"] == pytest.approx(2 / 2**8)


def test_both_losses_are_trained_alike_but_for_the_loss(simulated):
    assert simulated.losses == ("published", "logits")
    for network in simulated.networks:
        both = [simulated.experiment(network, loss, 5) for loss in simulated.losses]
        flat = [config.flat(s.model_dump(mode="json")) for s in both]
        assert {k for k in flat[0] if flat[0][k] != flat[1][k]} == {"model.class_loss"}
        assert both[0].train.seed == 5 and both[0].data.root == simulated.data
        assert both[0].model.stem.dilations == (1, 2)


def test_class_losses_are_compared_over_subjects_with_all_seeds_together(simulated):
    random = np.random.default_rng(0)
    subjects = [f"subject_test_{i}" for i in range(8)]
    label = {s: random.integers(15, size=60) for s in subjects}

    def runs(rates):
        return [{s: (label[s], random.random(60) < rate) for s in subjects} for rate in rates]

    correct = {"published": runs([0.1, 0.1, 0.1]), "logits": runs([0.3, 0.3, 0.9])}
    settings = simulated.experiment("N23SISD", "logits", 1).evaluate
    found = class_loss._compared(simulated, correct, subjects, settings)
    means = {loss: np.mean([[own[s][1].mean() for s in subjects] for own in runs_]) for loss, runs_ in correct.items()}
    for loss, row in found["losses"].items():
        assert row["accuracy"] == pytest.approx(means[loss]) and row["low"] < row["accuracy"] < row["high"]
        assert row["n"] == 8 * 60 * 3 and len(row["by_seed"]) == 3
    difference = found["difference"]
    assert difference["difference"] == pytest.approx(means["logits"] - means["published"])
    assert difference["low"] > 0 and difference["sign_flip_p"] == pytest.approx(2 / 2**8)
    assert np.mean(difference["by_seed"]) == pytest.approx(difference["difference"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"losses": ("logits", "logits")}, "logits twice"),
        ({"change": {}}, "change.train.epochs is missing"),
        ({"networks": {"N23SISDD": class_loss.Network()}}, "no settings 'N23SISDD'"),
    ],
)
def test_a_study_that_compares_nothing_is_refused(simulated, change, words):
    with pytest.raises(UserError, match=words):
        class_loss._check(simulated.model_copy(update=change))
