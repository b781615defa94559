"""Studies in which nothing is to be found: rates of reactivation, their relation to memory, conditions, stagers.

Everything is drawn by a random generator, so a study is as large as its caller likes; all of it is simulated.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.train.evaluation import reactivation_events
from sleep_interpreter.train.evaluation.sliding_decoder import Course, ReactivationSettings
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.data_card import published

ITEMS = published().item_names
"""Names that a study of so many items takes from."""


def share_below(p_of_a_study: Callable[[np.random.Generator], float], studies: int, seed: int) -> float:
    """Return the share of so many studies, each with a generator of its own, that give p of 0.05 or less."""
    return float(np.mean([p_of_a_study(np.random.default_rng([seed, k])) <= 0.05 for k in range(studies)]))


def noise_course(
    rng: np.random.Generator, minutes: float, stages: tuple[str, ...] = ("N2",), items: int = 15
) -> Course:
    """Return what a decoder says of noise, a window a second, so many minutes of each stage."""
    each = round(60 * minutes)
    n = each * len(stages)
    evidence = np.exp(rng.standard_normal((n, items)))
    stage = np.repeat([STAGES.index(name) for name in stages], each)
    probability = (evidence / evidence.sum(axis=1, keepdims=True)).astype(np.float32)
    return Course(np.arange(n, dtype=float), stage, stage, probability, np.ones(n, bool), ITEMS[:items])


def noise_rates(
    rng: np.random.Generator, subject: str, settings: ReactivationSettings, control_minutes: float,
    night_minutes: float, stages: tuple[str, ...] = ("N2",), controls: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """Return the rates of one subject whose night is like its control, in minutes of each stage."""
    parts = [noise_course(rng, control_minutes / controls, stages) for _ in range(controls)]
    levels = reactivation_events.thresholds(parts, settings, 1.0)
    night = noise_course(rng, night_minutes, stages)
    return reactivation_events.rates(
        subject, night, reactivation_events.find_events(night, levels, settings), levels, 1.0
    )


def counted_rates(
    rng: np.random.Generator, subjects: int, half_minutes: float, night_minutes: float, allowed: int = 1,
    between: float = 0.0,
) -> pd.DataFrame:  # fmt: skip
    """Return the rates of a study in which events come at random, by their counts alone: thousands in a second.

    The threshold is the score of the control's event after the `allowed` highest, so that the rate above it is a
    gamma variate; night and counting half of the control have that rate, the night's varying between subjects by a
    factor of SD `between` (of its logarithm) and mean 1.
    """
    rate = rng.gamma(allowed + 1, 1 / half_minutes, subjects)
    minutes = night_minutes * np.exp(rng.normal(0, 0.3, subjects))
    own = rate * np.exp(rng.normal(0, between, subjects) - between**2 / 2)
    counts = {
        "subject": [f"s{k}" for k in range(subjects)], "stage": "N2", "item": "alarm",
        "events": rng.poisson(own * minutes), "minutes": minutes,
        "control_events": rng.poisson(rate * half_minutes), "control_minutes": half_minutes,
    }  # fmt: skip
    return reactivation_events.with_excess(pd.DataFrame(counts))


def memory_study(
    rng: np.random.Generator, subjects: int, items: int = 15, shared: float = 0.5, relation: float = 0.0,
    per_night: float = 6.0, favoured: float = 0.0,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Return the rates and the memory scores of a study of items that all subjects share.

    `shared` is the share of the variance between items that is the same in all subjects, of events and of memory,
    each for itself; `relation` the correlation of what is a subject's own. There are `per_night` events an item on
    average; `favoured` is the SD (of the logarithm) of how much more often the decoder names an item, in the night
    and in its control.
    """
    common = rng.standard_normal((2, items))
    own = rng.standard_normal((2, subjects, items))
    own[1] = relation * own[0] + np.sqrt(1 - relation**2) * own[1]
    events, memory = np.sqrt(shared) * common[:, None] + np.sqrt(1 - shared) * own
    favour = np.exp(favoured * rng.standard_normal(items))
    found = rng.poisson(per_night * favour * np.exp(0.5 * events))
    usual = rng.poisson(np.tile(favour, (subjects, 1)))
    names = [f"s{k}" for k in range(subjects)]
    index = pd.MultiIndex.from_product([names, ITEMS[:items]], names=["subject", "item"])
    counts = pd.DataFrame({"events": found.ravel(), "control_events": usual.ravel()}, index).reset_index()
    rates = reactivation_events.with_excess(counts.assign(stage="N2", minutes=120.0, control_minutes=30.0))
    return rates, pd.DataFrame({"score": memory.ravel()}, index).reset_index()


def condition_values(
    rng: np.random.Generator, subjects: int, minutes: tuple[float, float] = (60.0, 60.0), between: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rates (S,) of two conditions of unequal length in the same subjects, with no difference on average.

    `between` is the SD of the logarithm of a subject's rate in a condition.
    """
    rate = rng.gamma(4, 0.05, subjects)
    own = rate * np.exp(rng.normal(0, between, (2, subjects)) - between**2 / 2)
    first, second = (rng.poisson(r * m) / m for r, m in zip(own, minutes, strict=True))
    return first, second


def staged_nights(rng: np.random.Generator, nights: int, epochs: int = 900) -> dict[str, dict[str, np.ndarray]]:
    """Return stages {"expert", "stager", "YASA": {night: (epochs,)}}: both err as often on average, a night varies."""
    found: dict[str, dict[str, np.ndarray]] = {"expert": {}, "stager": {}, "YASA": {}}
    for night in range(nights):
        truth = np.repeat(rng.integers(0, 4, epochs // 20), 20)
        found["expert"][f"n{night}"] = truth
        for scorer in ("stager", "YASA"):
            right = np.clip(rng.normal(0.8, 0.06), 0.4, 1.0)
            wrong = np.repeat(rng.random(len(truth) // 5) > right, 5)  # neighbouring epochs are alike
            found[scorer][f"n{night}"] = np.where(wrong, (truth + rng.integers(1, 4, len(truth))) % 4, truth)
    return found


def summary_of(values: list[Any]) -> tuple[float, float]:
    """Return the mean of values and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
