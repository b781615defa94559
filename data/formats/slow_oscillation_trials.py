"""Test subjects' trials grouped by the phase of the slow oscillation that the cue fell on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats import trial_origin, validation
from sleep_interpreter.data.formats.simulation_marks import refuse_unfinished, trials_are_marked
from sleep_interpreter.data.formats.test_trials import find_test_files
from sleep_interpreter.utils.core.data_card import DataCard, card_of, published
from sleep_interpreter.utils.core.errors import UserError, did_you_mean
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.provenance import is_simulated
from sleep_interpreter.utils.signal.phase import PHASE_FROM

SO_GROUPS = ("Pre-SO", "trans-1st-Up", "1st-Up", "trans-Down", "Down", "trans-2nd-Up", "2nd-Up", "Post-SO")
"""Groups of cues by phase of the slow oscillation, in the order in which it passes through them."""


@dataclass(frozen=True, eq=False)
class SOSubject:
    """One test subject's trials by phase of the slow oscillation at the cue.

    `groups` holds (sleep float32 (n, 200, 55), label int64 (n,)) of all `SO_GROUPS` in their order, n = 0 for a group
    without trials.
    """

    name: str
    file: Path
    groups: dict[str, tuple[np.ndarray, np.ndarray]]
    simulated: bool = False  # the file or the data set is marked so
    card: DataCard = field(default_factory=published)  # of the data set
    phase_from: str | None = (
        None  # "precue" or "whole" (`PHASE_FROM`); None: the file does not say (released, simulated)
    )
    coupled: dict[str, np.ndarray] | None = None  # by group, bool (n,): a spindle followed the cue; None: not known
    origins: dict[str, pd.DataFrame] | None = None  # by group, n rows: where trials come from; None: not known

    def __len__(self) -> int:
        return sum(len(label) for _, label in self.groups.values())


def read_so_groups(root: str | Path) -> list[SOSubject]:
    """Read the test subjects' trials by phase of the slow oscillation, in natural order.

    `root` is the folder that holds `SI Main Test/subject_test_*/SO*`. Refuses one without such files, an unknown
    group, a missing field, a wrong shape, a label that is not one-hot and values that are not finite, naming file,
    group and trial.
    """
    refuse_unfinished(root)
    files = validation.one_file_a_subject(find_test_files(root, "SO"))
    marked, card, subjects = is_simulated(root), card_of(root), []
    card.require("N2N3", root)
    for file in files:
        content = read_group_dict(file)
        groups = {
            name: check_group(content[name], card, f"{display_path(file)}, group {name!r}")
            if name in content
            else _empty(card)
            for name in SO_GROUPS
        }
        if card.unit == "robust":
            largest = [float(np.nanmax(np.abs(sleep), initial=0)) for sleep, _ in groups.values()]
            validation.warn_of_scale(file, max(largest))
        simulated = marked or trials_are_marked(content.values())
        known = _phase_from(content, file), _coupled(content, groups, file), _origins(content, groups, file)
        subjects.append(SOSubject(validation.subject_name(file), file, groups, simulated, card, *known))
    return subjects


def read_group_dict(file: Path) -> dict[str, Any]:
    """Return what a pickle of groups holds when all its names are known, its groups unchecked."""
    content = validation.read_container(file, dict, " of groups of trials")
    for name in content:
        if name not in SO_GROUPS:
            hint = did_you_mean(name, SO_GROUPS, f"groups: {', '.join(SO_GROUPS)}")
            raise UserError(f"{file}: unknown group {validation.brief(name)}; {hint}")
    return content


def check_group(group: Any, card: DataCard, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return sleep (n, 200, 55) and label (n,) of one group as pickled, or refuse it by trial and field."""
    labels = _array(validation.entry(group, "label", where), "label", where)
    eeg = _array(validation.entry(group, "decode_data", where), "decode_data", where)
    if not labels.size and not eeg.size:
        return _empty(card)
    if labels.ndim != 2 or labels.shape[1] != len(card.items) or labels.dtype.kind not in "biuf":
        raise UserError(
            f"{where}, field 'label': expected one-hot labels (n, {len(card.items)}), "
            f"found {labels.dtype} {labels.shape}; {validation.card_remark(card)}"
        )
    expected = (len(labels), *reversed(card.sleep_shape))
    if eeg.shape != expected or eeg.dtype.kind != "f":
        raise UserError(
            f"{where}, field 'decode_data': expected floats {expected} for {len(labels)} labels, "
            f"found {eeg.dtype} {eeg.shape}; {validation.card_remark(card)}"
        )
    for number, label in enumerate(labels):
        validation.one_hot(label, f"{where}, trial {number}", "label")
    with np.errstate(over="ignore"):
        eeg = np.ascontiguousarray(eeg, np.float32)
    for number, trial in enumerate(eeg):
        validation.finite_sleep(trial.T, f"{where}, trial {number}", "decode_data", card)
    return eeg, labels.argmax(axis=1).astype(np.int64)


def _phase_from(content: dict[str, Any], file: Path) -> str | None:
    """Return where the phases of a file were read from, None where it does not say."""
    found = {group.get("phase_from") for group in content.values()}
    if len(found) > 1 or not found <= {None, *PHASE_FROM}:
        raise UserError(
            f"{display_path(file)}, field 'phase_from': expected one of {', '.join(PHASE_FROM)} in all groups, found "
            f"{', '.join(sorted(map(repr, found)))}; prepare the data again"
        )
    return found.pop() if found else None


def _coupled(content: dict[str, Any], groups: dict[str, Any], file: Path) -> dict[str, np.ndarray] | None:
    """Return which trials of each group a spindle followed, None where a group with trials does not say."""
    result = {}
    for name, (_, label) in groups.items():
        values = content.get(name, {}).get("spindle_coupled", None if len(label) else np.zeros(0, bool))
        if values is None:
            return None
        result[name] = _array(values, "spindle_coupled", f"{display_path(file)}, group {name!r}")
        if result[name].shape != label.shape or result[name].dtype != bool:
            raise UserError(
                f"{display_path(file)}, group {name!r}, field 'spindle_coupled': expected {len(label)} truth values, "
                f"found {result[name].dtype} {result[name].shape}; prepare the data again"
            )
    return result


def _origins(content: dict[str, Any], groups: dict[str, Any], file: Path) -> dict[str, pd.DataFrame] | None:
    """Return where the trials of each group come from, None where no group says it."""
    if not any(trial_origin.FIELD in group for group in content.values()):
        return None
    result = {}
    for name, (_, label) in groups.items():
        stored = content.get(name, {}).get(trial_origin.FIELD, [{}] * len(label))
        where = f"{display_path(file)}, group {name!r}"
        if not isinstance(stored, list) or len(stored) != len(label):
            raise UserError(
                f"{where}, field {trial_origin.FIELD!r}: expected a list of {len(label)} dicts, found "
                f"{validation.brief(stored)}; prepare the data again"
            )
        own = [trial_origin.check(one, f"{where}, trial {place}") for place, one in enumerate(stored)]
        table = trial_origin.to_table(own, where)
        result[name] = pd.DataFrame(index=range(len(label))) if table is None else table
    return result


def _empty(card: DataCard) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((0, *reversed(card.sleep_shape)), np.float32), np.zeros(0, np.int64)


def _array(values: Any, field: str, where: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, OverflowError):  # lists of unequal length
        raise UserError(f"{where}, field {field!r}: expected an array, found {validation.brief(values)}") from None
