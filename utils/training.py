"""The one training loop: members one after the other, a state after every epoch, resumed after a kill.

A member's state (weights, optimizer, random-number state, history) is one file that is replaced
atomically after each epoch; whatever stops the training, the same command goes on after the last one.
"""

import csv
import io
import logging
from pathlib import Path

from tqdm import tqdm

from model import checkpoint
from utils import config, provenance
from utils.errors import UserError
from utils.paths import shown, writing
from utils.trainer import MemberTrainer

log = logging.getLogger(__name__)

EXTENDABLE = {"train.epochs", "members", "evaluate.batch_size", "evaluate.bootstrap", "evaluate.seed"}
"""Settings that may change between a run and its continuation."""


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
