"""The one evaluation of decoders, on trials or groups of trials: what test scripts measure and write."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.slow_oscillation_trials import SOSubject
from sleep_interpreter.data.formats.test_trials import TestSubject
from sleep_interpreter.train.evaluation import group_tests, matching, memory_scores
from sleep_interpreter.train.settings.experiment import EvaluateSettings
from sleep_interpreter.utils.core import provenance
from sleep_interpreter.utils.core.command_line import progress
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write, replaced_files
from sleep_interpreter.utils.core.safe_pickle import write_pickle
from sleep_interpreter.utils.core.text_tables import write_tsv
from sleep_interpreter.utils.metrics import decoding_metrics, exchangeability, statistics
from sleep_interpreter.utils.metrics.decoding_metrics import Predictions
from sleep_interpreter.utils.model import predict
from sleep_interpreter.utils.plots import decoding as plots
from sleep_interpreter.utils.plots import reactivation as reactivation_plots

if TYPE_CHECKING:  # it brings TensorFlow
    from sleep_interpreter.model.networks.ensemble import Ensemble

INTERVAL = (
    "95 %, Student's t over subjects on the scale of the logit, never narrower than the trials alone leave it "
    "(measured coverage: docs/statistics.md)"
)
MAYBE = ("behaviour.tsv", "behaviour.png")
"""Files that a report may have or not: those of an earlier one go."""
ONE_SUBJECT = "1 subject with trials: the overall interval is over its trials only and says nothing about another"


def predict_subjects(
    model: "Ensemble",
    subjects: Sequence[TestSubject],
    batch_size: int,
    checkpoint: str | None = None,
    interpolate: bool = False,
) -> list[Predictions]:
    """Return a decoder's predictions of unseen subjects, one a subject.

    Channels and items are matched by name (`train.evaluation.matching`; `interpolate` missing channels); other trials
    than the decoder takes are refused.
    """
    subjects = matching.matched_subjects(model, subjects, checkpoint, interpolate)
    predictions = []
    with progress(total=sum(map(len, subjects)), desc="testing", unit="trial") as bar:
        for subject in subjects:
            probability = predict(model, subject.sleep, batch_size, bar)
            own = (subject.label, subject.data_type, probability, subject.card.item_names, subject.origin)
            predictions.append(Predictions(subject.name, subject.file, *own))
    return predictions


def report(
    predictions: Sequence[Predictions], folder: Path, name: str, settings: EvaluateSettings, notes: Mapping[str, Any],
    per_subject_extra: Mapping[str, dict] | None = None, behaviour: pd.DataFrame | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure predictions, one a subject, write everything about them and return the summary as in summary.json.

    The folder receives summary.json, subjects.csv, predictions.csv, confusion_matrix.csv and the figures; the result
    pickle, called by the experiment's name, goes beside it. `notes` are kept in the summary: checkpoint, data,
    "simulated" or not, "warnings" (list of str), "skipped" (list of the trials left out), ...; `per_subject_extra`,
    {subject: {key: value}}, goes into the subjects' rows; `behaviour` are memory scores that decoding is held against
    (`memory_scores`; behaviour.tsv and .png). Refused without a trial or where outputs are no
    probabilities.
    """
    decoding_metrics.check(predictions)
    items = predictions[0].items
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
    missing = [p.subject for p in predictions if not len(p)]
    found = {"overall": overall, "subjects": rows, "missing": missing}
    found["extra"] = sorted({key for own in extra.values() for key in own})
    warnings = [ONE_SUBJECT] if overall["subjects"] == 1 else []
    warnings += _order_of({p.subject: p for p in predictions}, settings)
    if overall["ties"]:
        warnings.append(f"{overall['ties']} of {overall['n']} trials have tied probabilities: {tie_rule(items)}")
    summary = _summary(name, items, notes, warnings, found, settings)
    with replaced_files(folder, "summary.json", {f"{name}.pickle"}, MAYBE) as place:
        write_csv(place / "predictions.csv", [decoding_metrics.trial_rows(p) for p in predictions])
        confusion = [(p.subject, decoding_metrics.confusion(p)) for p in predictions]
        confusion.insert(0, ("all", np.sum([counts for _, counts in confusion], axis=0)))
        write_csv(place / "confusion_matrix.csv", [_confusion_rows(confusion, items)])
        write_csv(place / "subjects.csv", [_flat_rows("subject", rows)])
        write_pickle(
            {p.subject: {**stored(p), "data_type": [str(t) for t in p.data_type]} for p in predictions},
            place / f"{name}.pickle",
        )
        kind = kind_of(notes)
        _hold_against_memory(predictions, behaviour, settings, place, summary, kind)
        plots.confusion_matrix(confusion[0][1], items, place / "confusion_matrix.png", name, kind)
        plots.subject_accuracies(rows, overall, place / "accuracy.png", name, kind)
        plots.reliability(overall["calibration"], place / "calibration.png", name, kind)
        provenance.write_json(place / "summary.json", summary)
    return summary


