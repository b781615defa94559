"""What a Lasso GLM experiment writes about a cohort: result pickle, tidy tables, summary and figures."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats import trial_origin
from sleep_interpreter.lasso_glm.engine.plans import PLANS, Plan
from sleep_interpreter.lasso_glm.engine.run import SubjectResult
from sleep_interpreter.lasso_glm.engine.settings import LassoSettings, seconds
from sleep_interpreter.train.evaluation.decoder_report import INTERVAL, write_csv
from sleep_interpreter.utils.core import provenance
from sleep_interpreter.utils.core.data_card import AWAKE, DataCard
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import replaced_files
from sleep_interpreter.utils.core.safe_pickle import write_pickle
from sleep_interpreter.utils.metrics import exchangeability, time_course_tests
from sleep_interpreter.utils.metrics.statistics import mean_chance, prevalence_text
from sleep_interpreter.utils.plots import lasso as plots_lasso

COLUMNS = ("subject", "experiment", "train", "test", "fold", "offset", "time", "accuracy", "n")
MAYBE = ("accuracy.png", "map_*.png", "generalisation_*.png", "patterns_*.png", "validation.csv")
"""Files that a report may have or not: those of an earlier one go."""
_EVERYWHERE = " at every time sample"
Arrays = Mapping[str, np.ndarray]
"""Of one subject and pair of domains, as `lasso_glm.engine.fits` returns them."""
Described = tuple[dict[str, Any], pd.DataFrame, dict[str, Any]]


def report(
    plan: Plan, settings: LassoSettings, results: Mapping[str, SubjectResult], folder: Path, card: DataCard,
    notes: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write everything about an experiment and return the summary, as in summary.json, with the notes in it.

    The folder receives summary.json, accuracy.csv, validation.csv, mean.csv, predictions.csv (each trial at the nested
    peak) and figures; the pickle goes beside it.
    Refused if no subject has the trials that the experiment needs.
    """
    with replaced_files(folder, "summary.json", {f"{plan.pickle}.pickle"}, MAYBE) as place:
        simulated = any(own.header["simulated"] for own in results.values())
        kind = "simulated" if simulated else None
        pairs, curves, warnings, predictions = {}, [], [], []
        for pair in plan.pairs:
            own = {name: r.arrays["/".join(pair)] for name, r in results.items() if "/".join(pair) in r.arrays}
            if own:
                describe = _cross if plan.tests else _within
                exchanges = {
                    name: time_course_tests.exchange_of(a, settings.statistics.permute) for name, a in own.items()
                }
                why = time_course_tests.leaking([*exchanges.values()])
                if told := exchangeability.warning(exchanges, "statistics.permute"):
                    warnings.append(f"{'/'.join(pair)}: {told}")
                pairs["/".join(pair)], rows, drawn = describe(pair, own, settings, card, why)
                curves.append(rows)
                predictions += _predictions(pair, own, results, settings, card)
                _draw(plan, pair, drawn, results, own, place, card, kind)
        if not pairs:
            raise UserError(
                f"{plan.name}: none of the {len(results)} subjects has the trials for it (domains "
                f"{', '.join(plan.domains)}); the warnings above say what is missing"
            )
        summary = {
            "experiment": plan.name,
            "measure": f"top-1 of {len(card.items)}{_EVERYWHERE}",
            "chance": mean_chance([row["chance"] for row in pairs.values()]),
            "simulated": simulated,
            **notes,
            "warnings": [
                *warnings,
                *_same_data(results),
                *(text for own in results.values() for text in own.header["remarks"]),
            ],
            "results": pairs,
            "subjects": {name: _subject_row(own) for name, own in results.items()},
            "missing": {name: own.header["missing"] for name, own in results.items() if own.header["missing"]},
            "few_trials": {name: own.header["few"] for name, own in results.items() if own.header["few"]},
            "settings": settings.model_dump(mode="json"),
            "method": _method(plan),
            "provenance": provenance.record(),
        }
        for file, part in (("accuracy", ""), *(() if plan.tests else (("validation", "validation_"),))):
            tables = [_tidy(plan, name, own, settings, part, card) for name, own in results.items()]
            write_csv(place / f"{file}.csv", tables, digits=6)
        write_csv(place / "mean.csv", curves, digits=6)
        write_csv(
            place / "predictions.csv", predictions or [pd.DataFrame(columns=["subject", "train", "test", "trial"])]
        )
        published = published_structure(plan, results, settings, simulated)
        write_pickle(published, place / f"{plan.pickle}.pickle")
        provenance.write_json(place / "summary.json", summary)
    return summary


