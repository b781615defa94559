"""Statistics of a decoder's hits: intervals that say how much to believe."""

import numpy as np
from scipy.stats import binomtest


def proportion(hits, n, chance):
    """Return top-1 of one subject with its Wilson 95 % interval.

    Parameters
    ----------
    hits, n : int
    chance : float
        Hit rate of guessing.

    Returns
    -------
    result : dict
        n, hits, accuracy, low, high, chance, p (one-sided binomial against chance); accuracy and
        interval are None when n is 0.
    """
    if n == 0:
        return {"n": 0, "hits": 0, "accuracy": None, "low": None, "high": None, "chance": chance, "p": None}
    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return {
        "n": int(n),
        "hits": int(hits),
        "accuracy": hits / n,
        "low": interval.low,
        "high": interval.high,
        "chance": chance,
        "p": float(binomtest(hits, n, chance, alternative="greater").pvalue),
    }


def over_subjects(correct, resamples, seed, chance):
    """Return the mean accuracy over subjects with a two-level bootstrap 95 % interval.

    Subjects are drawn with replacement, then trials within each drawn subject, so the interval covers the
    next subject as well as the next trial; with few subjects that is wider, and more honest, than
    resampling either alone.

    Parameters
    ----------
    correct : list of bool arrays
        One array a subject, one entry a trial; subjects without trials are left out.
    resamples : int
    seed : int
    chance : float

    Returns
    -------
    result : dict
        subjects, n, accuracy (mean over subjects), low, high, chance, pooled (over trials).
    """
    hits = np.array([np.sum(c) for c in correct if len(c)], float)
    trials = np.array([len(c) for c in correct if len(c)])
    if not len(trials):
        empty = dict.fromkeys(("accuracy", "low", "high", "pooled"))
        return {"subjects": 0, "n": 0, **empty, "chance": chance}
    random = np.random.default_rng(seed)
    drawn = random.integers(len(trials), size=(resamples, len(trials)))
    # Drawing a subject's trials with replacement makes its hits binomial.
    means = (random.binomial(trials[drawn], (hits / trials)[drawn]) / trials[drawn]).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "subjects": len(trials),
        "n": int(trials.sum()),
        "accuracy": float(np.mean(hits / trials)),
        "low": float(low),
        "high": float(high),
        "chance": chance,
        "pooled": float(hits.sum() / trials.sum()),
    }
