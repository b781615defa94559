"""Hypnograms of whole nights: a semi-Markov model whose figures are in params/hypnogram.yaml.

A night is a row of bouts. At the end of a bout the next stage is chosen by odds that depend on the stage, on
the one before it, on where in the sleep cycle it happens (minutes since the last bout of R ended, or since
sleep onset before the first one) and on the quarter of the night. The length of the new bout is drawn in the
same way from a few classes, short to long, each a lognormal cut into epochs. Nights differ in how long their
bouts are. Everything is simulated: no hypnogram from here is anybody's night.
"""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import numpy as np
from pydantic import AfterValidator, Field, ValidationInfo, model_validator
from scipy.special import ndtr

from sleep_interpreter.data.simulation.random_numbers import generator
from sleep_interpreter.utils.core.config import Settings, load
from sleep_interpreter.utils.core.constants import REM, STAGING_SECONDS, WAKE
from sleep_interpreter.utils.core.errors import UserError, nearest

StageKey = Literal["W", "N2", "N3", "R"]
KEYS = get_args(StageKey)
"""Stages as settings name them; a stage's code is its place here, as in `utils.core.constants.STAGES`."""
START = "start"
"""Stands for the stage before the first one of a night."""
EPOCHS_PER_MIN = 60 // STAGING_SECONDS
LEVELS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
"""Probabilities of the quantiles that `Quantiles` hold."""
QUARTERS = 4
_LONGEST = 16 * 60 * EPOCHS_PER_MIN
_NAMES = {"W": 0, "WAKE": 0, "N1": 0, "W/N1": 0, "N2": 1, "N3": 2, "R": 3, "REM": 3}

_Bouts = tuple[tuple[StageKey, Annotated[float, Field(gt=0, le=960)]], ...]


def _whole_epochs(stages: _Bouts, info: ValidationInfo) -> _Bouts:
    if not stages:
        raise ValueError(f"{info.field_name} is empty: list [stage, minutes]")
    for stage, minutes in stages:
        if (minutes * EPOCHS_PER_MIN) % 1:
            raise ValueError(f"stage {stage} lasts {minutes} min: give whole epochs of 30 s")
    return stages


GivenStages = Annotated[_Bouts, AfterValidator(_whole_epochs)]
"""Stages with their minutes."""
Share = Annotated[float, Field(ge=0, le=1)]
Quantiles = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=11, max_length=11)]
"""Quantiles of a distribution at `LEVELS`; drawn from with straight lines between them."""
Factors = tuple[Annotated[float, Field(gt=0, le=1e6)], ...]
"""What the odds of each option are multiplied by."""


class Odds(Settings):
    """Odds of several options: `base` times one row of `after`, of `cycle` and of `quarter`."""

    base: tuple[Annotated[float, Field(ge=0, le=1e6)], ...] = Field(min_length=1)
    after: dict[Literal["start", StageKey], Factors]
    cycle: tuple[Factors, ...]
    quarter: tuple[Factors, Factors, Factors, Factors]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not any(self.base):
            raise ValueError("base holds only zeros: at least one option must be possible")
        rows = {"after": self.after.items(), "cycle": enumerate(self.cycle), "quarter": enumerate(self.quarter)}
        for name, key, row in ((name, key, row) for name, own in rows.items() for key, row in own):
            if len(row) != len(self.base):
                raise ValueError(f"{name}.{key} has {len(row)} factors, but base has {len(self.base)} options")
        return self

    def chances(self, before: Literal["start", StageKey], cycle: int, quarter: int) -> np.ndarray:
        """Return the options' probabilities after stage `before` ("start", "W", ...)."""
        odds = np.array(self.base) * np.array(self.after[before]) * self.cycle[cycle] * self.quarter[quarter]
        return odds / odds.sum()


class StageModel(Settings):
    """What happens in and after a bout of one stage.

    `next`: the other three stages in the order W, N2, N3, R. `length`: the classes of bout length, whose medians in
    minutes are `median_min` and whose standard deviations of the logarithm are `spread`. `tendency`: share of the
    variance of bout lengths (as normal scores) that lies between nights. `shift` is added to every score: nights with
    long bouts have fewer of them, which alone would make bouts too short.
    """

    next: Odds
    length: Odds
    median_min: tuple[Annotated[float, Field(gt=0, le=300)], ...]
    spread: tuple[Annotated[float, Field(gt=0, le=3)], ...]
    tendency: float = Field(ge=0, lt=1)
    shift: float = Field(0.0, ge=-1, le=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.next.base) != len(KEYS) - 1:
            raise ValueError(f"next has {len(self.next.base)} options: give odds of the other three stages")
        if not len(self.length.base) == len(self.median_min) == len(self.spread):
            raise ValueError("length, median_min and spread must have the same number of classes")
        return self


