"""From probabilities over time to events and rates."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sleep_interpreter.data.events.slow_oscillations import compare_events
from sleep_interpreter.train.evaluation import memory_scores, paired_values
from sleep_interpreter.train.evaluation.sliding_decoder import Course, ReactivationSettings, joined
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.metrics.statistics import holm


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

    Each control is a recording scored in its own SDs, as the nights are; `step` is s between two windows. One half of
    the control sets the threshold, and the other one shows how many control events lie above it: counted where the
    threshold was chosen, there would always be too few. Levels are {stage: "threshold", "minutes" of the counting
    half, "false_alarms" (K,) its events of each item, "bound_per_min" up to which the rate may lie that the threshold
    was chosen for (`rate_bound`)}, without the stages that have no control.
    """
    levels = {}
    for code in np.unique(np.concatenate([control.stage for control in controls])):
        parts = [control.some(control.stage == code) for control in controls]
        parts = [part for part in parts if len(part.time)]
        score = np.concatenate([scores(part.probability) for part in parts])
        own, highest = joined(parts, parts[0].items), score.max(axis=1)
        order = np.argsort(own.time, kind="stable")  # a control's pieces were drawn in any order
        found = order[peaks(own.time[order], own.stretch[order], highest[order], settings.refractory_seconds)]
        counts = np.zeros(len(order), bool)
        counts[order] = _counting_half(len(order), step)
        setting, counted = found[~counts[found]], found[counts[found]]
        minutes = float((~counts).sum() * step / 60)
        allowed = allowed_events(minutes, settings.false_alarms_per_min, settings.control.confidence)
        best = highest[setting]
        threshold = float(best[allowed]) if allowed < len(best) else float(best.min(initial=0.0))
        alarms = score[counted[highest[counted] > threshold]].argmax(axis=1)
        levels[int(code)] = {
            "threshold": threshold,
            "minutes": float(counts.sum() * step / 60),
            "false_alarms": np.bincount(alarms, minlength=own.probability.shape[1]),
            "bound_per_min": rate_bound(int((best > threshold).sum()), minutes, settings.control.confidence),
        }
    return levels


