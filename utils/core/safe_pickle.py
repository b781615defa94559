"""Pickles of plain data only: reading one never executes anything that the file asks for."""

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray, numeric

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write

HOW_TO_SIMULATE = "put the data set there or simulate one with `python data/simulate.py --preset test`"
"""The way out that every message about missing data offers."""


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


# What NumPy arrays need, under the module names of NumPy 1 and 2. Everything else is refused.
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode_latin1,
    ("collections", "OrderedDict"): OrderedDict,
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")
        for kind in (set, frozenset, bytearray, complex)
    },
    **{
        (f"numpy.{core}.{module.__name__.rsplit('.', 1)[1]}", name): getattr(module, name)
        for core in ("core", "_core")
        for module, name in ((multiarray, "_reconstruct"), (multiarray, "scalar"), (numeric, "_frombuffer"))
    },
}

_CORRUPT = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError,
    ImportError, MemoryError, OverflowError, struct.error, RecursionError,
)  # fmt: skip


_OLD_MODULES = dict.fromkeys((multiarray._reconstruct, multiarray.scalar), "numpy.core.multiarray")
"""Where NumPy 1, with which the published code runs, has what makes arrays and numbers; NumPy 2 finds it there too."""


class _PlainPickler(pickle._Pickler):
    """The pickler in Python: it can be told the names, which the one in C cannot; the bytes are otherwise the same."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        own: Any = self  # the stubs know no methods of this class
        parent: Any = super()
        module = _OLD_MODULES.get(obj) if callable(obj) else None
        if module is None:
            parent.save_global(obj, name)
            return
        own.save(module)
        own.save(obj.__name__)
        own.write(pickle.STACK_GLOBAL)


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None


class _RefusedError(Exception):
    """The pickle asks for a global that plain data do not need."""


def read_pickle(path: str | Path) -> Any:
    """Read a pickle of numpy arrays, numbers, strings and plain containers.

    A `UserError` tells of a file that is missing, truncated or corrupt, or that asks for anything but plain data (a
    class, a function); in that case nothing of it was executed.
    """
    path = Path(path)
    try:
        with path.open("rb") as handle:
            return _PlainUnpickler(handle).load()
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; {HOW_TO_SIMULATE}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except _RefusedError as error:
        raise UserError(
            f"{path}: refused, because it is not plain data: it asks for {error}; "
            "nothing was executed, use a file of numpy arrays and plain containers only"
        ) from None
    except _CORRUPT as error:
        raise UserError(
            f"{path}: not a complete pickle ({type(error).__name__}: {error}); it may be truncated, get it again"
        ) from None


def write_pickle(obj: Any, path: str | Path) -> None:
    """Write plain data without reference cycles as a pickle (protocol 4), complete or not at all (`UserError`).

    Equal content gives equal bytes: object identities (the pickle memo) do not enter the file. NumPy 1.23, with which
    the published code runs, reads it.
    """
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as handle:
            pickler = _PlainPickler(handle, protocol=4)
            pickler.fast = True
            pickler.dump(obj)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
