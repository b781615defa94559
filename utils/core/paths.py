"""Where things are, from whatever folder a script is started."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARAMS = ROOT / "params"
DATA = ROOT / "data"
RESULTS = ROOT / "results"


def shown(path: str | Path) -> str:
    """Return `path` as a user would type it: relative to the working folder where that is shorter."""
    path = Path(path)
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive on Windows
        return str(path)
    return relative if len(relative) < len(str(path)) else str(path)


def shorten_paths(text: str) -> str:
    """Return a message with each absolute path in it as `shown` gives it.

    Error and log messages hold full paths; this is applied once, where they reach the terminal
    (`utils.core.command_line`). Paths may hold spaces: only their beginning is looked at.
    """
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # removed meanwhile
        return text
    for pattern, relative in _prefixes(folder):
        text = pattern.sub(lambda found, to=relative: to if found[1] else to.rstrip(os.sep) or ".", text)
    return text


@lru_cache(maxsize=8)
def _prefixes(folder: str) -> list[tuple[re.Pattern[str], str]]:
    """Return (beginning of a path, what it is from `folder`), for every folder above where that is shorter."""
    separator = re.escape(os.sep)
    above = [Path(folder), *Path(folder).parents]
    relative = [f"..{os.sep}" * up for up in range(len(above))]
    return [
        # the folder itself only before the end or a sign that ends a path, since names may hold spaces
        (re.compile(rf"(?<![\w./\\~-]){re.escape(str(start))}(?:({separator})|(?=$|[\"',;:)\]\n]))"), to)
        for start, to in zip(above, relative, strict=True)
        if len(to) <= len(str(start)) and start != start.parent
    ]


def relative_to_project(path: str | Path) -> str:
    """Return a folder as settings keep it, in one spelling: relative to the project's where it lies inside.

    A relative `path` counts from the project's folder.
    """
    path = Path(os.path.realpath(ROOT / Path(path).expanduser()))
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def remove_temporary_files(folder: str | Path, names: str = "*") -> None:
    """Remove what a process that was killed in `writing` left of files in a folder that match `names`.

    Only for folders, or names, that nobody else writes at the moment (`utils.core.file_locks`).
    """
    for left in Path(folder).rglob(f".{names}.*.tmp*"):
        left.unlink()


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced and renamed, on an error removed.

    A reader therefore sees the old file or the complete new one, never a half-written one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
