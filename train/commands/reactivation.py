"""What test/reactivation.py does: nights, decoders, events, files, figures."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sleep_interpreter.data.events.slow_oscillations import so_phase
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.model.checkpoints.channel_match import own_card
from sleep_interpreter.train.evaluation import memory_scores, paired_values, reactivation_events, sliding_decoder
from sleep_interpreter.train.evaluation.decoder_report import kind_of
from sleep_interpreter.train.evaluation.sliding_decoder import Course, Decoder, Night, ReactivationSettings
from sleep_interpreter.utils import model as trained_networks
from sleep_interpreter.utils.core import command_line, config, provenance
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.file_hashes import content_hash
from sleep_interpreter.utils.core.paths import display_path, named_in_text, replaced_files
from sleep_interpreter.utils.core.text_tables import write_tsv
from sleep_interpreter.utils.metrics import exchangeability
from sleep_interpreter.utils.plots import reactivation as plots_reactivation

log = logging.getLogger(__name__)

MAYBE = ("conditions.tsv", "behaviour.tsv", "behaviour.png", "*/*_events.tsv", "*/*.npz", "*/*.png")
"""Files that a run may have or not, by its options and subjects: those of an earlier one go."""
_DIGITS = "%.4f"


def find_reactivations(args: argparse.Namespace) -> None:
    """Look for reactivations and write everything about them."""
    overrides = [*args.overrides, *(["control.kind=prelearning"] if args.control else [])]
    settings = config.load(ReactivationSettings, args.config or "reactivation", overrides=overrides)
    if settings.control.kind == "prelearning" and not args.control:
        raise UserError("control.kind is prelearning: name the session with --control")
    folders = _folders(args)
    decoders, card, notes = _decoders(args, settings)
    root = args.results / "reactivation"
    # everything that may be refused is, before hours of computing
    read = {
        subject: [sliding_decoder.read_night(folder, card, args.interpolate) for folder in own]
        for subject, own in folders.items()
    }
    for subject, own in read.items():
        if args.control and args.control not in (sessions := [night.session for night in own]):
            raise UserError(f"{subject}: no session {args.control!r}; it has {', '.join(sessions)}")
    condition = _condition_of(args, read)
    behaviour = None
    if args.behaviour is not None:
        behaviour = memory_scores.read(args, sorted(read), card.item_names, args.data)
    tables, summaries, simulated = [], {}, False
    with replaced_files(root, "summary.json", old=MAYBE) as place:
        for subject, own in read.items():
            nights = [night for night in own if night.session != args.control]
            before = [night for night in own if night.session == args.control]
            summaries[subject], table = analyse(subject, nights, before, decoders, settings, place)
            tables.append(table)
            simulated = simulated or any(night.simulated for night in nights)
        rates = reactivation_events.pooled(tables)
        total = reactivation_events.total_excess(rates)
        draw = (settings.permutations, settings.control.seed)
        kind = "simulated" if simulated else notes["kind"]
        summary = {
            "simulated": simulated,
            "decoders": notes["decoders"],
            "settings": settings.model_dump(mode="json"),
            "subjects": summaries,
            "excess": paired_values.mean_of_differences(total.excess, *draw, total.score),
            "data": display_path(args.data),
            "provenance": provenance.record(),
        }
        write_tsv(place / "rates.tsv", rates, _DIGITS)
        words = "Reactivations without cues"
        plots_reactivation.rates(
            rates, card.item_names, place / "rates.png", settings.false_alarms_per_min, words, kind
        )
        if conditions := _conditions(condition, pd.concat(tables, ignore_index=True), settings, place):
            summary["conditions"] = conditions
        if behaviour is not None:
            summary["behaviour"] = _behaviour(behaviour, rates, settings, place, kind)
        provenance.write_json(place / "summary.json", summary)
    command_line.say(*summary_lines(summary), f"written: {root}")


def analyse(
    subject: str, nights: Sequence[Night], before: Sequence[Night], decoders: Mapping[str, Decoder],
    settings: ReactivationSettings, root: Path,
) -> tuple[dict, pd.DataFrame]:  # fmt: skip
    """Look through one subject's nights, write its files and return its part of the summary and each night's rates.

    `before` are nights before learning, for the control (none: shuffled phases); `decoders` are by stage.
    """
    step = settings.step_seconds
    log.info("%s: control (%s)", subject, settings.control.kind)
    said = [night.sentence for night in (*nights, *before) if night.sentence]
    orders = {night.session: exchangeability.exchange(cued_items(night.cues)) for night in nights}
    if told := exchangeability.clustered(orders):
        said.append(f"cues: {told}; events of an item may follow what drifts over the night, not its memory")
    if before:
        parts = [sliding_decoder.slide(night, decoders, settings) for night in before]
        controls = [course.some(course.free) for course in parts]
    else:
        controls = [sliding_decoder.slide_shuffled(night, decoders, settings) for night in nights]
        said += cued_controls(nights, decoders, settings)
    if not any(len(control.time) for control in controls):
        raise UserError(f"{subject}: the control has no {', '.join(decoders)}; nothing can be calibrated")
    levels = reactivation_events.thresholds(controls, settings, step)
    for sentence in said:
        log.info("%s", sentence)
    about = {
        STAGES[code]: {
            "threshold_sd": level["threshold"],
            "control_minutes": round(level["minutes"], 2),  # of the half that counts, as its events
            "control_events": int(level["false_alarms"].sum()),
            "bound_per_min": level["bound_per_min"],
            "allowed_per_min": settings.false_alarms_per_min,
        }
        for code, level in levels.items()
    }
    summary: dict = {"nights": {}, "levels": about, "warnings": [*too_short(levels, settings), *said]}
    tables = []
    for night in nights:
        log.info("%s %s: %.0f min", subject, night.session, night.eeg.seconds / 60)
        course = sliding_decoder.slide(night, decoders, settings)
        events = reactivation_events.find_events(course, levels, settings)
        group, phase, _ = so_phase(night.oscillations, events.onset_s.to_numpy())
        events = events.assign(so_group=np.array([*SO_GROUPS, "none"])[group], so_phase_rad=phase)
        base = root / subject / night.session
        sliding_decoder.save(base.with_suffix(".npz"), course, night, events)
        write_tsv(base.with_name(f"{base.name}_events.tsv"), events, _DIGITS)
        kind, cues = "simulated" if night.simulated else None, night.cues.onset_s.to_numpy(float)
        title, path = f"{subject} {night.session}", base.with_suffix(".png")
        plots_reactivation.night(night.hypnogram, events, cues, course.items, path, title, kind)
        table = reactivation_events.rates(subject, course, events, levels, step)
        tables.append(table.assign(session=night.session))
        minutes = float(course.free.sum() * step / 60)
        in_stage = {name: course.free & (course.stage == STAGES.index(name)) for name in decoders}
        own: dict = {
            "minutes": {name: float(windows.sum() * step / 60) for name, windows in in_stage.items()},
            "events": {name: int((events.stage == name).sum()) for name in decoders},
            "events_per_min": len(events) / minutes if minutes else None,
            "false_per_min_at_most": max(level["bound_per_min"] for level in levels.values()),
            "so_groups": {g: int((events.so_group == g).sum()) for g in (*SO_GROUPS, "none")},
            "so_groups_at_any_time": _groups_at_any_time(night, course, events),
        }
        summary["warnings"] += [
            f"{night.session}: the control has no {name}; {own['minutes'][name]:.1f} min of it were not searched"
            for name in decoders
            if own["minutes"][name] and STAGES.index(name) not in levels
        ]
        if night.truth is not None:
            own["truth"] = _truth(night.truth, course, events, minutes, settings)
        summary["nights"][night.session] = own
    return summary, pd.concat(tables, ignore_index=True)


def cued_items(cues: pd.DataFrame) -> np.ndarray:
    """Return a number for the item of every cue (n,) of a night in order of time; none where the table has no items."""
    known = cues.sort_values("onset_s")["item"].dropna() if "item" in cues else pd.Series(dtype=object)
    return np.unique(known.astype(str).to_numpy(str), return_inverse=True)[1].reshape(-1)


def _groups_at_any_time(night: Night, course: Course, events: pd.DataFrame) -> dict[str, float]:
    """Return how many of as many times, anywhere in the searched sleep of the events' stages, fall in each group."""
    found = np.zeros(len(SO_GROUPS) + 1)
    for name, count in events.stage.value_counts().items():
        inside = course.time[course.free & (course.stage == STAGES.index(str(name)))]
        group, _, _ = so_phase(night.oscillations, inside)
        found += count * np.bincount(group % len(found), minlength=len(found)) / max(1, len(inside))
    return dict(zip((*SO_GROUPS, "none"), found.round(2).tolist(), strict=True))


