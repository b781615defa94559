"""Experiments with other items, channels, rates and windows: from their card to results, by names alone."""

import argparse
import json
import logging

import evaluation_data as made
import numpy as np
import own_data as own
import pandas as pd
import pytest
import training_runs as runs
from training_runs import one_sentence

import sleep_interpreter as si
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.train.evaluation import comparison, decoder_report
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.utils.core import data_card
from sleep_interpreter.utils.core.errors import UserError

SMALL = [
    *runs.SMALL,
    "--set",
    "train.epochs=1",
    "--set",
    "evaluate.bootstrap=100",
    "--set",
    "evaluate.permutations=100",
]
TINY = {
    "d_model": 8, "features": 8, "class_hidden": 8, "head_size": 4, "members": 1,
    "stem": {"filters": 8, "dilations": [1], "dense": 8},
    **{f"{kind}_encoder": {"depth": 1, "heads": 1, "ffn": 8} for kind in ("sleep", "image", "audio")},
}  # fmt: skip


def read_settings(root, *overrides, name="N23SIMD"):
    args = argparse.Namespace(config=None, overrides=list(overrides), quick=True, data=str(root))
    return experiment.read(name, args)


@pytest.mark.parametrize(("name", "projections"), [("words", (32, 96)), ("pair", (32, 64)), ("many", (32, 160))])
def test_sizes_that_nobody_sets_follow_the_card(name, projections, tmp_path):
    card = own.card_of(name)
    data_card.write(card, tmp_path)
    for network in ("N23SIMD", "N23SISD"):
        model = read_settings(tmp_path, name=network).model
        assert (model.channels, model.classes) == (len(card.channels), len(card.items))
        assert (model.sleep_samples, model.awake_samples) == (card.sleep_samples, card.awake_samples)
        assert (model.projections.sleep, model.projections.memory) == projections
        model.check_card(card, "x")
    with pytest.raises(UserError, match="sleep_samples \\* projections"):
        read_settings(tmp_path, "model.projections.sleep=7")


def test_the_published_card_changes_nothing(tmp_path):
    from sleep_interpreter.utils.core import config

    assert read_settings(tmp_path).model == config.load(experiment.Experiment, "N23SIMD", quick=True).model


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    root = tmp_path_factory.mktemp("words")
    return own.write(root, own.card_of("words"), n=8)


@pytest.fixture(scope="module")
def trained(words, tmp_path_factory):
    """Results of a short training on 8 items, 32 channels, 250 Hz and 3 s."""
    results = tmp_path_factory.mktemp("results")
    assert runs.call("train/N23SISD.py", *SMALL, "--data", words, "--results", results) == 0
    return results


def ensemble(results, run="N2N3_SISD"):
    return results / "Decoding checkpoint" / run / "ensemble.npz"


def test_a_checkpoint_knows_what_it_was_fed(trained, words):
    network = checkpoint.restore(ensemble(trained))
    card = own.card_of("words")
    assert network.card == card and network.notes["card_fingerprint"] == card.fingerprint
    made = network.notes["training"]
    assert made["seed"] == 1642 and made["versions"]["tensorflow"] and made["settings"]["model"]["channels"] == 32
    run = json.loads(ensemble(trained).with_name("run.json").read_text())
    assert run["card"]["channels"] == list(card.channels)