def _counting_half(windows: int, step: float) -> np.ndarray:
    """Return a mask (n,) of every second one of an even number of equal stretches of about 30 s.

    So both halves come from the whole length of the control.
    """
    stretches = 2 * max(1, round(windows * step / 60))
    return (np.arange(windows) * stretches // max(1, windows)) % 2 == 1


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
    """Return events a minute of every item and stage, beside what the control gives: `with_excess` of the counts.

    Columns: subject, stage, item, events, minutes, control_events, control_minutes, and what `with_excess` adds.
    """
    rows = []
    for code, level in levels.items():
        minutes = float(((course.stage == code) & course.free).sum() * step / 60)
        for k, item in enumerate(course.items):
            n = int(((events.stage == STAGES[code]) & (events["item"] == item)).sum())
            rows.append((subject, STAGES[code], item, n, minutes, int(level["false_alarms"][k]), level["minutes"]))
    names = ["subject", "stage", "item", "events", "minutes", "control_events", "control_minutes"]
    return with_excess(pd.DataFrame(rows, columns=names))


def with_excess(counts: pd.DataFrame) -> pd.DataFrame:
    """Return a table of counts with rate, control_rate, excess (rate minus control_rate), excess_low, excess_high.

    `counts` has events in minutes of the night, control_events in control_minutes. The interval is of 95 %: exact
    limits of either Poisson rate (Garwood, 1936, Biometrika 28:437) joined as Zou and Donner (2008, Stat Med 27:1693)
    join those of a difference. It takes events to come one by one; in bursts they are less sure than it says.
    """
    rate, low, high = _poisson_rate(counts.events.to_numpy(), counts.minutes.to_numpy(float))
    control = counts.control_events.to_numpy(), counts.control_minutes.to_numpy(float)
    usual, usual_low, usual_high = _poisson_rate(*control)
    excess = rate - usual
    return counts.assign(
        rate=rate, control_rate=usual, excess=excess,
        excess_low=excess - np.hypot(rate - low, usual_high - usual),
        excess_high=excess + np.hypot(high - rate, usual - usual_low),
    )  # fmt: skip


def _poisson_rate(events: np.ndarray, minutes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rates with their 95 % limits, arrays (n,); NaN without a minute."""
    minutes = np.where(minutes > 0, minutes, np.nan)
    low = np.where(events > 0, stats.chi2.ppf(0.025, np.maximum(2 * events, 1)), 0) / 2
    return events / minutes, low / minutes, stats.chi2.ppf(0.975, 2 * events + 2) / 2 / minutes


def pooled(tables: Sequence[pd.DataFrame], by: Sequence[str] = ("subject",)) -> pd.DataFrame:
    """Return `rates` of several nights as one table, a row a stage and item of each `by`.

    The nights of one subject have one control between them.
    """
    groups = pd.concat(tables, ignore_index=True).groupby([*by, "stage", "item"], as_index=False, sort=False)
    night = {"events": "sum", "minutes": "sum"}
    return with_excess(groups.agg(night | {"control_events": "first", "control_minutes": "first"}))


def total_excess(table: pd.DataFrame, by: Sequence[str] = ("subject",)) -> pd.DataFrame:
    """Return the excess over all items and stages, a row of each `by`: events, minutes, expected, score, excess (a
    minute).

    Expected is what the control gives in the same minutes of each stage; stages without either are left out. The score
    (`_normal_score`) is for tests: a few control events more or less make the excess lie askew about zero.
    """
    keys = {"events": "sum", "minutes": "first", "control_events": "sum", "control_minutes": "first"}
    stages = table.groupby([*by, "stage"], as_index=False, sort=False).agg(keys)
    stages = stages[(stages.minutes > 0) & (stages.control_minutes > 0)]
    stages = stages.assign(expected=stages.control_events * stages.minutes / stages.control_minutes)
    groups = stages.groupby(list(by), as_index=False, sort=False)
    total = groups[["events", "minutes", "expected"]].sum()
    score = [_normal_score(own) for _, own in groups]
    return total.assign(score=score, excess=(total.events - total.expected) / total.minutes)


def _normal_score(stages: pd.DataFrame) -> float:
    """Return how far the events of one night's stages are beyond those of their control, as a standard normal number.

    If both come at one rate, the night's events are binomial given those of night and control together, whatever the
    rate. The score is the normal quantile of the mid-P of as many events (Lancaster 1961, JASA 56:223).
    """
    fewer = np.ones(1)  # probability of 0, 1, ... events, one stage after the other
    counts = (stages.events + stages.control_events).to_numpy(int)
    shares = (stages.minutes / (stages.minutes + stages.control_minutes)).to_numpy(float)
    for count, share in zip(counts, shares, strict=True):
        fewer = np.convolve(fewer, stats.binom.pmf(np.arange(count + 1), count, share))
    events = int(stages.events.sum())
    return float(stats.norm.ppf(np.clip(fewer[:events].sum() + fewer[events] / 2, 1e-12, 1 - 1e-12)))


def read_conditions(
    path: Path, sessions: Mapping[str, Sequence[str]], aliases: Mapping[str, str]
) -> dict[tuple[str, str], str]:
    """Read what each night was from TSV or CSV: subject, condition, and session where subjects have several.

    `sessions` are those of each subject (our names) that were searched; subjects that were not are left out. The
    result is {(subject, session): condition}. Refused if a night has two conditions, a session does not exist, or
    nobody of the subjects is in it.
    """
    table = memory_scores.read_subjects(path, ("condition",), aliases)
    found: dict[tuple[str, str], str] = {}
    for line, row in zip(table.index, table.astype({"condition": str}).to_dict("records"), strict=True):
        if row["subject"] not in sessions:
            continue
        own = sessions[row["subject"]]
        if "session" in table and str(row["session"]) not in own:
            raise UserError(
                f"{path}, line {line}: {row['subject']} has no night {row['session']!r}; it has {', '.join(own)}"
            )
        for session in [str(row["session"])] if "session" in table else own:
            if (row["subject"], session) in found:
                raise UserError(
                    f"{path}, line {line}: {row['subject']} {session} has a condition already; give one row"
                )
            found[row["subject"], session] = row["condition"]
    if not found:
        raise UserError(f"{path}: none of {', '.join(sessions)} is in it")
    return found


def of_conditions(nights: pd.DataFrame, condition: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """Return `total_excess` of each subject in each condition, of the `rates` of nights (with a column session).

    Nights without a condition ({(subject, session): condition}) are left out.
    """
    keys = list(zip(nights.subject, nights.session, strict=True))
    own = nights[[key in condition for key in keys]]
    own = own.assign(condition=[condition[key] for key in keys if key in condition])
    by = ("subject", "condition")
    return total_excess(pooled([own], by), by)


def between_conditions(total: pd.DataFrame, permutations: int, seed: int) -> list[dict[str, Any]]:
    """Test every two conditions of `of_conditions` against each other in events a minute beyond the control.

    Where subjects have both, over those and within them (`paired_values.mean_of_differences`); where no subject has,
    between the groups (`paired_values.difference_of_groups`). Rows: first, second, paired, left_out (subjects with one
    alone of a paired comparison), p, p_holm, test (the function's result).
    """
    wide = total.pivot_table(index="subject", columns="condition", values="excess", sort=False)
    rows: list[dict[str, Any]] = []
    for one, other in combinations(wide, 2):
        both = wide[[one, other]].dropna()
        some = wide[[one, other]].dropna(how="all")
        row = {"first": one, "second": other, "paired": bool(len(both)), "left_out": []}
        if len(both):
            test = paired_values.mean_of_differences(both[one] - both[other], permutations, seed)
            row |= {"left_out": sorted(set(some.index) - set(both.index)), "p": test["sign_flip_p"]}
        else:
            test = paired_values.difference_of_groups(wide[one].dropna(), wide[other].dropna(), permutations, seed)
            row |= {"p": test["permutation_p"]}
        rows.append(row | {"test": test})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


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


def beyond_control(rate_table: pd.DataFrame) -> pd.DataFrame:
    """Return the events of each subject (row) and item (column) minus those that the control leads to expect.

    Expected of an item is what the subject's control gives in the same minutes of each stage, all items together,
    times the item's share of the control events of all subjects (one more of each item, as there are few).
    """
    table = pooled([rate_table])
    table = table[table.control_minutes > 0]
    usual = table.groupby(["subject", "stage"]).control_events.transform("sum")
    named = table.groupby(["stage", "item"]).control_events.transform("sum") + 1
    share = named / (table.groupby("stage").control_events.transform("sum") + table["item"].nunique())
    expected = usual * share * table.minutes / table.control_minutes
    found = table.assign(beyond=table.events - expected)
    return found.pivot_table(index="subject", columns="item", values="beyond", aggfunc="sum", sort=False)
