"""What the test scripts do: open the checkpoint, read the test subjects, evaluate, write and print."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from sleep_interpreter.data.formats import plausibility
from sleep_interpreter.data.formats.fingerprints import fingerprint
from sleep_interpreter.data.formats.simulation_marks import carries_mark
from sleep_interpreter.data.formats.slow_oscillation_trials import read_so_groups
from sleep_interpreter.data.formats.staging_windows import staging_files
from sleep_interpreter.data.formats.subject_writer import lab_names
from sleep_interpreter.data.formats.test_trials import DATA_TYPES, read_test_subjects
from sleep_interpreter.data.formats.tfrecords import STAGING
from sleep_interpreter.data.formats.validation import subject_name
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.model.networks.ensemble import Ensemble
from sleep_interpreter.train.evaluation import decoder_report, matching, memory_scores, staging_evaluation
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.train.settings.experiment import Experiment, TrainSettings
from sleep_interpreter.utils import model as trained_networks
from sleep_interpreter.utils.core import command_line, config
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.file_hashes import content_hash
from sleep_interpreter.utils.core.paths import PROJECT, display_path
from sleep_interpreter.utils.core.provenance import is_simulated
from sleep_interpreter.utils.signal.phase import PHASE_FROM

log = logging.getLogger(__name__)

LONG_NOTES = ("card", "training", plausibility.DIGESTS)
"""Notes of a checkpoint that a summary leaves out: the checkpoint has them."""
_MEANINGS = {
    "cue": "none: the trials as stored, around the cue",
    "precue": "negative control: EEG from before the cue, which cannot know the item; chance is expected",
}
"""What a window of the sleep trials tests, for the summary."""


def test_decoder(name: str, settings: Experiment, args: argparse.Namespace) -> None:
    """Evaluate a decoder on the test subjects and print the table."""
    root = PROJECT / settings.data.root
    skipped: list[dict] | None = [] if args.skip_bad else None
    wanted = [part.strip() for part in args.data_type.split(",")]
    if unknown := [part for part in wanted if part not in DATA_TYPES]:
        known = ",".join(DATA_TYPES)
        raise UserError(f"--data-type {args.data_type!r}: {unknown[0]!r} is no part; there are {known}")
    parts = tuple(part for part in DATA_TYPES if part in wanted)
    subjects = read_test_subjects(root, settings.stage, parts, window=args.window, skipped=skipped)
    behaviour = behaviour_of(args, subjects, root)
    mode = getattr(args, "mode", None)
    network, settings, notes = open_checkpoint(settings, args, mode, root, subjects, skipped)
    predictions = decoder_report.predict_subjects(
        network, subjects, settings.evaluate.batch_size, notes["checkpoint"], args.interpolate
    )
    notes["data_types"] = list(parts)
    notes["controls"] = controls(args.window, network)
    # A part of the trials, another window, a control's network: another result with a folder of its own.
    suffixes = [*(parts if len(parts) < len(DATA_TYPES) else ()), *([args.window] if args.window != "cue" else [])]
    name = "_".join([_run_name(name, mode, network), *suffixes])
    folder = experiment.results_root(args) / name
    summary = decoder_report.report(predictions, folder, name, settings.evaluate, notes, behaviour=behaviour)
    _finish(settings, folder, decoder_report.summary_lines(summary))


def test_so_groups(name: str, settings: Experiment, args: argparse.Namespace) -> None:
    """Evaluate a decoder by phase of the slow oscillation and print the table."""
    root = PROJECT / settings.data.root
    subjects = read_so_groups(root)
    behaviour = behaviour_of(args, subjects, root)
    network, settings, notes = open_checkpoint(settings, args, args.mode, root, subjects)
    notes["controls"] = controls("cue", network)
    if ways := sorted({s.phase_from for s in subjects if s.phase_from is not None}):
        notes["phase_from"] = ways
    if "whole" in ways:
        notes["warnings"].append(PHASE_FROM["whole"])
        log.warning("WARNING: %s", PHASE_FROM["whole"])
    name = f"{_run_name(name, args.mode, network)}_SO"
    folder = experiment.results_root(args) / name
    summary = decoder_report.evaluate_groups(
        network, subjects, folder, name, settings.evaluate, notes, args.interpolate, behaviour
    )
    _finish(settings, folder, decoder_report.group_summary_lines(summary))


def test_stager(name: str, settings: Experiment, args: argparse.Namespace) -> None:
    """Evaluate a stager on the test subjects and print the table."""
    if settings.staging is None:
        where = args.config or f"params/{settings.network}.yaml"
        raise UserError(f"{where}: `staging` is missing: how a stager is tested (see params/SIStaging.yaml)")
    root = PROJECT / settings.data.root
    files = staging_files(root)
    marked = is_simulated(root)
    sources = [  # what has to be known now; their nights are read later
        SimpleNamespace(name=subject_name(file), file=file, simulated=marked or carries_mark(file)) for file in files
    ]
    network, settings, notes = open_checkpoint(settings, args, None, root, sources)
    channels, samples = STAGING["feature_data"].shape
    network.settings.check_data(samples, channels, len(STAGES), where=notes["checkpoint"])
    folder = experiment.results_root(args) / name
    summary = staging_evaluation.evaluate(network, files, root, folder, name, settings, notes)
    _finish(settings, folder, staging_evaluation.summary_lines(summary))


def behaviour_of(args: argparse.Namespace, subjects: Sequence[Any], root: Path) -> pd.DataFrame | None:
    """Return the memory scores of --behaviour, None without it."""
    if args.behaviour is None:
        if args.average_over is not None:
            raise UserError("--average-over goes with --behaviour: it names a column of that table")
        return None
    return memory_scores.read(args, [s.name for s in subjects], subjects[0].card.item_names, root)


def _finish(settings: Experiment, folder: Path, lines: Sequence[str]) -> None:
    config.save(settings, folder / "settings.yaml")
    command_line.say(*lines, f"written: {folder} and {folder}.pickle")


def _run_name(name: str, mode: str | None, network: Ensemble) -> str:
    shuffled = ["shuffled"] if network.notes.get("labels_shuffled") else []
    return "_".join([name, *([mode] if mode not in (None, "normal") else []), *shuffled])


def open_checkpoint(
    settings: Experiment, args: argparse.Namespace, mode: str | None, root: Path,
    subjects: Sequence[Any], skipped: list[dict] | None = None,
) -> tuple[Ensemble, Experiment, dict]:  # fmt: skip
    """Return the network to test, the settings with what it really is, and the notes about it and the data.

    What speaks against the test is logged.
    """
    path = args.checkpoint or trained_networks.find_checkpoint(
        experiment.results_root(args), settings.network, mode, root
    )
    network = checkpoint.restore(path, settings.network, mode)
    restored = settings.model_copy(
        update={
            "model": network.settings, "members": len(network.individual_models),
            "train": _trained_with(network, settings, display_path(path)),
        }
    )  # fmt: skip
    _check_agreement(args.overrides, settings, restored, display_path(path))
    files = [s.file for s in subjects]
    log.info("testing %s (%s)", path, ", ".join(s.name for s in subjects))
    warnings = cautions(network.notes, subjects)
    if network.settings.task == "decoding":
        warnings += matching.said(
            network, subjects, display_path(root), display_path(path), getattr(args, "interpolate", False)
        )
        warnings += plausibility.of_training(network.notes, subjects) + plausibility.of_subjects(subjects)
    notes = {
        "checkpoint": display_path(path),
        "checkpoint_fingerprint": content_hash(checkpoint.files_of(path)),
        "checkpoint_notes": {key: value for key, value in network.notes.items() if key not in LONG_NOTES},
        "members": len(network.individual_models),
        "data": display_path(root),
        "data_fingerprint": fingerprint(files),
        "simulated": any(s.simulated for s in subjects),
    }
    if network.settings.task == "decoding" and (card := subjects[0].card) != published():
        notes["data_card"] = {"title": card.title, "fingerprint": card.fingerprint}
    if skipped is not None:
        notes["skipped"] = skipped
    if skipped:
        first = skipped[0]
        warnings.append(
            f"{len(skipped)} bad trials left out (--skip-bad); the first: {display_path(first['file'])}, trial "
            f"{first['record']}: {first['reason']}"
        )
    for warning in warnings:
        log.warning("WARNING: %s", warning)
    return network, restored, {**notes, "warnings": warnings}


def _trained_with(network: Ensemble, settings: Experiment, where: str) -> TrainSettings:
    """Return the settings of a checkpoint's training as it says them; those given where it does not."""
    training = network.notes.get("training", {}).get("settings", {}).get("train")
    if training is None:
        return settings.train
    try:
        return config.validate(TrainSettings, training, f"{where}, settings of its training")
    except UserError as error:
        log.warning("WARNING: %s; settings.yaml holds those of this command instead", error)
        return settings.train


