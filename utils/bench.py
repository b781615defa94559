"""`make bench`: speed as a share of what this machine's own matrix multiplication reaches in the same run.

Seconds mean little on a shared or unknown machine; ratios measured side by side do. Floating-point
operations are those of the published sizes: 19.9 GFLOP a trial for a training step of N23SIMD, 5.29 GFLOP
for its sleep path forward, 4.35 GFLOP in retrained mode.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from utils import cli, config, provenance, quiet
from utils.paths import RESULTS, shown

TRAINING_GFLOP, RETRAINED_GFLOP = 19.9, 4.35


def best_seconds(call, repeats=5):
    """Return the shortest of several timings of `call` after one call that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def matmul_rate():
    """Return this machine's float32 rate in GFLOP/s: 2048 x 2048 matrices, the same library."""
    import tensorflow as tf

    a = tf.random.stateless_normal((2048, 2048), (1, 2))
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)))
    return 2 * 2048**3 / 1e9 / best_seconds(lambda: multiply().numpy(), 10)


def random_batch(count, seed=0):
    """Return random image, audio, sleep EEG and one-hot labels of published shapes."""
    random = np.random.default_rng(seed)
    shapes = [(count, 80, 55), (count, 80, 55), (count, 200, 55)]
    eeg = [random.standard_normal(shape, np.float32) for shape in shapes]
    return (*eeg, np.eye(15, dtype=np.float32)[random.integers(15, size=count)])


def training_rate(batch=16):
    """Return GFLOP/s of training one full-size N23SIMD member."""
    from utils.experiment import Experiment
    from utils.trainer import MemberTrainer

    trainer = MemberTrainer(config.load(Experiment, "N23SIMD"))
    inputs = random_batch(batch)
    return TRAINING_GFLOP * batch / best_seconds(lambda: float(trainer.step(inputs)[0]))


def prediction_rate(members):
    """Return GFLOP/s and seconds of single-trial prediction with retrained members."""
    import model

    network = model.build("N23SIMD", members=members, mode="retrained")
    sleep = random_batch(1)[2]
    seconds = best_seconds(lambda: network.predict_proba(sleep), 10)
    return members * RETRAINED_GFLOP / seconds, seconds


def reading_rate(count=200):
    """Return trials/s of the input pipeline alone, on TFRecords it writes first."""
    from data.trials import TrainingTrials

    with tempfile.TemporaryDirectory() as folder:
        write_random_records(Path(folder), count)
        trials = TrainingTrials(folder)
        seconds = best_seconds(lambda: [len(b["label"]) for b in trials.batches(16, seed=0, epoch=0)], 3)
    return count / seconds


def write_random_records(root, count):
    """Write `count` random records in the published layout under `root`."""
    from data.tfrecords import WHOLE, write_records

    random = np.random.default_rng(0)

    def record():
        eeg = {k: random.standard_normal(f.shape, f.dtype) for k, f in WHOLE.items() if k != "category_name"}
        return {**eeg, "category_name": np.eye(15, dtype=np.float32)[random.integers(15)]}

    path = root / "SI Main Train_tfrecords" / "N2N3" / "Whole_subject_0.tfrecord"
    path.parent.mkdir(parents=True)
    write_records(path, WHOLE, (record() for _ in range(count)))


def measure():
    """Return {name: {value, unit, baseline, ratio, target, holds}}."""
    quiet.import_tensorflow()
    rows = {}

    def add(name, value, unit, baseline, target):
        ratio = value / baseline
        holds = None if target is None else bool(ratio >= target)
        row = {"value": value, "unit": unit, "baseline": baseline, "ratio": ratio}
        rows[name] = {**row, "target": target, "holds": holds}
        print(f"  {name:<44} {value:9.1f} {unit:<9} {ratio:7.3f} of {baseline:.1f}", flush=True)

    rate = matmul_rate()
    print(f"matrix multiplication: {rate:.0f} GFLOP/s float32 (the baseline of this run)", flush=True)
    training = training_rate()
    add("train N23SIMD, one member, B = 16", training, "GFLOP/s", rate, None)
    one, seconds_one = prediction_rate(1)
    add("predict one trial, retrained, 1 member", one, "GFLOP/s", rate, None)
    five, seconds_five = prediction_rate(5)
    add("predict one trial, retrained, 5 members", five, "GFLOP/s", rate, None)
    add("5 members against 1, time", seconds_five * 1e3, "ms", seconds_one * 1e3, None)
    add("read training trials", reading_rate(), "trials/s", training / TRAINING_GFLOP, None)
    return rows


def main(argv=None):
    """Measure, print a table and write results/bench.json."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    rows = measure()
    path = RESULTS / "bench.json"
    provenance.write_json(path, rows)
    print(f"written: {shown(path)}")


if __name__ == "__main__":
    sys.exit(cli.run(main))
