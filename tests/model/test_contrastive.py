"""Forms of the contrastive loss, its temperature and label smoothing."""

import numpy as np
import pytest
import tensorflow as tf

from sleep_interpreter.model.networks import contrastive
from sleep_interpreter.model.networks.blocks import ContrastivePair
from sleep_interpreter.model.networks.losses import class_loss
from sleep_interpreter.model.networks.settings import DecoderSettings
from sleep_interpreter.utils.core.errors import UserError

LABEL = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 1]]
SAME = LABEL @ LABEL.T


def unit(seed, n=6, d=5):
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def form(name, z, y, scale=3.0):
    return float(getattr(contrastive, name)(*(tf.constant(x, tf.float64) for x in (z, y, SAME)), scale))


def test_infonce_is_that_of_clip_and_published_counts_all_of_an_item():
    z, y = unit(0), unit(1)
    logits = 3.0 * z @ y.T
    own = [np.diag(log_softmax(x)) for x in (logits, logits.T)]
    assert form("infonce", z, y) == pytest.approx(-np.mean(own))
    targets = SAME / SAME.sum(axis=1, keepdims=True)
    pairs = [-(targets * log_softmax(x)).sum(axis=1).mean() for x in (logits, logits.T)]
    assert form("published", z, y) == pytest.approx(np.mean(pairs))


def test_supcon_counts_pairs_within_a_kind_but_none_with_itself():
    z, y = unit(0), unit(1)
    both, label = np.concatenate([z, y]), np.tile(LABEL.argmax(axis=1), 2)
    losses = []
    for i in range(12):
        others = [j for j in range(12) if j != i]
        logits = 3.0 * both[others] @ both[i]
        log_p = logits - np.log(np.exp(logits).sum())
        losses.append(-log_p[label[others] == label[i]].mean())
    assert form("supcon", z, y) == pytest.approx(np.mean(losses))


def pair(**temperature):
    made = ContrastivePair(5, 5, seed=1, temperature=temperature or None)
    z = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    return made, (z, z[::-1] + 1, LABEL), made(z, z[::-1] + 1, LABEL)


def test_temperature_is_fixed_or_held_within_bounds():
    assert len(pair(trainable=False)[0].trainable_weights) == len(pair()[0].trainable_weights) - 1
    made, inputs, at_two = pair(high=2.0)
    made.t.assign(3.0)
    assert float(made(*inputs)) == float(at_two) == float(pair()[2])
    for high, upstream, expected in ((2.0, -1.0, 0.0), (2.0, 1.0, 1.0), (9.0, -1.0, -1.0)):
        t = tf.Variable(2.0)
        with tf.GradientTape() as tape:
            value = contrastive.bounded(tf.convert_to_tensor(t), None, high) * upstream
        assert float(tape.gradient(value, t)) == expected  # a step goes against the gradient
    with pytest.raises(ValueError, match="between low and high"):
        DecoderSettings(temperature={"start": 3, "high": 2})


def test_forms_are_registered_and_smoothing_spreads_a_label():
    with pytest.raises(ValueError, match="did you mean 'infonce'"):
        DecoderSettings(contrastive_form="infonse")
    assert issubclass(UserError, ValueError)
    log_p = tf.math.log(tf.constant([[0.7, 0.2, 0.1]]))
    label = tf.constant([[1.0, 0.0, 0.0]])
    smooth = -(0.9 + 0.1 / 3) * np.log(0.7) - 0.1 / 3 * (np.log(0.2) + np.log(0.1))
    assert float(class_loss(log_p, label, "logits", 0.1)) == pytest.approx(smooth, rel=1e-5)
    assert float(class_loss(log_p, label, "logits")) == pytest.approx(-np.log(0.7), rel=1e-5)
