"""What a session's folder says about it: its events so far, its signal, its spectrogram. Read only."""

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from sleep_interpreter.realtime.Control.control_server import FILE, Client
from sleep_interpreter.realtime.Recording import session_about
from sleep_interpreter.realtime.Recording.event_log import is_silent_cue
from sleep_interpreter.realtime.Recording.recorder import PLACE, places
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.data_card import card_of
from sleep_interpreter.utils.core.errors import UserError, warn_once
from sleep_interpreter.utils.core.own_folder import inside
from sleep_interpreter.utils.core.paths import named_in_text
from sleep_interpreter.utils.core.provenance import parse_json, read_json
from sleep_interpreter.utils.signal.recording import Recording

logger = logging.getLogger(__name__)

EPOCH_SECONDS = 30
_BINS_HZ = np.arange(0.5, 30.25, 0.5)
_MOST_EVENTS = 400
_SCREEN_RATE = 100.0
_AT_ONCE, _LONGEST_LINE = 2**23, 2**17
"""Bytes of the log that are read at a time, and of an event: a thousand times what they are."""
_LONGEST_NIGHT = 48 * 3600.0
"""Seconds of which the spectrogram is made."""
_RATES, _MOST_CHANNELS = (1.0, 100_000.0), 4096
"""Hz and channels of a recording that there can be."""
Stretch = tuple[list[str], float, np.ndarray]
"""Names, rate and (channels, n) µV."""


