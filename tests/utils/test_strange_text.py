"""Text that is none: half characters, what a terminal obeys, dollar signs, logs that no session wrote."""

import json
import logging
import os
import sys

import pytest

from sleep_interpreter.data.formats import single_trials, test_trials
from sleep_interpreter.data.inventory.survey import survey_folder
from sleep_interpreter.data.preparation.inputs import find_bids, find_recordings, scorings
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.realtime.Cues.sounds import read_playlist
from sleep_interpreter.realtime.Monitor import history
from sleep_interpreter.realtime.Recording.event_log import EventLog, read_log
from sleep_interpreter.realtime.Report.session_data import load_session
from sleep_interpreter.utils.core import command_line, config, yaml_reader
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError, printable
from sleep_interpreter.utils.plots import session as session_plots
from sleep_interpreter.utils.plots import style

ODD = os.fsdecode(b"s\xe9")
"""A name in Latin-1, as an old disk has it."""


def made(folder, *names):
    try:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    except (OSError, UnicodeError):
        pytest.skip("no such name can be given here")


_BIDS, _SUBJECT = "sub-01/eeg/sub-01_task-nap_eeg.vhdr", "Prepared/subject_0/nap/eeg.npy"


@pytest.mark.parametrize(
    ("name", "find"),
    [
        (f"{ODD}_nap.edf", lambda folder: find_recordings(str(folder / "*"), Preparation())),
        (f"{ODD}/s1_nap.edf", lambda folder: find_recordings(str(folder / "**" / "*.edf"), Preparation())),
        (_BIDS.replace("01", ODD), lambda folder: find_bids(folder, Preparation())),
        (_BIDS.replace("nap", ODD), lambda folder: find_bids(folder, Preparation())),
        (_BIDS.replace("_task", f"_ses-{ODD}_task"), lambda folder: find_bids(folder, Preparation())),
        (f"night_{ODD}.txt", lambda folder: scorings(folder / "night.edf", "{stem}_*.txt", {})),
        (f"SI Main Train/subject_{ODD}/Whole_data.pickle", single_trials.find_subjects),
        (f"SI Main Test/subject_test_{ODD}/N2N3_data.pickle", test_trials.find_test_files),
        (f"SI Main Test/subject_test_{ODD}/N2N3_data.pickle", survey_folder),
        (f"SI Main Train_tfrecords/N2N3/Whole_{ODD}.tfrecord", survey_folder),
    ],
)
def test_a_name_that_is_no_text_is_refused_wherever_a_folder_is_listed(tmp_path, name, find):
    made(tmp_path, name)
    with pytest.raises(UserError, match=r"s\\xe9.*its name is no UTF-8 text.*rename it"):
        find(tmp_path)


def test_a_name_that_is_no_text_stops_nothing_where_it_is_not_asked_for(tmp_path, caplog):
    made(tmp_path, _BIDS, f"sourcedata/{ODD}_eeg.vhdr", f"{ODD}.txt", "s1_nap.edf")
    assert [source.name for source in find_bids(tmp_path, Preparation())] == ["sub-01"]
    assert [source.name for source in find_recordings(str(tmp_path / "*"), Preparation())] == ["s1"]
    for subject in ("s1", ODD):
        made(tmp_path / "sessions", f"{subject}/session_001/session.json")
        (tmp_path / "sessions" / subject / "session_001" / "session.json").write_text('{"seed": 1}')
    assert [about["subject"] for about in history.list_sessions(tmp_path / "sessions")] == ["s1"]
    assert "its name is no UTF-8 text" in caplog.text


@pytest.mark.parametrize("text", ['a: "\\ud800"', '"\\udce9": 1', '- {b: ["x", "half \\ud83d"]}', '"\\udfff"'])
def test_half_a_character_is_refused(text):
    with pytest.raises(UserError, match=r"^here: half a character \(.*\\ud.*write it in full"):
        yaml_reader.parse(text, "here")
    assert yaml_reader.parse('a: "\\U0001F634"', "here") == {"a": "\U0001f634"}


def test_settings_with_half_a_character_are_refused_before_anything_is_made(tmp_path):
    """A name that is no UTF-8 comes as half characters; a session's folder was left half made for it."""
    (tmp_path / "lab.yaml").write_text('extends: prepare\nsplit: {test: ["s\\udce9"]}\n')
    with pytest.raises(UserError, match=r"lab\.yaml: half a character"):
        config.load(Preparation, tmp_path / "lab.yaml")
    with pytest.raises(UserError, match=r"--set split\.test=.*half a character"):
        config.load(Preparation, "prepare", overrides=['split.test=["\\udce9"]'])


HOSTILE = "\x1b]0;title\x07\x1b[2Jred \x9b31m \u202egnp.exe \ud800 \r\x7f"


