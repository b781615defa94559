"""Everything that the simulator's report measures on one recording, collected into one file.

A simulated night is rendered in chunks and brought to a lower rate; spectra are kept of all channels, signals
of a few. What is collected is saved, so that an interrupted report goes on with the next night.
"""

import json
import logging
from itertools import pairwise

import numpy as np

from benchmarks.simulator import events, measures
from benchmarks.simulator.staging import yasa_stages
from sleep_interpreter.utils.core.constants import STAGING_SECONDS, STREAM_RATE
from sleep_interpreter.utils.core.paths import atomic_write

log = logging.getLogger(__name__)

_MARGIN_S = 4.0  # rendered beside a chunk, for the filter and for the windows around cues
_TRACE_S = 10.0
_PLANTED = {
    "slow_oscillation": ("trough_s", "up_start_s", "peak_s", "amplitude_uv", "kind", "stage"),
    "spindle": ("start_s", "duration_s", "frequency_hz", "amplitude_uv", "kind", "so", "stage"),
}


def reduced(session, settings):
    """Render a simulated session in chunks and keep what the report needs.

    Parameters
    ----------
    session : sleep_interpreter.data.simulation.night.SimulatedSession
    settings : benchmarks.simulator.report.Report

    Returns
    -------
    recording : benchmarks.simulator.measures.Recording
        `settings.channels` alone, at `settings.rate_hz`.
    spectra : (array (F,), array (n_epochs, C, F))
        Of all channels.
    averages : benchmarks.simulator.measures.Averages
        Around the cues, all EEG channels as recorded, by stage.
    """
    from scipy.signal import resample_poly

    scene, rate = session.scene, settings.rate_hz
    factor = int(STREAM_RATE / rate)
    chunk, margin = int(settings.chunk_min * 60 * STREAM_RATE), int(_MARGIN_S * STREAM_RATE)
    names = list(scene.names)
    kept = [names.index(name) for name in settings.channels]
    onsets, groups = _cues(session)
    averages = measures.Averages(rate, settings.evoked_s, settings.evoked_limit_uv)
    n_eeg = session.subject.head.n_eeg
    parts, power, frequency = [], [], None
    for start in range(0, scene.n, chunk):
        stop = min(start + chunk, scene.n)
        low, high = max(0, start - margin), min(scene.n, stop + margin)
        data = resample_poly(scene.render(low, high), 1, factor, axis=1).astype(np.float32)
        inner = slice((start - low) // factor, (start - low) // factor + (stop - start) // factor)
        own = (onsets >= start) & (onsets < stop)
        averages.add(data[:n_eeg], (onsets[own] - low) // factor, groups[own])
        data = data[:, inner]
        parts.append(data[kept])
        frequency, found = measures.epoch_spectra(data, rate, settings.spectrum_window_s)
        power.append(found)
        log.info("  %.1f of %.1f h rendered", stop / STREAM_RATE / 3600, scene.n / STREAM_RATE / 3600)
    stages = np.array(list(scene.stages), dtype="U2")
    recording = measures.Recording(
        session.subject.name, "simulated", np.concatenate(parts, axis=1), tuple(settings.channels), rate, stages
    )
    return recording, (frequency, np.concatenate(power)), averages


def _cues(session):
    """Return samples and stages of a session's cues (a night's cues, a wake session's trials)."""
    table = session.tables().get("cues", session.tables().get("trials"))
    groups = table["stage"] if "stage" in table else ["W"] * len(table)
    return table["sample"].to_numpy(int), np.array(groups, dtype="U2")


def collect_night(session, settings):
    """Measure a simulated night; return arrays by name, as `save` keeps them."""
    recording, (frequency, power), averages = reduced(session, settings)
    found = collect(recording, (frequency, power, session.scene.names), settings)
    tables = session.tables()
    for kind, columns in _PLANTED.items():
        for column in columns:
            found[f"planted/{kind}/{column}"] = _plain(tables[kind][column])
    for column in ("onset_s", "stage", "evoked"):
        found[f"planted/cues/{column}"] = _plain(tables["cues"][column])
    return found | evoked_arrays(averages, session.scene.names)


def evoked_arrays(averages, names):
    """Return the averages around cues as arrays by name: "evoked/<stage>" (C, n) and their counts."""
    found = {"evoked_seconds": averages.seconds}
    for group, count in averages.counts.items():
        found[f"evoked/{group}"] = averages.mean(group).astype(np.float32)
        found[f"evoked_n/{group}"] = np.array([count, averages.left_out.get(group, 0)])
        found["evoked_names"] = np.array(names[: len(averages.mean(group))])
    return found


def collect(recording, spectra, settings):
    """Measure a recording, simulated or real, without knowing what was planted.

    Parameters
    ----------
    recording : benchmarks.simulator.measures.Recording
        Its stages may be None: then YASA's are taken.
    spectra : (frequency, power (n_epochs, C, F), names) | None
        None: of the recording's own channels.
    settings : benchmarks.simulator.report.Report

    Returns
    -------
    found : dict of str to array
        stages (those that everything else goes by), yasa, names, frequency, "spectra/<stage>" (C, F),
        "epochs/<stage>", "tone/<stage>", "slow_oscillation/<column>", "spindle/<column>", "trace/<stage>";
        "locked/<...>" (`simulator_events.locked_sigma` of locked_channels).
    """
    r, found = recording, {}
    if len(r.stages if r.stages is not None else ()) != 1:  # a single epoch is too short for the stager
        found["yasa"] = yasa_stages(
            derivation(r, settings.stager["eeg"]), derivation(r, settings.stager["eog"]),
            derivation(r, settings.stager["emg"]), r.rate,
        )  # fmt: skip
    if r.stages is None:
        r = measures.Recording(r.name, r.kind, r.data, r.names, r.rate, found["yasa"])
    found["stages"] = np.asarray(r.stages)
    if spectra is None:
        spectra = (*measures.epoch_spectra(r.data, r.rate, settings.spectrum_window_s), r.names)
    frequency, power, names = spectra
    medians, epochs = measures.by_stage(power, r.stages)
    found |= {"frequency": frequency, "names": np.array(list(names)), "rate": np.array(r.rate)}
    for stage, median in medians.items():
        found[f"spectra/{stage}"], found[f"epochs/{stage}"] = median, np.array(epochs[stage])
    if "EMG1" in r.names:
        emg = derivation(r, settings.stager["emg"])[None]
        frequency, power = measures.epoch_spectra(emg, r.rate, settings.spectrum_window_s)
        for stage, value in measures.tone(frequency, power[:, 0], r.stages, settings.tone_hz).items():
            found[f"tone/{stage}"] = np.array(value)
    channels = [name for name in settings.event_channels if name in r.names] or list(r.names)
    for kind, detect in (("slow_oscillation", events.slow_oscillations), ("spindle", events.spindles)):
        rows = detect(r, channels, settings.sigma_hz)
        for column in rows.columns:
            found[f"{kind}/{column}"] = _plain(rows[column])
    found["locked_channels"] = np.array(channels)
    waves = table(found, "slow_oscillation")
    locked = events.locked_sigma(r, channels, waves, settings.locked_hz, settings.locked_s)
    found |= {f"locked/{name}": values for name, values in locked.items()}
    return found | _traces(r, settings)


def derivation(recording, names):
    """Return one channel, or the difference of two, (n,); a missing reference means: as recorded."""
    first, *rest = [name for name in names if name in recording.names]
    signal = np.asarray(recording.channel(first), float)
    return signal - recording.channel(rest[0]) if rest else signal


def _traces(recording, settings):
    """Return ten seconds in the middle of the longest stretch of every stage, some channels (C, n)."""
    found, length = {}, round(_TRACE_S * recording.rate)
    lines = [names for names in settings.traces if names[0] in recording.names] or [recording.names[:1]]
    edges = np.r_[0, np.flatnonzero(recording.stages[1:] != recording.stages[:-1]) + 1, len(recording.stages)]
    for stage in measures.STAGES_5:
        bouts = [(b - a, a) for a, b in pairwise(edges) if recording.stages[a] == stage]
        if bouts:
            size, first = max(bouts)
            start = round((first + size / 2) * STAGING_SECONDS * recording.rate) - length // 2
            picked = [derivation(recording, names)[start : start + length] for names in lines]
            found[f"trace/{stage}"] = np.array(picked, np.float32)
            found["trace_names"] = np.array(["-".join(names) for names in lines])
    return found


def _plain(column):
    values = column.to_numpy()
    return values.astype("U16") if values.dtype.kind not in "biuf" else values


def save(path, found, fingerprint):
    """Write what was collected with a fingerprint of the settings it was collected with."""
    with atomic_write(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, fingerprint=np.array(json.dumps(fingerprint, sort_keys=True)), **found)


def load(path, fingerprint):
    """Return what `save` wrote, or None where there is nothing of this fingerprint."""
    if not path.is_file():
        return None
    with np.load(path) as file:
        if str(file["fingerprint"]) != json.dumps(fingerprint, sort_keys=True):
            return None
        return {name: file[name] for name in file.files if name != "fingerprint"}


def table(found, kind):
    """Return the columns "<kind>/..." as a pandas.DataFrame."""
    import pandas as pd

    start = f"{kind}/"
    return pd.DataFrame({name[len(start) :]: found[name] for name in found if name.startswith(start)})
