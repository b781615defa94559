"""Stage a recording or stored windows offline as real time would: the same stager, the same windows.

A stager (`utils.staging.stagers`) is asked when the loop asks it, with the samples that the loop has by then. Nothing
later than the end of a window is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS, STREAM_RATE, UNKNOWN
from sleep_interpreter.utils.staging.cue_gate import blend
from sleep_interpreter.utils.staging.stagers import WINDOW, SIStagingStager, StageEstimate, Stager

WINDOW_STEP = 3.0
"""Stored windows of the published layout begin every 3 s."""
_OVERLAP = WINDOW - round(WINDOW_STEP * STREAM_RATE)
_EDGE = round(2 * STREAM_RATE)
"""Samples at both ends of an overlap that the filters' transients may have changed."""


@dataclass(frozen=True, eq=False)
class Estimates:
    """What a stager said about a night, at moments (n,): the end of each window in s since the recording's start.

    Probabilities (n, 4) are as the stager gave them, a row of NaN where the stage is unknown, with the reason why.
    """

    seconds: np.ndarray
    probability: np.ndarray
    reason: list[str | None]

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def known(self) -> np.ndarray:
        """Where a stage was given: bool array (n,)."""
        return np.isfinite(self.probability).all(axis=1)

    @property
    def history(self) -> list[np.ndarray | None]:
        """Probabilities as `utils.staging.cue_gate.states` takes them: None where unknown."""
        return [row if there else None for row, there in zip(self.probability, self.known, strict=True)]

    def smoothed(self, weight: float) -> np.ndarray:
        """Return p = weight * new + (1 - weight) * old (n, 4), beginning anew after what is unknown."""
        result, old = np.full_like(self.probability, np.nan), None
        for place, new in enumerate(self.history):
            old = None if new is None else blend(old, new, weight)
            if old is not None:
                result[place] = old
        return result

    def every(self, step: int) -> "Estimates":
        """Return every `step`-th estimate, as if the stager had been asked less often."""
        return Estimates(self.seconds[::step], self.probability[::step], self.reason[::step])

    def unknown_reasons(self) -> dict[str, int]:
        """Return {reason: how often}."""
        return {reason: self.reason.count(reason) for reason in dict.fromkeys(self.reason) if reason}


def stages(probability: np.ndarray) -> np.ndarray:
    """Return the most probable stage of each row (n, 4): int array (n,), `UNKNOWN` where a row is NaN."""
    known = np.isfinite(probability).all(axis=1)
    return np.where(known, np.where(known[:, None], probability, 0).argmax(axis=1), UNKNOWN)


def replay(stager: Stager, signal: np.ndarray, every_seconds: float) -> Estimates:
    """Stage a continuous recording as the real-time loop does; nothing comes of one shorter than 30 s.

    The stager is a fresh one: it may remember what it has seen. `signal` (3, n) are EEG, EOG and EMG derivations in µV
    at 500 Hz, an absent channel's row being NaN; `every_seconds` is that of a session (`staging.every_seconds`).
    """
    step = round(every_seconds * STREAM_RATE)
    ends = range(WINDOW, signal.shape[1] + 1, step)
    found = [stager.update(np.asarray(signal[:, end - WINDOW : end], np.float32), end) for end in ends]
    return _collected(np.array(ends, float) / STREAM_RATE, found)


def of_windows(
    stager: SIStagingStager, windows: np.ndarray, batch_size: int, progress: tqdm | None = None
) -> Estimates:
    """Stage stored windows (n, 3, 15000) of the published layout, one every 3 s, with a stager for prepared windows.

    `batch_size` windows make a forward pass, which changes the speed only.
    """
    found: list[StageEstimate] = []
    for start in range(0, len(windows), batch_size):
        found += stager.estimates(windows[start : start + batch_size])
        if progress is not None:
            progress.update(len(found) - progress.n)
    return _collected(STAGING_SECONDS + WINDOW_STEP * np.arange(len(windows)), found)


def _collected(seconds: np.ndarray, found: list[StageEstimate]) -> Estimates:
    rows = [np.full(len(STAGES), np.nan) if e.probabilities is None else e.probabilities for e in found]
    probability = np.array(rows, float).reshape(len(found), len(STAGES))
    return Estimates(seconds, probability, [e.reason for e in found])


def stitched(windows: np.ndarray, microvolts: Sequence[float]) -> np.ndarray:
    """Put stored windows (n, 3, 15000), one every 3 s, together to one recording, for stagers that need one.

    Every channel of a stored window was shifted and scaled on its own, so neighbours differ by a line where they
    overlap; each window is brought to the scale of the one before it. What stays unknown is one scale a channel for
    the whole night: `microvolts` says what median SD over 30 s EEG, EOG and EMG are given. Filters' transients at the
    ends of windows stay out. Returns float32 (3, 15000 + 1500 * (n - 1)), in µV as far as `microvolts` is right, NaN
    where a window is not finite and no other covers the time.
    """
    step = WINDOW - _OVERLAP
    count = len(windows)
    signal = np.full((3, WINDOW + step * (count - 1)), np.nan, np.float32)
    for channel in range(3):
        scale, shift, deviations = 1.0, 0.0, []
        for place in range(count):
            own = np.asarray(windows[place, channel], float)
            start = place * step
            if not np.isfinite(own).all():
                continue
            before = signal[channel, start + _EDGE : start + _OVERLAP - _EDGE]
            scale, shift = _fit(own[_EDGE : _OVERLAP - _EDGE], before, scale, shift)
            placed = scale * own + shift
            # The middle of a window is best; its first part is there already, unless a gap was before it.
            part = signal[channel, start : start + WINDOW]
            missing = np.isnan(part) | (np.arange(WINDOW) >= _OVERLAP - _EDGE)
            part[missing] = placed[missing]
            deviations.append(placed.std())
        usual = np.median([d for d in deviations if d > 0] or [1.0])
        signal[channel] *= microvolts[channel] / usual
    return signal


def _fit(own: np.ndarray, before: np.ndarray, scale: float, shift: float) -> tuple[float, float]:
    """Return the scale and shift that take a window to what is there already; the last ones where unclear."""
    there = np.isfinite(before)
    if there.sum() < _EDGE or own[there].std() < 1e-6:
        return scale, shift
    x, y = own[there], before[there].astype(float)
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    if slope <= 0:  # a window that has nothing to do with the one before it
        return scale, shift
    return slope, float(y.mean() - slope * x.mean())
