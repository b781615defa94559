"""Which published network a released TensorFlow checkpoint is: its variables' names and shapes tell."""

import logging
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

from sleep_interpreter.model import registry
from sleep_interpreter.model.checkpoints.npz_archive import Header, check_header
from sleep_interpreter.model.checkpoints.tf_checkpoint import ObjectGraph
from sleep_interpreter.model.checkpoints.variables import (
    MEMBER,
    Shapes,
    by_member,
    member_variables,
    misfits,
    refuse_other,
)
from sleep_interpreter.model.networks.registration import NetworkSettings, PublishedNetwork
from sleep_interpreter.model.registry import PUBLISHED, described
from sleep_interpreter.utils.core.errors import UserError, told
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow
from sleep_interpreter.utils.signal.channel_names import listed

log = logging.getLogger(__name__)

Members = dict[int, Shapes]
"""{member: {name: shape}}"""


def read(path: str | Path, name: str | None = None, mode: str | None = None) -> tuple[Header, dict[str, np.ndarray]]:
    """Return header and arrays of a TensorFlow checkpoint: its complete members, numbered from 0.

    One that this project wrote has a header of its own. No complete member of a published network, a member that is
    of none, or another network than `name` and `mode` (None is any), is a `UserError`.
    """
    graph = ObjectGraph(path)
    where = display_path(graph.path)
    if graph.header is not None:
        header = check_header(graph.header, path)
        refuse_misfit(where, header, graph.shapes)
        return header, {name: graph.read(name) for name in graph.shapes}
    members = by_member(graph.shapes)
    named = next((row for row in PUBLISHED if graph.path.name in row.files), None)
    likely = [row for row in PUBLISHED if row.network == name and mode in (None, row.mode)]
    row = recognise(members, [*likely, *([named] if named else [])])
    if row is None:
        raise UserError(f"{where}: {unrecognised(members, None if name is None else described(name, mode))}")
    refuse_other(where, row[:2], name, mode)
    words = described(*row[:2])
    if named not in (None, row):
        log.warning(
            "%s: called as %s, but its variables are those of %s: opened as that",
            where, described(*named[:2]), words,
        )  # fmt: skip
    settings, published = registry.published_settings(*row[:2])
    expected = published_shapes(*row[:2])
    complete = [index for index, member in members.items() if member == expected]
    for index, member in members.items():
        if not member.items() <= expected.items():
            raise UserError(f"{where}: member {index} does not fit {words}; {misfits(expected, member)}")
    if len(complete) < published:
        partial = [f"{i} ({len(m)} of {len(expected)} variables)" for i, m in members.items() if i not in complete]
        log.warning(
            "%s: holds %d complete member%s (%s) of the %d that %s was published with%s: the mean is taken "
            "over those",
            where, len(complete), "s" if len(complete) > 1 else "", ", ".join(map(str, complete)), published,
            words, f"; left out as incomplete: {listed(partial, 5)}" if partial else "",
        )  # fmt: skip
    prefixed = any(MEMBER.fullmatch(key) for key in graph.shapes)  # otherwise a single member's
    arrays: dict[str, np.ndarray] = {}
    for place, index in enumerate(complete):
        values = {n: graph.read(f"individual_models/{index}/{n}" if prefixed else n) for n in expected}
        if _untrained(values):
            log.warning("%s: member %d holds the initial values of an untrained network", where, index)
        arrays |= {f"individual_models/{place}/{n}": value for n, value in values.items()}
    notes = {"released": True, "members_found": complete, "members_published": published}
    header = Header(format=1, network=row.network, mode=row.mode, members=len(complete), model=settings, notes=notes)
    return header, arrays


@cache
def published_shapes(network: str, mode: str) -> Shapes:
    """Return {published name: shape} of one member of published size, without making its values."""
    return member_shapes(registry.published_settings(network, mode)[0])


def member_shapes(settings: NetworkSettings) -> Shapes:
    """Return {published name: shape} of one member of these settings, without making its values.

    Empty for a network that does not know its shapes before it has computed something.
    """
    return _shapes(type(settings), settings.model_dump_json())


