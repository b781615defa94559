"""Looks for the simulator's mark inside data files, so that a copied file still says what it is.

The mark's names are in `utils.core.provenance`, which knows the marks beside the files and in recordings.
"""

import pickletools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.data.formats.tfrecords import RecordFile, is_tfrecord
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.provenance import MARK, SIDECAR, UNFINISHED_SIDECAR, is_simulated
from sleep_interpreter.utils.core.safe_pickle import BoundedReader

_RECORDINGS = (".vhdr", ".eeg", ".vmrk")
_STEPS = 3000  # instructions of a pickle that are looked at: several trials' worth; the simulator's mark comes first
_TEXT = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")
_REMEMBERING = ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT")


def carries_mark(path: str | Path) -> bool:
    """Tell whether a file carries the simulator's mark inside; a file that is not there is refused.

    A TFRecord (its first record is looked at), a pickle (its first trial, group or subject) or a BrainVision
    recording, by content, not by name. False for a damaged file and for kinds of file that hold no mark (`raw*` stage
    labels).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: file not found")
    if path.suffix.lower() in _RECORDINGS:
        return is_simulated(path)
    if is_tfrecord(path):
        file = RecordFile(path, {}, partial=True)
        return bool(len(file)) and file.is_marked(0)
    return _pickle_is_marked(path)


def are_simulated(files: Iterable[str | Path], root: str | Path | None = None) -> bool:
    """Tell whether any of the files, or the data set's folder `root`, is marked as simulated."""
    return (root is not None and is_simulated(root)) or any(carries_mark(file) for file in files)


def trials_are_marked(trials: Iterable[Any]) -> bool:
    """Tell whether any of these dicts (trials, groups, subjects), already read, carries the mark."""
    marks = [trial.get(MARK) for trial in trials if isinstance(trial, dict)]
    return any(isinstance(mark, bool | np.bool_) and bool(mark) for mark in marks)


def refuse_unfinished(root: str | Path) -> None:
    """Raise a `UserError` when the simulator was interrupted while it wrote this data set."""
    root = Path(root)
    if (root / UNFINISHED_SIDECAR).is_file() and not (root / SIDECAR).is_file():
        raise UserError(
            f"{root}: a simulated data set that is not complete ({UNFINISHED_SIDECAR}); "
            "finish it by running the same `python data/simulate.py` command again"
        )


def _pickle_is_marked(path: Path) -> bool:
    """Look for the key and a true value after it among the first instructions; nothing is executed."""
    key = False
    try:
        with path.open("rb") as handle:
            reader: Any = BoundedReader(handle)
            for step, (opcode, argument, _) in enumerate(pickletools.genops(reader)):
                if key and opcode.name not in _REMEMBERING:
                    if opcode.name == "NEWTRUE" or (opcode.name == "INT" and argument is True):
                        return True
                    key = False
                if opcode.name in _TEXT and argument == MARK:
                    key = True
                if step == _STEPS:
                    break
    except (ValueError, EOFError, OverflowError, MemoryError):
        pass  # no complete pickle: whoever reads it says so
    return False
