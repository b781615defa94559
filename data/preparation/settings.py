"""What can be set about a preparation. params/prepare.yaml holds every default and the reason for it."""

import re
from collections.abc import Iterable
from functools import partial
from operator import not_
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from sleep_interpreter.data.events.slow_oscillations import SlowOscillationDetection, SpindleDetection
from sleep_interpreter.data.formats.scorings.registry import FORMATS
from sleep_interpreter.data.formats.scorings.scoring import ScoringOptions
from sleep_interpreter.data.formats.scorings.stage_codes import meaning_of
from sleep_interpreter.data.preparation import artefacts, trigger_table
from sleep_interpreter.utils.core.config import Settings, load
from sleep_interpreter.utils.core.data_card import CardSetting, Filter, HasCard, published
from sleep_interpreter.utils.signal.preprocessing import decimation_of

Name = Annotated[str, Field(min_length=1)]
Range = tuple[float, float]


def _pattern(text: str, *, group: str = "", what: str = "") -> str:
    """Return a regular expression that can be read and has the group, if one is named."""
    try:
        groups = re.compile(text).groupindex
    except re.error as error:
        raise ValueError(f"no regular expression ({error})") from None
    if group and group not in groups:
        raise ValueError(f"needs a group (?P<{group}>...){what}")
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
SubjectPattern = Annotated[
    str, AfterValidator(partial(_pattern, group="subject", what=" that finds the subject in the path"))
]
StagePattern = Annotated[str, AfterValidator(partial(_pattern, group="stage"))]
Artefact = Literal["muscle artifact", "eye blink", "heart beat", "line noise", "channel noise"]


class Recordings(Settings):
    """Which recording is whose, what it holds, in which unit."""

    sessions: dict[Name, Literal["wake", "sleep"]] = Field({"wake": "wake", "night": "sleep", "nap": "sleep"})
    default_session: Literal["wake", "sleep"] | None = None
    pattern: SubjectPattern = r"(?P<subject>[^/_]+)_(?P<session>[^/_.]+)[^/]*"
    unit: Literal["V", "uV"] = "V"
    encoding: Literal["utf8", "latin1"] = "utf8"
    amplitude_range: Range = (0.5, 500.0)
    chunk_seconds: float = Field(60.0, ge=1, le=3600)
    gaps_in_tables: bool | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.amplitude_range
        if not 0 < low < high:
            raise ValueError(f"amplitude_range ({low}, {high}) must be two rising positive numbers in µV")
        return self


class Split(Settings):
    """Who is a test subject, and the parts of a test subject's trials."""

    test: tuple[Name, ...] = ()
    test_share: float = Field(0.1, ge=0, le=1)
    group_column: str | None = "group"
    parts: tuple[float, float, float] = (0.6, 0.2, 0.2)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.parts) < 0 or abs(sum(self.parts) - 1) > 1e-6:
            raise ValueError(f"parts {self.parts}: three shares (train, val, test) that add up to 1")
        return self


class Rule(Settings):
    """What an event of the recording means: by its text (regular expression) or by its number.

    With `session` or `run` it holds in recordings of that session (BIDS: session, task or both, "night_sleep") and of
    that run only.
    """

    match: str | None = None
    code: int | None = None
    item: str | None = None
    modality: Literal["image", "audio", "cue", "sham", "ignore"] | None = None
    phase: str | None = None
    session: str | None = Field(default=None, exclude_if=not_)
    run: Annotated[str | None, BeforeValidator(lambda run: str(run) if isinstance(run, int) else run)] = Field(
        default=None, exclude_if=not_
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.match is None) == (self.code is None):
            raise ValueError("a rule needs either `match` (text) or `code` (number)")
        groups = re.compile(_pattern(self.match)).groupindex if self.match is not None else {}
        if self.modality != "ignore":
            for key in ("item", "modality"):
                if key == "item" and self.modality == "sham" and self.item is None and key not in groups:
                    continue  # silence is of no item
                if (getattr(self, key) is None) == (key not in groups):
                    raise ValueError(f"{key}: give it, or a group (?P<{key}>...) in `match`, not both")
        return self

    def hides(self, other: "Rule") -> bool:
        """Tell whether this rule, coming first, keeps another one of the same event and another meaning from all its
        recordings."""
        if (self.match, self.code) != (other.match, other.code):
            return False
        if self.session is not None and self.session.casefold() != (other.session or "").casefold():
            return False
        if self.run is not None and (other.run is None or self.run.lstrip("0") != other.run.lstrip("0")):
            return False
        return any(getattr(self, key) != getattr(other, key) for key in ("item", "modality", "phase"))


class TriggerTable(Settings):
    """Rules of a CSV file; they come before the others."""

    file: str
    rows: tuple[Rule, ...]


