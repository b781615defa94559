"""What an operator sees at 3 a.m.: the page in a real browser, fed with made-up news by a session's control server."""

import base64
import json
import re
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from sleep_interpreter.realtime.Control.control_server import Control
from sleep_interpreter.realtime.Monitor.server import MonitorProcess
from sleep_interpreter.realtime.Parameters.settings import RemoteControlSettings
from sleep_interpreter.realtime.Recording.event_log import EventLog
from sleep_interpreter.utils.core.data_card import published
from tests.realtime.conftest import *  # noqa: F403  (the session's fixtures)
from tests.realtime.monitor.browser import chromium, until

ITEMS, RATE, BEGUN = published().item_names, 500, 3600
CHANNELS = [f"E{k:02d}" for k in range(20)] + ["M1", "EOG1", "EMG1"]
BUTTONS = "#pause", "#louder", "#group", "#mark", "#stop", "#sound", "#type", "#theme", "#index"
CUES = (BEGUN - 100 - 600) // 5
_RGB = """(() => { const s = document.createElement('i'); s.style.color = colour('NAME'); document.body.append(s);
const found = getComputedStyle(s).color; s.remove(); return found; })()"""
DERIVATIONS = {"EEG E03-M1": ("E03", "M1"), "EOG1": ("EOG1", None), "EMG1": ("EMG1", None)}


class Night:
    """A session an hour old that does nothing but give news, five times a second; `say` puts events into its log."""

    def __init__(self, root):
        self.folder = root / "s1" / "session_001"
        self.folder.mkdir(parents=True)
        start = datetime.now(UTC) - timedelta(seconds=BEGUN)
        about = {
            "source": "lsl", "pace": 1.0, "simulated": False, "started": start.isoformat(),
            "first_sample_at": start.isoformat(),
            "channels": CHANNELS, "derivations": DERIVATIONS, "ending": None,
        }  # fmt: skip
        (self.folder / "session.json").write_text(json.dumps(about), encoding="utf-8")
        (self.folder / "settings.yaml").write_text("cues: {mode: scheduled}\n", encoding="utf-8")
        self.control = Control(self.folder, RemoteControlSettings())
        self.log = EventLog(
            self.folder / "log.jsonl", RATE, listener=lambda event: self.control.publish("event", event)
        )
        self.now, self.asked = float(BEGUN), []
        for second in range(10, BEGUN, 5):
            share = 0.5 + 0.4 * np.sin(second / 300)
            known = [0.1 * (1 - share), share, 0.8 * (1 - share), 0.1 * (1 - share)]
            self.say("stage", second, stage="N2" if share > 0.4 else "N3", smoothed=known, probabilities=known)
        for number, second in enumerate(range(600, BEGUN - 100, 5)):
            detail = {"number": number, "item": ITEMS[number % 15], "group": 1, "stage": "N2", "recorded": False}
            self.say("cue", second, **detail, sounded=True, locked=False)
        self.say("arousal", BEGUN - 95, reason="EMG rise", until=0)
        self.state = {
            "stage": "N2", "probabilities": [0.02, 0.9, 0.07, 0.01], "reason": None, "gate": True, "cueing": True,
            "blocked": [], "volume_db": -20.0, "max_db": -6.0, "group": 1, "cues": dict.fromkeys(ITEMS, 3), "shams": 4,
            "silent": 0, "decodes": {"total": 40, "failed": 1}, "last_decode": None,
            "quality": dict.fromkeys(CHANNELS),
            "stream": {"state": "current", "gaps": 0, "lost_samples": 0, "latency_ms": 31.0},
            "recording": {"file": "segment_001.eeg", "bytes": 10**8, "acknowledged_samples": 0, "free_bytes": 10**11,
                          "minutes_left": 4000.0},
            "stager": {"age_seconds": 3.0, "latency_ms": 200.0, "late": 0}, "audio": {"lost": None},
            "ports": {"names": ["lsl"]}, "phase": {"target": 0, "locked": True, "degrees": [], "from": "precue"},
            "alarms": [], "offered": None, "items": list(ITEMS), "channels": CHANNELS,
            "derivations": {name: [own for own in pair if own] for name, pair in DERIVATIONS.items()},
            "amplifier": True, "dry_run": False, "session": "session_001", "subject": "s1", "simulated": False,
            "planned_end": (datetime.now(UTC) + timedelta(hours=5)).astimezone().isoformat(timespec="seconds"),
        }  # fmt: skip

    def say(self, event, second=None, **detail):
        self.log.write(round((self.now if second is None else second) * RATE), event, **detail)

    def step(self):
        """Give a fifth of a second's news; answer what was asked."""
        for request in self.control.poll():
            self.asked.append(request.command)
            request.reply(True, sample=0, text=f"{request.command} done")
        self.now += 0.2
        t = self.now + np.arange(20) / 100
        data = np.stack([40 * np.sin(2 * np.pi * (0.8 + 0.01 * k) * t) for k in range(len(CHANNELS))])
        data = np.concatenate([[data[3] - data[-3], data[-2], data[-1]], data])
        encoded = base64.b64encode(data.astype("<f4").tobytes()).decode()
        names = [*DERIVATIONS, *CHANNELS]
        self.control.publish(
            "signals", {"sample": round(self.now * RATE), "rate": 100, "names": names, "data": encoded}
        )
        self.state["recording"]["bytes"] += 10_000
        self.control.publish("state", {**self.state, "seconds": round(self.now, 2), "sample": round(self.now * RATE)})


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    made = Night(tmp_path_factory.mktemp("night"))
    yield made
    made.log.close()
    made.control.close()


