"""Measures of a stager against expert stages: agreement with intervals, and latency of a change."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import signal

from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS, STREAM_RATE, UNKNOWN
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.metrics.statistics import confusion_counts, mean_interval

K = len(STAGES)
MEASURES = ("accuracy", "kappa", "macro_f1")


def stage_codes(codes: ArrayLike, whose: str = "stages") -> np.ndarray:
    """Return stages as an int array; refuse what is neither one of `STAGES` (0 to 3) nor unknown (-1)."""
    found = np.asarray(codes)
    good = np.isin(found, [UNKNOWN, *range(K)])
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        known = ", ".join(f"{code} {stage}" for code, stage in enumerate(STAGES))
        raise UserError(
            f"{whose}: {np.count_nonzero(~good)} of {found.size} epochs have a code that is no stage, the first "
            f"{found[first]!r} at epoch {first + 1}; the codes are {known}, {UNKNOWN} unknown: translate others first"
        )
    return found.astype(int)


def confusion(truth: ArrayLike, found: ArrayLike) -> np.ndarray:
    """Return how often each true stage (row) was called each (column): int (4, 4), without unknown."""
    truth, found = stage_codes(truth, "true stages"), stage_codes(found, "found stages")
    known = (truth != UNKNOWN) & (found != UNKNOWN)
    return confusion_counts(truth[known], found[known], K)


def agreement(counts: ArrayLike) -> dict[str, Any]:
    """Return the measures of one confusion matrix (4, 4); None where there is nothing to divide by.

    They are n, accuracy, chance (expected from how often either names each stage; kappa is measured from it),
    majority (share of the most frequent true stage: what always naming it would get), kappa, macro_f1 (mean over the
    true stages that occur), stages ({stage: {n, precision, recall, f1}}).
    """
    counts = np.asarray(counts, float)
    n = int(counts.sum())
    values = _measures(counts[None])[:, 0]
    rows, columns, hits = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    per_stage = {
        stage: {
            "n": int(rows[code]),
            "precision": _share(hits[code], columns[code]),
            "recall": _share(hits[code], rows[code]),
            "f1": _share(2 * hits[code], rows[code] + columns[code]),
        }
        for code, stage in enumerate(STAGES)
    }
    return {
        "n": n,
        **{m: float(v) if np.isfinite(v) else None for m, v in zip(MEASURES, values, strict=True)},
        "chance": _share(rows @ columns, n * n),
        "majority": _share(rows.max(), n),
        "stages": per_stage,
    }


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def cohen_kappa(tables: ArrayLike) -> np.ndarray:
    """Return Cohen's kappa of confusion matrices (..., K, K); NaN where empty or complete by chance alone."""
    tables = np.asarray(tables, float)
    n = tables.sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        agreed = np.trace(tables, axis1=-2, axis2=-1) / n
        chance = (tables.sum(axis=-1) * tables.sum(axis=-2)).sum(axis=-1) / n**2
        return (agreed - chance) / (1 - chance)


