"""Shapes of the simulated signals: noise in blocks, slow oscillations and their phase, spindles, eyes.

All that is random about an event stands in its row of a table; a shape is a function of the row alone.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import fft
from scipy.interpolate import PchipInterpolator

from sleep_interpreter.data.events.slow_oscillations import KNOTS, group_limits
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.utils.core.constants import STREAM_RATE

RATE = STREAM_RATE
BLOCK = 5000
"""Noise is made in blocks of so many samples (10 s, three to an epoch), whatever is asked for."""
FADE = 600
"""Samples in which one block of noise passes into the next."""
NEAR_S = 0.5
"""How long before and after a slow oscillation its groups Pre-SO and Post-SO reach."""

_UP, _TROUGH, _PEAK = 0.25, -0.58, 0.42  # of the first up-state, trough and second up-state; trough to peak is 1
_KNOT_PHASES = np.pi * np.array([-0.5, 0.5, 1.0, 1.5, 2.0, 2.5])


def frequencies() -> np.ndarray:
    """Return the frequencies in Hz of the spectra that `noise` takes, (BLOCK + FADE) / 2 + 1 of them."""
    return fft.rfftfreq(BLOCK + FADE, 1 / RATE)


def fall(slope: float, knee_hz: float, low_hz: float = 0.3, high_hz: float = 100.0) -> np.ndarray:
    """Return amplitudes of noise with a power of 1 / (knee² + f²)^(slope / 2), standard deviation 1."""
    f = frequencies()
    return _scaled(np.where((f >= low_hz) & (f <= high_hz), (knee_hz**2 + f**2) ** (-slope / 4), 0))


def band(centre_hz: float, sd_hz: float) -> np.ndarray:
    """Return amplitudes of a rhythm: noise with a Gaussian power around a frequency, standard deviation 1."""
    away = (frequencies() - centre_hz) / sd_hz
    return _scaled(np.where(np.abs(away) < 4, np.exp(-0.25 * away**2), 0))


def _scaled(amplitude: np.ndarray) -> np.ndarray:
    amplitude[0] = amplitude[-1] = 0  # a mean is no noise
    return (amplitude / np.sqrt((amplitude**2).sum()) * (BLOCK + FADE) / 2).astype(np.float32)


def noise(rng: np.random.Generator, amplitudes: np.ndarray) -> np.ndarray:
    """Return noise (rows, BLOCK + FADE) with given amplitudes (rows, frequencies up to the last used one).

    It repeats itself after its end; `cross_fade` uses every sample once.
    """
    parts = rng.standard_normal((*amplitudes.shape, 2), np.float32).view(np.complex64)[..., 0]
    return fft.irfft(parts * amplitudes, BLOCK + FADE, axis=-1)


_RISE = np.sin(0.5 * np.pi * (np.arange(FADE) + 0.5) / FADE).astype(np.float32)


def cross_fade(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Let the end of one block of noise pass into the next; the power stays level: (rows, BLOCK)."""
    joined = now[:, :BLOCK].copy()
    joined[:, :FADE] *= _RISE
    joined[:, :FADE] += before[:, BLOCK:] * _RISE[::-1]
    return joined


def slow_oscillation(row: Mapping[str, Any], seconds: np.ndarray) -> np.ndarray:
    """Return one slow oscillation, trough to second peak 1, at the times `seconds` (n,).

    `row` has start_s, trough_start_s, trough_s, up_start_s, peak_s, end_s in increasing order: a first up-state, a
    sharp trough, a second, broader up-state.
    """
    knots = [row[name] for name in KNOTS]
    knots.insert(1, 0.5 * (knots[0] + knots[1]))
    values = [0.0, _UP, 0.0, _TROUGH, 0.0, _PEAK, 0.0]
    return PchipInterpolator(knots, values)(np.clip(seconds, knots[0], knots[-1]))


