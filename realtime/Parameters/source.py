"""What can be set about the source of the signal, and about recording it; params/realtime.yaml says why."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from sleep_interpreter.realtime.Utils.registries import SOURCES
from sleep_interpreter.utils.core.config import Settings, UserPath


class LslSettings(Settings):
    """Which stream of the Lab Streaming Layer, and what it must be."""

    name: str | None = None
    type: str | None = "EEG"
    source_id: str | None = None
    timeout_seconds: float = Field(10.0, gt=0, le=120)
    loopback: bool = True
    session_id: str = Field("default", pattern=r"^[A-Za-z0-9_-]+$")
    rate: float | None = Field(None, gt=0)
    unit: Literal["V", "mV", "uV"] | None = None
    without_source_id: bool = False


class BrainflowSettings(Settings):
    """Which board (brainflow's names and parameters)."""

    board: str = "SYNTHETIC_BOARD"
    serial_port: str = ""
    ip_address: str = ""
    ip_port: int = Field(0, ge=0, le=65535)
    mac_address: str = ""
    serial_number: str = ""
    master_board: str | None = None
    file: str = ""


class SimulateSettings(Settings):
    """The simulated sleeper."""

    subject: int = Field(0, ge=0)
    preset: str = "demo"
    hours: float = Field(8.0, gt=0, le=24)
    start_minutes: float = Field(0.0, ge=0)
    stage: Literal["W", "N1", "N2", "N3", "R"] | None = None
    counters: int = Field(0, ge=0, le=64)
    overrides: tuple[str, ...] = ()


class SourceSettings(Settings):
    """How the stream is found, read, paced and checked; `options` are of a source of another package."""

    kind: Annotated[str, AfterValidator(SOURCES.check)] = "replay"
    speed: float = Field(0.0, ge=0)
    unit: Literal["V", "uV"] = "V"
    start: float = Field(0.0, ge=0)
    stop: float | None = Field(None, gt=0)
    read_seconds: float = Field(4.0, gt=0, le=60)
    chunk_seconds: float | None = Field(None, gt=0, le=60)
    amplitude_range: tuple[float, float] = (0.5, 500.0)
    amplitude_windows: PositiveInt = 20
    stall_seconds: float = Field(1.0, ge=0.2, le=10)
    lost_seconds: float = Field(5.0, ge=1, le=60)
    behind_seconds: float = Field(0.5, ge=0.2, le=10)
    gap_seconds: float = Field(0.015, gt=0, le=1)
    look_seconds: float = Field(3.0, ge=0.5, le=60)
    lsl: LslSettings = LslSettings()
    brainflow: BrainflowSettings = BrainflowSettings()
    simulate: SimulateSettings = SimulateSettings()
    options: dict[str, Any] | None = Field(None, exclude_if=lambda value: value is None)

    @property
    def pace(self) -> float:
        """How fast the samples come: an amplifier's come at 1, whatever `speed` says."""
        return 1.0 if SOURCES.load(self.kind).amplifier else self.speed

    @model_validator(mode="after")
    def _check(self) -> Self:
        if 0 < self.speed < 0.1:
            raise ValueError(f"speed {self.speed}: permitted are 0 (as fast as possible) and 0.1 or more")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop ({self.stop} s) must lie after start ({self.start} s)")
        low, high = self.amplitude_range
        if not 0 < low < high:
            raise ValueError(f"amplitude_range ({low}, {high}) must be two rising positive numbers in µV")
        return self


class RecordingSettings(Settings):
    """Recording of the raw stream."""

    enabled: bool = True
    sync_seconds: float = Field(1.0, ge=0.1, le=10)
    reserve_gib: float = Field(1.0, ge=0)
    xdf: bool = False
    second_folder: UserPath | None = Field(None, exclude_if=lambda value: value is None)
