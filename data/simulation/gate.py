"""How far the brain lets a cue through: by phase of the slow oscillation, and by a spindle that follows.

The item part of a response is multiplied by the gate. With the shares of params/simulation.yaml the mean gate
of cues at random times in N2 and N3 is 1 within 0.15, so `memory.strength` means the same with and without
the gate. The dependence is planted: no result on simulated data shows that memory depends on the phase.
"""

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.simulation.memory_settings import NO_GROUP
from sleep_interpreter.utils.core.constants import STREAM_RATE


def open_gate(settings, scene, samples):
    """Return the gate for cues at given samples of a scene.

    Parameters
    ----------
    settings : sleep_interpreter.data.simulation.memory_settings.Gate
    scene : sleep_interpreter.data.simulation.scene.Scene
        Its slow oscillations and spindles are the planted ones, so the phase is the true one.
    samples : int array (n,)

    Returns
    -------
    gate : DataFrame (n rows)
        so_group (one of `SO_GROUPS` or "none"), so_phase_rad (NaN with "none" and outside the oscillation),
        spindle_coupled (bool), gate (factor of the item part).
    """
    number, phase = scene.phase(samples)
    groups = np.array([*SO_GROUPS, NO_GROUP])[number]  # -1 is the last one
    coupled = spindle_follows(scene.events["spindle"], samples / STREAM_RATE, settings.spindle_window_s)
    share = np.array([settings.share[group] for group in groups], float)
    return pd.DataFrame(
        {
            "so_group": groups.astype(object),
            "so_phase_rad": phase,
            "spindle_coupled": coupled,
            "gate": share * (1 + settings.spindle_gain * coupled),
        }
    )


def spindle_follows(spindles, seconds, window_s):
    """Say whether a spindle begins within `window_s` after each of the times `seconds` (n,), bool (n,)."""
    starts = np.sort(spindles["start_s"].to_numpy(float))
    return np.searchsorted(starts, seconds + window_s, "right") > np.searchsorted(starts, seconds, "left")
