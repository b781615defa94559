"""Scorings as labs have them: each cue gets the stage that was planted, or the file is refused."""

import codecs
import datetime
import json
from pathlib import Path
from types import SimpleNamespace

import edfio
import mne
import numpy as np
import pandas as pd
import pytest
import recordings

from sleep_interpreter.data.formats.hypnograms import from_yasa, read_label_file
from sleep_interpreter.data.formats.scoring_readers import ScoringOptions, make, read_hypnogram
from sleep_interpreter.data.formats.scorings.annotations import from_annotations, unmatched_stages
from sleep_interpreter.data.formats.scorings.stage_codes import known
from sleep_interpreter.data.formats.staging_windows import read_staging_subjects
from sleep_interpreter.data.inventory.survey import survey_folder
from sleep_interpreter.data.preparation import inputs, stages
from sleep_interpreter.data.preparation import run as prepare_run
from sleep_interpreter.data.preparation.inputs import Session
from sleep_interpreter.data.preparation.settings import load_settings
from sleep_interpreter.data.preparation.stages import find_stages
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.metrics import staging_metrics
from sleep_interpreter.utils.signal.recording import Recording
from tests.data.preparation.conftest import QUICK

PLANTED = ["W", "W", "N1", "N2", "N2", "N3", "N3", "N2", "R", "R", "?", "N2", "N2", "W", "N3", "N2"]
"""Stages of 30 s; the recording is two epochs longer at both ends."""
BEFORE = 60.0
SECONDS = BEFORE + 30.0 * len(PLANTED) + 60
BEGUN = datetime.datetime(2024, 2, 1, 23, 57, 30, tzinfo=datetime.UTC)
CODES = {"W": 0, "N1": 0, "N2": 1, "N3": 2, "R": 3, "?": -1}
CUES = np.arange(3.5, SECONDS, 7.0)
TRUE = [CODES[PLANTED[int((t - BEFORE) // 30)]] if BEFORE <= t < SECONDS - 60 else -1 for t in CUES]
ONSETS = [BEFORE + 30 * k for k in range(len(PLANTED))]
RK = {"W": "0", "N1": "1", "N2": "2", "N3": "3", "R": "5", "?": "-1"}


def times(begin=BEGUN, onsets=ONSETS, form="%H:%M:%S"):
    return [f"{begin + datetime.timedelta(seconds=onset):{form}}" for onset in onsets]


def hms(onsets=ONSETS):
    return [f"{int(o) // 3600:02d}:{int(o) // 60 % 60:02d}:{int(o) % 60:02d}" for o in onsets]


def table(header, *columns, separator="\t"):
    rows = [separator.join(map(str, row)) for row in zip(*columns, strict=True)]
    return "\n".join([header.replace("|", separator), *rows]) + "\n"


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Return recordings with and without a time of day, and what reads a scoring beside one of them."""
    folder = tmp_path_factory.mktemp("scored")
    for name, begun in (("clock", BEGUN), ("none", None)):
        raw = mne.io.RawArray(np.zeros((1, int(SECONDS) * 10)), mne.create_info(["C4"], 10, "eeg"), verbose="error")
        raw.set_meas_date(begun)
        raw.save(folder / f"{name}_raw.fif", verbose="error")
    recorded = {name: Recording(folder / f"{name}_raw.fif") for name in ("clock", "none")}

    def read(content, suffix=".csv", *more, clock=True, seconds=SECONDS, begun=None, date=None):
        path = folder / f"scoring{suffix}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        recording = recorded["clock" if clock else "none"]
        if begun is not None:  # s after midnight
            names = {"path": recording.path, "annotations": recording.annotations, "first_time": 0.0}
            recording = SimpleNamespace(**names, clock=begun, date=date, timeline=())
        settings = load_settings(None, [f"stages.file={path.name}", *more]).stages
        try:
            session = Session("night", "sleep", recording.path)
            file = SimpleNamespace(seconds=seconds)
            return find_stages(session, recording.annotations, recording, file, None, settings)
        finally:
            path.unlink()

    return read


def n(codes=RK):
    return [codes[stage] for stage in PLANTED]


# Times: understood -----------------------------------------------------------------------------------------------

UNDERSTOOD = {
    "decimal commas": table("Onset;Dauer;Stage".replace(";", "|"), [f"{o:.1f}".replace(".", ",") for o in ONSETS],
                            ["30,0"] * 16, PLANTED, separator=";"),
    "another spelling, with a unit": table("Start Time (min)|Sleep_Stage", [o / 60 for o in ONSETS], PLANTED),
    "milliseconds": table("onset_ms|duration_ms|stage", [1000 * o for o in ONSETS], [30000] * 16, PLANTED),
    "begin and end": table("begin,end,stage".replace(",", "|"), ONSETS, [o + 30 for o in ONSETS], PLANTED,
                           separator=","),
    "times of day": table("Uhrzeit|Schlafstadium", times(), PLANTED, separator=";"),
    "times of day with dates": table("Datetime|stage", times(form="%d.%m.%Y %H:%M:%S"), PLANTED),
    "a column of dates": table("Date|Time|stage", times(form="%d/%m/%Y"), times(), PLANTED),
    "am and pm": table("Time|stage", times(form="%I:%M:%S %p"), PLANTED),
    "fractions, begin and end": table("Start time|End time|Event", times(form="%H:%M:%S.250"),
                                      times(onsets=[o + 30 for o in ONSETS], form="%H:%M:%S.250"), PLANTED),
    "MNE's CSV without a date": table("onset,duration,description".replace(",", "|"),
                                      [f"1970-01-01 {t}" for t in hms()],
                                      [30.0] * 16, [f"Sleep stage {s}" for s in PLANTED], separator=","),
    "MNE's CSV with one": table("onset,duration,description".replace(",", "|"), times(form="%Y-%m-%d %H:%M:%S"),
                                [30.0] * 16, [f"Sleep stage {s}" for s in PLANTED], separator=","),
    "HMC: date, time, onset": table(
        "Date,Time,Recording onset,Duration,Annotation,Linked channel".replace(",", "|"), times(form="%d-%m-%Y"),
        times(), ONSETS, [30] * 16, [f"Sleep stage {s}" for s in PLANTED], ["C4"] * 16, separator=","),
    "markers without a length": table("onset|duration|trial_type", ONSETS, [0] * 16, [f"stage/{s}" for s in PLANTED]),
    "epochs left out": table("onset|stage", *zip(*((o, s) for o, s in zip(ONSETS, PLANTED, strict=True) if s != "?"),
                                                 strict=True)),
    "probabilities beside it": table("onset|stage|N1|conf", ONSETS, PLANTED, [0.25] * 16, [97.5] * 16),
    "samples beside it": table("onset|stage|sample", ONSETS, PLANTED, [500 * o for o in ONSETS]),
    "Excel's first line": "sep=;\n" + table("onset|stage", ONSETS, PLANTED, separator=";"),
    "a unit with a point": table("Start (min.)|Stage", [o / 60 for o in ONSETS], PLANTED),
    "blanks between columns": table("onset|stage", ONSETS, PLANTED, separator="    "),
    "names of BIDS": table("onset|duration|trial_type", ONSETS, [30] * 16,
                           [f"sleep_stage_{s}" if s != "?" else "n/a" for s in PLANTED]),
    "comments and blank lines": "# by AB\n\n" + table("onset|stage", ONSETS, PLANTED).replace("\n90", "\n\n90"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_each_cue_gets_its_stage(night, name):
    found, source, remarks = night(UNDERSTOOD[name])
    assert found.at(CUES).tolist() == TRUE
    (told,) = [text for text in remarks if text.startswith("scoring, expert: scoring.csv")]
    first = 60.25 if "fractions" in name else 60
    assert f"the first begins at {first:g} s" in told and "outside it: 0" in told and source.startswith("expert")
    (told,) = [text for text in remarks if text.startswith("scoring: W/N1")]
    assert told.startswith("scoring: W/N1 2, N2 3, N3 1.5, R 1")


ELAPSED = table("time|stage", hms(), PLANTED)
DST = [datetime.datetime(2024, 10, 27, 2, 58) + datetime.timedelta(seconds=o - BEFORE) for o in ONSETS]
SUMMER = [f"{t - datetime.timedelta(hours=t.hour >= 3):%H:%M:%S}" for t in DST]
CHANGED = {
    "elapsed times": (ELAPSED, ["stages.times=elapsed"], True),
    "elapsed times that alone fit": (ELAPSED, [], True),
    "elapsed times from zero, no clock": (table("time|stage", hms([o - 60 for o in ONSETS]), PLANTED),
                                          ["stages.offset_seconds=60"], False),
    "numbered from 1": (table("Epoch|stage", range(3, 19), PLANTED), ["stages.first_epoch=1"], True),
    "numbered from 0": (table("Epoch|stage", range(2, 18), PLANTED), ["stages.first_epoch=0"], True),
    "a column that is named": (table("wann|dauer [s]|was", ONSETS, [30] * 16, PLANTED),
                               ["stages.onset=wann", "stages.column=was"], True),
    "a column that is left out": (table("onset|Lichter|stage", ONSETS, times(onsets=[0] * 16), PLANTED),
                                  ["stages.ignore=[Lichter]"], True),
    "a column without a title": (",stage\n" + "".join(f"{o},{s}\n" for o, s in zip(ONSETS, PLANTED, strict=True)),
                                 ["stages.onset=column 1"], True),
    "one of two scorers": (table("onset|A|B", ONSETS, PLANTED, PLANTED[::-1]), ["stages.column=A"], True),
    "times of day, laid on the first sample": (table("time|stage", times(), PLANTED),
                                               ["stages.times=first", "stages.offset_seconds=60"], False),
    "the night of a clock change": (table("time|stage", SUMMER, PLANTED),
                                    ["stages.times=first", "stages.offset_seconds=60"], True),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_what_settings_say_is_understood(night, name):
    content, settings, clock = CHANGED[name]
    assert night(content, ".csv", *settings, clock=clock)[0].at(CUES).tolist() == TRUE


# Times: refused --------------------------------------------------------------------------------------------------

REFUSED = {
    "an unknown column of numbers": (table("wann|stage", ONSETS, PLANTED), "column 'wann'.*stages.onset='wann'"),
    "an unknown column beside epochs": (table("epoch|wann|stage", range(1, 17), ONSETS, PLANTED), "column 'wann'"),
    "an unknown column of times": (table("wann|stage", times(), PLANTED), "column 'wann'.*stages.ignore="),
    "lengths of stretches": (table("stage|epochs", PLANTED, range(20, 36)), "begins with epoch 20"),
    "lengths in another word": (table("stage|Anzahl", PLANTED, [4, 1] * 8), "column 'Anzahl'"),
    "hours and minutes": (table("time|stage", times(form="%H:%M"), PLANTED), "line 2: '23:58' is no time with hours"),
    "samples": (table("onset|stage", [250 * o for o in ONSETS], PLANTED), "begin 7500 s apart.*unit"),
    "samples with lengths": (table("onset|duration|stage", [250 * o for o in ONSETS], [30] * 16, PLANTED), "7500 s"),
    "minutes": (table("onset|stage", [o / 60 for o in ONSETS], PLANTED), "begin 0.5 s apart"),
    "days": (table("onset [d]|stage", [o / 86400 for o in ONSETS], PLANTED), "unit 'd'"),
    "a spreadsheet's days": (table("time|stage", [0.9989 + o / 86400 for o in ONSETS], PLANTED), "as spreadsheets"),
    "an end alone": (table("end|stage", [o + 30 for o in ONSETS], PLANTED), "none when they begin"),
    "two onsets": (table("onset|start|stage", ONSETS, [o - 60 for o in ONSETS], PLANTED), "both say when epochs begin"),
    "seconds and clock": (table("onset|time|stage", [o - 60 for o in ONSETS], times(), PLANTED), "by its clock 60 s"),
    "an onset that is missing": (table("onset|stage", [*ONSETS[:-1], ""], PLANTED), "line 17: is empty"),
    "a time zone": (table("time|stage", times(form="%Y-%m-%dT%H:%M:%SZ"), PLANTED), "line 2: a time with a time zone"),
    "twelve hours": (table("time|stage", times(BEGUN.replace(hour=12), form="%I:%M:%S"), PLANTED), "24 hours"),
    "thousands": (table("onset|stage", [f"{o:,}" for o in (*range(960, 1440, 30),)], PLANTED), "part thousands"),
    "another night": (table("time|stage", times(BEGUN.replace(hour=9)), PLANTED), "less than half of it lies in"),
    "the epoch's first number": (table("epoch|stage", range(3, 19), PLANTED), "stages.first_epoch"),
    "no header": (table("60.0|30|W", ONSETS, [30] * 16, PLANTED), "write a header"),
    "a blank line": ("W\nN1\n\nN2\n", "line 3: is blank"),
    "a blank row": ("stage,conf\nW,0.5\n\nN2,0.5\n", "line 3: is blank"),
    "epochs of 20 s": ("\n".join(PLANTED[k % 16] for k in range(30)), "stages.epoch_seconds=20"),
    "DOMINO with another rate": ("Signal ID: SchlafProfil\\profil\nStart Time: x\nRate: 20 s\n\n" + "".join(
        f"{t}; {s}\n" for t, s in zip(times(), PLANTED, strict=True)), "epochs of 20 s, its times are 30 s apart"),
    "rows out of order": (table("time|stage", times()[::-1], PLANTED), "follow each other"),
    "a stage of an unknown name": (table("onset|description", ONSETS, ["Quiet" if s == "N3" else s for s in PLANTED]),
                                   "'Quiet' stands where no stage is"),
    "two columns of stages": (table("onset|stage|second", ONSETS, PLANTED, PLANTED[::-1]), "both hold stages"),
    "our own stages.tsv": (table("onset|stage|name", ONSETS, ["0"] * 5 + ["3"] * 11, ["W"] * 5 + ["R"] * 11), "both"),
    "stretches in minutes": (table("duration|stage", [30.0, 12.5, 20, 12, 10, 15] * 2, PLANTED[:12]),
                             "if its numbers are min"),
    "short stretches in minutes": (table("duration|stage", [30.0, 12.5, 20, 5, 10, 15] * 2, PLANTED[:12]),
                                   r"less than 10 s, down to 5 s; .*\[min\]"),
    "seconds and a clock of another name": (table("onset|Uhr|stage", [o - 60 for o in ONSETS], times(), PLANTED),
                                            "by its seconds it begins 0 s .*by its clock 60 s"),
    "numbers of epochs in words": (table("epoch|stage", [f"Nr {k}" for k in (*range(8), *range(10, 18))], PLANTED),
                                   "column 'epoch'.*is not understood"),
    "a column without a title": (",stage\n" + "".join(f"{o},{s}\n" for o, s in zip(ONSETS, PLANTED, strict=True)),
                                 "stages.onset='column 1'"),
    "columns without a header": ("\n".join(f"{o} {s}" for o, s in zip(ONSETS, PLANTED, strict=True)), "write a header"),
    "a digit an epoch on one line": ("0012233244", "'0012233244' is no sleep stage"),
    "an empty column": ("onset,stage\n", "column 'stage' is empty"),
    "a spreadsheet": (b"PK\x03\x04\0\0\0\0[Content_Types].xml", "zero bytes.*save it as text"),
    "first and last epochs": (table("start_epoch|end_epoch|stage", [1, 4, 6, 12, 17], [3, 5, 11, 16, 20],
                                    ["W", "N1", "N2", "N3", "R"]), "write when rows begin .* onset and duration$"),
    "a number of epochs": (table("stage|n_epochs", ["W", "N1", "N2"], [3, 2, 6]), "onset and duration$"),
    "lines above the header": ("Patient:\tP07\nDate:\t05.03.2024\n\n" + table("Epoch|Stage", range(1, 17), PLANTED),
                               "stand in line 4; delete the lines above"),
    "a title above the header": ("Night of 7;;\n" + table("onset|stage|conf", ONSETS, PLANTED, "x" * 16, separator=";"),
                                "stand in line 2; delete"),
    "a short title above it": ("Scoring\n" + table("onset|stage", ONSETS, PLANTED, separator=","), "in line 2; delete"),
    "times without a header": ("\n".join(f"{t} {s}" for t, s in zip(times(), PLANTED, strict=True)), "write a header"),
    "dates without a header": ("\n".join(f"{t} {s}" for t, s in zip(
        times(form="%d.%m.%Y %H:%M:%S"), PLANTED, strict=True)), "write a header"),
    "names on one line": (",".join(PLANTED), "all stages stand in one line"),
    "numbers on one line": (" ".join(n()), "all stages stand in one line"),
    "a list as programs write it": ("[" + ", ".join(f"'{s}'" for s in PLANTED) + "]", "all stages stand in one line"),
    "a sum below": ("\n".join([*PLANTED, "Total: 16"]), "line 17: 'Total: 16' is no stage; take the line out"),
    "a page's number": ("\n".join([*PLANTED[:8], "page 2", *PLANTED[8:]]), "line 9: 'page 2' is no stage; take"),
    "XML of another program": ("<?xml version='1.0'?><PatientStudy><Stage Type='Wake'/></PatientStudy>",
                               "XML of 'PatientStudy'.*write onset, duration and stage"),
    "a comma too many": ("onset,stage\n0,5,W\n", "3 cells for 2 columns"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused(night, name):
    content, words = REFUSED[name]
    with pytest.raises(UserError, match=words):
        night(content, seconds=180 * 60.0 if "in minutes" in name else SECONDS)


TEXTS = {
    "numbered segments": [f"epoch_{k + 3}" for k in range(16)],
    "s with their unit": [f"{o:g} s" for o in ONSETS],
    "minutes": [f"+{int(o) // 60}m" for o in ONSETS],
    "minutes and s": [f"{int(o) // 60}'{int(o) % 60:02d}\"" for o in ONSETS],
    "times with dashes": times(form="%H-%M-%S"),
    "times in one word": times(form="%Y%m%dT%H%M%S"),
    "begin and end": [f"[{o:g}-{o + 30:g}]" for o in ONSETS],
    "names of pictures": [f"P01_{o:g}.png" for o in ONSETS],
    "hours as words": times(form="%H Uhr %M %S"),
    "parts of the day": [f"{(86310 + o) / 86400 % 1:.7f}".replace(".", ",") for o in ONSETS],
    "hours": [o / 3600 for o in ONSETS],
    "parts of the night": [f"{(o - BEFORE + 30) / 600:.3f}" for o in ONSETS],
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_column_that_rises_from_row_to_row_may_say_when_rows_lie(night, name):
    with pytest.raises(UserError, match=r"column 'Lage' .* is not understood.*stages\.ignore=\['Lage'\]"):
        night(table("Lage|stage", TEXTS[name], PLANTED, separator=";"))
    found = night(table("onset|Lage|stage", ONSETS, TEXTS[name], PLANTED, separator=";"))[0]
    assert found.at(CUES).tolist() == TRUE


@pytest.mark.parametrize("cells", [
    [f"E{k:04d}" for k in range(16)], [f"epoch {k + 1}" for k in range(16)],
    [f"{30 * k}-{30 * k + 30} s" for k in range(16)],
    [f"{90 + (7 * k) % 10} %" for k in range(16)], [(0.9, 0.31, 0.55, 0.7)[k % 4] for k in range(16)], ["C4"] * 16,
    ["back", "left 2"] * 8, ["artefact 3", "see 12", *[""] * 14], [0] * 9 + [1] * 7, ["night 1"] * 16,
])  # fmt: skip
def test_a_column_that_does_not_rise_or_numbers_rows_is_no_time(night, cells):
    found = night(table("Lage|stage", cells, PLANTED, separator=";"))[0]
    assert found.at(CUES - BEFORE).tolist()[9:-9] == TRUE[9:-9]


STRETCHES = [(k, s) for k, s in enumerate(PLANTED) if not k or PLANTED[k - 1] != s]
FROM, KINDS = [k + 2 for k, _ in STRETCHES], [s for _, s in STRETCHES]
TO = [*FROM[1:], 18]
LASTS = np.subtract(TO, FROM).tolist()
IN_EPOCHS = {
    "begin and end": (lambda u: table(f"start{u}|end{u}|stage", FROM, TO, KINDS), ["stages.first_epoch=0"]),
    "begin and last epoch": (lambda u: table(f"start{u}|stop{u}|stage", [k + 1 for k in FROM], TO, KINDS),
                             ["stages.first_epoch=1"]),
    "begin and duration": (lambda u: table(f"onset{u}|duration{u}|stage", FROM, LASTS, KINDS),
                           ["stages.first_epoch=0"]),
    "begin": (lambda u: table(f"Onset{u}|Stage", [*FROM, 18], [*KINDS, "?"]), ["stages.first_epoch=0"]),
    "duration": (lambda u: table(f"stage|duration{u}", ["?", *KINDS], [2, *LASTS]), []),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_EPOCHS)
def test_numbers_of_epochs_are_no_seconds(night, name):
    write, settings = IN_EPOCHS[name]
    with pytest.raises(UserError, match=r"if it is not in s, write the unit of .* into the header .*\[epochs\]"):
        night(write(""))
    if settings:
        with pytest.raises(UserError, match=r"stages\.first_epoch"):
            night(write(" [epochs]"))
    assert night(write(" [epochs]"), ".csv", *settings)[0].at(CUES).tolist() == TRUE


LASTING = [40, 12, 30, 12, 25, 15, 16, 10, 20]
STARTING = np.cumsum([0, *LASTING[:-1]]).tolist()
ORDER = ["W", "N1", "N2", "N3", "N2", "R", "N1", "N2", "W"]
UNITS = {
    "begin and duration": (table("onset|duration|stage", STARTING, LASTING, ORDER), ".csv"),
    "begin": (table("onset|stage", STARTING, ORDER), ".csv"),
    "duration": (table("duration|stage", LASTING, ORDER), ".csv"),
    "U-Time": ("\n".join(f"{a},{b},{s}" for a, b, s in zip(STARTING, LASTING, ORDER, strict=True)), ".ids"),
}


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize(("own", "words"), [(30, "epochs of 30 s"), (20, "epochs of 20 s"), (60, "min")])
def test_a_table_that_would_fill_the_recording_in_another_unit(night, name, own, words):
    with pytest.raises(UserError, match=f"if its numbers are {words}"):
        night(*UNITS[name], seconds=180.0 * own)
    found = night(*UNITS[name], "stages.times=elapsed", seconds=180.0 * own)
    assert found[0].at([39.0, 41.0]).tolist() == [0, 0] and found[0].at(93.0) == 2
    assert any(text.startswith("WARNING: of the recording's") for text in found[2])


SUMMARIES = {
    "s": table("stage|duration", ["W", "N1", "N2", "N3", "R"], [90, 30, 180, 90, 60]),
    "minutes": table("stage|duration_min", ["R", "N3", "N2", "N1", "W"], [1, 1.5, 3, 0.5, 1.5]),
    "hh:mm:ss": table("Stadium|Dauer", ["W", "N1", "N2", "R"], hms([90, 30, 180, 60])),
    "numbers": table("stage|length", [0, 1, 2, 3, 5, -1], [90, 30, 180, 90, 60, 30]),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_summary_is_no_scoring(night, name):
    with pytest.raises(UserError, match=r"each stage stands once.* as in a summary"):
        night(SUMMARIES[name])


def test_rows_of_one_length_that_nothing_follows(night):
    """Changes of stages with the length of an epoch, of which all but the first would be lost."""
    starts, stages = [60, 120, 300, 330, 480, 700], ["W", "N2", "N3", "N2", "R", "W"]
    content = table("onset|duration|stage", starts, [30] * 6, stages)
    marks = "<?xml version='1.0'?><annotationlist>" + "".join(
        f"<annotation><onset>{o}</onset><duration>30</duration><description>Sleep stage {s}</description></annotation>"
        for o, s in zip(starts, stages, strict=True)) + "</annotationlist>"  # fmt: skip
    annot = f"{HEAD}\n" + "\n".join(f"{s}\t.\t.\t{o}\t+30\t." for o, s in zip(starts, stages, strict=True))
    for text, suffix in ((content, ".csv"), (marks, ".xml"), (annot, ".annot")):
        with pytest.raises(UserError, match=r"all rows last 30 s, and behind 4 of 6 no other follows at once"):
            night(text, suffix, seconds=800.0)
    with pytest.raises(UserError, match="all rows last 30 s"):
        make([(float(o), 30.0, s) for o, s in zip(starts, stages, strict=True)], "x")
    found = night(content, ".csv", "stages.ignore=[duration]", seconds=800.0)[0]
    assert found.at([100.0, 290.0, 320.0, 470.0, 690.0, 720.0]).tolist() == [0, 1, 2, 1, 3, 0]
    # stretches of one stage alone, and epochs of it, are rows as they should be
    make([(600.0 * k, 200.0 + k, "N3") for k in range(5)], "x")
    make([(600.0 * k + 30 * n, 30.0, "N3") for k in range(3) for n in range(5)], "x")


@pytest.mark.parametrize("length", [0.0, 0.002, 0.5, 1.0])
def test_annotations_of_up_to_a_second_hold_until_the_next(length):
    found = make(from_annotations(mne.Annotations(ONSETS, length, [f"Sleep stage {s}" for s in PLANTED]),
                                  ScoringOptions()), "x")  # fmt: skip
    assert found.at(CUES).tolist() == TRUE
    every = mne.Annotations(range(600), 1.0, [f"Sleep stage {s}" for s in FINE])  # a stage a second
    assert make(from_annotations(every, ScoringOptions()), "x").duration.tolist() == [1.0] * 600


ZEROS = {
    "samples": table("time|stage|sample", [o - 60 for o in ONSETS], PLANTED, [200 * o for o in ONSETS]),
    "samples, from BIDS": table("onset|duration|stage|sample", ONSETS, [30] * 16, PLANTED,
                                [500 * o + 5e3 for o in ONSETS]),
    "begin of samples": table("onset|stage|Start_Sample", [o - 60 for o in ONSETS], PLANTED, [256 * o for o in ONSETS]),
    "epochs": table("onset|epoch|stage", [o - 60 for o in ONSETS], range(3, 19), PLANTED),
}  # fmt: skip


@pytest.mark.parametrize("name", ZEROS)
def test_a_column_that_counts_from_another_zero(night, name):
    with pytest.raises(UserError, match="both say when epochs begin, and differently"):
        night(ZEROS[name])
    last = ZEROS[name].partition("\n")[0].split("\t")[-2 if name == "epochs" else -1]
    assert night(ZEROS[name], ".csv", f"stages.ignore=[{last}]")[0].onset[0] in (0, 60)
    for own in (range(16), range(2, 18), range(3, 19), range(5, 37, 2)):  # epochs, and what says nothing
        night(table("onset|epoch|stage", ONSETS if own[0] in (2, 3, 5) else [o - 60 for o in ONSETS], own, PLANTED))


def test_the_row_that_is_named_is_the_one_at_fault(night):
    rows = table("onset|duration|stage", ONSETS, [30] * 16, PLANTED)
    for content, words in (
        (rows.replace("stage\n", "stage\ns\ts\t\n", 1), "line 2: 's' is no time"),
        (rows + "TST\t4800\t\n", "line 18: 'TST' is no time"),
        (rows.replace("\n90.0\t", "\nabout 90\t"), "line 3: 'about 90' is no time"),
        (rows + "\nSE\t95 %\n", "line 19: 'SE' is no time"),
    ):
        with pytest.raises(UserError, match=words):
            night(content)
    with pytest.raises(UserError, match=r"two rows begin at one time; take out what stands twice, or write .*decimals"):
        night(table("time_h|stage", [f"{o / 3600:.1f}" for o in ONSETS], PLANTED))


LONG = {
    "a list": "\n".join(PLANTED[k % 16] for k in range(25)),
    "a table": table("stage|conf", [PLANTED[k % 16] for k in range(25)], [0.5] * 25),
    "numbered epochs": table("epoch|stage", range(1, 26), [PLANTED[k % 16] for k in range(25)]),
    "numbered with gaps": table("epoch|stage", [*range(1, 17), *range(20, 24)], [*PLANTED, *"WWWW"]),
    "YASA": json.dumps({"values": ["N2"] * 25, "n_stages": 5, "freq": "30s", "start": None, "scorer": None,
                        "proba": None}),
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_more_epochs_than_the_recording_has(night, name):
    """25 epochs of 20 s, whose scorer stopped before the end, are no 25 of 30 s."""
    suffix = ".json" if name == "YASA" else ".csv"
    with pytest.raises(UserError, match=r"epochs, (690|750) s.*(epoch_seconds.*times=first|epoch_seconds=\d+)"):
        night(LONG[name], suffix, clock=False)
    assert night(LONG[name], suffix, "stages.times=first")[0].at(0.0) == (1 if name == "YASA" else 0)
    if "gaps" not in name and name != "YASA":
        found = night(LONG[name], suffix, "stages.epoch_seconds=20")[0]
        assert found.at(20.0 * np.arange(25) + 5).tolist() == [CODES[PLANTED[k % 16]] for k in range(25)]


FAR = [1.7e9 + o for o in ONSETS]
FINE = [s for s in ["W", "W", *PLANTED, "W", "W"] for _ in range(30)]
OUTSIDE = {
    "a stage a second": ("\n".join(FINE), "stages.epoch_seconds=1$", ["stages.epoch_seconds=1"]),
    "a stage a second, in a table": (table("stage|conf", FINE, [0.5] * 600), "seconds=1$", ["stages.epoch_seconds=1"]),
    "s since 1970": (table("onset|duration|stage", FAR, [30] * 16, PLANTED), "offset_seconds=-1700000060; .*since 1970",
                     ["stages.offset_seconds=-1700000000"]),
    "another beginning": (table("onset|stage", [5000 + o for o in ONSETS], PLANTED), "stages.offset_seconds=-5060;",
                          ["stages.offset_seconds=-5000"]),
    "numbers of another night": (table("epoch|stage", range(1003, 1019), PLANTED), "less than half.*s=-30060",
                                 ["stages.first_epoch=1", "stages.offset_seconds=-30000"]),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_scoring_outside_is_refused_and_the_way_out_helps(night, name):
    content, words, settings = OUTSIDE[name]
    more = settings[:1] if "numbers" in name else []
    for times_first in ([], ["stages.times=first"]):
        with pytest.raises(UserError, match=words) as refused:
            night(content, ".csv", *more, *times_first)
        assert "times=first" not in str(refused.value)
    assert night(content, ".csv", *settings)[0].at(CUES).tolist()[9:-9] == TRUE[9:-9]


@pytest.mark.parametrize("times_are", ["clock", "elapsed"])
def test_what_settings_lay_outside_is_refused(night, times_are):
    with pytest.raises(UserError, match="less than half of it lies in the recording"):
        night(table("time|stage", hms([o + 30000 for o in ONSETS]), PLANTED), ".csv", f"stages.times={times_are}")


TWICE = [*PLANTED[::-1], *PLANTED]
WHOSE = {
    "a cohort": (table("subject|stage", ["P1"] * 16 + ["none"] * 16, TWICE), "column 'subject' .'P1', 'none'"),
    "two nights": (table("Night|onset|stage", [1] * 16 + [2] * 16, ONSETS * 2, TWICE), "several recordings.*'Night'"),
    "two files": (table("file_name|epoch|stage", ["a"] * 16 + ["b"] * 16, [*range(16)] * 2, TWICE), "'file_name'"),
    "two people's halves": (table("participant_id|onset|stage", ["a"] * 8 + ["b"] * 8, ONSETS, PLANTED), "'partici"),
    "two scorers": (table("onset|stage|scorer", ONSETS * 2, TWICE, ["A"] * 16 + ["B"] * 16), "several scorings"),
    "somebody else": (table("subject|onset|stage", ["P99"] * 16, ONSETS, PLANTED), "that of 'P99'.*none_raw.fif"),
    "somebody else's number": (table("Patient|onset|stage", [7] * 16, ONSETS, PLANTED), "ignore=..Patient"),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOSE)
def test_rows_of_another_recording_are_refused(night, name):
    content, words = WHOSE[name]
    with pytest.raises(UserError, match=words):
        night(content, clock=False)
    if "somebody" in name:
        title = content.partition("\t")[0]
        assert night(content, ".csv", f"stages.ignore=[{title}]")[0].at(CUES).tolist() == TRUE


def test_rows_that_name_their_recording_are_read(night):
    names, shift = ["Subject none"] * 16, ["A"] * 8 + ["B"] * 8
    content = table("subject|id|onset|stage|scorer", names, range(16), ONSETS, PLANTED, shift)
    assert night(content, clock=False)[0].at(CUES).tolist() == TRUE


@pytest.mark.parametrize(
    ("person", "subject", "same"),
    [
        ("P01", "1", True), ("sub-07", "7", True), ("DE017", "sub-DE-17", True), ("P1", "10", False),
        ("A48", "P99", False), ("Meier", "A48", False), ("vp3", "03", True), ("7.0", "7", True),
    ],
)  # fmt: skip
def test_whose_scoring_it_is(person, subject, same):
    found = SimpleNamespace(persons=(("subject", person),))
    session = Session("night", "sleep", Path("x_night.edf"), parts={"subject": subject})
    if same:
        stages._check_person(found, session, "x")
    else:
        with pytest.raises(UserError, match="is that of"):
            stages._check_person(found, session, "x")


CHANGES = [(k, s) for k, s in enumerate(PLANTED) if not k or PLANTED[k - 1] != s]
SPARSE = [s if k % 3 == 0 else "" for k, s in enumerate(PLANTED)]
FEW = {
    "changes by number": (table("epoch|stage", [0, 3, 8, 14], ["W", "N2", "N3", "R"]), "15 epochs, and 11 of them"),
    "changes by number and length": (table("Epoch Nr|duration|stage", [1, 9, 20], [30] * 3, "WWR"), "counts 20 epochs"),
    "empty cells": (table("stage|conf", SPARSE, [0.5] * 16), "10 of 16 cells are empty"),
    "empty cells beside numbers": (table("epoch|stage", range(16), SPARSE), "10 of 16 cells are empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", FEW)
def test_epochs_of_which_most_are_missing_are_refused(night, name):
    content, words = FEW[name]
    with pytest.raises(UserError, match=words):
        night(content)


MARKED = {
    "a movement": "Movement", "R&K's": "MT", "an artefact": "Artefakt", "lights": "Lights on", "in German": "Bewegung",
}  # fmt: skip


@pytest.mark.parametrize("name", MARKED)
def test_an_event_among_changes_ends_no_stage(night, tmp_path, name):
    starts, stages = [0, 90, 330, 400, 480], ["W", "N2", "N3", MARKED[name], "R"]
    names = [] if known(MARKED[name]) is not None else [f"stages.names={{{MARKED[name]}: unscored}}"]
    with pytest.raises(UserError, match=r"at (70|400) s is .* without a length, and the next stage begins 80 s later"):
        night(table("onset|stage", starts, stages), ".csv", *names)
    with pytest.raises(UserError, match=r"write its duration|without a length"):
        night(table("onset|duration|stage", starts, [90, 240, 150, 0, 120], stages), ".csv", *names)
    resumed = table("onset|stage", [0, 90, 330, 400, 410, 480], [*stages[:4], "N3", "R"])
    assert night(resumed, ".csv", *names)[0].at([399.0, 405.0, 411.0]).tolist() == [2, -1, 2]
    found = mne.Annotations(starts, 0.0, [f"stage/{stage}" for stage in stages])
    with pytest.raises(UserError, match=r"at 400 s is .* without a length"):
        from_annotations(found, ScoringOptions())


def test_changes_with_onsets_are_read(night):
    content = table("onset|stage", [BEFORE + 30 * k for k, _ in CHANGES], [s for _, s in CHANGES])
    assert night(content)[0].at(CUES).tolist() == TRUE


@pytest.mark.parametrize("content", ["[0, 1, 2]", '{"stages": [0, 1]}', '"W"', "W,N1"])
def test_json_of_another_program_is_refused(night, content):
    with pytest.raises(UserError, match=r"is no hypnogram that yasa.*write a stage a line"):
        night(content, ".json")


def test_times_that_cannot_be_compared_are_refused(night):
    clocks = table("time|stage", times(), PLANTED)
    for content in (clocks, clocks.replace("time", "Start time"), table("Datetime|stage", times(form="%c"), PLANTED)):
        with pytest.raises(UserError, match=r"no time of day|no time with hours"):
            night(content, clock=False)
    with pytest.raises(UserError, match=r"stages\.times=elapsed.*stages\.times=first"):
        night(ELAPSED, clock=False)
    with pytest.raises(UserError, match=r"stages\.times=elapsed.*stages\.times=first"):
        night(ELAPSED, ".csv", "stages.use_clock=false")
    both = table("time|stage", ["00:01:00", "00:01:30", "00:02:00", "00:02:30"], PLANTED[:4])
    with pytest.raises(UserError, match=r"60 s after .*times=elapsed.*210 s if .*times=clock"):
        night(both)
    assert night(both, ".csv", "stages.times=clock")[0].onset[0] == 210


# Dates ------------------------------------------------------------------------------------------------------------


def nights(days=0, begin=BEGUN):
    """Return scorings with dates in the ways of several programs, so many days later."""
    later = begin + datetime.timedelta(days=days)
    return {
        "a table": (table("Datetime|stage", times(later, form="%d.%m.%Y %H:%M:%S"), PLANTED), ".csv"),
        "a column of dates": (table("Date|Time|stage", times(later, form="%m/%d/%y"), times(), PLANTED), ".csv"),
        "seconds and a clock": (table("onset|Datetime|stage", [o + 86400 * (days == 1) for o in ONSETS],
                                      times(later, form="%Y-%m-%d %H:%M:%S"), PLANTED), ".csv"),
        "DOMINO": ("Signal ID: p\nStart Time: x\nRate: 30 s\n\n" + "".join(
            f"{t}; {s}\n" for t, s in zip(times(later, form="%d.%m.%Y %H:%M:%S"), PLANTED, strict=True)), ".txt"),
        "EDFbrowser": ("<?xml version='1.0'?><annotationlist>" + "".join(
            f"<annotation><onset>{t}</onset><duration>30</duration><description>Sleep stage {s}</description>"
            "</annotation>" for t, s in zip(times(later, form="%Y-%m-%dT%H:%M:%S"), PLANTED, strict=True))
            + "</annotationlist>", ".xml"),
        "YASA": (json.dumps({"values": [YASA[s] for s in PLANTED], "n_stages": 5, "freq": "30s", "scorer": None,
                             "start": times(later, form="%Y-%m-%dT%H:%M:%S")[0], "proba": None}), ".json"),
    }  # fmt: skip


KINDS_OF_DATES = ("a table", "a column of dates", "seconds and a clock", "DOMINO", "EDFbrowser", "YASA")


@pytest.mark.parametrize("suffix", [".edf", "_annot.fif", "_annot.txt", "_annot.csv"])
def test_a_header_of_another_date(night, tmp_path, suffix):
    texts = [f"Sleep stage {s}" for s in PLANTED]
    for days, begin in ((0, BEGUN), (7, BEGUN), (2, BEGUN), (0, BEGUN.replace(year=1985))):
        at = begin + datetime.timedelta(days=days)
        if suffix == ".edf":
            content = annotated(tmp_path, suffix, texts)
            content = content[:168] + f"{at:%d.%m.%y%H.%M.%S}".encode() + content[184:]
        else:
            mne.Annotations(ONSETS, 30.0, texts, orig_time=at).save(tmp_path / f"a{suffix}", overwrite=True)
            content = (tmp_path / f"a{suffix}").read_bytes()
        if days:
            with pytest.raises(UserError, match=r"is dated 2024-02-0., and the recording 2024-02-01;"):
                night(content, suffix)
            assert night(content, suffix, "stages.times=clock")[0].at(CUES).tolist() == TRUE
        else:
            assert night(content, suffix)[0].at(CUES).tolist() == TRUE


def test_mne_s_text_tells_when_its_zero_is(night, tmp_path):
    """MNE reads no time without a fraction of a second, though it writes some."""
    texts, later = [f"Sleep stage {s}" for s in PLANTED], BEGUN + datetime.timedelta(seconds=40)
    for at in (later, later + datetime.timedelta(milliseconds=250)):
        since = (at - BEGUN).total_seconds()
        mne.Annotations(np.subtract(ONSETS, since), 30.0, texts, orig_time=at).save(
            tmp_path / "a_annot.txt", overwrite=True
        )
        found = night((tmp_path / "a_annot.txt").read_bytes(), ".txt")[0]
        assert found.at(CUES).tolist() == TRUE and found.onset[0] == pytest.approx(BEFORE)


@pytest.mark.parametrize("name", KINDS_OF_DATES)
def test_a_scoring_of_another_date(night, name):
    for days in (2, 7, -1):
        content = nights(days)[name]
        with pytest.raises(UserError, match=r"is dated 2024-.*, and the recording 2024-02-01;"):
            night(*content)
    assert night(*nights(7)[name], "stages.times=clock")[0].at(CUES).tolist() == TRUE
    assert night(*nights()[name])[0].at(CUES).tolist() == TRUE
    second = night(*nights(1)[name], seconds=30 * 3600.0)[0]  # of a recording that goes on for two nights
    assert second.at(86400 + CUES).tolist() == TRUE
    anonymous = BEGUN.replace(year=1985)
    assert night(*nights(begin=anonymous)[name])[0].at(CUES).tolist() == TRUE


def test_the_date_of_the_evening(night):
    """Some programs write the evening's date beside times after midnight."""
    late = times(onsets=[o + 3600 for o in ONSETS])
    content = table("Date|Time|stage", ["01.02.2024"] * 16, late, PLANTED)
    assert night(content, seconds=5000.0)[0].at(3600 + CUES).tolist() == TRUE
    with pytest.raises(UserError, match=r"line 3: 02\.02\.2024 is followed by 05\.02\.2024"):
        night(table("Date|Time|stage", ["02.02.2024", "05.02.2024"], late[:2], PLANTED[:2]))


# Hours that are missing ------------------------------------------------------------------------------------------

LENGTHS = [600, 900, 500, 1600, 1400, 1500, 500, 2000, 1000, 2000, 1000, 1000, 1000, 1000, 1000, 30]
STARTS = np.cumsum([0, *LENGTHS[:-1]]).tolist()


def summer(change, onsets, form="%H:%M:%S"):
    """Return times of the night in which clocks go forward at `change`, of a recording from 73 min before it."""
    whole = datetime.datetime(2024, 3, 31) + datetime.timedelta(hours=change)
    there = [whole + datetime.timedelta(seconds=o - 4400) for o in onsets]
    return [f"{t + datetime.timedelta(hours=t >= whole):{form}}" for t in there]


def dated(onsets):
    return summer(2, onsets, "%d.%m.%Y %H:%M:%S")


LATE = [4400 - 240 + 30 * k for k in range(16)]
MISSING = {
    "a table, in Europe": lambda: table("time|stage", summer(2, LATE), PLANTED),
    "a table, in Egypt": lambda: table("time|stage", summer(24, LATE), PLANTED),
    "DOMINO": lambda: "Signal ID: p\nStart Time: x\nRate: 30 s\n\n" + "".join(
        f"{t}; {s}\n" for t, s in zip(summer(2, LATE), PLANTED, strict=True)),
    "Luna": lambda: luna(summer(2, LATE), ["+30"] * 16),
    "stretches with durations": lambda: table("start|duration|stage", summer(2, STARTS), LENGTHS, PLANTED),
    "stretches": lambda: table("start|stage", dated(STARTS), PLANTED),
    "stretches with ends": lambda: table("start|end|stage", dated(STARTS), dated(np.add(STARTS, LENGTHS).tolist()),
                                         PLANTED),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
def test_the_hour_that_is_missing_when_clocks_are_set_forward(night, name):
    """The recording is as long as the whole night; a scoring of stretches shows the hour by its end alone."""
    content, egypt = MISSING[name](), "Egypt" in name
    suffix = {"DOMINO": ".txt", "Luna": ".annot"}.get(name, ".csv")
    begun = (24 if egypt else 2) * 3600 - 4400
    with pytest.raises(UserError, match=r"an hour is missing|as if clocks had been set to summer time"):
        night(content, suffix, seconds=float(sum(LENGTHS)), begun=begun)
    with pytest.raises(UserError, match=r"an hour is missing|as if clocks had been set to summer time"):
        night(content, suffix, "stages.times=clock", seconds=float(sum(LENGTHS)), begun=begun)


def test_an_hour_that_nobody_scored_by_day_is_a_gap(night):
    clocks = [*hms([36000 + 30 * k for k in range(8)]), *hms([36000 + 3600 + 30 * k for k in range(8, 16)])]
    found = night(table("time|stage", clocks, PLANTED), seconds=5000.0, begun=36000)[0]
    assert found.at(239) == 1 and found.at(241) == -1 and found.at(3600 + 241) == 3


# Stages of unknown names -----------------------------------------------------------------------------------------

QUIET = ["Quiet" if s == "N3" else f"Sleep stage {s}" for s in PLANTED]


def annotated(tmp_path, suffix, texts, lengths=30.0):
    """Return the content of a file of annotations of these texts."""
    raw = mne.io.RawArray(np.zeros((1, int(SECONDS) * 10)), mne.create_info(["C4"], 10, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations(ONSETS, lengths, texts))
    path = tmp_path / f"a{suffix}"
    if suffix.endswith("fif"):
        raw.save(path, verbose="error")
    elif suffix == ".edf":
        edfio.Edf([], annotations=[edfio.EdfAnnotation(o, 30, t) for o, t in zip(ONSETS, texts, strict=True)]).write(
            path
        )
    else:
        raw.annotations.save(path)
    return path.read_bytes()


UNKNOWN = {
    "EDF+": lambda folder: (annotated(folder, ".edf", QUIET), ".edf"),
    "FIF": lambda folder: (annotated(folder, "_raw.fif", QUIET), "_raw.fif"),
    "markers": lambda folder: (annotated(folder, "_raw.fif", QUIET, 0.0), "_raw.fif"),
    "MNE's text": lambda folder: (annotated(folder, "_annot.txt", QUIET), ".txt"),
    "MNE's CSV": lambda folder: (annotated(folder, "_annot.csv", QUIET), ".csv"),
    "EDFbrowser's XML": lambda _: ("<?xml version='1.0'?><annotationlist>" + "".join(
        f"<annotation><onset>{o}</onset><duration>30</duration><description>{t}</description></annotation>"
        for o, t in zip(ONSETS, QUIET, strict=True)) + "</annotationlist>", ".xml"),
    "EDFbrowser's XML, times": lambda _: (
        edfbrowser().replace("Sleep stage N3", "Quiet").replace(">00:01:00", ">00:01:07"), ".xml"),
    "Luna": lambda _: (luna(ONSETS, ENDS).replace("N3\t", "Quiet\t"), ".annot"),
    "Luna, clock": lambda _: (luna(times(), times(onsets=ENDS)).replace("N3\t", "Quiet\t"), ".annot"),
    "Luna's XML": lambda _: ("<?xml version='1.0'?><Annotations><Instances>" + "".join(
        f"<Instance class='{'Quiet' if s == 'N3' else s}'><Start>{o}</Start><Duration>30</Duration></Instance>"
        for o, s in zip(ONSETS, PLANTED, strict=True)) + "</Instances></Annotations>", ".xml"),
    "a table": lambda _: (table("onset|description", ONSETS, QUIET), ".csv"),
    "Noxturnal": lambda _: (NOX.replace(",N3\n", ",Quiet\n"), ".csv"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_stage_of_an_unknown_name_is_no_other_event(night, tmp_path, name):
    content = UNKNOWN[name](tmp_path)
    with pytest.raises(UserError, match=r"'Quiet' stands where no stage is.*stages\.names"):
        night(*content)
    assert night(*content, "stages.names={Quiet: N3}")[0].at(CUES).tolist() == TRUE


def test_an_event_where_a_stage_is_missing_is_one_if_its_like_lies_in_stages(night):
    onsets = [o for o, s in zip(ONSETS, PLANTED, strict=True) if s != "?"]
    stages = [s for s in PLANTED if s != "?"]
    text = table("onset|duration|description", [*onsets, 360.0, 75.0], [30] * 15 + [0, 0], [*stages, "cue", "cue"])
    assert night(text)[0].at(CUES).tolist() == TRUE
    for mark in ("BAD_boundary", "movement", "New Segment/"):
        assert night(text.replace("cue", mark).replace("75.0\t0\t", "5.0\t0\t"))[0].at(CUES).tolist() == TRUE
    with pytest.raises(UserError, match=r"line 17: 'cue' stands where no stage is"):
        night(text.replace("75.0\t0\tcue", "75.0\t0\tsnore"))


def test_stages_among_annotations_that_do_not_match_are_not_passed_over(night):
    """Where the recording holds stages, YASA does not take their place."""
    raw = mne.io.RawArray(np.zeros((1, int(SECONDS) * 10)), mne.create_info(["C4"], 10, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations(ONSETS, [30.0] * 16, [f"NREM{s[1]}" if s[0] == "N" else s for s in PLANTED]))
    session = Session("night", "sleep", Path("a.fif"))

    def found(*changes):
        recording, file = (
            SimpleNamespace(first_time=0.0, clock=None, date=None, timeline=()),
            SimpleNamespace(seconds=SECONDS),
        )
        return find_stages(session, raw.annotations, recording, file, None, load_settings(None, changes).stages)

    pattern = "(?P<stage>W|NREM1|NREM2|NREM3|R|\\?)"
    with pytest.raises(UserError, match=r"'NREM1', .* are stages by their names.*stages\.source=yasa") as refused:
        found()
    assert repr(pattern) in str(refused.value)
    assert found(f"stages.annotation='{pattern}'")[0].at(CUES).tolist() == TRUE
    (told, *_) = found(f"stages.annotation='{pattern}'", "stages.file='{stem}_scoring.*'")[2]
    assert told == "WARNING: stages.file = '{stem}_scoring.*' matches nothing beside a.fif"
    with pytest.raises(
        UserError, match=r"stages\.source is file, but stages\.file = 'x' matches nothing beside a\.fif"
    ):
        found("stages.source=file", "stages.file=x")
    with pytest.raises(UserError, match="no annotation matches"):
        found("stages.source=annotations")
    triggers = mne.Annotations([0, 1, 2, 3], 0, ["S2", "S3", "S  4", "REM"])
    assert unmatched_stages(triggers) == [] and from_annotations(triggers, ScoringOptions()) == []


# Stage codes -----------------------------------------------------------------------------------------------------

NUMBERED = {
    "R&K": ({"W": 0, "N1": 1, "N2": 2, "N3": 4, "R": 5, "?": 9}, ["stages.numbers=rk"]),
    "YASA": ({"W": 0, "N1": 1, "N2": 2, "N3": 3, "R": 4, "?": -2}, ["stages.numbers=yasa"]),
    "U-Time": ({"W": 0, "N1": 1, "N2": 2, "N3": 3, "R": 4, "?": 5},
               ["stages.numbers=yasa", "stages.names={5: unscored}"]),
    "four stages": ({"W": 0, "N1": 0, "N2": 1, "N3": 2, "R": 3, "?": -1}, ["stages.names={0: W, 1: N2, 2: N3, 3: R}"]),
    "four stages, REM first": ({"W": 0, "N1": 0, "N2": 2, "N3": 3, "R": 1, "?": -1},
                               ["stages.names={0: W, 1: R, 2: N2, 3: N3}"]),
    "DREAMS": ({"W": 5, "N1": 3, "N2": 2, "N3": 1, "R": 4, "?": -1},
               ["stages.names={0: N3, 1: N3, 2: N2, 3: N1, 4: R, 5: W}"]),
    "from 1": ({"W": 1, "N1": 2, "N2": 3, "N3": 4, "R": 5, "?": 0},
               ["stages.names={0: unscored, 1: W, 2: N1, 3: N2, 4: N3, 5: R}"]),
    "German words": ({"W": "wachliegend", "N1": "Einschlaf", "N2": "leicht", "N3": "tief", "R": "Traum", "?": "-"},
                     ["stages.names={wachliegend: W, Einschlaf: N1, leicht: N2, tief: N3, Traum: R, '-': unscored}"]),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERED)
def test_numbers_are_refused_until_the_settings_say_what_they_mean(night, name):
    codes, settings = NUMBERED[name]
    content = table("onset|stage", ONSETS, n(codes))
    with pytest.raises(UserError, match=r"min \(.*stages\.(numbers|names)|stages\.names") as refused:
        night(content)
    if name != "German words":
        assert str(refused.value).count(" min (") >= 2, "both readings are shown, with minutes"
    found, _, remarks = night(content, ".csv", *settings)
    assert found.at(CUES).tolist() == TRUE
    written: dict[str, float] = {}
    for stage in PLANTED:
        written[str(codes[stage])] = written.get(str(codes[stage]), 0) + 0.5
    assert any("as written: " + ", ".join(f"{k} {v:g}" for k, v in written.items()) in text for text in remarks)


def test_numbers_that_mean_one_thing_are_read():
    def codes(*stages):
        return make([(30.0 * k, 30.0, str(s)) for k, s in enumerate(stages)], "x").stage.tolist()

    assert codes(0, 1, 2, 3, 9) == codes(0, 1, 2, 3, -2) == [0, 0, 1, 2, -1]
    assert codes("W", 0, 1, 2, 3) == [0, 0, 0, 1, 2]
    assert codes(0, 0) == [0, 0]
    assert codes(0, 1, 2, 3, 5, -1) == [0, 0, 1, 2, 3, -1]
    assert codes("W", 1, 2, 3, 4, "R") == [0, 0, 1, 2, 2, 3]
    assert codes("0.0", "1.", "2,0", "5.00", "-1.0", "9,0") == [0, 0, 1, 3, -1, -1]
    assert codes("sleep_stage_W", "Stage: 2", "sleep-stage N3", "SleepStage4", "stage/R") == [0, 1, 2, 2, 3]
    for unclear in (
        [0, 1, 2, 3],
        [0, 1],
        [0, 2, 3, -1],
        ["0.0", "2.0"],
        [1, 2, 3],
        [0, 1, 2, 3, 5],
        [0, 1, 2, 4],
        [0, 2, 3, 4, 5],
        ["W", 1, 2, 4],
    ):
        with pytest.raises(UserError, match="mean different stages in different programs"):
            codes(*unclear)
    with pytest.raises(UserError, match=r"7.*nobody knows"):
        codes(0, 1, 7)
    with pytest.raises(UserError, match=r"stages\.names.*5: 'X' is no stage: W, N1, N2"):
        load_settings(None, ["stages.names={5: X}"])


DOUBTFUL = {
    "counting down beside REM": ({"W": "0", "N1": "3", "N2": "2", "N3": "1", "R": "REM"}, ["3: N1, 2: N2, 1: N3"]),
    "counting down beside wake and REM": ({"W": "wake", "N1": "3", "N2": "2", "N3": "1", "R": "R"},
                                          ["3: N1, 2: N2, 1: N3"]),
    "from 1 beside REM": ({"W": "1", "N1": "2", "N2": "3", "N3": "4", "R": "REM"}, ["1: W, 2: N1, 3: N2, 4: N3"]),
    "N1 is 2 beside W and R": ({"W": "W", "N1": "2", "N2": "3", "N3": "4", "R": "R"},
                                ["1: W, 2: N1, 3: N2, 4: N3"]),
    "counting down without REM": ({"W": "W", "N1": "3", "N2": "2", "N3": "1", "R": "?"}, ["3: N1, 2: N2, 1: N3"]),
    "Stage 0 to Stage 4": ({"W": "Stage 0", "N1": "Stage 1", "N2": "Stage 2", "N3": "Stage 3", "R": "Stage 4"}, []),
    "stage_0 to stage_4": ({"W": "stage_0", "N1": "stage_1", "N2": "stage_2", "N3": "stage_3", "R": "stage_4"},
                           ["0: W, 1: N1, 2: N2, 3: N3, 4: R"]),
    "S0 to S4": ({"W": "S0", "N1": "S1", "N2": "S2", "N3": "S3", "R": "S4"}, []),
    "Stage 4 is wake": ({"W": "Stage 4", "N1": "Stage 3", "N2": "Stage 2", "N3": "Stage 1", "R": "Stage 0"},
                        ["0: R, 1: N3, 2: N2, 3: N1, 4: W"]),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBTFUL)
def test_numbers_behind_a_word_and_beside_a_name(night, name):
    codes, meant = DOUBTFUL[name]
    down = "counting" in name or "is wake" in name
    stages = ["N1" if down and s == "N3" and k == 14 else s for k, s in enumerate(PLANTED)]  # wake is followed by N1
    true = [CODES[stages[int((t - BEFORE) // 30)]] if code != -1 else -1 for t, code in zip(CUES, TRUE, strict=True)]
    content = table("onset|duration|stage", ONSETS, [30] * 16, [{"?": "?", **codes}[s] for s in stages])
    with pytest.raises(UserError, match="mean different stages in different programs") as refused:
        night(content)
    assert str(refused.value).count(" min (") >= 2
    settings = f"stages.names={{{meant[0]}}}" if meant else "stages.numbers=yasa"
    assert settings in str(refused.value) or "stage_" in name or "is wake" in name
    found = night(content, ".csv", settings)[0].at(CUES).tolist()
    assert found == [-1 if codes["R"] == "?" and code == 3 else code for code in true]


def test_numbers_behind_a_word_and_beside_a_name_that_are_clear():
    def codes(*stages):
        return make([(30.0 * k, 30.0, str(s)) for k, s in enumerate(stages)], "x").stage.tolist()

    assert codes("W", "S1", "S2", "S3", "S4") == codes("W", "Stage 1", "Stage 2", "Stage 3", "Stage 4")
    assert codes("S0", "S1", "S2", "S3", "S4", "REM") == [0, 0, 1, 2, 2, 3]
    assert codes("S0", "S1", "S2", "S3") == codes("stage_0", "stage_1", "stage_2", "stage_3") == [0, 0, 1, 2]
    assert codes("SLEEP-S0", "SLEEP-S1", "SLEEP-S2", "SLEEP-S4") == [0, 0, 1, 2]
    assert codes("W", 1, 2, 4, "R", "W", 3) == [0, 0, 1, 2, 3, 0, 2]
    assert codes("W", "N1", 2, 3, "R") == codes("W", 1, 2, 3, "R") == [0, 0, 1, 2, 3]
    assert codes(0, "REM", 0) == [0, 3, 0]


def test_numbers_to_3_beside_their_names_are_read(night):
    words = ["W" if s == "R" else s for s in PLANTED]
    for header in ("onset|stage|hypno", "onset|value|stage"):
        found = night(table(header, ONSETS, [{**RK, "?": "-1"}[s] for s in words], words))[0]
        assert found.at(CUES).tolist() == [0 if code == 3 else code for code in TRUE]


# Formats ---------------------------------------------------------------------------------------------------------

WORDS = {"W": "Wach", "N1": "N1", "N2": "N2", "N3": "N3", "R": "Rem", "?": "A"}
NSRR = {"W": "Wake|0", "N1": "Stage 1 sleep|1", "N2": "Stage 2 sleep|2", "N3": "Stage 4 sleep|4", "R": "REM sleep|5",
        "?": "Unscored|9"}  # fmt: skip
WONAMBI = {"W": "Wake", "N1": "NREM1", "N2": "NREM2", "N3": "NREM3", "R": "REM", "?": "Undefined"}
YASA = {"W": "WAKE", "N1": "N1", "N2": "N2", "N3": "N3", "R": "REM", "?": "UNS"}
XML = "<?xml version='1.0' encoding='{}'?>\n"
HEAD = 'class\tinstance\tchannel\tstart\tstop\tmeta'  # fmt: skip


def domino(form="%H:%M:%S,000"):
    lines = [f"{t}; {WORDS[s]}" for t, s in zip(times(form=form), PLANTED, strict=True)]
    head = ["Signal ID: SchlafProfil\\profil", "Start Time: 01.02.2024 23:58:30", "Unit: ", "Signal Type: Discret",
            "Events list: N4,N3,N2,N1,Rem,Wach,Bewegung", "Rate: 30 s", ""]  # fmt: skip
    return "\r\n".join([*head, *lines, ""])


def nsrr():
    events = "".join(
        f"<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>{NSRR[s]}</EventConcept><Start>{o}</Start>"
        "<Duration>30.0</Duration></ScoredEvent>"
        for o, s in zip(ONSETS, PLANTED, strict=True)
    )
    other = "<ScoredEvent><EventType>Arousals|Arousals</EventType><EventConcept>Arousal|A</EventConcept></ScoredEvent>"
    return f"<PSGAnnotation><EpochLength>30</EpochLength><ScoredEvents>{other}{events}</ScoredEvents></PSGAnnotation>"


def profusion(space=""):
    stages = "".join(f"<SleepStage>{s}</SleepStage>" for s in ["9", "9", *n({**RK, "N3": "4", "?": "9"})])
    return f"<CMPStudyConfig{space}><EpochLength>30</EpochLength><SleepStages>{stages}</SleepStages></CMPStudyConfig>"


def edfbrowser():
    return "<?xml version='1.0'?><annotationlist>" + "".join(
        f"<annotation><onset>{t}</onset><duration>30</duration><description>Sleep stage {s}</description></annotation>"
        "<annotation><onset>00:01:00</onset><duration/><description>snoring</description></annotation>"
        for t, s in zip(times(form="%Y-%m-%dT%H:%M:%S.000"), PLANTED, strict=True)
    ) + "</annotationlist>"  # fmt: skip


def luna(starts, stops):
    rows = zip(PLANTED, starts, stops, strict=True)
    return f"# N2 | NREM2\n{HEAD}\nspindle\t.\tC4\t70.5\t71.2\t.\n" + "\n".join(
        f"{s}\t.\t.\t{a}\t{b}\t." for s, a, b in rows
    )


def elan():
    numbers = ["-1", "-1", *n({**RK, "R": "5"})]
    return "\n".join(["time_base 30.0", "sampling_period 0.002", f"epoch_nb {len(numbers)}", "epoch_list", *numbers])


ENDS = [o + 30 for o in ONSETS]
NOX = table("[]|Start Time|End Time|Event", [""] * 16, times(form="%d/%m/%Y %H:%M:%S"),
            times(onsets=ENDS, form="%d/%m/%Y %H:%M:%S"), PLANTED, separator=",")  # fmt: skip
BIDS = table("onset|duration|trial_type|stage|value", [*ONSETS, 130.0, 190.0], [30] * 16 + [0, 0],
             ["stage"] * 16 + ["cue", "cue"], [*PLANTED, "n/a", "N2"], ["n/a"] * 16 + [31, 31])  # fmt: skip
FORMATS = {
    "DOMINO": (domino(), ".txt"),
    "DOMINO with dates, UTF-16": (codecs.BOM_UTF16_LE + domino("%d.%m.%Y %H:%M:%S,000").encode("utf-16-le"), ".txt"),
    "NSRR": (XML.format("UTF-8") + nsrr(), ".xml"),
    "Profusion, UTF-16": (codecs.BOM_UTF16_LE + (XML.format("UTF-16") + profusion()).encode("utf-16-le"), ".xml"),
    "Profusion with a name space": (profusion(' xmlns="http://www.compumedics.com/"'), ".xml"),
    "EDFbrowser's XML": (edfbrowser(), ".xml"),
    "EDFbrowser's text": (table("Onset,Duration,Annotation".replace(",", "|"), [f"+{o:.7f}" for o in ONSETS], [30] * 16,
                                [f"Sleep stage {s}" for s in PLANTED], separator=","), ".txt"),
    "Luna": (luna(ONSETS, ENDS), ".annot"),
    "Luna, epochs": (luna([f"e:{k + 3}" for k in range(16)], ["."] * 16), ".annot"),
    "Luna, lengths": (luna([f"0+{t}" for t in hms()], ["+30"] * 16), ".annot"),
    "Luna, clock": (luna(times(), ["..."] * 15 + ["+30"]).replace("spindle\t.\tC4\t70.5\t71.2\t.\n", ""), ".annot"),
    "Visbrain": ("*Duration_sec\t600\nArt\t60\n" + "\n".join(f"{s}\t{e}" for s, e in zip(PLANTED, ENDS, strict=True)),
                 ".txt"),
    "ELAN": (elan(), ".hyp"),
    "U-Time": ("\n".join(f"{o:g},30,{s}" for o, s in zip(ONSETS, PLANTED, strict=True)), ".ids"),
    "Noxturnal, UTF-16": (codecs.BOM_UTF16_LE + NOX.encode("utf-16-le"), ".csv"),
    "BIDS events": (BIDS, ".tsv"),
    "Wonambi": ("<?xml version='1.0'?><annotations><rater name='a'><stages>" + "".join(
        f"<epoch><epoch_start>{o:g}</epoch_start><epoch_end>{o + 30:g}</epoch_end><stage>{WONAMBI[s]}</stage></epoch>"
        for o, s in zip(ONSETS, PLANTED, strict=True)) + "</stages></rater></annotations>", ".xml"),
    "YASA": (json.dumps({"values": [YASA[s] for s in PLANTED], "n_stages": 5, "freq": "30s",
                         "start": "2024-02-01T23:58:30", "scorer": None, "proba": None}), ".json"),
    "MNE's text": ("# MNE-Annotations\n# onset, duration, description\n"
                   + "\n".join(f"{o},30.0,Sleep stage {s}" for o, s in zip(ONSETS, PLANTED, strict=True)), ".txt"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_formats_of_other_programs(night, name):
    more = ["stages.column=stage"] if name == "BIDS events" else []
    found, _, remarks = night(*FORMATS[name], *more)
    assert found.at(CUES).tolist() == TRUE, remarks


def test_visbrain_and_old_edf_hypnograms(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(n({**RK, "R": "4"})))
    (tmp_path / "a_description.txt").write_text("time 30.0\nWake 0\nN1 1\nN2 2\nN3 3\nREM 4\nArt -1\n")
    wanted = [CODES[s] for s in PLANTED]
    assert read_hypnogram(tmp_path / "a.txt").epochs(480).tolist() == wanted
    values = np.array([int(v) for v in n({**RK, "?": "9"})], "<i2")
    field = lambda text, size: str(text).ljust(size).encode()  # noqa: E731
    head = [
            ("0", 8), ("", 160), ("01.01.89", 8), ("00.00.00", 8), (512, 8), ("", 44), (16, 8), (30, 8), (1, 4),
            ("hypnogram", 16), ("", 80), ("", 8), (0, 8), (9, 8), (0, 8), (9, 8), ("", 80), (1, 8), ("", 32),
    ]  # fmt: skip
    (tmp_path / "sc4002e0.hyp").write_bytes(b"".join(field(*one) for one in head) + values.tobytes())
    assert read_hypnogram(tmp_path / "sc4002e0.hyp").epochs(480).tolist() == wanted


def test_annotations_that_are_stages_and_do_not_match_are_refused(tmp_path):
    raw = mne.io.RawArray(np.zeros((1, 18000)), mne.create_info(["C4"], 100, "eeg"), verbose="error")
    texts = ["Sleep stage W", "Sleep stage N2", "REM", "Sleep stage N2", "noise"]
    raw.set_annotations(mne.Annotations(30.0 * np.arange(5), [30.0] * 5, texts))
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    with pytest.raises(UserError, match=r"'REM' is a stage, but does not match stages\.annotation"):
        read_hypnogram(tmp_path / "a_raw.fif")


@pytest.mark.parametrize("begun", ["00:00:00", "23:59:00"])
def test_a_scoring_that_begins_at_midnight(night, begun):
    """It is that of a file without a time of day as well; here the recording began at 23:57:30 and is short."""
    head = "RemLogic Event Export\n\nSleep Stage\tTime [hh:mm:ss]\tEvent\tDuration[s]\n"
    text = head + "".join(f"x\t{t}\tSLEEP-S2\t30\n" for t in (begun, "00:00:30", "00:01:00"))
    if begun == "23:59:00":
        assert night(text, ".txt")[0].onset[0] == 90
    else:
        with pytest.raises(UserError, match=r"0 s after .*times=elapsed.*150 s if .*times=clock"):
            night(text, ".txt")
        assert night(text, ".txt", "stages.times=clock")[0].onset[0] == 150
        assert night(text, ".txt", clock=False)[0].onset[0] == 0


def test_scorings_whose_names_differ_are_found_by_parts(tmp_path):
    for name in ("SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf", "SC4002E0-PSG.edf", "SC4002EP-Hypnogram.edf"):
        (tmp_path / name).touch()
    options = [
        r"recordings.pattern=SC4(?P<subject>\d\d)(?P<night>\d)E0", "recordings.default_session=sleep",
        "stages.file='SC4{subject}{night}*-Hypnogram.edf'",
    ]  # fmt: skip
    settings = load_settings(None, options)
    (source,) = inputs.find_recordings(str(tmp_path / "*.edf"), settings)
    found = [inputs.scorings(s.path, settings.stages.file, s.parts) for s in source.sessions]
    assert [[p.name for p in own] for own in found] == [["SC4001EC-Hypnogram.edf"], ["SC4002EP-Hypnogram.edf"]]
    fixed = load_settings(None, [*options[:2], "stages.file='*-Hypnogram.edf'"])
    (source,) = inputs.find_recordings(str(tmp_path / "*.edf"), fixed)
    assert [s.path.name for s in source.sessions] == ["SC4001E0-PSG.edf", "SC4002E0-PSG.edf"]
    with pytest.raises(UserError, match=r"no part \{nigth\}; it has .*\{night\} = '1'"):
        inputs.scorings(source.sessions[0].path, "{nigth}*", source.sessions[0].parts)


def test_a_whole_run_with_a_scoring_of_domino(tmp_path):
    """What DOMINO says a minute after the recording's begin is what each cue, trial and staging window gets."""
    raw, _ = recordings.night(0, ["W", "W", "N2", "N2", "N3", "N3", "W", "R", "R", "N2"], planted=False)
    cues = [k for k, text in enumerate(raw.annotations.description) if text.startswith("cue/")]
    raw.set_annotations(raw.annotations[cues])
    raw.set_meas_date(BEGUN)
    recordings.write(raw, tmp_path / "lab" / "s1_night_raw.fif")
    stages = ["Wach", "N2", "N2", "Artefakt", "N4", "Wach", "Rem", "Rem"]
    lines = [f"{t}; {s}" for t, s in zip(times(onsets=[30 + 30 * k for k in range(8)]), stages, strict=True)]
    text = "Signal ID: SchlafProfil\\profil\nStart Time: x\nRate: 30 s\n\n" + "\n".join(lines)
    (tmp_path / "lab" / "s1_profil.txt").write_bytes(text.encode("utf-16"))
    more = ["outputs.report=false", "stages.file='{subject}_profil.txt'", "rejection.method=none"]
    settings = load_settings(None, [*QUICK, *more])
    sources = inputs.find_recordings(str(tmp_path / "lab" / "*.fif"), settings)
    manifest = prepare_run.prepare(sources, settings, tmp_path / "data")
    record = manifest["subjects"]["subject_test_0"]
    assert record["status"] == "complete", record
    planted = {"Wach": 0, "N2": 1, "N4": 2, "Rem": 3, "Artefakt": -1}
    cues = pd.read_csv(tmp_path / "data/Prepared/subject_test_0/night/cues.tsv", sep="\t", keep_default_na=False)
    code = [planted[stages[int(o // 30) - 1]] if 30 <= o < 270 else -1 for o in cues.onset_s]
    assert cues.stage.tolist() == code
    assert cues["item"].tolist() == [t.partition("/")[2] for t in raw.annotations.description]
    assert (cues.trials == "N2N3").tolist() == [c in (1, 2) for c in code]
    assert (cues.trials == "REM").tolist() == [c == 3 for c in code]
    remarks = record["sessions"]["night"]["remarks"]
    assert "by the clocks, the scoring begins 30 s after the recording" in remarks
    assert any("as written: Wach 1, N2 1, Artefakt 0.5, N4 0.5, Rem 1" in text for text in remarks)
    # what nobody scored is no truth
    (own,) = read_staging_subjects(tmp_path / "data")
    assert own.epoch_stage.tolist() == [0, 1, 1, -1, 2, 0, 3, 3]
    assert own.window_stage.tolist() == np.repeat(own.epoch_stage, 10)[:71].tolist()
    night, _ = read_label_file(tmp_path / "data")
    assert from_yasa(night["subject_test_0"]).tolist() == own.epoch_stage.tolist()
    assert staging_metrics.confusion(own.epoch_stage, own.epoch_stage).sum() == 7
    assert survey_folder(tmp_path / "data").problems == []
    lines = "\n".join(prepare_run.summary_lines(manifest, tmp_path / "data"))
    assert "the first begins at 30 s, the last ends at 270 s of the recording's 300 s; outside it: 0" in lines
    assert json.loads((tmp_path / "data/manifest.json").read_text())["subjects"]
