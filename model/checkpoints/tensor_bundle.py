"""Reads the two files of a TensorFlow checkpoint in Python, since TensorFlow's own reader trusts the index.

The index is a sorted table (blocks of keys and values, each with a checksum); a value is a `BundleEntryProto` that says
type, shape, file, place and checksum of an array, or for the empty key a `BundleHeaderProto`. Source: tensorflow/core/
util/tensor_bundle and lib/io/format, and protobuf/tensor_bundle.proto.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER = 48
_INDEX_BYTES = 256 * 2**20
_ENTRIES = 100_000
_NAME = 1000
"""Letters of a name."""
_RANK = 16
_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 4: np.dtype("u1"), 5: np.dtype("<i2"),
    6: np.dtype("i1"), 9: np.dtype("<i8"), 10: np.dtype("?"), 17: np.dtype("<u2"), 19: np.dtype("<f2"),
    22: np.dtype("<u4"), 23: np.dtype("<u8"),
}  # fmt: skip
"""TensorFlow's numbers of types."""
_TEXT = 7


class BundleError(ValueError):
    """A file of the checkpoint is damaged, or does not say what a checkpoint says; the message says where."""


class Entry(NamedTuple):
    """Where one array lies: TensorFlow's number of its type, shape, number of the file, first byte, bytes, checksum."""

    code: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


class TensorBundle:
    """An open checkpoint; `entries` is {key: `Entry`}, checked against the files' lengths. Errors are `BundleError`s.

    Parameters
    ----------
    prefix : Path
        The checkpoint's path without ".index".
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        index = Path(f"{prefix}.index")
        if not index.is_file() or index.stat().st_size > _INDEX_BYTES:
            raise BundleError(f"{index.name} is no file, or larger than any index")
        table = dict(_limited(_table(index.read_bytes())))
        self._shards = self._header(table.pop("", b""))
        self._lengths = [self._file(shard).stat().st_size for shard in range(self._shards)]
        self.entries = {key: self._entry(key, value) for key, value in table.items()}
        if sum(entry.size for entry in self.entries.values()) > sum(self._lengths):
            raise BundleError("arrays that lie over each other")

    def read(self, key: str) -> "np.ndarray[Any, Any]":
        """Return an array of numbers."""
        entry = self.entries[key]
        if (dtype := _TYPES.get(entry.code)) is None:
            raise BundleError(f"{key}: values of type {entry.code}, which are no numbers")
        content = self._content(key)
        if _masked(google_crc32c.value(content)) != entry.checksum:
            raise BundleError(f"{key}: the checksum of its values is wrong")
        values: np.ndarray[Any, Any] = np.frombuffer(bytearray(content), dtype)
        return values.reshape(entry.shape)

    def read_text(self, key: str) -> bytes:
        """Return a single text."""
        entry, content = self.entries[key], self._content(key)
        if entry.code != _TEXT or entry.shape:
            raise BundleError(f"{key}: no single text")
        length, begin = _varint(content, 0)
        if begin + 4 + length != len(content):
            raise BundleError(f"{key}: a text of {length} bytes in {len(content)}")
        text = content[begin + 4 :]
        width = "<I" if length < 2**32 else "<Q"
        checksum = google_crc32c.value(struct.pack(width, length))
        if struct.pack("<I", _masked(checksum)) != content[begin : begin + 4]:
            raise BundleError(f"{key}: the checksum of its length is wrong")
        checksum = google_crc32c.extend(checksum, content[begin : begin + 4])
        if _masked(google_crc32c.extend(checksum, text)) != entry.checksum:
            raise BundleError(f"{key}: the checksum of its text is wrong")
        return text

    def _file(self, shard: int) -> Path:
        return Path(f"{self._prefix}.data-{shard:05d}-of-{self._shards:05d}")

    def _content(self, key: str) -> bytes:
        entry = self.entries[key]
        with self._file(entry.shard).open("rb") as handle:
            handle.seek(entry.offset)
            content = handle.read(entry.size)
        if len(content) != entry.size:
            raise BundleError(f"{key}: its values end early")
        return content

    def _header(self, value: bytes) -> int:
        """Return the number of files."""
        fields = dict(_fields(value))
        if fields.get(1, 0) not in range(1, 1000) or fields.get(2, 0) != 0:
            raise BundleError("the index names no files, or bytes in the other order")
        self._shards = shards = int(fields[1])
        for shard in range(shards):
            if not self._file(shard).is_file():
                raise BundleError(f"{self._file(shard).name} is missing")
        return shards

    def _entry(self, key: str, value: bytes) -> Entry:
        if not key.isprintable():
            raise BundleError(f"a key that is no name: {key[:80]!r}")
        numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
        shape: tuple[int, ...] = ()
        for field, content in _fields(value):
            if field == 2 and isinstance(content, bytes):
                shape = _shape(key, content)
            elif field in numbers and isinstance(content, int):
                numbers[field] = content
            else:
                raise BundleError(f"{key}: is stored in parts, or in a form that is not known")
        code, shard, offset, size, checksum = numbers.values()
        dtype = _TYPES.get(code)
        if dtype is not None and math.prod(shape) * dtype.itemsize != size:
            raise BundleError(f"{key}: shape {shape} of {dtype.name} does not fit {size} bytes")
        if shard >= self._shards or offset + size > self._lengths[shard]:
            raise BundleError(f"{key}: lies behind the end of the file")
        return Entry(code, shape, shard, offset, size, checksum)


def _shape(key: str, content: bytes) -> tuple[int, ...]:
    """Return the sides of a `TensorShapeProto`: {size} of each {dim (2)}."""
    sides: list[int] = []
    for field, side in _fields(content):
        if field != 2 or not isinstance(side, bytes) or len(sides) == _RANK:
            raise BundleError(f"{key}: a shape that is not known, or more than {_RANK} sides")
        size = dict(_fields(side)).get(1, 0)
        if not isinstance(size, int) or not 0 <= size < 2**40:
            raise BundleError(f"{key}: a side of {size!r}")
        sides.append(size)
    return tuple(sides)


def _limited(pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yield (key, value) with the keys as text, in order, none twice."""
    before = None
    for number, (key, value) in enumerate(pairs):
        if number > _ENTRIES:
            raise BundleError(f"the index names more than {_ENTRIES:,} values")
        if before is not None and key <= before:
            raise BundleError("the keys of the index are not in order")
        before = key
        try:
            yield key.decode(), value
        except UnicodeDecodeError:
            raise BundleError("a key of the index is no text") from None


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of a sorted table."""
    if len(content) < _FOOTER or content[-8:] != _MAGIC:
        raise BundleError("the index is not complete, or no index")
    footer = content[-_FOOTER:]
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    left = len(content)
    for _, handle in _block(content, index):
        place, _ = _handle(handle, 0)
        left -= place[1]
        if left < 0:
            raise BundleError("blocks of the index lie over each other")
        yield from _block(content, place)


def _handle(content: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Return ((offset, size) of a block, where the next begins)."""
    offset, at = _varint(content, at)
    size, at = _varint(content, at)
    return (offset, size), at


