"""Keys of the terminal in which a session runs, turned into the same requests that the socket takes.

While it reads, the terminal neither stops the session by Ctrl-Z nor freezes its output by Ctrl-S: both would
hold up a night. Ctrl-C stays what it is. A session in the background leaves the terminal alone.
"""

import atexit
import logging
import os
import select
import sys
import threading
import time

from sleep_interpreter.realtime.Control.request import Request

logger = logging.getLogger(__name__)

HELP = "keys: p pause, r resume, + - volume, m mark, g other group, s status, q stop"
_KEYS = {
    "p": ("pause", {}),
    "r": ("resume", {}),
    "+": ("volume", {"change_db": 1.0}),
    "-": ("volume", {"change_db": -1.0}),
    "m": ("mark", {"text": "key"}),
    "g": ("group", {}),
    "s": ("status", {}),
}
_SURE_SECONDS = 10.0
"""So long after q the y counts."""
_LOOK = 0.2


class Keyboard:
    """Read keys in a thread.

    Parameters
    ----------
    put : callable
        `put(request)` takes a `Request` and tells whether there was room for it.
    stream : file | None
        A terminal; None = standard input.
    """

    def __init__(self, put, stream=None):
        self._put, self._stream = put, sys.stdin if stream is None else stream
        self._asked = None  # when q was pressed
        self._closing = threading.Event()
        self._terminal, self._thread = None, None

    def start(self):
        """Begin to read; nothing happens where there is no terminal, or where it belongs to another program.

        Returns
        -------
        reading : bool
        """
        try:
            if self._stream is None or not self._stream.isatty():
                return False
            self._terminal = _Console() if sys.platform == "win32" else _Terminal(self._stream.fileno())
            if not self._terminal.begin():
                return False
        except (ImportError, OSError, ValueError) as error:
            logger.debug("no keyboard: %s", error)
            return False
        atexit.register(self._terminal.end)  # a shell without echo helps nobody after a crash
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)
        self._thread.start()
        logger.info("%s", HELP)
        return True

    def press(self, key):
        """Take a key; `q` ends the session when `y` comes next, within 10 s."""
        key = key.lower()
        asked, self._asked = self._asked, None
        if asked is not None and key == "y" and time.monotonic() - asked < _SURE_SECONDS:
            self._request("stop", {})
        elif key == "q":
            # another key than q itself: a key that is held down must not end a night
            self._asked = time.monotonic()
            logger.info("end the session? y within 10 s ends it, any other key goes on")
        elif key in _KEYS:
            self._request(*_KEYS[key])
        elif key.strip():
            logger.info("%s", HELP)

    def close(self):
        """Stop reading, and give the terminal back as it was."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2)
        if self._terminal is not None:
            self._terminal.end()
            atexit.unregister(self._terminal.end)

    def _request(self, command, args):
        if not self._put(Request(command, dict(args), "keyboard", _say)):
            logger.warning("the session is busy: %s was not taken", command)

    def _read(self):
        while not self._closing.is_set():
            try:
                keys = self._terminal.keys(_LOOK)
            except OSError as error:  # the terminal was closed: the session goes on without its keys
                logger.info("no keyboard any more: %s", error.strerror or error)
                return
            if keys is None:
                return
            for key in keys:
                self.press(key)


class _Terminal:
    """A POSIX terminal, one key at a time.

    Parameters
    ----------
    handle : int
        Of its file.
    """

    def __init__(self, handle):
        self._handle, self._before = handle, None

    def begin(self):
        """Take the terminal; False when this process is in the background."""
        import termios
        import tty

        if not self._ours():
            return False
        self._before = termios.tcgetattr(self._handle)
        tty.setcbreak(self._handle)
        now = termios.tcgetattr(self._handle)
        now[0] &= ~termios.IXON
        now[6][termios.VSUSP] = os.fpathconf(self._handle, "PC_VDISABLE").to_bytes(1, "little")
        termios.tcsetattr(self._handle, termios.TCSANOW, now)
        return True

    def keys(self, seconds):
        """Return the keys that come within `seconds`, "" for none, None when the terminal is gone."""
        ready, _, _ = select.select([self._handle], [], [], seconds)
        if not ready:
            return ""
        if not self._ours():  # reading from the background would stop the whole process
            time.sleep(seconds)
            return ""
        data = os.read(self._handle, 64)
        if not data:
            return None
        # keys such as F1 come as several characters, of which one may be a P
        return "" if data.startswith(b"\x1b") else data.decode(errors="ignore")

    def end(self):
        """Give the terminal back as it was."""
        if self._before is None:
            return
        import termios

        before, self._before = self._before, None
        try:
            if self._ours():
                termios.tcsetattr(self._handle, termios.TCSADRAIN, before)
        except (OSError, termios.error) as error:
            logger.debug("terminal: %s", error)

    def _ours(self):
        """Tell whether keys go to this process: from the background a terminal must not be touched."""
        try:
            return os.tcgetpgrp(self._handle) == os.getpgrp()
        except OSError:  # it does not control this process, so it cannot stop it
            return True


class _Console:
    """The console of Windows, one key at a time."""

    def begin(self):
        """Take the console."""
        import msvcrt

        self._keys = msvcrt
        return True

    def keys(self, seconds):
        """Return the keys that come within `seconds`."""
        end = time.monotonic() + seconds
        while not self._keys.kbhit():  # waiting inside getwch would swallow Ctrl-C
            if time.monotonic() > end:
                return ""
            time.sleep(0.02)
        key = self._keys.getwch()
        if key in "\x00\xe0":  # an arrow or function key: a second character follows, which may be a letter
            self._keys.getwch()
            return ""
        return key

    def end(self):
        """Nothing to give back."""


def _say(ok, **more):
    state = more.get("state")
    if state is not None:
        blocked = "; ".join(state["blocked"])
        logger.info(
            "%s, cueing %s, %d cues, volume %.1f dB",
            state["stage"], "on" if state["cueing"] else f"off ({blocked})", sum(state["cues"].values()),
            state["volume_db"],
        )  # fmt: skip
    elif not ok:
        logger.warning("not done: %s", more.get("error"))
