"""What a session asks of its source of samples, whatever it is: a file, a stream, a board, a simulation.

A new source is a class of one file that derives from `Source`, or from `LiveSource` where it is an amplifier,
and a line in realtime/Utils/registries.py; or an entry point "sleep_interpreter.sources" of another package.
Its own settings come in `source.options`.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, cast

import numpy as np

from sleep_interpreter.data.preparation.settings import TriggerTable
from sleep_interpreter.realtime.Parameters.settings import SessionSettings
from sleep_interpreter.realtime.Parameters.source import RecordingSettings, SourceSettings
from sleep_interpreter.realtime.Recording.recorder import Recorder
from sleep_interpreter.realtime.Sources.recorded_inputs import ReplayedInputs
from sleep_interpreter.realtime.Sources.stream_clock import StreamTiming
from sleep_interpreter.realtime.Subject import Subject
from sleep_interpreter.realtime.Utils.registries import SOURCES
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.errors import UserError

Input = tuple[str, dict[str, Any]]
"""Kind ("stream", "gap", "clock", "rate", "notice", "recorder", "xdf") and detail of what came besides samples."""
Notice = tuple[int, str]
"""Logging level and text for the session's log."""


@dataclass(frozen=True)
class Plan:
    """A session to be run (`realtime.Setup.plan.make_plan`).

    `recording`: for a replay; `folder` (None makes a new one) and `events`: of the session that goes on; `origin`:
    sample at which it begins; `inputs`: of the session that is replayed; `gaps`: (first sample, samples), on the
    recording's own clock, that it lacks; `gap`: s that the operator says nothing was taken for, before the session goes
    on (None: the clocks tell); `card`: of the session that goes on or is replayed (None: it follows from the
    settings, `session_cards`).
    """

    settings: SessionSettings
    subject: Subject
    recording: Path | None = None
    folder: Path | None = None
    events: tuple[dict[str, Any], ...] = ()
    origin: int = 0
    inputs: ReplayedInputs = field(default_factory=ReplayedInputs)
    gaps: tuple[tuple[int, int], ...] = ()
    card: DataCard | None = None
    gap: float | None = None

    @property
    def skipped(self) -> int:
        """Samples at 500 Hz of a replayed recording that an earlier part of the session has had."""
        return self.origin if self.folder is not None else 0


