"""A whole night as fast as the machine can: memory, a complete log, a replay that decides the same.

A simulated sleeper with 64 channels goes through a session in a process of its own: stager and decoder are
small untrained networks (the stager says N2 whatever it sees, so that cueing goes on all night), all else is
as in a live night: recording, quality, arousal, cues, shams, log, report. Then the session is replayed from
its own recording.

    python -m benchmarks.realtime.endurance               (make endurance; 8 h)
    python -m benchmarks.realtime.endurance --hours 0.2
"""

import shutil
import subprocess
import sys
import time

import numpy as np

from benchmarks import runner
from sleep_interpreter.realtime.Recording.event_log import decisions, read_log
from sleep_interpreter.realtime.Setup.rehearsal import resident_memory
from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import ROOT
from sleep_interpreter.utils.core.provenance import record, write_json

_CHANNELS = 64
_SETTLED = 600.0
"""Seconds of the session after which memory is to stay."""
_GROWTH_MIB = 50.0
_SMALL = {"depth": 1, "heads": 1, "ffn": 8}


def endure(out, hours, start_minutes=0.0):
    """Run a night and its replay; return what was found.

    Parameters
    ----------
    out : Path
        Of the sessions; must have no session yet.
    hours : float
    start_minutes : float
        Into the simulated night.

    Returns
    -------
    report : dict
        `holds` says for each demand whether it is met.

    Raises
    ------
    UserError
        A session did not come to its end, or the disk has no room for the night.
    """
    out.mkdir(parents=True, exist_ok=True)
    room, wanted = shutil.disk_usage(out).free, 1.1 * hours * 3600 * STREAM_RATE * _CHANNELS * 4
    if room < wanted:
        raise UserError(f"{out}: {wanted / 2**30:.1f} GiB are needed, {room / 2**30:.1f} are free")
    stager, decoder = _networks(out)
    words = [
        "--source", "simulate", "--speed", "0", "--subject", "s1", "--out", str(out / "night"),
        "--stager", "sistaging", "--stager-checkpoint", str(stager), "--decoder-checkpoint", str(decoder),
        "--set", f"source.simulate.hours={hours}", "--set", "gate.nrem_detections=1",
        "--set", f"source.simulate.start_minutes={start_minutes}",
        "--set", "source.simulate.counters=3",  # 55 EEG, mastoids, EOG and EMG are 61 channels
        "--set", "cues.sham_share=0.1", "--set", "cues.rule=balanced",
    ]  # fmt: skip
    night = out / "night" / "s1" / "session_001"
    seconds, usage = _run(words, night, out / "night.log")
    replay = ["--session", str(night), "--out", str(out / "replay")]
    replayed, _ = _run(replay, None, out / "replay.log")
    return _report(night, out / "replay" / "s1" / "session_001", usage, (seconds, replayed))


def _networks(out):
    """Write a small stager that says N2 and a small decoder; return their paths."""
    from sleep_interpreter import model
    from sleep_interpreter.model.checkpoints import checkpoint

    stager = model.build(
        "SIStaging", members=1, kernels=(500,), branch_filters=2, block_filters=2, map_filters=4,
        series_filters=(4, 4, 4), pool_filters=(4, 4), lstm=4, dense=4,
    )  # fmt: skip
    checkpoint.ensemble_variables(stager)["individual_models/0/fc/bias"].assign([0, 5, 0, 0])
    checkpoint.save(stager, out / "stager.npz", simulated=True)
    decoder = model.build(
        "N23SIMD", members=1, awake=False, d_model=8, features=8, class_hidden=8, head_size=4,
        stem={"filters": 8, "dilations": [1], "dense": 8}, sleep_encoder=_SMALL, image_encoder=_SMALL,
        audio_encoder=_SMALL,
    )  # fmt: skip
    checkpoint.save(decoder, out / "decoder.npz", simulated=True)
    return out / "stager.npz", out / "decoder.npz"


def _run(words, folder, log):
    """Run a session; return its seconds and, where it records, [(seconds of the session, MiB, stopped)]."""
    usage, began = [], time.monotonic()
    with log.open("w", encoding="utf-8") as handle:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "realtime" / "Main_Decode.py"), *words],
            stdin=subprocess.DEVNULL, stdout=handle, stderr=handle,
        )  # fmt: skip
        while process.poll() is None:
            if folder is not None and (reached := _reached(folder)) is not None:
                usage.append((round(reached, 1), resident_memory(process.pid), _stopped(folder)))
            time.sleep(0.5)
    if process.returncode != 0:
        raise UserError(f"the session ended with code {process.returncode}; see {log}")
    return round(time.monotonic() - began, 1), usage


