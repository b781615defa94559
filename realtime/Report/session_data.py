"""What a session's folder holds, for the night report; any part of it may be missing."""

import csv
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Recording import session_about
from sleep_interpreter.realtime.Recording.event_log import read_log, silent_cues
from sleep_interpreter.realtime.Recording.recorder import places
from sleep_interpreter.utils.core.config import read_yaml
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import DataCard, card_of
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import own_folder
from sleep_interpreter.utils.core.provenance import read_json

Span = tuple[float, float]
"""Begin and end in seconds on the log's clock."""

_NEXT_SEGMENT = re.compile(r"goes on in (segment_\d+\.vhdr)")


@dataclass(frozen=True)
class Segment:
    """One file of the recording; `begin`: seconds on the log's clock of its first sample.

    `exact`: that is known to the sample; without it no response can be cut from the segment.
    """

    path: Path
    begin: float
    exact: bool = True


@dataclass(frozen=True)
class SessionData:
    """A session as its folder has it; `events` as in log.jsonl, `missing` says what is not there.

    `about`, `settings`, `summary`: session.json, settings.yaml and summary.json as they stand, each empty where it is
    missing.
    """

    folder: Path
    events: list[dict]
    about: dict
    settings: dict
    summary: dict
    segments: list[Segment] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def select(self, *kinds: str) -> list[dict]:
        """Return the events of these kinds, in the order of the log."""
        return [e for e in self.events if e["event"] in kinds]

    def setting(self, name: str, default: Any = None) -> Any:
        """Return a setting by its dotted name."""
        value: Any = self.settings
        for key in name.split("."):
            if not isinstance(value, dict) or key not in value:
                return default
            value = value[key]
        return value

    @property
    def live(self) -> bool:
        """Whether the sleeper heard the cues: the source was no file."""
        return self.about.get("source", self.setting("source.kind", "replay")) != "replay"

    @property
    def simulated(self) -> bool | None:
        """None when nothing says it."""
        value = self.about.get("simulated")
        return value if isinstance(value, bool) else None

    @property
    def dry_run(self) -> bool:
        """Whether nothing was to sound."""
        return bool(self.about.get("dry_run", self.setting("audio.sink") == "null"))

    @property
    def unheard(self) -> str | None:
        """Why nobody at an amplifier heard the cues of this session, or None."""
        if self.dry_run:
            return "dry run: nothing sounded and no marker went out; none of its cues counts"
        if self.live and not self.simulated and self.about.get("sound") == "file":
            return "the cues went into cues.flac (audio.sink=file): nobody heard them"
        return None

    @cached_property
    def card(self) -> DataCard:
        """The data card that the session followed."""
        return card_of(self.folder)

    @property
    def has_responses(self) -> bool:
        """Whether the signal holds responses to the cues, so that decodes can be right or wrong."""
        if self.summary:
            return self.summary.get("accuracy") is not None
        return self.live or self.setting("cues.mode") == "recorded"

    @property
    def begin(self) -> float:
        """Seconds on the log's clock of the session's first sample."""
        return min((e["seconds"] - e["sample"] / STREAM_RATE for e in self.events), default=0.0)

    @property
    def end(self) -> float:
        """Seconds on the log's clock of the last event."""
        return max((e["seconds"] for e in self.events), default=self.begin)

    @property
    def ending(self) -> str:
        """How the session ended, in words."""
        stops = self.select("stop")
        resumed = [e["sample"] for e in self.select("resume")]
        if not stops or (resumed and resumed[-1] > stops[-1]["sample"]):
            return "broken off: no stop event was logged"
        return stops[-1]["detail"]["reason"]

    @property
    def started(self) -> datetime | None:
        """Local time of the first sample, None when unknown."""
        text = self.about.get("first_sample_at") if self.live else self.about.get("started")
        try:
            return None if text is None else datetime.fromisoformat(text).astimezone()
        except (TypeError, ValueError):
            return None

    def cues(self, kind: str = "cue") -> list[dict]:
        """Return the details of cues that sounded, or of shams, each with `seconds`."""
        return [{**e["detail"], "seconds": e["seconds"]} for e in self.select(kind)
                if e["detail"]["number"] not in self.silent]  # fmt: skip

    @cached_property
    def silent(self) -> set[int]:
        """Numbers of cues that did not sound after all."""
        return silent_cues(self.events)

    def phases(self) -> dict[str, np.ndarray]:
        """Return the phases in degrees (n, 1 + k) that cues met, and beside each what k random times before it met.

        By "cues locked", "cues not locked" and the same of shams, and of locked shams "seen from both sides" too; only
        cues that sounded, NaN where a random time has none.
        """
        sounded = {cue["number"] for cue in self.cues()}
        silent = {cue["number"] for cue in self.cues("sham")}
        found: dict[str, list[list[float]]] = {}
        for e in self.select("cue_phase"):
            detail, number = e["detail"], e["detail"]["number"]
            if number not in sounded | silent:
                continue
            name = f"{'shams' if number in silent else 'cues'} {'' if detail['locked'] else 'not '}locked"
            rows = {name: [detail["degrees"], *detail.get("at_random", ())]}
            if detail["locked"]:
                rows[f"{name}, seen from both sides"] = [detail.get("both_sides")]
            for key, row in rows.items():
                if row[0] is not None:
                    found.setdefault(key, []).append([np.nan if d is None else d for d in row])
        return {name: _table(found[name]) for name in sorted(found)}

    @property
    def phase_from(self) -> str:
        """Where the phases at cues were read from (`PHASE_FROM`); logs of before there was a choice: "whole"."""
        ways = {e["detail"].get("phase_from", "whole") for e in self.select("cue_phase")}
        return "precue" if ways == {"precue"} else "whole"

    def decodes(self, sham: bool = False) -> np.ndarray:
        """Return (cued, decoded) item numbers of the decodes of cues, or of shams: int (n, 2)."""
        rows = [e["detail"] for e in self.select("decode") if bool(e["detail"].get("sham")) == sham
                and e["detail"]["number"] not in self.silent]  # fmt: skip
        index = self.card.item_index
        pairs = [(index(d["cued"]), index(d["item"])) for d in rows]
        return np.array(pairs, int).reshape(-1, 2)

    def states(self, event: str, key: str) -> list[Span]:
        """Return the spans in which an on/off event was on."""
        found, since = [], None
        for e in self.select(event, "resume", "stop"):
            on = e["event"] == event and bool(e["detail"].get(key))
            if since is not None and not on:
                # nothing was on while nothing ran
                end = min(e["seconds"], self._crash(e)) if e["event"] == "resume" else e["seconds"]
                found.append((since, max(since, end)))
                since = None
            elif on and since is None:
                since = e["seconds"]
        return found if since is None else [*found, (since, self.end)]

    def pauses(self) -> list[tuple[float, float, str]]:
        """Return (begin s, end s, reason) of the time after the first cueing without it; the last may last to the end
        of the session."""
        found, since = [], None
        for e in self.select("cueing"):
            if not e["detail"]["on"]:
                since = e["seconds"], e["detail"].get("reason") or "not said"
            elif since is not None:
                found.append((since[0], e["seconds"], since[1]))
                since = None
        return found if since is None or since[0] >= self.end else [*found, (since[0], self.end, since[1])]

    def local_time(self, event: dict) -> str | None:
        """Return the local time of day of an event, here; None in a replay, whose recording has times of its own."""
        with suppress(KeyError, TypeError, ValueError):
            if self.live:
                return f"{datetime.fromisoformat(event['wall']['time']).astimezone():%H:%M:%S}"
        return None

    def outages(self) -> list[Span]:
        """Return the spans in which no session ran: between a crash and its --resume."""
        return [(self._crash(e), e["seconds"]) for e in self.select("resume")]

    def bad_channels(self) -> dict[str, list[tuple[float, float, str]]]:
        """Return {channel: [(begin s, end s, reason)]} of the channels with a bad signal."""
        found: dict[str, list[tuple[float, float, str]]] = {}
        since: dict[str, tuple[float, str]] = {}

        def close(name: str, end: float) -> None:
            if name in since:
                begin, reason = since.pop(name)
                found.setdefault(name, []).append((begin, end, reason))

        for e in self.select("quality", "resume"):
            if e["event"] == "resume":
                for name in list(since):
                    close(name, self._crash(e))
                continue
            name, reason = e["detail"]["channel"], e["detail"]["reason"]
            close(name, e["seconds"])
            if reason is not None:
                since[name] = e["seconds"], reason
        for name in list(since):
            close(name, self.end)
        return found

    def latencies(self) -> dict[str, np.ndarray]:
        """Return {what: milliseconds (n,)} of what was timed."""
        found = {}
        for event, name in (("stage", "computing a stage"), ("decode", "computing a decode")):
            values = [e["wall"]["latency_ms"] for e in self.select(event) if "latency_ms" in e["wall"]]
            found[name] = np.array(values, float)
        taken = [(e["detail"]["taken"] - e["sample"]) / STREAM_RATE * 1e3 for e in self.select("stage")
                 if e["detail"].get("taken") is not None]  # fmt: skip
        found["last sample to its stage in force"] = np.array(taken, float)
        found["cue at the converter, after its time"] = _column(self.folder / "audio.tsv", "late_ms")
        found["marker sent, after its time"] = _column(self.folder / "ports.tsv", "late_ms")
        return {name: values[np.isfinite(values)] for name, values in found.items() if len(values)}

    @staticmethod
    def _crash(resume: dict) -> float:
        """Return the seconds of the last event before a crash, from the resume event after it."""
        after = resume["detail"].get("after")
        behind = 0 if after is None else resume["sample"] - after
        return resume["seconds"] - behind / STREAM_RATE


