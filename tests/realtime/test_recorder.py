"""The recorder: killed, on a full disk, torn at the end; what was acknowledged is always readable."""

import json
import os
import resource
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace
from unittest import mock

import mne
import numpy as np
import pytest

from sleep_interpreter.realtime.Parameters.source import RecordingSettings
from sleep_interpreter.realtime.Recording import recorder as module
from sleep_interpreter.realtime.Recording.recorder import PLACE, Recorder
from sleep_interpreter.realtime.Recording.session_recording import join_segments, segments
from sleep_interpreter.realtime.Report.session_data import load_session
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import ROOT

NAMES, RATE = ("A", "B", "C"), 500.0


def counter(first, count):
    return np.stack([np.arange(first, first + count) + 1000 * c for c in range(3)]).astype(np.float32)


def read(path):
    raw = mne.io.read_raw(path, preload=True, verbose="error")
    return raw, raw.get_data() * 1e6


def place(raw):
    (found,) = [a for a in raw.annotations.description if PLACE in a]
    return int(found.split(":")[-1])


_WRITER = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from sleep_interpreter.realtime.Parameters.source import RecordingSettings
from sleep_interpreter.realtime.Recording.recorder import Recorder
out, count = Path(sys.argv[1]), int(sys.argv[2])
rng = random.Random(3)
for number in range(count):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        written = 0
        recorder = Recorder(out / str(number), ("A", "B", "C"), 500.0, RecordingSettings(sync_seconds=0.1))
        told = -1
        while True:
            if written % 700 == 690:
                recorder.gap(7)
                written += 7
            block = np.stack([np.arange(written, written + 10) + 1000 * c for c in range(3)])
            recorder.append(block.astype(np.float32))
            written += 10
            recorder.sync_when_due()
            if recorder.acknowledged != told:
                told = recorder.acknowledged
                os.write(writing, b"%d\\n" % told)
    os.read(reading, 1)
    time.sleep(rng.uniform(0.0, 0.35))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(writing)
    told = b""
    while part := os.read(reading, 65536):
        told += part
    os.close(reading)
    print(number, (b"0" + told).split()[-1].decode(), flush=True)
