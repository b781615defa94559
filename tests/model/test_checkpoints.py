"""This project's own checkpoints, and building networks; test_released.py has TensorFlow's."""

import pkgutil
from typing import Literal

import keras
import numpy as np
import pytest
import tensorflow as tf

from sleep_interpreter import model
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.model.networks.building import build_ensemble
from sleep_interpreter.model.networks.classifier import Classifier
from sleep_interpreter.model.networks.registration import NetworkSettings
from sleep_interpreter.model.networks.settings import DecoderSettings
from sleep_interpreter.model.SIStaging.settings import StagerSettings
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

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
    return {name: variable.numpy() for name, variable in checkpoint.ensemble_variables(network).items()}


@pytest.fixture
def sleep():
    return np.random.default_rng(0).standard_normal((3, 200, 4)).astype(np.float32)


@pytest.mark.slow
def test_members_differ_and_do_not_depend_on_their_number(sleep):
    three, two, other = small(3), small(2), small(2, seed=1)
    for index in range(2):
        for name, variable in checkpoint.member_variables(three.individual_models[index]).items():
            np.testing.assert_array_equal(variable, checkpoint.member_variables(two.individual_models[index])[name])
    first, second = (m(sleep) for m in two.individual_models)
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
    with pytest.raises(UserError, match=r"a\.npz: holds N23SIMD in normal mode, expected SIStaging"):
        checkpoint.restore(path, "SIStaging")
    with pytest.raises(UserError, match="expected retrained mode: pass --mode normal"):
        checkpoint.restore(path, "N23SIMD", "retrained")
    path.rename(tmp_path / "ensemble.npz")
    assert checkpoint.restore(tmp_path).settings == small().settings  # the folder of a training
    (tmp_path / "ensemble.npz").rename(path)
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


def test_states_and_checkpoints_are_told_apart(tmp_path):
    state, ensemble = tmp_path / "member_0.npz", tmp_path / "ensemble.npz"
    header = {"history": [{"epoch": 0}], "notes": {"simulated": True}, "best": 3}
    checkpoint.write_arrays(state, header, {"weights/a": np.ones(2)})
    found, arrays = checkpoint.read_state(state)
    assert found == header and list(arrays) == ["weights/a"]
    assert checkpoint.read_state(state, header_only=True) == (header, {})
    with pytest.raises(UserError, match=r"member_0\.npz: holds the training state of one member; .*ensemble"):
        checkpoint.restore(state)
    checkpoint.save(small(), ensemble)
    with pytest.raises(UserError, match=r"ensemble\.npz: holds a whole checkpoint of N23SIMD.*--restart"):
        checkpoint.read_state(ensemble)
    for damaged, word in [({}, "'history' is missing"), ({"history": 3, "notes": {}}, "history = 3")]:
        checkpoint.write_arrays(state, damaged, {})
        with pytest.raises(UserError, match=r"header of .*member_0\.npz") as caught:
            checkpoint.read_state(state)
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({1: 2}, "names of variables are text, found 1"),
        ({None: 2, ("a",): 3}, "names of variables are text, found None, ('a',)"),
        ({}, "does not fit N23SIMD in normal mode with 1 member"),
        ({"a/b": np.zeros(2)}, "1 unknown: individual_models/0/a/b"),
        ({"a": object()}, "1 not finite numbers: individual_models/0/a"),
        ({"a": [[1], [2, 3]]}, "1 not finite numbers: individual_models/0/a"),
        ({"a": 1e300}, "1 not finite numbers: individual_models/0/a"),
        (None, "takes a mapping or a path, not NoneType"),
        ([1], "takes a mapping or a path, not list"),
    ],
)
def test_nonsense_to_load_is_refused_in_one_sentence(source, words):
    with pytest.raises(UserError) as caught:
        checkpoint.load_published(small(), source)
    message = str(caught.value)
    assert words in message and "\n" not in message and len(message) < 700


def test_only_the_first_names_are_listed():
    network = small()
    arrays = arrays_of(network)
    kept = dict(list(arrays.items())[:10])
    with pytest.raises(UserError, match=f"{len(arrays) - 10} missing: .* and {len(arrays) - 15} more") as caught:
        checkpoint.load_published(network, kept)
    assert str(caught.value).count("individual_models/") == 5


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("members", 1.5), ("members", "2"), ("members", True), ("members", -1),
        ("seed", -1), ("seed", 1.5), ("seed", None), ("seed", "1"),
        ("dropout", float("nan")), ("dropout", "0.5"), ("dropout", -0.1), ("dropout", True),
        ("mode", 3), ("mode", ["retrained"]),
    ],
)  # fmt: skip
def test_builder_refuses_what_is_no_number(what, value):
    with pytest.raises(UserError) as caught:
        model.build("N23SIMD", **{what: value})
    assert what in str(caught.value) and repr(value) in str(caught.value)


