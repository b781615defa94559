"""Work on several processes: what a killed worker and an error leave."""

import os
import signal
import time

import psutil
import pytest

from sleep_interpreter.utils.core import parallel
from sleep_interpreter.utils.core.errors import UserError


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


def working(process):
    """Tell whether a process is there and no helper that ends with this one (joblib's resource tracker)."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
