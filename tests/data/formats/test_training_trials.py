"""Training and test trials: order, draw, checks, messages."""

import shutil

import numpy as np
import pytest

from sleep_interpreter.data.formats.fingerprints import fingerprint
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.tfrecords import RecordFile, sleep_schema, whole_schema, write_records
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.data.formats.validation import natural, subject_name
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.provenance import is_simulated
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle

ITEMS = published().item_names
SLEEP = sleep_schema(published())
WHOLE = whole_schema(published())


def _all(trials, **kwargs):
    batches = list(trials.batches(**kwargs))
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


@pytest.mark.parametrize("stage", ["N2N3", "REM"])
def test_batches_with_awake_trials(cohort, stage):
    trials = TrainingTrials(cohort, stage)
    assert trials.subjects == ["subject_0", "subject_1"]
    assert len(trials) == {"N2N3": 12, "REM": 6}[stage]
    batches = list(trials.batches(4, seed=1, epoch=0))
    assert sum(len(batch["label"]) for batch in batches) == len(trials)
    first = batches[0]
    assert {key: (value.shape, value.dtype.name) for key, value in first.items()} == {
        "sleep": ((4, 200, 55), "float32"),
        "label": ((4, 15), "float32"),
        "image": ((4, 80, 55), "float32"),
        "audio": ((4, 80, 55), "float32"),
    }


@pytest.mark.parametrize("stage", ["N2N3", "REM"])
def test_sleep_only_trials_are_those_of_the_whole_files(cohort, stage):
    with_awake = _all(TrainingTrials(cohort, stage), batch_size=5, seed=1, epoch=2)
    alone = _all(TrainingTrials(cohort, stage, awake=False), batch_size=5, seed=1, epoch=2)
    assert set(alone) == {"sleep", "label"}
    assert np.array_equal(alone["sleep"], with_awake["sleep"])
    assert np.array_equal(alone["label"], with_awake["label"])


