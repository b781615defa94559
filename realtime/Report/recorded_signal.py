"""What the night report takes from the recording itself: spectrogram and evoked responses, piece by piece.

Memory holds one piece at a time, whatever the length of the night and the number of channels.
"""

import logging
from dataclasses import dataclass

import numpy as np
from scipy import signal

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
LARGEST = 500.0
"""µV from peak to peak within a response; beyond it is no EEG of sleep."""
SHARE = 0.1
"""Share of the channels that may be beyond it."""
_EPOCHS_AT_A_TIME = 20
_LOST = "BAD_ACQ_SKIP"
_SHORT = 5.0
"""Seconds by which a recording may end before the session without a word."""


class Opened:
    """A segment of the recording.

    Parameters
    ----------
    segment : sleep_interpreter.realtime.Report.session_data.Segment
    unit : str
        "V" or "uV", what the reader's numbers are.

    Raises
    ------
    UserError
        It cannot be read.
    """

    def __init__(self, segment, unit):
        self._recording = Recording(segment.path)
        self.begins, self.exact = segment.begins, segment.exact
        self.names, self.seconds = self._recording.names, self._recording.seconds
        self._factor = TO_MICROVOLT[unit]
        lost, shift = self._recording.annotations, self._recording.first_time
        self._lost = [
            (self.begins + onset - shift, self.begins + onset - shift + duration)
            for onset, duration, text in zip(lost.onset, lost.duration, lost.description, strict=True)
            if str(text).startswith(_LOST)
        ]
        self._picks = None

    def choose(self, picks):
        """Open channels; those of another rate than the first one's are left out.

        Returns
        -------
        names : list of str
        """
        group = next(g for g in self._recording.groups(picks) if 0 in g.places)
        self._group, self.rate = group, group.rate
        return [picks[place] for place in group.places]

    def read(self, begin, count):
        """Return (channels, count) µV from second `begin` of the log's clock on; None beyond the segment."""
        first = round((begin - self.begins) * self.rate)
        if first < 0 or first + count > self._group.length:
            return None
        try:
            return self._group.read(first, first + count) * self._factor
        except (OSError, ValueError, RuntimeError) as error:  # a torn end
            logger.debug("%s", error)
            return None

    def lost(self, begin, end):
        """Tell whether samples were lost in that span."""
        return any(a < end and begin < b for a, b in self._lost)


def open_segments(session):
    """Return ([Opened], [what could not be read, in words])."""
    unit = "V" if session.live else session.setting("source.unit", "V")
    found, problems = [], []
    for segment in session.segments:
        try:
            found.append(Opened(segment, unit))
        except UserError as error:
            problems.append(str(error))
            continue
        if segment.path.suffix == ".vhdr" and not segment.path.with_suffix(".vmrk").exists():
            name = segment.path.with_suffix(".vmrk").name
            problems.append(f"{name} is missing: samples that were lost are not told from signal")
    if found:
        short = session.ends - (found[-1].begins + found[-1].seconds)
        if short > _SHORT:
            problems.append(f"the recording ends {short:.0f} s before the session: the rest is not shown")
    return found, problems


@dataclass(frozen=True)
class Spectrogram:
    """Power of the staging EEG.

    Attributes
    ----------
    seconds : array (n + 1,)
        Edges of the columns on the log's clock.
    hz : array (f,)
    decibel : array (f, n)
        NaN where samples are missing or not finite.
    channel : str
    """

    seconds: np.ndarray
    hz: np.ndarray
    decibel: np.ndarray
    channel: str


