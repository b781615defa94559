"""The one training loop: members one after the other, a state after every epoch, resumed after a kill.

A member's state (weights, optimizer, random-number state, history) is one file that is replaced
atomically after each epoch; whatever stops the training, the same command goes on after the last one.
"""

import csv
import io
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from model import checkpoint, registry
from utils import config, provenance
from utils.errors import UserError
from utils.paths import shown, writing

log = logging.getLogger(__name__)

EXTENDABLE = {"train.epochs", "members", "evaluate.batch_size", "evaluate.bootstrap", "evaluate.seed"}
"""Settings that may change between a run and its continuation."""


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


def train(settings, trials, folder, mode=None, restart=False, notes=None):
    """Train an ensemble and write its checkpoint.

    Parameters
    ----------
    settings : utils.experiment.Experiment
    trials : data.trials.TrainingTrials
        Or anything with ``len()`` and ``batches(batch_size, seed, epoch)``.
    folder : Path
        Receives settings.yaml, run.json, log.csv, member_*.npz (states) and ensemble.npz.
    mode : str | None
        Mode of the network, kept in the checkpoint.
    restart : bool
        Forget an earlier run in `folder`.
    notes : dict | None
        Kept in run.json and in the checkpoint (data fingerprint, simulated or not).

    Returns
    -------
    path : Path
        The checkpoint of the whole ensemble.
    """
    folder = Path(folder)
    notes = notes or {}
    _open_folder(folder, settings, notes, restart)
    states = [folder / f"member_{index}.npz" for index in range(settings.members)]
    histories = [_history(path, notes) for path in states]
    final = folder / "ensemble.npz"
    wanted = settings.train.epochs
    longest = max(len(h) for h in histories)
    if longest > wanted:
        raise UserError(
            f"{shown(folder)} was trained for {longest} epochs, train.epochs asks for {wanted}: "
            "pass --restart to train anew or --results DIR to write elsewhere"
        )
    if _holds(final, settings.members, wanted) and all(len(h) == wanted for h in histories):
        log.info("%s: already trained for %d epochs; --restart trains anew", shown(folder), wanted)
        return final
    if any(histories):
        done = ", ".join(str(len(h)) for h in histories)
        log.info("going on in %s: epochs done by member: %s of %d", shown(folder), done, wanted)
    keys = ("image", "audio", "sleep", "label") if settings.model.awake else ("sleep", "label")
    trainer = MemberTrainer(settings)
    for index, (path, history) in enumerate(zip(states, histories, strict=True)):
        if len(history) >= wanted:
            continue
        if history:
            _, arrays = checkpoint.read_arrays(path)
            trainer.load_state(arrays, path)
        else:
            trainer.start(index)
        for epoch in range(len(history), wanted):
            name = f"member {index + 1}/{settings.members}, epoch {epoch + 1}/{wanted}"
            batches = trials.batches(settings.train.batch_size, seed=settings.train.seed, epoch=epoch)
            with tqdm(total=len(trials), desc=name, unit="trial") as bar:
                loss, top1 = trainer.epoch((tuple(b[k] for k in keys) for b in batches), bar)
            history.append({"member": index, "epoch": epoch, "loss": loss, "train_top1": top1})
            checkpoint.write_arrays(path, {"history": history, "notes": notes}, trainer.state())
            _write_log(folder / "log.csv", histories)
    return _join(settings, states, final, mode, notes)


def _open_folder(folder, settings, notes, restart):
    """Make the run folder, or check that the run in it is this one."""
    saved = folder / "settings.yaml"
    if restart:
        for path in [*folder.glob("member_*.npz"), folder / "ensemble.npz", folder / "log.csv"]:
            path.unlink(missing_ok=True)
    elif saved.exists() and any(folder.glob("member_*.npz")):
        before, now = _flat(config.read_yaml(saved)), _flat(settings.model_dump(mode="json"))
        changed = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
        changed = [k for k in changed if k not in EXTENDABLE]
        if changed:
            listed = ", ".join(f"{k} ({before.get(k)} before, now {now.get(k)})" for k in changed)
            raise UserError(
                f"{shown(folder)} holds a run with other settings: {listed}; pass --restart to replace it "
                "or --results DIR to write elsewhere"
            )
    folder.mkdir(parents=True, exist_ok=True)
    config.save(settings, saved)
    provenance.write_json(folder / "run.json", provenance.record(seed=settings.train.seed, **notes))


def _history(path, notes):
    if not path.exists():
        return []
    header = checkpoint.read_header(path)
    if header["notes"].get("data_fingerprint") != notes.get("data_fingerprint"):
        raise UserError(
            f"{shown(path)} was trained on other data (fingerprint "
            f"{header['notes'].get('data_fingerprint')}, now {notes.get('data_fingerprint')}); "
            "pass --restart or --results DIR"
        )
    return header["history"]


def _holds(final, members, epochs):
    """Tell whether the ensemble on disk is of this many members and epochs (and not of an earlier run)."""
    if not final.exists():
        return False
    header = checkpoint.read_header(final)
    return header.get("members") == members and header.get("notes", {}).get("epochs") == epochs


def _write_log(path, histories):
    text = io.StringIO()
    writer = csv.DictWriter(text, ["member", "epoch", "loss", "train_top1"])
    writer.writeheader()
    for history in histories:
        writer.writerows(history)
    with writing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def _join(settings, states, final, mode, notes):
    """Write the checkpoint that really holds all members."""
    arrays = {}
    for index, path in enumerate(states):
        _, state = checkpoint.read_arrays(path)
        weights = {n.removeprefix("weights/"): a for n, a in state.items() if n.startswith("weights/")}
        arrays |= {f"individual_models/{index}/{name}": array for name, array in weights.items()}
    notes = {**notes, "epochs": settings.train.epochs}
    checkpoint.write_ensemble(final, settings.network, mode, settings.members, settings.model, arrays, notes)
    log.info("trained: %s", shown(final))
    return final


def _flat(tree, prefix=""):
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def prefetched(batches, ahead=2):
    """Yield from `batches`, read `ahead` by a thread whose errors are raised here."""
    batches = iter(batches)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        waiting = deque(pool.submit(next, batches, None) for _ in range(ahead))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, batches, None))
            yield batch
