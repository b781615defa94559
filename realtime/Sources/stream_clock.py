"""Time stamps of a stream: which samples are missing, which stamps merely jitter, when a clock was set.

Outlets stamp a chunk when they push it, so stamps jitter by milliseconds, and a program that hesitated pushes
what it owes at once: late stamps that are in time again soon after. Lost samples are a step that stays. A
clock that is set is a step without the waiting time that a loss takes.

Cues and markers are due on this machine's clock. So what the stamps are ahead of it, from the start or since
a clock was set, is kept apart from where the samples lie.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Piece = tuple[Literal["data"], np.ndarray] | tuple[Literal["gap"], int] | tuple[Literal["clock"], float]
"""Samples (channels, n); how many are missing; by how many seconds the stream's clock was set."""

_WAIT_SECONDS = 0.15
"""After a step this much signal is awaited to see whether the step stays."""
_WAIT_MOST = 10.0
"""A backlog that is worked off is awaited for this much signal at most."""
_TRACK_SECONDS = 60.0
"""Time constant with which the stream's clock and its jitter are followed: no amplifier drifts faster."""
_EVEN_SECONDS = 0.002
"""Stamps that never go back by more: a stream without jitter, in which each loss has its exact place."""
_JITTERS = 2.0
"""Stamps off by more than this many times their mean jitter are a step."""
_CLOCK_SECONDS = 0.1
"""Samples that arrive earlier than their stamps allow by more than this: the clock was set, nothing lost."""
_SILENT_SECONDS = 0.3
"""Where the clock was set during a silence at least as long, the silence is taken for the loss."""


