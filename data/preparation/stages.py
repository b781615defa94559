"""Sleep stages of a recording: the expert's, or YASA's."""

import contextlib
import datetime
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import mne
import numpy as np

from sleep_interpreter.data.formats.scoring_readers import UNSCORED, Hypnogram, from_annotations, make, read_hypnogram
from sleep_interpreter.data.formats.scorings import clock as clocks
from sleep_interpreter.data.formats.scorings.annotations import unmatched_stages
from sleep_interpreter.data.formats.scorings.clock import written
from sleep_interpreter.data.preparation.channels import KINDS, Derivation, Plan
from sleep_interpreter.data.preparation.inputs import Session, Source, scorings
from sleep_interpreter.data.preparation.pauses import scoring_in_time
from sleep_interpreter.data.preparation.settings import Preparation, Stages
from sleep_interpreter.data.preparation.signal import SignalFile
from sleep_interpreter.utils.core.constants import STAGING_SECONDS, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.signal.preprocessing import staging_window
from sleep_interpreter.utils.signal.recording import Recording

_YASA_RATE = 100
_LEAST_SECONDS = 300  # YASA's classifier needs five minutes


def find_stages(
    session: Session, annotations: mne.Annotations, recording: Recording, file: SignalFile, plan: Plan,
    settings: Stages, counted: bool | None = None,
) -> tuple[Hypnogram, str, list[str]]:  # fmt: skip
    """Return the hypnogram of a sleep recording, where it comes from, and remarks.

    `counted` says whether the times of a scoring beside the recording count its gaps (`pauses.scoring_in_time`).
    The file is unfiltered, with rows as in the plan. Stages come from "expert: FILE", "expert: annotations", or
    "YASA". Refuses a source that is not there, and a scoring that is unreadable or that by its clock lies elsewhere.
    """
    where, options = display_path(session.path), settings.options
    remarks = list[str]()
    if settings.source in ("auto", "file") and (path := scoring_file(session, settings)) is not None:
        found, source = read_hypnogram(path, options), f"expert: {path.name}"
        _check_person(found, session, display_path(path))
    elif settings.source == "file":
        lacking = _no_file(session, settings) if settings.file else "there is no stages.file"
        raise UserError(f"{where}: stages.source is file, but {lacking}")
    else:
        if settings.source == "auto" and settings.file is not None:
            remarks.append(f"WARNING: {_no_file(session, settings)}")
        wanted = settings.source != "yasa"
        rows = from_annotations(annotations, options, recording.first_time, where) if wanted else []
        if settings.source == "annotations" and not rows:
            raise UserError(f"{where}: no annotation matches stages.annotation = {settings.annotation!r}")
        if settings.source == "auto" and not rows and (own := unmatched_stages(annotations)):
            pattern = f"(?P<stage>{'|'.join(map(re.escape, own))})".replace("\\-", "-")
            raise UserError(
                f"{where}: the annotations {', '.join(map(repr, own))} are stages by their names, but do not match "
                f"stages.annotation = {settings.annotation!r}; set it to {pattern!r}, or set stages.source=yasa if "
                "they are something else"
            )
        if rows:
            found, source = make(rows, where, settings.numbers, settings.names), "expert: annotations"
        else:
            remarks.append("staged by YASA, not by an expert")
            return stage_with_yasa(file, plan, where), "YASA", remarks
    later, placed = _place(
        found, recording.clock, file.seconds, settings, f"{where}: the scoring ({source})", recording.date
    )
    found = replace(found, onset=found.onset + (later + settings.offset_seconds))
    if source != "expert: annotations":
        found = scoring_in_time(found, recording.timeline, counted, f"{where}: the scoring ({source})")
    told = [*placed, *found.remarks, *_understood(found, source, file.seconds)]
    return found, source, remarks + told + length_remarks(found, file.seconds)


