"""What can be set about a session. params/realtime.yaml holds every default and the reason for it."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from utils.config import Settings
from utils.staging_settings import GateSettings, StagingSettings
from utils.vocabulary import EEG_MONTAGE


class SourceSettings(Settings):
    """How a recording is read, paced and checked."""

    kind: Literal["replay"] = "replay"
    speed: float = Field(0.0, ge=0)
    unit: Literal["V", "uV"] = "V"
    start: float = Field(0.0, ge=0)
    stop: float | None = Field(None, gt=0)
    read_seconds: float = Field(4.0, gt=0, le=60)
    chunk_seconds: float | None = Field(None, gt=0, le=60)
    amplitude_range: tuple[float, float] = (0.5, 500.0)
    amplitude_windows: PositiveInt = 20

    @model_validator(mode="after")
    def _check(self):
        if 0 < self.speed < 0.1:
            raise ValueError(f"speed {self.speed}: permitted are 0 (as fast as possible) and 0.1 or more")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop ({self.stop} s) must lie after start ({self.start} s)")
        low, high = self.amplitude_range
        if not 0 < low < high:
            raise ValueError(f"amplitude_range ({low}, {high}) must be two rising positive numbers in µV")
        return self


class ChannelSettings(Settings):
    """Names of the staging channels; null means absent (or, for a reference, as recorded)."""

    eeg: str = "C4"
    eeg_ref: str | None = None
    eog: str | None = "EOG1"
    eog_ref: str | None = None
    emg: str | None = "EMG1"
    emg_ref: str | None = None

    @model_validator(mode="after")
    def _check(self):
        for name in ("eog", "emg"):
            if getattr(self, name) is None and getattr(self, f"{name}_ref") is not None:
                raise ValueError(f"{name}_ref is given, but {name} is null")
        return self


class LockSettings(Settings):
    """Locking of cues to a phase of the slow oscillation (`realtime.Utils.phase`)."""

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


class AudioSettings(Settings):
    """Where cues sound, and how loud at most."""

    sink: Literal["auto", "file", "device"] = "auto"
    device: str | None = None
    rate: int = Field(16000, ge=8000, le=96000)
    folder: str | None = None
    volume_db: float = -20.0
    max_db: float = Field(-6.0, le=0)

    @model_validator(mode="after")
    def _check(self):
        if self.volume_db > self.max_db:
            raise ValueError(f"volume_db ({self.volume_db}) is above the cap max_db ({self.max_db})")
        return self


class MarkerSettings(Settings):
    """Markers for other programs; the log holds them in any case."""

    lsl: bool = False
    name: str = "SleepInterpreterMarkers"
    source_id: str = "sleep-interpreter-markers"
    format: Literal["int32", "string"] = "int32"
    loopback: bool = True
    session_id: str = Field("default", pattern=r"^[A-Za-z0-9_-]+$")


class DecoderChoice(Settings):
    """Which decoders read the responses, and the channels they were trained on, in order."""

    checkpoint: str | None = None
    rem_checkpoint: str | None = None
    channels: tuple[str, ...] = EEG_MONTAGE

    @model_validator(mode="after")
    def _check(self):
        if len(set(self.channels)) != len(self.channels):
            raise ValueError("channels names a channel twice")
        return self


class SessionSettings(Settings):
    """Everything that decides what a session does, besides the recording and the subject."""

    seed: int = Field(1642, ge=0)
    source: SourceSettings = SourceSettings()
    channels: ChannelSettings = ChannelSettings()
    staging: StagingSettings = StagingSettings()
    gate: GateSettings = GateSettings()
    cues: CueSettings = CueSettings()
    audio: AudioSettings = AudioSettings()
    markers: MarkerSettings = MarkerSettings()
    decoder: DecoderChoice = DecoderChoice()
