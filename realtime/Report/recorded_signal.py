"""What the night report takes from the recording itself: spectrogram and evoked responses, piece by piece.

Memory holds one piece at a time, whatever the length of the night and the number of channels.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal

from sleep_interpreter.realtime.Report.session_data import Segment, SessionData
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import find_channel
from sleep_interpreter.utils.signal.electrodes import on_head
from sleep_interpreter.utils.signal.recording import Recording
from sleep_interpreter.utils.signal.units import TO_MICROVOLT

logger = logging.getLogger(__name__)

EPOCH = 30.0
"""Seconds of a column of the spectrogram."""
HIGHEST_HZ = 25.0
BEFORE, AFTER = 0.5, 2.0
"""Seconds of a response around a cue's onset; the part before is its baseline."""
MOST_PEAK_TO_PEAK = 500.0
"""µV within a response; beyond it is no EEG of sleep."""
MOST_BEYOND = 0.1
"""Share of the channels that may be beyond it."""
_EPOCHS_AT_A_TIME = 20
_LOST_SAMPLES = "BAD_ACQ_SKIP"
_SHORT = 5.0
"""Seconds by which a recording may end before the session without a word."""


class SegmentReader:
    """Read a segment of the recording in µV; its file is in `unit`, "V" or "uV". `UserError` where it cannot be."""

    def __init__(self, segment: Segment, unit: str) -> None:
        self._recording = Recording(segment.path)
        self.begin, self.exact = segment.begin, segment.exact
        self.names, self.end = self._recording.names, segment.begin + self._recording.seconds
        self._factor = TO_MICROVOLT[unit]
        marks, shift = self._recording.annotations, self._recording.first_time
        self._lost = [
            (self.begin + onset - shift, self.begin + onset - shift + duration)
            for onset, duration, text in zip(marks.onset, marks.duration, marks.description, strict=True)
            if str(text).startswith(_LOST_SAMPLES)
        ]

    def select(self, picks: list[str]) -> list[str]:
        """Choose the channels to read; return those that are left, as those of another rate are not read."""
        group = next(g for g in self._recording.groups(picks) if 0 in g.places)
        self._group, self.rate = group, group.rate
        return [picks[place] for place in group.places]

    def read(self, begin: float, count: int) -> np.ndarray | None:
        """Return (channels, count) µV from second `begin` of the log's clock on; None beyond the segment."""
        first = round((begin - self.begin) * self.rate)
        if first < 0 or first + count > self._group.length:
            return None
        try:
            return self._group.read(first, first + count) * self._factor
        except (OSError, ValueError, RuntimeError) as error:  # a torn end
            logger.debug("%s", error)
            return None

    def has_gap(self, begin: float, end: float) -> bool:
        """Tell whether samples were lost in that span."""
        return any(a < end and begin < b for a, b in self._lost)


def open_segments(session: SessionData) -> tuple[list[SegmentReader], list[str]]:
    """Return the segments that can be read, and what could not be read, in words."""
    unit = "V" if session.live else session.setting("source.unit", "V")
    found: list[SegmentReader] = []
    problems: list[str] = []
    for segment in session.segments:
        try:
            found.append(SegmentReader(segment, unit))
        except UserError as error:
            problems.append(str(error))
            continue
        if segment.path.suffix == ".vhdr" and not segment.path.with_suffix(".vmrk").exists():
            name = segment.path.with_suffix(".vmrk").name
            problems.append(f"{name} is missing: samples that were lost are not told from signal")
    if found:
        short = session.end - found[-1].end
        if short > _SHORT:
            problems.append(f"the recording ends {short:.0f} s before the session: the rest is not shown")
    return found, problems


@dataclass(frozen=True)
class Spectrogram:
    """Power of the staging EEG: `decibel` (f, n), NaN where samples are missing or not finite.

    `seconds` (n + 1,) are the edges of the columns on the log's clock.
    """

    seconds: np.ndarray
    hz: np.ndarray
    decibel: np.ndarray
    channel: str


