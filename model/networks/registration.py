"""What a network says of itself to be built, trained, tested and found: its settings class.

`model/registry.py` lists the settings classes of all networks. From one follow the settings in params/, the
function that builds a member, and the names of released checkpoints. Nothing here imports TensorFlow.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, get_args

from pydantic import Field

from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import AWAKE, DataCard
from sleep_interpreter.utils.core.errors import UserError

Layers = Annotated[int, Field(ge=1, le=64)]
"""How many layers follow each other. The bounds of these three are far beyond any network that was trained here; they
keep the settings of a checkpoint from anywhere from asking for more than a computer has."""
Width = Annotated[int, Field(ge=1, le=8192)]
"""Of a layer, in numbers."""
Samples = Annotated[int, Field(ge=1, le=50_000)]
"""Of a trial or a window."""


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
    `sleep_samples` and `awake` too (whether it takes awake trials along). Sizes that nobody sets follow the data card.
    With a field `varying_lengths` (bool) it takes trials of unequal length, with NaN behind the end of shorter ones.
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

    @classmethod
    def sizes_of(cls, card: DataCard, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a data card decides of these settings; `given` are those that somebody set."""
        if cls.task == "staging":
            return {}
        sizes = {
            "channels": len(card.channels),
            "sleep_samples": card.sleep_samples,
            "varying_lengths": card.varying_lengths,
            "awake_samples": card.awake_samples,
            "classes": len(card.items),
        }
        return {key: value for key, value in sizes.items() if key in cls.model_fields and key not in given}

    def check_card(self, card: DataCard, where: str) -> None:
        """Refuse the card of data that this network does not take, as `check_data` does; `where` names the card."""
        lacking = [kind for kind in getattr(self, "awake_kinds", AWAKE) if kind not in card.conditions]
        if self.awake and lacking:
            raise UserError(
                f"{where}: the card has no {' and no '.join(lacking)} trials, but model.awake is true, and then "
                "they are taken along; set model.awake=false"
            )
        if card.varying_lengths != getattr(self, "varying_lengths", False):
            told = "are of unequal length" if card.varying_lengths else "all have the same length"
            remedy = (
                "leave model.varying_lengths out: it then follows the card"
                if "varying_lengths" in type(self).model_fields
                else f"a network of kind {self.kind!r} does not know the end of a trial (docs/own_experiment.md); take "
                "away windows.sleep.earliest_end and prepare anew with an end that all trials reach"
            )
            raise UserError(f"{where}: its sleep trials {told}, but the network is not for such trials: {remedy}")
        self._refuse_other_sizes(
            card.sleep_samples, len(card.channels), len(card.items), card.awake_samples, where,
            "the card has {}", "; leave these settings out (they then follow the card), or correct the card",
        )  # fmt: skip

    def check_data(
        self, samples: int, channels: int, classes: int, awake_samples: int | None = None, where: str = "the data"
    ) -> None:
        """Refuse data that this network does not take; the `UserError` names every setting that differs.

        `samples`, `channels`, `classes` are T and C of sleep trials or staging windows and K of their labels,
        `awake_samples` T of awake trials, None without them; the message names `where`, a file or a folder.
        """
        self._refuse_other_sizes(samples, channels, classes, awake_samples, where, "the data have {}", "")

    def _refuse_other_sizes(
        self, samples: int, channels: int, classes: int, awake_samples: int | None, where: str, says: str, remedy: str
    ) -> None:
        key = "samples" if self.task == "staging" else "sleep_samples"
        found = {key: samples, "channels": channels, "classes": classes}
        if self.task == "decoding" and self.awake:
            if awake_samples is None:
                raise UserError(f"{where}: no awake trials, but model.awake is true: set model.awake=false")
            found["awake_samples"] = awake_samples
        wrong = [
            f"model.{key} is {getattr(self, key)}, {says.format(value)}"
            for key, value in found.items()
            if getattr(self, key) != value
        ]
        if wrong:
            raise UserError(f"{where} does not fit the network: {'; '.join(wrong)}{remedy}")


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

    def __call__(self, x: Any, training: bool = False) -> Any:
        """Return class probabilities (B, K) of trials or windows (B, *input_size)."""

    def loss_and_probabilities(self, inputs: Any, training: bool = False) -> tuple[Any, Any]:
        """Return the scalar loss and the probabilities (B, K) of a batch, the label being its last part."""

    def _flatten_layers(self, include_self: bool = True) -> list[Any]: ...  # of keras.Model


def unfit_schema(name: str, schema: Any) -> str:
    """Return what is wrong with a class that is registered as the settings of a network, or ""."""
    if not (isinstance(schema, type) and issubclass(schema, NetworkSettings)):
        return f"it is {schema!r:.100}, expected a class derived from NetworkSettings"
    own = ("samples",) if schema.task == "staging" else ("sleep_samples", "awake")
    needed = ("kind", "channels", "classes", *own, "builder")
    if missing := [key for key in needed if key not in schema.model_fields and not hasattr(schema, key)]:
        return f"its settings lack {', '.join(missing)}"
    if "kind" not in schema.model_fields or get_args(schema.model_fields["kind"].annotation) != (name,):
        return f"its settings need `kind: Literal[{name!r}]`, as its entry point is called"
    if not (isinstance(schema.builder, str) and ":" in schema.builder):
        return f'its builder is {schema.builder!r:.100}, expected "module:function"'
    if not (schema.params is None or isinstance(schema.params, Path)):
        return f"its params is {schema.params!r:.100}, expected the pathlib.Path of a folder"
    if not (isinstance(schema.published, tuple) and all(isinstance(p, PublishedNetwork) for p in schema.published)):
        return "its published is no tuple of PublishedNetwork"
    schema.model_rebuild()  # raises where a type is not known
    return ""


def kind_of(schema: type[NetworkSettings]) -> str:
    """Return the value of `kind` that tells settings of this class from others."""
    (kind,) = get_args(schema.model_fields["kind"].annotation)
    return str(kind)
