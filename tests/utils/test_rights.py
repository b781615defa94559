"""What commands write is the user's own, unless the user wants it otherwise."""

import os
import subprocess
import sys

import numpy as np
import pytest

from sleep_interpreter.utils.core import command_line, rights
from sleep_interpreter.utils.core.paths import ROOT, atomic_folder, atomic_write
from sleep_interpreter.utils.core.provenance import write_json

pytestmark = pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")


def written(folder):
    """Write as commands do, and return the modes that others see."""

    def main(argv):
        write_json(folder / "results" / "summary.json", {})
        with atomic_write(folder / "results" / "night.npz") as path:
            np.savez(path, np.ones(3))
        with atomic_folder(folder / "results" / "exported") as path:
            (path / "network.json").write_text("{}")
        child = "import pathlib; pathlib.Path('results/child.txt').write_text('x')"
        subprocess.run([sys.executable, "-c", child], cwd=folder, check=True)

    assert command_line.run(main) == 0
    found = sorted((folder / "results").rglob("*"))
    return {oct(path.stat().st_mode & 0o7777)[2:] for path in found if path.is_file()} | {
        "folder " + oct(path.stat().st_mode & 0o777)[2:] for path in (folder / "results", *found) if path.is_dir()
    }


@pytest.mark.parametrize(
    ("chosen", "umask", "modes"),
    [
        (None, 0o022, {"600", "folder 700"}), ("", 0, {"600", "folder 700"}), ("owner", 0o002, {"600", "folder 700"}),
        ("group", 0o077, {"640", "folder 750"}), ("group-write", 0o022, {"660", "folder 770"}),
        ("system", 0o022, {"644", "folder 755"}),
    ],
)  # fmt: skip
def test_the_setting_decides_and_the_umask_comes_back(tmp_path, monkeypatch, chosen, umask, modes):
    monkeypatch.delenv(rights.VARIABLE, raising=False)
    if chosen is not None:
        monkeypatch.setenv(rights.VARIABLE, chosen)
    before = os.umask(umask)
    try:
        assert written(tmp_path) == modes
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def test_every_word_is_explained():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert rights.VARIABLE in text and all(f"| `{word}`" in text for word in rights._MASKS)


def test_another_word_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(rights.VARIABLE, "0640")
    assert command_line.run(lambda argv: (tmp_path / "x").write_text("x")) == 2
    assert "is '0640'; there are owner, group, group-write, system" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
