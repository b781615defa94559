"""Statistics of a decoder's hits: intervals that say how much to believe, tests that say against what.

Three measures share one ranking of a trial's classes: top-1, top-3 and balanced accuracy (the mean of the
classes' recalls, so that frequent items do not count for more). Ties in probability go to the class that
comes first in the vocabulary, as with `numpy.argmax`; the rule does not look at the label.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from sleep_interpreter.utils.metrics.exchangeability import LEVEL, Exchange, Permute, testable

MEASURES = ("top1", "top3", "balanced")
NAMES = {"top1": "top-1", "top3": "top-3", "balanced": "balanced accuracy"}
FEWEST_SUBJECTS = 6
"""Subjects needed for a test over subjects: with 5, no two-sided signed-rank or sign-flip p is below 0.05."""

Trials = tuple[np.ndarray, np.ndarray]
"""Label (n,) and whether correct (n,) of one subject's trials."""
Counts = tuple[np.ndarray, np.ndarray]
"""Hits (K,) and trials (K,) of every class."""
MOST_ENUMERATED = 13
"""Subjects up to which the signed-rank test takes every sign flip, as `scipy.stats.wilcoxon` does where ranks tie."""
Z = float(stats.norm.ppf(0.975))


class Resampling(Protocol):
    """Settings of tests: permutations, their seed, and what permuted labels exchange."""

    @property
    def permutations(self) -> int: ...
    @property
    def permute(self) -> Permute: ...
    @property
    def seed(self) -> int: ...


def chances(classes: int) -> dict[str, float]:
    """Return what guessing gets on each measure where items are equally frequent: 1/K, 3/K, 1/K."""
    return {"top1": 1 / classes, "top3": min(3, classes) / classes, "balanced": 1 / classes}


