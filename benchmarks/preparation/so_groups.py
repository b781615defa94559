"""Draws the definition of the eight groups of cues over one slow oscillation.

python -m benchmarks.preparation.so_groups          (writes docs/images/so_groups.png)
"""

import sys
from pathlib import Path

import numpy as np

from sleep_interpreter.data.events.slow_oscillations import group_limits
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.core.paths import ROOT
from sleep_interpreter.utils.plots.style import saved_figure

MARKS = (0.0, 0.35, 0.8, 1.4)
"""Seconds at which the oscillation starts, falls through zero, rises through zero and ends."""


def draw_so_groups(path: Path) -> None:
    """Draw the groups and write the figure."""
    limits = [-0.5, *group_limits(*MARKS), MARKS[-1] + 0.5]
    times = np.linspace(limits[0], limits[-1], 1000)
    wave = np.zeros(len(times))
    for start, stop, height in zip(MARKS[:-1], MARKS[1:], (0.5, -1.0, 0.7), strict=True):
        inside = (times >= start) & (times < stop)
        wave[inside] = height * np.sin(np.pi * (times[inside] - start) / (stop - start))
    with saved_figure(path, (7.5, 3.0)) as (_, ax):
        for k, name in enumerate(SO_GROUPS):
            ax.axvspan(limits[k], limits[k + 1], color=f"C{k}", alpha=0.25, linewidth=0)
            middle = (limits[k] + limits[k + 1]) / 2
            ax.text(middle, 1.15, name, rotation=90, ha="center", va="bottom", fontsize=8)
        ax.plot(times, wave, color="black")
        ax.axhline(0, color="0.5", linewidth=0.8)
        ax.set(xlabel="Time (s)", ylabel="EEG (trough = -1)", xlim=(limits[0], limits[-1]), ylim=(-1.1, 2.4))
        ax.set_yticks([-1, 0, 1])


def main(argv: list[str] | None = None) -> None:
    """Write the figure of docs/data_format.md."""
    command_line.parser(__doc__).parse_args(argv)
    draw_so_groups(ROOT / "docs" / "images" / "so_groups.png")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
