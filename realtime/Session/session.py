"""The session: one loop on the sample clock.

Everything that is decided is a function of the sample index, of the data up to that sample, of the settings and of
the inputs (realtime/Sources/recorded_inputs.py); the wall clock paces the source and stamps the log. An event that is
due at sample s happens when exactly the samples before s are in the buffer, however the source cuts its chunks.
"""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Cues.schedule import Schedule
from sleep_interpreter.realtime.Model.parts import Workers
from sleep_interpreter.realtime.Session.cue_watchdog import CueWatchdog
from sleep_interpreter.realtime.Session.cueing import CueController
from sleep_interpreter.realtime.Session.decoding import ResponseDecoding
from sleep_interpreter.realtime.Session.operator_commands import CommandHandler
from sleep_interpreter.realtime.Session.session_context import SessionContext
from sleep_interpreter.realtime.Session.signal_monitor import SignalMonitor
from sleep_interpreter.realtime.Session.staging import OnlineStaging
from sleep_interpreter.realtime.Session.status import OperatorPanel, SessionStatus
from sleep_interpreter.realtime.Utils.stop_request import StopRequest
from sleep_interpreter.realtime.Utils.terminal import progress_bar
from sleep_interpreter.utils.core.constants import STREAM_RATE, UNKNOWN
from sleep_interpreter.utils.staging.stagers import StageEstimate

logger = logging.getLogger(__name__)


