"""The study of planted truth from end to end, on naps of three minutes and with an untrained decoder."""

import json

import pytest

from benchmarks.preparation import planted_events
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.paths import ROOT

pytestmark = pytest.mark.slow
_ENCODER = {"depth": 1, "heads": 1, "ffn": 8}
SMALL = {
    "members": 1, "d_model": 8, "features": 8, "class_hidden": 8, "head_size": 4,
    "stem": {"filters": 8, "dilations": [1], "dense": 8},
    "sleep_encoder": _ENCODER, "image_encoder": _ENCODER, "audio_encoder": _ENCODER,
}  # fmt: skip


def test_both_parts_run_and_count_what_was_planted(tmp_path, monkeypatch):
    from sleep_interpreter import model
    from sleep_interpreter.model.checkpoints import checkpoint

    path = tmp_path / "decoder.npz"
    checkpoint.save(model.build("N23SIMD", **SMALL), path, simulated=True)
    nights = [f"sets.{name}.night.hypnogram=[[N2, 1], [N3, 3]]" for name in ("cued", "naps_1", "naps_0")]
    one = [
        f"sets.{name}.{part}.test_subjects=1" for name in ("cued", "naps_1", "naps_0") for part in ("cohort", "night")
    ]
    changes = [
        *nights, *one, "before.recording.stages=[[W, 0.5], [N3, 2]]",
        "looked_at.naps_1=1", "looked_at.naps_0=1",
        f"data={(tmp_path / 'data').as_posix()}", f"decoder.checkpoint={path.as_posix()}",
        "reactivation.step_seconds=1.0", "reactivation.control.minutes=1", "reactivation.permutations=100",
    ]  # fmt: skip
    study = config.load(planted_events.PlantedEventsSettings, "planted_study", overrides=changes)
    assert (ROOT / study.data) == tmp_path / "data"
    lines = planted_events.measure(study, tmp_path / "results")
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())
    row = summary["cued"]["subject_test_0"]
    assert row["so"]["true"] > 20 and row["so"]["precision"] > 0.6 and row["so"]["recall"] > 0.3
    for name in ("naps_1", "naps_0"):
        controls = {f"{c}, {r:g}" for c in ("shuffled phases", "nap before learning") for r in study.rates_per_min}
        assert set(summary["naps"][name]) == controls | ({"around"} if name == "naps_1" else set())
        for control in controls:
            night = summary["naps"][name][control]["nights"]["subject_test_0"]
            assert 2 < night["minutes"] < 3.1 and night["promised_false_per_min"] == float(control.split()[-1])
    planted = [
        summary["naps"][n]["shuffled phases, 3"]["nights"]["subject_test_0"]["true"] for n in planted_events.NAPS
    ]
    assert planted[0] > 0 == planted[1], "with strength 0 nothing is there to be found"
    assert len(list((tmp_path / "results" / "courses").glob("*.npz"))) == 6
    around = summary["naps"]["naps_1"]["around"]
    assert 0 < around["n"] <= planted[0] and len(around["top1"]) == len(planted_events.LAGS_S)
    assert sum(line.startswith("| naps_") for line in lines) == 17
