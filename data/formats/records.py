"""Labelled records of several files: chosen subjects, good records, shuffled labels, batches.

Order and draw of an epoch are functions of seed, epoch and position alone, so a resumed run repeats them.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from sleep_interpreter.data.formats import plausibility
from sleep_interpreter.data.formats.simulation_marks import are_simulated
from sleep_interpreter.data.formats.trial_reader import Batch
from sleep_interpreter.data.formats.validation import left_out, one_hot, subject_name, warn_of_scale
from sleep_interpreter.utils.core import file_hashes
from sleep_interpreter.utils.core.errors import UserError, nearest

log = logging.getLogger(__name__)


class RecordSource(Protocol):
    """One subject's records with random access, such as `data.formats.tfrecords.RecordFile`."""

    path: Path
    damage: str | None

    def __len__(self) -> int:
        """Return the number of readable records."""

    def where(self, index: int) -> str:
        """Return the name of a record for messages."""

    def read(self, index: int, *, trial: int | None = None) -> dict[str, np.ndarray]:
        """Read one record; of 15 awake trials take one, or all with None."""

    def peek(self, index: int, name: str) -> np.ndarray:
        """Read one small field without the rest."""


class Records:
    """What trials and staging windows share; a subclass opens its files and says how a record is checked.

    The data set is in `root`; `folder` of the files is for messages. `only` and `exclude` name the subjects to keep and
    to leave out; None for all and for none. `shuffle_seed` permutes the labels within each subject. Every record is
    checked completely at once with `skip_bad`, which leaves out those that fail, and with `check_now`, which refuses
    the first.

    Attributes
    ----------
    marks
        What tells that a file has changed since it was opened (`utils.core.file_hashes.marks`).
    files
        One a subject, in natural order (subject 2 before subject 10).
    subjects
        Name of each file's subject where the file name tells it, otherwise the file's name.
    skipped
        What was left out of damaged files: {"file": str, "record": int, "reason": str}. Of a file that is damaged in
        the middle the last entry stands for everything from that record on.
    unit
        What a record is, for progress bars and messages.
    """

    unit = "trial"
    awake_per_sleep = 15
    """Awake trials beside every sleep trial, of which one is drawn."""

    def __init__(
        self, root: Path, folder: Path, files: list[Path], open_file: Callable[[Path], RecordSource], *,
        only: Iterable[str] | None, exclude: Iterable[str] | None, shuffle_seed: int | None, skip_bad: bool,
        check_now: bool = False,
    ) -> None:  # fmt: skip
        self.root = root
        self.files = _chosen(files, only, exclude, folder)
        self.subjects = [subject_name(file) for file in self.files]
        self.skipped: list[dict[str, Any]] = []
        self._warned: set[int] = set()
        if shuffle_seed is not None and (type(shuffle_seed) is not int or shuffle_seed < 0):
            raise UserError(f"shuffle_seed {shuffle_seed!r}: must be a whole number from 0 up")
        self.marks = file_hashes.marks(self.files)
        self._sources = [open_file(file) for file in self.files]
        if skip_bad or check_now:
            kept = self._check_all(skip_bad)
        else:
            kept = [np.arange(len(source)) for source in self._sources]
        # One row a record: number of the file, place in it.
        numbers = np.repeat(np.arange(len(kept)), [len(places) for places in kept])
        self._places = np.column_stack([numbers, np.concatenate(kept)]).astype(np.int64)
        if not len(self):
            raise UserError(
                f"{folder}: its {len(self.files)} files hold no {'good ' if skip_bad else ''}"
                f"{self.unit}; get them again"
            )
        self._report_skipped()
        self._labels = None if shuffle_seed is None else self._shuffled_labels(shuffle_seed)
        log.debug("%s: %d %ss in %d files", folder, len(self), self.unit, len(self.files))

    def __len__(self) -> int:
        return len(self._places)

    @cached_property
    def simulated(self) -> bool:
        """Whether the folder or any of the files is marked as simulated."""
        return are_simulated(self.files, self.root)

    def checked(self, record: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
        """Return a stored record as it is used, with "label" one-hot, or raise a `UserError`."""
        raise NotImplementedError

    def read(self, index: int, drawn: int | None = None) -> dict[str, np.ndarray]:
        """Read the record at a place among all (good) records in the order of `files`: what `batches` yields of one.

        `drawn` says which of its 15 awake trials to take along; needed when there are any. Refuses a record that is
        not finite or not one-hot, or has a wrong field, naming file and record.
        """
        number, place = self._places[index]
        source = self._sources[number]
        record = self.checked(source.read(place, trial=drawn), source.where(place))
        if number not in self._warned and warn_of_scale(source.path, self._largest(record)):
            self._warned.add(number)
        if self._labels is not None:
            record["label"] = np.eye(len(record["label"]), dtype=np.float32)[self._labels[index]]
        return record

    def batches(self, batch_size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch, float32 arrays by name; the last one may not be full.

        `seed` and `epoch`, not negative, together determine order and draw.
        """
        order = permutation(len(self), seed, epoch)
        drawn = awake_draws(len(self), seed, epoch, self.awake_per_sleep)
        for some in slices(len(self), batch_size):
            records = [self.read(int(i), int(draw)) for i, draw in zip(order[some], drawn[some], strict=True)]
            yield {key: np.stack([record[key] for record in records]) for key in records[0]}

    def sampled(self) -> dict[str, list[str]]:
        """Return {subject: digests of some of its sleep trials}, by which they are known again elsewhere."""
        found = {}
        for number, subject in enumerate(self.subjects):
            own = np.flatnonzero(self._places[:, 0] == number)
            places = own[plausibility.spread_over(len(own))]
            found[subject] = plausibility.sampled(self.read(int(place), 0)["sleep"] for place in places)
        return found

    def _largest(self, record: dict[str, np.ndarray]) -> float:
        """Return the amplitude by which a file's scale is judged; 0 where any scale will do."""
        return 0.0

    def _check_all(self, skip_bad: bool) -> list[np.ndarray]:
        """Return the places of each file's good records; note the others in `skipped`, or refuse them."""
        kept = []
        total = sum(map(len, self._sources))
        with tqdm(total=total, desc="checking", unit=self.unit, disable=None) as bar:
            for number, source in enumerate(self._sources):
                good, largest = [], 0.0
                for place in range(len(source)):
                    where = source.where(place)
                    try:
                        record = self.checked(source.read(place), where)
                    except UserError as error:
                        if not skip_bad:
                            raise
                        self.skipped.append(left_out(source.path, place, where, error))
                    else:
                        good.append(place)
                        largest = max(largest, self._largest(record))
                    bar.update()
                if source.damage:
                    place = len(source)
                    self.skipped.append({"file": str(source.path), "record": place, "reason": source.damage})
                if warn_of_scale(source.path, largest):
                    self._warned.add(number)
                kept.append(np.array(good, np.int64))
        return kept

    def _report_skipped(self) -> None:
        if self.skipped:
            first = self.skipped[0]
            log.warning(
                "%d bad records left out, %d kept; the first: %s, record %d: %s",
                len(self.skipped), len(self),
                first["file"], first["record"], first["reason"],
            )  # fmt: skip
        for number in sorted(set(range(len(self.files))) - set(self._places[:, 0].tolist())):
            file, subject = self.files[number], self.subjects[number]
            log.warning("%s: no %s of %s is left", file, self.unit, subject)

    def _shuffled_labels(self, seed: int) -> np.ndarray:
        """Return the class index of every record, permuted within each subject, int16 (n,)."""
        labels = np.empty(len(self), np.int16)
        for index in tqdm(range(len(self)), desc="labels", unit=self.unit, disable=None, leave=False):
            number, place = self._places[index]
            source = self._sources[number]
            label = source.peek(place, "category_name")
            labels[index] = one_hot(label, source.where(place), "category_name").argmax()
        for number, name in enumerate(self.subjects):
            own = np.flatnonzero(self._places[:, 0] == number)
            words = np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint32)
            labels[own] = np.random.default_rng([2, seed, *words]).permutation(labels[own])
        return labels


def _chosen(files: list[Path], only: Iterable[str] | None, exclude: Iterable[str] | None, folder: Path) -> list[Path]:
    """Return the files of the subjects asked for; refuse a name that no file has."""
    by_name = {subject_name(file): file for file in files}
    only, exclude = _names(only), _names(exclude) or set()
    for name in [*(only or ()), *exclude]:
        if name not in by_name:
            close = nearest(name, by_name)
            hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(by_name)}"
            raise UserError(f"{folder}: no subject {name!r}; {hint}")
    chosen = [f for n, f in by_name.items() if (only is None or n in only) and n not in exclude]
    if not chosen:
        raise UserError(f"{folder}: no subject is left of {len(by_name)} after only and exclude")
    return chosen


def _names(names: Iterable[str] | None) -> set[str] | None:
    return {names} if isinstance(names, str) else None if names is None else set(map(str, names))


def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of `count` trials in an epoch, int array (count,)."""
    return np.random.default_rng([0, seed, epoch]).permutation(count)


def awake_draws(count: int, seed: int, epoch: int, awake_per_sleep: int = 15) -> np.ndarray:
    """Return which of its awake trials goes with the trial at each position of an epoch, int (count,)."""
    return np.random.default_rng([1, seed, epoch]).integers(awake_per_sleep, size=count)


def slices(count: int, batch_size: int) -> list[slice]:
    """Return the slices that cut `count` trials into batches."""
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: must be at least 1")
    return [slice(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
