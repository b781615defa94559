"""Settings of a session; the defaults and their reasons are in params/realtime.yaml."""

from sleep_interpreter.realtime.Parameters.settings import SessionSettings

__all__ = ["SessionSettings"]
