"""A session's recording put together: segments, gaps, the time between them, the events of its log."""

import datetime
import logging
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import mne
import numpy as np

from sleep_interpreter.realtime.Recording.event_log import read_log, silent_cues
from sleep_interpreter.realtime.Recording.recorder import GAP_KIND, GAP_TEXT, LOCAL_TIME, PLACE, local_time, places
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import own_folder
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.signal.brainvision_writer import SUFFIXES, BrainVisionWriter
from sleep_interpreter.utils.signal.recording_header import refuse_impossible, refuse_misleading

logger = logging.getLogger(__name__)

_PIECE_SECONDS = 60
_LONGEST_SECONDS = 7 * 86400
"""From the beginning of a session to that of its last segment; what lies between is written as a gap."""
_WHOLE_MARKER = re.compile(r"Mk\d+=[^,]*,[^,]*,\d+,\d+,\d+(,\d*)?\s*\n")


@dataclass(frozen=True)
class Segment:
    """One file of a session's recording, not loaded, that begins at sample `first` of the session's stream (at the
    stream's rate). On its own samples, `gaps` are (first, number) of what the stream lacked, and `markers` (sample,
    text) of what else was marked. `whole`: nothing of its header and markers is damaged, and `placed`: they say where
    it begins."""

    path: Path
    raw: mne.io.BaseRaw
    first: int
    gaps: tuple[tuple[int, int], ...]
    markers: tuple[tuple[int, str], ...]
    placed: bool = True
    whole: bool = True

    @property
    def end(self) -> int:
        """Sample of the session's stream after its last one."""
        return self.first + self.raw.n_times


def segments(folder: str | Path) -> list[Segment]:
    """Return the segments of a session's folder in the order of time, or raise `UserError` where there is none that
    can be read.

    One without markers is placed by the session's log, one without header is read as its neighbours are; both, and
    one that cannot be read, are said in a WARNING.
    """
    found_files = [f for place in places(own_folder(folder)) for end in SUFFIXES for f in place.glob(f"segment_*{end}")]
    paths = sorted({path.with_suffix(".vhdr") for path in found_files})
    if not paths:
        raise UserError(f"{folder}: no recording is there; only live sessions record their stream")
    read, problems = [], []
    for path in paths:
        try:
            read.append(read_segment(path))
        except UserError as error:
            problems.append(error)
    if not read:
        raise problems[0]
    for problem in problems:
        logger.warning("%s; that stretch is missing", problem)
    found: list[Segment] = []
    for part in read:
        whole = part.placed and part.whole
        found.append(part if whole else _as_the_log_has_it(Path(folder), part, found[-1].end if found else 0))
    found.sort(key=lambda s: (s.first, s.path.name))
    kept = [s for s in found if s.raw.n_times]
    kinds = {(tuple(s.raw.ch_names), s.raw.info["sfreq"]) for s in kept}
    if not kept or len(kinds) > 1:
        what = "of different channels or rates" if kept else "all empty"
        raise UserError(f"{folder}: the segments of its recording are {what}")
    return kept


def _as_the_log_has_it(folder: Path, part: Segment, after: int) -> Segment:
    """Return a segment whose markers are damaged with its place and its gaps as the log has them.

    Where neither says its place, it begins at sample `after` of the stream, behind the one before it.
    """
    rate, events = part.raw.info["sfreq"], []
    with suppress(OSError, ValueError):
        events = read_log(folder / "log.jsonl")
    begins = {"segment_001.vhdr": 0} if events else {}
    processes = [0]  # samples of the stream at which a process began: the log's gaps count from there
    for e in events:
        if e["event"] == "resume":
            processes.append(round(e["sample"] * rate / STREAM_RATE))
            begins[str(e["detail"].get("segment"))] = processes[-1]
    first = part.first if part.placed else begins.get(part.path.name, after)
    gaps = set(part.gaps)
    for e in (e for e in events if e["event"] == "gap"):
        at = round(e["sample"] * rate / STREAM_RATE)
        lost = max(p for p in processes if p <= at) + e["detail"]["first"] - first
        if 0 <= lost < part.raw.n_times:
            gaps.add((lost, min(e["detail"]["count"], part.raw.n_times - lost)))
    how = (
        "its own markers say" if part.placed else "the log says" if part.path.name in begins else "nothing says better"
    )
    text = "%s: its markers are missing or damaged; it begins at sample %d of the stream, as %s; gaps are the log's too"
    logger.warning(text, part.path, first, how)
    return replace(part, first=first, gaps=tuple(sorted(gaps)))


_TEXTS = {
    "cue": "cue/{item}", "sham": "sham/{item}", "decode": "decode/{item}", "decode_failed": "decode_failed",
    "stage": "stage/{stage}", "group": "group/{group}", "stream": "stream/{state}",
    "arousal": "arousal/{reason}", "resume": "resume",
}  # fmt: skip


