"""A whole cohort: one who fails stops nobody, a failed run blocks nothing; rules by session and run."""

import json
import os
import shutil
import zlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import planted_cues
import pytest
import recordings
import short_night

from sleep_interpreter.data import prepare as prepare_script
from sleep_interpreter.data.preparation import inputs
from sleep_interpreter.data.preparation import run as prepare_run
from sleep_interpreter.data.preparation import subject as prepare_subject
from sleep_interpreter.data.preparation.settings import load_settings
from sleep_interpreter.utils.core.errors import UserError


@pytest.fixture(scope="module")
def raw():
    return short_night.night()


def prepare(folder, *more, change=None, **options):
    settings = load_settings(None, [*short_night.SETTINGS, *more])
    sources = inputs.find_recordings(f"{folder}/lab/*", settings)
    return prepare_run.prepare([*map(change or (lambda s: s), sources)], settings, folder / "out", **options)


def lab(folder, *names):
    """Write nights that are cued alike, each with an EEG of its own: copies would be refused."""
    for name in names:
        recordings.write(short_night.night(zlib.crc32(name.encode())), folder / "lab" / f"{name}_raw.fif")


def test_one_who_fails_is_named_and_stops_nobody(raw, tmp_path):
    lab(tmp_path, "s1_night", "s3_nihgt")
    (tmp_path / "lab/s2_night_raw.fif").write_bytes(b"no recording")
    (tmp_path / "lab/s4_night.edf").write_bytes(b"0".ljust(184) + b"not a number".ljust(72))
    wrong = raw.copy()
    wrong.annotations.description[5] = "cue/nothing of the kind"
    recordings.write(wrong, tmp_path / "lab/s5_night_raw.fif")
    still = raw.copy()
    still._data[3] = np.nan
    recordings.write(still, tmp_path / "lab/s6_night_raw.fif")
    recordings.write(raw.copy().pick(["Fz", "C4"]), tmp_path / "lab/s7_night_raw.fif")
    pattern = r"recordings.pattern=(?P<subject>s\d)_(?P<session>[a-z]+)"
    manifest = prepare(tmp_path, pattern)
    assert planted_cues.check_trials(tmp_path / "out", short_night.planted(raw)) == short_night.COUNT
    found = {record["source"]: record for record in manifest["subjects"].values()}
    assert {name: (own["status"], own.get("step")) for name, own in found.items()} == {
        "s1": ("complete", None), "s2": ("failed", "opening"), "s3": ("failed", "finding its recordings"),
        "s4": ("failed", "opening"), "s5": ("failed", "events"), "s6": ("failed", "reading"),
        "s7": ("failed", "channels"),
    }  # fmt: skip
    assert "session 'nihgt' is none of recordings.sessions" in found["s3"]["reason"]
    assert json.loads((tmp_path / "out/manifest.json").read_text())["subjects"].keys() == manifest["subjects"].keys()
    said = prepare_run.summary_lines(manifest, tmp_path / "out")
    assert [line.partition(")")[0][-2:] for line in said if "FAILED at" in line] == [f"s{k}" for k in range(2, 8)]
    assert "FAILED at 'events' of night: " in said[-4] and said[-1].startswith("prepared: 1 of 7 subjects")

    # mended: the others are prepared, and the one that is there stays as it is
    for name in ("s2", "s5"):
        lab(tmp_path, f"{name}_night")
    for name in ("s3_nihgt_raw.fif", "s4_night.edf", "s6_night_raw.fif", "s7_night_raw.fif"):
        (tmp_path / "lab" / name).unlink()
    record = tmp_path / "out/Prepared/subject_test_0/subject.json"
    before = record.stat().st_mtime_ns
    manifest = prepare(tmp_path, pattern)
    assert record.stat().st_mtime_ns == before
    assert {own["source"]: own["status"] for own in manifest["subjects"].values()} == dict.fromkeys(
        ("s1", "s2", "s5"), "complete"
    )


def test_a_fault_of_all_is_said_before_the_work(tmp_path):
    lab(tmp_path, "s1_nihgt", "s2_nihgt")
    with pytest.raises(UserError, match=r"session 'nihgt' is none of recordings\.sessions"):
        prepare(tmp_path, r"recordings.pattern=(?P<subject>s\d)_(?P<session>[a-z]+)")
    assert not (tmp_path / "out").exists()


@dataclass(frozen=True)
class Killed(inputs.Source):
    """A subject whose process ends as if the system had killed it."""

    def __reduce__(self):
        return os._exit, (9,)


