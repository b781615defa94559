"""Staging windows and expert hypnograms as stager training and evaluation read them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data.checks import brief, entry, find, natural, one_file_a_subject, one_hot, signal, subject_name
from data.marks import are_simulated, refuse_unfinished, trials_are_marked
from data.order import permutation, slices
from data.pickles import read_pickle
from data.tfrecords import STAGING, STAGING_SAMPLES, RecordFile
from utils.errors import UserError
from utils.paths import shown
from utils.provenance import is_simulated
from utils.vocabulary import STAGES

WINDOWS_PER_EPOCH = 10
"""Staging windows of 30 s start every 3 s, so ten fall on one scored epoch of 30 s."""


class StagingWindows:
    """The training subjects' staging windows (`SI Staging/Train/subject*/Whole*`, TFRecords).

    Parameters
    ----------
    root : str | Path
        The folder that holds `SI Staging`.

    Attributes
    ----------
    files : list of Path
    subjects : list of str

    Raises
    ------
    UserError
        No such files, or a damaged one.
    """

    def __init__(self, root):
        self.root = Path(root)
        refuse_unfinished(root)
        folder = self.root / "SI Staging" / "Train"
        self.files = one_file_a_subject(find(folder, "subject*/Whole*", "staging windows"))
        self.subjects = [subject_name(file) for file in self.files]
        self._sources = [RecordFile(file, STAGING) for file in self.files]
        self._starts = np.cumsum([0] + [len(source) for source in self._sources])
        if not len(self):
            raise UserError(f"{shown(folder)}: its {len(self.files)} files hold no window; get them again")

    def __len__(self):
        return int(self._starts[-1])

    @cached_property
    def simulated(self):
        """Whether the folder or any of the files is marked as simulated."""
        return are_simulated(self.files, self.root)

    def read(self, index):
        """Return "window" float32 (3, 15000) and "label" float32 one-hot (4,) of one place in `files`."""
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        source, place = self._sources[which], int(index - self._starts[which])
        return check_training_window(source.read(place), source.where(place))

    def batches(self, batch_size, seed, epoch, drop_last=False):
        """Yield the batches of one epoch, in an order that depends on `seed` and `epoch` only.

        Yields
        ------
        batch : dict of str to float32 array
            "window" (B, 3, 15000), "label" (B, 4) one-hot.
        """
        order = permutation(len(self), seed, epoch)
        for some in slices(len(self), batch_size, drop_last):
            windows = [self.read(index) for index in order[some]]
            yield {key: np.stack([window[key] for window in windows]) for key in windows[0]}


@dataclass(frozen=True, eq=False)
class StagingSubject:
    """One test subject's night for stager evaluation.

    Attributes
    ----------
    name : str
    file : Path
    window : float32 array, shape (n, 3, 15000)
        One every 3 s; n = 10 * m - 9.
    window_stage : int64 array, shape (n,)
        Stage code stored with each window.
    epoch_stage : int64 array, shape (m,)
        Expert stage of each 30 s epoch.
    simulated : bool
        The file or the data set is marked as simulated.
    """

    name: str
    file: Path
    window: np.ndarray
    window_stage: np.ndarray
    epoch_stage: np.ndarray
    simulated: bool = False


def read_staging_subjects(root):
    """Yield the staging test subjects one after the other (a real night takes 1.5 GB).

    Parameters
    ----------
    root : str | Path
        The folder that holds `SI Staging`.

    Yields
    ------
    subject : StagingSubject

    Raises
    ------
    UserError
        No such files, a wrong field or shape, or numbers of windows and epochs that do not go together.
    """
    refuse_unfinished(root)
    marked = is_simulated(root)
    folder = Path(root) / "SI Staging" / "Test"
    for file in one_file_a_subject(find(folder, "subject*/Whole*", "staging test subjects")):
        raw = find(file.parent, "raw*", "30 s stage labels")
        if len(raw) != 1:
            raise UserError(f"{shown(file.parent)}: expected one raw* file of 30 s labels, found {len(raw)}")
        content = list_of(file)
        checked = [check_window(window, f"{shown(file)}, window {i}") for i, window in enumerate(content)]
        stages, windows = zip(*checked, strict=True) if checked else ((), ())
        epochs = [
            check_stage(label, f"{shown(raw[0])}, epoch {i}") for i, label in enumerate(list_of(raw[0]))
        ]
        check_counts(file, len(windows), raw[0], len(epochs))
        yield StagingSubject(
            name=subject_name(file),
            file=file,
            window=np.stack(windows) if windows else np.zeros((0, 3, STAGING_SAMPLES), np.float32),
            window_stage=np.array(stages, np.int64),
            epoch_stage=np.array(epochs, np.int64),
            simulated=marked or trials_are_marked(content),
        )


def read_stage_labels(root):
    """Read the expert hypnograms (`SI Staging Label/Whole_label_data.pickle`).

    The published quirks are kept as they are: neighbouring segments may repeat a stage, a segment may be
    0 s long, the last one may be of any length.

    Parameters
    ----------
    root : str | Path

    Returns
    -------
    hypnograms : dict of str to (onset, stage)
        `onset` float64 (n + 1,) in s, the last one being the end; `stage` int64 (n,).

    Raises
    ------
    UserError
        The file is missing, onsets run backwards, or a stage is not 0 to 3.
    """
    refuse_unfinished(root)
    file = find(Path(root) / "SI Staging Label", "Whole_label_data.pickle", "expert hypnograms")[0]
    content = dict_of(file)
    return {
        str(name): check_hypnogram(content[name], f"{shown(file)}, {name}")
        for name in sorted(content, key=natural)
    }


def check_training_window(record, where):
    """Return "window" (3, 15000) and one-hot "label" (4,) of a record, or refuse it."""
    label = one_hot(record["category_name"], where, "category_name")
    code = int(record["feature_label"][0])
    if code != int(label.argmax()):
        raise UserError(
            f"{where}, field 'feature_label': says stage {code}, but 'category_name' says "
            f"{int(label.argmax())}"
        )
    shape = STAGING["feature_data"].shape
    return {"window": signal(record, "feature_data", shape, where), "label": label}


def check_window(window, where):
    """Return stage code and signals (3, 15000) of a test subject's staging window, or refuse it."""
    stage = check_stage(entry(window, "label", where), f"{where}, field 'label'")
    return stage, signal(window, "data", (3, STAGING_SAMPLES), where)


