"""What a training and a test script do, from the command line to the last line they print."""

import logging

from utils import cli, config, experiment, quiet
from utils.provenance import is_simulated

log = logging.getLogger(__name__)


def parser(doc, modes=(), training=True):
    """Return the argument parser of a training or test script."""
    result = cli.add_settings(cli.parser(doc))
    result.add_argument("--data", metavar="DIR", help="data folder (default: data/, the published layout)")
    result.add_argument("--results", metavar="DIR", help="results folder (default: results/)")
    if modes:
        result.add_argument("--mode", choices=modes, default=modes[0], help=f"default: {modes[0]}")
    if training:
        result.add_argument("--members", type=int, metavar="N", help="members of the ensemble")
        result.add_argument("--restart", action="store_true", help="forget an earlier run and begin anew")
    else:
        result.add_argument("--checkpoint", metavar="FILE", help="checkpoint instead of the one trained here")
    return result


def train_decoder(name, args):
    """Train a decoder and print where it is."""
    settings = experiment.read(name, args)
    quiet.import_tensorflow()
    import pandas as pd

    from data.trials import TrainingTrials, fingerprint
    from utils import plots, training
    from utils.paths import shown

    root = experiment.data_root(settings)
    mode = getattr(args, "mode", None)
    trials = TrainingTrials(root, settings.stage, awake=settings.model.awake)
    simulated = is_simulated(root)
    notes = {
        "data": shown(root),
        "data_fingerprint": fingerprint(trials.files),
        "simulated": simulated,
        "training_subjects": sorted(set(trials.subjects)),
        "training_trials": len(trials),
    }
    kind = "simulated" if simulated else None
    log.info(
        "training %s on %d %strials of %d files in %s",
        name, len(trials), f"{kind} " if kind else "", len(trials.files), shown(root),
    )  # fmt: skip
    folder = experiment.run_folder(experiment.results_root(args), settings.network, mode)
    path = training.train(settings, trials, folder, mode, args.restart, notes)
    plots.training_curve(pd.read_csv(folder / "log.csv"), folder / "training.png", folder.name, kind)
    cli.say(f"checkpoint: {shown(path)}", f"log: {shown(folder / 'log.csv')}")


def test_decoder(name, args):
    """Evaluate a decoder on the test subjects and print the table."""
    settings = experiment.read(name, args)
    from data.trials import fingerprint, read_test_subjects
    from model import checkpoint
    from utils import evaluation
    from utils.paths import shown

    results = experiment.results_root(args)
    mode = getattr(args, "mode", None)
    root = experiment.data_root(settings)
    subjects = read_test_subjects(root, settings.stage)
    path = args.checkpoint or experiment.find_checkpoint(results, settings.network, mode)
    network = checkpoint.restore(path, settings.network, mode)
    log.info("testing %s (%s)", shown(path), ", ".join(s.name for s in subjects))
    seen = sorted(set(network.notes.get("training_subjects", ())) & {s.name for s in subjects})
    if seen:
        log.warning("the checkpoint was trained on test subjects %s: this is no test", ", ".join(seen))
    notes = {
        "checkpoint": shown(path),
        "checkpoint_notes": network.notes,
        "members": len(network.individual_models),
        "data": shown(root),
        "data_fingerprint": fingerprint([s.file for s in subjects]),
        "simulated": is_simulated(root),
    }
    folder = results / (name if mode in (None, "normal") else f"{name}_{mode}")
    config.save(settings, folder / "settings.yaml")
    summary = evaluation.evaluate(network, subjects, folder, folder.name, settings.evaluate, notes)
    cli.say(*evaluation.table(summary), f"written: {shown(folder)} and {shown(folder)}.pickle")
