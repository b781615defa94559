"""Weights in and out: this project's own files and the released TensorFlow checkpoints.

A variable has one name everywhere, the one it has in the released checkpoints
("individual_models/<member>/sleep_encoder/layer_with_weights-0/fc_mha/kernel").

This project's own checkpoint is one .npz file (plain arrays, never pickled) that carries the network's
name, mode and settings, so it can be opened without knowing anything else.
"""

import json
import re
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveInt

from model import registry
from model.settings import ModelSettings
from utils import config
from utils.errors import UserError
from utils.paths import shown, writing
from utils.quiet import import_tensorflow

FORMAT = 1
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
MEMBER = re.compile(r"individual_models/(\d+)/(.+)")
RELEASED = {
    "N2N3_SIMD_Retrained": ("N23SIMD", "retrained"),
    "N2N3_SIMD": ("N23SIMD", "normal"),
    "N23_SIMD": ("N23SIMD", "normal"),
    "N2N3_SISD": ("N23SISD", "normal"),
    "N23_SISD": ("N23SISD", "normal"),
    "REM_SIMD": ("REMSIMD", "normal"),
    "REM_SISD": ("REMSISD", "normal"),
    "Staging": ("SIStaging", None),
}
"""Network and mode behind the file names of the released checkpoints, by their beginning."""


class Header(config.Settings):
    """What a checkpoint says of itself."""

    format: Literal[1]
    network: str
    mode: str | None
    members: PositiveInt
    model: ModelSettings
    notes: dict[str, Any]


def member_variables(member):
    """Return {published name: variable} of one member, without random-number state."""
    variables = {}
    for variable in member.variables:
        _, _, name = variable.path.partition("/")
        if "seed_generator" not in name:
            variables[name.replace("lstm/lstm_cell/", "lstm/cell/")] = variable
    return variables


def published_names(model):
    """Return {published name: variable} of a whole ensemble, with the member prefix."""
    return {
        f"individual_models/{index}/{name}": variable
        for index, member in enumerate(model.individual_models)
        for name, variable in member_variables(member).items()
    }


def load_published(model, source):
    """Fill a network from published names.

    Parameters
    ----------
    model : model.ensemble.Ensemble
    source : mapping | str | Path
        {published name: array}, or the path of a TensorFlow checkpoint (with or without ".index").
        Names without the prefix "individual_models/<i>/" fill a network of one member.

    Returns
    -------
    model : the same object

    Raises
    ------
    UserError
        Names that are missing, unknown or of another shape; all are listed and nothing is changed.
    """
    if isinstance(source, str | Path):
        return _fill(model, read_tensorflow(source), shown(source))
    return _fill(model, dict(source), "the given mapping")


def _fill(model, arrays, where):
    """Check every array against the network, then set them all."""
    if arrays and not any(MEMBER.match(name) for name in arrays):
        if len(model.individual_models) != 1:
            raise UserError(
                f"{where}: names without 'individual_models/<i>/' fill a network of one member, "
                f"this one has {len(model.individual_models)}"
            )
        arrays = {f"individual_models/0/{name}": value for name, value in arrays.items()}
    variables = published_names(model)
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    problems = {
        "missing": sorted(set(variables) - set(arrays)),
        "unknown": sorted(set(arrays) - set(variables)),
        "of another shape": [
            f"{name} (found {shapes[name]}, expected {tuple(variable.shape)})"
            for name, variable in variables.items()
            if name in shapes and shapes[name] != tuple(variable.shape)
        ],
        "not finite numbers": [
            name
            for name in variables
            if name in arrays and not (arrays[name].dtype.kind in "fiu" and np.isfinite(arrays[name]).all())
        ],
    }
    if any(problems.values()):
        network = model.network if model.mode is None else f"{model.network} ({model.mode})"
        listed = "; ".join(f"{len(v)} {k}: {', '.join(v)}" for k, v in problems.items() if v)
        raise UserError(f"{where} does not fit {network} with {_members(model)}; {listed}")
    for name, variable in variables.items():
        variable.assign(arrays[name].astype(np.float32))
    return model


def _members(model):
    count = len(model.individual_models)
    return f"{count} member{'s' if count > 1 else ''}"


