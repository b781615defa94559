"""What can be set about a session. params/realtime.yaml holds every default and the reason for it."""

from typing import Literal

from pydantic import Field, model_validator

from sleep_interpreter.realtime.Parameters.cues import CueSettings
from sleep_interpreter.realtime.Parameters.faults import Fault
from sleep_interpreter.realtime.Parameters.output import AudioSettings, MarkerSettings
from sleep_interpreter.realtime.Parameters.source import RecordingSettings, SourceSettings
from sleep_interpreter.realtime.Parameters.watching import (
    ArousalSettings,
    QualitySettings,
    RemoteControlSettings,
)
from sleep_interpreter.utils.core.config import Settings
from sleep_interpreter.utils.core.constants import EEG_MONTAGE
from sleep_interpreter.utils.staging.settings import GateSettings, StagingSettings


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


class DecoderChoice(Settings):
    """Which decoders read the responses, and the channels they were trained on, in order."""

    checkpoint: str | None = None
    rem_checkpoint: str | None = None
    timeout_seconds: float = Field(10.0, ge=1, le=60)
    channels: tuple[str, ...] = EEG_MONTAGE

    @model_validator(mode="after")
    def _check(self):
        if len(set(self.channels)) != len(self.channels):
            raise ValueError("channels names a channel twice")
        return self


class SessionSettings(Settings):
    """Everything that decides what a session does, besides the recording and the subject."""

    seed: int = Field(1642, ge=0)
    workers: Literal["auto", "inline", "process"] = "auto"
    source: SourceSettings = SourceSettings()
    recording: RecordingSettings = RecordingSettings()
    channels: ChannelSettings = ChannelSettings()
    staging: StagingSettings = StagingSettings()
    gate: GateSettings = GateSettings()
    cues: CueSettings = CueSettings()
    audio: AudioSettings = AudioSettings()
    markers: MarkerSettings = MarkerSettings()
    decoder: DecoderChoice = DecoderChoice()
    quality: QualitySettings = QualitySettings()
    arousal: ArousalSettings = ArousalSettings()
    control: RemoteControlSettings = RemoteControlSettings()
    faults: tuple[Fault, ...] = ()
