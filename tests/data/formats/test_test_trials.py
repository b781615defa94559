"""Test subjects: parts for fine-tuning, the pre-cue control, bad trials listed, odd values, other scales."""

import numpy as np
import pytest

from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle

FOLDER = "SI Main Test/subject_test_0"


@pytest.fixture(scope="module")
def raw(cohort):
    """The ten trials of the tiny cohort's test subject, as pickled."""
    return read_pickle(cohort / FOLDER / "N2N3_data.pickle")


def _write(root, trials, name="N2N3_data.pickle"):
    write_pickle(trials, root / FOLDER / name)
    return root


def test_a_part_gives_batches_like_the_training_trials(cohort):
    (subject,) = read_test_subjects(cohort, awake=True)
    part = subject.part("train")
    assert len(part) == 6
    batches = list(part.batches(4, seed=1, epoch=0))
    model = next(TrainingTrials(cohort).batches(4, seed=1, epoch=0))
    assert [len(batch["label"]) for batch in batches] == [4, 2]
    assert {key: (value.shape, value.dtype) for key, value in batches[0].items()} == {
        key: (value.shape, value.dtype) for key, value in model.items()
    }


def test_a_part_holds_its_own_trials_once_in_an_order_of_seed_and_epoch(cohort):
    (subject,) = read_test_subjects(cohort)
    part = subject.part("train")
    arrays = part.arrays()
    own = subject.data_type == "train"
    assert np.array_equal(arrays["sleep"], subject.sleep[own])
    assert arrays["label"].dtype == np.float32 and arrays["label"].shape == (6, 15)
    assert np.array_equal(arrays["label"].argmax(axis=1), subject.label[own])
    orders = []
    for seed, epoch, size in ((1, 0, 4), (1, 0, 5), (1, 1, 4), (2, 0, 4)):
        batches = list(part.batches(size, seed=seed, epoch=epoch))
        assert all(set(batch) == {"sleep", "label"} for batch in batches)
        sleep = np.concatenate([batch["sleep"] for batch in batches])
        label = np.concatenate([batch["label"] for batch in batches])
        order = [int(np.flatnonzero((arrays["sleep"] == one).all(axis=(1, 2)))[0]) for one in sleep]
        assert sorted(order) == list(range(6))
        assert np.array_equal(label, arrays["label"][order])
        orders.append(order)
    assert orders[0] == orders[1]
    assert orders[0] not in orders[2:]


def test_awake_trials_are_drawn_anew_each_epoch_from_the_trials_own(cohort, tmp_path, raw):
    random = np.random.default_rng(0)
    awake = [random.standard_normal((2, 15, 55, 80), np.float32) for _ in raw]
    trials = [
        trial | {"awake_image_erp": image, "awake_audio_erp": audio}
        for trial, (image, audio) in zip(raw, awake, strict=True)
    ]
    (subject,) = read_test_subjects(_write(tmp_path, trials), awake=True)
    part = subject.part("train")
    draws = []
    for epoch in range(4):
        for size in (2, 6):
            draw = []
            for batch in part.batches(size, seed=0, epoch=epoch):
                for sleep, image, audio in zip(batch["sleep"], batch["image"], batch["audio"], strict=True):
                    place = int(np.flatnonzero((subject.sleep == sleep).all(axis=(1, 2)))[0])
                    images = (subject.image[place] == image).all(axis=(1, 2))
                    audios = (subject.audio[place] == audio).all(axis=(1, 2))
                    assert images.sum() == 1 and np.array_equal(images, audios)
                    draw.append(int(images.argmax()))
            draws.append(draw)
    assert draws[0::2] == draws[1::2]  # whatever the batch size
    assert len({tuple(draw) for draw in draws}) == 4


def test_parts_that_are_unknown_unread_or_empty(cohort, tmp_path, raw):
    (subject,) = read_test_subjects(cohort, data_types=["val", "test"])
    with pytest.raises(UserError, match=r"N2N3_data\.pickle: the part 'train' was not read, only val, test"):
        subject.part("train")
    with pytest.raises(UserError, match="data_type 'dev' is unknown"):
        subject.part("dev")
    only_train = [trial | {"data_type": "train"} for trial in raw]
    part = read_test_subjects(_write(tmp_path, only_train), awake=True)[0].part("val")
    assert len(part) == 0
    assert list(part.batches(4, seed=0, epoch=0)) == []
    assert part.arrays()["sleep"].shape == (0, 200, 55)
    assert part.arrays()["label"].shape == (0, 15)


def test_one_part_may_be_asked_for_by_name(cohort):
    (subject,) = read_test_subjects(cohort, data_types="val")
    assert set(subject.data_type) == {"val"}


@pytest.mark.parametrize("stage", ["N2N3", "REM"])
def test_trials_from_before_the_cue(tmp_path, raw, stage):
    random = np.random.default_rng(0)
    before = [
        {key: trial[key] for key in ("category", "data_type")}
        | {"Sleep_EEG": random.standard_normal((55, 200), np.float32)}
        for trial in raw
    ]
    _write(tmp_path, raw)
    _write(tmp_path, before, f"precue_{stage}_data.pickle")
    (subject,) = read_test_subjects(tmp_path, stage, window="precue")
    assert subject.name == "subject_test_0"
    assert np.array_equal(subject.sleep, np.stack([trial["Sleep_EEG"].T for trial in before]))
    (cued,) = read_test_subjects(tmp_path)
    assert np.array_equal(subject.label, cued.label)
    with pytest.raises(UserError, match=rf"precue_{stage}_data\.pickle, trial 0: no field 'awake_image_erp'"):
        read_test_subjects(tmp_path, stage, awake=True, window="precue")


