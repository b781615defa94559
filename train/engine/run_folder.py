"""The folder of a training: what is in it, whether it may be gone on with, how members become an ensemble."""

import csv
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils.core import config, file_locks, provenance
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import own_folder
from sleep_interpreter.utils.core.paths import atomic_write

log = logging.getLogger(__name__)

Arrays = Mapping[str, np.ndarray]
"""{name: values} of a member's weights or state."""
History = Sequence[Mapping[str, Any]]
"""One row an epoch: epoch, loss, train_top1, with validation subjects validation_loss and validation_top1."""

EXTENDABLE = ("train.epochs", "train.keep_epochs", "members", "evaluate.", "finetune", "staging", "data.root")
"""Settings that may change between a run and its continuation (beginnings of their names); where the data lie says
nothing of what they are."""

SAME_DATA = ("data_fingerprint", "training_trials", "validation_trials", "card_fingerprint")
"""Notes that tell whether a state was trained on the data of now; one that an older state lacks is not compared."""

FILES = (
    "ensemble*.npz", "member_*.npz", "best_member_*.npz", "epochs/*.npz", "broken_batch_*.npz",
    "log*.csv", "run*.json", "settings.yaml", "training.png", "tensorboard/*/events.*",
)  # fmt: skip
"""What a training writes and --restart sets aside; first what a test script would take for its result."""
ASIDE = "before_restart"
"""Where --restart keeps what was there until the new result is complete."""


def set_aside(folder: str | Path, patterns: Iterable[str] = FILES) -> None:
    """Move what an earlier training wrote into the folder `ASIDE`, until `drop_aside`.

    A complete result there stays; what is unfinished now goes then.
    """
    folder = Path(folder)
    aside = folder / ASIDE
    keep = not (aside / "ensemble.npz").is_file() or (folder / "ensemble.npz").is_file()
    if keep:
        shutil.rmtree(aside, ignore_errors=True)
    for path in [p for pattern in patterns for p in folder.glob(pattern)]:
        if keep:
            target = aside / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        else:
            path.unlink()
    if (aside / "ensemble.npz").is_file():
        log.info("the earlier result is kept in %s until the new one is complete", aside)


def drop_aside(folder: str | Path) -> None:
    """Remove what was set aside: the new result is complete."""
    shutil.rmtree(Path(folder) / ASIDE, ignore_errors=True)


def lock_members(folder: str | Path, members: Iterable[int]) -> AbstractContextManager:
    """Keep other processes from training these members in this folder meanwhile (`utils.core.file_locks`)."""
    folder = own_folder(folder)
    return file_locks.locked(
        *(folder / f".member_{index}.lock" for index in members),
        refusal="{path}: another process is training this member here; wait for its end, or write elsewhere "
        "with --results DIR",
    )


