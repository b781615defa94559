"""Sleep and awake trials as training and evaluation read them, whatever files they come from."""

import logging
from pathlib import Path

import numpy as np

from sleep_interpreter.data.formats.epoch_order import awake_draws, permutation, slices
from sleep_interpreter.data.formats.records import Records
from sleep_interpreter.data.formats.simulation_marks import refuse_unfinished
from sleep_interpreter.data.formats.test_trials import (
    TRIAL_STAGES,
    list_of_trials,
)
from sleep_interpreter.data.formats.tfrecords import CHANNELS, SLEEP, SLEEP_SAMPLES, WHOLE, RecordFile
from sleep_interpreter.data.formats.validation import (
    entry,
    find,
    finite,
    item_index,
    left_out,
    one_file_a_subject,
    one_hot,
    signal,
    warn_of_scale,
)
from sleep_interpreter.utils.core.constants import ITEMS
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import shown

log = logging.getLogger(__name__)


class TrainingTrials(Records):
    """The training subjects' sleep trials, each with one awake image and one awake audio trial.

    **Order and draw.** An epoch goes through all trials of all files in one permutation that depends on
    `seed` and `epoch` only. A sleep trial is stored with 15 awake trials of the same item; in every epoch
    one of the 15 is drawn for it, the same index for image and audio. The draw depends on `seed`, `epoch`
    and the position in the epoch only, so epoch 40 of a resumed training equals epoch 40 of an
    uninterrupted one, whatever the batch size.

    **Memory.** Every trial is read from its place in its file when its turn comes, so the shuffle is over
    the whole epoch and yet only one batch is held: 80 kB a trial with awake trials (44 kB without), copied
    once while the batch is stacked, one record of 0.6 MB, and 50 bytes for every trial there is (its place,
    its label, the order). The published REM trials without awake ones are pickles, which cannot be read in
    parts: those are held as a whole, 44 kB a trial.

    Parameters
    ----------
    root : str | Path
        The folder that holds `SI Main Train_tfrecords` (and `SI Main Train_pickle`).
    stage : "N2N3" | "REM"
    awake : bool
        Read `Whole*` (sleep with awake trials); otherwise `sleep*`.
    only : iterable of str | None
        Names of the subjects to keep; None for all.
    exclude : iterable of str
        Names of the subjects to leave out; their files are not opened.
    shuffle_seed : int | None
        Negative control: permute the labels within each subject. The permutation depends on this seed and
        the subject's name only, so it is the same in every epoch and for any choice of subjects. Signals and
        awake trials stay where they are.
    skip_bad : bool
        Check every record completely now, and leave out those that fail instead of refusing the first one
        when it is read. This reads all files once.

    Attributes
    ----------
    files : list of Path
        In natural order (subject 2 before subject 10).
    subjects : list of str
        Name of each file's subject where the file name tells it, otherwise the file's name.
    skipped : list of dict
        With `skip_bad` what was left out: {"file": str, "record": int, "reason": str}. Of a file that is
        damaged in the middle the last entry stands for everything from that record on.

    Raises
    ------
    UserError
        No such files, a damaged one, an unknown subject, or a simulated data set that is not complete.
    """

    def __init__(
        self, root, stage="N2N3", awake=True, *, only=None, exclude=(), shuffle_seed=None, skip_bad=False
    ):
        if stage not in TRIAL_STAGES:
            raise UserError(f"stage {stage!r} is unknown; there are {' and '.join(TRIAL_STAGES)}")
        self.root, self.stage, self.awake = Path(root), stage, awake
        refuse_unfinished(root)
        folder, files = training_files(self.root, stage, awake)
        pickled = "pickle" in folder.parent.name
        self._choose(files, only, exclude, folder)
        if pickled:
            skipped = self.skipped if skip_bad else None
            self._sources = [_PickledSleep(file, skipped) for file in self.files]
        else:
            self._sources = [RecordFile(f, WHOLE if awake else SLEEP, skip_bad) for f in self.files]
        # All 15 awake trials are checked: any of them may be drawn one day. Pickles are checked as they open.
        check = None if pickled else lambda record, where: _checked(record, where, awake)
        self._take(folder, skip_bad, check, shuffle_seed)

    def read(self, index, drawn=None):
        """Read one trial.

        Parameters
        ----------
        index : int
            Place among all (good) trials in the order of `files`.
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
        which, place = self._places[index]
        source = self._sources[which]
        trial = _checked(source.read(place, trial=drawn), source.where(place), self.awake)
        if which not in self._warned and warn_of_scale(source.path, np.abs(trial["sleep"]).max()):
            self._warned.add(which)
        if self._labels is not None:
            trial["label"] = np.eye(len(ITEMS), dtype=np.float32)[self._labels[index]]
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
        drawn = awake_draws(len(self), seed, epoch)
        for some in slices(len(self), batch_size, drop_last):
            trials = [
                self.read(index, int(draw) if self.awake else None)
                for index, draw in zip(order[some], drawn[some], strict=True)
            ]
            yield {key: np.stack([trial[key] for trial in trials]) for key in trials[0]}

    def _largest(self, record):
        return float(np.abs(record["sleep"]).max())


def training_files(root, stage="N2N3", awake=True):
    """Return the folder of training trials and its files, one a subject, without opening any.

    Parameters
    ----------
    root : str | Path
    stage : "N2N3" | "REM"
    awake : bool
        Files with awake trials ("Whole*") or without ("sleep*").

    Raises
    ------
    UserError
        No such folder or file, or two files of one subject.
    """
    kind = "pickle" if stage == "REM" and not awake else "tfrecords"
    folder = Path(root) / f"SI Main Train_{kind}" / stage
    return folder, one_file_a_subject(find(folder, "Whole*" if awake else "sleep*", "training trials"))


class _PickledSleep:
    """Sleep trials of one `SI Main Train_pickle/REM/sleep*` file behind the interface of a RecordFile.

    Bad trials are appended to `skipped`, or raise when that is None.
    """

    def __init__(self, file, skipped=None):
        self.path = file
        self._trials, self._numbers = [], []
        largest = 0.0
        for number, trial in enumerate(list_of_trials(file)):
            where = f"{shown(file)}, trial {number}"
            label = np.zeros(len(ITEMS), np.float32)
            try:
                label[item_index(entry(trial, "category", where), where)] = 1
                eeg = signal(trial, "Sleep_EEG", (CHANNELS, SLEEP_SAMPLES), where)
            except UserError as error:
                if skipped is None:
                    raise
                skipped.append(left_out(file, number, where, error))
                continue
            self._trials.append({"category_name": label, "feature_Sleep_EEG": eeg})
            self._numbers.append(number)
            largest = max(largest, float(np.abs(eeg).max()))
        warn_of_scale(file, largest)

    def __len__(self):
        return len(self._trials)

    def where(self, index):
        return f"{shown(self.path)}, trial {self._numbers[index]}"

    def read(self, index, trial=None):
        return self._trials[index]

    def peek(self, index, name):
        return self._trials[index][name]


def _checked(record, where, awake):
    """Return a record as a trial, samples first; refuse values that are not finite or not one-hot."""
    trial = {
        "sleep": finite(record["feature_Sleep_EEG"], where, "feature_Sleep_EEG").T,
        "label": one_hot(record["category_name"], where, "category_name"),
    }
    if awake:
        for key, field in (("image", "feature_awake_image_erp"), ("audio", "feature_awake_audio_erp")):
            trial[key] = finite(record[field], where, field).swapaxes(-1, -2)
    return trial
