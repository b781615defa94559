"""One optimizer step and one epoch: AdamW by hand, what is frozen, batches ahead, devices together."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import training_runs as runs

from sleep_interpreter.model import registry
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.train.engine.loop import Options, _check, cross_entropy_and_hits
from sleep_interpreter.train.engine.member_trainer import MemberTrainer, Recipe, _not_frozen, main_recipe, prefetched
from sleep_interpreter.train.engine.optimizer import AdamW
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError

SMALL = [word for word in runs.SMALL if "=" in word]


class Value:
    """What the optimizer needs of a Keras variable."""

    def __init__(self, value):
        self.value = tf.Variable(np.array(value, np.float32))


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_adamw_by_hand(decay):
    """w <- w (1 - decay), not multiplied by the rate; then Adam's step on the gradient (in float64 here)."""
    rate, epsilon = 0.05, 1e-7
    gradients = np.array([[0.5, -2.0, 0.0], [0.1, 1.0, 0.0], [-3.0, 1.0, 1e-3]])
    variable = Value([1.0, -1.0, 2.0])
    optimizer = AdamW([variable], rate, decay, epsilon)
    weights, mean, square = np.array([1.0, -1.0, 2.0]), np.zeros(3), np.zeros(3)
    for step, gradient in enumerate(gradients, start=1):
        optimizer.apply([tf.constant(gradient, tf.float32)])
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        rate_now = rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        weights = weights * (1 - decay) - rate_now * mean / (np.sqrt(square) + epsilon)
        np.testing.assert_allclose(variable.value.numpy(), weights, rtol=2e-5)
    assert int(optimizer.iterations) == 3
    optimizer.reset()
    assert all(not np.any(v.numpy()) for v in optimizer.variables)


def test_recipe_of_the_main_training():
    """adamw takes the published decay as it is; adam none."""
    settings = config.load(Experiment, "N23SIMD")
    assert main_recipe(settings)[:2] == (8e-5, 2e-5)
    settings = config.load(Experiment, "N23SIMD", overrides=["train.optimizer=adam"])
    assert main_recipe(settings)[:2] == (8e-5, 0.0)


@pytest.mark.parametrize(
    ("name", "convolutions", "trainable"), [("N23_finetune", 18, 19_494_032), ("REM_finetune", 6, 22_645_904)]
)
def test_published_numbers_that_fine_tuning_trains(name, convolutions, trainable):
    settings = config.load(Experiment, name)
    member = registry.build_member(settings.model, 0)
    named = checkpoint.member_variables(member)
    left = _not_frozen(named, settings.finetune.freeze)
    assert sum(int(np.prod(variable.shape)) for variable in left) == trainable
    kept = {id(variable) for variable in left}
    frozen = [n for n, v in named.items() if v.trainable and id(v) not in kept]
    assert len({n.rsplit("/", 1)[0] for n in frozen}) == convolutions
    assert all("_emb_input/conv1d_layer" in n for n in frozen)


def test_freezing_nothing_or_everything_is_refused():
    settings = config.load(Experiment, "N23SISD", quick=True, overrides=SMALL)
    named = checkpoint.member_variables(registry.build_member(settings.model, 0))
    with pytest.raises(UserError, match=r"no variable's name matches 'sleep_stem/\*'.*such as 'sleep_"):
        _not_frozen(named, ["sleep_stem/*"])
    with pytest.raises(UserError, match="nothing is left to train"):
        _not_frozen(named, ["sleep_*", "audio_*", "image_*"])
    everything = [v for v in named.values() if v.trainable]
    assert _not_frozen(named, []) == everything


def test_a_frozen_variable_gets_no_step_and_the_loss_scale_counts():
    settings = config.load(Experiment, "N23SISD", quick=True, overrides=SMALL)
    random = np.random.default_rng(0)
    batch = random.standard_normal((8, 200, 55), np.float32), np.eye(15, dtype=np.float32)[:8]
    gradients = {}
    for scale in (1.0, 0.2):
        recipe = Recipe(1e-3, frozen=("*_emb_input/conv1d_layer*",), loss_scale=scale)
        trainer = MemberTrainer(settings, dropout=0.0, compiled=False, recipe=recipe)
        before = trainer.weights()
        loss, _, gradients[scale] = trainer.step(batch)
        assert float(loss) > 1.8, "the loss that is shown is not scaled"
    after = trainer.weights()
    frozen = [name for name in before if "conv1d_layer" in name]
    assert frozen and all(np.array_equal(before[name], after[name]) for name in frozen)
    assert not np.array_equal(before["sleep_emb_input/bm/gamma"], after["sleep_emb_input/bm/gamma"])
    for whole, part in zip(gradients[1.0], gradients[0.2], strict=True):
        largest = max(np.abs(whole.numpy()).max(), 1e-3)
        np.testing.assert_allclose(part, 0.2 * whole.numpy(), atol=1e-4 * largest)


def test_outputs_that_are_no_numbers_are_refused():
    settings = config.load(Experiment, "N23SISD", quick=True, overrides=SMALL)
    trainer = MemberTrainer(settings)
    weights = trainer.weights()
    name = "sleep_classification_block/layer_with_weights-1/moving_variance"
    weights[name] = np.full_like(weights[name], np.nan)
    trainer.load_weights(weights)
    with pytest.raises(UserError, match=r"no longer finite: lower the learning rate \(now 0.001\)"):
        trainer.predict(np.zeros((2, 200, 55), np.float32), 2)


