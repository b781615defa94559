"""Staging windows and expert hypnograms as stager training and evaluation read them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.data.formats import validation
from sleep_interpreter.data.formats.records import Records
from sleep_interpreter.data.formats.simulation_marks import refuse_unfinished, trials_are_marked
from sleep_interpreter.data.formats.tfrecords import STAGING, STAGING_SAMPLES, RecordFile
from sleep_interpreter.utils.core.constants import STAGES, UNKNOWN
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.provenance import is_simulated

WINDOWS_PER_EPOCH = 10
"""Staging windows of 30 s start every 3 s, so ten fall on one scored epoch of 30 s."""


class StagingWindows(Records):
    """The training subjects' staging windows (`SI Staging/Train/subject*/Whole*` below `root`, TFRecords).

    A batch holds float32 arrays "window" (B, 3, 15000) and "label" (B, 4) one-hot. Every window is read from its
    place when its turn comes: one batch is held (180 kB a window). Parameters, attributes and what is refused are as
    for `data.formats.training_trials.TrainingTrials`.
    """

    unit = "window"

    def __init__(
        self, root: str | Path, *, only: Iterable[str] | None = None, exclude: Iterable[str] | None = (),
        shuffle_seed: int | None = None, skip_bad: bool = False,
    ) -> None:  # fmt: skip
        refuse_unfinished(root)
        folder, files = training_files(root)
        super().__init__(
            Path(root), folder, files, lambda file: RecordFile(file, STAGING, skip_bad),
            only=only, exclude=exclude, shuffle_seed=shuffle_seed, skip_bad=skip_bad,
        )  # fmt: skip

    def checked(self, record: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
        """Return "window" (3, 15000) and one-hot "label" (4,) of a record, or refuse it."""
        return check_training_window(record, where)


@dataclass(frozen=True, eq=False)
class StagingSubject:
    """One test subject's night for stager evaluation."""

    name: str
    file: Path
    window: np.ndarray  # float32 (n, 3, 15000), one every 3 s; n = 10 * m - 9
    window_stage: np.ndarray  # int64 (n,), stage code stored with each window; -1: nobody scored it
    epoch_stage: np.ndarray  # int64 (m,), expert stage of each 30 s epoch; -1: nobody scored it
    simulated: bool = False  # the file or the data set is marked so


def training_files(root: str | Path) -> tuple[Path, list[Path]]:
    """Return the folder of training windows and its files, one a subject, without opening any."""
    folder = Path(root) / "SI Staging" / "Train"
    return folder, validation.subject_files(folder, "subject*/Whole*", "staging windows")


def staging_files(root: str | Path) -> list[Path]:
    """Return the window files of the staging test subjects (`SI Staging/Test/subject*/Whole*`).

    Refuses a folder without any, two of one subject, and a simulated data set that is not complete.
    """
    refuse_unfinished(root)
    folder = Path(root) / "SI Staging" / "Test"
    return validation.subject_files(folder, "subject*/Whole*", "staging test subjects")


def read_staging_subjects(root: str | Path) -> Iterator[StagingSubject]:
    """Yield the staging test subjects one after the other (a real night takes 1.5 GB)."""
    for file in staging_files(root):
        yield read_staging_subject(file, root)


def read_staging_subject(file: Path, root: str | Path, gaps: bool = False) -> StagingSubject:
    """Read one staging test subject's night: one of `staging_files`, and the 30 s labels beside it (`raw*`).

    With `gaps` samples that are not finite are accepted: the stager calls their windows unknown. Refuses a wrong
    field or shape, and numbers of windows and epochs that do not go together.
    """
    raw = validation.find(file.parent, "raw*", "30 s stage labels")
    if len(raw) != 1:
        raise UserError(f"{file.parent}: expected one raw* file of 30 s labels, found {len(raw)}")
    content = validation.read_container(file, list)
    checked = [check_window(window, f"{display_path(file)}, window {i}", gaps) for i, window in enumerate(content)]
    stages, windows = zip(*checked, strict=True) if checked else ((), ())
    scored = validation.read_container(raw[0], list)
    epochs = [check_stage(label, f"{display_path(raw[0])}, epoch {i}") for i, label in enumerate(scored)]
    check_counts(file, len(windows), raw[0], len(epochs))
    return StagingSubject(
        name=validation.subject_name(file),
        file=file,
        window=np.stack(windows) if windows else np.zeros((0, 3, STAGING_SAMPLES), np.float32),
        window_stage=np.array(stages, np.int64),
        epoch_stage=np.array(epochs, np.int64),
        simulated=is_simulated(root) or trials_are_marked(content),
    )


