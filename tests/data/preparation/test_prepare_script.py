"""From raw recordings to the published layout: files, agreement with real time, resuming, failures."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import recordings

from sleep_interpreter.data.formats.single_trials import read_subject
from sleep_interpreter.data.formats.slow_oscillation_trials import read_so_groups
from sleep_interpreter.data.formats.staging_windows import StagingWindows, read_stage_labels, read_staging_subjects
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.data.inventory.survey import survey_folder
from sleep_interpreter.data.preparation import inputs
from sleep_interpreter.data.preparation import run as prepare_run
from sleep_interpreter.data.preparation.settings import Preparation, load_settings
from sleep_interpreter.data.preparation.signal import SignalFile
from sleep_interpreter.realtime.Parameters.source import SourceSettings
from sleep_interpreter.realtime.Sources.file_source import ReplaySource
from sleep_interpreter.utils.core import file_locks
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle
from sleep_interpreter.utils.signal.preprocessing import decoding_window
from tests.data.preparation.conftest import PATTERN, QUICK

EEG_MONTAGE = published().channels
ITEMS = published().item_names
COMPLETE = {"simulated": True, "counts": {}, "notes": [], "sessions": {}, "seconds": 1.0}


def quick(lab, out, *more, jobs=None, only=None, **options):
    settings = load_settings(None, [*QUICK, "outputs.report=false", "stages.windows=false", *more])
    sources = inputs.find_recordings(str(lab / "s*"), settings)
    return prepare_run.prepare(sources, settings, out, jobs, only, **options)


def test_the_yaml_states_the_defaults():
    assert load_settings() == Preparation()


def test_every_file_of_the_layout_is_there_and_passes_the_check(prepared):
    out, manifest, _ = prepared
    assert [r["status"] for r in manifest["subjects"].values()] == ["complete", "complete"]
    assert manifest["names"] == {"s0": "subject_0", "s1": "subject_test_0"}
    found = survey_folder(out)
    assert found.problems == []
    missing = [part.pattern for part, files in found.found.items() if not files]
    assert missing == []
    assert not (out / ".unfinished").exists()


def test_the_scripts_readers_get_batches(prepared):
    out, *_ = prepared
    for stage in ("N2N3", "REM"):
        trials = TrainingTrials(out, stage)
        batch = next(iter(trials.batches(4, 0, 0)))
        assert batch["sleep"].shape == (4, 200, 55) and batch["image"].shape == (4, 80, 55)
        assert len(TrainingTrials(out, stage, awake=False)) == len(trials)
        (subject,) = read_test_subjects(out, stage, awake=True)
        assert {"train", "val", "test"} == set(subject.data_type)
        assert len(read_test_subjects(out, stage, window="precue")[0]) == len(subject)
        assert np.abs(subject.sleep).max() <= 15
    assert len(StagingWindows(out)) == 41
    (night,) = read_staging_subjects(out)
    assert night.epoch_stage.tolist() == [0, 1, 1, 2, 3]
    labels = read_stage_labels(out)
    assert labels["subject_0"][0].tolist() == [0, 30, 90, 120, 150]
    (groups,) = read_so_groups(out)
    assert 10 < len(groups) <= 45
    assert groups.phase_from == "precue" and groups.coupled is not None and not len(groups.groups["Pre-SO"][1])
    (cues,) = [pd.read_csv(path, sep="\t") for path in out.glob("Prepared/subject_test_0/*/cues.tsv")]
    assert set(cues.so_phase_from) == {"precue"}


def test_offline_trials_are_those_of_the_real_time_loop(lab, tmp_path):
    """With the filters off, the same samples give the same trial, to the last digit."""
    settings = load_settings("prepare_realtime", [PATTERN, "outputs.continuous=all", "outputs.report=false"])
    sources = inputs.find_recordings(str(lab / "s0_night.vhdr"), settings)
    manifest = prepare_run.prepare(sources, settings, tmp_path)
    assert manifest["subjects"]["subject_0"]["status"] == "complete"
    own = read_pickle(tmp_path / "SI Main Train" / "subject_0" / "Whole_data.pickle")["N2N3"]

    source = ReplaySource(lab / "s0_night.vhdr", SourceSettings())
    source.open(list(EEG_MONTAGE))
    stream = np.concatenate(list(source.chunks()), axis=1).astype(np.float32)
    asleep = [(t, item) for t, item in source.cues() if 30 <= t < 120]
    assert len(own) == len(asleep)
    for trial, (seconds, item) in zip(own, asleep, strict=True):
        start = round(seconds * 500) - 100
        assert trial["category"].argmax() == item
        assert np.array_equal(trial["EEG"].T, decoding_window(stream[:, start : start + 1000]))


def test_filtered_trials_hold_the_band_and_not_the_mains(prepared):
    out, *_ = prepared
    eeg = SignalFile(out / "Prepared" / "subject_test_0" / "night" / "eeg.npy")
    about = json.loads((out / "Prepared" / "subject_test_0" / "night" / "eeg.json").read_text())
    assert about["channels"] == list(EEG_MONTAGE) and about["rate"] == 500
    data = eeg.read(5000, 55000, [11]).astype(float)
    power = np.abs(np.fft.rfft(data[0] * np.hanning(50000))) ** 2
    hz = np.fft.rfftfreq(50000, 1 / 500)
    assert power[(hz > 60)].mean() < 1e-3 * power[(hz > 20) & (hz < 40)].mean()
    assert abs(eeg.read(0, eeg.shape[1], 11).mean()) < 1


@pytest.mark.slow
def test_a_second_run_does_nothing_and_a_missing_file_is_made_again(lab, tmp_path, caplog):
    caplog.set_level("INFO")
    quick(lab, tmp_path)
    first = json.loads((tmp_path / "manifest.json").read_text())
    record = tmp_path / "Prepared" / "subject_test_0" / "subject.json"
    before = record.stat().st_mtime_ns
    caplog.clear()
    quick(lab, tmp_path)
    assert record.stat().st_mtime_ns == before
    assert sum("is there" in r.message for r in caplog.records) == 2

    (tmp_path / "SI Main Test" / "subject_test_0" / "N2N3_data.pickle").unlink()
    again = quick(lab, tmp_path)
    assert record.stat().st_mtime_ns > before
    for name, about in first["subjects"].items():
        assert again["subjects"][name]["files"].keys() == about["files"].keys()
    key = "Prepared/subject_test_0/night/eeg.npy"
    assert again["subjects"]["subject_test_0"]["files"][key] == first["subjects"]["subject_test_0"]["files"][key]
    with pytest.raises(UserError, match="other settings"):
        quick(lab, tmp_path, "steps.reference=mastoids")


def test_two_processes_do_not_prepare_into_one_folder(lab, tmp_path):
    """The first one's end would take the other one's unfinished files away."""
    work = tmp_path / ".unfinished" / "subject_0"
    work.mkdir(parents=True)
    with file_locks.locked(tmp_path / ".lock", refusal="as a process does while it prepares"):
        with pytest.raises(UserError, match=r"another process is preparing into this folder.*--jobs"):
            quick(lab, tmp_path)
        assert work.is_dir() and not (tmp_path / "manifest.json").exists()


def test_a_folder_of_something_else_stays_as_it_is(lab, tmp_path):
    """The released data set's own folder, say."""
    labels = tmp_path / "SI Staging Label" / "Whole_label_data.pickle"
    labels.parent.mkdir()
    labels.write_bytes(b"135 hypnograms")
    with pytest.raises(UserError, match="holds files that no preparation has written"):
        quick(lab, tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [labels] and labels.stat().st_size == 14


def test_what_was_corrected_is_prepared_again_and_nothing_old_stays(tmp_path):
    """Two nights of one person at 250 Hz, scored in files beside them; then a scoring is corrected."""
    root, out = tmp_path / "lab", tmp_path / "out"
    for label, stages in (("night", ["N2"] * 3), ("nap", ["N2"] * 2)):
        raw, _ = recordings.night(0, stages=stages, names=["C4", "F3", "Cz"], planted=False)
        raw.set_annotations(raw.annotations[[t.startswith("cue") for t in raw.annotations.description]])
        recordings.write(raw.resample(250, verbose="error"), root / f"s1_{label}_raw.fif")
        (root / f"s1_{label}_raw.txt").write_text("\n".join(stages))
    options = [
        "recordings.pattern=(?P<subject>s1)_(?P<session>night|nap)", "stages.file='{stem}.txt'",
        "channels.montage=[F3, Cz]", "channels.eog=[HEOG, null]", "stages.windows=true", "split.test=[]",
        "split.test_share=0",
    ]  # fmt: skip

    def prepare(*more, **force):
        return quick(root, out, *options, *more, **force)["subjects"]["subject_0"]

    first = prepare()
    old = out / "Prepared/subject_0/nap/cues.tsv"
    assert old.is_file() and first["counts"]["REM"] == 0 < first["counts"]["N2N3"]
    # the resampler's end takes no epoch away; the longest scored night is used, and that is said
    assert first["hypnogram"] == {"onset": [0.0, 90.0], "label": [1]}
    notes = " | ".join(first["notes"])
    assert "those of night, the longest scored night; not those of nap" in notes
    assert "no staging windows: there is no EOG (HEOG)" in notes and first["counts"]["staging windows"] == 0
    remarks = first["sessions"]["night"]["remarks"]
    assert any(
        "no slow oscillations were searched at Fz" in text and "set slow_oscillations.channel" in text
        for text in remarks
    )
    assert not any("spindles were searched at Cz" in text for text in remarks)

    record = out / "Prepared/subject_0/subject.json"
    before = record.stat().st_mtime_ns
    assert prepare() == first and record.stat().st_mtime_ns == before
    (root / "s1_night_raw.txt").write_text("R\nR\nR")
    second = prepare()
    assert second["counts"]["REM"] > 20 and read_stage_labels(out)["subject_0"][1].tolist() == [3]
    assert old.is_file()
    (root / "s1_nap_raw.fif").unlink()
    third = prepare()
    assert third["counts"]["N2N3"] == 0 and not old.exists()
    before = record.stat().st_mtime_ns
    assert prepare(force=True)["counts"] == third["counts"] and record.stat().st_mtime_ns > before


def test_other_settings_for_some_remove_nobody_else(lab, tmp_path):
    record = {"subject_0": {"source": "s0", "status": "complete", "files": {}, **COMPLETE}}
    manifest = {"settings_sha256": "other", "subjects": record, "names": {"s0": "subject_0"}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="would remove s0, who would not be prepared again"):
        quick(lab, tmp_path, only=["s1"], force=True)
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest


@pytest.mark.slow
def test_a_subject_that_fails_stops_no_other_and_leaves_nothing(lab, tmp_path):
    broken = tmp_path / "lab"
    shutil.copytree(lab, broken)
    (broken / "s0_wake_raw.fif").write_bytes(b"no recording")
    manifest = quick(broken, tmp_path / "out")
    failed, done = manifest["subjects"]["subject_0"], manifest["subjects"]["subject_test_0"]
    assert failed["status"] == "failed" and failed["step"] == "opening" and "s0_wake_raw.fif" in failed["reason"]
    assert done["status"] == "complete"
    left = [p for p in (tmp_path / "out").rglob("*") if "subject_0" in p.as_posix() and p.is_file()]
    assert left == []

    shutil.copy(lab / "s0_wake_raw.fif", broken / "s0_wake_raw.fif")
    manifest = quick(broken, tmp_path / "out")
    assert manifest["subjects"]["subject_0"]["status"] == "complete"


@pytest.mark.slow
def test_an_interrupted_preparation_goes_on(lab, tmp_path, monkeypatch):
    from sleep_interpreter.data.preparation import subject as prepare_subject

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare_subject, "write_trials", killed)
        with pytest.raises(KeyboardInterrupt):
            quick(lab, tmp_path, only=["s1"])
    # names and data card are fixed before anybody is prepared; of the subject there is nothing
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"manifest.json", "dataset.yaml"}
    assert quick(lab, tmp_path, only=["s1"])["subjects"]["subject_test_0"]["status"] == "complete"