def test_an_epoch_holds_every_trial_once_and_is_shuffled_across_files(cohort):
    trials = TrainingTrials(cohort)
    stored = np.stack([trials.read(i, 0)["sleep"] for i in range(len(trials))])
    drawn = _all(trials, batch_size=5, seed=1, epoch=0)["sleep"]
    place = [int(np.flatnonzero((stored == one).all(axis=(1, 2)))[0]) for one in drawn]
    assert sorted(place) == list(range(12))
    assert place != list(range(12))
    assert {p // 6 for p in place[:6]} == {0, 1}


def test_order_and_draw_depend_on_seed_and_epoch_only(cohort):
    trials = TrainingTrials(cohort)
    one = _all(trials, batch_size=5, seed=1, epoch=3)
    resumed = _all(TrainingTrials(cohort), batch_size=2, seed=1, epoch=3)
    for key in one:
        assert np.array_equal(one[key], resumed[key])
    for other in ({"seed": 2, "epoch": 3}, {"seed": 1, "epoch": 4}):
        assert not np.array_equal(one["sleep"], _all(trials, batch_size=5, **other)["sleep"])


def test_image_and_audio_are_the_same_stored_trial_of_the_sleep_trials_own_record(cohort):
    trials = TrainingTrials(cohort)
    records = [RecordFile(file, WHOLE).read(i) for file in trials.files for i in range(6)]
    seen = set()
    for epoch in range(6):
        batch = _all(trials, batch_size=12, seed=0, epoch=epoch)
        for sleep, image, audio in zip(batch["sleep"], batch["image"], batch["audio"], strict=True):
            own = next(r for r in records if np.array_equal(r["feature_Sleep_EEG"].T, sleep))
            images = (own["feature_awake_image_erp"].transpose(0, 2, 1) == image).all(axis=(1, 2))
            audios = (own["feature_awake_audio_erp"].transpose(0, 2, 1) == audio).all(axis=(1, 2))
            assert images.any()
            assert np.array_equal(images, audios)
            seen.add(int(images.argmax()))
    assert len(seen) > 1


def test_batch_size_of_zero_is_refused(cohort):
    with pytest.raises(UserError, match="batch size 0"):
        next(TrainingTrials(cohort).batches(0, seed=0, epoch=0))


@pytest.mark.parametrize(
    ("read", "folder"),
    [
        (lambda root: TrainingTrials(root), "SI Main Train_tfrecords/N2N3/Whole"),
        (lambda root: TrainingTrials(root, "REM", awake=False), "SI Main Train_pickle/REM/sleep"),
        (lambda root: read_test_subjects(root), r"SI Main Test/subject_test_\*/N2N3"),
    ],
)
def test_missing_data_say_what_and_how_to_simulate(tmp_path, read, folder):
    with pytest.raises(UserError, match=rf"{folder}.*python data/simulate\.py --preset test"):
        read(tmp_path)


def test_unknown_stage(cohort):
    with pytest.raises(UserError, match="stage 'N4'"):
        TrainingTrials(cohort, "N4")


def _spoil(cohort, tmp_path, change):
    """Copy one training file with a changed last record."""
    file = TrainingTrials(cohort, awake=False).files[0]
    records = [dict(RecordFile(file, SLEEP).read(i)) for i in range(3)]
    records[2] = {name: value.copy() for name, value in records[2].items()}
    change(records[2])
    write_records(tmp_path / "SI Main Train_tfrecords/N2N3/sleep_a.tfrecord", SLEEP, records)
    return TrainingTrials(tmp_path, awake=False)


def test_nan_names_file_and_record(cohort, tmp_path):
    def change(record):
        record["feature_Sleep_EEG"][4, 5] = np.nan

    with pytest.raises(UserError, match=r"sleep_a\.tfrecord, record 2, field 'feature_Sleep_EEG': 1 of 11000"):
        list(_spoil(cohort, tmp_path, change).batches(2, 0, 0))


@pytest.mark.parametrize("label", [np.zeros(15), np.eye(15)[1] + np.eye(15)[2], np.full(15, 1 / 15)])
def test_label_that_is_not_one_hot_names_file_and_record(cohort, tmp_path, label):
    def change(record):
        record["category_name"][:] = label

    with pytest.raises(UserError, match=r"sleep_a\.tfrecord, record 2, field 'category_name': .*one-hot"):
        list(_spoil(cohort, tmp_path, change).batches(2, 0, 0))


def test_test_subjects(cohort):
    (subject,) = read_test_subjects(cohort, awake=True)
    raw = read_pickle(subject.file)
    assert subject.name == "subject_test_0"
    assert subject.sleep.shape == (10, 200, 55)
    assert subject.image.shape == subject.audio.shape == (10, 15, 80, 55)
    assert subject.sleep.dtype == subject.image.dtype == np.float32
    assert sorted(subject.data_type) == ["test"] * 2 + ["train"] * 6 + ["val"] * 2
    for number, trial in enumerate(raw):
        assert subject.label[number] == trial["category"].argmax()
        assert np.array_equal(subject.sleep[number], trial["Sleep_EEG"].T)
        assert np.array_equal(subject.audio[number, 3], trial["awake_audio_erp"][3].T)


def test_parts_of_test_subjects(cohort):
    everything = read_test_subjects(cohort)[0]
    part = read_test_subjects(cohort, data_types=["val", "test"])[0]
    kept = everything.data_type != "train"
    assert np.array_equal(part.sleep, everything.sleep[kept])
    assert np.array_equal(part.label, everything.label[kept])
    assert part.image is None
    with pytest.raises(UserError, match="data_type 'dev'"):
        read_test_subjects(cohort, data_types=["dev"])


def _test_pickle(cohort, tmp_path, change, name="subject_test_0"):
    trials = read_pickle(read_test_subjects(cohort)[0].file)[:2]
    change(trials)
    write_pickle(trials, tmp_path / f"SI Main Test/{name}/N2N3_data.pickle")
    return tmp_path


def test_subject_without_trials_is_kept(cohort, tmp_path):
    for name in ("subject_test_10", "subject_test_2"):
        _test_pickle(cohort, tmp_path, list.clear, name)
    subjects = read_test_subjects(tmp_path, awake=True)
    assert [s.name for s in subjects] == ["subject_test_2", "subject_test_10"]
    assert [s.sleep.shape for s in subjects] == [(0, 200, 55)] * 2
    assert subjects[0].audio.shape == (0, 15, 80, 55)
    assert len(subjects[0]) == 0


@pytest.mark.parametrize("category", ["kiwi", np.eye(15)[6], np.eye(15, dtype=bool)[6]])
def test_categories_by_name_or_one_hot(cohort, tmp_path, category):
    root = _test_pickle(cohort, tmp_path, lambda trials: trials[0].update(category=category))
    assert ITEMS[read_test_subjects(root)[0].label[0]] == "kiwi"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category": "kiwwi"}, "unknown item 'kiwwi'; did you mean 'kiwi'"),
        ({"category": 6}, "field 'category': expected a one-hot label"),
        ({"category": np.zeros(15)}, "expected a one-hot label"),
        ({"data_type": "dev"}, "field 'data_type': expected train / val / test, found 'dev'"),
        ({"Sleep_EEG": np.zeros((64, 200), np.float32)}, r"expected shape \(55, 200\), found \(64, 200\)"),
        ({"Sleep_EEG": np.full((55, 200), np.inf)}, "11000 of 11000 values are NaN or infinite"),
        ({"Sleep_EEG": [[0.0]]}, "field 'Sleep_EEG': expected an array of floats, found list"),
        ({"awake_image_erp": np.zeros((15, 55, 79))}, r"'awake_image_erp': expected shape \(15, 55, 80\)"),
    ],
)
def test_wrong_trial_names_file_trial_and_field(cohort, tmp_path, changes, message):
    root = _test_pickle(cohort, tmp_path, lambda trials: trials[1].update(changes))
    with pytest.raises(UserError, match=rf"N2N3_data\.pickle, trial 1.*{message}"):
        read_test_subjects(root, awake=True)


