"""What the monitor costs: its own CPU time and memory, and what it does to a session beside it.

One live session on a stand-in amplifier (64 channels, 500 Hz), a minute each without a monitor, with the
monitor and one browser, and with five: Chromium pages, driven by Playwright. Onsets of cues, latency of
samples and losses are told apart by minute.

    python -m benchmarks.realtime.monitor_cost
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np

from benchmarks import runner
from sleep_interpreter.realtime.Control.control_client import Client
from sleep_interpreter.realtime.Recording.event_log import read_log
from sleep_interpreter.realtime.Setup import rehearsal
from sleep_interpreter.realtime.Utils import stop_request
from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import ROOT
from sleep_interpreter.utils.core.provenance import record, write_json

BROWSERS = (0, 1, 5)
_SETTLE = 8.0
"""Seconds after a change that are not measured."""


def cost(out, seconds):
    """Run the session and return one row a number of browsers.

    Parameters
    ----------
    out : Path
    seconds : float
        Measured with each number of browsers.

    Returns
    -------
    rows : list of dict
        browsers; cpu_share (of one core) and memory_mib of the monitor's process, None without it; latency_ms
        (newest sample to the session), onset_ms (cue against schedule): median, 95 % and n; lost samples.

    Raises
    ------
    UserError
        There is no browser, or the session did not begin.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise UserError("no Chromium on this machine: make test-tools")
    from playwright.sync_api import sync_playwright

    from sleep_interpreter.realtime.Monitor.server import MonitorProcess

    folder = out / time.strftime("%Y%m%d_%H%M%S")
    folder.mkdir(parents=True)
    stager, decoder = rehearsal.checkpoints(out, 1, published())
    name = f"cost-{os.getpid()}"
    args = Namespace(sink="file", monitor=False)
    rows = []
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(rehearsal.sound_server("auto"))
        stack.callback(stop_request.end_process, subprocess.Popen(
            [sys.executable, "-m", "sleep_interpreter.realtime.Setup.stand_in_amplifier",
             "--session-id", name, "--source-id", name,
             "--file", str(rehearsal.write_signal(folder, published())), "--count", "--seconds", "7200"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ))  # fmt: skip
        session = rehearsal.start_session(folder, name, stager, decoder, args, environment)
        stack.callback(stop_request.end_process, session)
        where = folder / "s1" / "session_001"
        client = _begun(session, where, folder)
        browser = stack.enter_context(_chromium(sync_playwright, program))
        monitor = None
        for count in BROWSERS:
            if count and monitor is None:
                monitor = MonitorProcess(where)
                stack.callback(monitor.close)
                if monitor.wait(120) is None:
                    raise UserError("the monitor did not start")
            while count > len(browser.contexts):
                page = browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
                page.goto(monitor.url)
            time.sleep(_SETTLE)
            rows.append(_measured(count, client, monitor, seconds))
        client.ask("stop")
        session.wait(60)
    sounds = [e for e in read_log(where / "log.jsonl") if e["event"] == "sound"]
    for row in rows:
        first, last = row.pop("samples")
        late = [s["detail"]["late_ms"] for s in sounds
                if first <= s["sample"] < last and s["detail"].get("late_ms") is not None]  # fmt: skip
        row["onset_ms"] = _spread(late)
    return rows, folder


def _begun(session, where, folder):
    """Wait until the session gives its first cues; return its client."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and session.poll() is None:
        if (where / "control.json").exists() and sum(Client(where, "cost").ask("status")["state"]["cues"].values()):
            return Client(where, "cost")
        time.sleep(1)
    raise UserError(f"the session gave no cue; see {folder / 'session.log'}")


@contextlib.contextmanager
def _chromium(sync_playwright, program):
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def _measured(count, client, monitor, seconds):
    """Watch the session and the monitor's process for some seconds."""
    first, lags, memory = client.ask("status")["state"], [], []
    began, used = time.monotonic(), _cpu(monitor)
    while time.monotonic() - began < seconds:
        lags.append(client.ask("status")["state"]["stream"]["latency_ms"])
        if monitor is not None:
            memory.append(rehearsal.resident_memory(monitor.process.pid))
        time.sleep(0.5)
    last = client.ask("status")["state"]
    passed = time.monotonic() - began
    return {
        "browsers": count,
        "cpu_share": None if monitor is None else round((_cpu(monitor) - used) / passed, 3),
        "memory_mib": None if monitor is None else max(memory),
        "latency_ms": _spread(lags),
        "lost": last["stream"]["lost_samples"] - first["stream"]["lost_samples"],
        "samples": [first["sample"], last["sample"]],
    }


def _cpu(monitor):
    """Return the CPU time of the monitor's process so far, s."""
    if monitor is None:
        return 0.0
    fields = Path(f"/proc/{monitor.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spread(values):
    if not len(values):
        return None
    p50, p95 = np.percentile(values, [50, 95])
    return {"n": len(values), "median": round(float(p50), 2), "p95": round(float(p95), 2)}


def _line(row):
    own = "no monitor" if row["cpu_share"] is None else (
        f"monitor with {row['browsers']} browser(s): {100 * row['cpu_share']:.1f} % of a core, "
        f"{row['memory_mib']:.0f} MiB"
    )  # fmt: skip
    both = [
        f"{name} median {s['median']:.2f} ms, 95 % {s['p95']:.2f} ms (n = {s['n']})"
        for name, s in (("sample to session", row["latency_ms"]), ("cue onset", row["onset_ms"])) if s
    ]  # fmt: skip
    return f"{own}; {'; '.join(both)}; {row['lost']} samples lost"


def run(settings, folder, args):
    """Run it, write and return the table."""
    rows, folder = cost(folder.resolve(), args.seconds)
    write_json(folder / "monitor_cost.json", {"rows": rows, "provenance": record()})
    return map(_line, rows)


def _arguments(parser):
    parser.add_argument("--seconds", type=float, default=60.0, help="with each number of browsers")


main = runner.command(__doc__, "monitor_cost", run, arguments=_arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
