"""events.tsv: a row's columns agree, in their names and in what they say, or the table is refused with the row."""

import re

import mne
import pandas as pd
import planted_cues as planted
import pytest

from sleep_interpreter.data.preparation.events import read_events
from sleep_interpreter.data.preparation.inputs import Session
from sleep_interpreter.data.preparation.settings import Events, Rule
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.recording import Recording

ITEMS = published().item_names
"""In the order of the alphabet."""


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    raw = mne.io.RawArray(planted.night(stages=("N2",))[0].get_data()[:2], mne.create_info(2, 5.0, "eeg"))  # 25 min
    path = tmp_path_factory.mktemp("lab") / "s1_night_raw.fif"
    raw.save(path, verbose="error")
    return Recording(path)


def coded(*codes, items=ITEMS):
    return tuple(Rule(code=code, item=item, modality="cue") for code, item in zip(codes, items, strict=False))


def read(recording, folder, rows, rules, header="onset\ttrial_type\tvalue", **more):
    """Return item names and remarks of a table; rows lack the onset: 10, 20, ... s."""
    path = folder / "events.tsv"
    lines = rows if header.startswith("-") else [f"{10 * k}\t{row}" for k, row in enumerate(rows, 1)]
    path.write_text("\n".join([header.removeprefix("-"), *lines]))
    remarks: list[str] = []
    session = Session("night", "sleep", recording.path, path)
    settings = Events(source="events_tsv", rules=rules, **more)
    table, unmapped = read_events(
        session, recording, recording.annotations, settings, remarks, staged="stage/(?P<stage>.+)"
    )
    return table["item"].tolist(), remarks, unmapped


def by_alphabet(texts):
    """Return rows of trial_type and value as mne-bids writes them."""
    place = {text: number for number, text in enumerate(sorted(set(texts)), 1)}
    return [f"{text}\t{place[text]}" for text in texts]


SENT = [*range(1, 16), 3, 10, 2]


@pytest.mark.parametrize(("spelling", "codes"), [
    ("{}", range(1, 16)), ("{}.0", range(1, 16)), ("{}", range(21, 36)), ("{}", range(98, 113)), ("S {}", range(1, 16)),
])  # fmt: skip
def test_numbers_that_mne_bids_gave_to_numbers_are_no_codes(recording, tmp_path, spelling, codes):
    codes = list(codes)
    texts = [spelling.format(codes[k - 1]) for k in SENT]
    items, remarks, _ = read(recording, tmp_path, by_alphabet(texts), coded(*codes))
    assert items == [ITEMS[k - 1] for k in SENT] and any("by the alphabet (mne-bids)" in text for text in remarks)


def test_a_number_beside_the_trigger_may_be_that_of_a_condition(recording, tmp_path):
    rows = [f"{1 + k % 2}\t{k}" for k in range(2, 8)]  # conditions 1 and 2, both codes of rules too
    assert read(recording, tmp_path, rows, coded(*range(1, 10)))[0] == list(ITEMS[1:7])
    rows = ["0\t1", "1\t2", "2\t3"]  # three conditions; no rule knows them
    assert read(recording, tmp_path, rows, coded(3, 4, 5)[:1])[0] == [ITEMS[0]]
    assert read(recording, tmp_path, ["3\t11", "4\t12"], coded(11, 12))[0] == list(ITEMS[:2])


@pytest.mark.parametrize("rows", [
    ["0\t1", "1\t2", "2\t3", "3\t4"],  # counted from 0 in one of them, or numbered by mne-bids
    ["2\t1", "3\t2", "4\t3", "4\t3"],
    ["3\t7", "4\t8", "5\t9"],
    ["3\t1", "4\t1", "5\t2", "6\t2"],  # value is that of a block
    ["2.0\t1", "3\t2"],
])  # fmt: skip
def test_two_numbers_that_rules_know_both_are_refused_with_the_row(recording, tmp_path, rows):
    with pytest.raises(
        UserError, match=r"events\.tsv, line 2: trial_type '.*' is code \d, value is \d, and rules know"
    ):
        read(recording, tmp_path, rows, coded(*range(0, 15)))


