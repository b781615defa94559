"""The BIDS folder: valid for mne-bids, marked as simulated, streamed, without a copy, what was planted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.data.simulation.bids import session_files
from sleep_interpreter.data.simulation.dataset import COMPLETE, UNFINISHED, write_dataset
from sleep_interpreter.data.simulation.jobs import all_jobs
from sleep_interpreter.data.simulation.night import SimulatedNight, WakeSession
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.data.simulation.truth import read_truth
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.paths import ROOT
from sleep_interpreter.utils.core.provenance import is_simulated
from tests.data.conftest import TINY, digests

ITEMS = published().item_names

NOBODY = ("cohort.train_subjects=0", "cohort.test_subjects=0", "staging.train_subjects=0", "staging.test_subjects=0")
RUNS = [("night", "sleep"), ("wake", "image"), ("wake", "audio")]


@pytest.fixture(scope="module")
def settings():
    """Two subjects with raw nights of two minutes and nothing else."""
    return load_settings("test", [*TINY, *NOBODY])


@pytest.fixture(scope="module")
def out(settings, tmp_path_factory):
    """The data set with its BIDS folder; read only."""
    folder = tmp_path_factory.mktemp("bids") / "set"
    write_dataset(settings, folder, bids=True)
    return folder


def _path(out, session, task, subject="test000"):
    from mne_bids import BIDSPath

    return BIDSPath(subject=subject, session=session, task=task, datatype="eeg", root=out / "bids")


def _events(out, session, task):
    return pd.read_csv(
        _path(out, session, task).update(suffix="events", extension=".tsv").fpath, sep="\t", na_values="n/a"
    )


@pytest.mark.parametrize(("session", "task"), RUNS)
def test_mne_bids_reads_every_run(out, settings, session, task):
    from mne_bids import read_raw_bids

    raw = read_raw_bids(_path(out, session, task), verbose="error").load_data(verbose="error")
    made = SimulatedNight(settings, "test", 0) if session == "night" else WakeSession(settings, "test", 0, task)
    assert tuple(raw.ch_names) == tuple(made.scene.names)
    assert raw.n_times == made.scene.n
    assert raw.info["sfreq"] == 500
    assert raw.info["line_freq"] == 50
    assert raw.get_channel_types() == ["eeg"] * 57 + ["eog"] * 2 + ["emg"] * 2
    assert np.abs(raw.get_data() * 1e6 - made.scene.render(0, made.scene.n)).max() < 0.051
    places = raw.get_montage().get_positions()["ch_pos"]
    assert np.isfinite(list(places.values())).all()
    planned = made.annotations()
    assert sorted(raw.annotations.description) == sorted(planned["description"])
    assert np.allclose(np.sort(raw.annotations.onset), planned["sample"] / 500, atol=1e-3)


def test_mne_bids_finds_subjects_sessions_and_tasks(out):
    from mne_bids import find_matching_paths, get_entity_vals

    root = out / "bids"
    assert get_entity_vals(root, "subject") == ["000", "test000"]
    assert get_entity_vals(root, "session") == ["night", "wake"]
    assert get_entity_vals(root, "task") == ["audio", "image", "recall", "sleep"]
    assert len(find_matching_paths(root, extensions=".vhdr")) == 6


def test_everything_says_that_it_is_simulated(out):
    description = json.loads((out / "bids/dataset_description.json").read_text(encoding="utf-8"))
    assert description["simulated"] is True
    assert "Simulated" in description["Name"]
    assert "NO PERSON WAS RECORDED" in (out / "bids/README").read_text(encoding="utf-8")
    for session, task in RUNS:
        path = _path(out, session, task).update(suffix="eeg", extension=".vhdr").fpath
        assert is_simulated(path)
        sidecar = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert sidecar["Manufacturer"] == "none (simulated)"
        assert sidecar["EEGReference"] == "mean of M1 and M2"
        assert sidecar["RecordingDuration"] * 500 * 61 * 2 == path.with_suffix(".eeg").stat().st_size


def test_participants_have_their_group_and_their_name_in_the_other_files(out):
    people = pd.read_csv(out / "bids/participants.tsv", sep="\t")
    assert people["participant_id"].tolist() == ["sub-000", "sub-test000"]
    assert people["group"].tolist() == ["train", "test"]
    assert people["subject"].tolist() == ["subject_0", "subject_test_0"]


def test_events_hold_item_modality_stage_and_phase(out, settings):
    night, events = SimulatedNight(settings, "test", 0), _events(out, "night", "sleep")
    cues = events[events["trial_type"].str.startswith("cue/")]
    assert len(cues) == len(night.cues) > 10
    assert cues["item"].tolist() == night.cues["item"].tolist()
    assert set(cues["modality"]) == {"audio"}
    assert cues["stage"].tolist() == night.cues["stage"].tolist()
    assert cues["so_group"].tolist() == night.cues["so_group"].tolist()
    assert np.allclose(cues["so_phase_rad"], night.cues["so_phase_rad"], equal_nan=True)
    assert np.allclose(cues["onset"], cues["sample"] / 500)
    described = json.loads(
        _path(out, "night", "sleep").update(suffix="events", extension=".json").fpath.read_text(encoding="utf-8")
    )
    assert set(described) == set(events.columns)
    assert set(described["trial_type"]["Levels"]) == set(events["trial_type"])  # as the BIDS validator demands
    for modality in ("image", "audio"):
        shown = _events(out, "wake", modality)
        shown = shown[shown["trial_type"].str.startswith(f"{modality}/")]
        assert sorted(shown["item"]) == sorted(ITEMS)
        assert set(shown["modality"]) == {modality}


def test_scores_and_truth_are_those_of_the_night(out, settings):
    night = SimulatedNight(settings, "test", 0)
    folder = out / "bids/sub-test000/ses-night/beh"
    scores = pd.read_csv(folder / "sub-test000_ses-night_task-recall_beh.tsv", sep="\t")
    assert scores["item"].tolist() == list(ITEMS)
    assert np.allclose(scores["memory_score"], night.memory["memory_score"])
    truth = read_truth(out, "subject_test_0")
    assert truth.tables["night/hypnogram"]["code"].tolist() == night.codes.tolist()
    for name, table in night.tables().items():
        assert len(truth.tables[f"night/{name}"]) == len(table)
    assert truth.tables["night/cues"]["sample"].tolist() == night.cues["sample"].tolist()
    assert {"wake/image/trials", "wake/audio/trials"} <= set(truth.tables)


def test_no_other_file_is_left_and_the_size_is_foreseen(out, settings):
    manifest = json.loads((out / COMPLETE).read_text(encoding="utf-8"))
    assert set(digests(out)) == {*manifest["files"], COMPLETE}
    assert set(session_files(load_settings("test", TINY), "test", 0, "night")) < set(manifest["files"])
    jobs = all_jobs(settings, ("bids",))
    foreseen = sum(job.size for job in jobs)
    written = sum((out / file).stat().st_size for job in jobs for file in job.files)
    assert foreseen == pytest.approx(written, rel=0.06)


@pytest.mark.slow
def test_a_simulation_killed_in_the_middle_of_two_nights_goes_on(out, settings, tmp_path):
    """kill -9 while two processes write: none survives, the rest is written, nothing is left, same bytes."""
    again = tmp_path / "killed"
    words = [word for change in (*TINY, *NOBODY) for word in ("--set", change)]
    command = [sys.executable, str(ROOT / "data/simulate.py"), "--quick", "--bids", "--out", str(again), *words]
    process = subprocess.Popen([*command, "--jobs", "2"], stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(again.glob("bids/.unfinished-*/bids/**/.*.tmp.eeg"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while time.monotonic() < deadline and _group_lives(process.pid):
        time.sleep(0.02)
    assert not _group_lives(process.pid)  # the two that wrote have ended too
    assert not (again / COMPLETE).exists()
    assert (again / UNFINISHED).exists()
    assert write_dataset(settings, again, bids=True)
    assert digests(again) == digests(out)


def _group_lives(leader):
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interruption_leaves_no_unfinished_file_and_takes_none_of_others(out, settings, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(out, again)
    (again / COMPLETE).rename(again / UNFINISHED)
    night = _path(again, "night", "sleep").update(suffix="eeg", extension=".eeg").fpath
    night.unlink()
    left = [night.with_name(f".{night.name}.123.tmp.eeg"), again / "bids/.unfinished-000-night/bids/x"]
    left[1].parent.mkdir(parents=True)
    for file in left:
        file.write_bytes(b"half")
    mine = night.with_name(".mine.123.tmp.eeg")
    mine.write_bytes(b"of somebody else")
    assert write_dataset(settings, again, bids=True)
    assert mine.read_bytes() == b"of somebody else"
    mine.unlink()
    assert digests(again) == digests(out)


def test_raw_nights_can_be_added_to_a_data_set_and_stay(settings, tmp_path):
    fewer = load_settings("test", [*TINY, *NOBODY, "night.train_subjects=0", "night.hypnogram=[[N2, 0.5]]"])
    root = tmp_path / "set"
    assert write_dataset(fewer, root)
    assert not (root / "bids").exists()
    recording = (root / "recordings/simulated_night.eeg").stat().st_mtime_ns
    assert write_dataset(fewer, root, bids=True)
    assert (root / "recordings/simulated_night.eeg").stat().st_mtime_ns == recording
    assert (root / "bids/sub-test000").is_dir()
    for bids in (True, False):
        assert write_dataset(fewer, root, bids=bids) is False
    night = root / "bids/sub-test000/ses-night/eeg/sub-test000_ses-night_task-sleep_eeg.eeg"
    night.unlink()
    assert write_dataset(fewer, root)  # a part of the data set, asked for or not
    assert night.is_file()
