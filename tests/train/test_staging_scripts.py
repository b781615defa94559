"""train/SIStaging.py and test/SIStagingtest.py: resume, class weights, and a cohort with trouble in it."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import training_runs as runs

from sleep_interpreter.data.formats.tfrecords import STAGING, write_records
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.model.registry import build_ensemble
from sleep_interpreter.train.engine.member_trainer import MemberTrainer
from sleep_interpreter.train.evaluation import staging_evaluation
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle

SMALL = [
    "--quick", "--set", "model.kernels=[20]", "--set", "model.stride=500", "--set", "model.map_filters=8",
    "--set", "model.branch_filters=2", "--set", "model.block_filters=2",
]  # fmt: skip
"""A network that compiles in seconds."""
SETTINGS = [word for word in SMALL if "=" in word]


def windows(n, seed=0):
    """Random z-scored windows (n, 3, 15000)."""
    x = np.random.default_rng(seed).standard_normal((n, 3, 15000)).astype(np.float32)
    return (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)


def write_night(root, number, epochs, change=None):
    """A staging test subject with expert stages `epochs`; `change` spoils its windows in place."""
    count = max(0, 10 * len(epochs) - 9)
    data = windows(count, number) if count else []
    if change is not None:
        change(data)
    folder = root / f"SI Staging/Test/subject_test_{number}"
    content = [{"label": int(epochs[i // 10]), "data": data[i], "simulated": True} for i in range(count)]
    write_pickle(content, folder / f"Whole_{number}.pickle")
    write_pickle([int(epoch) for epoch in epochs], folder / f"raw_{number}.pickle")
    return folder / f"Whole_{number}.pickle"


def untrained(path):
    """Save a small stager that has learnt nothing; return its path."""
    settings = config.load(Experiment, "SIStaging", quick=True, overrides=SETTINGS)
    checkpoint.save(build_ensemble(settings.model, 1, network="SIStaging"), path, simulated=True)
    return path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two training subjects of 13 and 9 windows, and test subjects most of which are in some trouble."""
    root = tmp_path_factory.mktemp("staging")
    for subject, count in ((0, 13), (1, 9)):
        codes = np.arange(count) % 4
        records = [
            {
                "category_name": np.eye(4, dtype=np.float32)[code],
                "feature_label": np.array([code], np.int32),
                "feature_data": window,
            }
            for code, window in zip(codes, windows(count, 100 + subject), strict=True)
        ]
        path = root / f"SI Staging/Train/subject_{subject}/Whole_{subject}.tfrecord"
        write_records(path, STAGING, records, simulated=True)
    write_night(root, 0, [0, 1, 2])
    write_night(root, 1, [0, 0, 0])  # all wake
    write_night(root, 2, [0, 1], lambda x: x.__setitem__((slice(None), 2), 0))  # EMG off all night
    write_night(root, 3, [])  # shorter than 30 s
    write_night(root, 4, [1, 2], lambda x: x.__setitem__((slice(3, 6), 0, 100), np.nan))
    damaged = write_night(root, 5, [1])
    damaged.write_bytes(damaged.read_bytes()[:5000])
    return root


def train(cohort, out, *arguments):
    return runs.call("train/SIStaging.py", *SMALL, "--data", cohort, "--results", out, *arguments)


def test_members_have_their_own_class_weights_and_keep_them_in_the_state():
    settings = config.load(Experiment, "SIStaging", quick=True, overrides=SETTINGS)
    trainer = MemberTrainer(settings, dropout=0.0, compiled=False)
    x, label = windows(4), np.eye(4, dtype=np.float32)
    losses, states = [], []
    for index in (0, 1):
        trainer.start(index)
        states.append(trainer.state())
        np.testing.assert_allclose(trainer.member_values["class_weights"].numpy(), settings.model.class_weights[index])
        weights = trainer.weights()
        losses.append(float(trainer.step((x, label))[0]))
    # The same weights under the other member's class weights give another loss.
    trainer.load_weights(weights)
    trainer.load_state(states[0] | {k: v for k, v in states[1].items() if "class_weights" not in k}, "state")
    other = float(trainer.step((x, label))[0])
    assert abs(other - losses[1]) > 1e-5
    trainer.load_state(states[1], "state")
    assert float(trainer.step((x, label))[0]) == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.slow
