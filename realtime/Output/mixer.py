"""Mixes cues into consecutive blocks of frames; nothing it gives is ever louder than the cap."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import signal

from sleep_interpreter.utils.signal.resample import ratio

_RAMP_SECONDS = 0.01
"""Time over which a change of volume, or silence, takes effect: short, and no click."""


class Mixer:
    """Mix scheduled sounds into consecutive blocks of frames; `position` is the number of frames rendered so far.

    `sounds` are float32 arrays, one an item, or a sound of a playlist, each of its own length; `volume_db` and
    `max_db` are the gain, and the level no frame ever exceeds, relative to full scale; `rate` is in Hz.
    """

    def __init__(self, sounds: Sequence[np.ndarray], volume_db: float, max_db: float, rate: int = 16000) -> None:
        # what is not a number is silence, whoever made it
        self._sounds = [np.nan_to_num(np.asarray(s, np.float32), posinf=0, neginf=0) for s in sounds]
        self._max_db = max_db
        self._cap = float(np.float32(10 ** (max_db / 20)))
        self._active: list[tuple[int, int, int, np.float32]] = []  # number, item, frame of its onset, gain
        self._ramp = max(1, round(_RAMP_SECONDS * rate))
        self._gain = self._target = self._level(volume_db)
        self._fade: int | None = None  # frames left until silence
        self.position = 0

    @property
    def volume_db(self) -> float:
        """The volume in force, dB relative to full scale."""
        return 20 * math.log10(self._target) if self._target > 0 else -math.inf

    def set_volume(self, db: float) -> float:
        """Change the volume, never above the cap; return the level in force, dB."""
        self._target = self._level(db)
        return self.volume_db

    def schedule(self, item: int, frame: int, gain_db: float = 0.0, number: int = 0) -> int:
        """Let `item` sound from `frame` on, or from the next one when that is past; return where it will begin."""
        frame = max(frame, self.position)
        gain = 10 ** (gain_db / 20) if math.isfinite(gain_db) else 0.0
        self._active = [*self._active, (number, item, frame, np.float32(gain))]
        return frame

    def cancel(self) -> list[int]:
        """Take back what has not begun; return its numbers."""
        ahead = [entry[0] for entry in self._active if entry[2] >= self.position]
        self._active = [entry for entry in self._active if entry[2] < self.position]
        return ahead

    def clear(self) -> None:
        """Forget what sounds and what has not begun: the frames in between went nowhere."""
        self._active, self._fade = [], None

    def silence(self) -> list[int]:
        """Fade out what sounds within 10 ms, and take back what has not begun; return its numbers."""
        ahead = self.cancel()
        self._fade = self._ramp if self._active else None
        return ahead

    def render(self, count: int) -> np.ndarray:
        """Return the next `count` frames, float32 (count,)."""
        block = np.zeros(count, np.float32)
        stop = self.position + count
        still = []
        for number, item, onset, gain in self._active:
            sound = self._sounds[item]
            first, last = max(onset, self.position), min(onset + sound.size, stop)
            if first < last:
                block[first - self.position : last - self.position] += gain * sound[first - onset : last - onset]
            if onset + sound.size > stop:
                still.append((number, item, onset, gain))
        self._active = still
        self.position = stop
        block *= self._gains(count)
        if self._fade is not None:
            block *= np.clip((self._fade - np.arange(count)) / self._ramp, 0, 1).astype(np.float32)
            self._fade -= count
            if self._fade <= 0:
                self._active, self._fade = [e for e in self._active if e[2] >= self.position], None
        # a sum of finite sounds may still overflow: what is not a number is silence here too
        np.nan_to_num(block, copy=False, nan=0, posinf=self._cap, neginf=-self._cap)
        return np.clip(block, -self._cap, self._cap, out=block)

    def _gains(self, count: int) -> np.ndarray | np.float32:
        """Return the gain of each of the next frames; it moves to its target in steps too small to hear."""
        if self._gain == self._target:
            return np.float32(self._gain)
        share = np.minimum(np.arange(1, count + 1) / self._ramp, 1)
        gains = self._gain + (self._target - self._gain) * share
        self._gain = self._target if count >= self._ramp else float(gains[-1])
        return gains.astype(np.float32)

    def _level(self, db: float) -> float:
        db = min(float(db), self._max_db) if math.isfinite(db) else -math.inf
        return 10 ** (db / 20) if db > -math.inf else 0.0


def resample_sound(sound: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Return a sound (n,) at another rate, float32; the same one where the rates are equal."""
    if rate == target:
        return sound
    up, down = ratio(rate, target)
    return signal.resample_poly(sound, up, down).astype("float32")
