"""The items' own signals: source patterns with a short time course, similar but not equal in all subjects.

An item has a few semantic components, shared between wake and sleep, and one early component for its
picture and one for its sound. A component is a set of smooth cortical patches times a Gaussian wave packet.
`similarity` says how much of the source variance all subjects have in common; their heads differ besides.
Time courses are shared but for a personal shift of some 10 ms.
"""

from typing import NamedTuple

import numpy as np

from sleep_interpreter.data.simulation.head import SOURCES, generator
from sleep_interpreter.utils.core.constants import ITEMS
from sleep_interpreter.utils.core.parallel import on_one_thread

MODALITIES = ("image", "audio")
SEMANTIC_S = (0.3, 0.6)
"""Range of the semantic components' latencies in wake."""
EARLY_S = (0.10, 0.22)
"""Range of the early components' latencies."""

_SEMANTIC_WIDTH_S, _EARLY_WIDTH_S = (0.06, 0.11), (0.02, 0.05)
_SHIFT_S = 0.01


class Component(NamedTuple):
    """One spatial pattern with its time course: a Gaussian in time times a cosine.

    Attributes
    ----------
    pattern : array (n_head,)
        Potentials against the mean mastoid; over the EEG channels, after the common average, their root mean
        square is 1.
    latency, width : float
        Centre and standard deviation of the Gaussian in s.
    frequency, phase : float
        Of the cosine, in Hz and rad.
    """

    pattern: np.ndarray
    latency: float
    width: float
    frequency: float
    phase: float

    def at(self, t):
        """Return the time course at the times `t` in s after the onset of a picture or sound."""
        x = t - self.latency
        return np.exp(-0.5 * (x / self.width) ** 2) * np.cos(2 * np.pi * self.frequency * x + self.phase)


class Items:
    """One subject's version of the 15 items.

    Parameters
    ----------
    memory : sleep_interpreter.data.simulation.memory_settings.Memory
    seed : int
        Of what all subjects share.
    head : sleep_interpreter.data.simulation.head.Head
    own : callable
        `own(*purpose)` returns the subject's random generator of a purpose.

    Attributes
    ----------
    semantic : list of list of Component
        `memory.components` for each item.
    early : dict of str to list of list of Component
        One for each item, for "image" and "audio".
    """

    def __init__(self, memory, seed, head, own):
        def drawn(kind, count, latencies, widths):
            return [
                _components(
                    memory, head, generator(seed, "items", kind, item), own("items", kind, item),
                    count, latencies, widths,
                )
                for item in range(len(ITEMS))
            ]  # fmt: skip

        self.semantic = drawn("semantic", memory.components, SEMANTIC_S, _SEMANTIC_WIDTH_S)
        self.early = {modality: drawn(modality, 1, EARLY_S, _EARLY_WIDTH_S) for modality in MODALITIES}

    def arrays(self):
        """Return everything planted about the items as arrays for a truth file.

        Returns
        -------
        arrays : dict of str to array
            For each kind ("semantic", "image", "audio") `<kind>_pattern` (15, k, n_head) and
            `<kind>_latency_s`, `<kind>_width_s`, `<kind>_frequency_hz`, `<kind>_phase_rad`, each (15, k).
        """
        names = ("pattern", "latency_s", "width_s", "frequency_hz", "phase_rad")
        return {
            f"{kind}_{name}": np.array([[component[place] for component in item] for item in items])
            for kind, items in {"semantic": self.semantic, **self.early}.items()
            for place, name in enumerate(names)
        }


@on_one_thread
def course(components, t):
    """Return the sum of components at the times `t` (n,) in s, as potentials (n_head, n) of size 1."""
    patterns = np.stack([component.pattern for component in components], axis=1)
    return patterns @ np.stack([component.at(t) for component in components])


def variation(rng, sd, n=None):
    """Return factors around 1: lognormal, `sd` of the logarithm, mean 1."""
    return np.exp(sd * rng.standard_normal(n) - 0.5 * sd**2)


def _components(memory, head, common, own, count, latencies, widths):
    components = []
    for _ in range(count):
        shared, personal = (_moments(rng, memory) for rng in (common, own))
        mixed = np.sqrt(memory.similarity) * shared + np.sqrt(1 - memory.similarity) * personal
        pattern = head.pattern(mixed)
        width = common.uniform(*widths)
        components.append(
            Component(
                pattern=pattern / pattern[: head.n_eeg].std(),  # the common average takes the mean away
                latency=common.uniform(*latencies) + own.normal(0, _SHIFT_S),
                width=width,
                frequency=common.uniform(0.15, 0.5) / width,
                phase=common.uniform(0, 2 * np.pi),
            )
        )
    return components


@on_one_thread
def _moments(rng, memory):
    """Return dipole moments at `SOURCES`, (N,) with norm 1: patches of either sign at random places."""
    places = SOURCES[rng.choice(len(SOURCES), memory.patches)]
    sizes = rng.choice([-1.0, 1.0], memory.patches) * rng.lognormal(0, 0.3, memory.patches)
    angles = np.degrees(np.arccos(np.clip(SOURCES @ places.T, -1, 1)))
    moments = np.exp(-0.5 * (angles / memory.patch_deg) ** 2) @ sizes
    return moments / np.linalg.norm(moments)
