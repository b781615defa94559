"""Hashes of files, over every byte, each read once.

A file's hash stays known from one command to the next, in the user's cache folder (or that of the environment variable
SLEEP_INTERPRETER_CACHE), as long as size, times and inode of the file are the same.
"""

import contextlib
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from platformdirs import user_cache_path

from sleep_interpreter.utils.core.command_line import progress
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import user_path

log = logging.getLogger(__name__)

CACHE = "SLEEP_INTERPRETER_CACHE"
_AT_ONCE = 2**20
_TOLD = 2**28
"""Bytes from which reading them is shown on a progress bar."""
SETTLED = 2.0
"""Seconds since its last change from which a file's hash is kept: a second change in one tick has the same time."""
_Mark = tuple[int, int, int, int, int]


def digests(files: Sequence[Path]) -> list[bytes]:
    """Return the sha256 of each file, from the cache where that knows it."""
    with _cache() as known:
        marks = [_mark(file) for file in files]
        found = {mark: kept for mark in set(marks) if (kept := _look_up(known, mark)) is not None}
        sizes = {mark: mark[2] for mark in marks if mark not in found}
        total, block = sum(sizes.values()), memoryview(bytearray(_AT_ONCE))
        with progress(
            total=total, desc="reading the data once", unit="B", unit_scale=True, disable=total < _TOLD
        ) as bar:
            for file, mark in zip(files, marks, strict=True):
                if mark in found:
                    continue
                total_of_file = hashlib.sha256()
                with file.open("rb", buffering=0) as handle:
                    while count := handle.readinto(block):
                        total_of_file.update(block[:count])
                        bar.update(count)
                if _mark(file) != mark:
                    raise UserError(f"{file}: changes while it is read; wait until it is complete")
                found[mark] = total_of_file.digest()
                if time.time() - max(mark[3], mark[4]) / 1e9 > SETTLED:
                    _keep(known, mark, found[mark])
    return [found[mark] for mark in marks]


def content_hash(files: Sequence[Path]) -> str:
    """Return a sha256 over every byte of some files, whatever they are called."""
    return hashlib.sha256(b"".join(digests(files))).hexdigest()


def _mark(file: Path) -> _Mark:
    """Return device, inode, size, and times of the last change of content and of anything, in ns."""
    about = file.stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def marks(files: Sequence[Path]) -> dict[Path, _Mark | None]:
    """Return what changes when a file does, without reading it; None of one that is not there."""
    return {file: _mark(file) if file.exists() else None for file in files}


@contextlib.contextmanager
def _cache() -> Iterator[sqlite3.Connection | None]:
    """Give the database of known hashes, None where there cannot be one (it only saves time)."""
    folder: str | Path = os.environ.get(CACHE) or "the user's cache folder"
    connection = None
    try:
        folder = user_path(os.environ.get(CACHE) or user_cache_path("sleep-interpreter"))
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(folder / "hashes.sqlite", timeout=10, isolation_level=None)
        connection.execute("PRAGMA synchronous=OFF")  # what a crash takes is hashed once more
        connection.execute(
            "CREATE TABLE IF NOT EXISTS hashes (device TEXT, inode TEXT, size INTEGER, changed INTEGER, "
            "touched INTEGER, digest BLOB, PRIMARY KEY (device, inode))"
        )
    except (OSError, RuntimeError, KeyError, UserError, sqlite3.Error) as error:  # of somebody without a home
        log.debug("hashes of data files are not kept in %s: %s", folder, error)
        if connection is not None:
            connection.close()
        connection = None
    try:
        yield connection
    finally:
        if connection is not None:
            connection.close()


def _look_up(known: sqlite3.Connection | None, mark: _Mark) -> bytes | None:
    if known is None:
        return None
    try:
        row = known.execute(
            "SELECT digest FROM hashes WHERE device = ? AND inode = ? AND size = ? AND changed = ? AND touched = ?",
            (str(mark[0]), str(mark[1]), *mark[2:]),
        ).fetchone()
    except sqlite3.Error:
        return None
    digest = None if row is None else row[0]
    return digest if isinstance(digest, bytes) and len(digest) == hashlib.sha256().digest_size else None


def _keep(known: sqlite3.Connection | None, mark: _Mark, digest: bytes) -> None:
    if known is not None:
        with contextlib.suppress(sqlite3.Error):
            known.execute(
                "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)",
                (str(mark[0]), str(mark[1]), *mark[2:], digest),
            )
