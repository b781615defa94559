"""The monitor's server: one page, its data, and the operator's commands; on this machine alone.

Every request but the page's own files needs a token: the one for control, or the one that may only look. A
token that is wrong, a page from elsewhere, or another host's name gets 403.
"""

import asyncio
import hmac
import json
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from sleep_interpreter.realtime.Control.control_server import FILE, Client
from sleep_interpreter.realtime.Monitor.history import SessionHistory, SignalReader, list_sessions
from sleep_interpreter.realtime.Utils.json_lines import RateLimit
from sleep_interpreter.utils.core.errors import UserError

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_COMMANDS = ("pause", "resume", "volume", "mark", "group", "accept", "stop")
_PER_SECOND = 8
_RECONNECT_SECONDS = 1.0
_MOST_LINES = 60
"""Lines kept for a browser."""
_HEADERS = {
    # nothing is loaded from elsewhere, and no other page may frame this one
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self' ws://127.0.0.1:* ws://localhost:*; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_REPORT_HEADERS = {
    **_HEADERS,
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
}


class Access:
    """Who may do what: with the secret `token` everything, with `view_token` look only."""

    def __init__(self, token: str, view_token: str) -> None:
        self._tokens = {"control": token.encode(), "view": view_token.encode()}
        self.commands = RateLimit(_PER_SECOND)

    def rights(self, token: str | None) -> str | None:
        """Return "control", "view" or None."""
        given = (token or "").encode()
        return next((name for name, own in self._tokens.items() if hmac.compare_digest(given, own)), None)

    @staticmethod
    def from_here(headers: Mapping[str, str]) -> bool:
        """Tell whether a request names this machine, and comes from this server's own page if from any."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if host.rpartition(":")[0] not in ("127.0.0.1", "localhost"):
            return False
        return origin is None or origin == f"http://{host}"


class SessionFeed:
    """Keeps a connection to the session in a folder as long as it runs, and its newest `state`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._browsers: list[Callable[[str], None]] = []
        self._lock = threading.Lock()
        self.connected, self.state = False, None
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    def add(self, browser: Callable[[str], None]) -> None:
        """Call `browser` with every line from now on, the newest state first; it must not wait."""
        with self._lock:
            self._browsers.append(browser)
        if self.state is not None:
            browser(json.dumps({"kind": "state", "payload": self.state}))
        browser(self._connection_line())

    def remove(self, browser: Callable[[str], None]) -> None:
        """No more lines for it."""
        with self._lock:
            self._browsers.remove(browser)

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
            lines = client.subscribe(link)
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
            browser(line)


class _Refusal(Exception):  # noqa: N818
    """Status and text of an answer."""


class _OpenSession:
    def __init__(self, folder: Path) -> None:
        self.folder, self.history, self.feed = folder, SessionHistory(folder), SessionFeed(folder)
        self.signals = SignalReader(self.history)


