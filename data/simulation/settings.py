"""Settings of the simulator (`params/simulation.yaml`)."""

from pydantic import Field

from sleep_interpreter.data.simulation.body_settings import HeadSettings, SensorSettings, Stages
from sleep_interpreter.data.simulation.cohort_settings import Cohort, Night, Recording, StagingData
from sleep_interpreter.data.simulation.memory_settings import Gate, Memory
from sleep_interpreter.utils.core.config import Settings, load


class Simulation(Settings):
    """Everything a simulated data set depends on."""

    seed: int = Field(ge=0, le=2**32 - 1)
    head: HeadSettings
    sensors: SensorSettings
    stages: Stages
    memory: Memory
    gate: Gate
    cohort: Cohort
    staging: StagingData
    night: Night
    recording: Recording


def load_settings(preset, overrides=()):
    """Read params/simulation.yaml with one preset ("test", "demo", "paper") and `--set` changes merged in."""
    return load(Simulation, "simulation", mode=preset, overrides=overrides)
