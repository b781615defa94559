"""What a night does when its stream misbehaves: a table, one fault a line.

A stand-in amplifier (realtime/Setup/stand_in_amplifier.py) streams and misbehaves on command; it takes the session's
markers as triggers into its own channel, as amplifiers do, so that the session's recording holds for each cue both
the sample of the log and the pulse. Cues go through PortAudio into a sound server whose sink is listened to
(sound_server.py), or to a file where there is none. The stager is a small untrained network that says N2 whatever it
sees. A line that was measured is kept (results/fault_matrix) until --restart, so that the command goes on where it was
stopped.

    python -m benchmarks.realtime.fault_matrix             (make fault-matrix; 40 minutes)
    python -m benchmarks.realtime.fault_matrix --only hiccup "lost packets" --page docs/night/streams.md
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import runner
from benchmarks.realtime import sound_server
from benchmarks.realtime.endurance import _networks
from sleep_interpreter.realtime.Cues.sounds import write_sounds
from sleep_interpreter.realtime.Parameters.output import MarkerCodes
from sleep_interpreter.realtime.Recording.event_log import read_log, silent_cues
from sleep_interpreter.realtime.Recording.session_recording import segments
from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.paths import RESULTS, ROOT, atomic_write
from sleep_interpreter.utils.core.provenance import parse_json, record, write_json

_NAMES = ("COUNTER", "TRIGGER", "C4", "EOG1", "EMG1")
_ITEMS = published().item_names
_AFTER_SECONDS = 22.0
"""So long it goes on after the last fault."""
_AGAIN_SECONDS = 15.0
"""Within this time after a fault cues come again, unless so much was lost that 30 s must come first."""
_ALARM_SECONDS = 3.0
"""The longest interval between cues."""
_MARKER_SECONDS = 0.002
"""Or one sample of a stream that has fewer: half of the markers are within this of the log ..."""
_MARKER_MOST = 0.01
"""... and all within this: on busy cores a thread may wake up late."""
_LAG_MOST = 0.03
"""Of a stream whose stamps tell no time: it is looked at every 20 ms."""
_SOUND_SECONDS = 0.05
_DELAY_SECONDS = 0.04
"""The stand-in amplifier keeps a block for so long."""
_OUTSIDE_SECONDS = 30.0
"""A cue later than this after the last N2 or N3 is outside of them."""
_BEGIN, _END = "<!-- fault matrix -->\n", "<!-- end of fault matrix -->\n"


@dataclass(frozen=True)
class Fault:
    """One line: the amplifier's `words`, its `commands` at seconds after the first cue, whether the session is to
    `start` at all, to raise an `alarm` (None: it may), to cue `again`; `beside`: another outlet is on the machine;
    `before`: what a session did when the situation was met; `lags`: no stamp tells how long samples were under way, so
    that cues may lag by as much.

    Three commands are not the amplifier's: `halt S` stands the session's process still for S seconds, `twin` makes
    another outlet of the same source_id, `end` ends the amplifier.
    """

    name: str
    words: tuple[str, ...] = ()
    commands: tuple[tuple[float, str], ...] = ()
    rate: float = 500.0
    starts: bool = True
    alarm: bool | None = False
    again: bool = True
    beside: bool = False
    lags: bool = False
    before: str = "not met"


FAULTS = (
    Fault("none", before="exact"),
    Fault("hiccup of 1.5 s", commands=((2, "stall 1.5"),), alarm=True, beside=True, before="no more cues"),
    Fault(
        "hiccups of 0.5 s", commands=((2, "stall 0.5"), (8, "stall 0.5")), alarm=None, beside=True,
        before="no more cues",
    ),
    Fault("blocks of 0.2 s", ("--chunk", "0.2"), before="10 of 13 cues did not sound"),
    Fault(
        "blocks of 0.3 s, hiccup", ("--chunk", "0.3"), ((2, "stall 2"),), alarm=True, before="no more cues"
    ),
    Fault(
        "lost packets", commands=tuple((2.0 + 4 * k, "lose 1") for k in range(4)), alarm=None,
        before="0 cues in 400 s, of 44",
    ),
    Fault("2 s lost", commands=((2, "lose 100"),), alarm=True),
    Fault("stamps of unix time", ("--stamps", "unix"), before="8 cues logged, 0 heard"),
    Fault("clock set by +20 s", commands=((2, "jump 20"),), alarm=True, before="every sound 20 s late"),
    Fault("clock set by -5 s", commands=((2, "jump -5"),), alarm=True, before="no more cues"),
    Fault("249.5 Hz for 250", ("--off", "-0.002"), rate=250.0, before="11 false gaps, 0 cues"),
    Fault("250.5 Hz for 250", ("--off", "0.002"), rate=250.0, before="36 ms off after 8 min"),
    Fault("512 Hz sent as 500", ("--off", "0.024"), starts=False, before="taken; 2.4 % wrong"),
    Fault(
        "stamps of sending, bursts of 0.7 s", ("--stamps", "sent", "--chunk", "0.7"), before="1,199 invented samples"
    ),
    Fault("stamps all alike", ("--stamps", "same"), lags=True),
    Fault("jitter of 100 ms", ("--jitter", "0.1")),
    Fault("session halted for 30 s", commands=((2, "halt 30"),), alarm=None, before="15,510 samples thrown away"),
    Fault(
        "another bed's outlet takes over", commands=((1, "twin"), (6, "end")), alarm=True, again=False,
        before="5 cues by the other bed's sleep",
    ),
)  # fmt: skip
"""The situations that were met."""


def main(argv=None):
    """Run what is left of the matrix, print it; exit code 1 where a demand is not met."""
    arguments = command_line.parser(__doc__)
    arguments.add_argument("--only", nargs="+", metavar="NAME", help="lines whose name holds one of these")
    arguments.add_argument("--page", type=Path, help="write the table between the marks of this page")
    runner.add_restart(arguments)
    args = arguments.parse_args(argv)
    chosen = [f for f in FAULTS if not args.only or any(word in f.name for word in args.only)]
    for fault in chosen:
        path = _kept(fault)
        if path.exists() and not args.restart:
            continue
        command_line.say(f"{fault.name} ...")
        with tempfile.TemporaryDirectory() as folder:
            row = measure(fault, Path(folder) / "line")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**row, "provenance": record()})
        command_line.say(*row["failed"])
    rows = [parse_json(_kept(fault).read_text(encoding="utf-8")) for fault in FAULTS if _kept(fault).exists()]
    lines = table(rows)
    command_line.say(*lines)
    if args.page:
        text = args.page.read_text(encoding="utf-8")
        before, after = text.split(_BEGIN)[0], text.split(_END)[1]
        with atomic_write(args.page) as temporary:
            temporary.write_text(f"{before}{_BEGIN}" + "\n".join(lines) + f"\n{_END}{after}", encoding="utf-8")
    return 0 if all(row["holds"] for row in rows) else 1


def _kept(fault):
    """Return where the result of a line is kept."""
    return RESULTS / "fault_matrix" / f"{re.sub(r'[^a-z0-9]+', '_', fault.name.lower().replace('-', 'minus '))}.json"


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
    name = f"matrix-{os.getpid()}-{abs(hash(fault.name)) % 10**6}"
    row = {"fault": fault.name, "before": fault.before}
    with ExitStack() as stack:
        ears = stack.enter_context(_Ears(out))
        words = _session_words(name, out, ears)
        amplifier = stack.enter_context(_Amplifier(name, fault, out))
        environment = {**os.environ, **ears.environment}
        checked = subprocess.run(
            [*words, "--check"], capture_output=True, text=True, check=False, timeout=180, env=environment
        )
        verdict = row["check"] = "go" if checked.returncode == 0 else "no-go"
        if not fault.starts or verdict == "no-go":
            said = checked.stdout + checked.stderr
            right = not fault.starts and "do not come at" in said
            return row | {"holds": right, "failed": [] if right else [said[-2000:]]}
        if fault.beside:
            stack.enter_context(_Amplifier(f"{name}-other", Fault("beside"), out))
        folder = out / "s1" / "session_001"
        faults = _night(words, environment, amplifier, fault, folder)
        heard = ears.onsets(folder)
    return row | _found(fault, folder, faults, heard)


def table(rows):
    """Return the lines of a table of `measure`'s rows."""
    columns = {
        "fault": "fault", "before": "before", "check": "--check", "cues": "cues logged as sounded",
        "heard": "sounds heard", "markers": "markers of them", "typical": "marker to log, median, ms",
        "most": "most, ms",
        "sound": "sounds off each other, most, ms", "outside": "cues outside N2/N3", "lost": "samples lost",
        "again": "cues again after, s", "alarm": "alarm after, s", "holds": "holds",
    }  # fmt: skip
    lines = ["| " + " | ".join(columns.values()) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [row.get(key) for key in columns]
        lines.append("| " + " | ".join("" if c is None else str(c) for c in cells) + " |")
    return [line.replace("True", "yes").replace("False", "no") for line in lines]


class _Ears:
    """Where a session's cues go, and what is heard there: a sound server, or a file where there is none.

    `settings` and `environment` are for the session.
    """

    def __init__(self, out):
        self._out = out
        self._server = sound_server.SoundServer(out) if sound_server.missing_program() is None else None
        self.settings = {"audio.sink": "file"}
        self.environment = {}

    def __enter__(self):
        if self._server is not None:
            self._out.chmod(0o700)
            self._server.start()
            self._process = self._server.hear(self._out / "ears")
            self.settings = {"audio.sink": "device", "audio.device": "pulse"}
            self.environment = {"PULSE_SERVER": self._server.address}
        return self

    def __exit__(self, *_):
        if self._server is not None:
            self._server.kill()
            self._process.wait(30)

    def onsets(self, folder):
        """Return when sounds began in s, from some time on."""
        if self._server is not None:
            return sound_server.onsets(sound_server.heard(self._out / "ears"), sound_server.RATE)
        import soundfile  # lazy: optional dependency

        frames, rate = soundfile.read(folder / "cues.flac", dtype="float32")
        return sound_server.onsets(frames, rate)


class _Amplifier:
    def __init__(self, name, fault, out):
        self.name, self._fault, self._out, self.twin = name, fault, out, None
        rate, rng = fault.rate, np.random.default_rng(0)
        n = round(60 * rate)
        slow = 30 * np.sin(2 * np.pi * 0.9 * np.arange(n) / rate)
        data = (slow + 10 * rng.standard_normal((len(_NAMES), n))).astype("f4")
        path = out / f"{name}.npz"
        np.savez(path, data=data, names=_NAMES, rate=rate)
        # what comes as a trigger must find its sample not sent yet; what stamps do not tell would be taken for no delay
        delay = () if {"sent", "same", "unix", "--off"} & {*fault.words} else ("--delay", str(_DELAY_SECONDS))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sleep_interpreter.realtime.Setup.stand_in_amplifier", "--source-id", name,
             "--name", name, "--session-id", name.removesuffix("-other"), "--file", str(path), "--count",
             "--markers", f"{name}-markers", "--seconds", "600", *delay, *fault.words],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.process.stdout.readline()

    def tell(self, words):
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def add_twin(self):
        """Make another outlet of the same source_id."""
        self.twin = _Amplifier(self.name, self._fault, self._out)

    def __exit__(self, *_):
        for process in [self.process, *([] if self.twin is None else [self.twin.process])]:
            process.kill()
            process.communicate()


