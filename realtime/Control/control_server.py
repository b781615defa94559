"""Control of a running session from outside: a server on this machine, JSON a line, tokens.

A request is {"token", "command", "args", "origin"}; it is answered when the session has taken it, with
{"ok": true, "sample", "text"} or {"ok": false, "error"}. `subscribe` turns the connection into a feed of
what the session publishes. Where to connect, and the tokens, stand in control.json in the session's folder,
which only its owner may read.

    control = Control(folder, settings.control)        # the session's side
    for request in control.poll():
        request.reply(True, sample=0, text="done")
    control.publish("state", {"sample": 0})
    Client(folder).ask("mark", text="turned over")     # another process
    for message in Client(folder).feed():
        print(message["kind"])

Nothing a client does can hold up the session: requests are checked, limited in number and wait in a bounded
queue, feeds are dropped when their reader is slow, and every connection has a thread of its own. Connections
that show no token within seconds are closed, and make room for others before that when there are many.
"""

import contextlib
import hmac
import json
import logging
import os
import queue
import secrets
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sleep_interpreter.realtime.Control.control_client import Client, arguments_of
from sleep_interpreter.realtime.Control.request import COMMANDS, Request, checked_args, clean
from sleep_interpreter.realtime.Parameters.settings import RemoteControlSettings
from sleep_interpreter.realtime.Utils.json_lines import JsonLineSocket, RateLimit, json_line
from sleep_interpreter.utils.core.errors import UserError

__all__ = ["COMMANDS", "FILE", "Client", "Control", "Request", "arguments_of"]

logger = logging.getLogger(__name__)

FILE = "control.json"
_VIEW = ("status", "subscribe")
_KNOWN, _STRANGERS = 32, 16
"""Connections with and without a token yet."""
_FIRST_SECONDS, _WHOLE_SECONDS, _IDLE_SECONDS = 3.0, 10.0, 3600.0
"""To show a token; to complete a line; between two lines."""
_PER_CONNECTION, _PER_SECOND = 20, {"control": 50, "view": 25}
_AT_ONCE = 20
"""Requests that the session is given at a time."""
_WAIT = 5.0
"""Seconds a client waits for the session to take its request."""
_MOST_LINES = 100
"""Lines that wait for a slow reader of the feed: about eight seconds of signal and state."""
_SEND_BUFFER = 128 * 1024
"""Bytes that the system may hold back for it: old news is no news."""
_LOOPBACK = ("127.", "::1", "localhost")


