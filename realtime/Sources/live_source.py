"""What live sources share: a thread that pulls and records, and the session's side that takes what has come.

Nothing the session does can hold up the thread: it pulls every 20 ms, writes what came to the disk, and puts
it into a queue. The session's side picks channels, fills gaps with NaN so that sample k always belongs to
time k / 500 s, and resamples. Stalls and backlogs are reported as inputs, since wall time decides them.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Parameters.source import RecordingSettings, SourceSettings
from sleep_interpreter.realtime.Recording.recorder import Recorder
from sleep_interpreter.realtime.Sources.source import Input, Source
from sleep_interpreter.realtime.Sources.stream_clock import Piece, StampCheck, StreamClock
from sleep_interpreter.realtime.Utils.keep_awake import COUNTER_SLEEPS, slept_seconds
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal import units as amplitude
from sleep_interpreter.utils.signal.channel_names import listed
from sleep_interpreter.utils.signal.resample import Resampler, ratio

logger = logging.getLogger(__name__)

_POLL = 0.02
_CLOSE_POLL = 0.003
"""Before the session arrivals are timed: they tell the stream's rate."""
_LOOK_AGAIN_SECONDS = 5.0
"""Between two looks at what is there instead of a stream that is lost."""
_FIRST_SECONDS = 2.5
"""Before the session a stream is looked after this soon: no sample of it is needed yet."""
_APART_SECONDS = 0.05
"""Stamps that are further than this behind the arrival of every sample are not on this machine's clock: those of a
program that counts samples at a rate that is off part from it by seconds in a night."""
_EARLY_SECONDS = 0.1
"""Nor are stamps that are later than the arrival by more than this and their jitter."""
_OFF_MOST = 0.005
"""A stream whose rate is off its nominal one by a larger share is refused; less is followed."""
_MISSING_MOST = 0.1
"""So is one that by its stamps lacks a larger share of its samples."""
_OFF_SAID = 0.001
"""A change of the rate by this share is said."""
_SURE = 0.002
"""The look lasts until the rate is known within this share, ..."""
_LOOKS = 3.0
"""... or for so many times its length."""
_MEASURE_SECONDS = 30.0
"""Between two measurements of the stream's rate during the session."""
_ASLEEP_SECONDS = 1.0
"""Shorter sleep of the computer is a hiccup."""
_USELESS = (
    "the stream's stamps tell no time (they do not go on as its samples come): its samples are taken to be of the "
    "moment at which they come; where some are lost, their number is told less exactly"
)
_STANDSTILL_SECONDS = 0.5
"""A thread that wakes up later than this was not let run."""
_PIECE = 5000
"""Samples of a gap that the session is given at a time."""


