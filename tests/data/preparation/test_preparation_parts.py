"""Parts of the preparation: who is who, events, channels as matrices, components, parts in time, BIDS."""

import datetime
import logging
import os
import sys
import warnings
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import recordings

from sleep_interpreter.data.formats import trial_origin
from sleep_interpreter.data.formats.scoring_readers import from_annotations
from sleep_interpreter.data.preparation import artefacts, inputs, subject, trials
from sleep_interpreter.data.preparation import recording as prepare_recording
from sleep_interpreter.data.preparation import run as prepare_run
from sleep_interpreter.data.preparation.channels import interpolation, make_plan, rereference
from sleep_interpreter.data.preparation.cleaning import artefact_operator, find_bad
from sleep_interpreter.data.preparation.events import read_events
from sleep_interpreter.data.preparation.inputs import Session
from sleep_interpreter.data.preparation.settings import Channels, Events, Rejection, Rule, Steps, load_settings
from sleep_interpreter.data.preparation.signal import SignalFile
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.recording import Recording

EEG_MONTAGE = published().channels

NAMES = ["Fp1", "Fp2", "F3", "Fz", "F4", "T7", "C3", "Cz", "C4", "T8", "P3", "Pz", "P4", "O1", "Oz", "O2"]


def written(tmp_path, texts, stim=None):
    """Write a minute with annotations, one a second (and a trigger channel), and return what reads it."""
    data = recordings.background(60, ["Fz", "Cz"], 0)
    names, kinds = ["Fz", "Cz"], ["eeg", "eeg"]
    if stim is not None:
        names, kinds = [*names, "STI"], [*kinds, "stim"]
        data = np.vstack([data, np.zeros(data.shape[1])])
        for k, code in enumerate(stim):
            data[2, 500 * (k + 1) : 500 * (k + 1) + 5] = code
    raw = mne.io.RawArray(data, mne.create_info(names, 500.0, kinds), verbose="error")
    raw.set_annotations(mne.Annotations(np.arange(1.0, len(texts) + 1), 0.0, texts))
    recordings.write(raw, tmp_path / "a_night_raw.fif")
    recording = Recording(tmp_path / "a_night_raw.fif")
    return Session("night", "sleep", tmp_path / "a_night_raw.fif"), recording, recording.annotations


def test_events_by_text_and_what_no_rule_knows(tmp_path):
    source = written(tmp_path, ["Comment/cue/alarm", "image/bike", "cue/apple", "hello", "hello", "skip/this"])
    rules = (*Events().rules, Rule(match="skip/.*", modality="ignore"))
    table, unmapped = read_events(*source, Events(rules=rules, items={"bike": "motorcycle"}))
    assert table[["onset_s", "item", "modality"]].to_numpy().tolist() == [
        [1.0, "alarm", "cue"], [2.0, "motorcycle", "image"], [3.0, "apple", "cue"],
    ]  # fmt: skip
    assert unmapped == {"hello": 2}
    remarks = []
    late, early = (Events(rules=rules, items={"bike": "motorcycle"}, shift_seconds=s) for s in (0.05, -1.5))
    shifted, _ = read_events(*source, late, remarks)
    assert remarks == []
    assert read_events(*source, early, remarks)[0].onset_s.tolist() == [0.5, 1.5]
    assert remarks == ["1 of 3 events lie outside the recording: left out"]
    assert shifted.onset_s.tolist() == [1.05, 2.05, 3.05]
    with pytest.raises(UserError, match="'bike' is none of the 15 items"):
        read_events(*source, Events())


