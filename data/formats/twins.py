"""Finds trials that hold the same signals twice, though not to the bit: another format or program wrote them."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy.ndimage import uniform_filter1d

SAME = 0.95
"""Likeness from which two trials are the same signals."""
SIZE = 128
"""Numbers of a sketch."""
_SKETCHED_AT_ONCE = 64
_COMPARED_AT_ONCE = 2048


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Return how alike two trials (C, T) are, where both have samples: 1 for the same signals, -1 for the same ones
    upside down, around 0 for others.

    It is the mean of two correlations over all channels and samples, of signals without what filters take away (slow
    drifts, and what is faster than a 40th of the trial): of these, and of their differences from sample to sample,
    because few channels with slow waves are soon alike by accident. Gain and offset do not matter, and a display filter
    (0.5 to 30 Hz) hardly does.
    """
    both = np.isfinite(one) & np.isfinite(other)
    left, right = (_vectors(np.where(both, trial, np.nan)[None].astype(float))[0] for trial in (one, other))
    return float(left @ right)


def sketch(eeg: np.ndarray) -> np.ndarray:
    """Return so few numbers of each trial (n, C, T) that their products are the trials' likeness, float32 (n, 128).

    Each is the sum of a random 128th of the values, with random signs (count sketch: Charikar et al., 2002): a
    likeness of 0.95 is found within about 0.01, one of 0.5 within 0.1. NaN counts as 0; a trial that stands still
    gives zeros.
    """
    rows = [np.zeros((0, SIZE), np.float32)]
    for start in range(0, len(eeg), _SKETCHED_AT_ONCE):
        vectors = _vectors(np.asarray(eeg[start : start + _SKETCHED_AT_ONCE], np.float32))
        order, signs = _places(vectors.shape[1])
        rows.append(_normed((vectors[:, order] * signs).reshape(len(vectors), SIZE, -1).sum(axis=2)))
    return np.concatenate(rows)


def pairs(sketches: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the places (i, j), i < j, of sketches (n, 128) that are of the same signals, upside down or not.

    The time grows with n squared: 2 s for 20,000 trials, 1 min for 100,000, on one core.
    """
    for start in range(0, len(sketches), _COMPARED_AT_ONCE):
        block = sketches[start : start + _COMPARED_AT_ONCE]
        for first in range(start, len(sketches), _COMPARED_AT_ONCE):
            found = np.argwhere(np.abs(block @ sketches[first : first + _COMPARED_AT_ONCE].T) > SAME)
            for i, j in found.tolist():
                if start + i < first + j:
                    yield start + i, first + j


def _vectors(eeg: np.ndarray) -> np.ndarray:
    """Return a vector of length 1 for each trial (n, C, T); their products are the likeness. NaN counts as 0."""
    there = np.isfinite(eeg)
    mean = np.where(there, eeg, 0).sum(axis=-1, keepdims=True) / np.maximum(there.sum(axis=-1, keepdims=True), 1)
    length = eeg.shape[-1]
    smooth = uniform_filter1d(np.where(there, eeg - mean, 0), max(1, length // 40), axis=-1)
    both = []
    for part in (smooth - uniform_filter1d(smooth, max(1, length // 4), axis=-1), np.diff(smooth, axis=-1)):
        both.append(_normed((part - part.mean(axis=-1, keepdims=True)).reshape(len(eeg), -1)))
    return np.concatenate(both, axis=1) / np.sqrt(eeg.dtype.type(2))


def _normed(rows: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, size, out=np.zeros_like(rows), where=size > 0)


@lru_cache(maxsize=2)
def _places(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an order of so many values, filled up to a multiple of 128 by some with sign 0, and their signs."""
    rng = np.random.default_rng(length)
    order = np.arange(-(-length // SIZE) * SIZE)
    signs = np.where(order < length, rng.choice(np.array([-1, 1], np.float32), len(order)), np.float32(0))
    mixed = rng.permutation(len(order))
    return (order % length)[mixed], signs[mixed]
