"""A recording on disk: its channels, each at its own sampling rate, read lazily through MNE.

What MNE keeps to itself is read from the headers of EDF, BDF and GDF files (recording_header.py): every channel's
rate, the length that was announced, gaps. (edfio loads a whole BDF file to tell, and loses the announced length.)
"""

import contextlib
import datetime
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.file_hashes import content_hash
from sleep_interpreter.utils.signal import trigger_channel
from sleep_interpreter.utils.signal.gaps import Gap, Timeline, linked_files, of_annotations, of_markers
from sleep_interpreter.utils.signal.recording_header import (
    EdfLayout,
    edf_layout,
    gdf_samples,
    refuse_impossible,
    refuse_length,
    refuse_misleading,
)

if TYPE_CHECKING:
    import mne

_STIM_NAMES = ("STI101", "STI 014")
"""Channels of all trigger lines together: taken before other trigger channels, as MNE does."""
_SIGN_BITS = {".fif": 16, ".bdf": 24}
"""Formats whose trigger channels are whole numbers of so many bits, the first of which is no sign."""
ENCODED = (".edf", ".bdf")
"""Formats whose reader can be told the encoding of annotations."""
_OURS = "Number of records from the header does not match"  # we say it ourselves, in seconds
_HARMLESS = (
    "does not conform to MNE naming conventions", "highpass filters", "lowpass filters", "cutoff frequency",
    "highpass filter", "lowpass filter", "software filter", "No coordinate information", "mixed sampling frequencies",
    "birthday", "patient information", "Unknown types found, setting as type EEG", "Estimation of",
)  # fmt: skip
"""Parts of MNE's remarks that are of no account here; the others are shown."""


@dataclass(frozen=True)
class RateGroup:
    """Channels of one sampling rate in Hz; `places` are theirs among the channels that were asked for."""

    rate: float
    places: tuple[int, ...]
    _raw: "mne.io.BaseRaw"
    _rows: tuple[int, ...]
    _timeline: Timeline

    @property
    def length(self) -> int:
        """Samples a channel, with those that are missing in gaps."""
        first, _, count = self._stretches[-1]
        return first + count

    @property
    def _stretches(self) -> list[tuple[int, int, int]]:
        return self._timeline.stretches(self.rate, self._raw.n_times)

    def read(self, start: int, stop: int, places: Sequence[int] | None = None, filled: bool = False) -> np.ndarray:
        """Return samples [start, stop), shape (channels, n), in the reader's unit; only these of `places`, in this
        order. A gap holds NaN or, `filled`, a straight line from the sample before it to the one after it."""
        if not self._timeline:
            return self._stored(start, stop, places)
        stretches = self._stretches
        result = np.full((len(self._rows if places is None else places), max(0, stop - start)), np.nan)
        for first, stored, count in stretches:
            begin, end = max(start, first), min(stop, first + count)
            if begin < end:
                shift = stored - first
                result[:, begin - start : end - start] = self._stored(begin + shift, end + shift, places)
        for (first, stored, count), (after, behind, _) in pairwise(stretches) if filled else ():
            last = first + count - 1
            begin, end = max(start, last + 1), min(stop, after)
            if begin < end:
                left, right = (self._stored(k, k + 1, places) for k in (stored + count - 1, behind))
                share = (np.arange(begin, end) - last) / (after - last)
                result[:, begin - start : end - start] = left + share * (right - left)
        return result

    def _stored(self, start: int, stop: int, places: Sequence[int] | None) -> np.ndarray:
        rows = self._rows if places is None else [self._rows[self.places.index(p)] for p in places]
        order = sorted(set(rows))  # one read for the span of channels
        return _samples(self._raw, order, start, stop)[[order.index(row) for row in rows]]


