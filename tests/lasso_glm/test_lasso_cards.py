"""The Lasso GLMs on data sets of other experiments: items, samples, channels, rate and windows of their cards."""

import json

import numpy as np
import pandas as pd
import pytest
from lasso_data import KEYS, PLANTED, write_cohort

from sleep_interpreter.lasso_glm.engine.plans import PLANS
from sleep_interpreter.lasso_glm.engine.report import summary_lines
from sleep_interpreter.lasso_glm.engine.run import read_subject_file
from sleep_interpreter.lasso_glm.engine.settings import LassoSettings, seconds
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import DataCard, published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle
from sleep_interpreter.utils.metrics import time_course_tests

FAST = ("--set", "statistics.permutations=200")
EIGHT = DataCard(
    title="eight", items=[{"name": f"item {k}"} for k in range(8)], channels=published().channels[:32], rate_hz=250,
    windows={"sleep": {"begin": -0.5, "end": 2.5}, "wake": {"begin": -0.1, "end": 0.5}}, conditions=["audio", "N2N3"],
)  # fmt: skip
TWO = DataCard(
    title="two", items=[{"name": "left"}, {"name": "right"}], channels=[f"E{k}" for k in range(8)], rate_hz=64,
    windows={"sleep": {"begin": 0, "end": 1}, "wake": {"begin": 0, "end": 0.5}}, conditions=["image", "N2N3"],
)  # fmt: skip


def run(call_script, tmp_path, name, data, *more):
    code, error = call_script(
        f"lasso_glm/lasso_glm_{name}.py", "--data", data, "--results", tmp_path / "results", *FAST, *more
    )
    return code, error, tmp_path / "results" / f"lasso_{name}"


@pytest.mark.slow
def test_eight_items_at_250_hz(call_script, tmp_path):
    data = write_cohort(tmp_path / "data", subjects=3, awake=5, asleep=1, strength=3.0, card=EIGHT)
    code, error, folder = run(call_script, tmp_path, "audio2audio", data)
    assert code == 0, error
    summary = json.loads((folder / "summary.json").read_text())
    results = [read_subject_file(file).arrays["audio/audio"] for file in (folder / "subjects").iterdir()]
    levels = [time_course_tests.chance_of(own) for own in results]
    assert summary["chance"] == pytest.approx(np.mean(levels)) == pytest.approx(1 / 8, abs=0.02)
    assert summary["measure"].startswith("top-1 of 8 ")
    (result,) = summary["results"].values()
    assert result["peak"]["accuracy"] > 0.5 and abs(result["validation_curve_peaks_at"] - PLANTED["audio"]) < 0.05
    table = pd.read_csv(folder / "mean.csv")
    assert len(table) == EIGHT.awake_samples and table["time"].iloc[0] == -0.1
    assert (folder / "patterns_audio.png").is_file()
    code, error, _ = run(call_script, tmp_path, "image2image", data)
    assert code == 2 and "no trials of 'image', only of audio, N2N3" in error


def test_two_items_across_domains_without_sounds_and_rem(call_script, tmp_path, caplog):
    """Of awake to sleep there is pictures to NREM; the tenth of a second becomes six samples."""
    data = write_cohort(tmp_path / "data", subjects=2, awake=10, asleep=10, strength=3.0, card=TWO)
    code, error, folder = run(call_script, tmp_path, "awake2sleep", data)
    assert code == 0, error
    assert "left out: REM, audio; the data card has no such trials" in caplog.text
    assert "fewer than 4 channels are named after a place" in caplog.text
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["results"]) == ["image/N2N3"] and summary["chance"] == 0.5
    windows = summary["settings"]["windows"]
    assert windows == {"seconds": 0.5, "step": 6 / 64, "count": 6}
    table = pd.read_csv(folder / "mean.csv")
    assert len(table) == 6 * TWO.awake_samples and sorted(set(table["offset"])) == pytest.approx(
        np.arange(6) * 6 / 64, abs=1e-4
    )
    stored = read_pickle(folder.parent / "lasso_awake2sleep.pickle")["subject_0"]
    assert list(stored) == ["image"] and list(stored["image"]) == list(range(6))


@pytest.mark.parametrize("present", [2, 3, 8])
def test_noise_of_some_of_the_items_is_not_significant(present, call_script, tmp_path):
    """Of fifteen items on the card these alone are in the files, as in a lab's pilot; nothing is planted."""
    items = [{"name": f"item {k:02d}"} for k in range(15)]
    card = DataCard(**TWO.model_dump() | {"items": items, "conditions": ["image"]})
    data = write_cohort(tmp_path / "data", subjects=7, awake=60 // present, strength=0.0, card=card)
    for file in data.glob("*/*/Whole_data.pickle"):
        content = read_pickle(file)
        content["awake_image"] = [r for r in content["awake_image"] if int(r["category"][-2:]) < present]
        write_pickle(content, file)
    code, error, folder = run(call_script, tmp_path, "image2image", data)
    assert code == 0, error
    summary = json.loads((folder / "summary.json").read_text())
    row = summary["results"]["image/image"]
    assert row["peak"]["chance"] == pytest.approx(1 / present, abs=0.04)
    # against 1 in 15, as it was, each p is the smallest that seven subjects can give, and all samples are one cluster
    assert row["peak"]["against_chance"]["wilcoxon_p"] > 0.01 and row["peak"]["permutation"]["p"] > 0.01
    assert all(cluster["p"] > 0.01 and cluster["size"] < 16 for cluster in row["clusters"]["clusters"])
    said = "\n".join(summary_lines(summary))
    assert f"chance {100 * summary['chance']:.1f} %" in said and f"{present} of 15 items present" in said


def test_windows_follow_the_card_and_are_refused_where_they_do_not_fit():
    def windows(card, *overrides):
        settings = config.load(LassoSettings, "lasso_glm", overrides=overrides)
        return settings.for_card(card, cut=True).windows

    assert windows(EIGHT).samples(EIGHT) == {"step": 25, "count": 25}
    assert windows(TWO, "windows.step=0.25").count == 3
    with pytest.raises(UserError, match=r"0\.1 s is no whole number of samples at 64 Hz"):
        windows(TWO, "windows.step=0.1")
    with pytest.raises(UserError, match=r"windows of 0\.8 s, awake trials last 0\.6 s"):
        windows(EIGHT, "windows.seconds=0.8")
    short = EIGHT.model_copy(update={"windows": EIGHT.windows.model_copy(update={"sleep": TWO.windows.wake})})
    with pytest.raises(UserError, match=r"last window ends after 0\.6 s, sleep trials last 0\.5 s"):
        windows(short)


def test_times_and_conditions_follow_the_card(tmp_path):
    assert seconds("audio", 3, EIGHT) == [-0.1, -0.096, -0.092] and seconds("N2N3", 2, EIGHT) == [-0.5, -0.496]
    plan = PLANS["awake2sleep"].for_card(EIGHT, tmp_path)
    assert (plan.train, plan.tests) == (("audio",), ("N2N3",))
    assert PLANS["awake2sleep"].for_card(published(), tmp_path) == PLANS["awake2sleep"]
    with pytest.raises(UserError, match="no trials of 'REM'"):
        PLANS["REM2awake"].for_card(EIGHT, tmp_path)
    assert len(KEYS) == len(published().conditions)
