"""REMSIMD: multi-domain decoder of REM; its sizes and weights stand in params/REMSIMD.yaml."""

from functools import partial

from sleep_interpreter.model.registry import build as build_network

build = partial(build_network, "REMSIMD")
