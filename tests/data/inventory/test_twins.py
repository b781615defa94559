"""data/check.py finds the same signals in two subjects, groups, parts and places, whatever program wrote them."""

import evaluation_data as made
import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from sleep_interpreter.data.formats import twins
from sleep_interpreter.data.formats.tfrecords import STAGING, sleep_schema, write_records
from sleep_interpreter.data.inventory.survey import survey_folder
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.safe_pickle import write_pickle

SLEEP = sleep_schema(published())
TEST = "SI Main Test/subject_test_{}/N2N3_data.pickle"
TRAIN = "SI Main Train_tfrecords/N2N3/sleep_subject_{}.tfrecord"


def to_the_bit(eeg):
    return eeg.copy()


def in_whole_steps_of_an_edf_file(eeg):
    return (np.rint(eeg / 0.1) * 0.1).astype(np.float32)


def with_another_gain_and_offset(eeg):
    return eeg * np.float32(0.5) + np.float32(3)


def filtered_a_little_otherwise(eeg):
    return eeg + 0.1 * np.random.default_rng(5).standard_normal(eeg.shape).astype(np.float32)


def cut_off_at_other_limits(eeg):
    return np.clip(eeg, -2.5, 2.5)


def upside_down(eeg):
    return -eeg


def upside_down_with_another_gain_in_whole_steps(eeg):
    return (np.rint(eeg * -3 / 0.1) * 0.1).astype(np.float32)


AGAIN = [to_the_bit, in_whole_steps_of_an_edf_file, with_another_gain_and_offset, filtered_a_little_otherwise,
         cut_off_at_other_limits, upside_down, upside_down_with_another_gain_in_whole_steps]  # fmt: skip


def test_subject(root, number, seed, change=lambda trials: trials):
    trials = made.trials(30, np.random.default_rng(seed))
    (root / TEST.format(number)).parent.mkdir(parents=True, exist_ok=True)
    write_pickle(change(trials), root / TEST.format(number))
    return trials


test_subject.__test__ = False


def train_subject(root, number, seed, again=()):
    trials = made.trials(20, np.random.default_rng(seed))
    eeg = [*(trial["Sleep_EEG"] for trial in trials), *again]
    labels = np.eye(15, dtype=np.float32)
    records = [{"category_name": labels[k % 15], "feature_Sleep_EEG": one} for k, one in enumerate(eeg)]
    (root / TRAIN.format(number)).parent.mkdir(parents=True, exist_ok=True)
    write_records(root / TRAIN.format(number), SLEEP, records)


def problems(root):
    return [(p.file.relative_to(root).as_posix(), p.reason) for p in survey_folder(root).problems]


@pytest.mark.parametrize("again", AGAIN)
def test_a_test_subject_in_the_training_data_is_found(tmp_path, again):
    trials = test_subject(tmp_path, 0, 1)
    test_subject(tmp_path, 1, 2)
    train_subject(tmp_path, 0, 3)
    train_subject(tmp_path, 1, 4, [again(trial["Sleep_EEG"]) for trial in trials[10:17]])
    ((file, reason),) = problems(tmp_path)
    assert file == TEST.format(0)
    assert reason.startswith("7 of its sleep trials are in ") and "sleep_subject_1" in reason
    assert reason.endswith("a test on them is none")


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("group", ["train", "test"])
def test_one_person_twice_in_a_group_is_found(tmp_path, again, group):
    def change(trials):
        return [trial | {"Sleep_EEG": again(trial["Sleep_EEG"])} for trial in trials]

    if group == "test":
        test_subject(tmp_path, 0, 1)
        test_subject(tmp_path, 1, 1, change)
    else:
        train_subject(tmp_path, 0, 1)
        train_subject(tmp_path, 1, 2, [again(t["Sleep_EEG"]) for t in made.trials(20, np.random.default_rng(1))])
    train_subject(tmp_path, 2, 3)
    ((file, reason),) = problems(tmp_path)
    assert file == (TEST if group == "test" else TRAIN).format(1)
    count = 30 if group == "test" else 20
    assert reason.startswith(f"{count} of its sleep trials are in ") and "subject_" in reason
    assert reason.endswith("is one recording there twice? Take one of them away")