def test_a_state_of_another_network_is_refused(tmp_path):
    sleep, both = (
        MemberTrainer(config.load(Experiment, name, quick=True, overrides=SMALL)) for name in ("N23SISD", "N23SIMD")
    )
    with pytest.raises(UserError, match=r"state\.npz: not a state of this network"):
        both.load_state(sleep.state(), tmp_path / "state.npz")


def test_prefetched_gives_all_batches_in_order_and_raises_errors_of_reading():
    assert list(prefetched(iter(range(10)))) == list(range(10))
    assert list(prefetched(iter([]))) == []

    def damaged():
        yield 1
        yield 2
        raise UserError("record 3 is damaged")

    got = []
    with pytest.raises(UserError, match="record 3"):
        for batch in prefetched(damaged()):
            got.append(batch)
    assert got == [1, 2]


def test_scores():
    probability = np.array([[0.5, 0.25, 0.25], [0.1, 0.9, 0.0], [0.0, 1.0, 0.0]], np.float32)
    loss, hits = cross_entropy_and_hits(probability, np.array([0, 0, 2]))
    np.testing.assert_allclose(loss, [np.log(2), np.log(10), np.log(1e12)], rtol=1e-5)
    assert hits.tolist() == [True, False, False]


@pytest.mark.parametrize(("trials", "refused"), [(64, False), (66, False), (65, True), (1, True)])
def test_a_last_batch_too_small_for_the_devices_is_refused_before_training(trials, refused):
    settings = config.load(Experiment, "N23SISD", quick=True)
    options = Options(devices=("GPU:0", "GPU:1"))
    if not refused:
        return _check(options, settings, trials)
    with pytest.raises(UserError, match=rf"last batch of an epoch holds 1 of the {trials} trials.*\(now 32\)"):
        _check(options, settings, trials)


TOGETHER = """
import json, sys
sys.path.insert(0, {root!r})
from sleep_interpreter.utils.core.tensorflow_import import import_tensorflow
tf = import_tensorflow()
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np
from sleep_interpreter.utils.core import command_line, config
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.train.engine.member_trainer import MemberTrainer

settings = config.load(Experiment, {name!r}, quick=True, overrides={overrides!r})
random = np.random.default_rng(0)
one = MemberTrainer(settings, dropout=0.0, compiled=False)
two = MemberTrainer(settings, dropout=0.0, devices=("CPU:0", "CPU:1"))
other = MemberTrainer(settings, dropout=0.0, compiled=False)  # one device, the rows in another order
for trainer in (one, two, other):
    trainer.start(1)
    # Adam turns the sign of a gradient that is nothing but rounding into a whole step; not so with this.
    trainer.optimizer.epsilon = 1e-3


def apart(these, those):
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in zip(these, those, strict=True))


start = one.weights()
steps = []
for count in {counts!r}:
    label = np.eye(15, dtype=np.float32)[random.integers(15, size=count)]
    sleep, image, audio = (random.standard_normal((count, n, 55), np.float32) for n in (200, 80, 80))
    batch = (image, audio, sleep, label) if settings.model.awake else (sleep, label)
    (loss, probability, gradients), (loss2, probability2, gradients2) = one.step(batch), two.step(batch)
    *_, rounding = other.step(tuple(part[::-1] for part in batch))
    steps.append({{
        "loss": apart([loss], [loss2]), "probability": apart([probability], [probability2]),
        "gradients": apart(gradients, gradients2), "largest": apart(gradients, [0 * g for g in gradients]),
        "rows": [len(probability), len(probability2)], "rounding": apart(gradients, rounding),
    }})
state = two.state()
two.start(0)
two.load_state(state, "state")
print(json.dumps({{
    "steps": steps,
    "weights": apart(one.weights().values(), two.weights().values()),
    "rounding": apart(one.weights().values(), other.weights().values()),
    "moved": apart(one.weights().values(), start.values()),
    "predictions": apart([one.predict(sleep, 4)], [two.predict(sleep, 4)]),
    "state": all(np.array_equal(state[name], value) for name, value in two.state().items()),
}}), flush=True)
"""


@pytest.mark.parametrize(
    ("name", "counts"), [("N23SISD", (17, 17, 17)), *((name, (7, 33, 18)) for name in ("N23SIMD", "REMSISD"))]
)
@pytest.mark.slow
def test_two_devices_equal_one(name, counts, tmp_path):
    """Two logical CPU devices share batches of odd sizes: loss, outputs, gradients and weights are the same.

    In a process of its own, since devices are divided before TensorFlow starts.
    """
    code = TOGETHER.format(root=str(Path(runs.ROOT)), name=name, overrides=SMALL, counts=counts)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=1800, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    for count, step in zip(counts, found["steps"], strict=True):
        assert step["rows"] == [count, count]
        assert step["loss"] < 1e-5 and step["probability"] < 1e-5
        # float32 sums in another order: as far apart as one device with the rows in another order
        assert step["gradients"] < max(1e-3 * step["largest"], 2 * step["rounding"]), step
        assert step["rounding"] < 0.1 * step["largest"]
    assert found["moved"] > 1e-3
    assert found["weights"] < max(1e-3 * found["moved"], 2 * found["rounding"]) < 0.1 * found["moved"]
    assert found["predictions"] < 1e-5 and found["state"] is True
