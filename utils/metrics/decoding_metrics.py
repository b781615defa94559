"""From a subject's predictions to its row of numbers, and from all subjects' rows to the overall one."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.metrics import exchangeability, statistics
from sleep_interpreter.utils.metrics.reliability import confidence_reliability


class EvaluationSettings(statistics.Resampling, Protocol):
    """Settings of an evaluation: also resamples of one subject's balanced accuracy, and bins of confidence."""

    @property
    def bootstrap(self) -> int: ...
    @property
    def calibration_bins(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a decoder said about one subject's trials, which come from `file` (for messages).

    `label` (n,) is an index into `items`, their names in the order of the classes; `data_type` (n,) "train", "val" or
    "test", `probability` float32 (n, K). Trials are in order of time; `origin` has n rows that say where they come
    from, None where nobody knows.
    """

    subject: str
    file: Path
    label: np.ndarray
    data_type: np.ndarray
    probability: np.ndarray
    items: tuple[str, ...] = field(default_factory=lambda: published().item_names)
    origin: pd.DataFrame | None = None
    _exchanges: dict[str, exchangeability.Exchange] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.label)

    def exchange(self, permute: exchangeability.Permute) -> exchangeability.Exchange:
        """Return how the labels may be permuted (`exchangeability.exchange`), found once."""
        if permute not in self._exchanges:
            self._exchanges[permute] = exchangeability.exchange(
                self.label, exchangeability.runs_of(self.origin), permute, exchangeability.order_of(self.origin)
            )
        return self._exchanges[permute]

    @property
    def decoded(self) -> np.ndarray:
        """Index of the most probable item, int array (n,); ties go to the first of the items."""
        return np.asarray(self.probability).argmax(axis=1)

    @property
    def rank(self) -> np.ndarray:
        """Place of the true item, int array (n,): 0 is a top-1 hit, below 3 a top-3 hit."""
        return statistics.true_rank(self.label, self.probability)


def check(predictions: Sequence[Predictions]) -> None:
    """Refuse predictions that are no probabilities of their items.

    That is: no trial at all, a subject twice, subjects with different items, another number of classes or of rows,
    labels out of range, numbers that are not finite or do not add up to 1.
    """
    names = [p.subject for p in predictions]
    for name in sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{name}: its predictions were given twice; give every subject once")
    if not any(len(p) for p in predictions):
        raise UserError(f"{len(predictions)} test subjects were found, but none has a trial: nothing to evaluate")
    for p in predictions:
        if p.items != predictions[0].items:
            raise UserError(
                f"{p.file} ({p.subject}): its items are {', '.join(p.items)}, those of {predictions[0].subject} are "
                f"{', '.join(predictions[0].items)}"
            )
        problem = _problem(np.asarray(p.label), p.data_type, np.asarray(p.probability), len(p.items))
        if problem:
            raise UserError(f"{p.file} ({p.subject}): {problem}")


def _problem(label: np.ndarray, data_type: np.ndarray, probability: np.ndarray, classes: int) -> str | None:
    if probability.shape != (len(label), classes) or len(data_type) != len(label):
        return (
            f"expected probabilities of shape {(len(label), classes)}, found {probability.shape} for "
            f"{len(label)} labels and {len(data_type)} data types"
        )
    if len(label) and not (label.dtype.kind in "iu" and label.min() >= 0 and label.max() < classes):
        return f"labels have to be whole numbers from 0 to {classes - 1}"
    if not np.isfinite(probability).all():
        return "the network gave probabilities that are not finite"
    if len(label) and (probability.min() < 0 or np.abs(probability.sum(axis=1) - 1).max() > 1e-3):
        return "the network's outputs are no probabilities (negative, or not adding up to 1)"
    return None


def subject_row(
    predictions: Predictions, settings: EvaluationSettings
) -> tuple[dict[str, Any], dict[str, np.ndarray] | None]:
    """Measure one subject; return its row and its measures (permutations,) under permuted labels.

    Chance is that of its own labels and predictions (`statistics.chance`).
    The row: top-1 as in `statistics.proportion`, "top3" the same, "balanced" as in `statistics.balanced`, each with
    its "permutation" (`statistics.exchanged_p`); "recall" by item, "calibration", "data_types" (trials of each).
    Without trials n is 0, every figure and the second result None; the latter also where labels may not be permuted.
    The binomial p is None where trials may not change places.
    """
    p, chance = predictions, statistics.chance(predictions.label, predictions.probability)
    # A seed of the name: a subject's figures do not depend on which others are tested along with it.
    seed = [settings.seed, zlib.crc32(p.subject.encode())]
    rank = p.rank
    hits, n = statistics.class_counts(p.label, rank == 0, len(p.items))
    row = statistics.proportion(int(np.sum(rank == 0)), len(p), chance["top1"])
    row["top3"] = statistics.proportion(int(np.sum(rank < 3)), len(p), chance["top3"])
    row["balanced"] = statistics.balanced(hits, n, settings.bootstrap, seed, chance["balanced"])
    exchange = p.exchange(settings.permute)
    null = permuted(p, settings, np.random.default_rng(seed))
    observed = accuracies(p.label, p.probability) if len(p) else dict.fromkeys(statistics.MEASURES, 0.0)
    permutation = {
        m: statistics.exchanged_p(observed[m], None if null is None else null[m], [exchange])
        for m in statistics.MEASURES
    }
    if not exchange.as_one:
        row["p"] = row["top3"]["p"] = None
    row["permutation"] = permutation["top1"]
    row["top3"]["permutation"], row["balanced"]["permutation"] = permutation["top3"], permutation["balanced"]
    row["recall"] = recall(hits, n, p.items)
    row["calibration"] = confidence_reliability(p.label, p.probability, settings.calibration_bins)
    parts, counts = np.unique(np.asarray(p.data_type, str), return_counts=True)
    row["data_types"] = {str(part): int(count) for part, count in zip(parts, counts, strict=True)}
    return row, null


def permuted(
    predictions: Predictions, settings: statistics.Resampling, random: np.random.Generator
) -> dict[str, np.ndarray] | None:
    """Return one subject's measures (permutations,) under permuted labels; None where there are none to permute."""
    p, exchange = predictions, predictions.exchange(settings.permute)
    if not len(p) or exchange.kind == "none":
        return None
    return statistics.permutation_null(p.label, p.probability, settings.permutations, random, exchange)[1]


def overall_row(
    predictions: Sequence[Predictions], nulls: Sequence[dict[str, np.ndarray] | None], settings: EvaluationSettings
) -> dict[str, Any]:
    """Measure all subjects together, each counting once; `nulls` are what `permuted` gave of each.

    Every subject is tested against its own chance, and "chance" is the mean of these.
    The row: top-1 as in `statistics.over_subjects`, "top3" and "balanced" the same; in each "permutation" (mean over
    subjects against the mean over subjects of permuted labels), "prevalence" (`statistics.prevalence`) and
    "against_chance" (over subjects); "recall" by item
    and "calibration", pooled over trials; "ties", the trials that the tie rule decided; "unequal", how often items were
    cued where that differs (`statistics.unequal`), or None.
    """
    tested = [(p, null) for p, null in zip(predictions, nulls, strict=True) if len(p)]
    items = predictions[0].items
    each = [statistics.chance(p.label, p.probability) for p, _ in tested]
    chance = {
        m: statistics.mean_chance([own[m] for own in each]) if each else guess
        for m, guess in statistics.chances(len(items)).items()
    }
    ranks = [p.rank for p, _ in tested]
    tables = [statistics.class_counts(p.label, r == 0, len(items)) for (p, _), r in zip(tested, ranks, strict=True)]
    rows = {
        "top1": statistics.over_subjects([r == 0 for r in ranks], chance["top1"]),
        "top3": statistics.over_subjects([r < 3 for r in ranks], chance["top3"]),
        "balanced": statistics.balanced_over_subjects(tables, chance["balanced"]),
    }
    values = [accuracies(p.label, p.probability) for p, _ in tested]
    exchanges = [p.exchange(settings.permute) for p, _ in tested]
    for measure, row in rows.items():
        own_nulls = [None if null is None else null[measure] for _, null in tested]
        row |= statistics.over_permuted([value[measure] for value in values], own_nulls, exchanges)[0]
        row["against_chance"] = statistics.against_chance(
            [value[measure] for value in values], [own[measure] for own in each], settings.permutations, settings.seed
        )
    pooled = [np.sum(column, axis=0) for column in zip(*tables, strict=True)]
    label = np.concatenate([p.label for p, _ in tested]) if tested else np.zeros(0, int)
    probability = np.concatenate([p.probability for p, _ in tested]) if tested else np.zeros((0, len(items)))
    return {
        **rows["top1"],
        "top3": rows["top3"],
        "balanced": rows["balanced"],
        "recall": recall(pooled[0], pooled[1], items) if tested else {},
        "calibration": confidence_reliability(label, probability, settings.calibration_bins),
        "ties": statistics.tied(probability) if tested else 0,
        "unequal": statistics.unequal([n for _, n in tables]),
    }


def accuracies(label: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Return top-1, top-3 and balanced accuracy of one subject's trials as a dict of floats."""
    rank = statistics.true_rank(label, probability)
    hits, n = statistics.class_counts(label, rank == 0, probability.shape[1])
    balanced = float(np.mean(hits[n > 0] / n[n > 0]))
    return {"top1": float(np.mean(rank == 0)), "top3": float(np.mean(rank < 3)), "balanced": balanced}


def recall(hits: np.ndarray, n: np.ndarray, items: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return {item: {n, hits, recall}}; recall is None where an item has no trial."""
    return {
        item: {"n": int(m), "hits": int(h), "recall": float(h / m) if m else None}
        for item, h, m in zip(items, hits, n, strict=True)
    }


def confusion(predictions: Predictions) -> np.ndarray:
    """Return how often each item (row) was decoded as each other (column): int array (K, K)."""
    return statistics.confusion_counts(predictions.label, predictions.decoded, len(predictions.items))


def trial_rows(predictions: Predictions, **columns: str | np.ndarray) -> pd.DataFrame:
    """Return one row a trial with where it comes from and all probabilities; `columns` come after the subject."""
    p = predictions
    names = np.array(p.items)
    known = pd.DataFrame() if p.origin is None else p.origin
    origin: dict[str, Any] = {str(key): known[key].array for key in known if key not in columns}
    frame = {
        "subject": p.subject,
        **columns,
        "trial": np.arange(len(p)),
        "data_type": np.asarray(p.data_type, str),
        **origin,
        "item": names[p.label],
        "predicted": names[p.decoded],
        "correct": p.label == p.decoded,
        "rank": p.rank + 1,
    }
    return pd.DataFrame(frame | {f"p_{item}": p.probability[:, k] for k, item in enumerate(p.items)})
