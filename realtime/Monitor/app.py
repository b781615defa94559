"""The monitor's server: one page, its data, and the operator's commands; on this machine alone.

Every request but the page's own files needs a token (realtime/Monitor/access.py) of the session that it asks of. A
token that is wrong, a page from elsewhere, or another host's name gets 403; what a session's files do not hold, or
not as a session writes it, 404; a request that is not understood 400.
"""

import asyncio
import html
import json
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from sleep_interpreter.realtime.Control.control_server import FILE, Client
from sleep_interpreter.realtime.Control.request import checked_args
from sleep_interpreter.realtime.Monitor.access import Access, Session, from_here
from sleep_interpreter.realtime.Monitor.history import SessionHistory, SignalReader, has_report, list_sessions
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import inside, own_folder
from sleep_interpreter.utils.core.provenance import parse_json

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_COMMANDS = ("pause", "resume", "volume", "mark", "group", "accept", "stop")
_RECONNECT_SECONDS = 1.0
_SILENT_SECONDS = 5.0
"""After which a session that says nothing is asked anew: it publishes several times a second."""
_MOST_LINES = 60
"""Lines kept for a browser."""
_MOST_BROWSERS, _MOST_OPEN = 24, 32
"""Feeds at a time, each of which may cost a thread; sessions of which something is kept."""
_LONGEST_BODY, _BODY_SECONDS = 16 * 1024, 5.0
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
_NO_TELEMETRY: Any = {
    "auto_configure": False, "tracing": False, "metrics": False, "logs": False, "operation_spans": False,
}  # fmt: skip
"""Of FastAPI's newer releases; older ones take the word and do nothing with it."""


class SessionFeed:
    """Keeps a connection to the session in a folder while it runs and a browser looks, and its newest `state`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._browsers: list[Callable[[str], None]] = []
        self._lock = threading.Lock()
        self._reads = False
        self.connected, self.state = False, None

    @property
    def watched(self) -> bool:
        """Whether a browser looks."""
        return bool(self._browsers)

    def add(self, browser: Callable[[str], None]) -> None:
        """Call `browser` with every line from now on, the newest state first; it must not wait."""
        with self._lock:
            self._browsers.append(browser)
            if not self._reads:
                self._reads = True
                threading.Thread(target=self._run, name="feed", daemon=True).start()
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
            except (OSError, ValueError) as error:
                logger.debug("feed: %s", error)
            if self.connected:
                self.connected = False
                self._send_all(self._connection_line())
            with self._lock:
                if not self._browsers:
                    self._reads, self.state = False, None
                    return
            time.sleep(_RECONNECT_SECONDS)

    def _read_feed(self) -> None:
        if not (self._folder / FILE).is_file():
            return
        client = Client(self._folder, "monitor")
        with client.connect() as link:
            lines = client.subscribe(link, _SILENT_SECONDS)
            self.connected = True
            self._send_all(self._connection_line())
            for line in lines:
                if line.startswith(b'{"kind": "state"'):
                    self.state = parse_json(line)["payload"]
                self._send_all(line.decode())
                if not self._browsers:
                    return

    def _connection_line(self) -> str:
        return json.dumps({"kind": "link", "payload": {"connected": self.connected}})

    def _send_all(self, line: str) -> None:
        with self._lock:
            browsers = list(self._browsers)
        for browser in browsers:
            browser(line)


class _Json(JSONResponse):
    """An answer in signs that every encoding has; `ValueError` for a number that is not finite."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode()


class _Refusal(Exception):  # noqa: N818
    """Status and text of an answer."""


class _OpenSession:
    def __init__(self, folder: Path) -> None:
        self.folder, self.history, self.feed = own_folder(folder), SessionHistory(folder), SessionFeed(folder)
        self.signals = SignalReader(self.history)


class _Opened:
    """Sessions that somebody looked at, the last ones."""

    def __init__(self, root: Path) -> None:
        self._root, self._lock = root, threading.Lock()
        self._found: dict[Session, _OpenSession] = {}

    def find(self, key: Session) -> _OpenSession:
        """Return a session; `_Refusal` where there is none."""
        folder = self._root / key[0] / key[1]
        if not all(map(_NAME.fullmatch, key)) or not (folder / "session.json").is_file():
            raise _Refusal(404, "no such session")
        with self._lock:
            session = self._found.pop(key, None) or _OpenSession(folder)
            self._found[key] = session  # the newest stands last
            idle = [other for other, own in self._found.items() if other != key and not own.feed.watched]
            for other in idle[: max(0, len(self._found) - _MOST_OPEN)]:
                del self._found[other]
        return session


