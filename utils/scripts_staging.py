"""What the stager's test script does, from the command line to the last line it prints."""

from pathlib import Path
from typing import NamedTuple

from utils import cli, config, experiment
from utils.errors import UserError
from utils.vocabulary import STAGES


class _Source(NamedTuple):
    """What is known of a test subject before its night is read."""

    name: str
    file: Path
    simulated: bool


def parser(doc):
    """Return the argument parser of the stager's test script."""
    result = cli.add_experiment(cli.parser(doc))
    result.add_argument("--checkpoint", metavar="FILE", help="checkpoint instead of the one trained here")
    return result


def test_stager(name, network_name, args):
    """Evaluate a stager on the test subjects and print the table."""
    settings = experiment.read(network_name, args)
    if settings.staging is None:
        where = args.config or f"params/{network_name}.yaml"
        raise UserError(f"{where}: `staging` is missing: how a stager is tested (see params/SIStaging.yaml)")
    from data.checks import subject_name
    from data.marks import carries_mark
    from data.staging import staging_files
    from data.tfrecords import STAGING
    from utils import scripts_test, staging_evaluation
    from utils.paths import shown
    from utils.provenance import is_simulated

    root = experiment.data_root(settings)
    files = staging_files(root)
    marked = is_simulated(root)
    sources = [_Source(subject_name(file), file, marked or carries_mark(file)) for file in files]
    network, notes = scripts_test.open_checkpoint(settings, args, None, root, sources)
    channels, samples = STAGING["feature_data"].shape
    network.settings.check_data(samples, channels, len(STAGES), notes["checkpoint"])
    folder = experiment.results_root(args) / name
    summary = staging_evaluation.evaluate(network, files, root, folder, name, settings, notes)
    config.save(scripts_test.held(settings, network), folder / "settings.yaml")
    cli.say(*staging_evaluation.table(summary), f"written: {shown(folder)} and {shown(folder)}.pickle")
