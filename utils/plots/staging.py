"""Figures of staging: nights, agreement, latency, reliability, gates, cohorts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS, UNKNOWN
from sleep_interpreter.utils.plots import style


def night_figure(
    night: Any, spectrum: tuple[np.ndarray, np.ndarray], smoothing: float, path: Path, kind: str | None = None
) -> None:
    """Draw one subject's night (a `StagedNight`): expert, stagers, hypnodensity, spectrogram.

    `spectrum` holds frequencies (f,) in Hz and the power (f, m) in dB of the EEG of each epoch; `smoothing` is the
    weight of a new estimate in the hypnodensity.
    """
    unit, scale = style.time_unit(len(night.epochs) * STAGING_SECONDS)
    edges = np.arange(len(night.epochs) + 1) * STAGING_SECONDS / scale
    times = np.append(night.estimates.seconds, night.estimates.seconds[-1] + 3) / scale
    smooth = night.estimates.smoothed(smoothing)
    rows = {"expert": night.epochs, "stager": night.found, **night.others}
    size, ratios = (6.5, 1.15 * len(rows) + 3.4), [1] * len(rows) + [1.3, 1.3]
    panels = {"sharex": True, "height_ratios": ratios}
    with style.saved_figure(path, size, len(rows) + 2, 1, **panels) as (figure, axes):
        for place, (name, codes) in zip(axes, rows.items(), strict=False):
            draw_scorer(place, edges, codes, name)
        style.draw_hypnodensity(axes[-2], times, np.vstack([smooth, smooth[-1:]]))
        frequencies, power = spectrum
        low, high = np.percentile(power, [5, 97])
        image = axes[-1].pcolormesh(
            edges[: power.shape[1] + 1], np.append(frequencies, frequencies[-1] + 0.25), power,
            cmap="cividis", vmin=low, vmax=high, rasterized=True,
        )  # fmt: skip
        axes[-1].set(ylabel="EEG (Hz)", xlabel=f"Time ({unit})", xlim=(0, edges[-1]))
        figure.colorbar(image, cax=axes[-1].inset_axes([1.02, 0, 0.015, 1]), label="Power (dB)")
        axes[0].set_title(f"{style.titled(night.name, kind)}; hypnodensity smoothed with {smoothing:g}", fontsize=9)


def draw_scorer(axes: Axes, edges: np.ndarray, codes: np.ndarray, name: str) -> None:
    """Draw the stages (n,) that a scorer gave between edges (n + 1,), with its name."""
    style.draw_stages(axes, edges, codes, unknown=bool((np.asarray(codes) == UNKNOWN).any()))
    axes.set_ylabel(name.replace(", ", ",\n"), fontsize=8)
    axes.tick_params(axis="y", labelsize=7)


def confusion_figure(counts: Mapping[str, np.ndarray], path: Path, title: str = "", kind: str | None = None) -> None:
    """Draw confusion matrices (4, 4) of "epochs" and "grid" as shares of the true stage's time, one panel each."""
    words = {"epochs": "30 s epochs", "grid": "3 s grid, smoothed"}
    size, heading = (3.2 * len(counts), 3.3), f"{style.titled(title, kind)}: share of the expert's stage (%)"
    look = {"heading": heading, "fontsize": 9, "squeeze": False}
    with style.saved_figure(path, size, 1, len(counts), **look) as (_, panels):
        for axes, (part, table) in zip(panels[0], counts.items(), strict=True):
            rows = table.sum(axis=1, keepdims=True)
            share = 100 * np.divide(table, rows, out=np.zeros(table.shape), where=rows > 0)
            _draw_shares(axes, share, np.where(rows > 0, np.char.mod("%.0f", share), "-"))
            names = [f"{stage}\n({n})" for stage, n in zip(STAGES, rows[:, 0], strict=True)]
            axes.set_yticks(range(len(STAGES)), names)
            axes.set(xlabel="Stager", ylabel="Expert (n)")
            axes.set_title(f"{words.get(part, part)}, n = {table.sum()}", fontsize=9)


def _draw_shares(axes: Axes, share: np.ndarray, texts: np.ndarray) -> None:
    """Draw a matrix of stages by stages in percent, with a text in each cell."""
    axes.imshow(share, cmap="cividis", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(share):
        colour = "black" if value > 55 else "white"
        axes.text(column, row, str(texts[row, column]), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(STAGES)), STAGES)
    axes.set_yticks(range(len(STAGES)), STAGES)
    axes.spines[:].set_visible(False)


