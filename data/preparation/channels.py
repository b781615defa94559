"""From a recording's channels to the montage of the trials, as matrices.

Interpolation, removal of components and re-referencing are linear in the channels. Each is done by MNE once,
on the identity, and what it makes of that is the matrix by which a whole night is multiplied in pieces.
"""

import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import mne
import numpy as np

from sleep_interpreter.data.preparation.settings import Channels
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import against_ear, electrode, find_channel, hint, listed, plain

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
    bad: dict[str, str] = field(default_factory=dict)  # {montage channel or mastoid that is called bad: who says so}
    against: dict[str, str] = field(default_factory=dict)  # {one of them that was recorded against an ear: "m2"}

    @property
    def eeg(self) -> list[str]:
        """Montage channels that are there, in the montage's order."""
        return [name for name in self.montage if name in self.rows]

    @property
    def heads(self) -> list[str]:
        """Names of the rows that hold EEG or a mastoid, in the order of the rows."""
        return sorted(self.rows, key=self.rows.__getitem__)


def locate(name: str, names: Sequence[str], rename: Mapping[str, str]) -> str | None:
    """Return which of a recording's channels `name` means, by our name of it or by the lab's; None: none of them.

    In this order: a channel that `channels.rename` gives this name; the same name; the same with another prefix, unit
    or case; the one that is this electrode with a common reference or under an older name ("T3" for T7); the one that
    was recorded against a mastoid or ear ("C3-A2"); for M1 and M2, the ear of that side. Several are a `UserError`,
    and so are channels of one name, which MNE numbers ("Fz-0", "Fz-1").
    """
    if lab := next((lab for lab, ours in rename.items() if ours == name), None):
        return lab if lab in names else None
    free = [other for other in names if other not in rename]
    if found := find_channel(name, free):
        return found
    place = electrode(name)
    for same in (
        [other for other in free if electrode(other) == place],
        [other for other in free if (pair := against_ear(other)) and pair[0] == place],
        [other for other in free if electrode(other) == place.replace("m", "a")] if place in ("m1", "m2") else [],
        [other for other in free if (parts := electrode(other).rpartition("-"))[0] == place and parts[2].isdecimal()],
    ):
        if len(same) > 1:
            raise UserError(f"{name} may be {' or '.join(same)}; say which in channels.rename")
        if same:
            _refuse_left_ear(name, same[0], free)
            return same[0]
    return None


def _refuse_left_ear(name: str, found: str, names: Sequence[str]) -> None:
    """Refuse a channel "O1-LE" where others are "-RE": LE is the left ear then, and not the linked ears."""
    place, _, side = (part.strip() for part in plain(found).rpartition("-"))
    right = [other for other in names if re.search(r"\S ?- ?re$", plain(other))]
    if side == "le" and right:
        own = [other for other in right if plain(other).rpartition("-")[0].strip() == place] or right
        raise UserError(
            f"{name} may be {found} or, as there is {own[0]} too, something against the left ear alone; say which in "
            "channels.rename"
        )


def called_bad(name: str, names: Sequence[str], rename: Mapping[str, str]) -> str | None:
    """Return which of a recording's channels is called bad by `name`, its own or ours; None: none of them.

    A name that is one channel's and, by `channels.rename`, another one's too is a `UserError`.
    """
    if name not in names:
        return locate(name, names, rename)
    if (other := next((lab for lab, ours in rename.items() if ours == name), name)) != name:
        raise UserError(
            f"{name} may be the recording's {name} or {other}, which channels.rename calls so: name {other}"
        )
    return name


def make_plan(settings: Channels, names: Sequence[str], where: str, bad: Mapping[str, str] | None = None) -> Plan:
    """Find the channels of the settings in a recording, which `where` names in messages.

    `bad` are {channel of the recording that is called bad: who says so}: they serve neither the stager nor as a
    reference. Refuses a recording that lacks a renamed channel or more channels than may be interpolated, and names
    that several of its channels may have.
    """
    bad = bad or {}
    for lab in settings.rename:
        if lab not in names:
            raise UserError(f"{where}: channels.rename names {lab!r}, which is not there ({hint(lab, names)})")
    picks, notes = list[str](), list[str]()

    def take(found: str, ours: str) -> int:
        if found not in picks:
            picks.append(found)
            if found != ours:
                notes.append(f"{found} is taken for {ours}")
        return picks.index(found)

    def row(ours: str) -> int | None:
        try:
            found = locate(ours, names, settings.rename)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        return None if found is None else take(found, ours)

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
        ready = None if pair is None else _ready_made(pair, names, settings.rename)
        plus = None if pair is None else take(ready, f"{pair[0]}-{pair[1]}") if ready else row(pair[0])
        if plus is None or picks[plus] in bad:
            derivations.append(None)
            what = "" if not pair else f": there is no {pair[0]}" if plus is None else f": {pair[0]} is called bad"
            notes.append(f"no {kind.upper()} for staging{what}")
            continue
        minus = row(pair[1]) if pair[1] is not None and not against_ear(picks[plus]) else None
        if minus is not None and picks[minus] in bad:
            notes.append(f"staging: {pair[1]} is called bad, so {pair[0]} is used as recorded")
            minus = None
        elif pair[1] is not None and minus is None and not ready:
            notes.append(f"staging: there is no {pair[1]}, so {pair[0]} is used as recorded")
        derivations.append((plus, minus))
    if unused := [name for name in names if name not in picks]:
        notes.append(f"not used: {listed(unused, 70)}")
    called = {name: bad[picks[place]] for name, place in rows.items() if picks[place] in bad}
    ears = {name: pair for name, place in rows.items() if (pair := against_ear(picks[place]))}
    against = {n: side for n, (place, side) in ears.items() if electrode(n) in (place, place.replace("a", "m"))}
    return Plan(picks, settings.montage, rows, missing, derivations, notes, called, against)


def _ready_made(pair: tuple[str, str | None], names: Sequence[str], rename: Mapping[str, str]) -> str | None:
    """Return the channel that is a pair of the stager as it was recorded ("C4-M1", "EEG C4-A1"), if that is needed."""
    if pair[1] is None or pair[0] in rename.values() or find_channel(pair[0], names):
        return None
    ears = [pair[1].casefold(), pair[1].casefold().replace("a", "m")]
    same = [name for name in names if (own := against_ear(name)) and own[0] == electrode(pair[0]) and own[1] in ears]
    return same[0] if len(same) == 1 else None


def refuse_mixed_references(plan: Plan, reference: str, where: str) -> None:
    """Refuse channels of the montage that were recorded against different sides, where a reference is to be taken.

    An average of "C3-A2" and "C4-A1" is no average of the head.
    """
    names = plan.heads if reference == "mastoids" else plan.eeg
    sides = {side: [name for name in names if plan.against.get(name) == side] for side in (None, "m1", "m2")}
    told = [
        f"{listed(own)} against {f'the ear or mastoid {side.upper()}' if side else 'a reference of all'}"
        for side, own in sides.items()
        if own
    ]
    if len(told) > 1 and reference != "none":
        raise UserError(
            f"{where}: the channels have different references ({'; '.join(told)}), and steps.reference = {reference} "
            "needs one for all; set steps.reference=none, which keeps them as recorded"
        )


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
            raise UserError(f"{where}: steps.reference is mastoids, but none of channels.mastoids is there and good")
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
