"""One simulated person: a head, the items as this person has them, responses to them, memory scores.

An item has a few semantic components, shared between wake and sleep, and one early component for its
picture and one for its sound. A component is a set of smooth cortical patches times a Gaussian wave packet.
`similarity` says how much of the source variance all subjects have in common; their heads differ besides.
Time courses are shared but for a personal shift of some 10 ms.

In sleep an item's semantic part is weaker, later and slower than in wake; when and how strongly it comes is
planned by `data.simulation.cues`. How well an item is remembered goes with its reactivations.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from sleep_interpreter.data.simulation.head import SOURCES, Head
from sleep_interpreter.data.simulation.random_numbers import generator, variation
from sleep_interpreter.data.simulation.settings import Memory, Simulation, SleepKey
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.parallel import on_one_thread

MODALITIES = ("image", "audio")
SEMANTIC_S = (0.3, 0.6)
"""Range of the semantic components' latencies in wake."""
EARLY_S = (0.10, 0.22)
"""Range of the early components' latencies."""
RESPONSE_S = 2.0
"""A response in sleep is over so many seconds after its onset."""
SIZE_SD = 0.2
"""Spread (SD of the logarithm) of what sounds and pictures evoke, between trials."""

_SEMANTIC_WIDTH_S, _EARLY_WIDTH_S = (0.06, 0.11), (0.02, 0.05)
_SHIFT_S = 0.01
_FADE_S = 0.2
_WAKE_POTENTIAL = ((0.06, 0.012, 1.5), (0.10, 0.018, -5.0), (0.19, 0.035, 6.0))
"""Latency and width in s and size in µV of P1, N1 and P2 to any picture or sound."""
_SLEEP_POTENTIAL = ((0.20, 0.035, 1.0), (0.35, 0.05, -1.0))
"""The same of P200 and N350 to any cue in sleep, with size 1."""
_VERTEX = ("FCz", "Cz")


class Component(NamedTuple):
    """One spatial pattern with its time course: a Gaussian in time times a cosine.

    `pattern` (n_head,) holds potentials against the mean mastoid; over the EEG channels, after the common average,
    their root mean square is 1. `latency` and `width` are centre and SD of the Gaussian in s, `frequency` (Hz) and
    `phase` (rad) those of the cosine.
    """

    pattern: np.ndarray
    latency: float
    width: float
    frequency: float
    phase: float

    def at(self, t: np.ndarray) -> np.ndarray:
        """Return the time course at the times `t` in s after the onset of a picture or sound."""
        x = t - self.latency
        return np.exp(-0.5 * (x / self.width) ** 2) * np.cos(2 * np.pi * self.frequency * x + self.phase)