class StreamClock:
    """Turn stamped chunks into pieces of signal and gaps, and know when each sample was taken.

    `rate` is in Hz; steps of stamps up to `tolerance` s, at least, are jitter. Stamps are `ahead` s ahead of the
    clock that `arrived` is on. `count` are the samples so far, those of gaps included.
    """

    def __init__(self, rate: float, tolerance: float, ahead: float = 0.0) -> None:
        self._rate, self._tolerance, self._ahead = rate, tolerance, ahead
        self._window = max(2, round(_WAIT_SECONDS * rate))  # samples that tell whether a step stays
        self._zero: Any = None  # when sample 0 was taken, on the stamps' clock
        self._jitter = 0.0  # mean absolute, s
        self._tracked = 0.0  # samples
        self._delay: float | None = None  # shortest time lately from a stamp to its arrival, s
        self._falling = 0.0  # by how much that time shrank from chunk to chunk: a backlog, fast stamps
        self._pending: list[tuple[np.ndarray, np.ndarray, float]] = []  # (data, stamps, arrived) since a step
        self._silence = 0.0  # before the step
        self._arrived: float | None = None
        self.count = 0

    def time_of(self, sample: float) -> float | None:
        """Return when a sample was, or will be, taken on the clock of `arrived`; None before the first."""
        return None if self._zero is None else self._zero - self._ahead + sample / self._rate

    def push(self, data: np.ndarray, stamps: np.ndarray, arrived: float) -> list[Piece]:
        """Add a chunk (channels, n) with its stamps (n,) in s, pulled at `arrived`, and return what is certain by
        now."""
        silence = 0.0 if self._arrived is None else arrived - self._arrived
        self._arrived = arrived
        if self._zero is None:
            self._zero = float(stamps[0])
        if self._pending:
            self._pending.append((data, stamps, arrived))
            return self._resolve_step() if self._can_resolve() else []
        late = self._lateness(stamps)
        over = np.abs(late) > self._limit
        if not over.any():
            self._track(late, arrived - float(stamps[-1]))
            self.count += len(stamps)
            return [("data", data)]
        first = int(over.argmax())
        before: list[Piece] = []
        if first:
            self._track(late[:first])
            self.count += first
            before = [("data", data[:, :first])]
        self._pending = [(data[:, first:], stamps[first:], arrived)]
        self._silence = silence if not first else 0.0
        return before + (self._resolve_step() if self._can_resolve() else [])

    def flush(self) -> list[Piece]:
        """Return what is still pending, as no more is coming for now."""
        pieces: list[Piece] = []
        while self._pending:
            pieces += self._resolve_step()
        return pieces

    @property
    def _limit(self) -> float:
        return max(self._tolerance, _JITTERS * self._jitter)

    def _lateness(self, stamps: np.ndarray) -> np.ndarray:
        """Return by how much stamps are later than those of the next samples should be, s."""
        return stamps - (self._zero + (self.count + np.arange(len(stamps))) / self._rate)

    def _can_resolve(self) -> bool:
        """Whether enough is pending: a while of signal, at the end of which the delay no longer shrinks."""
        late = self._lateness(np.concatenate([s for _, s, _ in self._pending]))
        if len(late) < _WAIT_SECONDS * self._rate:
            return False
        earlier, later = np.array_split(late[-self._window :], 2)
        shrinks = np.median(earlier) - np.median(later) > self._limit
        return not shrinks or len(late) >= _WAIT_MOST * self._rate

    def _resolve_step(self) -> list[Piece]:
        """Decide what a step was, now that some signal after it is there."""
        data = np.concatenate([d for d, _, _ in self._pending], axis=1)
        stamps = np.concatenate([s for _, s, _ in self._pending])
        pending, self._pending = self._pending, []
        late, limit = self._lateness(stamps), self._limit
        step = float(np.median(late[-self._window :]))
        if abs(step) <= limit:
            self._track(late)
            self.count += len(stamps)
            return [("data", data)]
        inside = np.flatnonzero(np.abs(late) <= limit)
        begin = int(inside[-1]) + 1 if len(inside) and len(stamps) - inside[-1] > 1 else 0
        pieces: list[Piece] = [("data", data[:, :begin])] if begin else []
        data, stamps, late = data[:, begin:], stamps[begin:], late[begin:]
        further = np.flatnonzero(late - late[0] > limit)
        if len(further) and (np.maximum.accumulate(late) - late).max() <= _EVEN_SECONDS:  # a second loss
            end = int(further[0])
            self._pending = [(data[:, end:], stamps[end:], pending[-1][2])]
            step = float(np.median(late[:end]))
        else:
            end = len(stamps)
        missing, set_by = self._explain(step, pending)
        if set_by:
            self._zero += set_by
            self._delay = None
            if set_by > 0 or set_by < -_CLOCK_SECONDS:  # a little back: a gap that jitter made too long
                self._ahead += set_by
                pieces.append(("clock", set_by))
        if missing:
            pieces.append(("gap", missing))
        self.count += begin + missing + end
        self._silence = 0.0
        return [*pieces, ("data", data[:, :end])]

    def _explain(self, step: float, pending: Sequence[tuple[np.ndarray, np.ndarray, float]]) -> tuple[int, float]:
        """Return how many samples are missing, and by how much the clock was set."""
        _, stamps, arrived = pending[0]
        early = 0.0 if self._delay is None else self._delay - (arrived - float(stamps[-1])) - self._falling
        if step > 0 and early <= max(_CLOCK_SECONDS, step / 2):
            return round(step * self._rate), 0.0
        # the stamps say nothing of what is missing; what was silent for long was not being recorded
        silent = self._silence - len(stamps) / self._rate
        missing = max(0, round(silent * self._rate)) if self._silence >= _SILENT_SECONDS else 0
        return missing, step - missing / self._rate

    def _track(self, late: np.ndarray, delay: float | None = None) -> None:
        self._tracked = min(self._tracked + len(late), _TRACK_SECONDS * self._rate)
        share = len(late) / self._tracked  # a plain mean at first
        self._zero += share * float(np.mean(np.clip(late, -self._limit, self._limit)))
        self._jitter += share * (float(np.mean(np.minimum(np.abs(late), self._limit))) - self._jitter)
        if delay is not None:
            rising = np.inf if self._delay is None else self._delay + 0.001 * len(late) / self._rate
            self._falling = max(0.8 * self._falling, min(rising - delay, 1.0) if self._delay is not None else 0.0)
            self._delay = min(rising, delay)
