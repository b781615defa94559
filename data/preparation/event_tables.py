"""Events of an events.tsv (BIDS) as rows: when, which text, which code; what contradicts itself is refused."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sleep_interpreter.data.preparation.bids_tables import read_bids_table
from sleep_interpreter.data.preparation.inputs import Session
from sleep_interpreter.data.preparation.pauses import events_in_time
from sleep_interpreter.data.preparation.settings import Rule
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.text_tables import EMPTY, is_number
from sleep_interpreter.utils.signal.recording import Recording

_ROUNDED = 1e-3  # a number as near to a whole one as this had its decimals added by a program
_NO_CODE = re.compile(r"[-+]?\d*[.,]?\d+(?:e[-+]?\d+)?|(?:0[xb]|&h|\$)[0-9a-f]+", re.IGNORECASE)
_NAMING = re.compile(r"trial_type|stim(?:ulus|uli)?(?:_?(?:file|name|id))?|item(?:_?name)?", re.IGNORECASE)
"""Columns that name what was shown or played."""
_NO_EVENTS = ("onset", "duration", "sample", "response_time")


class Row(NamedTuple):
    """One event of a recording, before a rule says what it means."""

    onset: float  # s
    text: str | None
    code: int | None
    phase: str | None = None
    no_code: str = ""  # place and value of a number that is no whole one, where a code would stand
    stage: bool = False  # the text may be a sleep stage as well: "S2"
    seconds: float = 0.0  # how long it lasts
    place: str = ""  # file and line
    says: tuple[str, ...] = ()  # other cells that may name the item


def read_rows(
    session: Session, recording: Recording, rules: Sequence[Rule], counted: bool | None, remarks: list[str]
) -> list[Row]:
    """Return the rows of a session's events.tsv; what the user should know is appended to `remarks`.

    `rules` are those of the session, `counted` is that of `pauses.events_in_time`. Refuses a session without the table,
    columns that are called almost as they should be, and columns that contradict each other.
    """
    if session.events is None:
        raise UserError(
            f"{session.path}: events.source is events_tsv, but there is no events.tsv beside it; "
            "use annotations or stim"
        )
    shown, given = display_path(session.events), read_bids_table(session.events, "onset")
    table = given.frame()
    _refuse_other_spelling(table, shown)
    onset = np.array([_seconds(o, f"{shown}, line {line}") for line, o in zip(table.index, table.onset, strict=True)])
    told = [given.header.index(name) + 1 for name in ("onset", "trial_type", "value") if name in given.header]
    for line, row, cells in zip(given.lines, given.rows, given.cells, strict=True):
        if any(row) and cells < max(told):
            raise UserError(
                f"{shown}, line {line}: has {cells} cells, {given.header[max(told) - 1]!r} is column {max(told)} of "
                f"{len(given.header)}; write what is missing, or n/a"
            )
    if not recording.timeline:
        remarks += _other_samples(table, onset, recording, shown)
    times = events_in_time(onset, recording.timeline, counted, shown)
    text = table.get("trial_type", [None] * len(table))
    values = table.get("value", text)
    if all(value.casefold() in EMPTY for value in values if value is not None):
        values = text  # a column that says nothing
    elif values is not text:
        values = _codes(table, rules, shown, remarks)
    rows = []
    phases = table.get("phase", [""] * len(table))
    lasting = pd.to_numeric(table.get("duration", pd.Series(0.0, table.index)), errors="coerce").fillna(0)
    naming = [name for name in table if _NAMING.fullmatch(str(name))]
    for line, o, t, c, p, long in zip(table.index, times, text, values, phases, lasting, strict=True):
        code = code_of(c)
        no_code = code is None and _NO_CODE.fullmatch(str(c).strip())
        place = f"{shown}, line {line}"
        says = tuple(str(table.at[line, name]) for name in naming)
        phase, wrong = p if p not in ("", "n/a") else None, f"{place}: value {c!r}" if no_code else ""
        rows.append(Row(float(o), t, code, phase, wrong, seconds=float(long), place=place, says=says))
    _refuse_unread_column(table, rows, rules, shown)
    return rows


def _refuse_other_spelling(table: pd.DataFrame, shown: str) -> None:
    """Refuse a column whose name is not that of BIDS to the letter: nobody would read it."""
    for name in ("trial_type", "value", "phase", "duration"):
        alike = [other for other in map(str, table) if re.sub(r"[\W_]", "", other).casefold() == name.replace("_", "")]
        silent = (*EMPTY, "0", "0.0") if name == "duration" else EMPTY
        if name not in table and alike and not all(cell.casefold() in silent for cell in table[alike[0]]):
            raise UserError(f"{shown}: no column {name!r}; write {name!r} for {alike[0]!r}")


def _refuse_unread_column(table: pd.DataFrame, rows: Sequence[Row], rules: Sequence[Rule], shown: str) -> None:
    """Refuse a table of which no rule knows an event, though another column holds what rules know."""
    if any(first_match(rules, row.text, row.code)[0] is not None for row in rows):
        return
    for name in map(str, table):
        cells = set() if name in _NO_EVENTS else {cell for cell in table[name] if cell.casefold() not in EMPTY}
        known = {cell for cell in cells if first_match(rules, cell, code_of(cell))[0] is not None}
        if len(known) > 1 and 2 * len(known) > len(cells):
            column = "value" if all(is_number(cell) for cell in known) else "trial_type"
            raise UserError(
                f"{shown}: trial_type and value hold no event that a rule of events.rules knows, column {name!r} does "
                f"({', '.join(map(repr, sorted(known)[:3]))}); call that column {column!r}"
            )


def _codes(table: pd.DataFrame, rules: Sequence[Rule], shown: str, remarks: list[str]) -> pd.Series:
    """Return the column of an events.tsv that holds the codes where `trial_type` and `value` may say different ones.

    mne-bids fills `value` with numbers of its own: those of the texts in alphabetical order. Then the codes are those
    in the texts ("Stimulus/S 11", "11"). A bare number in `trial_type` may be that of a condition too: if it goes with
    several values, or no rule knows it. Refuses any other table in which the two disagree.
    """
    text, value = table.get("trial_type"), table["value"]
    if text is None:
        return value
    both = [(line, t, code_of(t), code_of(v)) for line, t, v in zip(table.index, text, value, strict=True)]
    apart = [(line, t, own, v) for line, t, own, v in both if own is not None and v not in (None, own)]
    if not apart:
        return value
    sure = [row for row in apart if not is_number(row[1])]  # "S 11" is no condition
    meaning = {rule.code: (rule.item, rule.modality, rule.phase) for rule in reversed(rules) if rule.code is not None}
    other = [row for row in apart if meaning.get(row[2]) != meaning.get(row[3])]
    if not sure and not other:
        return value
    by_text, by_value = (any(row[k] in meaning for row in other) for k in (2, 3))
    numbers = {t: v for _, t, _, v in both if v is not None}
    if (
        all(numbers[t] == v for _, t, _, v in both if v is not None)
        and list(numbers[t] for t in sorted(numbers)) == sorted(set(numbers.values()))
        and max(numbers.values()) <= text.nunique()
    ):
        own = [code_of(t) or 0 for t in sorted({row[1] for row in apart})]
        if sure or (by_text and not (by_value and own == sorted(own))):  # only a program puts 10 before 2
            remarks.append(
                "the column value numbers the texts by the alphabet (mne-bids): codes are those in trial_type"
            )
            return text
    pairs = {row[2:] for row in apart}
    coarse = len({t for t, _ in pairs}) < len(pairs) == len({v for _, v in pairs})
    if not sure and (coarse or not (by_text and by_value)):
        return value
    line, name, code, number = (sure or other)[0]
    known = "" if sure else ", and rules know both"
    raise UserError(
        f"{shown}, line {line}: trial_type {name!r} is code {code}, value is {number}{known}; take the column that is "
        "wrong out (or use events.source=annotations)"
    )


def refuse_other_names(rows: Sequence[tuple[Row, str]], names: Mapping[str, str]) -> None:
    """Refuse rows whose code is of one item, by the rules, while the row itself names another one.

    `rows` are those with a code, and the item of its rule; `names` {name in lower case: item}. A name that stands
    beside every item alike is none of an item ("watch").
    """
    said = [(row, item, set().union(*(_named(cell, names) for cell in row.says))) for row, item in rows]
    named = {name for _, _, found in said for name in found}
    if len(named) == 1 and len({item for _, item, found in said if found}) > 1:
        return
    for row, item, found in said:
        if found and item not in found:
            raise UserError(
                f"{row.place}: its code {row.code} is {item!r} by events.rules, but the row itself names "
                f"{', '.join(map(repr, sorted(found)))}; correct the rules or the row (mne-bids numbers texts by the "
                "alphabet in value: then take that column out, and write rules with match for the texts)"
            )


def _named(cell: str, names: Mapping[str, str]) -> set[str]:
    """Return the items that a cell names: "cue/alarm", "sounds/alarm.wav", "alarm_01"."""
    folded = cell.casefold()
    parts = [folded, *re.split(r"[/\\]", re.sub(r"\.\w+$", "", folded)), *re.findall(r"[^\W\d_]+", folded)]
    return {names[part.strip()] for part in parts if part.strip() in names}


def _seconds(cell: str, where: str) -> float:
    """Return an onset in s; refuse, by `where`, what is none."""
    with contextlib.suppress(ValueError):
        if np.isfinite(number := float(cell)):
            return number
    comma = is_number(cell) and "; write a decimal point"
    raise UserError(
        f"{where}: onset {cell!r} is no number of seconds{comma or '; write the time after the first sample in s'}"
        ", or take the row out"
    )


def _other_samples(table: pd.DataFrame, onset: np.ndarray, recording: Recording, shown: str) -> list[str]:
    """Return a warning where a column `sample` says other times than the onsets, else nothing.

    Refuses onsets that are minutes or hours by it.
    """
    sample = pd.to_numeric(table.get("sample", pd.Series(dtype=float)), errors="coerce").to_numpy(float)
    if len(sample) != len(onset):
        return []
    apart = np.abs(sample / recording.rate - onset)
    if not (apart > 1).any():
        return []
    row = int(np.argmax(apart > 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (sample / recording.rate / onset)[(onset > 0) & (sample > 0)]
    for unit, scale in (("minutes", 60), ("hours", 3600)):
        if np.nanmax(sample) <= recording.seconds * recording.rate and (np.abs(ratio / scale - 1) < 0.05).all():
            raise UserError(
                f"{shown}, line {table.index[row]}: onset is {onset[row]:g}, sample {sample[row]:g} is "
                f"{sample[row] / recording.rate:g} s at {recording.rate:g} Hz, so that onsets are {unit}; write them "
                "in s from the recording's first sample"
            )
    return [
        f"WARNING: {shown}, line {table.index[row]}: onset is {onset[row]:g} s, sample {sample[row]:g} is "
        f"{sample[row] / recording.rate:g} s at {recording.rate:g} Hz ({int((apart > 1).sum())} rows are more than 1 s "
        "apart); the onsets are taken, correct them if the samples are right"
    ]


def code_of(text: object) -> int | None:
    """Return the trigger's number in "S  12", "Stimulus/S 12", "12" or "12.0"; None where there is none.

    Any letter but R may stand before the number of a "Stimulus/", S alone elsewhere: "N2" is a stage, "C3" an
    electrode. The number of a response ("Response/R  1") or a comment is another matter: rules match those by text.
    Decimals that a program added are rounded ("11.0", "10.9999998"); other numbers with decimals are no code.
    """
    pattern = r"(?:(?:stimulus|trigger)/(?!r)[a-z]?|s?)\s*(\d+)([.,]\d*)?"
    found = re.fullmatch(pattern, str(text).strip(), re.IGNORECASE)
    if found is None:
        return None
    number = float(found[1] + (found[2] or "").replace(",", "."))
    return round(number) if abs(number - round(number)) <= _ROUNDED else None


def first_match(rules: Sequence[Rule], text: str | None, code: int | None) -> tuple[Rule | None, dict[str, str]]:
    """Return the first rule that takes an event of this text and code, and the groups of its `match`."""
    for rule in rules:
        if rule.code is not None:
            if code == rule.code:
                return rule, {}
        elif text is not None and rule.match is not None:
            # MNE puts the kind of marker before BrainVision's: "Comment/cue/alarm"
            for candidate in dict.fromkeys([text, text.partition("/")[2]]):
                found = re.fullmatch(rule.match, candidate) if candidate else None
                if found:
                    return rule, found.groupdict()
    return None, {}
