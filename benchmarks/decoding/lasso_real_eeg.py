"""The Lasso GLM on real EEG: `make lasso-real`, or `python -m benchmarks.decoding.lasso_real_eeg`.

FingerMovements (see fingermovements.py): one person, awake, left or right key press, 0.5 s of EEG that end
0.13 s before the press; 316 trials to train on and 100 to test with, as published. The very model of
lasso_glm/, with the published penalty and scaling, on the EEG as it is stored; no setting was tried but
these. The time sample is chosen by five folds inside the training part; the test part is looked at once.
"""

import sys

import numpy as np
import pandas as pd

from benchmarks.decoding import fingermovements
from sleep_interpreter.lasso_glm.engine import settings as lasso_settings
from sleep_interpreter.lasso_glm.engine.fits import folds_of, within
from sleep_interpreter.model.lasso_glm import TimeResolvedLassoGLM
from sleep_interpreter.train.settings.experiment import results_root
from sleep_interpreter.utils.core import command_line, provenance
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.metrics import statistics
from sleep_interpreter.utils.plots import lasso as plots_lasso

NAME = "lasso_fingermovements"
SECONDS_BEFORE = 0.63
"""A trial's first sample lies this long before the key press."""


def measure(settings):
    """Return the summary, the table over time and the patterns (T, K, C) of the real trials."""
    train, channels = fingermovements.read(fingermovements.find("TRAIN"))
    test, _ = fingermovements.read(fingermovements.find("TEST"))
    classes = len(fingermovements.CLASSES)
    folds = folds_of(len(train), settings.folds, settings.seed, NAME)
    inside = within(train.eeg, train.label, folds, classes, **settings.glm)
    cross_validated = (inside["hits"].sum(axis=0) + inside["validation_hits"].sum(axis=0)) / (2 * len(train))
    best = int(cross_validated.argmax())
    glm = TimeResolvedLassoGLM(classes=classes, **settings.glm).fit(train.eeg, train.label)
    hits = (glm.predict(test.eeg) == test.label[:, None]).sum(axis=0)
    rows = [statistics.proportion(int(h), len(test), 1 / classes) for h in hits]
    times = np.round(np.arange(len(hits)) / fingermovements.RATE - SECONDS_BEFORE, 4)
    table = pd.DataFrame({"time": times, "cross_validated": cross_validated, "n": len(test)})
    for key in ("accuracy", "low", "high"):
        table[key] = [row[key] for row in rows]
    summary = {
        "experiment": NAME,
        "data": "real: FingerMovements, one person, awake, left or right key press",
        "channels": list(channels),
        "training_trials": len(train),
        "time": float(times[best]),
        "time_chosen_by": f"{settings.folds} folds of the training trials: {cross_validated[best]:.4f}",
        "test": rows[best],
        "largest_residual": float(glm.residual_.max()),
        "settings": settings.model_dump(mode="json"),
        "provenance": provenance.record(),
    }
    return summary, table, glm.patterns(train.eeg)[best]


def main(argv=None):
    """Measure, print and write results/lasso_fingermovements/."""
    arguments = command_line.experiment_parser(__doc__)
    args = arguments.parse_args(argv)
    settings = lasso_settings.read(args)
    summary, table, patterns = measure(settings)
    folder = results_root(args) / NAME
    provenance.write_json(folder / "summary.json", summary)
    with atomic_write(folder / "accuracy.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    row, title = summary["test"], "Lasso GLM, FingerMovements"
    curve = {
        "times": table["time"].to_numpy(),
        "mean": table["accuracy"].to_numpy(),
        "interval": (table["low"].to_numpy(), table["high"].to_numpy()),
        "mask": np.zeros(len(table), bool),
        "subjects": 1,
        "n": row["n"],
        "chance": row["chance"],
    }
    path = folder / "accuracy.png"
    plots_lasso.accuracy_over_time(curve, path, "key press", title, "real", "95 %, Wilson, every sample of its own")
    plots_lasso.patterns(
        patterns, fingermovements.CLASSES, folder / "patterns.png", summary["time"], 1, title, "real",
        summary["channels"],
    )  # fmt: skip
    command_line.say(
        f"real FingerMovements, Lasso GLM at {summary['time']:.2f} s (chosen on training trials): "
        f"{100 * row['accuracy']:.1f} % ({100 * row['low']:.1f} to {100 * row['high']:.1f}), "
        f"n = {row['n']} test trials, chance {100 * row['chance']:.0f} %, p = {row['p']:.2g}",
        f"written: {folder}",
    )


if __name__ == "__main__":
    sys.exit(command_line.run(main))
