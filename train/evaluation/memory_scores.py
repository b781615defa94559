"""Memory scores of items, and whether they go with how well an item was decoded or how often it came up."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from sleep_interpreter.data.formats.subject_writer import lab_names
from sleep_interpreter.utils.core.errors import UserError, did_you_mean
from sleep_interpreter.utils.core.text_tables import told_table
from sleep_interpreter.utils.metrics.decoding_metrics import Predictions
from sleep_interpreter.utils.metrics.statistics import Resampling, holm

log = logging.getLogger(__name__)

EVIDENCE = {
    "evidence": "mean probability of the item in its trials, minus that in the trials of other items",
    "accuracy": "share of the item's trials decoded rightly",
}
"""What of a decoder is held against memory."""
_UNKNOWN = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""Cells that are unknown, as pandas takes them."""


def read_behaviour(
    path: Path, subjects: Sequence[str], aliases: Mapping[str, str], items: Sequence[str],
    average_over: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Read memory scores from TSV or CSV: subject (our names), item, score; rows without a score are left out.

    More columns are ignored. `subjects` are wanted; `aliases` are {the lab's name: our name}; `items` are known.
    `average_over` is the column (a test, a rater) in which several rows of an item differ; scores are then means over
    it. Refused if a column is missing, an item is unknown, a score is no number, an item has several rows that
    nothing tells apart, or nobody of the subjects is in it.
    """
    if average_over in ("subject", "item", "score"):
        raise UserError(f"--average-over {average_over}: name the column of a test or a rater")
    table = read_subjects(path, ("item", "score", *([average_over] if average_over else [])), aliases)
    if table["item"].isna().any():
        line = table.index[table["item"].isna()][0]
        raise UserError(f"{path}, line {line}: names no item; write it there, or take the row out")
    unknown = sorted(set(table["item"].astype(str)) - set(items))
    if unknown:
        hint = did_you_mean(unknown[0], items)
        raise UserError(f"{path}: unknown item {unknown[0]!r}{hint and f'; {hint}'}")
    number = pd.to_numeric(table.score, errors="coerce")
    wrong = table.index[(number.isna() & table.score.notna()) | np.isinf(number)]
    if len(wrong):
        found = str(table.score[wrong[0]])
        remedy = "write a decimal point" if found.replace(",", "").isdecimal() else "n/a where unknown"
        raise UserError(f"{path}, line {wrong[0]}: score {found!r} is no number; {remedy}")
    table = table.assign(score=number)
    others = sorted(set(table.subject.dropna()) - set(subjects))
    table = table[table.subject.isin(subjects) & table.score.notna()]
    ours = {stored: name for name, stored in aliases.items()}
    lacking = [f"{s} ({ours[s]})" if s in ours else s for s in subjects if s not in set(table.subject)]
    told = f"no subject tested here: {', '.join(others[:10])}" if others else ""
    if table.empty:
        raise UserError(f"{path}: none of {', '.join(lacking)} is in it{f'; it has {told}' if told else ''}")
    if lacking:
        log.warning("WARNING: %s: no scores of %s%s", path, ", ".join(lacking), f"; {told}" if told else "")
    key = ["subject", "item"]
    same = table.duplicated([*key, *([average_over] if average_over else [])], keep=False)
    if same.any():
        first = table[same].iloc[0]
        lines = [str(line) for line in table.index[same & (table[key] == first[key]).all(axis=1)]]
        more = [str(name) for name in table if name not in (*key, "score", average_over)]
        remedy = f" or average them over a column with --average-over ({', '.join(more)})" if more else ""
        raise UserError(
            f"{path}: {first.subject} has {len(lines)} scores of {first['item']!r} (lines {', '.join(lines)}); "
            f"give one row an item{remedy}"
        )
    return table.groupby(key, as_index=False, sort=False)[["score"]].mean()


def read_subjects(path: Path, columns: Sequence[str], aliases: Mapping[str, str]) -> pd.DataFrame:
    """Read a TSV or CSV with subject and these columns, all as text, its subjects called by our names ({theirs: ours}).

    Commas, semicolons or tabs stand between columns, as spreadsheets write them; the index is the line in the file.
    Refuses what is no such table.
    """
    table = told_table(path).frame().replace(list(_UNKNOWN), np.nan)
    names = {str(name): str(name).strip() for name in table}
    known = ("subject", "session", *columns)
    names |= {name: own for name, text in names.items() for own in known if text.casefold() == own.casefold()}
    table = table.rename(columns=names).apply(lambda column: column.str.strip()).replace("", np.nan).dropna(how="all")
    for column in ("subject", *columns):
        if column not in table:
            raise UserError(f"{path}: no column {column!r}; it has {', '.join(map(str, table.columns))}")
        if list(table.columns).count(column) > 1:
            raise UserError(f"{path}: two columns {column!r}")
    return table.assign(subject=table.subject.map(lambda s: aliases.get(s, s)))


def relation(evidence: pd.DataFrame, behaviour: pd.DataFrame, permutations: int, seed: int) -> dict[str, Any]:
    """Return the rank correlation of evidence for items and memory, over items, in every subject and all.

    `evidence` has a row a subject and a column an item (NaN where there is none), `behaviour` is as `read_behaviour`
    gives it. Spearman's rho over the items of each subject; over subjects the mean of Fisher's z. p: how often items
    permuted give a mean at least as far from zero (two-sided). All subjects' items are permuted alike: the same items,
    some of them easier to remember and to decode, are in everybody, and are no fresh ones in each. The result:
    "subjects" {name: rho or None}, "mean_rho", "p", "n" subjects that count, "items" that are permuted, "permutations".
    It says something of these subjects and other items, not yet of other subjects.
    """
    items = [str(item) for item in evidence if item in set(behaviour["item"])]
    pairs = {}
    for subject, own in behaviour.groupby("subject"):
        if subject not in evidence.index:
            continue
        values, places = evidence[items].loc[subject].to_numpy(float), np.array([items.index(i) for i in own["item"]])
        known = np.isfinite(values[places])
        if known.sum() >= 4 and np.ptp(values[places][known]) > 0 and own.score[known].nunique() > 1:
            pairs[str(subject)] = values, places, own.score.to_numpy(float)
    rho = {s: float(_spearman(values[places], score)) for s, (values, places, score) in pairs.items()}
    everybody = dict.fromkeys([*map(str, evidence.index), *map(str, behaviour.subject.unique())])
    result: dict[str, Any] = {"subjects": {s: rho.get(s) for s in everybody}, "mean_rho": None}
    result |= {"p": None, "n": len(rho), "items": len(items), "permutations": permutations}
    if not rho:
        return result
    observed = np.mean([_fisher(r) for r in rho.values()])
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(len(items)), (permutations, 1)), axis=1)
    found = [_fisher(_spearman(values[orders[:, places]], score)) for values, places, score in pairs.values()]
    p = (1 + (np.abs(sum(found) / len(pairs)) >= abs(observed) - 1e-12).sum()) / (1 + permutations)
    return result | {"mean_rho": float(np.tanh(observed)), "p": float(p)}


def of_predictions(
    predictions: Sequence[Predictions], behaviour: pd.DataFrame, settings: Resampling
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the `relation` of each kind of `EVIDENCE` with memory, with p_holm over them; and the table behind it.

    The table has subject, item, score, n (trials), evidence and accuracy. An item with fewer than two trials does not
    count, nor the only one of a subject.
    """
    rows = []
    for p in predictions:
        for place, item in enumerate(p.items):
            own = np.asarray(p.label) == place
            if own.sum() > 1 and not own.all():
                probability = np.asarray(p.probability, float)[:, place]
                more = float(probability[own].mean() - probability[~own].mean())
                rows.append((p.subject, item, int(own.sum()), more, float((p.decoded[own] == place).mean())))
    table = pd.DataFrame(rows, columns=["subject", "item", "n", *EVIDENCE])
    result: dict[str, Any] = {}
    for kind, meaning in EVIDENCE.items():
        evidence = table.pivot(index="subject", columns="item", values=kind)
        result[kind] = relation(evidence, behaviour, settings.permutations, settings.seed) | {"meaning": meaning}
    adjusted = holm([row["p"] for row in result.values()])
    for row, p_holm in zip(result.values(), adjusted, strict=True):
        row["p_holm"] = p_holm
    return result, behaviour.merge(table, on=["subject", "item"])


def read(args: argparse.Namespace, subjects: Sequence[str], items: Sequence[str], root: Path) -> pd.DataFrame:
    """Return the scores of the table that --behaviour names, as `read_behaviour` does; `root` is the data folder.

    The lab's names of its subjects are understood where `root` says them.
    """
    return read_behaviour(args.behaviour, subjects, aliases(root), items, args.average_over)


def aliases(root: Path) -> dict[str, str]:
    """Return {the lab's name of a subject: ours} of a data folder that says it."""
    return {name: stored for stored, name in lab_names(root).items()}


def in_words(found: Mapping[str, Any], what: str) -> str:
    """Return the result of `relation` as a line; `what` is held against memory."""
    rho = "no subject to correlate"
    if found["mean_rho"] is not None:
        holm_p = f" ({found['p_holm']:.4f} after Holm)" if found.get("p_holm") is not None else ""
        rho = f"mean rho {found['mean_rho']:.3f}, p = {found['p']:.4f}{holm_p}"
    subjects = f"n = {found['n']} of {len(found['subjects'])} subjects"
    return f"  memory and {what}, over items: {rho} ({subjects}, {found['items']} items permuted alike in all)"


def _spearman(values: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return Spearman's rho of values (..., n) and score (n,) along the last axis, where both are known."""
    return np.asarray((_ranks(values) * _ranks(np.where(np.isnan(values), np.nan, score))).sum(axis=-1))


def _ranks(values: ArrayLike) -> np.ndarray:
    """Return ranks along the last axis, of mean 0 and length 1 (0 where all are equal, and where a value is NaN)."""
    values = np.asarray(values, float)
    ranks = stats.rankdata(values, axis=-1, nan_policy="omit" if np.isnan(values).any() else "propagate")
    ranks = np.nan_to_num(ranks - np.nanmean(ranks, axis=-1, keepdims=True))
    return np.asarray(ranks / np.maximum(np.linalg.norm(ranks, axis=-1, keepdims=True), 1e-12))


def _fisher(rho: ArrayLike) -> Any:
    return np.arctanh(np.clip(rho, -0.999999, 0.999999))
