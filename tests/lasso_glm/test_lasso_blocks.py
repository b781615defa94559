"""Items presented several times in a row, signals that drift: folds and permuted labels of the Lasso GLMs."""

import json

import numpy as np
import pandas as pd
import pytest
from lasso_data import write_cohort

from sleep_interpreter.lasso_glm.engine import fits, run
from sleep_interpreter.lasso_glm.engine.settings import Statistics
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle
from sleep_interpreter.utils.metrics import exchangeability, time_course_tests

CLASSES, FAST = 4, ("--set", "statistics.permutations=200")
STATISTICS = Statistics(permutations=200, cluster_p=0.05, seed=1)


def drifting(seed, rounds=3, times=12, signal=0.0):
    """Return EEG (n, 3, 16) that wanders from trial to trial, and labels in stretches of some trials; no item shows."""
    random = np.random.default_rng(seed)
    label = np.repeat(np.concatenate([random.permutation(CLASSES) for _ in range(rounds)]), times)
    wander = 0.5 * random.standard_normal((len(label), 16)).cumsum(axis=0)
    patterns = np.random.default_rng(7).standard_normal((CLASSES, 16))
    eeg = wander[:, None] + 0.3 * random.standard_normal((len(label), 3, 16)) + signal * patterns[label][:, None]
    return eeg.astype(np.float32), label


def peak_of(split, signal=0.0, subjects=4, permute="auto"):
    """Return the summary of the peak and how labels were permuted, of subjects with folds of one kind."""
    results = {}
    for seed in range(subjects):
        eeg, label = drifting(seed, signal=signal)
        random = split == "random"
        folds = fits.folds_of(len(label), 5, 0, f"s{seed}") if random else fits.split_in_time(label, None, 5, False)
        results[f"s{seed}"] = fits.within(eeg, label, folds, CLASSES)
    how = time_course_tests.exchange_of(results["s0"], permute)
    settings = STATISTICS.model_copy(update={"permute": permute})
    return time_course_tests.peak(time_course_tests.peaks_within(results), settings), how


def test_shuffled_folds_decode_a_drift_and_folds_in_time_do_not():
    leak, how = peak_of("random")
    assert leak["accuracy"] > 0.5 and leak["chance"] < 0.27, "each trial's neighbours trained the decoder"
    assert leak["permutation"]["p"] is None and "split=contiguous" in leak["permutation"]["note"]
    assert how.kind == "none" and leak["prevalence"]["subjects"] == 0
    for tested in (leak["against_chance"], leak["balanced"]["against_chance"]):
        assert tested["wilcoxon_p"] is None and "not tested over subjects: of" in tested["note"]
    why = time_course_tests.leaking([how, how])
    curves, flat = np.ones((8, 20)), np.zeros((8, 20))
    assert time_course_tests.clusters(curves, flat, STATISTICS, why)[0]["clusters"] == []
    assert time_course_tests.clusters(curves, flat, STATISTICS)[0]["clusters"], "where nothing leaks it is tested"
    assert peak_of("random", permute="trials")[0]["permutation"]["p"] < 0.01, "what was said before"
    fair, how = peak_of("contiguous")
    assert fair["accuracy"] < 0.35 and fair["permutation"]["p"] > 0.05
    assert how.kind == "stretches" and fair["permutation"]["unit"] == "stretches"
    there, _ = peak_of("contiguous", signal=6.0)
    assert there["permutation"]["p"] < 0.01 and there["accuracy"] > 0.6
    assert there["permutation"]["low"] < there["chance"] < there["permutation"]["high"] < there["accuracy"]


def test_copies_of_trials_and_flat_ones_are_said(tmp_path, call_script):
    """Each trial stored three times: folds are no folds then."""
    write_cohort(tmp_path / "data", subjects=2, awake=4, asleep=1, strength=0.0)
    for file in (tmp_path / "data").glob("*/*/Whole_data.pickle"):
        content = read_pickle(file)
        content["awake_image"][0]["EEG"][:] = 0.0
        write_pickle(content | {"awake_image": 3 * content["awake_image"]}, file)
    options = ["--data", tmp_path / "data", "--results", tmp_path, "--set", "statistics.permutations=100"]
    code, error = call_script("lasso_glm/lasso_glm_image2image.py", *options)
    assert code == 0, error
    warnings = " ".join(json.loads((tmp_path / "lasso_image2image" / "summary.json").read_text())["warnings"])
    assert "120 of 180 image trials are copies of another one" in warnings
    assert "3 of 180 image trials are flat in all channels" in warnings


