"""Staging windows and hypnograms: round trips and refusals."""

import numpy as np
import pytest

from sleep_interpreter.data.formats.staging_windows import (
    StagingWindows,
    read_stage_labels,
    read_staging_subject,
    read_staging_subjects,
    staging_files,
)
from sleep_interpreter.data.formats.tfrecords import STAGING, RecordFile, write_records
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle


def test_training_windows(cohort):
    windows = StagingWindows(cohort)
    assert windows.subjects == ["subject_0"]
    assert len(windows) == 11
    batches = list(windows.batches(4, seed=0, epoch=0))
    assert [b["window"].shape for b in batches] == [(4, 3, 15000), (4, 3, 15000), (3, 3, 15000)]
    assert all(b["window"].dtype == np.float32 and b["label"].shape[1:] == (4,) for b in batches)
    labels = np.concatenate([b["label"] for b in batches])
    assert labels.sum(axis=0).tolist() == [10, 0, 1, 0]
    assert np.allclose(batches[0]["window"].std(axis=-1), 1, atol=1e-3)


def test_labels_that_contradict_each_other(cohort, tmp_path):
    record = dict(RecordFile(StagingWindows(cohort).files[0], STAGING).read(0))
    record["feature_label"] = np.array([3], np.int32)
    write_records(tmp_path / "SI Staging/Train/subject_0/Whole_a.tfrecord", STAGING, [record])
    with pytest.raises(UserError, match=r"Whole_a\.tfrecord, record 0, field 'feature_label': says stage 3.*says 0"):
        next(StagingWindows(tmp_path).batches(1, 0, 0))


def test_test_subjects(cohort):
    (subject,) = read_staging_subjects(cohort)
    assert subject.name == "subject_test_0"
    assert subject.window.shape == (11, 3, 15000)
    assert subject.epoch_stage.tolist() == [0, 2]
    assert subject.window_stage.tolist() == [0] * 10 + [2]


@pytest.mark.parametrize(
    ("windows", "labels", "message"),
    [
        (1, [0, 1], r"2 epochs in raw_0\.pickle need 11 windows, found 1"),
        (1, [4], "expected a stage from 0 to 3, found 4"),
        (1, [1.5], "expected a stage from 0 to 3, found 1.5"),
    ],
)
def test_numbers_and_labels_that_do_not_fit(tmp_path, windows, labels, message):
    folder = tmp_path / "SI Staging/Test/subject_test_0"
    content = [{"label": 0, "data": np.zeros((3, 15000), np.float32)}] * windows
    write_pickle(content, folder / "Whole_0.pickle")
    write_pickle(labels, folder / "raw_0.pickle")
    with pytest.raises(UserError, match=message):
        list(read_staging_subjects(tmp_path))


def test_hypnograms(cohort):
    hypnograms = read_stage_labels(cohort)
    assert list(hypnograms) == ["subject_0", "subject_1", "subject_test_0"]
    onset, stage = hypnograms["subject_0"]
    assert onset.tolist() == [0, 30, 90, 120]
    assert stage.tolist() == [0, 1, 2]


def test_published_quirks_of_hypnograms_are_accepted(tmp_path):
    content = {"subject_74": {"onset": [0.0, 30.0, 30.0, 8019.0], "label": [1, 1, 2]}}
    write_pickle(content, tmp_path / "SI Staging Label/Whole_label_data.pickle")
    onset, stage = read_stage_labels(tmp_path)["subject_74"]
    assert onset[-1] == 8019
    assert stage.tolist() == [1, 1, 2]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"onset": [0, 30], "label": [1, 2]}, "2 stages need 3 onsets, found 2"),
        ({"onset": [0, 60, 30], "label": [1, 2]}, "run backwards"),
        ({"onset": [0, 30], "label": [-2]}, "expected a stage from 0 to 3, found -2 .-1 is what nobody scored"),
    ],
)
def test_wrong_hypnograms(tmp_path, entry, message):
    path = tmp_path / "SI Staging Label/Whole_label_data.pickle"
    write_pickle({"subject_5": entry}, path)
    assert read_pickle(path)
    with pytest.raises(UserError, match=rf"subject_5.*{message}"):
        read_stage_labels(tmp_path)


def test_bad_windows_are_left_out_on_request(cohort, tmp_path):
    source = RecordFile(StagingWindows(cohort).files[0], STAGING)
    records = [dict(source.read(place)) for place in range(3)]
    spoilt = records[1]["feature_data"].copy()
    spoilt[2, 7] = np.nan
    records[1] = {**records[1], "feature_data": spoilt}
    file = tmp_path / "SI Staging/Train/subject_0/Whole_a.tfrecord"
    write_records(file, STAGING, records)
    with pytest.raises(UserError, match="record 1, field 'feature_data': 1 of 45000 values are NaN"):
        StagingWindows(tmp_path).read(1)
    kept = StagingWindows(tmp_path, skip_bad=True)
    assert len(kept) == 2 and [row["record"] for row in kept.skipped] == [1]
    np.testing.assert_array_equal(kept.read(1)["window"], records[2]["feature_data"])
    with pytest.raises(UserError, match="no subject 'subject_1'"):
        StagingWindows(tmp_path, only=["subject_1"])


def test_a_night_with_gaps_is_read_where_gaps_are_allowed(tmp_path):
    folder = tmp_path / "SI Staging/Test/subject_test_0"
    data = np.ones((3, 15000), np.float32)
    data[1, 5] = np.nan
    write_pickle([{"label": 1, "data": data}], folder / "Whole_0.pickle")
    write_pickle([1], folder / "raw_0.pickle")
    (file,) = staging_files(tmp_path)
    assert np.isnan(read_staging_subject(file, tmp_path, gaps=True).window).sum() == 1
    with pytest.raises(UserError, match="1 of 45000 values are NaN"):
        read_staging_subject(file, tmp_path)
