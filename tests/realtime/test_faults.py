"""What breaks in a night, injected: each time the session goes on, says so, and plays nothing it must not."""

import errno
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sleep_interpreter.realtime.Recording.event_log import decisions, read_log
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
