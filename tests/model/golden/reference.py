"""Weights and inputs behind the golden figures: anyone can make them again from names and seeds.

The figures were computed once by the original networks (TensorFlow 2.12, CPU, float32).
"""

import json
import zlib
from pathlib import Path

import numpy as np

FIGURES = Path(__file__).parent / "figures"


def figures(key):
    with np.load(FIGURES / f"{key}.npz", allow_pickle=False) as stored:
        return dict(stored)


def manifest(key):
    return json.loads((FIGURES / f"{key}.manifest.json").read_text())


def weights(key):
    """Return {published name: float32 array} of one member."""
    salt = str(figures(key)["salt"])
    return {name: _weight(salt, name, shape) for name, shape in manifest(key).items()}


def _weight(salt, name, shape):
    random = np.random.RandomState(zlib.crc32(f"{salt}/{name}".encode()) & 0x7FFFFFFF)
    z = random.standard_normal(shape)
    match name.rsplit("/", 1)[-1]:
        case "t":
            value = 2.0
        case "moving_variance":
            value = 1 + 0.1 * np.abs(z)
        case "gamma":
            value = 1 + 0.1 * z
        case "beta" | "moving_mean" | "bias":
            value = 0.1 * z
        case _:
            value = z / np.sqrt(np.prod(shape[:-1]))
    return np.asarray(value, np.float32)


def decoder_inputs(seed, batch):
    """Return image (B, 80, 55), audio (B, 80, 55), sleep (B, 200, 55) and labels (B,)."""
    random = np.random.RandomState(int(seed))
    shapes = [(int(batch), 80, 55), (int(batch), 80, 55), (int(batch), 200, 55)]
    eeg = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    label = random.randint(0, 15, int(batch))
    label[-1] = label[0]
    return (*eeg, label)


def staging_inputs(seed, batch):
    """Return windows (B, 3, 15000) and stage codes (B,)."""
    random = np.random.RandomState(int(seed))
    x = random.standard_normal((int(batch), 3, 15000)).astype(np.float32)
    return x, random.randint(0, 4, int(batch))
