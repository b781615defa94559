"""Simulated trials of one subject, from raw 500 Hz EEG through the project's own preprocessing."""

from typing import NamedTuple

import numpy as np

from data.simulation_head import EMG, EOG, SCALP
from data.simulation_stages import join, stage_eeg, stage_polysomnogram
from data.tfrecords import AWAKE_PER_SLEEP, AWAKE_SAMPLES, CHANNELS, SLEEP_SAMPLES, STAGING_SAMPLES
from utils.preprocessing import decoding_window, staging_window
from utils.vocabulary import ITEMS, SLEEP_RATE, STAGES, STREAM_RATE

RAW_PER_SAMPLE = int(STREAM_RATE / SLEEP_RATE)
BEFORE_CUE = 0.2
"""A sleep trial starts this many seconds before its cue."""
STAGE_KEYS = ("W", "N2", "N3", "R")
"""The simulated stages in the order of `utils.vocabulary.STAGES`; W stands for W/N1."""

_PAUSE = 50  # raw samples between two trials cut from one stretch of background
_SECONDS_PER_WINDOW = 3


class Trials(NamedTuple):
    """Sleep trials of one subject.

    Attributes
    ----------
    item : int array (n,)
    eeg : float32 array (n, 55, 200)
        Channels first, as stored.
    """

    item: np.ndarray
    eeg: np.ndarray


def sleep_trials(subject, kind, count):
    """Simulate trials of 2 s around cues in sleep.

    Parameters
    ----------
    subject : data.simulation_memory.Subject
    kind : "N2N3" | "REM"
    count : int

    Returns
    -------
    trials : Trials
        The 15 items as evenly as `count` allows, in random order.
    """
    items, stages = _plan(subject, kind, count)
    n = SLEEP_SAMPLES * RAW_PER_SAMPLE
    onset = int(BEFORE_CUE * STREAM_RATE)
    eeg = np.empty((count, CHANNELS, SLEEP_SAMPLES), np.float32)
    for place, raw in backgrounds(subject, (kind, "background"), stages, n):
        rng = subject.generator(kind, "response", place)
        eeg[place] = trial(raw + subject.sleep_response(rng, items[place], n, onset, kind == "REM"))
    return Trials(items, eeg)


def precue_trials(subject, kind, count):
    """Simulate the 2 s before the cues of `sleep_trials`: background alone, with the labels that follow.

    The stretches are other ones than those around the cues, so nothing at all leads from them to an item.

    Parameters
    ----------
    subject : data.simulation_memory.Subject
    kind : "N2N3" | "REM"
    count : int

    Returns
    -------
    trials : Trials
        With the items of `sleep_trials(subject, kind, count)`.
    """
    items, stages = _plan(subject, kind, count)
    eeg = np.empty((count, CHANNELS, SLEEP_SAMPLES), np.float32)
    for place, raw in backgrounds(subject, (kind, "precue"), stages, SLEEP_SAMPLES * RAW_PER_SAMPLE):
        eeg[place] = trial(raw)
    return Trials(items, eeg)


def nrem_stages(rng, share, count):
    """Return "N2" or "N3" for each of `count` trials in random order, a given share of them N3."""
    deep = round(count * share)
    return rng.permutation(np.repeat(["N3", "N2"], [deep, count - deep]))


def backgrounds(subject, purpose, stages, n, change=None):
    """Yield raw stretches of sleep without cues for trials of given stages.

    Parameters
    ----------
    subject : data.simulation_memory.Subject
    purpose : tuple of str
        What they are for; other purposes get other stretches.
    stages : str array (count,)
    n : int
        Samples at 500 Hz.
    change : dict | None
        Settings of the stages to replace.

    Yields
    ------
    place : int
        Number of the trial.
    raw : float32 array (57, n)
        In µV.
    """
    for stage in np.unique(stages):
        places = np.flatnonzero(stages == stage)
        settings = getattr(subject.settings.stages, stage).model_copy(update=change or {})
        rng = subject.generator(*purpose, str(stage))
        yield from zip(places.tolist(), _cut(subject, settings, rng, len(places), n), strict=True)


def _plan(subject, kind, count):
    """Return items and stages of trials, both (count,)."""
    rng = subject.generator(kind, "order")
    items = rng.permutation(np.resize(np.arange(len(ITEMS)), count))
    if kind == "REM":
        return items, np.full(count, "R")
    return items, nrem_stages(rng, subject.settings.cohort.n3_share, count)


