"""What can be set about sound and markers; params/realtime.yaml says why."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from sleep_interpreter.realtime.Utils.registries import MARKER_PORTS, SOUND_SINKS
from sleep_interpreter.utils.core.config import Settings, UserPath
from sleep_interpreter.utils.core.errors import UserError

CUE_BASE = 1
"""Marker of item 0 (published; so are those that follow)."""
DECODED_BASE = 21
DECODE_FAILED = 36
GROUP_BASE = 90
PUBLISHED = frozenset({*range(CUE_BASE, 16), *range(DECODED_BASE, DECODE_FAILED + 1), GROUP_BASE, 91})
"""Codes that are taken: cues, decodes, a failed decode, groups."""
MOST_PUBLISHED = DECODE_FAILED - DECODED_BASE
"""Items that the published codes are enough for."""
_LARGEST = 255


@dataclass(frozen=True)
class MarkerCodes:
    """The codes of a session's events, for any number of items; of up to 15 as published.

    With n items more than that: cue 1 to n, decoded n + 1 to 2 n, decode failed 2 n + 1, groups 2 n + 2 and 2 n + 3:
    a byte holds those of 126 items.
    """

    cue_base: int = CUE_BASE
    decoded_base: int = DECODED_BASE
    decode_failed: int = DECODE_FAILED
    group_base: int = GROUP_BASE
    items: int = 15

    @classmethod
    def of(cls, items: int) -> Self:
        """Return the codes for so many items."""
        if items <= MOST_PUBLISHED:
            return cls(items=items)
        return cls(CUE_BASE, items + 1, 2 * items + 1, 2 * items + 2, items)

    def cue(self, item: int) -> int:
        """Return the code of a cue of this item."""
        return self.cue_base + item

    def decoded(self, item: int) -> int:
        """Return the code of a decode into this item."""
        return self.decoded_base + item

    def group(self, group: int) -> int:
        """Return the code of a group's turn."""
        return self.group_base + group

    def check(self, markers: "MarkerSettings") -> None:
        """Refuse codes that a byte does not hold, where there is a port, and further codes that are taken."""
        largest = self.group(1)
        if largest > _LARGEST and markers.chosen():
            raise UserError(
                f"markers: {self.items} items need codes up to {largest}, a marker is a byte (at most 126 items); "
                "send none (no port in markers): the log holds every event"
            )
        if self.items <= MOST_PUBLISHED or largest > _LARGEST:  # `MarkerSettings` refuses the published; to no port
            return
        for code in (c for c in (markers.sham_code, *(markers.stage_codes or ())) if c is not None):
            if code <= largest:
                raise UserError(
                    f"markers: code {code} is taken: with {self.items} items 1 to {largest} are; free are "
                    f"{max(largest, DECODE_FAILED) + 1}-{_LARGEST} without {GROUP_BASE} and {GROUP_BASE + 1}"
                )


class AudioSettings(Settings):
    """Where cues sound, and how loud at most.

    `sink` is "auto" or a name in `SOUND_SINKS`; `options` are settings of a sink of another package.
    """

    sink: str = "auto"
    options: dict[str, Any] | None = Field(None, exclude_if=lambda value: value is None)
    device: str | None = None
    rate: int = Field(16000, ge=8000, le=96000)
    folder: UserPath | None = None
    fade_seconds: float = Field(0.005, ge=0, le=0.1)
    max_seconds: float = Field(0.5, gt=0, le=2)
    volume_db: float = Field(-20.0, ge=-120)
    calibration: UserPath | None = None
    max_db: float = Field(-6.0, le=0)
    late_seconds: float = Field(0.05, ge=0.005, le=5)

    @field_validator("sink")
    @classmethod
    def _check_sink(cls, value: str) -> str:
        return value if value == "auto" else SOUND_SINKS.check(value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.volume_db > self.max_db:
            raise ValueError(f"volume_db ({self.volume_db}) is above the cap max_db ({self.max_db})")
        return self


class SerialSettings(Settings):
    """A serial port, or a trigger box that is one."""

    port: str
    baud: int = Field(115200, ge=1200)
    pulse_seconds: float = Field(0.01, gt=0, le=0.1)
    reset: bool = True


class ParallelSettings(Settings):
    """A parallel port."""

    port: str = "/dev/parport0"
    pulse_seconds: float = Field(0.01, gt=0, le=0.1)
    library: str = "inpoutx64.dll"


class MarkerSettings(Settings):
    """Markers for other programs; the log holds them in any case.

    `ports` are further ones of `MARKER_PORTS`, by name, each with settings of its own.
    """

    lsl: bool = False
    serial: SerialSettings | None = None
    parallel: ParallelSettings | None = None
    ports: dict[str, dict[str, Any]] | None = Field(None, exclude_if=lambda value: value is None)
    sham_code: int | None = Field(None, ge=1, le=255)
    stage_codes: tuple[int, int, int, int] | None = None
    name: str = "SleepInterpreterMarkers"
    source_id: str = "sleep-interpreter-markers"
    format: Literal["int32", "string"] = "int32"
    loopback: bool = True
    session_id: str = Field("default", pattern=r"^[A-Za-z0-9_-]+$")

    @field_validator("ports")
    @classmethod
    def _check_ports(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in value or ():
            if MARKER_PORTS.check(name) in cls.model_fields:
                raise ValueError(f"{name} has settings of its own: markers.{name}")
        return value

    def chosen(self) -> dict[str, Any]:
        """Return {name in `MARKER_PORTS`: its settings} of the ports that are to be opened."""
        own = {"lsl": self if self.lsl else None, "serial": self.serial, "parallel": self.parallel}
        return {name: value for name, value in {**own, **(self.ports or {})}.items() if value is not None}

    @model_validator(mode="after")
    def _check(self) -> Self:
        codes = [self.sham_code, *(self.stage_codes or ())]
        for code in (c for c in codes if c is not None):
            if not 1 <= code <= 255 or code in PUBLISHED:
                raise ValueError(f"code {code}: free are 16-20, 37-89 and 92-255 (a byte, not a published code)")
        return self