def _measures(tables: np.ndarray) -> np.ndarray:
    """Return accuracy, kappa and macro F1 (3, R) of confusion matrices (R, 4, 4); NaN where undefined."""
    n = tables.sum(axis=(1, 2))
    rows, columns = tables.sum(axis=2), tables.sum(axis=1)
    hits = np.diagonal(tables, axis1=1, axis2=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = hits.sum(axis=1) / n
        f1 = np.where(rows > 0, 2 * hits / (rows + columns), 0)
        macro = f1.sum(axis=1) / (rows > 0).sum(axis=1)
    return np.array([accuracy, cohen_kappa(tables), macro])


def blocks(truth: np.ndarray, found: np.ndarray, size: int) -> np.ndarray:
    """Return the confusion matrices of consecutive blocks of `size` places: int (n, 4, 4)."""
    starts = range(0, len(truth), size)
    parts = [confusion(truth[s : s + size], found[s : s + size]) for s in starts]
    return np.array([part for part in parts if part.any()] or [np.zeros((K, K), int)])


def intervals(tables: Sequence[np.ndarray]) -> dict[str, list[float] | None]:
    """Return 95 % intervals of `MEASURES` pooled over nights, {measure: [low, high]}, of every night's `blocks`.

    Jackknife over nights (`statistics.mean_interval` of the pseudo-values), and never narrower than a jackknife over
    blocks of consecutive time within nights: single epochs would make it too narrow, neighbours are alike. One night
    gives an interval over its own blocks, which says nothing about another sleeper; a single block gives none (None).
    Two or three nights say little, and their interval is as wide.
    """
    if sum(map(len, tables)) < 2:
        return dict.fromkeys(MEASURES)
    whole = np.sum([own.sum(axis=0) for own in tables], axis=0)
    centre = _measures(whole[None])[:, 0]
    found: dict[str, list[float] | None] = {}
    left = [_measures(whole - own) for own in tables]  # without one block
    if len(tables) == 1:
        units, within = left[0], np.zeros(len(MEASURES))
    else:
        units = _measures(whole - np.array([own.sum(axis=0) for own in tables]))
        several = [own for own in left if own.shape[1] > 1]
        spread = [(own.shape[1] - 1) * np.nan_to_num(np.nanvar(own, axis=1)) for own in several]
        within = np.sqrt(sum(spread, np.zeros(len(MEASURES))))
    for place, measure in enumerate(MEASURES):
        good = np.isfinite(units[place])
        count = np.count_nonzero(good)
        if not np.isfinite(centre[place]) or count < 2:
            found[measure] = None
            continue
        pseudo = count * centre[place] - (count - 1) * units[place][good]
        bounds = (-1.0, 1.0) if measure == "kappa" else (0.0, 1.0)
        ends = mean_interval(pseudo, within[place], bounds, centre[place])
        found[measure] = [float(end) for end in ends]
    return found


def pooled_agreement(pairs: Iterable[Sequence[np.ndarray]], size: int) -> dict[str, Any]:
    """Return the `agreement` of pairs of truth and found stages, one a night, with intervals and confusion.

    `size` is that of the `blocks` within nights.
    """
    tables = [blocks(truth, found, size) for truth, found in pairs]
    counts = np.sum([table.sum(axis=0) for table in tables], axis=0)
    return agreement(counts) | {"interval": intervals(tables), "confusion": counts.tolist()}


def published_grid(found: np.ndarray, epochs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return expert and stager on the published 3 s grid, as int arrays (10 m,), of (10 m - 9,) and (m,).

    Estimate k, of the window that begins at 3 k s, stands beside the expert's stage at 3 k s; the last one is
    repeated for the 9 places that no window begins at (SPEC section 3).
    """
    truth = np.repeat(np.asarray(epochs, int), 10)
    return truth, np.concatenate([found, np.repeat(found[-1:], len(truth) - len(found))])


def at_epochs(seconds: np.ndarray, count: int) -> np.ndarray:
    """Return the windows (by their ends in s) that cover each of `count` epochs exactly; -1 for none."""
    ends = STAGING_SECONDS * (1 + np.arange(count))
    rows = np.searchsorted(seconds, ends - 1e-6)
    there = rows < len(seconds)
    there[there] = np.abs(seconds[rows[there]] - ends[there]) < 1e-3
    return np.where(there, rows, -1)


def onset_latencies(seconds: np.ndarray, found: np.ndarray, epochs: ArrayLike) -> list[dict[str, Any]]:
    """Return how long after every true change of stage (30 s `epochs` (m,)) the online estimate follows.

    A change counts as followed by the first estimate after it, and before the next true change, that names the new
    stage. Where the new stage was named already when the change came, nothing followed it: such a change is `early`
    and has no latency (a stager that always says the same would have the shortest of all). Estimates `found` (n,) are
    there at `seconds` (n,). A row has at (s), from, to (stages), lasts (s until the next change), early, latency (s;
    None: never followed, or early).
    """
    epochs = stage_codes(epochs, "true stages")
    starts = np.flatnonzero(np.diff(epochs)) + 1
    rows = []
    stops = np.append(starts[1:], len(epochs))[: len(starts)]
    for start, stop in zip(starts, stops, strict=True):
        if UNKNOWN in (epochs[start], epochs[start - 1]):
            continue
        at, end = STAGING_SECONDS * start, STAGING_SECONDS * stop
        before = np.flatnonzero(seconds <= at)
        early = bool(len(before) and found[before[-1]] == epochs[start])
        inside = (seconds > at) & (seconds < end) & (found == epochs[start])
        latency = float(seconds[inside][0] - at) if inside.any() and not early else None
        words = {"from": STAGES[epochs[start - 1]], "to": STAGES[epochs[start]]}
        rows.append({"at": float(at), **words, "lasts": float(end - at), "early": early, "latency": latency})
    return rows


def latency_summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return n, early, followed, share_followed, mean and p90 (s) of the followed; None for none."""
    values = [row["latency"] for row in rows if row["latency"] is not None]
    return {
        "n": len(rows),
        "early": sum(row["early"] for row in rows),
        "followed": len(values),
        "share_followed": _share(len(values), len(rows)),
        "mean": float(np.mean(values)) if values else None,
        "p90": float(np.percentile(values, 90)) if values else None,
    }


def spectrum(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies (f,) from 0.5 to 30 Hz and power in dB (f, n) of a channel's windows (n, 15000)."""
    frequencies, power = signal.welch(np.nan_to_num(windows), STREAM_RATE, nperseg=2000, axis=-1)
    kept = (frequencies >= 0.5) & (frequencies <= 30)
    return frequencies[kept], 10 * np.log10(np.maximum(power[:, kept], 1e-12)).T
