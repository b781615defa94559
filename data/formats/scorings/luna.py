"""Luna: .annot files, a stage's name as the class of an interval."""

import contextlib
import re
from dataclasses import replace

from sleep_interpreter.data.formats.scorings import clock
from sleep_interpreter.data.formats.scorings.scoring import Scoring, ScoringFile, ScoringOptions, refuse_unknown
from sleep_interpreter.data.formats.scorings.stage_codes import known
from sleep_interpreter.utils.core.errors import UserError

_COLUMNS = {6: (0, 3, 4), 4: (0, 2, 3), 3: (0, 1, 2)}
"""Number of columns: places of class, start and stop."""
_HEADERS = (
    ["class", "instance", "channel", "start", "stop", "meta"], ["class", "instance", "start", "stop"],
    ["class", "start", "stop"],
)  # fmt: skip
_EPOCH = re.compile(r"e:(\d+)(?::([\d.]+))?(?::([\d.]+))?")


class Luna:
    """Luna's .annot: class, instance, channel, start, stop, meta, or fewer of them."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether the file is called .annot, or has Luna's header."""
        lines = [line.casefold().split() for _, line in file.lines if not line.startswith("#")]
        return file.path.suffix.lower() == ".annot" or bool(lines and lines[0] in _HEADERS)

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read the intervals whose class is a stage; the class "SleepStage" has it as its instance.

        Starts are s from the recording's beginning, times of day, elapsed times 0+hh:mm:ss, or epochs e:1. Stops are
        of the same kinds, lengths (+30), or "..." for the beginning of the next line. Refuses a file that mixes times
        of day with others.
        """
        wanted, spans, lines = [], list[tuple[float | clock.Moment, float, str]](), list[int]()
        for number, line in file.lines:
            cells = line.split("\t") if "\t" in line else line.split()
            if line.startswith("#") or [cell.strip().casefold() for cell in cells] in _HEADERS:
                continue
            if len(cells) not in _COLUMNS:
                raise UserError(f"{file.where}, line {number}: {len(cells)} columns; an .annot file has 3, 4 or 6")
            name, start, stop = (cells[place].strip() for place in _COLUMNS[len(cells)])
            if name.casefold() in ("sleepstage", "sleep_stage", "stage") and len(cells) > 3:
                name = cells[1].strip()
            wanted.append((number, name, start, stop))
        for k, (number, name, start, stop) in enumerate(wanted):
            if known(name) is None and name.casefold() not in {n.casefold() for n in options.names}:
                continue
            where = f"{file.where}, line {number}"
            begin = _when(start, where)
            if stop == "...":
                end = _when(wanted[k + 1][2], where) if k + 1 < len(wanted) else None
            elif stop == "." and (epoch := _EPOCH.fullmatch(start)):
                end = _at(begin) + float(epoch[2] or 30)
            elif stop.startswith("+"):
                end = _at(begin) + _number(stop[1:], where)
            else:
                end = _when(stop, where)
                if stop.startswith("e:") and (epoch := _EPOCH.fullmatch(stop)):
                    end = _at(end) + float(epoch[2] or 30)
            length = options.epoch_seconds if end is None else _at(end) - _at(begin)
            length += clock.DAY if isinstance(begin, clock.Moment) and length < 0 else 0
            spans.append((begin, length, name))
            lines.append(number)
        if not spans:
            raise UserError(f"{file.where}: no class of it is a stage; say what yours mean with stages.names")
        clocks = [begin for begin, _, _ in spans if isinstance(begin, clock.Moment)]
        if clocks and len(clocks) < len(spans):
            raise UserError(f"{file.where}: some starts are times of day and some are not; write all in one way")
        result = Scoring([], "Luna: intervals whose class is a stage")
        begins = [_at(begin) for begin, _, _ in spans]
        if clocks:
            found = clock.times(clocks, file.where, lines, of_day=True)
            begins = found.onsets
            result = replace(result, elapsed=None, clock=found.clock, remarks=found.remarks, dates=found.dates)
        rows = [(begin, length, name) for begin, (_, length, name) in zip(begins, spans, strict=True)]
        others = []
        for number, name, start, _ in wanted:
            with contextlib.suppress(UserError):  # of another kind, with times of another kind
                begin = clock.after(start, clocks[0]) if clocks else _at(_when(start, ""))
                others += [(begin, name, f"{file.where}, line {number}")] if number not in lines else []
        refuse_unknown(sorted(rows), others, options)
        return replace(result, rows=rows)


def _when(text: str, where: str) -> float | clock.Moment:
    """Return a time of Luna's: s from the beginning, or a time of day."""
    if epoch := _EPOCH.fullmatch(text):
        length = float(epoch[2] or 30)
        return (int(epoch[1]) - 1) * float(epoch[3] or length)
    elapsed = text.startswith("0+")
    if moment := clock.moment(text.removeprefix("0+")):
        return moment.seconds if elapsed else moment
    return _number(text, where)


def _at(time: float | clock.Moment) -> float:
    return time.seconds if isinstance(time, clock.Moment) else time


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where}: {text!r} is none of Luna's times") from None
