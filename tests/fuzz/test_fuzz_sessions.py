"""Session folders that anybody may have made, and what is asked of a session and of its monitor."""

import contextlib
import json

import pytest
from hypothesis import strategies as st

from sleep_interpreter.realtime.Control.control_server import _parsed
from sleep_interpreter.realtime.Control.request import checked_args
from sleep_interpreter.realtime.Recording.event_log import EventLog, decisions, read_log
from sleep_interpreter.realtime.Recording.session_recording import annotations
from sleep_interpreter.realtime.Report.session_data import load_session
from sleep_interpreter.utils.core.data_card import published
from tests.fuzz.engine import changed_text, changed_value, fuzz, refused

pytestmark = pytest.mark.slow

ITEMS = published().item_names


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """A log with events of every kind that is read."""
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    log = EventLog(path, 500)
    log.write(0, "notice", level="warning", text="EDF+D")
    log.write(0, "cueing", on=True)
    log.write(500, "stage", taken=700, stage="N2", probabilities=[0.1, 0.7, 0.1, 0.1], smoothed=None, open=True)
    log.write(500, "gate", open=True)
    cue = {"number": 0, "item": ITEMS[0], "group": 0, "stage": "N2", "recorded": False, "locked": True}
    log.write(1000, "cue", 21, **cue, sounded=True)
    log.write(1000, "sham", None, **cue | {"number": 1})
    log.write(1001, "sound", number=0, dac=None)
    log.write(1200, "cue_phase", number=0, locked=True, degrees=10.0, at_random=[1.0, 2.0])
    log.write(1900, "decode", latency=0.1, number=0, cued=ITEMS[0], item=ITEMS[1], recorded=False,
              probabilities=[1 / 15] * 15)  # fmt: skip
    log.write(2000, "quality", channel="C4", reason="flat")
    log.write(2100, "gap", first=2100, count=50, seconds=0.1)
    log.write(2200, "resume", segment="segment_002.vhdr", after=2100)
    log.write(2300, "fault", state="back", reason="goes on in segment_002.vhdr")
    log.write(2400, "command", command="mark", ok=True, args={"text": "turned"}, origin="monitor")
    log.write(2500, "stop", reason="the end")
    log.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_logs(tmp_path, events):
    lines = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    about = {"source": "replay", "simulated": True, "subject": {"id": "s1"}, "recording": {"path": "a.edf"},
             "started": "2026-01-02T22:00:00+00:00", "counts": {"cue": 1}}  # fmt: skip

    def attempt(value):
        log, said = value
        if not isinstance(log, bytes):
            log = b"".join(json.dumps(event).encode() + b"\n" for event in log)
        (tmp_path / "log.jsonl").write_bytes(log)
        (tmp_path / "session.json").write_text(json.dumps(said))
        (tmp_path / "summary.json").write_text(json.dumps(said))
        refused(annotations, tmp_path, 500.0)
        decisions(read_log(tmp_path / "log.jsonl"))
        session = load_session(tmp_path)
        _ = session.begin, session.end, session.ending, session.started, session.cues(), session.cues("sham")
        _ = session.phases(), session.live, session.simulated

    logs = st.one_of(changed_text([lines]), changed_value(events))
    fuzz(attempt, st.tuples(logs, changed_value(about)), 800)


def test_requests_of_the_control():
    requests = [
        {"token": "x" * 32, "command": "volume", "args": {"db": -3.0}, "origin": "monitor"},
        {"token": "x" * 32, "command": "mark", "args": {"text": "turned over"}},
        {"token": "x" * 32, "command": "subscribe"},
    ]
    lines = [json.dumps(request).encode() for request in requests]

    def attempt(line):
        request, _ = _parsed(line)
        json.dumps(checked_args(request.get("command"), request.get("args") or {}), allow_nan=False).encode()

    values = st.sampled_from(requests).flatmap(changed_value).map(lambda value: json.dumps(value).encode())
    fuzz(attempt, st.one_of(changed_text(lines), values), 2000, refusals=(ValueError,))


def test_the_monitor(tmp_path, events):
    """Sessions that the monitor lists and shows."""
    from sleep_interpreter.realtime.Monitor import history

    folder = tmp_path / "s1" / "session_001"
    folder.mkdir(parents=True)
    about = {"started": "2026-01-02T22:00:00+00:00", "ending": None, "channels": ["C4"], "simulated": True,
             "recording": {"path": "a.edf"}, "counts": {"cue": 1}, "subject": {"id": "s1"}}  # fmt: skip
    lines = b"".join(json.dumps(event).encode() + b"\n" for event in events)

    def attempt(value):
        log, said = value
        if not isinstance(log, bytes):
            log = b"".join(json.dumps(event).encode() + b"\n" for event in log)
        (folder / "log.jsonl").write_bytes(log)
        (folder / "session.json").write_text(json.dumps(said))
        json.dumps(history.list_sessions(tmp_path))
        shown = history.SessionHistory(folder)
        json.dumps(shown.content())
        with contextlib.suppress(ValueError, OSError):
            history.SignalReader(shown).read(0.0, 1.0)

    logs = st.one_of(changed_text([lines]), changed_value(events))
    fuzz(attempt, st.tuples(logs, changed_value(about)), 500)
