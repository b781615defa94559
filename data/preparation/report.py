"""The quality report of a prepared subject (MNE's HTML report)."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import mne
import numpy as np
from scipy import signal

from sleep_interpreter.data.events.cue_phases import spindles_at_random
from sleep_interpreter.data.events.slow_oscillations import NREM, compare_events
from sleep_interpreter.data.formats.scoring_readers import Hypnogram
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.preparation.channels import make_info
from sleep_interpreter.data.preparation.cleaning import CRITERIA, PYPREP
from sleep_interpreter.data.preparation.recording import Cleaned
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.data.preparation.signal import pieces
from sleep_interpreter.data.preparation.trials import Trials, windows
from sleep_interpreter.utils.core.constants import N2, N3, STAGES, STREAM_RATE
from sleep_interpreter.utils.core.data_card import AWAKE
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.metrics.circular import against_random_times, counts_against_random_times
from sleep_interpreter.utils.plots import preparation as plots
from sleep_interpreter.utils.plots import style
from sleep_interpreter.utils.plots.html_page import render
from sleep_interpreter.utils.signal.phase import PHASE_FROM

_TEMPLATE = Path(__file__).with_suffix(".html")
_MINUTES = 10
_AROUND = 1.5
_NEAR = 0.4  # s: a detected event as near as this to a planted one is the same


@dataclass
class SessionDetails:
    """What the report and the manifest say of one recording, kept when its working files are gone."""

    cleaned: Cleaned
    dropped: dict[str, dict]  # {window of a trial: {reason: number of trials that were left out}}
    spectra: tuple[np.ndarray, np.ndarray, np.ndarray]  # frequencies in Hz; power as recorded, and cleaned
    so: dict  # counts of slow oscillations and spindles, mean wave and coupling

    @classmethod
    def of(cls, cleaned: Cleaned, dropped: dict[str, dict], channel: str) -> Self:
        """Take what is told of a recording from its files; `channel` shows the waves."""
        rows = [cleaned.plan.rows[n] for n in cleaned.plan.eeg]
        hz, before = _spectrum(pieces(cleaned.raw, rows, _MINUTES))
        _, after = _spectrum(pieces(cleaned.eeg, None, _MINUTES))
        return cls(cleaned, dropped, (hz, before, after), _oscillations(cleaned, channel))

    def summary(self) -> dict:
        """Return what the manifest keeps of this recording."""
        cleaned, hypnogram = self.cleaned, self.cleaned.hypnogram
        minutes = hypnogram and _minutes(hypnogram, cleaned.raw.seconds)
        return {
            "recording": cleaned.session.path.name,
            "kind": cleaned.session.kind,
            "seconds": cleaned.raw.seconds,
            "amplitude_uv": round(cleaned.amplitude, 2),
            "bad": cleaned.bad,
            "components_removed": [c["label"] for c in cleaned.components if c["removed"]],
            "components": len(cleaned.components),
            "stages": cleaned.stage_source,
            "minutes": minutes,
            "trials": self.dropped,
            "unmapped_events": cleaned.unmapped,
            "slow_oscillations": {k: v for k, v in self.so.items() if k != "wave"},
            "channels": cleaned.plan.notes,
            "remarks": cleaned.remarks,
        }


def _minutes(hypnogram: Hypnogram, seconds: float) -> dict[str, float]:
    """Return the minutes of each stage of a recording: what is scored before or after it is none of it."""
    begin, end = (np.clip(times, 0, seconds) for times in (hypnogram.onset, hypnogram.onset + hypnogram.duration))
    inside = end - begin
    return {name: round(float(inside[hypnogram.stage == code].sum()) / 60, 1) for code, name in enumerate(STAGES)}


def _spectrum(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    found = [signal.welch(part, STREAM_RATE, nperseg=min(2000, part.shape[1]), axis=1) for part in parts]
    low = found[0][0] <= 100
    return found[0][0][low], np.median([power for _, power in found], axis=0)[:, low]


def _oscillations(cleaned: Cleaned, channel: str) -> dict:
    """Return counts of what was found, and the mean wave around troughs at the channel of the detection."""
    table, spindles, cues = cleaned.oscillations, cleaned.spindles, cleaned.cues
    counts = {g: int((cues.so_group == g).sum()) for g in SO_GROUPS}
    found: dict = {"count": len(table), "spindles": len(spindles), "cues_by_group": counts}
    asleep = np.isin(cues.stage, NREM)
    if asleep.any():
        names = [*SO_GROUPS, "none"]
        group = np.array([names.index(name) for name in cues.so_group[asleep]])
        at_random = cleaned.at_random.group[asleep] % len(names)
        expected, p = counts_against_random_times(group, at_random, len(names))
        found["random_times_by_group"] = dict(zip(SO_GROUPS, expected.round(1).tolist(), strict=False))
        found["phase_from"] = cues.so_phase_from.iloc[0]
        found["cues_by_group_p"] = p
        found["cue_phase"] = against_random_times(
            cues.so_phase_rad[asleep].to_numpy(float), cleaned.at_random.phase[asleep]
        )
    if len(spindles):
        phase = spindles.so_phase_rad[spindles.so >= 0].to_numpy(float)
        found["coupled_spindles"] = len(phase)
        if coupling := against_random_times(phase, spindles_at_random(spindles, table)):
            found |= {"coupling_phase_rad": coupling["mean_rad"], "coupling_strength": coupling["length"]}
            found |= {"coupling_random_strength": coupling["random_length"], "coupling_p": coupling["p"]}
    if len(cleaned.truth) and cleaned.hypnogram is not None:
        found["against_truth"] = _against_truth(cleaned, cleaned.hypnogram)
    names = list(cleaned.plan.montage)
    if len(table) and channel in names:
        reach = int(_AROUND * STREAM_RATE)
        troughs = np.rint(table.trough_s.to_numpy() * STREAM_RATE).astype(int)
        troughs = troughs[(troughs >= reach) & (troughs + reach <= cleaned.eeg.shape[1])][:300]
        if waves := [cleaned.eeg.read(t - reach, t + reach, names.index(channel)) for t in troughs]:
            found["wave"] = (np.arange(-reach, reach) / STREAM_RATE, np.mean(waves, axis=0))
    return found


def _against_truth(cleaned: Cleaned, hypnogram: Hypnogram) -> dict[str, dict]:
    """Return precision and recall of slow oscillations and spindles in a simulated night (middles)."""
    truth = cleaned.truth.assign(middle=cleaned.truth.onset_s + cleaned.truth.duration_s / 2)
    truth = truth[np.isin(hypnogram.at(truth.middle.to_numpy()), (N2, N3))]
    result = {}
    for kind, table, planted in (
        ("slow_oscillations", cleaned.oscillations, truth.event.isin(("so", "k_complex", "evoked"))),
        ("spindles", cleaned.spindles, truth.event.str.startswith("spindle")),
    ):
        middles = ((table.start_s + table.end_s) / 2).to_numpy()
        row = compare_events(middles, truth[planted].middle.to_numpy(), _NEAR)
        result[kind] = {key: value for key, value in row.items() if key != "pairs"}
    return result


def write_report(
    path: Path, name: str, source: str, details: Sequence[SessionDetails], trials: Mapping[str, Trials],
    notes: Sequence[str], settings: Preparation,
) -> None:  # fmt: skip
    """Write the HTML report of a subject: `name` is ours, `source` the lab's."""
    kind = "simulated" if any(d.cleaned.simulated for d in details) else None
    positions = settings.channels.positions
    with warnings.catch_warnings(action="ignore"):
        report = mne.Report(title=f"{name} ({source}{', simulated' if kind else ''})", verbose="error")

        def add(figure: Any, title: str, section: str) -> None:
            with style.own_settings({}):
                report.add_figure(figure, title=title, section=section, image_format="png")
            plots.close(figure)

        names = settings.card.item_names
        per_item = [own.per_item(len(names)) for own in trials.values()]
        rows = [(item, [own[k] for own in per_item]) for k, item in enumerate(names)]
        totals = [len(own.table) for own in trials.values()]
        html = render(_TEMPLATE, kinds=list(trials), rows=rows, totals=totals, lists={"Notes": notes})
        report.add_html(html, title="Trials", section="Summary")
        for d in details:
            cleaned, label = d.cleaned, d.cleaned.session.label
            report.add_html(_session_html(d), title="What was done", section=label)
            add(plots.spectra(*d.spectra, label, kind), "Spectra", label)
            if cleaned.components:
                good = [n for n in cleaned.plan.eeg if n not in cleaned.bad]
                made, _ = make_info(good, positions)
                add(plots.components(cleaned.components, made, "Independent components", kind), "ICA", label)
            if cleaned.hypnogram is not None:
                h, cues = cleaned.hypnogram, cleaned.cues.onset_s.to_numpy()
                figure = plots.hypnogram(h.onset, h.duration, h.stage, cues, cleaned.stage_source, kind)
                add(figure, "Hypnogram and cues", label)
            if "wave" in d.so:
                (times, wave), by_group, title = d.so["wave"], d.so["cues_by_group"], "Slow oscillations"
                expected = list(d.so.get("random_times_by_group", {}).values())
                whole = "response to the cue included" if d.so.get("phase_from") == "whole" else None
                figure = plots.slow_oscillations(
                    times, wave, [*by_group], [*by_group.values()], title, kind, expected, whole
                )
                add(figure, title, label)
        made, unplaced = make_info(settings.channels.montage, positions)
        groups = {kind: trials[kind] for kind in AWAKE}
        for code, stage in enumerate(STAGES[1:], start=1):
            own = trials["REM" if stage == "R" else "N2N3"]
            groups[f"cues in {stage}"] = own.select((own.table.stage == code).to_numpy(bool))
        for label, own in groups.items():
            if len(own.table) and not unplaced:
                window = windows(settings.card)[label if label in AWAKE else "cue"]
                times = window.begin + np.arange(own.eeg.shape[2]) / settings.card.rate_hz
                mean = np.nanmean(own.eeg, axis=0, dtype=float)
                there = np.isfinite(mean[0])  # at the end of the window there may be no trial any more
                times, mean = times[there], mean[:, there]
                mean -= mean[:, times <= 0].mean(axis=1, keepdims=True) if (times < 0).any() else 0
                figure = plots.response(times, mean, made, len(own.table), f"Mean response: {label}", kind)
                add(figure, label, "Responses")
        with atomic_write(path) as temporary:
            report.save(temporary, open_browser=False, overwrite=True, verbose="error")


