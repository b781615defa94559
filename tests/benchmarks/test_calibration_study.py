"""The calibration study: a short one must show what the long one does, and its page is written or refused."""

import pandas as pd
import pytest

from benchmarks.statistics import calibration
from sleep_interpreter.utils.core.errors import UserError


def test_the_table_goes_between_its_marks_and_nowhere_else(tmp_path, monkeypatch, capsys):
    few = [cell for cell in calibration.cells() if (cell[2] == 4 and "3 of 15" in cell[1]) or cell[0] == "not held"]
    monkeypatch.setattr(calibration, "cells", lambda: few)
    page = tmp_path / "page.md"
    page.write_text("before\n{}\nan earlier table\n{}\nafter\n".format(*calibration.MARKS))
    command = ["--simulations", "3", "--results", str(tmp_path / "out"), "--page", str(page)]
    before = page.read_text()
    assert calibration.main(command) == 0
    assert page.read_text() == before and "is left as it is: fewer than 1000" in capsys.readouterr().out
    command.append("--short-page")
    assert calibration.main(command) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "earlier table" not in text
    assert "| 15 items, each 6 times in a row, drift |" in text.split("evaluate.permute=trials")[1]
    assert "3 simulated studies" in text and "| paired Wilcoxon, balanced accuracy | all sets of items |" in text
    assert calibration.main(command) == 0
    assert page.read_text() == text, "the same seed, the same page"
    page.write_text("no marks")
    with pytest.raises(UserError, match="no place for the table"):
        calibration.main(command)
    assert page.read_text() == "no marks"


def test_one_table_is_measured_anew_and_the_others_stay(tmp_path, monkeypatch):
    few = [cell for cell in calibration.cells() if cell[2] == 4 and "3 of 15" in cell[1]]
    monkeypatch.setattr(calibration, "cells", lambda: few)
    page = tmp_path / "page.md"
    page.write_text("before\n{}\n{}\nafter\n".format(*calibration.MARKS))
    command = ["--simulations", "3", "--results", str(tmp_path / "out"), "--page", str(page), "--short-page"]
    assert calibration.main(command) == 0
    whole = page.read_text()
    head = calibration.HEADS["coverage"]
    page.write_text(whole.replace("| no difference | 100.0 % |", "| no difference | 12.3 % |"))
    assert "12.3 %" in page.read_text()
    assert calibration.main([*command, "--only", "coverage"]) == 0
    assert page.read_text() == whole, "the same numbers, and all else as it was"
    assert set(pd.read_csv(tmp_path / "out" / "coverage.csv")["result"]) == {"coverage"}
    assert set(pd.read_csv(tmp_path / "out" / "calibration.csv")["result"]) == {"error", "coverage"}
    command[1] = "4"
    with pytest.raises(UserError, match="another number of studies"):
        calibration.main([*command, "--only", "coverage"])
    page.write_text(whole.replace(head, "| something else |"))
    command[1] = "3"
    with pytest.raises(UserError, match="0 tables begin with"):
        calibration.main([*command, "--only", "coverage"])
    assert "something else" in page.read_text()


def test_an_interrupted_study_goes_on(tmp_path, monkeypatch):
    few = [cell for cell in calibration.cells() if cell[2] == 4 and "3 of 15" in cell[1]]
    monkeypatch.setattr(calibration, "cells", lambda: few)
    monkeypatch.setattr(calibration, "git_revision", lambda: "a clean commit")
    places = []

    def simulated(task, real=calibration.simulated):
        places.append(task[0])
        if len(places) == 2:
            raise KeyboardInterrupt
        return real(task)

    whole, parts = ["--simulations", "3", "--results", str(tmp_path / "whole")], tmp_path / "parts"
    calibration.main(whole)
    monkeypatch.setattr(calibration, "simulated", simulated)
    with pytest.raises(KeyboardInterrupt):
        calibration.main([*whole[:-1], str(parts)])
    assert calibration.main([*whole[:-1], str(parts)]) == 0
    assert places == [0, 1, *range(1, len(few))]
    assert (parts / "calibration.csv").read_text() == (tmp_path / "whole" / "calibration.csv").read_text()
    assert not (parts / "unfinished.json").exists()


@pytest.mark.slow
def test_a_short_study_keeps_what_is_claimed(tmp_path):
    assert calibration.main(["--simulations", "40", "--results", str(tmp_path)]) == 0
    rows = pd.read_csv(tmp_path / "calibration.csv")
    errors = rows[rows["result"] == "error"]
    found = errors.groupby("statistic")["rate"].agg(["mean", "size"])
    by_chance = 0.05 + 3 * (0.05 * 0.95 / (40 * found["size"])) ** 0.5  # 7 % of 1000 studies, more of fewer
    assert (found["mean"] <= by_chance.clip(lower=0.07)).all(), found
    assert errors["rate"].max() <= 0.25  # of 40 studies in one situation
    for situation in calibration.BLOCKED:
        own = rows[rows["situation"] == situation].groupby("result")["rate"].mean()
        assert own["error"] <= 0.07 < own["not held"]
    coverage = rows[rows["result"] == "coverage"]
    coverage = coverage[~coverage["situation"].str.contains("long tail")]
    effects = coverage["situation"].isin(list(calibration.EFFECTS))
    assert coverage[effects]["rate"].mean() >= 0.93  # one situation each: 40 studies alone say little
    coverage = coverage[~effects]
    means = coverage.groupby(["statistic", "subjects"])["rate"].mean()
    assert (means >= 0.93).all(), means
