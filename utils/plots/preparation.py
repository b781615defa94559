"""Figures of a prepared subject's report: spectra, components, responses, hypnogram with cues.

They are returned, not saved: MNE's report puts them into its page, `close` frees them.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.plots import style


def close(figure: Figure) -> None:
    """Free a figure."""
    plt.close(figure)


def spectra(hz: np.ndarray, before: np.ndarray, after: np.ndarray, title: str, kind: str | None = None) -> Figure:
    """Draw power spectra (channels, f) in µV²/Hz of all channels, as recorded and cleaned."""
    with style.new_figure((9, 3.2), 1, 2, sharey=True, heading=style.titled(title, kind)) as (figure, axes):
        for ax, power, label in zip(axes, (before, after), ("as recorded", "cleaned"), strict=True):
            ax.semilogy(hz, np.maximum(power.T, 1e-6), color="0.6", linewidth=0.5)
            median = np.maximum(np.median(power, axis=0), 1e-6)
            ax.semilogy(hz, median, color="C0", linewidth=1.5, label="median of channels")
            ax.set(xlabel="Frequency (Hz)", title=label, xlim=(0, 100))
        axes[0].set_ylabel("Power (µV²/Hz)")
        axes[1].legend(frameon=False)
    return figure


def components(found: Sequence[dict], info: Any, title: str, kind: str | None = None) -> Figure:
    """Draw the topographies of up to 20 independent components with ICLabel's names; removed ones are marked.

    A component has "topography", "label", "probability", "removed".
    """
    shown = found[:20]
    rows, heading = -(-len(shown) // 5), style.titled(title, kind)
    with style.new_figure((9, 2.0 * rows), rows, 5, squeeze=False, heading=heading) as (figure, axes):
        for ax in axes.flat[len(shown) :]:
            ax.set_visible(False)
        for ax, row in zip(axes.flat, shown, strict=False):
            _topography(row["topography"], info, ax)
            mark, colour = ("removed: ", "C3") if row["removed"] else ("", "black")
            ax.set_title(f"{mark}{row['label']} {row['probability']:.2f}", fontsize=7, color=colour)
    return figure


def response(times: np.ndarray, mean: np.ndarray, info: Any, n: int, title: str, kind: str | None = None) -> Figure:
    """Draw a mean response (C, T) of n trials, in units of a trial's interquartile range at times (T,) in s: all
    channels over time, and topographies at its three largest moments."""
    power = mean.std(axis=0)
    moments: list[int] = []
    for place in np.argsort(power)[::-1]:
        if all(abs(times[place] - times[other]) > 0.1 for other in moments):
            moments.append(place)
        if len(moments) == 3:
            break
    with style.own_settings():
        figure = plt.figure(figsize=(9, 3.2), layout="constrained")
        grid = figure.add_gridspec(1, 6)
        ax = figure.add_subplot(grid[0, :3])
        ax.plot(times, mean.T, color="0.5", linewidth=0.5)
        ax.plot(times, power, color="C3", linewidth=1.5, label="SD over channels")
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set(xlabel="Time from the stimulus (s)", ylabel="Interquartile ranges", title=f"n = {n} trials")
        ax.legend(frameon=False)
        for k, place in enumerate(sorted(moments)):
            axis = figure.add_subplot(grid[0, 3 + k])
            _topography(mean[:, place], info, axis)
            axis.set_title(f"{times[place]:.2f} s")
        figure.suptitle(style.titled(title, kind))
    return figure


def hypnogram(
    onset: np.ndarray, duration: np.ndarray, stage: np.ndarray, cues: ArrayLike, title: str | None, kind: str | None
) -> Figure:
    """Draw stages (n,), -1 left out, over the night, the onsets of cues below; all times in s."""
    edges, heights = style.stage_line(onset, duration, stage)
    unit, scale = style.time_unit(edges.max(initial=0.0))
    with style.new_figure((9, 2.6), heading=style.titled(title or "Stages", kind)) as (figure, ax):
        ax.plot(edges / scale, heights, color="C0", linewidth=1.2)
        at = np.asarray(cues) / scale
        ax.plot(at, np.full(len(at), -0.7), "|", color="C3", markersize=6, label=f"{len(at)} cues")
        ax.set_yticks([style.STAGE_HEIGHTS[code] for code in range(len(STAGES))], STAGES)
        ax.set(xlabel=f"Time ({unit})", ylim=(-1.2, 3.5))
        ax.legend(frameon=False, loc="upper right", ncols=2)
    return figure


def slow_oscillations(
    times: np.ndarray, mean: np.ndarray, groups: Sequence[str], counts: Sequence[int], title: str, kind: str | None,
    expected: Sequence[float] = (), caution: str | None = None,
) -> Figure:  # fmt: skip
    """Draw the mean slow oscillation (T,) in µV, in s from the trough, and how many cues fell on each of the eight
    groups, beside how many as many random times would (`expected`); `caution` stands in the title."""
    with style.new_figure((9, 3.0), 1, 2, heading=style.titled(title, kind)) as (figure, axes):
        axes[0].plot(times, mean, color="C0")
        axes[0].axhline(0, color="0.7", linewidth=0.8)
        axes[0].set(xlabel="Time from the trough (s)", ylabel="µV", title="Mean slow oscillation")
        axes[1].bar(range(len(groups)), counts, color="C0")
        axes[1].set_xticks(range(len(groups)), groups, rotation=45, ha="right")
        heading = "Cues by phase" + (f" ({caution})" if caution else "")
        axes[1].set(ylabel="Cues", title=heading, ylim=(0, max(1, *counts, *expected) * 1.05))
        if expected:
            axes[1].plot(range(len(groups)), expected, "_", color="black", markersize=18, label="random times")
            axes[1].legend(frameon=False)
    return figure


def _topography(values: np.ndarray, info: Any, axes: Axes) -> None:
    import mne  # lazy: start-up

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mne.viz.plot_topomap(values, info, axes=axes, show=False, contours=0, sensors=False)
