"""Where things are, from whatever folder a script is started."""

import errno
import os
import re
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from sleep_interpreter.utils.core.errors import NoSpaceError, UserError

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, or the installed package: code and params/ lie in it."""
CHECKOUT = (ROOT / "pyproject.toml").is_file()
PROJECT = ROOT if CHECKOUT else Path.cwd()
"""What data/ and results/ lie in: the checkout, or where the package is installed the working folder."""
PARAMS = ROOT / "params"
DATA = PROJECT / "data"
RESULTS = PROJECT / "results"
_REPLACING = ".replacing"


def display_path(path: str | Path) -> str:
    """Return `path` as a user would type it: relative to the working folder where that is shorter."""
    path = Path(path)
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive on Windows
        return str(path)
    return relative if len(relative) < len(str(path)) else str(path)


def shorten_paths(text: str) -> str:
    """Return a message with each absolute path in it as `display_path` gives it.

    Error and log messages hold full paths; this is applied once, where they reach the terminal
    (`utils.core.command_line`). Paths may hold spaces: only their beginning is looked at.
    """
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:  # removed meanwhile
        return text
    for pattern, relative in _beginnings(folder):
        text = pattern.sub(relative, text)
    return text


@lru_cache(maxsize=8)
def _beginnings(folder: str) -> list[tuple[re.Pattern[str], str]]:
    """Return (how a path may begin, what that is from `folder`), where that is shorter."""
    found = []
    for level, start in enumerate([Path(folder), *Path(folder).parents][:-1]):
        below = f"..{os.sep}" * level
        if len(below) <= len(str(start)):
            beginning = rf"(?<![\w./\\~-]){re.escape(str(start))}"
            # the folder itself only before a sign that ends a path, since names may hold spaces
            itself = (re.compile(rf"{beginning}(?=$|[\"',;:)\]\n])"), below[:-1] or ".")
            inside = (re.compile(beginning + re.escape(os.sep)), below)
            found += [(pattern, to.replace("\\", r"\\")) for pattern, to in (inside, itself)]
    return found


def user_path(path: str | Path) -> Path:
    """Return a path with the user's home in place of "~"; refuse one whose home nobody knows."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user, or one without a home, as in many a container
        raise UserError(f"{path}: the home that ~ stands for is not known here; give the whole path") from None


def relative_to_project(path: str | Path) -> str:
    """Return a folder as settings keep it, in one spelling: relative to the project's where it lies inside; a
    relative `path` counts from there."""
    path = Path(os.path.realpath(PROJECT / user_path(path)))
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else str(path)


def remove_temporary_files(folder: str | Path, names: str = "*") -> None:
    """Remove what a process that was killed in `atomic_write` left of files in a folder that match `names`; only for
    what nobody else writes at the moment (`utils.core.file_locks`)."""
    for left in Path(folder).rglob(f".{names}.*.tmp*"):
        left.unlink()


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced and renamed, on an error removed: a reader sees
    the old file or the complete new one, never a half-written one. Of a link the file behind it is written; who may
    read a file stays as it was."""
    path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{threading.get_native_id()}.tmp{path.suffix}")
    try:
        yield temporary
        if path.exists():
            temporary.chmod(path.stat().st_mode)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and not isinstance(error, NoSpaceError):
            raise NoSpaceError(
                f"{path}: no space left on its disk; what was there before is unchanged: make room and give the same "
                "command again"
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced_files(
    folder: str | Path, last: str, above: Collection[str] = (), old: Collection[str] = ()
) -> Iterator[Path]:
    """Give a temporary folder for a set of files that replace those in `folder` together, at the end, or not at all.

    The file `last` tells a complete set: it goes first and comes last. Files called as in `above` go beside the folder;
    files of an earlier set called as in `old` go. On an error everything is as it was.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_temporary_folders(folder)
    place = folder / f".{os.getpid()}{threading.get_native_id()}{_REPLACING}"
    try:
        place.mkdir()
        yield place
        (folder / last).unlink(missing_ok=True)
        for name in old:
            (folder / name).unlink(missing_ok=True)
        for file in sorted((p for p in place.rglob("*") if p.is_file()), key=lambda p: p.name == last):
            target = folder.parent / file.name if file.name in above else folder / file.relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def remove_temporary_folders(folder: Path) -> None:
    """Remove what a process that was killed in `replaced_files` left, an hour ago or more."""
    for left in folder.glob(f".*{_REPLACING}"):
        if time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`, where there must be nothing yet or an empty folder (`UserError`); on
    success it is renamed, on an error removed.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} is there already: name a folder that is not, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{threading.get_native_id()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
