"""One way to run a benchmark: its command line, its settings, its folder, its last words.

A benchmark module says what it measures in its docstring, has a function `run(settings, folder, args)` that
measures, writes into `folder` and returns lines for the terminal, and ends with

    main = runner.command(__doc__, "class_loss", run, schema=ClassLossSettings, params="class_loss_study")

    if __name__ == "__main__":
        sys.exit(command_line.run(main))

With `schema` the command has `--set a.b=c` and `--quick`, which come from params/<params>.yaml.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sleep_interpreter.utils.core import command_line, config, tensorflow_import
from sleep_interpreter.utils.core.paths import RESULTS

Lines = Iterable[str]
Run = Callable[[Any, Path, argparse.Namespace], Lines | tuple[Lines, bool]]


def command(
    doc: str | None,
    name: str,
    run: Run,
    *,
    schema: type[config.Settings] | None = None,
    params: str | None = None,
    arguments: Callable[[argparse.ArgumentParser], None] | None = None,
    tensorflow: bool = False,
) -> Callable[[list[str] | None], int]:
    """Return the `main(argv)` of a benchmark.

    Parameters
    ----------
    doc : str
        The module's docstring, shown by --help.
    name : str
        Of its folder in results/, or in results/quick/ with --quick.
    run : callable
        `run(settings, folder, args)` returns lines for the terminal, or (lines, whether all holds).
    schema, params
        Settings class and its file in params/; None for a benchmark without settings.
    arguments : callable | None
        Adds flags of its own to the parser.
    tensorflow : bool
        Import TensorFlow quietly before `run`.
    """

    def main(argv: list[str] | None = None) -> int:
        parser = command_line.parser(doc)
        parser.add_argument("--results", "--out", dest="results", type=command_line.out_folder, metavar="DIR",
                            help=f"default: results/{name}")  # fmt: skip
        if schema is not None:
            parser.add_argument("--set", dest="overrides", metavar="a.b=c", action="append", default=[])
            parser.add_argument("--quick", action="store_true", help="as little as possible: to try the command")
        if arguments is not None:
            arguments(parser)
        args = parser.parse_args(argv)
        quick, settings = getattr(args, "quick", False), None
        if schema is not None:
            settings = config.load(schema, params or name, overrides=args.overrides, quick=quick)
        if tensorflow:
            tensorflow_import.import_tensorflow()
        folder = args.results or (RESULTS / "quick" / name if quick else RESULTS / name)
        found = run(settings, folder, args)
        lines, good = found if isinstance(found, tuple) else (found, True)
        command_line.say(*lines, f"written: {folder}")
        return 0 if good else 1

    return main


def add_restart(parser: argparse.ArgumentParser) -> None:
    """Add --restart, of benchmarks that go on where an earlier run stopped."""
    parser.add_argument("--restart", action="store_true", help="forget an earlier run and begin anew")


def overrides(*changes: Mapping[str, Any]) -> list[str]:
    """Return nested settings as --set texts; where two change the same key, the later one counts."""
    flat: dict[str, Any] = {}
    for change in changes:
        flat |= config.flat(change)
    return [f"{key}={json.dumps(value)}" for key, value in flat.items()]
