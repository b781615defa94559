"""Staging and the gate within a session: when the stager is asked, and when its answer counts.

The stager is asked every few seconds about the 30 s that end at that sample. Its answer counts at a fixed
time later (`staging.answer_seconds`), whether it was there at once or not, so that a replay decides the same.
An answer that is late counts when it comes; after `staging.silent_seconds` without one the stage is unknown.
"""

import logging

from sleep_interpreter.realtime.Model.worker import Answer
from sleep_interpreter.realtime.Session.session_context import rounded, stage_name
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.staging.cue_gate import GateState, advance
from sleep_interpreter.utils.staging.stagers import WINDOW, StageEstimate

logger = logging.getLogger(__name__)

_AGAIN = 10
"""Samples between two looks for a late answer: 20 ms."""


class Staging:
    """Ask the stager, take its answers, keep the gate.

    Parameters
    ----------
    night : Night
    worker : InlineWorker | ProcessWorker
        `ask(end, window, end)` gives a `StageEstimate`.
    held : callable
        `held(now)`: no staging now, since a response is being awaited.
    changed : callable
        `changed(now, estimate)` is called after every answer that was taken.

    Attributes
    ----------
    gate : GateState
    age, latency : float | None
        Seconds since the end of the window that the last answer speaks of, and what computing it took.
    late : int
        Answers that were late, or did not come, so far.
    """

    def __init__(self, night, worker, held, changed):
        self._night, self._worker, self._held, self._changed = night, worker, held, changed
        settings = night.settings.staging
        self._step = round(settings.every_seconds * STREAM_RATE)
        self._answer = round(settings.answer_seconds * STREAM_RATE)
        self._silent = round(settings.silent_seconds * STREAM_RATE)
        self.gate = GateState()
        self._due = night.origin + WINDOW
        self._asked = self._look = None  # window's end of the open question; when to look for its answer
        self._known = None  # window's end of the last answer
        self._reason = None
        self._waiting, self._waited = set(), None  # asked, and its answer late; asked, and waited for
        self.latency, self.late = None, 0

    @property
    def due(self):
        """Sample at which there is something to do."""
        due = self._due + self._step if self._held(self._night.sample) else self._due
        return due if self._look is None else min(due, self._look)

    @property
    def reason(self):
        """Why the stage is unknown, None when it is not."""
        return self._reason

    def age(self):
        """Return the seconds since the end of the window that the last answer speaks of; None before."""
        return None if self._known is None else (self._night.sample - self._known) / STREAM_RATE

    def fire(self, now):
        """Do what falls due at `now`."""
        if self._look is not None and self._look <= now:
            self._take(now)
        if self._due <= now and (not self._held(now) or self._due + self._step <= now):
            self._ask(now)

    def forget(self, now, text):
        """The stage is unknown from now on: everything starts again."""
        self._apply(now, now, Answer(now, StageEstimate(None, text)), fault=True)

    def _ask(self, now):
        while self._due <= now:
            self._due += self._step
        night = self._night
        busy = self._asked is not None or self._worker.busy
        if night.inputs.stage_skipped(now) or (busy and not night.inputs.replaying):
            night.write(now, "stage_skipped", reason="the stager is still busy")
            return
        window = night.montage.derive(night.buffer.read(now - WINDOW, now))
        self._worker.ask(now, window, now)
        self._asked = now
        self._look = night.inputs.stage_taken(now, now + self._answer)

    def _take(self, now):
        asked, night = self._asked, self._night
        planned = night.inputs.stage_fault(asked)
        # what comes faster than time, as a replay or a backlog does, leaves the stager no time: wait for it;
        # in a backlog once a question, or a stager that is dead would hold up the night at every look
        wait = None
        if not night.paced:
            wait = 60.0
        elif night.behind() > 1.0 and self._waited != asked:
            wait, self._waited = 3.0, asked
        for answer in self._worker.answers(wait=wait):
            if answer.key == asked:
                if planned:
                    answer = Answer(asked, StageEstimate(None, planned), fault=True)
                self._asked = self._look = None
                self._apply(now, asked, answer)
                return
        if now >= asked + self._silent:
            text = f"no answer of the stager for {self._silent / STREAM_RATE:g} s"
            self._asked = self._look = None
            self._apply(now, asked, Answer(asked, StageEstimate(None, text), fault=True))
            return
        if asked not in self._waiting:
            self._waiting = {asked}
            self.late += 1
            logger.warning("%.0f s: the stager's answer is late", night.seconds(now))
        self._look = now + _AGAIN

    def _apply(self, now, asked, answer, fault=False):
        night = self._night
        estimate = answer.value if answer.error is None else StageEstimate(None, answer.error)
        was, self.gate = self.gate, advance(self.gate, estimate.probabilities, night.settings.gate)
        gate, self._known, self.latency = self.gate, asked, answer.seconds
        night.write(
            asked,
            "stage",
            latency=answer.seconds,
            taken=now,
            stage=stage_name(gate.stage),
            probabilities=rounded(estimate.probabilities),
            smoothed=rounded(gate.probabilities),
            consecutive={"N2": gate.n2, "N3": gate.n3, "R": gate.rem, "NREM": gate.nrem},
            open=gate.open,
            reason=estimate.reason,
            **({"fault": True} if answer.fault or fault else {}),
        )
        if estimate.reason and estimate.reason != self._reason:
            logger.warning("stage unknown: %s", estimate.reason)
        self._reason = estimate.reason
        if gate.open != was.open:
            night.write(now, "gate", open=gate.open, stage=stage_name(gate.stage))
            logger.info("%.0f s: gate %s", night.seconds(now), "open" if gate.open else "closed")
        self._changed(now, estimate)
