"""Channel names as labs spell them: which of a recording's channels a name means."""

import re
from collections.abc import Iterable, Sequence

from sleep_interpreter.utils.core.errors import UserError, nearest

_PREFIX = re.compile(r"(?:(?:eeg|eog|emg|ecg|pol) |eeg[-_:.])(?=.)")
_UNIT = re.compile(r" ?[\[(] ?[nuµμm]?v ?[\])]$")
_REFERENCE = re.compile(r"(?: ?- ?(?:ref|le|avg?|car|a1\+?a2|m1\+?m2|\((?:a1\+a2|m1\+m2)\)/2)|[_ ]ref)$")
"""References of a whole recording: they tell no electrode from another."""
_OLD = {"t3": "t7", "t4": "t8", "t5": "p7", "t6": "p8"}
"""Places whose names changed: those of the 10-20 system of 1958, and of the 10-10 system of 1991."""
_AGAINST_EAR = re.compile(r"(?P<electrode>.+?) ?[-_:/ ]? ?(?P<ear>[am][12])")


def plain(name: str) -> str:
    """Return a channel name in lower case, without type prefix, quotes, unit and dots behind it: "EEG C4" -> "c4"."""
    folded = " ".join(str(name).strip("'\" ").split()).casefold()
    return _UNIT.sub("", _PREFIX.sub("", folded, count=1)).rstrip(".") or folded


def electrode(name: str) -> str:
    """Return the place that a name without prefix and common reference means: "EEG Fz-Ref" -> "fz", "T3" -> "t7"."""
    place = _REFERENCE.sub("", plain(name))
    return _OLD.get(place, place)


def against_ear(name: str) -> tuple[str, str] | None:
    """Return the electrode and the mastoid (or ear) of a channel that was recorded against one, else None.

    "EEG C3-A2" and "C3M2" give ("c3", "m2"): the names of ears and of mastoids are those of one side.
    """
    found = _AGAINST_EAR.fullmatch(plain(name))
    return (electrode(found["electrode"]), found["ear"].replace("a", "m")) if found else None


def find_channel(name: str, names: Sequence[str]) -> str | None:
    """Return the entry of `names` that `name` means, or None; a `UserError` where more than one matches.

    An exact match wins; else type prefix ("EEG ", "EOG ", "EMG ", "ECG "), unit, dots behind it and case are ignored.
    A derivation such as "C4-M1" is a channel of its own and never taken for "C4".
    """
    if name in names:
        return name
    matches = [n for n in names if plain(n) == plain(name)]
    if len(matches) > 1:
        raise UserError(f"channel {name!r} matches {', '.join(matches)}: give the full name")
    return matches[0] if matches else None


def hint(name: str, names: Iterable[str]) -> str:
    """Return the channels nearest to `name`, for a message."""
    by_plain = {plain(n): n for n in names}
    close = [by_plain[c] for c in nearest(plain(name), by_plain)]
    return f"nearest: {', '.join(close)}" if close else "nothing like it"


def listed(names: Iterable[object], most: int = 6) -> str:
    """Return names for a message; a long list is cut."""
    every = list(map(str, names))
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
