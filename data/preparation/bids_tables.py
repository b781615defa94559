"""Tables of a BIDS folder, with tabs between columns: what is written in another way is refused with the remedy."""

import logging
import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.text_tables import EMPTY, SEPARATORS, TextTable, told_table

log = logging.getLogger(__name__)
_ROLES = {"test": True, "train": False, "training": False}
"""What the column of `split.group_column` says, and whether that makes a test subject."""

_ROLE_LIKE = re.compile(r"(?:test|train)(?:s|ing|er|set|group|subjects?|persons?)?")


def read_bids_table(path: Path, *needed: str, fold: bool = False) -> TextTable:
    """Return a table of a BIDS folder; refuse other separators than tabs, and a column that is missing or there twice.

    `fold`: names of columns may be written in capitals; they are returned in lower case.
    """
    table, shown = told_table(path, "\t"), display_path(path)
    names = [name.casefold() for name in table.header] if fold else list(table.header)
    if len(names) == 1 and (other := next((sep for sep in SEPARATORS[1:] if sep in names[0]), None)):
        what = "commas" if other == "," else "semicolons"
        raise UserError(f"{shown}: has {what} between its columns, BIDS wants tabs; save it with tabs")
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise UserError(f"{shown}: has two columns {twice!r}; take one of them out, or rename it")
    for name in needed:
        if name not in names:
            close = [other for other in names if other.casefold() == name] or nearest(name, names, 1)
            hint = f"; write {name!r} for {close[0]!r}" if close else ""
            raise UserError(f"{shown}: no column {name!r}; it has {', '.join(names)}{hint}")
    return TextTable(path, tuple(names), table.rows, table.lines, table.separator, table.remark, table.cells)


def frame_of(path: Path, *needed: str, fold: bool = False) -> pd.DataFrame:
    """Return a table of a BIDS folder as text, as `read_bids_table` reads it; the index is each row's line."""
    return read_bids_table(path, *needed, fold=fold).frame()


def groups_of(path: Path, column: str | None, subjects: Collection[str] | None = None) -> dict[str, bool]:
    """Return {subject: is a test subject} of participants.tsv; empty without such a column, in capitals or not.

    `subjects` are those with recordings, "sub-01". Cells beside "test" and "train" may hold other groups, but nothing
    that looks like one of the two. Refuses a subject of two groups, and one that nobody is called, where somebody with
    recordings is not in the table.
    """
    if not path.is_file():
        return {}
    rows, shown = frame_of(path, "participant_id"), display_path(path)
    alike = [name for name in map(str, rows) if column is not None and name.casefold() == column.casefold()]
    own = column if column in rows else alike[0] if alike else None
    if own is None:
        for other in rows if column is not None else ():
            said = {cell.casefold() for cell in rows[other]} - set(EMPTY)
            if said and "test" in said and said <= set(_ROLES):
                raise UserError(
                    f"{shown}: column {other!r} says test and train, but split.group_column is {column!r}, which is "
                    f"not there; set split.group_column={other}, or null to draw the test subjects"
                )
        return {}
    known = {name.casefold(): name for name in subjects or ()}
    found, lines, strange = dict[str, bool | None](), dict[str, int](), dict[str, int]()
    for line, given, cell in zip(rows.index, rows["participant_id"], rows[own], strict=True):
        role, folded = _ROLES.get(cell.casefold()), re.sub("^sub-", "", given, flags=re.IGNORECASE)
        if role is None and _like_a_role(cell):
            raise UserError(
                f"{shown}, line {line}: {own} {cell!r} of {given} is neither 'test' nor 'train'; write one of the two, "
                "or set split.group_column=null, which draws the test subjects"
            )
        name = f"sub-{folded}" if subjects is None else known.get(f"sub-{folded}".casefold(), f"sub-{folded}")
        if found.setdefault(name, role) != role:
            raise UserError(f"{shown}: {name} is in line {lines[name]} and, as {cell or 'n/a'!r}, in line {line}; "
                            "take one of them out")  # fmt: skip
        lines.setdefault(name, line)
        if subjects is not None and name not in subjects and role is not None:
            strange.setdefault(given, line)
    roles = {name: role for name, role in found.items() if role is not None}
    absent = [name for name in subjects or () if name not in found]
    if strange and absent and roles:
        given, line = next(iter(strange.items()))
        close = nearest(f"sub-{given.removeprefix('sub-')}", absent, 1) or absent[:1]
        raise UserError(
            f"{shown}, line {line}: there is no recording of {given!r}, and no line for {', '.join(absent[:5])}; "
            f"write the folder's name (nearest: {close[0]}), or set split.group_column=null"
        )
    if absent and roles:
        log.warning("WARNING: %s says nothing of %s: training subjects", shown, ", ".join(absent[:5]))
    return roles


def _like_a_role(cell: str) -> bool:
    """Tell whether a cell looks like "test" or "train" and is none of them: "Test group", "tset", "training set"."""
    folded = cell.casefold()
    return folded not in _ROLES and any(
        _ROLE_LIKE.fullmatch(word) or sorted(word) in (sorted("test"), sorted("train"))
        for word in re.findall(r"[^\W\d_]+", folded)
    )
