"""Names and shapes that the whole project shares (those of the published system)."""

STAGES = ("W/N1", "N2", "N3", "R")
"""Stage names; a stage's code is its place in this tuple."""
WAKE, N2, N3, REM = range(4)
UNKNOWN = -1
"""Stage code where a stager cannot tell."""

STREAM_RATE = 500.0
"""Sampling rate of the amplifier stream and of staging windows in Hz."""
STAGING_SECONDS = 30
"""Length of a staging window in seconds."""
WINDOWS = ("cue", "precue")
"""Windows of the sleep trials: around the cue; the 2 s before it, as a negative control."""
