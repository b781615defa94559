"""The one exception for problems the user can mend."""

import difflib
import logging
from collections.abc import Iterable
from functools import cache


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


def told(error: Exception) -> str:
    """Return an error that is not ours in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@cache
def warn_once(message: str) -> None:
    """Log a WARNING that this process need not hear again."""
    logging.getLogger(__name__).warning("WARNING: %s", message)
