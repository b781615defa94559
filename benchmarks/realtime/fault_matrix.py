"""What a night does when its stream misbehaves: a table, one fault a line.

A stand-in amplifier (realtime/Setup/stand_in_amplifier.py) streams and misbehaves on command; it takes the session's
markers as triggers into its own channel, as amplifiers do, so that the session's recording holds for each cue both
the sample of the log and the pulse. The stager is a small untrained network that says N2 whatever it sees; cues go to
a file.

    python -m benchmarks.realtime.fault_matrix             (make fault-matrix; half an hour)
    python -m benchmarks.realtime.fault_matrix --only hiccup "lost packets" --page docs/night/streams.md
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.realtime.endurance import _networks
from sleep_interpreter.realtime.Parameters.output import MarkerCodes
from sleep_interpreter.realtime.Recording.event_log import read_log, silent_cues
from sleep_interpreter.realtime.Recording.session_recording import segments
from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.paths import ROOT, atomic_write

_NAMES = ("COUNTER", "TRIGGER", "C4", "EOG1", "EMG1")
_GATE_SECONDS = 34.0
"""After this long a session of a well-behaved stream cues."""
_AFTER_SECONDS = 22.0
"""So long it goes on after the last fault."""
_AGAIN_SECONDS = 15.0
"""Within this time after a fault cues come again, unless so much was lost that 30 s must come first."""
_ALARM_SECONDS = 5.0
_MARKER_SECONDS = 0.05
_BEGIN, _END = "<!-- fault matrix -->\n", "<!-- end of fault matrix -->\n"


@dataclass(frozen=True)
class Fault:
    """One line: the amplifier's `words`, its `commands` at seconds after the first cues, whether the session is to
    `start` at all, to raise an alarm, to be `slow` in cueing again; `beside`: another outlet is on the machine."""

    name: str
    words: tuple[str, ...] = ()
    commands: tuple[tuple[float, str], ...] = ()
    rate: float = 500.0
    starts: bool = True
    alarm: bool = False
    slow: bool = False
    beside: bool = False


FAULTS = (
    Fault("none"),
    Fault("hiccup of 1.5 s", commands=((2, "stall 1.5"),), alarm=True, beside=True),
    Fault("hiccups of 0.5 s", commands=((2, "stall 0.5"), (8, "stall 0.5")), beside=True),
    Fault("blocks of 0.3 s, hiccup", ("--chunk", "0.3"), ((2, "stall 2"),), alarm=True),
    Fault("lost packets", commands=tuple((2.0 + 4 * k, "lose 1") for k in range(4))),
    Fault("2 s lost", commands=((2, "lose 100"),), alarm=True),
    Fault("stamps of unix time", ("--stamps", "unix")),
    Fault("clock set by +20 s", commands=((2, "jump 20"),), alarm=True),
    Fault("clock set by -5 s", commands=((2, "jump -5"),), alarm=True),
    Fault("249.5 Hz for 250", ("--off", "-0.002"), rate=250.0),
    Fault("250.5 Hz for 250", ("--off", "0.002"), rate=250.0),
    Fault("512 Hz sent as 500", ("--off", "0.024"), starts=False),
    Fault("stamps of sending, bursts of 0.7 s", ("--stamps", "sent", "--chunk", "0.7")),
    Fault("jitter of 100 ms", ("--jitter", "0.1")),
)
"""The situations that were met."""


def main(argv=None):
    """Run the matrix, print it; exit code 1 where a demand is not met."""
    arguments = command_line.parser(__doc__)
    arguments.add_argument("--only", nargs="+", metavar="NAME", help="lines whose name holds one of these")
    arguments.add_argument("--page", type=Path, help="write the table between the marks of this page")
    args = arguments.parse_args(argv)
    chosen = [f for f in FAULTS if not args.only or any(word in f.name for word in args.only)]
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for number, fault in enumerate(chosen):
            command_line.say(f"{fault.name} ...")
            rows.append(measure(fault, Path(folder) / str(number)))
    lines = table(rows)
    command_line.say(*lines)
    if args.page:
        text = args.page.read_text(encoding="utf-8")
        before, after = text.split(_BEGIN)[0], text.split(_END)[1]
        with atomic_write(args.page) as temporary:
            temporary.write_text(f"{before}{_BEGIN}" + "\n".join(lines) + f"\n{_END}{after}", encoding="utf-8")
    return 0 if all(row["holds"] for row in rows) else 1


def measure(fault, out):
    """Run --check and a session beside a misbehaving amplifier.

    Parameters
    ----------
    fault : Fault
    out : Path
        A new folder is made there.

    Returns
    -------
    row : dict
        What was found; `holds` tells whether it is as demanded.
    """
    out.mkdir(parents=True)
    name = f"matrix-{os.getpid()}-{out.name}"
    words = _session_words(name, out)
    with _amplifier(name, fault, out) as amplifier:
        checked = subprocess.run([*words, "--check"], capture_output=True, text=True, check=False, timeout=180)
        verdict = "go" if checked.returncode == 0 else "no-go"
        row = {"fault": fault.name, "check": verdict}
        if not fault.starts:
            return row | {"holds": verdict == "no-go" and "do not come at" in checked.stdout + checked.stderr}
        twin = _amplifier(f"{name}-other", Fault("beside"), out) if fault.beside else None
        try:
            faults = _night(words, amplifier, fault, out / "s1" / "session_001")
        finally:
            if twin is not None:
                twin.__exit__()
    return row | _found(fault, out / "s1" / "session_001", faults, verdict)


def table(rows):
    """Return the lines of a table of `measure`'s rows."""
    columns = {
        "fault": "fault", "check": "--check", "cues": "cues that sounded", "markers": "markers of them",
        "most": "marker to log, most, ms", "lost": "samples lost", "again": "cues again after, s",
        "alarm": "alarm after, s", "holds": "holds",
    }  # fmt: skip
    lines = ["| " + " | ".join(columns.values()) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [row.get(key) for key in columns]
        lines.append("| " + " | ".join("" if c is None else str(c) for c in cells) + " |")
    return [line.replace("True", "yes").replace("False", "no") for line in lines]


class _amplifier:  # noqa: N801  (a context manager)
    def __init__(self, name, fault, out):
        rate, rng = fault.rate, np.random.default_rng(0)
        n = round(60 * rate)
        slow = 30 * np.sin(2 * np.pi * 0.9 * np.arange(n) / rate)
        data = (slow + 10 * rng.standard_normal((len(_NAMES), n))).astype("f4")
        path = out / f"{name}.npz"
        np.savez(path, data=data, names=_NAMES, rate=rate)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sleep_interpreter.realtime.Setup.stand_in_amplifier", "--source-id", name,
             "--name", name, "--session-id", name.removesuffix("-other"), "--file", str(path), "--count",
             "--markers", f"{name}-markers", "--seconds", "600", *fault.words],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.process.stdout.readline()

    def tell(self, words):
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def _session_words(name, out):
    stager, _ = _networks(out)
    changed = {
        "source.lsl.session_id": name, "source.lsl.source_id": name, "markers.session_id": name,
        "markers.source_id": f"{name}-markers", "audio.sink": "file", "gate.nrem_detections": 1,
        "cues.interval_seconds": "[2.5, 3]", "cues.lead_seconds": 0.9, "arousal.enabled": "false",
        "quality.line_hz": "null", "recording.reserve_gib": 0, "workers": "inline",
    }  # fmt: skip
    return [
        sys.executable, str(ROOT / "realtime" / "Main_Decode.py"), "--source", "lsl", "--subject", "s1",
        "--out", str(out), "--stager", "sistaging", "--stager-checkpoint", str(stager), "--lsl-markers",
        *(word for key, value in changed.items() for word in ("--set", f"{key}={value}")),
    ]  # fmt: skip


