"""A sink and a port that this test registers: offered, set, opened and used by a session like our own."""

import json
from importlib.metadata import EntryPoint, EntryPoints
from typing import ClassVar

import pytest
import yaml

from sleep_interpreter.realtime.Output.marker_ports import MarkerPort
from sleep_interpreter.realtime.Output.sinks import SoundSink
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Recording.event_log import decisions, read_log, silent_cues
from sleep_interpreter.realtime.Utils.registries import MARKER_PORTS, SOUND_SINKS
from sleep_interpreter.utils.core import config, registry
from sleep_interpreter.utils.core.errors import UserError

from .conftest import of


class ListSink(SoundSink):
    """Keeps the numbers of the cues instead of playing them; inherits what it has no use for."""

    opened: ClassVar = []

    def __init__(self, volume_db):
        self.level, self.numbers = volume_db, []

    @classmethod
    def open(cls, settings, folder, sounds, origin=0):
        cls.opened.append(cls(settings.options["volume"]))
        return cls.opened[-1]

    @property
    def volume_db(self):
        return self.level

    def schedule(self, cue, when):
        self.numbers.append(cue.number)

    def cancel(self):
        return []

    def set_volume(self, db):
        self.level = db
        return db


class HastySink(ListSink):
    """Begins every cue as soon as it has it, before the cue's sample has come."""

    @classmethod
    def open(cls, settings, folder, sounds, origin=0):
        return cls(settings.volume_db)

    def began(self, number):
        return True

    def played(self):
        told, self.numbers = self.numbers, []
        return [{"number": number, "dac": 1.0} for number in told]


class ListPort(MarkerPort):
    """Keeps the codes instead of sending them."""

    name = "list"
    codes: ClassVar = []

    def __init__(self, options):
        self.shift = options["shift"]

    def open(self):
        self.codes.clear()

    def send(self, code, at):
        self.codes.append(code + self.shift)

    def close(self):
        pass


@pytest.fixture
def registered(monkeypatch):
    """Both, as another package's entry points."""
    points = EntryPoints(
        [
            EntryPoint("list", f"{__name__}:ListSink", SOUND_SINKS.group),
            EntryPoint("hasty", f"{__name__}:HastySink", SOUND_SINKS.group),
            EntryPoint("list", f"{__name__}:ListPort", MARKER_PORTS.group),
        ]
    )
    monkeypatch.setattr(registry, "entry_points", points.select)
    monkeypatch.setattr(EntryPoint, "load", lambda point: globals()[point.attr])
    ListSink.opened.clear()


def test_a_session_uses_a_sink_and_a_port_of_another_package(registered, session, recording, staged, main):
    chosen = ["--set", "audio.sink=list", "--set", "audio.options={volume: -33}",
              "--set", "markers.ports={list: {shift: 100}}"]  # fmt: skip
    result = session(recording, *staged, *chosen)
    cues = of(result, "cue")
    (sink,) = ListSink.opened
    assert cues and sink.numbers == [e["detail"]["number"] for e in cues]
    assert [code for code in ListPort.codes if code < 121] == [100 + e["code"] for e in cues]
    settings = yaml.safe_load((result.folder / "settings.yaml").read_text(encoding="utf-8"))
    assert settings["audio"]["options"] == {"volume": -33}
    dry = session(recording, *staged, *chosen, "--dry-run", "--stop", 5)
    settings = yaml.safe_load((dry.folder / "settings.yaml").read_text(encoding="utf-8"))
    assert settings["audio"]["sink"] == "null" and "ports" not in settings["markers"]
    assert main(["--recording", str(recording), *map(str, staged), *chosen, "--check"]) in (0, 3)


def test_a_cue_that_sounds_as_the_session_ends_is_logged_and_a_replay_logs_it_too(registered, staged, main, tmp_path):
    """One more sound was heard than the log had cues: samples come a block later than the sound."""
    words = ["--subject", "s1", "--source", "simulate", "--speed", "0", *staged, "--set", "audio.sink=hasty"]
    words += ["--set", "cues.interval_seconds=[2.5, 3]", "--set", "arousal.enabled=false"]

    def night(name, seconds):
        assert main([*words, "--out", str(tmp_path / name), "--stop", str(seconds)]) == 0
        return tmp_path / name / "s1" / "session_001"

    due = [e["sample"] for e in read_log(night("whole", 60) / "log.jsonl") if e["event"] == "cue"][2]
    folder = night("cut", (due - 15) / 500)  # it is decided 30 samples ahead
    events = read_log(folder / "log.jsonl")
    (stop,) = [e for e in events if e["event"] == "stop"]
    cues = [e for e in events if e["event"] == "cue"]
    assert cues[-1]["sample"] == due > stop["sample"] and len(cues) == 3
    assert silent_cues(events) == set()
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["cues"]["total"] == 3
    assert "3 cues" in (folder / "report.html").read_text(encoding="utf-8")
    assert main(["--session", str(folder), "--out", str(tmp_path / "again")]) == 0
    assert decisions(read_log(tmp_path / "again" / "s1" / "session_001" / "log.jsonl")) == decisions(events)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("audio.sink=fil", "did you mean 'file'? registered: file, device, null"),
        ("markers.ports={lpt: {}}", "unknown marker port 'lpt'; registered: lsl, serial, parallel"),
        ("markers.ports={serial: {port: x}}", "serial has settings of its own: markers.serial"),
    ],
)
def test_what_is_not_registered_is_refused_with_what_is(override, words):
    with pytest.raises(UserError) as refused:
        config.load(SessionSettings, "realtime", overrides=[override])
    assert words in str(refused.value)


def test_an_implementation_that_cannot_be_imported_is_refused():
    broken = registry.Registry("thing", "none", {"a": "no_such_module:A", "b": "json:no_such_name"})
    for name in broken.names():
        with pytest.raises(UserError, match=f"thing '{name}' cannot be loaded"):
            broken.load(name)
    broken.register("a", json.loads)
    assert broken.load("a") is json.loads
