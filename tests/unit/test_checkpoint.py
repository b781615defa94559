"""Checkpoints: this project's own files and TensorFlow checkpoints in the released naming."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

import model
from model import checkpoint
from utils.errors import UserError

SMALL = {
    "channels": 4, "d_model": 8, "head_size": 4, "features": 6, "class_hidden": 5,
    "stem": {"filters": 6, "dense": 6, "dilations": [1, 2]},
    "sleep_encoder": {"depth": 1, "heads": 1, "ffn": 8},
    "image_encoder": {"depth": 1, "heads": 1, "ffn": 8},
    "audio_encoder": {"depth": 1, "heads": 1, "ffn": 8},
}  # fmt: skip


def small(members=1, seed=0):
    return model.build("N23SIMD", members=members, seed=seed, **SMALL)


def arrays_of(network):
    return {name: variable.numpy() for name, variable in checkpoint.published_names(network).items()}


def write_tensorflow(path, arrays):
    """Write a checkpoint in the released object-graph naming, with the book-keeping entries it also has."""
    entries = {f"{name}{checkpoint.VALUE}": np.asarray(array) for name, array in arrays.items()}
    entries["save_counter/.ATTRIBUTES/VARIABLE_VALUE"] = np.int64(1)
    entries["_CHECKPOINTABLE_OBJECT_GRAPH"] = np.array(b"graph")
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(entries),
        shape_and_slices=[""] * len(entries),
        tensors=[tf.constant(a) for a in entries.values()],
    )


@pytest.fixture
def sleep():
    return np.random.default_rng(0).standard_normal((3, 200, 4)).astype(np.float32)


def test_members_differ_and_do_not_depend_on_their_number(sleep):
    three, two, other = small(3), small(2), small(2, seed=1)
    for index in range(2):
        for name, variable in checkpoint.member_variables(three.individual_models[index]).items():
            np.testing.assert_array_equal(
                variable, checkpoint.member_variables(two.individual_models[index])[name]
            )
    first, second = (m.sleep_probabilities(sleep) for m in two.individual_models)
    assert not np.allclose(first, second)
    assert not np.allclose(two.predict_proba(sleep), other.predict_proba(sleep))
    np.testing.assert_allclose(two.predict_proba(sleep), (first + second) / 2, atol=1e-6)


def test_own_checkpoint_round_trip(tmp_path, sleep):
    network = small(2)
    checkpoint.save(network, tmp_path / "a.npz", simulated=True)
    again = checkpoint.restore(tmp_path / "a.npz", "N23SIMD")
    np.testing.assert_array_equal(again.predict_proba(sleep), network.predict_proba(sleep))
    assert again.notes == {"simulated": True} and again.settings == network.settings
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_tensorflow_checkpoint_of_an_ensemble(tmp_path, sleep):
    source, target = small(2), small(2, seed=5)
    write_tensorflow(tmp_path / "N2N3_SIMD.ckpt", arrays_of(source))
    for path in ("N2N3_SIMD.ckpt", "N2N3_SIMD.ckpt.index"):
        checkpoint.load_published(target, tmp_path / path)
        np.testing.assert_allclose(target.predict_proba(sleep), source.predict_proba(sleep), atol=1e-7)


def test_released_staging_member_opens_by_its_name(tmp_path):
    """A whole released-size checkpoint: the network, its mode and its members follow from the file."""
    network = model.build("SIStaging", members=1, seed=3)
    write_tensorflow(tmp_path / "Staging_model.ckpt", arrays_of(network))
    again = checkpoint.restore(tmp_path / "Staging_model.ckpt")
    assert again.network == "SIStaging" and len(again.individual_models) == 1
    x = np.random.default_rng(0).standard_normal((1, 3, 15000)).astype(np.float32)
    np.testing.assert_allclose(again.predict_proba(x), network.predict_proba(x), atol=1e-6)


def test_names_without_prefix_fill_one_member(sleep):
    source, target = small(), small(seed=5)
    bare = {name.split("/", 2)[2]: array for name, array in arrays_of(source).items()}
    checkpoint.load_published(target, bare)
    np.testing.assert_array_equal(target.predict_proba(sleep), source.predict_proba(sleep))
    with pytest.raises(UserError, match="one member"):
        checkpoint.load_published(small(2), bare)


def test_misfits_are_listed_and_change_nothing(sleep):
    network = small()
    before = network.predict_proba(sleep)
    arrays = {name: array + 1 for name, array in arrays_of(network).items()}
    missing = arrays.popitem()[0]
    shaped = next(iter(arrays))
    arrays[shaped] = np.zeros((2, 2, 2))
    arrays["individual_models/0/strange/kernel"] = np.zeros(3)
    with pytest.raises(UserError) as caught:
        checkpoint.load_published(network, arrays)
    for word in (missing, shaped, "(2, 2, 2)", "strange/kernel"):
        assert word in str(caught.value)
    np.testing.assert_array_equal(network.predict_proba(sleep), before)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    checkpoint.save(small(), path)
    with pytest.raises(UserError, match=r"a\.npz: holds N23SIMD \(normal\), expected SIStaging"):
        checkpoint.restore(path, "SIStaging")
    with pytest.raises(UserError, match=r"expected N23SIMD \(retrained\)"):
        checkpoint.restore(path, "N23SIMD", "retrained")
    with pytest.raises(UserError, match="not found"):
        checkpoint.restore(tmp_path / "b.npz")
    torn = tmp_path / "torn.npz"
    torn.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"torn\.npz: not readable"):
        checkpoint.restore(torn)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(UserError, match=r"other\.npz: not readable"):
        checkpoint.restore(tmp_path / "other.npz")
    np.savez(tmp_path / "hostile.npz", **{"header.json": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(UserError, match=r"hostile\.npz: not readable"):
        checkpoint.restore(tmp_path / "hostile.npz")
    write_tensorflow(tmp_path / "mine.ckpt", arrays_of(small()))
    with pytest.raises(UserError, match="which network is it"):
        checkpoint.restore(tmp_path / "mine.ckpt")
    shutil.copy(tmp_path / "mine.ckpt.index", tmp_path / "N2N3_SIMD.ckpt.index")
    with pytest.raises(UserError, match=r"N2N3_SIMD\.ckpt"):
        checkpoint.restore(tmp_path / "N2N3_SIMD.ckpt")


def test_builder_refuses_by_name():
    with pytest.raises(UserError, match="did you mean 'N23SIMD'"):
        model.build("N23SIM")
    with pytest.raises(UserError, match=r"did you mean 'model\.channels'"):
        model.build("N23SIMD", chanels=3)
    with pytest.raises(UserError, match="no mode 'fast'; there are normal, retrained"):
        model.build("N23SIMD", mode="fast")
    with pytest.raises(UserError, match="dropout"):
        model.build("N23SIMD", dropout=1.5)
    with pytest.raises(UserError, match="at least one"):
        model.build("N23SIMD", members=0)
    with pytest.raises(UserError, match="contrastive pair"):
        model.build("N23SIMD", sleep_samples=100)


def test_every_size_is_a_setting():
    network = model.build(
        "N23SIMD", members=1, classes=3, sleep_samples=40, awake_samples=20,
        projections={"awake": 3, "sleep": 2, "memory": 4}, **SMALL,
    )  # fmt: skip
    random = np.random.default_rng(0)
    image, audio = random.standard_normal((2, 5, 20, 4)).astype(np.float32)
    eeg = random.standard_normal((5, 40, 4)).astype(np.float32)
    loss, probabilities = network((image, audio, eeg, np.array([0, 1, 2, 0, 1])), training=False)
    assert np.isfinite(float(loss)) and probabilities.shape == (5, 3)


def test_sleep_only_network():
    """The sleep path alone gives the prediction of the multi-domain network with the same weights."""
    both = small()
    alone = model.build("N23SIMD", members=1, awake=False, **SMALL)
    shared = set(checkpoint.published_names(alone))
    checkpoint.load_published(alone, {n: a for n, a in arrays_of(both).items() if n in shared})
    eeg = np.random.default_rng(0).standard_normal((2, 200, 4)).astype(np.float32)
    loss, probabilities = alone((eeg, np.array([0, 1])))
    np.testing.assert_allclose(probabilities, both.predict_proba(eeg), atol=1e-6)
    assert float(loss) > 0


def test_class_loss_forms():
    """Published: no lower than 1.817 even when right; logits: the cross-entropy proper."""
    from model.losses import class_loss

    certain = tf.math.log(tf.one_hot([3], 15) * (1 - 1e-6) + 1e-8)
    label = tf.one_hot([3], 15)
    assert float(class_loss(certain, label, "published")) == pytest.approx(1.817, abs=1e-3)
    assert float(class_loss(certain, label, "logits")) == pytest.approx(0, abs=1e-5)
    uniform = tf.fill((1, 15), -np.log(15.0).astype(np.float32))
    assert float(class_loss(uniform, label, "logits")) == pytest.approx(np.log(15), rel=1e-5)


def test_networks_are_at_hand_under_their_published_names():
    from model import N23SIMD, SIStaging

    assert N23SIMD.build(members=1, **SMALL).network == "N23SIMD"
    assert SIStaging.build(members=1, kernels=(50,)).network == "SIStaging"
    assert set(model.names()) >= {"N23SIMD", "SIStaging"} and "demo" not in model.names()


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("mode", ..., "'mode' is missing"),
        ("members", 0, "members = 0"),
        ("model", {"kind": "neither"}, "kind"),
        ("format", 2, "format = 2"),
        ("notes", None, "notes"),
    ],
)
def test_damaged_headers_are_refused(tmp_path, key, value, word):
    checkpoint.save(small(), tmp_path / "a.npz")
    header, arrays = checkpoint.read_arrays(tmp_path / "a.npz")
    if value is ...:
        del header[key]
    else:
        header[key] = value
    checkpoint.write_arrays(tmp_path / "b.npz", header, arrays)
    with pytest.raises(UserError, match=r"b\.npz") as caught:
        checkpoint.restore(tmp_path / "b.npz")
    assert word in str(caught.value)


def test_weights_that_are_no_numbers_are_refused():
    network = small()
    for bad in (np.nan, np.inf):
        arrays = arrays_of(network)
        name = next(iter(arrays))
        arrays[name] = np.full_like(arrays[name], bad)
        with pytest.raises(UserError, match=f"1 not finite numbers: {name}"):
            checkpoint.load_published(network, arrays)
    arrays[name] = np.full(arrays[name].shape, "1.0")
    with pytest.raises(UserError, match="not finite numbers"):
        checkpoint.load_published(network, arrays)
