"""A recording on disk: its channels, each at its own sampling rate, read lazily through MNE.

What MNE keeps to itself is read from the headers of EDF, BDF and GDF files here: every channel's rate, the
length that was announced, gaps. (edfio loads a whole BDF file to tell, and loses the announced length.)
"""

import hashlib
import logging
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.file_hashes import digests
from sleep_interpreter.utils.signal.recording_header import refuse_impossible, refuse_misleading

if TYPE_CHECKING:
    import mne

_SENT_SECONDS = 0.01
"""A lower code that lasts so long was sent; amplifiers' lines fall within a sample or two of each other."""
_OURS = "Number of records from the header does not match"  # we say it ourselves, in seconds


@dataclass(frozen=True)
class RateGroup:
    """Channels of one sampling rate in Hz; `places` are theirs among the channels that were asked for."""

    rate: float
    places: tuple[int, ...]
    _raw: "mne.io.BaseRaw"
    _rows: tuple[int, ...]

    @property
    def length(self) -> int:
        """Samples a channel."""
        return self._raw.n_times

    def read(self, start: int, stop: int, places: Sequence[int] | None = None) -> np.ndarray:
        """Return samples [start, stop), shape (channels, n), in the reader's unit; only of these of `places`, in this
        order."""
        rows = self._rows if places is None else [self._rows[self.places.index(p)] for p in places]
        order = sorted(set(rows))  # one read for the span of channels
        data = self._raw.get_data(picks=order, start=start, stop=stop, verbose="error")
        return data[[order.index(row) for row in rows]]


class Recording:
    """A file in any format of `mne.io.read_raw`; samples stay on disk.

    Channels of EDF, BDF and GDF may differ in rate. MNE raises all to the highest rate among those it opens, in every
    read apart, so here those of one rate are opened alone. A file that is missing, unreadable or without data is a
    `UserError`. `names` are the channels; onsets of the `annotations` count from `first_time` (s); `clock` is the time
    of day of the first sample in s after midnight (None where the file says none, or midnight); `notices` are logging
    levels and what is to be said about the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise UserError(f"{self.path}: recording not found")
        self._raw, remarks = _read(self.path)
        self.names = list(self._raw.ch_names)
        if self._raw.n_times == 0 or not self.names:
            raise UserError(f"{self.path}: the recording holds no data")
        self.clock = _time_of_day(self._raw)
        self._rate = float(self._raw.info["sfreq"])
        self.rate = self._rate  # Hz, of the fastest channels
        self.seconds = self._raw.n_times / self._rate
        self.annotations, self.first_time = self._raw.annotations, self._raw.first_time
        rates = [self._rate] * len(self.names)
        self.notices = [(_level(text), f"the reader says: {text}") for text in remarks]
        suffix = self.path.suffix.lower()
        self._divisible = suffix in (".edf", ".bdf")
        if self._divisible:
            rates, faults = _read_edf_header(self.path)
            self.notices += [(logging.WARNING, text) for text in faults]
        elif suffix == ".gdf":
            samples = _read_gdf_samples(self.path)
            rates = [self._rate * (n / max(samples)) for n in samples]
        self._rates = dict(zip(self.names, rates, strict=True))

    def groups(self, picks: Sequence[str]) -> list[RateGroup]:
        """Open channels, each at its own rate, or raise a `UserError` where MNE cannot; the fastest group comes
        first."""
        rates = [self._rates[name] for name in picks]
        groups = []
        for rate in sorted(set(rates), reverse=True):
            places = tuple(place for place, own in enumerate(rates) if own == rate)
            names = [picks[place] for place in places]
            raw = self._raw if rate == self._rate else self._open(names, rate)
            groups.append(RateGroup(rate, places, raw, tuple(raw.ch_names.index(name) for name in names)))
        return groups

    def triggers(self, name: str | None = None) -> list[tuple[float, int]]:
        """Return [(seconds after the first sample, code)] of a trigger channel; None: the one MNE takes for it.

        A code begins where the channel rises to it, or falls to it from a higher one and stays: lines that fall one
        after the other pass through lower codes for a moment. A `UserError` where there is no such channel.
        """
        import mne  # lazy: start-up

        if name is not None and name not in self.names:
            raise UserError(f"{self.path}: no trigger channel {name!r}; it has {', '.join(self.names)}")
        try:
            steps = mne.find_events(
                self._raw, stim_channel=name, output="step", consecutive=True, shortest_event=1,
                initial_event=True, verbose="error",
            )  # fmt: skip
        except ValueError as error:
            raise UserError(f"{self.path}: no trigger channel ({error}); name one") from error
        starts = (steps[:, 0] - self._raw.first_samp) / self._rate
        ends = [*starts[1:], self.seconds]
        return [
            (float(start), int(code))
            for start, end, (_, before, code) in zip(starts, ends, steps, strict=True)
            if code > before or (code != 0 and end - start >= _SENT_SECONDS)
        ]

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and a hash: SHA-256 over every byte of every file."""
        files = [Path(f) for f in self._raw.filenames if f is not None]
        if self.path.is_file() and self.path.resolve() not in [f.resolve() for f in files]:
            files.insert(0, self.path)  # the header of a format in several files
        digest = hashlib.sha256(b"".join(digests(files))).hexdigest()
        return {"name": self.path.name, "bytes": sum(file.stat().st_size for file in files), "sha256": digest}

    def _open(self, names: list[str], rate: float) -> "mne.io.BaseRaw":
        """Open some channels alone, so that no other one's rate matters."""
        if self._divisible:
            raw, _ = _read(self.path, include=names, exclude_after_unique=True)
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


