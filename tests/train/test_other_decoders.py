"""Every decoder's scripts with --quick on a freshly simulated data set; REM to its fine-tuning."""

import json

import numpy as np
import pytest
import training_runs as runs
from training_runs import SMALL, arrays


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """NREM and REM trials of 4 training and 2 test subjects."""
    folder = tmp_path_factory.mktemp("simulated") / "test"
    none = ("cohort.so_trials", "staging.train_subjects", "staging.test_subjects")
    less = ["recording.stages=[[W, 1.0]]", "cohort.rem_trials=10", *(f"{key}=0" for key in none)]
    settings = [word for change in less for word in ("--set", change)]
    assert runs.call("data/simulate.py", "--quick", "--out", folder, *settings) == 0
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.mark.slow  # test_decoder_scripts.py has N23SIMD
@pytest.mark.parametrize("name", ["N23SISD", "REMSIMD", "REMSISD"])
def test_quick_training_and_test(name, simulated, results, capsys):
    places = ["--data", simulated, "--results", results]
    assert runs.call(f"train/{name}.py", *SMALL, *places) == 0
    assert runs.call(f"test/{name}.py", "--quick", *places) == 0
    assert "(simulated data)" in capsys.readouterr().out
    summary = json.loads((results / name / "summary.json").read_text())
    assert summary["simulated"] is True and summary["overall"]["n"] > 0 and summary["members"] == 2
    assert (results / f"{name}.pickle").is_file()


@pytest.mark.slow
def test_rem_from_training_to_fine_tuning(simulated, results):
    """train/REM_finetune.py takes up what train/REMSIMD.py left above and reports each test subject."""
    places = ["--data", simulated, "--results", results]
    ensemble = results / "Decoding checkpoint" / "REM_SIMD" / "ensemble.npz"
    if not ensemble.exists():  # this test was asked for alone
        assert runs.call("train/REMSIMD.py", *SMALL, *places) == 0
    assert runs.call("train/REM_finetune.py", "--quick", "--set", "finetune.epochs=2", *places) == 0
    summary = json.loads((results / "REM_finetune" / "summary.json").read_text())
    assert summary["simulated"] is True
    before = arrays(ensemble)
    for subject in ("subject_test_0", "subject_test_1"):
        after = arrays(results / "Decoding checkpoint" / "REM_SIMD_finetune" / subject / "ensemble.npz")
        changed = [name for name in before if not np.array_equal(before[name], after[name])]
        assert changed and not any("_emb_input/conv1d_layer" in name for name in changed)