@pytest.mark.slow
def test_builder_takes_any_whole_number():
    network = model.build("N23SIMD", members=np.int64(1), seed=np.int32(3), **SMALL)
    for name, array in arrays_of(model.build("N23SIMD", members=1, seed=3, **SMALL)).items():
        np.testing.assert_array_equal(arrays_of(network)[name], array)


@pytest.mark.slow
def test_training_on_sleep_alone_by_one_switch(tmp_path):
    """`model.awake=false` on N23SIMD: the network of N23SISD, and a sleep loss that stands alone."""
    alone = model.build("N23SIMD", members=1, awake=False, **SMALL)
    sisd = model.build("N23SISD", members=1, **SMALL)
    assert arrays_of(alone).keys() == arrays_of(sisd).keys()
    assert alone.settings.class_weights == sisd.settings.class_weights
    eeg = np.random.default_rng(0).standard_normal((3, 200, 4)).astype(np.float32)
    inputs = (eeg, np.array([0, 1, 2]))
    np.testing.assert_allclose(alone(inputs)[0], sisd(inputs)[0], rtol=1e-6)
    checkpoint.save(alone, tmp_path / "a.npz")
    again = checkpoint.restore(tmp_path / "a.npz", "N23SIMD", "normal")
    assert again.settings == alone.settings and not again.settings.awake
    np.testing.assert_array_equal(again.predict_proba(eeg), alone.predict_proba(eeg))
    own = {"sleep": 2, "image": 0, "audio": 0, "divisor": 4}
    assert DecoderSettings(awake=False, class_weights=own).class_weights.divisor == 4
    assert DecoderSettings(class_weights={"sleep": 5, "image": 1, "divisor": 7}).class_weights.sleep == 5


def test_data_that_do_not_fit_are_named_by_setting():
    decoder = DecoderSettings()
    decoder.check_data(200, 55, 15, 80, "x")
    DecoderSettings(awake=False).check_data(200, 55, 15)
    with pytest.raises(UserError) as caught:
        DecoderSettings(channels=28, classes=10).check_data(200, 55, 15, 80, "data/SI")
    assert str(caught.value) == (
        "data/SI does not fit the network: model.channels is 28, the data have 55; "
        "model.classes is 10, the data have 15"
    )
    with pytest.raises(UserError, match=r"model\.awake_samples is 80, the data have 81"):
        decoder.check_data(200, 55, 15, 81)
    with pytest.raises(UserError, match=r"no awake trials.*model\.awake=false"):
        decoder.check_data(200, 55, 15)
    with pytest.raises(UserError, match=r"model\.samples is 15000, the data have 3000"):
        StagerSettings().check_data(3000, 3, 4)
    decoder.check_card(published(), "x")
    with pytest.raises(UserError, match=r"dataset\.yaml does not.*model\.channels is 28, the card has 55; leave"):
        DecoderSettings(channels=28).check_card(published(), "dataset.yaml")
    sleep_only = published().model_copy(update={"conditions": ("N2N3",)})
    with pytest.raises(UserError, match=r"no image and no audio trials.*model\.awake=false"):
        decoder.check_card(sleep_only, "dataset.yaml")


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


class Unnamed(NetworkSettings):
    kind: Literal["unnamed"] = "unnamed"
    sleep_samples: int = 20
    channels: int = 3
    classes: int = 4
    layers: str = "stack"
    builder = f"{__name__}:build_unnamed"


def build_unnamed(settings, seed, dropout):
    """Return a member of ordinary Keras layers that nobody named."""
    made = keras.layers
    if settings.layers == "stack":
        inner = keras.Sequential([made.Conv1D(2, 3), made.Dense(5), made.BatchNormalization()])
        layers = [inner, made.Conv1D(2, 3), made.Bidirectional(made.LSTM(2)), made.Dense(4), made.Softmax()]
    elif settings.layers == "scales":
        layers = [Scale(), Scale(), made.Flatten(), made.Dense(4)]
    elif settings.layers == "twice":
        layers = [made.Dense(3, name="mine"), made.Flatten(), made.Dense(4, name="mine")]
        return Classifier(settings, Chain(layers))
    else:
        layers = [made.Flatten(), made.Dense(4)]
        return Classifier(settings, Chain(layers, left_out=made.Dense(3)))
    return Classifier(settings, keras.Sequential(layers))


