"""All networks: which there are, and from a published name to an ensemble.

A network is added here as one line in `NETWORKS`, or by another package under its entry point group. Sizes
and weights of variants stand in params/ alone.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from sleep_interpreter.model.networks.building import (
    DEFAULT_SEED,
    build_ensemble,
    build_member,
    build_published,
    follow_card,
    settings_from_params,
)
from sleep_interpreter.model.networks.registration import NetworkSettings, PublishedNetwork, unfit_schema
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.errors import UserError, did_you_mean, warn_once
from sleep_interpreter.utils.core.paths import PARAMS
from sleep_interpreter.utils.core.registry import Registry

if TYPE_CHECKING:
    from sleep_interpreter.model.networks.ensemble import Ensemble

__all__ = [
    "DEFAULT_SEED", "KINDS", "PARAMS_FOLDERS", "PUBLISHED", "ModelSettings", "build", "build_ensemble", "build_member",
    "described", "follow_card", "names", "published_network", "published_settings",
]  # fmt: skip

log = logging.getLogger(__name__)


class _Networks(Registry):
    def problem(self, name: str, part: Any) -> str:
        return unfit_schema(name, part)


NETWORKS = _Networks(
    "network",
    "sleep_interpreter.networks",
    {
        "decoder": "sleep_interpreter.model.networks.settings:DecoderSettings",
        "eegnet": "sleep_interpreter.model.networks.eegnet:EEGNetSettings",
        "stager": "sleep_interpreter.model.SIStaging.settings:StagerSettings",
    },
)
"""{`kind` of a network's settings: their class}"""


def _load_all() -> tuple[type[NetworkSettings], ...]:
    found = []
    for name in NETWORKS.names():
        try:
            found.append(NETWORKS.load(name))
        except UserError as error:  # one package that fails must not stop every script
            log.warning("WARNING: network %s of another package left out: %s", name, error)
    return tuple(found)


KINDS = _load_all()
"""The settings classes of all networks."""
PARAMS_FOLDERS = tuple(schema.params for schema in KINDS if schema.params is not None)
"""Where other packages keep their networks' settings; ours lie in params/."""
PUBLISHED = tuple(row for schema in KINDS for row in schema.published)

if TYPE_CHECKING:
    ModelSettings = NetworkSettings
else:
    ModelSettings = Annotated[Union[KINDS], Field(discriminator="kind")]  # noqa: UP007
    """Settings of any network; the key `kind` tells which."""


def names() -> list[str]:
    """Return the names of all networks, read off params/ and the folders of other packages."""
    return sorted({p.stem for folder in (PARAMS, *PARAMS_FOLDERS) for p in folder.glob("[!_]*.yaml") if _is_network(p)})


def _is_network(path: Path) -> bool:
    try:
        return config.read_yaml(path).get("network") == path.stem
    except (UserError, OSError) as error:
        if path.parent == PARAMS:
            raise
        warn_once(f"settings of another package left out: {error}")
        return False


def build(
    name: str,
    members: int | None = None,
    mode: str | None = None,
    dropout: float | None = None,
    seed: int = DEFAULT_SEED,
    card: DataCard | None = None,
    **overrides: Any,
) -> "Ensemble":
    """Build a network, or raise a `UserError`: an unknown name, mode or key (the nearest is named), or a bad value.

    Parameters
    ----------
    name
        Published name, such as "N23SIMD" or "SIStaging" (see `names`).
    members
        None is the published number (5 for decoders, 6 for stagers).
    mode
        "normal" (also None) or another mode of the network's YAML, such as "retrained" for N23SIMD.
    dropout
        Replaces every dropout rate; None keeps the published ones.
    seed
        Of the initial weights and dropout masks; members differ, and member i is the same in any ensemble.
    card
        Of the data (`TrainingTrials.card`, `TestSubject.card`): sizes follow it, and the network knows the names of its
        channels and items. None: the published experiment's sizes.
    **overrides
        Any key of the network's settings, such as `model.networks.settings.DecoderSettings`; a nested section
        is given as a mapping of what differs: ``build("N23SIMD", channels=28, sleep_encoder={"depth": 1})``.
    """
    known = names()
    if name not in known:
        hint = did_you_mean(name, known, f"there are {', '.join(known)}")
        raise UserError(f"no network is called {name!r}; {hint}")
    return build_published(KINDS, name, members, mode, dropout, seed, card, **overrides)


def published_settings(network: str, mode: str | None = None) -> tuple[NetworkSettings, int]:
    """Return the model settings that params/ hold for a network, and its published number of members."""
    return settings_from_params(KINDS, network, mode)


def published_network(network: str, mode: str | None = None) -> PublishedNetwork:
    """Return what a network's files are called; one that is not published has a row under its own name."""
    wanted = (network, mode or "normal")
    return next((row for row in PUBLISHED if row[:2] == wanted), PublishedNetwork(*wanted, network))


def described(network: str, mode: str | None = None) -> str:
    """Return a network and its mode in words; modes are named only where there are several."""
    several = sum(row.network == network for row in PUBLISHED) > 1
    return f"{network} in {mode or 'normal'} mode" if several or mode not in (None, "normal") else network
