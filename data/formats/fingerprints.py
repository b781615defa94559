"""Which data a result came from, whatever path led to them: hashes over every byte."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from sleep_interpreter.data.formats.validation import natural
from sleep_interpreter.utils.core.file_hashes import digests


def content_hash(files: Iterable[str | Path]) -> str:
    """Return a sha256 over every byte of some files, whatever they are called."""
    total = hashlib.sha256()
    for digest in digests([Path(file) for file in files]):
        total.update(digest)
    return total.hexdigest()


def fingerprint(files: Iterable[str | Path]) -> str:
    """Return a sha256 that tells one set of data files from another, 64 hexadecimal digits.

    It covers every byte, and the files' names relative to their common folder as they were given: data that are moved
    or reached through a link keep it.
    """
    paths = sorted((Path(os.path.abspath(file)) for file in files), key=natural)  # noqa: PTH100  # links stay links
    total = hashlib.sha256()
    for path, digest in zip(paths, digests(paths), strict=True):
        common = next(p for p in path.parents if all(p in other.parents for other in paths))
        name = unicodedata.normalize("NFC", path.relative_to(common).as_posix())  # macOS may take letters apart
        total.update(f"{name}\0".encode(errors="surrogateescape") + digest)
    return total.hexdigest()
