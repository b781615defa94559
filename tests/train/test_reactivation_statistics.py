"""What is said about rates of reactivation where nothing is to be found: how often it errs (all simulated)."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.calibration import reactivation as studies
from sleep_interpreter.train.commands import reactivation
from sleep_interpreter.train.evaluation import paired_values, reactivation_events
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
    [(8, 30, 120, 1, 0.5), (12, 30, 400, 1, 0.0), (12, 10, 60, 0, 0.0), (20, 30, 30, 3, 0.5)],
)
def test_the_test_over_subjects_keeps_its_level(subjects, half, night, allowed, between):
    def p(rng):
        total = reactivation_events.total_excess(studies.counted_rates(rng, subjects, half, night, allowed, between))
        return paired_values.mean_of_differences(total.excess, 500, 0)["sign_flip_p"]

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


def test_what_is_there_is_found_beyond_the_control():
    table = studies.counted_rates(np.random.default_rng(2), 12, 30, 120).assign(minutes=120.0)
    more = reactivation_events.with_excess(table.assign(events=table.events + 40))
    total = reactivation_events.total_excess(more)
    found = paired_values.mean_of_differences(total.excess, 10_000, 0)
    assert found["sign_flip_p"] < 0.001 and found["low"] > 0.2
    few = paired_values.mean_of_differences(total.excess[:5], 10_000, 0)
    assert few["sign_flip_p"] is None and "5 subjects, 6 are needed" in few["note"]
    summary = {"simulated": True, "subjects": {}, "excess": found}
    assert any("n = 12 subjects; p = 0.000" in line for line in reactivation.summary_lines(summary))
