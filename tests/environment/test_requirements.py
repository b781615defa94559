"""What `make setup` installs, and what the code imports."""

import subprocess
import sys
import tomllib

from sleep_interpreter.utils.core.paths import ROOT


def test_setup_installs_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = subprocess.run(
        [sys.executable, ROOT / "environment" / "check.py", "--requirements"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert len(listed) == len(set(listed))
    (cuda,) = project["optional-dependencies"].pop("gpu")  # NVIDIA's libraries: only where somebody asks for them
    assert cuda == next(line for line in listed if line.startswith("tensorflow")).replace("w>", "w[and-cuda]>")
    for group in (project["dependencies"], *project["optional-dependencies"].values()):
        assert {line for line in group if not line.startswith(project["name"])} <= set(listed)
