"""From probabilities over time to events, rates, and their relation to behaviour."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from sleep_interpreter.data.events.slow_oscillations import compare_events
from sleep_interpreter.train.evaluation.sliding_decoder import Course, ReactivationSettings, joined
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.errors import UserError, nearest


def scores(probability: np.ndarray) -> np.ndarray:
    """Return how much more likely each item is than it usually is in this sleep, in SDs: (T, K) of (T, K).

    Evidence for an item is the logarithm of its probability minus the mean over all items (linear in what a network's
    last layer gives, so it does not saturate). Decoders favour some items, and others in another recording: each
    item's evidence is taken in SDs from its mean over the same sleep (of one recording and stage), so that no
    difference between a night and its control looks like events. Reactivations are too rare to matter.
    """
    logarithm = np.log(np.maximum(np.asarray(probability, float), 1e-30))
    evidence = logarithm - logarithm.mean(axis=1, keepdims=True)
    return (evidence - evidence.mean(axis=0)) / np.maximum(evidence.std(axis=0), 1e-6)


def peaks(time: np.ndarray, stretch: np.ndarray, score: np.ndarray, refractory: float) -> np.ndarray:
    """Return the places of peaks, highest first: each is the highest within `refractory` s of those left.

    A threshold then keeps the first of them, so lowering it never removes an event. No peak suppresses one of another
    stretch; times rise.
    """
    left, found = np.ones(len(time), bool), []
    for place in np.argsort(-score, kind="stable"):
        if not left[place]:
            continue
        found.append(int(place))
        lo, hi = np.searchsorted(time, [time[place] - refractory, time[place] + refractory])
        near = np.arange(lo, hi)
        left[near[stretch[near] == stretch[place]]] = False
    return np.array(found, int)


def thresholds(controls: Sequence[Course], settings: ReactivationSettings, step: float) -> dict[int, dict]:
    """Return for every stage the threshold of scores that keeps the stated rate of false alarms.

    Each control is a recording scored in its own SDs, as the nights are; `step` is s between two windows. Levels are
    {stage: "threshold", "minutes", "false_alarms" (K,) control events of each item above it, "bound_per_min" up to
    which the true rate may lie (`rate_bound`)}, without the stages that have no control.
    """
    levels = {}
    for code in np.unique(np.concatenate([control.stage for control in controls])):
        parts = [control.some(control.stage == code) for control in controls]
        parts = [part for part in parts if len(part.time)]
        score = np.concatenate([scores(part.probability) for part in parts])
        own, highest = joined(parts, parts[0].items), score.max(axis=1)
        minutes = len(own.time) * step / 60
        order = np.argsort(own.time, kind="stable")  # a control's pieces were drawn in any order
        found = order[peaks(own.time[order], own.stretch[order], highest[order], settings.refractory_seconds)]
        allowed = allowed_events(minutes, settings.false_alarms_per_min, settings.control.confidence)
        best = highest[found]
        threshold = float(best[allowed]) if allowed < len(best) else float(best.min(initial=0.0))
        alarms = np.bincount(score[found[best > threshold]].argmax(axis=1), minlength=own.probability.shape[1])
        levels[int(code)] = {
            "threshold": threshold, "minutes": minutes, "false_alarms": alarms,
            "bound_per_min": rate_bound(int(alarms.sum()), minutes, settings.control.confidence),
        }  # fmt: skip
    return levels


def rate_bound(events: int, minutes: float, confidence: float) -> float:
    """Return the upper bound of a Poisson rate (a minute) of which `events` were seen: one-sided, exact.

    Source: Garwood (1936), Biometrika 28:437.
    """
    return float(stats.chi2.ppf(confidence, 2 * events + 2) / 2 / minutes) if minutes else np.inf


def allowed_events(minutes: float, rate: float, confidence: float) -> int:
    """Return how many events a control may hold so that `rate_bound` is at most `rate`; 0 if none may."""
    few = range(int(rate * minutes) + 1)
    fitting = [n for n in few if rate_bound(n, minutes, confidence) <= rate]
    return fitting[-1] if fitting else 0


def find_events(course: Course, levels: Mapping[int, dict], settings: ReactivationSettings) -> pd.DataFrame:
    """Return the reactivation events of a course, in order of time.

    Columns: onset_s (where a cue would have been), item, stage (name), score (SDs above the usual), probability.
    """
    rows = []
    for code, level in levels.items():
        own = course.some((course.stage == code) & course.free)
        if not len(own.time):
            continue
        score = scores(own.probability)
        for place in peaks(own.time, own.stretch, score.max(axis=1), settings.refractory_seconds):
            if score[place].max() <= level["threshold"]:
                break
            item = int(score[place].argmax())
            p = float(own.probability[place, item])
            rows.append((float(own.time[place]), course.items[item], STAGES[code], float(score[place, item]), p))
    table = pd.DataFrame(rows, columns=["onset_s", "item", "stage", "score", "probability"])
    return table.sort_values("onset_s", ignore_index=True)


def rates(subject: str, course: Course, events: pd.DataFrame, levels: Mapping[int, dict], step: float) -> pd.DataFrame:
    """Return events a minute of every item and stage, beside what the control gives.

    Columns: subject, stage, item, events, minutes, rate, control_rate, excess (rate minus control_rate).
    """
    rows = []
    for code, level in levels.items():
        minutes = float(((course.stage == code) & course.free).sum() * step / 60)
        for k, item in enumerate(course.items):
            n = int(((events.stage == STAGES[code]) & (events["item"] == item)).sum())
            rate = n / minutes if minutes else np.nan
            control = level["false_alarms"][k] / level["minutes"] if level["minutes"] else np.nan
            rows.append((subject, STAGES[code], item, n, minutes, rate, control, rate - control))
    names = ["subject", "stage", "item", "events", "minutes", "rate", "control_rate", "excess"]
    return pd.DataFrame(rows, columns=names)


def against_truth(
    events: pd.DataFrame, truth: pd.DataFrame, minutes: float, tolerance: float, false_alarms_per_min: float
) -> dict[str, Any]:
    """Return how events compare with planted reactivations (simulated nights only).

    `truth` (onset_s, item) are those inside the searched `minutes`; the threshold promises `false_alarms_per_min`;
    the tolerance is in s.
    """
    found = compare_events(events.onset_s.to_numpy(float), truth.onset_s.to_numpy(float), tolerance)
    pairs = found.pop("pairs")
    same = [events["item"].iloc[i] == truth["item"].iloc[j] for i, j in pairs]

    def rate(number: int) -> float | None:
        return number / minutes if minutes else None

    # events that fall beside a planted one by accident: each planted one covers 2 * tolerance
    covered = min(1.0, len(truth) * 2 * tolerance / (60 * minutes)) if minutes else 0.0
    accident = float(1 - np.exp(-len(events) * 2 * tolerance / (60 * minutes))) if minutes else None
    return {
        **found,
        "right_item": int(sum(same)),
        "minutes": minutes,
        "planted_per_min": rate(len(truth)),
        "events_per_min": rate(len(events)),
        "false_per_min": rate(len(events) - found["hits"]),
        "promised_false_per_min": false_alarms_per_min,
        "recall_by_accident": accident,
        "covered_by_truth": covered,
    }


def read_behaviour(
    path: Path, subjects: Sequence[str], aliases: Mapping[str, str], items: Sequence[str]
) -> pd.DataFrame:
    """Read memory scores from TSV or CSV: subject (our names), item, score; rows without a score are left out.

    More columns are ignored. `subjects` are wanted; `aliases` are {the lab's name: our name}; `items` are known.
    Refused if a column is missing, an item is unknown, or nobody of the subjects is in it.
    """
    table = pd.read_csv(path, sep=None, engine="python", dtype={"subject": str})
    for column in ("subject", "item", "score"):
        if column not in table:
            raise UserError(f"{path}: no column {column!r}; it has {', '.join(map(str, table.columns))}")
    unknown = sorted(set(table["item"].astype(str)) - set(items))
    if unknown:
        close = [f"; did you mean {name!r}?" for name in nearest(unknown[0], items, 1)]
        raise UserError(f"{path}: unknown item {unknown[0]!r}{''.join(close)}")
    table = table.assign(subject=table.subject.map(lambda s: aliases.get(s, s)))
    table = table[table.subject.isin(subjects) & table.score.notna()]
    if table.empty:
        raise UserError(f"{path}: none of {', '.join(subjects)} is in it")
    return table[["subject", "item", "score"]].reset_index(drop=True)


def relation(rate_table: pd.DataFrame, behaviour: pd.DataFrame, permutations: int, seed: int) -> dict[str, Any]:
    """Return the rank correlation of events and memory over items, within subjects and over all of them.

    Spearman's rho over the items of each subject; over subjects the mean of Fisher's z. p: how often items permuted
    within every subject give a mean at least as far from zero (two-sided), which assumes nothing about subjects. The
    result: "subjects" {name: rho or None}, "mean_rho", "p", "n" subjects that count, "permutations".
    """
    total = rate_table.groupby(["subject", "item"], as_index=False).events.sum()
    pairs = {}
    for subject, own in behaviour.groupby("subject"):
        both = own.merge(total[total.subject == subject], on="item")
        if len(both) >= 4 and both.events.nunique() > 1 and both.score.nunique() > 1:
            pairs[subject] = (_ranks(both.events), _ranks(both.score))
    rho = {s: float((x * y).sum()) for s, (x, y) in pairs.items()}
    names = {str(s): rho.get(s) for s in behaviour.subject.unique()}
    if not rho:
        return {"subjects": names, "mean_rho": None, "p": None, "n": 0, "permutations": permutations}
    rng = np.random.default_rng(seed)
    observed = np.mean([_fisher(r) for r in rho.values()])
    null = np.zeros(permutations)
    for x, y in pairs.values():
        orders = rng.permuted(np.tile(y, (permutations, 1)), axis=1)
        null += _fisher(orders @ x)
    p = (1 + (np.abs(null / len(pairs)) >= abs(observed) - 1e-12).sum()) / (1 + permutations)
    mean = float(np.tanh(observed))
    return {"subjects": names, "mean_rho": mean, "p": float(p), "n": len(pairs), "permutations": permutations}


def _ranks(values: ArrayLike) -> np.ndarray:
    """Return ranks of mean 0 and length 1, so that a product is Spearman's rho."""
    ranks = stats.rankdata(np.asarray(values, float))
    ranks -= ranks.mean()
    return ranks / np.linalg.norm(ranks)


def _fisher(rho: ArrayLike) -> Any:
    return np.arctanh(np.clip(rho, -0.999999, 0.999999))
