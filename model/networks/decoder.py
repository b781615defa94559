"""A member of a decoder: the multi-domain network (SIMD) and the sleep-only network (SISD)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sleep_interpreter.model.networks import kernels, multi_device
from sleep_interpreter.model.networks.blocks import ClassHead, ContrastivePair, Encoder, FeatureHead, Stem
from sleep_interpreter.model.networks.input_checks import checked_label, checked_signal
from sleep_interpreter.model.networks.layers import Seed, Shape, Valid, serializable, share_dtype, sinusoid_table
from sleep_interpreter.model.networks.losses import class_loss, mixture_log_probabilities, one_hot
from sleep_interpreter.model.networks.multi_device import gathered
from sleep_interpreter.model.networks.settings import DecoderSettings, EncoderSettings, with_dropout

BATCH_PARTS = 2
"""Parts of a training batch that are computed side by side (see model/networks/kernels.py).

A fixed number, not the machine's cores: it decides the order of summation and the dropout masks.
"""
SMALLEST_SPLIT_BATCH = 16
"""Smaller batches are not worth cutting."""

LossAndProbabilities = tuple[tf.Tensor, tf.Tensor]


@serializable
class SleepDecoder(keras.Model):
    """Sleep-only decoder (SISD): sleep trials to class probabilities; with labels, the published loss too.

    ``member(sleep)`` returns probabilities (B, K), ``member((sleep, label))`` the loss and the probabilities.
    To train by `fit`: ``member.compile(optimizer)`` and ``member.fit((sleep, label))`` for the published
    loss, ``member.compile(optimizer, loss)`` and ``member.fit(sleep, label)`` for any loss of Keras.

    The views of a trial are its encoding z, z + audio_encoder(z) and z + image_encoder(z); the audio and
    image encoders are the ones that process awake trials, where a network has those. `dropout` replaces every
    dropout rate.
    """

    def __init__(
        self,
        settings: DecoderSettings | dict[str, Any],
        seed: Seed = 0,
        dropout: float | None = None,
        name: str = "member",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.settings = DecoderSettings.model_validate(settings)
        self._dropout = dropout
        self.add_layers(with_dropout(self.settings, dropout), np.random.default_rng(seed))
        share_dtype(self)
        self.build()

    def add_layers(self, s: DecoderSettings, random: np.random.Generator) -> None:
        """Make the layers; each draws its seed from `random` in turn."""

        def encoder(settings: EncoderSettings, name: str) -> Encoder:
            sizes = {"d_model": s.d_model, "head_size": s.head_size}
            return Encoder(**settings.model_dump(), **sizes, seed=random, name=name)

        self.sleep_stem = self.make_stem(s, random, "sleep_emb_input")
        self.sleep_encoder = encoder(s.sleep_encoder, "sleep_encoder")
        self.image_encoder = encoder(s.image_encoder, "image_encoder")
        self.audio_encoder = encoder(s.audio_encoder, "audio_encoder")
        self.sleep_features = FeatureHead(s.features, random, name="sleep_feature_block")
        self.sleep_classes = self.make_class_head(s, random, "sleep_classification_block")
        table = sinusoid_table(s.sleep_samples, s.d_model, self.compute_dtype)
        self._sleep_position = table if s.position_sleep else None

    @staticmethod
    def make_stem(s: DecoderSettings, random: np.random.Generator, name: str) -> Stem:
        """Return the convolutions in front of an encoder."""
        return Stem(**s.stem.model_dump(), d_model=s.d_model, seed=random, name=name)

    @staticmethod
    def make_class_head(s: DecoderSettings, random: np.random.Generator, name: str) -> ClassHead:
        """Return the layers from features to logits."""
        return ClassHead(s.classes, s.class_hidden, s.class_dropout, random, name=name)

    @property
    def input_size(self) -> tuple[int, int]:
        """Samples and channels of a sleep trial."""
        return self.settings.sleep_samples, self.settings.channels

    def build(self, input_shape: Shape | None = None) -> None:
        s = self.settings
        encoded = (None, s.sleep_samples, s.d_model)
        self.sleep_stem.build((None, *self.input_size))
        for block in (self.sleep_encoder, self.image_encoder, self.audio_encoder, self.sleep_features):
            block.build(encoded)
        self.sleep_classes.build((None, s.sleep_samples, s.features))

    def get_config(self) -> dict[str, Any]:
        settings = self.settings.model_dump(mode="json")
        return {**super().get_config(), "settings": settings, "dropout": self._dropout}

    def call(self, inputs: Any, training: bool = False) -> tf.Tensor | LossAndProbabilities:
        """Return class probabilities (B, K) of sleep EEG (B, T, C); of (sleep, label) the scalar loss too.

        Labels are one-hot (B, K) or class indices (B,). Training is with dropout and batch statistics.
        """
        if isinstance(inputs, tuple | list):
            return self.call_with_labels(inputs, training)
        sleep = checked_signal(inputs, self.input_size, "sleep", self.settings.varying_lengths)
        parts = split_batch(sleep) if training else [sleep]
        return tf.exp(self.sleep_log_probabilities(self.sleep_views(parts, training, self.valid(parts)), training))

    def call_with_labels(self, inputs: Sequence[tf.Tensor], training: bool = False) -> LossAndProbabilities:
        sleep, label = inputs
        sleep = checked_signal(sleep, self.input_size, "sleep", self.settings.varying_lengths)
        label = self.all_labels(label)
        parts = split_batch(sleep)
        views = self.sleep_views(parts, training, self.valid(parts))
        log_probabilities = self.sleep_log_probabilities(views, training)
        weights = self.settings.class_weights
        loss = self.class_loss(log_probabilities, label)
        return weights.sleep * loss / weights.divisor, tf.exp(log_probabilities)

    def valid(self, parts: list[tf.Tensor]) -> Valid:
        """Return which samples of sleep EEG in parts (B_i, T, C) are before a trial's end; None where all trials are
        of one length.
        """
        if not self.settings.varying_lengths:
            return None
        there = [~tf.reduce_all(tf.math.is_nan(part), axis=-1) for part in parts]
        # NaN before the end is no end: it stays, and the loss shows it
        return [tf.cumsum(tf.cast(own, tf.int32), axis=1, reverse=True) > 0 for own in there]

    def sleep_views(self, parts: list[tf.Tensor], training: bool = False, valid: Valid = None) -> list[list[tf.Tensor]]:
        """Return the views plain, audio and image, each in parts (B_i, T, F), of sleep EEG in parts (B_i, T, C).

        `valid` is what the method of that name returns; views are 0 where samples are not.
        """
        x = self.sleep_stem.call_parts(parts, training, valid)
        if self._sleep_position is not None:
            x = [part + self._sleep_position for part in x]
        plain = self.sleep_encoder.call_parts(x, training, valid)
        views = [plain]
        for encoder in (self.audio_encoder, self.image_encoder):
            side = encoder.call_parts(plain, training, valid)
            views.append([z + new for z, new in zip(plain, side, strict=True)])
        return [self.sleep_features.call_parts(view, training, valid) for view in views]

    def sleep_log_probabilities(self, views: list[list[tf.Tensor]], training: bool = False) -> tf.Tensor:
        """Return log class probabilities (B, K) from the features of the three views."""
        logits = [kernels.wide(view) for view in self.sleep_classes.call_views(views, training)]
        return mixture_log_probabilities(logits, self.settings.view_weights)

    def class_loss(self, log_probabilities: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        """Return the class loss of log probabilities (B, K) and the whole batch's labels (B, K)."""
        s = self.settings
        return class_loss(gathered(log_probabilities), label, s.class_loss, s.label_smoothing)

    def all_labels(self, label: tf.Tensor) -> tf.Tensor:
        """Return the labels of the whole batch, of all replicas, as one-hot (B, K)."""
        classes = self.settings.classes
        return gathered(one_hot(checked_label(label, classes), classes))

    def loss_and_probabilities(self, inputs: Any, training: bool = False) -> LossAndProbabilities:
        """Return what the training loop asks of every network; for decoders it is the call itself."""
        pair: LossAndProbabilities = self(inputs, training=training)
        return pair

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        """Return what `fit` minimises: the published loss if labels came with the inputs."""
        if isinstance(y_pred, tuple | list):
            return y_pred[0]
        return super().compute_loss(x, y, y_pred, sample_weight, training)


