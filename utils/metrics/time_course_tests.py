"""Statistics of accuracies over time, the subject being the unit: bands, clusters, peaks, permuted labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from scipy.stats import t as student

from sleep_interpreter.utils.metrics import exchangeability, statistics
from sleep_interpreter.utils.metrics.exchangeability import Exchange, Permute
from sleep_interpreter.utils.metrics.statistics import Resampling


class ClusterSettings(Resampling, Protocol):
    """Settings of a cluster test: also the one-sided p of a sample from which it may join a cluster."""

    @property
    def cluster_p(self) -> float: ...


def band(hits: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the 95 % interval, low and high (T,), of mean accuracy over subjects at every sample of its own.

    `hits` (S, T) are of `n` (S,) trials; `statistics.mean_interval`, None of one subject.
    """
    if len(hits) < 2:
        return None
    variance = statistics.rate_variance(hits, np.asarray(n)[:, None])
    return statistics.mean_interval(hits / np.asarray(n)[:, None], np.sqrt(np.sum(variance, axis=0)) / len(hits))


FOLDS_PART = "its folds part trials of one stretch; set split=contiguous, or by_run where runs are known"
"""Why nothing is tested where a decoder is tested beside the trials that trained it."""


def clusters(
    values: np.ndarray, chance: float | np.ndarray, settings: ClusterSettings, why: str | None = None
) -> tuple[dict[str, Any], np.ndarray]:
    """Find where accuracy is above chance over subjects: a cluster-based permutation test.

    Maris and Oostenveld (2007, J Neurosci Methods 164), by mne.stats: samples whose one-sided t exceeds a threshold
    join their neighbours (in both directions of a map), and a cluster's sum of t is held against the largest of every
    permutation, in which subjects' differences from chance change their sign at random. The test says that there is
    something above chance; where a cluster begins and ends is no test of its own.

    Of values (S, T) or (S, rows, T), and chance as one number or of the same shape, returns subjects, clusters (list of
    {"p", "size", "first", "last"}, in samples, of all that were found) and note; and a mask, like one subject's values,
    of samples of clusters with p < 0.05. `why`: nothing may be tested (`leaking`).
    """
    import mne  # lazy: start-up

    values = np.asarray(values, np.float64)
    mask = np.zeros(values.shape[1:], bool)
    count = len(values)
    if why := why or statistics.too_few_subjects(count):
        return {"subjects": count, "clusters": [], "note": why}, mask
    threshold = float(student.ppf(1 - settings.cluster_p, count - 1))
    with mne.utils.use_log_level("ERROR"):
        _, found, p_values, _ = mne.stats.permutation_cluster_1samp_test(
            values - chance, threshold=threshold, n_permutations=settings.permutations, tail=1, stat_fun=_steady_t,
            out_type="mask", seed=settings.seed,
        )  # fmt: skip
    rows = []
    for cluster, p in zip(found, p_values, strict=True):
        inside = np.zeros(mask.shape, bool)
        inside[cluster] = True
        places = np.argwhere(inside)
        first, last = places.min(axis=0).tolist(), places.max(axis=0).tolist()
        rows.append({"p": float(p), "size": int(inside.sum()), "first": first, "last": last})
        mask |= inside & (p < 0.05)
    note = f"one-sided, t > {threshold:.3f}, {settings.permutations} sign flips (all where there are fewer)"
    return {"subjects": count, "clusters": sorted(rows, key=lambda row: row["p"]), "note": note}, mask


def _steady_t(values: np.ndarray) -> np.ndarray:
    """Return one-sample t, steadied where all subjects are alike (Ridgway et al., 2012, NeuroImage 59)."""
    import mne  # lazy: start-up

    if not np.ptp(values, axis=0).any():  # nobody differs anywhere: t is infinite, or 0
        return 1e6 * np.sign(values.mean(axis=0))
    return mne.stats.ttest_1samp_no_p(values, sigma=1e-3)


