"""The slow oscillation and the spindle of a cue, and the same at random times, the baseline of every histogram.

`slow_oscillations.so_phase` ("whole") places a time in oscillations found in the whole recording: with a cue at that
time, the response to it is among them (a K-complex is a slow oscillation). `so_phase_before` ("precue") uses nothing
after the time. What only the future tells is lost: no cue is Pre-SO, and an up-state without a trough before it counts
only where the wave is large already.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from sleep_interpreter.data.events.slow_oscillations import NREM, TRANSITION, SlowOscillationDetection, so_phase
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.signal.phase import RATE, phase_before, traces_before

_POST_SO = 7
_CYCLE_SECONDS, _CYCLES = 1.25, 4
"""Random times: one in each of the four cycles of 0.8 Hz before a cue: in the same sleep, before its response."""
_SEED = 1642
_FIRST = ((0.2 + 2 * TRANSITION, 1.0, 1 + 2 * TRANSITION), (1, 2, 3, 4))
_SECOND = ((2 * TRANSITION, 1 + TRANSITION, 1 + 2 * TRANSITION), (5, 6, 3, 4))
"""Without and with a trough before: where groups end, in half turns from 15 % before the rising zero crossing, and
their indices into `SO_GROUPS`; the shares of the half-waves are those of `so_phase`."""


class AtRandom(NamedTuple):
    """What the k random times before each of n cues met: groups int (n, k), phases in rad float (n, k)."""

    group: np.ndarray
    phase: np.ndarray


def at_cues(
    cues: pd.DataFrame, oscillations: pd.DataFrame, spindles: pd.DataFrame, settings: SlowOscillationDetection,
    after_cue: float, trace: np.ndarray | None,
) -> tuple[pd.DataFrame, AtRandom]:  # fmt: skip
    """Return the cues (with onset_s and stage) with their slow oscillation and spindle; and the same at random times.

    Columns: so_group ("none" where no oscillation is near, and outside N2 and N3), so_phase_rad, so_row (of the table
    of oscillations; -1 where there is none, and throughout with `settings.phase_from` precue), spindle_coupled (a
    spindle starts within `after_cue` s after the cue), so_phase_from. `trace` (T,) is the channel of the detection in
    µV at 500 Hz, not filtered; None: no precue phase can be read.
    """
    onset, asleep = cues.onset_s.to_numpy(float), np.isin(cues.stage.to_numpy(), NREM)
    back = np.random.default_rng(_SEED).random((len(onset), _CYCLES)) + np.arange(_CYCLES)
    times = np.column_stack([onset, onset[:, None] - _CYCLE_SECONDS * back])
    row: np.ndarray = np.full(times.size, -1)
    if settings.phase_from == "whole":
        group, phase, row = so_phase(oscillations, times.ravel(), settings.around_s)
    else:
        group, phase = so_phase_before(np.zeros(0) if trace is None else trace, times.ravel(), settings)
    group, phase, row = (values.reshape(times.shape) for values in (group, phase, row))
    group[~asleep], phase[~asleep], row[~asleep] = -1, np.nan, -1
    starts = spindles.start_s.to_numpy(float)
    coupled = [bool(((starts >= t) & (starts < t + after_cue)).any()) for t in onset]
    names = np.array([*SO_GROUPS, "none"])
    known = cues.assign(
        so_group=names[group[:, 0]], so_phase_rad=phase[:, 0], so_row=row[:, 0],
        spindle_coupled=np.array(coupled, bool), so_phase_from=settings.phase_from,
    )  # fmt: skip
    return known, AtRandom(group[:, 1:], phase[:, 1:])


def spindles_at_random(spindles: pd.DataFrame, oscillations: pd.DataFrame, many: int = 20) -> np.ndarray:
    """Return the phases in rad (n, many) that each spindle on an oscillation would meet at random times.

    The times lie anywhere in the oscillations of its stage.
    """
    random, rows = np.random.default_rng(_SEED), spindles.so.to_numpy(int)
    stages = oscillations.stage.to_numpy()
    riding = stages[rows[rows >= 0]]
    found = np.full((len(riding), many), np.nan)
    start, end = oscillations.start_s.to_numpy(float), oscillations.end_s.to_numpy(float)
    for stage in np.unique(riding):
        own, length = riding == stage, np.where(stages == stage, end - start, 0)
        picked = random.choice(len(length), own.sum() * many, p=length / length.sum())
        times = start[picked] + length[picked] * random.random(len(picked))
        found[own] = so_phase(oscillations, times, 0.0)[1].reshape(-1, many)
    return found


def so_phase_before(
    trace: np.ndarray, seconds: np.ndarray, settings: SlowOscillationDetection
) -> tuple[np.ndarray, np.ndarray]:
    """Return group and phase of the slow oscillation at the times `seconds` (n,) of a trace (T,) in µV at 500 Hz.

    An oscillation goes on where the last cycle before the time (0.3 to 2 Hz) reaches `peak_to_peak_uv` from trough to
    peak; its phase is that of `utils.signal.phase.phase_before`. An up-state is the second one where the trough before
    it is as deep as `negative_uv` asks, else the first. Post-SO follows the end of such a second up-state by `around_s`
    at most. The group is an index into `SO_GROUPS`, -1 for none and in the first 6 s; the phase is in rad, NaN outside
    an oscillation.
    """
    traces = traces_before(trace, np.rint(np.asarray(seconds, float) * STREAM_RATE).astype(int))
    own, pace, waves = phase_before(traces)
    group, phase = np.full(len(own), -1), np.full(len(own), np.nan)
    ago = (np.arange(waves.shape[1])[::-1] + 0.5) / RATE
    cycle, trough = 2 * np.pi / pace, (own + np.pi) % (2 * np.pi) / pace  # s, and s since the last trough
    large = np.ptp(np.where(ago <= cycle[:, None], waves, 0), axis=1) >= settings.peak_to_peak_uv[0]
    near = np.abs(ago - trough[:, None]) <= cycle[:, None] / 4
    deep = np.where(near, waves, 0).min(axis=1) <= -settings.negative_uv[0]
    turned = (own / np.pi + 0.5 + TRANSITION) % 2
    for row in np.flatnonzero(np.isfinite(own)):
        if large[row]:
            edges, groups = _SECOND if deep[row] else _FIRST
            group[row], phase[row] = groups[np.searchsorted(edges, turned[row], side="right")], own[row]
        elif _seconds_since_end(waves[row], settings.negative_uv[0]) < settings.around_s:
            group[row] = _POST_SO
    return group, phase


def _seconds_since_end(wave: np.ndarray, depth: float) -> float:
    """Return how long ago the up-state after the last trough of that depth ended, infinity where there is none."""
    falling = np.flatnonzero((wave[:-1] > 0) & (wave[1:] <= 0))
    rising = np.flatnonzero((wave[:-1] <= 0) & (wave[1:] > 0))
    if len(falling) < 2 or wave[falling[-2] : rising[rising < falling[-1]][-1] + 1].min() > -depth:
        return np.inf
    return (len(wave) - 1 - falling[-1]) / RATE
