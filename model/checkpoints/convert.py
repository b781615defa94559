"""Look into a checkpoint, or convert it between this project's .npz and TensorFlow's format."""

import json
import math
from pathlib import Path
from typing import Any

from sleep_interpreter.model import registry
from sleep_interpreter.model.checkpoints import checkpoint, npz_archive, released, tf_checkpoint
from sleep_interpreter.model.checkpoints.variables import by_member, misfits
from sleep_interpreter.utils.core import data_card
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path


def convert(source: str | Path, target: str | Path, overwrite: bool = False) -> list[str]:
    """Convert a checkpoint; settings and notes (such as "simulated") go along. Return lines about what was done.

    The source is a .npz of this project, or a TensorFlow checkpoint of a published network; the target ends in .npz
    or .ckpt, and is written under another name and renamed when complete. A source that does not open, a target
    that ends otherwise, or is there without `overwrite`, is a `UserError`.
    """
    target = Path(target)
    if target.suffix not in (".npz", ".ckpt"):
        raise UserError(f"{target}: the target's name ends in .npz (this project) or .ckpt (TensorFlow)")
    if not overwrite and (target.exists() or tf_checkpoint.is_one(target)):
        raise UserError(f"{target} is there already: pass --overwrite to replace it")
    network = checkpoint.restore(source)
    header = npz_archive.Header(
        format=1, network=network.network, mode=network.mode, members=len(network.individual_models),
        model=network.settings, notes=network.notes,
    )  # fmt: skip
    write = npz_archive.write_arrays if target.suffix == ".npz" else tf_checkpoint.write
    write(target, header.model_dump(mode="json"), checkpoint.values_of(network))
    return [f"written: {display_path(target)}", *_summary(header)]


def inspect(path: str | Path, verbose: bool = False) -> list[str]:
    """Return what a checkpoint is and holds, as lines; its values are not read.

    `verbose` lists every variable of one member with its shape.
    """
    path = Path(path)
    if tf_checkpoint.is_one(path):
        graph = tf_checkpoint.ObjectGraph(path)
        first = f"{display_path(graph.path)}: TensorFlow object-graph checkpoint"
        found = by_member(graph.shapes)
        if graph.header is None:
            return [first, *_released(found), *_variables(found, verbose)]
        header = npz_archive.check_header(graph.header, path)
        first += ", written by this project"
    else:
        with npz_archive.opened(path) as archive:
            raw, shapes = archive.header, archive.shapes
        if isinstance(raw, dict) and "history" in raw and "network" not in raw:
            epochs = len(npz_archive.read_state(path, header_only=True)[0]["history"])
            return [f"{display_path(path)}: training state of one member, {epochs} epochs done; no checkpoint"]
        header = npz_archive.check_header(raw, path)
        first = f"{display_path(path)}: checkpoint of this project (.npz)"
        found = by_member(shapes)
    return [first, *_summary(header), *_variables(found, verbose)]


def _summary(header: npz_archive.Header) -> list[str]:
    lines = [
        _line("network", header.network),
        _line("mode", header.mode or "normal"),
        _line("members", header.members),
        _line("format", header.format),
        *_card(header),
        *(_line(f"note: {key}", _text(value)) for key, value in header.notes.items() if key != "card"),
    ]
    if header.notes.get("simulated"):
        lines.append("  trained on SIMULATED data: says nothing about people")
    return lines


def _card(header: npz_archive.Header) -> list[str]:
    """Return what data the network was trained on, as lines."""
    if header.model.task != "decoding":
        return []
    card = data_card.from_notes(header.notes, header.network)
    known = "" if "card" in header.notes else " (the checkpoint holds no card: the published one is taken)"
    window = card.windows.sleep
    return [
        _line("data card", f"{card.title}{known}"),
        _line("items", f"{len(card.items)}: {', '.join(card.item_names)}"),
        _line("channels", f"{len(card.channels)}: {', '.join(card.channels)}"),
        _line("trials asleep", f"{window.span} at {card.rate_hz:g} Hz, unit {card.unit}"),
    ]


def _released(found: released.Members) -> list[str]:
    row = released.recognise(found)
    if row is None:
        lines = [_line("network", "not recognised"), f"  {released.unrecognised(found)}"]
        for other, index, shared in released.resemblance(found):
            total = len(released.published_shapes(*other[:2]))
            words = registry.described(*other[:2])
            lines.append(_line(f"like {words}", f"{shared} of {total} variables (member {index})"))
        return lines
    expected = released.published_shapes(*row[:2])
    published = registry.published_settings(*row[:2])[1]
    complete = [index for index, member in found.items() if member == expected]
    count = f"{len(complete)} complete ({', '.join(map(str, complete))}), published: {published}"
    return [
        _line("network", row.network),
        _line("mode", row.mode),
        _line("members", count),
        *(_line(f"member {i}", misfits(expected, m)) for i, m in found.items() if i not in complete),
    ]


def _variables(found: released.Members, verbose: bool) -> list[str]:
    if not found:
        return [_line("variables", "none")]
    member = max(found.values(), key=len)
    sizes = {name: math.prod(shape) for name, shape in member.items()}
    moving = [name for name in sizes if name.endswith(("moving_mean", "moving_variance"))]
    statistics = sum(sizes[name] for name in moving)
    numbers = f"{sum(sizes.values()) - statistics:,} trainable numbers, {statistics:,} statistics"
    lines = [_line("a member has", f"{len(member)} variables, {numbers}")]
    if verbose:
        lines += [f"    {name}  {' x '.join(map(str, shape)) or 'scalar'}" for name, shape in member.items()]
    return lines


def _line(what: str, value: Any) -> str:
    return f"  {what:<26} {value}"


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:190]}... ({len(text)} characters)"
