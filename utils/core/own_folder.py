"""A folder that others may have made: what it says of its files, and what lies in it, leads nowhere else.

Labs exchange prepared data, sessions and runs. A file in them may name files (`inside`), and an archive may hold links
(`own_folder`); either could have something read, replaced or removed that is none of the folder's.
"""

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path

_LONGEST = 255
"""Bytes of a name, on nearly all file systems."""


def inside(folder: str | Path, name: Any, source: str | Path) -> Path:
    """Return the path of a file of `folder` that the file `source` names.

    `UserError` where `name` is no relative path of this folder on every system, or a link leads out of it.
    """
    folder = Path(folder)
    path = _below(folder, name)
    if path is None:
        raise UserError(
            f"{source}: names {str(name)[:80]!r} as a file of this folder, and that is none; nothing was changed. Take "
            "that entry out, or ask whoever made the folder"
        )
    return path


def _below(folder: Path, name: Any) -> Path | None:
    if not isinstance(name, str) or any(ord(sign) < 32 or "\ud800" <= sign <= "\udfff" for sign in name):
        return None
    if max(map(len, name.encode().split(b"/"))) > _LONGEST:
        return None
    for kind in (PurePosixPath, PureWindowsPath):  # the folder may have come from another system
        pure = kind(name)
        if not pure.parts or pure.anchor or ".." in pure.parts:
            return None
    root, path = Path(os.path.realpath(folder)), Path(os.path.realpath(folder / name))
    return folder / name if path != root and path.is_relative_to(root) else None


def own_folder(folder: str | Path) -> Path:
    """Return `folder` after a look at all that lies in it: files and folders, links to one another at most.

    It may itself be a link, or not be there yet. A `UserError` names what leads out of it, or is neither a file nor a
    folder (a pipe would be waited for without end).
    """
    folder = Path(folder)
    root = os.path.realpath(folder)
    waiting = [root]
    while waiting:
        for entry in _entries(waiting.pop()):
            where = display_path(folder / os.path.relpath(entry.path, root))
            target = os.path.realpath(entry.path)
            if not Path(target).is_relative_to(root):
                raise UserError(
                    f"{where}: leads out of its folder, to {target}; put the file itself there (git-annex, DataLad: "
                    "unlock it), or name another folder"
                )
            mode = entry.stat(follow_symlinks=False).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                raise UserError(f"{where}: is neither a file nor a folder; remove it")
            if stat.S_ISDIR(mode) and target == entry.path:  # no junction of Windows, which looks like a folder
                waiting.append(entry.path)
    return folder


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):  # not there yet, or removed meanwhile
        return []
