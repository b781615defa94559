"""What breaks in a night, injected: each time the session goes on, says so, and plays nothing it must not."""

import errno
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Recording.event_log import EventLog, decisions, read_log
from sleep_interpreter.realtime.Session.cue_watchdog import CueWatchdog
from sleep_interpreter.realtime.Sources.simulated_source import SimulatedSource
from sleep_interpreter.utils.core.errors import UserError

from .conftest import of

# one cue about every 3 s from 31 s on
OFTEN = ["--set", "cues.interval_seconds=[2.5, 3]", "--set", "arousal.enabled=false"]


def _faults(*faults):
    return ["--set", f"faults={json.dumps(list(faults))}"]


def _cues_between(result, first, last):
    return [e for e in of(result, "cue") if first * 500 < e["sample"] < last * 500]


@pytest.mark.parametrize("kind", ["flat", "railed", "nan", "loud", "line"])
def test_a_bad_staging_electrode_stops_cues_within_seconds(session, recording, staged, kind):
    fault = {"kind": kind, "start": 40, "seconds": 8, "channels": ["C4"]}
    result = session(recording, *staged, *OFTEN, *_faults(fault))
    found = of(result, "quality")
    assert found[0]["detail"]["channel"] == "C4" and 40 <= found[0]["seconds"] <= 44
    assert found[-1]["detail"]["reason"] is None and found[-1]["seconds"] > 48
    off = next(e for e in of(result, "cueing") if not e["detail"]["on"])
    assert off["seconds"] <= found[0]["seconds"] and "C4" in (off["detail"]["reason"] or "C4")
    assert of(result, "cue") and not _cues_between(result, found[0]["seconds"], 48)
    assert any("a rehearsal" in e["detail"]["text"] for e in of(result, "notice"))
    assert result.summary["ending"] == "end of recording"


def test_a_lost_stream_is_a_gap_and_the_stage_is_unknown_until_30_s_have_come(session, recording, staged):
    result = session(recording, *staged, *OFTEN, *_faults({"kind": "lost", "start": 38, "seconds": 4}))
    (gap,) = of(result, "gap")
    assert gap["detail"]["seconds"] == 4
    assert [e["detail"]["state"] for e in of(result, "stream")] == ["lost", "back"]
    unknown = [e["seconds"] for e in of(result, "stage") if e["detail"]["stage"] == "unknown"]
    assert min(unknown) <= 43 and max(unknown) >= 65
    assert _cues_between(result, 31, 38) and not _cues_between(result, 38.01, 72)
    assert _cues_between(result, 73, 80)


@pytest.mark.parametrize(
    "lost", [[(40, 0.02)], [(36, 0.02), (44, 0.02), (52, 0.02), (60, 0.02)], [(40, 0.3), (49.98, 0.02)], [(45, 2.0)]]
)
def test_what_is_lost_for_a_moment_is_bridged_and_cueing_goes_on(session, recording, staged, lost):
    """One lost packet a minute was a night without cues: each made the stage unknown for 30 s."""
    faults = [{"kind": "dropped", "start": start, "seconds": seconds} for start, seconds in lost]
    result = session(recording, *staged, *OFTEN, *_faults(*faults))
    assert len(of(result, "gap")) == len(lost)
    assert [e["detail"]["open"] for e in of(result, "gate")] == [True]
    assert not [e for e in of(result, "stage") if e["detail"]["stage"] == "unknown" and e["seconds"] > 31]
    for start, seconds in lost:  # no cue while samples are missing in what the electrodes are judged by, then again
        assert not _cues_between(result, start + 1, start + seconds)
        assert _cues_between(result, start + seconds, start + seconds + 10)


class _Cueing:
    """What the watchdog asks of cueing."""

    def __init__(self):
        self.blocks, self.open, self.counts = {}, True, (0, 0)

    def block_reasons(self):
        return "; ".join(reason for reason, _ in self.blocks.values()) or None


@pytest.mark.parametrize(
    ("blocks", "counts", "after", "says"),
    [
        ({"stream": ("samples arrive late", None)}, (0, 0), 18, "samples arrive late"),
        ({"signal": ("C4 is flat", None)}, (0, 0), 18, "C4 is flat"),
        ({}, (0, 0), 18, "none was decided"),
        ({}, (0, 4), 18, "4 were skipped"),
        ({"arousal": ("arousal: movement", 10**9)}, (0, 0), 300, "arousal"),
        ({"operator": ("paused by the operator", None)}, (0, 0), None, None),
    ],
)
def test_an_open_gate_without_cues_is_said_aloud_with_the_reason(blocks, counts, after, says):
    cueing = _Cueing()
    watchdog = CueWatchdog(SessionSettings(), cueing, lambda: cueing, lambda: cueing.counts, 0)
    assert watchdog.check(500) == []
    cueing.blocks, cueing.counts = blocks, counts
    found = [(second, fault) for second in range(2, 400) for fault in watchdog.check(500 * second)]
    if after is None:
        assert found == []
        return
    ((second, fault),) = found
    assert fault["state"] == "failed" and says in fault["reason"] and after <= second <= after + 3
    cueing.counts = (1, counts[1])
    assert [fault["state"] for fault in watchdog.check(500 * 401)] == ["back"]
    assert watchdog.check(500 * 402) == []