@pytest.fixture(scope="module")
def opened(night):
    """The page of the monitor in Chromium."""
    handle = MonitorProcess(night.folder)
    assert handle.wait(120) is not None
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(handle.url)
        yield page
    handle.close()


@pytest.fixture
def page(night, opened):
    """The page while the session is cueing; what a test changed is put right."""
    known = dict(night.state), dict(night.state["stream"])
    lives(night, opened, lambda: opened.inner_text("#cuetext") == "cueing", 60)
    yield opened
    night.state = {**known[0], "stream": known[1]}
    assert not opened.errors


def lives(night, page, condition=None, seconds=20):
    """Let the night go on until something shows on the page, or for a second and a half."""
    deadline = time.monotonic() + (1.5 if condition is None else seconds)
    while condition is None or not condition():
        if time.monotonic() > deadline:
            assert condition is None, page.inner_text("body")[:1500]
            return
        night.step()
        page.wait_for_timeout(100)


def boxes(page):
    """Where everything stands."""
    names = "#stage", "#cueing", "#recent", "#facts", "#clock", "#chart", "#night", "#events", *BUTTONS
    return {name: page.locator(name).bounding_box() for name in names}


def test_one_look_tells_time_last_cue_arousal_and_end(night, page):
    now = datetime.now().strftime("%H:")
    assert page.inner_text("#time").startswith(now) and re.fullmatch(r"1:0\d:\d\d", page.inner_text("#elapsed"))
    planned = datetime.fromisoformat(night.state["planned_end"])
    assert page.inner_text("#ends") == f"ends {planned:%H:%M}"
    assert page.inner_text("#lastcue").endswith(("s ago", "min ago")) and "ago" in page.inner_text("#arousal")
    assert page.get_attribute("#arousal", "title") == "EMG rise"
    assert page.inner_text("#rate") == f"{CUES} in the last hour"
    night.say("cue", number=9999, item=ITEMS[0], group=1, stage="N2", recorded=False, sounded=None, locked=False)
    lives(night, page, lambda: page.inner_text("#rate") == f"{CUES + 1} in the last hour")
    assert int(page.inner_text("#lastcue").split()[0]) < 20
    night.say("sound", number=9999, dac=None, reason="the card was gone")  # it did not sound: it is none
    lives(night, page, lambda: page.inner_text("#rate") == f"{CUES} in the last hour")


