"""Staging windows and expert hypnograms as stager training and evaluation read them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.checks import entry, find, natural, one_hot, signal, subject_name
from data.pickles import read_pickle
from data.tfrecords import STAGING, STAGING_SAMPLES, RecordFile
from data.trials import permutation, slices
from utils.errors import UserError
from utils.paths import shown
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
        folder = Path(root) / "SI Staging" / "Train"
        self.files = find(folder, "subject*/Whole*", "staging windows")
        self.subjects = [subject_name(file) for file in self.files]
        self._sources = [RecordFile(file, STAGING) for file in self.files]
        self._starts = np.cumsum([0] + [len(source) for source in self._sources])
        if not len(self):
            raise UserError(f"{shown(folder)}: its {len(self.files)} files hold no window; get them again")

    def __len__(self):
        return int(self._starts[-1])

    def read(self, index):
        """Return "window" float32 (3, 15000) and "label" float32 one-hot (4,) of one place in `files`."""
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        source, place = self._sources[which], int(index - self._starts[which])
        record, where = source.read(place), source.where(place)
        label = one_hot(record["category_name"], where, "category_name")
        code = int(record["feature_label"][0])
        if code != int(label.argmax()):
            raise UserError(
                f"{where}: field 'feature_label' says stage {code}, but 'category_name' says "
                f"{int(label.argmax())}"
            )
        shape = STAGING["feature_data"].shape
        return {"window": signal(record, "feature_data", shape, where), "label": label}

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
    """

    name: str
    file: Path
    window: np.ndarray
    window_stage: np.ndarray
    epoch_stage: np.ndarray


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
    folder = Path(root) / "SI Staging" / "Test"
    for file in find(folder, "subject*/Whole*", "staging test subjects"):
        raw = find(file.parent, "raw*", "30 s stage labels")
        if len(raw) != 1:
            raise UserError(f"{shown(file.parent)}: expected one raw* file of 30 s labels, found {len(raw)}")
        windows, stages = [], []
        for number, window in enumerate(_list(file)):
            where = f"{shown(file)}, window {number}"
            stages.append(_stage(entry(window, "label", where), where))
            windows.append(signal(window, "data", (3, STAGING_SAMPLES), where))
        epochs = [_stage(label, f"{shown(raw[0])}, epoch {i}") for i, label in enumerate(_list(raw[0]))]
        expected = max(0, WINDOWS_PER_EPOCH * (len(epochs) - 1) + 1)
        if len(windows) != expected:
            raise UserError(
                f"{shown(file)}: {len(epochs)} epochs in {raw[0].name} need {expected} windows, "
                f"found {len(windows)}"
            )
        yield StagingSubject(
            name=subject_name(file),
            file=file,
            window=np.stack(windows) if windows else np.zeros((0, 3, STAGING_SAMPLES), np.float32),
            window_stage=np.array(stages, np.int64),
            epoch_stage=np.array(epochs, np.int64),
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
    file = find(Path(root) / "SI Staging Label", "Whole_label_data.pickle", "expert hypnograms")[0]
    content = read_pickle(file)
    if not isinstance(content, dict):
        raise UserError(f"{shown(file)}: expected a dict of subjects, found {type(content).__name__}")
    hypnograms = {}
    for name in sorted(content, key=natural):
        where = f"{shown(file)}, {name}"
        onset = np.asarray(entry(content[name], "onset", where), np.float64)
        labels = entry(content[name], "label", where)
        stage = np.array([_stage(label, where) for label in labels], np.int64)
        if onset.shape != (len(stage) + 1,):
            raise UserError(f"{where}: {len(stage)} stages need {len(stage) + 1} onsets, found {onset.size}")
        if not (np.isfinite(onset).all() and (np.diff(onset) >= 0).all()):
            raise UserError(f"{where}, field 'onset': the times run backwards or are not finite")
        hypnograms[str(name)] = (onset, stage)
    return hypnograms


def _list(file):
    content = read_pickle(file)
    if not isinstance(content, list):
        raise UserError(f"{shown(file)}: expected a list, found {type(content).__name__}")
    return content


def _stage(value, where):
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "iuf" or number.item() not in range(len(STAGES)):
        raise UserError(f"{where}: expected a stage from 0 to {len(STAGES) - 1}, found {value!r}")
    return int(number.item())
