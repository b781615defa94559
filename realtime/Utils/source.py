"""A recorded file as the stream: read lazily, checked, paced, in µV.

A source has `names` (channels of the recording), `rate` (Hz), `seconds` (length), `open(picks)`,
iteration over (channels, n) float32 µV chunks, and `time_of(seconds)` (when that part of the stream is
due on the `time.perf_counter` clock; None when the source is not paced).
"""

import hashlib
import logging
import re
import time
import warnings
from pathlib import Path

import numpy as np
from scipy import signal

from utils.errors import UserError, nearest
from utils.paths import shown
from utils.vocabulary import ITEMS

logger = logging.getLogger(__name__)

_TO_MICROVOLT = {"V": 1e6, "uV": 1.0}
_MIB = 2**20
_CUE = re.compile(r"(?:[^/]+/)?cue/(.+)", re.IGNORECASE)  # MNE prefixes BrainVision's with "Comment/"


class ReplaySource:
    """A recording that MNE can read, delivered as the amplifier would.

    Parameters
    ----------
    path : str | Path
        Any format of `mne.io.read_raw`.
    settings : SourceSettings

    Attributes
    ----------
    names : list of str
    rate : float
        Hz, of the recording.
    seconds : float
        Length of the part that is replayed.
    notices : list of str
        What the reader remarked; the session logs it.

    Raises
    ------
    UserError
        Missing or unreadable file, no data, nothing between start and stop.
    """

    def __init__(self, path, settings):
        self.path = Path(path)
        self.settings = settings
        self._raw, self.notices = _read(self.path)
        self.names = list(self._raw.ch_names)
        self.rate = float(self._raw.info["sfreq"])
        total = self._raw.n_times / self.rate
        if self._raw.n_times == 0 or not self.names:
            raise UserError(f"{shown(self.path)}: the recording holds no data")
        if settings.start >= total:
            raise UserError(
                f"{shown(self.path)}: source.start = {settings.start} s; the recording ends at {total:.1f} s"
            )
        self._first = round(settings.start * self.rate)
        last = total if settings.stop is None else min(settings.stop, total)
        self._last = min(round(last * self.rate), self._raw.n_times)
        if self._last <= self._first:
            raise UserError(
                f"{shown(self.path)}: there is no sample between source.start = {settings.start} s "
                f"and source.stop = {settings.stop} s"
            )
        self.seconds = (self._last - self._first) / self.rate
        self._rows = None
        self._started = None

    def open(self, picks):
        """Choose the channels to deliver, by name in `names`, in this order."""
        self._rows = [self.names.index(p) for p in picks]

    def check_unit(self, rows, what="EEG"):
        """Refuse a recording whose amplitude cannot be µV.

        The median over channels and 30 s windows of the SD (after removing the trend) must lie in
        `amplitude_range`.

        Parameters
        ----------
        rows : sequence of int
            Rows of the opened picks to look at.
        what : str
            What they hold, for the message.

        Returns
        -------
        amplitude : float
            Typical SD in µV.

        Raises
        ------
        UserError
            Too small or too large by any factor; the message names the flag that mends it, if one does.
        """
        amplitude = self._amplitude(rows) * _TO_MICROVOLT[self.settings.unit]
        low, high = self.settings.amplitude_range
        if low <= amplitude <= high:
            return amplitude
        other = "V" if self.settings.unit == "uV" else "uV"
        corrected = amplitude / _TO_MICROVOLT[self.settings.unit] * _TO_MICROVOLT[other]
        found = (
            f"{shown(self.path)}: the {what}'s typical SD is {amplitude:.3g} µV with --unit "
            f"{self.settings.unit}, expected {low:g} to {high:g} µV"
        )
        if low <= corrected <= high:
            raise UserError(f"{found}; with --unit {other} it would be {corrected:.3g} µV, so use that")
        if amplitude == 0:
            raise UserError(f"{found}: the channels are flat; check the electrodes and the channel names")
        raise UserError(
            f"{found}; neither --unit mends that: check the physical unit in the file's header, "
            "or widen source.amplitude_range if the amplitude is real"
        )

    def cues(self):
        """Return [(seconds since the start of the replay, item)] of the annotations "cue/<item>".

        Raises
        ------
        UserError
            There is no such annotation, or one names an unknown item.
        """
        annotations = self._raw.annotations
        # MNE counts onsets from the measurement's start, which may lie before the first sample.
        shift = self._raw.first_time
        found = []
        for onset, text in zip(annotations.onset, annotations.description, strict=True):
            match = _CUE.fullmatch(str(text).strip())
            if match is None:
                continue
            item = match[1]
            if item not in ITEMS:
                close = nearest(item, ITEMS, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"items: {', '.join(ITEMS)}"
                raise UserError(f"{shown(self.path)}: annotation {text!r} names no item; {hint}")
            seconds = float(onset) - shift - self._first / self.rate
            if 0 <= seconds < self.seconds:
                found.append((seconds, ITEMS.index(item)))
        if not found:
            raise UserError(
                f'{shown(self.path)}: --cues recorded, but the recording holds no annotation "cue/<item>" '
                "in the part that is replayed; use --cues scheduled"
            )
        return sorted(found)

    def fingerprint(self):
        """Return name, size and a hash: SHA-256 of size, first and last MiB of every file."""
        files = [Path(f) for f in self._raw.filenames if f is not None]
        if self.path.is_file() and self.path.resolve() not in [f.resolve() for f in files]:
            files.insert(0, self.path)  # the header of a format in several files
        digest, size = hashlib.sha256(), 0
        for file in files:
            length = file.stat().st_size
            size += length
            digest.update(str(length).encode())
            with file.open("rb") as handle:
                digest.update(handle.read(_MIB))
                handle.seek(max(0, length - _MIB))
                digest.update(handle.read(_MIB))
        return {"name": self.path.name, "bytes": size, "sha256_size_ends": digest.hexdigest()}

    def time_of(self, seconds):
        """Return when `seconds` of the replay are due on the perf_counter clock; None when not paced."""
        if self._started is None or self.settings.speed == 0:
            return None
        return self._started + seconds / self.settings.speed

    def __iter__(self):
        step = self._chunk()
        self._started = time.perf_counter()
        for start, block in self._blocks():
            for offset in range(0, block.shape[1], step):
                chunk = block[:, offset : offset + step]
                end = start + offset + chunk.shape[1] - self._first
                due = self.time_of(end / self.rate)
                if due is not None:
                    time.sleep(max(0.0, due - time.perf_counter()))
                yield chunk

    def _chunk(self):
        seconds = self.settings.chunk_seconds
        if seconds is None:
            seconds = 0.05 if self.settings.speed > 0 else self.settings.read_seconds
        return max(1, round(seconds * self.rate))

    def _blocks(self):
        """Yield (first sample in the file, µV block) of `read_seconds` each."""
        step = max(1, round(self.settings.read_seconds * self.rate))
        for start in range(self._first, self._last, step):
            yield start, self._load(start, min(start + step, self._last))

    def _load(self, start, stop):
        # One read for the span of channels, then the wanted rows in the wanted order.
        order = sorted(set(self._rows))
        try:
            data = self._raw.get_data(picks=order, start=start, stop=stop, verbose="error")
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{shown(self.path)}: cannot be read at {start / self.rate:.1f} s of the file: {error}"
            ) from error
        rows = data[[order.index(r) for r in self._rows]]
        return (rows * _TO_MICROVOLT[self.settings.unit]).astype(np.float32)

    def _amplitude(self, rows):
        """Return the typical SD in the reader's own unit, over windows spread over the replayed part."""
        picks = sorted({self._rows[r] for r in rows})
        length = min(round(30 * self.rate), self._last - self._first)
        count = min(self.settings.amplitude_windows, max(1, (self._last - self._first) // length))
        starts = np.linspace(self._first, self._last - length, count).round().astype(int)
        deviations = []
        for start in starts:
            data = self._raw.get_data(picks=picks, start=start, stop=start + length, verbose="error")
            data = data[np.isfinite(data).all(axis=1)]
            if data.size:
                deviations += list(signal.detrend(data, axis=1).std(axis=1))
        if not deviations:
            raise UserError(f"{shown(self.path)}: the EEG holds no finite samples in {count} windows of 30 s")
        return float(np.median(deviations))


def _read(path):
    """Return MNE's Raw (data stay on disk) and what the reader remarked."""
    import mne

    if not path.exists():
        raise UserError(f"{path}: recording not found")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            raw = mne.io.read_raw(path, preload=False, verbose="warning")
    except Exception as error:  # a broken file fails in as many ways as there are readers
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{shown(path)}: MNE cannot read this recording: {reason[:300]}") from error
    return raw, [" ".join(str(w.message).split()) for w in caught]
