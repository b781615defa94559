"""What came out of the simulated benchmark against what was planted: accuracies, comparisons, verdicts.

A verdict says what the data allow: "shown" (the 95 % interval lies on the planted side), "not shown" (it
holds zero), "contradicted" (it lies on the other side). For what must not be there: "holds" if chance is in
the interval. Subjects are the unit; a subject's trials of all seeds count together.
"""

from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import page_trend_test

from benchmarks.decoding import planted_lasso
from sleep_interpreter.train.evaluation.decoder_report import write_csv
from sleep_interpreter.utils.core import provenance
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.metrics import statistics
from sleep_interpreter.utils.plots import decoding as plots

UP = ("1st-Up", "trans-2nd-Up", "2nd-Up")
DOWN = ("trans-Down", "Down")
"""Groups whose trials are put together, by the phase at the cue."""
KIND = "simulated"
CHANCE = 1 / len(published().items)


def report(study, folder):
    """Compare, write summary.json, rows.csv and accuracy.png, and return the summary.

    Parameters
    ----------
    study : benchmarks.decoding.planted_benchmark.PlantedBenchmarkSettings
    folder : Path
        With the finished runs.
    """
    settings = study.experiment().evaluate
    hits = _hits(study, folder)
    rows = {
        name: {
            **statistics.over_subjects([hit for _, hit in own.values()], CHANCE),
            "by_subject": {subject: float(hit.mean()) for subject, (_, hit) in own.items()},
        }
        for name, own in hits.items()
    }
    verdicts = _verdicts(study, hits, rows, settings)
    lasso = planted_lasso.rows(study, folder)
    verdicts += planted_lasso.verdicts(study, folder, lasso)
    rows |= lasso
    summary = {
        "benchmark": "planted truth against what is found (simulated)",
        "simulated": True,
        "measure": f"top-1 of {len(published().items)} on unseen subjects, chance {CHANCE:.4f}",
        "method": "accuracy of a subject: its trials of all seeds; interval: 95 %, Student's t over "
        "subjects and trials; p: two-sided Wilcoxon signed-rank over subjects. Lasso: nested peak of a "
        "subject's own trials (docs/lasso.md), beside the interval of permuted labels; one run, nothing in "
        "it starts at random",
        "seeds": list(study.seeds),
        "rows": rows,
        "verdicts": verdicts,
        "settings": study.model_dump(mode="json"),
        "provenance": provenance.record(),
    }
    values = {name: row["by_subject"] for name, row in rows.items()}
    title = f"planted truth, {len(study.seeds)} seeds"
    plots.compared_runs(values, rows, folder / "accuracy.png", "top-1", title, KIND)
    flat = [{"row": name, **{k: v for k, v in row.items() if k != "by_subject"}} for name, row in rows.items()]
    write_csv(folder / "rows.csv", [pd.DataFrame(flat)])
    provenance.write_json(folder / "summary.json", summary)
    return summary


def _hits(study, folder):
    """Return {row: {subject: (label, hit)}} with the trials of all seeds."""
    base = f"strength_{study.strength:g}"
    places = {f"SISD, strength {s:g}": (f"SISD_strength_{s:g}", "N23SISD", None) for s in study.strengths}
    places |= {
        "SISD, shuffled labels": (f"SISD_shuffled_{base}", "N23SISD_shuffled", None),
        "SIMD": (f"SIMD_{base}", "N23SIMD", None),
        "SIMD, up-states": (f"SIMD_{base}", "N23SIMD_SO", ("group", UP)),
        "SIMD, down-states": (f"SIMD_{base}", "N23SIMD_SO", ("group", DOWN)),
        "SIMD, zero-shot, test part": (f"SIMD_{base}", "N23SIMD", ("data_type", ("test",))),
        "SIMD, fine-tuned, test part": (f"SIMD_{base}", "N23_finetune", None),
    }
    many = {
        "SIMD, zero-shot, many trials": (f"SIMD_many_{base}", "N23SIMD", ("data_type", ("test",))),
        "SIMD, fine-tuned, many trials": (f"SIMD_many_{base}", "N23_finetune", None),
    }
    found = {}
    for row, (run, name, only) in (places | (many if study.many_trials else {})).items():
        seeds = study.seeds[:1] if row in many else study.seeds
        files = [folder / f"{run}_seed_{seed}" / name / "predictions.csv" for seed in seeds]
        found[row] = _read(files, only)
    return found


