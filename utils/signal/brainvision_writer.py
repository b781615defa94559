"""Writes BrainVision recordings (.vhdr, .vmrk, .eeg) piece by piece; memory holds one piece at a time.

Layout: "BrainVision Core Data Format 1.0" (Brain Products): two text files and one of samples, multiplexed
(all channels of the first sample, then of the second). The header holds no length, so a file can grow.
"""

import logging
import os
from pathlib import Path

import numpy as np

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import shown

log = logging.getLogger(__name__)

SUFFIXES = (".eeg", ".vmrk", ".vhdr")
"""The three files of a recording; the header comes last."""


class BrainVisionWriter:
    """Append-only writer of one recording; use it in a `with` block, or call `close`.

    Without `live` the files have temporary names until `close`, which renames them, the header last: a
    recording that is there is complete. A `with` block left by an error removes them. With `live` all three
    have their final names from the beginning, never replace a recording, and can be read by anybody after
    each `flush`, whatever happens then: for recording while it happens.

    Parameters
    ----------
    path : str | Path
        Name of the .vhdr file; its folder is made if it is not there.
    names : sequence of str
        Channels.
    rate : float
        Samples per second.
    unit : str
        Of the samples as they are appended, e.g. "µV".
    resolution : float | None
        Size of one step of 16-bit integers in that unit; None writes 32-bit floats.
    start : datetime.datetime | None
        Time of the first sample, for the marker "New Segment".
    comment : str
        Free text for the header.
    live : bool
    finite : bool
        Refuse samples that are not finite; False keeps them as they are (32-bit floats only).

    Attributes
    ----------
    n_samples : int
        Samples appended so far.
    clipped : int
        Values so far that 16 bits cannot hold; they are written as the largest or smallest that fits.

    Raises
    ------
    UserError
        No channels, two of one name, a rate or resolution that is not positive, a `path` without .vhdr, a
        live recording where one exists.
    """

    def __init__(self, path, names, rate, *, unit="µV", resolution=None, start=None, comment="", live=False,
                 finite=True):  # fmt: skip
        self.path = path = Path(path)
        self.names, self.rate, self.live = tuple(names), float(rate), live
        self.n_samples = self.clipped = 0
        self._resolution, self._markers, self._finite = resolution, 0, finite
        problem = _problem(path, self.names, self.rate, resolution)
        if problem:
            raise UserError(f"{shown(path)}: {problem}")
        path.parent.mkdir(parents=True, exist_ok=True)
        there = [file for file in map(path.with_suffix, SUFFIXES) if live and file.exists()]
        if there:
            raise UserError(f"{shown(there[0])}: exists already; a recording is never replaced, name another")
        self._files = {suffix: path.with_suffix(suffix) for suffix in SUFFIXES}
        if not live:
            for suffix, file in self._files.items():
                self._files[suffix] = file.with_name(f".{file.name}.{os.getpid()}.tmp{suffix}")
        try:
            self._begin(unit, comment, start)
        except OSError:
            if live:  # a full disk: what was begun is worth nothing
                self.discard()
            raise

    def _begin(self, unit, comment, start):
        # unbuffered when live: what an error leaves behind is what the system has, nothing waits in here
        self._samples = self._files[".eeg"].open("wb", buffering=0 if self.live else -1)
        self._marks = self._files[".vmrk"].open("w", encoding="utf-8", newline="\r\n")
        self._files[".vhdr"].write_text(
            _header(self.path, self.names, self.rate, unit, self._resolution, comment),
            encoding="utf-8", newline="\r\n",
        )  # fmt: skip
        self._marks.write(_marker_header(self.path))
        when = "" if start is None else start.strftime("%Y%m%d%H%M%S%f")
        self._mark("New Segment", "", 0, 1, f",{when}" if when else "")
        if self.live:
            self.flush()
            with self._files[".vhdr"].open("rb+") as header:
                os.fsync(header.fileno())

    def discard(self):
        """Close and remove all that was written."""
        for name in ("_samples", "_marks"):
            if hasattr(self, name):
                try:
                    getattr(self, name).close()
                except OSError as error:  # what was not yet written cannot be
                    log.debug("%s: %s", shown(self.path), error)
        for file in self._files.values():
            file.unlink(missing_ok=True)

    def append(self, data):
        """Append samples.

        Parameters
        ----------
        data : array (n_channels, n)
            In the recording's unit, finite.

        Raises
        ------
        ValueError
            Wrong number of channels, or a value that is not finite; nothing of `data` is written.
        """
        data = np.asarray(data)
        if data.ndim != 2 or len(data) != len(self.names):
            raise ValueError(f"expected ({len(self.names)}, n) samples, got {data.shape}")
        if (self._finite or self._resolution is not None) and not np.isfinite(data).all():
            raise ValueError("samples must be finite")
        if self._resolution is None:
            frames = data.T.astype("<f4", order="C")
        else:
            limits = np.iinfo(np.int16)
            steps = np.rint(data.T / self._resolution)
            self.clipped += int(np.count_nonzero((steps < limits.min) | (steps > limits.max)))
            frames = np.clip(steps, limits.min, limits.max).astype("<i2", order="C")
        left = memoryview(frames.reshape(-1)).cast("B") if frames.size else b""
        while left:  # an unbuffered file may take a part only
            left = left[self._samples.write(left) :]
        self.n_samples += data.shape[1]

    def skip(self, count):
        """Append `count` samples of zeros to a `live` recording; on most disks they take no room."""
        frame = len(self.names) * (4 if self._resolution is None else 2)
        length = (self.n_samples + count) * frame
        self._samples.truncate(length)
        self._samples.seek(length)
        self.n_samples += count

    def marker(self, sample, description, duration=1, kind="Comment"):
        """Append a marker.

        Parameters
        ----------
        sample : int
            Counted from 0; may lie ahead of what is appended so far.
        description : str
        duration : int
            Samples.
        kind : str
            "Comment", "Stimulus", ...; MNE reads the annotation "<kind>/<description>".
        """
        if sample < 0:
            raise ValueError(f"marker {description!r} at sample {sample}: samples count from 0")
        self._mark(kind, description, sample, duration)

    def _mark(self, kind, description, sample, duration, rest=""):
        self._markers += 1
        text = f"{_coded(kind)},{_coded(description)},{int(sample) + 1},{int(duration)},0{rest}"
        self._marks.write(f"Mk{self._markers}={text}\n")
        if self.live:  # a process that is killed takes no marker with it
            self._marks.flush()

    def flush(self):
        """Put everything appended so far onto the disk; a `live` recording is complete up to here then."""
        for file in (self._samples, self._marks):
            file.flush()
            os.fsync(file.fileno())

    def sync(self):
        """Bring what a `live` recording has written onto the disk; may run beside `append`."""
        for file in (self._samples, self._marks):
            os.fsync(file.fileno())

    def close(self):
        """Finish the recording; the header appears last."""
        if self._samples.closed:
            return
        self.flush()
        self._samples.close()
        self._marks.close()
        if self.clipped:
            log.warning("%s: %d values are beyond 16 bits and were clipped", shown(self.path), self.clipped)
        if not self.live:
            with self._files[".vhdr"].open("rb+") as header:
                os.fsync(header.fileno())
            for suffix in SUFFIXES:
                self._files[suffix].replace(self.path.with_suffix(suffix))

    def abandon(self):
        """Leave a live recording whose disk failed: cut off a torn last sample, close what can be closed."""
        frame = len(self.names) * (4 if self._resolution is None else 2)
        for file, length in ((self._samples, self.n_samples * frame), (self._marks, None)):
            try:
                if length is not None:
                    file.truncate(length)
                file.close()
            except OSError as error:  # the disk is full, or gone: readers tolerate a torn end
                log.debug("%s: %s", shown(self.path), error)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None or self.live:
            self.close()
            return
        self.discard()


