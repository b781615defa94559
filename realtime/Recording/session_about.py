"""session.json: where a session comes from, read from a folder that others may have made."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from sleep_interpreter.realtime.Subject import Subject
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.provenance import read_json, require_json
from sleep_interpreter.utils.signal.recording import Recording

FILE = "session.json"
_KINDS: dict[str, type | tuple[type, ...]] = {
    "started": str, "first_sample_at": str, "source": str, "ending": (str, type(None)), "subject": dict,
    "recording": dict, "simulated": (bool, type(None)), "channels": list, "counts": dict, "versions": dict,
}  # fmt: skip


def about(folder: Path) -> dict[str, Any]:
    """Return what session.json says, without entries of a type that no session writes; {} where it cannot be read."""
    return {key: value for key, value in read_json(folder / FILE).items() if _fits(key, value)}


def require_about(folder: Path, *needed: str) -> dict[str, Any]:
    """Return what session.json says; a `UserError` names what is missing of `needed`, or what no session writes."""
    content = require_json(folder / FILE, "without it the session cannot be gone on with, replayed or exported")
    wrong = [key for key, value in content.items() if not _fits(key, value)]
    if wrong := wrong + [key for key in needed if key not in content]:
        raise UserError(f"{folder / FILE}: {wrong[0]} is missing, or no session wrote it like this")
    return content


def subject_of(folder: Path, content: dict[str, Any]) -> Subject:
    """Return who slept, as session.json says; `UserError` where that is no subject's."""
    return config.validate(Subject, content["subject"], str(folder / FILE))


def replayed_file(content: dict[str, Any]) -> Path | None:
    """Return the file that a session replayed, None where session.json names none that is there.

    It lies where its lab kept it, outside of the session's folder. So it is taken only where size and content are
    those that session.json tells: a folder of somebody else must not have any recording of this machine shown.
    `UserError` where they are not.
    """
    kept = content.get("recording", {})
    path = kept.get("path")
    if not isinstance(path, str) or not os.path.exists(path):  # noqa: PTH110  # pathlib raises where a name is too long
        return None
    found = Recording(path).fingerprint()
    if any(found[key] != kept.get(key) for key in ("bytes", "sha256")):
        raise UserError(f"{path}: not the recording that the session replayed: its size or content is another")
    return Path(path)


def _fits(key: str, value: Any) -> bool:
    if key in ("started", "first_sample_at") and isinstance(value, str):
        try:
            return datetime.fromisoformat(value).tzinfo is not None
        except ValueError:
            return False
    if key == "channels" and isinstance(value, list):
        return all(isinstance(name, str) for name in value)
    return isinstance(value, _KINDS.get(key, object))
