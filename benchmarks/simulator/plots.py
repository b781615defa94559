"""Figures of the simulator's report: simulated beside real sleep, detected beside planted events."""

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.simulator.measures import STAGES_5
from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS
from sleep_interpreter.utils.plots.style import BLUE, GREEN, GREY, ORANGE, PINK, STYLE, own_settings, save

COLOURS = dict(zip(STAGES_5, ("#E69F00", PINK, "#56B4E9", BLUE, GREEN), strict=True))
"""Colour of a stage, of the palette of Okabe and Ito."""
_SMALL = {**STYLE, "font.size": 8, "figure.dpi": 110, "legend.frameon": False, "legend.fontsize": 7}
_SPACING_UV = 160.0


def traces(nights, path):
    """Draw ten seconds of every stage, a column a recording.

    Parameters
    ----------
    nights : dict of str to dict
        {title: what `simulator_nights.collect` returned}.
    """
    with own_settings(_SMALL):
        figure, panels = plt.subplots(
            len(STAGES_5), len(nights), figsize=(8, 7.5), sharex=True, layout="constrained", squeeze=False
        )
        for column, (title, found) in enumerate(nights.items()):
            names = found["trace_names"]
            for row, stage in enumerate(STAGES_5):
                axes = panels[row, column]
                trace = found.get(f"trace/{stage}")
                axes.set_ylim(-_SPACING_UV * (len(names) - 0.35), _SPACING_UV * 0.65)
                axes.set_yticks(-_SPACING_UV * np.arange(len(names)), names)
                if trace is not None:
                    seconds = np.arange(trace.shape[1]) / float(found["rate"])
                    for place, line in enumerate(trace):
                        level = line - np.median(line) - place * _SPACING_UV
                        axes.plot(seconds, level, color="black", linewidth=0.4)
                axes.set_title(stage, loc="left", color=COLOURS[stage], fontweight="bold", pad=2)
                if row == 0:
                    axes.set_title(title, pad=2)
            panels[-1, column].set_xlabel("Time (s)")
        for axes in panels[0]:
            axes.plot([10.25, 10.25], [-50, 50], color=ORANGE, linewidth=2, clip_on=False)
            axes.text(10.35, 0, "100 µV", color=ORANGE, va="center", fontsize=7)
        save(figure, path)


def spectra(nights, fits, fit_hz, path):
    """Draw power spectra by stage with their 1/f lines, a panel a recording.

    Parameters
    ----------
    nights : dict of str to (frequency, {stage: (F,)})
    fits : dict of str to {stage: result of `simulator_measures.aperiodic`}
    """
    with own_settings(_SMALL):
        figure, panels = plt.subplots(
            1, len(nights), figsize=(7.5, 3.3), sharex=True, sharey=True, layout="constrained", squeeze=False
        )
        for axes, (title, (frequency, own)) in zip(panels[0], nights.items(), strict=True):
            for stage, power in own.items():
                fit, edges = fits[title][stage], np.array(fit_hz)
                label = f"{stage}: exponent {fit['exponent']:.2f}"
                axes.loglog(frequency, power, color=COLOURS[stage], linewidth=1.2, label=label)
                line = 10 ** (fit["offset"] - fit["exponent"] * np.log10(edges))
                axes.loglog(edges, line, "--", color=COLOURS[stage], linewidth=0.8)
            axes.set_title(title)
            axes.set_xlabel("Frequency (Hz)")
            axes.set_xticks([0.5, 1, 2, 5, 10, 20, 45], ["0.5", "1", "2", "5", "10", "20", "45"])
            axes.minorticks_off()
            axes.legend(loc="lower left")
        panels[0, 0].set_ylabel("Power (µV²/Hz)")
        save(figure, path)


