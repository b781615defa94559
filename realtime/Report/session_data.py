"""What a session's folder tells about the night, for the night report; any part of it may be missing."""

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np

from sleep_interpreter.realtime.Recording.event_log import read_log, unheard
from sleep_interpreter.realtime.Report.summary import stage_spans
from sleep_interpreter.utils.core.config import read_yaml
from sleep_interpreter.utils.core.constants import ITEMS, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import shown

_BACK = re.compile(r"goes on in (segment_\d+\.vhdr)")


@dataclass(frozen=True)
class Segment:
    """One file of the recording.

    Attributes
    ----------
    path : Path
    begins : float
        Seconds on the log's clock of its first sample.
    exact : bool
        That is known to the sample; without it no response can be cut from the segment.
    """

    path: Path
    begins: float
    exact: bool = True


@dataclass(frozen=True)
class SessionData:
    """A session as its folder has it.

    Attributes
    ----------
    folder : Path
    events : list of dict
        As in log.jsonl.
    about : dict
        session.json, empty where it is missing.
    settings : dict
        settings.yaml as it stands, empty where it is missing.
    summary : dict
        summary.json, empty where it is missing.
    segments : list of Segment
    lacking : list of str
        What is not there, in words.
    """

    folder: Path
    events: list
    about: dict
    settings: dict
    summary: dict
    segments: list
    lacking: list = field(default_factory=list)

    def of(self, *kinds):
        """Return the events of these kinds, in the order of the log."""
        return [e for e in self.events if e["event"] in kinds]

    def setting(self, name, default=None):
        """Return a setting by its dotted name."""
        value = self.settings
        for key in name.split("."):
            if not isinstance(value, dict) or key not in value:
                return default
            value = value[key]
        return value

    @property
    def live(self):
        """Whether the sleeper heard the cues: the source was no file."""
        return self.about.get("source", self.setting("source.kind", "replay")) != "replay"

    @property
    def simulated(self):
        """True, False, or None when nothing says it."""
        said = self.about.get("simulated")
        return said if isinstance(said, bool) else None

    @property
    def truth(self):
        """Whether the signal holds responses to the cues, so that decodes can be right or wrong."""
        if self.summary:
            return self.summary.get("accuracy") is not None
        return self.live or self.setting("cues.mode") == "recorded"

    @property
    def begins(self):
        """Seconds on the log's clock of the session's first sample."""
        return min((e["seconds"] - e["sample"] / STREAM_RATE for e in self.events), default=0.0)

    @property
    def ends(self):
        """Seconds on the log's clock of the last event."""
        return max((e["seconds"] for e in self.events), default=self.begins)

    @property
    def ending(self):
        """How the session ended, in words."""
        stops = self.of("stop")
        resumed = [e["sample"] for e in self.of("resume")]
        if not stops or (resumed and resumed[-1] > stops[-1]["sample"]):
            return "broken off: no stop event was logged"
        return stops[-1]["detail"]["reason"]

    @property
    def started(self):
        """Local time of the first sample, None when unknown."""
        text = self.about.get("first_sample_at") if self.live else self.about.get("started")
        try:
            return None if text is None else datetime.fromisoformat(text).astimezone()
        except (TypeError, ValueError):
            return None

    @property
    def spans(self):
        """[(onset s, duration s, stage, smoothed probabilities | None)], one a staging."""
        return stage_spans(self.events) if self.events else []

    def cues(self, kind="cue"):
        """Return the details of cues that sounded, or of shams, each with `seconds`."""
        return [{**e["detail"], "seconds": e["seconds"]} for e in self.of(kind)
                if e["detail"]["number"] not in self.unheard]  # fmt: skip

    @cached_property
    def unheard(self):
        """Numbers of cues that did not sound after all."""
        return unheard(self.events)

    def phases(self):
        """Return {"locked" | "not locked": degrees (n,)} of the cues that sounded."""
        known = {cue["number"] for cue in self.cues()}
        found = {"locked": [], "not locked": []}
        for e in self.of("cue_phase"):
            detail = e["detail"]
            if detail["degrees"] is not None and detail["number"] in known:
                found["locked" if detail["locked"] else "not locked"].append(detail["degrees"])
        return {name: np.array(degrees) for name, degrees in found.items() if degrees}

    def decodes(self, sham=False):
        """Return (cued, decoded) item numbers of the decodes of cues, or of shams."""
        rows = [e["detail"] for e in self.of("decode") if bool(e["detail"].get("sham")) == sham
                and e["detail"]["number"] not in self.unheard]  # fmt: skip
        pairs = [(ITEMS.index(d["cued"]), ITEMS.index(d["item"])) for d in rows]
        return np.array(pairs, int).reshape(-1, 2)

    def states(self, event, key):
        """Return [(begin s, end s, detail)] of the spans in which an on/off event was on."""
        found, since = [], None
        for e in self.of(event, "resume", "stop"):
            on = e["event"] == event and bool(e["detail"].get(key))
            if since is not None and not on:
                end = e["seconds"]
                if e["event"] == "resume":  # nothing was on while nothing ran
                    end = min(end, self._before(e))
                found.append((since[0], max(since[0], end), since[1]))
                since = None
            if on and since is None:
                since = e["seconds"], e["detail"]
        if since is not None:
            found.append((since[0], self.ends, since[1]))
        return found

    def pauses(self):
        """Return [(begin s, end s, reason)] of the time between the first and the last cueing without it."""
        found, since = [], None
        for e in self.of("cueing", "stop"):
            on = e["event"] == "cueing" and e["detail"]["on"]
            if on and since is not None:
                found.append((since[0], e["seconds"], since[1]))
                since = None
            elif e["event"] == "cueing" and not on:
                since = e["seconds"], e["detail"].get("reason") or "not said"
        return found

    def outages(self):
        """Return [(begin s, end s)] in which no session ran: between a crash and its --resume."""
        return [(self._before(e), e["seconds"]) for e in self.of("resume")]

    def bad_channels(self):
        """Return {channel: [(begin s, end s, reason)]} of the channels with a bad signal."""
        found, since = {}, {}
        for e in self.of("quality", "resume"):
            if e["event"] == "resume":
                for name, (begin, reason) in since.items():
                    found.setdefault(name, []).append((begin, self._before(e), reason))
                since = {}
                continue
            name, reason = e["detail"]["channel"], e["detail"]["reason"]
            if name in since:
                begin, was = since.pop(name)
                found.setdefault(name, []).append((begin, e["seconds"], was))
            if reason is not None:
                since[name] = e["seconds"], reason
        for name, (begin, reason) in since.items():
            found.setdefault(name, []).append((begin, self.ends, reason))
        return found

    def latencies(self):
        """Return {what: milliseconds (n,)} of what was timed."""
        found = {}
        for event, name in (("stage", "computing a stage"), ("decode", "computing a decode")):
            values = [e["wall"]["latency_ms"] for e in self.of(event) if "latency_ms" in e["wall"]]
            found[name] = np.array(values, float)
        taken = [(e["detail"]["taken"] - e["sample"]) / STREAM_RATE * 1e3 for e in self.of("stage")
                 if e["detail"].get("taken") is not None]  # fmt: skip
        found["last sample to its stage in force"] = np.array(taken, float)
        found["cue at the converter, after its time"] = _column(self.folder / "audio.tsv", "late_ms")
        found["marker sent, after its time"] = _column(self.folder / "ports.tsv", "late_ms")
        return {name: values[np.isfinite(values)] for name, values in found.items() if len(values)}

    @staticmethod
    def _before(resume):
        """Return the seconds of the last event before a crash."""
        after = resume["detail"].get("after")
        behind = 0 if after is None else resume["sample"] - after
        return resume["seconds"] - behind / STREAM_RATE