def test_the_group_has_one_number(night, page):
    night.say("group", 90, group=1)
    lives(night, page, lambda: "group 1" in page.inner_text("#events li"))
    assert page.inner_text("#why") == "group 1"


def test_there_is_no_report_while_a_session_runs(page):
    host, token = re.match(r"http://[^/]+", page.url)[0], page.url.partition("#")[2]
    with urllib.request.urlopen(urllib.request.Request(f"{host}/api/sessions", headers={"X-Token": token})) as answer:
        assert json.load(answer)["sessions"][0]["report"] is None
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{host}/report/s1/session_001?token={token}", timeout=10)
    assert page.is_hidden("#report")


def test_the_signals_are_the_stager_s_and_the_emg_is_never_out_of_sight(night, page):
    lives(night, page)
    assert page.locator("#labels span").all_inner_texts() == list(DERIVATIONS)
    assert page.evaluate("buffer[0].at(-1)") == pytest.approx(
        page.evaluate("buffer[6].at(-1) - buffer[23].at(-1)"), abs=1e-3
    )
    page.select_option("#channels", index=1)
    lives(night, page, lambda: page.locator("#labels span").count() == 13)
    assert page.locator("#labels span").all_inner_texts() == [*CHANNELS[:12], "EMG1"]
    page.select_option("#channels", index=0)


def test_neither_alarms_nor_buttons_move_anything(night, page):
    before = boxes(page)
    alarm = {"text": "this is a long text of an alarm " * 4, "since": "2026-01-01T02:00:00+00:00"}
    night.state["alarms"] = [{"kind": kind, **alarm} for kind in ("sound", "disk", "quality")]
    night.state |= {"cueing": False, "blocked": ["paused by the operator", "C4 is flat " * 20], "stage": "unknown"}
    night.state["offered"] = "is that this bed's amplifier?"
    night.state["reason"] = "C4 is flat, and so is every other electrode of this sleeper"
    lives(night, page, lambda: page.is_visible("#alarms"))
    for name in ("#group", "#stop", "#sound", "#accept"):
        page.click(name)
    lives(night, page)
    assert page.inner_text("#pause") == "Resume cueing" and "Alarm sound: off" in page.inner_text("#sound")
    assert page.inner_text("#stop") == page.inner_text("#group") == "Click again"
    assert boxes(page) == before
    page.click("#sound")
    lives(night, page, lambda: page.inner_text("#stop") != "Click again")


def test_the_change_of_groups_asks(night, page):
    night.asked.clear()
    page.click("#group")
    lives(night, page)
    assert night.asked == [] and "click again" in page.inner_text("#answer")
    page.keyboard.press("g")
    lives(night, page, lambda: night.asked == ["group"])
    lives(night, page, lambda: page.inner_text("#answer").startswith("group done"))
    page.keyboard.press("g")
    lives(night, page, lambda: page.inner_text("#group") == "Click again")
    lives(night, page, lambda: page.inner_text("#group") == "Other group")  # nobody clicked again
    assert night.asked == ["group"]


def test_another_stream_is_taken_only_when_the_operator_says_so_twice(night, page):
    night.asked.clear()
    assert page.is_hidden("#accept")
    text = "amp1 is away; 2 other streams have its source_id: is that this bed's amplifier?"
    night.state |= {"offered": text, "alarms": [{"kind": "stream", "text": text, "since": ""}]}
    lives(night, page, lambda: page.is_visible("#accept"))
    assert text in page.inner_text("#alarms")
    page.click("#accept")
    lives(night, page)
    assert night.asked == [] and "this bed's amplifier" in page.inner_text("#answer")
    page.click("#accept")
    lives(night, page, lambda: night.asked == ["accept"])
    page.evaluate("document.body.classList.add('looking')")  # a page without the right to control
    assert page.is_hidden("#accept") and text in page.inner_text("#alarms")
    page.evaluate("document.body.classList.remove('looking')")
    night.state |= {"offered": None, "alarms": []}
    lives(night, page, lambda: page.is_hidden("#accept"))


