"""Tests between groups of trials: their level where nothing differs, what they find, compare.py within a run."""

import json

import evaluation_data as made
import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.train.evaluation import comparison, group_tests
from sleep_interpreter.train.evaluation.decoder_report import group_summary_lines, report_groups
from sleep_interpreter.utils.core.errors import UserError

SIZES = (4, 6, 10, 15, 20, 25, 40, 8)


def hits_of(random, subjects, sizes=SIZES, share=0.1, better=0.0):
    """Return {group: {subject: (label, correct)}}, the group 2nd-Up `better` than the others; some have none."""
    found = {group: {} for group in SO_GROUPS[: len(sizes)]}
    for group, size in zip(found, sizes, strict=True):
        for subject in range(subjects):
            n = random.poisson(size)
            correct = random.random(n) < share + random.normal(0, 0.02) + better * (group == "2nd-Up")
            found[group][f"subject_test_{subject}"] = np.arange(n) % 15, correct
    return found


@pytest.mark.parametrize("subjects", [8, 12])
def test_groups_alike_are_found_to_differ_as_often_as_is_said(subjects):
    """Few trials in some groups, and many hits that are not there: the hardest case for signs that flip."""
    random, p = np.random.default_rng(subjects), []
    settings = made.SETTINGS.model_copy(update={"bootstrap": 100, "permutations": 256})
    for _ in range(100):
        found = group_tests.condition_tests(hits_of(random, subjects), settings)
        best = min(row["p_max"] for row in found["conditions"].values())
        p.append([found["omnibus_p"], best, min(pair["p_max"] for pair in found["contrasts"])])
    assert (np.mean(np.array(p) <= 0.05, axis=0) <= 0.12).all()  # 5 % of 100 are 12 at most in 99.9 % of cases


def test_a_better_group_is_found_and_named():
    found = group_tests.condition_tests(hits_of(np.random.default_rng(1), 10, [40] * 8, better=0.25), made.SETTINGS)
    assert found["best"] == "2nd-Up" and found["omnibus_p"] < 0.01 and found["subjects"] == 10
    row = found["conditions"]["2nd-Up"]
    assert row["p"] <= row["p_max"] < 0.01 and row["difference"] == pytest.approx(0.25, abs=0.08)
    assert max(r["p_max"] for name, r in found["conditions"].items() if name != "2nd-Up") > 0.5
    assert len(found["contrasts"]) == 28
    for pair in found["contrasts"]:
        assert pair["low"] <= pair["difference"] <= pair["high"] and pair["p"] <= pair["p_max"]
        if "2nd-Up" in (pair["first"], pair["second"]):
            assert pair["p_max"] < 0.05
    text = "\n".join(group_tests.lines(found, "groups"))
    assert "best 2nd-Up" in text and "(largest of 8)" in text and "2nd-Up - " in text + " - 2nd-Up: "


def test_few_subjects_and_missing_groups():
    random = np.random.default_rng(2)
    few = group_tests.condition_tests(hits_of(random, 3), made.SETTINGS)
    assert few["omnibus_p"] is None and "3 subjects, 6 are needed" in few["note"]
    assert "6 are needed" in group_tests.lines(few, "groups")[0]
    hits = hits_of(random, 9)
    hits["Down"] = {s: (own[0][:0], own[1][:0]) for s, own in hits["Down"].items()}
    hits["Pre-SO"].pop("subject_test_0")
    found = group_tests.condition_tests(hits, made.SETTINGS)
    assert "Down" not in found["conditions"] and found["conditions"]["Pre-SO"]["subjects"] <= 8
    assert found["omnibus_p"] is not None


