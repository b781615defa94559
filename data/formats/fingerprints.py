"""Which data a result came from, whatever path led to them: hashes over every byte."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sleep_interpreter.data.formats.validation import natural
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.file_hashes import digests, marks


class Unchanged:
    """Looks whether data files are still what a result will say that it is from."""

    def __init__(self, files: Mapping[Path, Any], known: str | None) -> None:
        """Take files with their `utils.core.file_hashes.marks`, and their `fingerprint` where it is known."""
        self._marks, self._known = dict(files), known

    def check(self) -> None:
        """Refuse files that are others now; times alone may change, as a backup or `touch` does."""
        now = marks([*self._marks])
        changed = [file for file, mark in self._marks.items() if now[file] != mark]
        if not changed:
            return
        gone = [file for file in changed if now[file] is None]
        if not gone and self._known is not None and fingerprint(self._marks) == self._known:
            self._marks = dict(now)
            return
        first, more = (gone or changed)[0], f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise UserError(
            f"{first}{more}: {'was removed' if gone else 'has changed'} while it was in use; what was computed since "
            "is not kept: put the data back as they were and give the same command again, or begin anew with --restart"
        )


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
