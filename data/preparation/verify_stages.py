"""Compares the staging of a raw recording with a released label file, epoch by epoch.

For whoever holds a raw recording of a subject whose hypnogram is in `SI Staging
Label/Whole_label_data.pickle`: does the recording belong to those labels, are they shifted against each
other, where do they differ.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sleep_interpreter.data.formats.scoring_readers import UNSCORED, Hypnogram
from sleep_interpreter.data.formats.staging_windows import check_hypnogram
from sleep_interpreter.data.formats.validation import read_container
from sleep_interpreter.data.preparation.channels import make_plan
from sleep_interpreter.data.preparation.inputs import Source, bids_details
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.data.preparation.signal import load
from sleep_interpreter.data.preparation.stages import epoch_codes, find_stages
from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import atomic_write, display_path
from sleep_interpreter.utils.core.provenance import write_json
from sleep_interpreter.utils.metrics.staging_metrics import cohen_kappa, confusion
from sleep_interpreter.utils.signal.recording import Recording

_STEP_S = 5.0
_MOST_S = 600.0
_LEAST_EPOCHS = 10


def read_released_hypnogram(path: str | Path, name: str | None) -> Hypnogram:
    """Return one subject's hypnogram from a label file, or from the data folder that holds it."""
    path = Path(path)
    if path.is_dir():
        path = path / "SI Staging Label" / "Whole_label_data.pickle"
    content = read_container(path, dict, " of subjects")
    if name not in content:
        close = nearest(str(name), content, 3)
        hint = f"nearest: {', '.join(close)}" if close else f"it has {len(content)}"
        raise UserError(f"{path}: no subject {name!r} (--as); {hint}")
    onset, stage = check_hypnogram(content[name], f"{display_path(path)}, {name}")
    return Hypnogram(onset[:-1], np.diff(onset), stage, tuple(STAGES[s] for s in stage))


def agreement(codes: np.ndarray, labels: Hypnogram, shift: float) -> dict:
    """Return how stages of epochs agree with a hypnogram that is taken `shift` seconds later.

    `codes` int (n,) are the stages of the recording's 30 s epochs, -1 where nobody scored; second t of the
    recording is second t + shift of the labels.

    Returns
    -------
    result : dict
        "n" epochs that both have, "agreement", "kappa" (None where chance agreement is complete), "table"
        (4, 4) rows recording, columns labels; "labels" of the epochs; "differ": which epochs do.
    """
    other = labels.at((np.arange(len(codes)) + 0.5) * STAGING_SECONDS + shift)
    both = (codes != UNSCORED) & (other != UNSCORED)
    table = confusion(codes[both], other[both])
    n, kappa = int(both.sum()), cohen_kappa(table)
    return {
        "shift_s": float(shift),
        "n": n,
        "agreement": float(np.trace(table) / n) if n else None,
        "kappa": float(kappa) if np.isfinite(kappa) else None,
        "table": table.tolist(),
        "labels": other,
        "differ": np.flatnonzero(both & (codes != other)),
    }


def best_shift(codes: np.ndarray, labels: Hypnogram) -> dict:
    """Return the `agreement` at the shift within 10 min with the highest kappa; the middle of equal ones.

    A shift counts only if it leaves at least 80 % of the epochs that are compared without one.
    """
    found = [agreement(codes, labels, s) for s in sorted(np.arange(-_MOST_S, _MOST_S + 1, _STEP_S), key=abs)]
    least = max(_LEAST_EPOCHS, 0.8 * found[0]["n"])
    fair = [f for f in found if f["n"] >= least and f["kappa"] is not None]
    if not fair:
        return found[0]
    best = max(f["kappa"] for f in fair)
    alike = sorted((f for f in fair if f["kappa"] > best - 1e-9), key=lambda f: f["shift_s"])
    return alike[len(alike) // 2]  # epochs hide shifts below 30 s: the middle of those that fit alike


def verify_stages(
    sources: Iterable[Source], settings: Preparation, path: str | Path, name: str | None, out: Path
) -> list[str]:
    """Compare one recording with the labels of one subject, and return what was found as lines.

    Parameters
    ----------
    sources
        With exactly one sleep recording.
    settings
        `stages` decides how the recording is staged: by its own hypnogram or by YASA.
    path
        Label file, or the folder that holds it.
    name
        Whose labels.
    out
        Receives verify_<name>.json and .tsv.
    """
    nights = [s for source in sources for s in source.sessions if s.kind == "sleep"]
    if len(nights) != 1:
        raise UserError(f"--verify-stages: needs one sleep recording, found {len(nights)}; name it with --recordings")
    if name is None:
        raise UserError("--verify-stages: say whose labels they are with --as, for example --as subject_3")
    labels, session = read_released_hypnogram(path, name), nights[0]
    recording = Recording(session.path)
    annotations = recording.annotations if session.bids is None else bids_details(session)[0]
    channels = settings.channels.model_copy(update={"montage": ()})
    plan = make_plan(channels, recording.names, display_path(session.path))
    with tempfile.TemporaryDirectory() as folder:
        file = load(recording, plan.picks, settings.recordings, Path(folder) / "raw.npy")
        hypnogram, source, remarks = find_stages(session, annotations, recording, file, plan, settings.stages)
        codes, seconds = epoch_codes(hypnogram, file.seconds), file.seconds
    plain, best = agreement(codes, labels, 0.0), best_shift(codes, labels)
    report = {
        "recording": session.path.name,
        "subject": name,
        "staged_by": source,
        "recording_s": seconds,
        "labels_s": labels.seconds,
        "remarks": remarks,
        "unshifted": {k: plain[k] for k in ("n", "agreement", "kappa", "table")},
        "best": {k: best[k] for k in ("shift_s", "n", "agreement", "kappa", "table")},
        "stages": list(STAGES),
    }
    write_json(out / f"verify_{name}.json", report)
    rows = [f"{k * STAGING_SECONDS}\t{STAGES[codes[k]]}\t{STAGES[best['labels'][k]]}" for k in best["differ"]]
    with atomic_write(out / f"verify_{name}.tsv") as temporary:
        temporary.write_text("\n".join(["onset_s\trecording\tlabels", *rows]) + "\n", encoding="utf-8")
    return [*_lines(report), f"written: {display_path(out / f'verify_{name}')}.json, .tsv (epochs that differ)"]


def _lines(report: dict) -> list[str]:
    def figures(row: dict) -> str:
        values = [f"{row[k]:.3f}" if row[k] is not None else "undefined" for k in ("agreement", "kappa")]
        return f"agreement {values[0]}, kappa {values[1]} over {row['n']} epochs"

    rows = {"recording / labels": STAGES, **dict(zip(STAGES, report["best"]["table"], strict=True))}
    table = [f"{name:<20}" + "".join(f"{cell:>7}" for cell in row) for name, row in rows.items()]
    length = report["recording_s"] - report["labels_s"]
    return [
        f"{report['recording']} (staged by {report['staged_by']}) against the labels of {report['subject']}",
        f"recording {report['recording_s']:.0f} s, labels {report['labels_s']:.0f} s: {abs(length):.0f} "
        f"s {'longer' if length >= 0 else 'shorter'}",
        f"without a shift: {figures(report['unshifted'])}",
        f"best shift {report['best']['shift_s']:+.0f} s: {figures(report['best'])}",
        *table,
        *(f"remark: {text}" for text in report["remarks"]),
    ]