def test_a_recording_that_was_cut_short_is_remarked_on(tmp_path):
    raw, _ = recordings.night(0, stages=["N2"] * 2, names=NAMES)
    recordings.write(raw, tmp_path / "s1_night.vhdr")
    samples = tmp_path / "s1_night.eeg"
    os.truncate(samples, samples.stat().st_size // 2 // 1000 * 1000)
    texts = [text for level, text in Recording(tmp_path / "s1_night.vhdr").notices if level >= logging.WARNING]
    assert any("outside" in text and "data range" in text for text in texts)
    about = {"remarks": texts}
    record = {
        "status": "complete", "source": "s1", "simulated": False, "counts": {}, "notes": [], "seconds": 1.0,
        "peak_bytes": 1, "sessions": {"night": about},
    }  # fmt: skip
    said = prepare_run.summary_lines({"subjects": {"subject_0": record}}, tmp_path)
    assert f"  note, night: {texts[0]}" in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems know the process' peak only")
def test_a_subject_s_peak_of_memory_is_its_own():
    big = np.ones(40_000_000)
    before = subject._peak_memory()
    assert before > big.nbytes
    del big
    subject._reset_peak_memory()
    assert subject._peak_memory() < before - 200_000_000


def test_files_may_be_named_one_by_one(tmp_path):
    for name in ("s1_night.vhdr", "s2_night.vhdr", "s[3]_night.vhdr"):
        (tmp_path / name).touch()
    settings = load_settings(None, ["recordings.pattern=(?P<subject>s[^_]+)_(?P<session>night)"])
    one = inputs.find_recordings(str(tmp_path / "s?_night.vhdr"), settings)
    assert [source.name for source in one] == ["s1", "s2"]
    files = [str(tmp_path / name) for name in ("s1_night.vhdr", "s[3]_night.vhdr")]
    assert [source.name for source in inputs.find_recordings(files, settings)] == ["s1", "s[3]"]


def test_events_of_a_trigger_channel(tmp_path):
    source = written(tmp_path, [], stim=[11, 12, 99])
    rules = (Rule(code=11, item="alarm", modality="cue"), Rule(code=12, item="apple", modality="audio", phase="test"))
    table, unmapped = read_events(*source, Events(source="stim", stim_channel="STI", rules=rules))
    assert table.onset_s.tolist() == [1.0, 2.0] and table["item"].tolist() == ["alarm", "apple"]
    assert table.phase[1] == "test" and pd.isna(table.phase[0]) and unmapped == {"99": 1}
    only, _ = read_events(*source, Events(source="stim", stim_channel="STI", rules=rules, phases=("test",)))
    assert only["item"].tolist() == ["apple"]
    with pytest.raises(UserError, match="no trigger channel 'STX'"):
        read_events(*source, Events(source="stim", stim_channel="STX", rules=rules))


def test_a_cropped_recording_s_events_count_from_its_first_sample(tmp_path):
    """With and without a date: MNE's onsets count from the measurement's start in both."""
    data = recordings.background(60, ["Fz", "Cz"], 0)
    for date in (None, datetime.datetime(2020, 1, 1, 22, tzinfo=datetime.UTC)):
        raw = mne.io.RawArray(data, mne.create_info(["Fz", "Cz"], 500.0, "eeg"), verbose="error")
        raw.set_meas_date(date)
        texts = ["cue/alarm", "stage/N2", "BAD_ jump", "true/so"]
        raw.set_annotations(mne.Annotations([20.0, 30.0, 40.0, 50.0], [0, 20, 1, 0], texts, orig_time=date))
        raw.crop(10)
        recordings.write(raw, tmp_path / "a_night_raw.fif")
        recording = Recording(tmp_path / "a_night_raw.fif")
        session, found = Session("night", "sleep", recording.path), recording.annotations
        assert recording.first_time == 10
        assert read_events(session, recording, found, Events())[0].onset_s.tolist() == [10.0]
        stages = from_annotations(found, load_settings().stages.options, recording.first_time)
        assert stages == [(20.0, 20.0, "N2")]
        spans = artefacts.bad_spans(found, load_settings().rejection.artefacts, recording.first_time)
        assert spans.tolist() == [[30.0, 31.0]]
        assert prepare_recording._planted(found, recording.first_time).onset_s.tolist() == [40.0]


def test_a_response_s_number_is_no_trigger(tmp_path):
    source = written(tmp_path, ["Stimulus/S  1", "Response/R  1", "R 1", "Comment/1", "S 1", "1", "Trigger/1"])
    rules = (Rule(code=1, item="alarm", modality="image"), Rule(match="Response/.*", modality="ignore"))
    table, unmapped = read_events(*source, Events(rules=rules))
    assert table.onset_s.tolist() == [1.0, 5.0, 6.0, 7.0]
    assert unmapped == {"R 1": 1, "Comment/1": 1}


def test_codes_that_are_held_until_the_next_are_found(tmp_path):
    source = written(tmp_path, [], stim=[0])
    raw = mne.io.read_raw(source[1].path, preload=True, verbose="error")
    held = [(0, 50, 7), (100, 300, 12), (300, 500, 5), (500, 501, 4), (501, 700, 9), (900, 1100, 3)]
    for start, stop, code in held:
        raw._data[2, start:stop] = code
    recordings.write(raw, tmp_path / "a_night_raw.fif")
    found = Recording(tmp_path / "a_night_raw.fif").triggers("STI")
    # 4 stood for one sample, on the way from 5 to 9
    assert found == [(0.0, 7), (0.2, 12), (0.6, 5), (1.002, 9), (1.8, 3)]


def test_what_looks_like_a_recording_and_is_none_of_it(tmp_path):
    """Scorings in EDF+ beside the recordings; cleaned copies in a BIDS folder's derivatives."""
    for name in ("s1_night.edf", "s1_night_scoring.edf", "s2_night.edf"):
        (tmp_path / name).touch()
    pattern = "recordings.pattern=(?P<subject>s\\d)_(?P<session>night)"
    settings = load_settings(None, [pattern, "stages.file='{stem}_scoring.*'"])
    sources = inputs.find_recordings(str(tmp_path / "*.edf"), settings)
    assert [[s.path.name for s in source.sessions] for source in sources] == [["s1_night.edf"], ["s2_night.edf"]]

    for folder in ("b", "b/derivatives/clean", "b/sourcedata"):
        place = tmp_path / folder / "sub-01" / "ses-1" / "eeg"
        place.mkdir(parents=True)
        for task in ("encoding", "sleep"):
            (place / f"sub-01_ses-1_task-{task}_eeg.vhdr").touch()

    def kinds(sessions):
        (source,) = inputs.find_bids(tmp_path / "b", load_settings(None, [f"recordings.sessions={sessions}"]))
        return {s.label: s.kind for s in source.sessions}

    wanted = {"1_encoding": "wake", "1_sleep": "sleep"}
    assert kinds("{encoding: wake, sleep: sleep}") == wanted
    assert kinds('{"1": sleep, 1_encoding: wake}') == wanted
    with pytest.raises(UserError, match=r"1: sleep and encoding: wake; say what '1_encoding' is"):
        kinds('{"1": sleep, encoding: wake}')
    with pytest.raises(UserError, match=r"session '1_encoding' or '1' or 'encoding' is none of"):
        kinds("{night: sleep}")


@pytest.mark.parametrize(
    "name",
    ["sub-01/eeg/sub-01_ses-2_", "sub-01/ses-1/eeg/sub-01_ses-2_", "sub-01/ses-1/eeg/sub-02_ses-1_", "sub-/eeg/sub-_"],
)
def test_a_name_that_tells_of_other_folders_than_it_lies_in(tmp_path, name):
    """mne-bids makes up a path by it that is not there, or above the folder."""
    for one in (name, "sub-03/eeg/sub-03_"):
        path = tmp_path / f"{one}task-sleep_eeg.vhdr"
        path.parent.mkdir(parents=True)
        path.touch()
    found = inputs.find_bids(tmp_path, load_settings(None, ["recordings.default_session=sleep"]))
    faults = {source.name: source.fault for source in found}
    assert faults.pop("sub-03") is None
    (fault,) = faults.values()
    assert "task-sleep_eeg.vhdr lies in other folders than its name tells; put it into sub-" in fault


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"match": "x"}, "item: give it"),
        ({"code": 1, "match": "x", "item": "alarm", "modality": "cue"}, "either"),
        ({"match": "(", "item": "alarm", "modality": "cue"}, "no regular expression"),
    ],
)
def test_rules_that_mean_nothing_are_refused(rule, words):
    with pytest.raises(ValueError, match=words):
        Rule(**rule)


