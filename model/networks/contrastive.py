"""Forms of the contrastive loss between two kinds of trials of the same items.

A form takes unit vectors z and y (B, D), whether trials i and j are of the same item, as numbers (B, B), and the scale
of cosines (1 / temperature); it returns a scalar. Another form is such a function and one line in
`model.networks.settings.CONTRASTIVE_FORMS`, or an entry point of a package.
"""

import tensorflow as tf


def published(z: tf.Tensor, y: tf.Tensor, same: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Return the published loss: all pairs of the same item are right, those across the two kinds alone are counted."""
    return _both_ways(z, y, same / tf.reduce_sum(same, axis=1, keepdims=True), scale)


def infonce(z: tf.Tensor, y: tf.Tensor, same: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Return InfoNCE as in CLIP (Radford et al. 2021): trial i of z belongs to trial i of y alone."""
    return _both_ways(z, y, tf.eye(tf.shape(same)[0], dtype=same.dtype), scale)


def _both_ways(z: tf.Tensor, y: tf.Tensor, targets: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    logits = tf.matmul(z, y, transpose_b=True) * scale
    by_row = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    by_column = tf.nn.softmax_cross_entropy_with_logits(targets, tf.transpose(logits))
    return (tf.reduce_mean(by_row) + tf.reduce_mean(by_column)) / 2


def supcon(z: tf.Tensor, y: tf.Tensor, same: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Return the supervised contrastive loss (Khosla et al. 2020, eq. 2): pairs within a kind count too."""
    both = tf.concat([z, y], axis=0)
    itself = tf.eye(tf.shape(both)[0], dtype=both.dtype)
    logits = tf.matmul(both, both, transpose_b=True) * scale - 1e9 * itself  # never paired with itself
    right = tf.tile(same, (2, 2)) * (1 - itself)
    return tf.reduce_mean(
        tf.nn.softmax_cross_entropy_with_logits(right / tf.reduce_sum(right, axis=1, keepdims=True), logits)
    )


def bounded(t: tf.Tensor, low: float | None, high: float | None) -> tf.Tensor:
    """Return a trained scalar held between bounds; its gradient is 0 where a step would lead further out."""
    least, most = (
        tf.constant(value, t.dtype) for value in (-1e9 if low is None else low, 1e9 if high is None else high)
    )

    @tf.custom_gradient
    def held(value: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            outward = ((value >= most) & (upstream < 0)) | ((value <= least) & (upstream > 0))
            return tf.where(outward, tf.zeros_like(upstream), upstream)

        return tf.clip_by_value(value, least, most), gradient

    inside: tf.Tensor = held(t)
    return inside
