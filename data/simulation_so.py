"""Simulated trials by phase of the slow oscillation: in every trial there is one, where its group says.

The oscillation is an up-state, a down-state and a second up-state; scalp EEG goes up in up-states and deep
down in the down-state. How much of the memory signal follows a cue in each group is a setting: a planted
difference to try the analysis with, no finding.
"""

import numpy as np
from scipy import signal

from data.simulation_trials import BEFORE_CUE, RAW_PER_SAMPLE, backgrounds, nrem_stages, trial
from data.so_groups import SO_GROUPS
from data.tfrecords import CHANNELS, SLEEP_SAMPLES
from utils.vocabulary import ITEMS, STREAM_RATE

_QUIET = {"slow_waves_per_min": 0.0, "k_complexes_per_min": 0.0}
"""Slow events of the background would blur the phase."""
_HEIGHTS = (0.3, -0.58, 0.42)
"""Of the first up-state, the down-state and the second up-state; trough to second peak is 1."""

_MARGIN = int(0.04 * STREAM_RATE)
"""Samples that smoothing looks to either side."""


def so_trials(subject, count):
    """Simulate a test subject's trials by phase of the slow oscillation at the cue.

    Parameters
    ----------
    subject : data.simulation_memory.Subject
    count : int
        Trials in each group.

    Returns
    -------
    groups : dict of str to (item, eeg)
        For each of `SO_GROUPS` item int (count,), the items as evenly as possible, and eeg float32
        (count, 200, 55), samples first as published.
    """
    settings = subject.settings
    group = np.repeat(SO_GROUPS, count)
    rng = subject.generator("SO", "order")
    items = np.concatenate(
        [rng.permutation(np.resize(rng.permutation(len(ITEMS)), count)) for _ in SO_GROUPS]
    )
    stages = nrem_stages(rng, settings.cohort.n3_share, len(group))
    n, onset = SLEEP_SAMPLES * RAW_PER_SAMPLE, int(BEFORE_CUE * STREAM_RATE)
    eeg = np.empty((len(group), SLEEP_SAMPLES, CHANNELS), np.float32)
    for place, raw in backgrounds(subject, ("SO", "background"), stages, n, _QUIET):
        rng = subject.generator("SO", "trial", place)
        wave = slow_oscillation(rng, settings.slow_oscillation, group[place], n, onset)
        share = settings.slow_oscillation.share[group[place]]
        response = subject.sleep_response(rng, items[place], n, onset, share=share)
        eeg[place] = trial(raw + np.outer(subject.head.slow, wave) + response).T
    return {
        name: (items[start : start + count], eeg[start : start + count])
        for name, start in zip(SO_GROUPS, range(0, len(group), max(count, 1)), strict=False)
    }


def slow_oscillation(rng, settings, group, n, onset):
    """Return one slow oscillation, placed so that a cue falls on the phase of a group.

    Parameters
    ----------
    rng : numpy.random.Generator
    settings : data.simulation_settings.SlowOscillation
    group : str
        One of `SO_GROUPS`.
    n, onset : int
        Samples at 500 Hz; the cue's sample.

    Returns
    -------
    wave : array (n,)
        In µV; it reaches beyond both ends where the group demands it. From the trough to the second peak
        as in `data.simulation_stages.slow_wave`, 0.7 to 1.25 Hz.
    """
    first, down, second = rng.uniform((0.3, 0.35, 0.45), (0.45, 0.6, 0.8))
    amplitude, place = rng.uniform(*settings.amplitude_uv), rng.uniform(-1, 1)
    trough, peak, end = first, first + down, first + down + second
    # Seconds from the oscillation's onset to the cue: the middle of the group's range, and how far it goes.
    middle, reach = {
        "Pre-SO": (-0.3, 0.15),
        "trans-1st-Up": (0.2 * first, 0.1 * first),
        "1st-Up": (0.5 * first, 0.1 * first),
        "trans-Down": (trough, 0.15 * first),
        "Down": (trough + 0.5 * down, 0.1 * down),
        "trans-2nd-Up": (peak, 0.15 * down),
        "2nd-Up": (peak + 0.5 * second, 0.1 * second),
        "Post-SO": (end + 0.3, 0.15),
    }[group]
    smooth = signal.windows.hann(2 * _MARGIN + 1)
    t = (np.arange(-_MARGIN, n + _MARGIN) - onset) / STREAM_RATE + middle + reach * place
    wave = np.zeros(len(t))
    for start, length, height in zip((0, trough, peak), (first, down, second), _HEIGHTS, strict=True):
        inside = (t >= start) & (t < start + length)
        wave[inside] = height * np.sin(np.pi * (t[inside] - start) / length)
    return amplitude * np.convolve(wave, smooth / smooth.sum(), mode="valid")
