"""A minute of sleep with cues, and whether a prepared test subject has each with its stage, item and part."""

import mne
import numpy as np
import pandas as pd
import recordings

from sleep_interpreter.data.formats.test_trials import read_test_subjects

SHARES = (0.6, 0.2, 0.2)
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


def check(out, table, name="subject_test_0"):
    """Compare the trials of a prepared test subject with the cues of a table, one by one."""
    for stage, codes in (("N2N3", ("N2", "N3")), ("REM", ("R",))):
        own = table[table.stage.isin(codes)].reset_index(drop=True)
        (subject,) = [s for s in read_test_subjects(out, stage) if s.name == name] or [None]
        if subject is None or not len(own):
            assert not len(own) and (subject is None or not len(subject)), f"{stage}: {len(own)} planted"
            continue
        origin = subject.origin.sort_values("onset_s")
        order = origin.index.to_numpy()
        assert np.allclose(origin.onset_s.astype(float), own.onset_s, atol=0.003)
        assert origin.stage.tolist() == own.stage.tolist()
        items = subject.card.item_names
        assert [items[k] for k in np.asarray(subject.label)[order]] == own["item"].tolist()
        assert np.asarray(subject.data_type)[order].tolist() == _parts(own["item"].tolist())
    return len(table)


def _parts(items):
    """Return the part of each cue: an item's in order of time, items with fewer than three cues together."""
    own = [item if items.count(item) >= 3 else None for item in items]
    parts = [""] * len(items)
    for item in dict.fromkeys(own):
        places = [k for k, other in enumerate(own) if other == item]
        first, second = (round(sum(SHARES[:n]) * len(places)) for n in (1, 2))
        counts = [first, second - first, len(places) - second]
        for k in range(3):
            if len(places) >= 3 and not counts[k]:
                counts[k] += 1
                counts[counts.index(max(counts))] -= 1
        for k, place in enumerate(places):
            parts[place] = "train" if k < counts[0] else "val" if k < counts[0] + counts[1] else "test"
    return parts
