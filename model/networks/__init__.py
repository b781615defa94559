"""Layers, blocks and ensembles of the networks."""
