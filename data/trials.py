"""Sleep and awake trials as training and evaluation read them, whatever files they come from."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.checks import (
    entry,
    find,
    finite,
    item_index,
    natural,
    one_file_a_subject,
    one_hot,
    signal,
    subject_name,
)
from data.pickles import read_pickle
from data.tfrecords import AWAKE_PER_SLEEP, AWAKE_SAMPLES, CHANNELS, SLEEP, SLEEP_SAMPLES, WHOLE, RecordFile
from utils.errors import UserError
from utils.paths import shown
from utils.vocabulary import ITEMS

log = logging.getLogger(__name__)

DATA_TYPES = ("train", "val", "test")
"""Parts of a test subject's trials: to fine-tune on, to choose the epoch with, to report."""
TRIAL_STAGES = ("N2N3", "REM")

_SAMPLED = 65536


class TrainingTrials:
    """The training subjects' sleep trials, each with one awake image and one awake audio trial.

    Nothing is held in memory but the records' places in the files (for REM without awake trials, which are
    published as pickles, the trials themselves).

    **Order and draw.** An epoch goes through all trials of all files in one permutation that depends on
    `seed` and `epoch` only. A sleep trial is stored with 15 awake trials of the same item; in every epoch
    one of the 15 is drawn for it, the same index for image and audio. The draw depends on `seed`, `epoch`
    and the position in the epoch only, so epoch 40 of a resumed training equals epoch 40 of an
    uninterrupted one, whatever the batch size.

    Parameters
    ----------
    root : str | Path
        The folder that holds `SI Main Train_tfrecords` (and `SI Main Train_pickle`).
    stage : "N2N3" | "REM"
    awake : bool
        Read `Whole*` (sleep with awake trials); otherwise `sleep*`.

    Attributes
    ----------
    files : list of Path
        In natural order (subject 2 before subject 10).
    subjects : list of str
        Name of each file's subject where the file name tells it, otherwise the file's name.

    Raises
    ------
    UserError
        No such files, or a damaged one.
    """

    def __init__(self, root, stage="N2N3", awake=True):
        if stage not in TRIAL_STAGES:
            raise UserError(f"stage {stage!r} is unknown; there are {' and '.join(TRIAL_STAGES)}")
        self.stage, self.awake = stage, awake
        pickled = stage == "REM" and not awake
        kind = "pickle" if pickled else "tfrecords"
        folder = Path(root) / f"SI Main Train_{kind}" / stage
        self.files = one_file_a_subject(find(folder, "Whole*" if awake else "sleep*", "training trials"))
        self.subjects = [subject_name(file) for file in self.files]
        if pickled:
            self._sources = [_PickledSleep(file) for file in self.files]
        else:
            self._sources = [RecordFile(file, WHOLE if awake else SLEEP) for file in self.files]
        self._starts = np.cumsum([0] + [len(source) for source in self._sources])
        if not len(self):
            raise UserError(f"{shown(folder)}: its {len(self.files)} files hold no trial; get them again")
        log.debug("%s: %d trials in %d files", shown(folder), len(self), len(self.files))

    def __len__(self):
        return int(self._starts[-1])

    def read(self, index, drawn=None):
        """Read one trial.

        Parameters
        ----------
        index : int
            Place among all trials in the order of `files`.
        drawn : int | None
            Which of its 15 awake trials to take along; needed when the trials are with awake ones.

        Returns
        -------
        trial : dict of str to float32 array
            "sleep" (200, 55), "label" (15,) one-hot, with awake trials "image" and "audio" (80, 55).

        Raises
        ------
        UserError
            The record is not finite or not one-hot, or a field is wrong, naming file and record.
        """
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        source, place = self._sources[which], int(index - self._starts[which])
        record = source.read(place, trial=drawn)
        where = source.where(place)
        trial = {
            "sleep": finite(record["feature_Sleep_EEG"], where, "feature_Sleep_EEG").T,
            "label": one_hot(record["category_name"], where, "category_name"),
        }
        if self.awake:
            for key, field in (("image", "feature_awake_image_erp"), ("audio", "feature_awake_audio_erp")):
                trial[key] = finite(record[field], where, field).T
        return trial

    def batches(self, batch_size, seed, epoch, drop_last=False):
        """Yield the batches of one epoch.

        Parameters
        ----------
        batch_size : int
        seed, epoch : int
            Together they determine order and draw; not negative.
        drop_last : bool
            Leave out a last batch that is not full.

        Yields
        ------
        batch : dict of str to float32 array
            "sleep" (B, 200, 55), "label" (B, 15), with awake trials "image" and "audio" (B, 80, 55).
        """
        order = permutation(len(self), seed, epoch)
        drawn = np.random.default_rng([1, seed, epoch]).integers(AWAKE_PER_SLEEP, size=len(self))
        for some in slices(len(self), batch_size, drop_last):
            trials = [
                self.read(index, int(draw) if self.awake else None)
                for index, draw in zip(order[some], drawn[some], strict=True)
            ]
            yield {key: np.stack([trial[key] for trial in trials]) for key in trials[0]}


@dataclass(frozen=True, eq=False)
class TestSubject:
    """One unseen subject's sleep trials of one stage.

    Attributes
    ----------
    name : str
        Folder name, e.g. "subject_test_3".
    file : Path
        The pickle they come from.
    sleep : float32 array, shape (n, 200, 55)
    label : int64 array, shape (n,)
        Index into `utils.vocabulary.ITEMS`.
    data_type : str array, shape (n,)
        "train", "val" or "test".
    image, audio : float32 array, shape (n, 15, 80, 55), or None
        The 15 awake trials of the same item beside each sleep trial, if asked for.
    """

    __test__ = False  # the name is no pytest class

    name: str
    file: Path
    sleep: np.ndarray
    label: np.ndarray
    data_type: np.ndarray
    image: np.ndarray | None = None
    audio: np.ndarray | None = None

    def __len__(self):
        return len(self.label)


