"""utils/simulated_benchmark.py and its verdicts: what is planted in predictions comes out, nothing else."""

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from utils import config, simulated_benchmark, simulated_verdicts
from utils.errors import UserError
from utils.vocabulary import ITEMS

RATES = {
    "SISD_strength_0": 1 / 15, "SISD_strength_0.5": 0.2, "SISD_strength_1": 0.4, "SISD_strength_2": 0.6,
    "SISD_shuffled_strength_1": 1 / 15, "SIMD_strength_1": 0.5,
}  # fmt: skip
SO = {"1st-Up": 0.5, "trans-2nd-Up": 0.5, "2nd-Up": 0.5, "trans-Down": 0.2, "Down": 0.2, "Pre-SO": 0.3}


@pytest.fixture
def study():
    return config.load(simulated_benchmark.Benchmark, "simulated_benchmark")


def written(folder, study, rates, tuned=0.7, groups=SO):
    """Write the predictions of all runs with given hit rates."""
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
    summary = simulated_verdicts.report(study, tmp_path)
    found = verdicts(summary)
    assert found.pop("strength 0: chance in the interval") == "holds"
    assert found.pop("shuffled labels: chance in the interval") == "holds"
    assert len(found) == 9 and set(found.values()) == {"shown"}, found
    assert json.loads((tmp_path / "summary.json").read_text())["simulated"] is True
    rows = pd.read_csv(tmp_path / "rows.csv").set_index("row")
    assert rows.loc["SIMD", "n"] == 8 * 75 * len(study.seeds)
    assert rows.loc["SIMD, zero-shot, test part", "n"] == 8 * 25 * len(study.seeds)
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    assert any("simulated" in line for line in simulated_verdicts.table(summary))


def test_what_is_not_there_or_the_other_way_round_is_said(study, tmp_path):
    turned = {"1st-Up": 0.1, "trans-2nd-Up": 0.1, "2nd-Up": 0.1, "trans-Down": 0.4, "Down": 0.4}
    other = RATES | {"SIMD_strength_1": 0.2, "SISD_strength_0": 0.2, "SISD_shuffled_strength_1": 0.3}
    written(tmp_path, study, other, tuned=0.2, groups=turned)
    found = verdicts(simulated_verdicts.report(study, tmp_path))
    assert found["awake + sleep >= sleep alone"] == "contradicted"
    assert found["up-states > down-states"] == "contradicted"
    assert found["fine-tuned > zero-shot"] == "not shown"
    assert found["strength 0: chance in the interval"] == "contradicted"
    assert found["shuffled labels: chance in the interval"] == "contradicted"
    assert found["SISD, strength 0.5 > strength 0"] == "not shown"
    assert found["monotone in strength"] in ("shown", "not shown")
    assert found["awake + sleep > chance"] == "shown"


def test_a_missing_run_is_named(study, tmp_path):
    written(tmp_path, study, RATES)
    (tmp_path / "SISD_strength_2_seed_1" / "N23SISD" / "predictions.csv").unlink()
    with pytest.raises(UserError, match=r"SISD_strength_2_seed_1.*missing"):
        simulated_verdicts.report(study, tmp_path)


def test_finished_runs_are_kept_and_a_failure_names_its_script(study, tmp_path, monkeypatch):
    """Commands are counted here instead of run; the slow test below runs them."""
    manifest = {"settings": {}, "version": 3}
    for strength in study.strengths:
        folder = tmp_path / "data" / f"strength_{strength:g}"
        folder.mkdir(parents=True)
        (folder / "simulation.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(simulated_benchmark, "ROOT", tmp_path)
    study = study.model_copy(update={"data": "data", "seeds": (1,)})
    calls = []

    def called(command, **kwargs):
        calls.append(command)
        return SimpleNamespace(returncode=3 if failing and failing in command[1] else 0)

    monkeypatch.setattr(subprocess, "run", called)
    failing = "N23_finetune"
    with pytest.raises(UserError, match=r"SIMD_strength_1_seed_1: train/N23_finetune.py.*exit code 3"):
        simulated_benchmark.execute(study, tmp_path)
    assert len(calls) == 2 * 4 + 2 + 4
    failing, calls[:] = None, []
    simulated_benchmark.execute(study, tmp_path)
    assert [command[1] for command in calls] == [
        "train/N23SIMD.py", "test/N23SIMD.py", "test/N23SIMD_SO.py", "train/N23_finetune.py",
    ]  # fmt: skip
    assert all(f"train.seed={1}" in command for command in calls)


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
        config.load(simulated_benchmark.Benchmark, "simulated_benchmark", overrides=[change])


@pytest.mark.slow
def test_the_command_runs_from_simulation_to_table(tmp_path):
    arguments = ["--quick", "--results", str(tmp_path), "--set", f"data={tmp_path / 'data'}"]
    assert simulated_benchmark.main(arguments) is None
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rows"]["SIMD"]["n"] == 30 and len(summary["verdicts"]) == 9
