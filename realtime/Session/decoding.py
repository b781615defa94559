"""Decoding within a session: the response to a cue is read when its last sample is there."""

import logging
from collections import deque

from sleep_interpreter.realtime.Model.decoder import AFTER, BEFORE
from sleep_interpreter.realtime.Model.worker import error_line
from sleep_interpreter.realtime.Parameters.output import DECODE_FAILED, DECODED_BASE
from sleep_interpreter.realtime.Session.session_context import rounded, stage_name
from sleep_interpreter.utils.core.constants import ITEMS, REM

logger = logging.getLogger(__name__)


class Decoding:
    """Ask the decoder about the response to every cue, and log what it says.

    Parameters
    ----------
    night : Night
    worker : InlineWorker | ProcessWorker | None
        `ask(key, kind, eeg)` with kind "NREM" or "REM" gives probabilities (15,); None decodes nothing.
    kinds : collection of str
        The kinds that have a decoder.
    flags : callable
        `flags()` gives {channel: reason} of the decoder's channels that are bad at the moment.
    """

    def __init__(self, night, worker, kinds, flags):
        self._night, self._worker, self._kinds, self._flags = night, worker, frozenset(kinds), flags
        self._reading = deque()  # (cue, stage) sounded, response still arriving
        self._asked = {}  # number: (cue, stage, flags)
        self.counts = {"total": 0, "failed": 0, "hits": 0}
        self.last = None

    def reads(self, stage):
        """Tell whether the response to a cue in this stage will be decoded."""
        return ("REM" if stage == REM else "NREM") in self._kinds

    @property
    def reading(self):
        """Whether a response is still arriving."""
        return any(self.reads(stage) for _, stage in self._reading)

    def due(self):
        """Return the samples at which there is something to do."""
        return [cue.onset + AFTER for cue, _ in list(self._reading)[:1]]

    def expect(self, cue, stage):
        """A cue has sounded."""
        if self.reads(stage):
            self._reading.append((cue, stage))

    def fire(self, now):
        """Ask about the responses that are complete at `now`."""
        while self._reading and self._reading[0][0].onset + AFTER <= now:
            cue, stage = self._reading.popleft()
            night = self._night
            try:
                eeg = night.buffer.read(cue.onset - BEFORE, cue.onset + AFTER)[list(night.montage.decoder)]
            except IndexError as error:
                self._failed(cue.onset + AFTER, cue, error_line(error))
                continue
            self._asked[cue.number] = cue, stage, self._flags()
            self._worker.ask(cue.number, "REM" if stage == REM else "NREM", eeg)
            if not night.paced:
                self.collect(wait=60.0)

    def collect(self, wait=None):
        """Log the answers that are there."""
        if self._worker is None or not self._asked:
            return
        for answer in self._worker.answers(wait):
            if answer.key in self._asked:
                self._answered(answer, *self._asked.pop(answer.key))

    def close(self):
        """The session ends: log what is there, and what will not come any more."""
        if self._asked:
            self.collect(wait=5.0)
        for cue, _, _ in self._asked.values():
            self._failed(cue.onset + AFTER, cue, "the session ended before the decoder answered")
        for cue, _ in self._reading:
            self._failed(self._night.sample, cue, "the session ended before +1.8 s")
        self._asked.clear()
        self._reading.clear()

    def _answered(self, answer, cue, stage, flags):
        if answer.error is not None:
            self._failed(cue.onset + AFTER, cue, answer.error)
            return
        probabilities = answer.value
        winner = int(probabilities.argmax())
        code = DECODED_BASE + winner
        self._night.mark(code)
        detail = {
            "number": cue.number,
            "cued": ITEMS[cue.item],
            "item": ITEMS[winner],
            "stage": stage_name(stage),
            "recorded": cue.recorded,
            "probabilities": rounded(probabilities),
            **({"sham": True} if cue.sham else {}),
            **({"flags": flags} if flags else {}),
        }
        self._night.write(cue.onset + AFTER, "decode", code, latency=answer.seconds, **detail)
        self.counts["total"] += 1
        self.counts["hits"] += winner == cue.item and not cue.sham
        self.last = {**detail, "latency_ms": round(answer.seconds * 1e3, 1)}

    def _failed(self, sample, cue, text):
        self._night.mark(DECODE_FAILED)
        self._night.write(
            sample, "decode_failed", DECODE_FAILED, number=cue.number, cued=ITEMS[cue.item], reason=text
        )
        self.counts["failed"] += 1
        logger.warning("decode of cue %d failed: %s", cue.number, text)
