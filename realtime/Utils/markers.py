"""Markers for other programs, as codes of one byte."""

import logging
import time

logger = logging.getLogger(__name__)

CUE_BASE = 1
DECODED_BASE = 21
DECODE_FAILED = 36
GROUP_BASE = 90

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
"""liblsl settings under which no packet left the machine in our measurements."""


class LslMarkers:
    """A marker stream of the Lab Streaming Layer, stamped with the cue's own time.

    Parameters
    ----------
    settings : MarkerSettings
        `loopback` keeps it on this machine; it must be set before the process first uses LSL.
    """

    def __init__(self, settings):
        from mne_lsl.lsl import StreamInfo, StreamOutlet, local_clock, set_config_content

        if settings.loopback:
            set_config_content(_LOOPBACK.format(session_id=settings.session_id))
        self._text = settings.format == "string"
        self._clock = local_clock
        info = StreamInfo(settings.name, "Markers", 1, 0.0, settings.format, settings.source_id)
        info.set_channel_names(["marker"])
        self._outlet = StreamOutlet(info)
        logger.info("markers go out on the LSL stream %r (%s)", settings.name, settings.format)

    def send(self, code, when=None):
        """Send a code.

        Parameters
        ----------
        code : int
            1 to 255.
        when : float | None
            `time.perf_counter` time of the event; None = now.
        """
        import numpy as np

        value = [str(code)] if self._text else np.array([code], np.int32)
        late = 0.0 if when is None else time.perf_counter() - when
        self._outlet.push_sample(value, timestamp=self._clock() - late)

    def close(self):
        """Close the stream; receivers see it end."""
        del self._outlet
