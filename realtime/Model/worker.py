"""Where staging and decoding are computed: in this process, or in one of their own.

A worker is asked with a key and gives the answers back under it, in the order of the questions; one that no
process took in time is answered at once, as a fault. A live session uses a process of its own for each
network, so that neither a long computation nor a crash of one can hold up acquisition or cues; a replay at
full speed computes in place. Both give the same numbers.
"""

import logging
import multiprocessing
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What came back: a value, or the reason why there is none.

    Attributes
    ----------
    key : object
        As given to `ask`.
    value : object | None
    error : str | None
    seconds : float
        Of computing, as the asker waited for it.
    fault : bool
        The worker itself failed (it died, or took too long), not the computation.
    """

    key: Any
    value: Any = None
    error: str | None = None
    seconds: float = 0.0
    fault: bool = False


def error_line(error):
    """Return an exception in one line of at most 300 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


class InlineWorker:
    """Compute in place, at the moment of the question.

    Parameters
    ----------
    function : callable
        `function(*arguments)` gives the answer's value.
    """

    def __init__(self, function):
        self._function = function
        self._answers = deque()

    @property
    def busy(self):
        """Whether a question is open: never."""
        return False

    def ask(self, key, *arguments):
        """Put a question."""
        began = time.perf_counter()
        try:
            value, error = self._function(*arguments), None
        except Exception as raised:  # a night goes on without this one answer; the reason is on record
            logger.debug("computation failed", exc_info=True)
            value, error = None, error_line(raised)
        self._answers.append(Answer(key, value, error, time.perf_counter() - began))

    def answers(self, wait=None):
        """Return the answers since the last call; `wait` changes nothing here."""
        found = list(self._answers)
        self._answers.clear()
        return found

    def take_faults(self):
        """Return what went wrong with the worker since the last call: nothing can."""
        return []

    def close(self):
        """Nothing to close."""


