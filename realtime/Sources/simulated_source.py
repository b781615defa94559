"""A simulated sleeper as the stream: paced like an amplifier, or N times as fast; unpaced at speed 0.

The session tells it of every cue before the samples of its onset are delivered; the sleeper responds, so that
decodes of a simulated night have a truth.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np

from sleep_interpreter.data.simulation.live_sleeper import LiveSleeper
from sleep_interpreter.realtime.Parameters.source import SourceSettings
from sleep_interpreter.realtime.Sources.live_source import LiveSource
from sleep_interpreter.realtime.Sources.source import Plan
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import listed

_CHUNK = 50
"""Samples delivered at a time at speed 0: a cue is decided longer than this before its onset."""
_AHEAD = round(5 * STREAM_RATE)


class SimulatedSource(LiveSource):
    """A simulated night, which goes on at sample `origin`; `night` holds the truth: `stages`, `played`.

    `card` has the items that are cued: the sleeper must have learnt them (else `UserError`); None: all that it has.
    """

    simulated, amplifier = True, False

    def __init__(self, settings: SourceSettings, origin: int = 0, card: DataCard | None = None) -> None:
        self.night = LiveSleeper(settings.simulate)  # type: ignore[arg-type]  # its fields are read only
        self._items = _learnt(self.night.card, card)
        self._origin = self._begin = origin
        self.real_time = settings.speed > 0
        where, names = f"simulated sleeper {settings.simulate.subject}", self.night.names
        super().__init__(settings, names, STREAM_RATE, [1.0] * len(names), where, settings.speed or 1.0)
        self._lock = threading.Lock()
        self._next = origin
        self._zero: float | None = None  # when the session's first sample was due
        self._listened: float | None = None  # when listening before the session began
        self._prepared = -1

    @classmethod
    def for_session(cls, settings: SourceSettings, plan: Plan) -> Self:
        return cls(settings, plan.origin, plan.card)

    def begin_at(self, sample: int) -> None:
        """Begin there, whatever was listened to before."""
        self._begin = sample

    def open(self, picks: Sequence[str]) -> None:
        if self.real_time:
            super().open(picks)
            return
        self._select(picks)
        look = min(round(self.settings.look_seconds * STREAM_RATE), self.night.n - self._origin)
        self._keep_preview(self.night.render(self._origin, self._origin + look), 0.0)

    def cued(self, item: int, onset: int, sham: bool) -> None:
        if not sham:
            with self._lock:
                self.night.hear(self._items[item], onset)

    def time_of(self, seconds: float) -> float | None:
        """Return when that part of the session is due on the perf_counter clock; None at speed 0."""
        return super().time_of(seconds) if self.real_time else None

    def pull(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what is due by now: data (n, channels) and stamps (n,)."""
        now = time.perf_counter()
        if self._begun and self._zero is None:
            self._zero, self._origin = now, self._begin
            self._next = self._origin
        if self._listened is None:
            self._listened = now
        # listened to before the session: the night has not begun
        zero = self._listened if self._zero is None else self._zero
        due = min(self._origin + int((now - zero) * self._stamped_rate), self.night.n)
        if due <= self._next:
            self._render_ahead()
            return np.zeros((0, len(self.names))), np.zeros(0)
        with self._lock:
            data = self.night.render(self._next, due)
        stamps = zero + (np.arange(self._next, due) - self._origin) / self._stamped_rate
        self._next = due
        return data.T, stamps

    def chunks(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[np.ndarray]:
        if self.real_time:
            for chunk in super().chunks(stopped):
                yield chunk
                if self._next >= self.night.n and self._queue.empty():
                    return
            return
        self._origin = self._begin
        for start in range(self._origin, self.night.n, _CHUNK):
            if stopped():
                return
            data = self.night.render(start, min(start + _CHUNK, self.night.n))
            if self.recorder is not None:
                self.recorder.append(data)
            self._keep_recording()
            yield data[self._rows]

    def _render_ahead(self) -> None:
        """Make the next block in good time: it takes longer than a chunk may wait."""
        block = (self._next + _AHEAD) // _AHEAD
        if block != self._prepared:
            self._prepared = block
            threading.Thread(target=self._render_to, args=(self._next + _AHEAD,), daemon=True).start()

    def _render_to(self, sample: int) -> None:
        with self._lock:
            self.night.ahead(sample)

    def fingerprint(self) -> dict[str, Any]:
        simulated = self.settings.simulate.model_dump(mode="json")
        return {"name": self.where, "rate": STREAM_RATE, "simulate": simulated, "channels_of_stream": list(self.names)}


def _learnt(own: DataCard, cued: DataCard | None) -> list[int]:
    """Return the sleeper's number of each item that is cued (None: all of its own); refuse other items."""
    names = own.item_names if cued is None else cued.item_names
    if set(names) != set(own.item_names):
        raise UserError(
            f"source.simulate: the sleeper has learnt {len(own.items)} items ({listed(own.item_names)}), the session "
            f"cues {len(names)} ({listed(names)}); give the sleeper the session's data card: "
            "--set 'source.simulate.overrides=[card=PATH]'"
        )
    return [own.item_names.index(name) for name in names]