class StageModels(Settings):
    """The four stages."""

    W: StageModel
    N2: StageModel
    N3: StageModel
    R: StageModel


class BoutStatistics(Settings):
    """Bout lengths of one stage in minutes; `cumulative`: share of bouts up to `BOUT_MIN`."""

    per_night: float = Field(ge=0)
    mean_min: float = Field(ge=0)
    median_min: float = Field(ge=0)
    p90_min: float = Field(ge=0)
    cumulative: tuple[Share, ...]


class NightStatistics(Settings):
    """What `benchmarks.simulator.hypnogram_fit.describe` says of some nights; see there."""

    nights: int = Field(ge=1)
    epochs: int = Field(ge=1)
    night_hours: tuple[float, float]
    share: dict[StageKey, Share]
    share_sd: dict[StageKey, Share]
    share_by_quarter: tuple[dict[StageKey, Share], ...] = Field(min_length=QUARTERS, max_length=QUARTERS)
    transitions: dict[StageKey, dict[StageKey, Share]]
    bouts: dict[StageKey, BoutStatistics]
    first_min: dict[StageKey, tuple[float, float, float, float, float]]
    rem_cycle_min: tuple[float, float, float, float, float]
    lacking: dict[StageKey, Share]
    sleep: dict[str, float]


class HypnogramModel(Settings):
    """The model of a night, or a hypnogram that the user gives.

    `given` is either a list of [stage, minutes] or the path of a text file with one stage a line, an epoch of 30 s
    each; every night is that one then. `hours` makes every night equally long. `observed` is what the recordings look
    like that the model was fitted to.
    """

    source: str
    given: str | GivenStages | None = None
    hours: float | None = Field(None, ge=1, le=16)
    night_hours: Quantiles
    sleep_latency_min: Quantiles
    final_wake_min: Quantiles
    cycle_from_min: tuple[Annotated[float, Field(ge=0, le=600)], ...] = Field(min_length=1)
    stages: StageModels
    observed: NightStatistics

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in ("night_hours", "sleep_latency_min", "final_wake_min"):
            values = getattr(self, name)
            if list(values) != sorted(values):
                raise ValueError(f"{name} holds quantiles: they must not decrease")
        if self.night_hours[-1] > 16:
            raise ValueError(f"night_hours reaches {self.night_hours[-1]} h: at most 16 h")
        shortest = 60 * (self.night_hours[0] if self.hours is None else self.hours)
        if (awake := self.sleep_latency_min[-1] + self.final_wake_min[-1]) >= shortest:
            raise ValueError(
                f"sleep_latency_min and final_wake_min reach {awake:g} min together, but a night may have "
                f"only {shortest:g} min: shorten them or lengthen the night"
            )
        edges = self.cycle_from_min
        if edges[0] != 0 or any(low >= high for low, high in pairwise(edges)):
            raise ValueError(f"cycle_from_min {list(edges)} must begin with 0 and increase")
        for key in KEYS:
            stage = getattr(self.stages, key)
            needed = {START, *KEYS} - {key}
            for name, odds in (("next", stage.next), ("length", stage.length)):
                if len(odds.cycle) != 2 * len(edges):
                    raise ValueError(
                        f"stages.{key}.{name}.cycle has {len(odds.cycle)} rows, expected {2 * len(edges)}: "
                        "those of cycle_from_min before the first R, then those after it"
                    )
                if set(odds.after) != needed:
                    raise ValueError(f"stages.{key}.{name}.after must have the keys {sorted(needed)}")
        return self


def load_hypnogram(group: str = "training", overrides: Iterable[str] = ()) -> HypnogramModel:
    """Read params/hypnogram.yaml, with "a.b=c" `overrides` merged in.

    `group` is the recordings that the figures were fitted to: "training" (123), "test" (12, with longer bouts of R).
    """
    return load(HypnogramModel, "hypnogram", mode=None if group == "training" else group, overrides=overrides)


