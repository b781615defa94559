"""Data that can be read and cannot be right: said by check.py, and in a line by test and train scripts."""

import pickle
import shutil

import evaluation_data as made
import numpy as np
import pytest

from sleep_interpreter.data.formats import plausibility
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.inventory.survey import survey_folder
from sleep_interpreter.utils.core.data_card import published


def folder(tmp_path, change):
    """Write a data set of one test subject whose trials `change` spoils."""
    trials = made.trials(30, np.random.default_rng(1))
    change(trials)
    path = tmp_path / "data" / "SI Main Test" / "subject_test_0" / "N2N3_data.pickle"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(trials))
    return tmp_path / "data"


def flat_trials(trials):
    for trial in trials[3:5]:
        trial["Sleep_EEG"][:] = 0.7


def flat_channel(trials):
    for trial in trials:
        trial["Sleep_EEG"][published().channels.index("Cz")] = 0.0


def flat_now_and_then(trials):
    trials[7]["Sleep_EEG"][4] = 1.0


def copied(trials):
    for part in ("test", "train"):
        assert trials[{"train": 0, "test": 2}[part]]["data_type"] == part
    for place in (2, 5, 8):
        trials[place]["Sleep_EEG"] = trials[place - 2]["Sleep_EEG"].copy()


def copied_by_another_program(trials):
    for place in (2, 5, 8):
        trials[place]["Sleep_EEG"] = np.round(0.4 * trials[place - 2]["Sleep_EEG"], 1)


SPOILT = [
    (flat_trials, "2 of 30 test trials are flat in all channels", "2 sleep trials are flat in all channels"),
    (flat_channel, "Cz stand still in all test trials", "Cz stand still in all its sleep trials"),
    (flat_now_and_then, "1 of 30 test trials have a flat channel", None),
    (copied, "copies of the same subject's train or val trials (subject_test_0 3)", "3 of its test trials are copies"),
    (copied_by_another_program, "train or val trials (subject_test_0 3)", "3 of its test trials are copies"),
]


@pytest.mark.parametrize(("change", "said", "checked"), SPOILT)
def test_what_cannot_be_right_with_test_trials_is_said(tmp_path, change, said, checked):
    data = folder(tmp_path, change)
    found = plausibility.of_subjects(read_test_subjects(data))
    assert len(found) == 1 and said in found[0]
    problems = [problem.reason for problem in survey_folder(data).problems]
    assert (checked is None and not problems) or any(checked in reason for reason in problems)


def test_right_trials_have_no_remark(tmp_path):
    data = folder(tmp_path, lambda trials: None)
    assert plausibility.of_subjects(read_test_subjects(data)) == [] and survey_folder(data).problems == []


def test_a_test_script_says_it_in_its_report(tmp_path, call_script, caplog):
    data = folder(tmp_path, copied)
    checkpoint = made.tiny_checkpoint(tmp_path / "a.npz")
    options = ["--quick", "--set", "evaluate.bootstrap=100", "--set", "evaluate.permutations=100"]
    code, error = call_script(
        "test/N23SIMD.py", "--checkpoint", checkpoint, "--data", data, "--results", tmp_path, *options
    )
    assert code == 0, error
    assert "WARNING: test trials are copies" in caplog.text
    assert "test trials are copies" in (tmp_path / "N23SIMD" / "summary.json").read_text()


def test_trials_end_where_the_nan_begin():
    eeg = np.random.default_rng(0).standard_normal((3, 50, 4)).astype(np.float32)
    eeg[1, 20:] = np.nan
    eeg[2, :20, 2] = 5.0
    eeg[2, 20:] = np.nan
    still = plausibility.flat(eeg)
    assert still.tolist() == [[False] * 4, [False] * 4, [False, False, True, False]]


def test_a_training_looks_at_its_first_epoch_and_at_its_items():
    random = np.random.default_rng(0)
    batches = [
        {"sleep": random.standard_normal((4, 20, 3)), "label": np.eye(5)[[1, 1, 1, 1]]},
        {"sleep": np.ones((4, 20, 3)), "label": np.eye(5)[[1, 1, 1, 1]]},
    ]
    watched = plausibility.Watched("sleep", ["Fz", "Cz", "Pz"])
    assert list(watched.watch(batches)) == batches
    assert watched.remark.startswith("4 of 8 training trials are flat in all channels; `python data/check.py`")
    assert plausibility.one_item(batches) == 1
    assert plausibility.one_item([*batches, {"label": np.eye(5)[[2]]}]) is None
    assert plausibility.Watched("sleep", ["Fz"]).remark == ""


@pytest.mark.slow
def test_a_training_set_of_one_item_is_said_before_it_is_trained_on(tmp_path, call_script, caplog):
    from tests.training_runs import SMALL, simulate

    data = simulate(tmp_path / "simulated")
    own = shutil.copytree(data, tmp_path / "own")
    files = sorted(own.glob("SI Main Train_tfrecords/N2N3/sleep*"))
    for file in files:
        keep_one_item(file)
    code, error = call_script("train/N23SISD.py", *SMALL, "--data", own, "--results", tmp_path / "r")
    assert code == 0, error
    assert "training trials are of alarm: nothing can be learnt" in caplog.text
    reasons = [problem.reason for problem in survey_folder(own).problems]
    assert any("are of 'alarm': nothing can be learnt" in reason for reason in reasons)


def keep_one_item(file):
    import tensorflow as tf

    from sleep_interpreter.data.formats.tfrecords import RecordFile, sleep_schema

    records = [bytes(r.numpy()) for r in tf.data.TFRecordDataset(str(file))]
    stored = RecordFile(file, sleep_schema(published()))
    labels = [int(np.argmax(stored.read(k)["category_name"])) for k in range(len(records))]
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record, label in zip(records, labels, strict=True):
            if label == 0:
                writer.write(record)
