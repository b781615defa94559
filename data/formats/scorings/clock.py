"""Times of day and elapsed times as scorings write them."""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from sleep_interpreter.utils.core.errors import UserError

DAY = 86400.0
_HOUR = 3600.0
_KNOWN_FROM = 1990
_DATE = r"(?P<date>\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{2,4})"
_TIME = re.compile(
    rf"(?:{_DATE}(?:[T ,-]\s*|\s+))?(?P<hour>\d{{1,3}})(?P<dot>[:.])(?P<minute>\d{{2}})(?P=dot)(?P<second>\d{{2}})"
    r"(?P<part>[.,]\d+)?\s*(?P<half>[ap]\.?m\.?)?\s*(?P<zone>Z|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
_LIKE_A_TIME = re.compile(r"\d[:h]\d|\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{2,4}", re.IGNORECASE)


@dataclass(frozen=True)
class Moment:
    """A time as written: s after midnight, or elapsed."""

    seconds: float
    date: str | None = None
    zone: bool = False
    half: bool = False  # am or pm was said


def moment(cell: str) -> Moment | None:
    """Return the time with hours, minutes and seconds that a cell holds, perhaps with a date; None: it has none."""
    found = _TIME.fullmatch(cell.strip())
    if found is None or int(found["minute"]) > 59 or int(found["second"]) > 59:
        return None
    hour = int(found["hour"])
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found["half"][0].lower() == "p" else 0)
    elif found["date"] and hour > 23:
        return None
    part = float("0" + found["part"].replace(",", ".")) if found["part"] else 0.0
    seconds = hour * _HOUR + int(found["minute"]) * 60 + int(found["second"]) + part
    return Moment(seconds, found["date"], bool(found["zone"]), bool(found["half"]))


def dates(text: str | None) -> tuple[datetime.date, ...]:
    """Return the dates that a text may mean: 05/03/2024 is in March or in May. None of those that stand for none."""
    found = re.match(_DATE, text.strip()) if text else None
    if found is None:
        return ()
    parts = re.split(r"\D", found["date"])
    orders = ((0, 1, 2),) if len(parts[0]) == 4 else ((2, 1, 0), (2, 0, 1), (0, 1, 2))
    result = []
    for year, month, day in (tuple(int(parts[place]) for place in order) for order in orders):
        try:
            one = datetime.date(_century(year), month, day)
        except ValueError:
            continue
        if is_known(one):
            result.append(one)
    return tuple(dict.fromkeys(result))


def _century(year: int) -> int:
    """Return a year that may be written with two digits; EDF's begin with 1985."""
    return year if year > 99 else year + (1900 if year > 84 else 2000)


def is_known(date: datetime.date) -> bool:
    """Tell whether a date may be true: those before 1990, and New Year's Day, stand for none in most files."""
    return date.year >= _KNOWN_FROM and (date.month, date.day) != (1, 1)


def like_a_time(cell: str) -> bool:
    """Tell whether a cell looks like a time or a date of some kind."""
    return bool(_LIKE_A_TIME.search(cell))


def time_of_day(text: str) -> float | None:
    """Return the time of day that a header states, s after midnight; None where there is none."""
    found = next(_TIME.finditer(text), None)
    return None if found is None or (own := moment(found[0].strip())) is None else own.seconds


def written(seconds: float) -> str:
    """Return s after midnight as hh:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@dataclass(frozen=True)
class Times:
    """A column of times, each in s after the first."""

    onsets: list[float]
    clock: float | None  # of the first one, s after midnight; None: these are elapsed times
    elapsed: float | None  # of the first one after the beginning; None: these are times of day
    remarks: tuple[str, ...] = ()
    dates: tuple[datetime.date, ...] = ()  # what that of the first one may be

    @property
    def undecided(self) -> bool:
        """Whether these may be elapsed times as well as times of day."""
        return self.clock is not None and self.elapsed is not None


def after(cell: str, first: Moment) -> float:
    """Return how many s after `first` the time of a cell is, below a day; NaN where it holds none."""
    found = moment(cell)
    return float("nan") if found is None else (found.seconds - first.seconds) % DAY


def times(moments: Sequence[Moment], where: str, lines: Sequence[int], of_day: bool = False) -> Times:
    """Return what a column of times in their order says; lines are their numbers in the file.

    Times of day go on past midnight, and an hour back where clocks are set to winter time. Without a date, am or pm
    they may be elapsed times as well, unless they pass midnight or are known to be times `of_day`. Dates of 1970-01-01
    are those of files without one: the times are elapsed. Refuses times that go back otherwise, and times of a time
    zone of their own.
    """
    first = moments[0]
    if zoned := next((line for m, line in zip(moments, lines, strict=True) if m.zone), None):
        raise UserError(
            f"{where}, line {zoned}: a time with a time zone, which the recording's start has not; write times by "
            "the laboratory's clock, or s from the recording's first sample"
        )
    elapsed = first.date is not None and re.fullmatch(r"1970\D0?1\D0?1", first.date) is not None
    steps, dated = list[float](), first.date is not None
    for before, now in pairwise(moments):
        days = DAY * (dated and now.date is not None and now.date != before.date)
        own, following = dates(before.date) if days else (), dates(now.date)
        if own and following and not any((b - a).days == 1 for a in own for b in following):
            raise UserError(
                f"{where}, line {lines[len(steps) + 1]}: {before.date} is followed by {now.date}; a scoring is that of "
                "one night, in order of time"
            )
        steps.append(now.seconds - before.seconds + days)
    usual = median([step for step in steps if 0 < step < _HOUR] or [0.0])
    onsets, remarks, passed = [0.0], list[str](), False
    for k, step in enumerate(steps):
        line, clocks = lines[k + 1], f"{written(moments[k].seconds)} and {written(moments[k + 1].seconds)}"
        if step < 0 and step + DAY <= DAY / 2:
            step, passed = step + DAY, True
        elif -_HOUR <= step < 0 and abs(step + _HOUR - usual) < 1.5 and not elapsed:
            step, passed = step + _HOUR, True
            remarks.append(f"clocks were set back an hour between {clocks} (line {line})")
        elif step < 0 or step > DAY / 2:
            raise UserError(
                f"{where}, line {line}: the times {clocks} follow each other; rows have to stand in order of time, "
                "and times without am or pm count 24 hours"
            )
        onsets.append(onsets[-1] + step)
    long = any(m.seconds >= DAY for m in moments)
    certain = of_day or dated or passed or any(m.half for m in moments)
    if elapsed or long:
        return Times(onsets, None, first.seconds, tuple(remarks))
    begun = None if certain else first.seconds
    return Times(onsets, first.seconds % DAY, begun, tuple(remarks), dates(first.date))