def _check_person(found: Hypnogram, session: Session, what: str) -> None:
    """Refuse a scoring that by one of its columns is somebody else's."""
    own = session.parts.get("subject") or session.path.name
    for title, person in found.persons:
        there, here = _marks_of(person), _marks_of(own)
        if there and not (there <= here or ("subject" in session.parts and here and here <= there)):
            raise UserError(
                f"{what}: is that of {person!r}, by its column {title!r}, and the recording is that of {own!r}; take "
                f"the right file, or set stages.ignore=[{title!r}] if both names are one person's"
            )


def _marks_of(name: str) -> set[str]:
    """Return what tells one person's name from another's: its words and numbers without "sub" and the like."""
    words = re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=\d)\.0$", "", name).casefold())
    return {word.lstrip("0") or "0" for word in words} - _NOBODY


_NOBODY = {"s", "p", "n", "vp", "sub", "subj", "subject", "id", "pat", "patient", "participant", "proband", "person"}
_DAY = 86400.0
_SAME = 1.5  # s: clocks tell whole seconds
_EPOCHS = (1, 2, 4, 5, 10, 15, 20, 30, 60)
"""Lengths of epochs in use, s."""
_UNIX = 1e8
"""Onsets beyond, s, count from 1970."""


def _place(
    found: Hypnogram,
    clock: float | None,
    seconds: float,
    settings: Stages,
    what: str,
    date: datetime.date | None = None,
) -> tuple[float, list[str]]:
    """Return how many s after a recording's first sample a scoring's zero lies, and what to say about that.

    `clock` is the time of day of that sample (None: unknown), `date` its day, `seconds` the recording's length.
    Refuses a time of day that nothing can be compared with, two readings of which either fits, another date, and a
    scoring of which less than half lies in the recording, or nothing where the settings say where it lies.
    """
    later, told, by_clock = _laid(found, clock, seconds, settings, what, date)
    guessed = settings.times == "auto" and (settings.use_clock or found.clock is None)
    share = _inside(found, later + settings.offset_seconds, seconds)
    if found.ordered and (guessed or share < 0.5):
        _check_epochs(found, seconds, what)
    if share < 0.5 if guessed else share <= 0:
        _refuse_outside(found, later + settings.offset_seconds, seconds, later == by_clock, what)
    if guessed and (found.elapsed is None or (found.undecided and later == by_clock)):
        _check_end(found, later, seconds, what)
    if guessed and not found.ordered and found.how.startswith(("table", "begin")) and found.clock is None:
        _check_unit(found, seconds, what)
    return later, told


def _laid(
    found: Hypnogram, clock: float | None, seconds: float, settings: Stages, what: str, date: datetime.date | None
) -> tuple[float, list[str], float | None]:
    """Return where a scoring's zero lies as `_place` does, what to say about that, and where it lies by the clocks."""
    if found.clock is not None and (found.elapsed is None or found.undecided) and settings.times != "elapsed":
        _check_hours(found, found.clock, what)
    by_clock = None if found.clock is None or clock is None else _after(found.clock, clock)
    if by_clock is not None and clock is not None and date is not None and clocks.is_known(date):
        by_clock = _by_dates(found, by_clock, clock, date, seconds, settings, what)
    first = -float(found.onset.min(initial=0.0)) if found.elapsed is None or found.undecided else 0.0
    wanted = settings.times
    if wanted == "auto" and not settings.use_clock and found.clock is not None:
        fits = found.undecided and found.elapsed and _inside(found, found.elapsed, seconds) > 0.5
        if fits:
            raise UserError(
                f"{what} begins at {written(found.clock)}: that is {found.elapsed:g} s after the recording's first "
                "sample if times are elapsed (stages.times=elapsed), and on it if they are times of day and the "
                "recording begins with the scoring (stages.times=first); say which"
            )
        wanted = "first" if found.elapsed is None or found.undecided else "elapsed"
    if wanted == "first":
        return first, [], by_clock
    if wanted == "elapsed":
        if found.elapsed is None:
            raise UserError(f"{what} holds times of day, no elapsed times; set stages.times to clock or first")
        return found.elapsed, [], by_clock
    if wanted == "clock":
        if by_clock is None:
            whose = "scoring" if found.clock is None else "recording"
            raise UserError(f"{what}: the {whose} says no time of day; set stages.times to elapsed or first")
        _check_end(found, by_clock, seconds, what)
        return by_clock, _begins(by_clock), by_clock
    if found.undecided and found.elapsed is not None and found.clock is not None:
        later = _decide(found, by_clock, seconds, what)
        told = [f"its times are taken for {'elapsed times' if later == found.elapsed else 'times of day'}"]
    elif found.elapsed is not None:
        later, told = found.elapsed, []
        if by_clock is not None and abs(by_clock - found.elapsed) > _SAME:
            raise UserError(
                f"{what}: by its seconds it begins {found.elapsed + found.onset[0]:g} s after the recording's first "
                f"sample, by its clock {by_clock + found.onset[0]:g} s; say which with stages.times=elapsed or clock"
            )
    elif by_clock is None:
        raise UserError(
            f"{what} begins at {written(found.clock or 0.0)}, and the recording says no time of day at which it "
            "begins; if both begin together, set stages.times=first (stages.offset_seconds moves the scoring)"
        )
    else:
        later, told = by_clock, []
    return later, told + (_begins(later) if later == by_clock else []), by_clock


