"""Intervals, permutation tests and corrections: known values, coverage, and honesty about few subjects."""

import itertools

import numpy as np
import pytest
from scipy.stats import kstest, wilcoxon
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score

from sleep_interpreter.utils.metrics import statistics
from sleep_interpreter.utils.metrics.reliability import confidence_reliability

CHANCE = 1 / 15


def test_proportion_against_known_wilson_interval():
    row = statistics.proportion(10, 100, CHANCE)
    assert (row["accuracy"], row["n"], row["hits"]) == (0.1, 100, 10)
    # Wilson score interval by its closed form, z = 1.959964
    z, p, n = 1.959963984540054, 0.1, 100
    centre, half = (p + z**2 / (2 * n)), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert row["low"] == pytest.approx((centre - half) / (1 + z**2 / n))
    assert row["high"] == pytest.approx((centre + half) / (1 + z**2 / n))


def test_no_trials_is_no_accuracy():
    none = np.zeros(15, int)
    assert statistics.proportion(0, 0, CHANCE)["accuracy"] is None
    assert statistics.balanced(none, none, 100, 0, CHANCE)["accuracy"] is None
    assert statistics.over_subjects([np.zeros(0, bool)], CHANCE)["accuracy"] is None
    assert statistics.balanced_over_subjects([(none, none)], CHANCE)["accuracy"] is None
    assert confidence_reliability(np.zeros(0, int), np.zeros((0, 15)), 15)["ece"] is None
    sure = np.array([[1e-10, 1 - 1e-10]])  # and wrong: no less so than it says
    assert confidence_reliability(np.array([0]), sure, 15)["log_loss"] == pytest.approx(10 * np.log(10), rel=1e-4)


def test_mean_is_over_subjects_not_trials():
    rows = [np.ones(10, bool), np.zeros(30, bool), np.zeros(0, bool)]
    result = statistics.over_subjects(rows, CHANCE)
    assert (result["subjects"], result["n"]) == (2, 40)
    assert result["accuracy"] == 0.5 and result["pooled"] == 0.25
    assert result["low"] < result["accuracy"] < result["high"]


@pytest.mark.parametrize("hit", [False, True])
def test_no_interval_is_empty_where_all_trials_are_alike(hit):
    """0 of 10 is no evidence for exactly 0 %."""
    rows, none = [np.full(5, hit)] * 2, statistics.class_counts(np.arange(10), np.full(10, hit), 15)
    for result in (
        statistics.over_subjects(rows, CHANCE),
        statistics.balanced_over_subjects([none], CHANCE),
        statistics.balanced(*none, 200, 0, CHANCE),
    ):
        assert result["accuracy"] == hit
        assert result["high"] - result["low"] == pytest.approx(statistics.proportion(0, 10, CHANCE)["high"])


@pytest.mark.parametrize("subjects", [3, 4, 8, 12])
def test_interval_covers_the_population_mean(subjects):
    """Subjects whose true accuracies vary: the 95 % interval holds the true mean 93-99 % of the time."""
    random = np.random.default_rng(0)
    covered = {"hits": 0, "balanced": 0, "difference": 0}
    for _ in range(300):
        true = random.beta(6, 18, size=subjects)  # mean 0.25
        labels = [random.integers(15, size=80) for _ in true]
        rows = [random.random(80) < p for p in true]
        other = [random.random(80) < 0.8 * p for p in true]  # mean 0.2
        tables = [statistics.class_counts(*pair, 15) for pair in zip(labels, rows, strict=True)]
        result = statistics.over_subjects(rows, CHANCE)
        covered["hits"] += result["low"] <= 0.25 <= result["high"]
        result = statistics.balanced_over_subjects(tables, CHANCE)
        covered["balanced"] += result["low"] <= 0.25 <= result["high"]
        pairs = [list(zip(labels, correct, strict=True)) for correct in (rows, other)]
        result = statistics.difference(*pairs)
        covered["difference"] += result["low"] <= 0.05 <= result["high"]
    for what, count in covered.items():
        assert 0.93 <= count / 300 <= 1, f"{what}: {count / 300:.3f}"


EFFECTS = {
    "vary": lambda random, shape: random.uniform(0, 2, shape) * random.beta(4.8, 19.2, shape) / 0.2,
    "exponential": lambda random, shape: random.exponential(1.0, shape),
    "and losses": lambda random, shape: 2 - random.exponential(1.0, shape),
    "symmetric": lambda random, shape: random.normal(1, 1, shape),
}