@pytest.mark.slow
def test_several_jobs_give_the_same_files(lab, tmp_path):
    one, two = quick(lab, tmp_path / "one"), quick(lab, tmp_path / "two", jobs=2)
    for name, record in one["subjects"].items():
        assert record["files"] == two["subjects"][name]["files"]


def test_names_stay_when_a_subject_comes_later(lab):
    settings = load_settings(None, [PATTERN, "split.test=[s1]"])
    sources = inputs.find_recordings(str(lab / "s*"), settings)
    known = inputs.assign_names(sources, settings)
    more = [inputs.Source("a_first", sources[0].sessions), *sources]
    later = inputs.assign_names(more, settings, known)
    assert {k: later[k] for k in known} == known and later["a_first"] == "subject_1"


def test_volts_and_microvolts_are_told_apart(lab, tmp_path):
    raw, _ = recordings.night(3, stages=["N2"] * 2)
    raw._data *= 1e6  # µV that the file calls volts
    recordings.write(raw, tmp_path / "lab" / "s0_night_raw.fif")
    manifest = quick(tmp_path / "lab", tmp_path / "out", "split.test=[]")
    record = manifest["subjects"]["subject_0"]
    assert record["step"] == "units" and "recordings.unit uV" in record["reason"]
    assert "expected 0.5 to 500 µV" in record["reason"]
    manifest = quick(tmp_path / "lab", tmp_path / "out", "split.test=[]", "recordings.unit=uV")
    assert manifest["subjects"]["subject_0"]["status"] == "complete"


