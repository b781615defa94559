"""Items cued several times in a row, signals that drift: what the reports say, and what they no longer find."""

import json
from dataclasses import replace

import evaluation_data as made
import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.data.formats.test_trials import TestSubject
from sleep_interpreter.train.commands import reactivation
from sleep_interpreter.train.engine import finetuning
from sleep_interpreter.train.evaluation import comparison, decoder_report
from sleep_interpreter.utils.metrics.exchangeability import exchange

NOTES = {"data": "data", "data_fingerprint": made.FINGERPRINT, "simulated": True}


def person(name, seed, follow=1.0):
    """Return predictions of items each cued 6 times in a row; the decoder names one item for six trials on end."""
    random = np.random.default_rng(seed)
    label = np.repeat(random.permutation(15), 6)
    said = np.roll(np.repeat(random.permutation(15), 6), random.integers(90))
    said = np.where(random.random(90) < follow, said, label)
    own = made.predictions(name, labels=label)
    probability = (0.8 * np.eye(15)[said] + 0.2 / 15).astype(np.float32)
    return replace(own, probability=probability)


def test_drift_is_no_decoding_and_the_report_says_how_it_was_tested(tmp_path):
    """With single labels permuted these subjects were significant in 17 %."""
    found, single = [], []
    for seed in range(40):
        for permute, p in (("auto", found), ("trials", single)):
            settings = made.SETTINGS.model_copy(update={"permute": permute, "bootstrap": 100})
            row = decoder_report.decoding_metrics.subject_row(person("s", seed), settings)[0]
            p.append(row["permutation"]["p"] <= 0.05)
            assert (row["p"] is None) == (permute == "auto")
    assert np.mean(found) <= 0.125 < np.mean(single)
    people = [person(f"s{k}", k, follow=0.5) for k in range(3)]
    summary = decoder_report.report(people, tmp_path / "run", "run", made.SETTINGS, NOTES)
    assert summary["overall"]["permutation"]["unit"] == "stretches"
    assert summary["overall"]["permutation"]["p"] == 1 / 201, "half of the trials are decoded"
    said, _ = summary["warnings"]  # the other one: of ties
    assert "in 3 of 3; s0: 75 of 90 follow one of the same item, 5.0 in a random order" in said
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["warnings"][0] == said
    assert f"  warning: {said}" in decoder_report.summary_lines(summary)


def two_blocks(name):
    """Return predictions of two items, each cued in one block, that are all right."""
    label = np.repeat([0, 1], 6)
    return replace(made.predictions(name, labels=label), probability=np.eye(15, dtype=np.float32)[label])


def test_too_few_stretches_tell_nothing_of_one_subject_but_of_six(tmp_path):
    one = decoder_report.report([two_blocks("s")], tmp_path / "one", "one", made.SETTINGS, NOTES)
    row = one["subjects"]["s"]["permutation"]
    assert row["p"] is None and row["note"] == "2 orders of its stretches are too few for p <= 0.05"
    assert one["overall"]["permutation"]["p"] is None and one["overall"]["prevalence"]["subjects"] == 0
    text = "\n".join(decoder_report.summary_lines(one))
    assert "permuted labels tell nothing: 2 orders" in text and "no subject's labels can be permuted" in text
    people = [two_blocks(f"s{k}") for k in range(6)]
    six = decoder_report.report(people, tmp_path / "six", "six", made.SETTINGS, NOTES)
    assert six["overall"]["permutation"]["p"] == pytest.approx(2**-6, abs=0.03)
    assert six["subjects"]["s0"]["permutation"]["p"] is None


def test_a_subject_whose_labels_may_not_be_permuted_stays_out_of_the_test(tmp_path):
    random = np.random.default_rng(1)
    label = np.concatenate([random.permutation(np.repeat(own, 6)) for own in random.permutation(15).reshape(5, 3)])
    people = [made.predictions("bad", labels=label), *(made.predictions(f"s{k}", strength=3.0) for k in range(2))]
    summary = decoder_report.report(people, tmp_path / "run", "run", made.SETTINGS, NOTES)
    assert summary["subjects"]["bad"]["permutation"]["p"] is None
    assert summary["subjects"]["bad"]["permutation"]["permutations"] == 0
    assert summary["overall"]["prevalence"]["subjects"] == 2 and summary["overall"]["subjects"] == 3
    assert summary["overall"]["permutation"]["p"] == 1 / 201
    assert "tell nothing of bad alone" in summary["warnings"][0]
    known = replace(people[0], origin=pd.DataFrame({"session": "nap", "run": np.repeat(list("12345"), 18)}))
    summary = decoder_report.report([known, *people[1:]], tmp_path / "runs", "runs", made.SETTINGS, NOTES)
    assert summary["subjects"]["bad"]["permutation"]["p"] is not None
    assert "permuted by trials within runs" in summary["warnings"][0]


def test_groups_of_trials_are_permuted_by_stretches_too(tmp_path):
    groups = {"Down": [person(f"s{k}", k, 0.3) for k in range(2)], "1st-Up": [two_blocks("s0")]}
    summary = decoder_report.report_groups(groups, tmp_path / "SO", "SO", made.SETTINGS, NOTES)
    assert summary["groups"]["Down"]["permutation"]["unit"] == "stretches"
    assert summary["groups"]["1st-Up"]["permutation_p_holm"] is None
    assert summary["groups"]["Down"]["by_subject"]["s1"]["p"] is None
    assert "s1, Down" in summary["warnings"][-1] or "s0, Down" in summary["warnings"][-1]
    assert any(" - " in line for line in decoder_report.group_summary_lines(summary))


def test_compare_hands_the_warning_on(tmp_path):
    for name, seed in (("one", 0), ("other", 100)):
        people = [person(f"s{k}", k) for k in range(3)]
        mixed = [replace(p, probability=np.roll(p.probability, seed, axis=1)) for p in people]
        decoder_report.report(mixed, tmp_path / name, name, made.SETTINGS, NOTES)
    found = comparison.compare([str(tmp_path / "one"), str(tmp_path / "other")], tmp_path)
    told = [text for text in found["warnings"] if "clustered in time" in text]
    assert len(told) == 2 and told[0].startswith("one: ") and "75 of 90" in told[0]
    assert f"  warning: {told[0]}" in comparison.summary_lines(found)


def test_fine_tuning_says_where_its_parts_cut_stretches():
    label = np.repeat(np.random.default_rng(0).permutation(15), 6)
    parts = np.resize(["train", "train", "val", "test", "train", "test"], 90)
    subject = TestSubject("s", None, np.zeros((90, 2, 1)), label, parts)
    told = finetuning.parted_stretches([subject])
    assert "75 of 90 follow" in told and "30 of 30 test trials lie in one stretch" in told
    whole = replace(subject, data_type=np.repeat(np.resize(["train", "val", "test"], 15), 6))
    assert finetuning.parted_stretches([whole]) is None
    assert finetuning.parted_stretches([replace(subject, label=np.resize(np.arange(15), 90))]) is None


def test_cues_in_blocks_are_named_beside_reactivations():
    onset = np.arange(60.0)
    cues = pd.DataFrame({"onset_s": onset[::-1], "item": np.repeat(["rose", "ball", "kiwi", "alarm", "apple"], 12)})
    items = reactivation.cued_items(cues)
    assert items.tolist() == np.repeat([1, 0, 3, 2, 4], 12).tolist() and exchange(items).clustered
    assert not len(reactivation.cued_items(cues[["onset_s"]]))
