"""Slow oscillations and spindles (YASA), the phase that a cue fell on, and the eight groups by phase.

The paper's definitions are not public: thresholds are settings (params/prepare.yaml), the groups are defined
by `so_phase` and drawn in docs/data_format.md.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pydantic import Field, PositiveFloat, StringConstraints

from sleep_interpreter.utils.core.config import Settings
from sleep_interpreter.utils.core.constants import N2, N3

_Name = Annotated[str, StringConstraints(min_length=1)]
_Range = tuple[float, float]
_Times = float | np.ndarray
RATE = 100.0
"""Hz of the signals that are searched."""
KNOTS = ("start_s", "trough_start_s", "trough_s", "up_start_s", "peak_s", "end_s")
"""Times of a slow oscillation, in this order; see `detect_so`."""
_YASA = {
    "Start": "trough_start_s", "NegPeak": "trough_s", "MidCrossing": "up_start_s", "PosPeak": "peak_s",
    "End": "end_s", "PTP": "amplitude_uv", "Stage": "stage",
}  # fmt: skip
"""YASA's columns of slow oscillations, and ours."""
_SPINDLE_COLUMNS = (
    "start_s", "peak_s", "end_s", "duration_s", "frequency_hz", "amplitude_uv", "channel", "kind", "so",
    "so_phase_rad",
)  # fmt: skip
_SLOW_BELOW = 13.0  # Hz; spindles below it are called slow, the others fast
TRANSITION = 0.15
"""Share of a half-wave on either side of a zero crossing that counts as transition."""
NREM = (N2, N3)


class SlowOscillationDetection(Settings):
    """Detection of slow oscillations with YASA, and what is near enough to a cue."""

    channel: _Name = "Fz"
    reference: Literal["mastoids", "recorded"] = "mastoids"
    freq_hz: _Range = (0.3, 1.5)
    negative_s: _Range = (0.15, 1.0)
    positive_s: _Range = (0.1, 1.0)
    negative_uv: _Range = (30.0, 300.0)
    positive_uv: _Range = (8.0, 200.0)
    peak_to_peak_uv: _Range = (60.0, 500.0)
    first_up_s: _Range = (0.1, 1.0)
    around_s: PositiveFloat = 0.5
    phase_from: Literal["precue", "whole"] = "precue"


class SpindleDetection(Settings):
    """Detection of spindles with YASA, and what counts as coupled."""

    channels: tuple[_Name, ...] = ("Fz", "Cz", "Pz")
    freq_hz: _Range = (11.0, 16.0)
    duration_s: _Range = (0.5, 2.5)
    threshold_correlation: float = Field(0.65, ge=0, le=1)
    threshold_rms: float = Field(1.5, gt=0)
    threshold_relative_power: float = Field(0.2, ge=0, le=1)
    after_cue_s: PositiveFloat = 1.5


def detect_so(signal: np.ndarray, stages: np.ndarray, settings: SlowOscillationDetection) -> pd.DataFrame:
    """Find slow oscillations in N2 and N3.

    YASA finds the down-state (negative half-wave) and the up-state after it. The first up-state is the positive
    half-wave of the same band that ends where the down-state begins; its length is limited to `first_up_s`. `signal`
    (n,) is in µV at 100 Hz; `stages` (n,) has the stage of every sample (0 = W or N1, 1 = N2, 2 = N3, 3 = R, -1 = not
    scored). Returned, times in s: start_s (first up-state), trough_start_s, trough_s (minimum), up_start_s (second
    up-state), peak_s (its maximum), end_s, amplitude_uv (trough to peak), stage.
    """
    import mne  # lazy: start-up
    import yasa  # lazy: start-up

    empty = pd.DataFrame({name: [] for name in ("start_s", *_YASA.values())})
    if not np.isin(stages, NREM).any() or len(signal) < 30 * RATE:
        return empty
    with _quietly():
        found = yasa.sw_detect(
            signal, RATE, ["SO"], hypno=stages, include=NREM, freq_sw=settings.freq_hz,
            dur_neg=settings.negative_s, dur_pos=settings.positive_s,
            amp_neg=settings.negative_uv, amp_pos=settings.positive_uv,
            amp_ptp=settings.peak_to_peak_uv, verbose="ERROR",
        )  # fmt: skip
        low, high = settings.freq_hz
        band = mne.filter.filter_data(  # as YASA filters
            np.asarray(signal, float), RATE, low, high,
            l_trans_bandwidth=0.2, h_trans_bandwidth=0.2, verbose="error",
        )  # fmt: skip
    if found is None:
        return empty
    rows = found.summary()
    rising = np.flatnonzero((band[:-1] <= 0) & (band[1:] > 0)) / RATE
    start = rows["Start"].to_numpy(float)
    before = np.searchsorted(rising, start - settings.first_up_s[0], side="right") - 1
    first = np.append(rising, -np.inf)[before]  # -1, where there is none, is the last one
    first = np.maximum(first, start - settings.first_up_s[1])
    times = {ours: rows[theirs].to_numpy(int if ours == "stage" else float) for theirs, ours in _YASA.items()}
    return pd.DataFrame({"start_s": first, **times})