class LiveSource(Source):
    """An amplifier's stream. A subclass connects, and writes `pull`, `disconnect` and `reconnect`.

    `names` are all channels of the stream, `rate` is in Hz, `factors` are what each channel's numbers are multiplied
    with to give µV, `where` is what messages call it, and `pace` the seconds of the stream in a second of the clock
    that stamps its samples.
    """

    live = real_time = amplifier = True
    unit_option: str | None = None
    """Setting that says the unit of the stream's numbers, where there is one."""

    def __init__(
        self, settings: SourceSettings, names: Sequence[str], rate: float, factors: Sequence[float],
        where: str, pace: float = 1.0,
    ) -> None:  # fmt: skip
        self.settings, self.names, self.where = settings, list(names), where
        try:
            ratio(rate, STREAM_RATE)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        self._rate, self._factors = rate, np.asarray(factors, np.float64)[:, None]
        self._stamped_rate = rate * pace
        self.notices = []
        self._clock = StreamClock(self._stamped_rate, settings.gap_seconds)
        self._stamps_told = StampCheck(self._stamped_rate)
        self._queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._inputs: deque[Input] = deque()
        self._markers: deque[str] = deque()
        self._preview: deque[np.ndarray] = deque()
        self._delays: deque[float] = deque()
        self._measured = 0.0  # when its timing was measured last
        self._said: float | None = None  # share by which the rate is off, as last said
        self._previewed = 0  # samples
        self._lead_reported = False
        self._running, self._ending = threading.Event(), threading.Event()
        self._begun = False
        self._due: float | None = None  # when the first sample is due, of a session that goes on
        self._judged = time.perf_counter()  # when the session last looked whether samples come
        self._slept = slept_seconds()
        self._arrived = time.perf_counter()
        self._failure: str | None = None
        self.refusal: str | None = None
        self._looked = 0.0
        self._state = "current"
        self._thread: threading.Thread | None = None

    # --- of a subclass ------------------------------------------------------------------------------

    def pull(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what has come since the last call: data (n, channels), stamps (n,) in perf_counter time."""
        raise NotImplementedError

    def disconnect(self) -> None:
        """Let go of the device."""

    def reconnect(self) -> str | None:
        """Connect anew, or say why no samples will come: called now and then while none do."""
        return None

    # --- before the session -------------------------------------------------------------------------

    def open(self, picks: Sequence[str]) -> None:
        self._select(picks)
        began = self._arrived = time.perf_counter()
        self._thread = threading.Thread(target=self._acquire, name="acquisition", daemon=True)
        self._thread.start()
        wanted = round(self.settings.look_seconds * self._rate)
        deadline = began + self.settings.look_seconds + 10
        # old stamps may be those of a backlog: that has come within the time of a look
        while self._previewed < wanted or self._is_unsure(time.perf_counter() - began):
            if self._failure is not None:
                raise UserError(f"{self.where}: {self._failure}")
            if time.perf_counter() > deadline:
                within = f"{self.settings.look_seconds + 10:.0f} s"
                raise UserError(
                    self.refusal
                    or f"{self.where}: {self._previewed} samples came in {within}, "
                    f"expected {wanted}; is the amplifier streaming, and is its rate {self._rate:g} Hz?"
                )
            time.sleep(_POLL)
        if ahead := self._clock_lead():
            self.notices.append((logging.WARNING, _lead_text(ahead)))
            self._lead_reported = True
        self._check_rate()

    def _is_unsure(self, looked: float) -> bool:
        """Tell whether a longer look than one of so many seconds would say more of the stream's clock."""
        if looked < self.settings.look_seconds and self._clock_lead():
            return True
        if not self.amplifier or looked > _LOOKS * self.settings.look_seconds:
            return False
        timing = self._clock.measured()
        return timing is None or timing.uncertain > _SURE or self._stamps_told.doubtful

    def _check_rate(self) -> None:
        """Take down the stream's timing as measured in the look; refuse a rate that is not the nominal one."""
        if not self.amplifier:
            return
        timing = self.timing = self._clock.measured()
        if timing is None:
            self.notices.append((logging.WARNING, f"{self.where}: it came in too few pieces to tell its rate"))
            return
        if timing.is_off(_OFF_MOST) or timing.missing > _MISSING_MOST:
            raise UserError(
                f"{self.where}: {timing.text()}: its samples do not come at the {self._rate:g} Hz that it says; "
                "set the amplifier's program to the rate at which it sends"
            )
        level = logging.WARNING if timing.is_off(_OFF_SAID) else logging.INFO
        followed = "; followed, cues and markers are placed by the samples" if level == logging.WARNING else ""
        self.notices.append((level, f"stream's clock: {timing.text()}{followed}"))
        self._said = timing.off

    def _watch_rate(self, now: float) -> None:
        """Say when the stream's rate changes during the session; one that is off by too much is an alarm."""
        if now - self._measured < _MEASURE_SECONDS or not self.amplifier:
            return
        self._measured = now
        timing = self._clock.measured()
        if timing is None or timing.uncertain > _OFF_SAID:
            return
        self.timing, said = timing, self._said
        if said is not None and abs(timing.off - said) < _OFF_SAID + timing.uncertain:
            return
        self._said = timing.off
        was, wrong = said is not None and abs(said) > _OFF_MOST, timing.is_off(_OFF_MOST)
        text = f"stream's clock: {timing.text()}"
        if wrong:
            text += f": {self._rate:g} Hz is its nominal rate"
            self._inputs.append(("rate", {"state": "failed", "reason": text}))
        elif was:
            self._inputs.append(("rate", {"state": "back", "reason": text}))
        else:
            self._inputs.append(("notice", {"text": text}))

    def _clock_lead(self) -> float:
        """Return by how many s the stamps are ahead of this machine's clock; 0 where they are on it.

        The shortest time from a stamp to its arrival tells: a network only makes it longer, and no sample arrives
        before it was taken.
        """
        least = min(list(self._delays), default=0.0)
        early = _EARLY_SECONDS + 3 * self._clock.noise
        return -least if least > _APART_SECONDS or least < -early else 0.0

    def _select(self, picks: Sequence[str]) -> None:
        self._picks = list(picks)
        self._rows = [self.names.index(name) for name in picks]
        self.rates = {self._rate: tuple(self._picks)}
        self._resampler = Resampler(self._rate, STREAM_RATE, len(picks))

    def check_unit(self, rows: Sequence[int], what: str = "EEG", others_fit: bool = False) -> float:
        """Refuse a stream whose amplitude in its first seconds cannot be µV, as `ReplaySource.check_unit`."""
        data = self.preview()[[self._rows[row] for row in rows]]
        found = amplitude.deviations(data)
        if not found:
            raise UserError(f"{self.where}: {listed([self._picks[r] for r in rows])}: no finite samples came")
        factor, units, unit = 1.0, amplitude.STREAM_UNITS, "uV"
        if self.unit_option is not None:
            factor = float(np.median(self._factors[[self._rows[row] for row in rows]]))
            unit = next((name for name, own in units.items() if own == factor), f"{factor:g} uV")
        return amplitude.check(
            float(np.median(found)) / factor, unit, self.settings.amplitude_range, self.where, what, others_fit,
            option=self.unit_option, limit="source.amplitude_range", choices={**units, unit: factor},
        )  # fmt: skip

    def preview(self) -> np.ndarray:
        return np.concatenate(list(self._preview), axis=1)

    def delivery_seconds(self) -> float:
        """As nine of ten deliveries were while the stream was listened to."""
        ahead = self._clock_lead()
        pairs = list(zip(list(self._preview), list(self._delays), strict=False))
        ages = [max(0.0, delay + ahead) + data.shape[1] / self._rate for data, delay in pairs]
        return float(np.quantile(ages, 0.9)) if ages else 0.0

    def record(self, folder: Path, settings: RecordingSettings, origin: int = 0) -> None:
        first = round(origin * self._rate / STREAM_RATE)
        self.recorder = Recorder(
            folder, self.names, self._rate, settings, simulated=self.simulated, start=datetime.now(UTC),
            first=first, resumed=origin > 0,
        )  # fmt: skip
        if settings.xdf:
            self._copy_as_xdf()

    def _copy_as_xdf(self) -> None:  # a source that can does
        reason = f"{self.where} is no LSL stream, so there is nothing that LabRecorder could record"
        self._inputs.append(("xdf", {"state": "failed", "reason": reason}))

    def begin_at(self, sample: int) -> None:
        """Begin there: the sample that is taken now."""
        self._due = time.perf_counter()

    # --- during the session -------------------------------------------------------------------------

    def time_of(self, seconds: float) -> float | None:
        due = self._clock.time_of(seconds * self._rate)
        return time.perf_counter() if due is None else due

    def annotate(self, text: str) -> None:
        self._markers.append(text)

    def take_inputs(self) -> list[Input]:
        return [self._inputs.popleft() for _ in range(len(self._inputs))]

    def chunks(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[np.ndarray]:
        self._running.set()
        empty = np.zeros((len(self._rows), 0), np.float32)
        delivered = 0
        while not stopped():
            pieces = self._dequeue()
            came = sum(piece.shape[1] if kind == "data" else piece[1] for kind, piece in pieces)
            self._report_state(delivered + came * STREAM_RATE / self._rate, bool(pieces))
            if not pieces:
                yield empty
            for kind, piece in pieces:
                if kind == "data":
                    chunk = self._resampler.push(piece[self._rows]).astype(np.float32)
                    delivered += chunk.shape[1]
                    yield chunk
                    continue
                first, count = piece
                self._inputs.append(("gap", {"seconds": round(count / self._rate, 4), "first": first, "count": count}))
                for begin in range(0, count, _PIECE):
                    lost = np.full((len(self._rows), min(_PIECE, count - begin)), np.nan)
                    chunk = self._resampler.push(lost).astype(np.float32)
                    delivered += chunk.shape[1]
                    yield chunk
                    if stopped():
                        return
            if self._failure is not None and self._queue.empty():
                raise RuntimeError(f"{self.where}: {self._failure}")

    def fingerprint(self) -> dict[str, Any]:
        return {"name": self.where, "rate": self._rate, "channels_of_stream": list(self.names)}

    def close(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(10)
        if self.recorder is not None:
            self.recorder.close()
        self.disconnect()

    # --- the session's side -------------------------------------------------------------------------

    def _dequeue(self) -> list[tuple[str, Any]]:
        """Return what has come, after a short wait when nothing has."""
        pieces = []
        try:
            pieces.append(self._queue.get(timeout=_POLL))
            while len(pieces) < 50:
                pieces.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return pieces

    def _report_state(self, delivered: float, came: bool) -> None:
        """Report when the stream stalls, is lost, comes back, lags, and is up to date again; `delivered` samples of
        the session, those just taken from the queue among them: a block is not late for being long."""
        now, settings = time.perf_counter(), self.settings
        if now - self._judged > settings.stall_seconds / 2:  # this process stood still: what came is not taken yet
            self._arrived = max(self._arrived, now - settings.stall_seconds / 2)
        self._judged = now
        silent = now - self._arrived
        if came:
            if self._state in ("stalled", "lost", "refused"):
                self._report("back")
            due = self._clock.time_of(delivered * self._rate / STREAM_RATE)
            lag = 0.0 if due is None else now - due
            if lag > settings.behind_seconds and self._state == "current":
                self._report("behind", seconds=round(lag, 2))
            elif lag < settings.behind_seconds / 2 and self._state == "behind":
                self._report("current")
            return
        if (refusal := self.refusal) is not None:
            if self._state != "refused":
                self._report("refused", reason=refusal)
        elif silent > settings.lost_seconds:
            if self._state not in ("lost", "refused"):
                self._report("lost", seconds=round(silent, 2))
        elif silent > settings.stall_seconds and self._state in ("current", "behind"):
            self._report("stalled", seconds=round(silent, 2))

    def _report(self, state: str, **more: Any) -> None:
        self._state = "current" if state == "back" else state
        self._inputs.append(("stream", {"state": state, **more}))

    # --- the thread ---------------------------------------------------------------------------------

    def _acquire(self) -> None:
        following = time.perf_counter()
        try:
            while not self._ending.is_set():
                self._acquire_once()
                poll = _POLL if self._begun else _CLOSE_POLL
                began = time.perf_counter()
                following = max(following + poll, began - 1)
                time.sleep(max(0.0, following - began))
                self._note_standstill(time.perf_counter() - max(following, began))
        except Exception as error:  # the session says it and ends in order; a thread must not die in silence
            logger.exception("acquisition failed")
            self._failure = f"{type(error).__name__}: {' '.join(str(error).split())}"

    def _note_standstill(self, seconds: float) -> None:
        """This process did not run for so long: what came meanwhile waits, and no stream was silent."""
        if seconds > _STANDSTILL_SECONDS:
            self._arrived += seconds

    def _acquire_once(self) -> None:
        if self._running.is_set() and not self._begun:
            self._begun, ahead = True, self._clock_lead()
            self._clock, self._measured = self._clock.begun(ahead), time.perf_counter()
            if ahead and not self._lead_reported:  # set since the stream was opened
                self._inputs.append(("clock", {"state": "set", "reason": _lead_text(ahead)}))
        self._note_sleep()
        data, stamps = self.pull()
        now = time.perf_counter()
        if len(stamps):
            self._arrived, self.refusal = now, None
            microvolts = (np.asarray(data, np.float64).T * self._factors).astype(np.float32)
            stamps = self._believed(np.asarray(stamps, float), now)
            if not self._begun:
                self._keep_preview(microvolts, now - float(stamps[-1]))
                self._clock.push(microvolts[:1], stamps, now)  # it learns how the stream is
                return
            self._watch_rate(now)
            if self._due is not None:
                self._skip_until_first(now - self._due - len(stamps) / self._rate)
            self._record_and_queue(self._clock.push(microvolts, stamps, now))
        elif now - self._arrived > 0.3:
            if self._begun:
                self._record_and_queue(self._clock.flush())
            patience = self.settings.lost_seconds if self._begun else _FIRST_SECONDS
            if now - self._arrived > patience and now - self._looked > _LOOK_AGAIN_SECONDS:
                self._looked = now
                self.refusal = self.reconnect() or self.refusal
        if self._begun:
            self._keep_recording()

    def _believed(self, stamps: np.ndarray, now: float) -> np.ndarray:
        """Return the stamps (n,) as they may be believed; once they may not, say so, and look anew before a night."""
        if not self.amplifier:
            return stamps
        was = self._stamps_told.useless
        stamps = self._stamps_told.believed(stamps, now)
        if self._stamps_told.useless and not was:
            if self._begun:
                self._inputs.append(("clock", {"state": "set", "reason": _USELESS}))
                self._record_and_queue(self._clock.restamped())
            else:
                self.notices.append((logging.WARNING, _USELESS))
                self._clock, self._previewed = StreamClock(self._stamped_rate, self.settings.gap_seconds), 0
                self._preview.clear()
                self._delays.clear()
        return stamps

    def _skip_until_first(self, seconds: float) -> None:
        """A session goes on: what passed until the first sample came is a gap."""
        self._due = None
        if (missing := self._clock.slept(seconds)) > 0:
            self._record_and_queue([("gap", missing)])

    def _note_sleep(self) -> None:
        """Notice that the computer slept: the samples of that time are missing. Where this process's clock stood still
        too, no stamp shows that."""
        now, before = slept_seconds(), self._slept
        self._slept = now
        if not (now - before >= _ASLEEP_SECONDS and self._begun):
            return
        reason = f"this computer slept for {now - before:.0f} s, and recorded nothing: switch off its standby"
        self._inputs.append(("computer", {"state": "set", "reason": reason}))
        self._record_and_queue(self._clock.flush())
        if COUNTER_SLEEPS:
            self._record_and_queue([("gap", self._clock.slept(now - before))])

    def _keep_recording(self) -> None:
        if self.recorder is None:
            return
        while self._markers:
            self.recorder.marker(self._markers.popleft())
        self.recorder.sync_when_due()
        self._inputs.extend(self.recorder.take_inputs())

    def _record_and_queue(self, pieces: Sequence[Piece]) -> None:
        """Record pieces, then give them to the session: what it acts on is on its way to the disk."""
        waiting = sum(p[1].shape[1] if p[0] == "data" else p[1] if p[0] == "gap" else 0 for p in pieces)
        first = self._clock.count - waiting
        for piece in pieces:
            if piece[0] == "clock":
                reason = f"the stream's clock jumped by {piece[1]:.3f} s"
                self._inputs.append(("clock", {"state": "set", "reason": reason}))
            elif piece[0] == "gap":
                if self.recorder is not None:
                    self.recorder.gap(piece[1])
                self._queue.put(("gap", (first, piece[1])))
                first += piece[1]
            else:
                if self.recorder is not None:
                    self.recorder.append(piece[1])
                self._queue.put(piece)
                first += piece[1].shape[1]

    def _keep_preview(self, microvolts: np.ndarray, delay: float) -> None:
        self._preview.append(microvolts)
        self._delays.append(delay)
        self._previewed += microvolts.shape[1]
        most = round(self.settings.look_seconds * self._rate)
        while sum(p.shape[1] for p in self._preview) - self._preview[0].shape[1] >= most:
            self._preview.popleft()
            self._delays.popleft()


def _lead_text(ahead: float) -> str:
    side = "ahead of" if ahead > 0 else "behind"
    return (
        f"the stream's stamps are {abs(ahead):.2f} s {side} this machine's clock: "
        "its samples are taken to be of the moment at which they come"
    )