def latency_figure(latency: Mapping[str, Any], path: Path, title: str = "", kind: str | None = None) -> None:
    """Draw which share of stage changes the online estimate has followed after how long, from {weight of a new
    estimate: {n, mean, p90, changes}}."""
    n = next(iter(latency.values()))["n"] if latency else 0
    with style.column_figure(path, f"{style.titled(title, kind)}, n = {n} changes", 2.7) as (_, axes):
        longest = 60.0
        for (weight, row), colour in zip(latency.items(), style.LINES, strict=False):
            values = np.sort([c["latency"] for c in row["changes"] if c["latency"] is not None])
            if not len(values):
                continue
            longest = max(longest, np.percentile(values, 95))
            share = 100 * np.arange(1, len(values) + 1) / row["n"]
            label = f"{weight} (mean {row['mean']:.0f} s, 90 %: {row['p90']:.0f} s)"
            x, y = [0, *values, 10 * longest], [0, *share, share[-1]]
            axes.step(x, y, where="post", color=colour, label=label)
        axes.set(xlim=(0, longest), ylim=(0, 100), xlabel="Time since the true change of stage (s)")
        axes.set_ylabel("Changes followed (%)")
        if axes.get_lines():
            axes.legend(title="Weight of a new estimate", frameon=False, fontsize=6, loc="lower right")


def reliability_figure(curves: Mapping[str, Any], path: Path, title: str = "", kind: str | None = None) -> None:
    """Draw how often it was N2 or N3 against P(N2) + P(N3), one curve a kind of smoothing."""
    with style.column_figure(path, style.titled(title, kind), 3.0) as (_, axes):
        axes.plot([0, 1], [0, 1], "--", color=style.GREY, linewidth=1, label="perfectly calibrated")
        for (words, curve), colour, mark in zip(curves.items(), style.LINES, "os^v", strict=False):
            bins = [row for row in curve["bins"] if row["n"]]
            if not bins:
                continue
            x, y = ([row[key] for row in bins] for key in ("probability", "share"))
            error = np.abs([[row["share"] - row["low"], row["high"] - row["share"]] for row in bins]).T
            label = f"{words}: ECE {curve['ece']:.3f}, n = {curve['n']}"
            axes.errorbar(
                x, y, yerr=error, fmt=f"{mark}-", color=colour, markersize=4, linewidth=1, capsize=2,
                label=label,
            )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="P(N2) + P(N3)")
        axes.set_ylabel("Share of epochs in N2 or N3 (95 %)")
        axes.legend(frameon=False, fontsize=6, loc="upper left")


def bland_altman_figure(scorers: Mapping[str, Any], path: Path, kind: str | None = None) -> None:
    """Draw differences of sleep statistics against their means, a row a stager (Bland and Altman 1986), from {stager:
    result of `train.evaluation.staging_agreement.bland_altman`}."""
    shown = ("TST", "SE", "SOL", "N2", "N3", "REM")
    heading = style.titled("Sleep statistics: bias and 95 % limits of agreement", kind)
    size, look = (1.75 * len(shown), 1.75 * len(scorers) + 0.4), {"heading": heading, "fontsize": 9}
    with style.saved_figure(path, size, len(scorers), len(shown), squeeze=False, **look) as (figure, panels):
        for row, (name, statistics) in zip(panels, scorers.items(), strict=True):
            for axes, key in zip(row, shown, strict=True):
                own = statistics[key]
                axes.plot(own["mean"], own["difference"], "o", color=style.BLUE, markersize=4)
                axes.axhline(0, color=style.GREY, linewidth=0.6)
                for what, dashes in (("bias", "-"), ("loa_low", "--"), ("loa_high", "--")):
                    if own[what] is not None:
                        axes.axhline(own[what], color=style.ORANGE, linewidth=1, linestyle=dashes)
                axes.tick_params(labelsize=7)
                axes.set_title(f"{key}, n = {own['n']}", fontsize=8)
            row[0].set_ylabel(f"{name}\n- expert", fontsize=8)
        figure.supxlabel("Mean of both, min (SE: %)", fontsize=8)