def chance(label: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Return what one subject's predictions (n, K) get on each measure by chance: the mean over all orders of its
    labels (n,), exactly.

    It depends on which items are present, how often each was cued and how often each was decoded, and on nothing else:
    a decoder that always says the most frequent item has that item's share as chance. With every item cued equally
    often it is 1/K, 3/K and 1/K, as it is said to be where there are no trials.
    """
    places = ranking(probability)
    n, classes = places.shape
    if not n:
        return chances(classes)
    cued, first, three = np.bincount(label, minlength=classes), (places == 0).sum(axis=0), (places < 3).sum(axis=0)
    return {
        "top1": float(expected_hits(cued, first) / n),
        "top3": float(expected_hits(cued, three) / n),
        "balanced": float(first[cued > 0].sum() / n / np.count_nonzero(cued)),
    }


def chance_of_guesses(label: np.ndarray, guess: np.ndarray, classes: int) -> float:
    """Return what guesses (n,) get in top-1 by chance, as `chance` does; 1/K without any."""
    if not len(label):
        return 1 / classes
    return float(expected_hits(*(np.bincount(own, minlength=classes) for own in (label, guess))) / len(label))


def expected_hits(cued: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Return the mean number of hits over all orders of the labels, (...), of trials (..., K) that each class was cued
    and decoded."""
    cued = np.asarray(cued)
    return (cued * decoded).sum(axis=-1) / cued.sum(axis=-1)


def expected_recall(cued: np.ndarray, decoded: np.ndarray) -> float:
    """Return the mean balanced accuracy over all orders of the labels within each fold, of trials (folds, K)."""
    cued = np.atleast_2d(cued)
    hits = (cued * decoded / cued.sum(axis=-1, keepdims=True)).sum(axis=0)
    return float(mean_recall(hits, cued.sum(axis=0)))


def mean_chance(values: Sequence[float] | np.ndarray) -> float:
    """Return the mean of subjects' chance levels (S,): the very number where it is the same in all."""
    return float(values[0] + np.mean(np.subtract(values, values[0])))


def unequal(cued: Sequence[np.ndarray]) -> str | None:
    """Return how often items were cued, in words, where one was cued more often than another or is missing; or None.

    `cued` are trials (K,) of every class, of each subject or group.
    """
    counts = [np.asarray(own) for own in cued if np.sum(own)]
    if all(np.ptp(own) == 0 for own in counts):
        return None
    present = [int(np.count_nonzero(own)) for own in counts]
    some = f"{min(present)}" if min(present) == max(present) else f"{min(present)} to {max(present)}"
    fewest, most = min(own[own > 0].min() for own in counts), max(own.max() for own in counts)
    return f"{some} of {len(counts[0])} items present, cued {fewest} to {most} times each"


def ranking(probability: np.ndarray) -> np.ndarray:
    """Return the place of every class in every trial, 0 for the most probable: int array (n, K)."""
    order = np.argsort(-np.asarray(probability, float), axis=1, kind="stable")
    places = np.empty(order.shape, np.int16)
    np.put_along_axis(places, order, np.arange(order.shape[1], dtype=np.int16)[None], axis=1)
    return places


def true_rank(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return the place of the true class: int array (n,); 0 is a top-1 hit, below 3 a top-3 hit."""
    return ranking(probability)[np.arange(len(label)), label]


def tied(probability: np.ndarray) -> int:
    """Count the trials in which the tie rule decides what is first, or what is among the first three."""
    ordered = -np.sort(-np.asarray(probability), axis=1)
    places = [place for place in (0, 2) if place + 1 < ordered.shape[1]]
    return int(np.any([ordered[:, place] == ordered[:, place + 1] for place in places], axis=0).sum())


def confusion_counts(truth: ArrayLike, found: ArrayLike, classes: int) -> np.ndarray:
    """Return how often each true class (row) was called each (column): int array (K, K)."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (np.asarray(truth), np.asarray(found)), 1)
    return counts


def class_counts(label: np.ndarray, correct: np.ndarray, classes: int = 0) -> Counts:
    """Return hits and trials of every class: two int arrays (K,), K the larger of `classes` and those met."""
    n = np.bincount(label, minlength=classes)
    return np.bincount(np.asarray(label)[np.asarray(correct, bool)], minlength=len(n)), n


def proportion(hits: int, n: int, chance: float) -> dict[str, Any]:
    """Return a hit rate of one subject with its Wilson 95 % interval; guessing gets `chance`.

    The row: n, hits, accuracy, low, high, chance, p (one-sided binomial against chance); None where n is 0.
    """
    if n == 0:
        return {"n": 0, "hits": 0, "accuracy": None, "low": None, "high": None, "chance": chance, "p": None}
    low, high = _wilson(hits, n)
    p = float(stats.binomtest(hits, n, chance, alternative="greater").pvalue)
    row = {"n": int(n), "hits": int(hits), "accuracy": hits / n, "low": low, "high": high}
    return {**row, "chance": chance, "p": p}


def _wilson(hits: float, n: int) -> tuple[float, float]:
    interval = stats.binomtest(int(hits), int(n)).proportion_ci(0.95, method="wilson")
    return interval.low, interval.high


def balanced(
    hits: np.ndarray, n: np.ndarray, resamples: int, seed: int | Sequence[int], chance: float
) -> dict[str, Any]:
    """Return balanced accuracy of one subject with a bootstrap 95 % interval over trials, from `class_counts` (K,).

    Classes without a trial have no recall and are left out of the mean. Trials are drawn with replacement
    irrespective of their class, so the interval also covers that other trials would have other classes. The row: n,
    classes (with trials), accuracy, low, high, chance; None where there are no trials.
    """
    total, row = int(np.sum(n)), dict.fromkeys(("accuracy", "low", "high"))
    if total:
        cells = np.concatenate([hits, np.subtract(n, hits)])
        counts = np.random.default_rng(seed).multinomial(total, cells / total, size=resamples)
        draws = mean_recall(counts[:, : len(n)], counts[:, : len(n)] + counts[:, len(n) :])
        accuracy = float(mean_recall(np.asarray(hits), np.asarray(n)))
        # drawn anew, trials that all hit or all miss would never differ
        alike = accuracy in (0, 1)
        low, high = _wilson(accuracy * total, total) if alike else np.percentile(draws, [2.5, 97.5])
        row = {"accuracy": accuracy, "low": float(low), "high": float(high)}
    return {"n": total, "classes": int(np.count_nonzero(n)), **row, "chance": chance}


def half_widths(
    values: np.ndarray, within: float | np.ndarray = 0.0, tails: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return how far down and up (...) the 95 % interval of the mean over subjects (nights) of values (S, ...) reaches.

    Student's t with S - 1 degrees of freedom, and never less than what the trials alone leave open, were all subjects
    alike: `within` is that standard error (...) of the mean. `tails`: longer as `lengthened` says, of differences,
    whose skewness no scale makes up for.
    """
    values = np.asarray(values, float)
    count = len(values)
    least = Z * np.asarray(within, float)
    if count < 2:
        return least, least
    spread, t = values.std(axis=0, ddof=1) / np.sqrt(count), stats.t.ppf(0.975, count - 1)
    half = t * spread
    ends = lengthened(half, spread, t, third_moment(values) / count**2) if tails else (half, half)
    return np.maximum(least, ends[0]), np.maximum(least, ends[1])


def third_moment(values: np.ndarray) -> np.ndarray:
    """Return the third central moment (...) of a population from values (S, ...), unbiased; 0 of fewer than three."""
    count = len(values)
    if count < 3:
        return np.zeros(np.shape(values)[1:])
    return ((values - values.mean(axis=0)) ** 3).sum(axis=0) * count / ((count - 1) * (count - 2))


def lengthened(
    half: np.ndarray, spread: np.ndarray, t: float | np.ndarray, third: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return half an interval's width down and up (...), the side of the longer tail lengthened for the skewness.

    The first-order term of Johnson (1978), of an estimate of standard error `spread` and third central moment `third`
    (...). The other side is not shortened: few values that hold none of a tail say nothing against it.
    """
    more = (1 + 2 * t**2) / 6 * third / np.where(spread > 0, spread, 1.0) ** 2
    return half + np.maximum(-more, 0), half + np.maximum(more, 0)


def mean_interval(
    values: np.ndarray, within: float | np.ndarray = 0.0, bounds: tuple[float, float] = (0.0, 1.0),
    centre: np.ndarray | None = None, tails: bool = False,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the 95 % interval, low and high (...), of the mean over subjects (nights, blocks) of values (S, ...).

    It reaches as far as `half_widths` say, on the scale of the logit (delta method), so that limits stay within the
    `bounds` of what is measured and reach further to the side that has room, as few low rates need it. `centre`: what
    is estimated, where `values` are its jackknife pseudo-values. `tails`: of differences.

    Measured coverage: docs/statistics.md. Percentiles of a bootstrap of few subjects cover less.
    """
    values = np.asarray(values, float)
    centre = values.mean(axis=0) if centre is None else np.asarray(centre)
    low, width = bounds[0], bounds[1] - bounds[0]
    share = np.clip((centre - low) / width, 0, 1)
    inside = (share > 0) & (share < 1)
    safe = np.where(inside, share, 0.5)
    place, slope = special.logit(safe), safe * (1 - safe)
    down, up = (half / width for half in half_widths(values, within, tails))
    least = np.where(inside, special.expit(place - down / slope), np.clip(share - down, 0, 1))
    most = np.where(inside, special.expit(place + up / slope), np.clip(share + up, 0, 1))
    return low + width * least, low + width * most


def rate_variance(hits: float | np.ndarray, n: float | np.ndarray) -> float | np.ndarray:
    """Return the sampling variance of a hit rate, with two hits and two misses added (Agresti and Coull 1998)."""
    p = (np.asarray(hits) + 2) / (np.asarray(n) + 4)
    return p * (1 - p) / (np.asarray(n) + 4)


def over_subjects(correct: Sequence[np.ndarray], chance: float) -> dict[str, Any]:
    """Return the mean hit rate over subjects with its 95 % interval, for the next subject (`mean_interval`).

    One subject gives an interval over its trials only. Where all trials hit or all miss, and of one subject, it is
    Wilson's over the trials. `correct` is a bool array (n,) a subject; those without trials are left out. The row:
    subjects, n, accuracy (mean over subjects), low, high, chance, pooled (over trials).
    """
    counts = [(int(np.sum(c)), len(c)) for c in correct if len(c)]
    variance = [float(rate_variance(h, n)) for h, n in counts]
    pooled = sum(h for h, _ in counts) / max(1, sum(n for _, n in counts))
    return _group_row([h / n for h, n in counts], variance, sum(n for _, n in counts), chance, pooled)


def balanced_over_subjects(tables: Sequence[Counts], chance: float) -> dict[str, Any]:
    """Return mean balanced accuracy over subjects from the `class_counts` of each, as `over_subjects` does."""
    tables = [(np.asarray(h), np.asarray(n)) for h, n in tables if np.sum(n)]
    values = [float(mean_recall(h, n)) for h, n in tables]
    pooled = float(mean_recall(*(sum(column) for column in zip(*tables, strict=True)))) if tables else 0.0
    variance = [_balanced_variance(h, n) for h, n in tables]
    return _group_row(values, variance, sum(int(n.sum()) for _, n in tables), chance, pooled)


def _balanced_variance(hits: np.ndarray, n: np.ndarray) -> float:
    """Return the sampling variance of a mean recall, as if all classes were equally hard: an upper bound."""
    return _over_classes(float(rate_variance(hits.sum(), n.sum())), n)


def _over_classes(variance: float, n: np.ndarray) -> float:
    """Return the variance of the mean over classes of trials (K,), from that of the mean over all trials."""
    own = n[n > 0]
    return float(variance * n.sum() * (1 / own).sum() / len(own) ** 2)


def _group_row(
    values: Sequence[float], variance: Sequence[float], trials: int, chance: float, pooled: float
) -> dict[str, Any]:
    if not values:
        empty = dict.fromkeys(("accuracy", "low", "high", "pooled"))
        return {"subjects": 0, "n": 0, **empty, "chance": chance}
    ends = mean_interval(np.array(values), np.sqrt(sum(variance)) / len(values))
    low, high = map(float, ends)
    if pooled in (0, 1) or len(values) == 1:
        low, high = _wilson(pooled * trials, trials)
    mean = {"accuracy": float(np.mean(values)), "low": low, "high": high}
    return {"subjects": len(values), "n": trials, **mean, "chance": chance, "pooled": float(pooled)}


def mean_recall(hits: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return the mean over the classes that have trials of hits / n, along the last axis."""
    recall = np.divide(hits, n, out=np.zeros(np.shape(n)), where=n > 0)
    return recall.sum(axis=-1) / (n > 0).sum(axis=-1)


def permutation_null(
    label: np.ndarray, probability: np.ndarray, permutations: int, random: np.random.Generator,
    exchange: Exchange | None = None,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:  # fmt: skip
    """Return every measure of the same predictions with the true labels, and (permutations,) under shuffled ones.

    The labels (n,) of one subject are permuted against its fixed predictions (n, K), which keeps both how often each
    item was cued and how often each was decoded; trials are taken as exchangeable, or what `exchange` says.
    """
    label = np.asarray(label)
    places = ranking(probability)
    n, classes = places.shape
    present = np.bincount(label, minlength=classes)
    weight = np.divide(1.0, present * np.count_nonzero(present), out=np.zeros(classes), where=present > 0)

    def measures(labels: np.ndarray) -> dict[str, np.ndarray]:
        rank = places[np.arange(n), labels]
        first = rank == 0
        return {"top1": first.mean(axis=-1), "top3": (rank < 3).mean(axis=-1),
                "balanced": (first * weight[labels]).sum(axis=-1)}  # fmt: skip

    null = {measure: np.empty(permutations) for measure in MEASURES}
    step = max(1, 1_000_000 // n)  # a few megabytes at a time
    for start in range(0, permutations, step):
        stop = min(start + step, permutations)
        if exchange is None:
            shuffled = random.permuted(np.broadcast_to(label, (stop - start, n)), axis=1)
        else:
            shuffled = exchange.shuffled(stop - start, random)
        for measure, values in measures(shuffled).items():
            null[measure][start:stop] = values
    return {measure: float(value) for measure, value in measures(label).items()}, null


def permutation_p(observed: float, null: np.ndarray) -> dict[str, Any]:
    """Return the one-sided p (1 + number at least as high) / (1 + permutations), and the null's mean."""
    at_least = int(np.sum(np.asarray(null) >= observed - 1e-9))  # another order of sums may round otherwise
    return {"p": (1 + at_least) / (1 + len(null)), "mean": float(np.mean(null)), "permutations": len(null)}


def exchanged_p(observed: float, null: np.ndarray | None, exchanges: Sequence[Exchange]) -> dict[str, Any]:
    """Return `permutation_p` of the mean over subjects whose labels were permuted as `exchanges` say.

    Where that is not simply by trials, "unit" says by what, and p is None, with the reason in "note", where there are
    too few orders for p <= 0.05 (null is None: nothing may be exchanged).
    """
    if null is None:
        why = [own.note for own in exchanges if own.note]
        return {"p": None, "mean": None, "permutations": 0, **({"note": why[0]} if why else {})}
    found = permutation_p(observed, null)
    if all(own.as_one for own in exchanges):
        return found
    found["unit"] = " and ".join(sorted({own.kind for own in exchanges}))
    if not testable(exchanges):
        few = exchanges[0].untestable() if len(exchanges) == 1 else "too few orders of all subjects for p <= 0.05"
        return found | {"p": None, "note": few}
    return found


def over_permuted(
    observed: Sequence[float], nulls: Sequence[np.ndarray | None], exchanges: Sequence[Exchange]
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Return "permutation" (`exchanged_p` of the mean over subjects) and "prevalence", and the mean's null or None.

    Of every subject's accuracy, the same under permuted labels (None: they may not be), and how they were permuted.
    Subjects without are left out, and of the prevalence those too that have too few orders.
    """
    kept = [(a, null, e) for a, null, e in zip(observed, nulls, exchanges, strict=True) if null is not None]
    null = np.mean([own for _, own, _ in kept], axis=0) if kept else None
    mean = float(np.mean([value for value, _, _ in kept])) if kept else 0.0
    alone = [exchanged_p(value, own, [exchange])["p"] for value, own, exchange in kept]
    found = {
        "permutation": exchanged_p(mean, null, [exchange for _, _, exchange in kept] or exchanges),
        "prevalence": prevalence([p for p in alone if p is not None]),
    }
    return found, null


def prevalence(p_values: Sequence[float]) -> dict[str, Any]:
    """Return in what share of the population there is something to decode at least, from each subject's own p.

    A test of the mean over subjects says that there is something in somebody. Subjects without an effect have p <= 0.05
    in at most 5 %, so if a share of them is significant, at least (share - 0.05) / 0.95 have one: the binomial
    prevalence (Donhauser et al. 2018, Ince et al. 2021), which allows what the minimum statistic of Allefeld et al.
    (2016) does not, trials and items that differ in number between subjects. The result: subjects, significant, p (of
    so many or more if nobody has an effect), low (95 % lower bound of the prevalence, from the one-sided bound of
    Clopper and Pearson); None without subjects.
    """
    count, found = len(p_values), int(np.sum(np.asarray(p_values) <= LEVEL))
    if not count:
        return {"subjects": 0, "significant": 0, "p": None, "low": None}
    test = stats.binomtest(found, count, LEVEL, alternative="greater")
    share = test.proportion_ci(1 - LEVEL, method="exact").low
    low = max(0.0, (share - LEVEL) / (1 - LEVEL))
    return {"subjects": count, "significant": found, "p": float(test.pvalue), "low": float(low)}


def prevalence_text(found: Mapping[str, Any]) -> str:
    """Return a result of `prevalence` in words."""
    if not found["subjects"]:
        return "no subject's labels can be permuted: nothing is said about how many people decode"
    return (
        f"{found['significant']} of {found['subjects']} subjects p <= {LEVEL} by themselves: with 95 % confidence "
        f"at least {found['low']:.0%} of people decode above chance (p = {found['p']:.2g} that nobody does)"
    )


def too_few_subjects(count: int) -> str | None:
    """Return why nothing is tested over so few subjects, or None."""
    if count >= FEWEST_SUBJECTS:
        return None
    return f"not tested over subjects: {count} subject{'s' * (count != 1)}, {FEWEST_SUBJECTS} are needed"


def against_chance(
    values: Sequence[float], chance: float | Sequence[float], permutations: int, seed: int, why: str | None = None
) -> dict[str, Any]:
    """Test whether subjects' accuracies (S,) lie above chance, each above its own (S,), the subject being the unit.

    Sign flips are all enumerated when there are no more than `permutations`, otherwise drawn. The result: subjects,
    wilcoxon_p and sign_flip_p (one-sided), or in note why they are None; `why`: nothing may be tested.
    """
    if why := why or too_few_subjects(len(values)):
        return {"subjects": len(values), "wilcoxon_p": None, "sign_flip_p": None, "note": why}
    wilcoxon_p, sign_flip_p = _one_sample(np.subtract(values, chance), "greater", permutations, seed)
    note = "one-sided against each subject's chance: Wilcoxon signed-rank, and sign-flip permutation of the mean"
    return {"subjects": len(values), "wilcoxon_p": wilcoxon_p, "sign_flip_p": sign_flip_p, "note": note}


def paired(
    first: Sequence[Trials], second: Sequence[Trials], permutations: int, seed: int, balanced: bool = False,
    same_trials: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Compare two decoders over the subjects that both were tested on, and test the difference.

    Sign flips are all enumerated when there are no more than `permutations`, otherwise drawn. The result is that of
    `difference` with wilcoxon_p and sign_flip_p (two-sided, over subjects), differing (subjects whose two accuracies
    differ) and smallest_p (the lowest that these tests can give with that many). The tests ask whether differences
    lie symmetrically about zero, the interval where their mean is: close to 5 % they may disagree (docs/statistics.md).
    """
    each = np.round(np.subtract(*_rates(first, second, balanced)), 12)  # equal differences tie exactly
    wilcoxon_p, sign_flip_p = _one_sample(each, "two-sided", permutations, seed)
    differing = int(np.count_nonzero(each))
    return {
        **difference(first, second, balanced, same_trials),
        "wilcoxon_p": wilcoxon_p,
        "sign_flip_p": sign_flip_p,
        "differing": differing,
        "smallest_p": min(1.0, 2.0 ** (1 - differing)),
    }


def difference(
    first: Sequence[Trials], second: Sequence[Trials], balanced: bool = False, same_trials: bool = True
) -> dict[str, Any]:
    """Return the mean difference of two decoders over the subjects that both were tested on, in the same order.

    `balanced`: of balanced accuracy instead of the rate of correct trials. The result: subjects, first_mean,
    second_mean, difference (mean over subjects of first - second), low and high (95 %, `mean_interval` with the tails
    of the differences; with `same_trials` those of a subject are paired where they are as many, of the same labels).
    """
    rates = _rates(first, second, balanced)
    each = np.round(np.subtract(*rates), 12)
    both = zip(first, second, strict=True)
    variance = [_difference_variance(one, other, balanced, same_trials) for one, other in both]
    low, high = mean_interval(each, np.sqrt(sum(variance)) / len(each), (-1.0, 1.0), tails=True)
    hits = [np.concatenate([correct for _, correct in run]) for run in (first, second)]
    if all(len(set(own.tolist())) == 1 for own in hits):  # nothing varies: from Wilson's over all trials
        one, other = (proportion(int(own.sum()), len(own), 0.5) for own in hits)
        low, high = one["low"] - other["high"], one["high"] - other["low"]
    return {
        "subjects": len(each),
        "first_mean": float(np.mean(rates[0])),
        "second_mean": float(np.mean(rates[1])),
        "difference": float(np.mean(each)),
        "low": float(low),
        "high": float(high),
    }


def _rates(first: Sequence[Trials], second: Sequence[Trials], balanced: bool) -> np.ndarray:
    return np.array([[accuracy_of(own, balanced) for own in run] for run in (first, second)])


def _difference_variance(one: Trials, other: Trials, balanced: bool, same_trials: bool) -> float:
    """Return the sampling variance of the difference of two decoders' rates in one subject.

    Of paired trials with half a trial added to each of the four outcomes (Agresti and Min 2005): decoders that differ
    in no trial of few may do so in the next. Balanced, as if pairs of all classes differed equally often.
    """
    if not same_trials or len(one[0]) != len(other[0]) or not np.array_equal(one[0], other[0]):
        return _trial_variance(*one, balanced) + _trial_variance(*other, balanced)
    gain = np.subtract(one[1], other[1], dtype=float)
    n = len(gain) + 2
    variance = float((np.abs(gain).sum() + 1) / n - (gain.sum() / n) ** 2) / n
    return _over_classes(variance, np.bincount(one[0])) if balanced else variance


def _trial_variance(label: np.ndarray, values: np.ndarray, balanced: bool) -> float:
    """Return the variance of a mean over trials (n,), or over classes of their means."""
    group = np.asarray(label) if balanced else np.zeros(len(label), int)
    n = np.bincount(group)
    own = n > 0
    mean, square = (np.bincount(group, np.asarray(values, float) ** power)[own] / n[own] for power in (1, 2))
    return float(((square - mean**2) / n[own]).sum() / np.count_nonzero(own) ** 2)


def accuracy_of(trials: Trials, balanced: bool = False) -> float:
    """Return one subject's rate of correct trials, or its balanced accuracy."""
    return float(_rate(*class_counts(*trials), balanced))


def _rate(hits: np.ndarray, n: np.ndarray, balanced: bool) -> np.ndarray:
    """Return the rate of hits over all classes, or the mean of the classes' rates, along the last axis."""
    return mean_recall(hits, n) if balanced else np.sum(hits, axis=-1) / np.sum(n, axis=-1)


def _one_sample(difference: np.ndarray, alternative: str, permutations: int, seed: int) -> tuple[float, float]:
    """Return the p of Wilcoxon's signed-rank test and of sign flips of the mean of differences (S,)."""
    difference = np.round(difference, 12)
    differing = difference[difference != 0]
    if not len(differing):
        return 1.0, 1.0
    if len(difference) <= MOST_ENUMERATED:  # scipy gives the same where ranks tie, but takes half a second for 12
        ranks = np.sign(differing) * stats.rankdata(np.abs(differing))
        wilcoxon = sign_flip_p(ranks, alternative, 2**MOST_ENUMERATED, seed)
    else:
        wilcoxon = float(stats.wilcoxon(difference, alternative=alternative).pvalue)
    return wilcoxon, sign_flip_p(difference, alternative, permutations, seed)


def sign_flip_p(values: np.ndarray, alternative: str, permutations: int, seed: int) -> float:
    """Return the p of the mean of values (S,) by sign flips, all where there are no more than `permutations`."""
    if len(values) == 1:  # scipy refuses one; two flips, and the other one is further off only in the other direction
        return 1.0 if alternative == "two-sided" else 0.5 if values[0] > 0 else 1.0
    flips = stats.permutation_test(
        (values,), lambda x, axis: np.mean(x, axis=axis), vectorized=True, permutation_type="samples",
        alternative=alternative, n_resamples=permutations, random_state=np.random.default_rng(seed),
    )  # fmt: skip
    return float(flips.pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for their number after Holm (1979); None (nothing tested) stays and does not count."""
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    highest = 0.0
    adjusted: list[float | None] = [None] * len(p_values)
    for step, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - step) * p))
        adjusted[place] = highest
    return adjusted
