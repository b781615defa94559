"""The one training loop: members one after the other, a state after every epoch, resumed after a kill.

A member's state (weights, optimizer, random-number state, history) is one file that is replaced
atomically after each epoch; whatever stops the training, the same command goes on after the last one.
Members depend on nothing but the settings and their number, so they may as well be trained by separate
processes and joined afterwards.
"""

import logging
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from utils.errors import UserError
from utils.paths import shown
from utils.run_folder import RunFolder, board
from utils.trainer import MemberTrainer

log = logging.getLogger(__name__)


class Options(NamedTuple):
    """How a training is run, besides what is trained."""

    restart: bool = False
    member: int | None = None
    """Train this member alone and do not join."""
    collect: bool = False
    """Join members that separate processes have trained."""
    devices: tuple = ()
    """Two or more devices share every batch of a member."""


def train(settings, trials, folder, mode=None, notes=None, validation=None, options=None):
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
    notes : dict | None
        Kept in run.json and in the checkpoint (data fingerprint, simulated or not).
    validation : data.trials.TrainingTrials | None
        Trials of other training subjects, to choose each member's epoch with; without them the last epoch
        is kept, which is the published rule.
    options : Options | None

    Returns
    -------
    path : Path
        The checkpoint of the whole ensemble, or a member's state if only that one was trained.
    """
    options = options or Options()
    run = RunFolder(folder, settings, mode, notes or {}, options.restart)
    wanted = settings.train.epochs
    if options.collect:
        return run.join()
    if options.member is not None and not 0 <= options.member < settings.members:
        raise UserError(f"--member {options.member}: the members are 0-{settings.members - 1}")
    if run.is_complete():
        log.info("%s: already trained for %d epochs; --restart trains anew", shown(run.folder), wanted)
        return run.final
    run.begin(options.member)
    members = range(settings.members) if options.member is None else [options.member]
    if any(len(run.histories[i]) < wanted for i in members):
        _train_members(run, members, trials, validation, options)
    if options.member is not None:
        log.info("member %d is trained; when all are: --collect", options.member)
        return run.state(options.member)
    return run.join()


def _train_members(run, members, trials, validation, options):
    settings, wanted = run.settings, run.settings.train.epochs
    done = ", ".join(str(len(run.histories[i])) for i in members)
    if done.strip("0, "):
        log.info("going on in %s: epochs done by member: %s of %d", shown(run.folder), done, wanted)
    keys = ("image", "audio", "sleep", "label") if settings.model.awake else ("sleep", "label")
    trainer = MemberTrainer(settings, devices=options.devices)
    for index in members:
        history = run.histories[index]
        if len(history) >= wanted:
            continue
        if history:
            trainer.load_state(run.read_state(index), run.state(index))
        else:
            trainer.start(index)
        with board(run.folder / "tensorboard" / f"member_{index}") as scalars:
            for epoch in range(len(history), wanted):
                name = f"member {index + 1}/{settings.members}, epoch {epoch + 1}/{wanted}"
                batches = trials.batches(settings.train.batch_size, seed=settings.train.seed, epoch=epoch)
                inputs = (tuple(batch[key] for key in keys) for batch in batches)
                with tqdm(total=len(trials), desc=name, unit="trial") as bar:
                    loss, top1 = trainer.epoch(inputs, bar, run.folder / f"broken_batch_member_{index}.npz")
                row = {"member": index, "epoch": epoch, "loss": loss, "train_top1": top1}
                if validation is not None:
                    row |= validate(trainer, validation, settings.evaluate.batch_size)
                history.append(row)
                if validation is not None and chosen_epoch(history) == epoch:
                    run.keep_best(index, epoch, trainer.weights())
                run.keep_epoch(index, epoch, trainer.weights)
                run.write_state(index, trainer.state())
                run.write_log(options.member)
                scalars(epoch, {k: v for k, v in row.items() if k not in ("member", "epoch")})


def validate(trainer, trials, batch_size):
    """Return cross-entropy and top-1 of a member on the validation subjects' trials."""
    losses, hits = [], []
    for batch in trials.batches(batch_size, seed=0, epoch=0):
        probability = trainer.predict(batch["sleep"], batch_size)
        loss, hit = scores(probability, batch["label"].argmax(axis=1))
        losses.append(loss)
        hits.append(hit)
    losses, hits = np.concatenate(losses), np.concatenate(hits)
    return {"validation_loss": float(losses.mean()), "validation_top1": float(hits.mean())}


def scores(probability, label):
    """Return the cross-entropy and the hits (top-1) of each trial."""
    of_label = np.take_along_axis(probability, label[:, None], axis=1)[:, 0]
    return -np.log(np.maximum(of_label, 1e-12)), probability.argmax(axis=1) == label


def chosen_epoch(history):
    """Return the epoch of the highest validation top-1; ties: the lowest loss, then the earliest epoch."""
    return min(history, key=lambda r: (-r["validation_top1"], r["validation_loss"], r["epoch"]))["epoch"]