def load_session(folder):
    """Read a session's folder.

    Parameters
    ----------
    folder : str | Path

    Returns
    -------
    session : SessionData

    Raises
    ------
    UserError
        There is no log, or it is damaged.
    """
    folder, lacking = Path(folder), []
    log = folder / "log.jsonl"
    if not log.is_file():
        raise UserError(f"{shown(folder)}: no session is there: log.jsonl is missing")
    try:
        events = read_log(log)
    except ValueError as error:
        raise UserError(f"{error}; repair or remove that line, on a copy of the session's folder") from error
    if not events:
        raise UserError(f"{shown(log)}: the session ended before anything was logged")
    read = {}
    for name, reader in (("session.json", _json), ("settings.yaml", _yaml), ("summary.json", _json)):
        read[name] = reader(folder / name)
        if not read[name]:
            lacking.append(f"{name} is missing or damaged")
    about, settings, summary = (read[name] for name in ("session.json", "settings.yaml", "summary.json"))
    parts = ("subject", "recording", "versions")
    about = {key: value for key, value in about.items() if key not in parts or isinstance(value, dict)}
    session = SessionData(folder, events, about, settings, summary, [], lacking)
    session.segments.extend(_segments(session))
    if not session.segments:
        lacking.append("no recording of the signal: no spectrogram, no evoked responses")
    return session


def _segments(session):
    """Find the files of the recording and where each begins."""
    own = sorted((session.folder / "recording").glob("segment_*.vhdr"))
    if not own:
        path = session.about.get("recording", {}).get("path")
        return [Segment(Path(path), 0.0)] if path and Path(path).exists() else []
    begins = {own[0].name: (session.begins, True)}
    for e in session.of("resume"):
        if e["detail"].get("segment"):
            begins[e["detail"]["segment"]] = e["seconds"], True
    for e in session.of("fault"):
        back = _BACK.search(e["detail"].get("reason") or "")
        if back and e["detail"].get("state") == "back":
            begins.setdefault(back[1], (e["seconds"], False))
    return [Segment(path, *begins[path.name]) for path in own if path.name in begins]


def _json(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _yaml(path):
    try:
        return read_yaml(path)
    except (OSError, UserError):
        return {}


def _column(path, name):
    """Return a column of numbers of a table that may be missing, or torn at its end."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return np.zeros(0)
    header = lines[0].split("\t") if lines else []
    if name not in header:
        return np.zeros(0)
    place, found = header.index(name), []
    for line in lines[1:]:
        cells = line.split("\t")
        try:
            found.append(float(cells[place]))
        except (IndexError, ValueError):
            continue
    return np.array(found)
