"""Channel names as labs spell them: which of a recording's channels a name means."""

from collections.abc import Iterable, Sequence

from sleep_interpreter.utils.core.errors import UserError, nearest

_PREFIXES = ("eeg ", "eog ", "emg ", "ecg ")
_REFERENCES = ("-ref", "-le", "-avg")  # of a whole recording: they tell no electrode from another


def plain(name: str) -> str:
    """Return a channel name without its type prefix, in lower case: "EEG C4" -> "c4"."""
    folded = " ".join(str(name).split()).casefold()
    return next((folded[len(prefix) :] for prefix in _PREFIXES if folded.startswith(prefix)), folded)


def electrode(name: str) -> str:
    """Return what is left of a name without type prefix and common reference: "EEG Fz-Ref" -> "fz"."""
    folded = plain(name)
    return next((folded[: -len(r)] for r in _REFERENCES if folded.endswith(r)), folded)


def find_channel(name: str, names: Sequence[str]) -> str | None:
    """Return the entry of `names` that `name` means, or None; a `UserError` where more than one matches.

    An exact match wins; else type prefix ("EEG ", "EOG ", "EMG ", "ECG ") and case are ignored. A derivation such as
    "C4-M1" is a channel of its own and never taken for "C4".
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


def listed(names: Iterable[str], most: int = 6) -> str:
    """Return names for a message; a long list is cut."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
