"""Training trials: choice of subjects, shuffled labels, bad records left out, unfinished simulations."""

import json
import shutil
import tracemalloc

import numpy as np
import pytest

from sleep_interpreter.data.formats.slow_oscillation_trials import read_so_groups
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.tfrecords import RecordFile, sleep_schema, whole_schema, write_records
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.provenance import SIDECAR, UNFINISHED_SIDECAR
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle

SLEEP = sleep_schema(published())
WHOLE = whole_schema(published())

SLEEP_FOLDER = "SI Main Train_tfrecords/N2N3"


def _epoch(trials, seed=0, epoch=0):
    batches = list(trials.batches(4, seed=seed, epoch=epoch))
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def _cohort(root, sizes, schema=SLEEP):
    """Write training files of random trials whose item is (subject + 2 * place) % 15."""
    random = np.random.default_rng(5)
    for number, size in enumerate(sizes):
        records = [
            {
                "category_name": np.eye(15, dtype=np.float32)[(number + 2 * place) % 15],
                **{
                    name: random.standard_normal(shape, np.float32)
                    for name, (shape, *_) in schema.items()
                    if name != "category_name"
                },
            }
            for place in range(size)
        ]
        kind = "sleep" if schema is SLEEP else "Whole"
        write_records(root / SLEEP_FOLDER / f"{kind}_subject_{number}.tfrecord", schema, records)
    return root


@pytest.fixture(scope="module")
def sleepers(tmp_path_factory):
    """Root of four made-up subjects with 20, 8, 30 and 15 sleep trials; read only."""
    return _cohort(tmp_path_factory.mktemp("sleepers"), (20, 8, 30, 15))


@pytest.mark.parametrize(
    ("choice", "subjects"),
    [
        ({"only": ["subject_2", "subject_0"]}, ["subject_0", "subject_2"]),
        ({"only": "subject_1"}, ["subject_1"]),
        ({"exclude": ["subject_1"]}, ["subject_0", "subject_2", "subject_3"]),
        ({"only": ["subject_0", "subject_1"], "exclude": ("subject_1",)}, ["subject_0"]),
        ({"exclude": None}, ["subject_0", "subject_1", "subject_2", "subject_3"]),
    ],
)
def test_only_the_subjects_asked_for(sleepers, choice, subjects):
    sizes = {"subject_0": 20, "subject_1": 8, "subject_2": 30, "subject_3": 15}
    trials = TrainingTrials(sleepers, awake=False, **choice)
    assert trials.subjects == subjects
    assert [file.stem for file in trials.files] == [f"sleep_{name}" for name in subjects]
    assert len(trials) == len(_epoch(trials)["label"]) == sum(sizes[name] for name in subjects)


@pytest.mark.parametrize("choice", [{"only": ["subjct_1"]}, {"exclude": ["subjct_1"]}])
def test_unknown_subject_names_the_near_ones(sleepers, choice):
    with pytest.raises(UserError, match=r"N2N3: no subject 'subjct_1'; did you mean subject_1"):
        TrainingTrials(sleepers, awake=False, **choice)


@pytest.mark.parametrize("choice", [{"only": []}, {"only": "subject_1", "exclude": "subject_1"}])
def test_no_subject_left(sleepers, choice):
    with pytest.raises(UserError, match="no subject is left of 4"):
        TrainingTrials(sleepers, awake=False, **choice)


def test_a_subject_left_out_may_be_damaged(sleepers, tmp_path):
    shutil.copytree(sleepers, tmp_path, dirs_exist_ok=True)
    (tmp_path / SLEEP_FOLDER / "sleep_subject_1.tfrecord").write_bytes(b"nothing")
    assert len(TrainingTrials(tmp_path, awake=False, exclude=["subject_1"])) == 65


@pytest.mark.parametrize(("stage", "awake"), [("N2N3", True), ("N2N3", False), ("REM", False)])
def test_shuffled_labels_leave_signals_and_draws_alone(cohort, stage, awake):
    plain = _epoch(TrainingTrials(cohort, stage, awake))
    shuffled = _epoch(TrainingTrials(cohort, stage, awake, shuffle_seed=3))
    for key in set(plain) - {"label"}:
        assert np.array_equal(plain[key], shuffled[key])
    assert not np.array_equal(plain["label"], shuffled["label"])
    assert shuffled["label"].dtype == np.float32
    assert (shuffled["label"].sum(axis=1) == 1).all()


def test_labels_are_shuffled_within_each_subject(sleepers):
    plain = TrainingTrials(sleepers, awake=False)
    shuffled = TrainingTrials(sleepers, awake=False, shuffle_seed=3)
    start = 0
    for size in (20, 8, 30, 15):
        places = range(start, start + size)
        before = [int(plain.read(i)["label"].argmax()) for i in places]
        after = [int(shuffled.read(i)["label"].argmax()) for i in places]
        assert sorted(before) == sorted(after)
        assert sum(b == a for b, a in zip(before, after, strict=True)) < size / 2
        start += size


