"""What an evaluation writes and says: the same numbers everywhere, missing ones as missing."""

import json
from dataclasses import replace
from pathlib import Path

import evaluation_data as made
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from sleep_interpreter.train.evaluation import decoder_report
from sleep_interpreter.train.evaluation.decoder_report import Predictions
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import PARAMS
from sleep_interpreter.utils.core.safe_pickle import read_pickle
from sleep_interpreter.utils.metrics import decoding_metrics
from sleep_interpreter.utils.metrics.reliability import confidence_reliability
from sleep_interpreter.utils.plots import style

ITEMS = published().item_names
NOTES = {"simulated": True, "data_fingerprint": made.FINGERPRINT, "warnings": ["given"]}


class FixedDecoder:
    """A decoder that says item k for a trial filled with k, with probability 0.6."""

    network, card = "fixed", published()

    def __init__(self, **other):
        self.settings = config.load(experiment.Experiment, "N23SIMD").model.model_copy(update=other)
        self.batches = []

    def predict_proba(self, x):
        self.batches.append(len(x))
        return np.eye(15, dtype=np.float32)[x[:, 0, 0].astype(int)] * 0.6 + np.float32(0.4 / 15)


@pytest.fixture
def people():
    return [
        made.predictions("subject_test_0", n=90, strength=2.0),
        made.predictions("subject_test_1", n=0),
        made.predictions("subject_test_2", n=45, strength=0.0),
        made.predictions("subject_test_10", n=45, strength=2.0),
    ]


def test_report_writes_the_same_numbers_everywhere(people, tmp_path):
    folder = tmp_path / "N23SIMD"
    summary = decoder_report.report(people, folder, "N23SIMD", made.SETTINGS, NOTES)
    assert json.loads((folder / "summary.json").read_text()) == summary
    table = pd.read_csv(folder / "predictions.csv")
    stored = read_pickle(tmp_path / "N23SIMD.pickle")
    flat = pd.read_csv(folder / "subjects.csv").set_index("subject")
    assert list(stored) == [p.subject for p in people] == list(summary["subjects"]) == list(flat.index)
    for p in people:
        row, own = summary["subjects"][p.subject], table[table["subject"] == p.subject]
        assert row["n"] == len(p) == len(own) == row["top3"]["n"] == row["balanced"]["n"]
        written = own[[f"p_{item}" for item in ITEMS]].to_numpy(np.float32)
        assert np.array_equal(written, p.probability), "every digit"
        assert np.array_equal(stored[p.subject]["probability"], p.probability)
        if not len(p):
            continue
        assert row["accuracy"] == own["correct"].mean()
        assert flat.loc[p.subject, "accuracy"] == pytest.approx(row["accuracy"])
        assert row["top3"]["accuracy"] == (own["rank"] <= 3).mean()
        assert row["balanced"]["accuracy"] == pytest.approx(balanced_accuracy_score(own["item"], own["predicted"]))
        assert flat.loc[p.subject, "permutation.p"] == pytest.approx(row["permutation"]["p"])
        assert row["recall"]["kiwi"]["n"] == (own["item"] == "kiwi").sum()
        assert sum(row["data_types"].values()) == row["n"]
    overall = summary["overall"]
    assert (overall["subjects"], overall["n"]) == (3, 180)
    means = [row["accuracy"] for row in summary["subjects"].values() if row["n"]]
    assert overall["accuracy"] == pytest.approx(np.mean(means))
    assert overall["pooled"] == pytest.approx(table["correct"].mean())
    assert overall["recall"]["ball"]["hits"] == table[table["item"] == "ball"]["correct"].sum()
    shares = [np.bincount(p.label, minlength=15) @ np.bincount(p.decoded, minlength=15) for p in people]
    by_chance = [share / len(p) ** 2 for share, p in zip(shares, people, strict=True) if len(p)]
    assert overall["chance"] == pytest.approx(np.mean(by_chance)) != 1 / 15
    assert [row["chance"] for row in summary["subjects"].values() if row["n"]] == pytest.approx(by_chance)
    pooled = confidence_reliability(
        np.concatenate([p.label for p in people]), np.concatenate([p.probability for p in people]), 15
    )
    assert overall["calibration"] == pooled
    counts = pd.read_csv(folder / "confusion_matrix.csv").set_index(["subject", "item"])
    assert counts.loc["all"].to_numpy().sum() == 180
    assert np.trace(counts.loc["subject_test_2"].to_numpy()) == summary["subjects"]["subject_test_2"]["hits"]
    for figure in ("accuracy.png", "confusion_matrix.png", "calibration.png"):
        assert (folder / figure).stat().st_size > 5000


