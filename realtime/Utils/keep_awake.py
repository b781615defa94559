"""Keeps the machine awake while a session runs."""

import contextlib
import logging
import queue
import shutil
import subprocess
import sys
import threading

logger = logging.getLogger(__name__)

_CONTINUOUS, _SYSTEM = 0x80000000, 0x00000001  # ES_CONTINUOUS, ES_SYSTEM_REQUIRED of Windows
_PATIENCE = 5.0
"""Seconds for the system to grant it."""
# What is run under the hold says so first, then ends when its input is closed: so does the hold then, however
# the session ends.
_HOLDING = ["sh", "-c", "echo held; exec cat >/dev/null"]


def sleep_inhibitor():
    """Return by what this machine is kept awake ("systemd-inhibit", "caffeinate", "Windows"), or None."""
    if sys.platform == "win32":
        return "Windows"
    if sys.platform == "darwin":
        return "caffeinate" if shutil.which("caffeinate") else None
    return "systemd-inhibit" if shutil.which("systemd-inhibit") else None


@contextlib.contextmanager
def prevent_sleep(wanted=True):
    """Hold back sleep, idle and lid actions within the `with` block.

    Parameters
    ----------
    wanted : bool
        False does nothing.

    Yields
    ------
    how : str | None
        By what the system said that it holds; None where nothing does.
    """
    how = sleep_inhibitor() if wanted else None
    if how is None:
        if wanted:
            logger.warning("nothing here keeps the machine awake: switch off its sleep by hand")
        yield None
        return
    if how == "Windows":
        with _windows() as held:
            yield how if held else None
        return
    refusal = None
    for words in _commands(how):
        process, refusal = _hold([*words, *_HOLDING])
        if process is not None:
            break
    if refusal is not None:
        logger.warning("%s was refused (%s): switch off the machine's sleep by hand", how, refusal)
        yield None
        return
    try:
        yield how
    finally:
        _end(process)


def _commands(how):
    """Return the commands to be tried, the one that holds back most first."""
    if how == "caffeinate":
        return [["caffeinate", "-dims"]]
    about = ["--who=Sleep Interpreter", "--why=a sleep session is being recorded", "--mode=block"]
    # closing the lid may be beyond what a remote session may hold back
    return [
        ["systemd-inhibit", f"--what={what}", *about]
        for what in ("sleep:idle:handle-lid-switch", "sleep:idle")
    ]


def _hold(words):
    """Return (process, None) when the hold is granted, else (None, why not)."""
    try:
        # a session of its own: neither Ctrl-C nor a question for a password reaches it through the terminal
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return None, error.strerror or str(error)
    said = queue.Queue()
    threading.Thread(target=lambda: said.put(process.stdout.readline()), daemon=True).start()
    try:
        if said.get(timeout=_PATIENCE).strip() == "held":
            return process, None
    except queue.Empty:
        _end(process)
        return None, f"no answer within {_PATIENCE:g} s"
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    text = " ".join((process.stderr.read() if process.returncode is not None else "").split())[:200]
    _end(process)
    return None, text or f"it ended with code {process.returncode}"


def _end(process):
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
def _windows():
    """Tell Windows that the system is needed; it counts for the thread that asks, which must end it too."""
    import ctypes

    set_state = ctypes.windll.kernel32.SetThreadExecutionState
    set_state.restype = ctypes.c_uint
    held = set_state(ctypes.c_uint(_CONTINUOUS | _SYSTEM)) != 0
    if not held:
        logger.warning("Windows refused to stay awake: switch off its sleep by hand")
    try:
        yield held
    finally:
        set_state(ctypes.c_uint(_CONTINUOUS))
