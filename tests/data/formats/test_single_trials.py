"""Whole_data.pickle: names and data stay together, an empty stage is empty, bad trials are named."""

import numpy as np
import pytest
from lasso_data import write_cohort

from sleep_interpreter.data.formats import single_trials
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle

ITEMS = published().item_names


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), subjects=3, awake=2, asleep=1, skip={(1, "REM")})


def test_subjects_come_with_their_own_data(root):
    files = single_trials.find_subjects(root)
    assert list(files) == ["subject_0", "subject_1", "subject_test_0"]
    for name, file in files.items():
        subject = single_trials.read_subject(file)
        assert subject.name == name and subject.simulated
        stored = read_pickle(file)
        assert [ITEMS[k] for k in subject.domains["audio"].label] == [
            trial["category"] for trial in stored["awake_audio"]
        ]
        np.testing.assert_array_equal(subject.domains["N2N3"].eeg[3], stored["N2N3"][3]["EEG"].T)


def test_a_stage_without_trials_is_empty_not_zeros(root):
    subject = single_trials.read_subject(single_trials.find_subjects(root)["subject_1"])
    assert len(subject.domains["REM"]) == 0 and subject.domains["REM"].eeg.shape == (0, 200, 55)
    assert len(subject.domains["image"]) == 30


def test_only_the_domains_asked_for_are_read(root, tmp_path):
    content = read_pickle(single_trials.find_subjects(root)["subject_0"]) | {"REM": "nothing of use"}
    write_pickle(content, tmp_path / "subject_4" / "Whole_data.pickle")
    subject = single_trials.read_subject(tmp_path / "subject_4" / "Whole_data.pickle", ["image"])
    assert list(subject.domains) == ["image"]
    with pytest.raises(UserError, match=r"subject_4.*'REM': expected a list"):
        single_trials.read_subject(tmp_path / "subject_4" / "Whole_data.pickle", ["REM"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["EEG"].__setitem__((0, 0), np.nan), r"subject_7.*awake_image trial 4 \(\w+\).*NaN"),
        (lambda t: t.update(EEG=t["EEG"].T), r"trial 4 .*expected shape \(55, 80\), found \(80, 55\)"),
        (lambda t: t.update(category="kivi"), "trial 4.*did you mean 'kiwi'"),
        (lambda t: t.pop("EEG"), "trial 4.*no field 'EEG'"),
    ],
)
def test_a_bad_trial_is_named_with_its_subject_and_item(root, tmp_path, change, message):
    content = read_pickle(single_trials.find_subjects(root)["subject_0"])
    change(content["awake_image"][4])
    file = tmp_path / "subject_7" / "Whole_data.pickle"
    write_pickle(content, file)
    with pytest.raises(UserError, match=message):
        single_trials.read_subject(file)


def test_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"SI Main Train/subject_\*/Whole_data.pickle.*simulate"):
        single_trials.find_subjects(tmp_path)
