"""Keras layers of the decoders, with the fast arithmetic of model/networks/kernels.py underneath.

They are ordinary Keras layers: they can be called, put into `keras.Sequential`, trained with `fit`, saved
and loaded. They are named after the variables of the released checkpoints, so that a variable's path inside
a member *is* its published name ("sleep_encoder/layer_with_weights-0/mha/W_q/W/kernel").

Batch normalisation looks at a whole batch. Layers that contain it have, besides `call`, a method
`call_parts` that takes a batch as a list of tensors (B_i, ...) and returns such a list; the parts are
computed side by side.

Blocks use `layer.call(x)` for the layers inside them, not `layer(x)`: these are built with the block, and
Keras' name scopes would change the order in which TensorFlow adds gradients, and so their last digits.
"""

import inspect
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from keras import initializers, layers

from sleep_interpreter.model.networks import kernels, multi_device

Seed = int | Sequence[int] | np.random.Generator | None
"""What `numpy.random.default_rng` takes. Blocks that are given one generator draw from it in turn."""
Shape = tuple[int | None, ...]

serializable = keras.saving.register_keras_serializable("sleep_interpreter")


class Block(layers.Layer):
    """A layer made of layers; they are built one after the other, where a subclass does not say otherwise.

    `get_config` returns the constructor's arguments but `seed`: a block that is loaded gets its weights and its
    random-number state from the file. `**kwargs` are those of `keras.layers.Layer`: `name`, `dtype`, `trainable`.
    """

    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        block: Self = super().__new__(cls, *args, **kwargs)
        given = inspect.signature(cls.__init__).bind(None, *args, **kwargs)
        given.apply_defaults()
        own = {k: list(v) if isinstance(v, tuple) else v for k, v in given.arguments.items()}
        block.__dict__["_arguments"] = {k: v for k, v in own.items() if k not in ("self", "seed", "kwargs")}
        return block

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_jit = False  # `fit` would have XLA compile for minutes, and its steps are slower

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._arguments}

    def chain(self) -> list[keras.Layer]:
        """Return the layers inside, in the order in which a signal passes them."""
        return list(self._flatten_layers(include_self=False, recursive=False))

    def build(self, input_shape: Shape) -> None:
        for layer in self.chain():
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        for layer in self.chain():
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape


class BatchBlock(Block):
    """A block with batch normalisation: a batch counts as a whole, and may come in parts."""

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.call_parts([x], training)[0]

    def call_parts(self, parts: list[tf.Tensor], training: bool = False) -> list[tf.Tensor]:
        """Return the output for each part (B_i, ...) of one batch."""
        raise NotImplementedError


@serializable
class Dense(layers.Dense):
    """`keras.layers.Dense` whose product, bias and ReLU are one operation on rows (N, in)."""

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        relu = self.activation is keras.activations.relu
        out = kernels.dense(kernels.as_rows(x), *self.weight_tensors(), relu=relu)
        return kernels.from_rows(out if relu else self.activation(out), x)

    def weight_tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return kernel (in, out) and bias (out,)."""
        return tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)


@serializable
class Conv(layers.Conv1D):
    """`keras.layers.Conv1D`, (B, T, in) to (B, T, out), with the faster gradient of the bias."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        product = self.convolution_op(x, tf.convert_to_tensor(self.kernel))
        return self.activation(tf.nn.bias_add(product, tf.convert_to_tensor(self.bias)))


@serializable
class Dropout(layers.Dropout):
    """`keras.layers.Dropout` with fewer random bits a value."""

    @property
    def scale(self) -> float:
        """What is kept is multiplied by this."""
        return kernels.dropout_scale(self.rate)

    def keep(self, shape: tf.Tensor, training: bool) -> tf.Tensor | None:
        """Return which values of `shape` are kept, None when all are."""
        if not training or self.rate == 0:
            return None
        return kernels.dropout_keep(shape, self.rate, multi_device.own_seed(self.seed_generator))

    def mask(self, shape: tf.Tensor, training: bool) -> tf.Tensor | None:
        """Return a factor of `shape`, 0 or `scale`; None when nothing is dropped."""
        keep = self.keep(shape, training)
        return None if keep is None else tf.cast(keep, self.compute_dtype) * self.scale

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        mask = self.mask(tf.shape(x), training)
        return x if mask is None else x * mask


@serializable
class BatchNorm(layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis; a batch may come in parts (B_i, ..., F)."""

    def call(self, x: tf.Tensor, training: bool = False, mask: tf.Tensor | None = None) -> tf.Tensor:
        return self.call_parts([x], training)[0]

    def call_parts(self, parts: list[tf.Tensor], training: bool = False) -> list[tf.Tensor]:
        """Return the parts, normalised together."""
        rows = [kernels.as_rows(part) for part in parts]
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        if training:
            rows, mean, variance = kernels.batch_norm(rows, gamma, beta, self.epsilon)
            for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                multi_device.assign(average, average * self.momentum + value * (1 - self.momentum))
        else:
            mean, variance = (tf.convert_to_tensor(x) for x in (self.moving_mean, self.moving_variance))
            rows, _, _ = kernels.batch_norm(rows, gamma, beta, self.epsilon, mean, variance)
        return [kernels.from_rows(new, part) for new, part in zip(rows, parts, strict=True)]


@serializable
class LayerNorm(layers.LayerNormalization):
    """`keras.layers.LayerNormalization` over the last axis, with a written-out gradient."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        return kernels.from_rows(kernels.layer_norm(kernels.as_rows(x), gamma, beta, self.epsilon), x)


def next_seed(random: np.random.Generator) -> int:
    """Draw the seed of one layer."""
    return int(random.integers(2**31))


def published_dense(units: int, name: str, random: np.random.Generator, activation: str | None = None) -> Dense:
    """Return a dense layer with the published initial values: normal(0, 0.01), bias 0.01."""
    return Dense(units, activation=activation, name=name, **_published_initializers(random))


def published_conv(filters: int, kernel: int, name: str, random: np.random.Generator, dilation: int = 1) -> Conv:
    """Return a convolution over time with the published initial values."""
    return Conv(filters, kernel, padding="same", dilation_rate=dilation, name=name, **_published_initializers(random))


def seeded_dropout(rate: float, name: str, random: np.random.Generator) -> Dropout:
    """Return a dropout layer with a seed of its own."""
    return Dropout(rate, seed=next_seed(random), name=name)


def _published_initializers(random: np.random.Generator) -> dict[str, Any]:
    return {
        "kernel_initializer": initializers.RandomNormal(stddev=0.01, seed=next_seed(random)),
        "bias_initializer": initializers.Constant(0.01),
    }


def sinusoid_table(length: int, width: int) -> np.ndarray:
    """Return the fixed position code (1, length, width): sine on even, cosine on odd channels."""
    position = np.arange(length)[:, None]
    channel = np.arange(width)[None, :]
    angle = position / np.power(10000.0, 2 * (channel // 2) / width)
    table = np.where(channel % 2 == 0, np.sin(angle), np.cos(angle))
    return table[None].astype(np.float32).astype(keras.config.floatx())
