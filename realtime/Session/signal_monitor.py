"""Bad channels and arousals within a session: what blocks cues besides the gate."""

from collections.abc import Callable

import numpy as np

from sleep_interpreter.realtime.Session.arousal_detector import ArousalDetector
from sleep_interpreter.realtime.Session.cueing import CueController
from sleep_interpreter.realtime.Session.session_context import SessionContext
from sleep_interpreter.realtime.Session.signal_quality import ChannelQuality
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.staging.cue_gate import GateState
from sleep_interpreter.utils.staging.stagers import StageEstimate

_QUALITY_STEP = round(STREAM_RATE)
_AROUSAL_STEP = round(0.25 * STREAM_RATE)


class SignalMonitor:
    """Assess the channels every second and look for arousals four times a second; block and unblock `cueing`.

    `gate()` gives the gate's state; `faults` is {channel: reason} of the channels that are bad now.
    """

    def __init__(self, context: SessionContext, cueing: CueController, gate: Callable[[], GateState]) -> None:
        self._context, self._cueing, self._gate = context, cueing, gate
        settings, montage = context.settings, context.montage
        self._quality = ChannelQuality(settings.quality, montage.picks)
        self._arousal = ArousalDetector(settings.arousal)
        self._window = self._quality.samples
        self._quality_due = context.origin + self._window
        self._arousal_due = context.origin + self._arousal.samples
        self._pause = round(settings.arousal.pause_seconds * STREAM_RATE)
        rows = [row for pair in montage.derivations if pair is not None for row in pair if row is not None]
        self._staging = {montage.picks[row] for row in rows}
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
        bad = sorted(self._staging & set(found))
        if bad:
            self._cueing.block(now, "signal", "; ".join(f"{name} {found[name]}" for name in bad))
        else:
            self._cueing.unblock(now, "signal")
