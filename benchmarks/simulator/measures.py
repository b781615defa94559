"""Measures of a sleep recording, simulated or real: spectra by stage, their 1/f slope, muscle tone, averages.

All functions take signals in µV, (channels, samples), and stages as one of `STAGES_5` an epoch of 30 s.
"""

from dataclasses import dataclass

import numpy as np

from sleep_interpreter.utils.core.constants import STAGING_SECONDS

STAGES_5 = ("W", "N1", "N2", "N3", "R")
"""Stages that measures are given for."""
TOP_HZ = 48.0
"""Spectra are kept up to here, short of the 50 Hz line."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A stretch of sleep to measure.

    Attributes
    ----------
    name : str
    kind : str
        "simulated" or "real".
    data : float array (C, n)
        µV.
    names : tuple of str (C,)
    rate : float
        Hz.
    stages : str array (n_epochs,) | None
        One of `STAGES_5` an epoch of 30 s; None where nobody scored it.
    """

    name: str
    kind: str
    data: np.ndarray
    names: tuple
    rate: float
    stages: np.ndarray | None = None

    def channel(self, name):
        """Return one channel's samples, (n,)."""
        return self.data[self.names.index(name)]


def epoch_spectra(data, rate, window_s):
    """Return the power spectrum of every epoch of 30 s.

    Welch's method with Hann windows that overlap by half; less than an epoch at the end is left out.

    Parameters
    ----------
    data : array (C, n)
        µV.
    rate : float
        Hz.
    window_s : float
        Length of the windows; its inverse is the resolution in Hz.

    Returns
    -------
    frequency : array (F,)
        Hz, from the resolution to `TOP_HZ`.
    power : float32 array (n_epochs, C, F)
        µV²/Hz.
    """
    from scipy.signal import welch

    length = round(STAGING_SECONDS * rate)
    n_epochs = data.shape[1] // length
    epochs = data[:, : n_epochs * length].reshape(len(data), n_epochs, length)
    frequency, power = welch(epochs, rate, nperseg=round(window_s * rate), axis=-1)
    keep = (frequency > 0) & (frequency <= TOP_HZ)
    return frequency[keep], np.moveaxis(power[..., keep], 0, 1).astype(np.float32)


def by_stage(power, stages):
    """Return the median spectrum of the epochs of each stage that occurs.

    The median over epochs leaves out movements and arousals without a threshold for them.

    Parameters
    ----------
    power : array (n_epochs, C, F)
    stages : str array (n_epochs,)

    Returns
    -------
    spectra : dict of str to array (C, F)
        In the order of `STAGES_5`.
    epochs : dict of str to int
    """
    stages = np.asarray(stages)[: len(power)]
    found = [stage for stage in STAGES_5 if np.any(stages == stage)]
    spectra = {stage: np.median(power[stages == stage], axis=0) for stage in found}
    return spectra, {stage: int(np.sum(stages == stage)) for stage in found}


def aperiodic(frequency, power, fit_hz, skip_hz=(), points=60):
    """Fit offset - exponent * log10(f) to log10(power) by Huber's robust regression.

    The spectrum is first brought to `points` frequencies spaced evenly on the logarithmic axis, or the high
    frequencies, of which there are more, would decide alone. Rhythms are peaks on the line: `skip_hz` leaves
    their bands out, and Huber's loss gives what peaks elsewhere less weight.

    Parameters
    ----------
    frequency, power : array (F,)
    fit_hz : (float, float)
        Range of the fit.
    skip_hz : sequence of (float, float)
        Bands inside it that are left out.

    Returns
    -------
    fit : dict
        exponent (positive: power falls), offset (log10 µV²/Hz at 1 Hz), r2 (of the points that were fitted).
    """
    from sklearn.linear_model import HuberRegressor

    grid = np.geomspace(*fit_hz, points)
    for low, high in skip_hz:
        grid = grid[(grid < low) | (grid > high)]
    x = np.log10(grid)
    y = np.interp(x, np.log10(frequency), np.log10(power))
    model = HuberRegressor(epsilon=1.35, alpha=0.0, max_iter=1000).fit(x[:, None], y)
    rest = y - model.predict(x[:, None])
    return {
        "exponent": float(-model.coef_[0]),
        "offset": float(model.intercept_),
        "r2": float(1 - np.sum(rest**2) / np.sum((y - y.mean()) ** 2)),
    }