def check_counts(file, windows, raw, epochs):
    """Refuse numbers of windows and of scored epochs that do not go together."""
    expected = max(0, WINDOWS_PER_EPOCH * (epochs - 1) + 1)
    if windows != expected:
        raise UserError(
            f"{shown(file)}: {epochs} epochs in {raw.name} need {expected} windows, found {windows}"
        )


def check_hypnogram(hypnogram, where):
    """Return onsets in s (n + 1,) and stage codes (n,) of a subject's expert hypnogram, or refuse it."""
    labels = entry(hypnogram, "label", where)
    if not isinstance(labels, list | tuple) and getattr(labels, "ndim", 0) != 1:
        raise UserError(f"{where}, field 'label': expected a list of stages, found {brief(labels)}")
    stage = np.array([check_stage(label, f"{where}, field 'label'") for label in labels], np.int64)
    times = entry(hypnogram, "onset", where)
    try:
        onset = np.asarray(times, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{where}, field 'onset': expected times in s, found {brief(times)}") from None
    if onset.shape != (len(stage) + 1,):
        raise UserError(f"{where}: {len(stage)} stages need {len(stage) + 1} onsets, found {onset.size}")
    if not (np.isfinite(onset).all() and (np.diff(onset) >= 0).all()):
        raise UserError(f"{where}, field 'onset': the times run backwards or are not finite")
    return onset, stage


def check_stage(value, where):
    """Return a stage code as int, or refuse what is none."""
    try:
        number = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        number = np.empty(0)
    if number.size != 1 or number.dtype.kind not in "iuf" or number.item() not in range(len(STAGES)):
        raise UserError(f"{where}: expected a stage from 0 to {len(STAGES) - 1}, found {brief(value)}")
    return int(number.item())


def list_of(file):
    """Return the list that a pickle holds, its entries unchecked."""
    content = read_pickle(file)
    if not isinstance(content, list):
        raise UserError(f"{shown(file)}: expected a list, found {type(content).__name__}")
    return content


def dict_of(file):
    """Return the dict of subjects that a pickle holds, its values unchecked."""
    content = read_pickle(file)
    if not isinstance(content, dict):
        raise UserError(f"{shown(file)}: expected a dict of subjects, found {type(content).__name__}")
    return content
