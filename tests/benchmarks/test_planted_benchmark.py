"""The planted benchmark and its verdicts: what is planted in predictions comes out, nothing else."""

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.decoding import planted_benchmark, planted_lasso, planted_verdicts
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

ITEMS = published().item_names

RATES = {
    "SISD_strength_0": 1 / 15, "SISD_strength_0.5": 0.2, "SISD_strength_1": 0.4, "SISD_strength_2": 0.6,
    "SISD_shuffled_strength_1": 1 / 15, "SIMD_strength_1": 0.5,
}  # fmt: skip
SO = {"1st-Up": 0.5, "trans-2nd-Up": 0.5, "2nd-Up": 0.5, "trans-Down": 0.2, "Down": 0.2, "Pre-SO": 0.3}


@pytest.fixture
def study():
    few = ["cohort.cohort.train_subjects=0", "cohort.cohort.test_subjects=1"]  # whose truth is computed
    return config.load(planted_benchmark.PlantedBenchmarkSettings, "simulated_benchmark", overrides=few)


PAIRS = [pair for pairs in planted_lasso.EXPERIMENTS.values() for pair in pairs]


def written_lasso(folder, study, rate=0.3, none=0.065, early=0.0):
    """Write the Lasso GLMs' summaries, with curves that peak where it is planted, or `early` s before."""
    people = planted_lasso.simulated_people(study.simulation(study.strength))
    for strength, accuracy in ((0.0, none), (study.strength, rate)):
        for name, pairs in planted_lasso.EXPERIMENTS.items():
            place = folder / f"lasso_strength_{strength:g}_seed_{study.seeds[0]}" / f"lasso_{name}"
            place.mkdir(parents=True)
            results, curves = {}, []
            for pair in pairs:
                train, test = pair.split("/")
                span = {"low": accuracy - 0.02, "high": accuracy + 0.02, "chance": 1 / 15}
                permuted = {"low": 0.055, "high": 0.08, "p": 0.001, "mean": 0.067}
                peak = {"subjects": 2, "n": 300, "accuracy": accuracy, **span, "permutation": permuted}
                own = {f"subject_{k}": {"accuracy": accuracy} for k in range(2)}
                results[pair] = {"peak": peak, "peak_by_subject": own}
                time, offset = 0.4, np.nan
                if train == test:
                    time = planted_lasso.planted_peaks(people, test)[0]
                else:
                    offset = 0.65  # 0.85 s after the cue: what comes at 0.4 s awake, 0.25 s later, 1.5 slower
                times = np.arange(0, 1.8, 0.01)
                bump = np.exp(-0.5 * ((times - time + early) / 0.05) ** 2)
                columns = {"train": train, "test": test, "time": times, "offset": offset}
                curves.append(pd.DataFrame({**columns, "accuracy": bump}))
            (place / "summary.json").write_text(json.dumps({"results": results}))
            pd.concat(curves).to_csv(place / "mean.csv", index=False)


def written(folder, study, rates, tuned=0.7, groups=SO, **lasso):
    """Write the predictions of all runs with given hit rates."""
    written_lasso(folder, study, **lasso)
    rates = rates | {"SIMD_many_strength_1": rates["SIMD_strength_1"]}
    random = np.random.default_rng(0)

    def frame(rate, n, **columns):
        rows = {**columns, "item": np.resize(ITEMS, n), "correct": random.random(n) < rate}
        return pd.DataFrame(rows)

    for run, rate in rates.items():
        for seed in study.seeds:
            place = folder / f"{run}_seed_{seed}"
            parts = {}
            for subject in (f"subject_test_{k}" for k in range(8)):
                test = {"subject": subject, "data_type": np.resize(["train", "val", "test"], 75)}
                name = {"SISD": "N23SISD", "SIMD": "N23SIMD"}[run.split("_")[0]]
                name += "_shuffled" if "shuffled" in run else ""
                parts.setdefault(name, []).append(frame(rate, 75, **test))
                if name == "N23SIMD":
                    tuned_part = frame(tuned, 25, subject=subject, data_type="test")
                    parts.setdefault("N23_finetune", []).append(tuned_part)
                    parts.setdefault("N23SIMD_SO", []).extend(
                        frame(r, 45, subject=subject, group=g, data_type="SO") for g, r in groups.items()
                    )
            for name, frames in parts.items():
                (place / name).mkdir(parents=True, exist_ok=True)
                pd.concat(frames).to_csv(place / name / "predictions.csv", index=False)


def verdicts(summary):
    return {row["claim"]: row["verdict"] for row in summary["verdicts"]}


def test_what_is_planted_is_shown(study, tmp_path):
    written(tmp_path, study, RATES)
    summary = planted_verdicts.report(study, tmp_path)
    found = verdicts(summary)
    assert found.pop("strength 0: chance in the interval") == "holds"
    assert found.pop("shuffled labels: chance in the interval") == "holds"
    none = [claim for claim in found if "inside the interval" in claim]
    assert len(none) == len(PAIRS) and {found.pop(claim) for claim in none} == {"holds"}
    assert len(found) == 10 + 2 * len(PAIRS) and set(found.values()) == {"shown"}, found
    assert json.loads((tmp_path / "summary.json").read_text())["simulated"] is True
    rows = pd.read_csv(tmp_path / "rows.csv").set_index("row")
    assert rows.loc["SIMD", "n"] == 8 * 75 * len(study.seeds)
    assert rows.loc["SIMD, zero-shot, test part", "n"] == 8 * 25 * len(study.seeds)
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    assert rows.loc["Lasso image to N2N3, strength 1", "permuted_high"] == 0.08
    lines = planted_verdicts.table(summary)
    assert any("simulated" in line for line in lines)
    assert any("Lasso image to N2N3" in line and "(peak 0.85 s, planted 0.85 s)" in line for line in lines)


