"""Writes BrainVision recordings (.vhdr, .vmrk, .eeg) piece by piece; memory holds one piece at a time.

Layout: "BrainVision Core Data Format 1.0" (Brain Products): two text files and one of samples, multiplexed
(all channels of the first sample, then of the second). The header holds no length, so a file can grow.
"""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from sleep_interpreter.utils.core.errors import UserError

log = logging.getLogger(__name__)

SUFFIXES = (".eeg", ".vmrk", ".vhdr")
"""The three files of a recording; the header comes last."""

_HEADER = """\
Brain Vision Data Exchange Header File Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile={stem}.eeg
MarkerFile={stem}.vmrk
DataFormat=BINARY
; all channels of a sample together
DataOrientation=MULTIPLEXED
NumberOfChannels={count}
; in microseconds
SamplingInterval={interval:.12g}

[Binary Infos]
BinaryFormat={binary_format}

[Channel Infos]
; Ch<number>=<name>,<reference>,<resolution>,<unit>
{channels}

[Comment]
{comment}
"""
_MARKER_HEADER = """\
Brain Vision Data Exchange Marker File, Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile={stem}.eeg

[Marker Infos]
; Mk<number>=<type>,<description>,<sample, counted from 1>,<samples>,<channel, 0 = all>
"""


class BrainVisionWriter:
    """Append-only writer of one recording; use it in a `with` block, or call `close`.

    Without `live` the files have temporary names until `close`, which renames them, the header last: a recording that
    is there is complete. A `with` block left by an error removes them. With `live` all three have their final names
    from the beginning, never replace a recording, and can be read by anybody after each `flush`, whatever happens
    then: for recording while it happens.

    `path` is the .vhdr file, whose folder is made; samples are appended in µV; `resolution` the size of one step of
    16-bit integers in it (None: 32-bit floats); `start` the time of the first sample, for the marker "New Segment";
    `comment` free text for the header. Samples that are not finite are refused, or without `finite` kept as they are
    (32-bit floats only). `n_samples` were appended so far, of which `clipped` values, beyond 16 bits, were written as
    the largest or smallest that fits. `UserError`: no channels, two of one name, a rate or resolution that is not
    positive, a path without .vhdr, a live recording where one exists.
    """

    def __init__(
        self, path: str | Path, names: Sequence[str], rate: float, *,
        resolution: float | None = None, start: datetime | None = None, comment: str = "", live: bool = False,
        finite: bool = True,
    ) -> None:  # fmt: skip
        self.path = path = Path(path)
        self.names, self.rate, self.live = tuple(names), float(rate), live
        self.n_samples = self.clipped = self._markers = 0
        self._resolution, self._finite = resolution, finite or resolution is not None
        self._frame_bytes = len(self.names) * (4 if resolution is None else 2)
        self._check()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._files = {suffix: path.with_suffix(suffix) for suffix in SUFFIXES}
        for suffix, file in self._files.items():
            if not live:
                self._files[suffix] = file.with_name(f".{file.name}.{os.getpid()}.tmp{suffix}")
            elif file.exists():
                raise UserError(f"{file}: exists already; a recording is never replaced, name another")
        try:
            # unbuffered when live: what an error leaves behind is what the system has, nothing waits in here
            self._samples = self._files[".eeg"].open("wb", buffering=0 if live else -1)
            self._marks = self._files[".vmrk"].open("w", encoding="utf-8", newline="\r\n")
            self._write_headers(comment, start)
        except OSError:
            if live:  # a full disk: what was begun is worth nothing
                self.discard()
            raise

    def _check(self) -> None:
        names, problem = self.names, None
        if self.path.suffix != ".vhdr":
            problem = "the name of a BrainVision recording ends in .vhdr"
        elif not names:
            problem = "a recording needs at least one channel"
        elif len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            problem = f"two channels are called {twice!r}; names must differ"
        elif not (np.isfinite(self.rate) and self.rate > 0):
            problem = f"sampling rate {self.rate} Hz; it must be above 0"
        elif self._resolution is not None and not (np.isfinite(self._resolution) and self._resolution > 0):
            problem = f"resolution {self._resolution}; it must be above 0"
        if problem:
            raise UserError(f"{self.path}: {problem}")

    def _write_headers(self, comment: str, start: datetime | None) -> None:
        step = 1 if self._resolution is None else self._resolution
        channels = [f"Ch{i}={_coded(name)},,{step:.12g},µV" for i, name in enumerate(self.names, 1)]
        header = _HEADER.format(
            stem=self.path.stem, count=len(channels), interval=1e6 / self.rate, channels="\n".join(channels),
            binary_format="IEEE_FLOAT_32" if self._resolution is None else "INT_16", comment=comment,
        )  # fmt: skip
        self._files[".vhdr"].write_text(header, encoding="utf-8", newline="\r\n")
        self._marks.write(_MARKER_HEADER.format(stem=self.path.stem))
        self._mark("New Segment", "", 0, 1, "" if start is None else start.strftime(",%Y%m%d%H%M%S%f"))
        if self.live:
            self.flush()
            self._sync_header()

    def discard(self) -> None:
        """Close and remove all that was written."""
        for name in ("_samples", "_marks"):
            with suppress(OSError, AttributeError):  # what was not yet written cannot be
                getattr(self, name).close()
        for file in self._files.values():
            file.unlink(missing_ok=True)

    def append(self, data: ArrayLike) -> None:
        """Append samples (n_channels, n) in µV.

        Nothing is written, but a ValueError raised, of a wrong number of channels or a value that is not finite.
        """
        data = np.asarray(data)
        if data.ndim != 2 or len(data) != len(self.names):
            raise ValueError(f"expected ({len(self.names)}, n) samples, got {data.shape}")
        if self._finite and not np.isfinite(data).all():
            raise ValueError("samples must be finite")
        if self._resolution is None:
            frames = data.T.astype("<f4", order="C")
        else:
            limits = np.iinfo(np.int16)
            steps = np.rint(data.T / self._resolution)
            self.clipped += int(np.count_nonzero((steps < limits.min) | (steps > limits.max)))
            frames = np.clip(steps, limits.min, limits.max).astype("<i2", order="C")
        left = memoryview(frames.tobytes())
        while left:  # an unbuffered file may take a part only
            left = left[self._samples.write(left) :]
        self.n_samples += data.shape[1]

    def skip(self, count: int) -> None:
        """Append `count` samples of zeros to a `live` recording; on most disks they take no room."""
        length = (self.n_samples + count) * self._frame_bytes
        self._samples.truncate(length)
        self._samples.seek(length)
        self.n_samples += count

    def marker(self, sample: int, description: str, duration: int = 1, kind: str = "Comment") -> None:
        """Append a marker at a sample counted from 0, which may lie ahead of what is appended so far.

        `duration` counts samples; MNE reads the annotation "<kind>/<description>", such as "Stimulus/...".
        """
        if sample < 0:
            raise ValueError(f"marker {description!r} at sample {sample}: samples count from 0")
        self._mark(kind, description, sample, duration)

    def _mark(self, kind: str, description: str, sample: int, duration: int, rest: str = "") -> None:
        self._markers += 1
        text = f"{_coded(kind)},{_coded(description)},{int(sample) + 1},{int(duration)},0{rest}"
        self._marks.write(f"Mk{self._markers}={text}\n")
        if self.live:  # a process that is killed takes no marker with it
            self._marks.flush()

    def flush(self) -> None:
        """Put everything appended so far onto the disk; a `live` recording is complete up to here then."""
        self._samples.flush()
        self._marks.flush()
        self.sync()

    def sync(self) -> None:
        """Bring what a `live` recording has written onto the disk; may run beside `append`."""
        os.fsync(self._samples.fileno())
        os.fsync(self._marks.fileno())

    def _sync_header(self) -> None:
        with self._files[".vhdr"].open("rb+") as header:
            os.fsync(header.fileno())

    def close(self) -> None:
        """Finish the recording; the header appears last."""
        if self._samples.closed:
            return
        self.flush()
        self._samples.close()
        self._marks.close()
        if self.clipped:
            log.warning("%s: %d values are beyond 16 bits and were clipped", self.path, self.clipped)
        if not self.live:
            self._sync_header()
            for suffix in SUFFIXES:
                self._files[suffix].replace(self.path.with_suffix(suffix))

    def abandon(self) -> None:
        """Leave a live recording whose disk failed: cut off a torn last sample, close what can be closed."""
        for step in (
            lambda: self._samples.truncate(self.n_samples * self._frame_bytes),
            self._samples.close,
            self._marks.close,
        ):
            with suppress(OSError):  # the disk is full, or gone: readers tolerate a torn end
                step()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or self.live:
            self.close()
        else:
            self.discard()


def _coded(text: str) -> str:
    """Return text as the format keeps it: commas have a code, a line cannot break."""
    return " ".join(text.split()).replace(",", r"\1")
