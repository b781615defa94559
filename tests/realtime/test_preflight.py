"""--check: every thing that a night needs is tested, and what fails is said with its remedy; --dry-run."""

import os
import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.realtime.Output.sound_card import DeviceSink
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Recording.session_recording import annotations
from sleep_interpreter.realtime.Setup.preparation import cues_ahead
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

from .conftest import of
from .live import SESSION_ID, outlet, save_stream

EEG_MONTAGE = published().channels

NAMES = [*EEG_MONTAGE, "M1", "EOG1", "EMG1"]


@pytest.fixture
def check(main, capsys, tmp_path):
    """Run --check; return the exit code, {name: (state, found)} and {name: remedy}."""

    def run(*arguments):
        words = ["--check", "--subject", "s1", "--out", tmp_path / "out", "--set", "workers=inline", *arguments]
        code = main([*map(str, words)])
        lines = capsys.readouterr().out.splitlines()
        assert not (tmp_path / "out").exists()
        states = [line for line in lines if line.split(" ")[0] in ("ok", "warn", "fail")]
        found = {line[6:].split("  ")[0]: (line[:5].strip(), line[6:].split("  ", 1)[1].strip()) for line in states}
        remedies = dict(line.strip().split(": ", 1) for line in lines if line.startswith("      "))
        failed = [name for name, (state, _) in found.items() if state == "fail"]
        assert code == (3 if failed else 0)
        assert lines[-1] == (f"NO-GO: {', '.join(failed)}" if failed else "GO")
        # each line that is not "ok" says what to do, but for a notice, which says it itself
        assert {name for name, (state, _) in found.items() if state != "ok"} - {"notice"} == set(remedies)
        return code, found, remedies

    return run


def test_a_recording_that_will_do_is_a_go(check, recording, flags):
    code, found, _ = check("--recording", recording, *flags, "--set", "audio.sink=file")
    assert code == 0
    assert {"source", "cores", "clock", "staging channels", "decoding channels", "stager", "decoder NREM",
            "sound", "markers", "disk"} <= set(found)  # fmt: skip
    assert found["staging channels"] == ("ok", "C4, EMG1, EOG1")
    assert found["decoding channels"] == ("ok", "55 channels")


@pytest.mark.parametrize(
    ("arguments", "failed", "words", "remedy"),
    [
        (["--recording", "nowhere.edf"], "session", "recording not found", "see the sentence"),
        (["--set", "channels.eeg=C44"], "session", "channels.eeg = 'C44'", "see the sentence"),
        (["--decoder-checkpoint", "none.npz"], "session", "none.npz", "see the sentence"),
        (["--set", "audio.folder=nowhere"], "session", "missing alarm.wav", "see the sentence"),
        (["--speed", 1, "--set", "audio.sink=device", "--set", "audio.device=none of these"], "sound",
         "audio.sink = 'device'", "connect the device"),
        (["--set", "markers.serial={port: /dev/none}"], "markers", "/dev/none", "connect the port"),
        (["--set", "recording.reserve_gib=1e6"], "disk", "GiB free", "choose another folder with --out"),
    ],
)  # fmt: skip
def test_each_failure_is_named_with_its_remedy(check, recording, staged, arguments, failed, words, remedy):
    code, found, remedies = check("--recording", recording, *staged, *arguments)
    assert code == 3 and [name for name, (state, _) in found.items() if state == "fail"] == [failed]
    assert words in found[failed][1] and remedy in remedies[failed]
    assert {"sound", "markers", "disk", "clock"} <= set(found)  # the rest is tested all the same
    assert ("stager" in found) == (failed != "session")


def test_all_failures_are_found_at_once(check, staged):
    code, found, _ = check(
        "--recording", "nowhere.edf", *staged, "--speed", 1, "--set", "audio.sink=device",
        "--set", "audio.device=none of these", "--set", "markers.serial={port: /dev/none}",
    )  # fmt: skip
    assert code == 3
    assert [n for n, (state, _) in found.items() if state == "fail"] == ["session", "sound", "markers"]


def test_a_folder_that_cannot_be_written_is_a_no_go(main, capsys, recording, staged, tmp_path):
    (tmp_path / "file").write_text("")
    words = ["--check", "--recording", str(recording), *staged, "--subject", "s1"]
    assert main([*words, "--out", str(tmp_path / "file" / "out")]) == 3
    assert "disk: make room there, or choose another folder with --out" in capsys.readouterr().out
    disk = tmp_path / "full"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a full disk needs the right to mount one")
    try:
        assert main([*words, "--out", str(disk)]) == 3
        assert "No space left on device" in capsys.readouterr().out
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def live(source_id, *more):
    return [
        "--source", "lsl", "--set", f"source.lsl.session_id={SESSION_ID}",
        "--set", f"source.lsl.source_id={source_id}", "--set", "source.lsl.timeout_seconds=10",
        "--set", "audio.sink=file", "--set", "quality.seconds=2", *more,
    ]  # fmt: skip


