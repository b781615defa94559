"""Cueing within a session: whether cues may be played, which is coming, and what became of each.

Cues are played while the gate is open and nothing blocks them. A block has a name and a reason: paused by the
operator, arousal, a stream that stalls, a dead electrode. When one comes, what was about to sound is taken back.
"""

import time
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Cues.phase_locking import MEASURED_AFTER, MEASURED_BEFORE, phases_met
from sleep_interpreter.realtime.Cues.schedule import Schedule
from sleep_interpreter.realtime.Output.sinks import Cue
from sleep_interpreter.realtime.Session.session_context import SessionContext, stage_name
from sleep_interpreter.utils.staging.cue_gate import GateState

Gate = Callable[[], GateState]
"""Gives the gate's state."""
_UNCONFIRMED_SECONDS = 1.0
"""After its onset, a cue of which the sink has said nothing is taken not to have sounded."""
_SETTLE_SECONDS = 0.5
"""At the end of a session, wait so long for what the sink says of its last cue."""


class CueController:
    """Decide, sound and log cues.

    `on_onset(cue, stage)` is called when a cue's onset, or a sham's, has come.
    `blocks` is {name: (reason, sample until which it holds, or None)}; `active`: cues are being planned; `pending`
    has (cue, stage) of what is decided, onset ahead; `phases_degrees` has the phases that locked cues met. `counts`
    has the cues of each item that sounded, as the sink says (or that the recording holds), and `silent` the number of
    those that did not.
    """

    def __init__(
        self, context: SessionContext, schedule: Schedule, gate: Gate, on_onset: Callable[[Cue, int], None]
    ) -> None:
        self._context, self.schedule, self._gate, self._on_onset = context, schedule, gate, on_onset
        settings = context.settings.cues
        self._recorded = settings.mode == "recorded"
        self._audible = not self._recorded or settings.sound_recorded
        self.lock = schedule.lock
        self.blocks: dict[str, tuple[str, int | None]] = {}
        self.active = False
        self._group_due: int | None = None
        self.pending: deque[tuple[Cue, int]] = deque()
        self._measuring: deque[Cue] = deque()
        self.counts = dict.fromkeys(context.card.item_names, 0)
        self.shams = self.silent = 0
        # by number: cues given to the sink that has not said yet what became of them, when to give up waiting
        self._unconfirmed: dict[int, tuple[Cue, float]] = {}
        self.phases_degrees: deque[float] = deque(maxlen=500)

    # --- whether ------------------------------------------------------------------------------------

    def block(self, now: int, name: str, reason: str, until: int | None = None) -> None:
        """Hold cues back; a block of the same name is replaced."""
        self.blocks[name] = (reason, until)
        self.update(now)

    def unblock(self, now: int, name: str) -> None:
        """Take a block away; nothing happens when there is none."""
        if self.blocks.pop(name, None) is not None:
            self.update(now)

    def update(self, now: int) -> None:
        """Begin or end cueing as gate and blocks have it."""
        may = self._gate().open and not self.blocks
        if may == self.active:
            return
        self.active = may
        self._context.log_event(now, "cueing", on=may, reason=self.block_reasons())
        if self._recorded:
            return
        if may:
            self.schedule.start(now)
            self._mark_group(now)
        else:
            self.schedule.stop()
            self._group_due = None
            self._cancel(now)

    def switch_group(self, now: int) -> None:
        """Change to the other group now (operator); `ValueError` where the cues are a recording's."""
        self.schedule.switch_group(now)
        if self.active:
            self._mark_group(now)

    def _cancel(self, now: int) -> None:
        """Take back what has been decided and has not begun."""
        context = self._context
        if not self.pending and not context.sink.confirms:
            return
        taken_back, begun, ended = set(context.sink.cancel()), [], []
        for cue, stage in self.pending:
            if self._is_begun(cue, taken_back):
                begun.append((cue, stage))
            else:
                ended.append(cue)
        if context.ports is not None:  # before the log, which waits for the disk
            context.ports.cancel([cue.number for cue in ended])
        self.pending.clear()
        self.pending.extend(begun)
        for cue in ended:
            self._unconfirmed.pop(cue.number, None)
            context.log_event(now, "cue_cancelled", **cue.log_fields(), reason=self.block_reasons())
        if begun:
            context.log_event(now, "begun", numbers=[cue.number for cue, _ in begun])
        self.took_back(now, taken_back, self.block_reasons() or "cueing ended")

    def _is_begun(self, cue: Cue, taken_back: Collection[int]) -> bool:
        """Tell whether a cue sounds whose sample has not come, now that the sink has given back what does not."""
        if cue.sham or not self._audible:
            return False
        inputs = self._context.inputs
        return cue.number in inputs.begun if inputs.replaying else cue.number not in taken_back

    # --- whether it sounded -------------------------------------------------------------------------

    def take_played(self, now: int) -> list[dict[str, str]]:
        """Log what the sink says of cues; return {"state", "reason"} of each that did not sound, or does again."""
        faults = []
        overdue = [n for n, (_, until) in self._unconfirmed.items() if until < time.perf_counter()]
        told = [*self._context.sink.played(), *map(_not_confirmed, overdue)]
        for sound in told:
            self._context.log_event(now, "sound", **sound)
            cue, _ = self._unconfirmed.pop(sound["number"], (None, 0.0))
            if sound.get("dac") is None:
                self.silent += 1
                why = f"cue {sound['number']} did not sound: {sound.get('reason') or 'no reason was given'}"
                faults.append({"state": "silent", "reason": why})
            elif cue is not None:
                self.counts[cue.name] += 1
                faults.append({"state": "back", "reason": f"cue {cue.number} sounded"})
        return faults

    def took_back(self, now: int, numbers: Collection[int], why: str) -> None:
        """Log the cues among `numbers` that the sink gave back after their onset: they did not sound."""
        for number in sorted(set(numbers) & set(self._unconfirmed)):
            del self._unconfirmed[number]
            self.silent += 1
            self._context.log_event(now, "sound", number=number, dac=None, reason=f"taken back: {why}")

    def settle(self, now: int, stopped: bool) -> None:
        """The session ends: empty the sink, and wait a moment for what it says of the last cue.

        A cue sounds when it is due, the sample that it is due at comes a block later: what has begun is logged too.
        """
        sink = self._context.sink
        taken_back = set(sink.silence() if stopped else sink.cancel())
        begun = []
        while self.pending:
            cue, stage = self.pending.popleft()
            if self._is_begun(cue, taken_back):
                begun.append((cue, stage))
            else:  # it is not in the log
                self._unconfirmed.pop(cue.number, None)
        self.took_back(now, taken_back, "the session was stopped" if stopped else "the session ended")
        if begun:
            self._context.log_event(now, "begun", numbers=[cue.number for cue, _ in begun])
        for cue, stage in begun:
            self._sound(cue, stage)
        deadline = time.perf_counter() + _SETTLE_SECONDS
        while self._unconfirmed and time.perf_counter() < deadline:
            sink.advance(now)
            self.take_played(now)
            time.sleep(0.01)
        for number in self._unconfirmed:
            self._context.log_event(now, "sound", **_not_confirmed(number))

    def block_reasons(self) -> str | None:
        """Return in one line why there are no cues, or None."""
        reasons = [reason for reason, _ in self.blocks.values()]
        if not self._gate().open:
            reasons.insert(0, "the gate is closed")
        return "; ".join(reasons) or None

    # --- when ---------------------------------------------------------------------------------------

    def due(self) -> list[int]:
        """Return the samples at which there is something to do."""
        due = [cue.onset for cue, _ in list(self.pending)[:1]]
        due += [cue.onset + MEASURED_AFTER for cue in list(self._measuring)[:1]]
        due += [until for _, until in self.blocks.values() if until is not None]
        return [*due, *(d for d in (self.schedule.due, self._group_due) if d is not None)]

    def process_due(self, now: int) -> None:
        """Do what falls due at `now`: blocks that end, group, decisions, phases, onsets."""
        for name in [n for n, (_, until) in self.blocks.items() if until is not None and until <= now]:
            self.unblock(now, name)
        if self._group_due is not None and self._group_due <= now:
            self._mark_group(now)
        while self.schedule.due is not None and self.schedule.due <= now:
            self._decide(now)
        while self._measuring and self._measuring[0].onset + MEASURED_AFTER <= now:
            self._measure(self._measuring.popleft())
        while self.pending and self.pending[0][0].onset <= now:
            self._sound(*self.pending.popleft())

    def push_samples(self, block: np.ndarray) -> None:
        """Take (channels, n) µV, for locking."""
        if self.lock is not None:
            self.lock.push_samples(self._context.montage.locking(block))

    def _mark_group(self, now: int) -> None:
        group = self.schedule.group(now)
        if group is None:
            return
        self._group_due = self.schedule.next_switch(now)
        code = self._context.codes.group(group)
        self._context.send_marker(code)
        self._context.log_event(now, "group", code, group=group)

    def _decide(self, now: int) -> None:
        """Take the cue that is due: send it on its way, or say why not."""
        context, stage = self._context, self._gate().stage
        cue = self.schedule.next_cue(now)
        if cue is None:  # it waits for its phase
            return
        skipped = self.block_reasons() if self._recorded and not self.active else cue.skipped
        if skipped:
            context.log_event(now, "cue_skipped", **cue.log_fields(), stage=stage_name(stage), reason=skipped)
            return
        when, code = context.clock_time(cue.onset), self._code(cue)
        sink, began = context.sink, None
        if audible := self._audible and not cue.sham:
            sink.schedule(cue, when)
            if sink.confirms:
                self._unconfirmed[cue.number] = cue, float("inf")
                began = partial(sink.began, cue.number)
        if context.ports is not None and code is not None and when is not None:
            context.ports.send(code, when, cue.number, began)
        context.source.cued(cue.item, cue.onset, not audible or sink.began(cue.number) is False)
        self.pending.append((cue, stage))

    def _code(self, cue: Cue) -> int | None:
        return self._context.settings.markers.sham_code if cue.sham else self._context.codes.cue(cue.item)

    def _sound(self, cue: Cue, stage: int) -> None:
        """The cue's onset has come."""
        context = self._context
        code = self._code(cue)
        if context.clock_time(cue.onset) is None and code is not None:
            context.send_marker(code)
        sounded: bool | None = False
        if self._audible and not cue.sham:
            sounded = None if context.sink.confirms else bool(context.sink.began(cue.number))
        context.log_event(
            cue.onset, "sham" if cue.sham else "cue", code, **cue.log_fields(), stage=stage_name(stage),
            recorded=cue.recorded, sounded=sounded, locked=cue.locked,
        )  # fmt: skip
        if cue.sham:
            self.shams += 1
        elif sounded or cue.recorded:
            self.counts[cue.name] += 1
        elif cue.number in self._unconfirmed:
            self._unconfirmed[cue.number] = cue, time.perf_counter() + _UNCONFIRMED_SECONDS
        elif sounded is False:
            self.silent += 1
        self._measuring.append(cue)
        self._on_onset(cue, stage)

    def _measure(self, cue: Cue) -> None:
        """Log the phases that a cue and random times before it met, now that they can be seen from both sides.

        Both sides are looked at where nothing sounded, or the settings ask for it.
        """
        context, locking = self._context, self._context.settings.cues.lock
        if cue.onset - MEASURED_AFTER < context.buffer.start:  # a cue in the first seconds
            return
        first = max(context.buffer.start, cue.onset - MEASURED_BEFORE)
        trace = context.montage.locking(context.buffer.read(first, cue.onset + MEASURED_AFTER))
        random = np.random.default_rng([context.settings.seed, cue.number])
        at, way = cue.onset - first, locking.phase_from
        met, *at_random = phases_met(trace, at, random, way)
        both = phases_met(trace, at, random, "whole")[0] if cue.sham or way == "whole" else None
        if cue.locked and self.lock is not None:
            if both is not None:
                self.lock.learn(both)
            if met is not None:
                self.phases_degrees.append(round(met, 1))
        sides: dict[str, Any] = {"both_sides": both} if cue.sham else {}
        context.log_event(
            cue.onset + MEASURED_AFTER, "cue_phase", number=cue.number, locked=cue.locked, degrees=met,
            phase_from=way, at_random=at_random, **sides,
        )  # fmt: skip


def _not_confirmed(number: int) -> dict[str, Any]:
    return {"number": number, "dac": None, "reason": "nothing confirms that it sounded"}
