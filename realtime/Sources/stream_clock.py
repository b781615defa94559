"""Time stamps of a live stream: which samples are missing, and when each one was taken.

Two clocks, never one: the stream's (its samples and stamps) and this machine's (when samples arrive). Stamps are not to
be believed one by one. Jitter is not a gap; a clock that was set loses nothing; a backlog that is worked off comes too
fast; stamps of a whole block may be alike; the stream's second may be longer or shorter than ours. So a step is
believed once it stays, it must fit to when samples arrive, and the rate is followed.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Piece = tuple[Literal["data"], np.ndarray] | tuple[Literal["gap"], int] | tuple[Literal["clock"], float]
"""Samples (channels, n); how many are missing; by how many seconds the stream's clock was set."""

_WAIT_SECONDS = 0.15
"""After a step this much signal is awaited to see whether the step stays."""
_WAIT_MOST = 10.0
"""A backlog that is worked off is awaited for this much signal at most."""
_BURST_MOST = 2.0
"""Seconds that longer bursts than a stream's are of: a program that hung, and stamped what it owed with now."""
_WAIT_BLOCKS = 4
"""Of a stream with jitter so many blocks are awaited after a step: one late block tells nothing."""
_WAIT_BURSTS = 2
"""Of a stream whose stamps come in bursts so many bursts are awaited after a step."""
_TRACK_SECONDS = 60.0
"""Time constant with which a stream's clock and its jitter are followed: no amplifier drifts faster."""
_TRACK_MOST = 1800.0
"""The same for the worst jitter."""
_HELD_SECONDS = 1.0
"""So much of a stream without jitter tells its rate."""
_UNSURE = 0.002
"""Share by which rates are off that nobody has measured yet."""
_CHUNKS_BETWEEN = 250
"""After so many chunks the rate of a stream with jitter is measured again."""
_NOISE_CHUNKS = 65
_NOISES = 2.2
"""Stamps that are off by up to a second at random differ by 0.6 s: the median."""
_EVEN_SECONDS = 0.002
"""Stamps that never go back by more: a stream without jitter, in which each loss has its exact place."""
_JITTERS = 2.0
"""Stamps off by more than this many times their mean jitter are a step."""
_CLOCK_SECONDS = 0.1
"""Samples that arrive earlier than their stamps allow by more than this: the clock was set, nothing lost."""
_SILENT_SECONDS = 0.3
"""Where the clock was set during a silence at least as long, the silence is taken for the loss."""
_BUNCHED = 0.25
"""Stamps that follow each other within this share of a sample's time are of one burst: the last one is its time."""
_CHUNKS = 3000
"""The newest chunks, from which the rate is measured."""
_LOOK_SECONDS = 0.02
"""A stream is looked at so often."""
_OFTEN = 100.0
"""Chunks a second that tell the earliest arrival whatever the times of looking are: blocks as long as the time between
two looks keep step with them."""
_POLL_SECONDS = 0.003
"""Arrivals are known within this, at the look."""
_BIN_SECONDS = 2.0
_BINS = 300
"""Arrivals are remembered as the earliest of each bin, for ten minutes."""
_FEWEST_BINS = 5
_ACCURATE_SECONDS = 0.001
"""Two clocks that part by less are taken for one."""
_PERIOD_OFF = 0.25
"""No clock is followed further from its nominal rate than by this share."""
_JUDGED_SECONDS = 2.0
_JUDGED_CHUNKS = 6
"""So much signal, and as many chunks, tell whether stamps go on as samples do ..."""
_JUDGED_OFF = 0.11
"""... to within this share, which jitter of 0.1 s does not reach ..."""
_JUDGED_TIMES = 2
"""... and so often in a row: a clock that is set passes."""


