"""A member of an ensemble out of any Keras model: the shortest way to add a network."""

from typing import Any

import keras
import tensorflow as tf

from sleep_interpreter.model.networks.input_checks import checked_label, checked_signal
from sleep_interpreter.model.networks.losses import one_hot
from sleep_interpreter.model.networks.registration import NetworkSettings


class Classifier(keras.Model):
    """Sleep trials (B, T, C) to class probabilities, trained by cross-entropy.

    `settings` have `sleep_samples`, `channels`, `classes`, and `awake` false. `network` takes float32 (B, T, C) and
    returns probabilities (B, K); its layers need no names. Where settings say `varying_lengths` it finds NaN behind the
    end of shorter trials, and has to leave those samples out.
    """

    def __init__(self, settings: NetworkSettings, network: keras.Model, name: str = "member") -> None:
        super().__init__(name=name)
        self.settings, self.network = settings, network
        self.input_size = settings.sleep_samples, settings.channels
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        """Return the probabilities (B, K) of trials (B, T, C)."""
        varying = getattr(self.settings, "varying_lengths", False)
        return self.network(checked_signal(x, self.input_size, "sleep", varying), training=training)

    def loss_and_probabilities(self, inputs: Any, training: bool = False) -> tuple[Any, Any]:
        """Return the scalar loss and the probabilities (B, K) of (sleep trials, labels or one-hot labels)."""
        sleep, label = inputs
        label = one_hot(checked_label(label, self.settings.classes), self.settings.classes)
        probabilities = self(sleep, training=training)
        return tf.reduce_mean(keras.losses.categorical_crossentropy(label, probabilities)), probabilities
