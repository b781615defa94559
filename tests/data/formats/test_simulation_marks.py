"""The mark of simulation: in every file, found without reading it whole, kept when the file is copied."""

import os
import pickle
import shutil

import numpy as np
import pytest

from sleep_interpreter.data.formats.simulation_marks import are_simulated, carries_mark
from sleep_interpreter.data.formats.staging_windows import StagingWindows, read_staging_subjects
from sleep_interpreter.data.formats.tfrecords import RecordFile, sleep_schema, write_records
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.provenance import SIDECAR, UNFINISHED_SIDECAR, is_simulated
from sleep_interpreter.utils.core.safe_pickle import read_pickle

SLEEP = sleep_schema(published())

NIGHT = "recordings/simulated_night.vhdr"


def test_every_file_of_a_simulated_data_set_is_marked(cohort, tmp_path):
    unmarked = []
    for number, file in enumerate(sorted(p for p in cohort.rglob("*") if p.is_file())):
        if file.suffix == ".eeg" or file.parent.name == "truth":
            continue  # markers are in the file beside it; the truth has a test of its own
        copy = tmp_path / str(number) / f"renamed{file.suffix if file.suffix == '.vmrk' else ''}"
        copy.parent.mkdir()
        shutil.copy(file, copy)
        if not carries_mark(copy):
            unmarked.append(file.name)
    # Plain lists of stage codes have no place for one; the header names the file that has.
    assert sorted(unmarked) == ["raw_subject_test_0.pickle", "simulated_night.vhdr", SIDECAR]


def test_copied_files_mark_what_is_read_from_them(cohort, tmp_path):
    shutil.copytree(cohort, tmp_path, dirs_exist_ok=True)
    (tmp_path / SIDECAR).unlink()
    assert not is_simulated(tmp_path)
    for stage in ("N2N3", "REM"):
        for awake in (True, False):
            assert TrainingTrials(tmp_path, stage, awake).simulated
    assert StagingWindows(tmp_path).simulated
    assert [subject.simulated for subject in read_staging_subjects(tmp_path)] == [True]
    label = read_pickle(tmp_path / "SI Staging Label/Whole_label_data.pickle")
    assert all(entry["simulated"] is True for entry in label.values())


def test_real_files_are_not_marked_unless_one_of_them_is(cohort, tmp_path):
    record = RecordFile(TrainingTrials(cohort, awake=False).files[0], SLEEP).read(0)
    folder = tmp_path / "SI Main Train_tfrecords/N2N3"
    write_records(folder / "sleep_subject_7.tfrecord", SLEEP, [record])
    trials = TrainingTrials(tmp_path, awake=False)
    assert not trials.simulated
    assert not are_simulated(trials.files, tmp_path)
    assert are_simulated(trials.files, cohort)
    write_records(folder / "sleep_subject_8.tfrecord", SLEEP, [record], simulated=True)
    assert TrainingTrials(tmp_path, awake=False).simulated
    assert not TrainingTrials(tmp_path, awake=False, exclude="subject_8").simulated


def test_a_tfrecord_that_says_no_is_not_marked(tmp_path):
    import tensorflow as tf

    def write(**features):
        example = tf.train.Example(features=tf.train.Features(feature=features))
        with tf.io.TFRecordWriter(str(tmp_path / "x")) as writer:
            writer.write(example.SerializeToString())
        return carries_mark(tmp_path / "x")

    number = lambda value: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))  # noqa: E731
    text = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"simulated"]))
    assert write(simulated=number(1))
    assert write(zzz=text, simulated=number(1), aaa=text)
    assert not write(simulated=number(0))
    assert not write(other=text)
    assert not write()


def test_readers_in_the_published_style_ignore_the_mark(cohort):
    import tensorflow as tf

    file = TrainingTrials(cohort, awake=False).files[0]
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in SLEEP}
    parsed = tf.io.parse_single_example(next(iter(tf.data.TFRecordDataset(str(file)))), features)
    assert set(parsed) == set(SLEEP)
    assert set(RecordFile(file, SLEEP).read(0)) == set(SLEEP)


