"""The folder of a training: what is in it, whether it may be gone on with, how members become an ensemble."""

import csv
import io
import logging
from contextlib import contextmanager
from pathlib import Path

from model import checkpoint
from utils import config, experiment, provenance
from utils.errors import UserError
from utils.paths import shown, writing

log = logging.getLogger(__name__)

EXTENDABLE = ("train.epochs", "train.keep_epochs", "members", "evaluate.", "finetune")
"""Settings that may change between a run and its continuation (beginnings of their names)."""


FILES = (
    "member_*.npz", "best_member_*.npz", "ensemble*.npz", "epochs/*.npz", "broken_batch_*.npz",
    "log*.csv", "run*.json", "settings.yaml", "tensorboard/*/events.*",
)  # fmt: skip
"""What a training writes and --restart forgets."""


class RunFolder:
    """Files of one training.

    Parameters
    ----------
    folder : str | Path
    settings : utils.experiment.Experiment
    mode : str | None
    notes : dict
        Kept in run.json and in checkpoints; ``data_fingerprint`` tells whether the data are the same.
    restart : bool
        Forget an earlier run.

    Raises
    ------
    UserError
        The folder holds a run with other settings, on other data or of more epochs; nothing was changed.
    """

    def __init__(self, folder, settings, mode, notes, restart=False):
        self.folder, self.settings, self.mode, self.notes = Path(folder), settings, mode, notes
        self.final = self.folder / "ensemble.npz"
        if restart:
            self._forget()
        self._check_settings()
        self.histories = [self._history(index) for index in range(settings.members)]
        longest = max(map(len, self.histories))
        if longest > settings.train.epochs:
            raise UserError(
                f"{shown(self.folder)} was trained for {longest} epochs, train.epochs asks for "
                f"{settings.train.epochs}: pass --restart to train anew or --results DIR to write elsewhere"
            )

    def state(self, index):
        """Return the path of a member's state."""
        return self.folder / f"member_{index}.npz"

    def best(self, index):
        """Return the path of a member's weights at its chosen epoch (with validation subjects)."""
        return self.folder / f"best_member_{index}.npz"

    def is_complete(self):
        """Tell whether the ensemble on disk is of this many members and epochs, and the members too."""
        wanted = self.settings.train.epochs
        if not self.final.exists() or any(len(history) != wanted for history in self.histories):
            return False
        header = checkpoint.read_header(self.final)
        return (header["members"], header["notes"].get("epochs")) == (self.settings.members, wanted)

    def begin(self, member=None):
        """Write down what is about to be trained; an ensemble of an earlier stage gets another name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.final.exists():
            header = checkpoint.read_header(self.final)
            old = self.folder / f"ensemble_{header['members']}x{header['notes'].get('epochs')}_epochs.npz"
            self.final.replace(old)
            log.info("the earlier ensemble is kept as %s", shown(old))
        config.save(self.settings, self.folder / "settings.yaml")
        name = "run.json" if member is None else f"run_member_{member}.json"
        record = provenance.record(seed=self.settings.train.seed, **self.notes)
        provenance.write_json(self.folder / name, record)

    def read_state(self, index):
        return checkpoint.read_state(self.state(index))[1]

    def write_state(self, index, arrays):
        header = {"member": index, "history": self.histories[index], "notes": self.notes}
        checkpoint.write_arrays(self.state(index), header, arrays)

    def keep_best(self, index, epoch, weights):
        checkpoint.write_arrays(self.best(index), {"member": index, "epoch": epoch}, weights)

    def keep_epoch(self, index, epoch, weights):
        """Keep the weights of the last `train.keep_epochs` epochs; `weights` is called if any are kept."""
        keep = self.settings.train.keep_epochs
        folder = self.folder / "epochs"
        if keep:
            path = folder / f"member_{index}_epoch_{epoch:04d}.npz"
            checkpoint.write_arrays(path, {"member": index, "epoch": epoch}, weights())
        for path in sorted(folder.glob(f"member_{index}_epoch_*.npz"))[: -keep or None]:
            path.unlink()

    def write_log(self, member=None):
        """Write the histories as a table: log.csv, or log_member_I.csv of a member trained alone."""
        histories = self.histories if member is None else [self.histories[member]]
        rows = [row for history in histories for row in history]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        name = "log.csv" if member is None else f"log_member_{member}.csv"
        with writing(self.folder / name) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8", newline="")

    def join(self):
        """Write the checkpoint that really holds all members, and return its path."""
        settings, wanted = self.settings, self.settings.train.epochs
        short = {i: len(h) for i, h in enumerate(self.histories) if len(h) < wanted}
        if short:
            listed = ", ".join(f"member {i} has {n} of {wanted} epochs" for i, n in short.items())
            raise UserError(f"{shown(self.folder)}: not all members are trained: {listed}")
        chosen = settings.train.validation_subjects > 0
        arrays, epochs = {}, []
        for index in range(settings.members):
            if chosen:
                header, weights = checkpoint.read_arrays(self.best(index))
                epochs.append(header["epoch"])
            else:
                state = self.read_state(index)
                weights = {
                    n.removeprefix("weights/"): a for n, a in state.items() if n.startswith("weights/")
                }
            arrays |= {f"individual_models/{index}/{name}": array for name, array in weights.items()}
        notes = {**self.notes, "epochs": wanted, **({"chosen_epochs": epochs} if chosen else {})}
        checkpoint.write_ensemble(
            self.final, settings.network, self.mode, settings.members, settings.model, arrays, notes
        )
        self.write_log()
        log.info("trained: %s", shown(self.final))
        return self.final

    def _forget(self):
        for pattern in FILES:
            for path in self.folder.glob(pattern):
                path.unlink()

    def _check_settings(self):
        saved = self.folder / "settings.yaml"
        states = sorted(self.folder.glob("member_*.npz"))
        if not states:
            return
        if not saved.is_file():
            raise UserError(
                f"{shown(self.folder)} holds {states[0].name}, but settings.yaml is missing, so nobody knows "
                "what was trained: put it back, or pass --restart to train anew"
            )
        changed = experiment.differences(saved, self.settings)
        changed = {k: v for k, v in changed.items() if not k.startswith(EXTENDABLE)}
        if changed:
            listed = ", ".join(f"{k} ({before} before, now {now})" for k, (before, now) in changed.items())
            raise UserError(
                f"{shown(self.folder)} holds a run with other settings: {listed}; pass --restart to replace "
                "it or --results DIR to write elsewhere"
            )

    def _history(self, index):
        path = self.state(index)
        if not path.exists():
            return []
        header, _ = checkpoint.read_state(path, header_only=True)
        before, now = (n.get("data_fingerprint") for n in (header["notes"], self.notes))
        if before != now:
            raise UserError(
                f"{shown(path)} was trained on other data (fingerprint {before}, now {now}); "
                "pass --restart or --results DIR"
            )
        return header["history"]


@contextmanager
def board(folder):
    """Give a function (epoch, {name: value}) that writes TensorBoard scalars into `folder`."""
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(folder))

    def scalars(epoch, values):
        with writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=epoch)
        writer.flush()

    try:
        yield scalars
    finally:
        writer.close()
