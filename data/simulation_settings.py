"""Settings of the simulator (`params/simulation.yaml`)."""

from pydantic import Field

from data.simulation_body_settings import HeadSettings, SensorSettings, Stages
from data.simulation_cohort_settings import Cohort, Night, Recording, StagingData
from data.simulation_memory_settings import Gate, Memory
from utils.config import Settings, load


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
