"""No sample and no event counts twice: parts, copies, two headers, two formats, events that stand twice."""

import re
import shutil

import mne
import numpy as np
import pandas as pd
import planted_cues as planted
import pytest
import recordings

from sleep_interpreter.data.preparation import inputs, run
from sleep_interpreter.data.preparation.events import read_events
from sleep_interpreter.data.preparation.inputs import Session
from sleep_interpreter.data.preparation.settings import Events, Rule, load_settings
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.recording import Recording


def annotated(seed=0, stages=planted.STAGES):
    raw, cues = planted.night(seed, stages)
    return planted.with_annotations(raw, cues, stages), cues


def write(raw, path):
    return recordings.write(raw, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("naming", ["neuromag", "bids"])
def test_the_parts_of_a_split_recording_are_one_recording(tmp_path, naming):
    raw, cues = annotated()
    lab = tmp_path / "lab"
    lab.mkdir()
    raw.save(
        lab / ("s1_night_raw.fif" if naming == "neuromag" else "s1_night_eeg.fif"), split_size=2_000_000, fmt="double",
        buffer_size_sec=5, split_naming=naming, verbose="error",
    )  # fmt: skip
    write(annotated(5)[0], lab / "s2_night_raw.fif")
    names = sorted(path.name for path in lab.glob("s1*"))
    assert len(names) in (2, 3)
    manifest = planted.prepare(lab, tmp_path / "out")
    record = planted.complete(manifest)
    assert list(record["sessions"]) == ["night"]
    assert any(f"in {len(names)} files: s1_night_" in text for text in record["sessions"]["night"]["remarks"])
    planted.check(tmp_path / "out", cues)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("naming", "gone"), [
    ("neuromag", ["s1_night_raw.fif"]), ("bids", ["s1_night_split-01_eeg.fif"]),
    ("neuromag", ["s1_night_raw.fif", "s1_night_raw-1.fif"]), ("renamed", ["s1_night_raw.fif"]),
])  # fmt: skip
def test_a_part_without_the_first_one_is_refused_and_nobody_else(tmp_path, naming, gone):
    """What counts from the whole recording's first sample would be laid on that of a part."""
    raw, _ = annotated()
    lab = tmp_path / "lab"
    lab.mkdir()
    raw.save(
        lab / ("s1_night_eeg.fif" if naming == "bids" else "s1_night_raw.fif"), split_size=1_200_000, fmt="double",
        buffer_size_sec=5, split_naming="bids" if naming == "bids" else "neuromag", verbose="error",
    )  # fmt: skip
    for name in gone:
        (lab / name).unlink()
    if naming == "renamed":
        for path in sorted(lab.glob("s1*"))[1:]:
            path.unlink()
        (lab / "s1_night_raw-1.fif").rename(lab / "s1_night_raw.fif")
    assert list(lab.glob("s1*"))
    cropped = annotated(5)[0].crop(31)  # begins later too, and is a recording of its own
    write(cropped, lab / "s2_night_raw.fif")
    settings = load_settings(None, planted.SETTINGS)
    one, other = inputs.find_recordings(str(lab / "*.fif"), settings)
    assert re.search(r"s1_night.*\.fif is a later part of a split recording", one.fault) and other.fault is None


def a_copy_beside(lab):
    (lab / "backup").mkdir()
    shutil.copy(lab / "s1_night_raw.fif", lab / "backup" / "s1_night_raw.fif")


def a_link(lab):
    (lab / "again").mkdir()
    (lab / "again" / "s1_night_raw.fif").symlink_to(lab / "s1_night_raw.fif")


def another_spelling_of_the_path(lab):
    del lab


@pytest.mark.parametrize("more", [a_copy_beside, a_link, another_spelling_of_the_path])
def test_a_file_that_is_found_twice_counts_once(tmp_path, more):
    raw, cues = annotated()
    lab = tmp_path / "lab"
    write(raw, lab / "s1_night_raw.fif")
    more(lab)
    settings = load_settings(None, planted.SETTINGS)
    pattern = [str(lab / "**/*.fif"), str(lab / ".." / "lab" / "*.fif")]
    (source,) = inputs.find_recordings(pattern, settings)
    assert [session.label for session in source.sessions] == ["night"] and source.fault is None
    assert all("the same file once more" in text for text in source.sessions[0].remarks)
    planted.complete(run.prepare([source], settings, tmp_path / "out"))
    planted.check(tmp_path / "out", cues)


def two_headers(lab):
    for suffix in (".vhdr", ".vmrk"):
        text = (lab / f"s1_night{suffix}").read_text(encoding="utf-8")
        (lab / f"s2_night{suffix}").write_text(text, encoding="utf-8")  # copied, the names inside not changed
    text = (lab / "s2_night.vhdr").read_text(encoding="utf-8").replace("MarkerFile=s1", "MarkerFile=s2")
    (lab / "s2_night.vhdr").write_text(text, encoding="utf-8")
    return "are two headers of one data file"


