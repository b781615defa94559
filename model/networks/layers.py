"""Keras layers of the decoders, with the fast arithmetic of model/networks/kernels.py underneath.

They are ordinary Keras layers: they can be called, put into `keras.Sequential`, trained with `fit`, saved
and loaded. They are named after the variables of the released checkpoints, so that a variable's path inside
a member *is* its published name ("sleep_encoder/layer_with_weights-0/mha/W_q/W/kernel").

Batch normalisation looks at a whole batch. Layers that contain it have, besides `call`, a method
`call_parts` that takes a batch as a list of tensors (B_i, ...) and returns such a list; the parts are
computed side by side.

Blocks use `layer.call(x)` for the layers inside them, not `layer(x)`: these are built with the block, and
Keras' name scopes would change the order in which TensorFlow adds gradients, and so their last digits.

What the arithmetic has no fast form of (`use_bias=False`, another axis, masks) is computed as Keras does.
"""

import functools
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
Valid = Sequence[tf.Tensor] | None
"""Of each part of a batch, which samples belong to the trials, bool (B_i, T); None: all."""

serializable = keras.saving.register_keras_serializable("sleep_interpreter")


def share_dtype(outer: keras.Layer) -> None:
    """Have the layers inside count as `outer` does, but those that were made with a dtype of their own."""
    for layer in outer._flatten_layers(include_self=False):
        if layer.dtype_policy == keras.config.dtype_policy():
            layer.dtype_policy = outer.dtype_policy


class Block(layers.Layer):
    """A layer made of layers; they are built one after the other, where a subclass does not say otherwise.

    `get_config` returns the constructor's arguments but `seed`: a block that is loaded gets its weights and its
    random-number state from the file. `**kwargs` are those of `keras.layers.Layer`: `name`, `dtype`, `trainable`;
    the dtype is that of the layers inside too.
    """

    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        block: Self = super().__new__(cls, *args, **kwargs)
        given = inspect.signature(cls.__init__).bind(None, *args, **kwargs)
        given.apply_defaults()
        own = {k: list(v) if isinstance(v, tuple) else v for k, v in given.arguments.items()}
        block.__dict__["_arguments"] = {k: v for k, v in own.items() if k not in ("self", "seed", "kwargs")}
        build = block.build

        @functools.wraps(build)
        def build_alike(*args: Any, **kwargs: Any) -> None:
            share_dtype(block)
            build(*args, **kwargs)

        block.__dict__["build"] = build_alike
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
    """A block with batch normalisation: a batch counts as a whole, and may come in parts.

    `valid` bool (B, T) says which samples of x (B, T, F) belong to the trials, where these are of unequal length, None
    that all do. Nothing depends on the others, and the output is 0 there.
    """

    def call(self, x: tf.Tensor, training: bool = False, valid: tf.Tensor | None = None) -> tf.Tensor:
        return self.call_parts([x], training, None if valid is None else [valid])[0]

    def call_parts(self, parts: list[tf.Tensor], training: bool = False, valid: Valid = None) -> list[tf.Tensor]:
        """Return the output for each part (B_i, ...) of one batch."""
        raise NotImplementedError


@serializable
class Dense(layers.Dense):
    """`keras.layers.Dense` whose product, bias and ReLU are one operation on rows (N, in)."""

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not self.use_bias:
            return super().call(x, training=training)
        relu = self.activation is keras.activations.relu
        x = tf.cast(x, self.compute_dtype)
        out = kernels.dense(kernels.as_rows(x), *self.weight_tensors(), relu=relu)
        return kernels.from_rows(out if relu else self.activation(out), x)

    def weight_tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return kernel (in, out) and bias (out,)."""
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        return tf.cast(kernel, self.compute_dtype), tf.cast(bias, self.compute_dtype)


@serializable
class Conv(layers.Conv1D):
    """`keras.layers.Conv1D`, (B, T, in) to (B, T, out), with the faster gradient of the bias."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        if not self.use_bias or self.padding == "causal" or self.data_format != "channels_last":
            return super().call(x)
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        product = self.convolution_op(tf.cast(x, self.compute_dtype), tf.cast(kernel, self.compute_dtype))
        return self.activation(tf.nn.bias_add(product, tf.cast(bias, self.compute_dtype)))


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
        if self.noise_shape is not None or self.rate == 1:
            return super().call(x, training=training)
        mask = self.mask(tf.shape(x), training)
        return x if mask is None else x * mask