class StampCheck:
    """Give a stream's stamps as they may be believed, and know when they are `useless`; `doubtful`: they may be.

    Stamps that do not go on as samples come, at the `rate` in Hz, tell no time: all alike, counted in samples or ms,
    rounded to minutes, no numbers. Then the time at which samples come stands in for them, for good.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self.useless = rate, False
        self._count = self._chunks = self._wrong = self._blank = 0  # blank: samples in a row without a number
        self._began: tuple[int, float, float] | None = None  # samples, stamp, arrival
        self._last: float | None = None

    @property
    def doubtful(self) -> bool:
        """Whether more of the stream is needed to tell."""
        return not self.useless and self._wrong + self._blank > 0

    def believed(self, stamps: np.ndarray, arrived: float) -> np.ndarray:
        """Return the stamps (n,) in s, n > 0, of a chunk that arrived then; none is infinite or no number."""
        there = np.isfinite(stamps)
        if not self.useless:
            self._judge(stamps, there, arrived)
        if self.useless:
            return np.full(len(stamps), arrived)
        within = np.arange(len(stamps)) / self._rate
        if not there.any():
            stamps = within + (arrived - within[-1] if self._last is None else self._last + 1 / self._rate)
        elif not there.all():
            stamps = within + np.interp(within, within[there], (stamps - within)[there])
        self._last = float(stamps[-1])
        return stamps

    def _judge(self, stamps: np.ndarray, there: np.ndarray, arrived: float) -> None:
        before = self._count
        self._count += len(stamps)
        if not there.any():
            self._blank += len(stamps)
            self.useless = self._blank >= _JUDGED_TIMES * _JUDGED_SECONDS * self._rate
            return
        last = int(np.flatnonzero(there)[-1])
        count, stamp = before + last + 1, float(stamps[last])
        self._blank = 0
        self._chunks += 1
        if self._began is not None:
            begin, first, since = self._began
            due = (count - begin) / self._rate
            if due < _JUDGED_SECONDS or self._chunks < _JUDGED_CHUNKS:
                return
            if abs((arrived - since) / due - 1) <= _JUDGED_OFF:  # else a backlog, or what follows a silence
                self._wrong = 0 if abs((stamp - first) / due - 1) <= _JUDGED_OFF else self._wrong + 1
            self.useless = self._wrong >= _JUDGED_TIMES
        self._began, self._chunks = (count, stamp, arrived), 0


@dataclass(frozen=True)
class StreamTiming:
    """What was measured of a stream: its true rate in Hz by this machine's clock, the share by which that differs from
    the nominal one, and how sure that is (`uncertain`, a share too); the seconds that come at a time; the jitter of
    its stamps (mean absolute, s); the shortest time from a stamp to its arrival (`offset`, s); how much later than
    that the latest block came (`latency`, s); and the share of samples that are `missing` by the stamps."""

    rate: float
    off: float
    uncertain: float
    block: float
    jitter: float
    offset: float
    latency: float
    missing: float = 0.0

    def is_off(self, share: float) -> bool:
        """Tell whether the rate differs from the nominal one by more than a share, for certain."""
        return abs(self.off) - self.uncertain > share

    def text(self) -> str:
        """Return it in one line, for log, report and the check before a night."""
        apart = f"{self.offset * 1e3:.0f} ms" if abs(self.offset) < 10 else f"{self.offset:.1f} s"
        return (
            f"effective rate {self.rate:.2f} Hz ({self.off:+.2%}, ±{self.uncertain:.2%}), blocks of "
            f"{self.block * 1e3:.0f} ms, from stamp to arrival {apart}, "
            f"jitter {self.jitter * 1e3:.1f} ms, latency varies by {self.latency * 1e3:.0f} ms"
            + (f", {self.missing:.1%} of the samples are missing" if self.missing else "")
        )


def floor_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Return (slope, value at x[-1], 90 % of points lie within this above) of the line below all points (n,), x rising,
    that is nearest to them.

    What arrives can be late and never early, so the earliest arrivals tell the clock (Moon, Skelly & Towsley 1999).
    """
    hull: list[int] = []
    for k in range(len(x)):
        while len(hull) > 1:
            i, j = hull[-2], hull[-1]
            if (y[j] - y[i]) * (x[k] - x[i]) < (y[k] - y[i]) * (x[j] - x[i]):
                break
            hull.pop()
        hull.append(k)
    if len(hull) < 2:
        return 0.0, float(y[-1]), 0.0
    middle = float(np.mean(x))
    edge = next(k for k in range(1, len(hull)) if x[hull[k]] >= middle or k == len(hull) - 1)
    i, j = hull[edge - 1], hull[edge]
    slope = float((y[j] - y[i]) / (x[j] - x[i]))
    above = y - (y[i] + slope * (x - x[i]))
    return slope, float(y[i] + slope * (x[-1] - x[i])), float(np.percentile(above, 90))


