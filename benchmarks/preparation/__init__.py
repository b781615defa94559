"""Preparation of recordings, simulated and real."""