def write_groups(folder, seed, strength=0.5, coupled=True):
    """Write a run of groups of 7 subjects: trials after which a spindle follows are decoded better."""
    found, followed = {group: [] for group in SO_GROUPS}, {}
    for number in range(7):
        name = f"subject_test_{number}"
        for k, group in enumerate(SO_GROUPS):
            labels = np.random.default_rng([9, number, k]).integers(15, size=20)
            one = made.predictions(name, strength=strength, seed=[seed, k], labels=labels, parts=("SO",))
            spindle = np.arange(20) % 2 == 0
            one.probability[spindle] = 0.05
            one.probability[spindle, one.label[spindle]] = 0.3
            found[group].append(one)
            followed.setdefault(name, {})[group] = spindle
    notes = {"data": "data", "data_fingerprint": made.FINGERPRINT, "simulated": True}
    return report_groups(found, folder, folder.name, made.SETTINGS, notes, followed if coupled else None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_groups(folder / "N23SIMD_SO", 1)
    write_groups(folder / "N23SIMD_retrained_SO", 2, strength=3.0, coupled=False)
    made.write_run(folder / "N23SIMD", [1.0] * 7)
    return folder


def test_the_report_has_the_tests_between_groups_and_spindles(runs):
    summary = json.loads((runs / "N23SIMD_SO" / "summary.json").read_text())
    assert set(summary["between_groups"]["conditions"]) == set(SO_GROUPS)
    assert summary["between_groups"]["omnibus_p"] > 0.01
    [pair] = summary["between_spindles"]["contrasts"]
    assert (pair["first"], pair["second"]) == ("coupled", "uncoupled") and pair["p"] == pytest.approx(2 / 128)
    table = pd.read_csv(runs / "N23SIMD_SO" / "predictions.csv")
    assert table["spindle_coupled"].mean() == 0.5 and table[table.spindle_coupled]["correct"].all()
    text = "\n".join(group_summary_lines(summary))
    assert "between groups, 7 subjects" in text and "coupled - uncoupled: +" in text
    other = json.loads((runs / "N23SIMD_retrained_SO" / "summary.json").read_text())
    assert "between_spindles" not in other


def test_runs_with_groups_are_compared_over_all_trials_and_by_group(runs):
    found = comparison.compare(["N23SIMD_SO", "N23SIMD_retrained_SO"], runs)
    assert list(found["groups"]) == list(SO_GROUPS) and found["pairs"][0]["subjects"] == 7
    pairs = [pair for own in found["groups"].values() for pair in own]
    assert all(pair["sign_flip_p_holm"] >= pair["sign_flip_p"] for pair in pairs)
    smallest = min(pair["sign_flip_p"] for pair in pairs)
    assert min(pair["sign_flip_p_holm"] for pair in pairs) == pytest.approx(min(1, 8 * smallest))
    assert any(line.startswith("  2nd-Up: N23SIMD_SO - ") for line in comparison.summary_lines(found))
    with pytest.raises(UserError, match=r"N23SIMD_SO holds groups of trials and .*N23SIMD does not"):
        comparison.compare(["N23SIMD_SO", "N23SIMD"], runs)


def test_conditions_within_a_run(runs, call_script):
    found = comparison.compare_within("N23SIMD_SO", "phase", runs)
    assert list(found["conditions"]) == list(SO_GROUPS)
    assert found["omnibus_p"] == pytest.approx(
        json.loads((runs / "N23SIMD_SO" / "summary.json").read_text())["between_groups"]["omnibus_p"], abs=0.05
    )
    code, stderr = call_script("test/compare.py", "N23SIMD_SO", "--by", "spindle", "--results", runs)
    assert code == 0, stderr
    written = json.loads((runs / "compare" / "N23SIMD_SO_by_spindle.json").read_text())
    assert list(written["conditions"]) == ["coupled", "uncoupled"] and written["contrasts"][0]["difference"] > 0.3
    assert len(pd.read_csv(runs / "compare" / "N23SIMD_SO_by_spindle.csv")) == 2
    with pytest.raises(UserError, match="nothing in it tells stage of a trial"):
        comparison.compare_within("N23SIMD", "stage", runs)
    with pytest.raises(UserError, match="nothing in it tells spindle"):
        comparison.compare_within("N23SIMD_retrained_SO", "spindle", runs)


@pytest.mark.parametrize(
    ("by", "columns", "expected"),
    [
        ("stage", {"stage": lambda t: np.where(t.trial % 3, "N2", "N3")}, ["N2", "N3"]),
        ("repetition", {"repetition": lambda t: t.trial // 5 + 1}, [str(k) for k in range(1, 13)]),
        ("early_late", {"onset_s": lambda t: 1000.0 - t.trial}, ["early", "late"]),
        ("early_late", {"onset_s": lambda t: t.trial % 30, "session": lambda t: t.trial // 30}, ["early", "late"]),
        ("phase", {"so_group": lambda t: np.where(t.trial % 2, "none", "Down")}, ["Down", "none"]),
    ],
)
def test_conditions_come_from_the_columns(by, columns, expected, runs, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    table = pd.read_csv(runs / "N23SIMD" / "predictions.csv")
    table = table.assign(**columns)
    table.loc[::10, next(iter(columns))] = None
    table.to_csv(folder / "predictions.csv", index=False)
    (folder / "summary.json").write_bytes((runs / "N23SIMD" / "summary.json").read_bytes())
    found = comparison.compare_within(str(folder), by, tmp_path)
    assert list(found["conditions"]) == expected and found["subjects"] == 7
    assert found["warnings"][0] == "42 of 420 trials do not say it and are left out"
    assert sum(row["n"] for row in found["conditions"].values()) == 378
    assert bool(found["contrasts"]) == (len(expected) <= 10)
    with pytest.raises(UserError, match="all trials are of one"):
        table.assign(**dict.fromkeys(columns, 1.0 if by != "early_late" else 5.0)).to_csv(
            folder / "predictions.csv", index=False
        )
        comparison.compare_within(str(folder), by, tmp_path)
