"""Tests of one number a subject or night."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sleep_interpreter.utils.metrics.statistics import too_few_subjects


def mean_of_differences(values: ArrayLike, permutations: int, seed: int) -> dict[str, Any]:
    """Test whether the mean of one number a subject (S,) is apart from zero: two-sided, the subject being the unit.

    Sign flips are all enumerated when there are no more than `permutations`, otherwise drawn; they take the numbers to
    lie symmetrically about zero where nothing is to be found. The result: n, mean, low, high (95 %, t; None of one),
    sign_flip_p, or in note why it is None.
    """
    each = np.round(np.asarray(values, float), 12)
    result: dict[str, Any] = {"n": len(each), "mean": float(each.mean()) if len(each) else None, "low": None}
    result |= {"high": None, "sign_flip_p": None, "note": too_few_subjects(len(each))}
    if len(each) > 1:
        half = stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each))
        result |= {"low": float(each.mean() - half), "high": float(each.mean() + half)}
    if result["note"] is None:
        flips = stats.permutation_test(
            (each,), lambda x, axis: np.mean(x, axis=axis), vectorized=True, permutation_type="samples",
            n_resamples=permutations, random_state=np.random.default_rng(seed),
        )  # fmt: skip
        result["sign_flip_p"] = float(flips.pvalue)
    return result