def test_channels_are_found_renamed_and_missing_ones_counted():
    settings = Channels(montage=NAMES, rename={"E11": "Fz"})
    names = ["EEG Fp1", "fp2", "F3-Ref", "E11", *NAMES[4:15], "M1", "C4-M1"]
    plan = make_plan(settings, names, "file")
    assert plan.missing == ["O2"]
    assert [plan.picks[plan.rows[n]] for n in ("Fp1", "Fp2", "F3", "Fz")] == ["EEG Fp1", "fp2", "F3-Ref", "E11"]
    assert plan.derivations[0] == (plan.rows["C4"], plan.rows["M1"]) and plan.derivations[1:] == [None, None]
    assert any("no EOG" in note for note in plan.notes) and "not used: C4-M1" in plan.notes
    with pytest.raises(UserError, match="5 of 16 channels of the montage are missing"):
        make_plan(Channels(montage=NAMES), NAMES[5:], "file")
    with pytest.raises(UserError, match="names 'E12'"):
        make_plan(Channels(montage=NAMES, rename={"E12": "Fz"}), names, "file")


def test_interpolation_is_what_mne_does():
    raw = mne.io.RawArray(recordings.background(2, NAMES, 1), mne.create_info(NAMES, 500.0, "eeg"), verbose="error")
    matrix = interpolation(NAMES, ["Fz", "O1"], "standard_1005", "file")
    with warnings.catch_warnings(), mne.use_log_level("error"):
        warnings.simplefilter("ignore")
        raw.set_montage("standard_1005")
        raw.info["bads"] = ["Fz", "O1"]
        expected = raw.copy().interpolate_bads().get_data()
    assert np.allclose(matrix @ raw.get_data(), expected, atol=1e-12)
    assert not matrix[:, [NAMES.index("Fz"), NAMES.index("O1")]].any()
    with pytest.raises(UserError, match="no position"):
        interpolation(["Fz", "E7", "Cz", "Pz"], ["Fz"], "standard_1005", "file")


