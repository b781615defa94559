"""The test subjects' trials: read as a whole, given out part by part for fine-tuning and reporting."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats import trial_origin, validation
from sleep_interpreter.data.formats.records import awake_draws, permutation, slices
from sleep_interpreter.data.formats.simulation_marks import refuse_unfinished, trials_are_marked
from sleep_interpreter.data.formats.trial_reader import Batch
from sleep_interpreter.utils.core.constants import WINDOWS
from sleep_interpreter.utils.core.data_card import AWAKE, DataCard, card_of, published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.provenance import is_simulated

DATA_TYPES = ("train", "val", "test")
"""Parts of a test subject's trials: to fine-tune on, to choose the epoch with, to report."""
TRIAL_STAGES = ("N2N3", "REM")


@dataclass(frozen=True, eq=False)
class TestSubject:
    """One unseen subject's sleep trials of one stage.

    `image` and `audio` are the 15 awake trials of the same item beside each sleep trial, float32 (n, 15, 80, 55), if
    asked for and the data set has trials of this kind.
    """

    __test__ = False  # the name is no pytest class

    name: str  # of the folder, e.g. "subject_test_3"
    file: Path  # the pickle they come from
    sleep: np.ndarray  # float32 (n, 200, 55)
    label: np.ndarray  # int64 (n,), index into the card's items
    data_type: np.ndarray  # str (n,), "train", "val" or "test"
    image: np.ndarray | None = None
    audio: np.ndarray | None = None
    data_types: tuple[str, ...] = DATA_TYPES  # the parts that were asked for
    simulated: bool = False  # the file or the data set is marked so
    card: DataCard = field(default_factory=published)  # of the data set
    origin: pd.DataFrame | None = None  # n rows, where trials come from (`trial_origin`); None: the file does not say

    def __len__(self) -> int:
        return len(self.label)

    def part(self, data_type: str) -> "SubjectTrials":
        """Return the trials of one part, "train", "val" or "test"; empty when the subject has no such trial.

        Refuses an unknown part, and one that was not read.
        """
        _check_parts([data_type])
        if data_type not in self.data_types:
            raise UserError(f"{self.file}: the part {data_type!r} was not read, only {', '.join(self.data_types)}")
        return SubjectTrials(self, np.flatnonzero(self.data_type == data_type))


class SubjectTrials:
    """Some trials of one test subject, in batches like those of `training_trials.TrainingTrials`.

    Order and awake draw depend on seed, epoch and position only, as there. `places` (n,) says which of the
    subject's trials.
    """

    unit: ClassVar[str] = "trial"

    def __init__(self, subject: TestSubject, places: np.ndarray) -> None:
        self.subject, self.places = subject, np.asarray(places, np.int64)

    def __len__(self) -> int:
        return len(self.places)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all sleep trials in stored order: float32 "sleep" (n, 200, 55), "label" (n, 15) one-hot."""
        return {"sleep": self.subject.sleep[self.places], "label": self._one_hot(self.places)}

    def batches(self, batch_size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch; the parameters are those of `data.formats.records.Records.batches`.

        A batch holds float32 "sleep" (B, 200, 55), "label" (B, 15); "image" and "audio" (B, 80, 55), one of the 15
        drawn for every trial and epoch, when the subject was read with awake trials.
        """
        order = self.places[permutation(len(self), seed, epoch)]
        drawn = awake_draws(len(self), seed, epoch, self.subject.card.awake_per_sleep)
        for some in slices(len(self), batch_size):
            places = order[some]
            batch = {"sleep": self.subject.sleep[places], "label": self._one_hot(places)}
            for kind in AWAKE:
                if (own := getattr(self.subject, kind)) is not None:
                    batch[kind] = own[places, drawn[some]]
            yield batch

    def _one_hot(self, places: np.ndarray) -> np.ndarray:
        return np.eye(len(self.subject.card.items), dtype=np.float32)[self.subject.label[places]]


def read_test_subjects(
    root: str | Path, stage: str = "N2N3", data_types: str | Iterable[str] = DATA_TYPES, awake: bool = False, *,
    window: str = "cue", skipped: list[dict[str, Any]] | None = None, only: Iterable[str] | None = None,
) -> list[TestSubject]:  # fmt: skip
    """Read the test subjects' trials in natural order; one without a trial of these parts is there with n = 0.

    Parameters
    ----------
    root
        The folder that holds `SI Main Test`.
    stage
        "N2N3" or "REM".
    data_types
        Which parts to keep: "train", "val", "test".
    awake
        Take the awake trials along (12 times the memory).
    window
        "precue" reads `precue_{stage}*`, the 2 s before each cue, where no decoder may find its item. The published
        data hold no such files.
    skipped
        Bad trials are appended here, {"file": str, "record": int, "reason": str}, and left out; None: the first one
        raises.
    only
        Names of the subjects wanted, so that one after the other can be held; None for all.

    Raises
    ------
    UserError
        No such files, a simulated data set that is not complete, or a trial with a missing field, a wrong shape or
        label, or values that are not finite, naming file and trial.
    """
    check_trial_stage(stage)
    parts = (data_types,) if isinstance(data_types, str) else tuple(data_types)
    _check_parts(parts)
    refuse_unfinished(root)
    files = validation.one_file_a_subject(find_test_files(root, stage, window))
    marked, card = is_simulated(root), card_of(root)
    card.require(stage, root)
    if only is not None:
        names, known = list(only), {validation.subject_name(file): file for file in files}
        for name in names:
            if name not in known:
                raise UserError(f"no test subject {name!r}; there are {', '.join(known)}")
        files = [file for name, file in known.items() if name in names]
    return [_read_test_subject(file, card, parts, awake, skipped, marked) for file in files]


