"""Data that can be read and cannot be right: said by check.py, and in a line by test and train scripts."""

import pickle
import shutil

import evaluation_data as made
import numpy as np
import pytest

from sleep_interpreter.data.formats import plausibility
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS, read_so_groups
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.tfrecords import sleep_schema, write_records
from sleep_interpreter.data.formats.training_trials import TrainingTrials
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


def one_signal(trials):
    for trial in trials:
        trial["Sleep_EEG"][:] = trial["Sleep_EEG"][0]


def two_channels_of_one_signal(trials):
    for trial in trials[:5]:
        trial["Sleep_EEG"][3] = trial["Sleep_EEG"][9]


def one_trial(trials):
    for trial in trials:
        trial["Sleep_EEG"] = trials[0]["Sleep_EEG"][:, :: -1 if trial["data_type"] == "test" else 1].copy()


def stored_twice(trials):
    trials += [dict(trial) for trial in trials if trial["data_type"] == "train"]


def far_too_large(trials):
    for trial in trials:
        trial["Sleep_EEG"][published().channels.index("Cz")] *= 1e7


def far_too_small(trials):
    for trial in trials:
        trial["Sleep_EEG"][published().channels.index("Cz")] *= 1e-6


SPOILT = [
    (flat_trials, "2 of 30 test trials are flat in all channels", "2 sleep trials are flat in all channels"),
    (flat_channel, "Cz stand still in all test trials", "Cz stand still in all its sleep trials"),
    (flat_now_and_then, "1 of 30 test trials have a flat channel", None),
    (copied, "copies of the same subject's train or val trials (subject_test_0 3)", "3 of its test trials are copies"),
    (copied_by_another_program, "train or val trials (subject_test_0 3)", "3 of its test trials are copies"),
    (
        one_signal,
        "and more have the signal of another channel in all test trials (subject_test_0)",
        "have the signal of",
    ),
    (two_channels_of_one_signal, "5 of 30 test trials have channels of one signal (subject_test_0)", None),
    (one_trial, "trials are copies of another one of the same subject (subject_test_0 28)", None),
    (stored_twice, "trials are copies of another one of the same subject (subject_test_0 10)", None),
    (far_too_large, "Cz of test trials is over 1000 times larger than others", "Cz of its sleep trials is over 1000"),
    (far_too_small, "Cz of test trials is over 1000 times smaller than others", "Cz of its sleep trials is over 1000"),
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


def test_two_subjects_of_the_same_trials_are_said(tmp_path):
    data = folder(tmp_path, lambda trials: None)
    place = data / "SI Main Test"
    shutil.copytree(place / "subject_test_0", place / "subject_test_1")
    (said,) = plausibility.of_subjects(read_test_subjects(data))
    assert "test subjects have the same trials (subject_test_1 and subject_test_0 30)" in said
    (problem,) = survey_folder(data).problems
    assert "30 of its sleep trials are in" in problem.reason and "subject_test_0" in problem.reason


def test_the_same_trials_in_several_groups_are_said(tmp_path):
    content = made.so_content(dict.fromkeys(SO_GROUPS, 4), np.random.default_rng(1))
    right = tmp_path / "right" / "SI Main Test" / "subject_test_0" / "SO_data.pickle"
    wrong = tmp_path / "wrong" / "SI Main Test" / "subject_test_0" / "SO_data.pickle"
    for path in (right, wrong):
        path.parent.mkdir(parents=True)
        path.write_bytes(pickle.dumps(content))
        content |= {name: content["Down"] for name in SO_GROUPS}
    assert plausibility.of_subjects(read_so_groups(tmp_path / "right")) == []
    (said,) = plausibility.of_subjects(read_so_groups(tmp_path / "wrong"))
    assert "the same trials stand in several groups (subject_test_0 4)" in said
    assert survey_folder(tmp_path / "right").problems == []
    assert [p.reason for p in survey_folder(tmp_path / "wrong").problems] == [
        "4 of its trials stand in several groups; a cue has one phase"
    ]


def test_microvolts_that_are_volts_are_said():
    eeg = np.random.default_rng(0).standard_normal((3, 50, 4)) * 2e-5
    (said,) = plausibility.of_domain(eeg, "abcd", "trials", "uV")
    assert "the typical SD of trials is 1.96e-05" in said and "another unit" in said
    assert plausibility.of_domain(1e6 * eeg, "abcd", "trials", "uV") == []


def test_trials_that_were_trained_on_are_known_by_their_content(tmp_path):
    """Whatever the subject is called now; of other trials, and of a checkpoint that does not say, nothing is said."""
    (subject,) = read_test_subjects(folder(tmp_path, lambda trials: None))
    own = plausibility.sampled(subject.sleep[plausibility.spread_over(len(subject))])
    assert len(own) == plausibility.SAMPLED
    (said,) = plausibility.of_training({plausibility.DIGESTS: {"subject_7": own}}, [subject])
    assert "subject_test_0 those of subject_7): this is no test" in said
    assert plausibility.of_training({plausibility.DIGESTS: {"subject_7": ["0" * 16]}}, [subject]) == []
    assert plausibility.of_training({}, [subject]) == []
    flat_ones = np.zeros((4, 200, 55), np.float32)
    assert plausibility.sampled(flat_ones) == [] and plausibility.spread_over(0) == []


def test_records_and_pickles_of_the_same_trials_are_known_as_such(tmp_path):
    data = folder(tmp_path, lambda trials: None)
    trials = pickle.loads((data / "SI Main Test" / "subject_test_0" / "N2N3_data.pickle").read_bytes())
    records = [
        {
            "category_name": np.eye(15, dtype=np.float32)[made.ITEMS.index(trial["category"])],
            "feature_Sleep_EEG": trial["Sleep_EEG"],
        }
        for trial in trials
    ]
    place = data / "SI Main Train_tfrecords" / "N2N3" / "sleep_subject_9.tfrecord"
    place.parent.mkdir(parents=True)
    write_records(place, sleep_schema(published()), records)
    digests = TrainingTrials(data, awake=False).sampled()
    (said,) = plausibility.of_training({plausibility.DIGESTS: digests}, read_test_subjects(data))
    assert "subject_test_0 those of subject_9): this is no test" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda eeg: np.repeat(eeg[..., :1], 3, axis=2), "have the signal of another channel in all training trials"),
        (lambda eeg: np.repeat(eeg[:1], 8, axis=0), "7 of 8 training trials are copies of another one"),
        (lambda eeg: eeg * [1, 1e7, 1], "Cz of training trials is over 1000 times larger"),
        (lambda eeg: eeg * 1e-6, "are in another unit"),
        (lambda eeg: eeg, ""),
    ],
)
def test_a_training_says_what_check_says(change, said):
    watched = plausibility.Watched("sleep", ["Fz", "Cz", "Pz"], "uV")
    eeg = change(np.random.default_rng(0).standard_normal((8, 20, 3)))
    assert len(list(watched.watch([{"sleep": eeg[:4]}, {"sleep": eeg[4:]}]))) == 2
    assert said in watched.remark and bool(said) == bool(watched.remark)


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
