"""A terminal that takes nothing, or is gone, holds up nobody; one that does gets everything, in order."""

import io
import logging
import os
import sys
import threading
import time

import pytest

from sleep_interpreter.realtime.Utils import terminal as screen_module
from sleep_interpreter.realtime.Utils.terminal import TerminalWriter, progress_bar

from .live import Live, named

pytest.importorskip("termios")


class Terminal:
    """A pseudo-terminal that is the process's standard error, and the root logger's too."""

    def __init__(self):
        self._master, slave = os.openpty()
        self._name, self._taken = os.ttyname(slave), bytearray()
        self.stream = os.fdopen(slave, "w", buffering=1, encoding="utf-8")
        self._thread = threading.Thread(target=self._read, daemon=True)

    def attach(self, monkeypatch):
        """Make it standard error; within a test, since pytest sets that anew before it."""
        monkeypatch.setattr(sys, "stderr", self.stream)

    def fill(self):
        """Write until it takes no more: whoever writes to it from now on waits."""
        handle = os.open(self._name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            while True:
                os.write(handle, b".")
        except BlockingIOError:
            os.close(handle)

    def read(self):
        """Take its output from now on."""
        if not self._thread.is_alive():
            self._thread.start()

    def hang_up(self):
        """Close its other end."""
        os.close(self._master)
        self._master = None

    def close(self):
        """Take the rest, so that nobody waits for it for ever, and be gone."""
        if self._master is None:
            self.stream.close()
            return
        self.read()
        self.stream.close()
        self._thread.join(5)
        os.close(self._master)

    def text(self, end, seconds=10):
        """Return the output once it holds `end`."""
        deadline = time.monotonic() + seconds
        while end not in (found := self._taken.decode(errors="replace")):
            assert time.monotonic() < deadline, found[-500:]
            time.sleep(0.01)
        return found

    def _read(self):
        try:
            while data := os.read(self._master, 4096):
                self._taken += data
        except OSError:
            return


@pytest.fixture
def terminal(monkeypatch):
    made = Terminal()
    handler, root = logging.StreamHandler(made.stream), logging.getLogger()
    monkeypatch.setattr(root, "level", logging.INFO)
    root.addHandler(handler)
    made.handler = handler
    yield made
    root.removeHandler(handler)
    made.close()


def test_a_session_goes_on_while_its_terminal_takes_nothing(main, staged, terminal, monkeypatch, tmp_path):
    terminal.attach(monkeypatch)
    live = Live(main, tmp_path, "--source", "simulate", "--speed", "1", *staged, "--set", "audio.sink=file",
                "--set", "workers=inline", "--set", 'source.simulate.stage="N3"')  # fmt: skip
    try:
        live.until(lambda e: live.folder.joinpath("control.json").exists(), what="a beginning")
        live.until(lambda e: live.state()["sample"] > 250, what="half a second")
        terminal.fill()
        time.sleep(1.5)  # the bar has been drawn since
        assert live.ask("pause")["ok"]
        before = live.state(5)["sample"]
        live.until(lambda e: live.state(5)["sample"] > before + 500, 10, "another second")
        assert live.ask("mark", text="here")["ok"] and named(live.events(), "command", command="mark")
    finally:
        terminal.read()
    live.stop()
    shown = terminal.text("written to ")
    assert live.code == 0 and terminal.handler.stream is sys.stderr is terminal.stream
    places = [shown.index(words) for words in ("session folder", "paused", "stopped by the operator", "written to")]
    assert places == sorted(places)


def test_what_does_not_fit_is_dropped_and_the_rest_comes_in_order(terminal, monkeypatch):
    monkeypatch.setattr(screen_module, "_MOST_WAITING", 50)
    terminal.attach(monkeypatch)
    terminal.fill()
    began = time.monotonic()
    with progress_bar(True, 100.0) as bar:
        for number in range(200):
            logging.getLogger("night").info("line %03d", number)
            bar.update(0.5)
        sys.stderr.write("printed\n")
        assert time.monotonic() - began < 1
        terminal.read()
        terminal.text("messages were not shown")
        logging.getLogger("night").info("the end")
    logging.getLogger("night").info("after it")
    shown = terminal.text("after it")
    numbers = [int(line[5:]) for line in shown.replace("\r", "\n").split("\n") if line.startswith("line ")]
    assert 50 <= len(numbers) <= 52 and numbers == list(range(len(numbers)))
    assert shown.index("the end") < shown.rindex("100%") < shown.index("after it")


def test_a_terminal_that_still_hangs_at_the_end_holds_up_neither_report_nor_exit(terminal, monkeypatch):
    monkeypatch.setattr(screen_module, "_PATIENCE", 0.2)
    registered = []
    monkeypatch.setattr(screen_module.atexit, "register", registered.append)
    terminal.attach(monkeypatch)
    terminal.fill()
    began = time.monotonic()
    with progress_bar(True, None):
        logging.getLogger("night").info("before the end")
    logging.getLogger("night").info("the report is written")
    assert time.monotonic() - began < 2
    terminal.read()
    (drain,) = registered
    assert drain()
    shown = terminal.text("the report is written")
    assert shown.index("before the end") < shown.index("the report is written")
    sys.stderr.end()


def test_a_terminal_that_is_gone_is_no_error(terminal, monkeypatch, capfd):
    terminal.attach(monkeypatch)
    with progress_bar(True, None) as bar:
        terminal.hang_up()
        for _ in range(3):
            logging.getLogger("night").info("said to nobody")
            bar.update(1)
            time.sleep(0.1)
    assert "Error" not in capfd.readouterr().err


def test_a_file_gets_what_is_logged_and_no_bar(monkeypatch):
    file = io.StringIO()
    screen = TerminalWriter(file)
    monkeypatch.setattr(sys, "stderr", file)
    screen.begin()
    screen.update(1.0)
    sys.stderr.write("one ")
    sys.stderr.write("two\n")
    screen.end()
    assert file.getvalue() == "one two\n" and sys.stderr is file
    screen.write("kept\n")
    assert file.getvalue() == "one two\nkept\n"
