"""Hypnograms of every format, R&K stages, and lengths."""

import datetime
from dataclasses import replace
from types import SimpleNamespace

import edfio
import mne
import numpy as np
import pytest

from sleep_interpreter.data.formats.scoring_readers import make, read_hypnogram
from sleep_interpreter.data.preparation.inputs import Session
from sleep_interpreter.data.preparation.settings import load_settings
from sleep_interpreter.data.preparation.stages import find_stages, length_remarks
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.recording import Recording

WANTED = [0, 0, 1, 2, 3, -1]
FILES = {
    "bids.tsv": "onset\tduration\tstage\n"
    + "".join(f"{30 * k}\t30\t{s}\n" for k, s in enumerate(("W", "N1", "N2", "N3", "R", "?"))),
    "yasa.csv": "Epoch,Stage\n0,WAKE\n1,N1\n2,N2\n3,N3\n4,REM\n5,UNS\n",
    "numbers.csv": "epoch,stage\n0,0\n1,1\n2,2\n3,3\n4,5\n5,-1\n",
    "lines.txt": "W\nS1\nS2\nS4\nREM\nMT\n",
    "profusion.xml": (
        "<?xml version='1.0'?><CMPStudyConfig><EpochLength>30</EpochLength><SleepStages>"
        + "".join(f"<SleepStage>{s}</SleepStage>" for s in (0, 1, 2, 4, 5, 9))
        + "</SleepStages></CMPStudyConfig>"
    ),
    "remlogic.txt": "RemLogic Event Export\nPatient:\tX\n\nSleep Stage\tTime [hh:mm:ss]\tEvent\tDuration[s]\n"
    + "".join(
        f"{s}\t{t}\tSLEEP-{s}\t30\n"
        for s, t in zip(
            ("S0", "S1", "S2", "S3", "REM", "MT"),
            ("23:58:30", "23:59:00", "23:59:30", "00:00:00", "00:00:30", "00:01:00"),
            strict=True,
        )
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_formats(tmp_path, name):
    path = tmp_path / name
    path.write_text(FILES[name])
    found = read_hypnogram(path)
    assert found.epochs(180).tolist() == WANTED
    assert found.seconds == 180


def test_edf_annotations(tmp_path):
    texts = ["Sleep stage W", "Sleep stage 1", "Sleep stage 2", "Sleep stage 4", "Sleep stage R", "Sleep stage ?"]
    raw = mne.io.RawArray(np.zeros((1, 18000)), mne.create_info(["C4"], 100, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations(30.0 * np.arange(6), [30.0] * 6, texts))
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    assert read_hypnogram(tmp_path / "a_raw.fif").epochs(180).tolist() == WANTED


def test_clocks_of_every_format(tmp_path):
    table = "Start;Stage\n" + "".join(f"01.02.2024 {t};{s}\n" for t, s in CLOCKS)
    edfio.Edf(
        [], starttime=datetime.time(23, 59, 30),
        annotations=[edfio.EdfAnnotation(30 * k, 30, f"Sleep stage {s}") for k, (_, s) in enumerate(CLOCKS)],
    ).write(tmp_path / "plus.edf")  # fmt: skip
    for name, text in (("table.csv", table), ("remlogic.txt", FILES["remlogic.txt"])):
        (tmp_path / name).write_text(text)
    gap = read_hypnogram(tmp_path / "table.csv")
    assert gap.clock == 86370 and gap.onset.tolist() == [0, 30, 90] and gap.duration.tolist() == [30, 60, 30]
    assert read_hypnogram(tmp_path / "plus.edf").clock == 86370
    assert read_hypnogram(tmp_path / "remlogic.txt").clock == 86310
    elapsed = table.replace("23:59:30", "00:00:00").replace("00:00:00;N3", "00:00:30;N3").replace("00:01", "00:02")
    (tmp_path / "elapsed.csv").write_text(elapsed.replace("01.02.2024 ", ""))
    elapsed = read_hypnogram(tmp_path / "elapsed.csv")
    assert elapsed.undecided and elapsed.elapsed == 0
    for name in ("bids.tsv", "lines.txt", "profusion.xml"):
        (tmp_path / name).write_text(FILES[name])
        assert read_hypnogram(tmp_path / name).clock is None


CLOCKS = (("23:59:30", "N2"), ("00:00:00", "N3"), ("00:01:00", "R"))


def test_a_scoring_begins_when_its_clock_says(tmp_path):
    """A scoring of RemLogic, begun ten minutes after the recording, as its export usually is."""
    raw = mne.io.RawArray(np.zeros((1, 90_000)), mne.create_info(["C4"], 100, "eeg"), verbose="error")
    raw.set_meas_date(datetime.datetime(2024, 2, 1, 23, 48, 30, tzinfo=datetime.UTC))
    raw.save(tmp_path / "a_night_raw.fif", verbose="error")
    (tmp_path / "a_night_raw_scoring.txt").write_text(FILES["remlogic.txt"])
    recording, file = Recording(tmp_path / "a_night_raw.fif"), SimpleNamespace(seconds=900.0)
    session = Session("night", "sleep", recording.path)

    def found(*changes):
        stages = load_settings(None, ["stages.file='{stem}_scoring.*'", *changes]).stages
        return find_stages(session, recording.annotations, recording, file, None, stages)

    hypnogram, source, remarks = found()
    assert hypnogram.onset[0] == 600 and source == "expert: a_night_raw_scoring.txt"
    assert remarks[0] == "by the clocks, the scoring begins 600 s after the recording"
    assert found("stages.use_clock=false")[0].onset[0] == 0
    assert found("stages.offset_seconds=-30")[0].onset[0] == 570
    file.seconds = 640.0
    with pytest.raises(UserError, match=r"begins 600 s after the recording.*stages\.times=first"):
        found()


def test_numbers_that_mean_two_things_are_refused():
    rows = [(30.0 * k, 30.0, str(s)) for k, s in enumerate([0, 1, 2, 3, 4])]
    with pytest.raises(UserError, match=r"stages\.numbers"):
        make(rows, "x")
    assert make(rows, "x", "yasa").stage.tolist() == [0, 0, 1, 2, 3]
    assert make(rows, "x", "rk").stage.tolist() == [0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(0, 30, "N7")], "'N7' is no sleep stage"),
        ([(0, 60, "W"), (30, 30, "N2")], "overlap"),
        ([(0, float("nan"), "W")], "finite"),
        ([], "no sleep stage"),
    ],
)
def test_refusals(rows, words):
    with pytest.raises(UserError, match=words):
        make(rows, "file")


def test_lengths_that_disagree_are_told():
    hypnogram = make([(0, 300, "N2")], "x")
    assert length_remarks(hypnogram, 300.4) == []
    assert "60 s after the recording" in length_remarks(hypnogram, 240)[0]
    assert "100 s of the recording are not scored" in length_remarks(hypnogram, 400)[0]
    assert "begins 30 s before" in length_remarks(replace(hypnogram, onset=hypnogram.onset - 30), 270)[0]
