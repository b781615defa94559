"""Settings of the simulator (`params/simulation.yaml`), with the ranges outside which they are refused."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from data.so_groups import SO_GROUPS
from utils.config import Settings, load

Count = Annotated[int, Field(ge=0, le=100_000)]
Rate = Annotated[float, Field(ge=0, le=60)]
"""Events a minute."""
MicroVolt = Annotated[float, Field(ge=0, le=500)]
Share = Annotated[float, Field(ge=0, le=1)]
Range = tuple[MicroVolt, MicroVolt]
"""Lowest and highest amplitude of an event in µV."""
Band = tuple[Annotated[float, Field(gt=0, lt=250)], Annotated[float, Field(gt=0, lt=250)]]
"""Corners of a band-pass in Hz."""
StageKey = Literal["W", "N2", "N3", "R"]
GroupKey = Literal[SO_GROUPS]


class Stage(Settings):
    """Physiology of one stage; amplitudes in µV, rates per minute."""

    background_uv: MicroVolt
    slope: float = Field(ge=0, le=4)
    knee_hz: float = Field(1.0, ge=0.1, le=20)
    sensor_uv: MicroVolt = 0.5
    slow_waves_per_min: Rate = 0.0
    slow_wave_uv: Range = (75.0, 200.0)
    k_complexes_per_min: Rate = 0.0
    k_complex_uv: Range = (100.0, 200.0)
    spindles_per_min: Rate = 0.0
    spindle_uv: Range = (25.0, 50.0)
    alpha_uv: MicroVolt = 0.0
    theta_uv: MicroVolt = 0.0
    blinks_per_min: Rate = 0.0
    saccades_per_min: Rate = 0.0
    emg_uv: MicroVolt = 5.0
    emg_drift_uv: MicroVolt = 3.0

    @model_validator(mode="after")
    def _ordered(self):
        for name in ("slow_wave_uv", "k_complex_uv", "spindle_uv"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} runs from {low} to {high}: the lower end comes first")
        return self


class Stages(Settings):
    """The four stages."""

    W: Stage
    N2: Stage
    N3: Stage
    R: Stage


class Cohort(Settings):
    """How many subjects and trials."""

    train_subjects: Count
    test_subjects: Count
    train_trials: Count
    test_trials: Count
    rem_trials: Count
    so_trials: Count
    awake_trials: int = Field(ge=1, le=1000)
    data_type_shares: tuple[Share, Share, Share] = (0.6, 0.2, 0.2)
    n3_share: Share = 0.5

    @model_validator(mode="after")
    def _whole(self):
        if abs(sum(self.data_type_shares) - 1) > 1e-6:
            raise ValueError(f"data_type_shares {self.data_type_shares} must add up to 1")
        return self


class Memory(Settings):
    """The planted signal: what the decoder can find and what it must not be misled by."""

    strength: float = Field(ge=0, le=20)
    semantic_uv: MicroVolt
    modality_uv: MicroVolt
    similarity: Share
    components: int = Field(ge=1, le=10)
    sleep_gain: float = Field(ge=0, le=5)
    sleep_delay_s: float = Field(ge=0, le=1)
    sleep_stretch: float = Field(ge=0.5, le=3)
    jitter_s: float = Field(ge=0, le=0.5)
    reactivated: Share
    evoked_uv: MicroVolt
    evoked_share: Share
    rem_gain: float = Field(ge=0, le=5)


class SlowOscillation(Settings):
    """The oscillation in every trial of the SO files, and how strong the memory signal is in each group."""

    amplitude_uv: Range
    share: dict[GroupKey, Annotated[float, Field(ge=0, le=5)]]

    @model_validator(mode="after")
    def _whole(self):
        if self.amplitude_uv[0] > self.amplitude_uv[1]:
            raise ValueError(f"amplitude_uv {self.amplitude_uv}: the lower end comes first")
        missing = [group for group in SO_GROUPS if group not in self.share]
        if missing:
            raise ValueError(f"share lacks the group {missing[0]!r}")
        return self


class StagingData(Settings):
    """Windows for the stagers."""

    train_subjects: Count
    test_subjects: Count
    epochs: Count
    corners_hz: tuple[Band, Band, Band] = ((0.3, 35.0), (0.3, 35.0), (10.0, 100.0))

    @model_validator(mode="after")
    def _ordered(self):
        if any(low >= high for low, high in self.corners_hz):
            raise ValueError(f"corners_hz {self.corners_hz}: the lower corner comes first")
        return self


class Recording(Settings):
    """The continuous night."""

    stages: tuple[tuple[StageKey, Annotated[float, Field(gt=0, le=600)]], ...] = Field(min_length=1)
    cues_from_min: float = Field(ge=0, le=600)
    cue_interval_s: tuple[Annotated[float, Field(ge=2, le=60)], Annotated[float, Field(ge=2, le=60)]]
    test_subject: Count = 0

    @model_validator(mode="after")
    def _possible(self):
        for stage, minutes in self.stages:
            if abs(minutes * 2 - round(minutes * 2)) > 1e-9:
                raise ValueError(f"stage {stage} lasts {minutes} min: give whole epochs of 30 s")
        if self.cue_interval_s[0] > self.cue_interval_s[1]:
            raise ValueError(f"cue_interval_s {self.cue_interval_s}: the lower end comes first")
        return self


class Simulation(Settings):
    """Everything a simulated data set depends on."""

    seed: int = Field(ge=0, le=2**32 - 1)
    cohort: Cohort
    memory: Memory
    stages: Stages
    slow_oscillation: SlowOscillation
    staging: StagingData
    recording: Recording


def load_settings(preset, overrides=()):
    """Read params/simulation.yaml with one preset ("demo", "test") and `--set` changes merged in."""
    return load(Simulation, "simulation", mode=preset, overrides=overrides)
