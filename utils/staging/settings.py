"""What can be set about staging and the cue gate, offline and in real time; params/realtime.yaml says why."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from sleep_interpreter.utils.core.config import Settings, UserPath
from sleep_interpreter.utils.staging.registry import STAGERS

Corners = tuple[float, float]


class YasaSettings(Settings):
    """YASA's classifier on the past of the recording."""

    history_minutes: float = Field(120.0, gt=0)
    minimum_minutes: float = Field(5.0, ge=0.5)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.history_minutes < self.minimum_minutes:
            raise ValueError("history_minutes must not be shorter than minimum_minutes")
        return self


class FilterSettings(Settings):
    """Band-pass corners in Hz in front of the staging network."""

    eeg: Corners = (0.3, 35.0)
    eog: Corners = (0.3, 35.0)
    emg: Corners = (10.0, 100.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("eeg", "eog", "emg"):
            low, high = getattr(self, name)
            if not 0 < low < high < 250:
                raise ValueError(f"{name}: corners ({low}, {high}) Hz must rise between 0 and 250 Hz")
        return self


class StagingSettings(Settings):
    """Which stager, how often, and what it needs."""

    stager: Annotated[str, AfterValidator(STAGERS.check)] = "yasa"
    checkpoint: UserPath | None = None
    every_seconds: float = Field(5.0, ge=0.1, le=30)
    answer_seconds: float = Field(1.0, gt=0, le=4)
    silent_seconds: float = Field(12.0, ge=5, le=60)
    timeout_seconds: float = Field(10.0, ge=1, le=60)
    flat_microvolts: float = Field(0.01, ge=0)
    dead_share: float = Field(0.1, gt=0, le=1)
    yasa: YasaSettings = YasaSettings()
    filters: FilterSettings = FilterSettings()


class GateSettings(Settings):
    """When cues may be played."""

    smoothing: float = Field(0.2, gt=0, le=1)
    nrem_probability: float = Field(0.8, ge=0, le=1)
    nrem_detections: PositiveInt = 30
    rem: bool = False
    rem_probability: float = Field(0.8, ge=0, le=1)
    rem_detections: PositiveInt = 30