def one_marker_file(lab):
    write(annotated(3)[0], lab / "s2_night.vhdr")
    text = (lab / "s2_night.vhdr").read_text(encoding="utf-8").replace("MarkerFile=s2", "MarkerFile=s1")
    (lab / "s2_night.vhdr").write_text(text, encoding="utf-8")
    return "have one marker file"


def one_person_s_data_under_another_name(lab):
    for suffix in (".vhdr", ".vmrk", ".eeg"):
        content = (lab / f"s1_night{suffix}").read_bytes().replace(b"s1_night", b"s2_night")
        (lab / f"s2_night{suffix}").write_bytes(content)
    return "hold the same data, byte for byte"


def one_person_written_in_two_ways(lab):
    write(annotated(3)[0], lab / "S01_night.vhdr")
    return "look like one person"


@pytest.mark.parametrize("fault", [two_headers, one_marker_file, one_person_s_data_under_another_name,
                                   one_person_written_in_two_ways])  # fmt: skip
def test_who_is_there_twice_is_refused_and_nobody_else(tmp_path, fault):
    lab = tmp_path / "lab"
    write(annotated()[0], lab / "s1_night.vhdr")
    write(annotated(4)[0], lab / "s7_night.vhdr")
    words = fault(lab)
    pattern = r"recordings.pattern=(?P<subject>[sS]\d+)_(?P<session>night|nap)"
    manifest = planted.prepare(lab, tmp_path / "out", pattern, "split.test=[s7]", pattern="*.vhdr")
    for record in manifest["subjects"].values():
        if record["source"] == "s7":
            assert record["status"] == "complete"
        else:
            assert record["status"] == "failed" and words in record["reason"], record
    assert len(manifest["subjects"]) == 3


def same_name(lab, raw):
    write(raw, lab / "s1_night.vhdr")
    return "are one recording in two formats, by their names"


def same_samples(lab, raw):
    mne.export.export_raw(lab / "s1_nap.edf", raw, verbose="error")
    return r"N2N3|cue trials of s1_night_raw\.fif and s1_nap\.edf hold the same signals|s1_nap\.edf and s1_night_raw"


def an_overlapping_export(lab, raw):
    write(raw.copy().crop(20), lab / "s1_nap_raw.fif")
    return r"cue trials of .* hold the same signals \(the first ones: at "


def other_gain_and_rate(lab, raw):
    more = raw.copy().resample(500, verbose="error")
    more.apply_function(lambda x: x * 0.5)
    write(more, lab / "s1_nap_raw.fif")
    return "hold the same signals"


def upside_down(lab, raw):
    write(raw.copy().apply_function(lambda x: -x), lab / "s1_nap_raw.fif")
    return "hold the same signals"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("again", [same_name, same_samples, an_overlapping_export, other_gain_and_rate, upside_down])
def test_one_recording_in_two_files_is_refused_with_both(tmp_path, again):
    raw, _ = annotated()
    lab = tmp_path / "lab"
    write(raw, lab / "s1_night_raw.fif")
    words = again(lab, raw)
    record = planted.prepare(lab, tmp_path / "out")["subjects"]["subject_test_0"]
    assert record["status"] == "failed"
    assert re.search(words, record["reason"]), record["reason"]
    assert not [path for path in (tmp_path / "out").rglob("*.pickle")]


def test_two_nights_of_one_person_are_two(tmp_path):
    lab = tmp_path / "lab"
    raw, cues = annotated()
    write(raw, lab / "s1_night_raw.fif")
    write(annotated(9)[0], lab / "s1_nap_raw.fif")
    record = planted.complete(planted.prepare(lab, tmp_path / "out"))
    asleep = (cues.stage != "W").sum()
    assert record["counts"]["N2N3"] + record["counts"]["REM"] == 2 * asleep


def repeated_rows(cues):
    return cues, cues.iloc[5:20]


def a_second_marker_of_each(cues):
    return cues, cues.assign(onset_s=cues.onset_s + 0.004)


def a_late_echo(cues):
    return cues, cues.assign(onset_s=cues.onset_s + 0.05)


def in_another_spelling(cues):
    return cues, cues.assign(spelling="Stimulus/cue/")


@pytest.mark.parametrize("twice", [repeated_rows, a_second_marker_of_each, a_late_echo, in_another_spelling])
def test_an_event_that_stands_twice_is_one_trial(tmp_path, twice):
    raw, cues = planted.night()
    once, more = twice(cues)
    every = pd.concat([once, more]).sort_values("onset_s", kind="stable")
    spelling = every.get("spelling", pd.Series(index=every.index, dtype=object)).fillna("cue/")
    texts = [f"{before}{item}" for before, item in zip(spelling, every["item"], strict=True)]
    write(planted.with_annotations(raw, every, texts=texts), tmp_path / "lab" / "s1_night_raw.fif")
    record = planted.complete(planted.prepare(tmp_path / "lab", tmp_path / "out"))
    assert any(f"{len(more)} events stand twice" in text for text in record["sessions"]["night"]["remarks"])
    planted.check(tmp_path / "out", cues)


