"""Text files and tables as other programs write them: encoding, columns, decimal commas; and tables of our own."""

import codecs
import csv
import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write, display_path

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
"""Byte order marks; UTF-32's begins as UTF-16's does, so it comes first."""
SEPARATORS = "\t;,"
"""What may stand between columns; of two that are as frequent in the header, the first one does."""
EMPTY = ("", "n/a", "na", "nan")
"""Cells that say nothing, in lower case."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")


@dataclass(frozen=True)
class TextTable:
    """A table of text: a header and rows, each with the number of its line in the file, counted from 1."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # as long as the header, stripped; a blank line is a row of empty cells
    lines: tuple[int, ...]
    separator: str
    remark: str | None  # what the user should know of the encoding
    cells: tuple[int, ...] = ()  # how many each row has in the file

    def column(self, place: int) -> list[str]:
        """Return the cells of a column."""
        return [row[place] for row in self.rows]

    def frame(self) -> "pd.DataFrame":
        """Return the table as text, without blank rows; the index is each row's line in the file."""
        import pandas as pd  # lazy: start-up

        kept = [k for k, row in enumerate(self.rows) if any(row)]
        rows, lines = [self.rows[k] for k in kept], [self.lines[k] for k in kept]
        return pd.DataFrame(rows, columns=list(self.header), index=lines, dtype=object)


def read_text(path: str | Path) -> tuple[str, str | None]:
    """Return what a text file says, and what there is to say of its encoding (None: nothing).

    UTF-8 with a byte order mark or without, UTF-16 and UTF-32 with one. Anything else is read as Windows-1252, which
    holds Latin-1's letters, with a remark. Refuses what cannot be read, and zero bytes: no text, or one without its
    mark.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content:
        raise UserError(f"{path}: holds zero bytes, so it is no text in UTF-8; save it as text (CSV) in UTF-8")
    try:
        return content.decode(encoding), None
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise UserError(f"{path}: begins as {encoding} text does and goes on as something else") from None
    text = content.decode("cp1252", errors="replace")
    if "\ufffd" in text:  # five bytes mean nothing in Windows-1252
        text = content.decode("latin-1")
    first = next(line.strip() for line in text.splitlines() if not line.isascii())
    remark = f"{path.name} is no UTF-8, read as Windows-1252 (Western Europe): {first[:60]!r}"
    return text, f"{remark}; if that is wrong, save it as UTF-8"


def told_text(path: str | Path) -> str:
    """Return what a text file says; what there is to say of its encoding goes to the log."""
    text, remark = read_text(path)
    if remark:
        log.warning("WARNING: %s", remark)
    return text


def told_table(path: str | Path, separators: str = SEPARATORS) -> TextTable:
    """Read a table; what there is to say of its encoding goes to the log."""
    return parse_table(path, told_text(path), None, separators)


def parse_table(path: str | Path, text: str, remark: str | None, separators: str = SEPARATORS) -> TextTable:
    """Return the table that a text holds; the separator is the most frequent one of the header.

    Spreadsheets' first line "sep=;" names it. Rows may lack cells at their ends. Refuses an empty file and a row with
    more cells than the header: mostly a decimal comma between commas.
    """
    path = Path(path)
    skipped, body = 0, text
    if named := re.match(r"\s*\"?sep=(.)\"?[ \t]*\r?\n", text, re.IGNORECASE):
        separators, skipped, body = named[1], 1, text[named.end() :]
    first = next((line for line in body.splitlines() if line.strip()), None)
    if first is None:
        raise UserError(f"{display_path(path)}: is empty")
    separator = max(separators, key=first.count)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator)
    header: tuple[str, ...] | None = None
    rows, lines, counts, begin = list[tuple[str, ...]](), list[int](), list[int](), 1
    try:
        for cells in reader:
            line, begin = begin + skipped, reader.line_num + 1
            own = [cell.strip() for cell in cells]
            if header is None:
                header = tuple(own) if any(own) else None
                continue
            while len(own) > len(header) and not own[-1]:
                own.pop()
            if len(own) > len(header):
                hint = "; write decimal points, or put such cells in quotes" if separator == "," else ""
                raise UserError(
                    f"{display_path(path)}, line {line}: has {len(own)} cells for {len(header)} columns{hint}"
                )
            rows.append((*own, *[""] * (len(header) - len(own))))
            lines.append(line)
            counts.append(len(cells))
    except csv.Error as error:
        raise UserError(f"{display_path(path)}: cannot be read as a table ({error})") from None
    while rows and not any(rows[-1]):
        rows.pop()
        lines.pop()
        counts.pop()
    return TextTable(path, header or (), tuple(rows), tuple(lines), separator, remark, tuple(counts))


def write_tsv(path: str | Path, table: "pd.DataFrame", numbers: str) -> None:
    """Write a table with tabs between columns, `numbers` such as "%.4f", and n/a for what is not known."""
    with atomic_write(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", float_format=numbers, encoding="utf-8")


def is_number(cell: str) -> bool:
    """Tell whether a cell is a number, with a decimal point or a decimal comma."""
    return bool(_NUMBER.fullmatch(cell) or _COMMA_NUMBER.fullmatch(cell))


def numbers(cells: Sequence[str], where: str) -> list[float]:
    """Return a column of numbers with decimal points or commas; NaN for cells that are `EMPTY`.

    `where` names the column in messages. Refuses what is no number, and commas that may also part thousands.
    """
    said = [cell for cell in cells if cell.casefold() not in EMPTY]
    for cell in said:
        if not is_number(cell):
            raise UserError(f"{where}: {cell!r} is no number")
    commas = [cell for cell in said if "," in cell]
    if commas and all(_THOUSANDS.fullmatch(cell) for cell in commas):
        raise UserError(
            f"{where}: {commas[0]!r} is {commas[0].replace(',', '')} where commas part thousands, and "
            f"{commas[0].replace(',', '.')} where they are decimal; write it without commas"
        )
    return [float(cell.replace(",", ".")) if cell.casefold() not in EMPTY else float("nan") for cell in cells]
