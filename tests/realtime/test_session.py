"""Whole sessions on real files, in this process."""

import os
import threading

import mne
import numpy as np
import pandas as pd
import pytest
import soundfile

from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Report.summary import summary_lines
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import published

from .conftest import BAD_CUE, CUES, RATE, SECONDS, of, read_session, timeless

EEG_MONTAGE, ITEMS = published().channels, published().item_names


@pytest.fixture(scope="module")
def whole(main, recording, flags, tmp_path_factory):
    """A session on the whole recording; read only."""
    out = tmp_path_factory.mktemp("whole")
    code = main(["--recording", str(recording), "--out", str(out), "--subject", "s1", *flags])
    return read_session(out / "s1" / "session_001", code)


def test_a_session_keeps_the_rules(whole):
    result = whole
    assert result.code == 0
    stages, cues, decodes = (of(result, e) for e in ("stage", "cue", "decode"))
    assert {e["detail"]["stage"] for e in stages} == {"N2"}
    # the estimate of the first 30 s counts a second later, whatever computing it took
    assert [(e["sample"], e["code"]) for e in of(result, "group")] == [(15500, 91), (30000, 90)]
    assert of(result, "gate")[0]["sample"] == 15500 == stages[0]["detail"]["taken"]
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
        expected += [s for s in (inside or [sample]) if s + 500 <= SECONDS * RATE]  # answered 1 s later
    assert [e["sample"] for e in stages] == expected
    assert set(expected) - set(due), "no staging was ever due within a response: the test shows nothing"
    assert result.summary["accuracy"] is None and "neither right nor wrong" in result.summary["accuracy_note"]
    assert result.about["counts"]["cue"] == len(cues) == result.summary["cues"]["total"]
    assert sum(result.summary["cues"]["per_item"].values()) == result.summary["cues"]["per_stage"]["N2"] == len(cues)
    assert sum(result.summary["stage_minutes"].values()) == pytest.approx(SECONDS / 60, abs=0.01)


def test_the_folder_is_complete_and_readable(whole):
    result = whole
    names = {p.name for p in result.folder.iterdir()}
    assert names == {
        "settings.yaml", "session.json", "log.jsonl", "log.tsv", "hypnogram.tsv", "sounds", "cues.flac",
        "session.png", "summary.json", "report.html", "cues.tsv", "predictions.csv",
    }  # fmt: skip
    assert {p.stem for p in (result.folder / "sounds").iterdir()} == set(ITEMS)
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
    onsets = [e["sample"] * rate / RATE for e in of(result, "cue")]
    assert len(starts) == len(onsets)
    assert np.all(starts - onsets >= 0) and np.all(starts - onsets <= 2 * rate / RATE)  # the fade begins at zero
    assert (result.folder / "session.png").stat().st_size > 10_000


def test_decodes_and_cues_carry_the_same_ids(whole):
    cues = pd.read_csv(whole.folder / "cues.tsv", sep="\t")
    decodes = pd.read_csv(whole.folder / "predictions.csv")
    heard = of(whole, "cue")
    assert cues.cue_id.is_unique and cues.onset_sample.tolist() == [e["sample"] for e in heard]
    assert cues.cue_id.iloc[0] == f"s1_{whole.folder.name}_{heard[0]['detail']['number']:04d}"
    assert cues.repetition.tolist() == (cues.groupby("item").cumcount() + 1).tolist()
    answered = of(whole, "decode")
    both = decodes.merge(cues, on="cue_id", suffixes=("", "_cue"))
    assert len(both) == len(decodes) == len(answered)
    assert (both.item == both.item_cue).all() and (both.predicted == both.decoded).all()
    for column in ("stage", "onset_s", "repetition", "minutes_since_sleep_onset", "sham"):
        assert (both[column] == both[f"{column}_cue"]).all()
    found = decodes[[f"p_{item}" for item in ITEMS]].to_numpy()
    assert np.allclose(found, [e["detail"]["probabilities"] for e in answered])
    assert decodes.correct.isna().all() and decodes["rank"].isna().all()  # this replay's file holds no responses


def test_a_session_too_short_to_stage_is_reported_all_the_same(session, recording, staged, tmp_path):
    (tmp_path / "s1" / "session_001").mkdir(parents=True)  # an earlier session
    result = session(recording, *staged, "--start", 5, "--stop", 8)
    assert result.code == 0 and result.folder.name == "session_002"
    assert not list((tmp_path / "s1" / "session_001").iterdir())
    assert result.summary["stage_minutes"] == {"W/N1": 0, "N2": 0, "N3": 0, "R": 0, "unknown": 0.05}
    assert result.events[-1]["seconds"] == 8 and result.events[-1]["sample"] == 1500
    assert (result.folder / "session.png").exists()


