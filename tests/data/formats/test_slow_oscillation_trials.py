"""Trials by phase of the slow oscillation: all groups in their order, refusals by file, group and trial."""

import numpy as np
import pytest

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS, read_so_groups
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import write_pickle


def _group(count, seed=0):
    random = np.random.default_rng(seed)
    return {"label": np.eye(15)[np.arange(count) % 15], "decode_data": random.standard_normal((count, 200, 55))}


def _write(root, content, name="subject_test_0", file="SO_data.pickle"):
    write_pickle(content, root / f"SI Main Test/{name}/{file}")
    return root


def test_all_groups_in_their_order_whatever_the_file_holds(tmp_path):
    content = {"Down": _group(3, 1), "Pre-SO": _group(20, 2), "2nd-Up": {"label": [], "decode_data": []}}
    content["Post-SO"] = {"label": np.zeros((0, 15)), "decode_data": np.zeros((0, 200, 55))}
    (subject,) = read_so_groups(_write(tmp_path, content))
    assert tuple(subject.groups) == SO_GROUPS
    assert SO_GROUPS == (
        "Pre-SO", "trans-1st-Up", "1st-Up", "trans-Down", "Down", "trans-2nd-Up", "2nd-Up", "Post-SO",
    )  # fmt: skip
    assert {name: len(label) for name, (_, label) in subject.groups.items() if len(label)} == {"Pre-SO": 20, "Down": 3}
    for name, (sleep, label) in subject.groups.items():
        assert sleep.dtype == np.float32 and label.dtype == np.int64
        assert sleep.shape == (len(label), 200, 55)
        if name in ("Pre-SO", "Down"):
            assert np.array_equal(sleep, content[name]["decode_data"].astype(np.float32))
            assert label.tolist() == [i % 15 for i in range(len(label))]
    assert len(subject) == 23
    assert not subject.simulated


def test_subjects_in_natural_order(tmp_path):
    for name in ("subject_test_10", "subject_test_2"):
        _write(tmp_path, {"Down": _group(1)}, name)
    assert [subject.name for subject in read_so_groups(tmp_path)] == ["subject_test_2", "subject_test_10"]


def test_missing_files_and_two_of_one_subject(tmp_path):
    with pytest.raises(UserError, match=r"SI Main Test/subject_test_\*/SO\*.*simulate"):
        read_so_groups(tmp_path)
    _write(tmp_path, {})
    _write(tmp_path, {}, file="SO_old.pickle")
    with pytest.raises(UserError, match="are both of subject_test_0"):
        read_so_groups(tmp_path)


def _changed(field, change):
    group = _group(4)
    group[field] = change(group[field].copy())
    return {"1st-Up": group}


def _set(array, place, value):
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected a dict of groups of trials, found list"),
        ({"1st-up": _group(1)}, "unknown group '1st-up'; did you mean '1st-Up'"),
        ({"x" * 300: _group(1)}, "unknown group .{1,60}; groups: Pre-SO, "),
        ({7: _group(1)}, "unknown group 7"),
        ({"1st-Up": None}, "group '1st-Up': expected a dict, found NoneType"),
        ({"1st-Up": {"labels": [], "decode_data": []}}, "no field 'label'; did you mean 'labels'"),
        (_changed("label", lambda a: a[:3]), r"field 'decode_data': expected floats \(3, 200, 55\) for 3"),
        (_changed("label", lambda a: a.argmax(1)), r"field 'label': expected one-hot labels \(n, 15\)"),
        (_changed("label", lambda a: a.astype(str)), "field 'label': expected one-hot labels"),
        (_changed("label", lambda a: [[1], [2, 3]]), "field 'label': expected an array"),
        (_changed("label", lambda a: _set(a, (2, 5), 1)), "trial 2, field 'label': expected a one-hot"),
        (_changed("decode_data", lambda a: a.transpose(0, 2, 1)), r"found float64 \(4, 55, 200\)"),
        (_changed("decode_data", lambda a: a.astype(int)), r"found int64 \(4, 200, 55\)"),
        (_changed("decode_data", lambda a: None), "field 'decode_data': expected floats"),
        (_changed("decode_data", lambda a: _set(a, (3, 1, 1), np.nan)), "trial 3, field 'decode_data': 1 of"),
        (_changed("decode_data", lambda a: _set(a, (3, 1, 1), 1e300)), "trial 3, field 'decode_data': 1 of"),
    ],
)
def test_wrong_content_names_file_group_and_trial(tmp_path, content, message):
    with pytest.raises(UserError, match=rf"SO_data\.pickle.*{message}"):
        read_so_groups(_write(tmp_path, content))


def test_wrong_scale_is_a_warning(tmp_path, caplog):
    group = _group(2)
    group["decode_data"] *= 100
    read_so_groups(_write(tmp_path, {"Down": group, "2nd-Up": _group(2)}))
    assert len(caplog.records) == 1
    assert "SO_data.pickle: its sleep trials reach" in caplog.text


def test_a_copied_file_still_says_that_it_is_simulated(tmp_path):
    (subject,) = read_so_groups(_write(tmp_path, {"Down": _group(1) | {"simulated": True}}))
    assert subject.simulated
