"""Trials of unequal length from card to result: simulate, check, train, test, fine-tune, compare, Lasso."""

import json

import evaluation_data as made
import numpy as np
import own_data as own
import pytest
import training_runs as runs
import yaml
from training_runs import one_sentence

import sleep_interpreter as si
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.train.engine import augmentation
from sleep_interpreter.train.evaluation import comparison, decoder_report
from sleep_interpreter.train.settings.experiment import AUGMENTATIONS, AugmentationSettings
from sleep_interpreter.utils.core import config, data_card
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.trial_ends import not_finite, valid_lengths

pytestmark = (
    pytest.mark.slow
)  # trainings; the parts are tried in data/test_trial_ends.py, model/test_ends_in_networks.py
FAST = ["--set", "evaluate.bootstrap=100", "--set", "evaluate.permutations=100"]
TRAIN = [*runs.SMALL, "--set", "train.epochs=1", *FAST]


@pytest.fixture(scope="module")
def card():
    return own.card_of("pair", windows=own.VARYING, reference="average")


@pytest.fixture(scope="module")
def data(card, tmp_path_factory):
    """A simulated data set, written as a user would."""
    folder = tmp_path_factory.mktemp("varying")
    config.save(card, folder / "varying.yaml")
    less = {
        "cohort.train_trials": 20, "cohort.test_trials": 20, "cohort.rem_trials": 0, "cohort.so_trials": 2,
        "cohort.awake_trials": 6, "staging.train_subjects": 0, "staging.test_subjects": 0,
        "recording.stages": "[[N2, 0.5]]",
    }  # fmt: skip
    options = [word for key, value in less.items() for word in ("--set", f"{key}={value}")]
    place = ("--card", folder / "varying.yaml", "--out", folder / "data")
    assert runs.call("data/simulate.py", "--preset", "test", *place, *options) == 0
    return folder / "data"


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    for name in ("N23SIMD", "N23SISD"):
        augment = ("--set", "train.augment=[{kind: time_shift, amount: 5}, {kind: mixup, amount: 1}]")
        options = ["--data", data, "--results", results, *(augment if name == "N23SISD" else ())]
        assert runs.call(f"train/{name}.py", *TRAIN, *options) == 0
    return results


def ensemble(results, run="N2N3_SIMD"):
    return results / "Decoding checkpoint" / run / "ensemble.npz"


def test_the_whole_way(data, trained, card, call_script, capsys):
    assert call_script("data/check.py", data)[0] == 0
    network = checkpoint.restore(ensemble(trained))
    assert network.settings.varying_lengths and network.card.windows == card.windows
    places = [*TRAIN, "--data", data, "--results", trained]
    for name in ("N23SIMD", "N23SISD"):
        code, error = call_script(f"test/{name}.py", *places)
        assert code == 0, error
    code, error = call_script("test/N23SIMD_SO.py", *places, "--checkpoint", ensemble(trained))
    assert code == 0, error
    code, error = call_script("test/N23SIMD.py", *places, "--window", "precue")
    assert code == 0, error
    code, error = call_script("train/N23_finetune.py", *places, "--set", "finetune.epochs=1")
    assert code == 0, error
    found = comparison.compare(["N23SIMD", "N23SISD"], trained)
    assert found["runs"]["N23SIMD"]["n"] == 40
    assert found["runs"]["N23SIMD"]["chance"] == made.chance_in(trained / "N23SIMD")


def test_what_is_decoded_does_not_depend_on_the_other_trials(data, trained):
    network = checkpoint.restore(ensemble(trained))
    (subject, *_) = read_test_subjects(data)
    together = si.predict(network, subject.sleep, 16)
    order = np.random.default_rng(0).permutation(len(subject))
    np.testing.assert_allclose(si.predict(network, subject.sleep[order], 7), together[order], atol=1e-6)
    assert len(set(valid_lengths(subject.sleep))) > 3


def test_the_lasso_uses_what_all_trials_have_and_says_so(data, tmp_path, call_script):
    from sleep_interpreter.lasso_glm.engine import report

    for name, span in (("N2N3N2N3", 128), ("awake2sleep", None)):
        less = ("statistics.permutations=100", "folds=3", "penalty.l1=0.1")
        fast = [word for setting in less for word in ("--set", setting)]
        code, error = call_script(f"lasso_glm/lasso_glm_{name}.py", "--data", data, "--results", tmp_path, *fast)
        assert code == 0, error
        folder = tmp_path / f"lasso_{name}"
        summary = json.loads((folder / "summary.json").read_text())
        assert "sleep trials of unequal length: used up to 0.75 s" in "\n".join(report.summary_lines(summary))
        if span:
            assert len((folder / "mean.csv").read_text().splitlines()) == span + 1


