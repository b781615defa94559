"""REMSISD: sleep-only decoder of REM; its sizes and weights stand in params/REMSISD.yaml."""

from functools import partial

from sleep_interpreter.model.registry import build as build_network

build = partial(build_network, "REMSISD")
