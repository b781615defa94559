"""Signal steps that offline preparation and the real-time loop share, sample for sample.

All signals are in µV, channels first unless a shape says otherwise.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import signal

from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import DataCard, Window
from sleep_interpreter.utils.core.errors import UserError

CLIP = 15.0
"""Robustly scaled EEG is clipped to this many interquartile ranges (published real-time rule)."""


def decimation_of(card: DataCard) -> Fraction:
    """Return how many samples of the 500 Hz stream there are to one of a card's trials; refuse a higher rate."""
    if card.rate_hz > STREAM_RATE:
        raise UserError(
            f"rate_hz: {card.rate_hz:g}: recordings are worked on at {STREAM_RATE:g} Hz, trials have no higher rate"
        )
    return Fraction(STREAM_RATE) / Fraction(card.rate_hz).limit_denominator(1000)


def stream_window(window: Window) -> tuple[int, int]:
    """Return a trial's first sample and the one after its last in the 500 Hz stream, counted from the onset."""
    first = round(window.begin * STREAM_RATE)
    return first, first + int(window.seconds * STREAM_RATE + 1e-6)


def decoding_window(
    eeg: ArrayLike, decimation: int | Fraction = 5, average: bool = True, scale: bool = True
) -> np.ndarray:
    """Turn raw EEG around a cue into a decoder trial (published real-time rule, section 6 of the SPEC).

    Common average reference (not without `average`, for EEG that has its reference already), zero-phase decimation,
    per-channel robust scaling and clipping (without `scale` µV stay). EEG (C, n), or B windows (B, C, n) at once, in
    µV (published: -0.2 to +1.8 s around the cue, 1000 samples at 500 Hz) becomes float32 ([B,] n / decimation, C).
    `decimation` is the ratio of the stream's rate to the trials' (`decimation_of`), 5 for the published 100 Hz; one
    that is no whole number is a polyphase filter's work. A sample that is not finite is a ValueError.
    """
    eeg = np.asarray(eeg, np.float64)
    if not np.isfinite(eeg).all():
        raise ValueError("the decoding window holds samples that are not finite")
    referenced = eeg - eeg.mean(axis=-2, keepdims=True) if average else eeg
    decimated = _decimated(referenced, Fraction(decimation))
    return np.swapaxes(scale_trial(decimated) if scale else decimated, -1, -2).astype(np.float32)


def _decimated(eeg: np.ndarray, ratio: Fraction) -> np.ndarray:
    if ratio == 1:
        return eeg
    if ratio.denominator == 1:
        return signal.sosfiltfilt(_antialias(ratio.numerator), eeg, axis=-1)[..., :: ratio.numerator]
    return signal.resample_poly(eeg, ratio.denominator, ratio.numerator, axis=-1, padtype="line")


@lru_cache
def _antialias(decimation: int) -> np.ndarray:
    """Return the filter of `scipy.signal.decimate` (Chebyshev, order 8), which designs it at every call."""
    return signal.cheby1(8, 0.05, 0.8 / decimation, output="sos")


def scale_trial(eeg: np.ndarray) -> np.ndarray:
    """Scale each channel of (..., C, n) by its median and interquartile range, and clip to ±15; a channel without
    spread (disconnected) becomes zeros. NaN, behind the end of a trial, stays and does not count."""
    percentile = np.nanpercentile if np.isnan(eeg).any() else np.percentile
    low, middle, high = percentile(eeg, [25, 50, 75], axis=-1, keepdims=True)
    spread = high - low
    spread[spread < 1e-9] = np.inf
    return np.clip((eeg - middle) / spread, -CLIP, CLIP)


def bandpass(data: np.ndarray, rate: float, low: float, high: float, order: int = 4) -> np.ndarray:
    """Butterworth band-pass, forward and backward, along the last axis; corners in Hz."""
    sos = signal.butter(order, [low, high], btype="bandpass", fs=rate, output="sos")
    return signal.sosfiltfilt(sos, data, axis=-1)


def zscore(data: np.ndarray) -> np.ndarray:
    """Standardise along the last axis; a flat channel becomes zeros."""
    deviation = data.std(axis=-1, keepdims=True)
    deviation = np.where(deviation < 1e-9, np.inf, deviation)
    return (data - data.mean(axis=-1, keepdims=True)) / deviation


def staging_window(derivations: ArrayLike, rate: float, corners: Sequence[tuple[float, float]]) -> np.ndarray:
    """Turn raw EEG, EOG and EMG derivations (3, n) into the input of the staging network, float32 (3, n).

    They are in µV, 30 s long, so n = 15000 at 500 Hz. Each is band-passed forward and backward between its `corners`
    (low, high) in Hz, the published ones being unknown, and z-scored over the window.
    """
    filtered = [bandpass(x, rate, *c) for x, c in zip(np.asarray(derivations, float), corners, strict=True)]
    return zscore(np.stack(filtered)).astype(np.float32)