def _same_data(results: Mapping[str, SubjectResult]) -> list[str]:
    """Return a warning for each set of subjects whose files have the same content."""
    by_content: dict[str, list[str]] = {}
    for name, own in results.items():
        by_content.setdefault(own.header["key"]["data"], []).append(name)
    return [
        f"{', '.join(names)} have the same data: one subject is counted as {len(names)}"
        for names in by_content.values()
        if len(names) > 1
    ]


def published_structure(
    plan: Plan, results: Mapping[str, SubjectResult], settings: LassoSettings, simulated: bool
) -> dict[str, Any]:
    """Return the original's result pickle: accuracies in percent; docs/lasso.md describes it."""
    mark = {provenance.MARK: True} if simulated else {}
    if not plan.tests:
        (pair,) = ("/".join(pair) for pair in plan.pairs)
        return mark | {name: _percent_of_folds(own.arrays.get(pair)) for name, own in results.items()}

    def windows(own: SubjectResult, train: str) -> dict[int, dict[str, list[np.ndarray]]]:
        found: dict[int, dict[str, list[np.ndarray]]] = {}
        for offset in range(len(settings.windows.offsets)):
            arrays = {test: own.arrays.get(f"{train}/{test}") for test in plan.tests}
            percent = {t: [(100 * a["hits"][offset] / a["n"]).astype(np.float32)] for t, a in arrays.items() if a}
            found[offset] = {test: percent.get(test, []) for test in plan.tests}
        return found

    if len(PLANS.get(plan.name, plan).train) == 1:  # whatever the data set has of it
        return mark | {name: windows(own, plan.train[0]) for name, own in results.items()}
    return mark | {name: {train: windows(own, train) for train in plan.train} for name, own in results.items()}


def _percent_of_folds(arrays: Arrays | None) -> list[list[np.ndarray]]:
    if arrays is None:
        return []
    parts = [100 * arrays[f"{part}hits"] / arrays[f"{part}n"][:, None] for part in ("validation_", "")]
    return [[part[fold].astype(np.float32) for part in parts] for fold in range(len(arrays["n"]))]


def _within(
    pair: tuple[str, str], own: Mapping[str, Arrays], settings: LassoSettings, card: DataCard, why: str | None
) -> Described:
    """Return a domain's entry of the summary, its rows of mean.csv, and what the figures show."""
    curves = np.array([a["hits"].sum(axis=0) / a["n"].sum() for a in own.values()])
    by_chance = np.array([time_course_tests.chance_of(a) for a in own.values()])
    validation = np.mean([a["validation_hits"].sum(axis=0) / a["validation_n"].sum() for a in own.values()], axis=0)
    times = np.array(seconds(pair[0], curves.shape[1], card))
    tested, mask = time_course_tests.clusters(curves, by_chance, settings.statistics, why)
    interval = time_course_tests.band(
        np.array([a["hits"].sum(axis=0) for a in own.values()]), np.array([a["n"].sum() for a in own.values()])
    )
    peaks = time_course_tests.peaks_within(own)
    quartiles = np.percentile(np.concatenate([row["cells"] for row in peaks.values()]), [25, 50, 75])
    names = ("lower_quartile", "median", "upper_quartile")
    best = int(validation.argmax())
    entry = {
        "subjects": len(own),
        "n": int(sum(a["n"].sum() for a in own.values())),
        "chance": mean_chance(by_chance.ravel()),
        "peak": time_course_tests.peak(peaks, settings.statistics),
        "peak_times": {key: float(times[round(q)]) for key, q in zip(names, quartiles, strict=True)},
        "validation_curve_peaks_at": float(times[best]),
        "clusters": _in_seconds(tested, lambda place: float(times[place[-1]])),
        "largest_residual": float(max(a["residual"] for a in own.values())),
        "peak_by_subject": _peak_rows(peaks),
    }
    low, high = interval or (np.full(len(times), np.nan),) * 2
    mean = curves.mean(axis=0)
    columns = {"train": pair[0], "test": pair[1], "time": times, "accuracy": mean, "low": low, "high": high}
    columns["chance"] = by_chance.mean(axis=0)
    drawn = {"times": times, "mean": mean, "interval": interval, "mask": mask, "sample": best}
    drawn |= {"subjects": len(own), "n": entry["n"], "chance": columns["chance"]}
    return entry, pd.DataFrame({**columns, "significant": mask, "subjects": len(own)}), drawn


