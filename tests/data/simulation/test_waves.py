"""Shapes of simulated signals: noise with the right spectrum, waves with the right phase, size and length."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.simulation.waves import (
    BLOCK,
    FADE,
    band,
    box,
    cross_fade,
    eye_movement,
    fall,
    noise,
    sawtooth,
    slow_oscillation,
    so_phase,
    spindle,
    time_at_phase,
)
from tests.simulation_scenes import density

WAVE = {
    "start_s": 10.0, "trough_start_s": 10.4, "trough_s": 10.6,
    "up_start_s": 10.8, "peak_s": 11.1, "end_s": 11.4,
}  # fmt: skip
T = np.arange(5000, 6500) / 500


@pytest.mark.parametrize("slope", [1.0, 1.8, 2.6])
def test_noise_falls_as_it_should(slope):
    made = noise(np.random.default_rng(0), np.stack([fall(slope, 0.5)] * 40))
    assert made.shape == (40, BLOCK + FADE) and made.dtype == np.float32
    assert made.std() == pytest.approx(1, abs=0.05)
    f, power = density(made)
    used = (f >= 3) & (f <= 45)
    found = -np.polyfit(np.log(f[used]), np.log(power[:, used].mean(axis=0)), 1)[0]
    assert found == pytest.approx(slope, abs=0.06)


def test_a_rhythm_has_its_frequency_and_size():
    made = noise(np.random.default_rng(1), np.stack([band(10.0, 0.6)] * 20))
    assert made.std() == pytest.approx(1, abs=0.05)
    f, power = density(made)
    assert f[power.mean(axis=0).argmax()] == pytest.approx(10, abs=0.5)
    assert power[:, np.abs(f - 10) > 3].sum() < 0.01 * power.sum()


def test_blocks_pass_into_each_other_at_the_same_level():
    rng, shape = np.random.default_rng(2), np.stack([fall(2.0, 1.0)] * 300)
    blocks = [noise(rng, shape) for _ in range(3)]
    joined = np.concatenate([cross_fade(a, b) for a, b in pairwise(blocks)], axis=1)
    seam, away = joined[:, BLOCK : BLOCK + FADE], joined[:, BLOCK - 2000 : BLOCK]
    assert seam.std() == pytest.approx(away.std(), rel=0.05)
    steps = np.abs(np.diff(joined, axis=1)).mean(axis=0)
    assert steps[BLOCK - 1] < 1.3 * steps.mean()  # no leap between two blocks


def test_slow_oscillation_turns_where_its_times_say():
    wave = slow_oscillation(WAVE, T)
    assert T[wave.argmin()] == pytest.approx(10.6, abs=0.002)
    assert T[wave.argmax()] == pytest.approx(11.1, abs=0.002)
    assert wave.max() - wave.min() == pytest.approx(1, abs=1e-3)
    assert T[wave[:200].argmax()] == pytest.approx(10.2, abs=0.002)
    assert np.allclose(slow_oscillation(WAVE, np.array([5.0, 10.0, 11.4, 20.0])), 0)
    assert np.allclose(slow_oscillation(WAVE, np.array([10.4, 10.8])), 0)
    assert np.abs(np.diff(wave)).max() < 0.01  # smooth


PLACES = {
    "Pre-SO": (9.51, 9.99), "trans-1st-Up": (10.0, 10.13), "1st-Up": (10.15, 10.33),
    "trans-Down": (10.35, 10.45), "Down": (10.47, 10.73), "trans-2nd-Up": (10.75, 10.88),
    "2nd-Up": (10.9, 11.39), "Post-SO": (11.41, 11.89),
}  # fmt: skip


@pytest.mark.parametrize("group", SO_GROUPS)
def test_groups_have_the_documented_ends(group):
    table = pd.DataFrame([WAVE])
    number, phase = so_phase(table, np.array(PLACES[group]))
    assert [SO_GROUPS[k] for k in number] == [group, group]
    assert np.isnan(phase).all() == (group in ("Pre-SO", "Post-SO"))
    outside = {"Pre-SO": 9.49, "Post-SO": 11.91}.get(group)
    if outside:
        assert so_phase(table, [outside])[0].tolist() == [-1]


def test_phase_is_that_of_a_cosine_with_its_peak_in_the_up_state():
    times = [10.0, 10.2, 10.4, 10.6, 10.8, 11.1, 11.3999]
    _, phase = so_phase(pd.DataFrame([WAVE]), times)
    assert np.allclose(phase, np.pi * np.array([-0.5, 0, 0.5, 1, -0.5, 0, 0.5]), atol=1e-3)
    for angle in (0.3, np.pi, 5.0):
        found = so_phase(pd.DataFrame([WAVE]), [time_at_phase(WAVE, angle)])[1][0]
        assert np.exp(1j * found) == pytest.approx(np.exp(1j * angle))


def test_between_two_oscillations_the_nearer_one_counts():
    later = {name: value + 2.0 for name, value in WAVE.items()}  # begins 0.6 s after the first one's end
    number, _ = so_phase(pd.DataFrame([WAVE, later]), [11.65, 11.75, 9.0, 14.5, 12.6])
    assert [SO_GROUPS[k] if k >= 0 else None for k in number] == ["Post-SO", "Pre-SO", None, None, "Down"]
    assert so_phase(pd.DataFrame(columns=list(WAVE)), [1.0, 2.0])[0].tolist() == [-1, -1]


def test_spindle_has_its_length_frequency_and_size():
    row = {"start_s": 10.5, "duration_s": 1.2, "frequency_hz": 13.5}
    wave = spindle(row, T)
    used = np.flatnonzero(np.abs(wave) > 1e-6)
    assert T[used[0]] == pytest.approx(10.5, abs=0.01) and T[used[-1]] == pytest.approx(11.7, abs=0.01)
    assert wave.max() - wave.min() == pytest.approx(1, abs=0.05)
    f, power = density(np.pad(wave, 5000), 8)
    assert f[power.argmax()] == pytest.approx(13.5, abs=0.3)


def test_eye_movements():
    row = {"start_s": 10.2, "duration_s": 0.6}
    blink, saccade = (eye_movement(row | {"kind": kind}, T) for kind in ("blink", "saccade"))
    slow = eye_movement(row | {"kind": "slow", "start_s": 10.0, "duration_s": 3.0}, T)
    assert blink.max() == pytest.approx(1, abs=1e-3) and blink.min() >= 0
    assert T[blink.argmax()] == pytest.approx(10.5, abs=0.003)
    assert np.flatnonzero(saccade > 0.9)[0] / 500 + 10 < 10.26  # a leap
    assert saccade.max() > 0.95 and saccade[-1] == 0
    assert slow.max() > 0.7 and slow.min() < -0.7  # there and back
    assert np.abs(np.diff(slow)).max() < 0.2 * np.abs(np.diff(saccade)).max()


def test_sawtooth_waves_rise_slowly_and_fall_steeply():
    row = {"start_s": 10.0, "duration_s": 3.0, "frequency_hz": 3.0}
    wave = sawtooth(row, T)[300:1200]
    assert wave.max() - wave.min() == pytest.approx(1, abs=0.02)
    assert (np.diff(wave) > 0).mean() == pytest.approx(0.7, abs=0.03)


def test_box_has_ramps():
    assert box(np.array([-1.0, 0.0, 0.25, 1.0, 1.9, 2.0, 3.0]), 2.0, 0.5) == pytest.approx([0, 0, 0.5, 1, 0.2, 0, 0])
