"""What the training and fine-tuning scripts do: read the trials, train, write, print where it is."""

import argparse
import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats import plausibility, staging_windows, tfrecords, training_trials
from sleep_interpreter.data.formats.fingerprints import fingerprint
from sleep_interpreter.data.formats.records import Records
from sleep_interpreter.data.formats.staging_windows import StagingWindows
from sleep_interpreter.data.formats.subject_writer import lab_names
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.data.formats.validation import subject_name
from sleep_interpreter.data.preparation.epochs import EpochsData
from sleep_interpreter.train.commands import test
from sleep_interpreter.train.engine import finetuning, loop
from sleep_interpreter.train.evaluation import decoder_report, matching
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils import model as trained_networks
from sleep_interpreter.utils.core import command_line, config, data_card, tensorflow_import
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import PROJECT, display_path
from sleep_interpreter.utils.metrics.decoding_metrics import Predictions
from sleep_interpreter.utils.plots import decoding as plots

log = logging.getLogger(__name__)


def train(name: str, settings: Experiment, args: argparse.Namespace) -> Path:
    """Train a decoder or a stager, print where it is and return that."""
    devices = _devices(args.devices)
    mode = getattr(args, "mode", None)
    trials, validation, notes = _training_data(settings, args.skip_bad)
    kind = "simulated" if notes["simulated"] else None
    log.info(
        "training %s on %d %s%ss of %d files%s%s",
        name, len(trials), f"{kind} " if kind else "", trials.unit, len(trials.files),
        _what_is_read(settings, trials),
        f", validation on {len(validation)} {trials.unit}s of {', '.join(validation.subjects)}"
        if validation else "",
    )  # fmt: skip
    folder = trained_networks.run_folder(experiment.results_root(args), settings.network, mode)
    if settings.train.shuffle_labels:
        folder = folder.with_name(f"{folder.name}_shuffled")
        log.warning("labels are shuffled within subjects: a negative control, written to %s", folder)
    if (item := plausibility.one_item(trials.batches(32, seed=0, epoch=0))) is not None:
        names = (
            STAGES if settings.model.task == "staging" else data_card.card_of(PROJECT / settings.data.root).item_names
        )
        log.warning(
            "WARNING: all %d training %ss are of %s: nothing can be learnt", len(trials), trials.unit, names[item]
        )
    options = loop.Options(args.restart, args.member, args.collect, devices)
    path = loop.train(settings, trials, folder, mode, notes, validation, options)
    if args.member is None:
        plots.training_curve(pd.read_csv(folder / "log.csv"), folder / "training.png", folder.name, kind)
        command_line.say(f"checkpoint: {path}", f"log: {folder / 'log.csv'}")
        if settings.train.shuffle_labels:
            option = f" --mode {mode}" if mode not in (None, "normal") else ""
            script = trained_networks.script("test", f"{name}test" if settings.model.task == "staging" else name)
            command_line.say(f'test it with: python {script}{option} --checkpoint "{path}"')
    else:
        command_line.say(f"member {args.member}: {path}")
    return path


def train_in_memory(
    settings: Experiment, data: EpochsData, results: str | Path, mode: str | None = None, restart: bool = False
) -> Path:
    """Train a decoder on data in memory and return its checkpoint; what is not for them is refused."""
    if settings.model.task == "staging" or settings.train.shuffle_labels:
        what = f"{settings.network} is a stager" if settings.model.task == "staging" else "train.shuffle_labels"
        raise UserError(f"{what}: not for data in memory; write them to a folder (data.write) and train on that")
    settings.model.check_card(data.card, "the Epochs")
    names = list(data.trials)
    count = settings.train.validation_subjects
    held_out = validation_subjects(names, count, settings.train.seed) if count else []
    trials = data.without(held_out).reader(settings.stage, settings.model.awake)
    validation = data.only(held_out).reader(settings.stage, settings.model.awake) if held_out else None
    notes = {
        **data_card.to_notes(data.card),
        "data": "MNE Epochs in memory",
        "data_fingerprint": data.fingerprint,
        "simulated": data.simulated,
        "training_subjects": [name for name in names if name not in held_out],
        "validation_subjects": held_out,
        "training_trials": len(trials),
        "validation_trials": len(validation) if validation else 0,
        "skipped": [],
        "labels_shuffled": False,
        plausibility.DIGESTS: {
            s.name: plausibility.sampled(s.sleep[plausibility.spread_over(len(s))])
            for s in data.subjects(settings.stage)
        },
    }
    folder = trained_networks.run_folder(results, settings.network, mode)
    return loop.train(settings, trials, folder, mode, notes, validation, loop.Options(restart))