@pytest.mark.parametrize(
    ("event", "bad", "good"),
    [
        ("stream", {"state": "stalled"}, {"state": "back"}),
        ("fault", {"part": "log", "state": "lost", "reason": "full"}, {"part": "log", "state": "back", "reason": ""}),
        ("no_sound", {"on": True, "reason": "gone"}, {"on": False, "reason": "is back"}),
        ("quality", {"channel": "E03", "reason": "is flat"}, {"channel": "E03", "reason": None}),
    ],
)  # fmt: skip
def test_recovery_is_not_red(night, page, event, bad, good):
    colours = []
    for detail in (bad, good):
        shown = page.evaluate("night.events.length")
        night.say(event, **detail)
        lives(night, page, lambda shown=shown: page.evaluate("night.events.length") > shown)
        colours.append(page.evaluate("getComputedStyle(document.querySelector('#events li')).color"))
    assert colours == [page.evaluate(_RGB.replace("NAME", name)) for name in ("bad", "ok")]


def test_an_alarm_sounds_in_a_live_night_unless_switched_off(page):
    """Chromium allows it from the first click on."""
    page.click("#stage")
    assert page.get_attribute("#sound", "aria-pressed") == "true"
    assert page.inner_text("#sound") == "Alarm sound: on"


def test_large_type_is_larger_and_stays(night, page):
    size = "parseFloat(getComputedStyle(document.querySelector(name)).fontSize)"
    sizes = f"['#stage', '#why', '#events li', '#counts', '#alarms'].map(name => {size})"
    before = page.evaluate(sizes)
    page.click("#type")
    lives(night, page)
    assert np.allclose(np.divide(page.evaluate(sizes), before), 1.4)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1366
    assert page.evaluate("localStorage.getItem('type')") == "large"
    page.click("#type")


def stale(page):
    grey = page.evaluate("getComputedStyle(document.querySelector('#stage')).filter") == "grayscale(1)"
    return page.inner_text("#cuetext") if grey and "on" not in page.get_attribute("#dot", "class").split() else None


def test_what_is_old_is_grey_at_once(night, page):
    """Samples stop, the session hangs, comes back, is stopped, is gone without a word."""
    night.state["stream"] = {**night.state["stream"], "state": "lost"}
    lives(night, page, lambda: stale(page) == "no samples", 3)
    night.state["stream"] = {**night.state["stream"], "state": "current"}
    lives(night, page, lambda: page.inner_text("#cuetext") == "cueing" and not stale(page))
    until(lambda: stale(page) == "no news", page, 5)
    assert page.is_visible("#alarms") and "nothing new" in page.inner_text("#alarms")
    lives(night, page, lambda: page.inner_text("#cuetext") == "cueing" and not stale(page))
    night.say("stop", reason="stopped")
    until(lambda: stale(page) == "ended", page, 3)
    assert page.inner_text("#why").startswith("stopped")
    night.say("resume", segment=None, after=0)
    lives(night, page, lambda: page.inner_text("#cuetext") == "cueing")
    left = (night.folder / "control.json").read_bytes()
    night.control.close()
    until(lambda: stale(page) == "no contact", page, 3)
    assert "does not answer" in page.inner_text("#alarms")
    (night.folder / "control.json").write_bytes(left)  # as a kill leaves it


def test_a_session_that_was_killed_is_not_running_and_has_a_report(night, opened):
    host, token = re.match(r"http://[^/]+", opened.url)[0], opened.url.partition("#")[2]
    with urllib.request.urlopen(urllib.request.Request(f"{host}/api/sessions", headers={"X-Token": token})) as answer:
        (listed,) = json.load(answer)["sessions"]
    assert not listed["running"] and listed["ending"] is None and listed["report"]
    assert not (night.folder / "report.html").exists()
    with urllib.request.urlopen(f"{host}/report/s1/session_001?token={listed['report']}", timeout=120) as answer:
        assert "latency of N2 or deeper" in answer.read().decode()
    assert (night.folder / "report.html").is_file()
