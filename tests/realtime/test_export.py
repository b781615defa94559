"""Exports of a session's recording: one time axis, gaps of their true length, the log's events."""

import json
import time
from datetime import UTC, datetime

import edfio
import mne
import mne_bids
import numpy as np
import pandas as pd
import pytest
import scipy.signal

from sleep_interpreter.realtime import export as script
from sleep_interpreter.realtime.Parameters.source import RecordingSettings, SourceSettings
from sleep_interpreter.realtime.Recording.event_log import EventLog
from sleep_interpreter.realtime.Recording.recorder import Recorder
from sleep_interpreter.realtime.Recording.session_recording import join_segments, read_segment, segments
from sleep_interpreter.realtime.Sources.live_source import LiveSource
from sleep_interpreter.utils.core.data_card import published
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


def test_the_values_of_bids_events_are_the_codes_that_the_session_sends(session, tmp_path):
    """Every item, decode, sham, stage and group; not MNE's numbers by the alphabet."""
    items = published().item_names
    log = EventLog(session / "log.jsonl", 500, resume=True)
    for number, item in enumerate(items, start=2):
        about = {"number": number, "item": item, "group": 0, "recorded": False}
        log.write(11000 + 100 * number, "cue", number - 1, **about, sounded=number != 4)
        log.write(11010 + 100 * number, "decode", 19 + number, number=number, item=item, cued=item)
        log.write(11020 + 100 * number, "sham", 40, **{**about, "number": 50 + number})
    for k, kind, detail in (
        (1, "decode_failed", {"number": 9, "reason": "no samples"}),
        (2, "group", {"group": 1}),
        (3, "gate", {"open": True}),
    ):
        log.write(13000 + k, kind, None, **detail)
    log.close()
    (session / "settings.yaml").write_text("markers: {sham_code: 40, stage_codes: [50, 51, 52, 53]}\n")
    assert script.main([str(session), "--bids", str(tmp_path / "bids")]) == 0
    (table,) = (tmp_path / "bids").rglob("*_events.tsv")
    events = pd.read_csv(table, sep="\t", dtype=str, keep_default_na=False)
    found = dict(zip(events["trial_type"], events["value"], strict=True))
    for k, item in enumerate(items):
        assert found[f"decode/{item}"] == str(21 + k) and found[f"sham/{item}"] == "40"
        assert found[f"cue/{item}" if k != 2 else f"cue_not_sounded/{item}"] == (str(1 + k) if k != 2 else "n/a")
    assert [found[k] for k in ("decode_failed", "group/1", "stage/N2", "gate/open")] == ["36", "91", "51", "n/a"]
    levels = json.loads(table.with_suffix(".json").read_text())["value"]["Levels"]
    assert levels["91"] == "group/1" and levels["1"] == f"cue/{items[0]}"