def read_test_subjects(root, stage="N2N3", data_types=DATA_TYPES, awake=False):
    """Read the test subjects' trials.

    Parameters
    ----------
    root : str | Path
        The folder that holds `SI Main Test`.
    stage : "N2N3" | "REM"
    data_types : iterable of str
        Which parts to keep: "train", "val", "test".
    awake : bool
        Take the awake trials along (12 times the memory).

    Returns
    -------
    subjects : list of TestSubject
        In natural order; a subject without a trial of these parts is there with n = 0.

    Raises
    ------
    UserError
        No such files, or a trial with a missing field, a wrong shape or label, or values that are not
        finite, naming file and trial.
    """
    files = one_file_a_subject(find_test_files(root, stage))
    return [_read_test_subject(file, tuple(data_types), awake) for file in files]


def find_test_files(root, stage="N2N3"):
    """Return the test subjects' pickles of one stage ("N2N3", "REM" or "SO"), in natural order."""
    return find(Path(root) / "SI Main Test", f"subject_test_*/{stage}*", "test subjects")


def _read_test_subject(file, data_types, awake):
    unknown = sorted(set(data_types) - set(DATA_TYPES))
    if unknown:
        raise UserError(f"data_type {unknown[0]!r} is unknown; there are {', '.join(DATA_TYPES)}")
    columns = {"sleep": [], "label": [], "data_type": [], "image": [], "audio": []}
    for number, trial in enumerate(_list_of_trials(file)):
        where = f"{shown(file)}, trial {number}"
        part = entry(trial, "data_type", where)
        if part not in DATA_TYPES:
            raise UserError(f"{where}, field 'data_type': expected {' / '.join(DATA_TYPES)}, found {part!r}")
        if part not in data_types:
            continue
        columns["data_type"].append(part)
        columns["label"].append(item_index(entry(trial, "category", where), where))
        columns["sleep"].append(signal(trial, "Sleep_EEG", (CHANNELS, SLEEP_SAMPLES), where).T)
        for key in ("image", "audio") if awake else ():
            shape = (AWAKE_PER_SLEEP, CHANNELS, AWAKE_SAMPLES)
            columns[key].append(signal(trial, f"awake_{key}_erp", shape, where).transpose(0, 2, 1))
    awake_shape = (AWAKE_PER_SLEEP, AWAKE_SAMPLES, CHANNELS)
    return TestSubject(
        name=subject_name(file),
        file=file,
        sleep=_stack(columns["sleep"], (SLEEP_SAMPLES, CHANNELS)),
        label=np.array(columns["label"], np.int64),
        data_type=np.array(columns["data_type"], "U5"),
        image=_stack(columns["image"], awake_shape) if awake else None,
        audio=_stack(columns["audio"], awake_shape) if awake else None,
    )


class _PickledSleep:
    """Sleep trials of one `SI Main Train_pickle/REM/sleep*` file behind the interface of a RecordFile."""

    def __init__(self, file):
        self.path = file
        self._trials = []
        for number, trial in enumerate(_list_of_trials(file)):
            where = self.where(number)
            label = np.zeros(len(ITEMS), np.float32)
            label[item_index(entry(trial, "category", where), where)] = 1
            eeg = signal(trial, "Sleep_EEG", (CHANNELS, SLEEP_SAMPLES), where)
            self._trials.append({"category_name": label, "feature_Sleep_EEG": eeg})

    def __len__(self):
        return len(self._trials)

    def where(self, index):
        return f"{shown(self.path)}, trial {index}"

    def read(self, index, trial=None):
        return self._trials[index]


def permutation(count, seed, epoch):
    """Return the order of `count` trials in an epoch, int array (count,)."""
    return np.random.default_rng([0, seed, epoch]).permutation(count)


def slices(count, batch_size, drop_last=False):
    """Return the slices that cut `count` trials into batches."""
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: must be at least 1")
    stop = count - count % batch_size if drop_last else count
    return [slice(start, min(start + batch_size, count)) for start in range(0, stop, batch_size)]


def _list_of_trials(file):
    trials = read_pickle(file)
    if not isinstance(trials, list):
        raise UserError(f"{shown(file)}: expected a list of trials, found {type(trials).__name__}")
    return trials


def _stack(arrays, shape):
    return np.ascontiguousarray(np.stack(arrays)) if arrays else np.zeros((0, *shape), np.float32)


def fingerprint(files):
    """Return a sha256 that tells one set of data files from another.

    It covers each file's name, its size and its first and last 64 KiB, not every byte: a change in the
    middle of a large file that keeps its size goes unnoticed. It names the data a result came from; it is
    no protection against tampering. Names count relative to the files' common folder, so moving a whole
    data set keeps its fingerprint.

    Parameters
    ----------
    files : iterable of str | Path

    Returns
    -------
    digest : str
        64 hexadecimal digits.
    """
    files = sorted((Path(file).resolve() for file in files), key=natural)
    total = hashlib.sha256()
    for file in files:
        common = next(p for p in file.parents if all(p in other.parents for other in files))
        size = file.stat().st_size
        total.update(f"{file.relative_to(common).as_posix()}\0{size}\0".encode())
        with file.open("rb") as handle:
            total.update(handle.read(_SAMPLED))
            if size > _SAMPLED:
                handle.seek(max(_SAMPLED, size - _SAMPLED))
                total.update(handle.read(_SAMPLED))
    return total.hexdigest()