def events(panels, path):
    """Draw distributions of events, densities over bins.

    Parameters
    ----------
    panels : list of dict
        label (of the axis), bins, rows {name: values}; names that begin with "planted" are drawn filled,
        with "real" dashed. A group without values is left out.
    """
    colours = {"detected": BLUE, "real": ORANGE, "planted": GREY}
    with own_settings(_SMALL):
        figure, grid = plt.subplots(2, 3, figsize=(8.4, 5), layout="constrained")
        for axes, panel in zip(grid.flat, panels, strict=False):
            used = set()
            for name, values in panel["rows"].items():
                if not len(values):
                    continue
                first = name.split()[0].rstrip(",:")
                colour = GREEN if first in used else colours[first]
                used.add(first)
                style = {"histtype": "stepfilled", "alpha": 0.4} if first == "planted" else {"histtype": "step"}
                style |= {"linestyle": "--"} if first == "real" else {}
                axes.hist(
                    np.clip(values, panel["bins"][0], panel["bins"][-1]), panel["bins"], density=True,
                    color=colour, linewidth=1.2, label=f"{name} (n = {len(values)})", **style,
                )  # fmt: skip
            axes.set_xlabel(panel["label"])
            axes.set_yticks([])
            axes.set_ylim(top=1.75 * axes.get_ylim()[1])
            axes.legend(loc="upper right", fontsize=6, handlelength=1.2)
        for row in grid:
            row[0].set_ylabel("Density")
        save(figure, path)


def locked(panels, path):
    """Draw sigma amplitude around the troughs of slow oscillations, a panel a band.

    Parameters
    ----------
    panels : dict of str to {label: (seconds, amplitude)}
        Amplitude relative to its mean; labels that begin with "real" are dashed.
    """
    with own_settings(_SMALL):
        figure, grid = plt.subplots(1, len(panels), figsize=(7, 2.5), sharey=True, layout="constrained", squeeze=False)
        for axes, (title, lines) in zip(grid[0], panels.items(), strict=True):
            for (label, (seconds, amplitude)), colour in zip(lines.items(), (BLUE, GREEN, ORANGE), strict=False):
                real = label.startswith("real")
                axes.plot(
                    seconds, 100 * amplitude, "--" if real else "-", color=ORANGE if real else colour, label=label
                )
            axes.axvline(0, color=GREY, linewidth=0.8)
            axes.axhline(100, color=GREY, linewidth=0.5)
            axes.set(title=title, xlabel="Time after the trough (s)", xticks=(-1, -0.5, 0, 0.5, 1))
            axes.legend(fontsize=6)
        grid[0, 0].set_ylabel("Amplitude (% of its mean)")
        save(figure, path)


def staging(planted, seen, confusion, path):
    """Draw the planted hypnogram over the classifier's, and the confusion of all nights.

    Parameters
    ----------
    planted, seen : str array (n,)
        Stages of one night.
    confusion : int array (4, 4)
        Rows planted, columns seen.
    """
    levels = {"W": 4, "R": 3, "N1": 2, "N2": 1, "N3": 0}
    confusion = np.asarray(confusion)
    with own_settings(_SMALL):
        figure = plt.figure(figsize=(8, 2.9), layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=[2.4, 1])
        for row, (stages, title) in enumerate(((planted, "planted"), (seen, "YASA's classifier"))):
            axes = figure.add_subplot(grid[row, 0])
            hours = np.arange(len(stages) + 1) * STAGING_SECONDS / 3600
            level = [levels[stage] for stage in stages]
            axes.step(hours, [*level, level[-1]], where="post", color=(BLUE, ORANGE)[row], linewidth=0.8)
            axes.set_yticks(list(levels.values()), list(levels))
            axes.set_title(title, loc="left", pad=2)
        axes.set_xlabel("Time (h)")
        axes = figure.add_subplot(grid[:, 1])
        share = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="cividis", vmin=0, vmax=100)
        for i, row in enumerate(share):
            for j, value in enumerate(row):
                text = f"{value:.0f} %\n{confusion[i, j]}"
                axes.text(j, i, text, ha="center", va="center", color="white" if value < 55 else "black", fontsize=6.5)
        axes.set_xticks(range(len(STAGES)), STAGES)
        axes.set_yticks(range(len(STAGES)), STAGES)
        axes.set(xlabel="Seen by YASA", ylabel="Planted")
        axes.spines[:].set_visible(False)
        axes.set_title("share of the planted epochs, number", fontsize=7)
        save(figure, path)