def _truth(
    truth: pd.DataFrame, course: Course, events: pd.DataFrame, minutes: float, settings: ReactivationSettings
) -> dict:
    """Compare with planted reactivations that lie in the searched sleep."""
    time = course.time[course.free]
    near = np.searchsorted(time, truth.onset_s.to_numpy() - settings.step_seconds)
    inside = [k < len(time) and time[k] <= t + settings.step_seconds for k, t in zip(near, truth.onset_s, strict=True)]
    own = truth[np.array(inside, bool)].reset_index(drop=True)
    return reactivation_events.against_truth(
        events, own, minutes, settings.tolerance_seconds, settings.false_alarms_per_min
    )


def too_short(levels: Mapping[int, Mapping], settings: ReactivationSettings) -> list[str]:
    """Return a sentence for each stage whose control is too short to show the promised rate of false alarms.

    The threshold is then the control's highest score (`levels`, of `reactivation_events.thresholds`): it promises
    less.
    """
    rate, confidence = settings.false_alarms_per_min, settings.control.confidence
    needed = -np.log1p(-confidence) / rate
    return [
        f"the half of the control that sets the threshold holds {level['minutes']:.1f} min of {STAGES[code]}, too few "
        f"to show {rate:g} false alarms a minute (at least {needed:.0f} min); they may be up to "
        f"{level['bound_per_min']:.2g}"
        for code, level in levels.items()
        if level["bound_per_min"] > rate
    ]


