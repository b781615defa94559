"""train/N23SIMD.py and test/N23SIMD.py as a user runs them: from other folders, killed, wrongly called."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from utils.vocabulary import ITEMS

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--set", "members=1", "--set", "model.stem.filters=8", "--set", "model.d_model=8",
    "--set", "model.awake_samples=80", "--set", "model.sleep_encoder.ffn=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A freshly simulated data set."""
    folder = tmp_path_factory.mktemp("simulated") / "test"
    command = [sys.executable, str(ROOT / "data" / "simulate.py"), "--preset", "test", "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """Results of the quick training, run from another folder."""
    results = tmp_path_factory.mktemp("results")
    command = [sys.executable, str(ROOT / "train" / "N23SIMD.py"), "--quick", "--data", str(cohort)]
    done = subprocess.run(
        [*command, "--results", str(results)],
        cwd=results,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return results


def run_folder(results):
    return results / "Decoding checkpoint" / "N2N3_SIMD"


def arrays(path):
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files if name != "header.json"}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def test_quick_training_and_test(trained, cohort, run_script):
    folder = run_folder(trained)
    rows = pd.read_csv(folder / "log.csv")
    assert list(zip(rows["member"], rows["epoch"], strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    run = json.loads((folder / "run.json").read_text())
    assert run["simulated"] is True and run["seed"] == 1642 and len(run["data_fingerprint"]) == 64
    assert run["versions"]["tensorflow"] and (run["git"] is None or len(run["git"]) >= 40)
    assert (folder / "settings.yaml").exists() and (folder / "training.png").exists()

    done = run_script("test/N23SIMD.py", "--quick", "--data", cohort, "--results", trained, cwd=cohort)
    assert done.returncode == 0, done.stderr
    assert "simulated" in done.stdout and "chance 0.0667" in done.stdout
    summary = json.loads((trained / "N23SIMD" / "summary.json").read_text())
    assert summary["simulated"] is True
    overall = summary["overall"]
    assert overall["low"] <= overall["accuracy"] <= overall["high"] and overall["chance"] == 1 / 15
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
    assert set(table["item"]) <= set(ITEMS)
    assert table["correct"].sum() == hits
    for figure in ("accuracy.png", "confusion_matrix.png"):
        assert (trained / "N23SIMD" / figure).stat().st_size > 5000


def test_running_again_changes_nothing(trained, cohort, run_script):
    before = (run_folder(trained) / "ensemble.npz").read_bytes()
    done = run_script("train/N23SIMD.py", "--quick", "--data", cohort, "--results", trained)
    assert done.returncode == 0 and "already trained" in done.stderr
    assert (run_folder(trained) / "ensemble.npz").read_bytes() == before


def test_fewer_epochs_and_broken_weights_are_refused(trained, cohort, tmp_path, call_script):
    places = ["--quick", "--data", cohort, "--results"]
    code, stderr = call_script("train/N23SIMD.py", *places, trained, "--set", "train.epochs=1")
    assert code == 2 and "was trained for 2 epochs, train.epochs asks for 1" in stderr
    one_step = [*TINY, "--set", "train.epochs=1", "--set", "train.batch_size=256"]
    exploding = [*one_step, "--set", "train.learning_rate=1e39"]
    code, stderr = call_script("train/N23SIMD.py", *places, tmp_path, *exploding)
    assert code == 2 and "no longer finite" in stderr
    assert not (run_folder(tmp_path) / "ensemble.npz").exists()
    code, stderr = call_script("train/N23SIMD.py", *places, tmp_path, "--set", "train.learning_rate=.inf")
    assert code == 2 and "finite" in stderr


def test_other_settings_do_not_overwrite_a_run(trained, cohort, run_script):
    done = run_script(
        "train/N23SIMD.py",
        "--quick",
        "--data",
        cohort,
        "--results",
        trained,
        "--set",
        "train.learning_rate=0.5",
    )
    assert done.returncode == 2
    assert "train.learning_rate (0.001 before, now 0.5)" in done.stderr and "--restart" in done.stderr


def test_a_stopped_training_goes_on_to_the_same_end(cohort, tmp_path, run_script):
    """Ctrl-C after the first epoch is on disk, run again: the same bits as an uninterrupted run.

    tests/scripts/test_training_validation.py does it with SIGKILL.
    """
    options = ["--quick", "--data", str(cohort), *TINY, "--set", "train.epochs=8"]
    whole = run_script("train/N23SIMD.py", *options, "--results", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    command = [
        sys.executable,
        str(ROOT / "train" / "N23SIMD.py"),
        *options,
        "--results",
        str(tmp_path / "cut"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    state = run_folder(tmp_path / "cut") / "member_0.npz"
    deadline = time.time() + 120
    while not state.exists() and time.time() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130, stderr
    assert not (run_folder(tmp_path / "cut") / "ensemble.npz").exists()
    again = run_script("train/N23SIMD.py", *options, "--results", tmp_path / "cut")
    assert again.returncode == 0 and "going on" in again.stderr
    for name in ("ensemble.npz", "member_0.npz"):
        assert same(
            arrays(run_folder(tmp_path / "whole") / name), arrays(run_folder(tmp_path / "cut") / name)
        )
    logs = [(run_folder(tmp_path / run) / "log.csv").read_text() for run in ("whole", "cut")]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_seed_matters_and_more_epochs_go_on(cohort, tmp_path, call_script):
    options = ["--quick", "--data", cohort, *TINY, "--set", "train.epochs=1"]
    for seed in ("1", "2"):
        place = ["--set", f"train.seed={seed}", "--results", tmp_path / seed]
        assert call_script("train/N23SIMD.py", *options, *place)[0] == 0
    assert not same(*(arrays(run_folder(tmp_path / s) / "ensemble.npz") for s in ("1", "2")))
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
        (
            "test/N23SIMD.py",
            ["--data", "{data}", "--checkpoint", "{stager}"],
            ["SIStaging", "expected N23SIMD"],
        ),
        ("train/N23SIMD.py", ["--config", "{tmp}/no.yaml"], ["no.yaml", "not found"]),
        ("train/N23SIMD.py", ["--config", "SIStaging"], ["network SIStaging", "this script is for N23SIMD"]),
        ("train/N23SIMD.py", ["--config", "realtime"], ["realtime.yaml", "'network' is missing"]),
        ("train/N23SIMD.py", ["--data", "{data}", "--results", "{file}/x"], ["Not a directory"]),
    ],
)
def test_wrong_calls_get_one_clear_line(script, arguments, words, cohort, stager, tmp_path, call_script):
    file = tmp_path / "file"
    file.touch()
    filled = [a.format(tmp=tmp_path, data=cohort, stager=stager, file=file) for a in arguments]
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
    import model
    from model import checkpoint

    path = tmp_path_factory.mktemp("stager") / "stager.npz"
    checkpoint.save(model.build("SIStaging", members=1, kernels=(50,)), path)
    return path


def test_hostile_test_pickle_is_refused(trained, tmp_path, run_script):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    folder = tmp_path / "SI Main Test" / "subject_test_0"
    folder.mkdir(parents=True)
    (folder / "N2N3_data.pickle").write_bytes(pickle.dumps([Evil()]))
    done = run_script("test/N23SIMD.py", "--quick", "--data", tmp_path, "--results", trained)
    assert done.returncode == 2 and "N2N3_data.pickle" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "script", ["train/N23SIMD.py", "test/N23SIMD.py", "data/simulate.py", "realtime/Main_Decode.py"]
)
def test_help_is_quick_and_imports_nothing_heavy(script):
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'mne', 'yasa', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
