"""Layers of the networks.

Layers are named after the variables of the released checkpoints, so that a variable's path inside a
member *is* its published name ("sleep_encoder/layer_with_weights-0/mha/W_q/W/kernel").

The decoders' blocks have a method `forward` instead of a Keras call: it takes a batch in parts (a list
of tensors (B_i, ...)) where the batch counts as a whole, and rows (N, features) where it does not; the
arithmetic is in model/networks/kernels.py.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import initializers, layers

from sleep_interpreter.model.networks import kernels, multi_device


class Maker:
    """Hands out layers with the published initial values, each with a seed of its own.

    Parameters
    ----------
    seed : int | sequence of int
        Entropy of this member; the same seed gives the same weights and the same dropout masks.
    dropout : float | None
        Replaces every dropout rate; None keeps the published ones.
    """

    def __init__(self, seed, dropout=None):
        self._random = np.random.default_rng(seed)
        self._dropout = dropout

    def seed(self):
        return int(self._random.integers(2**31))

    def normal(self):
        """Return a normal(0, 0.01) initialiser, the published one of nearly all kernels."""
        return initializers.RandomNormal(stddev=0.01, seed=self.seed())

    def dense(self, units, name, activation=None):
        return Dense(
            units,
            activation=activation,
            kernel_initializer=self.normal(),
            bias_initializer=initializers.Constant(0.01),
            name=name,
        )

    def conv(self, filters, kernel, name, dilation=1):
        return Conv(
            filters,
            kernel,
            padding="same",
            dilation_rate=dilation,
            kernel_initializer=self.normal(),
            bias_initializer=initializers.Constant(0.01),
            name=name,
        )

    def dropout(self, rate, name):
        rate = rate if self._dropout is None else self._dropout
        return Dropout(rate, seed=self.seed(), name=name)


class Series(layers.Layer):
    """Layers one after the other; the ones with weights are named layer_with_weights-0, -1, ..."""

    def __init__(self, steps, name):
        super().__init__(name=name)
        self.steps = steps

    def build(self, shape):
        for step in self.steps:
            step.build(shape)
            shape = step.compute_output_shape(shape)
        self.built = True

    def compute_output_shape(self, shape):
        for step in self.steps:
            shape = step.compute_output_shape(shape)
        return shape

    def call(self, x, training=False):
        for step in self.steps:
            x = step(x, training=training) if step._call_has_training_arg else step(x)
        return x


class Dense(layers.Dense):
    """A dense layer on rows (N, in); its activation is None or ReLU."""

    def forward(self, rows):
        return kernels.dense(rows, *self.weights_now(), relu=self.activation is keras.activations.relu)

    def weights_now(self):
        return tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)


class Conv(layers.Conv1D):
    """A convolution over time, (B, T, in) to (B, T, out)."""

    def forward(self, x):
        product = tf.nn.convolution(
            x, tf.convert_to_tensor(self.kernel), padding="SAME", dilations=self.dilation_rate
        )
        return tf.nn.bias_add(product, tf.convert_to_tensor(self.bias))


class Dropout(layers.Dropout):
    """Dropout whose random choice is made apart from what it is applied to."""

    @property
    def scale(self):
        """What is kept is multiplied by this."""
        return kernels.dropout_scale(self.rate)

    def keep(self, shape, training):
        """Return which values of `shape` are kept, None when all are."""
        if not training or self.rate == 0:
            return None
        return kernels.dropout_keep(shape, self.rate, multi_device.own_seed(self.seed_generator))

    def mask(self, shape, training):
        """Return a factor of `shape`, 0 or `scale`; None when nothing is dropped."""
        keep = self.keep(shape, training)
        return None if keep is None else tf.cast(keep, tf.float32) * self.scale

    def forward(self, x, training):
        mask = self.mask(tf.shape(x), training)
        return x if mask is None else x * mask


class BatchNorm(layers.BatchNormalization):
    """Batch normalisation over all rows of a batch that comes in parts, each (..., F)."""

    def forward(self, parts, training):
        width = parts[0].shape[-1]
        rows = [tf.reshape(part, (-1, width)) for part in parts]
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        if training:
            rows, mean, variance = kernels.batch_norm(rows, gamma, beta, self.epsilon)
            for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                multi_device.assign(average, average * self.momentum + value * (1 - self.momentum))
        else:
            average = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
            rows, _, _ = kernels.batch_norm(rows, gamma, beta, self.epsilon, *average)
        return [tf.reshape(new, tf.shape(part)) for new, part in zip(rows, parts, strict=True)]


class LayerNorm(layers.LayerNormalization):
    """Layer normalisation of rows (N, F)."""

    def forward(self, rows):
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        return kernels.layer_norm(rows, gamma, beta, self.epsilon)


def sinusoid_table(length, width):
    """Return the fixed position code (1, length, width): sine on even, cosine on odd channels."""
    position = np.arange(length)[:, None]
    channel = np.arange(width)[None, :]
    angle = position / np.power(10000.0, 2 * (channel // 2) / width)
    table = np.where(channel % 2 == 0, np.sin(angle), np.cos(angle))
    return table[None].astype(np.float32)
