"""A session's recording put together: segments, gaps, the time between them, the events of its log."""

import datetime
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np

from sleep_interpreter.realtime.Recording.event_log import read_log, silent_cues
from sleep_interpreter.realtime.Recording.recorder import GAP_KIND, GAP_TEXT, PLACE, places
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.signal.brainvision_writer import BrainVisionWriter

logger = logging.getLogger(__name__)

_PIECE_SECONDS = 60


@dataclass(frozen=True)
class Segment:
    """One file of a session's recording, not loaded, that begins at sample `first` of the session's stream (at the
    stream's rate). On its own samples, `gaps` are (first, number) of what the stream lacked, and `markers` (sample,
    text) of what else was marked."""

    path: Path
    raw: mne.io.BaseRaw
    first: int
    gaps: tuple[tuple[int, int], ...]
    markers: tuple[tuple[int, str], ...]

    @property
    def end(self) -> int:
        """Sample of the session's stream after its last one."""
        return self.first + self.raw.n_times


def segments(folder: str | Path) -> list[Segment]:
    """Return the segments of a session's folder in the order of time, or raise `UserError` where there are none or
    one cannot be read."""
    paths = sorted(path for place in places(folder) for path in place.glob("segment_*.vhdr"))
    if not paths:
        raise UserError(f"{folder}: no recording is there; only live sessions record their stream")
    found = sorted((read_segment(path) for path in paths), key=lambda s: (s.first, s.path.name))
    kept = [s for s in found if s.raw.n_times]
    kinds = {(tuple(s.raw.ch_names), s.raw.info["sfreq"]) for s in kept}
    if not kept or len(kinds) > 1:
        what = "of different channels or rates" if kept else "all empty"
        raise UserError(f"{folder}: the segments of its recording are {what}")
    return kept


_TEXTS = {
    "cue": "cue/{item}", "sham": "sham/{item}", "decode": "decode/{item}", "decode_failed": "decode_failed",
    "stage": "stage/{stage}", "group": "group/{group}", "stream": "stream/{state}",
    "arousal": "arousal/{reason}", "resume": "resume",
}  # fmt: skip


def annotations(folder: str | Path, rate: float) -> list[tuple[int, str]]:
    """Return [(sample at `rate`, text)] of what a session's log says about the sleeper and the cues."""
    events = read_log(Path(folder) / "log.jsonl")
    found, stage, silent = [], None, silent_cues(events)
    for event in events:
        detail, kind = event["detail"], event["event"]
        text = _TEXTS.get(kind, "").format(**detail)
        if kind in ("cue", "sham") and detail["number"] in silent:
            text = f"cue_not_sounded/{detail['item']}"
        elif kind == "stage":
            text, stage = ("" if detail["stage"] == stage else text), detail["stage"]
        elif kind == "gate":
            text = f"gate/{'open' if detail['open'] else 'closed'}"
        elif kind == "cueing":
            text = "cueing/on" if detail["on"] else f"cueing/off {detail.get('reason') or ''}".strip()
        if text:
            found.append((round(event["sample"] * rate / STREAM_RATE), text))
    return sorted(found, key=lambda entry: entry[0])


def join_segments(folder: str | Path, path: str | Path) -> Path:
    """Write the recording in a session's folder as one BrainVision file (.vhdr), and return its path; memory holds a
    minute of it. A `UserError` says that there is none, or that it cannot be read.

    What the stream lacked, and the time between segments, are zeros under an annotation "BAD_ACQ_SKIP/gap" of their
    true length. Segments of a session that went on lie where the session's clock put them.
    """
    parts = segments(folder)
    raw = parts[0].raw
    rate, position = raw.info["sfreq"], 0
    begin = raw.info["meas_date"]
    if begin is not None:
        begin -= datetime.timedelta(seconds=parts[0].first / rate)
    comment = f"Session {Path(folder).name}, segments joined."
    with BrainVisionWriter(path, raw.ch_names, rate, start=begin, comment=comment, finite=False) as writer:
        for part in parts:
            if part.first < position:
                logger.warning("%s begins before the one before it ends; it is put after it", part.path.name)
            first = max(part.first, position)
            if first > position:
                writer.marker(position, GAP_TEXT, first - position, GAP_KIND)
                for done in range(position, first, 10_000):
                    writer.append(np.zeros((len(writer.names), min(10_000, first - done)), np.float32))
            for start in range(0, part.raw.n_times, round(_PIECE_SECONDS * rate)):
                stop = min(part.raw.n_times, start + round(_PIECE_SECONDS * rate))
                writer.append(part.raw.get_data(start=start, stop=stop, verbose="error") * 1e6)
            for sample, count in part.gaps:
                writer.marker(first + sample, GAP_TEXT, count, GAP_KIND)
            for sample, text in part.markers:
                if not (text == MARK and first):
                    writer.marker(first + sample, text)
            position = first + part.raw.n_times
        for sample, text in annotations(folder, rate):
            if sample < position:
                writer.marker(sample, text)
    return Path(path)


def read_segment(path: str | Path) -> Segment:
    """Open a recorded segment (.vhdr); a `UserError` says why it cannot be read."""
    path = Path(path)
    try:
        raw = mne.io.read_raw_brainvision(path, preload=False, verbose="error")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    rate, first, gaps, markers = raw.info["sfreq"], 0, [], []
    for onset, duration, text in zip(
        raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True
    ):
        sample = round((onset - raw.first_time) * rate)
        said = text.removeprefix("Comment/")
        if text.startswith(GAP_KIND):
            # a process that was killed may have announced more than it wrote
            gaps.append((sample, min(round(duration * rate), raw.n_times - sample)))
        elif match := re.fullmatch(rf"{re.escape(PLACE)} (\d+)", said):
            first = int(match[1])
        elif not text.startswith("New Segment"):
            markers.append((sample, said))
    return Segment(path, raw, first, tuple(gaps), tuple(markers))