def test_the_report_shows_what_was_done(prepared):
    out, manifest, _ = prepared
    text = (out / "Prepared" / "subject_test_0" / "report.html").read_text(encoding="utf-8")
    for words in (
        "Spectra",
        "Hypnogram and cues",
        "ICA",
        "Responses",
        "cues in N2",
        "image",
        "Slow oscillations",
        "cues by phase: Pre-SO ",
    ):
        assert words in text
    assert "{&#x27;" not in text, "no Python dict is shown to people"
    assert "Trials: cue" in text and "events: 0" not in text  # a night's report says nothing of pictures
    removed = manifest["subjects"]["subject_test_0"]["sessions"]["wake"]["components_removed"]
    assert "eye blink" in removed
    assert manifest["subjects"]["subject_0"]["per_item"]["image"] == [1] * len(ITEMS)


def test_each_trial_says_which_cue_it_is_of_and_each_cue_what_became_of_it(prepared):
    out, *_ = prepared
    folder = out / "Prepared/subject_test_0/night"
    cues = pd.read_csv(folder / "cues.tsv", sep="\t", na_values="n/a", keep_default_na=False)
    assert cues.cue_id.is_unique and cues.cue_id.iloc[0] == "s1_night_0001" and not cues.sham.any()
    assert (cues.onset_sample == (cues.onset_s * 500).round()).all()
    assert (cues.trial.notna() ^ cues.left_out.notna()).all()
    for stage in ("N2N3", "REM"):
        (subject,) = read_test_subjects(out, stage)
        (before,) = read_test_subjects(out, stage, window="precue")
        pd.testing.assert_frame_equal(subject.origin, before.origin)
        single = read_subject(out / "SI Main Test/subject_test_0/Whole_data.pickle", [stage], out).domains[stage].origin
        pd.testing.assert_frame_equal(subject.origin, single)
        own = cues[cues.trials == stage].sort_values("trial")
        assert own.cue_id.tolist() == subject.origin.cue_id.tolist() and own.trial.tolist() == [*range(len(subject))]
        assert own.item.tolist() == [ITEMS[label] for label in subject.label]
        assert set(subject.origin.stage) == ({"R"} if stage == "REM" else {"N2", "N3"})
        assert set(subject.origin.recording) == {"s1_night.vhdr"} and set(subject.origin.session) == {"night"}
        onset = (subject.origin.onset_s - 30) / 60  # the first N2 begins after one epoch
        assert np.allclose(subject.origin.minutes_since_sleep_onset.astype(float), onset)
    counted = cues.groupby("item").repetition
    assert (counted.min() == 1).all() and (counted.max() == counted.size()).all()  # also those that are no trials
    (groups,) = read_so_groups(out)
    for group, (_, label) in groups.groups.items():
        assert len(groups.origins[group]) == len(label)
        if len(label):
            assert set(groups.origins[group].so_group) == {group}
            assert groups.origins[group].spindle_coupled.tolist() == groups.coupled[group].tolist()


