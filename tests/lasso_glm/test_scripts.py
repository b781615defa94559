"""The seven scripts on a cohort with a planted time course: what they write and what they find."""

import json

import numpy as np
import pandas as pd
import pytest
from lasso_data import PLANTED, write_cohort

from sleep_interpreter.lasso_glm.engine.plans import PLANS
from sleep_interpreter.utils.core.safe_pickle import read_pickle

FAST = ("--set", "statistics.permutations=200")
COLUMNS = ["subject", "experiment", "train", "test", "fold", "offset", "time", "accuracy", "n"]
NAMES = ["subject_0", "subject_1", "subject_test_0"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return write_cohort(folder, subjects=3, awake=3, asleep=2, strength=3.0, skip={(1, "REM")})


def script(name):
    return f"lasso_glm/lasso_glm_{name}.py"


@pytest.fixture
def run(call_script, cohort, tmp_path):
    """Return a function that runs an experiment and returns its folder."""

    def call(name, *arguments, results=tmp_path / "results", data=cohort):
        code, error = call_script(script(name), "--data", data, "--results", results, *FAST, *arguments)
        assert code == 0, error
        return results / f"lasso_{name}"

    return call


@pytest.mark.parametrize(
    "name", ["image2image", *(pytest.param(n, marks=pytest.mark.slow) for n in ("audio2audio", "N2N3N2N3", "REM2REM"))]
)
def test_within_recovers_the_planted_time(name, run):
    folder = run(name)
    summary = json.loads((folder / "summary.json").read_text())
    domain = PLANS[name].train[0]
    planted = PLANTED.get(domain, PLANTED["sleep"])
    row = summary["results"][f"{domain}/{domain}"]
    mean = pd.read_csv(folder / "mean.csv")
    assert abs(mean["time"][mean["accuracy"].argmax()] - planted) <= 0.05
    assert abs(row["validation_curve_peaks_at"] - planted) <= 0.05
    assert abs(row["peak_times"]["median"] - planted) <= 0.05
    assert row["peak"]["accuracy"] > row["peak"]["permutation"]["high"] > row["peak"]["chance"]
    assert row["largest_residual"] <= 1e-9
    assert summary["simulated"] is True and "not tested over subjects" in row["clusters"]["note"]

    asleep = domain in ("N2N3", "REM")
    present = NAMES if name != "REM2REM" else ["subject_0", "subject_test_0"]
    assert summary["missing"] == ({} if name != "REM2REM" else {"subject_1": {"REM": "no trials"}})
    tidy = pd.read_csv(folder / "accuracy.csv")
    assert list(tidy) == COLUMNS and sorted(set(tidy["subject"])) == sorted(present)
    assert len(tidy) == len(present) * 5 * (200 if asleep else 80) and tidy["offset"].isna().all()
    assert tidy.groupby(["subject", "fold"])["n"].first().sum() == len(present) * (30 if asleep else 45)

    stored = read_pickle(folder.parent / f"{PLANS[name].pickle}.pickle")
    assert stored.pop("simulated") is True and list(stored) == NAMES
    assert (stored["subject_1"] == []) == (name == "REM2REM")
    validation, test = stored["subject_0"][0]
    own = tidy[(tidy["subject"] == "subject_0") & (tidy["fold"] == 0)]["accuracy"]
    np.testing.assert_allclose(test, 100 * own, rtol=1e-4)
    assert len(stored["subject_0"]) == 5 and len(validation) == len(test)
    trials = pd.read_csv(folder / "predictions.csv")
    assert len(trials) == row["n"] and trials.correct.mean() == pytest.approx(row["peak"]["accuracy"])
    assert (trials.correct == (trials.item == trials.predicted)).all() and set(trials.time) <= set(mean["time"])
    assert {"accuracy.png", f"patterns_{domain}.png"} <= {file.name for file in folder.iterdir()}


@pytest.mark.parametrize(("name", "domain"), [("awake2sleep", "image"), ("NREM2awake", "N2N3")])
@pytest.mark.slow
def test_cross_recovers_the_planted_offset(name, domain, run):
    folder = run(name, "--generalise")
    test = "N2N3" if domain == "image" else "image"
    mean = pd.read_csv(folder / "mean.csv").query("train == @domain and test == @test")
    best = mean.loc[mean["accuracy"].idxmax()]
    assert abs(best["time"] - PLANTED["image"]) <= 0.05
    assert abs(best["offset"] - 0.2 + best["time"] - PLANTED["sleep"]) <= 0.05
    summary = json.loads((folder / "summary.json").read_text())
    row = summary["results"][f"{domain}/{test}"]
    assert row["peak"]["accuracy"] > row["peak"]["permutation"]["high"] and "generalised" in row
    expected = {"subject_1": {"REM": "no trials"}} if name == "awake2sleep" else {}
    assert summary["missing"] == expected

    trials = pd.read_csv(folder / "predictions.csv").query("train == @domain and test == @test")
    assert trials.correct.mean() == pytest.approx(row["peak"]["accuracy"]) and len(trials) == row["n"]

    tidy = pd.read_csv(folder / "accuracy.csv")
    assert list(tidy) == COLUMNS and tidy["fold"].isna().all() and tidy["offset"].nunique() == 13
    stored = read_pickle(folder.parent / f"lasso_{name}.pickle")
    own = stored["subject_1"]["image"] if name == "awake2sleep" else stored["subject_1"]
    assert list(own) == list(range(13)) and own[3][test][0].shape == (80,)
    if name == "awake2sleep":
        assert own[3]["REM"] == [] and list(stored["subject_0"]) == ["image", "audio"]
    names = {file.name for file in folder.iterdir()}
    assert {f"map_{domain}_{test}.png", f"generalisation_{domain}_{test}.png"} <= names
    assert f"patterns_{domain}.png" in names


@pytest.mark.slow
def test_rem2awake_reports_who_has_no_rem(run, capsys):
    summary = json.loads((run("REM2awake") / "summary.json").read_text())
    assert summary["missing"] == {"subject_1": {"REM": "no trials"}}
    assert summary["results"]["REM/image"]["subjects"] == 2


@pytest.mark.slow
def test_without_strength_it_stays_in_the_permutation_interval(run, tmp_path):
    data = write_cohort(tmp_path / "none", subjects=3, awake=4, asleep=1, strength=0.0, seed=5)
    row = json.loads((run("image2image", data=data) / "summary.json").read_text())["results"]["image/image"]
    null = row["peak"]["permutation"]
    assert null["low"] <= row["peak"]["accuracy"] <= null["high"] and null["p"] > 0.025
