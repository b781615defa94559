"""What can be asked of a session, and the check that every request passes before the session sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LONGEST_TEXT = 500
"""Characters of a mark."""
_LARGEST = 200.0
"""dB; no level is further from full scale."""
_ARGS: dict[str, tuple[str, ...]] = {
    "pause": (), "resume": (), "volume": ("db", "change_db"), "mark": ("text",), "group": (), "stop": (), "status": (),
    "accept": (),
}  # fmt: skip
COMMANDS = tuple(_ARGS)


@dataclass(frozen=True)
class Request:
    """What `origin` ("monitor", "command line", ...) wants; `reply(ok, **more)` may come from any thread, once."""

    command: str
    args: dict[str, Any]
    origin: str
    reply: Callable[..., Any]


def checked_args(command: Any, args: Any) -> dict[str, Any]:
    """Return the args of a command as the session may have them: known names, finite numbers, plain text.

    `args` is as received, from whomever. `ValueError`: unknown command or argument, no finite number in dB, text that
    is too long or is no text.
    """
    if not isinstance(command, str) or command not in _ARGS:
        raise ValueError(f"unknown command {clean(repr(command), 40)}; there are {', '.join(COMMANDS)}")
    if not isinstance(args, dict):
        raise ValueError("args must be an object")
    allowed = _ARGS[command]
    unknown = [name for name in args if name not in allowed]
    if unknown:
        takes = " or ".join(allowed) or "no argument"
        raise ValueError(f"{command} takes {takes}, not {clean(str(unknown[0]), 40)!r}")
    if command == "volume":
        given = {name: value for name, value in args.items() if value is not None}
        if len(given) != 1:
            raise ValueError("volume needs one number: db, or change_db")
        return {name: _decibel(value) for name, value in given.items()}
    if command == "mark" and "text" in args:
        text = args["text"]
        if not isinstance(text, str) or len(text) > LONGEST_TEXT:
            raise ValueError(f"a mark's text has at most {LONGEST_TEXT} characters")
        return {"text": clean(text, LONGEST_TEXT)}
    return dict(args)


def clean(text: str, most: int) -> str:
    """Return text of one line that can be written anywhere: no control characters, no half characters."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    # a terminal obeys control characters, so none may reach the screen from a socket
    return " ".join("".join(c if c.isprintable() else " " for c in whole).split())[:most]


def _decibel(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        found = "no number" if not isinstance(value, int | float) else f"{clean(repr(value), 20)}"
        raise ValueError(f"volume needs a level in dB, at most {_LARGEST:g} from full scale; found {found}")
    return float(value)
