"""The simulator: same seed same bytes, subjects independent of the cohort, a signal that is really there."""

import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from data.simulation_dataset import COMPLETE, write_dataset
from data.simulation_memory import Subject
from data.simulation_recording import CHANNELS, MEASURED, simulate_recording
from data.simulation_settings import SlowOscillation, load_settings
from data.simulation_trials import awake_trials, sleep_trials
from data.so_groups import SO_GROUPS
from tests.data.conftest import TINY, digests
from utils.errors import UserError
from utils.paths import ROOT
from utils.vocabulary import EEG_MONTAGE, ITEMS


def test_same_seed_same_bytes_in_every_file(cohort, tiny, tmp_path):
    write_dataset(tiny, tmp_path / "again")
    again = digests(tmp_path / "again")
    assert again == digests(cohort)
    assert len(again) == 21
    other = load_settings("test", [*TINY, "seed=7"])
    write_dataset(other, tmp_path / "other")
    other = digests(tmp_path / "other")
    assert set(other) == set(again)
    differing = {name for name in again if other[name] != again[name]}
    # The header of the recording and the planned stages hold nothing random.
    same = {
        name for name in again if name.endswith((".vhdr", "raw_subject_test_0.pickle", "label_data.pickle"))
    }
    assert differing == set(again) - same


