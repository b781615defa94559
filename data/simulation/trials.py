"""Simulated trials of one subject, from raw 500 Hz EEG through the project's own preprocessing.

Trials come from packed stretches of sleep or wake: every trial has a stretch of its own with its cue alone,
so nothing of another cue is in it, and the phase of slow oscillations and the spindles are the planted ones.

In trials by phase of the slow oscillation (`so_trials`) every stretch has one oscillation, where its group
says: an up-state, a down-state and a second up-state; scalp EEG goes up in up-states and deep down in the
down-state. It is the only one of its stretch, so the true phase at the cue is that of the group, and the gate
(`data.simulation.cues`) makes the groups differ: planted to try the analysis with, no finding.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.formats.tfrecords import STAGING_SAMPLES
from sleep_interpreter.data.simulation.cues import plan_cues
from sleep_interpreter.data.simulation.events import five_stages
from sleep_interpreter.data.simulation.head import electrode_direction
from sleep_interpreter.data.simulation.scene import Scene
from sleep_interpreter.data.simulation.settings import Physiology
from sleep_interpreter.data.simulation.subject import RESPONSE_S, Subject
from sleep_interpreter.utils.core.constants import STAGES, STREAM_RATE
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.signal.preprocessing import decimation_of, decoding_window, staging_window, stream_window

_MARGIN_S = 0.1
_CUE_AT_S, _STRETCH_S = 2.1, 4.0  # with the published windows
_TOGETHER = 25  # stretches rendered at a time
_SECONDS_PER_WINDOW = 3
_CENTRAL = ("C4", "C3", "Cz")  # the stager's channel, the first of them that there is
_ORIGINS = ("F3", "Fz", "F4", "FCz")  # of the oscillations of `so_trials`


class SleepTrials(NamedTuple):
    """Sleep trials of one subject.

    `item` (n,); `eeg` float32 (n, 55, 200), channels first, as stored; `truth` (n rows): what was planted at each
    trial's cue, see `data.simulation.cues.plan_cues`, its times within the packed stretches of the trial's stage.
    """

    item: np.ndarray
    eeg: np.ndarray
    truth: pd.DataFrame


class Stretch(NamedTuple):
    """How sleep trials are packed, in samples: `length` from one cue to the next, the first cue at `cue_at`.

    A response has ended when the next pre-cue trial begins.
    """

    cue_at: int
    length: int


def stretch(card: DataCard) -> Stretch:
    """Return how trials with a card's windows are packed."""
    first, end = stream_window(card.windows.sleep)
    margin, size = round(_MARGIN_S * STREAM_RATE), end - first
    cue_at = max(round(_CUE_AT_S * STREAM_RATE), size + margin, margin - first)
    length = max(round(_STRETCH_S * STREAM_RATE), size + round(RESPONSE_S * STREAM_RATE), cue_at + end + margin)
    return Stretch(cue_at, length)


def sleep_trials(subject: Subject, kind: str, count: int) -> SleepTrials:
    """Simulate `count` trials around cues in "N2N3" or "REM", the items as evenly as possible, shuffled."""
    return cued_trials(subject, (kind,), *_plan(subject, kind, count))


def precue_trials(subject: Subject, kind: str, count: int) -> SleepTrials:
    """Simulate the time before the cues of `sleep_trials`: the same stretches, with the labels that follow.

    A stretch has no other cue, so nothing at all leads from these trials to an item. Items and truth are equal, too.
    """
    return cued_trials(subject, (kind,), *_plan(subject, kind, count), precue=True)


