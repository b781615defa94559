"""Settings of the simulator (`params/simulation.yaml`), with the ranges that are permitted."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.simulation.hypnogram import GivenStages
from sleep_interpreter.utils.core.config import Settings, load
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import ASLEEP, CardSetting, Filter, HasCard, published
from sleep_interpreter.utils.signal.preprocessing import decimation_of

FiveStage = Literal["W", "N1", "N2", "N3", "R"]
"""The stages of the physiology; hypnograms of files have one code for W and N1."""
SleepKey = Literal["N2", "N3", "R"]
"""Stages in which a cue, or nothing at all, may reactivate an item."""
OTHER_CHANNELS = ("M1", "M2", "EOG1", "EOG2", "EMG1", "EMG2")
"""Channels of simulated recordings besides the EEG."""
NO_GROUP = "none"
"""Stands for "no slow oscillation near the cue" beside the eight groups."""

_GroupKey = Literal[(*SO_GROUPS, NO_GROUP)]  # type: ignore[valid-type]  # mypy wants them spelled out


def _every(*keys: str) -> AfterValidator:
    """Refuse a mapping that lacks one of some keys."""

    def check(values: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        if missing := [key for key in keys if key not in values]:
            raise ValueError(f"{info.field_name} lacks the key {missing[0]!r}; it needs {', '.join(keys)}")
        return values

    return AfterValidator(check)


_Count = Annotated[int, Field(ge=0, le=100_000)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Gain = Annotated[float, Field(ge=0, le=5)]
_Sd = Annotated[float, Field(ge=0, le=2)]
_PerMin = Annotated[float, Field(ge=0, le=60)]
_PerHour = Annotated[float, Field(ge=0, le=120)]
_MicroVolt = Annotated[float, Field(ge=0, le=500)]
_MicroVolts = tuple[_MicroVolt, _MicroVolt]
_Hz = Annotated[float, Field(gt=0, lt=STREAM_RATE / 2)]
_Band = tuple[_Hz, _Hz]
_Second = Annotated[float, Field(gt=0, le=30)]
_Seconds = tuple[_Second, _Second]
_Speed = Annotated[float, Field(ge=0.1, le=20)]


class _Ranges(Settings):
    """Settings in which every pair of numbers is a range: the lower end comes first."""

    @model_validator(mode="after")
    def _lower_end_first(self) -> Self:
        for name in type(self).model_fields:
            match getattr(self, name):
                case (float(low), float(high)) if low > high:
                    raise ValueError(f"{name} runs from {low:g} to {high:g}: the lower end comes first")
        return self


class HeadSettings(Settings):
    """The head: a sphere of three layers, electrodes on it, and how much people differ.

    `montage` are the EEG channels: those of the data card, unless others are given.
    """

    montage: tuple[str, ...] = Field(default_factory=lambda: published().channels, min_length=2)
    radius_mm: float = Field(ge=70, le=120)
    radius_sd_mm: float = Field(ge=0, le=10)
    brain_s_m: float = Field(ge=0.05, le=2)
    skull_ratio: float = Field(ge=5, le=200)
    conductivity_sd: float = Field(ge=0, le=1)
    jitter_mm: float = Field(ge=0, le=15)
    wobble_deg: float = Field(ge=0, le=30)
    gain_sd: float = Field(ge=0, le=0.3)

    @field_validator("montage")
    @classmethod
    def _each_once(cls, montage: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in montage if montage.count(name) > 1}):
            raise ValueError(f"names the electrode {twice[0]!r} more than once")
        if own := [name for name in montage if name in OTHER_CHANNELS]:
            raise ValueError(f"names {own[0]!r}; the simulator adds {', '.join(OTHER_CHANNELS)} itself")
        return montage


class SensorSettings(_Ranges):
    """What electrodes and amplifier add."""

    noise_uv: _MicroVolt
    drift_uv: _MicroVolt
    drift_s: float = Field(ge=5, le=3600)
    line_hz: _Hz
    line_uv: _MicroVolt
    bad_channels_per_h: _PerHour
    bad_channel_min: float = Field(gt=0, le=600)
    bad_channel_uv: _MicroVolt
    movement_uv: _MicroVolt


class StagePhysiology(_Ranges):
    """One stage: amplitudes in µV, rates a minute or an hour; what is left out does not occur."""

    background_uv: _MicroVolt
    slope: float = Field(ge=0, le=4)
    knee_hz: float = Field(ge=0.1, le=20)
    alpha_uv: _MicroVolt = 0.0
    theta_uv: _MicroVolt = 0.0
    beta_uv: _MicroVolt = 0.0
    slow_oscillations_per_min: _PerMin = 0.0
    slow_oscillation_uv: _MicroVolts = (75.0, 150.0)
    k_complexes_per_min: _PerMin = 0.0
    k_complex_uv: _MicroVolts = (100.0, 200.0)
    spindles_per_min: _PerMin = 0.0
    spindle_uv: _MicroVolts = (20.0, 50.0)
    blinks_per_min: _PerMin = 0.0
    saccades_per_min: _PerMin = 0.0
    saccade_bursts_per_min: _PerMin = 0.0
    slow_eye_movements_per_min: _PerMin = 0.0
    sawtooth_bursts_per_min: _PerMin = 0.0
    sawtooth_uv: _MicroVolts = (20.0, 50.0)
    emg_uv: _MicroVolt
    arousals_per_h: _PerHour = 0.0
    movements_per_h: _PerHour = 0.0


class SpindleSettings(_Ranges):
    """Spindles of either kind, and how they are nested in slow oscillations.

    `coupling`: share of spindles placed on a slow oscillation, at phase `fast_phase_rad` or `slow_phase_rad` with a
    spread (SD) of `phase_sd_rad`; 0 is the up-state's peak, pi/2 the way down, pi the trough.
    """

    coupling: _Share
    fast_share: _Share
    slow_hz: _Band
    fast_hz: _Band
    duration_s: _Seconds
    fast_phase_rad: float = Field(ge=-1.57, le=1.57)
    slow_phase_rad: float = Field(ge=0, le=3.14)
    phase_sd_rad: float = Field(ge=0, le=3.14)


class SlowWaves(_Ranges):
    """Slow oscillations and K-complexes: how they travel, how long their parts last, how dense they are."""

    speed_m_s: tuple[_Speed, _Speed]
    first_up_s: _Seconds
    down_s: _Seconds
    up_s: _Seconds
    train: _Share
    spread_deg: float = Field(ge=10, le=90)


class EyesClosed(Settings):
    """Eyes in wake: the share of time they are closed, and how long at a time; alpha with open eyes."""

    share: _Share
    bout_s: float = Field(ge=2, le=3600)
    open_alpha: _Share


class Physiology(_Ranges):
    """The five stages and what they have in common."""

    W: StagePhysiology
    N1: StagePhysiology
    N2: StagePhysiology
    N3: StagePhysiology
    R: StagePhysiology
    slow_waves: SlowWaves
    spindles: SpindleSettings
    eyes_closed: EyesClosed
    blink_uv: _MicroVolts
    saccade_uv: _MicroVolts
    slow_eye_uv: _MicroVolts
    alpha_hz: float = Field(ge=6, le=14)
    alpha_sd_hz: float = Field(ge=0, le=2)
    n1_min: float = Field(ge=0, le=30)
    subject_sd: float = Field(ge=0, le=1)
    epoch_sd: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _room_for_events(self) -> Self:
        waves = self.slow_waves
        wave_s = sum(sum(part) / 2 for part in (waves.first_up_s, waves.down_s, waves.up_s))
        spindle_s = sum(self.spindles.duration_s) / 2
        for key in get_args(FiveStage):
            stage = self.of(key)
            wave_rate = stage.slow_oscillations_per_min + stage.k_complexes_per_min
            for name, rate, length in (
                ("slow_oscillations_per_min and k_complexes_per_min", wave_rate, wave_s),
                ("spindles_per_min", stage.spindles_per_min, spindle_s),
            ):
                if rate * length > 54:
                    raise ValueError(
                        f"{key}: {name} make {rate:g} events of {length:.2g} s; at most {54 / length:.3g} "
                        "fit into a minute"
                    )
        return self

    def of(self, key: str) -> StagePhysiology:
        """Return the settings of stage "W", "N1", "N2", "N3" or "R"."""
        return getattr(self, key)


class Timing(Settings):
    """When the item part comes in one kind of sleep: at delay + stretch * t for a time t in wake."""

    delay_s: float = Field(ge=0, le=0.6)
    stretch: float = Field(ge=0.5, le=2)
    jitter_s: float = Field(ge=0, le=0.3)


class Timings(Settings):
    """Timing in both kinds of sleep."""

    NREM: Timing
    REM: Timing

    def of(self, stage: str) -> Timing:
        """Return the timing in stage "N2", "N3" or "R"."""
        return self.REM if stage == "R" else self.NREM


class StageGains(Settings):
    """One factor for each stage of sleep."""

    N2: _Gain
    N3: _Gain
    R: _Gain


class SoundResponse(_Ranges):
    """What any cue evokes in sleep, whatever its item.

    `share`: of the cues outside slow oscillations that evoke a K-complex, in NREM only. `amplitude_uv`: its lowest and
    highest amplitude from trough to second peak. `potential_uv`: the auditory potential (P200, N350) of every cue.
    """

    share: Annotated[dict[Literal["N2", "N3"], _Share], _every("N2", "N3")]
    amplitude_uv: _MicroVolts
    potential_uv: Annotated[dict[SleepKey, Annotated[float, Field(ge=0, le=50)]], _every(*get_args(SleepKey))]


class Spontaneous(Settings):
    """Reactivations without a cue: how many, how strong, when, and of which items.

    `up_state_share` of those in NREM begin in the up-state that follows a slow oscillation's trough. `item_sd`: spread
    (SD of the logarithm) of the items' propensity to be reactivated, half of its variance common to all subjects.
    """

    per_min: Annotated[dict[SleepKey, Annotated[float, Field(ge=0, le=30)]], _every(*get_args(SleepKey))]
    gain: _Gain
    up_state_share: _Share
    item_sd: _Sd


class Behaviour(Settings):
    """Memory scores between 0 and 1: their mean and their spread between items and between subjects.

    `item_share`: share of what reactivation does not explain that all subjects share (some items are simply easier).
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
    item_strength: _Sd | tuple[_Gain, ...]
    sound: SoundResponse
    spontaneous: Spontaneous
    behaviour_r: float = Field(ge=-1, le=1)
    behaviour: Behaviour


