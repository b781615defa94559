"""Settings of an experiment: what params/*.yaml hold for the training and test scripts."""

import argparse
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, StringConstraints, field_validator

from sleep_interpreter.model import registry
from sleep_interpreter.model.registry import PARAMS_FOLDERS, ModelSettings
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import DataCard, card_of
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import PROJECT, RESULTS, display_path, relative_to_project
from sleep_interpreter.utils.core.registry import Registry
from sleep_interpreter.utils.metrics.exchangeability import Permute


class DataSettings(config.Settings):
    """Which data set: a folder; a relative one counts from `utils.core.paths.PROJECT`."""

    root: Annotated[str, AfterValidator(relative_to_project)] = "data"


SCHEDULES = Registry(
    "learning-rate schedule",
    "sleep_interpreter.schedules",
    {name: f"sleep_interpreter.train.engine.schedules:{name}" for name in ("constant", "cosine", "steps")},
)
"""{`train.schedule.kind`: function of train/engine/schedules.py or of another package}"""
AUGMENTATIONS = Registry(
    "augmentation",
    "sleep_interpreter.augmentations",
    {
        name: f"sleep_interpreter.train.engine.augmentation:{name}"
        for name in ("time_shift", "channel_dropout", "noise", "mixup", "fourier_surrogate")
    },
)
"""{`kind` of an entry of `train.augment`: function of train/engine/augmentation.py or of another package}"""


class ScheduleSettings(config.Settings):
    """How the learning rate changes from epoch to epoch."""

    kind: Annotated[str, AfterValidator(SCHEDULES.check)] = "constant"
    warmup_epochs: int = Field(0, ge=0)
    floor: float = Field(0.0, ge=0, le=1)
    every_epochs: PositiveInt = 30
    drop: float = Field(0.1, gt=0, le=1)

    @property
    def is_constant(self) -> bool:
        """Whether every epoch has the same rate, as published."""
        return self.kind == "constant" and not self.warmup_epochs


class AugmentationSettings(config.Settings):
    """A change of training trials: which, how strong, of what share of the trials and in which signals."""

    kind: Annotated[str, AfterValidator(AUGMENTATIONS.check)]
    amount: float = Field(gt=0)
    share: float = Field(1.0, gt=0, le=1)
    signals: tuple[Literal["sleep", "image", "audio"], ...] = ("sleep",)


class TrainSettings(config.Settings):
    """How members are trained."""

    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    seed: int = Field(ge=0)
    optimizer: Literal["adamw", "adam"] = "adamw"
    validation_subjects: int = Field(0, ge=0)
    keep_epochs: int = Field(0, ge=0)
    shuffle_labels: bool = False
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """Of the computing; weights are float32 in both. bfloat16 has the range of float32, so that no loss is scaled."""
    schedule: ScheduleSettings = ScheduleSettings()
    augment: tuple[AugmentationSettings, ...] = ()


class FinetuneSettings(config.Settings):
    """How a trained ensemble is fitted to one test subject (with Adam; SPEC section 2)."""

    learning_rate: float = Field(gt=0)
    batch_size: PositiveInt
    epochs: PositiveInt
    seed: int = Field(ge=0)
    freeze: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    """Patterns (fnmatch) over names of layers as in a checkpoint: "*_emb_input/conv1d_layer*"."""


class EvaluateSettings(config.Settings):
    """How a trained network is evaluated."""

    batch_size: PositiveInt
    bootstrap: int = Field(ge=100)
    permutations: int = Field(10_000, ge=100)
    permute: Permute = "auto"
    calibration_bins: int = Field(15, ge=2, le=100)
    seed: int = Field(ge=0)


class StagingEvaluation(config.Settings):
    """What a stager's evaluation adds: smoothing, YASA beside it, and the gates it is tried in."""

    smoothing: float = Field(0.1, gt=0, le=1)
    latency_smoothing: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.5, 0.2, 0.1)
    block_minutes: float = Field(10.0, ge=0.5)
    reliability_bins: int = Field(10, ge=2, le=100)
    yasa: bool = True
    yasa_every_seconds: float = Field(30.0, ge=0.1, le=30)
    stitched_microvolts: tuple[float, float, float] = (25.0, 40.0, 10.0)
    gate_every_windows: PositiveInt = 2
    gate_thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    gate_detections: tuple[PositiveInt, ...] = (1, 5, 10, 20, 30, 40)

    @field_validator("yasa_every_seconds")
    @classmethod
    def _ends_of_epochs(cls, seconds: float) -> float:
        if abs(30 / seconds - round(30 / seconds)) > 1e-9:
            raise ValueError("must go into 30 s a whole number of times, so that epochs' ends are staged")
        return seconds


class Experiment(config.Settings):
    """One experiment: a network, its data, its training and its evaluation."""

    network: str
    stage: str = "N2N3"
    members: PositiveInt
    model: ModelSettings
    data: DataSettings
    train: TrainSettings
    evaluate: EvaluateSettings
    finetune: FinetuneSettings | None = None
    staging: StagingEvaluation | None = None


def read(name: str, args: argparse.Namespace, network: str | None = None, card: DataCard | None = None) -> Experiment:
    """Return the `Experiment` that a script's command line asks for.

    `args` has `config` (a file instead of `name` in params/), `overrides`, `quick`, `mode`, and None or a value in
    `members` and `data`. The script is for `network` (None: that called `name`); settings of another one are refused,
    as is whatever `utils.core.config.load` refuses. `card`: that of data in memory; None takes that of `data.root`.
    """
    network = network or name
    overrides = list(args.overrides)
    if getattr(args, "members", None) is not None:
        overrides.append(f"members={args.members}")
    if getattr(args, "data", None) is not None:
        overrides.append(f"data.root={json.dumps(str(Path(args.data).absolute()))}")
    path = config.find(args.config or name, PARAMS_FOLDERS)
    mode = getattr(args, "mode", None)
    tree, origin = config.resolve(path, overrides=overrides, quick=args.quick, mode=mode, needs="network")
    if tree["network"] != network:
        raise UserError(f"{origin['network']}: describes network {tree['network']}, this script is for {network}")
    _follow_card(tree, card)
    return config.validate(Experiment, tree, display_path(path), origin)


def _follow_card(tree: dict[str, Any], card: DataCard | None) -> None:
    """Fill in the sizes of the network that the settings leave to the card of the data."""
    model, data = tree.get("model"), tree.get("data")
    root = data.get("root", "data") if isinstance(data, dict) else None
    if isinstance(model, dict) and isinstance(root, str):
        card = card or card_of(PROJECT / relative_to_project(root))
        tree["model"] = registry.follow_card(registry.KINDS, model, card)


def differences(saved: Path, settings: Experiment) -> dict[str, tuple[Any, Any]]:
    """Return {"train.epochs": (saved, now)} of every setting that differs from a run's settings.yaml.

    Both are read as `Experiment`: another spelling of a value or a newer version's default is no difference.
    """
    before = config.flat(config.load(Experiment, saved).model_dump(mode="json"))
    now = config.flat(settings.model_dump(mode="json"))
    keys = sorted(before.keys() | now.keys())
    return {k: (before.get(k), now.get(k)) for k in keys if before.get(k) != now.get(k)}


def results_root(args: argparse.Namespace) -> Path:
    """Return the results folder: --results, or results/ (results/quick under --quick)."""
    if args.results:
        return Path(args.results)
    return RESULTS / "quick" if args.quick else RESULTS
