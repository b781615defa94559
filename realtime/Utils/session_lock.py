"""One process at a time in a session's folder."""

from contextlib import AbstractContextManager
from pathlib import Path

from sleep_interpreter.utils.core import file_locks
from sleep_interpreter.utils.core.paths import display_path


def lock_session(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from running a session in this folder (`utils.core.file_locks`)."""
    refusal = "the session is still running, in another process: go on there, or end it first"
    return file_locks.locked(folder / file_locks.LOCK, refusal=f"{display_path(folder)}: {refusal}")
