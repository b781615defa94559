"""Everything planted, as files: `truth/<subject>_<session>.npz` with tables and arrays, `truth/truth.json`.

`read_truth` puts a subject's files together again. What is in them is described in docs/data_format.md.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sleep_interpreter.data.simulation.settings import Simulation
from sleep_interpreter.data.simulation.subject import Subject
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.npz import Npz, NpzError
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.core.provenance import MARK, write_json

FOLDER = "truth"
OVERVIEW = f"{FOLDER}/truth.json"
SESSIONS = ("trials", "wake", "night")
"""Sessions with a truth file of their own: trials made without a recording, the wake sessions, the night."""

_TABLE, _ARRAY = "table", "array"
_COURSE_S = {"semantic": 2.0, "image": 0.8, "audio": 0.8}


class Truth(NamedTuple):
    """What was planted in one subject.

    `tables` are named "<session>/<name>", e.g. "night/cues", times in s from the beginning of the session; `arrays`
    "items/...", "head/...", the same in all sessions.
    """

    tables: dict[str, pd.DataFrame]
    arrays: dict[str, np.ndarray]


def file_name(subject: str, session: str) -> str:
    """Return the truth file of one session of a subject, relative to the data set's root."""
    return f"{FOLDER}/{subject}_{session}.npz"


def write_truth(path: str | Path, tables: dict[str, pd.DataFrame], arrays: dict[str, np.ndarray] | None = None) -> None:
    """Write tables (numbers, booleans, text; missing text is kept as "") and arrays into one .npz without pickles."""
    content = {MARK: np.array(True)}
    for name, table in tables.items():
        content |= {f"{_TABLE}:{name}:{column}": _plain(table[column]) for column in table.columns}
    content |= {f"{_ARRAY}:{name}": np.asarray(values) for name, values in (arrays or {}).items()}
    with atomic_write(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **content)  # type: ignore[arg-type]  # of allow_pickle, which is none


def read_truth(root: str | Path, subject: str) -> Truth:
    """Read everything planted in one subject of the simulated data set `root`, e.g. "subject_7", "subject_test_0".

    Raises `UserError` where there is no truth of such a subject, or a file of it is damaged.
    """
    folder = Path(root) / FOLDER
    files = [file for s in SESSIONS if (file := Path(root) / file_name(subject, s)).is_file()]
    if not files:
        known = sorted({file.stem.rpartition("_")[0] for file in folder.glob("*.npz")})
        there = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "") if known else "nobody"
        raise UserError(f"{folder}: no truth of {subject!r}; there is that of {there}")
    columns: dict[str, dict[str, np.ndarray]] = {}
    arrays = {}
    for file in files:
        try:
            with Npz(file) as content:
                values = {key: content.read(key) for key in content.arrays}
        except NpzError as error:
            raise UserError(f"{file}: damaged ({error}); simulate the data set again") from None
        for key, value in values.items():
            kind, *place = key.split(":")
            if kind == _TABLE:
                columns.setdefault(place[0], {})[place[1]] = value
            elif kind == _ARRAY:
                arrays[place[0]] = value
    return Truth({name: pd.DataFrame(table) for name, table in columns.items()}, arrays)


def subject_arrays(subject: Subject) -> dict[str, np.ndarray]:
    """Return what is planted in a subject once and for all, as arrays.

    items/<...> as `Subject.component_arrays` says; items/<kind>_course_<W|NREM|REM> (15, k, n): the components' time
    courses at the trials' rate from the onset on; items/strength (15,); of the head channels (n_head,) head/names,
    head/gain and head/positions_m (n_head, 3); head/radius_m, head/conductivities_s_m (brain, cerebrospinal fluid,
    skull, scalp).
    """
    timing, head = subject.settings.memory.timing, subject.head
    arrays = {f"items/{name}": value for name, value in subject.component_arrays().items()}
    for kind, components in subject.components.items():
        t = np.arange(0, _COURSE_S[kind], 1 / subject.card.rate_hz)
        times = {"W": t}
        if kind == "semantic":
            for sleep, own in (("NREM", timing.NREM), ("REM", timing.REM)):
                times[sleep] = (t - own.delay_s) / own.stretch
        for state, at in times.items():
            courses = [[component.at(at) for component in item] for item in components]
            arrays[f"items/{kind}_course_{state}"] = np.array(courses, np.float32)
    return arrays | {
        "items/strength": subject.strength,
        "head/names": np.array(head.names),
        "head/gain": head.gain,
        "head/positions_m": head.positions,
        "head/radius_m": np.array(head.radius),
        "head/conductivities_s_m": np.array(head.conductivities),
    }


def write_overview(out: Path, settings: Simulation) -> None:
    """Write `truth.json` into a data set: settings and what the numbers mean, readable by any program."""
    content: dict[str, Any] = {
        MARK: True,
        "note": "planted by data/simulate.py; see docs/data_format.md for the files beside this one",
        "items": list(settings.card.item_names),
        "chance": 1 / len(settings.card.items),
        "files": [file_name("<subject>", session) for session in SESSIONS],
        "settings": settings.model_dump(mode="json"),
    }
    write_json(out / OVERVIEW, content)


def _plain(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.to_numpy()
    return np.array(["" if pd.isna(value) else str(value) for value in column], dtype=str)