def _level(remark: str) -> int:
    """Return how loudly a reader's remark is passed on: events behind its end mean a file cut short."""
    return logging.WARNING if "outside" in remark and "data range" in remark else logging.INFO


def _read(path: Path, **more: Any) -> tuple["mne.io.BaseRaw", list[str]]:
    """Return MNE's Raw (data stay on disk) and what the reader remarked."""
    import mne  # lazy: start-up

    refuse_misleading(path)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            raw = mne.io.read_raw(path, preload=False, verbose="warning", **more)
    except Exception as error:  # a broken file fails in as many ways as there are readers
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: MNE cannot read this recording: {reason[:300]}") from error
    refuse_impossible(path, raw)
    remarks = [" ".join(str(w.message).split()) for w in caught]
    return raw, [text for text in remarks if not text.startswith(_OURS)]


def _read_edf_header(path: Path) -> tuple[list[float], list[str]]:
    """Return every signal's rate in Hz, annotations left out, and sentences on what is wrong with the length.

    Layout: Kemp et al., 1992 (EDF); Kemp and Olivan, 2003 (EDF+). BDF is EDF with samples of 3 bytes.
    """
    with path.open("rb") as handle:
        fixed = handle.read(256)
        count = int(_text(fixed[252:256]))
        signals = handle.read(256 * count)
    labels = [_text(signals[16 * i : 16 * (i + 1)]) for i in range(count)]
    samples = [int(_text(signals[216 * count + 8 * i :][:8])) for i in range(count)]
    record = float(_text(fixed[244:252])) or 1.0  # zero only where there are no samples
    data_bytes = path.stat().st_size - int(_text(fixed[184:192]))
    found = data_bytes // (3 if path.suffix.lower() == ".bdf" else 2) // sum(samples) * record
    announced = int(_text(fixed[236:244])) * record
    header, faults = f"the {announced:g} s that its header announces", []
    if announced < 0:
        faults.append(
            f"the file was not closed properly: its header does not say how long it is, {found:g} s were found"
        )
    elif found < announced:
        faults.append(f"the file breaks off: {announced - found:g} s of {header} are missing")
    elif found > announced:
        faults.append(f"the file holds {found - announced:g} s more than {header}; they are used")
    if _text(fixed[192:236])[:5] in ("EDF+D", "BDF+D"):
        faults.append(
            "the header says that the recording may hold gaps (EDF+D): they are not seen here, and "
            "everything after one comes too early"
        )
    annotations = ("EDF Annotations", "BDF Annotations")
    return [n / record for n, name in zip(samples, labels, strict=True) if name not in annotations], faults


def _read_gdf_samples(path: Path) -> tuple[int, ...]:
    """Return the samples that each signal of a GDF file has in a data record (Schlögl, 2006)."""
    with path.open("rb") as handle:
        (count,) = struct.unpack("<H", handle.read(256)[252:254])
        handle.seek(256 + 216 * count)
        return struct.unpack(f"<{count}i", handle.read(4 * count))


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("latin-1").strip()