@pytest.mark.parametrize(("subjects", "cost"), [(3, 1.5), (4, 1.25), (5, 1.2), (8, 1.1), (12, 1.07), (20, 1.04)])
@pytest.mark.parametrize("kind", EFFECTS)
def test_interval_of_a_difference_holds_an_effect_that_varies(kind, subjects, cost):
    """Student's t alone holds skewed ones in 88 to 93 %; symmetric ones must not pay more than a `cost` for it."""
    values = EFFECTS[kind](np.random.default_rng(0), (subjects, 20_000))
    ends = [statistics.half_widths(values, tails=tails) for tails in (False, True)]
    mean = values.mean(axis=0)
    alone, found = (np.mean((mean - down <= 1) & (mean + up >= 1)) for down, up in ends)
    width = [np.mean(down + up) for down, up in ends]
    assert found >= (0.93 if kind in ("vary", "symmetric") else 0.91) and found > alone, f"{found:.3f}"
    assert width[1] <= cost * width[0] if kind == "symmetric" else alone < 0.935 or subjects > 8


def test_half_widths_by_hand():
    """Of 0, 0, 0, 4: mean 1, standard error 1, skewness 2, so t (1 + 2 t^2) / 6 to the right; mirrored, to the left."""
    t = 3.182446
    values = np.array([0.0, 0.0, 0.0, 4.0])
    down, up = statistics.half_widths(values, tails=True)
    assert down == pytest.approx(t) and up == pytest.approx(t + (1 + 2 * t**2) / 6)
    assert statistics.half_widths(-values, tails=True) == (up, down)
    assert statistics.half_widths(values) == pytest.approx((t, t))
    wide = statistics.half_widths(values, within=3.0, tails=True)
    assert wide == (pytest.approx(3 * statistics.Z), up), "trials alone leave more open on one side"
    for even in ([1.0, 2.0, 3.0], [1.0, 3.0], [2.0, 2.0, 2.0, 2.0], [5.0]):
        assert statistics.half_widths(np.array(even), 0.1, True) == pytest.approx(statistics.half_widths(even, 0.1))


@pytest.mark.parametrize(("trials", "subjects"), [(20, 8), (20, 5), (90, 4)])
@pytest.mark.parametrize("balanced", [False, True])
def test_interval_of_paired_decoders_covers_with_few_trials(trials, subjects, balanced):
    """A decoder that loses one hit in four: of 20 trials, the next one is lost in subjects that lost none so far."""
    random, covered = np.random.default_rng(0), 0
    label = np.arange(trials) % 15
    for _ in range(300):
        first = [(label, random.random(trials) < p) for p in random.beta(4.8, 19.2, subjects)]
        second = [(label, own & (random.random(trials) >= random.uniform(0, 0.5))) for _, own in first]
        found = statistics.difference(first, second, balanced)
        covered += found["low"] <= 0.05 <= found["high"]
    assert covered / 300 >= 0.93, covered


@pytest.mark.parametrize(("n", "accuracy"), [(150, 0.07), (150, 0.5), (600, 0.25)])
def test_a_subjects_balanced_interval_covers_its_balanced_accuracy(n, accuracy):
    random, covered = np.random.default_rng(1), 0
    for _ in range(200):
        recall = random.beta(5, 5 * (1 - accuracy) / accuracy, size=15)
        label = random.integers(15, size=n)
        table = statistics.class_counts(label, random.random(n) < recall[label], 15)
        row = statistics.balanced(*table, 400, 0, CHANCE)
        covered += row["low"] <= recall.mean() <= row["high"]
    assert 0.89 <= covered / 200 <= 0.995


def test_measures_agree_with_scikit_learn():
    random = np.random.default_rng(0)
    label = np.repeat(np.arange(15), np.arange(1, 16))
    probability = random.dirichlet(np.ones(15), len(label))
    rank = statistics.true_rank(label, probability)
    guess = probability.argmax(axis=1)
    assert np.array_equal(rank == 0, guess == label)
    top3 = top_k_accuracy_score(label, probability, k=3, labels=np.arange(15))
    assert np.mean(rank < 3) == pytest.approx(top3)
    row = statistics.balanced(*statistics.class_counts(label, rank == 0, 15), 100, 0, CHANCE)
    assert row["accuracy"] == pytest.approx(balanced_accuracy_score(label, guess))
    observed, _ = statistics.permutation_null(label, probability, 100, random)
    assert observed == pytest.approx({"top1": np.mean(guess == label), "top3": top3, "balanced": row["accuracy"]})


