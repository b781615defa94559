"""Data that can be read and cannot be right: flat, doubled or far too large signals, one item alone, copies of trials,
test trials that were trained on."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from sleep_interpreter.data.formats import twins
from sleep_interpreter.data.formats.trial_reader import Batch

WHICH = "`python data/check.py` on the data folder says which"
FAR = 1000.0
"""A channel whose SD is this many times that of the median channel, or that many times less, is not of its unit."""
HEAD_UV = (0.1, 5000.0)
"""Typical SD in µV beyond which EEG is in another unit."""
SAMPLED = 8
"""Trials of each training subject by which a checkpoint knows them again."""
DIGESTS = "trial_digests"
"""Note of a checkpoint: {training subject: what tells some of its trials from others'}."""


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
    trials, always = int(still.all(axis=1).sum()), _always(still, channels)
    some = int((still.any(axis=1) & ~still.all(axis=1)).sum())
    parts = []
    if trials:
        parts.append(f"{trials} of {len(still)} {of} are flat in all channels")
    if always and trials < len(still):
        parts.append(f"{_few(always)} stand still in all {of}")
    elif some:
        parts.append(f"{some} of {len(still)} {of} have a flat channel")
    return "; ".join(parts)


def repeated(eeg: np.ndarray) -> np.ndarray:
    """Return which channels of trials (n, T, C) have the signal of another channel, bool (n, C); flat ones do not."""
    still = flat(eeg)
    found = np.zeros_like(still)
    for trial, own, row in zip(eeg, still, found, strict=True):
        signals = [column.tobytes() for column in np.ascontiguousarray(trial.T)]
        times = Counter(signals)
        row[:] = [times[signal] > 1 for signal in signals] & ~own
    return found


def power(eeg: np.ndarray) -> np.ndarray:
    """Return the variances over trials (n, T, C), added up, float64 (C,); NaN behind an end do not count."""
    return np.nanvar(eeg, axis=1, dtype=np.float64).sum(axis=0) if len(eeg) else np.zeros(eeg.shape[2])


def remark_on_repeated(same: np.ndarray, channels: Iterable[str], of: str) -> str:
    """Return what there is to say about `repeated` of trials, "" if nothing; `of` says which trials they are."""
    if always := _always(same, channels):
        return f"{_few(always)} have the signal of another channel in all {of}"
    some = int(same.any(axis=1).sum())
    return f"{some} of {len(same)} {of} have channels of one signal" if some else ""


def remark_on_scale(variance: np.ndarray, channels: Iterable[str], of: str, unit: str) -> str:
    """Return what there is to say about mean variances of channels (C,), "" if nothing; `unit` is the card's."""
    spread = np.sqrt(variance)
    if not (spread > 0).any():
        return ""
    typical = float(np.median(spread[spread > 0]))
    parts = []
    if unit == "uV" and not HEAD_UV[0] <= typical <= HEAD_UV[1]:
        parts.append(f"the typical SD of {of} is {typical:.3g} µV: they are in another unit")
    ratio = spread / typical
    for far, words in ((ratio > FAR, "larger"), ((ratio > 0) & (ratio < 1 / FAR), "smaller")):
        if names := [name for name, own in zip(channels, far, strict=True) if own]:
            parts.append(
                f"{_few(names)} of {of} {'is' if len(names) == 1 else 'are'} over {FAR:g} times {words} than others"
            )
    return "; ".join(parts)


def _always(found: np.ndarray, channels: Iterable[str]) -> list[str]:
    return [name for name, own in zip(channels, np.all(found, axis=0), strict=True) if len(found) and own]


def _few(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{' and more' * (len(names) > 5)}"


def remarks(eeg: Iterable[np.ndarray], channels: Iterable[str], of: str, unit: str = "robust") -> list[str]:
    """Return what is wrong with the signals of trials (n, T, C), given in parts; `of` says which trials they are."""
    looked = Looked(channels, unit)
    for part in eeg:
        looked.add(part)
    return looked.remarks(of)


class Looked:
    """What has been seen of trials' signals, without the signals."""

    def __init__(self, channels: Iterable[str], unit: str = "robust") -> None:
        self._channels, self._unit, self._power = [*channels], unit, np.zeros(1)
        self._still: list[np.ndarray] = []
        self._same: list[np.ndarray] = []

    def add(self, eeg: np.ndarray) -> None:
        """Look at trials (n, T, C)."""
        self._still.append(flat(eeg))
        self._same.append(repeated(eeg))
        self._power = self._power + power(eeg)

    def remarks(self, of: str) -> list[str]:
        """Return a sentence for each kind of fault; `of` says which trials they are."""
        if not (count := sum(map(len, self._still))):
            return []
        found = [
            remark_on_flat(np.concatenate(self._still), self._channels, of),
            remark_on_repeated(np.concatenate(self._same), self._channels, of),
            remark_on_scale(self._power / count, self._channels, of, self._unit),
        ]
        return [text for text in found if text]


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


def telling(eeg: np.ndarray) -> list[bytes]:
    """Return the digests of trials (n, T, C) but for those that are flat, which are all the same."""
    return [digest(trial) for trial, still in zip(eeg, np.atleast_1d(flat(eeg).all(axis=1)), strict=True) if not still]


def alike(digests: Iterable[bytes]) -> int:
    """Return how many trials are copies of an earlier one."""
    return sum(count - 1 for count in Counter(digests).values())


def of_domain(eeg: np.ndarray, channels: Iterable[str], of: str, unit: str = "robust") -> list[str]:
    """Return what is wrong with one domain's trials (n, T, C), `of` in words, that are decoded in folds."""
    first: dict[bytes, int] = {}
    alike = {place for place, trial in enumerate(eeg) if first.setdefault(digest(trial), place) != place}
    alike |= {later for _, later in _alike(eeg)}
    found = remarks([eeg], channels, of, unit)
    if alike:
        found.append(f"{len(alike)} of {len(eeg)} {of} are copies of another one, which folds take for independent")
    return found


def of_subjects(subjects: Iterable[Any]) -> list[str]:
    """Return what is wrong with test subjects' trials (`TestSubject` or `SOSubject`), a sentence each kind."""
    subjects = list(subjects)
    faulty, doubled, again, several = list[str](), Counter[str](), Counter[str](), Counter[str]()
    owner, shared = dict[bytes, str](), Counter[str]()
    looked: Looked | None = None
    for subject in subjects:
        parts = _parts(subject)
        own = Looked(subject.card.channels, subject.card.unit)
        looked = looked or Looked(subject.card.channels, subject.card.unit)
        for eeg in parts.values():
            own.add(eeg)
            looked.add(eeg)
        if own.remarks(""):
            faulty.append(subject.name)
        digests = {part: telling(eeg) for part, eeg in parts.items()}
        again[subject.name] = sum(map(alike, digests.values()))
        places = Counter(one for found in digests.values() for one in set(found))
        if hasattr(subject, "groups"):
            several[subject.name] = sum(count > 1 for count in places.values())
        else:
            doubled[subject.name] = copies(subject.sleep, subject.data_type)
        shared.update(f"{subject.name} and {owner[one]}" for one in places if one in owner)
        owner |= {one: subject.name for one in places if one not in owner}
    found = [f"{text} ({', '.join(faulty)}); {WHICH}" for text in (looked.remarks("test trials") if looked else [])]
    for counts, text in (
        (doubled, "test trials are copies of the same subject's train or val trials ({}): a test on them is none"),
        (again, "trials are copies of another one of the same subject ({}): they are counted as independent"),
        (several, "the same trials stand in several groups ({}): a difference between groups is none"),
        (shared, "test subjects have the same trials ({}): one sleeper is counted as several"),
    ):
        if each := ", ".join(f"{name} {count}" for name, count in counts.items() if count):
            found.append(text.format(each))
    return found


def _parts(subject: Any) -> dict[str, np.ndarray]:
    """Return the trials (n, T, C) of each group, or of what is fitted and what is tested."""
    if hasattr(subject, "groups"):
        return {name: eeg for name, (eeg, _) in subject.groups.items()}
    tested = subject.data_type == "test"
    return {"test": subject.sleep[tested], "fitted": subject.sleep[~tested]}


def sampled(trials: Iterable[np.ndarray]) -> list[str]:
    """Return what tells some trials (T, C) from others, but for flat ones."""
    return [one.hex() for trial in trials for one in telling(trial[None])]


def spread_over(count: int) -> list[int]:
    """Return the places of up to `SAMPLED` of so many trials, from the first to the last."""
    return sorted({int(place) for place in np.linspace(0, count - 1, SAMPLED)}) if count else []


def of_training(notes: Mapping[str, Any], subjects: Iterable[Any]) -> list[str]:
    """Return a sentence if test subjects hold trials that a checkpoint was trained or chosen on, by their content.

    `notes` are the checkpoint's (`DIGESTS`); one without them, such as a released one, says nothing.
    """
    known = {one: name for name, digests in notes.get(DIGESTS, {}).items() for one in digests}
    found = defaultdict[str, set[str]](set)
    for subject in subjects if known else ():
        for eeg in _parts(subject).values():
            found[subject.name] |= {known[one] for one in sampled(eeg) if one in known}
    each = ", ".join(f"{name} those of {', '.join(sorted(own))}" for name, own in found.items() if own)
    return [f"test subjects hold trials that the checkpoint was trained on ({each}): this is no test"] if each else []


class Watched:
    """Looks at a training's batches as they go by: `remark` says what was wrong with them."""

    def __init__(self, key: str, channels: Iterable[str], unit: str = "robust") -> None:
        self._key, self._looked = key, Looked(channels, unit)
        self._digests: list[bytes] = []

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches as they are."""
        for batch in batches:
            self._looked.add(batch[self._key])
            self._digests += telling(batch[self._key])
            yield batch

    @property
    def remark(self) -> str:
        """What there is to say about the signals that went by, "" if nothing."""
        found = self._looked.remarks("training trials")
        if count := alike(self._digests):
            found.append(f"{count} of {len(self._digests)} training trials are copies of another one")
        return f"{'; '.join(found)}; {WHICH}" if found else ""


def one_item(batches: Iterable[Batch]) -> int | None:
    """Return the one class that all labels (B, K) of batches are of, None where there are two; reads no further."""
    seen: set[int] = set()
    for batch in batches:
        seen.update(np.unique(batch["label"].argmax(axis=1)).tolist())
        if len(seen) > 1:
            return None
    return seen.pop() if seen else None
