"""Our AdamW beside Keras' own: is it the same step, and what does it cost?

Both step over all variables of one N23SIMD member (28.7 M numbers) with the same random gradients, compiled. Keras'
own is given weight_decay / learning_rate, since it multiplies the decay by the learning rate. Prints the largest
difference of any weight after three steps, and CPU seconds a step (median), whose ratio is what counts.

  python -m benchmarks.speed.optimizers
"""

import sys
import time
from statistics import median

import keras
import numpy as np
import tensorflow as tf

from benchmarks import runner
from sleep_interpreter.model import registry
from sleep_interpreter.train.engine.optimizer import AdamW
from sleep_interpreter.utils.core import command_line, provenance

LEARNING_RATE, DECAY = 1e-3, 1e-4


def run(settings, folder, args):
    """Measure both; return the lines."""
    values = [v.numpy() for v in registry.build("N23SIMD", members=1).individual_models[0].trainable_variables]
    random = np.random.default_rng(0)
    gradients = [tf.constant(random.standard_normal(v.shape).astype(np.float32)) for v in values]
    found = {}
    for name in ("ours", "keras"):
        variables = [keras.Variable(value) for value in values]
        step = tf.function(_step(name, variables, gradients))
        seconds = []
        for _ in range(3 + args.steps):
            began = time.process_time()
            step()
            seconds.append(time.process_time() - began)
            if len(seconds) == 3:
                after = [variable.numpy() for variable in variables]
        found[name] = {"cpu_seconds": median(seconds[3:]), "weights": after}
    apart = max(float(np.abs(a - b).max()) for a, b in zip(*(f.pop("weights") for f in found.values()), strict=True))
    ratio = found["keras"]["cpu_seconds"] / found["ours"]["cpu_seconds"]
    summary = {
        "numbers": sum(v.size for v in values),
        "largest_difference": apart,
        "keras_against_ours": ratio,
        **found,
    }
    provenance.write_json(folder / "optimizers.json", {**summary, "provenance": provenance.record()})
    return [f"{key:<20} {value}" for key, value in summary.items()]


def _step(name, variables, gradients):
    if name == "ours":
        optimizer = AdamW(variables, LEARNING_RATE, DECAY)
        return lambda: optimizer.apply(gradients)
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=DECAY / LEARNING_RATE)
    optimizer.build(variables)
    return lambda: optimizer.apply(gradients, variables)


def _arguments(parser):
    parser.add_argument("--steps", type=int, default=10, help="that are timed")


main = runner.command(__doc__, "optimizers", run, arguments=_arguments, tensorflow=True)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
