"""Single trials of one subject, awake and asleep, for the linear baselines: Whole_data.pickle."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats import trial_origin, validation
from sleep_interpreter.data.formats.simulation_marks import refuse_unfinished, trials_are_marked
from sleep_interpreter.utils.core.data_card import ASLEEP, AWAKE, DataCard, card_of, published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path, named_in_text
from sleep_interpreter.utils.core.provenance import is_simulated
from sleep_interpreter.utils.core.safe_pickle import HOW_TO_SIMULATE, read_pickle

DOMAINS = {**{kind: f"awake_{kind}" for kind in AWAKE}, **{stage: stage for stage in ASLEEP}}
"""Name of a domain: its key in the pickle."""
PATTERNS = ("SI Main Train/subject_*/Whole_data.pickle", "SI Main Test/subject_test_*/Whole_data.pickle")


@dataclass(frozen=True, eq=False)
class DomainTrials:
    """Trials of one domain."""

    eeg: np.ndarray  # float32 (n, T, 55), T = 80 awake, 200 asleep, at 100 Hz
    label: np.ndarray  # int64 (n,), index into the card's items
    origin: pd.DataFrame | None = None  # n rows, where trials come from (`trial_origin`); None: the file does not say

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True, eq=False)
class SingleTrials:
    """One subject's trials, name and data in one."""

    name: str  # of the folder, e.g. "subject_12"
    file: Path
    domains: dict[str, DomainTrials]  # those asked for; without a trial where the subject has none of a stage
    simulated: bool  # the file or the data set is marked so
    card: DataCard = field(default_factory=published)  # of the data set


def find_subjects(root: str | Path) -> dict[str, Path]:
    """Return the subjects' files, {name: path}, training subjects before test subjects, in natural order.

    Refuses a folder without any, and a data set that the simulator was interrupted in.
    """
    root = Path(root)
    refuse_unfinished(root)
    files = [file for pattern in PATTERNS for file in sorted(named_in_text(root.glob(pattern)), key=validation.natural)]
    if not files:
        places = " nor ".join(f"{display_path(root)}/{pattern}" for pattern in PATTERNS)
        raise UserError(f"no single trials found: there is neither {places}; {HOW_TO_SIMULATE}")
    return {validation.subject_name(file.parent): file for file in validation.one_file_a_subject(files)}


def read_subject(
    path: str | Path, domains: Iterable[str] = tuple(DOMAINS), root: str | Path | None = None
) -> SingleTrials:
    """Read the trials of the Whole_data.pickle in a subject's folder.

    Of `DOMAINS` only those in `domains` are looked at. `root` is the data set's folder, whose mark of simulation
    counts too. Refuses a missing file or incomplete pickle, a domain that is missing or no list, and a trial whose
    category is no item, or whose EEG is not finite or not of its shape, named with its item.
    """
    path = Path(path)
    content = read_pickle(path)
    read, marked = {}, root is not None and is_simulated(root)
    card = card_of(path.parents[2] if root is None else root)
    for domain in domains:
        card.require(domain, path if root is None else root)
        key = DOMAINS[domain]
        stored = validation.entry(content, key, display_path(path))
        if not isinstance(stored, list | tuple):
            raise UserError(f"{path}, field {key!r}: expected a list of trials, found {validation.brief(stored)}")
        read[domain] = _trials(stored, key, domain in AWAKE, path, card)
        marked = marked or trials_are_marked(stored)
    return SingleTrials(validation.subject_name(path.parent), path, read, bool(marked), card)


def _trials(stored: Any, key: str, awake: bool, path: Path, card: DataCard) -> DomainTrials:
    shape = card.awake_shape if awake else card.sleep_shape
    eeg = np.empty((len(stored), *reversed(shape)), np.float32)
    label = np.empty(len(stored), np.int64)
    origins = []
    for place, trial in enumerate(stored):
        where = f"{display_path(path)}, {key} trial {place}"
        label[place] = validation.item_index(validation.entry(trial, "category", where), card, where)
        where = f"{where} ({card.item_names[label[place]]})"
        eeg[place] = (
            validation.signal(trial, "EEG", shape, where, card=card)
            if awake
            else validation.sleep_signal(trial, "EEG", where, card)
        ).T
        origins.append(trial_origin.read_one(trial, where))
    return DomainTrials(eeg, label, trial_origin.to_table(origins, f"{display_path(path)}, {key}"))
