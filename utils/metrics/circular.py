"""Statistics of phases: mean direction, resultant length, and both against what random times give.

Slow waves are no sine waves, and few phases have a long mean vector by chance: neither uniform phases nor a length of
0 is what to expect where nothing happens. The expectation is that of random times in the same sleep.
"""

from typing import Any

import numpy as np

DRAWS = 2000


def mean_vector(phases: np.ndarray) -> tuple[float, float]:
    """Return mean direction in radians and resultant length, 0 to 1, of phases (n,) in radians; NaN is left out."""
    phases = np.asarray(phases, float)
    vector = np.exp(1j * phases[np.isfinite(phases)]).mean() if np.isfinite(phases).any() else np.nan
    return float(np.angle(vector)), float(abs(vector))


def against_random_times(
    phases: np.ndarray, at_random: np.ndarray, draws: int = DRAWS, seed: int = 1642
) -> dict[str, Any] | None:
    """Test whether phases (n,) of events are others than those of random times; None without a phase.

    `at_random` (n, k) holds for each event the phases at k random times that it could as well have had; NaN where
    there is none. The statistic is the distance between the mean vectors of events and random times; in every draw each
    event takes one of its k + 1 phases, each as likely as the others. The result: n, mean_rad, length, random_n (phases
    of random times), random_length (mean over draws: what so many random times give), p ((1 + draws at least as far) /
    (1 + draws)).
    """
    every = np.column_stack([phases, at_random])
    mean, length = mean_vector(every[:, 0])
    if np.isnan(length):
        return None
    there = np.isfinite(every)
    found = {"n": int(there[:, 0].sum()), "mean_rad": mean, "length": length, "random_n": int(there[:, 1:].sum())}
    if not found["random_n"]:
        return {**found, "random_length": None, "p": None}
    vectors, row = np.where(there, np.exp(1j * np.nan_to_num(every)), 0), np.arange(len(every))
    total, count = vectors.sum(), there.sum()

    def measures(pick: np.ndarray) -> tuple[float, float]:
        own, n = vectors[row, pick].sum(), there[row, pick].sum()
        mean_of = own / max(1, n)
        return abs(mean_of), abs(mean_of - (total - own) / max(1, count - n))

    random = np.random.default_rng(seed)
    drawn = np.array([measures(random.integers(every.shape[1], size=len(every))) for _ in range(draws)])
    at_least = int((drawn[:, 1] >= measures(np.zeros(len(every), int))[1] - 1e-9).sum())
    return {**found, "random_length": float(drawn[:, 0].mean()), "p": (1 + at_least) / (1 + draws)}


def counts_against_random_times(
    groups: np.ndarray, at_random: np.ndarray, names: int, draws: int = DRAWS, seed: int = 1642
) -> tuple[np.ndarray, float | None]:
    """Return how many of n events are expected in each group at random times, float (names,), and p.

    `groups` (n,) and `at_random` (n, k) are whole numbers from 0 to `names` - 1. The statistic is chi-square of the
    counts against those expected, its draws those of `against_random_times`. No events: zeros and None.
    """
    every = np.column_stack([groups, at_random])
    if not len(every) or every.shape[1] < 2:
        return np.zeros(names), None
    one_hot = np.eye(names)[every]
    row, total = np.arange(len(every)), one_hot.sum(axis=(0, 1))

    def distance(counts: np.ndarray) -> float:
        expected = (total - counts) / (every.shape[1] - 1)
        return float(((counts - expected) ** 2 / np.maximum(total, 1)).sum())

    random = np.random.default_rng(seed)
    found = distance(one_hot[:, 0].sum(axis=0))
    picks = (random.integers(every.shape[1], size=len(every)) for _ in range(draws))
    at_least = sum(distance(one_hot[row, pick].sum(axis=0)) >= found - 1e-9 for pick in picks)
    return one_hot[:, 1:].sum(axis=(0, 1)) / (every.shape[1] - 1), (1 + at_least) / (1 + draws)
