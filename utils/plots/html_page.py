"""Pages of one HTML file that ask nothing of the network; fit for the night, print and screen readers.

Templates beside this file: `html_page.html` is the page that a report extends (title, style, contents, and a policy
that forbids every request); `html_parts.html` has macros for its figures and tables.
"""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: Path, **values: Any) -> str:
    """Fill in a Jinja template; all values are escaped, and one that the template lacks is an error."""
    return _environment(template.parent).get_template(template.name).render(values)


@cache
def _environment(folder: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