class Gate(Settings):
    """How much of the item part a cue lets through.

    `share` by the group of the slow oscillation's phase at the cue ("none": no slow oscillation near); times
    1 + `spindle_gain` if a spindle begins within `spindle_window_s` after the cue.
    """

    share: Annotated[dict[_GroupKey, _Gain], _every(*SO_GROUPS, NO_GROUP)]
    spindle_gain: _Gain
    spindle_window_s: float = Field(ge=0, le=3)


class People(Settings):
    """How many subjects there are to train on and to test on."""

    train_subjects: _Count
    test_subjects: _Count

    @property
    def people(self) -> list[tuple[str, int]]:
        """Group ("train", "test") and number of every subject."""
        groups = (("train", self.train_subjects), ("test", self.test_subjects))
        return [(group, number) for group, count in groups for number in range(count)]


class Cohort(People):
    """How many subjects and trials."""

    train_trials: _Count
    test_trials: _Count
    rem_trials: _Count
    so_trials: _Count
    awake_trials: int = Field(ge=1, le=1000)
    data_type_shares: tuple[_Share, _Share, _Share] = (0.6, 0.2, 0.2)
    n3_share: _Share = 0.5

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(sum(self.data_type_shares) - 1) > 1e-6:
            raise ValueError(f"data_type_shares {self.data_type_shares} must add up to 1")
        return self


