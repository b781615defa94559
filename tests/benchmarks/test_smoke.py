"""`make smoke` lists every script, every benchmark and every verb of make, and says what failed."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import smoke
from sleep_interpreter.utils.core import command_line

ROOT = Path(__file__).resolve().parents[2]


def commands():
    """Return every command that a user of this checkout could type, as smoke spells it."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = set()
    for name in listed.stdout.split():
        if name.startswith(("tests/", ".ci/")) or not re.search(
            r"^(if|main =) .*__(name|main)__", (ROOT / name).read_text("utf-8"), re.M
        ):
            continue
        if name.startswith("benchmarks/"):
            found.add(f"-m {name[:-3].replace('/', '.')}")
        elif len(Path(name).parts) == 2:
            found.add(name)
        else:
            found.add(f"-m sleep_interpreter.{name[:-3].replace('/', '.')}")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    verbs = re.findall(r"^([a-z][\w-]*):", makefile, re.M)
    assert sorted(verbs) == sorted(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split())
    for module in re.findall(r"-m (benchmarks[.\w]+)", makefile):
        found.discard(f"-m {module}")  # its verb is run
    return found | {f"make {verb}" for verb in verbs}


def spelled(command):
    """Return the beginning of a step that names what it runs."""
    words = command.split()
    return " ".join(words[:2]) if words[0] in ("make", "-m") else words[0]


def test_every_script_benchmark_and_verb_is_listed():
    listed = {spelled(step.command) for step in smoke.STEPS} | set(smoke.NOT_RUN)
    missing = sorted(commands() - listed)
    assert not missing, f"benchmarks/smoke.py does not run {missing}"
    assert not sorted(listed - commands()), "what is listed exists"


def test_what_a_step_needs_is_there_and_before_it():
    for place, step in enumerate(smoke.STEPS):
        for need in step.needs:
            assert any(s.command.startswith(need) for s in smoke.STEPS[:place]), (step.command, need)
    chain = smoke.chosen("test/N23SIMD.py")
    assert spelled(chain[0].command) == "data/simulate.py"
    assert spelled(chain[-1].command) == "test/N23SIMD.py"


@pytest.fixture
def checkout(tmp_path):
    """Return a small checkout with two scripts, one of which fails."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "good.py").write_text("print('here')")
    (root / "bad.py").write_text("raise SystemExit('torn')")
    (root / "waits.py").write_text("import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: pass")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def test_failures_are_told_and_finished_steps_are_not_run_again(checkout, tmp_path, capsys):
    steps, out = ([smoke.Step("good.py"), smoke.Step("bad.py"), smoke.Step("waits.py", seconds=1)], tmp_path / "out")
    assert smoke.smoke(steps, out, checkout) == (["bad.py"], [])
    told = capsys.readouterr().out
    assert "ok" in told and "FAILED" in told and "torn" in told
    assert smoke.smoke(steps, out, checkout) == (["bad.py"], [])
    told = capsys.readouterr().out
    assert "good.py" not in told and "bad.py" in told
    (checkout / "bad.py").write_text("print('mended')")
    assert smoke.smoke(steps, out, checkout, minutes=0) == ([], ["good.py", "bad.py", "waits.py"])
    assert smoke.smoke(steps, out, checkout) == ([], [])
    assert "good.py" in capsys.readouterr().out, "the code has changed: all is run again"
    assert (checkout / "good.py").read_text() == "print('here')" and sys.executable in smoke.words("good.py")


def test_a_step_that_ends_too_early_or_not_at_all_has_failed(checkout, tmp_path):
    out = tmp_path / "log.txt"
    assert smoke.run_step(smoke.Step("good.py", seconds=5), checkout, out) == 1
    assert smoke.run_step(smoke.Step("waits.py"), checkout, out, limit=1) == 124


def test_a_step_of_make_that_hangs_ends_with_all_that_it_started(checkout, tmp_path):
    (checkout / "Makefile").write_text("hang:\n\t@$(PYTHON) beats.py\n")
    (checkout / "beats.py").write_text("import time\nwhile True: open('alive', 'w').close(); time.sleep(0.1)")
    began = time.monotonic()
    assert smoke.run_step(smoke.Step("make hang"), checkout, tmp_path / "log.txt", limit=2) == 124
    assert time.monotonic() - began < 30
    beat = (checkout / "alive").stat().st_mtime_ns
    time.sleep(1)
    assert (checkout / "alive").stat().st_mtime_ns == beat


def test_what_takes_away_runs_after_all_and_a_torn_record_begins_anew(checkout, tmp_path):
    steps = [smoke.Step("bad.py"), smoke.Step("good.py", after_all=True)]
    out = tmp_path / "out"
    assert smoke.smoke(steps, out, checkout) == (["bad.py"], ["good.py"])
    (out / "done.json").write_text('{"revision": "')
    assert smoke.smoke(steps[1:], out, checkout) == ([], [])


def test_no_step_and_steps_left_out_are_no_success(monkeypatch, tmp_path, capsys):
    assert command_line.run(smoke.main, ["--only", "nosuchthing"]) == 2
    assert "nosuchthing" in capsys.readouterr().err
    monkeypatch.setattr(smoke, "RESULTS", tmp_path)
    assert smoke.main(["--only", "environment/check", "--minutes", "0"]) == 1
