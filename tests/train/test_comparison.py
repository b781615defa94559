"""Runs side by side: the right numbers, refusals of what cannot be compared, honesty about few subjects."""

import json
import shutil

import evaluation_data as made
import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from sleep_interpreter.train.evaluation import comparison
from sleep_interpreter.utils.core.errors import UserError

STRONG, WEAK = [2.2, 2.0, 1.9, 2.4, 2.1, 1.8, 2.3], [0.6, 0.4, 0.9, 0.2, 0.5, 0.7, 0.3]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    made.write_run(folder / "N23SIMD", STRONG, seed=1)
    made.write_run(folder / "N23SISD", WEAK, seed=2)
    made.write_run(folder / "N23SIMD_retrained", STRONG[:5], seed=3)
    return folder


@pytest.fixture
def results(written, tmp_path):
    shutil.copytree(written, tmp_path / "results")
    return tmp_path / "results"


def accuracy(results, run):
    table = pd.read_csv(results / run / "predictions.csv")
    return table.groupby("subject")["correct"].mean()


def test_numbers_are_those_of_the_runs(results):
    found = comparison.compare(["N23SIMD", str(results / "N23SISD")], results)
    one, other = accuracy(results, "N23SIMD"), accuracy(results, "N23SISD")
    summary = json.loads((results / "N23SIMD" / "summary.json").read_text())
    row = found["runs"]["N23SIMD"]
    assert row["accuracy"] == pytest.approx(summary["overall"]["accuracy"]) == pytest.approx(one.mean())
    assert (row["subjects"], row["n"]) == (7, 420) and row["low"] < row["accuracy"] < row["high"]
    [pair] = found["pairs"]
    assert pair["difference"] == pytest.approx((one - other).mean())
    assert pair["low"] < pair["difference"] < pair["high"] and pair["subjects"] == 7
    assert pair["wilcoxon_p"] == pytest.approx(wilcoxon(one - other).pvalue) == pytest.approx(2 / 128)
    assert pair["sign_flip_p"] == pair["smallest_p"] == pytest.approx(2 / 128)
    assert pair["wilcoxon_p_holm"] == pair["wilcoxon_p"] and pair["note"] is None
    stem = results / "compare" / "N23SIMD_vs_N23SISD"
    assert found["path"] == str(stem)
    assert json.loads(stem.with_suffix(".json").read_text())["pairs"] == found["pairs"]
    by_subject = pd.read_csv(f"{stem}_subjects.csv").set_index("subject")
    assert by_subject["N23SISD"].to_dict() == pytest.approx(other.to_dict())
    assert pd.read_csv(f"{stem}.csv")["run"].tolist() == ["N23SIMD", "N23SISD"]
    assert pd.read_csv(f"{stem}_pairs.csv")["smallest_p"].tolist() == [pytest.approx(2 / 128)]
    assert stem.with_suffix(".png").stat().st_size > 5000
    text = "\n".join(comparison.summary_lines(found))
    assert text.count("(simulated)") == 2 and "7 common subjects" in text


@pytest.mark.usefixtures("undrawn")
def test_three_runs_are_corrected_for_three_pairs_over_common_subjects(results):
    found = comparison.compare(["N23SIMD", "N23SISD", "N23SIMD_retrained"], results)
    pairs = {(pair["first"], pair["second"]): pair for pair in found["pairs"]}
    assert len(pairs) == 3
    first = pairs["N23SIMD", "N23SISD"]
    assert first["wilcoxon_p_holm"] == pytest.approx(3 * first["wilcoxon_p"])
    few = pairs["N23SISD", "N23SIMD_retrained"]
    assert few["subjects"] == 5 and few["smallest_p"] == pytest.approx(1 / 16)
    assert "too few subjects for p < 0.05" in few["note"] and "0.125" in few["note"]
    assert "Holm over 3 pairs" in "\n".join(comparison.summary_lines(found))


@pytest.mark.parametrize("measure", ["top3", "balanced"])
@pytest.mark.usefixtures("undrawn")
def test_other_measures(measure, results):
    found = comparison.compare(["N23SIMD", "N23SISD"], results, measure)
    summary = json.loads((results / "N23SISD" / "summary.json").read_text())
    assert found["runs"]["N23SISD"]["accuracy"] == pytest.approx(summary["overall"][measure]["accuracy"])
    assert found["runs"]["N23SISD"]["chance"] == summary["overall"][measure]["chance"]
    assert found["path"].endswith(f"_{measure}")


