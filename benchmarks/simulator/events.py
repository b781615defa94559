"""Slow oscillations and spindles as YASA detects them, and how well that meets the planted ones."""

import numpy as np

from sleep_interpreter.utils.core.constants import STAGING_SECONDS

_YASA_CODE = {"W": 0, "N1": 1, "N2": 2, "N3": 3, "R": 4}
NREM = ("N2", "N3")
_SHIFTS_S = (31.0, 47.0, 67.0, 83.0, 103.0)


def slow_oscillations(recording, channels, sigma_hz):
    """Detect slow oscillations in N2 and N3 with `yasa.sw_detect` and its published thresholds.

    Parameters
    ----------
    recording : benchmarks.simulator.measures.Recording
    channels : sequence of str
    sigma_hz : (float, float)
        Band whose amplitude is coupled to them.

    Returns
    -------
    table : pandas.DataFrame
        One row an event: channel, stage, trough_s, duration_s, amplitude_uv (peak to peak), sigma_delay_s (of
        the sigma maximum after the trough), sigma_phase_rad (0 is the up-state's peak), ndpac.
    """
    import yasa

    found = yasa.sw_detect(
        *_input(recording, channels), include=(2, 3), coupling=True,
        coupling_params={"freq_sp": sigma_hz, "time": 1, "p": None}, verbose="error",
    )  # fmt: skip
    if found is None:
        return _empty("trough_s", "duration_s", "amplitude_uv", "sigma_delay_s", "sigma_phase_rad", "ndpac")
    found = found.summary()
    table = found.rename(
        columns={
            "Channel": "channel", "NegPeak": "trough_s", "Duration": "duration_s", "PTP": "amplitude_uv",
            "PhaseAtSigmaPeak": "sigma_phase_rad", "ndPAC": "ndpac",
        }
    )  # fmt: skip
    table["sigma_delay_s"] = found["SigmaPeak"] - found["NegPeak"]
    table["stage"] = stage_at(recording.stages, table["trough_s"])
    columns = "channel stage trough_s duration_s amplitude_uv sigma_delay_s sigma_phase_rad ndpac"
    return table[columns.split()].reset_index(drop=True)


def locked_sigma(recording, channels, waves, bands_hz, window_s):
    """Return the amplitude of sigma bands around the troughs of detected slow oscillations.

    Parameters
    ----------
    recording : benchmarks.simulator.measures.Recording
    channels : sequence of str
    waves : pandas.DataFrame
        `slow_oscillations`; every channel is averaged around its own.
    bands_hz : dict of str to (float, float)
    window_s : float
        To either side.

    Returns
    -------
    found : dict of str to array
        seconds (n,), count (C,) and, for every band, relative amplitude (C, n): 1 is the mean of the window;
        NaN for a channel without waves.
    """
    from scipy.signal import butter, hilbert, sosfiltfilt

    half = round(window_s * recording.rate)
    found = {"seconds": np.arange(-half, half + 1) / recording.rate, "count": np.zeros(len(channels), int)}
    found |= {name: np.full((len(channels), 2 * half + 1), np.nan) for name in bands_hz}
    for row, channel in enumerate(channels):
        middle = np.rint(waves.loc[waves["channel"] == channel, "trough_s"].to_numpy(float) * recording.rate)
        middle = middle[(middle >= half) & (middle < recording.data.shape[1] - half)].astype(int)
        found["count"][row] = len(middle)
        if not len(middle):
            continue
        signal = np.asarray(recording.channel(channel), float)
        for name, edges in bands_hz.items():
            filtered = sosfiltfilt(butter(3, edges, "bandpass", fs=recording.rate, output="sos"), signal)
            size = np.zeros(2 * half + 1)
            for place in middle:  # a little beside the window, for the envelope's ends
                low, high = max(place - 2 * half, 0), place + 2 * half + 1
                size += np.abs(hilbert(filtered[low:high]))[place - half - low : place + half + 1 - low]
            found[name][row] = size / size.mean()
    return found


def spindles(recording, channels, sigma_hz):
    """Detect spindles in N2 and N3 with `yasa.spindles_detect` and its published thresholds.

    Returns
    -------
    table : pandas.DataFrame
        One row an event: channel, stage, start_s, stop_s, duration_s, frequency_hz, amplitude_uv (peak to
        peak).
    """
    import yasa

    data, rate, names, hypno = _input(recording, channels)
    found = yasa.spindles_detect(data, rate, names, hypno=hypno, include=(2, 3), freq_sp=sigma_hz, verbose="error")
    if found is None:
        return _empty("start_s", "stop_s", "duration_s", "frequency_hz", "amplitude_uv")
    table = found.summary().rename(
        columns={
            "Channel": "channel", "Start": "start_s", "End": "stop_s", "Duration": "duration_s",
            "Frequency": "frequency_hz", "Amplitude": "amplitude_uv",
        }
    )  # fmt: skip
    table["stage"] = stage_at(recording.stages, table["start_s"])
    columns = "channel stage start_s stop_s duration_s frequency_hz amplitude_uv"
    return table[columns.split()].reset_index(drop=True)


