"""What data/prepare.py and test/reactivation.py find of what the simulator planted. All of it is simulated.

Cued nights: slow oscillations and spindles (precision, recall), the phase at cues (error) and its group. Naps
without cues: reactivations found, false ones and the relation to memory, with planted reactivations and with
none, under both controls (shuffled phases; a nap before learning). The decoder is that of `make
simulated-benchmark`, trained on other people with the same items.

  python -m utils.study_planted --only cued         (minutes; needs no decoder)
  python -m utils.study_planted                     (about half an hour)

Writes    data/simulated/planted/ (5 GB); results/planted/summary.json, tables.md
Stop it whenever you like: the same command goes on with what is not simulated or prepared yet.
"""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt

from data.so_groups import SO_GROUPS
from utils import cli, config, provenance, quiet
from utils.errors import UserError
from utils.paths import RESULTS, ROOT, shown, writing

log = logging.getLogger(__name__)
CUED, NAPS = "cued", ("naps_1", "naps_0")


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


class Study(config.Settings):
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
    tolerance: Tolerance


def _overrides(*changes):
    flat = {}
    for change in changes:
        flat |= config.flat(change)
    return [f"{key}={json.dumps(value)}" for key, value in flat.items()]


def _prepared(sources, settings, out):
    from data import prepare_run

    records = prepare_run.prepare(sources, settings, out)["subjects"]
    for record in records.values():
        if record["status"] != "complete":
            raise UserError(f"{record['source']}: failed at {record['step']!r}: {record['reason']}")
    return records


def simulated(study, name):
    """Simulate and prepare one set; return (data set, prepared folder)."""
    from data import prepare_inputs
    from data.prepare_settings import load_settings
    from data.simulation_dataset import write_dataset
    from data.simulation_settings import load_settings as simulation

    root = ROOT / study.data / name
    overrides = _overrides(study.common, study.sets[name])
    write_dataset(simulation(study.preset, overrides), root, bids=True, processes=2)
    if name == CUED:
        settings = load_settings(None, _overrides(study.prepare.change_cued))
    else:
        settings = load_settings(study.prepare.config, _overrides(study.prepare.change))
    out = root.with_name(f"{name}_prepared")
    _prepared(prepare_inputs.find_bids(root / "bids", settings), settings, out)
    return root, out


def before_learning(study, number):
    """Simulate and prepare one person's nap before learning; return the folder of the prepared session."""
    from data import prepare_inputs
    from data.prepare_settings import load_settings
    from data.simulation_dataset import write_dataset
    from data.simulation_settings import load_settings as simulation

    root = ROOT / study.data / f"before_{number}"
    change = _overrides(study.common, study.before, {"recording": {"test_subject": number}})
    write_dataset(
        simulation(study.preset, [*change, f"cohort.test_subjects={number + 1}"]), root, recording_only=True
    )
    settings = load_settings(
        study.prepare.config,
        [*_overrides(study.prepare.change), "recordings.default_session=sleep",
         "recordings.pattern=(?P<subject>simulated)_night"],
    )  # fmt: skip
    sources = prepare_inputs.find_recordings(str(root / "recordings" / "*.vhdr"), settings)
    out = root.with_name(f"before_{number}_prepared")
    (record,) = _prepared(sources, settings, out).values()
    return out / "Prepared" / record["subject"] / "sleep"


def sessions(root, out):
    """Yield (name of a subject, its truth's tables, folder of its prepared night)."""
    from data.simulation_truth import read_truth

    for folder in sorted(out.glob("Prepared/subject_*/night_sleep")):
        name = folder.parent.name
        yield name, read_truth(root, name).tables, folder


def events(truth, folder, tolerance):
    """Return what was found of one cued night's slow oscillations, spindles and phases at cues."""
    from data.so_events import compare_events, phase_error

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
        raise UserError(f"{shown(folder)}: its cues are not those of the simulation; remove the folder")
    order = {name: k for k, name in enumerate(SO_GROUPS)}
    places = [np.array([order.get(g, -1) for g in table.so_group]) for table in (planted, cues)]
    both = (places[0] >= 0) & (places[1] >= 0)
    apart = np.abs(places[0] - places[1])[both]
    return compared | {
        "phase": phase_error(cues.so_phase_rad, planted.so_phase_rad),
        "groups": {"n": int(both.sum()), "same": int((apart == 0).sum()), "next": int((apart <= 1).sum())},
    }


