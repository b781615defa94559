"""Which slow tests continuous integration runs, and what it says of those that it does not."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def slow_tests(monkeypatch, tmp_path):
    """Return the module, working in a folder of its own."""
    spec = importlib.util.spec_from_file_location("slow_tests", ROOT / ".ci" / "slow_tests.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


CHILD = "import pathlib, time\nwhile True: pathlib.Path('alive').write_text(''); time.sleep(0.1)"
SLOW = [
    "tests/data/formats/test_a.py", "tests/data/simulation/test_b.py", "tests/train/test_c.py",
    "tests/realtime/test_d.py",
]  # fmt: skip


def test_the_nearest_tests_come_first_and_folders_take_turns(slow_tests):
    changes = ["data/simulation/night.py", "train/engine/loop.py", "docs/lasso.md", "README.md"]
    found = slow_tests.wanted(changes, SLOW)
    assert found == ["tests/data/simulation/test_b.py", "tests/train/test_c.py", "tests/data/formats/test_a.py"]
    assert slow_tests.wanted(["tests/realtime/test_d.py"], SLOW) == ["tests/realtime/test_d.py"]
    assert slow_tests.wanted(["docs/lasso.md", "README.md", ".ci/run"], SLOW) == []


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ("params/realtime.yaml", None), ("pyproject.toml", None), ("sleep_interpreter/api.py", None),
        ("Makefile", None), ("tests/conftest.py", None), ("tests/realtime/live.py", SLOW[3]),
        ("test/N23SIMD.py", SLOW[2]),
        ("train/N23SIMD.py", SLOW[2]), ("realtime/Monitor/page.html", SLOW[3]),
    ],
)  # fmt: skip
def test_settings_scripts_pages_and_helpers_choose_tests_too(slow_tests, change, first):
    found = slow_tests.wanted([change], SLOW)
    assert sorted(found) == sorted(SLOW) if first is None else found == [first]
    assert SLOW[2] in slow_tests.wanted(["train/engine/loop.py", change], SLOW)[:2], "the nearest come first"


def test_real_slow_tests_are_found(slow_tests):
    found = slow_tests.slow_files(ROOT)
    assert "tests/train/test_training_devices.py" in found and not {
        "tests/utils/test_config.py",
        "tests/environment/test_ci.py",
    } & set(found)


def write_tests(folder, **files):
    """Write test files into a git checkout of their own, all of them slow."""
    subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    for name, body in files.items():
        path = folder / "tests" / "train" / f"test_{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"import pathlib, time, pytest\n@pytest.mark.slow\ndef test_it():\n    {body}\n")
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *author, "commit", "-qm", "all"], cwd=folder, check=True)


def test_what_fails_twice_fails_and_what_passes_then_is_called_unstable(slow_tests, tmp_path, monkeypatch, capfd):
    once = "p = pathlib.Path('seen'); there = p.exists(); p.touch(); assert there"
    write_tests(tmp_path, bad="assert False", good="pass", unstable=once)
    monkeypatch.setattr(slow_tests, "LEAST", 1)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # five processes begin in half the time
    monkeypatch.setattr(sys, "argv", ["slow_tests.py", "--minutes", "5"])
    assert slow_tests.main() == 1
    said = capfd.readouterr().out
    assert "failed: tests/train/test_bad.py" in said
    assert "passed at the second try: tests/train/test_unstable.py" in said
    assert "2 files of 3 passed" in said


def test_what_does_not_fit_into_the_time_is_named(slow_tests, tmp_path, monkeypatch, capfd):
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', CHILD])".replace("CHILD", repr(CHILD))
    write_tests(tmp_path, a=f"{child}; time.sleep(60)", b="pass")
    monkeypatch.setattr(sys, "argv", ["slow_tests.py", "--minutes", "0.1"])
    monkeypatch.setattr(slow_tests, "LEAST", 1)
    assert slow_tests.main() == 0
    said = capfd.readouterr().out
    assert "left out: tests/train/test_a.py (begun, not finished)" in said
    assert "left out: tests/train/test_b.py" in said and "0 files of 2 passed" in said
    beat = (tmp_path / "alive").stat().st_mtime_ns
    time.sleep(1)
    assert (tmp_path / "alive").stat().st_mtime_ns == beat, "what a test started ends with it"