def _refuse_outside(found: Hypnogram, later: float, seconds: float, by_clock: bool, what: str) -> None:
    """Refuse a scoring of which too little lies in the recording; `later` is where its zero lies, s.

    Names only those ways out by which the scoring would lie in the recording.
    """
    first = float(found.onset[0])
    ways = ["if its times are not s, write their unit into the header"] if found.clock is None else []
    if _inside(found, -first, seconds) >= 0.5 and (not by_clock or found.elapsed is None or found.undecided):
        moves = found.elapsed is None or found.undecided
        way = "times=first" if moves else f"offset_seconds={-first:.12g}"
        ways.insert(0, f"if it begins with the recording, set stages.{way}")
        if first > _UNIX:
            ways[1:] = ["these look like s since 1970; otherwise write s from the recording's first sample"]
    else:
        ways.append("leave out what does not belong to the recording")
    raise UserError(
        f"{what} begins {later + first:.12g} s after the recording {'by their clocks' if by_clock else 'by its times'} "
        f"and ends at {later + found.seconds:.12g} s, and less than half of it lies in the recording ({seconds:g} s); "
        + "; ".join(ways)
    )


def _after(scoring: float, recording: float) -> float:
    """Return how many s after the recording a scoring begins by the time of day of both, from -12 to 12 h."""
    later = (scoring - recording + _DAY / 2) % _DAY - _DAY / 2
    return 0.0 if abs(later) < 1 else round(later, 3)  # clocks in whole seconds


def _by_dates(
    found: Hypnogram, by_clock: float, clock: float, date: datetime.date, seconds: float, settings: Stages, what: str
) -> float:
    """Return how many s after the recording a scoring begins by the date and the time of day of both.

    Refuses dates by which it lies elsewhere, unless the settings say by what it is laid.
    """
    assert found.clock is not None
    days = [(one - date).days for one in found.dates]
    later = [round(day * _DAY + found.clock - clock, 3) for day in days]
    if not later or any(abs(one - by_clock) < _SAME for one in later):
        return by_clock
    if 0 in days and found.clock < _DAY / 2 < clock:  # the day on which the night began
        return by_clock
    if len(fitting := [one for one in later if _inside(found, one, seconds) >= 0.5]) == 1:
        return fitting[0]
    if settings.times == "auto" and settings.use_clock:
        raise UserError(
            f"{what} is dated {' or '.join(map(str, found.dates))}, and the recording {date}; take the scoring of this "
            "night, or set stages.times=clock if one of the dates was changed, as for anonymity"
        )
    return by_clock


def _begins(later: float) -> list[str]:
    return [f"by the clocks, the scoring begins {later:g} s after the recording"] if later else []


def _inside(found: Hypnogram, later: float, seconds: float) -> float:
    """Return which share of what was scored lies in a recording of so many s."""
    whole = float(found.duration[found.stage != UNSCORED].sum())
    return _scored_seconds(found, later, seconds) / whole if whole else 1.0