class SessionHistory:
    """The log in a session's folder, read on as it grows."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._lock, self._read = threading.Lock(), 0
        self.stages: list[Any] = []
        self.cues: list[Any] = []
        self.decodes: list[Any] = []
        self.phases: list[Any] = []
        self.arousals: list[Any] = []
        self.ended: str | None = None
        self.events: list[Any] = []
        self.last = 0.0

    def about(self) -> dict[str, Any]:
        """Return session.json, {} while it is not there."""
        return session_about.about(self.folder)

    def update(self) -> None:
        """Read what has been logged since the last call."""
        with self._lock:
            while data := self._news():
                whole = data.rfind(b"\n") + 1  # a line that is being written waits
                if not whole and len(data) <= _LONGEST_LINE:
                    return
                lines = data[:whole].splitlines()
                if max(map(len, lines or [data])) > _LONGEST_LINE:
                    raise UserError(f"{self.folder / 'log.jsonl'}: a line longer than any that a session writes")
                self._read += whole
                for line in lines:
                    try:
                        self._add(parse_json(line))
                    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
                        logger.warning("%s: a damaged line is left out (%s)", self.folder / "log.jsonl", error)

    def _news(self) -> bytes:
        try:
            with inside(self.folder, "log.jsonl", "the session").open("rb") as handle:
                handle.seek(self._read)
                return handle.read(_AT_ONCE)
        except OSError:
            return b""

    def content(self) -> dict[str, Any]:
        """Return everything as plain lists for JSON."""
        self.update()
        with self._lock:
            return {
                "stages": list(self.stages), "cues": list(self.cues), "decodes": list(self.decodes),
                "phases": list(self.phases), "arousals": list(self.arousals), "ended": self.ended,
                "events": self.events[-_MOST_EVENTS:],
                "items": list(card_of(self.folder).item_names),
                "stage_names": list(STAGES), "seconds": self.last,
            }  # fmt: skip

    def _add(self, event: dict[str, Any]) -> None:
        kind, detail, at = event["event"], event["detail"], float(event["seconds"])
        if not (isinstance(kind, str) and isinstance(detail, dict)):
            raise ValueError("no event")
        self.last = max(self.last, at)
        if kind == "stage":
            self.stages.append([at, detail["stage"], detail["smoothed"]])
        elif kind in ("cue", "sham"):
            nothing = detail.get("sounded", True) is False and not detail.get("recorded")
            self.cues.append([at, detail["item"], kind == "sham" or nothing, detail["number"]])
        elif kind == "arousal":
            self.arousals.append([at, detail["reason"]])
        elif kind in ("stop", "resume"):
            self.ended = detail["reason"] if kind == "stop" else None
        elif kind == "decode":
            self.decodes.append([at, *(detail[key] for key in ("cued", "item", "number", "probabilities"))])
        elif kind == "cue_phase":
            way = detail.get("phase_from", "whole")  # logs of before there was a choice
            self.phases.append([detail["number"], detail["locked"], detail["degrees"], way])
        silent = is_silent_cue(event)
        if silent:
            self.cues = [cue for cue in self.cues if cue[3] != detail["number"]]
        if silent or kind not in ("stage", "cue_phase", "sound"):
            text = {key: value for key, value in detail.items() if key != "probabilities"}
            self.events.append([at, kind, event["code"], text, event["wall"]["time"]])
            if len(self.events) > 4 * _MOST_EVENTS:
                del self.events[:-_MOST_EVENTS]


class SignalReader:
    """A session's signal on disk: its own recording, or the file that it replays."""

    def __init__(self, history: SessionHistory) -> None:
        self._history = history
        self._spectra: dict[int, list[float] | None] = {}
        self._replayed: Recording | None = None
        self._lock = threading.Lock()

    def read(self, start: float, seconds: float) -> dict[str, Any]:
        """Return a stretch for the screen: names, rate, first (s of the session's clock), data: a list in µV a name.

        The stager's derivations come first, then the channels; null where there is no sample."""
        with self._lock:
            names, rate, data = self._stretch(start, seconds)
        derived = self._history.about().get("derivations", {})
        rows = {name: data[row] for row, name in enumerate(names)}
        traces = {name: rows[own] - (rows[reference] if reference else 0) for name, (own, reference) in derived.items()
                  if own in rows and (reference is None or reference in rows)}  # fmt: skip
        names, data = [*traces, *names], np.stack([*traces.values(), *data])
        step = max(1, round(rate / _SCREEN_RATE))
        whole = data.shape[1] // step * step
        small = data[:, :whole].reshape(len(data), -1, step).mean(axis=2)
        found = [[None if not np.isfinite(v) else round(float(v), 2) for v in row] for row in small]
        return {"names": names, "rate": rate / step, "first": start, "data": found}

    def spectrogram(self, upto: float) -> dict[str, Any]:
        """Return the power of the staging EEG in dB, one column every 30 s, as lists hz, seconds, db; cached, new
        epochs only. A column is null where there is no signal."""
        count = int(min(max(upto, 0.0), _LONGEST_NIGHT) // EPOCH_SECONDS)
        with self._lock:
            for epoch in range(count):
                if epoch not in self._spectra:
                    self._spectra[epoch] = self._spectrum(epoch)
            columns = [self._spectra[epoch] for epoch in range(count)]
        return {"hz": _BINS_HZ.tolist(), "seconds": EPOCH_SECONDS, "db": columns}

    def _spectrum(self, epoch: int) -> list[float] | None:
        try:
            _, rate, data = self._stretch(epoch * EPOCH_SECONDS, EPOCH_SECONDS, only_first=True)
        except (OSError, ValueError, IndexError):
            return None
        trace = data[0]
        if trace.size < 4 * rate or not np.isfinite(trace).all():
            return None
        frequency, power = signal.welch(trace, rate, nperseg=int(4 * rate))
        return [round(float(v), 1) for v in 10 * np.log10(np.interp(_BINS_HZ, frequency, power) + 1e-3)]

    def _stretch(self, start: float, seconds: float, only_first: bool = False) -> Stretch:
        """Return names, rate and (channels, n) µV; the staging channels come first."""
        about = self._history.about()
        wanted = about.get("channels", [])[: 1 if only_first else None]
        segments = sorted(path for place in places(self._history.folder) for path in place.glob("segment_*.vhdr"))
        if segments:
            return self._recorded(segments, wanted, start, seconds)
        if self._replayed is None:
            path = session_about.replayed_file(about)
            if path is None:
                raise UserError("the session has no recording")
            self._replayed = Recording(path)
        groups = self._replayed.groups(wanted)
        rate = groups[0].rate
        data = np.full((len(wanted), round(seconds * rate)), np.nan)
        for group in groups:
            first, last = round(start * group.rate), min(round((start + seconds) * group.rate), group.length)
            if last <= first:
                continue
            block = group.read(first, last) * 1e6
            if group.rate != rate:
                block = np.repeat(block, round(rate / group.rate), axis=1)
            for row, place in enumerate(group.places):
                count = min(block.shape[1], data.shape[1])
                data[place, :count] = block[row, :count]
        return list(wanted), rate, data

    def _recorded(self, segments: list[Path], wanted: list[str], start: float, seconds: float) -> Stretch:
        """Read our own BrainVision: 32-bit floats, all channels of a sample together, growing or not."""
        starts = [_start(path) for path in segments]
        number = max((k for k, first in enumerate(starts) if first <= start), default=0)
        names, rate = _header(segments[number])
        if not (_RATES[0] <= rate <= _RATES[1] and 0 < len(names) <= _MOST_CHANNELS):
            raise UserError(f"{segments[number]}: {len(names)} channels at {rate:g} Hz are no recording of a session")
        path = segments[number].with_suffix(".eeg")
        frames = path.stat().st_size // (4 * len(names))
        first = round((start - starts[number]) * rate)
        last = min(first + round(seconds * rate), frames)
        rows = [names.index(name) for name in wanted if name in names]
        data = np.full((len(rows), round(seconds * rate)), np.nan, np.float32)
        if last > first >= 0:
            mapped = np.memmap(path, np.dtype("<f4"), "r", shape=(frames, len(names)))
            data[:, : last - first] = mapped[first:last, rows].T
        return [names[row] for row in rows], rate, data


def _start(path: Path) -> float:
    """Return where a segment begins on the session's clock, s, as its markers say."""
    _, rate = _header(path)
    for line in _beginning(path.with_suffix(".vmrk")):
        if PLACE in line:
            return int(line.partition(PLACE)[2].split(",")[0]) / rate
    return 0.0


def _header(path: Path) -> tuple[list[str], float]:
    """Return channel names and rate of one of our own headers."""
    names, interval = [], 2000.0
    for line in _beginning(path):
        if line.startswith("SamplingInterval="):
            interval = float(line.partition("=")[2])
        elif line.startswith("Ch") and "=" in line and line[2].isdigit():
            names.append(line.partition("=")[2].split(",")[0].replace(r"\1", ","))
    return names, 1e6 / interval if interval > 0 else 0.0


def _beginning(path: Path) -> list[str]:
    """Return the lines in the first MiB of a file."""
    with path.open("rb") as handle:
        return handle.read(2**20).decode("utf-8", "replace").splitlines()


def runs(folder: Path) -> bool:
    """Tell whether a session runs in a folder: a kill leaves control.json behind, but nobody who listens."""
    if not (folder / FILE).is_file():
        return False
    try:
        return Client(folder, "monitor").runs()
    except UserError:
        return False


def has_report(folder: Path, running: bool | None = None) -> bool:
    """Tell whether a report can be had: it is there, or can be made of the log of a session that broke off.

    `running` is what `runs` says, where that is known already.
    """
    try:
        if inside(folder, "report.html", "the session").is_file():
            return True
        return inside(folder, "log.jsonl", "the session").is_file() and not (
            runs(folder) if running is None else running
        )
    except UserError:  # a link that leads elsewhere
        return False


def list_sessions(root: Path) -> list[dict[str, Any]]:
    """Return the sessions below a folder, the newest first: [{subject, session, started, ending, ...}]."""
    found = []
    for path in sorted(root.glob("*/session_*/session.json")):
        folder = path.parent
        try:
            named_in_text([folder])
        except UserError as error:  # the page could not ask for it
            warn_once(str(error))
            continue
        if not (about := session_about.about(folder)):
            continue
        summary = read_json(folder / "summary.json")
        minutes, cues, running = summary.get("minutes"), summary.get("cues"), runs(folder)
        found.append(
            {
                "subject": folder.parent.name, "session": folder.name, "started": about.get("started"),
                "ending": about.get("ending"), "running": running,
                "simulated": about.get("simulated"), "source": about.get("source", "replay"),
                "minutes": minutes if isinstance(minutes, int | float) else None,
                "cues": cues.get("total") if isinstance(cues, dict) else None, "report": has_report(folder, running),
            }
        )  # fmt: skip
    return sorted(found, key=lambda s: s["started"] or "", reverse=True)
