"""What TensorFlow itself does on this processor: its kernels are chosen by it, and some of oneDNN's differ."""

import functools

import numpy as np
import tensorflow as tf


@functools.cache
def relu_keeps_nan():
    """Tell whether a dense layer with ReLU shows NaN in its input, as IEEE 754 and most processors have it."""
    kernel, bias = tf.ones((4, 8)), tf.zeros(8)
    fused = tf.function(lambda x: tf.nn.relu(tf.nn.bias_add(tf.matmul(x, kernel), bias)))
    return bool(np.isnan(fused(tf.fill((3, 4), np.float32(np.nan)))).all())


@functools.cache
def convolves_nothing():
    """Tell whether a dilated convolution of an empty batch has the right shape."""
    kernel, bias = tf.ones((3, 4, 8)), tf.zeros(8)
    convolved = tf.function(
        lambda x: tf.nn.bias_add(tf.nn.convolution(x, kernel, 1, "SAME", dilations=2), bias),
        input_signature=[tf.TensorSpec((None, 10, 4))],
    )
    try:
        return tuple(convolved(tf.zeros((0, 10, 4))).shape) == (0, 10, 8)
    except tf.errors.InvalidArgumentError:
        return False