class Source(Protocol):
    """A stream of samples in µV at `STREAM_RATE`. What is not `...` here, most sources need not write.

    `names` are the channels of the stream, `where` is what messages call it, `rates` are {Hz: names} of the opened
    channels as they come from the device or file, and the session logs the `notices`. A `live` source is recorded and
    responds to cues, a `real_time` one comes as time goes by, `simulated` marks the signal as such, an `amplifier` is
    at a person's head, and to one that `takes_recording` --recording FILE belongs. `seconds` is its length, infinite
    when live; `begins` are seconds of the recording before the first sample delivered; `recorder` writes the stream
    down; `timing` is what was measured of a stream's clock.
    """

    names: list[str]
    where: str
    rates: dict[float, tuple[str, ...]]
    notices: list[Notice]
    live: bool = False
    real_time: bool = False
    simulated: bool = False
    amplifier: bool = False
    takes_recording: bool = False
    seconds: float = math.inf
    begins: float = 0.0
    recorder: Recorder | None = None
    timing: StreamTiming | None = None

    @classmethod
    def for_session(cls, settings: SourceSettings, plan: Plan) -> Self:
        """Return the source of a session; refuse what cannot be (`UserError`)."""
        return cls(settings)  # type: ignore[call-arg]  # one that takes more writes its own

    @abstractmethod
    def open(self, picks: Sequence[str]) -> None:
        """Choose the channels to deliver, by name in `names`, in this order; raise `UserError` where a rate is too
        low or cannot be converted, a unit is not known, or no sample comes."""
        ...

    @abstractmethod
    def check_unit(self, rows: Sequence[int], what: str = "EEG", others_fit: bool = False) -> float:
        """Return the typical SD in µV of these rows of the opened picks; refuse one that cannot be µV (`UserError`).

        It is the median over channels and windows of the SD after removing the trend, and must lie in
        `amplitude_range`; the message says what mends it. `what` names the rows there, and `others_fit` says that
        other channels have passed, so that the unit of the whole is right.
        """
        ...

    @abstractmethod
    def chunks(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[np.ndarray]:
        """Deliver (channels, n) float32 µV at `STREAM_RATE`; empty while nothing comes. `stopped()` tells whether to
        end now; it is asked before every chunk and while waiting for one."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the recording or stream, for session.json."""
        return {"name": self.where}

    def time_of(self, seconds: float) -> float | None:
        """Return when that part of the session is due on the `time.perf_counter` clock; None: not paced."""
        return None

    def delivery_seconds(self) -> float:
        """Return how old the oldest sample of a delivery is when it comes: block and latency; 0 where not paced."""
        return 0.0

    def preview(self) -> np.ndarray | None:
        """Return the newest seconds before the session, all channels, (channels, n) µV; None: `chunks` may
        be read for it."""
        return None

    def cues(self, table: TriggerTable | None = None) -> list[tuple[float, int]]:
        """Return [(seconds since the start, item)] of the cues that the recording holds.

        `table` says what its triggers mean; None: annotations "cue/<item>".
        """
        raise UserError(f"{self.where}: --cues recorded needs a recording that holds them: --source replay")

    def take_inputs(self) -> list[Input]:
        """Return what came besides samples since the last call."""
        return []

    @property
    def offered(self) -> str | None:
        """What waits for the operator's `accept`, as a question; None where nothing does."""
        return None

    def accept(self) -> str | None:
        """The operator says that a stream which was refused is the right one: return what is taken, None where
        nothing waits for it."""
        return None

    def begin_at(self, sample: int) -> None:
        """Begin the session at this sample of it (500 Hz): a session that goes on."""
        return None

    def cued(self, item: int, onset: int, sham: bool) -> None:
        """The session will play a cue at sample `onset`."""
        return None

    def annotate(self, text: str) -> None:
        """Put a marker into the recording at the newest sample."""
        return None

    def record(self, folder: Path, settings: RecordingSettings, origin: int = 0) -> None:
        """Record the stream into a folder; it begins at sample `origin` of the session (500 Hz)."""
        return None

    def close(self) -> None:
        """Let go of the device or file."""
        return None


def open_source(settings: SourceSettings, plan: Plan) -> Source:
    """Return the source that the settings name; it refuses what it cannot be (`UserError`).

    `settings.stop` ends every source: a recording at that second of it, a stream so many seconds after its first sample
    in the session.
    """
    kind = SOURCES.load(settings.kind)
    if kind.live and settings.start:
        raise UserError(
            f"source.start = {settings.start:g} s: a stream ({settings.kind}) begins where it is; leave --start out"
            + (", or give source.simulate.start_minutes" if settings.kind == "simulate" else "")
        )
    left = math.inf if settings.stop is None else settings.stop - settings.start - plan.origin / STREAM_RATE
    if kind.live and left <= 0:
        raise UserError(
            f"source.stop = {settings.stop:g} s: the session is at {plan.origin / STREAM_RATE:.0f} s already, its time "
            "is over; begin a new one"
        )
    source: Source = SOURCES.make(settings.kind, settings, plan)
    if settings.stop is None or kind.takes_recording:
        return source
    return cast(Source, _EndingSource(source, round((settings.stop - settings.start) * STREAM_RATE), plan.origin))


class _EndingSource:
    """A source that ends before sample `stop` of the session; it begins at `origin`."""

    def __init__(self, source: Source, stop: int, origin: int) -> None:
        self._source, self._stop, self._origin = source, stop, origin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    @property
    def seconds(self) -> float:
        return min(self._source.seconds, (self._stop - self._origin) / STREAM_RATE)

    def begin_at(self, sample: int) -> None:
        self._origin = sample
        self._source.begin_at(sample)

    def chunks(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[np.ndarray]:
        left = self._stop - self._origin
        for chunk in self._source.chunks(stopped) if left > 0 else ():
            yield chunk[:, :left]
            left -= chunk.shape[1]
            if left <= 0:
                return