def awake_trials(subject, modality):
    """Simulate the trials of 0.8 s that follow pictures or sounds in wake.

    Parameters
    ----------
    subject : data.simulation_memory.Subject
    modality : "image" | "audio"

    Returns
    -------
    eeg : float32 array (15, n, 55, 80)
        The n trials of every item, channels first.
    """
    per_item = subject.settings.cohort.awake_trials
    n = AWAKE_SAMPLES * RAW_PER_SAMPLE
    rng = subject.generator("awake", modality)
    eeg = np.empty((len(ITEMS), per_item, CHANNELS, AWAKE_SAMPLES), np.float32)
    raws = _cut(subject, subject.settings.stages.W, rng, len(ITEMS) * per_item, n)
    for index, raw in enumerate(raws):
        item, number = divmod(index, per_item)
        eeg[item, number] = trial(raw + subject.awake_response(rng, modality, item, n))
    return eeg


def draw_awake(subject, kind, place, pool):
    """Return the 15 awake trials stored beside a sleep trial: different ones if there are 15.

    Parameters
    ----------
    subject : data.simulation_memory.Subject
    kind : "N2N3" | "REM"
    place : int
        Number of the sleep trial.
    pool : array (n, 55, 80)
        The awake trials of its item.

    Returns
    -------
    eeg : float32 array (15, 55, 80)
    """
    order = subject.generator(kind, "awake", place).permutation(len(pool))
    return pool[np.resize(order, AWAKE_PER_SLEEP)]


def data_types(subject, kind, count):
    """Return "train", "val" or "test" for each of a test subject's trials, in random order."""
    shares = subject.settings.cohort.data_type_shares
    ends = np.rint(np.cumsum(shares) * count).astype(int)
    parts = np.repeat(["train", "val", "test"], np.diff([0, *ends[:2], count]))
    return subject.generator(kind, "data_type").permutation(parts).tolist()


def staging_night(subject, epochs):
    """Simulate a short night for the stagers.

    Parameters
    ----------
    subject : data.simulation_memory.Subject
    epochs : int
        Number of 30 s epochs; the stages come in blocks, starting with another one in each subject.

    Returns
    -------
    windows : float32 array (10 * epochs - 9, 3, 15000)
        One every 3 s: EEG C4 - M1, EOG1 - M2, EMG1 - EMG2, band-passed and z-scored.
    stages : int array (epochs,)
        Stage of each epoch; window k belongs to epoch k // 10.
    """
    stages = (np.arange(epochs) * len(STAGES) // max(epochs, 1) + subject.number) % len(STAGES)
    if not epochs:
        return np.zeros((0, 3, STAGING_SAMPLES), np.float32), stages
    blocks = np.split(stages, np.flatnonzero(np.diff(stages)) + 1)
    overlap = int(STREAM_RATE)
    segments = []
    for number, block in enumerate(blocks):
        n = len(block) * STAGING_SAMPLES + (overlap if number else 0)
        stage = getattr(subject.settings.stages, STAGE_KEYS[block[0]])
        segments.append(stage_polysomnogram(subject.generator("staging", number), subject.head, stage, n))
    data = join(segments, overlap)
    names = (*SCALP, *EOG, *EMG)
    pairs = [("C4", "M1"), ("EOG1", "M2"), ("EMG1", "EMG2")]
    derived = np.stack([data[names.index(plus)] - data[names.index(minus)] for plus, minus in pairs])
    step = int(_SECONDS_PER_WINDOW * STREAM_RATE)
    corners = subject.settings.staging.corners_hz
    starts = range(0, derived.shape[1] - STAGING_SAMPLES + 1, step)
    windows = [staging_window(derived[:, s : s + STAGING_SAMPLES], STREAM_RATE, corners) for s in starts]
    return np.stack(windows), stages


def _cut(subject, stage, rng, count, n):
    """Return `count` raw stretches of (57, n) of one stage's background without cues."""
    background = stage_eeg(rng, subject.head, stage, count * (n + _PAUSE))
    starts = range(0, count * (n + _PAUSE), n + _PAUSE)
    return [background[:, start : start + n] for start in starts]


def trial(raw):
    """Return a stored trial (55, n / 5) of raw EEG (57, n)."""
    return np.ascontiguousarray(decoding_window(raw[:CHANNELS], RAW_PER_SAMPLE).T)