def test_shuffled_labels_depend_on_seed_and_subject_only(sleepers):
    def labels(seed, **choice):
        trials = TrainingTrials(sleepers, awake=False, shuffle_seed=seed, **choice)
        return [int(trials.read(i)["label"].argmax()) for i in range(len(trials))]

    everyone = labels(3)
    assert labels(3) == everyone
    assert labels(3, only="subject_2") == everyone[28:58]
    assert labels(4) != everyone
    # Subjects 0 and 3 hold the same sequence of items up to a shift; their permutations differ.
    assert [(item - 3) % 15 for item in everyone[58:]] != everyone[:15]
    trials = TrainingTrials(sleepers, awake=False, shuffle_seed=3)
    one, other = (_epoch(trials, epoch=epoch) for epoch in (0, 1))
    by_signal = {sleep.tobytes(): label.argmax() for sleep, label in zip(*one.values(), strict=True)}
    assert all(by_signal[sleep.tobytes()] == label.argmax() for sleep, label in zip(*other.values(), strict=True))


def test_the_labels_pass_does_not_read_the_signals(cohort, monkeypatch):
    def refuse(*_):
        raise AssertionError("the whole record was read")

    monkeypatch.setattr(RecordFile, "payload", refuse)
    assert len(TrainingTrials(cohort, shuffle_seed=1)) == 12


@pytest.mark.parametrize("seed", [-1, 1.5, "3", True])
def test_shuffle_seed_that_is_none(sleepers, seed):
    with pytest.raises(UserError, match="shuffle_seed"):
        TrainingTrials(sleepers, awake=False, shuffle_seed=seed)


def _spoiled(cohort, root):
    """Copy the Whole file of subject 0 with four bad records of six."""
    source = TrainingTrials(cohort).files[0]
    records = [{name: value.copy() for name, value in RecordFile(source, WHOLE).read(i).items()} for i in range(6)]
    records[0]["feature_Sleep_EEG"][3, 7] = np.nan
    records[2]["category_name"][:] = 0
    records[3]["feature_awake_audio_erp"][14, 0, 0] = np.inf
    file = root / SLEEP_FOLDER / "Whole_subject_0.tfrecord"
    write_records(file, WHOLE, records)
    damaged = bytearray(file.read_bytes())
    damaged[-1000] ^= 1
    file.write_bytes(damaged)
    return file


def test_bad_records_are_left_out_and_listed(cohort, tmp_path, caplog):
    file = _spoiled(cohort, tmp_path)
    trials = TrainingTrials(tmp_path, skip_bad=True)
    assert len(trials) == 2
    assert [(entry["file"], entry["record"]) for entry in trials.skipped] == [
        (str(file), number) for number in (0, 2, 3, 5)
    ]
    assert {tuple(entry) for entry in trials.skipped} == {("file", "record", "reason")}
    reasons = [entry["reason"] for entry in trials.skipped]
    assert reasons[0].startswith("field 'feature_Sleep_EEG': 1 of 11000 values are NaN")
    assert reasons[1].startswith("field 'category_name': expected a one-hot label")
    assert reasons[2].startswith("field 'feature_awake_audio_erp': 1 of 66000")
    assert "checksum" in reasons[3]
    assert "4 bad records left out, 2 kept" in caplog.text
    json.dumps(trials.skipped)
    good = [RecordFile(file, WHOLE).read(place)["feature_Sleep_EEG"].T for place in (1, 4)]
    assert all(np.array_equal(trials.read(i, 0)["sleep"], good[i]) for i in range(2))
    first, again = _epoch(trials, 1, 2), _epoch(TrainingTrials(tmp_path, skip_bad=True), 1, 2)
    assert len(first["label"]) == 2
    assert all(np.array_equal(first[key], again[key]) for key in first)


def test_without_skip_bad_the_first_bad_record_raises(cohort, tmp_path):
    _spoiled(cohort, tmp_path)
    trials = TrainingTrials(tmp_path)
    assert len(trials) == 6 and trials.skipped == []
    with pytest.raises(UserError, match=r"Whole_subject_0\.tfrecord, record 0, field 'feature_Sleep_EEG'"):
        trials.read(0, 0)
    with pytest.raises(UserError, match=r"Whole_subject_0\.tfrecord, record 5: .*checksum"):
        trials.read(5, 0)


