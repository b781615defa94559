"""Run the slow tests of what the last commits changed, inside a time box, and say which were left out.

  python .ci/slow_tests.py --commits 20 --minutes 30

A file of tests goes with a changed package where it lies in tests/<package>/ (the nearest first, the newest
change first), or where it was changed itself; with a helper of the tests beside it; with settings, the public
names and the build after all others. A file that fails is run once more, its failed tests alone: what fails
twice ends in exit code 1, what passes then is reported as unstable.
"""

import argparse
import ast
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEAST = 30.0
"""Seconds that must be left for a file to be begun."""
EVERYBODY = ("params", "sleep_interpreter", "pyproject.toml", "setup.py", "Makefile", "environment")
"""What every test depends on."""
FOLDERS = {"test": "train"}
"""Folders whose tests lie in that of another: the scripts in test/ are tested with those in train/."""
KINDS = (".py", ".yaml", ".html", ".js", ".css", ".toml", "Makefile")


def changed(commits: int) -> list[str]:
    """Return the files that the last commits changed and that are still there, newest change first."""
    listed = subprocess.run(
        ["git", "log", f"-{commits}", "--format=", "--name-only", "--no-renames"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    return [name for name in dict.fromkeys(listed) if name and (ROOT / name).is_file()]


def is_slow(file: Path) -> bool:
    """Tell whether a test file has a test that is marked as slow."""
    return any(
        isinstance(node, ast.Attribute) and node.attr == "slow" and getattr(node.value, "attr", None) == "mark"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    )


def slow_files(root: Path) -> list[str]:
    """Return the test files that have slow tests."""
    return [f.relative_to(root).as_posix() for f in sorted((root / "tests").rglob("test_*.py")) if is_slow(f)]


def wanted(changes: list[str], slow: list[str]) -> list[str]:
    """Return the files to run, the most urgent first.

    Those that were changed themselves or lie in the folder of a changed package come before those that only
    share its top folder, and these before what depends on all; top folders take turns.
    """
    ranks: dict[str, tuple[int, int]] = {}

    def rank(files: list[str], level: int, place: int) -> None:
        for file in files:
            ranks[file] = min(ranks.get(file, (level, place)), (level, place))

    for place, name in enumerate(changes):
        parts = Path(name).parts
        if name in slow:
            rank([name], 0, place)
        elif parts[0] in ("docs", ".ci") or not name.endswith(KINDS):
            continue
        elif parts[0] == "tests":  # a helper: the tests beside it and below
            folder = Path(name).parent.as_posix() + "/"
            rank([f for f in slow if f.startswith(folder)], 0 if len(parts) > 2 else 2, place)
        elif parts[0] in EVERYBODY:
            rank(slow, 2, place)
        else:
            top = FOLDERS.get(parts[0], parts[0])
            folder = "/".join(("tests", top, *parts[1:-1])).lower() + "/"
            if len(parts) > 2:
                rank([f for f in slow if f.lower().startswith(folder)], 0, place)
            rank([f for f in slow if f.split("/")[1] == top], 1, place)
    found = []
    for levels in ((0, 1), (2,)):
        folders: dict[str, list[str]] = {}
        for file in sorted((f for f in ranks if ranks[f][0] in levels), key=lambda f: ranks[f]):
            folders.setdefault(file.split("/")[1], []).append(file)
        turns = itertools.zip_longest(*folders.values())  # one of each top folder in turn: none starves another
        found += [file for turn in turns for file in turn if file]
    return found


def run(file: str, seconds: float, *more: str) -> int | None:
    """Run the slow tests of a file; return pytest's exit code, or None where the time was up."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", file, *more]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:  # whatever it started ends with it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> int:
    """Run what fits into the time box."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--list", action="store_true", help="say what would be run, in order")
    args = parser.parse_args()
    files = wanted(changed(args.commits), slow_files(ROOT))
    if args.list:
        print("\n".join(files))
        return 0
    deadline = time.monotonic() + 60 * args.minutes
    passed, failed, unstable, left = [], [], [], []
    for place, file in enumerate(files):
        remaining = deadline - time.monotonic()
        if remaining < LEAST:
            left += files[place:]
            break
        print(f"slow tests {place + 1}/{len(files)}: {file} ({remaining / 60:.0f} min left)", flush=True)
        code = run(file, remaining)
        if code == 1 and (remaining := deadline - time.monotonic()) >= LEAST:  # tests failed: once more
            code = run(file, remaining, "--last-failed")
            unstable += [file] if code == 0 else []
        if code is None:
            left.append(f"{file} (begun, not finished)")
        elif code in (0, 5):  # 5: none of its slow tests runs here
            passed.append(file)
        else:
            failed.append(file)
    print(f"slow tests: {len(passed)} files of {len(files)} passed", flush=True)
    for words, names in (("failed", failed), ("passed at the second try", unstable), ("left out", left)):
        print(*(f"  {words}: {name}" for name in names), sep="\n", end="\n" if names else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
