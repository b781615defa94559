"""What was prepared runs through every training, test and Lasso script, as a user would call them."""

import json

import pytest

pytestmark = pytest.mark.slow
BRIEF = ("--set", "members=1", "--set", "train.epochs=1", "--set", "train.batch_size=4")
SCORES = ("--set", "evaluate.bootstrap=100", "--set", "evaluate.permutations=100")
RETRAINED = ("--mode", "retrained")
LASSO = ("image2image", "audio2audio", "N2N3N2N3", "REM2REM", "awake2sleep", "NREM2awake", "REM2awake")
CALLS = [
    *((f"train/{name}.py", BRIEF) for name in ("N23SIMD", "N23SISD", "REMSIMD", "REMSISD", "SIStaging")),
    ("train/N23SIMD.py", (*BRIEF, *RETRAINED)),
    *((f"test/{name}.py", SCORES) for name in ("N23SIMD", "N23SISD", "REMSIMD", "REMSISD", "N23SIMD_SO")),
    ("test/N23SIMD_retrained_SO.py", SCORES),
    ("test/SIStagingtest.py", (*SCORES, "--set", "staging.yasa=false")),
    *(
        (f"train/{name}_finetune.py", (*SCORES, "--set", "members=1", "--set", "finetune.epochs=1"))
        for name in ("N23", "REM")
    ),
]


def test_every_script_takes_what_was_prepared(prepared, call_script, tmp_path):
    out, *_ = prepared
    for script, options in CALLS:
        code, said = call_script(script, "--quick", "--data", out, "--results", tmp_path, *options)
        assert code == 0, f"{script}: {said[-800:]}"
    fast = ("--set", "statistics.permutations=100")
    for name in LASSO:
        script = f"lasso_glm/lasso_glm_{name}.py"
        code, said = call_script(script, "--data", out, "--results", tmp_path, *fast)
        assert code == 0, f"{script}: {said[-800:]}"
    for name in ("N23SIMD", "REMSISD", "SIStagingtest", "N23_finetune", "REM_finetune"):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert list(summary["subjects"]) == ["subject_test_0"], name
    groups = json.loads((tmp_path / "N23SIMD_SO" / "summary.json").read_text())["groups"]
    assert sum(row["n"] for row in groups.values() if row) > 0
    summary = json.loads((tmp_path / "lasso_REM2awake" / "summary.json").read_text())
    assert summary["results"], "the Lasso scripts read training and test subjects"
