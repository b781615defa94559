"""What can be set about cues; params/realtime.yaml says why."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from sleep_interpreter.utils.core.config import Settings


class LockSettings(Settings):
    """Locking of cues to a phase of the slow oscillation (`realtime.Cues.phase_locking`)."""

    method: Literal["none", "threshold_delay", "echt"] = "none"
    channel: str | None = None
    target_degrees: float = Field(0.0, gt=-180, lt=180)
    threshold_uv: float = Field(-60.0, ge=-300, le=-10)
    adaptive: bool = True
    learn: bool = False
    trough_to_peak_s: float = Field(0.53, ge=0.2, le=1.2)
    echt_band_hz: tuple[float, float] = (0.3, 2.0)
    lead_seconds: float = Field(0.06, ge=0.02, le=0.5)
    wait_seconds: float = Field(20.0, ge=1, le=600)
    otherwise: Literal["cue", "skip"] = "cue"

    @model_validator(mode="after")
    def _check(self):
        low, high = self.echt_band_hz
        if not 0.1 <= low < high <= 4:
            raise ValueError(f"echt_band_hz ({low}, {high}) must rise between 0.1 and 4 Hz")
        return self


class CueSettings(Settings):
    """When which item is cued."""

    mode: Literal["scheduled", "recorded"] = "scheduled"
    interval_seconds: tuple[float, float] = (4.0, 6.0)
    group_seconds: float = Field(30.0, ge=1)
    groups: tuple[tuple[int, ...], tuple[int, ...]] = (tuple(range(8)), tuple(range(8, 15)))
    lead_seconds: float = Field(0.2, ge=0, le=1)
    sound_recorded: bool = False
    rule: Literal["published", "balanced"] = "published"
    playlist: str | None = None
    sham_share: float = Field(0.0, ge=0, le=0.9)
    max_per_hour: PositiveInt | None = None
    lock: LockSettings = LockSettings()

    @model_validator(mode="after")
    def _check(self):
        low, high = self.interval_seconds
        if self.mode == "recorded" and self.lock.method != "none":
            raise ValueError("lock.method must be none with recorded cues: their times are given")
        if not 2.5 <= low <= high:
            raise ValueError(
                f"interval_seconds ({low}, {high}) must rise and be at least 2.5 s: "
                "the response to a cue is read for 1.8 s"
            )
        if low <= self.lead_seconds:
            raise ValueError("lead_seconds must be shorter than the interval between cues")
        items = [i for group in self.groups for i in group]
        if not all(self.groups) or sorted(set(items)) != sorted(items):
            raise ValueError("groups must not be empty and must not share an item")
        if not set(items) <= set(range(15)):
            raise ValueError("groups hold item numbers from 0 to 14")
        return self
