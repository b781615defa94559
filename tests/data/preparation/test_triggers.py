"""A trigger is the number that was sent: whatever a file's format, unit or program made of it."""

import warnings

import mne
import numpy as np
import pandas as pd
import planted_cues as planted
import pytest
import yaml

from sleep_interpreter.data.preparation.events import read_events
from sleep_interpreter.data.preparation.inputs import Session
from sleep_interpreter.data.preparation.settings import Events, Rule
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.recording import Recording

STIM = ("events.source=stim", f"events.rules={planted.RULES}")


def edf(raw, path, header=None, **values):
    """Export to EDF, and write other `values` ("unit", "name") into the header of the last channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mne.export.export_raw(path, raw, overwrite=True, verbose="error")
    with path.open("r+b") as handle:
        handle.seek(252)
        count = int(handle.read(4))
        labels = [handle.read(16).decode().strip() for _ in range(count)]
        place = labels.index(raw.ch_names[-1])
        for offset, width, key in ((0, 16, "name"), (96, 8, "unit")):
            if key in values:
                handle.seek(256 + offset * count + place * width)
                handle.write(values[key].ljust(width).encode("latin-1"))
    return path


def bdf_status(raw, path, codes_of):
    """Write a BDF file of 24-bit integers whose last channel is a Status word made by `codes_of`(codes)."""
    names, rate = raw.ch_names, int(raw.info["sfreq"])
    data = raw.get_data()
    digital = np.rint(data * 1e6 / 0.03125).astype(np.int64)
    digital[-1] = codes_of(np.rint(data[-1]).astype(np.int64))
    count, records = len(names), raw.n_times // rate

    def fields(values, width):
        return "".join(str(value).ljust(width) for value in values)

    low, high = -8388608, 8388607
    header = "\xffBIOSEMI" + "".ljust(80) + "".ljust(80) + "01.01.20" + "22.00.00" + str(256 * (count + 1)).ljust(8)
    header += "24BIT".ljust(44) + str(records).ljust(8) + "1".ljust(8) + str(count).ljust(4)
    own = [n if n != names[-1] else "Status" for n in names]
    header += fields(own, 16) + fields([""] * count, 80)
    header += fields(["uV"] * (count - 1) + ["Boolean"], 8)
    header += fields([-262144] * (count - 1) + [low], 8) + fields([262144] * (count - 1) + [high], 8)
    header += fields([low] * count, 8) + fields([high] * count, 8) + fields([""] * count, 80)
    header += fields([rate] * count, 8) + fields([""] * count, 32)
    body = digital[:, : records * rate].reshape(count, records, rate).transpose(1, 0, 2).reshape(-1)
    bytes_ = (body & 0xFFFFFF).astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.encode("latin-1") + bytes_.tobytes())
    return path


def fif(raw, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.save(path, overwrite=True, verbose="error")
    return path


FORMS = {
    "EDF of MNE": lambda raw, path: edf(raw, path.with_suffix(".edf")),
    "EDF in which MNE itself finds the channel": lambda raw, path: edf(raw, path.with_suffix(".edf"), name="Trigger"),
    "EDF in uV": lambda raw, path: edf(raw, path.with_suffix(".edf"), unit="uV"),
    "EDF in mV": lambda raw, path: edf(raw, path.with_suffix(".edf"), unit="mV"),
    "FIF in V of what was uV": lambda raw, path: fif(raw.apply_function(lambda x: x * 1e-6, ["STI"]), path),
    "FIF, rounded by a program": lambda raw, path: fif(raw.apply_function(lambda x: x * 0.9999999, ["STI"]), path),
    "FIF, 16 bits with a sign": lambda raw, path: fif(
        raw.apply_function(lambda x: x - 65536 * (x > 32767), ["STI"]), path
    ),
    "BDF, states of the amplifier above the triggers": lambda raw, path: bdf_status(
        raw, path.with_suffix(".bdf"), lambda codes: codes | 1 << 20 | (np.arange(len(codes)) < 500) << 16
    ),
    "BDF, highest bit set": lambda raw, path: bdf_status(raw, path.with_suffix(".bdf"), lambda codes: codes | 1 << 23),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_trigger_channel_gives_the_numbers_that_were_sent(tmp_path, form):
    raw, cues = planted.night()
    if "sign" in form:
        cues["code"] = cues.code + 40000
    path = FORMS[form](planted.with_trigger_channel(raw, cues), tmp_path / "s1_night_raw.fif")
    name = "Trigger" if "itself" in form else "Status" if "BDF" in form else "STI"
    rules = [Rule(code=code, item=item, modality="cue") for code, item in planted.CODES.items()]
    if "sign" in form:
        rules = [rule.model_copy(update={"code": rule.code + 40000}) for rule in rules]
    recording = Recording(path)
    settings = Events(source="stim", stim_channel=name, rules=tuple(rules))
    table, unmapped = read_events(Session("night", "sleep", path), recording, recording.annotations, settings)
    assert unmapped == {}
    assert table["item"].tolist() == cues["item"].tolist() and np.allclose(table.onset_s, cues.onset_s, atol=1e-3)


@pytest.mark.parametrize("form", ["EDF of MNE", "EDF in uV", "BDF, states of the amplifier above the triggers"])
def test_every_cue_of_a_trigger_channel_is_prepared_as_planted(tmp_path, form):
    raw, cues = planted.night(1)
    path = FORMS[form](planted.with_trigger_channel(raw, cues), tmp_path / "lab" / "s1_night_raw.fif")
    scoring = path.with_suffix(".txt")
    scoring.write_text("\n".join(planted.STAGES))
    name = "Status" if "BDF" in form else "STI"
    more = (f"events.stim_channel={name}", "stages.file='{stem}.txt'")
    planted.complete(planted.prepare(tmp_path / "lab", tmp_path / "out", *STIM, *more))
    planted.check(tmp_path / "out", cues)


def codes_of(tmp_path, values, name="STI", kinds="stim"):
    raw, _ = planted.night(stages=("N2",))
    info = mne.create_info([name], planted.RATE, kinds)
    stim = np.zeros(raw.n_times)
    stim[: len(values)] = values
    raw.add_channels([mne.io.RawArray(stim[None], info, verbose="error")], force_update_info=True)
    return Recording(fif(raw, tmp_path / "s1_night_raw.fif")).triggers(name)


def test_lines_that_rise_one_after_the_other_are_one_code(tmp_path):
    """11 is 1011 in bits: one line arrives a sample before the others. A code that stands is one of its own."""
    values = np.zeros(2000)
    values[100], values[101:110] = 3, 11
    values[300:310], values[310:320] = 3, 11  # 40 ms: both were sent
    values[500], values[501:510] = 11, 4  # one is no part of the other
    found = codes_of(tmp_path, values)
    assert found == [(101 / 250, 11), (300 / 250, 3), (310 / 250, 11), (500 / 250, 11), (501 / 250, 4)]


@pytest.mark.parametrize(("value", "words"), [
    (10.43, r"holds 10\.4\d* at 2\.000 s, which is no whole number.*events\.stim_channel"),
    (-3, r"holds the negative code -3 at 2\.000 s"),
])  # fmt: skip
def test_what_is_no_code_is_refused_with_place_and_value(tmp_path, value, words):
    raw, cues = planted.night(stages=("N2",))
    raw = planted.with_trigger_channel(raw, cues)
    raw._data[-1, 500:505] = value
    path = edf(raw, tmp_path / "s1_night.edf")
    with pytest.raises(UserError, match=rf"s1_night\.edf: trigger channel 'STI': {words}"):
        Recording(path).triggers("STI")


@pytest.mark.parametrize("constant", [0, 7])
def test_a_session_without_triggers_is_prepared_and_says_so(tmp_path, constant):
    raw, cues = planted.night()
    fif(planted.with_trigger_channel(raw, cues), tmp_path / "lab" / "s1_night_raw.fif")
    raw, _ = planted.night(2, ("N2", "N2"))
    quiet = planted.with_trigger_channel(raw, cues[:0])
    quiet._data[-1] = constant
    fif(quiet, tmp_path / "lab" / "s1_nap_raw.fif")
    for name, stages in (("night", planted.STAGES), ("nap", ("N2", "N2"))):
        (tmp_path / "lab" / f"s1_{name}_raw.txt").write_text("\n".join(stages))
    manifest = planted.prepare(tmp_path / "lab", tmp_path / "out", *STIM, "stages.file='{stem}.txt'")
    remarks = planted.complete(manifest)["sessions"]["nap"]["remarks"]
    assert any("holds no trigger" in text or "none of the 1 events is known" in text for text in remarks)
    planted.check(tmp_path / "out", cues)


@pytest.mark.parametrize("value", ["{}.0", "{}", "{},0", "{}.0000001", "S {}.0"])
def test_numbers_of_a_table_of_events_are_codes_however_they_are_written(tmp_path, value):
    raw, cues = planted.night(stages=("N2",))
    path = fif(raw, tmp_path / "s1_night_raw.fif")
    table = tmp_path / "events.tsv"
    rows = [f"{onset}\tn/a\t{value.format(code)}" for onset, code in zip(cues.onset_s, cues.code, strict=True)]
    table.write_text("\n".join(["onset\ttrial_type\tvalue", *rows, "29\tn/a\tn/a"]))
    rules = tuple(Rule(code=code, item=item, modality="cue") for code, item in planted.CODES.items())
    session, recording = Session("night", "sleep", path, table), Recording(path)
    settings = Events(source="events_tsv", rules=rules)
    found, unmapped = read_events(session, recording, recording.annotations, settings)
    assert found["item"].tolist() == cues["item"].tolist() and unmapped == {"n/a": 1}
    table.write_text("onset\ttrial_type\tvalue\n4\tn/a\t11.0\n5\tn/a\t11.4\n")
    with pytest.raises(UserError, match=r"events\.tsv, line 3: value '11\.4' is no trigger"):
        read_events(session, recording, recording.annotations, settings)
    quiet = settings.model_copy(update={"rules": (Rule(match="n/a", modality="ignore"), *rules)})
    assert read_events(session, recording, recording.annotations, quiet)[0].empty  # a text says what it is


def test_a_table_of_triggers_takes_the_numbers_of_a_spreadsheet(tmp_path):
    (tmp_path / "t.csv").write_text("code;item;modality\n11.0;alarm;cue\n12,00;apple;cue\n")
    assert [rule.code for rule in Events(table=tmp_path / "t.csv").table.rows] == [11, 12]
    (tmp_path / "t.csv").write_text("code;item;modality\n11.5;alarm;cue\n")
    with pytest.raises(ValueError, match=r"row 2: code '11\.5' is no whole number"):
        Events(table=tmp_path / "t.csv")


def test_of_several_trigger_channels_it_is_said_which_one_was_read(tmp_path):
    raw, cues = planted.night(stages=("N2",))
    raw = planted.with_trigger_channel(planted.with_trigger_channel(raw, cues, "A"), cues[:0], "B")
    path = fif(raw, tmp_path / "s1_night_raw.fif")
    rules = tuple(Rule(code=code, item=item, modality="cue") for code, item in planted.CODES.items())
    remarks: list[str] = []
    recording = Recording(path)
    settings = Events(source="stim", rules=rules)
    table, _ = read_events(Session("night", "sleep", path), recording, recording.annotations, settings, remarks)
    assert table["item"].tolist() == cues["item"].tolist()
    assert remarks == ["triggers are those of A; there are B too (events.stim_channel)"]
    assert pd.isna(table.phase).all()


def rules_of(**codes):
    return tuple(Rule(code=code, item=item, modality="cue") for item, code in codes.items())


def events_of(tmp_path, texts, rules, **more):
    raw, _ = planted.night(stages=("N2",))
    raw.set_annotations(mne.Annotations(2.0 + np.arange(len(texts)), 0.0, texts))
    path = fif(raw, tmp_path / "s1_night_raw.fif")
    recording = Recording(path)
    session = Session("night", more.pop("kind", "sleep"), path)
    return read_events(session, recording, recording.annotations, Events(rules=rules), **more)


def test_names_of_stages_and_electrodes_are_no_codes(tmp_path):
    texts = ["N1", "N2", "C3", "F4", "B2", "O1", "P3", "Comment/N2", "2", "S  3", "Stimulus/S  4", "Stimulus/A 1"]
    rules = rules_of(alarm=1, apple=2, kiwi=3, ball=4)
    found, unmapped = events_of(tmp_path, texts, rules)
    assert found["item"].tolist() == ["apple", "kiwi", "ball", "alarm"] and list(unmapped) == texts[:8]
    found, unmapped = events_of(tmp_path, ["S1", "2", "S 3"], rules, staged=r"S?(?P<stage>\d)")
    assert found["item"].tolist() == ["kiwi"] and list(unmapped) == ["S1", "2"]


def test_a_text_that_is_a_stage_or_a_trigger_is_refused(tmp_path):
    rules = rules_of(alarm=1, apple=2, kiwi=12)
    with pytest.raises(UserError, match=r"s1_night_raw\.fif: 'S2' at 2\.00 s is the sleep stage S2 or the trigger 2"):
        events_of(tmp_path, ["S2", "S1"], rules)
    assert len(events_of(tmp_path, ["S2", "S1", "S12"], rules)[0]) == 3  # triggers: there is no stage S12
    assert len(events_of(tmp_path, ["S2", "S1"], rules, kind="wake")[0]) == 2
    said = (Rule(match="S2", item="apple", modality="cue"), *rules)
    assert events_of(tmp_path, ["9", "n/a"], rules_of(alarm=9))[0]["item"].tolist() == ["alarm"]  # no text of a stage
    assert events_of(tmp_path, ["S2", "12"], said)[0]["item"].tolist() == ["apple", "kiwi"]
    quiet = (Rule(match=r"S\d", modality="ignore"), *rules)
    assert events_of(tmp_path, ["S2", "S1", "12"], quiet)[0]["item"].tolist() == ["kiwi"]


@pytest.mark.parametrize("stages", ["S1", "s1", "S4"])
@pytest.mark.parametrize("triggers", [["S  1", "S 12"], ["S  1"], ["S 12", "S123"], ["Stimulus/S 12", "12"]])
def test_a_stage_beside_triggers_that_are_written_otherwise_is_refused(tmp_path, stages, triggers):
    rules = rules_of(alarm=1, apple=12, kiwi=123, ball=4)
    assert len(events_of(tmp_path, triggers, rules)[0]) == len(triggers)
    with pytest.raises(UserError, match=rf"'{stages}' at .* is the sleep stage {stages} or the trigger"):
        events_of(tmp_path, [*triggers, stages], rules)
    found, _ = events_of(tmp_path, [*triggers, stages], rules, staged=r"[Ss](?P<stage>\d)")
    assert len(found) == len(triggers)


@pytest.mark.parametrize("stages", [["0", "1", "2"], ["S0", "S1", "S2"], ["S 1", "S 2", "S 3"], ["N1", "N2", "N3"]])
def test_what_lasts_as_long_as_an_epoch_beside_short_triggers_is_a_stage(tmp_path, stages):
    raw, cues = planted.night(stages=("N2", "N2", "N3"))
    onset, texts = [0.0, 30.0, 60.0, *cues.onset_s], [*stages, *map(str, cues.code), "1", "2"]
    length = [30.0] * 3 + [0.1] * (len(cues) + 2)
    raw.set_annotations(mne.Annotations([*onset, 6.5, 8.5], length, texts))
    recording = Recording(fif(raw, tmp_path / "s1_night_raw.fif"))
    rules = Events(rules=rules_of(alarm=11, apple=12, kiwi=200, ball=1, book=2, box=3, chair=0))
    for kind, more in (("sleep", 0), ("wake", {"0": 3, "S0": 3, "S 1": 3, "N1": 0}[stages[0]])):
        remarks: list[str] = []
        session = Session("night", kind, recording.path)
        found, _ = read_events(session, recording, recording.annotations, rules, remarks)
        assert len(found) == len(cues) + 2 + more
        coded = kind == "sleep" and stages[0] != "N1"
        assert any("3 events with the number of a trigger last 10 s" in text for text in remarks) == coded


@pytest.mark.parametrize("text", ["Trigger 11", "DIN11", "TTL 11", "#11", "Trigger-11", "+11", "11, Impedance", "T11",
                                  "Stimulus/DIN 011", "marker_11", "Code: 11"])  # fmt: skip
def test_a_text_that_holds_the_number_of_a_rule_is_told_with_the_rule_to_write(tmp_path, text):
    remarks: list[str] = []
    more = ["Response/R 11", "R11", "Comment/11", "N2", "111", "stage/N2"]
    found, _ = events_of(tmp_path, [text, text, *more], rules_of(alarm=11, apple=2), remarks=remarks)
    (said,) = remarks
    assert found.empty and said.startswith("WARNING: 2 events hold the number of a rule") and repr(text) in said
    rule = yaml.safe_load("{" + said.rpartition("events.rules: {")[2])
    assert len(events_of(tmp_path, [text, text, *more], (Rule(**rule),))[0]) == 2


def table_of(tmp_path, text, **more):
    raw, _ = planted.night(stages=("N2",))
    path = fif(raw, tmp_path / "s1_night_raw.fif")
    (tmp_path / "events.tsv").write_text(text)
    session, recording = Session("night", "sleep", path, tmp_path / "events.tsv"), Recording(path)
    settings = Events(source="events_tsv", rules=rules_of(alarm=11, apple=12))
    return read_events(session, recording, recording.annotations, settings, **more)


@pytest.mark.parametrize(("text", "words"), [
    ("onset\tvalue\n1000\t11\n2000\t12\n4000\t11\n", r"events\.tsv: 3 of 3 events lie outside .*they are samples at"),
    ("onset\tvalue\n5000\t11\n20000\t12\n25000\t11\n", r"fit if they are ms"),
    ("onset\tvalue\n1\t11\n100\t12\n101\t12\n", r"2 of 3 events lie outside the recording \(30 s\)"),
    ("onset\tvalue\tonset\n1\t11\t2\n", r"events\.tsv: has two columns 'onset'"),
    ("onset,value\n1,11\n", r"events\.tsv: has commas between its columns, BIDS wants tabs"),
    ("onset;value\n1;11\n", r"has semicolons"),
    ("Onset\tvalue\n1\t11\n", r"no column 'onset'; it has Onset, value; write 'onset' for 'Onset'"),
    ("onset\tvalue\n1\t11\n2,5\t12\n", r"events\.tsv, line 3: onset '2,5' is no number of seconds; write a decimal"),
    ("onset\tvalue\nn/a\t11\n", r"line 2: onset 'n/a' is no number of seconds.*or take the row out"),
    ("onset\tvalue\ninf\t11\n", r"line 2: onset 'inf' is no number"),
    ("onset\tvalue\n1\t11\n2\t0xb\n", r"line 3: value '0xb' is no trigger"),
    ("onset\tvalue\n1\t11\n2\t$0C\n", r"line 3: value '\$0C' is no trigger"),
    ("onset\tduration\tvalue\n1\t0\t11\n2\t0\n", r"line 3: has 2 cells, 'value' is column 3 of 3"),
])  # fmt: skip
def test_a_table_of_events_that_is_written_otherwise_is_refused_with_row_and_remedy(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        table_of(tmp_path, text)


def test_a_table_of_events_may_have_its_codes_in_trial_type_and_lack_last_cells(tmp_path):
    found, _ = table_of(tmp_path, "onset\ttrial_type\tvalue\tnote\n1\t11\tn/a\tx\n2\tS 12\tn/a\n\n3\t11\tn/a\t\n")
    assert found["item"].tolist() == ["alarm", "apple", "alarm"]
    remarks: list[str] = []
    found, _ = table_of(tmp_path, "onset\ttrial_type\tvalue\n1\t11\tn/a\n2\tn/a\t12\n", remarks=remarks)
    assert found["item"].tolist() == ["apple"] and "'11' (1)" in remarks[0]
    assert table_of(tmp_path, "onset\tvalue\n1\t11\n2\t12\n99\t11\n")[0].shape[0] == 2


def test_numbers_of_texts_as_mne_bids_writes_them_are_no_codes(tmp_path):
    """Its `value` numbers the texts by the alphabet: 1 is a response here, and 2 is the code 11."""
    rows = ["Response/R  1\t1", "Stimulus/S 11\t2", "Stimulus/S 12\t3", "Stimulus/S 11\t2", "Sleep stage N2\tn/a"]
    lines = [f"{k}\t{row}" for k, row in enumerate(rows, 1)]
    remarks: list[str] = []
    found, unmapped = table_of(tmp_path, "\n".join(["onset\ttrial_type\tvalue", *lines]), remarks=remarks)
    assert found["item"].tolist() == ["alarm", "apple", "alarm"] and set(unmapped) == {
        "Response/R  1",
        "Sleep stage N2",
    }
    assert any("value numbers the texts by the alphabet" in remark for remark in remarks)
    with pytest.raises(UserError, match=r"line 3: trial_type 'S 11' is code 11, value is 12"):
        table_of(tmp_path, "onset\ttrial_type\tvalue\n1\tS 12\t12\n2\tS 11\t12\n")
    # a condition's number beside the trigger, and texts that hold the same code
    found, _ = table_of(tmp_path, "onset\ttrial_type\tvalue\n1\t3\t11\n2\tS 12\t12\n")
    assert found["item"].tolist() == ["alarm", "apple"]


def test_samples_that_disagree_with_the_onsets_are_told(tmp_path):
    remarks: list[str] = []
    table_of(tmp_path, "onset\tvalue\tsample\n1\t11\t250\n2\t12\t2250\n", remarks=remarks)
    assert "line 3: onset is 2 s, sample 2250 is 9 s at 250 Hz (1 rows" in remarks[0]
    table_of(tmp_path, "onset\tvalue\tsample\n1\t11\t250\n2\t12\tn/a\n", remarks=remarks)
    assert len(remarks) == 1
