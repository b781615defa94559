"""Results of several runs side by side: the same subjects, paired tests, corrected for their number."""

import glob
import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.train.evaluation import group_tests
from sleep_interpreter.train.evaluation.decoder_report import INTERVAL, interval_text, kind_of, write_csv
from sleep_interpreter.train.settings.experiment import EvaluateSettings
from sleep_interpreter.utils.core import config, provenance
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.data_card import items_apart
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.own_folder import own_folder
from sleep_interpreter.utils.core.paths import PARAMS, display_path, replaced_files
from sleep_interpreter.utils.metrics import decoding_metrics, statistics
from sleep_interpreter.utils.plots import decoding as plots

LEVEL = 0.05
SAME_TRIAL = ("item", "data_type", "group", "cue_id")
"""Columns of predictions.csv that are the same in two runs on the same trials."""
LONGEST_NAME = 120

Hits = Mapping[str, statistics.Trials]
"""By subject."""


@dataclass(frozen=True, eq=False)
class Run:
    """What a test script wrote.

    `name` is its folder's, with the folder above where two runs are called the same; `trials` is predictions.csv by
    subject, those without trials left out; `items` are in the order of the classes.
    """

    name: str
    folder: Path
    summary: dict
    trials: dict
    items: tuple[str, ...]

    def labels(self, subject: str) -> np.ndarray:
        """Return the class index of a subject's trials, int array (n,)."""
        return np.array([self.items.index(item) for item in self.trials[subject]["item"]])

    def probability(self, subject: str) -> np.ndarray:
        """Return the probabilities of a subject's trials, float32 array (n, K): the very numbers written."""
        return self.trials[subject][_columns(self.items)].to_numpy(np.float32)

    def accuracies(self, measure: str) -> dict[str, float]:
        """Return each subject's accuracy."""
        measured = {s: decoding_metrics.accuracies(self.labels(s), self.probability(s)) for s in self.trials}
        return {subject: own[measure] for subject, own in measured.items()}

    def chance(self, measure: str) -> float:
        """Return the mean over subjects of what each would get by chance (`statistics.chance`)."""
        each = [statistics.chance(self.labels(s), self.probability(s))[measure] for s in self.trials]
        return statistics.mean_chance(each)

    def unequal(self) -> str | None:
        """Return how often items were cued, where that differs (`statistics.unequal`)."""
        return statistics.unequal([np.bincount(self.labels(s), minlength=len(self.items)) for s in self.trials])


