"""From a recording's channels to the montage of the trials, as matrices.

Interpolation, removal of components and re-referencing are linear in the channels. Each is done by MNE once,
on the identity, and what it makes of that is the matrix by which a whole night is multiplied in pieces.
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import mne
import numpy as np

from sleep_interpreter.data.preparation.settings import Channels
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import electrode, find_channel, hint, listed

KINDS = ("eeg", "eog", "emg")
Derivation = tuple[int, int | None]
"""Rows of a channel and of its reference, which is None where the channel is used as recorded."""


@dataclass
class Plan:
    """Which channels of a recording are read, and what they are for."""

    picks: list[str]  # channels of the recording, in the order of the working file's rows
    montage: tuple[str, ...]  # channels of the trials, in order
    rows: dict[str, int]  # {montage channel or mastoid: row}; a missing one is not in it
    missing: list[str]  # montage channels that the recording lacks
    derivations: list[Derivation | None]  # EEG, EOG, EMG of the stager
    notes: list[str]  # what was found and done, for the report

    @property
    def eeg(self) -> list[str]:
        """Montage channels that are there, in the montage's order."""
        return [name for name in self.montage if name in self.rows]

    @property
    def heads(self) -> list[str]:
        """Names of the rows that hold EEG or a mastoid, in the order of the rows."""
        return sorted(self.rows, key=self.rows.__getitem__)


def make_plan(settings: Channels, names: Sequence[str], where: str) -> Plan:
    """Find the channels of the settings in a recording, which `where` names in messages.

    Refuses a recording that lacks a renamed channel, or more channels than may be interpolated.
    """
    for lab in settings.rename:
        if lab not in names:
            raise UserError(f"{where}: channels.rename names {lab!r}, which is not there ({hint(lab, names)})")
    lab_names = {ours: lab for lab, ours in settings.rename.items()}
    free = [name for name in names if name not in settings.rename]
    picks, notes = list[str](), list[str]()

    def row(ours: str) -> int | None:
        found = lab_names.get(ours) or find_channel(ours, free)
        if found is None:  # the one channel that is this electrode with the recording's reference behind it ("Fz-Ref")
            same = [n for n in free if electrode(n) == electrode(ours)]
            if len(same) != 1:
                return None
            found = same[0]
        if found not in picks:
            picks.append(found)
            if found != ours:
                notes.append(f"{found} is taken for {ours}")
        return picks.index(found)

    found = {name: row(name) for name in (*settings.montage, *settings.mastoids)}
    rows = {name: place for name, place in found.items() if place is not None}
    missing = [name for name in settings.montage if name not in rows]
    if len(missing) > settings.interpolate_share * len(settings.montage):
        raise UserError(
            f"{where}: {len(missing)} of {len(settings.montage)} channels of the montage are missing "
            f"({listed(missing)}), at most {settings.interpolate_share:.0%} are interpolated; give your own "
            f"channels.montage, channels.rename or channels.interpolate_share; it has {listed(names, 70)}"
        )
    derivations: list[Derivation | None] = []
    for kind in KINDS:
        pair = getattr(settings, kind)
        if pair is None or (plus := row(pair[0])) is None:
            derivations.append(None)
            notes.append(f"no {kind.upper()} for staging" + (f": there is no {pair[0]}" if pair else ""))
            continue
        minus = row(pair[1]) if pair[1] is not None else None
        if pair[1] is not None and minus is None:
            notes.append(f"staging: there is no {pair[1]}, so {pair[0]} is used as recorded")
        derivations.append((plus, minus))
    if unused := [name for name in names if name not in picks]:
        notes.append(f"not used: {listed(unused, 70)}")
    return Plan(picks, settings.montage, rows, missing, derivations, notes)


def make_info(
    names: Iterable[str], positions: str, rate: float = 500.0, where: str = "channels"
) -> tuple[mne.Info, list[str]]:
    """Return MNE's info of EEG channels, and those of them whose position nobody knows."""
    made = mne.create_info(list(names), rate, "eeg")
    try:
        with warnings.catch_warnings(), mne.use_log_level("error"):
            warnings.simplefilter("ignore", FutureWarning)  # MNE 1.13 renames standard_1005
            montage = mne.channels.make_standard_montage(positions)
    except ValueError as error:
        raise UserError(f"{where}: channels.positions = {positions!r}: {error}") from None
    known = {name.casefold() for name in montage.ch_names}
    made.set_montage(montage, match_case=False, on_missing="ignore", verbose="error")
    return made, [name for name in names if name.casefold() not in known]


def matrix(
    names: Sequence[str], positions: str, change: Callable[[mne.io.BaseRaw], mne.io.BaseRaw | None], where: str
) -> np.ndarray:
    """Return a linear change of a recording, in place or returned by `change`, as a matrix (channels, channels)."""
    made, _ = make_info(names, positions, where=where)
    with warnings.catch_warnings(action="ignore"):
        raw = mne.io.RawArray(np.eye(len(names)), made, verbose="error")
        changed = change(raw)
    return (raw if changed is None else changed).get_data()


def interpolation(names: Sequence[str], bad: Collection[str], positions: str, where: str) -> np.ndarray:
    """Return the matrix that replaces bad (or missing) channels by spherical splines of the others.

    Refuses channels without a known position.
    """
    if not bad:
        return np.eye(len(names))
    _, unplaced = make_info(names, positions, where=where)
    if unplaced:
        raise UserError(
            f"{where}: {listed(bad)} would have to be interpolated, but {positions} has no position for "
            f"{listed(unplaced)}; rename them or take them out of channels.montage"
        )

    def change(raw: mne.io.BaseRaw) -> None:
        raw.info["bads"] = list(bad)
        raw.interpolate_bads(reset_bads=True, verbose="error")

    return matrix(names, positions, change, where)


def rereference(names: Sequence[str], kind: str, mastoids: Sequence[str], positions: str, where: str) -> np.ndarray:
    """Return the matrix of a reference: "mastoids", "REST", or the identity for "average" and "none".

    The average is taken in every trial by `utils.signal.preprocessing.decoding_window`, as in real time.
    """
    if kind in ("average", "none"):
        return np.eye(len(names))
    if kind == "mastoids":
        if not (there := [name for name in mastoids if name in names]):
            raise UserError(f"{where}: steps.reference is mastoids, but there is no {' or '.join(mastoids)}")
        return matrix(names, positions, lambda raw: raw.set_eeg_reference(there, verbose="error"), where)
    eeg = [name for name in names if name not in mastoids]
    made, unplaced = make_info(eeg, positions, where=where)
    if unplaced:
        raise UserError(f"{where}: REST needs positions, {positions} has none for {listed(unplaced)}")
    with warnings.catch_warnings(action="ignore"):
        sphere = mne.make_sphere_model("auto", "auto", made, verbose="error")
        sources = mne.setup_volume_source_space(sphere=sphere, exclude=30.0, pos=15.0, verbose="error")
        forward = mne.make_forward_solution(made, None, sources, sphere, meg=False, verbose="error")

    def change(raw: mne.io.BaseRaw) -> mne.io.BaseRaw:
        return mne.set_eeg_reference(raw, "REST", forward=forward, verbose="error")[0]

    return embedded(matrix(eeg, positions, change, where), eeg, names)


def embedded(operator: np.ndarray, names: Sequence[str], within: Sequence[str]) -> np.ndarray:
    """Return a matrix over some channels as one over more of them, which leaves the others alone."""
    result = np.eye(len(within))
    places = [within.index(name) for name in names]
    result[np.ix_(places, places)] = operator
    return result
