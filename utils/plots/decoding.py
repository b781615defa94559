"""All figures of the project: labelled axes with units, colour-blind-safe, readable at column width."""

import matplotlib

matplotlib.use("Agg")  # files only: the scripts run on machines without a screen

import matplotlib.pyplot as plt
import numpy as np

from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.paths import writing

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
"""Colours of the palette of Okabe and Ito, which survives colour blindness."""

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 150,
    "savefig.bbox": "tight",
}

WIDTH = 3.5
"""Width of a journal's column in inches."""
COLUMN = {
    **STYLE, "font.size": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7,
    "legend.title_fontsize": 7, "savefig.bbox": None, "savefig.dpi": 300,
}  # fmt: skip
"""For figures of that width: saved at exactly their size."""


def save(figure, path):
    """Write a figure atomically and close it."""
    with writing(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    plt.close(figure)


def titled(title, kind):
    """Return a title that says where the data come from, such as "N23SIMD (simulated)"."""
    return title if kind is None else f"{title} ({kind})"


def confusion_matrix(counts, names, path, title="", kind=None):
    """Draw how often each item was decoded as each other, as shares of the cued item's trials.

    Parameters
    ----------
    counts : int array (K, K)
        Rows are cued, columns decoded items.
    names : sequence of str
        One a class.
    path : Path
    title, kind : str
        `kind` ("simulated") is shown beside the title.
    """
    counts = np.asarray(counts)
    rows = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, rows, out=np.full(counts.shape, np.nan), where=rows > 0) * 100
    top = max(200 / len(names), np.nanmax(share, initial=0.0))
    with plt.rc_context(COLUMN):
        figure, axes = plt.subplots(figsize=(WIDTH, 3.9), layout="constrained")
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=top)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(
            range(len(names)), [f"{name} ({n})" for name, n in zip(names, rows[:, 0], strict=True)]
        )
        axes.set(xlabel="Decoded item", ylabel="Cued item (trials)")
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, location="bottom", fraction=0.04, aspect=36, pad=0.02)
        bar.set_label(f"Share of the cued item's trials (%)\nwhite line: chance, {100 / len(names):.1f} %")
        bar.outline.set_visible(False)
        bar.ax.axvline(100 / len(names), color="white", linewidth=1)
        _title(figure, title, kind, f"n = {counts.sum()} trials")
        save(figure, path)


def subject_accuracies(by_subject, overall, path, title="", kind=None):
    """Draw top-1 of every subject with its interval, the mean with its interval, and chance.

    Parameters
    ----------
    by_subject : dict
        {name: result of `utils.metrics.statistics.proportion`}; subjects without trials are named below the axis.
    overall : dict
        Result of `utils.metrics.statistics.over_subjects`.
    """
    names = [name.replace("subject_test_", "") for name in by_subject]
    crowded = len(names) > 14 or max(map(len, names)) > 3
    ends = len(names) + 0.5
    with plt.rc_context(COLUMN):
        figure, axes = plt.subplots(figsize=(max(WIDTH, 0.16 * len(names)), 2.6), layout="constrained")
        _chance(axes, overall["chance"])
        for place, row in enumerate(by_subject.values()):
            if row["n"]:
                _point(axes, place, row, "o", BLUE)
            else:
                _no_trials(axes, place, overall["chance"])
        _point(axes, ends, overall, "s", ORANGE)
        axes.set_xticks([*range(len(names)), ends], [*names, "mean"], rotation=90 if crowded else 0)
        axes.set_xlim(-0.6, ends + 0.6)
        axes.set_ylim(bottom=0)
        axes.set(xlabel="Test subject", ylabel="Top-1 accuracy (%), 95 % interval")
        _title(figure, title, kind, f"n = {overall['n']} trials")
        save(figure, path)