def test_training_goes_on_in_the_same_bits(cohort, tmp_path):
    assert train(cohort, tmp_path / "straight") == 0
    assert train(cohort, tmp_path / "halted", "--set", "train.epochs=1") == 0
    assert train(cohort, tmp_path / "halted") == 0
    folder = "Staging checkpoint/SIStaging"
    whole, joined = (tmp_path / run / folder for run in ("straight", "halted"))
    assert runs.same(whole / "ensemble.npz", joined / "ensemble.npz")
    log = pd.read_csv(whole / "log.csv")
    assert log["member"].tolist() == [0, 0, 1, 1] and np.isfinite(log["loss"]).all()
    assert (whole / "training.png").stat().st_size > 10_000
    notes = json.loads((whole / "run.json").read_text())
    assert notes["simulated"] and notes["training_trials"] == 22


@pytest.mark.slow
def test_validation_subjects_and_shuffled_labels(cohort, tmp_path):
    options = ["--members", "1", "--set", "train.epochs=1"]
    assert train(cohort, tmp_path, *options, "--validation-subjects", "1", "--shuffle-labels") == 0
    folder = tmp_path / "Staging checkpoint" / "SIStaging_shuffled"
    notes = json.loads((folder / "run.json").read_text())
    assert len(notes["validation_subjects"]) == 1 and notes["labels_shuffled"]
    assert "validation_top1" in (folder / "log.csv").read_text()


def test_shuffling_permutes_labels_within_subjects_alone(cohort):
    from sleep_interpreter.data.formats.staging_windows import StagingWindows

    plain, shuffled = StagingWindows(cohort), StagingWindows(cohort, shuffle_seed=3)
    codes = [np.array([w.read(i)["label"].argmax() for i in range(22)]) for w in (plain, shuffled)]
    assert (codes[0] != codes[1]).any()
    for own in (slice(0, 13), slice(13, 22)):
        assert sorted(codes[0][own]) == sorted(codes[1][own])
    np.testing.assert_array_equal(plain.read(5)["window"], shuffled.read(5)["window"])
    assert StagingWindows(cohort, only=["subject_1"]).files == plain.files[1:]


def test_a_cohort_with_trouble_is_evaluated_to_its_end(cohort, tmp_path):
    options = ["--data", cohort, "--results", tmp_path, "--checkpoint", untrained(tmp_path / "stager.npz")]
    assert runs.call("test/SIStagingtest.py", *SMALL, *options) == 0
    folder = tmp_path / "SIStagingtest"
    summary = json.loads((folder / "summary.json").read_text())
    reasons = {row["file"].split("/")[-1]: row["reason"] for row in summary["failures"]}
    assert list(reasons) == ["Whole_2.pickle", "Whole_3.pickle", "Whole_5.pickle"]
    assert "EMG is flat (11 windows)" in reasons["Whole_2.pickle"]
    assert "shorter than 30 s" in reasons["Whole_3.pickle"]
    rows = summary["subjects"]
    assert list(rows) == ["subject_test_0", "subject_test_1", "subject_test_4"] and summary["simulated"]
    assert rows["subject_test_1"]["absent_stages"] == ["N2", "N3", "R"]
    assert rows["subject_test_1"]["epochs"]["n"] == 3
    assert rows["subject_test_4"]["unknown"] == {
        "share": pytest.approx(3 / 11),
        "reasons": {"EEG holds samples that are not finite": 3},
    }
    grid = summary["overall"]["grid"]
    assert grid["n"] == 30 + 30 + 20 - 3 and np.sum(grid["confusion"]) == grid["n"]
    assert set(summary["latency"]) == {"1", "0.5", "0.2", "0.1"} and summary["latency"]["1"]["n"] == 3
    stored = read_pickle(tmp_path / "SIStagingtest.pickle")["subject_test_0"]
    assert stored["probability"].shape == (30, 4) and stored["label"].tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert (stored["probability"][-9:] == stored["probability"][-10]).all(), "the published padding"
    np.testing.assert_array_equal(stored["probability"].argmax(axis=1), stored["prediction"])
    table = pd.read_csv(folder / "predictions.csv")
    assert len(table) == 8 and table["YASA, whole night"].eq("unknown").all(), "YASA needs 5 min"
    figures = ("confusion_matrix", "latency", "reliability", "sleep_statistics", "gate", "nights/subject_test_4")
    assert all((folder / f"{name}.png").stat().st_size > 5000 for name in figures)


