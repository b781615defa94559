"""The whole way in, as `make demo` goes it; long, so part of `make test-slow`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_demo_decodes_unseen_subjects_and_writes_its_page():
    done = subprocess.run([sys.executable, "-m", "benchmarks.demo"], cwd=ROOT, timeout=3600, check=False)
    assert done.returncode == 0
    out = ROOT / "results" / "demo"
    summary = json.loads((out / "N23SIMD_retrained" / "summary.json").read_text())
    assert summary["simulated"] is True and summary["overall"]["low"] > 1 / 15
    session = max((out / "sessions" / "simulated").glob("session_*"))
    accuracy = json.loads((session / "summary.json").read_text())["accuracy"]
    assert accuracy["n"] >= 20 and accuracy["low"] > 1 / 15
    real = max((out / "sessions" / "real").glob("session_*"))
    summary = json.loads((real / "summary.json").read_text())
    assert summary["recording"] == "not marked as simulated"
    assert summary["cues"]["total"] > 0 and summary["accuracy"] is None
    page = (out / "index.html").read_text()
    for source in [part.split('"')[0] for part in page.split('src="')[1:]]:
        assert (out / source).is_file(), source
    assert page.count("simulated</span>") >= 4 and page.count("real</span>") >= 2
