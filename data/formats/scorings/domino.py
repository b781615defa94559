"""SOMNOmedics DOMINO: a sleep profile as text, a time of day and a stage a line behind a short header."""

import re

from sleep_interpreter.data.formats.scorings import clock
from sleep_interpreter.data.formats.scorings.scoring import Row, Scoring, ScoringFile, ScoringOptions, usual_step
from sleep_interpreter.utils.core.errors import UserError

_HEADER = re.compile(r"(signal id|start time|unit|signal type|events list|rate)\s*:\s*(.*)", re.IGNORECASE)
_ARTEFACT = "artefact"


class Domino:
    """DOMINO's sleep profile ("Schlafprofil")."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether the first lines are DOMINO's header."""
        names = [found[1].casefold() for _, line in file.lines[:8] if (found := _HEADER.match(line))]
        return "start time" in names and ("signal id" in names or "rate" in names)

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read a profile; A is an artefact.

        Refuses another signal's export, a line that is no time and stage, and epochs that do not last as the header
        says.
        """
        header = {found[1].casefold(): found[2] for _, line in file.lines if (found := _HEADER.match(line))}
        if header.get("signal type", "discret").strip().casefold() not in ("discret", "discrete"):
            raise UserError(f"{file.where}: {header.get('signal id')!r} is no sleep profile; export the sleep profile")
        rate = re.match(r"([\d.,]+)\s*s", header.get("rate", ""))
        own = float(rate[1].replace(",", ".")) if rate else options.epoch_seconds
        moments, names, numbers = [], list[str](), list[int]()
        for number, line in file.lines:
            if _HEADER.match(line):
                continue
            when, separator, stage = line.partition(";")
            moment = clock.moment(when)
            if not separator or moment is None or not stage.strip():
                raise UserError(f"{file.where}, line {number}: {line[:40]!r} is no time; stage as DOMINO writes it")
            moments.append(moment)
            numbers.append(number)
            names.append(_ARTEFACT if stage.strip() == "A" else stage.strip().rstrip(";").strip())
        if not moments:
            raise UserError(f"{file.where}: holds no epoch behind its header")
        times = clock.times(moments, file.where, numbers, of_day=True)
        step, regular = usual_step(times.onsets) if len(names) > 1 else (own, True)
        if regular and abs(step - own) > 1:
            raise UserError(
                f"{file.where}: its header says epochs of {own:g} s, its times are {step:g} s apart; mend the line Rate"
            )
        rows: list[Row] = [(onset, own, name) for onset, name in zip(times.onsets, names, strict=True)]
        return Scoring(
            rows, f"DOMINO: epochs of {own:g} s", None, times.clock, remarks=times.remarks, dates=times.dates
        )