def _session_html(details: SessionDetails) -> str:
    cleaned = details.cleaned
    minutes, amplitude = cleaned.raw.seconds / 60, cleaned.amplitude
    text = f"{cleaned.session.path.name}: {minutes:.1f} min, typical SD of 30 s {amplitude:.1f} µV"
    bad = [f"{name}: {_in_words(why)}, interpolated" for name, why in cleaned.bad.items()]
    bad += [f"{name}: {why}" for name, why in cleaned.plan.bad.items() if name not in cleaned.bad]
    lists = {
        "Channels": [*cleaned.plan.notes, *bad],
        "Remarks": cleaned.remarks,
        "Events without a rule": [f"{event}: {n}" for event, n in cleaned.unmapped.items()],
    }
    for kind, row in details.dropped.items():
        if row["events"]:
            lists[f"Trials: {kind}"] = [f"{key}: {value}" for key, value in row.items() if value is not None]
    if cleaned.hypnogram is not None:
        lists["Found"] = found_lines(details.so)
    return render(_TEMPLATE, text=text, lists=lists)


def _in_words(reason: str) -> str:
    """Return why a channel is bad, with what pyprep's criteria mean."""
    criteria = reason.removeprefix(PYPREP).split(", ") if reason.startswith(PYPREP) else []
    meanings = [CRITERIA[name] for name in criteria if name in CRITERIA]
    return f"{reason} ({'; '.join(meanings)})" if meanings else reason


