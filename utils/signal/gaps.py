"""Pauses in a recording: files that hold the samples before and after one side by side, and where they say so."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.signal.channel_names import listed

if TYPE_CHECKING:
    import mne

_NOTICED_SECONDS = 0.01
"""A record's time is written with few decimals: what is off by less is none."""
_CLOCK_SECONDS = 1.0
_CLOCK_DRIFT = 1e-4  # of the time between two dates: the clocks of computer and amplifier differ so much at most
_JOINTS = re.compile(r"(?:BAD |EDGE )?boundary|32766", re.IGNORECASE)
"""MNE's marks where recordings were joined, EEGLAB's where samples were taken out, GDF's of a new segment."""
_KIND = re.compile(r"(?:comment|stimulus|marker|annotation|event|note|user|new segment)/", re.IGNORECASE)
_LOST = re.compile(r"LostSamples\s*:\s*(\d+)", re.IGNORECASE)


class Gap(NamedTuple):
    """Time without samples between two that are stored side by side."""

    stored: float  # s of samples that are stored before it
    seconds: float | None  # its length; None where the file does not say


class Timeline:
    """When the samples of a recording were taken, in s after the first one.

    `stored` counts the samples that are there, `true` the gaps too; a gap of unknown length counts as none. `rate` is
    that of the fastest channels in Hz, `seconds` the length of what is stored.
    """

    def __init__(self, gaps: Iterable[Gap], rate: float, seconds: float) -> None:
        self._rate, self.stored_seconds = rate, seconds
        ordered = sorted(gaps, key=lambda gap: (gap.stored, -1.0 if gap.seconds is None else gap.seconds))
        self.gaps = tuple(gap for gap in ordered if 0 < np.rint(gap.stored * rate) < np.rint(seconds * rate))
        self._stored = np.array([gap.stored for gap in self.gaps], float)
        ends = np.cumsum([gap.seconds or 0.0 for gap in self.gaps])
        self._after = np.round(ends * rate) / rate  # added to the time of the samples behind each gap

    def __bool__(self) -> bool:
        return bool(self.gaps)

    @property
    def seconds(self) -> float:
        """Length of the recording, with its gaps."""
        return self.stored_seconds + (float(self._after[-1]) if len(self._after) else 0.0)

    @property
    def known(self) -> bool:
        """Whether the length of every gap is known."""
        return all(gap.seconds is not None for gap in self.gaps)

    @property
    def spans(self) -> np.ndarray:
        """Begin and end of each gap, (n, 2), on the true clock; alike where the length is unknown."""
        before = np.concatenate([[0.0], self._after[:-1]])
        return np.stack([self._stored + before, self._stored + self._after], axis=1).reshape(-1, 2)

    def true(self, stored: np.ndarray | float) -> np.ndarray:
        """Return the true times of times that count stored samples; an array of the same shape."""
        stored = np.asarray(stored, float)
        behind = np.searchsorted(self._stored, stored + 0.25 / self._rate, side="right")
        return stored + np.concatenate([[0.0], self._after])[behind]

    def stretches(self, rate: float, count: int) -> list[tuple[int, int, int]]:
        """Return (first sample on the true clock, first stored sample, samples) of what lies between the gaps.

        `rate` and `count` are those of some channels: their samples a second, and how many are stored.
        """
        cuts = [0, *(min(round(stored * rate), count) for stored in self._stored), count]
        shifts = [0, *(round(after * rate) for after in self._after)]
        return [(cuts[k] + shift, cuts[k], cuts[k + 1] - cuts[k]) for k, shift in enumerate(shifts)]

    def remarks(self) -> list[str]:
        """Return what there is to say about the gaps, as sentences."""
        found = []
        known = [(float(begin), float(end - begin)) for (begin, end), gap in zip(self.spans, self.gaps, strict=True)
                 if gap.seconds is not None]  # fmt: skip
        if known:
            total = sum(length for _, length in known)
            found.append(
                f"the recording has {len(known)} gap{'s' * (len(known) > 1)} of {total:g} s in all, which count: "
                f"{listed((f'{length:g} s at {begin:g} s' for begin, length in known), 5)}"
            )
        if unknown := [begin for (begin, _), gap in zip(self.spans, self.gaps, strict=True) if gap.seconds is None]:
            found.append(
                f"samples are missing, nobody knows how many, at {listed((f'{begin:g} s' for begin in unknown), 5)}"
            )
        return found


def of_records(onset: Sequence[float | None], length: float, gaps_declared: bool, where: str) -> list[Gap]:
    """Return the gaps between the data records of an EDF+ or BDF+ file, from the time that each one states.

    `length` is that of a record in s; `gaps_declared` says that the header calls the file discontinuous (EDF+D), so
    that every record has to state a time. Refuses records that overlap.
    """
    found: list[Gap] = []
    before: float | None = None  # of the record before this one
    for number, time in enumerate(onset):
        if time is None:
            if gaps_declared:
                raise UserError(
                    f"{where}: the header says that there may be gaps (EDF+D), but record {number + 1} does not "
                    "state its time; export the recording as EDF+C"
                )
            return []
        late = 0.0 if before is None else time - before - length
        before = time
        if late > _NOTICED_SECONDS:
            found.append(Gap(number * length, late))
        elif late < -_NOTICED_SECONDS:
            if gaps_declared:
                raise UserError(
                    f"{where}: record {number + 1} begins {-late:g} s before the end of the one before it, by its own "
                    "time; export the recording again"
                )
            return []  # an EDF+C file holds no gaps, and this one's times mean something else
    return found


