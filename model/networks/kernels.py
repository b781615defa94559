"""The decoders' arithmetic as pure functions, written for speed on CPUs; the results are the usual ones.

Three things make the difference (measured by `make bench`, told in docs/architecture.md):

- sequences are matrices of rows (B * T, features), so that product, bias and ReLU become one operation;
- a batch goes through the network in parts, each computed by one thread, which wastes less than several
  threads on one small product; where a batch matters as a whole (batch normalisation), the parts are
  looked at together;
- gradients of the common pieces are written out, so that nothing is computed or kept twice.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from sleep_interpreter.model.networks import multi_device

Gradients = tuple[tf.Tensor, ...]


def as_rows(x: tf.Tensor) -> tf.Tensor:
    """Return a tensor (..., F) as rows (N, F)."""
    return x if x.shape.rank == 2 else tf.reshape(x, (-1, x.shape[-1]))


def wide(x: tf.Tensor) -> tf.Tensor:
    """Return a tensor in 32 bits at least, which sums over many values need."""
    return tf.cast(x, tf.float32) if x.dtype.size < 4 else x


def from_rows(rows: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Return rows (N, F) as (..., F), shaped as `x` (..., any) was before `as_rows`."""
    if x.shape.rank == 2:
        return rows
    inner = x.shape[1:-1]
    leading = (-1, *inner) if inner.is_fully_defined() else tf.unstack(tf.shape(x))[:-1]
    return tf.reshape(rows, (*leading, rows.shape[-1]))


def packed(x: tf.Tensor, valid: tf.Tensor | None) -> tf.Tensor:
    """Return the rows (N, F) of x (B, T, F), of the samples that are `valid` (B, T) alone, None for all."""
    return as_rows(x) if valid is None else tf.gather_nd(x, tf.where(valid))


def unpacked(rows: tf.Tensor, x: tf.Tensor, valid: tf.Tensor | None) -> tf.Tensor:
    """Return rows (N, F) as (B, T, F), shaped as `x` (B, T, any) was before `packed`; zeros where not valid."""
    if valid is None:
        return from_rows(rows, x)
    shape = (*tf.unstack(tf.shape(x))[:-1], rows.shape[-1])
    return tf.ensure_shape(tf.scatter_nd(tf.where(valid), rows, shape), (*x.shape[:-1], rows.shape[-1]))


def dense(rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, relu: bool = False) -> tf.Tensor:
    """Return rows (N, in) times kernel (in, out) plus bias (out,), rectified if asked for."""
    product = tf.nn.bias_add(tf.matmul(rows, kernel), bias)
    return tf.nn.relu(product) if relu else product


def dropout_scale(rate: float) -> float:
    """Return what kept values are multiplied by: 1 / (share that `dropout_keep` keeps)."""
    bits, zeros = _dropout_bits(rate)
    return (1 << bits) / ((1 << bits) - zeros)


def dropout_keep(shape: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Return which values dropout keeps, a random bool tensor of `shape`; `seed` is an int tensor (2,).

    `rate`, the share dropped, takes 8 random bits a value if it is a multiple of 1/256, otherwise 16, which meet
    it to 1/131072.
    """
    bits, zeros = _dropout_bits(rate)
    count = tf.reduce_prod(shape)
    packed = tf.random.stateless_uniform(
        [(count * bits + 31) // 32], tf.cast(seed, tf.int32), minval=None, maxval=None, dtype=tf.int32
    )
    drawn = tf.reshape(tf.bitcast(packed, tf.uint8 if bits == 8 else tf.uint16), [-1])[:count]
    return tf.reshape(drawn, shape) >= zeros


def _dropout_bits(rate: float) -> tuple[int, int]:
    bits = 8 if float(rate * 256).is_integer() else 16
    return bits, min(round(rate * 2**bits), 2**bits - 1)


def layer_norm(rows: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Return rows (N, F), each normalised over its features."""

    @tf.custom_gradient
    def normalise(rows: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Gradients]]:
        centred = rows - tf.reduce_mean(rows, axis=1, keepdims=True)
        scale = tf.math.rsqrt(tf.reduce_mean(centred * centred, axis=1, keepdims=True) + epsilon)
        unit = centred * scale

        def gradient(upstream: tf.Tensor) -> Gradients:
            width = rows.shape[1]
            product = upstream * unit
            # Means of upstream * gamma and of its product with unit: two products with a column.
            mean = tf.matmul(upstream, gamma[:, None]) / width
            slope = tf.matmul(product, gamma[:, None]) / width
            inner = upstream * gamma - mean - unit * slope
            return scale * inner, _column_sum(product), _column_sum(upstream)

        return unit * gamma + beta, gradient

    return normalise(rows, gamma, beta)