def test_a_process_that_is_killed_takes_nobody_along(tmp_path):
    lab(tmp_path, "s0_night")
    recordings.write(recordings.wake(names=short_night.NAMES), tmp_path / "lab/s1_wake_raw.fif")
    at = tmp_path / "out/.unfinished/subject_0" / prepare_subject.STEP
    at.parent.mkdir(parents=True)
    at.write_text('{"step": "ICA", "session": "wake"}')
    manifest = prepare(tmp_path, change=lambda s: Killed(s.name, s.sessions) if s.name == "s0" else s, jobs=2)
    lost, done = manifest["subjects"]["subject_0"], manifest["subjects"]["subject_test_0"]
    assert done["status"] == "complete" and done["per_item"]["image"] == [1] * 15
    assert (lost["status"], lost["step"], lost["session"]) == ("failed", "ICA", "wake")
    assert "was killed (out of memory?), the other subjects went on" in lost["reason"]
    assert "subject_0 (s0) FAILED at 'ICA' of wake" in prepare_run.summary_lines(manifest, tmp_path)[-2]


def test_the_command_ends_with_1_when_somebody_failed(raw, tmp_path, capsys):
    lab(tmp_path, "s1_night")
    (tmp_path / "lab/s2_night_raw.fif").write_bytes(b"no recording")
    prepare(tmp_path)
    options = [argument for setting in short_night.SETTINGS for argument in ("--set", setting)]
    recordings_ = f"{tmp_path}/lab/*"
    arguments = ["--recordings", recordings_, "--out", str(tmp_path / "out"), *options]
    assert prepare_script.main(arguments) == 1
    assert "FAILED at 'opening'" in capsys.readouterr().out.splitlines()[-2]
    (tmp_path / "lab/s2_night_raw.fif").unlink()
    assert prepare_script.main(arguments) == 0


def fails_with_an_unknown_item(folder, monkeypatch):
    prepare(folder, "events.rules=[{match: 'cue/(?P<item>al)arm', modality: cue}]")


def fails_for_want_of_trials(folder, monkeypatch):
    prepare(folder, "events.rules=[{match: 'nothing', item: alarm, modality: image}]", "stages.source=annotations",
            "stages.annotation=no (?P<stage>.+)")  # fmt: skip


def ends_when_its_files_are_in_place(folder, monkeypatch):
    """All but the record, which is written last; with settings that give one file more."""

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare_subject, "_finished", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(folder, "outputs.continuous=test")
    assert [*folder.glob("out/Prepared/*/*/eeg.npy")]


def is_shown_by_a_file_manager(folder, monkeypatch):
    (folder / "out").mkdir()
    for name in (".DS_Store", "Thumbs.db"):
        (folder / "out" / name).touch()


def finds_the_wrong_files(folder, monkeypatch):
    shutil.copy(folder / "lab/s1_night_raw.fif", folder / "lab/s9_night_raw.fif")
    (folder / "lab/s9_night_raw.fif").write_bytes(b"")
    prepare(folder, only=["s9"])
    (folder / "lab/s9_night_raw.fif").unlink()


@pytest.mark.parametrize("first", [
    fails_with_an_unknown_item, fails_for_want_of_trials, ends_when_its_files_are_in_place, is_shown_by_a_file_manager,
    finds_the_wrong_files,
])  # fmt: skip
def test_a_first_run_that_came_to_nothing_does_not_block_its_folder(raw, tmp_path, monkeypatch, first):
    lab(tmp_path, "s1_night")
    first(tmp_path, monkeypatch)
    manifest = prepare(tmp_path)
    assert {name: own["status"] for name, own in manifest["subjects"].items()} == {"subject_test_0": "complete"}
    assert planted_cues.check_trials(tmp_path / "out", short_night.planted(raw)) == short_night.COUNT
    listed = {tmp_path / "out" / name for name in manifest["subjects"]["subject_test_0"]["files"]}
    known = {"manifest.json", "dataset.yaml", "subject.json", "Whole_label_data.pickle", ".DS_Store", "Thumbs.db"}
    assert {p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name not in known} == listed


def test_a_manifest_of_something_else_stays(tmp_path):
    lab(tmp_path, "s1_night")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/manifest.json").write_text('["an app"]')
    with pytest.raises(UserError, match="is no manifest of a preparation"):
        prepare(tmp_path)
    assert (tmp_path / "out/manifest.json").read_text() == '["an app"]'


def test_who_became_a_test_subject_is_one_unless_prepared_before(tmp_path):
    """participants.tsv got its column after a first run that failed, and after one that did not."""
    lab(tmp_path, "s1_night")
    good = (tmp_path / "lab/s1_night_raw.fif").read_bytes()
    (tmp_path / "lab/s1_night_raw.fif").write_bytes(b"no recording")
    alone = ("split.test=[]", "split.test_share=0")
    assert prepare(tmp_path, *alone)["names"] == {"s1": "subject_0"}
    (tmp_path / "lab/s1_night_raw.fif").write_bytes(good)
    manifest = prepare(tmp_path, *alone, change=lambda s: replace(s, test=True))
    assert manifest["names"] == {"s1": "subject_test_0"} and list(manifest["subjects"]) == ["subject_test_0"]
    with pytest.raises(UserError, match="s1 is the test subject subject_test_0 of this folder already"):
        prepare(tmp_path, *alone, change=lambda s: replace(s, test=False))


