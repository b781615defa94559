"""A scoring is one recording's: one that a pattern finds for several is refused, unless its clock tells them apart."""

import datetime
import re

import planted_cues as planted
import pytest

from sleep_interpreter.data.preparation import inputs
from sleep_interpreter.data.preparation.settings import load_settings
from sleep_interpreter.data.preparation.stages import scoring_file, without_shared_scorings

BEGUN = datetime.datetime(2024, 2, 1, 23, 10, tzinfo=datetime.UTC)
PATTERN = r"recordings.pattern=(?P<subject>s\d)_(?P<session>night)(_run(?P<run>\d))?"


def write(folder, *names, minutes=5):
    for k, name in enumerate(names):
        raw, _ = planted.night(k, ("N2", "N2"))
        raw.set_meas_date(BEGUN + datetime.timedelta(minutes=minutes * k))
        raw.save(folder / name, overwrite=True, verbose="error")


def faults(folder, file, *more):
    settings = load_settings(None, [*planted.SETTINGS, PATTERN, f"stages.file='{file}'", *more])
    found = inputs.find_recordings(f"{folder}/s*.fif", settings)
    return {source.name: source.fault for source in without_shared_scorings(found, settings)}


@pytest.mark.parametrize(("names", "file", "there"), [
    (["s1_night_run1_raw.fif", "s1_night_run2_raw.fif"], "{subject}_scoring.csv", "s1_scoring.csv"),
    (["s1_night_raw.fif", "s2_night_raw.fif"], "scoring_*.csv", "scoring_s1.csv"),
    (["s1_night_raw.fif", "s2_night_raw.fif"], "stages.csv", "stages.csv"),
    (["s1_night.a_raw.fif", "s1_night.b_raw.fif"], "{stem}_scoring.csv", "s1_night_scoring.csv"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["elapsed", "link"])
def test_one_scoring_of_two_recordings_is_refused(tmp_path, names, file, there, kind):
    write(tmp_path, *names)
    (tmp_path / there).write_text("onset,duration,stage\n0,30,N2\n30,30,N3\n")
    if kind == "link" and "s2" in names[1]:
        (tmp_path / "s2_link.csv").symlink_to(tmp_path / there)
        (tmp_path / there).rename(tmp_path / "s1_link.csv")
        (tmp_path / "s2_link.csv").unlink()
        (tmp_path / "s2_link.csv").symlink_to(tmp_path / "s1_link.csv")
        file = "{subject}_link.csv"
    found = faults(tmp_path, file)
    assert all(
        re.search(r"is the scoring of .* and .*stages\.file = .*\{subject\}", why or "") for why in found.values()
    )


def test_a_scoring_by_the_clock_may_serve_the_runs_of_a_night_but_no_two_people(tmp_path):
    write(tmp_path, "s1_night_run1_raw.fif", "s1_night_run2_raw.fif")
    rows = [f"{BEGUN + datetime.timedelta(seconds=30 * k):%H:%M:%S},30,N2" for k in range(12)]
    (tmp_path / "s1.csv").write_text("\n".join(["time,duration,stage", *rows]))
    assert faults(tmp_path, "{subject}.csv", "stages.times=clock") == {"s1": None}
    assert "needs times of day" in faults(tmp_path, "{subject}.csv", "stages.times=first")["s1"]
    write(tmp_path, "s2_night_run1_raw.fif")
    assert None not in faults(tmp_path, "s1.csv", "stages.times=clock").values()
    write(tmp_path, "s1_night_run1_raw.fif", "s1_night_run2_raw.fif", minutes=0.5)  # the second begins in the first
    assert faults(tmp_path, "{subject}.csv", "stages.times=clock")["s1"]


def test_the_stem_is_the_whole_name_and_else_what_is_before_its_first_dot(tmp_path):
    write(tmp_path, "s1_night.a_raw.fif")
    settings = load_settings(None, [*planted.SETTINGS, PATTERN, "stages.file='{stem}_scoring.csv'"])
    (source,) = inputs.find_recordings(f"{tmp_path}/s*.fif", settings)
    for name in ("s1_night_scoring.csv", "s1_night.a_raw_scoring.csv"):
        (tmp_path / name).write_text("")
        assert scoring_file(source.sessions[0], settings.stages).name == name


def test_who_shares_a_scoring_fails_and_the_others_are_prepared(tmp_path):
    lab = tmp_path / "lab"
    for k in (1, 2, 3):
        raw, cues = planted.night(k)
        planted.with_annotations(raw, cues)
        (lab / str(k)).mkdir(parents=True)
        raw.save(lab / f"{min(k, 2)}" / f"s{k}_night_raw.fif", verbose="error")
    rows = [f"{30 * k},30,{stage}" for k, stage in enumerate(planted.STAGES)]
    for folder, name in (("1", "scoring_s1.csv"), ("2", "scoring_s2.csv")):
        (lab / folder / name).write_text("\n".join(["onset,duration,stage", *rows]))
    manifest = planted.prepare(lab, tmp_path / "out", "stages.file='scoring_*.csv'", pattern="*/s*")
    found = {record["source"]: record["status"] for record in manifest["subjects"].values()}
    assert found == {"s1": "complete", "s2": "failed", "s3": "failed"}
    planted.check(tmp_path / "out", planted.night(1)[1])
