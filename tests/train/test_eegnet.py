"""EEGNet, the worked example of a network of one's own: built as in the paper, trained and tested with any card."""

import json

import evaluation_data as made
import numpy as np
import own_data as own
import pytest
from training_runs import arrays, one_sentence

import sleep_interpreter as si
from sleep_interpreter.utils.core.data_card import DataCard, published
from sleep_interpreter.utils.core.errors import UserError

SCORES = ["--set", "evaluate.bootstrap=100", "--set", "evaluate.permutations=100"]


def test_it_is_built_as_the_paper_says():
    """Lawhern et al. 2018, table 2, with 64 channels, 1 s at 128 Hz and 4 classes."""
    tree = published().model_dump() | {
        "channels": [f"E{i}" for i in range(64)], "items": [{"name": name} for name in "abcd"], "rate_hz": 128.0,
        "windows": {"sleep": {"begin": 0, "end": 1}, "wake": {"begin": 0, "end": 1}},
    }  # fmt: skip
    card = DataCard.model_validate(tree)
    network = si.build("EEGNet", members=1, card=card)
    s = network.settings
    assert (s.kernel, s.separable_kernel, s.sleep_samples, s.channels, s.classes) == (64, 16, 128, 64, 4)
    trainable = {tuple(v.shape): v for v in network.individual_models[0].trainable_variables}
    assert (64, 1, 1, 8) in trainable and (1, 64, 8, 2) in trainable  # over time; over channels, two of each
    assert (16, 1, 16, 1) in trainable and (1, 1, 16, 16) in trainable and (64, 4) in trainable
    batch_norms = 2 * 8 + 2 * 16 + 2 * 16
    convolutions = 64 * 8 + 64 * 8 * 2 + 16 * 16 + 16 * 16
    assert si.summarise(network)["trainable"] == convolutions + batch_norms + 64 * 4 + 4


def test_members_differ_and_a_seed_repeats():
    one, other = si.build("EEGNet", members=2), si.build("EEGNet", members=2)
    x = np.random.default_rng(0).standard_normal((3, 200, 55)).astype(np.float32)
    assert np.array_equal(one.predict_proba(x), other.predict_proba(x))
    first, second = (member(x).numpy() for member in one.individual_models)
    assert not np.allclose(first, second) and np.allclose(first.sum(axis=1), 1)


@pytest.mark.parametrize("changes", [{"awake": True}, {"sleep_samples": 31}, {"pools": (20, 20)}])
def test_what_it_cannot_be_is_refused(changes):
    with pytest.raises(UserError, match=r"awake|too short to be averaged"):
        si.build("EEGNet", members=1, **changes)


@pytest.mark.parametrize("name", [pytest.param("words", marks=pytest.mark.slow), "pair"])
def test_it_is_trained_stopped_gone_on_with_and_tested_with_any_card(name, tmp_path, call_script):
    card = own.card_of(name)
    data = own.write(tmp_path / "data", card)
    places = ["--quick", "--data", data, "--results", tmp_path / "out", "--set", "train.batch_size=16"]
    for epochs in (1, 2):
        code, told = call_script("train/network.py", "EEGNet", *places, "--set", f"train.epochs={epochs}")
        assert code == 0, told
    once = ["--quick", "--data", data, "--results", tmp_path / "once", "--set", "train.batch_size=16"]
    assert call_script("train/network.py", "EEGNet", *once, "--set", "train.epochs=2")[0] == 0
    path = tmp_path / "out" / "Decoding checkpoint" / "EEGNet" / "ensemble.npz"
    one, other = arrays(path), arrays(tmp_path / "once" / "Decoding checkpoint" / "EEGNet" / "ensemble.npz")
    assert one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
    code, told = call_script("test/network.py", "EEGNet", *places[:5], *SCORES)
    assert code == 0, told
    summary = json.loads((tmp_path / "out" / "EEGNet" / "summary.json").read_text(encoding="utf-8"))
    assert summary["overall"]["n"] == 48
    assert summary["overall"]["chance"] == made.chance_in(tmp_path / "out" / "EEGNet")
    network = si.load(path)
    assert network.card == card and network.settings.kernel == card.rate_hz // 2
    for member in network.individual_models:  # the paper's constraints hold after training
        shapes = {tuple(v.shape): v.numpy() for v in member.trainable_variables}
        spatial = shapes[1, len(card.channels), 8, 2]
        assert np.sqrt((spatial**2).sum(axis=1)).max() <= 1.0 + 1e-5
        dense = next(v for shape, v in shapes.items() if len(shape) == 2)
        assert np.sqrt((dense**2).sum(axis=0)).max() <= 0.25 + 1e-5


def test_it_learns(tmp_path, call_script):
    data = own.write(tmp_path / "data", own.card_of("pair"), n=60)
    settings = {"members": 1, "train.epochs": 15, "train.batch_size": 20, "train.learning_rate": 3e-3}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert call_script("train/network.py", "EEGNet", "--data", data, "--results", tmp_path, *words)[0] == 0
    network = si.load(tmp_path / "Decoding checkpoint" / "EEGNet")
    hits = [network.predict_proba(s.sleep).argmax(axis=1) == s.label for s in si.read_test_subjects(data)]
    assert np.mean(hits) > 0.7


def test_names_that_are_no_network_are_refused(tmp_path, call_script):
    for script in ("train/network.py", "test/network.py"):
        code, told = call_script(script, "EEGNett", "--results", tmp_path)
        assert code == 2
        one_sentence(told, "'EEGNett'", "EEGNet")
    code, told = call_script("test/network.py", "SIStaging", "--results", tmp_path)
    assert code == 2
    one_sentence(told, "SIStaging is a stager", "test/SIStagingtest.py")
    code, told = call_script("test/network.py", "EEGNet", "--data", own.write(tmp_path / "data", own.card_of("pair")),
                             "--results", tmp_path / "out")  # fmt: skip
    assert code == 2
    one_sentence(told, "python train/network.py EEGNet")