@pytest.mark.parametrize(("header", "named"), [
    ("trial_type", "cue/{}"), ("trial_type", "{}"), ("stim_file", "sounds/{}.wav"), ("stim_file", "{}.wav"),
    ("item", "{}"), ("stimulus", "{}_01"), ("trial_type", "Comment/{}"), ("stim_name", "{}"),
])  # fmt: skip
def test_a_row_that_names_another_item_than_its_code_is_refused(recording, tmp_path, header, named):
    """The lab's triggers are in another order than that in which a program numbered the texts."""
    items = ["kiwi", "alarm", "apple", "kiwi"]
    numbers = {"alarm": 1, "apple": 2, "kiwi": 3}
    rows = [f"{named.format(item)}\t{numbers[item]}" for item in items]
    right = coded(1, 2, 3, items=("alarm", "apple", "kiwi"))
    columns = f"onset\t{header}\tvalue"
    assert read(recording, tmp_path, rows, right, columns)[0] == items
    for other in (("apple", "alarm", "kiwi"), ("apple", "kiwi", "alarm")):
        with pytest.raises(UserError, match=r"events\.tsv, line \d: its code \d is '.*' by events\.rules, but the row"):
            read(recording, tmp_path, rows, coded(1, 2, 3, items=other), columns)


def test_names_of_the_lab_s_own_are_items_and_a_condition_is_none(recording, tmp_path):
    rules = coded(1, 2, items=("wecker", "apple"))
    names = {"Wecker": "alarm", "wecker": "alarm"}
    assert read(recording, tmp_path, ["Wecker\t1", "apple\t2"], rules, items=names)[0] == ["alarm", "apple"]
    with pytest.raises(UserError, match=r"line 2: its code 2 is 'apple' .* names 'alarm'"):
        read(recording, tmp_path, ["Wecker\t2", "apple\t1"], rules, items=names)
    rows = ["watch picture\t1", "watch picture\t2", "rest\t2"]
    assert read(recording, tmp_path, rows, coded(1, 2))[0] == [ITEMS[0], ITEMS[1], ITEMS[1]]


@pytest.mark.parametrize(("header", "rows", "words"), [
    ("Trial_type", ["cue/alarm"], "no column 'trial_type'; write 'trial_type' for 'Trial_type'"),
    ("trial type", ["cue/alarm"], "write 'trial_type' for 'trial type'"),
    ("TRIALTYPE\tvalue", ["cue\t1"], "write 'trial_type' for 'TRIALTYPE'"),
    ("trial_type\tValue", ["cue\t1"], "write 'value' for 'Value'"),
    ("trial_type\tvalue\tPhase", ["cue\t1\ttest"], "write 'phase' for 'Phase'"),
    ("trial_type\tvalue\tDuration", ["cue\t1\t30"], "write 'duration' for 'Duration'"),
    ("stim_type", ["cue/alarm", "cue/apple"], "column 'stim_type' does .*; call that column 'trial_type'"),
    ("trial_type\ttrigger", ["cue\t1", "cue\t2"], "column 'trigger' does .*; call that column 'value'"),
    ("trial_type\tvalue\tevent_code", ["cue\t99\t1", "cue\t99\t2"], "column 'event_code' does"),
])  # fmt: skip
def test_a_column_by_another_name_is_refused_with_the_name_to_write(recording, tmp_path, header, rows, words):
    rules = (*Events().rules, *coded(1, 2))
    with pytest.raises(UserError, match=rf"events\.tsv: .*{words}"):
        read(recording, tmp_path, rows, rules, f"onset\t{header}")


def test_columns_that_say_nothing_hinder_nobody(recording, tmp_path):
    header = "onset\ttrial_type\tvalue\tDuration\tPhase\tblock"
    rows = ["cue\t1\t0\tn/a\t1", "cue\t2\t0\t\t2"]
    assert read(recording, tmp_path, rows, coded(1, 2), header)[0] == list(ITEMS[:2])
    rows = ["rest\tn/a\t0\tn/a\t1", "rest\tn/a\t0\tn/a\t1"]
    items, _, unmapped = read(recording, tmp_path, rows, coded(1, 2), header)  # a session without cues
    assert items == [] and unmapped == {"rest": 2}


def test_codes_that_no_rule_knows_are_told_as_numbers(recording, tmp_path):
    rows = ["cue\t77", "cue\t77", "n/a\t78", "cue\t1", "S 79\t79", "start\tn/a"]
    *_, unmapped = read(recording, tmp_path, rows, coded(1))
    assert unmapped == {"cue, value 77": 2, "value 78": 1, "S 79": 1, "start": 1}
    *_, unmapped = read(recording, tmp_path, rows, Events().rules)  # rules go by the texts alone
    assert unmapped == {"cue": 3, "value 78": 1, "S 79": 1, "start": 1}
    assert pd.isna(list(unmapped)).sum() == 0


