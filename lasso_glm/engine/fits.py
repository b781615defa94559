"""The two kinds of baseline experiment on one subject's trials: `within` a domain, and `cross` to another.

Nothing is fitted twice: a model belongs to a time sample of its training set, whichever windows and test sets
it is looked at through (`cross` fits 80 samples for 13 windows awake to sleep, 200 the other way round).
"""

import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from sleep_interpreter.model.lasso_glm import TimeResolvedLassoGLM
from sleep_interpreter.utils.metrics import exchangeability
from sleep_interpreter.utils.metrics.statistics import expected_hits

Trials = tuple[np.ndarray, np.ndarray]
"""EEG (n, T, C) and labels (n,)."""


class Baseline(Protocol):
    """A linear decoder for each time sample, such as `model.lasso_glm.TimeResolvedLassoGLM`.

    Prepared trials times `weights_` (T, K, C) plus `intercept_` (T, K) are the evidence for each class. `residual_`
    (T, K) says how far a fit is from its solution: 0 where that is found in one step.
    """

    weights_: Any
    intercept_: np.ndarray
    residual_: np.ndarray

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Baseline": ...  # noqa: N803
    def prepared(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return trials (n, T', C) as the weights take them."""

    def predict(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return the classes (n, T) of trials (n, T, C)."""

    def patterns(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return what the decoders look like on the scalp (T, K, C), from the trials of `fit`."""


BASELINES: dict[str, Callable[..., Baseline]] = {"lasso": TimeResolvedLassoGLM}
"""Every baseline by the name that a `Plan` gives: a new one is a file with its class and a line here.

It is made with classes (K) and the keywords of `LassoSettings.glm`; it may ignore these.
"""


def folds_of(count: int, folds: int, seed: int, subject: str) -> list[np.ndarray]:
    """Return the trials of each fold: a shuffle of the subject's own, cut into equal parts."""
    order = np.random.default_rng([seed, zlib.crc32(subject.encode())]).permutation(count)
    return np.array_split(order, folds)


def split_in_time(
    label: np.ndarray, run: np.ndarray | None, folds: int, by_run: bool, order: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return the trials (n,) of each fold: whole stretches of one item (and run), or whole runs.

    `order` (n,) are the trials' places in order of time (`exchangeability.order_of`); None: that of the file. Stretches
    are cut into folds that follow one another, as equal as may be; runs are dealt out so that every fold has
    about as many trials of each item. Of fewer stretches or runs than folds, some folds are empty.
    """
    if by_run:
        assert run is not None
        if len(np.unique(run)) < folds:
            return [np.zeros(0, int)] * folds
        from sklearn.model_selection import StratifiedGroupKFold  # lazy: start-up

        with warnings.catch_warnings(action="ignore"):  # of items with fewer trials than folds
            return [test for _, test in StratifiedGroupKFold(folds).split(label, label, run)]
    piece = exchangeability.stretches(label, run, order)
    length = np.bincount(piece)
    middle = np.cumsum(length) - length / 2
    fold = (middle * folds / len(label)).astype(int)[piece]
    return [np.flatnonzero(fold == k) for k in range(folds)]


def within(
    eeg: np.ndarray, label: np.ndarray, folds: Sequence[np.ndarray], classes: int,
    baseline: str = "lasso", **parameters: Any,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Decode each fold with models trained on all others but the next one, which is there to choose with.

    Of `folds` (see `folds_of`) of the trials (n, T, C), fold k is tested, k + 1 is for validation, the others train a
    `baseline` of `BASELINES` for K `classes` with its `parameters`. The result: hits, validation_hits (folds, T),
    trials decoded rightly; n, validation_n (folds,); decoded and recalled (folds, T, K), how often each class was
    decoded, and how often rightly, cued (folds, K), how often it was due, in the test fold; trained (folds, K), trials
    to train on; patterns (T, K, C), mean over folds of the training trials'; residual (), the largest; label (n,),
    fold (n,) and predicted (n, T) of each trial.
    """
    count, (times, channels) = len(folds), eeg.shape[1:]
    shapes: dict[str, tuple[int, ...]] = {
        "hits": (times,), "validation_hits": (times,), "n": (), "validation_n": (),
        "decoded": (times, classes), "recalled": (times, classes), "cued": (classes,), "trained": (classes,),
    }  # fmt: skip
    result: dict[str, np.ndarray] = {key: np.zeros((count, *shape), np.int32) for key, shape in shapes.items()}
    patterns, residual = np.zeros((times, classes, channels)), 0.0
    fold, everything = np.zeros(len(label), np.int16), np.zeros((len(label), times), np.int16)
    for k in range(count):
        test, validation = folds[k], folds[(k + 1) % count]
        train = np.concatenate([folds[(k + more) % count] for more in range(2, count)])
        glm = BASELINES[baseline](classes=classes, **parameters).fit(eeg[train], label[train])
        for part, own in (("", test), ("validation_", validation)):
            predicted = glm.predict(eeg[own])
            result[f"{part}hits"][k] = (predicted == label[own][:, None]).sum(axis=0)
            result[f"{part}n"][k] = len(own)
            if own is test:
                fold[own], everything[own] = k, predicted
                result["decoded"][k] = _counts(predicted.T, classes)
                result["recalled"][k] = _counts(predicted.T, classes, label[own])
        result["cued"][k] = np.bincount(label[test], minlength=classes)
        result["trained"][k] = np.bincount(label[train], minlength=classes)
        patterns += glm.patterns(eeg[train]) / count
        residual = max(residual, float(glm.residual_.max()))
    trials = {"label": label.astype(np.int16), "fold": fold, "predicted": everything}
    return {**result, **trials, "patterns": patterns.astype(np.float32), "residual": np.array(residual)}


def window_samples(windows: Mapping[str, int], short: int, long: int) -> np.ndarray:
    """Return which sample of the long trials goes with each of the short ones, int array (offsets, short).

    `windows` has their "step" and "count"; `short` and `long` are the lengths of an awake trial (and of a window) and
    of a sleep trial; all in samples.
    """
    index = np.arange(windows["count"])[:, None] * windows["step"] + np.arange(short)
    if index.max() >= long:
        raise ValueError(f"the last window ends at sample {index.max() + 1}, trials have {long}")
    return index


def cross(
    train: Trials, tests: Mapping[str, Trials], windows: Mapping[str, int], classes: int, generalise: bool = False,
    baseline: str = "lasso", **parameters: Any,
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:  # fmt: skip
    """Train on all trials of one domain and decode all trials of others, through sliding windows.

    `tests` are all of one length. Whichever side has the longer trials is seen through the `windows`
    (`window_samples`). With `generalise` every test sample is decoded with the model of every training sample, too.
    The decoder is a `baseline` of `BASELINES` for K `classes` with its `parameters`.

    Returns what the tests share: patterns (T', K, C) and fitted (T',), the training samples they belong to; trained
    (K,); residual (); and of each test set: hits (offsets, samples), decoded and recalled (offsets, samples, K), cued
    (K,), n (), label (n,) and predicted (n, offsets, samples) of each trial, and, if asked for, generalised (T', T of
    the test trials), hits, and by_chance, those that chance gives.
    """
    eeg, label = train
    others = {len(other[0][0]) for other in tests.values()}
    if len(others) != 1:
        raise ValueError(f"test trials of several lengths: {sorted(others)}")
    (long,), own = others, eeg.shape[1]
    slides = window_samples(windows, min(own, long), max(own, long))
    still = np.broadcast_to(np.arange(slides.shape[1]), slides.shape)
    of_train, of_test = (still, slides) if own <= long else (slides, still)
    fitted = np.unique(of_train)
    glm = BASELINES[baseline](classes=classes, **parameters).fit(eeg[:, fitted], label)
    shared = {
        "fitted": fitted.astype(np.int32),
        "patterns": glm.patterns(eeg[:, fitted]).astype(np.float32),
        "trained": np.bincount(label, minlength=classes).astype(np.int32),
        "residual": np.array(glm.residual_.max()),
    }
    results = {
        name: _decoded(glm, fitted, other, of_train, of_test, classes, generalise) for name, other in tests.items()
    }
    return shared, results


def _decoded(
    glm: Baseline, fitted: np.ndarray, test: Trials, of_train: np.ndarray, of_test: np.ndarray,
    classes: int, generalise: bool,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return the result of one test set; see `cross`."""
    eeg, label = test
    trials = np.ascontiguousarray(glm.prepared(eeg).transpose(1, 0, 2))
    samples = len(trials)
    hits = np.zeros(of_train.shape, np.int32)
    decoded = np.zeros((*of_train.shape, classes), np.int32)
    recalled = np.zeros_like(decoded)
    everything = np.zeros((len(label), *of_train.shape), np.int16)
    cued = np.bincount(label, minlength=classes).astype(np.int32)
    everywhere = np.zeros((len(fitted), samples), np.int32)
    by_chance = np.zeros(everywhere.shape, np.float32)
    for place, sample in enumerate(fitted):
        offset, index = np.nonzero(of_train == sample)
        wanted = np.arange(samples) if generalise else of_test[offset, index]
        odds = trials[wanted].reshape(-1, trials.shape[2]) @ glm.weights_[place].T + glm.intercept_[place]
        predicted = odds.argmax(axis=1).reshape(len(wanted), len(label))
        right = (predicted == label).sum(axis=1)
        if generalise:
            everywhere[place] = right
            by_chance[place] = expected_hits(cued, _counts(predicted, classes))
            right, predicted = right[of_test[offset, index]], predicted[of_test[offset, index]]
        hits[offset, index] = right
        decoded[offset, index] = _counts(predicted, classes)
        recalled[offset, index] = _counts(predicted, classes, label)
        everything[:, offset, index] = predicted.T
    n = np.array(len(label), np.int32)
    result = {"hits": hits, "decoded": decoded, "recalled": recalled, "cued": cued, "n": n}
    result |= {"label": label.astype(np.int16), "predicted": everything}
    return result | ({"generalised": everywhere, "by_chance": by_chance} if generalise else {})


def _counts(predicted: np.ndarray, classes: int, label: np.ndarray | None = None) -> np.ndarray:
    """Return how often each class is in each row, int array (rows, K); with labels (n,), how often rightly."""
    rows = len(predicted)
    flat = predicted + classes * np.arange(rows)[:, None]
    flat = flat.ravel() if label is None else flat[predicted == label]
    return np.bincount(flat, minlength=rows * classes).reshape(rows, classes)
