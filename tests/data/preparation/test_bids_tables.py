"""Tables of a BIDS folder as people write them: understood, or refused with file, line and remedy."""

import pytest

from sleep_interpreter.data.preparation import inputs
from sleep_interpreter.data.preparation.bids_tables import groups_of
from sleep_interpreter.utils.core.errors import UserError

PEOPLE = ["sub-01", "sub-02"]


def groups(tmp_path, *rows, header="participant_id\tgroup", column="group"):
    path = tmp_path / "participants.tsv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return groups_of(path, column, PEOPLE)


@pytest.mark.parametrize(("header", "rows"), [
    ("participant_id\tgroup", ["sub-01\tTest", "sub-02\tTRAIN"]),
    ("participant_id\tGroup", ["SUB-01\ttest", "02\ttraining"]),
    ("participant_id\tGROUP", ["sub-01\ttest", "sub-02\ttrain", "sub-01\ttest", "sub-99\ttrain"]),
])  # fmt: skip
def test_groups_are_read_in_capitals_too(tmp_path, header, rows):
    found = groups(tmp_path, *rows, header=header)
    assert {name: found[name] for name in PEOPLE} == {"sub-01": True, "sub-02": False}


def test_other_groups_make_nobody_a_test_subject(tmp_path):
    for cells in (("patient", "control"), ("rest", "testosterone"), ("n/a", "")):
        assert groups(tmp_path, *(f"{name}\t{cell}" for name, cell in zip(PEOPLE, cells, strict=True))) == {}
    assert groups(tmp_path, "sub-01\ttest", column=None) == {}


@pytest.mark.parametrize(("rows", "words"), [
    (["sub-01\ttest group", "sub-02\ttrain"], r"participants\.tsv, line 2: group 'test group' of sub-01 is neither"),
    (["sub-01\ttest", "sub-02\tTest set"], r"line 3: group 'Test set' of sub-02"),
    (["sub-01\ttset", "sub-02\ttrain"], r"line 2: group 'tset'"),
    (["sub-01\ttest", "sub-02\ttrain", "sub-01\ttrain"], r"sub-01 is in line 2 and, as 'train', in line 4"),
    (["S01\ttest", "sub-02\ttrain"], r"line 2: .*no recording of 'S01', and no line for sub-01.*nearest: sub-01"),
    (["1\ttest", "2\ttrain"], r"line 2: there is no recording of '1'"),
    (["sub-99\ttest", "sub-02\ttrain"], r"line 2: there is no recording of 'sub-99'"),
])  # fmt: skip
def test_what_may_be_meant_for_a_group_or_subject_is_refused(tmp_path, rows, words):
    with pytest.raises(UserError, match=words):
        groups(tmp_path, *rows)


@pytest.mark.parametrize(("header", "rows", "words"), [
    ("participant_id,group", ["sub-01,test"], "has commas between its columns, BIDS wants tabs"),
    ("participant_id;group", ["sub-01;test"], "has semicolons between its columns"),
    ("Participant_ID\tgroup", ["sub-01\ttest"], "no column 'participant_id'.*for 'Participant_ID'"),
    ("participant_id\tgroup\tgroup", ["sub-01\ttest\ttrain"], "two columns 'group'"),
    ("participant_id\tsplit", ["sub-01\ttest"], "column 'split' says test and train.*split.group_column=split"),
])  # fmt: skip
def test_a_table_of_participants_that_cannot_be_read_is_refused(tmp_path, header, rows, words):
    with pytest.raises(UserError, match=words):
        groups(tmp_path, *rows, header=header)


@pytest.mark.parametrize(("text", "words"), [
    ("name,status\nPz,bad\n", r"channels\.tsv: has commas"),
    ("name;type;status\nPz;EEG;bad\n", r"channels\.tsv: has semicolons"),
    ("channel\tstatus\nPz\tbad\n", r"channels\.tsv: no column 'name'; it has channel, status"),
    ("name\tstatuss\nPz\tbad\n", r"channels\.tsv: no column 'status'; write it for 'statuss'"),
    ("name\tstatus\tstatus\nPz\tbad\tgood\n", r"two columns 'status'"),
])  # fmt: skip
def test_a_table_of_channels_that_is_written_otherwise_is_refused(tmp_path, text, words):
    path = tmp_path / "channels.tsv"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        inputs._channel_status(path)
    path.write_text("Name\tStatus\nPz\tbad\n")
    assert inputs._channel_status(path) == {"Pz": True}
    path.write_text("name\ttype\tunits\nPz\tEEG\tuV\n")
    assert inputs._channel_status(path) == {}
