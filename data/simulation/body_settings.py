"""Settings of the simulated body: `head`, `sensors` and `stages` of params/simulation.yaml, with ranges."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from sleep_interpreter.utils.core.config import Settings
from sleep_interpreter.utils.core.constants import EEG_MONTAGE, STREAM_RATE

FiveStage = Literal["W", "N1", "N2", "N3", "R"]
"""The stages of the physiology; hypnograms of files have one code for W and N1."""

NYQUIST_HZ = STREAM_RATE / 2

_Share = Annotated[float, Field(ge=0, le=1)]
_PerMin = Annotated[float, Field(ge=0, le=60)]
_PerHour = Annotated[float, Field(ge=0, le=120)]
_MicroVolt = Annotated[float, Field(ge=0, le=500)]
_Hz = Annotated[float, Field(gt=0, lt=NYQUIST_HZ)]
_MicroVolts = tuple[_MicroVolt, _MicroVolt]
_Band = tuple[_Hz, _Hz]
_Seconds = tuple[Annotated[float, Field(gt=0, le=30)], Annotated[float, Field(gt=0, le=30)]]


class _Ordered(Settings):
    """Settings in which every pair of numbers is a range: the lower end comes first."""

    @model_validator(mode="after")
    def _lower_end_first(self):
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) == 2 and value[0] > value[1]:
                raise ValueError(f"{name} runs from {value[0]:g} to {value[1]:g}: the lower end comes first")
        return self


class HeadSettings(Settings):
    """The head: a sphere of three layers, electrodes on it, and how much people differ."""

    montage: tuple[str, ...] = EEG_MONTAGE
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
    def _as_many_as_decoders_need(cls, montage):
        if len(montage) != len(EEG_MONTAGE):
            raise ValueError(f"has {len(montage)} electrodes; the data set's layout needs {len(EEG_MONTAGE)}")
        twice = sorted({name for name in montage if montage.count(name) > 1})
        if twice:
            raise ValueError(f"names the electrode {twice[0]!r} more than once")
        return montage


class SensorSettings(_Ordered):
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


class Stage(_Ordered):
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


class Spindles(_Ordered):
    """Spindles of either kind, and how they are nested in slow oscillations.

    `coupling`: share of spindles placed on a slow oscillation, at phase `fast_phase_rad` or `slow_phase_rad`
    with a spread (SD) of `phase_sd_rad`; 0 is the up-state's peak, pi/2 the way down, pi the trough.
    """

    coupling: _Share
    fast_share: _Share
    slow_hz: _Band
    fast_hz: _Band
    duration_s: _Seconds
    fast_phase_rad: float = Field(ge=-1.57, le=1.57)
    slow_phase_rad: float = Field(ge=0, le=3.14)
    phase_sd_rad: float = Field(ge=0, le=3.14)


class SlowWaves(_Ordered):
    """Slow oscillations and K-complexes: how they travel, how long their parts last, how dense they are."""

    speed_m_s: tuple[Annotated[float, Field(ge=0.1, le=20)], Annotated[float, Field(ge=0.1, le=20)]]
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


class Stages(Settings):
    """The five stages and what they have in common."""

    W: Stage
    N1: Stage
    N2: Stage
    N3: Stage
    R: Stage
    slow_waves: SlowWaves
    spindles: Spindles
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
    def _ranges(self):
        for name in ("blink_uv", "saccade_uv", "slow_eye_uv"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} runs from {low:g} to {high:g}: the lower end comes first")
        return self

    @model_validator(mode="after")
    def _room_for_events(self):
        waves = self.slow_waves
        wave_s = sum(sum(part) / 2 for part in (waves.first_up_s, waves.down_s, waves.up_s))
        for key in get_args(FiveStage):
            stage = self.of(key)
            for name, rate, length in (
                (
                    "slow_oscillations_per_min and k_complexes_per_min",
                    stage.slow_oscillations_per_min + stage.k_complexes_per_min,
                    wave_s,
                ),
                ("spindles_per_min", stage.spindles_per_min, sum(self.spindles.duration_s) / 2),
            ):
                if rate * length > 54:
                    raise ValueError(
                        f"{key}: {name} make {rate:g} events of {length:.2g} s; at most {54 / length:.3g} "
                        "fit into a minute"
                    )
        return self

    def of(self, key):
        """Return the settings of stage "W", "N1", "N2", "N3" or "R"."""
        return getattr(self, key)
