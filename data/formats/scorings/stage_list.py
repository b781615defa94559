"""One stage a line, and nothing else: epochs that follow each other."""

from sleep_interpreter.data.formats.scorings.scoring import Scoring, ScoringFile, ScoringOptions
from sleep_interpreter.data.formats.scorings.stage_codes import known
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.text_tables import SEPARATORS, is_number


class StageList:
    """A stage a line, the first one at the recording's first sample."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether no line holds columns: a tab, a semicolon, a comma, or a number and something else."""
        lines = [line for _, line in file.lines]
        if any(sign in line for line in lines for sign in SEPARATORS):
            return False
        return not any(len(words := line.split()) > 1 and is_number(words[0]) and known(line) is None for line in lines)

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
        own = options.epoch_seconds
        rows = [(k * own, own, line.strip().strip('"')) for k, (_, line) in enumerate(lines)]
        return Scoring(rows, f"a stage a line, epochs of {own:g} s from the recording's first sample", ordered=True)
