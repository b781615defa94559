"""The two kinds of Lasso GLM experiment on one subject's trials: `within` a domain, and `cross` to another.

Nothing is fitted twice: a model belongs to a time sample of its training set, whichever windows and test sets
it is looked at through (`cross` fits 80 samples for 13 windows awake to sleep, 200 the other way round).
"""

import zlib

import numpy as np

from sleep_interpreter.model.lasso_glm import TimeResolvedLassoGLM


def folds_of(count, folds, seed, subject):
    """Return the trials of each fold: a shuffle of the subject's own, cut into equal parts."""
    order = np.random.default_rng([seed, zlib.crc32(subject.encode())]).permutation(count)
    return np.array_split(order, folds)


def within(eeg, label, folds, classes, **parameters):
    """Decode each fold with models trained on all others but the next one, which is there to choose with.

    Parameters
    ----------
    eeg : float array (n, T, C)
    label : int array (n,)
    folds : list of int arrays
        As of `folds_of`. Fold k is tested, k + 1 is for validation, the others train.
    classes : int
        K.
    **parameters
        Of `TimeResolvedLassoGLM`.

    Returns
    -------
    result : dict of str to array
        hits, validation_hits (folds, T): trials decoded rightly; n, validation_n (folds,); decoded (folds, T,
        K): how often each class was decoded, cued (folds, K): how often it was due, in the test fold; trained
        (folds, K): trials to train on; patterns (T, K, C): mean over folds of the training trials'; residual
        (): the largest.
    """
    count, (times, channels) = len(folds), eeg.shape[1:]
    result = {key: np.zeros((count, times), np.int32) for key in ("hits", "validation_hits")}
    result |= {key: np.zeros(count, np.int32) for key in ("n", "validation_n")}
    result |= {"decoded": np.zeros((count, times, classes), np.int32)}
    result |= {key: np.zeros((count, classes), np.int32) for key in ("cued", "trained")}
    patterns, residual = np.zeros((times, classes, channels)), 0.0
    for k in range(count):
        test, validation = folds[k], folds[(k + 1) % count]
        train = np.concatenate([folds[(k + more) % count] for more in range(2, count)])
        glm = TimeResolvedLassoGLM(classes=classes, **parameters).fit(eeg[train], label[train])
        predicted = glm.predict(eeg[test])
        result["hits"][k] = (predicted == label[test][:, None]).sum(axis=0)
        result["decoded"][k] = _counts(predicted.T, classes)
        result["validation_hits"][k] = (glm.predict(eeg[validation]) == label[validation][:, None]).sum(
            axis=0
        )
        result["n"][k], result["validation_n"][k] = len(test), len(validation)
        result["cued"][k] = np.bincount(label[test], minlength=classes)
        result["trained"][k] = np.bincount(label[train], minlength=classes)
        patterns += glm.patterns(eeg[train]) / count
        residual = max(residual, float(glm.residual_.max()))
    return {**result, "patterns": patterns.astype(np.float32), "residual": np.float64(residual)}


def window_samples(windows, short, long):
    """Return which sample of the long trials goes with each of the short ones, int array (offsets, short).

    Parameters
    ----------
    windows : dict
        "step" between windows and "count" of them, in samples.
    short, long : int
        Samples of an awake trial (and of a window), of a sleep trial.
    """
    index = np.arange(windows["count"])[:, None] * windows["step"] + np.arange(short)
    if index.max() >= long:
        raise ValueError(f"the last window ends at sample {index.max() + 1}, trials have {long}")
    return index


def cross(train, tests, windows, classes, generalise=False, **parameters):
    """Train on all trials of one domain and decode all trials of others, through sliding windows.

    Parameters
    ----------
    train : tuple
        EEG (n, T, C) and labels (n,). Whichever side has the longer trials is seen through the windows.
    tests : dict of str to tuple
        The same of each domain to test; all of one length.
    windows : dict
        As of `window_samples`.
    classes : int
        K.
    generalise : bool
        Decode every test sample with the model of every training sample too.
    **parameters
        Of `TimeResolvedLassoGLM`.

    Returns
    -------
    shared : dict of str to array
        patterns (T', K, C) and fitted (T',): the training samples they belong to; trained (K,); residual ().
    results : dict of str to dict
        For each test set: hits (offsets, samples), decoded (offsets, samples, K), cued (K,), n (), and
        generalised (T', T of the test trials): hits, if asked for.
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
    glm = TimeResolvedLassoGLM(classes=classes, **parameters).fit(eeg[:, fitted], label)
    shared = {
        "fitted": fitted.astype(np.int32),
        "patterns": glm.patterns(eeg[:, fitted]).astype(np.float32),
        "trained": np.bincount(label, minlength=classes).astype(np.int32),
        "residual": np.float64(glm.residual_.max()),
    }
    results = {
        name: _decoded(glm, fitted, other, of_train, of_test, classes, generalise)
        for name, other in tests.items()
    }
    return shared, results


def _decoded(glm, fitted, test, of_train, of_test, classes, generalise):
    """Return the result of one test set; see `cross`."""
    eeg, label = test
    trials = np.ascontiguousarray(glm.prepared(eeg).transpose(1, 0, 2))
    samples = len(trials)
    hits = np.zeros(of_train.shape, np.int32)
    decoded = np.zeros((*of_train.shape, classes), np.int32)
    everywhere = np.zeros((len(fitted), samples), np.int32)
    for place, sample in enumerate(fitted):
        offset, index = np.nonzero(of_train == sample)
        wanted = np.arange(samples) if generalise else of_test[offset, index]
        odds = trials[wanted].reshape(-1, trials.shape[2]) @ glm.weights_[place].T + glm.intercept_[place]
        predicted = odds.argmax(axis=1).reshape(len(wanted), len(label))
        right = (predicted == label).sum(axis=1)
        if generalise:
            everywhere[place] = right
            right, predicted = right[of_test[offset, index]], predicted[of_test[offset, index]]
        hits[offset, index] = right
        decoded[offset, index] = _counts(predicted, classes)
    result = {
        "hits": hits,
        "decoded": decoded,
        "cued": np.bincount(label, minlength=classes).astype(np.int32),
        "n": np.int32(len(label)),
    }
    return result | ({"generalised": everywhere} if generalise else {})


def _counts(predicted, classes):
    """Return how often each class is in each row, int array (rows, K)."""
    rows = len(predicted)
    flat = (predicted + classes * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * classes).reshape(rows, classes)
