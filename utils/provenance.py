"""Where a result comes from: versions, git revision, data and command, saved with every run."""

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from utils.paths import ROOT, writing

PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "scikit-learn", "mne", "yasa", "pandas", "lightgbm")


def record(**more):
    """Return what is worth keeping about this run as a mapping for JSON."""
    return {
        "command": [str(part) for part in sys.argv],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        **more,
    }


def versions():
    """Return the installed versions of the packages that can change a number."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_revision():
    """Return the commit of the checkout, with "+changes" when files differ from it; None outside git."""

    def git(*words):
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        revision = git("rev-parse", "HEAD")
        if revision is None:
            return None
        return revision + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except FileNotFoundError:
        return None


def is_simulated(*folders):
    """Tell whether one of the folders was written by the simulator, to the end or interrupted."""
    marks = ("simulation.json", "simulation.unfinished.json")
    return any((Path(folder) / mark).is_file() for folder in folders for mark in marks)


def write_json(path, content):
    """Write JSON atomically; NaN is refused, since readers differ on it."""
    with writing(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
