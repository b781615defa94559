"""Evaluation of groups of trials, such as the phases of the slow oscillation: one row a group."""

import zlib

import numpy as np
from tqdm import tqdm

from sleep_interpreter.train.evaluation.decoder_report import (
    FEW_SUBJECTS,
    beside,
    check_fits,
    kind_of,
    method,
    predict,
    stored,
    trial_rows,
    write_csv,
)
from sleep_interpreter.utils.core import provenance
from sleep_interpreter.utils.core.constants import ITEMS
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import write_pickle
from sleep_interpreter.utils.metrics import decoding_metrics, statistics
from sleep_interpreter.utils.metrics.decoding_metrics import Predictions
from sleep_interpreter.utils.plots import decoding as plots


def evaluate_groups(model, subjects, folder, name, settings, notes):
    """Evaluate a decoder on groups of trials of unseen subjects and write everything about it.

    Parameters
    ----------
    model : sleep_interpreter.model.networks.ensemble.Ensemble
    subjects : list
        With `name`, `file` and `groups`: {group: (sleep (n, T, C), label (n,))}, all with the same groups.
    folder, name, settings, notes
        As in `train.evaluation.decoder_report.report`.

    Returns
    -------
    summary : dict
        As in summary.json.
    """
    names = list(dict.fromkeys(group for subject in subjects for group in subject.groups))
    predictions = {group: [] for group in names}
    total = sum(len(label) for subject in subjects for _, label in subject.groups.values())
    with tqdm(total=total, desc="testing", unit="trial") as bar:
        for subject in subjects:
            for group, (sleep, label) in subject.groups.items():
                check_fits(model, sleep.shape, subject.file, notes.get("checkpoint"))
                probability = predict(model, sleep, settings.batch_size, bar)
                # The original files of groups do not say which part of the data a trial belongs to.
                parts = np.full(len(label), "SO")
                predictions[group].append(Predictions(subject.name, subject.file, label, parts, probability))
    return report_groups(predictions, folder, name, settings, notes)


def report_groups(predictions, folder, name, settings, notes):
    """Measure predictions by group, write everything about them and return the summary.

    Parameters
    ----------
    predictions : dict of str to list of Predictions
        {group: one a subject}, in the order of the groups.
    folder : Path
        Receives summary.json, groups.csv, predictions.csv and groups.png; the result pickle goes beside it.
    name, settings, notes
        As in `train.evaluation.decoder_report.report`.

    Returns
    -------
    summary : dict
        As in summary.json: "groups" holds `measures.overall_row` of each with "permutation_p_holm" and the
        subjects' own rows.

    Raises
    ------
    UserError
        No trial in any group, or outputs that are no probabilities.
    """
    if not any(len(p) for own in predictions.values() for p in own):
        raise UserError(f"no trial in any of the groups {', '.join(predictions)}: nothing to evaluate")
    groups = {group: _group_row(group, own, settings) for group, own in predictions.items()}
    for measure in statistics.MEASURES:
        rows = [row if measure == "top1" else row[measure] for row in groups.values()]
        adjusted = statistics.holm([row["permutation"]["p"] for row in rows])
        for row, p in zip(rows, adjusted, strict=True):
            row["permutation_p_holm"] = p
    notes = dict(notes)
    warnings = [*notes.pop("warnings", ()), *_warnings(groups)]
    summary = {
        "experiment": name,
        "measure": f"top-1 of {len(ITEMS)}",
        "warnings": warnings,
        **notes,
        "groups": groups,
        "missing": [group for group, row in groups.items() if not row["n"]],
        **method(settings),
        "holm": "permutation p of a measure, corrected over the groups that have trials (Holm 1979)",
        "provenance": provenance.record(),
    }
    (folder / "summary.json").unlink(missing_ok=True)
    frames = [trial_rows(p, group=group) for group, own in predictions.items() for p in own]
    write_csv(folder / "predictions.csv", frames)
    write_csv(folder / "groups.csv", [_flat(groups)])
    subjects = dict.fromkeys(p.subject for own in predictions.values() for p in own)
    results = {subject: {} for subject in subjects}
    for group, own in predictions.items():
        for p in own:
            results[p.subject][group] = stored(p)
    write_pickle(results, folder.parent / f"{name}.pickle")
    drawn = {
        group: {**row, "values": [s["accuracy"] for s in row["by_subject"].values() if s["n"]]}
        for group, row in groups.items()
    }
    plots.group_accuracies(drawn, folder / "groups.png", name, kind_of(notes))
    provenance.write_json(folder / "summary.json", summary)
    return summary


def _group_row(group, predictions, settings):
    if any(len(p) for p in predictions):
        decoding_metrics.check(predictions)
    chance, nulls, by_subject = statistics.chances(len(ITEMS)), [], {}
    for p in predictions:
        by_subject[p.subject] = statistics.proportion(int(np.sum(p.rank == 0)), len(p), chance["top1"])
        null = None
        if len(p):
            random = np.random.default_rng([settings.seed, zlib.crc32(f"{p.subject} {group}".encode())])
            null = statistics.permutation_null(p.label, p.probability, settings.permutations, random)[1]
        nulls.append(null)
    return {**decoding_metrics.overall_row(predictions, nulls, settings), "by_subject": by_subject}


def _warnings(groups):
    few = [group for group, row in groups.items() if row["subjects"] in FEW_SUBJECTS]
    if not few:
        return []
    which = "all groups" if len(few) == len(groups) else ", ".join(few)
    return [f"{which}: trials of fewer than 4 subjects, the 95 % interval is too narrow"]


def _flat(groups):
    import pandas as pd

    flat = pd.json_normalize([{"group": group, **row} for group, row in groups.items()])
    dropped = ("recall.", "by_subject.", "calibration.bins")
    return flat.drop(columns=[column for column in flat if column.startswith(dropped)])


def table(summary):
    """Return the summary as lines for a terminal."""
    chance = next(iter(summary["groups"].values()))["chance"]
    lines = [
        f"{summary['experiment']}: {summary['measure']}, chance {chance:.4f}{beside(summary)}",
        f"  {'':<14} {'top-1':>6} {'95 % interval':>16} {'perm. p':>8} {'Holm':>7} {'top-3':>6} "
        f"{'balanced':>8} {'subjects':>8} {'n':>6}",
    ]
    for group, row in summary["groups"].items():
        if not row["n"]:
            lines.append(f"  {group:<14} no trials")
            continue
        low_high = f"[{row['low']:.3f}, {row['high']:.3f}]"
        lines.append(
            f"  {group:<14} {row['accuracy']:6.3f} {low_high:>16} {row['permutation']['p']:8.4f} "
            f"{row['permutation_p_holm']:7.4f} {row['top3']['accuracy']:6.3f} "
            f"{row['balanced']['accuracy']:8.3f} {row['subjects']:8d} {row['n']:6d}"
        )
    return lines + [f"  warning: {warning}" for warning in summary["warnings"]]
