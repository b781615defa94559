"""This project's own files: one .npz with plain arrays (never pickled) and a JSON header."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, PositiveInt

from sleep_interpreter.model.registry import ModelSettings
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write, display_path


class Header(config.Settings):
    """What a checkpoint says of itself."""

    format: Literal[1]
    network: str
    mode: str | None
    members: PositiveInt
    model: ModelSettings
    notes: dict[str, Any]


class StateHeader(config.Settings):
    """What the state of one member's training says of itself; the training loop may add more."""

    model_config = ConfigDict(extra="allow")

    history: list[dict[str, Any]]
    notes: dict[str, Any]


def check_header(header: Any, path: str | Path) -> Header:
    """Return the `Header` that a checkpoint's own header is, or raise a `UserError` that says what it is."""
    if isinstance(header, dict) and "network" not in header and "history" in header:
        raise UserError(
            f"{path}: holds the training state of one member; a checkpoint is the ensemble.npz that "
            "the training writes beside it in the end"
        )
    if not isinstance(header, dict) or "network" not in header:
        raise UserError(f"{path}: no checkpoint of this project (its header lacks the network's name)")
    return config.validate(Header, header, f"header of {display_path(path)}")


def write_arrays(path: str | Path, header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a JSON header and named arrays to one .npz file (atomically)."""
    path = Path(path)
    if path.suffix != ".npz":
        raise UserError(f"{path}: a checkpoint's name ends in .npz")
    with atomic_write(path) as temporary:
        text = np.frombuffer(json.dumps(header).encode(), np.uint8)
        content: dict[str, Any] = {"header.json": text, **arrays}
        np.savez(temporary, **content)


def read_state(path: str | Path, header_only: bool = False) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return header and arrays (none with `header_only`) of a member's training state.

    The header has "history" (a row an epoch) and "notes". A damaged file, or one that is no training state (such as
    an ensemble under a member's name), is a `UserError`.
    """
    header = read_header(path)
    if isinstance(header, dict) and "network" in header:
        raise UserError(
            f"{path}: holds a whole checkpoint of {header['network']}, expected the training state of "
            "one member; move it away or pass --restart"
        )
    header = config.validate(StateHeader, header, f"header of {display_path(path)}").model_dump()
    return header, {} if header_only else read_arrays(path)[1]


def read_header(path: str | Path) -> Any:
    """Return the header alone of a file that `write_arrays` wrote; its arrays are not read."""
    return read_arrays(path, header_only=True)[0]


def read_arrays(path: str | Path, header_only: bool = False) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the header and the arrays (none with `header_only`) of a file that `write_arrays` wrote."""
    path = Path(path)
    if not path.is_file():
        inside = path / "ensemble.npz"
        hint = f"; did you mean {display_path(inside)}?" if inside.is_file() else ""
        raise UserError(f"{path}: checkpoint not found{hint}")
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            header = json.loads(stored["header.json"].tobytes())
            names = [] if header_only else [name for name in stored.files if name != "header.json"]
            arrays = {name: stored[name] for name in names}
    except (AttributeError, OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not readable as a checkpoint: {reason}") from None
    return header, arrays