def _scored_seconds(found: Hypnogram, later: float, seconds: float) -> float:
    """Return how many s of what was scored lie in a recording of so many s."""
    scored = found.stage != UNSCORED
    begin, length = found.onset[scored] + later, found.duration[scored]
    return float(np.clip(np.minimum(begin + length, seconds) - np.maximum(begin, 0), 0, None).sum())


def _decide(found: Hypnogram, by_clock: float | None, seconds: float, what: str) -> float:
    """Return where a scoring begins whose times may be elapsed ones or times of day; refuse where both fit."""
    assert found.elapsed is not None and found.clock is not None
    if by_clock is None:
        if found.elapsed == 0:
            return 0.0
        fits = _inside(found, found.elapsed, seconds) >= 0.5
        raise UserError(
            f"{what} begins at {written(found.clock)}, and the recording says no time of day at which it begins; if "
            + ("these are elapsed times, set stages.times=elapsed; if " if fits else "")
            + "both begin together, set stages.times=first (stages.offset_seconds moves the scoring)"
        )
    shares = {later: _inside(found, later, seconds) for later in (found.elapsed, by_clock)}
    if len(shares) == 1 or abs(by_clock - found.elapsed) < _SAME:
        return by_clock
    whole = [later for later, share in shares.items() if share * found.seconds >= found.seconds - STAGING_SECONDS]
    fitting = [later for later, share in shares.items() if share >= 0.5]
    if len(whole) == 1 or len(fitting) == 1:
        return (whole if len(whole) == 1 else fitting)[0]
    if not fitting:
        return by_clock
    raise UserError(
        f"{what} begins at {written(found.clock)}: that is {found.elapsed:g} s after the recording's first sample if "
        f"times are elapsed (stages.times=elapsed), and {by_clock:g} s if they are times of day (stages.times=clock); "
        "say which"
    )


def _check_hours(found: Hypnogram, clock: float, what: str) -> None:
    """Refuse times of day that leave out an hour at night, as where clocks are set to summer time."""
    ends = (found.onset + found.duration)[:-1]
    for end, begin in zip(ends, found.onset[1:], strict=True):
        if abs(begin - end - 3600) < _SAME and (clock + end + 3600) % _DAY < 5.5 * 3600:
            raise UserError(
                f"{what}: between {written((clock + end) % _DAY)} and {written((clock + begin) % _DAY)} an hour is "
                "missing: clocks were set to summer time, or nobody scored it; write onsets in s from the "
                "recording's first sample"
            )


def _check_end(found: Hypnogram, later: float, seconds: float, what: str) -> None:
    """Refuse times of day that go on for an hour after the recording, as where clocks were set to summer time."""
    late = found.seconds + later - seconds
    if abs(late - 3600) <= 2 * STAGING_SECONDS:
        raise UserError(
            f"{what} ends {late:g} s after the recording, as if clocks had been set to summer time in that night; "
            "write onsets in s from the recording's first sample, or leave out what lies after the recording"
        )


def _check_epochs(found: Hypnogram, seconds: float, what: str) -> None:
    """Refuse epochs that follow each other and are too many, or would fill the recording if they had another length."""
    own = float(found.duration[0])
    count = round(found.seconds / own)
    if abs(found.seconds - seconds) <= 2 * own:
        return
    twice = found.seconds > 2 * seconds
    lasts = f"{what} has {count} epochs, {count * own:g} s if they last {own:g} s; the recording has {seconds:g} s"
    for other in _EPOCHS:
        if other != own and abs(count * other - seconds) <= other:
            raise UserError(
                f"{lasts}, as if they lasted {other} s; say which with stages.epoch_seconds={other}"
                + ("" if twice else ", or stages.times=first if they do last so long")
            )
    if found.seconds > seconds:
        raise UserError(
            f"{lasts}; if they are shorter, say how long they last with stages.epoch_seconds"
            + (", if not, leave out those that do" if twice else "; set stages.times=first if the last ones do")
            + " not belong to the recording"
        )


