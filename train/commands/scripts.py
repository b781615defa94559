"""What the scripts in train/ and test/ call: their options, and the command that does the work.

Settings are read, and refused, before anything heavy is imported.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sleep_interpreter.utils.core import command_line, tensorflow_import
from sleep_interpreter.utils.core.constants import WINDOWS
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import DATA, RESULTS

if TYPE_CHECKING:  # it brings TensorFlow
    from sleep_interpreter.train.settings.experiment import Experiment

Arguments = Sequence[str] | None
"""Words of the command line; None: the process's own."""


def train(name: str | None, doc: str | None, argv: Arguments, modes: Sequence[str] = ()) -> None:
    """Train a decoder or a stager; None: that which the command line names."""
    parser = _training_parser(doc, modes, name is None)
    parser.add_argument("--members", type=int, metavar="N", help="members of the ensemble")
    parser.add_argument("--member", type=int, metavar="I", help="train member I alone (0, 1, ...), do not join")
    parser.add_argument("--collect", action="store_true", help="join members trained alone")
    parser.add_argument(
        "--validation-subjects", type=int, metavar="N",
        help="keep N training subjects out and choose each member's epoch on them (default: last epoch)",
    )  # fmt: skip
    parser.add_argument(
        "--shuffle-labels", action="store_true", help="negative control: permute labels within subjects"
    )
    parser.add_argument("--devices", metavar="A,B", help="devices that share every batch, for example GPU:0,GPU:1")
    args = parser.parse_args(argv)
    if args.validation_subjects is not None:
        args.overrides.append(f"train.validation_subjects={args.validation_subjects}")
    if args.shuffle_labels:
        args.overrides.append("train.shuffle_labels=true")
    name = name or str(args.network)
    settings = _read_settings(name, args)
    from sleep_interpreter.train.commands import train as command  # lazy: start-up

    command.train(name, settings, args)


def finetune(name: str, network: str, doc: str | None, argv: Arguments) -> None:
    """Fine-tune a decoder to every test subject."""
    parser = _training_parser(doc)
    parser.add_argument("--checkpoint", metavar="FILE", help="checkpoint instead of the one trained here")
    parser.add_argument("--subjects", metavar="A,B", help="only these subjects, for example subject_test_3")
    _add_decoding(parser)
    args = parser.parse_args(argv)
    settings = _read_settings(name, args, network)
    from sleep_interpreter.train.commands import train as command  # lazy: start-up

    command.finetune_decoder(name, settings, args)


