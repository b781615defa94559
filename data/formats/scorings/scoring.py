"""What a reader of scorings is given, and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from sleep_interpreter.data.formats.scorings.stage_codes import UNSCORED, known
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.text_tables import read_text

Row = tuple[float, float, str]
"""Onset in s, duration in s, stage as written."""


@dataclass(frozen=True)
class ScoringOptions:
    """What the settings `stages` say about a scoring; None and empty: the file has to tell."""

    format: str | None = None
    column: str | None = None
    onset: str | None = None
    duration: str | None = None
    ignore: tuple[str, ...] = ()
    first_epoch: int | None = None
    numbers: str = "auto"
    names: Mapping[str, str] = field(default_factory=dict)
    epoch_seconds: float = 30.0
    annotation: str = r"(?:stage/|Sleep stage )(?P<stage>.+)"


@dataclass(frozen=True)
class ScoringFile:
    """A file that holds a scoring, in whatever format."""

    path: Path

    @property
    def where(self) -> str:
        """Its name in messages."""
        return display_path(self.path)

    @cached_property
    def head(self) -> bytes:
        """Its first bytes."""
        with self.path.open("rb") as handle:
            return handle.read(512)

    @cached_property
    def _read(self) -> tuple[str, str | None]:
        return read_text(self.path)

    @property
    def text(self) -> str:
        """What it says; refuses what is no text."""
        return self._read[0]

    @property
    def encoding_remark(self) -> str | None:
        """What there is to say of its encoding, where it was read as text."""
        return self._read[1] if "_read" in vars(self) else None

    @cached_property
    def lines(self) -> list[tuple[int, str]]:
        """Its lines that are not blank, each with its number in the file."""
        return [(k, line.strip()) for k, line in enumerate(self.text.splitlines(), 1) if line.strip()]


@dataclass(frozen=True)
class Scoring:
    """Rows of a scoring, and where on the recording's time they lie.

    Onsets count from the scoring's zero. It lies `elapsed` s after the recording's first sample, or at the time of day
    `clock` (s after midnight). Where both are known, they have to agree; where `undecided`, one of the two holds.
    """

    rows: list[Row]
    how: str  # what the reader took for what
    elapsed: float | None = 0.0
    clock: float | None = None
    undecided: bool = False
    ordered: bool = False  # the file says the order of epochs alone
    numbers: str | None = None  # what numbers mean in this format
    remarks: tuple[str, ...] = ()


class ScoringFormat(Protocol):
    """A format of scorings."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether a file is of this format."""

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Return the scoring of a file of this format."""


def held(rows: list[Row], last: float) -> list[Row]:
    """Return rows of which those without a length (below 1 s) hold until the next one begins; the last one `last` s."""
    following = [b[0] - a[0] for a, b in pairwise(rows)] + [last]
    return [
        (onset, length if length >= 1 else until, stage)
        for (onset, length, stage), until in zip(rows, following, strict=True)
    ]


def without_marks(rows: list[Row], where: str) -> list[Row]:
    """Return rows without those of no length that lie in a longer one and say the same: events that tell their stage.

    Where no row has a length, all stay. Refuses one that says something else, or lies in no other row.
    """
    kept = [row for row in rows if row[1] >= 1]
    if not kept or len(kept) == len(rows):
        return rows
    for onset, length, stage in rows:
        around = next((name for begin, long, name in kept if begin - 0.01 <= onset < begin + long), None)
        if length < 1 and meaning(stage) != (UNSCORED if around is None else meaning(around)):
            there = "no other row" if around is None else f"one of {around!r}"
            raise UserError(f"{where}: at {onset:g} s is {stage!r} without a length, in {there}")
    return kept


def meaning(stage: str) -> int | str:
    """Return the code of a stage, or what is written where it has none by itself."""
    code = known(stage)
    return stage if code is None else code
