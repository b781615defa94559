"""Text tables in every encoding, with every separator; decimal commas."""

import codecs

import pytest

from sleep_interpreter.data.preparation import trigger_table
from sleep_interpreter.data.preparation.bids_tables import groups_of
from sleep_interpreter.data.preparation.settings import load_settings
from sleep_interpreter.train.evaluation import memory_scores, reactivation_events
from sleep_interpreter.utils.core import text_tables
from sleep_interpreter.utils.core.errors import UserError

ENCODINGS = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16, little end first": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16, big end first": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "Windows-1252": lambda text: text.encode("cp1252"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("separator", "\t;,")
def test_a_table_reads_the_same_in_every_encoding(tmp_path, encoding, separator):
    text = "näme|wert\r\nmüller|1\r\n\r\nstraße|\r\n".replace("|", separator)
    path = tmp_path / "a.csv"
    path.write_bytes(ENCODINGS[encoding](text))
    table = text_tables.parse_table(path, *text_tables.read_text(path))
    assert table.header == ("näme", "wert") and table.separator == separator
    assert table.rows == (("müller", "1"), ("", ""), ("straße", "")) and table.lines == (2, 3, 4)
    assert table.frame().index.tolist() == [2, 4]
    assert (table.remark is not None) == (encoding == "Windows-1252")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_table_of_the_project_takes_every_encoding(tmp_path, encoding, caplog):
    def written(name, text):
        (tmp_path / name).write_bytes(ENCODINGS[encoding](text))
        return tmp_path / name

    scores = written("scores.csv", "subject;item;score;prüfer\njörg;kiwi;1;a\n")
    found = memory_scores.read_behaviour(scores, ["s0"], {"jörg": "s0"}, ["kiwi"])
    assert found.to_dict("list") == {"subject": ["s0"], "item": ["kiwi"], "score": [1.0]}
    conditions = written("conditions.csv", "subject\tcondition\njörg\tgehört\n")
    assert reactivation_events.read_conditions(conditions, {"s0": ["night"]}, {"jörg": "s0"}) == {
        ("s0", "night"): "gehört"
    }
    triggers = written("triggers.csv", "text,item,modality\nhör kiwi,kiwi,cue\n")
    (row,) = trigger_table.read(triggers)["rows"]
    assert row["item"] == "kiwi" and row["match"] == r"hör\ kiwi"
    people = written("participants.tsv", "participant_id\tgroup\tort\nsub-1\ttest\tköln\nsub-2\ttrain\tulm\n")
    assert groups_of(people, load_settings().split.group_column) == {"sub-1": True, "sub-2": False}
    assert caplog.text.count("is no UTF-8, read as Windows-1252") == 4 * (encoding == "Windows-1252")


def test_participants_without_their_column_are_refused(tmp_path):
    (tmp_path / "participants.tsv").write_text("subject\tgroup\nsub-1\ttest\n")
    with pytest.raises(UserError, match=r"participants\.tsv: .*no column 'participant_id'"):
        groups_of(tmp_path / "participants.tsv", "group")
    (tmp_path / "participants.tsv").write_text("participant_id\tsex\nsub-1\tf\n")
    assert groups_of(tmp_path / "participants.tsv", "group") == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        ("a;b\n1;2\n".encode("utf-16-le"), "zero bytes"),
        (b"a,b\n1,5,2\n", r"line 2: has 3 cells for 2 columns; write decimal points"),
        (b"sep=;\na;b\n1;2\n3;4;5\n", r"line 4: has 3 cells"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, words):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=words):
        text_tables.told_table(tmp_path / "a.csv")


def test_numbers_with_commas():
    assert text_tables.numbers(["0,0", "0,5", "1200,25", "3"], "x") == [0, 0.5, 1200.25, 3]
    assert text_tables.numbers(["0,000", "30,000"], "x") == [0, 30]
    with pytest.raises(UserError, match=r"'1,020' is 1020 where commas part thousands, and 1\.020"):
        text_tables.numbers(["990", "1,020"], "x")
    with pytest.raises(UserError, match=r"'1\.020,5' is no number"):
        text_tables.numbers(["1.020,5"], "x")