def read_stage_labels(root: str | Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the expert hypnograms of `SI Staging Label/Whole_label_data.pickle`, or of the label file given as `root`.

    Returns {name: (onset float64 (n + 1,) in s, the last one being the end; stage int64 (n,))}. The published quirks
    are kept as they are: neighbouring segments may repeat a stage, a segment may be 0 s long, the last one may be of
    any length. Refuses a missing file, onsets that run backwards, and a stage that is none of 0 to 3, or -1 for what
    nobody scored.
    """
    file = Path(root)
    if not file.is_file():
        refuse_unfinished(root)
        file = validation.find(file / "SI Staging Label", "Whole_label_data.pickle", "expert hypnograms")[0]
    content = validation.read_container(file, dict, " of subjects")
    return {
        str(name): check_hypnogram(content[name], f"{display_path(file)}, {name}")
        for name in sorted(content, key=validation.natural)
    }


def check_training_window(record: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Return "window" (3, 15000) and one-hot "label" (4,) of a record, or refuse it."""
    label = validation.one_hot(record["category_name"], where, "category_name")
    code = int(record["feature_label"][0])
    if code != int(label.argmax()):
        raise UserError(
            f"{where}, field 'feature_label': says stage {code}, but 'category_name' says {int(label.argmax())}"
        )
    shape = STAGING["feature_data"].shape
    return {"window": validation.signal(record, "feature_data", shape, where), "label": label}


def check_window(window: Any, where: str, gaps: bool = False) -> tuple[int, np.ndarray]:
    """Return stage code and signals (3, 15000) of a test subject's staging window, or refuse it.

    With `gaps` samples that are not finite are let through.
    """
    stage = check_stage(validation.entry(window, "label", where), f"{where}, field 'label'")
    return stage, validation.signal(window, "data", (3, STAGING_SAMPLES), where, gaps)


def check_counts(file: Path, windows: int, raw: Path, epochs: int) -> None:
    """Refuse numbers of windows and of scored epochs that do not go together."""
    expected = max(0, WINDOWS_PER_EPOCH * (epochs - 1) + 1)
    if windows != expected:
        raise UserError(f"{file}: {epochs} epochs in {raw.name} need {expected} windows, found {windows}")


def check_hypnogram(hypnogram: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return onsets in s (n + 1,) and stage codes (n,) of a subject's expert hypnogram, or refuse it."""
    labels = validation.entry(hypnogram, "label", where)
    if not isinstance(labels, list | tuple) and getattr(labels, "ndim", 0) != 1:
        raise UserError(f"{where}, field 'label': expected a list of stages, found {validation.brief(labels)}")
    stage = np.array([check_stage(label, f"{where}, field 'label'") for label in labels], np.int64)
    times = validation.entry(hypnogram, "onset", where)
    try:
        onset = np.asarray(times, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{where}, field 'onset': expected times in s, found {validation.brief(times)}") from None
    if onset.shape != (len(stage) + 1,):
        raise UserError(f"{where}: {len(stage)} stages need {len(stage) + 1} onsets, found {onset.size}")
    if not (np.isfinite(onset).all() and (np.diff(onset) >= 0).all()):
        raise UserError(f"{where}, field 'onset': the times run backwards or are not finite")
    return onset, stage


def check_stage(value: Any, where: str) -> int:
    """Return a stage code as int, -1 for what nobody scored (data/prepare.py writes it), or refuse what is none."""
    try:
        number = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        number = np.empty(0)
    if number.size != 1 or number.dtype.kind not in "iuf" or number.item() not in range(UNKNOWN, len(STAGES)):
        raise UserError(
            f"{where}: expected a stage from 0 to {len(STAGES) - 1}, found {validation.brief(value)} "
            f"({UNKNOWN} is what nobody scored)"
        )
    return int(number.item())
