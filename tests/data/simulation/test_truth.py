"""The truth files: everything planted comes back, nothing is unpickled, refusals."""

import json

import numpy as np
import pandas as pd
import pytest

from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.simulation.subject import Subject, memory_scores
from sleep_interpreter.data.simulation.trials import sleep_trials
from sleep_interpreter.data.simulation.truth import read_truth, write_truth
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

ITEMS = published().item_names


def test_tables_and_arrays_come_back(tmp_path):
    table = pd.DataFrame(
        {
            "onset_s": [0.5, 1.25],
            "item": ["apple", None],
            "stage": pd.Series(["N2", "R"], dtype=object),
            "evoked": [True, False],
            "phase": [np.nan, -1.5],
        }
    )
    empty = pd.DataFrame({"start_s": np.zeros(0), "kind": np.zeros(0, object)})
    path = tmp_path / "truth" / "subject_3_night.npz"
    write_truth(path, {"night/cues": table, "night/eye": empty}, {"head/names": np.array(["Cz", "Pz"])})
    truth = read_truth(tmp_path, "subject_3")
    assert truth.tables["night/cues"]["item"].tolist() == ["apple", ""]
    for column in ("onset_s", "stage", "evoked"):
        assert truth.tables["night/cues"][column].tolist() == table[column].tolist()
    assert np.array_equal(truth.tables["night/cues"]["phase"], table["phase"], equal_nan=True)
    assert truth.tables["night/eye"].shape == (0, 2)
    assert truth.arrays["head/names"].tolist() == ["Cz", "Pz"]
    with np.load(path, allow_pickle=False) as content:
        assert content["simulated"]
        assert all(content[key].dtype != object for key in content.files)


def test_the_truth_of_trials_is_in_the_order_of_their_files(cohort, tiny):
    subject = Subject(tiny, "test", 0)
    truth = read_truth(cohort, "subject_test_0")
    planted = sleep_trials(subject, "N2N3", 10).truth
    cues = truth.tables["trials/N2N3"]
    assert list(cues.columns) == list(planted.columns)
    assert cues["gain"].tolist() == planted["gain"].tolist()
    assert cues["stage"].tolist() == planted["stage"].tolist()
    stored = read_test_subjects(cohort, "N2N3")[0]
    assert stored.label.tolist() == cues["item_index"].tolist()
    memory = truth.tables["trials/memory"]
    both = pd.concat([truth.tables["trials/N2N3"], truth.tables["trials/REM"]])
    gains = np.bincount(both["item_index"], both["gain"], len(ITEMS))
    assert np.allclose(memory["strength"], gains)
    assert np.allclose(memory["memory_score"], memory_scores(subject, gains))


def test_items_and_head_are_those_of_the_subject(cohort, tiny):
    subject = Subject(tiny, "train", 1)
    arrays = read_truth(cohort, "subject_1").arrays
    assert arrays["items/semantic_pattern"].shape[::2] == (15, 59)
    assert np.array_equal(arrays["items/semantic_pattern"][4][0], subject.components["semantic"][4][0].pattern)
    assert np.allclose(arrays["items/strength"], subject.strength)
    assert arrays["head/names"].tolist() == list(subject.head.names)
    assert np.allclose(arrays["head/positions_m"], subject.head.positions)
    component = subject.components["semantic"][2][1]
    t = np.arange(200) / 100
    timing = tiny.memory.timing.NREM
    for state, at in (("W", t), ("NREM", (t - timing.delay_s) / timing.stretch)):
        course = arrays[f"items/semantic_course_{state}"][2, 1]
        assert np.allclose(course, component.at(at), atol=1e-6)
    assert arrays["items/audio_course_W"].shape == (15, 1, 80)


def test_the_overview_holds_the_settings(cohort, tiny):
    overview = json.loads((cohort / "truth/truth.json").read_text(encoding="utf-8"))
    assert overview["simulated"] is True
    assert overview["settings"] == tiny.model_dump(mode="json")
    assert overview["items"] == list(ITEMS)


def test_a_subject_that_is_not_there_and_a_damaged_file_are_refused(cohort, tmp_path):
    with pytest.raises(UserError, match=r"no truth of 'subject_9'; there is that of subject_0, subject_1"):
        read_truth(cohort, "subject_9")
    with pytest.raises(UserError, match="there is that of nobody"):
        read_truth(tmp_path, "subject_0")
    (tmp_path / "truth").mkdir()
    file = tmp_path / "truth" / "subject_0_trials.npz"
    for content in (b"nothing", (cohort / "truth/subject_0_trials.npz").read_bytes()[:5000]):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"subject_0_trials\.npz: damaged.*simulate the data set again"):
            read_truth(tmp_path, "subject_0")
