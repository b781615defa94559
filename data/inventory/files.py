"""Reads one file of the data set from end to end, counts what it holds and collects what is wrong with it."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sleep_interpreter.data.formats import validation
from sleep_interpreter.data.formats.simulation_marks import trials_are_marked
from sleep_interpreter.data.formats.slow_oscillation_trials import check_group, read_group_dict
from sleep_interpreter.data.formats.staging_windows import (
    check_hypnogram,
    check_stage,
    check_training_window,
    check_window,
)
from sleep_interpreter.data.formats.test_trials import check_test_trial
from sleep_interpreter.data.formats.tfrecords import (
    AWAKE_SAMPLES,
    CHANNELS,
    SLEEP,
    SLEEP_SAMPLES,
    STAGING,
    WHOLE,
    RecordFile,
)
from sleep_interpreter.utils.core.constants import ITEMS, STAGES, STAGING_SECONDS
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import shown

_PLACES = re.compile(
    r"(?P<record>(?:(?:record|trial|window|epoch|group|list|subject)[ _][^,:]+(?:, )?)*)"
    r"(?:field '(?P<field>[^']+)')?(?:: )?(?P<reason>.*)",
    re.DOTALL,
)


class Problem(NamedTuple):
    """Something wrong: where, and what; record and field are empty where they do not apply."""

    file: Path
    record: str
    field: str
    reason: str


@dataclass
class Findings:
    """What one file holds.

    Attributes
    ----------
    file : Path
    trials : int | None
        Trials, windows or epochs that could be read; None where only a full read would tell.
    counts : Counter
        Of (subject or "", section, class name); "" stands for the file's own subject.
    problems : list of Problem
    marked, unmarked : int
        Trials with and without the mark of simulation, of those that may carry one.
    largest : float
        Largest absolute value in the sleep trials.
    digests : set of bytes
        One of every sleep trial's signals, to find the same trial elsewhere.
    """

    file: Path
    trials: int | None = 0
    counts: Counter = field(default_factory=Counter)
    problems: list = field(default_factory=list)
    marked: int = 0
    unmarked: int = 0
    largest: float = 0.0
    digests: set = field(default_factory=set)

    def count(self, section, name, subject="", number=1):
        """Count trials of one class."""
        self.trials += number
        self.counts[subject, section, name] += number

    def mark(self, marked):
        """Count one trial by its mark."""
        self.marked += bool(marked)
        self.unmarked += not marked

    def sleep(self, eeg):
        """Note a sleep trial's size and signals, channels first."""
        self.largest = max(self.largest, float(np.abs(eeg).max(initial=0)))
        self.digests.add(hashlib.blake2b(np.ascontiguousarray(eeg, np.float32), digest_size=8).digest())

    def problem(self, error):
        """Note what a `UserError` says."""
        text = str(error).removeprefix(shown(self.file)).removeprefix(str(self.file)).lstrip(",: ")
        found = _PLACES.fullmatch(text)
        record = found["record"].removesuffix(", ")
        self.problems.append(Problem(self.file, record, found["field"] or "", found["reason"]))

    def each(self, items, name, check):
        """Yield the checked ones of `items`; note the others as problems."""
        for number, item in enumerate(items):
            try:
                checked = check(item, f"{shown(self.file)}, {name} {number}")
            except UserError as error:
                self.problem(error)
            else:
                yield checked


class Reader(NamedTuple):
    """How a kind of file is read: `read(file, fast, tick)` gives `Findings`, `tick(bytes)` tells progress.

    With `fast` only headers are read; `Findings.trials` is None where they do not tell the number.
    """

    read: Any
    classes: tuple
    unit: str = "trials"


def _records(schema, names, check, unit="trials"):
    def read(file, fast, tick):
        found = Findings(file)
        records = RecordFile(file, schema, partial=True)
        for index in range(len(records)):
            where = records.where(index)
            try:
                if fast:
                    label = validation.one_hot(records.peek(index, "category_name"), where, "category_name")
                else:
                    label = check(found, records.read(index), where)
                found.count("", names[int(label.argmax())])
                found.mark(records.is_marked(index))
            except UserError as error:
                found.problem(error)
            tick(records.size(index))
        if records.damage:
            found.problem(UserError(f"{records.where(len(records))}: {records.damage}"))
        return found

    return Reader(read, names, unit)


def _trial_record(found, record, where):
    eeg = validation.finite(record["feature_Sleep_EEG"], where, "feature_Sleep_EEG")
    label = validation.one_hot(record["category_name"], where, "category_name")
    for name in set(record) & {"feature_awake_image_erp", "feature_awake_audio_erp"}:
        validation.finite(record[name], where, name)
    found.sleep(eeg)
    return label


