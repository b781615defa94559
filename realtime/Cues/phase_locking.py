"""Locks cues to the slow oscillation: says, from the past alone, when it will reach a phase.

0 degrees is the peak of the up-state (scalp EEG positive), -90 the rising zero crossing before it, 180 the
trough of the down-state. Two ways to predict it, both causal and both on a fixed grid of the sample clock, so
that nothing depends on how the stream is cut:

- threshold_delay: a trough below a threshold, then a delay (Ngo et al. 2013, Neuron 78:545), which follows
  the times from trough to peak measured so far in this night;
- echt: phase of the newest sample by the endpoint-corrected Hilbert transform (Schreglmann et al. 2021,
  Nature Communications 12:363), and the time that the oscillation takes from there to the target.
"""

from collections import deque
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import signal

from sleep_interpreter.realtime.Parameters.settings import LockSettings
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.signal.phase import phase_before, traces_before

TICK = 10
"""Samples between two predictions: 20 ms."""
MEASURED_AFTER = 1500
"""Samples after an onset that are needed to measure the phase it met: 3 s."""
MEASURED_BEFORE = 5500
"""Samples before an onset that are read for the phases that it and random times before it met: 11 s."""

_KEPT = 2500
"""Samples kept: 5 s, the span over which the threshold adapts."""
_SLOW = (0.25, 4.0)
_MEASURE = (0.3, 2.0)
NARROW_HZ = (0.5, 1.25)
"""A second band to measure phases in: `_MEASURE` is also the one that echt predicts in."""
_TO_PEAK = (0.2, 1.2)
"""Times from trough to peak in s outside which a pair is no slow oscillation."""
_SEEN_AFTER = 1000
"""Samples after a trough when its peak is looked for: 2 s, so that the filter sees enough behind it."""
_RANDOM, _CYCLE = 4, 625  # random times before an onset; samples of a cycle of 0.8 Hz
_TROUGHS = 20
_LEARNED = 20


class SlowWave:
    """The newest 5 s of one channel, band-passed by a filter that runs on through the session."""

    def __init__(self) -> None:
        self._sos = signal.butter(2, _SLOW, "bandpass", fs=STREAM_RATE, output="sos")
        self._state: np.ndarray | None = None
        self.values = np.zeros(_KEPT)
        self.raw = np.zeros(_KEPT)

    def push_samples(self, block: np.ndarray) -> None:
        """Add (n,) samples in µV."""
        block = np.asarray(block, float)
        if self._state is None:  # as if the first value had always been there: no jump at the beginning
            self._state = signal.sosfilt_zi(self._sos) * block[0]
        filtered, self._state = signal.sosfilt(self._sos, block, zi=self._state)
        self.values = np.concatenate([self.values, filtered])[-_KEPT:]
        self.raw = np.concatenate([self.raw, block])[-_KEPT:]


class ThresholdDelay:
    """Trough below a threshold, then a delay."""

    def __init__(self, settings: LockSettings) -> None:
        self._threshold, self._adaptive = settings.threshold_uv, settings.adaptive
        self._target = settings.target_degrees
        self._first = settings.trough_to_peak_s
        self._measured: deque[float] = deque(maxlen=_TROUGHS)
        self._lowest: tuple[float, int] | None = None  # value and sample of the dip that the signal is in
        self._trough: int | None = None  # sample of the last trough, until its peak is found

    @property
    def to_peak(self) -> float:
        """Seconds from trough to peak: the running median of this night, at first the setting's."""
        return float(np.median(self._measured)) if len(self._measured) >= 5 else self._first

    def predict(self, wave: SlowWave, now: int, early: float = 0.0) -> int | None:
        """Return the sample at which the target comes, or None.

        `now` is the index after the newest sample; `early` the degrees by which cues of this night came before the
        target.
        """
        newest = wave.values[-TICK:]
        self._find_peak(wave, now)
        place = int(newest.argmin())
        adaptive = 0.7 * float(wave.values[:-TICK].min()) if self._adaptive else self._threshold
        if newest[place] < (min(self._threshold, adaptive) if self._lowest is None else self._lowest[0]):
            self._lowest = (newest[place], now - TICK + place)
            return None
        if self._lowest is None:
            return None
        value, trough = self._lowest
        if newest[-1] < 0.9 * value:  # still at the bottom
            return None
        self._lowest, self._trough = None, trough
        share = 1 + (self._target + early) / 180  # of the time from the trough to the next peak
        return trough + round(share * self.to_peak * STREAM_RATE)

    def _find_peak(self, wave: SlowWave, now: int) -> None:
        """Some time after a trough, note when its peak really came, seen from both sides."""
        if self._trough is None or now - self._trough < _SEEN_AFTER:
            return
        first, last = (round(s * STREAM_RATE) for s in _TO_PEAK)
        after = _from_both_sides(wave.raw)[_KEPT - (now - self._trough) :][first:last]
        place = int(after.argmax())
        if after[place] > 0 and 0 < place < len(after) - 1:
            self._measured.append((first + place) / STREAM_RATE)
        self._trough = None


