"""All figures of the project: labelled axes with units, colour-blind-safe, readable at column width."""

import matplotlib

matplotlib.use("Agg")  # files only: the scripts run on machines without a screen

import matplotlib.pyplot as plt
import numpy as np

from utils.paths import writing
from utils.vocabulary import STAGES

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
"""Colours of the palette of Okabe and Ito, which survives colour blindness."""

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 150,
    "savefig.bbox": "tight",
}


def save(figure, path):
    """Write a figure atomically and close it."""
    with writing(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    plt.close(figure)


def titled(title, kind):
    """Return a title that says where the data come from, such as "N23SIMD (simulated)"."""
    return title if kind is None else f"{title} ({kind})"


def confusion_matrix(label, predicted, names, path, title="", kind=None):
    """Draw how often each item was decoded as each other.

    Parameters
    ----------
    label, predicted : int arrays (n,)
    names : sequence of str
        One a class.
    path : Path
    title, kind : str
        `kind` is "simulated" or "real", shown beside the title.
    """
    from sklearn.metrics import confusion_matrix as count

    counts = count(label, predicted, labels=np.arange(len(names)))
    rows = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, rows, out=np.full(counts.shape, np.nan), where=rows > 0)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.8, 4.2))
        image = axes.imshow(share * 100, cmap="cividis", vmin=0, vmax=max(20.0, np.nanmax(share) * 100))
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="Decoded item", ylabel="Cued item")
        axes.set_title(f"{titled(title, kind)}, n = {len(label)} trials", fontsize=9)
        axes.spines[:].set_visible(False)
        figure.colorbar(
            image, ax=axes, label=f"Share of the cued item's trials (%); chance {100 / len(names):.1f}"
        )
        save(figure, path)


def subject_accuracies(by_subject, overall, path, title="", kind=None):
    """Draw top-1 of every subject with its interval, the mean with its interval, and chance.

    Parameters
    ----------
    by_subject : dict
        {name: result of `utils.stats.proportion`}.
    overall : dict
        Result of `utils.stats.over_subjects`.
    """
    shown = {name: row for name, row in by_subject.items() if row["n"]}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(max(3.4, 1.2 + 0.3 * len(shown)), 3.0))
        for place, row in enumerate([*shown.values(), overall]):
            last = place == len(shown)
            x, y = place + (0.5 if last else 0), row["accuracy"] * 100
            error = [[y - row["low"] * 100], [row["high"] * 100 - y]]
            colour = ORANGE if last else BLUE
            axes.errorbar(
                x,
                y,
                yerr=np.maximum(error, 0),
                fmt="s" if last else "o",
                color=colour,
                capsize=3,
                markersize=5,
            )
        axes.axhline(overall["chance"] * 100, color=GREY, linestyle="--", linewidth=1)
        axes.text(-0.55, overall["chance"] * 100, "chance", color=GREY, va="bottom", fontsize=8)
        names = [name.replace("subject_test_", "") for name in shown]
        axes.set_xticks([*range(len(shown)), len(shown) + 0.5], [*names, "mean"])
        axes.set_xlim(-0.6, len(shown) + 1.1)
        axes.set_ylim(bottom=0)
        axes.set(xlabel="Test subject", ylabel="Top-1 accuracy (%), 95 % interval")
        axes.set_title(f"{titled(title, kind)}, n = {overall['n']} trials", fontsize=9)
        save(figure, path)


def training_curve(history, path, title="", kind=None):
    """Draw training loss and training top-1 against the epoch, one line a member.

    Parameters
    ----------
    history : pandas.DataFrame
        Columns member, epoch, loss, train_top1 (log.csv of a run).
    """
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(6.8, 2.6))
        for member, rows in history.groupby("member"):
            panels[0].plot(rows["epoch"] + 1, rows["loss"], label=f"member {member + 1}")
            panels[1].plot(rows["epoch"] + 1, rows["train_top1"] * 100)
        panels[0].set(xlabel="Epoch", ylabel="Training loss")
        panels[1].set(xlabel="Epoch", ylabel="Top-1 on training trials (%)")
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
        _draw_hypnodensity(middle, times, smoothed)
        _draw_gate(bottom, times, smoothed, threshold)
        _draw_cues(bottom, log, scale)
        bottom.set_xlabel(f"Time in the recording ({unit})")
        bottom.set_xlim(begin / scale, max(end, begin + 1) / scale)
        top.set_title(titled(title, kind))
        figure.align_ylabels()
        save(figure, path)


# Okabe and Ito's colours, told apart with every kind of colour vision; in the order of STAGES.
_STAGE_COLOURS = ("#E69F00", "#56B4E9", "#0072B2", "#009E73")


def _draw_hypnogram(axes, times, smoothed):
    rows = {"W/N1": 3, "R": 2, "N2": 1, "N3": 0}
    known = np.isfinite(smoothed).all(axis=1)
    codes = np.where(known, np.nan_to_num(smoothed).argmax(axis=1), 0)
    level = np.where(known, [rows[STAGES[c]] for c in codes], np.nan)
    axes.step(times, level, where="post", color="black", linewidth=1)
    for code, colour in enumerate(_STAGE_COLOURS):
        own = np.where(known & (codes == code), level, np.nan)
        starts, stops, height = times[:-1], times[1:], own[:-1]
        axes.hlines(height, starts, stops, color=colour, linewidth=4)
    axes.set_yticks(list(rows.values()), list(rows))
    axes.set_ylim(-0.5, 3.5)
    axes.set_ylabel("Stage")


def _draw_hypnodensity(axes, times, smoothed):
    base = np.zeros(len(times))
    for code in (2, 1, 3, 0):  # deepest sleep at the bottom, as in the hypnogram
        upper = base + smoothed[:, code]
        axes.fill_between(
            times, base, upper, step="post", color=_STAGE_COLOURS[code], linewidth=0, label=STAGES[code]
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
