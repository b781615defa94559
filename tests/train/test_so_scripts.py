"""test/N23SIMD_SO.py and test/N23SIMD_retrained_SO.py as a user runs them."""

import json

import evaluation_data as made
import numpy as np
import pandas as pd
import pytest
import training_runs as runs

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle

SCRIPTS = {"N23SIMD_SO": None, "N23SIMD_retrained_SO": "retrained"}
COUNTS = [[15, 3, 4, 5, 0, 7, 8, 9], [15, 3, 4, 5, 0, 7, 0, 9], [15, 3, 4, 5, 0, 7, 8, 9]]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Three subjects; nobody has a trial in the group Down, one has none in 2nd-Up. Not marked."""
    root, random = tmp_path_factory.mktemp("cohort"), np.random.default_rng(0)
    for number, counts in enumerate(COUNTS):
        content = made.so_content(dict(zip(SO_GROUPS, counts, strict=True)), random)
        write_pickle(content, root / "SI Main Test" / f"subject_test_{number}" / "SO_data.pickle")
    return root


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: made.tiny_checkpoint(folder / f"{name}.npz", mode=mode, notes={}) for name, mode in SCRIPTS.items()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_eight_rows_in_order_and_a_group_without_trials_is_missing(name, cohort, checkpoints, tmp_path, call_script):
    places = ["--data", cohort, "--results", tmp_path, "--checkpoint", checkpoints[name]]
    code, stderr = call_script(f"test/{name}.py", "--quick", *places)
    assert code == 0, stderr
    summary = json.loads((tmp_path / name / "summary.json").read_text())
    assert tuple(summary["groups"]) == SO_GROUPS and summary["missing"] == ["Down"]
    assert summary["groups"]["Down"]["accuracy"] is None
    assert [summary["groups"][group]["n"] for group in SO_GROUPS] == np.sum(COUNTS, axis=0).tolist()
    assert summary["groups"]["2nd-Up"]["subjects"] == 2
    for group, row in summary["groups"].items():
        if group != "Down":
            assert row["permutation"]["p"] <= row["permutation_p_holm"] <= 1
            assert row["low"] <= row["accuracy"] <= row["high"]
    assert summary["simulated"] is False and summary["controls"]["window"] == "cue"
    table = pd.read_csv(tmp_path / name / "predictions.csv")
    assert table["group"].unique().tolist() == [group for group in SO_GROUPS if group != "Down"]
    stored = read_pickle(tmp_path / f"{name}.pickle")
    for number, counts in enumerate(COUNTS):
        own = stored[f"subject_test_{number}"]
        assert [len(own[group]["label"]) for group in SO_GROUPS] == counts
    hits = sum(np.sum(s["Pre-SO"]["label"] == s["Pre-SO"]["prediction"]) for s in stored.values())
    assert summary["groups"]["Pre-SO"]["pooled"] == pytest.approx(hits / 45)
    assert (tmp_path / name / "groups.png").stat().st_size > 5000
    assert (tmp_path / name / "settings.yaml").is_file()


@pytest.mark.usefixtures("undrawn")
def test_the_table_names_the_missing_group_and_says_simulated(
    cohort, checkpoints, tmp_path, monkeypatch, capsys, caplog
):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "SI Main Test").symlink_to(cohort / "SI Main Test")
    (tmp_path / "data" / "simulation.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    places = ["--data", "data", "--results", "out", "--checkpoint", checkpoints["N23SIMD_SO"]]
    assert runs.call("test/N23SIMD_SO.py", "--quick", *places) == 0
    printed = capsys.readouterr().out
    assert "(simulated data)" in printed and "Down           no trials" in printed
    assert "the checkpoint is not marked as trained on simulated data" in caplog.text


@pytest.mark.usefixtures("undrawn")
def test_groups_of_whole_carry_a_warning_and_spindles_are_tested(checkpoints, tmp_path, call_script, caplog):
    """Files that say where their phases came from, and which trials a spindle followed."""
    random = np.random.default_rng(1)
    for number in range(6):
        content = made.so_content(dict.fromkeys(SO_GROUPS, 6), random)
        for group in content.values():
            group |= {"phase_from": "whole", "spindle_coupled": np.arange(6) % 2 == 0}
        write_pickle(content, tmp_path / "data" / "SI Main Test" / f"subject_test_{number}" / "SO_data.pickle")
    places = ["--data", tmp_path / "data", "--results", tmp_path, "--checkpoint", checkpoints["N23SIMD_SO"]]
    code, stderr = call_script("test/N23SIMD_SO.py", "--quick", *places)
    assert code == 0, stderr
    assert "WARNING: phase from samples on both sides of the cue: the response to the cue is in them" in caplog.text
    summary = json.loads((tmp_path / "N23SIMD_SO" / "summary.json").read_text())
    assert summary["phase_from"] == ["whole"] and any("on both sides" in text for text in summary["warnings"])
    assert summary["between_groups"]["subjects"] == summary["between_spindles"]["subjects"] == 6
    table = pd.read_csv(tmp_path / "N23SIMD_SO" / "predictions.csv")
    assert table["spindle_coupled"].sum() == len(table) / 2
    for changes, words in (
        ({"phase_from": "after"}, "'phase_from': expected one of precue, whole in all groups, found 'after'"),
        ({"spindle_coupled": np.zeros(5, bool)}, "'spindle_coupled': expected 6 truth values, found bool (5,)"),
    ):
        for group in content.values():
            group |= {"phase_from": "whole", "spindle_coupled": np.zeros(6, bool)} | changes
        write_pickle(content, tmp_path / "data" / "SI Main Test" / "subject_test_5" / "SO_data.pickle")
        code, stderr = call_script("test/N23SIMD_SO.py", "--quick", *places)
        assert code == 2 and words in stderr, stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "{tmp}"], ["SO*"]),
        (["--data", "{data}"], ["no checkpoint of N23SIMD", "train/N23SIMD.py"]),
        (["--data", "{data}", "--checkpoint", "{retrained}"], ["retrained", "expected"]),
        (["--data", "{data}", "--checkpoint", "{ten}"], ["of 10 items", "of 15 items", "SO_data.pickle"]),
    ],
)
def test_wrong_calls_get_one_clear_line(arguments, words, cohort, checkpoints, tmp_path, call_script):
    ten = made.tiny_checkpoint(tmp_path / "ten.npz", classes=10) if "{ten}" in arguments else None
    names = {"tmp": tmp_path, "data": cohort, "ten": ten, "retrained": checkpoints["N23SIMD_retrained_SO"]}
    filled = [argument.format(**names) for argument in arguments]
    code, stderr = call_script("test/N23SIMD_SO.py", "--quick", "--results", tmp_path / "out", *filled)
    assert code == 2, stderr
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and all(word in last for word in words), last
    assert not (tmp_path / "out" / "N23SIMD_SO").exists()
