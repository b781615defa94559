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

_given = None


def configure(loopback=True, session_id="default"):
    """Keep LSL on this machine, or leave it to liblsl's own settings.

    Parameters
    ----------
    loopback : bool
        False: the network, as lsl_api.cfg or liblsl's defaults have it.
    session_id : str
        Streams of another session id are not seen.
    """
    global _given  # liblsl reads its settings once in a process
    wanted = (loopback, session_id)
    if _given is None:
        from mne_lsl.lsl import set_config_content

        if loopback:
            set_config_content(_text(session_id))
        _given = wanted
    elif _given != wanted:
        logger.warning("LSL was set up already in this process: loopback %s, session id %s stay", *_given)


def config_text():
    """Return the settings in force, for a program beside this one; None: liblsl's own."""
    return _text(_given[1]) if _given is not None and _given[0] else None


def _text(session_id):
    return _LOOPBACK.format(session_id=session_id)
