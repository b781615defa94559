"""Computing in a process of its own: answers, errors, deaths and delays."""

import os
import time

import pytest

from realtime.Utils.worker import InlineWorker, ProcessWorker
from utils.errors import UserError


def squares(note):
    """Build a function for a worker: squares, and what can go wrong."""
    if note == "refused":
        raise UserError("checkpoint of another kind")

    def function(number):
        if number == 13:
            raise ValueError("thirteen")
        if number == 14:
            os._exit(3)
        if number == 15:
            time.sleep(60)
        return number**2

    return function, [note]


def _answer(worker, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := worker.answers(wait=0.2):
            return found
    raise AssertionError("no answer")


@pytest.fixture
def worker():
    worker = ProcessWorker("tester", squares, ("hello",), timeout=1.0)
    assert worker.start() == ["hello"]
    yield worker
    worker.close()


def test_a_process_answers_fails_dies_hangs_and_goes_on(worker):
    worker.ask("a", 3)
    worker.ask("b", 13)
    found = []
    while len(found) < 2:
        found += _answer(worker)
    assert [(a.key, a.value, a.error) for a in found] == [("a", 9, None), ("b", None, "ValueError: thirteen")]
    assert not worker.busy and not worker.take_faults()

    first = worker.process.pid
    worker.ask("dies", 14)
    worker.ask("after", 4)  # waits for the new process
    answers = []
    while len(answers) < 2:
        answers += _answer(worker)
    assert answers[0].fault and "ended with code 3" in answers[0].error
    assert answers[1].value == 16 and worker.process.pid != first
    assert [f["state"] for f in worker.take_faults()] == ["lost", "back"]

    worker.ask("hangs", 15)
    began = time.monotonic()
    (answer,) = _answer(worker)
    assert answer.fault and "within 1 s" in answer.error and time.monotonic() - began < 5
    worker.ask("again", 5)
    assert _answer(worker)[0].value == 25


def test_asking_never_waits(worker):
    worker.ask("hangs", 15)
    began = time.perf_counter()
    for number in range(100):
        worker.ask(number, number)
        worker.answers()
    assert time.perf_counter() - began < 0.5 and worker.busy


def test_what_building_raises_is_raised_here():
    with pytest.raises(UserError, match="another kind"):
        ProcessWorker("tester", squares, ("refused",)).start()


def test_in_place_the_same_answers_come():
    worker = InlineWorker(squares("x")[0])
    worker.ask("a", 3)
    worker.ask("b", 13)
    assert [(a.value, a.error) for a in worker.answers()] == [(9, None), (None, "ValueError: thirteen")]
    assert worker.answers() == [] and not worker.busy
