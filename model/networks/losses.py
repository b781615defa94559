"""Losses of the networks (SPEC sections 1 and 2)."""

from collections.abc import Sequence
from typing import Literal

import keras
import tensorflow as tf


def one_hot(label: tf.Tensor, classes: int) -> tf.Tensor:
    """Return labels as one-hot (B, K) floats, from one-hot or from class indices (B,)."""
    label = tf.convert_to_tensor(label)
    if label.shape.rank == 1:
        return tf.one_hot(tf.cast(label, tf.int32), classes, dtype=keras.config.floatx())
    return tf.cast(label, keras.config.floatx())


def mixture_log_probabilities(logits: Sequence[tf.Tensor], weights: Sequence[float]) -> tf.Tensor:
    """Return log of the weighted mean of the softmaxes of logits (B, K), without leaving the log domain.

    The weights have any positive sum.
    """
    total = float(sum(weights))
    parts = [
        tf.nn.log_softmax(view) + tf.cast(tf.math.log(weight / total), view.dtype)
        for view, weight in zip(logits, weights, strict=True)
        if weight > 0
    ]
    return tf.reduce_logsumexp(tf.stack(parts), axis=0)


def class_loss(
    log_probabilities: tf.Tensor, label: tf.Tensor, form: Literal["published", "logits"], smoothing: float = 0.0
) -> tf.Tensor:
    """Return the mean class loss of log probabilities (B, K) and one-hot labels (B, K).

    "published" applies a softmax cross-entropy to the probabilities as if they were logits, as the original does
    (so it cannot fall below 1.817 for 15 classes); "logits" is the cross-entropy proper. `smoothing` spreads so much
    of every label evenly over all classes.
    """
    label = tf.cast(label, log_probabilities.dtype)
    if smoothing:
        label = label * (1 - smoothing) + smoothing / label.shape[-1]
    if form == "published":
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=label, logits=tf.exp(log_probabilities)))
    return -tf.reduce_mean(tf.reduce_sum(label * log_probabilities, axis=-1))


def staging_loss(probabilities: tf.Tensor, label: tf.Tensor, class_weights: Sequence[float] | tf.Tensor) -> tf.Tensor:
    """Return the published staging loss of probabilities (B, 4), one-hot labels (B, 4) and class weights (4,).

    Mean sigmoid cross-entropy with positive weights on outputs that are already probabilities, plus the
    mean squared difference of the most probable and the true stage code (which carries no gradient).
    """
    label = tf.cast(label, probabilities.dtype)
    entropy = tf.nn.weighted_cross_entropy_with_logits(
        labels=label, logits=probabilities, pos_weight=tf.cast(class_weights, probabilities.dtype)
    )
    found, true = (tf.cast(tf.argmax(x, axis=-1), probabilities.dtype) for x in (probabilities, label))
    return tf.reduce_mean(entropy) + tf.reduce_mean(tf.square(found - true))
