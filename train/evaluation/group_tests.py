"""Tests between conditions of the same subjects' trials: groups by phase, stages, with and without a spindle.

That one group is above chance and another is not does not say that they differ. The subject is the unit: under the null
hypothesis the differences within a subject may as well have the opposite sign, so all of a subject's differences
change their sign together, which keeps their dependence (Nichols and Holmes 2002, Hum Brain Mapp 15:1).
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.metrics import statistics
from sleep_interpreter.utils.metrics.statistics import Resampling, Trials

COLUMNS = {
    "stage": ("stage",),
    "phase": ("so_group", "group"),
    "spindle": ("spindle_coupled",),
    "repetition": ("repetition",),
    "early_late": ("onset_s",),
}
"""What `test/compare.py --by` goes by, and the columns of predictions.csv that tell it; the first that is there."""
MOST_FOR_CONTRASTS = 10
_LEVEL = 0.05


def condition_tests(
    hits: Mapping[str, Mapping[str, Trials]], settings: Resampling, balanced: bool = False
) -> dict[str, Any]:
    """Test whether conditions differ in accuracy, {condition: {subject: (label, correct)}}; those without trials go.

    The result: subjects (with two conditions or more), omnibus_p (do any differ?), best (the condition furthest above
    its subjects' other trials), conditions {name: subjects, n, accuracy, difference (from the other trials, mean over
    subjects), p (one-sided, subjects weighted by trials), p_max (the same against the largest of all conditions)},
    contrasts (list of first, second and the result of `statistics.difference`, with two-sided p and p_max; empty beyond
    10 conditions), note. p is None with fewer than 6 subjects. Sign flips are all enumerated up to
    `settings.permutations` of them, else drawn.
    """
    there = {name: {s: own for s, own in by.items() if len(own[0])} for name, by in hits.items()}
    there = {name: by for name, by in there.items() if by}
    subjects, names = sorted({s for by in there.values() for s in by}), list(there)
    rate, n = np.full((len(subjects), len(names)), np.nan), np.zeros((len(subjects), len(names)))
    for column, by in enumerate(there.values()):
        for subject, trials in by.items():
            cell = subjects.index(subject), column
            rate[cell], n[cell] = statistics.accuracy_of(trials, balanced), len(trials[0])
    several = (n > 0).sum(axis=1) > 1
    rate, n = rate[several], n[several]
    total, trials_each = np.nansum(n * rate, axis=1, keepdims=True), np.maximum(1, n.sum(axis=0))
    others = np.maximum(1, n.sum(axis=1, keepdims=True) - n)
    above = rate - (total - np.nan_to_num(n * rate)) / others
    why = statistics.too_few_subjects(len(rate))
    pairs = list(itertools.combinations(range(len(names)), 2)) if len(names) <= MOST_FOR_CONTRASTS else []
    flipped = None if why else _flips(n * above / np.sqrt(trials_each), settings)
    rows: dict[str, dict[str, Any]] = {}
    for column, (name, by) in enumerate(there.items()):
        own = above[np.isfinite(above[:, column]), column]
        rows[name] = {
            "subjects": len(by),
            "n": sum(len(label) for label, _ in by.values()),
            "accuracy": float(np.mean([statistics.accuracy_of(trials, balanced) for trials in by.values()])),
            "difference": float(own.mean()) if len(own) else None,
            **_p_values(flipped, column),
        }
    contrasts = []
    both = None
    if pairs and not why:
        spread = [np.sqrt(1 / trials_each[a] + 1 / trials_each[b]) for a, b in pairs]
        apart = [(rate[:, a] - rate[:, b]) / wide for (a, b), wide in zip(pairs, spread, strict=True)]
        both = np.abs(_flips(np.stack(apart, axis=1), settings))
    for place, (a, b) in enumerate(pairs):
        one, other = there[names[a]], there[names[b]]
        if common := [subject for subject in one if subject in other]:
            first, second = [one[subject] for subject in common], [other[subject] for subject in common]
            row = statistics.difference(first, second, balanced, same_trials=False)
            contrasts.append({"first": names[a], "second": names[b], **row, **_p_values(both, place)})
    tested = {name: row["difference"] for name, row in rows.items() if row["difference"] is not None}
    return {
        "subjects": len(rate),
        "omnibus_p": None if flipped is None else _share(np.sum(flipped**2, axis=1)),
        "best": max(tested, key=lambda name: tested[name]) if tested else None,
        "conditions": rows,
        "contrasts": contrasts,
        "note": why or "sign flips of all differences within a subject together; p_max: against the largest of all",
    }


def _flips(differences: np.ndarray, settings: Resampling) -> np.ndarray:
    """Return the sums of each column under every set of signs, the true one first: (flips, columns).

    Of differences (subjects, columns), NaN where a subject has none. They are not divided by their own spread: that
    would make few trials, with many a rate of 0, look like a consistent difference (measured: 9 to 14 % instead of 5).
    """
    count = len(differences)
    if 2**count <= settings.permutations:
        signs = np.array(list(itertools.product((1, -1), repeat=count)), float)
    else:
        random = np.random.default_rng(settings.seed)
        signs = np.vstack([np.ones(count), random.choice((-1.0, 1.0), (settings.permutations, count))])
    return np.round(signs @ np.nan_to_num(differences), 9)


def _p_values(flipped: np.ndarray | None, column: int) -> dict[str, float | None]:
    """Return a column's own p, and that against the largest of all columns."""
    if flipped is None:
        return {"p": None, "p_max": None}
    observed = flipped[0, column]
    largest = flipped.max(axis=1) >= observed
    return {"p": _share(flipped[:, column]), "p_max": float(largest.mean())}


