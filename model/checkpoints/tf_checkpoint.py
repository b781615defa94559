"""TensorFlow object-graph checkpoints, the format of the released ones: read and written."""

import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.model.checkpoints.tensor_bundle import BundleError, TensorBundle
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow
from sleep_interpreter.utils.signal.channel_names import listed

log = logging.getLogger(__name__)

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
HEADER = "sleep_interpreter/header"
"""Where this project's own header stands in a TensorFlow checkpoint that it wrote; others ignore it."""
_PREFIXED = re.compile(r"(?:(.+?)/)?(individual_models/[0-9]{1,3}/.+)")


def prefix_of(path: str | Path) -> Path:
    """Return the path that TensorFlow calls a checkpoint's prefix: without .index or .data-..."""
    return Path(re.sub(r"(\.index|\.data-\d+-of-\d+)$", "", str(path)))


def is_one(path: str | Path) -> bool:
    """Tell whether there is a TensorFlow checkpoint, or what is left of one, at this path."""
    prefix = prefix_of(path)
    return Path(f"{prefix}.index").is_file() or bool(data_files(prefix))


def data_files(prefix: Path) -> list[Path]:
    """Return the files that hold a checkpoint's values."""
    pattern = re.compile(re.escape(prefix.name) + r"\.data-\d+-of-\d+")
    folder = prefix.parent
    return sorted(p for p in folder.iterdir() if pattern.fullmatch(p.name)) if folder.is_dir() else []


class ObjectGraph:
    """An open TensorFlow checkpoint; values are read when asked for.

    Book-keeping entries and optimizer slots are left out. What stands before "individual_models/" (as in
    "model/individual_models/0/...") is taken off. `path` is with or without ".index" or ".data-00000-of-00001".
    `shapes` is {published name: shape}, `header` this project's own in a checkpoint that it wrote. A part that is
    missing or damaged, or ensembles under several prefixes, are a `UserError`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = prefix_of(path)
        index = Path(f"{self.path}.index")
        data = data_files(self.path)
        if not index.is_file():
            beside = f"; {data[0].name} is there: copy both files" if data else ""
            raise UserError(f"{self.path}: no TensorFlow checkpoint there ({index.name} is missing{beside})")
        if not data:
            raise UserError(f"{index}: {self.path.name}.data-00000-of-00001 is missing beside it: copy both files")
        try:
            self._bundle = TensorBundle(self.path)
        except (BundleError, OSError) as error:
            raise self._unreadable(error) from None
        stored = self._bundle.entries
        self.header = self._read_header()
        self._keys = _published(stored, display_path(self.path))
        self.shapes = {name: stored[key].shape for name, key in self._keys.items()}

    def read(self, name: str) -> np.ndarray:
        """Return the array of a published name."""
        try:
            return self._bundle.read(self._keys[name])
        except (BundleError, OSError) as error:
            raise self._unreadable(error) from None

    def _read_header(self) -> dict[str, Any] | None:
        if HEADER + VALUE not in self._bundle.entries:
            return None
        try:
            header: dict[str, Any] = json.loads(self._bundle.read_text(HEADER + VALUE))
            return header
        except (ValueError, OSError, RecursionError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> UserError:
        reason = " ".join(str(error).split())[:200]
        return UserError(f"{self.path}: not readable as a TensorFlow checkpoint: {reason}")


def _published(stored: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return {published name: key in the file}."""
    names = {key.removesuffix(VALUE): key for key in stored if key.endswith(VALUE)}
    names = {
        name: key
        for name, key in names.items()
        if "/.OPTIMIZER_SLOT/" not in name
        and name.split("/")[0] not in ("optimizer", "save_counter", HEADER.split("/")[0])
    }
    matches = {key: match for name, key in names.items() if (match := _PREFIXED.fullmatch(name))}
    if not matches:
        return names
    prefixes = sorted({match[1] or "" for match in matches.values()})
    if len(prefixes) > 1:
        raise UserError(
            f"{where}: holds {len(prefixes)} ensembles, under "
            f"{listed(map(repr, prefixes), 5)}: which one is meant cannot be told; store one of them alone"
        )
    if prefixes[0]:
        log.info("%s: the ensemble stands under %r and is read from there", where, prefixes[0])
    others = sorted(names.keys() - {key.removesuffix(VALUE) for key in matches})
    if others:
        log.debug("%s: left out, since they belong to no member: %s", where, listed(others, 5))
    return {match[2]: key for key, match in matches.items()}


def write(path: str | Path, header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write {published name: array} as a TensorFlow checkpoint, with a header for this project's own readers.

    Nothing is seen under the checkpoint's name before it is complete: the index, without which there is no
    checkpoint, is put in place last.
    """
    path = Path(path)
    tf = import_tensorflow()
    members: dict[int, dict[str, Any]] = {}
    for name, array in arrays.items():
        _, index, *parents, leaf = name.split("/")
        node = members.setdefault(int(index), {})
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = tf.Variable(np.asarray(array))
    root = tf.Module()
    root.individual_models = [_module(tf, tree) for _, tree in sorted(members.items())]
    root.sleep_interpreter = _module(tf, {"header": tf.Variable(json.dumps(header))})
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        tf.train.Checkpoint(root=root).write(str(Path(folder) / path.name))
        files = sorted(Path(folder).glob(f"{path.name}.*"))  # .data-... before .index
        for file in files:
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
        Path(f"{path}.index").unlink(missing_ok=True)
        for file in files:
            file.replace(path.with_name(file.name))


def _module(tf: Any, tree: dict[str, Any]) -> Any:
    module = tf.Module()
    for name, value in tree.items():
        setattr(module, name, _module(tf, value) if isinstance(value, dict) else value)
    return module
