"""Names of a network's variables: one everywhere, the one that the released checkpoints have.

"individual_models/<member>/sleep_encoder/layer_with_weights-0/fc_mha/kernel": the layers on the way to it.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sleep_interpreter.model import registry
from sleep_interpreter.model.networks.registration import Member
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import listed

MEMBER = re.compile(r"individual_models/([0-9]{1,3})/(.+)")

Shapes = dict[str, tuple[int, ...]]


def member_variables(member: Member) -> dict[str, Any]:
    """Return {published name: variable} of one member, without random-number state.

    Keras numbers layers and weights without a name through the whole process ("dense_7", "variable_3"). Here they
    are numbered within their parent, in the order of their variables, so that a name is the same in every process.
    Two variables of one name are a `UserError`.
    """
    automatic = {v.name: "variable" for v in member.variables if re.fullmatch(r"variable(_\d+)?", v.name)}
    for layer in member._flatten_layers():
        base = re.sub(r"_\d+$", "", layer.name)
        if base.replace("_", "").endswith(type(layer).__name__.lower()):  # also "forward_lstm_3"
            automatic[layer.name] = base
    renamed: dict[str, str] = {}
    taken: Counter[str] = Counter()
    result: dict[str, Any] = {}
    for variable in member.variables:
        path = variable.path.removeprefix(f"{member.name}/")
        if "seed_generator" in path:
            continue
        place, name = "", ""
        for part in path.split("/"):
            place += f"{part}/"
            if place not in renamed:
                own = name + automatic.get(part, part)
                number = taken[own]
                taken[own] += part in automatic
                renamed[place] = f"{own}_{number}/" if number else f"{own}/"
            name = renamed[place]
        name = name.removesuffix("/").replace("lstm/lstm_cell/", "lstm/cell/")
        if name in result:
            raise UserError(
                f"network {member.settings.kind!r}: two variables are called {name!r} ({variable.path}): "
                "give their layers or the weights different names"
            )
        result[name] = variable
    return result


def ensemble_variables(model: Any) -> dict[str, Any]:
    """Return {published name: variable} of a whole ensemble, with the member prefix."""
    return {
        f"individual_models/{index}/{name}": variable
        for index, member in enumerate(model.individual_models)
        for name, variable in member_variables(member).items()
    }


def by_member(found: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Return {member: {name: anything}} from {"individual_models/<i>/name": anything}.

    Names without the prefix are those of a single member, 0.
    """
    members: dict[int, dict[str, Any]] = {}
    for name, value in found.items():
        match = MEMBER.fullmatch(name)
        index, own = (int(match[1]), match[2]) if match else (0, name)
        members.setdefault(index, {})[own] = value
    return dict(sorted(members.items()))


def misfits(expected: Shapes, found: Shapes) -> str:
    """Return a sentence part about all that differs, "" if nothing: at most five names of each kind."""
    shapes = [
        f"{name} (found {found[name]}, expected {shape})"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    kinds = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(found.keys() - expected.keys()),
        "of another shape": shapes,
    }
    return "; ".join(f"{len(names)} {kind}: {listed(names, 5)}" for kind, names in kinds.items() if names)


def refuse_other(where: str, found: tuple[str, str | None], network: str | None, mode: str | None) -> None:
    """Raise a `UserError` where the (network, mode) found are not those that are wanted; None is anything."""
    has = (found[0], found[1] or "normal")
    if network is not None and has[0] != network:
        wanted = registry.described(network, mode)
        raise UserError(f"{where}: holds {registry.described(*has)}, expected {wanted}")
    if mode is not None and has[1] != mode:
        raise UserError(f"{where}: this is {has[0]} in {has[1]} mode, expected {mode} mode: pass --mode {has[1]}")
