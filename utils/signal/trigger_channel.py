"""Codes of a trigger channel: the numbers that were sent, from samples that hold them as voltages or rounded."""

from collections.abc import Callable

import numpy as np

from sleep_interpreter.utils.core.errors import UserError

_SENT_SECONDS = 0.01
"""A lower code that lasts so long was sent; amplifiers' lines fall within a sample or two of each other."""
_RISE_SECONDS = 0.002
"""Lines that rise together arrive within so many seconds, or one sample."""
_NEAR = 0.2  # a value so near to a whole number is that number: 16 bits over a wide range come in coarse steps
_AT_ONCE = 1_000_000
_SCALES = {"µV": 1e6, "uV": 1e6, "mV": 1e3, "nV": 1e9}
"""What brings volts, into which a reader turned the numbers, back to the numbers, by the unit of the file."""
Steps = tuple[np.ndarray, np.ndarray]
"""Sample numbers, rising, and the value that holds from each of them on."""


def steps(read: Callable[[int, int], np.ndarray], count: int) -> Steps:
    """Return the first sample of a channel and every one that differs from the one before; `read` gives a span."""
    starts, values = [np.zeros(0, int)], [np.zeros(0)]
    last = np.full(1, np.nan)
    for start in range(0, count, _AT_ONCE):
        block = np.asarray(read(start, min(start + _AT_ONCE, count)), float)
        found = np.flatnonzero(np.concatenate([last, block[:-1]]) != block)
        starts.append(found + start)
        values.append(block[found])
        last = block[-1:]
    return np.concatenate(starts), np.concatenate(values)


def whole_numbers(found: Steps, unit: str | None, rate: float, bits: int | None, where: str) -> Steps:
    """Return the steps as whole numbers, rounded; refuse values that are none.

    `unit` is the one that the file states: a reader turns 11 µV into 0.000011 V. Negative values are numbers of
    `bits` bits whose first one was taken for a sign; without `bits` they are refused. `where` names file and channel.
    """
    starts, values = found
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    scales = [1.0]
    if 0 < largest < 0.5:
        scales += [_SCALES[unit]] if unit in _SCALES else [1e3, 1e6]
    for scale in scales:
        scaled = values * scale
        codes = np.rint(scaled)
        off = np.flatnonzero(~(np.abs(scaled - codes) <= _NEAR))
        if not len(off) and (codes.any() or not largest):
            break
    else:
        place = int(off[0]) if len(off) else int(np.argmax(np.abs(values)))
        raise UserError(
            f"{where}: holds {values[place]:.6g} at {starts[place] / rate:.3f} s, which is no whole number, so it is "
            "no channel of trigger codes, or it was filtered or resampled; name another one in events.stim_channel, "
            "or export the recording with its triggers as they were sent"
        )
    if (codes < 0).any():
        if bits is None or codes.min() < -(2 ** (bits - 1)):
            place = int(np.argmin(codes))
            raise UserError(
                f"{where}: holds the negative code {codes[place]:.0f} at {starts[place] / rate:.3f} s; triggers are "
                "numbers from 0 up: export the recording with an unsigned trigger channel, or as annotations"
            )
        codes = np.where(codes < 0, codes + 2**bits, codes)
    whole = codes.astype(np.int64)
    kept = np.flatnonzero(np.diff(whole, prepend=whole[0] - 1 if len(whole) else 0))
    return starts[kept], whole[kept]


def sent(found: Steps, rate: float, count: int) -> list[tuple[int, int]]:
    """Return [(sample, code)] of the codes that were sent, from the steps of a channel of `count` samples.

    A code begins where the channel rises to it, or falls to it from a higher one and stays: lines that fall one after
    the other pass through lower codes for a moment. Lines that rise one after the other pass through codes that
    are part of the one that was sent.
    """
    starts, codes = found
    before = np.concatenate([[0], codes[:-1]])
    after = np.concatenate([codes[1:], [0]])
    samples = np.diff(starts, append=count)
    rising = (codes & after == codes) & (after > codes) & ((samples == 1) | (samples / rate < _RISE_SECONDS))
    began = (codes > before) | ((codes != 0) & (samples / rate >= _SENT_SECONDS))
    return [(int(starts[k]), int(codes[k])) for k in np.flatnonzero(began & ~rising)]
