"""A page of one HTML file that asks nothing of the network; fit for the night, print and screen readers.

A page is made of blocks of plain text, tables and figures; the template beside this file has all the markup.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text; `style`: "note", "soft" or "bad"."""

    text: str
    style: str | None = None


@dataclass(frozen=True)
class Bullets:
    """A list of plain texts."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes
    ----------
    svg : str
        Of `utils.plots.session`.
    description : str
        What it shows, for who cannot see it.
    caption : str
    narrow : bool
        Two of them fit side by side.
    """

    svg: str
    description: str
    caption: str = ""
    narrow: bool = False


@dataclass(frozen=True)
class Table:
    """A table of plain texts and numbers; the first column names the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds nothing but numbers."""
        columns: Iterable = zip(*self.rows, strict=True) if self.rows else [("",)] * len(self.header)
        return [all(isinstance(value, int | float) for value in column) for column in columns]


@dataclass(frozen=True)
class Details:
    """Plain text that is shown on demand."""

    summary: str
    text: str


Block = Paragraph | Bullets | Figure | Table | Details


def page(
    title: str, kind: str | None, head: Iterable[Block], sections: Iterable[tuple[str, Iterable[Block]]]
) -> str:
    """Return a page as HTML.

    Parameters
    ----------
    title : str
    kind : str | None
        Said beside the title, such as "simulated recording".
    head : iterable of Block
        Above the first section.
    sections : iterable of (str, blocks)
        Heading and content of each section.

    Returns
    -------
    html : str
        The policy in its head forbids every request, so that nothing of a night leaves the machine.
    """
    title = title if kind is None else f"{title} ({kind})"
    return render(Path(__file__).with_suffix(".html"), title=title, head=head, sections=sections)


def render(template: Path, **values: Any) -> str:
    """Fill in a Jinja template; all values are escaped, and one that the template lacks is an error."""
    return _environment(template.parent).get_template(template.name).render(values)


@cache
def _environment(folder: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
