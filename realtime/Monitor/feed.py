"""The monitor's end of the feed: reads what the running session publishes, and asks it what browsers want."""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sleep_interpreter.realtime.Control.control_server import FILE, Client
from sleep_interpreter.utils.core.errors import UserError

logger = logging.getLogger(__name__)

_RECONNECT_SECONDS = 1.0
_MOST_LINES = 60
"""Lines kept for a browser that is slow."""


class BrowserQueue:
    """What one browser has not got yet; the oldest lines are dropped."""

    def __init__(self, wake: Callable[[], Any]) -> None:
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._wake = wake

    def put(self, line: str) -> None:
        """Add a line."""
        self._lines.append(line)
        self._wake()

    def take(self) -> list[str]:
        """Return the lines that wait."""
        return [self._lines.popleft() for _ in range(len(self._lines))]


class SessionFeed:
    """Keeps a connection to the session in a folder as long as it runs, and its newest `state`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._browsers: list[BrowserQueue] = []
        self._lock = threading.Lock()
        self.connected, self.state = False, None
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    def add(self, browser: BrowserQueue) -> None:
        """Give a browser every line from now on, the newest state first."""
        with self._lock:
            self._browsers.append(browser)
        if self.state is not None:
            browser.put(json.dumps({"kind": "state", "payload": self.state}))
        browser.put(self._connection_line())

    def remove(self, browser: BrowserQueue) -> None:
        """No more lines for it."""
        with self._lock:
            self._browsers.remove(browser)

    def ask(self, command: str, args: dict[str, Any], origin: str) -> dict[str, Any]:
        """Ask the session, and return its answer."""
        return Client(self._folder, origin).ask(command, **args)

    def _run(self) -> None:
        while True:
            try:
                self._read_feed()
            except (OSError, ValueError, UserError) as error:
                logger.debug("feed: %s", error)
            if self.connected:
                self.connected = False
                self._send_all(self._connection_line())
            time.sleep(_RECONNECT_SECONDS)

    def _read_feed(self) -> None:
        if not (self._folder / FILE).is_file():
            return
        client = Client(self._folder, "monitor")
        with client.connect() as link:
            link.settimeout(5)
            link.sendall(client.request("subscribe"))
            lines = link.makefile("rb")
            answer = json.loads(lines.readline() or "{}")
            if not answer.get("ok"):
                raise ValueError(f"subscribing was refused: {answer}")
            self.connected = True
            self._send_all(self._connection_line())
            for line in lines:
                if line.startswith(b'{"kind": "state"'):
                    self.state = json.loads(line)["payload"]
                self._send_all(line.decode().rstrip("\n"))

    def _connection_line(self) -> str:
        return json.dumps({"kind": "link", "payload": {"connected": self.connected}})

    def _send_all(self, line: str) -> None:
        with self._lock:
            browsers = list(self._browsers)
        for browser in browsers:
            browser.put(line)
