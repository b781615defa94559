"""Annotations of recordings and of files that hold nothing else: EDF+, BDF+, FIF, BrainVision, MNE's text files."""

import datetime
import re
from collections import Counter
from typing import TYPE_CHECKING

from sleep_interpreter.data.formats.scorings import clock
from sleep_interpreter.data.formats.scorings.scoring import (
    Row,
    Scoring,
    ScoringFile,
    ScoringOptions,
    held,
    refuse_unknown,
    stages_among,
)
from sleep_interpreter.data.formats.scorings.stage_codes import known
from sleep_interpreter.utils.core.constants import N2, N3, REM
from sleep_interpreter.utils.core.errors import UserError

if TYPE_CHECKING:
    import mne

_SUFFIXES = (".edf", ".bdf", ".fif", ".vhdr", ".vmrk")
_MNE_TEXT = "# MNE-Annotations"


class Annotations:
    """A file of which MNE reads annotations; which of them are stages, `stages.annotation` says."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether MNE reads the file."""
        if _is_edf_of_samples(file):
            return False
        return file.path.suffix.lower() in _SUFFIXES or file.head.startswith(_MNE_TEXT.encode())

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read the annotations; of EDF and FIF the header says when they begin, where it is no midnight."""
        import mne  # lazy: start-up

        path = file.path
        try:
            found = mne.read_annotations(path)
        except Exception as error:
            raise UserError(f"{path}: MNE reads no annotations of it: {error}") from error
        begun, dates = None, tuple[datetime.date, ...]()
        if path.suffix.lower() in (".edf", ".bdf"):  # MNE passes the header's time of the beginning over
            begun, dates = _edf_begins(file)
        elif written := re.search(r"^# orig_time *: *(\d.*)", file.head.decode("latin-1"), re.MULTILINE):
            # MNE writes a time without a fraction, and reads none
            moment = clock.moment(written[1].strip())
            if moment is None:
                raise UserError(f"{file.where}: orig_time {written[1]!r} is no date and time of day")
            begun, dates = moment.seconds, clock.dates(moment.date)
        elif found.orig_time is not None:
            begun, dates = clock.time_of_day(f"{found.orig_time:%H:%M:%S}"), clock.dates(f"{found.orig_time:%Y-%m-%d}")
        rows = from_annotations(found, options, 0.0, file.where)
        if not rows:
            texts = Counter(map(str, found.description))
            shown = ", ".join(f"{text!r} ({n})" for text, n in texts.most_common(6)) or "none at all"
            raise UserError(
                f"{file.where}: no annotation matches stages.annotation = {options.annotation!r}; there are {shown}"
            )
        midnight = begun == 0  # which is that of files without a time of day, too
        elapsed = None if begun else 0.0
        how = f"annotations that match {options.annotation!r}"
        return Scoring(rows, how, elapsed, begun, midnight, dates=dates)


class SampledStages:
    """The first Sleep-EDF's .hyp: EDF with a stage as each sample of its one signal."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether it is EDF that ends on .hyp, or whose signal is called a hypnogram."""
        return _is_edf_of_samples(file)

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read the samples as R&K's numbers, 5 = REM, each as long as the header says."""
        content = file.path.read_bytes()
        fields = [content[start : start + size].decode("latin-1").strip() for start, size in _EDF_FIELDS]
        try:
            header, records, seconds, signals, samples = (
                int(fields[0]),
                int(fields[1]),
                float(fields[2]),
                *map(int, fields[3:]),
            )
        except ValueError:
            raise UserError(f"{file.where}: its EDF header is damaged") from None
        values = [
            int.from_bytes(content[k : k + 2], "little", signed=True)
            for k in range(header, min(len(content), header + 2 * records * samples), 2)
        ]
        if signals != 1 or not samples or len(values) != records * samples:
            raise UserError(f"{file.where}: an EDF file of {signals} signals; a hypnogram has one, in whole records")
        own = seconds / samples
        begun, dates = _edf_begins(file)
        rows: list[Row] = [(k * own, own, str(value)) for k, value in enumerate(values)]
        how = f"a stage each {own:g} s in an EDF signal"
        return Scoring(rows, how, None if begun else 0.0, begun, begun == 0, numbers="rk", dates=dates)


_EDF_FIELDS = ((184, 8), (236, 8), (244, 8), (252, 4), (472, 8))
"""Place and length of header bytes, records, seconds a record, signals, and of one signal its samples a record."""


def _edf_begins(file: ScoringFile) -> tuple[float | None, tuple[datetime.date, ...]]:
    """Return the time of day (s) and the date, dd.mm.yy, at which an EDF header says that the file begins."""
    day, month, year = (re.split(r"\D", file.head[168:176].decode("latin-1").strip()) + [""] * 3)[:3]
    century = "19" if year > "84" else "20"
    return clock.time_of_day(file.head[176:184].decode("latin-1")), clock.dates(f"{century}{year}-{month}-{day}")


def _is_edf_of_samples(file: ScoringFile) -> bool:
    edf = file.head.startswith(b"0       ") and file.head[252:256].strip() == b"1"
    return edf and b"hypnogram" in file.head[256:272].lower()


def from_annotations(
    annotations: "mne.Annotations", options: ScoringOptions, first_time: float = 0.0, where: str = "annotations"
) -> list[Row]:
    """Return rows of those annotations that are stages, by `annotation` and `names` of the options.

    `first_time` is the time of the recording's first sample on the annotations' clock, s. Refuses some that are stages
    by their names and do not match while others do, or that stand where a stage is missing.
    """
    texts = [str(text).strip() for text in annotations.description]
    stages = stages_among(texts, options, f"{where}: the annotation", letters=False)
    rows, others = list[Row](), list[tuple[float, str, str]]()
    for onset, length, text, stage in zip(annotations.onset, annotations.duration, texts, stages, strict=True):
        if stage is not None:
            rows.append((float(onset) - first_time, float(length), stage))
        else:
            begin = float(onset) - first_time
            others.append((begin, text, f"{where}: the annotation at {begin:g} s"))
    rows = held(rows, 30.0, where)
    refuse_unknown(rows, others, options)
    return rows


def unmatched_stages(annotations: "mne.Annotations") -> list[str]:
    """Return the texts of annotations that are stages by their names, if these tell at least two of N2, N3 and R.

    Single letters and S1, S2 ... are key presses and triggers in most recordings: they alone are none.
    """
    codes = {text: code for text in map(str, annotations.description) if (code := known(text)) is not None}
    told = {code for text, code in codes.items() if len(text) > 1 and not re.fullmatch(r"(?i)s *\d+", text)}
    return list(codes) if len({N2, N3, REM} & told) > 1 else []