def test_ties_go_to_the_first_class():
    probability = np.full((3, 15), 1 / 15)
    probability[1, [4, 9]] += 0.1
    assert statistics.true_rank(np.array([0, 4, 2]), probability).tolist() == [0, 0, 2]
    assert statistics.true_rank(np.array([3, 9, 3]), probability).tolist() == [3, 1, 3]
    assert statistics.tied(probability) == 3
    assert statistics.tied(np.random.default_rng(0).dirichlet(np.ones(15), 50)) == 0


def test_classes_without_trials_have_no_recall():
    row = statistics.balanced(np.array([2, 0, 0]), np.array([2, 4, 0]), 100, 0, 1 / 3)
    assert row["accuracy"] == 0.5 and row["classes"] == 2


def test_permutation_p_is_uniform_where_there_is_nothing():
    """Biased guesses, unequal classes, no information: p over subjects is uniform, within one no smaller."""
    random = np.random.default_rng(4)
    group, alone = [], []
    for _ in range(300):
        observed, nulls = [], []
        for _ in range(5):
            label = random.choice(15, size=80, p=np.arange(1, 16) / 120)
            probability = random.dirichlet(np.arange(1, 16) / 8, 80)
            value, null = statistics.permutation_null(label, probability, 199, random)
            observed.append(value["balanced"])
            nulls.append(null["balanced"])
            alone.append(statistics.permutation_p(value["top1"], null["top1"])["p"])
        group.append(statistics.permutation_p(np.mean(observed), np.mean(nulls, axis=0))["p"])
    assert kstest(group, "uniform").pvalue > 0.01
    assert np.mean(np.array(alone) <= 0.05) < 0.07


def test_permutation_p_by_hand_and_against_every_permutation():
    label = np.array([0, 0, 1, 1, 2])
    probability = np.eye(3)[[0, 0, 1, 2, 2]] * 0.8 + 0.2 / 3
    hits = [np.sum(np.array(order) == [0, 0, 1, 2, 2]) for order in itertools.permutations(label)]
    exact = np.mean(np.array(hits) >= 4)
    observed, null = statistics.permutation_null(label, probability, 20_000, np.random.default_rng(0))
    assert observed["top1"] == pytest.approx(0.8)
    assert statistics.permutation_p(observed["top1"], null["top1"])["p"] == pytest.approx(exact, abs=0.01)
    assert statistics.permutation_p(1.0, np.zeros(99))["p"] == 0.01, "never 0"


def test_permutation_is_not_fooled_by_a_decoder_that_always_says_the_same():
    label = np.repeat([0, 5, 9], [60, 20, 20])
    probability = np.full((100, 15), 0.02)
    probability[:, 0] = 0.72
    observed, null = statistics.permutation_null(label, probability, 500, np.random.default_rng(0))
    assert observed["top1"] == 0.6 and observed["balanced"] == pytest.approx(1 / 3)
    assert statistics.proportion(60, 100, CHANCE)["p"] < 1e-20, "far above 1 in 15"
    for measure in statistics.MEASURES:
        assert statistics.permutation_p(observed[measure], null[measure])["p"] == 1


def test_permutations_are_repeatable_and_keep_their_number():
    label, probability = np.arange(15), np.random.default_rng(0).dirichlet(np.ones(15), 15)
    nulls = [statistics.permutation_null(label, probability, 300, np.random.default_rng(s))[1] for s in (1, 1, 2)]
    assert np.array_equal(nulls[0]["top3"], nulls[1]["top3"])
    assert not np.array_equal(nulls[0]["top3"], nulls[2]["top3"])
    assert nulls[0]["top1"].shape == (300,) and nulls[0]["top1"].mean() == pytest.approx(CHANCE, abs=0.02)