class Subject:
    """One simulated person of a group ("train", "test" or other): a head and a version of every item."""

    def __init__(self, settings: Simulation, group: str, number: int) -> None:
        self.settings, self.group, self.number = settings, group, number
        self.card, self.n_items = settings.card, len(settings.card.items)
        self.items = np.array(settings.card.item_names, object)
        self.name = subject_name(group, number)

    def generator(self, *purpose: str | int) -> np.random.Generator:
        """Return the subject's random generator of a purpose; see `random_numbers.generator`."""
        return generator(self.settings.seed, self.group, self.number, *purpose)

    @cached_property
    def head(self) -> Head:
        return Head(self.generator("head"), self.settings.head)

    @cached_property
    def components(self) -> dict[str, list[list[Component]]]:
        """The components of each item: `memory.components` "semantic" ones, one of "image" and of "audio"."""
        kinds = {"semantic": (self.settings.memory.components, SEMANTIC_S, _SEMANTIC_WIDTH_S)}
        kinds |= dict.fromkeys(MODALITIES, (1, EARLY_S, _EARLY_WIDTH_S))
        return {
            kind: [self._draw_components(kind, item, *how) for item in range(self.n_items)]
            for kind, how in kinds.items()
        }

    def component_arrays(self) -> dict[str, np.ndarray]:
        """Return everything planted about the items as arrays for a truth file.

        For each kind ("semantic", "image", "audio") `<kind>_pattern` (15, k, n_head) and `<kind>_latency_s`,
        `<kind>_width_s`, `<kind>_frequency_hz`, `<kind>_phase_rad`, each (15, k).
        """
        names = ("pattern", "latency_s", "width_s", "frequency_hz", "phase_rad")
        return {
            f"{kind}_{name}": np.array([[component[place] for component in item] for item in items])
            for kind, items in self.components.items()
            for place, name in enumerate(names)
        }

    @cached_property
    def strength(self) -> np.ndarray:
        """What the item parts are multiplied by in this subject, (15,); stage, trial and gate apart."""
        memory = self.settings.memory
        items = np.array(memory.item_strength)
        if not items.ndim:
            items = variation(generator(self.settings.seed, "items", "strength"), float(items), self.n_items)
        return memory.strength * items * variation(self.generator("strength"), memory.subject_sd)

    def planted_latencies(self) -> dict[str, list[float]]:
        """Return when each item's components peak after a cue in NREM: {item: [s, ...]}."""
        timing = self.settings.memory.timing.NREM
        return {
            name: [round(timing.delay_s + timing.stretch * c.latency, 3) for c in components]
            for name, components in zip(self.card.item_names, self.components["semantic"], strict=True)
        }

    def awake_response(self, rng: np.random.Generator, modality: str, item: int, n: int, first: int = 0) -> np.ndarray:
        """Return `n` samples at 500 Hz of the response to an "image" or "audio", over after 1 s: (n_head, n) µV.

        `first` is the first of them, counted from the onset; before it there is no response.
        """
        memory = self.settings.memory
        t = (first + np.arange(n)) / STREAM_RATE
        gain = self.strength[item] * variation(rng, memory.trial_sd)
        response = gain * memory.semantic_uv * course(self.components["semantic"][item], t)
        response += gain * memory.modality_uv * course(self.components[modality][item], t)
        where = ("O1", "Oz", "O2") if modality == "image" else _VERTEX
        size = variation(rng, SIZE_SD)
        response += size * np.outer(self.head.patch(where), _peaks(_WAKE_POTENTIAL, t))
        return response if first >= 0 else response * (t >= 0)

    def sleep_response(self, item: int, stage: str, n: int, gain: float = 1.0, jitter_s: float = 0.0) -> np.ndarray:
        """Return the item part of a reactivation in N2, N3 or R: `n` samples at 500 Hz from the cue on, (n_head, n) µV.

        `gain` multiplies `memory.semantic_uv`; it comes `jitter_s` later than usual. Nothing is `RESPONSE_S` after
        the cue.
        """
        memory, timing = self.settings.memory, self.settings.memory.timing.of(stage)
        t = np.arange(n) / STREAM_RATE
        awake = (t - timing.delay_s - jitter_s) / timing.stretch
        fade = np.clip((RESPONSE_S - t) / _FADE_S, 0, 1)
        return gain * memory.semantic_uv * course(self.components["semantic"][item], awake) * fade

    def sound_response(self, stage: SleepKey, n: int, size: float = 1.0) -> np.ndarray:
        """Return the auditory potential that any cue evokes in sleep, from its onset on, (n_head, n) µV."""
        size = size * self.settings.memory.sound.potential_uv[stage]
        return size * np.outer(self.head.patch(_VERTEX), _peaks(_SLEEP_POTENTIAL, np.arange(n) / STREAM_RATE))

    def _draw_components(
        self, kind: str, item: int, count: int, latencies: tuple[float, float], widths: tuple[float, float]
    ) -> list[Component]:
        memory, head = self.settings.memory, self.head
        common, own = generator(self.settings.seed, "items", kind, item), self.generator("items", kind, item)
        components = []
        for _ in range(count):
            shared, personal = (_moments(rng, memory) for rng in (common, own))
            pattern = head.pattern(np.sqrt(memory.similarity) * shared + np.sqrt(1 - memory.similarity) * personal)
            pattern = pattern / pattern[: head.n_eeg].std()  # the common average takes the mean away
            width = common.uniform(*widths)
            latency = common.uniform(*latencies) + own.normal(0, _SHIFT_S)
            frequency, phase = common.uniform(0.15, 0.5) / width, common.uniform(0, 2 * np.pi)
            components.append(Component(pattern, latency, width, frequency, phase))
        return components


