"""A hypnogram as YASA keeps it in JSON (yasa.Hypnogram.to_json)."""

from sleep_interpreter.data.formats.scorings.clock import dates
from sleep_interpreter.data.formats.scorings.scoring import Row, Scoring, ScoringFile, ScoringOptions
from sleep_interpreter.utils.core.errors import UserError, told


class YasaJson:
    """YASA's own file."""

    @staticmethod
    def recognises(file: ScoringFile, options: ScoringOptions) -> bool:
        """Tell whether the file is called .json."""
        return file.path.suffix.lower() == ".json"

    @staticmethod
    def read(file: ScoringFile, options: ScoringOptions) -> Scoring:
        """Read it with YASA; its start, where it has one, is a time of day."""
        import pandas as pd  # lazy: start-up
        import yasa  # lazy: start-up

        try:
            found = yasa.Hypnogram.from_json(file.path)
            own = pd.Timedelta(found.freq).total_seconds()
            names = found.hypno.astype(str).tolist()
        except Exception as error:  # whatever it raises on a file of something else
            raise UserError(
                f"{file.where}: is no hypnogram that yasa.Hypnogram.to_json wrote ({told(error)}); write a stage a "
                "line into a .txt file, or onset, duration and stage into a table (.csv)"
            ) from None
        rows: list[Row] = [(k * own, own, name) for k, name in enumerate(names)]
        how = f"YASA's hypnogram, epochs of {own:g} s"
        if found.start is None:
            return Scoring(rows, f"{how} from the recording's first sample", ordered=True)
        begun = pd.Timestamp(found.start)
        seconds = (begun - begun.normalize()).total_seconds()
        return Scoring(rows, how, 0.0 if seconds == 0 else None, seconds, seconds == 0, dates=dates(str(found.start)))
