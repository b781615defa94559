"""Run the slow tests of what the last commits changed, inside a time box, and say which were left out.

  python .ci/slow_tests.py --commits 20 --minutes 30

A file of tests goes with a changed package where it lies in tests/<package>/ (the nearest first, the newest
change first), or where it was changed itself. A file that fails is run once more, its failed tests alone:
what fails twice ends in exit code 1, what passes then is reported as unstable.
"""

import argparse
import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEAST = 30.0
"""Seconds that must be left for a file to be begun."""


def changed(commits: int) -> list[str]:
    """Return the files that the last commits changed and that are still there, newest change first."""
    listed = subprocess.run(
        ["git", "log", f"-{commits}", "--format=", "--name-only", "--no-renames"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    return [name for name in dict.fromkeys(listed) if name and (ROOT / name).is_file()]


def slow_files(root: Path) -> list[str]:
    """Return the test files that have slow tests."""
    files = sorted((root / "tests").rglob("test_*.py"))
    marked = re.compile(r"\bmark\.slow\b")
    return [f.relative_to(root).as_posix() for f in files if marked.search(f.read_text(encoding="utf-8"))]


def wanted(changes: list[str], slow: list[str]) -> list[str]:
    """Return the files to run, the most urgent first.

    Those that were changed themselves or lie in the folder of a changed package come before those that only
    share its top folder; top folders take turns.
    """
    ranks = {}
    for place, name in enumerate(changes):
        parts = Path(name).parts
        if name in slow:
            near = {name}
        elif parts[0] in ("tests", "docs", ".ci") or not name.endswith((".py", ".yaml", ".html", ".js")):
            continue
        else:
            folder = "/".join(("tests", *parts[:-1])).lower() + "/"
            near = {f for f in slow if f.lower().startswith(folder)}
        for file in near:
            ranks[file] = min(ranks.get(file, (1, place)), (0, place))
        if parts[0] != "tests":
            for file in slow:
                if file.split("/")[1] == parts[0]:
                    ranks.setdefault(file, (1, place))
    folders: dict[str, list[str]] = {}
    for file in sorted(ranks, key=ranks.get):
        folders.setdefault(file.split("/")[1], []).append(file)
    turns = itertools.zip_longest(*folders.values())  # one of each top folder in turn: none starves another
    return [file for turn in turns for file in turn if file]


def run(file: str, seconds: float, *more: str) -> int | None:
    """Run the slow tests of a file; return pytest's exit code, or None where the time was up."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", file, *more]
    try:
        return subprocess.run(command, cwd=ROOT, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        return None


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
    failed, unstable, left, ran = [], [], [], []
    for place, file in enumerate(files):
        remaining = deadline - time.monotonic()
        if remaining < LEAST:
            left += files[place:]
            break
        print(f"slow tests {place + 1}/{len(files)}: {file} ({remaining / 60:.0f} min left)", flush=True)
        code = run(file, remaining)
        if code == 1:  # tests failed
            code = run(file, max(60.0, deadline - time.monotonic()), "--last-failed")
            (unstable if code == 0 else failed).append(file)
        elif code is None:
            left.append(f"{file} (begun, not finished)")
        elif code != 0:
            failed.append(file)
        ran.append(file)
    print(f"slow tests: {len(ran) - len(failed)} files of {len(files)} passed", flush=True)
    for words, names in (("failed twice", failed), ("passed at the second try", unstable), ("left out", left)):
        print(*(f"  {words}: {name}" for name in names), sep="\n", end="\n" if names else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