def _devices(text: str | None) -> tuple[str, ...]:
    """Return the devices of "GPU:0,GPU:1" as TensorFlow names them, after checking that they are there."""
    if text is None:
        return ()
    tf = tensorflow_import.import_tensorflow()
    known = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    devices = tuple(_parts(text, "--devices", ",".join(known)))
    devices = tuple(device.removeprefix("/").removeprefix("device:").upper() for device in devices)
    for device in devices:
        if device not in known:
            raise UserError(f"--devices {text}: no device {device!r}; there are {', '.join(known)}")
    if len(set(devices)) < len(devices):
        raise UserError(f"--devices {text}: a device stands there twice")
    if len(devices) < 2:
        raise UserError(f"--devices {text}: name two or more that share every batch; one needs no --devices")
    return devices


def _parts(text: str, option: str, example: str) -> list[str]:
    """Return the words of "a,b"."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UserError(f"{option} {text!r}: expected names with commas between them, such as {example}")
    return parts


def _what_is_read(settings: Experiment, trials: Records) -> str:
    if settings.model.task == "staging":
        return f" ({display_path(trials.files[0].parents[1])}/subject*/Whole*)"
    words, pattern = ("with awake trials", "Whole*") if settings.model.awake else ("alone", "sleep*")
    return f", sleep {words} ({display_path(trials.files[0].with_name(pattern))})"


def _reader(settings: Experiment) -> Callable[..., Records]:
    """Return the function that opens the experiment's training records, after checking that they fit."""
    root = PROJECT / settings.data.root
    if settings.model.task == "staging":
        shape = tfrecords.STAGING["feature_data"].shape
        settings.model.check_data(shape[1], shape[0], len(STAGES), where=display_path(root))
        return partial(StagingWindows, root)
    card = data_card.card_of(root)
    settings.model.check_card(card, data_card.place_of(root))
    card.require(settings.stage, root)
    return partial(
        TrainingTrials,
        root,
        settings.stage,
        awake=getattr(settings.model, "awake_kinds", True) if settings.model.awake else False,
    )


def _training_subjects(settings: Experiment) -> list[str]:
    """Return the names of the training subjects, without opening a file."""
    root = PROJECT / settings.data.root
    if settings.model.task == "staging":
        _, files = staging_windows.training_files(root)
    else:
        _, files = training_trials.training_files(root, settings.stage, settings.model.awake)
    return [subject_name(file) for file in files]


def _training_data(settings: Experiment, skip_bad: bool) -> tuple[Records, Records | None, dict[str, Any]]:
    """Return the trials to train on, those of the validation subjects (or None), and notes about both."""
    root, train = PROJECT / settings.data.root, settings.train
    reader = _reader(settings)

    def read(**choice: Any) -> Records:
        seed = train.seed if train.shuffle_labels else None
        return reader(shuffle_seed=seed, skip_bad=skip_bad, **choice)

    validation, files = None, None
    if train.validation_subjects:
        subjects = _training_subjects(settings)
        held_out = validation_subjects(subjects, train.validation_subjects, train.seed)
        trials, validation = read(exclude=held_out), read(only=held_out)
        files = [*trials.files, *validation.files]
    else:
        trials = read()
    skipped = [*trials.skipped, *(validation.skipped if validation else ())]
    return trials, validation, {
        "data": display_path(root),
        "data_fingerprint": fingerprint(files or trials.files),
        "simulated": trials.simulated or bool(validation and validation.simulated),
        "training_subjects": sorted(set(trials.subjects)),
        "validation_subjects": sorted(set(validation.subjects)) if validation else [],
        **({"lab_names": names} if (names := lab_names(root)) else {}),
        "training_trials": len(trials),
        "validation_trials": len(validation) if validation else 0,
        "skipped": skipped,
        "labels_shuffled": train.shuffle_labels,
        **({} if settings.model.task == "staging" else {plausibility.DIGESTS: _sampled(trials, validation)}),
    }  # fmt: skip


def _sampled(*readers: Records | None) -> dict[str, list[str]]:
    return {name: digests for reader in readers if reader for name, digests in reader.sampled().items()}


