"""Gaps have their true length: what was recorded after a pause is where it was, whatever format holds it."""

import datetime
import re

import mne
import numpy as np
import planted_cues as planted
import pytest
import recordings
from scipy.io import savemat

from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.preparation import inputs, pauses, run
from sleep_interpreter.data.preparation.settings import load_settings
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.gaps import Gap, Timeline, of_annotations, of_records, without_kind
from sleep_interpreter.utils.signal.recording import Recording

GAPS = ((50.0, 97.0), (127.0, 131.0))
STAGED = ("stages.file='{stem}.txt'",)
BEGIN = datetime.datetime(2020, 3, 5, 23, 59, 10)
WINDOW = (-0.2, 1.8)


def kept(data, gaps, rate=planted.RATE):
    """Return the samples outside the gaps, and where (true s) each stored sample lies."""
    time = np.arange(data.shape[1]) / rate
    inside = np.ones(len(time), bool)
    for begin, end in gaps:
        inside &= (time < begin) | (time >= end)
    return data[:, inside], time[inside]


def outside(cues, gaps):
    """Return the cues at which something was recorded, and the rows of those whose trial reaches into a gap."""
    recorded, lost = np.ones(len(cues), bool), np.zeros(len(cues), bool)
    for begin, end in gaps:
        recorded &= ~((cues.onset_s >= begin) & (cues.onset_s < end)).to_numpy()
        lost |= ((cues.onset_s + WINDOW[0] < end) & (cues.onset_s + WINDOW[1] > begin)).to_numpy()
    return cues[recorded].reset_index(drop=True), np.flatnonzero(lost[recorded])