class Recording:
    """A file in any format of `mne.io.read_raw`; samples stay on disk. `encoding` is that of annotations.

    Channels of EDF, BDF and GDF may differ in rate. MNE raises all to the highest rate among those it opens, in every
    read apart, so here those of one rate are opened alone. A file that is missing, unreadable or without data is a
    `UserError`. `names` are the channels; onsets of the `annotations` count from `first_time` (s); `clock` is the time
    of day of the first sample in s after midnight (None where the file says none, or midnight), `date` its day; `bads`
    are channels that the file calls bad; `notices` are logging levels and what is to be said about the file. Where
    recording was paused, or samples are missing, all times and samples count the gap with its true length, and
    `timeline` has it.
    """

    def __init__(self, path: str | Path, encoding: str = "utf8") -> None:
        self.path, self._encoding = Path(path), encoding
        if not self.path.exists():
            raise UserError(f"{self.path}: recording not found")
        self._raw, remarks = _read(self.path, encoding)
        self.names = list(self._raw.ch_names)
        if self._raw.n_times == 0 or not self.names:
            raise UserError(f"{self.path}: the recording holds no data")
        self.clock = _time_of_day(self._raw)
        self.date = None if self.clock is None else _date(self._raw)
        self._rate = float(self._raw.info["sfreq"])
        self.rate = self._rate  # Hz, of the fastest channels
        self.annotations, self.first_time = self._raw.annotations, self._raw.first_time
        self.bads = list(self._raw.info["bads"])
        rates = [self._rate] * len(self.names)
        self.notices = [(_level(text), f"the reader says: {text}") for text in remarks]
        suffix = self.path.suffix.lower()
        self._divisible = suffix in ENCODED
        gaps, records = list[Gap](), None
        if self._divisible:
            records = edf_layout(self.path)
            gaps, (rates, faults) = records.gaps(), _read_edf_header(records)
            self.notices += [(logging.WARNING, text) for text in faults]
        elif suffix == ".vhdr":
            gaps = of_markers(self.path, self._rate)
        elif suffix == ".gdf":
            samples = gdf_samples(self.path)
            rates = [self._rate * (n / max(samples)) for n in samples]
        self._rates = dict(zip(self.names, rates, strict=True))
        gaps = of_annotations(self.annotations, self.first_time, self._rate, gaps)
        self.timeline = Timeline(gaps, self._rate, self._raw.n_times / self._rate)
        self.seconds = self.timeline.seconds
        refuse_length(self.path, self.seconds, "with its gaps, by the times inside it, it is")
        if self.timeline:
            self.notices += [(logging.WARNING, text) for text in self.timeline.remarks()]
            self.annotations = self._annotations_in_time(records)

    def groups(self, picks: Sequence[str]) -> list[RateGroup]:
        """Open channels, each at its own rate, or raise a `UserError` where MNE cannot; the fastest group comes
        first."""
        rates = [self._rates[name] for name in picks]
        groups = []
        for rate in sorted(set(rates), reverse=True):
            places = tuple(place for place, own in enumerate(rates) if own == rate)
            names = [picks[place] for place in places]
            raw = self._raw if rate == self._rate else self._open(names, rate)
            rows = tuple(raw.ch_names.index(name) for name in names)
            groups.append(RateGroup(rate, places, raw, rows, self.timeline))
        return groups

    def _annotations_in_time(self, records: EdfLayout | None) -> "mne.Annotations":
        """Return the annotations at their true times."""
        import mne  # lazy: start-up

        if records is not None:  # they count the gaps, and MNE drops those behind the end of what is stored
            return mne.Annotations(*records.marks())
        found = self.annotations
        onset = found.onset - self.first_time
        true, ends = self.timeline.true(onset), self.timeline.true(onset + found.duration)
        duration = np.where(found.duration > 0, ends - true, found.duration)
        return mne.Annotations(true + self.first_time, duration, found.description, orig_time=found.orig_time)

    def trigger_channels(self) -> list[str]:
        """Return the trigger channels, the one that is taken unless another is named first."""
        kinds = self._raw.get_channel_types()
        stim = [name for name, kind in zip(self.names, kinds, strict=True) if kind == "stim"]
        return list(dict.fromkeys([*(name for name in _STIM_NAMES if name in self.names), *stim]))

    def triggers(self, name: str | None = None) -> list[tuple[float, int]]:
        """Return [(seconds after the first sample, code)] of a trigger channel; None: the first of `trigger_channels`.

        The codes are the whole numbers that were sent (`trigger_channel.sent`); a channel without any gives an empty
        list. A `UserError` where there is no such channel, or it holds something else than codes.
        """
        if name is None and not (name := next(iter(self.trigger_channels()), None)):
            raise UserError(
                f"{self.path}: no channel is marked as a trigger channel; name one in events.stim_channel, of "
                f"{', '.join(self.names)}"
            )
        if name not in self.names:
            raise UserError(f"{self.path}: no trigger channel {name!r}; it has {', '.join(self.names)}")
        suffix, raw, row = self.path.suffix.lower(), self._raw, self.names.index(name)
        if suffix in (".edf", ".gdf"):  # MNE cuts the decimals off a channel that it takes for triggers itself
            alone = {"include": [name], "exclude_after_unique": True} if self._divisible else {}
            raw, _ = _read(self.path, self._encoding, stim_channel=None, **alone)
            row = raw.ch_names.index(name)
        rate = float(raw.info["sfreq"])
        found = trigger_channel.steps(lambda start, stop: _samples(raw, [row], start, stop)[0], raw.n_times)
        where, unit = f"{self.path}: trigger channel {name!r}", getattr(raw, "_orig_units", {}).get(name)
        starts, codes = trigger_channel.whole_numbers(found, unit, rate, _SIGN_BITS.get(suffix), where)
        if suffix == ".bdf":  # BioSemi: 16 lines of triggers, above them states of the amplifier
            codes = codes & 0xFFFF
            changed = np.flatnonzero(np.diff(codes, prepend=-1))
            starts, codes = starts[changed], codes[changed]
        sent = trigger_channel.sent((starts, codes), rate, raw.n_times)
        return [(float(self.timeline.true(start / rate)), code) for start, code in sent]

    @property
    def files(self) -> list[Path]:
        """The files that hold the samples, in order of time."""
        return [Path(file) for file in self._raw.filenames if file is not None]

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and a hash: SHA-256 over every byte of every file."""
        files = self.files
        if self.path.is_file() and self.path.resolve() not in [f.resolve() for f in files]:
            files.insert(0, self.path)  # the header of a format in several files
        size = sum(file.stat().st_size for file in files)
        return {"name": self.path.name, "bytes": size, "sha256": content_hash(files)}

    def _open(self, names: list[str], rate: float) -> "mne.io.BaseRaw":
        """Open some channels alone, so that no other one's rate matters."""
        if self._divisible:
            raw, _ = _read(self.path, self._encoding, include=names, exclude_after_unique=True)
            if sorted(raw.ch_names) == sorted(names) and abs(raw.info["sfreq"] - rate) < 1e-9 * rate:
                return raw
        # MNE's GDF reader gives other channels than those asked for when it opens some alone
        raise UserError(
            f"{self.path}: {', '.join(names)} at {rate:g} Hz, but other channels have {self._rate:g} "
            "Hz and its reader cannot part them; convert the recording to EDF, or to one sampling rate"
        )


