"""The simulated head: dipoles in a sphere of three layers, and electrodes on it.

The forward solution is MNE's for a spherical head (Berg and Scherg 1994). A subject's radius, conductivities
and electrode places differ a little from everybody else's. The eyes lie outside the brain's sphere; their
dipoles are taken in a homogeneous conductor of infinite extent, V = p · d / (4 pi sigma |d|³), good enough
for the size and the sides of eye movements.
"""

import zlib
from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np

from sleep_interpreter.data.simulation.random_numbers import generator
from sleep_interpreter.data.simulation.settings import HeadSettings
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError, did_you_mean
from sleep_interpreter.utils.core.parallel import on_one_thread
from sleep_interpreter.utils.signal.electrodes import standard_montage

MASTOIDS = ("M1", "M2")
EOG = ("EOG1", "EOG2")
EMG = ("EMG1", "EMG2")

_DEPTH = 0.82  # sources lie at this share of the head's radius: cortex, below a brain's surface at 0.90
_RELATIVE_RADII = (0.90, 0.92, 0.97, 1.0)
_CSF_S_M = 1.0
_CANTHI = {"EOG1": (-0.74, 0.60, -0.42), "EOG2": (0.74, 0.60, -0.20)}
"""Directions of the EOG electrodes: beside the outer canthi, the left one 1 cm lower, the right one 1 cm
higher (AASM manual)."""
_EYES = np.array([[-0.34, 0.78, -0.31], [0.34, 0.78, -0.31]])  # centres of the eyeballs in radii of the head


@cache
def sphere_points(count: int, lowest: float) -> np.ndarray:
    """Return `count` directions spread evenly over the head above height `lowest` (golden spiral), (n, 3)."""
    height = lowest + (1 - lowest) * (np.arange(count) + 0.5) / count
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    radius = np.sqrt(1 - height**2)
    return np.column_stack([radius * np.cos(turn), radius * np.sin(turn), height])


SOURCES = sphere_points(162, -0.3)
"""Directions of the sources from the head's centre, x to the right, y to the nose: the same in all heads."""


@cache
@on_one_thread
def _template() -> dict[str, np.ndarray]:
    """Return {name: direction from the head's centre} of the 10-05 positions."""
    places = standard_montage().get_positions()["ch_pos"]
    points = np.array([places[name] for name in (*published().channels, *MASTOIDS)])
    # Least squares for the sphere |p - c|² = r², linear in c and r² - |c|².
    design = np.column_stack([2 * points, np.ones(len(points))])
    centre = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)[0][:3]
    return {name: _unit(point - centre) for name, point in places.items()}


def electrode_direction(name: str) -> np.ndarray:
    """Return the direction of a 10-05 position, an EOG electrode or a mastoid from the centre, (3,)."""
    if name in _CANTHI:
        return _unit(np.array(_CANTHI[name]))
    template = _template()
    if name not in template:
        hint = did_you_mean(name, template)
        raise UserError(f"head.montage: {name!r} is no position of the 10-05 system{hint and f'; {hint}'}")
    return template[name]


