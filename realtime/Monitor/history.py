"""What a session's folder says about it: its events so far, its signal, its spectrogram. Read only."""

import json
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from sleep_interpreter.realtime.Recording.event_log import is_silent_cue
from sleep_interpreter.realtime.Recording.recorder import PLACE, places
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.data_card import card_of
from sleep_interpreter.utils.core.provenance import read_json
from sleep_interpreter.utils.signal.recording import Recording

logger = logging.getLogger(__name__)

EPOCH_SECONDS = 30
_BINS_HZ = np.arange(0.5, 30.25, 0.5)
_MOST_EVENTS = 400
_SCREEN_RATE = 100.0
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
        self.events: list[Any] = []
        self.last = 0.0

    def about(self) -> dict[str, Any]:
        """Return session.json, {} while it is not there."""
        return read_json(self.folder / "session.json")

    def update(self) -> None:
        """Read what has been logged since the last call."""
        with self._lock:
            try:
                with (self.folder / "log.jsonl").open("rb") as handle:
                    handle.seek(self._read)
                    data = handle.read()
            except OSError:
                return
            whole = data.rfind(b"\n") + 1  # a line that is being written waits
            self._read += whole
            for line in data[:whole].splitlines():
                try:
                    self._add(json.loads(line))
                except (ValueError, KeyError) as error:
                    logger.warning("%s: a damaged line is left out (%s)", self.folder / "log.jsonl", error)

    def content(self) -> dict[str, Any]:
        """Return everything as plain lists for JSON."""
        self.update()
        with self._lock:
            return {
                "stages": list(self.stages), "cues": list(self.cues), "decodes": list(self.decodes),
                "phases": list(self.phases), "events": self.events[-_MOST_EVENTS:],
                "items": list(card_of(self.folder).item_names),
                "stage_names": list(STAGES), "seconds": self.last,
            }  # fmt: skip

    def _add(self, event: dict[str, Any]) -> None:
        kind, detail, at = event["event"], event["detail"], event["seconds"]
        self.last = max(self.last, at)
        if kind == "stage":
            self.stages.append([at, detail["stage"], detail["smoothed"]])
        elif kind in ("cue", "sham"):
            self.cues.append([at, detail["item"], kind == "sham", detail["number"]])
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
        """Return a stretch for the screen: names, rate, first (s of the session's clock), data: a list in µV a
        channel (null where there is none)."""
        with self._lock:
            names, rate, data = self._stretch(start, seconds)
        step = max(1, round(rate / _SCREEN_RATE))
        whole = data.shape[1] // step * step
        small = data[:, :whole].reshape(len(data), -1, step).mean(axis=2)
        rows = [[None if not np.isfinite(v) else round(float(v), 2) for v in row] for row in small]
        return {"names": names, "rate": rate / step, "first": start, "data": rows}

    def spectrogram(self, upto: float) -> dict[str, Any]:
        """Return the power of the staging EEG in dB, one column every 30 s, as lists hz, seconds, db; cached, new
        epochs only. A column is null where there is no signal."""
        count = int(upto // EPOCH_SECONDS)
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
        path = about.get("recording", {}).get("path")
        if path is None:
            raise ValueError("the session has no recording")
        if self._replayed is None:
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
    for line in path.with_suffix(".vmrk").read_text(encoding="utf-8").splitlines():
        if PLACE in line:
            return int(line.partition(PLACE)[2].split(",")[0]) / rate
    return 0.0


def _header(path: Path) -> tuple[list[str], float]:
    """Return channel names and rate of one of our own headers."""
    names, interval = [], 2000.0
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("SamplingInterval="):
            interval = float(line.partition("=")[2])
        elif line.startswith("Ch") and "=" in line and line[2].isdigit():
            names.append(line.partition("=")[2].split(",")[0].replace(r"\1", ","))
    return names, 1e6 / interval


def list_sessions(root: Path) -> list[dict[str, Any]]:
    """Return the sessions below a folder, the newest first: [{subject, session, started, ending, ...}]."""
    found = []
    for path in sorted(root.glob("*/session_*/session.json")):
        folder, about = path.parent, read_json(path)
        if not about:
            continue
        found.append(
            {
                "subject": folder.parent.name, "session": folder.name, "started": about.get("started"),
                "ending": about.get("ending"), "running": (folder / "control.json").is_file(),
                "simulated": about.get("simulated"), "source": about.get("source", "replay"),
                "minutes": read_json(folder / "summary.json").get("minutes"),
                "cues": about.get("counts", {}).get("cue"), "report": (folder / "report.html").is_file(),
            }
        )  # fmt: skip
    return sorted(found, key=lambda s: s["started"] or "", reverse=True)
