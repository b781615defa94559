"""What data/prepare.py and test/reactivation.py find of what the simulator planted. All of it is simulated.

Cued nights: slow oscillations and spindles (precision, recall), the phase at cues (error) and its group. Naps
without cues: reactivations found, false ones and the relation to memory, with planted reactivations and with
none, under both controls (shuffled phases; a nap before learning). The decoder is that of `make
simulated-benchmark`, trained on other people with the same items.

  python -m benchmarks.preparation.planted_events --only cued         (minutes; needs no decoder)
  python -m benchmarks.preparation.planted_events                     (about an hour)

Writes    data/simulated/planted/ (5 GB); results/planted/summary.json, tables.md, courses/*.npz
Stop it whenever you like: the same command goes on with what is not simulated, prepared or decoded yet.
"""

import dataclasses
import json
import logging
import sys
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt

from benchmarks import runner
from benchmarks.preparation import planted_tables as markdown
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.utils.core import command_line, config, provenance
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import ROOT, atomic_write

log = logging.getLogger(__name__)
CUED, NAPS = "cued", ("naps_1", "naps_0")
LAGS_S = np.round(np.arange(-0.2, 0.201, 0.02), 2)
"""Where the decoder is asked around the onset of a planted reactivation."""


class Preparing(config.Settings):
    """How the recordings are prepared."""

    config: str
    change: dict[str, Any]
    change_cued: dict[str, Any]


class Decoder(config.Settings):
    """What decodes the naps."""

    network: str
    checkpoint: str


class Tolerance(config.Settings):
    """How near a detected event has to be to the planted one."""

    trough_s: PositiveFloat
    spindle_s: PositiveFloat


class PlantedEventsSettings(config.Settings):
    """Settings of the study (params/planted_study.yaml)."""

    data: str
    preset: str
    common: dict[str, Any]
    sets: dict[str, dict[str, Any]] = Field(min_length=1)
    before: dict[str, Any]
    prepare: Preparing
    decoder: Decoder
    looked_at: dict[str, PositiveInt]
    reactivation: dict[str, Any]
    rates_per_min: tuple[PositiveFloat, ...] = Field(min_length=1)
    tolerance: Tolerance


def _prepared(sources, settings, out):
    from sleep_interpreter.data.preparation import run as prepare_run

    records = prepare_run.prepare(sources, settings, out)["subjects"]
    for record in records.values():
        if record["status"] != "complete":
            raise UserError(f"{record['source']}: failed at {record['step']!r}: {record['reason']}")
    return records


def simulated(study, name):
    """Simulate and prepare one set; return (data set, prepared folder)."""
    from sleep_interpreter.data.preparation import inputs
    from sleep_interpreter.data.preparation.settings import load_settings
    from sleep_interpreter.data.simulation.dataset import write_dataset
    from sleep_interpreter.data.simulation.settings import load_settings as simulation

    root = ROOT / study.data / name
    overrides = runner.overrides(study.common, study.sets[name])
    write_dataset(simulation(study.preset, overrides), root, bids=True, processes=2)
    if name == CUED:
        settings = load_settings(None, runner.overrides(study.prepare.change_cued))
    else:
        settings = load_settings(study.prepare.config, runner.overrides(study.prepare.change))
    out = root.with_name(f"{name}_prepared")
    _prepared(inputs.find_bids(root / "bids", settings), settings, out)
    return root, out


def before_learning(study, number):
    """Simulate and prepare one person's nap before learning; return the folder of the prepared session."""
    from sleep_interpreter.data.preparation import inputs
    from sleep_interpreter.data.preparation.settings import load_settings
    from sleep_interpreter.data.simulation.dataset import write_dataset
    from sleep_interpreter.data.simulation.settings import load_settings as simulation

    root = ROOT / study.data / f"before_{number}"
    change = runner.overrides(study.common, study.before, {"recording": {"test_subject": number}})
    write_dataset(simulation(study.preset, [*change, f"cohort.test_subjects={number + 1}"]), root, recording_only=True)
    settings = load_settings(
        study.prepare.config,
        [*runner.overrides(study.prepare.change), "recordings.default_session=sleep",
         "recordings.pattern=(?P<subject>simulated)_night"],
    )  # fmt: skip
    sources = inputs.find_recordings(str(root / "recordings" / "*.vhdr"), settings)
    out = root.with_name(f"before_{number}_prepared")
    (record,) = _prepared(sources, settings, out).values()
    return out / "Prepared" / record["subject"] / "sleep"


def sessions(root, out):
    """Yield (name of a subject, its truth's tables, folder of its prepared night)."""
    from sleep_interpreter.data.simulation.truth import read_truth

    for folder in sorted(out.glob("Prepared/subject_*/night_sleep")):
        name = folder.parent.name
        yield name, read_truth(root, name).tables, folder