def test_a_subject_does_not_depend_on_the_size_of_the_cohort(cohort, tmp_path):
    larger = load_settings("test", [*TINY, "cohort.train_subjects=3", "cohort.test_subjects=2"])
    write_dataset(larger, tmp_path / "larger")
    small, large = digests(cohort), digests(tmp_path / "larger")
    assert {name for name in small if large[name] != small[name]} == {COMPLETE}
    assert any("subject_2" in name for name in large)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("memory.strength=-1", r"memory\.strength.*greater than or equal to 0"),
        ("memory.similarity=1.2", r"memory\.similarity.*less than or equal to 1"),
        ("stages.N2.spindles_per_min=-3", r"stages\.N2\.spindles_per_min"),
        ("stages.N3.background_uv=-5", r"stages\.N3\.background_uv"),
        ("stages.N3.slow_wave_uv=[200, 75]", "the lower end comes first"),
        ("cohort.train_subjects=-1", r"cohort\.train_subjects"),
        ("cohort.train_trials=1.5", r"cohort\.train_trials"),
        ("slow_oscillation.amplitude_uv=[200, 75]", "the lower end comes first"),
        ("slow_oscillation.share.Down=-1", r"slow_oscillation\.share\.Down.*greater than or equal to 0"),
        ("slow_oscillation.share.down=1", r"slow_oscillation\.share\.down.*'Pre-SO', 'trans-1st-Up'"),
        ("slow_oscillation.share=2", r"slow_oscillation\.share = 2: .*dict"),
        ("cohort.data_type_shares=[0.5, 0.2, 0.2]", "must add up to 1"),
        ("recording.stages=[[N4, 1]]", r"recording\.stages"),
        ("recording.stages=[[N2, 0.7]]", "whole epochs of 30 s"),
        ("recording.cue_interval_s=[6, 4]", "the lower end comes first"),
        ("staging.corners_hz=[[0.3, 35], [0.3, 35], [100, 10]]", "the lower corner comes first"),
        ("memory.strenth=2", "did you mean 'memory.strength'"),
        ("seed=-1", "seed"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        load_settings("test", [change])


def test_every_group_of_the_slow_oscillation_needs_a_share():
    share = {group: 1.0 for group in SO_GROUPS[:-1]}
    with pytest.raises(ValueError, match="share lacks the group 'Post-SO'"):
        SlowOscillation(amplitude_uv=(75, 150), share=share)
    assert SlowOscillation(amplitude_uv=(75, 150), share=share | {"Post-SO": 0})


def _features(eeg):
    """Mean over 0.1 s after the cue: (n, 55, 200) becomes (n, 990)."""
    return eeg[:, :, 20:].reshape(len(eeg), 55, 18, 10).mean(axis=-1).reshape(len(eeg), -1)


@cache
def _hits_across_subjects(*overrides):
    """Train an LDA on six simulated subjects, return its hits and trials on two others."""
    settings = load_settings("demo", overrides)
    train = [sleep_trials(Subject(settings, "train", number), "N2N3", 75) for number in range(6)]
    test = [sleep_trials(Subject(settings, "test", number), "N2N3", 60) for number in range(2)]
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    lda.fit(np.concatenate([_features(t.eeg) for t in train]), np.concatenate([t.item for t in train]))
    hits = sum(int((lda.predict(_features(t.eeg)) == t.item).sum()) for t in test)
    return hits, sum(len(t.item) for t in test)


def test_unseen_subjects_can_be_decoded_with_the_demo_strength():
    hits, count = _hits_across_subjects()
    assert binom.sf(hits - 1, count, 1 / 15) < 1e-6
    assert hits / count > 0.25


def test_nothing_can_be_decoded_with_strength_zero():
    hits, count = _hits_across_subjects("memory.strength=0")
    assert binom.cdf(hits, count, 1 / 15) > 0.001
    assert binom.sf(hits - 1, count, 1 / 15) > 0.001


def test_subjects_that_have_little_in_common_are_hard_to_decode():
    hits, _ = _hits_across_subjects("memory.similarity=0")
    assert _hits_across_subjects()[0] > 1.5 * hits


def test_items_are_balanced_and_trials_scaled(tiny):
    trials = sleep_trials(Subject(tiny, "train", 0), "N2N3", 30)
    assert np.bincount(trials.item).tolist() == [2] * 15
    assert trials.eeg.shape == (30, 55, 200)
    assert trials.eeg.dtype == np.float32
    low, high = np.percentile(trials.eeg, [25, 75], axis=2)
    assert np.allclose(high - low, 1, atol=1e-4)  # robust scaling
    assert awake_trials(Subject(tiny, "train", 0), "audio").shape == (15, 2, 55, 80)


def test_recording_is_readable_by_mne_with_plausible_amplitudes_and_cues(cohort, tiny):
    import mne

    recording = simulate_recording(tiny)
    raw = mne.io.read_raw_brainvision(
        cohort / "recordings/simulated_night.vhdr", preload=True, verbose="error"
    )
    assert tuple(raw.ch_names) == CHANNELS
    assert CHANNELS[:55] == EEG_MONTAGE
    assert raw.info["sfreq"] == 500
    assert raw.info["meas_date"] == MEASURED
    assert raw.n_times == 30_000
    assert np.allclose(raw.get_data() * 1e6, recording.data, atol=1e-3)
    texts = [text.removeprefix("Comment/") for text in raw.annotations.description]
    cues = [
        (round(onset * 500), text.removeprefix("cue/"))
        for onset, text in zip(raw.annotations.onset, texts, strict=True)
        if text.startswith("cue/")
    ]
    assert cues == [(onset, ITEMS[item]) for onset, item in recording.cues]
    assert 8 <= len(cues) <= 14
    assert texts.count("stage/N2") == 2


def test_stages_have_the_amplitudes_they_should(tmp_path):
    settings = load_settings(
        "demo", ["recording.stages=[[W, 1], [N2, 2], [N3, 2], [R, 1]]", "memory.strength=0"]
    )
    recording = simulate_recording(settings)
    epochs = np.repeat(recording.stages, 15_000)
    derivation = recording.data[CHANNELS.index("C4")] - recording.data[CHANNELS.index("M1")]
    chin = recording.data[CHANNELS.index("EMG1")] - recording.data[CHANNELS.index("EMG2")]
    spread = {stage: derivation[epochs == stage].std() for stage in ("W", "N2", "N3", "R")}
    assert 12 < spread["N2"] < 40
    assert 35 < spread["N3"] < 60
    assert spread["N3"] > 1.5 * max(spread["W"], spread["N2"], spread["R"])
    assert chin[epochs == "W"].std() > 2 * chin[epochs == "N2"].std() > 2 * chin[epochs == "R"].std()
    assert np.abs(recording.data).max() < 600


@pytest.mark.parametrize("minute", [6.5, 7.0, 8.0, 9.5, 11.5, 13.5])
def test_yasa_recognises_the_planted_stage_from_the_past_alone(night, minute):
    import mne
    import yasa

    data = {name: night.data[CHANNELS.index(name)] for name in ("C4", "M1", "M2", "EOG1", "EMG1", "EMG2")}
    derived = [data["C4"] - data["M1"], data["EOG1"] - data["M2"], data["EMG1"] - data["EMG2"]]
    info = mne.create_info(["C4", "EOG", "EMG"], 500.0, ["eeg", "eog", "emg"])
    past = np.stack(derived)[:, : int(minute * 60 * 500)].astype(float) * 1e-6
    raw = mne.io.RawArray(past, info, verbose="error")
    staging = yasa.SleepStaging(raw, eeg_name="C4", eog_name="EOG", emg_name="EMG")
    now = staging.predict().proba.iloc[-1]
    planted = night.stages[int(minute * 2) - 1]
    if planted == "R":
        assert now.idxmax() == "REM"
    else:
        assert now.idxmax() in ("N2", "N3")
        assert now["N2"] + now["N3"] >= 0.75


@pytest.fixture(scope="module")
def night():
    """The recording of preset demo."""
    return simulate_recording(load_settings("demo"))


def test_cues_of_the_recording_follow_the_plan(night):
    settings, recording = load_settings("demo"), night
    onsets = np.array([onset for onset, _ in recording.cues]) / 500
    assert len(onsets) > 60
    assert onsets.min() >= settings.recording.cues_from_min * 60
    assert {recording.stages[int(onset // 30)] for onset in onsets} == {"N2", "N3"}
    gaps = np.diff(onsets)
    assert gaps.min() >= 4 - 1e-2
    assert gaps.max() <= 6 + 1e-2
    assert np.bincount([item for _, item in recording.cues]).min() >= 4


def test_recording_carries_the_signal_of_the_trials(tiny):
    silent = load_settings("test", [*TINY, "memory.strength=0", "memory.evoked_uv=0"])
    difference = simulate_recording(tiny).data - simulate_recording(silent).data
    cued = np.zeros(difference.shape[1], bool)
    for onset, _ in simulate_recording(tiny).cues:
        cued[onset : onset + 1000] = True
    assert not difference[:, ~cued].any()
    assert np.abs(difference[:55, cued]).max() > 10
    assert not difference[57:].any()


def test_script_runs_from_another_folder(tmp_path, cohort):
    script = ROOT / "data" / "simulate.py"
    out = tmp_path / "set"
    settings = [part for change in TINY for part in ("--set", change)]
    command = [sys.executable, str(script), "--quick", "--out", str(out), *settings]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "simulated data: set" in done.stdout
    assert digests(out) == digests(cohort)
    refused = subprocess.run(
        [*command, "--set", "seed=3"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert refused.returncode == 2
    assert "give --force" in refused.stderr


def test_help_is_instant_and_needs_a_preset():
    script = str(ROOT / "data" / "simulate.py")
    probe = (
        f"import runpy, sys; sys.argv = [{script!r}, '--help']\n"
        f"try:\n    runpy.run_path({script!r}, run_name='__main__')\n"
        "except SystemExit:\n    print(sorted({'tensorflow', 'mne', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert "--preset" in done.stdout
    assert done.stdout.rstrip().endswith("[]")
    without = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert without.returncode == 2
    assert "--preset" in without.stderr
