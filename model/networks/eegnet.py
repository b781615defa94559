"""EEGNet (Lawhern et al. 2018, J. Neural Eng. 15, 056013): a small network to compare with, of sleep trials alone.

The worked example of a network of one's own (docs/contributing.md): this file, its sizes in params/EEGNet.yaml and
one line in model/registry.py.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from sleep_interpreter.model.networks.registration import Layers, NetworkSettings, Samples, Width
from sleep_interpreter.model.networks.settings import with_dropout
from sleep_interpreter.utils.core.data_card import DataCard

if TYPE_CHECKING:
    from sleep_interpreter.model.networks.classifier import Classifier


class EEGNetSettings(NetworkSettings):
    """Sizes as in the paper's EEGNet-8,2; both kernels over time are half a second long, as there.

    `filters` over time, each followed by `depth` spatial ones; `pools` are the samples that are averaged after the
    first and the second block. The kernels' lengths are in samples, and follow the data card where nobody sets them.
    """

    builder = "sleep_interpreter.model.networks.eegnet:build_member"

    kind: Literal["eegnet"] = "eegnet"
    awake: Literal[False] = False
    channels: Width = 55
    sleep_samples: Samples = 200
    classes: int = Field(default=15, ge=2, le=8192)
    filters: Width = 8
    depth: Layers = 2
    separable_filters: Width = 16
    kernel: Samples = 50
    separable_kernel: Samples = 12
    pools: tuple[Samples, Samples] = (4, 8)
    dropout: float = Field(default=0.25, ge=0, lt=1)

    @classmethod
    def sizes_of(cls, card: DataCard, given: Mapping[str, Any]) -> dict[str, Any]:
        pool = given.get("pools", cls.model_fields["pools"].default)[0]
        kernels = {"kernel": card.rate_hz / 2, "separable_kernel": card.rate_hz / 2 / pool}
        lengths = {key: max(1, int(length)) for key, length in kernels.items() if key not in given}
        return super().sizes_of(card, given) | lengths

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.sleep_samples < self.pools[0] * self.pools[1]:
            raise ValueError(
                f"trials of {self.sleep_samples} samples are too short to be averaged over {self.pools[0]} and then "
                f"{self.pools[1]} samples: choose smaller pools"
            )
        return self


def build_member(settings: EEGNetSettings, seed: Sequence[int], dropout: float | None = None) -> "Classifier":
    """Build a member; Keras draws the initial values, as `build_member` of model/networks/building.py seeds it."""
    from keras import Sequential, layers  # lazy: start-up
    from keras.constraints import MaxNorm  # lazy: start-up

    from sleep_interpreter.model.networks.classifier import Classifier  # lazy: start-up

    s = with_dropout(settings, dropout)
    first, second = s.pools
    return Classifier(
        settings,
        Sequential(
            [
                layers.Reshape((s.sleep_samples, s.channels, 1)),
                layers.Conv2D(s.filters, (s.kernel, 1), padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.DepthwiseConv2D(
                    (1, s.channels), depth_multiplier=s.depth, use_bias=False, depthwise_constraint=MaxNorm(1.0, axis=1)
                ),
                layers.BatchNormalization(),
                layers.Activation("elu"),
                layers.AveragePooling2D((first, 1)),
                layers.Dropout(s.dropout),
                layers.SeparableConv2D(s.separable_filters, (s.separable_kernel, 1), padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.Activation("elu"),
                layers.AveragePooling2D((second, 1)),
                layers.Dropout(s.dropout),
                layers.Flatten(),
                layers.Dense(s.classes, activation="softmax", kernel_constraint=MaxNorm(0.25, axis=0)),
            ]
        ),
    )
