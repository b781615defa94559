"""Simulated trials by phase of the slow oscillation: in every trial there is one, where its group says.

The oscillation is an up-state, a down-state and a second up-state; scalp EEG goes up in up-states and deep
down in the down-state. It is the only one of its stretch, so the true phase at the cue is that of the group,
and the gate (`data.simulation.gate`) makes the groups differ: planted to try the analysis with, no finding.
"""

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.simulation.trials import BEFORE_CUE, cued_trials, nrem_stages
from sleep_interpreter.utils.core.constants import ITEMS

_ORIGINS = ("F3", "Fz", "F4", "FCz")


def so_trials(subject, count):
    """Simulate a test subject's trials by phase of the slow oscillation at the cue.

    Parameters
    ----------
    subject : sleep_interpreter.data.simulation.memory.Subject
    count : int
        Trials in each group.

    Returns
    -------
    groups : dict of str to (item, eeg)
        For each of `SO_GROUPS` item int (count,), the items as evenly as possible, and eeg float32
        (count, 200, 55), samples first as published.
    """
    trials = planned_so_trials(subject, count)
    return {
        group: (
            trials.item[start : start + count],
            np.swapaxes(trials.eeg[start : start + count], 1, 2).copy(),
        )
        for group, start in zip(SO_GROUPS, range(0, len(trials.item), max(count, 1)), strict=False)
    }


def planned_so_trials(subject, count):
    """Simulate the trials of `so_trials` as `data.simulation.trials.Trials`, group after group."""
    group = np.repeat(SO_GROUPS, count)
    rng = subject.generator("SO", "order")
    items = [rng.permutation(np.resize(rng.permutation(len(ITEMS)), count)) for _ in SO_GROUPS]
    stages = nrem_stages(rng, subject.settings.cohort.n3_share, len(group))

    def slow_oscillations(stage, places, cue_s):
        rng = subject.generator("SO", "oscillations", stage)
        return place_oscillations(rng, group[places], cue_s, stage, subject.settings.stages)

    return cued_trials(subject, ("SO",), np.concatenate(items), stages, BEFORE_CUE, slow_oscillations)


def place_oscillations(rng, groups, cue_s, stage, settings):
    """Place one slow oscillation for each cue, so that the cue falls on the phase of its group.

    Cues lie well inside the ranges of `data.simulation.scene.so_phase`: in the middle of an up-state or the
    down-state, at a crossing between two, on the rise of the first one, 0.15 to 0.45 s before or after all.

    Parameters
    ----------
    rng : numpy.random.Generator
    groups : array (n,) of str
        Of `SO_GROUPS`.
    cue_s : float array (n,)
        Times of the cues in s.
    stage : "N2" | "N3"
    settings : sleep_interpreter.data.simulation.body_settings.Stages
        Of slow oscillations in general and of their amplitude in the stage.

    Returns
    -------
    oscillations : DataFrame (n rows)
        As `data.simulation.scene.Scene.events["slow_oscillation"]` holds them.
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
    middle, reach = (
        np.choose([SO_GROUPS.index(g) for g in groups], [where[g][k] for g in SO_GROUPS]) for k in (0, 1)
    )
    start = cue_s - middle - reach * rng.uniform(-1, 1, n)
    return pd.DataFrame(
        {
            "start_s": start,
            "trough_start_s": start + first,
            "trough_s": start + first + 0.5 * down,
            "up_start_s": start + up_start,
            "peak_s": start + up_start + 0.5 * second,
            "end_s": start + end,
            "amplitude_uv": rng.uniform(*settings.of(stage).slow_oscillation_uv, n),
            "kind": "so",
            "origin": rng.choice(_ORIGINS, n).astype(object),
            "speed_m_s": rng.uniform(*waves.speed_m_s, n),
            "stage": stage,
        }
    )
