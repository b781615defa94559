"""Weights in and out: this project's own files and the released TensorFlow checkpoints.

This project's own checkpoint is one .npz file (plain arrays, never pickled) that carries the network's
name, mode and settings, so it can be opened without knowing anything else. The other way round, a
TensorFlow checkpoint says by the names and shapes of its variables which published network it is.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sleep_interpreter.model import registry
from sleep_interpreter.model.checkpoints import published_names as released
from sleep_interpreter.model.checkpoints.npz_archive import (
    FORMAT,
    Header,
    check_header,
    read_arrays,
    read_header,
    read_state,
    write_arrays,
)
from sleep_interpreter.model.checkpoints.published_names import member_variables
from sleep_interpreter.model.checkpoints.tf_checkpoint import ObjectGraph, is_one
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import shown

__all__ = [
    "Header", "check_header", "load_published", "member_variables", "published_names", "read", "read_arrays",
    "read_header", "read_state", "read_tensorflow", "restore", "save", "unrecognised", "write_arrays",
    "write_ensemble",
]  # fmt: skip

log = logging.getLogger(__name__)


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
    model : sleep_interpreter.model.networks.ensemble.Ensemble
    source : mapping | str | Path
        {published name: array}, or the path of a TensorFlow checkpoint (with or without ".index").
        Names without the prefix "individual_models/<i>/" fill a network of one member.

    Returns
    -------
    model : the same object

    Raises
    ------
    UserError
        Names that are missing, unknown or of another shape, values that are no finite numbers; nothing is
        changed then.
    """
    if isinstance(source, str | Path):
        where, arrays = shown(source), read_tensorflow(source)
    elif isinstance(source, Mapping):
        where, arrays = "the given mapping", dict(source)
    else:
        raise UserError(f"load_published takes a mapping or a path, not {type(source).__name__}")
    strange = [name for name in arrays if not isinstance(name, str)]
    if strange:
        raise UserError(f"{where}: names of variables are text, found {released.few(strange)}")
    if arrays and not any(released.MEMBER.fullmatch(name) for name in arrays):
        if len(model.individual_models) != 1:
            raise UserError(
                f"{where}: names without 'individual_models/<i>/' fill a network of one member, "
                f"this one has {len(model.individual_models)}"
            )
        arrays = {f"individual_models/0/{name}": value for name, value in arrays.items()}
    arrays = _numbers(arrays, where)
    expected = {name: tuple(variable.shape) for name, variable in published_names(model).items()}
    found = {name: array.shape for name, array in arrays.items()}
    if found != expected:
        _refuse(where, found, expected, model.network, model.mode)
    return _assign(model, arrays)


def _refuse(where, found, expected, network, mode):
    """Say in one sentence why {name: shape} do not fit a network."""
    members, wanted = released.by_member(found), released.by_member(expected)
    if all(member == wanted[0] for member in members.values()) and members:
        raise UserError(f"{where}: holds members {_numbered(members)}, the network has {len(wanted)} of them")
    row = released.recognise(members)
    if row is not None:
        released.refuse_other(where, row[:2], network, mode or "normal")
    count = f"{len(wanted)} member{'s' if len(wanted) > 1 else ''}"
    fits = f"{released.described(network, mode)} with {count}"
    raise UserError(f"{where} does not fit {fits}; {released.misfits(expected, found)}")


def _numbered(members):
    return ", ".join(map(str, members))


def _numbers(arrays, where):
    """Return the arrays as float32, or raise a `UserError` that lists those that are no finite numbers."""
    numbers, bad = {}, []
    for name, value in arrays.items():
        try:
            array = np.asarray(value)
        except ValueError:  # lists of unequal length
            bad.append(name)
            continue
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False) if array.dtype.kind in "fiu" else None
        if array is None or not np.isfinite(array).all():
            bad.append(name)
        numbers[name] = array
    if bad:
        raise UserError(f"{where}: {released.listed({'not finite numbers': bad})}")
    return numbers


def _assign(model, arrays):
    for name, variable in published_names(model).items():
        variable.assign(arrays[name])
    return model


def read_tensorflow(path):
    """Return {published name: array} of a TensorFlow object-graph checkpoint; see `ObjectGraph`."""
    graph = ObjectGraph(path)
    return {name: graph.read(name) for name in graph.shapes}


def save(model, path, **notes):
    """Write an ensemble to one .npz file (atomically).

    Parameters
    ----------
    model : sleep_interpreter.model.networks.ensemble.Ensemble
    path : str | Path
    **notes
        Anything JSON can hold, kept beside the weights (such as data fingerprint, simulated or not).
    """
    arrays = {name: variable.numpy() for name, variable in published_names(model).items()}
    members = len(model.individual_models)
    write_ensemble(path, model.network, model.mode, members, model.settings, arrays, notes)