def peaks_within(results: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, Any]]:
    """Return every subject's accuracy at the time that its validation trials choose, fold by fold.

    Of {subject: result of `lasso_glm.engine.fits.within`}, rows have hits, n, cells (one a fold: fold, time sample),
    recalled (K,), the hits of every class, decoded and cued (folds, K) at these cells, predicted (n,) of every trial,
    and its label, fold and, where known, run.
    """
    rows = {}
    for name, own in results.items():
        chosen = own["validation_hits"].argmax(axis=1)  # the earliest of equals
        folds = np.arange(len(chosen))
        predicted = own["predicted"][np.arange(len(own["label"])), chosen[own["fold"]]]
        rows[name] = _peak_row(own, (folds, chosen), chosen.tolist(), predicted)
    return rows


def _peak_row(
    own: Mapping[str, np.ndarray], at: tuple[Any, ...], cells: list[Any], predicted: np.ndarray
) -> dict[str, Any]:
    """Return a subject's hits and decisions at the chosen places (a number a fold), and those of each trial."""
    hits, decoded = np.atleast_1d(own["hits"][at]), np.atleast_2d(own["decoded"][at])
    cued = np.atleast_2d(own["cued"])
    recalled = np.atleast_2d(own["recalled"][at]).sum(axis=0)
    return {"hits": int(hits.sum()), "n": int(np.sum(own["n"])), "cells": cells, "recalled": recalled,
            "decoded": decoded, "cued": cued, "predicted": predicted,
            **{key: own[key] for key in ("label", "fold", "run") if key in own}}  # fmt: skip