def _window_record(found, record, where):
    return check_training_window(record, where)["label"]


def _pickled(read, classes, unit="trials"):
    """Return a reader of pickles, which can only be read as a whole."""

    def read_or_skip(file, fast, tick):
        found = Findings(file)
        if fast:
            found.trials = None
        else:
            read(found)
        tick(file.stat().st_size)
        return found

    return Reader(read_or_skip, classes, unit)


def _read_sleep(found):
    def check(trial, where):
        item = validation.item_index(validation.entry(trial, "category", where), where)
        return trial, item, validation.signal(trial, "Sleep_EEG", (CHANNELS, SLEEP_SAMPLES), where)

    for trial, item, eeg in found.each(
        validation.read_container(found.file, list, " of trials"), "trial", check
    ):
        found.count("", ITEMS[item])
        found.mark(trials_are_marked([trial]))
        found.sleep(eeg)


def _read_test_trials(found, awake=True):
    def check(trial, where):
        return trial, check_test_trial(trial, where, awake)

    for trial, checked in found.each(
        validation.read_container(found.file, list, " of trials"), "trial", check
    ):
        found.count(checked["data_type"], ITEMS[checked["label"]])
        found.mark(trials_are_marked([trial]))
        found.sleep(checked["sleep"].T)


def _read_before_cue(found):
    _read_test_trials(found, awake=False)


def _read_groups(found):
    for name, group in read_group_dict(found.file).items():
        try:
            sleep, label = check_group(group, f"{shown(found.file)}, group {name!r}")
        except UserError as error:
            found.problem(error)
            continue
        for eeg, item in zip(sleep, label, strict=True):
            found.count(name, ITEMS[item])
            found.sleep(eeg.T)
        if len(label):
            found.mark(trials_are_marked([group]))


def _read_single_trials(found):
    content = validation.read_container(found.file, dict, " of subjects")
    for name, samples in (
        ("awake_image", AWAKE_SAMPLES),
        ("awake_audio", AWAKE_SAMPLES),
        ("N2N3", SLEEP_SAMPLES),
        ("REM", SLEEP_SAMPLES),
    ):

        def check(trial, where, samples=samples):
            item = validation.item_index(validation.entry(trial, "category", where), where)
            return trial, item, validation.signal(trial, "EEG", (CHANNELS, samples), where)

        try:
            trials = validation.entry(content, name, shown(found.file))
            if not isinstance(trials, list):
                raise UserError(f"list {name}: expected a list of trials, found {validation.brief(trials)}")
        except UserError as error:
            found.problem(error)
            continue
        for trial, item, eeg in found.each(trials, f"list {name}, trial", check):
            found.count(name, ITEMS[item])
            found.mark(trials_are_marked([trial]))
            if samples == SLEEP_SAMPLES:
                found.sleep(eeg)


def _read_windows(found):
    def check(window, where):
        return window, check_window(window, where)[0]

    for window, stage in found.each(validation.read_container(found.file, list), "window", check):
        found.count("", STAGES[stage])
        found.mark(trials_are_marked([window]))


def _read_epochs(found):
    for stage in found.each(validation.read_container(found.file, list), "epoch", check_stage):
        found.count("", STAGES[stage])


def _read_hypnograms(found):
    for name, hypnogram in validation.read_container(found.file, dict, " of subjects").items():
        try:
            onset, stages = check_hypnogram(hypnogram, f"{shown(found.file)}, {name}")
        except UserError as error:
            found.problem(error)
            continue
        for code, stage in enumerate(STAGES):
            seconds = float(np.diff(onset)[stages == code].sum())
            found.count("", stage, str(name), round(seconds / STAGING_SECONDS))
        found.mark(trials_are_marked([hypnogram]))


WHOLE_RECORDS = _records(WHOLE, ITEMS, _trial_record)
SLEEP_RECORDS = _records(SLEEP, ITEMS, _trial_record)
STAGING_RECORDS = _records(STAGING, STAGES, _window_record, "windows")
SLEEP_PICKLE = _pickled(_read_sleep, ITEMS)
TEST_PICKLE = _pickled(_read_test_trials, ITEMS)
BEFORE_CUE_PICKLE = _pickled(_read_before_cue, ITEMS)
SO_PICKLE = _pickled(_read_groups, ITEMS)
SINGLE_TRIALS_PICKLE = _pickled(_read_single_trials, ITEMS)
WINDOWS_PICKLE = _pickled(_read_windows, STAGES, "windows")
EPOCHS_PICKLE = _pickled(_read_epochs, STAGES, "epochs")
HYPNOGRAMS_PICKLE = _pickled(_read_hypnograms, STAGES, "epochs")
