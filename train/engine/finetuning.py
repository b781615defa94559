"""Fine-tuning of a trained ensemble to one test subject at a time (SPEC section 2).

The subject's own parts are used for one thing each: `train` to fit, `val` to choose the epoch, `test` for
the report. The epoch is that of the highest validation top-1 of the whole ensemble; ties go to the lowest
validation loss, then to the earliest. Nothing that depends on the test part has a say in it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats import plausibility
from sleep_interpreter.data.formats.test_trials import TestSubject
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.model.networks.ensemble import Ensemble
from sleep_interpreter.train.engine.loop import cross_entropy_and_hits
from sleep_interpreter.train.engine.member_trainer import MemberTrainer, Recipe
from sleep_interpreter.train.engine.run_folder import (
    Arrays,
    History,
    board,
    chosen_epoch,
    drop_aside,
    set_aside,
    training_record,
)
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils.core import config, data_card, file_locks
from sleep_interpreter.utils.core.command_line import progress
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.file_hashes import content_hash
from sleep_interpreter.utils.core.own_folder import own_folder
from sleep_interpreter.utils.core.paths import atomic_write, remove_temporary_files
from sleep_interpreter.utils.metrics import exchangeability
from sleep_interpreter.utils.model import predict

log = logging.getLogger(__name__)

SAVE_EVERY = 10
"""Epochs between two states on disk; with the published sizes a state is 2 GB."""
FILES = (
    "ensemble.npz", "result.npz", "state.npz", "log.csv", "broken_batch_*.npz", "tensorboard/events.*",
)  # fmt: skip
"""What fine-tuning to a subject writes and --restart sets aside."""


class Finetuner:
    """Fine-tunes copies of one ensemble, which is not changed.

    `notes` are kept with every checkpoint; `checkpoint_fingerprint` among them tells one start from another.
    `self.settings` are those given, with the network that the checkpoint really holds.
    """

    def __init__(self, settings: Experiment, network: Ensemble, notes: Mapping[str, Any]) -> None:
        if settings.finetune is None:
            raise UserError("the settings have no `finetune` section; extend params/N23_finetune.yaml")
        self.plan, self.notes = settings.finetune, notes
        members = len(network.individual_models)
        self.settings = settings.model_copy(update={"model": network.settings, "members": members})
        self.network, self.mode, self.start_notes = network.network, network.mode, network.notes
        self.start = [
            {name: variable.numpy() for name, variable in checkpoint.member_variables(member).items()}
            for member in network.individual_models
        ]
        self.recipe = Recipe(self.plan.learning_rate, frozen=self.plan.freeze, loss_scale=1 / len(self.start))

    @cached_property
    def trainer(self) -> MemberTrainer:
        """The one network that serves all members of all subjects, made when first needed."""
        train = self.settings.train.model_copy(update={"seed": self.plan.seed})
        return MemberTrainer(self.settings.model_copy(update={"train": train}), recipe=self.recipe)

    def tune(self, subject: TestSubject, folder: Path, restart: bool = False) -> dict[str, Any]:
        """Fine-tune to one subject, or take up what is there already (`restart`: forget it).

        The subject is read with its awake trials if the network has awake branches. The folder receives log.csv,
        ensemble.npz (the chosen epoch) and, while it runs, state.npz. The result is "probability" (n_test, K),
        "chosen_epoch", "validation_top1" and "published_score". Refused are missing parts, a folder of another
        fine-tuning, and one in which another process works.
        """
        check_parts(subject)
        folder = own_folder(folder)
        with file_locks.locked(
            folder / file_locks.LOCK,
            refusal="{path}: another process is fine-tuning to this subject here; wait for its end, or write "
            "elsewhere with --results DIR",
        ):
            return self._tune(subject, folder, restart)

    def _tune(self, subject: TestSubject, folder: Path, restart: bool) -> dict[str, Any]:
        identity = self._identity(subject)
        remove_temporary_files(folder)
        if restart:
            set_aside(folder, FILES)
        result, state = folder / "result.npz", folder / "state.npz"
        if result.exists() and (folder / "ensemble.npz").exists():
            header, arrays = checkpoint.read_arrays(result)
            _check_identity(result, header.get("identity"), identity)
            state.unlink(missing_ok=True)
            log.info("%s: fine-tuned already; --restart does it anew", folder)
            return {**header["result"], **arrays}
        if state.exists():
            header, arrays = checkpoint.read_arrays(state)
            _check_identity(state, header.get("identity"), identity)
            run = _Run(header["history"], header["test"], arrays)
            log.info("going on in %s: %d of %d epochs", folder, len(run.history), self.plan.epochs)
        else:
            run = _Run([], [], self._fresh())
        try:
            self._continue(subject, folder, identity, run)
        except KeyboardInterrupt:
            kept = len(checkpoint.read_header(state)["history"]) if state.exists() else 0
            again = "; go on without --restart, which would forget them" if restart else ""
            log.info("epochs kept in %s: %d of %d%s", folder, kept, self.plan.epochs, again)
            raise
        return self._finish(subject, folder, identity, run)

    def _identity(self, subject: TestSubject) -> dict[str, Any]:
        """Return all that decides the numbers of a fine-tuning; what is as published everywhere is left out."""
        identity = {
            "data": content_hash([subject.file]),
            "checkpoint": self.notes["checkpoint_fingerprint"],
            "finetune": self.plan.model_dump(mode="json"),
        }
        if own := self.notes.get("data_card"):
            identity["card"] = own["fingerprint"]
        if (precision := self.settings.train.precision) != "float32":
            identity["train"] = {"precision": precision}
        return identity

    def _fresh(self) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for index, weights in enumerate(self.start):
            self.trainer.start(index)  # the member's own dropout
            self.trainer.load_weights(weights)
            arrays |= {f"member/{index}/{name}": array for name, array in self.trainer.state().items()}
        return arrays

    def _continue(self, subject: TestSubject, folder: Path, identity: Mapping[str, Any], run: "_Run") -> None:
        fit, choose, report = (subject.part(part) for part in ("train", "val", "test"))
        plan, members = self.plan, len(self.start)
        batch_size = self.settings.evaluate.batch_size
        for epoch in range(len(run.history), plan.epochs):
            name = f"{subject.name}, epoch {epoch + 1}/{plan.epochs}"
            losses, top1 = [], []
            validation: Any = 0.0
            test: Any = 0.0
            with progress(total=members * len(fit), desc=name, unit="trial") as bar:
                for index in range(members):
                    self.trainer.load_state(_below(f"member/{index}/", run.arrays), folder / "state.npz")
                    batches = fit.batches(plan.batch_size, seed=plan.seed, epoch=epoch)
                    inputs = (tuple(batch[key] for key in self.trainer.keys) for batch in batches)
                    evidence = folder / f"broken_batch_member_{index}.npz"
                    mean_loss, share = self.trainer.epoch(inputs, bar, evidence)
                    losses.append(mean_loss)
                    top1.append(share)
                    run.arrays |= {f"member/{index}/{name}": array for name, array in self.trainer.state().items()}
                    validation += self.trainer.predict(choose.arrays()["sleep"], batch_size) / members
                    if len(report):
                        test += self.trainer.predict(report.arrays()["sleep"], batch_size) / members
            loss, hits = cross_entropy_and_hits(validation, choose.arrays()["label"].argmax(axis=1))
            row = {"epoch": epoch, "loss": float(np.mean(losses)), "train_top1": float(np.mean(top1))}
            row |= {"validation_loss": float(loss.mean()), "validation_top1": float(hits.mean())}
            run.history.append(row)
            if len(report):  # for the published score alone
                _, hits = cross_entropy_and_hits(test, report.arrays()["label"].argmax(axis=1))
                run.test.append(float(hits.mean()))
            if chosen_epoch(run.history) == epoch:
                for index in range(members):
                    own = _below(f"member/{index}/weights/", run.arrays)
                    run.arrays |= {f"best/{index}/{name}": array for name, array in own.items()}
            if (epoch + 1) % SAVE_EVERY == 0 or epoch + 1 == plan.epochs:
                header = {"identity": identity, "history": run.history, "test": run.test}
                checkpoint.write_arrays(folder / "state.npz", header, run.arrays)

    def _finish(self, subject: TestSubject, folder: Path, identity: Mapping[str, Any], run: "_Run") -> dict[str, Any]:
        members, epoch = len(self.start), chosen_epoch(run.history)
        result = {
            "chosen_epoch": epoch,
            "validation_top1": run.history[epoch]["validation_top1"],
            "published_score": published_score(run.history, run.test),
        }
        with atomic_write(folder / "log.csv") as temporary:
            pd.DataFrame(run.history).to_csv(temporary, index=False)
        with board(folder / "tensorboard", run.history):
            pass
        arrays = {
            f"individual_models/{index}/{name}": array
            for index in range(members)
            for name, array in _below(f"best/{index}/", run.arrays).items()
        }
        path = folder / "ensemble.npz"
        checkpoint.write_ensemble(
            path, self.network, self.mode, members, self.settings.model, arrays,
            {**self.notes, **result, **self._inherited(subject)},
        )  # fmt: skip
        # What is reported is what this file gives, not what the training's copy of it gave.
        tuned, sleep = checkpoint.restore(path), subject.part("test").arrays()["sleep"]
        probability = predict(tuned, sleep, self.settings.evaluate.batch_size)
        header = {"identity": identity, "result": result}
        checkpoint.write_arrays(folder / "result.npz", header, {"probability": probability})
        (folder / "state.npz").unlink(missing_ok=True)
        drop_aside(folder)
        return {**result, "probability": probability}

    def _inherited(self, subject: TestSubject) -> dict[str, Any]:
        """Return the notes by which a test of the tuned ensemble knows what it was trained on."""
        seen = {*self.start_notes.get("training_subjects", ()), subject.name}
        fitted = subject.sleep[subject.data_type != "test"]
        return {
            "finetuned_to": subject.name,
            plausibility.DIGESTS: {
                **self.start_notes.get(plausibility.DIGESTS, {}),
                subject.name: plausibility.sampled(fitted[plausibility.spread_over(len(fitted))]),
            },
            **data_card.to_notes(subject.card),
            "training": training_record(self.settings),
            "training_subjects": sorted(seen),
            "validation_subjects": self.start_notes.get("validation_subjects", []),
            "labels_shuffled": self.start_notes.get("labels_shuffled", False),
            "simulated": bool(self.notes.get("simulated") or self.start_notes.get("simulated")),
        }


def check_parts(subject: TestSubject) -> None:
    """Refuse a subject without trials to fit or to choose the epoch with."""
    for part in ("train", "val"):
        if not len(subject.part(part)):
            raise UserError(
                f"{subject.file}: no trial with data_type {part!r}, so it cannot be fine-tuned to; "
                "name the other subjects with --subjects"
            )


def parted_stretches(subjects: Sequence[TestSubject]) -> str | None:
    """Return a warning where items come in stretches and the parts of a subject's trials cut them, or None."""
    beside, total, orders = 0, 0, {}
    for subject in subjects:
        run, order = exchangeability.runs_of(subject.origin), exchangeability.order_of(subject.origin)
        orders[subject.name] = own = exchangeability.exchange(subject.label, run, order=order)
        tested, stretch = subject.data_type == "test", exchangeability.stretches(subject.label, run, order)
        total += int(tested.sum())
        beside += int((tested & np.isin(stretch, stretch[~tested])).sum()) if own.clustered else 0
    told = exchangeability.clustered(orders)
    if not beside:
        return None
    return (
        f"{told}: {beside} of {total} test trials lie in one stretch of their item with trials of the other parts, so "
        "a drift alone would be decoded; test without fine-tuning, or give each part whole stretches (data_type)"
    )


