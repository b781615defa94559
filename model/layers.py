"""Building blocks of the networks.

Layers are named after the variables of the released checkpoints, so that a variable's path inside a
member *is* its published name ("sleep_encoder/layer_with_weights-0/mha/W_q/W/kernel").
"""

import keras
import numpy as np
from keras import initializers, layers, ops


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
        return layers.Dense(
            units,
            activation=activation,
            kernel_initializer=self.normal(),
            bias_initializer=initializers.Constant(0.01),
            name=name,
        )

    def conv(self, filters, kernel, name, dilation=1):
        return layers.Conv1D(
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
        return layers.Dropout(rate, seed=self.seed(), name=name)


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


class Stem(layers.Layer):
    """Dilated convolutions and two linear layers in front of an encoder: (B, T, C) to (B, T, d_model).

    No activation anywhere; every second convolution adds its input before its batch normalisation.
    """

    def __init__(self, settings, d_model, make, name):
        super().__init__(name=name)
        suffixes = ["", *(str(i) for i in range(2, len(settings.dilations) + 1))]
        self.convolutions = [
            make.conv(settings.filters, settings.kernel, f"conv1d_layer{suffix}", dilation)
            for suffix, dilation in zip(suffixes, settings.dilations, strict=True)
        ]
        self.norms = [layers.BatchNormalization(name=f"bm{suffix}") for suffix in suffixes]
        self.dense1 = make.dense(settings.dense, "dense_layer1")
        self.dense2 = make.dense(d_model, "dense_layer2")

    def build(self, shape):
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            convolution.build(shape)
            shape = convolution.compute_output_shape(shape)
            norm.build(shape)
        self.dense1.build(shape)
        self.dense2.build((*shape[:-1], self.dense1.units))
        self.built = True

    def call(self, x, training=False):
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = convolution(x)
            if index % 2 == 1:
                y = y + x
            x = norm(y, training=training)
        return self.dense2(self.dense1(x))


class Projection(layers.Layer):
    """A Dense layer one level down, as the checkpoints name it (W_q/W)."""

    def __init__(self, units, make, name):
        super().__init__(name=name)
        self.inner = make.dense(units, "W")

    def build(self, shape):
        self.inner.build(shape)
        self.built = True

    def call(self, x):
        return self.inner(x)


class Attention(layers.Layer):
    """Multi-head self-attention without the output layer: (B, T, d_model) to (B, T, heads * size)."""

    def __init__(self, heads, size, dropout, make, name):
        super().__init__(name=name)
        self.heads, self.size = heads, size
        self.query = Projection(heads * size, make, "W_q")
        self.key = Projection(heads * size, make, "W_k")
        self.value = Projection(heads * size, make, "W_v")
        self.dropout = make.dropout(dropout, "attention_dropout")

    def build(self, shape):
        for projection in (self.query, self.key, self.value):
            projection.build(shape)
        self.built = True

    def call(self, x, training=False):
        length = x.shape[1]

        def split(y):
            return ops.transpose(ops.reshape(y, (-1, length, self.heads, self.size)), (0, 2, 1, 3))

        scale = self.size**-0.5
        scores = ops.matmul(split(self.query(x)) * scale, ops.swapaxes(split(self.key(x)), 2, 3))
        attention = self.dropout(ops.softmax(scores), training=training)
        mixed = ops.matmul(attention, split(self.value(x)))
        return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, length, self.heads * self.size))


class FeedForward(layers.Layer):
    """Dense ReLU, dropout, Dense, dropout."""

    def __init__(self, hidden, d_model, dropout, make, name):
        super().__init__(name=name)
        self.fc1 = make.dense(hidden, "fc1", activation="relu")
        self.dropout1 = make.dropout(dropout, "dropout1")
        self.fc2 = make.dense(d_model, "fc2")
        self.dropout2 = make.dropout(dropout, "dropout2")

    def build(self, shape):
        self.fc1.build(shape)
        self.fc2.build((*shape[:-1], self.fc1.units))
        self.built = True

    def call(self, x, training=False):
        hidden = self.dropout1(self.fc1(x), training=training)
        return self.dropout2(self.fc2(hidden), training=training)


