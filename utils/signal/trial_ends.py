"""Trials of unequal length in one array: behind the end of a shorter one stands NaN in all channels.

NaN, so that whatever does not know of such trials fails instead of taking zeros for a signal.
"""

import numpy as np

FILLED_UP = 4
"""So many samples at the end of a trial that stand still in all channels were filled up: they are no EEG."""


def valid_samples(trials: np.ndarray) -> np.ndarray:
    """Return which samples of trials (..., T, C) come before the NaN behind their end, bool (..., T)."""
    there = np.flip(~np.isnan(trials).all(axis=-1), -1)
    return np.flip(np.logical_or.accumulate(there, axis=-1), -1)


def valid_lengths(trials: np.ndarray) -> np.ndarray:
    """Return how many samples of trials (..., T, C) come before the NaN behind their end, int (...)."""
    lengths: np.ndarray = valid_samples(trials).sum(axis=-1)
    return lengths


def not_finite(trials: np.ndarray, varying: bool = True) -> np.ndarray:
    """Return which values of trials (..., T, C) are NaN or infinite, where lengths vary before the trial's end."""
    bad: np.ndarray = ~np.isfinite(trials)
    if varying and bad.any():
        valid = valid_samples(trials)
        bad &= (valid | ~valid.any(axis=-1, keepdims=True))[..., None]  # a trial without any sample is none
    return bad
