"""Blocks of the decoders: stem, encoder, heads and contrastive pair, made of model/networks/layers.py.

Every block is a Keras layer on (B, T, features), for use in any model:

    encoder = Encoder(d_model=32, depth=2, heads=4, head_size=8, ffn=64)
    network = keras.Sequential([Stem(d_model=32), encoder, ClassHead(15)])
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import initializers

from sleep_interpreter.model.networks import kernels, multi_device
from sleep_interpreter.model.networks.contrastive import bounded
from sleep_interpreter.model.networks.layers import (
    BatchBlock,
    BatchNorm,
    Block,
    Dense,
    LayerNorm,
    Seed,
    Shape,
    Valid,
    next_seed,
    published_conv,
    published_dense,
    seeded_dropout,
    serializable,
)
from sleep_interpreter.model.networks.settings import CONTRASTIVE_FORMS, TemperatureSettings


def on_valid(
    function: Callable[[list[tf.Tensor]], list[tf.Tensor]], parts: list[tf.Tensor], valid: Valid
) -> list[tf.Tensor]:
    """Return what a function of each sample by itself makes of parts (B_i, T, F), 0 for samples that are not valid.

    The function gets the parts as they are, or the rows (N_i, F) of their valid samples.
    """
    if valid is None:
        return function(parts)
    made = function([kernels.packed(x, own) for x, own in zip(parts, valid, strict=True)])
    return [kernels.unpacked(rows, x, own) for rows, x, own in zip(made, parts, valid, strict=True)]


@serializable
class Stem(BatchBlock):
    """Dilated convolutions and two linear layers in front of an encoder: (B, T, C) to (B, T, d_model).

    No activation anywhere; every second convolution adds its input before its batch normalisation.
    """

    def __init__(
        self,
        *,
        d_model: int,
        filters: int = 256,
        kernel: int = 9,
        dilations: Sequence[int] = (1, 2, 4, 1, 2, 4),
        dense: int = 256,
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        random = np.random.default_rng(seed)
        suffixes = ["", *(str(i) for i in range(2, len(dilations) + 1))]
        self.convolutions = [
            published_conv(filters, kernel, f"conv1d_layer{suffix}", random, dilation)
            for suffix, dilation in zip(suffixes, dilations, strict=True)
        ]
        self.norms = [BatchNorm(name=f"bm{suffix}") for suffix in suffixes]
        self.dense1 = published_dense(dense, "dense_layer1", random)
        self.dense2 = published_dense(d_model, "dense_layer2", random)

    def chain(self) -> list[keras.Layer]:
        pairs = zip(self.convolutions, self.norms, strict=True)
        return [*(layer for pair in pairs for layer in pair), self.dense1, self.dense2]

    def call_parts(self, parts: list[tf.Tensor], training: bool = False, valid: Valid = None) -> list[tf.Tensor]:
        if valid is not None:
            parts = [tf.where(own[..., None], x, tf.zeros((), x.dtype)) for x, own in zip(parts, valid, strict=True)]
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            new = [convolution.call(x) for x in parts]
            if index % 2 == 1:
                new = [y + x for y, x in zip(new, parts, strict=True)]
            parts = on_valid(partial(norm.call_parts, training=training), new, valid)
        return on_valid(lambda some: [self.dense2.call(self.dense1.call(x)) for x in some], parts, valid)


@serializable
class Projection(Block):
    """A Dense layer one level down, as the checkpoints name it (W_q/W)."""

    def __init__(self, units: int, seed: Seed = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = published_dense(units, "W", np.random.default_rng(seed))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.inner.call(x)


@serializable
class Attention(Block):
    """Multi-head self-attention without the output layer: (B, T, d_model) to (B, T, heads * head_size)."""

    def __init__(self, heads: int, head_size: int, dropout: float = 0.0, seed: Seed = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        random = np.random.default_rng(seed)
        self.heads, self.head_size = heads, head_size
        self.query = Projection(heads * head_size, random, name="W_q")
        self.key = Projection(heads * head_size, random, name="W_k")
        self.value = Projection(heads * head_size, random, name="W_v")
        self.dropout = seeded_dropout(dropout, "attention_dropout", random)

    def build(self, input_shape: Shape) -> None:
        for projection in (self.query, self.key, self.value):
            projection.build(input_shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.heads * self.head_size)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        rows = self.call_rows(kernels.as_rows(x), x.shape[1] or tf.shape(x)[1], training)
        return kernels.from_rows(rows, x)

    def call_rows(
        self, rows: tf.Tensor, length: int | tf.Tensor, training: bool = False, valid: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Return rows (B * T, heads * head_size) of rows (B * T, d_model), T being `length`.

        With `valid` (B, T) rows are those of valid samples alone.
        """
        (kernel, bias), *others = (p.inner.weight_tensors() for p in (self.query, self.key, self.value))
        scale = self.head_size**-0.5  # of the query; scaling its kernel is the smaller product

        def spread(part: tf.Tensor) -> tf.Tensor:
            part = part if valid is None else kernels.unpacked(part, valid[..., None], valid)
            return tf.reshape(part, (-1, length, self.heads, self.head_size))

        projected = [spread(kernels.dense(rows, *weights)) for weights in ((kernel * scale, bias * scale), *others)]
        query, key, value = (tf.transpose(part, (0, 2, 1, 3)) for part in projected)
        shape = tf.stack([tf.shape(query)[0], self.heads, length, length])
        mixed = kernels.attend(query, key, value, self.dropout.mask(shape, training), valid)
        mixed = tf.transpose(mixed, (0, 2, 1, 3))
        mixed = mixed if valid is None else tf.gather_nd(mixed, tf.where(valid))
        return tf.reshape(mixed, (-1, self.heads * self.head_size))