def gate_figure(gates: Mapping[str, list[dict]], path: Path, kind: str | None = None) -> None:
    """Draw false cues and missed N2/N3 against the gate's threshold, a row a stager, a line a run length, from
    {stager: result of `utils.staging.gate_tradeoff.sweep`}."""
    size = (6.8, 2.7 * len(gates) + 0.2)
    with style.saved_figure(path, size, len(gates), 2, sharex=True, squeeze=False) as (_, panels):
        for pair, (name, rows) in zip(panels, gates.items(), strict=True):
            counts = list(dict.fromkeys(row["detections"] for row in rows))
            shades = plt.colormaps["viridis"](np.linspace(0, 0.9, len(counts)))
            for count, shade in zip(counts, shades, strict=True):
                own = [row for row in rows if row["detections"] == count]
                label = f"{count} ({own[0]['run_seconds']:.0f} s)"
                x = [row["threshold"] for row in own]
                for axes, key in zip(pair, ("false_share", "missed_share"), strict=True):
                    y = [np.nan if row[key] is None else 100 * row[key] for row in own]
                    axes.plot(x, y, "o-", color=shade, markersize=3, linewidth=1, label=label)
            pair[0].set_ylabel("Open in W/N1 or R\n(% of the open time)")
            pair[1].set_ylabel("Closed in N2 or N3\n(% of N2 and N3)")
            pair[0].set_ylim(bottom=0, top=max(5, pair[0].get_ylim()[1]))
            pair[1].set_ylim(0, 100)
            look: Any = {"frameon": False, "fontsize": 7, "title_fontsize": 7, "title": "NREM detections\nin a row"}
            pair[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), **look)
            nights = style.counted(rows[0]["nights"], "night")
            title = f"{style.titled(name, kind)}, {nights}, {rows[0]['hours']:.1f} h"
            pair[0].set_title(title, fontsize=9, loc="left")
        for axes in panels[-1]:
            axes.set_xlabel("Threshold of P(N2) + P(N3)")


def cohort_figure(curves: Mapping[str, Any], groups: Mapping[str, Any], path: Path, kind: str | None = None) -> None:
    """Draw a cohort of hypnograms: stages over the night, how long bouts last, minutes and transitions.

    `curves` is {group: ((hours (n,), shares (n, 4)), list of bouts (m, 2) of each night)}, `groups` {group: result of
    `data.formats.hypnograms.cohort`}.
    """
    nights = ", ".join(f"{group['nights']} {name}" for name, group in groups.items())
    look = {"heading": style.titled(f"Hypnograms: {nights}", kind), "fontsize": 9, "squeeze": False}
    with style.saved_figure(path, (9, 2.7 * len(curves)), len(curves), 3, **look) as (_, panels):
        for row, (name, ((hours, shares), each)) in zip(panels, curves.items(), strict=True):
            style.stack_stages(row[0], hours, shares, step="mid")
            row[0].set(ylabel=f"{name}\nShare of nights going on", xlabel="Time (h)", ylim=(0, 1))
            row[0].margins(x=0)
            every = np.concatenate(each)
            for code, stage in enumerate(STAGES):
                minutes = np.sort(every[every[:, 0] == code, 1]) * STAGING_SECONDS / 60
                if len(minutes):
                    left = 100 * (1 - np.arange(len(minutes)) / len(minutes))
                    said = f"{stage}, n = {len(minutes)}"
                    row[1].step(minutes, left, color=style.STAGE_COLOURS[code], label=said)
            row[1].set(xscale="log", yscale="log", xlabel="Length (min)", ylabel="Bouts at least as long (%)")
            row[1].legend(frameon=False, fontsize=7)
            counts = np.array(groups[name]["transitions"], float)
            off = np.where(np.eye(len(STAGES), dtype=bool), np.nan, counts)
            share = 100 * off / np.maximum(np.nansum(off, axis=1, keepdims=True), 1)
            _draw_shares(row[2], share, np.where(np.isfinite(share), np.char.mod("%.0f", share), ""))
            row[2].set(xlabel="Next stage", ylabel="Bout of (% of its ends)")
        above = {"loc": "upper center", "ncols": 4, "bbox_to_anchor": (0.5, 1.18)}
        panels[0, 0].legend(frameon=False, fontsize=7, **above)
