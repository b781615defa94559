"""What every command shares: how it ends, how it speaks. Imports nothing heavy, so --help is instant."""

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

# tqdm reads its variables while it is imported, and fails at one that it cannot read
_BARS = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("TQDM_") and name != "TQDM_DISABLE"}
try:
    from tqdm import tqdm
finally:
    os.environ.update(_BARS)

from sleep_interpreter.utils.core.errors import UserError, printable
from sleep_interpreter.utils.core.paths import PROJECT, shorten_paths
from sleep_interpreter.utils.core.rights import own_files


class Parser(argparse.ArgumentParser):
    """Takes words that can be meant: none that is empty, as that of an unset variable is, and no name that is no UTF-8.

    "~" at the beginning of a word is the user's home, as in a shell (which leaves --data=~/study as it is).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("type", None, _word)
        self.register("type", Path, _path)


def _word(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty; is a variable not set?")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"{os.fsencode(text)!r} is no UTF-8 text, and could not be written into a result: rename it"
        ) from None
    return os.path.expanduser(text) if text.startswith("~") else text  # noqa: PTH111  # a word, perhaps a pattern


def _path(text: str) -> Path:
    return Path(_word(text))


def out_folder(text: str) -> Path:
    """Return the folder that an option names to write into, refused now, not after hours, where none can be."""
    path = _path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a file: name a folder")
    _refuse_no_place(path)
    return path


def out_file(text: str) -> Path:
    """Return the file that an option names to be written, refused now where none can be."""
    path = _path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder: name a file")
    _refuse_no_place(path)
    return path


def _refuse_no_place(path: Path) -> None:
    """Refuse a path that would have to be made in what is no folder, or one that is closed to the user."""
    if os.path.lexists(path):
        return
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise argparse.ArgumentTypeError(f"{path} cannot be made: {above} is no folder; name another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{path} cannot be made: {above} may not be written into; name another place")


def parser(doc: str | None, **kwargs: Any) -> argparse.ArgumentParser:
    """Return an argument parser whose help is the script's own docstring."""
    result = Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
    result.add_argument("-v", "--verbose", action="store_true", help="show debugging messages")
    return result


def experiment_parser(
    doc: str | None, modes: Sequence[str] = (), checkpoint: bool = False, network: bool = False
) -> argparse.ArgumentParser:
    """Return the parser of a script that runs an experiment: settings, data, results, mode, a checkpoint to test.

    `network`: the command line names the network.
    """
    result = parser(doc)
    if network:
        result.add_argument("network", metavar="NETWORK", help="its name, that of a file in params/: EEGNet")
    result.add_argument("--config", metavar="YAML", help="settings file instead of the one in params/")
    result.add_argument(
        "--set", dest="overrides", metavar="a.b=c", action="append", default=[], help="change one setting"
    )
    result.add_argument(
        "--quick", action="store_true", help="small and fast settings, on the simulated `test` data set"
    )
    result.add_argument("--data", metavar="DIR", help="data folder (default: data/, the published layout)")
    result.add_argument(
        "--results", type=lambda text: str(out_folder(text)), metavar="DIR", help="results folder (default: results/)"
    )
    if modes:
        result.add_argument("--mode", choices=modes, default=modes[0], help=f"default: {modes[0]}")
    if checkpoint:
        result.add_argument("--checkpoint", metavar="FILE", help="checkpoint instead of the one trained here")
    return result


def say(*lines: object) -> None:
    """Print a script's last words to standard output; everything else is logged."""
    print(*(printable(shorten_paths(str(line))) for line in lines), sep="\n", flush=True)


def progress(total: int, unit: str, desc: str, **more: Any) -> tqdm:
    """Return a progress bar; in a file, where nothing is drawn over, it is printed every half minute and at its end."""
    return tqdm(total=total, unit=unit, desc=desc, mininterval=0.1 if sys.stderr.isatty() else 30, **more)


