"""Look into a checkpoint, or convert it between this project's .npz and TensorFlow's format."""

import json
import math
import zipfile
from pathlib import Path

import numpy as np

from sleep_interpreter.model.checkpoints import checkpoint, published_names, tf_checkpoint
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import shown


def convert(source, target, overwrite=False):
    """Convert a checkpoint; settings and notes (such as "simulated") go along.

    Parameters
    ----------
    source : str | Path
        A .npz of this project, or a TensorFlow checkpoint of a published network.
    target : str | Path
        Ends in .npz or .ckpt. It is written under another name and renamed when complete.
    overwrite : bool
        Replace a checkpoint that is there.

    Returns
    -------
    lines : list of str
        What was done.

    Raises
    ------
    UserError
        The source does not open, the target is there or ends otherwise.
    """
    target = Path(target)
    if target.suffix not in (".npz", ".ckpt"):
        raise UserError(
            f"{shown(target)}: the target's name ends in .npz (this project) or .ckpt (TensorFlow)"
        )
    if not overwrite and (target.exists() or tf_checkpoint.is_one(target)):
        raise UserError(f"{shown(target)} is there already: pass --overwrite to replace it")
    header, arrays = checkpoint.read(source)
    content = header.model_dump(mode="json")
    if target.suffix == ".npz":
        checkpoint.write_arrays(target, content, arrays)
    else:
        tf_checkpoint.write(target, arrays, content)
    return [f"written: {shown(target)}", *_summary(header)]


def inspect(path, verbose=False):
    """Return what a checkpoint is and holds, as lines; its values are not read.

    Parameters
    ----------
    path : str | Path
    verbose : bool
        List every variable of one member with its shape.
    """
    path = Path(path)
    if tf_checkpoint.is_one(path):
        graph = tf_checkpoint.ObjectGraph(path)
        lines = [f"{shown(graph.path)}: TensorFlow object-graph checkpoint"]
        found = published_names.by_member(graph.shapes)
        if graph.header is None:
            return lines + _released(found) + _variables(found, verbose)
        header = checkpoint.check_header(graph.header, path)
        lines[0] += ", written by this project"
    else:
        raw = checkpoint.read_header(path)
        if isinstance(raw, dict) and "history" in raw and "network" not in raw:
            epochs = len(checkpoint.read_state(path, header_only=True)[0]["history"])
            return [f"{shown(path)}: training state of one member, {epochs} epochs done; no checkpoint"]
        header = checkpoint.check_header(raw, path)
        lines = [f"{shown(path)}: checkpoint of this project (.npz)"]
        found = published_names.by_member(_stored_shapes(path))
    return lines + _summary(header) + _variables(found, verbose)


def _summary(header):
    lines = [
        _line("network", header.network),
        _line("mode", header.mode or "normal"),
        _line("members", header.members),
        _line("format", header.format),
        *(_line(f"note: {key}", _text(value)) for key, value in header.notes.items()),
    ]
    if header.notes.get("simulated"):
        lines.append("  trained on SIMULATED data: says nothing about people")
    return lines


def _released(found):
    from sleep_interpreter.model import registry
    from sleep_interpreter.model.checkpoints.checkpoint import unrecognised

    row = published_names.recognise(found)
    if row is None:
        lines = [_line("network", "not recognised"), f"  {unrecognised(found)}"]
        for other, index, shared in published_names.resemblance(found):
            total = len(published_names.published_shapes(*other[:2]))
            lines.append(_line(f"like {other}", f"{shared} of {total} variables (member {index})"))
        return lines
    expected = published_names.published_shapes(*row[:2])
    published = registry.published_settings(*row[:2])[1]
    complete = [index for index, member in found.items() if member == expected]
    lines = [
        _line("network", row.network),
        _line("mode", row.mode),
        _line(
            "members", f"{len(complete)} complete ({', '.join(map(str, complete))}), published: {published}"
        ),
    ]
    for index in found.keys() - set(complete):
        lines.append(_line(f"member {index}", published_names.misfits(expected, found[index])))
    return lines


def _variables(found, verbose):
    if not found:
        return [_line("variables", "none")]
    member = max(found.values(), key=len)
    moving = {name for name in member if name.endswith(("moving_mean", "moving_variance"))}
    count = sum(math.prod(shape) for name, shape in member.items() if name not in moving)
    statistics = sum(math.prod(member[name]) for name in moving)
    lines = [
        _line(
            "a member has", f"{len(member)} variables, {count:,} trainable numbers, {statistics:,} statistics"
        )
    ]
    if verbose:
        lines += [f"    {name}  {' x '.join(map(str, shape)) or 'scalar'}" for name, shape in member.items()]
    return lines


def _stored_shapes(path):
    """Return {name: shape} of an .npz without reading its arrays."""
    result = {}
    with zipfile.ZipFile(path) as stored:
        for entry in stored.namelist():
            with stored.open(entry) as handle:
                version = np.lib.format.read_magic(handle)
                read = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    read = np.lib.format.read_array_header_2_0
                result[entry.removesuffix(".npy")] = read(handle)[0]
    del result["header.json"]
    return result


def _line(what, value):
    return f"  {what:<26} {value}"


def _text(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:190]}... ({len(text)} characters)"
