"""The networks. `build` makes one by its published name; TensorFlow is imported on the first call."""

from sleep_interpreter.model.registry import build, names

__all__ = ["build", "names"]
