"""What a training script does, from the command line to the last line it prints."""

import logging

from utils import cli, experiment, quiet
from utils.provenance import is_simulated

log = logging.getLogger(__name__)


def parser(doc, modes=()):
    """Return the argument parser of a training script."""
    result = cli.add_experiment(cli.parser(doc), modes)
    result.add_argument("--members", type=int, metavar="N", help="members of the ensemble")
    result.add_argument("--restart", action="store_true", help="forget an earlier run and begin anew")
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
