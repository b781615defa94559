"""Figures that only the studies of benchmarks/ draw."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sleep_interpreter.utils.plots import decoding, staging, style


def compared_methods(rows: decoding.Rows, path: Path, title: str = "", kind: str | None = None) -> None:
    """Draw methods side by side on the same trials: accuracy with interval, chance, and other seeds.

    Parameters
    ----------
    rows : dict
        {name: {"n", "accuracy", "low", "high", "chance", "values" (accuracies of all seeds, may be empty)}}.
    """
    heading = decoding.heading_with(title, kind, f"n = {next(iter(rows.values()))['n']} trials; grey: seeds")
    with style.column_figure(path, heading, 2.6, width=0.8 * len(rows)) as (_, axes):
        decoding.draw_rows(axes, rows.values(), next(iter(rows.values()))["chance"], dots=4)
        axes.set_xticks(range(len(rows)), list(rows))
        axes.set(xlim=(-0.6, len(rows) - 0.4), ylim=(0, 100), ylabel="Accuracy (%), 95 % interval")


def stagers_figure(
    rows: Mapping[str, tuple[np.ndarray, np.ndarray]],
    hypnodensity: tuple[str, np.ndarray, np.ndarray] | None,
    path: Path,
    title: str = "",
    unit: str = "min",
) -> None:
    """Draw several stagers' hypnograms of one recording below each other, and one's hypnodensity.

    Parameters
    ----------
    rows : dict of str to (float array (n + 1,), int array (n,))
        Edges in minutes and stages, by stager.
    hypnodensity : (str, float array (n + 1,), float array (n + 1, 4)) | None
        Whose, times, probabilities.
    """
    count = len(rows) + (hypnodensity is not None)
    size = (6.5, 1.25 * count + 0.6)
    with style.saved_figure(path, size, count, 1, sharex=True, squeeze=False) as (_, panels):
        axes = panels[:, 0]
        for place, (name, (edges, codes)) in zip(axes, rows.items(), strict=False):
            staging.draw_scorer(place, edges, codes, name.replace("trained on ", "trained on\n"))
        if hypnodensity is not None:
            name, times, probability = hypnodensity
            style.draw_hypnodensity(axes[-1], times, probability)
            axes[-1].set_ylabel(name.replace(", ", ",\n"), fontsize=8)
        axes[-1].set_xlabel(f"Time in the recording ({unit})")
        axes[-1].set_xlim(left=0)
        axes[0].set_title(title, fontsize=9)


def nap(
    stages: pd.DataFrame,
    oscillations: pd.DataFrame,
    spindles: pd.DataFrame,
    wave: tuple[np.ndarray, np.ndarray],
    channel: str,
    path: Path,
    title: str,
    kind: str | None = None,
) -> None:
    """Draw the stages of a short recording with everything found in it, the mean wave and the waves' size.

    Parameters
    ----------
    stages : DataFrame
        onset, duration (s), stage (code).
    oscillations, spindles : DataFrame
        trough_s and amplitude_uv; peak_s.
    wave : (array (T,), array (n, T))
        s from the trough; every slow oscillation in µV.
    channel : str
        Where the oscillations were looked for.
    """
    with style.own_settings():
        figure, axes = plt.subplot_mosaic(
            [["stages", "stages"], ["wave", "size"]], figsize=(7.5, 4.8), height_ratios=(1.1, 1),
            layout="constrained",
        )  # fmt: skip
        edges = [*stages.onset, stages.onset.iloc[-1] + stages.duration.iloc[-1]]
        style.draw_stages(axes["stages"], np.array(edges) / 60, stages.stage.to_numpy(int))
        for row, seconds in enumerate((oscillations.trough_s, spindles.peak_s)):
            place = np.full(len(seconds), -1.0 - row)
            axes["stages"].plot(seconds / 60, place, "|", color=f"C{row}", markersize=7)
        ticks, labels = axes["stages"].get_yticks(), [t.get_text() for t in axes["stages"].get_yticklabels()]
        labels += [f"{len(oscillations)} SO", f"{len(spindles)} spindles"]
        axes["stages"].set_yticks([*ticks, -1, -2], labels)
        axes["stages"].set(xlabel="Time (min)", xlim=(0, edges[-1] / 60), ylim=(-2.6, 3.5))
        times, waves = wave
        mean, spread = waves.mean(axis=0), waves.std(axis=0)
        axes["wave"].fill_between(times, mean - spread, mean + spread, color="C0", alpha=0.2, linewidth=0)
        axes["wave"].plot(times, mean, color="C0")
        axes["wave"].axhline(0, color="0.7", linewidth=0.8)
        axes["wave"].set(
            xlabel="Time from the trough (s)", ylabel=f"{channel} (µV)",
            title=f"Mean and SD of {len(waves)} slow oscillations",
        )  # fmt: skip
        axes["size"].hist(oscillations.amplitude_uv, bins=20, color="C0")
        axes["size"].set(xlabel="Trough to peak (µV)", ylabel="Slow oscillations", title="Their size")
        figure.suptitle(style.titled(title, kind))
        style.save(figure, path)