def test_folds_keep_stretches_and_runs_whole():
    _, label = drifting(0)
    folds = fits.split_in_time(label, None, 5, False)
    assert sorted(np.concatenate(folds)) == list(range(144)) and {len(fold) for fold in folds} <= {24, 36}
    stretch = exchangeability.stretches(label)
    assert not any(set(stretch[one]) & set(stretch[other]) for one in folds for other in folds if one is not other)
    order = np.random.default_rng(0).permutation(144)  # a file in another order than that of time
    mixed = np.empty_like(label)
    mixed[order] = label
    for fold, other in zip(folds, fits.split_in_time(mixed, None, 5, False, order), strict=True):
        assert set(order[fold]) == set(other)
    label, runs = drifting(0, 10, 4)[1], np.repeat(np.arange(10), 16)
    folds = fits.split_in_time(label, runs, 5, True)
    assert sorted(np.concatenate(folds)) == list(range(160))
    for fold in folds:
        assert len(np.unique(runs[fold])) == 2 and np.bincount(label[fold]).tolist() == [8] * CLASSES
    assert "too few runs" in run._unfit_for_folds(
        label, fits.split_in_time(label, np.repeat([0, 1], 80), 5, True), True
    )
    once = np.repeat(np.arange(10), 8)
    assert "each item is in one stretch or run alone" in run._unfit_for_folds(
        once, fits.split_in_time(once, None, 5, False), True
    )


def test_decoders_of_another_domain_are_tested_by_stretches():
    eeg, label = drifting(3)
    random = np.random.default_rng(0)
    train = random.standard_normal((60, 3, 16)).astype(np.float32), random.permutation(np.arange(60) % CLASSES)
    _, results = fits.cross(train, {"it": (eeg, label)}, {"step": 1, "count": 1}, CLASSES)
    own = results["it"]
    assert (own["predicted"] == label[:, None, None]).sum(axis=0).tolist() == own["hits"].tolist()
    rows = time_course_tests.peaks_across({"s0": own, "s1": own})
    assert time_course_tests.exchange_of(rows["s0"], "auto").kind == "stretches"
    assert time_course_tests.peak(rows, STATISTICS)["permutation"]["unit"] == "stretches"


def blocked(root, runs=False):
    """Write a cohort whose pictures were shown in rounds of blocks of three of one item; `runs`: each round is one."""
    write_cohort(root, subjects=2, awake=15, asleep=1, strength=3.0)
    for file in root.glob("*/*/Whole_data.pickle"):
        content = read_pickle(file)
        by_item: dict[str, list] = {}
        for trial in content["awake_image"]:
            by_item.setdefault(trial["category"], []).append(trial)
        items, shown = np.random.default_rng(1).permutation(sorted(by_item)).tolist(), []
        for k in range(5):
            origin = {"origin": {"recording": "learning.edf", "run": str(k)}} if runs else {}
            shown += [trial | origin for name in items for trial in by_item[name][3 * k : 3 * k + 3]]
        write_pickle(content | {"awake_image": shown}, file)
    return root


def test_the_script_says_so_and_has_the_remedy(call_script, tmp_path):
    data = blocked(tmp_path / "data")

    def summary(*arguments, results):
        command = ["--data", data, "--results", tmp_path / results, *FAST, *arguments]
        code, error = call_script("lasso_glm/lasso_glm_image2image.py", *command)
        assert code == 0, error
        return json.loads((tmp_path / results / "lasso_image2image" / "summary.json").read_text())

    before = summary(results="random")
    assert before["results"]["image/image"]["peak"]["permutation"]["p"] is None
    assert "image/image: repeats of an item are clustered in time (in 2 of 2" in before["warnings"][0]
    assert "split=contiguous" in before["warnings"][0]
    after = summary("--set", "split=contiguous", results="contiguous")
    assert after["results"]["image/image"]["peak"]["permutation"]["p"] == pytest.approx(1 / 201)
    assert "permuted by stretches within runs" in after["warnings"][0] and after["settings"]["split"] == "contiguous"
    command = ["--data", data, "--results", tmp_path / "run", *FAST, "--set", "split=by_run"]
    code, error = call_script("lasso_glm/lasso_glm_image2image.py", *command)
    assert code == 2 and "do not say in which run they were" in error and "split=contiguous" in error


def test_trials_that_say_their_run_are_split_by_it(call_script, tmp_path):
    command = ["--data", blocked(tmp_path / "data", runs=True), "--results", tmp_path, *FAST, "--set", "split=by_run"]
    code, error = call_script("lasso_glm/lasso_glm_image2image.py", *command)
    assert code == 0, error
    table = pd.read_csv(tmp_path / "lasso_image2image" / "predictions.csv", dtype={"run": str})
    own = table[table["subject"] == "subject_0"]
    assert len(own) == 225 and (own.groupby("fold")["run"].nunique() == 1).all() and own["fold"].nunique() == 5
    summary = json.loads((tmp_path / "lasso_image2image" / "summary.json").read_text())
    assert summary["results"]["image/image"]["peak"]["permutation"]["p"] == pytest.approx(1 / 201)
    assert "permuted by stretches within runs" in summary["warnings"][0]


def test_one_trial_an_item_is_no_design_in_blocks():
    """Shuffled folds of it decode nothing and say so with their figures, as they always did."""
    label = np.arange(15)
    folds = fits.folds_of(15, 5, 0, "subject_0")
    assert run._unfit_for_folds(label, folds, False) is None
    assert "one stretch or run alone" in run._unfit_for_folds(label, folds, True)