@pytest.mark.slow
def test_the_whole_way_with_other_items(words, tmp_path, call_script):
    trained, start = tmp_path, ensemble(tmp_path, "N2N3_SIMD")
    places = [*SMALL, "--data", words, "--results", trained]
    code, stderr = call_script("train/N23SIMD.py", *places)
    assert code == 0, stderr
    code, stderr = call_script("test/N23SIMD.py", *places)
    assert code == 0, stderr
    names = own.card_of("words").item_names
    summary = json.loads((trained / "N23SIMD" / "summary.json").read_text())
    assert summary["measure"] == "top-1 of 8"
    assert summary["overall"]["chance"] == made.chance_in(trained / "N23SIMD")
    assert summary["overall"]["top3"]["chance"] == made.chance_in(trained / "N23SIMD", 3)
    assert tuple(summary["overall"]["recall"]) == names and "card" not in summary["checkpoint_notes"]
    assert summary["checkpoint_notes"]["card_fingerprint"] and "on the data card" in summary["ties"]
    table = pd.read_csv(trained / "N23SIMD" / "predictions.csv")
    assert [c[2:] for c in table if c.startswith("p_")] == list(names) and set(table["item"]) <= set(names)
    assert (trained / "N23SIMD" / "confusion_matrix.png").stat().st_size > 5000

    code, stderr = call_script("test/N23SIMD_SO.py", *places, "--checkpoint", start)
    assert code == 0, stderr
    groups = json.loads((trained / "N23SIMD_SO" / "summary.json").read_text())
    assert groups["groups"]["Pre-SO"]["chance"] == made.chance_in(trained / "N23SIMD_SO", group="Pre-SO")
    assert groups["measure"] == "top-1 of 8"

    code, stderr = call_script("train/N23_finetune.py", *places, "--set", "finetune.epochs=1")
    assert code == 0, stderr
    tuned = checkpoint.restore(ensemble(trained, "N2N3_SIMD_finetune/subject_test_0"))
    assert tuned.card == own.card_of("words")
    tuned_summary = json.loads((trained / "N23_finetune" / "summary.json").read_text())
    assert tuned_summary["overall"]["chance"] == made.chance_in(trained / "N23_finetune")

    found = comparison.compare(["N23SIMD", "N23_finetune"], trained, different_data=True)
    assert found["measure"] == "balanced accuracy", "one of them is fine-tuned"
    found = comparison.compare(["N23SIMD", "N23_finetune"], trained, "top1", different_data=True)
    assert found["runs"]["N23SIMD"]["chance"] == summary["overall"]["chance"]


@pytest.mark.usefixtures("undrawn")
def test_another_order_of_channels_and_items_gives_the_same_bits(trained, words, tmp_path, call_script, caplog):
    caplog.set_level(logging.INFO)
    other = own.reordered(words, own.card_of("words"), tmp_path / "data")
    network = checkpoint.restore(ensemble(trained))
    first = decoder_report.predict_subjects(network, read_test_subjects(words), 16)
    second = decoder_report.predict_subjects(network, read_test_subjects(tmp_path / "data"), 16)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.probability, two.probability)
        np.testing.assert_array_equal(one.label, two.label)
        assert one.items == two.items == network.card.item_names != other.item_names
    code, stderr = call_script(
        "test/N23SISD.py", *SMALL, "--data", tmp_path / "data", "--results", tmp_path, "--checkpoint", ensemble(trained)
    )
    assert code == 0, stderr
    said = " ".join(json.loads((tmp_path / "N23SISD" / "summary.json").read_text())["warnings"])
    for text in (said, caplog.text):
        assert "channels are in another order than the network's" in text and "items are in another order" in text


@pytest.mark.usefixtures("undrawn")
def test_missing_channels_are_refused_or_interpolated_by_name(trained, words, tmp_path):
    network = checkpoint.restore(ensemble(trained))
    subjects = [own.without(subject, ("Fz", "C3")) for subject in read_test_subjects(words)]
    with pytest.raises(UserError, match=r"2 of the 32 channels that the network reads are not there: Fz, C3.*--interp"):
        decoder_report.predict_subjects(network, subjects, 16, "c.npz")
    found = si.evaluate(network, subjects, tmp_path / "run", {"bootstrap": 100, "permutations": 100}, interpolate=True)
    assert any("2 of 32 channels interpolated from 30 others (spherical splines" in w for w in found["warnings"])
    missing = [own.without(subject, network.card.channels[:2]) for subject in subjects]
    assert len(missing[0].card.channels) == 28


