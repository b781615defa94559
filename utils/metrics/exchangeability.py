"""Which trials of a subject may change places, told from their order: the basis of permuted labels and of folds.

Labels may be permuted where every order of them was as likely as the one that was. Where items are presented several
times in a row, or each in some blocks alone, and signals drift, they may not: a decoder that follows the drift alone
is right or wrong for many trials at once, which single permuted labels never show. What was randomised there are the
stretches, consecutive trials of one item in one run, and they may change places (Edgington and Onghena 2007,
Randomization Tests, ch. 3; for imaging Winkler et al. 2014, NeuroImage 92:381).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import gammaln

Permute = Literal["auto", "trials", "stretches"]
LEVEL = 0.05
_DRAWS, _FAR = 200, 3.3


@dataclass(frozen=True, eq=False)
class Exchange:
    """How the labels (n,) of one subject may be permuted.

    `kind`: "trials", "stretches" (each stays in one piece), or "none", where neither's order could be by chance; in
    each `group` (n,) for itself (a run, a fold). `adjacent` trials follow one of the same item, `expected` in a random
    order; `clustered`: repeats of an item are closer to each other than in random orders; `by_item`: the trials stand
    item by item in the order of the card, as in a file that was sorted, whose order says nothing about time; `note`:
    why nothing may be exchanged. All are in order of time; `order` (n,) are their places in the file where that has
    another one; `known`: the order of time is known, and not only that of the file.
    """

    label: np.ndarray
    kind: Literal["trials", "stretches", "none"]
    piece: np.ndarray
    group: np.ndarray
    adjacent: int
    expected: float
    clustered: bool = False
    by_item: bool = False
    note: str | None = None
    order: np.ndarray | None = None
    known: bool = False

    @property
    def perhaps_sorted(self) -> bool:
        """Trials stand in the order of the card's items, and nothing says that this was their order in time."""
        return not self.known and bool((np.diff(self.label) >= 0).all())

    @property
    def as_one(self) -> bool:
        """Any two trials may change places, as in every test that takes trials for independent."""
        return self.kind == "trials" and not self.group.any()

    def shuffled(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return labels in so many random orders, (count, n), trials as in the file."""
        n = len(self.label)
        if self.order is not None:
            found = np.empty((count, n), self.label.dtype)
            found[:, self.order] = replace(self, order=None).shuffled(count, random)
            return found
        if self.as_one:
            return random.permuted(np.broadcast_to(self.label, (count, n)), axis=1)
        places = np.argsort(self.group, kind="stable")
        label, group, length = self._pieces()
        order = np.argsort(group + random.random((count, len(label))), axis=1)
        found = np.empty((count, n), self.label.dtype)
        found[:, places] = np.repeat(label[order].ravel(), length[order].ravel()).reshape(count, n)
        return found

    def orders(self) -> float:
        """Return the natural logarithm of the number of different orders (at most)."""
        label, group, length = self._pieces()
        _, alike = np.unique(np.column_stack([group, label, length]), axis=0, return_counts=True)
        return float(gammaln(np.bincount(group) + 1).sum() - gammaln(alike + 1).sum())

    def _pieces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return label, group and length of every piece, group by group."""
        places = np.argsort(self.group, kind="stable")
        piece, label, group = self.piece[places], self.label[places], self.group[places]
        first = np.flatnonzero(np.diff(piece, prepend=-1)) if len(piece) else np.zeros(0, int)
        return label[first], group[first], np.diff(first, append=len(piece))

    def untestable(self) -> str | None:
        """Return why permuted labels can show nothing in this subject, or None."""
        if self.kind == "none":
            return self.note
        if not self.as_one and not testable([self]):
            return f"{np.exp(self.orders()):.0f} orders of its {self.kind} are too few for p <= {LEVEL}"
        return None


def runs_of(origin: pd.DataFrame | None) -> np.ndarray | None:
    """Return the number of the run (n,) of each trial from where they come from: recording, session and run.

    `origin` has n rows (`data.formats.trial_origin`); None where it or one of its trials does not say.
    """
    keys = [] if origin is None else [key for key in ("recording", "session", "run") if key in origin]
    if origin is None or not keys or origin[keys].isna().all(axis=1).any():
        return None
    return origin[keys].astype(object).fillna("").groupby(keys, sort=False).ngroup().to_numpy(int)


def order_of(origin: pd.DataFrame | None) -> np.ndarray | None:
    """Return the places (n,) of trials in order of time, run by run, from where they come from; None: not known."""
    if origin is None or "onset_s" not in origin or origin.onset_s.isna().any():
        return None
    run = runs_of(origin)
    return np.lexsort((origin.onset_s.to_numpy(float), np.zeros(len(origin)) if run is None else run))


def stretches(label: np.ndarray, run: np.ndarray | None = None, order: np.ndarray | None = None) -> np.ndarray:
    """Return the number of the stretch, from 0 in order of time, that each of the trials (n,) lies in: int array (n,).

    `order` (n,) are their places in order of time (`order_of`); None: that of the file.
    """
    if order is not None:
        found = np.empty(len(label), int)
        found[order] = stretches(label[order], None if run is None else run[order])
        return found
    change = np.diff(label, prepend=label[:1]) != 0
    return np.cumsum(change | (np.diff(run, prepend=run[:1]) != 0) if run is not None else change)


def exchange(
    label: np.ndarray, run: np.ndarray | None = None, permute: Permute = "auto", order: np.ndarray | None = None
) -> Exchange:
    """Return what may change places among the trials (n,) of one subject.

    `label` is an index into the card's items, `run` (n,) names the run of each trial where it is known, `order` (n,)
    are their places in order of time (`order_of`); None: that of the file. `permute`:
    "trials" or "stretches" (within runs) as told, "auto" the first of these whose random orders the true one is like:
    all trials, trials within runs, stretches within runs. Of sorted trials ("by_item") of unknown runs auto takes the
    trials.
    """
    label = np.asarray(label)
    if order is not None:
        found = _in_time(label[order], None if run is None else run[order], permute, True)
        return found if (np.diff(order) > 0).all() else replace(found, order=order)
    return _in_time(label, run, permute, False)


def _in_time(label: np.ndarray, run: np.ndarray | None, permute: Permute, known: bool) -> Exchange:
    """Return `exchange` of trials in order of time; `known`: it is that, and not only the order of the file."""
    n, everywhere = len(label), np.zeros(len(label), int)
    runs = everywhere if run is None else np.unique(run, return_inverse=True)[1].reshape(-1)
    cued = np.bincount(label) if n else np.zeros(0)
    adjacent, expected = int((np.diff(label) == 0).sum()), float((cued * (cued - 1)).sum() / max(1, n))
    trials = Exchange(label, "trials", np.arange(n), everywhere, adjacent, expected, known=known or run is not None)
    sorted_by_item = trials.perhaps_sorted and np.count_nonzero(cued) > 3
    trials = replace(trials, clustered=not like_its_orders(trials))
    trials = replace(trials, by_item=bool(trials.clustered and sorted_by_item))
    piece = stretches(label, runs)
    several = np.bincount(runs, minlength=1).max() and any(np.ptp(piece[runs == r]) for r in np.unique(runs))
    blocks = replace(trials, kind="stretches", piece=piece, group=runs if several else everywhere)
    if permute != "auto":
        return trials if permute == "trials" else blocks
    if not trials.clustered or trials.by_item:
        return trials
    within = replace(trials, group=runs)
    if runs.any() and testable([within]) and like_its_orders(within):
        return within
    note = "neither its trials nor its stretches are in an order like any other"
    return blocks if like_its_orders(blocks) else replace(trials, kind="none", note=note)


def like_its_orders(own: Exchange) -> bool:
    """Return whether repeats of items are about as far from each other as in random orders of what is exchanged.

    The statistic is the mean logarithm of the distance, in trials, from a trial to the next one of its item: 0 where
    items are repeated at once, highest where they take turns. Closer repeats are by chance up to 3.3 SDs of the random
    orders (p about 0.0005), or, where there are too few trials for that, up to half the distance at p <= 0.12.
    """
    count = int(np.clip(40_000 // max(1, len(own.label)), _DRAWS, 2000))
    found, drawn = _closeness(own.label[None]), _closeness(own.shuffled(count, np.random.default_rng(0)))
    if found is None or drawn is None:
        return True
    nearer = drawn.mean() - found[0]
    rare = (drawn <= found[0] + 1e-9).mean() <= 0.12
    return not (nearer > max(_FAR * drawn.std(), 1e-9) or (rare and nearer >= drawn.mean() / 2 > 0))


def _closeness(label: np.ndarray) -> np.ndarray | None:
    """Return the mean logarithm of distances to the next trial of the same item, (rows,) of (rows, n); None without."""
    places = np.argsort(label, axis=1, kind="stable")
    same = np.diff(np.take_along_axis(label, places, axis=1), axis=1) == 0
    if not same.any():
        return None
    return (np.log(np.maximum(np.diff(places, axis=1), 1)) * same).sum(axis=1) / same.sum(axis=1)


def clustered(found: Mapping[str, Exchange]) -> str | None:
    """Return in words that repeats are clustered in some of {name: how its trials may be exchanged}, or None."""
    own = {name: one for name, one in found.items() if one.clustered}
    if not own:
        return None
    name = max(own, key=lambda name: own[name].adjacent - own[name].expected)
    return (
        f"repeats of an item are clustered in time (in {len(own)} of {len(found)}; {name}: {own[name].adjacent} of "
        f"{len(own[name].label)} follow one of the same item, {own[name].expected:.1f} in a random order)"
    )


def warning(found: Mapping[str, Exchange], setting: str) -> str | None:
    """Return what to know about the order of the trials of {subject: how they may be permuted}, or None.

    `setting` is the name of the one that chooses, for the remedy.
    """
    said = clustered(found)
    if said is None:
        return None
    own = {name: one for name, one in found.items() if one.clustered}
    if all(one.by_item for one in own.values()):
        return (
            f"{said}, but they stand item by item in the order of the card, as in a sorted file: they are permuted as "
            f"if that were not their order in time; if it is, signals that drift look decoded: set {setting}=stretches"
        )
    if all(one.as_one for one in own.values()):
        return f"{said}: signals that drift look decoded where trials are permuted ({setting}=trials)"
    units = {f"{one.kind} within runs" if one.group.any() else one.kind for one in own.values() if one.kind != "none"}
    told = f"labels are permuted by {' or '.join(sorted(units))}" if units else "labels are not permuted"
    if why := {name: text for name, one in own.items() if (text := one.untestable())}:
        told += f", and tell nothing of {', '.join(why)} alone: {next(iter(why.values()))}"
    return (
        f"{said}, and signals that drift look decoded where trials are taken as exchangeable: {told}; intervals of one "
        "subject take trials as independent"
    )


def testable(found: Sequence[Exchange]) -> bool:
    """Return whether subjects together have orders enough for a p of 0.05 or less."""
    return sum(own.orders() for own in found) >= -np.log(LEVEL) - 1e-6
