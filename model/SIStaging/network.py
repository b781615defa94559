"""The staging network (SPEC section 3).

The published network works channels-first; convolutions on a CPU want channels-last, so tensors are kept
as (B, time, channels) here. The published map stacks run *channels-last on a channels-first tensor*: they
convolve along the feature maps and treat the time steps as channels. That is kept (the released
checkpoint needs it); here it shows as a transposition.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import initializers, layers, ops

from sleep_interpreter.model.networks import kernels
from sleep_interpreter.model.networks.input_checks import checked_label, checked_signal
from sleep_interpreter.model.networks.layers import Block, Seed, Shape, next_seed, serializable, share_dtype
from sleep_interpreter.model.networks.losses import one_hot, staging_loss
from sleep_interpreter.model.networks.settings import with_dropout
from sleep_interpreter.model.SIStaging.settings import StagerSettings


def _glorot(random: np.random.Generator) -> initializers.Initializer:
    return initializers.GlorotUniform(seed=next_seed(random))


def _conv(filters: int, kernel: int, random: np.random.Generator, name: str, **options: int) -> layers.Conv1D:
    fixed = {"padding": "same", "data_format": "channels_last", "kernel_initializer": _glorot(random)}
    return layers.Conv1D(filters, kernel, name=name, **fixed, **options)


def _dropout(rate: float, random: np.random.Generator) -> layers.Dropout:
    return layers.Dropout(rate, seed=next_seed(random), name="dropout")


@serializable
class ConvBlock(Block):
    """Convolution, batch normalisation, ReLU on (B, time, channels); `names` are those of the two layers."""

    def __init__(
        self,
        filters: int,
        kernel: int,
        stride: int = 1,
        names: Sequence[str] = ("conv1", "bn1"),
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conv = _conv(filters, kernel, np.random.default_rng(seed), names[0], strides=stride)
        self.bn = layers.BatchNormalization(name=names[1])

    def chain(self) -> list[keras.Layer]:
        return [self.conv, self.bn]

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return ops.relu(self.bn(self.conv(x), training=training))


@serializable
class GatedConvBlock(ConvBlock):
    """Squeeze-and-excitation: a conv block times a gate read off the mean of its *input* over time."""

    def __init__(
        self,
        filters: int,
        kernel: int,
        stride: int = 1,
        names: Sequence[str] = ("conv", "bn"),
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        random = np.random.default_rng(seed)
        super().__init__(filters, kernel, stride, names, random, **kwargs)

        def dense(units: int, activation: str, name: str) -> layers.Dense:
            return layers.Dense(
                units, activation=activation, use_bias=False, kernel_initializer=_glorot(random), name=name
            )

        self.fc = dense(max(1, filters // 2), "relu", "fc")
        self.fc2 = dense(filters, "sigmoid", "fc2")

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.fc.build((input_shape[0], input_shape[2]))
        self.fc2.build((input_shape[0], self.fc.units))

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        gate = self.fc2(self.fc(ops.mean(x, axis=1)))
        return super().call(x, training=training) * gate[:, None, :]


@serializable
class Branch(Block):
    """One of the parallel branches: (B, samples, 3) to (B, samples / stride, block_filters)."""

    def __init__(
        self,
        kernel: int,
        stride: int,
        branch_filters: int,
        block_filters: int,
        dropout: float = 0.5,
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        random = np.random.default_rng(seed)
        self.conv_se = GatedConvBlock(branch_filters, kernel, stride, seed=random, name="conv_se")
        self.conv_norm = ConvBlock(block_filters, 10, seed=random, name="conv_norm")
        self.sequence = [ConvBlock(block_filters, 5, seed=random, name=f"conv_seq_{i}") for i in (1, 2, 3)]
        self.dropout = _dropout(dropout, random)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        residual = self.conv_norm(self.conv_se(x, training=training), training=training)
        y = residual
        for layer in self.sequence:
            y = layer(y, training=training)
        return self.dropout(y, training=training) + residual


def _map_stack(
    settings: StagerSettings,
    kernels: tuple[int, int],
    dilations: tuple[int, int],
    random: np.random.Generator,
    name: str,
) -> keras.Sequential:
    return keras.Sequential(
        [
            _conv(settings.map_filters, kernels[0], random, "layer_with_weights-0", dilation_rate=dilations[0]),
            _conv(settings.map_filters, kernels[1], random, "layer_with_weights-1", dilation_rate=dilations[1]),
            _dropout(settings.dropout, random),
            layers.BatchNormalization(name="layer_with_weights-2"),
        ],
        name=name,
    )


@serializable
class Stager(keras.Model):
    """A member of the staging ensemble: `member(x) -> probabilities (B, 4)`.

    `dropout` replaces every dropout rate; `class_weights` (4) are those of this member's loss. `member_values` is
    what members differ in besides their weights: a training that serves all with one traced network sets it.
    """

    def __init__(
        self,
        settings: StagerSettings | dict[str, Any],
        seed: Seed = 0,
        dropout: float | None = None,
        class_weights: Sequence[float] | None = None,
        name: str = "member",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.settings = StagerSettings.model_validate(settings)
        self._dropout = dropout
        s, random = with_dropout(self.settings, dropout), np.random.default_rng(seed)
        weights = class_weights or s.class_weights[0]
        self.member_values = {"class_weights": tf.Variable(weights, trainable=False, dtype=self.variable_dtype)}
        sizes = (s.stride, s.branch_filters, s.block_filters, s.dropout)
        self.branches = [
            Branch(kernel, *sizes, random, name=f"conv_fs{i}") for i, kernel in enumerate(s.kernels, start=1)
        ]
        self.maps = [
            _map_stack(s, (10, 20), (1, 2), random, "conv_block"),
            _map_stack(s, (9, 9), (4, 1), random, "conv_block2"),
            _map_stack(s, (9, 9), (2, 4), random, "conv_block3"),
        ]
        self.pool = GatedConvBlock(s.pool_filters[0], 7, 7, seed=random, name="conv_pool")
        series = [
            ConvBlock(filters, 3, seed=random, name=f"layer_with_weights-{i}")
            for i, filters in enumerate(s.series_filters)
        ]
        self.series = keras.Sequential([*series, _dropout(s.dropout, random)], name="conv_series")
        self.pool2 = GatedConvBlock(s.pool_filters[1], 5, 5, seed=random, name="conv_pool2")
        self.lstm = layers.LSTM(s.lstm, seed=next_seed(random), name="lstm")
        self.lstm.cell.kernel_initializer = _glorot(random)
        self.lstm.cell.recurrent_initializer = initializers.Orthogonal(seed=next_seed(random))
        self.fc2 = layers.Dense(s.dense, activation="relu", kernel_initializer=_glorot(random), name="fc2")
        self.fc = layers.Dense(s.classes, activation="softmax", kernel_initializer=_glorot(random), name="fc")
        share_dtype(self)
        self.build()

    def build(self, input_shape: Shape | None = None) -> None:
        s = self.settings
        for branch in self.branches:
            branch.build((None, s.samples, s.channels))
        time = -(-s.samples // s.stride)
        maps = len(s.kernels) * s.block_filters
        for index, stack in enumerate(self.maps):
            stack.build((None, maps, time if index == 0 else s.map_filters))
        shape: Shape = (None, s.map_filters, maps)
        for layer in (self.pool, self.series, self.pool2):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.lstm.build(shape)
        self.fc2.build((None, s.lstm))
        self.fc.build((None, s.dense))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "settings": self.settings.model_dump(mode="json"),
            "dropout": self._dropout,
            "class_weights": self.member_values["class_weights"].numpy().tolist(),
        }

    @property
    def input_size(self) -> tuple[int, int]:
        """Channels and samples of a window."""
        return self.settings.channels, self.settings.samples

    def call(self, x: Any, training: bool = False) -> tf.Tensor:
        """Return stage probabilities (B, 4) of windows (B, 3, 15000), each channel z-scored."""
        x = ops.transpose(checked_signal(x, self.input_size, "x"), (0, 2, 1))
        x = ops.concatenate([branch(x, training=training) for branch in self.branches], axis=2)
        maps = self.maps[0](ops.transpose(x, (0, 2, 1)), training=training)
        for stack in self.maps[1:]:
            maps = maps + stack(maps, training=training)
        x = self.pool(ops.transpose(maps, (0, 2, 1)), training=training)
        x = x + self.series(x, training=training)
        x = self.pool2(x, training=training)
        return kernels.wide(self.fc(self.fc2(self.lstm(x, training=training))))

    def loss_and_probabilities(self, inputs: Any, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the published loss, by this member's class weights, and the probabilities of (x, label).

        They are windows (B, 3, 15000), and one-hot labels (B, 4) or stage codes (B,).
        """
        x, label = inputs
        label = one_hot(checked_label(label, self.settings.classes), self.settings.classes)
        probabilities = self(x, training=training)
        return staging_loss(probabilities, label, self.member_values["class_weights"]), probabilities


def build_member(settings: StagerSettings, seed: Sequence[int], dropout: float | None = None) -> Stager:
    """Build a member; its number, the second of `seed`, chooses the class weights of its loss."""
    weights = settings.class_weights[seed[1] % len(settings.class_weights)]
    return Stager(settings, seed, dropout, weights)
