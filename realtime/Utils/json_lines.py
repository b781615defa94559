"""Lines of JSON on a socket, with limits of length, time and number."""

import json
import socket
import threading
import time
from typing import Any

LONGEST = 16 * 1024
"""Bytes of a request: a mark's text of 500 characters, each written as two escapes, and room to spare."""


class JsonLineSocket:
    """Lines of JSON to and from a socket whose other end may do what it likes."""

    def __init__(self, link: socket.socket) -> None:
        self._link, self._rest = link, b""

    def read_line(self, begins: float, whole: float, longest: int = LONGEST) -> bytes | None:
        """Return the next line; None when the other end has gone or took too long.

        Something must come within `begins` seconds, and the line be complete within `whole` seconds from then on; one
        of more than `longest` bytes is a `ValueError`.
        """
        deadline = time.monotonic() + (whole if self._rest else begins)
        while b"\n" not in self._rest:
            if len(self._rest) > longest:
                self.send(ok=False, error="the line is too long")
                raise ValueError("a line that is too long")
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._link.settimeout(left)
            try:
                part = self._link.recv(min(longest, 65536) // 4)
            except TimeoutError:
                return None
            if not part:
                return None
            if not self._rest:
                deadline = min(deadline, time.monotonic() + whole) if whole < begins else deadline
            self._rest += part
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    def send(self, **content: Any) -> None:
        """Send a line; at most 5 s are waited for a reader. `OSError`: the other end has gone or does not read;
        `TypeError`, `ValueError`: as `json_line`."""
        self._link.settimeout(5.0)
        self._link.sendall(json_line(**content))


class RateLimit:
    """Allow `most` a second."""

    def __init__(self, most: int) -> None:
        self._most, self._left, self._last = most, float(most), time.monotonic()
        self._lock = threading.Lock()

    def allows(self) -> bool:
        """Count one, and tell whether it is allowed."""
        with self._lock:
            now = time.monotonic()
            self._left = min(float(self._most), self._left + (now - self._last) * self._most)
            self._last = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


def json_line(**content: Any) -> bytes:
    """Return a line of JSON; `TypeError` or `ValueError`: it has no words for an object, or a number that is not
    finite."""
    return (json.dumps(content, allow_nan=False) + "\n").encode()
