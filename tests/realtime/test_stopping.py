"""Ctrl-C and SIGTERM at every stage of a session, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Parameters.source import SourceSettings
from sleep_interpreter.realtime.Sources.source import Plan, open_source
from sleep_interpreter.realtime.Subject import Subject
from sleep_interpreter.utils.core.errors import UserError

from .conftest import RATE, SCRIPT, SECONDS, of, read_session


@pytest.fixture
def started(tmp_path):
    """Start the script as a user does; what is still running at the end of the test is killed."""
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--out", str(tmp_path / "out"), *map(str, arguments)],
            stderr=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
        processes.append(process)
        return process, tmp_path / "out" / "unnamed" / "session_001"

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _until(condition, process):
    deadline = time.monotonic() + 90
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)


def _ended(process, code):
    """The process ends by itself, soon, with that code and without a traceback."""
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return errors


def test_ctrl_z_does_not_hold_up_a_session_and_ctrl_c_leaves_a_valid_folder(started, recording, staged):
    process, folder = started("--recording", recording, *staged, "--speed", 10)
    log = folder / "log.jsonl"
    _until(lambda: log.exists() and '"notice"' in log.read_text(encoding="utf-8"), process)
    if hasattr(signal, "SIGTSTP"):  # POSIX
        process.send_signal(signal.SIGTSTP)
    _until(lambda: '"cue"' in log.read_text(encoding="utf-8"), process)
    process.send_signal(signal.SIGINT)
    errors = _ended(process, 130)
    assert "stopped by Ctrl-C: the log is complete, the report is being written" in errors
    result = read_session(folder)
    assert result.summary["ending"] == result.about["ending"] == "interrupted"
    assert of(result, "cue") and result.events[-1]["detail"]["reason"] == "interrupted"
    assert result.about["samples"] < SECONDS * RATE
    data, rate = soundfile.read(folder / "cues.flac")
    assert len(data) == round(result.about["samples"] * rate / RATE)
    assert (folder / "session.png").exists()


def _maps_numpy(process):
    try:
        return "numpy" in Path(f"/proc/{process.pid}/maps").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into the process through /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_session_leaves_nothing(started, recording, tmp_path, number, code):
    process, _ = started("--recording", recording)
    _until(lambda: _maps_numpy(process), process)  # in the middle of its imports
    process.send_signal(number)
    errors = _ended(process, code)
    assert errors.endswith("before the session began: nothing was written\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "at", "code", "ending"),
    [
        (signal.SIGINT, "settings.yaml", 130, "interrupted"),  # the folder is being made
        # the source waits for its first chunk, 60 s long
        (signal.SIGTERM, "log.jsonl", 143, "terminated"),
    ],
)
def test_a_signal_ends_a_session_at_once(started, recording, number, at, code, ending):
    process, folder = started("--recording", recording, "--speed", 1, "--set", "source.chunk_seconds=60")
    _until((folder / at).exists, process)
    time.sleep(0.2 if at == "log.jsonl" else 0)
    process.send_signal(number)
    _ended(process, code)
    result = read_session(folder)
    assert result.summary["ending"] == result.about["ending"] == ending
    assert result.events[-1]["detail"]["reason"] == ending
    assert (folder / "log.tsv").exists() and (folder / "session.png").exists()


@pytest.mark.slow
def test_signals_while_the_report_is_written_change_nothing(started, recording):
    process, folder = started("--recording", recording, "--stop", 40)
    _until((folder / "log.tsv").exists, process)  # the last file before the report
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    _ended(process, 130)
    result = read_session(folder)
    assert result.summary["ending"] == result.about["ending"] == "end of recording"
    names = {p.name for p in folder.iterdir()}
    assert {"hypnogram.tsv", "session.png", "log.tsv", "cues.flac"} <= names
    assert not [name for name in names if "tmp" in name]


def _simulated(origin=0, **more):
    settings = SourceSettings(kind="simulate", look_seconds=0.5, **more)
    return open_source(settings, Plan(SessionSettings(source=settings), Subject(), origin=origin))


@pytest.mark.parametrize(
    ("speed", "stop", "origin", "samples"), [(0, 3.5, 0, 1750), (0, 3.5, 1000, 750), (4, 3, 0, 1500), (0, 0.001, 0, 0)]
)
def test_a_stream_ends_when_it_was_to_end(speed, stop, origin, samples):
    """To the sample, and counted from the session's beginning where it goes on."""
    source = _simulated(origin, speed=speed, stop=stop)
    try:
        source.open(["Fz", "C4"])
        source.begin_at(origin)
        assert source.seconds == samples / RATE
        assert sum(chunk.shape[1] for chunk in source.chunks()) == samples
    finally:
        source.close()


def test_a_stream_has_no_begin_to_choose_and_ends_once():
    with pytest.raises(UserError, match=r"source.start = 5 s: a stream \(simulate\) .* source.simulate.start_minutes"):
        _simulated(start=5)
    with pytest.raises(UserError, match=r"source.stop = 3 s: the session is at 4 s already"):
        _simulated(stop=3, origin=2000)
    settings = SourceSettings(kind="lsl", start=5)
    with pytest.raises(UserError, match=r"a stream \(lsl\) begins where it is; leave --start out$"):
        open_source(settings, Plan(SessionSettings(source=settings), Subject()))
