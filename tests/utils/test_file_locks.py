"""Locks between processes: kept while the holder lives, gone when it dies, however it dies."""

import logging
import signal
import subprocess
import sys

import pytest

from sleep_interpreter.utils.core import file_locks
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import ROOT

HOLDER = """
import sys, time
from sleep_interpreter.utils.core import file_locks
with file_locks.locked(sys.argv[1], refusal="held"):
    print("holding", flush=True)
    time.sleep(60)
"""


def test_another_process_is_refused_until_the_holder_is_killed(tmp_path):
    path, free = tmp_path / "a {brace}" / ".lock", tmp_path / "free"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as holder:
        assert holder.stdout.readline() == "holding\n"
        refused = pytest.raises(UserError, match=r"brace\}.\.lock: busy")
        with refused, file_locks.locked(free, path, refusal="{path}: busy"):
            pytest.fail("two held one lock")
        with file_locks.locked(free, refusal="what was taken before the refusal is let go"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert path.is_file()
        with file_locks.locked(path, refusal="the kill left it"):
            pass
        assert not path.exists() and not free.exists()


def test_where_nothing_can_be_locked_the_work_goes_on_and_it_is_said(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    with caplog.at_level(logging.WARNING), file_locks.locked(tmp_path / "file" / ".lock", refusal="busy"):
        pass
    assert "cannot be locked" in caplog.text and "no other process writes here" in caplog.text
