"""The label file's quirks, to yasa.Hypnogram and back, and what a cohort looks like."""

import json

import numpy as np
import pytest

from sleep_interpreter.data.formats import hypnograms as statistics
from sleep_interpreter.data.formats.hypnograms import (
    epochs_of,
    from_yasa,
    read_label_file,
    segments_of,
    to_yasa,
    write_label_file,
)
from sleep_interpreter.utils.core.constants import UNKNOWN
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import write_pickle

# Small excerpts in the structure of the published file, its quirks among them, written by hand.
EXCERPTS = {
    # stages repeated, the last segment shorter than an epoch
    "subject_0": {"onset": [0, 30, 210, 240, 300, 304], "label": [0, 0, 1, 0, 1]},
    # no REM, a last segment of more than two hours
    "subject_26": {"onset": [0, 60, 180, 8169], "label": [1, 2, 0]},
    # no N3
    "subject_57": {"onset": [0, 90, 150, 210], "label": [0, 1, 3]},
    # an onset off the grid of 30 s, and a segment of 0 s at the end
    "subject_74": {"onset": [0, 60, 104, 150, 150], "label": [0, 1, 2, 3]},
    "subject_test_3": {"onset": [0, 30, 60, 120, 150, 180, 240], "label": [0, 1, 2, 3, 1, 0]},
}


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "SI Staging Label" / "Whole_label_data.pickle"
    write_pickle(EXCERPTS, path)
    return path


def test_the_quirks_become_epochs():
    found = {name: epochs_of(**entry_of(name)).tolist() for name in EXCERPTS}
    assert found["subject_0"] == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0], "the last 4 s are no epoch"
    assert len(found["subject_26"]) == 8169 // 30
    assert found["subject_57"] == [0, 0, 0, 1, 1, 3, 3]
    assert found["subject_74"] == [0, 0, 1, 1, 2], "an epoch has the stage at its beginning"


def entry_of(name):
    return {"onset": EXCERPTS[name]["onset"], "stage": EXCERPTS[name]["label"]}


def test_round_trip_through_yasa_and_the_file(labels, tmp_path):
    hypnograms, published = read_label_file(labels)
    assert read_label_file(tmp_path)[0].keys() == hypnograms.keys(), "file or data folder"
    assert list(hypnograms) == list(EXCERPTS) == list(published)
    assert hypnograms["subject_57"].hypno.tolist() == ["WAKE"] * 3 + ["N2"] * 2 + ["REM"] * 2
    again = tmp_path / "again" / "Whole_label_data.pickle"
    write_label_file(hypnograms, again)
    back, _ = read_label_file(again)
    for name, hypnogram in hypnograms.items():
        assert from_yasa(back[name]).tolist() == from_yasa(hypnogram).tolist()
        assert back[name].sleep_statistics() == pytest.approx(hypnogram.sleep_statistics(), nan_ok=True)


def test_segments():
    assert segments_of([0, 0, 1, 1, 1, 3]) == {"onset": [0, 60, 150, 180], "label": [0, 1, 3]}
    assert segments_of([]) == {"onset": [0], "label": []}
    assert segments_of([0, UNKNOWN, UNKNOWN, 1]) == {"onset": [0, 30, 90, 120], "label": [0, -1, 1]}


def test_yasas_stages():
    import yasa

    theirs = yasa.Hypnogram(["W", "N1", "N2", "N3", "REM", "ART", "UNS"], n_stages=5)
    assert from_yasa(theirs).tolist() == [0, 0, 1, 2, 3, UNKNOWN, UNKNOWN]
    assert from_yasa(to_yasa([0, 1, UNKNOWN, 3])).tolist() == [0, 1, UNKNOWN, 3]
    with pytest.raises(UserError, match="stage DEEP: this project needs"):
        from_yasa(yasa.Hypnogram(["W", "LIGHT", "DEEP"], n_stages=4))
    with pytest.raises(UserError, match="epochs: expected 30 s"):
        from_yasa(yasa.Hypnogram(["W", "N2"], n_stages=5, freq="1min"))


def test_quirks_are_found(labels):
    _, published = read_label_file(labels)
    found = statistics.quirks(published)
    assert found == {
        "repeated stages": ["subject_0"],
        "a segment of 0 s": ["subject_74"],
        "onsets off the 30 s grid": ["subject_74"],
        "a last segment beyond 30 min": ["subject_26"],
        "no N3": ["subject_0", "subject_57"],
        "no R": ["subject_0", "subject_26", "subject_74"],
    }


def test_statistics_by_hand():
    night = to_yasa([0, 0, 1, 1, 2, 0, 3, 3, 1, 0])
    found = statistics.night_statistics(night)
    assert (found["TIB"], found["TST"], found["SE"], found["SOL"]) == (5, 3, 60, 1)
    assert (found["N2"], found["N3"], found["REM"], found["WASO"], found["Lat_REM"]) == (1.5, 0.5, 1, 0.5, 3)
    awake = statistics.night_statistics(to_yasa([0] * 4))
    assert awake["TST"] == 0 and np.isnan(awake["SOL"]) and awake["TIB"] == 2
    assert statistics.bouts([0, 0, 1, 2, 2, 2]).tolist() == [[0, 2], [1, 1], [2, 3]]
    assert statistics.bouts([]).shape == (0, 2)
    counts = statistics.transitions([[0, 0, 1, UNKNOWN, 2, 3], [3, 3]])
    assert counts.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]


def test_the_command(labels, tmp_path, call_script, monkeypatch):
    monkeypatch.chdir(labels.parent)  # in the file's own folder
    code, _ = call_script("data/hypnograms.py", labels.name, "--out", tmp_path / "out")
    assert code == 0
    content = json.loads((tmp_path / "out" / "cohort.json").read_text())
    assert {name: group["nights"] for name, group in content["groups"].items()} == {
        "training recordings": 4,
        "test recordings": 1,
    }
    assert (tmp_path / "out" / "cohort.png").stat().st_size > 10_000
    assert len((tmp_path / "out" / "nights.csv").read_text().splitlines()) == 6


def test_a_missing_file_is_named(tmp_path, call_script):
    code, err = call_script("data/hypnograms.py", tmp_path)
    assert code == 2 and "Whole_label_data.pickle" in err
