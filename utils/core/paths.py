"""Where things are, from whatever folder a script is started."""

import os
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, or the installed package: code and params/ lie in it."""
CHECKOUT = (ROOT / "pyproject.toml").is_file()
PROJECT = ROOT if CHECKOUT else Path.cwd()
"""What data/ and results/ lie in: the checkout, or where the package is installed the working folder."""
PARAMS = ROOT / "params"
DATA = PROJECT / "data"
RESULTS = PROJECT / "results"


def shown(path):
    """Return `path` as a user would type it: relative to the working folder where that is shorter."""
    path = Path(path)
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive on Windows
        return str(path)
    return relative if len(relative) < len(str(path)) else str(path)


def kept(path):
    """Return a folder as settings keep it, in one spelling: relative to the project's where it lies inside.

    A relative `path` counts from the project's folder.
    """
    path = Path(os.path.realpath(PROJECT / Path(path).expanduser()))
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else str(path)


def sweep(folder, names="*"):
    """Remove what a process that was killed in `writing` left of files in a folder that match `names`.

    Only for folders, or names, that nobody else writes at the moment (`utils.core.file_locks`).
    """
    for left in Path(folder).rglob(f".{names}.*.tmp*"):
        left.unlink()


@contextmanager
def writing(path):
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
