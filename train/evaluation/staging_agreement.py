"""Stagers beside each other and beside the expert, through YASA's own agreement tools, and Bland-Altman."""

import logging
import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
from scipy import stats

from sleep_interpreter.data.formats.hypnogram_statistics import STATISTICS, night_statistics
from sleep_interpreter.data.formats.hypnograms import to_yasa
from sleep_interpreter.utils.core.constants import UNKNOWN
from sleep_interpreter.utils.metrics import staging_metrics

FEWEST_NIGHTS = 3
"""Limits of agreement of fewer nights would be guesses."""


def epoch_agreement(reference, observed, names):
    """Return YASA's epoch-by-epoch agreement (yasa.EpochByEpochAgreement) of two scorers.

    Parameters
    ----------
    reference, observed : dict of str to int array (m,)
        Stages of 30 s epochs by night; unknown epochs are left out by YASA.
    names : (str, str)
        Of the scorers.

    Returns
    -------
    result : dict
        nights, epochs (scored by both), nights_left_out (nothing in common), pooled and mean ({accuracy,
        balanced_acc, kappa, mcc, precision, f1}; YASA gives percent, here they are shares).
    """
    import yasa

    left_out, kept = [], []
    for night in reference:
        both = (np.asarray(reference[night]) != UNKNOWN) & (np.asarray(observed[night]) != UNKNOWN)
        (kept if both.any() else left_out).append(night)
    result = {"scorers": list(names), "nights": len(kept), "nights_left_out": left_out}
    if not kept:
        return result | {"epochs": 0, "pooled": None, "mean": None}
    with _yasa_quiet():
        compared = yasa.EpochByEpochAgreement(
            {n: to_yasa(reference[n], names[0]) for n in kept},
            {n: to_yasa(observed[n], names[1]) for n in kept},
        )
        pooled = compared.get_agreement(pooled=True)
        each = compared.get_agreement()
    mean = each if isinstance(each, pd.Series) else each.mean()
    return result | {"epochs": len(compared.data), "pooled": _shares(pooled), "mean": _shares(mean)}


def agreement(reference, observed, names, size, evaluate):
    """Return `epoch_agreement` with intervals, chance and confusion beside it.

    Parameters
    ----------
    reference, observed : dict of str to int array (m,)
        Stages of 30 s epochs by night.
    names : (str, str)
    size : int
        Epochs in a stretch that the bootstrap draws.
    evaluate : sleep_interpreter.train.settings.experiment.EvaluateSettings
        Its `bootstrap` and `seed`.

    Returns
    -------
    result : dict
        And "interval" {measure: [low, high]}, "chance", "confusion" (4, 4) counts of epochs that both scored.
    """
    tables = [staging_metrics.blocks(reference[n], observed[n], size) for n in reference]
    counts = sum(staging_metrics.confusion(reference[n], observed[n]) for n in reference)
    return epoch_agreement(reference, observed, names) | {
        "interval": staging_metrics.intervals(tables, evaluate.bootstrap, evaluate.seed),
        "chance": staging_metrics.agreement(counts)["chance"],
        "confusion": counts.tolist(),
    }


def _shares(measures):
    percent = ("accuracy", "balanced_acc", "precision", "f1")
    values = {key: float(value) / (100 if key in percent else 1) for key, value in measures.items()}
    return {key: value if np.isfinite(value) else None for key, value in values.items()}


def bland_altman(reference, observed):
    """Return bias and limits of agreement of sleep statistics (Bland and Altman 1986), observed - reference.

    Parameters
    ----------
    reference, observed : dict of str to int array (m,)
        Stages of 30 s epochs by night.

    Both count the epochs alone that both scored: what one could not stage is no wakefulness. Nights without
    such an epoch are left out.

    Returns
    -------
    result : dict
        {statistic: {n, mean, difference (one a night), bias, bias_low, bias_high (95 %, t), sd, loa_low,
        loa_high (bias -+ 1.96 SD)}}; limits are None below `FEWEST_NIGHTS` nights. A night in which a
        statistic is not defined (latency of R without R) is left out of it.
    """
    rows = []
    for night in reference:
        pair = [np.asarray(scored[night]) for scored in (reference, observed)]
        both = (pair[0] != UNKNOWN) & (pair[1] != UNKNOWN)
        if both.any():
            rows.append([night_statistics(to_yasa(codes[both])) for codes in pair])
    result = {}
    for key in STATISTICS:
        pairs = np.array([[one[key], other[key]] for one, other in rows], float).reshape(-1, 2)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        difference = pairs[:, 1] - pairs[:, 0]
        n = len(difference)
        row = {"n": n, "mean": pairs.mean(axis=1).tolist(), "difference": difference.tolist()}
        row |= dict.fromkeys(("bias", "bias_low", "bias_high", "sd", "loa_low", "loa_high"))
        if n:
            row["bias"] = float(difference.mean())
        if n >= FEWEST_NIGHTS:
            sd = float(difference.std(ddof=1))
            half = float(stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n))
            bias = row["bias"]
            row |= {"sd": sd, "bias_low": bias - half, "bias_high": bias + half,
                    "loa_low": bias - 1.96 * sd, "loa_high": bias + 1.96 * sd}  # fmt: skip
        result[key] = row
    return result


@contextmanager
def _yasa_quiet():
    """Keep YASA and scikit-learn from warning of stages that a night lacks; that is no news here."""
    logger = logging.getLogger("yasa")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
