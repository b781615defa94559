"""A sound server whose only device is a null sink that can be listened to: a sound card for machines without one."""

import os
import shutil
import subprocess
import time

import numpy as np

RATE = 16000
"""Hz, of what the null sink is given."""
_PROGRAMS = ("pulseaudio", "pactl", "parec")
_SILENCE = 0.3
"""Seconds without sound before a sound begins anew."""


def missing_program():
    """Return the name of a program that is not installed (make test-tools), or None."""
    return next((name for name in _PROGRAMS if shutil.which(name) is None), None)


class SoundServer:
    """A PulseAudio of our own whose only device is a null sink.

    Parameters
    ----------
    folder : Path
        Of its socket; must be the user's own (mode 700).
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
        deadline = time.monotonic() + 60
        while subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "the sound server does not answer"
            time.sleep(0.05)

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


def heard(path):
    """Return the frames (n,) that the null sink was given."""
    data = path.read_bytes()
    return np.frombuffer(data[: len(data) // 4 * 4], np.float32)


def onsets(frames, rate):
    """Return when sounds begin, in s from the first of the frames (n,)."""
    loud = np.flatnonzero(np.abs(frames) > 1e-3)
    begins = np.diff(loud, prepend=-(10**9)) > _SILENCE * rate
    return loud[begins] / rate