def test_test_against_chance_over_subjects():
    above = statistics.against_chance([0.1, 0.2, 0.15, 0.12, 0.3, 0.11], CHANCE, 10_000, 0)
    assert above["wilcoxon_p"] == above["sign_flip_p"] == pytest.approx(1 / 64)
    below = statistics.against_chance([0.01, 0.02, 0.0, 0.03, 0.04, 0.05], CHANCE, 10_000, 0)
    assert below["wilcoxon_p"] == below["sign_flip_p"] == 1
    exactly = statistics.against_chance([CHANCE] * 8, CHANCE, 1000, 0)
    assert exactly["wilcoxon_p"] == exactly["sign_flip_p"] == 1
    few = statistics.against_chance([0.9] * 5, CHANCE, 1000, 0)
    assert few["wilcoxon_p"] is None and "5 subjects, 6 are needed" in few["note"]


def test_chance_is_the_mean_over_every_order_of_the_labels():
    random = np.random.default_rng(2)
    for label in ([0, 0, 1, 1, 2, 4], [3, 3, 3, 3, 0, 1], [0, 1, 2, 3, 4, 1]):
        probability = random.dirichlet(np.ones(5), 6)
        rank = statistics.ranking(probability)
        orders = [np.array(order) for order in itertools.permutations(label)]
        ranks = [rank[np.arange(6), order] for order in orders]
        tables = [statistics.class_counts(order, own == 0, 5) for order, own in zip(orders, ranks, strict=True)]
        expected = {
            "top1": np.mean([own == 0 for own in ranks]),
            "top3": np.mean([own < 3 for own in ranks]),
            "balanced": np.mean([statistics.mean_recall(*table) for table in tables]),
        }
        assert statistics.chance(np.array(label), probability) == pytest.approx(expected)
        guessed = statistics.chance_of_guesses(np.array(label), probability.argmax(axis=1), 5)
        assert guessed == pytest.approx(expected["top1"])


def test_chance_of_equally_frequent_items_is_one_in_so_many():
    random = np.random.default_rng(3)
    for classes in (2, 3, 8, 15):
        label = np.tile(np.arange(classes), 6)
        chance = statistics.chance(label, random.dirichlet(np.ones(classes) / 3, len(label)))
        assert chance == statistics.chances(classes), "to the last digit"
    assert statistics.chance(np.zeros(0, int), np.zeros((0, 15))) == statistics.chances(15)
    assert statistics.mean_chance([CHANCE] * 12) == CHANCE


def guesses(random, counts, bias, subjects):
    """Yield labels and probabilities of a decoder that guesses class k with a chance of bias[k] and knows nothing."""
    label = np.repeat(np.arange(len(counts)), counts)
    for _ in range(subjects):
        said = random.choice(len(bias), size=len(label), p=np.array(bias) / sum(bias))
        yield label, 0.9 * np.eye(len(bias))[said] + 0.1 / len(bias)


@pytest.mark.parametrize(
    ("counts", "bias"),
    [
        ([45, 45, *[0] * 13], [1, 1, *[0] * 13]),  # two of fifteen items
        ([30, 30, 30, *[0] * 12], [1, 1, 1, *[0] * 12]),
        ([20, 40] * 7 + [20], [1, 2] * 7 + [1]),  # frequencies 1:2
        ([30, *[6] * 14], [5, *[1] * 14]),  # one item five times as often
        ([30, *[6] * 14], [1, *[0] * 14]),  # nothing but the most frequent
    ],
)
def test_noise_is_not_significant_whatever_items_there_are(counts, bias):
    random, found = np.random.default_rng(5), []
    for _ in range(40):
        values, chance = [], []
        for label, probability in guesses(random, counts, bias, 8):
            values.append(np.mean(statistics.true_rank(label, probability) == 0))
            chance.append(statistics.chance(label, probability)["top1"])
        tested = statistics.against_chance(values, chance, 300, 0)
        fixed = statistics.against_chance(values, CHANCE, 300, 0)
        found.append([own[key] <= 0.05 for own in (tested, fixed) for key in ("wilcoxon_p", "sign_flip_p")])
    rates = np.mean(found, axis=0)
    assert (rates[:2] <= 0.13).all(), f"2 of 40 expected: {rates}"
    assert (rates[2:] > 0.3).all(), "against one in fifteen, as if all were there and equally frequent"


def test_how_often_items_were_cued_in_words():
    assert statistics.unequal([np.full(15, 6), np.full(15, 4)]) is None and statistics.unequal([]) is None
    assert statistics.unequal([np.array([6, 3, 0])]) == "2 of 3 items present, cued 3 to 6 times each"
    assert statistics.unequal([np.array([6, 6, 6]), np.array([2, 0, 2])]).startswith("2 to 3 of 3 items present")


