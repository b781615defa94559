"""The examples of docs/contributing.md work as they stand there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRY = """
from types import SimpleNamespace
import numpy as np
import sleep_interpreter as si
from sleep_interpreter.realtime.Utils.registries import SOURCES
from sleep_interpreter.utils.staging.registry import STAGERS
import my_figure

network = si.build("My")
assert network.predict_proba(np.zeros((3, 200, 55), np.float32)).shape == (3, 15)
assert "My" in si.network_names()
stager = STAGERS.load("quiet")(None, (True, True, True), None)
stager.warm_up()
assert stager.update(np.zeros((3, 15000)), 15000).probabilities[0] == 1
source = SOURCES.load("noise")(SimpleNamespace(options=None))
source.open(["Fz", "C4"])
assert next(iter(source.chunks())).shape == (2, 500)
my_figure.minutes_by_stage((3.0, 5.0, 4.0, 1.0), "stages.png", "simulated")
from sleep_interpreter.train.commands import scripts
si.simulate("test", "set", {"cohort.train_trials": 15, "cohort.test_trials": 15})
small = ["--quick", "--data", "set", "--results", "out", "--set", "train.batch_size=16"]
scripts.train("My", "doc", small)
scripts.test_decoder("My", "doc", [*small, "--set", "evaluate.bootstrap=100", "--set", "evaluate.permutations=100"])
print("all")
"""


@pytest.mark.slow
def test_every_example_works(tmp_path):
    text = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^## An? (\w+)\n.*?```python\n(.*?)```", text, re.S | re.M))
    assert set(blocks) == {"network", "stager", "source", "figure"}
    for name, code in blocks.items():
        (tmp_path / f"my_{name}.py").write_text(code, encoding="utf-8")
        assert len(code.strip().splitlines()) <= 18, f"{name}: a dozen lines or so"
    (tmp_path / "My.yaml").write_text(re.search(r"```yaml\n(.*?)```", text, re.S)[1], encoding="utf-8")
    about = tmp_path / "mine-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    points = [
        f"[sleep_interpreter.{group}s]\n{line}\n"
        for group, line in (
            ("network", "my = my_network:MySettings"),
            ("stager", "quiet = my_stager:QuietIsN3"),
            ("source", "noise = my_source:NoiseSource"),
        )
    ]
    (about / "entry_points.txt").write_text("\n".join(points))
    done = subprocess.run(
        [sys.executable, "-c", TRY], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.endswith("all\n"), done.stderr[-3000:]
    assert json.loads((tmp_path / "out" / "My" / "summary.json").read_text())["overall"]["n"] == 30
    assert (tmp_path / "stages.png").stat().st_size > 2000
