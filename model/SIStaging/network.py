"""The staging network (SPEC section 3).

The published network works channels-first; convolutions on a CPU want channels-last, so tensors are kept
as (B, time, channels) here. The published map stacks run *channels-last on a channels-first tensor*: they
convolve along the feature maps and treat the time steps as channels. That is kept (the released
checkpoint needs it); here it shows as a transposition.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import initializers, layers, ops

from sleep_interpreter.model.networks.input_checks import checked_label, checked_signal
from sleep_interpreter.model.networks.layers import Maker, Series
from sleep_interpreter.model.networks.losses import one_hot, staging_loss
from sleep_interpreter.model.SIStaging.settings import StagerSettings


def _conv(filters, kernel, make, name, stride=1, dilation=1):
    return layers.Conv1D(
        filters,
        kernel,
        strides=stride,
        dilation_rate=dilation,
        padding="same",
        kernel_initializer=initializers.GlorotUniform(seed=make.seed()),
        name=name,
    )


class ConvBlock(layers.Layer):
    """Convolution, batch normalisation, ReLU on (B, time, channels)."""

    def __init__(self, filters, kernel, make, name, stride=1, names=("conv1", "bn1")):
        super().__init__(name=name)
        self.conv = _conv(filters, kernel, make, names[0], stride)
        self.bn = layers.BatchNormalization(name=names[1])

    def build(self, shape):
        self.conv.build(shape)
        self.bn.build(self.conv.compute_output_shape(shape))
        self.built = True

    def compute_output_shape(self, shape):
        return self.conv.compute_output_shape(shape)

    def call(self, x, training=False):
        return ops.relu(self.bn(self.conv(x), training=training))


class GatedConvBlock(ConvBlock):
    """Squeeze-and-excitation: a conv block times a gate read off the mean of its *input* over time."""

    def __init__(self, filters, kernel, stride, make, name):
        super().__init__(filters, kernel, make, name, stride, names=("conv", "bn"))

        def dense(units, activation, name):
            kernel = initializers.GlorotUniform(seed=make.seed())
            return layers.Dense(
                units, activation=activation, use_bias=False, kernel_initializer=kernel, name=name
            )

        self.fc = dense(max(1, filters // 2), "relu", "fc")
        self.fc2 = dense(filters, "sigmoid", "fc2")

    def build(self, shape):
        super().build(shape)
        self.fc.build((shape[0], shape[2]))
        self.fc2.build((shape[0], self.fc.units))
        self.built = True

    def call(self, x, training=False):
        gate = self.fc2(self.fc(ops.mean(x, axis=1)))
        return super().call(x, training=training) * gate[:, None, :]


class Branch(layers.Layer):
    """One of the parallel branches: (B, samples, 3) to (B, samples / stride, block_filters)."""

    def __init__(self, kernel, settings, make, name):
        super().__init__(name=name)
        filters = settings.block_filters
        self.conv_se = GatedConvBlock(settings.branch_filters, kernel, settings.stride, make, "conv_se")
        self.conv_norm = ConvBlock(filters, 10, make, "conv_norm")
        self.sequence = [ConvBlock(filters, 5, make, f"conv_seq_{i}") for i in (1, 2, 3)]
        self.dropout = make.dropout(settings.dropout, "dropout")

    def build(self, shape):
        for step in (self.conv_se, self.conv_norm, *self.sequence):
            step.build(shape)
            shape = step.compute_output_shape(shape)
        self.built = True

    def call(self, x, training=False):
        residual = self.conv_norm(self.conv_se(x, training=training), training=training)
        y = residual
        for step in self.sequence:
            y = step(y, training=training)
        return self.dropout(y, training=training) + residual


def _map_stack(filters, kernels, dilations, settings, make, name):
    return Series(
        [
            _conv(filters, kernels[0], make, "layer_with_weights-0", dilation=dilations[0]),
            _conv(filters, kernels[1], make, "layer_with_weights-1", dilation=dilations[1]),
            make.dropout(settings.dropout, "dropout"),
            layers.BatchNormalization(name="layer_with_weights-2"),
        ],
        name,
    )


class Stager(keras.Model):
    """A member of the staging ensemble: `member(x) -> probabilities (B, 4)`.

    Parameters
    ----------
    settings : sleep_interpreter.model.networks.settings.StagerSettings
    seed : int | sequence of int
    dropout : float | None
        Replaces every dropout rate.
    class_weights : sequence of 4 floats
        Weights of this member's loss.

    Attributes
    ----------
    member_values : dict of str to tf.Variable
        What members differ in besides their weights: a training that serves all members with one traced
        network sets it.
    """

    def __init__(self, settings, seed=0, dropout=None, class_weights=None, name="member"):
        super().__init__(name=name)
        s = self.settings = settings
        weights = tf.Variable(class_weights or s.class_weights[0], trainable=False, dtype=tf.float32)
        self.member_values = {"class_weights": weights}
        make = Maker(seed, dropout)
        self.branches = [Branch(k, s, make, f"conv_fs{i}") for i, k in enumerate(s.kernels, start=1)]
        self.maps = [
            _map_stack(s.map_filters, (10, 20), (1, 2), s, make, "conv_block"),
            _map_stack(s.map_filters, (9, 9), (4, 1), s, make, "conv_block2"),
            _map_stack(s.map_filters, (9, 9), (2, 4), s, make, "conv_block3"),
        ]
        self.pool = GatedConvBlock(s.pool_filters[0], 7, 7, make, "conv_pool")
        series = [ConvBlock(f, 3, make, f"layer_with_weights-{i}") for i, f in enumerate(s.series_filters)]
        self.series = Series([*series, make.dropout(s.dropout, "dropout")], "conv_series")
        self.pool2 = GatedConvBlock(s.pool_filters[1], 5, 5, make, "conv_pool2")
        self.lstm = layers.LSTM(s.lstm, seed=make.seed(), name="lstm")
        for part, kind in (("kernel", initializers.GlorotUniform), ("recurrent", initializers.Orthogonal)):
            setattr(self.lstm.cell, f"{part}_initializer", kind(seed=make.seed()))
        self.fc2 = layers.Dense(
            s.dense,
            activation="relu",
            kernel_initializer=initializers.GlorotUniform(seed=make.seed()),
            name="fc2",
        )
        self.fc = layers.Dense(
            s.classes,
            activation="softmax",
            kernel_initializer=initializers.GlorotUniform(seed=make.seed()),
            name="fc",
        )
        self.build()

    def build(self, input_shape=None):
        s = self.settings
        for branch in self.branches:
            branch.build((None, s.samples, s.channels))
        time = -(-s.samples // s.stride)
        maps = len(s.kernels) * s.block_filters
        for index, stack in enumerate(self.maps):
            stack.build((None, maps, time if index == 0 else s.map_filters))
        shape = (None, s.map_filters, maps)
        for step in (self.pool, self.series, self.pool2):
            step.build(shape)
            shape = step.compute_output_shape(shape)
        self.lstm.build(shape)
        self.fc2.build((None, s.lstm))
        self.fc.build((None, s.dense))
        self.built = True

    @property
    def input_size(self):
        """Channels and samples of a window."""
        return self.settings.channels, self.settings.samples

    def call(self, x, training=False):
        """Return stage probabilities (B, 4) of windows (B, 3, 15000), each channel z-scored."""
        x = ops.transpose(checked_signal(x, self.input_size, "x"), (0, 2, 1))
        x = ops.concatenate([branch(x, training=training) for branch in self.branches], axis=2)
        maps = self.maps[0](ops.transpose(x, (0, 2, 1)), training=training)
        for stack in self.maps[1:]:
            maps = maps + stack(maps, training=training)
        x = self.pool(ops.transpose(maps, (0, 2, 1)), training=training)
        x = x + self.series(x, training=training)
        x = self.pool2(x, training=training)
        return self.fc(self.fc2(self.lstm(x, training=training)))

    def loss_and_probabilities(self, inputs, training=False):
        """Return the published staging loss (with this member's class weights) and the probabilities.

        Parameters
        ----------
        inputs : (x, label)
            Windows (B, 3, 15000); one-hot labels (B, 4) or stage codes (B,).
        """
        x, label = inputs
        label = checked_label(label, self.settings.classes)
        probabilities = self(x, training=training)
        weights = self.member_values["class_weights"]
        loss = staging_loss(probabilities, one_hot(label, self.settings.classes), weights)
        return loss, probabilities

    def predict_step(self, x):
        """Return what `predict_proba` returns, for one batch."""
        return self(tf.cast(x, tf.float32), training=False)


def build_member(settings: StagerSettings, seed: Sequence[int], dropout: float | None = None) -> Stager:
    """Build a member; its number, the second of `seed`, chooses the class weights of its loss."""
    weights = settings.class_weights[seed[1] % len(settings.class_weights)]
    return Stager(settings, seed, dropout, weights)