def reliability(calibration, path, title="", kind=None):
    """Draw accuracy against confidence in bins, and how many trials each bin holds.

    Parameters
    ----------
    calibration : dict
        Result of `utils.metrics.reliability.confidence_reliability`.
    """
    bins = [row for row in calibration["bins"] if row["n"]]
    total = sum(row["n"] for row in bins)
    with plt.rc_context(COLUMN):
        figure, (top, bottom) = plt.subplots(
            2, 1, figsize=(WIDTH, 3.6), sharex=True, height_ratios=[3, 1], layout="constrained"
        )
        top.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
        confidence = [100 * row["confidence"] for row in bins]
        top.plot(confidence, [100 * row["accuracy"] for row in bins], color=BLUE, linewidth=1)
        for x, row in zip(confidence, bins, strict=True):
            _point(top, x, row, "o", BLUE)
        top.set(xlim=(0, 100), ylim=(0, 100), ylabel="Top-1 accuracy (%),\n95 % interval")
        top.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        for row in calibration["bins"]:
            low, width = 100 * row["from"], 100 * (row["to"] - row["from"])
            bottom.bar(low, 100 * row["n"] / total, width, align="edge", color=BLUE, edgecolor="white")
        bottom.set(xlabel="Confidence: probability of the decoded item (%)", ylabel="Trials (%)")
        figure.align_ylabels()
        _title(figure, title, kind, f"n = {total} trials, ECE {calibration['ece']:.3f}")
        save(figure, path)


def group_accuracies(groups, path, title="", kind=None):
    """Draw top-1 of groups of trials in their order, with interval, subjects, chance and n.

    Parameters
    ----------
    groups : dict
        {name: {"n", "subjects", "accuracy", "low", "high", "chance", "values" (one a subject)}}.
    """
    with plt.rc_context(COLUMN):
        figure, axes = plt.subplots(figsize=(max(WIDTH, 0.4 * len(groups)), 2.9), layout="constrained")
        _chance(axes, next(iter(groups.values()))["chance"])
        for place, row in enumerate(groups.values()):
            if not row["n"]:
                _no_trials(axes, place, row["chance"])
                continue
            values = [100 * value for value in row["values"]]
            axes.plot([place - 0.22] * len(values), values, ".", color=GREY, markersize=3, clip_on=False)
            _point(axes, place, row, "o", BLUE)
        names = [f"{name}\nn = {row['n']}" for name, row in groups.items()]
        axes.set_xticks(range(len(groups)), names, rotation=90)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.set_ylim(bottom=0)
        axes.set(xlabel="Phase of the slow oscillation", ylabel="Top-1 accuracy (%), 95 % interval")
        _title(figure, title, kind, f"{max(row['subjects'] for row in groups.values())} subjects (grey)")
        save(figure, path)


def compared_runs(values, rows, path, measure, title="", kind=None):
    """Draw runs side by side: one line a subject, the mean over subjects with its interval, chance.

    Parameters
    ----------
    values : dict
        {run: {subject: accuracy}}; a subject's line joins the runs that tested it.
    rows : dict
        {run: result of `utils.metrics.statistics.over_subjects`}.
    measure : str
        For the axis.
    """
    runs = list(values)
    with plt.rc_context(COLUMN):
        figure, axes = plt.subplots(figsize=(max(WIDTH, 0.6 * len(runs)), 2.8), layout="constrained")
        _chance(axes, next(iter(rows.values()))["chance"])
        for subject in dict.fromkeys(name for own in values.values() for name in own):
            line = [100 * values[run].get(subject, np.nan) for run in runs]
            axes.plot(range(len(runs)), line, "-", color=GREY, linewidth=0.8, marker=".", alpha=0.6)
        for place, run in enumerate(runs):
            _point(axes, place + 0.12, rows[run], "s", ORANGE)
        labels = [f"{run}\n{rows[run]['subjects']} subjects,\nn = {rows[run]['n']}" for run in runs]
        upright = max(map(len, runs)) > 44 / len(runs)
        axes.set_xticks(range(len(runs)), labels, rotation=90 if upright else 0)
        axes.set_xlim(-0.4, len(runs) - 0.6)
        axes.set_ylim(bottom=0)
        axes.set(ylabel=f"{measure[0].upper()}{measure[1:]} (%),\n95 % interval of the mean")
        _title(figure, title, kind, "grey: subjects")
        save(figure, path)