def _input(recording, channels):
    """Return data, rate, names and one of YASA's codes a sample; what is not scored counts as wake."""
    data = np.array([recording.channel(name) for name in channels], float)
    codes = [_YASA_CODE[stage] for stage in recording.stages]
    hypno = np.zeros(data.shape[1], int)
    every = np.repeat(codes, round(STAGING_SECONDS * recording.rate))[: len(hypno)]
    hypno[: len(every)] = every
    return data, recording.rate, list(channels), hypno


def _empty(*columns):
    import pandas as pd

    return pd.DataFrame({name: [] for name in ("channel", "stage", *columns)})


def stage_at(stages, seconds):
    """Return the stages at some times, str array; "" beyond the last epoch."""
    place = np.asarray(seconds, float) // STAGING_SECONDS
    padded = np.append(np.asarray(stages, dtype="U2"), "")
    return padded[np.clip(place, 0, len(stages)).astype(int)]


def minutes(stages):
    """Return the minutes of N2 and N3: {"N2": ..., "N3": ...}."""
    return {stage: float(np.sum(np.asarray(stages) == stage) * STAGING_SECONDS / 60) for stage in NREM}


def paired_times(planted, detected, tolerance_s):
    """Match two rows of times one to one, as many as possible, none further apart than the tolerance.

    Parameters
    ----------
    planted, detected : array of float
        Seconds, in any order.

    Returns
    -------
    first, second : int array (m,)
        Places of the matched pairs in `planted` and in `detected`.
    """
    planted, detected = np.asarray(planted, float), np.asarray(detected, float)
    a, b = np.argsort(planted), np.argsort(detected)
    i = j = 0
    pairs = []
    while i < len(a) and j < len(b):  # taking the earliest possible partner leaves most for the others
        apart = detected[b[j]] - planted[a[i]]
        if abs(apart) <= tolerance_s:
            pairs.append((a[i], b[j]))
            i, j = i + 1, j + 1
        elif apart < 0:
            j += 1
        else:
            i += 1
    pairs = np.array(pairs, int).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def paired_spans(planted, detected, overlap):
    """Match two lists of spans one to one, the best overlap first.

    Parameters
    ----------
    planted, detected : array (n, 2)
        Start and stop in seconds.
    overlap : float
        Least intersection over union of a pair.

    Returns
    -------
    first, second : int array (m,)
    """
    planted = np.asarray(planted, float).reshape(-1, 2)
    detected = np.asarray(detected, float).reshape(-1, 2)
    if not len(planted) or not len(detected):
        return np.zeros(0, int), np.zeros(0, int)
    order = np.argsort(detected[:, 0])
    longest = np.max(detected[:, 1] - detected[:, 0])
    starts = detected[order, 0]
    low = np.searchsorted(starts, planted[:, 0] - longest)
    high = np.searchsorted(starts, planted[:, 1])
    first = np.repeat(np.arange(len(planted)), high - low)
    second = order[np.concatenate([np.arange(*pair) for pair in zip(low, high, strict=True)]).astype(int)]
    shared = np.minimum(planted[first, 1], detected[second, 1]) - np.maximum(planted[first, 0], detected[second, 0])
    whole = np.ptp(planted[first], axis=1) + np.ptp(detected[second], axis=1) - shared
    score = shared / whole
    used_first, used_second, pairs = set(), set(), []
    for place in np.argsort(-score, kind="stable"):
        i, j = int(first[place]), int(second[place])
        if score[place] < overlap:
            break
        if i not in used_first and j not in used_second:
            used_first.add(i)
            used_second.add(j)
            pairs.append((i, j))
    pairs = np.array(sorted(pairs), int).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def agreement(planted, detected, pair):
    """Return how well detected events meet the planted ones.

    Parameters
    ----------
    planted, detected : array (n,) or (n, 2)
        Seconds.
    pair : callable
        (planted, detected) -> places of the matched pairs.

    Returns
    -------
    row : dict
        planted, detected, matched (numbers), precision, recall, f1 (None without events); chance: the
        precision that the same detections would have half a minute and more beside their places.
    """
    planted, detected = np.asarray(planted, float), np.asarray(detected, float)
    matched = len(pair(planted, detected)[0])
    moved = [len(pair(planted, detected + shift)[0]) for shift in _SHIFTS_S]
    row = {"planted": len(planted), "detected": len(detected), "matched": matched}
    row["precision"] = matched / len(detected) if len(detected) else None
    row["recall"] = matched / len(planted) if len(planted) else None
    row["f1"] = 2 * matched / (len(planted) + len(detected)) if len(planted) + len(detected) else None
    row["chance"] = float(np.mean(moved)) / len(detected) if len(detected) else None
    return row


def circular(phase_rad):
    """Return mean direction (rad) and resultant length (0 to 1) of some phases; None for none."""
    phase_rad = np.asarray(phase_rad, float)
    phase_rad = phase_rad[np.isfinite(phase_rad)]
    if not len(phase_rad):
        return None, None
    mean = np.exp(1j * phase_rad).mean()
    return float(np.angle(mean)), float(abs(mean))
