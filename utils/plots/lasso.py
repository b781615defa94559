"""Figures of the Lasso GLMs: accuracy over time and offset, temporal generalisation, patterns on the scalp."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sleep_interpreter.utils.core.data_card import ASLEEP
from sleep_interpreter.utils.plots import style
from sleep_interpreter.utils.signal.electrodes import head_info, on_head

log = logging.getLogger(__name__)

FEWEST_PLACES = 4
"""Electrodes with a known place that a map of the head takes at least."""


def accuracy_over_time(
    curve: Mapping[str, Any], path: Path, domain: str, title: str = "", kind: str | None = None,
    band: str = "95 %, over subjects",
) -> None:  # fmt: skip
    """Draw mean accuracy over time with its interval, chance, and a bar where clusters are significant.

    `curve` holds times (s), mean (T,), interval (low, high) or None, mask (T,) of significant samples, subjects, n,
    chance (one number, or (T,)).
    Time counts from the cue in the domains "N2N3" and "REM", from that in "key press", in others from the onset.
    `band` says what the shaded interval is.
    """
    times, mean = curve["times"], 100 * curve["mean"]
    with style.column_figure(path, _heading(title, kind, curve), 2.6) as (figure, axes):
        chance = 100 * np.broadcast_to(curve["chance"], times.shape)
        said = f"chance, {chance.mean():.1f} %"
        axes.plot(times, chance, color=style.GREY, linestyle="--", linewidth=1, label=said)
        low, high = mean, mean
        if curve["interval"] is not None:
            low, high = (100 * part for part in curve["interval"])
            axes.fill_between(times, low, high, color=style.BLUE, alpha=0.25, linewidth=0, label=band)
        axes.plot(times, mean, color=style.BLUE, linewidth=1.2)
        span = max(high.max(), chance.max()) - min(low.min(), chance.min())
        below = min(low.min(), chance.min()) - 0.08 * max(span, 0.5)
        if curve["mask"].any():
            bar = np.where(curve["mask"], below, np.nan)
            axes.plot(times, bar, color=style.ORANGE, linewidth=3, solid_capstyle="butt", label="cluster, p < 0.05")
        axes.set(xlim=(times[0], times[-1]), ylim=(below - 0.06 * max(span, 0.5), None))
        if domain in ASLEEP:
            axes.axvline(0, color=style.GREY, linewidth=0.6)
        axes.set(xlabel=_axis(domain), ylabel="Top-1 accuracy (%)")
        figure.legend(frameon=False, loc="outside lower center", ncols=3, columnspacing=1, handlelength=1.2)


def offset_map(result: Mapping[str, Any], path: Path, begin: float, title: str = "", kind: str | None = None) -> None:
    """Draw mean accuracy by the window's place in the sleep trial and the time in the window.

    `result` holds offsets, times (s), mean and chance (offsets, times), mask of significant cells, subjects, n; sleep
    trials begin at `begin` s after the cue.
    """
    with style.column_figure(path, _heading(title, kind, result), 2.7) as (figure, axes):
        places = result["times"], result["offsets"] + begin
        _heat(figure, axes, places, result)
        axes.set(xlabel="Time after onset, awake (s)", ylabel="Beginning of the window,\nafter the cue in sleep (s)")


def generalisation(
    result: Mapping[str, Any], about: Mapping[str, Any], path: Path, pair: Sequence[str], title: str = "",
    kind: str | None = None,
) -> None:  # fmt: skip
    """Draw mean accuracy by the training sample and the sample tested, `pair` being their domains.

    `result` holds mean, chance and mask (training samples, test samples) and axes, their times in s; `about`
    subjects and n.
    """
    own, other = result["axes"]
    height = 2.2 if len(other) > len(own) else 4.6
    with style.column_figure(path, _heading(title, kind, about), height) as (figure, axes):
        _heat(figure, axes, (other, own), result)
        across, up = (_axis(domain, short=True) for domain in reversed(pair))
        axes.set(xlabel=f"Tested: {across}", ylabel=f"Trained: {up}")


def patterns(
    values: np.ndarray, items: Sequence[str], path: Path, at: float, subjects: int, title: str = "",
    kind: str | None = None, channels: Sequence[str] = (),
) -> None:  # fmt: skip
    """Draw each item's pattern (Haufe-transformed coefficients) as a topography.

    `values` (K, C) are in the data's unit for one standard deviation of the decoder's output, `at` is their time in s
    for the title. Of the `channels` (C) those are drawn that are named after a place on the head; without at least
    four of them there is no figure.
    """
    import mne  # lazy: start-up

    placed = list(on_head(channels))
    if len(placed) < FEWEST_PLACES:
        log.warning("no %s: fewer than %d channels are named after a place on the head", path.name, FEWEST_PLACES)
        return
    values = values[:, [list(channels).index(name) for name in placed]]
    info = head_info(placed)
    columns = min(5, len(items))
    rows = -(-len(items) // columns)
    top = max(float(np.abs(values).max()), 1e-12)
    height = 0.78 * rows + 1.15  # inches: topographies, title and colour bar
    grid = {"left": 0.02, "right": 0.98, "top": 1 - 0.55 / height, "bottom": 0.6 / height}
    look = {"style": style.COLUMN, "layout": None, "squeeze": False, "gridspec_kw": grid}
    with style.saved_figure(path, (style.WIDTH, height), rows, columns, **look) as (figure, panels):
        for place, panel in enumerate(panels.flat):
            if place >= len(items):
                panel.set_axis_off()
                continue
            image, _ = mne.viz.plot_topomap(
                values[place], info, axes=panel, show=False, vlim=(-top, top), cmap="RdBu_r", contours=0,
                sensors=False,
            )  # fmt: skip
            panel.set_title(items[place], fontsize=6.5, pad=2)
        below = figure.add_axes((0.1, 0.45 / height, 0.8, 0.08 / height))
        said = "Pattern (data's unit per SD of the decoder's output)"
        style.colour_bar(figure, image, said, cax=below, orientation="horizontal")
        people = style.counted(subjects, "subject")
        heading = f"{style.titled(title, kind)}\npatterns at {at:.2f} s, mean of {people}"
        figure.suptitle(heading, fontsize=8, y=1 - 0.06 / height)


def _heat(figure: Figure, axes: Axes, coordinates: tuple[np.ndarray, np.ndarray], result: Mapping[str, Any]) -> None:
    """Draw accuracy, or how far it lies above chance where chance is not the same everywhere."""
    values, mask, chance = 100 * result["mean"], result["mask"], 100 * np.asarray(result["chance"])
    same = np.ptp(chance) < 0.05
    values, middle = (values, float(chance.mean())) if same else (values - chance, 0.0)
    reach = max(np.abs(values - middle).max(), 0.5)  # as far below as above: equal colours, equal distances
    image = axes.pcolormesh(
        *coordinates, values, cmap="RdBu_r", vmin=middle - reach, vmax=middle + reach, rasterized=True
    )
    if mask.any() and not mask.all() and min(mask.shape) > 1:
        axes.contour(*coordinates, mask.astype(float), levels=[0.5], colors="black", linewidths=0.8)
    bar = style.colour_bar(figure, image, "", ax=axes, pad=0.02)
    said = "Top-1 accuracy (%)" if same else "Top-1 accuracy above chance (%)"
    bar.set_label(f"{said}\nwhite: chance, {chance.mean():.1f} %; line: p < 0.05", fontsize=6.5)
    bar.ax.set_ylim(min(values.min(), middle - 0.5), max(values.max(), middle + 0.5))


def _axis(domain: str, short: bool = False) -> str:
    event = "cue" if domain in ASLEEP else "key press" if domain == "key press" else "onset"
    return f"s after {event}, {domain}" if short else f"Time after the {event} (s)"


def _heading(title: str, kind: str | None, about: Mapping[str, Any]) -> str:
    return f"{style.titled(title, kind)}\n{style.counted(about['subjects'], 'subject')}, n = {about['n']} trials"
