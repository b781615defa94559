"""Figures of real-time sessions: one as a file, those of the night report as SVG for a page.

The black of an SVG is the page's own colour of text.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from sleep_interpreter.utils.core.constants import STAGES, UNKNOWN
from sleep_interpreter.utils.plots import style

_NUMBER = count(1)
RC = {
    **style.STYLE, "svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "session",
    "savefig.bbox": None, "font.size": 9, "legend.fontsize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8,
}  # fmt: skip
WIDE, NARROW = 9.0, 4.3
"""Inches."""
MANY_ITEMS = 20
"""From more items on, their names are written smaller."""

Interval = tuple[float, float]
"""Begin and end in s."""
Span = tuple[float, float, str, Sequence[float] | None]
"""Onset and duration in s, stage, smoothed probabilities."""
Scale = Callable[[ArrayLike], np.ndarray]
"""From seconds to the axis of time."""


def page_figure(size: tuple[float, float], *shape: int, **panels: Any) -> AbstractContextManager[tuple[Figure, Any]]:
    """Give a figure in the style of the page and its axes, as `new_figure` does."""
    return style.new_figure(size, *shape, style=RC, **panels)


def svg(figure: Figure) -> str:
    """Return a figure as an element of a page: no prolog, ids of its own, black as `currentColor`."""
    style.take_literally(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, dpi=130, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = "<svg" + buffer.getvalue().partition("<svg")[2]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    wide = f'style="width: {6.2 * figure.get_figwidth():.1f}rem"'  # so that all have letters of one size
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', rf"<svg \1{wide}", text, count=1)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>f{next(_NUMBER)}-", text)
    text = re.sub(r"#000000\b", "currentColor", text)
    # text without a colour of its own is black: let it be the page's
    return text.replace("<svg ", '<svg fill="currentColor" aria-hidden="true" ', 1)


def plot_session(
    log: Sequence[dict], path: str | Path, title: str = "", kind: str | None = None, threshold: float = 0.8
) -> None:
    """Draw a real-time session as a PNG: hypnogram, hypnodensity, and the gate with its cues.

    `log` holds the events of log.jsonl, whose `seconds` are the time axis; `kind` goes into the title ("real
    recording" or "simulated recording"); `threshold` is the P(N2) + P(N3) from which the gate may open.
    """
    stages = [e for e in log if e["event"] == "stage"]
    end = max((e["seconds"] for e in log), default=0.0)
    begin = min((e["seconds"] for e in log), default=0.0)
    unit, scale = style.time_unit(end - begin)
    # A closing point makes the last estimate as wide as the others.
    times = np.array([e["seconds"] for e in stages] + [end]) / scale
    rows = [e["detail"]["smoothed"] or [np.nan] * len(STAGES) for e in stages]
    smoothed = np.array([*rows, rows[-1]] if rows else [[np.nan] * len(STAGES)])
    known = np.isfinite(smoothed).all(axis=1)
    codes = np.where(known, np.nan_to_num(smoothed).argmax(axis=1), UNKNOWN)
    panels = {"sharex": True, "height_ratios": [1, 1, 1.5]}
    with style.saved_figure(Path(path), (6.5, 6), 3, 1, **panels) as (figure, (top, middle, bottom)):
        style.draw_stages(top, times, codes[:-1], widths=(1, 4))
        top.set_ylabel("Stage")
        style.draw_hypnodensity(middle, times, smoothed)
        bottom.step(times, smoothed[:, 1] + smoothed[:, 2], where="post", color="black", linewidth=1)
        bottom.axhline(threshold, color=style.GREY, linestyle="--", linewidth=1)
        beside = {"transform": bottom.get_yaxis_transform(), "va": "center", "fontsize": "small"}
        bottom.text(1.01, threshold, "threshold", **beside)
        _draw_cues(bottom, log, scale)
        limits = begin / scale, max(end, begin + 1) / scale
        bottom.set(ylabel="P(N2) + P(N3)", xlabel=f"Time in the recording ({unit})", xlim=limits)
        top.set_title(style.titled(title, kind))
        figure.align_ylabels()


def _draw_cues(axes: Axes, log: Sequence[dict], scale: float) -> None:
    """Put cues as ticks below the curve, one row a group, and the decodes below them."""
    decoded = {e["detail"]["number"]: e for e in log if e["event"] == "decode"}.values()
    ticks, names = [-0.12, -0.22], ["group 0", "group 1"]
    for group, (y, shade) in enumerate(zip(ticks, (style.ORANGE, style.PINK), strict=True)):
        when = [e["seconds"] / scale for e in log if e["event"] == "cue" and e["detail"]["group"] == group]
        axes.plot(when, [y] * len(when), "|", color=shade, markersize=7)
    axes.set_ylim(-0.3, 1.05)
    if any(e["detail"]["recorded"] for e in decoded):
        axes.set_ylim(-0.5, 1.05)
        right = [e["detail"]["item"] == e["detail"]["cued"] for e in decoded]
        for name, y, mark, shade in (("right", -0.32, "o", style.BLUE), ("wrong", -0.42, "x", "black")):
            when = [e["seconds"] / scale for e, hit in zip(decoded, right, strict=True) if hit == (name == "right")]
            axes.plot(when, [y] * len(when), mark, color=shade, markersize=3)
            ticks.append(y)
            names.append(name)
    axes.axhline(0, color=style.GREY, linewidth=0.5)
    axes.set_yticks([0, 0.5, 1, *ticks], ["0", "0.5", "1", *names])
    for label in axes.get_yticklabels()[3:]:
        label.set_fontsize("x-small")


def overview(
    spans: Sequence[Span], marks: Mapping[str, Sequence[float]], spectrum: Any, on: Mapping[str, Sequence[Interval]],
    outages: Sequence[Interval], limits: Interval, kind: str | None = None,
) -> str:  # fmt: skip
    """Draw the night: stages with cues, hypnodensity, spectrogram, and when cueing was on.

    `marks` are {"cue" | "sham": seconds}, `spectrum` has `seconds` (n + 1,), `hz`, `decibel` and `channel` (or is
    None), `on` has the spans of "gate open" and "cueing"; in the `outages` nothing ran; at `limits` (s) the session
    began and ended.
    """
    length = limits[1] - limits[0]
    unit, scale = style.time_unit(length)

    def at(seconds: ArrayLike) -> np.ndarray:
        return (np.asarray(seconds, float) - limits[0]) / scale

    rows = [1.3, 1.2, *([1.5] if spectrum is not None else []), 0.6]
    size, panels = (WIDE, 1.45 * sum(rows)), {"sharex": True, "height_ratios": rows}
    with page_figure(size, len(rows), 1, **panels) as (figure, axes):
        _stages(axes[0], spans, marks, at)
        _density(axes[1], spans, at)
        if spectrum is not None:
            _spectrogram(figure, axes[2], spectrum, at)
        for row, (name, shade) in enumerate((("cueing", style.ORANGE), ("gate open", style.BLUE))):
            bars = [(float(at(a)), float(at(b) - at(a))) for a, b in on.get(name, [])]
            axes[-1].broken_barh(bars, (row - 0.35, 0.7), color=shade, linewidth=0)
        axes[-1].set_yticks([0, 1], ["cueing on", "gate open"])
        for a, b in outages:
            for place in axes:
                place.axvspan(at(a), at(b), color=style.PINK, alpha=0.35, linewidth=0)
        span = (0, max(length, 1) / scale)
        axes[-1].set(xlabel=f"Time since the session began ({unit})", xlim=span, ylim=(-0.6, 1.6))
        axes[0].set_title(style.titled("The night", kind), loc="left")
        figure.align_ylabels()
        return svg(figure)


def _stages(axes: Axes, spans: Sequence[Span], marks: Mapping[str, Sequence[float]], at: Scale) -> None:
    codes = {name: code for code, name in enumerate(STAGES)} | {"unknown": -1}
    for group in _runs(spans):
        edges = [at(s) for s, *_ in group] + [at(group[-1][0] + group[-1][1])]
        style.draw_stages(axes, np.array(edges), [codes[s[2]] for s in group], unknown=True)
    if not spans:
        axes.set_yticks([])
    axes.set_ylim(-1.7, 4.5)
    ticks, names = list(axes.get_yticks()), [t.get_text() for t in axes.get_yticklabels()]
    for row, (name, seconds) in enumerate(marks.items()):
        y, shade = -0.8 - 0.6 * row, {"cue": style.ORANGE, "sham": style.GREY}[name]
        axes.plot(at(seconds), np.full(len(seconds), y), "|", color=shade, markersize=5, alpha=0.8)
        ticks.append(y)
        names.append(f"{name}s ({len(seconds)})")
    axes.set_yticks(ticks, names)
    axes.set_ylabel("Stage")


def _density(axes: Axes, spans: Sequence[Span], at: Scale) -> None:
    known = [s for s in spans if s[3] is not None]
    if not known:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no stage was known", transform=axes.transAxes, ha="center")
        return
    edges, values = [], []
    for group in _runs(spans):
        edges += [at(s) for s, *_ in group] + [at(group[-1][0] + group[-1][1])]
        values += [s[3] or [np.nan] * len(STAGES) for s in group] + [[np.nan] * len(STAGES)]
    axes.set_rasterization_zorder(3)
    style.draw_hypnodensity(axes, np.array(edges, float), np.array(values, float))
    axes.set_rasterization_zorder(None)
    for area in axes.collections:  # thousands of steps: as an image it is a tenth of the page
        area.set_rasterized(True)


def _spectrogram(figure: Figure, axes: Axes, spectrum: Any, at: Scale) -> None:
    finite = spectrum.decibel[np.isfinite(spectrum.decibel)]
    low, high = np.percentile(finite, [5, 97]) if finite.size else (0, 1)
    step = spectrum.hz[1] - spectrum.hz[0]
    hz = np.append(spectrum.hz, spectrum.hz[-1] + step) - step / 2
    image = axes.pcolormesh(
        at(spectrum.seconds), hz, spectrum.decibel, cmap="cividis", vmin=low, vmax=max(high, low + 1), rasterized=True
    )
    axes.set_ylabel(f"{spectrum.channel}\n(Hz)")
    style.colour_bar(figure, image, "dB (µV²/Hz)", cax=axes.inset_axes((1.02, 0, 0.015, 1)))


def _runs(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Yield spans that follow each other without a hole, as lists."""
    group: list[Span] = []
    for span in spans:
        if group and span[0] - (group[-1][0] + group[-1][1]) > 0.5:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def cue_counts(
    items: Sequence[str], by_stage: Mapping[str, Sequence[int] | np.ndarray], shams: ArrayLike, kind: str | None = None
) -> str:
    """Draw how often each item was cued, counts (items,) by stage, and its shams."""
    shades = dict(zip((*STAGES, "unknown"), (*style.STAGE_COLOURS, style.GREY), strict=True))
    many = len(items) > MANY_ITEMS
    with page_figure((WIDE, 2.6)) as (figure, axes):
        base = np.zeros(len(items))
        for stage, counts in by_stage.items():
            if np.any(counts):
                axes.bar(np.arange(len(items)) - 0.15, counts, 0.5, base, color=shades[stage], label=stage)
                base = base + counts
        if np.any(shams):
            axes.bar(np.arange(len(items)) + 0.28, shams, 0.25, color=style.GREY, hatch="////", label="sham")
        axes.set_xticks(range(len(items)), items, rotation=90 if many else 40, ha="center" if many else "right")
        if many:
            axes.tick_params("x", labelsize=6)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_ylabel("Cues")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        axes.set_title(style.titled("Cues an item", kind), loc="left")
        return svg(figure)


def intervals(seconds: np.ndarray, kind: str | None = None) -> str:
    """Draw the intervals (n,) between cues that followed each other."""
    with page_figure((NARROW, 2.4)) as (figure, axes):
        top = max(8.0, np.percentile(seconds, 98)) if len(seconds) else 8.0
        axes.hist(np.clip(seconds, 0, top), bins=np.linspace(0, top, 41), color=style.BLUE)
        axes.set(xlabel=f"s (from {top:.0f} s on in the last bar)", ylabel="Intervals")
        axes.set_title(style.titled(f"Between cues, n = {len(seconds)}", kind), loc="left", fontsize=9)
        return svg(figure)


def latencies(values: Mapping[str, ArrayLike], kind: str | None = None) -> str:
    """Draw the share of events within each latency (n,) in ms, one panel each."""
    rows = -(-len(values) // 2)
    with page_figure((WIDE, 1.9 * rows), rows, 2, squeeze=False) as (figure, axes):
        for axes_, (name, found), shade in zip(axes.flat, values.items(), style.LINES, strict=False):
            found = np.sort(found)
            shares = np.arange(len(found) + 1) / len(found)
            axes_.step(np.append(found[:1], found), shares, where="post", color=shade)
            axes_.set_title(f"{name}, n = {len(found)}", loc="left", fontsize=8)
            axes_.set(xlabel="ms", ylabel="Share", ylim=(0, 1.02))
            if found[0] > 0 and found[-1] > 30 * np.median(found):
                axes_.set_xscale("log")
        for empty in axes.flat[len(values) :]:
            empty.set_axis_off()
        figure.suptitle(style.titled("Latencies", kind), x=0.02, ha="left", fontsize=10)
        return svg(figure)


def quality(
    bad: Mapping[str, Sequence[tuple[float, float, str]]],
    limits: Interval,
    outages: Sequence[Interval],
    kind: str | None = None,
) -> str:
    """Draw when which channel had a bad signal, {channel: [(begin s, end s, reason)]}; the worst 24 when there are
    more. `limits` are those of the session, `outages` as in `overview`."""
    length = limits[1] - limits[0]
    unit, scale = style.time_unit(length)
    worst = sorted(bad, key=lambda name: -sum(e - b for b, e, _ in bad[name]))[:24]
    reasons = sorted({kind_of(r) for name in worst for *_, r in bad[name]})
    palette = (style.ORANGE, style.BLUE, style.GREEN, style.PINK, style.GREY, *style.STAGE_COLOURS[:2])
    shades = dict(zip(reasons, palette * 3, strict=False))
    with page_figure((WIDE, 0.9 + 0.2 * max(3, len(worst)))) as (figure, axes):
        for row, name in enumerate(worst):
            for begin, end, reason in bad[name]:
                bar = ((begin - limits[0]) / scale, max(end - begin, length / 800) / scale)
                axes.broken_barh([bar], (row - 0.4, 0.8), color=shades[kind_of(reason)], linewidth=0)
        for a, b in outages:
            axes.axvspan((a - limits[0]) / scale, (b - limits[0]) / scale, color=style.PINK, alpha=0.35)
        for reason in reasons:
            axes.plot([], [], "s", color=shades[reason], label=reason)
        axes.set_yticks(range(len(worst)), worst)
        axes.set(ylim=(len(worst) - 0.4, -0.6), xlim=(0, max(length, 1) / scale))
        axes.set_xlabel(f"Time since the session began ({unit})")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        axes.set_title(style.titled("Channels with a bad signal", kind), loc="left")
        return svg(figure)


def kind_of(reason: str) -> str:
    """Return a reason with dots for its numbers."""
    return re.sub(r"[-+]?\d[\d.,]*(\s*(%|µV|Hz|s)\b)?", "…", reason).strip()[:40]
