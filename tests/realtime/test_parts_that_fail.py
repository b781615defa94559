"""A live session whose stager or decoder hangs or dies: it says so, gives no cue meanwhile, and goes on."""

import multiprocessing
import os
import signal

import mne
import pytest

from .live import Live, named

SETTINGS = [
    "cues.interval_seconds=[2.5, 3]", "arousal.enabled=false", "audio.sink=file",
    "staging.timeout_seconds=3", "decoder.timeout_seconds=3", "source.behind_seconds=10", "seed=5",
]  # fmt: skip


def _signal(name, number):
    """Send a signal to the process that computes for this part; return its number."""
    (process,) = [child for child in multiprocessing.active_children() if child.name == name]
    os.kill(process.pid, number)
    return process.pid


def _unfounded(events):
    """Return the cues that were decided while the stage was unknown."""
    stage, found = "unknown", []
    for event in events:
        if event["event"] == "stage":
            stage = event["detail"]["stage"]
        elif event["event"] == "cue" and stage == "unknown":
            found.append(event)
    return found


@pytest.mark.slow
def test_a_stager_that_hangs_and_a_decoder_that_dies_or_hangs(main, flags, tmp_path):
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    live = Live(main, tmp_path, "--source", "simulate", "--speed", "1", *flags, *words)
    live.until(lambda events: len(named(events, "decode")) > 1, 180, "decodes")

    _signal("decoder", signal.SIGKILL)
    died = live.until(lambda events: named(events, "fault", part="decoder", state="lost"), 60, "its end")
    assert "ended with code -9" in died[0]["detail"]["reason"]
    live.until(lambda events: named(events, "fault", part="decoder", state="back"), 120, "a new one")
    after = len(named(live.events(), "decode"))
    live.until(lambda events: len(named(events, "decode")) > after, 60, "a decode of the new one")

    _signal("decoder", signal.SIGSTOP)
    live.until(lambda events: len(named(events, "fault", part="decoder", state="lost")) == 2, 60, "it hangs")
    failed = live.until(lambda events: named(events, "decode_failed"), 60, "a decode that failed")
    live.until(lambda events: len(named(events, "fault", part="decoder", state="back")) == 2, 120, "back")

    _signal("stager", signal.SIGSTOP)
    hung = live.until(lambda events: named(events, "fault", part="stager", state="lost"), 60, "it hangs")
    assert "no answer of the stager within 3 s" in hung[0]["detail"]["reason"]
    unknown = named(live.events(), "stage", stage="unknown")[-1]
    assert unknown["detail"]["reason"] == hung[0]["detail"]["reason"]
    live.until(lambda events: named(events, "fault", part="stager", state="back"), 120, "a new one")

    def cued_again(events):
        known = [e["sample"] for e in named(events, "stage") if e["detail"]["stage"] != "unknown"]
        return [e for e in named(events, "cue") if unknown["sample"] < known[-1] < e["sample"]]

    live.until(cued_again, 60, "a cue on a stage of the new one")
    live.stop()

    events = live.events()
    assert live.code == 0 and not _unfounded(events) and not named(events, "gap")
    told = {e["detail"]["number"] for e in (*named(events, "decode"), *named(events, "decode_failed"))}
    assert told == {e["detail"]["number"] for e in (*named(events, "cue"), *named(events, "sham"))}
    assert all(e["detail"]["reason"] for e in failed)
    raw = mne.io.read_raw(live.folder / "recording" / "segment_001.vhdr", verbose="error")
    assert raw.n_times >= named(events, "stop")[0]["sample"] > 0