def compare(
    folders: Sequence[str], results: Path, measure: str | None = None, different_data: bool = False,
    name: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compare runs over the subjects they share, write the comparison and return it with its "path".

    `folders` are result folders of test scripts, or their names in `results`, whose folder "compare" receives
    NAME.csv (one row a run), NAME_pairs.csv, NAME_subjects.csv, NAME.json and NAME.png; without `name` they are
    called by the runs' names joined with "_vs_". `measure` is "top1", "top3" or "balanced"; by default "top1", and
    "balanced" where one run is fine-tuned and another is not: knowing how often each item is cued is a gain in top-1
    alone. With `different_data`
    runs on other data or other trials are compared, too, subjects of one name being taken for the same person;
    otherwise they are refused. So are fewer than two runs or common subjects, a folder without complete results, runs
    of different items, and "top3" of so few items that it is always right.
    """
    runs = _same_items(_read_runs(folders, Path(results)))
    if measure is None:
        measure = "balanced" if len({bool(run.summary.get("finetuned")) for run in runs}) > 1 else "top1"
    _check_measure(measure, runs[0])
    settings = _settings()
    warnings = []
    if different_data:
        warnings.append("not checked to be the same test data: subjects of one name are taken for one person")
    else:
        _check_same_data(runs)
    windows = {run.name: (run.summary.get("controls") or {}).get("window", "cue") for run in runs}
    if len(set(windows.values())) > 1:
        warnings.append("windows differ: " + ", ".join(f"{n} {window}" for n, window in windows.items()))
    if measure != "balanced":
        told = dict.fromkeys(text for run in runs if (text := run.unequal()))
        warnings += [f"{text}: a run that knows how often gains by that alone; --measure balanced" for text in told]
    warnings += [f"{run.name}: {text}" for run in runs for text in run.summary.get("warnings", ())]
    values = {run.name: run.accuracies(measure) for run in runs}
    hits = {run.name: _hits(run, measure) for run in runs}
    rows = {run.name: _run_row(run, hits[run.name], measure) for run in runs}
    pairs = _pairs(hits, measure, settings, not different_data)
    groups = _group_pairs(runs, hits, measure, settings, not different_data)
    kinds: list[str | None] = [kind for run in runs if (kind := kind_of(run.summary))]
    comparison = {
        "measure": statistics.NAMES[measure],
        "simulated": any(run.summary.get("simulated") for run in runs),
        "kind": "simulated" if "simulated" in kinds else (kinds or [None])[0],
        "warnings": warnings,
        "runs": rows,
        "pairs": pairs,
        **({"groups": groups} if groups else {}),
        "method": {
            "interval": INTERVAL,
            "difference": "of the means over common subjects; 95 % as above, further to the side of the longer tail; "
            "trials of both " + ("not paired: they are of different data" if different_data else "paired"),
            "tests": (
                "two-sided over common subjects: Wilcoxon signed-rank, and sign flips of the differences "
                f"(all, or {settings.permutations} drawn where there are more); Holm: over the pairs"
            ),
        },
        "provenance": provenance.record(),
    }
    stem = _stem(name, runs, measure)
    comparison["path"] = str(_write(comparison, values, Path(results) / "compare", stem))
    return comparison


def compare_within(
    folder: str, by: str, results: Path, measure: str = "top1", name: str | None = None
) -> dict[str, Any]:
    """Compare conditions within one run, write the comparison and return it with its "path".

    `by` is one of `group_tests.COLUMNS`. The folder "compare" of `results` receives NAME.json, NAME.csv (one row a
    condition) and NAME_pairs.csv; without `name` they are called RUN_by_BY.
    """
    run = _read_run(path := _find_run(folder, Path(results)), path.resolve().name)
    _check_measure(measure, run)
    table = pd.concat(run.trials.values())
    conditions, unknown = group_tests.conditions_of(table, by, f"{run.folder}/predictions.csv")
    every, hits = _hits(run, measure), dict[str, dict[str, statistics.Trials]]()
    for subject, own in run.trials.items():
        label, correct = every[subject]
        for condition, rows in conditions[own.index].groupby(conditions[own.index]).indices.items():
            hits.setdefault(str(condition), {})[subject] = label[rows], correct[rows]
    order = (*SO_GROUPS, *STAGES, "early", "late", "coupled", "uncoupled")
    names = sorted(hits, key=lambda c: (order.index(c) if c in order else len(order), c.zfill(9)))
    tests = group_tests.condition_tests({c: hits[c] for c in names}, _settings(), measure == "balanced")
    warnings = [f"{unknown} of {len(table)} trials do not say it and are left out"] if unknown else []
    comparison = {
        "run": run.name, "by": by, "measure": statistics.NAMES[measure], "kind": kind_of(run.summary), **tests,
        "warnings": [*warnings, *run.summary.get("warnings", ())], "provenance": provenance.record(),
    }  # fmt: skip
    name = name or f"{run.name}_by_{by}" + ("" if measure == "top1" else f"_{measure}")
    compared, stem = Path(results) / "compare", _stem(name, [run], measure)
    with _replaced(compared, stem) as place:
        write_csv(place / f"{stem}.csv", [pd.DataFrame(tests["conditions"]).T.rename_axis(by).reset_index()])
        write_csv(place / f"{stem}_pairs.csv", [pd.DataFrame(tests["contrasts"])])
        provenance.write_json(place / f"{stem}.json", comparison)
    return {**comparison, "path": str(compared / stem)}


def within_lines(comparison: Mapping[str, Any]) -> list[str]:
    """Return the result of `compare_within` as lines for a terminal."""
    kind = f" ({comparison['kind']})" if comparison["kind"] else ""
    lines = [f"{comparison['run']} by {comparison['by']}: {comparison['measure']}{kind}"]
    for name, row in comparison["conditions"].items():
        lines.append(f"  {name:<14} {row['accuracy']:6.3f} {row['subjects']:4d} subjects {row['n']:6d} trials")
    lines += group_tests.lines(comparison, "conditions")
    return lines + [f"  warning: {warning}" for warning in comparison["warnings"]]


def _settings() -> EvaluateSettings:
    path = PARAMS / "_base.yaml"
    tree, origin = config.resolve(path)
    return config.validate(EvaluateSettings, tree["evaluate"], display_path(path), origin, "evaluate")


def _check_measure(measure: str, run: Run) -> None:
    if measure == "top3" and len(run.items) <= 3:
        raise UserError(f"top3 of {len(run.items)} items is always right: compare by top1 or balanced")


def _read_runs(folders: Sequence[str], results: Path) -> list[Run]:
    if len(folders) < 2:
        raise UserError("give at least two results folders, for example: results/N23SIMD results/N23SISD")
    paths = [_find_run(folder, results) for folder in folders]
    places = [path.resolve() for path in paths]
    for place in places:
        if places.count(place) > 1:
            raise UserError(f"{place}: given twice; a run cannot be compared with itself")
    return [_read_run(path, name) for path, name in zip(paths, _names(places), strict=True)]


def _names(places: Sequence[Path]) -> list[str]:
    """Return a name for each run: its folder's, with as many folders before it as set it apart."""
    names = [place.name for place in places]
    for depth in range(2, max(len(place.parts) for place in places) + 1):
        twice = {name for name in names if names.count(name) > 1}
        names = [
            "_".join(place.parts[-depth:]).lstrip("/_") if name in twice else name
            for place, name in zip(places, names, strict=True)
        ]
    if len(set(names)) < len(names):
        raise UserError(f"two runs would have one name, {', '.join(names)}: rename a folder")
    return names


def _find_run(folder: str, results: Path) -> Path:
    for path in (Path(folder), results / folder):
        if path.is_dir():
            return path
    known = sorted(path.parent.name for path in results.glob("*/predictions.csv"))
    close = nearest(Path(folder).name, known, 1)
    hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}" if known else ""
    raise UserError(f"{folder}: no such results folder, here or in {results}{hint}")


