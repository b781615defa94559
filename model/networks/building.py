"""Members and ensembles out of settings, and settings out of the YAML files in params/."""

import math
import pkgutil
import random
from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, cast

from sleep_interpreter.model.networks.registration import Kinds, Member, NetworkSettings, kind_of
from sleep_interpreter.utils.core import config, data_card
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.errors import UserError, told
from sleep_interpreter.utils.core.registry import unfit
from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from sleep_interpreter.model.networks.ensemble import Ensemble

DEFAULT_SEED = 1642
"""The published training seed."""


def build_member(
    settings: NetworkSettings, index: int, dropout: float | None = None, seed: int = DEFAULT_SEED
) -> Member:
    """Build member `index` of an ensemble; it depends on `seed` and `index` alone.

    A layer that has no weights though the member has predicted once is a `UserError`.
    """
    tf = import_tensorflow()
    try:
        build = cast(Callable[..., Member], pkgutil.resolve_name(settings.builder))
    except Exception as error:  # whatever another package raises
        where = f"network {settings.kind!r}: its builder {settings.builder!r}"
        raise UserError(f"{where} cannot be loaded: {told(error)}; mend its package") from error
    state = random.getstate()
    random.seed(f"{seed}/{index}")  # Keras draws from it the seeds of initialisers that have none
    try:
        member = build(settings, (seed, index), dropout)
        if problem := unfit(member, Member):
            raise UserError(f"network {settings.kind!r}: what {settings.builder} returns is no Member: {problem}")
        if not all(layer.built for layer in member._flatten_layers()):
            member(tf.zeros((1, *member.input_size)))
    finally:
        random.setstate(state)
    if left := [layer.name for layer in member._flatten_layers() if not layer.built]:
        raise UserError(
            f"network {settings.kind!r}: layer {left[0]!r} has no weights after a first prediction, so that "
            "they could neither be trained nor stored: build it in the network's `build`"
        )
    return member


def build_ensemble(
    settings: NetworkSettings,
    members: int,
    network: str,
    mode: str | None = None,
    dropout: float | None = None,
    seed: int = DEFAULT_SEED,
) -> "Ensemble":
    """Build an ensemble from resolved settings; see `sleep_interpreter.model.registry.build`."""
    made = [build_member(settings, index, dropout, seed) for index in range(members)]
    from sleep_interpreter.model.networks.ensemble import Ensemble  # lazy: start-up

    return Ensemble(made, network, None if mode == "normal" else mode)


def build_published(
    kinds: Kinds,
    name: str,
    members: int | None = None,
    mode: str | None = None,
    dropout: float | None = None,
    seed: int = DEFAULT_SEED,
    card: DataCard | None = None,
    **overrides: Any,
) -> "Ensemble":
    """Build a network by its name in params/; see `sleep_interpreter.model.registry.build`."""
    settings, published = settings_from_params(kinds, name, mode, card, **overrides)
    members = published if members is None else members
    if not _is(members, Integral) or members < 1:
        raise UserError(f"members = {members!r}: an ensemble needs at least one, and a whole number of them")
    if not _is(seed, Integral) or seed < 0:
        raise UserError(f"seed = {seed!r}: permitted are whole numbers from 0 on")
    if dropout is not None and not (_is(dropout, Real) and math.isfinite(dropout) and 0 <= dropout < 1):
        raise UserError(f"dropout = {dropout!r}: permitted is 0 <= dropout < 1")
    ensemble = build_ensemble(settings, members, network=name, mode=mode, dropout=dropout, seed=seed)
    if card is not None:
        ensemble.notes = data_card.to_notes(card)
    return ensemble


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def settings_from_params(
    kinds: Kinds, name: str, mode: str | None = None, card: DataCard | None = None, **overrides: Any
) -> tuple[NetworkSettings, int]:
    """Return the model settings that the YAML of a network holds, and its published number of members.

    Its `model.kind` chooses among `kinds`; the rest is as for `sleep_interpreter.model.registry.build`.
    """
    path = config.find(name, [kind.params for kind in kinds if kind.params is not None])
    tree, origin = config.resolve(path, mode=mode)
    config.merge(tree, {"model": overrides}, origin, "build()")
    where = f"params/{name}.yaml"
    if "members" not in tree:
        raise UserError(f"{where}: 'members' is missing")
    model = follow_card(kinds, tree.get("model", {}), card)
    settings = validate_model(kinds, model, where, origin)
    if card is not None and settings.task == "decoding":
        settings.check_card(card, f"the card {card.title!r}")
    return settings, tree["members"]


def follow_card(kinds: Kinds, tree: dict[str, Any], card: DataCard | None) -> dict[str, Any]:
    """Return the model settings of a plain mapping with the sizes that it leaves to the data card."""
    chosen = [schema for schema in kinds if kind_of(schema) == tree.get("kind")]
    return {**tree, **chosen[0].sizes_of(card, tree)} if chosen and card is not None else tree


def validate_model(
    kinds: Kinds, tree: dict[str, Any], where: str, origin: dict[str, str] | None = None
) -> NetworkSettings:
    """Return the model settings that a plain mapping holds; its key `kind` says of which of `kinds`."""
    chosen = [schema for schema in kinds if kind_of(schema) == tree.get("kind")]
    return config.validate((chosen or kinds)[0], tree, where, origin, prefix="model")