"""


def test_kill_9_at_20_moments_loses_no_acknowledged_sample(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", _WRITER, str(tmp_path), "20"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    said = [line.split() for line in run.stdout.splitlines()]
    assert len(said) == 20 and sum(int(n) > 0 for _, n in said) > 10
    for number, acknowledged in said:
        raw, data = read(tmp_path / number / "segment_001.vhdr")
        assert raw.n_times >= int(acknowledged)
        expected = counter(0, raw.n_times)
        for gap in (a for a in raw.annotations if a["description"] == "BAD_ACQ_SKIP/gap"):
            first, count = round(gap["onset"] * RATE), round(gap["duration"] * RATE)
            assert count == 7
            expected[:, first : first + count] = 0
        np.testing.assert_allclose(data, expected, rtol=1e-6)  # no gap without its marker


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_torn_last_block_costs_that_block_only(tmp_path, cut):
    recorder = Recorder(tmp_path, NAMES, RATE, RecordingSettings())
    recorder.append(counter(0, 100))
    recorder.close()
    eeg = tmp_path / "segment_001.eeg"
    with eeg.open("rb+") as file:
        file.truncate(eeg.stat().st_size - cut)
    raw, data = read(tmp_path / "segment_001.vhdr")
    assert raw.n_times == 99
    np.testing.assert_allclose(data, counter(0, 99), rtol=1e-6)


def fill(recorder, position, seconds):
    """Append until the recorder reports a failure; return the next sample."""
    for number in range(int(seconds * RATE / 50)):
        recorder.append(counter(position, 50))
        position += 50
        recorder.sync_when_due()
        if number == 20:
            recorder.flush()
        if recorder._failed_at is not None:
            return position
    raise AssertionError("it never failed")


def check_full_disk(folder, monkeypatch, make_room):
    """A disk is full; then there is room again: both segments hold their own samples at their own place."""
    monkeypatch.setattr(module, "_RETRY_SECONDS", 1e9)
    recorder = Recorder(folder, NAMES, RATE, RecordingSettings(sync_seconds=0.1), first=4000)
    position = fill(recorder, 0, 600)
    ((kind, detail),) = recorder.take_inputs()
    assert (kind, detail["state"]) == ("recorder", "failed") and "segment_001" in detail["reason"]
    safe = recorder.acknowledged
    recorder.append(counter(position, 50))
    position += 50
    make_room()
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    recorder.sync_when_due()
    again = position
    recorder.append(counter(position, 100))
    recorder.close()
    states = [d["state"] for _, d in recorder.take_inputs()]
    assert states == ["back"]
    segments = sorted(folder.glob("segment_*.vhdr"))
    assert [p.name for p in segments] == ["segment_001.vhdr", "segment_002.vhdr"]
    raw, data = read(segments[0])
    assert raw.n_times >= safe > 0 and place(raw) == 4000
    np.testing.assert_allclose(data, counter(0, raw.n_times), rtol=1e-6)
    raw, data = read(segments[1])
    assert place(raw) == 4000 + again and raw.n_times == 100
    np.testing.assert_allclose(data, counter(again, 100), rtol=1e-6)


def test_a_file_that_may_not_grow_is_reported_and_the_recording_goes_on(tmp_path, monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        check_full_disk(tmp_path, monkeypatch, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_reported_and_the_recording_goes_on(tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(100_000))
        check_full_disk(disk / "recording", monkeypatch, ballast.unlink)
        with (disk / "rest").open("wb", buffering=0) as rest, pytest.raises(OSError, match="No space"):
            while True:
                rest.write(bytes(4096))
        with pytest.raises(OSError, match="No space"):  # attempts on a full disk leave nothing behind
            Recorder(disk / "recording", NAMES, RATE, RecordingSettings())
        assert len(list((disk / "recording").iterdir())) == 6
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_stays_full_is_given_up_for_the_second_place(tmp_path, monkeypatch):
    session, second = tmp_path / "s1" / "session_001", tmp_path / "other disk"
    settings = RecordingSettings(sync_seconds=0.1, second_folder=str(second))
    real = module._has_room
    monkeypatch.setattr(module, "_has_room", lambda place, needed: place.parent != session and real(place, needed))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    recorder = Recorder(session / "recording", NAMES, RATE, settings)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        position = 0
        while recorder.path.parent == session / "recording":
            recorder.append(counter(position, 50))
            position += 50
            recorder.sync_when_due()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    recorder.append(counter(position, 100))
    recorder.close()
    states = [detail for _, detail in recorder.take_inputs()]
    assert [detail["state"] for detail in states] == ["failed", "back"]
    assert str(second / "s1_session_001" / "segment_002.vhdr") in states[1]["reason"]
    (session / "settings.yaml").write_text(f"recording: {{second_folder: {json.dumps(str(second))}}}\n")
    first, later = segments(session)
    assert first.end <= later.first and later.end == position + 100
    # what lies nowhere was counted
    assert recorder.missed >= later.first - first.end and recorder.missed_seconds == recorder.missed / RATE


def in_second_place(session, second, **more):
    """Record a segment in a session's own folder, and one in the second place, as when the disk is full."""
    session.mkdir(parents=True, exist_ok=True)
    (session / "settings.yaml").write_text(f"recording: {{second_folder: {json.dumps(str(second))}}}\n")
    settings = RecordingSettings(second_folder=str(second))
    recorder = Recorder(session / "recording", NAMES, RATE, settings, **more)
    recorder.append(counter(0, 50))
    recorder._fail(OSError("full"), 0)
    with mock.patch.object(module, "_has_room", lambda place, needed: place.parent != session):
        recorder._retry(0.0)
    recorder.append(counter(50, 50))
    return recorder


def test_a_second_place_that_was_not_needed_goes(tmp_path):
    session, second = tmp_path / "s1" / "session_001", tmp_path / "other disk"
    recorder = Recorder(session / "recording", NAMES, RATE, RecordingSettings(second_folder=str(second)))
    assert (second / "s1_session_001").is_dir()
    recorder.close()
    assert not list(second.iterdir())


