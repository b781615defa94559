"""The quality report of a prepared subject (MNE's HTML report)."""

import html
import warnings
from dataclasses import dataclass, field

import numpy as np
from scipy import signal

from sleep_interpreter.data.events.slow_oscillations import compare_events, group_limits
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.preparation.channels import info
from sleep_interpreter.data.preparation.signal import pieces
from sleep_interpreter.data.preparation.trials import WINDOWS
from sleep_interpreter.utils.core.constants import ITEMS, N2, N3, SLEEP_RATE, STAGES, STREAM_RATE
from sleep_interpreter.utils.core.paths import writing

_MINUTES = 10
_AROUND = 1.5
_NEAR = 0.4
"""s: a detected event as near as this to a planted one is the same."""


@dataclass
class Details:
    """What a report says of one recording, kept when its working files are gone.

    Attributes
    ----------
    label, kind, recording : str
    amplitude : float
    channels : list of str
    notes, remarks : list of str
    bad : dict
    components : list of dict
    unmapped, dropped : dict
    spectra : tuple
        hz, power as recorded, power cleaned.
    hypnogram : Hypnogram | None
    cues : DataFrame
    so : dict
        Counts, mean wave and coupling.
    simulated : bool
    """

    label: str
    kind: str
    recording: str
    seconds: float
    amplitude: float
    notes: list
    remarks: list
    bad: dict
    components: list
    component_names: list
    unmapped: dict
    dropped: dict
    spectra: tuple
    hypnogram: object
    stage_source: str | None
    cues: object
    so: dict
    simulated: bool
    fingerprint: dict = field(default_factory=dict)

    @classmethod
    def of(cls, cleaned, dropped, channel):
        """Take from a `data.preparation.recording.Cleaned` what is told of it; `channel` shows the waves."""
        rows = [cleaned.plan.rows[n] for n in cleaned.plan.eeg]
        hz, before = _spectrum(pieces(cleaned.raw, rows, _MINUTES))
        _, after = _spectrum(pieces(cleaned.eeg, None, _MINUTES))
        cues = cleaned.events[cleaned.events.modality == "cue"]
        names = [n for n in cleaned.plan.eeg if n not in cleaned.bad]
        return cls(
            cleaned.session.label, cleaned.session.kind, cleaned.session.path.name, cleaned.raw.seconds,
            cleaned.amplitude, cleaned.plan.notes, cleaned.remarks, cleaned.bad, cleaned.components, names,
            cleaned.unmapped, dropped,
            (hz, before, after), cleaned.hypnogram, cleaned.stage_source, cues,
            _oscillations(cleaned, cues, channel),
            cleaned.simulated, cleaned.fingerprint,
        )  # fmt: skip

    def summary(self):
        """Return what the manifest keeps of this recording."""
        minutes = None
        if self.hypnogram is not None:
            minutes = {
                name: round(float(self.hypnogram.duration[self.hypnogram.stage == code].sum()) / 60, 1)
                for code, name in enumerate(STAGES)
            }
        return {
            "recording": self.recording,
            "kind": self.kind,
            "seconds": self.seconds,
            "amplitude_uv": round(self.amplitude, 2),
            "bad": self.bad,
            "components_removed": [c["label"] for c in self.components if c["removed"]],
            "components": len(self.components),
            "stages": self.stage_source,
            "minutes": minutes,
            "trials": self.dropped,
            "unmapped_events": self.unmapped,
            "slow_oscillations": {k: v for k, v in self.so.items() if k != "wave"},
            "channels": self.notes,
            "remarks": self.remarks,
        }


def _spectrum(parts):
    powers = []
    for part in parts:
        hz, power = signal.welch(part, STREAM_RATE, nperseg=min(2000, part.shape[1]), axis=1)
        powers.append(power)
    return hz[hz <= 100], np.median(powers, axis=0)[:, hz <= 100]