def _session_words(name, out, ears):
    stager, _ = _networks(out)
    (out / "sounds").mkdir()
    pulse = np.full(sound_server.RATE // 2, 0.5, np.float32)
    write_sounds(out / "sounds", [pulse] * len(_ITEMS), sound_server.RATE, _ITEMS)
    changed = {
        "source.lsl.session_id": name, "source.lsl.source_id": name, "markers.session_id": name,
        "markers.source_id": f"{name}-markers", "gate.nrem_detections": 1,
        "cues.interval_seconds": "[2.5, 3]", "arousal.enabled": "false",
        "audio.folder": out / "sounds", "audio.rate": sound_server.RATE, **ears.settings,
        "quality.line_hz": "null", "recording.reserve_gib": 0, "workers": "inline",
    }  # fmt: skip
    return [
        sys.executable, str(ROOT / "realtime" / "Main_Decode.py"), "--source", "lsl", "--subject", "s1",
        "--out", str(out), "--stager", "sistaging", "--stager-checkpoint", str(stager), "--lsl-markers",
        *(word for key, value in changed.items() for word in ("--set", f"{key}={value}")),
    ]  # fmt: skip


def _night(words, environment, amplifier, fault, folder):
    """Run a session, misbehave, stop it; return when each fault was, as time of day in s."""
    with (folder.parent.parent / "session.log").open("w", encoding="utf-8") as handle:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=handle, stderr=handle, env=environment)
        try:
            deadline = time.monotonic() + 180
            while not any(e["event"] == "cue" for e in _events(folder)):
                if process.poll() is not None or time.monotonic() > deadline:
                    break
                time.sleep(0.2)
            first, done = time.monotonic(), []
            for at, command in fault.commands:
                time.sleep(max(0.0, first + at - time.monotonic()))
                _misbehave(amplifier, process, command)
                done.append(time.time() + (_seconds(command) if command.startswith("stall") else 0.0))
            time.sleep(_AFTER_SECONDS)
        finally:
            process.terminate()
            process.wait(60)
    return done


