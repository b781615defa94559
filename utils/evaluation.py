"""The one evaluation of decoders: hits by subject and overall, with n, chance and interval."""

import logging

import numpy as np
import pandas as pd
from tqdm import tqdm

from data.pickles import write_pickle
from utils import plots, provenance, stats
from utils.errors import UserError
from utils.paths import shown, writing
from utils.vocabulary import ITEMS

log = logging.getLogger(__name__)


def predict(model, sleep, batch_size, progress=None):
    """Return class probabilities (n, K) of sleep trials (n, T, C), a batch at a time."""
    parts = []
    for start in range(0, len(sleep), batch_size):
        parts.append(model.predict_proba(sleep[start : start + batch_size]))
        if progress is not None:
            progress.update(len(parts[-1]))
    return np.concatenate(parts) if parts else np.zeros((0, model.settings.classes), np.float32)


def evaluate(model, subjects, folder, name, settings, notes):
    """Evaluate a decoder on unseen subjects and write everything about it.

    Parameters
    ----------
    model : model.ensemble.Ensemble
    subjects : list of data.trials.TestSubject
    folder : Path
        Receives summary.json, predictions.csv and the figures; the result pickle goes beside it.
    name : str
        Name of the experiment and of its result pickle.
    settings : utils.config.Settings
        `evaluate` section: batch_size, bootstrap, seed.
    notes : dict
        Kept in the summary: checkpoint, data, simulated or not.

    Returns
    -------
    summary : dict
        As in summary.json.
    """
    if not any(len(s) for s in subjects):
        raise UserError(
            f"{len(subjects)} test subjects were found, but none has a trial: nothing to evaluate"
        )
    _check_shape(model, subjects)
    chance = 1 / model.settings.classes
    rows, results, correct, by_subject = [], {}, [], {}
    with tqdm(total=sum(map(len, subjects)), desc="testing", unit="trial") as bar:
        for subject in subjects:
            probabilities = predict(model, subject.sleep, settings.batch_size, bar)
            if not np.isfinite(probabilities).all():
                raise UserError(f"{shown(subject.file)}: the network gave probabilities that are not finite")
            predicted = probabilities.argmax(axis=1)
            hits = predicted == subject.label
            correct.append(hits)
            by_subject[subject.name] = stats.proportion(int(hits.sum()), len(hits), chance)
            results[subject.name] = {
                "label": subject.label,
                "prediction": predicted,
                "probability": probabilities,
                "data_type": [str(t) for t in subject.data_type],
            }
            rows += [
                [subject.name, trial, part, ITEMS[label], ITEMS[guess], label == guess, *probability]
                for trial, (part, label, guess, probability) in enumerate(
                    zip(subject.data_type, subject.label, predicted, probabilities, strict=True)
                )
            ]
    overall = stats.over_subjects(correct, settings.bootstrap, settings.seed, chance)
    summary = {
        "experiment": name,
        "measure": f"top-1 of {model.settings.classes}",
        **notes,
        "overall": overall,
        "subjects": by_subject,
        "interval": {
            "overall": f"95 %, two-level bootstrap over subjects and trials, {settings.bootstrap} resamples",
            "subject": "95 %, Wilson",
        },
        "provenance": provenance.record(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    provenance.write_json(folder / "summary.json", summary)
    columns = ["subject", "trial", "data_type", "item", "predicted", "correct", *(f"p_{i}" for i in ITEMS)]
    with writing(folder / "predictions.csv") as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False, float_format="%.6g")
    write_pickle(results, folder.parent / f"{name}.pickle")
    label = np.concatenate([s.label for s in subjects])
    guess = np.concatenate([results[s.name]["prediction"] for s in subjects])
    kind = "simulated" if notes.get("simulated") else None
    plots.confusion_matrix(label, guess, ITEMS, folder / "confusion_matrix.png", title=name, kind=kind)
    plots.subject_accuracies(by_subject, overall, folder / "accuracy.png", title=name, kind=kind)
    return summary


def _check_shape(model, subjects):
    expected = (model.settings.sleep_samples, model.settings.channels)
    for subject in subjects:
        if len(subject) and subject.sleep.shape[1:] != expected:
            raise UserError(
                f"{shown(subject.file)}: trials are {subject.sleep.shape[1:]} (samples, channels), the "
                f"checkpoint's network reads {expected}"
            )


def table(summary):
    """Return the summary as lines for a terminal."""
    kind = " (simulated data)" if summary.get("simulated") else ""
    overall = summary["overall"]
    lines = [f"{summary['experiment']}: {summary['measure']}, chance {overall['chance']:.4f}{kind}"]
    for name, row in summary["subjects"].items():
        if row["n"] == 0:
            lines.append(f"  {name:<18} no trials")
        else:
            lines.append(
                f"  {name:<18} {row['accuracy']:.3f}  [{row['low']:.3f}, {row['high']:.3f}]  n = {row['n']}"
            )
    lines.append(
        f"  {'overall':<18} {overall['accuracy']:.3f}  [{overall['low']:.3f}, {overall['high']:.3f}]  "
        f"n = {overall['n']} trials of {overall['subjects']} subjects (95 % intervals)"
    )
    return lines