def edf_plus(path, raw, gaps, texts, kind="EDF+D", suffix=".edf", first=0.25, annotations_first=False):
    """Write EDF+ or BDF+ in records of 1 s without those in the gaps; texts are (true onset in s, text)."""
    rate, data = round(raw.info["sfreq"]), raw.get_data() * 1e6
    bdf = suffix == ".bdf"
    low, high = (-8388608, 8388607) if bdf else (-32768, 32767)
    digital = np.clip(np.rint((data + 300) / 600 * (high - low) + low), low, high).astype(np.int64)
    starts = [s for s in range(data.shape[1] // rate) if not any(a <= s < b for a, b in gaps)]
    tal = 120 // (3 if bdf else 2)
    names = [*raw.ch_names, "BDF Annotations" if bdf else "EDF Annotations"]
    order = [len(names) - 1, *range(len(names) - 1)] if annotations_first else list(range(len(names)))

    def fields(values, width):
        return "".join(str(values[k]).ljust(width) for k in order)

    n = len(names)
    header = ("\xffBIOSEMI" if bdf else "0".ljust(8)) + "X X X X".ljust(80) + "Startdate X X X X".ljust(80)
    header += f"{BEGIN:%d.%m.%y%H.%M.%S}" + str(256 * (n + 1)).ljust(8) + kind.ljust(44)
    header += str(len(starts)).ljust(8) + "1".ljust(8) + str(n).ljust(4)
    header += fields(names, 16) + fields([""] * n, 80) + fields(["uV"] * (n - 1) + [""], 8)
    header += fields([-300] * (n - 1) + [-1], 8) + fields([300] * (n - 1) + [1], 8)
    header += fields([low] * n, 8) + fields([high] * n, 8) + fields([""] * n, 80)
    header += fields([rate] * (n - 1) + [tal], 8) + fields([""] * n, 32)
    path = path.with_suffix(suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as handle:
        handle.write(header.encode("latin-1"))
        for start in starts:
            own = [f"+{start + first:g}\x14\x14\0"]
            own += [f"+{at + first:.4f}\x14{text}\x14\0" for at, text in texts if start <= at < start + 1]
            words = "".join(own).encode().ljust(tal * (3 if bdf else 2), b"\0")
            assert len(words) == tal * (3 if bdf else 2)
            blocks = []
            for row in digital[:, start * rate : (start + 1) * rate]:
                if bdf:
                    blocks.append((row & 0xFFFFFF).astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
                else:
                    blocks.append(row.astype("<i2").tobytes())
            for k in order:
                handle.write(words if k == n - 1 else blocks[k])
    return path


def brainvision(path, raw, gaps, texts, lost=False, dates=True):
    """Write BrainVision with markers "New Segment" behind the gaps; texts are (true onset in s, text)."""
    data, time = kept(raw.get_data(), gaps)
    stored = mne.io.RawArray(data, raw.info, verbose="error")
    recordings.write(stored, path.with_suffix(".vhdr"))
    rate = raw.info["sfreq"]

    def date(at):
        return f"{BEGIN + datetime.timedelta(seconds=at):%Y%m%d%H%M%S%f}" if dates else ""

    lines = [f"New Segment,,1,1,0,{date(0)}"]
    for _, end in gaps:
        place = int(np.searchsorted(time, end - 1e-6))
        missing = round((time[place] - time[place - 1]) * rate) - 1
        what = f"LostSamples: {missing}" if lost else ""
        lines.append(f"New Segment,{what},{place + 1},1,0" + ("" if lost else f",{date(end)}"))
    for at, text in texts:
        lines.append(f"Comment,{text},{int(np.searchsorted(time, at - 1e-6)) + 1},1,0")
    head = "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
    body = "".join(f"Mk{k + 1}={line}\n" for k, line in enumerate(lines))
    path.with_suffix(".vmrk").write_text(f"{head}DataFile={path.stem}.eeg\n\n[Marker Infos]\n{body}", encoding="utf-8")
    return path.with_suffix(".vhdr")


def eeglab(path, raw, gaps, texts, durations=True):
    """Write an EEGLAB file with events "boundary" where samples were taken out."""
    data, time = kept(raw.get_data() * 1e6, gaps)
    rate = raw.info["sfreq"]
    events = [(int(np.searchsorted(time, at - 1e-6)) + 1.0, 0.0, text) for at, text in texts]
    for begin, end in gaps:
        place = int(np.searchsorted(time, end - 1e-6))
        events.append((place + 0.5, (end - begin) * rate if durations else np.nan, "boundary"))
    events.sort(key=lambda event: event[0])
    dtype = [("latency", "O"), ("duration", "O"), ("type", "O")]
    locations = np.array([(name,) for name in raw.ch_names], dtype=[("labels", "O")])
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path.with_suffix(".set"), {"EEG": {
        "setname": "night", "nbchan": len(data), "trials": 1, "pnts": data.shape[1], "srate": rate, "xmin": 0.0,
        "xmax": data.shape[1] / rate, "data": data.astype(np.float32), "chanlocs": locations, "icawinv": [],
        "icasphere": [], "icaweights": [], "event": np.array(events, dtype=dtype), "epoch": [],
    }}, appendmat=False)  # fmt: skip
    return path.with_suffix(".set")


def fif_with_skips(path, raw, gaps, texts):
    """Write a FIF file in which nothing was acquired in the gaps."""
    raw = raw.copy()
    for begin, end in gaps:
        raw._data[:, round(begin * raw.info["sfreq"]) : round(end * raw.info["sfreq"])] = 0
    rows = [*((at, 0.0, text) for at, text in texts), *((a, b - a, "BAD_ACQ_SKIP") for a, b in gaps)]
    raw.set_annotations(mne.Annotations(*zip(*rows, strict=True)))
    return recordings.write(raw, path.with_name(f"{path.stem}_raw.fif"))


FORMS = {
    "EDF+D": edf_plus,
    "EDF+D, annotations first": lambda *a: edf_plus(*a, annotations_first=True, first=0.0),
    "EDF+C whose records state other times": lambda *a: edf_plus(*a, kind="EDF+C"),
    "BDF+D": lambda *a: edf_plus(*a, kind="BDF+D", suffix=".bdf"),
    "BrainVision, dates": brainvision,
    "BrainVision, lost samples": lambda *a: brainvision(*a, lost=True),
    "EEGLAB": eeglab,
    "FIF, skips": fif_with_skips,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the planted night, its cues, and the trials of a recording without gaps."""
    root = tmp_path_factory.mktemp("whole")
    raw, cues = planted.night(3)
    raw._data += np.array([[30], [-25], [50], [0]]) * 1e-6  # an offset, as amplifiers have it
    recordings.write(planted.with_annotations(raw.copy(), cues), root / "lab" / "s1_night_raw.fif")
    planted.complete(planted.prepare(root / "lab", root / "out"))
    return raw, cues, trials_of(root / "out")


def trials_of(out):
    """Return {onset in s: a trial} of the test subject."""
    found = {}
    for kind in ("N2N3", "REM"):
        (subject,) = read_test_subjects(out, kind)
        found |= dict(zip(subject.origin.onset_s.round(1), subject.sleep, strict=True))
    return found


def compare(out, cues, lost, expected):
    """Compare every cue with what was planted, and every trial with that of the recording without gaps."""
    planted.check(out, cues, lost=lost, within=0.005)
    for onset, trial in trials_of(out).items():
        r = np.corrcoef(trial.ravel(), expected[onset].ravel())[0, 1]
        assert r > 0.85, (onset, r)


def texts_of(cues, stages=True):
    rows = [(at, f"cue/{item}") for at, item in zip(cues.onset_s, cues["item"], strict=True)]
    return rows + ([(30.0 * k, f"stage/{s}") for k, s in enumerate(planted.STAGES)] if stages else [])


@pytest.mark.parametrize("form", FORMS)
def test_what_comes_after_a_gap_is_where_it_was(tmp_path, whole, form):
    raw, every, expected = whole
    cues, lost = outside(every, GAPS)
    path = FORMS[form](tmp_path / "lab" / "s1_night", raw, GAPS, texts_of(cues, stages=False))
    path.with_suffix(".txt").write_text("\n".join(planted.STAGES))  # longer than what was recorded
    record = planted.complete(planted.prepare(tmp_path / "lab", tmp_path / "out", *STAGED, pattern=path.name))
    assert abs(record["sessions"]["night"]["seconds"] - 180) < 0.01
    compare(tmp_path / "out", cues, lost, expected)
    if "skips" not in form:
        assert any("2 gaps of 51 s in all" in text for text in record["sessions"]["night"]["remarks"])
    stages = (tmp_path / "out/Prepared/subject_test_0/night/stages.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in stages]
    scored = sum(float(row[1]) for row in rows if row[2] != "-1")
    assert abs(scored - (180 - 51)) < 0.02, "what was not recorded is not scored"


def test_stages_and_cues_in_one_file_with_gaps(tmp_path, whole):
    raw, every, expected = whole
    cues, lost = outside(every, GAPS)
    texts = [(at if at not in (60.0, 90.0) else 97.0, text) for at, text in texts_of(cues)]
    texts = [row for row in texts if row[1] != "stage/N3"]
    edf_plus(tmp_path / "lab" / "s1_night", raw, GAPS, texts)
    out = tmp_path / "out"
    planted.complete(planted.prepare(tmp_path / "lab", out))
    planted.check(out, cues, lost=lost, within=0.005)
    assert set(trials_of(out)) <= set(expected)


@pytest.mark.parametrize("kind", ["EDF+D", "EDF+C"])
def test_a_file_that_only_may_hold_gaps_is_like_any_other(tmp_path, whole, kind):
    raw, cues, expected = whole
    path = edf_plus(tmp_path / "lab" / "s1_night", raw, (), texts_of(cues), kind)
    assert not Recording(path).timeline and Recording(path).notices == []
    record = planted.complete(planted.prepare(tmp_path / "lab", tmp_path / "out"))
    assert not any("gap" in text for text in record["sessions"]["night"]["remarks"])
    compare(tmp_path / "out", cues, (), expected)


def joined(path, raw, gaps, texts):
    """Write what MNE makes of two recordings put together, without what lay between them."""
    parts, rate = [], raw.info["sfreq"]
    ends = [0.0, *(time for gap in gaps for time in gap), raw.times[-1] + 1 / rate]
    for begin, end in zip(ends[::2], ends[1::2], strict=True):
        part = raw.copy().crop(begin, end, include_tmax=False)
        own = [(at - begin, text) for at, text in texts if begin <= at < end]
        part.set_annotations(mne.Annotations([at for at, _ in own], 0.0, [text for _, text in own]))
        parts.append(part)
    return recordings.write(mne.concatenate_raws(parts, verbose="error"), path.with_name(f"{path.stem}_raw.fif"))


def marked(kind, text):
    """Return a writer of BrainVision whose only mark of a splice is this one."""

    def write(path, raw, gaps, texts):
        path = brainvision(path, raw, gaps, texts)
        lines = path.with_suffix(".vmrk").read_text(encoding="utf-8").splitlines()
        lines = [re.sub(r"=New Segment,,(\d{2,}),(.*),\d+$", rf"={kind},{text},\1,\2", line) for line in lines]
        path.with_suffix(".vmrk").write_text("\n".join(lines), encoding="utf-8")
        return path

    return write


def exported(path, raw, gaps, texts):
    """Write what MNE makes of a joined recording that it exports to BrainVision: "Comment,BAD boundary"."""
    first = joined(path, raw, gaps, texts)
    more = mne.io.read_raw_fif(first, preload=True, verbose="error")
    first.unlink()
    mne.export.export_raw(path.with_suffix(".vhdr"), more, verbose="error")
    return path.with_suffix(".vhdr")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", [
    joined, lambda *a: brainvision(*a, dates=False), lambda *a: eeglab(*a, durations=False), exported,
    marked("Comment", "boundary"), marked("Stimulus", "boundary"), marked("Comment", "EDGE boundary"),
    marked("Marker", "BAD boundary"),
])  # fmt: skip
def test_a_gap_of_unknown_length_is_no_trial_and_no_place_for_a_guess(tmp_path, whole, form):
    """Cues in the file are where they are; a scoring beside it may be of the whole night, or of what is stored."""
    raw, every, _ = whole
    gaps = ((60.0, 120.0),)
    cues, _ = outside(every.assign(onset_s=every.onset_s + 1), gaps)  # one reaches into the gap
    path = form(tmp_path / "lab" / "s1_night", raw, gaps, texts_of(cues, stages=False))
    path.with_suffix(".txt").write_text("\n".join(planted.STAGES[:2] + planted.STAGES[4:]))
    (record,) = planted.prepare(tmp_path / "lab", tmp_path / "out", *STAGED, pattern=path.name)["subjects"].values()
    assert record["status"] == "failed" and "gaps of unknown length" in record["reason"]
    assert "recordings.gaps_in_tables" in record["reason"]
    more = (*STAGED, "recordings.gaps_in_tables=false")
    planted.complete(planted.prepare(tmp_path / "lab", tmp_path / "second", *more, pattern=path.name))
    behind = cues.onset_s > 60
    cues = cues.assign(onset_s=cues.onset_s - 60 * behind)
    lost = [k for k, at in enumerate(cues.onset_s) if at + WINDOW[0] < 60 < at + WINDOW[1]]
    assert lost
    planted.check(tmp_path / "second", cues, lost=lost, within=0.005)


@pytest.mark.parametrize("counted", [True, False])
def test_a_table_of_events_counts_the_gaps_or_not_but_is_not_guessed(tmp_path, whole, counted):
    """An events.tsv of a BIDS folder, for recordings of which both can be."""
    raw, every, _ = whole
    gaps = ((97.0, 101.0),)
    cues, lost = outside(every, gaps)
    cues, lost = cues[cues.onset_s < 170], lost  # no event near the end tells
    root = tmp_path / "bids"
    place = root / "sub-1" / "ses-night" / "eeg"
    place.mkdir(parents=True)
    name = "sub-1_ses-night_task-sleep"
    edf_plus(place / f"{name}_eeg", raw, gaps, [])
    onset = cues.onset_s - (0 if counted else 4.0) * (cues.onset_s > 97)
    texts = [f"cue/{item}" for item in cues["item"]]
    rows = [*zip(onset, texts, strict=True)]
    rows += [(30.0 * k - (0 if counted else 4.0) * (k > 3), f"stage/{s}") for k, s in enumerate(planted.STAGES)]
    lines = [f"{at:.4f}\tn/a\t{text}" for at, text in sorted(rows)]
    (place / f"{name}_events.tsv").write_text("\n".join(["onset\tduration\ttrial_type", *lines]) + "\n")
    channels = [f"{n}\tEEG\tuV" for n in raw.ch_names]
    (place / f"{name}_channels.tsv").write_text("\n".join(["name\ttype\tunits", *channels]) + "\n")

    def prepare(out, *more):
        settings = load_settings(None, [*planted.SETTINGS, "split.test=[sub-1]", *more])
        return run.prepare(inputs.find_bids(root, settings), settings, out)

    if counted:  # what skips the gaps shows it here: an event lies in one
        record = prepare(tmp_path / "first")["subjects"]["subject_test_0"]
        assert record["status"] == "failed" and "may count them or not" in record["reason"], record
    said = f"recordings.gaps_in_tables={str(counted).lower()}"
    planted.complete(prepare(tmp_path / "out", said))
    planted.check(tmp_path / "out", cues, session="night_sleep", lost=lost, within=0.005)


def test_a_bids_table_without_durations_is_read(tmp_path, whole):
    raw, cues, expected = whole
    place = tmp_path / "bids" / "sub-1" / "ses-night" / "eeg"
    place.mkdir(parents=True)
    name = "sub-1_ses-night_task-sleep"
    edf_plus(place / f"{name}_eeg", raw, (), [])
    lines = [f"{at}\t{text}" for at, text in sorted(texts_of(cues))]
    (place / f"{name}_events.tsv").write_text("\n".join(["onset\ttrial_type", *lines]) + "\n")
    (place / f"{name}_channels.tsv").write_text("name\ttype\tunits\tstatus\nFz\tEEG\tuV\tgood\nCz\tEEG\tuV\tbad\n")
    settings = load_settings(None, [*planted.SETTINGS, "split.test=[sub-1]"])
    (source,) = inputs.find_bids(tmp_path / "bids", settings)
    found, status = inputs.bids_details(source.sessions[0], Recording(source.sessions[0].path))
    assert [name for name, bad in status.items() if bad] == ["Cz"] and len(found) == len(lines)
    (place / f"{name}_channels.tsv").unlink()
    planted.complete(run.prepare([source], settings, tmp_path / "out"))
    planted.check(tmp_path / "out", cues, session="night_sleep", within=0.005)
    assert set(trials_of(tmp_path / "out")) == set(expected)


def records_that_overlap(path, raw):
    edf_plus(path, raw, (), [], kind="EDF+D")
    text = path.with_suffix(".edf").read_bytes().replace(b"+100.25\x14", b"+090.25\x14")
    path.with_suffix(".edf").write_bytes(text)
    return path.with_suffix(".edf"), r"record 101 begins 10 s before the end of the one before it"


def records_without_a_time(path, raw):
    edf_plus(path, raw, (), [], kind="EDF+D")
    text = path.with_suffix(".edf").read_bytes().replace(b"+100.25\x14", b"\0\0\0\0\0\0\0\0")
    path.with_suffix(".edf").write_bytes(text)
    return path.with_suffix(".edf"), r"record 101 does not state its time"


def a_clock_that_was_set_back(path, raw):
    brainvision(path, raw, ((50.0, 97.0),), [])
    marks = path.with_suffix(".vmrk")
    late = f"{BEGIN + datetime.timedelta(seconds=97):%Y%m%d%H%M%S}"
    early = f"{BEGIN - datetime.timedelta(seconds=3503):%Y%m%d%H%M%S}"
    marks.write_text(marks.read_text().replace(late, early))
    return path.with_suffix(".vhdr"), r"begins 3553 s before the end of the one before it; was the clock set back\?"


def cut_into_segments(path, raw):
    brainvision(path, raw, (), [])
    header = path.with_suffix(".vhdr")
    header.write_text(header.read_text().replace("[Binary Infos]", "SegmentationType=MARKERBASED\n\n[Binary Infos]"))
    return header, r"was cut into segments \(MARKERBASED\)"


@pytest.mark.parametrize("fault", [
    records_that_overlap, records_without_a_time, a_clock_that_was_set_back, cut_into_segments,
])  # fmt: skip
def test_times_that_cannot_be_are_refused_with_their_place(tmp_path, whole, fault):
    path, words = fault(tmp_path / "s1_night", whole[0])
    with pytest.raises(UserError, match=words):
        Recording(path)


@pytest.mark.parametrize("declared", [True, False])
def test_the_rounding_of_a_header_is_no_gap(declared):
    """A length of a record has 8 characters, so that its sum is off after thousands of records."""
    begins = np.round(np.arange(30000) * 255 / 256, 4)
    assert of_records(begins.tolist(), 0.996093, declared, "a.edf") == []
    begins[9000:] += 2.5
    ((stored, seconds),) = of_records(begins.tolist(), 0.996093, declared, "a.edf")
    assert stored == 9000 * 0.996093 and seconds == pytest.approx(2.5, abs=2e-4)


def test_a_timeline_counts_both_ways():
    line = Timeline([Gap(10.0, 5.0), Gap(20.0, None), Gap(30.0, 2.0)], 100.0, 40.0)
    assert line.seconds == 47 and not line.known
    assert line.spans.tolist() == [[10, 15], [25, 25], [35, 37]]
    assert line.true(np.array([9.99, 10, 19.99, 20, 30, 39])).tolist() == [9.99, 15, 24.99, 25, 37, 46]
    assert line.stretches(100.0, 4000) == [(0, 0, 1000), (1500, 1000, 1000), (2500, 2000, 1000), (3700, 3000, 1000)]
    assert line.stretches(50.0, 2000)[1] == (750, 500, 500)
    known = Timeline([Gap(10.0, 5.0)], 100.0, 40.0)
    late = np.array([5.0, 44.0])
    assert pauses.events_in_time(late, known, None, "t").tolist() == [5, 44]  # only with the gap
    inside = np.array([5.0, 12.0, 30.0])
    assert pauses.events_in_time(inside, known, None, "t").tolist() == [5, 17, 35]  # nothing happens in a gap
    with pytest.raises(UserError, match=r"t: the recording has gaps of 5 s, and the times fit neither"):
        pauses.events_in_time(np.array([12.0, 44.0]), known, None, "t")


def test_a_mark_at_a_gap_of_known_length_adds_none():
    marks = mne.Annotations([50.0, 80.0], 0.0, ["Comment/BAD boundary", "Stimulus/boundary"])
    found = of_annotations(marks, 0.0, 250.0, [Gap(50.004, 47.0)])
    assert found == [Gap(50.004, 47.0), Gap(80.0, None)]
    assert of_annotations(mne.Annotations([50.0], 0.0, ["cue/boundary"]), 0.0, 250.0) == []
    assert without_kind("Comment/BAD_ACQ_SKIP") == "BAD_ACQ_SKIP"
