"""The simulator's bookkeeping: complete or known not to be, nothing of others touched, damage found."""

import json
import shutil

import numpy as np
import pytest

from sleep_interpreter.data.simulation import dataset
from sleep_interpreter.data.simulation.dataset import COMPLETE, UNFINISHED, write_dataset
from sleep_interpreter.data.simulation.jobs import all_jobs
from sleep_interpreter.data.simulation.night import hypnogram
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.utils.core import file_locks
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import read_pickle
from tests.data.conftest import TINY, digests

ITEMS = published().item_names

WHOLE = "SI Main Train_tfrecords/N2N3/Whole_subject_0.tfrecord"
PICKLE = "SI Main Test/subject_test_0/N2N3_data.pickle"


def test_layout_and_manifest(cohort, tiny):
    manifest = json.loads((cohort / COMPLETE).read_text(encoding="utf-8"))
    assert manifest["simulated"] is True
    assert manifest["settings"] == tiny.model_dump(mode="json")
    assert manifest["files"] == sorted(set(digests(cohort)) - {COMPLETE})
    assert set(manifest["planted"]["item_components_in_sleep_s"]) == set(ITEMS)
    for name in (
        "SI Main Train_tfrecords/N2N3/Whole_subject_0.tfrecord",
        "SI Main Train_tfrecords/N2N3/sleep_subject_0.tfrecord",
        "SI Main Train_tfrecords/REM/Whole_subject_0.tfrecord",
        "SI Main Train_pickle/REM/sleep_subject_0.pickle",
        "SI Main Test/subject_test_0/N2N3_data.pickle",
        "SI Main Test/subject_test_0/REM_data.pickle",
        "SI Staging/Train/subject_0/Whole_subject_0.tfrecord",
        "SI Staging/Test/subject_test_0/Whole_subject_test_0.pickle",
        "SI Staging/Test/subject_test_0/raw_subject_test_0.pickle",
        "SI Staging Label/Whole_label_data.pickle",
        "SI Main Train/subject_0/Whole_data.pickle",
        "SI Main Test/subject_test_0/Whole_data.pickle",
        "recordings/simulated_night.vhdr",
        "truth/truth.json",
        "truth/subject_0_trials.npz",
        "truth/subject_test_0_trials.npz",
    ):
        assert name in manifest["files"]


def test_complete_data_set_is_left_alone(cohort, tiny):
    before = {file: file.stat().st_mtime_ns for file in cohort.rglob("*")}
    assert write_dataset(tiny, cohort) is False
    assert {file: file.stat().st_mtime_ns for file in cohort.rglob("*")} == before