def _check_unit(found: Hypnogram, seconds: float, what: str) -> None:
    """Refuse a table that takes up a small part of the recording, and all of it if its numbers are min, h or epochs."""
    length = found.seconds - float(found.onset[0])
    for unit, scale in (("min", 60), ("h", 3600), ("epochs", 30), ("epochs", 20)):
        if abs(length * scale - seconds) <= seconds / 4:
            raise UserError(
                f"{what} lasts {length:g} s, and {length * scale:g} s if its numbers are {unit}"
                + (f" of {scale} s (stages.epoch_seconds)" if unit == "epochs" else "")
                + f"; the recording has {seconds:g} s: "
                + (f"write the unit into the header (onset [{unit}])" if found.how.startswith("table") else "write s")
                + ", or set stages.times=elapsed if they are s"
            )


def _understood(found: Hypnogram, source: str, seconds: float) -> list[str]:
    """Return what was understood of a scoring whose onsets count from the recording's first sample, as sentences."""
    outside = int(((found.onset < -0.5) | (found.onset + found.duration > seconds + 0.5)).sum())
    how = f" ({found.how})" if found.how else ""
    lies = f"{len(found.onset)} rows, the first begins at {found.onset[0]:g} s, the last ends at {found.seconds:g} s"
    return [
        f"scoring, {source}{how}: {lies} of the recording's {seconds:g} s; outside it: {outside}",
        f"scoring: {found.minutes()}",
    ]


def _no_file(session: Session, settings: Stages) -> str:
    return f"stages.file = {settings.file!r} matches nothing beside {session.path.name}"


def scoring_file(session: Session, settings: Stages) -> Path | None:
    """Return the hypnogram file of a sleep recording, or None; refuse several that match `stages.file`."""
    if session.kind != "sleep":
        return None
    found = scorings(session.path, settings.file, session.parts)
    if len(found) > 1:
        raise UserError(f"{session.path}: stages.file matches {', '.join(p.name for p in found)}: make it match one")
    return found[0] if found else None


def without_shared_scorings(sources: Sequence[Source], settings: Preparation) -> list[Source]:
    """Return the people, those at fault one scoring of whom serves two recordings.

    It may only serve several recordings of one person, if it and they have times of day that tell whose its rows are.
    What cannot be read is passed over: the preparation says why.
    """
    users: dict[Path, list[tuple[Source, Session]]] = {}
    for source in sources if settings.stages.source in ("auto", "file") else ():
        for session in source.sessions:
            with contextlib.suppress(UserError):
                if (file := scoring_file(session, settings.stages)) is not None:
                    users.setdefault(file.resolve(), []).append((source, session))
    faults = dict[str, str]()
    for file, own in users.items():
        if len(own) < 2 or (len({one.name for one, _ in own}) == 1 and _apart(file, [s for _, s in own], settings)):
            continue
        paths = " and ".join(display_path(session.path) for _, session in own[:2])
        more = f" and {len(own) - 2} more" if len(own) > 2 else ""
        for source, _ in own:
            faults[source.name] = (
                f"{display_path(file)} is the scoring of {paths}{more}, by stages.file = {settings.stages.file!r}: "
                "give each recording a scoring of its own, and let the pattern tell them apart ({stem}, {subject}, "
                "{session}, {run}); one of several recordings needs times of day, and stages.times=clock"
            )
    return [
        replace(source, fault=faults[source.name]) if source.fault is None and source.name in faults else source
        for source in sources
    ]


def _apart(file: Path, sessions: Sequence[Session], settings: Preparation) -> bool:
    """Tell whether a scoring and recordings have times of day, and no two of the recordings go on at one time."""
    own = settings.stages
    if not own.use_clock or own.times not in ("auto", "clock"):
        return False
    spans = list[tuple[float, float]]()
    try:
        found = read_hypnogram(file, own.options)
        for session in sessions:
            recording = Recording(session.path, settings.recordings.encoding)
            if found.clock is None or recording.clock is None or (found.undecided and own.times != "clock"):
                return False
            begin = _after(recording.clock, found.clock)
            spans.append((begin, begin + recording.seconds))
    except UserError:
        return False
    spans.sort()
    return all(one[1] <= other[0] + _SAME for one, other in pairwise(spans))