@pytest.mark.usefixtures("undrawn")
def test_what_frequencies_give_is_said_and_fine_tuning_is_compared_balanced(results):
    found = comparison.compare(["N23SIMD", "N23SISD"], results)
    assert any("a run that knows how often gains by that alone" in text for text in found["warnings"])
    made.write_run(results / "N23_finetune", STRONG, {"finetuned": True}, seed=4)
    tuned = comparison.compare(["N23SIMD", "N23_finetune"], results)
    assert tuned["measure"] == "balanced accuracy" and tuned["path"].endswith("_balanced")
    assert not any("gains by that" in text for text in tuned["warnings"])
    top1 = comparison.compare(["N23SIMD", "N23_finetune"], results, "top1")
    assert top1["measure"] == "top-1" and top1["runs"]["N23SIMD"]["chance"] != 1 / 15
    made.write_run(results / "again", WEAK, {"finetuned": True}, seed=5)
    assert comparison.compare(["again", "N23_finetune"], results)["measure"] == "top-1", "both know"


@pytest.mark.usefixtures("undrawn")
def test_a_few_subjects_cannot_be_significant_and_two_are_needed(tmp_path):
    made.write_run(tmp_path / "a", STRONG[:4], seed=1)
    made.write_run(tmp_path / "b", WEAK[:4], seed=2)
    [pair] = comparison.compare(["a", "b"], tmp_path)["pairs"]
    assert pair["wilcoxon_p"] >= 0.125 and "too few subjects" in pair["note"]
    made.write_run(tmp_path / "c", STRONG[:1], seed=1)
    with pytest.raises(UserError, match="a and c have 1 test subjects in common"):
        comparison.compare(["a", "c"], tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_the_same_run_under_two_names_does_not_differ(results):
    shutil.copytree(results / "N23SIMD", results / "again" / "N23SIMD")
    found = comparison.compare(["N23SIMD", "again/N23SIMD"], results)
    [pair] = found["pairs"]
    assert (pair["difference"], pair["wilcoxon_p"], pair["sign_flip_p"]) == (0, 1, 1)
    assert set(found["runs"]) == {f"{results.name}_N23SIMD", "again_N23SIMD"}


@pytest.mark.usefixtures("undrawn")
def test_runs_of_studies_that_are_built_alike_stay_apart(results):
    """Two seeds, each with a results folder of its own; the better one alone was left once."""
    places = [results / study / "results" / "N23SIMD" for study in ("s1", "s2")]
    for place, name in zip(places, ("N23SIMD", "N23SISD"), strict=True):
        shutil.copytree(results / name, place)
    found = comparison.compare([*places, "N23SISD"], results)
    assert list(found["runs"]) == ["s1_results_N23SIMD", "s2_results_N23SIMD", "N23SISD"]
    assert len(found["pairs"]) == 3


@pytest.mark.usefixtures("undrawn")
def test_different_data_are_refused_unless_asked_for(results):
    made.write_run(results / "REMSIMD", STRONG, {"data_fingerprint": "e" * 64}, seed=1)
    with pytest.raises(UserError, match="different data") as error:
        comparison.compare(["N23SIMD", "REMSIMD"], results)
    assert "--different-data" in str(error.value)
    found = comparison.compare(["N23SIMD", "REMSIMD"], results, different_data=True)
    assert "taken for one person" in found["warnings"][0]
    made.write_run(results / "unknown", STRONG, {"data_fingerprint": None}, seed=1)
    with pytest.raises(UserError, match="different data"):
        comparison.compare(["N23SIMD", "unknown"], results)


def test_other_trials_of_the_same_files_are_refused(results):
    made.write_run(results / "N23_finetune", STRONG, n=30, parts=("test",))
    with pytest.raises(UserError) as error:
        comparison.compare(["N23SIMD", "N23_finetune"], results)
    assert "subject_test_0" in str(error.value) and "30 test" in str(error.value)
    assert "--data-type" in str(error.value)


@pytest.mark.usefixtures("undrawn")
def test_windows_and_warnings_of_the_runs_are_repeated(results):
    made.write_run(results / "N23SIMD_precue", [0] * 7, {"controls": {"window": "precue"}, "warnings": ["old model"]})
    found = comparison.compare(["N23SIMD", "N23SIMD_precue"], results)
    assert "windows differ: N23SIMD cue, N23SIMD_precue precue" in found["warnings"]
    assert "N23SIMD_precue: old model" in found["warnings"]


@pytest.mark.usefixtures("undrawn")
def test_simulated_when_any_run_is(results):
    made.write_run(results / "other", STRONG, {"simulated": False}, seed=1)
    found = comparison.compare(["other", "N23SIMD"], results)
    assert found["simulated"] is True and "(simulated)" in comparison.summary_lines(found)[0]
    made.write_run(results / "another", WEAK, {"simulated": False}, seed=2)
    found = comparison.compare(["other", "another"], results)
    assert found["simulated"] is False and "simulated" not in comparison.summary_lines(found)[0]


def damage(folder, how):
    table = pd.read_csv(folder / "predictions.csv")
    if how == "no summary":
        (folder / "summary.json").unlink()
    elif how == "no predictions":
        (folder / "predictions.csv").unlink()
    elif how == "half a summary":
        (folder / "summary.json").write_text('{"overall": ')
    elif how == "list":
        (folder / "summary.json").write_text("[]")
    elif how == "empty":
        (folder / "predictions.csv").write_text("")
    elif how == "column":
        table.drop(columns="p_watch").to_csv(folder / "predictions.csv", index=False)
    elif how == "nan":
        table.loc[4, "p_kiwi"] = np.nan
        table.to_csv(folder / "predictions.csv", index=False)
    elif how == "item":
        table.loc[2, "item"] = "banana"
        table.to_csv(folder / "predictions.csv", index=False)
    elif how == "group":
        table.assign(group="Down").to_csv(folder / "predictions.csv", index=False)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no summary", "summary.json is missing"),
        ("no predictions", "predictions.csv is missing"),
        ("half a summary", "not readable"),
        ("list", "expected a mapping, found list"),
        ("empty", "not readable"),
        ("column", "'p_watch' is missing"),
        ("nan", "line 6"),
        ("item", "line 4"),
        ("group", "groups of trials"),
    ],
)
def test_damaged_results_are_refused_by_name(how, words, results):
    damage(results / "N23SISD", how)
    with pytest.raises(UserError) as error:
        comparison.compare(["N23SIMD", "N23SISD"], results)
    assert words in str(error.value) and "N23SISD" in str(error.value)
    assert not (results / "compare").exists()


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        (["N23SIMD"], "at least two"),
        (["N23SIMD", "N23SIMD"], "given twice"),
        (["N23SIMD", "N23SIDS"], "did you mean N23SISD?"),
        (["N23SIMD", "xyz"], "there are"),
    ],
)
def test_wrong_runs(runs, words, results):
    with pytest.raises(UserError) as error:
        comparison.compare(runs, results)
    assert words in str(error.value)