def compared_methods(rows, path, title="", kind=None):
    """Draw methods side by side on the same trials: accuracy with interval, chance, and other seeds.

    Parameters
    ----------
    rows : dict
        {name: {"n", "accuracy", "low", "high", "chance", "values" (accuracies of all seeds, may be empty)}}.
    """
    with plt.rc_context(COLUMN):
        figure, axes = plt.subplots(figsize=(max(WIDTH, 0.8 * len(rows)), 2.6), layout="constrained")
        _chance(axes, next(iter(rows.values()))["chance"])
        for place, row in enumerate(rows.values()):
            values = [100 * value for value in row["values"]]
            axes.plot([place - 0.22] * len(values), values, ".", color=GREY, markersize=4, clip_on=False)
            _point(axes, place, row, "o", BLUE)
        axes.set_xticks(range(len(rows)), list(rows))
        axes.set(xlim=(-0.6, len(rows) - 0.4), ylim=(0, 100), ylabel="Accuracy (%), 95 % interval")
        _title(figure, title, kind, f"n = {next(iter(rows.values()))['n']} trials; grey: seeds")
        save(figure, path)


def _point(axes, x, row, mark, colour):
    y = row["accuracy"] * 100
    error = np.maximum([[y - row["low"] * 100], [row["high"] * 100 - y]], 0)
    axes.errorbar(
        x, y, yerr=error, fmt=mark, color=colour, capsize=2, markersize=4, linewidth=1, clip_on=False
    )


def _chance(axes, chance):
    axes.axhline(chance * 100, color=GREY, linestyle="--", linewidth=1, zorder=0)
    axes.text(
        1.01,
        chance * 100,
        "chance",
        transform=axes.get_yaxis_transform(),
        va="center",
        color=GREY,
        fontsize=7,
    )


def _no_trials(axes, x, chance):
    y = 100 * chance + 1  # clear of the chance line
    axes.text(x, y, "no trials", rotation=90, ha="center", va="bottom", color=GREY, fontsize=7)


def _title(figure, title, kind, more):
    """Put the title above everything, on two lines where one would be wider than the column."""
    first = titled(title, kind)
    long = len(first) + len(more) > 46
    figure.suptitle(f"{first}\n{more}" if long else f"{first}, {more}", fontsize=8)


def training_curve(history, path, title="", kind=None):
    """Draw training loss and training top-1 against the epoch, one line a member.

    Parameters
    ----------
    history : pandas.DataFrame
        Columns member, epoch, loss, train_top1, with validation subjects validation_top1 (log.csv of a run).
    """
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(6.8, 2.6))
        for member, rows in history.groupby("member"):
            panels[0].plot(rows["epoch"] + 1, rows["loss"], label=f"member {member + 1}")
            (line,) = panels[1].plot(rows["epoch"] + 1, rows["train_top1"] * 100)
            if "validation_top1" in rows:
                validated = rows["validation_top1"] * 100
                panels[1].plot(rows["epoch"] + 1, validated, "--", color=line.get_color())
        panels[0].set(xlabel="Epoch", ylabel="Training loss")
        both = "validation_top1" in history
        label = "Top-1 (%), dashed: validation" if both else "Top-1 on training trials (%)"
        panels[1].set(xlabel="Epoch", ylabel=label)
        for panel in panels:
            panel.xaxis.get_major_locator().set_params(integer=True)
        panels[0].legend(frameon=False)
        figure.suptitle(titled(title, kind), fontsize=9)
        figure.tight_layout()
        save(figure, path)


def plot_session(log, path, title="", kind=None, threshold=0.8):
    """Draw a real-time session: hypnogram, hypnodensity, and the gate with its cues.

    Parameters
    ----------
    log : list of dict
        Events of a session (log.jsonl); `seconds` is the time axis.
    path : str | Path
        PNG.
    title : str
    kind : str | None
        "real recording" or "simulated recording", put into the title.
    threshold : float
        P(N2) + P(N3) from which the gate may open.
    """
    stages = [e for e in log if e["event"] == "stage"]
    end = max((e["seconds"] for e in log), default=0.0)
    begin = min((e["seconds"] for e in log), default=0.0)
    scale, unit = (3600, "h") if end - begin > 2 * 3600 else (60, "min")
    # A closing point makes the last estimate as wide as the others.
    times = np.array([e["seconds"] for e in stages] + [end]) / scale
    smoothed = [e["detail"]["smoothed"] or [np.nan] * len(STAGES) for e in stages]
    smoothed = np.array([*smoothed, smoothed[-1]] if smoothed else [[np.nan] * len(STAGES)])

    with plt.rc_context(STYLE):
        figure, (top, middle, bottom) = plt.subplots(
            3, 1, figsize=(6.5, 6), sharex=True, height_ratios=[1, 1, 1.5], layout="constrained"
        )
        _draw_hypnogram(top, times, smoothed)
        draw_hypnodensity(middle, times, smoothed)
        _draw_gate(bottom, times, smoothed, threshold)
        _draw_cues(bottom, log, scale)
        bottom.set_xlabel(f"Time in the recording ({unit})")
        bottom.set_xlim(begin / scale, max(end, begin + 1) / scale)
        top.set_title(titled(title, kind))
        figure.align_ylabels()
        save(figure, path)


