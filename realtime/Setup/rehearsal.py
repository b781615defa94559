"""A live session beside a stand-in amplifier, and what its timing was: see realtime/rehearse.py."""

import argparse
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Control.control_client import Client
from sleep_interpreter.realtime.Output.sound_card import device_problem
from sleep_interpreter.realtime.Parameters.output import AudioSettings, MarkerCodes
from sleep_interpreter.realtime.Report.session_data import load_session
from sleep_interpreter.realtime.Utils.stop_request import end_process
from sleep_interpreter.utils.core import config, data_card
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import RESULTS, ROOT, display_path
from sleep_interpreter.utils.core.provenance import record, write_json

logger = logging.getLogger(__name__)

_OTHERS = ("M1", "M2", "EOG1", "EOG2", "EMG1", "EMG2", "AUX1", "AUX2")
"""Channels of the stand-in amplifier beside its counter and the card's: 64 with the published 55."""
_RATE = 500
_RISING = 2**22
"""The counter starts again here: whole numbers that a 32-bit float holds."""


def rehearse(args: argparse.Namespace) -> tuple[list[str], bool]:
    """Run a session as realtime/rehearse.py asks; return the lines of its table, and whether nothing was lost."""
    out = (args.out or RESULTS / "rehearsal").resolve()
    folder = out / time.strftime("%Y%m%d_%H%M%S")
    folder.mkdir(parents=True)
    given = getattr(args, "card", None)
    card = data_card.published() if given is None else config.load(DataCard, given)
    stager, decoder = checkpoints(out, args.members, card)
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(sound_server(args.sink))
        if args.busy:
            words = [sys.executable, "-c", "while True: sum(range(10000))"]
            stack.callback(end_process, subprocess.Popen(words))
        name = f"rehearsal-{os.getpid()}"
        seconds = 60 * args.minutes + 40
        stack.callback(end_process, subprocess.Popen(
            [sys.executable, "-m", "sleep_interpreter.realtime.Setup.stand_in_amplifier",
             "--session-id", name, "--source-id", name, "--file", str(write_signal(folder, card)),
             "--count", "--seconds", str(seconds + 3600)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ))  # fmt: skip
        session = start_session(folder, name, stager, decoder, args, environment)
        usage = _sample_usage(session, folder, seconds)
    report = _measure(folder / "s1" / "session_001", usage, card)
    report["settings"] = {key: getattr(args, key) for key in ("minutes", "busy", "monitor", "members", "sink")}
    write_json(folder / "rehearsal.json", {**report, "provenance": record()})
    return [*_table(report), f"written to {display_path(folder)}"], report["lost"] == 0 and report["samples"] > 0


def checkpoints(out: Path, members: int, card: DataCard) -> tuple[Path, Path]:
    """Make the networks of a rehearsal, full size and untrained: their time is what counts."""
    of_card = "" if card == data_card.published() else f"_{card.fingerprint}"
    stager, decoder = out / "stager.npz", out / f"decoder_{members}{of_card}.npz"
    if stager.exists() and decoder.exists():
        return stager, decoder
    from sleep_interpreter import model  # lazy: start-up
    from sleep_interpreter.model.checkpoints import checkpoint  # lazy: start-up

    logger.info("making a stager of 6 and a decoder of %d members, full size", members)
    network = model.build("SIStaging", members=6)
    names = checkpoint.ensemble_variables(network)
    for member in range(6):  # it says N2, whatever it sees
        names[f"individual_models/{member}/fc/bias"].assign([0, 5, 0, 0])
    checkpoint.save(network, stager)
    network = model.build("N23SIMD", mode="retrained", members=members, awake=False, card=card)
    checkpoint.save(network, decoder, **data_card.to_notes(card))
    return stager, decoder


def write_signal(folder: Path, card: DataCard) -> Path:
    """Write the signal that the stand-in amplifier plays over and over; return its path.

    It has the card's channels, those of staging, and room for a counter.
    """
    eeg = [*card.channels, *(name for name in ("C4",) if name not in card.channels)]
    names = ["COUNTER", *eeg, *(name for name in _OTHERS if name not in eeg)]
    rng, n = np.random.default_rng(0), 60 * _RATE
    slow = 30 * np.sin(2 * np.pi * 0.9 * np.arange(n) / _RATE)
    data = slow * rng.uniform(0.5, 1, (len(names), 1)) + 10 * rng.standard_normal((len(names), n))
    np.savez(folder / "signal.npz", data=data.astype("f4"), names=names, rate=float(_RATE))
    return folder / "signal.npz"


@contextlib.contextmanager
def sound_server(sink: str) -> Iterator[dict[str, str]]:
    """Give an environment with a sound device: PulseAudio's null sink, which needs no card."""
    environment = dict(os.environ)
    if sink == "file" or shutil.which("pulseaudio") is None:
        yield environment
        return
    place = Path(tempfile.mkdtemp(prefix="sound"))
    (place / "alsa.conf").write_text(
        Path("/usr/share/alsa/alsa.conf").read_text(encoding="utf-8")
        + "\npcm.!default { type pulse }\nctl.!default { type pulse }\n",
        encoding="utf-8",
    )
    environment |= {"XDG_RUNTIME_DIR": str(place), "HOME": str(place)}
    server = subprocess.Popen(
        ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--realtime=no", "--high-priority=no",
         "-L", "module-null-sink sink_name=cap rate=48000 channels=2",
         "-L", f"module-native-protocol-unix socket={place}/p.sock auth-anonymous=1"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        server_at = {"PULSE_SERVER": f"unix:{place}/p.sock", "ALSA_CONFIG_PATH": str(place / "alsa.conf")}
        _until_it_answers(environment | server_at)
        yield environment | server_at
    finally:
        end_process(server)
        shutil.rmtree(place, ignore_errors=True)


def _until_it_answers(environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        words: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if shutil.which("pactl") is None or subprocess.run(["pactl", "info"], check=False, **words).returncode == 0:
            time.sleep(1)
            return
        time.sleep(0.5)


def start_session(
    folder: Path, name: str, stager: Path, decoder: Path, args: argparse.Namespace, environment: dict[str, str]
) -> subprocess.Popen:
    """Start the session as a process of its own, beside the outlet of that name."""
    sink = args.sink
    if sink == "auto" and "PULSE_SERVER" not in environment and device_problem(AudioSettings()):
        sink = "file"  # a night would be refused
    words = [
        sys.executable, str(ROOT / "realtime" / "Main_Decode.py"), "--source", "lsl", "--subject", "s1",
        "--out", str(folder), "--stager", "sistaging", "--stager-checkpoint", str(stager),
        "--decoder-checkpoint", str(decoder), "--lsl-markers",
        "--set", f"source.lsl.session_id={name}", "--set", f"source.lsl.source_id={name}",
        "--set", f"markers.session_id={name}", "--set", f"markers.source_id={name}-markers",
        "--set", f"audio.sink={sink}", "--set", "gate.nrem_detections=1",
        "--set", "cues.sham_share=0.1",
        *(["--monitor"] if args.monitor else []),
    ]  # fmt: skip
    with (folder / "session.log").open("w") as log:
        return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _sample_usage(session: subprocess.Popen, folder: Path, seconds: float) -> list[list[Any]]:
    """Wait while the session runs, and take down its memory and CPU time; stop it in the end."""
    where, usage = folder / "s1" / "session_001", []
    deadline = time.monotonic() + 300  # a busy machine opens full-size networks slowly
    while not (where / "control.json").exists():
        if session.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"the session did not begin; see {folder / 'session.log'}")
        time.sleep(0.2)
    began = time.monotonic()
    client = Client(where, "rehearsal")
    while time.monotonic() - began < seconds and session.poll() is None:
        state = client.ask("status")["state"]
        passed, lag = time.monotonic() - began, state["stream"]["latency_ms"]
        usage.append([round(passed, 1), resident_memory(session.pid), lag])
        time.sleep(min(2.0, max(0.0, seconds - (time.monotonic() - began))))
    if session.poll() is None:
        client.ask("stop")
    session.wait(60)
    return usage


def resident_memory(pid: int) -> float | None:
    """Return the resident memory of a process in MiB, None where it cannot be told."""
    try:
        words = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return None
    return round(int(words[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def _measure(folder: Path, usage: Sequence[Sequence[Any]], card: DataCard) -> dict[str, Any]:
    """Return what log, tables and recording say."""
    import mne  # lazy: start-up

    session = load_session(folder)
    events, silent, took = session.events, session.silent, session.latencies()
    raw = mne.io.read_raw(folder / "recording" / "segment_001.vhdr", verbose="error")
    counter = np.concatenate(
        [raw.get_data(picks=[0], start=s, stop=min(s + 10**6, raw.n_times))[0] for s in range(0, raw.n_times, 10**6)]
    )
    steps = np.diff(np.round(counter * 1e6)) % _RISING
    sounds = [e["detail"] for e in events if e["event"] == "sound" and e["detail"].get("dac") is not None]
    ports = _ports(folder)
    dac = {d["number"]: d["dac"] for d in sounds}
    cues = [e for e in events if e["event"] == "cue"]
    codes = MarkerCodes.of(len(card.items))
    sent = [row for row in ports if codes.cue(0) <= row[1] < codes.cue(len(card.items))]
    if len(sent) == len(cues):  # a marker of a cue that did not sound has no sound near it
        sent = [row for row, cue in zip(sent, cues, strict=True) if cue["detail"]["number"] not in silent]
    played = sorted(dac.values())
    nearest = [min((abs(t - s), t) for t in played)[1] for _, _, _, s in sent] if played else []
    known = [(t, m) for t, m, _ in usage if m is not None]
    resident = [m for t, m in known if t > 600] or [m for _, m in known]
    return {
        "samples": int(raw.n_times),
        "lost": int((steps != 1).sum()),
        "gaps": sum(e["event"] == "gap" for e in events),
        "cues": len(cues),
        "shams": sum(e["event"] == "sham" for e in events),
        "not_sounded": len(silent),
        "faults": [e["detail"] for e in events if e["event"] in ("fault", "stream")],
        "late_stagings": sum(e["event"] == "stage_skipped" for e in events),
        "memory_growth_mib": round(resident[-1] - resident[0], 1) if resident else None,
        "ms": {
            "newest sample to the session": _spread([lag for _, _, lag in usage]),
            "cue onset minus schedule": _spread([d["late_ms"] for d in sounds]),
            "marker minus onset of the sound": _spread(
                [(s - t) * 1e3 for (_, _, _, s), t in zip(sent, nearest, strict=False)]
            ),
            "staging, last sample to answer": _spread(took.get("computing a stage", ())),
            "decode, last sample to answer": _spread(took.get("computing a decode", ())),
        },
    }


def _ports(folder: Path) -> list[tuple[str, int, float, float]]:
    path = folder / "ports.tsv"
    if not path.exists():
        return []
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return [(r[0], int(r[1]), float(r[2]), float(r[3])) for r in rows if r[5] == "yes"]


def _spread(values: Sequence[float] | np.ndarray) -> dict[str, float] | None:
    """Return the distribution of some milliseconds, None where there is none."""
    if not len(values):
        return None
    milliseconds = np.asarray(values, float)
    p = np.percentile(milliseconds, [0, 50, 95, 99, 100]).round(2)
    spread = dict(zip(("min", "median", "p95", "p99", "max"), map(float, p), strict=True))
    return {"n": len(values), "sd": round(float(milliseconds.std()), 3), **spread}


def _table(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{report['samples']} samples recorded, {report['lost']} lost, {report['gaps']} gaps; "
        f"{report['cues']} cues ({report['not_sounded']} did not sound), {report['shams']} shams",
        f"faults: {json.dumps(report['faults']) if report['faults'] else 'none'}",
        f"memory growth after 10 min: {report['memory_growth_mib']} MiB",
        f"{'ms':<34}{'n':>6}{'min':>9}{'median':>9}{'p95':>9}{'p99':>9}{'max':>9}{'SD':>9}",
    ]
    for name, spread in report["ms"].items():
        if spread is None:
            lines.append(f"{name:<34}{0:>6}")
            continue
        keys = ("min", "median", "p95", "p99", "max", "sd")
        lines.append(f"{name:<34}{spread['n']:>6}" + "".join(f"{spread[key]:>9.2f}" for key in keys))
    return lines
