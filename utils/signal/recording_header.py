"""What a recording says of itself, checked before a reader acts on it.

A header must not make a reader open other files, wait without end, or ask for more memory than there are samples.
"""

import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.signal.gaps import Gap, marks_of, of_records, record_time

if TYPE_CHECKING:
    import mne

_RATES = (0.5, 1e6)
"""Hz, of the fastest channel."""
_LONGEST = 400 * 86400
"""Seconds of a recording."""
_CHANNELS = 4096
_SAMPLES = 10_000_000
"""Of a channel in one data record."""
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
"""Signals of EDF+ and BDF+ that hold text."""
_TEXT = 256 * 2**20
"""Bytes of a header or of markers that are text."""
_HOLES = 64 * 2**20
"""Bytes that a file may say it has without having them, or half of it if that is more: a recorder may reserve space."""
_UNPACKED = (200, 512 * 2**20)
"""What an EEGLAB file may unpack to: so many times its length, or so many bytes."""
_GDF_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 8, 8: 8, 16: 4, 17: 8}
"""Of a number, by GDF's code of its kind."""
_NAMES = re.compile(r"^\s*(DataFile|MarkerFile)[ \t]*[=:][ \t]*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_COUNT = re.compile(r"^\s*NumberOfChannels[ \t]*[=:][ \t]*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)


