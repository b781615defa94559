"""The decoders' arithmetic against Keras layers, automatic gradients and counting."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sleep_interpreter.model import registry
from sleep_interpreter.model.networks import decoder, kernels
from sleep_interpreter.model.networks.layers import BatchNorm, Dense, Dropout, LayerNorm
from sleep_interpreter.model.networks.settings import DecoderSettings
from sleep_interpreter.train.engine.optimizer import AdamW

random = np.random.default_rng(5)


def normal(*shape):
    return tf.constant(random.standard_normal(shape), tf.float32)


def gradients(function, inputs):
    with tf.GradientTape() as tape:
        for tensor in inputs:
            tape.watch(tensor)
        out = function(*inputs)
        loss = tf.reduce_sum(tf.sin(out) * tf.cast(tf.range(tf.size(out)) % 7, tf.float32)[: tf.size(out)]
                             if out.shape.rank == 1 else tf.sin(out))  # fmt: skip
    return out, tape.gradient(loss, inputs)


def assert_same(one, other, inputs, rtol=2e-4):
    """Value and gradients of two functions agree."""
    out, slopes = gradients(one, inputs)
    expected, expected_slopes = gradients(other, inputs)
    np.testing.assert_allclose(out, expected, rtol=rtol, atol=2e-5)
    for found, wanted in zip(slopes, expected_slopes, strict=True):
        scale = float(tf.reduce_max(tf.abs(wanted)))
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=2e-5 * max(scale, 1))


def test_layer_norm():
    def plain(rows, gamma, beta):
        mean, variance = tf.nn.moments(rows, axes=[1], keepdims=True)
        return (rows - mean) / tf.sqrt(variance + 1e-5) * gamma + beta

    inputs = [3 * normal(40, 16) + 2, normal(16), normal(16)]
    assert_same(lambda *x: kernels.layer_norm(*x, 1e-5), plain, inputs)
    layer = LayerNorm(epsilon=1e-5)
    layer.build((None, 16))
    np.testing.assert_allclose(layer(inputs[0]), keras.layers.LayerNormalization(epsilon=1e-5)(inputs[0]), atol=1e-5)


@pytest.mark.parametrize("cut", [[30], [11, 19], [1, 28, 1]])
def test_batch_norm_looks_at_all_parts(cut):
    def plain(rows, gamma, beta):
        mean, variance = tf.nn.moments(rows, axes=[0])
        return (rows - mean) / tf.sqrt(variance + 1e-3) * gamma + beta

    def ours(rows, gamma, beta):
        parts, _, _ = kernels.batch_norm(tf.split(rows, cut), gamma, beta, 1e-3)
        return tf.concat(parts, axis=0)

    assert_same(ours, plain, [2 * normal(30, 8) + 5, normal(8), normal(8)])


def test_batch_norm_keeps_the_running_averages_of_keras():
    ours, theirs = BatchNorm(name="ours"), keras.layers.BatchNormalization(name="theirs")
    ours.build((None, 10, 4))
    for _ in range(3):
        x = 4 * normal(6, 10, 4) - 1
        found = tf.concat(ours.call_parts([x[:2], x[2:]], training=True), axis=0)
        np.testing.assert_allclose(found, theirs(x, training=True), atol=2e-5)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, atol=1e-6)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, atol=1e-5)
    np.testing.assert_allclose(ours(x, training=False), theirs(x, training=False), atol=2e-5)


@pytest.mark.parametrize("dropped", [False, True])
def test_attention(dropped):
    mask = tf.cast(normal(2, 3, 5, 5) > 0, tf.float32) * 2 if dropped else None

    def plain(query, key, value):
        attention = tf.nn.softmax(tf.einsum("bhik,bhjk->bhij", query, key))
        return tf.einsum("bhij,bhjk->bhik", attention if mask is None else attention * mask, value)

    inputs = [normal(2, 3, 5, 4) for _ in range(3)]
    assert_same(lambda *x: kernels.attend(*x, mask), plain, inputs)


@pytest.mark.parametrize("dropped", [False, True])
def test_feed_forward(dropped):
    keep = normal(20, 12) > 0 if dropped else None

    def plain(rows, kernel1, bias1, kernel2, bias2):
        hidden = tf.nn.relu(rows @ kernel1 + bias1)
        if dropped:
            hidden = hidden * tf.cast(keep, tf.float32) * 2
        return hidden @ kernel2 + bias2

    inputs = [normal(20, 6), normal(6, 12), normal(12), normal(12, 6), normal(6)]
    assert_same(lambda *x: kernels.feed_forward(*x, keep, 2.0), plain, inputs)


@pytest.mark.parametrize(("rate", "share"), [(0.5, 0.5), (0.25, 0.25), (0.2, 0.2), (0.999, 0.999)])
def test_dropout_drops_its_share_and_keeps_the_mean(rate, share):
    keep = kernels.dropout_keep(tf.constant([1000, 999]), rate, tf.constant([3, 4])).numpy()
    assert 1 - keep.mean() == pytest.approx(share, abs=2e-3)
    assert keep.mean() * kernels.dropout_scale(rate) == pytest.approx(1, rel=0.05)
    again = kernels.dropout_keep(tf.constant([1000, 999]), rate, tf.constant([3, 4])).numpy()
    other = kernels.dropout_keep(tf.constant([1000, 999]), rate, tf.constant([3, 5])).numpy()
    assert np.array_equal(keep, again) and not np.array_equal(keep, other)
    columns = keep.mean(axis=0)  # no column is favoured by the packing of the random bits
    assert columns.std() < 1.2 * np.sqrt(share * (1 - share) / 1000)


def test_dropout_layer():
    layer = Dropout(0.5, seed=1)
    x = tf.ones((50, 40))
    np.testing.assert_array_equal(layer(x, training=False), x)
    first, second = layer(x, training=True).numpy(), layer(x, training=True).numpy()
    assert set(np.unique(first)) == {0.0, 2.0} and not np.array_equal(first, second)


def test_dense():
    layer = Dense(7, activation="relu")
    layer.build((None, 5))
    x = normal(9, 5)
    np.testing.assert_allclose(layer(x), keras.layers.Dense.call(layer, x), atol=1e-6)


def test_a_batch_in_parts_is_one_batch(monkeypatch):
    small = {"depth": 2, "heads": 2, "ffn": 16}
    settings = DecoderSettings(
        channels=4, sleep_samples=10, awake_samples=4, classes=3, d_model=8, head_size=4, features=8,
        class_hidden=8, stem={"filters": 8, "dense": 8, "dilations": (1, 2)}, sleep_encoder=small,
        image_encoder=small, audio_encoder=small, class_weights={"sleep": 5, "image": 1, "audio": 1},
        contrastive_weights={"awake": 1, "sleep_audio": 1, "sleep_image": 1},
        projections={"awake": 8, "sleep": 2, "memory": 5},
    )  # fmt: skip
    member = registry.build_member(settings, 0, dropout=0.0)
    inputs = (normal(17, 4, 4), normal(17, 4, 4), normal(17, 10, 4), tf.constant(random.integers(3, size=17)))
    results = []
    for smallest in (16, 99):  # 17 trials in parts, and as one
        monkeypatch.setattr(decoder, "SMALLEST_SPLIT_BATCH", smallest)
        with tf.GradientTape() as tape:
            loss, probabilities = member(inputs, training=True)
        slopes = tape.gradient(loss, member.trainable_variables)
        results.append((loss, probabilities, [np.linalg.norm(s) for s in slopes]))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-5)
    np.testing.assert_allclose(results[0][2], results[1][2], rtol=1e-3, atol=1e-4)


def test_optimizer_takes_the_steps_of_keras():
    start = [normal(6, 4), normal(4)]
    ours, theirs = ([keras.Variable(x) for x in start] for _ in range(2))
    # Keras multiplies the decay by the learning rate, the published one does not.
    reference = keras.optimizers.AdamW(0.01, weight_decay=0.002 / 0.01, epsilon=1e-7)
    optimizer = AdamW(ours, 0.01, 0.002)
    for _ in range(5):
        slopes = [normal(6, 4), normal(4)]
        optimizer.apply(slopes)
        reference.apply(slopes, theirs) if not reference.built else reference.apply(slopes)
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)
    optimizer.reset()
    assert all(float(tf.reduce_sum(tf.abs(tf.cast(v, tf.float32)))) == 0 for v in optimizer.variables)
