"""The phase at a cue does not know the response to the cue; histograms are held against random times."""

import numpy as np
import pandas as pd
import pytest
from scipy import signal

from sleep_interpreter.data.events import slow_oscillations
from sleep_interpreter.data.events.cue_phases import at_cues, spindles_at_random
from sleep_interpreter.data.events.slow_oscillations import SlowOscillationDetection
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.simulation.live_sleeper import LiveSleeper
from sleep_interpreter.realtime.Parameters.source import SimulateSettings
from sleep_interpreter.utils.metrics.circular import against_random_times, counts_against_random_times, mean_vector

RATE = 500
MINUTES = 20


@pytest.fixture(scope="module")
def sleep():
    """Fz of 20 min of simulated N3 in µV at 500 Hz, the planted phase at any sample in rad, random pseudo-cues in s."""
    night = LiveSleeper(SimulateSettings(subject=0, hours=MINUTES / 60, stage="N3"))
    row, piece = night.names.index("Fz"), 30 * RATE
    parts = [night.render(s, min(s + piece, night.n))[row] for s in range(0, night.n, piece)]
    cues = 40 + np.cumsum(np.random.default_rng(3).uniform(4, 6, 225))
    return np.concatenate(parts).astype(float), lambda at: np.radians(night.phase_at(at)), cues


def with_responses(trace, cues, microvolts=40.0):
    """Return the trace with a K-complex-like response to every cue: nothing before the cue changes."""
    t = np.arange(round(1.5 * RATE)) / RATE
    shape = np.sin(2 * np.pi * (t - 0.35) / 0.9) * np.exp(-(((t - 0.7) / 0.4) ** 2)) * np.minimum(1, t / 0.1)
    shape *= -microvolts / np.abs(shape).max()
    result = trace.copy()
    for cue in cues:
        start = round(cue * RATE)
        result[start : start + len(shape)] += shape
    return result


def places(trace, cues, phase_from):
    """Return group names, phases in rad and what random times met, as a preparation reads them."""
    settings = SlowOscillationDetection(phase_from=phase_from)
    thin = signal.resample_poly(trace, 1, 5)
    found = slow_oscillations.detect_so(thin, np.full(len(thin), 2), settings)
    table = pd.DataFrame({"onset_s": cues, "stage": 2})
    known, at_random = at_cues(table, found, pd.DataFrame({"start_s": []}), settings, 1.5, trace)
    return known, at_random


def test_a_response_added_after_each_cue_changes_the_phase_of_whole_and_not_of_precue(sleep):
    """One cue at a time, so that no response lies before another cue: before and after are the same to the bit."""
    trace, _, cues = sleep
    some = cues[::8]
    alone = [places(trace, some, way)[0] for way in ("precue", "whole")]
    heard = [places(with_responses(trace, some), some, way)[0] for way in ("precue", "whole")]
    assert alone[0].so_group.tolist() == heard[0].so_group.tolist()
    assert np.array_equal(alone[0].so_phase_rad, heard[0].so_phase_rad, equal_nan=True)
    assert (alone[1].so_group != heard[1].so_group).sum() > 5
    assert set(alone[0].so_phase_from) == {"precue"} and set(alone[1].so_phase_from) == {"whole"}


def test_random_pseudo_cues_look_locked_from_both_sides_only(sleep):
    """The fault as it was reported: resultant length and groups of cues that know nothing of the phase."""
    trace, _, cues = sleep
    heard = with_responses(trace, cues)
    found = {}
    for way in ("precue", "whole"):
        known, at_random = places(heard, cues, way)
        row = against_random_times(known.so_phase_rad.to_numpy(), at_random.phase)
        group = np.array([[*SO_GROUPS, "none"].index(name) for name in known.so_group])
        _, p = counts_against_random_times(group, at_random.group % 9, 9)
        found[way] = row, p
    assert found["whole"][0]["length"] > 0.3 and found["whole"][0]["p"] < 0.01 and found["whole"][1] < 0.01
    assert found["precue"][0]["p"] > 0.05 and found["precue"][1] > 0.05
    quiet = [places(trace, cues, way) for way in ("precue", "whole")]
    for known, at_random in quiet:  # without a response both say so
        assert against_random_times(known.so_phase_rad.to_numpy(), at_random.phase)["p"] > 0.05