def subject_name(group: str, number: int) -> str:
    """Return the name in published folders and files: "subject_0", in the group "test" "subject_test_0"."""
    return f"subject_test_{number}" if group == "test" else f"subject_{number}"


@on_one_thread
def course(components: list[Component], t: np.ndarray) -> np.ndarray:
    """Return the sum of components at the times `t` (n,) in s, as potentials (n_head, n) of size 1."""
    patterns = np.stack([component.pattern for component in components], axis=1)
    return patterns @ np.stack([component.at(t) for component in components])


def propensity(subject: Subject) -> np.ndarray:
    """Return how readily each item is reactivated without a cue in this subject: shares, array (15,)."""
    sd = subject.settings.memory.spontaneous.item_sd
    common = generator(subject.settings.seed, "items", "propensity").standard_normal(subject.n_items)
    own = subject.generator("propensity").standard_normal(subject.n_items)
    weight = np.exp(sd * np.sqrt(0.5) * (common + own))
    return weight / weight.sum()


def memory_scores(subject: Subject, counts: np.ndarray) -> np.ndarray:
    """Return how well a subject remembers each item, given how much it was reactivated: (15,), 0 to 1.

    Over the items of a subject, the scores correlate with `counts` (15,), the number or summed gain of each item's
    reactivations, at `memory.behaviour_r` on average over subjects. The rest is an item effect that all subjects share,
    and chance; without any spread there is nothing else. Scores are logistic functions of a normal score, so they stay
    between 0 and 1.
    """
    memory, behaviour = subject.settings.memory, subject.settings.memory.behaviour
    rng = subject.generator("behaviour")
    personal, level = rng.standard_normal(subject.n_items), rng.standard_normal()
    common = generator(subject.settings.seed, "items", "behaviour").standard_normal(subject.n_items)
    counts = np.asarray(counts, float) - np.mean(counts)
    spread = counts.std()
    score = np.zeros(subject.n_items)
    if spread > 0:
        score = counts / spread
        # Items that all subjects reactivate more must not be the easier ones by coincidence.
        common = common - score * (common @ score) / subject.n_items
    rest = np.sqrt(behaviour.item_share) * common + np.sqrt(1 - behaviour.item_share) * personal
    z = memory.behaviour_r * score + np.sqrt(1 - memory.behaviour_r**2) * rest
    slope = behaviour.mean * (1 - behaviour.mean)  # of the logistic function at the mean
    x = np.log(behaviour.mean / (1 - behaviour.mean))
    x = x + (behaviour.item_sd * z + behaviour.subject_sd * level) / slope
    return 1 / (1 + np.exp(-x))


@on_one_thread
def _moments(rng: np.random.Generator, memory: Memory) -> np.ndarray:
    """Return dipole moments at `SOURCES`, (N,) with norm 1: patches of either sign at random places."""
    places = SOURCES[rng.choice(len(SOURCES), memory.patches)]
    sizes = rng.choice([-1.0, 1.0], memory.patches) * rng.lognormal(0, 0.3, memory.patches)
    angles = np.degrees(np.arccos(np.clip(SOURCES @ places.T, -1, 1)))
    moments = np.exp(-0.5 * (angles / memory.patch_deg) ** 2) @ sizes
    return moments / np.linalg.norm(moments)


def _peaks(peaks: tuple[tuple[float, float, float], ...], t: np.ndarray) -> np.ndarray:
    waves = [size * np.exp(-0.5 * ((t - latency) / width) ** 2) for latency, width, size in peaks]
    return np.sum(waves, axis=0)
