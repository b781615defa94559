"""Setting up from nothing: what a bare or an unfit machine is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def fake_python(folder, version, good=False, modules=True):
    """Write a stand-in that answers as some other interpreter would."""
    path = folder / "python3"
    path.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--version*) echo "Python {version}"; exit 0;;\n'
        f"*version_info*) exit {0 if good else 1};;\n"
        f"*ensurepip*) exit {0 if modules else 1};; esac\nexit 1\n"
    )
    path.chmod(0o755)


def set_up(folder):
    return subprocess.run(
        ["/bin/sh", str(ROOT / "environment" / "setup.sh"), str(folder / "venv")],
        cwd=ROOT, env={"PATH": str(folder)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_no_python_and_an_old_one_are_named(tmp_path):
    done = set_up(tmp_path)
    assert done.returncode == 2 and "no python3 at all" in done.stderr and "3.11" in done.stderr
    fake_python(tmp_path, "3.8.10")
    done = set_up(tmp_path)
    assert done.returncode == 2 and "found Python 3.8.10" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_python_without_venv_is_told_how_to_get_it(tmp_path):
    fake_python(tmp_path, "3.11.2", good=True, modules=False)
    done = set_up(tmp_path)
    assert done.returncode == 2 and "python3-venv" in done.stderr


def test_the_running_environment_has_everything():
    done = subprocess.run([sys.executable, str(ROOT / "environment" / "check.py")], check=False, timeout=60)
    assert done.returncode == 0


def test_an_environment_that_lacks_packages_says_which():
    bare = [sys.executable, "-I", "-S", str(ROOT / "environment" / "check.py")]
    done = subprocess.run(bare, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "tensorflow" in done.stderr and "pip install" in done.stderr


def test_a_script_says_how_to_get_what_another_python_lacks():
    script = [sys.executable, "-S", str(ROOT / "data" / "check.py"), "--help"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60, env={})
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "lacks numpy, pydantic" in last and "make setup" in last and "pip install" in last


@pytest.mark.skipif(os.name == "nt", reason="make and sh")
def test_verbs_are_listed_and_stop_in_an_unfit_environment(tmp_path):
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for verb in ("demo", "test", "setup", "lint", "test-slow", "bench", "clean"):
        assert f"  {verb} " in listed
    planned = subprocess.run(["make", "-n", "lint"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ".venv/bin/python -m mypy" in planned, "the project's own environment, where no other is named"
    fake_python(tmp_path, "3.8.10")
    command = ["make", "lint", f"PYTHON={tmp_path / 'python3'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "ruff" not in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="make and sh")
@pytest.mark.parametrize("setting", ["ARGS=--minutes 40", "PYTHON=python", "ARGS=-k x"])
def test_a_make_that_a_verb_calls_is_not_handed_what_was_meant_for_the_verb(setting):
    name, value = setting.split("=", 1)
    inner = f"inner:; @echo 'inner [$({name})]'\nshow:; @echo 'outer [$({name})]'; $(MAKE) inner"
    command = ["make", "--no-print-directory", f"--eval={inner}", "show", setting]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == f"outer [{value}]"
    assert "inner []" in done.stdout
