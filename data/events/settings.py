"""What can be set about the detection of slow oscillations and spindles (params/prepare.yaml)."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, StringConstraints

from sleep_interpreter.utils.core.config import Settings

_Name = Annotated[str, StringConstraints(min_length=1)]
_Range = tuple[float, float]


class SlowOscillationDetection(Settings):
    """Detection of slow oscillations with YASA, and what is near enough to a cue."""

    channel: _Name = "Fz"
    reference: Literal["mastoids", "recorded"] = "mastoids"
    freq_hz: _Range = (0.3, 1.5)
    negative_s: _Range = (0.15, 1.0)
    positive_s: _Range = (0.1, 1.0)
    negative_uv: _Range = (30.0, 300.0)
    positive_uv: _Range = (8.0, 200.0)
    peak_to_peak_uv: _Range = (60.0, 500.0)
    first_up_s: _Range = (0.1, 1.0)
    around_s: PositiveFloat = 0.5


class SpindleDetection(Settings):
    """Detection of spindles with YASA, and what counts as coupled."""

    channels: tuple[_Name, ...] = ("Fz", "Cz", "Pz")
    freq_hz: _Range = (11.0, 16.0)
    duration_s: _Range = (0.5, 2.5)
    threshold_correlation: float = Field(0.65, ge=0, le=1)
    threshold_rms: float = Field(1.5, gt=0)
    threshold_relative_power: float = Field(0.2, ge=0, le=1)
    after_cue_s: PositiveFloat = 1.5
