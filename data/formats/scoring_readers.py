"""Reads expert hypnograms of the usual formats (data/formats/scorings); R&K stages become AASM's."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sleep_interpreter.data.formats.scorings import stage_codes
from sleep_interpreter.data.formats.scorings.annotations import from_annotations
from sleep_interpreter.data.formats.scorings.registry import read_scoring
from sleep_interpreter.data.formats.scorings.scoring import Row, ScoringFile, ScoringOptions
from sleep_interpreter.data.formats.scorings.stage_codes import UNSCORED
from sleep_interpreter.utils.core.constants import STAGING_SECONDS
from sleep_interpreter.utils.core.errors import UserError

__all__ = ("UNSCORED", "Hypnogram", "Row", "ScoringOptions", "from_annotations", "make", "read_hypnogram")


@dataclass(frozen=True)
class Hypnogram:
    """A scored recording of n pieces.

    Its zero lies `elapsed` s after the recording's first sample or at the time of day `clock`; where both are known,
    they agree, or one of them holds (`undecided`).
    """

    onset: np.ndarray  # float (n,), s from the beginning of the scoring, rising
    duration: np.ndarray  # float (n,), s
    stage: np.ndarray  # int (n,): 0 = W or N1, 1 = N2, 2 = N3, 3 = R, -1 = not scored
    names: tuple[str, ...] = ()  # as written in the file
    clock: float | None = None  # time of day at which the scoring begins, s after midnight, where the file says one
    elapsed: float | None = 0.0
    undecided: bool = False
    ordered: bool = False  # the file says the order of epochs alone
    dates: tuple[datetime.date, ...] = ()  # what that of the time `clock` may be
    persons: tuple[tuple[str, str], ...] = ()  # columns that name a person, and whom
    how: str = ""  # what the reader took for what
    remarks: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Length from zero to the end of the last scored piece."""
        return float((self.onset + self.duration).max(initial=0.0))

    def at(self, seconds: np.ndarray | float) -> np.ndarray:
        """Return the stage at times in s, int array; -1 outside."""
        seconds = np.asarray(seconds, float)
        place = np.searchsorted(self.onset, seconds + 1e-9, side="right") - 1
        inside = (place >= 0) & (seconds < (self.onset + self.duration)[place] - 1e-9)
        return np.where(inside, self.stage[place], UNSCORED)

    def epochs(self, seconds: float) -> np.ndarray:
        """Return the stage at the middle of each whole epoch of 30 s in so many s, int array; -1: not scored."""
        return self.at((np.arange(int(seconds // STAGING_SECONDS)) + 0.5) * STAGING_SECONDS)

    def minutes(self) -> str:
        """Return the minutes of each stage, and of each code as the file writes it, in words."""
        found = stage_codes.minutes(self.stage.tolist(), self.duration.tolist())
        written: dict[str, float] = {}
        for name, length in zip(self.names, self.duration, strict=True):
            written[name] = written.get(name, 0.0) + float(length) / 60
        listed = ", ".join(f"{name or 'empty'} {length:g}" for name, length in written.items())
        return f"{found} min; as written: {listed}"


def make(rows: list[Row], where: str, numbers: str = "auto", names: Mapping[str, str] | None = None) -> Hypnogram:
    """Return the `Hypnogram` of rows; refuse none at all, an unknown stage, and times that are no numbers or overlap.

    `where` names the file in messages. `numbers` and `names` say what stages mean, as in
    `scorings.stage_codes.stage_codes`.
    """
    if not rows:
        raise UserError(f"{where}: holds no sleep stage")
    onset, duration = (np.array([row[k] for row in rows], float) for k in (0, 1))
    order = np.argsort(onset, kind="stable")
    written = [str(rows[k][2]).strip() for k in order]
    onset, duration = onset[order], duration[order]
    if not (np.isfinite(onset).all() and np.isfinite(duration).all() and (duration >= 0).all()):
        raise UserError(f"{where}: a stage without a finite onset and a duration of 0 s or more")
    if len(late := np.flatnonzero(onset[:-1] + duration[:-1] > onset[1:] + 0.5)):
        first = int(late[0])
        raise UserError(
            f"{where}: the stages at {onset[first]:g} s and {onset[first + 1]:g} s overlap; of a row that was mended "
            "later, leave out the old one, and of two people's scorings, write a file for each"
        )
    _check_lengths(onset, duration, where)
    codes = stage_codes.stage_codes(written, duration.tolist(), where, numbers, names)
    return Hypnogram(onset, duration, np.array(codes, int), tuple(written))


def _check_lengths(onset: np.ndarray, duration: np.ndarray, where: str) -> None:
    """Refuse rows of one length of which most are followed by nothing: they hold until the next one begins."""
    lost = float(np.clip(onset[1:] - (onset + duration)[:-1], 0, None).sum())
    far = (onset[1:] - (onset + duration)[:-1] > 1).sum()
    if len(onset) > 3 and np.ptp(duration) < 1 and far > (len(onset) - 1) / 2 and lost > duration.sum():
        raise UserError(
            f"{where}: all rows last {duration[0]:g} s, and behind {far} of {len(onset)} no other follows at once, so "
            f"that {lost / 60:.3g} min are not scored; if stages hold until the next one, leave their length out (in a "
            "table with stages.ignore=[duration]), or write it; if nobody scored the rest, write '?' there"
        )


def read_hypnogram(path: str | Path, options: ScoringOptions | None = None) -> Hypnogram:
    """Read a hypnogram of any format; `options` are those of the settings `stages`.

    Refuses a missing file, what no format takes or its format does not understand, and whatever `make` refuses.
    """
    path, options = Path(path), options or ScoringOptions()
    if not path.is_file():
        raise UserError(f"{path}: hypnogram not found")
    file = ScoringFile(path)
    found = read_scoring(file, options)
    numbers = found.numbers if options.numbers == "auto" and found.numbers is not None else options.numbers
    remarks = (*found.remarks, *([remark] if (remark := file.encoding_remark) else []))
    return replace(
        make(found.rows, file.where, numbers, options.names),
        clock=found.clock, elapsed=found.elapsed, undecided=found.undecided, ordered=found.ordered,
        how=found.how, remarks=remarks, persons=found.persons, dates=found.dates,
    )  # fmt: skip
