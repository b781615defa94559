"""Sounds, where they go, and markers on a real LSL stream."""

import json
import os
import time
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from sleep_interpreter.realtime.Cues.schedule import Cue
from sleep_interpreter.realtime.Cues.sounds import load_sounds, synthesise, write_sounds
from sleep_interpreter.realtime.Monitor.history import SessionHistory
from sleep_interpreter.realtime.Output import sound_card
from sleep_interpreter.realtime.Output.marker_ports import LslPort, MarkerHub
from sleep_interpreter.realtime.Output.mixer import Mixer
from sleep_interpreter.realtime.Output.sinks import FileSink, choose_sink
from sleep_interpreter.realtime.Output.sound_card import Player
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Parameters.output import AudioSettings, MarkerCodes, MarkerSettings
from sleep_interpreter.realtime.Recording.event_log import decisions, read_log, silent_cues
from sleep_interpreter.realtime.Recording.session_recording import annotations
from sleep_interpreter.realtime.Report.session_data import load_session
from sleep_interpreter.realtime.Report.summary import summarise, summary_lines
from sleep_interpreter.realtime.Session.cueing import CueController
from sleep_interpreter.realtime.Sources.recorded_inputs import ReplayedInputs
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.staging.settings import GateSettings

CARD = published()
ITEMS = CARD.item_names


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_stand_ins_are_faded_limited_and_equally_strong(rate):
    sounds = synthesise(rate, 15)
    assert sounds.shape == (15, rate // 2)
    assert np.abs(sounds).max() <= 0.951
    assert np.abs(sounds[:, [0, -1]]).max() < 1e-3
    rms = np.sqrt((sounds.astype(float) ** 2).mean(axis=1))
    assert rms.max() / rms.min() < 1.2


def test_stand_ins_differ():
    spectra = np.abs(np.fft.rfft(synthesise(16000, 15), axis=1))[:, :3000].reshape(15, -1, 5).sum(axis=2)
    spectra /= np.linalg.norm(spectra, axis=1, keepdims=True)
    assert (spectra @ spectra.T - np.eye(15)).max() < 0.85


def test_a_folder_of_sounds_is_read_back_and_checked(tmp_path):
    sounds = synthesise(16000, 15)
    write_sounds(tmp_path, sounds, 16000, ITEMS)
    np.testing.assert_allclose(load_sounds(tmp_path, 16000, CARD.items), sounds, atol=1e-4)
    with pytest.raises(UserError, match=r"alarm\.wav: 16000 Hz, expected 48000 Hz"):
        load_sounds(tmp_path, 48000, CARD.items)
    kiwi = tmp_path / "kiwi.wav"
    soundfile.write(kiwi, sounds[6][:-200], 16000)
    with pytest.raises(UserError, match=r"kiwi\.wav: 0\.487 s long, expected 0\.5 s"):
        load_sounds(tmp_path, 16000, CARD.items)
    soundfile.write(kiwi, np.stack([sounds[6]] * 2, axis=1), 16000)
    with pytest.raises(UserError, match=r"kiwi\.wav: 2 channels"):
        load_sounds(tmp_path, 16000, CARD.items)
    for bad in (np.nan, np.inf):
        broken = sounds[6].copy()
        broken[100:103] = bad
        soundfile.write(kiwi, broken, 16000, subtype="FLOAT")
        with pytest.raises(UserError, match=r"kiwi\.wav: 3 samples are not finite"):
            load_sounds(tmp_path, 16000, CARD.items)
    kiwi.write_text("not a sound")
    with pytest.raises(UserError, match=r"kiwi\.wav: not readable"):
        load_sounds(tmp_path, 16000, CARD.items)
    kiwi.unlink()
    with pytest.raises(UserError, match=r"missing kiwi\.wav"):
        load_sounds(tmp_path, 16000, CARD.items)


def test_renderer_never_exceeds_the_cap():
    renderer = Mixer(np.ones((15, 100), np.float32), 0, -6)
    for item in range(5):
        renderer.schedule(item, 10 * item)
    assert renderer.render(200).max() == pytest.approx(10 ** (-6 / 20))
    assert renderer.schedule(0, 3) == 200  # the past is past


@pytest.mark.parametrize("rate", [16000, 44100])
def test_file_sink_puts_every_onset_on_its_frame(tmp_path, rate):
    sounds = np.full((15, rate // 2), 0.5, np.float32)
    sink = FileSink(tmp_path / "cues.flac", Mixer(sounds, -20, -6), rate)
    onsets = [1234, 4001, 50000]
    for number, onset in enumerate(onsets):
        sink.advance(onset - 100)
        sink.schedule(Cue(number, number, 0, onset))
    sink.close(60000)
    data, found = soundfile.read(tmp_path / "cues.flac")
    assert found == rate and len(data) == round(60000 * rate / 500)
    starts = np.flatnonzero(np.diff(np.abs(data) > 0.01, prepend=False) & (np.abs(data) > 0.01))
    np.testing.assert_allclose(starts / rate * 500, onsets, atol=1 / (rate / 500))  # within one frame
    assert np.abs(data).max() == pytest.approx(0.05, abs=1e-3)


def test_sink_choice():
    assert choose_sink(AudioSettings(), 0) == ("file", "a sound card needs --speed 1, this is --speed 0")
    assert choose_sink(AudioSettings(sink="file"), 1) == ("file", "asked for")
    with pytest.raises(UserError, match="--speed 1"):
        choose_sink(AudioSettings(sink="device"), 4)


def test_device_callback_starts_a_cue_on_the_frame_of_its_dac_time(tmp_path):
    """Drives the callback as PortAudio does; no sound card takes part."""
    rate, lead = 48000, 0.03
    sounds = np.full((15, rate // 2), 0.5, np.float32)
    player = Player(tmp_path / "audio.tsv", Mixer(sounds, 0, -6), rate, late=0.05)
    start = time.perf_counter()
    wanted = [start + 0.2, start + 0.9]
    for number, when in enumerate(wanted, start=1):
        player.schedule(Cue(number, number, 0, 500 * number, name=ITEMS[number]), when)
    blocks, first_dac = [], None
    while time.perf_counter() < start + 1.5:
        block = np.empty((480, 1), np.float32)
        now = time.perf_counter()
        dac = len(blocks) * 0.01 + lead  # the card's own clock, zero at the first block
        if first_dac is None:
            first_dac = now + lead
        player.callback(block, 480, SimpleNamespace(outputBufferDacTime=dac, currentTime=now - first_dac + lead), None)
        blocks.append(block[:, 0])
        time.sleep(max(0, start + len(blocks) * 0.01 - time.perf_counter()))
    player.close(1000)
    rendered = np.concatenate(blocks)
    sounding = np.abs(rendered) > 0.1
    starts = np.flatnonzero(np.diff(sounding, prepend=False) & sounding)
    np.testing.assert_allclose(first_dac + starts / rate, wanted, atol=2e-3)
    rows = [line.split("\t") for line in (tmp_path / "audio.tsv").read_text().splitlines()[1:]]
    assert [(r[0], r[1], r[2]) for r in rows] == [("1", ITEMS[1], "500"), ("2", ITEMS[2], "1000")]
    assert all(abs(float(r[5])) < 2 for r in rows)


def test_a_cue_that_the_card_could_begin_too_late_does_not_sound(tmp_path):
    """The card stood still for longer than `audio.late_seconds`: marker and window have not waited."""
    player = Player(tmp_path / "audio.tsv", Mixer(np.full((15, 500), 0.5, np.float32), 0, -6), 16000, late=0.05)
    now = time.perf_counter()
    for number, when in enumerate((now - 0.5, now - 0.02), start=1):
        player.schedule(Cue(number, number, 0, 500 * number, name=ITEMS[number]), when)
    block, following = np.empty((160, 1), np.float32), np.empty((160, 1), np.float32)
    player.callback(block, 160, SimpleNamespace(outputBufferDacTime=0.0, currentTime=0.0), None)
    player.advance(1000)
    (missed,) = player.played()  # the other one is with the card: heard when that asks for more
    assert player.began(1) is False and player.began(2) is True
    time.sleep(0.01)
    player.callback(following, 160, SimpleNamespace(outputBufferDacTime=0.0, currentTime=0.0), None)
    player.advance(1000)
    (played,) = player.played()
    player.close(1000)
    assert missed["number"] == 1 and missed["dac"] is None and "late" in missed["reason"]
    assert played["number"] == 2 and 20 <= played["late_ms"] < 50 and np.abs(block).max() > 0.1
    assert (tmp_path / "audio.tsv").read_text().splitlines()[1].split("\t")[4] == "n/a"


def test_markers_are_taken_back_with_their_cues_and_no_others(tmp_path):
    """A cue whose frames the card has already sounds, with its marker; a later one and a sham do not."""
    sent, log = [], []
    port = SimpleNamespace(name="port", open=lambda: None, close=lambda: None, send=lambda code, at: sent.append(code))
    ports, begun = MarkerHub([port]), time.perf_counter()
    sounds = np.full((15, 8000), 0.5, np.float32)
    player = Player(tmp_path / "audio.tsv", Mixer(sounds, -20, -6), 16000, late=0.05)
    cues = deque([Cue(1, 4, 0, 12, name="box"), Cue(2, 5, 0, 100), Cue(3, 6, 0, 110, sham=True)])
    context = SimpleNamespace(
        settings=SessionSettings(markers={"sham_code": 50}), sink=player, ports=ports, card=CARD,
        codes=MarkerCodes.of(15),
        inputs=ReplayedInputs(), clock_time=lambda sample: begun + sample / 500, send_marker=ports.send,
        source=SimpleNamespace(cued=lambda *args: None),
        log_event=lambda now, event, code=None, **more: log.append((event, code, more.get("number"))),
    )  # fmt: skip
    schedule = SimpleNamespace(lock=None, stop=cues.clear, next_cue=lambda now: cues.popleft())
    gate = SimpleNamespace(open=True, stage=1)
    cueing = CueController(context, schedule, lambda: gate, lambda cue, stage: None)
    cueing.active = True
    while cues:
        cueing._decide(0)
    block = np.zeros((480, 1), np.float32)  # 30 ms
    player.callback(block, 480, SimpleNamespace(outputBufferDacTime=0.01, currentTime=0.0), None)
    cueing.block(3, "operator", "paused by the operator")
    while cueing.pending:
        cueing._sound(*cueing.pending.popleft())
    assert cueing.counts["box"] == 0
    time.sleep(0.05)
    player.callback(block, 480, SimpleNamespace(outputBufferDacTime=0.01, currentTime=0.0), None)
    player.advance(30)
    assert [fault["state"] for fault in cueing.take_played(30)] == ["back"] and cueing.counts["box"] == 1
    time.sleep(max(0.0, begun + 0.3 - time.perf_counter()))
    ports.close()
    player.close(1000)
    assert [row for row in log if row[0] != "cueing"] == [
        ("cue_cancelled", None, 2), ("cue_cancelled", None, 3), ("begun", None, None), ("cue", 5, 1),
        ("sound", None, 1),
    ]  # fmt: skip
    assert sent == [5]


@pytest.mark.parametrize(
    ("state", "sent"), [(True, [7]), (False, []), (None, [])], ids=["sounds", "does not", "nobody knows"]
)
def test_a_marker_goes_out_with_its_sound_alone(state, sent, tmp_path):
    codes = []
    port = SimpleNamespace(name="port", open=lambda: None, close=lambda: None, send=lambda code, at: codes.append(code))
    ports = MarkerHub([port], tmp_path / "ports.tsv", late=0.05)
    ports.send(7, time.perf_counter() + 0.02, 1, lambda: state)
    time.sleep(0.15)
    ports.close()
    assert codes == sent
    assert (tmp_path / "ports.tsv").read_text().splitlines()[1].endswith("yes" if sent else "no")


@pytest.mark.parametrize(
    ("sounded", "told", "counts"),
    [
        (True, [], True),  # a file on the sample clock
        (False, [], False),  # a dry run
        (None, [], False),  # nothing was confirmed: the session was killed
        (None, [1.5], True),
        (None, [None], False),
        ("missing", [], True),  # logs of before
    ],
)
def test_a_cue_counts_only_where_the_sink_has_confirmed_it(sounded, told, counts):
    detail = {"number": 1, "item": "ball", "recorded": False, "sounded": sounded}
    if sounded == "missing":
        del detail["sounded"]
    events = [{"event": "cue", "detail": detail}]
    events += [{"event": "sound", "detail": {"number": 1, "dac": dac}} for dac in told]
    assert silent_cues(events) == (set() if counts else {1})
    detail["recorded"] = True
    assert silent_cues(events) == set()  # it sounded when it was recorded


def test_without_a_device_a_night_is_refused_and_a_rehearsal_is_not(monkeypatch):
    monkeypatch.setattr(sound_card, "import_sounddevice", lambda: SimpleNamespace(query_devices=lambda *_: []))
    with pytest.raises(UserError, match=r"nobody would hear a cue; connect the device, or .* audio.sink=file"):
        choose_sink(AudioSettings(), 1, asleep=True)
    assert choose_sink(AudioSettings(), 1)[0] == choose_sink(AudioSettings(sink="file"), 1, asleep=True)[0] == "file"

    def no_library():
        raise UserError("the PortAudio library is missing")

    monkeypatch.setattr(sound_card, "import_sounddevice", no_library)
    with pytest.raises(UserError, match="library is missing: nobody would hear"):
        choose_sink(AudioSettings(), 1, asleep=True)


def test_cues_that_did_not_sound_count_nowhere(tmp_path):
    def cue(number, dac):
        detail = {"number": number, "item": "ball", "stage": "N2", "group": 0}
        decode = {"number": number, "cued": "ball", "item": "ball", "stage": "N2"}
        phase = {"number": number, "locked": False, "degrees": 10.0}
        sound = {"number": number, "dac": dac, "reason": "the sound device is gone"}
        kinds = {"cue": detail, "sound": sound, "cue_phase": phase, "decode": decode}
        return [
            {"sample": 500 * number + k, "seconds": number, "event": kind, "code": None, "detail": detail,
             "wall": {"time": "2026-01-01T00:00:00+00:00"}}
            for k, (kind, detail) in enumerate(kinds.items())
        ]  # fmt: skip

    events = [*cue(1, 1.5), *cue(2, None)]
    found = summarise(events, recorded=True, simulated=True, seconds=10, card=CARD, gate=GateSettings())
    assert found["cues"]["total"] == 1 and found["cues"]["not_sounded"] == 1
    assert found["decodes"]["total"] == found["accuracy"]["n"] == found["phase"]["not locked"]["n"] == 1
    assert any("1 cues that did not sound" in line for line in summary_lines(found))
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    loaded = load_session(tmp_path)
    assert [c["number"] for c in loaded.cues()] == [1] and len(loaded.decodes()) == 1
    assert [text for _, text in annotations(tmp_path, 500) if "cue" in text] == [
        "cue/ball", "cue_not_sounded/ball",
    ]  # fmt: skip
    history = SessionHistory(tmp_path)
    assert [c[3] for c in history.content()["cues"]] == [1]


@pytest.mark.parametrize("kind", ["int32", "string"])
def test_markers_arrive_on_a_real_stream_with_their_times(kind):
    from mne_lsl.lsl import StreamInlet, resolve_streams

    unique = f"t{os.getpid()}"
    settings = MarkerSettings(format=kind, session_id=unique, source_id=f"{unique}-{kind}")
    markers = MarkerHub([LslPort(settings)])
    (info,) = resolve_streams(timeout=10, source_id=settings.source_id)
    inlet = StreamInlet(info, processing_flags=None)
    inlet.open_stream(10)
    codes = [1, 15, 36, 91]
    for code in codes:
        markers.send(code)
    markers.send(21, at=time.perf_counter() - 1)
    found, stamps = [], []
    deadline = time.monotonic() + 10
    while len(found) < 5 and time.monotonic() < deadline:
        data, times = inlet.pull_chunk(timeout=0.2)
        found += [int(row[0]) for row in data]
        stamps += list(times)
    # the hub sends what is due first: the one of a second ago
    assert sorted(found) == sorted([*codes, 21])
    assert stamps[found.index(21)] - min(s for s, c in zip(stamps, found, strict=True) if c != 21) < -0.9
    inlet.close_stream()
    markers.close()


def test_a_night_with_a_sound_card_is_replayed_where_there_is_none(main, staged, tmp_path, monkeypatch):
    words = ["--source", "simulate", "--set", "source.simulate.stage=N2", "--stop", "60", "--subject", "s1", *staged]
    assert main([*map(str, words), "--set", "audio.sink=file", "--out", str(tmp_path / "night")]) == 0
    folder = tmp_path / "night" / "s1" / "session_001"
    settings = folder / "settings.yaml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("sink: file", "sink: device"), encoding="utf-8")
    monkeypatch.setattr(sound_card, "import_sounddevice", lambda: SimpleNamespace(query_devices=lambda *_: []))
    assert main(["--session", str(folder), "--out", str(tmp_path / "again")]) == 0
    again = tmp_path / "again" / "s1" / "session_001"
    night, replay = (decisions(read_log(place / "log.jsonl")) for place in (folder, again))
    assert replay == night and sum(kind == "cue" for _, kind, *_ in night) > 2
    assert (again / "report.html").is_file()