class TransformerBlock(layers.Layer):
    """Post-norm transformer block on (B, T, d_model): attention, then feed-forward, each added."""

    def __init__(self, settings, d_model, head_size, make, name):
        super().__init__(name=name)
        self.mha = Attention(settings.heads, head_size, settings.attention_dropout, make, "mha")
        self.fc_mha = make.dense(d_model, "fc_mha")
        self.layernorm_mha = layers.LayerNormalization(epsilon=1e-5, name="layernorm_mha")
        self.ffn = FeedForward(settings.ffn, d_model, settings.ffn_dropout, make, "ffn")
        self.layernorm_ffn = layers.LayerNormalization(epsilon=1e-5, name="layernorm_ffn")

    def build(self, shape):
        self.mha.build(shape)
        self.fc_mha.build((*shape[:-1], self.mha.heads * self.mha.size))
        self.layernorm_mha.build(shape)
        self.ffn.build(shape)
        self.layernorm_ffn.build(shape)
        self.built = True

    def compute_output_shape(self, shape):
        return shape

    def call(self, x, training=False):
        x = self.layernorm_mha(x + self.fc_mha(self.mha(x, training=training)))
        return self.layernorm_ffn(x + self.ffn(x, training=training))


def transformer_encoder(settings, d_model, head_size, make, name):
    """Return a stack of transformer blocks that ends in batch normalisation over the features."""
    blocks = [
        TransformerBlock(settings, d_model, head_size, make, f"layer_with_weights-{i}")
        for i in range(settings.depth)
    ]
    return Series([*blocks, layers.BatchNormalization(name=f"layer_with_weights-{settings.depth}")], name)


def feature_head(features, make, name):
    """Return the head whose output the contrastive terms and the class heads read."""
    return Series(
        [
            make.dense(features, "layer_with_weights-0"),
            layers.BatchNormalization(name="layer_with_weights-1"),
        ],
        name,
    )


def class_head(settings, make, name):
    """Return the head that gives class logits (B, K); the softmax is taken outside."""
    return Series(
        [
            make.dropout(settings.class_dropout, "dropout"),
            layers.Flatten(name="flatten"),
            make.dense(settings.class_hidden, "layer_with_weights-0", activation="relu"),
            layers.BatchNormalization(name="layer_with_weights-1"),
            make.dense(settings.classes, "layer_with_weights-2"),
        ],
        name,
    )


def sinusoid_table(length, width):
    """Return the fixed position code (1, length, width): sine on even, cosine on odd channels."""
    position = np.arange(length)[:, None]
    channel = np.arange(width)[None, :]
    angle = position / np.power(10000.0, 2 * (channel // 2) / width)
    table = np.where(channel % 2 == 0, np.sin(angle), np.cos(angle))
    return table[None].astype(np.float32)


class ContrastivePair(layers.Layer):
    """Contrastive term of a pair of feature sequences (SPEC section 1).

    Each time step is projected, the sequence flattened and L2-normalised; scaled cosines are compared
    with the same-class matrix, by rows and by columns.
    """

    def __init__(self, width_z, width_y, make, name):
        super().__init__(name=name)

        def projection(width, name):
            dense = layers.Dense(
                width,
                activation="relu",
                kernel_initializer=initializers.HeUniform(seed=make.seed()),
                name="layer_with_weights-0",
            )
            return Series([dense], name)

        self.proj_z = projection(width_z, "proj_z")
        self.proj_y = projection(width_y, "proj_y")

    def build(self, shape_z, shape_y):
        self.proj_z.build(shape_z)
        self.proj_y.build(shape_y)
        self.t = self.add_weight(name="t", shape=(), initializer=initializers.Constant(2.0))
        self.built = True

    def call(self, z, y, one_hot):
        """Return the scalar loss for z (B, Tz, F), y (B, Ty, F) and labels (B, K)."""
        unit_z = _unit(self.proj_z(z))
        unit_y = _unit(self.proj_y(y))
        logits = ops.matmul(unit_z, ops.transpose(unit_y)) * ops.exp(self.t)
        same = ops.matmul(one_hot, ops.transpose(one_hot))
        targets = same / ops.sum(same, axis=1, keepdims=True)
        by_row = keras.losses.categorical_crossentropy(targets, logits, from_logits=True)
        by_column = keras.losses.categorical_crossentropy(targets, ops.transpose(logits), from_logits=True)
        return (ops.mean(by_row) + ops.mean(by_column)) / 2


def _unit(x):
    flat = ops.reshape(x, (-1, x.shape[1] * x.shape[2]))
    return flat / ops.sqrt(ops.maximum(ops.sum(flat**2, axis=1, keepdims=True), 1e-12))
