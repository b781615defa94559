"""Trained networks: where they lie, open one by its run's name or file, predict, say what it is.

The common model utilities of the published layout; stands above model/, and nothing else in utils/ imports it.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sleep_interpreter.model import registry
from sleep_interpreter.model.checkpoints import checkpoint, tf_checkpoint
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import DATA, RESULTS, ROOT, display_path

if TYPE_CHECKING:
    from tqdm import tqdm

    from sleep_interpreter.model.networks.ensemble import Ensemble

log = logging.getLogger(__name__)

TRACES = (
    "ensemble*", "member_*", ".member_*.lock", "settings.yaml", "run*.json", "log*.csv", "epochs", "tensorboard",
    "before_restart",
)  # fmt: skip
"""What a training leaves in its folder from its first moment on, the lock of one that was killed included."""


def load(
    source: str | Path, mode: str | None = None, *, results: str | Path = RESULTS, data: str | Path = DATA
) -> "Ensemble":
    """Open a trained network; a `UserError` where there is none, or for whatever `checkpoint.restore` refuses.

    `source` is a network's name ("N23SIMD"): what was trained here, otherwise the released one, looked for in the
    folders `results` and `data`. Or it is a file: this project's .npz, or a TensorFlow checkpoint of a published
    network; or the folder of a training. `mode` is that of a network given by name, such as "retrained", or the one
    that is expected of a file. ``network.predict_proba(x)`` gives class probabilities (B, K), ``network.notes`` is what
    was stored with it.
    """
    if str(source) in registry.names():
        return checkpoint.restore(find_checkpoint(results, str(source), mode, data), str(source), mode)
    return checkpoint.restore(source, mode=mode)


def run_folder(root: str | Path, network: str, mode: str | None = None, finetune: bool = False) -> Path:
    """Return the folder that holds a trained (or fine-tuned) network under the results folder `root`."""
    row = registry.published_network(network, mode)
    return Path(root) / f"{row.folder} checkpoint" / (f"{row.run}_finetune" if finetune else row.run)


def script(folder: str, network: str) -> str:
    """Return what is typed to train or test a network: its own script in train/ or test/, else the one for any."""
    own = f"{folder}/{network}.py"
    return own if (ROOT / own).is_file() else f"{folder}/network.py {network}"


def find_checkpoint(results: str | Path, network: str, mode: str | None = None, data: str | Path = DATA) -> Path:
    """Return the checkpoint to evaluate: what this project trained into `results`, otherwise a released one.

    That is looked for in "Model checkpoint" of `data`, then of the project's own data/. Without either, or where a
    training is not finished, a `UserError` names all places.
    """
    row = registry.published_network(network, mode)
    option = f" --mode {mode}" if mode not in (None, "normal") else ""
    command = f"`python {script('train', network)}{option}`"
    trained = run_folder(results, network, mode) / "ensemble.npz"
    if trained.is_file():
        return trained
    if there := sorted(path.name for name in TRACES for path in trained.parent.glob(name)):
        # a released one in its place would pass for it
        earlier = trained.parent / "before_restart" / trained.name
        kept = f" (the result before --restart is {display_path(earlier)})" if earlier.is_file() else ""
        raise UserError(
            f"{trained.parent}: {there[0]}, but no ensemble.npz: the training is unfinished; go on with {command} "
            f"(--collect joins members trained alone), name a file with --checkpoint{kept}, or remove the folder"
        )
    folders = [Path(folder) / "Model checkpoint" / row.folder for folder in dict.fromkeys([Path(data), DATA])]
    found = [folder / name for folder in folders for name in row.files if tf_checkpoint.is_one(folder / name)]
    if len(found) > 1:
        others = ", ".join(map(display_path, found[1:]))
        log.info("%s is taken; there is also %s (name one with --checkpoint)", found[0], others)
    if found:
        return found[0]
    if not row.files:
        raise UserError(f"no checkpoint of {network}: {trained} is not there (made by {command})")
    files = f"{' or '.join(row.files)} in {' or '.join(map(display_path, folders))}"
    raise UserError(f"no checkpoint of {network}: neither {trained} (made by {command}) nor {files}")


def predict(network: "Ensemble", x: np.ndarray, batch_size: int = 64, progress: "tqdm | None" = None) -> np.ndarray:
    """Return class probabilities (n, K) of trials or windows (n, ...), a batch at a time."""
    parts = []
    for start in range(0, len(x), batch_size):
        parts.append(network.predict_proba(x[start : start + batch_size]))
        if progress is not None:
            progress.update(len(parts[-1]))
    return np.concatenate(parts) if parts else np.zeros((0, network.settings.classes), np.float32)


def summarise(network: "Ensemble") -> dict[str, Any]:
    """Return what a network is: name, mode, members, parameters of a member, settings, notes."""
    member = checkpoint.member_variables(network.individual_models[0])
    sizes = {name: int(np.prod(variable.shape)) for name, variable in member.items()}
    return {
        "network": network.network,
        "mode": network.mode or "normal",
        "members": len(network.individual_models),
        "trainable": sum(sizes[name] for name, variable in member.items() if variable.trainable),
        "statistics": sum(sizes[name] for name, variable in member.items() if not variable.trainable),
        "settings": network.settings.model_dump(mode="json"),
        "notes": getattr(network, "notes", {}),
    }
