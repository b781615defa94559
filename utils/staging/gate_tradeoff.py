"""What a cue gate's threshold and run length cost: cues while awake or in R, and N2/N3 that is missed.

Everything follows from the history of a stager's probabilities and the true stages, through the very gate of
the real-time loop (`utils.staging.cue_gate`). It takes any night: a staged recording or stored windows, with a hypnogram.
"""

from typing import NamedTuple

import numpy as np

from sleep_interpreter.utils.core.constants import N2, N3, STAGES, STAGING_SECONDS, UNKNOWN
from sleep_interpreter.utils.staging.cue_gate import states
from sleep_interpreter.utils.staging.replay import Estimates


class Night(NamedTuple):
    """A staged night with its true stages."""

    name: str
    estimates: Estimates
    epochs: np.ndarray
    """True stage of each 30 s epoch, or `UNKNOWN`."""


def open_seconds(night, settings):
    """Return for how many seconds of each true stage the gate was open, and how many there were.

    An estimate holds until the next one, the last one until the end; before the first the gate is closed.

    Parameters
    ----------
    night : Night
    settings : sleep_interpreter.utils.staging.settings.GateSettings

    Returns
    -------
    opened, total : int array (4,)
        Seconds by true stage; unknown epochs count in neither.
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


def outcome(opened, total):
    """Return the rates of a gate from `open_seconds` (summed over nights or of one).

    Returns
    -------
    result : dict
        hours, open_minutes, false_share (of the open time that is truly W/N1 or R: the share of cues that
        falls on a stage that must not be cued; None if it never opens), false_minutes_per_hour (of the
        recording), missed_share (of the true N2 and N3 during which it is closed; None without any).
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


def sweep(nights, gate, thresholds, detections):
    """Return one row for every threshold and run length.

    Parameters
    ----------
    nights : list of Night
    gate : sleep_interpreter.utils.staging.settings.GateSettings
        Everything but the two that are varied.
    thresholds : sequence of float
        P(N2) + P(N3) from which the gate may open.
    detections : sequence of int
        NREM detections in a row that it takes.

    Returns
    -------
    rows : list of dict
        threshold, detections, run_seconds (of the shortest run), nights, those of `outcome` over all nights,
        and "each" (false_share and missed_share of every night).
    """
    rows = []
    for threshold in thresholds:
        for count in detections:
            settings = gate.model_copy(update={"nrem_probability": threshold, "nrem_detections": count})
            each = [open_seconds(night, settings) for night in nights]
            opened, total = (np.sum(part, axis=0) for part in zip(*each, strict=True))
            own = [outcome(*pair) for pair in each]
            rows.append(
                {
                    "threshold": threshold,
                    "detections": count,
                    "run_seconds": count * step_seconds(nights),
                    "nights": len(nights),
                    **outcome(opened, total),
                    "each": [[row["false_share"], row["missed_share"]] for row in own],
                }
            )
    return rows


def step_seconds(nights):
    """Return the time between two stagings of the nights in s (the median)."""
    return float(np.median(np.concatenate([np.diff(night.estimates.seconds) for night in nights] or [[0.0]])))


def table(rows, scorer):
    """Return the rows of one stager as lines of a table for a terminal: false share / missed share."""
    counts = list(dict.fromkeys(row["detections"] for row in rows))
    found = {(row["threshold"], row["detections"]): row for row in rows}
    lines = [
        f"gate on {scorer}: false cues / missed N2 and N3 (%), by threshold (rows) and NREM detections in a "
        "row (columns)"
    ]
    lines.append("  " + "".join(f"{count:>14d}" for count in counts))
    for threshold in dict.fromkeys(row["threshold"] for row in rows):
        cells = [found[threshold, count] for count in counts]
        text = [f"{_percent(c['false_share'])} / {_percent(c['missed_share'])}" for c in cells]
        lines.append(f"  {threshold:<4g}" + "".join(f"{cell:>14}" for cell in text)[2:])
    return lines


def _percent(value):
    return "-" if value is None else f"{100 * value:.1f}"