def test_a_stall_stops_cues_and_loses_nothing(session, recording, staged):
    result = session(recording, *staged, *OFTEN, *_faults({"kind": "stalled", "start": 45, "seconds": 6}))
    assert [e["detail"]["state"] for e in of(result, "stream")] == ["stalled", "back"]
    assert not of(result, "gap") and not _cues_between(result, 45, 51) and _cues_between(result, 51, 80)


def test_a_replay_meets_a_stall_before_the_first_sample(main, staged, tmp_path):
    """As where a stream begins with a backlog."""
    words = ["--subject", "s1", "--source", "simulate", "--speed", "0", "--out", str(tmp_path / "night")]
    fault = {"kind": "stalled", "start": 0, "seconds": 34}
    hours = ["--set", "source.simulate.hours=0.0125"]
    assert main([*words, *staged, *OFTEN, *hours, *_faults(fault)]) == 0
    folder = tmp_path / "night" / "s1" / "session_001"
    assert main(["--session", str(folder), "--out", str(tmp_path / "again")]) == 0
    one = decisions(read_log(folder / "log.jsonl"))
    assert next(e[0] for e in one if e[1] == "stream") == 0
    assert decisions(read_log(tmp_path / "again" / "s1" / "session_001" / "log.jsonl")) == one


@pytest.mark.slow
def test_a_simulated_sleeper_at_four_times_its_speed_has_a_steady_clock(main, staged, tmp_path):
    words = ["--subject", "s1", "--source", "simulate", "--speed", "4", "--out", str(tmp_path)]
    rest = ["source.simulate.hours=0.0125", "audio.sink=file", "source.behind_seconds=10"]
    rest = [word for setting in rest for word in ("--set", setting)]
    began = time.monotonic()
    assert main([*words, *staged, *OFTEN, *rest]) == 0
    assert time.monotonic() - began > 45 / 4
    events = read_log(tmp_path / "s1" / "session_001" / "log.jsonl")
    assert not [e for e in events if e["event"] in ("fault", "gap", "stream")]
    assert [e for e in events if e["event"] == "cue"]


def test_a_fault_of_an_unused_channel_is_refused(session, recording, staged):
    with pytest.raises(UserError, match="'Pz' is not used"):
        session(recording, *staged, *_faults({"kind": "flat", "start": 1, "seconds": 1, "channels": ["Pz"]}))


def test_a_stager_that_raises_and_one_that_is_well_again(session, recording, staged, monkeypatch):
    from sleep_interpreter.utils.staging.stagers import SIStagingStager

    real, calls = SIStagingStager.update, []

    def update(self, window, end):
        calls.append(end)
        if 3 <= len(calls) <= 4:
            raise RuntimeError("out of luck")
        return real(self, window, end)

    monkeypatch.setattr(SIStagingStager, "update", update)
    result = session(recording, *staged, *OFTEN)
    bad = [e for e in of(result, "stage") if e["detail"]["reason"]]
    assert [e["detail"]["reason"] for e in bad] == ["RuntimeError: out of luck"] * 2
    assert [e["detail"]["open"] for e in of(result, "gate")] == [True, False, True]
    closed, opened = (e["sample"] for e in of(result, "gate")[1:])
    assert not [e for e in of(result, "cue") if closed + 100 < e["sample"] <= opened]


def test_a_full_disk_loses_no_event_and_the_session_goes_on(session, recording, staged, monkeypatch):
    """The log's file refuses for a while, as a full disk does; everything is there in the end, in order."""
    from sleep_interpreter.realtime.Recording import event_log

    real, state = event_log.os.fsync, {"calls": 0}

    def fsync(handle):
        state["calls"] += Path(f"/proc/self/fd/{handle}").readlink().name == "log.jsonl"
        if 12 <= state["calls"] < 18:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle)

    monkeypatch.setattr(event_log.os, "fsync", fsync)
    result = session(recording, *staged, *OFTEN)
    states = [e["detail"]["state"] for e in of(result, "fault") if e["detail"]["part"] == "log"]
    assert states == ["failed", "back"]
    numbers = [e["detail"]["number"] for e in of(result, "cue")]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 5
    assert result.summary["ending"] == "end of recording"


