"""The simulator as a whole: same seed same bytes, subjects independent of others, refusals, the script."""

import subprocess
import sys

import numpy as np
import pytest

from sleep_interpreter.data.simulation.dataset import COMPLETE, write_dataset
from sleep_interpreter.data.simulation.jobs import LABELS
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.data.simulation.truth import OVERVIEW
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import ROOT
from sleep_interpreter.utils.core.safe_pickle import read_pickle
from tests.data.conftest import TINY, digests
from tests.simulation_scenes import simulate_recording


def test_same_seed_same_bytes_in_every_file(cohort, tiny, tmp_path):
    write_dataset(tiny, tmp_path / "again")
    again = digests(tmp_path / "again")
    assert again == digests(cohort)
    assert len(again) == 28
    other = load_settings("test", [*TINY, "seed=7"])
    write_dataset(other, tmp_path / "other")
    other = digests(tmp_path / "other")
    assert set(other) == set(again)
    differing = {name for name in again if other[name] != again[name]}
    # The header of the recording and the planned stages hold nothing random.
    same = {name for name in again if name.endswith((".vhdr", "raw_subject_test_0.pickle", "label_data.pickle"))}
    assert differing == set(again) - same


def test_a_subject_does_not_depend_on_the_size_of_the_cohort(cohort, tmp_path):
    larger = load_settings("test", [*TINY, "cohort.train_subjects=3", "cohort.test_subjects=2"])
    write_dataset(larger, tmp_path / "larger")
    small, large = digests(cohort), digests(tmp_path / "larger")
    assert {name for name in small if large[name] != small[name]} == {COMPLETE, OVERVIEW, LABELS}
    assert any("subject_2" in name for name in large)
    few, many = (read_pickle(folder / LABELS) for folder in (cohort, tmp_path / "larger"))
    assert set(few) < set(many)
    assert all(many[name] == few[name] for name in few)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("memory.strenth=2", "did you mean 'memory.strength'"),
        ("seed=-1", "seed"),
        ("cohort.train_subjects=-1", r"cohort\.train_subjects.*greater than or equal to 0"),
        ("cohort.train_trials=1.5", r"cohort\.train_trials"),
        ("cohort.data_type_shares=[0.5, 0.2, 0.2]", "must add up to 1"),
        ("recording.stages=[[N4, 1]]", r"recording\.stages"),
        ("recording.stages=[[N2, 0.7]]", "whole epochs of 30 s"),
        ("recording.cue_interval_s=[6, 4]", "the lower end comes first"),
        ("staging.corners_hz=[[0.3, 35], [0.3, 35], [100, 10]]", "the lower corner comes first"),
        ("staging.corners_hz=[[0.3, 35], [0.3, 35], [10, 300]]", "less than 250"),
        ("night.hours=30", r"night\.hours.*less than or equal to 16"),
        ("night.hypnogram=[[N2, 0.7]]", "whole epochs of 30 s"),
        ("night.hypnogram=[]", "hypnogram is empty"),
        ("night.cue_interval_s=[6, 4]", "the lower end comes first"),
        ("night.cue_interval_s=[0.5, 4]", "greater than or equal to 2"),
        ("night.cues_from_min=-1", r"night\.cues_from_min"),
        ("night.settled_s=-1", r"night\.settled_s"),
        ("night.resolution_uv=0", r"night\.resolution_uv"),
        ("night.wake.repetitions=0", r"night\.wake\.repetitions"),
        ("night.wake.interval_s=[3, 2]", "the lower end comes first"),
        ("night.wake.rest_min=-1", r"night\.wake\.rest_min"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        load_settings("test", [change])


@pytest.mark.parametrize("preset", ["test", "demo", "paper"])
def test_presets_are_valid(preset):
    settings = load_settings(preset)
    if preset == "paper":
        assert (settings.cohort.train_subjects, settings.cohort.test_subjects) == (123, 12)  # published


@pytest.fixture(scope="module")
def night():
    """The recording of preset demo."""
    return simulate_recording(load_settings("demo"))


@pytest.mark.parametrize("minute", [8.5, 9.5, 12.0, 14.5, 16.0, 18.5, 19.5])
def test_yasa_recognises_the_planted_stage_from_the_past_alone(night, minute):
    import mne
    import yasa

    places = {name: night.names.index(name) for name in ("C4", "M1", "M2", "EOG1", "EMG1", "EMG2")}
    data = {name: night.data[place] for name, place in places.items()}
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


@pytest.mark.slow
def test_script_runs_from_another_folder_and_in_two_processes(tmp_path, cohort, call_script):
    script = ROOT / "data" / "simulate.py"
    out = tmp_path / "set"
    settings = [part for change in TINY for part in ("--set", change)]
    command = [sys.executable, str(script), "--quick", "--out", str(out), "--jobs", "2", *settings]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "simulated data: set" in done.stdout
    assert digests(out) == digests(cohort)  # written by one process
    code, stderr = call_script("data/simulate.py", *command[2:], "--set", "seed=3")
    assert code == 2
    assert "give --force" in stderr


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
    nonsense = subprocess.run(
        [sys.executable, script, "--quick", "--recording", "--bids"], capture_output=True, text=True, timeout=60
    )
    assert nonsense.returncode == 2
    assert "leave out --bids or --recording" in nonsense.stderr
