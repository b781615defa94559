"""What all parts of a session share: sample clock, last minute of signal, log, sound and markers."""

import logging
import time

from sleep_interpreter.realtime.Utils.ring_buffer import RingBuffer
from sleep_interpreter.utils.core.constants import STAGES, STREAM_RATE, UNKNOWN
from sleep_interpreter.utils.staging.stagers import WINDOW

logger = logging.getLogger(__name__)

_BUFFER = 2 * WINDOW


class Night:
    """A session's surroundings.

    Parameters
    ----------
    source : object
        As in realtime/Sources/file_source.py.
    montage : Montage
    sink : object
        As in realtime/Output/audio.py.
    ports : object | None
        As in realtime/Output/marker_ports.py.
    log : EventLog
    settings : SessionSettings
    inputs : sleep_interpreter.realtime.Sources.recorded_inputs.ReplayedInputs
    origin : int
        Sample of the session at which the source begins; above 0 when a session is resumed.

    Attributes
    ----------
    paced : bool
        Samples come as time goes by, so that nothing may wait for a computation.
    """

    def __init__(self, source, montage, sink, ports, log, settings, inputs, origin=0):
        self.source, self.montage, self.sink, self.ports = source, montage, sink, ports
        self.log, self.settings, self.inputs, self.origin = log, settings, inputs, origin
        self.buffer = RingBuffer(len(montage.picks), _BUFFER, origin)
        self.listeners = []

    @property
    def sample(self):
        """Samples of the session so far."""
        return self.buffer.end

    @property
    def paced(self):
        """Whether samples come as time goes by."""
        return self.when(self.sample) is not None

    def when(self, sample):
        """Return when `sample` is due on the `time.perf_counter` clock; None when time is not paced."""
        return self.source.time_of((sample - self.origin) / STREAM_RATE)

    def seconds(self, sample):
        """Return the time of a sample in the recording, s."""
        return self.source.begins + sample / STREAM_RATE

    def behind(self):
        """Return by how many seconds the newest sample is older than now; 0 when time is not paced."""
        due = self.when(self.sample)
        return 0.0 if due is None else max(0.0, time.perf_counter() - due)

    def write(self, sample, event, code=None, **more):
        """Log an event."""
        self.log.write(sample, event, code, **more)

    def notice(self, text, level=logging.INFO):
        """Say something on the screen and in the log."""
        logger.log(level, "%s", text)
        self.write(self.sample, "notice", level=logging.getLevelName(level).lower(), text=text)

    def fault(self, part, state, reason):
        """Say that a part failed or works again, on the screen and in the log."""
        logger.log(logging.INFO if state == "back" else logging.ERROR, "%s: %s (%s)", part, state, reason)
        self.write(self.sample, "fault", part=part, state=state, reason=reason)

    def mark(self, code, at=None):
        """Send a marker to the ports, at a time of the `time.perf_counter` clock or now."""
        if self.ports is not None:
            self.ports.send(code, at)


def stage_name(stage):
    """Return the name of a stage code; "unknown" for `UNKNOWN`."""
    return "unknown" if stage == UNKNOWN else STAGES[stage]


def rounded(probabilities):
    """Return probabilities as the log keeps them: 6 digits; None stays None."""
    return None if probabilities is None else [round(float(p), 6) for p in probabilities]
