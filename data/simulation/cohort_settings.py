"""Settings of what is simulated: cohort, staging, night, recording; with the ranges that are permitted."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from sleep_interpreter.data.simulation.hypnogram import EPOCHS_PER_MIN, StageKey
from sleep_interpreter.utils.core.config import Settings

Count = Annotated[int, Field(ge=0, le=100_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Minutes = Annotated[float, Field(ge=0, le=600)]
Band = tuple[Annotated[float, Field(gt=0, lt=250)], Annotated[float, Field(gt=0, lt=250)]]
"""Corners of a band-pass in Hz."""


def _whole_epochs(plan):
    if not plan:
        raise ValueError("the hypnogram is empty: list [stage, minutes]")
    for stage, minutes in plan:
        if (minutes * EPOCHS_PER_MIN) % 1:
            raise ValueError(f"stage {stage} lasts {minutes} min: give whole epochs of 30 s")
    return plan


_Bouts = tuple[tuple[StageKey, Annotated[float, Field(gt=0, le=960)]], ...]
Plan = Annotated[_Bouts, AfterValidator(_whole_epochs)]
"""Stages with their minutes."""


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


class CuePlan(Settings):
    """When cues are given: in N2 and N3, and in R if `rem_cues`.

    The first one comes no earlier than `cues_from_min` after the first epoch of sleep, and every one only
    after `settled_s` of uninterrupted sleep of these stages, as a cautious session gives them.
    """

    cues_from_min: Minutes
    settled_s: float = Field(0.0, ge=0, le=3600)
    cue_interval_s: tuple[Annotated[float, Field(ge=2, le=60)], Annotated[float, Field(ge=2, le=60)]]
    rem_cues: bool = False

    @model_validator(mode="after")
    def _ordered(self):
        if self.cue_interval_s[0] > self.cue_interval_s[1]:
            raise ValueError(f"cue_interval_s {self.cue_interval_s}: the lower end comes first")
        return self


class Wake(Settings):
    """Two wake sessions, pictures and sounds: eyes closed at first, then every item `repetitions` times."""

    repetitions: int = Field(ge=1, le=1000)
    interval_s: tuple[Annotated[float, Field(ge=1, le=60)], Annotated[float, Field(ge=1, le=60)]]
    rest_min: float = Field(ge=0, le=60)

    @model_validator(mode="after")
    def _ordered(self):
        if self.interval_s[0] > self.interval_s[1]:
            raise ValueError(f"interval_s {self.interval_s}: the lower end comes first")
        return self


class Night(CuePlan):
    """Raw nights and wake sessions: of how many subjects, and how they go.

    `hypnogram` is None for nights of the model of params/hypnogram.yaml, otherwise [stage, minutes] pairs or
    the path of a text file with one stage a line; `hours` makes the model's nights equally long.
    """

    train_subjects: Count
    test_subjects: Count
    hypnogram: str | Plan | None = None
    hours: float | None = Field(None, ge=1, le=16)
    resolution_uv: float = Field(0.1, ge=0.001, le=1)
    wake: Wake


class Recording(CuePlan):
    """The short continuous recording for the real-time session."""

    stages: Plan
    test_subject: Count = 0
