"""Which trials may change places: what their order says of it, and how often labels permuted so find nothing to be."""

import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.utils.metrics import statistics
from sleep_interpreter.utils.metrics.exchangeability import clustered, exchange, order_of, runs_of, stretches, warning


def in_blocks(random, items=15, times=6):
    return np.repeat(random.permutation(items), times)


def drifting(random, n, classes, trials=15):
    """Return guesses (n,) that know nothing and stay alike for some trials."""
    level, keep = random.standard_normal((n, classes)), np.exp(-1 / trials)
    for k in range(1, n):
        level[k] = keep * level[k - 1] + np.sqrt(1 - keep**2) * level[k]
    return level.argmax(axis=1)


def by_run(random):
    """Return labels and runs of a design in which every run has three items of its own, in random order."""
    items = random.permutation(15).reshape(5, 3)
    return np.concatenate([random.permutation(np.repeat(own, 6)) for own in items]), np.repeat(np.arange(5), 18)


@pytest.mark.parametrize(
    ("order", "kind", "why"),
    [
        (lambda r: r.permutation(np.repeat(np.arange(15), 6)), "trials", None),
        (lambda r: np.concatenate([r.permutation(15) for _ in range(6)]), "trials", None),  # in turns
        (lambda r: r.permutation(np.repeat([0, 1], 45)), "trials", None),
        (in_blocks, "stretches", None),
        (lambda r: np.repeat(r.permutation(np.repeat(np.arange(15), 3)), 2), "stretches", None),  # always twice
        (lambda r: np.repeat(r.permutation(15), r.integers(2, 11, 15)), "stretches", None),  # of unequal length
        (lambda r: np.repeat([0, 1], 4), "stretches", "2 orders of its stretches are too few"),
        (lambda r: by_run(r)[0], "none", "neither its trials nor its stretches"),  # runs that nobody knows of
        (lambda r: np.concatenate([np.tile(p, 6) for p in r.permutation(14).reshape(7, 2)]), "none", "neither"),
        (lambda r: np.arange(5), "trials", None),
        (lambda r: np.zeros(9, int), "trials", None),
        (lambda r: np.zeros(0, int), "trials", None),
    ],
)
def test_what_may_change_places(order, kind, why):
    found = exchange(order(np.random.default_rng(1)))
    assert found.kind == kind and found.clustered == (kind != "trials")
    assert (found.untestable() or "").startswith(why or "")
    assert (found.untestable() is None) == (why is None)


def test_the_words_have_the_numbers():
    found = exchange(in_blocks(np.random.default_rng(0)))
    assert (found.adjacent, found.expected) == (75, 5)
    assert warning({"s": exchange(np.arange(15))}, "a.b") is None and clustered({}) is None
    said = warning({"s": found, "t": exchange(np.arange(15))}, "evaluate.permute")
    assert "in 1 of 2; s: 75 of 90 follow one of the same item, 5.0 in a random order" in said
    assert "permuted by stretches;" in said
    few = warning({"t": exchange(np.repeat([0, 1], 4))}, "evaluate.permute")
    assert "tell nothing of t alone: 2 orders of its stretches are too few for p <= 0.05" in few
    assert "(evaluate.permute=trials)" in warning({"s": exchange(found.label, permute="trials")}, "evaluate.permute")


def test_a_sorted_file_says_nothing_about_time():
    found = exchange(np.repeat(np.arange(15), 6))
    assert found.by_item and found.as_one
    assert "as in a sorted file" in warning({"s": found}, "a.b") and "a.b=stretches" in warning({"s": found}, "a.b")
    assert exchange(found.label, np.zeros(90, int)).kind == "stretches", "a run is known, so this is their order"


@pytest.mark.parametrize("seed", range(3))
def test_random_orders_are_permuted_as_ever(seed):
    random = np.random.default_rng(seed)
    label = random.permutation(np.repeat(np.arange(15), 6))
    probability = random.dirichlet(np.ones(15), 90)
    old = statistics.permutation_null(label, probability, 500, np.random.default_rng(5))
    new = statistics.permutation_null(label, probability, 500, np.random.default_rng(5), exchange(label))
    assert old[0] == new[0] and all(np.array_equal(old[1][m], new[1][m]) for m in old[1])