def write_ensemble(path, network, mode, members, settings, arrays, notes):
    """Write what `save` writes, from arrays by published name."""
    header = _header(network, mode, members, settings, notes)
    write_arrays(path, header.model_dump(mode="json"), arrays)


def _header(network, mode, members, settings, notes):
    mode = None if mode == "normal" else mode
    return Header(format=FORMAT, network=network, mode=mode, members=members, model=settings, notes=notes)


def restore(path, name=None, mode=None):
    """Open a checkpoint and return the network that it holds.

    Parameters
    ----------
    path : str | Path
        This project's .npz file, or a TensorFlow checkpoint of a published network: which one it is
        follows from the names and shapes of its variables.
    name, mode : str | None
        The network that is expected; another one is an error. None is any.

    Returns
    -------
    model : sleep_interpreter.model.networks.ensemble.Ensemble
        Its `notes` are those that `save` was given; of a released checkpoint "released", the members found
        and how many were published.

    Raises
    ------
    UserError
        Not a checkpoint, a checkpoint of another network, or one that does not fit its settings.
    """
    header, arrays = read(path, name, mode)
    model = registry.build_from(header.model, header.members, header.network, header.mode)
    model.notes = header.notes
    return _assign(model, arrays)


def read(path, name=None, mode=None):
    """Return the `Header` and the checked arrays of a checkpoint; see `restore`."""
    path = Path(path)
    if is_one(path):
        graph = ObjectGraph(path)
        if graph.header is None:
            return _read_released(graph, name, mode)
        header, found = check_header(graph.header, path), graph.shapes
    else:
        header = check_header(read_header(path), path)
        graph = None
    where = shown(path)
    released.refuse_other(where, (header.network, header.mode), name, mode)
    if graph is None:
        arrays = read_arrays(path)[1]
        found = {name: array.shape for name, array in arrays.items()}
    member = released.shapes(header.model)
    expected = {f"individual_models/{i}/{n}": s for i in range(header.members) for n, s in member.items()}
    if found != expected:
        _refuse(where, found, expected, header.network, header.mode)
    if graph is not None:
        arrays = {name: graph.read(name) for name in found}
    return header, _numbers(arrays, where)


def _read_released(graph, name, mode):
    """Return header and arrays of the complete members of a checkpoint in the published naming."""
    where = shown(graph.path)
    members = released.by_member(graph.shapes)
    named = released.by_file(graph.path)
    likely = [row for row in released.PUBLISHED if row.network == name and mode in (None, row.mode)]
    row = released.recognise(members, [*likely, *([named] if named else [])])
    if row is None:
        wanted = None if name is None else released.described(name, mode)
        raise UserError(f"{where}: {unrecognised(members, wanted)}")
    released.refuse_other(where, row[:2], name, mode)
    if named not in (None, row):
        log.warning("%s: called as %s, but its variables are those of %s: opened as that", where, named, row)
    settings, published = registry.published_settings(row.network, row.mode)
    expected = released.published_shapes(row.network, row.mode)
    complete = [index for index, member in members.items() if member == expected]
    for index, member in members.items():
        if not member.items() <= expected.items():
            raise UserError(
                f"{where}: member {index} does not fit {row}; {released.misfits(expected, member)}"
            )
    if len(complete) < published:
        partial = [
            f"{i} ({len(m)} of {len(expected)} variables)" for i, m in members.items() if i not in complete
        ]
        log.warning(
            "%s: holds %d complete member%s (%s) of the %d that %s was published with%s: the mean is taken "
            "over those",
            where, len(complete), "s" if len(complete) > 1 else "", _numbered(complete), published, row,
            f"; left out as incomplete: {released.few(partial)}" if partial else "",
        )  # fmt: skip
    arrays = {}
    for place, index in enumerate(complete):
        # Names without a prefix are a single member's.
        values = {
            n: graph.read(f"individual_models/{index}/{n}" if _prefixed(graph) else n) for n in expected
        }
        if released.untrained(values):
            log.warning("%s: member %d holds the initial values of an untrained network", where, index)
        arrays |= {f"individual_models/{place}/{n}": value for n, value in values.items()}
    notes = {"released": True, "members_found": complete, "members_published": published}
    header = _header(row.network, row.mode, len(complete), settings, notes)
    return header, _numbers(arrays, where)


def _prefixed(graph):
    return any(released.MEMBER.fullmatch(name) for name in graph.shapes)


def unrecognised(members, wanted=None):
    """Return a sentence part about {member: {name: shape}} that are no published network's."""
    row, index, shared = released.resemblance(members)[0]
    expectation = f" (expected {wanted})" if wanted else ""
    if not shared:
        return f"holds no variable of a published network{expectation}"
    expected = released.published_shapes(row.network, row.mode)
    return (
        f"no complete member of a published network{expectation}; it most resembles {row}, of which member "
        f"{index} has {shared} of {len(expected)} variables; {released.misfits(expected, members[index])}"
    )
