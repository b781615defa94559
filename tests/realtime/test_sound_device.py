"""Cues through real PortAudio into a sound server's null sink: times, level, and a device that vanishes."""

import os
import shutil
import subprocess
import time

import numpy as np
import pytest

from realtime.Parameters.output import AudioSettings
from realtime.Utils.audio import choose_sink, open_sink, play_now
from realtime.Utils.cues import Cue
from realtime.Utils.player import available

from .live import Live, named

RATE = 16000


class Server:
    """A PulseAudio of our own whose only device is a null sink.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder):
        self.address = f"unix:{folder}/native"
        self._folder = folder
        self._socket = folder / "native"
        self._process = None
        names = ("HOME", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH")
        self.environment = {**os.environ, **dict.fromkeys(names, str(folder)), "PULSE_SERVER": self.address}

    def start(self):
        """Begin, and wait until it answers."""
        environment = {k: v for k, v in self.environment.items() if k != "PULSE_SERVER"}
        self._process = subprocess.Popen(
            ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no",
             "--log-level=error", "-L", f"module-null-sink sink_name=ears rate={RATE} channels=1",
             "-L", f"module-native-protocol-unix auth-anonymous=1 socket={self._socket}"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        ask = ["pactl", "info"]
        until(
            lambda: subprocess.run(ask, env=self.environment, capture_output=True).returncode == 0, "server"
        )

    def kill(self):
        """End it as a cable that is pulled."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._socket.unlink(missing_ok=True)

    def hear(self, path):
        """Record what the null sink is given, as float32 mono, until the process is ended."""
        with path.open("wb") as file:
            return subprocess.Popen(
                ["parec", "--raw", "-d", "ears.monitor", "--format=float32le", f"--rate={RATE}",
                 "--channels=1", "--latency-msec=20"],
                env=self.environment, stdout=file, stderr=subprocess.DEVNULL,
            )  # fmt: skip


def until(condition, what, seconds=60):
    """Wait until `condition()` is true, and return its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return found


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """A sound server that PortAudio finds as the device "pulse"."""
    for program in ("pulseaudio", "pactl", "parec"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: make test-tools")
    sounddevice = pytest.importorskip("sounddevice", exc_type=OSError, reason="PortAudio: make test-tools")
    folder = tmp_path_factory.mktemp("pulse")
    folder.chmod(0o700)
    found = Server(folder)
    monkeypatch.setenv("PULSE_SERVER", found.address)
    found.start()
    sounddevice._terminate()  # the devices are listed once, at initialisation
    sounddevice._initialize()
    if not any(d["name"] == "pulse" for d in sounddevice.query_devices()):
        found.kill()
        pytest.skip("ALSA does not know PulseAudio: make test-tools (libasound2-plugins)")
    yield found
    found.kill()


def heard(path):
    """Return the frames that the null sink was given."""
    data = path.read_bytes()
    return np.frombuffer(data[: len(data) // 4 * 4], np.float32)


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
        sink.schedule(Cue(5, 5, 0, 5), time.perf_counter() + 1)
        assert collect()[3:] == [{"number": 5, "dac": None, "reason": fault["reason"]}]
        server.start()
        (fault,) = until(sink.take_faults, "the return is noticed")
        assert fault["state"] == "back" and sink.lost is None
        sink.schedule(Cue(6, 6, 0, 6), time.perf_counter() + 0.5)
        assert until(lambda: collect()[4:], "a cue after the return")[0]["dac"] is not None
    finally:
        sink.close(0)
    # the cap, after the whole way through the system
    assert np.abs(heard(tmp_path / "ears")).max() <= levels[2] * 1.001
    for level in levels:
        assert sounding(tmp_path / "ears", level) > 0.15 * RATE
    rows = [line.split("\t") for line in (tmp_path / "audio.tsv").read_text().splitlines()]
    assert rows[0][:6] == ["cue", "item", "onset_sample", "requested_s", "dac_s", "late_ms"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "3", "5", "6"] and rows[4][3] == "n/a"


def test_calibration_plays_through_the_same_device(server, tmp_path):
    settings = AudioSettings(sink="device", device="pulse", rate=RATE, max_db=-6)
    monitor = server.hear(tmp_path / "ears")
    until(lambda: len(heard(tmp_path / "ears")) > 0, "the monitor records")
    play_now(settings, np.ones(RATE // 5, np.float32), 0.0)
    until(lambda: (heard(tmp_path / "ears") > 0.4).sum() > 0.15 * RATE, "the sound")
    server.kill()
    monitor.wait(30)
    assert heard(tmp_path / "ears").max() == pytest.approx(10 ** (-6 / 20), rel=1e-3)
    assert "audio.device = 'pulse' cannot play" in (available(settings) or "")


@pytest.mark.slow
def test_a_session_goes_on_without_its_device_and_uses_it_again(server, main, staged, tmp_path):
    live = Live(
        main, tmp_path, "--source", "simulate", "--speed", "1", *staged, "--set", "audio.sink=device",
        "--set", "audio.device=pulse", "--set", "control.keyboard=false",
    )  # fmt: skip

    def sounds(played, after=0):
        return lambda events: [
            e for e in named(events, "sound")
            if (e["detail"]["dac"] is not None) == played and e["sample"] > after
        ]  # fmt: skip

    live.until(sounds(True), 180, "a cue sounded")
    server.kill()
    live.until(lambda events: named(events, "fault", part="sound", state="lost"), 60, "the loss")
    live.until(sounds(False), 60, "a cue that did not sound")
    server.start()
    back = live.until(lambda events: named(events, "fault", part="sound", state="back"), 60, "the return")
    live.until(sounds(True, back[0]["sample"]), 60, "a cue sounded again")
    live.stop()
    assert live.code == 0
