"""Where markers go: a hub that gives every code to each port, at its time, without anybody waiting.

Each port has a thread of its own that waits for a code's time, sends it, and resets the lines after the pulse. A port
that fails is said to be lost and opened again; the others go on. What was sent when is in ports.tsv.

A new port is a class as `MarkerPort` says, which is made with its settings, and a line in `MARKER_PORTS`
(realtime/Utils/registries.py), or an entry point `sleep_interpreter.ports` of another package.
"""

import logging
import os
import queue
import sys
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sleep_interpreter.realtime.Parameters.output import MarkerSettings, ParallelSettings, SerialSettings
from sleep_interpreter.realtime.Utils.liblsl import configure
from sleep_interpreter.realtime.Utils.registries import MARKER_PORTS
from sleep_interpreter.utils.core.errors import UserError

logger = logging.getLogger(__name__)

_SPIN = 0.0015
"""Seconds before a code's time from which its thread no longer sleeps: a sleep may end late."""
_RETRY_SECONDS = 1.0
"""Between two attempts to open a port that is lost."""


class MarkerPort(Protocol):
    """Where codes go; it may raise whatever its driver raises."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For messages and ports.tsv."""

    @abstractmethod
    def open(self) -> None:
        """Open the port; it may have been open and lost."""

    @abstractmethod
    def send(self, code: int, at: float) -> None:
        """Send a code, due at this `time.perf_counter` time, and wait until its pulse is over."""

    @abstractmethod
    def close(self) -> None:
        """Close the port."""


class LslPort:
    """A marker stream of the Lab Streaming Layer, stamped with the code's own time."""

    name = "lsl"

    def __init__(self, settings: MarkerSettings) -> None:
        self._settings = settings
        self._text = settings.format == "string"

    def open(self) -> None:
        from mne_lsl.lsl import StreamInfo, StreamOutlet, local_clock  # lazy: optional dependency

        settings = self._settings
        configure(settings.loopback, settings.session_id)
        self._clock = local_clock
        info = StreamInfo(settings.name, "Markers", 1, 0.0, settings.format, settings.source_id)
        info.set_channel_names(["marker"])
        self._outlet = StreamOutlet(info)
        logger.info("markers go out on the LSL stream %r (%s)", settings.name, settings.format)

    def send(self, code: int, at: float) -> None:
        value = [str(code)] if self._text else np.array([code], np.int32)
        self._outlet.push_sample(value, timestamp=self._clock() - (time.perf_counter() - at))

    def close(self) -> None:
        self._outlet = None


class SerialPort:
    """A serial port, or a trigger box that is one: the code as a byte, then 0 after the pulse."""

    name = "serial"

    def __init__(self, settings: SerialSettings) -> None:
        self._settings = settings

    def open(self) -> None:
        import serial  # lazy: optional dependency

        settings = self._settings
        self._port = serial.serial_for_url(settings.port, settings.baud, write_timeout=0.2)
        if settings.reset:
            self._port.write(b"\0")

    def send(self, code: int, at: float) -> None:
        self._port.write(bytes([code]))
        if self._settings.reset:
            time.sleep(self._settings.pulse_seconds)
            self._port.write(b"\0")

    def close(self) -> None:
        self._port.close()


class ParallelPort:
    """A parallel port's data lines: /dev/parportN on Linux, an address through inpoutx64.dll on Windows."""

    name = "parallel"

    def __init__(self, settings: ParallelSettings) -> None:
        self._settings = settings
        self._write: Callable[[int], Any] | None = None

    def open(self) -> None:
        write = self._on_windows() if sys.platform == "win32" else self._on_linux()
        write(0)
        self._write = write

    def send(self, code: int, at: float) -> None:
        assert self._write is not None, "the port is open"
        self._write(code)
        time.sleep(self._settings.pulse_seconds)
        self._write(0)

    def close(self) -> None:
        if self._write is not None:
            self._write(0)

    def _on_linux(self) -> Callable[[int], Any]:
        import fcntl  # lazy: not on Windows

        # Linux' ppdev: claim the port once, then one ioctl a byte (linux/ppdev.h)
        claim, write_data = 0x708B, 0x40017086
        self._handle = os.open(self._settings.port, os.O_RDWR)
        fcntl.ioctl(self._handle, claim)
        return lambda code: fcntl.ioctl(self._handle, write_data, bytes([code]))

    def _on_windows(self) -> Callable[[int], Any]:
        import ctypes  # lazy: start-up

        library = ctypes.WinDLL(self._settings.library)  # type: ignore[attr-defined]  # on Windows
        address = int(self._settings.port, 16)
        return lambda code: library.Out32(address, code)


