"""The published class loss against the corrected one, on a simulated cohort: does the correction help?

The original applies a softmax cross-entropy to outputs that are already probabilities (`published`); `logits`
is the cross-entropy proper. Both train the same small networks from the same initial weights on the same
trials in the same order for the same number of steps, once a seed; unseen subjects are decoded after the last
epoch (the published rule). Simulated data: the answer is about training, not about people.

Writes    data/simulated/class_loss (0.9 GB); results/class_loss/summary.json, curve.csv, accuracy.png and a
          folder a training
Tests     over the unseen subjects, each one's accuracy being its mean over seeds; two-sided
Stop it whenever you like: the same command goes on where it was.

  python -m benchmarks.decoding.class_loss
"""

import logging
import sys
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from benchmarks import runner
from sleep_interpreter.train.settings import experiment
from sleep_interpreter.utils.core import command_line, config, provenance
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import PROJECT, ROOT, display_path

log = logging.getLogger(__name__)

KIND = "simulated"


class Network(config.Settings):
    """One network to train with both losses."""

    mode: str | None = None
    change: dict[str, Any] = Field({})


class ClassLossSettings(config.Settings):
    """Settings of the study (params/class_loss_study.yaml)."""

    data: str
    cohort: dict[str, Any]
    """Settings of the simulation that differ from its preset demo."""
    losses: tuple[Literal["published", "logits"], Literal["published", "logits"]]
    """The difference is the second's accuracy minus the first's."""
    seeds: tuple[int, ...] = Field(min_length=1)
    networks: dict[str, Network] = Field(min_length=1)
    looks: tuple[PositiveInt, ...] = ()
    change: dict[str, Any] = Field({})
    """Settings of every experiment that differ from params/."""

    def experiment(self, network, loss, seed):
        """Return the `Experiment` of one training."""
        change = config.flat(self.change) | config.flat(self.networks[network].change)
        change |= {
            "data.root": self.data,
            "model.class_loss": loss,
            "train.seed": seed,
            "train.keep_epochs": change["train.epochs"],
        }
        mode = self.networks[network].mode
        return config.load(experiment.Experiment, network, overrides=runner.overrides(change), mode=mode)


