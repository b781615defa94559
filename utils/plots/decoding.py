"""Figures of decoders: confusion, accuracy by subject, group, run or method, reliability, training."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sleep_interpreter.utils.metrics.statistics import mean_chance
from sleep_interpreter.utils.plots import style

Rows = Mapping[str, Mapping[str, Any]]
"""By subject, group, run or method: n, accuracy, low, high, chance and what a figure needs besides."""


def confusion_matrix(
    counts: np.ndarray, names: Sequence[str], path: Path, title: str = "", kind: str | None = None
) -> None:
    """Draw how often each item was decoded as each other: counts (K, K), rows cued, columns decoded, as shares of the
    cued item's trials. `kind` ("simulated") is shown beside the title, here and in all figures."""
    counts = np.asarray(counts)
    rows = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, rows, out=np.full(counts.shape, np.nan), where=rows > 0) * 100
    top = max(200 / len(names), np.nanmax(share, initial=0.0))
    more = 0.13 * max(0, len(names) - 20)  # inches, so that every name can be read
    size = {"height": 3.9 + more, "width": style.WIDTH + more}
    with style.column_figure(path, heading_with(title, kind, f"n = {counts.sum()} trials"), **size) as (figure, axes):
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=top)
        axes.set_xticks(range(len(names)), names, rotation=90)
        labels = [f"{name} ({n})" for name, n in zip(names, rows[:, 0], strict=True)]
        axes.set_yticks(range(len(names)), labels)
        axes.set(xlabel="Decoded item", ylabel="Cued item (trials)")
        axes.spines[:].set_visible(False)
        present = rows[:, 0] > 0
        chance = 100 * counts[:, present].sum() / counts.sum() / present.sum()  # mean of the diagonal
        said = f"Share of the cued item's trials (%)\nwhite line: chance, {chance:.1f} %"
        bar = style.colour_bar(figure, image, said, ax=axes, location="bottom", fraction=0.04, aspect=36, pad=0.02)
        bar.ax.axvline(chance, color="white", linewidth=1)


def subject_accuracies(
    by_subject: Rows, overall: Mapping[str, Any], path: Path, title: str = "", kind: str | None = None
) -> None:
    """Draw top-1 of every subject with its interval, the mean with its interval, and chance.

    `by_subject` holds results of `utils.metrics.statistics.proportion` (subjects without trials are named below),
    `overall` is one of `utils.metrics.statistics.over_subjects`.
    """
    names = [name.replace("subject_test_", "") for name in by_subject]
    crowded = len(names) > 14 or max(map(len, names)) > 3
    ends, heading = len(names) + 0.5, heading_with(title, kind, f"n = {overall['n']} trials")
    with style.column_figure(path, heading, 2.6, width=0.16 * len(names)) as (_, axes):
        draw_rows(axes, by_subject.values(), overall["chance"])
        _point(axes, ends, overall, "s", style.ORANGE)
        axes.set_xticks([*range(len(names)), ends], [*names, "mean"], rotation=90 if crowded else 0)
        axes.set(xlim=(-0.6, ends + 0.6), ylim=(0, None))
        axes.set(xlabel="Test subject", ylabel="Top-1 accuracy (%), 95 % interval")


