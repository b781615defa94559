"""Work on several processes: what a killed worker and an error leave."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sleep_interpreter.utils.core import parallel
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import ROOT


def killed_at_two(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def failing_at_two(number):
    if number == 2:
        raise UserError("number 2 is wrong")
    time.sleep(0.2)
    return number


@pytest.mark.parametrize(
    ("function", "words"),
    [(killed_at_two, "a worker process was killed .*fewer --jobs"), (failing_at_two, "number 2 is wrong")],
)
def test_a_worker_that_dies_is_a_sentence_and_no_process_is_left(function, words):
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with pytest.raises(UserError, match=words):
        list(parallel.results(function, list(range(6)), jobs=2))
    deadline = time.monotonic() + 20
    while left := [p for p in psutil.Process().children(recursive=True) if p.pid not in before and working(p)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    assert sorted(parallel.results(abs, list(range(4)), jobs=2)) == [0, 1, 2, 3], "and the next work is done"


CHILDREN = """
import sys, time
sys.path.insert(0, {tests!r})
from sleep_interpreter.data.preparation import run
from sleep_interpreter.utils.core import parallel
import test_parallel
run.prepare_subject = test_parallel.preparing
if __name__ == "__main__":
    for _ in {work}:
        print("begun", flush=True)
        {then}
"""


def waiting(seconds):
    time.sleep(seconds)
    return seconds


def computing(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


def preparing(source, name, seconds, out):
    time.sleep(seconds)


@pytest.mark.parametrize(
    ("work", "then"),
    [
        ("parallel.results(test_parallel.waiting, [0.0, 600, 600], jobs=2)", ""),
        ("parallel.results(test_parallel.computing, [0.0, 600, 600], jobs=2)", ""),
        ("parallel.results(test_parallel.waiting, [0.0, 0.0], jobs=2)", "time.sleep(600)"),
        ("run._run([(run.Source('a', ()), 'a', s, None) for s in (0, 600, 600)], 2)", ""),
    ],
    ids=["waiting", "computing", "idle", "preparing"],
)
def test_workers_end_with_a_process_that_is_killed(work, then):
    code = CHILDREN.format(tests=str(Path(__file__).parent), work=work, then=then)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout.readline().strip() == b"begun"
            children, deadline = [], time.monotonic() + 60
            while len([child for child in children if working(child)]) < 2:  # one that is done may give way to another
                assert time.monotonic() < deadline
                children = psutil.Process(process.pid).children(recursive=True)
                time.sleep(0.1)
        finally:
            process.kill()
    _, left = psutil.wait_procs(children, timeout=30)
    assert not [child for child in left if child.status() != psutil.STATUS_ZOMBIE]


def working(process):
    """Tell whether a process is there and no helper that ends with this one (joblib's resource tracker)."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
