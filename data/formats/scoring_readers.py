"""Reads expert hypnograms of the usual formats; R&K stages become AASM's.

Tables (TSV, CSV) with a column of stages, and onsets and durations if they have them; one stage a line; EDF+
and everything else of which MNE reads annotations; Compumedics Profusion (XML); RemLogic (text export); files
of YASA.
"""

import csv
import io
import re
import xml.etree.ElementTree as Xml
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sleep_interpreter.utils.core.constants import N2, N3, REM, STAGING_SECONDS, UNKNOWN, WAKE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path

if TYPE_CHECKING:
    import mne

Row = tuple[float, float, str]
"""Onset in s, duration in s, stage as written."""

UNSCORED = UNKNOWN
"""Code of what nobody scored, or of movement time."""
_NAMES = {
    **dict.fromkeys(("w", "wake", "awake", "s0", "sleep-s0", "sleep-wake", "stage w", "w/n1"), WAKE),
    **dict.fromkeys(("n1", "s1", "nrem1", "sleep-s1", "stage 1"), WAKE),
    **dict.fromkeys(("n2", "s2", "nrem2", "sleep-s2", "stage 2"), N2),
    **dict.fromkeys(("n3", "s3", "nrem3", "sleep-s3", "stage 3", "sws"), N3),
    **dict.fromkeys(("n4", "s4", "nrem4", "sleep-s4", "stage 4"), N3),
    **dict.fromkeys(("r", "rem", "sleep-rem", "stage r", "stage rem"), REM),
    **dict.fromkeys(("?", "m", "mt", "movement", "movement time", "art", "artefact", "artifact"), UNSCORED),
    **dict.fromkeys(("uns", "unscored", "unknown", "sleep-unscored", "sleep-mt", "lights", "l"), UNSCORED),
    **dict.fromkeys(("-1", "-2", "9", "nan", "n/a"), UNSCORED),
}  # fmt: skip
"""AASM, R&K (Rechtschaffen and Kales, 1968; S3, S4 are N3), Sleep-EDF, YASA, RemLogic names, lower case."""
_NUMBERS = {0: WAKE, 1: WAKE, 2: N2, 3: N3}
_STAGE_COLUMNS = (
    "stage", "stages", "sleep_stage", "sleep stage", "stage_hum", "majority", "hypno", "label", "trial_type",
    "description",
)  # fmt: skip
_ONSET_COLUMNS = ("onset", "onset_s", "start", "begin", "time")
_DURATION_COLUMNS = ("duration", "duration_s", "duration[s]")


@dataclass(frozen=True)
class Hypnogram:
    """A scored recording of n pieces."""

    onset: np.ndarray  # float (n,), s from the beginning of the scoring, rising
    duration: np.ndarray  # float (n,), s
    stage: np.ndarray  # int (n,): 0 = W or N1, 1 = N2, 2 = N3, 3 = R, -1 = not scored
    names: tuple[str, ...] = ()  # as written in the file
    clock: float | None = None  # time of day at which the scoring begins, s after midnight, where the file says one

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


def make(rows: list[Row], where: str, numbers: str = "auto") -> Hypnogram:
    """Return the `Hypnogram` of rows; refuse none at all, an unknown stage, and times that are no numbers or overlap.

    `where` names the file in messages. `numbers` says what stages written as numbers mean: 4 is REM ("yasa") or S4,
    with REM as 5 ("rk"); "auto" refuses where the numbers themselves do not tell.
    """
    if not rows:
        raise UserError(f"{where}: holds no sleep stage")
    onset, duration = (np.array([row[k] for row in rows], float) for k in (0, 1))
    order = np.argsort(onset, kind="stable")
    names = [str(rows[k][2]).strip() for k in order]
    onset, duration = onset[order], duration[order]
    if not (np.isfinite(onset).all() and np.isfinite(duration).all() and (duration >= 0).all()):
        raise UserError(f"{where}: a stage without a finite onset and a duration of 0 s or more")
    if len(late := np.flatnonzero(onset[:-1] + duration[:-1] > onset[1:] + 0.5)):
        first = int(late[0])
        raise UserError(f"{where}: the stages at {onset[first]:g} s and {onset[first + 1]:g} s overlap")
    return Hypnogram(onset, duration, np.array(_codes(names, where, numbers), int), tuple(names))