class Head:
    """How one subject's sources reach the electrodes.

    `rng` is the subject's own. `names` are the head channels: the EEG montage (the first `n_eeg`), M1, M2, EOG1, EOG2;
    `positions` (n, 3) theirs in m from the centre of the sphere with `radius` in m; `gain` (n,) what each one's
    amplifier multiplies its signal by; `conductivities` those of brain, cerebrospinal fluid, skull and scalp in S/m.
    """

    def __init__(self, rng: np.random.Generator, settings: HeadSettings) -> None:
        self.names = (*settings.montage, *MASTOIDS, *EOG)
        self.n_eeg = len(settings.montage)
        self.radius = 1e-3 * np.clip(rng.normal(settings.radius_mm, settings.radius_sd_mm), 70, 120)
        brain, ratio = (
            middle * np.exp(settings.conductivity_sd * rng.standard_normal())
            for middle in (settings.brain_s_m, settings.skull_ratio)
        )
        self.conductivities = (brain, _CSF_S_M, brain / ratio, brain)
        standard = np.array([electrode_direction(name) for name in self.names])
        jitter = 1e-3 * settings.jitter_mm / self.radius * rng.standard_normal(standard.shape)
        self.positions = self.radius * _unit(standard + jitter)
        self.gain = np.clip(rng.normal(1, settings.gain_sd, len(self.names)), 0.5, 1.5)
        self._wobble = np.radians(settings.wobble_deg)
        self._seed = int(rng.integers(2**63))
        self._patches: dict[tuple, np.ndarray] = {}
        self._distances: dict[str, np.ndarray] = {}

    @cached_property
    @on_one_thread
    def leadfield(self) -> np.ndarray:
        """Return the potentials of radial dipoles of 1 nAm at `SOURCES`, (n, N) µV against the mastoids."""
        import mne  # lazy: start-up

        model = mne.make_sphere_model(
            (0.0, 0.0, 0.0), self.radius, relative_radii=_RELATIVE_RADII, sigmas=self.conductivities, verbose="error"
        )
        info = mne.create_info(list(self.names), 500.0, "eeg")
        places = dict(zip(self.names, self.positions, strict=True))
        info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
        sources = mne.setup_volume_source_space(
            pos={"rr": _DEPTH * self.radius * SOURCES, "nn": SOURCES}, verbose="error"
        )
        forward = mne.make_forward_solution(
            info, trans=None, src=sources, bem=model, meg=False, eeg=True, mindist=0.0, verbose="error"
        )
        moments = forward["sol"]["data"].reshape(len(self.names), len(SOURCES), 3)  # V per Am, three axes
        radial = np.einsum("csa,sa->cs", moments, SOURCES)
        return self.referenced(1e-9 * 1e6 * radial)

    def referenced(self, potentials: np.ndarray) -> np.ndarray:
        """Return potentials (n, ...) of the head channels against the mean of the mastoids."""
        return potentials - potentials[self.n_eeg : self.n_eeg + len(MASTOIDS)].mean(axis=0)

    @on_one_thread
    def pattern(self, moments: np.ndarray) -> np.ndarray:
        """Return the potentials of dipole moments (N,) in nAm at `SOURCES`, pointing outwards: (n,) in µV."""
        return self.leadfield @ np.asarray(moments, float)

    @on_one_thread
    def patch(self, where: str | Sequence[str] | np.ndarray, spread_deg: float = 25.0) -> np.ndarray:
        """Return the topography of a patch of cortex, (n,) against the mean mastoid; 1 at the largest EEG channel.

        `where` names an electrode or several, the middle of which is meant, or is a direction (3,); the subject's own
        patch is a little beside it, always at the same place. `spread_deg` is the SD of the patch's Gaussian, seen
        from the centre of the head.
        """
        if isinstance(where, str):
            where = (where,)
        named = isinstance(where[0], str)
        words = tuple(where) if named else (zlib.crc32(np.asarray(where, float).tobytes()),)
        key = (words, float(spread_deg))
        if key not in self._patches:
            place = np.mean([electrode_direction(w) for w in where], axis=0) if named else np.asarray(where)
            own = generator(self._seed, *words).standard_normal(3)
            angle = SOURCES @ _unit(_unit(place) + self._wobble * own)
            degrees = np.degrees(np.arccos(np.clip(angle, -1, 1)))
            topography = self.pattern(np.exp(-0.5 * (degrees / spread_deg) ** 2))
            eeg = topography[: self.n_eeg]
            self._patches[key] = topography / eeg[np.abs(eeg).argmax()]
        return self._patches[key]

    def distance(self, name: str) -> np.ndarray:
        """Return how far it is along the scalp from a 10-05 position to each head channel, (n,) in m."""
        if name not in self._distances:
            cosine = _unit(self.positions) @ electrode_direction(name)
            arc = self.radius * np.arccos(np.clip(cosine, -1, 1))
            if name in self.names:
                arc[self.names.index(name)] = 0.0
            self._distances[name] = arc
        return self._distances[name]

    @cached_property
    def eyes(self) -> np.ndarray:
        """Return what turning the eyes changes: to the right and upwards, two topographies (n, 2).

        To the right, EOG2 rises by 1 against EOG1; upwards, the EEG channel that changes most does by 1.
        """
        distance = self.positions[:, None] - self.radius * _EYES
        field = (distance / np.linalg.norm(distance, axis=2, keepdims=True) ** 3).sum(axis=1)
        field = self.referenced(field)  # (n, 3): for a moment along each axis, 4 pi sigma apart
        right, up = field[:, 0], field[:, 2]
        left_eye, right_eye = (self.names.index(name) for name in EOG)
        right = right / (right[right_eye] - right[left_eye])
        return np.column_stack([right, up / up[: self.n_eeg].max()])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