def found_lines(so: Mapping) -> list[str]:
    """Return what was found in a sleep recording (`SessionDetails.so`) as lines."""
    lines = [f"{so['count']} slow oscillations, {so['spindles']} spindles"]
    if coupled := so.get("coupled_spindles"):
        phase = f"{so['coupling_phase_rad']:.2f} rad (0: peak of the up-state)"
        length = f"resultant length {so['coupling_strength']:.2f}, at random times in slow oscillations "
        length += f"{so['coupling_random_strength']:.2f} (p = {so['coupling_p']:.2g})"
        lines.append(f"{coupled} spindles on a slow oscillation, mean phase {phase}, {length}")
    expected = so.get("random_times_by_group", {})
    counts = [f"{name} {n}" + (f" ({expected[name]:g})" if expected else "") for name, n in so["cues_by_group"].items()]
    beside = f"; in brackets as many random times before the cues, p = {so['cues_by_group_p']:.2g}" if expected else ""
    lines.append("cues by phase: " + ", ".join(counts) + beside)
    if row := so.get("cue_phase"):
        lines.append(
            f"phase at cues in slow oscillations: n = {row['n']}, mean {row['mean_rad']:.2f} rad, resultant length "
            + f"{row['length']:.2f}"
            + (f", at random times {row['random_length']:.2f} (p = {row['p']:.2g})" if row["random_n"] else "")
        )
    if so.get("phase_from"):
        lines.append(("WARNING: " if so["phase_from"] == "whole" else "") + PHASE_FROM[so["phase_from"]])
    for kind, row in so.get("against_truth", {}).items():
        shares = [f"{key} {'-' if row[key] is None else format(row[key], '.2f')}" for key in ("precision", "recall")]
        hits = f"({row['hits']} of {row['true']} planted, {row['found']} found)"
        lines.append(f"{kind.replace('_', ' ')} against what was planted: {', '.join(shares)} {hits}")
    return lines
