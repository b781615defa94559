"""The simulator's report from end to end: 20 minutes of one subject, real recordings, page and figures."""

import json

import pytest

from benchmarks.simulator import report as simulator_report
from benchmarks.simulator.page import TEMPLATE
from sleep_interpreter.utils.core import command_line

pytestmark = pytest.mark.slow


def test_the_report_is_written_and_goes_on_where_it_was(tmp_path):
    command = ["--quick", "--results", str(tmp_path / "results"), "--page", str(tmp_path / "page.md")]
    assert command_line.run(simulator_report.main, command) == 0
    summary = json.loads((tmp_path / "results" / "summary.json").read_text(encoding="utf-8"))
    whole = summary["staging"]["all"]
    assert whole["kappa"] > 0.6 and min(whole["f1"][stage] for stage in ("N2", "N3", "R")) > 0.4
    waves = summary["detection"]["slow_oscillation"]["all"]
    assert waves["precision"] > 0.6 and waves["recall"] > 0.4 > waves["chance"]
    spindles = summary["detection"]["spindle"]["any of them"]
    assert spindles["precision"] > 0.6 > spindles["chance"]
    slopes = summary["slopes"]["simulated"]["wide"]
    assert slopes["N3"]["exponent"] > slopes["W"]["exponent"]
    assert summary["tone"]["simulated"]["R"] < summary["tone"]["simulated"]["N2"] < 1
    assert summary["bursts"]["excerpt"]["n"] == 2  # two spindles in the real excerpt
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    for line in TEMPLATE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            assert line in text
    assert "**sim**" in text and "{" not in text
    assert len(list((tmp_path / "page").glob("*.png"))) == 8

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").glob("*.npz")}
    assert len(before) == 4
    (tmp_path / "results" / "wake_0.npz").unlink()
    assert command_line.run(simulator_report.main, command) == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").glob("*.npz")}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed == {"wake_0.npz"}