def test_missing_pre_cue_window_says_that_none_is_published(tmp_path, raw):
    _write(tmp_path, raw)
    with pytest.raises(UserError, match=r"precue_REM\*; the published files hold no pre-cue window.*simul"):
        read_test_subjects(tmp_path, "REM", window="precue")
    with pytest.raises(UserError, match="window 'post' is unknown; there are cue and precue"):
        read_test_subjects(tmp_path, window="post")
    with pytest.raises(UserError, match="stage 'N4' is unknown"):
        read_test_subjects(tmp_path, "N4")


def test_bad_trials_are_listed_instead_of_raised(tmp_path, raw):
    trials = [dict(trial) for trial in raw]
    trials[1]["Sleep_EEG"] = np.full((55, 200), np.nan, np.float32)
    trials[4]["data_type"] = "dev"
    trials[7] = 5
    root = _write(tmp_path, trials)
    skipped = []
    (subject,) = read_test_subjects(root, skipped=skipped)
    assert len(subject) == 7
    file = str(root / FOLDER / "N2N3_data.pickle")
    assert [(entry["file"], entry["record"]) for entry in skipped] == [(file, 1), (file, 4), (file, 7)]
    assert skipped[0]["reason"].startswith("field 'Sleep_EEG': 11000 of 11000")
    assert skipped[1]["reason"].startswith("field 'data_type': expected train / val / test")
    assert skipped[2]["reason"] == "expected a dict, found int"
    with pytest.raises(UserError, match=r"N2N3_data\.pickle, trial 1, field 'Sleep_EEG'"):
        read_test_subjects(root)


ODD = {
    "list": [1, 2],
    "ragged": [[1], [2, 3]],
    "none": None,
    "bytes": b"kiwi",
    "number": 3,
    "array": np.zeros(4),
    "long array": np.zeros((55, 200)),
    "texts": np.array(["kiwi", "apple"]),
    "dict": {"kiwi": 1},
    "objects": np.array([None] * 15, object),
    "huge": [10**400] * 15,
    "nan": [float("nan")] * 15,
    "zero-d": np.array(3.0),
    "text": "x" * 500,
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("field", ["category", "data_type"])
def test_odd_values_are_refused_in_one_short_sentence(tmp_path, raw, field, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)  # messages then show short paths
    trials = [dict(raw[0]), dict(raw[1]) | {field: ODD[kind]}]
    # no pickle of ours holds such values: they are refused before anybody asks what they are
    words = "not plain data" if kind in ("objects", "huge") else f"trial 1, field '{field}': "
    with pytest.raises(UserError, match=words) as caught:
        read_test_subjects(_write(tmp_path, trials))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("wrap", [np.str_, np.array, str])
def test_texts_of_numpy_are_texts(tmp_path, raw, wrap):
    trial = raw[0] | {"category": wrap("kiwi"), "data_type": wrap("val")}
    (subject,) = read_test_subjects(_write(tmp_path, [trial]))
    assert subject.label.tolist() == [6]
    assert len(subject.part("val")) == 1


@pytest.mark.parametrize("field", ["Sleep_EEG", "awake_audio_erp"])
@pytest.mark.parametrize("value", [None, "x", {}, [[1.0], []], np.array(1.0), np.full((55, 200), 1e300)])
def test_odd_signals_are_refused_in_one_short_sentence(tmp_path, raw, field, value):
    if field != "Sleep_EEG" and isinstance(value, np.ndarray) and value.ndim:
        value = np.full((15, 55, 80), 1e300)  # beyond float32
    with pytest.raises(UserError, match=rf"trial 0, field '{field}': "):
        read_test_subjects(_write(tmp_path, [raw[0] | {field: value}]), awake=True)


@pytest.mark.parametrize(("largest", "warned"), [(15.005, False), (15.02, True), (312.5, True)])
def test_wrong_scale_is_one_warning_a_file(tmp_path, raw, caplog, largest, warned):
    trials = [dict(trial) for trial in raw]
    for number in (0, 3):
        trials[number]["Sleep_EEG"] = trials[number]["Sleep_EEG"].copy()
        trials[number]["Sleep_EEG"][2, 2] = -largest
    (subject,) = read_test_subjects(_write(tmp_path, trials))
    assert len(subject) == 10
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == warned
    if warned:
        assert f"N2N3_data.pickle: its sleep trials reach {largest:.4g}" in messages[0]
        assert "within ±15" in messages[0]


def test_a_copied_pickle_still_says_that_it_is_simulated(cohort, tmp_path, raw):
    assert read_test_subjects(cohort)[0].simulated
    assert read_test_subjects(_write(tmp_path, raw))[0].simulated
    unmarked = [{key: trial[key] for key in trial if key != MARK} for trial in raw]
    assert not read_test_subjects(_write(tmp_path, unmarked))[0].simulated
    odd = [trial | {MARK: np.zeros(3)} for trial in unmarked]
    assert not read_test_subjects(_write(tmp_path, odd))[0].simulated
