"""A stager, source, sink or port of another package that is wrong: one sentence before a session begins."""

import sys

import pytest
from packages import package

from sleep_interpreter.realtime.Utils.registries import MARKER_PORTS, SOUND_SINKS, SOURCES
from sleep_interpreter.utils.core import errors
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.staging.registry import STAGERS

CHOSEN = {
    "stagers": ["--stager", "q"],
    "sources": ["--source", "q"],
    "sinks": ["--set", "audio.sink=q"],
    "ports": ["--set", "markers.ports={q: {}}"],
}
STAGER = """
class Part:
    def __init__(self, settings, present, restore): pass
    def warm_up(self): pass
    def update(self, window, end): pass
"""
SOURCE = """
from sleep_interpreter.realtime.Sources.source import Source
class Part(Source):
    where, notices = "q", []
    def __init__(self, settings): self.names = ["Fz"]
    def open(self, picks): pass
    def check_unit(self, rows, what="EEG", others_fit=False): return 20.0
    def chunks(self, stopped=lambda: False): return iter(())
"""
SINK = """
from sleep_interpreter.realtime.Output.sinks import NullSink
class Part(NullSink): pass
"""
PORT = """
class Part:
    name = "q"
    def __init__(self, settings): pass
    def open(self): pass
    def send(self, code, at): pass
    def close(self): pass
"""
PLAIN = "class Part: pass"


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Install a package with one part, called q."""
    errors.warn_once.cache_clear()
    monkeypatch.syspath_prepend(tmp_path / "site")

    def install(group, code, line="q = theirs:Part", name="theirs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        package(tmp_path / "site", {group: line}, code, name)

    yield install
    for name in ("theirs", "others"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("group", "code", "words"),
    [
        *((group, "def (", "SyntaxError: invalid syntax (theirs.py, line 1)") for group in CHOSEN),
        *((group, "foo()", "NameError: name 'foo' is not defined") for group in CHOSEN),
        *((group, "1 / 0", "ZeroDivisionError: division by zero") for group in CHOSEN),
        *((group, "import nowhere", "ModuleNotFoundError: No module named 'nowhere'") for group in CHOSEN),
        *((group, "", "AttributeError: module 'theirs' has no attribute 'Part'") for group in CHOSEN),
        *((group, "Part = 3", "it is 3, expected a class or function") for group in CHOSEN),
        ("stagers", PLAIN, "it lacks update, warm_up"),
        ("stagers", STAGER.replace("def warm_up", "def warm"), "it lacks warm_up ("),
        ("stagers", STAGER.replace("window, end", "window"), "update must take (window, end): too many positional"),
        ("stagers", STAGER.replace("present, restore", "present"), "TypeError: Part.__init__() takes 3 positional"),
        ("stagers", STAGER.replace("pass", "self.x", 1), "AttributeError: 'Part' object has no attribute 'x'"),
        ("stagers", "def Part(settings, present, restore): pass", "it lacks update, warm_up"),
        ("sources", PLAIN, "it lacks live, real_time, simulated, amplifier, takes_recording"),
        ("sources", "def Part(settings): pass", "for_session"),
        ("sources", "from sleep_interpreter.realtime.Sources.source import Source\nclass Part(Source): pass",
         "it lacks check_unit, chunks, open ("),
        ("sources", SOURCE.replace("others_fit", "fit"), "check_unit must take (rows, what, others_fit): got an unexp"),
        ("sources", SOURCE.replace("(self, settings)", "(self)"), "TypeError: Part.__init__() takes 1 positional"),
        ("sources", SOURCE.replace("self.names", "self.name"), "it lacks names ("),
        ("sinks", PLAIN, "it lacks confirms, open, unavailable, try_out, latency"),
        ("sinks", SINK.replace("NullSink", "SoundSink"), "it lacks cancel, open, schedule, set_volume, volume_db ("),
        ("sinks", SINK.replace("pass", "\n    def open(self, a, b, c, d=0): pass"), "open is no classmethod"),
        ("sinks", SINK.replace("pass", "schedule = None"), "schedule is None, expected a method"),
        ("sinks", SINK.replace("pass", "\n    def schedule(self, cue): pass"), "schedule must take (cue, when)"),
        ("ports", PLAIN, "it lacks open, send, close"),
        ("ports", PORT.replace("code, at", "code"), "send must take (code, at): too many positional arguments"),
        ("ports", PORT.replace("open(self)", "open(self, baud)"), "open must take (): missing a required argument"),
        ("ports", PORT.replace("send", "write"), "it lacks send ("),
    ],
)  # fmt: skip
def test_a_wrong_part_is_refused_before_the_session(group, code, words, theirs, main, recording, staged, tmp_path):
    theirs(group, code)
    given = [] if group == "sources" else ["--recording", str(recording)]
    flags = ["--subject", "s", "--out", str(tmp_path / "out"), *(() if group == "stagers" else staged)]
    with pytest.raises(UserError) as refused:
        main([*given, *flags, *CHOSEN[group], "--set", "workers=inline"])
    message = str(refused.value)
    assert words in message and " 'q' cannot be loaded: " in message and "\n" not in message, message
    assert message.endswith("(entry point 'theirs:Part' of package 'theirs': mend or uninstall it)")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("registry", "code"), [(STAGERS, STAGER), (SOURCES, SOURCE), (SOUND_SINKS, SINK), (MARKER_PORTS, PORT)]
)
def test_a_part_that_fits_is_taken(registry, code, theirs):
    theirs(registry.group.split(".")[1], code)
    assert registry.load("q").__name__ == "Part"


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
def test_what_ends_a_command_is_not_caught(error, theirs):
    theirs("stagers", f"raise {error}")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        STAGERS.load("q")


@pytest.mark.parametrize(
    ("registry", "name"),
    [(STAGERS, "yasa"), (SOURCES, "replay"), (SOUND_SINKS, "auto"), (SOUND_SINKS, "file"), (MARKER_PORTS, "lsl")],
)
def test_our_own_names_win_and_a_clash_is_said(registry, name, theirs, caplog):
    theirs(registry.group.split(".")[1], PLAIN, f"{name} = theirs:Part")
    assert registry.names().count(name) == (name != "auto")
    if name != "auto":
        assert registry.load(name).__module__.startswith("sleep_interpreter.")
    registry.names()
    (record,) = caplog.records
    assert record.levelname == "WARNING" and record.getMessage() == (
        f"WARNING: {registry.kind} {name!r} of entry point 'theirs:Part' of package 'theirs' is not used: the name is "
        "taken, rename it there"
    )


@pytest.mark.parametrize("registry", [STAGERS, SOURCES, SOUND_SINKS, MARKER_PORTS])
def test_a_name_of_two_packages_is_refused_with_both(registry, theirs):
    group = registry.group.split(".")[1]
    theirs(group, PLAIN)
    theirs(group, PLAIN, "q = others:Part", "others")
    with pytest.raises(UserError, match="2 packages have one of that name") as refused:
        registry.load("q")
    for name in ("theirs", "others"):
        assert f"entry point '{name}:Part' of package '{name}'" in str(refused.value)
