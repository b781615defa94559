"""What a real-time session says on the terminal, without ever waiting for it.

A terminal that takes nothing (a hung ssh, a window in which text is marked) blocks whoever writes to it, and
with him all who log. During a session everything for standard error therefore goes into a bounded queue, and
a thread writes it. What does not fit is dropped; the session's log has it.
"""

import atexit
import contextlib
import ctypes
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, TextIO

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

_MOST_WAITING = 2000
"""Texts that wait at most."""
_POLL = 0.05
_DRAW_SECONDS = 0.5
_PATIENCE = 2.0
"""At the end a terminal is awaited for so long."""
_QUICK_EDIT, _EXTENDED = 0x40, 0x80


@contextlib.contextmanager
def progress_bar(real_time: bool, seconds: float | None) -> Iterator[Any]:
    """Show how far a session of these seconds is, if that is known, beside what is logged: `bar.update(seconds)`. In
    `real_time` samples come as time goes by, so that nothing may wait for the terminal."""
    if not real_time:
        with logging_redirect_tqdm(), tqdm(total=seconds, unit="s", unit_scale=True, disable=None) as bar:
            yield bar
        return
    screen = TerminalWriter(sys.stderr, seconds)
    screen.begin()
    with contextlib.ExitStack() as closing:
        closing.callback(screen.end)
        closing.enter_context(_without_quick_edit())
        yield screen


class TerminalWriter:
    """Stands in for standard error, of the loggers too, and hands what is written to a thread. `seconds` is the
    session's length, for the bar."""

    def __init__(self, stream: TextIO | None, seconds: float | None = None) -> None:
        self._stream: Any = stream
        self._total = seconds
        self._waiting: deque[str | None] = deque()
        self._lost = 0
        self._busy = self._ending = False
        self._bar = stream is not None and stream.isatty()
        self._drawn, self._fresh, self._next = "", True, 0.0
        self._done, self._began = 0.0, time.monotonic()
        self._handlers: list[logging.StreamHandler] = []
        self._thread = threading.Thread(target=self._write_waiting, name="screen", daemon=True)

    # --- as a file ----------------------------------------------------------------------------------

    def write(self, text: str) -> int:
        """Leave a text to the thread; it is dropped when too many wait."""
        if self._ending:  # somebody has kept this file
            return self._stream.write(text)
        if len(self._waiting) < _MOST_WAITING:  # a deque needs no lock that a signal or a destructor could meet
            self._waiting.append(text)
        else:
            self._lost += 1
        return len(text)

    def flush(self) -> None:
        """Nothing: the thread writes at once."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    # --- of the session -----------------------------------------------------------------------------

    def update(self, seconds: float) -> None:
        """Move the bar on."""
        self._done += seconds

    def begin(self) -> None:
        """Take the place of the stream."""
        if self._stream is None:
            return
        own = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler)]
        self._handlers = [h for h in own if h.stream is self._stream]
        for handler in self._handlers:
            handler.stream = self
        sys.stderr = self
        self._thread.start()

    def end(self) -> None:
        """Bring out what waits and give the stream its place back; one that still hangs stays apart."""
        if self._stream is None:
            return
        self._waiting.append(None)  # the bar is over
        if not self.drain():
            atexit.register(self.drain)
            return
        for handler in self._handlers:
            if handler.stream is self:
                handler.stream = self._stream
        if sys.stderr is self:
            sys.stderr = self._stream
        self._ending = True
        self._thread.join(1)

    def drain(self) -> bool:
        """Wait for a moment until all is written, and tell whether it is."""
        deadline = time.monotonic() + _PATIENCE
        while self._waiting or self._busy:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL / 5)
        return True

    # --- the thread ---------------------------------------------------------------------------------

    def _write_waiting(self) -> None:
        while True:
            self._busy = True  # before a text is taken: `drain` looks at both
            while self._waiting:
                text = self._waiting.popleft()
                if text is None:
                    self._draw("\n")
                    self._bar = False
                else:
                    self._write_through(self._erase() + text)
                    self._fresh = text.endswith("\n")
                if self._lost and not self._waiting:
                    lost, self._lost = self._lost, 0
                    self._write_through(f"[{lost} messages were not shown: the terminal took none]\n")
            if self._bar and self._fresh and time.monotonic() >= self._next:
                self._next = time.monotonic() + _DRAW_SECONDS
                self._draw()
            self._busy = False
            if self._ending and not self._waiting:
                return
            time.sleep(_POLL)

    def _draw(self, end: str = "") -> None:
        if not self._bar:
            return
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns or None
        except (OSError, ValueError):
            columns = None
        took = time.monotonic() - self._began
        plain = not str(getattr(self._stream, "encoding", None)).lower().startswith("utf")
        line = tqdm.format_meter(
            round(self._done, 2), self._total, took, unit="s", unit_scale=True, ascii=plain,
            ncols=columns and columns - 1,
        )  # fmt: skip
        self._write_through(self._erase() + line + end)
        self._drawn = line

    def _erase(self) -> str:
        """Return what takes the bar off the screen."""
        drawn, self._drawn = self._drawn, ""
        return f"\r{' ' * len(drawn)}\r" if drawn else ""

    def _write_through(self, text: str) -> None:
        """Write, around the stream's buffer: a lock that this thread held would end the program badly."""
        stream = self._stream
        buffer = getattr(stream, "buffer", None)
        try:
            if buffer is None:
                stream.write(text)
                return
            raw = getattr(buffer, "raw", buffer)
            encoding = getattr(stream, "encoding", None) or "utf-8"
            data = memoryview(text.encode(encoding, "backslashreplace"))
            while data:
                count = raw.write(data)
                if count is None:  # it would have to wait
                    time.sleep(_POLL)
                else:
                    data = data[count:]
        except (OSError, ValueError):  # the terminal is gone, or the stream closed: the log has it
            return


@contextlib.contextmanager
def _without_quick_edit() -> Iterator[None]:
    """Keep a click into the window of Windows' console from stopping all that writes to it."""
    if sys.platform != "win32":
        yield
        return
    system, before = ctypes.windll.kernel32, ctypes.c_uint32()
    console = ctypes.c_void_p(system.GetStdHandle(-10))
    changed = system.GetConsoleMode(console, ctypes.byref(before)) and system.SetConsoleMode(
        console, (before.value & ~_QUICK_EDIT) | _EXTENDED
    )
    try:
        yield
    finally:
        if changed:
            system.SetConsoleMode(console, before.value | _EXTENDED)
