"""The wish to end: Ctrl-C and the termination signal, turned into an orderly end.

Before a session has written anything, the first signal ends the program at once. From then on it is only
noted: the loop ends, the log is closed and the report written; further signals change nothing.
"""

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def end_process(process: subprocess.Popen) -> None:
    """End a process, with force where it must be."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


class StoppedError(KeyboardInterrupt):
    """A signal came before the session began; no part of the program may swallow it."""


class StopRequest:
    """Whether the session is to be ended: by the first `signal` that came, or because the operator has `asked`."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.asked = False
        self._deferred = False

    def requested(self) -> bool:
        """Tell whether a signal, or the operator's command, has come."""
        return self.signal is not None or self.asked

    def ask(self) -> None:
        """End the session in order: the operator's command."""
        self.asked = True

    @property
    def ending(self) -> str:
        """What the log says: "interrupted" (Ctrl-C), "terminated" (SIGTERM) or "stopped" (command)."""
        return "stopped" if self.signal is None else _ENDINGS[self.signal]

    @property
    def by(self) -> str:
        """The signal in words, for the screen."""
        if self.signal is None:
            return "the operator"
        return "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name

    @property
    def code(self) -> int:
        """Exit code of the process: 130 after Ctrl-C, 143 after SIGTERM, 0 without a signal."""
        return 0 if self.signal is None else 128 + self.signal

    def defer(self) -> None:
        """From now on only note signals: there are files to be completed."""
        self._deferred = True

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Take the signals in; outside the main thread Python delivers none, so nothing is done there."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in _ENDINGS}
        for name in ("SIGHUP", "SIGTSTP"):  # a closed terminal, a dropped ssh, Ctrl-Z: the night goes on
            if hasattr(signal, name):
                number = getattr(signal, name)
                before[number] = signal.signal(number, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # A handler may run between any two steps of the program: it takes no lock and writes nothing.
        if self.signal is None:
            self.signal = signal.Signals(number)
            if not self._deferred:
                raise StoppedError
