"""data/check.py: counts that are right, problems by file, record and field, warnings, exit codes."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import training_runs as runs

from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.tfrecords import RecordFile, sleep_schema, whole_schema, write_records
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.data.inventory.survey import survey_folder
from sleep_interpreter.data.inventory.text import summary_lines
from sleep_interpreter.data.simulation.dataset import write_dataset
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.provenance import SIDECAR, UNFINISHED_SIDECAR
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle

ITEMS = published().item_names
SLEEP = sleep_schema(published())
WHOLE = whole_schema(published())

TINY = (
    "cohort.train_subjects=2",
    "cohort.test_subjects=2",
    "cohort.train_trials=30",
    "cohort.test_trials=20",
    "cohort.rem_trials=15",
    "cohort.so_trials=2",
    "cohort.awake_trials=2",
    "staging.train_subjects=1",
    "staging.test_subjects=1",
    "staging.epochs=2",
    "recording.stages=[[N2, 1.0]]",
    "recording.cues_from_min=0.1",
)
WHOLE_0 = "SI Main Train_tfrecords/N2N3/Whole_subject_0.tfrecord"
SLEEP_1 = "SI Main Train_tfrecords/N2N3/sleep_subject_1.tfrecord"
REM_0 = "SI Main Train_pickle/REM/sleep_subject_0.pickle"
TEST_0 = "SI Main Test/subject_test_0/N2N3_data.pickle"
SO_1 = "SI Main Test/subject_test_1/SO_data.pickle"
NIGHT = "SI Staging/Test/subject_test_0"
LABELS = "SI Staging Label/Whole_label_data.pickle"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder of a small simulated cohort; read only."""
    out = tmp_path_factory.mktemp("check") / "whole"
    write_dataset(load_settings("test", TINY), out)
    return out


@pytest.fixture
def spoilt(whole, tmp_path):
    """A copy to break."""
    out = tmp_path / "spoilt"
    shutil.copytree(whole, out)
    return out


def _problems(root, **kwargs):
    found = survey_folder(root, **kwargs).problems
    return [(str(p.file.relative_to(root)), p.record, p.field, p.reason) for p in found]


def _rewrite(root, name, change):
    content = read_pickle(root / name)
    change(content)
    write_pickle(content, root / name)


