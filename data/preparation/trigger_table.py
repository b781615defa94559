"""A table of triggers as CSV: what each number or text of an event means, a row each."""

import re
from pathlib import Path
from typing import Any

from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import display_path, user_path
from sleep_interpreter.utils.core.text_tables import told_table

COLUMNS = ("code", "text", "item", "modality", "session", "run", "phase")
"""Columns that there may be; `code` or `text`, `item` and `modality` are needed."""
FIRST_ROW = 2
"""Number of the first row of data in messages: the header is row 1, as in a spreadsheet."""
_MODALITIES = ("image", "audio", "cue", "sham", "ignore")


def read(value: Any) -> Any:
    """Return what `events.table` says: the path of a CSV file becomes its rows, anything else stays as it is.

    Commas, semicolons or tabs stand between columns. Refuses a file without the columns, and rows that say too little
    or the same as another one, by file and row.
    """
    if not isinstance(value, str | Path):
        return value
    path, shown = user_path(value), display_path(value)
    table = told_table(path)
    names = [name.casefold() for name in table.header]
    _check_columns(names, shown)
    rows, seen = list[dict[str, Any]](), dict[tuple, int]()
    for number, line in enumerate(table.rows, FIRST_ROW):
        where = f"{shown}, row {number}"
        if not any(line):
            raise UserError(f"{where}: is empty; take it out")
        rule = _rule({name: cell for name, cell in zip(names, line, strict=True) if cell}, where)
        event = rule.get("code"), rule.get("match"), rule.get("session", "").casefold(), rule.get("run", "").lstrip("0")
        if seen.setdefault(event, number) != number:
            raise UserError(f"{where}: means the same event as row {seen[event]}")
        rows.append(rule)
    if not rows:
        raise UserError(f"{shown}: has no row below its header")
    return {"file": shown, "rows": rows}


def _check_columns(names: list[str], shown: str) -> None:
    for name in names:
        if name not in COLUMNS:
            close = nearest(name, COLUMNS, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there may be {', '.join(COLUMNS)}"
            raise UserError(f"{shown}: unknown column {name!r}; {hint}")
        if names.count(name) > 1:
            raise UserError(f"{shown}: two columns {name!r}")
    for needed in (("code", "text"), ("item",), ("modality",)):
        if not set(needed) & set(names):
            there = ", ".join(names) or "nothing"
            raise UserError(f"{shown}: no column {' or '.join(map(repr, needed))}; it has {there}")


def _rule(row: dict[str, str], where: str) -> dict[str, Any]:
    code, text, modality = row.get("code", ""), row.get("text", ""), row.get("modality", "")
    if bool(code) == bool(text):
        raise UserError(f"{where}: needs either a code or a text")
    whole = re.fullmatch(r"(\d+)(?:[.,]0*)?", code)  # spreadsheets write 11.0
    if code and whole is None:
        raise UserError(f"{where}: code {code!r} is no whole number; texts stand in a column 'text'")
    if modality not in _MODALITIES:
        raise UserError(f"{where}: modality {modality!r}; there are {', '.join(_MODALITIES)}")
    if modality not in ("ignore", "sham") and "item" not in row:
        raise UserError(f"{where}: no item")
    meaning = {key: row[key] for key in ("item", "modality", "session", "run", "phase") if key in row}
    if modality == "ignore":
        meaning.pop("item", None)
    return ({"code": int(whole[1])} if whole else {"match": re.escape(text)}) | meaning
