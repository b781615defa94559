"""Clusters, bands, nested peaks, permuted labels: they find what is there and hold their level elsewhere."""

import numpy as np
import pytest

from sleep_interpreter.lasso_glm.engine.settings import Statistics
from sleep_interpreter.utils.metrics import time_course_tests

SETTINGS = Statistics(permutations=200, cluster_p=0.05, seed=0)
CHANCE = 0.25


def within_result(random, hits, validation=None, n=20):
    """Return a subject's result of five folds with hit rates (T,) in the test and validation folds."""
    validation = hits if validation is None else validation
    folds, samples = 5, len(hits)
    cued = np.full((folds, 4), n // 4)
    return {
        "hits": (right := random.binomial(n, hits, (folds, samples))),
        "recalled": right[..., None] // 4 * np.ones(4, int),
        "validation_hits": random.binomial(n, validation, (folds, samples)),
        "n": np.full(folds, n),
        "validation_n": np.full(folds, n),
        "decoded": np.broadcast_to(cued[:, None], (folds, samples, 4)),
        "cued": cued,
        "label": np.tile(np.arange(4), folds * n // 4),
        "fold": np.repeat(np.arange(folds), n),
        "predicted": np.zeros((folds * n, samples), np.int16),
    }


def test_clusters_find_the_planted_stretch_and_its_place():
    random = np.random.default_rng(0)
    values = CHANCE + 0.03 * random.standard_normal((12, 60))
    values[:, 20:30] += 0.1
    tested, mask = time_course_tests.clusters(values, CHANCE, SETTINGS)
    assert tested["subjects"] == 12 and mask[21:29].all() and mask[:15].sum() + mask[35:].sum() == 0
    best = tested["clusters"][0]
    assert best["p"] <= 0.01 and abs(best["first"][0] - 20) <= 2 and abs(best["last"][0] - 29) <= 2
    maps = CHANCE + 0.03 * random.standard_normal((8, 13, 40))
    maps[:, 4:7, 10:20] += 0.1
    tested, mask = time_course_tests.clusters(maps, CHANCE, SETTINGS)
    assert mask[5, 15] and tested["clusters"][0]["first"][0] in (3, 4) and mask.mean() < 0.15


def test_what_lies_below_chance_is_no_cluster():
    """One-sided: a stretch that all subjects decode worse than chance is neither reported nor counted."""
    values = CHANCE + 0.03 * np.random.default_rng(6).standard_normal((12, 60))
    values[:, 20:30] -= 0.1
    tested, mask = time_course_tests.clusters(values, CHANCE, SETTINGS)
    assert not mask.any()
    assert all(row["last"][0] < 20 or row["first"][0] > 29 for row in tested["clusters"])
    above, _ = time_course_tests.clusters(2 * CHANCE - values, CHANCE, SETTINGS)
    assert above["clusters"][0]["p"] <= 0.01 and tested["subjects"] == above["subjects"] == 12


def test_clusters_hold_their_level_under_chance():
    random = np.random.default_rng(1)
    found = 0
    for _ in range(100):
        _, mask = time_course_tests.clusters(
            random.binomial(60, CHANCE, (7, 20)) / 60, CHANCE, SETTINGS
        )  # exhaustive: 128 sign flips
        found += mask.any()
    assert found <= 12  # 5 expected; more than 12 in 1 of 1000


def test_clusters_stand_what_does_not_vary():
    values = np.full((6, 10), CHANCE)
    assert not time_course_tests.clusters(values, CHANCE, SETTINGS)[1].any()
    values[:, 3] = 0.5
    assert time_course_tests.clusters(values, CHANCE, SETTINGS)[1].tolist() == [k == 3 for k in range(10)]
    tested, mask = time_course_tests.clusters(values[:5], CHANCE, SETTINGS)
    assert not mask.any() and "5 subjects, 6 are needed" in tested["note"]


def test_the_peak_is_chosen_on_validation_alone():
    random = np.random.default_rng(2)
    rate = np.full(80, CHANCE)
    results = {f"subject_{s}": within_result(random, rate) for s in range(20)}
    nested = time_course_tests.peak(time_course_tests.peaks_within(results), SETTINGS)
    assert nested["low"] <= CHANCE <= nested["high"] and nested["permutation"]["p"] > 0.02
    greedy = np.mean([r["hits"].sum(axis=0).max() / 100 for r in results.values()])
    assert greedy > nested["permutation"]["high"]  # what choosing on the test trials would have claimed
    changed = {name: {**r, "hits": np.zeros_like(r["hits"])} for name, r in results.items()}
    rows, others = time_course_tests.peaks_within(results), time_course_tests.peaks_within(changed)
    assert [row["cells"] for row in rows.values()] == [row["cells"] for row in others.values()]


def test_without_signal_the_peak_of_a_map_spreads_as_permuted_labels_do():
    """Chosen by all other subjects instead of the other half, it is outside in two cohorts of five."""
    random, outside, by_all_others = np.random.default_rng(5), 0, 0
    shape, n, subjects, cohorts = (13, 80), 90, 20, 200
    spread = 1.96 * np.sqrt(CHANCE * (1 - CHANCE) / (n * subjects))
    blank = {"n": np.int32(n), "decoded": np.zeros((*shape, 1), int), "cued": np.zeros(1, int)}
    blank |= {"recalled": blank["decoded"], "label": np.zeros(n, int), "predicted": np.zeros((n, *shape), np.int16)}
    for _ in range(cohorts):
        hits = random.binomial(n, CHANCE, (subjects, *shape))
        rows = time_course_tests.peaks_across({f"s{k}": {**blank, "hits": own} for k, own in enumerate(hits)})
        mean = np.mean([row["hits"] / n for row in rows.values()])
        outside += abs(mean - CHANCE) > spread
        flat, total = hits.reshape(subjects, -1), hits.sum(axis=0).ravel()
        mean = np.mean([own[(total - own).argmax()] / n for own in flat])
        by_all_others += abs(mean - CHANCE) > spread
    assert outside <= 0.12 * cohorts
    assert by_all_others >= 0.25 * cohorts


def test_the_peak_of_a_map_is_chosen_by_the_other_half():
    random = np.random.default_rng(3)
    rate = np.full((13, 80), CHANCE)
    rate[4, 30] = 0.8
    cued = np.full(4, 25)
    own = {
        f"subject_{s}": {
            "hits": random.binomial(100, rate),
            "recalled": np.zeros((13, 80, 4), int),
            "n": np.int32(100),
            "decoded": np.broadcast_to(cued, (13, 80, 4)),
            "cued": cued,
            "label": random.permutation(np.repeat(np.arange(4), 25)),
            "predicted": np.zeros((100, 13, 80), np.int16),
        }
        for s in range(6)
    }
    rows = time_course_tests.peaks_across(own)
    assert all(row["cells"] == [[4, 30]] for row in rows.values())
    odd = {**own, "subject_0": {**own["subject_0"], "hits": own["subject_0"]["hits"][::-1]}}
    assert time_course_tests.peaks_across(odd)["subject_0"]["cells"] == [[4, 30]]
    assert time_course_tests.peaks_across({"subject_0": own["subject_0"]}) == {}
    assert time_course_tests.peak({}, SETTINGS) is None


def test_permuted_labels_depend_on_the_margins_alone():
    """An unbalanced set that is always called by its most frequent class gets just that, with no spread."""
    row = {"n": 100, "decoded": np.array([[100, 0]]), "cued": np.array([[70, 30]])}
    np.testing.assert_allclose(time_course_tests.permuted(row, 50, np.random.default_rng(0)), 0.7)
    row = {"n": 100, "decoded": np.array([[50, 50]]), "cued": np.array([[50, 50]])}
    null = time_course_tests.permuted(row, 4000, np.random.default_rng(0))
    assert null.mean() == pytest.approx(0.5, abs=0.005)
    assert null.std() == pytest.approx(2 * np.sqrt(50**4 / (100**2 * 99)) / 100, rel=0.05)  # hypergeometric


def test_bands_cover_and_need_two_subjects():
    """Of four to twenty subjects who differ; percentiles of subjects drawn anew covered 77 to 89 %."""
    random = np.random.default_rng(4)
    for subjects in (4, 7, 20):
        true = random.normal(0.3, 0.05, (subjects, 2000)).clip(0, 1)
        hits = random.binomial(60, true)
        low, high = time_course_tests.band(hits, np.full(subjects, 60))
        assert 0.93 < np.mean((low <= 0.3) & (high >= 0.3)) < 0.99
        assert (low >= 0).all() and (high <= 1).all()
    assert time_course_tests.band(hits[:1], np.array([60])) is None
    low, high = time_course_tests.band(np.zeros((4, 3), int), np.full(4, 60))
    assert (high > 0.005).all(), "no hit of 240 is no evidence for exactly 0 %"


def of_cued(random, cued, samples=30, folds=5, bias=(1, 1, 1, 1)):
    """Return a subject's result of guesses that know nothing: class k is guessed with a chance of bias[k]."""
    classes, result, answers = len(bias), {"hits": [], "recalled": [], "decoded": [], "cued": []}, []
    label = random.permutation(np.repeat(np.arange(classes), cued))
    for fold in np.array_split(label, folds):
        guess = random.choice(classes, size=(samples, len(fold)), p=np.array(bias) / sum(bias))
        right = np.array([((guess == fold) & (fold == k)).sum(axis=1) for k in range(classes)]).T
        answers.append(guess)
        result["hits"].append(right.sum(axis=1))
        result["recalled"].append(right)
        result["decoded"].append([np.bincount(row, minlength=classes) for row in guess])
        result["cued"].append(np.bincount(fold, minlength=classes))
    arrays = {key: np.array(value) for key, value in result.items()}
    n = arrays["cued"].sum(axis=1)
    arrays |= {"label": label, "fold": np.repeat(np.arange(folds), n), "predicted": np.concatenate(answers, axis=1).T}
    return arrays | {"n": n, "validation_hits": np.roll(arrays["hits"], -1, axis=0), "validation_n": n}


def test_chance_over_time_is_the_mean_of_permuted_labels():
    own = of_cued(np.random.default_rng(0), [40, 20, 10, 0], samples=3, bias=(4, 2, 1, 1))
    expected = time_course_tests.chance_of(own)
    assert expected.shape == (3,)
    for sample in range(3):
        row = {"n": 70, "decoded": own["decoded"][:, sample], "cued": own["cued"]}
        null = time_course_tests.permuted(row, 20_000, np.random.default_rng(1))
        assert expected[sample] == pytest.approx(null.mean(), abs=0.002)
    crossed = {"cued": own["cued"].sum(axis=0), "decoded": own["decoded"].sum(axis=0)[None], "n": np.int32(70)}
    assert time_course_tests.chance_of(crossed).shape == (1, 3)


@pytest.mark.parametrize(
    ("cued", "bias"),
    [
        ([50, 50, 0, 0], (1, 1, 0, 0)),  # two of four items
        ([20, 40, 20, 40], (1, 2, 1, 2)),  # items cued twice as often, and decoded so
        ([75, 15, 15, 15], (5, 1, 1, 1)),  # one of them five times as often
        ([40, 40, 40, 0], (1, 1, 1, 0)),  # three of four
        ([75, 15, 15, 15], (1, 0, 0, 0)),  # nothing but the most frequent
    ],
)
def test_noise_is_no_cluster_whatever_items_there_are(cued, bias):
    random, found, greater = np.random.default_rng(7), 0, 0
    for _ in range(40):
        own = [of_cued(random, cued, bias=bias) for _ in range(7)]
        curves = np.array([a["hits"].sum(axis=0) / a["n"].sum() for a in own])
        chance = np.array([time_course_tests.chance_of(a) for a in own])
        found += time_course_tests.clusters(curves, chance, SETTINGS)[1].any()
        greater += time_course_tests.clusters(curves, CHANCE, SETTINGS)[1].any()
    assert found <= 6  # 2 expected
    assert greater == 40, "against one in four, as if all were there and equally frequent"


def test_the_peak_is_held_against_what_frequencies_give():
    random = np.random.default_rng(8)
    own = {f"s{k}": of_cued(random, [75, 15, 15, 15], bias=(9, 1, 1, 1)) for k in range(8)}
    found = time_course_tests.peak(time_course_tests.peaks_within(own), SETTINGS)
    assert found["chance"] > 0.45 and found["accuracy"] == pytest.approx(found["chance"], abs=0.05)
    assert found["against_chance"]["wilcoxon_p"] > 0.05 and found["permutation"]["p"] > 0.05
    assert found["balanced"]["accuracy"] == pytest.approx(0.25, abs=0.03) and "15 to 75 times" in found["unequal"]
    assert found["balanced"]["chance"] == pytest.approx(0.25, abs=0.02)
    even = {f"s{k}": of_cued(random, [30] * 4) for k in range(8)}
    assert time_course_tests.peak(time_course_tests.peaks_within(even), SETTINGS)["unequal"] is None
