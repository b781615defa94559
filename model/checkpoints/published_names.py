"""The published networks as a table: names of runs and files, and what a checkpoint's variables say it is.

A variable has one name everywhere, the one it has in the released checkpoints
("individual_models/<member>/sleep_encoder/layer_with_weights-0/fc_mha/kernel").
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sleep_interpreter.model import registry
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow

MEMBER = re.compile(r"individual_models/(\d+)/(.+)")


class Published(NamedTuple):
    """A published network."""

    network: str
    mode: str
    run: str
    """Its folder under results/."""
    stems: tuple[str, ...]
    """How its released files' names begin; the original's scripts disagree among themselves."""
    kind: str = "Decoding"
    """Folder of the released checkpoint under "Model checkpoint"; results/ has "<kind> checkpoint"."""

    @property
    def files(self):
        """File names of the released checkpoint, in the order in which they are looked for."""
        return tuple(f"{stem}{end}.ckpt" for stem in self.stems for end in ("", "_model"))

    def __str__(self):
        return described(self.network, self.mode)


PUBLISHED = (
    Published("N23SIMD", "normal", "N2N3_SIMD", ("N2N3_SIMD", "N23_SIMD")),
    Published("N23SIMD", "retrained", "N2N3_SIMD_Retrained", ("N2N3_SIMD_Retrained", "N23_SIMD_Retrained")),
    Published("N23SISD", "normal", "N2N3_SISD", ("N2N3_SISD", "N23_SISD")),
    Published("REMSIMD", "normal", "REM_SIMD", ("REM_SIMD",)),
    Published("REMSISD", "normal", "REM_SISD", ("REM_SISD",)),
    Published("SIStaging", "normal", "SIStaging", ("Staging",), "Staging"),
)


def entry(network, mode=None):
    """Return the row of a network; one that is not published gets a row under its own name."""
    wanted = (network, mode or "normal")
    return next((row for row in PUBLISHED if row[:2] == wanted), Published(*wanted, network, ()))


def by_file(path):
    """Return the row whose released files are called so, or None."""
    return next((row for row in PUBLISHED if Path(path).name in row.files), None)


def described(network, mode):
    """Return a network and its mode in words; modes are named only where there are several."""
    several = sum(row.network == network for row in PUBLISHED) > 1
    return f"{network} in {mode or 'normal'} mode" if several or mode not in (None, "normal") else network


def member_variables(member):
    """Return {published name: variable} of one member, without random-number state."""
    variables = {}
    for variable in member.variables:
        _, _, name = variable.path.partition("/")
        if "seed_generator" not in name:
            variables[name.replace("lstm/lstm_cell/", "lstm/cell/")] = variable
    return variables


def shapes(settings):
    """Return {published name: shape} of one member with these settings, without making its values."""
    import_tensorflow()
    import keras

    with keras.StatelessScope(initialize_variables=False):
        member = registry.build_member(settings, 0)
    return {name: tuple(variable.shape) for name, variable in member_variables(member).items()}


@cache
def published_shapes(network, mode):
    """Return {published name: shape} of one member of published size."""
    return shapes(registry.published_settings(network, mode)[0])


def by_member(found):
    """Return {member: {name: anything}} from {"individual_models/<i>/name": anything}.

    Names without the prefix are those of a single member, 0.
    """
    members = {}
    for name, value in found.items():
        match = MEMBER.fullmatch(name)
        index, own = (int(match[1]), match[2]) if match else (0, name)
        members.setdefault(index, {})[own] = value
    return dict(sorted(members.items()))


def recognise(members, first=()):
    """Return the row of the published network that the most members are complete members of, or None.

    Parameters
    ----------
    members : {member: {name: shape}}
    first : iterable of Published
        Rows that are tried before the others.
    """
    rows = dict.fromkeys([*first, *PUBLISHED])
    counts = {}
    for row in rows:
        expected = published_shapes(row.network, row.mode)
        counts[row] = sum(member == expected for member in members.values())
        if counts[row] == len(members):
            break
    best = max(counts, key=counts.get)
    return best if counts[best] else None


def resemblance(members):
    """Return [(row, member, shared)], best first: how many variables a network shares with some member.

    The order is that of shared among all variables of both, since a sleep-only network is part of the
    multi-domain one.
    """
    rows = []
    for row in PUBLISHED:
        expected = published_shapes(row.network, row.mode).items()
        nearest = (0.0, 0, 0)
        for index, member in members.items():
            shared = len(expected & member.items())
            nearest = max(nearest, (shared / len(expected | member.items()), -index, shared))
        rows.append((nearest[0], row, -nearest[1], nearest[2]))
    return [tuple(r[1:]) for r in sorted(rows, key=lambda r: r[0], reverse=True)]


def misfits(expected, found):
    """Return a sentence part about every way in which {name: shape} differ from what is expected.

    Empty when nothing differs; at most five names of each kind are listed.
    """
    kinds = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(found.keys() - expected.keys()),
        "of another shape": [
            f"{name} (found {found[name]}, expected {shape})"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ],
    }
    return listed(kinds)


def listed(kinds):
    """Return {"missing": names, ...} as "3 missing: a, b, c; ..."."""
    return "; ".join(f"{len(v)} {kind}: {few(v)}" for kind, v in kinds.items() if v)


def few(names):
    """Return at most five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(str, names[:5])) + more


def refuse_other(where, found, network, mode):
    """Raise a `UserError` where a checkpoint's network is not the one that is wanted.

    Parameters
    ----------
    where : str
    found : tuple (network, mode)
    network, mode : str | None
        What is wanted; None is anything.
    """
    has = (found[0], found[1] or "normal")
    if network is not None and has[0] != network:
        raise UserError(f"{where}: holds {described(*has)}, expected {described(network, mode)}")
    if mode is not None and has[1] != mode:
        option = f"pass --mode {has[1]}"
        raise UserError(f"{where}: this is {has[0]} in {has[1]} mode, expected {mode} mode: {option}")


def untrained(arrays):
    """Tell whether a member's normalisations all have their initial statistics: it saw no training."""
    statistics = {
        name: float(name.endswith("moving_variance"))
        for name in arrays
        if name.endswith(("moving_mean", "moving_variance"))
    }
    return bool(statistics) and all(np.all(arrays[name] == value) for name, value in statistics.items())
