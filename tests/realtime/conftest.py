"""Real parts for the real-time tests: a BrainVision file, checkpoints of small networks, the command."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.paths import ROOT

CARD = published()
EEG_MONTAGE, ITEMS = CARD.channels, CARD.item_names
SCRIPT = ROOT / "realtime" / "Main_Decode.py"
RATE = 500
SECONDS = 80
CUES = [(20.0 + 4.5 * k, ITEMS[k % 15]) for k in range(13)]
BAD_CUE = 5
"""The EEG is not finite during the response to this cue (FIF keeps NaN, a broken electrode may send it)."""


@pytest.fixture(scope="session")
def signal_microvolts():
    """EEG, EOG and EMG of 80 s at 500 Hz: slow waves and noise, (58, n) µV."""
    rng = np.random.default_rng(3)
    t = np.arange(SECONDS * RATE) / RATE
    slow = 40 * np.sin(2 * np.pi * 0.9 * t)
    eeg = slow * rng.uniform(0.5, 1, (55, 1)) + np.cumsum(rng.standard_normal((55, t.size)), axis=1) * 0.3
    others = rng.standard_normal((3, t.size)) * [[3], [20], [5]]
    return np.concatenate([eeg, others])


@pytest.fixture(scope="session")
def raw55(signal_microvolts):
    """The same as an MNE Raw: 55 EEG channels, M1, EOG1, EMG1, cues as annotations."""
    import mne

    names = [*EEG_MONTAGE, "M1", "EOG1", "EMG1"]
    info = mne.create_info(names, RATE, ["eeg"] * 56 + ["eog", "emg"])
    raw = mne.io.RawArray(signal_microvolts * 1e-6, info, verbose="error")
    onsets, items = zip(*CUES, strict=True)
    raw.set_annotations(mne.Annotations(onsets, [0] * len(CUES), [f"cue/{i}" for i in items]))
    return raw


@pytest.fixture(scope="session")
def recording(raw55, tmp_path_factory):
    """A BrainVision file on disk."""
    import mne

    path = tmp_path_factory.mktemp("recording") / "night.vhdr"
    mne.export.export_raw(path, raw55, fmt="brainvision", verbose="error")
    return path


@pytest.fixture(scope="session")
def broken_recording(raw55, tmp_path_factory):
    """A FIF file whose EEG is not finite for 0.1 s after one cue."""
    raw = raw55.copy().load_data()
    start = round((CUES[BAD_CUE][0] + 1) * RATE)
    raw._data[10, start : start + 50] = np.nan
    path = tmp_path_factory.mktemp("broken") / "night_raw.fif"
    raw.save(path, verbose="error")
    return path


_ENCODER = {"depth": 1, "heads": 1, "ffn": 8}
SMALL = {
    "SIStaging": {
        "members": 1, "kernels": (500,), "branch_filters": 2, "block_filters": 2, "map_filters": 4,
        "series_filters": (4, 4, 4), "pool_filters": (4, 4), "lstm": 4, "dense": 4,
    },
    "N23SIMD": {
        "members": 1, "d_model": 8, "features": 8, "class_hidden": 8, "head_size": 4,
        "stem": {"filters": 8, "dilations": [1], "dense": 8},
        "sleep_encoder": _ENCODER, "image_encoder": _ENCODER, "audio_encoder": _ENCODER,
    },
}  # fmt: skip
"""Sizes of networks that are built and traced in a moment."""


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Small untrained networks: a stager whose last bias says N2, and decoders.

    `decoder` has the sleep path alone, which is all that a session runs; `simulated` is a whole network.
    """
    from sleep_interpreter import model
    from sleep_interpreter.model.checkpoints import checkpoint

    folder = tmp_path_factory.mktemp("checkpoints")
    stager = model.build("SIStaging", **SMALL["SIStaging"])
    checkpoint.ensemble_variables(stager)["individual_models/0/fc/bias"].assign([0, 5, 0, 0])
    checkpoint.save(stager, folder / "stager.npz")
    checkpoint.save(model.build("N23SIMD", awake=False, **SMALL["N23SIMD"]), folder / "decoder.npz")
    checkpoint.save(model.build("N23SIMD", **SMALL["N23SIMD"]), folder / "simulated.npz", simulated=True)
    return SimpleNamespace(
        stager=folder / "stager.npz", decoder=folder / "decoder.npz", simulated=folder / "simulated.npz"
    )


