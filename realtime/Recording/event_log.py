"""The record of a session: one JSON line an event, on disk before the session goes on.

What an event says about the sleeper and the session (`sample`, `seconds`, `event`, `code`, `detail`) is
a function of the recording and the settings. What the clock on the wall says is apart, under `wall`.
"""

import contextlib
import datetime
import errno
import json
import logging
import os
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write

logger = logging.getLogger(__name__)

Event = dict[str, Any]
"""As in log.jsonl: sample, seconds, event, code, detail, wall."""
_EVENT: dict[str, Any] = {
    "sample": int, "seconds": (int, float), "event": str, "code": (int, NoneType), "detail": dict, "wall": dict,
}  # fmt: skip
_CUE: dict[str, Any] = {"number": int, "item": str}
_DETAILS: dict[str, dict[str, Any]] = {
    "cue": {**_CUE, "group": int}, "sham": {**_CUE, "group": int}, "cue_skipped": {"item": str, "reason": str},
    "cue_cancelled": {"item": str}, "cue_phase": {"number": int, "locked": bool}, "decode": {**_CUE, "cued": str},
    "decode_failed": {"number": int, "reason": str}, "stage": {"stage": str}, "gate": {"open": bool},
    "cueing": {"on": bool}, "arousal": {"reason": str}, "notice": {"level": str, "text": str}, "stop": {"reason": str},
    "command": {"command": str, "ok": bool}, "gap": {"first": int, "count": int},
}  # fmt: skip
"""What is read of an event, by its kind; other details may be missing, as in logs of older sessions."""
_LARGEST = 1e12
_FIRST = ("sample", "seconds", "event", "code")
_WALL = ("latency_ms", "time")
RESERVE = ".reserve"
"""File beside a log that keeps room for it."""
_OF_WALL_TIME = ("notice", "stop", "sound", "fault")
"""Events that a replay need not have, or has with other words."""


