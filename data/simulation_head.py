"""The simulated head: where the electrodes are, how sources reach them, where random numbers come from."""

import zlib
from functools import cache

import numpy as np

from utils.vocabulary import EEG_MONTAGE

MASTOIDS = ("M1", "M2")
EOG = ("EOG1", "EOG2")
EMG = ("EMG1", "EMG2")
SCALP = (*EEG_MONTAGE, *MASTOIDS)
"""Channels with a place on the head, in the order of every array here: 55 EEG, then the mastoids."""


def generator(seed, *purpose):
    """Return the random generator of one named purpose.

    What is drawn for one purpose (a subject, a kind of trial) does not depend on what else is simulated,
    so subject 7 is the same in a cohort of 10 and in one of 100.

    Parameters
    ----------
    seed : int
    *purpose : str | int
        E.g. "test", 7, "N2N3".

    Returns
    -------
    rng : numpy.random.Generator
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in purpose]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


@cache
def standard_montage():
    """Return MNE's standard 10-05 montage, under the name that the installed MNE knows it by."""
    import mne

    renamed = "colin27_1005"  # from MNE 1.13 on; "standard_1005" before
    known = mne.channels.get_builtin_montages()
    return mne.channels.make_standard_montage(renamed if renamed in known else "standard_1005")


@cache
def electrode_directions():
    """Return the directions of `SCALP` from the head's centre in the standard 10-05 montage, (57, 3)."""
    places = standard_montage().get_positions()["ch_pos"]
    points = np.array([places[name] for name in SCALP])
    # Least squares for the sphere |p - c|² = r², linear in c and r² - |c|².
    design = np.column_stack([2 * points, np.ones(len(points))])
    centre = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)[0][:3]
    directions = points - centre
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def topography(towards, width):
    """Return a smooth topography: a Gaussian of the angle to a direction.

    Parameters
    ----------
    towards : array (3,) | sequence of str
        A direction, or electrodes whose mean direction is meant.
    width : float
        Standard deviation of the Gaussian in degrees.

    Returns
    -------
    gain : array (57,)
        At most 1, in the order of `SCALP`.
    """
    directions = electrode_directions()
    if isinstance(towards[0], str):
        towards = directions[[SCALP.index(name) for name in towards]].mean(axis=0)
    towards = np.asarray(towards, float) / np.linalg.norm(towards)
    angle = np.degrees(np.arccos(np.clip(directions @ towards, -1, 1)))
    return np.exp(-0.5 * (angle / width) ** 2)


def sphere_points(count, lowest=-0.35):
    """Return `count` directions spread evenly over the head above height `lowest` (golden spiral), (n, 3)."""
    height = lowest + (1 - lowest) * (np.arange(count) + 0.5) / count
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    radius = np.sqrt(1 - height**2)
    return np.column_stack([radius * np.cos(turn), radius * np.sin(turn), height])


class Head:
    """How one subject's sources reach the electrodes.

    Parameters
    ----------
    rng : numpy.random.Generator
        The subject's own; the places of its sources differ a little from everybody else's.

    Attributes
    ----------
    background : array (57, 24)
        Gains of the background's independent sources; every row has norm 1.
    slow, spindle, alpha, theta, vertex, eyes : array (57,)
        Topographies of slow waves, spindles, alpha, theta, the evoked response and of eye movements
        (the part that reaches the scalp).
    """

    def __init__(self, rng):
        def near(names, width):
            return topography(_wobble(rng, names), width)

        gains = np.stack([topography(point + rng.normal(0, 0.1, 3), 38.0) for point in sphere_points(24)], 1)
        gains *= rng.choice([-1.0, 1.0], 24) * rng.lognormal(0, 0.2, 24)
        self.background = gains / np.linalg.norm(gains, axis=1, keepdims=True)
        self.slow = near(("F1", "FCz", "F2"), 55.0)
        self.spindle = near(("Cz", "CPz"), 45.0)
        self.alpha = near(("O1", "Oz", "O2", "Pz"), 45.0)
        self.theta = near(("FCz", "Cz"), 50.0)
        self.vertex = near(("FCz", "Cz"), 50.0)
        self.eyes = near(("Fp1", "Fp2"), 25.0)


def _wobble(rng, names):
    directions = electrode_directions()
    return directions[[SCALP.index(name) for name in names]].mean(axis=0) + rng.normal(0, 0.08, 3)