def _read_run(folder: Path, name: str) -> Run:
    path = own_folder(folder) / "summary.json"
    try:
        summary = provenance.parse_json(path.read_text(encoding="utf-8"))
        table = pd.read_csv(folder / "predictions.csv", dtype={"subject": str})
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise UserError(
            f"{folder}: {missing} is missing, so no complete results of a test script; run it again"
        ) from None
    except ValueError as error:  # whatever either reader finds wrong
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: its results are not readable ({reason})") from None
    if not isinstance(summary, dict):
        raise UserError(f"{path}: expected a mapping, found {type(summary).__name__}; test again")
    items = _items(summary, table)
    for column in ("subject", "item", "data_type", *_columns(items)):
        if column not in table:
            raise UserError(f"{folder}/predictions.csv: column {column!r} is missing; test again")
    numbers = table[_columns(items)].apply(pd.to_numeric, errors="coerce")
    good = table["item"].isin(items) & np.isfinite(numbers).all(axis=1) & table["subject"].notna()
    if not good.all():
        raise UserError(
            f"{folder}/predictions.csv, line {good.idxmin() + 2}: no subject, an unknown item or "
            "probabilities that are no finite numbers; test again"
        )
    if table.empty:
        raise UserError(f"{folder}/predictions.csv: holds no trial")
    return Run(name, folder, summary, dict(iter(table.groupby("subject", sort=False))), items)


def _columns(items: Sequence[str]) -> list[str]:
    return [f"p_{item}" for item in items]


def _items(summary: Mapping[str, Any], table: pd.DataFrame) -> tuple[str, ...]:
    """Return the names of a run's items in the order of its classes: those of the summary, else of the columns."""
    overall = summary.get("overall")
    recall = overall.get("recall") if isinstance(overall, dict) else None
    columns = [str(column) for column in table]
    return tuple(recall or (column[2:] for column in columns if column.startswith("p_")))


