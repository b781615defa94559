"""The one evaluation of decoders: what every test script measures and writes."""

import numpy as np
import pandas as pd
from tqdm import tqdm

from sleep_interpreter.utils.core import provenance
from sleep_interpreter.utils.core.constants import ITEMS
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import shown, writing
from sleep_interpreter.utils.core.safe_pickle import write_pickle
from sleep_interpreter.utils.metrics import decoding_metrics
from sleep_interpreter.utils.metrics.decoding_metrics import Predictions
from sleep_interpreter.utils.model import predict
from sleep_interpreter.utils.plots import decoding as plots

__all__ = ["Predictions", "check_fits", "evaluate", "predict", "report", "table"]
TIES = "ties in probability go to the item that comes first in alphabetical order"
FEW_SUBJECTS = {
    1: "1 subject with trials: the overall interval is over its trials only and says nothing about another",
    2: "2 subjects with trials: the overall 95 % interval is too narrow (measured: it covers 81 %)",
    3: "3 subjects with trials: the overall 95 % interval is too narrow (measured: it covers 88 %)",
}
"""Measured on binomial subjects of 80 trials whose true accuracies vary (0.25 on average)."""


def evaluate(model, subjects, folder, name, settings, notes):
    """Evaluate a decoder on unseen subjects and write everything about it.

    Parameters
    ----------
    model : sleep_interpreter.model.networks.ensemble.Ensemble
    subjects : list of sleep_interpreter.data.formats.test_trials.TestSubject
    folder, name, settings, notes
        As in `report`.

    Returns
    -------
    summary : dict
        As in summary.json.
    """
    for subject in subjects:
        check_fits(model, subject.sleep.shape, subject.file, notes.get("checkpoint"))
    predictions = []
    with tqdm(total=sum(map(len, subjects)), desc="testing", unit="trial") as bar:
        for subject in subjects:
            probability = predict(model, subject.sleep, settings.batch_size, bar)
            predictions.append(
                Predictions(subject.name, subject.file, subject.label, subject.data_type, probability)
            )
    return report(predictions, folder, name, settings, notes)


def report(predictions, folder, name, settings, notes, per_subject_extra=None):
    """Measure predictions, write everything about them and return the summary.

    Parameters
    ----------
    predictions : list of Predictions
        One a subject, from one model for all or from a model each.
    folder : Path
        Receives summary.json, subjects.csv, predictions.csv, confusion_matrix.csv and the figures; the
        result pickle goes beside it.
    name : str
        Name of the experiment and of its result pickle.
    settings : sleep_interpreter.train.settings.experiment.EvaluateSettings
    notes : dict
        Kept in the summary: checkpoint, data, "simulated" or not, "warnings" (list of str), "skipped" (list
        of the trials left out), ...
    per_subject_extra : dict | None
        {subject: {key: value}}, put into the subjects' rows.

    Returns
    -------
    summary : dict
        As in summary.json.

    Raises
    ------
    UserError
        No trial at all, or outputs that are no probabilities.
    """
    decoding_metrics.check(predictions)
    extra = per_subject_extra or {}
    rows, nulls = {}, []
    for p in predictions:
        row, null = decoding_metrics.subject_row(p, settings)
        own = extra.get(p.subject, {})
        if clash := sorted(set(own) & set(row)):
            raise ValueError(f"per_subject_extra may not replace {clash} of {p.subject}")
        rows[p.subject] = {**row, **own}
        nulls.append(null)
    if unknown := sorted(set(extra) - set(rows)):
        raise ValueError(f"per_subject_extra names subjects without predictions: {unknown}")
    overall = decoding_metrics.overall_row(predictions, nulls, settings)
    notes = dict(notes)
    if "skipped" in notes:
        notes["skipped"] = {"count": len(notes["skipped"]), "records": notes["skipped"]}
    summary = {
        "experiment": name,
        "measure": f"top-1 of {len(ITEMS)}",
        "warnings": [*notes.pop("warnings", ()), *_warnings(overall)],
        **notes,
        "overall": overall,
        "subjects": rows,
        "missing": [p.subject for p in predictions if not len(p)],
        "extra": sorted({key for own in extra.values() for key in own}),
        **method(settings),
        "provenance": provenance.record(),
    }
    # Without the old summary first: a run that is killed here leaves no summary beside another run's trials.
    (folder / "summary.json").unlink(missing_ok=True)
    write_csv(folder / "predictions.csv", [trial_rows(p) for p in predictions])
    write_csv(folder / "confusion_matrix.csv", [_confusion_rows(predictions)])
    _write_subjects(folder / "subjects.csv", rows)
    write_pickle(
        {p.subject: {**stored(p), "data_type": [str(t) for t in p.data_type]} for p in predictions},
        folder.parent / f"{name}.pickle",
    )
    kind = kind_of(notes)
    confusion = sum(decoding_metrics.confusion(p) for p in predictions)
    plots.confusion_matrix(confusion, ITEMS, folder / "confusion_matrix.png", name, kind)
    plots.subject_accuracies(rows, overall, folder / "accuracy.png", name, kind)
    plots.reliability(overall["calibration"], folder / "calibration.png", name, kind)
    provenance.write_json(folder / "summary.json", summary)
    return summary


def check_fits(model, shape, file, checkpoint=None):
    """Refuse a network that was made for other trials.

    Parameters
    ----------
    model : sleep_interpreter.model.networks.ensemble.Ensemble
    shape : tuple
        (n, T, C) of the trials.
    file, checkpoint : str | Path
        For the message.

    Raises
    ------
    UserError
        Another number of samples, channels or items.
    """
    own = model.settings
    expected = (own.sleep_samples, own.channels, own.classes)
    found = (*shape[1:], len(ITEMS))
    if expected != found:
        words = "{} samples x {} channels of {} items"
        raise UserError(
            f"{checkpoint or model.network}: this network is for trials of {words.format(*expected)}, "
            f"{shown(file)} holds trials of {words.format(*found)}; use a checkpoint trained on such trials"
        )