class EndpointHilbert:
    """Phase of the newest sample, then the time to the target at the oscillation's pace, `lead` samples at least."""

    def __init__(self, settings: LockSettings, lead: int) -> None:
        self._target, self._lead = np.radians(settings.target_degrees), lead
        self._threshold, self._band = settings.threshold_uv, settings.echt_band_hz
        self._phases: deque[float] = deque(maxlen=10)  # of the last ticks

    def predict(self, wave: SlowWave, now: int, early: float = 0.0) -> int | None:
        """Return the sample at which the target comes, or None; as in `ThresholdDelay.predict`."""
        phase = newest_phase(wave.raw[-1000:], self._band)
        self._phases.append(phase)
        if len(self._phases) < 10 or wave.values[-600:].min() > self._threshold:
            return None
        turned = np.unwrap(self._phases)
        pace = (turned[-1] - turned[0]) / ((len(turned) - 1) * TICK)  # radians a sample
        pace = np.clip(pace, *(2 * np.pi * np.array(self._band) / STREAM_RATE))
        own = _filter_phase(pace * STREAM_RATE / (2 * np.pi), self._band)
        ahead = ((self._target + np.radians(early) - phase + own) % (2 * np.pi)) / pace
        if not self._lead < ahead <= self._lead + 2 * TICK:
            return None
        return now - 1 + round(ahead)


def newest_phase(trace: np.ndarray, band: Sequence[float]) -> float:
    """Return the phase in radians, 0 at a peak, of the last sample of 2 s of EEG (1000,), µV at 500 Hz.

    By the endpoint-corrected Hilbert transform; `band` has the corners in Hz of the second-order Butterworth filter
    whose response weights the spectrum.
    """
    slow = np.asarray(trace, float).reshape(-1, 5).mean(axis=1)  # 100 Hz
    spectrum = np.fft.fft(slow - slow.mean()) * _response(len(slow), tuple(band))
    # The mean of five samples stands 2 samples before the newest: 0.1 % of a slow oscillation's period.
    return float(np.angle(np.fft.ifft(spectrum)[-1]))


def _filter_phase(frequency: float, band: Sequence[float]) -> float:
    """Return what the weighting filter adds to the phase of an oscillation of `frequency` Hz, in radians."""
    b, a = signal.butter(2, band, "bandpass", fs=100.0)
    return float(np.angle(signal.freqz(b, a, worN=[frequency], fs=100.0)[1][0]))


@cache
def _response(n: int, band: tuple[float, ...]) -> np.ndarray:
    """Return the weights of the spectrum's bins (n,): twice the filter's response, 0 for negative ones."""
    frequency = np.fft.fftfreq(n, 0.01)
    b, a = signal.butter(2, band, "bandpass", fs=100.0)
    _, response = signal.freqz(b, a, worN=np.abs(frequency), fs=100.0)
    return np.where(frequency > 0, 2 * response, 0)


