"""Cues through real PortAudio into a sound server's null sink: times, level, and a device that vanishes."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.realtime.sound_server import RATE, SoundServer, heard, missing_program
from sleep_interpreter.realtime.Cues.schedule import Cue
from sleep_interpreter.realtime.Output import sound_card
from sleep_interpreter.realtime.Output.sinks import choose_sink, open_sink
from sleep_interpreter.realtime.Output.sound_card import DeviceSink, device_problem, play_now
from sleep_interpreter.realtime.Parameters.output import AudioSettings

from .live import Live, named


def until(condition, what, seconds=60):
    """Wait until `condition()` is true, and return its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return found


class Cards:
    """PortAudio with the cards that are plugged in."""

    PortAudioError = OSError

    def __init__(self, *names):
        self.names, self.opened, self.lists = list(names), [], 0

    def query_devices(self, device=None, kind=None):
        devices = [{"name": n, "hostapi": 0, "max_output_channels": 2} for n in self.names]
        return devices[device or 0] if kind else devices

    def query_hostapis(self, index):
        return {"name": "ALSA"}

    def check_output_settings(self, *args, **more):
        pass

    def _terminate(self):
        pass

    def _initialize(self):
        self.lists += 1

    def OutputStream(self, device, callback, **more):  # noqa: N802 (sounddevice's name)
        stream = SimpleNamespace(active=True, callback=callback, device=self.names[device or 0])
        stream.start = stream.close = lambda: None
        stream.abort = lambda: setattr(stream, "active", False)
        self.opened.append(stream)
        return stream

    def block(self, frames=480):
        """Ask the newest stream for frames that leave the converter 30 ms later; return their peak."""
        out = np.zeros((frames, 1), np.float32)
        self.opened[-1].callback(out, frames, SimpleNamespace(outputBufferDacTime=0.03, currentTime=0.0), None)
        return np.abs(out).max()

    def unplug(self, *names):
        """Take the card away; these are listed from now on."""
        self.names = list(names)
        self.opened[-1].active = False


