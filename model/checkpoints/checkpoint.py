"""Weights in and out: a network from a checkpoint, a checkpoint from a network.

This project's own checkpoint is one .npz file (plain arrays, never pickled) that carries the network's
name, mode and settings, so it can be opened without knowing anything else. What a TensorFlow checkpoint
holds is found out in model/checkpoints/released.py.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sleep_interpreter.model import registry
from sleep_interpreter.model.checkpoints import released, tf_checkpoint
from sleep_interpreter.model.checkpoints.npz_archive import (
    Header,
    check_header,
    opened,
    read_arrays,
    read_header,
    read_state,
    write_arrays,
)
from sleep_interpreter.model.checkpoints.variables import MEMBER, ensemble_variables, member_variables, refuse_other
from sleep_interpreter.model.networks.registration import NetworkSettings
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.signal.channel_names import listed

if TYPE_CHECKING:
    from sleep_interpreter.model.networks.ensemble import Ensemble

__all__ = [
    "Header", "check_header", "ensemble_variables", "files_of", "load_published", "member_variables", "read_arrays",
    "read_header", "read_state", "restore", "save", "write_arrays", "write_ensemble",
]  # fmt: skip


log = logging.getLogger(__name__)


def restore(path: str | Path, name: str | None = None, mode: str | None = None) -> "Ensemble":
    """Open a checkpoint and return the network that it holds.

    It is this project's .npz file, the folder of a training that holds one, or a TensorFlow checkpoint of a published
    network: which one follows from the names and shapes of its variables. The network's `notes` are those that `save`
    was given; of a released checkpoint "released", the members found and how many were published. No checkpoint, one
    of another network than `name` and `mode` (None is any), or one that does not fit its settings, is a `UserError`.
    """
    path = _inside(path)
    if path.suffix == ".npz" or not tf_checkpoint.is_one(path):
        with opened(path) as archive:
            header = check_header(archive.header, path)
            refuse_other(display_path(path), (header.network, header.mode), name, mode)
            released.refuse_misfit(display_path(path), header, archive.shapes)
            arrays = {name: archive.read(name) for name in archive.shapes}
    else:
        header, arrays = released.read(path, name, mode)
    refuse_other(display_path(path), (header.network, header.mode), name, mode)
    model = registry.build_ensemble(header.model, header.members, header.network, header.mode)
    model.notes = header.notes
    if header.model.task == "decoding" and "card" not in header.notes:
        log.info(
            "%s: holds no names of channels and items: those of the published data card are taken", display_path(path)
        )
    return _assign(model, arrays, display_path(path))


def _inside(path: str | Path) -> Path:
    return inside if (inside := Path(path) / "ensemble.npz").is_file() else Path(path)


def files_of(path: str | Path) -> list[Path]:
    """Return the files of a checkpoint that `restore` opens."""
    path = _inside(path)
    if path.suffix == ".npz" or not tf_checkpoint.is_one(path):
        return [path]
    prefix = tf_checkpoint.prefix_of(path)
    return [Path(f"{prefix}.index"), *tf_checkpoint.data_files(prefix)]


def load_published(model: "Ensemble", source: Mapping[str, Any] | str | Path) -> "Ensemble":
    """Fill a network from {published name: array}, or from a TensorFlow checkpoint (with or without ".index").

    Names without the prefix "individual_models/<i>/" fill a network of one member. Names that are missing, unknown
    or of another shape, and values that are no finite numbers, are a `UserError`; nothing is changed then.
    """
    if isinstance(source, str | Path):
        graph = tf_checkpoint.ObjectGraph(source)
        where, arrays = display_path(source), {name: graph.read(name) for name in graph.shapes}
    elif isinstance(source, Mapping):
        where, arrays = "the given mapping", {name: _array(value) for name, value in source.items()}
    else:
        raise UserError(f"load_published takes a mapping or a path, not {type(source).__name__}")
    strange = [name for name in arrays if not isinstance(name, str)]
    if strange:
        raise UserError(f"{where}: names of variables are text, found {listed(strange, 5)}")
    if arrays and not any(MEMBER.fullmatch(name) for name in arrays):
        if len(model.individual_models) != 1:
            raise UserError(
                f"{where}: names without 'individual_models/<i>/' fill a network of one member, "
                f"this one has {len(model.individual_models)}"
            )
        arrays = {f"individual_models/0/{name}": value for name, value in arrays.items()}
    return _assign(model, arrays, where)


def _array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # lists of unequal length: no numbers
        return np.asarray(None)


def _assign(model: "Ensemble", arrays: dict[str, np.ndarray], where: str) -> "Ensemble":
    """Set a network's variables by their names, all of them or, with a `UserError`, none."""
    variables = ensemble_variables(model)
    numbers: dict[str, Any] = {}
    for name, array in arrays.items():
        with np.errstate(over="ignore"):  # too large for float32: infinite
            numbers[name] = array.astype(np.float32, copy=False) if array.dtype.kind in "fiu" else None
    if bad := [name for name, array in numbers.items() if array is None or not np.isfinite(array).all()]:
        raise UserError(f"{where}: {len(bad)} not finite numbers: {listed(bad, 5)}")
    expected = {name: tuple(variable.shape) for name, variable in variables.items()}
    found = {name: array.shape for name, array in numbers.items()}
    released.refuse_other_shapes(where, found, expected, model.network, model.mode)
    for name, variable in variables.items():
        variable.assign(numbers[name])
    return model


def values_of(model: "Ensemble") -> dict[str, np.ndarray]:
    """Return {published name: array} of an ensemble."""
    return {name: variable.numpy() for name, variable in ensemble_variables(model).items()}


def save(model: "Ensemble", path: str | Path, **notes: Any) -> None:
    """Write an ensemble to one .npz file (atomically), with `notes`: anything JSON can hold, such as `simulated`.

    The data card that the ensemble was built with (`registry.build(..., card=...)`) or restored with goes along.
    """
    known = getattr(model, "notes", {})
    notes = {key: known[key] for key in ("card", "card_fingerprint") if key in known} | notes
    members = len(model.individual_models)
    write_ensemble(path, model.network, model.mode, members, model.settings, values_of(model), notes)


def write_ensemble(
    path: str | Path,
    network: str,
    mode: str | None,
    members: int,
    settings: NetworkSettings,
    arrays: Mapping[str, np.ndarray],
    notes: dict[str, Any],
) -> None:
    """Write what `save` writes, from arrays by published name."""
    mode = None if mode == "normal" else mode
    header = Header(format=1, network=network, mode=mode, members=members, model=settings, notes=notes)
    write_arrays(path, header.model_dump(mode="json"), arrays)