def spectrogram(segments: Sequence[SegmentReader], session: SessionData) -> Spectrogram | None:
    """Return the spectrogram of the staging EEG over the whole session, None without it.

    Welch's method in each 30 s: windows of 4 s, half overlapping, Hann, in dB of µV²/Hz.
    """
    begin, count = session.begin, max(1, int(np.ceil((session.end - session.begin) / EPOCH)))
    hz, decibel, label = None, None, ""
    for segment in segments:
        picks = _derivation(segment.names, session)
        if not picks or len(segment.select(picks)) < len(picks):
            continue
        length = round(EPOCH * segment.rate)
        label = " - ".join(picks)
        first = max(0, int(np.ceil((segment.begin - begin) / EPOCH)))
        last = min(count, int((segment.end - begin) // EPOCH))
        for start in range(first, last, _EPOCHS_AT_A_TIME):
            wanted = min(_EPOCHS_AT_A_TIME, last - start)
            data = segment.read(begin + start * EPOCH, wanted * length)
            if data is None:
                continue
            trace = (data[0] - data[1] if len(picks) == 2 else data[0]).reshape(wanted, length)
            frequencies, power = signal.welch(trace, segment.rate, nperseg=round(4 * segment.rate), detrend="linear")
            keep = (frequencies > 0) & (frequencies <= HIGHEST_HZ)
            if hz is None or decibel is None:
                hz, decibel = frequencies[keep], np.full((keep.sum(), count), np.nan)
            if keep.sum() != len(decibel):  # another rate: another grid
                continue
            for k in range(wanted):
                onset = begin + (start + k) * EPOCH
                if np.isfinite(trace[k]).all() and not segment.has_gap(onset, onset + EPOCH):
                    with np.errstate(divide="ignore"):
                        decibel[:, start + k] = 10 * np.log10(power[k, keep])
    if hz is None or decibel is None:
        return None
    decibel[~np.isfinite(decibel)] = np.nan
    return Spectrogram(begin + np.arange(count + 1) * EPOCH, hz, decibel, label)


@dataclass(frozen=True)
class Evoked:
    """Mean response to cues or shams.

    `seconds` (n,) around the onset; `mean` and `half` (channels, n): µV, and half the width of the 95 % interval of
    the mean over cues; `n`, `rejected`, `missing`: responses averaged; left out; not in the recording.
    """

    seconds: np.ndarray
    names: tuple[str, ...]
    mean: np.ndarray
    half: np.ndarray
    n: int
    rejected: int
    missing: int


def evoked(segments: Sequence[SegmentReader], onsets: Sequence[float], after: float = AFTER) -> Evoked | None:
    """Average the recording around onsets, which are seconds on the log's clock, up to `after` seconds later.

    The result is of the channels named after a place on the head; None when there is none, or no onset was recorded.
    """
    total = square = np.zeros(())
    n = rejected = found = 0
    chosen: list[str] | None = None
    for segment in (s for s in segments if s.exact):
        wanted = list(on_head(segment.names)) if chosen is None else chosen
        if not wanted or any(name not in segment.names for name in wanted):
            continue
        selected = segment.select(wanted)
        if chosen is None:
            chosen, rate, step = selected, segment.rate, max(1, round(segment.rate / 100))
            before, length = round(BEFORE * rate), round((BEFORE + after) * rate) // step * step
        if selected != chosen or segment.rate != rate:
            continue
        for onset in onsets:
            begin = onset - before / rate
            if not segment.begin <= begin <= segment.end:
                continue
            data = segment.read(begin, length)
            if data is None:
                continue
            found += 1
            if segment.has_gap(begin, begin + length / rate) or not _usable(data):
                rejected += 1
                continue
            data = data - data[:, :before].mean(axis=1, keepdims=True)
            data = data.reshape(len(data), -1, step).mean(axis=2)
            total, square = total + data, square + data**2
            n += 1
    if chosen is None or found == 0:
        return None
    seconds = (np.arange(length // step) + 0.5) * step / rate - before / rate
    mean = total / n if n else np.full((len(chosen), len(seconds)), np.nan)
    half = np.full_like(mean, np.nan)
    if n > 1:
        half = 1.96 * np.sqrt(np.maximum(square - n * mean**2, 0) / (n - 1) / n)
    return Evoked(seconds, tuple(chosen), mean, half, n, rejected, len(onsets) - found)


def _usable(data: np.ndarray) -> bool:
    """Tell whether a response can be averaged: finite, and at most a tenth of the channels beyond 500 µV."""
    return bool(np.isfinite(data).all() and (np.ptp(data, axis=1) > MOST_PEAK_TO_PEAK).mean() <= MOST_BEYOND)


def _derivation(names: Sequence[str], session: SessionData) -> list[str]:
    """Return the staging EEG and its reference, if it has one, as a recording calls them; [] without them."""
    wanted = [session.setting("channels.eeg", "C4"), session.setting("channels.eeg_ref")]
    try:
        found = [find_channel(name, names) for name in wanted if name is not None]
    except UserError:
        return []
    return [] if None in found else [name for name in found if name]