def test_stretches_stay_in_one_piece_and_in_their_run():
    random = np.random.default_rng(2)
    label, run = np.concatenate([in_blocks(random, 15, 3) for _ in range(4)]), np.repeat(list("abcd"), 45)
    found = exchange(label, run)
    assert found.kind == "stretches" and found.group.max() == 3
    drawn = found.shuffled(50, random)
    assert (drawn != label).any()
    for own in drawn:
        for name in "abcd":
            assert np.array_equal(np.bincount(own[run == name]), np.full(15, 3))
            assert stretches(own[run == name]).max() == 14
    # where a run is one stretch, runs change places
    assert exchange(label[:45], np.repeat(np.arange(15), 3)).group.max() == 0
    # items of a run of their own: its trials change places inside it
    within = exchange(*by_run(random))
    assert within.kind == "trials" and not within.as_one and within.untestable() is None


@pytest.mark.parametrize(
    "design",
    [
        lambda r: (in_blocks(r), None),
        lambda r: (np.repeat(r.permutation(15), r.integers(2, 11, 15)), None),
        lambda r: (np.repeat(np.concatenate([r.permutation(2) for _ in range(5)]), 9), None),
        by_run,
    ],
    ids=["6 in a row", "unequal", "2 items", "by run"],
)
def test_signals_that_drift_are_no_discovery(design):
    """Trials that change places one by one are significant in 13 to 17 % of these."""
    random, found = np.random.default_rng(3), []
    for _ in range(250):
        label, run = design(random)
        said = np.eye(15)[drifting(random, len(label), 15)[:, None].ravel() % (label.max() + 1)]
        row = []
        for permute in ("auto", "trials"):
            how = exchange(label, run, permute)
            value, null = statistics.permutation_null(label, said, 99, random, how)
            row.append(statistics.exchanged_p(value["top1"], null["top1"], [how])["p"] <= 0.05)
        found.append(row)
    auto, trials = np.mean(found, axis=0)
    assert auto <= 0.09 and trials > 0.1, (auto, trials)  # 5 % of 250: up to 9 in 99.8 %


def origin_of(label, random, shuffle=True, **columns):
    """Return trials in any order of the file, with when they were: (places in the file, origin)."""
    places = random.permutation(len(label)) if shuffle else np.arange(len(label))
    table = pd.DataFrame({"onset_s": 4.0 * np.arange(len(label)), "recording": "a.edf", **columns})
    return places, table.iloc[places].reset_index(drop=True)


def test_the_order_of_time_counts_and_not_that_of_the_file():
    random = np.random.default_rng(0)
    label = in_blocks(random)
    places, origin = origin_of(label, random)
    own = exchange(label[places], runs_of(origin), order=order_of(origin))
    assert own.kind == "stretches" and own.clustered and own.adjacent == 75
    drawn = own.shuffled(20, random)
    in_time = np.empty_like(drawn)
    in_time[:, places] = drawn
    assert all((np.diff(stretches(row)) <= 1).all() and len(set(stretches(row))) <= 15 for row in in_time)
    assert exchange(label[places]).kind == "trials", "the file alone does not tell"
    random_order = random.permutation(label)
    places = np.argsort(random_order, kind="stable")  # a file sorted by item
    _, origin = origin_of(label, random, shuffle=False)
    origin = origin.iloc[places].reset_index(drop=True)
    own = exchange(random_order[places], runs_of(origin), order=order_of(origin))
    assert own.kind == "trials" and not own.clustered and not own.by_item


def test_a_recording_without_a_run_is_a_run():
    origin = pd.DataFrame({"recording": ["a.edf"] * 3 + ["b.edf"] * 4, "run": [None] * 3 + ["1", "1", "2", "2"]})
    assert runs_of(origin).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert runs_of(origin.assign(recording=None, run=None)) is None
    assert order_of(origin) is None
    assert order_of(origin.assign(onset_s=[3.0, 1, 2, 5, 4, 1, 0])).tolist() == [1, 2, 0, 4, 3, 6, 5]