def _cross(
    pair: tuple[str, str], own: Mapping[str, Arrays], settings: LassoSettings, card: DataCard, why: str | None
) -> Described:
    """Return a pair's entry of the summary, its rows of mean.csv, and what the figures show."""
    maps = np.array([a["hits"] / a["n"] for a in own.values()])
    times = np.array(seconds("image", maps.shape[2], card))
    offsets = np.array(settings.windows.offsets)
    by_chance = np.array([time_course_tests.chance_of(a) for a in own.values()])
    tested, mask = time_course_tests.clusters(maps, by_chance, settings.statistics, why)
    peaks = time_course_tests.peaks_across(own)
    entry = {
        "subjects": len(own),
        "n": int(sum(a["n"] for a in own.values())),
        "chance": mean_chance(by_chance.ravel()),
        "peak": time_course_tests.peak(peaks, settings.statistics),
        "clusters": _in_seconds(tested, lambda place: [float(offsets[place[0]]), float(times[place[1]])]),
        "peak_by_subject": _peak_rows(peaks),
    }
    most = Counter(tuple(row["cells"][0]) for row in peaks.values()).most_common(1)
    mean = maps.mean(axis=0)
    columns = {"train": pair[0], "test": pair[1], "offset": np.repeat(offsets, len(times))}
    columns |= {"time": np.tile(times, len(offsets)), "accuracy": mean.ravel(), "significant": mask.ravel()}
    columns["chance"] = by_chance.mean(axis=0).ravel()
    rows = pd.DataFrame({**columns, "subjects": len(own)})
    drawn = {"times": times, "offsets": offsets, "mean": mean, "mask": mask, "subjects": len(own)}
    drawn |= {"n": entry["n"], "cell": most[0][0] if most else None, "chance": by_chance.mean(axis=0)}
    if all("generalised" in a for a in own.values()):
        everywhere = np.array([a["generalised"] / a["n"] for a in own.values()])
        expected = np.array([a["by_chance"] / a["n"] for a in own.values()])
        found, where = time_course_tests.clusters(everywhere, expected, settings.statistics, why)
        axes = [np.array(seconds(domain, size, card)) for domain, size in zip(pair, everywhere.shape[1:], strict=True)]
        entry["generalised"] = _in_seconds(found, lambda p: [float(axes[0][p[0]]), float(axes[1][p[1]])])
        drawn["generalised"] = {"mean": everywhere.mean(axis=0), "mask": where, "axes": axes}
        drawn["generalised"]["chance"] = expected.mean(axis=0)
    return entry, rows, drawn


