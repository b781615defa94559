"""Exports of a session's recording: one time axis, gaps of their true length, the log's events."""

import json

import mne
import mne_bids
import numpy as np
import pytest

from sleep_interpreter.realtime import export as script
from sleep_interpreter.realtime.Parameters.source import RecordingSettings
from sleep_interpreter.realtime.Recording.event_log import EventLog
from sleep_interpreter.realtime.Recording.recorder import Recorder
from sleep_interpreter.realtime.Recording.session_recording import read_segment, segments
from sleep_interpreter.utils.core.errors import UserError

NAMES, RATE = ("C3", "C4", "EOG1", "EMG1"), 250.0


def signal(first, count):
    t = np.arange(first, first + count) / RATE
    return (50 * np.sin(2 * np.pi * np.array([[1], [2], [3], [5]]) * t)).astype(np.float32)


@pytest.fixture
def session(tmp_path):
    """A session of 30 s with a gap of 1 s at 5 s, that was killed at 12 s and went on at 20 s."""
    folder = tmp_path / "session_001"
    recorder = Recorder(folder / "recording", NAMES, RATE, RecordingSettings(), simulated=True)
    recorder.append(signal(0, 1250))
    recorder.gap(250)
    recorder.append(signal(1500, 1500))
    recorder.close()
    recorder = Recorder(folder / "recording", NAMES, RATE, RecordingSettings(), first=5000, simulated=True)
    recorder.append(signal(5000, 2500))
    recorder.close()
    log = EventLog(folder / "log.jsonl", 500, 0.0)
    log.write(5000, "stage", stage="N2")
    log.write(5100, "stage", stage="N2")
    log.write(11000, "cue", 3, number=1, item="dog", group=0)
    log.write(11900, "decode", 23, number=1, item="cat", cued="dog")
    log.write(999999, "stop", reason="stopped")
    log.close()
    (folder / "settings.yaml").write_text("channels: {eog: EOG1, emg: EMG1}\n")
    about = {"subject": {"id": "s-1", "session": "", "notes": "secret"}, "simulated": True}
    (folder / "session.json").write_text(json.dumps(about))
    return folder


def check(raw, tolerance):
    """Everything lies at its time of the session's clock."""
    assert tuple(raw.ch_names) == NAMES and raw.info["sfreq"] == RATE
    assert 7500 <= raw.n_times < 7500 + RATE  # EDF fills its last second
    data = raw.get_data()[:, :7500] * 1e6
    for first, last in ((0, 1250), (1500, 3000), (5000, 7500)):
        np.testing.assert_allclose(data[:, first:last], signal(first, last - first), atol=tolerance)
    for first, last in ((1250, 1500), (3000, 5000)):
        np.testing.assert_allclose(data[:, first:last], 0, atol=tolerance)
    found = {}
    for onset, length, text in zip(
        raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True
    ):
        found.setdefault(text.split("Comment/")[-1], []).append((round(onset * RATE), round(length * RATE)))
    assert sorted(found["BAD_ACQ_SKIP/gap"]) == [(1250, 250), (3000, 2000)]
    assert [s for s, _ in found["stage/N2"]] == [2500]
    assert [s for s, _ in found["cue/dog"]] == [5500] and [s for s, _ in found["decode/cat"]] == [5950]
    return found


def test_gaps_and_places_are_read_back(session):
    assert [(s.first, s.end, s.gaps) for s in segments(session)] == [(0, 3000, ((1250, 250),)), (5000, 7500, ())]
    assert read_segment(session / "recording" / "segment_001.vhdr").gaps == ((1250, 250),)


def test_a_session_becomes_one_recording_in_every_format(session, tmp_path):
    out = tmp_path / "out"
    words = [str(session), "--edf", out / "n.edf", "--bdf", out / "n.bdf", "--brainvision", out / "n.vhdr"]
    assert script.main([*map(str, words), "--bids", str(out / "bids")]) == 0
    found = check(mne.io.read_raw_brainvision(out / "n.vhdr", verbose="error"), 1e-4)
    assert "simulated" in found
    check(mne.io.read_raw_edf(out / "n.edf", verbose="error"), 100 / 2**16 + 0.01)
    check(mne.io.read_raw_bdf(out / "n.bdf", verbose="error"), 0.001)
    path = mne_bids.BIDSPath(
        subject="s1", session="session001", task="sleep", datatype="eeg", suffix="eeg", root=out / "bids"
    )
    raw = mne_bids.read_raw_bids(path, verbose="error")
    check(raw, 1e-4)
    assert raw.get_channel_types() == ["eeg", "eeg", "eog", "emg"]
    description = json.loads((out / "bids" / "dataset_description.json").read_text())
    assert description["simulated"] is True
    assert "secret" not in "".join(p.read_text(errors="ignore") for p in (out / "bids").rglob("*") if p.is_file())
    assert not [p for p in out.rglob(".export*")]


def test_nothing_is_replaced_and_a_session_without_recording_is_refused(session, tmp_path):
    target = tmp_path / "n.edf"
    target.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        script.main([str(session), "--edf", str(target)])
    assert target.read_text() == "mine"
    with pytest.raises(UserError, match="no recording is there"):
        script.main([str(tmp_path), "--bdf", str(tmp_path / "n.bdf")])
    assert not (tmp_path / "n.bdf").exists()


def test_samples_that_are_not_finite_are_said_in_edf(session, tmp_path):
    recorder = Recorder(session / "recording", NAMES, RATE, RecordingSettings(), first=7500)
    data = signal(7500, 500)
    data[1, 100:150] = np.nan
    recorder.append(data)
    recorder.close()
    assert script.main([str(session), "--bdf", str(tmp_path / "n.bdf")]) == 0
    raw = mne.io.read_raw_bdf(tmp_path / "n.bdf", verbose="error")
    (found,) = [a for a in raw.annotations if a["description"] == "BAD_not_finite C4"]
    assert found["onset"] == pytest.approx(7600 / RATE) and found["duration"] == pytest.approx(50 / RATE)
    np.testing.assert_allclose(raw[1, 7600:7650][0] * 1e6, 0, atol=1e-3)
