"""N23SISD: sleep-only decoder of NREM 2/3; its sizes and weights stand in params/N23SISD.yaml."""

from functools import partial

from sleep_interpreter.model.registry import build as build_network

build = partial(build_network, "N23SISD")
