"""From a published name to a network: the YAML in params/ is the only place where variants differ."""

import math
from numbers import Integral, Real

from sleep_interpreter.model.networks.settings import DecoderSettings, StagerSettings
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import PARAMS
from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow

DEFAULT_SEED = 1642
"""The published training seed."""


def names():
    """Return the names of all networks, read off params/."""
    return sorted(p.stem for p in PARAMS.glob("[!_]*.yaml") if config.read_yaml(p).get("network") == p.stem)


def build(name, members=None, mode=None, dropout=None, seed=DEFAULT_SEED, **overrides):
    """Build a network.

    Parameters
    ----------
    name : str
        Published name, such as "N23SIMD" or "SIStaging" (see `names`).
    members : int | None
        Members of the ensemble; None is the published number (5 for decoders, 6 for stagers).
    mode : str | None
        "normal" (also None) or another mode of the network's YAML, such as "retrained" for N23SIMD.
    dropout : float | None
        Replaces every dropout rate; None keeps the published ones.
    seed : int
        Seed of the initial weights and dropout masks; members differ, and member i is the same in an
        ensemble of any size.
    **overrides
        Any key of `model.networks.settings.DecoderSettings` or `StagerSettings`; a nested section is given as a
        mapping of what differs: ``build("N23SIMD", channels=28, sleep_encoder={"depth": 1})``.

    Returns
    -------
    ensemble : sleep_interpreter.model.networks.ensemble.Ensemble

    Raises
    ------
    UserError
        Unknown name, mode or key (the nearest known one is named), or a value out of range.
    """
    settings, published = published_settings(name, mode, **overrides)
    count = published if members is None else members
    return build_from(settings, count, network=name, mode=mode, dropout=dropout, seed=seed)


def published_settings(name, mode=None, **overrides):
    """Return the model settings that params/ hold for a network, and its published number of members.

    Parameters and errors are those of `build`.
    """
    known = names()
    if name not in known:
        close = nearest(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        raise UserError(f"no network is called {name!r}; {hint}")
    tree, origin = config.resolve(config.find(name), mode=mode)
    config.merge(tree, {"model": overrides}, origin, "build()")
    where = f"params/{name}.yaml"
    if "members" not in tree:
        raise UserError(f"{where}: 'members' is missing")
    return validate_model(tree.get("model", {}), where, origin), tree["members"]


def build_from(settings, members, network, mode=None, dropout=None, seed=DEFAULT_SEED):
    """Build an ensemble from resolved settings; see `build`."""
    if not _is(members, Integral) or members < 1:
        raise UserError(f"members = {members!r}: an ensemble needs at least one, and a whole number of them")
    if not _is(seed, Integral) or seed < 0:
        raise UserError(f"seed = {seed!r}: permitted are whole numbers from 0 on")
    if dropout is not None and not (_is(dropout, Real) and math.isfinite(dropout) and 0 <= dropout < 1):
        raise UserError(f"dropout = {dropout!r}: permitted is 0 <= dropout < 1")
    import_tensorflow()
    from sleep_interpreter.model.networks.ensemble import Ensemble

    made = [build_member(settings, index, dropout, seed) for index in range(members)]
    return Ensemble(made, network, None if mode == "normal" else mode)


def build_member(settings, index, dropout=None, seed=DEFAULT_SEED):
    """Build member `index` of an ensemble; it depends on `seed` and `index` alone."""
    import_tensorflow()
    entropy = (seed, index)
    if isinstance(settings, StagerSettings):
        from sleep_interpreter.model.SIStaging.network import Stager

        weights = settings.class_weights[index % len(settings.class_weights)]
        return Stager(settings, entropy, dropout, weights)
    from sleep_interpreter.model.networks.decoder import MultiDomainDecoder, SleepDecoder

    return (MultiDomainDecoder if settings.awake else SleepDecoder)(settings, entropy, dropout)


def _is(value, kind):
    return isinstance(value, kind) and not isinstance(value, bool)


def validate_model(tree, where, origin=None):
    """Return the model settings that a plain mapping holds (the key `kind` says which)."""
    schema = StagerSettings if tree.get("kind") == "stager" else DecoderSettings
    return config.validate(schema, tree, where, origin, prefix="model")