def _read_settings(name: str, args: argparse.Namespace, network: str | None = None) -> "Experiment":
    """Return the experiment's settings; only then is TensorFlow loaded."""
    from sleep_interpreter.model import registry  # lazy: start-up
    from sleep_interpreter.train.settings import experiment  # lazy: start-up

    if getattr(args, "network", None) is not None and name not in registry.names():
        close = nearest(name, registry.names(), 1)
        raise UserError(f"no network {name!r}; {f'did you mean {close[0]}?' if close else ', '.join(registry.names())}")
    settings = experiment.read(name, args, network)
    tensorflow_import.import_tensorflow()
    return settings


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add what every command that decodes takes."""
    parser.add_argument(
        "--interpolate", action="store_true",
        help="interpolate channels that the network reads and the data lack (spherical splines), instead of refusing",
    )  # fmt: skip
    parser.add_argument(
        "--behaviour", type=Path, metavar="TABLE", help="memory scores as TSV or CSV: subject, item, score"
    )
    parser.add_argument(
        "--average-over", metavar="COLUMN", help="of that table, in which several scores of an item differ: their mean"
    )


def _training_parser(doc: str | None, modes: Sequence[str] = (), network: bool = False) -> argparse.ArgumentParser:
    parser = command_line.experiment_parser(doc, modes, network=network)
    parser.add_argument("--restart", action="store_true", help="set an earlier run aside and begin anew")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out damaged trials and list them, instead of stopping"
    )
    return parser


def test_decoder(name: str | None, doc: str | None, argv: Arguments, modes: Sequence[str] = ()) -> None:
    """Test a decoder on the test subjects; None: that which the command line names."""
    parser = command_line.experiment_parser(doc, modes, checkpoint=True, network=name is None)
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out damaged trials (and say so) instead of stopping"
    )
    parser.add_argument("--window", choices=WINDOWS, default="cue", help="precue: control before the cue")
    parser.add_argument(
        "--data-type",
        metavar="PARTS",
        default="train,val,test",
        help="parts of the test subjects' trials (default: train,val,test; zero-shot nothing is fitted)",
    )
    _add_decoding(parser)
    args = parser.parse_args(argv)
    name = name or str(args.network)
    settings = _read_settings(name, args)
    if settings.model.task == "staging":
        raise UserError(f"{name} is a stager: python test/SIStagingtest.py tests it")
    from sleep_interpreter.train.commands import test as command  # lazy: start-up

    command.test_decoder(name, settings, args)


def test_so_groups(name: str, doc: str | None, argv: Arguments, mode: str) -> None:
    """Test a decoder by phase of the slow oscillation."""
    parser = command_line.experiment_parser(doc, checkpoint=True)
    _add_decoding(parser)
    args = parser.parse_args(argv, argparse.Namespace(mode=mode))
    settings = _read_settings(name, args)
    from sleep_interpreter.train.commands import test as command  # lazy: start-up

    command.test_so_groups(name, settings, args)


def test_stager(name: str, network: str, doc: str | None, argv: Arguments) -> None:
    """Test a stager on the test subjects."""
    args = command_line.experiment_parser(doc, checkpoint=True).parse_args(argv)
    settings = _read_settings(network, args)
    from sleep_interpreter.train.commands import test as command  # lazy: start-up

    command.test_stager(name, settings, args)


def reactivation(doc: str | None, argv: Arguments) -> None:
    """Look for reactivations without cues."""
    parser = command_line.parser(doc)
    parser.add_argument("--config", metavar="YAML", help="settings instead of params/reactivation.yaml")
    parser.add_argument("--set", dest="overrides", metavar="a.b=c", action="append", default=[])
    parser.add_argument("--data", type=Path, default=DATA / "prepared", metavar="DIR", help="data/prepared")
    parser.add_argument(
        "--results", type=command_line.out_folder, default=RESULTS, metavar="DIR", help="default: results/"
    )
    parser.add_argument("--network", default="N23SIMD", help="decoder of N2 and N3 (default: N23SIMD)")
    parser.add_argument("--checkpoint", metavar="FILE", help="of it, instead of the one trained here")
    parser.add_argument("--rem-network", metavar="NAME", help="decoder of REM; without one REM is left out")
    parser.add_argument("--rem-checkpoint", metavar="FILE")
    parser.add_argument("--subjects", metavar="NAMES", help="only these, with commas between")
    parser.add_argument("--control", metavar="SESSION", help="name of the session before learning")
    parser.add_argument(
        "--conditions", type=Path, metavar="TABLE",
        help="TSV or CSV: subject, session, condition; compares them (default: sessions by their names)",
    )  # fmt: skip
    _add_decoding(parser)
    args = parser.parse_args(argv)
    from sleep_interpreter.train.commands import reactivation as command  # lazy: start-up

    command.find_reactivations(args)


def compare(doc: str | None, argv: Arguments) -> None:
    """Compare results of test scripts."""
    parser = command_line.parser(doc)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="results folder, or its name in --results")
    parser.add_argument(
        "--measure", choices=("top1", "top3", "balanced"),
        help="default: top1; balanced where one run is fine-tuned and another is not",
    )  # fmt: skip
    parser.add_argument(
        "--by", choices=("stage", "phase", "spindle", "repetition", "early_late"),
        help="compare these conditions within each run, instead of runs",
    )  # fmt: skip
    parser.add_argument(
        "--results", type=command_line.out_folder, metavar="DIR", default=RESULTS, help="default: results/"
    )
    parser.add_argument("--name", help="of the files written, instead of the runs' names")
    parser.add_argument(
        "--different-data", action="store_true", help="also where the test data differ (names still match)"
    )
    args = parser.parse_args(argv)
    from sleep_interpreter.train.evaluation import comparison  # lazy: start-up

    if args.by is not None:
        if args.name is not None and len(args.runs) > 1:
            raise UserError("--name with --by names the files of one run; give one run, or leave --name out")
        for run in args.runs:
            within = comparison.compare_within(run, args.by, Path(args.results), args.measure or "top1", args.name)
            command_line.say(*comparison.within_lines(within), f"written: {within['path']}.csv, .json")
        return
    found = comparison.compare(args.runs, Path(args.results), args.measure, args.different_data, args.name)
    lines = comparison.summary_lines(found)
    command_line.say(*lines, f"written: {found['path']}.csv, .json, .png")
