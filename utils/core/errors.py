"""The one exception for problems the user can mend."""

import difflib
import logging
import re
from collections.abc import Iterable
from functools import cache

_ORDERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""All but tabs and ends of lines of what a terminal obeys; what changes the direction of writing; half characters."""


class UserError(ValueError):
    """Wrong input: the message names the file, the field, what was found and what to do.

    Scripts print it as one line and end with exit code 2 (see `utils.core.command_line.run`).
    """


class NoSpaceError(UserError, OSError):
    """The disk is full: what was there is unchanged."""


def nearest(name: object, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the names in `known` closest to `name`, best first (empty when none is close)."""
    by_fold = {str(k).casefold(): k for k in known}
    close = difflib.get_close_matches(str(name).casefold(), by_fold, n=count, cutoff=0.5)
    return [by_fold[c] for c in close]


def did_you_mean(name: object, known: Iterable[str], otherwise: str = "") -> str:
    """Return the question after the one of `known` that is closest to `name`, `otherwise` where none is close."""
    close = nearest(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else otherwise


def printable(text: str) -> str:
    """Return text as a terminal may have it: what it would obey, or what turns a line round, is written out."""
    return _ORDERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def told(error: Exception) -> str:
    """Return an error that is not ours in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@cache
def warn_once(message: str) -> None:
    """Log a WARNING that this process need not hear again."""
    logging.getLogger(__name__).warning("WARNING: %s", message)
