"""Networks that run without this project: exported, and opened in a fresh process that does not know it."""

import json
import subprocess
import sys

import numpy as np
import own_data as own
import pytest

import sleep_interpreter as si
from sleep_interpreter.model.checkpoints import checkpoint, export
from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.core.errors import UserError

ALONE = """
import importlib.util, sys
import numpy as np
assert importlib.util.find_spec("sleep_interpreter") is None
for name in sys.argv[2:]:
    x = dict(np.load(f"{name}/x.npz"))
    if sys.argv[1] == "savedmodel":
        import tensorflow as tf
        network = tf.saved_model.load(f"{name}/exported/saved_model").signatures["serving_default"]
        found = {k: network(trials=tf.constant(v))["probabilities"].numpy() for k, v in x.items()}
    else:
        import onnxruntime
        network = onnxruntime.InferenceSession(f"{name}/exported/network.onnx", providers=["CPUExecutionProvider"])
        found = {k: network.run(["probabilities"], {"trials": v})[0] for k, v in x.items()}
        assert "tensorflow" not in sys.modules
    np.savez(f"{name}/found.npz", **found)
assert not any(name.startswith("sleep_interpreter") for name in sys.modules)
"""
ENCODER = {"depth": 1, "heads": 2, "ffn": 8}
TINY = {
    "d_model": 8, "head_size": 4, "features": 8, "class_hidden": 8, "stem": {"filters": 8, "dense": 8},
    "sleep_encoder": {**ENCODER, "depth": 2}, "image_encoder": ENCODER, "audio_encoder": ENCODER,
}  # fmt: skip
STAGER = {
    "kernels": (500, 62), "branch_filters": 2, "block_filters": 2, "map_filters": 70, "series_filters": (4, 4, 4),
    "pool_filters": (4, 4), "lstm": 4, "dense": 4,
}  # fmt: skip
NETWORKS = {
    "published": lambda: si.build("N23SIMD", members=2, **TINY),
    "retrained": lambda: si.build("N23SIMD", members=1, mode="retrained", **{k: TINY[k] for k in TINY if k != "stem"}),
    "words": lambda: si.build("N23SISD", members=2, card=own.card_of("words", unit="uV"), **TINY),
    "pair": lambda: si.build("N23SIMD", members=1, card=own.card_of("pair"), **TINY),
    "eegnet": lambda: si.build("EEGNet", members=2, card=own.card_of("words")),
    "stager": lambda: si.build("SIStaging", members=2, **STAGER),
}


def trained(network, path):
    """Write a network with weights that are not those it began with, statistics of batches included."""
    random = np.random.default_rng(0)
    for variable in network.variables:
        if "seed" not in variable.path:
            value = variable.numpy()
            variable.assign(value + 0.1 * np.abs(random.standard_normal(value.shape)).astype(np.float32))
    checkpoint.save(network, path, simulated=True)
    return si.load(path)


