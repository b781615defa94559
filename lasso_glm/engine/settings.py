"""Settings that the Lasso GLM experiments share (params/lasso_glm.yaml)."""

import argparse
import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt

from sleep_interpreter.train.settings.experiment import DataSettings
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import ASLEEP, DataCard
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.metrics.exchangeability import Permute

STEP = 0.1
"""Seconds from one window of a sleep trial to the next, unless set."""


class Penalty(config.Settings):
    """Of the objective; see `model.lasso_glm.LassoGLM`."""

    l1: float = Field(gt=0)
    l2: float = Field(ge=0)


class Windows(config.Settings):
    """How a sleep trial is cut, in seconds; what is None follows from the data card (`for_card`)."""

    seconds: float | None = Field(default=None, gt=0)
    step: float | None = Field(default=None, gt=0)
    count: PositiveInt | None = None

    def samples(self, card: DataCard) -> dict[str, int]:
        """Return step and number of the windows, in samples of a card's trials."""
        assert self.step is not None and self.count is not None, "they follow the card"
        return {"step": round(self.step * card.rate_hz), "count": self.count}

    @property
    def offsets(self) -> list[float]:
        """Where each window begins in a sleep trial, s."""
        assert self.step is not None and self.count is not None, "they follow the card"
        return [round(self.step * place, 4) for place in range(self.count)]

    def for_card(self, card: DataCard, cut: bool = False) -> Self:
        """Return windows as long as an awake trial, every 0.1 s, as many as a sleep trial holds, unless set.

        Where trials are `cut` into them, windows that do not fit a card's trials are refused (`UserError`).
        """
        awake, asleep, rate = card.awake_samples, card.sleep_samples, card.rate_hz
        seconds = awake / rate if self.seconds is None else self.seconds
        step = max(1, round(STEP * rate)) / rate if self.step is None else self.step
        count = max(1, (asleep - awake) // max(1, round(step * rate)) + 1) if self.count is None else self.count
        for value in (seconds, step) if cut else ():
            if abs(value * rate - round(value * rate)) > 1e-6:
                raise UserError(f"windows: {value:g} s is no whole number of samples at {rate:g} Hz")
        if cut and round(seconds * rate) != awake:
            raise UserError(f"windows of {seconds:g} s, awake trials last {awake / rate:g} s")
        last = (count - 1) * round(step * rate) + awake
        if cut and last > asleep:
            raise UserError(
                f"windows: the last window ends after {last / rate:g} s, sleep trials last {asleep / rate:g} s"
            )
        return self.model_copy(update={"seconds": seconds, "step": step, "count": count})


class Statistics(config.Settings):
    """Intervals and tests over subjects."""

    permutations: int = Field(ge=100)
    permute: Permute = "auto"
    cluster_p: float = Field(gt=0, lt=0.5)
    seed: int = Field(ge=0)


class LassoSettings(config.Settings):
    """What all seven experiments share."""

    data: DataSettings
    penalty: Penalty
    scale: Literal["own", "train", "none"]
    percentile: float = Field(gt=0, le=100)
    folds: int = Field(ge=3, le=20)
    split: Literal["random", "contiguous", "by_run"] = "random"
    windows: Windows
    seed: int = Field(ge=0)
    statistics: Statistics

    def for_card(self, card: DataCard, cut: bool = False) -> Self:
        """Return the settings with everything in them that follows from a data card; `cut` as in `Windows`."""
        return self.model_copy(update={"windows": self.windows.for_card(card, cut)})

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


def seconds(domain: str, samples: int, card: DataCard) -> list[float]:
    """Return the time of each sample in s: after a picture's or sound's onset, or around a cue in sleep."""
    window = card.windows.sleep if domain in ASLEEP else card.windows.wake
    return [round(sample / card.rate_hz + window.begin, 4) for sample in range(samples)]
