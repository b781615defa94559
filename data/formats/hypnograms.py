"""Expert hypnograms: from the published label file to yasa.Hypnogram and back, and what a cohort of them looks like.

The published file does not tell W from N1. Both are WAKE here, so "wake" includes N1, sleep latency is that
to N2, and N1 is always 0 min.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.staging_windows import read_stage_labels
from sleep_interpreter.utils.core.constants import N3, REM, STAGES, STAGING_SECONDS, UNKNOWN
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write, display_path
from sleep_interpreter.utils.core.provenance import is_simulated, record, write_json
from sleep_interpreter.utils.core.safe_pickle import write_pickle

if TYPE_CHECKING:
    import yasa

YASA = ("WAKE", "N2", "N3", "REM")
"""YASA's names of the project's stages, by code."""
EPOCHS_PER_MIN = 60 // STAGING_SECONDS
STATISTICS = {
    "TIB": "time in bed (min)",
    "TST": "total sleep time, N2 + N3 + R (min)",
    "SE": "sleep efficiency (%)",
    "SOL": "latency of N2 or deeper (min)",
    "WASO": "W/N1 between first and last sleep (min)",
    "N2": "N2 (min)",
    "N3": "N3 (min)",
    "REM": "R (min)",
    "Lat_REM": "latency of R (min)",
}
"""YASA's sleep statistics that the labels allow, with what they mean where W and N1 are one."""
LONG_TAIL_MIN = 30


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
    """Return an entry of the label file ({"onset", "label"}) of stages of 30 s epochs.

    Neighbouring epochs of one stage become one segment; what nobody scored has the label -1, which the released file
    does not hold.
    """
    epochs = np.asarray(epochs, int)
    stages, lengths = bouts(epochs).T
    return {"onset": [0, *(STAGING_SECONDS * np.cumsum(lengths)).tolist()], "label": stages.tolist()}


def to_yasa(epochs: np.ndarray, scorer: str = "expert") -> "yasa.Hypnogram":
    """Return a yasa.Hypnogram of stage codes of 30 s epochs, (n,); W/N1 becomes WAKE, unknown UNS."""
    import yasa  # lazy: start-up

    names = np.array([*YASA, "UNS"], object)
    return yasa.Hypnogram(names[np.asarray(epochs, int)], n_stages=5, freq="30s", scorer=scorer)


def from_yasa(hypnogram: "yasa.Hypnogram") -> np.ndarray:
    """Return the stage codes of a yasa.Hypnogram's epochs: int64 (n,); WAKE and N1 are one, ART is unknown.

    Refuses stages that cannot be told apart here (LIGHT), and other epochs than of 30 s.
    """
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


def night_statistics(hypnogram: "yasa.Hypnogram") -> dict[str, float]:
    """Return the `STATISTICS` of one yasa.Hypnogram; NaN where one is not defined (a stage that is absent).

    Unknown epochs count as time in bed only. A night without a known epoch of sleep has no latencies.
    """
    epochs = from_yasa(hypnogram)
    found = dict.fromkeys(STATISTICS, np.nan)
    if not (epochs > 0).any():  # YASA has no statistics of a night without sleep
        minutes = len(epochs) / EPOCHS_PER_MIN
        return found | {"TIB": minutes, "TST": 0.0, "SE": 0.0, "N2": 0.0, "N3": 0.0, "REM": 0.0}
    statistics = hypnogram.sleep_statistics()
    return {key: float(statistics.get(key, np.nan)) for key in found}


def bouts(epochs: np.ndarray) -> np.ndarray:
    """Return the (stage, epochs) of every stretch of one stage: int array (n, 2)."""
    epochs = np.asarray(epochs)
    if not len(epochs):
        return np.zeros((0, 2), int)
    starts = np.flatnonzero(np.diff(epochs, prepend=epochs[0] - 1))
    return np.column_stack([epochs[starts], np.diff([*starts, len(epochs)])])


def transitions(nights: Iterable[np.ndarray]) -> np.ndarray:
    """Return how often a stage (row) was followed by another or itself (column) after 30 s: int (4, 4)."""
    counts = np.zeros((len(STAGES), len(STAGES)), int)
    for epochs in nights:
        before, after = np.asarray(epochs[:-1]), np.asarray(epochs[1:])
        known = (before != UNKNOWN) & (after != UNKNOWN)
        np.add.at(counts, (before[known], after[known]), 1)
    return counts


def quirks(published: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, list[str]]:
    """Return {quirk: recordings} of hypnograms as the published file holds them."""
    found: dict[str, list[str]] = {}
    for name, (onset, stage) in published.items():
        length = np.diff(onset)
        epochs = epochs_of(onset, stage)
        of_this = {
            "repeated stages": (np.diff(stage) == 0).any(),
            "a segment of 0 s": (length == 0).any(),
            "onsets off the 30 s grid": ((onset[:-1] - onset[0]) % STAGING_SECONDS != 0).any(),
            f"a last segment beyond {LONG_TAIL_MIN} min": len(length) and length[-1] > 60 * LONG_TAIL_MIN,
            "no N3": N3 not in epochs,
            "no R": REM not in epochs,
        }
        for quirk, there in of_this.items():
            found.setdefault(quirk, []).extend([name] if there else [])
    return found