def hypnograms(real, simulated, labels, path):
    """Draw cumulative distributions of measures of nights.

    Parameters
    ----------
    real, simulated : list of dict
        `simulator_staging.night_measures` of every night; real may be empty.
    labels : dict of str to str
        Measures to draw and what they are.
    """
    with own_settings(_SMALL):
        figure, grid = plt.subplots(2, 4, figsize=(8.2, 3.8), sharey=True, layout="constrained")
        for axes, (key, label) in zip(grid.flat, labels.items(), strict=False):
            for rows, name, colour, style in ((simulated, "simulated", BLUE, "-"), (real, "real", ORANGE, "--")):
                values = np.array([row[key] for row in rows])
                values = np.sort(values[np.isfinite(values)])
                if len(values):
                    share = 100 * np.arange(1, len(values) + 1) / len(values)
                    axes.step(values, share, style, color=colour, label=f"{name}, n = {len(values)}")
            axes.set_xlabel(label, fontsize=7)
        grid[0, 0].legend(loc="lower right", fontsize=6)
        for row in grid:
            row[0].set_ylabel("Nights (%)")
        save(figure, path)


def evoked(averages, channel, maps, path):
    """Draw averages around cues at one channel, and maps of chosen moments.

    Parameters
    ----------
    averages : dict of str to (seconds, average (C, n), names, count)
        By stage.
    channel : str
    maps : list of (str, (float, float))
        Stage and window (s) to average over.
    """
    with own_settings(_SMALL):
        figure = plt.figure(figsize=(8, 3.9), layout="constrained")
        grid = figure.add_gridspec(2, len(maps), height_ratios=[1.5, 1])
        axes = figure.add_subplot(grid[0, :])
        for stage, (seconds, average, names, count) in averages.items():
            line = average[list(names).index(channel)]
            axes.plot(seconds, line, color=COLOURS[stage], linewidth=1.2, label=f"{stage}, n = {count}")
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.axhline(0, color=GREY, linewidth=0.5)
        axes.set(xlabel="Time after the sound (s)", ylabel=f"{channel} (µV)")
        axes.legend(loc="lower right", ncols=len(averages))
        for column, (stage, window) in enumerate(maps):
            seconds, average, names, _ = averages[stage]
            inside = (seconds >= window[0]) & (seconds <= window[1])
            title = f"{stage}, {window[0]:g} to {window[1]:g} s"
            _map(figure, figure.add_subplot(grid[1, column]), average[:, inside].mean(axis=1), names, title, "µV")
        save(figure, path)


def topographies(maps, path):
    """Draw maps of values over the scalp.

    Parameters
    ----------
    maps : list of (str, array (C,), sequence of str, str)
        Title, values, channels, unit.
    """
    with own_settings(_SMALL):
        figure, panels = plt.subplots(1, len(maps), figsize=(8, 2.2), layout="constrained")
        for axes, (title, values, names, unit) in zip(panels, maps, strict=True):
            _map(figure, axes, values, names, title, unit)
        save(figure, path)


def _map(figure, axes, values, names, title, unit):
    import mne

    from sleep_interpreter.utils.signal.electrodes import standard_montage

    info = mne.create_info(list(names), 100.0, "eeg")
    info.set_montage(standard_montage())
    signed = unit == "µV" or values.min() < 0 < values.max()
    edge = np.abs(values).max()
    limits = (-edge, edge) if signed else (values.min(), values.max())
    image, _ = mne.viz.plot_topomap(
        values, info, axes=axes, show=False, vlim=limits, cmap="RdBu_r" if signed else "cividis", contours=4,
        sensors="k,",
    )  # fmt: skip
    axes.set_title(title, fontsize=7)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=12, pad=0.02)
    bar.set_label(unit, fontsize=6)
    bar.ax.tick_params(labelsize=5)
    bar.outline.set_visible(False)
