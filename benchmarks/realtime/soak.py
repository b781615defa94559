"""Source and recorder alone on a live stream, for as long as wished: what is lost, and how late samples are.

An outlet in another process streams 64 channels at 500 Hz with a counter in the first one. The whole session
is rehearsed by realtime/rehearse.py; this takes no network, no sound and no stager, so it runs anywhere.

  python -m benchmarks.realtime.soak --minutes 2
  python -m benchmarks.realtime.soak --minutes 10 --busy --loss 0.05
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sleep_interpreter.utils.core.command_line import parser, run, say
from sleep_interpreter.utils.core.paths import ROOT

_RISING = 2**22


def main(argv=None):
    """Stream, record, and print a table; exit code 1 where a sample is missing that the outlet has sent."""
    arguments = parser(__doc__)
    add = arguments.add_argument
    add("--minutes", type=float, default=2.0)
    add("--busy", action="store_true", help="another process keeps one core busy")
    add("--loss", type=float, default=0.0, help="share of chunks that the outlet leaves out")
    add("--channels", type=int, default=64)
    add("--rate", type=float, default=500.0)
    add("--json", type=Path, help="write the figures there")
    args = arguments.parse_args(argv)
    name, processes = f"soak-{os.getpid()}", []
    try:
        if args.busy:
            processes.append(subprocess.Popen([sys.executable, "-c", "while True: sum(range(10000))"]))
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "sleep_interpreter.realtime.Setup.stand_in_amplifier",
         "--source-id", name, "--session-id", name,
                 "--channels", str(args.channels), "--rate", str(args.rate), "--loss", str(args.loss),
                 "--seconds", str(60 * args.minutes + 120)],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            figures = soak(name, 60 * args.minutes, args.rate, Path(folder) / "recording")
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    say(*(f"{key:34} {value}" for key, value in figures.items()))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if figures["samples out of place"] == 0 and (args.loss or figures["samples lost"] == 0) else 1


def soak(name, seconds, rate, folder):
    """Take a stream for a while.

    Parameters
    ----------
    name : str
        Source id and session id.
    seconds : float
    rate : float
        Hz.
    folder : Path
        To record into.

    Returns
    -------
    figures : dict
    """
    import mne

    from sleep_interpreter.realtime.Parameters.source import RecordingSettings, SourceSettings
    from sleep_interpreter.realtime.Sources.lsl_source import LslSource

    lsl = {"session_id": name, "source_id": name, "rate": rate, "timeout_seconds": 30}
    source = LslSource(SourceSettings(kind="lsl", look_seconds=1, lsl=lsl))
    late, inputs, taken, shown = [], [], [], 0
    try:
        source.open(["COUNTER"])
        source.record(folder, RecordingSettings())
        ending = time.perf_counter() + seconds
        for chunk in source.chunks(lambda: time.perf_counter() >= ending):
            inputs += source.take_inputs()
            if not chunk.shape[1]:
                continue
            taken.append(chunk[0])
            shown += chunk.shape[1]
            late.append(time.perf_counter() - source.time_of(shown / 500))
    finally:
        source.close()
    inputs += source.take_inputs()
    counter = np.concatenate(taken)
    raw = mne.io.read_raw(source.recorder.path, verbose="error")
    gaps = [d for kind, d in inputs if kind == "gap"]
    lost = sum(d["count"] for d in gaps)
    recorded = np.concatenate(
        [raw[0, k : k + 100_000][0][0] for k in range(0, raw.n_times, 100_000)]
    ) * 1e6  # fmt: skip
    for gap in gaps:
        recorded[gap["first"] : gap["first"] + gap["count"]] = np.nan
    return {
        "minutes": round(seconds / 60, 2),
        "samples": int(raw.n_times),
        "samples lost": int(lost),
        "gaps": len(gaps),
        "samples out of place": _out_of_place(recorded) + (_out_of_place(counter) if rate == 500 else 0),
        "stalls, backlogs": sum(kind == "stream" and d["state"] != "current" for kind, d in inputs),
        "clock set": sum(kind == "clock" for kind, _ in inputs),
        **_distribution("sample to session, ms", late),
        **_distribution("sync to disk, ms", source.recorder.syncs),
    }


def _out_of_place(counter):
    """Return how many samples do not lie where the counter says."""
    there = np.flatnonzero(np.isfinite(counter))
    return int(np.count_nonzero((np.rint(counter[there]) - there - np.rint(counter[there[0]]) + there[0]) % _RISING))


def _distribution(what, seconds):
    if not len(seconds):
        return {}
    parts = np.percentile(1e3 * np.asarray(seconds), [50, 95, 99, 100])
    return {f"{what} (50, 95, 99, 100 %)": ", ".join(f"{part:.1f}" for part in parts)}


if __name__ == "__main__":
    sys.exit(run(main))
