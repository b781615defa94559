"""The session: one loop on the sample clock.

Everything that is decided is a function of the sample index, of the data up to that sample, of the settings
and of the inputs (realtime/Sources/recorded_inputs.py); the wall clock paces the source and stamps the log. An event
that is due at sample s happens when exactly the samples before s are in the buffer, however the source cuts
its chunks.
"""

import contextlib
import logging

from sleep_interpreter.realtime.Session.cueing import Cueing
from sleep_interpreter.realtime.Session.decoding import Decoding
from sleep_interpreter.realtime.Session.monitoring import Watch
from sleep_interpreter.realtime.Session.operator_commands import Commands
from sleep_interpreter.realtime.Session.staging import Staging
from sleep_interpreter.realtime.Session.status import Status
from sleep_interpreter.realtime.Utils.terminal import progress_bar
from sleep_interpreter.utils.core.constants import STREAM_RATE, UNKNOWN

logger = logging.getLogger(__name__)


class Session:
    """Stage, gate, cue, decode.

    Parameters
    ----------
    night : Night
    schedule : CueSchedule | LockedCues | RecordedCues
    workers : Workers
        `stager` and `decoder` (None: nothing is decoded) and `kinds` of decoders, see
        `realtime.Setup.preparation`.
    stop : StopRequest
    panel : Panel | None
        Where the operator's commands come from and the state goes to.
    about : dict | None
        For the state: `session`, `subject`, `simulated`, `folder`.
    """

    def __init__(self, night, schedule, workers, stop, panel=None, about=None):
        self.night, self._stop, self._panel, self._workers = night, stop, panel, workers
        self.watch = Watch(night, self)
        self.decoding = Decoding(night, workers.decoder, workers.kinds, self.watch.decoder_flags)
        self.cueing = Cueing(night, schedule, lambda: self.staging.gate, self.decoding.expect)
        self.staging = Staging(night, workers.stager, self._holds, self._staged)
        self._commands = Commands(self, stop)
        self.stream = {"state": "current", "gaps": 0, "lost_samples": 0}
        self._status = Status(self, about or {})
        self._marked = UNKNOWN  # the stage whose marker went out last

    @property
    def sample(self):
        """Samples of the session so far."""
        return self.night.sample

    def status(self):
        """Return what the session is doing now (`realtime.Session.status`)."""
        return self._status.take()

    def run(self):
        """Take the source to its end, or until the session is to stop.

        Returns
        -------
        ending : str
            "end of recording", or how it was stopped (`StopRequest.ending`).
        """
        source, ending = self.night.source, "error"
        length = None if source.seconds == float("inf") else round(source.seconds, 1)
        try:
            with progress_bar(source.real_time, length) as bar:
                for chunk in source.chunks(self._stop.requested):
                    self.look()
                    self.feed(chunk)
                    bar.update(chunk.shape[1] / STREAM_RATE)
                    if self._panel is not None:
                        self._panel.show(self, chunk)
            ending = self._stop.ending if self._stop.requested() else "end of recording"
        finally:
            self._finish(ending)
        return ending

    def command(self, detail):
        """Carry out a command as if it had come now (`realtime.Session.operator_commands.left`)."""
        self._commands.repeat(self.sample, detail)

    def look(self):
        """Take the inputs that have come since the last chunk."""
        now, night = self.sample, self.night
        self._repeat(now)  # what a replayed session met before its first sample
        if hasattr(night.source, "take_inputs"):
            for kind, detail in night.source.take_inputs():
                self._input(now, kind, detail)
        if self._panel is not None:
            for request in self._panel.take():
                self._commands.take(now, request)
        self.decoding.collect()
        for part, faults in self._faulty():
            for fault in faults:
                self._fault(part, fault["state"], fault["reason"])
        if hasattr(night.sink, "played"):
            for sound in night.sink.played():
                night.write(now, "sound", **sound)

    def feed(self, block):
        """Take (channels, n) µV at the stream's rate, and do what falls due within it, or until a stop."""
        taken, buffer = 0, self.night.buffer
        while taken < block.shape[1] and not self._stop.requested():
            count = min(block.shape[1] - taken, self._next_due() - self.sample)
            part = block[:, taken : taken + count]
            buffer.write(part)
            self.cueing.feed(part)
            taken += count
            self._fire(self.sample)
            self.night.sink.advance(self.sample)

    def _next_due(self):
        due = [self.staging.due, self.watch.due, *self.decoding.due(), *self.cueing.due()]
        due += [d for d in (self.night.inputs.due,) if d is not None]
        return max(min(due), self.sample + 1)

    def _fire(self, now):
        self.decoding.fire(now)
        self.staging.fire(now)
        self.watch.fire(now)
        self.cueing.fire(now)
        self._repeat(now)

    def _repeat(self, now):
        """Take the inputs of a log: as a session does, when all that was due at this sample has been done."""
        for event, detail in self.night.inputs.pop_due(now):
            if event == "command":
                self._commands.repeat(now, detail)
            else:
                self._input(now, event, detail)

    def _holds(self, now):
        """Between a cue and its decode nothing is staged (published), for one interval at most."""
        return self.decoding.reading or any(self.decoding.reads(stage) for _, stage in self.cueing.coming)

    def _staged(self, now, estimate):
        self.watch.staged(now, estimate)
        self.cueing.update(now)
        codes, stage = self.night.settings.markers.stage_codes, self.staging.gate.stage
        if codes is not None and stage not in (UNKNOWN, self._marked):
            self.night.mark(codes[stage])
            self._marked = stage

    def _input(self, now, kind, detail):
        """Take what the source or the recorder report."""
        night = self.night
        if kind == "gap":
            self.stream["gaps"] += 1
            self.stream["lost_samples"] += round(detail["seconds"] * STREAM_RATE)
            night.write(now, "gap", **detail)
            return
        if kind != "stream":
            self._fault(kind, detail["state"], detail.get("reason", ""))
            return
        state = detail["state"]
        self.stream["state"] = state
        night.write(now, "stream", **detail)
        text = detail.get("reason") or _STREAM.get(state, state)
        if state in ("current", "back"):
            logger.info("stream: %s", text)
            self.cueing.unblock(now, "stream")
            return
        logger.warning("stream: %s", text)
        self.cueing.block(now, "stream", text)
        if state in ("lost", "refused") and self.staging.reason != text:
            self.staging.forget(now, text)

    def _fault(self, part, state, reason):
        self.night.fault(part, state, reason)
        self._status.fault(part, state, reason)

    def _faulty(self):
        """Yield (part, faults) of the parts that something went wrong with since the last look."""
        night, workers = self.night, self._workers
        parts = {
            "sound": night.sink,
            "marker": night.ports,
            "stager": workers.stager,
            "decoder": workers.decoder,
            "log": night.log,
        }
        for name, part in parts.items():
            if part is not None and hasattr(part, "take_faults") and (found := part.take_faults()):
                yield name, found

    def _finish(self, ending):
        """Bring every file to a state that can be read."""
        night = self.night
        if self._stop.requested():
            with contextlib.suppress(AttributeError):
                night.sink.silence()
        self.decoding.close()
        self.look()
        night.write(self.sample, "stop", reason=ending)
        night.sink.close(self.sample)
        if night.ports is not None:
            night.ports.close()
        self._workers.close()
        night.log.close()


_STREAM = {
    "stalled": "no samples are coming",
    "lost": "the stream is lost",
    "behind": "samples arrive late",
    "current": "up to date again",
    "back": "samples are coming again",
}