def _share(values: np.ndarray) -> float:
    """Return the share of values at least as large as the first, which is the observed one."""
    return float((values >= values[0] - 1e-9).mean())


def conditions_of(table: pd.DataFrame, by: str, where: str) -> tuple[pd.Series, int]:
    """Return the condition of each trial of a predictions.csv as text, and how many trials have none (NaN).

    `by` is one of `COLUMNS`; "early_late" halves the trials of each subject's recording (where there is a column) in
    time. Refuses a table that does not tell, naming `where`.
    """
    known = next((name for name in COLUMNS[by] if name in table and table[name].notna().any()), None)
    if known is None:
        raise UserError(
            f"{where}: nothing in it tells {by} of a trial (column {' or '.join(map(repr, COLUMNS[by]))}); released "
            "files do not say it, those of data/prepare.py may: prepare the data and test again"
        )
    values = table[known]
    if by == "early_late":
        keys = [key for key in ("subject", "recording", "session", "run") if key in table]
        seconds = pd.to_numeric(values, errors="coerce")
        middle = seconds.groupby([table[key] for key in keys], dropna=False).transform("median")
        found = pd.Series(np.where(seconds <= middle, "early", "late"), table.index, dtype=object).where(
            seconds.notna()
        )
    elif by == "spindle":
        found = values.astype(str).map({"True": "coupled", "False": "uncoupled"})
    elif by == "repetition":
        found = pd.to_numeric(values, errors="coerce").map("{:g}".format, na_action="ignore")
    else:
        found = values.map(str, na_action="ignore")
    if found.dropna().nunique() < 2:
        raise UserError(f"{where}: all trials are of one {by}, {found.dropna().unique()}; there is nothing to compare")
    return found, int(found.isna().sum())


def lines(tests: Mapping[str, Any], what: str) -> list[str]:
    """Return the result of `condition_tests` as lines for a terminal; `what` names the conditions."""
    if tests["omnibus_p"] is None:
        return [f"  between {what}: {tests['note']}"]
    best, many = tests["conditions"][tests["best"]], len(tests["conditions"])
    found = [f"  between {what}, {tests['subjects']} subjects, sign flips: any difference p = {tests['omnibus_p']:.3g}"]
    if many > 2:  # of two, the one contrast says it all
        found.append(
            f"    best {tests['best']}, {best['difference']:+.3f} from the other trials, p = {best['p_max']:.3g} "
            f"(largest of {many})"
        )
    return found + [
        f"    {row['first']} - {row['second']}: {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], "
        f"p = {row['p_max']:.3g} (largest of {len(tests['contrasts'])})"
        for row in tests["contrasts"]
        if many == 2 or row["p_max"] < _LEVEL
    ]