class RunFolder:
    """Files of one training; a folder with other settings, on other data or of more epochs is refused unchanged.

    `notes` are kept in run.json and in checkpoints; `SAME_DATA` among them tell whether the data are the same.
    """

    def __init__(self, folder: str | Path, settings: Experiment, mode: str | None, notes: Mapping[str, Any]) -> None:
        self.folder, self.settings, self.mode, self.notes = own_folder(folder), settings, mode, notes
        self.final = self.folder / "ensemble.npz"
        self._check_settings()
        self.read_histories()
        longest = max(map(len, self.histories))
        if longest > settings.train.epochs:
            raise UserError(
                f"{self.folder} was trained for {longest} epochs, train.epochs asks for "
                f"{settings.train.epochs}: pass --restart to train anew or --results DIR to write elsewhere"
            )

    def read_histories(self) -> None:
        """Look up on disk how far each member is: `histories` is a list of rows a member."""
        self.histories = [self._history(index) for index in range(self.settings.members)]

    def done(self) -> str:
        return ", ".join(str(len(history)) for history in self.histories)

    def state(self, index: int) -> Path:
        return self.folder / f"member_{index}.npz"

    def best(self, index: int) -> Path:
        """Return the path of a member's weights at its chosen epoch (with validation subjects)."""
        return self.folder / f"best_member_{index}.npz"

    def is_complete(self) -> bool:
        """Tell whether the ensemble on disk is of this many members and epochs, and the members too."""
        wanted = self.settings.train.epochs
        if not self.final.exists() or any(len(history) != wanted for history in self.histories):
            return False
        header = checkpoint.read_header(self.final)
        return (header["members"], header["notes"].get("epochs")) == (self.settings.members, wanted)

    def begin(self, member: int | None = None) -> None:
        """Write down what is about to be trained; an ensemble of an earlier stage gets another name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.final.exists():
            header = checkpoint.read_header(self.final)
            old = self.folder / f"ensemble_{header['members']}x{header['notes'].get('epochs')}_epochs.npz"
            with suppress(FileNotFoundError):  # the process of another member was quicker
                self.final.replace(old)
                log.info("the earlier ensemble is kept as %s", old)
        config.save(self.settings, self.folder / "settings.yaml")
        self.record(member)
        for index in range(self.settings.members) if member is None else [member]:
            self._compare_environment(index)

    def _compare_environment(self, index: int) -> None:
        """Warn where an unfinished member was begun under variables by which libraries compute otherwise."""
        if not 0 < len(self.histories[index]) < self.settings.train.epochs:
            return
        begun = checkpoint.read_state(self.state(index), header_only=True)[0].get("environment", {})
        if begun != (found := provenance.numeric_environment()):
            log.warning(
                "WARNING: %s was trained with %s in the environment, now there is %s: what follows has other last "
                "digits than an uninterrupted run; set it back to have the same",
                self.state(index), _in_words(begun), _in_words(found),
            )  # fmt: skip

    def record(self, member: int | None = None) -> None:
        """Write run.json, or run_member_I.json for a member trained alone."""
        name = "run.json" if member is None else f"run_member_{member}.json"
        # Another number of threads sums in another order: the same seed gives the same bits for one number.
        threads = os.environ.get("TF_NUM_INTRAOP_THREADS")
        record = provenance.record(seed=self.settings.train.seed, threads=threads, **self.notes)
        provenance.write_json(self.folder / name, record)

    def read_state(self, index: int) -> Arrays:
        return checkpoint.read_state(self.state(index))[1]

    def write_state(self, index: int, arrays: Arrays) -> None:
        header = {
            "member": index, "history": self.histories[index], "notes": self.notes, "settings": self._fixed(),
            **({"environment": found} if (found := provenance.numeric_environment()) else {}),
        }  # fmt: skip
        checkpoint.write_arrays(self.state(index), header, arrays)

    def keep_best(self, index: int, weights: Callable[[], Arrays]) -> None:
        """Keep a member's weights if its last epoch is the chosen one; `weights` is called then.

        Called after the state is on disk: until then the best weights so far are needed, and afterwards
        the state itself holds those of the last epoch (see `_chosen`).
        """
        epoch = chosen_epoch(self.histories[index])
        if epoch == self.histories[index][-1]["epoch"]:
            checkpoint.write_arrays(self.best(index), {"member": index, "epoch": epoch}, weights())

    def keep_epoch(self, index: int, epoch: int, weights: Callable[[], Arrays]) -> None:
        """Keep the weights of the last `train.keep_epochs` epochs; `weights` is called if any are kept.

        With 0 none is written, and what a run of this folder kept before stays.
        """
        keep = self.settings.train.keep_epochs
        if not keep:
            return
        folder = self.folder / "epochs"
        path = folder / f"member_{index}_epoch_{epoch:04d}.npz"
        checkpoint.write_arrays(path, {"member": index, "epoch": epoch}, weights())
        for earlier in sorted(folder.glob(f"member_{index}_epoch_*.npz"))[:-keep]:
            earlier.unlink()

    def write_log(self, member: int | None = None) -> None:
        """Write the histories as a table: log.csv, or log_member_I.csv of a member trained alone."""
        histories = self.histories if member is None else [self.histories[member]]
        rows = [row for history in histories for row in history]
        name = "log.csv" if member is None else f"log_member_{member}.csv"
        with atomic_write(self.folder / name) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def join(self) -> Path:
        """Write the checkpoint that really holds all members, and return its path."""
        settings, wanted = self.settings, self.settings.train.epochs
        self.read_histories()
        short = {i: len(h) for i, h in enumerate(self.histories) if len(h) != wanted}
        if short:
            listed = ", ".join(f"member {i} has {n} of {wanted} epochs" for i, n in short.items())
            raise UserError(f"{self.folder}: not all members are trained: {listed}")
        by_validation = settings.train.validation_subjects > 0
        arrays: dict[str, np.ndarray] = {}
        epochs = []
        for index in range(settings.members):
            epoch = chosen_epoch(self.histories[index]) if by_validation else wanted - 1
            epochs.append(epoch)
            weights = self._weights(index, epoch)
            arrays |= {f"individual_models/{index}/{name}": array for name, array in weights.items()}
        notes = {
            **self.notes, "epochs": wanted, **({"chosen_epochs": epochs} if by_validation else {}),
            "training": training_record(settings),
        }  # fmt: skip
        checkpoint.write_ensemble(
            self.final, settings.network, self.mode, settings.members, settings.model, arrays, notes
        )
        self.write_log()
        log.info("trained: %s", self.final)
        return self.final

    def _weights(self, index: int, epoch: int) -> Arrays:
        """Return {published name: array} of a member after an epoch: its last or its chosen one."""
        if epoch == self.histories[index][-1]["epoch"]:
            state = self.read_state(index)
            return {n.removeprefix("weights/"): a for n, a in state.items() if n.startswith("weights/")}
        header, weights = checkpoint.read_arrays(self.best(index))
        if header.get("epoch") != epoch:
            raise UserError(
                f"{self.best(index)}: holds epoch {header.get('epoch')}, but {self.state(index).name} "
                f"says that epoch {epoch} was the best; pass --restart to train anew"
            )
        return weights

    def _check_settings(self) -> None:
        saved = self.folder / "settings.yaml"
        there = [p for kind in ("member_*.npz", "ensemble*.npz") for p in sorted(self.folder.glob(kind))]
        if not there:
            return
        if not saved.is_file():
            raise UserError(
                f"{self.folder} holds {there[0].name}, but settings.yaml is missing, so nobody knows "
                "what was trained: put it back, or pass --restart to train anew"
            )
        changed = experiment.differences(saved, self.settings)
        self._refuse_changes({k: v for k, v in changed.items() if not self._extendable(k)}, self.folder)

    def _refuse_changes(self, changed: Mapping[str, tuple[Any, Any]], where: Path) -> None:
        if changed:
            listed = ", ".join(f"{k} ({before} before, now {now})" for k, (before, now) in changed.items())
            raise UserError(
                f"{where} holds a run with other settings: {listed}; pass --restart to replace "
                "it or --results DIR to write elsewhere"
            )

    def _fixed(self) -> dict[str, Any]:
        """Return the settings that must not change between a run and its continuation, as {"a.b": value}."""
        flat = config.flat(self.settings.model_dump(mode="json"))
        return {k: v for k, v in flat.items() if not self._extendable(k)}

    def _extendable(self, key: str) -> bool:
        """Tell whether a setting may change: the number of epochs only where no schedule of the rate depends on it."""
        return key.startswith(EXTENDABLE) and (key != "train.epochs" or self.settings.train.schedule.is_constant)

    def _history(self, index: int) -> list[dict[str, Any]]:
        """Return a member's rows so far, after checking that it was trained on these data and like this.

        The state says so itself: settings.yaml may be that of another process which trains another member.
        """
        path = self.state(index)
        if not path.exists():
            return []
        header, _ = checkpoint.read_state(path, header_only=True)
        for key in SAME_DATA:
            before, now = (notes.get(key) for notes in (header["notes"], self.notes))
            if before != now and not (key == "card_fingerprint" and before is None):
                raise UserError(
                    f"{path} was trained on other data ({key.replace('_', ' ')} {before}, now {now}); "
                    "give the same data (and --skip-bad, if it was given), pass --restart or --results DIR"
                )
        before, now = header.get("settings", {}), self._fixed()
        changed = {k: (before[k], now[k]) for k in before.keys() & now.keys() if before[k] != now[k]}
        self._refuse_changes(dict(sorted(changed.items())), path)
        return header["history"]


def _in_words(environment: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in environment.items()) or "nothing that changes digits"


def training_record(settings: Experiment) -> dict[str, Any]:
    """Return what a checkpoint keeps about how it was made: git revision, versions, seed and all settings."""
    made = provenance.record(seed=settings.train.seed, settings=settings.model_dump(mode="json"))
    kept = ("git", "python", "versions", "environment", "seed", "settings")
    return {key: made[key] for key in kept if key in made}


def chosen_epoch(history: History) -> int:
    """Return the epoch of the highest validation top-1; ties: the lowest loss, then the earliest epoch."""
    return min(history, key=lambda r: (-r["validation_top1"], r["validation_loss"], r["epoch"]))["epoch"]


@contextmanager
def board(folder: str | Path, history: History = ()) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Give a function (row) that writes the row of an epoch into `folder` as TensorBoard scalars.

    Rows of earlier epochs are written again, in place of the files that are there: a run that was killed may have
    left a row out of those.
    """
    for old in Path(folder).glob("events.*"):
        old.unlink()
    writer = tf.summary.create_file_writer(str(folder))

    def scalars(row: Mapping[str, Any]) -> None:
        with writer.as_default():
            for name in row.keys() - {"member", "epoch"}:
                tf.summary.scalar(name, row[name], step=row["epoch"])
        writer.flush()

    try:
        for row in history:
            scalars(row)
        yield scalars
    finally:
        writer.close()
