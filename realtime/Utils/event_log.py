"""The record of a session: one JSON line an event, on disk before the session goes on.

What an event says about the sleeper and the session (`sample`, `seconds`, `event`, `code`, `detail`) is
a function of the recording and the settings. What the clock on the wall says is apart, under `wall`.
"""

import datetime
import json
import os
from pathlib import Path

from utils.paths import writing

_FIRST = ("sample", "seconds", "event", "code")
_WALL = ("latency_ms", "time")


class EventLog:
    """Append-only log.jsonl.

    Parameters
    ----------
    path : Path
        Must not exist yet.
    rate : float
        Hz of the sample clock.
    offset : float
        Seconds of the recording before sample 0 (source.start).
    """

    def __init__(self, path, rate, offset=0.0):
        self.path = Path(path)
        self.events = []
        self._rate = rate
        self._offset = offset
        self._file = self.path.open("x", encoding="utf-8")

    def write(self, sample, event, code=None, *, latency=None, **detail):
        """Append an event and sync it to disk.

        Parameters
        ----------
        sample : int
            On the session's sample clock.
        event : str
        code : int | None
            Marker code, when the event has one.
        latency : float | None
            Seconds of computing; belongs to the wall clock.
        **detail
            Plain values that JSON can hold.
        """
        wall = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")}
        if latency is not None:
            wall["latency_ms"] = round(latency * 1e3, 3)
        entry = {
            "sample": int(sample),
            "seconds": round(self._offset + sample / self._rate, 3),
            "event": event,
            "code": code,
            "detail": detail,
            "wall": wall,
        }
        self._file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.events.append(entry)

    def close(self):
        """Close log.jsonl and write log.tsv beside it."""
        if not self._file.closed:
            self._file.close()
            write_table(self.events, self.path.with_suffix(".tsv"))


def read_log(path):
    """Return the events of a log.jsonl; a last line torn by a crash is left out.

    Raises
    ------
    ValueError
        A line other than the last is damaged.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    events = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            if number == len(lines):  # no newline after it: it was being written
                break
            raise ValueError(f"{path}: line {number} is damaged") from None
    return events


def write_table(events, path):
    """Write events as a table: one column a detail, the wall clock's columns last."""
    details = sorted({key for e in events for key in e["detail"]})
    header = [*_FIRST, *details, *(f"wall_{key}" for key in _WALL)]
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as handle:
        handle.write("\t".join(header) + "\n")
        for e in events:
            values = [e[key] for key in _FIRST]
            values += [e["detail"].get(key) for key in details]
            values += [e["wall"].get(key) for key in _WALL]
            handle.write("\t".join(map(_cell, values)) + "\n")


def _cell(value):
    if value is None:
        return "n/a"
    if isinstance(value, str):
        return " ".join(value.split())
    return json.dumps(value, ensure_ascii=False)