def phase_error(found, true):
    """Return circular mean and SD in rad of found - true phases where both are known, and their number."""
    difference = np.asarray(found, float) - np.asarray(true, float)
    difference = difference[np.isfinite(difference)]
    if not len(difference):
        return {"mean_rad": None, "sd_rad": None, "n": 0}
    mean = np.exp(1j * difference).mean()
    length = min(max(abs(mean), 1e-12), 1.0)
    return {"mean_rad": float(np.angle(mean)), "sd_rad": float(np.sqrt(-2 * np.log(length))), "n": len(difference)}


def events(truth, folder, tolerance):
    """Return what was found of one cued night's slow oscillations, spindles and phases at cues."""
    from sleep_interpreter.data.events.slow_oscillations import compare_events

    so, spindles, cues = (pd.read_csv(folder / f"{n}.tsv", sep="\t") for n in ("so", "spindles", "cues"))
    waves, bursts = truth["night/slow_oscillation"], truth["night/spindle"]
    waves, bursts = (t[t.stage.isin(("N2", "N3"))] for t in (waves, bursts))
    middle = bursts.start_s + bursts.duration_s / 2
    compared = {
        "so": compare_events(so.trough_s, waves.trough_s, tolerance.trough_s),
        "spindles": compare_events((spindles.start_s + spindles.end_s) / 2, middle, tolerance.spindle_s),
    }
    for row in compared.values():
        row.pop("pairs")
    planted = truth["night/cues"]
    if len(planted) != len(cues) or np.abs(planted.onset_s.to_numpy() - cues.onset_s.to_numpy()).max() > 0.01:
        raise UserError(f"{folder}: its cues are not those of the simulation; remove the folder")
    order = {name: k for k, name in enumerate(SO_GROUPS)}
    places = [np.array([order.get(g, -1) for g in table.so_group]) for table in (planted, cues)]
    both = (places[0] >= 0) & (places[1] >= 0)
    apart = np.abs(places[0] - places[1])[both]
    return compared | {
        "phase": phase_error(cues.so_phase_rad, planted.so_phase_rad),
        "groups": {"n": int(both.sum()), "same": int((apart == 0).sum()), "next": int((apart <= 1).sum())},
    }


def kept(path, make, key):
    """Return what a decoder said in one recording: from the file if it is there for the same `key` (str)."""
    from sleep_interpreter.train.evaluation.sliding_decoder import Course

    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) == key:
                return Course(**{name: stored[name] for name in stored.files if name != "key"})
    course = make()
    with atomic_write(path) as temporary:
        np.savez(temporary, key=key, **vars(course))
    return course


def _key(study, settings):
    """Return what decides over a decoded nap, as text."""
    made = study.model_dump(mode="json", include={"preset", "common", "sets", "before", "prepare", "decoder"})
    chosen = settings.model_dump(mode="json", include={"step_seconds", "stages", "guard_seconds", "control"})
    return json.dumps([made, chosen])


def around(night, own, course, predict):
    """Decode around planted reactivations.

    Parameters
    ----------
    night : sleep_interpreter.train.evaluation.sliding_decoder.Night
    own : DataFrame
        onset_s, item: those planted in the sleep that `course` covers, at least 3 s from the ends.
    course : sleep_interpreter.train.evaluation.sliding_decoder.Course
        Of the night; its SDs are the scale.
    predict : callable

    Returns
    -------
    hits, scores : array (len(own), len(LAGS_S))
        Whether the planted item comes out on top, and its score in SDs.
    """
    from sleep_interpreter.train.evaluation.reactivation_events import scores
    from sleep_interpreter.train.evaluation.sliding_decoder import trials_at
    from sleep_interpreter.utils.core.data_card import published

    places = np.array([published().item_index(item) for item in own["item"]], int)
    rows = np.arange(len(own))
    usual = course.probability[course.free]
    hits, found = np.zeros((2, len(own), len(LAGS_S)))
    for k, lag in enumerate(LAGS_S):
        probability = predict(trials_at(night.eeg.read, own.onset_s.to_numpy() + lag, night.average))
        score = scores(np.concatenate([usual, probability]))[len(usual) :]
        hits[:, k], found[:, k] = score.argmax(axis=1) == places, score[rows, places]
    return hits, found


