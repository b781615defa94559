"""Tables with a header: CSV and TSV of any program, BIDS events, lists of annotations."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from sleep_interpreter.data.formats.scorings import clock
from sleep_interpreter.data.formats.scorings.scoring import (
    Row,
    Scoring,
    ScoringFile,
    ScoringOptions,
    held,
    without_marks,
)
from sleep_interpreter.data.formats.scorings.stage_codes import UNSCORED, known, stage_codes
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.text_tables import EMPTY, TextTable, is_number, numbers, parse_table

_STAGES = (
    "stage", "stages", "sleep stage", "stage hum", "majority", "hypno", "label", "trial type", "description",
    "hypnogram", "sleep stages", "sleepstage", "scoring", "user defined stage", "stage name", "schlafstadium",
    "stadium", "stade", "annotation", "annotations", "event", "événement", "evenement", "ereignis", "evento", "class",
)  # fmt: skip
_EVENTS = ("label", "trial type", "description", "annotation", "annotations", "class", *_STAGES[-6:])
"""Columns that may hold other events beside stages."""
_ONSETS = (
    "onset", "start", "begin", "time", "start time", "begin time", "starttime", "onset time", "recording onset",
    "recording time", "epoch start", "clock", "clock time", "time of day", "datetime", "date time", "timestamp",
    "elapsed", "elapsed time", "seconds", "startzeit", "beginn", "zeit", "uhrzeit", "heure de début", "heure de debut",
    "début", "debut", "hora de inicio", "inicio", "hora",
)  # fmt: skip
_ENDS = (
    "end", "stop", "end time", "stop time", "offset", "endtime", "epoch end", "endzeit", "ende", "heure de fin", "fin",
    "hora de fin",
)  # fmt: skip
_DURATIONS = ("duration", "dur", "length", "dauer", "durée", "duree", "duración", "duracion", "epoch duration")
_EPOCHS = ("epoch", "epochs", "epoch number", "epoch no", "epoch nr", "epoch index", "epoch id", "époque", "epoche")
_DATES = ("date", "datum", "fecha")
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "sek", "sekunden"), 1.0),
    **dict.fromkeys(("ms", "msec", "milliseconds", "millisekunden"), 1e-3),
    **dict.fromkeys(("min", "mins", "minutes", "minuten"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hours", "stunden"), 3600.0),
}
_LEAST, _MOST = 10.0, 120.0
"""Epochs last so many s, unless `stages.epoch_seconds` says otherwise: others are taken for numbers of another unit."""


@dataclass(frozen=True)
class _Column:
    place: int
    title: str  # as written
    name: str  # in lower case, without its unit
    unit: str  # as the title states it, "" where it does not
    cells: tuple[str, ...]
    kind: str  # number, clock, other time, text, empty

    @property
    def first(self) -> str:
        return next((cell for cell in self.cells if not _empty(cell)), "")


class Table:
    """A table of stages: what its columns mean is read off their names, or said by the settings."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether the first line is a header: no number, no time and no stage, or a known column is in it."""
        lines = [line for _, line in file.lines if not line.startswith("#")]
        return bool(lines) and _is_header(parse_table(file.path, lines[0], None).header, options)

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read a table.

        Columns are found by name; one that is numeric or holds times and was not used is refused, unless it says the
        same as another one, or `ignore` names it.
        """
        text = "\n".join("" if line.startswith("#") else line for line in file.text.splitlines())
        return read_table(parse_table(file.path, text, None), file.where, options)


def read_table(table: TextTable, where: str, options: ScoringOptions) -> Scoring:
    """Return the scoring that a table with a header holds."""
    columns = _columns(table)
    for setting, title in (("column", options.column), ("onset", options.onset), ("duration", options.duration)):
        _ = title is None or _named(columns, title, f"stages.{setting}", where)
    ignored = {_named(columns, title, "stages.ignore", where).place for title in options.ignore}
    stages = _stage_column(columns, where, options)
    others = [c for c in columns if c.place != stages.place and c.place not in ignored and c.kind != "empty"]
    frame = _Frame(table, columns, stages, others, where, options)
    return frame.scoring()


class _Frame:
    """The columns of a table by what they say, and the rows made of them."""

    def __init__(
        self, table: TextTable, columns: list[_Column], stages: _Column, others: list[_Column], where: str,
        options: ScoringOptions,
    ) -> None:  # fmt: skip
        self.table, self.stages, self.where, self.options = table, stages, where, options
        self.others = others
        self.used: dict[str, str] = {"stages": stages.title}
        self.remarks: list[str] = []
        self.keep = [k for k, row in enumerate(table.rows) if any(row)]
        onset = self._given(columns, options.onset)
        self.onsets = [onset] if onset else self._by_name(_ONSETS, ("number", "clock", "other time"))
        duration = self._given(columns, options.duration)
        self.duration = duration or self._one(
            "how long a row lasts", _DURATIONS, ("number", "clock"), "stages.duration"
        )
        self.end = self._one("when a row ends", _ENDS, ("number", "clock", "other time"), "stages.duration")
        self.epoch = self._one("the number of an epoch", _EPOCHS, ("number",), "stages.onset")
        self.date = self._one("the date", _DATES, ("clock", "other time", "text", "number"), "stages.ignore")

    def scoring(self) -> Scoring:
        """Return what the table says."""
        wanted, others = self._stage_rows()
        if not wanted:
            raise UserError(f"{self.where}: holds no sleep stage in column {self.stages.title!r}")
        numeric = [c for c in self.onsets if c.kind == "number"]
        clocks = [c for c in self.onsets if c.kind != "number"]
        if not self.onsets:
            return self._without_times(wanted)
        if len(clocks) > 1:
            self._refuse_two(clocks[0], clocks[1])
        time = self._times(clocks[0], wanted) if clocks else None
        if numeric:
            onset = self._seconds(numeric[0], wanted)
            for column in numeric[1:]:
                if not np.allclose(self._seconds(column, wanted), onset, atol=0.5):
                    self._refuse_two(numeric[0], column)
            if time is not None and not np.allclose(onset - onset[0], time.onsets, atol=1.5):
                self._refuse_two(numeric[0], clocks[0])
            elapsed: float | None = 0.0
            time = time or self._other_clock(onset, wanted)
            day = None if time is None or time.clock is None else (time.clock - float(onset[0])) % clock.DAY
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
        rows = held(without_marks(rows, self.where), last)
        if others:
            self._check_events(rows, others, onset[0], wanted[int(np.flatnonzero(order == 0)[0])])
        undecided = not numeric and elapsed is not None and day is not None
        return Scoring(rows, self._how(), elapsed, day, undecided, remarks=tuple(self.remarks))

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
        texts = {k: self.stages.cells[k] for k in self.keep}
        pattern, given = self.options.annotation, {n.casefold() for n in self.options.names}
        matched = [k for k, text in texts.items() if stage_of_text(pattern, text) is not None]
        timed = bool(self.onsets)
        event_like = self.stages.name in _EVENTS
        if timed:  # what has no stage is another event, or an epoch that nobody scored: no stage either way
            texts = {k: text for k, text in texts.items() if not _empty(text)}
        if matched and timed:
            missed = [text for k, text in texts.items() if k not in matched and known(text) not in (None, UNSCORED)]
            if missed:
                raise UserError(
                    f"{self.where}: {missed[0]!r} in column {self.stages.title!r} is a stage, but others are written "
                    f"as stages.annotation = {pattern!r} says; change it so that it matches all"
                )
            return matched, [k for k in texts if k not in matched]
        if timed and event_like:
            stages = [k for k, t in texts.items() if known(t) is not None or is_number(t) or t.casefold() in given]
            if stages and len(stages) < len(texts):
                return stages, [k for k in texts if k not in stages]
        return list(texts), []

    def _stage(self, row: int) -> str:
        text = self.stages.cells[row]
        return stage_of_text(self.options.annotation, text) or text

    def _check_events(self, rows: list[Row], others: list[int], begin: float, first: int) -> None:
        """Say which other events there are; refuse one that stands where a stage is missing between two.

        It is a stage of an unknown name. `first` is the row of the first stage, which begins at `begin`.
        """
        texts = Counter(self.stages.cells[k] for k in others)
        shown = ", ".join(f"{text!r} ({n})" for text, n in texts.most_common(6))
        self.remarks.append(f"other events than stages in column {self.stages.title!r}: {shown}")
        column = self.onsets[0]
        after = {round(a[0] + a[1]): b[0] - a[0] - a[1] for a, b in pairwise(rows) if b[0] - a[0] - a[1] > 1}
        for k in others if after else ():
            cell, start = column.cells[k], column.cells[first]
            if column.kind == "number":
                at = float(self._seconds(column, [k])[0])
            elif (one := clock.moment(cell)) and (zero := clock.moment(start)):
                at = begin + (one.seconds - zero.seconds) % clock.DAY
            else:
                continue
            if after.get(round(at), 0) >= min(_LEAST, self.options.epoch_seconds):
                raise UserError(
                    f"{self.where}, line {self.table.lines[k]}: {self.stages.cells[k]!r} stands where no stage is; if "
                    "it is one, say which with stages.names (unscored, if nobody scored it)"
                )

    def _seconds(self, column: _Column, rows: Sequence[int]) -> np.ndarray:
        """Return a column of numbers in s."""
        label = f"{self.where}, column {column.title!r}"
        if column.unit and column.unit not in _UNITS:
            raise UserError(
                f"{label}: its unit {column.unit!r} is none of s, ms, min, h; write s from the recording's first sample"
            )
        values = numbers([column.cells[k] for k in rows], label)
        if lacking := [self.table.lines[k] for k, value in zip(rows, values, strict=True) if not np.isfinite(value)]:
            raise UserError(f"{label}, line {lacking[0]}: is empty")
        return np.array(values) * _UNITS.get(column.unit, 1.0)

    def _moments(self, column: _Column, rows: Sequence[int]) -> list[clock.Moment]:
        label = f"{self.where}, column {column.title!r}"
        found = []
        for k in rows:
            one = clock.moment(column.cells[k])
            if one is not None and one.date is None and self.date is not None and column in self.onsets:
                one = replace(one, date=self.date.cells[k])
                self.used["date"] = self.date.title
            if one is None:
                raise UserError(
                    f"{label}, line {self.table.lines[k]}: {column.cells[k]!r} is no time with hours, minutes and "
                    "seconds (23:59:30), and no number of seconds"
                )
            found.append(one)
        return found

    def _times(self, column: _Column, rows: Sequence[int]) -> clock.Times:
        lines = [self.table.lines[k] for k in rows]
        return clock.times(self._moments(column, rows), f"{self.where}, column {column.title!r}", lines)

    def _lengths(self, onset: np.ndarray, rows: list[int]) -> tuple[np.ndarray, float]:
        """Return how long rows last, s; 0 where they hold until the next one begins; and how long the last one does."""
        steps, own = np.diff(onset), self.options.epoch_seconds
        lengths = None if self.end is None else self._until_ends(onset, rows)
        if self.duration is not None:
            self.used["durations"] = self.duration.title
            said = [n for n, k in enumerate(rows) if not _empty(self.duration.cells[k])]
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
            if usual < min(_LEAST, own):
                self._refuse_unit(self.duration or self.onsets[0], usual, "last")
            if len(steps) > 2 and np.ptp(steps) < 1e-6 and steps[0] > 1.5 * usual:
                raise UserError(
                    f"{self.where}: rows of {usual:g} s begin {steps[0]:g} s apart; are both columns in s? Write units "
                    f"into the header ({self.onsets[0].title} [s])"
                )
            return lengths, own
        if not len(steps):
            return np.zeros(len(rows)), own
        values, counts = np.unique(np.round(steps, 3), return_counts=True)
        usual, regular = float(values[counts.argmax()]), bool(counts.max() >= 0.6 * len(steps))
        if regular and not (_LEAST <= usual <= _MOST or abs(usual - own) < 0.01):
            self._refuse_unit(self.onsets[0], usual, "begin")
        if float(steps.min()) < min(_LEAST, own):
            self._refuse_unit(self.onsets[0], float(steps.min()), "begin")
        names = [self._stage(k) for k in rows]
        if regular and any(a == b for a, b in pairwise(names)):  # epochs, not stretches of one stage
            if far := int((steps > usual + 1).sum()):
                self.remarks.append(f"after {far} epochs the next one does not follow at once: not scored there")
            return np.full(len(rows), usual), usual
        if not regular:
            self.remarks.append(f"how long the last row lasts is not said: {own:g} s are taken")
        return np.zeros(len(rows)), usual if regular else own

    def _durations(self, column: _Column, rows: Sequence[int]) -> np.ndarray:
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
            lengths = self._seconds(self.end, rows) - onset
        else:
            ends = np.array([m.seconds for m in self._moments(self.end, rows)])
            lengths = (ends - np.array([m.seconds for m in self._moments(start, rows)])) % clock.DAY
        if (lengths < 0).any() or (lengths > clock.DAY / 2).any():
            line = self.table.lines[rows[int(np.flatnonzero((lengths < 0) | (lengths > clock.DAY / 2))[0])]]
            raise UserError(f"{self.where}, line {line}: the row ends before it begins")
        return lengths

    def _refuse_unit(self, column: _Column, found: float, verb: str) -> None:
        what = f"rows {verb} {found:g} s apart" if verb == "begin" else f"rows last {found:g} s"
        raise UserError(
            f"{self.where}, column {column.title!r}: {what}; if it is not in s, write its unit into the header "
            f"({column.title} [min], [h] or [ms]); if epochs are so short, set stages.epoch_seconds={found:g}"
        )

    def _without_times(self, rows: list[int]) -> Scoring:
        """Return the scoring of a table that says in what order epochs follow each other, and not when."""
        own, count = self.options.epoch_seconds, len(rows)
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
            if first is None and number[0] not in (0, 1):
                raise UserError(
                    f"{self.where}: the scoring begins with epoch {number[0]:g}, which lies at {own * number[0]:g} s "
                    f"where the recording's first epoch is 0 and at {own * (number[0] - 1):g} s where it is 1; say "
                    "which with stages.first_epoch"
                )
            onset = own * (number - (number[0] if first is None else first))
            self.used["epochs"] = self.epoch.title
            self._leftover(onset, rows)
            if self.duration is not None:
                self._check_epoch_durations(rows)
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
            if np.median(lengths) < min(_LEAST, own):
                self._refuse_unit(self.duration, float(np.median(lengths)), "last")
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
            timely = column.name in (*_ONSETS, *_ENDS, *_DURATIONS, *_EPOCHS) and not self.onsets
            if (column.kind != "text" or timely) and not self._harmless(column, onset, rows):
                self._refuse(column)
            if column.place not in taken:
                unused.append(column.title or f"column {column.place + 1}")
        if unused:
            self.used["not used"] = ", ".join(unused)

    def _harmless(self, column: _Column, onset: np.ndarray, rows: list[int]) -> bool:
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
        if not len(values) or (values.min() >= 0 and values.max() <= 1):  # a probability
            return True
        if self.onsets:
            return True  # the table says when rows begin
        if np.array_equal(values, values[0] + np.arange(len(rows))) and values[0] in (0, 1):
            return True  # numbers of rows
        return len(values) == len(rows) and bool(np.allclose(values, onset, atol=0.5))

    def _refuse(self, column: _Column) -> None:
        label = column.title or f"column {column.place + 1}"
        raise UserError(
            f"{self.where}: column {label!r} ({column.first!r} ...) is not understood, and may say when epochs lie; "
            f"if it says when they begin, set stages.onset={label!r}, if how long they last, "
            f"stages.duration={label!r}, if neither, stages.ignore=[{label!r}]"
        )

    def _refuse_two(self, one: _Column, other: _Column) -> None:
        raise UserError(
            f"{self.where}: columns {one.title!r} and {other.title!r} both say when epochs begin, and differently "
            f"({one.first!r} and {other.first!r} at first); name the right one with stages.onset, and leave out the "
            f"other with stages.ignore"
        )

    def _given(self, columns: list[_Column], title: str | None) -> _Column | None:
        return None if title is None else _named(columns, title, "", self.where)

    def _by_name(self, names: Sequence[str], kinds: Sequence[str]) -> list[_Column]:
        own = {c.place for c in (getattr(self, "duration", None),) if c is not None}
        return [c for c in self.others if c.name in names and c.kind in kinds and c.place not in own]

    def _one(self, what: str, names: Sequence[str], kinds: Sequence[str], setting: str) -> _Column | None:
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


def _columns(table: TextTable) -> list[_Column]:
    columns = []
    for place, title in enumerate(table.header):
        name = title.strip().strip("\"'").casefold()
        unit = ""
        if found := re.search(r"[\[(]\s*(.*?)\s*[\])]", name):
            unit, name = found[1], name[: found.start()] + name[found.end() :]
        name = re.sub(r"[_\-./\s]+", " ", name).strip()
        words = name.split()
        if len(words) > 1 and words[-1] in _UNITS:
            unit, name = words[-1], " ".join(words[:-1])
        if ":" in unit or "." in unit:  # hh:mm:ss is a way of writing, no unit
            unit = ""
        cells = tuple(table.column(place))
        columns.append(_Column(place, title, name, unit, cells, _kind(cells)))
    return columns


def _kind(cells: Sequence[str]) -> str:
    said = [cell for cell in cells if not _empty(cell)]
    if not said:
        return "empty"
    if all(map(is_number, said)):
        return "number"
    if all(clock.moment(cell) for cell in said):
        return "clock"
    numeric = sum(map(is_number, said))
    timely = sum(map(clock.like_a_time, said))
    return "other time" if numeric + timely > len(said) / 2 else "text"


def _empty(cell: str) -> bool:
    return cell.casefold() in EMPTY


def _named(columns: list[_Column], title: str, setting: str, where: str) -> _Column:
    for column in columns:
        if title.strip().casefold() in (column.title.casefold(), column.name):
            return column
    there = [column.title for column in columns]
    close = nearest(title, there, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(there)}"
    raise UserError(f"{where}: no column {title!r} ({setting}); {hint}")


def _stage_column(columns: list[_Column], where: str, options: ScoringOptions) -> _Column:
    """Return the column of stages: the one that the settings name, else the only one, or one of several that agree."""
    if options.column is not None:
        return _named(columns, options.column, "stages.column", where)
    ignored = {title.strip().casefold() for title in options.ignore}
    there = [c for c in columns if not {c.title.casefold(), c.name} & ignored]
    by_name = sorted((c for c in there if c.name in _STAGES and c.kind != "empty"), key=lambda c: _STAGES.index(c.name))
    by_cells = [c for c in there if c not in by_name and c.kind == "text" and all(map(_stage_like, c.cells))]
    found = by_name or by_cells
    if not found:
        raise UserError(
            f"{where}: no column of stages; it has {', '.join(c.title for c in columns)}; name it with stages.column"
        )
    first = found[0]
    for other in [*by_name[1:], *by_cells]:
        if other is not first and all(map(_stage_like, other.cells)) and not _agree(first, other, where, options):
            raise UserError(
                f"{where}: columns {first.title!r} and {other.title!r} both hold stages, and differ; name one with "
                "stages.column"
            )
    return first


def _stage_like(cell: str) -> bool:
    return _empty(cell) or known(cell) is not None


def _agree(one: _Column, other: _Column, where: str, options: ScoringOptions) -> bool:
    def codes(column: _Column) -> list[int]:
        texts = [stage_of_text(options.annotation, cell) or cell for cell in column.cells]
        return stage_codes(texts, [30.0] * len(texts), where, options.numbers, options.names)

    try:
        return codes(one) == codes(other)
    except UserError:  # one of them does not hold stages alone
        return one.name in _EVENTS


def stage_of_text(pattern: str, text: str) -> str | None:
    """Return the stage in a text that the pattern of annotations matches, else None."""
    for candidate in (text.strip(), text.partition("/")[2].strip()):
        if candidate and (found := re.fullmatch(pattern, candidate)):
            return found["stage"]
    return None


def _is_header(cells: Sequence[str], options: ScoringOptions) -> bool:
    names = {cell.strip().strip("\"'").casefold() for cell in cells}
    wanted = {title.casefold() for title in (options.column, options.onset, options.duration) if title}
    plain = {re.sub(r"[_\-./\s]+", " ", re.sub(r"[\[(].*?[\])]", "", name)).strip() for name in names}
    if (names | plain) & (wanted | {*_STAGES, *_ONSETS, *_DURATIONS, *_EPOCHS}):
        return True
    return not any(is_number(c) or clock.moment(c) or (c and known(c) is not None) for c in cells)