class StagingData(People):
    """Windows for the stagers; `corners_hz` of the band-passes of EEG, EOG and EMG."""

    epochs: _Count
    corners_hz: tuple[_Band, _Band, _Band] = ((0.3, 35.0), (0.3, 35.0), (10.0, 100.0))

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if any(low >= high for low, high in self.corners_hz):
            raise ValueError(f"corners_hz {self.corners_hz}: the lower corner comes first")
        return self


class CuePlan(_Ranges):
    """When cues are given: in N2 and N3, and in R if `rem_cues`.

    The first one comes no earlier than `cues_from_min` after the first epoch of sleep, and every one only after
    `settled_s` of uninterrupted sleep of these stages, as a cautious session gives them.
    """

    cues_from_min: float = Field(ge=0, le=600)
    settled_s: float = Field(0.0, ge=0, le=3600)
    cue_interval_s: tuple[Annotated[float, Field(ge=2, le=60)], Annotated[float, Field(ge=2, le=60)]]
    rem_cues: bool = False


class WakeSettings(_Ranges):
    """Two wake sessions, pictures and sounds: eyes closed at first, then every item `repetitions` times."""

    repetitions: int = Field(ge=1, le=1000)
    interval_s: tuple[Annotated[float, Field(ge=1, le=60)], Annotated[float, Field(ge=1, le=60)]]
    rest_min: float = Field(ge=0, le=60)


