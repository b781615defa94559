"""Settings of the planted memory: `memory` and `gate` of params/simulation.yaml, with their ranges."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.utils.core.config import Settings
from sleep_interpreter.utils.core.constants import ITEMS

SleepKey = Literal["N2", "N3", "R"]
"""Stages in which a cue, or nothing at all, may reactivate an item."""
NO_GROUP = "none"
"""Stands for "no slow oscillation near the cue" beside the eight groups."""

_Share = Annotated[float, Field(ge=0, le=1)]
_Gain = Annotated[float, Field(ge=0, le=5)]
_Sd = Annotated[float, Field(ge=0, le=2)]
_MicroVolt = Annotated[float, Field(ge=0, le=500)]
_GroupKey = Literal[(*SO_GROUPS, NO_GROUP)]


class Timing(Settings):
    """When the item part comes in one kind of sleep: at delay + stretch * t for a time t in wake."""

    delay_s: float = Field(ge=0, le=0.6)
    stretch: float = Field(ge=0.5, le=2)
    jitter_s: float = Field(ge=0, le=0.3)


class Timings(Settings):
    """Timing in both kinds of sleep."""

    NREM: Timing
    REM: Timing

    def of(self, stage):
        """Return the timing in stage "N2", "N3" or "R"."""
        return self.REM if stage == "R" else self.NREM


class StageGains(Settings):
    """One factor for each stage of sleep."""

    N2: _Gain
    N3: _Gain
    R: _Gain


class SoundResponse(Settings):
    """What any cue evokes in sleep, whatever its item.

    `share`: of the cues outside slow oscillations that evoke a K-complex, in NREM only. `amplitude_uv`: its
    lowest and highest amplitude from trough to second peak. `potential_uv`: the small auditory potential
    (P200, N350) that every cue evokes.
    """

    share: dict[Literal["N2", "N3"], _Share]
    amplitude_uv: tuple[_MicroVolt, _MicroVolt]
    potential_uv: dict[SleepKey, Annotated[float, Field(ge=0, le=50)]]

    @model_validator(mode="after")
    def _whole(self):
        low, high = self.amplitude_uv
        if low > high:
            raise ValueError(f"amplitude_uv runs from {low} to {high}: the lower end comes first")
        _need(self.share, ("N2", "N3"), "share")
        _need(self.potential_uv, ("N2", "N3", "R"), "potential_uv")
        return self


class Spontaneous(Settings):
    """Reactivations without a cue: how many, how strong, when, and of which items.

    `up_state_share` of those in NREM begin in the up-state that follows a slow oscillation's trough.
    `item_sd`: spread (SD of the logarithm) of the items' propensity to be reactivated, half of its variance
    common to all subjects.
    """

    per_min: dict[SleepKey, Annotated[float, Field(ge=0, le=30)]]
    gain: _Gain
    up_state_share: _Share
    item_sd: _Sd

    @model_validator(mode="after")
    def _whole(self):
        _need(self.per_min, ("N2", "N3", "R"), "per_min")
        return self


class Behaviour(Settings):
    """Memory scores between 0 and 1: their mean and their spread between items and between subjects.

    `item_share`: share of what reactivation does not explain that is the same in all subjects (some items are
    simply easier).
    """

    mean: float = Field(gt=0, lt=1)
    item_sd: float = Field(ge=0, le=0.3)
    subject_sd: float = Field(ge=0, le=0.3)
    item_share: _Share


class Memory(Settings):
    """The planted signal: what the decoder can find and what it must not be misled by."""

    strength: float = Field(ge=0, le=20)
    semantic_uv: _MicroVolt
    modality_uv: _MicroVolt
    similarity: _Share
    components: int = Field(ge=1, le=10)
    patches: int = Field(ge=1, le=20)
    patch_deg: float = Field(ge=5, le=60)
    stage_gain: StageGains
    timing: Timings
    reactivated: _Share
    trial_sd: _Sd
    subject_sd: _Sd
    item_strength: _Sd | Annotated[tuple[_Gain, ...], Field(min_length=len(ITEMS), max_length=len(ITEMS))]
    sound: SoundResponse
    spontaneous: Spontaneous
    behaviour_r: float = Field(ge=-1, le=1)
    behaviour: Behaviour


class Gate(Settings):
    """How much of the item part a cue lets through.

    `share` by the group of the slow oscillation's phase at the cue ("none": no slow oscillation near); times
    1 + `spindle_gain` if a spindle begins within `spindle_window_s` after the cue.
    """

    share: dict[_GroupKey, _Gain]
    spindle_gain: _Gain
    spindle_window_s: float = Field(ge=0, le=3)

    @model_validator(mode="after")
    def _whole(self):
        _need(self.share, (*SO_GROUPS, NO_GROUP), "share")
        return self


def _need(values, keys, name):
    missing = [key for key in keys if key not in values]
    if missing:
        raise ValueError(f"{name} lacks the key {missing[0]!r}; it needs {', '.join(keys)}")