def test_missing_channels_are_interpolated_and_scaled_up_to_the_end(data, trained, tmp_path):
    network = checkpoint.restore(ensemble(trained))
    subjects = [own.without(subject, ("Fpz",)) for subject in read_test_subjects(data)]
    with pytest.raises(UserError, match="are not there"):
        decoder_report.predict_subjects(network, subjects, 16)
    (first, *_) = decoder_report.predict_subjects(network, subjects, 16, interpolate=True)
    assert np.isfinite(first.probability).all()
    from sleep_interpreter.train.evaluation import matching

    matched = matching.adapted(subjects[0], matching.matched_data(network, subjects[0].card, "x", interpolate=True))
    made = matched.sleep[..., list(network.card.channels).index("Fpz")]
    assert not not_finite(matched.sleep).any()
    np.testing.assert_allclose(np.nanmedian(made, axis=1), 0, atol=1e-5)


def test_trials_of_equal_length_are_other_data(data, trained, card, tmp_path, call_script):
    windows = {**own.VARYING, "sleep": {"begin": -0.25, "end": 1.0}}
    own.write(tmp_path / "data", own.card_of("pair", windows=windows), n=6)
    options = [*TRAIN, "--data", tmp_path / "data", "--results", tmp_path, "--checkpoint", ensemble(trained)]
    code, error = call_script("test/N23SIMD.py", *options)
    assert code == 2
    one_sentence(error, "from -0.25 to 1 s", "from -0.25 to 0.75-1 s")


def test_a_network_that_knows_no_ends_is_refused_before_a_file_is_read(data, tmp_path, call_script):
    options = [*TRAIN, "--data", data, "--results", tmp_path, "--set", "model.varying_lengths=false"]
    code, error = call_script("train/N23SISD.py", *options)
    assert code == 2
    one_sentence(error, "dataset.yaml", "of unequal length", "leave model.varying_lengths out")


@pytest.mark.parametrize("kind", AUGMENTATIONS.names())
def test_augmentations_keep_to_the_ends(kind, card):
    label, sleep, *_ = own.trials(card, 24, 0)
    batch = {"sleep": np.ascontiguousarray(sleep.swapaxes(1, 2)), "label": np.eye(2, dtype=np.float32)[label]}
    before = valid_lengths(batch["sleep"])
    chosen = [AugmentationSettings(kind=kind, amount=0.8 if kind != "time_shift" else 9)]
    after = next(augmentation.augmented([batch], chosen, 1, 0))["sleep"]
    assert not not_finite(after).any() and not np.array_equal(after, batch["sleep"], equal_nan=True)
    lengths = valid_lengths(after)
    assert (lengths <= before).all() and lengths.min() >= card.shortest_samples
    assert kind == "mixup" or (lengths == before).all()
    if kind == "fourier_surrogate":
        for new, old, n in zip(after, batch["sleep"], before, strict=True):
            spectra = [abs(np.fft.rfft(x[:n], axis=0)) for x in (new, old)]
            np.testing.assert_allclose(*spectra, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("change", [lambda x: np.nan_to_num(x), lambda x: x - x.mean(axis=1, keepdims=True)])
def test_an_augmentation_that_knows_no_ends_is_refused(change, card, monkeypatch):
    label, sleep, *_ = own.trials(card, 8, 0)
    batch = {"sleep": np.ascontiguousarray(sleep.swapaxes(1, 2)), "label": np.eye(2, dtype=np.float32)[label]}
    monkeypatch.setattr(augmentation, "noise", lambda trials, label, amount, random: change(trials))
    chosen = [AugmentationSettings(kind="noise", amount=0.1)]
    with pytest.raises(UserError, match="'noise' does not keep to the ends of trials of unequal length"):
        next(augmentation.augmented([batch], chosen, 1, 0))


def test_a_card_beside_the_data_decides(data):
    tree = yaml.safe_load((data / data_card.FILE).read_text())
    assert tree["windows"]["sleep"]["earliest_end"] == 0.75
