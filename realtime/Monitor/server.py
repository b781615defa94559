"""Starts the monitor: in this process (the script), or in one of its own beside a session."""

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sleep_interpreter.realtime.Control.control_client import Client
from sleep_interpreter.realtime.Monitor.access import Access
from sleep_interpreter.realtime.Utils.stop_request import end_process
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import own_folder
from sleep_interpreter.utils.core.paths import ROOT

logger = logging.getLogger(__name__)

_MOST_CONNECTIONS = 100
_LONGEST_HEADER, _LONGEST_FRAME = 16 * 1024, 4096
"""Bytes of a request's header, and of what a browser may send to the feed: a token."""


def serve(path: Path, port: int = 0, announce: Callable[[str, str], Any] | None = None) -> None:
    """Serve the monitor of one session's folder, or of one that holds subjects' sessions, until it is stopped.

    Port 0 is any that is free; `announce(url, view_url)` is called when it is reachable. A `UserError` says that the
    packages are not installed, that there is no session, or that the port is taken.
    """
    try:
        import uvicorn  # lazy: optional dependency

        from sleep_interpreter.realtime.Monitor.app import make_app  # lazy: optional dependency
        from sleep_interpreter.realtime.Monitor.connection import LimitedConnection  # lazy: optional dependency
    except ImportError as error:
        raise UserError(f"the monitor needs {error.name}: pip install -e '.[monitor]'") from error
    path = Path(path).resolve()
    root, first = path, None
    if (path / "session.json").is_file():
        root, first = path.parents[1], (path.parent.name, path.name)
    if first is None and not any(path.glob("*/session_*/session.json")):
        raise UserError(f"{path}: no session is there")
    access = Access({} if first is None else {first: _running(own_folder(path))})
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror or error}") from error
    port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/" + ("" if first is None else f"session/{first[0]}/{first[1]}")
    if announce is not None:
        announce(*(f"{url}#{access.token(right, first)}" for right in ("control", "view")))
    config = uvicorn.Config(
        make_app(root, access, first), log_level="warning", ws_ping_interval=20, timeout_graceful_shutdown=1,
        http=LimitedConnection, limit_concurrency=_MOST_CONNECTIONS, h11_max_incomplete_event_size=_LONGEST_HEADER,
        ws_max_size=_LONGEST_FRAME, ws_max_queue=4, ws_per_message_deflate=False,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


def _running(folder: Path) -> dict[str, str]:
    """Return the tokens of a session that runs: a monitor that is started again knows the same ones. {} of others."""
    try:
        client = Client(folder, "monitor")
    except UserError:
        return {}
    return {"control": client.token, "view": client.view_token} if client.runs() else {}


class MonitorProcess:
    """A monitor in a process of its own; where it does not start, the session goes on without. `url` and `view_url`
    are None until it is reachable."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.url: str | None = None
        self.view_url: str | None = None
        self._settled = threading.Event()
        self.process: Any = subprocess.Popen(
            [sys.executable, str(ROOT / "realtime" / "monitor.py"), str(folder), "--port", str(port), "--quiet"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,  # Ctrl-C is for the session; it ends the monitor itself
        )  # fmt: skip
        threading.Thread(target=self._listen, name="monitor", daemon=True).start()

    def wait(self, seconds: float = 30) -> str | None:
        """Wait until it is reachable or has failed; return the address or None."""
        self._settled.wait(seconds)
        return self.url

    def close(self) -> None:
        """End it."""
        end_process(self.process)

    def _listen(self) -> None:
        with self.process.stdout, self.process.stderr:
            url, view_url = (self.process.stdout.readline().strip() for _ in range(2))
            if url and view_url:
                self.url, self.view_url = url, view_url
                logger.info("monitor: %s", url)
                logger.info("to look only: %s", view_url)
            self._settled.set()
            errors = self.process.stderr.read().strip()  # until it ends
            if self.url is None:
                logger.error("the monitor did not start: %s", errors[-300:])
            elif self.process.wait() not in (0, -15, 130, 143):
                logger.error(
                    "the monitor ended (%s); start it again with: python realtime/monitor.py SESSION",
                    self.process.returncode,
                )