@pytest.fixture
def cards(monkeypatch):
    """A card that is found again within moments, and a loudspeaker."""
    found = Cards("Headphones: USB (hw:1,0)", "Loudspeaker: PCH (hw:0,0)")
    monkeypatch.setattr(sound_card, "import_sounddevice", lambda: found)
    monkeypatch.setattr(sound_card, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(sound_card, "_RETRY_SECONDS", 0.1)
    return found


@pytest.fixture
def sink(cards, tmp_path):
    """A sink on the first card; its sounds last half a second."""
    found = DeviceSink(tmp_path / "audio.tsv", AudioSettings(), [np.full(8000, 0.5, np.float32)] * 15)
    yield found
    found.close(0)


def comes_back(cards, sink):
    """Let the newest stream ask for frames until the sink says that its card is back; return the peaks."""
    peaks = []
    until(lambda: len(cards.opened) > 1, "it is opened again", 5)

    def back():
        peaks.append(cards.block())
        return [f["state"] for f in sink.take_faults()] == ["back"]

    until(back, "back", 5)
    return peaks


def test_what_waits_or_sounds_when_the_card_goes_is_over(cards, sink):
    sink.schedule(Cue(1, 0, 0, 500), time.perf_counter() + 0.02)
    assert cards.block() > 0.01  # it sounds, for half a second
    time.sleep(0.06)
    cards.block()  # what comes after its begin is asked for: it is out
    sink.schedule(Cue(2, 0, 0, 1000), time.perf_counter() + 30)
    cards.unplug()
    (fault,) = until(sink.take_faults, "the loss is noticed", 5)
    assert fault["state"] == "lost" and "Headphones" in fault["reason"]
    sink.advance(0)
    sounded, silent = sorted(sink.played(), key=lambda row: row["number"])
    assert sounded["number"] == 1 and sounded["dac"] is not None
    assert silent == {"number": 2, "dac": None, "reason": fault["reason"]}
    assert sink.cancel() == []
    cards.names = ["Headphones: USB (hw:1,0)"]
    assert max(comes_back(cards, sink)) == 0  # the rest of cue 1 is not played hours later
    sink.schedule(Cue(3, 0, 0, 1500), time.perf_counter() + 0.02)
    assert cards.block() > 0.01


def test_a_cue_counts_as_heard_once_the_card_asks_for_what_follows_it(cards, sink):
    """One is out, one is in the buffer of a card that goes, one in that of a card that stands still."""
    for number, (pause, reason) in enumerate(((0.05, None), (0.4, "stood still"), (None, "is gone")), start=1):
        sink.schedule(Cue(number, 0, 0, 500 * number), time.perf_counter() + 0.02)
        cards.block()
        sink.advance(0)
        assert sink.began(number) and sink.played() == []  # with the card; nothing says that it is out
        if pause is None:
            cards.unplug()
            until(sink.take_faults, "the loss is noticed", 5)
        else:
            time.sleep(pause)
            cards.block()
        sink.advance(0)
        (told,) = sink.played()
        assert told["number"] == number
        assert told["dac"] is not None if reason is None else reason in told["reason"]
        assert sink.began(number) is (reason is None)
        sink.silence()
    sink.schedule(Cue(9, 0, 0, 9000), time.perf_counter() + 30)
    assert sink.lost and sink.began(9) is False  # refused at once


@pytest.mark.parametrize("again", ["Headphones: USB (hw:1,0)", "Headphones: USB (hw:2,0)"])
def test_no_other_card_than_the_lost_one_is_opened(cards, sink, again):
    cards.unplug("Loudspeaker: PCH (hw:0,0)")  # number 0, and the default, is the loudspeaker now
    until(lambda: cards.lists > 3, "it looks for the card", 5)
    assert len(cards.opened) == 1 and sink.lost
    cards.names = ["Loudspeaker: PCH (hw:0,0)", again]
    comes_back(cards, sink)
    assert cards.opened[-1].device == again and sink.lost is None


def test_of_two_equal_cards_the_other_one_is_not_taken(cards, tmp_path):
    cards.names = ["Headphones: USB (hw:1,0)", "Headphones: USB (hw:2,0)"]
    sink = DeviceSink(tmp_path / "audio.tsv", AudioSettings(), [np.zeros(80, np.float32)] * 15)
    cards.unplug("Headphones: USB (hw:2,0)")
    until(lambda: cards.lists > 3, "it looks for the card", 5)
    sink.close(0)
    assert len(cards.opened) == 1


def test_a_lost_card_is_looked_for_now_and_then(cards, sink, monkeypatch):
    monkeypatch.setattr(sound_card, "_RETRY_SECONDS", 0.5)
    cards.unplug()
    until(lambda: cards.lists, "it looks for the card", 5)
    time.sleep(0.3)  # 15 looks at the stream
    assert cards.lists == 1
    until(lambda: cards.lists == 2, "it looks again", 5)


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """A sound server that PortAudio finds as the device "pulse"."""
    if (program := missing_program()) is not None:
        pytest.skip(f"{program} is not installed: make test-tools")
    sounddevice = pytest.importorskip("sounddevice", exc_type=OSError, reason="PortAudio: make test-tools")
    folder = tmp_path_factory.mktemp("pulse")
    folder.chmod(0o700)
    found = SoundServer(folder)
    monkeypatch.setenv("PULSE_SERVER", found.address)
    found.start()
    sounddevice._terminate()  # the devices are listed once, at initialisation
    sounddevice._initialize()
    if not any(d["name"] == "pulse" for d in sounddevice.query_devices()):
        found.kill()
        pytest.skip("ALSA does not know PulseAudio: make test-tools (libasound2-plugins)")
    yield found
    found.kill()


def sounding(path, level):
    """Return how many frames had this level."""
    return np.isclose(heard(path), level, rtol=1e-3).sum()


def test_cues_sound_at_their_level_and_the_device_may_vanish(server, tmp_path):
    settings = AudioSettings(sink="device", device="pulse", rate=RATE, volume_db=-20, max_db=-14)
    assert choose_sink(settings, 1)[0] == "device"
    sounds = [np.ones(RATE // 5, np.float32)] * 15
    monitor = server.hear(tmp_path / "ears")
    until(lambda: len(heard(tmp_path / "ears")) > 0, "the monitor records")
    sink = open_sink("device", settings, tmp_path, sounds)
    played = []

    def collect():
        sink.advance(0)
        played.extend(sink.played())
        return played

    try:
        asked = [time.perf_counter() + seconds for seconds in (2.5, 3.0, 3.5)]
        for number, (when, gain) in enumerate(zip(asked, (0.0, -6.0, 30.0), strict=True), start=1):
            sink.schedule(Cue(number, number, 0, number, gain_db=gain), when)
        sink.schedule(Cue(4, 4, 0, 4), asked[-1] + 3600)
        until(lambda: len(collect()) == 3, "three cues at the converter")
        assert [row["requested"] for row in played] == pytest.approx(asked, abs=1e-5)
        for row in played:  # never before its time; how much after depends on what else runs here
            assert row["late_ms"] == pytest.approx((row["dac"] - row["requested"]) * 1e3, abs=0.01)
            assert row["late_ms"] > -5
        levels = [10 ** (db / 20) for db in (-20, -26, -14)]  # the third one is held by the cap
        until(lambda: sounding(tmp_path / "ears", levels[2]) > 0.15 * RATE, "the third cue")
        server.kill()
        monitor.wait(30)
        (fault,) = until(sink.take_faults, "the loss is noticed")
        assert fault["state"] == "lost" and sink.lost
        assert sink.cancel() == []  # what waited was taken back when the device was lost
        assert collect()[3:] == [{"number": 4, "dac": None, "reason": fault["reason"]}]
        sink.schedule(Cue(5, 5, 0, 5), time.perf_counter() + 1)
        assert collect()[4:] == [{"number": 5, "dac": None, "reason": fault["reason"]}]
        server.start()
        (fault,) = until(sink.take_faults, "the return is noticed")
        assert fault["state"] == "back" and sink.lost is None
        sink.schedule(Cue(6, 6, 0, 6), time.perf_counter() + 0.5)
        assert until(lambda: collect()[5:], "a cue after the return")[0]["dac"] is not None
    finally:
        sink.close(0)
    # the cap, after the whole way through the system
    assert np.abs(heard(tmp_path / "ears")).max() <= levels[2] * 1.001
    for level in levels:
        assert sounding(tmp_path / "ears", level) > 0.15 * RATE
    rows = [line.split("\t") for line in (tmp_path / "audio.tsv").read_text().splitlines()]
    assert rows[0][:6] == ["cue", "item", "onset_sample", "requested_s", "dac_s", "late_ms"]
    assert [row[0] for row in rows[1:]] == list("123456") and rows[4][3] == rows[5][3] == "n/a"


def test_calibration_plays_through_the_same_device(server, tmp_path):
    settings = AudioSettings(sink="device", device="pulse", rate=RATE, max_db=-6)
    monitor = server.hear(tmp_path / "ears")
    until(lambda: len(heard(tmp_path / "ears")) > 0, "the monitor records")
    play_now(settings, np.ones(RATE // 5, np.float32), 0.0)
    until(lambda: (heard(tmp_path / "ears") > 0.4).sum() > 0.15 * RATE, "the sound")
    server.kill()
    monitor.wait(30)
    assert heard(tmp_path / "ears").max() == pytest.approx(10 ** (-6 / 20), rel=1e-3)
    assert "audio.device = 'pulse' cannot play" in (device_problem(settings) or "")


@pytest.mark.slow
def test_a_session_goes_on_without_its_device_and_uses_it_again(server, main, staged, tmp_path):
    live = Live(
        main, tmp_path, "--source", "simulate", "--speed", "1", *staged, "--set", "audio.sink=device",
        "--set", "audio.device=pulse",
    )  # fmt: skip

    def sounds(played, after=0):
        return lambda events: [
            e for e in named(events, "sound")
            if (e["detail"]["dac"] is not None) == played and e["sample"] > after
        ]  # fmt: skip

    live.until(sounds(True), 180, "a cue sounded")
    server.kill()
    live.until(lambda events: named(events, "fault", part="sound", state="lost"), 60, "the loss")
    (lost,) = live.until(lambda events: named(events, "no_sound", on=True), 5, "cueing stops")
    assert any("sound" in alarm["kind"] for alarm in live.state()["alarms"])
    server.start()
    back = live.until(lambda events: named(events, "no_sound", on=False), 60, "the return")
    live.until(sounds(True, back[0]["sample"]), 60, "a cue sounded again")
    assert sum(live.state()["cues"].values()) == len(sounds(True)(live.events()))
    live.stop()
    assert live.code == 0
    events = live.events()
    begun = {n for e in named(events, "begun") for n in e["detail"]["numbers"]}
    between = [e for e in named(events, "cue") if lost["sample"] < e["sample"] < back[0]["sample"]]
    assert all(e["detail"]["number"] in begun for e in between)
    summary = json.loads((live.folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["cues"]["total"] == len(sounds(True)(events))