def length_remarks(hypnogram: Hypnogram, seconds: float) -> list[str]:
    """Return what there is to say where hypnogram and recording disagree in length, as sentences."""
    remarks = []
    first, last = float(hypnogram.onset.min(initial=0.0)), hypnogram.seconds
    if first < 0:
        remarks.append(f"the hypnogram begins {-first:g} s before the recording")
    if last > seconds + 1:
        remarks.append(f"the hypnogram ends {last - seconds:g} s after the recording; that part is left out")
    if last < seconds - STAGING_SECONDS:
        remarks.append(f"the last {seconds - last:g} s of the recording are not scored")
    if (lying := _scored_seconds(hypnogram, 0.0, seconds)) < seconds / 2:
        remarks.append(f"WARNING: of the recording's {seconds / 60:.4g} min, only {lying / 60:.3g} are scored")
    return remarks


def stage_with_yasa(file: SignalFile, plan: Plan, where: str) -> Hypnogram:
    """Return the hypnogram that YASA's pretrained classifier gives for the whole recording.

    Refuses a recording without EEG for staging, or of less than five minutes.
    """
    import yasa  # lazy: start-up

    if plan.derivations[0] is None:
        raise UserError(f"{where}: YASA needs an EEG channel (channels.eeg), and there is no hypnogram")
    if file.seconds < _LEAST_SECONDS:
        raise UserError(
            f"{where}: {file.seconds:.0f} s are too short for YASA ({_LEAST_SECONDS} s), and there is no hypnogram"
        )
    signals = {}
    for kind, pair in zip(KINDS, plan.derivations, strict=True):
        if pair is not None:
            signal = _derived(file, pair, 0, file.shape[1]).astype(float)
            signals[kind] = mne.filter.resample(signal, down=5.0, method="polyphase", verbose="error")
    with warnings.catch_warnings(action="ignore"):
        info = mne.create_info(list(signals), _YASA_RATE, "eeg")
        raw = mne.io.RawArray(np.stack(list(signals.values())) * 1e-6, info, verbose="error")
        names = {f"{kind}_name": kind for kind in signals}
        predicted = yasa.SleepStaging(raw, **names).predict()
    stages = getattr(predicted, "hypno", predicted)
    epoch = float(STAGING_SECONDS)
    return make([(k * epoch, epoch, str(stage)) for k, stage in enumerate(stages)], where)


def _derived(file: SignalFile, pair: Derivation, start: int, stop: int) -> np.ndarray:
    """Return one derivation (n,) of the stager in µV, raw: channel minus its reference."""
    plus, minus = pair
    signal = file.read(start, stop, plus)
    return signal if minus is None else signal - file.read(start, stop, minus)


def scored_span(codes: np.ndarray) -> tuple[int, int]:
    """Return (first, last + 1) of the scored epochs; (0, 0) where there is none."""
    scored = np.flatnonzero(codes != UNSCORED)
    return (int(scored[0]), int(scored[-1]) + 1) if len(scored) else (0, 0)


def staging_windows(
    file: SignalFile, plan: Plan, codes: np.ndarray, settings: Stages
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the stager's windows of the scored part of a night, one every 3 s, as in real time.

    The file is unfiltered; `codes` are the stages of its 30 s epochs. A window, float32 (3, 15000), comes with the
    code of the epoch that it begins in, -1 where nobody scored it, or a gap of the recording lies in it.
    """
    first, last = scored_span(codes)
    length = round(STAGING_SECONDS * STREAM_RATE)
    step = length // 10
    for k in range(max(0, 10 * (last - first) - 9)):
        start = first * length + k * step
        rows = [
            np.zeros(length, np.float32) if pair is None else _derived(file, pair, start, start + length)
            for pair in plan.derivations
        ]
        gap = any(begin < start + length and end > start for begin, end in file.gaps)
        yield (
            UNSCORED if gap else int(codes[first + k // 10]),
            staging_window(np.stack(rows), STREAM_RATE, settings.filters),
        )
