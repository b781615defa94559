"""What a network says of itself to be built, trained, tested and found: its settings class.

`model/registry.py` lists the settings classes of all networks. From one follow the settings in params/, the
function that builds a member, and the names of released checkpoints. Nothing here imports TensorFlow.
"""

import math
import pkgutil
import random
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, cast

from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from sleep_interpreter.model.networks.ensemble import Ensemble

DEFAULT_SEED = 1642
"""The published training seed."""


class PublishedNetwork(NamedTuple):
    """A published network in one of its modes, and what its files are called."""

    network: str
    mode: str
    run: str
    """Its folder under results/."""
    stems: tuple[str, ...] = ()
    """How its released files' names begin; the original's scripts disagree among themselves."""
    folder: str = "Decoding"
    """Folder of the released checkpoint under "Model checkpoint"; results/ has "<folder> checkpoint"."""

    @property
    def files(self) -> tuple[str, ...]:
        """File names of the released checkpoint, in the order in which they are looked for."""
        return tuple(f"{stem}{end}.ckpt" for stem in self.stems for end in ("", "_model"))


class NetworkSettings(config.Settings):
    """Base of the settings of every network; a subclass is what is registered.

    A subclass has the fields `kind` (a `Literal` of its own), `channels` and `classes`; one for sleep trials
    `sleep_samples` and `awake` too (whether it takes awake trials along).
    """

    task: ClassVar[Literal["decoding", "staging"]] = "decoding"
    """Which data the network reads: sleep trials (B, T, C), or staging windows (B, C, T)."""
    builder: ClassVar[str]
    """"package.module:function"; the function takes (settings, seed, dropout), returns a `Member`, and is
    imported when a network is built. `seed` is the pair (seed, number of the member)."""
    published: ClassVar[tuple[PublishedNetwork, ...]] = ()
    """Its released networks; one that is not released needs no row."""
    params: ClassVar[Path | None] = None
    """Folder of the networks' YAML files; None is params/."""

    if TYPE_CHECKING:
        kind: str
        channels: int
        classes: int
        sleep_samples: int
        awake: bool

    def check_data(
        self,
        samples: int,
        channels: int,
        classes: int,
        awake_samples: int | None = None,
        where: str = "the data",
    ) -> None:
        """Refuse data that this network does not take.

        Parameters
        ----------
        samples, channels, classes : int
            T and C of sleep trials or staging windows, and K of their labels.
        awake_samples : int | None
            T of the awake trials; None where there are none.
        where : str
            What the message names: a file or a folder.

        Raises
        ------
        UserError
            Every setting that differs, with its value and what the data hold.
        """
        key = "samples" if self.task == "staging" else "sleep_samples"
        found = {key: samples, "channels": channels, "classes": classes}
        if self.task == "decoding" and self.awake:
            if awake_samples is None:
                raise UserError(f"{where}: no awake trials, but model.awake is true: set model.awake=false")
            found["awake_samples"] = awake_samples
        wrong = [
            f"model.{key} is {getattr(self, key)}, the data have {value}"
            for key, value in found.items()
            if getattr(self, key) != value
        ]
        if wrong:
            raise UserError(f"{where} does not fit the network: {'; '.join(wrong)}")


Kinds = tuple[type[NetworkSettings], ...]


class Member(Protocol):
    """One network of an ensemble: a `keras.Model` that has these too.

    A member that is trained with values of its own besides weights keeps them in `member_values`, a dict of
    str to tf.Variable.
    """

    settings: NetworkSettings
    input_size: tuple[int, ...]
    """Shape of one trial or window."""
    name: str
    variables: list[Any]

    def predict_step(self, x: Any) -> Any:
        """Return class probabilities (B, K) of trials or windows (B, *input_size), in inference mode."""

    def loss_and_probabilities(self, inputs: Any, training: bool = False) -> tuple[Any, Any]:
        """Return the scalar loss and the probabilities (B, K) of a batch, the label being its last part."""

    def _flatten_layers(self, include_self: bool = True) -> list[Any]: ...  # of keras.Model


