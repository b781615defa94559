"""Tests of one number a subject or night: is the mean apart from zero, do two groups of subjects differ?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sleep_interpreter.utils.metrics import statistics
from sleep_interpreter.utils.metrics.statistics import sign_flip_p, too_few_subjects

FEWEST_IN_A_GROUP = 4
"""Subjects needed in either of two groups: with 3 and 3, no permutation gives a two-sided p below 0.05."""


def mean_of_differences(
    values: ArrayLike, permutations: int, seed: int, scores: ArrayLike | None = None
) -> dict[str, Any]:
    """Test whether the mean of one number a subject (S,) is apart from zero: two-sided, the subject being the unit.

    Sign flips are all enumerated when there are no more than `permutations`, otherwise drawn; they take the numbers to
    lie symmetrically about zero where nothing is to be found; `scores` (S,) that do are tested in the place of values
    that do not. The result: n, mean, low, high (95 %, `statistics.half_widths` with tails; None of one), sign_flip_p,
    or in note why it is None. Flips know no skewness, so p and interval may disagree where either is close.
    """
    each = np.round(np.asarray(values, float), 12)
    result: dict[str, Any] = {"n": len(each), "mean": float(each.mean()) if len(each) else None, "low": None}
    result |= {"high": None, "sign_flip_p": None, "note": too_few_subjects(len(each))}
    if len(each) > 1:
        down, up = statistics.half_widths(each, tails=True)
        result |= {"low": float(each.mean() - down), "high": float(each.mean() + up)}
    if result["note"] is None:
        tested = each if scores is None else np.round(np.asarray(scores, float), 12)
        result["sign_flip_p"] = sign_flip_p(tested, "two-sided", permutations, seed)
    return result


def in_words(test: Mapping[str, Any], units: str = "subjects") -> str:
    """Return what `mean_of_differences` found as a line."""
    if test["mean"] is None:
        return f"no {units} to test"
    interval = "" if test["low"] is None else f", 95 % {test['low']:+.3f} to {test['high']:+.3f}"
    p = test["note"] or f"p = {test['sign_flip_p']:.4f} (two-sided sign flips)"
    return f"mean {test['mean']:+.3f}{interval}; n = {test['n']} {units}; {p}"


def difference_of_groups(first: ArrayLike, second: ArrayLike, permutations: int, seed: int) -> dict[str, Any]:
    """Test whether two groups of other subjects differ in the mean of one number a subject, two-sided.

    Who belongs to which group is permuted, with Welch's t as the statistic, so that groups of unequal size and spread
    keep the level (Janssen, 1997, Stat Probab Lett 36:9). The result: n (of either), difference (first - second), low,
    high (95 %, Welch, `statistics.lengthened`), permutation_p, or in note why it is None.
    """
    groups = [np.asarray(values, float) for values in (first, second)]
    result: dict[str, Any] = {"n": [len(values) for values in groups], "difference": None, "low": None, "high": None}
    result |= {"permutation_p": None, "note": None}
    if min(result["n"]) < FEWEST_IN_A_GROUP:
        return result | {"note": f"not tested: {result['n']} subjects, {FEWEST_IN_A_GROUP} in either are needed"}
    result["difference"] = float(groups[0].mean() - groups[1].mean())
    if not any(np.ptp(values) for values in groups):
        return result | {"note": "not tested: within either group all subjects are alike"}
    spread = np.sqrt(sum(values.var(ddof=1) / len(values) for values in groups))
    t = stats.t.ppf(0.975, stats.ttest_ind(*groups, equal_var=False).df)
    one, other = (statistics.third_moment(values) / len(values) ** 2 for values in groups)
    down, up = statistics.lengthened(t * spread, spread, t, one - other)
    drawn = stats.permutation_test(
        groups, _welch, vectorized=True, permutation_type="independent", n_resamples=permutations,
        random_state=np.random.default_rng(seed),
    )  # fmt: skip
    ends = {"low": float(result["difference"] - down), "high": float(result["difference"] + up)}
    return result | ends | {"permutation_p": float(drawn.pvalue)}


def _welch(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    spread = first.var(axis=axis, ddof=1) / first.shape[axis] + second.var(axis=axis, ddof=1) / second.shape[axis]
    return (first.mean(axis=axis) - second.mean(axis=axis)) / np.sqrt(np.maximum(spread, 1e-24))


def groups_in_words(test: Mapping[str, Any]) -> str:
    """Return what `difference_of_groups` found as a line."""
    if test["note"]:
        return str(test["note"])
    return (
        f"{test['difference']:+.3f}, 95 % {test['low']:+.3f} to {test['high']:+.3f}; n = {test['n'][0]} and "
        f"{test['n'][1]} subjects; p = {test['permutation_p']:.4f} (two-sided permutation)"
    )
