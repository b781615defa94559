"""Intervals: known values, coverage, and honesty about few subjects."""

import numpy as np
import pytest

from utils import stats

CHANCE = 1 / 15


def test_proportion_against_known_wilson_interval():
    row = stats.proportion(10, 100, CHANCE)
    assert (row["accuracy"], row["n"], row["hits"]) == (0.1, 100, 10)
    # Wilson score interval by its closed form, z = 1.959964
    z, p, n = 1.959963984540054, 0.1, 100
    centre, half = (p + z**2 / (2 * n)), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert row["low"] == pytest.approx((centre - half) / (1 + z**2 / n))
    assert row["high"] == pytest.approx((centre + half) / (1 + z**2 / n))


def test_no_trials_is_no_accuracy():
    assert stats.proportion(0, 0, CHANCE)["accuracy"] is None
    assert stats.over_subjects([np.zeros(0, bool)], 1000, 0, CHANCE)["accuracy"] is None


def test_mean_is_over_subjects_not_trials():
    rows = [np.ones(10, bool), np.zeros(30, bool), np.zeros(0, bool)]
    result = stats.over_subjects(rows, 1000, 0, CHANCE)
    assert (result["subjects"], result["n"]) == (2, 40)
    assert result["accuracy"] == 0.5 and result["pooled"] == 0.25
    assert stats.over_subjects(rows, 1000, 0, CHANCE) == result
    assert stats.over_subjects(rows, 1000, 1, CHANCE)["low"] <= result["accuracy"]


def test_interval_covers_the_population_mean():
    """12 subjects whose true accuracies vary: the 95 % interval holds the true mean 90-99 % of the time."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        true = random.beta(6, 18, size=12)  # mean 0.25
        rows = [random.random(80) < p for p in true]
        result = stats.over_subjects(rows, 500, 0, CHANCE)
        covered += result["low"] <= 0.25 <= result["high"]
    assert 0.90 <= covered / 300 <= 0.995