def _reached(folder):
    """Return how far a recording has come, s."""
    try:
        size = (folder / "recording" / "segment_001.eeg").stat().st_size
    except OSError:
        return None
    return size / (4 * _CHANNELS * STREAM_RATE)


def _stopped(folder):
    """Tell whether the log has its stop: what comes after is the night report."""
    with (folder / "log.jsonl").open("rb") as handle:
        handle.seek(max(0, handle.seek(0, 2) - 2000))
        return b'"event": "stop"' in handle.read()


def _report(night, replay, usage, seconds):
    import mne

    events, again = read_log(night / "log.jsonl"), read_log(replay / "log.jsonl")
    raw = mne.io.read_raw(night / "recording" / "segment_001.vhdr", verbose="error")
    samples = events[-1]["sample"]
    heard = [e["detail"]["number"] for e in events if e["event"] in ("cue", "sham")]
    decoded = {e["detail"]["number"] for e in events if e["event"] in ("decode", "decode_failed")}
    cancelled = [e["detail"]["number"] for e in events if e["event"] == "cue_cancelled"]
    staged = np.array([e["sample"] for e in events if e["event"] in ("stage", "stage_skipped")]) / STREAM_RATE
    resident = [(t, m) for t, m, stopped in usage if t >= _SETTLED and m is not None and not stopped]
    reporting = [m for _, m, stopped in usage if m is not None and stopped]
    growth = round(max(m for _, m in resident) - resident[0][1], 1) if resident else None
    one, two = decisions(events), decisions(again)
    return {
        "simulated": True,
        "hours": round(samples / STREAM_RATE / 3600, 3),
        "channels": len(raw.ch_names),
        "samples": int(samples),
        "run_seconds": seconds[0],
        "replay_seconds": seconds[1],
        "events": len(events),
        "stagings": len(staged),
        "longest_without_staging_seconds": round(float(np.diff(staged).max()), 1),
        "cues": sum(e["event"] == "cue" for e in events),
        "shams": sum(e["event"] == "sham" for e in events),
        "decodes": sum(e["event"] == "decode" for e in events),
        "memory_mib": {
            "after_10_min": resident[0][1] if resident else None,
            "growth": growth,
            "each_half_hour": [m for _, m in _thinned(resident, 1800)],
            "while_the_report_is_written": max(reporting, default=None),
        },
        "decisions": len(one),
        "holds": {
            "recording holds every sample of the session": bool(raw.n_times == samples),
            "recording has 64 channels": len(raw.ch_names) == _CHANNELS,
            "its counter counts without a step": _counts(raw),
            "log ends with its stop": events[-1]["event"] == "stop" and events[-1]["detail"]["reason"]
            == "end of recording",
            "every number of a cue is there": sorted({*heard, *cancelled}) == list(
                range(1, len(heard) + len(cancelled) + 1)
            ),
            "every cue has its decode, or why not": decoded == set(heard),
            "staged every 5 s (10 s around cues)": bool(np.diff(staged).max() <= 10),
            f"memory grows by less than {_GROWTH_MIB:g} MiB after 10 min": growth is None
            or growth < _GROWTH_MIB,
            "the replay decides the same": one == two,
        },
    }  # fmt: skip


def _thinned(rows, step):
    """Return the first of the rows (time, value) of each step of time."""
    steps = [int(t // step) for t, _ in rows]
    return [row for row, this, last in zip(rows, steps, [-1, *steps], strict=False) if this != last]


def _counts(raw):
    """Tell whether the recording's counter, read in pieces, has no step."""
    last = None
    for start in range(0, raw.n_times, 10**6):
        piece = np.round(raw.get_data(picks=["COUNTER1"], start=start, stop=min(start + 10**6, raw.n_times))[0] * 1e6)
        piece = piece if last is None else np.concatenate([[last], piece])
        if (np.diff(piece) % 2**15 != 1).any():
            return False
        last = piece[-1]
    return True


def run(settings, folder, args):
    """Run it, write and return what was found, and whether all holds."""
    if args.results is None:
        folder = folder / time.strftime("%Y%m%d_%H%M%S")
    report = endure(folder.resolve(), args.hours, args.start_minutes)
    write_json(folder / "endurance.json", {**report, "provenance": record()})
    if not args.keep:
        for recording in folder.glob("*/s1/session_*/recording"):
            shutil.rmtree(recording)
    lines = [f"{key}: {value}" for key, value in report.items() if key != "holds"]
    lines += [f"{'holds' if met else 'FAILS'}  {what}" for what, met in report["holds"].items()]
    return lines, all(report["holds"].values())


def _arguments(parser):
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--start-minutes", type=float, default=0.0, help="into the simulated night")
    parser.add_argument("--keep", action="store_true", help="keep the recordings (4 GB for 8 h)")


main = runner.command(__doc__, "endurance", run, arguments=_arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