def load_session(folder: str | Path) -> SessionData:
    """Read a session's folder; `UserError` where there is no log, or it is damaged."""
    folder = own_folder(folder)
    log = folder / "log.jsonl"
    if not log.is_file():
        raise UserError(f"{folder}: no session is there: log.jsonl is missing")
    try:
        events = read_log(log, details=True)
    except ValueError as error:
        raise UserError(f"{error}; repair or remove that line, on a copy of the session's folder") from error
    if not events:
        raise UserError(f"{log}: the session ended before anything was logged")
    about, summary = session_about.about(folder), read_json(folder / "summary.json")
    settings: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        settings = read_yaml(folder / "settings.yaml")
    files = {"session.json": about, "settings.yaml": settings, "summary.json": summary}
    missing = [f"{name} is missing or damaged" for name, content in files.items() if not content]
    session = SessionData(folder, events, about, settings, summary, missing=missing)
    try:
        session.segments.extend(_segments(session))
    except UserError as error:
        missing.append(str(error))
    if not session.segments:
        missing.append("no recording of the signal: no spectrogram, no evoked responses")
    return session


def _segments(session: SessionData) -> list[Segment]:
    """Find the files of the recording and where each begins."""
    own = sorted(path for place in places(session.folder) for path in place.glob("segment_*.vhdr"))
    if not own:
        path = session_about.replayed_file(session.about)
        return [] if path is None else [Segment(path, 0.0)]
    begins = {own[0].name: (session.begin, True)}
    for e in session.select("resume"):
        if e["detail"].get("segment"):
            begins[e["detail"]["segment"]] = e["seconds"], True
    for e in session.select("fault"):
        found = _NEXT_SEGMENT.search(e["detail"].get("reason") or "")
        if found and e["detail"].get("state") == "back":
            begins.setdefault(found[1], (e["seconds"], False))
    return [Segment(path, *begins[path.name]) for path in own if path.name in begins]


def _table(rows: list[list[float]]) -> np.ndarray:
    """Return rows of unequal length as one array, NaN behind the short ones."""
    width = max(map(len, rows))
    return np.array([row + [np.nan] * (width - len(row)) for row in rows])


def _column(path: Path, name: str) -> np.ndarray:
    """Return a column of numbers of a table that may be missing, or torn at its end."""
    found = []
    with suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            with suppress(KeyError, TypeError, ValueError):
                found.append(float(row[name]))
    return np.array(found)
