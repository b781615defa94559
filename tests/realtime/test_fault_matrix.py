"""The fault matrix, its short form: some of its lines on a real LSL stream; and what its table says."""

import pytest

from benchmarks.realtime import fault_matrix


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["lost packets", "hiccup of 1.5 s", "clock set by +20 s", "512 Hz sent as 500", "session halted for 30 s"]
)
def test_a_night_holds_whatever_its_stream_does(tmp_path, name):
    (fault,) = [fault for fault in fault_matrix.FAULTS if fault.name == name]
    row = fault_matrix.measure(fault, tmp_path / "line")
    assert row["holds"], row


def test_the_table_has_a_line_for_each_fault():
    rows = [{"fault": "none", "check": "go", "cues": 3, "lost": 0, "holds": True}, {"fault": "x", "holds": False}]
    head, rule, first, second = fault_matrix.table(rows)
    assert head.count("|") == rule.count("|") == first.count("|")
    assert first == "| none |  | go | 3 |  |  |  |  |  |  | 0 |  |  | yes |" and second.endswith("| no |")
    kept = {fault_matrix._kept(fault).name for fault in fault_matrix.FAULTS}
    assert len(kept) == len({fault.name for fault in fault_matrix.FAULTS}) == len(fault_matrix.FAULTS) >= 17


def test_a_matrix_that_was_stopped_goes_on_with_the_lines_that_are_left(tmp_path, monkeypatch, capsys):
    page, asked = tmp_path / "page.md", []
    page.write_text("before\n<!-- fault matrix -->\nold\n<!-- end of fault matrix -->\nafter\n", encoding="utf-8")

    def measure(fault, out):
        asked.append(fault.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"fault": fault.name, "check": "go", "failed": [], "holds": True}

    monkeypatch.setattr(fault_matrix, "RESULTS", tmp_path)
    monkeypatch.setattr(fault_matrix, "measure", measure)
    words = ["--only", "none", "lost", "--page", str(page)]
    with pytest.raises(KeyboardInterrupt):
        fault_matrix.main(words)
    assert fault_matrix.main(words) == 0
    assert asked == ["none", "lost packets", "lost packets", "2 s lost"]
    rows = page.read_text(encoding="utf-8").split("<!-- fault matrix -->\n")[1].splitlines()
    assert [row.split(" | ")[0] for row in rows[2:5]] == ["| none", "| lost packets", "| 2 s lost"]
    assert page.read_text(encoding="utf-8").endswith("<!-- end of fault matrix -->\nafter\n")
    fault_matrix.main([*words, "--restart"])
    assert len(asked) == 7
