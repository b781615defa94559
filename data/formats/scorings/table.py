"""Tables with a header: CSV and TSV of any program, BIDS events, lists of annotations."""

import datetime
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sleep_interpreter.data.formats.scorings import clock
from sleep_interpreter.data.formats.scorings.columns import (
    DATES,
    DURATIONS,
    ENDS,
    EPOCHS,
    EVENTS,
    IN_EPOCHS,
    ONSETS,
    PERSONS,
    RECORDINGS,
    SAMPLES,
    SCORERS,
    STAGES,
    UNITS,
    Column,
    columns_of,
    is_empty,
    is_header,
    name_and_unit,
    named,
    numbers_in,
    rises,
    several,
    stage_column,
)
from sleep_interpreter.data.formats.scorings.scoring import (
    SHORTEST,
    Row,
    Scoring,
    ScoringFile,
    ScoringOptions,
    epoch_step,
    held,
    refuse_unknown,
    stage_of_text,
    stages_among,
    usual_step,
    without_marks,
)
from sleep_interpreter.data.formats.scorings.stage_codes import UNSCORED, known
from sleep_interpreter.data.formats.scorings.stage_list import in_one_line
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.text_tables import SEPARATORS, TextTable, is_number, numbers, parse_table

_LONGEST = 120.0
"""Epochs are no longer than so many s, unless `stages.epoch_seconds` says so: numbers are of another unit."""