def cued_controls(
    nights: Sequence[Night], decoders: Mapping[str, Decoder], settings: ReactivationSettings
) -> list[str]:
    """Return a sentence for each stage of a night whose shuffled control holds cues, for want of sleep without."""
    return [
        f"{night.session}: the control's pieces of {stage} hold {cues} cues (or begin within "
        f"{settings.guard_seconds:g} s after one), as there are none without; take --control if you can"
        for night in nights
        for stage, cues in sliding_decoder.cues_in_control(night, decoders, settings).items()
        if cues
    ]


def _folders(args: argparse.Namespace) -> dict[str, list[Path]]:
    """Return {subject: folders of prepared nights}, those that kept their EEG."""
    found: dict[str, list[Path]] = {}
    for file in sorted(named_in_text(args.data.glob("Prepared/*/*/eeg.npy"))):
        found.setdefault(file.parent.parent.name, []).append(file.parent)
    if not found:
        raise UserError(
            f"{args.data}: no Prepared/<subject>/<session>/eeg.npy; prepare recordings with "
            "data/prepare.py and outputs.continuous = test or all"
        )
    wanted = args.subjects.split(",") if args.subjects else list(found)
    for name in wanted:
        if name not in found:
            raise UserError(f"--subjects: no {name!r} with a kept night; there are {', '.join(found)}")
    return {name: found[name] for name in wanted}


def _decoders(args: argparse.Namespace, settings: ReactivationSettings) -> tuple[dict[str, Decoder], DataCard, dict]:
    """Return {stage: predict}, the card of what they read, and what there is to say about the decoders."""
    chosen = [(("N2", "N3"), args.network, args.checkpoint), (("R",), args.rem_network, args.rem_checkpoint)]
    decoders: dict[str, Decoder] = {}
    about, kinds, cards = {}, [], []
    for possible, network, path in chosen:
        stages = [stage for stage in possible if stage in settings.stages]
        if not stages or network is None:
            continue
        path = path or trained_networks.find_checkpoint(args.results, network, None, args.data)
        restored = checkpoint.restore(path, network, None)
        decoders |= dict.fromkeys(stages, restored.predict_proba)
        about["+".join(stages)] = {
            "network": network,
            "checkpoint": display_path(path),
            "checkpoint_fingerprint": content_hash(checkpoint.files_of(path)),
        }
        kinds.append(kind_of({"checkpoint_notes": restored.notes}))
        cards.append(own_card(restored, display_path(path)))
    if not decoders:
        raise UserError(
            f"no decoder for the stages {', '.join(settings.stages)}; name one with --network or --rem-network"
        )
    if len({card.fingerprint for card in cards}) > 1:
        raise UserError(
            f"{', '.join(row['checkpoint'] for row in about.values())}: trained on data with different cards; take two "
            "decoders of the same items, channels, rate and window"
        )
    return decoders, cards[0], {"decoders": about, "kind": next((kind for kind in kinds if kind), None)}