@pytest.mark.usefixtures("undrawn")
def test_a_subject_without_trials_is_missing_not_zero(people, tmp_path):
    summary = decoder_report.report(people, tmp_path / "run", "run", made.SETTINGS, NOTES)
    row = summary["subjects"]["subject_test_1"]
    assert summary["missing"] == ["subject_test_1"] and row["n"] == 0
    for part in (row, row["top3"], row["balanced"]):
        assert part["accuracy"] is None and part["low"] is None and part["permutation"]["p"] is None
    assert row["calibration"]["ece"] is None and row["recall"]["ball"]["recall"] is None
    assert pd.read_csv(tmp_path / "run" / "subjects.csv").set_index("subject")["accuracy"].isna().sum() == 1
    lines = decoder_report.summary_lines(summary)
    assert any("subject_test_1" in line and "no trials" in line for line in lines)


@pytest.mark.usefixtures("undrawn")
def test_evidence_is_found_where_there_is_some_and_only_there(people, tmp_path):
    summary = decoder_report.report(people, tmp_path / "run", "run", made.SETTINGS, NOTES)
    p = {name: row["permutation"]["p"] for name, row in summary["subjects"].items()}
    assert p["subject_test_0"] == p["subject_test_10"] == 1 / 201 and p["subject_test_2"] > 0.05
    assert summary["overall"]["permutation"]["p"] == 1 / 201
    assert summary["overall"]["against_chance"]["wilcoxon_p"] is None, "3 subjects"
    assert summary["warnings"] == ["given"], "the interval of 3 subjects covers, too"
    nothing = [made.predictions(f"s{i}", strength=0.0, seed=9) for i in range(6)]
    summary = decoder_report.report(nothing, tmp_path / "none", "none", made.SETTINGS, NOTES)
    assert summary["overall"]["permutation"]["p"] > 0.05
    assert summary["overall"]["against_chance"]["wilcoxon_p"] > 0.05
    assert summary["overall"]["permutation"]["mean"] == pytest.approx(1 / 15, abs=0.01)


@pytest.mark.usefixtures("undrawn")
def test_two_items_of_fifteen_that_are_guessed_are_no_discovery(tmp_path):
    """A decoder that names nothing but the two items there are is right half of the time."""
    random = np.random.default_rng(11)
    probability = 0.8 * np.eye(15)[random.integers(2, size=(8, 90))] + 0.2 / 15
    people = [made.predictions(f"s{i}", labels=np.arange(90) % 2) for i in range(8)]
    people = [replace(p, probability=own) for p, own in zip(people, probability.astype(np.float32), strict=True)]
    summary = decoder_report.report(people, tmp_path / "run", "run", made.SETTINGS, NOTES)
    overall = summary["overall"]
    assert overall["accuracy"] > 0.45 and overall["chance"] == pytest.approx(0.5, abs=0.01)
    assert overall["against_chance"]["wilcoxon_p"] > 0.05 and overall["against_chance"]["sign_flip_p"] > 0.05
    assert all(row["p"] > 0.01 for row in summary["subjects"].values())
    lines = decoder_report.summary_lines(summary)
    assert "chance 0.5000 (of permuted labels; 1 in 15 is 0.0667)" in lines[0]
    assert any("2 of 15 items present" in line and "balanced accuracy" in line for line in lines)
    even = [made.predictions(f"s{i}", labels=np.arange(90) % 15) for i in range(2)]
    lines = decoder_report.summary_lines(decoder_report.report(even, tmp_path / "e", "e", made.SETTINGS, NOTES))
    assert lines[0].endswith("top-1 of 15, chance 0.0667 (simulated data)")
    assert not any("items present" in line for line in lines)


def test_a_subjects_row_does_not_depend_on_the_others(people):
    alone, _ = decoding_metrics.subject_row(people[2], made.SETTINGS)
    again, _ = decoding_metrics.subject_row(people[2], made.SETTINGS)
    other = made.predictions("subject_test_3", labels=people[2].label)
    assert alone == again and alone["permutation"] != decoding_metrics.subject_row(other, made.SETTINGS)[0]


@pytest.mark.usefixtures("undrawn")
def test_extra_columns_stand_in_the_rows(people, tmp_path):
    extra = {"subject_test_0": {"published_score": 0.25, "chosen_epoch": 7}}
    summary = decoder_report.report(people, tmp_path / "run", "run", made.SETTINGS, NOTES, extra)
    assert summary["subjects"]["subject_test_0"]["chosen_epoch"] == 7
    flat = pd.read_csv(tmp_path / "run" / "subjects.csv").set_index("subject")
    assert flat.loc["subject_test_0", "published_score"] == 0.25
    line = next(line for line in decoder_report.summary_lines(summary) if "subject_test_0" in line)
    assert "published_score 0.250" in line and "chosen_epoch 7" in line
    for wrong in ({"subject_test_0": {"accuracy": 1.0}}, {"nobody": {"x": 1}}):
        with pytest.raises(ValueError, match=r"accuracy|nobody"):
            decoder_report.report(people, tmp_path / "bad", "bad", made.SETTINGS, NOTES, wrong)


