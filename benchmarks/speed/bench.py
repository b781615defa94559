"""`make bench`: speed as a share of what this machine's own matrix multiplication reaches in the same run.

Seconds mean little on a shared or unknown machine; ratios measured side by side do. Floating-point
operations are those of the published sizes: 19.9 GFLOP a trial for a training step of N23SIMD, 5.29 GFLOP
for its sleep path forward, 4.35 GFLOP in retrained mode. Every measurement has a process of its own; the
multiplication is measured before and after each with all cores, and the faster one counts.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.speed import bench_hashing, bench_lasso, bench_staging
from benchmarks.speed.timing import best_seconds
from sleep_interpreter.utils.core import command_line, config, provenance, tensorflow_import
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import RESULTS, ROOT, display_path

TRAINING_GFLOP, RETRAINED_GFLOP = 19.9, 4.35


def random_batch(count, seed=0):
    """Return random image, audio, sleep EEG and one-hot labels of published shapes."""
    random = np.random.default_rng(seed)
    shapes = [(count, 80, 55), (count, 80, 55), (count, 200, 55)]
    eeg = [random.standard_normal(shape, np.float32) for shape in shapes]
    return (*eeg, np.eye(15, dtype=np.float32)[random.integers(15, size=count)])


def matmul():
    """Return this machine's float32 rate in GFLOP/s: 2048 x 2048 matrices, the same library."""
    import tensorflow as tf

    a = tf.random.stateless_normal((2048, 2048), (1, 2))
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)))
    return {"rate": 2 * 2048**3 / 1e9 / best_seconds(lambda: multiply().numpy(), 20)}


def training(batch=16):
    """Return GFLOP/s of training one full-size N23SIMD member."""
    trainer, inputs = _trainer(), random_batch(batch)
    start = time.perf_counter()
    trainer.step(inputs)
    first = time.perf_counter() - start
    seconds = best_seconds(lambda: float(trainer.step(inputs)[0]), 8)
    return {"rate": TRAINING_GFLOP * batch / seconds, "first_step_seconds": first}


def _trainer():
    from sleep_interpreter.train.engine.member_trainer import MemberTrainer
    from sleep_interpreter.train.settings.experiment import Experiment

    return MemberTrainer(config.load(Experiment, "N23SIMD"))


def memory(batch=64):
    """Return the resident memory of full-size training of one member at its highest, in GB."""
    trainer, inputs = _trainer(), random_batch(batch)
    for _ in range(2):
        float(trainer.step(inputs)[0])
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"gigabytes": highest * (1 if sys.platform == "darwin" else 1024) / 1e9}


def prediction(members):
    """Return GFLOP/s and seconds of single-trial prediction with retrained members, and the first call's."""
    from sleep_interpreter import model

    network = model.build("N23SIMD", members=members, mode="retrained")
    sleep = random_batch(1)[2]
    start = time.perf_counter()
    network.predict_proba(sleep)
    first = time.perf_counter() - start
    seconds = best_seconds(lambda: network.predict_proba(sleep), 25)
    return {"rate": members * RETRAINED_GFLOP / seconds, "seconds": seconds, "first": first}


def reading(count=200):
    """Return trials/s of the input pipeline alone, on TFRecords it writes first."""
    from sleep_interpreter.data.formats.training_trials import TrainingTrials

    with tempfile.TemporaryDirectory() as folder:
        write_random_records(Path(folder), count)
        trials = TrainingTrials(folder)
        seconds = best_seconds(lambda: [len(b["label"]) for b in trials.batches(16, seed=0, epoch=0)], 3)
    return {"rate": count / seconds}


def write_random_records(root, count):
    """Write `count` random records in the published layout under `root`."""
    from sleep_interpreter.data.formats.tfrecords import whole_schema, write_records
    from sleep_interpreter.utils.core.data_card import published

    random, schema = np.random.default_rng(0), whole_schema(published())

    def record():
        eeg = {k: random.standard_normal(f.shape, f.dtype) for k, f in schema.items() if k != "category_name"}
        return {**eeg, "category_name": np.eye(15, dtype=np.float32)[random.integers(15)]}

    path = root / "SI Main Train_tfrecords" / "N2N3" / "Whole_subject_0.tfrecord"
    path.parent.mkdir(parents=True)
    write_records(path, schema, (record() for _ in range(count)))


