"""Stages as YASA's pretrained classifier sees them, and simulated nights against real ones."""

import warnings

import numpy as np

from benchmarks.simulator.measures import STAGES_5
from sleep_interpreter.utils.core.constants import REM, STAGES, STAGING_SECONDS, WAKE
from sleep_interpreter.utils.metrics.staging_metrics import cohen_kappa

_CODES = {"W": 0, "N1": 0, "N2": 1, "N3": 2, "R": 3}
_FEWEST_NIGHTS = 5


def yasa_stages(eeg, eog, emg, rate):
    """Return what `yasa.SleepStaging` calls every epoch of 30 s.

    Parameters
    ----------
    eeg, eog, emg : array (n,)
        Derivations in µV (C4-M1, EOG-M2, EMG1-EMG2); at least five minutes.
    rate : float
        Hz.

    Returns
    -------
    stages : str array (n_epochs,)
        Of `STAGES_5`.
    """
    import mne
    import yasa
    from sklearn.exceptions import InconsistentVersionWarning

    info = mne.create_info(["EEG", "EOG", "EMG"], rate, ["eeg", "eog", "emg"])
    raw = mne.io.RawArray(np.array([eeg, eog, emg], float) * 1e-6, info, verbose="error")
    with warnings.catch_warnings():
        # YASA ships a label encoder of scikit-learn 0.24; only its list of class names is used.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        found = yasa.SleepStaging(raw, "EEG", eog_name="EOG", emg_name="EMG").predict().hypno
    names = {"WAKE": "W", "REM": "R"}
    return np.array([names.get(stage, stage) for stage in found.to_numpy()], dtype="U2")


def to_codes(stages):
    """Return the project's stage codes (W and N1 are one), int8 array, of five-stage keys."""
    return np.array([_CODES[stage] for stage in stages], np.int8)


def staging_agreement(planted, seen):
    """Compare two rows of stages epoch by epoch.

    Parameters
    ----------
    planted, seen : str array (n,)
        Of `STAGES_5`.

    Returns
    -------
    result : dict
        n; accuracy and kappa (Cohen's) with W and N1 as one stage and with five stages ("accuracy_5",
        "kappa_5"); f1, {stage: F1} of `utils.core.constants.STAGES` where planted; confusion, int lists
        (4, 4), and confusion_5, (5, 5): rows planted, columns seen.
    """
    from sklearn.metrics import confusion_matrix, f1_score  # lazy: start-up

    length = min(len(planted), len(seen))
    planted, seen = np.asarray(planted)[:length], np.asarray(seen)[:length]
    first, second = to_codes(planted), to_codes(seen)
    there = sorted(set(first.tolist()))
    confusion = confusion_matrix(first, second, labels=range(len(STAGES)))
    confusion_5 = confusion_matrix(planted, seen, labels=STAGES_5)
    f1 = f1_score(first, second, labels=there, average=None, zero_division=0.0)
    return {
        "n": length,
        "accuracy": float(np.mean(first == second)),
        "kappa": float(cohen_kappa(confusion)),
        "accuracy_5": float(np.mean(planted == seen)),
        "kappa_5": float(cohen_kappa(confusion_5)),
        "f1": {STAGES[code]: float(value) for code, value in zip(there, f1, strict=True)},
        "confusion": confusion.tolist(),
        "confusion_5": confusion_5.tolist(),
    }


MEASURES = {
    "hours": "length of the recording (h)",
    "W": "W/N1 (% of the recording)",
    "N2": "N2 (%)",
    "N3": "N3 (%)",
    "R": "R (%)",
    "sleep_latency": "minutes to the first N2, N3 or R",
    "rem_latency": "minutes from sleep to the first R",
    "waso": "minutes of W/N1 within sleep",
    "n3_early": "N3 in the first half of the night (% of all N3)",
    "rem_late": "R in the second half of the night (% of all R)",
    "changes": "changes of stage an hour",
    "n2_bout": "mean bout of N2 (min)",
    "n3_bout": "mean bout of N3 (min)",
    "rem_bout": "mean bout of R (min)",
}
"""What `night_measures` gives of a night, and how a table calls it."""


