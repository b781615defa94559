"""Figures of reactivations without cues."""

import matplotlib.pyplot as plt
import numpy as np

from sleep_interpreter.utils.core.constants import ITEMS, STAGES
from sleep_interpreter.utils.plots.decoding import BLUE, GREY, ORANGE, STYLE, save, titled

_LEVEL = {0: 3, 3: 2, 1: 1, 2: 0}


def night(hypnogram, events, cues, path, title="", kind=None):
    """Draw the stages of a night and every event by item below.

    Parameters
    ----------
    hypnogram : sleep_interpreter.data.formats.scoring_readers.Hypnogram
    events : DataFrame
        onset_s, item.
    cues : array
        Onsets in s.
    path : Path
    title, kind : str
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, 1, figsize=(7, 4.6), sharex=True, height_ratios=(1, 2.2), layout="constrained"
        )
        edges, levels = [], []
        for onset, length, stage in zip(hypnogram.onset, hypnogram.duration, hypnogram.stage, strict=True):
            edges += [onset / 60, (onset + length) / 60]
            levels += [_LEVEL.get(int(stage), np.nan)] * 2
        axes[0].plot(edges, levels, color="black", linewidth=1)
        axes[0].plot(np.asarray(cues) / 60, np.full(len(cues), -0.8), "|", color=GREY, markersize=4)
        axes[0].set_yticks([-0.8, *_LEVEL.values()], ["cues", *(STAGES[code] for code in _LEVEL)])
        places = [ITEMS.index(item) for item in events["item"]]
        axes[1].plot(events.onset_s / 60, places, "|", color=ORANGE, markersize=6)
        axes[1].set_yticks(range(len(ITEMS)), ITEMS, fontsize=7)
        axes[1].set(xlabel="Time (min)", ylabel="Item of the event", ylim=(len(ITEMS) - 0.5, -0.5))
        figure.suptitle(titled(f"{title}, {len(events)} events", kind))
        save(figure, path)


def rates(table, path, promised, title="", kind=None):
    """Draw events a minute of every item and stage, mean over subjects, beside the control.

    Parameters
    ----------
    table : DataFrame
        As from `train.evaluation.reactivation_events.rates`.
    path : Path
    promised : float
        Control events a minute that the threshold allows, all items together.
    """
    stages = [s for s in STAGES if (table.stage == s).any()]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, max(1, len(stages)), figsize=(2.6 * max(1, len(stages)) + 1.2, 3.8), sharey=True,
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for ax, stage in zip(axes[0], stages, strict=False):
            own = table[table.stage == stage].groupby("item")[["rate", "control_rate"]].mean().reindex(ITEMS)
            ax.barh(range(len(ITEMS)), own.rate, color=BLUE, height=0.7, label="night")
            ax.plot(own.control_rate, range(len(ITEMS)), "D", color=ORANGE, markersize=4, label="control")
            highest = np.nanmax([own.rate.max(), own.control_rate.max(), 0.01])
            ax.set(xlabel="Events per minute", title=stage, xlim=(-0.02 * highest, 1.1 * highest))
            ax.set_yticks(range(len(ITEMS)), ITEMS)
            ax.set_ylim(len(ITEMS) - 0.5, -0.5)
        axes[0, -1].legend(frameon=False, loc="lower right")
        count = table.subject.nunique()
        who = "1 subject" if count == 1 else f"{count} subjects"
        more = f"n = {who}, control allowed {promised:g} per min over all items"
        figure.suptitle(titled(f"{title}\n{more}", kind), fontsize=9)
        save(figure, path)


def behaviour(pairs, result, path, title="", kind=None):
    """Draw memory scores against events, as ranks within subjects.

    Parameters
    ----------
    pairs : DataFrame
        subject, events, score: one row an item.
    result : dict
        As from `train.evaluation.reactivation_events.relation`.
    path : Path
    """
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
        for k, (subject, own) in enumerate(pairs.groupby("subject")):
            rho = result["subjects"].get(subject)
            label = f"{subject}: {rho:.2f}" if rho is not None else f"{subject}: -"
            ax.plot(
                own.events.rank(),
                own.score.rank(),
                "o",
                markersize=3,
                color=f"C{k % 10}",
                alpha=0.6,
                label=label,
            )
        p = "" if result["p"] is None else "p < 0.001" if result["p"] < 0.001 else f"p = {result['p']:.3f}"
        text = "no subject to correlate"
        if result["mean_rho"] is not None:
            text = f"mean rho {result['mean_rho']:.2f}, n = {result['n']} subjects, {p}"
        ax.set(xlabel="Events of the item (rank within subject)", ylabel="Memory score (rank within subject)")
        if pairs.subject.nunique() <= 12:
            ax.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.suptitle(titled(f"{title}\n{text}", kind), fontsize=9)
        save(figure, path)
