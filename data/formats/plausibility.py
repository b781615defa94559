"""Data that can be read and cannot be right: flat signals, one item alone, test trials that were trained on."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from sleep_interpreter.data.formats import twins
from sleep_interpreter.data.formats.trial_reader import Batch

WHICH = "`python data/check.py` on the data folder says which"


def digest(eeg: np.ndarray) -> bytes:
    """Return what tells one trial's signals from others'."""
    return hashlib.blake2b(np.ascontiguousarray(eeg, np.float32).data, digest_size=8).digest()


def flat(eeg: np.ndarray) -> np.ndarray:
    """Return which channels of trials (n, T, C) stand still throughout, bool (n, C); NaN behind an end do not count."""
    if not len(eeg):
        return np.zeros((0, eeg.shape[2]), bool)
    return np.asarray(np.fmax.reduce(eeg, axis=1) == np.fmin.reduce(eeg, axis=1))


def remark_on_flat(still: np.ndarray, channels: Iterable[str], of: str) -> str:
    """Return what there is to say about `flat` of trials, "" if nothing; `of` says which trials they are."""
    trials, names = int(still.all(axis=1).sum()), [*channels]
    always = (
        [name for name, own in zip(names, np.atleast_1d(still.all(axis=0)), strict=True) if own] if len(still) else []
    )
    some = int((still.any(axis=1) & ~still.all(axis=1)).sum())
    parts = []
    if trials:
        parts.append(f"{trials} of {len(still)} {of} are flat in all channels")
    if always and trials < len(still):
        parts.append(f"{', '.join(always[:5])}{' and more' * (len(always) > 5)} stand still in all {of}")
    elif some:
        parts.append(f"{some} of {len(still)} {of} have a flat channel")
    return "; ".join(parts)


def copies(eeg: np.ndarray, parts: np.ndarray) -> int:
    """Return how many of a subject's trials (n, T, C) of the part "test" are in "train" or "val" (n,) as well, to the
    bit or nearly so."""
    digests, fitted = [digest(trial) for trial in eeg], np.isin(parts, ("train", "val"))
    known = {own for own, fit in zip(digests, fitted, strict=True) if fit}
    found = {place for place, own in enumerate(digests) if own in known}
    for i, j in _alike(eeg):
        found |= {i} if fitted[j] else set()
        found |= {j} if fitted[i] else set()
    return sum(parts[place] == "test" for place in found)


def _alike(eeg: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the places of any two trials of (n, T, C) that hold the same signals, or nearly; flat ones do not count."""
    return twins.pairs(twins.sketch(np.swapaxes(eeg, 1, 2)))


def of_domain(eeg: np.ndarray, channels: Iterable[str], of: str) -> list[str]:
    """Return what is wrong with one domain's trials (n, T, C), `of` in words, that are decoded in folds."""
    first: dict[bytes, int] = {}
    alike = {place for place, trial in enumerate(eeg) if first.setdefault(digest(trial), place) != place}
    alike |= {later for _, later in _alike(eeg)}
    found = [remark_on_flat(flat(eeg), channels, of)]
    if alike:
        found.append(f"{len(alike)} of {len(eeg)} {of} are copies of another one, which folds take for independent")
    return [text for text in found if text]


def of_subjects(subjects: Iterable[Any]) -> list[str]:
    """Return what is wrong with test subjects' trials (`TestSubject` or `SOSubject`), a sentence each kind."""
    still, names, doubled = list[np.ndarray](), list[str](), Counter[str]()
    for subject in subjects:
        groups = [eeg for eeg, _ in subject.groups.values()] if hasattr(subject, "groups") else [subject.sleep]
        own = np.concatenate([flat(eeg) for eeg in groups])
        if own.any():
            names.append(subject.name)
        still.append(own)
        channels = subject.card.channels
        if hasattr(subject, "data_type") and (count := copies(subject.sleep, subject.data_type)):
            doubled[subject.name] = count
    found = []
    if names:
        text = remark_on_flat(np.concatenate(still), channels, "test trials")
        found.append(f"{text} ({', '.join(names)}); {WHICH}")
    if doubled:
        each = ", ".join(f"{name} {count}" for name, count in doubled.items())
        found.append(
            f"test trials are copies of the same subject's train or val trials ({each}): a test on them is none"
        )
    return found


class Watched:
    """Looks at a training's batches as they go by: `remark` says what was wrong with them."""

    def __init__(self, key: str, channels: Iterable[str]) -> None:
        self._key, self._channels = key, [*channels]
        self._still: list[np.ndarray] = []

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches as they are."""
        for batch in batches:
            self._still.append(flat(batch[self._key]))
            yield batch

    @property
    def remark(self) -> str:
        """What there is to say about the signals that went by, "" if nothing."""
        text = remark_on_flat(np.concatenate(self._still), self._channels, "training trials") if self._still else ""
        return f"{text}; {WHICH}" if text else ""


def one_item(batches: Iterable[Batch]) -> int | None:
    """Return the one class that all labels (B, K) of batches are of, None where there are two; reads no further."""
    seen: set[int] = set()
    for batch in batches:
        seen.update(np.unique(batch["label"].argmax(axis=1)).tolist())
        if len(seen) > 1:
            return None
    return seen.pop() if seen else None