def coded(night, path, first):
    """Write a night whose cues are numbers from 11 on; the items begin with number `first`."""
    raw = night.copy()
    raw._data = short_night.night(zlib.crc32(path.name.encode())).get_data()
    own = raw.annotations.description.tolist()
    items = dict.fromkeys(text for text in own if text.startswith("cue/"))
    codes = {text: f"S {11 + (k - first) % 9}" for k, text in enumerate(items)}
    raw.set_annotations(raw.annotations.copy())
    raw.annotations.description = np.array([codes.get(text, text) for text in own])
    recordings.write(raw, path)
    return [text.removeprefix("cue/") for text in items]


RUNS = r"recordings.pattern=(?P<subject>s\d)_(?P<session>night|nap)(?:_run(?P<run>\d+))?"


@pytest.mark.parametrize("way", ["rules", "table", "a session's rules before those of any", "session and run"])
def test_rules_of_a_session_and_a_run(raw, tmp_path, way):
    """The same codes mean other items in the second recording."""
    second = "s1_nap" if "session's" in way else "s1_night_run2"
    items = coded(raw, tmp_path / "lab/s1_night_run1_raw.fif", 0)
    coded(raw, tmp_path / f"lab/{second}_raw.fif", 4)
    own = {"rules": {"run": "2"}, "table": {"run": "02"}, "session and run": {"session": "night", "run": "2"}}
    which = own.get(way, {"session": "nap"})
    late = [{"code": 11 + k, "item": items[(k + 4) % 9], "modality": "cue", **which} for k in range(9)]
    early = [{"code": 11 + k, "item": items[k], "modality": "cue"} for k in range(9)]
    if way == "table":
        rows = [*early, *late]  # a table puts those of a run first by itself
        pd.DataFrame(rows).to_csv(tmp_path / "triggers.csv", index=False)
        settings = (f"events.table={tmp_path / 'triggers.csv'}",)
    else:
        settings = (f"events.rules={json.dumps([*late, *early])}",)
    manifest = prepare(tmp_path, RUNS, *settings)
    assert manifest["subjects"]["subject_test_0"]["counts"]["N2N3"] > 70
    for name in ("s1_night_run1_raw.fif", f"{second}_raw.fif"):
        (table,) = [
            table
            for path in (tmp_path / "out").glob("Prepared/*/*/cues.tsv")
            if (table := pd.read_csv(path, sep="\t")).recording[0] == name
        ]
        assert table["item"].tolist() == short_night.planted(raw)["item"].tolist()


@pytest.mark.parametrize(("rules", "words"), [
    ([{"run": 3}], "no recording is of the run '3'; there are 1, 2"),
    ([{"session": "nap", "run": 1}], "no recording of the session 'nap' is of the run '1'; none says its run"),
    ([{}, {"run": 2, "item": "apple"}], r"events.rules\[1\] never applies: events.rules\[0\] comes first"),
    ([{"session": "night"}, {"session": "Night", "run": 1, "item": "apple"}], "never applies"),
    ([{"session": "nigt"}], "no recording is of the session 'nigt'; did you mean 'night'"),
])  # fmt: skip
def test_rules_that_would_never_apply_are_refused(tmp_path, rules, words):
    lab(tmp_path, "s1_night_run1", "s1_night_run2", "s1_nap")
    whole = [{"code": 1, "item": "alarm", "modality": "cue"} | rule for rule in rules]
    with pytest.raises(UserError, match=words):
        prepare(tmp_path, RUNS, f"events.rules={json.dumps(whole)}")


def test_minutes_are_those_of_the_recording(raw, tmp_path):
    """A scoring that begins before the recording and goes on behind its end."""
    scored = raw.copy()
    scored.set_annotations(raw.annotations[[text.startswith("cue") for text in raw.annotations.description]])
    recordings.write(scored, tmp_path / "lab/s1_night_raw.fif")
    rows = [(-10, 40, "N2"), (30, 10, "N2"), (40, 40, "REM"), (80, 20, "W")]
    lines = ["onset\tduration\tstage", *("\t".join(map(str, row)) for row in rows)]
    (tmp_path / "lab/s1_night_raw.tsv").write_text("\n".join(lines) + "\n")
    record = prepare(tmp_path, "stages.file='{stem}.tsv'")["subjects"]["subject_test_0"]
    assert record["sessions"]["night"]["minutes"] == {"W/N1": 0.0, "N2": 0.7, "N3": 0.0, "R": 0.3}
    assert planted_cues.check_trials(tmp_path / "out", short_night.planted(raw)) == short_night.COUNT