Began = Callable[[], bool | None]
"""Tells whether a cue sounds, None while that is open."""


class MarkerHub:
    """Send codes to every port; `path` is the table of what was sent (ports.tsv).

    For a cue that is not with the sound card at its time a code waits `late` seconds, since it sounds that late at
    most.
    """

    def __init__(self, ports: Sequence[MarkerPort], path: Path | None = None, late: float = 0.05) -> None:
        self._faults: deque[dict[str, str]] = deque()
        self._table = None if path is None else path.open("a", encoding="utf-8")
        if self._table is not None and self._table.tell() == 0:
            self._table.write("port\tcode\trequested_s\tsent_s\tlate_ms\tok\n")
        self._lock = threading.Lock()
        self._threads = [_PortThread(port, self._faults, self._write_row, late) for port in ports]

    @property
    def names(self) -> list[str]:
        """Return the ports' names."""
        return [thread.port.name for thread in self._threads]

    def send(self, code: int, at: float | None = None, cue: int | None = None, began: Began | None = None) -> None:
        """Send a code, 1 to 255 or it is a `ValueError`, to every port at a `time.perf_counter` time; None = now.

        `cue`: number of the cue, or sham, whose onset it marks: it can be taken back by that. `began`: it goes out only
        if the cue sounds.
        """
        if not 1 <= code <= 255:
            raise ValueError(f"marker {code}: a code is a byte from 1 to 255")
        at = time.perf_counter() if at is None else at
        for thread in self._threads:
            thread.put(code, at, cue, began)

    def cancel(self, cues: Collection[int]) -> None:
        """Take back the codes of these cues (numbers) that have not been sent."""
        for thread in self._threads:
            thread.cancel(cues)

    def take_faults(self) -> list[dict[str, str]]:
        """Return [{"state", "reason"}] since the last call."""
        return [self._faults.popleft() for _ in range(len(self._faults))]

    def close(self) -> None:
        """Send what is due, then close every port."""
        for thread in self._threads:
            thread.close()
        if self._table is not None:
            self._table.close()

    def _write_row(self, name: str, code: int, at: float, sent: float, ok: bool) -> None:
        if self._table is None:
            return
        row = f"{name}\t{code}\t{at:.6f}\t{sent:.6f}\t{(sent - at) * 1e3:.3f}\t{'yes' if ok else 'no'}\n"
        with self._lock:
            try:
                self._table.write(row)
                self._table.flush()
            except (OSError, ValueError) as error:  # a full disk; the log has the codes all the same
                logger.debug("ports.tsv: %s", error)