def _oscillations(cleaned, cues, channel):
    """Return counts of what was found, and the mean wave around troughs at the channel of the detection."""
    table, spindles = cleaned.oscillations, cleaned.spindles
    counts = {g: int((cues.so_group == g).sum()) if "so_group" in cues else 0 for g in SO_GROUPS}
    found = {"count": len(table), "spindles": len(spindles), "cues_by_group": counts}
    if len(spindles):
        coupled = spindles[spindles.so >= 0]
        found["coupled_spindles"] = len(coupled)
        phase = coupled.so_phase_rad.to_numpy(float)
        if len(phase):
            vector = np.exp(1j * phase).mean()
            found |= {"coupling_phase_rad": float(np.angle(vector)), "coupling_strength": float(abs(vector))}
    if len(cleaned.truth):
        found["against_truth"] = _against_truth(cleaned)
    names = list(cleaned.plan.montage)
    if len(table) and channel in names:
        reach = int(_AROUND * STREAM_RATE)
        troughs = np.rint(table.trough_s.to_numpy() * STREAM_RATE).astype(int)
        troughs = troughs[(troughs >= reach) & (troughs + reach <= cleaned.eeg.shape[1])][:300]
        if len(troughs):
            waves = [cleaned.eeg.read(t - reach, t + reach, names.index(channel)) for t in troughs]
            found["wave"] = (np.arange(-reach, reach) / STREAM_RATE, np.mean(waves, axis=0))
    return found


def _against_truth(cleaned):
    """Return precision and recall of slow oscillations and spindles in a simulated night (middles)."""
    truth = cleaned.truth.assign(middle=cleaned.truth.onset_s + cleaned.truth.duration_s / 2)
    truth = truth[np.isin(cleaned.hypnogram.at(truth.middle.to_numpy()), (N2, N3))]
    waves = truth[truth.event.isin(("so", "k_complex", "evoked"))]
    spindles = truth[truth.event.str.startswith("spindle")]
    found, bursts = cleaned.oscillations, cleaned.spindles
    compared = {
        "slow_oscillations": compare_events((found.start_s + found.end_s) / 2, waves.middle, _NEAR),
        "spindles": compare_events((bursts.start_s + bursts.end_s) / 2, spindles.middle, _NEAR),
    }
    return {kind: {k: v for k, v in row.items() if k != "pairs"} for kind, row in compared.items()}


def write_report(path, name, source, details, trials, notes, settings):
    """Write the HTML report of a subject.

    Parameters
    ----------
    path : Path
    name, source : str
        Our name and the lab's.
    details : list of Details
    trials : dict of str to sleep_interpreter.data.preparation.trials.Trials
    notes : list of str
    settings : sleep_interpreter.data.preparation.settings.Preparation
    """
    import mne

    from sleep_interpreter.utils.plots import preparation as plots

    kind = "simulated" if any(d.simulated for d in details) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = mne.Report(title=f"{name} ({source}{', simulated' if kind else ''})", verbose="error")

        def add(figure, title, section):
            report.add_figure(figure, title=title, section=section, image_format="png")
            plots.close(figure)

        report.add_html(_counts(trials, notes), title="Trials", section="Summary")
        positions = settings.channels.positions
        for d in details:
            report.add_html(_session(d), title="What was done", section=d.label)
            add(plots.spectra(*d.spectra, d.label, kind), "Spectra", d.label)
            if d.components:
                made, _ = info(d.component_names, positions)
                add(plots.components(d.components, made, "Independent components", kind), "ICA", d.label)
            if d.hypnogram is not None:
                h = d.hypnogram
                figure = plots.hypnogram(
                    h.onset, h.duration, h.stage, d.cues.onset_s.to_numpy(), d.stage_source, kind
                )
                add(figure, "Hypnogram and cues", d.label)
            if "wave" in d.so:
                counts = d.so["cues_by_group"]
                figure = plots.slow_oscillations(
                    *d.so["wave"], list(counts), list(counts.values()), "Slow oscillations", kind
                )
                add(figure, "Slow oscillations", d.label)
        made, unplaced = info(settings.channels.montage, positions)
        for label, own in _groups(trials):
            if len(own.table) and not unplaced:
                window = label if label in WINDOWS else "cue"
                times = WINDOWS[window][0] + np.arange(own.eeg.shape[2]) / SLEEP_RATE
                mean = own.eeg.mean(axis=0, dtype=float)
                mean -= mean[:, times <= 0].mean(axis=1, keepdims=True) if (times < 0).any() else 0
                figure = plots.response(times, mean, made, len(own.table), f"Mean response: {label}", kind)
                add(figure, label, "Responses")
        with writing(path) as temporary:
            report.save(temporary, open_browser=False, overwrite=True, verbose="error")


