"""Reads one file of the data set from end to end, counts what it holds and collects what is wrong with it."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sleep_interpreter.data.formats import staging_windows as staging
from sleep_interpreter.data.formats import twins
from sleep_interpreter.data.formats.plausibility import digest, flat, power, repeated
from sleep_interpreter.data.formats.simulation_marks import trials_are_marked
from sleep_interpreter.data.formats.single_trials import DOMAINS
from sleep_interpreter.data.formats.slow_oscillation_trials import check_group, read_group_dict
from sleep_interpreter.data.formats.test_trials import check_test_trial
from sleep_interpreter.data.formats.tfrecords import STAGING, RecordFile, Schema, sleep_schema, whole_schema
from sleep_interpreter.data.formats.validation import (
    brief,
    entry,
    finite,
    finite_sleep,
    item_index,
    one_hot,
    read_container,
    signal,
    sleep_signal,
)
from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS, UNKNOWN
from sleep_interpreter.utils.core.data_card import ASLEEP, AWAKE, DataCard
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.signal.trial_ends import valid_lengths

_PLACES = re.compile(
    r"(?P<record>(?:(?:record|trial|window|epoch|group|list|subject)[ _][^,:]+(?:, )?)*)"
    r"(?:field '(?P<field>[^']+)')?(?:: )?(?P<reason>.*)",
    re.DOTALL,
)
_SKETCHED_AT_ONCE = 64
EVERY = 10
"""Of staging windows, which begin every 3 s, so many are passed over to find the same signals elsewhere."""
Check = Callable[[Any, DataCard, str], dict]
"""Takes a trial, the data's card, and the words for where it is; gives what `Findings.add` takes, or raises a
`UserError`."""


class Problem(NamedTuple):
    """Something wrong: where, and what; record and field are empty where they do not apply."""

    file: Path
    record: str
    field: str
    reason: str


@dataclass
class Findings:
    """What one file holds.

    `trials` are the trials, windows or epochs that could be read, None where only a full read would tell; `counts`
    those of (subject, or "" for the file's own, section, class name). `digests` has one of every sleep trial's
    signals (of every tenth staging window's), to find the same trial elsewhere.
    """

    file: Path
    trials: int | None = 0
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    marked: int = 0  # trials with the mark of simulation
    unmarked: int = 0  # trials without it, of those that may carry one
    largest: float = 0.0  # largest absolute value in the sleep trials
    sleep_alone: int = 0  # trials of a kind that may have awake trials beside them, and have none
    digests: dict[bytes, Counter[str]] = field(default_factory=dict)  # how often it stands in which section
    repeats: int = 0  # sleep trials that stand in their section already, to the bit
    flat_trials: int = 0  # sleep trials that stand still in all channels
    partly_flat: int = 0  # sleep trials in which some channels stand still
    flat_channels: np.ndarray | None = None  # bool (C,): stands still in all sleep trials
    same_channels: np.ndarray | None = None  # bool (C,): has the signal of another channel in all sleep trials
    partly_same: int = 0  # sleep trials in which channels have one signal
    power: np.ndarray | None = None  # (C,): variances of the sleep trials, added up
    lengths: Counter[int] = field(default_factory=Counter)  # of the sleep trials, in samples
    _waiting: list[np.ndarray] = field(default_factory=list)  # signals of the last ones of `digests`
    _sketches: list[np.ndarray] = field(default_factory=list)  # of those before

    @property
    def sketches(self) -> np.ndarray:
        """A row for each of `digests`, in their order, as `twins.sketch` makes it."""
        if self._waiting:
            self._sketches.append(twins.sketch(np.stack(self._waiting)))
            self._waiting.clear()
        return np.concatenate([np.zeros((0, twins.SIZE), np.float32), *self._sketches])

    def add(self, name: str, section: str = "", subject: str = "", number: int = 1, *,
            marked: bool | None = None, eeg: np.ndarray | None = None, window: np.ndarray | None = None,
            sleep_alone: bool = False) -> None:  # fmt: skip
        """Count trials of one class.

        `marked` says whether the trial is marked as simulated, None where it carries no mark; `eeg` are a sleep
        trial's signals, channels first, `window` a staging window's; `sleep_alone` a trial without the awake trials
        that might be beside it.
        """
        self.sleep_alone += sleep_alone
        self.trials = (self.trials or 0) + number
        self.counts[subject, section, name] += number
        if marked is not None:
            self.marked += bool(marked)
            self.unmarked += not marked
        if eeg is not None:
            self.largest = max(self.largest, float(np.nanmax(np.abs(eeg), initial=0)))
            self.lengths[int(valid_lengths(eeg.T))] += 1
            still = flat(eeg.T[None])[0]
            self.repeats += self._note(eeg, section) and not still.all()
            self.flat_trials += bool(still.all())
            self.partly_flat += bool(still.any() and not still.all())
            self.flat_channels = still if self.flat_channels is None else self.flat_channels & still
            same = repeated(eeg.T[None])[0]
            self.partly_same += bool(same.any())
            self.same_channels = same if self.same_channels is None else self.same_channels & same
            self.power = power(eeg.T[None]) + (0.0 if self.power is None else self.power)
        if window is not None and (self.trials - 1) % EVERY == 0:
            self._note(window, section)

    def _note(self, eeg: np.ndarray, section: str) -> bool:
        """Remember the signals of a trial; tell whether this section has them already."""
        sections = self.digests.setdefault(digest(eeg), Counter())
        if not sections:
            self._waiting.append(np.asarray(eeg, np.float32))
            if len(self._waiting) == _SKETCHED_AT_ONCE:
                self._sketches = [self.sketches]
        sections[section] += 1
        return sections[section] > 1

    def add_problem(self, error: UserError) -> None:
        """Note what an error says."""
        text = str(error).removeprefix(display_path(self.file)).removeprefix(str(self.file)).lstrip(",: ")
        found = _PLACES.fullmatch(text)
        assert found is not None  # it matches any text
        record = found["record"].removesuffix(", ")
        self.problems.append(Problem(self.file, record, found["field"] or "", found["reason"]))

    def add_checked(self, entries: Iterable, name: str, check: Check, card: DataCard, section: str = "") -> None:
        """Count the entries that pass a check, and note the others as problems."""
        for number, one in enumerate(entries):
            try:
                checked = check(one, card, f"{display_path(self.file)}, {name} {number}")
                self.add(**{"section": section} | checked)
            except UserError as error:
                self.add_problem(error)


class Reader(NamedTuple):
    """How a kind of file is read: `read(found, card, fast)` adds what it holds to `Findings`.

    `headers`: with `fast` their headers are read, which says enough to count; other files are passed over. `stages`:
    the classes are the sleep stages, not the card's items.
    """

    read: Callable[[Findings, DataCard, bool], None]
    stages: bool = False
    unit: str = "trials"
    headers: bool = False

    def classes(self, card: DataCard) -> tuple[str, ...]:
        """Return the names of what is counted."""
        return STAGES if self.stages else card.item_names


def _tfrecords(
    schema_of: Callable[[DataCard], Schema], check: Check, stages: bool = False, unit: str = "trials"
) -> Reader:
    def read(found: Findings, card: DataCard, fast: bool) -> None:
        names = STAGES if stages else card.item_names
        records = RecordFile(found.file, schema_of(card), partial=True)
        for index in range(len(records)):
            where = records.where(index)
            try:
                if fast:
                    label, more = one_hot(records.peek(index, "category_name"), where, "category_name"), {}
                else:
                    more = check(records.read(index), card, where)
                    label = more.pop("label")
                found.add(names[int(label.argmax())], marked=records.is_marked(index), **more)
            except UserError as error:
                found.add_problem(error)
        if records.damage:
            found.add_problem(UserError(f"{records.where(len(records))}: {records.damage}"))

    return Reader(read, stages, unit, headers=True)


def _check_trial_record(record: dict[str, np.ndarray], card: DataCard, where: str) -> dict:
    eeg = finite_sleep(record["feature_Sleep_EEG"], where, "feature_Sleep_EEG", card)
    label = one_hot(record["category_name"], where, "category_name")
    for name in set(record) & {f"feature_awake_{kind}_erp" for kind in AWAKE}:
        finite(record[name], where, name)
    return {"label": label, "eeg": eeg}


def _check_window_record(record: dict[str, np.ndarray], _card: DataCard, where: str) -> dict:
    return staging.check_training_window(record, where)


def _pickled_list(name: str, check: Check, stages: bool = False, unit: str = "trials") -> Reader:
    """Return a reader of pickles that hold a list."""
    what = " of trials" if name == "trial" else ""

    def read(found: Findings, card: DataCard, _fast: bool) -> None:
        found.add_checked(read_container(found.file, list, what), name, check, card)

    return Reader(read, stages, unit)


def _check_trial(trial: Any, card: DataCard, where: str, key: str, asleep: bool = True) -> dict:
    item = item_index(entry(trial, "category", where), card, where)
    if asleep:
        eeg = sleep_signal(trial, key, where, card)
    else:
        eeg = signal(trial, key, card.awake_shape, where, card=card)
    return {"name": card.item_names[item], "marked": trials_are_marked([trial]), "eeg": eeg if asleep else None}


def _check_test_trial(trial: Any, card: DataCard, where: str, awake: bool) -> dict:
    kinds = card.awake_kinds if awake else ()
    # a subject without awake trials is one: that no trial has any is said once a file
    alone = bool(kinds) and isinstance(trial, dict) and not any(f"awake_{kind}_erp" in trial for kind in AWAKE)
    checked = check_test_trial(trial, card, where, bool(kinds) and not alone)
    return {
        "name": card.item_names[checked["label"]],
        "section": checked["data_type"],
        "marked": trials_are_marked([trial]),
        "eeg": checked["sleep"].T,
        "sleep_alone": alone,
    }


def _check_window(window: Any, _card: DataCard, where: str) -> dict:
    stage, signals = staging.check_window(window, where)
    return {"name": _stage(stage), "marked": trials_are_marked([window]), "window": signals}


def _check_epoch(epoch: Any, _card: DataCard, where: str) -> dict:
    return {"name": _stage(staging.check_stage(epoch, where))}


def _stage(code: int) -> str:
    return "not scored" if code == UNKNOWN else STAGES[code]


def _read_groups(found: Findings, card: DataCard, _fast: bool) -> None:
    for name, group in read_group_dict(found.file).items():
        try:
            sleep, label = check_group(group, card, f"{display_path(found.file)}, group {name!r}")
        except UserError as error:
            found.add_problem(error)
            continue
        for k, (eeg, item) in enumerate(zip(sleep, label, strict=True)):
            # the mark is the group's
            found.add(card.item_names[item], name, marked=None if k else trials_are_marked([group]), eeg=eeg.T)


def _read_single_trials(found: Findings, card: DataCard, _fast: bool) -> None:
    content = read_container(found.file, dict, " of subjects")
    for condition in card.conditions:
        name = DOMAINS[condition]
        try:
            trials = entry(content, name, display_path(found.file))
            if not isinstance(trials, list):
                raise UserError(f"list {name}: expected a list of trials, found {brief(trials)}")
        except UserError as error:
            found.add_problem(error)
            continue
        check = partial(_check_trial, key="EEG", asleep=condition in ASLEEP)
        found.add_checked(trials, f"list {name}, trial", check, card, name)


def _read_hypnograms(found: Findings, _card: DataCard, _fast: bool) -> None:
    for name, hypnogram in read_container(found.file, dict, " of subjects").items():
        try:
            onset, stages = staging.check_hypnogram(hypnogram, f"{display_path(found.file)}, {name}")
        except UserError as error:
            found.add_problem(error)
            continue
        for code, stage in enumerate(STAGES):
            epochs = round(float(np.diff(onset)[stages == code].sum()) / STAGING_SECONDS)
            marked = None if code else trials_are_marked([hypnogram])  # the mark is the hypnogram's
            found.add(stage, subject=str(name), number=epochs, marked=marked)


WHOLE_RECORDS = _tfrecords(whole_schema, _check_trial_record)
SLEEP_RECORDS = _tfrecords(sleep_schema, _check_trial_record)
STAGING_RECORDS = _tfrecords(lambda _card: STAGING, _check_window_record, True, "windows")
SLEEP_PICKLE = _pickled_list("trial", partial(_check_trial, key="Sleep_EEG"))
TEST_PICKLE = _pickled_list("trial", partial(_check_test_trial, awake=True))
BEFORE_CUE_PICKLE = _pickled_list("trial", partial(_check_test_trial, awake=False))
SO_PICKLE = Reader(_read_groups)
SINGLE_TRIALS_PICKLE = Reader(_read_single_trials)
WINDOWS_PICKLE = _pickled_list("window", _check_window, True, "windows")
EPOCHS_PICKLE = _pickled_list("epoch", _check_epoch, True, "epochs")
HYPNOGRAMS_PICKLE = Reader(_read_hypnograms, True, "epochs")