class NightSettings(People, CuePlan):
    """Raw nights and wake sessions: of how many subjects, and how they go.

    `hypnogram` is None for nights of the model of params/hypnogram.yaml, otherwise [stage, minutes] pairs or the path
    of a text file with one stage a line; `hours` makes the model's nights equally long.
    """

    hypnogram: str | GivenStages | None = None
    hours: float | None = Field(None, ge=1, le=16)
    resolution_uv: float = Field(0.1, ge=0.001, le=1)
    wake: WakeSettings


class RecordingSettings(CuePlan):
    """The short continuous recording for the real-time session."""

    stages: GivenStages
    test_subject: _Count = 0


class Simulation(HasCard):
    """Everything a simulated data set depends on.

    `card` says what the data set is like: items, channels, rate, windows, conditions. The published one stands in no
    manifest.
    """

    card: CardSetting = Field(default_factory=published)
    seed: int = Field(ge=0, le=2**32 - 1)
    head: HeadSettings
    sensors: SensorSettings
    stages: Physiology
    memory: Memory
    gate: Gate
    cohort: Cohort
    staging: StagingData
    night: NightSettings
    recording: RecordingSettings

    @model_validator(mode="after")
    def _one_montage(self) -> Self:
        """Let card and head have the same channels, whichever of them was given."""
        changes = self.share_montage("head", "head.montage and the card's channels differ; give one of them")
        if self.card.reference not in ("average", "mastoids"):
            raise ValueError(f"the card's reference is {self.card.reference}; simulated are average and mastoids")
        strengths = self.memory.item_strength
        if isinstance(strengths, tuple) and len(strengths) != len(self.card.items):
            raise ValueError(f"memory.item_strength has {len(strengths)} factors for {len(self.card.items)} items")
        if self.card != published():
            decimation_of(self.card)
            # what is written is neither filtered nor anybody's
            changes |= {"filter": Filter(), "licence": None, "source": "simulated"}
        if changes:
            object.__setattr__(self, "card", self.card.model_copy(update=changes))
        return self

    @property
    def sleep_kinds(self) -> tuple[str, ...]:
        """Kinds of sleep trials that the data set has."""
        return tuple(kind for kind in ASLEEP if kind in self.card.conditions)


def load_settings(preset: str, overrides: Iterable[str] = (), card: str | Path | None = None) -> Simulation:
    """Read params/simulation.yaml with one preset ("test", "demo", "paper") and `--set` changes merged in.

    `card` is the path of a data card in place of the setting of that name.
    """
    given = () if card is None else (f"card={json.dumps(str(card))}",)
    return load(Simulation, "simulation", mode=preset, overrides=(*overrides, *given))
