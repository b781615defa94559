"""The formats of scorings by name, in the order in which they are asked whether a file is theirs.

A package of your own adds one by an entry point of the group "sleep_interpreter.scorings".
"""

from sleep_interpreter.data.formats.scorings.scoring import Scoring, ScoringFile, ScoringOptions
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.registry import Registry

_HERE = "sleep_interpreter.data.formats.scorings"
FORMATS = Registry(
    "scoring format",
    "sleep_interpreter.scorings",
    {
        "edf_samples": f"{_HERE}.annotations:SampledStages",
        "annotations": f"{_HERE}.annotations:Annotations",
        "xml": f"{_HERE}.profusion:Profusion",
        "yasa": f"{_HERE}.yasa_json:YasaJson",
        "remlogic": f"{_HERE}.remlogic:RemLogic",
        "domino": f"{_HERE}.domino:Domino",
        "elan": f"{_HERE}.visbrain:Elan",
        "visbrain": f"{_HERE}.visbrain:VisbrainTimes",
        "visbrain_samples": f"{_HERE}.visbrain:VisbrainSamples",
        "luna": f"{_HERE}.luna:Luna",
        "ids": f"{_HERE}.visbrain:StartsAndDurations",
        "table": f"{_HERE}.table:Table",
        "lines": f"{_HERE}.stage_list:StageList",
    },
    protocol=f"{_HERE}.scoring:ScoringFormat",
)
_GENERAL = ("table", "lines")
"""Formats that take what no other one knows."""


def read_scoring(file: ScoringFile, options: ScoringOptions) -> Scoring:
    """Return the scoring of a file: of the format that the options name, or the first one that takes the file.

    Refuses a file that none of them takes, and what its format refuses.
    """
    if options.format is not None:
        return FORMATS.load(options.format).read(file, options)
    names = [name for name in FORMATS.names() if name not in _GENERAL]
    for name in (*names, *_GENERAL):
        form = FORMATS.load(name)
        if form.recognises(file, options):
            return form.read(file, options)
    if not file.lines:
        raise UserError(f"{file.where}: is empty")
    raise UserError(
        f"{file.where}: its first line {file.lines[0][1][:60]!r} is data, and nothing says what the columns mean; "
        f"write a header above it (onset, duration, stage), or name its format with stages.format "
        f"({', '.join(FORMATS.names())})"
    )
