"""Watching over signal and sleeper within a session: what holds cues back besides the gate."""

import numpy as np

from sleep_interpreter.realtime.Session.arousal_detector import Arousal
from sleep_interpreter.realtime.Session.signal_quality import Quality
from sleep_interpreter.utils.core.constants import STREAM_RATE

_QUALITY_STEP = round(STREAM_RATE)
_AROUSAL_STEP = round(0.25 * STREAM_RATE)


class Watch:
    """Look at the channels every second and for arousals four times a second.

    Parameters
    ----------
    night : Night
    session : Session
        Its `cueing` is blocked and freed.

    Attributes
    ----------
    faults : dict
        {channel: reason} of the channels that are bad now.
    """

    def __init__(self, night, session):
        self._night, self._session = night, session
        settings, montage = night.settings, night.montage
        self._quality = Quality(settings.quality, montage.picks)
        self._arousal = Arousal(settings.arousal)
        self._window = self._quality.samples
        self._quality_due = night.origin + self._window
        self._arousal_due = night.origin + self._arousal.samples
        self._pause = round(settings.arousal.pause_seconds * STREAM_RATE)
        rows = [row for pair in montage.derivations if pair is not None for row in pair if row is not None]
        self._staging = {montage.picks[row] for row in rows}
        self._decoder = {montage.picks[row] for row in montage.decoder or ()}
        self.faults = {}

    @property
    def due(self):
        """Sample at which to look next."""
        return min(self._quality_due, self._arousal_due)

    def decoder_flags(self):
        """Return {channel: reason} of the decoder's channels that are bad now."""
        return {name: reason for name, reason in self.faults.items() if name in self._decoder}

    def fire(self, now):
        """Look, when it is time to."""
        if self._quality_due <= now:
            self._quality_due = now + _QUALITY_STEP
            self._look_at_channels(now)
        if self._arousal_due <= now:
            self._arousal_due = now + _AROUSAL_STEP
            window = self._night.montage.derive(self._night.buffer.read(now - self._arousal.samples, now))
            gate = self._session.staging.gate
            self._aroused(now, self._arousal.look(window, now, gate.stage, gate.probabilities))

    def staged(self, now, estimate):
        """A stage estimate has come."""
        if estimate.probabilities is not None:
            self._aroused(now, self._arousal.staged(estimate.probabilities))

    def _aroused(self, now, reason):
        if reason is None:
            return
        night, until = self._night, now + self._pause
        if "arousal" not in self._session.cueing.blocks and self._session.staging.gate.open:
            night.write(now, "arousal", reason=reason, until=until)
        self._session.cueing.block(now, "arousal", f"arousal: {reason}", until)

    def _look_at_channels(self, now):
        night = self._night
        window = night.buffer.read(now - self._window, now)
        if not np.isfinite(window).all(axis=1).any():  # a gap of the stream: no electrode is to blame
            self._session.cueing.block(now, "signal", "samples are missing")
            return
        found = self._quality.look(window, now)
        found = {name: reason for name, reason in found.items() if reason is not None}
        for name in sorted({*found, *self.faults}):
            if found.get(name) != self.faults.get(name):
                night.write(now, "quality", channel=name, reason=found.get(name))
        self.faults = found
        bad = sorted(self._staging & set(found))
        if bad:
            self._session.cueing.block(now, "signal", "; ".join(f"{name} {found[name]}" for name in bad))
        else:
            self._session.cueing.unblock(now, "signal")
