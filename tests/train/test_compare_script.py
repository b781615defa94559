"""test/compare.py as a user runs it, on what a test script wrote."""

import json

import evaluation_data as made
import numpy as np
import pytest
import training_runs as runs

from sleep_interpreter.utils.core.safe_pickle import write_pickle


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two untrained networks tested on the same three simulated subjects by the very scripts."""
    root, random = tmp_path_factory.mktemp("cohort"), np.random.default_rng(0)
    for number in range(3):
        file = root / "SI Main Test" / f"subject_test_{number}" / "N2N3_data.pickle"
        write_pickle(made.trials(30, random, simulated=True), file)
    folder = tmp_path_factory.mktemp("results")
    for name in ("N23SIMD", "N23SISD"):
        path = made.tiny_checkpoint(root / f"{name}.npz", name)
        places = ["--data", root, "--results", folder, "--checkpoint", path]
        assert runs.call(f"test/{name}.py", "--quick", *places) == 0
    return folder


@pytest.mark.slow
def test_two_runs_of_test_scripts(results, run_script, tmp_path):
    done = run_script("test/compare.py", results / "N23SIMD", results / "N23SISD", "--results", results, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "(simulated)" in done.stdout and "3 common subjects" in done.stdout
    assert "too few subjects for p < 0.05" in done.stdout and "N23SIMD_vs_N23SISD.csv" in done.stdout
    found = json.loads((results / "compare" / "N23SIMD_vs_N23SISD.json").read_text())
    assert found["simulated"] is True
    for name, row in found["runs"].items():
        overall = json.loads((results / name / "summary.json").read_text())["overall"]
        assert row["accuracy"] == pytest.approx(overall["accuracy"]) and row["n"] == overall["n"] == 90


def test_measure_and_wrong_calls(results, call_script, tmp_path):
    places = ["--results", results]
    code, stderr = call_script("test/compare.py", "N23SIMD", "N23SISD", "--measure", "top3", *places)
    assert code == 0 and (results / "compare" / "N23SIMD_vs_N23SISD_top3.csv").is_file(), stderr
    for names, words in [(["N23SIMD"], "at least two"), (["N23SIMD", "N23SIDS"], "did you mean N23SISD?")]:
        code, stderr = call_script("test/compare.py", *names, *places)
        assert code == 2 and stderr.startswith("error: ") and words in stderr and stderr.count("\n") == 1
    with pytest.raises(SystemExit):
        call_script("test/compare.py", "N23SIMD", "N23SISD", "--measure", "top5", *places)


def test_help_imports_nothing_heavy(run_script):
    done = run_script("test/compare.py", "--help", timeout=60)
    assert done.returncode == 0 and "Wilcoxon" in done.stdout
