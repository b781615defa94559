"""Choice of settings for the study on real EEG, by cross-validation inside the training part alone."""

import json
import logging

import numpy as np
from tqdm import tqdm

from benchmarks.decoding import fingermovements
from sleep_interpreter.train.engine.loop import cross_entropy_and_hits
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils.core import config, provenance

log = logging.getLogger(__name__)


def folds(label, count, seed):
    """Return [(places to train on, places held out), ...] of stratified folds."""
    from sklearn.model_selection import StratifiedKFold

    split = StratifiedKFold(count, shuffle=True, random_state=seed).split(label[:, None], label)
    return [(np.sort(train), np.sort(held_out)) for train, held_out in split]


def experiment_of(study, candidate, loss, **more):
    """Return the `Experiment` of a candidate.

    Parameters
    ----------
    study : benchmarks.decoding.real_eeg.RealEegSettings
    candidate : benchmarks.decoding.real_eeg.Candidate
    loss : "published" | "logits"
    **more
        Settings by dotted name, with "__" for the dot: ``train__epochs=20``.
    """
    changed = {"model.class_loss": loss} | config.flat(study.change) | config.flat(candidate.change)
    changed |= {key.replace("__", "."): value for key, value in more.items()}
    overrides = [f"{key}={json.dumps(value)}" for key, value in changed.items()]
    return config.load(Experiment, study.experiment, overrides=overrides)


def choose_network(study, trials, loss, folder, notes):
    """Choose one of the candidates and its number of epochs; what was measured before is not measured again.

    Parameters
    ----------
    study : benchmarks.decoding.real_eeg.RealEegSettings
    trials : benchmarks.decoding.fingermovements.Trials
        The training part, as read.
    loss : "published" | "logits"
    folder : Path
        Keeps one JSON file a candidate.
    notes : dict
        What the measurement depends on besides the study ("data_fingerprint").

    Returns
    -------
    choice : dict
        candidate, epochs, accuracy, cross_entropy (over all held-out trials), and "table": a row for every
        candidate and number of epochs. The highest accuracy wins; ties: the lowest cross-entropy, then the
        earlier candidate, then fewer epochs.
    """
    table = []
    for name, candidate in study.chosen_from().items():
        settings = experiment_of(study, candidate, loss, train__epochs=max(study.epochs), members=1)
        for epoch, row in _measured(study, candidate, settings, trials, folder / f"{loss}_{name}.json", notes):
            table.append({"candidate": name, "epochs": epoch, **row})
    best = max(table, key=lambda row: (round(row["accuracy"], 12), -row["cross_entropy"]))
    log.info(
        "%s: chosen on the training part: %s, %d epochs (held-out accuracy %.3f)",
        loss, best["candidate"], best["epochs"], best["accuracy"],
    )  # fmt: skip
    return {**best, "table": table}


def _measured(study, candidate, settings, trials, path, notes):
    """Return [(epochs, {accuracy, cross_entropy})] of a candidate over all folds."""
    identity = {
        "settings": settings.model_dump(mode="json"),
        "candidate": candidate.model_dump(mode="json", exclude={"change"}),
        "folds": study.folds, "fold_seed": study.fold_seed, **notes,
    }  # fmt: skip
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    results = kept.get("results", []) if kept.get("identity") == identity else []
    splits = folds(trials.label, study.folds, study.fold_seed)
    if len(results) < len(splits):
        from sleep_interpreter.train.engine.member_trainer import MemberTrainer

        trainer = MemberTrainer(settings)
        for number, (train, held_out) in list(enumerate(splits))[len(results) :]:
            parts = [trials.some(train), trials.some(held_out)]
            train, held_out = (
                fingermovements.prepared(part, candidate.reference, candidate.scale, parts[0]) for part in parts
            )
            name = f"{path.stem}, fold {number + 1}/{len(splits)}"
            results.append(_fold(trainer, number, train, held_out, settings, name))
            provenance.write_json(path, {"identity": identity, "results": results})
    else:
        log.info("%s: measured before", path)
    return [(epochs, _pooled(results, epochs)) for epochs in study.epochs]


def _fold(trainer, number, train, held_out, settings, name):
    """Train one member; return hits and summed cross-entropy on the held-out trials after each epoch."""
    trainer.start(number)
    size, seed = settings.train.batch_size, settings.train.seed
    eeg = held_out.eeg.astype(np.float32)
    rows = []
    with tqdm(total=settings.train.epochs * len(train), desc=name, unit="trial") as bar:
        for epoch in range(settings.train.epochs):
            batches = train.batches(size, seed=seed, epoch=epoch)
            trainer.epoch(((batch["sleep"], batch["label"]) for batch in batches), bar)
            predicted = trainer.predict(eeg, settings.evaluate.batch_size)
            loss, hit = cross_entropy_and_hits(predicted, held_out.label)
            rows.append({"hits": int(hit.sum()), "cross_entropy": float(loss.sum())})
    return {"n": len(held_out), "epochs": rows}


def _pooled(results, epochs):
    n = sum(result["n"] for result in results)
    rows = [result["epochs"][epochs - 1] for result in results]
    return {
        "accuracy": sum(row["hits"] for row in rows) / n,
        "cross_entropy": sum(row["cross_entropy"] for row in rows) / n,
    }


def window_means(trials, samples):
    """Return features (n, T // samples * C): each channel averaged over windows of so many samples."""
    count, length, channels = trials.eeg.shape
    kept = length // samples * samples
    windows = trials.eeg[:, :kept].reshape(count, -1, samples, channels)
    return windows.mean(axis=2).reshape(count, -1)


def lda():
    """Return linear discriminant analysis whose covariance is shrunk by Ledoit and Wolf's rule."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


def choose_lda(study, trials):
    """Choose reference, scaling and window of the LDA on the same folds.

    Returns
    -------
    choice : dict
        reference, scale, samples, accuracy and "table"; ties: what is listed first.
    """
    table = []
    splits = folds(trials.label, study.folds, study.fold_seed)
    options = [(r, s, w) for r in study.lda.references for s in study.lda.scales for w in study.lda.samples]
    for reference, scale, samples in tqdm(options, desc="LDA", unit="choice"):
        hits = 0
        for train, held_out in splits:
            parts = [trials.some(train), trials.some(held_out)]
            train, held_out = (fingermovements.prepared(p, reference, scale, parts[0]) for p in parts)
            fitted = lda().fit(window_means(train, samples), train.label)
            hits += int(np.sum(fitted.predict(window_means(held_out, samples)) == held_out.label))
        accuracy = hits / len(trials)
        table.append({"reference": reference, "scale": scale, "samples": samples, "accuracy": accuracy})
    return {**max(table, key=lambda row: row["accuracy"]), "table": table}
