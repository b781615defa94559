"""The planted memory signal: what a cue or a picture adds to the background, item by item.

Every item has a few components: a smooth spatial pattern times a short oscillation. They are shared between
wake and sleep and, as far as `similarity` says, between subjects. In sleep they come later, slower, weaker,
with a jitter, and not after every cue. Pictures and sounds add early components of their own in wake. On top
comes what any stimulus evokes, which says nothing about the item.
"""

from typing import NamedTuple

import numpy as np

from data.simulation_head import SCALP, Head, generator, sphere_points, topography
from utils.vocabulary import EEG_MONTAGE, ITEMS, STREAM_RATE

MODALITIES = ("image", "audio")


class Component(NamedTuple):
    """One spatial pattern with its time course: a Gaussian in time times a cosine."""

    pattern: np.ndarray  # (57,), root mean square 1 over the 55 EEG channels
    latency: float  # s
    width: float  # s, standard deviation
    frequency: float  # Hz
    phase: float

    def at(self, t, delay=0.0, stretch=1.0):
        """Return the time course at the times `t` in s, later by `delay` and slower by `stretch`."""
        x = (t - delay) / stretch - self.latency
        wave = np.cos(2 * np.pi * self.frequency * x + self.phase)
        return np.exp(-0.5 * (x / self.width) ** 2) * wave


class Subject:
    """One simulated person: a head and a version of every item's components.

    Parameters
    ----------
    settings : data.simulation_settings.Simulation
    group : "train" | "test" | other
    number : int

    Attributes
    ----------
    name : str
        As the published folders and files name it: "subject_0", "subject_test_0".
    head : data.simulation_head.Head
    """

    def __init__(self, settings, group, number):
        self.settings, self.group, self.number = settings, group, number
        self.name = f"subject_test_{number}" if group == "test" else f"subject_{number}"
        self.head = Head(self.generator("head"))
        memory, seed = settings.memory, settings.seed
        self._semantic = self._items(memory, seed, "semantic", memory.components, (0.25, 0.55), (0.06, 0.12))
        self._early = {
            modality: self._items(memory, seed, modality, 1, (0.10, 0.22), (0.02, 0.05))
            for modality in MODALITIES
        }

    def generator(self, *purpose):
        """Return the subject's random generator for a purpose; see `data.simulation_head.generator`."""
        return generator(self.settings.seed, self.group, self.number, *purpose)

    def _items(self, memory, seed, kind, count, latencies, widths):
        items = []
        for item in range(len(ITEMS)):
            common = generator(seed, "items", kind, item)
            own = self.generator("items", kind, item)
            components = []
            for _ in range(count):
                shared, personal = _pattern(common), _pattern(own)
                mixed = _unit(np.sqrt(memory.similarity) * shared + np.sqrt(1 - memory.similarity) * personal)
                width = common.uniform(*widths)
                components.append(
                    Component(
                        pattern=mixed,
                        latency=common.uniform(*latencies) + own.normal(0, 0.01),
                        width=width,
                        frequency=common.uniform(0.15, 0.5) / width,
                        phase=common.uniform(0, 2 * np.pi),
                    )
                )
            items.append(components)
        return items

    def planted_latencies(self):
        """Return, for each item, when its components peak in sleep: {item: [s after the cue, ...]}."""
        memory = self.settings.memory
        return {
            name: [round(memory.sleep_delay_s + memory.sleep_stretch * c.latency, 3) for c in components]
            for name, components in zip(ITEMS, self._semantic, strict=True)
        }

    def awake_response(self, rng, modality, item, n):
        """Return the response to a picture or a sound in wake, from its onset on.

        Parameters
        ----------
        rng : numpy.random.Generator
        modality : "image" | "audio"
        item : int
        n : int
            Samples at 500 Hz.

        Returns
        -------
        response : array (57, n)
            In µV.
        """
        memory = self.settings.memory
        t = np.arange(n) / STREAM_RATE
        gain = memory.strength * rng.lognormal(0, 0.2)
        response = gain * memory.semantic_uv * _sum(self._semantic[item], t)
        response += gain * memory.modality_uv * _sum(self._early[modality][item], t)
        return response + rng.lognormal(0, 0.2) * _evoked_awake(modality, t)

    def sleep_response(self, rng, item, n, onset=0, rem=False, share=1.0):
        """Return the response to a cue in sleep.

        Parameters
        ----------
        rng : numpy.random.Generator
        item : int
        n : int
            Samples at 500 Hz.
        onset : int
            Sample of the cue; the response follows it.
        rem : bool
            In REM sleep the item's part is weaker and there is no K-complex.
        share : float
            Multiplies the item's part.

        Returns
        -------
        response : array (57, n)
            In µV.
        """
        memory = self.settings.memory
        t = (np.arange(n) - onset) / STREAM_RATE
        # Everything is drawn whether it is used or not, so that one setting does not change the others.
        gain, jitter = rng.lognormal(0, 0.3), rng.normal(0, memory.jitter_s)
        reactivated, evoked = rng.random(2)
        size, late = rng.lognormal(0, 0.3), rng.normal(0, 0.04)
        response = np.zeros((len(SCALP), n))
        if reactivated < memory.reactivated:
            amplitude = memory.strength * memory.semantic_uv * memory.sleep_gain * gain
            amplitude *= share * (memory.rem_gain if rem else 1.0)
            course = _sum(self._semantic[item], t, memory.sleep_delay_s + jitter, memory.sleep_stretch)
            response += amplitude * course
        if evoked < memory.evoked_share and not rem:
            trough = -np.exp(-0.5 * ((t - 0.55 - late) / 0.11) ** 2)
            peak = 0.6 * np.exp(-0.5 * ((t - 0.95 - late) / 0.17) ** 2)
            response += memory.evoked_uv * size * np.outer(self.head.vertex, trough + peak)
        response[:, :onset] = 0
        return response


def _sum(components, t, delay=0.0, stretch=1.0):
    patterns = np.stack([c.pattern for c in components], axis=1)
    return patterns @ np.stack([c.at(t, delay, stretch) for c in components])


def _evoked_awake(modality, t):
    """Return what every picture or sound evokes in wake: P1-N1-P2, (57, n) in µV."""
    where = ("O1", "Oz", "O2") if modality == "image" else ("Cz", "FCz")
    course = sum(
        size * np.exp(-0.5 * ((t - latency) / width) ** 2)
        for latency, width, size in ((0.06, 0.012, 1.5), (0.10, 0.018, -5.0), (0.19, 0.035, 6.0))
    )
    return np.outer(topography(where, 45.0), course)


_BUMPS = 30


def _pattern(rng):
    weights = rng.standard_normal(_BUMPS)
    bumps = np.stack([topography(point, 28.0) for point in sphere_points(_BUMPS)], axis=1)
    return _unit(bumps @ weights)


def _unit(pattern):
    eeg = pattern[: len(EEG_MONTAGE)]
    return (pattern - eeg.mean()) / eeg.std()  # the common average reference would remove the mean anyway
