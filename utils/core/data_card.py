"""The data card: what an experiment's data are. Items, conditions, channels, rate, windows, stages, units, origin.

A data set's card is `dataset.yaml` in its folder. A folder without one holds data of the published experiment,
whose card is params/published_card.yaml: its items, its channels and their order, its windows. All shapes follow
from the card; no other module holds names of items or channels.
"""

import hashlib
import json
import reprlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_serializer, model_validator

from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.config import Settings
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import PARAMS, display_path, user_path

FILE = "dataset.yaml"
"""Name of the card in the folder of a data set."""
CONDITIONS = ("image", "audio", "N2N3", "REM")
"""Kinds of trials that there are: pictures and sounds awake, cues in NREM 2/3 and in REM sleep."""
_SHOWN = 20  # items that a message lists
AWAKE, ASLEEP = CONDITIONS[:2], CONDITIONS[2:]

Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\s/\\](?:[^/\\\n\t]*[^\s/\\])?$")]
"""Of an item or a channel: it becomes a column, a file name and a marker's text, so no slash and no tab."""


class Item(Settings):
    """One memory: what is seen and heard awake and played in sleep.

    `kind`, `semantic` and `acoustic` name the groups an item belongs to, where an experiment has such groups; `sound`
    and `picture` are file names.
    """

    name: Name
    kind: Name | None = None
    semantic: Name | None = None
    acoustic: Name | None = None
    sound: Name | None = None
    picture: Name | None = None


class Window(Settings):
    """A trial's time: from `begin` to `end` seconds after the onset of cue, picture or sound.

    `earliest_end` (sleep trials only): trials are of unequal length, each ends at the next cue or at `end`, whichever
    comes first, and one that would end before `earliest_end` is left out. None: all trials have the whole window.
    """

    begin: float = Field(ge=-10, le=10)
    end: float = Field(ge=-10, le=20)
    earliest_end: float | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.end <= self.begin:
            raise ValueError(f"runs from {self.begin:g} to {self.end:g} s: the end comes after the beginning")
        if self.earliest_end is not None and not max(self.begin, 0) < self.earliest_end < self.end:
            raise ValueError(
                f"earliest_end {self.earliest_end:g}: a trial ends after its onset and after its beginning, and before "
                f"end ({self.end:g}); leave it out where all trials have the whole window"
            )
        return self

    @property
    def seconds(self) -> float:
        """Length in s."""
        return self.end - self.begin

    @property
    def span(self) -> str:
        """Both ends, for messages; of trials of unequal length the earliest end and the latest."""
        earliest = "" if self.earliest_end is None else f"{self.earliest_end:g}-"
        return f"{self.begin:g} to {earliest}{self.end:g} s"


class Windows(Settings):
    """Windows of the trials asleep and awake."""

    sleep: Window
    wake: Window


class Filter(Settings):
    """Corners of the band-pass and the mains' frequency that was removed, in Hz; null: not filtered, or not known."""

    low_hz: float | None = Field(default=None, ge=0, le=100)
    high_hz: float | None = Field(default=None, gt=0, le=1000)
    line_hz: float | None = Field(default=None, gt=0, le=1000)