def read_hypnogram(path: str | Path, numbers: str = "auto", epoch_seconds: float = 30.0) -> Hypnogram:
    """Read a hypnogram of any of the formats above; `numbers` are as in `make`.

    `epoch_seconds` is the length of an epoch where the file states none. Refuses a missing file, a format nobody
    knows, and whatever `make` refuses.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: hypnogram not found")
    where, suffix = display_path(path), path.suffix.lower()
    if suffix in (".edf", ".bdf", ".fif", ".vhdr", ".vmrk"):
        rows, clock = _annotations(path)
        return replace(make(rows, where, numbers), clock=clock)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")
    if suffix == ".xml" or text.lstrip().startswith("<?xml"):
        return make(_profusion(text, where), where, "rk" if numbers == "auto" else numbers)
    if re.search(r"(?m)^(Sleep Stage|Stage)\t.*\bEvent\b", text):
        rows, clock = _remlogic(text, where)
    else:
        rows, clock = _table(text, where, epoch_seconds)
    return replace(make(rows, where, numbers), clock=clock)


def _codes(names: list[str], where: str, numbers: str) -> list[int]:
    values = {int(float(n)) for n in names if re.fullmatch(r"\d+(\.0*)?", n)}
    if values & {4, 5} and numbers == "auto":
        # REM by another name ("Sleep stage R", "REM"), so that 4 can only be S4
        if 5 in values or any(_folded(name) in _NAMES and _NAMES[_folded(name)] == REM for name in names):
            numbers = "rk"
        elif 3 in values:
            raise UserError(
                f"{where}: stages are numbers up to 4, which is REM for YASA and S4 for Rechtschaffen "
                "and Kales; say which with stages.numbers = yasa or rk"
            )
        else:
            numbers = "yasa"
    known = _NUMBERS | ({4: N3, 5: REM} if numbers == "rk" else {4: REM})
    codes = []
    for name in names:
        folded = _folded(name)
        found = known.get(int(float(name))) if re.fullmatch(r"\d+(\.0*)?", name) else None
        if found is None:
            found = _NAMES.get(name.casefold(), _NAMES.get(folded))
        if found is None and folded in ("1", "2", "3", "4"):  # after "Sleep stage"
            found = _NUMBERS.get(int(folded), N3)
        if found is None:
            raise UserError(f"{where}: {name!r} is no sleep stage that is known here")
        codes.append(found)
    return codes


def _folded(name: str) -> str:
    """Return a stage's name in lower case without "Sleep stage" and the like before it."""
    return re.sub(r"^(sleep stage|sleep-stage|stage[/ _]*)\s*", "", name.casefold()).strip() or name


def _annotations(path: Path) -> tuple[list[Row], float | None]:
    import mne  # lazy: start-up

    try:
        found = mne.read_annotations(path)
    except Exception as error:
        raise UserError(f"{path}: MNE reads no annotations of it: {error}") from error
    clock = None
    if path.suffix.lower() in (".edf", ".bdf"):
        with path.open("rb") as handle:  # MNE passes the header's time of the beginning over
            clock = _clock(handle.read(184)[176:].decode("latin-1"))
    elif found.orig_time is not None:
        clock = _clock(f"{found.orig_time:%H:%M:%S}")
    return from_annotations(found, r"(?:stage/|Sleep stage )(?P<stage>.+)"), clock


def _clock(text: str) -> float | None:
    """Return a time of day in s after midnight; None where there is none, or midnight (anonymised files)."""
    # dots last: a date may have them too
    patterns = (rf"(?<!\d)(\d{{1,2}}){dot}(\d{{2}}){dot}(\d{{2}})(?!\d)(?:\.\d+)?\s*([ap]m)?" for dot in (":", r"\."))
    found = next(filter(None, (re.search(pattern, text, re.IGNORECASE) for pattern in patterns)), None)
    if found is None:
        return None
    hour, minute, second = map(int, found.groups()[:3])
    if found[4]:
        hour = hour % 12 + (12 if found[4].lower() == "pm" else 0)
    return hour * 3600.0 + minute * 60 + second or None


def from_annotations(annotations: "mne.Annotations", pattern: str, first_time: float = 0.0) -> list[Row]:
    """Return rows for `make` of those annotations that `pattern` with its group "stage" takes for stages.

    `first_time` is the time of the recording's first sample on the annotations' clock, s.
    """
    found: list[list[Any]] = []
    for onset, duration, text in zip(annotations.onset, annotations.duration, annotations.description, strict=True):
        candidates = (str(text).strip(), str(text).partition("/")[2].strip())
        if match := next(filter(None, (re.fullmatch(pattern, candidate) for candidate in candidates)), None):
            found.append([float(onset) - first_time, float(duration), match["stage"]])
    for row, following in pairwise(found):
        if row[1] < 1:  # markers without a length hold until the next
            row[1] = following[0] - row[0]
    if found and found[-1][1] < 1:
        found[-1][1] = 30.0
    return [(onset, duration, stage) for onset, duration, stage in found]


