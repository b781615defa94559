"""Trials of unequal length in the networks: nothing depends on what stands behind the end of a trial."""

from typing import Literal

import numpy as np
import own_data as own
import pytest
import tensorflow as tf
import tensorflow_probes

import sleep_interpreter as si
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.model.networks import blocks
from sleep_interpreter.model.networks.classifier import Classifier
from sleep_interpreter.model.networks.decoder import build_member
from sleep_interpreter.model.networks.registration import NetworkSettings
from sleep_interpreter.model.networks.settings import DecoderSettings
from sleep_interpreter.utils.core.errors import UserError

T, WIDTH, CHANNELS = 12, 8, 4
LENGTHS = (12, 7, 9, 8, 12, 7)
ENCODER = {"depth": 2, "heads": 2, "ffn": 12}
SMALL = {
    "channels": CHANNELS, "sleep_samples": T, "awake_samples": 4, "classes": 3, "d_model": 8, "head_size": 4,
    "features": 8, "class_hidden": 8, "stem": {"filters": 8, "kernel": 3, "dense": 8, "dilations": (1, 2)},
    "sleep_encoder": ENCODER, "image_encoder": ENCODER, "audio_encoder": ENCODER, "awake": False,
    "projections": {"awake": 8, "sleep": 2, "memory": 6}, "class_loss": "logits",
}  # fmt: skip
BLOCKS = {
    "stem": lambda: blocks.Stem(d_model=5, filters=WIDTH, kernel=4, dilations=(1, 2), dense=7, seed=1),
    "encoder": lambda: blocks.Encoder(depth=2, d_model=WIDTH, heads=2, head_size=4, ffn=12, seed=1),
    "feature_head": lambda: blocks.FeatureHead(5, seed=1),
}


def noise(*shape, seed=7):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def with_ends(x, lengths, fill=np.nan):
    """Return trials (n, T, C) with `fill` behind their ends."""
    behind = np.arange(x.shape[1]) >= np.asarray(lengths)[:, None]
    return np.where(behind[..., None], fill, x).astype(np.float32)


def member(length=T, varying=True, **changes):
    """Return a small network for trials of so many samples; its weights depend on names alone, not on the length."""
    s = DecoderSettings.model_validate({**SMALL, "sleep_samples": length, "varying_lengths": varying, **changes})
    network = build_member(s, (1, 0), dropout=0.0)
    for k, (name, variable) in enumerate(checkpoint.member_variables(network).items()):
        value = noise(*variable.shape, seed=k) * 0.3
        if name.startswith("sleep_classification_block/layer_with_weights-0/kernel"):
            value = noise(64 * s.features, s.class_hidden, seed=k)[: length * s.features] * 0.3
        variable.assign(np.abs(value) + 0.5 if "variance" in name or "gamma" in name else value)
    return network


def loss_and_gradients(network, inputs, like=None):
    """Return loss, gradients of training, and the input's gradient (tail and all)."""
    sleep = tf.constant(inputs[-2])
    with tf.GradientTape() as tape:
        tape.watch(sleep)
        loss, _ = network.loss_and_probabilities((*inputs[:-2], sleep, inputs[-1]), training=True)
    variables = {v.path.split("/", 1)[1]: v.value for v in network.trainable_variables}
    found = tape.gradient(loss, [*variables.values(), sleep], unconnected_gradients="zero")
    return float(loss), dict(zip(variables, found[:-1], strict=True)), found[-1].numpy()


@pytest.mark.parametrize("make", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("training", [False, True])
def test_a_block_does_not_see_what_stands_behind_the_end(make, training):
    block, x = make(), noise(6, T, WIDTH)
    block.build(x.shape)
    valid = tf.constant(np.arange(T) < np.array(LENGTHS)[:, None])
    found = []
    for fill in (0.0, 1e6, np.nan):
        signal = tf.constant(with_ends(x, LENGTHS, fill))
        with tf.GradientTape() as tape:
            tape.watch(signal)
            out = block(signal, training=training, valid=valid)
            loss = tf.reduce_sum(out * noise(*out.shape, seed=3))
        gradient = tape.gradient(loss, signal).numpy()
        assert not gradient[~valid.numpy()].any() and gradient[valid.numpy()].any()
        assert not out.numpy()[~valid.numpy()].any()
        found.append((out.numpy(), gradient))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0][0], other[0])
        np.testing.assert_array_equal(found[0][1], other[1])
    if not training:
        for k, length in enumerate(LENGTHS):
            np.testing.assert_allclose(found[0][0][k, :length], block(x[k : k + 1, :length])[0], atol=1e-5)