@serializable
class MultiDomainDecoder(SleepDecoder):
    """Multi-domain decoder (SIMD): `member((image, audio, sleep, label)) -> (loss, probabilities)`.

    Awake image and audio trials are classified too, and contrastive terms pull image and audio, sleep and
    audio, and sleep and image features of one item together. Of an experiment with one kind of awake trials the other
    has no place in the inputs and no layers. ``member(sleep)`` returns probabilities alone.
    """

    def add_layers(self, s: DecoderSettings, random: np.random.Generator) -> None:
        super().add_layers(s, random)
        for kind in s.awake_kinds:
            setattr(self, f"{kind}_stem", self.make_stem(s, random, f"{kind}_emb_input"))
        for kind in s.awake_kinds:
            setattr(self, f"{kind}_features", FeatureHead(s.features, random, name=f"{kind}_feature_block"))
        for kind in s.awake_kinds:
            head = self.make_class_head(s, random, f"awake_{kind}_classification_block")
            setattr(self, f"{kind}_classes", head)
        w = s.projections
        look: dict[str, Any] = {"form": s.contrastive_form, "temperature": s.temperature.model_dump()}
        if len(s.awake_kinds) > 1:
            self.awake_pair = ContrastivePair(w.awake, w.awake, random, name="awake_contrastive_block", **look)
        for kind, name in (("audio", "sleep_contrastive_block"), ("image", "image_contrastive_block")):
            if kind in s.awake_kinds:
                setattr(self, f"sleep_{kind}_pair", ContrastivePair(w.sleep, w.memory, random, name=name, **look))
        table = sinusoid_table(s.awake_samples, s.d_model, self.compute_dtype)
        self._awake_position = table if s.position_awake else None

    def build(self, input_shape: Shape | None = None) -> None:
        s = self.settings
        awake_features = (None, s.awake_samples, s.features)
        sleep_features = (None, s.sleep_samples, s.features)
        for kind in s.awake_kinds:
            getattr(self, f"{kind}_stem").build((None, s.awake_samples, s.channels))
            getattr(self, f"{kind}_features").build((None, s.awake_samples, s.d_model))
            getattr(self, f"{kind}_classes").build(awake_features)
            getattr(self, f"sleep_{kind}_pair").build(sleep_features, awake_features)
        if len(s.awake_kinds) > 1:
            self.awake_pair.build(awake_features, awake_features)
        super().build()

    def awake_view(self, kind: str, eeg: tf.Tensor, training: bool) -> list[tf.Tensor]:
        """Return the features of awake trials (B, T, C) of one kind, in one part (B, T, F)."""
        x = getattr(self, f"{kind}_stem").call_parts([eeg], training)
        if self._awake_position is not None:
            x = [part + self._awake_position for part in x]
        encoded = getattr(self, f"{kind}_encoder").call_parts(x, training)
        features: list[tf.Tensor] = getattr(self, f"{kind}_features").call_parts(encoded, training)
        return features

    def call_with_labels(self, inputs: Sequence[tf.Tensor], training: bool = False) -> LossAndProbabilities:
        """Return the scalar loss and the probabilities (B, K) of the sleep trials of (image, audio, sleep, label).

        Awake EEG (B, T, C) is of an image and an audio trial of the same item, as far as `awake_kinds` has them; the
        rest is as in `call`.
        """
        *awake_eeg, sleep_eeg, label = inputs
        s = self.settings
        awake = {
            kind: self.awake_view(kind, checked_signal(eeg, (s.awake_samples, s.channels), kind), training)
            for kind, eeg in zip(s.awake_kinds, awake_eeg, strict=True)
        }
        sleep_eeg = checked_signal(sleep_eeg, self.input_size, "sleep", s.varying_lengths)
        label = self.all_labels(label)
        parts = split_batch(sleep_eeg)
        valid = self.valid(parts)
        views = self.sleep_views(parts, training, valid)
        log_sleep = self.sleep_log_probabilities(views, training)
        w, c = s.class_weights, s.contrastive_weights
        loss = w.sleep * self.class_loss(log_sleep, label)
        for kind, view in awake.items():
            logits = getattr(self, f"{kind}_classes").call_views([view], training)[0]
            loss += getattr(w, kind) * self.class_loss(tf.nn.log_softmax(kernels.wide(logits)), label)
        loss /= w.divisor
        if s.contrastive:
            contrast = (
                c.awake * self.awake_pair.call_parts(awake["audio"], awake["image"], label) if len(awake) > 1 else 0.0
            )
            for kind, side in (("audio", views[1]), ("image", views[2])):
                if kind in awake:
                    pair = getattr(self, f"sleep_{kind}_pair")
                    contrast += getattr(c, f"sleep_{kind}") * pair.call_parts(side, awake[kind], label, valid)
            loss += contrast / c.divisor
        return loss, tf.exp(log_sleep)


def split_batch(batch: tf.Tensor) -> list[tf.Tensor]:
    """Return a batch (B, ...) as `BATCH_PARTS` tensors of nearly as many trials, a small one whole.

    In a graph for batches of any size the number of parts is fixed, and a batch needs `BATCH_PARTS` trials.
    """
    if multi_device.count() > 1 or (batch.shape[0] is not None and batch.shape[0] < SMALLEST_SPLIT_BATCH):
        return [batch]
    count = tf.shape(batch)[0]
    cuts = [count * i // BATCH_PARTS for i in range(BATCH_PARTS + 1)]
    return [batch[start:stop] for start, stop in pairwise(cuts)]


def build_member(
    settings: DecoderSettings, seed: Sequence[int], dropout: float | None = None
) -> SleepDecoder | MultiDomainDecoder:
    """Build a member that takes awake trials along, or a sleep-only one."""
    return (MultiDomainDecoder if settings.awake else SleepDecoder)(settings, seed, dropout)
