"""Who sleeps: as little about a person as a session needs."""

import re
from pathlib import Path

from pydantic import Field, field_validator

from sleep_interpreter.utils.core.config import Settings, read_yaml, validate
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path

_ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"


class Subject(Settings):
    """A pseudonym, a label of the night and free notes; no name, birth date or sex.

    The id names the session's folder, so it holds letters, digits, "-" and "_" only.
    """

    id: str = "unnamed"
    session: str = Field("", max_length=64)
    notes: str = ""

    @field_validator("id")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not re.fullmatch(_ID, value):
            raise ValueError("an id holds letters, digits, '-' and '_' only (at most 64): it names a folder")
        return value


def load_subject(identifier: str | None = None, path: str | Path | None = None) -> Subject:
    """Return the `Subject` given by `--subject` or `--subject-file`.

    Raises `UserError`: both given, the file cannot be read, an unknown key, or an id with characters other than
    letters, digits, "-" and "_".
    """
    if identifier is not None and path is not None:
        raise UserError("give --subject or --subject-file, not both")
    if path is not None:
        return validate(Subject, read_yaml(path), display_path(path))
    return validate(Subject, {} if identifier is None else {"id": identifier}, "--subject")
