"""What can be set about a decoder; every default is the published value (SPEC section 1)."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, model_validator

from sleep_interpreter.model.networks.registration import Layers, NetworkSettings, PublishedNetwork, Samples, Width
from sleep_interpreter.utils.core.config import Settings
from sleep_interpreter.utils.core.data_card import AWAKE, DataCard
from sleep_interpreter.utils.core.registry import Registry


class EncoderSettings(Settings):
    """A stack of post-norm transformer blocks that ends in batch normalisation."""

    depth: Layers
    heads: Width
    ffn: Width
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    ffn_dropout: float = Field(default=0.0, ge=0, lt=1)


class StemSettings(Settings):
    """Dilated convolutions in front of an encoder; each domain has one of its own."""

    filters: Width = 256
    kernel: Samples = 9
    dilations: Annotated[tuple[Width, ...], Field(max_length=64)] = (1, 2, 4, 1, 2, 4)
    dense: Width = 256


class ClassWeights(Settings):
    """Weights of the class losses; their weighted sum is divided by `divisor`."""

    sleep: float = Field(default=1.0, ge=0)
    image: float = Field(default=0.0, ge=0)
    audio: float = Field(default=0.0, ge=0)
    divisor: float = Field(default=1.0, gt=0)


class ContrastiveWeights(Settings):
    """Weights of the contrastive terms; their weighted sum is divided by `divisor`."""

    awake: float = Field(default=0.0, ge=0)
    sleep_audio: float = Field(default=0.0, ge=0)
    sleep_image: float = Field(default=0.0, ge=0)
    divisor: float = Field(default=1.0, gt=0)


class ProjectionWidths(Settings):
    """Width of the projection of each side of a contrastive pair."""

    awake: Width = 64
    sleep: Width = 32
    memory: Width = 80


class TemperatureSettings(Settings):
    """Scale of the contrastive terms: cosines are multiplied by exp(t), so exp(-t) is the temperature.

    t begins at `start`, is trained along or stays, and is held between `low` and `high` (null: no bound).
    """

    start: float = Field(default=2.0, ge=-5, le=10)
    trainable: bool = True
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        bounds = [value for value in (self.low, self.start, self.high) if value is not None]
        if bounds != sorted(bounds):
            raise ValueError("start must lie between low and high")
        return self


CONTRASTIVE_FORMS = Registry(
    "contrastive form",
    "sleep_interpreter.contrastive",
    {name: f"sleep_interpreter.model.networks.contrastive:{name}" for name in ("published", "infonce", "supcon")},
)
"""{`contrastive_form`: function of model/networks/contrastive.py or of another package}"""


class DecoderSettings(NetworkSettings):
    """A decoder member: awake image + awake audio + sleep (`awake`), or sleep alone.

    Two switches make the comparisons of a study: ``awake=False`` leaves out the awake trials and all that
    belongs to them, ``contrastive=False`` leaves out the contrastive terms alone. Weights of class losses
    that are no longer there go with them: the sleep loss then stands alone, with weight 1.
    """

    builder = "sleep_interpreter.model.networks.decoder:build_member"
    published = (
        PublishedNetwork("N23SIMD", "normal", "N2N3_SIMD", ("N2N3_SIMD", "N23_SIMD")),
        PublishedNetwork("N23SIMD", "retrained", "N2N3_SIMD_Retrained", ("N2N3_SIMD_Retrained", "N23_SIMD_Retrained")),
        PublishedNetwork("N23SISD", "normal", "N2N3_SISD", ("N2N3_SISD", "N23_SISD")),
        PublishedNetwork("REMSIMD", "normal", "REM_SIMD", ("REM_SIMD",)),
        PublishedNetwork("REMSISD", "normal", "REM_SISD", ("REM_SISD",)),
    )

    kind: Literal["decoder"] = "decoder"
    awake: bool = True
    awake_kinds: tuple[Literal["image", "audio"], ...] = Field(default=("image", "audio"), min_length=1)
    """Awake trials that are taken along, where `awake`; those that the data card has, unless set."""
    contrastive: bool = True
    channels: Width = 55
    sleep_samples: Samples = 200
    varying_lengths: bool = Field(default=False, exclude_if=lambda value: not value)
    awake_samples: Samples = 80
    classes: int = Field(default=15, ge=2, le=8192)
    d_model: int = Field(default=128, ge=2, le=1024, multiple_of=2)
    head_size: Width = 64
    stem: StemSettings = StemSettings()
    sleep_encoder: EncoderSettings = EncoderSettings(depth=12, heads=6, ffn=1024, ffn_dropout=0.5)
    image_encoder: EncoderSettings = EncoderSettings(depth=3, heads=3, ffn=256)
    audio_encoder: EncoderSettings = EncoderSettings(depth=5, heads=5, ffn=256)
    position_sleep: bool = True
    position_awake: bool = False
    features: Width = 256
    class_hidden: Width = 128
    class_dropout: float = Field(default=0.5, ge=0, lt=1)
    view_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    class_weights: ClassWeights = ClassWeights()
    contrastive_weights: ContrastiveWeights = ContrastiveWeights()
    projections: ProjectionWidths = ProjectionWidths()
    class_loss: Literal["published", "logits"] = "published"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    contrastive_form: Annotated[str, AfterValidator(CONTRASTIVE_FORMS.check)] = "published"
    temperature: TemperatureSettings = TemperatureSettings()

    @classmethod
    def sizes_of(cls, card: DataCard, given: Mapping[str, Any]) -> dict[str, Any]:
        sizes = super().sizes_of(card, given)
        if card.awake_kinds and "awake_kinds" not in given:
            sizes["awake_kinds"] = list(card.awake_kinds)
        lengths = [{**sizes, **given}[key] for key in ("sleep_samples", "awake_samples")]
        if not given.get("projections") and all(isinstance(n, int) and n > 0 for n in lengths):
            sizes["projections"] = fitting_projections(*lengths)
        return sizes

    @model_validator(mode="wrap")
    @classmethod
    def _drop_awake_weights(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        settings = handler(data)
        weights = settings.class_weights
        if isinstance(data, dict) and not settings.awake and (weights.image or weights.audio):
            # The divisor is the sum of all three weights; of the sleep loss alone it would make 5/7.
            return handler({**data, "class_weights": {}})
        if settings.awake and set(settings.awake_kinds) != set(AWAKE):
            (gone,) = set(AWAKE) - set(settings.awake_kinds)
            return settings.model_copy(
                update={
                    "class_weights": _without(settings.class_weights, gone),
                    "contrastive_weights": _without(settings.contrastive_weights, "awake", f"sleep_{gone}"),
                }
            )
        return settings

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.view_weights) < 0 or sum(self.view_weights) <= 0:
            raise ValueError("view_weights must not be negative and not all zero")
        if len(self.stem.dilations) == 0:
            raise ValueError("stem.dilations needs at least one convolution")
        if sorted(set(self.awake_kinds), key=AWAKE.index) != list(self.awake_kinds):
            raise ValueError(f"awake_kinds are {', '.join(self.awake_kinds)}: name each once, image before audio")
        if self.awake and self.contrastive:
            widths = self.projections
            if self.sleep_samples * widths.sleep != self.awake_samples * widths.memory:
                raise ValueError(
                    f"sleep_samples * projections.sleep ({self.sleep_samples} * {widths.sleep}) must equal "
                    f"awake_samples * projections.memory ({self.awake_samples} * {widths.memory}): "
                    "both sides of a contrastive pair are compared as vectors of one length"
                )
        return self


def _without(weights: "ClassWeights | ContrastiveWeights", *gone: str) -> "ClassWeights | ContrastiveWeights":
    """Return weights without those of some terms, whose share leaves the divisor too."""
    divisor = weights.divisor - sum(getattr(weights, name) for name in gone)
    changes = dict.fromkeys(gone, 0.0) | ({"divisor": divisor} if divisor > 0 else {})
    return weights.model_copy(update=changes)


def fitting_projections(sleep_samples: int, awake_samples: int) -> dict[str, int]:
    """Return widths of the projections of sleep and memory that make both sides of a contrastive pair equally long.

    They are the published 32 and 80, or the nearest to 32 that fit trials of other lengths.
    """
    common = math.gcd(sleep_samples, awake_samples)
    sleep, memory = awake_samples // common, sleep_samples // common
    times = max(1, round(ProjectionWidths().sleep / sleep))
    return {"sleep": sleep * times, "memory": memory * times}


AnySettings = TypeVar("AnySettings", bound=Settings)


def with_dropout(settings: AnySettings, rate: float | None) -> AnySettings:
    """Return settings with every dropout rate replaced, those of nested sections too; None keeps them."""
    if rate is None:
        return settings
    changes: dict[str, Any] = {}
    for key, value in settings:
        if isinstance(value, Settings):
            changes[key] = with_dropout(value, rate)
        elif key.endswith("dropout"):
            changes[key] = rate
    return settings.model_copy(update=changes)
