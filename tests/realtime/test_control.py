"""Control of a session over real sockets, whatever a client does."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from sleep_interpreter.realtime.Control.control_client import Client, arguments_of
from sleep_interpreter.realtime.Control.control_server import Control
from sleep_interpreter.realtime.Control.request import Request, checked_args
from sleep_interpreter.realtime.Parameters.settings import RemoteControlSettings
from sleep_interpreter.realtime.Recording.event_log import EventLog, read_log
from sleep_interpreter.realtime.Session.operator_commands import CommandHandler
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import ROOT


@contextmanager
def session(folder, answering=True):
    """A control server, and a loop that takes requests as the engine does; yields both what it has taken."""
    control, taken, going = Control(folder, RemoteControlSettings()), [], threading.Event()
    going.set()

    def take():
        while going.is_set():
            for request in control.poll():
                taken.append(request)
                request.reply(True, sample=len(taken), text=request.command)
            time.sleep(0.01)

    thread = threading.Thread(target=take)
    if answering:
        thread.start()
    try:
        yield control, taken
    finally:
        going.clear()
        control.close()
        if answering:
            thread.join(5)


def talk(control, *lines, timeout=10):
    """Send lines of bytes over one connection and return the answers until it is closed or all are there."""
    answers = []
    with socket.create_connection((control.host, control.port), timeout=timeout) as link:
        reader = link.makefile("rb")
        for line in lines:
            try:
                link.sendall(line)
                answer = reader.readline()
            except OSError:
                break
            if not answer:
                break
            answers.append(json.loads(answer))
    return answers


def ask(token, command="pause", **more):
    return (json.dumps({"token": token, "command": command, **more}) + "\n").encode()


def wait_for(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def test_a_request_is_answered_by_the_session_with_its_origin(tmp_path):
    with session(tmp_path) as (control, taken):
        answer = Client(tmp_path, "monitor").ask("volume", db=-26)
        (line,) = talk(control, ask(control.token, "mark", args={"text": "turned"}))
    assert answer == {"ok": True, "sample": 1, "text": "volume"} and line["sample"] == 2
    assert [(r.command, r.args, r.origin) for r in taken] == [
        ("volume", {"db": -26.0}, "monitor"),
        ("mark", {"text": "turned"}, "socket"),
    ]


def test_the_secrets_are_for_the_owner_only_and_go_with_the_session(tmp_path):
    with session(tmp_path) as (control, _):
        path = tmp_path / "control.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        assert control.host == "127.0.0.1"
        assert {content["token"], content["view_token"]} == {control.token, control.view_token}
        assert len(control.token) >= 32 and control.token != control.view_token
        if os.name == "posix":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        address = control.host, control.port
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError):
        socket.create_connection(address, timeout=2)
    with pytest.raises(UserError, match="no session is running there"):
        Client(tmp_path)


def test_a_session_that_broke_off_is_told_from_one_that_runs(tmp_path):
    with session(tmp_path):
        text = (tmp_path / "control.json").read_text(encoding="utf-8")
    (tmp_path / "control.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"nobody listens.*--resume"):
        Client(tmp_path).ask("pause")


@pytest.mark.parametrize("token", ["", "x", None, 7, ["a"], "\ud800", "é" * 40])
def test_a_wrong_token_closes_the_connection(tmp_path, token):
    with session(tmp_path) as (control, taken):
        answers = talk(control, ask(token), ask(control.token))
    assert answers == [{"ok": False, "error": "token"}] and taken == []


def test_the_view_token_may_only_look(tmp_path):
    with session(tmp_path) as (control, taken):
        orders = ["pause", "resume", "volume", "mark", "group", "stop"]
        refused = talk(control, *(ask(control.view_token, order) for order in orders))
        (seen,) = talk(control, ask(control.view_token, "status"))
    assert [a["error"] for a in refused] == ["this token may only look"] * 6
    assert seen["ok"] and [r.command for r in taken] == ["status"]


GARBAGE = [
    b"\n",
    b"GET / HTTP/1.1\n",
    b"\xff\xfe\x00\n",
    b"[" * 15000 + b"\n",
    b'"text"\n',
    b"1" * 9000 + b"\n",
    b"x" * 40000,
]


@pytest.mark.parametrize("line", GARBAGE, ids=range(len(GARBAGE)))
def test_nonsense_is_refused_and_harms_nobody_else(tmp_path, line):
    with session(tmp_path) as (control, taken):
        answers = talk(control, line)
        assert answers == [] or not answers[0]["ok"]
        assert Client(tmp_path).ask("pause")["ok"]
    assert len(taken) == 1


WRONG = [
    ("pause", {"x": 1}),
    ("pause", {"now": 1}),
    ("resume", ["a"]),
    ("volume", {}),
    ("volume", {"db": 1, "change_db": 1}),
    ("volume", {"db": True}),
    ("volume", {"db": "loud"}),
    ("volume", {"db": float("nan")}),
    ("volume", {"db": float("inf")}),
    ("volume", {"db": 10**400}),
    ("volume", {"db": {"a": 1}}),
    ("mark", {"text": 5}),
    ("mark", {"text": "x" * 501}),
    ("shoot", {}),
    (["pause"], {}),
    (None, {}),
]


@pytest.mark.parametrize(("command", "args"), WRONG)
def test_wrong_arguments_never_reach_the_session(tmp_path, command, args):
    with session(tmp_path) as (control, taken):
        (answer,) = talk(control, ask(control.token, command, args=args))
        assert not answer["ok"] and answer["error"]
        assert taken == []
    with pytest.raises(ValueError):
        checked_args(command, args)


def test_text_is_made_fit_for_log_recording_and_screen():
    text = checked_args("mark", {"text": " a\x1b[2J\n\ud800b\u202e é "})["text"]
    assert text == "a [2J ?b é"
    text.encode("utf-8")


class _Context:
    """What `CommandHandler` needs of a session, with a real log and a real sink."""

    def __init__(self, folder):
        from types import SimpleNamespace as Names

        from sleep_interpreter.realtime.Output.sinks import NullSink

        self.log = EventLog(folder / "log.jsonl", 500.0)
        self.sink, self.source = NullSink(-20.0, -6.0), Names()
        self.settings, self.inputs = Names(audio=Names(max_db=-6.0)), Names(replaying=False)

    def log_event(self, sample, event, code=None, **more):
        self.log.write(sample, event, code, **more)


@pytest.mark.parametrize(("command", "args"), WRONG)
def test_a_wrong_request_from_within_is_refused_and_logged(tmp_path, command, args):

    context, answers = _Context(tmp_path), []
    commands = CommandHandler(context, None, None, dict)
    commands.handle(7, Request(command, args, "command line", lambda ok, **more: answers.append((ok, more))))
    context.log.close()
    assert answers[0][0] is False
    (event,) = read_log(tmp_path / "log.jsonl")
    assert event["event"] == "command" and event["detail"]["ok"] is False


@pytest.mark.parametrize("change", [{"db": 60.0}, {"change_db": 150.0}])
def test_no_command_lifts_the_volume_above_the_cap(tmp_path, change):

    context, answers = _Context(tmp_path), []
    commands = CommandHandler(context, None, None, dict)
    commands.handle(0, Request("volume", change, "socket", lambda ok, **more: answers.append(more["text"])))
    context.log.close()
    assert context.sink.volume_db == -6.0 and answers == ["volume -6 dB; the cap is -6 dB"]


def test_many_silent_connections_do_not_lock_the_operator_out(tmp_path):
    with session(tmp_path) as (control, taken):
        links = []
        try:
            for _ in range(200):
                links.append(socket.create_connection((control.host, control.port), timeout=5))
            began = time.monotonic()
            assert Client(tmp_path).ask("pause")["ok"]
            assert time.monotonic() - began < 3
            clients = [t for t in threading.enumerate() if t.name == "control client"]
            assert len(clients) < 40
        finally:
            for link in links:
                link.close()
    assert len(taken) == 1


def test_half_a_line_is_waited_for_a_few_seconds_only(tmp_path):
    with session(tmp_path) as (control, _), socket.create_connection((control.host, control.port), timeout=10) as link:
        began = time.monotonic()
        link.sendall(b'{"token": ')
        time.sleep(1.5)
        link.sendall(b'"')  # dripping on does not help
        assert link.recv(100) == b""
        assert time.monotonic() - began < 4.5


def test_a_request_in_pieces_is_put_together(tmp_path):
    with session(tmp_path) as (control, taken):
        words = ask(control.token) * 2
        with socket.create_connection((control.host, control.port), timeout=5) as link:
            for begin in range(0, len(words), 7):
                link.sendall(words[begin : begin + 7])
            reader = link.makefile("rb")
            assert all(json.loads(reader.readline())["ok"] for _ in range(2))
    assert len(taken) == 2


def test_more_than_twenty_requests_a_second_close_the_connection(tmp_path):
    with session(tmp_path) as (control, taken):
        answers = talk(control, *[ask(control.token, "group")] * 60)
    assert answers[-1] == {"ok": False, "error": "too many requests"}
    assert 20 <= len(taken) < 60


def test_many_connections_together_are_limited_too(tmp_path):
    with session(tmp_path) as (control, taken):
        threads = [
            threading.Thread(target=talk, args=(control, *[ask(control.token, "group")] * 15)) for _ in range(10)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed = time.monotonic() - began
    assert len(taken) <= 50 * (1 + passed) + 1
    assert len(taken) < 150


def test_too_many_clients_with_a_token_are_refused(tmp_path):
    with session(tmp_path) as (control, _):
        links = []
        try:
            for _ in range(32):
                links.append(socket.create_connection((control.host, control.port), timeout=5))
                links[-1].sendall(ask(control.token, "subscribe"))
                assert b"subscribed" in links[-1].recv(200)
            (answer,) = talk(control, ask(control.token))
            assert answer == {"ok": False, "error": "too many connections"}
        finally:
            for link in links:
                link.close()
        wait_for(lambda: talk(control, ask(control.token))[0]["ok"])


def test_requests_wait_in_a_bounded_queue_and_are_given_in_portions(tmp_path):
    with session(tmp_path, answering=False) as (control, _):
        request = Request("group", {}, "command line", lambda ok, **more: None)
        taken = [control.put(request) for _ in range(150)]
        assert sum(taken) == 100
        assert [len(control.poll()) for _ in range(6)] == [20, 20, 20, 20, 20, 0]


def test_the_end_of_a_session_answers_what_was_asked(tmp_path):
    answers = []
    with session(tmp_path, answering=False) as (control, _):
        thread = threading.Thread(target=lambda: answers.append(Client(tmp_path).ask("pause")))
        thread.start()
        wait_for(lambda: control._requests.qsize() == 1)
    thread.join(5)
    assert answers == [{"ok": False, "error": "the session has ended"}]
    assert not [t for t in threading.enumerate() if t.name.startswith("control")]


def test_a_feed_brings_what_is_published(tmp_path):
    with session(tmp_path) as (control, _):
        feed, found = Client(tmp_path).feed(), []
        thread = threading.Thread(target=lambda: found.extend(next(feed) for _ in range(2)))
        thread.start()
        wait_for(lambda: control.watched)
        control.publish("state", {"sample": 500, "stage": "N2"})
        control.publish("state", {"sample": float("nan")})  # JSON has no such number
        control.publish("state", {"sample": np.float32(1)})
        control.publish("event", {"event": "cue"})
        thread.join(5)
        feed.close()
        wait_for(lambda: not control.watched)
    assert found == [
        {"kind": "state", "payload": {"sample": 500, "stage": "N2"}},
        {"kind": "event", "payload": {"event": "cue"}},
    ]


def test_a_reader_that_does_not_read_costs_the_session_nothing(tmp_path):
    with session(tmp_path) as (control, _):
        slow = socket.create_connection((control.host, control.port), timeout=5)
        slow.sendall(ask(control.view_token, "subscribe"))
        wait_for(lambda: control.watched)
        payload = {"data": "x" * 20_000}
        longest, began = 0.0, time.perf_counter()
        for _ in range(1500):  # 30 MB, of which the system holds back a little and the queue 100 lines
            before = time.perf_counter()
            control.publish("signals", payload)
            longest = max(longest, time.perf_counter() - before)
        assert time.perf_counter() - began < 5 and longest < 0.5
        (feed,) = control._feeds
        assert feed.dropped > 1000
        assert Client(tmp_path).ask("pause")["ok"]
        began = time.monotonic()
    slow.close()
    assert time.monotonic() - began < 4, "a reader that does not read holds up the end"


def test_a_reader_that_vanishes_is_forgotten(tmp_path):
    with session(tmp_path) as (control, _):
        for _ in range(5):
            link = socket.create_connection((control.host, control.port), timeout=5)
            link.sendall(ask(control.view_token, "subscribe"))
            assert json.loads(link.makefile("rb").readline())["rights"] == "view"
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a crash: no farewell
            link.close()
        wait_for(lambda: not control.watched)
        control.publish("state", {})


def test_a_port_that_is_taken_is_refused_in_words(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"control.port = {port}"):
            Control(tmp_path, RemoteControlSettings(port=port))


def test_the_script_asks_a_session(tmp_path):
    script = [sys.executable, str(ROOT / "realtime" / "control.py"), str(tmp_path)]
    with session(tmp_path) as (_, taken):
        done = subprocess.run([*script, "volume", "-26"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "volume\n")
    assert [(r.command, r.args, r.origin) for r in taken] == [("volume", {"db": -26.0}, "command line")]
    done = subprocess.run([*script, "pause"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no session is running there" in done.stderr


def test_arguments_as_typed():
    assert arguments_of("volume", "-26") == {"db": -26.0}
    assert arguments_of("volume", None, -3.0) == {"change_db": -3.0}
    assert arguments_of("mark", "turned over") == {"text": "turned over"}
    assert arguments_of("pause", None) == {}
    for wrong in [("volume", None), ("volume", "nan"), ("volume", "loud"), ("pause", "3")]:
        with pytest.raises(UserError):
            arguments_of(*wrong)
    with pytest.raises(UserError):
        arguments_of("pause", None, -3.0)