def test_a_real_full_file_system_keeps_what_was_there(tmp_path):
    """/dev/full answers every write with "no space left"."""
    from sleep_interpreter.realtime.Recording.event_log import EventLog, read_log

    log = EventLog(tmp_path / "log.jsonl", 500)
    log.write(1, "cue", 3)
    whole, log._file = log._file, open("/dev/full", "wb", buffering=0)  # noqa: SIM115, PTH123
    log.write(2, "cue", 4)
    log.write(3, "cue", 5)
    assert [f["state"] for f in log.take_faults()] == ["failed"]
    log._file.close()
    log._file = whole
    log.write(4, "cue", 6)
    assert [e["code"] for e in read_log(tmp_path / "log.jsonl")] == [3, 4, 5, 6]
    assert [f["state"] for f in log.take_faults()] == ["back"]
    log.close()


def test_a_disk_full_for_good_leaves_the_log_its_reserve(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    try:
        log = EventLog(disk / "log.jsonl", 500, reserve=100_000)
        with (disk / "rest").open("wb", buffering=0) as rest, pytest.raises(OSError, match="No space"):
            while True:
                rest.write(bytes(4096))
        for number in range(200):
            log.write(number, "cue", 3, text="x" * 100)
        assert [(f["state"], "kept for it" in f["reason"]) for f in log.take_faults()] == [("failed", True)]
        assert [e["sample"] for e in read_log(disk / "log.jsonl")] == list(range(200))
        for number in range(200, 1500):  # and when that is used up, in memory
            log.write(number, "cue", 3, text="x" * 100)
        assert [f["state"] for f in log.take_faults()] == ["failed"]
        (disk / "rest").unlink()
        log.close()
        assert [e["sample"] for e in read_log(disk / "log.jsonl")] == list(range(1500))
        assert not (disk / ".reserve").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_cueing_stops_while_nothing_is_recorded_and_a_replay_decides_the_same(main, staged, tmp_path, monkeypatch):
    words = ["--subject", "s1", "--source", "simulate", "--speed", "0", "--out", str(tmp_path / "night")]
    hours = ["--set", "source.simulate.hours=0.028"]
    real, calls = SimulatedSource.take_inputs, []

    def take_inputs(self):
        calls.append(1)
        told = {400: ("failed", "the disk is full"), 700: ("back", "recording goes on")}.get(len(calls))
        return real(self) + ([("recorder", {"state": told[0], "reason": told[1]})] if told else [])

    monkeypatch.setattr(SimulatedSource, "take_inputs", take_inputs)
    assert main([*words, *staged, *OFTEN, *hours]) == 0
    events = read_log(tmp_path / "night" / "s1" / "session_001" / "log.jsonl")
    off, on = (e["sample"] for e in events if e["event"] == "recording")
    cues = [e["sample"] for e in events if e["event"] == "cue"]
    assert not [c for c in cues if off < c <= on] and min(cues) < off and max(cues) > on
    assert {e["detail"]["reason"] for e in events if e["event"] == "cueing"} >= {"nothing is recorded"}
    monkeypatch.setattr(SimulatedSource, "take_inputs", real)
    folder = tmp_path / "night" / "s1" / "session_001"
    assert main(["--session", str(folder), "--out", str(tmp_path / "again")]) == 0
    assert decisions(read_log(tmp_path / "again" / "s1" / "session_001" / "log.jsonl")) == decisions(events)


def test_arousal_pauses_at_once_and_for_its_time(session, raw55, staged, tmp_path):
    raw = raw55.copy().load_data()
    emg = raw.ch_names.index("EMG1")
    burst = slice(50 * 500, 53 * 500)
    raw._data[emg, burst] += 60e-6 * np.random.default_rng(0).standard_normal(1500)
    raw.save(tmp_path / "aroused_raw.fif", verbose="error")
    quiet = ["--set", "cues.interval_seconds=[2.5, 3]", "--set", "arousal.pause_seconds=12"]
    result = session(tmp_path / "aroused_raw.fif", *staged, *quiet)
    (first, *_) = of(result, "arousal")
    assert "EMG rise" in first["detail"]["reason"] and 50 < first["seconds"] < 51
    assert _cues_between(result, 31, 50) and not _cues_between(result, first["seconds"], 53 + 11)
    assert _cues_between(result, 66, 80)


def test_no_thread_is_left_behind(session, recording, staged):
    session(recording, *staged, "--stop", 35)
    assert not [t for t in threading.enumerate() if t.name in ("acquisition", "sound", "control")]
