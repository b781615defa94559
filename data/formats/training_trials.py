"""The training subjects' sleep trials, with or without awake trials beside them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sleep_interpreter.data.formats import validation
from sleep_interpreter.data.formats.records import Records
from sleep_interpreter.data.formats.simulation_marks import refuse_unfinished
from sleep_interpreter.data.formats.test_trials import check_trial_stage
from sleep_interpreter.data.formats.tfrecords import RecordFile, sleep_schema, whole_schema
from sleep_interpreter.utils.core.data_card import AWAKE, DataCard, card_of
from sleep_interpreter.utils.core.paths import display_path


class TrainingTrials(Records):
    """The training subjects' sleep trials, each with one awake image and one awake audio trial.

    A batch holds float32 arrays "sleep" (B, 200, 55), "label" (B, 15) one-hot and, with awake trials, "image"
    and "audio" (B, 80, 55).

    **Order and draw.** An epoch goes through all trials of all files in one permutation that depends on `seed` and
    `epoch` only. A sleep trial is stored with 15 awake trials of the same item; in every epoch one of the 15 is drawn
    for it, the same index for image and audio. The draw depends on `seed`, `epoch` and the position in the epoch
    only, so epoch 40 of a resumed training equals epoch 40 of an uninterrupted one, whatever the batch size.

    **Memory.** Every trial is read from its place in its file when its turn comes, so the shuffle is over the whole
    epoch and yet only one batch is held: 80 kB a trial with awake trials (44 kB without), copied once while the batch
    is stacked, one record of 0.6 MB, and 50 bytes for every trial there is (its place, its label, the order). The
    published REM trials without awake ones are pickles, which cannot be read in parts: those are held as a whole,
    44 kB a trial.

    Attributes are those of `data.formats.records.Records`. Refuses a folder without such files, a damaged file, an
    unknown subject, and a simulated data set that is not complete.

    Parameters
    ----------
    root
        The folder that holds `SI Main Train_tfrecords` (and `SI Main Train_pickle`).
    stage
        "N2N3" or "REM".
    awake
        Read `Whole*` (sleep with awake trials): True for the kinds that the data card has, or "image", "audio" by name;
        otherwise `sleep*`.
    only, exclude
        Names of the subjects to keep, None for all, and to leave out; their files are not opened.
    shuffle_seed
        Negative control: permute the labels within each subject. The permutation depends on this seed and the
        subject's name only, so it is the same in every epoch and for any choice of subjects. Signals and awake trials
        stay where they are.
    skip_bad
        Check every record completely now, and leave out those that fail instead of refusing the first one when it is
        read. This reads all files once.
    """

    def __init__(
        self, root: str | Path, stage: str = "N2N3", awake: bool | Sequence[str] = True, *,
        only: Iterable[str] | None = None, exclude: Iterable[str] | None = (), shuffle_seed: int | None = None,
        skip_bad: bool = False,
    ) -> None:  # fmt: skip
        check_trial_stage(stage)
        self.stage, self.awake = stage, bool(awake)
        refuse_unfinished(root)
        folder, files = training_files(root, stage, self.awake)
        pickled = "pickle" in folder.parent.name
        self.card = card = card_of(root)
        self.awake_per_sleep = card.awake_per_sleep
        self.awake_kinds = tuple(awake) if not isinstance(awake, bool) else card.awake_kinds if awake else ()
        for condition in (stage, *(self.awake_kinds or AWAKE if awake else ())):
            card.require(condition, root)
        schema = whole_schema(card) if awake else sleep_schema(card)
        super().__init__(
            Path(root), folder, files,
            (lambda file: _PickledSleep(file, card)) if pickled else lambda file: RecordFile(file, schema, skip_bad),
            only=only, exclude=exclude, shuffle_seed=shuffle_seed, skip_bad=skip_bad, check_now=pickled,
        )  # fmt: skip

    def checked(self, record: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
        """Return a record as a trial, samples first; refuse values that are not finite or not one-hot.

        All 15 awake trials are checked where all are given: any of them may be drawn one day.
        """
        trial = {
            "sleep": validation.finite_sleep(record["feature_Sleep_EEG"], where, "feature_Sleep_EEG", self.card).T,
            "label": validation.one_hot(record["category_name"], where, "category_name"),
        }
        for key in self.awake_kinds:
            field = f"feature_awake_{key}_erp"
            trial[key] = validation.finite(record[field], where, field).swapaxes(-1, -2)
        return trial

    def _largest(self, record: dict[str, np.ndarray]) -> float:
        return float(np.nanmax(np.abs(record["sleep"]))) if self.card.unit == "robust" else 0.0


def training_files(root: str | Path, stage: str = "N2N3", awake: bool = True) -> tuple[Path, list[Path]]:
    """Return the folder of training trials and its files, one a subject, without opening any.

    With awake trials these are files "Whole*", without "sleep*". Refuses a folder without any, and two of one subject.
    """
    kind = "pickle" if stage == "REM" and not awake else "tfrecords"
    folder = Path(root) / f"SI Main Train_{kind}" / stage
    return folder, validation.subject_files(folder, "Whole*" if awake else "sleep*", "training trials")


class _PickledSleep:
    """Sleep trials of one `SI Main Train_pickle/REM/sleep*` file: a `data.formats.records.RecordSource`."""

    damage: str | None = None

    def __init__(self, file: Path, card: DataCard) -> None:
        self.path, self._card = file, card
        self._trials = validation.read_container(file, list, " of trials")

    def __len__(self) -> int:
        return len(self._trials)

    def where(self, index: int) -> str:
        return f"{display_path(self.path)}, trial {index}"

    def read(self, index: int, *, trial: int | None = None) -> dict[str, np.ndarray]:
        where, stored = self.where(index), self._trials[index]
        item = validation.item_index(validation.entry(stored, "category", where), self._card, where)
        eeg = validation.sleep_signal(stored, "Sleep_EEG", where, self._card)
        return {"category_name": np.eye(len(self._card.items), dtype=np.float32)[item], "feature_Sleep_EEG": eeg}

    def peek(self, index: int, name: str) -> np.ndarray:
        return self.read(index)[name]
