"""One optimizer step, one epoch, and the state between epochs, of any network."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from sleep_interpreter.model import registry
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.model.networks.decoder import SMALLEST_SPLIT_BATCH
from sleep_interpreter.train.engine.optimizer import AdamW
from sleep_interpreter.train.engine.run_folder import Arrays
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils.core.data_card import AWAKE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write, display_path

Inputs = tuple[np.ndarray, ...]
"""The arrays of a batch, as the network's call takes them, label last."""
Step = tuple[Any, Any, list[Any]]
"""Loss, probabilities (B, K) and gradients of a step."""


class Recipe(NamedTuple):
    """How weights are changed: rate, decay, which ones stay (patterns over names), a factor of the loss, whether the
    rate changes from epoch to epoch."""

    learning_rate: float
    weight_decay: float = 0.0
    frozen: tuple = ()
    loss_scale: float = 1.0
    scheduled: bool = False


def main_recipe(settings: Experiment) -> Recipe:
    """Return the recipe of the main training of an `train.settings.experiment.Experiment`."""
    train = settings.train
    decay = train.weight_decay if train.optimizer == "adamw" else 0.0
    return Recipe(train.learning_rate, decay, scheduled=not train.schedule.is_constant)


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Let layers that are made inside compute with a dtype policy of Keras'."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class MemberTrainer:
    """One network that serves all members in turn: a member is its values, not a graph of its own.

    `dropout` replaces every dropout rate. Without `compiled`, steps run operation by operation: slower, but without
    half a minute of compiling. `recipe` None is the main training's. Two or more `devices` share every batch
    (tf.distribute.MirroredStrategy), as if it were on one.
    """

    def __init__(
        self, settings: Experiment, dropout: float | None = None, compiled: bool = True, recipe: Recipe | None = None,
        devices: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.settings, self._dropout = settings, dropout
        self.recipe = recipe or main_recipe(settings)
        self.compiled = compiled
        self.strategy: Any = tf.distribute.MirroredStrategy(list(devices)) if len(devices) > 1 else None
        with self.strategy.scope() if self.strategy else tf.init_scope(), _precision(settings.train.precision):
            self.member = registry.build_member(settings.model, 0, dropout, settings.train.seed)
            named = checkpoint.member_variables(self.member)
            self.names, self.variables = list(named), list(named.values())
            self.random_state = [v for v in self.member.variables if "seed_generator" in v.path]
            self.member_values = getattr(self.member, "member_values", {})  # class weights of a stager's loss
            self.trained = _not_frozen(named, self.recipe.frozen)
            self.optimizer = AdamW(
                self.trained, self.recipe.learning_rate, self.recipe.weight_decay, 1e-7, self.recipe.scheduled
            )
        self._traced: dict[int | None, Any] = {}
        self._forward: Any = None

    def _step(self, inputs: Sequence[tf.Tensor]) -> Step:
        replicas = self.strategy.num_replicas_in_sync if self.strategy else 1
        with tf.GradientTape() as tape:
            loss, probabilities = self.member.loss_and_probabilities(inputs, training=True)
            scaled = loss * (self.recipe.loss_scale / replicas)
        # Without contrastive terms their projections get zeros (which need TensorFlow's own variables).
        gradients = tape.gradient(
            scaled, [v.value for v in self.trained], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        if replicas > 1:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        self.optimizer.apply(gradients)
        # A compiled ReLU makes 0 of NaN: the loss alone looks well while the weights break down.
        finite = tf.reduce_all([tf.math.is_finite(tf.reduce_sum(gradient)) for gradient in gradients])
        return tf.where(finite, loss, np.nan), probabilities, gradients

    def _shared_step(self, inputs: Sequence[tf.Tensor]) -> Step:
        loss, probabilities, gradients = self.strategy.run(self._step, args=(inputs,))
        local = self.strategy.experimental_local_results
        return local(loss)[0], tf.concat(local(probabilities), axis=0), [local(g)[0] for g in gradients]

    def step(self, inputs: Inputs) -> Step:
        """Take one optimizer step on a batch; return its loss, probabilities (B, K) and gradients.

        The loss is NaN if a gradient is not finite.
        """
        if self.strategy is not None:
            return self._step_on_devices(inputs)
        inputs = tuple(tf.convert_to_tensor(x) for x in inputs)
        if not self.compiled:
            return self._step(inputs)
        # Traced once for batches of any size; a decoder once more if an epoch ends in a very small one.
        small = self.settings.model.kind == "decoder" and len(inputs[-1]) < SMALLEST_SPLIT_BATCH
        count = len(inputs[-1]) if small else None
        if count not in self._traced:
            signature = tuple(tf.TensorSpec((count, *x.shape[1:]), x.dtype) for x in inputs)
            self._traced[count] = tf.function(self._step, input_signature=[signature], autograph=False)
        return self._traced[count](inputs)

    def _step_on_devices(self, inputs: Inputs) -> Step:
        replicas = self.strategy.num_replicas_in_sync
        if len(inputs[-1]) < replicas:
            raise UserError(
                f"a batch of {len(inputs[-1])} trials cannot be shared by {replicas} devices: "
                "choose another train.batch_size or fewer devices"
            )
        shares = [np.array_split(np.asarray(x), replicas) for x in inputs]
        values = tuple(
            self.strategy.experimental_distribute_values_from_function(
                lambda context, share=share: tf.constant(share[context.replica_id_in_sync_group])
            )
            for share in shares
        )
        if None not in self._traced:
            self._traced[None] = tf.function(self._shared_step, autograph=False, reduce_retracing=True)
        return self._traced[None](values)

    def predict(self, x: np.ndarray, batch_size: int) -> np.ndarray:
        """Return probabilities (n, K) of trials (n, ...) in inference mode, or refuse those that are none."""
        if self._forward is None:
            signature = [tf.TensorSpec((None, *self.member.input_size), tf.float32)]
            self._forward = tf.function(
                lambda x: self.member(x, training=False), input_signature=signature, autograph=False
            )
        parts = [self._forward(x[i : i + batch_size]).numpy() for i in range(0, len(x), batch_size)]
        probabilities = np.concatenate(parts)
        if not np.isfinite(probabilities).all():
            raise UserError(
                "the network's outputs are no longer finite: lower the learning rate "
                f"(now {self.recipe.learning_rate}) and begin anew with --restart"
            )
        return probabilities

    def start(self, index: int) -> None:
        """Set every value to that of member `index` before its first epoch."""
        fresh = registry.build_member(self.settings.model, index, self._dropout, self.settings.train.seed)
        for mine, theirs in zip(self.names, checkpoint.member_variables(fresh), strict=True):
            if mine != theirs:
                raise UserError(
                    f"network {self.settings.model.kind!r}: {mine!r} is called {theirs!r} when built again, "
                    "so it could not be found in a checkpoint: give its layer and the weight itself a name"
                )
        for mine, theirs in zip(self.member.variables, fresh.variables, strict=True):
            mine.assign(theirs)
        for name, value in getattr(fresh, "member_values", {}).items():
            self.member_values[name].assign(value)
        self.optimizer.reset()

    def load_weights(self, arrays: Arrays) -> None:
        """Set the weights from {published name: array} of one member; the optimizer forgets its steps."""
        for name, variable in zip(self.names, self.variables, strict=True):
            variable.assign(arrays[name])
        self.optimizer.reset()

    def weights(self) -> dict[str, np.ndarray]:
        """Return {published name: array}."""
        return {name: v.numpy() for name, v in zip(self.names, self.variables, strict=True)}

    def state(self) -> dict[str, np.ndarray]:
        """Return all values that the next epoch depends on, as {name: array}."""
        return {name: variable.numpy() for name, variable in self._named_state().items()}

    def load_state(self, arrays: Arrays, where: str | Path) -> None:
        """Set all values from what `state` returned."""
        named = self._named_state()
        if set(named) != set(arrays):
            raise UserError(f"{where}: not a state of this network; remove it or pass --restart")
        for name, variable in named.items():
            variable.assign(arrays[name])

    def _named_state(self) -> dict[str, Any]:
        return {
            **{f"weights/{n}": v for n, v in zip(self.names, self.variables, strict=True)},
            **{f"random/{i}": v for i, v in enumerate(self.random_state)},
            **{f"member/{n}": v for n, v in self.member_values.items()},
            **{f"optimizer/{i}": v for i, v in enumerate(self.optimizer.variables)},
        }

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays of a batch, in the order in which the network takes them."""
        if self.settings.model.task == "staging":
            return "window", "label"
        model = self.settings.model
        return (*(getattr(model, "awake_kinds", AWAKE) if model.awake else ()), "sleep", "label")

    def epoch(self, batches: Iterable[Inputs], bar: tqdm, evidence: Path | None = None) -> tuple[float, float]:
        """Train one epoch; return its mean loss and its training top-1.

        `bar` is advanced by the trials of each batch; at `evidence` (.npz) the batch is written at which the loss
        stopped being a number.
        """
        losses, hits, trials = 0.0, 0, 0
        if self.compiled and not self._traced:
            bar.set_postfix_str("the first step compiles the network")
        for inputs in prefetched(batches):
            loss, probabilities, _ = self.step(inputs)
            count, loss = len(inputs[-1]), float(loss)
            if not np.isfinite(loss):
                kept = ""
                if evidence is not None:
                    with atomic_write(evidence) as temporary:
                        batch: dict[str, Any] = dict(zip(self.keys, inputs, strict=True))
                        np.savez(temporary, loss=loss, first_trial=trials, **batch)
                    kept = f" (the batch is kept in {display_path(evidence)})"
                raise UserError(
                    f"loss or gradients became {loss} at {bar.desc}, trials {trials}-{trials + count - 1}{kept}: "
                    f"lower the learning rate (now {self.recipe.learning_rate}) and begin anew with --restart"
                )
            hits += int(np.sum(probabilities.numpy().argmax(axis=1) == inputs[-1].argmax(axis=1)))
            losses, trials = losses + loss * count, trials + count
            bar.set_postfix(loss=f"{losses / trials:.3f}", top1=f"{hits / trials:.3f}", refresh=False)
            bar.update(count)
        if not all(np.isfinite(v.numpy()).all() for v in self.variables):
            raise UserError(
                f"weights are no longer finite after {bar.desc}: lower the learning rate "
                f"(now {self.recipe.learning_rate}) and begin anew with --restart"
            )
        return losses / trials, hits / trials


def _not_frozen(named: Mapping[str, Any], patterns: Sequence[str]) -> list[Any]:
    """Return the trainable variables whose names match none of the patterns."""
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in named):
            example = next(iter(named))
            raise UserError(
                f"finetune.freeze: no variable's name matches {pattern!r}; names are such as {example!r}, "
                "* stands for anything"
            )
    left = [
        variable
        for name, variable in named.items()
        if variable.trainable and not any(fnmatch(name, pattern) for pattern in patterns)
    ]
    if not left:
        raise UserError(f"finetune.freeze {', '.join(patterns)}: nothing is left to train")
    return left


def prefetched(batches: Iterable[Inputs], ahead: int = 2) -> Iterator[Inputs]:
    """Yield from `batches`, read `ahead` by a thread whose errors are raised here."""
    batches = iter(batches)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        waiting = deque(pool.submit(next, batches, None) for _ in range(ahead))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, batches, None))
            yield batch