@pytest.mark.parametrize(("texts", "words"), [
    (["cue/alarm", "cue/apple"], r"cue 'alarm' at 10\.000 s and cue 'apple' at 10\.000 s are at one moment"),
    (["cue/alarm", "sham/alarm"], r"cue 'alarm' at 10\.000 s and sham 'alarm' at 10\.000 s are at one moment"),
    (["image/alarm", "image/apple"], "are at one moment"),
    (["image/alarm", "audio/alarm"], None),
    (["image/alarm", "cue/apple"], None),
])  # fmt: skip
def test_two_meanings_of_one_moment_are_refused(tmp_path, texts, words):
    raw, _ = planted.night(stages=("N2",))
    raw.set_annotations(mne.Annotations([10.0, 10.0, 20.0], 0.0, [*texts, "cue/kiwi"]))
    recording = Recording(write(raw, tmp_path / "s1_night_raw.fif"))
    session = Session("night", "sleep", recording.path)
    if words is None:
        assert len(read_events(session, recording, recording.annotations, Events())[0]) == 3
        return
    with pytest.raises(UserError, match=words):
        read_events(session, recording, recording.annotations, Events())


@pytest.mark.parametrize(("after", "also", "words"), [
    ([0.12] * 8, "same", "each cue is followed by another one within 0.3 s"),
    ([0.25] * 8, "same", "so that every trial would be there twice"),
    ([0.03] * 8, "other", "the first ones: 'alarm' at 10.000 s, 'apple' at 10.030 s"),
    ([0.15] * 8, "sham", "each cue is followed by another one"),
    ([0.2] * 3, "same", None), ([0.45] * 8, "same", None), ([0.04, 0.1], "other", None),
])  # fmt: skip
def test_events_that_each_have_an_echo_are_refused_and_others_told(tmp_path, after, also, words):
    raw, _ = planted.night(stages=("N2",) * 3)
    items = ["alarm", "apple"] * 4
    more = [f"cue/{items[k + (also == 'other')] if k < 7 or also != 'other' else 'alarm'}" for k in range(len(after))]
    more = [text.replace("cue", "sham") if also == "sham" else text for text in more]
    onset = 10.0 + 8 * np.arange(8)
    texts = [*(f"cue/{item}" for item in items), *more]
    raw.set_annotations(mne.Annotations([*onset, *(onset[: len(after)] + after)], 0.0, texts))
    recording = Recording(write(raw, tmp_path / "s1_night_raw.fif"))
    session, remarks = Session("night", "sleep", recording.path), list[str]()
    if words is not None:
        with pytest.raises(UserError, match=words):
            read_events(session, recording, recording.annotations, Events())
        return
    found, _ = read_events(session, recording, recording.annotations, Events(), remarks)
    assert len(found) == 8 + len(after)
    (said,) = remarks
    assert said.startswith(f"WARNING: {len(after)} cue events begin within 0.5 s of the one before")


def test_a_stream_of_pictures_is_told_and_read(tmp_path):
    raw, _ = planted.night(stages=("N2",))
    texts = [f"image/{item}" for item in ["alarm", "apple", "kiwi"] * 4]
    raw.set_annotations(mne.Annotations(5 + 0.2 * np.arange(12), 0.0, texts))
    recording, remarks = Recording(write(raw, tmp_path / "s1_nap_raw.fif")), list[str]()
    session = Session("nap", "wake", recording.path)
    assert len(read_events(session, recording, recording.annotations, Events(), remarks)[0]) == 12
    assert remarks[0].startswith("WARNING: 11 image events begin within 0.5 s")


def test_one_event_in_two_phases_is_refused_and_an_unknown_phase_filled_in(tmp_path):
    raw, _ = planted.night(stages=("N2",))
    raw.set_annotations(mne.Annotations([10.0, 10.0, 20.0, 20.0], 0.0, ["a/kiwi", "b/kiwi", "c/kiwi", "b/kiwi"]))
    recording = Recording(write(raw, tmp_path / "s1_night_raw.fif"))
    session = Session("night", "sleep", recording.path)
    rules = [Rule(match=f"{text}/(?P<item>.+)", modality="image", phase=phase)
             for text, phase in (("a", "learning"), ("b", "test"), ("c", None))]  # fmt: skip
    with pytest.raises(UserError, match=r"image 'kiwi' at 10\.000 s is of phase 'learning' and of 'test'"):
        read_events(session, recording, recording.annotations, Events(rules=tuple(rules)))
    found, _ = read_events(session, recording, recording.annotations, Events(rules=tuple(rules[1:])))
    assert found.onset_s.tolist() == [10.0, 20.0] and found.phase.tolist() == ["test", "test"]
    assert np.array_equal(found.item_index, [found.item_index[0]] * 2)
