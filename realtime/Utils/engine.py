"""The session: one loop on the sample clock.

Everything that is decided is a function of the sample index, of the data up to that sample and of the
settings; the wall clock paces the source and stamps the log. An event that is due at sample s happens
when exactly the samples before s are in the buffer, however the source cuts its chunks.
"""

import logging
import time
from collections import deque

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from realtime.Model.decoder import AFTER, BEFORE
from realtime.Utils.buffer import RingBuffer
from realtime.Utils.markers import CUE_BASE, DECODE_FAILED, DECODED_BASE, GROUP_BASE
from realtime.Utils.phase import MEASURED_AFTER, achieved_phase
from utils.gate import GateState, advance
from utils.stagers import WINDOW, StageEstimate
from utils.vocabulary import ITEMS, REM, STAGES, STREAM_RATE, UNKNOWN

logger = logging.getLogger(__name__)

_BUFFER = 2 * WINDOW


class Session:
    """Stage, gate, cue, decode.

    Parameters
    ----------
    source : ReplaySource
        Opened for the montage's picks.
    montage : Montage
    stager : object
        `update(window, end)`, see `utils.stagers`.
    decoders : dict
        "NREM" and "REM" to a `Decoder`; a key that is absent decodes nothing.
    schedule : CueSchedule | LockedCues | RecordedCues
    sink : FileSink | DeviceSink
    markers : LslMarkers | None
    log : EventLog
    settings : SessionSettings
    stop : StopRequest
    """

    def __init__(self, source, montage, stager, decoders, schedule, sink, markers, log, settings, stop):
        self.source, self.montage, self.stager, self.decoders = source, montage, stager, decoders
        self.schedule, self.sink, self.markers, self.log = schedule, sink, markers, log
        self.settings, self._stop = settings, stop
        self.gate = GateState()
        self._lock = schedule.lock
        self._recorded = settings.cues.mode == "recorded"
        self._buffer = RingBuffer(len(montage.picks), _BUFFER)
        self._step = round(settings.staging.every_seconds * STREAM_RATE)
        self._stage_due = WINDOW
        self._group_due = None
        self._unknown = None  # why the last staging could not tell
        self._coming = deque()  # (cue, stage) decided, onset ahead
        self._reading = deque()  # (cue, stage) sounded, response still arriving
        self._measuring = deque()  # cues sounded, the phase they met not measured yet

    @property
    def sample(self):
        """Samples of the stream taken in so far."""
        return self._buffer.end

    def notice(self, text, level=logging.INFO):
        """Say something on the screen and in the log."""
        logger.log(level, "%s", text)
        self.log.write(self.sample, "notice", level=logging.getLevelName(level).lower(), text=text)

    def run(self):
        """Take the source to its end, or until the session is to stop.

        Returns
        -------
        ending : str
            "end of recording", or how it was stopped (`StopRequest.ending`).
        """
        ending = "error"
        try:
            with (
                logging_redirect_tqdm(),
                tqdm(total=round(self.source.seconds, 1), unit="s", unit_scale=True, disable=None) as bar,
            ):
                for chunk in self.source.chunks(self._stop.requested):
                    self.feed(chunk)
                    bar.update(chunk.shape[1] / STREAM_RATE)
            ending = self._stop.ending if self._stop.requested() else "end of recording"
        finally:
            self._finish(ending)
        return ending

    def feed(self, block):
        """Take (channels, n) µV at the stream's rate, and do what falls due within it, or until a stop."""
        taken = 0
        while taken < block.shape[1] and not self._stop.requested():
            count = min(block.shape[1] - taken, self._next_due() - self.sample)
            part = block[:, taken : taken + count]
            self._buffer.write(part)
            if self._lock is not None:
                self._lock.feed(self.montage.locking(part))
            taken += count
            self._fire(self.sample)
            self.sink.advance(self.sample)

    def _next_due(self):
        due = [self._stage_due + self._step if self._hold_staging() else self._stage_due]
        due += [cue.onset for cue, _ in list(self._coming)[:1]]
        due += [cue.onset + AFTER for cue, _ in list(self._reading)[:1]]
        due += [cue.onset + MEASURED_AFTER for cue in list(self._measuring)[:1]]
        due += [d for d in (self.schedule.due, self._group_due) if d is not None]
        return max(min(due), self.sample + 1)

    def _fire(self, now):
        while self._reading and self._reading[0][0].onset + AFTER <= now:
            self._decode(*self._reading.popleft())
        if self._stage_due <= now and (not self._hold_staging() or self._stage_due + self._step <= now):
            self._stage(now)
        if self._group_due is not None and self._group_due <= now:
            self._mark_group(now)
        while self.schedule.due is not None and self.schedule.due <= now:
            self._decide(now)
        while self._measuring and self._measuring[0].onset + MEASURED_AFTER <= now:
            self._measure(self._measuring.popleft())
        while self._coming and self._coming[0][0].onset <= now:
            self._sound(*self._coming.popleft())

    def _hold_staging(self):
        """Between a cue and its decode nothing is staged (published), for one interval at most."""
        return any(self._decoder(stage) for _, stage in (*self._coming, *self._reading))

    def _decoder(self, stage):
        return self.decoders.get("REM" if stage == REM else "NREM")

    def _stage(self, now):
        while self._stage_due <= now:
            self._stage_due += self._step
        began = time.perf_counter()
        try:
            estimate = self.stager.update(self.montage.derive(self._buffer.read(now - WINDOW, now)), now)
        except Exception as error:  # a night goes on without this one estimate; the reason is on record
            estimate = StageEstimate(None, _reason(error))
            logger.debug("staging failed", exc_info=True)
        was, self.gate = self.gate, advance(self.gate, estimate.probabilities, self.settings.gate)
        gate = self.gate
        self.log.write(
            now,
            "stage",
            latency=time.perf_counter() - began,
            stage=stage_name(gate.stage),
            probabilities=_rounded(estimate.probabilities),
            smoothed=_rounded(gate.probabilities),
            consecutive={"N2": gate.n2, "N3": gate.n3, "R": gate.rem, "NREM": gate.nrem},
            open=gate.open,
            reason=estimate.reason,
        )
        if estimate.reason and estimate.reason != self._unknown:
            logger.warning("stage unknown: %s", estimate.reason)
        self._unknown = estimate.reason
        if gate.open != was.open:
            self._turn(now)

    def _turn(self, now):
        """Start or stop cueing."""
        is_open = self.gate.open
        self.log.write(now, "gate", open=is_open, stage=stage_name(self.gate.stage))
        seconds = self.source.begins + now / STREAM_RATE
        logger.info("%.0f s: gate %s", seconds, "open" if is_open else "closed")
        if self._recorded:
            return
        if is_open:
            self.schedule.start(now)
            self._mark_group(now)
        else:
            self.schedule.stop()
            self._group_due = None

    def _mark_group(self, now):
        group = self.schedule.group(now)
        self._group_due = self.schedule.next_switch(now)
        self._mark(now, GROUP_BASE + group)
        self.log.write(now, "group", GROUP_BASE + group, group=group)

    def _decide(self, now):
        """Take the cue that is due: send it on its way, or say why not."""
        cue, stage = self.schedule.take(now), self.gate.stage
        if cue is None:  # it waits for its phase
            return
        skipped = "the gate is closed" if self._recorded and not self.gate.open else cue.skipped
        if skipped:
            self.log.write(
                now,
                "cue_skipped",
                number=cue.number,
                item=ITEMS[cue.item],
                stage=stage_name(stage),
                reason=skipped,
            )
            return
        if self._sounds:
            self.sink.schedule(cue, self.source.time_of(cue.onset / STREAM_RATE))
        self._coming.append((cue, stage))

    @property
    def _sounds(self):
        return not self._recorded or self.settings.cues.sound_recorded

    def _sound(self, cue, stage):
        """The cue's onset has come."""
        self._mark(cue.onset, CUE_BASE + cue.item)
        self.log.write(
            cue.onset,
            "cue",
            CUE_BASE + cue.item,
            number=cue.number,
            item=ITEMS[cue.item],
            group=cue.group,
            stage=stage_name(stage),
            recorded=cue.recorded,
            sounded=self._sounds,
            locked=cue.locked,
        )
        self._measuring.append(cue)
        if self._decoder(stage) is not None:
            self._reading.append((cue, stage))

    def _decode(self, cue, stage):
        began = time.perf_counter()
        now = cue.onset + AFTER
        try:
            eeg = self._buffer.read(cue.onset - BEFORE, now)[list(self.montage.decoder)]
            probabilities = self._decoder(stage).predict(eeg)
        except Exception as error:  # a failed decode never stops a night; the reason is on record
            logger.debug("decoding failed", exc_info=True)
            self._failed(now, cue, _reason(error))
            return
        winner = int(probabilities.argmax())
        self._mark(now, DECODED_BASE + winner)
        self.log.write(
            now,
            "decode",
            DECODED_BASE + winner,
            latency=time.perf_counter() - began,
            number=cue.number,
            cued=ITEMS[cue.item],
            item=ITEMS[winner],
            stage=stage_name(stage),
            recorded=cue.recorded,
            probabilities=_rounded(probabilities),
        )

    def _measure(self, cue):
        """Log the phase of the slow oscillation that a cue met, now that it can be seen from both sides."""
        if cue.onset < MEASURED_AFTER:  # a recorded cue in the first seconds
            return
        around = self._buffer.read(cue.onset - MEASURED_AFTER, cue.onset + MEASURED_AFTER)
        degrees = achieved_phase(self.montage.locking(around), MEASURED_AFTER)
        if cue.locked and np.isfinite(degrees):
            self._lock.learn(degrees)
        self.log.write(
            cue.onset + MEASURED_AFTER,
            "cue_phase",
            number=cue.number,
            locked=cue.locked,
            degrees=round(degrees, 3) if np.isfinite(degrees) else None,
        )

    def _failed(self, now, cue, reason):
        self._mark(now, DECODE_FAILED)
        self.log.write(
            now, "decode_failed", DECODE_FAILED, number=cue.number, cued=ITEMS[cue.item], reason=reason
        )
        logger.warning("decode of cue %d failed: %s", cue.number, reason)

    def _mark(self, sample, code):
        if self.markers is not None:
            self.markers.send(code, self.source.time_of(sample / STREAM_RATE))

    def _finish(self, ending):
        """Bring every file to a state that can be read."""
        for cue, _ in self._reading:
            self._failed(self.sample, cue, "the session ended before +1.8 s")
        self._reading.clear()
        self.log.write(self.sample, "stop", reason=ending)
        self.sink.close(self.sample)
        if self.markers is not None:
            self.markers.close()
        self.log.close()


def stage_name(stage):
    """Return the name of a stage code; "unknown" for `UNKNOWN`."""
    return "unknown" if stage == UNKNOWN else STAGES[stage]


def _rounded(probabilities):
    return None if probabilities is None else [round(float(p), 6) for p in probabilities]


def _reason(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