def reliability(found: Mapping[str, Any], path: Path, title: str = "", kind: str | None = None) -> None:
    """Draw accuracy against confidence in bins, and how many trials each bin holds, from a result of
    `utils.metrics.reliability.confidence_reliability`."""
    bins = [row for row in found["bins"] if row["n"]]
    total = sum(row["n"] for row in bins)
    heading = heading_with(title, kind, f"n = {total} trials, ECE {found['ece']:.3f}")
    with style.column_figure(path, heading, 3.6, 2, 1, sharex=True, height_ratios=[3, 1]) as (figure, (top, bottom)):
        top.plot([0, 100], [0, 100], color=style.GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
        confidence = [100 * row["confidence"] for row in bins]
        top.plot(confidence, [100 * row["accuracy"] for row in bins], color=style.BLUE, linewidth=1)
        for x, row in zip(confidence, bins, strict=True):
            _point(top, x, row, "o", style.BLUE)
        top.set(xlim=(0, 100), ylim=(0, 100), ylabel="Top-1 accuracy (%),\n95 % interval")
        top.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        for row in found["bins"]:
            low, width = 100 * row["from"], 100 * (row["to"] - row["from"])
            bottom.bar(low, 100 * row["n"] / total, width, align="edge", color=style.BLUE, edgecolor="white")
        bottom.set(xlabel="Confidence: probability of the decoded item (%)", ylabel="Trials (%)")
        figure.align_ylabels()


def group_accuracies(groups: Rows, path: Path, title: str = "", kind: str | None = None) -> None:
    """Draw top-1 of groups of trials in their order, with interval, subjects, chance and n.

    A group has "n", "subjects", "accuracy", "low", "high", "chance" and "values" (one a subject).
    """
    subjects = max(row["subjects"] for row in groups.values())
    heading = heading_with(title, kind, f"{subjects} subjects (grey)")
    with style.column_figure(path, heading, 2.9, width=0.4 * len(groups)) as (_, axes):
        draw_rows(axes, groups.values(), _mean_chance(groups), dots=3)
        names = [f"{name}\nn = {row['n']}" for name, row in groups.items()]
        axes.set_xticks(range(len(groups)), names, rotation=90)
        axes.set(xlim=(-0.6, len(groups) - 0.4), ylim=(0, None))
        axes.set(xlabel="Phase of the slow oscillation", ylabel="Top-1 accuracy (%), 95 % interval")


def compared_runs(
    values: Mapping[str, Mapping[str, float]], rows: Rows, path: Path, measure: str, title: str, kind: str | None
) -> None:
    """Draw runs side by side: one line a subject, the mean over subjects with its interval, chance.

    `values` is {run: {subject: accuracy}}, where a subject's line joins the runs that tested it; `rows` is {run:
    result of `utils.metrics.statistics.over_subjects`}, `measure` the name on the axis.
    """
    runs = list(values)
    heading = heading_with(title, kind, "grey: subjects")
    with style.column_figure(path, heading, 2.8, width=0.6 * len(runs)) as (_, axes):
        _chance(axes, _mean_chance(rows))
        for subject in dict.fromkeys(name for own in values.values() for name in own):
            line = [100 * values[run].get(subject, np.nan) for run in runs]
            axes.plot(range(len(runs)), line, "-", color=style.GREY, linewidth=0.8, marker=".", alpha=0.6)
        for place, run in enumerate(runs):
            _own_chance(axes, place, rows[run], _mean_chance(rows))
            _point(axes, place + 0.12, rows[run], "s", style.ORANGE)
        labels = [f"{run}\n{rows[run]['subjects']} subjects,\nn = {rows[run]['n']}" for run in runs]
        upright = max(map(len, runs)) > 44 / len(runs)
        axes.set_xticks(range(len(runs)), labels, rotation=90 if upright else 0)
        axes.set(xlim=(-0.4, len(runs) - 0.6), ylim=(0, None))
        axes.set(ylabel=f"{measure[0].upper()}{measure[1:]} (%),\n95 % interval of the mean")


def draw_rows(axes: Axes, rows: Iterable[Mapping[str, Any]], chance: float, dots: float = 0) -> None:
    """Draw chance and each row's accuracy with its interval and, where it differs, its own chance; its "values" as
    dots of this size beside it."""
    _chance(axes, chance)
    for place, row in enumerate(rows):
        if not row["n"]:
            above = 100 * chance + 1  # clear of the chance line
            axes.text(place, above, "no trials", rotation=90, ha="center", va="bottom", color=style.GREY, fontsize=7)
            continue
        if dots:
            values = [100 * value for value in row["values"]]
            axes.plot([place - 0.22] * len(values), values, ".", color=style.GREY, markersize=dots, clip_on=False)
        _own_chance(axes, place, row, chance)
        _point(axes, place, row, "o", style.BLUE)


def _own_chance(axes: Axes, place: float, row: Mapping[str, Any], chance: float) -> None:
    if abs(row["chance"] - chance) > 5e-4:
        axes.hlines(100 * row["chance"], place - 0.35, place + 0.35, color=style.GREY, linewidth=1, zorder=0)


def _mean_chance(rows: Rows) -> float:
    return mean_chance([row["chance"] for row in rows.values() if row["n"]])


def _point(axes: Axes, x: float, row: Mapping[str, Any], mark: str, colour: str) -> None:
    y = row["accuracy"] * 100
    error = np.maximum([[y - row["low"] * 100], [row["high"] * 100 - y]], 0)
    axes.errorbar(x, y, yerr=error, fmt=mark, color=colour, capsize=2, markersize=4, linewidth=1, clip_on=False)


def _chance(axes: Axes, chance: float) -> None:
    axes.axhline(chance * 100, color=style.GREY, linestyle="--", linewidth=1, zorder=0)
    across = axes.get_yaxis_transform()
    axes.text(1.01, chance * 100, "chance", transform=across, va="center", color=style.GREY, fontsize=7)


def heading_with(title: str, kind: str | None, more: str) -> str:
    """Return what stands above a figure, on two lines where one would be wider than the column."""
    first = style.titled(title, kind)
    return f"{first}\n{more}" if len(first) + len(more) > 46 else f"{first}, {more}"


def training_curve(history: pd.DataFrame, path: Path, title: str = "", kind: str | None = None) -> None:
    """Draw training loss and training top-1 against the epoch, one line a member.

    `history` is log.csv of a run: member, epoch, loss, train_top1, with validation subjects validation_top1.
    """
    look = {"layout": "tight", "heading": style.titled(title, kind), "fontsize": 9}
    with style.saved_figure(path, (6.8, 2.6), 1, 2, **look) as (_, panels):
        for number, (_, rows) in enumerate(history.groupby("member"), 1):
            panels[0].plot(rows["epoch"] + 1, rows["loss"], label=f"member {number}")
            (line,) = panels[1].plot(rows["epoch"] + 1, rows["train_top1"] * 100)
            if "validation_top1" in rows:
                validated = rows["validation_top1"] * 100
                panels[1].plot(rows["epoch"] + 1, validated, "--", color=line.get_color())
        panels[0].set(xlabel="Epoch", ylabel="Training loss")
        both = "validation_top1" in history
        panels[1].set_xlabel("Epoch")
        panels[1].set_ylabel("Top-1 (%), dashed: validation" if both else "Top-1 on training trials (%)")
        for panel in panels:
            panel.xaxis.get_major_locator().set_params(integer=True)
        panels[0].legend(frameon=False)