@pytest.mark.parametrize("way", ["error", "log", "say", "trace"])
def test_a_terminal_is_told_nothing_that_it_obeys(capsys, monkeypatch, way):
    handler = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(sys, "argv", ["x"])

    def main(argv):
        if way == "error":
            raise UserError(f"night.edf: channel {HOSTILE}")
        if way == "say":
            command_line.say(f"channel {HOSTILE}")
        if way == "log":
            logging.getLogger("x").warning("channel %s", HOSTILE)
        if way == "trace":
            try:
                raise ValueError(HOSTILE)
            except ValueError:
                logging.getLogger("x").warning("channel Käse", exc_info=True)
        return 0

    command_line.run(main, [])
    shown = "".join(capsys.readouterr())
    handler.close()
    assert "\\x1b[2J" in shown and "\\u202e" in shown and "\\ud800" in shown
    assert not any(sign in shown for sign in "\x1b\x07\x9b\u202e\x7f\r")
    assert way != "trace" or "Käse" in shown


def test_what_is_no_order_stays():
    text = "Käse\t日本 \U0001f468\u200d\U0001f469 µV\n"
    assert printable(text) == text


@pytest.mark.parametrize("name", ["$x_{$", "$\\frac{$", "cost 5$ to 6$", "$\\mathdefault{", "a$b", "$$$"])
def test_dollars_in_names_are_no_formula(tmp_path, name):
    with style.saved_figure(tmp_path / "a.png", (3, 2), 1, 2, heading=name) as (figure, axes):
        axes[0].plot([1, 2], [1, 10], label=name)
        axes[0].legend(title=name)
        axes[0].set(yscale="log", ylabel=name, title=name)
        axes[1].barh([0, 1], [1, 2])
        axes[1].set_yticks([0, 1], [name, "C4"])
        figure.text(0.5, 0.5, name)
    assert (tmp_path / "a.png").stat().st_size > 1000
    with style.new_figure((3, 2)) as (figure, axes):
        axes.set_title(name)
        text = session_plots.svg(figure)
    assert text.startswith("<svg")


def test_powers_of_ten_are_still_drawn():
    with style.new_figure((3, 2)) as (figure, axes):
        axes.set(yscale="log", ylim=(1, 1000))
        style.take_literally(figure)
        assert all(label.get_parse_math() for label in axes.get_yticklabels())
        style.plt.close(figure)


# --- logs ----------------------------------------------------------------------------------------------

EVENT = {"sample": 1, "seconds": 0.002, "event": "cue", "code": 1, "detail": {"number": 0, "item": "x", "group": 0},
         "wall": {"time": "t"}}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[]", "it is no event"),
        ("5", "it is no event"),
        ("[" * 100_000, "it is no JSON"),
        (json.dumps(EVENT | {"seconds": float("nan")}), "it is no JSON"),
        (json.dumps(EVENT | {"seconds": 1e300}), "its time is beyond all nights"),
        (json.dumps(EVENT | {"sample": True}), "'sample' is 'True'"),
        (json.dumps({k: v for k, v in EVENT.items() if k != "wall"}), "'wall' is 'missing'"),
        (json.dumps({k: v for k, v in EVENT.items() if k != "code"}), "'code' is 'missing'"),
        (json.dumps(EVENT | {"detail": []}), r"'detail' is '\[\]'"),
        (json.dumps(EVENT | {"detail": {"number": 0}}), "'item' of 'cue' is 'missing'"),
        (json.dumps(EVENT | {"detail": {"number": "0", "item": "x"}}), "'number' of 'cue' is '0'"),
        (json.dumps(EVENT | {"event": "stop", "detail": {"reason": "\ud800"}}), "it is no JSON"),
        (json.dumps(EVENT | {"event": "notice", "detail": {}}), "'level' of 'notice' is 'missing'"),
    ],
)
def test_a_line_of_a_log_that_no_session_wrote(tmp_path, line, told):
    (tmp_path / "log.jsonl").write_text(json.dumps(EVENT) + "\n" + line + "\n")
    with pytest.raises(UserError, match=rf"log\.jsonl: line 2 is damaged: {told}"):
        read_log(tmp_path / "log.jsonl", details=True)
    with pytest.raises(UserError, match=r"line 2 is damaged: .*; repair or remove that line"):
        load_session(tmp_path)


def test_half_a_character_does_not_end_a_session(tmp_path):
    log = EventLog(tmp_path / "log.jsonl", 500)
    log.write(0, "mark", text="half \ud800 of it")
    log.close()
    assert [event["detail"]["text"] for event in read_log(tmp_path / "log.jsonl")] == ["half ? of it"]


def test_a_cell_longer_than_any(tmp_path):
    (tmp_path / "list.csv").write_text(f"item,file\n{published().item_names[0]},{'x' * 200_000}\n")
    with pytest.raises(UserError, match=r"list\.csv.*(cannot be read as a table|does not exist)"):
        read_playlist(tmp_path / "list.csv", published())
