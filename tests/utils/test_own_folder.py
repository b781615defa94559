"""Folders of somebody else: nothing that they say or hold leads out of them."""

import json
import os

import mne
import numpy as np
import pytest
import yaml

from sleep_interpreter.data.preparation import run as preparation
from sleep_interpreter.data.preparation.settings import load_settings
from sleep_interpreter.data.preparation.subject import read_record
from sleep_interpreter.lasso_glm.engine import run as lasso
from sleep_interpreter.realtime.Recording import session_about
from sleep_interpreter.realtime.Recording.session_recording import segments
from sleep_interpreter.realtime.Report.session_data import load_session
from sleep_interpreter.train.engine.run_folder import lock_members
from sleep_interpreter.train.evaluation.sliding_decoder import read_night
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import inside, own_folder
from sleep_interpreter.utils.core.provenance import parse_json, read_json, require_json
from sleep_interpreter.utils.signal.recording import Recording

LINKS = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
OUTSIDE = (
    "../mine.txt", "a/../../mine.txt", "/etc/passwd", "C:\\mine.txt", "C:mine.txt", "\\\\server\\share\\mine.txt",
    "..\\mine.txt", "\\mine.txt", "", ".", "./", "a\0b", "a\nb", "\ud800", "x" * 5000, 5, None, ["a"],
)  # fmt: skip
"""Names that are none of a file in the folder, here or on another system."""


@pytest.mark.parametrize("name", OUTSIDE, ids=lambda name: ascii(name)[:20])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"manifest\.json: names .* and that is none"):
        inside(tmp_path / "out", name, "manifest.json")


def test_a_name_below_the_folder_is_its_path(tmp_path):
    for name in ("manifest.json", "SI Main Test/subject_test_0/N2N3_data.pickle", "a..b/Größe µV.tsv", "P1:night.tsv"):
        assert inside(tmp_path, name, "manifest.json") == tmp_path / name


@LINKS
def test_links_inside_stay_and_links_out_of_the_folder_are_refused(tmp_path):
    mine, own = tmp_path / "mine", tmp_path / "own"
    (own / "a").mkdir(parents=True)
    mine.mkdir()
    (own / "a" / "file").write_text("x")
    (own / "b").symlink_to("a/file")
    (tmp_path / "to_own").symlink_to(own)
    assert own_folder(tmp_path / "to_own") == tmp_path / "to_own" and own_folder(tmp_path / "absent")
    for link, target in (("l", mine), ("a/l", mine / "absent"), ("a/m", "../.."), ("r", "r")):
        (own / link).symlink_to(target)
        if link != "r":  # a link to itself leads nowhere; who opens it is told by the system
            with pytest.raises(UserError, match="leads out of its folder"):
                own_folder(own)
            with pytest.raises(UserError, match="names"):
                inside(own, f"{link}/x", "manifest.json")
        (own / link).unlink()
    os.mkfifo(own / "a" / "log.jsonl")
    with pytest.raises(UserError, match="neither a file nor a folder"):
        own_folder(own)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": NaN}', '{"a": 1e999}', '{"a": -Infinity}', '"\\ud800"', "1" * 5000, "", "\ufeff{}"],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_json_that_could_not_be_written_again_is_none(tmp_path, text):
    with pytest.raises(ValueError):
        parse_json(text)
    path = tmp_path / "subject.json"
    path.write_text(text, encoding="utf-8")
    assert read_json(path) == {}
    with pytest.raises(UserError, match=r"subject\.json: no readable JSON .*; remove it"):
        require_json(path, "remove it")
    assert parse_json('"\\ud83d\\ude00 \\\\ud800"') == "\U0001f600 \\ud800"


def test_json_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "session.json"
    with path.open("wb") as handle:
        handle.truncate(20 * 2**30)
    assert read_json(path) == {}