def _problem(path, names, rate, resolution):
    """Say what is wrong with the arguments, None if nothing is."""
    if path.suffix != ".vhdr":
        return "the name of a BrainVision recording ends in .vhdr"
    if not names:
        return "a recording needs at least one channel"
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        return f"two channels are called {twice!r}; names must differ"
    if not (np.isfinite(rate) and rate > 0):
        return f"sampling rate {rate} Hz; it must be above 0"
    if resolution is not None and not (np.isfinite(resolution) and resolution > 0):
        return f"resolution {resolution}; it must be above 0"
    return None


def _coded(text):
    """Return text as the format keeps it: commas have a code, a line cannot break."""
    return " ".join(text.split()).replace(",", r"\1")


def _header(path, names, rate, unit, resolution, comment):
    step = 1 if resolution is None else resolution
    channels = [f"Ch{i}={_coded(name)},,{step:.12g},{unit}" for i, name in enumerate(names, 1)]
    return "\n".join(
        [
            "Brain Vision Data Exchange Header File Version 1.0",
            "",
            "[Common Infos]",
            "Codepage=UTF-8",
            f"DataFile={path.stem}.eeg",
            f"MarkerFile={path.stem}.vmrk",
            "DataFormat=BINARY",
            "; all channels of a sample together",
            "DataOrientation=MULTIPLEXED",
            f"NumberOfChannels={len(names)}",
            "; in microseconds",
            f"SamplingInterval={1e6 / rate:.12g}",
            "",
            "[Binary Infos]",
            f"BinaryFormat={'IEEE_FLOAT_32' if resolution is None else 'INT_16'}",
            "",
            "[Channel Infos]",
            "; Ch<number>=<name>,<reference>,<resolution>,<unit>",
            *channels,
            "",
            "[Comment]",
            comment,
            "",
        ]
    )


def _marker_header(path):
    return "\n".join(
        [
            "Brain Vision Data Exchange Marker File, Version 1.0",
            "",
            "[Common Infos]",
            "Codepage=UTF-8",
            f"DataFile={path.stem}.eeg",
            "",
            "[Marker Infos]",
            "; Mk<number>=<type>,<description>,<sample, counted from 1>,<samples>,<channel, 0 = all>",
            "",
        ]
    )
