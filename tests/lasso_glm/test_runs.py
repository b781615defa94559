"""Runs of a Lasso GLM script: jobs, shares, kills, changed settings and data, trials that do not do."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from lasso_data import arrays, same, write_cohort

from sleep_interpreter.utils.core.paths import ROOT
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle

FAST = ("--set", "statistics.permutations=200")
ALONE = ("--part", "1/1")  # every subject, without the report, which follows from their files


def script(name):
    return f"lasso_glm/lasso_glm_{name}.py"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), subjects=2, awake=3, asleep=1, strength=3.0)


@pytest.fixture
def run(call_script, cohort, tmp_path):
    """Return a function that runs an experiment and returns its folder."""

    def call(name, *arguments, results=tmp_path / "results", data=cohort):
        code, error = call_script(script(name), "--data", data, "--results", results, *FAST, *arguments)
        assert code == 0, error
        return results / f"lasso_{name}"

    return call


@pytest.mark.slow
def test_jobs_parts_and_resuming_give_the_same_bits(run, call_script, cohort, tmp_path, caplog):
    whole = run("image2image")
    same(whole, run("image2image", "--jobs", "2", results=tmp_path / "jobs"))
    shares = tmp_path / "shares"
    for part in ("2/2", "1/2"):
        arguments = ["--data", cohort, "--results", shares, *FAST, "--part", part]
        assert call_script(script("image2image"), *arguments)[0] == 0
        assert not (shares / "lasso_image2image" / "summary.json").exists()
    caplog.clear()
    with caplog.at_level("INFO"):
        same(whole, run("image2image", results=shares))
    assert "2 of 2 subjects are there already" in caplog.text


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(run, cohort, tmp_path, caplog):
    whole, killed = run("image2image", *ALONE), tmp_path / "killed"
    command = [sys.executable, str(ROOT / script("image2image")), "--data", str(cohort), "--results", str(killed)]
    process = subprocess.Popen([*command, *FAST], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    subjects = killed / "lasso_image2image" / "subjects"
    until = time.monotonic() + 120
    while not (subjects.is_dir() and any(subjects.glob("subject_*.npz"))):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "lasso_image2image" / "summary.json").exists()
    caplog.clear()
    with caplog.at_level("INFO"):
        same(whole, run("image2image", *ALONE, results=killed))
    assert " of 2 subjects are there already" in caplog.text


@pytest.mark.slow
def test_other_settings_are_refused_and_changed_data_computed_anew(run, call_script, tmp_path, caplog):
    data = write_cohort(tmp_path / "data", subjects=2, awake=3, asleep=2)
    folder = run("image2image", *ALONE, data=data)
    arguments = ["--data", data, "--results", folder.parent, *FAST]
    code, error = call_script(script("image2image"), *arguments, "--set", "penalty.l1=0.01")
    assert code == 2 and "--restart" in error and "subject_0.npz" in error
    run("image2image", *ALONE, "--set", "penalty.l1=0.01", "--restart", data=data)
    before = arrays(folder)
    write_cohort(data, subjects=2, awake=3, asleep=2, seed=1)
    run("image2image", *ALONE, "--set", "penalty.l1=0.01", data=data)
    assert "its data have changed" in caplog.text
    assert any((before[key] != value).any() for key, value in arrays(folder).items() if "hits" in key)


@pytest.mark.slow
def test_few_trials_are_named_and_too_few_are_missing(run, call_script, tmp_path, caplog):
    data = write_cohort(tmp_path / "data", subjects=2, awake=6, asleep=2)
    file = data / "SI Main Train" / "subject_0" / "Whole_data.pickle"
    content = read_pickle(file)
    kiwi = [trial for trial in content["awake_image"] if trial["category"] == "kiwi"]
    rest = [trial for trial in content["awake_image"] if trial["category"] not in ("kiwi", "sheep")]
    content |= {"awake_image": [*kiwi[:1], *rest], "REM": content["REM"][:3]}
    write_pickle(content, file)
    summary = json.loads((run("image2image", data=data) / "summary.json").read_text())
    assert summary["few_trials"]["subject_0"]["image"] == {"kiwi": 1, "sheep": 0}
    assert "subject_0, image: fewer than 5 trials of kiwi 1, sheep 0" in caplog.text
    summary = json.loads((run("REM2REM", data=data) / "summary.json").read_text())
    assert summary["missing"] == {"subject_0": {"REM": "3 trials, fewer than the 5 folds"}}
    bad = content["awake_image"][0]
    bad["EEG"][3, 3] = np.nan
    write_pickle(content, file)
    arguments = ["--data", data, "--results", tmp_path / "nan"]
    code, error = call_script(script("image2image"), *arguments)
    assert code == 2 and "subject_0" in error and "(kiwi)" in error and "NaN" in error


def test_a_cohort_without_the_stage_is_refused(call_script, tmp_path):
    data = write_cohort(tmp_path, subjects=2, awake=2, asleep=1, skip={(0, "REM"), (1, "REM")})
    code, error = call_script(script("REM2REM"), "--data", data, "--results", tmp_path / "results", *FAST)
    assert code == 2 and "none of the 2 subjects has the trials for it" in error
