"""Annotations of recordings and of files that hold nothing else: EDF+, BDF+, FIF, BrainVision, MNE's text files."""

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from sleep_interpreter.data.formats.scorings import clock
from sleep_interpreter.data.formats.scorings.scoring import Row, Scoring, ScoringFile, ScoringOptions, held
from sleep_interpreter.data.formats.scorings.stage_codes import UNSCORED, known
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
        begun = None
        if path.suffix.lower() in (".edf", ".bdf"):  # MNE passes the header's time of the beginning over
            begun = clock.time_of_day(file.head[168:184].decode("latin-1")[8:])
        elif found.orig_time is not None:
            begun = clock.time_of_day(f"{found.orig_time:%H:%M:%S}")
        rows, others = split_annotations(found, options.annotation, 0.0, file.where)
        if not rows:
            shown = ", ".join(f"{text!r} ({n})" for text, n in others.most_common(6)) or "none at all"
            raise UserError(
                f"{file.where}: no annotation matches stages.annotation = {options.annotation!r}; there are {shown}"
            )
        midnight = begun == 0  # which is that of files without a time of day, too
        elapsed = None if begun else 0.0
        return Scoring(rows, f"annotations that match {options.annotation!r}", elapsed, begun, midnight)


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
        begun = clock.time_of_day(content[176:184].decode("latin-1"))
        rows: list[Row] = [(k * own, own, str(value)) for k, value in enumerate(values)]
        how = f"a stage each {own:g} s in an EDF signal"
        return Scoring(rows, how, None if begun else 0.0, begun, begun == 0, numbers="rk")


_EDF_FIELDS = ((184, 8), (236, 8), (244, 8), (252, 4), (472, 8))
"""Place and length of header bytes, records, seconds a record, signals, and of one signal its samples a record."""


def _is_edf_of_samples(file: ScoringFile) -> bool:
    edf = file.head.startswith(b"0       ") and file.head[252:256].strip() == b"1"
    return edf and b"hypnogram" in file.head[256:272].lower()


def from_annotations(
    annotations: "mne.Annotations", pattern: str, first_time: float = 0.0, where: str = "annotations"
) -> list[Row]:
    """Return rows of those annotations that `pattern` with its group "stage" takes for stages.

    `first_time` is the time of the recording's first sample on the annotations' clock, s.
    """
    return split_annotations(annotations, pattern, first_time, where)[0]


def split_annotations(
    annotations: "mne.Annotations", pattern: str, first_time: float, where: str
) -> tuple[list[Row], Counter[str]]:
    """Return rows of the annotations that are stages, as `from_annotations` does, and the texts of the others.

    Refuses some that are stages by their name and do not match the pattern while others do.
    """
    found: list[Row] = []
    others: Counter[str] = Counter()
    for onset, duration, text in zip(annotations.onset, annotations.duration, annotations.description, strict=True):
        own: Any = str(text).strip()
        candidates = (own, own.partition("/")[2].strip())
        if match := next(filter(None, (re.fullmatch(pattern, candidate) for candidate in candidates)), None):
            found.append((float(onset) - first_time, float(duration), match["stage"]))
        else:
            others[own] += 1
    missed = [text for text in others if len(text) > 1 and known(text) not in (None, UNSCORED)]
    if found and missed:
        raise UserError(
            f"{where}: the annotation {missed[0]!r} is a stage, but does not match stages.annotation = {pattern!r} as "
            "others do; change the setting so that it matches all"
        )
    return held(found, 30.0), others
