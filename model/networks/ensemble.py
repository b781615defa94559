"""One ensemble for every network: members that predict together and are trained apart."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from sleep_interpreter.model.networks.input_checks import checked_signal


class Ensemble(keras.Model):
    """Members of one network; the prediction is the mean over members.

    Parameters
    ----------
    members : list of keras.Model
        `member(inputs, training) -> (loss, probabilities)` for decoders, `-> probabilities` for stagers;
        `member.predict_step(x) -> probabilities`.
    network : str
        Published name of the network ("N23SIMD").
    mode : str | None
        Published mode ("retrained") or None.

    Attributes
    ----------
    individual_models : list of keras.Model
        The members, under the name they have in the released checkpoints.
    settings : sleep_interpreter.model.networks.settings.DecoderSettings | sleep_interpreter.model.networks.settings.StagerSettings
    """

    def __init__(self, members, network, mode=None):
        super().__init__(name=network)
        self.individual_models = members
        self.network, self.mode = network, mode
        self.settings = members[0].settings
        self._forward = None
        self._prepared = False
        self.built = True

    def call(self, inputs, training=False):
        """Return the members' mean: (loss, probabilities) of a decoder, probabilities of a stager."""
        outputs = [member(inputs, training=training) for member in self.individual_models]
        if isinstance(outputs[0], tuple):
            losses, probabilities = zip(*outputs, strict=True)
            return _mean(losses), _mean(probabilities)
        return _mean(outputs)

    def predict_proba(self, x):
        """Return class probabilities as float32 array (B, K).

        Parameters
        ----------
        x : array (B, T, C) of sleep trials, or (B, 3, 15000) of staging windows

        Raises
        ------
        ValueError
            Another shape than the network reads, or values that are not finite numbers.
        """
        x = tf.convert_to_tensor(checked_signal(x, self.individual_models[0].input_size, "x"))
        if not len(x):
            return np.zeros((0, self.settings.classes), np.float32)
        forward = self._traced_forward()
        waiting = list(self.individual_models)
        outputs = []
        if not self._prepared:
            # TensorFlow prepares a function when it first runs: by several threads at once, each would do so.
            outputs.append(forward(_values(waiting.pop(0)), x))
            self._prepared = True
        if len(waiting) == 1:
            outputs.append(forward(_values(waiting[0]), x))
        elif waiting:
            # Side by side, one member a core, wastes less than several cores on one small product.
            with ThreadPoolExecutor(len(waiting)) as pool:
                outputs += pool.map(lambda member: forward(_values(member), x), waiting)
        return _mean(outputs).numpy()

    def _traced_forward(self):
        """Return the one traced function that serves all members: a member's variables are arguments."""
        if self._forward is None:
            first = self.individual_models[0]
            size = tf.TensorSpec((None, *first.input_size), tf.float32)
            function = tf.function(self._forward_with, autograph=False, reduce_retracing=True)
            self._forward = function.get_concrete_function(_values(first), size)
        return self._forward

    def _forward_with(self, values, x):
        first = self.individual_models[0]
        with keras.StatelessScope(state_mapping=list(zip(first.variables, values, strict=True))):
            return first.predict_step(x)


def _values(member):
    return [variable.value for variable in member.variables]


def _mean(tensors):
    return tf.add_n(list(tensors)) / len(tensors)
