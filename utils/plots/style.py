"""What all figures share: colours, sizes, one way to make and to write them, and how stages are drawn.

Axes have labels with units, colours are safe for colour-blind readers, letters are readable at column width.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # files only: the scripts run on machines without a screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import ArrayLike

from sleep_interpreter.utils.core.constants import STAGES, UNKNOWN
from sleep_interpreter.utils.core.paths import atomic_write

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
"""Colours of the palette of Okabe and Ito, which survives colour blindness."""
LINES = (BLUE, ORANGE, GREEN, PINK, GREY, "black")
STAGE_COLOURS = ("#E69F00", "#56B4E9", "#0072B2", "#009E73")
"""Of the same palette, in the order of STAGES."""
STAGE_HEIGHTS = {0: 3, 3: 2, 1: 1, 2: 0, UNKNOWN: 4}
"""Height of each stage in a hypnogram: W/N1, R, N2, N3 from above, unknown on top."""

STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 150, "savefig.bbox": "tight",
}  # fmt: skip
WIDTH = 3.5
"""Width of a journal's column in inches."""
COLUMN: Any = {
    **STYLE, "font.size": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7,
    "legend.title_fontsize": 7, "savefig.bbox": None, "savefig.dpi": 300,
}  # fmt: skip
"""For figures of that width: saved at exactly their size."""


def titled(title: str, kind: str | None) -> str:
    """Return a title that says where the data come from, such as "N23SIMD (simulated)"."""
    return title if kind is None else f"{title} ({kind})"


@contextmanager
def own_settings(style: Any = STYLE) -> Iterator[None]:
    """Draw with matplotlib's own settings and `style`, whatever the user's matplotlibrc says."""
    with plt.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        yield


@contextmanager
def new_figure(
    size: tuple[float, float], *shape: int, heading: str = "", fontsize: float | None = None,
    style: Any = STYLE, layout: Any = "constrained", **panels: Any,
) -> Iterator[tuple[Figure, Any]]:  # fmt: skip
    """Give a figure of `size` in inches and its axes, to be drawn on in a style: one panel, or `shape` rows and
    columns.

    `heading` stands above all panels, in `fontsize`; `style` is `STYLE`, `COLUMN` or others of matplotlib's settings,
    `panels` are of `matplotlib.pyplot.subplots`.
    """
    with own_settings(style):
        figure, axes = plt.subplots(*shape, figsize=size, layout=layout, **panels)
        if heading:
            figure.suptitle(heading, **({"fontsize": fontsize} if fontsize else {}))
        yield figure, axes


@contextmanager
def saved_figure(path: Path, size: tuple[float, float], *shape: int, **more: Any) -> Iterator[tuple[Figure, Any]]:
    """Give a figure and its axes as `new_figure` does, and write it to `path` at the end."""
    with new_figure(size, *shape, **more) as (figure, axes):
        yield figure, axes
        save(figure, path)


def column_figure(
    path: Path, heading: str, height: float, *shape: int, width: float = WIDTH, **more: Any
) -> AbstractContextManager[tuple[Figure, Any]]:
    """Give a figure of a journal's column, at least `WIDTH` wide, as `saved_figure` does."""
    more = {"style": COLUMN, "heading": heading, "fontsize": 8} | more
    return saved_figure(path, (max(WIDTH, width), height), *shape, **more)


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically and close it."""
    take_literally(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    plt.close(figure)


def take_literally(figure: Figure) -> None:
    """Let text be what it says: names of channels, items and subjects may hold dollar signs, which mean no formula."""
    formulas: set[int] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":  # powers of ten
                formulas |= {id(label) for label in axis.get_ticklabels(which="both")}
    for text in figure.findobj(Text):
        if id(text) not in formulas and "$" in text.get_text():
            text.set_parse_math(False)


def colour_bar(figure: Figure, image: Any, label: str, **more: Any) -> Any:
    """Return a colour bar without a frame, made by `Figure.colorbar`."""
    bar = figure.colorbar(image, label=label, **more)
    bar.outline.set_visible(False)
    return bar


def counted(number: int, what: str) -> str:
    """Return a number of things in words: "1 subject", "3 subjects"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def time_unit(seconds: float) -> tuple[str, int]:
    """Return the unit of a time axis and its length in seconds: hours from two hours on, else minutes."""
    return ("h", 3600) if seconds > 7200 else ("min", 60)


def stage_line(onset: ArrayLike, duration: ArrayLike, stage: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return times (2 n,) in s and heights (2 n,) of a hypnogram's line; NaN where nothing is known."""
    start = np.asarray(onset, float)
    edges = np.column_stack([start, start + np.asarray(duration, float)]).ravel()
    heights = [np.nan if code == UNKNOWN else STAGE_HEIGHTS.get(int(code), np.nan) for code in stage]
    return edges, np.repeat(heights, 2)


def draw_stages(
    axes: Axes, times: np.ndarray, codes: ArrayLike, unknown: bool = False, widths: tuple[float, float] = (0.8, 3)
) -> None:
    """Draw stages (n,) as steps over times (n + 1,), each stage in its colour.

    With `unknown` there is a row for it; without, the line has a gap there. `widths` are those of the line and of the
    coloured bars.
    """
    codes = np.asarray(codes, int)
    level = np.array([STAGE_HEIGHTS[code] for code in codes.tolist()], float)
    if not unknown:
        level[codes == UNKNOWN] = np.nan
    closed = [*level, level[-1] if len(level) else np.nan]
    axes.step(times, closed, where="post", color="black", linewidth=widths[0])
    for code, shade in enumerate(STAGE_COLOURS):
        own = np.flatnonzero(codes == code)
        axes.hlines(level[own], times[own], times[own + 1], color=shade, linewidth=widths[1])
    names = (*STAGES, "unknown") if unknown else STAGES
    places = [STAGE_HEIGHTS[code] for code in (*range(len(STAGES)), UNKNOWN)]
    axes.set_yticks(places[: len(names)], names)
    axes.set_ylim(-0.5, 4.5 if unknown else 3.5)


def draw_hypnodensity(axes: Axes, times: np.ndarray, smoothed: np.ndarray) -> None:
    """Draw probabilities (n, 4) as stacked areas; an estimate holds from its time to the next."""
    stack_stages(axes, times, smoothed, step="post", linewidth=0)
    axes.set(ylim=(0, 1), ylabel="Probability")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def stack_stages(axes: Axes, times: np.ndarray, shares: np.ndarray, **areas: Any) -> None:
    """Draw the shares of the stages (n, 4) as areas on each other, the deepest sleep at the bottom."""
    base = np.zeros(len(times))
    for code in (2, 1, 3, 0):
        upper = base + shares[:, code]
        axes.fill_between(times, base, upper, color=STAGE_COLOURS[code], label=STAGES[code], **areas)
        base = upper
