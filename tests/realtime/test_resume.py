"""A killed session goes on in its folder: the same cues, counters and groups; nothing logged is lost."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Recording.event_log import read_log
from sleep_interpreter.realtime.Setup.plan import lock_session, resume_sample
from sleep_interpreter.realtime.Setup.runner import sole_night
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.brainvision_writer import BrainVisionWriter

from .conftest import SCRIPT, of, read_session


def _start(recording, out, staged, *more):
    words = [sys.executable, str(SCRIPT), "--recording", str(recording), "--out", str(out), "--subject", "s1",
             *map(str, staged), "--set", "staging.answer_seconds=0.5", *map(str, more)]  # fmt: skip
    return subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip


def _killed(process, folder, condition):
    """Kill -9 as soon as the log meets the condition; return the events that were acknowledged by then."""
    deadline = time.monotonic() + 90
    while True:
        lines = (folder / "log.jsonl").read_bytes().split(b"\n")[:-1] if (folder / "log.jsonl").exists() else []
        if condition(lines):
            break
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return [json.loads(line) for line in lines]


def _cues(events):
    return [(e["detail"]["number"], e["detail"]["item"]) for e in events if e["event"] == "cue"]


@pytest.mark.slow
def test_a_killed_replay_goes_on_with_the_same_cues(main, recording, staged, tmp_path):
    """The first cues of the killed session and those after it are those of the uninterrupted one."""
    short = ["--stop", 76, "--set", "cues.interval_seconds=[2.5, 3]", "--set", "cues.sham_share=0.3",
             "--set", "cues.rule=balanced"]  # fmt: skip
    more = [*short, "--set", "staging.answer_seconds=0.5"]
    code = main(["--recording", str(recording), "--out", str(tmp_path / "whole"), "--subject", "s1",
                 *map(str, staged), *map(str, more)])  # fmt: skip
    whole = read_session(tmp_path / "whole" / "s1" / "session_001", code)

    folder = tmp_path / "s1" / "session_001"
    process = _start(recording, tmp_path, staged, *short, "--speed", 8)
    before = _killed(process, folder, lambda lines: sum(b'"cue"' in line for line in lines) >= 2)
    with (folder / "log.jsonl").open("ab") as handle:
        handle.write(b'{"sample": 99, "ev')  # a line that the kill tore
    assert main(["--resume", str(folder), "--speed", "0"]) == 0
    result = read_session(folder)
    assert result.events[: len(before)] == before
    (resumed,) = of(result, "resume")
    earlier = result.events[: result.events.index(resumed)]  # more than `before` where the kill came late
    assert resumed["sample"] == max(e["sample"] for e in earlier) + 1
    kinds = ("cue", "sham")
    drawn = [(e["detail"]["number"], e["event"], e["detail"]["item"]) for e in result.events if e["event"] in kinds]
    wanted = [(e["detail"]["number"], e["event"], e["detail"]["item"]) for e in whole.events if e["event"] in kinds]
    # the groups' turns depend on when a cue comes, so items agree as long as both are in the same turn
    numbers = [number for number, _, _ in drawn]
    assert numbers == list(range(1, len(numbers) + 1)) and len(drawn) > len(_cues(before))
    assert drawn[: len(_cues(before))] == wanted[: len(_cues(before))]
    assert [kind for _, kind, _ in drawn] == [kind for _, kind, _ in wanted][: len(drawn)]
    assert result.summary["ending"] == "end of recording"
    # the gate had to open anew: no cue in the first 30 s after the restart
    after = [e for e in of(result, "cue") if e["sample"] > resumed["sample"]]
    assert after and after[0]["sample"] > resumed["sample"] + 15000
    with pytest.raises(UserError, match="the session ended"):
        main(["--resume", str(folder)])


def test_what_cannot_be_resumed_is_refused(main, recording, staged, tmp_path):
    with pytest.raises(UserError, match=r"settings\.yaml is missing"):
        main(["--resume", str(tmp_path)])
    with pytest.raises(UserError, match="own settings: leave out --subject, --set"):
        main(["--resume", str(_ended(main, recording, staged, tmp_path)), "--subject", "x", "--set", "seed=3"])


def test_settings_of_a_session_that_could_be_controlled_by_keys_are_read(main, recording, staged, tmp_path):
    folder = _ended(main, recording, staged, tmp_path)
    path = folder / "settings.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("control:\n", "control:\n  keyboard: true\n"))
    with pytest.raises(UserError, match="the session ended"):  # and not a word about the key
        main(["--resume", str(folder)])


def test_only_a_session_that_still_runs_is_left_to_its_process(main, recording, staged, tmp_path):
    """A process number that the broken session left proves nothing: after a restart it may be another's."""
    folder = _broken_off(main, recording, staged, tmp_path)
    (folder / "control.json").write_text(json.dumps({"pid": os.getpid()}))
    log = (folder / "log.jsonl").read_bytes()
    with lock_session(folder), pytest.raises(UserError, match="the session is still running, in another process"):
        main(["--resume", str(folder), "--speed", "0"])
    assert (folder / "log.jsonl").read_bytes() == log
    assert main(["--resume", str(folder), "--speed", "0"]) == 0
    assert len(of(read_session(folder), "resume")) == 1


