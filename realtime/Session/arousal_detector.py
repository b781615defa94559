"""Arousals as they begin: a rise of the EMG, a burst of alpha or beta, a movement, or a stage of wakefulness.

Spindles (11 to 16 Hz), slow oscillations and K-complexes must not count, or nobody would ever be cued: the
EEG's bands leave the spindles out, and each measure is compared with its own running median.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from sleep_interpreter.realtime.Parameters.settings import ArousalSettings
from sleep_interpreter.utils.core.constants import STREAM_RATE

_CHECKS_PER_SECOND = 4
_EMG_SAMPLES = round(0.5 * STREAM_RATE)
_EEG_SAMPLES = round(STREAM_RATE)
_EMG_BAND = (15.0, 100.0)
_EEG_BANDS = {"alpha": (7.5, 10.5), "beta": (18.0, 30.0)}
_BASELINE_SECONDS = 30
"""Without so much of a baseline nothing is compared."""


class ArousalDetector:
    """Look for an arousal four times a second, in a window of `samples`."""

    def __init__(self, settings: ArousalSettings) -> None:
        self._settings = settings
        self.samples = round(settings.seconds * STREAM_RATE)
        kept = round(settings.baseline_seconds * _CHECKS_PER_SECOND)
        self._before: dict[str, deque[float]] = {name: deque(maxlen=kept) for name in ("EMG", *_EEG_BANDS)}
        self._fewest = min(kept, _BASELINE_SECONDS * _CHECKS_PER_SECOND)

    def detect(self, derivations: np.ndarray) -> str | None:
        """Return what looks like an arousal in the newest half second or second, or None.

        `derivations` (3, samples) are EEG, EOG and EMG in µV at 500 Hz; an absent channel's row is NaN.
        """
        if not self._settings.enabled:
            return None
        eeg, _, emg = np.asarray(derivations, float)
        reasons = []
        if np.isfinite(emg).all() and self._rises("EMG", _power(emg[-_EMG_SAMPLES:], _EMG_BAND), "emg_ratio"):
            reasons.append("EMG rise")
        if np.isfinite(eeg).all():
            for name, band in _EEG_BANDS.items():
                if self._rises(name, _power(eeg[-_EEG_SAMPLES:], band), "alpha_beta_ratio"):
                    reasons.append(f"{name} burst")
            if np.ptp(eeg) > self._settings.movement_microvolts:
                reasons.append("movement")
        return ", ".join(reasons) or None

    def wake_reason(self, probabilities: Sequence[float] | np.ndarray) -> str | None:
        """Return why a stage estimate, unsmoothed, counts as an arousal, or None."""
        if not self._settings.enabled:
            return None
        return "stage W/N1" if probabilities[0] >= self._settings.wake_probability else None

    def _rises(self, name: str, power: float, limit: str) -> bool:
        """Tell whether an amplitude exceeds its running median by the setting's ratio; remember it."""
        before = self._before[name]
        amplitude = float(np.sqrt(power))
        rises = len(before) >= self._fewest and amplitude > getattr(self._settings, limit) * float(np.median(before))
        before.append(amplitude)
        return rises


def _power(trace: np.ndarray, band: tuple[float, float]) -> float:
    """Return the mean power of (n,) within a band in Hz, Hann-weighted."""
    weights = np.hanning(len(trace))
    spectrum = np.abs(np.fft.rfft((trace - trace.mean()) * weights)) ** 2
    frequency = np.fft.rfftfreq(len(trace), 1 / STREAM_RATE)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    return 2 * spectrum[inside].sum() / (len(trace) * (weights**2).sum())