def test_an_amplifier_is_listened_to_before_the_night(check, signal_microvolts, flags, tmp_path):
    source = f"{os.getpid()}-check"
    data = signal_microvolts.copy()
    now_and_then = np.arange(data.shape[1]) // 500 % 2 == 0  # an electrode dead for good is refused at once
    for name in ("C4", "Oz"):
        data[NAMES.index(name), now_and_then] = 0.0
    code, found, _ = check(*live(f"{source}-none", *flags, "--set", "source.lsl.timeout_seconds=1"))
    assert code == 3 and "no LSL stream" in found["session"][1]
    with outlet(source, "--file", save_stream(tmp_path / "night.npz", data, NAMES), "--seconds", 600):
        code, found, remedies = check(*live(source, *flags))
        assert code == 3 and found["source"][0] == "ok"
        assert "C4 is flat" in found["staging channels"][1] and "electrode" in remedies["staging channels"]
        assert found["decoding channels"][0] == "warn" and "Oz is flat" in found["decoding channels"][1]
        code, found, _ = check(*live(source, *flags, "--set", "channels.eeg=C3"))
        assert found["staging channels"] == ("ok", "C3, EMG1, EOG1") and found["disk"][0] == "ok"
        assert "8 h need" in found["disk"][1] and "need 0.0" not in found["disk"][1]
        code, found, _ = check(*live(source, *flags, "--set", "channels.eeg=E99"))
        assert code == 3 and "channels.eeg = 'E99'" in found["session"][1]


def test_a_dry_run_decides_all_and_nothing_leaves_the_machine(session, recording, staged):
    result = session(
        recording, *staged, "--dry-run", "--stop", 60, "--set", "markers.serial={port: /dev/none}",
        "--set", "audio.sink=device",
    )  # fmt: skip
    assert result.code == 0 and of(result, "cue") and of(result, "stage")
    assert any("no cue sounds" in e["detail"]["text"] for e in of(result, "notice"))
    names = {path.name for path in result.folder.iterdir()}
    assert not names & {"cues.flac", "audio.tsv", "ports.tsv"}
    # decided, and counted nowhere
    assert result.about["dry_run"] and result.summary["cues"]["total"] == result.summary["decodes"]["total"] == 0
    assert result.summary["cues"]["not_sounded"] == len(of(result, "cue"))
    assert not any(e["detail"]["sounded"] for e in of(result, "cue"))
    assert not any(text.startswith("cue/") for _, text in annotations(result.folder, 500))
    report = (result.folder / "report.html").read_text(encoding="utf-8")
    assert "Dry run: nothing sounded" in report and "No cue was played" in report
    table = pd.read_csv(result.folder / "cues.tsv", sep="\t")
    assert len(table) == len(of(result, "cue")) and set(table["left_out"]) == {"did not sound"}


def test_cues_are_decided_as_far_ahead_as_stream_and_card_need(monkeypatch):
    """Blocks of 0.2 s, a slow card, one too slow for locked cues, and a port that needs the marker in time."""

    def ahead(stream, card, **settings):
        chosen = SessionSettings(source={"kind": "lsl"}, **settings)
        source = SimpleNamespace(delivery_seconds=lambda: stream)
        monkeypatch.setattr(DeviceSink, "latency", lambda audio: card)
        return cues_ahead(chosen, source, "file" if card is None else "device")

    locked = {"lock": {"method": "echt"}}
    for stream, card, cues, lead in (
        (0.03, 0.06, {}, 0.2), (0.21, 0.06, {}, 0.33), (0.03, 0.4, {}, 0.49), (0.03, 0.06, locked, 0.15),
    ):  # fmt: skip
        found, said = ahead(stream, card, cues=cues)
        own = found.cues.lock if cues else found.cues
        assert own.lead_seconds == lead
        assert ("instead of" in said) is (lead != 0.2)
    assert ahead(0.4, None)[0].cues.lead_seconds == 0.2  # a file is in no hurry, a trigger box is
    assert ahead(0.4, None, markers={"lsl": True})[0].cues.lead_seconds == 0.46
    for stream, cues, words in ((1.0, {}, "at most 1 s"), (0.5, locked, r"at most 0\.5 s .* or do not lock cues")):
        with pytest.raises(UserError, match=words):
            ahead(stream, 0.06, cues=cues)