def _profusion(text: str, where: str) -> list[Row]:
    try:
        root = Xml.fromstring(text)
    except Xml.ParseError as error:
        raise UserError(f"{where}: no readable XML ({error})") from None
    stages = root.find("SleepStages")
    if stages is None:
        raise UserError(f"{where}: no element SleepStages, so it is no Profusion scoring")
    length = float(root.findtext("EpochLength") or 30)
    return [(k * length, length, (stage.text or "").strip()) for k, stage in enumerate(stages)]


def _remlogic(text: str, where: str) -> tuple[list[Row], float | None]:
    """Read a RemLogic export: a table after a header, with clock times and events such as SLEEP-S2."""
    lines = text.splitlines()
    start = next(k for k, line in enumerate(lines) if re.match(r"(Sleep Stage|Stage)\t", line))
    rows: list[Row] = []
    day, first = timedelta(0), None
    for row in csv.DictReader(lines[start:], delimiter="\t"):
        event = next((v for k, v in row.items() if k and k.strip() == "Event"), "") or ""
        if not event.upper().startswith("SLEEP"):
            continue
        clock = next((v for k, v in row.items() if k and k.startswith("Time")), "")
        try:
            moment = datetime.strptime(clock.strip().replace(".", ":")[:8], "%H:%M:%S") + day
            length = float(next(v for k, v in row.items() if k and k.startswith("Duration")))
        except (ValueError, StopIteration):
            raise UserError(f"{where}: a RemLogic row without time [hh:mm:ss] or duration: {clock!r}") from None
        first = first or moment
        if rows and moment < first + timedelta(seconds=rows[-1][0]):  # past midnight
            day += timedelta(days=1)
            moment += timedelta(days=1)
        rows.append(((moment - first).total_seconds(), length, event))
    return rows, None if first is None else _clock(f"{first:%H:%M:%S}")


def _table(text: str, where: str, epoch_seconds: float) -> tuple[list[Row], float | None]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise UserError(f"{where}: is empty")
    delimiter = next((d for d in "\t;," if d in lines[0]), None)
    header = [name.strip().strip('"').casefold() for name in (lines[0].split(delimiter) if delimiter else [lines[0]])]
    place = next((header.index(name) for name in _STAGE_COLUMNS if name in header), None)
    if place is None and delimiter is None:  # one stage a line, without a header
        return [(k * epoch_seconds, epoch_seconds, line.strip()) for k, line in enumerate(lines)], None
    if place is None:
        raise UserError(
            f"{where}: no column of stages; it has {', '.join(header)}, known are {', '.join(_STAGE_COLUMNS)}"
        )
    onset = next((header.index(name) for name in _ONSET_COLUMNS if name in header), None)
    length = next((header.index(name) for name in _DURATION_COLUMNS if name in header), None)
    rows = list(csv.reader(io.StringIO("\n".join(lines[1:])), delimiter=delimiter or ","))
    times = clock = None
    if onset is not None:
        try:
            times = [float(row[onset]) for row in rows]
        except ValueError:
            times, clock = _times_of_day([row[onset] for row in rows])
    result: list[Row] = []
    for k, row in enumerate(rows):
        duration = epoch_seconds
        if length is not None:
            try:
                duration = float(row[length])
            except ValueError:
                raise UserError(f"{where}, row {k + 2}: duration {row[length]!r} is no number") from None
        begin = times[k] if times is not None else sum(result[-1][:2]) if result else 0.0
        result.append((begin, duration, row[place].strip().strip('"')))
    if length is None and times is not None and len(times) > 1:
        gaps = np.diff(times)
        result = [(o, float(g), s) for (o, _, s), g in zip(result, [*gaps, gaps[-1]], strict=True)]
    return result, clock


def _times_of_day(cells: list[str]) -> tuple[list[float] | None, float | None]:
    """Return the seconds since the first of a column of clock times, and that one's time of day.

    (None, None) where not all are times: then the epochs follow each other.
    """
    found = [_clock(cell) or (0.0 if re.search(r"0?0[:.]00[:.]00", cell) else None) for cell in cells]
    clocks = [clock for clock in found if clock is not None]
    if not clocks or len(clocks) < len(found):
        return None, None
    times, day = [0.0], 86400.0
    for before, now in pairwise(clocks):
        times.append(times[-1] + (now - before) % day)
    return times, clocks[0] or None
