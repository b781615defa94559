"""The sleep path of a decoder: three views of a sleep trial and their common prediction."""

from itertools import pairwise

import tensorflow as tf

from sleep_interpreter.model.networks import multi_device
from sleep_interpreter.model.networks.blocks import ClassHead, Encoder, FeatureHead, Stem
from sleep_interpreter.model.networks.layers import sinusoid_table
from sleep_interpreter.model.networks.losses import mixture_log_probabilities

PARTS = 2
"""Parts of a training batch that are computed side by side (see model/networks/kernels.py).

A fixed number, not the machine's cores: it decides the order of summation and the dropout masks.
"""
WHOLE = 16
"""Smaller batches are not worth cutting."""


class SleepPath:
    """Mixin with the layers that turn (B, T, C) sleep EEG into class probabilities.

    The views of a trial are its encoding z, z + audio_encoder(z) and z + image_encoder(z); the audio and
    image encoders are the ones that process awake trials, where a network has those.
    """

    def add_sleep_path(self, settings, make):
        s = settings

        def encoder(of, name):
            return Encoder(of, s.d_model, s.head_size, make, name)

        self.sleep_stem = Stem(s.stem, s.d_model, make, "sleep_emb_input")
        self.sleep_encoder = encoder(s.sleep_encoder, "sleep_encoder")
        self.image_encoder = encoder(s.image_encoder, "image_encoder")
        self.audio_encoder = encoder(s.audio_encoder, "audio_encoder")
        self.sleep_features = FeatureHead(s.features, make, "sleep_feature_block")
        self.sleep_classes = ClassHead(s, make, "sleep_classification_block")
        self._sleep_position = sinusoid_table(s.sleep_samples, s.d_model) if s.position_sleep else None

    def build_sleep_path(self):
        s = self.settings
        self.sleep_stem.build((None, s.sleep_samples, s.channels))
        for encoder in (self.sleep_encoder, self.image_encoder, self.audio_encoder):
            encoder.build((None, s.sleep_samples, s.d_model))
        self.sleep_features.build((None, s.sleep_samples, s.d_model))
        self.sleep_classes.build((None, s.sleep_samples, s.features))

    def sleep_views(self, parts, training=False):
        """Return the three views (plain, audio, image) of sleep EEG, all in parts of a batch.

        Parameters
        ----------
        parts : list of tensors (B_i, T, C)
        training : bool

        Returns
        -------
        views : list of three lists of tensors (B_i, T, F)
        """
        x = self.sleep_stem.forward(parts, training)
        if self._sleep_position is not None:
            x = [part + self._sleep_position for part in x]
        plain = self.sleep_encoder.forward(x, training)
        views = [plain]
        for encoder in (self.audio_encoder, self.image_encoder):
            side = encoder.forward(plain, training)
            views.append([z + new for z, new in zip(plain, side, strict=True)])
        return [self.sleep_features.forward(view, training) for view in views]

    def sleep_log_probabilities(self, views, training=False):
        """Return log class probabilities (B, K) from the features of the three views."""
        return mixture_log_probabilities(
            self.sleep_classes.forward(views, training), self.settings.view_weights
        )

    def sleep_probabilities(self, sleep):
        """Return class probabilities (B, K) of sleep trials (B, T, C)."""
        return tf.exp(self.sleep_log_probabilities(self.sleep_views([sleep])))

    def predict_step(self, x):
        """Return what `predict_proba` returns, for one batch."""
        return self.sleep_probabilities(tf.cast(x, tf.float32))


def in_parts(batch):
    """Return a batch (B, ...) as `PARTS` tensors of nearly as many trials, fewer than `WHOLE` as one.

    In a graph for batches of any size the number of parts is fixed, and a batch needs `PARTS` trials.
    """
    if multi_device.count() > 1 or (batch.shape[0] is not None and batch.shape[0] < WHOLE):
        return [batch]
    count = tf.shape(batch)[0]
    cuts = [count * i // PARTS for i in range(PARTS + 1)]
    return [batch[start:stop] for start, stop in pairwise(cuts)]