class _Line:
    """A straight line through stamps, followed with a memory: sample to stamp.

    `end` is the sample that `stamp` belongs to, `period` the seconds from sample to sample. It is held to the
    `nominal` period until enough has come to tell another one.
    """

    def __init__(self, stamp: float, period: float) -> None:
        self.end, self.stamp, self.period, self.nominal = 0, stamp, period, period
        self._least, self._most = period * (1 - _PERIOD_OFF), period * (1 + _PERIOD_OFF)
        self._s = self._sx = self._sxx = self._sy = self._sxy = 0.0

    def at(self, sample: Any) -> Any:
        """Return the stamp of a sample, or of an array of them."""
        return self.stamp + (sample - self.end) * self.period

    def shift(self, seconds: float) -> None:
        """The clock was set."""
        self.stamp += seconds

    def pass_over(self, count: int) -> None:
        """So many samples are passed without a stamp."""
        self.stamp, self.end = self.at(self.end + count), self.end + count
        self._recentre(count)

    def follow(self, late: np.ndarray, seconds: float, held: float) -> None:
        """Take the next samples, late (n,) by so much, with a memory of `seconds`; so much as `held` s are needed to
        tell another rate."""
        n = len(late)
        self.pass_over(n)
        decay = math.exp(-n * self.period / seconds)
        for name in ("_s", "_sx", "_sxx", "_sy", "_sxy"):
            setattr(self, name, getattr(self, name) * decay)
        x, y = -(n + 1) / 2, float(np.mean(late))  # of their middle, as one
        self._s += n
        self._sx += n * x
        self._sxx += n * (x * x + (n * n - 1) / 12)
        self._sy += n * y
        self._sxy += n * x * y
        held = (held / self.period) ** 3 / 12
        right = self._sxy - held * (self.period - self.nominal)
        found = self._s * (self._sxx + held) - self._sx**2
        if found <= 0:
            return
        slope = (self._s * right - self._sx * self._sy) / found
        offset = (self._sy - slope * self._sx) / self._s
        self._sy -= offset * self._s + slope * self._sx
        self._sxy -= offset * self._sx + slope * self._sxx
        self.stamp += offset
        self.period = min(max(self.period + slope, self._least), self._most)

    def _recentre(self, n: int) -> None:
        self._sxx += -2 * n * self._sx + n * n * self._s
        self._sxy -= n * self._sy
        self._sx -= n * self._s


class _Arrivals:
    """By how much the stream's clock parts from this machine's, told by the earliest arrivals."""

    def __init__(self) -> None:
        self._bins: deque[tuple[float, float, float, int]] = deque(maxlen=_BINS)
        self._open: list[float] = []  # delays of the bin that is being filled
        self._began = self._arrived = 0.0  # of that bin: when it began, when its earliest arrived
        self._zero: float | None = None  # when the first bin was
        self._first = 0.0  # shortest delay then
        self._at, self._value, self._slope = 0.0, 0.0, 0.0

    def add(self, arrived: float, delay: float) -> None:
        """A chunk arrived so long after its last sample was taken, by the stream's clock."""
        if self._open and arrived - self._began >= min(_BIN_SECONDS, 0.25 + 0.05 * len(self._bins)):
            delays = self._open
            self._bins.append((self._arrived, min(delays), sum(delays) / len(delays), len(delays)))
            self._open = []
            self._fit()
        if not self._open:
            self._began = arrived
        if not self._open or delay < min(self._open):
            self._arrived = arrived
        self._open.append(delay)

    def _fit(self) -> None:
        if len(self._bins) < _FEWEST_BINS:
            return
        x, y, mean, count = np.array(self._bins).T
        now = float(x[-1])
        slope, value, _ = floor_line(x - now, y)
        above = float(np.median(mean - value - slope * (x - now)))
        if self._zero is None:
            self._zero = float(x[0])
        if self._zero == x[0]:
            self._first = value + slope * (self._zero - now)
        # a delay that grew once, for all that comes, is no drift: a line it must be, and more than chance makes
        unsure = 3 * above / max(1.0, count.sum() / 8) + 3 * float(np.median(y - value - slope * (x - now)))
        passed = now - float(x[0])
        if count.sum() < _OFTEN * passed:  # few blocks beat with the times at which they are looked for
            unsure += _LOOK_SECONDS
        if abs(slope) * passed > max(_ACCURATE_SECONDS, unsure):
            self._slope, self._value = slope, value - self._first
        else:
            self._slope, self._value = 0.0, 0.0 if self._zero == x[0] else self.off(now)
        self._value = min(self._value, value)  # nothing arrives before it was taken: stamps of bursts say so
        self._at = now

    def off(self, time: float) -> float:
        """Return by how much later than the stream's clock says samples are taken, s, at a time of this machine's."""
        return self._value + self._slope * (time - self._at)

    def machine_time(self, by_stamp: float) -> float:
        """Return the time of this machine's clock that belongs to one of the stream's."""
        return (by_stamp + self._value - self._slope * self._at) / (1 - self._slope)


