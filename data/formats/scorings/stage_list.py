"""One stage a line, and nothing else: epochs that follow each other."""

import re
from collections.abc import Sequence

from sleep_interpreter.data.formats.scorings.clock import like_a_time
from sleep_interpreter.data.formats.scorings.scoring import Scoring, ScoringFile, ScoringOptions
from sleep_interpreter.data.formats.scorings.stage_codes import known
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.text_tables import SEPARATORS, is_number


def in_one_line(lines: Sequence[str]) -> bool:
    """Tell whether the only line holds several stages."""
    words = [word.strip("\"'[]") for word in re.split(r"[\s,;]+", lines[0])] if len(lines) == 1 else []
    stages = all(re.fullmatch(r"-?\d", word) or known(word) is not None for word in words)
    return len(words) > 3 and stages and known(lines[0]) is None


class StageList:
    """A stage a line, the first one at the recording's first sample."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether no line holds columns: a tab, a semicolon, a comma, or a number or time and something else."""
        lines = [line for _, line in file.lines if not line.startswith("#")]
        if in_one_line(lines):
            return True
        if any(sign in line for line in lines for sign in SEPARATORS):
            return False
        return not any(
            len(words := line.split()) > 1 and (is_number(words[0]) or like_a_time(words[0])) and known(line) is None
            for line in lines
        )

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read the list; lines that begin with # are comments. Refuses a blank line before the last stage."""
        lines = [(number, line) for number, line in enumerate(file.text.splitlines(), 1) if not line.startswith("#")]
        while lines and not lines[-1][1].strip():
            lines.pop()
        if blank := [number for number, line in lines if not line.strip()]:
            raise UserError(
                f"{file.where}, line {blank[0]}: is blank; later epochs would come too early or too late: take the "
                "line out, or write '?' for an epoch that nobody scored"
            )
        if in_one_line([line for _, line in lines]):
            raise UserError(f"{file.where}: all stages stand in one line; write each on a line of its own")
        given = {name.strip().casefold() for name in options.names}
        for number, line in lines:
            text = line.strip().strip('"')
            other = known(text) is None and text.casefold() not in given and re.search(r"[:=]|\S\s+\S", text)
            if other and sum(text in one for _, one in lines) == 1:
                raise UserError(
                    f"{file.where}, line {number}: {text!r} is no stage; take the line out if it is a title or a sum, "
                    f'or say what it means with stages.names ("stages.names={{{text!r}: N2}}")'
                )
        own = options.epoch_seconds
        rows = [(k * own, own, line.strip().strip('"')) for k, (_, line) in enumerate(lines)]
        return Scoring(rows, f"a stage a line, epochs of {own:g} s from the recording's first sample", ordered=True)
