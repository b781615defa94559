"""Expert hypnograms: from the published label file to yasa.Hypnogram and back.

The published file does not tell W from N1. Both are WAKE here, so "wake" includes N1, sleep latency is that
to N2, and N1 is always 0 min.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sleep_interpreter.data.formats.staging_windows import read_stage_labels
from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS, UNKNOWN
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import write_pickle

if TYPE_CHECKING:
    import yasa

YASA = ("WAKE", "N2", "N3", "REM")
"""YASA's names of the project's stages, by code."""


def epochs_of(onset: np.ndarray, stage: np.ndarray) -> np.ndarray:
    """Return the stage of each whole 30 s epoch of a published hypnogram, int64.

    `onset` (n + 1,) are the onsets of the segments in s, the last one being the end, `stage` (n,) their codes. An
    epoch has the stage that is scored at its beginning; a rest of less than 30 s at the end is dropped. So repeated
    stages, segments of 0 s and onsets off the 30 s grid (subject_74) need no rule of their own.
    """
    onset = np.asarray(onset, float)
    starts = onset[0] + STAGING_SECONDS * np.arange(int((onset[-1] - onset[0]) // STAGING_SECONDS))
    # Segments of 0 s hold no epoch: `right` steps over them.
    return np.asarray(stage, np.int64)[np.searchsorted(onset, starts, side="right") - 1]


def segments_of(epochs: np.ndarray) -> dict[str, list[int]]:
    """Return an entry of the published label file ({"onset", "label"}) of stages of 30 s epochs.

    Neighbouring epochs of one stage become one segment. Refuses an unknown epoch: the published format has no code
    for that.
    """
    epochs = np.asarray(epochs, int)
    unknown = np.flatnonzero(epochs == UNKNOWN)
    if len(unknown):
        raise UserError(
            f"epoch {unknown[0]} is unknown, which the published label file cannot hold: score it or cut it off"
        )
    starts = np.flatnonzero(np.diff(epochs, prepend=UNKNOWN)) if len(epochs) else np.zeros(0, int)
    onset = [int(STAGING_SECONDS * start) for start in (*starts, len(epochs))]
    return {"onset": onset, "label": [int(epochs[start]) for start in starts]}


def to_yasa(epochs: np.ndarray, scorer: str = "expert") -> "yasa.Hypnogram":
    """Return a yasa.Hypnogram of stage codes of 30 s epochs, (n,); W/N1 becomes WAKE, unknown UNS."""
    import yasa  # lazy: start-up

    names = np.array([*YASA, "UNS"], object)
    return yasa.Hypnogram(names[np.asarray(epochs, int)], n_stages=5, freq="30s", scorer=scorer)


def from_yasa(hypnogram: "yasa.Hypnogram") -> np.ndarray:
    """Return the stage codes of a yasa.Hypnogram's epochs: int64 (n,); WAKE and N1 are one, ART is unknown.

    Refuses stages that cannot be told apart here (LIGHT), and other epochs than of 30 s.
    """
    import pandas as pd  # lazy: start-up

    if pd.Timedelta(hypnogram.freq) != pd.Timedelta(seconds=STAGING_SECONDS):
        raise UserError(f"a hypnogram of {hypnogram.freq} epochs: expected {STAGING_SECONDS} s")
    codes = {"WAKE": 0, "N1": 0, "N2": 1, "N3": 2, "REM": 3, "ART": UNKNOWN, "UNS": UNKNOWN}
    names = hypnogram.hypno.astype(str).tolist()
    if other := sorted(set(names) - set(codes)):
        raise UserError(f"a hypnogram with stage {other[0]}: this project needs {', '.join(STAGES)} (5 stages in YASA)")
    return np.array([codes[name] for name in names], np.int64)


def read_label_file(path: str | Path) -> tuple[dict[str, "yasa.Hypnogram"], dict[str, Any]]:
    """Return {recording: yasa.Hypnogram} and {recording: (onset, stage)} of a published label file.

    `path` and errors are those of `data.formats.staging_windows.read_stage_labels`.
    """
    published = read_stage_labels(path)
    return {name: to_yasa(epochs_of(*entry)) for name, entry in published.items()}, published


def write_label_file(hypnograms: dict[str, "yasa.Hypnogram"], path: str | Path) -> None:
    """Write {recording: yasa.Hypnogram} as a label file in the published layout.

    What a hypnogram of epochs does not hold is not in it: repeated stages are joined, and there is no rest of
    less than 30 s. Reading it gives the same epochs again.
    """
    write_pickle({name: segments_of(from_yasa(h)) for name, h in hypnograms.items()}, path)
