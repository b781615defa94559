"""A member of a decoder: the multi-domain network (SIMD) and the sleep-only network (SISD)."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from sleep_interpreter.model.networks.blocks import ClassHead, ContrastivePair, FeatureHead, Stem
from sleep_interpreter.model.networks.input_checks import checked_label, checked_signal
from sleep_interpreter.model.networks.layers import Maker, sinusoid_table
from sleep_interpreter.model.networks.losses import class_loss, one_hot
from sleep_interpreter.model.networks.multi_device import gathered
from sleep_interpreter.model.networks.settings import DecoderSettings
from sleep_interpreter.model.networks.sleep_encoder import SleepPath, in_parts


class SleepDecoder(SleepPath, keras.Model):
    """Sleep-only decoder (SISD): `member((sleep, label)) -> (loss, probabilities)`.

    Parameters
    ----------
    settings : sleep_interpreter.model.networks.settings.DecoderSettings
    seed : int | sequence of int
    dropout : float | None
        Replaces every dropout rate.
    """

    def __init__(self, settings, seed=0, dropout=None, name="member"):
        super().__init__(name=name)
        self.settings = settings
        make = Maker(seed, dropout)
        self.add_layers(make)
        self.build()

    def add_layers(self, make):
        self.add_sleep_path(self.settings, make)

    @property
    def input_size(self):
        """Samples and channels of a sleep trial."""
        return self.settings.sleep_samples, self.settings.channels

    def build(self, input_shape=None):
        self.build_sleep_path()
        self.built = True

    def call(self, inputs, training=False):
        """Return the scalar loss and the class probabilities (B, K).

        Parameters
        ----------
        inputs : (sleep, label)
            Sleep EEG (B, 200, 55) and one-hot labels (B, 15), or class indices (B,).
        training : bool
            Dropout on, batch statistics in the normalisations.
        """
        sleep, label = inputs
        sleep = checked_signal(sleep, self.input_size, "sleep")
        label = self.all_labels(label)
        log_probabilities = self.sleep_log_probabilities(
            self.sleep_views(in_parts(sleep), training), training
        )
        weights = self.settings.class_weights
        loss = class_loss(gathered(log_probabilities), label, self.settings.class_loss)
        return weights.sleep * loss / weights.divisor, tf.exp(log_probabilities)

    def all_labels(self, label):
        """Return the labels of the whole batch, of all replicas, as one-hot (B, K)."""
        classes = self.settings.classes
        return gathered(one_hot(checked_label(label, classes), classes))

    def loss_and_probabilities(self, inputs, training=False):
        """Return what the training loop asks of every network; for decoders it is the call itself."""
        return self(inputs, training=training)


class MultiDomainDecoder(SleepDecoder):
    """Multi-domain decoder (SIMD): `member((image, audio, sleep, label)) -> (loss, probabilities)`.

    Awake image and audio trials are classified too, and contrastive terms pull image and audio, sleep and
    audio, and sleep and image features of one item together.
    """

    def add_layers(self, make):
        s = self.settings
        self.add_sleep_path(s, make)
        self.image_stem = Stem(s.stem, s.d_model, make, "image_emb_input")
        self.audio_stem = Stem(s.stem, s.d_model, make, "audio_emb_input")
        self.image_features = FeatureHead(s.features, make, "image_feature_block")
        self.audio_features = FeatureHead(s.features, make, "audio_feature_block")
        self.image_classes = ClassHead(s, make, "awake_image_classification_block")
        self.audio_classes = ClassHead(s, make, "awake_audio_classification_block")
        widths = s.projections
        self.awake_pair = ContrastivePair(widths.awake, widths.awake, make, "awake_contrastive_block")
        self.sleep_audio_pair = ContrastivePair(widths.sleep, widths.memory, make, "sleep_contrastive_block")
        self.sleep_image_pair = ContrastivePair(widths.sleep, widths.memory, make, "image_contrastive_block")
        self._awake_position = sinusoid_table(s.awake_samples, s.d_model) if s.position_awake else None

    def build(self, input_shape=None):
        s = self.settings
        awake_features = (None, s.awake_samples, s.features)
        sleep_features = (None, s.sleep_samples, s.features)
        for stem in (self.image_stem, self.audio_stem):
            stem.build((None, s.awake_samples, s.channels))
        for head in (self.image_features, self.audio_features):
            head.build((None, s.awake_samples, s.d_model))
        for head in (self.image_classes, self.audio_classes):
            head.build(awake_features)
        self.awake_pair.build(awake_features, awake_features)
        self.sleep_audio_pair.build(sleep_features, awake_features)
        self.sleep_image_pair.build(sleep_features, awake_features)
        super().build()

    def awake_view(self, eeg, stem, encoder, head, training):
        """Return the features of awake trials (B, T, C) of one modality, in one part (B, T, F)."""
        x = stem.forward([eeg], training)
        if self._awake_position is not None:
            x = [part + self._awake_position for part in x]
        return head.forward(encoder.forward(x, training), training)

    def call(self, inputs, training=False):
        """Return the scalar loss and the class probabilities (B, K) of the sleep trials.

        Parameters
        ----------
        inputs : (image, audio, sleep, label)
            Awake EEG (B, 80, 55) of an image and an audio trial of the same item, sleep EEG (B, 200, 55),
            one-hot labels (B, 15), or class indices (B,).
        training : bool
            Dropout on, batch statistics in the normalisations.
        """
        image_eeg, audio_eeg, sleep_eeg, label = inputs
        s = self.settings
        awake = (s.awake_samples, s.channels)
        image_eeg = checked_signal(image_eeg, awake, "image")
        audio_eeg = checked_signal(audio_eeg, awake, "audio")
        sleep_eeg = checked_signal(sleep_eeg, self.input_size, "sleep")
        label = self.all_labels(label)
        image = self.awake_view(image_eeg, self.image_stem, self.image_encoder, self.image_features, training)
        audio = self.awake_view(audio_eeg, self.audio_stem, self.audio_encoder, self.audio_features, training)
        views = self.sleep_views(in_parts(sleep_eeg), training)
        _, audio_side, image_side = views

        log_sleep = self.sleep_log_probabilities(views, training)
        log_image = tf.nn.log_softmax(self.image_classes.forward([image], training)[0])
        log_audio = tf.nn.log_softmax(self.audio_classes.forward([audio], training)[0])
        w = s.class_weights
        classes = (
            w.sleep * class_loss(gathered(log_sleep), label, s.class_loss)
            + w.image * class_loss(gathered(log_image), label, s.class_loss)
            + w.audio * class_loss(gathered(log_audio), label, s.class_loss)
        ) / w.divisor
        loss = classes
        if s.contrastive:
            c = s.contrastive_weights
            contrast = (
                c.awake * self.awake_pair.forward(audio, image, label)
                + c.sleep_audio * self.sleep_audio_pair.forward(audio_side, audio, label)
                + c.sleep_image * self.sleep_image_pair.forward(image_side, image, label)
            )
            loss += contrast / c.divisor
        return loss, tf.exp(log_sleep)


def build_member(
    settings: DecoderSettings, seed: Sequence[int], dropout: float | None = None
) -> SleepDecoder | MultiDomainDecoder:
    """Build a member that takes awake trials along, or a sleep-only one."""
    return (MultiDomainDecoder if settings.awake else SleepDecoder)(settings, seed, dropout)
