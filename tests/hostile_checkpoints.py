"""Checkpoints as somebody else could write them: an index of TensorFlow's of any entries, archives of any members."""

import io
import json
import struct
import zipfile

import google_crc32c
import numpy as np

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def masked(content):
    checksum = google_crc32c.value(content)
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number):
    number %= 2**64
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number, value):
    """A field of a protocol buffer: a whole number, or bytes."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def entry(shape=(), code=1, shard=0, offset=0, size=4, checksum=0, more=b""):
    sides = b"".join(field(2, field(1, side)) for side in shape)
    numbers = field(1, code) + field(2, sides) + field(3, shard) + field(4, offset) + field(5, size)
    return numbers + varint(6 << 3 | 5) + struct.pack("<I", checksum) + more


def block(pairs):
    """A block of a table, with every key in full."""
    content = b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in pairs)
    content += struct.pack("<II", 0, 1)
    return content + b"\0" + struct.pack("<I", masked(content + b"\0"))


def table(blocks):
    """A sorted table of blocks, each a list of (key, value); one that is bytes is taken as it is."""
    content, places = b"", []
    for number, pairs in enumerate(blocks):
        made = pairs if isinstance(pairs, bytes) else block(pairs)
        places.append((b"%09d" % number, varint(len(content)) + varint(len(made) - 5)))
        content += made
    ends = []
    for made in (block([]), block(places)):
        ends.append(varint(len(content)) + varint(len(made) - 5))
        content += made
    return content + b"".join(ends).ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def write_checkpoint(path, entries, data=bytes(64)):
    """Write a checkpoint of {key: entry}, and return its path."""
    pairs = [(b"", field(1, 1)), *sorted((key.encode(), value) for key, value in entries.items())]
    path.with_name(f"{path.name}.index").write_bytes(table([pairs]))
    path.with_name(f"{path.name}.data-00000-of-00001").write_bytes(data)
    return path


def npy(array):
    memory = io.BytesIO()
    np.save(memory, array)
    return memory.getvalue()


def npy_header(text, content=b""):
    """An array's file with any text in its header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1") + content


def write_npz(path, members, header=None, packed=zipfile.ZIP_STORED):
    """Write an archive of {name: bytes of its member}; `header` is written as header.json."""
    with zipfile.ZipFile(path, "w", packed) as archive:
        if header is not None:
            archive.writestr("header.json.npy", npy(np.frombuffer(json.dumps(header).encode(), np.uint8)))
        for name, content in members.items():
            archive.writestr(name, content)
    return path
