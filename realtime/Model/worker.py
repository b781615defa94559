"""Where staging and decoding are computed: in this process, or in one of their own.

A worker is asked with a key and gives the answers back under it, in the order of the questions; one that no
process took in time is answered at once, as a fault. A live session uses a process of its own for each
network, so that neither a long computation nor a crash of one can hold up acquisition or cues; a replay at
full speed computes in place. Both give the same numbers.
"""

import logging
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

logger = logging.getLogger(__name__)

Build = Callable[..., tuple[Callable[..., Any], Any]]
"""Returns the function that answers, and notes about it."""


@dataclass(frozen=True)
class Answer:
    """What came back to `key`, as given to `ask`: a value, or the reason why there is none, after `seconds` of
    computing as the asker waited for it. `fault`: the worker itself failed (it died, or took too long), not the
    computation."""

    key: Any
    value: Any = None
    error: str | None = None
    seconds: float = 0.0
    fault: bool = False


class Worker(Protocol):
    """What a session asks."""

    @property
    def busy(self) -> bool:
        """Whether a question is open."""

    def ask(self, key: Any, *arguments: Any) -> None:
        """Put a question; never waits for another process."""

    def answers(self, wait: float | None = None) -> list[Answer]:
        """Return the answers since the last call; `wait` so many s for one while a question is open."""

    def take_faults(self) -> list[dict[str, str]]:
        """Return [{"state", "reason"}] of what went wrong with the worker since the last call."""

    def close(self) -> None:
        """End it."""