def test_statistics_of_a_batch_are_those_of_its_samples():
    block, x = blocks.FeatureHead(5, seed=1), 100 * noise(6, T, WIDTH)
    block.build(x.shape)
    valid = np.arange(T) < np.array(LENGTHS)[:, None]
    rows = block(x, training=True, valid=tf.constant(valid)).numpy()[valid]
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(axis=0), 1, atol=0.01)
    parts = block.call_parts([x[:2], x[2:]], True, [tf.constant(valid[:2]), tf.constant(valid[2:])])
    np.testing.assert_allclose(np.concatenate(parts)[valid], rows, atol=1e-5)


def test_a_shorter_trial_is_decoded_as_by_a_network_of_its_length():
    x, network = noise(6, T, CHANNELS), member()
    together = network(with_ends(x, LENGTHS)).numpy()
    for k, length in enumerate(LENGTHS):
        alone = member(length, varying=False)(x[k : k + 1, :length]).numpy()
        np.testing.assert_allclose(together[k], alone[0], atol=1e-5)
        np.testing.assert_allclose(network(with_ends(x[k : k + 1], [length])).numpy()[0], together[k], atol=1e-6)
    order = np.array([3, 1, 5, 0, 2, 4])
    np.testing.assert_allclose(network(with_ends(x, LENGTHS)[order]).numpy(), together[order], atol=1e-6)
    assert np.abs(together - network(x).numpy()).max() > 0.01  # the rest of the trials does say something


def test_a_batch_padded_further_has_the_same_loss_and_gradients():
    x, label = noise(20, T + 5, CHANNELS), np.eye(3, dtype=np.float32)[np.arange(20) % 3]
    lengths = np.resize(LENGTHS, 20)
    signal = with_ends(x, lengths)
    loss, gradients, own = loss_and_gradients(member(), (signal[:, :T], label))
    longer, others, far = loss_and_gradients(member(T + 5), (signal, label))
    assert loss == pytest.approx(longer, abs=1e-5)
    for name, gradient in gradients.items():
        other = others[name].numpy()
        if other.shape != gradient.shape:  # the part of the first layer behind the longest trial
            assert not other[len(gradient) :].any()
            other = other[: len(gradient)]
        np.testing.assert_allclose(gradient, other, atol=2e-4, err_msg=name)
    behind = np.arange(T) >= lengths[:, None]
    assert not own[behind].any() and np.isfinite(own).all()
    np.testing.assert_allclose(own, far[:, :T], atol=1e-4)


def test_trials_of_one_length_train_as_in_a_network_of_that_length():
    x, label = noise(20, T, CHANNELS), np.eye(3, dtype=np.float32)[np.arange(20) % 3]
    loss, gradients, _ = loss_and_gradients(member(), (with_ends(x, [9] * 20), label))
    expected, others, _ = loss_and_gradients(member(9, varying=False), (np.ascontiguousarray(x[:, :9]), label))
    assert loss == pytest.approx(expected, abs=1e-5)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient[: len(others[name])], others[name], atol=2e-4, err_msg=name)


def test_whole_trials_are_decoded_as_where_all_have_one_length():
    x = noise(20, T, CHANNELS)
    np.testing.assert_allclose(member()(x), member(varying=False)(x), atol=1e-6)


def test_the_contrastive_terms_leave_out_what_is_behind_the_end():
    weights = {"awake": 1.0, "sleep_audio": 1.0, "sleep_image": 1.0}
    network = member(awake=True, contrastive_weights=weights)
    awake = [noise(6, 4, CHANNELS, seed=k) for k in (1, 2)]
    label = np.eye(3, dtype=np.float32)[np.arange(6) % 3]
    loss, _, own = loss_and_gradients(network, (*awake, with_ends(noise(6, T, CHANNELS), LENGTHS), label))
    assert np.isfinite(loss) and not own[np.arange(T) >= np.array(LENGTHS)[:, None]].any()
    pair, z, y = blocks.ContrastivePair(2, 6, seed=1), noise(6, T, WIDTH), noise(6, 4, WIDTH)
    pair.build(z.shape, y.shape)
    valid = [tf.constant(np.arange(T) < np.array(LENGTHS)[:, None])]
    losses = [float(pair.call_parts([with_ends(z, LENGTHS, fill)], [y], label, valid)) for fill in (0, 5, np.nan)]
    assert losses[0] == losses[1] == losses[2] != float(pair.call_parts([z], [y], label))


