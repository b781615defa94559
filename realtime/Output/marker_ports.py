"""Where markers go: a hub that gives every code to each port, at its time, without anybody waiting.

Each port has a thread of its own that waits for a code's time, sends it, and resets the lines after the
pulse. A port that fails is said to be lost and opened again; the others go on. What was sent when is in
ports.tsv.
"""

import logging
import queue
import threading
import time
from collections import deque

logger = logging.getLogger(__name__)

_SPIN = 0.0015
"""Seconds before a code's time from which its thread no longer sleeps: a sleep may end late."""
_AGAIN = 1.0
"""Seconds between two attempts to open a port that is lost."""


class LslPort:
    """A marker stream of the Lab Streaming Layer, stamped with the code's own time.

    Parameters
    ----------
    settings : MarkerSettings
    """

    name = "lsl"

    def __init__(self, settings):
        self._settings = settings
        self._text = settings.format == "string"

    def open(self):
        """Make the stream."""
        from mne_lsl.lsl import StreamInfo, StreamOutlet, local_clock

        from sleep_interpreter.realtime.Utils.liblsl import configure

        settings = self._settings
        configure(settings.loopback, settings.session_id)
        self._clock = local_clock
        info = StreamInfo(settings.name, "Markers", 1, 0.0, settings.format, settings.source_id)
        info.set_channel_names(["marker"])
        self._outlet = StreamOutlet(info)
        logger.info("markers go out on the LSL stream %r (%s)", settings.name, settings.format)

    def send(self, code, at):
        """Push a code, stamped with `at` (perf_counter)."""
        import numpy as np

        value = [str(code)] if self._text else np.array([code], np.int32)
        self._outlet.push_sample(value, timestamp=self._clock() - (time.perf_counter() - at))

    def close(self):
        """Close the stream; receivers see it end."""
        self._outlet = None


class SerialPort:
    """A serial port, or a trigger box that is one: the code as a byte, then 0 after the pulse.

    Parameters
    ----------
    settings : SerialSettings
    """

    name = "serial"

    def __init__(self, settings):
        self._settings = settings

    def open(self):
        """Open the port."""
        import serial

        settings = self._settings
        self._port = serial.serial_for_url(settings.port, settings.baud, write_timeout=0.2)
        if settings.reset:
            self._port.write(b"\0")

    def send(self, code, at):
        """Write the byte."""
        self._port.write(bytes([code]))
        if self._settings.reset:
            time.sleep(self._settings.pulse_seconds)
            self._port.write(b"\0")

    def close(self):
        """Close the port."""
        self._port.close()


class ParallelPort:
    """A parallel port's data lines: /dev/parportN on Linux, an address through inpoutx64.dll on Windows.

    Parameters
    ----------
    settings : ParallelSettings
    """

    name = "parallel"

    def __init__(self, settings):
        self._settings = settings
        self._write = None

    def open(self):
        """Claim the port."""
        import sys

        self._write = self._on_windows() if sys.platform == "win32" else self._on_linux()
        self._write(0)

    def send(self, code, at):
        """Set the lines, and reset them after the pulse."""
        self._write(code)
        time.sleep(self._settings.pulse_seconds)
        self._write(0)

    def close(self):
        """Release the port."""
        if self._write is not None:
            self._write(0)

    def _on_linux(self):
        import fcntl
        import os

        # Linux' ppdev: claim the port once, then one ioctl a byte (linux/ppdev.h)
        claim, write_data = 0x708B, 0x40017086
        self._handle = os.open(self._settings.port, os.O_RDWR)
        fcntl.ioctl(self._handle, claim)
        return lambda code: fcntl.ioctl(self._handle, write_data, bytes([code]))

    def _on_windows(self):
        import ctypes

        library = ctypes.WinDLL(self._settings.library)
        address = int(self._settings.port, 16)
        return lambda code: library.Out32(address, code)


class Ports:
    """Send codes to every port.

    Parameters
    ----------
    ports : sequence
        Of objects with `name`, `open()`, `send(code, at)` and `close()`; `send` may wait for its pulse.
    path : Path | None
        Table of what was sent (ports.tsv).
    """

    def __init__(self, ports, path=None):
        self._faults = deque()
        self._table = None if path is None else path.open("a", encoding="utf-8")
        if self._table is not None and self._table.tell() == 0:
            self._table.write("port\tcode\trequested_s\tsent_s\tlate_ms\tok\n")
        self._lock = threading.Lock()
        self._lines = [_Line(port, self._faults, self._note) for port in ports]

    @property
    def names(self):
        """Return the ports' names."""
        return [line.port.name for line in self._lines]

    def send(self, code, at=None, cue=None):
        """Send a code to every port.

        Parameters
        ----------
        code : int
            1 to 255.
        at : float | None
            `time.perf_counter` time; None = now.
        cue : int | None
            Number of the cue, or sham, whose onset it marks: it can be taken back by that.

        Raises
        ------
        ValueError
            The code is no byte, or 0.
        """
        if not 1 <= code <= 255:
            raise ValueError(f"marker {code}: a code is a byte from 1 to 255")
        at = time.perf_counter() if at is None else at
        for line in self._lines:
            line.put(code, at, cue)

    def cancel(self, cues):
        """Take back the codes of these cues (numbers) that have not been sent."""
        for line in self._lines:
            line.cancel(cues)

    def take_faults(self):
        """Return [{"state", "reason"}] since the last call."""
        found = []
        while self._faults:
            found.append(self._faults.popleft())
        return found

    def close(self):
        """Send what is due, then close every port."""
        for line in self._lines:
            line.close()
        if self._table is not None:
            self._table.close()

    def _note(self, name, code, at, sent, ok):
        if self._table is None:
            return
        row = f"{name}\t{code}\t{at:.6f}\t{sent:.6f}\t{(sent - at) * 1e3:.3f}\t{'yes' if ok else 'no'}\n"
        with self._lock:
            try:
                self._table.write(row)
                self._table.flush()
            except (OSError, ValueError) as error:  # a full disk; the log has the codes all the same
                logger.debug("ports.tsv: %s", error)


