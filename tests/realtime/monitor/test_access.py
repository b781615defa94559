"""The monitor of sessions that anybody may have made: tokens of each session alone, limits, and refusals in words."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sleep_interpreter.realtime.Control.control_client import Client
from sleep_interpreter.realtime.Control.control_server import Control
from sleep_interpreter.realtime.Monitor.server import MonitorProcess
from sleep_interpreter.realtime.Parameters.settings import RemoteControlSettings
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import ROOT

ABOUT = {"started": "2026-01-02T22:30:00+00:00", "ending": "stopped", "channels": ["C4"], "simulated": True}


def make(folder, about=ABOUT, events=()):
    """Write a session's folder."""
    folder.mkdir(parents=True)
    (folder / "session.json").write_text(about if isinstance(about, str) else json.dumps(about))
    (folder / "log.jsonl").write_text("".join(line if isinstance(line, str) else json.dumps(line) for line in events))
    return folder


def event(seconds=1, **detail):
    line = {"sample": 1, "seconds": seconds, "event": "notice", "code": None, "detail": detail, "wall": {"time": "x"}}
    return json.dumps(line) + "\n"


STRANGE = {
    "nan": event(1).replace("1,", "NaN,", 1), "endless": event(1e300), "kinds": event(1).replace("{}", "[1]"),
    "half": event(1, text="\ud800"), "list": "[]\n5\nnull\n\"x\"\n", "deep": "[" * 100_000 + "\n",
    "bytes": event(1, text="\x1b[31m"), "long": event(1, text="x" * 200_000),
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two sessions of two subjects, one that runs, and strange ones."""
    folder = tmp_path_factory.mktemp("sessions")
    for subject in ("s1", "s2"):
        own = make(folder / subject / "session_001", events=[event(1)])
        (own / "report.html").write_text(f"report of {subject}")
    make(folder / "s3" / "session_001", {**ABOUT, "ending": None})
    for name, line in STRANGE.items():
        make(folder / "log" / f"session_{name}", events=[line, event(2)])
    abouts = {
        "kinds": {"recording": 5, "channels": 3, "started": 7, "counts": [], "subject": "x"}, "card": ABOUT,
        "none": "no json", "paths": {"recording": {"path": "/etc/passwd"}, "channels": ["C4"]}, "zero": ABOUT,
    }  # fmt: skip
    for name, about in abouts.items():
        make(folder / "about" / f"session_{name}", about)
    (folder / "about" / "session_card" / "dataset.yaml").write_text("items: 5")
    recording = folder / "about" / "session_zero" / "recording"
    recording.mkdir()
    (recording / "segment_001.vhdr").write_text("SamplingInterval=0\n")
    (recording / "segment_001.vmrk").write_text("")
    (recording / "segment_001.eeg").write_bytes(b"")
    linked = make(folder / "about" / "session_linked")
    (linked / "report.html").symlink_to("/etc/passwd")
    return folder


@pytest.fixture(scope="module")
def control(root):
    """The control of the session that runs."""
    server = Control(root / "s3" / "session_001", RemoteControlSettings())
    yield server
    server.close()


@pytest.fixture(scope="module")
def served(root, control):
    """The addresses of a monitor of all sessions, of one that has ended and of the one that runs: (control, view)."""
    processes = [MonitorProcess(folder) for folder in (root, *(root / s / "session_001" for s in ("s1", "s3")))]
    assert all(process.wait(120) for process in processes)
    yield [(process.url, process.view_url) for process in processes]
    for process in processes:
        process.close()


def ask(url, path, token="", method="GET", body=None):
    """Return (status, answer) of a monitor, the answer as JSON where it is some."""
    link = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    link.request(method, path, body, {"X-Token": token})
    answer = link.getresponse()
    text = answer.read().decode()
    link.close()
    return answer.status, json.loads(text) if "json" in answer.headers["content-type"] else text


def token_of(url):
    return url.partition("#")[2]


def sessions(url):
    """Return {(subject, session): what the list says} that the token of an address opens."""
    status, answer = ask(url, "/api/sessions", token_of(url))
    assert status == 200
    return {(about["subject"], about["session"]): about for about in answer["sessions"]}


def test_the_tokens_of_a_session_open_nothing_else(served):
    everything, ended, running = served
    for one, own in ((ended, "s1"), (running, "s3")):
        for url in one:
            assert list(sessions(url)) == [(own, "session_001")]
            for other in ("s1", "s2", "s3"):
                codes = {
                    ask(url, f"/api/{other}/session_001/{what}", token_of(url))[0]
                    for what in ("history", "spectrogram")
                }
                assert codes <= ({200, 404} if other == own else {403})
                body = json.dumps({"command": "pause"})
                status = ask(url, f"/api/{other}/session_001/command", token_of(url), "POST", body)[0]
                # 503: nothing runs there, or nobody takes its commands in this test
                assert status == (503 if own == other and url == one[0] and other == "s1" else 409 if own == other and
                                  url == one[0] else 403)  # fmt: skip
    found = [sessions(url) for url in everything]
    assert found[0].keys() == found[1].keys() >= {("s1", "session_001"), ("s2", "session_001")}
    every = {about["token"] for one in found for about in one.values()}
    assert len(every) == 2 * len(found[0]) and not every & {token_of(url) for url in everything}
    for url, one, rights in zip(everything, found, ("control", "view"), strict=True):
        token = one["s2", "session_001"]["token"]
        assert ask(url, "/api/s2/session_001/history", token)[1]["rights"] == rights
        assert ask(url, "/api/s1/session_001/history", token)[0] == 403
        assert ask(url, "/api/s2/session_001/history", token_of(url))[0] == 403
        assert list(sessions(f"{url.partition('#')[0]}#{token}")) == [("s2", "session_001")]


def test_the_address_of_a_report_opens_the_report_alone(served):
    for url in served[1]:
        _, history = ask(url, "/api/s1/session_001/history", token_of(url))
        report = history["report"]
        assert report != token_of(url) and ask(url, "/api/s1/session_001/history", report)[0] == 403
        assert ask(url, f"/report/s1/session_001?token={report}") == (200, "report of s1")
        for wrong in (token_of(url), "", "x", quote("é\ud800", errors="replace")):
            assert ask(url, f"/report/s1/session_001?token={wrong}")[0] == 403
        assert ask(url, f"/report/s2/session_001?token={report}")[0] == 403
    page = (Path(__file__).parents[3] / "realtime/Monitor/static/app.js").read_text(encoding="utf-8")
    assert "token=${content.report}" in page and "?token=${encodeURIComponent(token)}" not in page


def test_a_running_session_keeps_its_tokens_and_a_claim_of_one_is_none(served, control, root):
    assert [token_of(url) for url in served[2]] == [control.token, control.view_token]
    assert control.token not in json.dumps(list(sessions(served[0][0]).values()))
    claimed = {"host": "127.0.0.1", "port": 9, "token": "a" * 32, "view_token": "b" * 32}
    folder = make(root.parent / "claimed" / "s1" / "session_001")
    (folder / "control.json").write_text(json.dumps(claimed))
    process = MonitorProcess(folder)
    try:
        assert process.wait(120)
        assert ask(process.url, "/api/s1/session_001/history", "a" * 32)[0] == 403
    finally:
        process.close()


def test_what_a_session_does_not_hold_is_told_and_no_error_of_the_server(served):
    url = served[0][0]
    for (subject, name), about in sessions(url).items():
        if subject not in ("log", "about"):
            continue
        token, api = about["token"], f"/api/{subject}/{name}"
        for path in (f"{api}/history", f"{api}/spectrogram", f"{api}/signals?start=0&seconds=30"):
            began = time.monotonic()
            status, answer = ask(url, path, token)
            assert status in (200, 404), (path, answer)
            assert time.monotonic() - began < 5
        assert ask(url, f"/report/{subject}/{name}?token={about['report'] or ''}")[0] in (403, 404)
    token = sessions(url)["s1", "session_001"]["token"]
    for query in (
        "",
        "?start=x&seconds=1",
        "?start=0",
        "?start=nan&seconds=1",
        "?start=0&seconds=inf",
        "?start=1e400&seconds=1",
    ):
        assert ask(url, f"/api/s1/session_001/signals{query}", token)[0] in (400, 404)
    for path in (
        "/api/s1/session_9/history",
        "/api/../session_001/history",
        f"/api/{'x' * 300}/y/history",
        "/api/%00/y/history",
    ):
        assert ask(url, path, token)[0] in (403, 404)


BODIES = (
    "", "no json", "[]", "5", '{"command": 5}', '{"command": ["pause"]}', '{"command": "subscribe"}', '{"args": {}}',
    '{"command": "mark", "args": {"command": "stop"}}', '{"command": "mark", "args": {"self": 1}}',
    '{"command": "volume", "args": {"db": NaN}}', '{"command": "volume", "args": {"db": 1e999}}', "[" * 15_000,
    '{"command": "mark", "args": {"text": "' + "x" * 20_000 + '"}}', '{"command": "mark", "args": 5}', b"\xff\xfe",
)  # fmt: skip


def test_a_command_that_is_none_is_told(served):
    url = served[1][0]
    for body in BODIES:
        status, answer = 429, None
        while status == 429:
            status, answer = ask(url, "/api/s1/session_001/command", token_of(url), "POST", body)
            time.sleep(0.1)
        assert status == 400 and "expected" in answer["error"], body


def test_no_connection_is_held_open_and_no_frame_is_large(served):
    url = served[1][0]
    place = urlsplit(url).hostname, urlsplit(url).port
    silent = [socket.create_connection(place, timeout=20) for _ in range(3)]
    silent[1].sendall(b"GET / HTTP/1.1\r\nHost: ")
    silent[2].sendall(b"GET / HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: 9\r\n\r\nx")
    feed = f"ws://{urlsplit(url).netloc}/feed/s1/session_001"
    for sent in ("x" * 5000, "wrong", "", b"bytes", token_of(served[2][0])):
        with connect(feed) as link:
            link.send(sent)
            with pytest.raises(ConnectionClosed) as closed:
                link.recv(10)
            assert closed.value.rcvd.code == (1009 if len(sent) > 4096 else 4403)
    began = time.monotonic()
    for link in silent:
        link.settimeout(20)
        with link:
            while link.recv(65536):
                pass
    assert time.monotonic() - began < 18
    with connect(feed) as link:
        link.send(token_of(url))
        assert json.loads(link.recv(10)) == {"kind": "link", "payload": {"connected": False}}


@pytest.mark.parametrize(
    "content",
    [
        {"host": "192.0.2.1"}, {"host": "example.org"}, {"host": "::ffff:192.0.2.1"}, {"host": 5}, {"host": ""},
        {"port": "80"}, {"port": 0}, {"port": 70_000}, {"token": "a\r\nb"}, {"token": None}, {"view_token": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_a_foreign_control_file_leads_to_no_other_machine(tmp_path, content):
    about = {"host": "127.0.0.1", "port": 9, "token": "a" * 32, "view_token": "b" * 32}
    (tmp_path / "control.json").write_text(json.dumps({**about, **content}))
    with pytest.raises(UserError, match=r"not this machine|no session is running there"):
        Client(tmp_path)


@pytest.mark.parametrize(
    "sends", [b"x" * 2**21, b"[" * 50_000 + b"\n", b"5\n", b"\n", b'{"ok": true, "x": NaN}\n', b""]
)
def test_an_answer_without_end_or_sense_ends_the_question(tmp_path, sends):
    with socket.create_server(("127.0.0.1", 0)) as server:
        about = {"host": "localhost", "port": server.getsockname()[1], "token": "a" * 32, "view_token": "b" * 32}
        (tmp_path / "control.json").write_text(json.dumps(about))
        client = Client(tmp_path)
        for question in (lambda: client.ask("status"), lambda: next(client.feed())):

            def answer():
                link, _ = server.accept()
                with link:
                    link.recv(1000)
                    try:
                        link.sendall(sends)
                    except OSError:
                        return

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises((UserError, ValueError)):
                question()
            thread.join(10)


TRACED = """
import asyncio, sys
from pathlib import Path
from fastapi import FastAPI
from opentelemetry import _logs, metrics, trace
from sleep_interpreter.realtime.Monitor.access import Access
from sleep_interpreter.realtime.Monitor.app import make_app

def recording(parent, name, nothing):
    def told(self, *words, **more):
        seen.append(name)
        return nothing
    return type("Provider", (parent,), {name: told})()

seen = []
trace.set_tracer_provider(recording(trace.TracerProvider, "get_tracer", trace.NoOpTracer()))
metrics.set_meter_provider(recording(metrics.MeterProvider, "get_meter", metrics.NoOpMeter("x")))
_logs.set_logger_provider(recording(_logs.LoggerProvider, "get_logger", _logs.NoOpLogger("x")))

async def ask(app, path):
    gone, waiting, answers = asyncio.Event(), [{"type": "http.request", "body": b""}], []
    async def receive():
        return waiting.pop() if waiting else await gone.wait()
    async def send(message):
        answers.append(message)
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": [(b"host", b"127.0.0.1:1")], "scheme": "http", "http_version": "1.1", "root_path": "",
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1)}
    await app(scope, receive, send)
    return answers[0]["status"]

app = make_app(Path(sys.argv[1]), Access())
print([asyncio.run(ask(app, path)) for path in ("/", "/api/sessions", "/api/s/n/signals")], seen)
asyncio.run(ask(FastAPI(), "/"))
print(sorted(set(seen)))
"""


def test_nothing_of_a_request_is_recorded_or_exported(tmp_path):
    pytest.importorskip("fastapi.telemetry")  # of FastAPI's newer releases
    exports = {"FASTAPI_OTEL_AUTO_CONFIGURE": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", TRACED, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT), **exports},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, bare = done.stdout.splitlines()
    assert ours == "[200, 403, 400] []", "a page, a refusal, and a request that is not understood"
    assert bare == "['get_logger', 'get_meter', 'get_tracer']", "the same by a page without our settings"