def draw_so_groups(path):
    """Draw the definition of the eight groups by phase (docs/images/so_groups.png).

    Parameters
    ----------
    path : Path
    """
    from sleep_interpreter.utils.plots.preparation import phase_groups

    marks = (0.0, 0.35, 0.8, 1.4)
    limits = [-0.5, *group_limits(*marks), marks[-1] + 0.5]
    times = np.linspace(limits[0], limits[-1], 1000)
    wave = np.zeros(len(times))
    for start, stop, height in zip(marks[:-1], marks[1:], (0.5, -1.0, 0.7), strict=True):
        inside = (times >= start) & (times < stop)
        wave[inside] = height * np.sin(np.pi * (times[inside] - start) / (stop - start))
    phase_groups(SO_GROUPS, limits, (times, wave), path)


def _groups(trials):
    """Yield (label, trials) of every modality and stage."""
    for kind in ("image", "audio"):
        yield kind, trials[kind]
    for code, stage in enumerate(STAGES[1:], start=1):
        own = trials["REM" if stage == "R" else "N2N3"]
        yield f"cues in {stage}", own.some((own.table.stage == code).to_numpy(bool))


def _counts(trials, notes):
    head = "".join(f"<th>{html.escape(kind)}</th>" for kind in trials)
    rows = []
    for k, item in enumerate(ITEMS):
        cells = "".join(f"<td>{int((t.table.item_index == k).sum())}</td>" for t in trials.values())
        rows.append(f"<tr><td>{item}</td>{cells}</tr>")
    total = "".join(f"<td><b>{len(t.table)}</b></td>" for t in trials.values())
    body = "".join([f"<tr><th>item</th>{head}</tr>", *rows, f"<tr><td><b>all</b></td>{total}</tr>"])
    return f"<table>{body}</table>{_listed('Notes', notes)}"


def _session(d):
    parts = [
        f"<p>{html.escape(d.recording)}: {d.seconds / 60:.1f} min, typical SD of 30 s {d.amplitude:.1f} "
        "µV</p>"
    ]
    parts.append(_listed("Channels", [*d.notes, *(f"{n}: {why}, interpolated" for n, why in d.bad.items())]))
    parts.append(_listed("Remarks", d.remarks))
    parts.append(_listed("Events without a rule", [f"{text}: {n}" for text, n in d.unmapped.items()]))
    for kind, row in d.dropped.items():
        if row["events"]:
            parts.append(
                _listed(
                    f"Trials: {kind}", [f"{key}: {value}" for key, value in row.items() if value is not None]
                )
            )
    if d.hypnogram is not None:
        parts.append(_listed("Found", found_lines(d.so)))
    return "".join(parts)


def found_lines(so):
    """Return what was found in a sleep recording as sentences.

    Parameters
    ----------
    so : dict
        As `Details.so`.
    """
    lines = [f"{so['count']} slow oscillations, {so['spindles']} spindles"]
    if so.get("coupled_spindles"):
        lines.append(
            f"{so['coupled_spindles']} spindles on a slow oscillation, mean phase "
            f"{so['coupling_phase_rad']:.2f} rad (0: peak of the up-state), "
            f"resultant length {so['coupling_strength']:.2f}"
        )
    groups = ", ".join(f"{name} {n}" for name, n in so["cues_by_group"].items())
    lines.append(f"cues by phase: {groups}")
    for kind, row in so.get("against_truth", {}).items():
        shares = ", ".join(
            f"{key} {'-' if row[key] is None else format(row[key], '.2f')}" for key in ("precision", "recall")
        )
        lines.append(
            f"{kind.replace('_', ' ')} against what was planted: {shares} ({row['hits']} of {row['true']} "
            f"planted, {row['found']} found)"
        )
    return lines


def _listed(title, lines):
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(str(line))}</li>" for line in lines)
    return f"<h4>{html.escape(title)}</h4><ul>{items}</ul>"