def _misbehave(amplifier, process, command):
    if command.startswith("halt"):
        process.send_signal(signal.SIGSTOP)
        time.sleep(_seconds(command))
        process.send_signal(signal.SIGCONT)
    elif command == "twin":
        amplifier.add_twin()
        time.sleep(3.0)  # one that begins as the other ends is that one's program, started anew
    elif command == "end":
        amplifier.process.kill()
    else:
        amplifier.tell(command)


def _events(folder):
    return read_log(folder / "log.jsonl") if (folder / "log.jsonl").exists() else []


def _found(fault, folder, faults, heard):
    events = _events(folder)
    silent = silent_cues(events)
    cues = [e for e in events if e["event"] == "cue" and e["detail"]["number"] not in silent]
    row: dict[str, Any] = {"cues": len(cues), "heard": len(heard)}
    if not cues:
        return row | {"holds": False, "failed": ["no cue sounded"]}
    row |= _markers(folder, cues, events) | {"sound": _spread(events, cues, heard), "outside": _outside(events, cues)}
    began = (faults[0] if fault.again else faults[-1]) if faults else _wall(cues[0])
    began -= _seconds(fault.commands[0][1]) if _stalls(fault) else 0.0
    again = [t - faults[-1] for t in map(_wall, cues) if faults and t > faults[-1]]
    row["again"] = round(min(again), 1) if again else None
    trouble = [e for e in events if e["event"] == "fault" or _is_trouble(e)]
    alarms = [_wall(e) - began for e in trouble if _wall(e) > began]
    row["said"] = [e["detail"].get("reason") or e["detail"]["state"] for e in trouble]
    row["alarm"] = round(min(alarms), 1) if alarms else None
    expected = sum(int(c.split()[1]) for _, c in fault.commands if c.startswith("lose")) * round(0.02 * fault.rate)
    demands = {
        "as many sounds as cues": len(heard) == len(cues),
        "their markers": row["markers"] == f"{row['counted']} of {row['counted']}",
        "at their sample": fault.lags or row["typical"] <= 1e3 * max(_MARKER_SECONDS, 1 / fault.rate),
        "all near it": row["most"] <= 1e3 * (_LAG_MOST if fault.lags else _MARKER_MOST),
        "sounds in time": row["sound"] is not None and row["sound"] <= 1e3 * _SOUND_SECONDS,
        "no cue outside": row["outside"] == 0,
        "samples lost": row["lost"] == expected,
        "samples misplaced": row["misplaced"] == 0,
        "cues again": not faults or (bool(again) and min(again) <= _AGAIN_SECONDS if fault.again else not again),
        "alarm": fault.alarm is None or (bool(alarms) and min(alarms) <= _ALARM_SECONDS if fault.alarm else not alarms),
    }
    failed = [demand for demand, met in demands.items() if not met]
    return row | {"failed": failed, "holds": not failed}