@pytest.mark.parametrize("form", ["onnx", pytest.param("savedmodel", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "names", [("eegnet",), pytest.param(tuple(name for name in NETWORKS if name != "eegnet"), marks=pytest.mark.slow)]
)
def test_an_export_gives_the_same_in_a_process_without_this_project(names, form, tmp_path):
    networks = {name: trained(NETWORKS[name](), tmp_path / name / "ensemble.npz") for name in names}
    random = np.random.default_rng(1)
    for name, network in networks.items():
        lines = si.export(tmp_path / name, form, tmp_path / name / "exported")
        count = len(network.individual_models)
        assert (f"(mean of {count} members)" if count > 1 else "(its only member)") in lines[0]
        size = network.individual_models[0].input_size
        x = {f"b{n}": random.standard_normal((n, *size)).astype(np.float32) for n in (1, 2, 20)}
        np.savez(tmp_path / name / "x.npz", **x)
    alone = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, form, *names],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    for name, network in networks.items():
        with np.load(tmp_path / name / "x.npz") as x, np.load(tmp_path / name / "found.npz") as found:
            for key in x:
                assert np.abs(found[key] - network.predict_proba(x[key])).max() < 1e-5
                assert np.ptp(found[key], axis=1).min() > 1e-3, "probabilities that differ between classes"
        check_description(name, network, json.loads((tmp_path / name / "exported" / "network.json").read_text("utf-8")))


def check_description(name, network, about):
    """Assert that network.json says what goes in and comes out."""
    assert about["largest_difference"] <= 1e-5 and about["simulated"] is True
    assert about["input"]["shape"] == [None, *network.individual_models[0].input_size]
    if name == "stager":
        assert about["input"]["channels"] == ["EEG", "EOG", "EMG"] and about["rate_hz"] == 500 and "card" not in about
        assert about["window_s"] == {"begin": 0, "end": 30} and len(about["output"]["classes"]) == 4
    else:
        card = network.card
        assert about["input"]["channels"] == list(card.channels) and about["unit"] == card.unit
        assert about["output"]["classes"] == list(card.item_names)
        assert about["card_fingerprint"] == card.fingerprint and about["rate_hz"] == card.rate_hz
        assert about["card"]["reference"] == card.reference


@pytest.mark.slow
def test_one_member_alone_and_a_runs_folder(tmp_path, capsys):
    network = trained(NETWORKS["eegnet"](), tmp_path / "run" / "ensemble.npz")
    words = ["export", str(tmp_path / "run"), "--format", "savedmodel", "--out", str(tmp_path / "one"), "--member", "1"]
    from sleep_interpreter.model import checkpoint as script

    assert command_line.run(script.main, words) == 0
    assert "(member 1 of 2)" in capsys.readouterr().out
    import tensorflow as tf

    x = np.random.default_rng(1).standard_normal((5, *network.individual_models[0].input_size)).astype(np.float32)
    alone = tf.saved_model.load(str(tmp_path / "one" / "saved_model"))
    found = alone.signatures["serving_default"](trials=tf.constant(x))["probabilities"].numpy()
    member = type(network)([network.individual_models[1]], network.network)
    assert np.abs(found - member.predict_proba(x)).max() < 1e-5
    assert np.abs(found - network.predict_proba(x)).max() > 1e-4
    assert command_line.run(script.main, words) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["onnx", pytest.param("savedmodel", marks=pytest.mark.slow)])
def test_what_differs_is_not_kept(form, tmp_path, monkeypatch):
    trained(NETWORKS["eegnet"](), tmp_path / "ensemble.npz")
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="nothing was kept"):
        si.export(tmp_path / "ensemble.npz", form, tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["ensemble.npz"]


def test_every_format_is_tried():
    assert set(export.FILES) == {"onnx", "savedmodel"}


def test_what_is_refused(tmp_path, monkeypatch):
    trained(NETWORKS["eegnet"](), tmp_path / "ensemble.npz")
    with pytest.raises(UserError, match=r"--member 2: .* holds the members 0-1"):
        si.export(tmp_path / "ensemble.npz", "onnx", tmp_path / "exported", 2)
    unnamed = si.build("N23SISD", members=1, channels=8, **TINY)
    checkpoint.save(unnamed, tmp_path / "unnamed.npz")
    with pytest.raises(UserError, match="no data card says which channels"):
        si.export(tmp_path / "unnamed.npz", "savedmodel", tmp_path / "exported")
    with pytest.raises(UserError, match="format 'h5': a network is exported as savedmodel or onnx"):
        si.export(tmp_path / "ensemble.npz", "h5", tmp_path / "exported")
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UserError, match=r"tf2onnx is not installed: pip install -e '\.\[export\]'"):
        si.export(tmp_path / "ensemble.npz", "onnx", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_network_for_trials_of_unequal_length_is_a_savedmodel_that_says_what_ends_a_trial(tmp_path, monkeypatch):
    card = own.card_of("pair", windows=own.VARYING)
    network = si.build("N23SISD", members=1, card=card, **TINY)
    checkpoint.save(network, tmp_path / "ensemble.npz")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tf2onnx", None)  # it is refused before anything is converted
        with pytest.raises(UserError, match=r"unequal length.*take the format savedmodel"):
            si.export(tmp_path / "ensemble.npz", "onnx", tmp_path / "exported")
    (line, *_) = si.export(tmp_path / "ensemble.npz", "savedmodel", tmp_path / "exported")
    assert "(its only member)" in line
    about = json.loads((tmp_path / "exported" / "network.json").read_text("utf-8"))
    assert "NaN in all channels" in about["input"]["behind_a_trials_end"]
