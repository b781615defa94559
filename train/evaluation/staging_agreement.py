"""Stagers beside each other and beside the expert: agreement epoch by epoch, and Bland-Altman."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from sleep_interpreter.data.formats.hypnograms import STATISTICS, night_statistics, to_yasa
from sleep_interpreter.train.evaluation.paired_values import mean_of_differences
from sleep_interpreter.utils.core.constants import UNKNOWN
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.metrics import staging_metrics
from sleep_interpreter.utils.metrics.statistics import Resampling

Stages = Mapping[str, np.ndarray]
"""Stages of 30 s epochs, int array (m,), by night."""
FEWEST_NIGHTS = 3
"""Limits of agreement of fewer nights would be guesses."""


def epoch_agreement(reference: Stages, observed: Stages, names: tuple[str, str]) -> dict[str, Any]:
    """Return the agreement of two scorers, called `names`, as yasa.EpochByEpochAgreement measures it.

    Epochs that either does not know (-1) are left out; a code that is no stage, a night of one scorer alone and nights
    of unequal length are refused. The result: scorers, nights, epochs (scored by both),
    nights_left_out (nothing in common), pooled and mean over nights ({accuracy, balanced_acc, kappa, mcc, precision,
    f1}, the last two weighted by how often the reference names a stage; None where one is not defined).
    """
    pairs = _scored_by_both(reference, observed, names)
    kept = [pair for pair in pairs.values() if pair.size]
    left_out = [night for night, pair in pairs.items() if not pair.size]
    result = {"scorers": list(names), "nights": len(kept), "nights_left_out": left_out}
    if not kept:
        return result | {"epochs": 0, "pooled": None, "mean": None}
    together, each = np.concatenate(kept, axis=1), [_scores(*pair) for pair in kept]
    mean = {key: mean_of_known([scores[key] for scores in each]) for key in each[0]}
    return result | {"epochs": together.shape[1], "pooled": _scores(*together), "mean": mean}


def _scored_by_both(reference: Stages, observed: Stages, names: tuple[str, str]) -> dict[str, np.ndarray]:
    """Return the stages of the epochs that both know, int array (2, n), by night."""
    if alone := sorted(set(reference) ^ set(observed)):
        raise UserError(f"{' and '.join(names)}: night {alone[0]!r} was scored by one of them alone; leave it out")
    pairs = {}
    for night in reference:
        one, other = (
            staging_metrics.stage_codes(scored[night], f"{name}, night {night}")
            for scored, name in zip((reference, observed), names, strict=True)
        )
        if len(one) != len(other):
            raise UserError(
                f"night {night}: {len(one)} epochs of {names[0]}, {len(other)} of {names[1]}; an epoch of both has to "
                "be the same 30 s"
            )
        pair = np.array([one, other])
        pairs[night] = pair[:, (pair != UNKNOWN).all(axis=0)]
    return pairs


def _scores(reference: np.ndarray, observed: np.ndarray) -> dict[str, float | None]:
    from sklearn import metrics  # lazy: start-up

    with warnings.catch_warnings():  # stages that a night lacks are no news
        warnings.simplefilter("ignore")
        weighted = {"average": "weighted", "zero_division": 0}
        found = {
            "accuracy": metrics.accuracy_score(reference, observed),
            "balanced_acc": metrics.balanced_accuracy_score(reference, observed),
            "kappa": staging_metrics.cohen_kappa(staging_metrics.confusion(reference, observed)),
            "mcc": metrics.matthews_corrcoef(reference, observed),
            "precision": metrics.precision_score(reference, observed, **weighted),
            "f1": metrics.f1_score(reference, observed, **weighted),
        }
    return {key: float(value) if np.isfinite(value) else None for key, value in found.items()}


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is not None; None of nothing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def agreement(reference: Stages, observed: Stages, names: tuple[str, str], size: int) -> dict[str, Any]:
    """Return `epoch_agreement` and "interval" {measure: [low, high]}, "chance", "confusion" (4, 4) of the same
    epochs.

    Intervals take stretches of `size` epochs as units within nights.
    """
    result = epoch_agreement(reference, observed, names)
    pairs = [(reference[night], observed[night]) for night in reference]
    pooled = staging_metrics.pooled_agreement(pairs, size)
    more = {key: pooled[key] for key in ("interval", "chance", "confusion")}
    return result | more


def paired_scorers(
    reference: Stages, first: Stages, second: Stages, names: tuple[str, str], evaluate: Resampling
) -> dict[str, Any]:
    """Test over nights whether one scorer, called `names[0]`, agrees better with the reference than another.

    Of each night the epochs count that all three know; nights without one are left out. The result: scorers, epochs,
    nights_left_out, and for each of `staging_metrics.MEASURES` the difference first - second over nights, as
    `paired_values.mean_of_differences` tests it (nights where a measure is not defined do not count).
    """
    rows, left_out, epochs = [], [], 0
    for night in reference:
        codes = np.array([reference[night], first[night], second[night]], int)
        truth, *both = codes[:, (codes != UNKNOWN).all(axis=0)]
        if not len(truth):
            left_out.append(night)
            continue
        epochs += len(truth)
        rows.append([staging_metrics.agreement(staging_metrics.confusion(truth, own)) for own in both])
    result: dict[str, Any] = {"scorers": list(names), "epochs": epochs, "nights_left_out": left_out}
    for measure in staging_metrics.MEASURES:
        known = [[row[measure] for row in pair] for pair in rows]
        values = [one - other for one, other in known if one is not None and other is not None]
        result[measure] = mean_of_differences(values, evaluate.permutations, evaluate.seed)
    return result


def bland_altman(reference: Stages, observed: Stages) -> dict[str, dict]:
    """Return bias and limits of agreement of sleep statistics (Bland and Altman 1986), observed - reference.

    Both count the epochs alone that both scored: what one could not stage is no wakefulness. Nights without such an
    epoch are left out, and from a statistic those in which it is not defined (latency of R without R). The result is
    {statistic: {n, mean, difference (one a night), bias, bias_low, bias_high (95 %, t), sd, loa_low, loa_high (bias
    -+ 1.96 SD)}}; limits are None below `FEWEST_NIGHTS` nights.
    """
    pairs = _scored_by_both(reference, observed, ("the reference", "the other scorer")).values()
    rows = [[night_statistics(to_yasa(codes)) for codes in pair] for pair in pairs if pair.size]
    result = {}
    for key in STATISTICS:
        values = np.array([[one[key], other[key]] for one, other in rows], float).reshape(-1, 2)
        values = values[np.isfinite(values).all(axis=1)]
        difference = values[:, 1] - values[:, 0]
        n = len(difference)
        row = {"n": n, "mean": values.mean(axis=1).tolist(), "difference": difference.tolist()}
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
