"""Hashes of data files: which data a result came from."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sleep_interpreter.data.formats.validation import natural

_SAMPLED = 65536


def content_hash(files: Iterable[str | Path]) -> str:
    """Return a sha256 over every byte of some files.

    `fingerprint` samples, for data too large to read twice. What is taken up again by a hash takes this one:
    a corrected label changes neither a file's size nor its ends.
    """
    total = hashlib.sha256()
    for file in files:
        with Path(file).open("rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()


def fingerprint(files: Iterable[str | Path]) -> str:
    """Return a sha256 that tells one set of data files from another, 64 hexadecimal digits.

    It covers each file's name, its size and its first and last 64 KiB, not every byte: a change in the
    middle of a large file that keeps its size goes unnoticed. It names the data a result came from; it is
    no protection against tampering. Names count relative to the files' common folder, so moving a whole
    data set keeps its fingerprint.
    """
    paths = sorted((Path(file).resolve() for file in files), key=natural)
    total = hashlib.sha256()
    for file in paths:
        common = next(p for p in file.parents if all(p in other.parents for other in paths))
        size = file.stat().st_size
        total.update(f"{file.relative_to(common).as_posix()}\0{size}\0".encode())
        with file.open("rb") as handle:
            total.update(handle.read(_SAMPLED))
            if size > _SAMPLED:
                handle.seek(max(_SAMPLED, size - _SAMPLED))
                total.update(handle.read(_SAMPLED))
    return total.hexdigest()
