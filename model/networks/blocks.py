"""Blocks of the decoders: stem, encoder, heads and contrastive pair, made of model/networks/layers.py."""

import tensorflow as tf
from keras import initializers, layers

from sleep_interpreter.model.networks import kernels, multi_device
from sleep_interpreter.model.networks.layers import BatchNorm, Dense, LayerNorm


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
        self.norms = [BatchNorm(name=f"bm{suffix}") for suffix in suffixes]
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

    def forward(self, parts, training):
        """Return parts (B_i, T, d_model) of parts (B_i, T, C)."""
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            new = [convolution.forward(x) for x in parts]
            if index % 2 == 1:
                new = [y + x for y, x in zip(new, parts, strict=True)]
            parts = norm.forward(new, training)
        length, width = parts[0].shape[1:]
        rows = [tf.reshape(x, (-1, width)) for x in parts]
        rows = [self.dense2.forward(self.dense1.forward(x)) for x in rows]
        return [tf.reshape(x, (-1, length, self.dense2.units)) for x in rows]


class Projection(layers.Layer):
    """A Dense layer one level down, as the checkpoints name it (W_q/W)."""

    def __init__(self, units, make, name):
        super().__init__(name=name)
        self.inner = make.dense(units, "W")

    def build(self, shape):
        self.inner.build(shape)
        self.built = True


class Attention(layers.Layer):
    """Multi-head self-attention without the output layer: rows (B * T, d_model) to (B * T, heads * size)."""

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

    def forward(self, rows, length, training):
        (query, query_bias), key, value = (p.inner.weights_now() for p in (self.query, self.key, self.value))
        scale = self.size**-0.5  # of the query; scaling its kernel is the smaller product
        projected = [
            tf.reshape(kernels.dense(rows, *weights), (-1, length, self.heads, self.size))
            for weights in ((query * scale, query_bias * scale), key, value)
        ]
        query, key, value = (tf.transpose(part, (0, 2, 1, 3)) for part in projected)
        shape = tf.stack([tf.shape(query)[0], self.heads, length, length])
        mixed = kernels.attend(query, key, value, self.dropout.mask(shape, training))
        return tf.reshape(tf.transpose(mixed, (0, 2, 1, 3)), (-1, self.heads * self.size))


class FeedForward(layers.Layer):
    """Dense ReLU, dropout, Dense, dropout on rows."""

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

    def forward(self, rows, training):
        keep = self.dropout1.keep(tf.stack([tf.shape(rows)[0], self.fc1.units]), training)
        weights = (*self.fc1.weights_now(), *self.fc2.weights_now())
        return self.dropout2.forward(
            kernels.feed_forward(rows, *weights, keep, self.dropout1.scale), training
        )


class TransformerBlock(layers.Layer):
    """Post-norm transformer block on rows (B * T, d_model): attention, then feed-forward, each added."""

    def __init__(self, settings, d_model, head_size, make, name):
        super().__init__(name=name)
        self.mha = Attention(settings.heads, head_size, settings.attention_dropout, make, "mha")
        self.fc_mha = make.dense(d_model, "fc_mha")
        self.layernorm_mha = LayerNorm(epsilon=1e-5, name="layernorm_mha")
        self.ffn = FeedForward(settings.ffn, d_model, settings.ffn_dropout, make, "ffn")
        self.layernorm_ffn = LayerNorm(epsilon=1e-5, name="layernorm_ffn")

    def build(self, shape):
        self.mha.build(shape)
        self.fc_mha.build((*shape[:-1], self.mha.heads * self.mha.size))
        self.layernorm_mha.build(shape)
        self.ffn.build(shape)
        self.layernorm_ffn.build(shape)
        self.built = True

    def forward(self, rows, length, training):
        rows = self.layernorm_mha.forward(
            rows + self.fc_mha.forward(self.mha.forward(rows, length, training))
        )
        return self.layernorm_ffn.forward(rows + self.ffn.forward(rows, training))


class Encoder(layers.Layer):
    """A stack of transformer blocks that ends in batch normalisation over the features."""

    def __init__(self, settings, d_model, head_size, make, name):
        super().__init__(name=name)
        self.blocks = [
            TransformerBlock(settings, d_model, head_size, make, f"layer_with_weights-{i}")
            for i in range(settings.depth)
        ]
        self.norm = BatchNorm(name=f"layer_with_weights-{settings.depth}")

    def build(self, shape):
        for step in (*self.blocks, self.norm):
            step.build(shape)
        self.built = True

    def forward(self, parts, training):
        """Return parts (B_i, T, d_model) of parts of the same shape."""
        length, width = parts[0].shape[1:]
        rows = [tf.reshape(x, (-1, width)) for x in parts]
        for block in self.blocks:
            rows = [block.forward(x, length, training) for x in rows]
        return [tf.reshape(x, (-1, length, width)) for x in self.norm.forward(rows, training)]


