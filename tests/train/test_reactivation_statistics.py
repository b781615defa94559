"""What is said about rates of reactivation where nothing is to be found: how often it errs (all simulated)."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t, ttest_ind

from benchmarks.statistics import reactivation as studies
from sleep_interpreter.train.commands import reactivation
from sleep_interpreter.train.evaluation import memory_scores, paired_values, reactivation_events
from sleep_interpreter.train.evaluation.sliding_decoder import ReactivationSettings

SETTINGS = ReactivationSettings(false_alarms_per_min=0.2)


@pytest.mark.parametrize(
    ("minutes", "stages", "controls"),
    [(20, ("N2",), 1), (60, ("N2",), 1), (40, ("N2", "N3"), 2), (6, ("N2",), 1)],
    ids=["20 min", "60 min", "two stages, two recordings", "too short to allow any"],
)
def test_nights_like_their_control_have_no_excess(minutes, stages, controls):
    """Counted where the threshold was chosen it was +0.05 a minute with 20 min, +0.02 with 60 and +0.17 with 6."""
    rng = np.random.default_rng(3)
    tables = [
        studies.noise_rates(rng, f"s{k}", SETTINGS, minutes, 60, stages, controls).assign(session="night")
        for k in range(40)
    ]
    total = reactivation_events.total_excess(reactivation_events.pooled(tables))
    mean, error = studies.summary_of(total.excess)
    assert len(total) == 40 and abs(mean) < 3 * error
    assert (np.concatenate([t.control_minutes for t in tables]) == minutes / 2).all()


@pytest.mark.parametrize(
    ("subjects", "half", "night", "allowed", "between"),
    [
        (8, 5, 120, 0, 0.3), (8, 10, 400, 0, 0.0),
        *(pytest.param(*situation, marks=pytest.mark.slow) for situation in (
            (8, 30, 120, 1, 0.5), (12, 30, 400, 1, 0.0), (12, 10, 60, 0, 0.0), (20, 30, 30, 3, 0.5),
            (12, 5, 400, 0, 0.0), (12, 5, 60, 0, 0.3),
        )),
    ],
)  # fmt: skip
def test_the_test_over_subjects_keeps_its_level(subjects, half, night, allowed, between):
    """By sign flips of the excess itself 8 subjects with 10 or 20 min of control were significant in 8 to 9 %."""

    def p(rng):
        total = reactivation_events.total_excess(studies.counted_rates(rng, subjects, half, night, allowed, between))
        return paired_values.mean_of_differences(total.excess, 500, 0, total.score)["sign_flip_p"]

    assert studies.share_below(p, 200, 7) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize("rate", [0.02, 0.1, 1.0])
def test_the_interval_of_an_excess_covers(rate):
    rng, n = np.random.default_rng(4), 4000
    counts = pd.DataFrame({"minutes": rng.uniform(20, 400, n), "control_minutes": rng.uniform(10, 60, n)})
    counts = counts.assign(events=rng.poisson(rate * counts.minutes))
    counts = counts.assign(control_events=rng.poisson(rate * counts.control_minutes))
    table = reactivation_events.with_excess(counts)
    assert ((table.excess_low <= 0) & (table.excess_high >= 0)).mean() >= 0.95
    assert np.isnan(reactivation_events.with_excess(counts.assign(control_minutes=0.0)).excess_low).all()


def test_the_score_is_the_normal_quantile_of_the_binomial():
    counts = pd.DataFrame({"stage": ["N2", "N3"], "events": [9, 4], "control_events": [3, 0]})
    counts = counts.assign(subject="s", item="alarm", minutes=[60.0, 20.0], control_minutes=[30.0, 20.0])
    two = np.random.default_rng(0).binomial([12, 4], [2 / 3, 1 / 2], (200_000, 2)).sum(axis=1)
    expected = norm.ppf((two < 13).mean() + (two == 13).mean() / 2)
    (found,) = reactivation_events.total_excess(reactivation_events.with_excess(counts)).score
    assert found == pytest.approx(expected, abs=0.02) and found > 1
    none = reactivation_events.with_excess(counts.assign(events=0, control_events=0))
    assert reactivation_events.total_excess(none).score.tolist() == [0.0]


def test_what_is_there_is_found_beyond_the_control():
    table = studies.counted_rates(np.random.default_rng(2), 12, 30, 120).assign(minutes=120.0)
    more = reactivation_events.with_excess(table.assign(events=table.events + 40))
    total = reactivation_events.total_excess(more)
    found = paired_values.mean_of_differences(total.excess, 10_000, 0, total.score)
    assert found["sign_flip_p"] < 0.001 and found["low"] > 0.2
    few = paired_values.mean_of_differences(total.excess[:5], 10_000, 0)
    assert few["sign_flip_p"] is None and "5 subjects, 6 are needed" in few["note"]
    summary = {"simulated": True, "subjects": {}, "excess": found}
    assert any("n = 12 subjects; p = 0.000" in line for line in reactivation.summary_lines(summary))


@pytest.mark.slow
@pytest.mark.parametrize(
    "situation",
    [
        {"subjects": 12, "shared": 0.5},
        {"subjects": 12, "shared": 0.3, "favoured": 0.5},
        {"subjects": 20, "shared": 0.5, "items": 8},
        {"subjects": 4, "shared": 0.0},
        {"subjects": 12, "shared": 0.5, "missing": 0.3},
    ],
    ids=str,
)
def test_items_that_all_subjects_share_are_no_fresh_ones_in_each(situation):
    """With items permuted within subjects, noise with half of its variance shared was significant in a quarter."""
    situation = dict(situation)
    missing = situation.pop("missing", 0.0)

    def p(rng):
        rates, scores = studies.memory_study(rng, **situation)
        scores = scores[rng.random(len(scores)) >= missing]
        return memory_scores.relation(reactivation_events.beyond_control(rates), scores, 300, int(rng.integers(1000)))[
            "p"
        ]

    assert studies.share_below(p, 150, 11) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


def test_a_relation_is_found_with_shared_items_and_a_decoder_that_favours_some():
    rng = np.random.default_rng(5)
    rates, scores = studies.memory_study(rng, 12, relation=0.8, shared=0.2, favoured=0.5)
    found = memory_scores.relation(reactivation_events.beyond_control(rates), scores, 2000, 0)
    assert found["p"] < 0.01 and found["mean_rho"] > 0.2 and found["n"] == 12 and found["items"] == 15


def test_what_the_control_leads_to_expect_is_no_reactivation():
    """One item is named four times as often, in the night as in the control: as many events, none beyond it."""
    items = list(studies.ITEMS[:4])
    counts = pd.DataFrame({"item": items, "events": [400, 100, 100, 100], "control_events": [400, 100, 100, 100]})
    counts = counts.assign(subject="s", stage="N2", minutes=60.0, control_minutes=60.0)
    rates = reactivation_events.with_excess(counts)
    assert reactivation_events.beyond_control(rates).loc["s"].abs().max() < 3
    double = reactivation_events.with_excess(counts.assign(minutes=120.0, events=2 * counts.events))
    assert reactivation_events.beyond_control(double).loc["s"].abs().max() < 6


def test_several_scores_of_an_item_are_refused_or_averaged(tmp_path):
    path = tmp_path / "scores.tsv"
    rows = ["s1\talarm\t1\tbefore", "s1\talarm\t3\tafter", "s1\tapple\t5\tbefore", "s1\tapple\tn/a\tafter"]
    path.write_text("\n".join(["subject\titem\tscore\ttest", *rows]) + "\n")
    items = ("alarm", "apple")
    with pytest.raises(ValueError, match=r"s1 has 2 scores of 'alarm' \(lines 2, 3\).*--average-over \(test\)"):
        memory_scores.read_behaviour(path, ["s1"], {}, items)
    table = memory_scores.read_behaviour(path, ["s1"], {}, items, "test")
    assert table.score.tolist() == [2.0, 5.0]
    with pytest.raises(ValueError, match="no column 'rater'; it has subject, item, score, test"):
        memory_scores.read_behaviour(path, ["s1"], {}, items, "rater")
    path.write_text("subject\titem\tscore\tt\ns1\talarm\t1\ta\nlab_1\talarm\t3\ta\n")  # one person, two names
    with pytest.raises(ValueError, match="2 scores of 'alarm'"):
        memory_scores.read_behaviour(path, ["s1"], {"lab_1": "s1"}, items, "t")
    path.write_text("subject\titem\tscore\ns1\talarm\tgood\n")
    with pytest.raises(ValueError, match=r"line 2: score 'good' is no number"):
        memory_scores.read_behaviour(path, ["s1"], {}, items)


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [(60, 60), (30, 120)])
@pytest.mark.parametrize("subjects", [6, 12])
def test_conditions_of_the_same_subjects_keep_the_level(subjects, minutes):
    def p(rng):
        first, second = studies.condition_values(rng, subjects, minutes)
        return paired_values.mean_of_differences(first - second, 500, 0)["sign_flip_p"]

    assert studies.share_below(p, 300, 5) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(("sizes", "minutes"), [((8, 8), (60, 60)), ((5, 15), (20, 120)), ((6, 12), (30, 120))])
def test_groups_of_unequal_size_and_length_keep_the_level(sizes, minutes):
    def p(rng):
        first, second = (
            studies.condition_values(rng, sizes[0], minutes),
            studies.condition_values(rng, sizes[1], minutes),
        )
        return paired_values.difference_of_groups(first[0], second[1], 500, 0)["permutation_p"]

    assert studies.share_below(p, 300, 6) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_an_effect_that_few_have_much_of_leaves_more_open_to_that_side():
    """Of rates (over subjects, between groups) and stagers alike: t alone held such means in 88 to 93 %."""
    some = np.array([0.0, 0.1, 0.1, 0.0, 0.2, 0.1, 0.9])
    usual = t.interval(0.95, 6, some.mean(), some.std(ddof=1) / np.sqrt(7))
    found, mirrored = (paired_values.mean_of_differences(sign * some, 100, 0) for sign in (1, -1))
    assert found["low"] == pytest.approx(usual[0]) and found["high"] > usual[1] + 0.3 * (usual[1] - usual[0])
    assert (mirrored["low"], mirrored["high"]) == pytest.approx((-found["high"], -found["low"]))

    others = np.array([0.0, 0.1, 0.2, 0.1, 0.1])
    usual = ttest_ind(some, others, equal_var=False).confidence_interval()
    found, mirrored = (paired_values.difference_of_groups(*own, 100, 0) for own in ((some, others), (others, some)))
    assert found["low"] == pytest.approx(usual.low) and found["high"] > usual.high + 0.3 * (usual.high - usual.low)
    assert (mirrored["low"], mirrored["high"]) == pytest.approx((-found["high"], -found["low"]))
    even = paired_values.difference_of_groups(others, others + 0.1, 100, 0)
    usual = ttest_ind(others, others + 0.1, equal_var=False).confidence_interval()
    assert (even["low"], even["high"]) == pytest.approx((usual.low, usual.high))


def nights_of(subject, sessions, more=0):
    """Return rates of a subject's nights, some with more events than their control."""
    counts = pd.DataFrame({"session": sessions, "events": [20 + more * k for k in range(len(sessions))]})
    counts = counts.assign(subject=subject, stage="N2", item="alarm", minutes=60.0, control_minutes=30.0)
    return reactivation_events.with_excess(counts.assign(control_events=10))


