"""Stagers and the cue gate, the same offline and in real time."""
