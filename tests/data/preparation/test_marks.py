"""Annotations: which of them make trials bad, in which encoding they are, and a marker file that is missing."""

import logging
import re

import mne
import numpy as np
import planted_cues
import pytest
import recordings
import short_night

from sleep_interpreter.data.preparation import artefacts, inputs
from sleep_interpreter.data.preparation import run as prepare_run
from sleep_interpreter.data.preparation.events import event_of
from sleep_interpreter.data.preparation.recording import fingerprint
from sleep_interpreter.data.preparation.settings import Events, Rejection, Rule, load_settings
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.recording import Recording

MARKS = {
    "MNE": ["BAD boundary", "bad", "BAD_ACQ_SKIP", "badly moved", "Bad Interval/Bad Min-Max", "EDGE boundary"],
    "scorers": ["Artefakt", "muscle artifact", "Comment/artefact/arousal", "Artifact: chewing", "Movement time",
                "Muskelartefakt"],
    "breaks": ["boundary", "-99", "break cnt", "Recording paused", "Comment/Pause", "Electrode off", "impedance check",
               "New Segment/LostSamples: 20"],
}  # fmt: skip
KEPT = [
    "SpO2 artifact",
    "artefact/bad_channel/CP1",
    "Arousal",
    "limb movement",
    "Lights off",
    "breakfast",
    "not bad",
    "Artefaktfrei",
    "no artifact",
    "EtCO2 artifact",
]


def prepare(folder, *more):
    settings = load_settings(None, [*short_night.SETTINGS, *more])
    return prepare_run.prepare(inputs.find_recordings(f"{folder}/lab/*", settings), settings, folder / "out")


def left(raw, spans):
    """Return the planted cues whose trials, -0.2 to 1.8 s, overlap none of the spans."""
    table = short_night.planted(raw)
    lost = [any(onset - 0.2 < end and onset + 1.8 > start for start, end in spans) for onset in table.onset_s]
    return table[~np.array(lost)].reset_index(drop=True)


@pytest.mark.parametrize("kind", MARKS)
def test_trials_on_a_mark_go_and_no_others(tmp_path, kind):
    """Every mark with a second of its own, in turn with texts that are none."""
    marks = [(4.5 + 5 * k, 1.0 if k % 2 else 0.0, text) for k, text in enumerate(MARKS[kind])]
    others = [(8.2 + 5 * k, 0.5, text) for k, text in enumerate(KEPT)]
    raw = short_night.night(more=[*marks, *others])
    recordings.write(raw, tmp_path / "lab/s1_night_raw.fif")
    record = prepare(tmp_path)["subjects"]["subject_test_0"]
    spans = [(onset, onset + (0 if text == "boundary" else length)) for onset, length, text in marks]
    table = left(raw, spans)
    assert 30 < planted_cues.check_trials(tmp_path / "out", table) < short_night.COUNT - 2 * len(marks) + 1
    said = " | ".join(record["sessions"]["night"]["remarks"])
    assert f"annotated artefacts and breaks: {len(marks)}, " in said
    unmapped = record["sessions"]["night"]["unmapped_events"]
    assert set(unmapped) == set(KEPT)  # the others are understood
    assert f"{len(KEPT)} events are known by no rule of events.rules: " in said


def test_which_texts_are_marks():
    marks = """Stimulus/boundary|Comment/boundary|Comment/BAD boundary|Stimulus/BAD boundary|Marker/EDGE boundary
        |Buffer Overflow|clipping|saturation|lost samples|impedance check|calibration|Recording stopped|pause
        |Break|artéfact|artefacto|Signal Artifact|ARTIFACT|Artifact no. 3|Bad Interval/Bad Min-Max|rejected|Data loss"""
    others = """pH artifact|Respiratory artifact|PLM|cue/boundary|image/boundary|cue/break|cue/pause|image/movement
        |response/excluded|start|stop
        |Arousal|artifact-free|Movement arousal|rapid eye movement|leg movement|Stimulus/S 12|New Segment/
        |stimulus on|stage/N2"""
    for texts, wanted in ((marks, True), (others, False)):
        found = {text.strip(): bool(re.fullmatch(artefacts.STANDARD, text.strip())) for text in texts.split("|")}
        assert found == dict.fromkeys(found, wanted)