def _condition_of(args: argparse.Namespace, read: Mapping[str, Sequence[Night]]) -> dict[tuple[str, str], str]:
    """Return the condition of every subject's nights by session: that of --conditions, or the session's name."""
    sessions = {
        subject: [night.session for night in read[subject] if night.session != args.control] for subject in sorted(read)
    }
    if args.conditions is not None:
        return reactivation_events.read_conditions(args.conditions, sessions, memory_scores.aliases(args.data))
    return {(subject, session): session for subject, own in sessions.items() for session in own}


def _conditions(
    condition: Mapping[tuple[str, str], str], nights: pd.DataFrame, settings: ReactivationSettings, root: Path
) -> list[dict]:
    """Compare conditions, and write what each subject has in each."""
    if len(set(condition.values())) < 2:
        return []
    total = reactivation_events.of_conditions(nights, condition)
    write_tsv(root / "conditions.tsv", total, _DIGITS)
    return reactivation_events.between_conditions(total, settings.permutations, settings.control.seed)


def _behaviour(
    behaviour: pd.DataFrame, rates: pd.DataFrame, settings: ReactivationSettings, root: Path, kind: str | None
) -> dict:
    evidence = reactivation_events.beyond_control(rates)
    result = memory_scores.relation(evidence, behaviour, settings.permutations, settings.control.seed)
    beyond = evidence.reset_index().melt("subject", value_name="beyond_control")
    total = rates.groupby(["subject", "item"], as_index=False).events.sum().merge(beyond, on=["subject", "item"])
    pairs = behaviour.merge(total, on=["subject", "item"])
    what = "beyond_control", "Events beyond the control"
    plots_reactivation.behaviour(pairs, what, result, root / "behaviour.png", "Reactivation and memory", kind)
    write_tsv(root / "behaviour.tsv", pairs, _DIGITS)
    return result


def summary_lines(summary: Mapping) -> list[str]:
    """Return what the command says at its end."""
    beside = " (simulated data)" if summary["simulated"] else ""
    result = [f"reactivations without cues{beside}"]
    for subject, about in summary["subjects"].items():
        result += [f"  warning, {subject}: {text}" for text in about.get("warnings", ())]
        for session, own in about["nights"].items():
            minutes = sum(own["minutes"].values())
            rate = f"{own['events_per_min']:.2f}" if own["events_per_min"] is not None else "no"
            result.append(
                f"  {subject} {session}: {sum(own['events'].values())} events in {minutes:.1f} min, "
                f"{rate} per min; up to {own['false_per_min_at_most']:.2g} may be false"
            )
            if "truth" in own:
                t = own["truth"]
                result.append(
                    f"    planted {t['true']}, found {t['hits']} ({t['right_item']} with the right item); "
                    f"false {t['false_per_min']:.2f} per min, by accident {t['recall_by_accident']:.2f} "
                    "would be found"
                )
    if "excess" in summary:
        result.append(f"  events a minute beyond the control: {paired_values.in_words(summary['excess'])}{beside}")
    for pair in summary.get("conditions", ()):
        holm = "" if pair["p_holm"] is None or len(summary["conditions"]) == 1 else f", {pair['p_holm']:.4f} after Holm"
        left = f"; without the other one: {', '.join(pair['left_out'])}" if pair["left_out"] else ""
        words = (paired_values.in_words if pair["paired"] else paired_values.groups_in_words)(pair["test"])
        result.append(f"  {pair['first']} - {pair['second']}, beyond the control: {words}{holm}{left}{beside}")
    if "behaviour" in summary:
        result.append(memory_scores.in_words(summary["behaviour"], "events beyond the control") + beside)
    return result
