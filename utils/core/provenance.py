"""Where a result comes from: versions, git revision, data and command, saved with every run."""

import json
import math
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import CHECKOUT, ROOT, atomic_write

MARK = "simulated"
"""The mark of everything simulated: key of a trial's dict, feature of a TFRecord, description of a marker."""
SIDECAR = "simulation.json"
"""Lies in the root of a complete simulated data set."""
UNFINISHED_SIDECAR = "simulation.unfinished.json"
"""Lies there instead of `SIDECAR` while the simulator is writing, or after it was interrupted."""

_LARGEST = 2**26
"""Bytes of a JSON file: a thousand times what any of ours has."""

PACKAGES = (
    "tensorflow", "keras", "numpy", "scipy", "scikit-learn", "mne", "mne-bids", "yasa", "pandas", "lightgbm",
    "numba", "pyprep", "mne-icalabel", "autoreject",
)  # fmt: skip


NUMERIC = (
    "TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "XLA_FLAGS", "TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC",
    "TF_CUDNN_USE_AUTOTUNE", "TF_ENABLE_CUBLAS_TF32", "TF_ENABLE_CUDNN_TF32", "NVIDIA_TF32_OVERRIDE",
    "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "MKL_CBWR",
)  # fmt: skip
"""Variables of the environment by which libraries compute the same in another way, with other last digits."""


def numeric_environment() -> dict[str, str]:
    """Return those of `NUMERIC` that are set."""
    return {name: value for name in NUMERIC if (value := os.environ.get(name))}


def record(**more: Any) -> dict[str, Any]:
    """Return what is worth keeping about this run as a mapping for JSON."""
    return {
        "command": [str(part) for part in sys.argv],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        **({"environment": found} if (found := numeric_environment()) else {}),
        **more,
    }


def versions() -> dict[str, str | None]:
    """Return the installed versions of the packages that can change a number."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_revision() -> str | None:
    """Return the commit of the checkout, with "+changes" when files differ from it; None outside git.

    Variables such as GIT_DIR, which a hook sets, are not followed, and a repository around the project's folder is not
    the project's.
    """
    kept = ("GIT_CONFIG", "GIT_EXEC_PATH")
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key.startswith(kept)
    }

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(ROOT), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        found = git("rev-parse", "--show-toplevel", "HEAD") if CHECKOUT else None
        if found is None:
            return None
        folder, _, revision = found.rpartition("\n")
        if not Path(folder).samefile(ROOT):
            return None
        return revision + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except OSError:
        return None


def is_simulated(*paths: str | Path) -> bool:
    """Tell whether one of the paths is marked as written by the simulator, to the end or interrupted.

    A folder is marked by `SIDECAR` or `UNFINISHED_SIDECAR` in it, or by a BrainVision recording in it; such a
    recording (.vhdr, .eeg or .vmrk) by its marker `MARK`, which survives copying; any file by a sidecar in its
    folder. Trials carry the same mark inside their files: `data.formats.simulation_marks.carries_mark` looks there.
    """
    for path in map(Path, paths):
        folder = path.parent if path.is_file() else path
        if any((folder / name).is_file() for name in (SIDECAR, UNFINISHED_SIDECAR)):
            return True
        recordings = sorted(path.glob("*.vmrk")) if path.is_dir() else [path]
        if any(_recording_is_marked(recording) for recording in recordings):
            return True
    return False


def _recording_is_marked(path: Path) -> bool:
    """Tell whether a BrainVision recording, named by any of its files, has the marker `MARK`."""
    markers = path.with_suffix(".vmrk")
    if path.suffix.lower() == ".vhdr" and path.is_file():
        named = re.search(rb"(?m)^MarkerFile=([^\r\n]+)", path.read_bytes())
        if named:  # a renamed header still names its markers
            text = named[1].decode("utf-8", "replace").strip().replace("$b", path.stem)
            markers = path.parent / PurePath(text).name
    elif path.suffix.lower() == ".vmrk":
        markers = path
    elif path.suffix.lower() != ".eeg":
        return False
    if not markers.is_file():
        return False
    marker = re.compile(rb"Mk\d+=[^,]*,(?:[^,]*/)?" + MARK.encode() + rb"\s*,")
    with markers.open("rb") as lines:
        return any(marker.match(line) for line in lines)


def parse_json(text: str | bytes) -> Any:
    """Return what a text of JSON holds. `ValueError`: it is none, nested beyond any use, or holds what cannot be
    written again: a number that is not finite, half of a character."""
    try:
        content = json.loads(text, parse_constant=_refuse_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if ("\\ud" if isinstance(text, str) else b"\\ud") in text.lower():  # type: ignore[operator]
        json.dumps(content, ensure_ascii=False).encode()
    return content


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text)


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text[:20]} is no finite number")


def require_json(path: str | Path, remedy: str = "") -> dict[str, Any]:
    """Return the mapping in a JSON file; a `UserError` says why there is none, and `remedy`."""
    try:
        if Path(path).stat().st_size > _LARGEST:
            raise ValueError(f"larger than {_LARGEST // 2**20} MiB")
        content = parse_json(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__} in place of a mapping")
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise UserError(f"{path}: no readable JSON ({reason[:200]}){remedy and '; '}{remedy}") from None
    return content


def read_json(path: str | Path) -> dict[str, Any]:
    """Return the mapping in a JSON file, {} where it is missing or damaged."""
    try:
        return require_json(path)
    except UserError:
        return {}


def write_json(path: str | Path, content: Any, indent: int = 2) -> None:
    """Write JSON atomically; NaN is refused, since readers differ on it."""
    with atomic_write(path) as temporary:
        text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
