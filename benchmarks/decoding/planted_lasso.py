"""The Lasso GLMs in the simulated benchmark: their accuracies, and whether they peak when items differ."""

import json

import numpy as np
import pandas as pd

from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

EXPERIMENTS = {
    "image2image": ("image/image",),
    "audio2audio": ("audio/audio",),
    "N2N3N2N3": ("N2N3/N2N3",),
    "awake2sleep": ("image/N2N3", "audio/N2N3"),
}
"""What is run, and its pairs of training and test trials."""
NEAR_S = 0.05
"""An accuracy curve that peaks so near a planted maximum has found it."""
EQUAL = 0.97
"""Maxima of the planted course of at least this share of the highest one count as planted peaks."""
BEFORE_CUE_S = 0.2


def rows(study, folder):
    """Return the rows of the table: {row: accuracy, interval, n, interval of permuted labels}.

    Parameters
    ----------
    study : benchmarks.decoding.planted_benchmark.PlantedBenchmarkSettings
    folder : Path
        With the finished runs.
    """
    found = {}
    for strength in (0.0, study.strength):
        for experiment, pairs in EXPERIMENTS.items():
            path = _place(study, folder, strength, experiment) / "summary.json"
            if not path.is_file():
                raise UserError(f"{path}: missing; give the same command again, what is finished is kept")
            results = json.loads(path.read_text(encoding="utf-8"))["results"]
            for pair in pairs:
                found[_row(pair, strength)] = _accuracy(results[pair])
    return found


def _row(pair, strength):
    return f"Lasso {pair.replace('/', ' to ')}, strength {strength:g}"


def _place(study, folder, strength, experiment):
    return folder / f"lasso_strength_{strength:g}_seed_{study.seeds[0]}" / f"lasso_{experiment}"


def _accuracy(result):
    peak = result["peak"]
    by_subject = {name: own["accuracy"] for name, own in result["peak_by_subject"].items()}
    kept = {key: peak[key] for key in ("subjects", "n", "accuracy", "low", "high", "chance")}
    permuted = {f"permuted_{key}": peak["permutation"][key] for key in ("low", "high", "p")}
    return {**kept, **permuted, "by_subject": by_subject}


def verdicts(study, folder, table):
    """Return one verdict a planted claim: {claim, verdict, rows, figures}.

    Parameters
    ----------
    study, folder
        As of `rows`.
    table : dict
        What `rows` returned.
    """
    found, pairs = [], [pair for own in EXPERIMENTS.values() for pair in own]
    for pair in pairs:
        name, none = _row(pair, study.strength), _row(pair, 0.0)
        above = table[name]["low"] > table[name]["permuted_high"]
        found.append(_verdict(f"{name} > permuted labels", "shown" if above else "not shown", name))
        low, value, high = (table[none][key] for key in ("permuted_low", "accuracy", "permuted_high"))
        verdict = "contradicted" if value > high else "lies below" if value < low else "holds"
        claim = f"{none}: inside the interval of permuted labels"
        found.append(_verdict(claim, verdict, none))
    settings = study.simulation(study.strength)
    people = simulated_people(settings)
    for experiment, own in EXPERIMENTS.items():
        mean = pd.read_csv(_place(study, folder, study.strength, experiment) / "mean.csv")
        for pair in own:
            train, test = pair.split("/")
            where = mean[(mean["train"] == train) & (mean["test"] == test)]
            at = where.loc[where["accuracy"].idxmax()]
            timed = _timed(people, test, at) if train == test else _delayed(settings, at)
            shown_ = min(abs(timed["peak_s"] - planted) for planted in timed["planted_s"]) <= NEAR_S + 1e-9
            claim = f"Lasso {pair.replace('/', ' to ')}: peaks within {1000 * NEAR_S:.0f} ms of what was planted"
            found.append(_verdict(claim, "shown" if shown_ else "contradicted", _row(pair, study.strength)) | timed)
    return found


def _verdict(claim, verdict, row):
    return {"claim": claim, "verdict": verdict, "rows": [row]}


def _timed(people, domain, at):
    return {"peak_s": float(at["time"]), "planted_s": planted_peaks(people, domain)}


def _delayed(settings, at):
    """Return when a curve from wake to sleep peaks after the cue, and when what was learnt comes there."""
    timing = settings.memory.timing.NREM
    planted = timing.delay_s + timing.stretch * float(at["time"])
    return {"peak_s": round(float(at["offset"] + at["time"]) - BEFORE_CUE_S, 4), "planted_s": [round(planted, 4)]}


def simulated_people(settings):
    """Return all subjects of a cohort (`data.simulation.settings.Simulation`), with their true signals."""
    from sleep_interpreter.data.simulation.subject import Subject

    counts = {"train": settings.cohort.train_subjects, "test": settings.cohort.test_subjects}
    return [Subject(settings, group, number) for group, count in counts.items() for number in range(count)]


def planted_peaks(people, domain):
    """Return when the items' planted responses differ most, in s after onset or cue, highest first.

    Parameters
    ----------
    people : list of sleep_interpreter.data.simulation.subject.Subject
    domain : "image" | "audio" | "N2N3"

    Returns
    -------
    times : list of float
        The highest maximum of `planted_course`, and others of at least `EQUAL` of it.
    """
    course = planted_course(people, domain)
    inner = course[1:-1]
    places = 1 + np.flatnonzero((inner > course[:-2]) & (inner >= course[2:]) & (inner >= EQUAL * course.max()))
    places = places[np.argsort(-course[places], kind="stable")]
    return [round(float(place) / published().rate_hz, 4) for place in places]


def planted_course(people, domain):
    """Return how much the items differ at each time, without noise: SD over items, RMS over EEG and subjects.

    Parameters
    ----------
    people : list of sleep_interpreter.data.simulation.subject.Subject
    domain : "image" | "audio" | "N2N3"

    Returns
    -------
    course : array (n,)
        At 100 Hz from the onset or the cue on, in µV against the common average.
    """
    from sleep_interpreter.data.simulation.subject import RESPONSE_S, course

    power = []
    n = round(RESPONSE_S * STREAM_RATE) if domain == "N2N3" else round(0.8 * STREAM_RATE)
    t = np.arange(n) / STREAM_RATE
    for subject in people:
        responses, memory = [], subject.settings.memory
        for item, strength in enumerate(subject.strength):
            if domain == "N2N3":
                response = subject.sleep_response(item, "N2", n)
            else:
                response = memory.semantic_uv * course(subject.components["semantic"][item], t)
                response += memory.modality_uv * course(subject.components[domain][item], t)
            responses.append(strength * response[: len(published().channels)])
        eeg = np.stack(responses)
        eeg -= eeg.mean(axis=1, keepdims=True)
        power.append(eeg.var(axis=0).mean(axis=0))
    return np.sqrt(np.mean(power, axis=0))[:: round(STREAM_RATE / published().rate_hz)]


def lines(verdict):
    """Return what a verdict on time says behind its claim, "" for others."""
    if "peak_s" not in verdict:
        return ""
    planted = ", ".join(f"{time:.2f}" for time in verdict["planted_s"])
    return f" (peak {verdict['peak_s']:.2f} s, planted {planted} s)"
