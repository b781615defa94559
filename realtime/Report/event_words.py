"""Events of the log in words, for who was not there."""

from collections.abc import Callable, Mapping
from typing import Any


def words_of(event: Mapping[str, Any]) -> str:
    """Return what an event's detail says; parts that are missing, or events that are not known, are no error."""
    kind, detail = event["event"], event["detail"]
    said = _WORDS.get(kind, _plain)(detail)
    return said or _plain(detail)


def _gap(detail: Mapping[str, Any]) -> str:
    lost = f"{detail.get('seconds', 0):.2f} s lost"
    return f"{lost} ({detail['count']} samples of the stream)" if "count" in detail else lost


def _command(detail: Mapping[str, Any]) -> str:
    args = detail.get("args") or {}
    asked = {"db": "{} dB", "change_db": "{:+g} dB", "text": "{}"}
    values = [asked.get(key, "{}").format(value) for key, value in args.items() if value not in (None, "")]
    words = " ".join([str(detail.get("command", "")), *values])
    answer = "" if detail.get("ok", True) else "refused: "
    return f"{words} (by {detail.get('origin') or 'nobody known'}){_after(answer + (detail.get('text') or ''))}"


def _resume(detail: Mapping[str, Any]) -> str:
    segment = detail.get("segment")
    return "the session goes on" if segment is None else f"the session goes on in {segment}"


def _after(text: Any) -> str:
    return f": {text}" if text else ""


def _plain(detail: Mapping[str, Any]) -> str:
    found = {key: value for key, value in detail.items() if value not in (None, "", {}, [])}
    return ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in found.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_plain(value)})"
    if isinstance(value, list | tuple):
        return " ".join(map(_value, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "gap": _gap,
    "stream": lambda d: f"{d.get('state', '')}{_after(d.get('reason'))}",
    "fault": lambda d: f"{d.get('part', '')} {d.get('state', '')}{_after(d.get('reason'))}",
    "no_sound": lambda d: f"no cues{_after(d.get('reason'))}" if d.get("on") else "sound is back: cues may come",
    "resume": _resume,
    "stage_skipped": lambda d: d.get("reason") or "",
    "command": _command,
    "volume": lambda d: f"{d['db']:g} dB" if "db" in d else "",
    "stop": lambda d: d.get("reason") or "",
}
