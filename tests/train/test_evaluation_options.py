"""What the test scripts' options change: window, parts, bad trials; and what speaks against a result."""

import json

import evaluation_data as made
import numpy as np
import pytest

from sleep_interpreter.utils.core.safe_pickle import write_pickle


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two subjects of noise, not marked as simulated; the second has a trial that is not finite."""
    root, random = tmp_path_factory.mktemp("cohort"), np.random.default_rng(0)
    for number in range(2):
        folder = root / "SI Main Test" / f"subject_test_{number}"
        for stage in ("N2N3", "precue_N2N3"):
            content = made.trials(30, random)
            if number and stage == "N2N3":
                content[4]["Sleep_EEG"][3, 7] = np.nan
            write_pickle(content, folder / f"{stage}_data.pickle")
    return root


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return made.tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "ensemble.npz", notes={})


@pytest.fixture
def test_script(cohort, network, tmp_path, call_script):
    def call(*arguments, checkpoint=network):
        places = ["--data", cohort, "--results", tmp_path, "--checkpoint", checkpoint]
        return call_script("test/N23SIMD.py", "--quick", *places, *arguments)

    return call


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.slow
def test_a_bad_trial_stops_the_test_or_is_left_out_and_listed(test_script, tmp_path, caplog):
    code, stderr = test_script()
    assert code == 2 and "trial 4" in stderr and "NaN" in stderr
    assert not (tmp_path / "N23SIMD").exists()
    code, stderr = test_script("--skip-bad")
    assert code == 0 and "WARNING: 1 bad trials left out" in caplog.text, stderr
    summary = summary_of(tmp_path / "N23SIMD")
    assert summary["skipped"]["count"] == 1
    [record] = summary["skipped"]["records"]
    assert record["record"] == 4 and "N2N3_data.pickle" in record["file"] and "NaN" in record["reason"]
    assert summary["overall"]["n"] == 59 and any("1 bad trials" in text for text in summary["warnings"])


def test_precue_is_a_control_with_a_folder_of_its_own(test_script, tmp_path):
    code, stderr = test_script("--window", "precue")
    assert code == 0, stderr
    summary = summary_of(tmp_path / "N23SIMD_precue")
    assert summary["experiment"] == "N23SIMD_precue" and summary["overall"]["n"] == 60
    assert summary["controls"]["window"] == "precue" and "control" in summary["controls"]["meaning"]
    assert (tmp_path / "N23SIMD_precue.pickle").is_file() and not (tmp_path / "N23SIMD").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_network_trained_on_shuffled_labels_is_a_control_of_its_own(test_script, tmp_path):
    shuffled = made.tiny_checkpoint(tmp_path / "shuffled.npz", notes={"labels_shuffled": True})
    code, stderr = test_script("--window", "precue", checkpoint=shuffled)
    assert code == 0, stderr
    controls = summary_of(tmp_path / "N23SIMD_shuffled_precue")["controls"]
    assert "shuffled" in controls["training_labels"] and controls["window"] == "precue"


@pytest.mark.usefixtures("undrawn")
def test_only_the_parts_asked_for(test_script, tmp_path):
    code, stderr = test_script("--data-type", "test", "--skip-bad")
    assert code == 0, stderr
    summary = summary_of(tmp_path / "N23SIMD_test")
    assert not (tmp_path / "N23SIMD").exists(), "the result on all trials is not overwritten"
    assert summary["data_types"] == ["test"] and summary["overall"]["n"] == 20
    assert summary["subjects"]["subject_test_0"]["data_types"] == {"test": 10}
    code, stderr = test_script("--data-type", "test,vall")
    assert code == 2 and "'vall'" in stderr
    code, stderr = test_script("--data-type", ",")
    assert code == 2 and "--data-type" in stderr


@pytest.mark.slow
def test_marks_that_do_not_agree_are_said(test_script, tmp_path, caplog):
    trained = made.tiny_checkpoint(tmp_path / "simulated.npz")
    code, stderr = test_script("--window", "precue", checkpoint=trained)
    said = "the checkpoint was trained on simulated data, the test data are not marked as simulated"
    assert code == 0 and f"WARNING: {said}" in caplog.text, stderr
    summary = summary_of(tmp_path / "N23SIMD_precue")
    assert summary["warnings"][0] == said and summary["simulated"] is False
    seen = made.tiny_checkpoint(tmp_path / "seen.npz", notes={"training_subjects": ["subject_test_1"]})
    code, stderr = test_script("--window", "precue", checkpoint=seen)
    assert code == 0 and "trained on test subjects subject_test_1: this is no test" in caplog.text, stderr


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"classes": 10}, "of 10 items"),
        ({"classes": 16}, "of 16 items"),
        ({"channels": 32}, "200 samples x 32 channels"),
        ({"sleep_samples": 250, "awake_samples": 100}, "250 samples x 55 channels"),
    ],
)
def test_a_checkpoint_for_other_trials_is_one_sentence(other, words, test_script, tmp_path):
    path = made.tiny_checkpoint(tmp_path / "other.npz", **other)
    code, stderr = test_script("--skip-bad", checkpoint=path)
    last = stderr.strip().splitlines()[-1]
    assert code == 2 and last.startswith("error: ") and words in last and "other.npz" in last
    assert "Traceback" not in stderr and not (tmp_path / "N23SIMD").exists()