def _read(files, only):
    frames = []
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: missing; give the same command again, what is finished is kept")
        frame = pd.read_csv(file)
        frames.append(frame[frame[only[0]].isin(only[1])] if only else frame)
    trials = pd.concat(frames, ignore_index=True)
    label = trials["item"].map(published().item_index).to_numpy()
    hit = trials["correct"].to_numpy(bool)
    return {s: (label[rows], hit[rows]) for s, rows in trials.groupby("subject").indices.items()}


def _verdicts(study, hits, rows, settings):
    """Return one verdict a planted claim: {claim, expected, verdict, figures}."""

    def compare(claim, better, worse):
        one, other = ([hits[name][subject] for subject in sorted(hits[better])] for name in (better, worse))
        found = statistics.paired(one, other, settings.permutations, settings.seed)
        sign = "shown" if found["low"] > 0 else "contradicted" if found["high"] < 0 else "not shown"
        return {"claim": claim, "verdict": sign, "rows": [better, worse], **found}

    def above(claim, name):
        row = rows[name]
        return {"claim": claim, "verdict": "shown" if row["low"] > CHANCE else "not shown", "rows": [name]}

    def at_chance(claim, name):
        row = rows[name]
        holds = row["low"] <= CHANCE <= row["high"]
        return {"claim": claim, "verdict": "holds" if holds else "contradicted", "rows": [name]}

    by_strength = [f"SISD, strength {s:g}" for s in study.strengths]
    found = [
        compare("awake + sleep >= sleep alone", "SIMD", f"SISD, strength {study.strength:g}"),
        above("sleep alone > chance", f"SISD, strength {study.strength:g}"),
        above("awake + sleep > chance", "SIMD"),
        compare("up-states > down-states", "SIMD, up-states", "SIMD, down-states"),
        compare("fine-tuned > zero-shot", "SIMD, fine-tuned, test part", "SIMD, zero-shot, test part"),
        *(compare(f"{high} > {low.removeprefix('SISD, ')}", high, low) for low, high in pairwise(by_strength)),
        _trend(rows, by_strength),
        at_chance("strength 0: chance in the interval", by_strength[0]),
        at_chance("shuffled labels: chance in the interval", "SISD, shuffled labels"),
    ]
    if study.many_trials:
        many = ("SIMD, fine-tuned, many trials", "SIMD, zero-shot, many trials")
        found.append(compare("fine-tuned > zero-shot, many trials", *many))
    if found[0]["verdict"] == "not shown":  # the claim is "at least as good"
        found[0]["verdict"] = "not contradicted"
    return found


def _trend(rows, names):
    """Return the verdict on a monotone rise with strength (Page's test over subjects)."""
    subjects = sorted(rows[names[0]]["by_subject"])
    table = np.array([[rows[name]["by_subject"][s] for name in names] for s in subjects])
    means = table.mean(axis=0)
    if len(subjects) < 2 or len(names) < 3:
        return {"claim": "monotone in strength", "verdict": "not tested: too few", "rows": names}
    p = float(page_trend_test(table).pvalue)
    rising = bool((np.diff(means) > 0).all())
    return {
        "claim": "monotone in strength", "rows": names, "page_p": p, "means_rise": rising,
        "verdict": "shown" if rising and p < 0.05 else "not shown",
    }  # fmt: skip


def table(summary):
    """Return the summary as lines for a terminal."""
    lines = [f"{summary['benchmark']}: {summary['measure']}, seeds {summary['seeds']}"]
    for name, row in summary["rows"].items():
        lines.append(
            f"  {name:<32} {row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]  "
            f"{row['subjects']} subjects, n = {row['n']}"
            + (f"; permuted [{row['permuted_low']:.3f}, {row['permuted_high']:.3f}]" if "permuted_low" in row else "")
        )
    for verdict in summary["verdicts"]:
        line = f"  {verdict['verdict']:<17} {verdict['claim']}"
        if "difference" in verdict:
            line += (
                f" ({verdict['difference']:+.3f} [{verdict['low']:+.3f}, {verdict['high']:+.3f}], "
                f"p = {verdict['wilcoxon_p']:.3g})"
            )
        elif "page_p" in verdict:
            line += f" (Page's trend test p = {verdict['page_p']:.3g})"
        lines.append(line + planted_lasso.lines(verdict))
    return lines