def test_a_session_that_goes_on_knows_its_second_place(tmp_path):
    session, second = tmp_path / "s1" / "session_001", tmp_path / "other disk"
    in_second_place(session, second)  # killed
    recorder = in_second_place(session, second, first=200, resumed=True)
    assert recorder.path == second / "s1_session_001" / "segment_004.vhdr"
    recorder.close()
    assert [part.path.name for part in segments(session)] == [f"segment_{n:03d}.vhdr" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("mark", [None, "other", "empty", "link", "words", "folder"])
def test_a_session_of_somebody_else_does_not_reach_into_a_second_place(tmp_path, mark):
    """Its settings name the folder in which another session of the same name went on."""
    mine, second, theirs = (
        tmp_path / "s1" / "session_001",
        tmp_path / "other disk",
        tmp_path / "t" / "s1" / "session_001",
    )
    in_second_place(mine, second).close()
    before = sorted(second.rglob("*"))
    recorder = in_second_place(theirs, tmp_path / "third")
    recorder.close()
    (theirs / "settings.yaml").write_text((mine / "settings.yaml").read_text())
    event = {
        "sample": 0,
        "seconds": 0.0,
        "event": "stop",
        "code": None,
        "detail": {"reason": "x"},
        "wall": {"time": ""},
    }
    (theirs / "log.jsonl").write_text(json.dumps(event) + "\n")
    own, other = theirs / "recording" / "second_folder.id", second / "s1_session_001" / "second_folder.id"
    if mark is None:
        own.unlink()
    elif mark == "empty":
        own.write_text("")
        other.write_text("")
    elif mark == "link":
        own.unlink()
        own.symlink_to(other)
    elif mark == "words":
        own.write_text("segment\n")
        other.write_text("segment\n")
    elif mark == "folder":
        own.unlink()
        own.mkdir()
    for read in (segments, lambda folder: join_segments(folder, tmp_path / "joined.vhdr")):
        with pytest.raises(
            UserError, match=r"leads out of|segments do not tell that they are of this session.*move them"
        ):
            read(theirs)
    if mark != "link":
        assert any("do not tell that they are of this session" in text for text in load_session(theirs).missing)
    settings = RecordingSettings(second_folder=str(second))
    recorder = Recorder(theirs / "recording", NAMES, RATE, settings, first=100, resumed=True)
    recorder._fail(OSError("full"), 0)
    assert recorder._places == [theirs / "recording"]
    recorder.close()
    recorder = Recorder(tmp_path / "new" / "s1" / "session_001" / "recording", NAMES, RATE, settings)
    assert len(recorder._places) == 1  # one that begins takes nobody's place either
    recorder.close()
    assert sorted(second.rglob("*")) == before


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_second_place_leads_nowhere_else(tmp_path):
    session, second = tmp_path / "s1" / "session_001", tmp_path / "other disk"
    in_second_place(session, second).close()
    (tmp_path / "mine.vhdr").touch()
    (second / "s1_session_001" / "segment_003.vhdr").symlink_to(tmp_path / "mine.vhdr")
    with pytest.raises(UserError, match="leads out of its folder"):
        segments(session)


def test_a_second_place_that_cannot_be_made_is_told(tmp_path, caplog):
    (tmp_path / "file").touch()
    settings = RecordingSettings(second_folder=str(tmp_path / "file"))
    Recorder(tmp_path / "s1" / "session_001" / "recording", NAMES, RATE, settings).close()
    assert "recording.second_folder: nothing can be recorded in" in caplog.text


def test_two_full_disks_are_not_tried_all_the_time(tmp_path):
    settings = RecordingSettings(sync_seconds=0.1, second_folder=str(tmp_path / "other disk"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    recorder = Recorder(tmp_path / "s1" / "session_001" / "recording", NAMES, RATE, settings)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        for position in range(0, 20_000, 50):
            recorder.append(counter(position, 50))
            recorder.sync_when_due()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    recorder.close()
    assert [detail["state"] for _, detail in recorder.take_inputs()] == ["failed", "back", "failed"]


def test_a_full_disk_is_taken_again_only_with_room_for_the_log_too(tmp_path, monkeypatch):
    """The log's reserve is not for the recording."""
    free = SimpleNamespace(free=module._LOG_BYTES + 1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: free)
    place = tmp_path / "recording"
    assert module._has_room(place, 5000)
    (tmp_path / "log.jsonl").touch()
    assert not module._has_room(place, 5000) and module._has_room(place, 900)
    (tmp_path / ".reserve").touch()
    assert module._has_room(place, 5000)


def test_a_long_gap_takes_neither_time_nor_room(tmp_path):
    recorder = Recorder(tmp_path, NAMES, RATE, RecordingSettings())
    recorder.append(counter(0, 50))
    hours = 3 * 3600 * 500
    recorder.gap(hours)
    recorder.append(counter(50, 50))
    recorder.close()
    eeg = tmp_path / "segment_001.eeg"
    assert eeg.stat().st_size == (hours + 100) * 12
    if sys.platform == "linux":
        assert eeg.stat().st_blocks * 512 < 1_000_000
    raw = mne.io.read_raw(tmp_path / "segment_001.vhdr", verbose="error")
    (gap,) = [a for a in raw.annotations if a["description"].startswith("BAD_ACQ_SKIP")]
    assert gap["duration"] == pytest.approx(hours / RATE)
    np.testing.assert_allclose(raw[:, hours + 50 :][0] * 1e6, counter(50, 50), rtol=1e-6)


def test_what_is_not_finite_stays_as_it_came(tmp_path):
    recorder = Recorder(tmp_path, NAMES, RATE, RecordingSettings())
    data = counter(0, 10)
    data[1] = np.nan
    recorder.append(data)
    recorder.close()
    _, found = read(tmp_path / "segment_001.vhdr")
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2]], data[[0, 2]], rtol=1e-6)


def test_segments_are_numbered_on_and_never_replaced(tmp_path):
    for first in (0, 700):
        recorder = Recorder(tmp_path, NAMES, RATE, RecordingSettings(), first=first)
        recorder.append(counter(first, 20))
        recorder.close()
    paths = sorted(tmp_path.glob("*.vhdr"))
    assert [place(read(p)[0]) for p in paths] == [0, 700]
    assert all(a != b for a, b in pairwise(paths)) and (tmp_path / "segment_001.eeg").stat().st_size == 240