class Scale(keras.Layer):
    def build(self, input_shape):
        self.factor = self.add_weight(shape=input_shape[-1:], initializer="random_normal")
        self.shift = self.add_weight(shape=input_shape[-1:], initializer="random_normal")

    def call(self, x):
        return x * self.factor + self.shift


class Chain(keras.Model):
    def __init__(self, steps, left_out=None):
        super().__init__()
        self.steps, self.left_out = steps, left_out

    def build(self, input_shape):
        self.built = True

    def call(self, x, training=False):
        for step in self.steps:
            x = step(x)
        return x


def test_layers_without_names_are_called_alike_in_every_process():
    """Keras counts them through the process: the second network's first Dense layer would be dense_2."""
    first = build_ensemble(Unnamed(), 2, "Mine")
    second = build_ensemble(Unnamed(), 2, "Mine")
    paths = [[v.path for v in network.individual_models[0].variables] for network in (first, second)]
    assert paths[0] != paths[1]
    arrays = arrays_of(first)
    assert arrays.keys() == arrays_of(second).keys() and len(arrays) == 2 * 18
    assert {"individual_models/1/sequential/conv1d/kernel", "individual_models/1/sequential/dense/bias",
            "individual_models/1/sequential/sequential/conv1d/kernel"} <= arrays.keys()  # fmt: skip
    for name, array in arrays_of(second).items():
        np.testing.assert_array_equal(array, arrays[name])
    checkpoint.load_published(second, {name: array + 1 for name, array in arrays.items()})
    assert not np.allclose(arrays_of(second)["individual_models/0/sequential/dense/bias"], 0)


def test_weights_without_names_are_called_alike_in_every_process(tmp_path):
    first, second = (build_ensemble(Unnamed(layers="scales"), 2, "Mine") for _ in range(2))
    arrays = arrays_of(first)
    assert {name.removeprefix("individual_models/1/sequential/") for name in arrays if "/1/" in name} == {
        "scale/variable", "scale/variable_1", "scale_1/variable", "scale_1/variable_1", "dense/kernel", "dense/bias"
    }  # fmt: skip
    checkpoint.load_published(second, {name: array + 1 for name, array in arrays.items()})
    for name, array in arrays_of(second).items():
        np.testing.assert_array_equal(array, arrays[name] + 1)


@pytest.mark.parametrize(
    ("layers", "words"),
    [("twice", "two variables are called 'chain/mine/kernel'"), ("unbuilt", "layer 'dense.*' has no weights")],
)
def test_layers_that_no_checkpoint_could_hold_are_refused_by_name(layers, words):
    with pytest.raises(UserError, match=words):
        checkpoint.ensemble_variables(build_ensemble(Unnamed(layers=layers), 1, "Mine"))


def test_published_networks_have_all_weights_when_they_are_built():
    """So nothing has to be predicted, which takes time, to know their variables."""
    for settings in (DecoderSettings(**SMALL), StagerSettings(kernels=(50,))):
        member = pkgutil.resolve_name(settings.builder)(settings, (0, 0), None)
        assert all(layer.built for layer in member._flatten_layers())


def test_sleep_only_network():
    """The sleep path alone gives the prediction of the multi-domain network with the same weights."""
    both = small()
    alone = model.build("N23SIMD", members=1, awake=False, **SMALL)
    shared = set(checkpoint.ensemble_variables(alone))
    checkpoint.load_published(alone, {n: a for n, a in arrays_of(both).items() if n in shared})
    eeg = np.random.default_rng(0).standard_normal((2, 200, 4)).astype(np.float32)
    loss, probabilities = alone((eeg, np.array([0, 1])))
    np.testing.assert_allclose(probabilities, both.predict_proba(eeg), atol=1e-6)
    assert float(loss) > 0


def test_class_loss_forms():
    """Published: no lower than 1.817 even when right; logits: the cross-entropy proper."""
    from sleep_interpreter.model.networks.losses import class_loss

    certain = tf.math.log(tf.one_hot([3], 15) * (1 - 1e-6) + 1e-8)
    label = tf.one_hot([3], 15)
    assert float(class_loss(certain, label, "published")) == pytest.approx(1.817, abs=1e-3)
    assert float(class_loss(certain, label, "logits")) == pytest.approx(0, abs=1e-5)
    uniform = tf.fill((1, 15), -np.log(15.0).astype(np.float32))
    assert float(class_loss(uniform, label, "logits")) == pytest.approx(np.log(15), rel=1e-5)


def test_networks_are_at_hand_under_their_published_names():
    from sleep_interpreter.model import N23SIMD, SIStaging

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
