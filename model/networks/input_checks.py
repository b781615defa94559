"""Checks of what is handed to a network, before TensorFlow broadcasts or forgives it."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sleep_interpreter.utils.signal.trial_ends import not_finite


def checked_signal(x: Any, size: Sequence[int], name: str, varying_lengths: bool = False) -> Any:
    """Return signals as finite numbers of Keras' float type (B, *size), or raise a `ValueError` that says `name`.

    With `varying_lengths` NaN in all channels may stand behind the end of a trial (B, T, C). A tensor stays one, so
    that gradients reach it.
    """
    dtype = keras.config.floatx()
    given, in_graph = x, tf.is_symbolic_tensor(x)  # of a symbolic one only the shape is known
    x = x if in_graph else np.asarray(x)
    if not in_graph and x.dtype.kind not in "fiu" and x.dtype.name != "bfloat16":
        raise ValueError(f"{name}: expected numbers, found {x.dtype}")
    shape = tuple(x.shape)
    if len(shape) != 1 + len(size) or any(found not in (None, n) for found, n in zip(shape[1:], size, strict=True)):
        raise ValueError(f"{name}: expected shape (B, {', '.join(map(str, size))}), found {shape}")
    if in_graph:
        return tf.cast(x, dtype)
    wrong = not_finite(x, varying_lengths)
    if wrong.any():
        bad = sorted({int(i) for i in np.argwhere(wrong)[:, 0]})
        raise ValueError(f"{name}: NaN or infinite values in trial {', '.join(map(str, bad[:5]))}")
    return tf.cast(given, dtype) if tf.is_tensor(given) else np.ascontiguousarray(x, dtype)


def checked_label(label: Any, classes: int) -> Any:
    """Return labels as they are, one-hot (B, K) or class indices (B,), or raise a `ValueError`."""
    if tf.is_symbolic_tensor(label):
        if label.shape.rank not in (1, 2) or (label.shape.rank == 2 and label.shape[1] != classes):
            raise ValueError(f"label: expected (B,) or (B, {classes}), found {tuple(label.shape)}")
        return label
    values = np.asarray(label)
    if values.ndim == 1:
        if values.dtype.kind not in "iu":
            raise ValueError(f"label: expected class indices as integers, found {values.dtype}")
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"label: expected class indices 0-{classes - 1}, found {sorted(set(values.tolist()))}")
    elif values.ndim != 2 or values.shape[1] != classes:
        raise ValueError(f"label: expected (B,) or (B, {classes}), found {values.shape}")
    elif not (np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all()):
        raise ValueError("label: expected one-hot rows, one 1 and otherwise 0 in each")
    return label