def read_tensorflow(path):
    """Return {published name: array} of a TensorFlow object-graph checkpoint.

    Book-keeping entries and optimizer slots are left out.
    """
    path = _prefix(path)
    if not Path(f"{path}.index").is_file():
        raise UserError(f"{shown(path)}: no TensorFlow checkpoint there ({Path(path).name}.index is missing)")
    tf = import_tensorflow()

    try:
        reader = tf.train.load_checkpoint(str(path))
        names = [name for name in reader.get_variable_to_shape_map() if name.endswith(VALUE)]
        return {
            name.removesuffix(VALUE): reader.get_tensor(name)
            for name in names
            if ".OPTIMIZER_SLOT" not in name and not name.startswith(("optimizer/", "save_counter/"))
        }
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise UserError(f"{shown(path)}: not readable as a TensorFlow checkpoint: {_short(error)}") from None


def _prefix(path):
    text = str(path)
    return Path(re.sub(r"(\.index|\.data-\d+-of-\d+)$", "", text))


def save(model, path, **notes):
    """Write an ensemble to one .npz file (atomically).

    Parameters
    ----------
    model : model.ensemble.Ensemble
    path : str | Path
    **notes
        Anything JSON can hold, kept beside the weights (such as data fingerprint, simulated or not).
    """
    arrays = {name: variable.numpy() for name, variable in published_names(model).items()}
    members = len(model.individual_models)
    write_ensemble(path, model.network, model.mode, members, model.settings, arrays, notes)


def write_ensemble(path, network, mode, members, settings, arrays, notes):
    """Write what `save` writes, from arrays by published name."""
    header = {
        "format": FORMAT,
        "network": network,
        "mode": None if mode == "normal" else mode,
        "members": members,
        "model": settings.model_dump(mode="json"),
        "notes": notes,
    }
    write_arrays(path, header, arrays)


def restore(path, name=None, mode=None):
    """Open a checkpoint and return the network that it holds.

    Parameters
    ----------
    path : str | Path
        This project's .npz file, or a TensorFlow checkpoint of a released network (then with published
        sizes; which network it is follows from the file's name unless given).
    name, mode : str | None
        The network that is expected; another one is an error.

    Returns
    -------
    model : model.ensemble.Ensemble

    Raises
    ------
    UserError
        Not a checkpoint, a checkpoint of another network, or one that does not fit its settings.
    """
    path = Path(path)
    if Path(f"{_prefix(path)}.index").is_file():
        return _restore_tensorflow(path, name, mode)
    header, arrays = read_arrays(path)
    if not isinstance(header, dict) or "network" not in header:
        raise UserError(f"{shown(path)}: no checkpoint of this project (its header lacks the network's name)")
    header = config.validate(Header, header, f"header of {shown(path)}")
    found = (header.network, header.mode or "normal")
    if (name is not None and found[0] != name) or (mode is not None and found[1] != mode):
        expected = name if mode is None else f"{name} ({mode})"
        raise UserError(f"{shown(path)}: holds {found[0]} ({found[1]}), expected {expected}")
    model = registry.build_from(header.model, header.members, header.network, header.mode)
    model.notes = header.notes
    return _fill(model, arrays, shown(path))


def _restore_tensorflow(path, name, mode):
    if name is None:
        stem = _prefix(path).name
        name, mode = next((v for k, v in RELEASED.items() if stem.startswith(k)), (None, None))
        if name is None:
            raise UserError(
                f"{shown(path)}: which network is it? Its name begins with none of {', '.join(RELEASED)}"
            )
    arrays = read_tensorflow(path)
    members = {int(match[1]) for match in map(MEMBER.match, arrays) if match}
    model = registry.build(name, members=len(members) or 1, mode=mode)
    model.notes = {"released": True}
    return _fill(model, arrays, shown(path))


def write_arrays(path, header, arrays):
    """Write a JSON header and named arrays to one .npz file (atomically)."""
    path = Path(path)
    if path.suffix != ".npz":
        raise UserError(f"{shown(path)}: a checkpoint's name ends in .npz")
    header = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with writing(path) as temporary:
        np.savez(temporary, **{"header.json": header}, **arrays)


def read_header(path):
    """Return the header alone of a file that `write_arrays` wrote; its arrays are not read."""
    return read_arrays(path, header_only=True)[0]


def read_arrays(path, header_only=False):
    """Return the header and the arrays (none with `header_only`) of a file that `write_arrays` wrote."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{shown(path)}: checkpoint not found")
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            header = json.loads(stored["header.json"].tobytes())
            names = [] if header_only else [name for name in stored.files if name != "header.json"]
            arrays = {name: stored[name] for name in names}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{shown(path)}: not readable as a checkpoint: {_short(error)}") from None
    return header, arrays


def _short(error):
    return " ".join(str(error).split())[:200]