@pytest.mark.parametrize(
    ("changes", "words_said"),
    [
        ({"items": [{"name": n} for n in "abcdefgh"]}, ["its 8 items are not the 8 of", "'a' is in the data only"]),
        ({"rate_hz": 200.0}, ["sampled at 200 Hz", "sampled at 250 Hz"]),
        (
            {"windows": {"sleep": {"begin": 0, "end": 3}, "wake": {"begin": 0, "end": 1}}},
            ["from 0 to 3 s", "-0.5 to 2.5 s"],
        ),
        ({"unit": "uV"}, ["unit uV", "unit robust"]),
    ],
)
def test_data_of_another_kind_are_refused(changes, words_said, trained, tmp_path, call_script):
    own.write(tmp_path / "data", own.card_of("words", **changes), n=3)
    code, stderr = call_script(
        "test/N23SISD.py", *SMALL, "--data", tmp_path / "data", "--results", tmp_path, "--checkpoint", ensemble(trained)
    )
    assert code == 2
    one_sentence(stderr, "ensemble.npz", *words_said)


def test_settings_that_disagree_with_the_card_are_refused_with_both(words, tmp_path, call_script):
    options = [*SMALL, "--data", words, "--results", tmp_path, "--set", "model.channels=28"]
    code, stderr = call_script("train/N23SISD.py", *options)
    assert code == 2
    one_sentence(stderr, "dataset.yaml", "model.channels is 28, the card has 32")


def test_another_card_does_not_go_on_with_a_run(trained, words, tmp_path, call_script):
    from shutil import copytree

    copytree(words, tmp_path / "data")
    card = own.card_of("words")
    renamed = card.model_copy(update={"channels": (card.channels[1], card.channels[0], *card.channels[2:])})
    data_card.write(renamed, tmp_path / "data")
    code, stderr = call_script("train/N23SISD.py", *SMALL, "--data", tmp_path / "data", "--results", trained)
    assert code == 2
    one_sentence(stderr, "card fingerprint")
    copytree(trained, tmp_path / "results")
    data_card.write(renamed, words)
    try:
        code, stderr = call_script("train/N23SISD.py", *SMALL, "--data", words, "--results", tmp_path / "results")
    finally:
        data_card.write(card, words)
    assert code == 2
    one_sentence(stderr, "card fingerprint")


@pytest.mark.parametrize("name", ["pair", "many"])
def test_few_and_many_items_and_channels(name, tmp_path, call_script):
    card = own.card_of(name)
    own.write(tmp_path / "data", card, n=max(12, len(card.items)))
    trials = TrainingTrials(tmp_path / "data", awake=True)
    network = si.build("N23SIMD", card=trials.card, **TINY)
    assert network.card == card
    checkpoint.save(network, tmp_path / "c.npz")
    assert checkpoint.restore(tmp_path / "c.npz").card == card
    batch = next(trials.batches(8, seed=0, epoch=0))
    loss, probability = network.individual_models[0](tuple(batch[k] for k in ("image", "audio", "sleep", "label")))
    assert np.isfinite(float(loss)) and probability.shape == (8, len(card.items))
    code, stderr = call_script(
        "test/N23SIMD.py",
        *SMALL,
        "--data",
        tmp_path / "data",
        "--results",
        tmp_path,
        "--checkpoint",
        tmp_path / "c.npz",
    )
    assert code == 0, stderr
    summary = json.loads((tmp_path / "N23SIMD" / "summary.json").read_text())
    assert summary["overall"]["chance"] == made.chance_in(tmp_path / "N23SIMD")
    few = [w for w in summary["warnings"] if "top-3 of 2 items is always right" in w]
    assert bool(few) == (name == "pair")
    if few:
        assert summary["overall"]["top3"]["accuracy"] == 1
        with pytest.raises(UserError, match="top3 of 2 items is always right"):
            comparison.compare(["N23SIMD", "N23SIMD_2"], _copied(tmp_path, "N23SIMD", "N23SIMD_2"), "top3")


def _copied(results, name, other):
    from shutil import copytree

    copytree(results / name, results / other)
    return results


@pytest.mark.usefixtures("undrawn")
def test_runs_of_other_items_are_not_compared(trained, words, tmp_path):
    import evaluation_data as made

    made.write_run(tmp_path / "published", [1.0] * 3)
    network, scores = checkpoint.restore(ensemble(trained)), {"bootstrap": 100, "permutations": 100}
    si.evaluate(network, read_test_subjects(words), tmp_path / "mine", scores)
    with pytest.raises(UserError, match=r"published \(15 items\) and .*mine \(8 items\) are of different items"):
        comparison.compare(["published", "mine"], tmp_path, different_data=True)


