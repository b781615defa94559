"""A decoder that really learns (simulated data), and negative controls that must land at chance: minutes.

With -s the scripts' own tables show the figures.
"""

import json

import pytest
import training_runs as runs

pytestmark = pytest.mark.slow

COHORT = [
    "cohort.train_subjects=8", "cohort.train_trials=120", "cohort.test_subjects=6", "cohort.test_trials=80",
    "cohort.rem_trials=0", "cohort.so_trials=0", "staging.train_subjects=0", "recording.stages=[[W, 1.0]]",
]  # fmt: skip
CONFIG = """
extends: N23SISD
members: 1
model:
  d_model: 32
  head_size: 16
  features: 32
  class_hidden: 32
  stem: {filters: 32, dense: 64, dilations: [1, 2]}
  sleep_encoder: {depth: 1, heads: 2, ffn: 64}
  image_encoder: {depth: 1, heads: 2, ffn: 32}
  audio_encoder: {depth: 1, heads: 2, ffn: 32}
train: {epochs: 12, batch_size: 32, learning_rate: 2.0e-3}
evaluate: {bootstrap: 2000, permutations: 1000}
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "cohort"
    options = [word for setting in COHORT for word in ("--set", setting)]
    assert runs.call("data/simulate.py", "--preset", "test", "--out", folder, *options) == 0
    return folder


@pytest.fixture(scope="module")
def places(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    config = folder / "small.yaml"
    config.write_text(CONFIG)
    return ["--config", config, "--data", cohort, "--results", folder]


@pytest.fixture(scope="module")
def trained(places):
    assert runs.call("train/N23SISD.py", *places) == 0
    return places


def summary_of(places, name, *options):
    assert runs.call("test/N23SISD.py", *places, *options) == 0
    summary = json.loads((places[-1] / name / "summary.json").read_text())
    assert summary["simulated"] is True and summary["overall"]["n"] == 480
    return summary


def test_training_is_clearly_above_chance(trained):
    overall = summary_of(trained, "N23SISD")["overall"]
    assert overall["low"] > 2 / 15, "twice chance"
    assert overall["permutation"]["p"] < 0.01


def test_before_the_cue_it_is_at_chance(trained):
    summary = summary_of(trained, "N23SISD_precue", "--window", "precue")
    assert summary["overall"]["low"] <= 1 / 15 <= summary["overall"]["high"]
    assert summary["overall"]["permutation"]["p"] > 0.01
    assert "negative control" in summary["controls"]["meaning"]


def test_trained_on_shuffled_labels_it_is_at_chance(places):
    assert runs.call("train/N23SISD.py", *places, "--shuffle-labels") == 0
    path = places[-1] / "Decoding checkpoint" / "N2N3_SISD_shuffled" / "ensemble.npz"
    summary = summary_of(places, "N23SISD_shuffled", "--checkpoint", path)
    assert summary["overall"]["low"] <= 1 / 15 <= summary["overall"]["high"]
    assert summary["overall"]["permutation"]["p"] > 0.01
    assert "shuffled" in summary["controls"]["training_labels"]
