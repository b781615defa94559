"""The monitor in a real browser, beside a session on a real LSL stream."""

import json
import os
import re
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import mne
import pytest

from sleep_interpreter.realtime.Monitor.server import MonitorProcess
from sleep_interpreter.realtime.Sources import live_source
from sleep_interpreter.utils.core.data_card import published
from tests.realtime.conftest import *  # noqa: F403  (the session's fixtures)
from tests.realtime.live import SESSION_ID, Live, named, outlet, save_stream
from tests.realtime.monitor.browser import chromium, until

EEG_MONTAGE, ITEMS = published().channels, published().item_names

NAMES = [*EEG_MONTAGE, "M1", "EOG1", "EMG1"]


@pytest.fixture(scope="module")
def amplifier(signal_microvolts, tmp_path_factory):
    """An outlet five times as fast as time, so that the gate opens after some seconds."""
    stream = save_stream(tmp_path_factory.mktemp("stream") / "night.npz", signal_microvolts, NAMES)
    with (
        outlet(f"{os.getpid()}-monitor", "--file", stream, "--seconds", 2000, "--speed", 5) as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(live_source, "_OFF_MOST", 100.0)
        yield process


@pytest.fixture(scope="module")
def live(main, flags, amplifier, tmp_path_factory):
    """A session with cues, and its monitor beside it."""
    session = Live(
        main, tmp_path_factory.mktemp("monitored"), "--source", "lsl",
        "--set", f"source.lsl.session_id={SESSION_ID}",
        "--set", f"source.lsl.source_id={os.getpid()}-monitor",
        "--set", "source.look_seconds=1", "--set", "workers=inline", "--set", "audio.sink=file",
        "--set", "arousal.enabled=false",
        "--set", "cues.interval_seconds=[2.5, 3]", *flags,
    )  # fmt: skip
    session.until(lambda events: len(events) > 2, what="a beginning")
    yield session
    if session.alive:
        session.stop()


@pytest.fixture(scope="module")
def monitor(live):
    """The monitor's process."""
    handle = MonitorProcess(live.folder)
    assert handle.wait(120) is not None, "see the log: the monitor did not start"
    yield handle
    handle.close()


@pytest.fixture(scope="module")
def page(monitor):
    """The page in Chromium; an error in its script fails the test."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        errors, requests = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(monitor.url)
        page.errors, page.requests = errors, requests
        yield page


def _status(live):
    return live.state()


def _get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def _post(url, body, **headers):
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_what_the_screen_shows_is_what_the_session_does(live, page):
    live.until(lambda e: named(e, "decode"), what="a decode")
    live.ask("pause")  # so that nothing moves while both are read
    until(lambda: page.inner_text("#cuetext") == "paused", page)
    page.wait_for_timeout(400)
    state = _status(live)
    assert page.evaluate("document.getElementById('stage').firstChild.textContent") == state["stage"] == "N2"
    shown = page.evaluate("[...document.querySelectorAll('#counts div')].map(d => d.innerText.split('\\n'))")
    assert {item: int(count) for item, count in shown} == state["cues"]
    rows = page.evaluate("[...document.querySelectorAll('#decode li')].map(d => d.innerText.split('\\n'))")
    assert [row[0].removeprefix("▸ ") for row in rows] == list(ITEMS)
    for row, p in zip(rows, state["last_decode"]["probabilities"], strict=True):
        assert float(row[-1]) == pytest.approx(p, abs=0.0051)
    assert f"{state['volume_db']:.1f} dB" in page.inner_text("#volume")
    assert page.inner_text("#total").startswith(str(sum(state["cues"].values())))
    assert len(page.query_selector_all("#quality span")) == len(state["channels"])
    assert "growing" in page.inner_text("#recording")
    live.ask("resume")
    assert not page.errors
    assert all(url.startswith(("http://127.0.0.1:", "data:")) for url in page.requests)


def test_pause_in_the_browser_stops_cues_within_a_second(live, page):
    until(lambda: page.inner_text("#cuetext") == "cueing", page)
    live.until(lambda e: named(e, "cue"), what="cues")
    page.keyboard.press("p")
    until(lambda: page.inner_text("#cuetext") == "paused", page)
    command = live.until(lambda e: named(e, "command", command="pause", origin="monitor"), what="the pause")[-1]
    assert "cueing is paused" in page.inner_text("#answer")
    page.wait_for_timeout(1500)  # seven seconds of the stream
    late = [e for e in named(live.events(), "cue") if e["sample"] > command["sample"]]
    assert not late
    page.click("#louder")
    until(lambda: "dB" in page.inner_text("#answer") and "volume" in page.inner_text("#answer"), page)
    page.fill("#marktext", "turned over")
    page.click("#mark")
    live.until(
        lambda e: [c for c in named(e, "command", command="mark") if c["detail"]["args"] == {"text": "turned over"}]
    )
    page.click("#pause")
    until(lambda: page.inner_text("#cuetext") == "cueing", page)


def test_without_the_token_from_elsewhere_or_too_often_nothing_is_done(live, monitor, page):
    base, token = monitor.url.partition("#")[0], monitor.url.partition("#")[2]
    view = monitor.view_url.partition("#")[2]
    host = re.match(r"http://[^/]+", base)[0]
    api = f"{host}/api/s1/session_001"
    assert _get(f"{api}/history") == 403 and _get(f"{api}/history", **{"X-Token": "wrong"}) == 403
    assert _get(f"{api}/history", **{"X-Token": view}) == 200
    pause = {"command": "pause"}
    before = len(named(live.events(), "command"))
    assert _post(f"{api}/command", pause) == 403
    assert _post(f"{api}/command", pause, **{"X-Token": view}) == 403
    assert _post(f"{api}/command", pause, **{"X-Token": token, "Origin": "http://evil.example"}) == 403
    assert _get(f"{api}/history", **{"X-Token": token, "Host": "evil.example"}) == 403
    assert _get(f"{host}/report/s1/session_001") == 403
    assert len(named(live.events(), "command")) == before
    with ThreadPoolExecutor(14) as pool:  # at once: a slow machine must not take a second for them
        posts = [pool.submit(_post, f"{api}/command", {"command": "mark"}, **{"X-Token": token}) for _ in range(14)]
    codes = [post.result() for post in posts]
    assert 200 in codes and 429 in codes


def test_a_killed_monitor_comes_back_and_no_sample_is_lost(live, monitor, page):
    before = _status(live)["sample"]
    monitor.process.kill()
    monitor.process.wait()
    page.wait_for_timeout(500)
    again = MonitorProcess(live.folder, int(re.search(r":(\d+)/", monitor.url)[1]))
    try:
        assert again.wait(120) == monitor.url  # the same address and token: the browser goes on by itself
        until(lambda: page.inner_text("#link") == "connected", page, 60)
        state = _status(live)
        assert state["sample"] > before and state["stream"]["lost_samples"] == 0
        until(lambda: page.evaluate("night.stages.length") >= len(named(live.events(), "stage")) - 1, page)
        assert not page.errors
    finally:
        monitor.process = again.process


def test_the_loss_of_the_stream_raises_the_alarm_and_the_end_leads_to_review(live, page, amplifier):
    began = time.monotonic()
    for _ in range(5):  # how long the machine takes just now to ask the session and to look at the page
        assert live.state() and page.inner_text("#total")
    slow = time.monotonic() - began
    began = time.monotonic()
    amplifier.kill()
    until(lambda: page.is_visible("#alarms"), page, 60)
    assert time.monotonic() - began < 3 + slow
    assert "stream" in page.inner_text("#alarms")
    page.click("#stop")
    assert "Click again" in page.inner_text("#stop") and live.alive
    page.click("#stop")
    live.join()
    until(lambda: page.is_visible("#slider"), page, 60)
    raw = mne.io.read_raw(live.folder / "recording" / "segment_001.vhdr", verbose="error")
    about = json.loads((live.folder / "session.json").read_text())
    assert raw.n_times >= about["samples"] > 10_000 and not named(live.events(), "gap")
    page.evaluate("const s = document.getElementById('slider'); s.value = 40; s.oninput()")
    page.wait_for_timeout(300)
    assert page.inner_text("#reviewtime") == "0:00:40"
    assert page.inner_text("#total").startswith(str(sum(e["seconds"] <= 40 for e in named(live.events(), "cue"))))
    until(lambda: page.locator("#labels span").all_inner_texts() == ["EEG C4", "EOG1", "EMG1"], page)
    assert page.evaluate("buffer.length") == 3 + len(about["channels"])
    before = sum(e["seconds"] <= 40 for e in named(live.events(), "cue"))
    assert page.inner_text("#rate") == f"{before} in the last hour"
    page.goto(page.url.split("/session/")[0] + "/#" + page.url.partition("#")[2])
    until(lambda: "session_001" in page.inner_text("#list"), page)
    assert not page.errors
