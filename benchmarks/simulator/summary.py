"""From what was collected of each recording to the numbers of the simulator's report."""

from itertools import pairwise

import numpy as np

from benchmarks.simulator import events, measures
from benchmarks.simulator.nights import table
from benchmarks.simulator.staging import staging_agreement
from sleep_interpreter.utils.core.constants import STAGING_SECONDS

_APART_S = 1e6  # between nights on one time axis
UP_STATE_S = (0.2, 0.8)
"""Where the up-state lies after a trough."""
_TRAVEL_S = 0.25  # two channels' troughs of one wave are no further apart
SLOW_WAVE_SHARE = 0.2
"""Share of an epoch that slow waves fill in N3 (the scoring rule of Iber et al. 2007)."""


def mean_spectra(nights, channel):
    """Return frequency and each stage's geometric mean spectrum over nights at a channel, {stage: (F,)}."""
    own = {}
    for stage in measures.STAGES_5:
        rows = [n[f"spectra/{stage}"][list(n["names"]).index(channel)] for n in nights if f"spectra/{stage}" in n]
        if rows:
            own[stage] = np.exp(np.mean(np.log(np.maximum(rows, 1e-12)), axis=0))
    return nights[0]["frequency"], own


def slopes(nights, channel, settings):
    """Return the 1/f fits of the mean spectra: {"wide": {stage: fit}, "high": {stage: fit}}, with epochs.

    Each fit has "epochs" (of 30 s, all nights) and "range" (lowest and highest exponent of single nights).
    """
    frequency, own = mean_spectra(nights, channel)
    result = {}
    for name, fit_hz, skip in (("wide", settings.fit_hz, settings.fit_skip_hz), ("high", settings.fit_high_hz, ())):
        result[name] = {}
        for stage, power in own.items():
            fit = measures.aperiodic(frequency, power, fit_hz, skip)
            single = [
                measures.aperiodic(frequency, mean_spectra([n], channel)[1][stage], fit_hz, skip)["exponent"]
                for n in nights
                if f"spectra/{stage}" in n
            ]
            epochs = sum(int(n.get(f"epochs/{stage}", 0)) for n in nights)
            result[name][stage] = {**fit, "epochs": epochs, "range": [min(single), max(single)]}
    return result


def pooled(nights, kind):
    """Return one table of all nights' events, times shifted so that nights do not meet, with column night."""
    import pandas as pd

    parts = []
    for place, night in enumerate(nights):
        part = table(night, kind).assign(night=place)
        for column in ("trough_s", "start_s", "stop_s", "up_start_s", "peak_s", "onset_s"):
            if column in part:
                part[column] = part[column] + place * _APART_S
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def nrem_minutes(nights):
    """Return the minutes of N2 and N3 of all nights together."""
    total = [events.minutes(night["stages"]) for night in nights]
    return {stage: sum(row[stage] for row in total) for stage in events.NREM}


