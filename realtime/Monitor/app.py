"""The monitor's server: one page, its data, and the operator's commands; on this machine alone.

Every request but the page's own files needs a token: the one for control, or the one that may only look. A
token that is wrong, a page from elsewhere, or another host's name gets 403.
"""

import asyncio
import hmac
import json
import logging
import re
import time
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from sleep_interpreter.realtime.Monitor.history import SessionHistory, SignalReader, list_sessions
from sleep_interpreter.realtime.Monitor.link import BrowserQueue, SessionFeed
from sleep_interpreter.utils.core.errors import UserError

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_COMMANDS = ("pause", "resume", "volume", "mark", "group", "stop")
_PER_SECOND = 8
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
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'none'",
}


class Access:
    """Who may do what.

    Parameters
    ----------
    token, view_token : str
    """

    def __init__(self, token, view_token):
        self._token, self._view = token, view_token
        self._recent = []

    def rights(self, token):
        """Return "control", "view" or None."""
        token = token or ""
        if hmac.compare_digest(token.encode(), self._token.encode()):
            return "control"
        return "view" if hmac.compare_digest(token.encode(), self._view.encode()) else None

    def too_many(self):
        """Tell whether commands come faster than a person gives them."""
        now = time.monotonic()
        self._recent = [t for t in self._recent if now - t < 1] + [now]
        return len(self._recent) > _PER_SECOND

    @staticmethod
    def from_here(headers):
        """Tell whether a request names this machine, and comes from this server's own page if from any."""
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in ("127.0.0.1", "localhost"):
            return False
        origin = headers.get("origin")
        return origin is None or origin == f"http://{host}"


def make_app(root, access, first=None):
    """Return the server.

    Parameters
    ----------
    root : Path
        Folder of subjects' sessions.
    access : Access
    first : (str, str) | None
        Subject and session that the start page leads to.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    open_sessions = {}

    def session(subject, name):
        if not (_NAME.fullmatch(subject) and _NAME.fullmatch(name)):
            return None
        folder = root / subject / name
        if not (folder / "session.json").is_file():
            return None
        if (subject, name) not in open_sessions:
            history = SessionHistory(folder)
            open_sessions[subject, name] = history, SignalReader(history), SessionFeed(folder)
        return open_sessions[subject, name]

    @app.middleware("http")
    async def guard(request: Request, call_next):
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
    async def index():
        return FileResponse(STATIC / "index.html", headers=_HEADERS)

    @app.get("/session/{subject}/{name}")
    async def page(subject: str, name: str):
        if session(subject, name) is None:
            return HTMLResponse("<h1>No such session</h1>", 404, _HEADERS)
        return FileResponse(STATIC / "session.html", headers=_HEADERS)

    @app.get("/api/sessions")
    def listed(request: Request):
        return {"sessions": list_sessions(root), "first": first, "rights": request.state.rights}

    @app.get("/api/{subject}/{name}/history")
    def history(request: Request, subject: str, name: str):
        found = session(subject, name)
        if found is None:
            return JSONResponse({"error": "no such session"}, 404)
        history, _, link = found
        about = history.about()
        return {
            **history.content(),
            "rights": request.state.rights,
            "running": link.connected,
            "ending": about.get("ending"),
            "started": about.get("started"),
            "simulated": about.get("simulated"),
            "channels": about.get("channels", []),
            "report": (history.folder / "report.html").is_file(),
        }

    @app.get("/api/{subject}/{name}/signals")
    def signals(subject: str, name: str, start: float, seconds: float):
        found = session(subject, name)
        if found is None or not 0 <= start < 1e6 or not 0 < seconds <= 60:
            return JSONResponse({"error": "no such stretch"}, 404)
        try:
            return found[1].read(start, seconds)
        except (OSError, ValueError, UserError) as error:
            return JSONResponse({"error": str(error)}, 404)

    @app.get("/api/{subject}/{name}/spectrogram")
    def spectrogram(subject: str, name: str):
        found = session(subject, name)
        if found is None:
            return JSONResponse({"error": "no such session"}, 404)
        found[0].update()
        try:
            return found[1].spectrogram(found[0].last)
        except (OSError, ValueError, UserError) as error:
            return JSONResponse({"error": str(error)}, 404)

    @app.get("/report/{subject}/{name}")
    def report(subject: str, name: str, token: str = ""):
        if access.rights(token) is None:
            return HTMLResponse("<h1>A token is needed</h1>", 403, _HEADERS)
        found = session(subject, name)
        path = None if found is None else found[0].folder / "report.html"
        if path is None or not path.is_file():
            return HTMLResponse("<h1>No report yet</h1>", 404, _HEADERS)
        return FileResponse(path, headers=_REPORT_HEADERS)

    @app.post("/api/{subject}/{name}/command")
    async def command(request: Request, subject: str, name: str):
        if request.state.rights != "control":
            return JSONResponse({"error": "this page may only look"}, 403)
        if access.too_many():
            return JSONResponse({"error": "too many commands"}, 429)
        found = session(subject, name)
        if found is None:
            return JSONResponse({"error": "no such session"}, 404)
        try:
            content = json.loads(await request.body())
            words, args = content["command"], content.get("args", {})
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": "expected {command, args}"}, 400)
        if words not in _COMMANDS or not isinstance(args, dict):
            return JSONResponse({"error": f"there are {', '.join(_COMMANDS)}"}, 400)
        try:
            answer = await asyncio.to_thread(found[2].ask, words, args, "monitor")
        except (UserError, OSError, ValueError) as error:
            return JSONResponse({"ok": False, "error": str(error)}, 503)
        return JSONResponse(answer, 200 if answer.get("ok") else 409)

    @app.websocket("/feed/{subject}/{name}")
    async def feed(socket: WebSocket, subject: str, name: str):
        found = session(subject, name)
        if found is None or not access.from_here(socket.headers):
            await socket.close(4403)
            return
        await socket.accept()
        try:
            token = await asyncio.wait_for(socket.receive_text(), 5)
        except Exception:  # it went away, or says nothing
            await socket.close(4403)
            return
        if access.rights(token) is None:
            await socket.close(4403)
            return
        await _relay(socket, found[2])

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


async def _relay(socket, link):
    """Give a browser the feed until it goes."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    reader = BrowserQueue(lambda: loop.call_soon_threadsafe(news.set))
    link.add(reader)
    gone = asyncio.create_task(socket.receive())
    try:
        while not gone.done():
            wait = asyncio.create_task(news.wait())
            await asyncio.wait({wait, gone}, return_when=asyncio.FIRST_COMPLETED)
            wait.cancel()
            news.clear()
            for line in reader.take():
                await socket.send_text(line)
    except Exception as error:  # a browser that goes away in the middle of a line
        logger.debug("feed of a browser: %s", error)
    finally:
        gone.cancel()
        link.remove(reader)
