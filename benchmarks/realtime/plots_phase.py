"""Figure of the phases that cues met, one panel a recording and method."""

import matplotlib.pyplot as plt
import numpy as np

from sleep_interpreter.utils.plots.style import BLUE, COLUMN, GREY, ORANGE, WIDTH, own_settings, save

_BINS = np.arange(-180, 181, 30)


def phase_histograms(degrees, methods, target, path):
    """Draw the share of cues at each phase of the slow oscillation.

    Parameters
    ----------
    degrees : dict
        {(data, method): array (n,) of degrees, NaN left out}; the data's name begins with simulated or real.
    methods : sequence of str
    target : float
        Degrees, drawn as a line.
    path : Path
    """
    data = list(dict.fromkeys(name for name, _ in degrees))
    with own_settings(COLUMN):
        figure, axes = plt.subplots(
            len(data), len(methods), figsize=(2 * WIDTH, 1.3 * len(data) + 0.4), sharex=True, sharey=True,
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for row, name in enumerate(data):
            for column, method in enumerate(methods):
                values, axis = degrees[name, method], axes[row, column]
                values = values[np.isfinite(values)]
                if len(values):
                    weights = np.full(len(values), 100 / len(values))
                    colour = GREY if method == "random" else BLUE
                    axis.hist(values, _BINS, weights=weights, color=colour, edgecolor="white", linewidth=0.5)
                axis.axvline(target, color=ORANGE, linewidth=1.2)
                axis.axhline(100 / 12, color="black", linewidth=0.6, linestyle=":")
                axis.set_title(f"{name}: {method}, n = {len(values)}", fontsize=7)
                axis.set_xticks([-180, -90, 0, 90, 180])
        figure.supxlabel("phase of the slow oscillation at the cue (degrees; 0 = up-state)", fontsize=8)
        figure.supylabel("cues (%)", fontsize=8)
        save(figure, path)
