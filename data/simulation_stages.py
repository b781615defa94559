"""Simulated polysomnography of one sleep stage: background, slow waves, spindles, eyes and chin.

A first, simple model: stationary within a stage, events at random times, no cycles, no arousals. It is
meant to look like a stage to a classifier and to be as noisy as sleep to a decoder, no more.
"""

import numpy as np
from scipy import fft, signal

from utils.vocabulary import STREAM_RATE

RATE = STREAM_RATE


def coloured_noise(rng, count, n, slope, knee=1.0, highest=100.0, lowest=0.3):
    """Return noise with a power spectrum of 1 / (knee² + f²)^(slope / 2), standard deviation 1.

    Parameters
    ----------
    rng : numpy.random.Generator
    count, n : int
        Number of independent signals and of samples at 500 Hz.
    slope : float
        Exponent of the fall above the knee.
    knee, highest, lowest : float
        In Hz; nothing below `lowest` and above `highest`.

    Returns
    -------
    noise : float32 array (count, n)
    """
    length = fft.next_fast_len(n + int(4 * RATE), real=True)  # the end that would wrap round is cut off
    f = fft.rfftfreq(length, 1 / RATE)
    used = np.flatnonzero((f >= lowest) & (f <= highest))
    power = (knee**2 + f[used] ** 2) ** (-slope / 2)
    amplitude = np.sqrt(power / power.sum()).astype(np.float32) * (length / 2)
    spectrum = np.zeros((count, len(f)), np.complex64)
    parts = rng.standard_normal((2, count, len(used)), np.float32)
    spectrum[:, used] = amplitude * (parts[0] + 1j * parts[1])
    return fft.irfft(spectrum, length, axis=1)[:, :n]


def rhythm(rng, n, low, high, waxing=0.5):
    """Return a waxing and waning rhythm between two frequencies in Hz, standard deviation near 1, (n,)."""
    sos = signal.butter(2, [low, high], btype="bandpass", fs=RATE, output="sos")
    carrier = signal.sosfiltfilt(sos, rng.standard_normal(n))
    envelope = np.exp(waxing * coloured_noise(rng, 1, n, 2.0, knee=0.2, highest=1.0, lowest=0.02)[0])
    product = carrier * envelope
    return product / product.std()


def slow_wave(rng, amplitude):
    """Return one slow oscillation: a sharp trough, then a broader up-state.

    Parameters
    ----------
    rng : numpy.random.Generator
    amplitude : float
        From trough to peak in µV.

    Returns
    -------
    wave : array (n,)
        About 0.8 to 1.6 s.
    """
    down, up = rng.uniform(0.35, 0.6), rng.uniform(0.45, 0.8)
    trough = -np.sin(np.pi * np.arange(0, down, 1 / RATE) / down)
    peak = np.sin(np.pi * np.arange(0, up, 1 / RATE) / up)
    wave = np.concatenate([0.58 * trough, 0.42 * peak]) * amplitude
    smooth = signal.windows.hann(int(0.08 * RATE))
    return np.convolve(wave, smooth / smooth.sum())


def spindle(rng, amplitude):
    """Return one spindle of 0.5 to 2 s at 11 to 16 Hz with `amplitude` µV from peak to peak, (n,)."""
    seconds = np.clip(rng.lognormal(np.log(0.9), 0.3), 0.5, 2.0)
    frequency = np.clip(rng.normal(13.3, 0.8), 11.0, 16.0)
    t = np.arange(0, seconds, 1 / RATE)
    chirp = frequency * t - 0.25 * t**2  # spindles slow down a little
    envelope = signal.windows.tukey(len(t), 0.8)
    return 0.5 * amplitude * envelope * np.sin(2 * np.pi * (chirp + rng.uniform()))


def blink(rng, amplitude):
    """Return one blink of about 0.3 s, `amplitude` µV high, (n,)."""
    return amplitude * signal.windows.hann(int(rng.uniform(0.25, 0.4) * RATE))


def saccade(rng, amplitude):
    """Return one rapid eye movement there and back, `amplitude` µV high, (n,)."""
    hold = rng.uniform(0.2, 0.7)
    n_rise = int(rng.uniform(0.03, 0.07) * RATE)
    rise = 0.5 - 0.5 * np.cos(np.pi * np.arange(n_rise) / n_rise)
    plateau = np.exp(-np.arange(int(hold * RATE)) / (1.5 * RATE))
    back = plateau[-1] * rise[::-1]
    return rng.choice([-1.0, 1.0]) * amplitude * np.concatenate([rise, plateau, back])


