"""One ensemble for every network: members that predict together and are trained apart."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sleep_interpreter.model.networks.input_checks import checked_signal
from sleep_interpreter.model.networks.layers import serializable
from sleep_interpreter.model.networks.registration import NetworkSettings
from sleep_interpreter.utils.core import data_card
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.signal.trial_ends import valid_lengths


@serializable
class Ensemble(keras.Model):
    """Members of one network; the prediction is the mean over members.

    A member is `member(x) -> probabilities`, a decoder also `member((..., label)) -> (loss, probabilities)`; they
    stand in `individual_models`, named so in the released checkpoints. `network` and `mode` are the published
    names ("N23SIMD", "retrained" or None).
    """

    def __init__(self, members: Sequence[keras.Model], network: str, mode: str | None = None, **kwargs: Any) -> None:
        super().__init__(**{"name": network, **kwargs})
        self.individual_models = list(members)
        self.network, self.mode = network, mode
        self.settings: NetworkSettings = members[0].settings
        self._forward: Callable[..., tf.Tensor] | None = None
        self.built = True

    @property
    def card(self) -> DataCard:
        """What the network was trained on: the card in its checkpoint's notes, else the published one."""
        return data_card.from_notes(getattr(self, "notes", {}), self.network)

    def get_config(self) -> dict[str, Any]:
        members = [keras.saving.serialize_keras_object(member) for member in self.individual_models]
        return {**super().get_config(), "members": members, "network": self.network, "mode": self.mode}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Ensemble":
        members = [keras.saving.deserialize_keras_object(member) for member in config["members"]]
        return cls(**{**config, "members": members})

    def call(self, inputs: Any, training: bool = False) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """Return the members' mean: probabilities, or loss and probabilities if labels came with `inputs`."""
        outputs = [member(inputs, training=training) for member in self.individual_models]
        if isinstance(outputs[0], tuple):
            losses, probabilities = zip(*outputs, strict=True)
            return _mean(losses), _mean(probabilities)
        return _mean(outputs)

    def predict_proba(self, x: Any) -> np.ndarray:
        """Return class probabilities (B, K), float32, of sleep trials (B, T, C) or staging windows (B, 3, 15000).

        Another shape than the network reads, or values that are not finite numbers, are a `ValueError`; behind the end
        of a trial NaN is expected where the network is for trials of unequal length (`settings.varying_lengths`).
        """
        first = self.individual_models[0]
        varying = getattr(self.settings, "varying_lengths", False)
        x = tf.convert_to_tensor(checked_signal(x, first.input_size, "x", varying))
        if varying and len(x) and (card := self.card).varying_lengths:
            lengths = valid_lengths(x.numpy())
            if lengths.min() < card.shortest_samples:
                raise ValueError(
                    f"x: trial {int(lengths.argmin())} ends after {lengths.min()} samples, the network's data card "
                    f"says {card.shortest_samples} at least (windows.sleep.earliest_end)"
                )
        if not len(x):
            return np.zeros((0, self.settings.classes), np.float32)
        waiting = [[variable.value for variable in member.variables] for member in self.individual_models]
        outputs = []
        if (forward := self._forward) is None:
            # Traced once, for all members: a member's variables are arguments.
            function = tf.function(self._predict_with, autograph=False, reduce_retracing=True)
            any_batch = tf.TensorSpec((None, *first.input_size), x.dtype)
            forward = function.get_concrete_function(waiting[0], any_batch)
            # TensorFlow prepares a function when it first runs: by several threads at once, each would do so.
            outputs.append(forward(waiting.pop(0), x))
            self._forward = forward
        if len(waiting) == 1:
            outputs.append(forward(waiting[0], x))
        elif waiting:
            # Side by side, one member a core, wastes less than several cores on one small product.
            with ThreadPoolExecutor(len(waiting)) as pool:
                outputs += pool.map(forward, waiting, repeat(x))
        mean: np.ndarray = tf.cast(_mean(outputs), x.dtype).numpy()
        return mean

    def _predict_with(self, values: list[tf.Variable], x: tf.Tensor) -> tf.Tensor:
        """Return the first member's prediction with the variables of any."""
        first = self.individual_models[0]
        with keras.StatelessScope(state_mapping=list(zip(first.variables, values, strict=True))):
            return first(x, training=False)


def _mean(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n(list(tensors)) / len(tensors)