def _night(words, amplifier, fault, folder):
    """Run a session, misbehave, stop it; return when each fault was, as time of day in s."""
    with (folder.parent.parent / "session.log").open("w", encoding="utf-8") as handle:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=handle, stderr=handle)
        try:
            deadline = time.monotonic() + 180
            while not any(e["event"] == "cue" for e in _events(folder)):
                if process.poll() is not None or time.monotonic() > deadline:
                    break
                time.sleep(0.2)
            first, done = time.monotonic(), []
            for at, command in fault.commands:
                time.sleep(max(0.0, first + at - time.monotonic()))
                amplifier.tell(command)
                done.append(time.time() + _stalled(command))
            threading.Event().wait(_AFTER_SECONDS)
        finally:
            process.terminate()
            process.wait(60)
    return done


def _events(folder):
    return read_log(folder / "log.jsonl") if (folder / "log.jsonl").exists() else []


def _found(fault, folder, faults, verdict):
    events = _events(folder)
    silent = silent_cues(events)
    cues = [e for e in events if e["event"] == "cue" and e["detail"]["number"] not in silent]
    row = {"cues": len(cues)}
    if not cues:
        return row | {"holds": False}
    (part,) = segments(folder)
    data, rate = part.raw.get_data(verbose="error") * 1e6, part.raw.info["sfreq"]
    there = np.ones(data.shape[1], bool)
    for begin, count in part.gaps:
        there[begin : begin + count] = False
    counter = np.round(data[0, there])
    steps = np.diff(counter) - np.diff(np.flatnonzero(there))  # samples that lie in another place than they were taken
    lost, misplaced = int((~there).sum()), int(np.abs(steps).sum())
    names = published().item_names
    codes = {MarkerCodes.of(len(names)).cue(k) for k in range(len(names))}
    pulses = np.flatnonzero(np.isin(np.round(data[1]), list(codes))) * STREAM_RATE / rate
    ends = data.shape[1] * STREAM_RATE / rate - 0.5 * STREAM_RATE  # what came at the very end may not be recorded
    counted = [e["sample"] for e in cues if e["sample"] < ends]
    off = [float(np.abs(pulses - sample).min()) / STREAM_RATE if len(pulses) else np.inf for sample in counted]
    near = [value for value in off if value < 0.5]
    row |= {"markers": f"{len(near)} of {len(counted)}", "most": round(1e3 * max(near, default=0.0), 1)}
    row |= {"lost": lost, "misplaced": misplaced}
    times = [_wall(e) for e in cues]
    if faults:
        later = [t - faults[-1] for t in times if t > faults[-1]]
        row["again"] = round(min(later), 1) if later else None
    if fault.alarm:
        said = [_wall(e) for e in events if e["event"] in ("fault", "gap") or _is_trouble(e)]
        began = faults[0] - _stalled(fault.commands[0][1])
        later = [t - began for t in said if t > began]
        row["alarm"] = round(min(later), 1) if later else None
    prompt = not faults or (row["again"] is not None and (fault.slow or row["again"] <= _AGAIN_SECONDS))
    told = not fault.alarm or (row["alarm"] is not None and row["alarm"] <= _ALARM_SECONDS)
    expected = sum(int(c.split()[1]) for _, c in fault.commands if c.startswith("lose")) * round(0.02 * rate)
    holds = prompt and told and len(near) == len(counted) and row["most"] <= 1e3 * _MARKER_SECONDS
    return row | {"holds": holds and lost == expected and misplaced == 0 and verdict == "go"}


def _stalled(command):
    return float(command.split()[1]) if command.startswith("stall") else 0.0


def _is_trouble(event):
    return event["event"] == "stream" and event["detail"]["state"] not in ("current", "back")


def _wall(event):
    return datetime.fromisoformat(event["wall"]["time"]).timestamp()


if __name__ == "__main__":
    sys.exit(command_line.run(main))
