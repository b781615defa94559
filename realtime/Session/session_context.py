"""What all parts of a session share: sample clock, last minute of signal, log, sound and markers."""

import logging
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Output.marker_ports import MarkerHub
from sleep_interpreter.realtime.Output.sinks import SoundSink
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Parameters.output import MarkerCodes
from sleep_interpreter.realtime.Recording.event_log import EventLog
from sleep_interpreter.realtime.Sources.montage import Montage
from sleep_interpreter.realtime.Sources.recorded_inputs import ReplayedInputs
from sleep_interpreter.realtime.Sources.source import Source
from sleep_interpreter.utils.core.constants import STAGES, STREAM_RATE, UNKNOWN
from sleep_interpreter.utils.core.data_card import DataCard, published
from sleep_interpreter.utils.staging.stagers import WINDOW

logger = logging.getLogger(__name__)

_BUFFER = 2 * WINDOW


class RingBuffer:
    """Keep the newest `length` samples: `origin` is the index of the first one that will be written, `end` that after
    the newest."""

    def __init__(self, channels: int, length: int, origin: int = 0) -> None:
        self._data = np.zeros((channels, length), np.float32)
        self._origin = self.end = origin

    @property
    def start(self) -> int:
        """Index of the oldest sample that is still held."""
        return max(self._origin, self.end - self._data.shape[1])

    def write(self, block: np.ndarray) -> None:
        """Append (channels, n) samples."""
        length = self._data.shape[1]
        kept = block[:, -length:]
        first = self.end + block.shape[1] - kept.shape[1]
        self._data[:, np.arange(first, first + kept.shape[1]) % length] = kept
        self.end += block.shape[1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return a copy of samples [start, stop), shape (channels, stop - start); `IndexError` where some of them are
        overwritten or have not arrived yet."""
        if start < 0 or stop < start:
            raise IndexError(f"samples {start} to {stop}: not a range of the stream")
        if stop > self.end:
            raise IndexError(f"samples {start} to {stop} asked for, but the stream is at {self.end}")
        if start < self.start:
            raise IndexError(f"samples {start} to {stop} asked for, but the oldest one held is {self.start}")
        return self._data[:, np.arange(start, stop) % self._data.shape[1]]


class SessionContext:
    """What a session reads from and writes to; its source begins at sample `origin`, above 0 when it is resumed.

    `card` has the items that are cued and the window in which their responses are read, `codes` the markers.
    """

    def __init__(
        self, source: Source, montage: Montage, sink: SoundSink, ports: MarkerHub | None, log: EventLog,
        settings: SessionSettings, inputs: ReplayedInputs, origin: int = 0, card: DataCard | None = None,
    ) -> None:  # fmt: skip
        self.card = published() if card is None else card
        self.codes = MarkerCodes.of(len(self.card.items))
        self.source, self.montage, self.sink, self.ports = source, montage, sink, ports
        self.log, self.settings, self.inputs, self.origin = log, settings, inputs, origin
        self.buffer = RingBuffer(len(montage.picks), _BUFFER, origin)

    @property
    def sample(self) -> int:
        """Samples of the session so far."""
        return self.buffer.end

    @property
    def paced(self) -> bool:
        """Whether samples come as time goes by, so that nothing may wait for a computation."""
        return self.clock_time(self.sample) is not None

    def clock_time(self, sample: int) -> float | None:
        """Return when `sample` is due on the `time.perf_counter` clock; None when time is not paced."""
        return self.source.time_of((sample - self.origin) / STREAM_RATE)

    def seconds(self, sample: int) -> float:
        """Return the time of a sample in the recording, s."""
        return self.source.begins + sample / STREAM_RATE

    def latency(self) -> float:
        """Return by how many seconds the newest sample is older than now; 0 when time is not paced."""
        due = self.clock_time(self.sample)
        return 0.0 if due is None else max(0.0, time.perf_counter() - due)

    def log_event(self, sample: int, event: str, code: int | None = None, **more: Any) -> None:
        """Log an event."""
        self.log.write(sample, event, code, **more)

    def log_notice(self, text: str, level: int = logging.INFO) -> None:
        """Say something on the screen and in the log."""
        logger.log(level, "%s", text)
        self.log_event(self.sample, "notice", level=logging.getLevelName(level).lower(), text=text)

    def log_fault(self, part: str, state: str, reason: str) -> None:
        """Say that a part failed or works again, on the screen and in the log."""
        logger.log(logging.INFO if state == "back" else logging.ERROR, "%s: %s (%s)", part, state, reason)
        self.log_event(self.sample, "fault", part=part, state=state, reason=reason)

    def send_marker(self, code: int) -> None:
        """Send a marker to the ports, now."""
        if self.ports is not None:
            self.ports.send(code)


def stage_name(stage: int) -> str:
    """Return the name of a stage code; "unknown" for `UNKNOWN`."""
    return "unknown" if stage == UNKNOWN else STAGES[stage]


def rounded(probabilities: Iterable[float] | None) -> list[float] | None:
    """Return probabilities as the log keeps them: 6 digits; None stays None."""
    return None if probabilities is None else [round(float(p), 6) for p in probabilities]
