"""Multi-domain decoder of NREM 2/3; its sizes and weights stand in params/N23SIMD.yaml."""

from model.registry import build_named

build = build_named("N23SIMD")