def so_phase(table: pd.DataFrame, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return group (int) and phase of the slow oscillation at the times `seconds` (n,), given those sorted by start_s.

    The phase is that of a cosine whose peak is the up-state, in rad above -pi and up to pi: -pi/2 where the first
    up-state begins (`start_s`), 0 at its peak, pi/2 at `trough_start_s`, pi at `trough_s`, -pi/2 at `up_start_s`, 0 at
    `peak_s`, pi/2 at `end_s`; linear between these times, NaN outside of slow oscillations. The groups are places in
    `SO_GROUPS`, -1 without an oscillation within 0.5 s, as of `data.events.slow_oscillations.so_phase`, which does the
    same for oscillations that were detected; they differ where two oscillations meet: here, inside an oscillation that
    one counts (the later one of two that overlap), between two the nearer one.
    """
    seconds = np.asarray(seconds, float)
    group, phase = np.full(seconds.shape, -1), np.full(seconds.shape, np.nan)
    if not len(table):
        return group, phase
    knots = table[list(KNOTS)].to_numpy(float)
    last = np.searchsorted(knots[:, 0], seconds, "right") - 1
    before, after = knots[np.maximum(last, 0)], knots[np.minimum(last + 1, len(knots) - 1)]
    inside = (last >= 0) & (seconds < before[:, -1])
    since = np.where(last >= 0, seconds - before[:, -1], np.inf)
    until = np.where(last + 1 < len(knots), after[:, 0] - seconds, np.inf)
    group[~inside & (since <= NEAR_S) & (since <= until)] = SO_GROUPS.index("Post-SO")
    group[~inside & (until <= NEAR_S) & (until < since)] = SO_GROUPS.index("Pre-SO")
    t, k = seconds[inside], before[inside]
    limits = np.stack(group_limits(k[:, 0], k[:, 1], k[:, 3], k[:, 5]))
    group[inside] = SO_GROUPS.index("trans-1st-Up") + (t >= limits[1:-1]).sum(axis=0)
    piece = np.clip((t[:, None] >= k).sum(axis=1) - 1, 0, len(KNOTS) - 2)
    rows = np.arange(len(t))
    share = (t - k[rows, piece]) / (k[rows, piece + 1] - k[rows, piece])
    angle = _KNOT_PHASES[piece] + share * np.diff(_KNOT_PHASES)[piece]
    phase[inside] = np.pi - np.mod(np.pi - angle, 2 * np.pi)
    return group, phase


def time_at_phase(row: Mapping[str, Any] | pd.Series, angle: float) -> float:
    """Return when a slow oscillation has a phase, counted on from -pi/2 at its start to 5 pi/2 at its end."""
    return float(np.interp(angle, _KNOT_PHASES, [row[name] for name in KNOTS]))


def spindle(row: Mapping[str, Any], seconds: np.ndarray) -> np.ndarray:
    """Return one spindle, 1 from peak to peak, at `seconds`: it waxes, wanes, slows down a little.

    `row` has start_s, duration_s and frequency_hz, which it has in its middle, with a peak there.
    """
    t = (seconds - row["start_s"]) / row["duration_s"]
    envelope = np.sin(np.pi * np.clip(t, 0, 1))
    middle = (t - 0.5) * row["duration_s"]
    return 0.5 * envelope * np.cos(2 * np.pi * (row["frequency_hz"] * middle - 0.25 * middle**2))


def eye_movement(row: Mapping[str, Any], seconds: np.ndarray) -> np.ndarray:
    """Return one blink or eye movement of size 1 at `seconds`.

    A blink is up and down again; a saccade leaps, drifts back and leaps back; a slow movement rolls there and back.
    """
    t, length = seconds - row["start_s"], row["duration_s"]
    share = np.clip(t / length, 0, 1)
    if row["kind"] == "blink":
        return np.sin(np.pi * share) ** 2
    if row["kind"] == "slow":
        return np.sin(2 * np.pi * share) * np.sin(np.pi * share) ** 0.5
    leap = 0.05  # s, of a saccade of some 20 degrees
    gate = np.clip(np.minimum(t, length - t) / leap, 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * gate)) * np.exp(-np.clip(t, 0, length) / 1.5)


def sawtooth(row: Mapping[str, Any], seconds: np.ndarray) -> np.ndarray:
    """Return one burst of sawtooth waves, 1 from peak to peak, at `seconds`: a slow rise, a steep fall."""
    t = seconds - row["start_s"]
    cycle = np.mod(t * row["frequency_hz"], 1.0)
    teeth = np.where(cycle < 0.7, cycle / 0.7, (1 - cycle) / 0.3) - 0.5
    return teeth * box(t, row["duration_s"], 0.4)


def box(t: np.ndarray, length: float, ramp: float) -> np.ndarray:
    """Return a window over [0, length] with ramps of `ramp` s inside, at the times `t` in s."""
    return np.clip(np.minimum(t, length - t) / ramp, 0, 1)
