"""What can be set about a session. params/realtime.yaml holds every default and the reason for it."""

from collections.abc import Sequence
from operator import not_
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from sleep_interpreter.data.preparation import trigger_table
from sleep_interpreter.data.preparation.settings import TriggerTable
from sleep_interpreter.realtime.Parameters.output import AudioSettings, MarkerSettings
from sleep_interpreter.realtime.Parameters.source import RecordingSettings, SourceSettings
from sleep_interpreter.utils.core.config import Settings, UserPath
from sleep_interpreter.utils.core.errors import UserError
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
    def _check(self) -> Self:
        for name in ("eog", "emg"):
            if getattr(self, name) is None and getattr(self, f"{name}_ref") is not None:
                raise ValueError(f"{name}_ref is given, but {name} is null")
        return self


class DecoderChoice(Settings):
    """Which decoders read the responses, and what the stream calls their channels.

    `channels`: None as the decoder's data card does; a list has the same electrodes in any order, in the stream's
    spelling; a mapping {name in the card: name in the stream} those that are called otherwise. `interpolate`: channels
    that the stream lacks are made from the others.
    """

    checkpoint: UserPath | None = None
    rem_checkpoint: UserPath | None = None
    timeout_seconds: float = Field(10.0, ge=1, le=60)
    channels: tuple[str, ...] | dict[str, str] | None = None
    interpolate: bool = False

    @property
    def checkpoints(self) -> dict[str, str]:
        """{"NREM" | "REM": path} of the decoders that are there."""
        chosen = {"NREM": self.checkpoint, "REM": self.rem_checkpoint}
        return {stage: path for stage, path in chosen.items() if path is not None}

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = list(self.channels.values() if isinstance(self.channels, dict) else self.channels or ())
        if len(set(names)) != len(names):
            raise ValueError("channels names a channel twice")
        return self


class LockSettings(Settings):
    """Locking of cues to a phase of the slow oscillation (`realtime.Cues.phase_locking`)."""

    method: Literal["none", "threshold_delay", "echt"] = "none"
    channel: str | None = None
    phase_from: Literal["precue", "whole"] = "precue"
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
    def _check(self) -> Self:
        low, high = self.echt_band_hz
        if not 0.1 <= low < high <= 4:
            raise ValueError(f"echt_band_hz ({low}, {high}) must rise between 0.1 and 4 Hz")
        return self


class CueSettings(Settings):
    """When which item is cued.

    `groups`: items of each, by name or by number in the data card; None: the first half of the card's, and the rest.
    `table`: CSV of what a recording's triggers mean (`data.preparation.trigger_table`); None: annotations "cue/<item>".
    """

    mode: Literal["scheduled", "recorded"] = "scheduled"
    table: Annotated[TriggerTable | None, BeforeValidator(trigger_table.read)] = Field(default=None, exclude_if=not_)
    interval_seconds: tuple[float, float] = (4.0, 6.0)
    group_seconds: float = Field(30.0, ge=1)
    groups: tuple[tuple[int | str, ...], tuple[int | str, ...]] | None = None
    lead_seconds: float = Field(0.2, ge=0, le=1)
    sound_recorded: bool = False
    rule: Literal["published", "balanced"] = "published"
    playlist: UserPath | None = None
    sham_share: float = Field(0.0, ge=0, le=0.9)
    max_per_hour: PositiveInt | None = None
    lock: LockSettings = LockSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.interval_seconds
        if self.table is not None:
            if self.mode != "recorded":
                raise ValueError("table is about the triggers of a recording: it needs mode recorded (--cues recorded)")
            for number, row in enumerate(self.table.rows, trigger_table.FIRST_ROW):
                if row.session is not None or row.run is not None:
                    raise ValueError(
                        f"{self.table.file}, row {number}: a replayed recording has no session and no run; take out "
                        "these columns, and the rows of other recordings"
                    )
        if self.mode == "recorded" and self.lock.method != "none":
            raise ValueError("lock.method must be none with recorded cues: their times are given")
        if self.lock.learn and self.lock.phase_from == "precue" and not self.sham_share:
            raise ValueError(
                "lock.learn needs sham cues (sham_share above 0): the phase that a cue met can be seen from both sides "
                "of a silent one only; phase_from: whole learns from phases with the responses to the cues in them"
            )
        if not 2.5 <= low <= high:
            raise ValueError(
                f"interval_seconds ({low}, {high}) must rise and be at least 2.5 s: "
                "the response to a cue is read for 1.8 s"
            )
        if low <= self.lead_seconds:
            raise ValueError("lead_seconds must be shorter than the interval between cues")
        items = [i for group in self.groups or () for i in group]
        if not all(self.groups or ()) or len(set(items)) != len(items):
            raise ValueError("groups must not be empty and must not share an item")
        return self

    def groups_of(self, names: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the items of each group by their numbers among `names`; `UserError` where one is no item."""
        if self.groups is None:
            half = -(-len(names) // 2)
            return tuple(range(half)), tuple(range(half, len(names)))
        found: list[tuple[int, ...]] = []
        for group in self.groups:
            unknown = [item for item in group if item not in names and item not in range(len(names))]
            if unknown:
                raise UserError(
                    f"cues.groups: {unknown[0]!r} is no item of the data card; there are numbers from 0 to "
                    f"{len(names) - 1}, or {', '.join(names)}"
                )
            found.append(tuple(names.index(item) if isinstance(item, str) else item for item in group))
        if set(found[0]) & set(found[1]) or any(len(set(group)) != len(group) for group in found):
            raise UserError("cues.groups names an item twice, by name and by number")
        return found[0], found[1]


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
    def _refuse_keyboard(cls, data: Any) -> Any:
        if isinstance(data, dict) and "keyboard" in data:
            raise ValueError(
                "keyboard: a session reads no keys any more; leave it out, and use python "
                "realtime/control.py SESSION COMMAND from another terminal, or the monitor (--monitor)"
            )
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.host:
            raise ValueError("host must not be empty; 127.0.0.1 is this machine alone")
        return self


class Fault(Settings):
    """One fault: what, from when on, for how long, on which channels.

    flat, railed, nan, loud (a thousand times too large) and line (nothing but line noise) spoil channels;
    lost takes samples away as a gap, and so does dropped, as packets that do not arrive while the stream goes on;
    stalled tells of a stream that stands still and then gives everything.
    """

    kind: Literal["flat", "railed", "nan", "loud", "line", "lost", "dropped", "stalled"]
    start: float = Field(ge=0)
    seconds: float = Field(gt=0)
    channels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        spoils = self.kind not in ("lost", "dropped", "stalled")
        if spoils != bool(self.channels):
            raise ValueError(f"kind {self.kind!r} {'needs channels' if spoils else 'concerns all channels'}")
        return self


class SessionSettings(Settings):
    """Everything that decides what a session does, besides the recording and the subject.

    `card` is the path of the data card (a file, or the folder of a data set) whose items are cued and decoded; None:
    the decoders' own, else the published one.
    """

    seed: int = Field(1642, ge=0)
    card: UserPath | None = None
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