def _predictions(
    pair: tuple[str, str], own: Mapping[str, Arrays], results: Mapping[str, SubjectResult], settings: LassoSettings,
    card: DataCard,
) -> list[pd.DataFrame]:  # fmt: skip
    """Return one row a trial: what was decoded at the nested peak, which its own trials have not chosen."""
    names, frames, folds = np.array(card.item_names), [], all("fold" in arrays for arrays in own.values())
    rows = time_course_tests.peaks_within(own) if folds else time_course_tests.peaks_across(own)
    for subject, row in rows.items():
        arrays, cells = own[subject], np.array(row["cells"])
        label, places, at = arrays["label"], np.arange(len(arrays["label"])), dict[str, Any]()
        if folds:
            sample = cells[arrays["fold"]]
            predicted, at["fold"] = arrays["predicted"][places, sample], arrays["fold"]
        else:
            offset, sample = cells[0]
            predicted, at["offset"] = arrays["predicted"][:, offset, sample], settings.windows.offsets[offset]
        at["time"] = np.array(seconds(pair[0] if folds else "image", arrays["predicted"].shape[-1], card))[sample]
        frame = pd.DataFrame({"subject": subject, "train": pair[0], "test": pair[1], "trial": places, **at})
        origin = trial_origin.to_table(results[subject].header["origin"].get(pair[1], []), subject)
        frame = frame if origin is None else frame.join(origin)
        frames.append(frame.assign(item=names[label], predicted=names[predicted], correct=label == predicted))
    return frames


def _draw(
    plan: Plan, pair: tuple[str, str], drawn: Mapping[str, Any], results: Mapping[str, SubjectResult],
    own: Mapping[str, Arrays], folder: Path, card: DataCard, kind: str | None,
) -> None:  # fmt: skip
    name = f"{pair[0]}_{pair[1]}" if plan.tests else pair[0]
    title = f"{plan.name}: {pair[0]} to {pair[1]}" if plan.tests else plan.name
    if not plan.tests:
        plots_lasso.accuracy_over_time(drawn, folder / "accuracy.png", pair[0], title, kind)
        place, patterns = drawn["sample"], [a["patterns"] for a in own.values()]
        at = drawn["times"][place]
    else:
        plots_lasso.offset_map(drawn, folder / f"map_{name}.png", card.windows.sleep.begin, title, kind)
        if "generalised" in drawn:
            path = folder / f"generalisation_{name}.png"
            plots_lasso.generalisation(drawn["generalised"], drawn, path, pair, title, kind)
        if drawn["cell"] is None or pair != next(p for p in plan.pairs if p[0] == pair[0]):
            return  # patterns belong to the training domain: once
        shared = [results[subject].arrays[pair[0]] for subject in own]
        first = 0 if pair[0] in AWAKE else round(float(drawn["offsets"][drawn["cell"][0]]) * card.rate_hz)
        place = drawn["cell"][1] + first
        place = int(np.flatnonzero(shared[0]["fitted"] == place)[0])
        patterns = [a["patterns"] for a in shared]
        at = seconds(pair[0], card.sleep_samples, card)[int(shared[0]["fitted"][place])]
    mean = np.mean([p[place] for p in patterns], axis=0)
    path = folder / f"patterns_{pair[0]}.png"
    plots_lasso.patterns(mean, card.item_names, path, at, len(own), plan.name, kind, card.channels)


def _in_seconds(tested: Mapping[str, Any], convert: Callable[[Sequence[int]], Any]) -> dict[str, Any]:
    rows = [{**row, **{end: convert(row[end]) for end in ("first", "last")}} for row in tested["clusters"]]
    return {**tested, "clusters": rows}


def _peak_rows(peaks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: {"n": row["n"], "hits": row["hits"], "accuracy": row["hits"] / row["n"], "cells": row["cells"]}
        for name, row in peaks.items()
    }


def _subject_row(own: SubjectResult) -> dict[str, Any]:
    """Return trials a domain, and the share of the most frequent item: what always naming it would get."""
    rows = {}
    for pair, arrays in own.arrays.items():
        if "cued" in arrays:
            cued = arrays["cued"].reshape(-1, arrays["cued"].shape[-1]).sum(axis=0)
            rows[pair] = float(cued.max() / cued.sum())
    return {"n": own.header["n"], "most_frequent_item": rows}


