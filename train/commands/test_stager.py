"""What the stager's test script does, from the command line to the last line it prints."""

from pathlib import Path
from typing import NamedTuple

from sleep_interpreter.train.settings import experiment
from sleep_interpreter.utils.core import command_line, config
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.errors import UserError


class _Source(NamedTuple):
    """What is known of a test subject before its night is read."""

    name: str
    file: Path
    simulated: bool


def parser(doc):
    """Return the argument parser of the stager's test script."""
    result = command_line.add_experiment(command_line.parser(doc))
    result.add_argument("--checkpoint", metavar="FILE", help="checkpoint instead of the one trained here")
    return result


def test_stager(name, network_name, args):
    """Evaluate a stager on the test subjects and print the table."""
    settings = experiment.read(network_name, args)
    if settings.staging is None:
        where = args.config or f"params/{network_name}.yaml"
        raise UserError(f"{where}: `staging` is missing: how a stager is tested (see params/SIStaging.yaml)")
    from sleep_interpreter.data.formats.simulation_marks import carries_mark
    from sleep_interpreter.data.formats.staging_windows import staging_files
    from sleep_interpreter.data.formats.tfrecords import STAGING
    from sleep_interpreter.data.formats.validation import subject_name
    from sleep_interpreter.train.commands import test as scripts_test
    from sleep_interpreter.train.evaluation import staging_evaluation
    from sleep_interpreter.utils.core.paths import shown
    from sleep_interpreter.utils.core.provenance import is_simulated

    root = experiment.data_root(settings)
    files = staging_files(root)
    marked = is_simulated(root)
    sources = [_Source(subject_name(file), file, marked or carries_mark(file)) for file in files]
    network, notes = scripts_test.open_checkpoint(settings, args, None, root, sources)
    channels, samples = STAGING["feature_data"].shape
    network.settings.check_data(samples, channels, len(STAGES), where=notes["checkpoint"])
    folder = experiment.results_root(args) / name
    summary = staging_evaluation.evaluate(network, files, root, folder, name, settings, notes)
    config.save(scripts_test.held(settings, network), folder / "settings.yaml")
    command_line.say(
        *staging_evaluation.table(summary), f"written: {shown(folder)} and {shown(folder)}.pickle"
    )