def night_measures(hypnogram):
    """Measure one night.

    Parameters
    ----------
    hypnogram : int array (n_epochs,)
        Stage codes of `utils.core.constants.STAGES`, one an epoch of 30 s, with sleep in it.

    Returns
    -------
    row : dict of str to float
        `MEASURES`; NaN where the night has nothing of the kind.
    """
    h = np.asarray(hypnogram, int)
    per_min = 60 / STAGING_SECONDS
    asleep = np.flatnonzero(h != WAKE)
    inside = h[asleep[0] : asleep[-1] + 1]
    row = {"hours": len(h) / per_min / 60}
    row |= {key: 100 * np.mean(h == code) for code, key in enumerate(("W", "N2", "N3", "R"))}
    row["sleep_latency"] = asleep[0] / per_min
    row["rem_latency"] = (np.argmax(inside == REM) / per_min) if REM in inside else np.nan
    row["waso"] = np.sum(inside == WAKE) / per_min
    half = len(h) // 2
    for key, code, part in (("n3_early", 2, h[:half]), ("rem_late", REM, h[half:])):
        row[key] = 100 * np.sum(part == code) / np.sum(h == code) if code in h else np.nan
    row["changes"] = np.sum(np.diff(h) != 0) / row["hours"]
    edges = np.r_[0, np.flatnonzero(np.diff(h)) + 1, len(h)]
    length, stage = np.diff(edges) / per_min, h[edges[:-1]]
    for key, code in (("n2_bout", 1), ("n3_bout", 2), ("rem_bout", REM)):
        row[key] = length[stage == code].mean() if code in h else np.nan
    return {key: float(row[key]) for key in MEASURES}


def compare_nights(real, simulated):
    """Compare two groups of nights measure by measure.

    Parameters
    ----------
    real, simulated : list of int array
        Hypnograms.

    Returns
    -------
    rows : dict of str to dict
        For every one of `MEASURES`: n_real, n_simulated (nights that have it), the quartiles of either
        ("real", "simulated": 25, 50, 75 %), distance (Kolmogorov-Smirnov), p of the two-sample test,
        p_holm (adjusted for the number of measures).
    """
    from scipy.stats import ks_2samp

    from sleep_interpreter.utils.metrics.statistics import holm

    tables = [[night_measures(h) for h in group] for group in (real, simulated)]
    rows = {}
    for key in MEASURES:
        a, b = (np.array([row[key] for row in table]) for table in tables)
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        row = {"n_real": len(a), "n_simulated": len(b)}
        row |= {"real": _quartiles(a), "simulated": _quartiles(b), "distance": None, "p": None}
        if min(len(a), len(b)) >= _FEWEST_NIGHTS:
            test = ks_2samp(a, b)
            row |= {"distance": float(test.statistic), "p": float(test.pvalue)}
        rows[key] = row
    for key, p in zip(rows, holm([row["p"] for row in rows.values()]), strict=True):
        rows[key]["p_holm"] = p
    return rows


def _quartiles(values):
    return np.quantile(values, (0.25, 0.5, 0.75)).tolist() if len(values) else None


def told_apart(real, simulated, seed):
    """Return how well a classifier tells simulated nights from real ones by all `MEASURES` together.

    A random forest, cross-validated in 5 folds; 0.5 would mean that nothing gives a simulated night away.

    Returns
    -------
    result : dict
        auc (area under the ROC curve over held-out nights), low, high (95 %, bootstrap over nights), n_real,
        n_simulated.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x = np.array([list(night_measures(h).values()) for h in [*real, *simulated]])
    x = np.where(np.isfinite(x), x, -1.0)
    y = np.r_[np.zeros(len(real), int), np.ones(len(simulated), int)]
    forest = RandomForestClassifier(100, class_weight="balanced", min_samples_leaf=3, random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    score = cross_val_predict(forest, x, y, cv=folds, method="predict_proba")[:, 1]
    rng = np.random.default_rng(seed)
    places = [np.flatnonzero(y == group) for group in (0, 1)]
    drawn = []
    for _ in range(500):
        sample = np.concatenate([rng.choice(own, len(own)) for own in places])
        drawn.append(roc_auc_score(y[sample], score[sample]))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return {
        "auc": float(roc_auc_score(y, score)),
        "low": float(low),
        "high": float(high),
        "n_real": len(real),
        "n_simulated": len(simulated),
    }
