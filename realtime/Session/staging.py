"""Staging and the gate within a session: when the stager is asked, and when its answer counts.

The stager is asked every few seconds about the 30 s that end at that sample. Its answer counts at a fixed
time later (`staging.answer_seconds`), whether it was there at once or not, so that a replay decides the same.
What a stream lost for a moment is bridged (`bridge_gaps`): up to `staging.dead_share` of the window may be dead. An
answer that is late counts when it comes; after `staging.silent_seconds` without one the stage is unknown.
"""

import logging
from collections.abc import Callable

from sleep_interpreter.realtime.Model.worker import Answer, Worker
from sleep_interpreter.realtime.Session.session_context import SessionContext, rounded, stage_name
from sleep_interpreter.realtime.Sources.montage import bridge_gaps
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.staging.cue_gate import GateState, advance
from sleep_interpreter.utils.staging.stagers import WINDOW, StageEstimate

logger = logging.getLogger(__name__)

_POLL_SAMPLES = 10
"""Between two checks for a late answer: 20 ms."""


class OnlineStaging:
    """Ask the stager, take its answers, keep the gate.

    The worker's `ask(end, window, end)` gives a `StageEstimate`; `paused()`: no staging now, since a response is
    being awaited; `on_estimate(now, estimate)` is called after every answer that was taken. `latency`: seconds that
    computing the last answer took; `late`: answers that were late, or did not come, so far.
    """

    def __init__(
        self,
        context: SessionContext,
        worker: Worker,
        paused: Callable[[], bool],
        on_estimate: Callable[[int, StageEstimate], None],
    ) -> None:
        self._context, self._worker, self._paused, self._on_estimate = context, worker, paused, on_estimate
        settings = context.settings.staging
        self._step = round(settings.every_seconds * STREAM_RATE)
        self._answer = round(settings.answer_seconds * STREAM_RATE)
        self._silent = round(settings.silent_seconds * STREAM_RATE)
        self.gate = GateState()
        self._due = context.origin + WINDOW
        self._asked: int | None = None  # window's end of the open question
        self._poll_at: int | None = None  # when to look for its answer
        self._known: int | None = None  # window's end of the last answer
        self.reason: str | None = None  # why the stage is unknown
        self._late_for: int | None = None  # the question whose answer is known to be late
        self._waited_for: int | None = None  # the question whose answer was waited for
        self.latency: float | None = None
        self.late = 0

    @property
    def due(self) -> int:
        """Sample at which there is something to do."""
        due = self._due + self._step if self._paused() else self._due
        return due if self._poll_at is None else min(due, self._poll_at)

    def age(self) -> float | None:
        """Return the seconds since the end of the window that the last answer speaks of; None before."""
        return None if self._known is None else (self._context.sample - self._known) / STREAM_RATE

    def process_due(self, now: int) -> None:
        """Do what falls due at `now`."""
        if self._asked is not None and self._poll_at is not None and self._poll_at <= now:
            self._poll_answer(now, self._asked)
        if self._due <= now and (not self._paused() or self._due + self._step <= now):
            self._ask(now)

    def reset(self, now: int, text: str) -> None:
        """The stage is unknown from now on: everything starts again."""
        self._apply(now, now, Answer(now, StageEstimate(None, text)), fault=True)

    def _ask(self, now: int) -> None:
        while self._due <= now:
            self._due += self._step
        context = self._context
        busy = self._asked is not None or self._worker.busy
        if now in context.inputs.skipped or (busy and not context.inputs.replaying):
            context.log_event(now, "stage_skipped", reason="the stager is still busy")
            return
        read = bridge_gaps(context.buffer.read(now - WINDOW, now), context.settings.staging.dead_share)
        window = context.montage.derive(read)
        self._worker.ask(now, window, now)
        self._asked = now
        self._poll_at = context.inputs.taken.get(now, now + self._answer)

    def _poll_answer(self, now: int, asked: int) -> None:
        context = self._context
        planned = context.inputs.faults.get(asked)
        # what comes faster than time, as a replay or a backlog does, leaves the stager no time: wait for it;
        # in a backlog once a question, or a stager that is dead would hold up the night at every poll
        wait = None
        if not context.paced:
            wait = 60.0
        elif context.latency() > 1.0 and self._waited_for != asked:
            wait, self._waited_for = 3.0, asked
        for answer in self._worker.answers(wait=wait):
            if answer.key == asked:
                if planned:
                    answer = Answer(asked, StageEstimate(None, planned), fault=True)
                self._asked = self._poll_at = None
                self._apply(now, asked, answer)
                return
        if now >= asked + self._silent:
            text = f"no answer of the stager for {self._silent / STREAM_RATE:g} s"
            self._asked = self._poll_at = None
            self._apply(now, asked, Answer(asked, StageEstimate(None, text), fault=True))
            return
        if asked != self._late_for:
            self._late_for = asked
            self.late += 1
            logger.warning("%.0f s: the stager's answer is late", context.seconds(now))
        self._poll_at = now + _POLL_SAMPLES

    def _apply(self, now: int, asked: int, answer: Answer, fault: bool = False) -> None:
        context = self._context
        estimate = answer.value if answer.error is None else StageEstimate(None, answer.error)
        was, self.gate = self.gate, advance(self.gate, estimate.probabilities, context.settings.gate)
        gate, self._known, self.latency = self.gate, asked, answer.seconds
        context.log_event(
            asked, "stage", latency=answer.seconds, taken=now, stage=stage_name(gate.stage),
            probabilities=rounded(estimate.probabilities), smoothed=rounded(gate.probabilities),
            consecutive={"N2": gate.n2, "N3": gate.n3, "R": gate.rem, "NREM": gate.nrem},
            open=gate.open, reason=estimate.reason, **({"fault": True} if answer.fault or fault else {}),
        )  # fmt: skip
        if estimate.reason and estimate.reason != self.reason:
            logger.warning("stage unknown: %s", estimate.reason)
        self.reason = estimate.reason
        if gate.open != was.open:
            context.log_event(now, "gate", open=gate.open, stage=stage_name(gate.stage))
            logger.info("%.0f s: gate %s", context.seconds(now), "open" if gate.open else "closed")
        self._on_estimate(now, estimate)
