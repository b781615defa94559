"""The one exception for problems the user can mend."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input: the message names the file, the field, what was found and what to do.

    Scripts print it as one line and end with exit code 2 (see `utils.core.command_line.run`).
    """


def nearest(name: object, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the names in `known` closest to `name`, best first (empty when none is close)."""
    by_fold = {str(k).casefold(): k for k in known}
    close = difflib.get_close_matches(str(name).casefold(), by_fold, n=count, cutoff=0.5)
    return [by_fold[c] for c in close]
