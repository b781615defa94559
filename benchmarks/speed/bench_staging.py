"""The stager's part of `make bench`: training and prediction of SIStaging at published size.

Floating-point operations are those of its convolutions, LSTM and dense layers: 1.65 GFLOP a window forward,
three times as much for a training step. They are counted from the settings by `forward_gflop`.
"""

import time

import numpy as np

from benchmarks.speed.timing import best_seconds
from sleep_interpreter.utils.core import config


def forward_gflop(settings):
    """Return the GFLOP of one window through one member: two operations a multiplication with its sum.

    Parameters
    ----------
    settings : sleep_interpreter.model.SIStaging.settings.StagerSettings
    """
    s = settings
    time_steps = -(-s.samples // s.stride)
    block = s.block_filters
    inner = [(10, s.branch_filters)] + [(5, block)] * 3
    branches = sum(
        time_steps * (kernel * s.channels * s.branch_filters + sum(k * filters * block for k, filters in inner))
        for kernel in s.kernels
    )
    maps, width = len(s.kernels) * block, s.map_filters
    stacks = maps * (10 * time_steps + 20 * width + 4 * 9 * width) * width
    pooled = -(-width // 7)
    series = pooled * s.pool_filters[0] * 7 * maps
    before = s.pool_filters[0]
    for filters in s.series_filters:
        series, before = series + pooled * 3 * before * filters, filters
    steps = -(-pooled // 5)
    end = steps * (5 * s.pool_filters[0] * s.pool_filters[1] + 4 * s.lstm * (s.lstm + s.pool_filters[1]))
    return 2e-9 * (branches + stacks + series + end + s.lstm * s.dense + s.dense * s.classes)


def _experiment():
    from sleep_interpreter.train.settings.experiment import Experiment

    return config.load(Experiment, "SIStaging")


def random_windows(count, seed=0):
    """Return random windows (count, 3, 15000) and one-hot stages (count, 4)."""
    random = np.random.default_rng(seed)
    label = np.eye(4, dtype=np.float32)[random.integers(4, size=count)]
    return random.standard_normal((count, 3, 15000), np.float32), label


def training(batch=16):
    """Return GFLOP/s of training one member, and the seconds of the first step."""
    from sleep_interpreter.train.engine.member_trainer import MemberTrainer

    experiment = _experiment()
    trainer, inputs = MemberTrainer(experiment), random_windows(batch)
    start = time.perf_counter()
    trainer.step(inputs)
    first = time.perf_counter() - start
    seconds = best_seconds(lambda: float(trainer.step(inputs)[0]), 5)
    rate = 3 * forward_gflop(experiment.model) * batch / seconds
    return {"rate": rate, "first_step_seconds": first, "windows": batch / seconds}


def prediction(members):
    """Return GFLOP/s and seconds of one window through the ensemble, and the first call's seconds."""
    from sleep_interpreter import model

    network = model.build("SIStaging", members=members)
    window = random_windows(1)[0]
    start = time.perf_counter()
    network.predict_proba(window)
    first = time.perf_counter() - start
    seconds = best_seconds(lambda: network.predict_proba(window), 25)
    rate = members * forward_gflop(network.settings) / seconds
    return {"rate": rate, "seconds": seconds, "first": first}


MEASUREMENTS = {
    "staging-training": training,
    "staging-prediction-1": lambda: prediction(1),
    "staging-prediction-6": lambda: prediction(6),
}


def add_rows(table, beside_matmul):
    """Measure and add the stager's rows.

    Parameters
    ----------
    table : benchmarks.speed.bench.Table
    beside_matmul : callable
        Name of a measurement to (what it gives, the machine's rate of multiplication around it).
    """
    train, rate = beside_matmul("staging-training")
    table.add("train SIStaging, one member, B = 16", train["rate"], "GFLOP/s", rate)
    one, rate_one = beside_matmul("staging-prediction-1")
    six, rate_six = beside_matmul("staging-prediction-6")
    table.add("stage one window, 1 member", one["rate"], "GFLOP/s", rate_one)
    table.add("stage one window, 6 members", six["rate"], "GFLOP/s", rate_six)
    name = "6 stagers against 1, time a window"
    table.add(name, six["seconds"] * 1e3, "ms", one["seconds"] * 1e3, 7, most=True)
    table.add("6 stagers against 1, first call", six["first"], "s", one["first"], 1.7, most=True)
    table.add("training of SIStaging, first step (compiling)", train["first_step_seconds"], "s", None)
