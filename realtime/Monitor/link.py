"""The monitor's end of the feed: reads what the running session publishes, and asks it what browsers want."""

import json
import logging
import threading
import time
from collections import deque

from sleep_interpreter.realtime.Control.control_server import FILE, Client
from sleep_interpreter.utils.core.errors import UserError

logger = logging.getLogger(__name__)

_AGAIN = 1.0
_MOST = 60
"""Lines kept for a browser that is slow."""


class BrowserQueue:
    """One browser's queue; the oldest lines are dropped."""

    def __init__(self, wake):
        self._lines, self._wake = deque(maxlen=_MOST), wake

    def put(self, line):
        """Add a line."""
        self._lines.append(line)
        self._wake()

    def take(self):
        """Return the lines that wait."""
        found = []
        while self._lines:
            found.append(self._lines.popleft())
        return found


class SessionFeed:
    """Keeps a connection to a session as long as it runs.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    connected : bool
    state : dict | None
        The newest state.
    """

    def __init__(self, folder):
        self._folder = folder
        self._readers, self._lock = [], threading.Lock()
        self.connected, self.state, self.seen = False, None, 0.0
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    def add(self, reader):
        """Give a reader every line from now on, the newest state first."""
        with self._lock:
            self._readers.append(reader)
        if self.state is not None:
            reader.put(json.dumps({"kind": "state", "payload": self.state}))
        reader.put(self._link_line())

    def remove(self, reader):
        """No more lines for it."""
        with self._lock:
            self._readers.remove(reader)

    def ask(self, command, args, origin):
        """Ask the session, and return its answer."""
        return Client(self._folder, origin).ask(command, **args)

    def _run(self):
        while True:
            try:
                self._follow()
            except (OSError, ValueError, UserError) as error:
                logger.debug("feed: %s", error)
            if self.connected:
                self.connected = False
                self._tell(self._link_line())
            time.sleep(_AGAIN)

    def _follow(self):
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
            self._tell(self._link_line())
            for line in lines:
                self.seen = time.monotonic()
                if line.startswith(b'{"kind": "state"'):
                    self.state = json.loads(line)["payload"]
                self._tell(line.decode().rstrip("\n"))

    def _link_line(self):
        return json.dumps({"kind": "link", "payload": {"connected": self.connected}})

    def _tell(self, line):
        with self._lock:
            readers = list(self._readers)
        for reader in readers:
            reader.put(line)
