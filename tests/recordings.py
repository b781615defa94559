"""Small raw recordings with known content, written as a lab would: noise with planted events."""

import warnings

import mne
import numpy as np
from scipy import signal

from sleep_interpreter.utils.core.data_card import published

EEG_MONTAGE = published().channels
ITEMS = published().item_names
RATE = 500.0
EXTRAS = ("M1", "M2", "EOG1", "EOG2", "EMG1", "EMG2")
STAGES = ["W"] + ["N2"] * 2 + ["N3"] + ["R"]
"""Two and a half minutes of stages, 30 s each."""


def background(seconds, names, seed, rate=RATE, microvolts=12.0):
    """Return spatially smooth pink noise (channels, n) in V."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    spectrum = np.fft.rfftfreq(n, 1 / rate)
    shape = 1 / np.maximum(spectrum, 0.5)
    sources = np.fft.irfft(np.fft.rfft(rng.standard_normal((20, n))) * shape, n)
    sources /= sources.std(axis=1, keepdims=True)
    positions = place(names)
    centres = rng.standard_normal((20, 3))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    mixing = np.exp(3 * (positions @ centres.T - 1))
    data = mixing @ sources
    data = microvolts * data / data.std(axis=1, keepdims=True)
    return (data + 1.0 * rng.standard_normal(data.shape)) * 1e-6


def place(names):
    """Return unit vectors of channels; those without a position lie below."""
    with warnings.catch_warnings(), mne.use_log_level("error"):
        warnings.simplefilter("ignore", FutureWarning)  # MNE 1.13 renames standard_1005
        montage = mne.channels.make_standard_montage("standard_1005").get_positions()["ch_pos"]
    points = np.array([montage.get(name, [0, 0, -0.1]) for name in names])
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def wave(amplitude=120.0, first=0.35, down=0.45, second=0.6):
    """Return one slow oscillation in V at 500 Hz, and the times of its table in s."""
    t = np.arange(int((first + down + second) * RATE)) / RATE
    data = np.zeros(len(t))
    for start, length, height in ((0, first, 0.35), (first, down, -0.58), (first + down, second, 0.42)):
        inside = (t >= start) & (t < start + length)
        data[inside] = height * np.sin(np.pi * (t[inside] - start) / length)
    marks = {
        "start_s": 0.0, "trough_start_s": first, "trough_s": first + down / 2, "up_start_s": first + down,
        "peak_s": first + down + second / 2, "end_s": first + down + second,
    }  # fmt: skip
    return amplitude * 1e-6 * data, marks


def night(seed=0, stages=STAGES, names=EEG_MONTAGE, cue_every=2.0, planted=True, item_strength=0.0, words=ITEMS):
    """Return an MNE recording of a short night with cues, stages, slow oscillations, and the true troughs."""
    rng = np.random.default_rng([1, seed])
    names = [*names, *EXTRAS]
    seconds = 30.0 * len(stages)
    data = background(seconds, names, seed)
    frontal = np.exp(3 * (place(names) @ place(["Fz"])[0] - 1))
    frontal[[names.index(m) for m in EXTRAS]] = 0
    shape, marks = wave()
    troughs, at = [], 31.0
    while planted and at < seconds - 3:
        if stages[int(at // 30)] in ("N2", "N3"):
            start = int(at * RATE)
            data[:, start : start + len(shape)] += np.outer(frontal, shape)
            troughs.append(at + marks["trough_s"])
        at += rng.uniform(3.0, 4.5)
    onsets = np.arange(31.0, seconds - 3, cue_every)
    items = np.resize(np.arange(len(words)), len(onsets))
    patterns = np.random.default_rng(5).standard_normal((len(words), len(names)))
    for onset, item in zip(onsets, items, strict=True):
        start = int((onset + 0.5) * RATE)
        bump = signal.windows.hann(int(0.5 * RATE)) * item_strength * 1e-6
        data[:, start : start + len(bump)] += np.outer(patterns[item], bump)
    raw = _raw(data, names)
    raw.set_annotations(
        mne.Annotations(
            [*onsets, *(30.0 * np.arange(len(stages)))],
            [0.0] * len(onsets) + [30.0] * len(stages),
            [*(f"cue/{words[i]}" for i in items), *(f"stage/{s}" for s in stages)],
        )
    )
    return raw, np.array(troughs)


def wake(seed=0, repeats=1, names=EEG_MONTAGE, blinks=True, words=ITEMS):
    """Return an MNE recording of pictures and sounds, with blinks."""
    rng = np.random.default_rng([2, seed])
    names = [*names, *EXTRAS]
    onsets = 2.0 + 1.3 * np.arange(2 * len(words) * repeats)
    data = background(onsets[-1] + 3, names, seed + 100)
    frontal = np.exp(6 * (place(names) @ place(["Fpz"])[0] - 1))
    if blinks:
        bump = 150e-6 * signal.windows.hann(int(0.3 * RATE))
        for at in np.arange(1.0, onsets[-1], 3.1):
            start = int((at + rng.uniform(0, 1)) * RATE)
            data[:, start : start + len(bump)] += np.outer(frontal, bump)
    raw = _raw(data, names)
    kinds = ["image"] * (len(words) * repeats) + ["audio"] * (len(words) * repeats)
    items = np.concatenate([rng.permutation(np.tile(np.arange(len(words)), repeats)) for _ in range(2)])
    texts = [f"{kind}/{words[i]}" for kind, i in zip(kinds, items, strict=True)]
    raw.set_annotations(mne.Annotations(onsets, np.zeros(len(onsets)), texts))
    return raw


def _raw(data, names):
    types = ["eog" if n.startswith("EOG") else "emg" if n.startswith("EMG") else "eeg" for n in names]
    return mne.io.RawArray(data, mne.create_info(names, RATE, types), verbose="error")


def write(raw, path):
    """Write a recording as FIF or BrainVision, by its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".fif":
            raw.save(path, overwrite=True, verbose="error")
        else:
            mne.export.export_raw(path, raw, overwrite=True, verbose="error")
    return path
