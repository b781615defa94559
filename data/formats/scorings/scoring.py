"""What a reader of scorings is given, and what it returns."""

import datetime
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

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
    dates: tuple[datetime.date, ...] = ()  # what that of the time `clock` may be
    persons: tuple[tuple[str, str], ...] = ()  # columns that name a person, and whom
    remarks: tuple[str, ...] = ()


class ScoringFormat(Protocol):
    """A format of scorings."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether a file is of this format."""

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Return the scoring of a file of this format."""


_MARKS = re.compile(
    r"m|mt|sleep-mt|l|lights.*|(movement|bewegung)( time)?|art[ei]fa[ck]t|art|arousal", re.IGNORECASE
)  # fmt: skip
"""Stages by their names that are events as well, after which sleep goes on as it was."""


def held(rows: list[Row], last: float, where: str) -> list[Row]:
    """Return rows of which those without a length (below 1 s) hold until the next one begins; the last one `last` s.

    Rows of up to 1 s that begin far apart have none. Where none has a length and they are epochs (`epoch_step`), all
    are as long as these. Refuses a movement and the like that would hold for longer than `last`, instead of the stage
    before it.
    """
    following = [b[0] - a[0] for a, b in pairwise(rows)] + [last] * bool(rows)
    if all(length <= 1 for _, length, _ in rows) and min(following[:-1], default=0.0) >= SHORTEST:
        rows = [(onset, 0.0, stage) for onset, _, stage in rows]
    if all(length < 1 for _, length, _ in rows) and (step := epoch_step(rows)):
        following = [step] * len(rows)
    for (onset, length, stage), until in zip(rows, following, strict=True):
        if length < 1 and until > max(last, 30.0) + 0.5 and _MARKS.fullmatch(stage.strip()):
            raise UserError(
                f"{where}: at {onset:g} s is {stage!r} without a length, and the next stage begins {until:g} s later; "
                "write how long it lasted, or the stage that followed it"
            )
    return [
        (onset, length if length >= 1 else until, stage)
        for (onset, length, stage), until in zip(rows, following, strict=True)
    ]


def usual_step(onsets: Sequence[float]) -> tuple[float, bool]:
    """Return the most frequent step between onsets, s, and whether three fifths of all are as long."""
    steps = Counter(round(b - a, 3) for a, b in pairwise(onsets))
    step, count = min(steps.items(), key=lambda item: (-item[1], item[0]))
    return step, count >= 0.6 * (len(onsets) - 1)


def epoch_step(rows: Sequence[Row]) -> float | None:
    """Return the length of epochs, s; None where rows are stretches of one stage, or of different lengths."""
    if not any(a[2] == b[2] for a, b in pairwise(rows)):
        return None
    step, regular = usual_step([row[0] for row in rows])
    return step if regular else None


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
            raise UserError(f"{where}: at {onset:g} s is {stage!r} without a length, in {there}; write its duration")
    return kept


def stages_among(texts: Sequence[str], options: ScoringOptions, where: str, letters: bool = True) -> list[str | None]:
    """Return the stage that each text of an event stands for, None where it is another event.

    Stages are what `annotation` matches, and what `names` holds. Refuses a text that is a stage by its name while
    others match; a single letter is none unless `letters`.
    """
    given = {name.strip().casefold() for name in options.names}
    found = [stage_of_text(options.annotation, text) for text in texts]
    if any(stage is not None for stage in found):
        for text, stage in zip(texts, found, strict=True):
            named = known(text) not in (None, UNSCORED) and (letters or len(text) > 1)
            if stage is None and named and text.casefold() not in given:
                raise UserError(
                    f"{where}: {text!r} is a stage, but does not match stages.annotation = {options.annotation!r} as "
                    "others do; change the setting so that it matches all"
                )
    return [
        text if stage is None and text.casefold() in given else stage for text, stage in zip(texts, found, strict=True)
    ]


def stage_of_text(pattern: str, text: str) -> str | None:
    """Return the stage in a text that the pattern of annotations matches, else None."""
    for candidate in (text.strip(), text.partition("/")[2].strip()):
        if candidate and (found := re.fullmatch(pattern, candidate)):
            return found["stage"]
    return None


def refuse_unknown(rows: Sequence[Row], others: Sequence[tuple[float, str, str]], options: ScoringOptions) -> None:
    """Refuse an event that begins where a stage is missing between two, if its like never lies in a scored row.

    It is a stage of an unknown name. `others` are onset in s, text, and where it stands in the file. Marks of pauses,
    of artefacts and of what nobody scored say what they are.
    """
    others = [one for one in others if known(one[1]) != UNSCORED and not _PAUSE.match(one[1])]
    least = min(SHORTEST, options.epoch_seconds)
    ends = np.array([onset + length for onset, length, _ in rows])
    begins = np.array([row[0] for row in rows])
    missing = ends[:-1][begins[1:] - ends[:-1] >= least]
    if not len(missing):
        return
    inside = set[str]()
    for onset, text, _ in others:
        place = int(np.searchsorted(begins, onset + 0.01, side="right")) - 1
        if place >= 0 and onset < ends[place] - 0.5:
            inside.add(text)
    for onset, text, where in others:
        if text not in inside and np.abs(missing - onset).min() < 0.5:
            raise UserError(
                f"{where}: {text!r} stands where no stage is; if it is one, say which with stages.names "
                f'("stages.names={{{text!r}: unscored}}", if nobody scored it)'
            )


_PAUSE = re.compile(r"(?i)(?:.*/)?(?:bad|edge|boundary|new segment|recording)")
SHORTEST = 10.0
"""Epochs are at least so long, s, unless `stages.epoch_seconds` says otherwise."""


def meaning(stage: str) -> int | str:
    """Return the code of a stage, or what is written where it has none by itself."""
    code = known(stage)
    return stage if code is None else code