def test_two_processes_do_not_simulate_into_one_folder(tmp_path, tiny):
    with file_locks.locked(tmp_path / ".lock", refusal="as a process does while it simulates"):
        with pytest.raises(UserError, match="another process is simulating into this folder"):
            write_dataset(tiny, tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == [".lock"]
    (tmp_path / ".lock").touch()  # as a kill leaves it
    assert write_dataset(tiny, tmp_path) and not (tmp_path / ".lock").exists()


def test_other_settings_need_force(cohort, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(cohort, out)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    smaller = load_settings("test", [*TINY, "cohort.train_subjects=1"])
    with pytest.raises(UserError, match=r"a simulated data set of other settings .*nothing was changed, give --force"):
        write_dataset(smaller, out)
    assert set(digests(out)) - {"notes.txt"} == set(digests(cohort))
    assert write_dataset(smaller, out, force=True)
    assert not list(out.rglob("*subject_1*"))  # nothing of the larger cohort is left behind
    assert (out / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.fixture
def smaller():
    """Settings of less data than `tiny`, other in every file."""
    return load_settings("test", [*TINY, "seed=7", "cohort.train_subjects=1"])


@pytest.fixture
def copied(cohort, tmp_path):
    shutil.copytree(cohort, tmp_path / "copy")
    (tmp_path / "copy" / "notes.txt").write_text("mine", encoding="utf-8")
    return tmp_path / "copy"


def of_the_set(folder):
    """Return the checksums of all files but the user's and those of a replacement being made."""
    found = digests(folder)
    return {name: found[name] for name in found if not name.startswith((dataset.REPLACEMENT, "notes.txt"))}


@pytest.mark.parametrize("nth", [1, 4])
def test_a_set_stays_complete_until_the_one_that_replaces_it_is(nth, cohort, copied, tiny, smaller, monkeypatch):
    calls, write, made = [], dataset._write, []

    def dying(out, job):
        calls.append(job)
        if len(calls) == nth:
            raise KeyboardInterrupt
        made.extend(out / file for file in job.files)
        return write(out, job)

    with monkeypatch.context() as patched:
        patched.setattr(dataset, "_write", dying)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(smaller, copied, force=True)
    assert of_the_set(copied) == digests(cohort)
    assert write_dataset(tiny, copied) is False, "it is complete"
    times = {file: file.stat().st_mtime_ns for file in made}
    assert write_dataset(smaller, copied, force=True)
    there = [copied / file.relative_to(copied / dataset.REPLACEMENT) for file in made]
    assert [file.stat().st_mtime_ns for file in there] == list(times.values()), "gone on with"
    direct = copied.with_name("direct")
    write_dataset(smaller, direct)
    assert of_the_set(copied) == digests(direct) and (copied / "notes.txt").is_file()
    assert not (copied / dataset.REPLACEMENT).exists()


@pytest.mark.parametrize("step", ["before", "some files are there", "the manifest is missing"])
def test_a_kill_while_a_set_is_put_in_place_is_mended_by_the_next_call(step, copied, smaller, monkeypatch):
    path_type, moved = type(copied), []
    replace = path_type.replace

    def dying(self, target):
        if dataset.REPLACEMENT in self.parts and ".tmp" not in self.name:
            moved.append(self)
            ends = {"before": len(moved) == 1, "some files are there": len(moved) == 4}
            if ends.get(step, self.name == COMPLETE):
                raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(path_type, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(smaller, copied, force=True)
    assert (copied / UNFINISHED).is_file() and not (copied / COMPLETE).is_file()
    assert write_dataset(smaller, copied) is False, "put in place, and complete"
    assert not (copied / dataset.REPLACEMENT).exists() and not (copied / UNFINISHED).exists()
    manifest = json.loads((copied / COMPLETE).read_text(encoding="utf-8"))
    assert set(of_the_set(copied)) - {COMPLETE} == set(manifest["files"])
    assert write_dataset(smaller, copied, verify=True) is False


def test_a_replacement_of_yet_other_settings_begins_anew(cohort, copied, smaller, monkeypatch):
    left = copied / dataset.REPLACEMENT
    left.mkdir()
    (left / UNFINISHED).write_text("[]", encoding="utf-8")
    monkeypatch.setattr(dataset, "_check_room", lambda out, size: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # as a full disk
        write_dataset(smaller, copied, force=True)
    assert of_the_set(copied) == digests(cohort) and not left.exists()


def test_folder_with_other_files_is_refused(tiny, tmp_path):
    real = tmp_path / "SI Main Test" / "subject_test_0" / "N2N3_data.pickle"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a real night")
    for force in (False, True):
        with pytest.raises(UserError, match="did not write; nothing was changed"):
            write_dataset(tiny, tmp_path, force=force)
    assert real.read_bytes() == b"a real night"


@pytest.mark.parametrize("content", ["no json", "[]", '{"files": ["../outside"]}', '{"files": [], "parts": 5}'])
def test_manifest_that_is_none_or_points_outside_is_refused(tiny, tmp_path, content):
    (tmp_path / "outside").write_text("mine", encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    (out / COMPLETE).write_text(content, encoding="utf-8")
    with pytest.raises(
        UserError, match=r"not a manifest of the simulator|names '\.\./outside' as a file of this folder"
    ):
        write_dataset(tiny, out, force=True)
    assert (tmp_path / "outside").is_file()


@pytest.fixture
def half(cohort, tmp_path):
    """A copy of the tiny data set that was interrupted, without the Whole file of subject 0."""
    out = tmp_path / "half"
    shutil.copytree(cohort, out)
    (out / COMPLETE).rename(out / UNFINISHED)
    (out / WHOLE).unlink()
    return out


def test_a_line_says_how_far_it_is_where_there_is_no_progress_bar(tiny, tmp_path, caplog):
    with caplog.at_level("INFO"):
        write_dataset(tiny, tmp_path / "out", recording_only=True)
    assert "simulated: 1 of 1 jobs, the last one recordings/simulated_night.eeg" in caplog.text


def test_half_written_data_set_is_completed(cohort, tiny, half):
    kept = half / PICKLE
    written = kept.stat().st_mtime_ns
    assert write_dataset(tiny, half)
    assert digests(half) == digests(cohort)
    assert kept.stat().st_mtime_ns == written


@pytest.mark.slow
def test_half_written_data_set_of_other_settings_needs_force(cohort, half):
    other = load_settings("test", [*TINY, "seed=7", "recording.test_subject=1"])
    before = digests(half)
    with pytest.raises(UserError, match=r"an unfinished simulated data set of other settings.*--force"):
        write_dataset(other, half)
    assert digests(half) == before
    assert write_dataset(other, half, force=True)
    assert not (half / UNFINISHED).exists()
    night = "recordings/simulated_night.eeg"
    assert digests(half)[night] != digests(cohort)[night]


def test_a_file_that_no_record_was_kept_of_is_written_again(cohort, tiny, half):
    """Killed between a file and its entry in the manifest."""
    manifest = json.loads((half / UNFINISHED).read_text(encoding="utf-8"))
    assert manifest["written"].pop(PICKLE)
    (half / UNFINISHED).write_text(json.dumps(manifest), encoding="utf-8")
    (half / PICKLE).write_bytes(b"who knows")
    assert write_dataset(tiny, half)
    assert digests(half) == digests(cohort)


@pytest.mark.parametrize("written", [[], {"x": 1}])
def test_a_manifest_without_sizes_trusts_no_file(cohort, tiny, half, written):
    manifest = json.loads((half / UNFINISHED).read_text(encoding="utf-8"))
    manifest["written"] = written
    (half / UNFINISHED).write_text(json.dumps(manifest), encoding="utf-8")
    assert write_dataset(tiny, half)
    assert digests(half) == digests(cohort)


def test_sizes_and_checksums_are_kept(cohort):
    manifest = json.loads((cohort / COMPLETE).read_text(encoding="utf-8"))
    found = digests(cohort)
    assert manifest["written"] == {
        file: {"size": (cohort / file).stat().st_size, "sha256": found[file]} for file in manifest["files"]
    }


def test_the_manifest_grows_with_the_files(tiny, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    jobs = all_jobs(tiny)
    stopped = [jobs[0], jobs[1]._replace(function=stop)]
    monkeypatch.setattr(dataset, "all_jobs", lambda *_: stopped)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tiny, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / UNFINISHED).read_text(encoding="utf-8"))
    assert set(manifest["written"]) == set(jobs[0].files)
    assert not (tmp_path / "out" / COMPLETE).exists()


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_file_of_a_complete_data_set_is_written_again(cohort, tiny, tmp_path, damage, caplog):
    out = tmp_path / "damaged"
    shutil.copytree(cohort, out)
    if damage == "missing":
        (out / WHOLE).unlink()
    else:
        (out / WHOLE).write_bytes((out / WHOLE).read_bytes()[:-1])
    kept = (out / PICKLE).stat().st_mtime_ns
    assert write_dataset(tiny, out)
    assert digests(out) == digests(cohort)
    assert (out / PICKLE).stat().st_mtime_ns == kept
    assert f"missing or damaged, written again: {WHOLE}" in caplog.text


@pytest.mark.parametrize("how", ["verify", "force"])
def test_a_changed_byte_is_found_by_verify(cohort, tiny, tmp_path, how):
    out = tmp_path / "changed"
    shutil.copytree(cohort, out)
    content = bytearray((out / PICKLE).read_bytes())
    content[len(content) // 2] ^= 1
    (out / PICKLE).write_bytes(content)
    assert write_dataset(tiny, out) is False  # same size: only the checksum tells
    assert write_dataset(tiny, out, **{how: True})
    assert digests(out) == digests(cohort)
    assert write_dataset(tiny, out, **{how: True}) is False


def test_no_room_is_said_before_anything_is_written(tiny, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(dataset.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"needs 0\.\d\d GB, but only 0\.00 GB are free"):
        write_dataset(tiny, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_processes_are_refused_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(UserError, match=r"--jobs 0: give at least 1"):
        write_dataset(tiny, tmp_path / "new", processes=0)
    assert not (tmp_path / "new").exists()


def test_size_is_foreseen(cohort, tiny):
    foreseen = sum(job.size for job in all_jobs(tiny))
    written = sum(file.stat().st_size for file in cohort.rglob("*") if file.is_file())
    assert foreseen == pytest.approx(written, rel=0.02)


def test_hypnograms_of_whole_nights_are_those_of_the_raw_nights(cohort, tiny):
    labels = read_pickle(cohort / "SI Staging Label/Whole_label_data.pickle")
    assert list(labels) == ["subject_0", "subject_1", "subject_test_0"]
    for name, group, number in (("subject_1", "train", 1), ("subject_test_0", "test", 0)):
        runs, codes = labels[name], hypnogram(tiny.night, tiny.seed, group, number)
        lengths = np.diff(runs["onset"]) / 30
        assert np.repeat(runs["label"], lengths.astype(int)).tolist() == codes.tolist()


def test_whole_data_hold_the_trials_of_the_other_files(cohort):
    whole = read_pickle(cohort / "SI Main Test/subject_test_0/Whole_data.pickle")
    trials = read_pickle(cohort / PICKLE)
    assert {name: len(part) for name, part in whole.items()} == {
        "awake_image": 30, "awake_audio": 30, "N2N3": 10, "REM": 3,
    }  # fmt: skip
    for one, other in zip(whole["N2N3"], trials, strict=True):
        assert np.array_equal(one["EEG"], other["Sleep_EEG"])
        assert np.array_equal(one["category"], other["category"])
        assert one["simulated"] is True


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_others_and_is_told(tiny, tmp_path, monkeypatch):
    from multiprocessing import active_children

    jobs = all_jobs(tiny, ("recording",))
    broken = jobs[0]._replace(arguments=("no settings",))
    monkeypatch.setattr(dataset, "all_jobs", lambda *_: [broken, *jobs])
    before = set(active_children())  # those of other tests
    with pytest.raises(AttributeError, match="no attribute 'recording'"):
        write_dataset(tiny, tmp_path, processes=2)
    for process in set(active_children()) - before:
        process.join(20)
    assert not set(active_children()) - before
