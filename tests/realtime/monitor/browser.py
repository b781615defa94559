"""Debian's Chromium, driven by Playwright."""

import shutil
import time
from contextlib import contextmanager

import pytest

_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def chromium():
    """Start the browser; the test is skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine: make monitor-tools installs it (Debian, Ubuntu)")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'"
    )
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=program, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def until(condition, page, seconds=20):
    """Wait for something on the page."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, (page.inner_text("body")[:1500], page.errors)
        page.wait_for_timeout(50)