class EventLog:
    """Append-only log.jsonl, which must not exist yet unless `resume`: then it is gone on with, and a last line torn
    by a crash cut off. `rate` is that of the sample clock in Hz, `offset` the seconds of the recording before sample
    0 (source.start); `listener(event)` is called after each event, and `counts` are {event: how many}.

    A full disk does not end a session: what cannot be written is kept and written, in order, as soon as there is
    room, and the log says so (`take_faults`). So many bytes are held in `reserve` for that while the log is open.
    """

    def __init__(
        self, path: str | Path, rate: float, offset: float = 0.0, resume: bool = False,
        listener: Callable[[Event], None] | None = None, reserve: int = 0,
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self.counts: Counter[str] = Counter()
        self._rate, self._offset, self._listener = rate, offset, listener
        self._waiting: list[bytes] = []
        self._faults: deque[dict[str, str]] = deque()
        self._good = 0  # bytes of whole lines
        if resume:
            self.counts.update(e["event"] for e in read_log(self.path))
            self._good = self.path.read_bytes().rfind(b"\n") + 1
        self._file = self.path.open("rb+" if resume else "xb", buffering=0)
        self._file.truncate(self._good)
        self._file.seek(self._good)
        self._reserve = self.path.with_name(RESERVE)
        if reserve:
            with contextlib.suppress(OSError):  # there is no room to be held
                self._reserve.write_bytes(bytes(reserve))

    def write(
        self, sample: int, event: str, code: int | None = None, *, latency: float | None = None, **detail: Any
    ) -> None:
        """Append an event at a `sample` of the session's clock, with its marker code if it has one, and sync it to
        disk.

        `latency` is how many seconds were computed and belongs to the wall clock; `detail` are plain values that JSON
        can hold.
        """
        wall: dict[str, Any] = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")}
        if latency is not None:
            wall["latency_ms"] = round(latency * 1e3, 3)
        entry = {
            "sample": int(sample), "seconds": round(self._offset + sample / self._rate, 3),
            "event": event, "code": code, "detail": detail, "wall": wall,
        }  # fmt: skip
        self._waiting.append((json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace"))
        self._save()
        self.counts[event] += 1
        if self._listener is not None:
            self._listener(entry)

    def take_faults(self) -> list[dict[str, str]]:
        """Return [{"state": "failed" | "back", "reason"}] since the last call."""
        found = list(self._faults)
        self._faults.clear()
        return found

    def close(self) -> None:
        """Close log.jsonl and write log.tsv beside it."""
        if not self._file.closed:
            self._save()
            self._file.close()
            self._reserve.unlink(missing_ok=True)
            if self._waiting:
                self._save_elsewhere()
            try:
                write_table(read_log(self.path), self.path.with_suffix(".tsv"))
            except OSError as error:
                logger.error("%s cannot be written (%s)", self.path.with_suffix(".tsv"), error.strerror)

    def _save_elsewhere(self) -> None:
        """Write the events that the disk did not take into the system's folder for temporary files."""
        folder = self.path.parent
        handle, place = tempfile.mkstemp(".jsonl", f"{folder.parent.name}_{folder.name}_rest_of_log_")
        with os.fdopen(handle, "wb") as file:
            file.write(b"".join(self._waiting))
        logger.error(
            "the last %d events did not fit on the disk: they are in %s; append that file to %s",
            len(self._waiting), place, self.path,
        )  # fmt: skip

    def _save(self) -> None:
        failed = len(self._waiting) > 1
        try:
            self._put()
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._reserve.exists() or not self._put_into_reserve():
                self._keep_waiting(error, failed)
                return
        self._good = self._file.tell()
        if failed:
            text = f"{self.path.name}: {len(self._waiting)} events that had waited are written"
            self._faults.append({"state": "back", "reason": text})
        self._waiting.clear()

    def _put_into_reserve(self) -> bool:
        """The disk is full: give up the reserve, and say so."""
        with contextlib.suppress(OSError):
            self._reserve.unlink()
            self._go_back()
            self._put()
            text = f"the disk is full: {self.path.name} goes on in the room that was kept for it"
            self._faults.append({"state": "failed", "reason": text})
            return True
        return False

    def _go_back(self) -> None:
        """Half a line may be there: the next attempt writes over it."""
        self._file.seek(self._good)
        with contextlib.suppress(OSError):
            self._file.truncate(self._good)

    def _keep_waiting(self, error: OSError, failed: bool) -> None:
        self._go_back()
        if not failed:
            self._faults.append({"state": "failed", "reason": f"{self.path.name}: {error.strerror}"})
            logger.error("%s cannot be written (%s); events are kept in memory", self.path, error.strerror)

    def _put(self) -> None:
        data = memoryview(b"".join(self._waiting))
        while data:
            data = data[self._file.write(data) :]
        os.fsync(self._file.fileno())


def read_log(path: str | Path, details: bool = False) -> list[Event]:
    """Return the events of a log.jsonl, without a last line torn by a crash.

    A `UserError` names a line that is damaged, or no event that a session writes; with `details`, one that does not say
    what is read of its kind.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    events = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            event = json.loads(line, parse_constant=_refuse_constant)
            wrong = _wrong(event, details)
            if "\\ud" in line:
                json.dumps(event, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            if number == len(lines):  # no newline after it: it was being written
                break
            wrong = "it is no JSON"
        if wrong:
            raise UserError(f"{path}: line {number} is damaged: {wrong}")
        events.append(event)
    return events


def _refuse_constant(text: str) -> None:
    raise ValueError(text)


def _wrong(event: Any, details: bool) -> str | None:
    """Return what an event lacks of what is read of it, None where nothing."""
    if not isinstance(event, dict):
        return "it is no event"
    for key, kind in _EVENT.items():
        if key not in event or not isinstance(event[key], kind) or isinstance(event[key], bool):
            return f"{key!r} is {str(event.get(key, 'missing'))[:40]!r}"
    if not (abs(event["sample"]) < _LARGEST and abs(event["seconds"]) < _LARGEST):
        return "its time is beyond all nights"
    for key, kind in _DETAILS.get(event["event"], {}).items() if details else ():
        found = event["detail"].get(key)
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            return f"{key!r} of {event['event']!r} is {str(event['detail'].get(key, 'missing'))[:40]!r}"
    return None


def write_table(events: Sequence[Event], path: Path) -> None:
    """Write events as a table: one column a detail, the wall clock's columns last."""
    details = sorted({key for e in events for key in e["detail"]})
    header = [*_FIRST, *details, *(f"wall_{key}" for key in _WALL)]
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as handle:
        handle.write("\t".join(header) + "\n")
        for e in events:
            values = [*map(e.get, _FIRST), *map(e["detail"].get, details), *map(e["wall"].get, _WALL)]
            handle.write("\t".join(map(_cell, values)) + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, str):
        return " ".join(value.split())
    return json.dumps(value, ensure_ascii=False)


def silent_cues(events: Sequence[Event]) -> set[int]:
    """Return the numbers of the cues that nobody heard: a cue counts only where the sink has confirmed it.

    Its own event has `sounded`: true, false (nothing was to sound), or null, where a `sound` event with the time at the
    converter confirms it. A cue that is the recording's own sounded there.
    """
    told = {e["detail"]["number"]: not is_silent_cue(e) for e in events if e["event"] == "sound"}
    cues = [e["detail"] for e in events if e["event"] == "cue"]
    heard = {
        cue["number"]: bool(cue.get("recorded")) or told.get(cue["number"], bool(cue.get("sounded", True)))
        for cue in cues
    }
    return {number for number, sounded in {**told, **heard}.items() if not sounded}


def is_silent_cue(event: Event) -> bool:
    """Tell whether an event says that a cue did not sound."""
    return event["event"] == "sound" and event["detail"].get("dac", 0) is None


def decisions(events: Sequence[Event]) -> list[tuple[int, str, int | None, dict[str, Any]]]:
    """Return what a session decided, as sorted (sample, event, code, detail): without what belongs to wall time, and
    whether a cue `sounded`, so that the result is equal for a session and its replay."""
    kept = [e for e in events if e["event"] not in _OF_WALL_TIME]
    rows = [
        (e["sample"], e["event"], e["code"], {key: v for key, v in e["detail"].items() if key != "sounded"})
        for e in kept
    ]
    return sorted(rows, key=lambda e: (e[0], e[1], json.dumps(e[3], sort_keys=True)))
