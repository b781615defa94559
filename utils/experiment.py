"""Settings of an experiment: what params/*.yaml hold for the training and test scripts."""

import json
from pathlib import Path

from pydantic import Field, PositiveInt

from model.settings import ModelSettings
from utils import config
from utils.errors import UserError
from utils.paths import DATA, RESULTS, ROOT, shown

RUN_NAMES = {
    ("N23SIMD", "normal"): "N2N3_SIMD",
    ("N23SIMD", "retrained"): "N2N3_SIMD_Retrained",
    ("N23SISD", "normal"): "N2N3_SISD",
    ("REMSIMD", "normal"): "REM_SIMD",
    ("REMSISD", "normal"): "REM_SISD",
}
"""Folder of a network under results/Decoding checkpoint/, after the released checkpoints' names."""

RELEASED_NAMES = {
    ("N23SIMD", "normal"): ("N2N3_SIMD.ckpt", "N2N3_SIMD_model.ckpt", "N23_SIMD_model.ckpt"),
    ("N23SIMD", "retrained"): ("N2N3_SIMD_Retrained.ckpt",),
    ("N23SISD", "normal"): ("N2N3_SISD.ckpt", "N2N3_SISD_model.ckpt", "N23_SISD_model.ckpt"),
    ("REMSIMD", "normal"): ("REM_SIMD.ckpt", "REM_SIMD_model.ckpt"),
    ("REMSISD", "normal"): ("REM_SISD.ckpt", "REM_SISD_model.ckpt"),
    ("SIStaging", "normal"): ("Staging_model.ckpt",),
}
"""File names that the released checkpoints go by (the original's scripts disagree among themselves)."""


class DataSettings(config.Settings):
    """Which data set."""

    root: str = "data"


class TrainSettings(config.Settings):
    """How members are trained."""

    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    seed: int = Field(ge=0)


class EvaluateSettings(config.Settings):
    """How a trained network is evaluated."""

    batch_size: PositiveInt
    bootstrap: int = Field(ge=100)
    seed: int = Field(ge=0)


class Experiment(config.Settings):
    """One experiment: a network, its data, its training and its evaluation."""

    network: str
    stage: str = "N2N3"
    members: PositiveInt
    model: ModelSettings
    data: DataSettings
    train: TrainSettings
    evaluate: EvaluateSettings


def read(name, args):
    """Return the `Experiment` that a script's command line asks for.

    Parameters
    ----------
    name : str
        Name in params/, used unless ``--config`` names a file.
    args : argparse.Namespace
        With `config`, `overrides`, `quick`, `mode`, and None or a value in `members` and `data`.
    """
    overrides = list(args.overrides)
    if getattr(args, "members", None) is not None:
        overrides.append(f"members={args.members}")
    if getattr(args, "data", None) is not None:
        overrides.append(f"data.root={json.dumps(str(Path(args.data).absolute()))}")
    source = args.config or name
    mode = getattr(args, "mode", None)
    settings = config.load(Experiment, source, overrides=overrides, quick=args.quick, mode=mode)
    if settings.network != name:
        raise UserError(f"{source}: describes network {settings.network}, this script is for {name}")
    return settings


def data_root(settings):
    """Return the data folder; a relative one in a settings file counts from the project's folder."""
    return ROOT / settings.data.root


def results_root(args):
    """Return the results folder: --results, or results/ (results/quick under --quick)."""
    if args.results:
        return Path(args.results)
    return RESULTS / "quick" if args.quick else RESULTS


def run_folder(root, network, mode=None):
    """Return the folder that holds a trained network under the results folder `root`."""
    kind = "Staging checkpoint" if network == "SIStaging" else "Decoding checkpoint"
    return root / kind / RUN_NAMES.get((network, mode or "normal"), network)


def find_checkpoint(results, network, mode=None):
    """Return the checkpoint to evaluate: what this project trained, otherwise a released one.

    Raises
    ------
    UserError
        Neither is there; both places are named.
    """
    trained = run_folder(results, network, mode) / "ensemble.npz"
    if trained.is_file():
        return trained
    folder = DATA / "Model checkpoint" / ("Staging" if network == "SIStaging" else "Decoding")
    names = RELEASED_NAMES[network, mode or "normal"]
    for name in names:
        if (folder / f"{name}.index").is_file():
            return folder / name
    option = f" --mode {mode}" if mode not in (None, "normal") else ""
    raise UserError(
        f"no checkpoint of {network}: neither {shown(trained)} (made by `python train/{network}.py{option}`) "
        f"nor {' or '.join(names)} in {shown(folder)}"
    )
