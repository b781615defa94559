"""One optimizer step, one epoch, and the state between epochs, of any network."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from model import checkpoint, registry
from utils.errors import UserError
from utils.paths import shown


class MemberTrainer:
    """One network that serves all members in turn: a member is its values, not a graph of its own.

    Parameters
    ----------
    settings : utils.experiment.Experiment
    dropout : float | None
        Replaces every dropout rate.
    compiled : bool
        False runs steps operation by operation: slower, but without half a minute of compiling.
    """

    def __init__(self, settings, dropout=None, compiled=True):
        train = settings.train
        self.settings = settings
        self.member = registry.build_member(settings.model, 0, dropout, train.seed)
        self.variables = list(checkpoint.member_variables(self.member).values())
        self.names = list(checkpoint.member_variables(self.member))
        self.random_state = [v for v in self.member.variables if "seed_generator" in v.path]
        # The published decay is subtracted as it is; Keras multiplies it by the learning rate.
        self.optimizer = keras.optimizers.AdamW(
            train.learning_rate, weight_decay=train.weight_decay / train.learning_rate, epsilon=1e-7
        )
        self.optimizer.build(self.member.trainable_variables)
        self._traced = None if compiled else self._step

    def _step(self, inputs):
        with tf.GradientTape() as tape:
            loss, probabilities = self.member.loss_and_probabilities(inputs, training=True)
        weights = self.member.trainable_variables
        gradients = tape.gradient(loss, weights)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss, probabilities, gradients

    def step(self, inputs):
        """Take one optimizer step on a batch; return its loss, probabilities (B, K) and gradients."""
        inputs = tuple(tf.convert_to_tensor(x) for x in inputs)
        if self._traced is None:  # once, for batches of any size
            signature = tuple(tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in inputs)
            self._traced = tf.function(self._step, input_signature=[signature], autograph=False)
        return self._traced(inputs)

    def start(self, index):
        """Set every value to that of member `index` before its first epoch."""
        fresh = registry.build_member(self.settings.model, index, seed=self.settings.train.seed)
        for mine, theirs in zip(self.member.variables, fresh.variables, strict=True):
            mine.assign(theirs)
        for variable in self.optimizer.variables:
            if variable is not self.optimizer.learning_rate:
                variable.assign(tf.zeros_like(variable.value))

    def state(self):
        """Return all values that the next epoch depends on, as {name: array}."""
        weights = {f"weights/{n}": v.numpy() for n, v in zip(self.names, self.variables, strict=True)}
        random = {f"random/{i}": v.numpy() for i, v in enumerate(self.random_state)}
        optimizer = {f"optimizer/{i}": v.numpy() for i, v in enumerate(self.optimizer.variables)}
        return {**weights, **random, **optimizer}

    def load_state(self, arrays, where):
        """Set all values from what `state` returned."""
        named = {f"weights/{n}": v for n, v in zip(self.names, self.variables, strict=True)}
        named |= {f"random/{i}": v for i, v in enumerate(self.random_state)}
        named |= {f"optimizer/{i}": v for i, v in enumerate(self.optimizer.variables)}
        if set(named) != set(arrays):
            raise UserError(f"{shown(where)}: not a state of this network; remove it or pass --restart")
        for name, variable in named.items():
            variable.assign(arrays[name])

    def epoch(self, batches, bar):
        """Train one epoch; return its mean loss and its training top-1.

        Parameters
        ----------
        batches : iterator of tuples of arrays, as the network's call takes them
        bar : tqdm
            Advanced by the trials of each batch.
        """
        losses, hits, trials = 0.0, 0, 0
        if self._traced is None:
            bar.set_postfix_str("the first step compiles the network")
        for inputs in prefetched(batches):
            loss, probabilities, _ = self.step(inputs)
            count, loss = len(inputs[-1]), float(loss)
            if not np.isfinite(loss):
                raise UserError(
                    f"the loss became {loss} at {bar.desc}, trial {trials}: lower train.learning_rate "
                    f"(now {self.settings.train.learning_rate}) and begin anew with --restart"
                )
            hits += int(np.sum(probabilities.numpy().argmax(axis=1) == inputs[-1].argmax(axis=1)))
            losses, trials = losses + loss * count, trials + count
            bar.update(count)
            bar.set_postfix(loss=f"{losses / trials:.3f}", top1=f"{hits / trials:.3f}")
        if not all(np.isfinite(v.numpy()).all() for v in self.variables):
            raise UserError(
                f"weights are no longer finite after {bar.desc}: lower train.learning_rate "
                f"(now {self.settings.train.learning_rate}) and begin anew with --restart"
            )
        return losses / trials, hits / trials


def prefetched(batches, ahead=2):
    """Yield from `batches`, read `ahead` by a thread whose errors are raised here."""
    batches = iter(batches)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        waiting = deque(pool.submit(next, batches, None) for _ in range(ahead))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, batches, None))
            yield batch