def achieved_phase(trace: np.ndarray, at: int, band: tuple[float, float] = _MEASURE) -> float:
    """Return the phase in degrees, (-180, 180], 0 at the up-state's peak, that the onset at index `at` met.

    It is measured with the samples after it, zero-phase in a `band` in Hz and Hilbert, in a trace (n,) of µV at 500 Hz
    with at least 3 s to both sides of the onset. Where a sound was played, the response to it is in the phase.
    """
    return float(np.degrees(np.angle(signal.hilbert(_from_both_sides(trace, band))[at])))


def phases_met(trace: np.ndarray, at: int, random: np.random.Generator, way: str) -> list[float | None]:
    """Return the phases in degrees that the onset at index `at` of a trace (T,), µV at 500 Hz, and random times met.

    The random times lie before the onset, one in each of `_RANDOM` cycles of 1.25 s; `way` is one of `PHASE_FROM`. None
    where too few samples, or samples that are not finite, stand around a time.
    """
    back = (random.random(_RANDOM) + np.arange(_RANDOM)) * _CYCLE
    times = [at, *(at - back.astype(int)).tolist()]
    if way == "precue":
        degrees = np.degrees(phase_before(traces_before(trace, np.array(times)))[0])
    else:
        around = [trace[max(0, t - MEASURED_AFTER) : t + MEASURED_AFTER] for t in times]
        whole = [len(part) == 2 * MEASURED_AFTER and bool(np.isfinite(part).all()) for part in around]
        degrees = [achieved_phase(p, MEASURED_AFTER) if w else np.nan for p, w in zip(around, whole, strict=True)]
    return [round(float(d), 3) if np.isfinite(d) else None for d in degrees]


def _from_both_sides(trace: np.ndarray, band: tuple[float, float] = _MEASURE) -> np.ndarray:
    sos = signal.butter(2, band, "bandpass", fs=STREAM_RATE, output="sos")
    return signal.sosfiltfilt(sos, np.asarray(trace, float) - np.mean(trace))


class PhaseLock:
    """Waits for the phase that a cue is to meet, by a method other than "none".

    `lead`: samples between a decision and the earliest onset; `origin`: sample of the session at which the stream
    begins.
    """

    def __init__(self, settings: LockSettings, lead: int, origin: int = 0) -> None:
        self.settings, self.lead = settings, lead
        self._wave = SlowWave()
        delay = settings.method == "threshold_delay"
        self._predictor = ThresholdDelay(settings) if delay else EndpointHilbert(settings, lead)
        self._pending = np.zeros(0)
        self._onset: int | None = None
        self._errors: deque[complex] = deque(maxlen=_LEARNED)
        self.now = origin

    @property
    def early_degrees(self) -> float:
        """Degrees by which the last cues came before the target; 0 until five were measured."""
        if not self.settings.learn or len(self._errors) < 5:
            return 0.0
        return -float(np.degrees(np.angle(np.mean(self._errors))))

    def learn(self, degrees: float) -> None:
        """Take the phase in degrees that a locked cue met, as seen from both sides."""
        # What is met has the correction of its time in it: errors are those without it.
        error = np.radians(degrees - self.settings.target_degrees - self.early_degrees)
        self._errors.append(np.exp(1j * error))

    def push_samples(self, block: np.ndarray) -> None:
        """Add (n,) µV of the locking channel; whole ticks are used, the rest waits."""
        self._pending = np.concatenate([self._pending, block])
        while len(self._pending) >= TICK:
            part, self._pending = self._pending[:TICK], self._pending[TICK:]
            if not np.isfinite(part).all():
                part = np.zeros(TICK)
            self._wave.push_samples(part)
            self.now += TICK
            found = self._predictor.predict(self._wave, self.now, self.early_degrees)
            if found is not None:
                self._onset = found
            if self._onset is not None and self._onset < self.now + self.lead:
                self._onset = None  # too late for it

    def onset(self, earliest: int) -> int | None:
        """Return the sample at which the target is expected, at or after `earliest`, or None."""
        return self._onset if self._onset is not None and self._onset >= earliest else None