def build_member(
    settings: NetworkSettings, index: int, dropout: float | None = None, seed: int = DEFAULT_SEED
) -> Member:
    """Build member `index` of an ensemble; it depends on `seed` and `index` alone.

    Raises
    ------
    UserError
        A layer that has no weights yet, though the member has predicted once.
    """
    tf = import_tensorflow()
    state = random.getstate()
    random.seed(f"{seed}/{index}")  # Keras draws from it the seeds of initialisers that have none
    try:
        member = cast(Member, pkgutil.resolve_name(settings.builder)(settings, (seed, index), dropout))
        if _unbuilt(member):
            member.predict_step(tf.zeros((1, *member.input_size)))
    finally:
        random.setstate(state)
    if left := _unbuilt(member):
        raise UserError(
            f"network {settings.kind!r}: layer {left[0]!r} has no weights after a first prediction, so that "
            "they could neither be trained nor stored: build it in the network's `build`"
        )
    return member


def _unbuilt(member: Member) -> list[str]:
    return [layer.name for layer in member._flatten_layers() if not layer.built]


def build_ensemble(
    settings: NetworkSettings,
    members: int,
    network: str,
    mode: str | None = None,
    dropout: float | None = None,
    seed: int = DEFAULT_SEED,
) -> "Ensemble":
    """Build an ensemble from resolved settings; see `sleep_interpreter.model.registry.build`."""
    if not _is(members, Integral) or members < 1:
        raise UserError(f"members = {members!r}: an ensemble needs at least one, and a whole number of them")
    if not _is(seed, Integral) or seed < 0:
        raise UserError(f"seed = {seed!r}: permitted are whole numbers from 0 on")
    if dropout is not None and not (_is(dropout, Real) and math.isfinite(dropout) and 0 <= dropout < 1):
        raise UserError(f"dropout = {dropout!r}: permitted is 0 <= dropout < 1")
    import_tensorflow()
    from sleep_interpreter.model.networks.ensemble import Ensemble  # lazy: start-up

    made = [build_member(settings, index, dropout, seed) for index in range(members)]
    return Ensemble(made, network, None if mode == "normal" else mode)


def build_published(
    kinds: Kinds,
    name: str,
    members: int | None = None,
    mode: str | None = None,
    dropout: float | None = None,
    seed: int = DEFAULT_SEED,
    **overrides: Any,
) -> "Ensemble":
    """Build a network by its name in params/; see `sleep_interpreter.model.registry.build`."""
    settings, published = settings_from_params(kinds, name, mode, **overrides)
    count = published if members is None else members
    return build_ensemble(settings, count, network=name, mode=mode, dropout=dropout, seed=seed)


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def settings_from_params(
    kinds: Kinds, name: str, mode: str | None = None, **overrides: Any
) -> tuple[NetworkSettings, int]:
    """Return the model settings that the YAML of a network holds, and its published number of members.

    Parameters
    ----------
    kinds : tuple of subclasses of `NetworkSettings`
        Those among which the YAML's `model.kind` chooses.
    name, mode, **overrides
        As for `sleep_interpreter.model.registry.build`.
    """
    path = config.find(settings_source(kinds, name))
    tree, origin = config.resolve(path, mode=mode)
    config.merge(tree, {"model": overrides}, origin, "build()")
    where = f"params/{name}.yaml"
    if "members" not in tree:
        raise UserError(f"{where}: 'members' is missing")
    return validate_model(kinds, tree.get("model", {}), where, origin), tree["members"]


def settings_source(kinds: Kinds, name: str) -> str | Path:
    """Return the YAML of a network where it lies in a package of its own, otherwise the name itself."""
    places = [kind.params / f"{name}.yaml" for kind in kinds if kind.params is not None]
    return next((place for place in places if place.is_file()), name)


def validate_model(
    kinds: Kinds,
    tree: dict[str, Any],
    where: str,
    origin: dict[str, str] | None = None,
) -> NetworkSettings:
    """Return the model settings that a plain mapping holds; its key `kind` says of which of `kinds`."""
    chosen = [schema for schema in kinds if kind_of(schema) == tree.get("kind")]
    return config.validate((chosen or kinds)[0], tree, where, origin, prefix="model")


def kind_of(schema: type[NetworkSettings]) -> str:
    """Return the value of `kind` that tells settings of this class from others."""
    (kind,) = schema.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]
    return kind