def chance_of(own: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a subject's chance at every place, (T,) or (offsets, T), of a result of `lasso_glm.engine.fits`.

    It is the mean over all orders of the labels within each fold, exactly (`statistics.expected_hits`).
    """
    cued, decoded = own["cued"], own["decoded"]
    if cued.ndim == 1:  # one set of test trials, without folds
        return statistics.expected_hits(cued, decoded) / own["n"]
    return statistics.expected_hits(cued[:, None], decoded).sum(axis=0) / own["n"].sum()


def peaks_across(results: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, Any]]:
    """Return every subject's accuracy at the offset and time that the other half of the subjects chooses.

    Trained and tested on all trials of each side, a subject has none left to choose with. Every second one is in the
    same half. Choosing by all others would not do: each accuracy by itself would be fair, but what one subject adds
    to the others' choices makes the accuracies depend on each other, and their mean spreads twice as wide as any test
    or interval over subjects takes it to. Of {subject: result of one test set of `lasso_glm.engine.fits.cross`}, rows
    are as those of `peaks_within` with one [offset, time sample] in cells; there are none with a single subject.
    """
    if len(results) < 2:
        return {}
    maps = {name: own["hits"] / own["n"] for name, own in results.items()}
    halves = [list(maps)[start::2] for start in (0, 1)]
    totals = [sum(maps[name] for name in half) for half in halves]
    rows = {}
    for place, (name, own) in enumerate(results.items()):
        others = totals[1 - place % 2]
        offset, sample = np.unravel_index(np.argmax(np.round(others, 12)), others.shape)
        rows[name] = _peak_row(own, (offset, sample), [[int(offset), int(sample)]], own["predicted"][:, offset, sample])
    return rows


def peak(rows: Mapping[str, dict[str, Any]], settings: Resampling) -> dict[str, Any] | None:
    """Summarise nested peaks (`peaks_within` or `peaks_across`) over subjects; None without subjects.

    The result is that of `statistics.over_subjects` with against_chance (`statistics.against_chance`, each subject
    against its own) and permutation: p, mean, low and high (95 %) of the same mean with labels permuted within fold and
    subject; "balanced", the same of balanced accuracy without permutation; "prevalence" and "unequal" (of
    `statistics`).
    """
    if not rows:
        return None
    seed, names = settings.seed, list(rows)
    correct = [np.arange(rows[name]["n"]) < rows[name]["hits"] for name in names]
    chance = [float(statistics.expected_hits(row["cued"], row["decoded"]).sum() / row["n"]) for row in rows.values()]
    result = statistics.over_subjects(correct, statistics.mean_chance(chance))
    accuracies = [own.mean() for own in correct]
    tables = [(row["recalled"], row["cued"].sum(axis=0)) for row in rows.values()]
    even = [statistics.expected_recall(row["cued"], row["decoded"]) for row in rows.values()]
    balanced = statistics.balanced_over_subjects(tables, statistics.mean_chance(even))
    recall = [float(statistics.mean_recall(*table)) for table in tables]
    random = np.random.default_rng(seed)
    exchanges = [exchange_of(rows[name], settings.permute) for name in names]
    why = leaking(exchanges)
    balanced["against_chance"] = statistics.against_chance(recall, even, settings.permutations, seed, why)
    pairs = zip(names, exchanges, strict=True)
    nulls = [permuted(rows[name], settings.permutations, random, exchange) for name, exchange in pairs]
    tested, null = statistics.over_permuted(accuracies, nulls, exchanges)
    low, high = (None, None) if null is None else map(float, np.percentile(null, [2.5, 97.5]))
    return {
        **result,
        "against_chance": statistics.against_chance(accuracies, chance, settings.permutations, seed, why),
        "balanced": balanced,
        "prevalence": tested["prevalence"],
        "unequal": statistics.unequal([cued for _, cued in tables]),
        "permutation": {**tested["permutation"], "low": low, "high": high},
    }


def exchange_of(own: Mapping[str, Any], permute: Permute) -> Exchange:
    """Return how the labels of a subject's test trials may be permuted: label (n,), with fold, run and order (of time)
    where there are.

    Nothing may be exchanged where folds cut stretches of one item: a decoder tested beside the trials that trained it
    knows what drifts, whatever it is told.
    """
    label, run, order = own["label"], own.get("run"), own.get("order")
    found = exchangeability.exchange(label, run, permute, order)
    if "fold" not in own or found.as_one:
        return found
    stretch = exchangeability.stretches(label, run, order)
    if any(np.ptp(own["fold"][stretch == k]) for k in range(stretch.max() + 1)):
        return replace(found, kind="none", note=FOLDS_PART)
    groups = [own["fold"]] if run is None else [own["fold"], np.unique(run, return_inverse=True)[1]]
    within = np.unique(np.stack(groups), axis=1, return_inverse=True)[1].reshape(-1)
    return exchangeability.exchange(label, within, permute, order)


def leaking(exchanges: Sequence[Exchange]) -> str | None:
    """Return why nothing is tested over subjects where folds part stretches of one item: decoders knew the drift.

    A file that may have been sorted (as the released ones of single trials may be) is tested as it always was. One
    subject in some 2000 has such an order by chance: two are asked for.
    """
    count = sum(own.note == FOLDS_PART and not own.perhaps_sorted for own in exchanges)
    few = count < min(2, len(exchanges)) or not count
    return None if few else f"not tested over subjects: of {count} of {len(exchanges)}, {FOLDS_PART}"


def permuted(
    row: Mapping[str, Any], permutations: int, random: np.random.Generator, exchange: Exchange | None = None
) -> np.ndarray | None:
    """Return accuracies (permutations,) of fixed decisions under labels permuted within fold, or as `exchange` says.

    How often each class was due and how often it was decoded is all that decides about the former. None where nothing
    may be exchanged.
    """
    hits = np.zeros(permutations, np.int64)
    if exchange is not None and not exchange.as_one:
        if exchange.kind == "none":
            return None
        step = max(1, 2_000_000 // max(1, row["n"]))
        for start in range(0, permutations, step):
            shuffled = exchange.shuffled(min(step, permutations - start), random)
            hits[start : start + step] = (shuffled == row["predicted"]).sum(axis=1)
        return hits / row["n"]
    for decoded, cued in zip(row["decoded"], row["cued"], strict=True):
        decisions, label = (np.repeat(np.arange(len(counts)), counts) for counts in (decoded, cued))
        step = max(1, 2_000_000 // max(1, len(label)))
        for start in range(0, permutations, step):
            some = min(step, permutations - start)
            shuffled = random.permuted(np.broadcast_to(label, (some, len(label))), axis=1)
            hits[start : start + some] += (shuffled == decisions).sum(axis=1)
    return hits / row["n"]