def test_signed_ranks_are_scipys():
    random = np.random.default_rng(6)
    for n in (6, 7, 9, 12, 13, 14, 20):
        for decimals in (1, 8):  # with ties and zeros, and without
            values = np.round(random.normal(0.1, 0.3, n), decimals)
            for alternative in ("greater", "two-sided"):
                p, _ = statistics._one_sample(values, alternative, 100, 0)
                assert p == pytest.approx(wilcoxon(values, alternative=alternative).pvalue, abs=1e-12), (n, decimals)


def test_holm_by_hand():
    # sorted: 0.005 x 4 = 0.02; 0.01 x 3 = 0.03; 0.03 x 2 = 0.06; 0.04 x 1 = 0.04, but not below 0.06
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.5, None, 0.01]) == [0.5, None, 0.02]
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0] and statistics.holm([]) == []


def subjects(rates, n=100, seed=0):
    """Return (label, correct) of subjects with exactly these rates."""
    random, rows = np.random.default_rng(seed), []
    for rate in rates:
        correct = random.permutation(np.arange(n) < round(rate * n))
        rows.append((np.arange(n) % 15, correct))
    return rows


def test_paired_difference():
    first = subjects([0.30, 0.25, 0.40, 0.22, 0.31, 0.28])
    second = subjects([0.20, 0.24, 0.35, 0.20, 0.25, 0.21], seed=1)
    row = statistics.paired(first, second, 1000, 0)
    assert row["difference"] == pytest.approx(0.31 / 6) and row["low"] < row["difference"] < row["high"]
    assert row["wilcoxon_p"] == row["sign_flip_p"] == row["smallest_p"] == pytest.approx(2 / 64)
    turned = statistics.paired(second, first, 1000, 0)
    assert turned["difference"] == -row["difference"] and turned["wilcoxon_p"] == row["wilcoxon_p"]


@pytest.mark.parametrize("number", [8, 2, 1])
def test_a_paired_difference_in_one_subject_alone_shows_nothing(number):
    first, second = subjects([0.3] + [0.2] * (number - 1)), subjects([0.2] * number)
    for row in (statistics.paired(first, second, 1000, 0), statistics.paired(second, first, 1000, 0)):
        assert (row["differing"], row["wilcoxon_p"], row["sign_flip_p"], row["smallest_p"]) == (1, 1, 1, 1)


def test_one_subject_of_many_away_from_chance_shows_nothing():
    above, below = (statistics.against_chance([own] + [CHANCE] * 7, CHANCE, 1000, 0) for own in (0.3, 0.01))
    assert above["wilcoxon_p"] == above["sign_flip_p"] == 0.5
    assert below["wilcoxon_p"] == below["sign_flip_p"] == 1


def test_paired_with_itself_and_with_other_trials():
    first = subjects([0.3, 0.2, 0.4])
    same = statistics.paired(first, first, 200, 0)
    assert (same["difference"], same["wilcoxon_p"]) == (0, 1)
    assert -0.02 < same["low"] < 0 < same["high"] < 0.02, "300 trials alike leave the next ones open"
    assert same["smallest_p"] == 1 and same["differing"] == 0
    other = [(np.flip(label), np.flip(correct)) for label, correct in first]
    unmatched = statistics.paired(first, other, 200, 0)
    assert unmatched["difference"] == 0 and unmatched["low"] < 0 < unmatched["high"]


def test_pairing_the_trials_narrows_the_interval():
    first = subjects([0.5] * 4, n=300)
    second = [(label, correct & (np.arange(300) % 10 != 0)) for label, correct in first]
    paired = statistics.paired(first, second, 200, 0)
    shifted = [(np.roll(label, 1), correct) for label, correct in second]
    apart = statistics.paired(first, shifted, 200, 0)
    assert paired["high"] - paired["low"] < 0.7 * (apart["high"] - apart["low"])


def test_balanced_pairs_weigh_classes_alike():
    label = np.repeat([0, 1], [90, 10])
    rows = [[(label, label == 0)] * 3, [(label, label == 1)] * 3]
    assert statistics.paired(*rows, 200, 0)["difference"] == pytest.approx(0.8)
    assert statistics.paired(*rows, 200, 0, balanced=True)["difference"] == pytest.approx(0)


