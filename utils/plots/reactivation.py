"""Figures of reactivations without cues."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.plots import style


def night(
    hypnogram: Any, events: pd.DataFrame, cues: np.ndarray, items: Sequence[str], path: Path, title: str = "",
    kind: str | None = None,
) -> None:  # fmt: skip
    """Draw the stages of a night (a `Hypnogram` of data/formats) with its cues' onsets in s, and every event
    (onset_s, item) by item below."""
    panels = {"sharex": True, "height_ratios": (1, 2.2)}
    items = list(items)
    heading = style.titled(f"{title}, {len(events)} events", kind)
    with style.saved_figure(path, (7, 4.6 + _more_height(items)), 2, 1, heading=heading, **panels) as (_, axes):
        edges, heights = style.stage_line(hypnogram.onset, hypnogram.duration, hypnogram.stage)
        axes[0].plot(edges / 60, heights, color="black", linewidth=1)
        axes[0].plot(np.asarray(cues) / 60, np.full(len(cues), -0.8), "|", color=style.GREY, markersize=4)
        places = [style.STAGE_HEIGHTS[code] for code in range(len(STAGES))]
        axes[0].set_yticks([-0.8, *places], ["cues", *STAGES])
        places = [items.index(item) for item in events["item"]]
        axes[1].plot(events.onset_s / 60, places, "|", color=style.ORANGE, markersize=6)
        axes[1].set_yticks(range(len(items)), items, fontsize=7)
        axes[1].set(xlabel="Time (min)", ylabel="Item of the event", ylim=(len(items) - 0.5, -0.5))


def _more_height(items: Sequence[str]) -> float:
    """Return how many inches more rows than the published 15 take."""
    return 0.13 * max(0, len(items) - 15)


def rates(
    table: pd.DataFrame, items: Sequence[str], path: Path, promised: float, title: str = "", kind: str | None = None
) -> None:
    """Draw events a minute of every item and stage, mean over subjects, beside the control.

    `table` is from `train.evaluation.reactivation_events.rates`, `items` stand from above, `promised` are the control
    events a minute that the threshold allows, all items together.
    """
    stages = [s for s in STAGES if (table.stage == s).any()]
    columns = max(1, len(stages))
    who = style.counted(table.subject.nunique(), "subject")
    more = f"n = {who}, control allowed {promised:g} per min over all items"
    look = {"heading": style.titled(f"{title}\n{more}", kind), "fontsize": 9, "sharey": True, "squeeze": False}
    with style.saved_figure(path, (2.6 * columns + 1.2, 3.8 + _more_height(items)), 1, columns, **look) as (_, axes):
        for ax, stage in zip(axes[0], stages, strict=False):
            own = table[table.stage == stage].groupby("item")[["rate", "control_rate"]].mean().reindex(list(items))
            ax.barh(range(len(items)), own.rate, color=style.BLUE, height=0.7, label="night")
            ax.plot(own.control_rate, range(len(items)), "D", color=style.ORANGE, markersize=4, label="control")
            highest = np.nanmax([own.rate.max(), own.control_rate.max(), 0.01])
            ax.set_yticks(range(len(items)), items)
            limits = {"xlim": (-0.02 * highest, 1.1 * highest), "ylim": (len(items) - 0.5, -0.5)}
            ax.set(xlabel="Events per minute", title=stage, **limits)
        axes[0, -1].legend(frameon=False, loc="lower right")


def behaviour(
    pairs: pd.DataFrame, what: tuple[str, str], result: Mapping[str, Any], path: Path, title: str = "",
    kind: str | None = None,
) -> None:  # fmt: skip
    """Draw memory scores against evidence, as ranks within subjects, and what `memory_scores.relation` found.

    `pairs` has a row (subject, score and the first of `what`) an item; the second of `what` stands at the axis.
    """
    p = "" if result["p"] is None else "p < 0.001" if result["p"] < 0.001 else f"p = {result['p']:.3f}"
    text = "no subject to correlate"
    if result["mean_rho"] is not None:
        text = f"mean rho {result['mean_rho']:.2f}, n = {result['n']} subjects, {p}"
    heading = style.titled(f"{title}\n{text}", kind)
    with style.saved_figure(path, (4.2, 3.6), heading=heading, fontsize=9) as (_, ax):
        for k, (subject, own) in enumerate(pairs.groupby("subject")):
            rho = result["subjects"].get(subject)
            ranks, label = (
                (own[what[0]].rank(), own.score.rank()),
                f"{subject}: {'-' if rho is None else f'{rho:.2f}'}",
            )
            ax.plot(*ranks, "o", markersize=3, color=f"C{k % 10}", alpha=0.6, label=label)
        ax.set(xlabel=f"{what[1]} (rank within subject)", ylabel="Memory score (rank within subject)")
        if pairs.subject.nunique() <= 12:
            ax.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
