"""What the tests' worker computes, in a module of its own that a new process imports in a moment."""

import os
import time
from pathlib import Path

from sleep_interpreter.utils.core.errors import UserError


def squares(note):
    """Build a function for a worker: squares, and what can go wrong; a note may be a file that refuses."""
    if note == "refused" or Path(note).exists():
        raise UserError("checkpoint of another kind")

    def function(number):
        if number == 13:
            raise ValueError("thirteen")
        if number == 14:
            os._exit(3)
        if number == 15:
            time.sleep(60)
        return number**2

    return function, [note]
