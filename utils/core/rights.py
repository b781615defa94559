"""Who may read what commands write: sleep EEG, notes and reports are the user's own, unless they want it otherwise."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sleep_interpreter.utils.core.errors import UserError

VARIABLE = "SLEEP_INTERPRETER_RIGHTS"
_MASKS = {"owner": 0o077, "group": 0o027, "group-write": 0o007, "system": None}
"""What a new file's and folder's rights lack; "system" is what the user's umask says."""


@contextmanager
def own_files() -> Iterator[None]:
    """Let new files and folders be the user's own, of this process and all that it starts.

    The environment variable SLEEP_INTERPRETER_RIGHTS may say otherwise: owner (the default), group (who may read),
    group-write, or system. A `UserError` refuses another word. On Windows a folder's rights come from the one above it.
    """
    chosen = os.environ.get(VARIABLE) or "owner"
    if chosen not in _MASKS:
        raise UserError(
            f"the environment variable {VARIABLE} is {chosen!r}; there are {', '.join(_MASKS)} (SECURITY.md)"
        )
    mask, before = _MASKS[chosen], os.umask(0o077)
    # a stricter umask of the user's counts; who chose a group means it
    os.umask(before if mask is None else before | mask if chosen == "owner" else mask)
    try:
        yield
    finally:
        os.umask(before)