def measure(study, folder, restart=False):
    """Simulate, train, test and compare; write everything and return the summary.

    Parameters
    ----------
    study : ClassLossSettings
    folder : Path
    restart : bool
        Forget trained networks.

    Returns
    -------
    summary : dict
        As in summary.json.
    """
    from sleep_interpreter.data.formats.fingerprints import fingerprint
    from sleep_interpreter.data.formats.test_trials import read_test_subjects
    from sleep_interpreter.data.simulation.dataset import write_dataset
    from sleep_interpreter.data.simulation.settings import load_settings
    from sleep_interpreter.utils.metrics.statistics import chances

    _check(study)
    root = ROOT / study.data
    try:
        write_dataset(load_settings("demo", runner.overrides(study.cohort)), root)
    except UserError as error:
        raise UserError(f"{error} (of this command: --set data=DIR)") from None
    subjects = read_test_subjects(root, "N2N3")
    networks, curve = {}, []
    for network in study.networks:
        correct = {loss: [] for loss in study.losses}
        trials, notes = _training_data(study, network, root)
        looker = _Looker(study, network, subjects)
        for seed in study.seeds:
            for loss in study.losses:
                settings = study.experiment(network, loss, seed)
                name = f"{network}_{loss}_seed_{seed}"
                path = _train(settings, study.networks[network].mode, trials, notes, folder / name, restart)
                predictions = _test(settings, study.networks[network].mode, path, subjects, folder, name)
                correct[loss].append(predictions)
                curve += looker.curve(folder / name / "training", settings, loss, seed)
        networks[network] = {
            "mode": study.networks[network].mode or "normal",
            "training_trials": len(trials),
            "steps": settings.train.epochs * -(-len(trials) // settings.train.batch_size),
            **_compared(study, correct, [s.name for s in subjects], settings.evaluate),
        }
    summary = {
        "study": f"class loss {study.losses[1]} against {study.losses[0]} ({KIND} cohort)",
        "simulated": True,
        "measure": f"top-1 of {len(published().items)} on unseen subjects after the last epoch",
        "chance": chances(len(published().items))["top1"],
        "seeds": list(study.seeds),
        "subjects": {"train": len(trials.subjects), "test": len(subjects)},
        "networks": networks,
        "method": "accuracy of a subject: mean over seeds; interval: 95 %, Student's t over subjects "
        "(trials those of all seeds together); tests: two-sided over subjects, Wilcoxon signed-rank and "
        "sign flips",
        "data": display_path(root),
        "data_fingerprint": fingerprint([s.file for s in subjects]),
        "settings": study.model_dump(mode="json"),
        "provenance": provenance.record(),
    }
    _write(summary, networks, curve, folder)
    return summary


def _check(study):
    if study.losses[0] == study.losses[1]:
        raise UserError(f"losses: {study.losses[0]} twice; there is nothing to compare")
    epochs = config.flat(study.change).get("train.epochs")
    if not isinstance(epochs, int):
        raise UserError("change.train.epochs is missing; both losses need the same number of steps")
    for network in study.networks:  # refuses what cannot be built before anything is simulated
        study.experiment(network, study.losses[0], study.seeds[0])


def _training_data(study, network, root):
    from sleep_interpreter.data.formats.fingerprints import fingerprint
    from sleep_interpreter.data.formats.training_trials import TrainingTrials

    settings = study.experiment(network, study.losses[0], study.seeds[0])
    trials = TrainingTrials(root, settings.stage, awake=settings.model.awake)
    notes = {
        "data": display_path(root), "data_fingerprint": fingerprint(trials.files), "simulated": trials.simulated,
        "training_subjects": sorted(trials.subjects), "training_trials": len(trials),
    }  # fmt: skip
    return trials, notes


def _train(settings, mode, trials, notes, folder, restart):
    from sleep_interpreter.train.engine import loop

    return loop.train(settings, trials, folder / "training", mode, notes, options=loop.Options(restart=restart))


def _test(settings, mode, path, subjects, folder, name):
    """Test one network as test scripts do; return {subject: (label, correct)}."""
    from sleep_interpreter.train.commands import test as scripts_test
    from sleep_interpreter.train.evaluation import decoder_report

    parser = command_line.experiment_parser("", checkpoint=True)
    args = parser.parse_args(["--checkpoint", str(path), "--results", str(folder)])
    root = PROJECT / settings.data.root
    network, _, notes = scripts_test.open_checkpoint(settings, args, mode, root, subjects)
    predictions = decoder_report.predict_subjects(network, subjects, settings.evaluate.batch_size)
    decoder_report.report(predictions, folder / name, name, settings.evaluate, notes)
    return {p.subject: (p.label, p.decoded == p.label) for p in predictions}


class _Looker:
    """Decodes the unseen subjects with the weights kept after some epochs: one network for all of them."""

    def __init__(self, study, network, subjects):
        self.study, self.name, self.subjects, self.network = study, network, subjects, None

    def curve(self, folder, settings, loss, seed):
        """Return one row an epoch: network, loss, seed, epoch, top1 (mean over subjects)."""
        from sleep_interpreter.model import registry
        from sleep_interpreter.model.checkpoints import checkpoint
        from sleep_interpreter.utils.model import predict

        if self.network is None:
            self.network = registry.build_ensemble(settings.model, 1, self.name)
        rows = []
        for epoch in sorted({e for e in self.study.looks if e < settings.train.epochs} | {settings.train.epochs}):
            path = folder / "epochs" / f"member_0_epoch_{epoch - 1:04d}.npz"
            checkpoint.load_published(self.network, checkpoint.read_arrays(path)[1])
            size = settings.evaluate.batch_size
            hits = [
                float(np.mean(predict(self.network, s.sleep, size).argmax(axis=1) == s.label)) for s in self.subjects
            ]
            rows.append({"network": self.name, "loss": loss, "seed": seed, "epoch": epoch,
                         "top1": float(np.mean(hits))})  # fmt: skip
        return rows


def _compared(study, correct, subjects, settings):
    """Return both losses' accuracies and their paired difference, each subject with all seeds together."""
    from sleep_interpreter.utils.metrics import statistics

    pooled = {
        loss: [tuple(np.concatenate([run[s][k] for run in runs]) for k in (0, 1)) for s in subjects]
        for loss, runs in correct.items()
    }
    first, second = (pooled[loss] for loss in study.losses)
    chance = statistics.chances(len(published().items))["top1"]
    rows = {
        loss: {
            **statistics.over_subjects([hit for _, hit in own], chance),
            "by_subject": {s: float(hit.mean()) for s, (_, hit) in zip(subjects, own, strict=True)},
            "by_seed": [float(np.mean([run[s][1].mean() for s in subjects])) for run in correct[loss]],
        }
        for loss, own in pooled.items()
    }
    found = statistics.paired(second, first, settings.permutations, settings.seed)
    by_seed = np.subtract(*(rows[loss]["by_seed"] for loss in reversed(study.losses))).tolist()
    return {"losses": rows, "difference": {**found, "by_seed": by_seed}}


def _write(summary, networks, curve, folder):
    import pandas as pd

    from sleep_interpreter.train.evaluation.decoder_report import write_csv
    from sleep_interpreter.utils.plots import decoding as plots

    rows, seeds = {}, len(summary["seeds"])
    for network, own in networks.items():
        for loss, row in own["losses"].items():
            rows[f"{network} {loss}"] = {**row, "n": row["n"] // seeds}
    values = {name: row["by_subject"] for name, row in rows.items()}
    plots.compared_runs(values, rows, folder / "accuracy.png", "top-1", f"class loss, {seeds} seeds", KIND)
    write_csv(folder / "curve.csv", [pd.DataFrame(curve)])
    means = pd.DataFrame(curve).groupby(["network", "loss", "epoch"])["top1"].mean()
    summary["curve"] = [{"network": n, "loss": c, "epoch": int(e), "top1": float(t)} for (n, c, e), t in means.items()]
    provenance.write_json(folder / "summary.json", summary)


def table(summary):
    """Return the summary as lines for a terminal."""
    lines = [f"{summary['study']}: {summary['measure']}, chance {summary['chance']:.4f}"]
    for network, own in summary["networks"].items():
        lines.append(f"  {network} ({own['mode']}): {own['training_trials']} trials, {own['steps']} steps")
        for loss, row in own["losses"].items():
            seeds = ", ".join(f"{value:.3f}" for value in row["by_seed"])
            lines.append(
                f"    {loss:<10} {row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]  "
                f"{row['subjects']} subjects, n = {row['n'] // len(row['by_seed'])} trials, seeds {seeds}"
            )
        d = own["difference"]
        lines.append(
            f"    difference {d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]  Wilcoxon p = "
            f"{d['wilcoxon_p']:.3g}, sign flips p = {d['sign_flip_p']:.3g} (smallest possible "
            f"{d['smallest_p']:.3g})"
        )
        for loss in own["losses"]:
            points = [r for r in summary["curve"] if (r["network"], r["loss"]) == (network, loss)]
            lines.append(f"    {loss:<10} by epoch: " + ", ".join(f"{r['epoch']}: {r['top1']:.3f}" for r in points))
    return lines


def run(study, folder, args):
    """Run the study; return its table."""
    return table(measure(study, folder, args.restart))


main = runner.command(
    __doc__, "class_loss", run, schema=ClassLossSettings, params="class_loss_study",
    arguments=runner.add_restart, tensorflow=True,
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(command_line.run(main))
