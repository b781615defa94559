"""A network of another package, of Keras layers without names: one file, a YAML and an entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training_runs import arrays, same

ROOT = Path(__file__).resolve().parents[2]

NETWORK = """
from pathlib import Path
from typing import Literal

from sleep_interpreter.model.networks.registration import NetworkSettings


class TinySettings(NetworkSettings):
    builder = "tiny_network:build_member"
    params = Path(__file__).parent

    kind: Literal["tiny"] = "tiny"
    channels: int = 55
    sleep_samples: int = 200
    classes: int = 15
    awake: bool = False
    filters: int = 8


def build_member(settings, seed, dropout):
    from keras import Sequential, layers

    from sleep_interpreter.model.networks.classifier import Classifier

    return Classifier(settings, Sequential([
        layers.Conv1D(settings.filters, 9, strides=4, activation="relu"),
        layers.BatchNormalization(), layers.Conv1D(settings.filters, 5), layers.Dropout(dropout or 0.2),
        layers.Bidirectional(layers.LSTM(4)), layers.Dense(15, activation="softmax"),
    ]))
"""
YAML = """
extends: _base
network: Tiny
members: 2
model: {kind: tiny, filters: 6}
train: {epochs: 1, batch_size: 32, learning_rate: 1.0e-3, weight_decay: 0}
evaluate: {bootstrap: 100, permutations: 100}
quick: {}
"""
RUN = """
import json, sys
from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow
import_tensorflow()
from keras import layers
from sleep_interpreter.train.commands import scripts
for shift, function, arguments in json.loads(sys.argv[1]):
    [(layers.Conv1D(2, 3), layers.LSTM(2)) for _ in range(shift)]  # Keras' automatic names go on counting
    command = scripts.test_decoder if function == "test" else scripts.train
    command("Tiny", "", arguments)
"""


def run(package, *calls):
    """Run training and test scripts of the network in one new process."""
    return subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(calls)],
        env={**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{ROOT}"}, cwd=package,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_registered_network_is_trained_resumed_and_tested(cohort, tmp_path):
    package = tmp_path / "package"
    (package / "tiny-1.dist-info").mkdir(parents=True)
    (package / "tiny-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
    (package / "tiny-1.dist-info" / "entry_points.txt").write_text(
        "[sleep_interpreter.networks]\ntiny = tiny_network:TinySettings\nbroken = tiny_network:Nothing\n"
    )
    (package / "tiny_network.py").write_text(NETWORK)
    (package / "Tiny.yaml").write_text(YAML)
    one, two = tmp_path / "interrupted", tmp_path / "whole"
    options = ["--data", str(cohort), "--results"]
    done = run(package, [0, "train", [*options, str(one)]])
    assert done.returncode == 0, done.stderr
    assert "network broken of another package left out" in done.stderr
    longer = ["--set", "train.epochs=2"]
    done = run(
        package, [3, "train", [*options, str(one), *longer]], [1, "train", [*options, str(two), *longer]],
        [2, "test", [*options, str(one)]],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = Path("Decoding checkpoint") / "Tiny" / "ensemble.npz"
    assert same(one / path, two / path)
    names = arrays(one / path)
    assert "individual_models/1/sequential/conv1d_1/kernel" in names and len(names) == 2 * 16
    assert not np.array_equal(names["individual_models/0/sequential/dense/kernel"],
                              names["individual_models/1/sequential/dense/kernel"])  # fmt: skip
    assert json.loads((one / "Tiny" / "summary.json").read_text())["members"] == 2