@pytest.mark.parametrize(
    ("zone", "begun", "local", "offset"),
    [
        ("Europe/Berlin", datetime(2026, 10, 24, 22, 30, tzinfo=UTC), "2026-10-25 00:30:00", "+0200"),  # summer ends
        ("Asia/Kolkata", datetime(2026, 1, 1, 18, 0, tzinfo=UTC), "2026-01-01 23:30:00", "+0530"),
        ("America/New_York", datetime(2026, 1, 2, 3, 0, tzinfo=UTC), "2026-01-01 22:00:00", "-0500"),
        ("UTC", datetime(2026, 1, 2, 3, 0, tzinfo=UTC), "2026-01-02 03:00:00", "+0000"),
    ],
)
def test_recordings_begin_in_local_time_and_name_its_zone(zone, begun, local, offset, session, tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    for path in (session / "recording").iterdir():
        path.unlink()
    recorder = Recorder(session / "recording", NAMES, RATE, RecordingSettings(), start=begun)
    recorder.append(signal(0, 7500))
    recorder.close()
    monkeypatch.setenv("TZ", "Pacific/Auckland")  # exported on another machine
    time.tzset()
    words = ["--edf", tmp_path / "n.edf", "--brainvision", tmp_path / "n.vhdr", "--bids", tmp_path / "bids"]
    try:
        script.main([str(session), *map(str, words)])
    finally:
        monkeypatch.undo()
        time.tzset()
    edf = edfio.read_edf(tmp_path / "n.edf")
    assert f"{edf.startdate} {edf.starttime}" == local
    assert f"UTC{offset}" in (tmp_path / "n.edf").read_bytes()[88:168].decode()
    assert f"{mne.io.read_raw(tmp_path / 'n.vhdr', verbose='error').info['meas_date']:%Y-%m-%d %H:%M:%S}" == local
    assert f"UTC{offset}" in (tmp_path / "n.vhdr").read_text(encoding="utf-8")
    (scans,) = (tmp_path / "bids").rglob("*_scans.tsv")
    (acquired,) = pd.read_csv(scans, sep="\t")["acq_time"]
    assert acquired.startswith(local.replace(" ", "T")) and not acquired.endswith("Z")  # Z would be universal time


def test_what_is_far_out_does_not_cost_edf_its_resolution(session, tmp_path, caplog):
    """A rail for a second, an electrode that is off and swings, slow drift of a DC amplifier, an offset."""
    for path in (session / "recording").iterdir():
        path.unlink()
    recorder = Recorder(session / "recording", NAMES, RATE, RecordingSettings())
    recorder.gap(7500)
    data = 20 * np.random.default_rng(0).standard_normal((4, 60000)).astype(np.float32)
    data[0, 500:750] = 187_500
    data[1, 1000:9000] *= 2000
    data[2] += np.linspace(-9000, 9000, 60000)
    data[3] += 12_000
    recorder.append(data)
    recorder.close()
    assert script.main([str(session), "--edf", str(tmp_path / "n.edf"), "--bdf", str(tmp_path / "n.bdf")]) == 0
    edf = edfio.read_edf(tmp_path / "n.edf")
    steps = {s.label: np.subtract(*s.physical_range[::-1]) / 65534 for s in edf.signals}
    assert max(steps.values()) < 0.35 and max(steps["C3"], steps["C4"]) < 0.1001
    assert "C3: 250 samples are beyond 3277 µV" in caplog.text and "C4:" in caplog.text
    assert "EOG1:" not in caplog.text and "EMG1:" not in caplog.text  # nothing of these is lost
    raw = mne.io.read_raw_edf(tmp_path / "n.edf", verbose="error")
    (clipped,) = [a for a in raw.annotations if a["description"] == "BAD_clipped C3"]
    assert clipped["onset"] == pytest.approx(8000 / RATE) and clipped["duration"] == pytest.approx(1)
    kept = raw.get_data()[:, 7500:67500] * 1e6
    for row in range(4):
        good = np.abs(data[row] - np.median(data[row])) < 3000 if row < 2 else slice(None)
        np.testing.assert_allclose(kept[row][good], data[row][good], atol=0.2)
    whole = mne.io.read_raw_bdf(tmp_path / "n.bdf", verbose="error").get_data()[:, 7500:67500] * 1e6
    np.testing.assert_allclose(whole, data, atol=0.05)


def remove(path):
    path.unlink()


def tear(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def tear_last(path):
    path.write_bytes(path.read_bytes()[:-5] if path.suffix == ".vmrk" else b"")


def garble(path):
    path.write_bytes(bytes(range(256)) * 3)


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("part", ["segment_001.vmrk", "segment_002.vmrk", "segment_001.vhdr", "segment_002.vhdr"])
@pytest.mark.parametrize("damage", [remove, tear, tear_last, garble, zeros])
def test_a_damaged_segment_lies_where_the_log_has_it(part, damage, session, tmp_path, caplog):
    """A pulse under every cue, in both segments: after a gap, and after a crash and its --resume."""
    planted = [(1000, 2000), (2000, 4000), (5500, 11000), (7000, 14000)]  # samples of stream and session
    for path, first in (
        (session / "recording" / "segment_001.eeg", 0),
        (session / "recording" / "segment_002.eeg", 5000),
    ):
        samples = np.fromfile(path, "<f4").reshape(-1, 4)
        for at, _ in planted:
            if first <= at < first + len(samples):
                samples[at - first, 0] = 1000
        samples.tofile(path)
    (session / "log.jsonl").unlink()
    log = EventLog(session / "log.jsonl", 500, 0.0)
    log.write(3000, "gap", first=1250, count=250, seconds=1.0)
    log.write(10000, "resume", segment="segment_002.vhdr", after=6000)
    for number, (_, at) in enumerate(planted):
        log.write(at, "cue", 3, number=number, item="dog", group=0, sounded=True)
    log.close()
    damage(session / "recording" / part)
    raw = mne.io.read_raw_brainvision(join_segments(session, tmp_path / "n.vhdr"), verbose="error")
    assert raw.n_times == 7500
    assert np.flatnonzero(raw.get_data()[0] > 5e-4).tolist() == [at for at, _ in planted]
    marks = {(round(a["onset"] * RATE), a["description"].split("/", 1)[-1]) for a in raw.annotations}
    assert {at for at, text in marks if text.endswith("cue/dog")} == {at for at, _ in planted}
    gaps = [
        (round(a["onset"] * RATE), round(a["duration"] * RATE)) for a in raw.annotations if "gap" in a["description"]
    ]
    assert sorted(gaps) == [(1250, 250), (3000, 2000)]
    assert part.split(".")[0] in caplog.text  # it is said


def test_a_segment_without_samples_is_a_gap_and_said(session, tmp_path, caplog):
    (session / "recording" / "segment_001.eeg").unlink()
    raw = mne.io.read_raw_brainvision(join_segments(session, tmp_path / "n.vhdr"), verbose="error")
    assert raw.n_times == 7500 and not raw.get_data()[:, :5000].any() and "that stretch is missing" in caplog.text


class Pulses(LiveSource):
    """An amplifier with a pulse every half second, whose rate, losses and clock are as asked."""

    def __init__(self, actual=500.0, lost=(), step=None):
        settings = SourceSettings(kind="lsl", look_seconds=0.5)
        super().__init__(settings, ["Fz", "C4"], 500.0, [1.0] * 2, "amplifier of pulses")
        self._first, self._sent, self._actual, self._lost, self._step = time.perf_counter(), 0, actual, lost, step

    def pull(self):
        numbers = np.arange(self._sent, int((time.perf_counter() - self._first) * self._actual))
        self._sent += len(numbers)
        stamps = self._first + numbers / self._actual
        if self._step is not None:
            stamps[numbers >= self._step[0]] += self._step[1]
        kept = np.array([not any(a <= n < b for a, b in self._lost) for n in numbers], bool)
        distance = np.abs((numbers + 125) % 250 - 125)
        pulse = np.clip(1000 - 150 * distance, 0, None) + np.random.default_rng(0).normal(0, 5, len(numbers))
        return np.stack([pulse, pulse / 2], axis=1)[kept], stamps[kept]


@pytest.mark.parametrize(
    "amplifier",
    [
        {},
        {"lost": [(900, 1010), (1500, 1502)]},
        {"actual": 501.5},
        {"actual": 498.5},
        {"step": (1300, 3.0)},
        {"step": (1300, -3.0), "lost": [(1000, 1100)]},
    ],
    ids=["well-behaved", "losses", "fast", "slow", "clock set on", "clock set back"],
)
def test_events_lie_on_the_pulses_that_they_tell_of(amplifier, tmp_path):
    """A session saw a pulse at a sample, and its export has it there: in both parts of a resumed session."""
    folder, seen = tmp_path / "session_001", []
    folder.mkdir()
    log = EventLog(folder / "log.jsonl", 500)
    for origin in (0, 5000):
        source = Pulses(**amplifier)
        source.open(["Fz", "C4"])
        halt = time.perf_counter() + 5
        source.begin_at(origin)
        source.record(folder / "recording", RecordingSettings(), origin)
        data = np.concatenate(list(source.chunks(lambda halt=halt: time.perf_counter() > halt)), axis=1)[0]
        source.close()
        if origin:
            log.write(origin, "resume", segment="segment_002.vhdr", after=origin - 1)
        peaks, _ = scipy.signal.find_peaks(np.nan_to_num(data), height=700, distance=100)
        for at in peaks + origin:
            log.write(int(at), "cue", 1, number=len(seen) + 1, item="alarm", group=0, sounded=True)
            seen.append(int(at))
    log.close()
    assert len(seen) > 10 and sum(at > 5000 for at in seen) > 4
    (folder / "settings.yaml").write_text("channels: {eeg: C4, eog: null, emg: null}\n")
    (folder / "session.json").write_text(json.dumps({"subject": {"id": "s"}, "simulated": True}))
    for name, read in (("n.vhdr", mne.io.read_raw_brainvision), ("n.bdf", mne.io.read_raw_bdf)):
        flag = "--brainvision" if name == "n.vhdr" else "--bdf"
        assert script.main([str(folder), flag, str(tmp_path / name)]) == 0
        raw = read(tmp_path / name, verbose="error")
        places = [a["onset"] for a in raw.annotations if "cue/alarm" in a["description"]]
        np.testing.assert_allclose(np.array(places) * 500, seen, atol=0.02)
        trace = np.nan_to_num(raw.get_data(picks=["Fz"])[0])
        peaks, _ = scipy.signal.find_peaks(trace, height=700e-6, distance=100)
        peaks = peaks[np.abs(peaks[:, None] - seen).min(axis=1) < 100]  # what came after the session's end
        assert len(peaks) == len(seen) and np.abs(peaks - np.array(seen)).max() <= 1
