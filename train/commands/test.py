"""What a test script does, from the command line to the last line it prints."""

import logging
from pathlib import Path

from sleep_interpreter.train.settings import experiment
from sleep_interpreter.utils import model as trained_networks
from sleep_interpreter.utils.core import command_line, config
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import DATA, RESULTS

log = logging.getLogger(__name__)

CONTROLS = {
    "cue": "none: the trials as stored, around the cue",
    "precue": "negative control: EEG from before the cue, which cannot know the item; chance is expected",
}
"""What a window of the sleep trials tests, for the summary."""


def parser(doc, modes=(), groups=False):
    """Return the argument parser of a test script; with `groups` of one that tests groups of trials."""
    result = command_line.add_experiment(command_line.parser(doc), modes)
    result.add_argument("--checkpoint", metavar="FILE", help="checkpoint instead of the one trained here")
    if not groups:
        result.add_argument(
            "--skip-bad",
            action="store_true",
            help="leave out damaged trials (and say so) instead of stopping",
        )
        result.add_argument(
            "--window", choices=tuple(CONTROLS), default="cue", help="precue: control before the cue"
        )
        result.add_argument(
            "--data-type",
            metavar="PARTS",
            default="train,val,test",
            help="parts of the test subjects' trials (default: train,val,test; zero-shot nothing is fitted)",
        )
    return result


def reactivation_parser(doc):
    """Return the argument parser of test/reactivation.py."""
    result = command_line.parser(doc)
    result.add_argument("--config", metavar="YAML", help="settings instead of params/reactivation.yaml")
    result.add_argument("--set", dest="overrides", metavar="a.b=c", action="append", default=[])
    result.add_argument("--data", type=Path, default=DATA / "prepared", metavar="DIR", help="data/prepared")
    result.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="default: results/")
    result.add_argument("--network", default="N23SIMD", help="decoder of N2 and N3 (default: N23SIMD)")
    result.add_argument("--checkpoint", metavar="FILE", help="of it, instead of the one trained here")
    result.add_argument("--rem-network", metavar="NAME", help="decoder of REM; without one REM is left out")
    result.add_argument("--rem-checkpoint", metavar="FILE")
    result.add_argument("--subjects", metavar="NAMES", help="only these, with commas between")
    result.add_argument("--control", metavar="SESSION", help="name of the session before learning")
    result.add_argument("--behaviour", type=Path, metavar="TABLE", help="TSV or CSV: subject, item, score")
    return result


def test_decoder(name, args):
    """Evaluate a decoder on the test subjects and print the table."""
    settings = experiment.read(name, args)
    from sleep_interpreter.data.formats.test_trials import DATA_TYPES, read_test_subjects
    from sleep_interpreter.train.evaluation import decoder_report
    from sleep_interpreter.utils.core.paths import shown

    root = experiment.data_root(settings)
    skipped = [] if args.skip_bad else None
    parts = _parts(args.data_type)
    subjects = read_test_subjects(root, settings.stage, parts, window=args.window, skipped=skipped)
    mode = getattr(args, "mode", None)
    network, notes = open_checkpoint(settings, args, mode, root, subjects, skipped)
    notes["data_types"] = list(parts)
    notes["controls"] = controls(args.window, network)
    # A part of the trials, another window, a control's network: another result with a folder of its own.
    suffixes = [
        *(parts if len(parts) < len(DATA_TYPES) else ()),
        *([args.window] if args.window != "cue" else []),
    ]
    folder_name = "_".join([_run_name(name, mode, network), *suffixes])
    folder = experiment.results_root(args) / folder_name
    summary = decoder_report.evaluate(network, subjects, folder, folder_name, settings.evaluate, notes)
    config.save(held(settings, network), folder / "settings.yaml")
    command_line.say(*decoder_report.table(summary), f"written: {shown(folder)} and {shown(folder)}.pickle")


def test_so_groups(name, args, mode):
    """Evaluate a decoder by phase of the slow oscillation and print the table."""
    args.mode = mode
    settings = experiment.read(name, args)
    from sleep_interpreter.data.formats.slow_oscillation_trials import read_so_groups
    from sleep_interpreter.train.evaluation import group_report
    from sleep_interpreter.utils.core.paths import shown

    root = experiment.data_root(settings)
    subjects = read_so_groups(root)
    network, notes = open_checkpoint(settings, args, mode, root, subjects)
    notes["controls"] = controls("cue", network)
    folder_name = f"{_run_name(name, mode, network)}_SO"
    folder = experiment.results_root(args) / folder_name
    summary = group_report.evaluate_groups(network, subjects, folder, folder_name, settings.evaluate, notes)
    config.save(held(settings, network), folder / "settings.yaml")
    command_line.say(*group_report.table(summary), f"written: {shown(folder)} and {shown(folder)}.pickle")