def validation_subjects(subjects: Iterable[str], count: int, seed: int) -> list[str]:
    """Return which training subjects are kept out to choose the epoch: a draw by the seed."""
    names = sorted(set(subjects))
    if count >= len(names):
        raise UserError(
            f"train.validation_subjects = {count}: of {len(names)} training subjects at least one must "
            "be left to train on"
        )
    return sorted(np.random.default_rng([2, seed]).choice(names, count, replace=False).tolist())


def finetune_decoder(name: str, settings: Experiment, args: argparse.Namespace) -> None:
    """Fine-tune a decoder to every test subject, and report on the test part of their trials."""
    root, results = PROJECT / settings.data.root, experiment.results_root(args)
    only = None if args.subjects is None else _parts(args.subjects, "--subjects", "subject_test_3")
    skipped: list[dict] | None = [] if args.skip_bad else None
    subjects = read_test_subjects(root, settings.stage, skipped=skipped, only=only)
    behaviour = test.behaviour_of(args, subjects, root)
    for subject in subjects:  # all of them now, not after hours
        finetuning.check_parts(subject)
    asked = settings.train
    network, settings, notes = test.open_checkpoint(settings, args, None, root, subjects, skipped)
    precision = {"precision": asked.precision}  # the one setting of the training that fine-tuning has too
    settings = settings.model_copy(update={"train": settings.train.model_copy(update=precision)})
    card = data_card.card_of(root)
    matched = matching.matched_data(network, card, display_path(root), notes["checkpoint"], args.interpolate)
    if awake := network.settings.awake:
        for condition in getattr(network.settings, "awake_kinds", data_card.AWAKE):
            card.require(condition, root)
    notes["controls"] = test.controls("cue", network)
    notes |= {"data_types": ["test"], "finetuned": True}
    for key in (config.parse_override(text)[0] for text in args.overrides):
        if key.startswith("train.") and hasattr(settings.finetune, key.removeprefix("train.")):
            log.warning("WARNING: --set %s has no effect here: finetune.%s has", key, key.removeprefix("train."))
    tuner = finetuning.Finetuner(settings, network, notes)
    folder = trained_networks.run_folder(results, settings.network, finetune=True)
    if only is not None:  # a part of the subjects is another result, with a folder of its own
        name = "_".join([name, *(subject.name.removeprefix("subject_") for subject in subjects)])
    if told := finetuning.parted_stretches(subjects):
        notes["warnings"].append(told)
        log.warning("WARNING: %s", told)
    predictions, extra = [], {}
    for name_of in [subject.name for subject in subjects]:
        # With their awake trials they are large: one at a time. Awake trials may be bad too.
        found: list[dict] | None = None if skipped is None else []
        (subject,) = read_test_subjects(root, settings.stage, awake=awake, only=[name_of], skipped=found)
        subject = matching.adapted(subject, matched)
        _note_more(skipped, found, notes)
        result = tuner.tune(subject, folder / subject.name, args.restart)
        probability = result.pop("probability")
        own = subject.part("test").places
        labels, parts = subject.label[own], subject.data_type[own]
        origin = None if subject.origin is None else subject.origin.iloc[own]
        more = labels, parts, probability, subject.card.item_names, origin
        predictions.append(Predictions(subject.name, subject.file, *more))
        extra[subject.name] = result
    summary = decoder_report.report(predictions, results / name, name, settings.evaluate, notes, extra, behaviour)
    for place in (folder, results / name):
        config.save(tuner.settings, place / "settings.yaml")
    command_line.say(*decoder_report.summary_lines(summary))
    command_line.say(
        "published_score lets the test part choose the epoch, as the original did: for comparison only",
        f"written: {results / name}; checkpoints: {folder}/SUBJECT/ensemble.npz",
    )


def _note_more(skipped: list[dict] | None, found: list[dict] | None, notes: dict) -> None:
    """Add to the trials left out those that turned out bad when their awake trials were read."""
    known = [(row["file"], row["record"]) for row in skipped or ()]
    more = [row for row in found or () if (row["file"], row["record"]) not in known]
    if more and skipped is not None:
        skipped += more
        warning = f"{len(more)} more trials of {more[0]['file']} left out, the first: {more[0]['reason']}"
        notes["warnings"].append(warning)
        log.warning("WARNING: %s", warning)