def _time_of_day(raw: "mne.io.BaseRaw") -> float | None:
    """Return the time of day of a Raw's first sample in s after midnight, by the laboratory's clock."""
    begun = raw.info["meas_date"]
    if begun is None:
        return None
    clock = begun.hour * 3600 + begun.minute * 60 + begun.second + begun.microsecond * 1e-6
    return (clock + raw.first_time) % 86400 if clock else None


def _date(raw: "mne.io.BaseRaw") -> datetime.date | None:
    """Return the day of a Raw's first sample."""
    begun = raw.info["meas_date"]
    return None if begun is None else (begun + datetime.timedelta(seconds=raw.first_time)).date()


def _level(remark: str) -> int:
    """Return how loudly a reader's remark is passed on: a warning, unless it is known to change no sample or event."""
    return logging.INFO if any(part in remark for part in _HARMLESS) else logging.WARNING


@contextlib.contextmanager
def reader_options(path: Path, encoding: str) -> Iterator[dict[str, Any]]:
    """Yield what MNE's reader of a recording has to be told for annotations in this encoding.

    BrainVision's reader takes UTF-8 alone for granted: markers in Latin-1 are given to it as a copy in UTF-8.
    """
    if path.suffix.lower() in ENCODED:
        yield {"encoding": encoding}
    elif encoding == "latin1" and (markers := linked_files(path).get("markerfile")) is not None and markers.is_file():
        text = re.sub(r"(?mi)^Codepage=.*$", "Codepage=UTF-8", markers.read_text(encoding="latin-1"))
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / markers.name
            copy.write_text(text, encoding="utf-8")
            yield {"overrides": {"marker_fname": str(copy)}}
    else:
        yield {}


def _read(path: Path, encoding: str, **more: Any) -> tuple["mne.io.BaseRaw", list[str]]:
    """Return MNE's Raw (data stay on disk) and what the reader remarked."""
    import mne  # lazy: start-up

    refuse_misleading(path, encoding)
    try:
        with warnings.catch_warnings(record=True) as caught, reader_options(path, encoding) as options:
            warnings.simplefilter("always")
            raw = mne.io.read_raw(path, preload=False, verbose="warning", **options, **more)
    except Exception as error:  # a broken file fails in as many ways as there are readers
        reason = " ".join(str(error).split()) or type(error).__name__
        if "encoding='latin1'" in reason or isinstance(error, UnicodeDecodeError):
            raise UserError(
                f"{path}: its annotations are no UTF-8 text; if they are in Latin-1, set recordings.encoding=latin1 "
                "(data/prepare.py)"
            ) from error
        raise UserError(f"{path}: MNE cannot read this recording: {reason[:300]}") from error
    refuse_impossible(path, raw)
    remarks = [" ".join(str(w.message).split()) for w in caught if issubclass(w.category, RuntimeWarning)]
    return raw, [text for text in remarks if not text.startswith(_OURS)]


def _samples(raw: "mne.io.BaseRaw", rows: Sequence[int], start: int, stop: int) -> np.ndarray:
    """Return samples [start, stop) of some channels, in the reader's unit."""
    try:
        return raw.get_data(picks=rows, start=start, stop=stop, verbose="error")
    except Exception as error:  # as above; many a reader meets what is broken only here
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{raw.filenames[0]}: MNE cannot read samples {start} to {stop} of this recording: {reason[:300]}"
        ) from error


def _read_edf_header(file: EdfLayout) -> tuple[list[float], list[str]]:
    """Return every signal's rate in Hz, annotations left out, and sentences on what is wrong with the length."""
    record = file.seconds or 1.0  # zero means 1 s, as MNE has it
    found, announced = file.count * record, file.announced * record
    header, faults = f"the {announced:g} s that its header announces", []
    if announced < 0:
        faults.append(
            f"the file was not closed properly: its header does not say how long it is, {found:g} s were found"
        )
    elif found < announced:
        faults.append(f"the file breaks off: {announced - found:g} s of {header} are missing")
    elif found > announced:
        faults.append(f"the file holds {found - announced:g} s more than {header}; they are used")
    return [n / record for k, n in enumerate(file.samples) if k not in file.annotations], faults
