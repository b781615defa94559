"""test/reactivation.py from the command line, on a prepared night, with a small untrained decoder."""

import json

import numpy as np
import pytest

from sleep_interpreter.train.commands import reactivation
from sleep_interpreter.utils.core.data_card import published

ITEMS = published().item_names


_ENCODER = {"depth": 1, "heads": 1, "ffn": 8}
SMALL = {
    "members": 1, "d_model": 8, "features": 8, "class_hidden": 8, "head_size": 4,
    "stem": {"filters": 8, "dilations": [1], "dense": 8},
    "sleep_encoder": _ENCODER, "image_encoder": _ENCODER, "audio_encoder": _ENCODER,
}  # fmt: skip


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """Return the path of a small decoder that is marked as trained on simulated data."""
    from sleep_interpreter import model
    from sleep_interpreter.model.checkpoints import checkpoint

    path = tmp_path_factory.mktemp("checkpoint") / "decoder.npz"
    checkpoint.save(model.build("N23SIMD", **SMALL), path, simulated=True)
    return path


def test_the_script_writes_what_its_help_says(prepared, decoder, call_script, tmp_path, monkeypatch):
    out, *_ = prepared
    scores = tmp_path / "scores.tsv"
    rows = [f"s1\t{item}\t{k}" for k, item in enumerate(ITEMS)]  # the lab's own name of the subject
    scores.write_text("\n".join(["subject\titem\tscore", *rows]) + "\n")
    options = ["--set", "step_seconds=0.5", "--set", "guard_seconds=0", "--set", "control.minutes=1"]
    code, said = call_script(
        "test/reactivation.py", "--data", out, "--results", tmp_path, "--checkpoint", decoder,
        "--behaviour", scores, "--set", "false_alarms_per_min=20", "--set", "permutations=200", *options,
    )  # fmt: skip
    assert code == 0, said
    root = tmp_path / "reactivation"
    names = ("summary.json", "rates.tsv", "rates.png", "behaviour.tsv", "behaviour.png")
    for name in (*names, "subject_test_0/night.npz", "subject_test_0/night.png", "subject_test_0/night_events.tsv"):
        assert (root / name).is_file(), name
    summary = json.loads((root / "summary.json").read_text())
    assert set(summary["subjects"]) == {"subject_test_0"} and summary["behaviour"]["permutations"] == 200
    assert set(summary["subjects"]["subject_test_0"]["levels"]) == {"N2", "N3"}  # REM has no decoder here
    warnings = summary["subjects"]["subject_test_0"]["warnings"]  # 20 a minute are allowed: none about minutes
    assert len(warnings) == 2 and all("pieces of N" in w and "cues" in w for w in warnings)
    assert summary["excess"]["n"] == 1 and "conditions" not in summary
    [night] = summary["subjects"]["subject_test_0"]["nights"].values()
    found, usual = (sum(night[key].values()) for key in ("so_groups", "so_groups_at_any_time"))
    assert usual == pytest.approx(found, abs=0.1) and night["so_groups"].keys() == night["so_groups_at_any_time"].keys()
    with np.load(root / "subject_test_0" / "night.npz") as stored:
        assert set(stored["stage"]) == {1, 2} and np.allclose(stored["probability"].sum(axis=1), 1, atol=1e-4)
    before = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    again = ["test/reactivation.py", "--data", out, "--results", tmp_path, "--checkpoint", decoder, *options]
    with monkeypatch.context() as patched:
        patched.setattr(reactivation.plots_reactivation, "rates", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call_script(*again, "--set", "permutations=100")
    assert {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()} == before
    code, said = call_script(*again, "--set", "permutations=100")
    assert code == 0, said
    left = {path.relative_to(root).as_posix() for path in before} - {"behaviour.tsv", "behaviour.png"}
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == left


def test_what_is_missing_is_said(prepared, decoder, call_script, tmp_path):
    out, *_ = prepared
    code, said = call_script("test/reactivation.py", "--data", tmp_path, "--checkpoint", decoder)
    assert code == 2 and "outputs.continuous" in said
    code, said = call_script(
        "test/reactivation.py", "--data", out, "--checkpoint", decoder, "--control", "before", "--results", tmp_path
    )
    assert code == 2 and "no session 'before'; it has night" in said


WRONG = {
    "behaviour, unknown item": ("--behaviour", "subject\titem\tscore\ns1\tbanana\t1\n", "unknown item 'banana'"),
    "behaviour, no score": ("--behaviour", "subject\titem\tpoints\ns1\talarm\t1\n", "no column 'score'"),
    "behaviour, nobody": (
        "--behaviour",
        "subject\titem\tscore\ns7\talarm\t1\n",
        "none of subject_test_0 (s1) is in it",
    ),
    "behaviour, decimal comma": ("--behaviour", "subject\titem\tscore\ns1\talarm\t0,5\n", "write a decimal point"),
    "conditions, no column": ("--conditions", "subject\tsession\ns1\tnight\n", "no column 'condition'"),
    "conditions, nobody": ("--conditions", "subject\tcondition\ns7\ttmr\n", "subject_test_0"),
}


@pytest.mark.parametrize("way", WRONG)
def test_a_wrong_table_is_refused_before_the_computing(prepared, decoder, call_script, tmp_path, way):
    option, content, words = WRONG[way]
    (tmp_path / "table.tsv").write_text(content)
    code, said = call_script(
        "test/reactivation.py", "--data", prepared[0], "--checkpoint", decoder, "--results", tmp_path,
        option, tmp_path / "table.tsv",
    )  # fmt: skip
    assert code == 2 and words in said
    assert [path.name for path in tmp_path.iterdir()] == ["table.tsv"]