def test_references_are_what_they_say():
    names = [*NAMES, "M1", "M2"]
    data = recordings.background(2, names, 2)
    mastoids = rereference(names, "mastoids", ("M1", "M2"), "standard_1005", "file")
    assert np.allclose(mastoids @ data, data - data[-2:].mean(axis=0), atol=1e-15)
    rest = rereference(names, "REST", ("M1", "M2"), "standard_1005", "file")
    offset = rest @ (data + 5e-6)  # what all channels share is the old reference's and goes
    assert np.allclose(offset[:16], (rest @ data)[:16], atol=1e-12)
    assert np.array_equal(rereference(names, "average", (), "standard_1005", "file"), np.eye(18))


@pytest.mark.slow
def test_blinks_go_and_the_rest_stays(tmp_path, caplog):
    caplog.set_level("INFO")
    settings = load_settings(None, ["steps.ica.minutes=2"])
    with_blinks, without = (recordings.wake(0, names=EEG_MONTAGE[::2], blinks=b) for b in (True, False))
    plan = make_plan(Channels(montage=EEG_MONTAGE[::2]), with_blinks.ch_names, "file")
    data = with_blinks.get_data(picks=plan.picks) * 1e6
    file = SignalFile(tmp_path / "raw.npy", data.shape)
    file.write(0, data.astype(np.float32))
    operator, names, found = artefact_operator(file, plan, {}, settings.steps, 0, "standard_1005")
    assert any(row["removed"] and row["label"] == "eye blink" for row in found)
    assert "may take minutes" in caplog.text
    rows = [plan.rows[n] for n in names]
    clean, true = operator @ data[rows], without.get_data(picks=plan.picks)[rows] * 1e6
    blink = (data[rows] - true)[names.index("Fp1")]
    assert (clean - true)[names.index("Fp1")].std() < 0.3 * blink.std()
    back = names.index("O1")
    assert np.corrcoef(clean[back], true[back])[0, 1] > 0.98


def test_dead_and_noisy_channels_are_found(tmp_path):
    data = recordings.background(60, NAMES, 4) * 1e6
    rng = np.random.default_rng(0)
    data[3] = 0.0
    data[7] += 80 * rng.standard_normal(data.shape[1])
    file = SignalFile(tmp_path / "raw.npy", data.shape)
    file.write(0, data.astype(np.float32))
    plan = make_plan(Channels(montage=NAMES), NAMES, "file")
    found = find_bad(file, plan, Steps().bad_channels, 0, "standard_1005")
    assert {"Fz", "Cz"} <= set(found) and len(found) <= 5
    settings = load_settings(None, ["channels.interpolate_share=0"])
    with pytest.raises(UserError) as refused:
        plan.bad = {"Fz": "channels.tsv", "O1": "channels.tsv"}
        prepare_recording._bad_channels(file, plan, settings, "night")
    said, criteria = str(refused.value), found["Cz"].removeprefix("pyprep: ")
    assert "channels.tsv: 2" in said and f"{criteria.split(', ')[0]}: " in said
    assert "steps.bad_channels.method (none:" in said
    assert "O1 (channels.tsv)" in said and f"Cz ({criteria})" in said
    few = make_plan(Channels(montage=NAMES[:6]), NAMES[:6], "file")
    assert find_bad(file, few, Steps().bad_channels, 0, "standard_1005") == {}
    assert "no search for bad channels" in few.notes[-1]


