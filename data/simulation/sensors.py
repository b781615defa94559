"""What electrodes and amplifier add to the brain's signals: noise, drift, mains, bad channels, movements."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import signal

from sleep_interpreter.data.simulation.settings import SensorSettings
from sleep_interpreter.data.simulation.waves import BLOCK, RATE, box

BAD_COLUMNS = ("start_s", "duration_s", "channel", "kind")
"""Columns of the table of bad channels; `kind` is "flat" or "noisy"."""

_KNOT_S = BLOCK / RATE
_JERKS_HZ = 3.0
_FLAT_UV = 0.05
_SHARE = np.arange(BLOCK) / BLOCK


def draw_bad_channels(
    rng: np.random.Generator, settings: SensorSettings, names: Sequence[str], total_s: float
) -> pd.DataFrame:
    """Draw which EEG channels are bad when: a DataFrame with `BAD_COLUMNS`, by onset."""
    count = rng.poisson(settings.bad_channels_per_h * total_s / 3600)
    start = np.sort(rng.uniform(0, total_s, count))
    length = np.minimum(rng.exponential(60 * settings.bad_channel_min, count), total_s - start)
    channel = [str(names[k]) for k in rng.integers(len(names), size=count)]
    kind = [("flat", "noisy")[k] for k in rng.integers(2, size=count)]
    return pd.DataFrame(dict(zip(BAD_COLUMNS, (start, length, channel, kind), strict=True)))


class Sensors:
    """The recording side of one scene of `n` samples with all channels `names`, its bad channels and movements.

    `rng_of(*purpose)` returns a generator of the scene.
    """

    def __init__(
        self, rng_of: Callable[..., np.random.Generator], settings: SensorSettings, names: Sequence[str], n: int,
        bad: pd.DataFrame, movement: pd.DataFrame,
    ) -> None:  # fmt: skip
        self._rng_of, self._settings, self._names = rng_of, settings, list(names)
        self._bad, self._movement = bad.to_dict("records"), movement.to_dict("records")
        channels = len(self._names)
        keep = np.exp(-_KNOT_S / settings.drift_s)
        rng = rng_of("drift")
        start = rng.standard_normal(channels)
        steps = np.sqrt(1 - keep**2) * rng.standard_normal((n // BLOCK + 4, channels))
        self._knots = settings.drift_uv * signal.lfilter([1], [1, -keep], steps, axis=0, zi=[keep * start])[0]
        rng = rng_of("line")
        size = settings.line_uv * np.sqrt(2) * rng.lognormal(0, 0.5, channels)
        angle = rng.normal(rng.uniform(0, 2 * np.pi), 0.3, channels)
        self._line = np.stack([size * np.cos(angle), size * np.sin(angle)], axis=1)

    def add(self, eeg: np.ndarray, block: int) -> None:
        """Add noise, drift, mains and movements to the signals (C, BLOCK) of one block, in place."""

        cycle = 2 * np.pi * self._settings.line_hz * (block * BLOCK + np.arange(BLOCK)) / RATE
        # A cubic through the knots on either side (Catmull and Rom), without a kink from block to block.
        s = _SHARE
        basis = 0.5 * np.stack([-s + 2 * s**2 - s**3, 2 - 5 * s**2 + 3 * s**3, s + 4 * s**2 - 3 * s**3, s**3 - s**2])
        courses = np.concatenate([np.stack([np.sin(cycle), np.cos(cycle)]), basis])
        sizes = np.concatenate([self._line, self._knots[block : block + 4].T], axis=1)
        eeg += sizes.astype(np.float32) @ courses.astype(np.float32)
        white = self._rng_of("sensor", block).standard_normal(eeg.shape, np.float32)
        eeg += np.float32(self._settings.noise_uv) * white
        for number, row, t, inside in _near(self._movement, block):
            self._add_movement(eeg, self._rng_of("movement", number), row, t, inside)

    def _add_movement(
        self, eeg: np.ndarray, rng: np.random.Generator, row: dict[Any, Any], t: np.ndarray, inside: np.ndarray
    ) -> None:
        """Add one movement artefact: jerks of every electrode of its own and of all together."""
        own = rng.standard_normal((len(eeg), int(row["duration_s"] * _JERKS_HZ) + 3))
        course = (0.7 * own + 0.7 * rng.standard_normal(own.shape[1])) * rng.lognormal(0, 0.4, (len(eeg), 1))
        at = t * _JERKS_HZ
        left, share = at.astype(int), at - at.astype(int)
        share = share**2 * (3 - 2 * share)
        jerks = course[:, left] * (1 - share) + course[:, left + 1] * share
        eeg[:, inside] += self._settings.movement_uv * jerks * box(t, row["duration_s"], 0.5)

    def spoil(self, eeg: np.ndarray, block: int) -> None:
        """Make bad channels of one block flat or noisy, in place; no reference can be taken after that."""
        for number, row, _, inside in _near(self._bad, block):
            channel = self._names.index(row["channel"])
            noise = self._rng_of("bad", number, block).standard_normal(BLOCK)
            if row["kind"] == "flat":
                eeg[channel, inside] = _FLAT_UV * noise[inside]
                continue
            slow = np.cumsum(noise)
            slow -= np.linspace(0, slow[-1], BLOCK)  # ends where it began, so blocks join
            noisy = 0.3 * self._settings.bad_channel_uv * (noise + 0.1 * slow)
            eeg[channel, inside] += noisy[inside]


def _near(rows: list[dict], block: int) -> Iterator[tuple[int, dict[Any, Any], np.ndarray, np.ndarray]]:
    """Yield number and row of the events that meet a block, with the s since their beginning at their samples."""
    for number, row in enumerate(rows):
        t = (block * BLOCK + np.arange(BLOCK)) / RATE - row["start_s"]
        inside = np.flatnonzero((t >= 0) & (t < row["duration_s"]))
        if len(inside):
            yield number, row, t[inside], inside