def test_which_texts_of_other_labs_are_marks():
    marks = """Aufnahme pausiert|Aufzeichnung gestoppt|noise|Electrode pop|MT|Amp saturated|invalid|unusable|out of bed
        |toilet|Comment/noise|Messung unterbrochen|invalid segment|Toilet break|electrode popping|EEG noise|pause
        |Artefact: muscle|ECG artefact|pulse artifact"""
    others = """Artefact: none|Artifact - absent|PLM artefact|Snore artefact|HR artefact|Leg EMG artefact
        |white noise|cue/noise|image/toilet|response/invalid|noise burst|continue|Aufnahme|artefakt: keine"""
    for texts, wanted in ((marks, True), (others, False)):
        found = {text.strip(): bool(re.fullmatch(artefacts.STANDARD, text.strip())) for text in texts.split("|")}
        assert found == dict.fromkeys(found, wanted)


def test_an_event_of_the_experiment_is_no_mark(tmp_path):
    """Pictures and sounds have names as marks have: "image/bad", "noise"."""
    session = inputs.Session("night", "sleep", tmp_path / "x.fif")
    noise = Rule(match="noise|toilet", item="kiwi", modality="cue")
    ignored = Rule(match="artefact", modality="ignore")
    settings = Events(rules=(*Events().rules, noise, ignored))
    texts = ["image/bad", "noise", "toilet", "audio/bad dream", "artefact", "MT"]
    given = mne.Annotations(np.arange(6.0), 0.0, texts)
    spans = artefacts.bad_spans(given, artefacts.STANDARD, 0.0, is_event=lambda t: event_of(t, session, settings))
    assert spans[:, 0].tolist() == [4, 5]


@pytest.mark.parametrize(("texts", "spans"), [
    (["pause", "x", "continue", "stage/N2"], [[10, 10], [10, 30]]),
    (["Recording paused", "Recording resumed", "pause", "x"], [[10, 10], [10, 20], [20, 20], [30, 30]]),
    (["continue", "pause", "pause", "Weiter"], [[20, 20], [30, 30], [30, 40]]),
    (["Aufnahme pausiert", "Aufnahme fortgesetzt", "x", "continue"], [[10, 10], [10, 20], [20, 20]]),
])  # fmt: skip
def test_a_pause_lasts_until_the_recording_goes_on(texts, spans):
    found = artefacts.bad_spans(mne.Annotations([10.0, 20, 30, 40], 0.0, texts), artefacts.STANDARD, 0.0)
    assert found.tolist() == spans


@pytest.mark.parametrize("names", [
    ("artéfact début", "artéfact fin"), ("inicio artefacto", "fin artefacto"), ("Movement starts", "Movement ends"),
    ("inizio artefatto", "fine artefatto"), ("Artefact begins", "Artefact stops"),
    ("début de l'artéfact", "fin de l'artéfact"),
    ("Artefact start", "Artefact end"), ("BAD_start", "BAD_end"), ("start pause", "stop pause"),
    ("Artefakt Anfang", "Artefakt Ende"), ("artifact on", "artifact off"),
])  # fmt: skip
def test_marks_of_start_and_end_are_one_span(names):
    first, last = names
    for texts, spans in {
        (first, last, first, last): [[10, 20], [30, 40]],
        (first, last, "bad", "stage/N2"): [[10, 20], [30, 30]],
    }.items():
        given = mne.Annotations([10.0, 20, 30, 40], 0.0, texts)
        assert artefacts.bad_spans(given, Rejection().artefacts, 0.0).tolist() == spans
    for texts, words in (((first,), "has no end after it"), ((last, first), "has no start before it"),
                         ((first, first, last), "has no")):  # fmt: skip
        with pytest.raises(UserError, match=rf"file: annotation ['\"].*['\"] at .* s {words}.*rejection.annotations"):
            artefacts.bad_spans(mne.Annotations(np.arange(len(texts)), 0.0, texts), Rejection().artefacts, 0.0, "file")