def error_line(error: BaseException) -> str:
    """Return an exception in one line of at most 300 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


class InlineWorker:
    """Compute `function(*arguments)` in place, at the moment of the question."""

    busy = False

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._answers: list[Answer] = []

    def ask(self, key: Any, *arguments: Any) -> None:
        began = time.perf_counter()
        value, error = _compute(self._function, arguments)
        self._answers.append(Answer(key, value, error, time.perf_counter() - began))

    def answers(self, wait: float | None = None) -> list[Answer]:
        found, self._answers = self._answers, []
        return found

    def take_faults(self) -> list[dict[str, str]]:
        """Nothing can go wrong with the worker."""
        return []

    def close(self) -> None:
        """Nothing to close."""


class ProcessWorker:
    """Compute in a process of its own, which is started anew when it dies or takes too long.

    Our own and not a pool of pebble or concurrent.futures: pebble's timeout never ends a process that is stopped,
    since it begins when the process says that it has the task, and its pool is over once a process cannot be started;
    that of concurrent.futures has no timeout.

    `name` is for messages ("stager", "decoder"). `build`, of a module so that it can be sent there, is called with
    `arguments` in the new process; `start` raises what it raises. After `timeout` seconds a question counts as lost,
    and the process with it where it has the question.
    """

    def __init__(self, name: str, build: Build, arguments: tuple[Any, ...] = (), timeout: float = 10.0) -> None:
        self.name, self._build, self._arguments, self._timeout = name, build, arguments, timeout
        self._answers: deque[Answer] = deque()
        self._faults: deque[dict[str, str]] = deque()
        self._questions: deque[tuple[Any, tuple[Any, ...], float]] = deque()  # (key, arguments, asked at)
        self._sent: float | None = None  # when the first of them went to the process
        self._news = threading.Condition()
        self._process: Any = None
        self._pipe: Any = None
        self._closed = False

    def start(self) -> Any:
        """Start the process, wait until it is ready, return the notes of `build` or raise what it raised."""
        try:
            notes = self._spawn()
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._run, name=f"{self.name} worker", daemon=True).start()
        return notes

    @property
    def busy(self) -> bool:
        self._check_timeouts()
        with self._news:
            return bool(self._questions)

    @property
    def process(self) -> Any:
        """The process that computes at the moment (`multiprocessing.Process`)."""
        return self._process

    def ask(self, key: Any, *arguments: Any) -> None:
        with self._news:
            self._questions.append((key, arguments, time.perf_counter()))
            self._news.notify_all()

    def answers(self, wait: float | None = None) -> list[Answer]:
        self._check_timeouts()
        with self._news:
            if wait is not None and not self._answers and self._questions:
                self._news.wait_for(lambda: self._answers or not self._questions, wait)
            found = list(self._answers)
            self._answers.clear()
            return found

    def take_faults(self) -> list[dict[str, str]]:
        return [self._faults.popleft() for _ in range(len(self._faults))]

    def close(self) -> None:
        with self._news:
            self._closed = True
            self._news.notify_all()
        if self._process is not None:
            self._process.kill()
            self._process.join(5)
            self._pipe.close()

    def _spawn(self) -> Any:
        """Start a process and return its notes; raise what building raised, or why there is no process."""
        context = multiprocessing.get_context("spawn")
        near, far = context.Pipe()
        process = context.Process(target=_serve, args=(far, self._build, self._arguments), name=self.name, daemon=True)
        try:
            process.start()
        except BaseException:  # no memory, no handles
            near.close()
            raise
        finally:
            far.close()
        self._pipe, self._process = near, process
        try:
            first = near.recv()
        except (EOFError, OSError):
            process.join(5)
            raise RuntimeError(f"the {self.name}'s process ended with code {process.exitcode} at its start") from None
        if isinstance(first, BaseException):
            raise first
        return first

    def _check_timeouts(self) -> None:
        """Kill a process that has a question for too long; answer those that no process took in time."""
        now = time.perf_counter()
        with self._news:
            sent = []
            if self._sent is not None:
                sent = [self._questions.popleft()]
                if now - self._sent > self._timeout:
                    self._process.kill()  # the thread sees its pipe close
            while self._questions and now - self._questions[0][2] > self._timeout:
                key, _, asked = self._questions.popleft()
                self._answers.append(Answer(key, None, self._timeout_text, now - asked, fault=True))
            self._questions.extendleft(sent)

    @property
    def _timeout_text(self) -> str:
        return f"no answer of the {self.name} within {self._timeout:g} s"

    def _run(self) -> None:
        """Carry questions there and answers back; start the process anew when it is gone: a thread."""
        while True:
            with self._news:
                self._news.wait_for(lambda: self._questions or self._closed)
                if self._closed:
                    return
                key, arguments, asked = self._questions[0]
                self._sent = sent = time.perf_counter()
            try:
                self._pipe.send(arguments)
                value, error = self._pipe.recv()
                self._answer(Answer(key, value, error, time.perf_counter() - asked))
            except Exception as error:  # a pipe that closed, or no memory for what went through it
                logger.debug("%s: %s", self.name, error_line(error))
                if self._closed:
                    return
                self._restart(key, time.perf_counter() - sent)

    def _answer(self, answer: Answer) -> None:
        with self._news:
            self._questions.popleft()
            self._sent = None
            self._answers.append(answer)
            self._news.notify_all()

    def _restart(self, key: Any, seconds: float) -> None:
        self._process.join(5)
        text = f"the {self.name}'s process ended with code {self._process.exitcode}"
        if seconds >= self._timeout:
            text = self._timeout_text
        self._faults.append({"state": "lost", "reason": text})
        logger.error("%s; it is started anew", text)
        self._answer(Answer(key, None, text, seconds, fault=True))
        while True:
            self._process.kill()  # where it lives on without its pipe, or refused to build
            self._pipe.close()
            failure = None
            try:
                self._spawn()
            except BaseException as error:  # no memory, no handles: there may be some later
                failure = error_line(error)
            with self._news:
                if self._closed:
                    self._process.kill()
                    return
                if failure is None:
                    self._faults.append({"state": "back", "reason": f"the {self.name} works again"})
                    return
            logger.error("the %s cannot be started: %s", self.name, failure)
            time.sleep(1.0)


def _compute(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, str | None]:
    """Return (value, None), or (None, reason): a night goes on without this one answer."""
    try:
        return function(*arguments), None
    except Exception as error:
        logger.debug("computation failed", exc_info=True)
        return None, error_line(error)


def _serve(pipe: Connection, build: Build, arguments: tuple[Any, ...]) -> None:
    """Answer questions until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the session, which ends this process itself
    try:
        function, notes = build(*arguments)
    except BaseException as error:
        pipe.send(error)
        return
    pipe.send(notes)
    while True:
        try:
            pipe.send(_compute(function, pipe.recv()))
        except (EOFError, OSError):
            return