def _block(content: bytes, place: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of one block; a key gives what it does not share with the one before."""
    offset, size = place
    block, trailer = content[offset : offset + size], content[offset + size : offset + size + 5]
    if len(trailer) != 5 or size < 4:
        raise BundleError("a block of the index lies behind its end")
    if trailer[0]:
        raise BundleError("the index is compressed, which TensorFlow does not do: store the checkpoint again")
    checksum = google_crc32c.extend(google_crc32c.value(block), trailer[:1])
    if struct.pack("<I", _masked(checksum)) != trailer[1:]:
        raise BundleError("the checksum of a block of the index is wrong")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = size - 4 * (restarts + 1)
    if end < 0:
        raise BundleError("a block of the index is shorter than it says")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + own + length > end or shared + own > _NAME:
            raise BundleError(f"a key of the index is damaged or longer than {_NAME} letters")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (number, value) of the fields of a protocol buffer; numbers are taken as without a sign."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        if tag & 7 == 0:
            number, at = _varint(content, at)
            yield tag >> 3, number
            continue
        size, at = (4, at) if tag & 7 == 5 else _varint(content, at) if tag & 7 == 2 else (-1, at)
        if size < 0 or at + size > len(content):
            raise BundleError("an entry of the index is damaged")
        part = content[at : at + size]
        yield tag >> 3, struct.unpack("<I", part)[0] if tag & 7 == 5 else part
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return (whole number, where the next begins)."""
    value = 0
    for place in range(10):
        if at + place >= len(content):
            break
        byte = content[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise BundleError("a number of the index is damaged")


def _masked(checksum: int) -> int:
    """Return a checksum as the files hold it: turned, plus a constant."""
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF
