"""Keeping the machine awake, by real processes."""

import logging
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sleep_interpreter.realtime.Utils import keep_awake as module
from sleep_interpreter.realtime.Utils.keep_awake import prevent_sleep
from sleep_interpreter.utils.core.paths import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the programs of Linux")


class Clocks:
    """The clocks of a system that has been on for 1000 s, 300 of them asleep."""

    def __init__(self, **clocks):
        self.__dict__.update({name: name for name in clocks})
        self._clocks = clocks

    def clock_gettime(self, name):
        return self._clocks[name]


@pytest.mark.parametrize(
    ("clocks", "slept"),
    [
        ({"CLOCK_MONOTONIC": 700.0, "CLOCK_BOOTTIME": 1000.0, "CLOCK_MONOTONIC_RAW": 700.0}, 300.0),  # Linux
        ({"CLOCK_MONOTONIC": 1000.1, "CLOCK_UPTIME_RAW": 700.0, "CLOCK_MONOTONIC_RAW": 1000.0}, 300.0),  # macOS
        ({"CLOCK_MONOTONIC": 700.0}, 0.0),
    ],
)
def test_how_long_the_machine_slept_is_told_by_two_clocks_that_nobody_sets(monkeypatch, clocks, slept):
    monkeypatch.setattr(module, "time", Clocks(**clocks))
    assert module.slept_seconds() == slept


def test_windows_counts_its_sleep_too(monkeypatch):
    def unbiased(pointer):
        pointer._obj.value = 700 * 10**7
        return 1

    kernel = SimpleNamespace(QueryUnbiasedInterruptTime=unbiased, GetTickCount64=Ticks(1000 * 10**3))
    monkeypatch.setattr(module, "time", Clocks())
    monkeypatch.setattr(module.sys, "platform", "win32")
    monkeypatch.setattr(module.ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    assert module.slept_seconds() == 300.0


class Ticks:
    """A function of a library."""

    def __init__(self, value):
        self.value = value

    def __call__(self):
        return self.value


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program of the name systemd-inhibit in front, since containers have none that works."""

    def install(body):
        path = tmp_path / "bin" / "systemd-inhibit"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
        return path

    return install


SKIP = 'while [ "${1#--}" != "$1" ]; do shift; done'  # over the options, to the command


def test_the_hold_is_there_within_the_block_and_gone_after_it(program, tmp_path):
    program(f'echo $$ > {tmp_path}/pid; echo "$*" > {tmp_path}/words; {SKIP}; exec "$@"')
    with prevent_sleep() as how:
        assert how == "systemd-inhibit"
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 0)
        assert "--what=sleep:idle:handle-lid-switch" in (tmp_path / "words").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_refusal_is_said_and_is_no_error(program, caplog):
    program('echo "Failed to inhibit: Access denied" >&2; exit 1')
    with caplog.at_level(logging.WARNING), prevent_sleep() as how:
        assert how is None
    assert "Access denied" in caplog.text and "by hand" in caplog.text


def test_without_a_right_over_the_lid_sleep_is_held_back_all_the_same(program, tmp_path):
    program(f'case "$*" in *lid*) exit 1;; esac; echo "$*" > {tmp_path}/words; {SKIP}; exec "$@"')
    with prevent_sleep() as how:
        assert how == "systemd-inhibit" and "--what=sleep:idle " in (tmp_path / "words").read_text()


def test_a_system_that_does_not_answer_is_not_waited_for(program, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    program("exec sleep 60")
    with prevent_sleep() as how:
        assert how is None


def test_the_hold_ends_with_a_session_that_is_killed(program, tmp_path):
    program(f'echo $$ > {tmp_path}/pid; {SKIP}; exec "$@"')
    code = """
        import os, signal
        from sleep_interpreter.realtime.Utils.keep_awake import prevent_sleep
        with prevent_sleep() as how:
            assert how
            os.kill(os.getpid(), signal.SIGKILL)
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, timeout=60)
    assert done.returncode == -9
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            if "(cat) Z" in Path(f"/proc/{pid}/stat").read_text():
                return
        except OSError:
            return
        time.sleep(0.02)
    pytest.fail("the hold is still there")


def test_where_nothing_can_hold_it_says_so(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level(logging.WARNING), prevent_sleep() as how:
        assert how is None
    assert "switch off its sleep by hand" in caplog.text
    with prevent_sleep(wanted=False) as how:
        assert how is None
