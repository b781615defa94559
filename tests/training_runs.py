"""Small simulated cohorts, small trainings and real kills, for the tests of the training scripts."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Sums are bit-identical for one number of threads only: the tests' process takes the scripts' own.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))

SMALL = [
    "--quick", "--set", "model.stem.filters=8", "--set", "model.stem.dilations=[1]",
    "--set", "model.d_model=8", "--set", "model.sleep_encoder.ffn=8",
]  # fmt: skip
"""A network that compiles in seconds."""


def call(script, *arguments):
    """Run a script in this process and return its exit code."""
    from sleep_interpreter.utils.core import command_line

    main = runpy.run_path(str(ROOT / script))["main"]
    return command_line.run(main, [str(argument) for argument in arguments])


def simulate(folder):
    """Simulate the NREM trials of the preset `test` (4 training and 2 test subjects)."""
    none = ("cohort.rem_trials", "cohort.so_trials", "staging.train_subjects", "staging.test_subjects")
    less = ["recording.stages=[[W, 1.0]]", *(f"{key}=0" for key in none)]
    options = [word for setting in less for word in ("--set", setting)]
    assert call("data/simulate.py", "--preset", "test", "--out", folder, *options) == 0
    return folder


def start(script, *arguments, **environment):
    """Start a script as a process of its own."""
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


KILLED = """
import importlib, os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
sys.path.insert(0, {root!r})
from sleep_interpreter.utils.core import command_line, tensorflow_import
tensorflow_import.import_tensorflow()
for module, name, value in {settings!r}:
    setattr(importlib.import_module(module), name, value)
*module, name = {where!r}
owner = importlib.import_module(module[0])
for part in module[1:]:
    owner = getattr(owner, part)
method, calls = getattr(owner, name), 0

def deadly(*args, **kwargs):
    global calls
    calls += 1
    if calls == {nth} and {before}:
        os.kill(os.getpid(), {number})
    method(*args, **kwargs)
    if calls == {nth}:
        os.kill(os.getpid(), {number})

setattr(owner, name, deadly)
sys.exit(command_line.run(runpy.run_path({script!r})["main"], {arguments!r}))
"""


def kill_at(where, script, *arguments, nth=1, before=False, settings=(), number=signal.SIGKILL):
    """Run a script that gets a signal at the nth call of a method: right before it, or right after it.

    Parameters
    ----------
    where : (module, class, method)
    settings : sequence of (module, name, value)
        Module constants changed in that process.
    number : signal.Signals
        SIGKILL, or SIGINT, after which the script must end by itself with code 130.
    """
    code = KILLED.format(
        root=str(ROOT), where=where, nth=nth, before=before, settings=list(settings), number=int(number),
        script=str(ROOT / script), arguments=[str(a) for a in arguments],
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == (130 if number == signal.SIGINT else -number), done.stderr
    return done.stderr


def arrays(path):
    """Return {name: array} of an .npz file without its header."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files if name != "header.json"}


def same(one, other):
    """Tell whether two .npz files hold the same names and bits (headers aside)."""
    one, other = arrays(one), arrays(other)
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def last_line(stderr):
    return stderr.strip().splitlines()[-1]


def one_sentence(stderr, *words):
    """Assert that a script ended with one error line that holds all words."""
    last = last_line(stderr)
    assert last.startswith("error: ") and "Traceback" not in stderr, stderr
    assert stderr.count("error: ") == 1, stderr
    missing = [word for word in words if word not in last]
    assert not missing, f"{missing} not in: {last}"


def scalars(folder):
    """Return {name: [(step, value), ...]} of the TensorBoard events in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: [(e.step, float(_number(e.tensor_proto))) for e in events.Tensors(tag)] for tag in events.Tags()["tensors"]
    }


def _number(proto):
    import tensorflow as tf

    return tf.make_ndarray(proto)


def corrupted(cohort, root):
    """Copy the sleep trials; damage one record a file, the last one to the end of its file.

    Returns {file name: (record, what a message says)}.
    """
    from sleep_interpreter.data.formats.tfrecords import Field, RecordFile, sleep_schema, write_records
    from sleep_interpreter.utils.core.data_card import published

    folder = root / "SI Main Train_tfrecords" / "N2N3"
    shutil.copytree(cohort / "SI Main Train_tfrecords" / "N2N3", folder, ignore=shutil.ignore_patterns("Whole*"))
    shutil.copytree(cohort / "SI Main Test", root / "SI Main Test")
    shutil.copy(cohort / "simulation.json", root)
    files = sorted(folder.iterdir())
    # One that a careless user put among the training files though he is a test subject.
    files[3] = files[3].rename(folder / "sleep_subject_test_0.tfrecord")

    sleep = sleep_schema(published())

    def rewrite(file, record, change, schema=sleep):
        stored = RecordFile(file, sleep)
        trials = [dict(stored.read(i)) for i in range(len(stored))]
        trials[record] = change(trials[record])
        parts = [root / f"part_{i}" for i in range(len(trials))]
        for index, (part, trial) in enumerate(zip(parts, trials, strict=True)):
            write_records(part, schema if index == record else sleep, [trial], simulated=True)
        file.write_bytes(b"".join(part.read_bytes() for part in parts))
        for part in parts:
            part.unlink()

    def with_nan(trial):
        eeg = trial["feature_Sleep_EEG"].copy()
        eeg[7, 100] = np.nan
        return {**trial, "feature_Sleep_EEG": eeg}

    def two_items(trial):
        label = np.zeros(15, np.float32)
        label[[2, 5]] = 1
        return {**trial, "category_name": label}

    def fewer_channels(trial):
        return {**trial, "feature_Sleep_EEG": trial["feature_Sleep_EEG"][:54].copy()}

    rewrite(files[0], 3, with_nan)
    rewrite(files[1], 5, two_items)
    rewrite(files[2], 7, fewer_channels, {**sleep, "feature_Sleep_EEG": Field((54, 200), np.float32)})
    size = RecordFile(files[3], sleep).size(0)
    flipped = bytearray(files[3].read_bytes())
    flipped[2 * size + 5000] ^= 0xFF  # inside the payload of record 2
    files[3].write_bytes(bytes(flipped[: 28 * size + 400]))  # and the last two are cut off
    return {
        files[0].name: (3, "1 of 11000 values are NaN or infinite"),
        files[1].name: (5, "expected a one-hot label"),
        files[2].name: (7, "expected shape (55, 200), found (54, 200)"),
        files[3].name: (2, "fails its checksum"),
    }