def _order_of(predictions: Mapping[str, Predictions], settings: EvaluateSettings) -> list[str]:
    """Return what is to know about the order of the trials (`exchangeability.warning`), as a list of one or none."""
    found = {name: p.exchange(settings.permute) for name, p in predictions.items() if len(p)}
    told = exchangeability.warning(found, "evaluate.permute")
    return [] if told is None else [told]


def _summary(
    name: str, items: Sequence[str], notes: Mapping[str, Any], warnings: Sequence[str], found: Mapping[str, Any],
    settings: EvaluateSettings, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    notes = dict(notes)
    # the true item is always among the first three
    always = [f"top-3 of {len(items)} items is always right and tells nothing"] if len(items) <= 3 else []
    if "skipped" in notes:
        notes["skipped"] = {"count": len(notes["skipped"]), "records": notes["skipped"]}
    return {
        "experiment": name,
        "measure": f"top-1 of {len(items)}",
        "warnings": [*notes.pop("warnings", ()), *warnings, *always],
        **notes,
        **found,
        **method(settings, items),
        **more,
        "provenance": provenance.record(),
    }


def kind_of(notes: Mapping[str, Any], network: str = "decoder") -> str | None:
    """Return what stands beside every number and title: "simulated", or None."""
    if notes.get("simulated"):
        return "simulated"
    trained = (notes.get("checkpoint_notes") or {}).get("simulated")
    return f"{network} trained on simulated data" if trained else None


def beside(notes: Mapping[str, Any]) -> str:
    """Return `kind_of` as it stands behind a line for the terminal: " (simulated data)", or nothing."""
    kind = kind_of(notes)
    return "" if kind is None else " (simulated data)" if kind == "simulated" else f" ({kind})"


def tie_rule(items: Sequence[str]) -> str:
    """Return what decides where two items are equally probable."""
    order = "in alphabetical order" if list(items) == sorted(items) else "on the data card"
    return f"ties in probability go to the item that comes first {order}"


def method(settings: EvaluateSettings, items: Sequence[str]) -> dict[str, Any]:
    """Return how the figures were computed, for the summary."""
    return {
        "interval": {
            "overall": INTERVAL,
            "subject": f"95 %, Wilson; balanced accuracy: bootstrap over trials, {settings.bootstrap} resamples",
            "all trials alike": "where all hit or all miss: Wilson over the trials",
        },
        "tests": {
            "order": "where repeats of an item are clustered in time, whole stretches change places instead of trials "
            "(evaluate.permute; a warning says so), and no binomial p is given",
            "chance": "mean over all orders of the subject's labels against its fixed predictions, exactly: it depends "
            "on the items present, how often each was cued and how often decoded; overall: mean over subjects",
            "p": "one-sided binomial against chance",
            "permutation": (
                f"labels permuted within subject against fixed predictions, {settings.permutations} times, "
                "p = (1 + number at least as high) / (1 + permutations); overall: the mean over subjects; "
                "mean: of the permuted accuracies, the chance level of these very predictions; its p over the mean "
                "says that there is something in somebody, not in the population"
            ),
            "prevalence": "subjects with permutation p <= 0.05, and what share of the population decodes above chance "
            "at least (95 %, binomial)",
            "against_chance": "over subjects, see its note",
        },
        "calibration": f"expected calibration error over {settings.calibration_bins} bins of equal width; by chance: "
        "that of a perfectly calibrated decoder with these confidences and so many trials, mean and 95th percentile",
        "ties": tie_rule(items),
    }


def stored(predictions: Predictions) -> dict[str, np.ndarray]:
    """Return what the result pickle keeps of a subject."""
    p = predictions
    return {"label": p.label, "prediction": p.decoded, "probability": p.probability}


def write_csv(path: Path, frames: Sequence[pd.DataFrame], digits: int = 9) -> None:
    """Write data frames below each other, complete or not at all; 9 digits are all that float32 has."""
    full = [frame for frame in frames if len(frame)] or frames[:1]
    with atomic_write(path) as temporary:
        pd.concat(full, ignore_index=True).to_csv(temporary, index=False, float_format=f"%.{digits}g")


def _confusion_rows(confusion: Sequence[tuple[str, np.ndarray]], items: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(
        [[name, item, *row] for name, counts in confusion for item, row in zip(items, counts.tolist(), strict=True)],
        columns=["subject", "item", *(f"decoded_{item}" for item in items)],
    )


def _flat_rows(key: str, rows: Mapping[str, Mapping]) -> pd.DataFrame:
    """Return one row a subject or group without what a table cannot hold (it is in summary.json)."""
    flat = pd.json_normalize([{key: name, **row} for name, row in rows.items()])
    dropped = ("recall.", "by_subject.", "calibration.bins")
    return flat.drop(columns=[column for column in flat if str(column).startswith(dropped)])


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary of `report` as lines for a terminal."""
    overall = summary["overall"]
    lines = [
        f"{summary['experiment']}: {summary['measure']}, {chance_text(overall, summary)}{beside(summary)}",
        f"  {'':<18} {'top-1':>6} {'95 % interval':>16} {'perm. p':>8} {'top-3':>6} {'balanced':>8} "
        f"{'ECE':>6} {'n':>6}",
    ]
    for name, row in summary["subjects"].items():
        extra = "".join(f"  {key} {_short(row[key])}" for key in summary["extra"] if key in row)
        lines.append(_line(name, row) + extra)
    lines.append(_line("mean", overall))
    if note := overall["permutation"].get("note"):
        lines.append(f"  permuted labels tell nothing: {note}")
    lines += [f"  {_tested(overall)}", f"  {statistics.prevalence_text(overall['prevalence'])}"]
    if overall["unequal"]:
        row = overall["balanced"]
        lines.append(
            f"  {overall['unequal']}: balanced accuracy {row['accuracy']:.3f} {interval_text(row)}, chance "
            f"{row['chance']:.4f}, perm. p = {p_text(row)}"
        )
        lines.append(f"  balanced, {_tested(row)}")
    calibration = overall["calibration"]
    if calibration["ece"] is not None:
        lines.append(
            f"  ECE of all trials {calibration['ece']:.3f}; perfectly calibrated, so many trials would show "
            f"{calibration['ece_by_chance']['mean']:.3f} (up to {calibration['ece_by_chance']['high']:.3f})"
        )
    lines += _behaviour_lines(summary)
    if "skipped" in summary:
        lines.append(f"  skipped: {summary['skipped']['count']} bad trials (listed in summary.json)")
    lines += [f"  warning: {warning}" for warning in summary["warnings"]]
    return lines


def chance_text(row: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the chance level of a row; where it isn't that of guessing among all items, what it is."""
    said, items = f"chance {row['chance']:.4f}", int(summary["measure"].rsplit(" ", 1)[1])
    return said if f"{1 / items:.4f}" in said else f"{said} (of permuted labels; 1 in {items} is {1 / items:.4f})"


def _tested(row: Mapping[str, Any]) -> str:
    tested = row["against_chance"]
    if tested["wilcoxon_p"] is None:
        return tested["note"]
    return (
        f"over {tested['subjects']} subjects against chance, one-sided: "
        f"Wilcoxon p = {tested['wilcoxon_p']:.2g}, sign flips p = {tested['sign_flip_p']:.2g}"
    )


def _line(name: str, row: Mapping[str, Any]) -> str:
    if row["n"] == 0:
        return f"  {name:<18} no trials"
    return (
        f"  {name:<18} {row['accuracy']:6.3f} {interval_text(row):>16} {p_text(row):>8} "
        f"{row['top3']['accuracy']:6.3f} {row['balanced']['accuracy']:8.3f} {row['calibration']['ece']:6.3f} "
        f"{row['n']:6d}"
    )


def p_text(row: Mapping[str, Any]) -> str:
    """Return the p of permuted labels of a row, "-" where they tell nothing."""
    p = row["permutation"]["p"]
    return "-" if p is None else f"{p:.4f}"


def interval_text(row: Mapping[str, Any]) -> str:
    """Return the interval of a row as "[0.123, 0.234]"."""
    return f"[{row['low']:.3f}, {row['high']:.3f}]"


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def evaluate_groups(
    model: "Ensemble", subjects: Sequence[SOSubject], folder: Path, name: str, settings: EvaluateSettings,
    notes: Mapping[str, Any], interpolate: bool = False, behaviour: pd.DataFrame | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate a decoder on groups of trials (the same of every subject); do what `report_groups` does.

    Channels and items are matched as in `predict_subjects`.
    """
    subjects = matching.matched_subjects(model, subjects, notes.get("checkpoint"), interpolate)
    predictions: dict[str, list[Predictions]] = {group: [] for subject in subjects for group in subject.groups}
    total = sum(len(label) for subject in subjects for _, label in subject.groups.values())
    with progress(total=total, desc="testing", unit="trial") as bar:
        for subject in subjects:
            for group, (sleep, label) in subject.groups.items():
                probability = predict(model, sleep, settings.batch_size, bar)
                # The original files of groups do not say which part of the data a trial belongs to.
                parts = np.full(len(label), "SO")
                origin = None if subject.origins is None else subject.origins[group]
                own = (label, parts, probability, subject.card.item_names, origin)
                predictions[group].append(Predictions(subject.name, subject.file, *own))
    coupled = {s.name: s.coupled for s in subjects if s.coupled is not None}
    return report_groups(predictions, folder, name, settings, notes, coupled, behaviour)


def report_groups(
    predictions: Mapping[str, list[Predictions]],
    folder: Path,
    name: str,
    settings: EvaluateSettings,
    notes: Mapping[str, Any],
    coupled: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    behaviour: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Measure predictions {group: one a subject} and write everything about them; arguments as in `report`.

    `coupled` tells of the subjects that say so which trials a spindle followed: {subject: {group: bool (n,)}}.

    The folder receives summary.json, groups.csv, predictions.csv and groups.png; the result pickle goes beside it.
    The summary is returned: its "groups" hold `decoding_metrics.overall_row` of each, in their order, with
    "permutation_p_holm" and the subjects' own rows, "between_groups" and, where known, "between_spindles" the tests
    between groups and between trials with and without a spindle (`group_tests.condition_tests`). Refused if no
    group has a trial or outputs are no probabilities.
    """
    if not any(len(p) for own in predictions.values() for p in own):
        raise UserError(f"no trial in any of the groups {', '.join(predictions)}: nothing to evaluate")
    groups = {group: _group_row(group, own, settings) for group, own in predictions.items()}
    for measure in statistics.MEASURES:
        rows = [row if measure == "top1" else row[measure] for row in groups.values()]
        adjusted = statistics.holm([row["permutation"]["p"] for row in rows])
        for row, p_holm in zip(rows, adjusted, strict=True):
            row["permutation_p_holm"] = p_holm
    found = {"groups": groups, "missing": [group for group, row in groups.items() if not row["n"]]}
    hits = {group: {p.subject: (p.label, p.rank == 0) for p in own} for group, own in predictions.items()}
    found["between_groups"] = group_tests.condition_tests(hits, settings)
    known = coupled or {}
    if known:
        found["between_spindles"] = group_tests.condition_tests(_by_spindle(hits, known), settings)
    holm = "permutation p of a measure, corrected over the groups that have trials (Holm 1979)"
    items = next(iter(predictions.values()))[0].items
    warnings = _group_warnings(groups) + _order_of(
        {f"{p.subject}, {group}": p for group, own in predictions.items() for p in own}, settings
    )
    summary = _summary(name, items, notes, warnings, found, settings, holm=holm)
    with replaced_files(folder, "summary.json", {f"{name}.pickle"}, MAYBE) as place:
        frames = [
            decoding_metrics.trial_rows(
                p, group=group, **({"spindle_coupled": known[p.subject][group]} if p.subject in known else {})
            )
            for group, own in predictions.items()
            for p in own
        ]
        write_csv(place / "predictions.csv", frames)
        write_csv(place / "groups.csv", [_flat_rows("group", groups)])
        results: dict[str, dict] = {}
        for group, own in predictions.items():
            for p in own:
                results.setdefault(p.subject, {})[group] = stored(p)
        write_pickle(results, place / f"{name}.pickle")
        drawn = {
            group: {**row, "values": [s["accuracy"] for s in row["by_subject"].values() if s["n"]]}
            for group, row in groups.items()
        }
        plots.group_accuracies(drawn, place / "groups.png", name, kind_of(notes))
        _hold_against_memory(_all_groups(predictions), behaviour, settings, place, summary, kind_of(notes))
        provenance.write_json(place / "summary.json", summary)
    return summary


def _by_spindle(
    hits: Mapping[str, Mapping[str, statistics.Trials]], coupled: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, dict[str, statistics.Trials]]:
    """Return {"coupled" | "uncoupled": {subject: trials of all groups}} of the subjects that say it."""
    found: dict[str, dict[str, statistics.Trials]] = {"coupled": {}, "uncoupled": {}}
    for subject, own in coupled.items():
        parts = [(hits[group][subject], followed) for group, followed in own.items() if subject in hits[group]]
        label, correct = (np.concatenate([trials[k] for trials, _ in parts]) for k in (0, 1))
        followed = np.concatenate([one for _, one in parts])
        found["coupled"][subject] = label[followed], correct[followed]
        found["uncoupled"][subject] = label[~followed], correct[~followed]
    return found


def _all_groups(predictions: Mapping[str, list[Predictions]]) -> list[Predictions]:
    """Return the predictions of all groups as one of each subject."""
    own: dict[str, list[Predictions]] = {}
    for p in (p for group in predictions.values() for p in group):
        own.setdefault(p.subject, []).append(p)
    return [
        replace(
            parts[0], origin=None, label=np.concatenate([p.label for p in parts]),
            data_type=np.concatenate([p.data_type for p in parts]),
            probability=np.concatenate([p.probability for p in parts]),
        )
        for parts in own.values()
    ]  # fmt: skip


def _hold_against_memory(
    predictions: Sequence[Predictions], behaviour: pd.DataFrame | None, settings: EvaluateSettings, folder: Path,
    summary: dict[str, Any], kind: str | None,
) -> None:  # fmt: skip
    """Add to the summary whether items decoded better are remembered better, and write behaviour.tsv and .png."""
    if behaviour is None:
        return
    summary["behaviour"], table = memory_scores.of_predictions(predictions, behaviour, settings)
    write_tsv(folder / "behaviour.tsv", table, "%.6g")
    what, title = ("evidence", "Evidence"), f"{summary['experiment']} and memory"
    reactivation_plots.behaviour(table, what, summary["behaviour"]["evidence"], folder / "behaviour.png", title, kind)


def _behaviour_lines(summary: Mapping[str, Any]) -> list[str]:
    own = summary.get("behaviour", {})
    return [memory_scores.in_words(found, f"{name} ({found['meaning']})") for name, found in own.items()]


def _group_row(group: str, predictions: Sequence[Predictions], settings: EvaluateSettings) -> dict[str, Any]:
    if any(len(p) for p in predictions):
        decoding_metrics.check(predictions)
    nulls: list[dict[str, np.ndarray] | None] = []
    by_subject = {}
    for p in predictions:
        chance = statistics.chance(p.label, p.probability)["top1"]
        by_subject[p.subject] = statistics.proportion(int(np.sum(p.rank == 0)), len(p), chance)
        if not p.exchange(settings.permute).as_one:
            by_subject[p.subject]["p"] = None
        random = np.random.default_rng([settings.seed, zlib.crc32(f"{p.subject} {group}".encode())])
        nulls.append(decoding_metrics.permuted(p, settings, random))
    return {**decoding_metrics.overall_row(predictions, nulls, settings), "by_subject": by_subject}


def _group_warnings(groups: Mapping[str, Mapping]) -> list[str]:
    few = [group for group, row in groups.items() if row["subjects"] == 1]
    if not few:
        return []
    which = "all groups" if len(few) == len(groups) else ", ".join(few)
    return [f"{which}: trials of 1 subject, the interval is over them only and says nothing about another"]


def group_summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary of `report_groups` as lines for a terminal."""
    lines = [
        f"{summary['experiment']}: {summary['measure']}{beside(summary)}",
        f"  {'':<14} {'top-1':>6} {'chance':>6} {'95 % interval':>16} {'perm. p':>8} {'Holm':>7} {'top-3':>6} "
        f"{'balanced':>8} {'subjects':>8} {'n':>6}",
    ]
    for group, row in summary["groups"].items():
        if not row["n"]:
            lines.append(f"  {group:<14} no trials")
            continue
        holm = row["permutation_p_holm"]
        lines.append(
            f"  {group:<14} {row['accuracy']:6.3f} {row['chance']:6.3f} {interval_text(row):>16} "
            f"{p_text(row):>8} {'-' if holm is None else f'{holm:.4f}':>7} {row['top3']['accuracy']:6.3f} "
            f"{row['balanced']['accuracy']:8.3f} {row['subjects']:8d} {row['n']:6d}"
        )
    unequal = [f"{group}: {row['unequal']}" for group, row in summary["groups"].items() if row["unequal"]]
    lines += [f"  {text}; read the balanced accuracy" for text in unequal]
    lines += group_tests.lines(summary["between_groups"], "groups")
    if "between_spindles" in summary:
        lines += group_tests.lines(summary["between_spindles"], "trials with and without a spindle after the cue")
    lines += _behaviour_lines(summary)
    return lines + [f"  warning: {warning}" for warning in summary["warnings"]]