def set_up_logging(level: int) -> None:
    """Log plain messages to standard error, with short paths; nothing where logging is set up already."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ShortPaths("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


class _ShortPaths(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(shorten_paths(super().format(record)))


def run(main: Callable[..., int | None], argv: Sequence[str] | None = None) -> int:
    """Call `main(argv)` as a command: exit code 2 and one line for a `UserError`, 130 for Ctrl-C.

    Paths in log messages and errors are shown relative to the working folder where that is shorter. Files that it
    writes are the user's own (`utils.core.rights`).
    """
    for stream in (sys.stdout, sys.stderr):  # a code page that lacks a sign must not end a script
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    set_up_logging(logging.INFO)
    if "-v" in sys.argv or "--verbose" in sys.argv:
        logging.getLogger().setLevel(logging.DEBUG)
    for noisy in ("absl", "tensorflow", "matplotlib", "numba", "yasa", "h5py", "PIL", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        check_environment()
        with own_files():
            return main(argv) or 0
    except UserError as error:
        sys.stdout.flush()
        message = " ".join(str(error).split())
    except OSError as error:  # disk full, no permission, a folder that vanished: the system says it best
        logging.getLogger(__name__).debug("details", exc_info=True)
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error} (--verbose shows where)"
    except KeyboardInterrupt:
        told = "stopped by Ctrl-C; what is written is complete; a run that can be resumed goes on when called again"
        print(told, file=sys.stderr)
        return 130
    print(f"error: {printable(shorten_paths(message))}", file=sys.stderr)
    return 2


_SET = {"MPLBACKEND": "agg", "MNE_LOGGING_LEVEL": "WARNING"}
"""What commands need, whatever the user set it to for other programs: they draw into files, and log by themselves."""
_NUMBERS = {
    "TF_NUM_INTRAOP_THREADS": 0, "TF_NUM_INTEROP_THREADS": 0, "NUMBA_NUM_THREADS": 1, "OMP_NUM_THREADS": 1,
    "OPENBLAS_NUM_THREADS": 0, "MKL_NUM_THREADS": 0, "NUMEXPR_NUM_THREADS": 1, "NUMEXPR_MAX_THREADS": 1,
    "LOKY_MAX_CPU_COUNT": 1, "LOKY_MAX_DEPTH": 1, "JOBLIB_MULTIPROCESSING": 0,
}  # fmt: skip
"""What libraries read as a whole number, and the lowest one; they ignore one that they cannot read, though digits
depend on it, or fail when they are first needed."""


def check_environment() -> None:
    """Set what commands need, and refuse what results cannot name or libraries would ignore.

    That is a folder of the project, or a working folder, whose name is no UTF-8, and a number of threads that is none.
    """
    os.environ.update(_SET)
    for name, lowest in _NUMBERS.items():
        value = os.environ.get(name)
        if value == "":  # a variable that somebody meant to set
            del os.environ[name]
        elif value is not None and not all(map(partial(_is_number, lowest=lowest), _numbers(name, value))):
            raise UserError(
                f"the environment variable {name} is {value!r}, no whole number from {lowest} up: correct or unset it"
            )
    if file := _matplotlibrc():
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{file}: matplotlib's settings are no UTF-8 text ({error}): correct or remove it"
            ) from None
    for what, folder in (("the project's folder", str(PROJECT)), ("the working folder", os.getcwd())):  # noqa: PTH109
        try:
            folder.encode()
        except UnicodeEncodeError:
            raise UserError(f"{what} {os.fsencode(folder)!r} has a name that is no UTF-8 text: rename it") from None


def _numbers(name: str, value: str) -> list[str]:
    return value.split(",") if name == "OMP_NUM_THREADS" else [value]  # that one may have a number for each level


def _is_number(text: str, lowest: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 7 and int(text) >= lowest


def _matplotlibrc() -> Path | None:
    """Return the user's file of settings that matplotlib is going to read, None if there is none.

    What it says does not count here (`utils.plots.style.own_settings`), but it has to be text.
    """
    named, home = os.environ.get("MATPLOTLIBRC") or "", os.path.expanduser("~")  # noqa: PTH111  # there may be none
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    folders = [named, os.environ.get("MPLCONFIGDIR") or f"{config}/matplotlib", f"{home}/.matplotlib"]
    files = [Path("matplotlibrc"), Path(named), *(Path(folder, "matplotlibrc") for folder in folders)]
    return next((file for file in files if file.is_file()), None)


def script(name: str, command: Callable[..., int | None], *words: Any, **options: Any) -> Callable[..., int | None]:
    """Return `main(argv)` of a script, which is `command(*words, argv, **options)`; run it where `name`, the script's
    `__name__`, says that the script is what Python was started with."""

    def main(argv: Sequence[str] | None = None) -> int | None:
        return command(*words, argv, **options)

    if name == "__main__":
        sys.exit(run(main))
    return main