def make_app(root: Path, access: Access, first: tuple[str, str] | None = None) -> FastAPI:
    """Return the server of subjects' sessions below `root`; the start page leads to the subject and session `first`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    opened: dict[tuple[str, str], _OpenSession] = {}

    def find(subject: str, name: str) -> _OpenSession | None:
        if not (_NAME.fullmatch(subject) and _NAME.fullmatch(name)):
            return None
        folder = root / subject / name
        if not (folder / "session.json").is_file():
            return None
        if (subject, name) not in opened:
            opened[subject, name] = _OpenSession(folder)
        return opened[subject, name]

    def require(subject: str, name: str) -> _OpenSession:
        if (session := find(subject, name)) is None:
            raise _Refusal(404, "no such session")
        return session

    @app.exception_handler(_Refusal)
    async def refuse(request: Request, refusal: _Refusal) -> JSONResponse:
        status, text = refusal.args
        return JSONResponse({"error": text}, status)

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Any:
        if not access.from_here(request.headers):
            return JSONResponse({"error": "this page is for this machine only"}, 403, _HEADERS)
        if request.url.path.startswith("/api/"):
            request.state.rights = access.rights(request.headers.get("x-token"))
            if request.state.rights is None:
                text = "a token is needed; open the address that the monitor printed"
                return JSONResponse({"error": text}, 403, _HEADERS)
        response = await call_next(request)
        for key, value in _HEADERS.items():
            response.headers.setdefault(key, value)
        return response

    @app.get("/")
    async def index() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=_HEADERS)

    @app.get("/session/{subject}/{name}", response_model=None)
    async def page(subject: str, name: str) -> FileResponse | HTMLResponse:
        if find(subject, name) is None:
            return HTMLResponse("<h1>No such session</h1>", 404, _HEADERS)
        return FileResponse(STATIC / "session.html", headers=_HEADERS)

    @app.get("/api/sessions")
    def listed(request: Request) -> dict[str, Any]:
        return {"sessions": list_sessions(root), "first": first, "rights": request.state.rights}

    @app.get("/api/{subject}/{name}/history")
    def history(request: Request, subject: str, name: str) -> dict[str, Any]:
        session = require(subject, name)
        about = session.history.about()
        return {
            **session.history.content(),
            "rights": request.state.rights,
            "running": session.feed.connected,
            **{key: about.get(key) for key in ("ending", "started", "simulated")},
            "channels": about.get("channels", []),
            "report": (session.folder / "report.html").is_file(),
        }

    @app.get("/api/{subject}/{name}/signals")
    def signals(subject: str, name: str, start: float, seconds: float) -> dict[str, Any]:
        session = require(subject, name)
        if not 0 <= start < 1e6 or not 0 < seconds <= 60:
            raise _Refusal(404, "no such stretch")
        try:
            return session.signals.read(start, seconds)
        except (OSError, ValueError) as error:
            raise _Refusal(404, str(error)) from error

    @app.get("/api/{subject}/{name}/spectrogram")
    def spectrogram(subject: str, name: str) -> dict[str, Any]:
        session = require(subject, name)
        session.history.update()
        try:
            return session.signals.spectrogram(session.history.last)
        except (OSError, ValueError) as error:
            raise _Refusal(404, str(error)) from error

    @app.get("/report/{subject}/{name}", response_model=None)
    def report(subject: str, name: str, token: str = "") -> FileResponse | HTMLResponse:
        if access.rights(token) is None:
            return HTMLResponse("<h1>A token is needed</h1>", 403, _HEADERS)
        session = find(subject, name)
        path = None if session is None else session.folder / "report.html"
        if path is None or not path.is_file():
            return HTMLResponse("<h1>No report yet</h1>", 404, _HEADERS)
        return FileResponse(path, headers=_REPORT_HEADERS)

    @app.post("/api/{subject}/{name}/command")
    async def command(request: Request, subject: str, name: str) -> JSONResponse:
        if request.state.rights != "control":
            raise _Refusal(403, "this page may only look")
        if not access.commands.allows():
            raise _Refusal(429, "too many commands")
        session = require(subject, name)
        try:
            content = json.loads(await request.body())
            word, args = content["command"], content.get("args", {})
        except (ValueError, KeyError, TypeError):
            raise _Refusal(400, "expected {command, args}") from None
        if word not in _COMMANDS or not isinstance(args, dict):
            raise _Refusal(400, f"there are {', '.join(_COMMANDS)}")
        try:
            answer = await asyncio.to_thread(lambda: Client(session.folder, "monitor").ask(word, **args))
        except (OSError, ValueError) as error:
            return JSONResponse({"ok": False, "error": str(error)}, 503)
        return JSONResponse(answer, 200 if answer.get("ok") else 409)

    @app.websocket("/feed/{subject}/{name}")
    async def feed(socket: WebSocket, subject: str, name: str) -> None:
        session = find(subject, name)
        if session is None or not access.from_here(socket.headers):
            await socket.close(4403)
            return
        await socket.accept()
        try:
            token = await asyncio.wait_for(socket.receive_text(), 5)
        except Exception:  # it went away, or says nothing
            token = None
        if access.rights(token) is None:
            await socket.close(4403)
            return
        await _relay(socket, session.feed)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


async def _relay(socket: WebSocket, feed: SessionFeed) -> None:
    """Give a browser the feed until it goes."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    waiting: deque[str] = deque(maxlen=_MOST_LINES)  # of a slow browser the oldest lines are dropped

    def put(line: str) -> None:
        waiting.append(line)
        loop.call_soon_threadsafe(news.set)

    feed.add(put)
    gone = asyncio.create_task(socket.receive())
    try:
        while not gone.done():
            wait = asyncio.create_task(news.wait())
            await asyncio.wait({wait, gone}, return_when=asyncio.FIRST_COMPLETED)
            wait.cancel()
            news.clear()
            while waiting:
                await socket.send_text(waiting.popleft())
    except Exception as error:  # a browser that goes away in the middle of a line
        logger.debug("feed of a browser: %s", error)
    finally:
        gone.cancel()
        feed.remove(put)
