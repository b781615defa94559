"""What the columns of a table of stages say: by their titles, and by what their cells look like."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from sleep_interpreter.data.formats.scorings import clock
from sleep_interpreter.data.formats.scorings.scoring import ScoringOptions, stage_of_text
from sleep_interpreter.data.formats.scorings.stage_codes import known, stage_codes
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.text_tables import EMPTY, TextTable, is_number

EVENTS = (
    "label", "trial type", "description", "annotation", "annotations", "event", "événement", "evenement", "ereignis",
    "evento", "class",
)  # fmt: skip
"""Columns that may hold other events beside stages."""
STAGES = (
    "stage", "stages", "sleep stage", "stage hum", "majority", "hypno", *EVENTS[:3], "hypnogram", "sleep stages",
    "sleepstage", "scoring", "user defined stage", "stage name", "schlafstadium", "stadium", "stade", *EVENTS[3:],
)  # fmt: skip
"""Of several that agree, the first one here is taken."""
ONSETS = (
    "onset", "start", "begin", "time", "start time", "begin time", "starttime", "onset time", "recording onset",
    "recording time", "epoch start", "clock", "clock time", "time of day", "datetime", "date time", "timestamp",
    "elapsed", "elapsed time", "seconds", "startzeit", "beginn", "zeit", "uhrzeit", "heure de début", "heure de debut",
    "début", "debut", "hora de inicio", "inicio", "hora",
)  # fmt: skip
ENDS = (
    "end", "stop", "end time", "stop time", "offset", "endtime", "epoch end", "endzeit", "ende", "heure de fin", "fin",
    "hora de fin",
)  # fmt: skip
DURATIONS = ("duration", "dur", "length", "dauer", "durée", "duree", "duración", "duracion", "epoch duration")
EPOCHS = ("epoch", "epochs", "epoch number", "epoch no", "epoch nr", "epoch index", "epoch id", "époque", "epoche")
SAMPLES = ("sample", "samples", "sample index", "start sample", "onset sample", "begin sample", "begsample")
DATES = ("date", "datum", "fecha")
PERSONS = (
    "subject", "subject id", "subj", "sub", "participant", "participant id", "patient", "patient id", "person",
    "proband", "vp", "pid", "id",
)  # fmt: skip
RECORDINGS = (
    "file", "file name", "filename", "recording", "recording id", "session", "night", "visit", "run", "study",
    "datei", "nacht", "fichier", "archivo",
)  # fmt: skip
SCORERS = ("scorer", "scorer id", "scored by", "rater", "reader", "technician", "auswerter")
"""Columns that say whose rows are; several of one table belong to several recordings, or to several scorers."""
UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "sek", "sekunden"), 1.0),
    **dict.fromkeys(("ms", "msec", "milliseconds", "millisekunden"), 1e-3),
    **dict.fromkeys(("min", "mins", "minutes", "minuten"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hours", "stunden"), 3600.0),
}

IN_EPOCHS = ("epoch", "epochs", "epoche", "epochen")
"""Units of numbers that count epochs."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    place: int
    title: str  # as written; "column 1" where nothing is
    name: str  # in lower case, without its unit
    unit: str  # as the title states it, "" where it does not
    cells: tuple[str, ...]
    kind: str  # number, clock, other time, text, empty

    @property
    def first(self) -> str:
        """Its first cell that says something."""
        return next((cell for cell in self.cells if not is_empty(cell)), "")


def columns_of(table: TextTable) -> list[Column]:
    """Return the columns of a table."""
    columns = []
    for place, title in enumerate(table.header):
        cells = tuple(table.column(place))
        columns.append(Column(place, title or f"column {place + 1}", *name_and_unit(title), cells, _kind(cells)))
    return columns


def name_and_unit(title: str) -> tuple[str, str]:
    """Return what a title says in lower case, and its unit: "Start_Time (min.)" is a start time in min."""
    name, unit = title.strip().strip("\"'").casefold(), ""
    if found := re.search(r"[\[(]\s*(.*?)\.?\s*[\])]", name):
        unit, name = found[1], name[: found.start()] + name[found.end() :]
    name = re.sub(r"[_\-./\s]+", " ", name).strip()
    words = name.split()
    if len(words) > 1 and words[-1] in UNITS:
        unit, name = words[-1], " ".join(words[:-1])
    return name, "" if re.search(r"\w[:.]\w", unit) else unit  # hh:mm:ss is a way of writing, no unit


