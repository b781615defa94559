"""Check that the running Python has what the project needs: python environment/check.py"""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path


def missing(project):
    """Return the requirements of pyproject.toml, extras included, that are not installed."""
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["realtime"] + extras["dev"]
    names = {re.match(r"[A-Za-z0-9-]+", line)[0] for line in wanted} - {project["name"]}
    lacking = []
    for name in sorted(names):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            lacking.append(name)
    return lacking


def main():
    root = Path(__file__).resolve().parents[1]
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        found = ".".join(map(str, sys.version_info[:3]))
        return f"error: {sys.executable} is Python {found}; 3.11, 3.12 or 3.13 is needed"
    lacking = missing(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"])
    if lacking:
        return (
            f"error: {sys.executable} lacks {', '.join(lacking)}; "
            f"run: {sys.executable} -m pip install --editable '.[dev]'"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