class Feed:
    """One reader of what a session publishes: a bounded queue, from which the oldest is dropped."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        with contextlib.suppress(OSError):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._lines: deque[bytes] = deque(maxlen=_MOST_LINES)
        self._news = threading.Condition()
        self._closed = False
        self.dropped = 0  # lines that the reader was too slow for

    def put(self, line: bytes) -> None:
        """Give it a line of bytes; the oldest is dropped when too many wait."""
        with self._news:
            self.dropped += len(self._lines) == _MOST_LINES
            self._lines.append(line)
            self._news.notify()

    def run(self) -> None:
        """Send lines until the reader goes (`OSError`), does not read for 30 s, or `close` is called."""
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
            elif select.select([self._link], [], [], 0)[0] and not self._link.recv(4096):
                return  # the reader is gone

    def close(self) -> None:
        """End it as soon as what waits has been sent."""
        with self._news:
            self._closed = True
            self._news.notify()


class Control:
    """Serve control on a socket; where it listens, and its secrets, stand in control.json in the session's folder.

    `token` is for everything, `view_token` for looking only. `UserError` where the port is taken, or control.json
    cannot be written.
    """

    def __init__(self, folder: Path, settings: RemoteControlSettings) -> None:
        self._requests: queue.Queue[Request] = queue.Queue(maxsize=100)
        self._feeds: list[Feed] = []
        self._lock = threading.Lock()
        self._links: dict[socket.socket, bool] = {}  # whether each has shown a token, oldest first
        self._threads: set[threading.Thread] = set()
        self._rates = {rights: RateLimit(most) for rights, most in _PER_SECOND.items()}
        self._closing, self._warned = False, False
        self.token, self.view_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            self._server = socket.create_server((settings.host, settings.port), family=family, backlog=64)
        except OSError as error:
            raise UserError(
                f"control.host = {settings.host!r}, control.port = {settings.port}: {error.strerror or error}"
            ) from error
        self.host, self.port = self._server.getsockname()[:2]
        if not settings.host.startswith(_LOOPBACK):
            logger.warning(
                "control.host = %r: other machines can reach the session's control, and what is sent is not "
                "encrypted", settings.host,
            )  # fmt: skip
        self._path = folder / FILE
        try:
            self._write()
        except OSError as error:
            self._server.close()
            raise UserError(f"{self._path}: cannot be written ({error.strerror or error})") from error
        self._server.settimeout(0.5)
        self._accepting = threading.Thread(target=self._accept, name="control", daemon=True)
        self._accepting.start()

    def poll(self) -> list[Request]:
        """Return the requests since the last call, at most 20 at a time; never waits."""
        found: list[Request] = []
        with contextlib.suppress(queue.Empty):
            while len(found) < _AT_ONCE:
                found.append(self._requests.get_nowait())
        return found

    def put(self, request: Request) -> bool:
        """Add a request from within this process; False when too many are waiting."""
        try:
            self._requests.put_nowait(request)
        except queue.Full:
            return False
        return True

    @property
    def watched(self) -> bool:
        """Whether anybody reads the feed."""
        return bool(self._feeds)

    def publish(self, kind: str, payload: Any) -> None:
        """Give {"kind", "payload"} to every reader; who is slow misses it. Never waits, never raises."""
        if not self._feeds:
            return
        try:
            line = json_line(kind=kind, payload=payload)
        except (TypeError, ValueError) as error:  # a number that JSON has not: readers go without this one
            if not self._warned:
                logger.error("%s cannot be published: %s", kind, error)
            self._warned = True
            return
        with self._lock:
            feeds = list(self._feeds)
        for feed in feeds:
            feed.put(line)

    def close(self) -> None:
        """End the server and all connections, the answers to what was asked first; control.json goes."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._shut([self._server], socket.SHUT_RDWR)  # wakes the thread where the system can
        with contextlib.suppress(OSError):
            self._server.close()
        self._accepting.join(2)
        while waiting := self.poll():
            for request in waiting:
                request.reply(False, error="the session has ended")
        with self._lock:
            feeds, links, threads = list(self._feeds), list(self._links), list(self._threads)
        for feed in feeds:
            feed.close()
        self._shut(links, socket.SHUT_RD)  # who waits for an answer still gets it
        deadline = time.monotonic() + 1.0
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._shut(links, socket.SHUT_RDWR)  # a feed whose reader does not read
        for thread in threads:
            thread.join(1.0)

    # --- the server's threads -----------------------------------------------------------------------

    def _write(self) -> None:
        content = {
            "host": self.host, "port": self.port, "token": self.token, "view_token": self.view_token,
            "pid": os.getpid(), "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        temporary = self._path.with_name(f".{FILE}.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)  # an old one might be readable by others
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file)
        temporary.replace(self._path)

    def _accept(self) -> None:
        while not self._closing:
            try:
                link, _ = self._server.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if self._closing:
                    return
                logger.debug("control: %s", error)  # no file descriptor is free: there will be again
                time.sleep(0.1)
                continue
            with self._lock:
                strangers = [other for other, known in self._links.items() if not known]
                oldest = strangers[: max(0, len(strangers) - _STRANGERS + 1)]
                for other in oldest:  # its thread sees the end and closes it
                    del self._links[other]
                self._links[link] = False
            self._shut(oldest, socket.SHUT_RDWR)
            thread = threading.Thread(target=self._client, args=(link,), name="control client", daemon=True)
            with self._lock:
                self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError as error:  # the system has no thread left
                logger.debug("control: %s", error)
                self._forget(link, thread)

    def _client(self, link: socket.socket) -> None:
        try:
            self._talk(link)
        except (OSError, ValueError) as error:  # who goes away, or talks nonsense, harms itself only
            logger.debug("control client: %s", error)
        finally:
            self._forget(link, threading.current_thread())

    def _forget(self, link: socket.socket, thread: threading.Thread) -> None:
        with self._lock:
            self._links.pop(link, None)
            self._threads.discard(thread)
        link.close()

    def _talk(self, link: socket.socket) -> None:
        lines, own, rights = JsonLineSocket(link), RateLimit(_PER_CONNECTION), None
        while True:
            patience = (_FIRST_SECONDS, _FIRST_SECONDS) if rights is None else (_IDLE_SECONDS, _WHOLE_SECONDS)
            if (line := lines.read_line(*patience)) is None:
                return
            if not own.allows():
                lines.send(ok=False, error="too many requests")
                return
            try:
                request, token = _parsed(line)
                rights = self._rights(token)
                if rights is None or not self._admit(link):
                    lines.send(ok=False, error="token" if rights is None else "too many connections")
                    return
            except ValueError as error:
                lines.send(ok=False, error=str(error))
                return
            if request.get("command") == "subscribe":
                lines.send(ok=True, text="subscribed", rights=rights)
                self._feed(link)
                return
            lines.send(**self._ask(request, rights))

    def _rights(self, token: bytes) -> str | None:
        """Return "control", "view" or None; comparing takes as long for a wrong token as for a right one."""
        whole = hmac.compare_digest(token, self.token.encode())
        view = hmac.compare_digest(token, self.view_token.encode())
        return "control" if whole else "view" if view else None

    def _admit(self, link: socket.socket) -> bool:
        """Count a connection among those that have shown a token; False when there are too many."""
        with self._lock:
            if link not in self._links or (not self._links[link] and sum(self._links.values()) >= _KNOWN):
                return False
            self._links[link] = True
            return True

    def _ask(self, request: dict[str, Any], rights: str) -> dict[str, Any]:
        """Return the session's answer."""
        command = request.get("command")
        if rights == "view" and command in COMMANDS and command not in _VIEW:
            return {"ok": False, "error": "this token may only look"}
        try:
            args = checked_args(command, request.get("args") or {})
        except ValueError as error:
            return {"ok": False, "error": str(error)}
        if not self._rates[rights].allows():
            return {"ok": False, "error": "too many requests: try again in a second"}
        origin = request.get("origin")
        origin = clean(origin, 40) if isinstance(origin, str) else ""
        answers: queue.Queue[dict[str, Any]] = queue.Queue()
        asked = Request(str(command), args, origin or "socket", lambda ok, **more: answers.put({"ok": ok, **more}))
        if self._closing or not self.put(asked):
            return {"ok": False, "error": "the session is busy or ends"}
        try:
            return answers.get(timeout=_WAIT)
        except queue.Empty:
            return {"ok": False, "error": f"no answer within {_WAIT:g} s; it may still be carried out"}

    def _feed(self, link: socket.socket) -> None:
        feed = Feed(link)
        with self._lock:
            self._feeds.append(feed)
        try:
            if not self._closing:
                feed.run()
        finally:
            with self._lock:
                self._feeds.remove(feed)

    @staticmethod
    def _shut(links: Iterable[socket.socket], how: int) -> None:
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(how)


def _parsed(line: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the request and its token (bytes) of a line; `ValueError` where it is no JSON object with a token."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None
    if not isinstance(request, dict):
        raise ValueError("expected an object")
    token = request.get("token")
    if not isinstance(token, str):
        raise ValueError("token")
    return request, token.encode("utf-8", "replace")