def test_a_good_folder_has_no_problem_and_the_right_counts(whole, tmp_path, call_script, capsys):
    table = tmp_path / "counts.csv"
    code, _ = call_script("data/check.py", whole, "--csv", table)
    assert code == 0
    with table.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["simulated"] for row in rows} == {"True"}
    counts = {(row["part"], row["subject"], row["section"], row["class"]): int(row["count"]) for row in rows}
    trials = TrainingTrials(whole)
    labels = Counter((trials.subjects[i // 30], ITEMS[trials.read(i, 0)["label"].argmax()]) for i in range(len(trials)))
    for name in trials.subjects:
        for item in ITEMS:
            assert counts["SI Main Train_tfrecords/N2N3/Whole*", name, "", item] == labels[name, item]
    (subject, _) = read_test_subjects(whole, "REM")
    for part in ("train", "val", "test"):
        for code, item in enumerate(ITEMS):
            expected = int(((subject.label == code) & (subject.data_type == part)).sum())
            found = counts["SI Main Test/subject_test_*/REM*", subject.name, part, item]
            assert found == expected
    assert counts["SI Staging/Test/subject*/Whole*", "subject_test_0", "", "W/N1"] == 10
    assert counts["SI Staging Label/Whole_label_data.pickle", "subject_0", "", "N3"] == 3  # of a whole short night
    so = [n for (part, *_), n in counts.items() if part.endswith("SO*")]
    assert sum(so) == 2 * 8 * 2


def test_what_is_printed(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert runs.call("data/check.py", whole) == 0
    text = capsys.readouterr().out
    assert "simulated: no figure made from it says anything about people" in text.splitlines()[0]
    assert "60 simulated trials  train/N23SIMD.py" in text
    assert "missing:" in text and "Model checkpoint/Decoding/N2N3_SIMD.ckpt" in text
    assert "simulated trials by class: SI Main Train_tfrecords/N2N3/Whole*" in text
    assert text.index("subject_test_0 train") < text.index("subject_test_0 val")
    assert text.rstrip().endswith("no problem found")
    assert "reading" not in text  # the progress bar is not in the way of a pipe


def test_what_is_printed_does_not_grow_with_the_subjects(tmp_path):
    """Subjects with the same counts share a line; of many different ones the fewest, median and most are shown."""
    eeg = np.random.default_rng(0).standard_normal((55, 200), np.float32)
    records = [{"category_name": label, "feature_Sleep_EEG": eeg} for label in np.eye(15, dtype=np.float32)]
    for number in range(20):
        write_records(tmp_path / SLEEP_1.replace("_1.", f"_{number}."), SLEEP, records)
    text = summary_lines(survey_folder(tmp_path, fast=True))
    assert text[1] == "no problem found; 1 remark, to know before results are believed"
    assert text[-1] == "no problem found"
    (row,) = [line for line in text if line.startswith("20 subjects (subject_0 and 19 more)")]
    assert row.split()[-16:] == ["1"] * 15 + ["15"]
    for number in range(20):
        write_records(tmp_path / SLEEP_1.replace("_1.", f"_{number}."), SLEEP, records + [records[0]] * number)
    (tmp_path / SLEEP_1).write_bytes((tmp_path / SLEEP_1).read_bytes()[:-10])
    longer = summary_lines(survey_folder(tmp_path, fast=True))
    assert longer[1].startswith("problems: 1; they are named at the end; 1 remark,")
    assert len(longer) - len(text) == 3 and any("each subject's own: --csv FILE" in line for line in longer)
    rows = {line.split()[0]: line.split() for line in longer if "of 20 subjects " in line and "class" not in line}
    assert {what: (row[4], row[-1]) for what, row in rows.items()} == {
        "fewest": ("1", "15"), "median": ("10.5", "24.5"), "most": ("20", "34"),
    }  # fmt: skip


def test_remarks_on_many_files_are_one_line(spoilt):
    for name in (TEST_0, TEST_0.replace("test_0", "test_1")):
        _rewrite(spoilt, name, lambda trials: [trial.update(Sleep_EEG=50 * trial["Sleep_EEG"]) for trial in trials])
    (line,) = [line for line in summary_lines(survey_folder(spoilt)) if "its sleep trials reach" in line]
    assert line.endswith("(and 1 more like this)")


def test_fast_reads_headers_and_labels_only(spoilt, call_script):
    content = bytearray((spoilt / WHOLE_0).read_bytes())
    content[-1000] ^= 1
    (spoilt / WHOLE_0).write_bytes(content)
    (spoilt / TEST_0).write_bytes(b"no pickle")
    assert call_script("data/check.py", spoilt, "--fast")[0] == 0
    found = survey_folder(spoilt, fast=True)
    by_pattern = {part.pattern: sum(f.trials or 0 for f in some) for part, some in found.found.items()}
    assert by_pattern["SI Main Train_tfrecords/N2N3/Whole*"] == 60
    assert sum(count for part, *_, count in found.rows() if part.endswith("N2N3/Whole*")) == 60
    assert by_pattern["SI Main Test/subject_test_*/N2N3*"] == 0
    assert call_script("data/check.py", spoilt)[0] == 1
    (spoilt / WHOLE_0).write_bytes(content[:-1])
    assert call_script("data/check.py", spoilt, "--fast")[0] == 1


def test_every_kind_of_damage_is_named(spoilt):
    records = [RecordFile(spoilt / WHOLE_0, WHOLE).read(i) for i in range(30)]
    records[2] = {name: value.copy() for name, value in records[2].items()}
    records[2]["feature_awake_image_erp"][7, 0, 0] = np.nan
    write_records(spoilt / WHOLE_0, WHOLE, records, simulated=True)
    content = bytearray((spoilt / WHOLE_0).read_bytes())
    content[-1000] ^= 1
    (spoilt / WHOLE_0).write_bytes(content)
    (spoilt / SLEEP_1).write_bytes((spoilt / SLEEP_1).read_bytes()[:-10])
    _rewrite(spoilt, REM_0, lambda trials: trials[1].update(category="kiwwi"))
    _rewrite(spoilt, TEST_0, lambda trials: (trials[0].pop("data_type"), trials.append(None)))
    _rewrite(spoilt, SO_1, lambda groups: groups["Down"]["decode_data"].fill(np.inf))
    _rewrite(spoilt, f"{NIGHT}/Whole_subject_test_0.pickle", lambda windows: windows[3].update(label=9))
    _rewrite(spoilt, f"{NIGHT}/raw_subject_test_0.pickle", lambda stages: stages.append("N2"))
    _rewrite(spoilt, LABELS, lambda labels: labels["subject_0"].update(onset=[0, 60, 30, 90, 120]))
    write_pickle({"awake_image": [{"category": 3}], "awake_audio": [], "N2N3": 5}, spoilt / WHOLE_DATA)
    found = {place[:3]: place[3] for place in _problems(spoilt)}
    assert found.keys() == {
        (WHOLE_0, "record 2", "feature_awake_image_erp"),
        (WHOLE_0, "record 29", ""),
        (SLEEP_1, "record 29", ""),
        (REM_0, "trial 1", "category"),
        (TEST_0, "trial 0", ""),
        (TEST_0, "trial 20", ""),
        (SO_1, "group 'Down', trial 0", "decode_data"),
        (f"{NIGHT}/Whole_subject_test_0.pickle", "window 3", "label"),
        (f"{NIGHT}/raw_subject_test_0.pickle", "epoch 2", ""),
        (LABELS, "subject_0", "onset"),
        (WHOLE_DATA, "list awake_image, trial 0", "category"),
        (WHOLE_DATA, "list N2N3", ""),
        (WHOLE_DATA, "", ""),
    }
    assert "checksum" in found[WHOLE_0, "record 29", ""]
    assert "truncated" in found[SLEEP_1, "record 29", ""]
    assert found[TEST_0, "trial 0", ""].startswith("no field 'data_type'")
    assert found[WHOLE_DATA, "", ""].startswith("no field 'REM'")


WHOLE_DATA = "SI Main Train/subject_0/Whole_data.pickle"
TEST_WHOLE_DATA = "SI Main Test/subject_test_0/Whole_data.pickle"


def test_problems_are_printed_a_few_a_file(spoilt, call_script, capsys):
    _rewrite(spoilt, TEST_0, lambda trials: [trial.update(category=None) for trial in trials])
    (spoilt / REM_0).write_bytes(b"garbage")
    text = summary_lines(survey_folder(spoilt))
    start = text.index("problems: 21")
    assert sum("field 'category': expected a one-hot" in line for line in text[start:]) == 5
    assert text[-1].endswith("N2N3_data.pickle: and 15 more")
    assert any("sleep_subject_0.pickle: not a complete pickle" in line for line in text[start:])


def test_single_trials_for_the_lasso_are_counted(spoilt):
    eeg = np.zeros((55, 80), np.float32)
    sleep = np.zeros((55, 200), np.float32)
    content = {
        "awake_image": [{"category": "kiwi", "EEG": eeg}] * 3,
        "awake_audio": [],
        "N2N3": [{"category": np.eye(15)[0], "EEG": sleep}],
        "REM": [],
    }
    write_pickle(content, spoilt / WHOLE_DATA)
    found = survey_folder(spoilt)
    rows = {
        row[2:4]: row[4]
        for row in found.rows()
        if row[0].endswith("subject_*/Whole_data.pickle") and row[1] == Path(WHOLE_DATA).parent.name
    }
    assert rows["awake_image", "kiwi"] == 3 and rows["N2N3", "alarm"] == 1
    assert sum(rows.values()) == 4


def test_a_second_file_of_a_subject_is_a_problem(spoilt):
    shutil.copy(spoilt / WHOLE_0, spoilt / f"{WHOLE_0}.old")
    (place,) = _problems(spoilt)
    assert place[0] == f"{WHOLE_0}.old"
    assert place[3].startswith("a second file of subject_0 beside")


def test_a_subject_or_a_trial_in_both_groups_is_a_problem(spoilt):
    """A leak under another name is found by the signals."""
    trials = read_pickle(spoilt / TEST_0)[:3]
    leaked = [{"category_name": trial["category"], "feature_Sleep_EEG": trial["Sleep_EEG"]} for trial in trials]
    file = "SI Main Train_tfrecords/N2N3/sleep_subject_test_0.tfrecord"
    write_records(spoilt / file, SLEEP, leaked, simulated=True)
    reasons = [place[3] for place in _problems(spoilt)]
    assert sum("subject_test_0 is a training subject too" in reason for reason in reasons) == 1
    (spoilt / file).rename(spoilt / file.replace("test_0", "99"))
    found = {place[0]: place[3] for place in _problems(spoilt)}
    assert found.keys() == {TEST_0, TEST_WHOLE_DATA}, "the single trials of that subject hold them too"
    for reason in found.values():
        assert reason.startswith("3 of its sleep trials are in ") and "sleep_subject_99" in reason


def test_stager_and_decoder_groups_are_separate(spoilt):
    """A test subject of the decoders may train the stagers."""
    folder = spoilt / "SI Staging/Train"
    (folder / "subject_0").rename(folder / "subject_test_1")
    file = folder / "subject_test_1/Whole_subject_0.tfrecord"
    file.rename(file.with_name("Whole_subject_test_1.tfrecord"))
    assert _problems(spoilt) == []


def test_real_and_simulated_trials_side_by_side_are_a_problem(spoilt):
    file = spoilt / SLEEP_1
    records = [RecordFile(file, SLEEP).read(i) for i in range(30)]
    write_records(file, SLEEP, records)
    (place,) = _problems(spoilt)
    assert "holds simulated trials, but" in place[3] and "sleep_subject_1" in place[3]


def test_windows_and_epochs_that_do_not_go_together(spoilt):
    _rewrite(spoilt, f"{NIGHT}/raw_subject_test_0.pickle", lambda stages: stages.append(1))
    (place,) = _problems(spoilt)
    assert "3 epochs in raw_subject_test_0.pickle need 21 windows, found 11" in place[3]


def test_unfinished_simulation_is_a_problem(spoilt):
    (spoilt / SIDECAR).rename(spoilt / UNFINISHED_SIDECAR)
    assert [place[0] for place in _problems(spoilt)] == [UNFINISHED_SIDECAR]


@pytest.mark.parametrize(
    ("suffixes", "problem"),
    [
        ((".index", ".data-00000-of-00001"), None),
        ((".index",), "its .data-* file is missing"),
        ((".data-00000-of-00001",), "its .index file is missing"),
    ],
)
def test_released_checkpoints_are_known_by_name(spoilt, suffixes, problem):
    folder = spoilt / "Model checkpoint/Decoding"
    folder.mkdir(parents=True)
    for suffix in suffixes:
        (folder / f"REM_SIMD.ckpt{suffix}").write_bytes(b"x")
    found = survey_folder(spoilt, fast=True)
    assert found.checkpoints["Decoding/REM_SIMD.ckpt"] == (problem is None)
    assert sum(found.checkpoints.values()) == (problem is None)
    if problem:
        assert [(p.file.name, p.reason.startswith(problem)) for p in found.problems] == [("REM_SIMD.ckpt", True)]


def test_warnings_do_not_change_the_exit_code(spoilt, call_script):
    def scale(trials):
        del trials[10:]
        for trial in trials:
            trial["data_type"] = "train"
            trial["Sleep_EEG"] = 50 * trial["Sleep_EEG"]

    _rewrite(spoilt, TEST_0, scale)
    _rewrite(spoilt, "SI Main Test/subject_test_1/REM_data.pickle", list.clear)
    (spoilt / SO_1).unlink()
    (spoilt / SLEEP_1).unlink()
    records = [RecordFile(spoilt / WHOLE_0, WHOLE).read(i) for i in range(30)]
    write_records(spoilt / WHOLE_0, WHOLE, records[:29], simulated=True)
    for record in records:
        record["feature_Sleep_EEG"] = np.ascontiguousarray(record["feature_Sleep_EEG"][:, ::-1])  # another person's
    write_records(spoilt / WHOLE_0.replace("0.tf", "5.tf"), WHOLE, records, simulated=True)
    found = survey_folder(spoilt)
    assert found.problems == []
    warnings = "\n".join(found.warnings)
    for expected in (
        "N2N3_data.pickle: its sleep trials reach",
        "N2N3_data.pickle: no trial of data_type 'val' or 'test'",
        "REM_data.pickle: holds no trials",
        "SO*: none of subject_test_1",
        "sleep*: none of subject_1, subject_5",
        "subject_0: 29 trials in Whole_subject_0.tfrecord, 30 in sleep_subject_0.tfrecord",
        "N2N3/Whole*: 3 of 3 subjects have a class with fewer than 5 trials (fewest: 1 of",
    ):
        assert expected in warnings
    assert call_script("data/check.py", spoilt)[0] == 0


def test_enough_trials_of_every_class_are_no_warning(tmp_path):
    random = np.random.default_rng(0)
    labels = np.repeat(np.eye(15, dtype=np.float32), 5, axis=0)
    records = [
        {"category_name": label, "feature_Sleep_EEG": random.standard_normal((55, 200), np.float32)} for label in labels
    ]
    write_records(tmp_path / SLEEP_1, SLEEP, records)
    found = survey_folder(tmp_path)
    assert (found.problems, found.warnings, found.simulated) == ([], [], False)
    write_records(tmp_path / SLEEP_1, SLEEP, records[:-1])
    (warning,) = survey_folder(tmp_path).warnings
    assert "1 of 1 subjects have a class with fewer than 5 trials (fewest: 4 of 'watch', subject_1)" in warning


def test_folders_that_are_no_data_set(tmp_path, call_script):
    with pytest.raises(UserError, match=r"absent: no such folder"):
        survey_folder(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    code, err = call_script("data/check.py", tmp_path)
    assert code == 2
    assert "holds nothing of the published layout" in err
