"""What a cue gate's threshold and run length cost: cues while awake or in R, and N2/N3 that is missed.

Everything follows from the history of a stager's probabilities and the true stages, through the very gate of the
real-time loop (`utils.staging.cue_gate`). Any night with a hypnogram will do.
"""

from collections.abc import Sequence
from itertools import groupby, product
from typing import Any, NamedTuple

import numpy as np

from sleep_interpreter.utils.core.constants import N2, N3, STAGES, STAGING_SECONDS, UNKNOWN
from sleep_interpreter.utils.staging.cue_gate import states
from sleep_interpreter.utils.staging.replay import Estimates
from sleep_interpreter.utils.staging.settings import GateSettings


class ScoredNight(NamedTuple):
    """A staged night with its true stages."""

    name: str
    estimates: Estimates
    epochs: np.ndarray
    """True stage of each 30 s epoch, or `UNKNOWN`."""


def open_seconds(night: ScoredNight, settings: GateSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return for how many seconds of each true stage (4,) the gate was open, and how many there were.

    An estimate holds until the next one, the last one until the end; before the first the gate is closed. Unknown
    epochs count in neither.
    """
    truth = np.repeat(np.asarray(night.epochs, int), STAGING_SECONDS)
    is_open = np.array([state.open for state in states(night.estimates.history, settings)], bool)
    # The estimate that holds in second s, or -1 before the first one.
    holding = np.searchsorted(night.estimates.seconds, np.arange(len(truth)) + 1e-6, side="right") - 1
    opened = np.zeros(len(truth), bool)
    opened[holding >= 0] = is_open[holding[holding >= 0]]
    known = truth != UNKNOWN
    total = np.bincount(truth[known], minlength=len(STAGES))
    return np.bincount(truth[known & opened], minlength=len(STAGES)), total


def outcome(opened: np.ndarray, total: np.ndarray) -> dict[str, float | None]:
    """Return the rates of a gate from `open_seconds` (summed over nights or of one).

    hours, open_minutes, false_share (of the open time that is truly W/N1 or R: the share of cues that falls on a
    stage that must not be cued; None if it never opens), false_minutes_per_hour (of the recording), missed_share (of
    the true N2 and N3 during which it is closed; None without any).
    """
    deep = [N2, N3]
    all_open, hours = int(opened.sum()), total.sum() / 3600
    false, nrem = all_open - int(opened[deep].sum()), int(total[deep].sum())
    return {
        "hours": float(hours),
        "open_minutes": all_open / 60,
        "false_share": false / all_open if all_open else None,
        "false_minutes_per_hour": float(false / 60 / hours) if hours else None,
        "missed_share": 1 - int(opened[deep].sum()) / nrem if nrem else None,
    }


def sweep(
    nights: list[ScoredNight], gate: GateSettings, thresholds: Sequence[float], detections: Sequence[int]
) -> list[dict[str, Any]]:
    """Return one row for every threshold of P(N2) + P(N3) and every number of NREM detections in a row; all else is
    as in `gate`.

    A row has threshold, detections, run_seconds (of the shortest run), nights, what `outcome` says over all nights,
    and "each" (false_share and missed_share of every night).
    """
    steps = [np.diff(night.estimates.seconds) for night in nights] or [np.zeros(1)]
    step = float(np.median(np.concatenate(steps)))
    rows = []
    for threshold, count in product(thresholds, detections):
        settings = gate.model_copy(update={"nrem_probability": threshold, "nrem_detections": count})
        each = [open_seconds(night, settings) for night in nights]
        own = [outcome(*pair) for pair in each]
        what = {"threshold": threshold, "detections": count, "run_seconds": count * step, "nights": len(nights)}
        shares = [[row["false_share"], row["missed_share"]] for row in own]
        rows.append(what | outcome(*np.sum(each, axis=0)) | {"each": shares})
    return rows


def table(rows: list[dict[str, Any]], scorer: str) -> list[str]:
    """Return the rows of one stager as lines of a table for a terminal: false share / missed share."""
    counts = list(dict.fromkeys(row["detections"] for row in rows))
    lines = [
        f"gate on {scorer}: false cues / missed N2 and N3 (%), by threshold (rows) and NREM detections in a "
        "row (columns)",
        "  " + "".join(f"{count:>14d}" for count in counts),
    ]
    for threshold, cells in groupby(rows, key=lambda row: row["threshold"]):
        text = [f"{_percent(c['false_share'])} / {_percent(c['missed_share'])}" for c in cells]
        lines.append(f"  {threshold:<4g}" + "".join(f"{cell:>14}" for cell in text)[2:])
    return lines


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
