"""Keys on a real pseudo-terminal, and what they must not do."""

import os
import sys
import time

import pytest

from sleep_interpreter.realtime.Control.keyboard import Keyboard, _Console
from sleep_interpreter.utils.core.paths import ROOT

posix = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")


@pytest.fixture
def keys():
    """A keyboard that reads from a pseudo-terminal: (type, requests, its terminal's handle)."""
    import pty

    far, near = pty.openpty()
    requests = []
    stream = os.fdopen(near, "r", closefd=False)
    keyboard = Keyboard(lambda r: requests.append((r.command, r.args, r.origin)) or True, stream)
    assert keyboard.start()

    def press(text, expected):
        os.write(far, text.encode())
        end = time.monotonic() + 5
        while len(requests) < expected and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(requests) == expected, requests

    yield press, requests, near
    keyboard.close()
    stream.close()
    os.close(far)
    os.close(near)


@posix
def test_keys_become_requests(keys):
    press, requests, _ = keys
    press("pR+-mgs", 7)
    assert [r[0] for r in requests] == ["pause", "resume", "volume", "volume", "mark", "group", "status"]
    assert requests[2][1] == {"change_db": 1.0} and requests[3][1] == {"change_db": -1.0}
    assert {r[2] for r in requests} == {"keyboard"}


@posix
def test_a_key_that_is_held_or_leant_on_does_not_end_the_session(keys):
    press, requests, _ = keys
    press("qqqqqqqq", 0)
    press("xy", 0)
    press("y", 0)
    press("q", 0)
    press("y", 1)
    assert requests[0][0] == "stop"


@posix
@pytest.mark.parametrize("sent", ["\x1bOP", "\x1bOQ", "\x1bOS", "\x1b[A", "\x1b[15~"])
def test_function_keys_are_no_letters(keys, sent):
    press, _, _ = keys
    press(sent, 0)
    press("p", 1)


@posix
def test_the_terminal_can_neither_stop_nor_freeze_the_session_and_is_given_back():
    import pty
    import termios

    far, near = pty.openpty()
    before = termios.tcgetattr(near)
    with os.fdopen(near, "r", closefd=False) as stream:
        keyboard = Keyboard(lambda request: True, stream)
        assert keyboard.start()
        now = termios.tcgetattr(near)
        assert not now[3] & termios.ICANON and not now[3] & termios.ECHO
        assert now[3] & termios.ISIG, "Ctrl-C stays a signal"
        assert not now[0] & termios.IXON, "Ctrl-S would hold up everything that is logged to the screen"
        assert now[6][termios.VSUSP] == bytes([os.fpathconf(near, "PC_VDISABLE")])
        keyboard.close()
        assert termios.tcgetattr(near) == before
    os.close(far)
    os.close(near)


@posix
def test_a_terminal_that_is_closed_ends_the_keyboard_only():
    import pty

    far, near = pty.openpty()
    stream = os.fdopen(near, "r", closefd=False)
    keyboard = Keyboard(lambda request: True, stream)
    assert keyboard.start()
    os.close(far)
    keyboard._thread.join(5)
    assert not keyboard._thread.is_alive()
    keyboard.close()
    stream.close()
    os.close(near)


def test_without_a_terminal_there_is_no_keyboard(tmp_path):
    (tmp_path / "file").touch()
    with (tmp_path / "file").open() as stream:
        assert Keyboard(lambda request: True, stream).start() is False


CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from sleep_interpreter.realtime.Control.keyboard import Keyboard
print("reading", Keyboard(lambda r: True).start(), flush=True)
"""
SHELL = """
import subprocess, sys
child = subprocess.Popen([sys.executable, *sys.argv[1:]], process_group=0)  # as a shell's "&" does
print("ended with", child.wait(20), flush=True)
"""


@posix
def test_a_session_in_the_background_is_not_stopped_by_its_terminal(tmp_path):
    """The kernel stops a process in the background that touches its terminal: a night would stand still."""
    import pty
    import signal

    child, shell = tmp_path / "child.py", tmp_path / "shell.py"
    child.write_text(CHILD, encoding="utf-8")
    shell.write_text(SHELL, encoding="utf-8")
    pid, handle = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, str(shell), str(child), str(ROOT)])
    said, end = b"", time.monotonic() + 15
    try:
        while b"ended with 0" not in said and time.monotonic() < end:
            said += os.read(handle, 1000)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(handle)
    assert b"reading False" in said and b"ended with 0" in said


def test_arrow_keys_of_windows_are_no_letters():
    """Windows' console gives a prefix and a letter; the real one is not to be had here."""

    class Keys:
        def __init__(self):
            self.waiting = ["\xe0", "P", "\x00", "S", "p"]

        def kbhit(self):
            return bool(self.waiting)

        def getwch(self):
            return self.waiting.pop(0)

    console = _Console()
    console._keys = Keys()
    assert [console.keys(0.01) for _ in range(4)] == ["", "", "p", ""]
