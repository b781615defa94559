"""Pickles of plain data only: reading one executes nothing, and costs no more than the file's own length allows.

The reader is Python's own, the one written in Python (`pickle._Unpickler`), without the instructions that call, import
or set anything. Names of NumPy's are never looked up: they stand for themselves until the file is read, and arrays are
built last, from kind, shape and bytes that agree.
"""

import math
import os
import pickle
import pickletools
import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy._core import multiarray

from sleep_interpreter.utils.core.errors import UserError, told
from sleep_interpreter.utils.core.paths import atomic_write

HOW_TO_SIMULATE = "put the data set there or simulate one with `python data/simulate.py --preset test`"
"""The way out that every message about missing data offers."""

_NAMES: dict[tuple[str, str], str] = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("collections", "OrderedDict"): "OrderedDict",
    **{
        (module, name): name
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset", "bytearray", "bytes", "complex")
    },
    **{
        (f"numpy.{core}.{module}", name): name
        for core in ("core", "_core")
        for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
    },
}
"""What a file may name (NumPy 1 and 2, Python 2 and 3), and how `_PlainUnpickler` makes it. All else is refused."""

_STEPS = 4_000_000
"""Instructions of a file; the longest night of staging windows has some 500,000."""
_VALUES = 10_000_000
"""Values of a file, each counted as often as it is referred to."""
_DEPTH = 50
"""Containers inside each other."""
_BITS = 1024
"""Of a whole number."""
_SHARED = (100, 512 * 2**20)
"""What a file may unfold to where it refers to a value many times: so many times its length, or so many bytes."""
_KINDS = re.compile(r"b1|[iufc](?:1|2|4|8|16|32)|[SU]\d{1,9}")

_INSTRUCTIONS = {opcode.code.encode("latin1"): opcode.name for opcode in pickletools.opcodes}

_CORRUPT = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError,
    ImportError, MemoryError, OverflowError, struct.error, RecursionError, AssertionError,
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


class _RefusedError(Exception):
    """The pickle asks for what plain data do not need."""


class BoundedReader:
    """Reads a file of known length: what asks for more than is left is refused before any memory is taken."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self.length = self._left = os.fstat(handle.fileno()).st_size

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes; an `EOFError` where the file has fewer."""
        if not 0 <= count <= self._left:
            raise EOFError(f"{count} bytes expected, {self._left} left")
        self._left -= count
        return self._handle.read(count)

    def readline(self) -> bytes:
        """Return the next line with its end."""
        line = self._handle.readline()
        self._left -= len(line)
        return line


class _Name(NamedTuple):
    """Stands for a name of `_NAMES`; it can be neither called nor filled."""

    name: str


