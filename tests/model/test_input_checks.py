"""What a network refuses to be handed."""

import numpy as np
import pytest

from sleep_interpreter import model

SMALL = {
    "stem": {"filters": 8, "dense": 8, "dilations": [1]}, "d_model": 8, "head_size": 4, "features": 8,
    "class_hidden": 8, "sleep_encoder": {"depth": 1, "heads": 1, "ffn": 8},
    "image_encoder": {"depth": 1, "heads": 1, "ffn": 8}, "audio_encoder": {"depth": 1, "heads": 1, "ffn": 8},
}  # fmt: skip


@pytest.fixture(scope="module")
def network():
    return model.build("N23SISD", members=2, **SMALL)


def trials(count=2):
    return np.random.default_rng(0).standard_normal((count, 200, 55)).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 1, 55), (2, 200, 1), (2, 55, 200), (200, 55), (1, 2, 200, 55)])
def test_shapes_that_would_be_broadcast(network, shape):
    with pytest.raises(ValueError, match=r"expected shape \(B, 200, 55\), found"):
        network.predict_proba(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="expected shape"):
        network((np.zeros(shape, np.float32), np.zeros(2, int)))


def test_values_that_are_no_numbers(network):
    bad = trials(3)
    bad[1, 5, 5] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values in trial 1"):
        network.predict_proba(bad)
    with pytest.raises(ValueError, match="expected numbers, found <U1"):
        network.predict_proba(np.full((1, 200, 55), "a"))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([0, 15], "class indices 0-14"),
        ([-1, 0], "class indices 0-14"),
        ([0.5, 1.0], "as integers"),
        (np.zeros((2, 15)), "one 1 and otherwise 0"),
        (np.eye(10)[:2], r"expected \(B,\) or \(B, 15\)"),
        (np.full((2, 15), 1 / 15), "one 1 and otherwise 0"),
    ],
)
def test_labels(network, label, message):
    with pytest.raises(ValueError, match=message):
        network((trials(), np.asarray(label)))


def test_other_types_and_empty_batches_are_taken(network):
    x = trials()
    expected = network.predict_proba(x)
    np.testing.assert_array_equal(network.predict_proba(x.astype(np.float64)), expected)
    np.testing.assert_array_equal(network.predict_proba(x.astype(np.float64).tolist()), expected)
    assert network.predict_proba(x[:0]).shape == (0, 15)
    np.testing.assert_allclose(network.predict_proba(x[:1]), expected[:1], atol=1e-6)