def make_app(root: Path, access: Access, first: Session | None = None) -> FastAPI:
    """Return the server of subjects' sessions below `root`; the start page leads to the subject and session `first`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry=_NO_TELEMETRY)
    opened, browsers = _Opened(root), [0]

    def admit(request: Request, subject: str, name: str) -> tuple[_OpenSession, str]:
        """Return a session and the rights to it of who asks."""
        if (rights := access.rights(request.headers.get("x-token"), (subject, name))) is None:
            raise _Refusal(403, "a token of this session is needed; open the address that the monitor printed")
        return opened.find((subject, name)), rights

    @app.exception_handler(_Refusal)
    async def refuse(request: Request, refusal: _Refusal) -> _Json:
        status, text = refusal.args
        return _Json({"error": text}, status)

    @app.exception_handler(RequestValidationError)
    async def not_understood(request: Request, error: RequestValidationError) -> _Json:
        return _Json({"error": f"not understood: {error.errors()[0]['loc'][-1]}"}, 400)

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Any:
        if not from_here(request.headers):
            return _Json({"error": "this page is for this machine only"}, 403, _HEADERS)
        try:
            response = await call_next(request)
        except Exception as error:  # files of a session may hold anything
            logger.debug("%s", request.url.path, exc_info=True)
            reason = str(error) if isinstance(error, UserError) else type(error).__name__
            response = _Json({"error": f"the session's files cannot be shown: {reason}"}, 404)
        for key, value in _HEADERS.items():
            response.headers.setdefault(key, value)
        return response

    @app.get("/")
    async def index() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=_HEADERS)

    @app.get("/session/{subject}/{name}")
    async def page(subject: str, name: str) -> FileResponse:
        return FileResponse(STATIC / "session.html", headers=_HEADERS)

    @app.get("/api/sessions")
    def listed(request: Request) -> _Json:
        token = request.headers.get("x-token")
        shown, of_list = [], access.rights(token, None)
        for about in list_sessions(root):
            key = about["subject"], about["session"]
            if all(map(_NAME.fullmatch, key)) and (rights := of_list or access.rights(token, key)):
                report = access.token("report", key) if about["report"] else None
                shown.append({**about, "token": access.token(rights, key), "report": report})
        if of_list is None and not shown:
            raise _Refusal(403, "a token is needed; open the address that the monitor printed")
        return _Json({"sessions": shown, "first": first})

    @app.get("/api/{subject}/{name}/history")
    def history(request: Request, subject: str, name: str) -> _Json:
        session, rights = admit(request, subject, name)
        about = session.history.about()
        derivations = about.get("derivations", {})
        # where the session's clock is that of the day
        live = about.get("pace") == 1 and about.get("source") != "replay"
        return _Json(
            {
                **session.history.content(),
                "rights": rights,
                "running": session.feed.connected,
                **{key: about.get(key) for key in ("ending", "started", "simulated", "dry_run")},
                "channels": [*derivations, *about.get("channels", [])],
                "derivations": derivations,
                "began": about.get("first_sample_at") if live else None,
                "report": access.token("report", (subject, name)) if has_report(session.folder) else None,
            }
        )

    @app.get("/api/{subject}/{name}/signals")
    def signals(request: Request, subject: str, name: str, start: float, seconds: float) -> _Json:
        session, _ = admit(request, subject, name)
        if not 0 <= start < 1e6 or not 0 < seconds <= 60:
            raise _Refusal(404, "no such stretch")
        return _Json(session.signals.read(start, seconds))

    @app.get("/api/{subject}/{name}/spectrogram")
    def spectrogram(request: Request, subject: str, name: str) -> _Json:
        session, _ = admit(request, subject, name)
        session.history.update()
        return _Json(session.signals.spectrogram(session.history.last))

    @app.get("/report/{subject}/{name}", response_model=None)
    def report(subject: str, name: str, token: str = "") -> FileResponse | HTMLResponse:
        if not access.opens_report(token, (subject, name)):
            return HTMLResponse("<h1>Open the report from the session's page</h1>", 403, _HEADERS)
        folder = opened.find((subject, name)).folder
        path = inside(folder, "report.html", "the session")
        if not has_report(folder):
            return HTMLResponse("<h1>No report yet</h1>", 404, _HEADERS)
        if not path.is_file():  # it broke off
            from sleep_interpreter.realtime.Report.night_report import write_night_report  # lazy: start-up

            try:
                write_night_report(folder)
            except (OSError, UserError) as error:
                logger.warning("no report: %s", error)
                return HTMLResponse(f"<h1>No report</h1><p>{html.escape(str(error))}</p>", 404, _HEADERS)
        return FileResponse(path, headers=_REPORT_HEADERS)

    @app.post("/api/{subject}/{name}/command")
    async def command(request: Request, subject: str, name: str) -> _Json:
        session, rights = admit(request, subject, name)
        if rights != "control":
            raise _Refusal(403, "this page may only look")
        if not access.commands.allows():
            raise _Refusal(429, "too many commands")
        try:
            content = parse_json(await asyncio.wait_for(_body(request), _BODY_SECONDS))
            word, args = content["command"], content.get("args", {})
            if word not in _COMMANDS:
                raise ValueError(f"there are {', '.join(_COMMANDS)}")
            args = checked_args(word, args)
        except (ValueError, KeyError, TypeError, AttributeError, TimeoutError) as error:
            raise _Refusal(400, f"expected {{command, args}}: {str(error)[:200]}") from None
        try:
            answer = await asyncio.to_thread(lambda: Client(session.folder, "monitor").ask(word, **args))
        except (OSError, ValueError) as error:
            return _Json({"ok": False, "error": str(error)}, 503)
        return _Json(answer, 200 if answer.get("ok") else 409)

    @app.websocket("/feed/{subject}/{name}")
    async def feed(socket: WebSocket, subject: str, name: str) -> None:
        if browsers[0] >= _MOST_BROWSERS or not from_here(socket.headers):
            await socket.close(4403)
            return
        browsers[0] += 1
        try:
            await socket.accept()
            try:
                token = await asyncio.wait_for(socket.receive_text(), 5)
            except Exception:  # it went away, or says nothing
                token = None
            if access.rights(token, (subject, name)) is None:
                await socket.close(4403)
                return
            try:
                session = opened.find((subject, name))
            except (_Refusal, UserError) as error:
                logger.debug("feed of a browser: %s", error)
                await socket.close(4404)
                return
            await _relay(socket, session.feed)
        finally:
            browsers[0] -= 1

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


async def _body(request: Request) -> bytes:
    """Return what a request holds, `ValueError` where that is too much."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_BODY:
            raise ValueError("too long")
    return body


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
