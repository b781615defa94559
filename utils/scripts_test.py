"""What a test script does, from the command line to the last line it prints."""

import logging

from utils import cli, config, experiment
from utils.provenance import is_simulated

log = logging.getLogger(__name__)


def parser(doc, modes=()):
    """Return the argument parser of a test script."""
    result = cli.add_experiment(cli.parser(doc), modes)
    result.add_argument("--checkpoint", metavar="FILE", help="checkpoint instead of the one trained here")
    return result


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