ARRAY = np.zeros((55, 200), np.float32)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("content", "marked"),
    [
        ([{"a": ARRAY, "simulated": True}] * 2, True),
        ({"Down": {"x": ARRAY, "simulated": True}}, True),
        ([{"simulated": False, "a": True}], False),
        ([{"a": "simulated", "b": True}], False),
        ([{"a": ARRAY}], False),
        ([0, 1], False),
    ],
)
def test_pickles_are_looked_into_without_being_read(tmp_path, content, marked, protocol):
    path = tmp_path / "x"
    path.write_bytes(pickle.dumps(content, protocol))
    assert carries_mark(path) is marked


class _Hostile:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_looking_for_the_mark_executes_nothing(tmp_path):
    sentinel = tmp_path / "sentinel"
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps([_Hostile(f"touch {sentinel}"), {"simulated": True}]))
    assert carries_mark(path)
    assert not sentinel.exists()


def test_only_the_beginning_of_a_pickle_is_looked_at(tmp_path):
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps([{"number": i} for i in range(5000)] + [{"simulated": True}]))
    assert not carries_mark(path)


@pytest.mark.parametrize("content", [b"", b"\x80", b"text\n", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f"])
def test_damaged_files_are_not_marked(tmp_path, content):
    for name in ("x.pickle", "x.tfrecord", "x.vmrk", "x.vhdr"):
        (tmp_path / name).write_bytes(content)
        assert not carries_mark(tmp_path / name)


def test_a_recording_is_marked_by_its_markers_wherever_it_goes(cohort, tmp_path):
    for suffix in (".vhdr", ".eeg", ".vmrk"):
        shutil.copy((cohort / NIGHT).with_suffix(suffix), tmp_path)
    night = tmp_path / "simulated_night.vhdr"
    for suffix in (".vhdr", ".eeg", ".vmrk"):
        assert is_simulated(night.with_suffix(suffix))
        assert carries_mark(night.with_suffix(suffix))
    assert is_simulated(tmp_path)
    renamed = night.rename(tmp_path / "night_of_somebody.vhdr")
    assert is_simulated(renamed)  # the header still names its markers
    night.with_suffix(".vmrk").unlink()
    assert not is_simulated(renamed)
    assert not is_simulated(tmp_path)


def test_the_mark_is_an_annotation_at_the_beginning_that_is_no_cue(cohort, tiny):
    import mne

    from sleep_interpreter.realtime.Parameters.source import SourceSettings
    from sleep_interpreter.realtime.Sources.file_source import ReplaySource
    from tests.simulation_scenes import simulate_recording

    raw = mne.io.read_raw_brainvision(cohort / NIGHT, verbose="error")
    marks = [a for a in raw.annotations if a["description"].endswith("simulated")]
    assert [(a["description"], a["onset"]) for a in marks] == [("Comment/simulated", 0.0)]
    planted = [(onset / 500, item) for onset, item in simulate_recording(tiny).cues]
    source = ReplaySource(cohort / NIGHT, SourceSettings())
    source.open(source.names)
    cues = source.cues()
    assert [item for _, item in cues] == [item for _, item in planted]
    assert np.allclose([time for time, _ in cues], [time for time, _ in planted])


@pytest.mark.parametrize(
    ("marker", "marked"),
    [
        ("Mk2=Comment,simulated,1,0,0", True),
        ("Mk12=Comment,Comment/simulated,1,0,0", True),
        ("Mk2=Comment,not simulated,1,0,0", False),
        ("; Mk2=Comment,simulated,1,0,0", False),
        ("Mk2=Comment,simulated_alarm,1,0,0", False),
    ],
)
def test_only_the_marker_itself_counts(tmp_path, marker, marked):
    path = tmp_path / "night.vmrk"
    path.write_text(f"[Marker Infos]\nMk1=New Segment,,1,1,0\n{marker}\n", encoding="utf-8")
    assert is_simulated(path) is marked


def test_sidecars(tmp_path):
    file = tmp_path / "night.edf"
    file.write_bytes(b"real")
    assert not is_simulated(tmp_path, file)
    for name in (SIDECAR, UNFINISHED_SIDECAR):
        (tmp_path / name).write_text("{}", encoding="utf-8")
        assert is_simulated(tmp_path) and is_simulated(file) and is_simulated("/", file)
        (tmp_path / name).unlink()
    assert not is_simulated(tmp_path / "absent", tmp_path / "absent.vhdr")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="absent: file not found"):
        carries_mark(tmp_path / "absent")
