"""The sleep path of a decoder: three views of a sleep trial and their common prediction."""

import tensorflow as tf
from keras import ops

from model.layers import Stem, class_head, feature_head, sinusoid_table, transformer_encoder
from model.losses import mixture_log_probabilities


class SleepPath:
    """Mixin with the layers that turn (B, T, C) sleep EEG into class probabilities.

    The views of a trial are its encoding z, z + audio_encoder(z) and z + image_encoder(z); the audio and
    image encoders are the ones that process awake trials, where a network has those.
    """

    def add_sleep_path(self, settings, make):
        s = settings
        self.sleep_stem = Stem(s.stem, s.d_model, make, "sleep_emb_input")
        self.sleep_encoder = transformer_encoder(
            s.sleep_encoder, s.d_model, s.head_size, make, "sleep_encoder"
        )
        self.image_encoder = transformer_encoder(
            s.image_encoder, s.d_model, s.head_size, make, "image_encoder"
        )
        self.audio_encoder = transformer_encoder(
            s.audio_encoder, s.d_model, s.head_size, make, "audio_encoder"
        )
        self.sleep_features = feature_head(s.features, make, "sleep_feature_block")
        self.sleep_classes = class_head(s, make, "sleep_classification_block")
        self._sleep_position = sinusoid_table(s.sleep_samples, s.d_model) if s.position_sleep else None

    def build_sleep_path(self):
        s = self.settings
        self.sleep_stem.build((None, s.sleep_samples, s.channels))
        for encoder in (self.sleep_encoder, self.image_encoder, self.audio_encoder):
            encoder.build((None, s.sleep_samples, s.d_model))
        self.sleep_features.build((None, s.sleep_samples, s.d_model))
        self.sleep_classes.build((None, s.sleep_samples, s.features))

    def sleep_views(self, sleep, training=False):
        """Return the features (B, T, F) of the three views (plain, audio, image) of (B, T, C) sleep EEG."""
        x = self.sleep_stem(sleep, training=training)
        if self._sleep_position is not None:
            x = x + self._sleep_position
        z = self.sleep_encoder(x, training=training)
        views = (
            z,
            z + self.audio_encoder(z, training=training),
            z + self.image_encoder(z, training=training),
        )
        return tuple(self.sleep_features(view, training=training) for view in views)

    def sleep_log_probabilities(self, views, training=False):
        """Return log class probabilities (B, K) from the features of the three views."""
        logits = [self.sleep_classes(view, training=training) for view in views]
        return mixture_log_probabilities(logits, self.settings.view_weights)

    def sleep_probabilities(self, sleep, training=False):
        """Return class probabilities (B, K) of sleep trials (B, T, C)."""
        views = self.sleep_views(sleep, training=training)
        return ops.exp(self.sleep_log_probabilities(views, training=training))

    def predict_step(self, x):
        """Return what `predict_proba` returns, for one batch."""
        return self.sleep_probabilities(tf.cast(x, tf.float32), training=False)