def _tidy(
    plan: Plan, name: str, own: SubjectResult, settings: LassoSettings, part: str, card: DataCard
) -> pd.DataFrame:
    """Return one subject's rows of accuracy.csv, or with part = "validation_" of validation.csv."""
    frames = []
    for train, test in plan.pairs:
        arrays = own.arrays.get(f"{train}/{test}")
        if arrays is None:
            continue
        hits = arrays[f"{part}hits"]
        rows, samples = hits.shape
        n = np.broadcast_to(arrays[f"{part}n"], rows)
        times = seconds("image" if plan.tests else train, samples, card)
        frame = pd.DataFrame({"time": np.tile(times, rows), "accuracy": (hits / n[:, None]).ravel()})
        frame["n"] = np.repeat(n, samples)
        lead = np.repeat(settings.windows.offsets if plan.tests else np.arange(rows), samples)
        frame["offset" if plan.tests else "fold"] = lead
        frames.append(frame.assign(subject=name, experiment=plan.name, train=train, test=test))
    return pd.concat(frames).reindex(columns=list(COLUMNS)) if frames else pd.DataFrame(columns=list(COLUMNS))


def _method(plan: Plan) -> dict[str, str]:
    chosen = (
        "each test fold at the time sample that its validation fold likes best (the earliest of equals)"
        if not plan.tests
        else "each subject at the offset and time that the mean of the other half of the subjects likes best"
    )
    return {
        "peak": f"accuracy over subjects, {chosen}; {INTERVAL}",
        "curve": f"mean over subjects; {INTERVAL}, at every sample of its own",
        "permutation": "labels permuted within subject and fold against fixed decisions; low and high: 95 %; its p "
        "says that there is something in somebody, prevalence in what share of people at least",
        "chance": "mean over all orders of the labels within subject and fold against fixed decisions, exactly",
        "clusters": "cluster-based permutation over subjects, each against its own chance at every place, first and "
        "last in s",
        "classes": "an item without a training trial is never decoded, its test trials count as misses",
    }


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the lines of a summary for the terminal, each with n, chance and interval."""
    measure = summary["measure"].removesuffix(_EVERYWHERE)
    beside = " (simulated data)" if summary["simulated"] else ""
    lines = [f"{summary['experiment']}{beside}: {measure}, chance {100 * summary['chance']:.1f} %"]
    for pair, row in summary["results"].items():
        peak = row["peak"]
        if peak is None:
            lines.append(f"  {pair}: n = {row['n']} trials of 1 subject; a nested peak takes two")
            continue
        null, level = peak["permutation"], f"{100 * peak['chance']:.1f}"
        against = "" if level == f"{100 * summary['chance']:.1f}" else f"chance {level} %, "
        lines.append(
            f"  {pair}: nested peak {100 * peak['accuracy']:.1f} % ({100 * peak['low']:.1f} to "
            f"{100 * peak['high']:.1f}), n = {peak['n']} trials of {peak['subjects']} subjects; "
            f"{against}{_permuted_text(null)}"
        )
        lines.append(f"    {prevalence_text(peak['prevalence'])}")
        if peak["unequal"]:
            even = peak["balanced"]
            lines.append(
                f"    {peak['unequal']}: balanced accuracy {100 * even['accuracy']:.1f} % ({100 * even['low']:.1f} to "
                f"{100 * even['high']:.1f}), chance {100 * even['chance']:.1f} %"
            )
        significant = [c for c in row["clusters"]["clusters"] if c["p"] < 0.05]
        note = row["clusters"]["note"]
        lines.append(f"    {len(significant)} clusters above chance" if "not tested" not in note else f"    {note}")
    if "sleep_trials" in summary:
        lines.append(f"  sleep trials {summary['sleep_trials']}")
    if summary["missing"]:
        missing = [f"{name} ({', '.join(domains)})" for name, domains in summary["missing"].items()]
        lines.append(f"  missing: {', '.join(missing)}")
    return lines + [f"  warning: {warning}" for warning in summary["warnings"]]


def _permuted_text(null: Mapping[str, Any]) -> str:
    if null["low"] is None:
        return f"labels not permuted: {null['note']}"
    p = f"p = {null['p']:.4f}" if null["p"] is not None else f"no p ({null['note']})"
    return f"permuted labels {100 * null['low']:.1f} to {100 * null['high']:.1f} %, {p}"
