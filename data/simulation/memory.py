"""One simulated person: responses to pictures and sounds in wake and to items in sleep, memory scores.

In sleep an item's semantic part is weaker, later and slower than in wake; when and how strongly it comes is
planned by `data.simulation.cues`. How well an item is remembered goes with its reactivations.
"""

from functools import cached_property

import numpy as np

from sleep_interpreter.data.simulation.head import Head, generator
from sleep_interpreter.data.simulation.items import Items, course, variation
from sleep_interpreter.utils.core.constants import ITEMS, STREAM_RATE

RESPONSE_S = 2.0
"""A response in sleep is over so many seconds after its onset."""
SIZE_SD = 0.2
"""Spread (SD of the logarithm) of what sounds and pictures evoke, between trials."""

_FADE_S = 0.2
_WAKE_POTENTIAL = ((0.06, 0.012, 1.5), (0.10, 0.018, -5.0), (0.19, 0.035, 6.0))
"""Latency and width in s and size in µV of P1, N1 and P2 to any picture or sound."""
_SLEEP_POTENTIAL = ((0.20, 0.035, 1.0), (0.35, 0.05, -1.0))
"""The same of P200 and N350 to any cue in sleep, with size 1."""
_VERTEX = ("FCz", "Cz")


class Subject:
    """One simulated person: a head and a version of every item's components.

    Parameters
    ----------
    settings : sleep_interpreter.data.simulation.settings.Simulation
    group : "train" | "test" | other
    number : int

    Attributes
    ----------
    name : str
        As the published folders and files name it: "subject_0", "subject_test_0".
    head : sleep_interpreter.data.simulation.head.Head
    items : sleep_interpreter.data.simulation.items.Items
    strength : array (15,)
        What the item parts are multiplied by in this subject, stage, trial and gate apart.
    """

    def __init__(self, settings, group, number):
        self.settings, self.group, self.number = settings, group, number
        self.name = f"subject_test_{number}" if group == "test" else f"subject_{number}"

    def generator(self, *purpose):
        """Return the subject's random generator for a purpose; see `data.simulation.head.generator`."""
        return generator(self.settings.seed, self.group, self.number, *purpose)

    @cached_property
    def head(self):
        """Return the subject's head; made when it is first asked for."""
        return Head(self.generator("head"), self.settings.head)

    @cached_property
    def items(self):
        """Return the subject's items; made when they are first asked for."""
        return Items(self.settings.memory, self.settings.seed, self.head, self.generator)

    @cached_property
    def strength(self):
        """Return the strength of the items in this subject, array (15,)."""
        memory = self.settings.memory
        items = memory.item_strength
        if isinstance(items, float):
            items = variation(generator(self.settings.seed, "items", "strength"), items, len(ITEMS))
        return memory.strength * np.array(items) * variation(self.generator("strength"), memory.subject_sd)

    def planted_latencies(self):
        """Return when each item's components peak after a cue in NREM: {item: [s, ...]}."""
        timing = self.settings.memory.timing.NREM
        return {
            name: [round(timing.delay_s + timing.stretch * c.latency, 3) for c in components]
            for name, components in zip(ITEMS, self.items.semantic, strict=True)
        }

    def awake_response(self, rng, modality, item, n):
        """Return the response to a picture or a sound in wake, from its onset on.

        Parameters
        ----------
        rng : numpy.random.Generator
        modality : "image" | "audio"
        item : int
        n : int
            Samples at 500 Hz; all is over after 1 s.

        Returns
        -------
        response : array (n_head, n)
            In µV.
        """
        memory = self.settings.memory
        t = np.arange(n) / STREAM_RATE
        gain = self.strength[item] * variation(rng, memory.trial_sd)
        response = gain * memory.semantic_uv * course(self.items.semantic[item], t)
        response += gain * memory.modality_uv * course(self.items.early[modality][item], t)
        where = ("O1", "Oz", "O2") if modality == "image" else _VERTEX
        size = variation(rng, SIZE_SD)
        return response + size * np.outer(self.head.patch(where), _peaks(_WAKE_POTENTIAL, t))

    def sleep_response(self, item, stage, n, gain=1.0, jitter_s=0.0, onset=0):
        """Return the item part of a reactivation in sleep.

        Parameters
        ----------
        item : int
        stage : "N2" | "N3" | "R"
        n : int
            Samples at 500 Hz.
        gain : float
            Multiplies `memory.semantic_uv`.
        jitter_s : float
            Later than usual by this.
        onset : int
            Sample of the cue; nothing is before it, and nothing `RESPONSE_S` after it.

        Returns
        -------
        response : array (n_head, n)
            In µV.
        """
        memory, timing = self.settings.memory, self.settings.memory.timing.of(stage)
        t = (np.arange(n) - onset) / STREAM_RATE
        awake = (t - timing.delay_s - jitter_s) / timing.stretch
        fade = np.clip((RESPONSE_S - t) / _FADE_S, 0, 1) * (t >= 0)
        return gain * memory.semantic_uv * course(self.items.semantic[item], awake) * fade

    def sound_response(self, stage, n, size=1.0):
        """Return the auditory potential that any cue evokes in sleep, from its onset on, (n_head, n) µV."""
        size = size * self.settings.memory.sound.potential_uv[stage]
        return size * np.outer(self.head.patch(_VERTEX), _peaks(_SLEEP_POTENTIAL, np.arange(n) / STREAM_RATE))


def propensity(subject):
    """Return how readily each item is reactivated without a cue in this subject: shares, array (15,)."""
    sd = subject.settings.memory.spontaneous.item_sd
    common = generator(subject.settings.seed, "items", "propensity").standard_normal(len(ITEMS))
    own = subject.generator("propensity").standard_normal(len(ITEMS))
    weight = np.exp(sd * np.sqrt(0.5) * (common + own))
    return weight / weight.sum()


def memory_scores(subject, counts):
    """Return how well a subject remembers each item, given how much it was reactivated.

    Over the items of a subject, the scores correlate with `counts` at `memory.behaviour_r` on average over
    subjects. The rest is an item effect that all subjects share, and chance. Scores are logistic functions
    of a normal score, so they stay between 0 and 1.

    Parameters
    ----------
    subject : Subject
    counts : array (15,)
        Number or summed gain of each item's reactivations; without any spread the scores are effects and
        chance alone.

    Returns
    -------
    scores : array (15,)
        Between 0 and 1.
    """
    memory, behaviour = subject.settings.memory, subject.settings.memory.behaviour
    rng = subject.generator("behaviour")
    personal, level = rng.standard_normal(len(ITEMS)), rng.standard_normal()
    common = generator(subject.settings.seed, "items", "behaviour").standard_normal(len(ITEMS))
    counts = np.asarray(counts, float) - np.mean(counts)
    spread = counts.std()
    score = np.zeros(len(ITEMS))
    if spread > 0:
        score = counts / spread
        # Items that all subjects reactivate more must not be the easier ones by coincidence.
        common = common - score * (common @ score) / len(ITEMS)
    rest = np.sqrt(behaviour.item_share) * common + np.sqrt(1 - behaviour.item_share) * personal
    z = memory.behaviour_r * score + np.sqrt(1 - memory.behaviour_r**2) * rest
    slope = behaviour.mean * (1 - behaviour.mean)  # of the logistic function at the mean
    x = np.log(behaviour.mean / (1 - behaviour.mean))
    x = x + (behaviour.item_sd * z + behaviour.subject_sd * level) / slope
    return 1 / (1 + np.exp(-x))


def _peaks(peaks, t):
    return sum(size * np.exp(-0.5 * ((t - latency) / width) ** 2) for latency, width, size in peaks)