# Okabe and Ito's colours, told apart with every kind of colour vision; in the order of STAGES.
STAGE_COLOURS = ("#E69F00", "#56B4E9", "#0072B2", "#009E73")


def _draw_hypnogram(axes, times, smoothed):
    rows = {"W/N1": 3, "R": 2, "N2": 1, "N3": 0}
    known = np.isfinite(smoothed).all(axis=1)
    codes = np.where(known, np.nan_to_num(smoothed).argmax(axis=1), 0)
    level = np.where(known, [rows[STAGES[c]] for c in codes], np.nan)
    axes.step(times, level, where="post", color="black", linewidth=1)
    for code, colour in enumerate(STAGE_COLOURS):
        own = np.where(known & (codes == code), level, np.nan)
        starts, stops, height = times[:-1], times[1:], own[:-1]
        axes.hlines(height, starts, stops, color=colour, linewidth=4)
    axes.set_yticks(list(rows.values()), list(rows))
    axes.set_ylim(-0.5, 3.5)
    axes.set_ylabel("Stage")


def draw_hypnodensity(axes, times, smoothed):
    """Draw probabilities (n, 4) as stacked areas; an estimate holds from its time to the next."""
    base = np.zeros(len(times))
    for code in (2, 1, 3, 0):  # deepest sleep at the bottom, as in the hypnogram
        upper = base + smoothed[:, code]
        axes.fill_between(
            times, base, upper, step="post", color=STAGE_COLOURS[code], linewidth=0, label=STAGES[code]
        )
        base = upper
    axes.set_ylim(0, 1)
    axes.set_ylabel("Probability")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _draw_gate(axes, times, smoothed, threshold):
    axes.step(times, smoothed[:, 1] + smoothed[:, 2], where="post", color="black", linewidth=1)
    axes.axhline(threshold, color=GREY, linestyle="--", linewidth=1)
    axes.text(
        1.01, threshold, "threshold", transform=axes.get_yaxis_transform(), va="center", fontsize="small"
    )
    axes.set_ylim(-0.3, 1.05)
    axes.set_ylabel("P(N2) + P(N3)")


def _draw_cues(axes, log, scale):
    """Put cues as ticks below the curve, one row a group, and the decodes below them."""
    cues = [e for e in log if e["event"] == "cue"]
    decoded = {e["detail"]["number"]: e for e in log if e["event"] == "decode"}
    rows = (-0.12, -0.22)
    known = any(e["detail"]["recorded"] for e in decoded.values())
    for group, y in enumerate(rows):
        when = [e["seconds"] / scale for e in cues if e["detail"]["group"] == group]
        axes.plot(when, [y] * len(when), "|", color=(ORANGE, PINK)[group], markersize=7)
    ticks = list(rows)
    names = ["group 0", "group 1"]
    if known:
        axes.set_ylim(-0.5, 1.05)
        for right, y, mark, colour in ((True, -0.32, "o", BLUE), (False, -0.42, "x", "black")):
            when = [
                e["seconds"] / scale
                for e in decoded.values()
                if (e["detail"]["item"] == e["detail"]["cued"]) == right
            ]
            axes.plot(when, [y] * len(when), mark, color=colour, markersize=3)
            ticks.append(y)
            names.append("right" if right else "wrong")
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.set_yticks([0, 0.5, 1, *ticks], ["0", "0.5", "1", *names])
    for label in axes.get_yticklabels()[3:]:
        label.set_fontsize("x-small")
