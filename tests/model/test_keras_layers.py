"""Layers and blocks are Keras layers: what Keras and other people's tools do with layers works with them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probes

from sleep_interpreter import model
from sleep_interpreter.model.networks import blocks, decoder, layers
from sleep_interpreter.model.SIStaging import network as staging

LENGTH, WIDTH = 6, 8
BLOCK = {"d_model": WIDTH, "heads": 2, "head_size": 4, "ffn": 12}
BLOCKS = {
    "dense": lambda: layers.Dense(5, activation="relu"),
    "dense_tanh": lambda: layers.Dense(5, activation="tanh"),
    "conv": lambda: layers.Conv(5, 3, padding="same", dilation_rate=2),
    "dropout": lambda: layers.Dropout(0.25, seed=1),
    "batch_norm": lambda: layers.BatchNorm(),
    "layer_norm": lambda: layers.LayerNorm(epsilon=1e-5),
    "stem": lambda: blocks.Stem(d_model=5, filters=WIDTH, kernel=3, dilations=(1, 2), dense=7, seed=1),
    "projection": lambda: blocks.Projection(5, seed=1),
    "attention": lambda: blocks.Attention(2, 4, 0.25, seed=1),
    "feed_forward": lambda: blocks.FeedForward(12, WIDTH, 0.25, seed=1),
    "transformer_block": lambda: blocks.TransformerBlock(**BLOCK, attention_dropout=0.25, seed=1),
    "encoder": lambda: blocks.Encoder(depth=2, **BLOCK, ffn_dropout=0.25, seed=1),
    "feature_head": lambda: blocks.FeatureHead(5, seed=1),
    "class_head": lambda: blocks.ClassHead(3, hidden=7, dropout=0.25, seed=1),
    "sequence_projection": lambda: blocks.SequenceProjection(5, seed=1),
    "conv_block": lambda: staging.ConvBlock(5, 3, 2, seed=1),
    "gated_conv_block": lambda: staging.GatedConvBlock(5, 3, 2, seed=1),
    "branch": lambda: staging.Branch(3, 2, 4, 5, 0.25, seed=1),
}
ENCODER = {"depth": 1, "heads": 2, "ffn": 12}
SMALL = {
    "channels": 4, "sleep_samples": 10, "awake_samples": 4, "classes": 3, "d_model": 8, "head_size": 4,
    "features": 8, "class_hidden": 8, "stem": {"filters": 8, "dense": 8, "dilations": (1, 2)},
    "sleep_encoder": ENCODER, "image_encoder": ENCODER, "audio_encoder": ENCODER,
    "projections": {"awake": 8, "sleep": 2, "memory": 5},
}  # fmt: skip
SMALL_STAGER = {
    "samples": 3000, "branch_filters": 2, "block_filters": 3, "map_filters": 70, "lstm": 4, "dense": 8,
    "series_filters": (8, 8, 6), "pool_filters": (6, 6),
}  # fmt: skip


def signal(*shape):
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


@pytest.fixture(params=BLOCKS)
def layer(request):
    return BLOCKS[request.param]()


def test_each_kind_is_listed_here():
    made = {type(make()) for make in BLOCKS.values()} | {blocks.ContrastivePair}
    abstract = {layers.Block, layers.BatchBlock}
    for module in (layers, blocks, staging):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, keras.Layer) and kind.__module__ == module.__name__:
                assert kind in made | abstract or issubclass(kind, keras.Model)


def test_batches_of_any_size_and_a_symbolic_input_have_the_shape_that_was_foretold(layer):
    x = signal(3, LENGTH, WIDTH)
    out = layer(x)
    assert out.shape == layer.compute_output_shape(x.shape)
    symbolic = layer(keras.Input((LENGTH, WIDTH)))
    assert symbolic.shape == (None, *out.shape[1:])
    np.testing.assert_allclose(keras.Sequential([layer])(x[:2]), out[:2], atol=1e-5)


def test_parts_of_a_batch_are_the_batch(layer):
    if not hasattr(layer, "call_parts"):
        pytest.skip("takes no parts")
    x = tf.constant(signal(5, LENGTH, WIDTH))
    layer.build(x.shape)
    for dropout in layer._flatten_layers():
        if isinstance(dropout, layers.Dropout):
            dropout.rate = 0.0
    training = {"training": True} if layer._call_has_training_arg else {}
    found = tf.concat(layer.call_parts([x[:2], x[2:]], **training), axis=0)
    np.testing.assert_allclose(layer(x, **training), found, atol=1e-5)


def fit_save_and_load(network, path, capsys, **compiled):
    """Take a few steps, print the summary, save, load; return inputs and predictions."""
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), **compiled)
    x, y = signal(9, LENGTH, WIDTH), np.arange(9) % 3
    before = [w.numpy() for w in network.trainable_variables]
    history = network.fit(x, y, batch_size=4, epochs=1, verbose=0)  # the last batch is a single trial
    assert np.isfinite(history.history["loss"]).all()
    changed = [not np.array_equal(w, old) for w, old in zip(network.trainable_variables, before, strict=True)]
    assert sum(changed) > len(changed) / 2
    network.summary()
    assert network.layers[0].name in capsys.readouterr().out
    expected = network.predict(x, verbose=0)
    network.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in network.layers]
    return x, expected


def test_a_sequential_network_is_fitted_summarised_saved_and_loaded(layer, tmp_path, capsys):
    head = [keras.layers.Flatten(), keras.layers.Dense(3)]
    network = keras.Sequential([keras.Input((LENGTH, WIDTH)), layer, *head])
    fit_save_and_load(network, tmp_path / "network.keras", capsys, run_eagerly=True)


def test_a_decoder_made_of_the_blocks_is_compiled_and_exported(tmp_path, capsys):
    steps = [BLOCKS[name]() for name in ("stem", "feature_head", "class_head")]
    network = keras.Sequential([keras.Input((LENGTH, WIDTH)), *steps])
    x, expected = fit_save_and_load(network, tmp_path / "network.keras", capsys)
    assert_exported(network, x, expected, tmp_path / "exported")


def assert_exported(network, x, expected, path, **options):
    network.export(path, verbose=False, **options)
    exported = tf.saved_model.load(str(path))
    np.testing.assert_allclose(exported.serve(x), expected, atol=1e-5)


def test_a_copy_from_the_configuration_has_the_same_layers(layer):
    layer.build((None, LENGTH, WIDTH))
    copy = type(layer).from_config(layer.get_config())
    copy.build((None, LENGTH, WIDTH))
    copy.set_weights(layer.get_weights())
    x = signal(2, LENGTH, WIDTH)
    np.testing.assert_array_equal(copy(x), layer(x))


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16", "float64"])
def dtype(request):
    return keras.dtype_policies.get(request.param)


@pytest.fixture
def default_dtype(dtype):
    keras.config.set_dtype_policy(dtype)
    yield dtype
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_of_another_dtype_trains_like_the_usual_one(kind, dtype):
    make, x = BLOCKS[kind], signal(3, LENGTH, WIDTH)
    usual, layer = make(), make()
    layer = type(layer).from_config({**layer.get_config(), "dtype": dtype.name})
    for other in (usual, layer):
        other.build(x.shape)
    layer.set_weights(usual.get_weights())
    numbers = [w for w in layer.weights if "seed_generator" not in w.path]
    assert {w.dtype for w in numbers} <= {dtype.variable_dtype}
    out = layer(x)
    assert out.dtype == dtype.compute_dtype == layer(keras.Input((LENGTH, WIDTH))).dtype
    np.testing.assert_allclose(tf.cast(out, tf.float32), usual(x), rtol=0.1, atol=0.02)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(layer(x, training=True) ** 2)
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.isfinite(tf.cast(gradient, tf.float32)).all()
    assert all(np.isfinite(w.numpy().astype(np.float32)).all() for w in numbers)


def test_layers_inside_keep_a_dtype_of_their_own():
    class Mine(layers.Block):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = blocks.Projection(3)
            self.exact = layers.Dense(2, dtype="float64")

        def call(self, x):
            return self.exact(self.inner(x))

    mine = Mine(dtype="mixed_bfloat16")
    assert mine(signal(2, WIDTH)).dtype == "float64"
    assert [x.compute_dtype for x in (mine, mine.inner, mine.inner.inner)] == ["bfloat16"] * 3


def test_blocks_are_fitted_saved_and_loaded_where_another_dtype_is_the_default(default_dtype, tmp_path, capsys):
    steps = [BLOCKS[name]() for name in ("stem", "feature_head", "class_head")]
    network = keras.Sequential([keras.Input((LENGTH, WIDTH)), *steps])
    fit_save_and_load(network, tmp_path / "network.keras", capsys, run_eagerly=True)
    expected = network(signal(2, LENGTH, WIDTH))
    keras.config.set_dtype_policy("float32")
    loaded = keras.models.load_model(tmp_path / "network.keras", compile=False)
    np.testing.assert_array_equal(loaded(signal(2, LENGTH, WIDTH)), expected)


OPTIONS = {
    "dense": (layers.Dense, keras.layers.Dense, {"units": 5, "use_bias": False, "activation": "relu"}),
    "conv": (layers.Conv, keras.layers.Conv1D, {"filters": 5, "kernel_size": 3, "use_bias": False}),
    "causal": (layers.Conv, keras.layers.Conv1D, {"filters": 5, "kernel_size": 3, "padding": "causal"}),
    "strides": (layers.Conv, keras.layers.Conv1D, {"filters": 6, "kernel_size": 3, "strides": 2, "groups": 2}),
    "all_dropped": (layers.Dropout, keras.layers.Dropout, {"rate": 1.0}),
    **{
        f"{kind}_{key}_{value}": (ours, theirs, {key: value})
        for kind, ours, theirs in (
            ("batch", layers.BatchNorm, keras.layers.BatchNormalization),
            ("layer", layers.LayerNorm, keras.layers.LayerNormalization),
        )
        for key, value in (("scale", False), ("center", False), ("axis", 1), ("axis", 2))
    },
    "renorm": (layers.BatchNorm, keras.layers.BatchNormalization, {"renorm": True}),
    "two_axes": (layers.LayerNorm, keras.layers.LayerNormalization, {"axis": [1, 2]}),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_every_argument_of_keras_does_what_it_does_in_keras(case):
    ours, theirs, options = OPTIONS[case]
    x = 3 * signal(4, LENGTH, WIDTH) + 1
    found, expected = ours(**options), theirs(**options)
    for layer in (found, expected):
        layer.build(x.shape)
    expected.set_weights([w + 0.1 for w in expected.get_weights()])
    found.set_weights(expected.get_weights())
    training = {"training": True} if found._call_has_training_arg else {}
    np.testing.assert_allclose(found(x, **training), expected(x, **training), atol=1e-5)
    for mine, keras_s in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(mine, keras_s, atol=1e-6)
    if hasattr(found, "call_parts"):
        parts = found.call_parts([tf.constant(x[:1]), tf.constant(x[1:])])
        np.testing.assert_allclose(tf.concat(parts, axis=0), expected(x), atol=1e-5)


def test_dropout_can_drop_whole_channels():
    out = layers.Dropout(0.5, noise_shape=(None, 1, None), seed=1)(np.ones((3, LENGTH, WIDTH)), training=True).numpy()
    assert (out == out[:, :1]).all() and set(np.unique(out)) == {0, 2}


def test_masked_steps_do_not_count_in_batch_normalisation():
    x = np.where(np.arange(LENGTH)[:, None] < 4, signal(3, LENGTH, WIDTH), 0)
    found, expected = (
        keras.Sequential([keras.layers.Masking(), kind()])(x, training=True)
        for kind in (layers.BatchNorm, keras.layers.BatchNormalization)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_layers_that_are_frozen_do_not_change(layer):
    x, y = 3 * signal(4, LENGTH, WIDTH) + 2, signal(4, 2)
    network = keras.Sequential([keras.Input((LENGTH, WIDTH)), layer, keras.layers.Flatten(), keras.layers.Dense(2)])
    layer.trainable = False
    before = [(w, w.numpy()) for w in layer.weights if "seed_generator" not in w.path]
    network.compile("sgd", "mse", run_eagerly=True)
    network.fit(x, y, verbose=0)
    for weight, old in before:
        np.testing.assert_array_equal(weight, old)


@pytest.fixture
def float64():
    """Layers made in a test count with 64 bits, so that differences show a slope."""
    for kind in ("float64", "float32"):
        keras.config.set_floatx(kind)
        keras.config.set_dtype_policy(kind)
        if kind == "float64":
            yield


def numeric_slope(function, x, direction, step=1e-6):
    plus, minus = (float(function(tf.constant(x + sign * step * direction))) for sign in (1, -1))
    return (plus - minus) / (2 * step)


def assert_input_gradient(function, x):
    """The gradient with respect to the input is what differences say, along a few directions."""
    watched = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        value = function(watched)
    gradient = tape.gradient(value, watched).numpy()
    random = np.random.default_rng(1)
    for _ in range(3):
        direction = random.standard_normal(x.shape)
        direction /= np.linalg.norm(direction)
        expected = numeric_slope(function, x, direction)
        assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", BLOCKS)
def test_gradients_with_respect_to_the_input(float64, kind):
    layer, x = BLOCKS[kind](), signal(2, LENGTH, WIDTH).astype(np.float64)
    layer.build(x.shape)
    random = np.random.default_rng(2)  # initial kernels are very small
    layer.set_weights([w + 0.1 * np.abs(random.standard_normal(w.shape)) for w in layer.get_weights()])
    weights = tf.cast(signal(*layer.compute_output_shape(x.shape)), tf.float64)
    assert_input_gradient(lambda x: tf.reduce_sum(tf.sin(layer(x)) * weights), x)


def test_contrastive_pair():
    pair = blocks.ContrastivePair(5, 5, seed=1)
    z, y = signal(4, LENGTH, WIDTH), signal(4, LENGTH, WIDTH)[::-1]
    one_hot = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    loss = pair(z, y, one_hot)
    assert loss.shape == ()
    parts = pair.call_parts([tf.constant(z[:1]), tf.constant(z[1:])], [tf.constant(y)], tf.constant(one_hot))
    assert float(loss) == pytest.approx(float(parts), rel=1e-5)
    copy = blocks.ContrastivePair.from_config(pair.get_config())
    copy.build(z.shape, y.shape)
    copy.set_weights(pair.get_weights())
    assert float(copy(z, y, one_hot)) == float(loss)
    inputs = [keras.Input((LENGTH, WIDTH)), keras.Input((LENGTH, WIDTH)), keras.Input((3,))]
    symbolic = copy(*inputs)
    assert symbolic.shape == ()
    assert float(keras.Model(inputs, symbolic)([z, y, one_hot])) == float(loss)


def test_contrastive_pair_of_another_dtype(dtype):
    inputs = signal(4, LENGTH, WIDTH), signal(4, LENGTH, WIDTH)[::-1], np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    usual, pair = blocks.ContrastivePair(5, 5, seed=1), blocks.ContrastivePair(5, 5, seed=1, dtype=dtype)
    expected = float(usual(*inputs))
    pair.build(*(x.shape for x in inputs[:2]))
    pair.set_weights(usual.get_weights())
    loss = pair(*inputs)
    assert loss.dtype == dtype.compute_dtype
    assert float(loss) == pytest.approx(expected, rel=0.02)


def decoder_inputs(count):
    return signal(count, 4, 4), signal(count, 4, 4), signal(count, 10, 4), np.arange(count) % 3


NETWORKS = {"N23SIMD": SMALL, "REMSISD": SMALL, "SIStaging": SMALL_STAGER}


@pytest.fixture(
    scope="module", params=[n if n == "REMSISD" else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS]
)
def network(request):
    return model.build(request.param, members=2, **NETWORKS[request.param])


def signal_of(network, count=3):
    return signal(count, *network.individual_models[0].input_size)


def test_networks_and_members_predict_from_the_signal_alone(network):
    x = signal_of(network)
    expected = network.predict_proba(x)
    np.testing.assert_allclose(network(x), expected, atol=1e-6)
    np.testing.assert_allclose(network.predict(x, verbose=0), expected, atol=1e-6)
    first, second = (member.predict(x, verbose=0) for member in network.individual_models)
    np.testing.assert_allclose((first + second) / 2, expected, atol=1e-6)


def test_networks_are_summarised_saved_loaded_and_exported(network, tmp_path, capsys):
    x = signal_of(network)
    expected = network.predict_proba(x)
    network.summary()
    assert f"{network.count_params():,}" in capsys.readouterr().out
    network.individual_models[0].summary(expand_nested=True)
    assert network.individual_models[0].layers[-1].name[:10] in capsys.readouterr().out
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded.predict_proba(x), expected)
    assert (loaded.network, loaded.mode, loaded.settings) == (network.network, network.mode, network.settings)
    signature = [keras.InputSpec(shape=(None, *x.shape[1:]), dtype="float32")]
    assert_exported(network, x, expected, tmp_path / "exported", input_signature=signature)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of layers for awake trials
def test_members_are_fitted_to_any_loss_and_saved(network, tmp_path):
    member = network.individual_models[0]
    classes = network.settings.classes
    before = member.trainable_variables[0].numpy()
    member.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = signal_of(network, 18)
    # the last batch has one trial, and its first half none, which not every build of TensorFlow can convolve
    size = 17 if tensorflow_probes.convolves_nothing() else 16
    history = member.fit(x, np.arange(18) % classes, batch_size=size, verbose=0)
    assert np.isfinite(history.history["loss"]).all() and "accuracy" in history.history
    assert not np.array_equal(member.trainable_variables[0], before)
    member.save(tmp_path / "member.keras")
    loaded = keras.models.load_model(tmp_path / "member.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), member.predict(x, verbose=0))


@pytest.mark.parametrize("name", [pytest.param("N23SIMD", marks=pytest.mark.slow), "REMSISD"])
def test_decoders_are_fitted_to_the_published_loss(name):
    member = model.build(name, members=1, **SMALL).individual_models[0]
    inputs = decoder_inputs(18)
    inputs = inputs if isinstance(member, decoder.MultiDomainDecoder) else inputs[2:]
    member.compile(keras.optimizers.SGD(0.0))
    expected, _ = member(inputs, training=False)
    assert member.evaluate(inputs, batch_size=18, verbose=0) == pytest.approx(float(expected), rel=1e-5)
    assert np.isfinite(member.fit(inputs, batch_size=18, verbose=0).history["loss"]).all()


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of layers for awake trials
def test_networks_predict_and_are_fitted_where_another_dtype_is_the_default(default_dtype, network):
    other = model.build(network.network, members=1, **NETWORKS[network.network])
    member, usual = other.individual_models[0], network.individual_models[0]
    member.set_weights(usual.get_weights())
    x = signal_of(network, 18)
    found = other.predict_proba(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, usual.predict(x, verbose=0), rtol=0.1, atol=0.02)
    y = np.arange(18) % network.settings.classes
    inputs = decoder_inputs(18) if isinstance(member, decoder.MultiDomainDecoder) else (x, y)
    loss, expected = (float(m.loss_and_probabilities(inputs)[0]) for m in (member, usual))
    assert loss == pytest.approx(expected, rel=0.1)
    member.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    assert np.isfinite(member.fit(x, y, batch_size=18, verbose=0).history["loss"]).all()


def test_integrated_gradients_add_up(network):
    """Attributions (Sundararajan et al., 2017) add up to the change of the output."""
    member = network.individual_models[0]
    x = 0.1 * signal_of(network, 1)
    steps = np.linspace(0, 1, 41, dtype=np.float32)
    path = tf.constant(np.concatenate([step * x for step in steps]))
    with tf.GradientTape() as tape:
        tape.watch(path)
        probability = member(path)[:, 1]
    slopes = tape.gradient(probability, path).numpy()
    assert np.abs(slopes).max() > 0
    mean = (slopes[:-1] + slopes[1:]).mean(axis=0) / 2
    change = float(probability[-1] - probability[0])
    assert np.sum(mean * x) == pytest.approx(change, rel=0.1, abs=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_a_network_with_respect_to_its_input(float64, name):
    network = model.build(name, members=1, **NETWORKS[name])
    member, x = network.individual_models[0], signal_of(network, 2).astype(np.float64)
    assert_input_gradient(lambda x: tf.reduce_sum(tf.math.log(member(x)[:, 0])), x)