def test_the_phase_before_is_the_planted_one(sleep):
    trace, truth, cues = sleep
    known, _ = places(trace, cues, "precue")
    error = known.so_phase_rad.to_numpy() - truth(np.rint(cues * RATE).astype(int))
    mean, length = mean_vector(error)
    assert np.isfinite(error).sum() > 40 and abs(mean) < 0.3 and np.sqrt(-2 * np.log(length)) < 0.9
    assert "Pre-SO" not in set(known.so_group)
    assert {"1st-Up", "trans-Down", "Down", "trans-2nd-Up", "2nd-Up", "Post-SO"} <= set(known.so_group)


def test_locked_cues_are_found_locked(sleep):
    """Cues at the planted trough are in Down, far more than random times are."""
    trace, truth, _ = sleep
    samples = np.arange(40 * RATE, len(trace) - 10 * RATE, 10)
    near = samples[np.abs(np.angle(np.exp(1j * (truth(samples) - np.pi)))) < 0.05]
    cues = near[np.insert(np.diff(near) > 4 * RATE, 0, True)][:60] / RATE
    known, at_random = places(trace, cues, "precue")
    row = against_random_times(known.so_phase_rad.to_numpy(), at_random.phase)
    assert row["p"] < 0.01 and row["length"] > 2 * row["random_length"]
    assert abs(abs(row["mean_rad"]) - np.pi) < 0.5


def test_too_early_and_outside_sleep_there_is_no_phase(sleep):
    trace, _, _ = sleep
    cues = pd.DataFrame({"onset_s": [2.0, 50.0], "stage": [2, 0]})
    known, _ = at_cues(cues, pd.DataFrame(), pd.DataFrame({"start_s": [51.0]}), SlowOscillationDetection(), 1.5, trace)
    assert known.so_group.tolist() == ["none", "none"] and known.so_phase_rad.isna().all()
    assert known.spindle_coupled.tolist() == [False, True]


def test_few_spindles_are_held_against_random_times_in_slow_oscillations(sleep):
    """Twenty random spindles have a length that would look like coupling; twenty coupled ones stand out."""
    trace, _, _ = sleep
    thin = signal.resample_poly(trace, 1, 5)
    table = slow_oscillations.detect_so(thin, np.full(len(thin), 2), SlowOscillationDetection())
    random, lengths, p = np.random.default_rng(0), [], []
    for _ in range(100):
        rows = random.integers(0, len(table), 20)
        at = table.start_s + (table.end_s - table.start_s) * random.random(len(table))
        _, phase, riding = slow_oscillations.so_phase(table, at.to_numpy()[rows], 0.0)
        spindles = pd.DataFrame({"so": riding, "so_phase_rad": phase})
        found = against_random_times(phase, spindles_at_random(spindles, table), draws=200)
        lengths.append(found["length"])
        p.append(found["p"])
        assert found["random_length"] > 0.1
    assert np.mean(np.array(p) < 0.05) <= 0.10 and np.mean(lengths) > 0.15
    peaks = table.peak_s.to_numpy()[:20]
    _, phase, riding = slow_oscillations.so_phase(table, peaks, 0.0)
    coupled = against_random_times(
        phase, spindles_at_random(pd.DataFrame({"so": riding, "so_phase_rad": phase}), table)
    )
    assert coupled["p"] < 0.01 and coupled["length"] > 0.9


def test_p_keeps_its_level_where_waves_are_no_sines():
    """Phases of random times that prefer a direction themselves are no locking."""
    random, below, naive = np.random.default_rng(1), 0, 0
    for _ in range(300):
        every = random.vonmises(0.5, 0.8, (40, 5))
        every[random.random(every.shape) < 0.3] = np.nan
        row = against_random_times(every[:, 0], every[:, 1:], draws=200)
        below += row["p"] <= 0.05
        naive += np.exp(-row["n"] * row["length"] ** 2) < 0.05  # Rayleigh's test against uniform phases
    assert below / 300 <= 0.08 and naive / 300 > 0.5
    assert against_random_times(np.full(3, np.nan), np.ones((3, 2))) is None
    assert against_random_times(np.ones(3), np.full((3, 2), np.nan))["p"] is None
    expected, p = counts_against_random_times(np.zeros(0, int), np.zeros((0, 4), int), 9)
    assert p is None and not expected.any()