class DataCard(Settings):
    """What an experiment's data are.

    `channels` are in the order of the data. `unit` is that of sleep trials: "robust" is scaled by median and
    interquartile range in each channel, as published. `reference`, `filter`: null where nobody knows.
    """

    title: str
    items: tuple[Item, ...] = Field(min_length=2, max_length=1000)
    conditions: tuple[Literal[CONDITIONS], ...] = Field(default=CONDITIONS, min_length=1)  # type: ignore[valid-type]  # mypy wants them spelled out
    channels: tuple[Name, ...] = Field(min_length=1, max_length=1024)
    reference: str | None = None
    filter: Filter = Filter()
    rate_hz: float = Field(gt=0, le=10_000)
    windows: Windows
    awake_per_sleep: int = Field(default=15, ge=1, le=1000)
    stages: tuple[str, ...] = ("W/N1", "N2", "N3", "R")
    unit: Literal["robust", "uV"] = "robust"
    licence: str | None = None
    source: str | None = None

    @model_validator(mode="after")
    def _names_and_samples(self) -> Self:
        for what, names in (("items", self.item_names), ("channels", self.channels), ("conditions", self.conditions)):
            folded = [name.casefold() for name in names]
            if twice := sorted({name for name in names if folded.count(name.casefold()) > 1}):
                raise ValueError(f"{what} names {', '.join(map(repr, twice))} twice (large and small letters are one)")
        if self.windows.wake.earliest_end is not None:
            raise ValueError("windows.wake: earliest_end is for sleep trials; awake trials are of equal length")
        for name, window in (("sleep", self.windows.sleep), ("wake", self.windows.wake)):
            for seconds in (window.begin, window.end, window.earliest_end or 0):
                if abs(seconds * self.rate_hz - round(seconds * self.rate_hz)) > 1e-6:
                    raise ValueError(
                        f"windows.{name}: {seconds:g} s is no whole number of samples at {self.rate_hz:g} Hz"
                    )
        return self

    @property
    def item_names(self) -> tuple[str, ...]:
        """Names of the items; an item's class index is its place."""
        return tuple(item.name for item in self.items)

    @property
    def awake_kinds(self) -> tuple[str, ...]:
        """Which of `AWAKE` there are."""
        return tuple(kind for kind in AWAKE if kind in self.conditions)

    @property
    def sleep_samples(self) -> int:
        """Samples of a sleep trial, of the longest one where lengths vary."""
        return round(self.windows.sleep.seconds * self.rate_hz)

    @property
    def varying_lengths(self) -> bool:
        """Whether sleep trials are of unequal length: NaN in all channels stands behind the end of a shorter one."""
        return self.windows.sleep.earliest_end is not None

    @property
    def shortest_samples(self) -> int:
        """Samples that every sleep trial has."""
        return self.cut_to_shortest().sleep_samples

    def cut_to_shortest(self) -> "DataCard":
        """Return the card of the same trials when all of them end at the earliest end."""
        sleep = self.windows.sleep
        if sleep.earliest_end is None:
            return self
        cut = sleep.model_copy(update={"end": sleep.earliest_end, "earliest_end": None})
        return self.model_copy(update={"windows": self.windows.model_copy(update={"sleep": cut})})

    @property
    def awake_samples(self) -> int:
        """Samples of an awake trial."""
        return round(self.windows.wake.seconds * self.rate_hz)

    @property
    def sleep_shape(self) -> tuple[int, int]:
        """Shape of a stored sleep trial: channels, samples."""
        return len(self.channels), self.sleep_samples

    @property
    def awake_shape(self) -> tuple[int, int]:
        """Shape of a stored awake trial: channels, samples."""
        return len(self.channels), self.awake_samples

    @property
    def fingerprint(self) -> str:
        """Twelve characters that differ where anything differs that a network's numbers depend on."""
        parts = self.model_dump(mode="json", include={"channels", "reference", "filter", "rate_hz", "windows", "unit"})
        text = json.dumps({**parts, "items": self.item_names}, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def item_index(self, name: str) -> int:
        """Return the class index of an item's name; a `ValueError` names the nearest there is."""
        if name in self.item_names:
            return self.item_names.index(name)
        close = nearest(name, self.item_names, 1)
        more = ", ..." if len(self.items) > _SHOWN else ""
        known = f"items: {', '.join(self.item_names[:_SHOWN])}{more}"
        raise ValueError(f"unknown item {reprlib.repr(name)}; {f'did you mean {close[0]!r}?' if close else known}")

    def require(self, condition: str, where: str | Path) -> None:
        """Refuse to look for trials of a condition that the data set does not have."""
        if condition not in self.conditions:
            raise UserError(
                f"{display_path(where)}: the data card says that there are no trials of {condition!r}, only of "
                f"{', '.join(self.conditions)}"
            )


def items_apart(one: str, own: Sequence[str], other: str, theirs: Sequence[str]) -> str:
    """Return which items only `one` or only the `other` has, at most three of them, for a message; "" for none."""
    apart = [f"{name!r} is in {one} only" for name in own if name not in theirs]
    apart += [f"{name!r} is in {other} only" for name in theirs if name not in own]
    return ", ".join(apart[:3]) + (f" and {len(apart) - 3} more" if len(apart) > 3 else "")


@cache
def published() -> DataCard:
    """Return the card of the published experiment."""
    return config.load(DataCard, PARAMS / "published_card.yaml")


def card_of(root: str | Path) -> DataCard:
    """Return the card of a data set's folder: its `dataset.yaml`, else the published card."""
    path = Path(root) / FILE
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else published()


def place_of(root: str | Path) -> str:
    """Return where a data set's card stands, for messages."""
    path = Path(root) / FILE
    return display_path(path) if path.is_file() else f"the published card ({display_path(root)} has no {FILE})"


@cache
def _read(path: Path, _changed: int) -> DataCard:
    return config.load(DataCard, path)


def file_of(path: str | Path) -> Path:
    """Return the path of a card that is named by itself or by the folder of its data set."""
    path = user_path(path)
    return path / FILE if path.is_dir() else path


def _given(value: Any) -> Any:
    """Return the card that a setting names by its path; null stands for the published one."""
    if value is None:
        return published()
    if not isinstance(value, str | Path):
        return value
    return config.load(DataCard, file_of(value))


CardSetting = Annotated[DataCard, BeforeValidator(_given)]
"""Type of a setting `card`: the path of a card, or of a folder that holds one; null is the published card."""


class HasCard(Settings):
    """Settings with a field `card`, which is written only where it is not the published one."""

    @model_serializer(mode="wrap")
    def _without_the_published_card(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        tree = handler(self)
        if getattr(self, "card", None) == published():
            tree.pop("card", None)
        return tree

    def share_montage(self, name: str, refusal: str) -> dict[str, Any]:
        """Let the card and the settings `name` have one montage, whichever was given; return what that changes of
        the card. With both given and different, `refusal` is the `ValueError`.
        """
        own, card = getattr(self, name), getattr(self, "card", published())
        if own.montage == card.channels:
            return {}
        if card.channels == published().channels:
            return {"channels": own.montage}
        if "montage" in own.model_fields_set:
            raise ValueError(refusal)
        object.__setattr__(self, name, type(own).model_validate(own.model_dump() | {"montage": card.channels}))
        return {}


def from_notes(notes: dict[str, Any], where: str) -> DataCard:
    """Return the card that a checkpoint's or a run's notes hold under "card", else the published card."""
    return config.validate(DataCard, notes["card"], f"{where}, card") if "card" in notes else published()


def to_notes(card: DataCard) -> dict[str, Any]:
    """Return a card and its fingerprint as notes that `from_notes` reads."""
    return {"card": card.model_dump(mode="json"), "card_fingerprint": card.fingerprint}


def write(card: DataCard, root: str | Path) -> None:
    """Write a card into a data set's folder; of the published card nothing is written."""
    if card != published():
        config.save(card, Path(root) / FILE)
