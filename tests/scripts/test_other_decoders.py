"""Every decoder's scripts with --quick on a freshly simulated data set."""

import json

import pytest


@pytest.fixture(scope="module")
def simulated(tmp_path_factory, run_script):
    folder = tmp_path_factory.mktemp("simulated") / "test"
    done = run_script("data/simulate.py", "--quick", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["N23SISD", "REMSIMD", "REMSISD"])
def test_quick_training_and_test(name, simulated, tmp_path, run_script):
    places = ["--data", simulated, "--results", tmp_path]
    done = run_script(f"train/{name}.py", "--quick", *places)
    assert done.returncode == 0, done.stderr
    done = run_script(f"test/{name}.py", "--quick", *places)
    assert done.returncode == 0, done.stderr
    assert "(simulated data)" in done.stdout
    summary = json.loads((tmp_path / name / "summary.json").read_text())
    assert summary["simulated"] is True and summary["overall"]["n"] > 0 and summary["members"] == 2
    assert (tmp_path / f"{name}.pickle").is_file()
