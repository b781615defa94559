"""Figures of what cues met and evoked, for the night report: phases, responses, decodes; as SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from sleep_interpreter.utils.metrics.statistics import confusion_counts
from sleep_interpreter.utils.plots.session import MANY_ITEMS, NARROW, WIDE, page_figure, svg
from sleep_interpreter.utils.plots.style import BLUE, GREY, ORANGE, colour_bar, titled
from sleep_interpreter.utils.signal.electrodes import head_info

Responses = Mapping[str, Any]
"""{"cues" | "shams": realtime.Report.night_signal.Evoked}"""


def rose(degrees: np.ndarray, target: float | None, title: str, kind: str | None = None) -> str:
    """Draw the phases in degrees (n,) that cues met, 0 = peak of the up-state, with their mean and the target; None:
    these cues did not wait for a phase."""
    with page_figure((NARROW, 3.4), subplot_kw={"projection": "polar"}) as (figure, axes):
        edges = np.radians(np.arange(-180, 181, 20))
        counts, _ = np.histogram(np.angle(np.exp(1j * np.radians(degrees))), edges)
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BLUE, edgecolor="none", alpha=0.8)
        top = max(1, counts.max())
        mean = np.exp(1j * np.radians(degrees)).mean()
        axes.plot([np.angle(mean)] * 2, [0, top * abs(mean)], color=ORANGE, linewidth=2.5, label="mean")
        if target is not None:
            axes.plot([np.radians(target)] * 2, [0, top], "--", color="black", linewidth=1.5, label="target")
        axes.set_theta_zero_location("N")
        axes.set_theta_direction(-1)
        axes.set_xticks(np.radians([0, 90, 180, 270]), ["0° up-state", "90°", "180° down", "−90°"])
        axes.set_ylim(0, top)
        axes.set_yticks([top], [f"{top}"])
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.15, -0.15))
        axes.set_title(titled(f"{title}, n = {len(degrees)}\n", kind), loc="left", fontsize=9)
        return svg(figure)


def evoked(responses: Responses, channel: str, kind: str | None = None) -> str:
    """Draw mean responses at one channel with 95 % intervals of the mean."""
    end = max(round(float(found.seconds[-1]), 1) for found in responses.values())
    with page_figure((WIDE, 2.8)) as (figure, axes):
        for (name, found), shade in zip(responses.items(), (ORANGE, GREY), strict=False):
            row = found.names.index(channel)
            mean, half = found.mean[row], found.half[row]
            axes.fill_between(found.seconds, mean - half, mean + half, color=shade, alpha=0.25, linewidth=0)
            axes.plot(found.seconds, mean, color=shade, label=f"{name}, n = {found.n}")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set(xlabel="Time since the onset (s)", ylabel=f"{channel} (µV)", xlim=(-0.5, max(2.0, end)))
        axes.legend(frameon=False)
        axes.set_title(titled(f"Evoked response at {channel}, mean and its 95 % interval", kind), loc="left")
        return svg(figure)


WINDOWS = ((0.1, 0.3), (0.3, 0.7), (0.7, 1.2))
"""Seconds after the onset of the maps: chosen beforehand, around P200, N550 and P900."""


def topographies(responses: Responses, kind: str | None = None) -> str:
    """Draw maps of the mean responses in fixed windows, all on one scale."""
    import mne  # lazy: start-up

    rows = {
        name: [found.mean[:, (found.seconds >= low) & (found.seconds < high)].mean(axis=1) for low, high in WINDOWS]
        for name, found in responses.items()
    }
    edge = max(1e-9, np.nanmax(np.abs(list(rows.values()))))
    size, shape = (WIDE * 0.8, 2.2 * len(rows)), (len(rows), len(WINDOWS))
    with page_figure(size, *shape, squeeze=False) as (figure, axes):
        for place, (name, maps) in zip(axes, rows.items(), strict=True):
            info = head_info(responses[name].names)
            for spot, values, (low, high) in zip(place, maps, WINDOWS, strict=True):
                image, _ = mne.viz.plot_topomap(
                    values, info, axes=spot, show=False, vlim=(-edge, edge), cmap="RdBu_r", contours=4
                )
                spot.set_title(f"{name}, {low:g} to {high:g} s")
                for artist in spot.get_images():
                    artist.set_rasterized(True)
        colour_bar(figure, image, "µV", ax=axes, shrink=0.6)
        figure.suptitle(titled("On the head", kind), x=0.02, ha="left")
        return svg(figure)


def confusion(pairs: np.ndarray, names: Sequence[str], kind: str | None = None) -> str:
    """Draw how often each cued item was decoded as each other, from pairs (n, 2) of cued and decoded."""
    counts = confusion_counts(pairs[:, 0], pairs[:, 1], len(names))
    many = len(names) > MANY_ITEMS
    with page_figure((WIDE * 0.72 * (1.4 if many else 1), 5.6 * (1.4 if many else 1))) as (figure, axes):
        image = axes.imshow(counts, cmap="cividis", vmin=0, vmax=max(1, counts.max()))
        for i, j in zip(*np.nonzero(counts), strict=True):
            shade = "white" if counts[i, j] < 0.6 * counts.max() else "#111111"
            axes.text(j, i, counts[i, j], ha="center", va="center", color=shade, fontsize=4 if many else 7)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), [f"{n} ({c})" for n, c in zip(names, counts.sum(1), strict=True)])
        if many:
            axes.tick_params(labelsize=5)
        axes.set(xlabel="Decoded item", ylabel="Cued item (decodes)")
        axes.spines[:].set_visible(False)
        said, ticks = "Decodes", MaxNLocator(integer=True)
        colour_bar(figure, image, said, ax=axes, shrink=0.6, ticks=ticks)
        axes.set_title(titled(f"Decoded against cued, n = {counts.sum()}", kind), loc="left")
        return svg(figure)
