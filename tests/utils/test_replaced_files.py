"""A set of result files is replaced as a whole, or not at all."""

import os
import time

import pytest

from sleep_interpreter.utils.core.paths import replaced_files


def write(folder, text, names=("summary.json", "table.csv", "sub/figure.png", "run.pickle")):
    with replaced_files(folder, "summary.json", {"run.pickle"}, ("maybe.tsv",)) as place:
        for name in names:
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(text)


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_all_files_are_new_and_those_of_others_stay(tmp_path):
    folder = tmp_path / "run"
    write(folder, "old", ("summary.json", "table.csv", "maybe.tsv", "run.pickle"))
    (folder / "notes.txt").write_text("the user's")
    (folder / "subjects").mkdir()
    write(folder, "new")
    assert content(tmp_path) == {
        "run/notes.txt": "the user's", "run/sub/figure.png": "new", "run/summary.json": "new", "run/table.csv": "new",
        "run.pickle": "new",
    }  # fmt: skip
    assert (folder / "subjects").is_dir()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("broken")])
def test_what_fails_changes_nothing(tmp_path, error):
    write(tmp_path / "run", "old")
    before = content(tmp_path)
    with pytest.raises(type(error)), replaced_files(tmp_path / "run", "summary.json", {"run.pickle"}) as place:
        (place / "summary.json").write_text("half")
        raise error
    assert content(tmp_path) == before


def test_earlier_files_go_by_pattern_and_new_ones_stay(tmp_path):
    """New files lie in a hidden folder meanwhile, which a pattern with a star for a folder matches too."""
    patterns = ("*/*.png", "maps_*.csv")
    for names in (("a/1.png", "b/2.png", "maps_1.csv", "summary.json"), ("a/3.png", "maps_2.csv", "summary.json")):
        with replaced_files(tmp_path, "summary.json", old=patterns) as place:
            for name in names:
                (place / name).parent.mkdir(exist_ok=True)
                (place / name).write_text(name)
    assert sorted(content(tmp_path)) == ["a/3.png", "maps_2.csv", "summary.json"]


def test_what_a_long_run_writes_into_its_subfolders_is_not_swept_away(tmp_path):
    figures = tmp_path / ".1.replacing" / "nights"
    figures.mkdir(parents=True)
    (figures / "1.png").write_text("just now")
    os.utime(figures.parent, (time.time() - 7200,) * 2)
    write(tmp_path, "new")
    assert (figures / "1.png").exists()


def test_what_a_kill_left_is_swept_away_later(tmp_path):
    left, young = tmp_path / "run" / ".1.replacing", tmp_path / "run" / ".2.replacing"
    for folder in (left, young):
        folder.mkdir(parents=True)
    os.utime(left, (time.time() - 7200,) * 2)
    write(tmp_path / "run", "new")
    assert not left.exists() and young.exists(), "a young one may be another process's"
