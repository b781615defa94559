"""Computing in a process of its own: answers, errors, deaths and delays."""

import multiprocessing
import time
from types import SimpleNamespace

import numpy as np
import pytest

from sleep_interpreter.realtime.Model.worker import InlineWorker, ProcessWorker
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Session.staging import OnlineStaging
from sleep_interpreter.realtime.Sources.recorded_inputs import ReplayedInputs
from sleep_interpreter.utils.core.errors import UserError

from .worker_function import squares


def _answer(worker, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := worker.answers(wait=0.2):
            return found
    raise AssertionError("no answer")


def _until_back(worker, seconds=30):
    """Wait until the process is there again."""
    deadline, states = time.monotonic() + seconds, []
    while "back" not in states:
        assert time.monotonic() < deadline
        states += [fault["state"] for fault in worker.take_faults()]
        time.sleep(0.02)
    assert states == ["lost", "back"]


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
    (answer,) = _answer(worker)
    assert answer.fault and "ended with code 3" in answer.error
    _until_back(worker)
    worker.ask("after", 4)
    assert _answer(worker)[0].value == 16 and worker.process.pid != first

    worker.ask("hangs", 15)
    began = time.monotonic()
    (answer,) = _answer(worker)
    assert answer.fault and "within 1 s" in answer.error and time.monotonic() - began < 5
    _until_back(worker)
    worker.ask("again", 5)
    assert _answer(worker)[0].value == 25


def test_asking_never_waits(worker):
    worker.ask("hangs", 15)
    began = time.perf_counter()
    for number in range(100):
        worker.ask(number, number)
        worker.answers()
    assert time.perf_counter() - began < 0.5 and worker.busy


def test_a_process_that_cannot_be_started_is_started_later(worker, monkeypatch):
    real, refused = multiprocessing.get_context("spawn").Process.start, []

    def start(process):
        if not refused:
            refused.append(process)
            raise OSError(12, "Cannot allocate memory")
        real(process)

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", start)
    worker.ask("dies", 14)
    assert _answer(worker)[0].fault
    _until_back(worker)
    worker.ask("after", 4)
    assert _answer(worker)[0].value == 16 and refused and not worker.busy


def test_questions_that_no_process_takes_are_answered_in_time(tmp_path):
    refuses = tmp_path / "refuses"
    worker = ProcessWorker("tester", squares, (str(refuses),), timeout=1.0)
    worker.start()
    try:
        refuses.touch()  # from now on it cannot be built
        worker.ask("dies", 14)
        assert _answer(worker)[0].fault
        began = time.monotonic()
        for number in range(200):
            worker.ask(number, number)
        answers = []
        while len(answers) < 200:
            answers += _answer(worker)
        assert [a.key for a in answers] == list(range(200)) and time.monotonic() - began < 4
        assert all(a.fault and "no answer of the tester within 1 s" in a.error for a in answers)
        assert not worker.busy
        refuses.unlink()
        _until_back(worker)
        worker.ask("again", 5)
        assert _answer(worker)[0].value == 25
    finally:
        worker.close()


def test_a_worker_that_never_started_can_be_closed(monkeypatch):
    def start(process):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", start)
    worker = ProcessWorker("tester", squares, ("hello",))
    with pytest.raises(OSError, match="allocate"):
        worker.start()
    worker.close()


def test_in_a_backlog_a_silent_stager_is_waited_for_once_a_question():
    waits, taken = [], []

    class Silent:
        busy = False

        def ask(self, *question):
            pass

        def answers(self, wait=None):
            waits.append(wait)
            return []

    context = SimpleNamespace(
        settings=SessionSettings(), origin=0, sample=15000, inputs=ReplayedInputs(), paced=True,
        latency=lambda: 2.0, log_event=lambda *row, **more: taken.append(row),
        seconds=lambda sample: sample / 500,
        montage=SimpleNamespace(derive=lambda window: window),
        buffer=SimpleNamespace(read=lambda start, end: np.zeros((3, 1))),
    )  # fmt: skip
    staging = OnlineStaging(context, Silent(), lambda: False, lambda now, estimate: None)
    for asked in (15000, 30000):
        staging._due = asked
        staging.process_due(asked)
        staging._due = 10**9  # this question alone
        while staging.due < 10**9:
            staging.process_due(staging.due)
    assert [wait for wait in waits if wait] == [3.0, 3.0] and len(waits) > 100
    assert [row[1] for row in taken] == ["stage", "stage"]


def test_what_building_raises_is_raised_here():
    with pytest.raises(UserError, match="another kind"):
        ProcessWorker("tester", squares, ("refused",)).start()


def test_in_place_the_same_answers_come():
    worker = InlineWorker(squares("x")[0])
    worker.ask("a", 3)
    worker.ask("b", 13)
    assert [(a.value, a.error) for a in worker.answers()] == [(9, None), (None, "ValueError: thirteen")]
    assert worker.answers() == [] and not worker.busy