def test_ece_of_a_calibrated_and_of_an_overconfident_decoder():
    random = np.random.default_rng(0)
    probability = random.dirichlet(np.full(15, 0.3), 20_000)
    label = (random.random((20_000, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(max=14)
    calibrated = confidence_reliability(label, probability, 15)
    assert calibrated["ece"] < 0.015
    assert calibrated["confidence"] == pytest.approx(np.mean(probability.argmax(axis=1) == label), abs=0.01)
    sure = np.full((10_000, 15), 0.1 / 14)
    sure[:, 3] = 0.9
    label = np.where(random.random(10_000) < 0.5, 3, 7)
    assert confidence_reliability(label, sure, 15)["ece"] == pytest.approx(0.4, abs=0.015)


@pytest.mark.parametrize("n", [45, 180, 2000])
def test_the_ece_of_a_calibrated_decoder_is_what_chance_gives(n):
    """15 % at n = 45, however well calibrated: said beside the ECE, and not exceeded more often than in 5 %."""
    random, found = np.random.default_rng(1), []
    for _ in range(60):
        probability = random.dirichlet(np.full(15, 0.3), n)
        label = (random.random((n, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(max=14)
        row = confidence_reliability(label, probability, 15)
        found.append((row["ece"], row["ece_by_chance"]["mean"], row["ece"] > row["ece_by_chance"]["high"]))
    ece, expected, above = np.mean(found, axis=0)
    assert ece == pytest.approx(expected, rel=0.12) and above <= 0.13
    assert n != 45 or 0.1 < expected < 0.2
    wrong = confidence_reliability(np.zeros(n, int), np.eye(15)[np.full(n, 3)] * 0.9 + 0.1 / 15, 15)
    assert wrong["ece"] > 3 * wrong["ece_by_chance"]["high"]


def test_prevalence_says_how_many_people_not_that_somebody():
    everybody = statistics.prevalence([0.001] * 12)
    assert everybody["low"] == pytest.approx((0.05 ** (1 / 12) - 0.05) / 0.95) and everybody["significant"] == 12
    two = statistics.prevalence([0.001, 0.04] + [0.5] * 10)
    assert two["p"] == pytest.approx(0.118, abs=0.001) and two["low"] == 0
    assert statistics.prevalence([0.5] * 5) == {"subjects": 5, "significant": 0, "p": 1.0, "low": 0.0}
    assert statistics.prevalence([])["low"] is None
    assert "12 of 12 subjects p <= 0.05" in statistics.prevalence_text(everybody)
    # half of the people decode: the bound lies above that in no more than 5 % of studies
    random = np.random.default_rng(0)
    above = [
        statistics.prevalence(np.where(random.random(12) < 0.5, 0.001, random.random(12)))["low"] > 0.5
        for _ in range(400)
    ]
    assert np.mean(above) <= 0.07


def test_ece_by_hand():
    probability = np.full((4, 3), [0.5, 0.25, 0.25])
    probability[2:] = [0.125, 0.75, 0.125]
    label = np.array([0, 1, 1, 1])
    # two trials at confidence 0.5 with accuracy 0.5, two at 0.75 with accuracy 1: 0.5 * 0 + 0.5 * 0.25
    result = confidence_reliability(label, probability, 10)
    assert result["ece"] == 0.125
    filled = [row for row in result["bins"] if row["n"]]
    assert [(row["from"], row["to"]) for row in filled] == [(0.4, 0.5), (pytest.approx(0.7), pytest.approx(0.8))]
    assert [row["accuracy"] for row in filled] == [0.5, 1.0] and len(result["bins"]) == 10
    assert result["log_loss"] == pytest.approx(log_loss(label, probability, labels=[0, 1, 2]), abs=1e-6)
    uniform = confidence_reliability(label, np.full((4, 15), 1 / 15), 15)
    assert uniform["log_loss"] == pytest.approx(np.log(15), abs=1e-5)


def test_a_difference_of_runs_that_are_all_alike_is_not_certain():
    """Nothing to resample: eight trials in each of six subjects, all right and all wrong, or both wrong."""
    right, wrong = ([(np.zeros(8, int), np.full(8, hit)) for _ in range(6)] for hit in (True, False))
    found = statistics.difference(right, wrong)
    assert found["difference"] == found["high"] == 1 and 0.8 < found["low"] < 0.9
    found = statistics.difference(wrong, wrong)
    assert found["difference"] == 0 and found["low"] == -found["high"] and 0.05 < found["high"] < 0.1