def spectrogram(segments, session):
    """Return the `Spectrogram` of the staging EEG over the whole session, None without it.

    Welch's method in each 30 s: windows of 4 s, half overlapping, Hann, in dB of µV²/Hz.
    """
    begins, count = session.begins, max(1, int(np.ceil((session.ends - session.begins) / EPOCH)))
    hz, decibel, label = None, None, None
    for segment in segments:
        pair = _pair(segment.names, session)
        if pair is None:
            continue
        picks = [name for name in pair if name is not None]
        if len(segment.choose(picks)) < len(picks):
            continue
        length = round(EPOCH * segment.rate)
        label = " - ".join(picks)
        first = max(0, int(np.ceil((segment.begins - begins) / EPOCH)))
        last = min(count, int((segment.begins + segment.seconds - begins) // EPOCH))
        for start in range(first, last, _EPOCHS_AT_A_TIME):
            wanted = min(_EPOCHS_AT_A_TIME, last - start)
            data = segment.read(begins + start * EPOCH, wanted * length)
            if data is None:
                continue
            trace = (data[0] - data[1] if len(picks) == 2 else data[0]).reshape(wanted, length)
            frequencies, power = signal.welch(
                trace, segment.rate, nperseg=round(4 * segment.rate), detrend="linear"
            )
            keep = (frequencies > 0) & (frequencies <= HIGHEST_HZ)
            if decibel is None:
                hz, decibel = frequencies[keep], np.full((keep.sum(), count), np.nan)
            if keep.sum() != len(decibel):  # another rate: another grid
                continue
            for k in range(wanted):
                begin = begins + (start + k) * EPOCH
                if np.isfinite(trace[k]).all() and not segment.lost(begin, begin + EPOCH):
                    with np.errstate(divide="ignore"):
                        decibel[:, start + k] = 10 * np.log10(power[k, keep])
    if decibel is None:
        return None
    decibel[~np.isfinite(decibel)] = np.nan
    return Spectrogram(begins + np.arange(count + 1) * EPOCH, hz, decibel, label)


@dataclass(frozen=True)
class Evoked:
    """Mean response to cues or shams.

    Attributes
    ----------
    seconds : array (n,)
        Around the onset.
    names : tuple of str
    mean, half : array (channels, n)
        µV, and half the width of the 95 % interval of the mean over cues.
    n, rejected, missing : int
        Responses averaged; left out; not in the recording.
    """

    seconds: np.ndarray
    names: tuple
    mean: np.ndarray
    half: np.ndarray
    n: int
    rejected: int
    missing: int


def evoked(segments, onsets):
    """Average the recording around onsets.

    Parameters
    ----------
    segments : list of Opened
    onsets : sequence of float
        Seconds on the log's clock.

    Returns
    -------
    result : Evoked | None
        Of the channels named after a place on the head; None when there is none, or no onset was recorded.
    """
    total = square = None
    n = rejected = found = 0
    chosen, step = None, None
    for segment in (s for s in segments if s.exact):
        wanted = list(on_head(segment.names)) if chosen is None else chosen
        if not wanted or any(name not in segment.names for name in wanted):
            continue
        opened = segment.choose(wanted)
        if chosen is None:
            chosen, rate, step = opened, segment.rate, max(1, round(segment.rate / 100))
        if opened != chosen or segment.rate != rate:
            continue
        before, length = round(BEFORE * rate), round((BEFORE + AFTER) * rate) // step * step
        for onset in onsets:
            begin = onset - before / rate
            if not segment.begins <= begin <= segment.begins + segment.seconds:
                continue
            data = segment.read(begin, length)
            if data is None:
                continue
            found += 1
            if segment.lost(begin, begin + length / rate) or not _usable(data):
                rejected += 1
                continue
            data = data - data[:, :before].mean(axis=1, keepdims=True)
            data = data.reshape(len(data), -1, step).mean(axis=2)
            total = data if total is None else total + data
            square = data**2 if square is None else square + data**2
            n += 1
    if chosen is None or found == 0:
        return None
    seconds = (np.arange(length // step) + 0.5) * step / rate - before / rate
    if n == 0:
        empty = np.full((len(chosen), len(seconds)), np.nan)
        return Evoked(seconds, tuple(chosen), empty, empty, 0, rejected, len(onsets) - found)
    mean = total / n
    half = np.full_like(mean, np.nan)
    if n > 1:
        half = 1.96 * np.sqrt(np.maximum(square - n * mean**2, 0) / (n - 1) / n)
    return Evoked(seconds, tuple(chosen), mean, half, n, rejected, len(onsets) - found)


def _usable(data):
    """Tell whether a response can be averaged: finite, and at most a tenth of the channels beyond 500 µV."""
    return bool(np.isfinite(data).all() and (np.ptp(data, axis=1) > LARGEST).mean() <= SHARE)


def _pair(names, session):
    """Return the staging EEG and its reference as a recording calls them, None where it lacks them."""
    wanted = [session.setting("channels.eeg", "C4"), session.setting("channels.eeg_ref")]
    try:
        found = [None if name is None else find_channel(name, names) for name in wanted]
    except UserError:
        return None
    return None if any(w and not f for w, f in zip(wanted, found, strict=True)) else found
