"""What fuzz tests share: files of the project, changed at random, and what may come of them.

A reader may refuse a file with a `UserError`, and nothing else: no other exception, no signal, no more than 5 s and
1 GB. `make test-slow` tries the same inputs every time; `make fuzz MINUTES=n` goes on with new ones, in a process that
may die. An input lies in results/fuzz while it is tried; one that failed stays there, and what killed or held up the
process is the one that is left. To try it again: SI_FUZZ_INPUT=FILE python -m pytest -m slow tests/fuzz -k TARGET.
"""

import contextlib
import json
import logging
import os
import random
import re
import resource
import signal
import time
import warnings
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import RESULTS

MINUTES = float(os.environ.get("SI_FUZZ_MINUTES") or 0)
"""That all targets together may take; 0: a fixed number of inputs."""
AGAIN = os.environ.get("SI_FUZZ_INPUT")
"""File of the only input to be tried."""
INPUTS = RESULTS / "fuzz"
_SECONDS, _BYTES = 5, 2**30
_MEMORY = Path("/proc/self/statm")
targets, tried = 1, 0  # how many there are; inputs of this one (conftest.py counts both)

WORDS = [
    b"0", b"-1", b"1", b"nan", b"inf", b"-inf", b"1e999", b"1e-300", b"1e300", b"99999999", b"2147483648",
    b"-2147483648", b"9223372036854775807", b"18446744073709551616", b"9" * 400, b"0" * 400, b"0x10", b"1_000", b"1,5",
    b"12:30:00", b"", b" ", b"\n", b"\r\n", b"\t", b",", b";", b'"', b"'", b"#", b":", b"=", b"{", b"}", b"[", b"]",
    b"<", b">", b"&a", b"*a", b"<<: *a", b"- ", b"!!python/object", b"\0", b"\xff", b"\xff\xfe", b"\xfe\xff",
    b"\xef\xbb\xbf", b"\xe9", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\x1b[2J", b"$x_{$", b"\xe2\x80\xae",
    b"../../x", b"/etc/passwd", b"NaN", b"null", b"true", b"[]", b"{}", b"[" * 300, b"{" * 300, b"(" * 300, b"x" * 5000,
    b"\xf0\x9f\x98\xb4",
]  # fmt: skip
"""What headers, tables and texts are likely to trip over."""


@st.composite
def changed(draw, contents, words=WORDS, most=5):
    """One of some files (bytes), with a few of its bytes or words other than they were."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, most))):
        place = draw(st.integers(0, len(content)))
        match draw(st.integers(0, 8)):
            case 0:
                content[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                content[place:place] = draw(st.sampled_from(words))
            case 2:  # in the place of as many bytes: a field of a header
                word = draw(st.sampled_from(words))[:80]
                content[place : place + len(word)] = word
            case 3:  # a padded field of 8 bytes
                place -= place % 8
                content[place : place + 8] = draw(st.sampled_from(words))[:8].ljust(8)
            case 4:  # a number of 2, 4 or 8 bytes
                width = draw(st.sampled_from([2, 4, 8]))
                number = draw(st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))
                place -= place % 2
                content[place : place + width] = (number % 256**width).to_bytes(width, "little")
            case 5:
                del content[place : place + draw(st.integers(1, 64))]
            case 6:
                content[place:place] = content[max(0, place - draw(st.integers(1, 200))) : place]
            case 7:
                del content[place:]
            case 8:
                other = draw(st.sampled_from(contents))
                content[place:] = other[draw(st.integers(0, len(other))) :]
    return bytes(content)


@st.composite
def changed_text(draw, texts, words=WORDS):
    """One of some texts (bytes), a word or a line of which is another one; at times changed as bytes are."""
    if draw(st.booleans()):
        return draw(changed(texts, words))
    lines = draw(st.sampled_from(texts)).splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(lines) - 1))
        line = lines[number]
        match draw(st.integers(0, 3)):
            case 0:
                lines[number] = b""
            case 1:
                lines[number] = line * 2
            case _:
                separator = draw(st.sampled_from([b"\t", b",", b";", b": ", b"=", b" ", b'"']))
                cells = line.rstrip(b"\n").split(separator)
                cells[draw(st.integers(0, len(cells) - 1))] = draw(st.sampled_from(words))
                lines[number] = separator.join(cells) + b"\n"
    return b"".join(lines)


@st.composite
def changed_value(draw, value):
    """A value of JSON, some of which is of another kind."""
    strange = [
        None, True, -1, 0, 1e300, float("nan"), float("inf"), 2**70, "", "\ud800", "\x1b[2J", "x" * 2000, [], {},
        [[[]]], {"a": 1}, "../../x",
    ]  # fmt: skip

    def other(inner):
        if inner is not value and draw(st.integers(0, 19)) == 0:
            return draw(st.sampled_from(strange))
        if isinstance(inner, dict):
            return {key: other(own) for key, own in inner.items() if draw(st.integers(0, 19))}
        if isinstance(inner, list):
            return [other(own) for own in inner]
        return inner

    return json.loads(json.dumps(other(value)))


@contextlib.contextmanager
def bounded():
    """Refuse what takes longer or more memory than any file should."""

    def late(*_):
        raise AssertionError(f"took more than {_SECONDS} s")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, _SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, 20 * _SECONDS)}
    old = {number: signal.signal(number, late) for number in timers}  # computing; waiting, on a busy machine
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    allowed = resource.getrlimit(resource.RLIMIT_AS)
    if _MEMORY.exists():  # Linux
        held = int(_MEMORY.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + _BYTES, allowed[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, allowed)
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, old[number])


@contextlib.contextmanager
def may_refuse(refusals=(UserError,)):
    """Take a refusal, unless it is one because memory ran out."""
    try:
        yield
    except refusals as refusal:
        error = refusal
        while error is not None:
            assert not isinstance(error, MemoryError), f"asked for more than {_BYTES} bytes: {refusal}"
            error = error.__cause__ or error.__context__


def refused(read, *given):
    """Call a reader, which may refuse."""
    with may_refuse():
        return read(*given)


def _files():
    """Return the files of this target's input that is tried, and of the last one that failed."""
    name = re.sub(r"\W+", "_", os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]).strip("_")
    INPUTS.mkdir(parents=True, exist_ok=True)
    return INPUTS / f"{name}.py", INPUTS / f"{name}.failed.py"


@contextlib.contextmanager
def kept(value):
    """Have an input in a file while it is tried, and ever after if it fails."""
    path, failed = _files()
    path.write_text(repr(value), encoding="utf-8", errors="backslashreplace")
    try:
        yield
    except BaseException:
        path.replace(failed)
        raise
    path.unlink()


def fuzz(attempt, inputs, number, refusals=(UserError,)):
    """Give `attempt` the inputs of a strategy: `number` of them, or as many as there is time for."""

    def one(value):
        global tried
        tried += 1
        with kept(value), warnings.catch_warnings(), bounded():
            warnings.simplefilter("ignore")
            with may_refuse(refusals):
                attempt(value)

    quiet = settings(
        max_examples=min(number, 200) if MINUTES else number, deadline=None, database=None, derandomize=not MINUTES,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink), print_blob=True,
    )  # fmt: skip
    logging.disable(logging.CRITICAL)
    try:
        if AGAIN:
            value = Path(AGAIN).read_text(encoding="utf-8")
            one(eval(value, {"nan": float("nan"), "inf": float("inf")}))
            return
        for left in _files():
            left.unlink(missing_ok=True)
        if not MINUTES:
            quiet(given(inputs)(one))()
        end = time.monotonic() + 60 * MINUTES / targets
        while MINUTES and time.monotonic() < end:
            seed(random.getrandbits(64))(quiet(given(inputs)(one)))()
    finally:
        logging.disable(logging.NOTSET)