def test_conditions_are_paired_where_subjects_have_both(tmp_path):
    nights = pd.concat([nights_of(f"s{k}", ["sham", "tmr"], 30 + k) for k in range(7)] + [nights_of("s9", ["tmr"])])
    names = {(s, n): n for s, n in zip(nights.subject, nights.session, strict=True)}
    total = reactivation_events.of_conditions(nights, names)
    (row,) = reactivation_events.between_conditions(total, 1000, 0)
    assert row["paired"] and row["left_out"] == ["s9"] and row["p"] == row["p_holm"] == pytest.approx(2 / 2**7)
    assert row["test"]["mean"] == pytest.approx(-33 / 60)
    lines = reactivation.summary_lines({"simulated": True, "subjects": {}, "conditions": [row]})
    assert "sham - tmr, beyond the control: mean -0.550" in lines[1] and "without the other one: s9" in lines[1]

    groups = {(f"s{k}", "tmr"): "a" if k < 3 else "b" for k in range(9)} | {("s9", "tmr"): "a"}
    total = reactivation_events.of_conditions(nights, groups)
    (row,) = reactivation_events.between_conditions(total, 1000, 0)
    assert not row["paired"] and row["test"]["n"] == [4, 4] and 0 < row["p"] <= 1


def test_tables_of_conditions_are_checked(tmp_path):
    path, sessions = tmp_path / "c.tsv", {"s1": ["nap_a", "nap_b"], "s2": ["nap_a"]}

    def read(*rows, head="subject\tsession\tcondition"):
        path.write_text("\n".join([head, *rows]) + "\n")
        return reactivation_events.read_conditions(path, sessions, {"lab_1": "s1"})

    assert read("lab_1\tnap_a\ttmr", "s1\tnap_b\tsham", "s7\tx\ty") == {
        ("s1", "nap_a"): "tmr", ("s1", "nap_b"): "sham",
    }  # fmt: skip
    assert len(read("s1\told", "s2\tyoung", head="subject\tcondition")) == 3
    with pytest.raises(ValueError, match="line 2: s1 has no night 'nap_c'; it has nap_a, nap_b"):
        read("s1\tnap_c\ttmr")
    with pytest.raises(ValueError, match="line 3: s1 nap_a has a condition already"):
        read("s1\tnap_a\ttmr", "lab_1\tnap_a\tsham")
    with pytest.raises(ValueError, match="none of s1, s2 is in it"):
        read("s7\tnap_a\ttmr")
