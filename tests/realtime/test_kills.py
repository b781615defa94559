"""A live, recording session killed with -9 at 20 random moments, and resumed each time."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import mne
import pytest

from sleep_interpreter.realtime.Recording.event_log import read_log
from sleep_interpreter.realtime.Recording.session_recording import segments
from sleep_interpreter.utils.core.data_card import published

from .conftest import SCRIPT

EEG_MONTAGE = published().channels

KILLS = 20
CHANNELS = len(EEG_MONTAGE) + 6


def _start(*words):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, words)], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip


def _lines(folder):
    path = folder / "log.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _sizes(folder):
    return {p.name: p.stat().st_size for p in (folder / "recording").glob("*.eeg")}


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_twenty_kills(staged, tmp_path):
    draw, folder = random.Random(8), tmp_path / "s1" / "session_001"
    words = [
        "--source", "simulate", "--speed", "6", "--out", tmp_path, "--subject", "s1", *staged,
        "--set", "source.simulate.hours=4", "--set", 'source.simulate.stage="N2"', "--set", "workers=inline",
        "--set", "arousal.enabled=false",
        "--set", "cues.interval_seconds=[2.5, 3]",
    ]  # fmt: skip
    for kill in range(KILLS):
        process = _start(*(words if kill == 0 else ["--resume", folder]))
        known, deadline = len(_lines(folder)), time.monotonic() + 120
        while len(_lines(folder)) <= known + 1:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 12))
        lines, sizes = _lines(folder), _sizes(folder)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        after = _sizes(folder)
        assert _lines(folder)[: len(lines)] == lines, f"kill {kill}: an event is gone"
        assert all(after[name] >= size for name, size in sizes.items()), f"kill {kill}: samples are gone"
        for path in (folder / "recording").glob("*.vhdr"):
            size = after[path.with_suffix(".eeg").name]
            if size >= 4 * CHANNELS:
                raw = mne.io.read_raw(path, preload=True, verbose="error")
                assert raw.n_times >= size // (4 * CHANNELS) - 1
    process = _start("--resume", folder)
    events = _until_cued(folder, process)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=120)
    assert process.returncode == 130, told

    resumed = [e for e in events if e["event"] == "resume"]
    assert len(resumed) == KILLS and len(segments(folder)) >= KILLS // 2
    samples = [e["sample"] for e in resumed]
    assert samples == sorted(samples)
    numbers = [e["detail"]["number"] for e in events if e["event"] in ("cue", "sham", "cue_cancelled")]
    assert len(numbers) == len(set(numbers)), "no cue has the number of another"
    gate = False
    for event in sorted(events, key=lambda e: e["sample"]):
        if event["event"] == "resume":
            gate = False
        elif event["event"] == "gate":
            gate = event["detail"]["open"]
        elif event["event"] == "cue":
            assert gate and event["detail"]["stage"] in ("N2", "N3"), event
    assert json.loads((folder / "session.json").read_text())["ending"] == "interrupted"


def _until_cued(folder, process):
    deadline = time.monotonic() + 120
    while True:
        events = read_log(folder / "log.jsonl")
        resumed = [k for k, e in enumerate(events) if e["event"] == "resume"]
        if len(resumed) == KILLS and any(e["event"] == "cue" for e in events[resumed[-1] :]):
            return events
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError((process.communicate()[1], events[-5:]))
        time.sleep(0.1)