def event_times(rng, n, per_minute, apart):
    """Return the samples at which events start: gaps of at least `apart` s, `per_minute` on average."""
    if per_minute == 0:
        return []
    mean = max(60 / per_minute - apart, 0.01)
    times, now = [], rng.exponential(mean)
    while now * RATE < n:
        times.append(int(now * RATE))
        now += apart + rng.exponential(mean)
    return times


def add_events(track, rng, per_minute, apart, make, amplitude):
    """Add random events to `track` (n,); `make(rng, µV)` returns one, `amplitude` is a (low, high) pair."""
    for start in event_times(rng, len(track), per_minute, apart):
        wave = make(rng, rng.uniform(*amplitude))
        stop = min(start + len(wave), len(track))
        track[start:stop] += wave[: stop - start]
    return track


def stage_eeg(rng, head, stage, n):
    """Simulate the scalp EEG of one stage without cues.

    Parameters
    ----------
    rng : numpy.random.Generator
    head : data.simulation_head.Head
    stage : data.simulation_settings.Stage
    n : int
        Samples at 500 Hz.

    Returns
    -------
    eeg : float32 array (57, n)
        In µV, in the order of `data.simulation_head.SCALP`.
    """
    sources = coloured_noise(rng, head.background.shape[1], n, stage.slope, stage.knee_hz)
    eeg = (stage.background_uv * head.background).astype(np.float32) @ sources
    eeg += stage.sensor_uv * rng.standard_normal(eeg.shape, np.float32)
    events = (
        (head.slow, stage.slow_waves_per_min, 0.9, slow_wave, stage.slow_wave_uv),
        (head.vertex, stage.k_complexes_per_min, 4.0, slow_wave, stage.k_complex_uv),
        (head.spindle, stage.spindles_per_min, 2.5, spindle, stage.spindle_uv),
    )
    gains = [gain for gain, *_ in events] + [head.alpha, head.theta]
    tracks = [add_events(np.zeros(n), rng, *event) for _, *event in events]
    tracks.append(stage.alpha_uv * rhythm(rng, n, 8.5, 11.5) if stage.alpha_uv else np.zeros(n))
    tracks.append(stage.theta_uv * rhythm(rng, n, 4.0, 7.5) if stage.theta_uv else np.zeros(n))
    eeg += np.stack(gains, axis=1).astype(np.float32) @ np.stack(tracks).astype(np.float32)
    return eeg


def stage_polysomnogram(rng, head, stage, n):
    """Simulate EEG, EOG and EMG of one stage without cues.

    Returns
    -------
    signals : float32 array (61, n)
        In µV: the 57 of `data.simulation_head.SCALP`, EOG1, EOG2, EMG1, EMG2.
    """
    eeg = stage_eeg(rng, head, stage, n)
    lids = add_events(np.zeros(n), rng, stage.blinks_per_min, 0.6, blink, (80.0, 200.0))
    gaze = add_events(np.zeros(n), rng, stage.saccades_per_min, 0.5, saccade, (50.0, 180.0))
    eeg += np.outer(0.5 * head.eyes, lids).astype(np.float32)
    frontal = eeg[:3].mean(axis=0)  # the brain's slow waves reach the eye electrodes too
    own = 0.3 * stage.background_uv * coloured_noise(rng, 2, n, 2.0)
    eyes = np.stack([0.6 * frontal + 0.4 * lids + gaze, 0.6 * frontal + 0.4 * lids - gaze]) + own
    chin = coloured_noise(rng, 2, n, 0.0, highest=200.0, lowest=10.0) * stage.emg_uv
    chin += coloured_noise(rng, 2, n, 2.0) * stage.emg_drift_uv
    return np.concatenate([eeg, eyes, chin]).astype(np.float32)


def join(segments, overlap):
    """Join segments (C, n_i) that overlap by `overlap` samples; the power stays level across the seam."""
    fade = np.sin(0.5 * np.pi * (np.arange(overlap) + 0.5) / overlap)
    total = sum(segment.shape[1] for segment in segments) - overlap * (len(segments) - 1)
    joined = np.zeros((len(segments[0]), total), np.float32)
    start = 0
    for number, segment in enumerate(segments):
        weight = np.ones(segment.shape[1], np.float32)
        if number > 0:
            weight[:overlap] = fade
        if number < len(segments) - 1:
            weight[-overlap:] = fade[::-1]
        joined[:, start : start + segment.shape[1]] += segment * weight
        start += segment.shape[1] - overlap
    return joined
