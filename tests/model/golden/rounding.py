"""How far rounding alone moves three training steps of a golden case: the figures behind its tolerances.

    python -m tests.model.golden.rounding REMSISD           (float32, the batch in several orders)
    python -m tests.model.golden.rounding REMSISD float64

The order of a batch changes nothing but the order of summation, as another processor or another number of
threads does. Printed are the deviations from the figures of the original.
"""

import sys

import keras
import numpy as np

from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.model.networks.ensemble import Ensemble
from sleep_interpreter.train.engine.member_trainer import MemberTrainer
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils.core import config
from tests.model.golden import reference
from tests.model.golden.test_golden import CASES, inputs_of


def main(key, kind="float32"):
    """Take the three steps in some orders of the batch, and print a line for each."""
    keras.config.set_floatx(kind)
    name, mode, _, _ = CASES[key]
    golden = reference.figures(key)
    trainer = MemberTrainer(config.load(Experiment, name, mode=mode), dropout=0.0, compiled=False)
    inputs = inputs_of(key, golden["seed_train"], golden["B_train"])
    for seed in range(6):
        trainer.optimizer.reset()
        checkpoint.load_published(Ensemble([trainer.member], name, mode), reference.weights(key))
        count = len(inputs[-1])
        order = np.random.default_rng(seed - 1).permutation(count) if seed else np.arange(count)
        losses = [float(trainer.step(tuple(x[order] for x in inputs))[0]) for _ in range(3)]
        named = checkpoint.member_variables(trainer.member)
        values = [named[n].numpy() for n in golden["var_names"]]
        norm = np.abs([np.linalg.norm(v) for v in values] / golden["var_norm_after3"] - 1).max()
        mean = np.abs([v.mean() for v in values] - golden["var_mean_after3"]).max()
        relative = np.array(losses) / golden["train_losses"] - 1
        print(f"{kind}, order {seed}: losses {relative}, norms {norm:.1e}, means {mean:.1e}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
