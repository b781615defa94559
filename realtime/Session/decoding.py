"""Decoding within a session: the response to a cue is read when its last sample is there."""

import logging
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from sleep_interpreter.realtime.Model.networks import ResponseWindow
from sleep_interpreter.realtime.Model.worker import Answer, Worker, error_line
from sleep_interpreter.realtime.Output.sinks import Cue
from sleep_interpreter.realtime.Session.session_context import SessionContext, rounded, stage_name
from sleep_interpreter.utils.core.constants import REM, STREAM_RATE

logger = logging.getLogger(__name__)


class ResponseDecoding:
    """Ask the decoder about the response to every cue, and log what it says.

    A response is complete at the end of the card's window. Where the card has trials of unequal length, the next cue
    that sounds ends it as in the trials: up to there it is decoded, or not at all if it ends before the earliest end.

    The worker's `ask(key, kind, eeg)` with kind "NREM" or "REM" gives probabilities of the items (K,); None decodes
    nothing. `kinds` are those that have a decoder; `flags()` gives {channel: reason} of its channels that are bad at
    the moment.
    """

    def __init__(
        self,
        context: SessionContext,
        worker: Worker | None,
        kinds: Collection[str],
        flags: Callable[[], dict[str, str]],
    ) -> None:
        self._context, self._worker, self._kinds, self._flags = context, worker, frozenset(kinds), flags
        self._window = ResponseWindow.of(context.card)
        self._arriving: deque[tuple[Cue, int]] = deque()  # cues that sounded, with stage, responses to come
        # by number, with the response's end, stage and flags
        self._asked: dict[int, tuple[Cue, int, int, dict[str, str]]] = {}
        self.counts = {"total": 0, "failed": 0, "hits": 0}
        self.last: dict[str, Any] | None = None

    def decodes(self, stage: int) -> bool:
        """Tell whether the response to a cue in this stage will be decoded."""
        return ("REM" if stage == REM else "NREM") in self._kinds

    @property
    def awaits_response(self) -> bool:
        """Whether a response is still arriving."""
        return any(self.decodes(stage) for _, stage in self._arriving)

    def due(self) -> list[int]:
        """Return the samples at which there is something to do."""
        return [cue.onset + self._window.after for cue, _ in list(self._arriving)[:1]]

    def add_cue(self, cue: Cue, stage: int) -> None:
        """A cue has sounded."""
        if self._window.earliest is not None and not cue.sham:
            while self._arriving:
                before, its_stage = self._arriving.popleft()
                if (reached := cue.onset - before.onset) < self._window.earliest:
                    text = f"the next cue came after {reached / STREAM_RATE:.2f} s, before the card's earliest end"
                    self._failed(cue.onset, before, text)
                else:
                    self._ask(before, cue.onset, its_stage)
        if self.decodes(stage):
            self._arriving.append((cue, stage))

    def process_due(self, now: int) -> None:
        """Ask about the responses that are complete at `now`."""
        while self._arriving and self._arriving[0][0].onset + self._window.after <= now:
            cue, stage = self._arriving.popleft()
            self._ask(cue, cue.onset + self._window.after, stage)

    def _ask(self, cue: Cue, end: int, stage: int) -> None:
        """Ask about the response to a cue up to sample `end`."""
        context, worker, rows = self._context, self._worker, self._context.montage.decoder
        assert worker is not None and rows is not None, "it decodes nothing else"
        try:
            window = context.buffer.read(cue.onset - self._window.before, end)
        except IndexError as error:
            self._failed(end, cue, error_line(error))
            return
        self._asked[cue.number] = cue, end, stage, self._flags()
        kind = "REM" if stage == REM else "NREM"
        worker.ask(cue.number, kind, window[list(rows)])
        if not context.paced:
            self.poll_answers(wait=60.0)

    def poll_answers(self, wait: float | None = None) -> None:
        """Log the answers that are there."""
        if self._worker is None or not self._asked:
            return
        for answer in self._worker.answers(wait):
            if answer.key in self._asked:
                self._answered(answer, *self._asked.pop(answer.key))

    def close(self) -> None:
        """The session ends: log what is there, and what will not come any more."""
        if self._asked:
            self.poll_answers(wait=5.0)
        for cue, end_sample, _, _ in self._asked.values():
            self._failed(end_sample, cue, "the session ended before the decoder answered")
        end = self._context.card.windows.sleep.end
        for cue, _ in self._arriving:
            self._failed(self._context.sample, cue, f"the session ended before +{end:g} s")
        self._asked.clear()
        self._arriving.clear()

    def _answered(self, answer: Answer, cue: Cue, end: int, stage: int, flags: dict[str, str]) -> None:
        if answer.error is not None:
            self._failed(end, cue, answer.error)
            return
        probabilities = answer.value
        winner = int(probabilities.argmax())
        decoded = self._context.card.item_names[winner]
        code = self._context.codes.decoded(winner)
        self._context.send_marker(code)
        detail = {
            "number": cue.number, "cued": cue.name, "item": decoded, "stage": stage_name(stage),
            "recorded": cue.recorded, "probabilities": rounded(probabilities),
            **({"sham": True} if cue.sham else {}), **({"flags": flags} if flags else {}),
        }  # fmt: skip
        self._context.log_event(end, "decode", code, latency=answer.seconds, **detail)
        self.counts["total"] += 1
        self.counts["hits"] += winner == cue.item and not cue.sham
        self.last = {**detail, "latency_ms": round(answer.seconds * 1e3, 1)}

    def _failed(self, sample: int, cue: Cue, text: str) -> None:
        code = self._context.codes.decode_failed
        self._context.send_marker(code)
        self._context.log_event(sample, "decode_failed", code, number=cue.number, cued=cue.name, reason=text)
        self.counts["failed"] += 1
        logger.warning("decode of cue %d failed: %s", cue.number, text)