def _kind(cells: Sequence[str]) -> str:
    said = [cell for cell in cells if not is_empty(cell)]
    if not said:
        return "empty"
    if all(map(is_number, said)):
        return "number"
    if all(clock.moment(cell) for cell in said):
        return "clock"
    numeric = sum(map(is_number, said))
    timely = sum(map(clock.like_a_time, said))
    return "other time" if numeric + timely > len(said) / 2 else "text"


def is_empty(cell: str) -> bool:
    """Tell whether a cell says nothing."""
    return cell.casefold() in EMPTY


def named(columns: Sequence[Column], title: str, setting: str, where: str) -> Column:
    """Return the column that a setting names; refuse one that is not there."""
    for column in columns:
        if title.strip().casefold() in (column.title.casefold(), column.name):
            return column
    there = [column.title for column in columns]
    close = nearest(title, there, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(there)}"
    raise UserError(f"{where}: no column {title!r} ({setting}); {hint}")


def stage_column(columns: Sequence[Column], where: str, options: ScoringOptions) -> Column:
    """Return the column of stages: the one that the settings name, else the only one, or one of several that agree."""
    if options.column is not None:
        return named(columns, options.column, "stages.column", where)
    ignored = {title.strip().casefold() for title in options.ignore}
    there = [c for c in columns if not {c.title.casefold(), c.name} & ignored]
    by_name = sorted((c for c in there if c.name in STAGES and c.kind != "empty"), key=lambda c: STAGES.index(c.name))
    by_cells = [c for c in there if c not in by_name and c.kind == "text" and all(map(_stage_like, c.cells))]
    found = by_name or by_cells
    if not found and (empty := [c.title for c in there if c.name in STAGES]):
        raise UserError(f"{where}: the column {empty[0]!r} is empty")
    if not found:
        raise UserError(
            f"{where}: no column of stages; it has {', '.join(c.title for c in columns)}; name it with stages.column"
        )
    first = found[0]
    if options.numbers == "auto" and _to_3(first):  # numbers whose meaning the column beside them tells
        options = replace(options, numbers="rk")
        if beside := next(
            (c for c in [*by_name, *by_cells] if _in_words(c) and _agree(first, c, where, options)), None
        ):
            first = beside
    for other in [*by_name[1:], *by_cells]:
        if other is not first and all(map(_stage_like, other.cells)) and not _agree(first, other, where, options):
            raise UserError(
                f"{where}: columns {first.title!r} and {other.title!r} both hold stages, and differ; name one with "
                "stages.column"
            )
    return first


def _to_3(column: Column) -> bool:
    return all(is_empty(cell) or re.fullmatch(r"(-1|[0-3])([.,]0*)?", cell) for cell in column.cells)


def _in_words(column: Column) -> bool:
    return column.kind == "text" and all(map(_stage_like, column.cells))


def _stage_like(cell: str) -> bool:
    return is_empty(cell) or known(cell) is not None


def _agree(one: Column, other: Column, where: str, options: ScoringOptions) -> bool:
    def codes(column: Column) -> list[int]:
        texts = [stage_of_text(options.annotation, cell) or cell for cell in column.cells]
        return stage_codes(texts, [30.0] * len(texts), where, options.numbers, options.names)

    try:
        return codes(one) == codes(other)
    except UserError:  # one of them does not hold stages alone
        return one.name in EVENTS


def rises(values: Sequence[tuple[float, ...]]) -> bool:
    """Tell whether values rise from row to row, as times do: a quarter of them differ, and one in twenty goes back."""
    back = sum(b < a for a, b in pairwise(values))
    return len(set(values)) >= max(3, len(values) / 4) and back <= max(1, len(values) / 20)


def numbers_in(cell: str) -> tuple[float, ...]:
    """Return the numbers in a text: those of "P01_600.png" are 1 and 600."""
    return tuple(float(found.replace(",", ".")) for found in re.findall(r"\d+(?:[.,]\d+)?", cell))


def several(column: Column, rows: Sequence[int]) -> list[str]:
    """Return the values of rows between which a column changes; none where each row has its own, as numbers of rows."""
    said = [column.cells[k] for k in rows if not is_empty(column.cells[k])]
    values = list(dict.fromkeys(said))
    return values if 1 < len(values) < len(said) else []


def is_header(cells: Sequence[str], options: ScoringOptions) -> bool:
    """Tell whether cells are a header: no number, no time and no stage, or a known title is among them."""
    wanted = {title.casefold() for title in (options.column, options.onset, options.duration) if title}
    names = {name for cell in cells for name in (cell.casefold(), name_and_unit(cell)[0])}
    if names & (wanted | {*STAGES, *ONSETS, *DURATIONS, *EPOCHS}):
        return True
    return not any(is_number(c) or clock.moment(c) or (c and known(c) is not None) for c in cells)
