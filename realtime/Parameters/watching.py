"""What can be set about signal quality, arousal and control; params/realtime.yaml says why."""

from typing import Literal

from pydantic import Field, model_validator

from sleep_interpreter.utils.core.config import Settings


class QualitySettings(Settings):
    """When a channel counts as bad."""

    seconds: float = Field(4.0, ge=1, le=20)
    flat_microvolts: float = Field(0.1, ge=0)
    dead_share: float = Field(0.25, gt=0, le=1)
    largest_microvolts: float = Field(1000.0, gt=0)
    line_hz: float | None = Field(50.0, gt=10, lt=200)
    line_share: float = Field(0.8, gt=0, le=1)
    clear_seconds: float = Field(5.0, ge=0, le=120)


class ArousalSettings(Settings):
    """What counts as an arousal, and what follows."""

    enabled: bool = True
    pause_seconds: float = Field(30.0, ge=1, le=600)
    seconds: float = Field(1.5, ge=1, le=5)
    baseline_seconds: float = Field(120.0, ge=10, le=1800)
    emg_ratio: float = Field(2.0, gt=1)
    alpha_beta_ratio: float = Field(4.0, gt=1)
    movement_microvolts: float = Field(400.0, gt=0)
    wake_probability: float = Field(0.5, gt=0, le=1)


class RemoteControlSettings(Settings):
    """Control of a running session from other programs."""

    enabled: Literal["auto", "always", "never"] = "auto"
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)

    @model_validator(mode="before")
    @classmethod
    def _refuse_keyboard(cls, data):
        if isinstance(data, dict) and "keyboard" in data:
            raise ValueError(
                "keyboard: a session reads no keys any more; leave it out, and use python "
                "realtime/control.py SESSION COMMAND from another terminal, or the monitor (--monitor)"
            )
        return data

    @model_validator(mode="after")
    def _check(self):
        if not self.host:
            raise ValueError("host must not be empty; 127.0.0.1 is this machine alone")
        return self