def naps(study, name, predict):
    """Look for reactivations in one set's naps under both controls.

    Returns
    -------
    found : dict of str to dict
        By control: "nights" {subject: as `reactivation_events.against_truth`, "events_of_item" (15,)},
        "relation" to the planted memory scores, "relation_to_planted" of events and planted counts.
    """
    from utils import reactivation
    from utils import reactivation_events as found
    from utils.reactivation import ReactivationSettings
    from utils.vocabulary import ITEMS, STAGES

    changes = _overrides(study.reactivation)
    settings = config.load(ReactivationSettings, "reactivation", overrides=changes)
    decoders = dict.fromkeys(settings.stages, predict)
    result = {c: {"nights": {}} for c in ("shuffled phases", "nap before learning")}
    rates, memory, planted = {c: [] for c in result}, [], []
    root, out = simulated(study, name)
    for number, (subject, truth, folder) in zip(
        range(study.looked_at[name]), sessions(root, out), strict=False
    ):
        night = reactivation.read_night(folder)
        own = truth["night/reactivations"][["onset_s", "item", "gain"]]
        own = own[own.gain > 0][["onset_s", "item"]]
        night = dataclasses.replace(night, truth=own)
        log.info("%s %s: sliding", name, subject)
        course = reactivation.slide(night, decoders, settings)
        quiet_nap = reactivation.read_night(before_learning(study, number))
        controls = {
            "shuffled phases": reactivation.shuffled(night, decoders, settings),
            "nap before learning": reactivation.slide(quiet_nap, decoders, settings),
        }
        minutes = float(course.free.sum() * settings.step_seconds / 60)
        codes = [STAGES.index(stage) for stage in settings.stages]
        inside = own[np.isin(night.hypnogram.at(own.onset_s.to_numpy()), codes)].reset_index(drop=True)
        for control, calibrating in controls.items():
            levels = found.calibrate(calibrating, settings, settings.step_seconds)
            seen = found.find_events(course, levels, settings)
            result[control]["nights"][subject] = found.against_truth(
                seen, inside, minutes, settings.tolerance_seconds, settings.false_alarms_per_min
            )
            rates[control].append(found.rates(subject, course, seen, levels, settings.step_seconds))
        scores = truth["night/memory"][["item", "memory_score"]].rename(columns={"memory_score": "score"})
        memory.append(scores.assign(subject=subject))
        counts = inside["item"].value_counts().reindex(ITEMS, fill_value=0)
        planted.append(pd.DataFrame({"item": ITEMS, "score": counts.to_numpy(), "subject": subject}))
    for control, tables in rates.items():
        for key, scores in (("relation", memory), ("relation_to_planted", planted)):
            result[control][key] = found.relation(
                pd.concat(tables), pd.concat(scores), settings.permutations, settings.control.seed
            )
    return result


def _number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def event_table(found):
    """Return the Markdown table of the cued nights."""
    rows = {
        "slow oscillations: planted in N2 and N3, found": lambda r: f"{r['so']['true']}, {r['so']['found']}",
        "trough within 0.25 s: precision, recall": lambda r: _pair(r["so"]),
        "spindles: planted, found": lambda r: f"{r['spindles']['true']}, {r['spindles']['found']}",
        "middle within 0.5 s: precision, recall": lambda r: _pair(r["spindles"]),
        "phase at cues inside an oscillation, found minus true: mean, SD (rad)": lambda r: (
            f"{_number(r['phase']['mean_rad'])}, {_number(r['phase']['sd_rad'])} (n = {r['phase']['n']})"
        ),
        "cues whose group is known and found: same group, same or next": lambda r: (
            "{same}, {next} of {n}".format(**r["groups"])
        ),
    }
    lines = [
        "| | " + " | ".join(f"{name} (simulated)" for name in found) + " |",
        "|---" * (1 + len(found)) + "|",
    ]
    return lines + [
        f"| {title} | " + " | ".join(cell(r) for r in found.values()) + " |" for title, cell in rows.items()
    ]


def _pair(row):
    return f"{_number(row['precision'])}, {_number(row['recall'])}"


def nap_table(found):
    """Return the Markdown table of the naps, a row a set and control, summed over subjects."""
    lines = [
        "| naps (simulated) | control | events a minute | planted, found | with the right item | by accident "
        "| false a minute, each nap | rho with memory (p) | rho with planted counts (p) |",
        "|---" * 9 + "|",
    ]
    for name, controls in found.items():
        for control, own in controls.items():
            nights = own["nights"].values()
            total = {k: sum(n[k] for n in nights) for k in ("true", "hits", "right_item", "found", "minutes")}
            accident = np.mean([n["recall_by_accident"] for n in nights])
            each = ", ".join(_number(n["false_per_min"]) for n in nights)
            rho = [
                f"{_number(r['mean_rho'])} ({_number(r['p'], 4)})" if r["n"] else "-"
                for r in (own["relation"], own["relation_to_planted"])
            ]
            lines.append(
                f"| {name}, {len(own['nights'])} of {total['minutes'] / len(own['nights']):.0f} min "
                f"| {control} | {total['found'] / total['minutes']:.2f} | {total['true']}, {total['hits']} "
                f"| {total['right_item']} | {accident:.0%} | {each} | {' | '.join(rho)} |"
            )
    return lines


def run(study, folder, only=None):
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
        from model import checkpoint

        file = ROOT / study.decoder.checkpoint
        if not file.is_file():
            raise UserError(f"{shown(file)} is not there: run `make simulated-benchmark` first (an hour)")
        predict = checkpoint.restore(file, study.decoder.network, None).predict_proba
        summary["naps"] = {name: naps(study, name, predict) for name in NAPS}
    provenance.write_json(path, {**summary, "provenance": provenance.record()})
    lines = [*(event_table(summary[CUED]) if CUED in summary else ()), ""]
    lines += nap_table(summary["naps"]) if "naps" in summary else []
    with writing(folder / "tables.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lines


def main(argv=None):
    """Run the study."""
    parser = cli.parser(__doc__)
    parser.add_argument("--only", choices=[CUED, "naps"], help="one of the two parts")
    parser.add_argument("--set", dest="overrides", metavar="a.b=c", action="append", default=[])
    parser.add_argument("--results", type=Path, default=RESULTS / "planted", metavar="DIR")
    args = parser.parse_args(argv)
    quiet.import_tensorflow()
    study = config.load(Study, "planted_study", overrides=args.overrides)
    cli.say(*run(study, args.results, args.only), f"written: {shown(args.results)}")


if __name__ == "__main__":
    sys.exit(cli.run(main))
