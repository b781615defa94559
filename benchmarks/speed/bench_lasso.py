"""Speed of the Lasso GLMs: one full subject-experiment beside scikit-learn's liblinear, and a whole cohort.

80 samples x 15 classes x 5 folds with 1,200 trials of 55 channels to train on. The trials are made up:
neighbouring channels are alike, as in EEG, and a third of the samples hold a signal. CPU time is of one
thread, compilation not counted. liblinear gets an intercept scaling of 1000 (with 1 it penalises the
intercept and is plainly wrong) and a tolerance of 1e-7, with which its coefficients agree with the exact ones
to 1e-2; with its default they are off by more than a tenth.
"""

import os
import resource
import sys
import time
import warnings

import numpy as np

TRIALS, TIMES, CHANNELS, CLASSES, FOLDS = 2000, 80, 55, 15, 5  # three folds of 400 train
SUBJECTS, AWAKE, SLEEP, OFFSETS = 135, 80, 200, 13
FITS_A_SUBJECT = CLASSES * (2 * FOLDS * AWAKE + 2 * FOLDS * SLEEP + 2 * AWAKE + 2 * SLEEP)
"""Of all seven experiments: two within wake, two within sleep, two from wake, two from sleep."""


def trials(seed=0):
    """Return trials (n, T, C) float32 and labels (n,) with a signal in a third of the samples."""
    random = np.random.default_rng(seed)
    distance = np.abs(np.subtract.outer(np.arange(CHANNELS), np.arange(CHANNELS)))
    mixing = np.exp(-distance / 6)
    label = random.permutation(np.arange(TRIALS) % CLASSES)
    course = np.exp(-0.5 * ((np.arange(TIMES) - 30) / 8) ** 2)
    signal = random.standard_normal((CLASSES, CHANNELS))[label][:, None] * course[:, None]
    noise = random.standard_normal((TRIALS, TIMES, CHANNELS))
    return ((noise + 0.4 * signal) @ mixing).astype(np.float32), label


def measure(sample=48):
    """Return CPU ms a fit of both solvers, how far they agree, and the memory.

    Parameters
    ----------
    sample : int
        Problems that liblinear solves: some time samples and classes of the last fold.

    Returns
    -------
    result : dict
        ours_ms (CPU a fit of all 6,000, with scaling) and liblinear_ms (of the sample), experiment_seconds
        (CPU of the whole subject-experiment with scaling, predictions and patterns), experiment_ms (that a
        fit), gigabytes (resident at its highest), residual, coefficient_error (of liblinear, against ours),
        same_decision (share of sampled held-out trials with the same sign of the log odds).
    """
    from threadpoolctl import threadpool_limits

    from sleep_interpreter.lasso_glm.engine.fits import folds_of, within

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # liblinear's about convergence: its error is in the result
        eeg, label = trials()
        folds = folds_of(TRIALS, FOLDS, 1642, "subject_0")
        within(eeg[:60, :1], label[:60], folds_of(60, 5, 0, "compile"), CLASSES)
        start = time.process_time()
        result = within(eeg, label, folds, CLASSES)
        seconds = time.process_time() - start
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        beside = _beside_liblinear(eeg, label, folds, sample)
    return {
        **beside,
        "experiment_seconds": seconds,
        "experiment_ms": 1e3 * seconds / (TIMES * CLASSES * FOLDS),
        "gigabytes": highest * (1 if sys.platform == "darwin" else 1024) / 1e9,
        "residual": float(result["residual"]),
    }


def _beside_liblinear(eeg, label, folds, sample):
    from sklearn.linear_model import LogisticRegression

    from sleep_interpreter.model.lasso_glm import TimeResolvedLassoGLM
    from sleep_interpreter.model.lasso_glm.parts import channel_scale

    ours = 0.0
    for k in range(FOLDS):  # all fits of the experiment; the last models are compared
        train = np.concatenate([folds[(k + more) % FOLDS] for more in range(2, FOLDS)])
        trials_of_fold = eeg[train]
        start = time.process_time()
        glm = TimeResolvedLassoGLM(classes=CLASSES).fit(trials_of_fold, label[train])
        ours += time.process_time() - start
    odds = glm.decision_function(eeg[folds[FOLDS - 1]])
    theirs, error, same = 0.0, 0.0, []
    for t, k in zip(np.linspace(0, TIMES - 1, sample).astype(int), np.arange(sample) % CLASSES, strict=True):
        x = trials_of_fold[:, t] / channel_scale(trials_of_fold[:, t], 95)
        other = eeg[folds[FOLDS - 1]][:, t]
        solver = LogisticRegression(
            l1_ratio=1, C=1 / (len(train) * 5e-3), solver="liblinear", tol=1e-7, intercept_scaling=1000,
            max_iter=20_000,
        )  # fmt: skip
        start = time.process_time()
        solver.fit(x, label[train] == k)
        theirs += time.process_time() - start
        error = max(error, np.abs(solver.coef_[0] - glm.coef_[t, k]).max())
        decided = solver.decision_function(other / channel_scale(other, 95)) > 0
        same.append(decided == (odds[:, t, k] > 0))
    return {
        "ours_ms": 1e3 * ours / (FOLDS * TIMES * CLASSES),
        "liblinear_ms": 1e3 * theirs / sample,
        "coefficient_error": float(error),
        "same_decision": float(np.mean(same)),
    }


def rows(table, found):
    """Add the rows to a `benchmarks.speed.bench.Table`, from what `measure` returned."""
    name = "Lasso GLM, liblinear's CPU time a fit against ours"
    table.add(name, found["liblinear_ms"], "ms", found["ours_ms"], 15)
    table.add("Lasso GLM, subject-experiment of 6,000 fits, CPU", found["experiment_seconds"], "s", None)
    hours = SUBJECTS * FITS_A_SUBJECT * found["experiment_ms"] / 3.6e6
    table.add("Lasso GLM, 135 subjects x 7 experiments, 1 core", hours, "h", None)
    cores = os.cpu_count() or 1
    name = f"Lasso GLM, the same with --jobs {cores} at 85 %"
    table.add(name, hours / (0.85 * cores if cores > 1 else 1), "h", None)
    table.add("Lasso GLM, memory of a process", found["gigabytes"], "GB", None)
    table.add("Lasso GLM, largest violation of optimality", found["residual"], "", None)
    table.add("Lasso GLM, liblinear's largest coefficient error", found["coefficient_error"], "", None)
