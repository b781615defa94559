"""The night report, on folders made by the session's own log and recorder, with planted responses."""

import json
import re
import shutil
import time
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.realtime.Recording.event_log import EventLog
from sleep_interpreter.realtime.Recording.recorder import Recorder
from sleep_interpreter.realtime.Report.event_words import words_of
from sleep_interpreter.realtime.Report.key_numbers import key_numbers, sleep_statistics
from sleep_interpreter.realtime.Report.night_report import _decoding, _phase, write_night_report
from sleep_interpreter.realtime.Report.recorded_signal import evoked, open_segments, spectrogram
from sleep_interpreter.realtime.Report.session_data import load_session
from sleep_interpreter.realtime.Report.summary import stage_spans
from sleep_interpreter.realtime.Report.trial_tables import write_trial_tables
from sleep_interpreter.realtime.Session.session import Session
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

pytestmark = pytest.mark.usefixtures("figures")
ITEMS = published().item_names

RATE = 500
NAMES = ["Fz", "Cz", "Pz", "C3", "C4", "F3", "F4", "O1", "O2", "M1", "EOG1", "EMG1"]
ONSETS = 20.0 + 5.0 * np.arange(21)
SHAMS = ONSETS[3::4]
SECONDS = 150
PLANTED = 30.0
"""µV, a bump at Cz half a second after each cue."""


def signal(begin=0.0, seconds=SECONDS):
    """Noise with an alpha rhythm, a response to cues (not to shams) at Cz, and a broken moment."""
    rng = np.random.default_rng(5)
    t = begin + np.arange(round(seconds * RATE)) / RATE
    data = rng.normal(0, 5, (len(NAMES), t.size)) + 10 * np.sin(2 * np.pi * 10 * t)
    for onset in ONSETS:
        if onset not in SHAMS:
            data[1] += PLANTED * np.exp(-0.5 * ((t - onset - 0.5) / 0.1) ** 2)
    return data.astype(np.float32)


def cue(log, number, onset, sham):
    detail = {
        "number": number, "item": ITEMS[number % 15], "group": int(number % 15 >= 8), "stage": "N2",
        "recorded": False, "sounded": not sham, "locked": number % 2 == 0,
    }  # fmt: skip
    log.write(round(onset * RATE), "sham" if sham else "cue", **detail)
    log.write(round((onset + 3) * RATE), "cue_phase", number=number, locked=number % 2 == 0, degrees=10.0)
    decoded = ITEMS[number % 15] if number % 3 == 0 else ITEMS[(number + 1) % 15]
    log.write(
        round((onset + 1.8) * RATE), "decode", latency=0.05, number=number, cued=ITEMS[number % 15],
        item=decoded, stage="N2", recorded=False, probabilities=[1 / 15] * 15,
        **({"sham": True} if sham else {}),
    )  # fmt: skip


def stages(log, begin, end):
    for second in range(begin, end, 5):
        log.write(
            second * RATE, "stage", latency=0.2, taken=second * RATE + 500, stage="N2", open=True,
            reason=None, probabilities=[0.1, 0.7, 0.1, 0.1], smoothed=[0.1, 0.7, 0.1, 0.1], consecutive={},
        )  # fmt: skip


