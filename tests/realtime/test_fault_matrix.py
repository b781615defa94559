"""The fault matrix, its short form: three of its lines on a real LSL stream; and what its table says."""

import pytest

from benchmarks.realtime import fault_matrix


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lost packets", "hiccup of 1.5 s", "clock set by +20 s", "512 Hz sent as 500"])
def test_a_night_holds_whatever_its_stream_does(tmp_path, name):
    (fault,) = [fault for fault in fault_matrix.FAULTS if fault.name == name]
    row = fault_matrix.measure(fault, tmp_path / "line")
    assert row["holds"], row


def test_the_table_has_a_line_for_each_fault():
    rows = [{"fault": "none", "check": "go", "cues": 3, "lost": 0, "holds": True}, {"fault": "x", "holds": False}]
    head, rule, first, second = fault_matrix.table(rows)
    assert head.count("|") == rule.count("|") == first.count("|")
    assert first == "| none | go | 3 |  |  | 0 |  |  | yes |" and second.endswith("| no |")
    assert len({fault.name for fault in fault_matrix.FAULTS}) == len(fault_matrix.FAULTS) >= 14
