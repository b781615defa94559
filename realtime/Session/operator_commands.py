"""What the operator can ask of a session: taken at a sample, logged with who asked, answered."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from sleep_interpreter.realtime.Control.request import Request, checked_args
from sleep_interpreter.realtime.Session.cueing import CueController
from sleep_interpreter.realtime.Session.session_context import SessionContext
from sleep_interpreter.realtime.Utils.stop_request import StopRequest

logger = logging.getLogger(__name__)


def commands_to_restore(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the commands by which a session that goes on is as the operator left it: volume, and a pause.

    `events` are those of the session before, as in log.jsonl. The result is for `CommandHandler.replay`; its origin
    is "resume".
    """
    found: list[tuple[str, dict[str, Any]]] = []
    volumes = [e["detail"]["db"] for e in events if e["event"] == "volume"]
    if volumes:
        found.append(("volume", {"db": volumes[-1]}))
    given = [e["detail"] for e in events if e["event"] == "command" and e["detail"]["ok"]]
    asked = [detail["command"] for detail in given if detail["command"] in ("pause", "resume")]
    if asked and asked[-1] == "pause":
        found.append(("pause", {}))
    return [{"command": name, "args": args, "origin": "resume", "ok": True} for name, args in found]


class CommandHandler:
    """Carry out commands; `status()` gives the state of the session."""

    def __init__(
        self, context: SessionContext, cueing: CueController, stop: StopRequest, status: Callable[[], dict[str, Any]]
    ) -> None:
        self._context, self._cueing, self._stop, self._status = context, cueing, stop, status
        self._known: dict[str, Callable[..., str]] = {
            "pause": self._pause, "resume": self._resume, "volume": self._volume,
            "mark": self._mark, "group": self._group, "stop": self._end, "accept": self._accept,
        }  # fmt: skip

    def handle(self, now: int, request: Request) -> None:
        """Carry out a request at sample `now`, log it and answer it."""
        if request.command == "status":
            request.reply(True, sample=now, text="", state=self._status())
            return
        args: dict[str, Any] = {}  # what did not pass the check does not reach the log either
        try:
            args = checked_args(request.command, request.args)
            text, ok = self._known[request.command](now, **args), True
        except ValueError as error:
            text, ok = str(error), False
        self._log(now, request.command, args, request.origin, ok, text)
        request.reply(ok, sample=now, **{"text" if ok else "error": text})

    def replay(self, now: int, detail: dict[str, Any]) -> None:
        """Carry out a command of the log that is replayed; one that was refused then is refused again."""
        command, args, ok = detail["command"], detail["args"], detail["ok"]
        text = self._known[command](now, **args) if ok else detail["text"]
        self._log(now, command, args, detail["origin"], ok, text)

    def _log(self, now: int, command: str, args: dict[str, Any], origin: str, ok: bool, text: str) -> None:
        self._context.log_event(now, "command", command=command, args=args, origin=origin, ok=ok, text=text)
        logger.info("%s (%s): %s", command, origin, text)

    def _pause(self, now: int) -> str:
        self._cueing.block(now, "operator", "paused by the operator")
        return "cueing is paused"

    def _resume(self, now: int) -> str:
        cueing = self._cueing
        cueing.unblock(now, "operator")
        cueing.unblock(now, "arousal")
        why = cueing.block_reasons()
        return "cueing goes on" if why is None else f"cueing goes on as soon as it may: {why}"

    def _accept(self, now: int) -> str:
        taken = self._context.source.accept()
        if taken is None and not self._context.inputs.replaying:
            raise ValueError("no stream waits to be accepted")
        return f"accepted: {taken}"

    def _volume(self, now: int, db: float | None = None, change_db: float = 0.0) -> str:
        context = self._context
        wanted = db if db is not None else context.sink.volume_db + change_db
        level = context.sink.set_volume(wanted)
        context.log_event(now, "volume", db=round(level, 3))
        capped = f"; the cap is {context.settings.audio.max_db:g} dB" if level < wanted else ""
        return f"volume {level:g} dB{capped}"

    def _mark(self, now: int, text: str = "") -> str:
        context = self._context
        if context.source.recorder is not None and not context.inputs.replaying:
            context.source.annotate(f"mark {text}".strip())
        return f"marked: {text}" if text else "marked"

    def _group(self, now: int) -> str:
        self._cueing.switch_group(now)
        return f"group {self._cueing.schedule.group(now)}"

    def _end(self, now: int) -> str:
        self._stop.ask()
        return "the session ends"
