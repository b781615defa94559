"""The simulator: same seed same bytes, subjects independent of the cohort, a signal that is really there."""

import hashlib
import json
import shutil
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from data import simulation_dataset
from data.simulation_dataset import COMPLETE, UNFINISHED, write_dataset
from data.simulation_memory import Subject
from data.simulation_recording import CHANNELS, MEASURED, simulate_recording
from data.simulation_settings import load_settings
from data.simulation_trials import awake_trials, sleep_trials
from tests.data.conftest import TINY
from utils.errors import UserError
from utils.paths import ROOT
from utils.vocabulary import EEG_MONTAGE, ITEMS


def _digests(folder):
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_same_seed_same_bytes_in_every_file(cohort, tiny, tmp_path):
    write_dataset(tiny, tmp_path / "again")
    again = _digests(tmp_path / "again")
    assert again == _digests(cohort)
    assert len(again) == 18
    other = load_settings("test", [*TINY, "seed=7"])
    write_dataset(other, tmp_path / "other")
    other = _digests(tmp_path / "other")
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
    small, large = _digests(cohort), _digests(tmp_path / "larger")
    assert {name for name in small if large[name] != small[name]} == {COMPLETE}
    assert any("subject_2" in name for name in large)


def test_layout_and_manifest(cohort, tiny):
    manifest = json.loads((cohort / COMPLETE).read_text(encoding="utf-8"))
    assert manifest["simulated"] is True
    assert manifest["settings"] == tiny.model_dump(mode="json")
    assert manifest["files"] == sorted(set(_digests(cohort)) - {COMPLETE})
    assert set(manifest["planted"]["item_components_in_sleep_s"]) == set(ITEMS)
    for name in (
        "SI Main Train_tfrecords/N2N3/Whole_subject_0.tfrecord",
        "SI Main Train_tfrecords/N2N3/sleep_subject_0.tfrecord",
        "SI Main Train_tfrecords/REM/Whole_subject_0.tfrecord",
        "SI Main Train_pickle/REM/sleep_subject_0.pickle",
        "SI Main Test/subject_test_0/N2N3_data.pickle",
        "SI Main Test/subject_test_0/REM_data.pickle",
        "SI Staging/Train/subject_0/Whole_subject_0.tfrecord",
        "SI Staging/Test/subject_test_0/Whole_subject_test_0.pickle",
        "SI Staging/Test/subject_test_0/raw_subject_test_0.pickle",
        "SI Staging Label/Whole_label_data.pickle",
        "recordings/simulated_night.vhdr",
    ):
        assert name in manifest["files"]


def test_complete_data_set_is_left_alone(cohort, tiny):
    before = {file: file.stat().st_mtime_ns for file in cohort.rglob("*")}
    assert write_dataset(tiny, cohort) is False
    assert {file: file.stat().st_mtime_ns for file in cohort.rglob("*")} == before


def test_other_settings_need_force(cohort, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(cohort, out)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    smaller = load_settings("test", [*TINY, "cohort.train_subjects=1"])
    with pytest.raises(UserError, match="other settings; nothing was changed, give --force"):
        write_dataset(smaller, out)
    assert set(_digests(out)) - {"notes.txt"} == set(_digests(cohort))
    assert write_dataset(smaller, out, force=True)
    assert not list(out.rglob("*subject_1*"))  # nothing of the larger cohort is left behind
    assert (out / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_folder_with_other_files_is_refused(tiny, tmp_path):
    real = tmp_path / "SI Main Test" / "subject_test_0" / "N2N3_data.pickle"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a real night")
    for force in (False, True):
        with pytest.raises(UserError, match="did not write; nothing was changed"):
            write_dataset(tiny, tmp_path, force=force)
    assert real.read_bytes() == b"a real night"


@pytest.mark.parametrize("content", ["no json", "[]", '{"files": ["../outside"]}'])
def test_manifest_that_is_none_or_points_outside_is_refused(tiny, tmp_path, content):
    (tmp_path / "outside").write_text("mine", encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    (out / COMPLETE).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="not a manifest of the simulator"):
        write_dataset(tiny, out, force=True)
    assert (tmp_path / "outside").is_file()


@pytest.mark.parametrize("same_settings", [True, False])
def test_half_written_data_set_is_completed(cohort, tiny, tmp_path, same_settings):
    out = tmp_path / "half"
    shutil.copytree(cohort, out)
    (out / COMPLETE).rename(out / UNFINISHED)
    lost = out / "SI Main Train_tfrecords/N2N3/Whole_subject_0.tfrecord"
    lost.unlink()
    kept = out / "SI Main Test/subject_test_0/N2N3_data.pickle"
    written = kept.stat().st_mtime_ns
    if same_settings:
        assert write_dataset(tiny, out)
        assert _digests(out) == _digests(cohort)
        assert kept.stat().st_mtime_ns == written
    else:
        assert write_dataset(load_settings("test", [*TINY, "seed=7", "recording.test_subject=1"]), out)
        assert kept.stat().st_mtime_ns > written
        assert (
            _digests(out)["recordings/simulated_night.eeg"]
            != _digests(cohort)["recordings/simulated_night.eeg"]
        )


def test_no_room_is_said_before_anything_is_written(tiny, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(simulation_dataset.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"needs 0\.\d\d GB, but only 0\.00 GB are free"):
        write_dataset(tiny, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_size_is_foreseen(cohort, tiny):
    foreseen = sum(job.size for job in simulation_dataset.all_jobs(tiny))
    written = sum(file.stat().st_size for file in cohort.rglob("*") if file.is_file())
    assert foreseen == pytest.approx(written, rel=0.02)


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
    assert _digests(out) == _digests(cohort)
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
