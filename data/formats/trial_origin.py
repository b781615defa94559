"""Where a trial comes from: which cue of which recording, and what the sleeper's brain did at that moment.

Trials that data/prepare.py writes have a field "origin", a dict of these values; released files lack it, and a value
that nobody knows is absent.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats import validation
from sleep_interpreter.utils.core.errors import UserError, did_you_mean

FIELD = "origin"
COLUMNS: dict[str, type] = {
    "cue_id": str,  # the same in cues.tsv and wherever a prediction of its trial stands
    "recording": str,  # name of the file
    "session": str,
    "run": str,
    "onset_s": float,  # from the recording's first sample
    "onset_sample": int,  # of the recording, at its own rate
    "stage": str,  # at the onset: "N2", "N3", "R"
    "so_group": str,  # of the slow oscillation's phase at the onset, "none" where there is none
    "so_phase_rad": float,
    "so_phase_from": str,  # "precue" or "whole"
    "spindle_coupled": bool,  # a spindle began shortly after the cue
    "repetition": int,  # how many times the item has been cued in this recording, this time included
    "minutes_since_sleep_onset": float,  # since the first N2, N3 or R of the recording
    "sham": bool,  # a cue without a sound
}
"""What there may be, in the order of the columns of predictions.csv."""
_WORDS = {str: "text", float: "a number", int: "a whole number", bool: "True or False"}


def cue_id(subject: str, recording: str, number: int) -> str:
    """Return the name of the cue `number`, counted from 1, of one recording (or live session) of a subject.

    `recording` is its file's name, which stays what it is when others come beside it.
    """
    name = recording.rsplit(".", 1)[0]
    return f"{name if name.startswith(subject) else f'{subject}_{name}'}_{number:04d}"


def to_dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one dict of plain values a row, of the columns that `COLUMNS` knows; what is not known is left out."""
    known = [column for column in COLUMNS if column in table]
    return [
        {key: COLUMNS[key](value) for key, value in zip(known, row, strict=True) if not pd.isna(value)}
        for row in table[known].itertuples(index=False)
    ]


def read_one(trial: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a trial's origin as stored, empty where there is none; refuse what is not one, naming `where`."""
    return check(trial.get(FIELD, {}), where)


def check(found: Any, where: str) -> dict[str, Any]:
    """Return a stored origin with plain values, or refuse it by its field."""
    where = f"{where}, field {FIELD!r}"
    if not isinstance(found, dict):
        raise UserError(f"{where}: expected a dict, found {validation.brief(found)}")
    result = {}
    for key, stored in found.items():
        if key not in COLUMNS:
            hint = did_you_mean(key, COLUMNS, f"there may be {', '.join(COLUMNS)}")
            raise UserError(f"{where}: unknown entry {key!r}; {hint}")
        value = stored.item() if isinstance(stored, np.generic) else stored
        kind = COLUMNS[key]
        fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
        if not fits or (kind is not bool and isinstance(value, bool)) or (kind is float and not np.isfinite(value)):
            raise UserError(f"{where}, {key!r}: expected {_WORDS[kind]}, found {validation.brief(stored)}")
        result[key] = kind(value)
    return result


def to_table(origins: Sequence[Mapping[str, Any]], where: str) -> pd.DataFrame | None:
    """Return the origins of n trials as a table (n rows, columns of `COLUMNS` that one has), None where none has any.

    What a trial does not say is missing (NaN or None). A cue that two trials are of is refused; `where` names the file.
    """
    named = [own["cue_id"] for own in origins if "cue_id" in own]
    if twice := [name for name, count in Counter(named).items() if count > 1]:
        raise UserError(f"{where}: two trials of the cue {twice[0]!r} (field {FIELD!r}); one of them is a copy")
    columns = [column for column in COLUMNS if any(column in own for own in origins)]
    if not columns:
        return None
    kinds = {float: "float64", int: "Int64"}
    return pd.DataFrame({
        column: pd.Series([own.get(column) for own in origins], dtype=kinds.get(COLUMNS[column], "object"))
        for column in columns
    })  # fmt: skip