class StreamClock:
    """Turn stamped chunks into pieces of signal and gaps, and know when each sample was taken.

    `rate` is in Hz; steps of stamps up to `tolerance` s, at least, are jitter. Stamps are `ahead` s ahead of the
    clock that `arrived` is on. `count` are the samples so far, those of gaps included.
    """

    def __init__(self, rate: float, tolerance: float, ahead: float = 0.0) -> None:
        self._rate, self._tolerance, self._ahead = rate, tolerance, ahead
        self._line: _Line | None = None
        self._arrivals = _Arrivals()
        self._jitter = 0.0  # mean absolute, s
        self._changes: deque[float] = deque(maxlen=_NOISE_CHUNKS)  # of the error, from chunk to chunk, s
        self._noise, self._last = 0.0, 0.0  # their median, and the last error, s
        self._tracked = 0.0  # samples
        self._delay: float | None = None  # shortest time lately from a stamp to its arrival, s
        self._falling = 0.0  # by how much that time shrank from chunk to chunk: a backlog, fast stamps
        self._pending: list[tuple[np.ndarray, np.ndarray, float]] = []  # (data, stamps, arrived) since a step
        self._silence = 0.0  # before the step
        self._arrived: float | None = None
        self._block = 0.0  # samples in a chunk
        self._burst = 0.0  # samples whose stamps are alike
        self._run, self._raw = 0, -math.inf  # such samples up to now, and the newest stamp
        self._heard = 0  # chunks that came
        self._unsure = 0.0  # of the period, s
        self._anew = False  # what was known before the next chunk may be over
        self._lossy = 0.0  # samples for which a loss is remembered
        self._history: deque[tuple[int, float, float, int]] = deque(maxlen=_CHUNKS)
        """Of each chunk: samples so far, its last stamp, when it arrived, samples that came so far."""
        self._came = 0  # samples
        self.count = 0

    def begun(self, ahead: float) -> "StreamClock":
        """Return a clock for the same stream that counts from its next sample, with all that is known of it."""
        self.flush()
        new = StreamClock(self._rate, self._tolerance, ahead)
        new._jitter, new._noise, new._burst, new._block = self._jitter, self._noise, self._burst, self._block
        new._changes = self._changes
        new._tracked = min(self._tracked, 5 * self._rate)
        if self._line is not None:
            period, new._unsure = self._period_told()
            new._line, new._anew = _Line(float(self._line.at(self.count)), period), True
        if ahead == self._ahead:  # else told by the newest arrivals: what was before is in it
            new._arrivals = self._arrivals
        return new

    def _period_told(self) -> tuple[float, float]:
        """Return the seconds of the stream's clock from sample to sample that the last while tells, the nominal ones if
        they may be those, and how unsure that is."""
        nominal = 1 / self._rate
        if len(self._history) < 10 or self._line is None:
            return nominal, _UNSURE * nominal
        x, y, *_ = np.array(list(self._history)).T
        x = x - x.mean()
        spread = float(x @ x)
        slope = float(x @ (y - y.mean())) / spread
        rest = y - y.mean() - slope * x
        wrong = abs(slope - nominal) > _PERIOD_OFF * nominal
        if wrong or np.abs(rest).max() > 2 * self._limit:  # it was set meanwhile, or many were lost
            return self._line.period, _UNSURE * nominal
        unsure = float(rest.std()) / math.sqrt(spread)
        timing = self.measured()
        if timing is not None and timing.uncertain * nominal < unsure:
            by_arrival = 1 / timing.rate
            if abs(by_arrival - slope) < 3 * unsure:
                slope, unsure = by_arrival, timing.uncertain * nominal
        if abs(slope - nominal) < max(3 * unsure, 1e-5 * nominal):
            slope = nominal
        return slope, max(unsure, 1e-5 * nominal)

    def measured(self) -> StreamTiming | None:
        """Return what is known of the stream's timing, None before there is enough of it."""
        if len(self._history) < 5 or self._line is None:
            return None
        count, stamps, arrived, came = np.array(list(self._history)).T
        passed = arrived[-1] - arrived[0]
        if passed <= 0:
            return None
        slope, _, above = floor_line(count - count[0], arrived - arrived[0])
        if slope <= 0:
            return None
        size = float(np.median(np.diff(count))) / self._rate
        delays = arrived - stamps + self._ahead
        unsure = 2 * (_POLL_SECONDS + above) / passed
        rate, missing = 1 / slope, max(0.0, 1 - float((came[-1] - came[0]) / (count[-1] - count[0])))
        block = max(size, self._burst / self._rate)
        least = float(delays.min())
        late = float(np.percentile(delays, 99)) - least
        return StreamTiming(rate, rate / self._rate - 1, unsure, block, self._noise / 1.17, least, late, missing)

    @property
    def period(self) -> float:
        """Seconds of the stream's own clock from sample to sample."""
        return 1 / self._rate if self._line is None else self._line.period

    @property
    def jitter(self) -> float:
        """Mean absolute error of stamps, s."""
        return self._jitter

    @property
    def noise(self) -> float:
        """Typical change of the stamps' error from chunk to chunk, s."""
        return self._noise

    def time_of(self, sample: float) -> float | None:
        """Return when a sample was, or will be, taken on the clock of `arrived`; None before the first."""
        if self._line is None:
            return None
        return self._arrivals.machine_time(float(self._line.at(sample)) - self._ahead)

    def slept(self, seconds: float) -> int:
        """The machine, and its clocks, stood still for so long: return how many samples are missing for it."""
        if self._line is None:
            return 0
        missing = max(0, round(seconds * self._rate))
        self._line.pass_over(missing)
        self._line.shift(-missing * self._line.period)
        self.count += missing
        return missing

    def push(self, data: np.ndarray, stamps: np.ndarray, arrived: float) -> list[Piece]:
        """Add a chunk (channels, n) with its stamps (n,) in s, pulled at `arrived`, and return what is certain by
        now."""
        silence = 0.0 if self._arrived is None else arrived - self._arrived
        self._arrived = arrived
        stamps = self._spread(stamps)
        if self._line is None:
            self._unsure = _UNSURE / self._rate
            self._line = _Line(float(stamps[0]), 1 / self._rate)
        elif self._anew:
            step = float(np.median(self._lateness(stamps)))
            self._line.shift(step if abs(step) > self._limit else 0.0)
        self._anew = False
        if self._pending:
            waiting = sum(len(s) for _, s, _ in self._pending)
            self._listen(self._lateness(stamps, waiting), stamps, arrived, waiting)
            self._pending.append((data, stamps, arrived))
            return self._resolve_step() if self._can_resolve() else []
        late = self._lateness(stamps)
        self._listen(late, stamps, arrived)
        over = np.abs(late) > self._limit
        if not over.any():
            self._track(late, arrived)
            return [("data", data)]
        first = int(over.argmax())
        before: list[Piece] = []
        if first:
            self._track(late[:first])
            before = [("data", data[:, :first])]
        self._pending = [(data[:, first:], stamps[first:], arrived)]
        self._silence = silence if not first else 0.0
        return before + (self._resolve_step() if self._can_resolve() else [])

    def restamped(self) -> list[Piece]:
        """The times of arrival are the stamps from now on: return what is still pending, and forget the old ones."""
        pieces = self.flush()
        self._burst, self._run = 0.0, 0
        self._ahead, self._delay, self._arrivals = 0.0, None, _Arrivals()
        self._jitter, self._noise, self._anew = 0.0, 0.0, True
        self._changes.clear()
        self._history.clear()
        return pieces

    def flush(self) -> list[Piece]:
        """Return what is still pending, as no more is coming for now."""
        pieces: list[Piece] = []
        while self._pending:
            pieces += self._resolve_step()
        return pieces

    def _spread(self, stamps: np.ndarray) -> np.ndarray:
        """Return stamps (n,) in which those of a burst, all alike, lie a sample apart, the last one as it is."""
        self._block += (len(stamps) - self._block) / (1 if not self._block else 20)
        self._burst *= math.exp(-len(stamps) / (_TRACK_SECONDS * self._rate))
        near = _BUNCHED * self.period
        alike = np.abs(np.diff(stamps, prepend=self._raw)) < near
        self._raw = float(stamps[-1])
        if not alike.any():
            self._run = 0
            if self._burst > _BURST_MOST * self._rate:
                self._burst = 0.0
            return stamps
        edges = [*np.flatnonzero(~alike).tolist(), len(stamps)]
        result = np.array(stamps, float)
        for begin, end in zip([0, *edges[:-1]], edges, strict=True):
            if end == begin:
                continue
            self._run = end - begin if begin or not alike[0] else self._run + end - begin
            self._burst = max(self._burst, float(self._run)) if self._run > 2 else self._burst
            result[begin:end] = stamps[end - 1] - np.arange(end - begin)[::-1] * self.period
        return result

    def _listen(self, late: np.ndarray, stamps: np.ndarray, arrived: float, after: int = 0) -> None:
        """Take down how stamps and arrivals vary."""
        if self._heard:
            self._changes.append(abs(float(late[0]) - self._last))
            if len(self._changes) < 20 or not self._heard % 8:  # a median takes its time
                self._noise = float(np.median(self._changes))
        self._last = float(late[-1])
        self._heard += 1
        self._came += len(stamps)
        self._history.append((self.count + after + len(stamps), float(stamps[-1]), arrived, self._came))
        # losses that jitter hides would be taken for another rate
        tells = self._noise > _EVEN_SECONDS and self._lossy <= 0
        if self._line is not None and tells and not self._heard % _CHUNKS_BETWEEN:
            self._line.nominal, self._unsure = self._period_told()

    @property
    def _limit(self) -> float:
        return max(self._tolerance, _JITTERS * self._jitter, _NOISES * self._noise)

    @property
    def _window(self) -> int:
        """Samples that tell whether a step stays."""
        blocks = _WAIT_BLOCKS * self._block if self._jitter > _EVEN_SECONDS else 0.0
        return max(2, round(max(_WAIT_SECONDS * self._rate, blocks, _WAIT_BURSTS * self._burst)))

    def _lateness(self, stamps: np.ndarray, after: int = 0) -> np.ndarray:
        """Return by how much stamps are later than those of the next samples, or those `after` them, should be, s."""
        assert self._line is not None
        return stamps - self._line.at(self.count + after + np.arange(len(stamps)))

    def _can_resolve(self) -> bool:
        """Whether enough is pending: a while of signal, at the end of which the delay no longer shrinks. A backlog that
        comes at once is awaited whole: what it has not brought yet would be taken for lost."""
        late = self._lateness(np.concatenate([s for _, s, _ in self._pending]))
        if len(late) < self._window:
            return False
        earlier, later = np.array_split(late[-self._window :], 2)
        shrinks = np.median(earlier) - np.median(later) > self._limit
        if not shrinks:
            return True
        return len(late) >= _WAIT_MOST * self._rate and not self._comes_at_once()

    def _comes_at_once(self) -> bool:
        """Whether the newest of what is pending came in less than half the time that it lasts."""
        count, newest = 0, self._pending[-1][2]
        for _, stamps, arrived in reversed(self._pending):
            if count >= self._window:
                return newest - arrived < 0.5 * count / self._rate
            count += len(stamps)
        return False

    def _resolve_step(self) -> list[Piece]:
        """Decide what a step was, now that some signal after it is there."""
        assert self._line is not None
        data = np.concatenate([d for d, _, _ in self._pending], axis=1)
        stamps = np.concatenate([s for _, s, _ in self._pending])
        pending, self._pending = self._pending, []
        late, limit = self._lateness(stamps), self._limit
        step = float(np.median(late[-self._window :]))
        if abs(step) <= limit:
            inside = np.abs(late) <= limit
            owed = int(inside.argmax())
            if owed >= self._window and inside[owed:].all():  # what was owed tells nothing of clock or jitter
                self._line.pass_over(owed)
                self.count += owed
                late = late[owed:]
            self._track(late)
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
            self._line.shift(set_by)
            self._delay = None
            if set_by > 0 or set_by < -_CLOCK_SECONDS:  # a little back: a gap that jitter made too long
                self._ahead += set_by
                pieces.append(("clock", set_by))
        if missing:
            pieces.append(("gap", missing))
            self._lossy = _TRACK_SECONDS * self._rate
        self.count += begin + missing + end
        self._line.pass_over(begin + missing + end)
        self._silence = 0.0
        return [*pieces, ("data", data[:, :end])]

    def _explain(self, step: float, pending: Sequence[tuple[np.ndarray, np.ndarray, float]]) -> tuple[int, float]:
        """Return how many samples are missing, and by how much the clock was set."""
        _, stamps, arrived = pending[0]
        # nothing arrives before it was taken: so much is known of a delay that has not been seen yet
        least = -self._ahead if self._delay is None else self._delay
        early = least - (arrived - float(stamps[-1])) - self._falling
        if step > 0 and early <= max(_CLOCK_SECONDS, step / 2):
            return round(step * self._rate), 0.0
        # the stamps say nothing of what is missing; what was silent for long was not being recorded
        silent = self._silence - len(stamps) / self._rate
        missing = max(0, round(silent * self._rate)) if self._silence >= _SILENT_SECONDS else 0
        return missing, step - missing / self._rate

    def _track(self, late: np.ndarray, arrived: float | None = None) -> None:
        """Follow the clock by samples that came in time, and count them; `arrived` where the last of them did."""
        assert self._line is not None
        self._tracked = min(self._tracked + len(late), _TRACK_SECONDS * self._rate)
        share = len(late) / self._tracked  # a plain mean at first
        stamp = float(self._line.at(self.count + len(late) - 1) + late[-1])
        memory = min(_TRACK_MOST, _TRACK_SECONDS * max(1.0, self._noise / _EVEN_SECONDS))
        # as a stretch of signal tells it that is as unsure
        told = 12 * self._noise**2 * max(1.0, self._block) * self._line.period / max(self._unsure, 1e-12) ** 2
        held = max(_HELD_SECONDS, (told ** (1 / 3)) * self._line.period ** (2 / 3))
        if self._lossy > 0 and self._noise > _EVEN_SECONDS:
            held = 10 * memory
        self._lossy -= len(late)
        self._line.follow(np.clip(late, -self._limit, self._limit), memory, held)
        self._jitter += share * (float(np.mean(np.minimum(np.abs(late), self._limit))) - self._jitter)
        self.count += len(late)
        if arrived is None:
            return
        delay = arrived - stamp
        rising = np.inf if self._delay is None else self._delay + 0.001 * len(late) / self._rate
        self._falling = max(0.8 * self._falling, min(rising - delay, 1.0) if self._delay is not None else 0.0)
        self._delay = min(rising, delay)
        if self._noise > _EVEN_SECONDS:
            delay = arrived - float(self._line.at(self.count - 1))
        self._arrivals.add(arrived, delay + self._ahead)
