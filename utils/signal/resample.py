"""Any sampling rate to another, block by block, without a seam.

The polyphase filter of `scipy.signal.resample_poly` (zero delay on the sample clock: output k belongs to time k /
rate), delivered as soon as the filter's right half has arrived. Two things differ. Every phase of the filter has the
gain 1 at 0 Hz: scipy's differ by some 0.0004, so that a dead electrode with an offset would come out as a signal. And
before its first sample a channel is taken to have the value of that sample instead of zero, so that an offset does
not begin with a step.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from scipy import signal

from sleep_interpreter.utils.core.errors import UserError

MAX_FACTOR = 1024
"""Largest term of a ratio: 25 kHz / 500 Hz and 1024 / 500 fit, 499.9 / 500 does not."""


def ratio(rate: float, target: float) -> tuple[int, int]:
    """Return (up, down), whole numbers up to `MAX_FACTOR`, with rate * up / down == target within 1e-9 of it; where
    there are none, raise a `UserError`."""
    fraction = Fraction(target / rate).limit_denominator(MAX_FACTOR)
    up, down = fraction.numerator, fraction.denominator
    if up == 0 or up > MAX_FACTOR or abs(rate * up / down - target) > 1e-9 * target:
        raise UserError(
            f"sampling rate {rate:g} Hz: no ratio of whole numbers up to {MAX_FACTOR} gives {target:g} Hz; "
            "resample the recording to a whole number of Hz first"
        )
    return up, down


class Resampler:
    """Streaming resampler between rates in Hz; its output does not depend on how the input is cut into blocks."""

    def __init__(self, rate: float, target: float, channels: int) -> None:
        self.up, self.down = ratio(rate, target)
        longest = max(self.up, self.down)
        # half length, cutoff and window as in scipy.signal.resample_poly, so that both agree
        self._half = 10 * longest if longest > 1 else 0
        length = 2 * self._half + 1
        taps = signal.firwin(length, 1 / longest, window=("kaiser", 5.0)) if longest > 1 else np.ones(1)
        for phase in range(self.up):
            taps[phase :: self.up] /= taps[phase :: self.up].sum()
        padding = (self.down - self._half % self.down) % self.down
        self._taps = np.concatenate([np.zeros(padding), taps])
        self._skip = (self._half + padding) // self.down
        self._offset = np.zeros((channels, 1)) if longest == 1 else None  # unknown until the first sample
        self._input = np.zeros((channels, 0))
        self._start = 0  # input index of the first kept sample, a multiple of `down`
        self._done = 0  # outputs delivered

    def push(self, block: ArrayLike) -> np.ndarray:
        """Take (channels, n) and return the outputs (channels, m) that are now complete, float64."""
        block = np.asarray(block, np.float64)
        if block.shape[1]:
            if self._offset is None:
                self._offset = np.where(np.isfinite(block[:, :1]), block[:, :1], 0.0)
            self._input = np.concatenate([self._input, block - self._offset], axis=1)
        received = self._start + self._input.shape[1]
        ready = ((received - 1) * self.up - self._half) // self.down + 1 if received else 0
        if ready <= self._done:
            return np.zeros((self._input.shape[0], 0))
        offset = self._start // self.down * self.up  # output index of the first kept sample
        filtered = signal.upfirdn(self._taps, self._input, self.up, self.down, axis=1)
        result = filtered[:, self._done - offset + self._skip : ready - offset + self._skip]
        self._done = ready
        # drop input that no later output needs, in whole periods so that the filter's phase stays put
        first_needed = (self._done * self.down - self._half) // self.up - 1
        keep_from = max(0, first_needed // self.down * self.down)
        if keep_from > self._start:
            self._input = self._input[:, keep_from - self._start :]
            self._start = keep_from
        return result + self._offset


class Merger:
    """Channels of several rates to one, in step; a group has its rate in Hz and the rows its channels get in the
    output."""

    def __init__(self, groups: Sequence[tuple[float, Sequence[int]]], target: float) -> None:
        self._rows = [list(rows) for _, rows in groups]
        self._resamplers = [Resampler(rate, target, len(rows)) for rate, rows in groups]
        self._waiting = [np.zeros((len(rows), 0)) for _, rows in groups]

    def push(self, blocks: Sequence[ArrayLike]) -> np.ndarray:
        """Take one block a group and return the outputs (channels, m) that all groups have, float64."""
        self._waiting = [
            np.concatenate([rest, resampler.push(block)], axis=1)
            for rest, resampler, block in zip(self._waiting, self._resamplers, blocks, strict=True)
        ]
        count = min(rest.shape[1] for rest in self._waiting)
        result = np.empty((sum(map(len, self._rows)), count))
        for rows, rest in zip(self._rows, self._waiting, strict=True):
            result[rows] = rest[:, :count]
        self._waiting = [rest[:, count:] for rest in self._waiting]
        return result