def annotations(folder: str | Path, rate: float) -> list[tuple[int, str]]:
    """Return [(sample at `rate`, text)] of what a session's log says about the sleeper and the cues."""
    events = read_log(Path(folder) / "log.jsonl", details=True)
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


def local_begin(part: Segment) -> datetime.datetime | None:
    """Return the local time of a segment's first sample, in the zone that its header names; None: not known.

    Segments of before a zone was named have universal time, which is brought to this machine's zone.
    """
    begin = part.raw.info["meas_date"]
    if begin is None:
        return None
    header = part.path.read_text(encoding="utf-8", errors="replace") if part.path.is_file() else ""
    if (named := re.search(LOCAL_TIME, header)) is None:
        return begin.astimezone()
    return begin.replace(tzinfo=datetime.datetime.strptime(named[1], "%z").tzinfo)


def join_segments(folder: str | Path, path: str | Path) -> Path:
    """Write the recording in a session's folder as one BrainVision file (.vhdr), and return its path; memory holds a
    minute of it. A `UserError` says that there is none, or that it cannot be read.

    What the stream lacked, and the time between segments, are zeros under an annotation "BAD_ACQ_SKIP/gap" of their
    true length. Segments of a session that went on lie where the session's clock put them.
    """
    parts = segments(folder)
    raw = parts[0].raw
    rate, position = raw.info["sfreq"], 0
    begin = local_begin(parts[0])
    if begin is not None:
        begin -= datetime.timedelta(seconds=parts[0].first / rate)
    comment = f"Session {Path(folder).name}, segments joined."
    if begin is not None:
        comment += f"\n{local_time(begin)}"
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
    """Open a recorded segment (.vhdr), as far as it is whole; a `UserError` says why it cannot be read."""
    path = Path(path)
    whole = True
    try:
        refuse_misleading(path)
        raw = mne.io.read_raw_brainvision(path, preload=False, verbose="error")
        refuse_impossible(path, raw)
        if len(_whole_markers(path)) < len(_marker_lines(path)):  # a number that is cut short is a number too
            raw, whole = _read_mended(path, "a line of its markers is torn"), False
    except Exception as error:  # MNE raises whatever its parsers do of a damaged file
        raw, whole = _read_mended(path, " ".join(str(error).split())), False
    rate, first, gaps, markers = raw.info["sfreq"], None, [], []
    for onset, duration, text in zip(
        raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True
    ):
        sample = round((onset - raw.first_time) * rate)
        said = text.removeprefix("Comment/")
        if text.startswith(GAP_KIND):
            # a process that was killed may have announced more than it wrote
            gaps.append((sample, min(round(duration * rate), raw.n_times - sample)))
        elif match := re.fullmatch(rf"{re.escape(PLACE)} (\d{{1,18}})", said):
            first = int(match[1])
            if first > _LONGEST_SECONDS * rate:
                raise UserError(
                    f"{path}: begins at sample {first}, days after the session did; its markers are damaged"
                )
        elif not text.startswith("New Segment"):
            markers.append((sample, said))
    return Segment(path, raw, first or 0, tuple(gaps), tuple(markers), first is not None, whole)


def _marker_lines(path: Path) -> list[str]:
    """Return the lines of the markers of a segment (.vhdr), each with its end; none where they are missing."""
    marks = path.with_suffix(".vmrk")
    return marks.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if marks.is_file() else []


def _whole_markers(path: Path) -> list[str]:
    return [k for k in _marker_lines(path) if not k.startswith("Mk") or _WHOLE_MARKER.fullmatch(k)]


def _read_mended(path: Path, problem: str) -> mne.io.BaseRaw:
    """Read a segment by what is whole of its markers, and where its header is damaged by a neighbour's."""
    data, headers = path.with_suffix(".eeg"), [path, *sorted(path.parent.glob("segment_*.vhdr"))]
    whole = _whole_markers(path)
    for header in headers if data.is_file() else ():
        with tempfile.TemporaryDirectory() as place, suppress(Exception):  # as above: the next header may do
            text = header.read_text(encoding="utf-8")
            text = re.sub(r"(?m)^DataFile=.*$", lambda _: f"DataFile={data.absolute()}", text)
            text = re.sub(r"(?m)^MarkerFile=.*$", "MarkerFile=whole.vmrk", text)
            (Path(place) / "whole.vhdr").write_text(text, encoding="utf-8")
            (Path(place) / "whole.vmrk").write_text("".join(whole), encoding="utf-8")
            refuse_misleading(header)
            raw = mne.io.read_raw_brainvision(Path(place) / "whole.vhdr", preload=False, verbose="error")
            logger.warning("%s is damaged (%s); what is whole of it is read", path, problem)
            return raw
    raise UserError(f"{path}: cannot be read: {problem}")