def test_every_cue_that_is_no_trial_says_why_and_shams_are_none(tmp_path):
    raw, _ = recordings.night(0, ["W", "N2", "R"], planted=False)
    kept = [k for k, text in enumerate(raw.annotations.description) if "cue/" not in text]
    stages = raw.annotations[kept]
    cues = {20: "cue/alarm", 31: "cue/kiwi", 35: "cue/alarm", 40: "sham/alarm", 45: "cue/kiwi", 50: "sham", 52: "BAD",
            52.5: "cue/kiwi", 70: "cue/alarm", 89.5: "cue/kiwi"}  # fmt: skip
    lengths = [1.0 if text == "BAD" else 0.0 for text in cues.values()]
    raw.set_annotations(stages + type(stages)(list(cues), lengths, list(cues.values()), stages.orig_time))
    raw._data[:8, round(45.5 * 500) : round(45.6 * 500)] += 2e-3
    recordings.write(raw, tmp_path / "lab" / "s1_night.vhdr")
    manifest = quick(tmp_path / "lab", tmp_path / "data", "steps.line_noise.hz=null", "steps.bandpass_hz=null")
    table = pd.read_csv(tmp_path / "data/Prepared/subject_test_0/night/cues.tsv", sep="\t", keep_default_na=False)
    assert table.item.tolist() == [cue.partition("/")[2] or "n/a" for cue in cues.values() if cue != "BAD"]
    assert table.left_out.tolist() == [
        "in W/N1 or not scored", "n/a", "n/a", "sham", "amplitude", "sham", "annotated artefact", "n/a",
        "beyond the recording",
    ]  # fmt: skip
    assert table.trials.tolist() == ["n/a", "N2N3", "N2N3", *["n/a"] * 4, "REM", "n/a"]
    assert table.sham.tolist() == [False, False, False, True, False, True, False, False, False]
    assert table.repetition.tolist() == [1, 1, 2, 1, 2, 1, 3, 3, 4]
    counts = manifest["subjects"]["subject_test_0"]["sessions"]["night"]["trials"]["cue"]
    assert (counts["events"], counts["kept"]) == (7, 3)


@pytest.mark.parametrize(("entry", "value", "words"), [
    ("stage", 2, "expected text, found 2"), ("sham", 1, "expected True or False"), ("repetition", 1.5, "whole number"),
    ("onset_s", float("nan"), "expected a number"), ("onset", 1.0, "did you mean 'onset_s'"),
])  # fmt: skip
def test_an_origin_that_is_none_is_refused_by_trial_and_entry(prepared, tmp_path, entry, value, words):
    shutil.copytree(prepared[0] / "SI Main Test", tmp_path / "SI Main Test")
    path = tmp_path / "SI Main Test/subject_test_0/REM_data.pickle"
    content = read_pickle(path)
    content[2]["origin"][entry] = value
    write_pickle(content, path)
    with pytest.raises(UserError, match=rf"REM_data.pickle, trial 2, field 'origin'.*{words}"):
        read_test_subjects(tmp_path, "REM")