@pytest.mark.parametrize("cues", ["scheduled", "recorded"])
def test_replays_agree_whatever_the_chunks(session, recording, flags, cues):
    sizes = [(4.0, "null"), (0.37, 0.006), (7.3, 0.26)]
    sizes = sizes if cues == "scheduled" else sizes[:2]
    folders = [
        session(
            recording, *flags, "--cues", cues, "--stop", 50,
            "--set", f"source.read_seconds={read}", "--set", f"source.chunk_seconds={chunk}",
        ).folder
        for read, chunk in sizes
    ]  # fmt: skip
    logs = [timeless(folder) for folder in folders]
    assert len(logs[0]) > 15
    for other in logs[1:]:
        assert other == logs[0]
    flacs = [soundfile.read(folder / "cues.flac")[0] for folder in folders]
    for other in flacs[1:]:
        np.testing.assert_array_equal(other, flacs[0])


def test_recorded_cues_are_used_while_the_gate_is_open(session, recording, flags):
    result = session(recording, *flags, "--cues", "recorded")
    closed = [(t, item) for t, item in CUES if t < 30]
    opened = [(t, item) for t, item in CUES if t >= 30]
    assert [(e["seconds"], e["detail"]["item"]) for e in of(result, "cue_skipped")] == closed
    assert {e["detail"]["reason"] for e in of(result, "cue_skipped")} == {"the gate is closed"}
    assert [(e["seconds"], e["detail"]["item"]) for e in of(result, "cue")] == opened
    assert not any(e["detail"]["sounded"] for e in of(result, "cue"))
    assert not soundfile.read(result.folder / "cues.flac")[0].any()
    decodes = of(result, "decode")
    accuracy = result.summary["accuracy"]
    assert accuracy["n"] == len(decodes) > 0
    assert accuracy["hits"] == sum(e["detail"]["cued"] == e["detail"]["item"] for e in decodes)
    assert accuracy["low"] <= accuracy["accuracy"] <= accuracy["high"]
    assert result.summary["recording"] == "not marked as simulated"
    assert result.summary["cues"]["skip_reasons"] == {"the gate is closed": len(closed)}
    report = (result.folder / "report.html").read_text(encoding="utf-8")
    assert f"Skipped: {len(closed)} (the gate is closed)." in report, "a replay is reported too"


def test_a_labs_own_triggers_are_cues_by_a_table(session, raw55, staged, tmp_path):
    raw, cues = raw55.copy().crop(0, 50), CUES[:6]
    names = [f"Stimulus/S {31 + ITEMS.index(item)}" for _, item in cues]
    onsets = [seconds for seconds, _ in cues]
    raw.set_annotations(mne.Annotations([*onsets, 41.0], [0] * 7, [*names, "Response/R  1"]))
    raw.save(tmp_path / "night_raw.fif", verbose="error")
    rows = [f"{31 + k},{item},cue" for k, item in enumerate(ITEMS)]
    (tmp_path / "triggers.csv").write_text("\n".join(["code,item,modality", *rows]), encoding="utf-8")
    table = ["--set", f"cues.table={tmp_path / 'triggers.csv'}"]
    result = session(tmp_path / "night_raw.fif", *staged, "--cues", "recorded", *table)
    found = [e for e in result.events if e["event"] in ("cue", "cue_skipped")]
    assert [(e["seconds"], e["detail"]["item"]) for e in found] == cues
    kept = config.load(SessionSettings, result.folder / "settings.yaml").cues.table
    assert kept.rows[2].code == 33 and kept.rows[2].item == ITEMS[2], "what --resume reads"


def test_cues_that_a_closed_gate_skipped_name_its_settings(session, recording, staged):
    result = session(recording, *staged, "--cues", "recorded", "--set", "gate.nrem_detections=90")
    opens = "it opens after 90 stagings in a row with P(N2) + P(N3) of at least 0.8 (gate.nrem_detections, "
    assert not of(result, "cue")
    lines = summary_lines(result.summary)
    assert f"skipped: {len(CUES)} (the gate is closed)" in lines
    assert any(opens in line and "need gate.rem" in line for line in lines)
    report = (result.folder / "report.html").read_text(encoding="utf-8")
    assert opens in report and f"{len(CUES)} skipped: the gate is closed." in report


def test_a_simulated_recording_is_called_simulated_everywhere(session, recording, flags, tmp_path):
    folder = tmp_path / "simulated" / "recordings"
    folder.mkdir(parents=True)
    (folder.parent / "simulation.json").write_text("{}")
    for part in recording.parent.iterdir():
        (folder / part.name).write_bytes(part.read_bytes())
    result = session(folder / recording.name, *flags, "--cues", "recorded", "--stop", 45)
    assert result.summary["recording"] == "simulated" and result.about["simulated"] is True
    assert "simulated" in result.summary["accuracy_note"]


