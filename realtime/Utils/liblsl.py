"""liblsl's settings: given once in a process, before anything of it is used."""

import ctypes
import logging
import socket
import time
from typing import Any

logger = logging.getLogger(__name__)

_LOOPBACK = """[ports]
IPv6 = disable
[multicast]
ResolveScope = machine
ListenAddress = 127.0.0.1
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = {session_id}
[log]
level = -2
"""
"""Settings under which no packet left the machine in our measurements."""

_READINGS = 9
_SAME_CLOCK = 0.1
"""Clocks of two computers of one name part by more: by when each was switched on."""

_configured: tuple[bool, str] | None = None


def configure(loopback: bool = True, session_id: str = "default") -> None:
    """Keep LSL on this machine, or leave it to the network as lsl_api.cfg or liblsl's defaults have it. Streams of
    another session id are not seen."""
    global _configured  # liblsl reads its settings once in a process
    wanted = (loopback, session_id)
    if _configured is None:
        from mne_lsl.lsl import set_config_content  # lazy: optional dependency

        if loopback:
            set_config_content(_LOOPBACK.format(session_id=session_id))
        _configured = wanted
    elif _configured != wanted:
        logger.warning("LSL was set up already in this process: loopback %s, session id %s stay", *_configured)


def config_text() -> str | None:
    """Return the settings in force, for a program beside this one; None: liblsl's own."""
    return _LOOPBACK.format(session_id=_configured[1]) if _configured is not None and _configured[0] else None


def resolve(timeout: float, source_id: str | None = None, minimum: int = 1) -> list[Any]:
    """Return the streams that are there, of a source_id (at least `minimum`, else all that answer in `timeout` s) or
    all.

    mne-lsl's `resolve_streams` takes two outlets of one name, source_id and kind for one, which is what must be seen.
    """
    from mne_lsl.lsl.load_liblsl import lib  # lazy: optional dependency
    from mne_lsl.lsl.stream_info import _BaseStreamInfo  # lazy: optional dependency

    found = (ctypes.c_void_p * 1024)()
    if source_id is None:
        count = lib.lsl_resolve_all(ctypes.byref(found), 1024, ctypes.c_double(timeout))
    else:
        wanted = ctypes.c_char_p(b"source_id"), ctypes.c_char_p(source_id.encode())
        count = lib.lsl_resolve_byprop(ctypes.byref(found), 1024, *wanted, minimum, ctypes.c_double(timeout))
    streams = [_BaseStreamInfo(found[k]) for k in range(count)]
    return list({info.uid: info for info in streams}.values())


def clock_offset() -> float:
    """Return by how many s `time.perf_counter` is ahead of liblsl's clock: the one of some readings in which this
    process was held up the least."""
    from mne_lsl.lsl import local_clock  # lazy: optional dependency

    readings = []
    for _ in range(_READINGS):
        before, clock, after = time.perf_counter(), local_clock(), time.perf_counter()
        readings.append((after - before, (before + after) / 2 - clock))
    return min(readings)[1]


def correction(inlet: Any, hostname: str) -> float:
    """Return the s to be added to an inlet's stamps for this machine's clock of liblsl. An outlet on this machine has
    the same clock: what liblsl measures there is how busy the machine is. `TimeoutError`, `RuntimeError`: not known."""
    measured = float(inlet.time_correction(timeout=1.0))
    return 0.0 if hostname == socket.gethostname() and abs(measured) < _SAME_CLOCK else measured


def came_back(inlet: Any) -> bool:
    """Tell whether liblsl connected an inlet to an outlet anew since the last call."""
    from mne_lsl.lsl.load_liblsl import lib  # lazy: optional dependency

    return bool(lib.lsl_was_clock_reset(inlet._obj))