class Table:
    """A table of stages: what its columns mean is read off their names, or said by the settings."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether the first line is a header: no number, no time and no stage, or a known column is in it."""
        first = _text(file).lstrip().partition("\n")[0]
        if in_one_line([line for _, line in file.lines]):
            return False
        return bool(first) and is_header(parse_table(file.path, first, None).header, options)

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read a table.

        Columns are found by name; one that is numeric or holds times and was not used is refused, unless it says the
        same as another one, or `ignore` names it.
        """
        text = _text(file)
        if (line := _later_header(text)) is not None:
            raise UserError(
                f"{file.where}: the names of columns seem to stand in line {line}; delete the lines above it, or begin "
                "them with #"
            )
        return read_table(parse_table(file.path, text, None), file.where, options)


def _text(file: ScoringFile) -> str:
    """Return what a file says without comments, with tabs between columns that only blanks part."""
    lines = ["" if line.startswith("#") else line for line in file.text.splitlines()]
    counts = {len(line.split()) for line in lines if line.strip()}
    if len(counts) == 1 and counts != {1} and not any(sign in line for line in lines for sign in SEPARATORS):
        lines = ["\t".join(line.split()) for line in lines]
    return "\n".join(lines)


def _later_header(text: str) -> int | None:
    """Return the line that names a column of stages and others, behind lines that do not; None where there is none."""
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not re.match(r"\"?sep=", line, re.IGNORECASE)  # a spreadsheet's
    ]
    for number, line in lines[:60]:
        separator = max(SEPARATORS, key=line.count)
        names = {name_and_unit(cell)[0] for cell in (line.split(separator) if separator in line else line.split())}
        if names & set(STAGES) and names & {*ONSETS, *DURATIONS, *EPOCHS, *ENDS}:
            return number if number != lines[0][0] else None
    return None


def read_table(table: TextTable, where: str, options: ScoringOptions) -> Scoring:
    """Return the scoring that a table with a header holds."""
    columns = columns_of(table)
    for setting, title in (("column", options.column), ("onset", options.onset), ("duration", options.duration)):
        _ = title is None or named(columns, title, f"stages.{setting}", where)
    ignored = {named(columns, title, "stages.ignore", where).place for title in options.ignore}
    stages = stage_column(columns, where, options)
    others = [c for c in columns if c.place != stages.place and c.place not in ignored and c.kind != "empty"]
    frame = _Frame(table, columns, stages, others, where, options)
    return replace(frame.scoring(), persons=tuple((c.title, c.first) for c in others if c.name in PERSONS[:-1]))


class _Frame:
    """The columns of a table by what they say, and the rows made of them."""

    def __init__(
        self, table: TextTable, columns: list[Column], stages: Column, others: list[Column], where: str,
        options: ScoringOptions,
    ) -> None:  # fmt: skip
        self.table, self.stages, self.where, self.options = table, stages, where, options
        self.others = others
        self.used: dict[str, str] = {"stages": stages.title}
        self.remarks: list[str] = []
        self.keep = [k for k, row in enumerate(table.rows) if any(row)]
        onset = self._given(columns, options.onset)
        self.onsets = [onset] if onset else self._by_name(ONSETS, ("number", "clock", "other time"))
        duration = self._given(columns, options.duration)
        self.duration = duration or self._one("how long a row lasts", DURATIONS, ("number", "clock"), "stages.duration")
        self.end = self._one("when a row ends", ENDS, ("number", "clock", "other time"), "stages.duration")
        self.epoch = self._one("the number of an epoch", EPOCHS, ("number",), "stages.onset")
        self.date = self._one("the date", DATES, ("clock", "other time", "text", "number"), "stages.ignore")

    def scoring(self) -> Scoring:
        """Return what the table says."""
        wanted, others = self._stage_rows()
        if not wanted:
            raise UserError(f"{self.where}: holds no sleep stage in column {self.stages.title!r}")
        self._check_whose(wanted)
        numeric = [c for c in self.onsets if c.kind == "number"]
        clocks = [c for c in self.onsets if c.kind != "number"]
        if not self.onsets:
            return self._without_times(wanted)
        if len(clocks) > 1:
            self._refuse_two(clocks[0], clocks[1])
        time = self._times(clocks[0], wanted) if clocks else None
        if numeric:
            onset = self._begins(numeric[0], wanted)
            for column in numeric[1:]:
                if not np.allclose(self._begins(column, wanted), onset, atol=0.5):
                    self._refuse_two(numeric[0], column)
            if time is not None and not np.allclose(onset - onset[0], time.onsets, atol=1.5):
                self._refuse_two(numeric[0], clocks[0])
            elapsed: float | None = 0.0
            time = time or self._other_clock(onset, wanted)
            zero = float(onset[0])
            day = None if time is None or time.clock is None else (time.clock - zero) % clock.DAY
        else:
            assert time is not None
            onset, elapsed, day = np.array(time.onsets), time.elapsed, time.clock
        self.used["onsets"] = " and ".join(c.title for c in (*numeric[:1], *clocks))
        self.remarks += time.remarks if time else ()
        order = np.argsort(onset, kind="stable")
        onset, wanted = onset[order], [wanted[k] for k in order]
        lengths, last = self._lengths(onset, wanted)
        self._leftover(onset, wanted)
        names = [self._stage(k) for k in wanted]
        rows: list[Row] = [(float(o), float(d), n) for o, d, n in zip(onset, lengths, names, strict=True)]
        rows = held(without_marks(rows, self.where), last, self.where)
        if others:
            self._check_events(rows, others, float(onset[0]), wanted[0])
        dates = () if time is None else time.dates
        if time is not None and time.clock is not None and numeric:
            passed = datetime.timedelta(days=(time.clock - zero) // clock.DAY)
            dates = tuple(date + passed for date in dates)
        undecided = not numeric and elapsed is not None and day is not None
        return Scoring(rows, self._how(), elapsed, day, undecided, remarks=tuple(self.remarks), dates=dates)

    def _other_clock(self, onset: np.ndarray, rows: list[int]) -> clock.Times | None:
        """Return the times of a column of another name that keeps step with the onsets, None where there is none."""
        known = (self.end, self.duration, self.date)
        for column in self.others:
            if column.kind == "clock" and column not in known and self._harmless(column, onset, rows):
                self.used["clock"] = column.title
                return self._times(column, rows)
        return None

    def _stage_rows(self) -> tuple[list[int], list[int]]:
        """Return which rows are stages, and which are other events."""
        rows = self.keep
        if not self.onsets:
            return rows, []
        rows = [k for k in rows if not is_empty(self.stages.cells[k])]  # another event, or not scored: no stage
        texts = [self.stages.cells[k] for k in rows]
        found = stages_among(texts, self.options, f"{self.where}, column {self.stages.title!r}")
        if not any(stage_of_text(self.options.annotation, text) for text in texts):
            if self.stages.name not in EVENTS:
                return rows, []
            found = [stage or (text if known(text) is not None or is_number(text) else None)
                     for text, stage in zip(texts, found, strict=True)]  # fmt: skip
        stages = [k for k, stage in zip(rows, found, strict=True) if stage is not None]
        return (stages, [k for k in rows if k not in set(stages)]) if stages else (rows, [])

    def _check_whose(self, rows: list[int]) -> None:
        """Refuse rows of several persons or recordings, and those of several scorers that stand for the same times."""
        times = self.onsets or [c for c in (self.epoch,) if c is not None]
        once = bool(times) and len({times[0].cells[k] for k in rows}) == len(rows)
        for column in self.others:
            values = several(column, rows)
            shown = ", ".join(map(repr, values[:3])) + (" ..." if len(values) > 3 else "")
            if values and column.name in (*PERSONS, *RECORDINGS):
                raise UserError(
                    f"{self.where}: holds several recordings, by its column {column.title!r} ({shown}); write a file "
                    f"for each (or set stages.ignore=[{column.title!r}], if it says something else)"
                )
            if values and column.name in SCORERS and not once:
                raise UserError(
                    f"{self.where}: holds several scorings of one recording, by its column {column.title!r} ({shown}); "
                    "write a file for each"
                )

    def _stage(self, row: int) -> str:
        text = self.stages.cells[row]
        return stage_of_text(self.options.annotation, text) or text

    def _check_events(self, rows: list[Row], others: list[int], begin: float, first: int) -> None:
        """Say which other events there are; refuse stages of unknown names. The row `first` begins at `begin`."""
        texts = Counter(self.stages.cells[k] for k in others)
        shown = ", ".join(f"{text!r} ({n})" for text, n in texts.most_common(6))
        self.remarks.append(f"other events than stages in column {self.stages.title!r}: {shown}")
        column, places = self.onsets[0], list[tuple[float, str, str]]()
        zero = clock.moment(column.cells[first])
        for k in others:
            if column.kind == "number":
                at = float(self._seconds(column, [k])[0])
            else:
                at = begin + (clock.after(column.cells[k], zero) if zero else float("nan"))
            places.append((at, self.stages.cells[k], f"{self.where}, line {self.table.lines[k]}"))
        refuse_unknown(rows, places, self.options)

    def _seconds(self, column: Column, rows: Sequence[int]) -> np.ndarray:
        """Return a column of numbers in s."""
        label = f"{self.where}, column {column.title!r}"
        if column.unit and column.unit not in (*UNITS, *IN_EPOCHS):
            raise UserError(
                f"{label}: its unit {column.unit!r} is none of s, ms, min, h, epochs; write s from the recording's "
                "first sample"
            )
        values = numbers([column.cells[k] for k in rows], label)
        if lacking := [self.table.lines[k] for k, value in zip(rows, values, strict=True) if not np.isfinite(value)]:
            raise UserError(f"{label}, line {lacking[0]}: is empty")
        unit = self.options.epoch_seconds if column.unit in IN_EPOCHS else UNITS.get(column.unit, 1.0)
        return np.array(values) * unit

    def _begins(self, column: Column, rows: Sequence[int]) -> np.ndarray:
        """Return a column of numbers in s from the first sample, which may count epochs."""
        seconds = self._seconds(column, rows)
        return seconds - self._first_epoch(seconds[0]) if column.unit in IN_EPOCHS else seconds

    def _first_epoch(self, seconds: float) -> float:
        """Return where the recording's first epoch lies on a count of epochs whose first one lies at so many s."""
        own, first = self.options.epoch_seconds, self.options.first_epoch
        number = seconds / own
        if first is None and number not in (0, 1):
            raise UserError(
                f"{self.where}: the scoring begins with epoch {number:g}, which lies at {own * number:g} s "
                f"where the recording's first epoch is 0 and at {own * (number - 1):g} s where it is 1; say "
                "which with stages.first_epoch"
            )
        return own * number if first is None else own * first

    def _moments(self, column: Column, rows: Sequence[int]) -> list[clock.Moment]:
        label = f"{self.where}, column {column.title!r}"
        found = []
        for k in rows:
            one = clock.moment(column.cells[k])
            if one is not None and one.date is None and self.date is not None and column in self.onsets:
                one = replace(one, date=self.date.cells[k])
                self.used["date"] = self.date.title
            if one is None:
                others = [n for n in self.keep if not is_empty(column.cells[n]) and not is_number(column.cells[n])]
                k = next((n for n in others if not clock.moment(column.cells[n])), k)
                raise UserError(
                    f"{label}, line {self.table.lines[k]}: {column.cells[k]!r} is no time with hours, minutes and "
                    "seconds (23:59:30), and no number of seconds"
                )
            found.append(one)
        return found

    def _times(self, column: Column, rows: Sequence[int]) -> clock.Times:
        lines = [self.table.lines[k] for k in rows]
        return clock.times(self._moments(column, rows), f"{self.where}, column {column.title!r}", lines)

    def _lengths(self, onset: np.ndarray, rows: list[int]) -> tuple[np.ndarray, float]:
        """Return how long rows last, s; 0 where they hold until the next one begins; and how long the last one does."""
        steps, own = np.diff(onset), self.options.epoch_seconds
        lengths = None if self.end is None else self._until_ends(onset, rows)
        if self.duration is not None:
            self.used["durations"] = self.duration.title
            said = [n for n, k in enumerate(rows) if not is_empty(self.duration.cells[k])]
            stated = np.zeros(len(rows))
            stated[said] = self._durations(self.duration, [rows[n] for n in said])
            if lengths is not None and not np.allclose(lengths[said], stated[said], atol=1.5):
                raise UserError(
                    f"{self.where}: columns {self.duration.title!r} and {self.end and self.end.title!r} differ in how "
                    "long rows last; leave one out with stages.ignore"
                )
            lengths = stated
        if lengths is not None and (lengths > 0).any():
            usual = float(np.median(lengths[lengths > 0]))
            self._check_short(self.duration or self.onsets[0], lengths, rows)
            if len(steps) > 2 and np.ptp(steps) < 1e-6 and steps[0] > 1.5 * usual:
                raise UserError(
                    f"{self.where}: rows of {usual:g} s begin {steps[0]:g} s apart; are both columns in s? Write units "
                    f"into the header ({self.onsets[0].title} [s])"
                )
            return lengths, own
        if not len(steps):
            return np.zeros(len(rows)), own
        if float(steps.min()) == 0:
            raise UserError(
                f"{self.where}, column {self.onsets[0].title!r}: two rows begin at one time; take out what stands "
                "twice, or write times with more decimals"
            )
        usual, regular = usual_step(onset.tolist())
        if regular and not (SHORTEST <= usual <= _LONGEST or abs(usual - own) < 0.01):
            self._refuse_unit(self.onsets[0], usual, "begin", True)
        if float(steps.min()) < min(SHORTEST, own):
            self._refuse_unit(self.onsets[0], float(steps.min()), "begin", regular)
        if epoch_step([(float(o), 0.0, self._stage(k)) for o, k in zip(onset, rows, strict=True)]):
            if far := int((steps > usual + 1).sum()):
                self.remarks.append(f"after {far} epochs the next one does not follow at once: not scored there")
            return np.full(len(rows), usual), usual
        if not regular:
            self.remarks.append(f"how long the last row lasts is not said: {own:g} s are taken")
        return np.zeros(len(rows)), usual if regular else own

    def _durations(self, column: Column, rows: Sequence[int]) -> np.ndarray:
        if column.kind == "clock":
            return np.array([one.seconds for one in self._moments(column, rows)])
        return self._seconds(column, rows)

    def _until_ends(self, onset: np.ndarray, rows: list[int]) -> np.ndarray | None:
        """Return how long rows last by the column of their ends; None where another column has to tell."""
        assert self.end is not None
        start = next((c for c in self.onsets if (c.kind == "number") == (self.end.kind == "number")), None)
        if start is None and self.duration is None:
            raise UserError(
                f"{self.where}: columns {self.onsets[0].title!r} and {self.end.title!r} do not go together; leave one "
                "out with stages.ignore"
            )
        if start is None:
            return None
        self.used["ends"] = self.end.title
        if self.end.kind == "number":
            begins, ends = self._seconds(start, rows), self._seconds(self.end, rows)
            lengths = ends - begins
            if self.end.unit in IN_EPOCHS and np.allclose(begins[1:] - ends[:-1], self.options.epoch_seconds):
                lengths = lengths + self.options.epoch_seconds  # of the last epoch, not up to the first one behind
        else:
            ends = np.array([m.seconds for m in self._moments(self.end, rows)])
            lengths = (ends - np.array([m.seconds for m in self._moments(start, rows)])) % clock.DAY
        if (lengths < 0).any() or (lengths > clock.DAY / 2).any():
            line = self.table.lines[rows[int(np.flatnonzero((lengths < 0) | (lengths > clock.DAY / 2))[0])]]
            raise UserError(
                f"{self.where}, line {line}: the row ends before it begins; where clocks "
                f"were set back, leave out the ends with stages.ignore=[{self.end.title!r}]"
            )
        return lengths

    def _check_short(self, column: Column, lengths: np.ndarray, rows: list[int]) -> None:
        """Refuse rows that are shorter than any epoch: half of them, or a tenth of those of stages within the night."""
        least = min(SHORTEST, self.options.epoch_seconds)
        some = lengths[lengths > 0]
        if len(some) and np.median(some) < least:
            self._refuse_unit(column, float(np.median(some)), "last", bool(np.ptp(some) < 0.01))
        given = {name.strip().casefold() for name in self.options.names}
        names = [self._stage(k) for k in rows[1:-1]]
        inner = [
            float(length)
            for length, name in zip(lengths[1:-1], names, strict=True)
            if length >= 1 and known(name) != UNSCORED and name.casefold() not in given
        ]
        short = [length for length in inner if length < least]
        if short and len(short) >= 0.1 * len(inner):
            self._refuse_unit(column, min(short), f"of stages last less than {least:g} s, down to", False)

    def _check_summary(self, column: Column, rows: list[int]) -> None:
        """Refuse lengths of rows without onsets in which each stage stands once."""
        names = [self._stage(k) for k in rows]
        if len(names) > 2 and len(set(names)) == len(names):
            raise UserError(
                f"{self.where}: each stage stands once, with column {column.title!r}, as in a summary of how long each "
                "lasted in all; if rows follow each other, write the s at which each begins into a column onset"
            )

    def _refuse_unit(self, column: Column, found: float, verb: str, epochs: bool) -> None:
        """Refuse numbers that seem to be of another unit; `epochs` says that rows may be short epochs."""
        what = f"rows {verb} {found:g} s" + (" apart" if verb == "begin" else "")
        if found < 0.01:
            raise UserError(
                f"{self.where}, column {column.title!r}: {what}; if these are days, as spreadsheets keep times, format "
                "the column as hh:mm:ss and save it again"
            )
        used = [c for c in (*self.onsets, self.end, self.duration) if c is not None and c.kind == "number"]
        named = " and ".join(c.title for c in used if not c.unit) or column.title
        own = f"; if epochs are so short, set stages.epoch_seconds={found:g}" if epochs else ""
        raise UserError(
            f"{self.where}, column {column.title!r}: {what}; if it is not in s, write the unit of {named} into "
            f"the header ([min], [h], [ms] or [epochs]){own}"
        )

    def _without_times(self, rows: list[int]) -> Scoring:
        """Return the scoring of a table that says in what order epochs follow each other, and not when."""
        own, count = self.options.epoch_seconds, len(rows)
        if (empty := sum(not self.stages.cells[k] for k in rows)) > count / 2:
            raise UserError(
                f"{self.where}: in column {self.stages.title!r}, {empty} of {count} cells are empty; if these repeat "
                "the stage above them, fill it in, if nobody scored there, write '?'"
            )
        if self.end is not None:
            raise UserError(
                f"{self.where}: column {self.end.title!r} says when rows end, and none when they begin; name the one "
                "that does with stages.onset"
            )
        if self.epoch is not None:
            number = self._seconds(replace(self.epoch, unit=""), rows)
            if (number % 1 != 0).any() or (np.diff(number) <= 0).any():
                raise UserError(f"{self.where}, column {self.epoch.title!r}: epochs have to be numbered upwards")
            first = self.options.first_epoch
            onset = own * number - self._first_epoch(own * float(number[0]))
            self.used["epochs"] = self.epoch.title
            self._leftover(onset, rows)
            if self.duration is not None:
                self._check_epoch_durations(rows)
            count = int(number[-1] - number[0]) + 1
            if count > 2 * len(rows):
                raise UserError(
                    f"{self.where}: column {self.epoch.title!r} counts {count} epochs, and {count - len(rows)} of them "
                    "are not there; if rows are changes of stage, write the s at which each begins into a column onset "
                    "instead, if nobody scored the others, write them with the stage '?'"
                )
            gaps = int((np.diff(number) > 1).sum())
            if gaps:
                self.remarks.append(f"{gaps} times numbers of epochs are left out: not scored there")
            result = [(float(o), own, self._stage(k)) for o, k in zip(onset, rows, strict=True)]
            return Scoring(result, self._how(), ordered=first is None, remarks=tuple(self.remarks))
        if len(self.keep) < len(self.table.rows):
            line = next(n for n, row in zip(self.table.lines, self.table.rows, strict=True) if not any(row))
            raise UserError(
                f"{self.where}, line {line}: is blank between epochs that follow each other; take it out, or write "
                "'?' for an epoch that nobody scored"
            )
        lengths = np.full(count, own)
        if self.duration is not None:
            lengths = self._durations(self.duration, rows)
            self._check_short(self.duration, lengths, rows)
            self._check_summary(self.duration, rows)
            self.used["durations"] = self.duration.title
        onset = np.concatenate([[0.0], np.cumsum(lengths)[:-1]]) if count else np.zeros(0)
        self._leftover(onset, rows)
        result = [(float(o), float(d), self._stage(k)) for o, d, k in zip(onset, lengths, rows, strict=True)]
        order = "rows follow each other from the recording's first sample"
        ordered = self.duration is None
        return Scoring(result, f"{self._how()}; {order}", ordered=ordered, remarks=tuple(self.remarks))

    def _check_epoch_durations(self, rows: list[int]) -> None:
        assert self.duration is not None
        lengths = self._durations(self.duration, rows)
        if not np.allclose(lengths, self.options.epoch_seconds, atol=0.01):
            raise UserError(
                f"{self.where}: column {self.duration.title!r} says {lengths[0]:g} s, epochs last "
                f"{self.options.epoch_seconds:g} s (stages.epoch_seconds); name the column of onsets with stages.onset"
            )

    def _leftover(self, onset: np.ndarray, rows: list[int]) -> None:
        """Refuse a column that may say when rows lie and was not used; note the others."""
        taken = {c.place for c in (*self.onsets, self.duration, self.end, self.epoch, self.date) if c is not None}
        unused = []
        for column in self.others:
            if column.place in taken and not (column is self.epoch and self.onsets):
                continue
            timely = column.name in (*ONSETS, *ENDS, *DURATIONS, *EPOCHS) and not self.onsets
            counted = column.kind == "text" and not self.onsets and self._counts(column, onset, rows)
            if counted or ((column.kind != "text" or timely) and not self._harmless(column, onset, rows)):
                self._refuse(column)
            if column.place not in taken:
                unused.append(column.title)
        if unused:
            self.used["not used"] = ", ".join(unused)

    def _harmless(self, column: Column, onset: np.ndarray, rows: list[int]) -> bool:
        """Tell whether a column that was not used cannot say that rows lie elsewhere."""
        if column.kind != "number":
            found = [clock.moment(column.cells[k]) for k in rows]
            if self.onsets and all(found):
                steps = [m.seconds for m in found if m is not None]
                return bool(np.allclose(np.diff(steps) % clock.DAY, np.diff(onset), atol=1.5))
            return False
        try:
            values = np.array(numbers([column.cells[k] for k in rows], column.title))
        except UserError:
            return False
        values = values[np.isfinite(values)]
        if self.onsets:  # the table says when rows begin
            self._check_zero(column, values, onset)
            return True
        if not len(values) or (values.min() >= 0 and values.max() <= 1 and not rises([(v,) for v in values.tolist()])):
            return True  # a probability
        return self._counts_rows(values, onset, rows)

    @staticmethod
    def _counts_rows(values: np.ndarray, onset: np.ndarray, rows: list[int]) -> bool:
        """Tell whether values are numbers of rows, or their onsets."""
        if np.array_equal(values, values[0] + np.arange(len(rows))) and values[0] in (0, 1):
            return True  # numbers of rows
        return len(values) == len(rows) and bool(np.allclose(values, onset, atol=0.5))

    def _counts(self, column: Column, onset: np.ndarray, rows: list[int]) -> bool:
        """Tell whether the numbers in a column of text rise, and are neither those of rows nor their onsets."""
        found = [numbers_in(column.cells[k]) for k in rows if not is_empty(column.cells[k])]
        if len(found) < len(rows) / 2 or not all(found) or not rises(found):
            return False
        alike = len({len(one) for one in found}) == 1
        changing = [np.array(own) for own in zip(*found, strict=True) if len(set(own)) > 1] if alike else []
        return not changing or not self._counts_rows(changing[0], onset, rows)

    def _check_zero(self, column: Column, values: np.ndarray, onset: np.ndarray) -> None:
        """Refuse samples or epochs that keep step with the onsets in s, and count from another zero."""
        main = self.onsets[0]
        if main.kind != "number" or len(values) != len(onset) or len(onset) < 2 or onset[-1] <= onset[0]:
            return
        own = self.options.epoch_seconds
        if column.name in SAMPLES:
            rate = (values[-1] - values[0]) / (onset[-1] - onset[0])
            away = values[0] / rate - onset[0] if rate > 1 else 0.0
            differs = rate > 1 and np.allclose(np.diff(values), rate * np.diff(onset), rtol=0.01) and abs(away) > 1
        else:
            numbered = column is self.epoch and np.allclose(np.diff(values) * own, np.diff(onset))
            differs = bool(numbered and values[0] * own - onset[0] not in (0, own))
        if differs:
            self._refuse_two(main, column)

    def _refuse(self, column: Column) -> None:
        label = column.title
        if column.kind == "number" and re.search(r"epoch|epoque|époque", column.name):
            raise UserError(
                f"{self.where}: column {label!r} ({column.first!r} ...) says between which epochs a stage lasted, or "
                "how many; write when rows begin and how long they last, in s, into columns onset and duration"
            )
        if column.kind in ("text", "other time"):
            raise UserError(
                f"{self.where}: column {label!r} ({column.first!r} ...) is not understood, and may say when epochs "
                "lie; if it does, write the s from the recording's first sample, or hh:mm:ss, into a column onset, if "
                f"not, set stages.ignore=[{label!r}]"
            )
        raise UserError(
            f"{self.where}: column {label!r} ({column.first!r} ...) is not understood, and may say when epochs lie; "
            f"if it says when they begin, set stages.onset={label!r}, if how long they last, "
            f"stages.duration={label!r}, if neither, stages.ignore=[{label!r}]"
        )

    def _refuse_two(self, one: Column, other: Column) -> None:
        raise UserError(
            f"{self.where}: columns {one.title!r} and {other.title!r} both say when epochs begin, and differently "
            f"({one.first!r} and {other.first!r} at first); name the right one with stages.onset, and leave out the "
            f"other with stages.ignore"
        )

    def _given(self, columns: list[Column], title: str | None) -> Column | None:
        return None if title is None else named(columns, title, "", self.where)

    def _by_name(self, names: Sequence[str], kinds: Sequence[str]) -> list[Column]:
        own = {c.place for c in (getattr(self, "duration", None),) if c is not None}
        return [c for c in self.others if c.name in names and c.kind in kinds and c.place not in own]

    def _one(self, what: str, names: Sequence[str], kinds: Sequence[str], setting: str) -> Column | None:
        found = [c for c in self._by_name(names, kinds) if c not in self.onsets]
        if len(found) > 1:
            raise UserError(
                f"{self.where}: columns {found[0].title!r} and {found[1].title!r} both may say {what}; name one with "
                f"{setting} or leave one out with stages.ignore"
            )
        return found[0] if found else None

    def _how(self) -> str:
        return "table: " + ", ".join(f"{what} from {title!r}" if what != "not used" else f"{what}: {title}"
                                     for what, title in self.used.items())  # fmt: skip