def so_trials(subject: Subject, count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Simulate a test subject's trials by phase of the slow oscillation at the cue.

    For each of `SO_GROUPS` (item, eeg): item int (count,), as evenly as possible, and eeg float32 (count, 200, 55),
    samples first as published.
    """
    trials = planned_so_trials(subject, count)
    eeg = trials.eeg.swapaxes(1, 2)
    places = {group: slice(k * count, (k + 1) * count) for k, group in enumerate(SO_GROUPS)}
    return {group: (trials.item[some], eeg[some].copy()) for group, some in places.items()}


def planned_so_trials(subject: Subject, count: int) -> SleepTrials:
    """Simulate the trials of `so_trials`, group after group, with their truth."""
    group = np.repeat(SO_GROUPS, count)
    rng = subject.generator("SO", "order")
    items = [rng.permutation(np.resize(rng.permutation(subject.n_items), count)) for _ in SO_GROUPS]
    stages = _nrem_stages(rng, subject.settings.cohort.n3_share, len(group))

    def slow_oscillations(stage: str, places: np.ndarray, cue_s: np.ndarray) -> pd.DataFrame:
        rng = subject.generator("SO", "oscillations", stage)
        return place_oscillations(rng, group[places], cue_s, stage, subject.settings.stages)

    return cued_trials(subject, ("SO",), np.concatenate(items), stages, slow_oscillations)


def place_oscillations(
    rng: np.random.Generator, groups: np.ndarray, cue_s: np.ndarray, stage: str, settings: Physiology
) -> pd.DataFrame:
    """Place one slow oscillation for each cue, so that the cue falls on the phase of its group.

    Cues lie well inside the ranges of `data.events.slow_oscillations.so_phase`: in the middle of an up-state or the
    down-state, at a crossing between two, on the rise of the first one, 0.15 to 0.45 s before or after all. `groups`
    (n,) are of `SO_GROUPS`, `cue_s` (n,) in s, `stage` is "N2" or "N3". Returned, n rows, is what
    `Scene.events["slow_oscillation"]` holds.
    """
    n, waves = len(groups), settings.slow_waves
    first, down, second = (rng.uniform(*length, n) for length in (waves.first_up_s, waves.down_s, waves.up_s))
    up_start, end = first + down, first + down + second
    # From the oscillation's start to the cue: the middle of the group's range, and how far it goes.
    where = {
        "Pre-SO": (np.full(n, -0.3), np.full(n, 0.15)),
        "trans-1st-Up": (0.2 * first, 0.1 * first),
        "1st-Up": (0.5 * first, 0.1 * first),
        "trans-Down": (first, 0.1 * first),
        "Down": (first + 0.5 * down, 0.1 * down),
        "trans-2nd-Up": (up_start, 0.1 * down),
        "2nd-Up": (up_start + 0.5 * second, 0.1 * second),
        "Post-SO": (end + 0.3, np.full(n, 0.15)),
    }
    middle, reach = (np.choose([SO_GROUPS.index(g) for g in groups], [where[g][k] for g in SO_GROUPS]) for k in (0, 1))
    start = cue_s - middle - reach * rng.uniform(-1, 1, n)
    return pd.DataFrame(
        {
            "start_s": start, "trough_start_s": start + first, "trough_s": start + first + 0.5 * down,
            "up_start_s": start + up_start, "peak_s": start + up_start + 0.5 * second, "end_s": start + end,
            "amplitude_uv": rng.uniform(*settings.of(stage).slow_oscillation_uv, n), "kind": "so",
            "origin": rng.choice(_ORIGINS, n).astype(object),
            "speed_m_s": rng.uniform(*waves.speed_m_s, n), "stage": stage,
        }
    )  # fmt: skip


def cued_trials(
    subject: Subject,
    purpose: Sequence[str],
    items: np.ndarray,
    stages: np.ndarray,
    slow_oscillations: Callable[[str, np.ndarray, np.ndarray], pd.DataFrame] | None = None,
    precue: bool = False,
) -> SleepTrials:
    """Simulate the window of the card around the cue of each of some trials, with `precue` as long a one before it.

    Where the card has trials of unequal length, each ends at a random time between the earliest end and the end.

    `purpose` says what they are for: other purposes get other stretches; `stages` (n,) are "N2", "N3" or "R".
    `slow_oscillations(stage, places, cue_s)` returns the slow oscillations of a stage's stretches, given the numbers of
    its trials and the times of their cues in s; None: those that the stage brings along.
    """
    card, packed = subject.card, stretch(subject.card)
    first, end = stream_window(card.windows.sleep)
    n = end - first
    eeg = np.full((len(items), *card.sleep_shape), np.nan, np.float32)
    lengths = np.full(len(items), card.sleep_samples)
    if card.varying_lengths:
        rng = subject.generator(*purpose, "lengths")
        lengths = rng.integers(card.shortest_samples, card.sleep_samples + 1, len(items))
    truth = []
    for stage in np.unique(stages).tolist():
        places = np.flatnonzero(stages == stage)
        onsets = packed.cue_at + packed.length * np.arange(len(places))
        fixed = None
        if slow_oscillations is not None:
            fixed = {"slow_oscillation": slow_oscillations(stage, places, onsets / STREAM_RATE)}
        scene = _scene(subject, (*purpose, stage), stage, len(places) * packed.length, fixed)
        truth.append(plan_cues(subject, scene, onsets, items[places], (*purpose, stage)).set_index(places))
        starts = onsets + (-n if precue else first)
        for some, raw in _windows(scene, starts, n):
            own = lengths[places[some]]
            for length in np.unique(own):
                count = n if length == card.sleep_samples else int(int(length) * decimation_of(card))
                cut = raw[own == length][..., -count:] if precue else raw[own == length][..., :count]
                eeg[places[some][own == length], :, :length] = stored(cut, card)
    return SleepTrials(items, eeg, pd.concat(truth).sort_index() if truth else pd.DataFrame())


def awake_trials(subject: Subject, modality: str) -> np.ndarray:
    """Simulate the trials around pictures ("image") or sounds ("audio") in wake with open eyes.

    Returns float32 (15, n, 55, 80), the n trials of every item, channels first.
    """
    card, per_item = subject.card, subject.settings.cohort.awake_trials
    first, end = stream_window(card.windows.wake)
    count, n = subject.n_items * per_item, end - first
    length = n + round(_MARGIN_S * STREAM_RATE)
    open_eyes = {"alpha": pd.DataFrame({"start_s": [], "duration_s": []})}
    scene = _scene(subject, ("awake", modality), "W", count * length, open_eyes)
    rng = subject.generator("awake", modality, "response")
    eeg = np.empty((count, *card.awake_shape), np.float32)
    for some, raw in _windows(scene, length * np.arange(count), n):
        places = np.arange(count)[some]
        responses = [subject.awake_response(rng, modality, int(k) // per_item, n, first) for k in places]
        channels = len(card.channels)
        eeg[places] = stored(raw[:, :channels] + np.stack(responses)[:, :channels], card)
    return eeg.reshape(subject.n_items, per_item, *card.awake_shape)


def draw_awake(subject: Subject, kind: str, place: int, pool: np.ndarray) -> np.ndarray:
    """Return the 15 awake trials (15, 55, 80) stored beside a sleep trial: different ones if there are 15.

    `place` is the number of the sleep trial among those of its kind ("N2N3", "REM"), `pool` (n, 55, 80) holds the awake
    trials of its item.
    """
    order = subject.generator(kind, "awake", place).permutation(len(pool))
    return pool[np.resize(order, subject.card.awake_per_sleep)]


def data_types(subject: Subject, kind: str, count: int) -> list[str]:
    """Return "train", "val" or "test" for each of a test subject's trials, in random order."""
    shares = subject.settings.cohort.data_type_shares
    ends = np.rint(np.cumsum(shares) * count).astype(int)
    parts = np.repeat(["train", "val", "test"], np.diff([0, *ends[:2], count]))
    return subject.generator(kind, "data_type").permutation(parts).tolist()


def staging_night(subject: Subject, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Simulate a short night of so many 30 s epochs for the stagers: windows and the stage of each epoch.

    The stages come in blocks, starting with another one in each subject. The windows, float32 (10 * epochs - 9, 3,
    15000), one every 3 s, are EEG C4 - M1, EOG1 - M2, EMG1 - EMG2, band-passed and z-scored; window k belongs to epoch
    k // 10.
    """
    stages = (np.arange(epochs) * len(STAGES) // max(epochs, 1) + subject.number) % len(STAGES)
    if not epochs:
        return np.zeros((0, 3, STAGING_SAMPLES), np.float32), stages
    keys = five_stages(subject.generator("staging", "stages"), stages, subject.settings.stages)
    scene = Scene(subject, ("staging",), keys)
    pairs = [(staging_channel(subject.card), "M1"), ("EOG1", "M2"), ("EMG1", "EMG2")]
    plus, minus = ([scene.names.index(pair[end]) for pair in pairs] for end in (0, 1))
    derived = np.empty((len(pairs), scene.n), np.float32)
    for start in range(0, scene.n, STAGING_SAMPLES):
        raw = scene.render(start, start + STAGING_SAMPLES)
        derived[:, start : start + STAGING_SAMPLES] = raw[plus] - raw[minus]
    corners = subject.settings.staging.corners_hz
    starts = range(0, scene.n - STAGING_SAMPLES + 1, int(_SECONDS_PER_WINDOW * STREAM_RATE))
    windows = [staging_window(derived[:, s : s + STAGING_SAMPLES], STREAM_RATE, corners) for s in starts]
    return np.stack(windows), stages


def staging_channel(card: DataCard) -> str:
    """Return the EEG channel that stagers get: C4, else another central one, else the one nearest to C4."""
    directions = {name: float(electrode_direction(name) @ electrode_direction("C4")) for name in card.channels}
    return next((name for name in _CENTRAL if name in card.channels), max(directions, key=directions.__getitem__))


def stored(raw: np.ndarray, card: DataCard) -> np.ndarray:
    """Return stored trials (k, channels, samples) of raw EEG at 500 Hz (k, the card's channels or more, n)."""
    average, scale = card.reference == "average", card.unit == "robust"
    trials = decoding_window(raw[:, : len(card.channels)], decimation_of(card), average, scale)
    return trials.swapaxes(1, 2)


def _plan(subject: Subject, kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = subject.generator(kind, "order")
    items = rng.permutation(np.resize(np.arange(subject.n_items), count))
    if kind == "REM":
        return items, np.full(count, "R")
    return items, _nrem_stages(rng, subject.settings.cohort.n3_share, count)


def _nrem_stages(rng: np.random.Generator, share: float, count: int) -> np.ndarray:
    """Return "N2" or "N3" for each of `count` trials in random order, a given share of them N3."""
    deep = round(count * share)
    return rng.permutation(np.repeat(["N3", "N2"], [deep, count - deep]))


def _scene(
    subject: Subject, purpose: Sequence[str], stage: str, n: int, fixed: dict[str, pd.DataFrame] | None
) -> Scene:
    return Scene(subject, purpose, [stage] * -(-n // STAGING_SAMPLES), n, clean=True, fixed=fixed)


def _windows(scene: Scene, starts: np.ndarray, n: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (slice of `starts`, raw (k, channels, n) from each of them on) and never hold more than a piece."""
    for first in range(0, len(starts), _TOGETHER):
        some = slice(first, first + _TOGETHER)
        own = starts[some] - starts[first]
        raw = scene.render(int(starts[first]), int(starts[first] + own[-1]) + n)
        yield some, np.stack([raw[:, start : start + n] for start in own])