def _markers(folder, cues, events):
    """Return how many cues have their pulse in the recording, how far off from when the log has them (their sample,
    and by how much they sounded late), and how many samples are missing there."""
    late = {e["detail"]["number"]: e["detail"].get("late_ms", 0.0) for e in events if e["event"] == "sound"}
    (part,) = segments(folder)
    data, rate = part.raw.get_data(verbose="error") * 1e6, part.raw.info["sfreq"]
    there = np.ones(data.shape[1], bool)
    for begin, count in part.gaps:
        there[begin : begin + count] = False
    # samples that lie in another place than they were taken
    steps = np.diff(np.round(data[0, there])) - np.diff(np.flatnonzero(there))
    codes = [MarkerCodes.of(len(_ITEMS)).cue(k) for k in range(len(_ITEMS))]
    pulses = np.flatnonzero(np.isin(np.round(data[1]), codes)) * STREAM_RATE / rate
    ends = data.shape[1] * STREAM_RATE / rate - 0.5 * STREAM_RATE  # what came at the very end may not be recorded
    counted = [
        e["sample"] + late.get(e["detail"]["number"], 0.0) * STREAM_RATE / 1e3 for e in cues if e["sample"] < ends
    ]
    off = [float(np.abs(pulses - sample).min()) / STREAM_RATE if len(pulses) else np.inf for sample in counted]
    near = [value for value in off if value < 0.5]
    return {
        "markers": f"{len(near)} of {len(counted)}", "counted": len(counted),
        "typical": round(1e3 * float(np.median(near or [0.0])), 1), "most": round(1e3 * max(near, default=0.0), 1),
        "lost": int((~there).sum()), "misplaced": int(np.abs(steps).sum()),
    }  # fmt: skip


