"""The class losses: the study with hardly any training, and the switch on every decoder's script."""

import json

import pytest

from benchmarks.decoding import class_loss
from sleep_interpreter.utils.core import command_line, config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def simulated(tmp_path_factory, run_script):
    folder = tmp_path_factory.mktemp("simulated") / "test"
    done = run_script("data/simulate.py", "--quick", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["N23SIMD", "N23SISD", "REMSIMD", "REMSISD"])
def test_the_loss_is_one_word_on_every_training_script(name, simulated, tmp_path, run_script):
    losses = {}
    for loss in ("published", "logits"):
        results = tmp_path / loss
        done = run_script(
            f"train/{name}.py", "--quick", "--data", simulated, "--results", results,
            "--set", f"model.class_loss={loss}", "--members", 1,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (saved,) = results.rglob("settings.yaml")
        assert config.read_yaml(saved)["model"]["class_loss"] == loss
        rows = (saved.parent / "log.csv").read_text().splitlines()
        losses[loss] = [row.split(",")[2] for row in rows[1:]]
    assert losses["published"] != losses["logits"]


def test_the_study_compares_both_losses(tmp_path, capsys):
    results = tmp_path / "results"
    arguments = ["--quick", "--results", str(results), "--set", f"data={tmp_path / 'simulated'}"]
    assert command_line.run(class_loss.main, arguments) == 0
    first = capsys.readouterr().out
    assert "(simulated cohort)" in first and "chance 0.0667" in first
    summary = json.loads((results / "summary.json").read_text())
    assert summary["simulated"] is True and set(summary["networks"]) == {"N23SIMD", "N23SISD"}
    for network in summary["networks"].values():
        assert network["training_trials"] == 45 and network["steps"] == 4
        assert [row["n"] for row in network["losses"].values()] == [30, 30]
    ensembles = {p: p.stat().st_mtime_ns for p in results.rglob("ensemble.npz")}
    assert len(ensembles) == 4
    assert command_line.run(class_loss.main, arguments) == 0  # goes on: nothing is trained again
    assert capsys.readouterr().out == first
    assert {p: p.stat().st_mtime_ns for p in results.rglob("ensemble.npz")} == ensembles