def test_a_mark_without_its_end_is_refused_before_the_computing(tmp_path):
    recordings.write(short_night.night(more=[(5.0, 0.0, "Artefakt Beginn")]), tmp_path / "lab/s1_night_raw.fif")
    record = prepare(tmp_path)["subjects"]["subject_test_0"]
    assert (record["status"], record["step"]) == ("failed", "events")
    assert "s1_night_raw.fif: annotation 'Artefakt Beginn' at 5.00 s has no end after it" in record["reason"]


def test_a_boundary_of_eeglab_is_a_moment_and_a_pattern_of_the_lab_s_own_counts():
    given = mne.Annotations([10.0, 20.0, 30.0], [60.0, 1.0, 1.0], ["boundary", "bad", "my mark"])
    assert artefacts.bad_spans(given, Rejection().artefacts, 0.0).tolist() == [[10, 10], [20, 21]]
    assert artefacts.bad_spans(given, Rejection(annotations="my .*").artefacts, 0.0).tolist() == [[30, 31]]
    assert not len(artefacts.bad_spans(given, Rejection(annotations=None).artefacts, 0.0))


def test_what_mne_would_reject_is_rejected(tmp_path):
    """The same trials as with mne.Epochs, whatever the texts."""
    rng = np.random.default_rng(1)
    texts = [*MARKS["MNE"], *KEPT, "BAD: jump", "Badger", "bad-segment", "xbad"]
    marks = [(float(rng.uniform(3, 55)), float(rng.uniform(0, 0.3)), text) for text in texts if text != "EDGE boundary"]
    raw = short_night.night(more=marks)
    cues = short_night.planted(raw).onset_s.to_numpy()
    events = np.column_stack([np.rint(cues * 500).astype(int), np.zeros(len(cues), int), np.ones(len(cues), int)])
    epochs = mne.Epochs(raw, events, tmin=-0.2, tmax=1.8, baseline=None, verbose="error").drop_bad(verbose="error")
    spans = artefacts.bad_spans(raw.annotations, Rejection().artefacts, 0.0)
    lost = [any(onset - 0.2 < end and onset + 1.8 > start for start, end in spans) for onset in cues]
    assert np.array_equal(epochs.selection, np.flatnonzero(~np.array(lost))) and 0 < sum(lost) < len(cues)


def test_marks_in_the_recording_count_beside_those_of_events_tsv(tmp_path):
    import mne_bids

    raw = short_night.night(more=[(50.5, 1.0, "artefact")])
    raw.info["line_freq"] = 50
    path = mne_bids.BIDSPath(subject="1", session="night", task="sleep", datatype="eeg", root=tmp_path / "lab")
    mne_bids.write_raw_bids(raw, path, format="BrainVision", allow_preload=True, verbose="error")
    with path.fpath.with_suffix(".vmrk").open("a", encoding="utf-8") as markers:
        markers.write("Mk900=Bad Interval,Bad Min-Max,10251,500,3\n")  # as BrainVision Analyzer marks them
    settings = load_settings(None, [*short_night.SETTINGS[:1], "split.test=[sub-1]", *short_night.SETTINGS[2:]])
    prepare_run.prepare(inputs.find_bids(tmp_path / "lab", settings), settings, tmp_path / "out")
    table = left(raw, [(20.5, 21.5), (50.5, 51.5)])
    assert planted_cues.check_trials(tmp_path / "out", table) == short_night.COUNT - 6


def write_edf(raw, path):
    """Write EDF+ whose umlauts are Latin-1."""
    raw = raw.copy()
    own = [text.replace("alarm", "W~cker").replace("apple", "K~ste") for text in raw.annotations.description]
    raw.annotations.description = np.array(own)
    path.parent.mkdir(parents=True, exist_ok=True)
    mne.export.export_raw(path, raw, verbose="error")
    for old, new in ((b"W~cker", b"W\xe4cker"), (b"K~ste", b"K\xe4ste")):
        path.write_bytes(path.read_bytes().replace(old, new))