def _same_items(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with their items in the order of the first; refuse a run of other items."""
    first = runs[0]
    for run in runs[1:]:
        if apart := items_apart(str(first.folder), first.items, str(run.folder), run.items):
            raise UserError(
                f"{first.folder} ({len(first.items)} items) and {run.folder} ({len(run.items)} items) are of "
                f"different items: {apart}; their accuracies cannot be compared"
            )
    return [replace(run, items=first.items) for run in runs]


def _check_same_data(runs: Sequence[Run]) -> None:
    """Refuse runs on other files or other trials than the first."""
    first = runs[0]
    for run in runs[1:]:
        prints = [r.summary.get("data_fingerprint") for r in (first, run)]
        if None in prints or prints[0] != prints[1]:
            raise UserError(
                f"{first.folder} and {run.folder} were tested on different data "
                f"({first.summary.get('data')}, {run.summary.get('data')}: data_fingerprint differs); test "
                "both on the same, or say --different-data if subjects of one name are the same people"
            )
        for subject in [s for s in first.trials if s in run.trials]:
            one, other = first.trials[subject], run.trials[subject]
            if ("group" in one) != ("group" in other):
                with_groups, without = (first, run) if "group" in one else (run, first)
                raise UserError(
                    f"{with_groups.folder} holds groups of trials and {without.folder} does not; compare runs of "
                    "test/N23SIMD_SO.py with each other, or groups within one run with --by phase"
                )
            known = [key for key in SAME_TRIAL if key in one and key in other]
            if len(one) != len(other) or any(
                list(one[key].astype(str)) != list(other[key].astype(str)) for key in known
            ):
                raise UserError(
                    f"{subject} was tested on other trials in {first.folder} "
                    f"({_parts(first, subject)}) than in {run.folder} ({_parts(run, subject)}); test "
                    "both on the same ones (test scripts take --data-type), or say --different-data"
                )


def _parts(run: Run, subject: str) -> str:
    counts = run.trials[subject]["data_type"].value_counts()
    return ", ".join(f"{count} {part}" for part, count in counts.items())


def _hits(run: Run, measure: str) -> Hits:
    """Return {subject: (label, whether correct by this measure)}."""
    below, hits = 3 if measure == "top3" else 1, {}
    for subject in run.trials:
        label = run.labels(subject)
        hits[subject] = label, statistics.true_rank(label, run.probability(subject)) < below
    return hits


def _run_row(run: Run, hits: Hits, measure: str) -> dict:
    if measure == "balanced":
        tables = [statistics.class_counts(label, hit, len(run.items)) for label, hit in hits.values()]
        row = statistics.balanced_over_subjects(tables, run.chance(measure))
    else:
        row = statistics.over_subjects([correct for _, correct in hits.values()], run.chance(measure))
    return {
        **row,
        "folder": display_path(run.folder),
        "checkpoint": run.summary.get("checkpoint"),
        "data_fingerprint": run.summary.get("data_fingerprint"),
        "kind": kind_of(run.summary),
    }


def _pairs(hits: Mapping[str, Hits], measure: str, settings: EvaluateSettings, same_trials: bool) -> list[dict]:
    pairs = []
    for one, other in itertools.combinations(hits, 2):
        common = [subject for subject in hits[one] if subject in hits[other]]
        if len(common) < 2:
            raise UserError(
                f"{one} and {other} have {len(common)} test subjects in common; a paired comparison needs 2"
            )
        first, second = ([hits[run][subject] for subject in common] for run in (one, other))
        balanced = measure == "balanced"
        row = statistics.paired(first, second, settings.permutations, settings.seed, balanced, same_trials)
        pairs.append({"first": one, "second": other, **row})
    _correct(pairs)
    return pairs


def _correct(pairs: Sequence[dict]) -> None:
    """Add to pairs their p corrected for the number of pairs (Holm), and what few subjects cannot show."""
    for test in ("wilcoxon", "sign_flip", "smallest"):
        adjusted = statistics.holm([pair[f"{test}_p"] for pair in pairs])
        for pair, p in zip(pairs, adjusted, strict=True):
            pair[f"{test}_p_holm"] = p
    for pair in pairs:
        pair["note"] = None
        if pair["smallest_p_holm"] >= LEVEL:
            corrected = " after Holm" if pair["smallest_p"] < LEVEL else ""
            pair["note"] = (
                f"too few subjects for p < {LEVEL}: with {pair['differing']} that differ, the smallest these "
                f"tests can reach{corrected} is {pair['smallest_p_holm']:.3g}"
            )


def _group_pairs(
    runs: Sequence[Run], hits: Mapping[str, Hits], measure: str, settings: EvaluateSettings, same_trials: bool
) -> dict[str, list[dict]]:
    """Return {group: pairs of runs on its trials}, Holm over all of them; empty where runs hold no groups.

    Groups with fewer than 2 subjects in common are left out.
    """
    tables = [table for run in runs for table in run.trials.values()]
    if not all("group" in table for table in tables):
        return {}
    found: dict[str, list[dict]] = {}
    for group in dict.fromkeys(name for table in tables for name in table["group"]):
        inside = {
            run.name: {
                subject: (own[0][rows], own[1][rows])
                for subject, own in hits[run.name].items()
                if (rows := (run.trials[subject]["group"] == group).to_numpy()).any()
            }
            for run in runs
        }
        if all(len(inside[a.name].keys() & inside[b.name].keys()) > 1 for a, b in itertools.combinations(runs, 2)):
            found[group] = _pairs(inside, measure, settings, same_trials)
    _correct([pair for pairs in found.values() for pair in pairs])
    return found


def _stem(name: str | None, runs: Sequence[Run], measure: str) -> str:
    stem = name or "_vs_".join(run.name for run in runs) + ("" if measure == "top1" else f"_{measure}")
    if len(stem) > LONGEST_NAME or Path(stem).name != stem:
        raise UserError(f"{stem!r} is no good file name (too long, or with a slash); give a short one with --name")
    return stem


def _write(comparison: Mapping[str, Any], values: Mapping[str, Mapping[str, float]], folder: Path, stem: str) -> Path:
    rows = [{"run": name, **row, "measure": comparison["measure"]} for name, row in comparison["runs"].items()]
    by_subject = pd.DataFrame(values).rename_axis("subject").reset_index()
    title, measure = f"{len(values)} runs" if len(values) > 2 else " vs ".join(values), comparison["measure"]
    with _replaced(folder, stem) as place:
        write_csv(place / f"{stem}.csv", [pd.DataFrame(rows)])
        write_csv(place / f"{stem}_pairs.csv", [pd.DataFrame(comparison["pairs"])])
        write_csv(place / f"{stem}_subjects.csv", [by_subject])
        plots.compared_runs(values, comparison["runs"], place / f"{stem}.png", measure, title, comparison["kind"])
        provenance.write_json(place / f"{stem}.json", comparison)
    return folder / stem


def _replaced(folder: Path, stem: str) -> AbstractContextManager[Path]:
    """Give a temporary folder for the files of a comparison, which replace those of that name together."""
    own = glob.escape(stem)  # a comparison between runs has more files than one within a run
    return replaced_files(folder, f"{stem}.json", old=(f"{own}_subjects.csv", f"{own}.png"))


def summary_lines(comparison: Mapping[str, Any]) -> list[str]:
    """Return the comparison as lines for a terminal."""
    kind = f" ({comparison['kind']})" if comparison["kind"] else ""
    levels = list(dict.fromkeys(f"{row['chance']:.4f}" for row in comparison["runs"].values()))
    width = max(len(name) for name in comparison["runs"])
    lines = [
        f"{comparison['measure']}, chance {' and '.join(levels)}{kind}",
        f"  {'':<{width}} {'mean':>6} {'95 % interval':>16} {'subjects':>8} {'n':>6}",
    ]
    for name, row in comparison["runs"].items():
        numbers = f"{interval_text(row):>16} {row['subjects']:8d} {row['n']:6d}"
        lines.append(f"  {name:<{width}} {row['accuracy']:6.3f} {numbers}")
    several = len(comparison["pairs"]) > 1
    corrected = f", Holm over {len(comparison['pairs'])} pairs in brackets" if several else ""
    lines.append(f"paired over common subjects, two-sided{corrected}{kind}")
    for pair in comparison["pairs"]:
        tests = [
            f"{label} p = {pair[f'{test}_p']:.3g}" + (f" ({pair[f'{test}_p_holm']:.3g})" if several else "")
            for label, test in (("Wilcoxon", "wilcoxon"), ("sign flips", "sign_flip"))
        ]
        lines.append(
            f"  {pair['first']} - {pair['second']}: {pair['difference']:+.3f} [{pair['low']:+.3f}, "
            f"{pair['high']:+.3f}], {pair['subjects']} common subjects; {', '.join(tests)}"
        )
        lines += [f"    {pair['note']}"] if pair["note"] else []
    for group, pairs in comparison.get("groups", {}).items():
        for pair in pairs:
            lines.append(
                f"  {group}: {pair['first']} - {pair['second']}: {pair['difference']:+.3f} [{pair['low']:+.3f}, "
                f"{pair['high']:+.3f}], {pair['subjects']} subjects; sign flips p = {pair['sign_flip_p']:.3g} "
                f"({pair['sign_flip_p_holm']:.3g} over all groups)"
            )
    return lines + [f"  warning: {warning}" for warning in comparison["warnings"]]