def recorder(folder, simulated=True):
    settings = SimpleNamespace(sync_seconds=1.0, second_folder=None)
    return Recorder(folder / "recording", NAMES, RATE, settings, simulated=simulated)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session of 150 s with a gap, an arousal, a bad channel, a fault and a mark."""
    folder = tmp_path_factory.mktemp("night") / "s1" / "session_001"
    folder.mkdir(parents=True)
    about = {
        "source": "simulate", "simulated": True, "subject": {"id": "s<1>", "session": "", "notes": "<b>bold"},
        "first_sample_at": "2026-01-02T22:30:00+00:00", "recording": {"name": "test"}, "ending": None,
    }  # fmt: skip
    (folder / "session.json").write_text(json.dumps(about), encoding="utf-8")
    settings = "channels: {eeg: C4, eeg_ref: M1}\ncues: {mode: scheduled, lock: {target_degrees: 0}}\n"
    (folder / "settings.yaml").write_text(settings, encoding="utf-8")
    (folder / "ports.tsv").write_text(
        "port\tcode\trequested_s\tsent_s\tlate_ms\tok\nlsl\t1\t1.0\t1.0\t0.25\tyes\nlsl\t2\t1.0\t1.", encoding="utf-8"
    )
    log = EventLog(folder / "log.jsonl", RATE)
    log.write(0, "notice", level="warning", text="staging without <EMG>")
    stages(log, 10, 150)
    log.write(7500, "gate", open=True, stage="N2")
    log.write(7500, "cueing", on=True, reason=None)
    for number, onset in enumerate(ONSETS):
        cue(log, number, onset, onset in SHAMS)
    log.write(60000, "arousal", reason="EMG rise", until=65000)
    log.write(60000, "cueing", on=False, reason="arousal: EMG rise")
    log.write(65000, "cueing", on=True, reason=None)
    log.write(10000, "quality", channel="O1", reason="flat for 40 % of 4 s")
    log.write(20000, "quality", channel="O1", reason=None)
    log.write(60250, "gap", seconds=1.0, first=60250, count=500)
    log.write(61000, "fault", part="sound", state="lost", reason="no device")
    log.write(62000, "command", command="mark", args={"text": "<script>alert(1)</script>"}, origin="x", ok=True)
    log.write(round(SECONDS * RATE), "stop", reason="stopped")
    log.close()
    data, record = signal(), recorder(folder)
    record.append(data[:, :60250])
    record.gap(500)
    record.append(data[:, 60750:])
    record.close()
    return folder


class Reader(HTMLParser):
    """Collects what a page would fetch, its tags in order, and its text."""

    EMPTY = frozenset(
        ("meta", "br", "link", "img", "path", "use", "rect", "image", "circle", "line", "ellipse", "polygon")
    )

    def __init__(self):
        super().__init__()
        self.fetched, self.open, self.text, self.ids, self.links = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action") and not value.startswith(("#", "data:")):
                self.fetched.append((tag, value))
            if name in ("href", "xlink:href") and value.startswith("#"):
                self.links.append(value[1:])
            if name == "id":
                self.ids.append(value)
            if name == "style" and "url(" in value:
                self.links += re.findall(r"url\(#([^)]+)\)", value)
        assert tag != "script"
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == [] and reader.fetched == []
    assert len(reader.ids) == len(set(reader.ids))
    assert set(reader.links) <= set(reader.ids)
    return " ".join(" ".join(reader.text).split())


def test_the_page_is_whole_and_asks_nothing_of_the_network(session):
    path = write_night_report(session)
    assert path == session / "report.html"
    text, raw = read(path), path.read_text(encoding="utf-8")
    assert "default-src 'none'" in raw
    assert not re.search(r"(src|href|url\()\s*=?[\"'(]*https?:", raw)
    for words in (
        "simulated recording", "nothing in this report says anything about people", "2026-01-02",
        "staging without <EMG>", "arousal: EMG rise", "1.00 s in 1 gaps", "sound lost",
        "mark <script>alert(1)</script> (by x)", "<b>bold", "O1",
        "Chance: these decodes with the cues in any order", "marker sent, after its time",
        "0.5 s before to 2 s after", "stopped",
    ):  # fmt: skip
        assert words in text, words
    assert list(session.glob(".*")) == []


def test_a_planted_response_comes_out_with_its_size_and_shams_without(session):
    loaded = load_session(session)
    opened, problems = open_segments(loaded)
    assert problems == []
    found = {k: evoked(opened, [c["seconds"] for c in loaded.cues(k)]) for k in ("cue", "sham")}
    assert found["cue"].names == ("Fz", "Cz", "Pz", "C3", "C4", "F3", "F4", "O1", "O2")
    # one cue meets the gap: it must be left out, not averaged with zeros
    assert (found["cue"].n, found["cue"].rejected, found["cue"].missing) == (15, 1, 0)
    assert found["sham"].n == len(SHAMS)
    peak = (found["cue"].seconds > 0.45) & (found["cue"].seconds < 0.55)
    cz = found["cue"].names.index("Cz")
    size = PLANTED * np.exp(-0.5 * (np.linspace(-0.05, 0.05, 50) / 0.1) ** 2).mean()
    assert abs(found["cue"].mean[cz, peak].mean() - size) < 4
    assert np.abs(found["cue"].mean[0, peak].mean()) < 4
    assert np.abs(found["sham"].mean[cz, peak].mean()) < 6
    assert (found["cue"].half[cz] > 0.3).all() and (found["cue"].half[cz] < 8).all()


def test_the_spectrogram_is_of_the_derivation_and_leaves_gaps_out(session):
    loaded = load_session(session)
    opened, _ = open_segments(loaded)
    found = spectrogram(opened, loaded)
    assert found.channel == "C4 - M1" and found.decibel.shape[1] == 5
    missing = np.isnan(found.decibel).all(axis=0)
    assert missing.tolist() == [False, False, False, False, True]  # the gap lies in the last half minute
    # the rhythm is on both electrodes, so their difference is noise of 2 * 25 µV² spread over 250 Hz
    assert abs(np.nanmedian(found.decibel) - 10 * np.log10(50 / 250)) < 1


@pytest.mark.usefixtures("undrawn")
def test_numbers_of_the_night_are_those_of_the_log(session):
    loaded = load_session(session)
    assert loaded.has_responses and loaded.live and loaded.ending == "stopped"
    assert len(loaded.decodes()) == 16 and len(loaded.decodes(sham=True)) == 5
    write_trial_tables(loaded)
    table = pd.read_csv(session / "predictions.csv")
    assert len(table) == 21 and table.sham.sum() == 5 and table.correct.isna().tolist() == table.sham.tolist()
    right = (loaded.decodes()[:, 0] == loaded.decodes()[:, 1]).sum()
    assert right == sum(n % 3 == 0 for n, onset in enumerate(ONSETS) if onset not in SHAMS)
    assert loaded.pauses() == [(120.0, 130.0, "arousal: EMG rise")]
    assert loaded.bad_channels() == {"O1": [(20.0, 40.0, "flat for 40 % of 4 s")]}
    assert loaded.latencies()["marker sent, after its time"].tolist() == [0.25]  # the torn row is left out
    phases = loaded.phases()
    assert sum(len(own) for name, own in phases.items() if name.startswith("cues")) == 16
    assert sum(len(own) for name, own in phases.items() if name.startswith("shams")) == 5
    # an old log says nothing of random times, nor where its phases were read from
    assert loaded.phase_from == "whole" and all(own.shape[1] == 1 for own in phases.values())
    assert "Warning: Phase from samples on both sides of the cue" in write_night_report(session).read_text("utf-8")


@pytest.mark.usefixtures("undrawn")
def test_phases_stand_beside_those_of_random_times(tmp_path):
    """Cues at a phase that random times have as well are no locking; locked shams are seen from both sides."""
    log, random = EventLog(tmp_path / "log.jsonl", RATE), np.random.default_rng(0)
    for number in range(60):
        sham, onset = number % 3 == 2, round((20 + 5 * number) * RATE)
        detail = {"number": number, "item": ITEMS[0], "group": 0, "stage": "N2", "recorded": False, "sounded": not sham}
        log.write(onset, "sham" if sham else "cue", **detail, locked=number >= 30)
        met, around = random.normal(0, 20), random.normal(0, 20, 4)
        around = [None, *around[1:]] if number < 30 else random.uniform(-180, 180, 4).tolist()
        log.write(
            onset + 1500, "cue_phase", number=number, locked=number >= 30, degrees=met, phase_from="precue",
            at_random=around, **({"both_sides": -30.0} if sham else {}),
        )  # fmt: skip
    log.close()
    rows = {row[0]: row for row in _phase(load_session(tmp_path), None)["rows"]}
    assert [*rows] == [
        "cues locked", "cues not locked", "shams locked", "shams locked, seen from both sides", "shams not locked",
    ]  # fmt: skip
    assert float(rows["cues locked"][5]) < 0.01 < 0.05 < float(rows["cues not locked"][5])
    assert rows["cues not locked"][1] == 20 and rows["shams locked, seen from both sides"][2] == "-30°"
    html = write_night_report(tmp_path).read_text("utf-8")
    assert "Phase from samples before the cue alone" in html and "Warning: Phase" not in html


def test_decodes_of_items_cued_in_blocks_have_no_binomial_p(tmp_path):
    for name, places in (("blocks", np.repeat([3, 1, 2, 0], 9)), ("turns", np.tile([3, 1, 2, 0], 9))):
        (tmp_path / name).mkdir()
        log = EventLog(tmp_path / name / "log.jsonl", RATE)
        for number, place in enumerate(places):
            detail = {"cued": ITEMS[place], "item": ITEMS[(number // 9) % 4], "stage": "N2", "recorded": False}
            log.write(3000 * number, "decode", latency=0.05, number=number, **detail, probabilities=[1 / 15] * 15)
        log.close()
        (row,) = _decoding(load_session(tmp_path / name), None)["rows"]
        assert row[1] == 36 and (row[-1] == "none: items cued in blocks") == (name == "blocks")


def copy(session, folder, names=("log.jsonl", "session.json", "settings.yaml")):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes((session / name).read_bytes())
    return folder


def test_a_log_alone_is_enough(session, tmp_path):
    folder = copy(session, tmp_path / "session_001", ["log.jsonl"])
    text = read(write_night_report(folder))
    assert "session.json is missing" in text and "no recording of the signal" in text
    assert "does not say whether this recording is simulated" in text


def test_a_log_without_cues_stages_and_decodes_makes_a_page(tmp_path):
    folder = tmp_path / "session_001"
    folder.mkdir()
    log = EventLog(folder / "log.jsonl", RATE)
    log.write(0, "notice", level="info", text="begun")
    log.close()
    text = read(write_night_report(folder))
    assert "No cue was played" in text and "Nothing was decoded" in text


def test_what_is_no_session_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"log\.jsonl is missing"):
        write_night_report(tmp_path)
    (tmp_path / "log.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="before anything was logged"):
        write_night_report(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"a"\n{}\n', encoding="utf-8")
    with pytest.raises(UserError, match="line 1 is damaged"):
        write_night_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_resumed_session_finds_each_cue_in_its_segment(tmp_path):
    """The session broke off at 60 s and went on at 90 s, in a segment of its own."""
    folder = tmp_path / "session_001"
    folder.mkdir()
    (folder / "session.json").write_text('{"source": "lsl", "simulated": false}', encoding="utf-8")
    log = EventLog(folder / "log.jsonl", RATE)
    stages(log, 10, 60)
    log.write(10 * RATE, "gate", open=True, stage="N2")
    log.write(60 * RATE, "notice", level="info", text="last")
    log.write(90 * RATE, "resume", segment="segment_002.vhdr", after=60 * RATE)
    stages(log, 95, 150)
    for number, onset in enumerate(ONSETS):
        if onset < 57 or onset >= 95:
            cue(log, number, onset, onset in SHAMS)
    log.write(SECONDS * RATE, "stop", reason="stopped")
    log.close()
    data = signal()
    for begin, end in ((0, 60), (90, 150)):
        record = recorder(folder, simulated=False)
        record.append(data[:, begin * RATE : end * RATE])
        record.close()
    loaded = load_session(folder)
    opened, _ = open_segments(loaded)
    found = evoked(opened, [c["seconds"] for c in loaded.cues()])
    expected = [o for o in ONSETS if o not in SHAMS and (o < 57 or o >= 95)]
    assert (found.n, found.missing) == (len(expected), 0)
    peak = (found.seconds > 0.45) & (found.seconds < 0.55)
    assert abs(found.mean[1, peak].mean() - 29) < 4
    assert loaded.outages() == [(60.0, 90.0)]
    assert loaded.states("gate", "open")[0][:2] == (10.0, 60.0)
    # the last stage before the crash does not stand for the half minute in which nothing ran
    assert sum(duration for _, duration, *_ in stage_spans(loaded.events)) == pytest.approx(50 + 55, abs=0.1)
    assert "Shaded: no session ran" in read(write_night_report(folder))


def test_a_segment_of_unknown_beginning_gives_no_responses(session, tmp_path):
    folder = copy(session, tmp_path / "session_001")
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    fault = {
        "sample": 30000, "seconds": 60.0, "event": "fault", "code": None, "wall": {},
        "detail": {"part": "recorder", "state": "back",
                   "reason": "recording goes on in segment_002.vhdr; 2.0 s were not recorded"},
    }  # fmt: skip
    lines.insert(-1, json.dumps(fault))
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = signal()
    for begin, end in ((0, 58), (60, 150)):
        record = recorder(folder)
        record.append(data[:, begin * RATE : end * RATE])
        record.close()
    loaded = load_session(folder)
    assert [s.exact for s in loaded.segments] == [True, False]
    opened, _ = open_segments(loaded)
    found = evoked(opened, [c["seconds"] for c in loaded.cues()])
    assert found.n == sum(o < 55 for o in ONSETS if o not in SHAMS) and found.missing > 0


@pytest.mark.usefixtures("undrawn")
def test_what_a_file_holds_no_response_to_is_not_judged(session, tmp_path):
    folder = copy(session, tmp_path / "session_001")
    (folder / "session.json").write_text('{"source": "replay", "simulated": false}', encoding="utf-8")
    text = read(write_night_report(folder))
    assert "neither right nor wrong" in text and "did not hear the cues" in text
    assert "Top-1" not in text


def test_the_script_writes_the_report_of_a_damaged_folder(session, tmp_path, call_script):
    folder = copy(session, tmp_path / "session_001", ["log.jsonl", "settings.yaml"])
    (folder / "session.json").write_text('{"simulated": "maybe", "subject": 3, "started": 5}')
    shutil.copytree(session / "recording", folder / "recording")
    lines = (folder / "log.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "log.jsonl").write_bytes(b"".join(lines[:-1]) + lines[-1][:30])
    eeg = folder / "recording" / "segment_001.eeg"
    eeg.write_bytes(eeg.read_bytes()[: eeg.stat().st_size // 2])
    eeg.with_suffix(".vmrk").unlink()
    (folder / "audio.tsv").write_bytes(b"\xff\x00late_ms\n")
    code, error = call_script("realtime/report.py", folder)
    assert code == 0, error
    text = read(folder / "report.html")
    for words in (
        "does not say whether this recording is simulated", "segment_001.vmrk is missing",
        "broken off: no stop event was logged",
        "s before the session: the rest is not shown",
    ):  # fmt: skip
        assert words in text, words


def night(folder, length=4 * 3600, about=None):
    """A log of 4 h: asleep from 0:30 to 3:00 with an hour of N3, cues in N3, cueing off for good at 1:40."""
    folder.mkdir(parents=True)
    (folder / "session.json").write_text(json.dumps(about or {"source": "lsl", "simulated": False}), encoding="utf-8")
    log = EventLog(folder / "log.jsonl", RATE)
    for second in range(30, length, 30):
        stage = "W/N1" if second < 1800 or second >= 10800 else "N3" if 3600 <= second < 7200 else "N2"
        log.write(second * RATE, "stage", stage=stage, smoothed=None, probabilities=None, taken=None)
    log.write(3600 * RATE, "cueing", on=True, reason=None)
    for number, second in enumerate(range(3610, 6000, 10)):
        detail = {"number": number, "item": ITEMS[0], "group": 1, "stage": "N3", "recorded": False, "locked": False}
        log.write(second * RATE, "cue", **detail, sounded=True)
    log.write(4000 * RATE, "arousal", reason="EMG rise", until=0)
    log.write(6000 * RATE, "cueing", on=False, reason="paused by the operator")
    log.write(6001 * RATE, "gap", seconds=2.5, first=3000500, count=1250)
    log.write(
        6002 * RATE, "command", command="volume", args={"change_db": -3.0}, origin="monitor", ok=True, text="-23 dB"
    )
    log.write(6003 * RATE, "command", command="mark", args={"text": "loud"}, origin="x", ok=False, text="no room")
    log.write(6004 * RATE, "stream", state="clock", reason=None, seconds=1.5)
    log.write(6005 * RATE, "no_sound", on=True, reason="the headphones are gone")
    log.write(6006 * RATE, "resume", segment="segment_002.vhdr", after=6005 * RATE)
    log.write(length * RATE, "stop", reason="stopped")
    log.close()
    return folder


@pytest.mark.usefixtures("undrawn")
def test_the_report_begins_with_what_counts(tmp_path):
    folder = night(tmp_path / "s1" / "session_001")
    loaded = load_session(folder)
    assert dict(key_numbers(loaded)) == {
        "cues that sounded": "239; 358 an hour of cueing",
        "asleep (N2, N3, R)": "2 h 30 min of 4 h 00 min",
        "cueing was on": "40.0 min; N2 and N3: 2 h 30 min",
        "arousals that paused cueing": "1; 2 an hour of cueing",
        "signal lost": "2.5 s in 1 gaps",
    }
    sleep = {name.partition(" (")[0]: value for name, value in sleep_statistics(loaded)}
    assert (sleep["total sleep time, N2 + N3 + R"], sleep["N3"], sleep["R"]) == ("150.0", "60.0", "0.0")
    assert (sleep["latency of N2 or deeper"], sleep["asleep, of that"]) == ("30.0", "62.5")
    # the pause that never ended is one
    assert loaded.pauses() == [(6000.0, 14400.0, "paused by the operator")]
    text = read(write_night_report(folder))
    assert "The last one never ended: paused by the operator (2 h 20 min)." in text
    assert text.index("In short") < text.index("latency of N2 or deeper") < text.index("The stager's own, smoothed")


@pytest.mark.usefixtures("undrawn")
def test_events_are_in_words_and_local_time(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "America/Lima")
    time.tzset()
    try:
        folder = night(tmp_path / "s1" / "session_001")
        text = read(write_night_report(folder))
        begun = load_session(folder).events[-1]["wall"]["time"]
        local = datetime.fromisoformat(begun).astimezone(UTC) - timedelta(hours=5)
        assert f"{local:%H:%M:}" in text and "Local time, and time since the session began" in text
    finally:
        monkeypatch.undo()
        time.tzset()
    for words in (
        "volume -3 dB (by monitor): -23 dB", "mark loud (by x): refused: no room", "2.50 s lost (1250 samples of the",
        "no cues: the headphones are gone", "the session goes on in segment_002.vhdr", "1:40:01",
    ):  # fmt: skip
        assert words in text, words
    assert not re.search(r"\{'|\[\]|True|False|None", text.partition("Settings and origin")[0])
    # a replay's recording has times of its own
    other = night(tmp_path / "s2" / "session_001", about={"source": "replay", "simulated": False})
    assert "Local time, and" not in read(write_night_report(other))


@pytest.mark.parametrize("event", [
    {"event": "command", "detail": {}}, {"event": "gap", "detail": {"seconds": 1}}, {"event": "volume", "detail": {}},
    {"event": "unheard of", "detail": {"a_b": {"c": [1, 2.5, True]}, "d": None}}, {"event": "resume", "detail": {}},
])  # fmt: skip
def test_no_event_is_too_strange_for_words(event):
    assert not set("{}[]'") & set(words_of(event))


def test_a_night_without_sleep_or_stages_has_its_numbers(tmp_path):
    log = EventLog(tmp_path / "log.jsonl", RATE)
    log.write(0, "notice", level="info", text="begun")
    log.write(100 * RATE, "stop", reason="stopped")
    log.close()
    loaded = load_session(tmp_path)
    assert sleep_statistics(loaded) == [] and dict(key_numbers(loaded))["cues that sounded"] == "0"


@pytest.mark.usefixtures("undrawn")
def test_a_session_that_fails_and_a_replay_have_a_report(main, recording, staged, tmp_path, monkeypatch):
    words = ["--recording", str(recording), "--out", str(tmp_path), "--subject", "s1", *staged, "--stop", "12"]
    assert main(words) == 0
    assert "In short" in (tmp_path / "s1" / "session_001" / "report.html").read_text("utf-8")

    def broken(self, block):
        raise RuntimeError("the bug of the night")

    monkeypatch.setattr(Session, "push_samples", broken)
    with pytest.raises(RuntimeError, match="bug of the night"):
        main(words)
    assert "; error." in (tmp_path / "s1" / "session_002" / "report.html").read_text("utf-8")