class FeatureHead(layers.Layer):
    """Dense and batch normalisation: the features that contrastive terms and class heads read."""

    def __init__(self, features, make, name):
        super().__init__(name=name)
        self.dense = make.dense(features, "layer_with_weights-0")
        self.norm = BatchNorm(name="layer_with_weights-1")

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((*shape[:-1], self.dense.units))
        self.built = True

    def forward(self, parts, training):
        """Return parts (B_i, T, features) of parts (B_i, T, d_model)."""
        length, width = parts[0].shape[1:]
        rows = [self.dense.forward(tf.reshape(x, (-1, width))) for x in parts]
        return [tf.reshape(x, (-1, length, self.dense.units)) for x in self.norm.forward(rows, training)]


class ClassHead(layers.Layer):
    """Dropout, Flatten, Dense ReLU, batch normalisation, Dense: class logits (without softmax)."""

    def __init__(self, settings, make, name):
        super().__init__(name=name)
        self.dropout = make.dropout(settings.class_dropout, "dropout")
        self.hidden = make.dense(settings.class_hidden, "layer_with_weights-0", activation="relu")
        self.norm = BatchNorm(name="layer_with_weights-1")
        self.logits = make.dense(settings.classes, "layer_with_weights-2")

    def build(self, shape):
        self.hidden.build((None, shape[1] * shape[2]))
        self.norm.build((None, self.hidden.units))
        self.logits.build((None, self.hidden.units))
        self.built = True

    def forward(self, views, training):
        """Return logits (B, K) of each view, a view being a list of parts (B_i, T, F)."""
        width = views[0][0].shape[1] * views[0][0].shape[2]
        rows = [self.dropout.forward(tf.reshape(x, (-1, width)), training) for view in views for x in view]
        # The kernel is the network's largest: all views meet it in one product.
        hidden = tf.split(self.hidden.forward(tf.concat(rows, axis=0)), len(views))
        return [self.logits.forward(self.norm.forward([rows], training)[0]) for rows in hidden]


class ContrastivePair(layers.Layer):
    """Contrastive term of a pair of feature sequences (SPEC section 1).

    Each time step is projected, the sequence flattened and L2-normalised; scaled cosines are compared
    with the same-class matrix, by rows and by columns.
    """

    def __init__(self, width_z, width_y, make, name):
        super().__init__(name=name)
        self.proj_z = SequenceProjection(width_z, make, "proj_z")
        self.proj_y = SequenceProjection(width_y, make, "proj_y")

    def build(self, shape_z, shape_y):
        self.proj_z.build(shape_z)
        self.proj_y.build(shape_y)
        self.t = self.add_weight(name="t", shape=(), initializer=initializers.Constant(2.0))
        self.built = True

    def forward(self, z, y, one_hot):
        """Return the scalar loss for z and y, parts (B_i, T, F), and all labels (B, K)."""
        unit_z, unit_y = (
            multi_device.gathered(p.forward(x)) for p, x in ((self.proj_z, z), (self.proj_y, y))
        )
        logits = tf.matmul(unit_z, unit_y, transpose_b=True) * tf.exp(self.t)
        same = tf.matmul(one_hot, one_hot, transpose_b=True)
        targets = same / tf.reduce_sum(same, axis=1, keepdims=True)
        by_row = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        by_column = tf.nn.softmax_cross_entropy_with_logits(targets, tf.transpose(logits))
        return (tf.reduce_mean(by_row) + tf.reduce_mean(by_column)) / 2


class SequenceProjection(layers.Layer):
    """Dense ReLU on each time step; the sequence as one vector of length 1."""

    def __init__(self, units, make, name):
        super().__init__(name=name)
        self.dense = Dense(
            units,
            activation="relu",
            kernel_initializer=initializers.HeUniform(seed=make.seed()),
            name="layer_with_weights-0",
        )

    def build(self, shape):
        self.dense.build(shape)
        self.built = True

    def forward(self, parts):
        """Return vectors (B, T * units) of parts (B_i, T, F)."""
        length, width = parts[0].shape[1:]
        rows = [self.dense.forward(tf.reshape(x, (-1, width))) for x in parts]
        flat = tf.concat([tf.reshape(x, (-1, length * self.dense.units)) for x in rows], axis=0)
        return flat / tf.sqrt(tf.maximum(tf.reduce_sum(flat**2, axis=1, keepdims=True), 1e-12))
