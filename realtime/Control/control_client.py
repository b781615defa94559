"""The other end of a session's control (realtime/Control/control_server.py): ask it, or read its feed."""

import ipaddress
import math
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sleep_interpreter.realtime.Utils.json_lines import JsonLineSocket, json_line
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.provenance import parse_json, require_json

_PATIENCE = 10.0
"""Seconds waited for an answer."""
_LONGEST_ANSWER, _LONGEST_LINE = 2**20, 2**23
"""Bytes of an answer, and of a line of the feed."""
_SILENT_SECONDS = 3600.0
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")


class Client:
    """Talk to the session of a folder; `origin` says who asks, for the log. `UserError` where none is running.

    The folder may be somebody else's: its control.json is believed only where it names this machine.
    """

    def __init__(self, folder: Path, origin: str = "command line") -> None:
        self._path = folder / "control.json"
        if not self._path.is_file():
            raise UserError(f"{self._path}: no session is running there")
        about = require_json(self._path, "no session is running there")
        host, port = about.get("host"), about.get("port")
        if not (isinstance(port, int) and 0 < port < 65536 and isinstance(host, str)):
            raise UserError(f"{self._path}: no session is running there (host or port is missing)")
        self._address, self._origin = (_this_machine(host, self._path), port), origin
        self.token, self.view_token = (str(about.get(key)) for key in ("token", "view_token"))
        if not (_TOKEN.fullmatch(self.token) and _TOKEN.fullmatch(self.view_token)):
            raise UserError(f"{self._path}: no session is running there (a token is missing)")

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
                link.sendall(json_line(token=self.token, command=command, args=args, origin=self._origin))
                answer = _parsed(JsonLineSocket(link).read_line(_PATIENCE, _PATIENCE, _LONGEST_ANSWER))
                return answer if answer.get("ok") else {"error": "no answer", **answer, "ok": False}
        except (OSError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{command}: the session ended before it answered ({error})") from error

    def subscribe(self, link: socket.socket, silent: float = _SILENT_SECONDS) -> Iterator[bytes]:
        """Return the lines of what the session publishes, over a connection; `UserError` where it gives none.

        They end when the session does, says nothing for `silent` seconds, or takes longer for one line; one of more
        than 8 MiB is a `ValueError`.
        """
        link.sendall(json_line(token=self.view_token, command="subscribe", origin=self._origin))
        lines = JsonLineSocket(link)
        first = lines.read_line(_PATIENCE, _PATIENCE, _LONGEST_ANSWER)
        answer = {"error": "it ended"} if first is None else _parsed(first)
        if not answer.get("ok"):
            raise UserError(f"the session gives no feed: {answer.get('error')}")
        return iter(lambda: lines.read_line(silent, min(silent, _PATIENCE), _LONGEST_LINE), None)

    def feed(self) -> Iterator[dict[str, Any]]:
        """Yield {"kind", "payload"} of what the session publishes to its end; `UserError` where it gives none."""
        with self.connect() as link:
            for line in self.subscribe(link):
                yield _parsed(line)

    def runs(self) -> bool:
        """Tell whether the session that the folder names is there, and knows its tokens."""
        try:
            with self.connect() as link:
                self.subscribe(link)
        except (OSError, ValueError):
            return False
        return True


def _parsed(line: bytes | None) -> dict[str, Any]:
    content = None if line is None else parse_json(line)
    if not isinstance(content, dict):
        raise ValueError("no answer")
    return content


def _this_machine(host: str, path: Path) -> str:
    """Return where to connect to; `UserError` where a control.json names another machine."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        if address.is_unspecified:  # all of this machine's addresses
            return "127.0.0.1" if address.version == 4 else "::1"
        if not address.is_loopback:  # control.host may be one of its addresses in a network: only those can be bound
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((host, 0))
    except (OSError, ValueError):
        raise UserError(
            f"{path}: names {host[:60]!r}, which is not this machine; a session is controlled on the machine that runs "
            "it (from another one: ssh)"
        ) from None
    return host


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
