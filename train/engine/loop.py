"""The one training loop: members one after the other, a state after every epoch, resumed after a kill.

A member's state (weights, optimizer, random-number state, history) is one file that is replaced atomically after each
epoch; whatever stops the training, the same command goes on after the last one. Members depend on nothing but the
settings and their number, so they may as well be trained by separate processes and joined afterwards.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sleep_interpreter.data.formats.fingerprints import Unchanged
from sleep_interpreter.data.formats.plausibility import Watched
from sleep_interpreter.data.formats.trial_reader import TrialReader
from sleep_interpreter.train.engine import run_folder, schedules
from sleep_interpreter.train.engine.augmentation import augmented
from sleep_interpreter.train.engine.member_trainer import MemberTrainer
from sleep_interpreter.train.engine.run_folder import RunFolder
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils.core import data_card
from sleep_interpreter.utils.core.command_line import progress
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import remove_temporary_files

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


def train(
    settings: Experiment, trials: TrialReader, folder: Path, mode: str | None = None, notes: dict | None = None,
    validation: TrialReader | None = None, options: Options | None = None,
) -> Path:  # fmt: skip
    """Train an ensemble, write its checkpoint and return its path (of a member's state if one was trained alone).

    `trials` may be anything with ``len()``, ``unit`` and ``batches(batch_size, seed, epoch)``; its data card, where it
    has one (`card`), is kept in the checkpoint. `validation` holds
    those of other training subjects, to choose each member's epoch with; without them the last epoch is kept, which
    is the published rule. The folder receives settings.yaml, run.json, log.csv, member_*.npz (states) and
    ensemble.npz; `mode` and `notes` (data fingerprint, simulated or not) are kept in the checkpoint, `notes` in
    run.json too. Refused are options or a folder that do not fit, and one in which another process trains a member.
    """
    options = options or Options()
    _check(options, settings, len(trials))
    card = getattr(trials, "card", None)
    notes = {**({} if card is None else data_card.to_notes(card)), **(notes or {})}
    member = options.member
    members = range(settings.members) if member is None else [member]
    if not options.restart:
        run = RunFolder(folder, settings, mode, notes)
        if options.collect:
            path = run.join()
            run.record()
            run_folder.drop_aside(folder)
            return path
        if run.is_complete():
            epochs = settings.train.epochs
            log.info("%s: already trained for %d epochs; --restart trains anew", run.folder, epochs)
            return run.final if member is None else run.state(member)
    with run_folder.lock_members(folder, members):
        remove_temporary_files(folder, "*" if member is None else f"*member_{member}*")
        if options.restart:
            run_folder.set_aside(folder)
        run = RunFolder(folder, settings, mode, notes)
        run.begin(member)
        _train_members(run, members, trials, validation, options)
        if member is None:
            path = run.join()
            run_folder.drop_aside(folder)
            return path
    log.info("member %d is trained; when all are: --collect", member)
    return run.state(member)


def _check(options: Options, settings: Experiment, trials: int) -> None:
    """Refuse options that do not go together, before anything is changed on disk."""
    alone = options.member is not None
    if options.member is not None and not 0 <= options.member < settings.members:
        raise UserError(f"--member {options.member}: the members are 0-{settings.members - 1}")
    if options.collect and alone:
        raise UserError("--collect joins all members, --member trains one: give one of the two")
    if options.restart and (options.collect or alone):
        other = "--collect" if options.collect else "--member"
        raise UserError(
            f"--restart forgets all members and does not go with {other}: remove the run's folder, or begin "
            "in another one with --results DIR"
        )
    if settings.train.augment and settings.model.task == "staging":
        raise UserError("train.augment: augmentations are for decoders' trials, not for staging windows")
    devices, batch_size = len(options.devices), settings.train.batch_size
    last = trials % batch_size or batch_size
    if last < devices:
        raise UserError(
            f"--devices: the last batch of an epoch holds {last} of the {trials} trials, too few for "
            f"{devices} devices: choose another train.batch_size (now {batch_size})"
        )


def _train_members(
    run: RunFolder, members: Sequence[int], trials: TrialReader, validation: TrialReader | None, options: Options
) -> None:
    """Train the members that are not at their last epoch; what is done is told when it is interrupted."""
    wanted = run.settings.train.epochs
    unfinished = [index for index in members if len(run.histories[index]) < wanted]
    if not unfinished:
        return
    if any(run.histories[index] for index in members):
        log.info("going on in %s: epochs done by member: %s of %d", run.folder, run.done(), wanted)
    try:
        trainer = MemberTrainer(run.settings, devices=options.devices)
        read = {file: mark for reader in (trials, validation) for file, mark in getattr(reader, "marks", {}).items()}
        data = Unchanged(read, run.notes.get("data_fingerprint"))
        for index in unfinished:
            _train_member(run, index, trainer, trials, validation, options.member, data)
    except KeyboardInterrupt:
        run.read_histories()
        again = "; go on without --restart, which would forget them" if options.restart else ""
        log.info("finished epochs by member, kept in %s: %s%s", run.folder, run.done(), again)
        raise


def _train_member(
    run: RunFolder, index: int, trainer: MemberTrainer, trials: TrialReader, validation: TrialReader | None,
    alone: int | None, data: Unchanged,
) -> None:  # fmt: skip
    settings, history, wanted = run.settings, run.histories[index], run.settings.train.epochs
    if history:
        trainer.load_state(run.read_state(index), run.state(index))
        if validation is not None:  # what a kill after the last state may have prevented
            run.keep_best(index, trainer.weights)
    else:
        trainer.start(index)
    with run_folder.board(run.folder / "tensorboard" / f"member_{index}", history) as scalars:
        for epoch in range(len(history), wanted):
            name = f"member {index + 1}/{settings.members}, epoch {epoch + 1}/{wanted}"
            batches = trials.batches(settings.train.batch_size, seed=settings.train.seed, epoch=epoch)
            watched = _watched(trials, trainer) if epoch == len(history) and index == 0 else None
            batches = batches if watched is None else watched.watch(batches)
            batches = augmented(batches, settings.train.augment, settings.train.seed, epoch)
            inputs = (tuple(batch[key] for key in trainer.keys) for batch in batches)
            trainer.optimizer.scale_rate(schedules.factor(epoch, wanted, settings.train.schedule))
            with progress(total=len(trials), desc=name, unit=trials.unit) as bar:
                loss, top1 = trainer.epoch(inputs, bar, run.folder / f"broken_batch_member_{index}.npz")
            if watched is not None and watched.remark:
                log.warning("WARNING: %s", watched.remark)
            row = {"member": index, "epoch": epoch, "loss": loss, "train_top1": top1}
            if validation is not None:
                row |= validate(trainer, validation, settings.evaluate.batch_size)
            data.check()
            run.keep_epoch(index, epoch, trainer.weights)
            history.append(row)
            run.write_state(index, trainer.state())
            if validation is not None:
                run.keep_best(index, trainer.weights)
            run.write_log(alone)
            scalars(row)


def _watched(trials: TrialReader, trainer: MemberTrainer) -> Watched | None:
    """Return what looks at the sleep trials of the first epoch, None where they are no decoder's."""
    card = getattr(trials, "card", None)
    return None if card is None or "sleep" not in trainer.keys else Watched("sleep", card.channels, card.unit)


def validate(trainer: MemberTrainer, trials: TrialReader, batch_size: int) -> dict[str, float]:
    """Return cross-entropy and top-1 of a member on the validation subjects' trials."""
    signal = trainer.keys[-2]  # a prediction needs the sleep trials, or the windows, alone
    parts = []
    for batch in trials.batches(batch_size, seed=0, epoch=0):
        probability = trainer.predict(batch[signal], batch_size)
        parts.append(cross_entropy_and_hits(probability, batch["label"].argmax(axis=1)))
    losses, hits = (np.concatenate(part) for part in zip(*parts, strict=True))
    return {"validation_loss": float(losses.mean()), "validation_top1": float(hits.mean())}


def cross_entropy_and_hits(probability: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cross-entropy and the hits (top-1) of each trial."""
    of_label = np.take_along_axis(probability, label[:, None], axis=1)[:, 0]
    return -np.log(np.maximum(of_label, 1e-12)), probability.argmax(axis=1) == label