@pytest.fixture(scope="session")
def flags(checkpoints):
    """Flags of a session whose gate opens at the first staging."""
    return [
        "--stager", "sistaging", "--stager-checkpoint", str(checkpoints.stager),
        "--decoder-checkpoint", str(checkpoints.decoder),
        "--set", "gate.nrem_detections=1",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def staged(flags):
    """The same flags without a decoder."""
    at = flags.index("--decoder-checkpoint")
    return [*flags[:at], *flags[at + 2 :]]


@pytest.fixture
def figures():
    """For tests that look at the figures of a session or its report."""


@pytest.fixture(autouse=True)
def no_figures(request, monkeypatch):
    """Other sessions in this process make no figures, which would take five times as long as all the rest of them."""
    if "figures" in request.fixturenames:
        return
    from sleep_interpreter.utils.plots import evoked, session

    names = "rose", "evoked", "topographies", "confusion", "overview", "cue_counts", "intervals", "latencies", "quality"
    for name in names:
        monkeypatch.setattr(evoked if hasattr(evoked, name) else session, name, lambda *_, **__: "<svg></svg>")
    monkeypatch.setattr(session, "plot_session", lambda _, path, **__: path.touch())


_RESTORED = {}


@pytest.fixture(autouse=True)
def restored_once(monkeypatch):
    """A checkpoint's network is opened and traced once for all sessions of this process.

    Prediction changes nothing in a network; sessions in processes of their own open theirs anew.
    """
    from sleep_interpreter.realtime.Model import networks

    real = networks.restore

    def restore(path, kind):
        file = Path(path)
        key = file, file.stat().st_mtime_ns if file.exists() else None, kind
        if key not in _RESTORED:
            _RESTORED[key] = real(path, kind)
        return _RESTORED[key]

    monkeypatch.setattr(networks, "restore", restore)


@pytest.fixture(scope="session")
def main():
    """`main(argv)` of realtime/Main_Decode.py."""
    spec = importlib.util.spec_from_file_location("main_decode", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def session(main, tmp_path):
    """Run a session in this process and return its folder's content."""

    def run(path, *arguments):
        code = main(["--recording", str(path), "--out", str(tmp_path), "--subject", "s1", *map(str, arguments)])
        folder = sorted((tmp_path / "s1").iterdir())[-1]
        return read_session(folder, code)

    return run


def read_session(folder, code=0):
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return SimpleNamespace(
        code=code,
        folder=folder,
        events=[json.loads(line) for line in lines],
        summary=json.loads((folder / "summary.json").read_text(encoding="utf-8")),
        about=json.loads((folder / "session.json").read_text(encoding="utf-8")),
    )


def of(result, event):
    """The events of one kind."""
    return [e for e in result.events if e["event"] == event]


def timeless(folder):
    """The log as a table without its wall-clock columns."""
    rows = [line.split("\t") for line in (folder / "log.tsv").read_text(encoding="utf-8").splitlines()]
    first = next(i for i, name in enumerate(rows[0]) if name.startswith("wall_"))
    return [row[:first] for row in rows]


@pytest.fixture
def command(tmp_path):
    """Run the script as a user does; return the finished process."""

    def run(*arguments, **kwargs):
        return subprocess.run(
            [sys.executable, str(SCRIPT), "--out", str(tmp_path / "out"), *map(str, arguments)],
            capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, **kwargs,
        )  # fmt: skip

    return run