class ProcessWorker:
    """Compute in a process of its own, which is started anew when it dies or takes too long.

    Parameters
    ----------
    name : str
        For messages: "stager", "decoder".
    build : callable
        `build(*arguments)` is called in the new process and returns the function that answers; of a module,
        so that it can be sent there. What it raises is raised by `start`.
    arguments : tuple
    timeout : float
        Seconds after which a question counts as lost, and the process with it where it has the question.
    """

    def __init__(self, name, build, arguments=(), timeout=10.0):
        self.name, self._build, self._arguments, self._timeout = name, build, arguments, timeout
        self._lock = threading.Lock()
        self._answers, self._faults = deque(), deque()
        self._questions = deque()  # (key, arguments, asked at)
        self._sent = None  # when the first of them went to the process
        self._news = threading.Condition(self._lock)
        self._process, self._link, self._ready, self._closed = None, None, False, False
        self.notes = None

    def start(self):
        """Start the process and wait until it is ready.

        Returns
        -------
        notes : object
            What `build` returned beside its function.

        Raises
        ------
        Exception
            What `build` raised.
        """
        try:
            first = self._spawn()
            if isinstance(first, BaseException):
                raise first
        except BaseException:
            self.close()
            raise
        self.notes = first
        threading.Thread(target=self._tend, name=f"{self.name} worker", daemon=True).start()
        return first

    @property
    def busy(self):
        """Whether a question is open."""
        self._look_at_the_clock()
        with self._lock:
            return bool(self._questions)

    @property
    def process(self):
        """The process that computes at the moment (`multiprocessing.Process`)."""
        return self._process

    def ask(self, key, *arguments):
        """Put a question; never waits."""
        with self._news:
            self._questions.append((key, arguments, time.perf_counter()))
            self._news.notify_all()

    def answers(self, wait=None):
        """Return the answers since the last call.

        Parameters
        ----------
        wait : float | None
            Seconds to wait for one while a question is open; None does not wait.
        """
        self._look_at_the_clock()
        with self._news:
            if wait is not None and not self._answers and self._questions:
                self._news.wait_for(lambda: self._answers or not self._questions, wait)
            found = list(self._answers)
            self._answers.clear()
            return found

    def take_faults(self):
        """Return [{"state", "reason"}] of what went wrong with the worker since the last call."""
        found = list(self._faults)
        self._faults.clear()
        return found

    def close(self):
        """End the process."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        if self._process is not None:
            self._process.kill()
            self._process.join(5)
            self._link.close()

    def _spawn(self):
        """Start a process; return its notes, or what building it raised."""
        context = multiprocessing.get_context("spawn")
        near, far = context.Pipe()
        process = context.Process(
            target=_serve, args=(far, self._build, self._arguments), name=self.name, daemon=True
        )
        try:
            process.start()
        except BaseException:  # no memory, no handles
            near.close()
            raise
        finally:
            far.close()
        self._link, self._process = near, process
        try:
            return self._link.recv()
        except (EOFError, OSError):
            self._process.join(5)
            return RuntimeError(
                f"the {self.name}'s process ended with code {self._process.exitcode} at its start"
            )

    def _look_at_the_clock(self):
        now = time.perf_counter()
        with self._news:
            sent = []
            if self._sent is not None:
                sent = [self._questions.popleft()]
                if now - self._sent > self._timeout:
                    self._process.kill()  # the tending thread sees its pipe close
            while self._questions and now - self._questions[0][2] > self._timeout:  # no process took it
                key, _, asked = self._questions.popleft()
                self._answers.append(Answer(key, None, self._silence(), now - asked, fault=True))
            self._questions.extendleft(sent)

    def _silence(self):
        return f"no answer of the {self.name} within {self._timeout:g} s"

    def _tend(self):
        """Carry questions there and answers back; start the process anew when it is gone."""
        while True:
            with self._news:
                self._news.wait_for(lambda: self._questions or self._closed)
                if self._closed:
                    return
                key, arguments, asked = self._questions[0]
                self._sent = sent = time.perf_counter()
            try:
                self._link.send(arguments)
                value, error = self._link.recv()
                self._give(Answer(key, value, error, time.perf_counter() - asked))
            except Exception as error:  # a pipe that closed, or no memory for what went through it
                logger.debug("%s: %s", self.name, error_line(error))
                with self._lock:
                    if self._closed:
                        return
                self._restart(key, time.perf_counter() - sent)

    def _give(self, answer):
        with self._news:
            self._questions.popleft()
            self._sent = None
            self._answers.append(answer)
            self._news.notify_all()

    def _restart(self, key, seconds):
        self._process.join(5)
        slow = seconds >= self._timeout
        text = (
            self._silence() if slow else f"the {self.name}'s process ended with code {self._process.exitcode}"
        )
        self._faults.append({"state": "lost", "reason": text})
        logger.error("%s; it is started anew", text)
        self._give(Answer(key, None, text, seconds, fault=True))
        while True:
            self._process.kill()  # where it lives on without its pipe, or refused to build
            self._link.close()
            try:
                first = self._spawn()
            except Exception as error:  # no memory, no handles: there may be some later
                first = error
            with self._lock:
                if self._closed:
                    self._process.kill()
                    return
                if not isinstance(first, BaseException):
                    self._faults.append({"state": "back", "reason": f"the {self.name} works again"})
                    return
            logger.error("the %s cannot be started: %s", self.name, error_line(first))
            time.sleep(1.0)


def _serve(link, build, arguments):
    """Answer questions until the other end of the pipe is closed."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the session, which ends this process itself
    try:
        function, notes = build(*arguments)
    except BaseException as error:
        link.send(error)
        return
    link.send(notes)
    while True:
        try:
            question = link.recv()
        except (EOFError, OSError):
            return
        try:
            answer = function(*question), None
        except Exception as error:
            answer = None, error_line(error)
        try:
            link.send(answer)
        except OSError:
            return
