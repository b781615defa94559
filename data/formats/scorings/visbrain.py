"""Visbrain's text files, ELAN's .hyp, and U-Time's .ids: short tables without a header."""

import re
from pathlib import Path

from sleep_interpreter.data.formats.scorings.scoring import Row, Scoring, ScoringFile, ScoringOptions
from sleep_interpreter.utils.core.errors import UserError

_ELAN = ("time_base", "sampling_period", "epoch_nb", "epoch_list")


class VisbrainTimes:
    """Visbrain's stages by time: lines "*Duration_sec 34290", then a stage and the second at which it ends."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether the file begins with a line *Duration_sec."""
        return bool(file.lines) and file.lines[0][1].lstrip('"').casefold().startswith("*duration_sec")

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read the stretches; each begins where the one before it ends, the first one at 0 s."""
        rows: list[Row] = []
        begin = 0.0
        for number, line in file.lines:
            if line.startswith("*"):
                continue
            cells = re.split(r"[\t;,\s]+", line)
            try:
                stage, end = cells[0], float(cells[1])
            except (IndexError, ValueError):
                raise UserError(f"{file.where}, line {number}: {line[:40]!r} is no stage and its end in s") from None
            if end <= begin or len(cells) > 2:
                raise UserError(f"{file.where}, line {number}: {line[:40]!r} does not end after the line before it")
            rows.append((begin, end - begin, stage))
            begin = end
        return Scoring(rows, "Visbrain: stages and the s at which they end", numbers="yasa")


class VisbrainSamples:
    """Visbrain's stages by sample: numbers, and beside them a file ..._description.txt that says how long each is."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether there is such a file beside it."""
        return _description(file).is_file()

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read the numbers as the file beside them says."""
        beside = ScoringFile(_description(file))
        said = dict(line.rsplit(None, 1) for _, line in beside.lines if len(line.split()) > 1)
        try:
            own = float(said.pop("time"))
        except (KeyError, ValueError):
            raise UserError(f"{beside.where}: has no line 'time' with the s of a sample") from None
        names = {number: name for name, number in said.items()}
        rows: list[Row] = []
        for k, (line, number) in enumerate(file.lines):
            plain = number.removesuffix(".0")
            if plain not in names:
                raise UserError(f"{file.where}, line {line}: {number!r} is not in {beside.where}")
            rows.append((k * own, own, names[plain]))
        return Scoring(rows, f"Visbrain: a number each {own:g} s, as {beside.path.name} says")


class Elan:
    """ELAN's .hyp: four lines time_base, sampling_period, epoch_nb and epoch_list, then a number an epoch."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether the file begins with time_base."""
        return bool(file.lines) and file.lines[0][1].casefold().startswith(_ELAN[0])

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read the numbers, R&K's with 5 = REM; refuses another count than the header states."""
        said = {line.split()[0].casefold(): line.split()[-1] for _, line in file.lines[:4]}
        numbers = [line for _, line in file.lines if line.split()[0].casefold() not in _ELAN]
        try:
            own, count = float(said["time_base"]), int(float(said["epoch_nb"]))
        except (KeyError, ValueError):
            raise UserError(f"{file.where}: an ELAN file has lines time_base and epoch_nb with a number") from None
        if len(numbers) != count or own <= 0:
            raise UserError(f"{file.where}: its header says {count} epochs, and it holds {len(numbers)}")
        rows: list[Row] = [(k * own, own, number) for k, number in enumerate(numbers)]
        return Scoring(rows, f"ELAN: a number each {own:g} s", numbers="rk")


class StartsAndDurations:
    """U-Time's .ids: a line "0,30,W" a stretch, its begin and duration in s and its stage."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether the file is called .ids or .sds."""
        return file.path.suffix.lower() in (".ids", ".sds")

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read the stretches."""
        rows: list[Row] = []
        for number, line in file.lines:
            cells = [cell.strip() for cell in line.split(",")]
            try:
                begin, length, stage = float(cells[0]), float(cells[1]), cells[2]
            except (IndexError, ValueError):
                raise UserError(f"{file.where}, line {number}: {line[:40]!r} is not begin,duration,stage") from None
            if len(cells) > 3 or length <= 0:
                raise UserError(f"{file.where}, line {number}: {line[:40]!r} is not begin,duration,stage")
            rows.append((begin, length, stage))
        return Scoring(rows, "begin, duration and stage of stretches in s")


def _description(file: ScoringFile) -> Path:
    return file.path.with_name(f"{file.path.stem}_description.txt")
