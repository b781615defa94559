"""Finds one feature of a serialised `tf.train.Example` in an open file without reading the others.

A record with awake trials is half a megabyte, its label 100 bytes. The wire format of protocol buffers lets
a reader skip what it does not want: every field begins with a tag (field number and type) and most with
their length. An Example holds `features` (1), that a map `feature` (1) of entries {key (1), value (2)}, and
a value holds `bytes_list` (1) of byte strings (1).
"""

from collections.abc import Iterator
from typing import BinaryIO

_LENGTH_DELIMITED = 2
_LARGEST_VALUE = 1 << 20


class _MalformedError(Exception):
    """The bytes are not what an Example looks like."""


def find_feature(handle: BinaryIO, length: int, name: str) -> bytes | None:
    """Return the serialised `tf.train.Feature` of a name, None when it is not there or the bytes are unusual.

    `handle` stands at the beginning of the Example, which is `length` bytes long.
    """
    wanted, found = name.encode(), None
    try:
        for features, _ in _fields(handle, handle.tell() + length, 1):
            for entry, _ in _fields(handle, features, 1):
                key = value = None
                for end, number in _fields(handle, entry):
                    size = end - handle.tell()
                    if number == 1 and size == len(wanted):
                        key = handle.read(size)
                    elif number == 2:
                        value = (handle.tell(), size)
                if key == wanted and value is not None and value[1] <= _LARGEST_VALUE:
                    handle.seek(value[0])
                    found = handle.read(value[1])
    except _MalformedError:
        return None
    return found


def _fields(handle: BinaryIO, stop: int, only: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield (end, field number) of the length-delimited fields up to `stop`, the file at their content."""
    position = handle.tell()
    while position < stop:
        handle.seek(position)
        head = handle.read(min(20, stop - position))
        tag, used = _varint(head, 0)
        if tag & 7 != _LENGTH_DELIMITED:
            raise _MalformedError
        size, used = _varint(head, used)
        end = position + used + size
        if end > stop:
            raise _MalformedError
        if only is None or tag >> 3 == only:
            handle.seek(position + used)
            yield end, tag >> 3
        position = end


def _varint(head: bytes, start: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(head[start : start + 10]):
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, start + place + 1
    raise _MalformedError