def test_everything_simulated_says_so(people, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(style, "save", lambda figure, path: titles.append(figure.get_suptitle()))
    for notes, words in [
        ({"simulated": True}, "simulated"),
        ({"simulated": False, "checkpoint_notes": {"simulated": True}}, "trained on simulated data"),
        ({"simulated": False, "checkpoint_notes": {}}, None),
    ]:
        titles.clear()
        summary = decoder_report.report(people, tmp_path / "run", "run", made.SETTINGS, notes)
        line = decoder_report.summary_lines(summary)[0]
        assert len(titles) == 3
        for text in [line, *titles]:
            assert words in text if words else "simulated" not in text
            assert "real" not in text


def test_figures_fit_a_column_and_stand_missing_and_perfect_subjects(tmp_path):
    from matplotlib.image import imread

    rows = [made.predictions("subject_test_0", strength=60.0), made.predictions("a_much_longer_name", n=0)]
    decoder_report.report(rows, tmp_path / "run", "run", made.SETTINGS, NOTES)
    for figure in (tmp_path / "run").glob("*.png"):
        assert imread(figure).shape[1] == 3.5 * 300, figure.name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"probability": np.full((3, 15), np.nan)}, "not finite"),
        ({"probability": np.full((3, 15), 0.5)}, "not adding up"),
        ({"probability": np.full((3, 10), 0.1)}, "(3, 15)"),
        ({"probability": np.full((2, 15), 1 / 15)}, "3 labels"),
        ({"label": np.array([0, 1, 15])}, "0 to 14"),
        ({"label": np.array([0.0, 1, 2])}, "whole numbers"),
    ],
)
def test_what_is_no_prediction_is_refused(change, words, tmp_path):
    good = {
        "subject": "subject_test_0",
        "file": Path("x/N2N3_data.pickle"),
        "label": np.array([0, 1, 2]),
        "data_type": np.array(["test"] * 3),
        "probability": np.full((3, 15), 1 / 15),
    }
    with pytest.raises(UserError) as error:
        decoder_report.report([Predictions(**good | change)], tmp_path / "run", "run", made.SETTINGS, NOTES)
    assert words in str(error.value) and "N2N3_data.pickle" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_nobody_with_trials_and_a_subject_twice_are_refused(tmp_path):
    for rows, words in [
        ([made.predictions("a", n=0)], "none has a trial"),
        ([made.predictions("a"), made.predictions("a")], "given twice"),
    ]:
        with pytest.raises(UserError, match=words):
            decoder_report.report(rows, tmp_path / "run", "run", made.SETTINGS, NOTES)


@pytest.mark.usefixtures("undrawn")
def test_ties_are_counted_and_named(tmp_path):
    p = Predictions("s", Path("f"), np.arange(15), np.array(["test"] * 15), np.full((15, 15), 1 / 15, np.float32))
    summary = decoder_report.report([p], tmp_path / "run", "run", made.SETTINGS, NOTES)
    assert summary["overall"]["ties"] == 15 and summary["overall"]["pooled"] == 1 / 15
    assert any("15 of 15 trials have tied" in w and "alphabetical" in w for w in summary["warnings"])
    assert summary["subjects"]["s"]["top3"]["hits"] == 3 and summary["subjects"]["s"]["permutation"]["p"] == 1


@pytest.mark.usefixtures("undrawn")
def test_a_report_that_cannot_be_written_leaves_the_last_one_whole(people, tmp_path, monkeypatch):
    decoder_report.report(people, tmp_path / "run", "run", made.SETTINGS, NOTES)
    before = {p.relative_to(tmp_path): p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decoder_report, "write_pickle", full)
    with pytest.raises(OSError, match="No space"):
        decoder_report.report(people[:1], tmp_path / "run", "run", made.SETTINGS, NOTES)
    assert {p.relative_to(tmp_path): p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()} == before


def fixed_subject(name, said, label):
    from sleep_interpreter.data.formats.test_trials import TestSubject

    sleep = np.zeros((len(label), 200, 55), np.float32) + np.array(said, np.float32).reshape(-1, 1, 1)
    return TestSubject(name, Path(f"{name}.pickle"), sleep, np.array(label, int), np.array(["test"] * len(label)))


