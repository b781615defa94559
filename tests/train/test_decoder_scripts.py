"""train/N23SIMD.py and test/N23SIMD.py as a user runs them: from other folders, killed, wrongly called."""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import evaluation_data as made
import numpy as np
import pandas as pd
import pytest
import training_runs as runs
from training_runs import SMALL, same

from sleep_interpreter.train.settings import experiment
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.file_hashes import content_hash

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--set", "members=1", "--set", "model.stem.filters=8", "--set", "model.d_model=8",
    "--set", "model.awake_samples=80", "--set", "model.sleep_encoder.ffn=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """Results of a small training, run from another folder."""
    results = tmp_path_factory.mktemp("results")
    command = [sys.executable, str(ROOT / "train" / "N23SIMD.py"), *SMALL, "--data", str(cohort)]
    done = subprocess.run(
        [*command, "--results", str(results)], cwd=results, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return results


def run_folder(results):
    return results / "Decoding checkpoint" / "N2N3_SIMD"


def test_quick_training_and_test(trained, cohort, monkeypatch, capsys):
    folder = run_folder(trained)
    rows = pd.read_csv(folder / "log.csv")
    assert list(zip(rows["member"], rows["epoch"], strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    run = json.loads((folder / "run.json").read_text())
    assert run["simulated"] is True and run["seed"] == 1642 and len(run["data_fingerprint"]) == 64
    assert run["versions"]["tensorflow"] and (run["git"] is None or len(run["git"]) >= 40)
    assert (folder / "settings.yaml").exists() and (folder / "training.png").exists()

    monkeypatch.chdir(cohort)
    assert runs.call("test/N23SIMD.py", *SMALL, "--data", cohort, "--results", trained) == 0
    printed = capsys.readouterr().out
    summary = json.loads((trained / "N23SIMD" / "summary.json").read_text())
    assert summary["simulated"] is True
    assert "simulated" in printed and f"chance {summary['overall']['chance']:.4f}" in printed
    real = config.load(experiment.Experiment, folder / "settings.yaml")
    kept = experiment.differences(trained / "N23SIMD" / "settings.yaml", real)
    assert not [key for key in kept if key.startswith(("model", "members"))], "what was tested"
    assert summary["checkpoint_fingerprint"] == content_hash([run_folder(trained) / "ensemble.npz"])
    told = config.load(experiment.Experiment, run_folder(trained) / "settings.yaml")
    assert real.train == told.train, "the training's, not the defaults of the test"
    overall = summary["overall"]
    assert overall["low"] <= overall["accuracy"] <= overall["high"]
    assert overall["chance"] == made.chance_in(trained / "N23SIMD")
    table = pd.read_csv(trained / "N23SIMD" / "predictions.csv")
    assert len(table) == overall["n"] == sum(s["n"] for s in summary["subjects"].values())
    with (trained / "N23SIMD.pickle").open("rb") as handle:
        stored = pickle.load(handle)  # written by the line above
    hits = 0
    for subject, row in stored.items():
        assert row["probability"].shape == (len(row["label"]), 15)
        np.testing.assert_allclose(row["probability"].sum(axis=1), 1, atol=1e-5)
        hits += int(np.sum(row["prediction"] == row["label"]))
        assert summary["subjects"][subject]["hits"] == np.sum(row["prediction"] == row["label"])
    assert overall["pooled"] == pytest.approx(hits / overall["n"])
    assert set(table["item"]) <= set(published().item_names)
    assert table["correct"].sum() == hits
    for figure in ("accuracy.png", "confusion_matrix.png"):
        assert (trained / "N23SIMD" / figure).stat().st_size > 5000


def test_running_again_changes_nothing(trained, cohort, call_script, caplog):
    caplog.set_level(logging.INFO)
    before = (run_folder(trained) / "ensemble.npz").read_bytes()
    code, stderr = call_script("train/N23SIMD.py", *SMALL, "--data", cohort, "--results", trained)
    assert code == 0 and "already trained" in caplog.text, stderr
    assert (run_folder(trained) / "ensemble.npz").read_bytes() == before


@pytest.mark.slow
def test_fewer_epochs_and_broken_weights_are_refused(trained, cohort, tmp_path, call_script):
    places = [*SMALL, "--data", cohort, "--results"]
    code, stderr = call_script("train/N23SIMD.py", *places, trained, "--set", "train.epochs=1")
    assert code == 2 and "was trained for 2 epochs, train.epochs asks for 1" in stderr
    one_step = [*TINY, "--set", "train.epochs=1", "--set", "train.batch_size=256"]
    exploding = [*one_step, "--set", "train.learning_rate=1e39"]
    code, stderr = call_script("train/N23SISD.py", *places, tmp_path, *exploding)
    assert code == 2 and "no longer finite" in stderr
    assert not list(tmp_path.rglob("ensemble.npz"))
    code, stderr = call_script("train/N23SIMD.py", *places, tmp_path, "--set", "train.learning_rate=.inf")
    assert code == 2 and "finite" in stderr


def test_other_settings_do_not_overwrite_a_run(trained, cohort, call_script):
    places = [*SMALL, "--data", cohort, "--results", trained]
    code, stderr = call_script("train/N23SIMD.py", *places, "--set", "train.learning_rate=0.5")
    assert code == 2
    assert "train.learning_rate (0.001 before, now 0.5)" in stderr and "--restart" in stderr


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_end(trained, cohort, tmp_path, call_script, caplog):
    """Ctrl-C when the first epoch is on disk, run again: the same bits as the uninterrupted run.

    tests/train/test_training_validation.py does it with SIGKILL.
    """
    options = [*SMALL, "--data", cohort, "--results", tmp_path]
    state = ("sleep_interpreter.train.engine.run_folder", "RunFolder", "write_state")
    stderr = runs.kill_at(state, "train/N23SIMD.py", *options, nth=1, number=signal.SIGINT)
    assert "stopped by Ctrl-C" in stderr and "Traceback" not in stderr
    assert (run_folder(tmp_path) / "member_0.npz").exists()
    assert not (run_folder(tmp_path) / "ensemble.npz").exists()
    caplog.set_level(logging.INFO)
    code, stderr = call_script("train/N23SIMD.py", *options)
    assert code == 0 and "going on" in caplog.text and "epochs done by member: 1, 0 of 2" in caplog.text
    for name in ("ensemble.npz", "member_0.npz", "member_1.npz"):
        assert same(run_folder(trained) / name, run_folder(tmp_path) / name)
    logs = [(run_folder(place) / "log.csv").read_text() for place in (trained, tmp_path)]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_seed_matters_and_more_epochs_go_on(cohort, tmp_path, call_script):
    options = ["--quick", "--data", cohort, *TINY, "--set", "train.epochs=1"]
    for seed in ("1", "2"):
        place = ["--set", f"train.seed={seed}", "--results", tmp_path / seed]
        assert call_script("train/N23SIMD.py", *options, *place)[0] == 0
    assert not same(*(run_folder(tmp_path / seed) / "ensemble.npz" for seed in ("1", "2")))
    more = ["--set", "train.seed=1", "--set", "train.epochs=2", "--results", tmp_path / "1"]
    assert call_script("train/N23SIMD.py", *options, *more)[0] == 0
    rows = pd.read_csv(run_folder(tmp_path / "1") / "log.csv")
    assert list(rows["epoch"]) == [0, 1]


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("train/N23SIMD.py", ["--set", "train.epohs=1"], ["train.epohs", "train.epochs"]),
        ("train/N23SIMD.py", ["--data", "{tmp}"], ["Whole*", "data/simulate.py"]),
        ("test/N23SIMD.py", ["--data", "{tmp}"], ["subject_test", "data/simulate.py"]),
        ("test/N23SIMD.py", ["--data", "{data}"], ["no checkpoint of N23SIMD", "python train/N23SIMD.py"]),
        ("test/N23SIMD.py", ["--data", "{data}", "--checkpoint", "{tmp}/no.npz"], ["no.npz", "not found"]),
        ("test/N23SIMD.py", ["--data", "{data}", "--checkpoint", "{stager}"], ["SIStaging", "expected N23SIMD"]),
        ("train/N23SIMD.py", ["--config", "{tmp}/no.yaml"], ["no.yaml", "not found"]),
        ("train/N23SIMD.py", ["--config", "SIStaging"], ["network SIStaging", "this script is for N23SIMD"]),
        ("train/N23SIMD.py", ["--config", "realtime"], ["realtime.yaml", "'network' is missing"]),
    ],
)
def test_wrong_calls_get_one_clear_line(script, arguments, words, cohort, stager, tmp_path, call_script):
    filled = [a.format(tmp=tmp_path, data=cohort, stager=stager) for a in arguments]
    code, stderr = call_script(script, "--quick", "--results", tmp_path / "results", *filled)
    assert code == 2, stderr
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and all(word in last for word in words), last


def test_a_wrong_call_ends_with_code_2_and_no_traceback(run_script, tmp_path):
    done = run_script("train/N23SIMD.py", "--quick", "--set", "train.epohs=1", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: --set train.epohs=1: unknown key 'train.epohs'")


@pytest.fixture(scope="module")
def stager(tmp_path_factory):
    from sleep_interpreter import model
    from sleep_interpreter.model.checkpoints import checkpoint

    path = tmp_path_factory.mktemp("stager") / "stager.npz"
    checkpoint.save(model.build("SIStaging", members=1, kernels=(50,)), path)
    return path


def test_hostile_test_pickle_is_refused(trained, tmp_path, call_script):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    folder = tmp_path / "SI Main Test" / "subject_test_0"
    folder.mkdir(parents=True)
    (folder / "N2N3_data.pickle").write_bytes(pickle.dumps([Evil()]))
    code, stderr = call_script("test/N23SIMD.py", "--quick", "--data", tmp_path, "--results", trained)
    assert code == 2 and "N2N3_data.pickle" in stderr
    assert not (tmp_path / "ran").exists()


DECODERS = ("N23SIMD", "N23SISD", "REMSIMD", "REMSISD")
SCRIPTS = [
    *(f"{folder}/{name}.py" for folder in ("train", "test") for name in DECODERS),
    "train/N23_finetune.py", "train/REM_finetune.py", "test/N23SIMD_SO.py", "test/N23SIMD_retrained_SO.py",
    "data/check.py", "data/simulate.py", "realtime/Main_Decode.py",
]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_quick_and_imports_nothing_heavy(script):
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'mne', 'yasa', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