@serializable
class BatchNorm(layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, fast over the last axis; a batch may come in parts (B_i, ..., F)."""

    def call(self, x: tf.Tensor, training: bool = False, mask: tf.Tensor | None = None) -> tf.Tensor:
        return self.call_parts([x], training)[0] if mask is None else super().call(x, training=training, mask=mask)

    def call_parts(self, parts: list[tf.Tensor], training: bool = False) -> list[tf.Tensor]:
        """Return the parts, normalised together."""
        if not (self.scale and self.center and self.axis in (-1, parts[0].shape.rank - 1)) or self.renorm:
            whole = super().call(tf.concat(parts, axis=0), training=training)
            return list(tf.split(whole, [tf.shape(part)[0] for part in parts]))
        rows = [kernels.wide(tf.cast(kernels.as_rows(part), self.compute_dtype)) for part in parts]
        averages = self.moving_mean, self.moving_variance
        gamma, beta, *old = (kernels.wide(tf.convert_to_tensor(x)) for x in (self.gamma, self.beta, *averages))
        if training and self.trainable:
            rows, *new = kernels.batch_norm(rows, gamma, beta, self.epsilon)
            for average, before, value in zip(averages, old, new, strict=True):
                multi_device.assign(average, before * self.momentum + value * (1 - self.momentum))
        else:
            rows, *_ = kernels.batch_norm(rows, gamma, beta, self.epsilon, *old)
        rows = [tf.cast(normal, self.compute_dtype) for normal in rows]
        return [kernels.from_rows(normal, part) for normal, part in zip(rows, parts, strict=True)]


@serializable
class LayerNorm(layers.LayerNormalization):
    """`keras.layers.LayerNormalization`; over the last axis, it has a written-out gradient."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        if not (self.scale and self.center and list(self.axis) in ([-1], [x.shape.rank - 1])) or self.rms_scaling:
            return super().call(x)
        gamma, beta = (kernels.wide(tf.convert_to_tensor(x)) for x in (self.gamma, self.beta))
        rows = kernels.wide(tf.cast(kernels.as_rows(x), self.compute_dtype))
        rows = kernels.layer_norm(rows, gamma, beta, self.epsilon)
        return kernels.from_rows(tf.cast(rows, self.compute_dtype), x)


def next_seed(random: np.random.Generator) -> int:
    """Draw the seed of one layer."""
    return int(random.integers(2**31))


def published_dense(units: int, name: str, random: np.random.Generator, activation: str | None = None) -> Dense:
    """Return a dense layer with the published initial values: normal(0, 0.01), bias 0.01."""
    return Dense(units, activation=activation, name=name, **_published_initializers(random))


def published_conv(filters: int, kernel: int, name: str, random: np.random.Generator, dilation: int = 1) -> Conv:
    """Return a convolution over time with the published initial values."""
    options = {"padding": "same", "dilation_rate": dilation, "data_format": "channels_last"}
    return Conv(filters, kernel, name=name, **options, **_published_initializers(random))


def seeded_dropout(rate: float, name: str, random: np.random.Generator) -> Dropout:
    """Return a dropout layer with a seed of its own."""
    return Dropout(rate, seed=next_seed(random), name=name)


def _published_initializers(random: np.random.Generator) -> dict[str, Any]:
    return {
        "kernel_initializer": initializers.RandomNormal(stddev=0.01, seed=next_seed(random)),
        "bias_initializer": initializers.Constant(0.01),
    }


def sinusoid_table(length: int, width: int, dtype: str) -> np.ndarray:
    """Return the fixed position code (1, length, width): sine on even, cosine on odd channels."""
    position = np.arange(length)[:, None]
    channel = np.arange(width)[None, :]
    angle = position / np.power(10000.0, 2 * (channel // 2) / width)
    table = np.where(channel % 2 == 0, np.sin(angle), np.cos(angle))
    return table[None].astype(np.float32).astype(dtype)
