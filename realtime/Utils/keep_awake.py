"""Keeps the machine from falling asleep while a session runs, and tells when it slept all the same."""

import contextlib
import ctypes
import logging
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger(__name__)

_CONTINUOUS, _SYSTEM = 0x80000000, 0x00000001  # ES_CONTINUOUS, ES_SYSTEM_REQUIRED of Windows
_PATIENCE = 5.0
"""Seconds for the system to grant it."""
_AWAKE_AND_ASLEEP = (("CLOCK_MONOTONIC", "CLOCK_BOOTTIME"), ("CLOCK_UPTIME_RAW", "CLOCK_MONOTONIC_RAW"))
"""Clocks that stand still while the machine sleeps, and the same ones that go on: of Linux, of macOS."""
COUNTER_SLEEPS = sys.platform != "win32"
"""Whether `time.perf_counter` stands still while the machine sleeps."""
_ABOUT = ["--who=Sleep Interpreter", "--why=a sleep session is being recorded", "--mode=block"]
_COMMANDS = {
    "caffeinate": [["caffeinate", "-dims"]],
    # closing the lid may be beyond what a remote session may hold back
    "systemd-inhibit": [
        ["systemd-inhibit", f"--what={what}", *_ABOUT] for what in ("sleep:idle:handle-lid-switch", "sleep:idle")
    ],
}
"""To be tried in this order, the one that holds back most first."""
# What is run under the inhibitor says so first, then ends when its input is closed: so does the inhibitor
# then, however the session ends.
_INHIBITED = ["sh", "-c", "echo held; exec cat >/dev/null"]


@contextlib.contextmanager
def prevent_sleep(wanted: bool = True) -> Iterator[str | None]:
    """Hold back sleep, idle and lid actions within the `with` block, if `wanted`; yield by what the system said that
    it does ("systemd-inhibit", "caffeinate", "Windows"), or None where nothing does."""
    how = {"win32": "Windows", "darwin": "caffeinate"}.get(sys.platform, "systemd-inhibit")
    if not wanted or (how != "Windows" and not shutil.which(how)):
        if wanted:
            logger.warning("nothing here keeps the machine awake: switch off its sleep by hand")
        yield None
        return
    if how == "Windows":
        with _windows() as granted:
            yield how if granted else None
        return
    for words in _COMMANDS[how]:
        process, refusal = _inhibit([*words, *_INHIBITED])
        if process is not None:
            break
    else:
        logger.warning("%s was refused (%s): switch off this computer's standby by hand", how, refusal)
        yield None
        return
    try:
        yield how
    finally:
        _end(process)


def slept_seconds() -> float:
    """Return for how many s the machine has slept since it was switched on, by two clocks of the system, neither of
    which anybody sets; 0.0 where it has no such pair."""
    for awake, both in _AWAKE_AND_ASLEEP:
        if hasattr(time, awake) and hasattr(time, both):
            return time.clock_gettime(getattr(time, both)) - time.clock_gettime(getattr(time, awake))
    if sys.platform != "win32":
        return 0.0
    unbiased, library = ctypes.c_ulonglong(), ctypes.windll.kernel32
    library.GetTickCount64.restype = ctypes.c_ulonglong
    if not library.QueryUnbiasedInterruptTime(ctypes.byref(unbiased)):
        return 0.0
    return float(library.GetTickCount64()) / 1e3 - unbiased.value / 1e7


def _inhibit(words: list[str]) -> tuple[Any, str]:
    """Return (process, "") when it is granted, else (None, why not)."""
    try:
        # a session of its own: neither Ctrl-C nor a question for a password reaches it through the terminal
        process: Any = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return None, error.strerror or str(error)
    if not select.select([process.stdout], [], [], _PATIENCE)[0]:
        _end(process)
        return None, f"no answer within {_PATIENCE:g} s"
    if process.stdout.readline().strip() == "held":
        return process, ""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    text = " ".join((process.stderr.read() if process.returncode is not None else "").split())[:200]
    _end(process)
    return None, text or f"it ended with code {process.returncode}"


def _end(process: Any) -> None:
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
    process.stdout.close()
    process.stderr.close()


@contextlib.contextmanager
def _windows() -> Iterator[bool]:
    """Tell Windows that the system is needed; it counts for the thread that asks, which must end it too."""
    set_state = ctypes.windll.kernel32.SetThreadExecutionState  # type: ignore[attr-defined]  # on Windows
    set_state.restype = ctypes.c_uint
    granted = set_state(ctypes.c_uint(_CONTINUOUS | _SYSTEM)) != 0
    if not granted:
        logger.warning("Windows refused to stay awake: switch off its sleep by hand")
    try:
        yield granted
    finally:
        set_state(ctypes.c_uint(_CONTINUOUS))