def batch_norm(
    parts: Sequence[tf.Tensor],
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
    mean: tf.Tensor | None = None,
    variance: tf.Tensor | None = None,
) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Normalise each feature (F,) over all rows of all parts (N_i, F), or by the mean and variance given.

    Returns the parts, mean and variance: of this batch (variance with divisor N), or as given.
    """
    if mean is not None and variance is not None:
        scale = gamma * tf.math.rsqrt(variance + epsilon)
        shift = beta - mean * scale
        return [rows * scale + shift for rows in parts], mean, variance

    @tf.custom_gradient
    def normalise(gamma: tf.Tensor, beta: tf.Tensor, *parts: tf.Tensor) -> tuple[Gradients, Callable[..., Gradients]]:
        count = multi_device.total(tf.cast(tf.add_n([tf.shape(rows)[0] for rows in parts]), gamma.dtype))
        mean = multi_device.total(tf.add_n([_column_sum(rows) for rows in parts])) / count
        centred = [rows - mean for rows in parts]
        variance = multi_device.total(tf.add_n([_column_sum(rows * rows) for rows in centred])) / count
        scale = tf.math.rsqrt(variance + epsilon)
        out = [rows * (gamma * scale) + beta for rows in centred]

        def gradient(*upstreams: tf.Tensor) -> Gradients:
            *upstream, _, _ = upstreams  # mean and variance only feed the running averages
            d_beta = tf.add_n([_column_sum(up) for up in upstream])
            product = tf.add_n([_column_sum(up * rows) for up, rows in zip(upstream, centred, strict=True)])
            factor = gamma * scale
            slope = factor * scale * scale * multi_device.total(product) / count
            offset = factor * multi_device.total(d_beta) / count
            d_parts = [up * factor - rows * slope - offset for up, rows in zip(upstream, centred, strict=True)]
            return (product * scale, d_beta, *d_parts)

        return (*out, mean, variance), gradient

    *out, mean, variance = normalise(gamma, beta, *parts)
    return out, tf.stop_gradient(mean), tf.stop_gradient(variance)


def attend(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor | None = None, valid: tf.Tensor | None = None
) -> tf.Tensor:
    """Return softmax(query key^T) value of each head, all (B, H, T, size), the query already scaled.

    `mask` (B, H, T, T) is multiplied with the attention (dropout). Keys that are not `valid` (B, T) get none.
    """

    @tf.custom_gradient
    def core(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Gradients]]:
        scores = tf.matmul(query, key, transpose_b=True)
        if valid is not None:
            scores = tf.where(valid[:, None, None], scores, scores.dtype.min)
        attention = tf.nn.softmax(scores)
        kept = attention if mask is None else attention * mask
        out = tf.matmul(kept, value)

        def gradient(upstream: tf.Tensor) -> Gradients:
            d_attention = tf.matmul(upstream, value, transpose_b=True)
            if mask is not None:
                d_attention *= mask
            # The softmax's own sum, sum(attention * d_attention), is also the shorter sum(out * upstream).
            d_scores = attention * (d_attention - tf.reduce_sum(out * upstream, axis=-1, keepdims=True))
            return (
                tf.matmul(d_scores, key),
                tf.matmul(d_scores, query, transpose_a=True),
                tf.matmul(kept, upstream, transpose_a=True),
            )

        return out, gradient

    return core(query, key, value)


def feed_forward(
    rows: tf.Tensor,
    kernel1: tf.Tensor,
    bias1: tf.Tensor,
    kernel2: tf.Tensor,
    bias2: tf.Tensor,
    keep: tf.Tensor | None = None,
    scale: float = 1.0,
) -> tf.Tensor:
    """Return dense(dropout(ReLU(dense(rows)))) of rows (N, F); `keep` (N, hidden) are the hidden values kept.

    They are multiplied by `scale`; in fact the second kernel is, being smaller.
    """

    @tf.custom_gradient
    def core(
        rows: tf.Tensor, kernel1: tf.Tensor, bias1: tf.Tensor, kernel2: tf.Tensor, bias2: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., Gradients]]:
        hidden = dense(rows, kernel1, bias1, relu=True)
        if keep is not None:
            hidden = tf.where(keep, hidden, tf.zeros((), hidden.dtype))
            kernel2 *= scale
        out = dense(hidden, kernel2, bias2)

        def gradient(upstream: tf.Tensor) -> Gradients:
            d_hidden = tf.matmul(upstream, kernel2, transpose_b=True)
            # What was rectified or dropped is zero in `hidden`: one comparison serves both.
            d_hidden = tf.raw_ops.ReluGrad(gradients=d_hidden, features=hidden)
            # The transpose of the wider product, which is the faster one.
            d_kernel2 = tf.transpose(tf.matmul(upstream, hidden, transpose_a=True))
            return (
                tf.matmul(d_hidden, kernel1, transpose_b=True),
                tf.matmul(rows, d_hidden, transpose_a=True),
                _column_sum(d_hidden),
                d_kernel2 if keep is None else d_kernel2 * scale,
                _column_sum(upstream),
            )

        return out, gradient

    return core(rows, kernel1, bias1, kernel2, bias2)


def _column_sum(rows: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.BiasAddGrad(out_backprop=rows)  # several times as fast as reduce_sum(axis=0)