def simulate_hypnogram(settings: HypnogramModel, seed: int, *purpose: str | int) -> np.ndarray:
    """Simulate the hypnogram of one night: codes of `utils.core.constants.STAGES`, one each 30 s, int8 (n,).

    `purpose` says whose night it is, e.g. "train", 7 (see `random_numbers.generator`); no night depends on others.
    Raises `UserError` where the file that `settings.given` names is missing or holds anything but stages.
    """
    if settings.given is not None:
        return given_hypnogram(settings.given)
    rng = generator(seed, "hypnogram", *purpose)
    night, latency, awake = (
        np.interp(rng.uniform(), LEVELS, values)
        for values in (settings.night_hours, settings.sleep_latency_min, settings.final_wake_min)
    )
    n_epochs = round((night if settings.hours is None else settings.hours) * 60 * EPOCHS_PER_MIN)
    onset, stop = round(latency * EPOCHS_PER_MIN), n_epochs - round(awake * EPOCHS_PER_MIN)
    # One tendency for all sleep and one for wakefulness: nights with short bouts of N2 have short ones of N3
    # and R too, which makes a night restless without changing the shares of these stages.
    tendency = rng.standard_normal(2)
    stages = [getattr(settings.stages, key) for key in KEYS]
    classes = [cumulative(np.arange(1, _LONGEST + 1), stage.median_min, stage.spread) for stage in stages]

    hypnogram = np.full(n_epochs, WAKE, np.int8)
    before: Literal["start", StageKey] = "start"
    now, time, anchor, first_cycle = WAKE, onset, onset, True
    while time < stop:
        place = (cycle_place(settings.cycle_from_min, time - anchor, first_cycle), QUARTERS * time // n_epochs)
        chances = stages[now].next.chances(before, *place)
        others = [code for code in range(len(KEYS)) if code != now]
        before, now = KEYS[now], others[rng.choice(len(others), p=chances)]
        stage = stages[now]
        score = stage.shift + np.sqrt(stage.tendency) * tendency[int(now != WAKE)]
        score += np.sqrt(1 - stage.tendency) * rng.standard_normal()
        curve = classes[now] @ stage.length.chances(before, *place)
        length = min(int(np.searchsorted(curve, ndtr(score))) + 1, stop - time)
        hypnogram[time : time + length] = now
        time += length
        if now == REM:
            anchor, first_cycle = time, False
    return hypnogram


def cycle_place(edges_min: tuple[float, ...], epochs: int, first_cycle: bool) -> int:
    """Return the row of `Odds.cycle`: `epochs` since the last R, or since sleep onset if `first_cycle`."""
    row = int(np.searchsorted(edges_min, epochs / EPOCHS_PER_MIN, side="right")) - 1
    return row if first_cycle else row + len(edges_min)


def cumulative(epochs: np.ndarray, median_min: Iterable[float], spread: Iterable[float]) -> np.ndarray:
    """Return the share (n, k) of bouts of at most `epochs` (n,) in each class (k,): lognormals cut into epochs.

    Lengths from half an epoch below to half an epoch above a number are that number; nothing is shorter than one epoch.
    """
    epochs = np.asarray(epochs, float)[:, None]
    median = np.asarray(median_min) * EPOCHS_PER_MIN
    score = (np.log(np.maximum(epochs, 0.5) + 0.5) - np.log(median)) / np.asarray(spread)
    return np.where(epochs < 1, 0.0, ndtr(score))


def given_hypnogram(given: str | Path | Iterable[tuple[str, float]]) -> np.ndarray:
    """Return the hypnogram that a user gives, int8 (n_epochs,): [stage, minutes] pairs or a text file.

    Stages in a file: W, N1, W/N1, N2, N3, R, REM, in any case, one a line; numbers are refused: programs count
    differently. Raises `UserError` where the file is missing, empty, or a line is no stage.
    """
    if not isinstance(given, str | Path):
        stages, minutes = zip(*given, strict=True)
        epochs = [round(length * EPOCHS_PER_MIN) for length in minutes]
        return np.repeat(np.array([KEYS.index(stage) for stage in stages], np.int8), epochs)
    path = Path(given)
    try:
        lines = path.read_text(encoding="utf-8").rstrip().split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: hypnogram file not found") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; write one stage a line, e.g. N2") from None
    if lines == [""]:
        raise UserError(f"{path}: holds no stages; write one a line, e.g. N2")
    codes = []
    for number, line in enumerate(lines, 1):
        name = line.strip().upper()
        if name not in _NAMES:
            close = nearest(name, _NAMES, 1)
            hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(_NAMES)}"
            raise UserError(f"{path}, line {number}: no stage {line.strip()[:30]!r}; {hint}")
        codes.append(_NAMES[name])
    return np.array(codes, np.int8)