def _check_agreement(overrides: Sequence[str], settings: Experiment, real: Experiment, where: str) -> None:
    """Refuse --set of what the checkpoint decides, where it differs: it would have no effect. (What fine-tuning says
    of --set train. stands in `train.finetune_decoder`.)"""
    parts = {"model", "members"} if settings.finetune else {"model", "members", "train"}
    asked, there = (config.flat(s.model_dump(mode="json", include=parts)) for s in (settings, real))
    for key in (config.parse_override(text)[0] for text in overrides):
        for name in asked:
            if (name == key or name.startswith(f"{key}.")) and asked[name] != there.get(name):
                raise UserError(
                    f"--set {name}={asked[name]}: no effect here, {where} was trained with "
                    f"{there.get(name)}; leave it out, or train a network with it"
                )


def cautions(trained: Mapping[str, Any], subjects: Sequence[Any]) -> list[str]:
    """Return what speaks against taking a result at face value.

    `trained` are the checkpoint's notes; `subjects` have `name` and `simulated`.
    """
    found = []
    simulated = [s.name for s in subjects if s.simulated]
    lab = trained.get("lab_names", {})
    stored_in = {s.name: s.file.parents[2] for s in subjects if getattr(s, "file", None) and s.file.is_file()}
    known = {root: lab_names(root) for root in set(stored_in.values())}  # each folder's record is read once
    names = {s.name: {s.name, known.get(stored_in.get(s.name), {}).get(s.name, s.name)} for s in subjects}
    for key, use in (("training_subjects", "trained on"), ("validation_subjects", "chosen on")):
        used = {name for stored in trained.get(key, ()) for name in (stored, lab.get(stored))}
        if seen := sorted(name for name, called in names.items() if used & called):
            found.append(f"the checkpoint was {use} test subjects {', '.join(seen)}: this is no test")
    if 0 < len(simulated) < len(subjects):
        found.append(f"only some test subjects are marked as simulated: {', '.join(simulated)}")
    if trained.get("simulated") and not simulated:
        found.append("the checkpoint was trained on simulated data, the test data are not marked as simulated")
    if simulated and not trained.get("simulated"):
        found.append("the test data are simulated, the checkpoint is not marked as trained on simulated data")
    return found


def controls(window: str, network: Ensemble) -> dict[str, str]:
    """Return which control a result is, if any: for the window tested and for the labels trained on."""
    found = {"window": window, "meaning": _MEANINGS[window]}
    if network.notes.get("labels_shuffled"):
        found["training_labels"] = "negative control: trained on labels shuffled within subject"
    return found
