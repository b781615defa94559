"""Says aloud when the gate is open and no cue comes for several of the intervals in which one is expected, and why."""

from collections.abc import Callable

from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Session.cueing import CueController, Gate
from sleep_interpreter.utils.core.constants import STREAM_RATE

_INTERVALS = 3
"""So many of the longest intervals between two cues are waited for ..."""
_PATIENCE_SECONDS = 300.0
"""... and so long where what holds cues back ends by itself, as the pause after an arousal does."""

Fault = dict[str, str]
"""{"state": "failed" | "back", "reason"}"""


class CueWatchdog:
    """Look whether cues come as they should; what the operator paused is silent on purpose.

    `heard()` gives how many cues came so far, shams among them, and how many were skipped.
    """

    def __init__(
        self,
        settings: SessionSettings,
        cueing: CueController,
        gate: Gate,
        heard: Callable[[], tuple[int, int]],
        origin: int,
    ) -> None:
        self._cueing, self._gate, self._heard = cueing, gate, heard
        cues = settings.cues
        waits = cues.lock.wait_seconds if cues.lock.method != "none" else 0.0
        seconds = _INTERVALS * (cues.interval_seconds[1] + waits)
        if cues.max_per_hour is not None:
            seconds = max(seconds, _INTERVALS * 3600.0 / cues.max_per_hour)
        self._intervals = round(seconds * STREAM_RATE)
        self._patience = max(self._intervals, round(_PATIENCE_SECONDS * STREAM_RATE))
        self._off = cues.mode == "recorded"  # they come when they come
        self._since, self._count, self._skipped, self._warned = origin, 0, 0, False

    def check(self, now: int) -> list[Fault]:
        """Return what has changed at sample `now`."""
        if self._off:
            return []
        blocks, (count, skipped) = self._cueing.blocks, self._heard()
        if count != self._count or not self._gate().open or "operator" in blocks:
            self._since, self._count, self._skipped = now, count, skipped
            if self._warned:
                self._warned = False
                return [{"state": "back", "reason": "cues come again, or need not"}]
            return []
        waited = now - self._since
        passing = blocks and all(until is not None for _, until in blocks.values())
        if self._warned or waited < (self._patience if passing else self._intervals):
            return []
        self._warned = True
        left = skipped - self._skipped
        why = self._cueing.block_reasons() or (f"{left} were skipped" if left else "none was decided")
        text = f"the gate is open, but no cue came for {waited / STREAM_RATE:.0f} s: {why}"
        return [{"state": "failed", "reason": text}]