def cohort(hypnograms: dict[str, "yasa.Hypnogram"]) -> dict[str, Any]:
    """Return the statistics of one group of nights as a mapping for JSON.

    It holds nights, hours, "statistics" ({key: {n, mean, sd, median, p5, p95}}), "share" (of epochs by stage),
    "bouts" ({stage: {n, median_min, p90_min, longest_min}}), "transitions" (counts after 30 s).
    """
    nights = [from_yasa(h) for h in hypnograms.values()]
    table = pd.DataFrame([night_statistics(h) for h in hypnograms.values()])
    all_bouts = np.concatenate([bouts(night) for night in nights])
    counts = np.array([np.sum(all_bouts[all_bouts[:, 0] == code, 1]) for code in range(len(STAGES))])
    return {
        "nights": len(nights),
        "hours": float(sum(map(len, nights)) / EPOCHS_PER_MIN / 60),
        "statistics": {key: _spread(table[key].dropna().to_numpy()) for key in STATISTICS},
        "share": {stage: float(n / max(1, counts.sum())) for stage, n in zip(STAGES, counts, strict=True)},
        "bouts": {
            stage: _bout_row(all_bouts[all_bouts[:, 0] == code, 1] / EPOCHS_PER_MIN)
            for code, stage in enumerate(STAGES)
        },
        "transitions": transitions(nights).tolist(),
    }


def _spread(values: np.ndarray) -> dict[str, Any]:
    if not len(values):
        return {"n": 0} | dict.fromkeys(("mean", "sd", "median", "p5", "p95"))
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    quantiles = zip(("median", "p5", "p95"), np.percentile(values, [50, 5, 95]).tolist(), strict=True)
    return {"n": len(values), "mean": float(values.mean()), "sd": sd, **dict(quantiles)}


def _bout_row(minutes: np.ndarray) -> dict[str, Any]:
    quantiles = np.percentile(minutes, [50, 90, 100]).tolist() if len(minutes) else [None] * 3
    return {"n": len(minutes), **dict(zip(("median_min", "p90_min", "longest_min"), quantiles, strict=True))}


def shares_by_hour(nights: list[np.ndarray], hours: float = 9.0, step_min: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return times in h (n,) and the share of each stage at them (n, 4), of the nights still going on.

    NaN where fewer than a tenth of the nights, or than 3, go on.
    """
    fewest = max(min(3, len(nights)), len(nights) / 10)
    step = step_min * EPOCHS_PER_MIN
    places = np.arange(0, int(hours * 60 * EPOCHS_PER_MIN), step)
    shares = np.full((len(places), len(STAGES)), np.nan)
    for row, place in enumerate(places):
        going_on = [night[place : place + step] for night in nights if len(night) > place]
        if len(going_on) >= fewest:
            there = np.concatenate(going_on)
            shares[row] = [np.mean(there == code) for code in range(len(STAGES))]
    return places / EPOCHS_PER_MIN / 60, shares


def report(path: str | Path, out: Path) -> list[str]:
    """Draw the cohort of a label file, or of the data folder that holds it; return the lines for the terminal.

    `out` receives nights.csv, cohort.json and cohort.png.
    """
    from sleep_interpreter.utils.plots import staging as plots_staging  # lazy: start-up

    hypnograms, published = read_label_file(path)
    if not hypnograms:
        raise UserError(f"{path}: holds no recording")
    path = Path(path)
    root = path.resolve().parents[1] if path.is_file() else path
    kind = "simulated" if is_simulated(root) else None
    groups: dict[str, dict[str, yasa.Hypnogram]] = {}
    for name, hypnogram in sorted(hypnograms.items(), key=lambda one: "test" in one[0]):
        groups.setdefault(f"{'test' if 'test' in name else 'training'} recordings", {})[name] = hypnogram
    found = {name: cohort(own) for name, own in groups.items()}
    strange = quirks(published)
    nights = pd.DataFrame([{"recording": n, **night_statistics(h)} for n, h in hypnograms.items()])
    with atomic_write(out / "nights.csv") as temporary:
        nights.to_csv(temporary, index=False, float_format="%.6g")
    content = {"file": display_path(path), "simulated": kind is not None, "groups": found, "quirks": strange}
    write_json(out / "cohort.json", content | {"provenance": record()})
    curves = {name: [from_yasa(h) for h in own.values()] for name, own in groups.items()}
    plots_staging.cohort_figure(
        {name: (shares_by_hour(own), [bouts(night) for night in own]) for name, own in curves.items()},
        found, out / "cohort.png", kind,
    )  # fmt: skip
    beside = " (simulated)" if kind else ""
    lines = []
    for name, group in found.items():
        lines += [f"{name}{beside}: {group['nights']} nights, {group['hours']:.0f} h", *_table(group)]
    lines.append("quirks of the file, recordings:")
    for quirk, names in strange.items():
        some = f"  {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""
        lines.append(f"  {quirk:<32} {len(names):4d}{some}")
    return [*lines, f"written: {display_path(out)}"]


def _table(group: dict[str, Any]) -> list[str]:
    lines = [f"  {'':<40} {'nights':>6} {'median':>7} {'5 % to 95 %':>18}"]
    for key, words in STATISTICS.items():
        row = group["statistics"][key]
        if row["n"]:
            spread = f"{row['p5']:.1f} to {row['p95']:.1f}"
            lines.append(f"  {words:<40} {row['n']:6d} {row['median']:7.1f} {spread:>18}")
    for stage, row in group["bouts"].items():
        share = f"{group['share'][stage]:.1%} of the time"
        length = f", bouts: median {row['median_min']:.1f} min, 90 % {row['p90_min']:.1f}" if row["n"] else ""
        lines.append(f"  {stage:<5} {share}{length}")
    return lines
