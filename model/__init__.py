"""The networks. `build` makes one by its published name; TensorFlow is imported on the first call."""

from model import checkpoint
from model.registry import build, names

__all__ = ["build", "checkpoint", "names"]