class Session:
    """Stage, gate, cue, decode.

    Of the workers the decoder may be None: nothing is decoded. `panel`: where the operator's commands come from and
    the state goes to; `about`: `session`, `subject`, `simulated`, `dry_run`, `folder`, for the state.
    """

    def __init__(
        self, context: SessionContext, schedule: Schedule, workers: Workers, stop: StopRequest,
        panel: OperatorPanel | None = None, about: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.context, self._stop, self._panel, self._workers = context, stop, panel, workers
        self.staging = OnlineStaging(context, workers.stager, self._staging_paused, self._on_estimate)
        self.decoding = ResponseDecoding(
            context, workers.decoder, workers.kinds, lambda: self.signal_monitor.decoder_flags()
        )
        self.cueing = CueController(context, schedule, lambda: self.staging.gate, self.decoding.add_cue)
        self.signal_monitor = SignalMonitor(context, self.cueing, lambda: self.staging.gate)
        self._watchdog = CueWatchdog(
            context.settings, self.cueing, lambda: self.staging.gate, self._cues, context.origin
        )
        self._stream: dict[str, Any] = {"state": "current", "gaps": 0, "lost_samples": 0}
        self._status = SessionStatus(
            context, self.cueing, self.staging, self.decoding, self.signal_monitor, self._stream, about or {}
        )
        self.commands = CommandHandler(context, self.cueing, stop, self._status.snapshot)
        self._marked_stage = UNKNOWN  # whose marker went out last

    @property
    def sample(self) -> int:
        """Samples of the session so far."""
        return self.context.sample

    def run(self) -> str:
        """Take the source to its end or a stop; return "end of recording" or how it was stopped."""
        source, ending = self.context.source, "error"
        length = None if source.seconds == float("inf") else round(source.seconds, 1)
        try:
            with progress_bar(source.real_time, length) as bar:
                for chunk in source.chunks(self._stop.requested):
                    self.poll_inputs()
                    self.push_samples(chunk)
                    bar.update(chunk.shape[1] / STREAM_RATE)
                    if self._panel is not None:
                        self._panel.publish(self.context, chunk, self._status.snapshot)
            ending = self._stop.ending if self._stop.requested() else "end of recording"
        finally:
            self._finish(ending)
        return ending

    def poll_inputs(self) -> None:
        """Take the inputs that have come since the last chunk."""
        now, context = self.sample, self.context
        self._replay_inputs(now)  # what a replayed session met before its first sample
        for kind, detail in context.source.take_inputs():
            self._handle_input(now, kind, detail)
        if self._panel is not None:
            for request in self._panel.control.poll():
                self.commands.handle(now, request)
        self.decoding.poll_answers()
        for part, fault in self._new_faults():
            self._handle_fault(part, fault["state"], fault["reason"])
            if part == "sound" and fault["state"] in ("lost", "back"):
                self._handle_input(now, "no_sound", {"on": fault["state"] == "lost", "reason": fault["reason"]})
        for fault in self._watchdog.check(now) if context.source.live else ():
            self._handle_fault("cueing", **fault)
        for fault in self.cueing.take_played(now):
            self._status.fault("cue", **fault)
            if fault["state"] == "silent":
                context.log_fault("cue", **fault)

    def push_samples(self, block: np.ndarray) -> None:
        """Take (channels, n) µV at the stream's rate, and do what falls due within it, or until a stop."""
        taken, buffer = 0, self.context.buffer
        while taken < block.shape[1] and not self._stop.requested():
            count = min(block.shape[1] - taken, self._next_due() - self.sample)
            part = block[:, taken : taken + count]
            buffer.write(part)
            self.cueing.push_samples(part)
            taken += count
            now = self.sample
            self.decoding.process_due(now)
            self.staging.process_due(now)
            self.signal_monitor.process_due(now)
            self.cueing.process_due(now)
            self._replay_inputs(now)
            self.context.sink.advance(now)

    def _next_due(self) -> int:
        due = [self.staging.due, self.signal_monitor.due, *self.decoding.due(), *self.cueing.due()]
        due += [d for d in (self.context.inputs.due,) if d is not None]
        return max(min(due), self.sample + 1)

    def _replay_inputs(self, now: int) -> None:
        """Take the inputs of a log: as a session does, when all that was due at this sample has been done."""
        for event, detail in self.context.inputs.pop_due(now):
            if event == "command":
                self.commands.replay(now, detail)
            else:
                self._handle_input(now, event, detail)

    def _staging_paused(self) -> bool:
        """Between a cue and its decode nothing is staged (published), for one interval at most."""
        pending = self.cueing.pending
        return self.decoding.awaits_response or any(self.decoding.decodes(stage) for _, stage in pending)

    def _on_estimate(self, now: int, estimate: StageEstimate) -> None:
        self.signal_monitor.check_stage(now, estimate)
        self.cueing.update(now)
        codes, stage = self.context.settings.markers.stage_codes, self.staging.gate.stage
        if codes is not None and stage not in (UNKNOWN, self._marked_stage):
            self.context.send_marker(codes[stage])
            self._marked_stage = stage

    def _handle_input(self, now: int, kind: str, detail: dict[str, Any]) -> None:
        """Take what the source or the recorder report."""
        context = self.context
        if kind == "notice":
            context.log_notice(detail["text"])
            return
        if kind == "gap":
            self._stream["gaps"] += 1
            self._stream["lost_samples"] += round(detail["seconds"] * STREAM_RATE)
            context.log_event(now, "gap", **detail)
            return
        if kind == "no_sound":
            context.log_event(now, "no_sound", **detail)
            if detail["on"]:
                self.cueing.block(now, "sound", detail["reason"])
            else:
                self.cueing.unblock(now, "sound")
            return
        if kind == "recording":  # nothing is: a cue would go into no record
            context.log_event(now, "recording", **detail)
            if detail["on"]:
                self.cueing.unblock(now, "recording")
            else:
                self.cueing.block(now, "recording", "nothing is recorded")
            return
        if kind == "recorder":
            self._handle_input(now, "recording", {"on": detail["state"] == "back", "reason": detail["reason"]})
        if kind != "stream":
            self._handle_fault(kind, detail["state"], detail.get("reason", ""))
            return
        state = detail["state"]
        self._stream["state"] = state
        context.log_event(now, "stream", **detail)
        text = detail.get("reason") or _STREAM.get(state, state)
        if state in ("current", "back"):
            logger.info("stream: %s", text)
            self.cueing.unblock(now, "stream")
            return
        logger.warning("stream: %s", text)
        self.cueing.block(now, "stream", text)
        if state in ("lost", "refused") and self.staging.reason != text:
            self.staging.reset(now, text)

    def _handle_fault(self, part: str, state: str, reason: str) -> None:
        self.context.log_fault(part, state, reason)
        self._status.fault(part, state, reason)

    def _cues(self) -> tuple[int, int]:
        """Return how many cues, shams among them, came so far, and how many were skipped."""
        counts = self.context.log.counts
        return counts["cue"] + counts["sham"], counts["cue_skipped"]

    def _new_faults(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield (part, fault) of what went wrong since the last call."""
        context, workers = self.context, self._workers
        parts: dict[str, Any] = {
            "sound": context.sink, "marker": context.ports, "stager": workers.stager, "decoder": workers.decoder,
            "log": context.log,
        }  # fmt: skip
        for name, part in parts.items():
            for fault in part.take_faults() if part is not None else ():
                yield name, fault

    def _finish(self, ending: str) -> None:
        """Bring every file to a state that can be read."""
        context = self.context
        self.cueing.settle(self.sample, self._stop.requested())
        self.decoding.close()
        self.poll_inputs()
        recorder = context.source.recorder
        if recorder is not None and recorder.missed:
            context.log_notice(f"{recorder.missed_seconds:.1f} s of the stream were not recorded", logging.WARNING)
        context.log_event(self.sample, "stop", reason=ending)
        context.sink.close(self.sample)
        if context.ports is not None:
            context.ports.close()
        self._workers.close()
        context.log.close()


_STREAM = {
    "stalled": "no samples are coming", "lost": "the stream is lost", "behind": "samples arrive late",
    "current": "up to date again", "back": "samples are coming again",
}  # fmt: skip