@pytest.mark.parametrize("again", AGAIN)
def test_a_twin_in_another_part_is_a_problem_and_one_in_the_same_part_a_warning(tmp_path, again):
    def change(trials):
        for place in (2, 5, 8):
            assert trials[place]["data_type"] == "test" and trials[place - 2]["data_type"] == "train"
            trials[place]["Sleep_EEG"] = again(trials[place - 2]["Sleep_EEG"])
        assert trials[12]["data_type"] == trials[15]["data_type"] == "train"
        trials[15]["Sleep_EEG"] = again(trials[12]["Sleep_EEG"])
        return trials

    test_subject(tmp_path, 0, 1, change)
    assert problems(tmp_path) == [
        (TEST.format(0), "3 of its test trials are copies of train or val trials; a test on them is none")
    ]
    (warning,) = [text for text in survey_folder(tmp_path).warnings if "count twice" in text]
    assert warning.endswith("1 of its trials hold the signals of another one in it and count twice")


def test_a_night_that_trains_and_tests_the_stager_is_found(tmp_path):
    rng = np.random.default_rng(0)
    windows = rng.standard_normal((41, 3, 15000)).astype(np.float32)
    windows[:, 2] = 0  # no EMG
    for name, shown in (("subject_test_0", windows), ("subject_test_1", rng.standard_normal((21, 3, 15000)))):
        folder = tmp_path / "SI Staging/Test" / name
        folder.mkdir(parents=True)
        write_pickle([{"label": 1, "data": one.astype(np.float32)} for one in shown], folder / f"Whole_{name}.pickle")
        write_pickle([1] * (len(shown) // 10 + 1), folder / f"raw_{name}.pickle")
    file = tmp_path / "SI Staging/Train/subject_0/Whole_subject_0.tfrecord"
    file.parent.mkdir(parents=True)
    labels = np.eye(4, dtype=np.float32)
    records = [
        {"category_name": labels[k % 4], "feature_label": np.array([k % 4], np.int32), "feature_data": one / 2}
        for k, one in enumerate(windows)
    ]
    write_records(file, STAGING, records)
    ((where, reason),) = problems(tmp_path)
    assert where == "SI Staging/Test/subject_test_0/Whole_subject_test_0.pickle"
    assert reason.startswith("5 of its windows (every 10th was compared) are in ")
    assert reason.endswith("Whole_subject_0.tfrecord too; a test on them is none")


def test_other_trials_are_not_alike_even_of_one_channel_with_slow_waves():
    rng = np.random.default_rng(1)
    eeg = np.cumsum(rng.standard_normal((3000, 1, 200)), axis=-1)
    assert list(twins.pairs(twins.sketch(eeg))) == []
    eeg[7] = np.rint(eeg[2000] * 4) / 4
    assert list(twins.pairs(twins.sketch(eeg))) == [(7, 2000)]
    assert twins.likeness(eeg[7], eeg[2000]) > twins.SAME
    cut = np.where(np.arange(200) < 150, eeg[7], np.nan)
    assert twins.likeness(cut, eeg[2000]) > twins.SAME, "where both have samples"


@pytest.mark.parametrize("band", [(0.5, 30), (0.3, 35), (1, 40), (0.1, 45)])
def test_the_same_signals_through_a_display_filter(band):
    """Trials of 2 s at 100 Hz from a recording whose power falls with frequency, and of the same, filtered."""
    rng = np.random.default_rng(2)
    spectrum = np.fft.rfft(rng.standard_normal((8, 40_000)))
    frequency = np.fft.rfftfreq(40_000, 0.01)
    pink = np.fft.irfft(spectrum / np.maximum(frequency, 0.05), 40_000) + 0.005 * rng.standard_normal((8, 40_000))
    seen = sosfiltfilt(butter(2, band, "band", fs=100, output="sos"), pink)
    one, other = (x.reshape(8, -1, 200).swapaxes(0, 1) for x in (pink, seen))
    alike = [twins.likeness(a, b) for a, b in zip(one, other, strict=True)]
    assert np.mean(np.array(alike) > twins.SAME) > 0.9, np.quantile(alike, [0, 0.1, 0.5])
    assert max(twins.likeness(a, b) for a, b in zip(one, other[1:], strict=False)) < 0.7
