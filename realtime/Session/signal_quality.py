"""Signal quality, channel by channel: what a dead, railed or noisy electrode looks like in a few seconds."""

from collections.abc import Sequence

import numpy as np

from sleep_interpreter.realtime.Parameters.settings import QualitySettings
from sleep_interpreter.utils.core.constants import STREAM_RATE

_RAIL = 1e-3
"""Samples this close to a channel's highest or lowest value, as a share of its range, are on a rail."""
_BAND = (1.0, 100.0)
_LINE_WIDTH = 1.0


class ChannelQuality:
    """Say which channels are bad, and why, from their last seconds: a window of `samples`.

    A reason stands for `clear_seconds` after it was last seen, so that a loose electrode does not flicker. `names`
    are the channels, one a row of the window.
    """

    def __init__(self, settings: QualitySettings, names: Sequence[str]) -> None:
        self._settings, self._names = settings, tuple(names)
        self.samples = round(settings.seconds * STREAM_RATE)
        self._clear = round(settings.clear_seconds * STREAM_RATE)
        self._seen: dict[str, tuple[str, int]] = {}  # name: (reason, sample at which it was last seen)
        frequency = np.fft.rfftfreq(self.samples, 1 / STREAM_RATE)
        self._band = (frequency >= _BAND[0]) & (frequency <= _BAND[1])
        line = settings.line_hz
        self._line = None if line is None else np.abs(frequency - line) <= _LINE_WIDTH

    def assess(self, window: np.ndarray, now: int) -> dict[str, str | None]:
        """Return {channel: reason or None} of a window (rows, samples), µV at 500 Hz, ending at sample `now`."""
        found = self._reasons(np.asarray(window, float))
        result = {}
        for name, reason in zip(self._names, found, strict=True):
            if reason is not None:
                self._seen[name] = reason, now
            elif name in self._seen and now - self._seen[name][1] < self._clear:
                reason = self._seen[name][0]
            else:
                self._seen.pop(name, None)
            result[name] = reason
        return result

    def _reasons(self, window: np.ndarray) -> list[str | None]:
        settings = self._settings
        finite = np.isfinite(window).all(axis=1)
        safe = np.where(finite[:, None], window, 0.0)
        halves = safe[:, : safe.shape[1] // 250 * 250].reshape(len(safe), -1, 250)
        flat = (halves.std(axis=2) < settings.flat_microvolts).mean(axis=1)
        low, high = safe.min(axis=1, keepdims=True), safe.max(axis=1, keepdims=True)
        near = _RAIL * (high - low)
        railed = np.maximum((safe >= high - near).mean(axis=1), (safe <= low + near).mean(axis=1))
        spread = np.subtract(*np.percentile(safe, [75, 25], axis=1))
        power = np.abs(np.fft.rfft(safe - safe.mean(axis=1, keepdims=True), axis=1)) ** 2
        total = power[:, self._band].sum(axis=1) + 1e-12
        share = np.zeros(len(safe)) if self._line is None else power[:, self._line].sum(axis=1) / total
        bad = {
            "holds samples that are not finite": ~finite,
            "is flat": flat >= settings.dead_share,
            "is railed": railed >= settings.dead_share,
            "has an amplitude out of range": spread > settings.largest_microvolts,
            "carries little but line noise": share > settings.line_share,
        }
        return [next((reason for reason, rows in bad.items() if rows[row]), None) for row in range(len(safe))]
