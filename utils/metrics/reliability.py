"""Reliability of probabilities: whether what is said to be so likely happens so often."""

from typing import Any

import numpy as np

from sleep_interpreter.utils.core.constants import N2, N3, UNKNOWN
from sleep_interpreter.utils.metrics.staging_metrics import stage_codes
from sleep_interpreter.utils.metrics.statistics import proportion, true_rank

DRAWS = 500
"""Of cases as they would happen to a perfectly calibrated decoder."""


def reliability_bins(
    said: np.ndarray, happened: np.ndarray, bins: int, keys: tuple[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the expected calibration error and what happened in each bin of equal width, open on the left.

    The error is that of Guo et al. (2017, On calibration of modern neural networks, ICML, eq. 3): the mean over cases
    of |share - probability| of their bin. It is above 0 however well calibrated, the more so the fewer cases a bin
    holds: the first result has ece (None without cases) and ece_by_chance, mean and high (95th percentile), if each
    case happened just as probably as was said, independently. Of probabilities `said` (n,)
    and what `happened`, bool (n,), a row has from, to, n, the two `keys` (mean probability, share of cases that
    happened), low and high (Wilson 95 %, as if cases were independent); None in an empty bin.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], said, side="left")
    rows = []
    for index in range(bins):
        own = place == index
        share = proportion(int(happened[own].sum()), int(own.sum()), 0.5)
        mean = float(said[own].mean()) if share["n"] else None
        row = {"from": float(edges[index]), "to": float(edges[index + 1]), "n": share["n"], keys[0]: mean}
        rows.append(row | {keys[1]: share["accuracy"], "low": share["low"], "high": share["high"]})
    if not len(said):
        return {"ece": None, "ece_by_chance": {"mean": None, "high": None}}, rows

    def error(cases: np.ndarray) -> float:
        return float(np.abs(np.bincount(place, cases - said, minlength=bins)).sum() / len(said))

    random = np.random.default_rng(0)
    drawn = [error(random.random(len(said)) < said) for _ in range(DRAWS)]
    by_chance = {"mean": float(np.mean(drawn)), "high": float(np.percentile(drawn, 95))}
    return {"ece": error(np.asarray(happened)), "ece_by_chance": by_chance}, rows


def confidence_reliability(label: np.ndarray, probability: np.ndarray, bins: int) -> dict[str, Any]:
    """Return how far a decoder's confidence (its highest probability) can be taken at its word.

    Of trials' labels (n,) and probabilities (n, K): ece and ece_by_chance (`reliability_bins`), log_loss (mean of -ln
    p(true class), p at least 1e-12; ln K for a uniform guess), mean confidence, bins (`reliability_bins` with
    confidence and accuracy); None without trials.
    """
    if not len(label):
        nothing = reliability_bins(np.zeros(0), np.zeros(0, bool), bins, ("confidence", "accuracy"))[0]
        return {**nothing, "log_loss": None, "confidence": None, "bins": []}
    probability = np.asarray(probability, np.float32)
    confidence = probability.max(axis=1).astype(float)
    of_label = probability[np.arange(len(label)), label].astype(float)
    correct = true_rank(label, probability) == 0
    error, rows = reliability_bins(confidence, correct, bins, ("confidence", "accuracy"))
    log_loss = float(-np.log(np.maximum(of_label, 1e-12)).mean())
    return {**error, "log_loss": log_loss, "confidence": float(confidence.mean()), "bins": rows}


def nrem_reliability(probability: np.ndarray, truth: np.ndarray, bins: int) -> dict[str, Any]:
    """Return how often it was N2 or N3 where P(N2) + P(N3) had a value: the gate's quantity.

    Of probabilities (n, 4), NaN rows (unknown) left out, and true stages (n,): n, ece (None without a known epoch)
    and ece_by_chance (as if epochs were independent), bins (`reliability_bins` with probability and share).
    """
    truth = stage_codes(truth, "true stages")
    known = np.isfinite(probability).all(axis=1) & (truth != UNKNOWN)
    p = probability[known, N2] + probability[known, N3]
    error, rows = reliability_bins(p, np.isin(truth[known], (N2, N3)), bins, ("probability", "share"))
    return {"n": len(p), **error, "bins": rows}