def refuse_misleading(path: Path, encoding: str = "utf8") -> None:
    """Refuse a recording (`UserError`) whose header cannot be meant, before anything else of it is read.

    `path` is there; `encoding` is that of its markers. Of EDF, BDF, GDF, BrainVision and EEGLAB files the header is
    looked at; of any file, whether its bytes are there.
    """
    if path.is_dir():
        return  # a format of several files
    if not path.is_file():
        raise UserError(f"{path}: is no file, so no recording; name the recording itself")
    _refuse_holes(path)
    brainvision = partial(_brainvision, encoding=encoding)
    checks: dict[str, Callable[[Path], object]] = {
        ".edf": edf_layout, ".bdf": edf_layout, ".gdf": gdf_samples, ".vhdr": brainvision, ".ahdr": brainvision,
        ".set": _eeglab,
    }  # fmt: skip
    if check := checks.get(path.suffix.lower()):
        try:
            check(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def refuse_impossible(path: Path, raw: "mne.io.BaseRaw") -> None:
    """Refuse what a reader made of a recording where it cannot be: samples of another folder, a rate or a length."""
    own = [path.resolve()] if path.is_dir() else [path.parent.resolve(), path.resolve().parent]  # it may be a link
    for file in (Path(name) for name in raw.filenames if name is not None):
        if not any(file.parent.resolve().is_relative_to(folder) for folder in own):
            raise _outside(path, "samples", file)
        _refuse_holes(file)
    rate = float(raw.info["sfreq"])
    if not _RATES[0] <= rate <= _RATES[1]:
        raise UserError(
            f"{path}: its header says {rate:g} Hz, and {_RATES[0]:g} to {_RATES[1]:g} Hz are understood; correct the "
            "sampling rate there, or export the recording again"
        )
    refuse_length(path, raw.n_times / rate)


def refuse_length(path: Path, seconds: float, of_what: str = "its header says that it is") -> None:
    """Refuse a recording, or one with its gaps, that would be longer than any is; `of_what` says who says so."""
    if not seconds <= _LONGEST:
        raise UserError(
            f"{path}: {of_what} {seconds / 86400:,.0f} days long; correct the length, the times or the sampling rate "
            "there, or export the recording again"
        )


def _refuse_holes(path: Path) -> None:
    """Refuse a file most of which was never written: a copy that broke off, or zeros that would be read for hours."""
    size = path.stat().st_size if path.is_file() else 0
    if size <= _HOLES or not hasattr(os, "SEEK_HOLE"):
        return
    missing = place = 0
    with path.open("rb") as handle:
        try:
            while place < size:
                begin = os.lseek(handle.fileno(), place, os.SEEK_HOLE)
                if begin >= size:
                    break
                try:
                    place = os.lseek(handle.fileno(), begin, os.SEEK_DATA)
                except OSError:  # nothing behind it
                    place = size
                missing += place - begin
        except OSError:  # a file system that does not tell
            return
    if missing > max(_HOLES, size // 2):
        raise UserError(
            f"{path}: of its {size:,} bytes {missing:,} were never written, as in a copy or download that broke off; "
            "get the file again"
        )


@dataclass(frozen=True)
class EdfLayout:
    """How an EDF or BDF file is laid out (Kemp et al., 1992; EDF+: Kemp and Olivan, 2003); BDF: 3 bytes a sample."""

    path: Path
    labels: list[str]  # of the signals
    samples: list[int]  # of each signal in a data record
    seconds: float  # of a record; 0 where the file holds annotations only
    announced: int  # records, by the header; negative in a file that was not closed
    begin: int  # bytes before the first record
    may_have_gaps: bool  # EDF+D

    @property
    def width(self) -> int:
        """Bytes of a sample."""
        return 3 if self.path.suffix.lower() == ".bdf" else 2

    @cached_property
    def count(self) -> int:
        """Records that are there."""
        return (self.path.stat().st_size - self.begin) // self.width // sum(self.samples)

    @cached_property
    def annotations(self) -> list[int]:
        """Places of the signals that hold text."""
        return [k for k, name in enumerate(self.labels) if name in _ANNOTATIONS]

    def texts(self, signal: int, most: int | None = None) -> Iterator[bytes]:
        """Yield what a signal of annotations holds in each record, no more than its first bytes."""
        begin, held = (self.width * n for n in (sum(self.samples[:signal]), self.samples[signal]))
        shape = self.count, self.width * sum(self.samples)
        records = np.memmap(self.path, np.uint8, "r", self.begin, shape) if self.count else np.zeros((0, 1), np.uint8)
        stop = begin + (held if most is None else min(held, most))
        yield from (record[begin:stop].tobytes() for record in records)

    def gaps(self) -> list[Gap]:
        """Return the gaps between the records; refuse times that cannot be."""
        if not self.annotations or not self.seconds:
            return []
        onset = [record_time(text) for text in self.texts(self.annotations[0], 32)]
        return of_records(onset, self.seconds, self.may_have_gaps, display_path(self.path))

    def marks(self) -> tuple[list[float], list[float], list[str]]:
        """Return onset from the first sample and duration in s, and text of all annotations."""
        if not self.annotations:
            return [], [], []
        first = record_time(next(self.texts(self.annotations[0]), b"")) or 0.0
        found = [mark for signal in self.annotations for text in self.texts(signal) for mark in marks_of(text)]
        return [onset - first for onset, *_ in found], [mark[1] for mark in found], [mark[2] for mark in found]


def edf_layout(path: Path) -> EdfLayout:
    """Return how an EDF or BDF file is laid out; refuse a header that cannot be meant."""
    with path.open("rb") as handle:
        fixed = handle.read(256)
        if len(fixed) < 256:
            raise UserError(f"{path}: ends after {len(fixed)} bytes, inside its header; get the file again")
        count = _whole(path, "number of signals", fixed[252:256], 1, _CHANNELS)
        signals = handle.read(256 * count)
    if len(signals) < 256 * count:
        raise UserError(f"{path}: ends inside the header of its {count} signals; get the file again")
    begin = _whole(path, "length of the header in bytes", fixed[184:192], 256 * (count + 1), 256 * (count + 1))
    announced = _whole(path, "number of data records", fixed[236:244], -1, 99_999_999)
    text = _text(fixed[244:252])
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    labels = [_text(signals[16 * k :][:16]) for k in range(count)]
    only_marks = all(label in _ANNOTATIONS for label in labels)
    if not (0 < seconds < math.inf or (seconds == 0 and only_marks)):
        raise UserError(
            f"{path}: its header says that a data record is {text!r} seconds long, so that no channel has a sampling "
            "rate; write its length in seconds there (bytes 244 to 251), or export the recording again"
        )
    samples = []
    for k, label in enumerate(labels):
        what = f"number of samples of {label!r} in a data record"
        samples.append(_whole(path, what, signals[216 * count + 8 * k :][:8], 1, _SAMPLES))
    discontinuous = _text(fixed[192:236])[:5] in ("EDF+D", "BDF+D")
    return EdfLayout(path, labels, samples, seconds, announced, begin, discontinuous)


def gdf_samples(path: Path) -> list[int]:
    """Return the samples that each signal of a GDF file has in a data record (Schlögl, 2006), as `edf_layout` does."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        fixed = handle.read(256)
        if len(fixed) < 256:
            raise UserError(f"{path}: ends after {len(fixed)} bytes, inside its header; get the file again")
        if not (version := re.fullmatch(rb"GDF ([0-9]\.[0-9]{1,2}) ?\0?", fixed[:8])):
            raise UserError(f"{path}: begins with {fixed[:8]!r}, not with the version of GDF; get the file again")
        old = float(version[1]) < 1.9  # as MNE parts them
        (count,) = struct.unpack("<I" if old else "<H2x", fixed[252:256])
        if not 1 <= count <= _CHANNELS:
            raise _number(path, "number of channels", count, 1, _CHANNELS)
        handle.seek(256 + 216 * count)
        numbers = handle.read(8 * count)
        if size < 256 * (count + 1) or len(numbers) < 8 * count:
            raise UserError(f"{path}: ends inside the header of its {count} channels; get the file again")
        samples, kinds = np.frombuffer(numbers, "<i4").astype(np.int64).reshape(2, count).tolist()
        for number in samples:
            if not 1 <= number <= _SAMPLES:
                raise _number(path, "number of samples of a channel in a data record", number, 1, _SAMPLES)
        if len(set(kinds)) > 1 or kinds[0] not in _GDF_BYTES:
            raise UserError(
                f"{path}: its samples are numbers of the kinds {', '.join(map(str, sorted(set(kinds))[:9]))} (GDF's "
                f"codes), and one kind of {', '.join(map(str, _GDF_BYTES))} can be read; export it in one of them"
            )
        begin = 256 * (count + 1)
        length = struct.unpack("<q", fixed[184:192])[0] if old else 256 * struct.unpack("<H", fixed[184:186])[0]
        if length != begin:
            raise _number(path, "length of the header in bytes", length, begin, begin)
        records, above, below = struct.unpack("<q2I", fixed[236:252])
        if not (above and below):
            raise UserError(
                f"{path}: its header says that a data record is {above}/{below} seconds long, so that no channel has a "
                "sampling rate; export the recording again"
            )
        record = sum(samples) * _GDF_BYTES[kinds[0]]
        most = (size - begin) // record
        if not 0 <= records <= most:
            raise _number(path, "number of data records", records, 0, most)
        handle.seek(begin + records * record)
        head = handle.read(8)
        wide = float(version[1]) < 1.94
        events = int.from_bytes(head[4:8] if wide else head[1:4], "little")
        wanted, there = events * (12 if head[:1] == b"\3" else 6), size - handle.tell()
    if len(head) == 8 and wanted > there:
        raise UserError(
            f"{path}: its table of {events:,} events would have {wanted:,} bytes, and {max(there, 0):,} are there; get "
            "the file or export it again"
        )
    return samples


def _brainvision(path: Path, encoding: str) -> None:
    text = _decoded(path)
    for what, name in _NAMES.findall(text):
        file = _below(path, what, name)
        if file is None:
            continue
        if file.exists() and not file.is_file():
            raise UserError(
                f"{path}: {what}={name} names {'a folder' if file.is_dir() else 'no file'}; write the file's name there"
            )
        if what.casefold() == "markerfile" and file.is_file():
            if file.stat().st_size > _TEXT:
                raise UserError(f"{file}: {file.stat().st_size:,} bytes are no list of markers; get the file again")
            if encoding == "utf8":
                _refuse_other_encoding(file)
    for number in _COUNT.findall(text):
        _whole(path, "NumberOfChannels", number.encode(), 1, _CHANNELS)


def _below(path: Path, what: str, name: str) -> Path | None:
    """Return the file that a header names beside it; refuse one that lies elsewhere. None: none is named."""
    if not name:
        return None
    if any(ord(sign) < 32 for sign in name) or len(name.encode()) > 1000:
        raise UserError(f"{path}: {what}={name[:80]!r} is no file's name; write it there")
    for kind in (PurePosixPath, PureWindowsPath):  # it may have been written on another system
        if kind(name).anchor or ".." in kind(name).parts:
            raise _outside(path, f"{what}=", name)
    return path.parent / name


def _outside(path: Path, what: str, name: object) -> UserError:
    return UserError(
        f"{path}: {what} {str(name)[:200]!r}: lies outside the folder of its header; put all files of a recording into "
        "one folder, and only the file's name into the header"
    )


def _eeglab(path: Path) -> None:
    """Refuse a file of MATLAB 5 whose parts say that they unpack to far more than a recording could."""
    size, unpacked = path.stat().st_size, 0
    with path.open("rb") as handle:
        head = handle.read(128)
        if head[126:128] not in (b"IM", b"MI"):
            return  # MATLAB 4 packs nothing; MATLAB 7.3 is HDF5, which allocates what it has read
        order = "<" if head[126:128] == b"IM" else ">"
        while len(tag := handle.read(8)) == 8:
            kind, length = struct.unpack(f"{order}2I", tag)
            if kind == 15:  # packed: the tag inside tells its length
                place = handle.tell()
                try:
                    inside = zlib.decompressobj().decompress(handle.read(min(length, 256)), 8)
                except zlib.error:
                    return  # the reader says what is damaged
                handle.seek(place)
                unpacked += int.from_bytes(inside[4:8], "little" if order == "<" else "big")
            handle.seek(length, os.SEEK_CUR)
    if unpacked > max(_UNPACKED[0] * size, _UNPACKED[1]):
        raise UserError(
            f"{path}: its {size:,} bytes claim to be {unpacked:,} when they are unpacked; save the recording again"
        )


def _refuse_other_encoding(path: Path) -> None:
    """Refuse markers that are no UTF-8."""
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            line.decode()
        except UnicodeDecodeError:
            said = line.decode("latin-1").strip()[:80]
            raise UserError(
                f"{path}, line {number}: is no UTF-8 text ({said!r}); save the file as UTF-8, or set "
                "recordings.encoding=latin1 (data/prepare.py)"
            ) from None


def _decoded(path: Path) -> str:
    if path.stat().st_size > _TEXT:
        raise UserError(f"{path}: {path.stat().st_size:,} bytes are no header; get the file again")
    content = path.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")  # as MNE


def _whole(path: Path, what: str, field: bytes, least: int, most: int) -> int:
    text = _text(field)
    if not re.fullmatch(r"[+-]?[0-9]{1,12}", text) or not least <= int(text) <= most:
        raise _number(path, what, text, least, most)
    return int(text)


def _number(path: Path, what: str, found: object, least: int, most: int) -> UserError:
    allowed = str(least) if least == most else f"{least} to {most}"
    return UserError(
        f"{path}: damaged header: {what} is {str(found)[:40]!r}, not {allowed}; get the file or export it again"
    )


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("latin-1").strip()
