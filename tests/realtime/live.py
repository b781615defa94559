"""A session on a real LSL stream: an outlet in a process of its own, the session in a thread of this one."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sleep_interpreter.realtime.Control.control_server import Client
from sleep_interpreter.utils.core.paths import ROOT

SESSION_ID = f"t{os.getpid()}"
"""LSL is configured once in a process: all tests of this one share a session id of their own."""


@contextmanager
def outlet(source_id, *arguments, session_id=SESSION_ID):
    """Run realtime/Setup/stand_in_amplifier.py; what is written to its `stdin` are commands."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sleep_interpreter.realtime.Setup.stand_in_amplifier",
         "--source-id", source_id, "--session-id", session_id,
         *map(str, arguments)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "streaming\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process, words):
    """Give an outlet a command."""
    process.stdin.write(words + "\n")
    process.stdin.flush()


def save_stream(path, data, names, rate=500.0):
    """Write what an outlet plays."""
    np.savez(path, data=np.asarray(data, np.float32), names=list(names), rate=rate)
    return path


class Live:
    """A session in a thread.

    Parameters
    ----------
    main : callable
        Of realtime/Main_Decode.py.
    out : Path
    arguments : sequence
    """

    def __init__(self, main, out, *arguments):
        self.code = self.error = None
        words = ["--out", str(out), "--subject", "s1", *map(str, arguments)]

        def run():
            try:
                self.code = main(words)
            except BaseException as error:
                self.error = error

        self.folder = Path(out) / "s1" / "session_001"
        self._thread = threading.Thread(target=run)
        self._thread.start()

    @property
    def alive(self):
        """Whether it runs."""
        return self._thread.is_alive()

    def events(self):
        """Return what is logged so far."""
        path = self.folder / "log.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def until(self, condition, seconds=40, what=""):
        """Wait until `condition(events)` holds, and return its value."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition(self.events()):
                return found
            if self.error is not None:
                raise self.error
            assert self._thread.is_alive(), f"the session ended before: {what}, code {self.code}"
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {what}; {self.events()[-3:]}")

    def ask(self, command, **args):
        """Ask the session over its socket."""
        return Client(self.folder, "test").ask(command, **args)

    def state(self, seconds=60):
        """Return its state, as soon as it answers: on a busy machine it may have no time for that at once."""
        deadline = time.monotonic() + seconds
        while not (answer := self.ask("status")).get("ok"):
            assert time.monotonic() < deadline and self.alive, answer
        return answer["state"]

    def stop(self):
        """End it by command, and wait."""
        self.ask("stop")
        self.join()

    def join(self, seconds=60):
        """Wait for the end."""
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


def named(events, kind, **detail):
    """Return the events of a kind whose details hold these values."""
    return [
        e for e in events
        if e["event"] == kind and all(e["detail"].get(key) == value for key, value in detail.items())
    ]  # fmt: skip