@serializable
class FeedForward(Block):
    """Dense ReLU, dropout, Dense, dropout on (..., features)."""

    def __init__(self, hidden: int, d_model: int, dropout: float = 0.0, seed: Seed = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        random = np.random.default_rng(seed)
        self.fc1 = published_dense(hidden, "fc1", random, activation="relu")
        self.dropout1 = seeded_dropout(dropout, "dropout1", random)
        self.fc2 = published_dense(d_model, "fc2", random)
        self.dropout2 = seeded_dropout(dropout, "dropout2", random)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        rows = kernels.as_rows(x)
        keep = self.dropout1.keep(tf.stack([tf.shape(rows)[0], self.fc1.units]), training)
        weights = (*self.fc1.weight_tensors(), *self.fc2.weight_tensors())
        out = kernels.feed_forward(rows, *weights, keep=keep, scale=self.dropout1.scale)
        return kernels.from_rows(self.dropout2.call(out, training=training), x)


@serializable
class TransformerBlock(Block):
    """Post-norm transformer block on (B, T, d_model): attention, then feed-forward, each added."""

    def __init__(
        self,
        *,
        d_model: int,
        heads: int,
        head_size: int,
        ffn: int,
        attention_dropout: float = 0.0,
        ffn_dropout: float = 0.0,
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        random = np.random.default_rng(seed)
        self.mha = Attention(heads, head_size, attention_dropout, random, name="mha")
        self.fc_mha = published_dense(d_model, "fc_mha", random)
        self.layernorm_mha = LayerNorm(epsilon=1e-5, name="layernorm_mha")
        self.ffn = FeedForward(ffn, d_model, ffn_dropout, random, name="ffn")
        self.layernorm_ffn = LayerNorm(epsilon=1e-5, name="layernorm_ffn")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        rows = self.call_rows(kernels.as_rows(x), x.shape[1] or tf.shape(x)[1], training)
        return kernels.from_rows(rows, x)

    def call_rows(
        self, rows: tf.Tensor, length: int | tf.Tensor, training: bool = False, valid: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Return rows (B * T, d_model) of such rows, T being `length`; `valid` as in `Attention.call_rows`."""
        rows = self.layernorm_mha.call(rows + self.fc_mha.call(self.mha.call_rows(rows, length, training, valid)))
        return self.layernorm_ffn.call(rows + self.ffn.call(rows, training=training))


@serializable
class Encoder(BatchBlock):
    """`depth` transformer blocks on (B, T, d_model), then batch normalisation over the features."""

    def __init__(
        self,
        *,
        depth: int,
        d_model: int,
        heads: int,
        head_size: int,
        ffn: int,
        attention_dropout: float = 0.0,
        ffn_dropout: float = 0.0,
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        block = {key: value for key, value in self._arguments.items() if key != "depth"}
        random = np.random.default_rng(seed)
        self.blocks = [TransformerBlock(**block, seed=random, name=f"layer_with_weights-{i}") for i in range(depth)]
        self.norm = BatchNorm(name=f"layer_with_weights-{depth}")

    def call_parts(self, parts: list[tf.Tensor], training: bool = False, valid: Valid = None) -> list[tf.Tensor]:
        length = parts[0].shape[1] or tf.shape(parts[0])[1]
        own = valid or [None] * len(parts)
        rows = [kernels.packed(tf.cast(x, self.compute_dtype), some) for x, some in zip(parts, own, strict=True)]
        for block in self.blocks:
            rows = [block.call_rows(x, length, training, some) for x, some in zip(rows, own, strict=True)]
        rows = self.norm.call_parts(rows, training)
        return [kernels.unpacked(new, x, some) for new, x, some in zip(rows, parts, own, strict=True)]


@serializable
class FeatureHead(BatchBlock):
    """Dense and batch normalisation: the features that contrastive terms and class heads read."""

    def __init__(self, features: int, seed: Seed = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = published_dense(features, "layer_with_weights-0", np.random.default_rng(seed))
        self.norm = BatchNorm(name="layer_with_weights-1")

    def call_parts(self, parts: list[tf.Tensor], training: bool = False, valid: Valid = None) -> list[tf.Tensor]:
        return on_valid(lambda some: self.norm.call_parts([self.dense.call(x) for x in some], training), parts, valid)


@serializable
class ClassHead(Block):
    """Dropout, Flatten, Dense ReLU, batch normalisation, Dense: (B, T, F) to class logits (B, K)."""

    def __init__(self, classes: int, hidden: int = 128, dropout: float = 0.5, seed: Seed = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        random = np.random.default_rng(seed)
        self.dropout = seeded_dropout(dropout, "dropout", random)
        self.hidden = published_dense(hidden, "layer_with_weights-0", random, activation="relu")
        self.norm = BatchNorm(name="layer_with_weights-1")
        self.logits = published_dense(classes, "layer_with_weights-2", random)

    def build(self, input_shape: Shape) -> None:
        _, length, width = input_shape
        if length is None or width is None:
            raise ValueError(f"{self.name}: length and features have to be known, found {input_shape}")
        self.hidden.build((None, length * width))
        self.norm.build((None, self.hidden.units))
        self.logits.build((None, self.hidden.units))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.logits.units)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.call_views([[x]], training)[0]

    def call_views(self, views: list[list[tf.Tensor]], training: bool = False) -> list[tf.Tensor]:
        """Return logits (B, K) of each view of a batch, a view being a list of parts (B_i, T, F)."""
        width = views[0][0].shape[1] * views[0][0].shape[2]
        rows = [self.dropout.call(tf.reshape(x, (-1, width)), training=training) for view in views for x in view]
        # The kernel is the network's largest: all views meet it in one product.
        hidden = tf.split(self.hidden.call(tf.concat(rows, axis=0)), len(views))
        return [self.logits.call(self.norm.call(rows, training=training)) for rows in hidden]


@serializable
class ContrastivePair(Block):
    """Contrastive loss of a pair of feature sequences (SPEC section 1): (z, y, one-hot labels) to a scalar.

    Each time step is projected, the sequence flattened and L2-normalised; cosines, multiplied by exp(t), are compared
    with the same-class matrix as `form` says (`model.networks.contrastive`). `temperature` holds the settings of t:
    start, trainable, low, high.
    """

    compute_output_shape = keras.Layer.compute_output_shape  # Keras has two inputs and finds out by a call

    def __init__(
        self,
        width_z: int,
        width_y: int,
        seed: Seed = None,
        form: str = "published",
        temperature: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.form: Any = CONTRASTIVE_FORMS.load(form)
        self.temperature = TemperatureSettings.model_validate(temperature or {})
        random = np.random.default_rng(seed)
        self.proj_z = SequenceProjection(width_z, random, name="proj_z")
        self.proj_y = SequenceProjection(width_y, random, name="proj_y")

    def build(self, z_shape: Shape, y_shape: Shape) -> None:  # type: ignore[override]  # it has two inputs
        self.proj_z.build(z_shape)
        self.proj_y.build(y_shape)
        start, trainable = initializers.Constant(self.temperature.start), self.temperature.trainable
        self.t = self.add_weight(name="t", shape=(), initializer=start, trainable=trainable, autocast=False)

    def call(self, z: tf.Tensor, y: tf.Tensor, one_hot: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.call_parts([z], [y], one_hot), self.compute_dtype)

    def call_parts(self, z: list[tf.Tensor], y: list[tf.Tensor], one_hot: tf.Tensor, valid: Valid = None) -> tf.Tensor:
        """Return the scalar loss, in 32 bits at least, for z and y, parts (B_i, T, F), and all labels (B, K).

        `valid` says which samples of z belong to the trials.
        """
        unit_z, unit_y = (
            multi_device.gathered(projection.call_parts(parts, own))
            for projection, parts, own in ((self.proj_z, z, valid), (self.proj_y, y, None))
        )
        one_hot = tf.cast(one_hot, unit_z.dtype)
        same = tf.matmul(one_hot, one_hot, transpose_b=True)
        low, high = self.temperature.low, self.temperature.high
        t = self.t if low is None and high is None else bounded(tf.convert_to_tensor(self.t), low, high)
        loss: tf.Tensor = self.form(unit_z, unit_y, same, kernels.wide(tf.exp(t)))
        return loss


@serializable
class SequenceProjection(Block):
    """Dense ReLU on each time step; the sequence as one vector of length 1: (B, T, F) to (B, T * units)."""

    def __init__(self, units: int, seed: Seed = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        he_uniform = initializers.HeUniform(seed=next_seed(np.random.default_rng(seed)))
        self.dense = Dense(units, activation="relu", kernel_initializer=he_uniform, name="layer_with_weights-0")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        length = input_shape[1]
        return (input_shape[0], None if length is None else length * self.dense.units)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.call_parts([x]), self.compute_dtype)

    def call_parts(self, parts: list[tf.Tensor], valid: Valid = None) -> tf.Tensor:
        """Return vectors (B, T * units), in 32 bits at least, of parts (B_i, T, F)."""
        width = (parts[0].shape[1] or tf.shape(parts[0])[1]) * self.dense.units
        projected = on_valid(lambda some: [self.dense.call(x) for x in some], parts, valid)
        flat = kernels.wide(tf.concat([tf.reshape(x, (-1, width)) for x in projected], axis=0))
        return flat / tf.sqrt(tf.maximum(tf.reduce_sum(flat**2, axis=1, keepdims=True), 1e-12))
