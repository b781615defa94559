"""Locks between processes: who writes here, and does it still live?

A lock is a file that the system keeps locked for its holder and unlocks when that process ends, however it ends: a
kill or a power cut leaves nothing to be cleaned up, as a written process number would (after a restart of the machine
it may be another process's).
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path

log = logging.getLogger(__name__)

LOCK = ".lock"
"""What the lock of a whole folder is called."""


@contextmanager
def locked(*paths: str | Path, refusal: str) -> Iterator[None]:
    """Keep empty lock files locked, so that no other process locks any of them meanwhile.

    They and their folders are made, and the files removed in the end; one that a kill left is no hindrance. Where
    another process holds one, none is held and `refusal` is the `UserError`, with the lock file in place of "{path}".
    Where a file system has no locks (some network drives), that is said and the work goes on without.
    """
    from filelock import FileLock, Timeout  # lazy: start-up

    with ExitStack() as stack:
        for path in map(Path, paths):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                # a file whose mere existence is the lock would outlive a kill
                stack.enter_context(FileLock(path, timeout=0, fallback_to_soft=False))
                # removed while it is locked: nobody waits for it, and FileLock takes no dead one
                stack.callback(_remove, path)
            except Timeout:
                raise UserError(refusal.replace("{path}", display_path(path))) from None
            except (OSError, NotImplementedError) as error:
                text = "%s cannot be locked (%s): see that no other process writes here"
                log.warning(text, path, error)
        yield


def _remove(path: Path) -> None:
    with suppress(OSError):  # Windows: it is open until the lock is let go
        path.unlink()
