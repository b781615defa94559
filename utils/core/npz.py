"""Archives of plain arrays (.npz) that may come from anywhere: what they say of themselves is checked first.

An archive is opened with `Npz`: names, types and shapes of its arrays are read off, nothing is unpacked. A member is
unpacked when it is asked for, and only into as many bytes as its own header, the archive's directory and the limits
here allow.
"""

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

_MEMBERS = 100_000
_NAME = 1000
"""Letters of a name."""
_UNPACKED = (200, 512 * 2**20)
"""What an archive may unpack to: so many times its length, or so many bytes."""
_BROKEN = (
    OSError, EOFError, KeyError, ValueError, RuntimeError, NotImplementedError, MemoryError, RecursionError,
    OverflowError, SyntaxError, IndexError, TypeError, struct.error, tokenize.TokenError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


class NpzError(ValueError):
    """The file is no archive of plain arrays; the message says why."""


class Stored(NamedTuple):
    """What an archive says of one array."""

    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"


class Npz:
    """An open archive; use it in a `with`. `arrays` is {name: `Stored`}. Whatever is wrong is an `NpzError`."""

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise NpzError("it is no file")
        try:
            self._zip = zipfile.ZipFile(path)
        except _BROKEN as error:
            raise _told(error) from None
        try:
            self.arrays = self._described(path.stat().st_size)
        except _BROKEN as error:
            self._zip.close()
            raise _told(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def read(self, name: str) -> "np.ndarray[Any, Any]":
        """Return one array; an `NpzError` where there is none of this name or it is damaged."""
        try:
            with self._zip.open(f"{name}.npy") as handle:
                array: np.ndarray[Any, Any] = np.lib.format.read_array(handle, allow_pickle=False)
                handle.read(1)  # the checksum is compared at the end
        except _BROKEN as error:
            raise _told(error) from None
        return array

    def _described(self, length: int) -> dict[str, Stored]:
        """Return what the members say of themselves; nothing is unpacked but their headers."""
        members = self._zip.infolist()
        if len(members) > _MEMBERS:
            raise NpzError(f"it holds {len(members):,} arrays, more than {_MEMBERS:,}")
        unpacked, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
        if packed > length or unpacked > max(_UNPACKED[0] * length, _UNPACKED[1]):
            raise NpzError(f"its {length:,} bytes claim to be {unpacked:,} when they are unpacked")
        arrays: dict[str, Stored] = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename or len(name) > _NAME or not name.isprintable() or name in arrays:
                raise NpzError(f"a member is called {member.filename[:80]!r}")
            if member.flag_bits & 1:
                raise NpzError(f"{name[:80]} is encrypted")
            arrays[name] = self._header(member)
        return arrays

    def _header(self, member: zipfile.ZipInfo) -> Stored:
        with self._zip.open(member) as handle:
            version = np.lib.format.read_magic(handle)
            old = version == (1, 0)
            read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(handle)
            size = math.prod(shape) * dtype.itemsize
            if dtype.kind not in "biufcSU" or any(type(side) is not int or side < 0 for side in shape):
                raise NpzError(f"{member.filename[:80]}: no array of numbers or text")
            if handle.tell() + size != member.file_size:
                raise NpzError(f"{member.filename[:80]}: shape {str(shape)[:80]} in {member.file_size:,} bytes")
        return Stored(shape, dtype)


def _told(error: BaseException) -> NpzError:
    if isinstance(error, NpzError):
        return error
    return NpzError(" ".join(str(error).split())[:200] or type(error).__name__)
