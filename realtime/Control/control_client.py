"""The other end of a session's control (realtime/Control/control_server.py): ask it, or read its feed."""

import json
import math
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sleep_interpreter.realtime.Utils.json_lines import json_line
from sleep_interpreter.utils.core.errors import UserError

_PATIENCE = 10.0
"""Seconds waited for an answer."""


class Client:
    """Talk to the session of a folder; `origin` says who asks, for the log. `UserError` where none is running."""

    def __init__(self, folder: Path, origin: str = "command line") -> None:
        self._path = folder / "control.json"
        try:
            about = json.loads(self._path.read_text(encoding="utf-8"))
            self._address = about["host"], about["port"]
            self._token, self._view = about["token"], about["view_token"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self._path}: no session is running there ({error})") from error
        self._origin = origin

    def connect(self) -> socket.socket:
        """Return a connected socket, or raise `UserError`: nobody listens."""
        try:
            return socket.create_connection(self._address, timeout=_PATIENCE)
        except OSError as error:
            raise UserError(
                f"{self._path}: nobody listens on port {self._address[1]} "
                f"({error.strerror or error}); if the session broke off, go on with it by "
                "python realtime/Main_Decode.py --resume SESSION"
            ) from error

    def ask(self, command: str, **args: Any) -> dict[str, Any]:
        """Ask, and return the answer: {"ok", "sample", "text"} or {"ok", "error"}; `UserError` when none comes."""
        try:
            with self.connect() as link:
                link.sendall(json_line(token=self._token, command=command, args=args, origin=self._origin))
                return json.loads(link.makefile("rb").readline())
        except (OSError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{command}: the session ended before it answered ({error})") from error

    def subscribe(self, link: socket.socket) -> BinaryIO:
        """Return the lines of what the session publishes, over a connection; `UserError` where it gives none."""
        link.sendall(json_line(token=self._view, command="subscribe", origin=self._origin))
        lines = link.makefile("rb")
        first = json.loads(lines.readline() or b'{"ok": false, "error": "it ended"}')
        if not first.get("ok"):
            raise UserError(f"the session gives no feed: {first.get('error')}")
        return lines

    def feed(self) -> Iterator[dict[str, Any]]:
        """Yield {"kind", "payload"} of what the session publishes to its end; `UserError` where it gives none."""
        with self.connect() as link:
            lines = self.subscribe(link)
            link.settimeout(None)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                yield json.loads(line)


def arguments_of(command: str, value: str | None, by: float | None = None) -> dict[str, Any]:
    """Return the args of a command as typed: volume takes dB, or `by` how many; mark takes text.

    Raises `UserError` for a value that is missing, is no number, or that the command does not take.
    """
    if by is not None:
        if command != "volume" or value is not None:
            raise UserError("--by belongs to volume, without another value")
        return {"change_db": by}
    if command == "mark":
        return {"text": value or ""}
    if command != "volume":
        if value is not None:
            raise UserError(f"{command} takes no value, found {value!r}")
        return {}
    try:
        level = float(value or "")
    except ValueError:
        level = math.nan
    if not abs(level) <= 200:
        raise UserError(f"volume needs a level in dB, such as -26; found {value!r}")
    return {"db": level}