class Events(Settings):
    """Where events stand and what they mean."""

    source: Literal["annotations", "stim", "events_tsv"] = "annotations"
    stim_channel: str | None = None
    rules: tuple[Rule, ...] = (
        Rule(match=r"cue/(?P<item>.+)", modality="cue"),
        Rule(match=r"(?P<modality>image|audio)/(?P<item>.+)"),
        Rule(match=r"sham(/(?P<item>.+))?", modality="sham"),
    )
    table: Annotated[TriggerTable | None, BeforeValidator(trigger_table.read)] = Field(default=None, exclude_if=not_)
    items: dict[Name, Name] = Field({})
    phases: tuple[Name, ...] | None = None
    shift_seconds: float = Field(0.0, ge=-10, le=10)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.all_rules:
            raise ValueError("rules: at least one event has to mean something")
        places = {id(rule): place for place, rule in self.places.items()}
        for number, rule in enumerate(self.all_rules):
            for earlier in self.all_rules[:number]:
                if earlier.hides(rule):
                    raise ValueError(
                        f"{places[id(rule)]} never applies: {places[id(earlier)]} comes first, gives the same event "
                        "another meaning, and holds in the same recordings; put the rule of a session or run first"
                    )
        return self

    @property
    def places(self) -> dict[str, Rule]:
        """The rules by where they stand, as messages say it."""
        places = {f"events.rules[{number}]": rule for number, rule in enumerate(self.rules)}
        rows = enumerate(self.table.rows if self.table else (), trigger_table.FIRST_ROW)
        return places | {f"{self.table.file}, row {number}": row for number, row in rows if self.table}

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """The rows of the table, those of a session and a run before those of any, and the rules after them."""
        rows = self.table.rows if self.table else ()
        return (*sorted(rows, key=lambda row: (row.session is None) + (row.run is None)), *self.rules)


def _pair(value: Any) -> Any:
    return (value, None) if isinstance(value, str) else value


Pair = Annotated[tuple[Name, Name | None], BeforeValidator(_pair)]
"""A channel and its reference; None: as recorded, which the channel's name alone says too."""


class Channels(Settings):
    """Channels of the trials, of the stager, and what may be missing.

    `montage` are the channels of the data card, unless others are given.
    """

    montage: tuple[Name, ...] = Field(default_factory=lambda: published().channels)
    rename: dict[Name, Name] = Field({})
    mastoids: tuple[Name, ...] = ("M1", "M2")
    eeg: Pair = ("C4", "M1")
    eog: Pair | None = ("EOG1", "M2")
    emg: Pair | None = ("EMG1", "EMG2")
    bad: dict[Name, tuple[Name, ...]] = Field({})
    interpolate_share: float = Field(0.25, ge=0, le=0.5)
    positions: str = "standard_1005"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({name.casefold() for name in self.montage}) != len(self.montage):
            raise ValueError("montage names a channel twice")
        return self


class LineNoise(Settings):
    """Removal of the mains' frequency and its harmonics (zero-phase FIR notch)."""

    hz: float | None = Field(50.0, gt=40, lt=70)
    width_hz: float = Field(2.0, gt=0, le=10)


class BadChannels(Settings):
    """Search for bad channels with pyprep, on pieces spread over the recording.

    Flat channels, amplitude, correlation and high-frequency noise count always, `ransac` and `psd` where they are on.
    """

    method: Literal["pyprep", "none"] = "pyprep"
    minutes: PositiveFloat = 10.0
    ransac: bool = False
    psd: bool = False


class Ica(Settings):
    """Independent components of wake recordings, named by ICLabel."""

    method: Literal["iclabel", "none"] = "iclabel"
    minutes: PositiveFloat = 20.0
    components: float = Field(0.99, gt=0)
    probability: float = Field(0.8, ge=0.5, le=1)
    remove: tuple[Artefact, ...] = get_args(Artefact)


class Steps(Settings):
    """The steps between a recording and its trials, in this order."""

    line_noise: LineNoise = LineNoise()
    bandpass_hz: Range | None = (0.1, 50.0)
    bad_channels: BadChannels = BadChannels()
    ica: Ica = Ica()
    reference: Literal["average", "mastoids", "REST", "none"] = "average"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.bandpass_hz is not None and not 0 < self.bandpass_hz[0] < self.bandpass_hz[1] < 250:
            raise ValueError(f"bandpass_hz {self.bandpass_hz}: corners must rise between 0 and 250 Hz")
        return self


class Rejection(Settings):
    """Which trials are left out for their amplitude."""

    method: Literal["thresholds", "autoreject", "none"] = "thresholds"
    wake_uv: PositiveFloat = 200.0
    sleep_uv: PositiveFloat = 500.0
    flat_uv: float = Field(0.1, ge=0)
    share: float = Field(0.1, ge=0, lt=1)
    annotations: Pattern | None = "standard"

    @property
    def artefacts(self) -> str | None:
        """The regular expression over the whole text of annotations that make trials bad; None: none do."""
        return artefacts.STANDARD if self.annotations == "standard" else self.annotations


