"""A reader of what a session publishes: a bounded queue, from which the oldest is dropped."""

import contextlib
import logging
import select
import socket
import threading
from collections import deque

logger = logging.getLogger(__name__)

_MOST = 100
"""Lines that wait for a slow reader: about eight seconds of signal and state."""
_BUFFER = 128 * 1024
"""Bytes that the system may hold back for it: old news is no news."""


class Feed:
    """One reader on a socket.

    Parameters
    ----------
    link : socket.socket

    Attributes
    ----------
    dropped : int
        Lines that the reader was too slow for.
    """

    def __init__(self, link):
        self._link = link
        with contextlib.suppress(OSError):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._lines = deque(maxlen=_MOST)
        self._news = threading.Condition()
        self._closed = False
        self.dropped = 0

    def put(self, line):
        """Give it a line of bytes; the oldest is dropped when too many wait."""
        with self._news:
            self.dropped += len(self._lines) == _MOST
            self._lines.append(line)
            self._news.notify()

    def run(self):
        """Send lines until the reader goes, does not read for 30 s, or `close` is called.

        Raises
        ------
        OSError
            The reader is gone.
        """
        while True:
            with self._news:
                self._news.wait_for(lambda: self._lines or self._closed, timeout=1.0)
                # one at a time, so that what waits stays bounded by the queue
                line = self._lines.popleft() if self._lines else None
                if line is None and self._closed:
                    return
            if line is not None:
                self._link.settimeout(30)
                self._link.sendall(line)
            elif self._gone():
                return

    def close(self):
        """End it as soon as what waits has been sent."""
        with self._news:
            self._closed = True
            self._news.notify()

    def _gone(self):
        readable, _, _ = select.select([self._link], [], [], 0)
        return bool(readable) and not self._link.recv(4096)
