"""Settings that the Lasso GLM experiments share (params/lasso_glm.yaml)."""

import argparse
import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from sleep_interpreter.train.settings.experiment import DataSettings
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.constants import SLEEP_RATE

AWAKE_SAMPLES, SLEEP_SAMPLES = 80, 200
BEFORE_CUE = 0.2
"""Seconds of a sleep trial that lie before the cue; awake trials begin at the onset."""


class Penalty(config.Settings):
    """Of the objective; see `model.lasso_glm.LassoGLM`."""

    l1: float = Field(gt=0)
    l2: float = Field(ge=0)


class Windows(config.Settings):
    """How a sleep trial is cut, in seconds."""

    seconds: float = Field(gt=0)
    step: float = Field(gt=0)
    count: PositiveInt

    @property
    def samples(self) -> dict[str, int]:
        """The same in samples."""
        return {"step": round(self.step * SLEEP_RATE), "count": self.count}

    @model_validator(mode="after")
    def _fit(self) -> Self:
        for value in (self.seconds, self.step):
            if abs(value * SLEEP_RATE - round(value * SLEEP_RATE)) > 1e-9:
                raise ValueError(f"{value} s is no whole number of samples at {SLEEP_RATE:g} Hz")
        if round(self.seconds * SLEEP_RATE) != AWAKE_SAMPLES:
            raise ValueError(f"windows of {self.seconds} s, awake trials last {AWAKE_SAMPLES / SLEEP_RATE} s")
        last = (self.count - 1) * self.samples["step"] + AWAKE_SAMPLES
        if last > SLEEP_SAMPLES:
            raise ValueError(f"the last window ends after {last / SLEEP_RATE} s, sleep trials last 2 s")
        return self


class Statistics(config.Settings):
    """Intervals and tests over subjects."""

    bootstrap: int = Field(ge=100)
    permutations: int = Field(ge=100)
    cluster_p: float = Field(gt=0, lt=0.5)
    seed: int = Field(ge=0)


class LassoSettings(config.Settings):
    """What all seven experiments share."""

    data: DataSettings
    penalty: Penalty
    scale: Literal["own", "train", "none"]
    percentile: float = Field(gt=0, le=100)
    folds: int = Field(ge=3, le=20)
    windows: Windows
    seed: int = Field(ge=0)
    statistics: Statistics

    @property
    def glm(self) -> dict[str, Any]:
        """Arguments of `model.lasso_glm.TimeResolvedLassoGLM`."""
        scale = None if self.scale == "none" else self.scale
        return {"l1": self.penalty.l1, "l2": self.penalty.l2, "scale": scale, "percentile": self.percentile}


def read(args: argparse.Namespace) -> LassoSettings:
    """Return the settings that a script's command line asks for, or raise a `UserError`."""
    overrides = list(args.overrides)
    if args.data is not None:
        overrides.append(f"data.root={json.dumps(str(Path(args.data).absolute()))}")
    return config.load(LassoSettings, args.config or "lasso_glm", overrides=overrides, quick=args.quick)


def seconds(domain: str, samples: int) -> list[float]:
    """Return the time of each sample in s: after a picture's or sound's onset, or around a cue in sleep."""
    before = BEFORE_CUE if domain in ("N2N3", "REM") else 0.0
    return [round(sample / SLEEP_RATE - before, 4) for sample in range(samples)]
