"""Labelled records of several files: chosen subjects, good records, shuffled labels."""

import hashlib
import logging
from functools import cached_property

import numpy as np
from tqdm import tqdm

from sleep_interpreter.data.formats.simulation_marks import are_simulated
from sleep_interpreter.data.formats.validation import left_out, one_hot, subject_name, warn_of_scale
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import shown

log = logging.getLogger(__name__)


class Records:
    """What trials and staging windows share; a subclass sets `root`, opens its files and reads.

    A subclass calls `_choose`, sets `_sources` (one a file, as `data.formats.tfrecords.RecordFile`), calls `_take`.

    Attributes
    ----------
    files : list of Path
        In natural order (subject 2 before subject 10).
    subjects : list of str
        Name of each file's subject where the file name tells it, otherwise the file's name.
    skipped : list of dict
        What was left out of damaged files: {"file": str, "record": int, "reason": str}. Of a file that is
        damaged in the middle the last entry stands for everything from that record on.
    unit : str
        What a record is, for progress bars and messages.
    """

    unit = "trial"

    def _choose(self, files, only, exclude, folder):
        """Keep the files of the subjects asked for; refuse a name that no file has."""
        by_name = {subject_name(file): file for file in files}
        only, exclude = _names(only), _names(exclude) or set()
        for name in [*(only or ()), *exclude]:
            if name not in by_name:
                close = nearest(name, by_name)
                hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(by_name)}"
                raise UserError(f"{shown(folder)}: no subject {name!r}; {hint}")
        self.files = [f for n, f in by_name.items() if (only is None or n in only) and n not in exclude]
        if not self.files:
            raise UserError(f"{shown(folder)}: no subject is left of {len(by_name)} after only and exclude")
        self.subjects = [subject_name(file) for file in self.files]
        self.skipped, self._warned = [], set()

    def _take(self, folder, skip_bad, check=None, shuffle_seed=None):
        """Number the records that are used; `check` (None: there is nothing to check) is called for each.

        Parameters
        ----------
        folder : Path
            For messages.
        skip_bad : bool
            Check every record completely now and leave out those that fail.
        check : callable | None
            `check(record, where)` returns the record as it is used, or raises a `UserError`.
        shuffle_seed : int | None
            Permute the labels within each subject.
        """
        if shuffle_seed is not None and (type(shuffle_seed) is not int or shuffle_seed < 0):
            raise UserError(f"shuffle_seed {shuffle_seed!r}: must be a whole number from 0 up")
        if skip_bad and check is not None:
            kept = self._check_all(check)
        else:
            kept = [np.arange(len(source)) for source in self._sources]
        # One row a record: number of the file, place in it.
        self._places = np.concatenate([_rows(which, places) for which, places in enumerate(kept)])
        if not len(self):
            raise UserError(
                f"{shown(folder)}: its {len(self.files)} files hold no {'good ' if skip_bad else ''}"
                f"{self.unit}; get them again"
            )
        self._report_skipped()
        self._labels = None if shuffle_seed is None else self._shuffled_labels(shuffle_seed)
        log.debug("%s: %d %ss in %d files", shown(folder), len(self), self.unit, len(self.files))

    def __len__(self):
        return len(self._places)

    @cached_property
    def simulated(self):
        """Whether the folder or any of the files is marked as simulated."""
        return are_simulated(self.files, self.root)

    def _largest(self, record):
        """Return the amplitude by which a file's scale is judged; 0 where any scale will do."""
        return 0.0

    def _check_all(self, check):
        """Return the places of each file's good records; note the others in `skipped`."""
        kept = []
        total = sum(map(len, self._sources))
        with tqdm(total=total, desc="checking", unit=self.unit, disable=None) as bar:
            for which, source in enumerate(self._sources):
                good, largest = [], 0.0
                for place in range(len(source)):
                    where = source.where(place)
                    try:
                        record = check(source.read(place), where)
                    except UserError as error:
                        self.skipped.append(left_out(source.path, place, where, error))
                    else:
                        good.append(place)
                        largest = max(largest, self._largest(record))
                    bar.update()
                if source.damage:
                    place = len(source)
                    self.skipped.append({"file": str(source.path), "record": place, "reason": source.damage})
                if warn_of_scale(source.path, largest):
                    self._warned.add(which)
                kept.append(np.array(good, np.int64))
        return kept

    def _report_skipped(self):
        if self.skipped:
            first = self.skipped[0]
            log.warning(
                "%d bad records left out, %d kept; the first: %s, record %d: %s",
                len(self.skipped), len(self),
                shown(first["file"]), first["record"], first["reason"],
            )  # fmt: skip
        empty = sorted(set(range(len(self.files))) - set(self._places[:, 0].tolist()))
        for which in empty:
            log.warning("%s: no %s of %s is left", shown(self.files[which]), self.unit, self.subjects[which])

    def _shuffled_labels(self, seed):
        """Return the class index of every record, permuted within each subject, int8 (n,)."""
        labels = np.empty(len(self), np.int8)
        for index in tqdm(range(len(self)), desc="labels", unit=self.unit, disable=None, leave=False):
            which, place = self._places[index]
            source = self._sources[which]
            label = source.peek(place, "category_name")
            labels[index] = one_hot(label, source.where(place), "category_name").argmax()
        for which, name in enumerate(self.subjects):
            own = np.flatnonzero(self._places[:, 0] == which)
            words = np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint32)
            labels[own] = np.random.default_rng([2, seed, *words]).permutation(labels[own])
        return labels


def _names(given):
    return {given} if isinstance(given, str) else None if given is None else set(map(str, given))


def _rows(which, places):
    return np.column_stack([np.full(len(places), which), places]).astype(np.int64)
