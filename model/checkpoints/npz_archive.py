"""This project's own files: one .npz with plain arrays (never pickled) and a JSON header."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, PositiveInt

from sleep_interpreter.model.registry import ModelSettings
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.npz import Npz, NpzError
from sleep_interpreter.utils.core.paths import atomic_write, display_path

_HEADER = "header.json"


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
        content: dict[str, Any] = {_HEADER: text, **arrays}
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
    with opened(path) as archive:
        return archive.header, {} if header_only else {name: archive.read(name) for name in archive.shapes}


class Archive:
    """An open file of `write_arrays`; `shapes` is {name: shape}, and arrays are read when asked for (`UserError`)."""

    def __init__(self, path: Path, stored: Npz) -> None:
        self._path, self._stored = path, stored
        if _HEADER not in stored.arrays or stored.arrays[_HEADER].dtype.itemsize != 1:
            raise self._unreadable("it has no header")
        try:
            self.header: Any = json.loads(self.read(_HEADER).tobytes())
        except (ValueError, RecursionError) as error:
            raise error if isinstance(error, UserError) else self._unreadable(error) from None
        self.shapes = {name: array.shape for name, array in stored.arrays.items() if name != _HEADER}

    def read(self, name: str) -> np.ndarray:
        """Return one array."""
        try:
            return self._stored.read(name)
        except NpzError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, reason: object) -> UserError:
        return UserError(f"{self._path}: not readable as a checkpoint: {' '.join(str(reason).split())[:200]}")


@contextmanager
def opened(path: str | Path) -> Iterator[Archive]:
    """Open a file that `write_arrays` wrote; a `UserError` where it is none."""
    path = Path(path)
    if not path.is_file():
        inside = path / "ensemble.npz"
        hint = f"; did you mean {display_path(inside)}?" if inside.is_file() else ""
        raise UserError(f"{path}: checkpoint not found{hint}")
    try:
        stored = Npz(path)
    except NpzError as error:
        raise UserError(f"{path}: not readable as a checkpoint: {error}") from None
    with stored:
        yield Archive(path, stored)
