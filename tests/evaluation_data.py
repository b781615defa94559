"""Predictions, runs and small test data sets for the tests of evaluation and comparison."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.train.evaluation.decoder_report import Predictions, report
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.plots import style

SETTINGS = experiment.EvaluateSettings(batch_size=16, bootstrap=200, permutations=200, calibration_bins=15, seed=3)
FINGERPRINT = "f" * 64
ITEMS = published().item_names


def predictions(name, n=60, strength=1.0, seed=0, labels=None, parts=("train", "val", "test")):
    """Return predictions whose true item is favoured by `strength` (0: chance)."""
    random = np.random.default_rng([seed, *name.encode()])
    label = random.integers(15, size=n) if labels is None else np.asarray(labels)
    logits = random.normal(size=(len(label), 15))
    logits[np.arange(len(label)), label] += strength
    probability = np.exp(logits)
    probability = (probability / probability.sum(axis=1, keepdims=True)).astype(np.float32)
    data_type = np.resize(np.array(parts), len(label))
    return Predictions(name, Path(f"{name}/N2N3_data.pickle"), label, data_type, probability)


def write_run(folder, strengths, notes=None, n=60, seed=0, labels_seed=7, **more):
    """Write a run of a test script: one subject for every strength, the same labels whatever the seed; no figures."""
    rows = []
    for number, strength in enumerate(strengths):
        labels = np.random.default_rng([labels_seed, number]).integers(15, size=n)
        rows.append(predictions(f"subject_test_{number}", strength=strength, seed=seed, labels=labels, **more))
    notes = {"data": "data", "data_fingerprint": FINGERPRINT, "simulated": True, **(notes or {})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", lambda figure, path: style.plt.close(figure))
        return report(rows, Path(folder), Path(folder).name, SETTINGS, notes)


def chance_in(folder, first=1, group=None):
    """Return what a run's predictions get by chance: of a subject, each item's share of the cues times its share among
    the `first` of every trial, added up; the mean over subjects."""
    table, found = pd.read_csv(Path(folder) / "predictions.csv"), []
    table = table if group is None else table[table["group"] == group]
    columns = [column for column in table if column.startswith("p_")]
    for _, own in table.groupby("subject"):
        order = np.argsort(-own[columns].to_numpy(), axis=1, kind="stable")[:, :first]
        named = np.bincount(order.ravel(), minlength=len(columns)) / len(own)
        cued = own["item"].value_counts(normalize=True)
        found.append(sum(share * named[columns.index(f"p_{item}")] for item, share in cued.items()))
    return pytest.approx(np.mean(found))


def tiny_checkpoint(path, name="N23SIMD", mode=None, notes=None, **overrides):
    """Save an untrained network that is traced in a moment; return its path."""
    from sleep_interpreter import model
    from sleep_interpreter.model.checkpoints import checkpoint

    small = config.load(experiment.Experiment, name, quick=True).model.model_dump(exclude_unset=True)
    small["stem"] = {"filters": 8, "dilations": [1], "dense": 8}
    network = model.build(name, members=1, mode=mode, **({**small, **overrides}))
    checkpoint.save(network, path, **({"simulated": True} if notes is None else notes))
    return path


def trials(n, random, parts=("train", "val", "test"), **more):
    """Return the content of a test subject's pickle: n trials of noise."""
    return [
        {
            "category": ITEMS[number % 15],
            "Sleep_EEG": random.standard_normal((55, 200), np.float32),
            "data_type": parts[number % len(parts)],
            **more,
        }
        for number in range(n)
    ]


def so_content(counts, random):
    """Return the content of an SO pickle: {group: {label, decode_data}} with that many trials each."""
    return {
        group: {
            "label": np.eye(15, dtype=np.float32)[np.arange(n) % 15],
            "decode_data": random.standard_normal((n, 200, 55), np.float32),
        }
        for group, n in counts.items()
    }