@pytest.mark.usefixtures("undrawn")
def test_names_of_the_files(results):
    found = comparison.compare(["N23SIMD", "N23SISD"], results, name="table_2")
    assert (results / "compare" / "table_2_pairs.csv").is_file() and found["path"].endswith("table_2")
    for name in ("../out", "x" * 200):
        with pytest.raises(UserError, match="--name"):
            comparison.compare(["N23SIMD", "N23SISD"], results, name=name)


def compared(results):
    return {path.name: path.read_bytes() for path in (results / "compare").iterdir()}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("step", ["plots.compared_runs", "provenance.write_json"])
def test_a_comparison_that_fails_leaves_the_earlier_one(step, results, monkeypatch):
    module, function = step.split(".")
    runs = ["N23SIMD", "N23SISD"]
    comparison.compare(runs, results, name="c")
    before = compared(results)

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(getattr(comparison, module), function, full_disk)
    with pytest.raises(OSError, match="No space"):
        comparison.compare(runs, results, "top3", name="c")
    assert compared(results) == before


@pytest.mark.usefixtures("undrawn")
def test_conditions_replace_a_comparison_of_their_name_with_its_figure(results, monkeypatch):
    file = results / "N23SIMD" / "predictions.csv"
    table = pd.read_csv(file)
    table.assign(stage=np.where(table.index % 2, "N2", "N3")).to_csv(file, index=False)
    for name in ("c", "c[1]"):
        comparison.compare(["N23SIMD", "N23SISD"], results, name=name)
    before = compared(results)
    comparison.compare_within("N23SIMD", "stage", results, name="c[1]")
    after = compared(results)
    assert {name: after[name] for name in after if "[" not in name} == {n: before[n] for n in before if "[" not in n}
    assert sorted(name for name in after if "[" in name) == ["c[1].csv", "c[1].json", "c[1]_pairs.csv"]
    monkeypatch.setattr(comparison.provenance, "write_json", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        comparison.compare_within("N23SIMD", "stage", results, "top3", name="c[1]")
    assert compared(results) == after


@pytest.mark.parametrize(("column", "value"), [("data_type", "train"), ("cue_id", "s1_night_0001")])
def test_trials_of_another_part_with_the_same_items_are_not_the_same_trials(results, column, value):
    """A balanced design has the same order of items in each part."""
    for run, own in (("N23SIMD", "test"), ("N23SISD", value)):
        path = results / run / "predictions.csv"
        pd.read_csv(path).assign(**{column: own}).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"subject_test_0 was tested on other trials in .*--data-type"):
        comparison.compare(["N23SIMD", "N23SISD"], results)


def test_trials_of_different_data_are_not_paired(results):
    """With labels in the same order they were, and the interval was that of one set of trials."""
    made.write_run(results / "other", STRONG, {"data_fingerprint": "e" * 64}, seed=1)
    shutil.copytree(results / "other", results / "same")
    summary = json.loads((results / "same" / "summary.json").read_text()) | {"data_fingerprint": made.FINGERPRINT}
    (results / "same" / "summary.json").write_text(json.dumps(summary))
    pairs = [
        comparison.compare(["N23SIMD", run], results, different_data=run == "other")["pairs"][0]
        for run in ("same", "other")
    ]
    widths = [pair["high"] - pair["low"] for pair in pairs]
    assert pairs[0]["difference"] == pairs[1]["difference"] and widths[1] > 1.1 * widths[0]