def band(frequency, power, band_hz):
    """Return the power in a band, µV², over the last axis of `power` (..., F)."""
    low, high = band_hz
    inside = (frequency >= low) & (frequency <= high)
    return power[..., inside].sum(axis=-1) * (frequency[1] - frequency[0])


def tone(frequency, power, stages, band_hz):
    """Return the median muscle tone of each stage, µV RMS in a band.

    Parameters
    ----------
    frequency : array (F,)
    power : array (n_epochs, F)
        Spectra of a chin EMG derivation.
    stages : str array (n_epochs,)
    """
    rms = np.sqrt(band(frequency, power, band_hz))
    stages = np.asarray(stages)[: len(rms)]
    return {s: float(np.median(rms[stages == s])) for s in STAGES_5 if np.any(stages == s)}


class Averages:
    """Averages of signals around events, by group, collected a chunk at a time.

    Parameters
    ----------
    rate : float
        Hz.
    window_s : (float, float)
        From and to, relative to the event.
    limit_uv : float
        Windows whose median peak-to-peak value over channels is larger are left out (movements).
    bad : (float, float)
        Channels whose peak-to-peak value relative to that median is not in between are left out.
    """

    def __init__(self, rate, window_s, limit_uv, bad=(0.1, 4.0)):
        self.rate, self.limit_uv, self.bad = rate, limit_uv, bad
        self.before, self.after = (round(abs(edge) * rate) for edge in window_s)
        self._sums, self._kept, self.counts, self.left_out = {}, {}, {}, {}

    @property
    def seconds(self):
        """Time axis of the averages, (n,)."""
        return np.arange(-self.before, self.after) / self.rate

    def add(self, data, samples, groups):
        """Add windows.

        Parameters
        ----------
        data : array (C, n)
            µV; the mean before the event is subtracted from every window.
        samples : int array (k,)
            Places of the events in `data`; those whose window does not lie inside are ignored.
        groups : sequence of str (k,)
        """
        for sample, group in zip(samples, groups, strict=True):
            start, stop = sample - self.before, sample + self.after
            if start < 0 or stop > data.shape[1]:
                continue
            window = data[:, start:stop].astype(float)
            size = np.ptp(window, axis=1)
            typical = np.median(size)
            if typical > self.limit_uv:
                self.left_out[group] = self.left_out.get(group, 0) + 1
                continue
            good = (size >= self.bad[0] * typical) & (size <= self.bad[1] * typical)
            window -= window[:, : self.before].mean(axis=1, keepdims=True)
            self._sums[group] = self._sums.get(group, 0) + good[:, None] * window
            self._kept[group] = self._kept.get(group, 0) + good
            self.counts[group] = self.counts.get(group, 0) + 1

    def mean(self, group):
        """Return the average of one group, (C, n), µV."""
        return self._sums[group] / np.maximum(self._kept[group], 1)[:, None]


def extremum(average, seconds, window_s, sign):
    """Return latency (s) and value (µV) of the largest peak of one channel in a window.

    Parameters
    ----------
    average : array (n,)
    seconds : array (n,)
    window_s : (float, float)
    sign : int
        1 for a positive peak, -1 for a negative one.
    """
    inside = np.flatnonzero((seconds >= window_s[0]) & (seconds <= window_s[1]))
    place = inside[np.argmax(sign * average[inside])]
    return float(seconds[place]), float(average[place])