ITEMS = "events.items={Wäcker: alarm, Käste: apple}"


def test_annotations_in_latin_1_are_read_by_a_setting(tmp_path):
    raw = short_night.night()
    write_edf(raw, tmp_path / "lab/s1_night.edf")
    record = prepare(tmp_path, ITEMS)["subjects"]["subject_test_0"]
    assert record["step"] == "opening" and "s1_night.edf: its annotations are no UTF-8 text" in record["reason"]
    assert "set recordings.encoding=latin1" in record["reason"]
    assert prepare(tmp_path, ITEMS, "recordings.encoding=latin1")["subjects"]["subject_test_0"]["status"] == "complete"
    assert planted_cues.check_trials(tmp_path / "out", short_night.planted(raw)) == short_night.COUNT
    assert Recording(tmp_path / "lab/s1_night.edf", "latin1").groups(["Fz"])[0].length == 30000


def test_markers_of_brainvision_in_latin_1_and_under_another_name(tmp_path):
    """A corrected marker file is another input whatever it is called."""
    raw = short_night.night()
    raw.annotations.description = np.array([t.replace("alarm", "W~cker") for t in raw.annotations.description])
    header = recordings.write(raw, tmp_path / "lab/s1_night.vhdr")
    markers = header.with_suffix(".vmrk")
    markers.rename(markers.with_name("other.vmrk")).write_bytes(
        markers.with_name("other.vmrk").read_bytes().replace(b"W~cker", b"W\xe4cker")
    )
    header.write_text(re.sub(r"MarkerFile=.*", "MarkerFile=other.vmrk", header.read_text(encoding="utf-8")), "utf-8")
    record = prepare(tmp_path, ITEMS)["subjects"]["subject_test_0"]
    assert "no UTF-8 text" in record["reason"] and "recordings.encoding=latin1" in record["reason"]
    prepare(tmp_path, ITEMS, "recordings.encoding=latin1")
    assert planted_cues.check_trials(tmp_path / "out", short_night.planted(short_night.night())) == short_night.COUNT
    settings = load_settings(None, short_night.SETTINGS)
    (source,) = inputs.find_recordings(str(header), settings)
    assert list(fingerprint(source.sessions[0], Recording(header, "latin1"), settings)["beside"]) == ["other.vmrk"]


@pytest.mark.parametrize(("lost", "words"), [
    ("_eeg.vmrk", "MarkerFile '.*' not found; no annotations"), ("_events.tsv", "there is no events.tsv beside it"),
])  # fmt: skip
def test_a_missing_marker_file_is_seen(tmp_path, caplog, lost, words):
    """At once, and at the end of the run; the cues are those of the other file, if that has any."""
    import mne_bids

    raw = short_night.night()
    raw.info["line_freq"] = 50
    path = mne_bids.BIDSPath(subject="1", session="night", task="sleep", datatype="eeg", root=tmp_path / "lab")
    mne_bids.write_raw_bids(raw, path, format="BrainVision", allow_preload=True, verbose="error")
    path.fpath.with_name(path.basename.removesuffix("_eeg") + lost).unlink()
    path.fpath.with_suffix(".txt").write_text("N2\nR\n")
    more = ["split.test=[sub-1]", "stages.source=file", "stages.file='{stem}.txt'"]
    settings = load_settings(None, [short_night.SETTINGS[0], *short_night.SETTINGS[2:], *more])
    record = prepare_run.prepare(inputs.find_bids(tmp_path / "lab", settings), settings, tmp_path / "out")
    record = record["subjects"]["subject_test_0"]
    assert record["status"] == "complete" and re.search(words, record["sessions"]["night_sleep"]["remarks"][0])
    assert any(re.search(words, r.getMessage()) for r in caplog.records if r.levelno == logging.WARNING)
    if lost == "_eeg.vmrk":
        table = short_night.planted(raw)
        table["stage"] = np.where(table.onset_s < 30, "N2", "R")
        assert planted_cues.check_trials(tmp_path / "out", table) == short_night.COUNT
