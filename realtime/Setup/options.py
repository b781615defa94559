"""Flags of realtime/Main_Decode.py that are short names of settings."""

import json

FLAGS = {
    "source": "source.kind",
    "speed": "source.speed",
    "unit": "source.unit",
    "start": "source.start",
    "stop": "source.stop",
    "stager": "staging.stager",
    "stager_checkpoint": "staging.checkpoint",
    "decoder_checkpoint": "decoder.checkpoint",
    "cues": "cues.mode",
    "lsl_markers": "markers.lsl",
}
"""Flags that are short names of settings."""


def read_settings(args):
    """Return the `SessionSettings`: file, then --set, then the short flags."""
    from sleep_interpreter.realtime.Parameters import SessionSettings
    from sleep_interpreter.utils.core import config

    return config.load(SessionSettings, args.config or "realtime", overrides=given(args))


def given(args):
    """Return --set and the short flags as overrides."""
    flags = {key: getattr(args, flag) for flag, key in FLAGS.items() if getattr(args, flag) is not None}
    if args.dry_run:
        flags |= {
            "audio.sink": "null",
            "markers.lsl": False,
            "markers.serial": None,
            "markers.parallel": None,
            "markers.ports": None,
        }
    return [*args.overrides, *(f"{key}={json.dumps(value)}" for key, value in flags.items())]