def waves(nights, channel):
    """Return what YASA finds of slow oscillations at one channel.

    Returns
    -------
    row : dict
        n; per_min {stage}; duration_s, amplitude_uv, sigma_delay_s (quartiles); phase_rad, phase_length (of
        the sigma maximum's phase, over events whose coupling is above the median), ndpac (median);
        slow_wave_epochs {stage: share of epochs of which slow waves fill `SLOW_WAVE_SHARE` or more}.
    """
    found = pooled(nights, "slow_oscillation")
    found = found[found["channel"] == channel]
    long = nrem_minutes(nights)
    row = {"n": len(found), "per_min": _per_min(found, long)}
    row |= {key: _quartiles(found[key]) for key in ("duration_s", "amplitude_uv", "sigma_delay_s")}
    strong = found[found["ndpac"] >= found["ndpac"].median()]
    row["phase_rad"], row["phase_length"] = events.circular(strong["sigma_phase_rad"])
    row["ndpac"] = float(found["ndpac"].median()) if len(found) else None
    full = {stage: [] for stage in events.NREM}
    for place, night in enumerate(nights):
        own = found[found["night"] == place]
        epoch = ((own["trough_s"] - place * _APART_S) // STAGING_SECONDS).astype(int)
        filled = np.bincount(epoch, own["duration_s"], minlength=len(night["stages"])) / STAGING_SECONDS
        for stage in events.NREM:
            full[stage] += (filled[: len(night["stages"])][night["stages"] == stage] >= SLOW_WAVE_SHARE).tolist()
    row["slow_wave_epochs"] = {stage: float(np.mean(v)) if v else None for stage, v in full.items()}
    return row


def travel(nights, front, back):
    """Return the trough's delay from a frontal to a posterior channel: n pairs, quartiles (s), share > 0."""
    found = pooled(nights, "slow_oscillation")
    one, other = (found.loc[found["channel"] == name, "trough_s"].to_numpy() for name in (front, back))
    first, second = events.paired_times(one, other, _TRAVEL_S)
    delay = other[second] - one[first]
    share = float(np.mean(delay > 0)) if len(delay) else None
    return {"n": len(delay), "delay_s": _quartiles(delay), "front_first": share}


def locked(nights, band, channel):
    """Return sigma amplitude around the troughs at a channel over nights, each trough counting once.

    Returns
    -------
    seconds : array (n,)
    amplitude : array (n,) | None
        Relative to its mean; None without a trough.
    count : int
    """
    place = list(nights[0]["locked_channels"]).index(channel)
    count = np.array([int(night["locked/count"][place]) for night in nights])
    rows = [night[f"locked/{band}"][place] for night in nights]
    if not count.sum():
        return nights[0]["locked/seconds"], None, 0
    keep = count > 0
    mean = np.average(np.array(rows)[keep], axis=0, weights=count[keep])
    return nights[0]["locked/seconds"], mean, int(count.sum())


def locked_row(nights, band, channel):
    """Return n troughs, where (s after the trough) sigma is largest, and its range there in % of its mean."""
    seconds, amplitude, count = locked(nights, band, channel)
    if amplitude is None:
        return {"n": 0, "delay_s": None, "range": None}
    return {"n": count, "delay_s": float(seconds[np.argmax(amplitude)]), "range": float(np.ptp(amplitude))}


def coupling(nights, channel, near_s):
    """Return when detected spindles come, relative to the nearest detected trough of the same channel.

    Returns
    -------
    row : dict
        n spindles; near, the share with a trough within `near_s` s of their middle; of these delay_s
        (quartiles, of the middle after the trough) and up_state (share at `UP_STATE_S` after it).
    """
    delay = spindle_delays(nights, channel)
    close = delay[np.abs(delay) <= near_s]
    inside = (close >= UP_STATE_S[0]) & (close <= UP_STATE_S[1])
    return {
        "n": len(delay),
        "near": float(len(close) / len(delay)) if len(delay) else None,
        "delay_s": _quartiles(close),
        "up_state": float(inside.mean()) if len(close) else None,
    }


def spindle_delays(nights, channel):
    """Return the time from the nearest detected trough to every detected spindle's middle, s (n,)."""
    so, spindle = (pooled(nights, kind) for kind in ("slow_oscillation", "spindle"))
    troughs = np.r_[-np.inf, np.sort(so.loc[so["channel"] == channel, "trough_s"].to_numpy(float)), np.inf]
    own = spindle[spindle["channel"] == channel]
    middle = ((own["start_s"] + own["stop_s"]) / 2).to_numpy(float)
    after = np.searchsorted(troughs, middle)
    before, behind = middle - troughs[after - 1], middle - troughs[after]
    return np.where(np.abs(before) <= np.abs(behind), before, behind)


def bursts(nights, channel):
    """Return YASA's spindles at one channel: n, per_min, duration_s, frequency_hz, amplitude_uv."""
    found = pooled(nights, "spindle")
    found = found[found["channel"] == channel]
    row = {"n": len(found), "per_min": _per_min(found, nrem_minutes(nights))}
    return row | {key: _quartiles(found[key]) for key in ("duration_s", "frequency_hz", "amplitude_uv")}


def planted(nights):
    """Return what was planted in N2 and N3: waves and spindles by kind, and the coupling of the two."""
    so, spindle = pooled(nights, "planted/slow_oscillation"), pooled(nights, "planted/spindle")
    so, spindle = (t[t["stage"].isin(events.NREM)] for t in (so, spindle))
    long = nrem_minutes(nights)
    result = {"slow_oscillation": {}, "spindle": {}}
    for name, own in [("all", so), *so.groupby("kind")]:
        result["slow_oscillation"][name] = {
            "n": len(own), "per_min": _per_min(own, long), "amplitude_uv": _quartiles(own["amplitude_uv"])
        }  # fmt: skip
    delay = planted_delay(nights)
    for name, own in [("all", spindle), *spindle.groupby("kind")]:
        keys = ("duration_s", "frequency_hz", "amplitude_uv")
        result["spindle"][name] = {"n": len(own), "per_min": _per_min(own, long)}
        result["spindle"][name] |= {key: _quartiles(own[key]) for key in keys}
        result["spindle"][name]["coupled"] = float(np.mean(own["so"] >= 0)) if len(own) else None
        if name != "all":
            result["spindle"][name]["delay_s"] = _quartiles(delay[name])
    return result


def planted_delay(nights):
    """Return, {kind: array}, how long after its wave's trough the middle of each coupled spindle lies, s."""
    found = {"slow": [], "fast": []}
    for night in nights:
        so, spindle = table(night, "planted/slow_oscillation"), table(night, "planted/spindle")
        spindle = spindle[(spindle["so"] >= 0) & spindle["stage"].isin(events.NREM)]
        trough = so["trough_s"].to_numpy()[spindle["so"].to_numpy(int)]
        middle = (spindle["start_s"] + spindle["duration_s"] / 2 - trough).to_numpy()
        for kind in found:
            found[kind].append(middle[(spindle["kind"] == kind).to_numpy()])
    return {kind: np.concatenate(parts) for kind, parts in found.items()}


def detection(nights, settings):
    """Return how well YASA's events meet the planted ones.

    Returns
    -------
    result : dict
        slow_oscillation: {"all", and recall by planted amplitude in `settings.amplitude_bins_uv`};
        spindle: {channel: agreement with all planted ones, "recall_of" {kind or coupling}}, "any of them" the
        same for the union over channels. See `simulator_events.agreement`.
    """
    so, spindle = pooled(nights, "planted/slow_oscillation"), pooled(nights, "planted/spindle")
    so, spindle = (t[t["stage"].isin(events.NREM)].reset_index(drop=True) for t in (so, spindle))
    seen = pooled(nights, "slow_oscillation")
    seen = seen.loc[seen["channel"] == settings.so_channel, "trough_s"].to_numpy()

    def near(a, b):
        return events.paired_times(a, b, settings.so_tolerance_s)

    def overlapping(a, b):
        return events.paired_spans(a, b, settings.spindle_overlap)

    times = so["trough_s"].to_numpy()
    waves_row = {"all": events.agreement(times, seen, near), "recall": {}}
    hit = np.zeros(len(so), bool)
    hit[near(times, seen)[0]] = True
    edges = settings.amplitude_bins_uv
    for low, high in pairwise(edges):
        inside = ((so["amplitude_uv"] >= low) & (so["amplitude_uv"] < high)).to_numpy()
        waves_row["recall"][f"{low:g} to {high:g} µV"] = _share(hit[inside])
    result = {"slow_oscillation": waves_row, "spindle": {}}
    spans = _spans(spindle.assign(stop_s=spindle["start_s"] + spindle["duration_s"]))
    found = pooled(nights, "spindle")
    groups = {name: found[found["channel"] == name] for name in settings.spindle_channels}
    groups["any of them"] = _union(found[found["channel"].isin(settings.spindle_channels)])
    for name, own in groups.items():
        own = _spans(own)
        row = events.agreement(spans, own, overlapping)
        hit = np.zeros(len(spans), bool)
        hit[overlapping(spans, own)[0]] = True
        coupled = (spindle["so"] >= 0).to_numpy()
        row["recall_of"] = {k: _share(hit[(spindle["kind"] == k).to_numpy()]) for k in ("slow", "fast")}
        row["recall_of"] |= {"coupled": _share(hit[coupled]), "uncoupled": _share(hit[~coupled])}
        result["spindle"][name] = row
    return result


def _spans(rows):
    return rows[["start_s", "stop_s"]].to_numpy(float)


def _union(found):
    """Return several channels' detections as one list: of spans that overlap, the longest."""
    found = found.sort_values("start_s", ignore_index=True)
    reach = found["stop_s"].cummax().shift(fill_value=-np.inf)
    group = (found["start_s"] >= reach).cumsum()
    return found.loc[found.groupby(group)["duration_s"].idxmax()] if len(found) else found


def staging(nights):
    """Return `staging_agreement` of all nights together ("all") and of each ("nights")."""
    each = [staging_agreement(night["stages"], night["yasa"]) for night in nights]
    length = [min(len(night["stages"]), len(night["yasa"])) for night in nights]
    whole = [
        np.concatenate([night[key][:n] for night, n in zip(nights, length, strict=True)]) for key in ("stages", "yasa")
    ]
    return {"all": staging_agreement(*whole), "nights": each}


def tones(nights):
    """Return the chin's muscle tone by stage as a share of that in W, mean over nights; {} without W."""
    ratios = [
        {s: float(n[f"tone/{s}"] / n["tone/W"]) for s in measures.STAGES_5 if f"tone/{s}" in n}
        for n in nights
        if "tone/W" in n
    ]
    stages = [s for s in measures.STAGES_5 if any(s in row for row in ratios)]
    return {s: float(np.mean([row[s] for row in ratios if s in row])) for s in stages}


def grand_averages(collections):
    """Return the averages around cues over nights, each window counting once.

    Returns
    -------
    averages : dict of str to (seconds, average (C, n), names, count)
        By stage, in the order of `simulator_measures.STAGES_5`.
    """
    result = {}
    for stage in measures.STAGES_5:
        own = [found for found in collections if f"evoked/{stage}" in found]
        if own:
            counts = [int(found[f"evoked_n/{stage}"][0]) for found in own]
            mean = np.average([found[f"evoked/{stage}"] for found in own], axis=0, weights=counts)
            result[stage] = own[0]["evoked_seconds"], mean, own[0]["evoked_names"], sum(counts)
    return result


def evoked_peaks(averages, channel, negative_s, positive_s):
    """Return n, latency (s) and size (µV) of the late negative and positive peak by stage."""
    rows = {}
    for stage, (seconds, average, names, count) in averages.items():
        line = average[list(names).index(channel)]
        low = measures.extremum(line, seconds, negative_s, -1)
        high = measures.extremum(line, seconds, positive_s, 1)
        best = list(names)[int(np.argmin(average[:, np.argmin(np.abs(seconds - low[0]))]))]
        rows[stage] = {"n": count, "negative": low, "positive": high, "negative_largest_at": best}
    return rows


def level(averages, stage, channel, window_s):
    """Return one stage's average at a channel in a window, µV against the last 0.1 s before the event.

    None without the stage.
    """
    if stage not in averages:
        return None
    seconds, average, names, _ = averages[stage]
    inside = (seconds >= window_s[0]) & (seconds <= window_s[1])
    line = average[list(names).index(channel)]
    return float(line[inside].mean() - line[(seconds >= -0.1) & (seconds < 0)].mean())


def _per_min(rows, long):
    return {s: float(np.sum(rows["stage"] == s) / long[s]) if long[s] else None for s in events.NREM}


def _share(hit):
    return {"n": len(hit), "recall": float(np.mean(hit)) if len(hit) else None}


def _quartiles(values):
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return np.quantile(values, (0.25, 0.5, 0.75)).tolist() if len(values) else None
