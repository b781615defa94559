"""Checks of what is handed to a network, before TensorFlow broadcasts or forgives it."""

import numpy as np
import tensorflow as tf


def checked_signal(x, size, name):
    """Return signals as finite float32 (B, *size), or raise a `ValueError`.

    Parameters
    ----------
    x : array
    size : tuple of int
        Shape of one trial or window.
    name : str
        How messages call it.
    """
    if isinstance(x, tf.Tensor) and not hasattr(x, "numpy"):  # inside a graph only the shape is known
        _check_shape(x.shape, size, name)
        return tf.cast(x, tf.float32)
    x = np.asarray(x)
    if x.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected numbers, found {x.dtype}")
    _check_shape(x.shape, size, name)
    if not np.isfinite(x).all():
        bad = sorted({int(i) for i in np.argwhere(~np.isfinite(x))[:, 0]})
        raise ValueError(f"{name}: NaN or infinite values in trial {', '.join(map(str, bad[:5]))}")
    return np.ascontiguousarray(x, np.float32)


def checked_label(label, classes):
    """Return labels as they are, one-hot (B, K) or class indices (B,), or raise a `ValueError`."""
    if isinstance(label, tf.Tensor) and not hasattr(label, "numpy"):
        if label.shape.rank not in (1, 2) or (label.shape.rank == 2 and label.shape[1] != classes):
            raise ValueError(f"label: expected (B,) or (B, {classes}), found {tuple(label.shape)}")
        return label
    values = np.asarray(label)
    if values.ndim == 1:
        if values.dtype.kind not in "iu":
            raise ValueError(f"label: expected class indices as integers, found {values.dtype}")
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(
                f"label: expected class indices 0-{classes - 1}, found {sorted(set(values.tolist()))}"
            )
    elif values.ndim != 2 or values.shape[1] != classes:
        raise ValueError(f"label: expected (B,) or (B, {classes}), found {values.shape}")
    elif not (np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all()):
        raise ValueError("label: expected one-hot rows, one 1 and otherwise 0 in each")
    return label


def _check_shape(shape, size, name):
    shape = tuple(shape)
    if len(shape) != 1 + len(size) or any(
        found not in (None, n) for found, n in zip(shape[1:], size, strict=True)
    ):
        raise ValueError(f"{name}: expected shape (B, {', '.join(map(str, size))}), found {shape}")