class _Line:
    """One port and the thread that serves it."""

    def __init__(self, port, faults, note):
        self.port, self._faults, self._note = port, faults, note
        self._codes = queue.PriorityQueue()
        self._count = 0
        self._taken_back = set()
        self._there = False
        self._news = threading.Condition()
        self._closing = False
        port.open()  # the first time in the caller's thread: what is wrong is refused before the night
        self._there = True
        self._thread = threading.Thread(target=self._serve, name=f"port {port.name}", daemon=True)
        self._thread.start()

    def put(self, code, at, cue):
        with self._news:
            self._count += 1
            self._codes.put((at, self._count, code, cue))
            self._news.notify()

    def cancel(self, cues):
        with self._news:
            self._taken_back.update(cues)
            self._news.notify()

    def close(self):
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join(2)
        if self._there:
            try:
                self.port.close()
            except Exception as error:  # a port that is gone cannot be closed either
                logger.debug("closing port %s: %s", self.port.name, error)

    def _serve(self):
        while (entry := self._next()) is not None:
            at, _, code, cue = entry
            while (left := at - time.perf_counter()) > 0:
                if left > _SPIN:
                    time.sleep(left - _SPIN)
            if cue not in self._taken_back:
                self._send(code, at)

    def _next(self):
        """Wait until the first code is nearly due, and return it; None at the end."""
        with self._news:
            while True:
                while self._codes.queue and self._codes.queue[0][3] in self._taken_back:
                    self._taken_back.discard(self._codes.get()[3])
                if self._codes.queue:
                    left = self._codes.queue[0][0] - time.perf_counter() - 2 * _SPIN
                    if left <= 0:
                        return self._codes.get()
                    if self._closing:  # what lies ahead belongs to cues that will not sound
                        return None
                    self._news.wait(left)
                elif self._closing:
                    return None
                else:
                    self._news.wait()

    def _send(self, code, at):
        sent = time.perf_counter()
        if not self._there and not self._open():
            self._note(self.port.name, code, at, sent, False)
            return
        try:
            self.port.send(code, at)
        except Exception as error:  # whatever a driver raises: the night goes on
            self._there, self._lost_at = False, sent
            text = f"{self.port.name}: code {code} was not sent: {' '.join(str(error).split())[:200]}"
            self._faults.append({"state": "lost", "reason": text})
            self._note(self.port.name, code, at, sent, False)
        else:
            self._note(self.port.name, code, at, sent, True)

    def _open(self):
        if time.perf_counter() - self._lost_at < _AGAIN:
            return False
        try:
            self.port.close()
        except Exception as error:
            logger.debug("closing port %s: %s", self.port.name, error)
        try:
            self.port.open()
        except Exception as error:
            logger.debug("opening port %s: %s", self.port.name, error)
            self._lost_at = time.perf_counter()
            return False
        self._there = True
        self._faults.append({"state": "back", "reason": f"{self.port.name} is there again"})
        return True


def open_ports(settings, folder=None):
    """Open the ports that the settings name; None where there is none.

    Parameters
    ----------
    settings : MarkerSettings
    folder : Path | None
        Of the session, for ports.tsv.

    Raises
    ------
    UserError
        A port cannot be opened, or its package is not installed.
    """
    from sleep_interpreter.utils.core.errors import UserError

    chosen = []
    if settings.lsl:
        chosen.append(LslPort(settings))
    if settings.serial is not None:
        chosen.append(SerialPort(settings.serial))
    if settings.parallel is not None:
        chosen.append(ParallelPort(settings.parallel))
    if not chosen:
        return None
    try:
        return Ports(chosen, None if folder is None else folder / "ports.tsv")
    except ImportError as error:
        raise UserError(f"markers: {error}; pip install -e '.[realtime]'") from error
    except Exception as error:  # each driver has errors of its own
        names = ", ".join(port.name for port in chosen)
        raise UserError(
            f"markers ({names}): {type(error).__name__}: {error}; see markers in the settings"
        ) from error