def check_trial_stage(stage: str) -> None:
    """Refuse a stage that no decoder's trials are of."""
    if stage not in TRIAL_STAGES:
        raise UserError(f"stage {stage!r} is unknown; there are {' and '.join(TRIAL_STAGES)}")


def find_test_files(root: str | Path, stage: str = "N2N3", window: str = "cue") -> list[Path]:
    """Return the test subjects' pickles of one stage ("N2N3", "REM" or "SO"), in natural order."""
    if window not in WINDOWS:
        raise UserError(f"window {window!r} is unknown; there are {' and '.join(WINDOWS)}")
    folder = Path(root) / "SI Main Test"
    if window == "cue":
        return validation.find(folder, f"subject_test_*/{stage}*", "test subjects")
    pattern = f"subject_test_*/precue_{stage}*"
    if not any(folder.glob(pattern)):
        raise UserError(
            f"no trials from before the cue found: there is no {folder}/{pattern}; the published "
            "files hold no pre-cue window, `python data/simulate.py` writes one, and docs/data_format.md "
            "says what to put there from recordings of your own"
        )
    return validation.find(folder, pattern, "trials from before the cue")


def check_test_trial(trial: Any, card: DataCard, where: str, awake: bool) -> dict[str, Any]:
    """Return what a test subject's pickled trial holds, samples first; refuse a field that is missing or wrong.

    That is "data_type" str, "label" int, "sleep" (200, 55), with `awake` also "image" and "audio" (15, 80, 55).
    `where` says file and trial in messages.
    """
    columns = {
        "data_type": validation.part_of(trial, DATA_TYPES, where),
        "label": validation.item_index(validation.entry(trial, "category", where), card, where),
        "sleep": validation.sleep_signal(trial, "Sleep_EEG", where, card).T,
    }
    for key in card.awake_kinds if awake else ():
        shape = (card.awake_per_sleep, *card.awake_shape)
        columns[key] = validation.signal(trial, f"awake_{key}_erp", shape, where, card=card).transpose(0, 2, 1)
    return columns


def _check_parts(parts: Iterable[str]) -> None:
    unknown = [part for part in parts if part not in DATA_TYPES]
    if unknown:
        raise UserError(f"data_type {unknown[0]!r} is unknown; there are {', '.join(DATA_TYPES)}")


def _read_test_subject(
    file: Path, card: DataCard, parts: tuple[str, ...], awake: bool, skipped: list[dict[str, Any]] | None, marked: bool
) -> TestSubject:
    trials = validation.read_container(file, list, " of trials")
    columns: dict[str, list[Any]] = {key: [] for key in ("sleep", "label", "data_type", "image", "audio", "origin")}
    largest = 0.0
    for number, trial in enumerate(trials):
        where = f"{display_path(file)}, trial {number}"
        try:
            if validation.part_of(trial, DATA_TYPES, where) not in parts:
                continue
            checked = check_test_trial(trial, card, where, awake) | {"origin": trial_origin.read_one(trial, where)}
        except UserError as error:
            if skipped is None:
                raise
            skipped.append(validation.left_out(file, number, where, error))
            continue
        for key, value in checked.items():
            columns[key].append(value)
        largest = max(largest, float(np.nanmax(np.abs(checked["sleep"]))))
    if card.unit == "robust":
        validation.warn_of_scale(file, largest)
    awake_shape = (card.awake_per_sleep, *reversed(card.awake_shape))
    return TestSubject(
        name=validation.subject_name(file),
        file=file,
        sleep=_stack(columns["sleep"], tuple(reversed(card.sleep_shape))),
        label=np.array(columns["label"], np.int64),
        data_type=np.array(columns["data_type"], "U5"),
        **{kind: _stack(columns[kind], awake_shape) for kind in card.awake_kinds if awake},
        data_types=parts,
        simulated=marked or trials_are_marked(trials),
        card=card,
        origin=trial_origin.to_table(columns["origin"], display_path(file)),
    )


def _stack(arrays: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.ascontiguousarray(np.stack(arrays)) if arrays else np.zeros((0, *shape), np.float32)
