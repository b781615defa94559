"""A minute of sleep with cues, in nine channels."""

import mne
import numpy as np
import pandas as pd
import recordings

NAMES = ["F3", "Fz", "F4", "T7", "C3", "Cz", "C4", "T8", "Pz"]
COUNT = 57
SETTINGS = (
    r"recordings.pattern=(?P<subject>s\d)_(?P<session>wake|night|nap)", "split.test=[s1]", "steps.ica.method=none",
    "steps.bad_channels.method=none", f"channels.montage=[{', '.join(NAMES)}]", "outputs.report=false",
    "stages.windows=false", "outputs.continuous=none",
)  # fmt: skip
"""Nine channels and no search in them: as much code, a twentieth of the time."""


def night(seed=0, names=NAMES, more=()):
    """Return 40 s of N2 and 20 s of REM with a cue every second, slow waves, and `more` (onset, duration, text)."""
    names = [*names, *recordings.EXTRAS]
    data = recordings.background(60, names, seed)
    shape, _ = recordings.wave()
    for start in np.arange(1200, 19000, 1900):
        data[: -len(recordings.EXTRAS), start : start + len(shape)] += shape
    cues = [(float(k), 0.0, f"cue/{recordings.ITEMS[k % 9]}") for k in range(1, COUNT + 1)]
    marks = [(0.0, 40.0, "stage/N2"), (40.0, 20.0, "stage/R"), *cues, *more]
    raw = mne.io.RawArray(data, mne.create_info(names, recordings.RATE, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations(*zip(*marks, strict=True)))
    return raw


def planted(raw, shift=0.0):
    """Return onset_s, item and stage of every cue that a recording's annotations plant in N2, N3 or REM."""
    marks = [*zip(raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True)]
    stages = [(o, o + d, t.removeprefix("stage/")) for o, d, t in marks if t.startswith("stage/")]
    rows = [
        (onset + shift, text.removeprefix("cue/"), next(s for begin, end, s in stages if begin <= onset < end))
        for onset, _, text in marks
        if text.startswith("cue/")
    ]
    table = pd.DataFrame(rows, columns=["onset_s", "item", "stage"])
    return table[table.stage.isin(["N2", "N3", "R"])].sort_values("onset_s", ignore_index=True)