class _PortThread:
    """One port and the thread that serves it."""

    def __init__(
        self, port: MarkerPort, faults: deque[dict[str, str]], write_row: Callable[..., None], late: float
    ) -> None:
        self.port, self._faults, self._write_row, self._late = port, faults, write_row, late
        # when, running number, code, cue, whether that sounds
        self._codes: queue.PriorityQueue[tuple[float, int, int, int | None, Began | None]] = queue.PriorityQueue()
        self._count = 0
        self._cancelled: set[int | None] = set()
        self._lost_at = 0.0
        self._changed = threading.Condition()
        self._closing = False
        port.open()  # the first time in the caller's thread: what is wrong is refused before the night
        self._is_open = True
        self._thread = threading.Thread(target=self._serve, name=f"port {port.name}", daemon=True)
        self._thread.start()

    def put(self, code: int, at: float, cue: int | None, began: Began | None = None) -> None:
        with self._changed:
            self._count += 1
            self._codes.put((at, self._count, code, cue, began))
            self._changed.notify()

    def cancel(self, cues: Collection[int]) -> None:
        with self._changed:
            self._cancelled.update(cues)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(2)
        if self._is_open:
            self._close_port()

    def _serve(self) -> None:
        while (entry := self._next()) is not None:
            at, _, code, cue, began = entry
            while (left := at - time.perf_counter()) > 0:
                if left > _SPIN:
                    time.sleep(left - _SPIN)
            if cue in self._cancelled:
                continue
            if began is None or self._sounds(began, at):
                self._send(code, at)
            else:
                self._write_row(self.port.name, code, at, time.perf_counter(), False)

    def _sounds(self, began: Began, at: float) -> bool:
        """Wait until it is known whether a cue sounds, or it is too late for it."""
        while (found := began()) is None and time.perf_counter() < at + self._late:
            time.sleep(0.001)
        return bool(found)

    def _next(self) -> tuple[float, int, int, int | None, Began | None] | None:
        """Wait until the first code is nearly due, and return it; None at the end."""
        with self._changed:
            while True:
                while self._codes.queue and self._codes.queue[0][3] in self._cancelled:
                    self._cancelled.discard(self._codes.get()[3])
                if self._codes.queue:
                    left = self._codes.queue[0][0] - time.perf_counter() - 2 * _SPIN
                    if left <= 0:
                        return self._codes.get()
                    if self._closing:  # what lies ahead belongs to cues that will not sound
                        return None
                    self._changed.wait(left)
                elif self._closing:
                    return None
                else:
                    self._changed.wait()

    def _send(self, code: int, at: float) -> None:
        sent = time.perf_counter()
        if not self._is_open and not self._reopen():
            self._write_row(self.port.name, code, at, sent, False)
            return
        try:
            self.port.send(code, at)
        except Exception as error:  # whatever a driver raises: the night goes on
            self._is_open, self._lost_at = False, sent
            text = f"{self.port.name}: code {code} was not sent: {' '.join(str(error).split())[:200]}"
            self._faults.append({"state": "lost", "reason": text})
            self._write_row(self.port.name, code, at, sent, False)
        else:
            self._write_row(self.port.name, code, at, sent, True)

    def _reopen(self) -> bool:
        if time.perf_counter() - self._lost_at < _RETRY_SECONDS:
            return False
        self._close_port()
        try:
            self.port.open()
        except Exception as error:
            logger.debug("opening port %s: %s", self.port.name, error)
            self._lost_at = time.perf_counter()
            return False
        self._is_open = True
        self._faults.append({"state": "back", "reason": f"{self.port.name} is there again"})
        return True

    def _close_port(self) -> None:
        try:
            self.port.close()
        except Exception as error:  # a port that is gone cannot be closed either
            logger.debug("closing port %s: %s", self.port.name, error)


def open_ports(settings: MarkerSettings, folder: Path | None = None, late: float = 0.05) -> MarkerHub | None:
    """Open the ports that the settings name; None where there is none. ports.tsv goes into the session's `folder`,
    `late` is as in `MarkerHub`.

    Raises `UserError` where a port cannot be opened, or its package is not installed.
    """
    chosen = settings.chosen()
    if not chosen:
        return None
    ports = [MARKER_PORTS.make(name, options) for name, options in chosen.items()]
    try:
        return MarkerHub(ports, None if folder is None else folder / "ports.tsv", late)
    except ImportError as error:
        raise UserError(f"markers: {error}; pip install -e '.[realtime]'") from error
    except Exception as error:  # each driver has errors of its own
        raise UserError(
            f"markers ({', '.join(chosen)}): {type(error).__name__}: {error}; see markers in the settings"
        ) from error