def _parts(text):
    """Return the parts of --data-type, each once, in the order of `DATA_TYPES`."""
    from sleep_interpreter.data.formats.test_trials import DATA_TYPES

    given = [part.strip() for part in text.split(",")]
    unknown = [part for part in given if part not in DATA_TYPES]
    if unknown:
        raise UserError(f"--data-type {text!r}: {unknown[0]!r} is no part; there are {','.join(DATA_TYPES)}")
    return tuple(part for part in DATA_TYPES if part in given)


def _run_name(name, mode, network):
    shuffled = ["shuffled"] if network.notes.get("labels_shuffled") else []
    return "_".join([name, *([mode] if mode not in (None, "normal") else []), *shuffled])


def open_checkpoint(settings, args, mode, root, subjects, skipped=None):
    """Return the network to test and the notes about it and the data; log what speaks against the test."""
    from sleep_interpreter.data.formats.fingerprints import fingerprint
    from sleep_interpreter.model.checkpoints import checkpoint
    from sleep_interpreter.utils.core.paths import shown

    results = experiment.results_root(args)
    path = args.checkpoint or trained_networks.find_checkpoint(results, settings.network, mode, root)
    network = checkpoint.restore(path, settings.network, mode)
    _check_agreement(args.overrides, settings, held(settings, network), shown(path))
    files = [s.file for s in subjects]
    log.info("testing %s (%s)", shown(path), ", ".join(s.name for s in subjects))
    warnings = cautions(network.notes, subjects)
    notes = {
        "checkpoint": shown(path),
        "checkpoint_notes": network.notes,
        "members": len(network.individual_models),
        "data": shown(root),
        "data_fingerprint": fingerprint(files),
        "simulated": any(s.simulated for s in subjects),
    }
    if skipped is not None:
        notes["skipped"] = skipped
    if skipped:
        first = skipped[0]
        warnings.append(
            f"{len(skipped)} bad trials left out (--skip-bad); the first: {shown(first['file'])}, trial "
            f"{first['record']}: {first['reason']}"
        )
    for warning in warnings:
        log.warning("WARNING: %s", warning)
    return network, {**notes, "warnings": warnings}


def held(settings, network):
    """Return the settings with the network and the members that a checkpoint really holds."""
    return settings.model_copy(update={"model": network.settings, "members": len(network.individual_models)})


def _check_agreement(overrides, settings, real, where):
    """Refuse --set of what the checkpoint decides, where it differs: it would have no effect.

    The same --set may be given to training and test.
    """
    parts = {"model", "members"}
    asked, there = (config.flat(s.model_dump(mode="json", include=parts)) for s in (settings, real))
    for key in (config.parse_override(text)[0] for text in overrides):
        for name in asked:
            if (name == key or name.startswith(f"{key}.")) and asked[name] != there.get(name):
                raise UserError(
                    f"--set {name}={asked[name]}: no effect here, {where} was trained with "
                    f"{there.get(name)}; leave it out, or train a network with it"
                )


def cautions(trained, subjects):
    """Return what speaks against taking a result at face value.

    Parameters
    ----------
    trained : dict
        Notes of the checkpoint.
    subjects : sequence of objects with `name` and `simulated`
    """
    found = []
    simulated = [s.name for s in subjects if s.simulated]
    for key, use in (("training_subjects", "trained on"), ("validation_subjects", "chosen on")):
        seen = sorted(set(trained.get(key, ())) & {s.name for s in subjects})
        if seen:
            found.append(f"the checkpoint was {use} test subjects {', '.join(seen)}: this is no test")
    if 0 < len(simulated) < len(subjects):
        found.append(f"only some test subjects are marked as simulated: {', '.join(simulated)}")
    if trained.get("simulated") and not simulated:
        found.append(
            "the checkpoint was trained on simulated data, the test data are not marked as simulated"
        )
    if simulated and not trained.get("simulated"):
        found.append("the test data are simulated, the checkpoint is not marked as trained on simulated data")
    return found


def controls(window, network):
    """Return which control a result is, if any: for the window tested and for the labels trained on."""
    controls = {"window": window, "meaning": CONTROLS[window]}
    if network.notes.get("labels_shuffled"):
        controls["training_labels"] = "negative control: trained on labels shuffled within subject"
    return controls