@pytest.mark.usefixtures("undrawn")
def test_subjects_are_predicted_in_batches_and_reported(tmp_path):
    model = FixedDecoder()
    subjects = [
        fixed_subject("s0", np.arange(40) % 15, np.arange(40) % 15),
        fixed_subject("s1", [3, 4], [3, 5]),
        fixed_subject("s2", [], []),
    ]
    predictions = decoder_report.predict_subjects(model, subjects, made.SETTINGS.batch_size)
    summary = decoder_report.report(predictions, tmp_path / "run", "run", made.SETTINGS, NOTES)
    assert model.batches == [16, 16, 8, 2]
    assert [row["accuracy"] for row in summary["subjects"].values()] == [1.0, 0.5, None]
    assert decoder_report.predict(model, np.zeros((0, 200, 55)), 16).shape == (0, 15)


@pytest.mark.parametrize("other", [{"classes": 10}, {"sleep_samples": 250}, {"channels": 64}])
def test_a_network_for_other_trials_is_refused(other):
    subjects = [fixed_subject("s0", [1], [1])]
    with pytest.raises(UserError) as error:
        decoder_report.predict_subjects(FixedDecoder(**other), subjects, made.SETTINGS.batch_size, "c.npz")
    message = str(error.value)
    assert message.startswith("c.npz: ") and str(next(iter(other.values()))) in message
    assert "200 samples x 55 channels of 15 items" in message and "s0.pickle" in message


GROUPS = ("Pre-SO", "1st-Up", "Down", "Post-SO")


def grouped(strengths, counts, people=7):
    return {
        group: [made.predictions(f"subject_test_{i}", n=n if i else 0, strength=s, seed=i) for i in range(people)]
        for group, s, n in zip(GROUPS, strengths, counts, strict=True)
    }


def test_groups_have_a_row_each_and_holm_over_those_with_trials(tmp_path):
    predictions = grouped([0.0, 2.0, 1.0, 0.0], [30, 30, 0, 45])
    folder = tmp_path / "N23SIMD_SO"
    summary = decoder_report.report_groups(predictions, folder, "N23SIMD_SO", made.SETTINGS, NOTES)
    assert list(summary["groups"]) == list(GROUPS) and summary["missing"] == ["Down"]
    rows = summary["groups"]
    assert rows["Down"]["accuracy"] is None and rows["Down"]["permutation_p_holm"] is None
    assert (rows["1st-Up"]["subjects"], rows["1st-Up"]["n"]) == (6, 180)
    assert rows["1st-Up"]["permutation"]["p"] == 1 / 201
    assert rows["1st-Up"]["permutation_p_holm"] == pytest.approx(3 / 201), "3 groups with trials"
    assert rows["Pre-SO"]["permutation_p_holm"] > 0.05 and rows["1st-Up"]["against_chance"]["wilcoxon_p"] < 0.05
    assert rows["1st-Up"]["by_subject"]["subject_test_0"]["accuracy"] is None
    assert rows["1st-Up"]["by_subject"]["subject_test_1"]["chance"] != 1 / 15, "of the items of these trials"
    table = pd.read_csv(folder / "predictions.csv")
    assert table.groupby("group", sort=False).size().to_dict() == {"Pre-SO": 180, "1st-Up": 180, "Post-SO": 270}
    stored = read_pickle(tmp_path / "N23SIMD_SO.pickle")
    assert list(stored["subject_test_3"]) == list(GROUPS)
    assert stored["subject_test_3"]["Down"]["probability"].shape == (0, 15)
    flat = pd.read_csv(folder / "groups.csv").set_index("group")
    assert flat.loc["Post-SO", "n"] == 270 and np.isnan(flat.loc["Down", "accuracy"])
    assert (folder / "groups.png").stat().st_size > 5000
    lines = decoder_report.group_summary_lines(summary)
    assert "(simulated data)" in lines[0] and any("Down" in line and "no trials" in line for line in lines)


def test_groups_without_any_trial_are_refused(tmp_path):
    with pytest.raises(UserError, match="no trial in any of the groups"):
        decoder_report.report_groups(grouped([0] * 4, [0] * 4), tmp_path / "SO", "SO", made.SETTINGS, NOTES)


def test_defaults_are_those_of_the_settings_file():
    settings = config.load(experiment.Experiment, "N23SIMD").evaluate
    assert (settings.permutations, settings.bootstrap, settings.calibration_bins) == (10_000, 10_000, 15)
    assert config.load(experiment.Experiment, "REMSISD", quick=True).evaluate.permutations == 1000
    with pytest.raises(UserError, match=r"evaluate\.permutations"):
        config.load(experiment.Experiment, PARAMS / "N23SIMD.yaml", overrides=["evaluate.permutations=10"])
