"""Simulated subjects and scenes for the simulator's tests."""

from typing import NamedTuple

import numpy as np
from scipy import signal

from sleep_interpreter.data.simulation.night import recorded_night
from sleep_interpreter.data.simulation.scene import Scene
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.data.simulation.subject import Subject

STAGES = ("W", "N1", "N2", "N3", "R")
RATES = (
    "slow_oscillations_per_min", "k_complexes_per_min", "spindles_per_min", "blinks_per_min",
    "saccades_per_min", "saccade_bursts_per_min", "slow_eye_movements_per_min", "sawtooth_bursts_per_min",
    "arousals_per_h", "movements_per_h",
)  # fmt: skip
NO_EVENTS = tuple(f"stages.{stage}.{rate}=0" for stage in STAGES for rate in RATES)
NO_RHYTHMS = tuple(f"stages.{stage}.{name}_uv=0" for stage in STAGES for name in ("alpha", "theta", "beta"))
NO_BACKGROUND = tuple(f"stages.{stage}.{name}_uv=0" for stage in STAGES for name in ("background", "emg"))
NO_SENSORS = (
    "sensors.noise_uv=0",
    "sensors.drift_uv=0",
    "sensors.line_uv=0",
    "sensors.bad_channels_per_h=0",
    "head.gain_sd=0",
)
SILENT = NO_EVENTS + NO_RHYTHMS + NO_BACKGROUND + NO_SENSORS
"""Nothing at all: what is set after these is all there is."""
ALIKE = ("stages.subject_sd=0", "stages.epoch_sd=0")


def subject(*overrides, number=0):
    """Return a simulated subject of preset test."""
    return Subject(load_settings("test", overrides), "train", number)


def scene(stages, *overrides, number=0, **options):
    """Return a scene of such a subject; `stages` is a mapping of stages to numbers of epochs."""
    keys = [key for key, count in stages.items() for _ in range(count)]
    return Scene(subject(*overrides, number=number), ("test",), keys, **options)


def rendered(made, *names):
    """Return a whole scene, or the given channels of it in their order."""
    places = [made.names.index(name) for name in names or made.names]
    chunks = [made.render(a, min(a + 15_000, made.n))[places] for a in range(0, made.n, 15_000)]
    return np.concatenate(chunks, axis=1)


def density(x, seconds=4):
    """Return frequencies and power spectral density along the last axis."""
    return signal.welch(x, 500, nperseg=int(500 * seconds), axis=-1)


def band_power(x, low, high):
    """Return the power between two frequencies along the last axis."""
    f, power = density(x)
    return power[..., (f >= low) & (f < high)].sum(axis=-1) * f[1]


def in_stage(made, key):
    """Say for every sample whether it lies in a stage, a second from its edges left out."""
    own = np.repeat([stage == key for stage in made.stages], 15_000)[: made.n]
    return np.convolve(own, np.ones(1001), "same") > 1000.5


class Recording(NamedTuple):
    """The short recording in memory: data (61, n) µV, stages of epochs, (sample, item) of cues, channels."""

    data: np.ndarray
    stages: list[str]
    cues: list[tuple[int, int]]
    names: tuple[str, ...]


def simulate_recording(settings):
    """Simulate the short recording that `settings.recording` describes into memory."""
    night = recorded_night(settings)
    cues = list(zip(night.cues["sample"].tolist(), night.cues["item_index"].tolist(), strict=True))
    data = night.scene.render(0, night.scene.n)
    return Recording(data, list(night.scene.stages), cues, tuple(night.scene.names))
