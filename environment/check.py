"""Check that the running Python has what the project needs: python environment/check.py"""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any


def requirements(project: dict[str, Any]) -> list[str]:
    """Return the requirements of pyproject.toml, each once: all that `make setup` installs, in the versions of
    lock.txt, which is every extra but NVIDIA's libraries (3 GB; docs/gpu.md).
    """
    wanted = [*project["dependencies"]]
    for name, extra in project["optional-dependencies"].items():
        if name != "gpu":
            wanted += [line for line in extra if not line.startswith(project["name"])]
    return list(dict.fromkeys(wanted))


def missing(project: dict[str, Any]) -> list[str]:
    """Return the names of the required packages that are not installed."""
    lacking = []
    for line in requirements(project):
        name = re.match(r"[A-Za-z0-9-]+", line)[0]
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            lacking.append(name)
    return lacking


def main() -> int | str:
    root = Path(__file__).resolve().parents[1]
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        found = ".".join(map(str, sys.version_info[:3]))
        return f"error: {sys.executable} is Python {found}; 3.11, 3.12 or 3.13 is needed"
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lacking = missing(project)
    if lacking:
        return (
            f"error: {sys.executable} lacks {', '.join(lacking)}; "
            f"run in the project's folder: {sys.executable} -m pip install '.[dev]'"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