def test_a_recording_carries_its_own_mark(session, raw55, staged, tmp_path):
    import mne

    raw = raw55.copy().crop(0, 40)
    raw.set_annotations(raw.annotations + mne.Annotations([0], [0], ["simulated"]))
    mne.export.export_raw(tmp_path / "copied.vhdr", raw, fmt="brainvision", verbose="error")
    result = session(tmp_path / "copied.vhdr", *staged)
    assert result.summary["recording"] == "simulated" and result.about["simulated"] is True
    assert "recording simulated" in [e["detail"]["text"] for e in of(result, "notice")]


@pytest.mark.slow
def test_a_decoder_of_simulated_data_says_so_on_a_recording_that_is_not(
    session, recording, flags, checkpoints, tmp_path
):
    arguments = [*flags, "--decoder-checkpoint", checkpoints.simulated, "--cues", "recorded", "--stop", 45]
    words = "decoder trained on simulated data: these decodes mean nothing about real memories"
    result = session(recording, *arguments, "--set", f"decoder.rem_checkpoint={checkpoints.simulated}")
    texts = [e["detail"]["text"] for e in of(result, "notice")]
    assert sum(words in text for text in texts) == 1 == sum(words in w for w in result.summary["warnings"])
    assert "recording not marked as simulated" in texts
    assert "recording not marked as simulated" in result.summary["accuracy_note"]
    (tmp_path / "simulation.json").write_text("{}")
    for part in recording.parent.iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    marked = session(tmp_path / recording.name, *arguments)
    assert not any(words in e["detail"].get("text", "") for e in marked.events)
    other = session(recording, *flags, "--stop", 35)  # a decoder whose origin is not stated
    assert not any(words in e["detail"].get("text", "") for e in other.events)


def test_a_failed_decode_is_logged_and_the_session_goes_on(session, broken_recording, flags):
    result = session(broken_recording, *flags, "--cues", "recorded")
    (failed,) = [e for e in of(result, "decode_failed") if "ended before" not in e["detail"]["reason"]]
    assert failed["code"] == 36 and failed["detail"]["number"] == BAD_CUE + 1
    assert "not finite" in failed["detail"]["reason"]
    assert of(result, "decode")[-1]["sample"] > failed["sample"]
    assert result.summary["decodes"]["failed"] >= 1


def test_a_bad_staging_channel_closes_the_gate_and_says_why(session, raw55, staged, tmp_path):
    raw = raw55.copy().load_data()
    raw._data[raw.ch_names.index("EMG1"), 40 * RATE : 41 * RATE] = np.nan
    raw.save(tmp_path / "bad_raw.fif", verbose="error")
    result = session(tmp_path / "bad_raw.fif", *staged)
    reasons = {e["detail"]["reason"] for e in of(result, "stage")}
    assert reasons == {None, "EMG holds samples that are not finite"}
    assert [e["detail"]["open"] for e in of(result, "gate")][:3] == [True, False, True]
    unknown = [e["seconds"] for e in of(result, "stage") if e["detail"]["stage"] == "unknown"]
    assert min(unknown) > 40 and max(unknown) <= 71
    assert not [e for e in of(result, "cue") if min(unknown) + 0.2 < e["seconds"] < max(unknown)]


def test_decoding_is_off_when_the_recording_lacks_channels(session, raw55, flags, tmp_path):
    raw55.copy().drop_channels(["Oz", "POz" if "POz" in EEG_MONTAGE else "O1"]).save(
        tmp_path / "few_raw.fif", verbose="error"
    )
    result = session(tmp_path / "few_raw.fif", *flags, "--stop", 50)
    texts = [e["detail"]["text"] for e in of(result, "notice")]
    assert "decoding off: recording lacks channels O1, Oz" in texts
    assert of(result, "cue") and not of(result, "decode")


def test_no_personal_data_leave_the_recording(session, raw55, flags, tmp_path):
    raw = raw55.copy()
    raw.info["subject_info"] = {"his_id": "ZZ-1970", "last_name": "Mustermann", "first_name": "Erika"}
    raw.save(tmp_path / "person_raw.fif", verbose="error")
    folder = session(tmp_path / "person_raw.fif", *flags, "--stop", 35).folder
    text = "".join(p.read_text(encoding="utf-8") for p in folder.iterdir() if p.suffix in (".json", ".jsonl", ".tsv"))
    assert "Mustermann" not in text and "ZZ-1970" not in text and "Erika" not in text


def test_markers_of_a_session_reach_an_lsl_receiver(main, recording, flags, tmp_path):
    from mne_lsl.lsl import StreamInlet, resolve_streams

    from sleep_interpreter.realtime.Output.marker_ports import LslPort, MarkerHub
    from sleep_interpreter.realtime.Parameters.output import MarkerSettings

    unique = f"t{os.getpid()}"  # LSL is configured once in a process, so this is the other test's session too
    MarkerHub([LslPort(MarkerSettings(session_id=unique, source_id=f"{unique}-first"))]).close()
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