def _spread(events, cues, heard):
    """Return by how many ms, at most, the time from a cue's sample to its sound differs from that of most cues; None
    where there are not as many sounds as cues."""
    asked = {e["detail"]["number"]: e["detail"].get("requested") for e in events if e["event"] == "sound"}
    due = [asked.get(e["detail"]["number"]) or e["sample"] / STREAM_RATE for e in cues]
    if len(due) != len(heard):
        return None
    late = heard - np.array(due)
    return round(1e3 * float(np.abs(late - np.median(late)).max()), 1)


def _outside(events, cues):
    """Return how many cues came later than 30 s after the last N2 or N3, or while the gate was closed."""
    asleep = [e["sample"] for e in events if e["event"] == "stage" and e["detail"]["stage"] in ("N2", "N3")]
    late = round(_OUTSIDE_SECONDS * STREAM_RATE)
    return sum(not any(0 <= e["sample"] - sample <= late for sample in asleep) for e in cues)


def _seconds(command):
    return float(command.split()[1])


def _stalls(fault):
    return bool(fault.commands) and fault.commands[0][1].startswith("stall")


def _is_trouble(event):
    return event["event"] == "stream" and event["detail"]["state"] not in ("current", "back")


def _wall(event):
    return datetime.fromisoformat(event["wall"]["time"]).timestamp()


if __name__ == "__main__":
    sys.exit(command_line.run(main))
