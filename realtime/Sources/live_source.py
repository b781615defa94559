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
from datetime import UTC, datetime

import numpy as np

from sleep_interpreter.realtime.Recording.recorder import Recorder
from sleep_interpreter.realtime.Sources.source import Source
from sleep_interpreter.realtime.Sources.stream_clock import StreamClock
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal import units as amplitude
from sleep_interpreter.utils.signal.channel_names import listed
from sleep_interpreter.utils.signal.resample import Resampler, ratio

logger = logging.getLogger(__name__)

_POLL = 0.02
_ASK_SECONDS = 5.0
"""Between two looks at what is there instead of a stream that is lost."""
_FIRST_SECONDS = 2.5
"""Before the session a stream is looked after this soon: no sample of it is needed yet."""
_APART_SECONDS = 1.0
"""Stamps that are further than this from the arrival of every sample are not on this machine's clock."""
_PIECE = 5000
"""Samples of a gap that the session is given at a time."""


class LiveSource(Source):
    """An amplifier's stream. A subclass connects and pulls.

    Parameters
    ----------
    settings : SourceSettings
    names : sequence of str
        All channels of the stream.
    rate : float
        Hz.
    factors : sequence of float
        What each channel's numbers are multiplied with to give µV.
    where : str
        What the stream is called in messages.
    pace : float
        Seconds of the stream in a second of the clock that stamps its samples.

    Attributes
    ----------
    recorder : Recorder | None
    """

    live = real_time = amplifier = True

    def __init__(self, settings, names, rate, factors, where, pace=1.0):
        self.settings, self.names, self.where = settings, list(names), where
        try:
            ratio(rate, STREAM_RATE)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        self._rate, self._factors = rate, np.asarray(factors, np.float64)[:, None]
        self._stamped_rate = rate * pace
        self.notices, self.recorder = [], None
        self._clock = StreamClock(self._stamped_rate, settings.gap_seconds)
        self._queue, self._inputs = queue.SimpleQueue(), deque()
        self._texts = deque()
        self._preview, self._delays, self._seen = deque(), deque(), 0
        self._said_apart = False
        self._running, self._ending = threading.Event(), threading.Event()
        self._begun = False
        self._arrived = time.perf_counter()
        self._died = None
        self.refusal = None
        self._asked = 0.0
        self._state = "current"
        self._thread = None

    # --- of a subclass ------------------------------------------------------------------------------

    def pull(self):
        """Return what has come since the last call: data (n, channels), stamps (n,) in perf_counter time."""
        raise NotImplementedError

    def disconnect(self):
        """Let go of the device."""

    def lost(self):
        """Called by the thread now and then while no samples come: connect anew, or say why none will be."""

    # --- before the session -------------------------------------------------------------------------

    def open(self, picks):
        """Choose the channels to deliver, and begin to listen.

        Raises
        ------
        UserError
            No sample comes.
        """
        self._choose(picks)
        began = self._arrived = time.perf_counter()
        self._thread = threading.Thread(target=self._acquire, name="acquisition", daemon=True)
        self._thread.start()
        wanted = round(self.settings.look_seconds * self._rate)
        deadline = began + self.settings.look_seconds + 10
        # old stamps may be those of a backlog: that has come within the time of a look
        while self._seen < wanted or (self._ahead() and time.perf_counter() < deadline - 10):
            if self._died is not None:
                raise UserError(f"{self.where}: {self._died}")
            if time.perf_counter() > deadline:
                raise UserError(
                    self.refusal
                    or f"{self.where}: {self._seen} samples came in {self.settings.look_seconds + 10:.0f} s, "
                    f"expected {wanted}; is the amplifier streaming, and is its rate {self._rate:g} Hz?"
                )
            time.sleep(_POLL)
        if ahead := self._ahead():
            self.notices.append((logging.WARNING, _apart(ahead)))
            self._said_apart = True

    def _ahead(self):
        """Return by how much the stamps are ahead of this machine's clock, s; 0 where they are on it.

        The shortest time from a stamp to its arrival tells: a network only makes it longer.
        """
        least = min(list(self._delays), default=0.0)
        return -least if abs(least) > _APART_SECONDS else 0.0

    def _choose(self, picks):
        self._picks = list(picks)
        self._rows = [self.names.index(name) for name in picks]
        self.rates = {self._rate: tuple(self._picks)}
        self._resampler = Resampler(self._rate, STREAM_RATE, len(picks))

    def check_unit(self, rows, what="EEG", others_fit=False):
        """Refuse a stream whose amplitude in its first seconds cannot be µV, as `ReplaySource.check_unit`."""
        data = self.preview()[[self._rows[row] for row in rows]]
        found = amplitude.deviations(data)
        if not found:
            raise UserError(f"{self.where}: {listed([self._picks[r] for r in rows])}: no finite samples came")
        return amplitude.check(
            float(np.median(found)), "uV", self.settings.amplitude_range, self.where, what, others_fit,
            option="source.lsl.unit", limit="source.amplitude_range",
        )  # fmt: skip

    def preview(self):
        """Return the newest seconds before the session, all channels, (channels, n) µV."""
        return np.concatenate(list(self._preview), axis=1)

    def record(self, folder, settings, origin=0):
        """Record the session's stream into a folder; it begins at sample `origin` of the session (500 Hz)."""
        first = round(origin * self._rate / STREAM_RATE)
        self.recorder = Recorder(
            folder, self.names, self._rate, settings, simulated=self.simulated, start=datetime.now(UTC),
            first=first,
        )  # fmt: skip
        if settings.xdf:
            self._copy()

    def _copy(self):
        """Begin a second copy as XDF, where the source can."""
        reason = f"{self.where} is no LSL stream, so there is nothing that LabRecorder could record"
        self._inputs.append(("xdf", {"state": "failed", "reason": reason}))

    # --- during the session -------------------------------------------------------------------------

    def time_of(self, seconds):
        """Return when that part of the session is due on the perf_counter clock."""
        due = self._clock.time_of(seconds * self._rate)
        return time.perf_counter() if due is None else due

    def annotate(self, text):
        """Put a marker into the recording at the newest sample."""
        self._texts.append(text)

    def take_inputs(self):
        """Return [(kind, detail)] since the last call."""
        found = []
        while self._inputs:
            found.append(self._inputs.popleft())
        return found

    def chunks(self, stopped=lambda: False):
        """Deliver the stream from now on.

        Yields
        ------
        chunk : float32 array (picks, n)
            µV at 500 Hz; empty while nothing comes.
        """
        self._running.set()
        empty = np.zeros((len(self._rows), 0), np.float32)
        delivered = 0
        while not stopped():
            pieces = self._fetch()
            self._look_at_silence(delivered, bool(pieces))
            if not pieces:
                yield empty
            for kind, piece in pieces:
                if kind == "data":
                    chunk = self._resampler.push(piece[self._rows]).astype(np.float32)
                    delivered += chunk.shape[1]
                    yield chunk
                    continue
                first, count = piece
                self._inputs.append(
                    ("gap", {"seconds": round(count / self._rate, 4), "first": first, "count": count})
                )
                for begin in range(0, count, _PIECE):
                    lost = np.full((len(self._rows), min(_PIECE, count - begin)), np.nan)
                    chunk = self._resampler.push(lost).astype(np.float32)
                    delivered += chunk.shape[1]
                    yield chunk
                    if stopped():
                        return
            if self._died is not None and self._queue.empty():
                raise RuntimeError(f"{self.where}: {self._died}")

    def fingerprint(self):
        """Return what the stream is; a subclass says more."""
        return {"name": self.where, "rate": self._rate, "channels_of_stream": list(self.names)}

    def close(self):
        """End the thread, the recording and the connection."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(10)
        if self.recorder is not None:
            self.recorder.close()
        self.disconnect()

    # --- the session's side -------------------------------------------------------------------------

    def _fetch(self):
        """Return what has come, after a short wait when nothing has."""
        pieces = []
        try:
            pieces.append(self._queue.get(timeout=_POLL))
            while len(pieces) < 50:
                pieces.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return pieces

    def _look_at_silence(self, delivered, came):
        """Report when the stream stalls, is lost, comes back, lags, and is up to date again."""
        now, settings = time.perf_counter(), self.settings
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
        refusal = self.refusal
        if refusal is not None:
            if self._state != "refused":
                self._report("refused", reason=refusal)
        elif silent > settings.lost_seconds:
            if self._state not in ("lost", "refused"):
                self._report("lost", seconds=round(silent, 2))
        elif silent > settings.stall_seconds and self._state in ("current", "behind"):
            self._report("stalled", seconds=round(silent, 2))

    def _report(self, state, **more):
        self._state = "current" if state == "back" else state
        self._inputs.append(("stream", {"state": state, **more}))

    # --- the thread ---------------------------------------------------------------------------------

    def _acquire(self):
        following = time.perf_counter()
        try:
            while not self._ending.is_set():
                self._turn()
                following = max(following + _POLL, time.perf_counter() - 1)
                time.sleep(max(0.0, following - time.perf_counter()))
        except Exception as error:  # the session says it and ends in order; a thread must not die in silence
            logger.exception("acquisition failed")
            self._died = f"{type(error).__name__}: {' '.join(str(error).split())}"

    def _turn(self):
        if self._running.is_set() and not self._begun:
            self._begun, ahead = True, self._ahead()
            self._clock = StreamClock(self._stamped_rate, self.settings.gap_seconds, ahead)
            if ahead and not self._said_apart:  # set since the stream was opened
                self._inputs.append(("clock", {"state": "set", "reason": _apart(ahead)}))
        data, stamps = self.pull()
        now = time.perf_counter()
        if len(stamps):
            self._arrived, self.refusal = now, None
            microvolts = (np.asarray(data, np.float64).T * self._factors).astype(np.float32)
            if not self._begun:
                self._remember(microvolts, now - float(stamps[-1]))
                return
            self._store(self._clock.take(microvolts, np.asarray(stamps, float), now))
        elif now - self._arrived > 0.3:
            if self._begun:
                self._store(self._clock.flush())
            patience = self.settings.lost_seconds if self._begun else _FIRST_SECONDS
            if now - self._arrived > patience and now - self._asked > _ASK_SECONDS:
                self._asked = now
                self.refusal = self.lost() or self.refusal
        if self.recorder is not None and self._begun:
            while self._texts:
                self.recorder.marker(self._texts.popleft())
            self.recorder.tick()
            self._inputs.extend(self.recorder.take_inputs())

    def _store(self, pieces):
        """Record pieces, then give them to the session: what it acts on is on its way to the disk."""
        waiting = sum(p.shape[1] if k == "data" else p if k == "gap" else 0 for k, p in pieces)
        first = self._clock.count - waiting
        for kind, piece in pieces:
            if kind == "clock":
                self._inputs.append(
                    ("clock", {"state": "set", "reason": f"the stream's clock jumped by {piece:.3f} s"})
                )
            elif kind == "gap":
                if self.recorder is not None:
                    self.recorder.gap(piece)
                self._queue.put(("gap", (first, piece)))
                first += piece
            else:
                if self.recorder is not None:
                    self.recorder.append(piece)
                self._queue.put(("data", piece))
                first += piece.shape[1]

    def _remember(self, microvolts, delay):
        self._preview.append(microvolts)
        self._delays.append(delay)
        self._seen += microvolts.shape[1]
        most = round(self.settings.look_seconds * self._rate)
        while sum(p.shape[1] for p in self._preview) - self._preview[0].shape[1] >= most:
            self._preview.popleft()
            self._delays.popleft()


def _apart(ahead):
    side = "ahead of" if ahead > 0 else "behind"
    return (
        f"the stream's stamps are {abs(ahead):.1f} s {side} this machine's clock: "
        "its samples are taken to be of the moment at which they come"
    )