def test_another_seed_is_noticed(main, recording, staged, tmp_path):
    folder = _broken_off(main, recording, staged, tmp_path)
    text = (folder / "settings.yaml").read_text()
    (folder / "settings.yaml").write_text(text.replace("seed: 1642", "seed: 7"))
    with pytest.raises(UserError, match="seed, subject, groups and rule must be those of the session"):
        main(["--resume", str(folder)])


def _broken_off(main, recording, staged, out):
    """Return the folder of a session as if it had been killed after its first cue."""
    folder = _ended(main, recording, staged, out)
    lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
    first = next(k for k, line in enumerate(lines) if '"event": "cue"' in line)
    (folder / "log.jsonl").write_text("".join(lines[: first + 1]))
    about = json.loads((folder / "session.json").read_text())
    (folder / "session.json").write_text(json.dumps(about | {"ending": None}))
    return folder


def _ended(main, recording, staged, out):
    main(["--recording", str(recording), "--out", str(out), "--subject", "s1", *map(str, staged), "--stop", "50"])
    return sorted((out / "s1").iterdir())[-1]


@pytest.mark.slow
def test_twenty_kills_at_random_moments(main, recording, staged, tmp_path):
    """Each time everything that was acknowledged is readable, and the session goes on."""
    rng = random.Random(1642)
    folder = tmp_path / "s1" / "session_001"
    process = _start(recording, tmp_path, staged, "--speed", 4)
    _killed(process, folder, lambda lines: len(lines) > 3)
    known = read_log(folder / "log.jsonl")
    for _ in range(19):
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--resume", str(folder), "--speed", "2"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        lines = len(known)
        wait = rng.uniform(0, 1.5)
        began = []

        def ready(found, lines=lines, wait=wait, began=began):
            if len(found) <= lines:
                return False
            began.append(time.monotonic())
            return time.monotonic() - began[0] > wait

        acknowledged = _killed(process, folder, ready)
        assert acknowledged[: len(known)] == known
        known = read_log(folder / "log.jsonl")
        assert known[: len(acknowledged)] == acknowledged
        numbers = [e["detail"]["number"] for e in known if e["event"] in ("cue", "cue_cancelled", "cue_skipped")]
        assert numbers == sorted(set(numbers))


def _logged(last, ago, kind="quality", **detail):
    """An event of a live session, so many seconds ago."""
    time = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()
    return {"sample": last, "event": kind, "detail": detail, "wall": {"time": time}}