@dataclass
class _Run:
    """What a fine-tuning has come to: history, test top-1 of each epoch, values of all members."""

    history: list[dict]
    test: list[float]
    arrays: dict[str, np.ndarray]


def published_score(history: History, test: Sequence[float]) -> float | None:
    """Return the original's figure, for comparison only: it lets the test part choose.

    Among the epochs of the highest validation top-1 the original takes the one of the highest TEST top-1,
    and reports the mean of validation and test (SPEC section 2). None without test trials.
    """
    if not test:
        return None
    highest = max(row["validation_top1"] for row in history)
    ties = [row["epoch"] for row in history if row["validation_top1"] == highest]
    return (highest + max(test[epoch] for epoch in ties)) / 2


def _below(start: str, arrays: Arrays) -> dict[str, np.ndarray]:
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def _check_identity(path: Path, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    published = {"train.precision": "float32"}  # not written down
    before, now = published | config.flat(before or {}), published | config.flat(now)
    changed = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
    if changed:
        words = {"data": "other trials", "checkpoint": "another start checkpoint"}
        listed = [words.get(k) or f"{k} {before.get(k)} (now {now.get(k)})" for k in changed]
        raise UserError(
            f"{path} belongs to a fine-tuning with {', '.join(listed)}; "
            "pass --restart to replace it or --results DIR to write elsewhere"
        )
