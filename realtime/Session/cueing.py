"""Cueing within a session: whether cues may be played, which is coming, and what became of each.

Cues are played while the gate is open and nothing blocks them. A block has a name and a reason: paused by
the operator, arousal, a stream that stalls, a dead electrode. When one comes, what was about to sound is
taken back.
"""

import logging
from collections import deque

import numpy as np

from sleep_interpreter.realtime.Cues.phase_locking import MEASURED_AFTER, achieved_phase
from sleep_interpreter.realtime.Parameters.output import CUE_BASE, GROUP_BASE
from sleep_interpreter.realtime.Session.session_context import stage_name
from sleep_interpreter.utils.core.constants import ITEMS

logger = logging.getLogger(__name__)


class Cueing:
    """Decide, sound and log cues.

    Parameters
    ----------
    night : Night
    schedule : CueSchedule | LockedCues | RecordedCues
    staging : callable
        `staging()` gives the gate's state.
    sounded : callable
        `sounded(cue, stage)` is called when a cue's onset, or a sham's, has come.

    Attributes
    ----------
    blocks : dict
        {name: (reason, sample until which it holds, or None)}.
    playing : bool
        Cues are being planned.
    coming : deque of (cue, stage)
        Decided, onset ahead.
    degrees : list of float
        Phases that locked cues met.
    """

    def __init__(self, night, schedule, staging, sounded):
        self._night, self.schedule, self._gate, self._sounded = night, schedule, staging, sounded
        settings = night.settings.cues
        self._recorded = settings.mode == "recorded"
        self._sounds = not self._recorded or settings.sound_recorded
        self.lock = schedule.lock
        self.blocks = {}
        self.playing = False
        self._group_due = None
        self.coming = deque()
        self._measuring = deque()
        self.counts = dict.fromkeys(ITEMS, 0)
        self.shams = 0
        self.degrees = deque(maxlen=500)

    # --- whether ------------------------------------------------------------------------------------

    def block(self, now, name, reason, until=None):
        """Hold cues back; a block of the same name is replaced."""
        self.blocks[name] = (reason, until)
        self.update(now)

    def unblock(self, now, name):
        """Take a block away; nothing happens when there is none."""
        if self.blocks.pop(name, None) is not None:
            self.update(now)

    def update(self, now):
        """Begin or end cueing as gate and blocks have it."""
        may = self._gate().open and not self.blocks
        if may == self.playing:
            return
        self.playing = may
        self._night.write(now, "cueing", on=may, reason=self.why())
        if self._recorded:
            return
        if may:
            self.schedule.start(now)
            self._mark_group(now)
        else:
            self.schedule.stop()
            self._group_due = None
            self._cancel(now)

    def switch_group(self, now):
        """Change to the other group now (operator).

        Raises
        ------
        ValueError
            The cues are a recording's.
        """
        if self._recorded:
            raise ValueError("recorded cues have no turns")
        self.schedule.switch_group(now)
        if self.playing:
            self._mark_group(now)

    def _cancel(self, now):
        """Take back what has been decided and has not begun."""
        night = self._night
        if not self.coming:
            return
        taken_back, begun, ended = set(night.sink.cancel()), [], []
        for cue, stage in self.coming:
            silent = cue.sham or not self._sounds
            started = (
                night.inputs.begun(cue.number) if night.inputs.replaying else cue.number not in taken_back
            )
            if started and not silent:
                begun.append((cue, stage))
            else:
                ended.append(cue)
        if night.ports is not None:  # before the log, which waits for the disk
            night.ports.cancel([cue.number for cue in ended])
        self.coming.clear()
        self.coming.extend(begun)
        for cue in ended:
            night.write(
                now,
                "cue_cancelled",
                **_named(cue),
                reason=self.why(),
            )
        if begun:
            night.write(now, "begun", numbers=[cue.number for cue, _ in begun])

    def why(self):
        """Return in one line why there are no cues, or None."""
        reasons = [reason for reason, _ in self.blocks.values()]
        if not self._gate().open:
            reasons.insert(0, "the gate is closed")
        return "; ".join(reasons) or None

    # --- when ---------------------------------------------------------------------------------------

    def due(self):
        """Return the samples at which there is something to do."""
        due = [cue.onset for cue, _ in list(self.coming)[:1]]
        due += [cue.onset + MEASURED_AFTER for cue in list(self._measuring)[:1]]
        due += [until for _, until in self.blocks.values() if until is not None]
        return [*due, *(d for d in (self.schedule.due, self._group_due) if d is not None)]

    def fire(self, now):
        """Do what falls due at `now`: blocks that end, group, decisions, phases, onsets."""
        for name in [n for n, (_, until) in self.blocks.items() if until is not None and until <= now]:
            self.unblock(now, name)
        if self._group_due is not None and self._group_due <= now:
            self._mark_group(now)
        while self.schedule.due is not None and self.schedule.due <= now:
            self._decide(now)
        while self._measuring and self._measuring[0].onset + MEASURED_AFTER <= now:
            self._measure(self._measuring.popleft())
        while self.coming and self.coming[0][0].onset <= now:
            self._sound(*self.coming.popleft())

    def feed(self, block):
        """Take (channels, n) µV, for locking."""
        if self.lock is not None:
            self.lock.feed(self._night.montage.locking(block))

    def _mark_group(self, now):
        group = self.schedule.group(now)
        self._group_due = self.schedule.next_switch(now)
        self._night.mark(GROUP_BASE + group)
        self._night.write(now, "group", GROUP_BASE + group, group=group)

    def _decide(self, now):
        """Take the cue that is due: send it on its way, or say why not."""
        night, stage = self._night, self._gate().stage
        cue = self.schedule.take(now)
        if cue is None:  # it waits for its phase
            return
        skipped = self.why() if self._recorded and not self.playing else cue.skipped
        if skipped:
            night.write(
                now,
                "cue_skipped",
                **_named(cue),
                stage=stage_name(stage),
                reason=skipped,
            )
            return
        when, code = night.when(cue.onset), self._code(cue)
        if self._sounds and not cue.sham:
            night.sink.schedule(cue, when)
        if night.ports is not None and code is not None and when is not None:
            night.ports.send(code, when, cue.number)
        if hasattr(night.source, "cued"):
            night.source.cued(cue.item, cue.onset, cue.sham)
        self.coming.append((cue, stage))

    def _code(self, cue):
        return self._night.settings.markers.sham_code if cue.sham else CUE_BASE + cue.item

    def _sound(self, cue, stage):
        """The cue's onset has come."""
        night = self._night
        code = self._code(cue)
        if night.when(cue.onset) is None and code is not None:
            night.mark(code)
        night.write(
            cue.onset,
            "sham" if cue.sham else "cue",
            code,
            **_named(cue),
            stage=stage_name(stage),
            recorded=cue.recorded,
            sounded=self._sounds and not cue.sham,
            locked=cue.locked,
        )
        if cue.sham:
            self.shams += 1
        else:
            self.counts[ITEMS[cue.item]] += 1
        self._measuring.append(cue)
        self._sounded(cue, stage)

    def _measure(self, cue):
        """Log the phase of the slow oscillation that a cue met, now that it can be seen from both sides."""
        night = self._night
        if cue.onset - MEASURED_AFTER < night.buffer.start:  # a cue in the first seconds
            return
        around = night.buffer.read(cue.onset - MEASURED_AFTER, cue.onset + MEASURED_AFTER)
        trace = night.montage.locking(around)
        degrees = achieved_phase(trace, MEASURED_AFTER) if np.isfinite(trace).all() else np.nan
        if cue.locked and np.isfinite(degrees):
            self.lock.learn(degrees)
            self.degrees.append(round(degrees, 1))
        night.write(
            cue.onset + MEASURED_AFTER,
            "cue_phase",
            number=cue.number,
            locked=cue.locked,
            degrees=round(degrees, 3) if np.isfinite(degrees) else None,
        )


def _named(cue):
    """Return what every entry of the log says of the cue that it is about."""
    return {"number": cue.number, "item": ITEMS[cue.item], "group": cue.group}