MEASUREMENTS = {
    "matmul": matmul,
    "training": training,
    "memory": memory,
    "prediction-1": lambda: prediction(1),
    "prediction-5": lambda: prediction(5),
    "reading": reading,
    **bench_staging.MEASUREMENTS,
    "lasso": bench_lasso.measure,
    "hashing": bench_hashing.measure,
}


def measured(name):
    """Return what a measurement gives in a process of its own."""
    environment = dict(os.environ)
    if name == "matmul":  # the baseline may use every core for one product
        environment["TF_NUM_INTRAOP_THREADS"] = str(os.cpu_count() or 1)
    command = [sys.executable, "-m", "benchmarks.speed.bench", "--measure", name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"the measurement {name} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def beside_matmul(name):
    """Return a measurement and the higher of the two rates of multiplication around it."""
    before = measured("matmul")["rate"]
    found = measured(name)
    return found, max(before, measured("matmul")["rate"])


class Table:
    """Rows of the report, printed as they come: {name: {value, unit, baseline, ratio, target, holds}}."""

    def __init__(self):
        self.rows = {}

    def add(self, name, value, unit, baseline, target=None, most=False):
        """Add a row; `most`: the ratio is to be at most the target instead of at least."""
        ratio = value / baseline if baseline else None
        holds = None if target is None else bool(ratio <= target if most else ratio >= target)
        self.rows[name] = {
            "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "target": target,
            "holds": holds,
        }  # fmt: skip
        wanted = "" if target is None else f"  {'<=' if most else '>='} {target:<5} {'holds' if holds else 'NOT MET'}"
        beside = "" if ratio is None else f"{ratio:9.3f} of {baseline:.4g}{wanted}"
        print(f"  {name:<46} {value:9.4g} {unit:<9}{beside}", flush=True)


PARTS = ("decoders", "stager", "lasso", "hashing")


def measure(parts=PARTS):
    """Return {name: {value, unit, baseline, ratio, target, holds}} of these parts."""
    table = Table()
    print("  GFLOP/s are beside this machine's float32 matrix multiplication, 2048 x 2048")
    if "decoders" in parts:
        _decoders(table)
    if "stager" in parts:
        bench_staging.add_rows(table, beside_matmul)
    if "lasso" in parts:
        bench_lasso.rows(table, measured("lasso"))
    if "hashing" in parts:
        bench_hashing.rows(table, measured("hashing"))
    return table.rows


def _decoders(table):
    train, rate = beside_matmul("training")
    table.add("train N23SIMD, one member, B = 16", train["rate"], "GFLOP/s", rate, 0.65)
    one, rate_one = beside_matmul("prediction-1")
    five, rate_five = beside_matmul("prediction-5")
    table.add("predict one trial, retrained, 1 member", one["rate"], "GFLOP/s", rate_one)
    table.add("predict one trial, retrained, 5 members", five["rate"], "GFLOP/s", rate_five, 0.55)
    name = "5 members against 1, time a trial"
    table.add(name, five["seconds"] * 1e3, "ms", one["seconds"] * 1e3, 5.5, most=True)
    table.add("5 members against 1, first call", five["first"], "s", one["first"], 1.7, most=True)
    trials = train["rate"] / TRAINING_GFLOP
    table.add("read training trials, against training", measured("reading")["rate"], "trials/s", trials, 10)
    table.add("training, first step (compiling)", train["first_step_seconds"], "s", None)
    table.add("memory of training, one member, B = 64", measured("memory")["gigabytes"], "GB", None)


def main(argv=None):
    """Measure, print a table and write results/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=tuple(MEASUREMENTS), help="one measurement alone, as JSON")
    parser.add_argument("--only", choices=PARTS, help="one part of the table; nothing is written")
    args = parser.parse_args(argv)
    if args.measure:
        if args.measure not in ("lasso", "hashing"):  # the memory of the first is measured without it
            tensorflow_import.import_tensorflow()
        print(json.dumps(MEASUREMENTS[args.measure]()))
        return
    if args.only:
        measure((args.only,))
        return
    rows = measure()
    path = RESULTS / "bench.json"
    provenance.write_json(path, rows)
    print(f"written: {display_path(path)}")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