def so_phase(
    table: pd.DataFrame, seconds: np.ndarray, around: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return group, phase and row of the slow oscillation at the times `seconds` (n,).

    An oscillation has three half-waves: the first up-state from `start_s` to `trough_start_s`, the down-state to
    `up_start_s`, the second up-state to `end_s`. A transition takes the 15 % of a half-wave on either side of the zero
    crossing between two. From the `around` seconds before the oscillation to those after it, the groups are

    ============= =====================================================================
    Pre-SO        up to the first up-state's beginning
    trans-1st-Up  the first 35 % of the first up-state
    1st-Up        until 15 % of the first up-state are left
    trans-Down    those 15 %, and the first 15 % of the down-state
    Down          until 15 % of the down-state are left
    trans-2nd-Up  those 15 %, and the first 15 % of the second up-state
    2nd-Up        the rest of the second up-state
    Post-SO       after it
    ============= =====================================================================

    Where two oscillations claim a time, the one that is inside it wins, then the nearer trough. `table` needs the six
    times of `detect_so`. The group is an index into `SO_GROUPS`, -1 where no oscillation is near; the phase is in rad
    in (-pi, pi], NaN outside an oscillation: 0 at the peaks of the up-states, pi at the trough, linear between those
    and the zero crossings (-pi/2 rising, pi/2 falling); the row that of the oscillation in the table, or -1.
    """
    seconds = np.atleast_1d(np.asarray(seconds, float))
    group, phase, row = np.full(len(seconds), -1), np.full(len(seconds), np.nan), np.full(len(seconds), -1)
    if not len(table):
        return group, phase, row
    times = {key: table[key].to_numpy(float) for key in KNOTS}
    for k, t in enumerate(seconds):
        near = np.flatnonzero((t >= times["start_s"] - around) & (t < times["end_s"] + around))
        if not len(near):
            continue
        inside = (t >= times["start_s"][near]) & (t < times["end_s"][near])
        distance = np.abs(times["trough_s"][near] - t)
        best = near[np.lexsort((distance, ~inside))[0]]
        row[k] = best
        group[k], phase[k] = _place(t, *(times[key][best] for key in times))
    return group, phase, row


def group_limits(start: _Times, falling: _Times, rising: _Times, end: _Times) -> list[Any]:
    """Return the seven times in s at which one group of `so_phase` passes into the next.

    Given are the beginning of the first up-state, of the down-state, of the second up-state, and its end, in s.
    """
    first, down, second = falling - start, rising - falling, end - rising
    return [
        start,
        start + (0.2 + TRANSITION) * first,
        falling - TRANSITION * first,
        falling + TRANSITION * down,
        rising - TRANSITION * down,
        rising + TRANSITION * second,
        end,
    ]


def _place(
    t: float, start: float, falling: float, trough: float, rising: float, peak: float, end: float
) -> tuple[int, float]:
    """Return group and phase of a time near one oscillation."""
    group = int(np.searchsorted(group_limits(start, falling, rising, end), t, side="right"))
    if not start <= t < end:
        return group, np.nan
    marks = [start, (start + falling) / 2, falling, trough, rising, peak, end]
    phase = np.interp(t, marks, np.pi * np.arange(-0.5, 3.0, 0.5))
    return group, float(np.pi - (np.pi - phase) % (2 * np.pi))


def detect_spindles(
    signals: np.ndarray, names: Sequence[str], stages: np.ndarray, settings: SpindleDetection,
    oscillations: pd.DataFrame,
) -> pd.DataFrame:  # fmt: skip
    """Find spindles in N2 and N3, and the slow oscillations (as from `detect_so`) that they ride on.

    A spindle seen in several channels is one: of those that overlap, the largest is kept. `signals` (channels, n) are
    in µV at 100 Hz, `stages` (n,) as in `detect_so`. Returned: start_s, peak_s, end_s, duration_s, frequency_hz,
    amplitude_uv (peak to peak), channel, kind ("slow" below 13 Hz, else "fast"), so (row of the oscillation whose first
    up-state to end holds the peak, or -1), so_phase_rad.
    """
    import yasa  # lazy: start-up

    empty = pd.DataFrame({name: [] for name in _SPINDLE_COLUMNS})
    if not len(names) or not np.isin(stages, NREM).any() or signals.shape[1] < 30 * RATE:
        return empty
    with _quietly():
        thresholds = {
            "corr": settings.threshold_correlation,
            "rms": settings.threshold_rms,
            "rel_pow": settings.threshold_relative_power,
        }
        found = yasa.spindles_detect(
            signals, RATE, list(names), hypno=stages, include=NREM, freq_sp=settings.freq_hz,
            duration=settings.duration_s, thresh=thresholds, verbose="ERROR",
        )  # fmt: skip
    if found is None:
        return empty
    rows = found.summary().sort_values("Amplitude", ascending=False)
    kept: list[Any] = []
    for row in rows.itertuples():
        if not any(row.Start < other.End and row.End > other.Start for other in kept):
            kept.append(row)
    kept.sort(key=lambda r: r.Start)
    table = pd.DataFrame(
        [(r.Start, r.Peak, r.End, r.Duration, r.Frequency, r.Amplitude, r.Channel) for r in kept],
        columns=list(_SPINDLE_COLUMNS[:7]),
    )
    table["kind"] = np.where(table.frequency_hz < _SLOW_BELOW, "slow", "fast")
    _, phase, riding = so_phase(oscillations, table.peak_s.to_numpy(), around=0.0)
    return table.assign(so=riding, so_phase_rad=phase)


def compare_events(found: ArrayLike, true: ArrayLike, tolerance: float) -> dict[str, Any]:
    """Return how well detected events hit true ones, each counted once; times and largest distance of a hit in s.

    Keys: "precision", "recall" (None without events), "hits", "found", "true", "pairs" (k, 2) of their places.
    """
    found, true = np.asarray(found, float), np.asarray(true, float)
    pairs: list[tuple[int, int]] = []
    used, hit = set(), set()
    order = [
        (abs(found[i] - t), i, j) for j, t in enumerate(true) for i in np.flatnonzero(np.abs(found - t) <= tolerance)
    ]
    for _, i, j in sorted(order):
        if i not in used and j not in hit:
            used.add(i)
            hit.add(j)
            pairs.append((int(i), j))
    return {
        "precision": len(pairs) / len(found) if len(found) else None,
        "recall": len(pairs) / len(true) if len(true) else None,
        "hits": len(pairs), "found": len(found), "true": len(true),
        "pairs": np.array(pairs, int).reshape(-1, 2),
    }  # fmt: skip


@contextmanager
def _quietly() -> Iterator[None]:
    """YASA warns (log and warnings) where it finds nothing, which is no fault here."""
    log = logging.getLogger("yasa")
    level = log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            log.setLevel(level)