@pytest.mark.usefixtures("undrawn")
def test_figures_are_of_this_run_and_one_that_fails_leaves_the_earlier_results(tmp_path, call_script, monkeypatch):
    for subject in (0, 1):
        write_night(tmp_path, subject, [0, 1, 2])
    options = ["--data", tmp_path, "--results", tmp_path, "--checkpoint", untrained(tmp_path / "stager.npz")]
    folder = tmp_path / "SIStagingtest"

    def there():
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    code, err = call_script("test/SIStagingtest.py", *SMALL, *options)
    assert code == 0, err
    assert len(list((folder / "nights").iterdir())) == 2
    shutil.rmtree(tmp_path / "SI Staging" / "Test" / "subject_test_1")
    assert call_script("test/SIStagingtest.py", *SMALL, *options)[0] == 0
    assert [path.name for path in (folder / "nights").iterdir()] == ["subject_test_0.png"]
    before = there()

    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging_evaluation.plots_staging, "night_figure", full_disk)
    code, err = call_script("test/SIStagingtest.py", *SMALL, *options)
    assert code != 0 and "No space left" in err and "left out" not in err
    assert there() == before


@pytest.mark.usefixtures("undrawn")
def test_nights_that_change_while_others_are_staged_are_refused(tmp_path, call_script, monkeypatch):
    for subject in (0, 1):
        write_night(tmp_path, subject, [0, 1, 2])
    options = ["--data", tmp_path, "--results", tmp_path, "--checkpoint", untrained(tmp_path / "stager.npz")]
    stage_night = staging_evaluation.stage_night

    def changed_meanwhile(subject, *words):
        if subject.name == "subject_test_0":
            write_night(tmp_path, 1, [2, 1, 0], lambda x: x.__imul__(2))
        return stage_night(subject, *words)

    monkeypatch.setattr(staging_evaluation, "stage_night", changed_meanwhile)
    code, err = call_script("test/SIStagingtest.py", *SMALL, *options)
    assert code == 2 and "Whole_1.pickle: has changed while it was in use" in err
    assert not (tmp_path / "SIStagingtest" / "summary.json").exists()


def test_nothing_that_can_be_staged_is_one_error(cohort, tmp_path, call_script):
    write_night(tmp_path, 2, [0, 1], lambda x: x.__setitem__((slice(None), 0), 0))
    options = ["--data", tmp_path, "--results", tmp_path, "--checkpoint", untrained(tmp_path / "stager.npz")]
    code, err = call_script("test/SIStagingtest.py", *SMALL, *options)
    assert code == 2
    runs.one_sentence(err, "none of 1 subjects could be staged", "EEG is flat (11 windows)")


def test_what_nobody_scored_is_no_truth(tmp_path):
    write_night(tmp_path, 0, [0, -1, 2])
    write_night(tmp_path, 1, [-1, -1])
    options = ["--data", tmp_path, "--results", tmp_path / "r", "--checkpoint", untrained(tmp_path / "stager.npz")]
    assert runs.call("test/SIStagingtest.py", *SMALL, *options) == 0
    folder = tmp_path / "r/SIStagingtest"
    summary = json.loads((folder / "summary.json").read_text())
    counts = {name: (row["epochs"]["n"], row["grid"]["n"]) for name, row in summary["subjects"].items()}
    assert counts == {"subject_test_0": (2, 20), "subject_test_1": (0, 0)}
    assert summary["subjects"]["subject_test_0"]["absent_stages"] == ["N2", "R"]
    assert summary["latency"]["1"]["n"] == 0 and np.sum(summary["overall"]["epochs"]["confusion"]) == 2
    table = pd.read_csv(folder / "predictions.csv")
    assert table.expert.tolist() == ["W/N1", "unknown", "N3", "unknown", "unknown"]