def naps(study, name, predict, cache):
    """Look for reactivations in one set's naps under both controls.

    Parameters
    ----------
    study : PlantedEventsSettings
    name : str
        Of the set.
    predict : callable
        Of the decoder.
    cache : Path
        Folder that keeps what the decoder said.

    Returns
    -------
    found : dict of str to dict
        By control and allowed rate ("shuffled phases, 0.2"): "nights" {subject: as
        `reactivation_events.against_truth`}, "relation" to the planted memory scores, "relation_to_planted"
        of events and planted counts. With planted reactivations also "around": "lag_s", "top1", "score_sd",
        "n".
    """
    from sleep_interpreter.train.evaluation import memory_scores
    from sleep_interpreter.train.evaluation import reactivation_events as found
    from sleep_interpreter.train.evaluation import sliding_decoder as reactivation
    from sleep_interpreter.train.evaluation.sliding_decoder import ReactivationSettings
    from sleep_interpreter.utils.core.constants import STAGES
    from sleep_interpreter.utils.core.data_card import published

    changes = runner.overrides(study.reactivation)
    settings = config.load(ReactivationSettings, "reactivation", overrides=changes)
    decoders = dict.fromkeys(settings.stages, predict)
    controls = ("shuffled phases", "nap before learning")
    result = {f"{c}, {rate:g}": {"nights": {}} for c in controls for rate in study.rates_per_min}
    rates, memory, planted, lags = {c: [] for c in result}, [], [], []
    key = _key(study, settings)
    root, out = simulated(study, name)
    for number, (subject, truth, folder) in zip(range(study.looked_at[name]), sessions(root, out), strict=False):
        night = reactivation.read_night(folder)
        own = truth["night/reactivations"][["onset_s", "item", "gain"]]
        own = own[own.gain > 0][["onset_s", "item"]]
        night = dataclasses.replace(night, truth=own)
        log.info("%s %s: sliding", name, subject)
        quiet_nap = reactivation.read_night(before_learning(study, number))
        made = {
            "night": lambda n=night: reactivation.slide(n, decoders, settings),
            "shuffled phases": lambda n=night: reactivation.slide_shuffled(n, decoders, settings),
            "nap before learning": lambda n=quiet_nap: reactivation.slide(n, decoders, settings),
        }
        said = {
            what: kept(cache / f"{name}_{number}_{what.replace(' ', '_')}.npz", make, key)
            for what, make in made.items()
        }
        course = said.pop("night")
        minutes = float(course.free.sum() * settings.step_seconds / 60)
        codes = [STAGES.index(stage) for stage in settings.stages]
        inside = own[np.isin(night.hypnogram.at(own.onset_s.to_numpy()), codes)].reset_index(drop=True)
        safe = inside[(inside.onset_s > 3) & (inside.onset_s < night.eeg.seconds - 3)]
        if len(safe):
            lags.append(around(night, safe, course, predict))
        for (control, calibrating), rate in product(said.items(), study.rates_per_min):
            allowed = settings.model_copy(update={"false_alarms_per_min": rate})
            levels = found.thresholds([calibrating], allowed, settings.step_seconds)
            seen = found.find_events(course, levels, allowed)
            row = f"{control}, {rate:g}"
            result[row]["nights"][subject] = found.against_truth(
                seen, inside, minutes, settings.tolerance_seconds, rate
            )
            rates[row].append(found.rates(subject, course, seen, levels, settings.step_seconds))
        scores = truth["night/memory"][["item", "memory_score"]].rename(columns={"memory_score": "score"})
        memory.append(scores.assign(subject=subject))
        counts = inside["item"].value_counts().reindex(published().item_names, fill_value=0)
        planted.append(pd.DataFrame({"item": published().item_names, "score": counts.to_numpy(), "subject": subject}))
    for control, tables in rates.items():
        for key, scores in (("relation", memory), ("relation_to_planted", planted)):
            beyond = found.beyond_control(pd.concat(tables))
            result[control][key] = memory_scores.relation(
                beyond, pd.concat(scores), settings.permutations, settings.control.seed
            )
    if lags:
        hits, scores = (np.concatenate(parts) for parts in zip(*lags, strict=True))
        top1, sd = hits.mean(axis=0).tolist(), scores.mean(axis=0).tolist()
        result["around"] = {"lag_s": LAGS_S.tolist(), "top1": top1, "score_sd": sd, "n": len(hits)}
    return result


def measure(study, folder, only=None):
    """Run the parts that are wanted, write summary.json and tables.md, return the tables' lines."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if summary.get("settings") != study.model_dump(mode="json"):
        summary = {}
    summary |= {"simulated": True, "settings": study.model_dump(mode="json")}
    if only in (None, CUED):
        root, out = simulated(study, CUED)
        summary[CUED] = {s: events(t, f, study.tolerance) for s, t, f in sessions(root, out)}
    if only in (None, "naps"):
        from sleep_interpreter.model.checkpoints import checkpoint

        file = ROOT / study.decoder.checkpoint
        if not file.is_file():
            raise UserError(f"{file} is not there: run `make simulated-benchmark` first (an hour)")
        predict = checkpoint.restore(file, study.decoder.network, None).predict_proba
        summary["naps"] = {name: naps(study, name, predict, folder / "courses") for name in NAPS}
    provenance.write_json(path, {**summary, "provenance": provenance.record()})
    lines = [*(markdown.event_table(summary[CUED]) if CUED in summary else ()), ""]
    if "naps" in summary:
        lines += [*markdown.nap_table(summary["naps"]), "", *markdown.lag_table(summary["naps"])]
    with atomic_write(folder / "tables.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lines


def run(study, folder, args):
    """Simulate, prepare and compare; return the tables."""
    return measure(study, folder, args.only)


def _arguments_of_command(parser):
    parser.add_argument("--only", choices=[CUED, "naps"], help="one of the two parts")


main = runner.command(
    __doc__, "planted", run, schema=PlantedEventsSettings, params="planted_study",
    arguments=_arguments_of_command, tensorflow=True,
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(command_line.run(main))