def test_a_network_without_a_card_says_so(words, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    checkpoint.save(si.build("N23SISD", **TINY, channels=32, classes=8, sleep_samples=750), tmp_path / "c.npz")
    network = checkpoint.restore(tmp_path / "c.npz")
    assert "holds no names of channels and items: those of the published data card are taken" in caplog.text
    with pytest.raises(UserError, match="no data card says which channels and items these are"):
        decoder_report.predict_subjects(network, read_test_subjects(words), 16)


@pytest.mark.slow
@pytest.mark.parametrize("kind", data_card.AWAKE)
def test_one_kind_of_awake_trials_is_aligned_with_sleep(kind, tmp_path, call_script):
    """Of a card without the other kind, or chosen by hand from data that have both."""
    other = next(k for k in data_card.AWAKE if k != kind)
    card = own.card_of("pair", conditions=[kind, "N2N3"])
    own.write(tmp_path / "alone", card, n=12)
    own.write(tmp_path / "both", own.card_of("pair"), n=12)
    model = read_settings(tmp_path / "alone").model
    assert model.awake_kinds == (kind,)
    assert model.class_weights.divisor == model.class_weights.sleep + getattr(model.class_weights, kind)
    assert model.contrastive_weights.divisor == getattr(model.contrastive_weights, f"sleep_{kind}") > 0
    choice = ["--set", f"model.awake_kinds=[{kind}]"]
    for name, options in (("alone", []), ("both", choice)):
        places = [*SMALL, "--data", tmp_path / name, "--results", tmp_path / f"{name}_results"]
        for script in ("train/N23SIMD.py", "test/N23SIMD.py"):
            code, stderr = call_script(script, *places, *options)
            assert code == 0, stderr
    alone, both = (
        checkpoint.restore(ensemble(tmp_path / f"{name}_results", "N2N3_SIMD")) for name in ("alone", "both")
    )
    names = {variable.path for variable in alone.trainable_variables}
    assert names == {variable.path for variable in both.trainable_variables}
    assert any(f"{kind}_feature_block" in name for name in names)
    assert not any(f"{other}_feature_block" in name for name in names)
    for one, two in zip(alone.trainable_variables, both.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, two)  # the same trials, however they came
    code, stderr = call_script("train/N23SIMD.py", *SMALL, "--data", tmp_path / "alone", "--results", tmp_path / "no",
                               "--set", "model.awake_kinds=[image, audio]")  # fmt: skip
    assert code == 2
    one_sentence(stderr, "dataset.yaml", f"the card has no {other} trials", "model.awake=false")


@pytest.mark.slow
def test_precision_is_a_setting_of_the_run_and_weights_stay_float32(words, tmp_path, call_script):
    options = [*SMALL, "--data", words, "--set", "members=1"]
    for precision in ("float32", "mixed_bfloat16"):
        places = ["--results", tmp_path / precision, "--set", f"train.precision={precision}"]
        code, stderr = call_script("train/N23SISD.py", *options, *places)
        assert code == 0, stderr
    one, other = (ensemble(tmp_path / p, "N2N3_SISD") for p in ("float32", "mixed_bfloat16"))
    values = [checkpoint.restore(path).trainable_variables for path in (one, other)]
    assert all(v.dtype == "float32" for v in values[1])
    differ = [float(np.abs(a.numpy() - b.numpy()).max()) for a, b in zip(*values, strict=True)]
    assert 0 < max(differ) < 0.1
    run = json.loads(other.with_name("run.json").read_text())
    assert "mixed_bfloat16" in json.dumps(run) or "mixed_bfloat16" in other.with_name("settings.yaml").read_text()
    code, stderr = call_script("train/N23SISD.py", *options, "--results", tmp_path / "float32",
                               "--set", "train.precision=mixed_bfloat16")  # fmt: skip
    assert code == 2
    one_sentence(stderr, "train.precision")
