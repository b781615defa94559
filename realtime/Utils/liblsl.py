"""liblsl's settings: given once in a process, before anything of it is used."""

import logging

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