class _Dtype:
    """Stands for a dtype: kind and size ("f4"), then its byte order."""

    def __init__(self, kind: object) -> None:
        if type(kind) is not str or not _KINDS.fullmatch(kind):
            raise _RefusedError(f"an array of type {str(kind)[:20]!r}, which is neither numbers nor text")
        self.dtype = np.dtype(kind)

    def fill(self, state: tuple[Any, ...]) -> None:
        """Take the state as NumPy writes it: (3, byte order, None, None, None, size, alignment, flags)."""
        size = self.dtype.itemsize if self.dtype.kind in "SU" else -1
        if len(state) != 8 or state[0] != 3 or state[1] not in tuple("<>|=") or state[2:6] != (None, None, None, size):
            raise _RefusedError(f"an array of a type that is not quite {self.dtype.str!r}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array until the whole file is read."""

    def __init__(self) -> None:
        self._parts: tuple[bytes | bytearray, np.dtype[Any], tuple[int, ...], bool, bool] | None = None

    def fill(self, data: object, dtype: object, shape: object, fortran: bool, native: bool = False) -> int:
        """Take the parts of the array and return its size in bytes; refuse parts that do not agree.

        `native`: the array is to have this machine's order of bytes.
        """
        if self._parts is not None or not isinstance(dtype, _Dtype) or type(shape) is not tuple:
            raise _RefusedError("an array that is made in another way than NumPy's")
        if isinstance(data, str):  # of Python 2
            data = data.encode("latin1")
        if not isinstance(data, bytes | bytearray):
            raise _RefusedError("an array of objects")
        kind = dtype.dtype
        if len(shape) > 32 or any(type(side) is not int or side < 0 for side in shape):
            raise ValueError(f"an array of shape {str(shape)[:80]}")
        if not kind.itemsize or math.prod(shape) * kind.itemsize != len(data):
            raise ValueError(f"an array of shape {str(shape)[:80]} and type {kind.str!r} from {len(data)} bytes")
        self._parts = data, kind, shape, fortran, native
        return len(data)

    def build(self) -> "np.ndarray[Any, Any]":
        """Return the array, writable; the bytes are let go."""
        if self._parts is None:
            raise ValueError("an array without content")
        data, kind, shape, fortran, native = self._parts
        self._parts = None
        values = np.frombuffer(data if isinstance(data, bytearray) else bytearray(data), kind)
        if native and not kind.isnative:
            values = values.astype(kind.newbyteorder("="))
        return _sound(values).reshape(shape, order="F" if fortran else "C")


def _sound(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return `values`; refuse text that is no Unicode, and truth values that are neither 0 nor 1."""
    if values.dtype.kind == "U":
        codes = values.view(np.dtype(np.uint32).newbyteorder(values.dtype.byteorder))
        if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any():
            raise ValueError("an array of text that is no Unicode")
    if values.dtype.kind == "b" and (values.view(np.uint8) > 1).any():
        raise ValueError("an array of truth values that are neither 0 nor 1")
    return values


def _key(value: Any) -> Any:
    """Return a key of a dict or a member of a set; refuse what is slow or not safe to look up."""
    if isinstance(value, int | np.integer) and abs(int(value)) < 2**61 - 1:
        return value
    if value is None or isinstance(value, str | bytes | float | np.floating | np.bool_):
        return value
    if type(value) is tuple and len(value) <= 8 and not any(type(part) is tuple for part in value):
        return tuple(map(_key, value))
    raise _RefusedError(f"a key of type {type(value).__name__}, which is neither name nor number")


class _PlainUnpickler(pickle._Unpickler):
    """Python's reader without what runs anything: nothing on its stack can be called, imported or set."""

    stack: list[Any]
    metastack: list[list[Any]]
    pop_mark: Callable[[], list[Any]]
    memo: dict[int, Any]

    def __init__(self, reader: BoundedReader) -> None:
        super().__init__(reader)
        self._reader = reader
        self._steps = _STEPS
        self._copies = 2 * reader.length + 2**16  # bytes, each at most once as text and once as an array

    def load(self) -> Any:
        """Return what the file holds."""
        own: Any = self  # the stubs know few attributes of this class
        own._unframer = frames = pickle._Unframer(self._reader.read, self._reader.readline)  # type: ignore[attr-defined]
        own.read, own.readinto, own.readline = frames.read, frames.readinto, frames.readline
        self.metastack, self.stack = [], []
        own.append = self.stack.append
        try:
            while code := frames.read(1):
                self._count(1)
                step = self.dispatch.get(code[0])
                if step is None:
                    known = _INSTRUCTIONS.get(code)
                    raise (
                        _RefusedError(f"the instruction {known}")
                        if known
                        else pickle.UnpicklingError(f"invalid instruction {code!r}")
                    )
                step(own)
        except pickle._Stop as stop:  # type: ignore[attr-defined]
            own.memo, self.metastack, self.stack, own.append = {}, [], [], None  # they hold the bytes of arrays
            return _Plain(self._reader.length).of(stop.value)
        raise EOFError("it ends in the middle")

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; nothing is imported."""
        try:
            return _Name(_NAMES[module, name])
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None

    def _count(self, steps: int, copies: int = 0) -> None:
        """Count steps, one for each value that is handled, and bytes that are copied."""
        self._steps -= steps
        self._copies -= copies
        if self._steps < 0:
            raise _RefusedError(f"more than {_STEPS:,} steps; numbers belong into arrays")
        if self._copies < 0:
            raise _RefusedError("the same bytes in many arrays")

    def _reduce(self) -> None:
        given, name = self.stack.pop(), self.stack.pop()
        if type(name) is not _Name or type(given) is not tuple:
            raise _RefusedError(f"a call of a {type(name).__name__}")
        self.stack.append(getattr(self, f"_make_{name.name}")(*given))

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(state) is not tuple or not isinstance(target, _Dtype | _Array):
            raise _RefusedError(f"a state for a {type(target).__name__}")
        if isinstance(target, _Dtype):
            target.fill(state)
        else:
            shape, dtype, fortran, data = state[-4:]  # a version may stand before them
            self._count(0, target.fill(data, dtype, shape, bool(fortran), native=True))

    def _make_ndarray(self, *given: object) -> Any:
        raise _RefusedError("an array that is made in another way than NumPy's")

    def _make_dtype(self, kind: object, *flags: object) -> _Dtype:
        return _Dtype(kind)

    def _make__reconstruct(self, subtype: object, shape: object, kind: object) -> _Array:
        if subtype != _Name("ndarray"):
            raise _RefusedError("an array of another class")
        return _Array()

    def _make__frombuffer(self, data: object, dtype: object, shape: object, order: object) -> _Array:
        if order not in ("C", "F"):
            raise _RefusedError(f"an array in the order {order!r}")
        array = _Array()
        self._count(0, array.fill(data, dtype, shape, order == "F"))
        return array

    def _make_scalar(self, dtype: object, data: object) -> Any:
        if isinstance(dtype, _Dtype) and not dtype.dtype.itemsize and data in (b"", ""):
            return dtype.dtype.type()
        array = _Array()
        self._count(1, array.fill(data, dtype, (), False))
        return array.build()[()]

    def _make_encode(self, text: str, encoding: object = "latin1") -> bytes:
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
        self._count(1, len(text))
        return text.encode("latin1")

    def _make_bytes(self) -> bytes:
        return b""

    def _make_bytearray(self, data: object = b"", encoding: object = "latin1") -> bytearray:
        data = self._make_encode(data, encoding) if isinstance(data, str) else data
        if not isinstance(data, bytes):
            raise _RefusedError("a bytearray that is made of no bytes")
        self._count(1, len(data))
        return bytearray(data)

    def _make_complex(self, real: object, imaginary: object) -> complex:
        if not isinstance(real, float) or not isinstance(imaginary, float):
            raise _RefusedError("a complex number that is made of no numbers")
        return complex(real, imaginary)

    def _make_set(self, members: object = ()) -> set[Any]:
        if not isinstance(members, list | tuple):
            raise _RefusedError("a set that is made of no list")
        self._count(3 * len(members))  # looking one up is slower than a step
        return set(map(_key, members))

    def _make_frozenset(self, members: object = ()) -> frozenset[Any]:
        return frozenset(self._make_set(members))

    def _make_OrderedDict(self, pairs: object = ()) -> Any:  # noqa: N802  # called as the class is
        if not isinstance(pairs, list | tuple):
            raise _RefusedError("an OrderedDict that is made of no list")
        self._count(3 * len(pairs))
        return OrderedDict((_key(key), value) for key, value in pairs)

    def _fill(self, kind: type, items: list[Any], add: Callable[[Any, list[Any]], object]) -> None:
        """Add items to the list, dict or set on the stack."""
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"a {type(self.stack[-1]).__name__} in place of a {kind.__name__}")
        add(self.stack[-1], items)

    def _append(self) -> None:
        self._fill(list, [self.stack.pop()], list.extend)

    def _appends(self) -> None:
        self._fill(list, self.pop_mark(), list.extend)

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill(dict, [key, value], _update)

    def _setitems(self) -> None:
        self._fill(dict, self.pop_mark(), _update)

    def _additems(self) -> None:
        self._fill(set, list(map(_key, self.pop_mark())), set.update)

    def _dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._fill(dict, items, _update)

    def _frozenset(self) -> None:
        members = self.pop_mark()
        self.stack.append(frozenset(map(_key, members)))

    def _bytearray8(self) -> None:
        own: Any = self
        self.stack.append(bytearray(own.read(struct.unpack("<Q", own.read(8))[0])))

    def _place(self) -> int:
        """Return the number of a place to remember a value, written as text."""
        own: Any = self
        place = int(own.readline())
        if not 0 <= place < 2**32:
            raise ValueError(f"place {place} of what is to be remembered")
        return place

    def _put(self) -> None:
        self.memo[self._place()] = self.stack[-1]

    def _get(self) -> None:
        self.stack.append(self.memo[self._place()])


def _update(target: dict[Any, Any], items: list[Any]) -> None:
    if len(items) % 2:
        raise ValueError("a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_key(key)] = value


# Instructions that make plain values or move them.
_AS_THEY_ARE = [
    "PROTO", "FRAME", "NONE", "NEWFALSE", "NEWTRUE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4",
    "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "UNICODE",
    "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST",
    "EMPTY_DICT", "EMPTY_SET", "LIST", "GLOBAL", "STACK_GLOBAL", "POP", "POP_MARK", "DUP", "BINGET", "LONG_BINGET",
    "BINPUT", "LONG_BINPUT", "MEMOIZE", "MARK", "STOP",
]  # fmt: skip
_OURS = [
    "REDUCE", "BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "DICT", "FROZENSET", "BYTEARRAY8", "PUT",
    "GET",
]  # fmt: skip
_PlainUnpickler.dispatch = {
    **{getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _AS_THEY_ARE},
    **{getattr(pickle, name)[0]: getattr(_PlainUnpickler, f"_{name.lower()}") for name in _OURS},
}


class _Plain:
    """Puts arrays in the place of what stands for them; refuses what holds itself or unfolds to far more than a file.

    Parameters
    ----------
    length : int
        Of the file, in bytes.
    """

    def __init__(self, length: int) -> None:
        self._done: dict[int, tuple[Any, Any, int, int]] = {}  # by id: what it was, what it is, values, bytes
        self._limit = max(_SHARED[0] * length, _SHARED[1])

    def of(self, value: Any) -> Any:
        """Return the plain value."""
        return self._plain(value, 0)[0]

    def _plain(self, value: Any, depth: int) -> tuple[Any, int, int]:
        """Return (plain value, how many values, how many bytes it unfolds to)."""
        if value is None or isinstance(value, bool | float | complex | np.generic):
            return value, 1, 0
        if isinstance(value, int):
            if value.bit_length() > _BITS:
                raise _RefusedError(f"a whole number of more than {_BITS} bits")
            return value, 1, 0
        if isinstance(value, str):
            if not value.isascii() and id(value) not in self._done:
                value.encode()  # a UnicodeEncodeError is a ValueError
                self._done[id(value)] = value, value, 1, len(value)
            return value, 1, len(value)
        if isinstance(value, bytes | bytearray):
            return value, 1, len(value)
        if isinstance(value, _Dtype):
            return value.dtype, 1, 0
        if isinstance(value, _Name):
            raise _RefusedError(f"{value.name} as a value")
        if id(value) not in self._done:
            self._done[id(value)] = value, value, 10 * _VALUES, 0  # met again inside itself, it is beyond the limit
            self._done[id(value)] = value, *self._made(value, depth)
        return self._done[id(value)][1:]

    def _made(self, value: Any, depth: int) -> tuple[Any, int, int]:
        if isinstance(value, _Array):
            array = value.build()
            return array, 1, array.nbytes
        count = size = 0

        def plain(item: Any) -> Any:
            nonlocal count, size
            made, items, length = self._plain(item, depth + 1)
            count, size = count + items, size + length
            if depth > _DEPTH or count > _VALUES or size > self._limit:
                raise _RefusedError("values inside each other, or many times the same, beyond all measure")
            return made

        if isinstance(value, dict):
            for key in value:
                value[key] = plain(value[key])
                plain(key)
        elif isinstance(value, list):
            value[:] = map(plain, value)
        elif isinstance(value, tuple):
            value = tuple(map(plain, value))
        else:
            for member in value:
                plain(member)
        return value, count + 1, size


def read_pickle(path: str | Path) -> Any:
    """Read a pickle of numpy arrays, numbers, strings and plain containers.

    Arrays are of truth values, whole, real or complex numbers, or text. A `UserError` tells of a file that is missing,
    truncated or corrupt, that asks for anything but plain data (a class, a function), or that makes far more of itself
    than it is long; nothing that it asks for is executed.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: no file; name a pickle")
        with path.open("rb") as handle:
            return _PlainUnpickler(BoundedReader(handle)).load()
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; {HOW_TO_SIMULATE}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except _RefusedError as error:
        raise UserError(
            f"{path}: refused, because it is not plain data: it asks for {str(error)[:200]}; "
            "nothing was executed, use a file of numpy arrays and plain containers only"
        ) from None
    except _CORRUPT as error:
        raise UserError(f"{path}: not a complete pickle ({told(error)}); it may be truncated, get it again") from None


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
