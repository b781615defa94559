"""RemLogic: a table behind a header, with times of day and events such as SLEEP-S2."""

import re

from sleep_interpreter.data.formats.scorings import clock
from sleep_interpreter.data.formats.scorings.scoring import Row, Scoring, ScoringFile, ScoringOptions
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.text_tables import numbers, parse_table

_HEADER = re.compile(r"(?:[^\t\n]+\t)*(?:Sleep Stage|Stage)\t.*\bEvent\b", re.IGNORECASE)


class RemLogic:
    """RemLogic's export of events as text."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether a line names columns as RemLogic does."""
        return any(_HEADER.match(line) for _, line in file.lines)

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read the events whose name begins with SLEEP; refuses a row without time or duration."""
        lines = file.text.splitlines()
        start = next(k for k, line in enumerate(lines) if _HEADER.match(line.strip()))
        table = parse_table(file.path, "\n".join(lines[start:]), None, "\t")
        names = [name.strip().casefold() for name in table.header]
        places = [next((k for k, name in enumerate(names) if name.startswith(n)), -1) for n in ("event", "time", "dur")]
        event, time, length = places
        if min(places) < 0:
            raise UserError(f"{file.where}: a RemLogic table without Event, Time and Duration; it has {table.header}")
        own = [
            (n, row) for n, row in zip(table.lines, table.rows, strict=True) if row[event].upper().startswith("SLEEP")
        ]
        moments = []
        for line, row in own:
            moment = clock.moment(row[time])
            if moment is None or not row[length]:
                raise UserError(
                    f"{file.where}, line {start + line}: a RemLogic row without time [hh:mm:ss] or duration: "
                    f"{row[time]!r}, {row[length]!r}"
                )
            moments.append(moment)
        if not own:
            raise UserError(f"{file.where}: holds no event SLEEP-...")
        lengths = numbers([row[length] for _, row in own], f"{file.where}, column {table.header[length]!r}")
        found = clock.times(moments, file.where, [start + line for line, _ in own], of_day=True)
        rows: list[Row] = [(o, d, row[event]) for o, d, (_, row) in zip(found.onsets, lengths, own, strict=True)]
        midnight = found.clock == 0  # which is that of files without a time of day, too
        how = "RemLogic: events SLEEP-..."
        return Scoring(
            rows, how, 0.0 if midnight else None, found.clock, midnight, remarks=found.remarks, dates=found.dates
        )