def _meanings(names: Any) -> Any:
    """Return what stages mean, {as written: stage}; numbers as keys become text, stages that are none are refused."""
    if not isinstance(names, dict):
        return names
    for written, stage in names.items():
        try:
            meaning_of(str(stage))
        except ValueError as error:
            raise ValueError(f"{written}: {error}") from None
    return {str(written): str(stage) for written, stage in names.items()}


class Stages(Settings):
    """Where sleep stages come from, and how they are read."""

    source: Literal["auto", "file", "annotations", "yasa"] = "auto"
    file: str | None = None
    format: Annotated[str, AfterValidator(FORMATS.check)] | None = Field(default=None, exclude_if=not_)
    column: str | None = Field(default=None, exclude_if=not_)
    onset: str | None = Field(default=None, exclude_if=not_)
    duration: str | None = Field(default=None, exclude_if=not_)
    ignore: tuple[Name, ...] = Field(default=(), exclude_if=not_)
    annotation: StagePattern = r"(?:stage/|Sleep stage )(?P<stage>.+)"
    numbers: Literal["auto", "yasa", "rk"] = "auto"
    names: Annotated[dict[str, str], BeforeValidator(_meanings)] = Field(default={}, exclude_if=not_)
    epoch_seconds: PositiveFloat = 30.0
    first_epoch: Literal[0, 1] | None = Field(default=None, exclude_if=lambda value: value is None)
    times: Literal["auto", "clock", "elapsed", "first"] = Field(
        default="auto", exclude_if=lambda value: value == "auto"
    )
    use_clock: bool = True
    offset_seconds: float = 0.0
    windows: bool = True
    filters: tuple[Range, Range, Range] = ((0.3, 35.0), (0.3, 35.0), (10.0, 100.0))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.use_clock and self.times in ("clock", "elapsed"):
            raise ValueError(f"use_clock: false says that the scoring begins with the recording; times is {self.times}")
        return self

    @property
    def options(self) -> ScoringOptions:
        """What the readers of scorings are told."""
        return ScoringOptions(
            self.format, self.column, self.onset, self.duration, self.ignore, self.first_epoch, self.numbers,
            self.names, self.epoch_seconds, self.annotation,
        )  # fmt: skip


class Outputs(Settings):
    """What is written besides the published layout."""

    continuous: Literal["none", "test", "all"] = "test"
    precue: bool = True
    report: bool = True


class Preparation(HasCard):
    """Everything that decides what is made of recordings.

    `card` says what is to be made: items, channels, rate, windows, conditions. It becomes the data set's card, with
    the reference and the filter of `steps`.
    """

    card: CardSetting = Field(default_factory=published)
    seed: int = Field(1642, ge=0)
    recordings: Recordings = Recordings()
    split: Split = Split()
    events: Events = Events()
    channels: Channels = Channels()
    steps: Steps = Steps()
    rejection: Rejection = Rejection()
    stages: Stages = Stages()
    slow_oscillations: SlowOscillationDetection = SlowOscillationDetection()
    spindles: SpindleDetection = SpindleDetection()
    outputs: Outputs = Outputs()
    threads: PositiveInt = 1

    @model_validator(mode="after")
    def _one_montage(self) -> Self:
        """Let card and channels have one montage, whichever of them was given; check what the steps make of it."""
        own = self.card != published()
        refusal = "channels.montage is not that of the card; leave it out, the card's channels are taken"
        changes = self.share_montage("channels", refusal)
        if self.card.rate_hz != published().rate_hz:
            decimation_of(self.card)
        reference = self.steps.reference
        if own and self.card.reference not in (None, reference) and reference != "none":
            raise ValueError(f"steps.reference is {reference}, but the card says {self.card.reference}")
        if reference != "none":
            changes["reference"] = reference
        elif not own:
            changes["reference"] = None
        if own:
            low, high = self.steps.bandpass_hz or (None, None)
            made = Filter(low_hz=low, high_hz=high, line_hz=self.steps.line_noise.hz)
            if self.card.filter not in (Filter(), made):
                raise ValueError(
                    f"the steps filter by {_filter(made)}, but the card says {_filter(self.card.filter)}; change "
                    "steps.bandpass_hz and steps.line_noise, or leave out the card's filter"
                )
            changes["filter"] = made
        object.__setattr__(self, "card", self.card.model_copy(update=changes))
        return self

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        names = {f"events.items.{lab}": item for lab, item in self.events.items.items()}
        for place, rule in self.events.places.items():
            if rule.item is not None and not place.startswith("events.rules"):  # those are looked up event by event
                names[place] = self.events.items.get(rule.item, rule.item)
        for place, item in names.items():
            try:
                self.card.item_index(item)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
        return self


def _filter(made: Filter) -> str:
    return f"{made.low_hz} to {made.high_hz} Hz, mains {made.line_hz}"


def load_settings(source: str | Path | None = None, overrides: Iterable[str] = ()) -> Preparation:
    """Return the settings of a YAML file (params/prepare.yaml by default) with `--set` overrides."""
    return load(Preparation, source or "prepare", overrides=overrides)