@cache
def _shapes(schema: type[NetworkSettings], settings: str) -> Shapes:
    import_tensorflow()
    import keras  # lazy: start-up

    try:
        with keras.StatelessScope(initialize_variables=False):
            member = registry.build_member(schema.model_validate_json(settings), 0)
    except UserError:
        raise
    except Exception as error:  # whatever a layer without values raises
        log.debug("no shapes of %s: %s", schema.__name__, told(error))
        return {}
    return {name: tuple(variable.shape) for name, variable in member_variables(member).items()}


def refuse_misfit(where: str, header: Header, found: Shapes) -> None:
    """Refuse a checkpoint whose arrays are not those of the network that its header describes.

    Nothing of it is read or built before: a header may describe a network of any size.
    """
    members = by_member(found)
    if header.members != len(members):
        held = f"members {listed(members, 5)}" if members else "no member"
        raise UserError(f"{where}: holds {held}, the network has {header.members} of them")
    if expected := member_shapes(header.model):
        wanted = {f"individual_models/{index}/{name}": shape for index in members for name, shape in expected.items()}
        refuse_other_shapes(where, found, wanted, header.network, header.mode)


def refuse_other_shapes(where: str, found: Shapes, expected: Shapes, network: str, mode: str | None) -> None:
    """Refuse variables {"individual_models/<i>/<name>": shape} that are not those of a network."""
    if found == expected:
        return
    members, wanted = by_member(found), by_member(expected)
    if members and all(member == wanted[0] for member in members.values()):
        held = ", ".join(map(str, members))
        raise UserError(f"{where}: holds members {held}, the network has {len(wanted)} of them")
    if row := recognise(members):
        refuse_other(where, row[:2], network, mode or "normal")
    fits = f"{described(network, mode)} with {len(wanted)} member"
    raise UserError(f"{where} does not fit {fits}{'s' * (len(wanted) > 1)}; {misfits(expected, found)}")


def recognise(members: Members, first: Iterable[PublishedNetwork] = ()) -> PublishedNetwork | None:
    """Return the published network that the most members are complete members of, or None; `first` are tried first."""
    counts: dict[PublishedNetwork, int] = {}
    for row in dict.fromkeys([*first, *PUBLISHED]):
        expected = published_shapes(*row[:2])
        counts[row] = sum(member == expected for member in members.values())
        if counts[row] == len(members):
            break
    best = max(counts, key=lambda row: counts[row])
    return best if counts[best] else None


def resemblance(members: Members) -> list[tuple[PublishedNetwork, int, int]]:
    """Return [(network, member, shared)], best first: how many variables a network shares with some member.

    The order is that of shared among all variables of both, since a sleep-only network is part of the
    multi-domain one.
    """
    rows = []
    for row in PUBLISHED:
        expected = published_shapes(*row[:2]).items()
        nearest = (0.0, 0, 0)
        for index, member in members.items():
            shared = len(expected & member.items())
            nearest = max(nearest, (shared / len(expected | member.items()), -index, shared))
        rows.append((nearest[0], row, -nearest[1], nearest[2]))
    return [r[1:] for r in sorted(rows, key=lambda r: r[0], reverse=True)]


def unrecognised(members: Members, wanted: str | None = None) -> str:
    """Return a sentence part about members that are no published network's."""
    row, index, shared = resemblance(members)[0]
    expectation = f" (expected {wanted})" if wanted else ""
    if not shared:
        return f"holds no variable of a published network{expectation}"
    expected = published_shapes(*row[:2])
    return (
        f"no complete member of a published network{expectation}; it most resembles "
        f"{described(*row[:2])}, of which member {index} "
        f"has {shared} of {len(expected)} variables; {misfits(expected, members[index])}"
    )


def _untrained(arrays: dict[str, np.ndarray]) -> bool:
    """Tell whether a member's normalisations all have their initial statistics: it saw no training."""
    moving = [name for name in arrays if name.endswith(("moving_mean", "moving_variance"))]
    return bool(moving) and all(np.all(arrays[name] == name.endswith("moving_variance")) for name in moving)
