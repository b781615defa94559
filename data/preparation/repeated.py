"""Recordings that are there more than once: parts, copies, two headers of one file, two formats; one person twice."""

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import mne
from mne.io.constants import FIFF

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.file_hashes import digests
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.signal.gaps import linked_files
from sleep_interpreter.utils.signal.recording import Recording


class Recorded(Protocol):
    """A session as it was found."""

    @property
    def path(self) -> Path:
        """The recording's file."""

    @property
    def label(self) -> str:
        """What it is called."""


S = TypeVar("S", bound=Recorded)
_PART = re.compile(r"(?:-\d+|_split-\d+_[a-z]+)\.fif", re.IGNORECASE)
_ROLE = re.compile(rf"FIFF_REF_ROLE .*= \[{int(FIFF.FIFFV_ROLE_PREV_FILE)}\]")
_ENDING = re.compile(r"(?:[_-](?:raw|eeg|meg))?(?:\.[a-z0-9]+)$", re.IGNORECASE)


class _One(NamedTuple):
    """A recording that was found, and the files that it stands in, links followed."""

    subject: str
    session: Recorded
    data: tuple[Path, ...]
    markers: Path | None


def once(sessions: Mapping[str, Sequence[S]]) -> tuple[dict[str, list[S]], dict[Path, list[str]], dict[str, str]]:
    """Return each subject's sessions, each recording once, remarks by path, and {subject: why it cannot be prepared}.

    Parts of a recording, and copies of one session, go, and what stays is remarked on. Where one recording is of two
    subjects or two sessions, or in two formats, nobody knows which is right: that is a fault.
    """
    every = [_files(subject, one) for subject, own in sessions.items() for one in own]
    faults: defaultdict[str, list[str]] = defaultdict(list)
    kept, said = _without_parts(every)
    kept = _without_copies(kept, said, faults)
    for one in kept:
        if _goes_on(one.session.path):
            faults[one.subject].append(
                f"{display_path(one.session.path)} is a later part of a split recording, whose first part is not among "
                "the recordings; put that beside it (and into --recordings), or save this part with MNE as a recording "
                "of its own"
            )
    for one, other in _pairs(kept, lambda one: (one.session.path.parent, _ENDING.sub("", one.session.path.name))):
        _blame(faults, (one, other), "are one recording in two formats, by their names", "take one of them away")
    for one, other in _pairs(kept, lambda one: one.markers):
        if one.data[0] != other.data[0]:
            what = f"have one marker file, {display_path(one.markers or '')}"
            _blame(faults, (one, other), what, "correct MarkerFile= in the header that is wrong")
    for names in combinations(sessions, 2):
        if _person(names[0]) == _person(names[1]):
            for name in names:
                both = f"{names[0]!r} and {names[1]!r} look like one person, written in two ways"
                faults[name].append(f"{both}; rename the files of one of them")
    there = {id(one.session) for one in kept}
    whole = {subject: [one for one in own if id(one) in there] for subject, own in sessions.items()}
    return whole, said, {subject: "; ".join(dict.fromkeys(reasons)) for subject, reasons in faults.items()}


def _files(subject: str, session: Recorded) -> _One:
    """Find the files of a recording; those of one that cannot be read are its path alone."""
    path = session.path
    data, markers = [path], None
    suffix = path.suffix.lower()
    if suffix == ".vhdr":
        beside = linked_files(path)
        if "datafile" in beside and beside["datafile"].is_file():
            data = [beside["datafile"]]
        markers = beside["markerfile"].resolve() if "markerfile" in beside else None
    elif (suffix == ".fif" and any(_PART.search(other.name) for other in path.parent.glob("*.fif"))) or (
        suffix == ".set" and any(path.parent.glob("*.fdt"))
    ):
        with contextlib.suppress(UserError):  # the preparation says what is wrong with it
            data = Recording(path).files or data
    return _One(subject, session, tuple(file.resolve() for file in data), markers)


def _goes_on(path: Path) -> bool:
    """Tell whether a FIF file says that it goes on where another one ended, so that it is no recording of its own."""
    if path.suffix.lower() != ".fif":
        return False
    with contextlib.suppress(Exception):  # the preparation says what is wrong with a broken file
        return any(_ROLE.search(line) for line in mne.io.show_fiff(path, output=list, tag=FIFF.FIFF_REF_ROLE))
    return False


def _without_parts(every: Sequence[_One]) -> tuple[list[_One], dict[Path, list[str]]]:
    """Return the recordings that are no later part of another one, and {path: remarks}."""
    later = {file for one in every for file in one.data[1:]}
    kept = [one for one in every if one.data[0] not in later]
    return kept, {
        one.session.path: [f"the recording is in {len(one.data)} files: {', '.join(file.name for file in one.data)}"]
        for one in kept
        if later.intersection(one.data)
    }


def _without_copies(
    every: Sequence[_One], said: dict[Path, list[str]], faults: defaultdict[str, list[str]]
) -> list[_One]:
    """Return the recordings without further copies; note those that are not alike in what they are called."""
    same: dict[Path, bytes | Path] = {one.data[0]: one.data[0] for one in every}
    sizes = defaultdict(list)
    for file in same:
        if file.is_file() and file.stat().st_size:
            sizes[file.stat().st_size].append(file)
    for files in sizes.values():
        if len(files) > 1:
            same |= zip(files, digests(files), strict=True)
    gone = set[int]()
    for one, other in _pairs(every, lambda one: same[one.data[0]]):
        alike = (one.subject, one.session.label) == (other.subject, other.session.label)
        headers = one.data[0] == other.data[0] and one.session.path.resolve() != other.session.path.resolve()
        if alike and not headers:
            gone.add(id(other))
            text = f"{display_path(other.session.path)} is the same file once more: left out"
            said.setdefault(one.session.path, []).append(text)
        elif headers:
            what = f"are two headers of one data file, {display_path(one.data[0])}"
            _blame(faults, (one, other), what, "correct the header that is wrong, or take it away")
        else:
            _blame(faults, (one, other), "hold the same data, byte for byte", "take away the one that is wrongly named")
    return [one for one in every if id(one) not in gone]


def _pairs(every: Sequence[_One], key: Callable[[_One], Hashable]) -> list[tuple[_One, _One]]:
    """Return each recording that has the key of an earlier one, after the first of these; None is no key."""
    first: dict[Hashable, _One] = {}
    found = []
    for one in every:
        if (own := key(one)) is not None and first.setdefault(own, one) is not one:
            found.append((first[own], one))
    return found


def _blame(faults: defaultdict[str, list[str]], both: tuple[_One, _One], what: str, remedy: str) -> None:
    paths = " and ".join(display_path(one.session.path) for one in both)
    for one in both:
        faults[one.subject].append(f"{paths} {what}; {remedy}")


def _person(name: str) -> str:
    """Return a subject's name without what two spellings of it differ in: case, signs, zeros before a number."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\W_]+", "", name.casefold()))