def test_missing_key_names_the_nearest(cohort, tmp_path):
    def change(trials):
        trials[0]["sleep_eeg"] = trials[0].pop("Sleep_EEG")

    with pytest.raises(UserError, match="trial 0: no field 'Sleep_EEG'; did you mean 'sleep_eeg'"):
        read_test_subjects(_test_pickle(cohort, tmp_path, change))


def test_fingerprint_follows_names_and_every_byte_but_not_the_place(cohort, tmp_path):
    big = bytes(200_000)
    for name in ("x", "y"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a").write_bytes(big)
        (tmp_path / name / "b").write_bytes(b"small")
    files = [tmp_path / "x" / "sub" / "a", tmp_path / "x" / "b"]
    original = fingerprint(files)
    assert len(original) == 64
    assert fingerprint(files[::-1]) == original
    assert fingerprint([tmp_path / "y" / "sub" / "a", tmp_path / "y" / "b"]) == original
    seen = {original}
    for change in (big[:-1] + b"1", b"1" + big[1:], big + b"\0", big[:100_000] + b"1" + big[100_001:]):
        files[0].write_bytes(change)
        seen.add(fingerprint(files))
    files[0].write_bytes(big)
    seen.add(fingerprint([files[0], files[1].rename(tmp_path / "x" / "c")]))
    assert len(seen) == 6
    (tmp_path / "link").symlink_to(tmp_path / "y")
    store = tmp_path / "store" / "0f3a"  # as git-annex keeps files: under other names
    store.parent.mkdir()
    (tmp_path / "y" / "b").rename(store)
    (tmp_path / "y" / "b").symlink_to(store)
    assert fingerprint([tmp_path / "link" / "sub" / "a", tmp_path / "link" / "b"]) == original
    assert fingerprint(TrainingTrials(cohort).files) != original


def test_is_simulated(cohort, tmp_path):
    assert is_simulated(cohort)
    assert not is_simulated(tmp_path)


def test_names():
    assert sorted(["s_test_10/a", "s_test_2/a", "s_test_1/b"], key=natural)[1] == "s_test_2/a"
    assert subject_name("a/Whole_subject_12.tfrecord") == "subject_12"
    assert subject_name("a/subject_test_3/N2N3.pickle") == "subject_test_3"
    assert subject_name("a/Whole_part.tfrecord") == "Whole_part"
    assert subject_name("a/subject1/Whole_data.tfrecord") == "subject1"


def test_a_second_file_of_a_subject_is_refused(cohort, tmp_path):
    """It would be counted as another subject."""
    copied = tmp_path / "copy"
    shutil.copytree(cohort, copied)
    for pattern, read in (
        ("SI Main Test/subject_test_0/N2N3*", read_test_subjects),
        ("SI Main Train_tfrecords/N2N3/Whole_subject_0*", TrainingTrials),
    ):
        file = next(copied.glob(pattern))
        shutil.copy(file, file.with_name(f"{file.name}~"))
        with pytest.raises(UserError, match="are both of subject_"):
            read(copied)