@pytest.mark.parametrize("kind", ["truncated", "length"])
def test_the_records_before_a_damage_of_the_chain_are_kept(sleepers, tmp_path, kind):
    shutil.copytree(sleepers, tmp_path, dirs_exist_ok=True)
    file = tmp_path / SLEEP_FOLDER / "sleep_subject_2.tfrecord"
    whole = file.read_bytes()
    size = len(whole) // 30
    damaged = bytearray(whole[: 10 * size + 5] if kind == "truncated" else whole)
    if kind == "length":
        damaged[10 * size] ^= 1
    file.write_bytes(damaged)
    trials = TrainingTrials(tmp_path, awake=False, skip_bad=True)
    assert len(trials) == 53
    (entry,) = trials.skipped
    assert (entry["file"], entry["record"]) == (str(file), 10)
    assert {"truncated": "truncated", "length": "checksum"}[kind] in entry["reason"]
    with pytest.raises(UserError, match=r"sleep_subject_2\.tfrecord, record 10: "):
        TrainingTrials(tmp_path, awake=False)


def test_bad_trials_of_pickles_are_left_out_too(cohort, tmp_path):
    source = TrainingTrials(cohort, "REM", awake=False).files[0]
    content = read_pickle(source)
    content[1] = {"category": "kiwwi", "Sleep_EEG": content[1]["Sleep_EEG"]}
    file = tmp_path / "SI Main Train_pickle/REM/sleep_subject_0.pickle"
    write_pickle([*content, None], file)
    trials = TrainingTrials(tmp_path, "REM", awake=False, skip_bad=True, shuffle_seed=1)
    assert len(trials) == len(content) - 1
    assert [entry["record"] for entry in trials.skipped] == [1, len(content)]
    assert "did you mean 'kiwi'" in trials.skipped[0]["reason"]
    assert np.array_equal(trials.read(1)["sleep"], content[2]["Sleep_EEG"].T)
    with pytest.raises(UserError, match=r"sleep_subject_0\.pickle, trial 1, field 'category'"):
        TrainingTrials(tmp_path, "REM", awake=False)


def test_nothing_good_at_all(tmp_path):
    eeg = np.full((55, 200), np.nan, np.float32)
    record = {"category_name": np.eye(15, dtype=np.float32)[0], "feature_Sleep_EEG": eeg}
    write_records(tmp_path / SLEEP_FOLDER / "sleep_subject_0.tfrecord", SLEEP, [record])
    with pytest.raises(UserError, match="its 1 files hold no good trial"):
        TrainingTrials(tmp_path, awake=False, skip_bad=True)


def test_subject_without_a_good_trial_is_named(sleepers, tmp_path, caplog):
    shutil.copytree(sleepers, tmp_path, dirs_exist_ok=True)
    (tmp_path / SLEEP_FOLDER / "sleep_subject_1.tfrecord").write_bytes(b"nothing of a record")
    assert len(TrainingTrials(tmp_path, awake=False, skip_bad=True)) == 65
    assert "no trial of subject_1 is left" in caplog.text


@pytest.mark.parametrize("read", [TrainingTrials, read_test_subjects, read_so_groups], ids=["training", "test", "SO"])
def test_unfinished_simulation_is_refused(cohort, tmp_path, read):
    shutil.copytree(cohort, tmp_path, dirs_exist_ok=True)
    (tmp_path / SIDECAR).rename(tmp_path / UNFINISHED_SIDECAR)
    with pytest.raises(UserError, match=r"not complete.*simulate\.py"):
        read(tmp_path)
    (tmp_path / SIDECAR).write_text("{}", encoding="utf-8")  # stopped after the very last file
    read(tmp_path)


def test_a_batch_is_all_that_is_held(tmp_path):
    root = _cohort(tmp_path, (48,), WHOLE)
    trials = TrainingTrials(root)
    list(trials.batches(8, seed=0, epoch=0))  # imports and caches
    tracemalloc.start()
    for _ in trials.batches(8, seed=0, epoch=1):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A batch, the one before, both as single trials, and one record: far from 48 trials of 0.57 MB.
    assert peak < 4 * 8 * 80_000 + 3 * 600_000


def test_wrong_scale_is_said_once_a_file(tmp_path, caplog):
    root = _cohort(tmp_path, (6, 6))
    file = root / SLEEP_FOLDER / "sleep_subject_1.tfrecord"
    records = [RecordFile(file, SLEEP).read(i) for i in range(6)]
    write_records(file, SLEEP, [{**r, "feature_Sleep_EEG": 40 * r["feature_Sleep_EEG"]} for r in records])
    for choice in ({}, {"skip_bad": True}):
        caplog.clear()
        _epoch(TrainingTrials(root, awake=False, **choice))
        (message,) = [record.getMessage() for record in caplog.records]
        assert "sleep_subject_1.tfrecord: its sleep trials reach 1" in message
        assert "within ±15" in message