def record_time(text: bytes) -> float | None:
    """Return the time in s that a data record of EDF+ states at the beginning of its annotations."""
    found = re.match(rb"([+-]\d+(?:\.\d*)?)\x14", text)
    return float(found[1]) if found else None


def marks_of(text: bytes) -> list[tuple[float, float, str]]:
    """Return (time, duration, text) in s of the annotations of a data record of EDF+, without that of its own time."""
    found = []
    for onset, _, length, texts in re.findall(rb"([+-]\d+(?:\.\d*)?)(\x15(\d+(?:\.\d*)?))?\x14([^\0]*)\x14\0", text):
        for one in filter(None, texts.split(b"\x14")):
            try:
                words = one.decode("utf-8")
            except UnicodeDecodeError:
                words = one.decode("latin-1")
            found.append((float(onset), float(length or 0), words))
    return found


def of_markers(path: Path, rate: float) -> list[Gap]:
    """Return the gaps of a BrainVision recording: at its markers "New Segment", by their dates.

    Without two dates the length is unknown; "LostSamples: 12" says it itself. Refuses dates that go back, and files
    that were cut into segments.
    """
    header, markers = path.read_bytes().decode("latin-1"), linked_files(path).get("markerfile")
    if (kind := re.search(r"(?im)^\s*SegmentationType\s*=\s*(\w+)", header)) and kind[1].upper() != "NOTSEGMENTED":
        raise UserError(
            f"{display_path(path)}: the recording was cut into segments ({kind[1]}); export it as a whole (in "
            "Analyzer: before the segmentation)"
        )
    if markers is None or not markers.is_file():
        return []
    text = markers.read_bytes().decode("latin-1")
    found: list[Gap] = []
    dated: tuple[float, datetime] | None = None  # s of stored samples and of the gaps since, and the clock there
    for stored, description, date in sorted(_segments(text, rate), key=lambda segment: segment[0]):
        length: float | None = None
        if lost := _LOST.search(description):
            length = float(lost[1]) / rate
        elif stored > 0 and dated is not None and date is not None:
            elapsed = (date - dated[1]).total_seconds()
            length = elapsed - (stored - dated[0])
            if length < -(_CLOCK_SECONDS + _CLOCK_DRIFT * abs(elapsed)):
                raise UserError(
                    f"{display_path(markers)}: by its date ({date:%Y-%m-%d %H:%M:%S}) the segment that begins "
                    f"{stored:g} s into the samples begins {-length:g} s before the end of the one before it; was the "
                    "clock set back? Correct the date of that marker"
                )
            length = max(length, 0.0)
        if stored > 0:
            found.append(Gap(stored, length))
        if date is not None:
            dated = stored, date
        elif length is None:
            dated = None
        elif dated is not None:
            dated = dated[0] - length, dated[1]
    return found


def _segments(text: str, rate: float) -> list[tuple[float, str, datetime | None]]:
    """Return (s of samples before it, description, date) of each marker that begins a segment."""
    found = []
    for line in re.findall(r"(?m)^\s*Mk\d+=(.*?)\s*$", text):
        kind, description, position, _, _, *date = (*line.split(","), "", "", "", "", "")[:6]
        if (kind == "New Segment" or _LOST.search(description)) and re.fullmatch(r"[0-9]{1,15}", position.strip()):
            found.append((max(0, int(position) - 1) / rate, description, _moment(date[0])))
    return found


def _moment(text: str) -> datetime | None:
    """Return the date of a marker, yyyymmddhhmmss and µs; None where there is none."""
    digits = text.strip()
    try:
        return datetime.strptime(digits[:14] + digits[14:20].ljust(6, "0"), "%Y%m%d%H%M%S%f")
    except ValueError:
        return None


def linked_files(path: Path) -> dict[str, Path]:
    """Return the files that a BrainVision header names, by "datafile" and "markerfile"; none of another format."""
    header = path.suffix.lower() == ".vhdr" and path.is_file()
    text = path.read_bytes().decode("latin-1") if header else ""
    named = re.findall(r"(?im)^\s*(DataFile|MarkerFile)\s*=\s*(\S.*?)\s*$", text)
    return {key.casefold(): path.parent / name.replace("$b", path.stem) for key, name in named}


def without_kind(text: str) -> str:
    """Return what an annotation says without the kind of marker that a reader puts before it: "Comment/boundary"."""
    return _KIND.sub("", text.strip(), count=1) if _KIND.match(text.strip()) else text.strip()


def of_annotations(
    annotations: "mne.Annotations", first_time: float, rate: float, known: Sequence[Gap] = ()
) -> list[Gap]:
    """Return the gaps that annotations mark where samples were taken out, or recordings joined, and `known` ones.

    EEGLAB writes how long what it took out was; other marks leave the length unknown, unless they stand at a gap that
    is known.
    """
    found: dict[float, float | None] = {}
    for onset, duration, text in zip(annotations.onset, annotations.duration, annotations.description, strict=True):
        if _JOINTS.fullmatch(without_kind(str(text))):
            stored = np.floor((float(onset) - first_time) * rate + 0.5) / rate  # EEGLAB's lie between two samples
            told = str(text).strip().casefold() == "boundary" and np.isfinite(duration) and duration > 1.5 / rate
            found[stored] = float(duration) if told else found.get(stored)
    apart = 1.5 / rate
    return [
        *known,
        *(Gap(at, long) for at, long in found.items() if not any(abs(at - gap.stored) < apart for gap in known)),
    ]
