"""Bad channels and arousals within a session: what blocks cues besides the gate.

Channels are judged one by one: what a dead, railed or noisy electrode looks like in a few seconds. Arousals are met as
they begin: a rise of the EMG, a burst of alpha or beta, a movement, or a stage of wakefulness. Spindles (11 to 16 Hz),
slow oscillations and K-complexes must not count, or nobody would ever be cued: the EEG's bands leave the spindles out,
and each measure is compared with its own running median.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from sleep_interpreter.realtime.Parameters.settings import ArousalSettings, QualitySettings
from sleep_interpreter.realtime.Session.cueing import CueController, Gate
from sleep_interpreter.realtime.Session.session_context import SessionContext
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.staging.stagers import StageEstimate

_QUALITY_STEP = round(STREAM_RATE)
_AROUSAL_STEP = round(0.25 * STREAM_RATE)

_RAIL = 1e-3
"""Samples this close to a channel's highest or lowest value, as a share of its range, are on a rail."""
_BAND = (1.0, 100.0)
_LINE_WIDTH = 1.0

_CHECKS_PER_SECOND = 4
_EMG_SAMPLES = round(0.5 * STREAM_RATE)
_EEG_SAMPLES = round(STREAM_RATE)
_EMG_BAND = (15.0, 100.0)
_EEG_BANDS = {"alpha": (7.5, 10.5), "beta": (18.0, 30.0)}
_BASELINE_SECONDS = 30
"""Without so much of a baseline nothing is compared."""


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


class SignalMonitor:
    """Assess the channels every second and look for arousals four times a second; block and unblock `cueing`.

    `faults` is {channel: reason} of the channels that are bad now.
    """

    def __init__(self, context: SessionContext, cueing: CueController, gate: Gate) -> None:
        self._context, self._cueing, self._gate = context, cueing, gate
        settings, montage = context.settings, context.montage
        self._quality = ChannelQuality(settings.quality, montage.picks)
        self._arousal = ArousalDetector(settings.arousal)
        self._window = self._quality.samples
        self._quality_due = context.origin + self._window
        self._arousal_due = context.origin + self._arousal.samples
        self._pause = round(settings.arousal.pause_seconds * STREAM_RATE)
        self._decoder = {montage.picks[row] for row in montage.decoder or ()}
        self.faults: dict[str, str] = {}

    @property
    def due(self) -> int:
        """Sample at which there is something to do."""
        return min(self._quality_due, self._arousal_due)

    def decoder_flags(self) -> dict[str, str]:
        """Return {channel: reason} of the decoder's channels that are bad now."""
        return {name: reason for name, reason in self.faults.items() if name in self._decoder}

    def process_due(self, now: int) -> None:
        """Do what falls due at `now`."""
        if self._quality_due <= now:
            self._quality_due = now + _QUALITY_STEP
            self._assess_channels(now)
        if self._arousal_due <= now:
            self._arousal_due = now + _AROUSAL_STEP
            window = self._context.montage.derive(self._context.buffer.read(now - self._arousal.samples, now))
            self._handle_arousal(now, self._arousal.detect(window))

    def check_stage(self, now: int, estimate: StageEstimate) -> None:
        """A stage estimate has come: it may be an arousal."""
        if estimate.probabilities is not None:
            self._handle_arousal(now, self._arousal.wake_reason(estimate.probabilities))

    def _handle_arousal(self, now: int, reason: str | None) -> None:
        if reason is None:
            return
        context, until = self._context, now + self._pause
        if "arousal" not in self._cueing.blocks and self._gate().open:
            context.log_event(now, "arousal", reason=reason, until=until)
        self._cueing.block(now, "arousal", f"arousal: {reason}", until)

    def _assess_channels(self, now: int) -> None:
        context = self._context
        window = context.buffer.read(now - self._window, now)
        if not np.isfinite(window).all(axis=1).any():  # a gap of the stream: no electrode is to blame
            self._cueing.block(now, "signal", "samples are missing")
            return
        reasons = self._quality.assess(window, now)
        found = {name: reason for name, reason in reasons.items() if reason is not None}
        for name in sorted({*found, *self.faults}):
            if found.get(name) != self.faults.get(name):
                context.log_event(now, "quality", channel=name, reason=found.get(name))
        self.faults = found
        bad = sorted(context.montage.staging & set(found))
        if bad:
            self._cueing.block(now, "signal", "; ".join(f"{name} {found[name]}" for name in bad))
        else:
            self._cueing.unblock(now, "signal")