def test_a_live_session_goes_on_where_its_stream_is(tmp_path):
    settings = SessionSettings.model_validate({"source": {"kind": "lsl"}})
    about = {"started": "2020-01-01T00:00:00+00:00", "first_sample_at": "2020-01-01T00:00:00+00:00"}
    # what begins a session says nothing: its first sample came 12.8 s later
    events = [_logged(0, 500), _logged(50_000, 103), _logged(50_500, 104, "stage", taken=51_000)]
    found = resume_sample(settings, about, events, tmp_path)
    assert found == pytest.approx(51_000 + 104 * 500, abs=50)
    assert resume_sample(settings, about, events, tmp_path, 90.0) == 50_501 + 45_000
    # never within what is recorded
    (tmp_path / "recording").mkdir()
    with BrainVisionWriter(tmp_path / "recording" / "segment_001.vhdr", ["C4"], 250.0) as writer:
        writer.append(np.zeros((1, 55_000), np.float32))
    assert resume_sample(settings, about, events, tmp_path, 0.0) == 110_000


@pytest.mark.parametrize(
    ("ago", "says"), [(-3600, "lies in the future"), (5 * 3600, "5.0 h ago"), (9 * 86400, "216.0 h")]
)
def test_a_gap_that_no_night_has_is_asked_about(tmp_path, ago, says):
    settings = SessionSettings.model_validate({"source": {"kind": "lsl"}})
    events = [_logged(50_000, ago)]
    with pytest.raises(UserError, match=rf"last sample .*{says}.*--gap 90"):
        resume_sample(settings, {}, events, tmp_path)
    assert resume_sample(settings, {}, events, tmp_path, 30.0) == 50_001 + 15_000
    with pytest.raises(UserError, match="permitted are 0 to"):
        resume_sample(settings, {}, events, tmp_path, -5.0)


def test_other_networks_or_sounds_are_noticed_from_whatever_folder(main, recording, checkpoints, tmp_path, monkeypatch):
    shutil.copy(checkpoints.stager, tmp_path / "stager.npz")
    monkeypatch.chdir(tmp_path)
    words = ["--stager", "sistaging", "--stager-checkpoint", "stager.npz", "--set", "gate.nrem_detections=1"]
    folder = _broken_off(main, recording, words, tmp_path)
    text = (folder / "settings.yaml").read_text()
    assert f"checkpoint: {tmp_path / 'stager.npz'}" in text
    other = tmp_path / "elsewhere"
    other.mkdir()
    shutil.copy(checkpoints.stager, other / "stager.npz")
    monkeypatch.chdir(other)
    known = json.loads((folder / "session.json").read_text())
    log = (folder / "log.jsonl").read_bytes()
    for what in ("stager", "sounds"):
        changed = known | {"hashes": known["hashes"] | {what: "0" * 16}}
        (folder / "session.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match=f"{what} changed since the session began"):
            main(["--resume", str(folder), "--speed", "0"])
        assert (folder / "log.jsonl").read_bytes() == log
    (folder / "session.json").write_text(json.dumps(known))
    assert main(["--resume", str(folder), "--speed", "0"]) == 0


def test_a_second_night_of_one_subject_is_refused(tmp_path):
    """Both with an amplifier; a replay beside it, or another subject's night, is no second one."""

    class Part:
        closed = False

        def close(self):
            self.closed = True

    def night(amplifier=True):
        source = Part()
        source.amplifier = amplifier
        return SimpleNamespace(source=source, workers=Part())

    first, second = night(), night()
    with sole_night(first, tmp_path / "s1"):
        with (
            pytest.raises(UserError, match="another session of this subject runs"),
            sole_night(second, tmp_path / "s1"),
        ):
            pass
        assert second.source.closed and second.workers.closed and not first.source.closed
        with sole_night(night(), tmp_path / "s2"), sole_night(night(False), tmp_path / "s1"):
            pass
    with sole_night(night(), tmp_path / "s1"):
        pass
