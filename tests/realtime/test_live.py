"""Sessions on a real LSL stream: recording, gaps, a stream that dies and returns, and their replay."""

import os

import mne
import numpy as np
import pytest

from sleep_interpreter.realtime.Recording.event_log import decisions, read_log
from sleep_interpreter.utils.core.data_card import published

from .conftest import read_session
from .live import SESSION_ID, Live, named, outlet, save_stream, tell

EEG_MONTAGE = published().channels

NAMES = [*EEG_MONTAGE, "M1", "EOG1", "EMG1"]


@pytest.fixture(scope="module")
def stream(signal_microvolts, tmp_path_factory):
    """What the outlet plays: 80 s that the stager calls N2, over and over."""
    return save_stream(tmp_path_factory.mktemp("stream") / "night.npz", signal_microvolts, NAMES)


def arguments(source_id, *more):
    return [
        "--source", "lsl",
        "--set", f"source.lsl.session_id={SESSION_ID}", "--set", f"source.lsl.source_id={source_id}",
        "--set", "source.look_seconds=1", "--set", "workers=inline", "--set", "audio.sink=file",
        "--set", "arousal.enabled=false", *more,
    ]  # fmt: skip


def decided(folder):
    """What a session decided, without what belongs to wall time."""
    return decisions(read_log(folder / "log.jsonl"))


def test_losses_are_gaps_of_their_true_length_and_a_replay_decides_the_same(main, stream, flags, tmp_path):
    source = f"{os.getpid()}-losses"
    with outlet(source, "--file", stream, "--seconds", 400) as amplifier:
        live = Live(main, tmp_path / "live", *arguments(source, *flags))
        live.until(lambda e: named(e, "cue"), seconds=90, what="a first cue")
        tell(amplifier, "lose 160")  # more than is bridged: the stage is unknown until 30 s have come
        live.until(lambda e: named(e, "gap"), what="a gap")
        answer = live.ask("pause")
        assert answer["ok"] and "paused" in answer["text"]
        live.ask("resume")
        assert live.ask("volume", db=10)["text"].endswith("the cap is -6 dB")
        assert not live.ask("volume", db=None)["ok"]
        live.until(lambda e: named(e, "gate", open=False), what="the gap closes the gate")
        reopened = live.until(lambda e: len(named(e, "gate", open=True)) > 1, seconds=90, what="the gate opens again")
        assert reopened
        live.until(lambda e: named(e, "cue")[-1]["sample"] > named(e, "gate")[-1]["sample"], what="more cues")
        live.stop()
    result = read_session(live.folder, live.code)
    assert result.code == 0 and result.summary["ending"] == "stopped"

    (gap,) = named(result.events, "gap")
    assert gap["detail"]["count"] == 1600  # chunks of 10 samples
    raw = mne.io.read_raw(live.folder / "recording" / "segment_001.vhdr", preload=True, verbose="error")
    assert raw.ch_names == NAMES and raw.info["sfreq"] == 500
    (lost,) = [a for a in raw.annotations if a["description"].startswith("BAD_ACQ_SKIP")]
    assert lost["onset"] * 500 == pytest.approx(gap["detail"]["first"]) and lost["duration"] == pytest.approx(3.2)
    # the samples on both sides belong to their own times in what was played
    data = raw.get_data() * 1e6
    with np.load(stream) as content:
        played = content["data"]
    first, count = gap["detail"]["first"], gap["detail"]["count"]
    offset = int(np.abs(played - data[:, :1]).max(axis=0).argmin())
    period = played.shape[1]
    for sample in (first - 1, first + count, first + count + 2000):
        np.testing.assert_allclose(data[:, sample], played[:, (offset + sample) % period], rtol=1e-5, atol=1e-4)
    assert not data[:, first : first + count].any()

    unknown = [e["sample"] for e in named(result.events, "stage", stage="unknown")]
    assert unknown and not [c for c in named(result.events, "cue") if unknown[0] < c["sample"] < unknown[-1]]

    code = main(["--session", str(live.folder), "--out", str(tmp_path / "again")])
    again = tmp_path / "again" / "s1" / "session_001"
    assert code == 0 and decided(again) == decided(live.folder)


def test_a_stream_that_dies_is_lost_and_returns(main, stream, staged, tmp_path):
    source = f"{os.getpid()}-returns"
    with outlet(source, "--file", stream, "--seconds", 400) as amplifier:
        live = Live(main, tmp_path, *arguments(source, *staged, "--set", "source.lost_seconds=1.5"))
        live.until(lambda e: len(e) > 2, what="a beginning")
        live.until(lambda e: live.state()["sample"] > 1000, what="two seconds")
        tell(amplifier, "jump -3")
        live.until(lambda e: named(e, "fault", part="clock", state="set"), what="its clock is set")
    stalled = live.until(lambda e: named(e, "stream", state="stalled"), what="silence is noticed")
    live.until(lambda e: named(e, "stream", state="lost"), what="the loss")
    state = live.state()
    assert not state["cueing"] and [a["kind"] for a in state["alarms"]] == ["stream"]  # a clock that was set is over
    assert live.folder.joinpath("recording", "segment_001.eeg").stat().st_size > 58 * 4 * 900
    with outlet(source, "--file", stream, "--seconds", 400):
        live.until(lambda e: named(e, "stream", state="back"), what="its return")
        (gap,) = live.until(lambda e: named(e, "gap"), what="the gap")
        live.stop()
    assert gap["detail"]["seconds"] > 1.5 and live.code == 0
    wall = [e["wall"]["time"] for e in (stalled[0], gap)]
    assert wall[0] < wall[1]
    raw = mne.io.read_raw(live.folder / "recording" / "segment_001.vhdr", verbose="error")
    assert raw.n_times > gap["detail"]["first"] + gap["detail"]["count"]