@pytest.mark.usefixtures("undrawn")
def test_what_is_not_there_or_the_other_way_round_is_said(study, tmp_path):
    turned = {"1st-Up": 0.1, "trans-2nd-Up": 0.1, "2nd-Up": 0.1, "trans-Down": 0.4, "Down": 0.4}
    other = RATES | {"SIMD_strength_1": 0.2, "SISD_strength_0": 0.2, "SISD_shuffled_strength_1": 0.3}
    written(tmp_path, study, other, tuned=0.2, groups=turned, rate=0.07, none=0.1, early=0.2)
    found = verdicts(planted_verdicts.report(study, tmp_path))
    assert found["awake + sleep >= sleep alone"] == "contradicted"
    assert found["up-states > down-states"] == "contradicted"
    assert found["fine-tuned > zero-shot"] == "not shown"
    assert found["fine-tuned > zero-shot, many trials"] == "not shown"
    of_lasso = {claim: verdict for claim, verdict in found.items() if claim.startswith("Lasso")}
    assert len(of_lasso) == 3 * len(PAIRS)
    for claim, verdict in of_lasso.items():
        assert verdict == ("not shown" if "> permuted" in claim else "contradicted"), claim
    assert found["strength 0: chance in the interval"] == "contradicted"
    assert found["shuffled labels: chance in the interval"] == "contradicted"
    assert found["SISD, strength 0.5 > strength 0"] == "not shown"
    assert found["monotone in strength"] in ("shown", "not shown")
    assert found["awake + sleep > chance"] == "shown"


def test_a_missing_run_is_named(study, tmp_path):
    written(tmp_path, study, RATES)
    (tmp_path / "SISD_strength_2_seed_1" / "N23SISD" / "predictions.csv").unlink()
    with pytest.raises(UserError, match=r"SISD_strength_2_seed_1.*missing"):
        planted_verdicts.report(study, tmp_path)


def test_finished_runs_are_kept_and_a_failure_names_its_script(study, tmp_path, monkeypatch):
    """Commands are counted here instead of run; the slow test below runs them."""
    manifest = {"settings": {}, "version": 3}
    for name in ("0", "0.5", "1", "2", "1_many"):
        folder = tmp_path / "data" / f"strength_{name}"
        folder.mkdir(parents=True)
        (folder / "simulation.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(planted_benchmark, "ROOT", tmp_path)
    study = study.model_copy(update={"data": "data", "seeds": (1,)})
    calls = []

    def called(command, **kwargs):
        calls.append(command)
        return SimpleNamespace(returncode=3 if failing and failing in command[1] else 0)

    monkeypatch.setattr(subprocess, "run", called)
    failing, results = "N23_finetune", tmp_path / "results"
    with pytest.raises(UserError, match=r"SIMD_strength_1_seed_1: train/N23_finetune.py.*exit code 3"):
        planted_benchmark.execute(study, results)
    assert len(calls) == 2 * 4 + 2 * 4 + 2 + 4
    failing, calls[:] = None, []
    assert {run.name for run in planted_benchmark.runs(study) if run.once} == {"lasso", "SIMD_many"}
    planted_benchmark.execute(study, results)
    assert [command[1] for command in calls] == [
        "train/N23SIMD.py", "test/N23SIMD.py", "test/N23SIMD_SO.py", "train/N23_finetune.py",
        "test/N23SIMD.py", "train/N23_finetune.py",
    ]  # fmt: skip
    assert all("train.seed=1" in command for command in calls)
    trained = results / "SIMD_strength_1_seed_1" / "Decoding checkpoint" / "N2N3_SIMD" / "ensemble.npz"
    assert calls[-1][calls[-1].index("--checkpoint") + 1] == str(trained)

    # Data and results have moved: what is finished stays finished; with other settings it does not.
    calls.clear()
    monkeypatch.setattr(planted_benchmark, "ROOT", tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").rename(tmp_path / "elsewhere" / "data")
    results.rename(tmp_path / "moved")
    planted_benchmark.execute(study, tmp_path / "moved")
    assert not calls
    changed = study.model_copy(update={"lasso": {"folds": 4}})
    planted_benchmark.execute(changed, tmp_path / "moved")
    assert len(calls) == 8 and all("lasso_glm" in command[1] for command in calls)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("strengths=[0.5, 1.0]", "beginning with 0"),
        ("strengths=[0, 2.0]", "must be one of the strengths"),
        ("strength=0.0", "not 0"),
        ("seeds=[]", "seeds"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        config.load(planted_benchmark.PlantedBenchmarkSettings, "simulated_benchmark", overrides=[change])


@pytest.mark.usefixtures("undrawn")
def test_without_strength_below_the_interval_is_not_inside_and_without_many_trials_no_row_is_asked_for(study, tmp_path):
    written(tmp_path, study, RATES, none=0.04)
    for place in tmp_path.glob("SIMD_many*"):
        place.rename(place.with_name(f"other_{place.name}"))
    summary = planted_verdicts.report(study.model_copy(update={"many_trials": {}}), tmp_path)
    found = verdicts(summary)
    assert {v for claim, v in found.items() if "inside the interval" in claim} == {"lies below"}
    assert not any("many" in name for name in (*found, *summary["rows"]))


@pytest.mark.slow
def test_the_command_runs_from_simulation_to_table(tmp_path):
    arguments = ["--quick", "--many-trials", "--results", str(tmp_path), "--set", f"data={tmp_path / 'data'}"]
    assert planted_benchmark.main(arguments) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rows"]["SIMD"]["n"] == 30 and len(summary["verdicts"]) == 10 + 3 * len(PAIRS)