def kind_of(notes):
    """Return what stands beside every number and title: "simulated", or None."""
    if notes.get("simulated"):
        return "simulated"
    if (notes.get("checkpoint_notes") or {}).get("simulated"):
        return "decoder trained on simulated data"
    return None


def beside(notes):
    """Return `kind_of` as it stands behind a line for the terminal: " (simulated data)", or nothing."""
    kind = kind_of(notes)
    return "" if kind is None else " (simulated data)" if kind == "simulated" else f" ({kind})"


def method(settings):
    """Return how the figures were computed, for the summary."""
    return {
        "interval": {
            "overall": f"95 %, two-level bootstrap over subjects and trials, {settings.bootstrap} resamples",
            "subject": "95 %, Wilson; balanced accuracy: bootstrap over trials",
            "all trials alike": "where all hit or all miss: Wilson over the trials, in place of a bootstrap",
        },
        "tests": {
            "p": "one-sided binomial against chance",
            "permutation": (
                f"labels permuted within subject against fixed predictions, {settings.permutations} times, "
                "p = (1 + number at least as high) / (1 + permutations); overall: the mean over subjects; "
                "mean: of the permuted accuracies, the chance level of these very predictions"
            ),
            "against_chance": "over subjects, see its note",
        },
        "calibration": f"expected calibration error over {settings.calibration_bins} bins of equal width",
        "ties": TIES,
    }


def _warnings(overall):
    found = [FEW_SUBJECTS[overall["subjects"]]] if overall["subjects"] in FEW_SUBJECTS else []
    if overall["ties"]:
        found.append(f"{overall['ties']} of {overall['n']} trials have tied probabilities: {TIES}")
    return found


def stored(predictions):
    """Return what the result pickle keeps of a subject."""
    p = predictions
    return {"label": p.label, "prediction": p.decoded, "probability": p.probability}


def trial_rows(predictions, **columns):
    """Return one row a trial with all probabilities, as a data frame; `columns` come after the subject."""
    p = predictions
    names = np.array(ITEMS)
    frame = {
        "subject": p.subject,
        **columns,
        "trial": np.arange(len(p)),
        "data_type": np.asarray(p.data_type, str),
        "item": names[p.label],
        "predicted": names[p.decoded],
        "correct": p.label == p.decoded,
        "rank": p.rank + 1,
    }
    return pd.DataFrame(frame | {f"p_{item}": p.probability[:, k] for k, item in enumerate(ITEMS)})


def write_csv(path, frames):
    """Write data frames below each other, with every float32 digit, complete or not at all."""
    full = [frame for frame in frames if len(frame)] or frames[:1]
    with writing(path) as temporary:
        pd.concat(full, ignore_index=True).to_csv(temporary, index=False, float_format="%.9g")


def _confusion_rows(predictions):
    total = sum(decoding_metrics.confusion(p) for p in predictions)
    blocks = [("all", total), *((p.subject, decoding_metrics.confusion(p)) for p in predictions)]
    return pd.DataFrame(
        [
            [name, item, *row]
            for name, counts in blocks
            for item, row in zip(ITEMS, counts.tolist(), strict=True)
        ],
        columns=["subject", "item", *(f"decoded_{item}" for item in ITEMS)],
    )


def _write_subjects(path, rows):
    """Write the subjects' figures as a flat table (recall and bins are in summary.json)."""
    flat = pd.json_normalize([{"subject": name, **row} for name, row in rows.items()])
    dropped = [c for c in flat if c.startswith("recall.") or c == "calibration.bins"]
    write_csv(path, [flat.drop(columns=dropped)])


def table(summary):
    """Return the summary as lines for a terminal."""
    overall = summary["overall"]
    lines = [
        f"{summary['experiment']}: {summary['measure']}, chance {overall['chance']:.4f}{beside(summary)}",
        f"  {'':<18} {'top-1':>6} {'95 % interval':>16} {'perm. p':>8} {'top-3':>6} {'balanced':>8} "
        f"{'ECE':>6} {'n':>6}",
    ]
    for name, row in summary["subjects"].items():
        extra = "".join(f"  {key} {_short(row[key])}" for key in summary["extra"] if key in row)
        lines.append(_line(name, row) + extra)
    lines.append(_line("mean", overall))
    tested = overall["against_chance"]
    if tested["wilcoxon_p"] is None:
        lines.append(f"  {tested['note']}")
    else:
        lines.append(
            f"  over {tested['subjects']} subjects against chance, one-sided: "
            f"Wilcoxon p = {tested['wilcoxon_p']:.2g}, sign flips p = {tested['sign_flip_p']:.2g}"
        )
    if "skipped" in summary:
        lines.append(f"  skipped: {summary['skipped']['count']} bad trials (listed in summary.json)")
    lines += [f"  warning: {warning}" for warning in summary["warnings"]]
    return lines


def _line(name, row):
    if row["n"] == 0:
        return f"  {name:<18} no trials"
    low_high = f"[{row['low']:.3f}, {row['high']:.3f}]"
    return (
        f"  {name:<18} {row['accuracy']:6.3f} {low_high:>16} {row['permutation']['p']:8.4f} "
        f"{row['top3']['accuracy']:6.3f} {row['balanced']['accuracy']:8.3f} {row['calibration']['ece']:6.3f} "
        f"{row['n']:6d}"
    )


def _short(value):
    return f"{value:.3f}" if isinstance(value, float) else str(value)
