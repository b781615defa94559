"""Names and shapes that the whole project shares (those of the published system)."""

ITEMS = (
    "alarm", "apple", "ball", "book", "box", "chair", "kiwi", "microphone",
    "motorcycle", "pepper", "sheep", "shoes", "strawberry", "tomato", "watch",
)  # fmt: skip
"""The 15 learned sound-picture pairs; an item's class index is its place in this tuple."""

STAGES = ("W/N1", "N2", "N3", "R")
"""Stage names; a stage's code is its place in this tuple."""
WAKE, N2, N3, REM = range(4)
UNKNOWN = -1
"""Stage code where a stager cannot tell."""

EEG_MONTAGE = (
    "Fp1", "Fpz", "Fp2", "AF7", "AF3", "AF4", "AF8",
    "F7", "F5", "F3", "F1", "Fz", "F2", "F4", "F6", "F8",
    "FT7", "FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6", "FT8",
    "T7", "C5", "C3", "C1", "Cz", "C2", "C4", "C6", "T8",
    "TP7", "CP5", "CP3", "CP1", "CPz", "CP2", "CP4", "CP6", "TP8",
    "P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8",
    "O1", "Oz", "O2",
)  # fmt: skip
"""55 positions of the 10-05 system. The published channel names and their order are unknown: this is
the project's assumption, and a setting wherever it matters."""

SLEEP_RATE = 100.0
"""Sampling rate of decoder trials in Hz."""
STREAM_RATE = 500.0
"""Sampling rate of the amplifier stream and of staging windows in Hz."""
STAGING_SECONDS = 30
"""Length of a staging window in seconds."""
WINDOWS = ("cue", "precue")
"""Windows of the sleep trials: around the cue; the 2 s before it, as a negative control."""