def test_rejection_by_amplitude():
    spans = np.full((40, 20), 80.0) + np.random.default_rng(0).normal(0, 10, (40, 20))
    spans[3, :5], spans[4, :1], spans[5] = 900, 900, 0
    reject, threshold = trials.rejected(spans, "wake", Rejection())
    assert threshold == 200 and np.flatnonzero(reject).tolist() == [3, 5]
    learnt, threshold = trials.rejected(spans, "wake", Rejection(method="autoreject"))
    assert learnt[3] and 100 < threshold < 900
    assert not trials.rejected(spans, "wake", Rejection(method="none"))[0].any()


def test_annotated_artefacts_take_their_trials_and_no_others():
    texts = [
        "BAD_movement",
        "artefact/arousal",
        "artefact/bad_channel/CP1",
        "Comment/artefact/movement",
        "not badminton",
    ]
    annotations = mne.Annotations([10.0, 20, 0, 30, 0], [2.0, 3, 100, 1, 100], texts)
    spans = artefacts.bad_spans(annotations, Rejection().artefacts, 0.0)
    assert spans.tolist() == [[10, 12], [20, 23], [30, 31]]
    events = pd.DataFrame({"onset_s": [8.0, 8.3, 12.1, 12.3, 29.0]})
    assert trials.overlapping(events, published().windows.sleep, spans).tolist() == [False, True, True, False, True]


def test_parts_are_blocks_in_time_within_an_item():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"item_index": rng.permutation(np.repeat(np.arange(15), 7))})
    parts = trials.parts_in_time(table, (0.6, 0.2, 0.2))
    for item in range(15):
        own = parts[(table.item_index == item).to_numpy()]
        assert own.tolist() == ["train"] * 4 + ["val"] * 2 + ["test"]
    few = trials.parts_in_time(pd.DataFrame({"item_index": np.arange(10)}), (0.6, 0.2, 0.2))
    assert few.tolist() == ["train"] * 6 + ["val"] * 2 + ["test"] * 2


def test_a_bids_folder_is_read_through_mne_bids(tmp_path):
    import mne_bids

    raw, _ = recordings.night(0, stages=["N2"] * 2, names=["Fz", "C4"])
    raw.info["line_freq"] = 50
    raw.info["bads"] = ["Fz"]
    for label in ("01", "02"):
        path = mne_bids.BIDSPath(subject=label, session="night", task="sleep", datatype="eeg", root=tmp_path / "b")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mne_bids.write_raw_bids(raw, path, format="BrainVision", allow_preload=True, verbose="error")
    participants = tmp_path / "b" / "participants.tsv"
    lines = participants.read_text(encoding="utf-8-sig").splitlines()
    groups = ["group", *("test" if line.startswith("sub-02") else "train" for line in lines[1:])]
    participants.write_text("\n".join(f"{a}\t{b}" for a, b in zip(lines, groups, strict=True)) + "\n", "utf-8")

    settings = load_settings()
    sources = inputs.find_bids(tmp_path / "b", settings)
    assert [(s.name, s.test) for s in sources] == [("sub-01", False), ("sub-02", True)]
    assert inputs.assign_names(sources, settings) == {"sub-01": "subject_0", "sub-02": "subject_test_0"}
    session = sources[0].sessions[0]
    assert (session.label, session.kind) == ("night_sleep", "sleep") and session.events.is_file()
    annotations, status = inputs.bids_details(session, Recording(session.path))
    assert [name for name, bad in status.items() if bad] == ["Fz"] and len(status) == 8
    for source in ("annotations", "events_tsv"):
        table, unmapped = read_events(session, Recording(session.path), annotations, Events(source=source))
        assert len(table) == 13 and table.onset_s[0] == 31.0 and set(unmapped) == {"stage/N2"}


def test_recordings_of_one_label_get_folders_that_no_other_has():
    sessions = [
        Session(label, "sleep", Path(f"{k}.edf")) for k, label in enumerate(["night", "night", "night_1", "nap"])
    ]
    labels = [session.label for session in inputs._distinct(sessions)]
    assert len(set(labels)) == 4 and labels[2:] == ["night_1", "nap"]


def test_a_cue_is_called_by_its_recording_and_no_two_trials_are_of_one():
    assert trial_origin.cue_id("P07", "P07_night_part2.edf", 3) == "P07_night_part2_0003"
    assert trial_origin.cue_id("sub-1", "session_001", 3) == "sub-1_session_001_0003"
    with pytest.raises(UserError, match=r"x\.pickle: two trials of the cue 'a'"):
        trial_origin.to_table([{"cue_id": "a"}, {}, {"cue_id": "a"}], "x.pickle")