RECORD = {
    "source": "s0", "status": "complete", "simulated": True, "counts": {}, "notes": [], "sessions": {}, "seconds": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"subjects": {"subject_0": {**RECORD, "files": {"../mine.txt": {}}}}}, "names '../mine.txt'"),
        ({"subjects": {"subject_0": {**RECORD, "files": ["a"]}}}, "files is no mapping"),
        ({"subjects": {"../..": RECORD}}, "no subject of the layout"),
        ({"names": {"s0": "/home"}}, "no subject of the layout"),
        ({"names": {"s0": 5}}, "no subject of the layout"),
        ({"subjects": {"subject_0": {"status": "complete"}}}, "missing or unknown"),
        ({"subjects": {"subject_0": 5}}, "missing or unknown"),
        ({"subjects": []}, "no manifest"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_manifest_removes_and_writes_nothing_outside(tmp_path, changed, said, force):
    mine, out = tmp_path / "mine.txt", tmp_path / "out"
    mine.write_text("mine")
    out.mkdir()
    manifest = {"settings_sha256": "other", "subjects": {"subject_0": RECORD}, "names": {"s0": "subject_0"}, **changed}
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=said):
        preparation.prepare([], load_settings(None, []), out, force=force)
    assert mine.read_text() == "mine" and [path.name for path in out.iterdir()] == ["manifest.json"]


def test_a_record_of_a_subject_names_its_own_files_alone(tmp_path):
    record = tmp_path / "Prepared" / "subject_0" / "subject.json"
    record.parent.mkdir(parents=True)
    for status in ("complete", "unfinished"):
        record.write_text(json.dumps({"status": status, "files": {"/etc/passwd": {"bytes": 1}}}))
        with pytest.raises(UserError, match=r"subject\.json: names '/etc/passwd'"):
            read_record(tmp_path, "subject_0")
    record.write_text(json.dumps({"status": "complete", "files": {"Prepared/subject_0/subject.json": 5}}))
    assert read_record(tmp_path, "subject_0") is None


@LINKS
def test_every_reader_of_such_a_folder_looks(tmp_path, call_script):
    """Sessions, runs, prepared nights and what is prepared or simulated into a folder, each with a link in it."""
    mine = tmp_path / "mine"
    mine.mkdir()
    folder = tmp_path / "own"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "link").symlink_to(mine)
    for name, content in (("settings.yaml", {}), ("session.json", {}), ("log.jsonl", {})):
        (folder / name).write_text(yaml.safe_dump(content) if name.endswith("yaml") else "{}")
    readers = (
        lambda: load_session(folder),
        lambda: segments(folder),
        lambda: lock_members(folder, [0]),
        lambda: read_night(folder),
        lambda: lasso.run(None, None, {}, mine, folder, None),
        lambda: preparation.prepare([], load_settings(None, []), folder),
    )
    for reader in readers:
        with pytest.raises(UserError, match="leads out of its folder"):
            reader()
    for flag in ("--resume", "--session"):
        code, said = call_script("realtime/Main_Decode.py", flag, folder)
        assert code == 2 and "leads out of its folder" in said
    assert not list(mine.iterdir())


def test_a_session_shows_no_recording_but_the_one_that_it_replayed(tmp_path):
    path = tmp_path / "nap_raw.fif"
    raw = mne.io.RawArray(np.ones((1, 500)), mne.create_info(["C4"], 100, "eeg"), verbose="error")
    raw.save(path, verbose="error")
    own = Recording(path).fingerprint()
    assert session_about.replayed_file({"recording": {**own, "path": str(path)}}) == path
    for other in ({}, {"bytes": own["bytes"]}, {**own, "sha256": "0"}, {**own, "bytes": 1}):
        with pytest.raises(UserError, match="not the recording that the session replayed"):
            session_about.replayed_file({"recording": {**other, "path": str(path)}})
    for nowhere in (
        {},
        {"recording": {"path": 5}},
        {"recording": {"path": "a\0b"}},
        {"recording": {"path": "/absent"}},
        {"recording": {"path": "x" * 5000}},
        {"recording": {"path": "\udce9"}},
    ):
        assert session_about.replayed_file(nowhere) is None


@pytest.mark.parametrize(
    "content",
    [
        {"ending": 5}, {"subject": "me"}, {"recording": []}, {"started": "2026-01-01"}, {"channels": [1]},
        {"simulated": "maybe"},
    ],
    ids=str,
)  # fmt: skip
def test_what_no_session_writes_is_refused_or_left_out(tmp_path, content):
    (tmp_path / "session.json").write_text(json.dumps({"seed": 1, **content}))
    with pytest.raises(UserError, match=f"{next(iter(content))} is missing, or no session wrote it"):
        session_about.require_about(tmp_path)
    assert session_about.about(tmp_path) == {"seed": 1}