def test_an_ensemble_takes_ends_only_if_it_is_for_them(tmp_path):
    signal = with_ends(noise(6, T, CHANNELS), LENGTHS)
    options = {**SMALL, "members": 2}
    fixed = si.build("N23SISD", **options)
    assert "varying_lengths" not in fixed.settings.model_dump()
    with pytest.raises(ValueError, match="NaN or infinite values in trial 1, 2, 3, 5"):
        si.predict(fixed, signal)
    varying = si.build("N23SISD", varying_lengths=True, **options)
    probability = si.predict(varying, signal, batch_size=4)
    assert np.isfinite(probability).all()
    checkpoint.save(varying, tmp_path / "c.npz")
    again = checkpoint.restore(tmp_path / "c.npz")
    assert again.settings.varying_lengths
    np.testing.assert_array_equal(si.predict(again, signal, batch_size=4), probability)
    hole, one_channel, nothing = signal.copy(), signal.copy(), signal.copy()
    hole[2, 3], one_channel[0, 10:, 1], nothing[4] = np.nan, np.nan, np.nan
    for wrong, trial in ((hole, 2), (one_channel, 0), (nothing, 4)):
        with pytest.raises(ValueError, match=f"NaN or infinite values in trial {trial}$"):
            si.predict(varying, wrong)
    known = si.build("N23SISD", members=1, card=own.card_of("pair", windows=own.VARYING))
    short = np.full((1, *known.individual_models[0].input_size), np.nan, np.float32)
    short[:, : known.card.shortest_samples - 1] = 1
    with pytest.raises(
        ValueError, match=r"x: trial 0 ends after \d+ samples, the network's data card says \d+ at least"
    ):
        si.predict(known, short)
    unchecked = tf.function(varying.individual_models[0])  # as in training: there a loss of NaN is refused
    if tensorflow_probes.relu_keeps_nan():
        for wrong in (hole, one_channel):
            assert np.isnan(unchecked(tf.constant(wrong)).numpy()).any()


def test_networks_that_know_no_ends_are_refused(tmp_path):
    card = own.card_of("pair", windows=own.VARYING)
    with pytest.raises(UserError, match=r"sleep trials are of unequal length.*leave model.varying_lengths out"):
        si.build("N23SISD", card=card, varying_lengths=False)
    with pytest.raises(UserError, match=r"sleep trials all have the same length"):
        si.build("N23SISD", card=own.card_of("pair"), varying_lengths=True)
    assert si.build("N23SISD", card=card, members=1, **{**SMALL, "channels": 8, "sleep_samples": 160, "classes": 2})


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_leaves_them_out_too(policy):
    block = blocks.Encoder(depth=1, d_model=WIDTH, heads=2, head_size=4, ffn=12, seed=1, dtype=policy)
    x = noise(6, T, WIDTH)
    block.build(x.shape)
    valid = tf.constant(np.arange(T) < np.array(LENGTHS)[:, None])
    one, two = (block(with_ends(x, LENGTHS, fill), valid=valid).numpy() for fill in (0.0, 100.0))
    np.testing.assert_array_equal(one, two)
    assert np.isfinite(one.astype(float)).all()


class Own(NetworkSettings):
    """Settings of a network of another package, which knows nothing of ends."""

    builder = "nowhere:build"
    kind: Literal["own"] = "own"
    channels: int = 8
    classes: int = 2
    sleep_samples: int = 160
    awake: bool = False


class OwnWithEnds(Own):
    """The same, and it does."""

    varying_lengths: bool = False


def test_networks_of_others_get_ends_if_their_settings_say_so():
    card = own.card_of("pair", windows=own.VARYING)
    with pytest.raises(UserError, match=r"x: its sleep trials are of unequal length.*'own' does not know the end"):
        Own().check_card(card, "x")
    settings = OwnWithEnds(**OwnWithEnds.sizes_of(card, {}))
    settings.check_card(card, "x")
    seen = []
    network = Classifier(settings, lambda x, training: (seen.append(x), tf.fill((len(x), 2), 0.5))[1])
    network(with_ends(noise(2, 160, 8), [150, 160]))
    assert np.isnan(seen[0][0, 150:]).all() and np.isfinite(seen[0][1]).all()
