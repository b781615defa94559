"""What the estimator of one time sample and that of many share: scaling, fitting, probabilities."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from sleep_interpreter.model.lasso_glm.solver import solve

SCALES = ("own", "train", None)


@dataclass(eq=False, repr=False)
class Parameters(BaseEstimator):
    """What both estimators are told; `LassoGLM` says what each means."""

    l1: float = 5e-3
    l2: float = 0.0
    scale: str | None = "own"
    percentile: float = 95.0
    tol: float = 1e-10
    newton_steps: int = 500


def check_parameters(l1: float, l2: float, scale: str | None, percentile: float) -> None:
    """Refuse parameters without a minimum or without a meaning, as a `ValueError`."""
    if not (l1 >= 0 and l2 >= 0 and l1 + l2 > 0):
        raise ValueError(
            f"l1={l1}, l2={l2}: neither may be negative, and one has to be positive: without a penalty "
            "separable classes have no solution"
        )
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r}: expected 'own', 'train' or None")
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile={percentile}: expected a number above 0, at most 100")


def channel_scale(x: np.ndarray, percentile: float) -> np.ndarray:
    """Return the percentile of |x| over trials (n, ...), which channels are divided by, float64 (...).

    MATLAB's prctile: order statistic i of n stands at (i - 0.5) / n, linear in between (Hazen). A channel
    whose percentile is 0 (it is silent) is left as it is: its scale is 1.
    """
    n = len(x)
    ordered = np.sort(np.abs(np.ascontiguousarray(np.moveaxis(x, 0, -1))), axis=-1)
    place = np.clip(percentile / 100 * n - 0.5, 0, n - 1)
    low = int(place)
    below, above = (ordered[..., min(k, n - 1)].astype(np.float64) for k in (low, low + 1))
    scale = below + (place - low) * (above - below)
    return np.where(scale > 0, scale, 1.0)


def fit(
    x: np.ndarray, label: np.ndarray, classes: int, l1: float, l2: float, tol: float, newton_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coef (T, K, C), intercept and residual (T, K) of one-vs-rest GLMs of scaled, finite x (n, T, C).

    Labels (n,) are 0 to classes - 1. A class without a trial can never be decoded: coefficients 0, intercept -inf.
    """
    times, channels = x.shape[1:]
    present = np.flatnonzero(np.bincount(label, minlength=classes))
    if len(present) < 2:
        raise ValueError(f"the trials to train on are of {len(present)} class, at least two are needed")
    one_hot = np.ascontiguousarray((label == present[:, None]).astype(np.float64))
    rows = np.array(x.transpose(1, 2, 0), np.float64, order="C", copy=True)
    found = solve(rows, one_hot, float(l1), float(l2), float(tol), int(newton_steps))
    coef = np.zeros((times, classes, channels))
    intercept, residual = np.full((times, classes), -np.inf), np.zeros((times, classes))
    coef[:, present], intercept[:, present], residual[:, present] = found
    if not (residual <= tol).all():
        t, k = np.unravel_index(np.argmax(residual), residual.shape)
        warnings.warn(
            f"time sample {t}, class {k}: the optimality conditions hold to {residual[t, k]:.1e} only, asked "
            f"for was {tol:.1e}; channels of very unequal size are the usual reason",
            ConvergenceWarning,
            stacklevel=3,
        )
    return coef, intercept, residual


def normalised(decision: np.ndarray) -> np.ndarray:
    """Return probabilities that add up to 1 over the last axis, from each class's log odds against the rest.

    Each class's own probability is the logistic function of its log odds; these are divided by their sum.
    """
    log = -np.logaddexp(0.0, -np.asarray(decision, np.float64))
    odds = np.exp(log - log.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)