CUES = [(20.0 + 7 * k, k % 3) for k in range(60)]
"""Onset in s and item; the recording has 1500 s."""


def table(of_row, more=""):
    """Return lines of a table; `of_row` gives the onset, and what else stands there, from that in s."""
    return [f"{of_row(at)}\tcue\t{item + 1}" for at, item in CUES], f"-onset{more}\ttrial_type\tvalue"


@pytest.mark.parametrize(("of_row", "more", "words"), [
    (lambda at: f"{at / 60:.5f}", "", r"follow each other within 0\.12 s, .* they fit if they are minutes"),
    (lambda at: f"{at / 3600:.7f}", "", r"follow each other within 0\.0019 s, .* they fit if they are hours"),
    (lambda at: f"{at / 60:.5f}\t{at * 5:.0f}", "\tsample", r"line 2: onset is 0\.333.*, so that onsets are minutes"),
    (lambda at: f"{at / 3600:.7f}\t{at * 5:.0f}", "\tsample", r"so that onsets are hours"),
    (lambda at: f"{at * 1000:.0f}", "", r"fit if they are ms"),
    (lambda at: f"{at + 1200:g}", "", r"20 of 60 events lie behind the end of the recording .* counted on"),
    (lambda at: f"{at - 200:g}", "", r"26 of 60 events lie before the beginning of the recording \(1500 s\)"),
    (lambda at: f"{at + 82800:g}", "", r"60 of 60 events lie outside the recording"),
])  # fmt: skip
def test_onsets_in_another_unit_or_from_another_moment_are_refused(recording, tmp_path, of_row, more, words):
    rows, header = table(of_row, more)
    with pytest.raises(UserError, match=rf"events\.tsv.*{words}"):
        read(recording, tmp_path, rows, coded(1, 2, 3), header)


@pytest.mark.parametrize(("of_row", "more", "remark"), [
    (lambda at: f"{at:g}", "", None),
    (lambda at: f"{at / 2:g}\t{at / 2 * 15:.0f}", "\tsample", "WARNING: .*onset is 10 s, sample 150 is 30 s at 5 Hz"),
    (lambda at: f"{at * 4:g}", "", r"9 of 60 events lie outside the recording: left out"),  # it went on, unrecorded
    (lambda at: f"{at + 1090:g}", "", r"\d+ of 60 events lie outside"),  # few, at its end
])  # fmt: skip
def test_onsets_of_what_was_not_recorded_are_left_out_with_a_remark(recording, tmp_path, of_row, more, remark):
    rows, header = table(of_row, more)
    items, remarks, _ = read(recording, tmp_path, rows, coded(1, 2, 3), header)
    assert items == [ITEMS[item] for _, item in CUES][: len(items)] and len(items) > 45
    assert (re.search(remark, remarks[0]) and len(remarks) == 1) if remark else remarks == []


def test_rows_of_scored_epochs_are_no_triggers(recording, tmp_path):
    """mne-bids numbers them too; a cue may be named after the stage in which it was played."""
    header = "-onset\tduration\ttrial_type\tvalue"
    rows = [f"{at}\t0\tcue\t{item + 1}" for at, item in CUES]
    for name in ("N{}", "Sleep stage N{}", "S{}", "{}", "NREM{}", "stage/N{}"):
        own = [f"{30 * k}\t30\t{name.format(k % 3 + 1)}\t{k % 3 + 1}" for k in range(40)]
        items, remarks, _ = read(recording, tmp_path, [*rows, *own], coded(1, 2, 3), header)
        assert items == [ITEMS[item] for _, item in CUES], name
        assert any("40 events with the number of a trigger last 10 s" in text for text in remarks) != ("/" in name)
    rows = [f"{at}\t0\tN{item + 1}\t{item + 1}" for at, item in CUES]
    assert read(recording, tmp_path, rows, coded(1, 2, 3), header)[0] == [ITEMS[item] for _, item in CUES]
    rows = [f"{at}\t30\t{item + 1}\tn/a" for at, item in CUES]  # a sound of 30 s
    assert read(recording, tmp_path, rows, coded(1, 2, 3), header)[0] == [ITEMS[item] for _, item in CUES]
