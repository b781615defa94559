"""One ensemble for every network: members that predict together and are trained apart."""

import keras
import tensorflow as tf


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
    settings : model.settings.DecoderSettings | model.settings.StagerSettings
    """

    def __init__(self, members, network, mode=None):
        super().__init__(name=network)
        self.individual_models = members
        self.network, self.mode = network, mode
        self.settings = members[0].settings
        self._forward = tf.function(self._forward_with, reduce_retracing=True)
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
        """
        x = tf.convert_to_tensor(x, tf.float32)
        # One traced function serves all members: a member's variables go in as arguments.
        probabilities = [self._forward(_values(member), x) for member in self.individual_models]
        return _mean(probabilities).numpy()

    def _forward_with(self, values, x):
        first = self.individual_models[0]
        with keras.StatelessScope(state_mapping=list(zip(first.variables, values, strict=True))):
            return first.predict_step(x)


def _values(member):
    return [variable.value for variable in member.variables]


def _mean(tensors):
    return tf.add_n(list(tensors)) / len(tensors)
