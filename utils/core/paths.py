"""Where things are, from whatever folder a script is started."""

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
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
_FOLLOWED = 10_000
"""Folders behind links."""


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


def named_in_text(paths: Iterable[Path]) -> list[Path]:
    """Return paths that were found in a folder; refuse one that is no UTF-8 text, as no result could name it."""
    found = list(paths)
    for path in found:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{os.fsencode(path)!r}: its name is no UTF-8 text, and could not be written into a result: rename it"
            ) from None
    return found


def refuse_link_loops(folder: str | Path) -> None:
    """Refuse a folder (`UserError`) that cannot be searched to its end: a link in it leads back to where it lies, or to
    far more than a folder of data. Links to other places are followed, as searches do."""
    real = os.path.realpath(folder)
    waiting: list[tuple[str, tuple[str, ...], bool]] = [(str(folder), (real,), False)]
    followed = 0
    while waiting:
        place, above, linked = waiting.pop()
        for entry in _entries(above[-1]):
            try:
                if not entry.is_dir():
                    continue
                own = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            except OSError:  # it leads nowhere but to itself
                continue
            name, behind = f"{place}{os.sep}{entry.name}", linked or entry.is_symlink()
            followed += behind
            if own in above or followed > _FOLLOWED:
                what = "leads back to where it lies" if own in above else f"leads to more than {_FOLLOWED:,} folders"
                raise UserError(
                    f"{display_path(name)}: a link that {what}, so that a search would not end; remove the link"
                )
            waiting.append((name, (*above, own), behind))


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:  # not readable: a search passes over it
        return []


def remove_temporary_files(folder: str | Path, names: str = "*") -> None:
    """Remove what a process that was killed in `atomic_write` left of files in a folder that match `names`; only for
    what nobody else writes at the moment (`utils.core.file_locks`)."""
    for left in Path(folder).rglob(f".{names}.*.tmp*"):
        left.unlink()


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give an empty temporary file beside `path`; on success it is synced and renamed, on an error removed: a reader
    sees the old file or the complete new one, never a half-written one. Of a link the file behind it is written; who
    may read a file stays as it was. Nobody can have put a file or link in the temporary one's place."""
    path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp{path.suffix}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
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
    files of an earlier set that match a pattern of `old` ("nights/*.png") go. On an error everything is as it was.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_temporary_folders(folder)
    place = folder / f".{secrets.token_hex(8)}{_REPLACING}"
    try:
        place.mkdir()
        yield place
        (folder / last).unlink(missing_ok=True)
        for earlier in [path for pattern in old for path in folder.glob(pattern)]:
            if not any(part.startswith(".") for part in earlier.relative_to(folder).parts):  # the new ones are hidden
                earlier.unlink(missing_ok=True)
        for file in sorted((p for p in place.rglob("*") if p.is_file()), key=lambda p: p.name == last):
            target = folder.parent / file.name if file.name in above else folder / file.relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def remove_temporary_folders(folder: Path) -> None:
    """Remove what a process that was killed in `replaced_files` left, an hour ago or more."""
    for left in folder.glob(f".*{_REPLACING}"):
        if time.time() - max(path.stat().st_mtime for path in (left, *left.rglob("*"))) > 3600:
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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
