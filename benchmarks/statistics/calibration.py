"""How often the reports' tests find something where there is nothing, and how often their intervals hold the truth.

Every test and interval that a report prints is given simulated studies: decoders that know how often each item is cued
and nothing else, designs in blocks, groups of trials, subjects whose true accuracies are alike, vary or vary with a
long tail, nights of stagers, rates of reactivation. The functions are those that the reports call; docs/statistics.md
holds the table.

    python -m benchmarks.statistics.calibration --page docs/statistics.md             (make calibration-study)
    python -m benchmarks.statistics.calibration --simulations 20     (fewer than 1000 leave a page as it is)
    python -m benchmarks.statistics.calibration --only coverage --page docs/statistics.md   (one of the tables; minutes)

Interrupted, the same command goes on with the situations that are not done.
"""

import argparse
import itertools
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import signal

from benchmarks import runner
from benchmarks.statistics import reactivation
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.lasso_glm.engine.settings import Statistics
from sleep_interpreter.train.evaluation import group_tests, memory_scores, paired_values, reactivation_events
from sleep_interpreter.utils.core import command_line, parallel
from sleep_interpreter.utils.core.command_line import progress
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.core.provenance import git_revision, read_json, record, write_json
from sleep_interpreter.utils.metrics import exchangeability, staging_metrics, statistics, time_course_tests
from sleep_interpreter.utils.metrics.exchangeability import Permute
from sleep_interpreter.utils.metrics.reliability import confidence_reliability

CLASSES, PERMUTATIONS, SAMPLES, FLIPS, SIMULATIONS = 15, 119, 20, 500, 1000
SUBJECTS, NIGHTS = (4, 8, 12, 20), (2, 3, 5, 8)
ITEMS = {
    "2 of 15 items": [45] * 2,
    "3 of 15 items": [30] * 3,
    "8 of 15 items": [11] * 8,
    "15 items": [6] * 15,
    "15 items, cued 1:2": [4, 8] * 7 + [4],
    "15 items, one 5 times as often": [25] + [5] * 14,
}
"""Trials of each item that is there."""
TRUTHS = {
    "alike": lambda random, mean, size: np.full(size, mean),
    "vary": lambda random, mean, size: random.beta(24 * mean, 24 * (1 - mean), size),
    "long tail": lambda random, mean, size: np.minimum(mean - 0.1 + random.exponential(0.1, size), 0.99),
}
"""True accuracies of subjects whose mean is `mean`."""
EFFECTS = {
    "effects vary": lambda random, size: random.uniform(0, 2, size),
    "effects long tail": lambda random, size: random.exponential(1.0, size),
}
"""By what factor subjects have an effect: 1 on average."""
TRIALS = ((15, 20, 0.2), (15, 90, 0.2), (15, 480, 0.2), (2, 20, 0.6), (2, 90, 0.6))
"""Items, trials a subject and mean accuracy of the intervals."""
Outcome = dict[str, float]
"""Of one simulated study: whether each test was significant, or whether each interval held the truth."""
MARKS = "<!-- calibration: begin -->", "<!-- calibration: end -->"


def _guesses(random: np.random.Generator, counts: list[int], subjects: int, even: bool = False) -> Iterator[Any]:
    """Yield labels and guesses of subjects; items are guessed as often as they are cued, or equally often."""
    label, share = np.repeat(np.arange(len(counts)), counts), np.array(counts) / sum(counts)
    for _ in range(subjects):
        yield label, random.choice(len(counts), size=len(label), p=None if even else share)


def against_chance(random: np.random.Generator, counts: list[int], subjects: int) -> Outcome:
    """Test a study without anything to find, as test scripts do."""
    values, chance, nulls = [], [], []
    for label, said in _guesses(random, counts, subjects):
        probability = 0.8 * np.eye(CLASSES)[said] + 0.2 / CLASSES
        value, null = statistics.permutation_null(label, probability, PERMUTATIONS, random)
        values.append(value)
        nulls.append(null)
        chance.append(statistics.chance(label, probability))
    found = {}
    for measure, words in (("top1", "top-1"), ("balanced", "balanced accuracy")):
        own = [value[measure] for value in values]
        tested = statistics.against_chance(own, [c[measure] for c in chance], PERMUTATIONS, 0)
        if tested["wilcoxon_p"] is not None:
            found[f"Wilcoxon over subjects, {words}"] = tested["wilcoxon_p"] <= 0.05
            found[f"sign flips over subjects, {words}"] = tested["sign_flip_p"] <= 0.05
        mean = statistics.permutation_p(np.mean(own), np.mean([null[measure] for null in nulls], axis=0))
        found[f"permuted labels, mean over subjects, {words}"] = mean["p"] <= 0.05
        alone = [statistics.permutation_p(v, null[measure])["p"] for v, null in zip(own, nulls, strict=True)]
        found[f"permuted labels, one subject, {words}"] = np.mean(np.array(alone) <= 0.05)
        found[f"prevalence above 0, {words}"] = statistics.prevalence(alone)["p"] <= 0.05
    n = sum(counts)
    binomial = [
        statistics.proportion(round(v["top1"] * n), n, c["top1"])["p"] for v, c in zip(values, chance, strict=True)
    ]
    return found | {"binomial, one subject, top-1": np.mean(np.array(binomial) <= 0.05)}


def clusters(random: np.random.Generator, counts: list[int], subjects: int) -> Outcome:
    """Look for clusters in accuracies over time without anything to find, as the Lasso GLMs do."""
    curves, chance = [], []
    for label, _ in _guesses(random, counts, subjects):
        said = random.choice(label, size=(SAMPLES, len(label)))
        decoded = np.array([np.bincount(row, minlength=len(counts)) for row in said])
        curves.append((said == label).mean(axis=1))
        chance.append(time_course_tests.chance_of({"cued": np.array(counts), "decoded": decoded, "n": len(label)}))
    settings = Statistics(permutations=PERMUTATIONS, cluster_p=0.05, seed=int(random.integers(2**31)))
    return {"clusters over time": time_course_tests.clusters(np.array(curves), np.array(chance), settings)[1].any()}


def pairs(random: np.random.Generator, counts: list[int], subjects: int) -> Outcome:
    """Compare a decoder that knows how often items are cued with one that does not, as compare.py does."""
    knows, even = (
        [(label, said == label) for label, said in _guesses(random, counts, subjects, even)] for even in (False, True)
    )
    tested = statistics.paired(knows, even, PERMUTATIONS, 0, balanced=True)
    return {"paired Wilcoxon, balanced accuracy": tested["wilcoxon_p"] <= 0.05,
            "paired sign flips, balanced accuracy": tested["sign_flip_p"] <= 0.05}  # fmt: skip


def _in_a_row(random: np.random.Generator) -> tuple[np.ndarray, None]:
    return np.repeat(random.permutation(CLASSES), 6), None


def _in_turn(random: np.random.Generator) -> tuple[np.ndarray, None]:
    return np.repeat(np.concatenate([random.permutation(2) for _ in range(5)]), 9), None


def _by_run(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    items = random.permutation(CLASSES).reshape(5, 3)
    return np.concatenate([random.permutation(np.repeat(own, 6)) for own in items]), np.repeat(np.arange(5), 18)


BLOCKED: dict[str, Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray | None]]] = {
    "15 items, each 6 times in a row, drift": _in_a_row,
    "2 items in 10 blocks of 9, drift": _in_turn,
    "15 items, 3 in each run, drift": _by_run,
}
"""Labels, and runs where they are known, of designs in which repeats of an item are clustered in time."""


def blocked(random: np.random.Generator, situation: str, subjects: int, permute: Permute) -> Outcome:
    """Test guesses that drift: each is that of some 15 trials around it."""
    found, nulls, exchanges = [], [], []
    for _ in range(subjects):
        label, run = BLOCKED[situation](random)
        noise, keep = random.standard_normal((2 * len(label), label.max() + 1)), np.exp(-1 / 15)
        said = signal.lfilter([1.0], [1.0, -keep], noise, axis=0)[len(label) :].argmax(axis=1)
        how = exchangeability.exchange(label, run, permute)
        value, null = statistics.permutation_null(label, np.eye(CLASSES)[said], PERMUTATIONS, random, how)
        found.append(value["top1"])
        nulls.append(null["top1"])
        exchanges.append(how)
    over, _ = statistics.over_permuted(found, nulls, exchanges)
    alone = [statistics.exchanged_p(v, null, [how])["p"] for v, null, how in zip(found, nulls, exchanges, strict=True)]
    return {
        "permuted labels, one subject, top-1": np.mean([p is not None and p <= 0.05 for p in alone]),
        "permuted labels, mean over subjects, top-1": over["permutation"]["p"] <= 0.05,
    }


def groups(random: np.random.Generator, subjects: int) -> Outcome:
    """Test whether groups of trials by phase differ in accuracy, with few trials in some and hits that are rare."""
    hits: dict[str, dict[str, statistics.Trials]] = {}
    for group, size in zip(SO_GROUPS, (4, 6, 10, 15, 20, 25, 40, 8), strict=True):
        for subject in range(subjects):
            n = random.poisson(size)
            correct = random.random(n) < 0.1 + random.normal(0, 0.02)
            hits.setdefault(group, {})[f"s{subject}"] = np.arange(n) % CLASSES, correct
    settings = Statistics(permutations=256, cluster_p=0.05, seed=int(random.integers(2**31)))
    found = group_tests.condition_tests(hits, settings)
    return {
        "groups of trials: any differ": found["omnibus_p"] <= 0.05,
        "groups of trials: the best one": min(row["p_max"] for row in found["conditions"].values()) <= 0.05,
        "groups of trials: two of them": min(pair["p_max"] for pair in found["contrasts"]) <= 0.05,
    }


def excess(random: np.random.Generator, subjects: int, control: int, night: int) -> Outcome:
    """Test whether there are more reactivations than in the control, of rates that vary between nights."""
    rates = reactivation.counted_rates(random, subjects, control / 2, night, int(control > 20), 0.3)
    total = reactivation_events.total_excess(rates)
    tested = paired_values.mean_of_differences(total.excess, FLIPS, 0, total.score)
    return {"reactivations beyond the control": tested["sign_flip_p"] <= 0.05}


def conditions(random: np.random.Generator, subjects: int) -> Outcome:
    """Test two conditions against each other in the rate of reactivations: of the same subjects, and of others."""
    first, second = reactivation.condition_values(random, subjects, (30, 120))
    _, third = reactivation.condition_values(random, 2 * subjects, (30, 120))
    paired = paired_values.mean_of_differences(first - second, FLIPS, 0)["sign_flip_p"]
    apart = paired_values.difference_of_groups(first, third, FLIPS, 0)["permutation_p"]
    return {
        "reactivations, two conditions within subjects": paired <= 0.05,
        "reactivations, two groups of subjects": apart <= 0.05,
    }


def memory(random: np.random.Generator, subjects: int, shared: float) -> Outcome:
    """Test whether reactivations of an item go with its memory, where a share of the items' variance is everybody's."""
    rates, scores = reactivation.memory_study(random, subjects, shared=shared)
    found = memory_scores.relation(reactivation_events.beyond_control(rates), scores, PERMUTATIONS, 0)
    return {"reactivations and memory": found["p"] <= 0.05}


def accuracies(random: np.random.Generator, kind: str, trials: tuple[int, int, float], subjects: int) -> Outcome:
    """Return whether the intervals of means over subjects, and of a difference of 0.05, hold the truth."""
    classes, n, mean = trials
    true = TRUTHS[kind](random, mean, subjects)
    lost = 0.05 / mean * (np.ones(subjects) if kind == "alike" else random.uniform(0, 2, subjects))
    label = np.arange(n) % classes
    first = [(label, random.random(n) < p) for p in true]
    second = [(label, own & (random.random(n) >= share)) for (_, own), share in zip(first, lost, strict=True)]
    top1 = statistics.over_subjects([own for _, own in first], 1 / classes)
    tables = [statistics.class_counts(*own, classes) for own in first]
    even = statistics.balanced_over_subjects(tables, 1 / classes)
    less = statistics.difference(first, second)
    hits = random.binomial(n, np.array([TRUTHS[kind](random, mean, SAMPLES) for _ in range(subjects)]))
    low, high = time_course_tests.band(hits, np.full(subjects, n))
    return {
        "accuracy": top1["low"] <= mean <= top1["high"],
        "balanced accuracy": even["low"] <= mean <= even["high"],
        "difference of two decoders": less["low"] <= 0.05 <= less["high"],
        "accuracy over time (Lasso GLM)": np.mean((low <= mean) & (mean <= high)),
    }


def no_difference(random: np.random.Generator, counts: list[int], subjects: int) -> Outcome:
    """Return whether the interval of the difference of two decoders that know nothing of the items holds 0."""
    knows, even = (
        [(label, said == label) for label, said in _guesses(random, counts, subjects, even)] for even in (False, True)
    )
    found = statistics.difference(knows, even, balanced=True)
    return {"difference of two decoders, balanced accuracy": found["low"] <= 0 <= found["high"]}


def effects(random: np.random.Generator, kind: str, subjects: int) -> Outcome:
    """Return whether intervals hold the mean of an effect that differs between subjects: of stagers, and of rates."""
    usual, epochs = random.uniform(0.5, 0.7, subjects), 960
    better = np.minimum(usual + 0.05 * EFFECTS[kind](random, subjects), 0.99)
    first, second = (random.binomial(epochs, right) / epochs for right in (better, usual))
    found = {"difference of two stagers": (paired_values.mean_of_differences(first - second, SAMPLES, 0), 0.05)}
    first, second = reactivation.condition_values(random, subjects, (30, 120))
    _, third = reactivation.condition_values(random, 2 * subjects, (30, 120))
    first = first + random.poisson(0.2 * EFFECTS[kind](random, subjects) * 30) / 30
    paired = paired_values.mean_of_differences(first - second, SAMPLES, 0)
    apart = paired_values.difference_of_groups(first, third, SAMPLES, 0)
    found |= {"rates of reactivation, two conditions": (paired, 0.2), "rates of reactivation, two groups": (apart, 0.2)}
    return {name: row["low"] <= truth <= row["high"] for name, (row, truth) in found.items()}


def nights(random: np.random.Generator, kind: str, minutes: int, subjects: int) -> Outcome:
    """Return whether the intervals of a stager's agreement hold that of the population."""
    mean, tables = 0.8, []
    for right in 1 - TRUTHS[kind](random, 1 - mean, subjects):
        size, blocks = 20, minutes // 10
        truth = random.integers(4, size=blocks)
        share = random.beta(20 * right + 1e-9, 20 * (1 - right) + 1e-9, blocks)  # neighbouring epochs are alike
        own = np.zeros((blocks, 4, 4), int)
        own[np.arange(blocks), truth, truth] = hits = random.binomial(size, share)
        for turn in range(1, 4):
            own[np.arange(blocks), truth, (truth + turn) % 4] = (size - hits + 3 - turn) // 3
        tables.append(own)
    found = staging_metrics.intervals(tables)
    kappa = (mean - 0.25) / 0.75  # stages are equally frequent
    truth_of = {"accuracy": mean, "kappa": kappa}
    return {f"stager's {m}": found[m][0] <= t <= found[m][1] for m, t in truth_of.items()}


def calibrated(random: np.random.Generator, n: int) -> Outcome:
    """Return whether the ECE of a perfectly calibrated decoder lies above what is said to be its 95th percentile."""
    probability = random.dirichlet(np.full(CLASSES, 0.3), n)
    label = (random.random((n, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(max=CLASSES - 1)
    row = confidence_reliability(label, probability, 15)
    return {"ECE above its 95th percentile": row["ece"] > row["ece_by_chance"]["high"]}


def half_decode(random: np.random.Generator, subjects: int) -> Outcome:
    """Return whether the bound of the prevalence lies above the truth: half of the people decode."""
    p = np.where(random.random(subjects) < 0.5, 0.001, random.random(subjects))
    return {"prevalence bound above the truth": statistics.prevalence(p)["low"] > 0.5}


def cells() -> list[tuple[str, str, int, Callable[[np.random.Generator], Outcome]]]:
    """Return what is simulated: kind of result, situation, subjects and the study."""
    found: list[tuple[str, str, int, Callable[[np.random.Generator], Outcome]]] = []
    for name, counts in ITEMS.items():
        for subjects in SUBJECTS:
            for study in (against_chance, pairs, *([clusters] if subjects >= statistics.FEWEST_SUBJECTS else [])):
                found.append(("error", name, subjects, lambda r, s=study, c=counts, n=subjects: s(r, c, n)))
    for name in BLOCKED:
        for subjects in SUBJECTS:
            found.append(("error", name, subjects, lambda r, s=name, n=subjects: blocked(r, s, n, "auto")))
        found.append(("not held", name, 8, lambda r, s=name: blocked(r, s, 8, "trials")))
    for subjects in (8, 12, 20):
        found.append(("error", "8 groups of 4 to 40 trials", subjects, lambda r, n=subjects: groups(r, n)))
        for control, night in itertools.product((10, 20, 60), (120, 400)):
            name = f"{control} min of control, nights of {night} min"
            found.append(("error", name, subjects, lambda r, n=subjects, c=control, m=night: excess(r, n, c, m)))
        found.append(("error", "30 and 120 min", subjects, lambda r, n=subjects: conditions(r, n)))
        for shared in (0.0, 0.5):
            name = f"{shared:.0%} of the variance shared"
            found.append(("error", name, subjects, lambda r, n=subjects, s=shared: memory(r, n, s)))
    for n in (45, 180):
        found.append(("error", f"{n} trials", 1, lambda r, n=n: calibrated(r, n)))
    for subjects in SUBJECTS:
        found.append(("error", "half of the people decode", subjects, lambda r, n=subjects: half_decode(r, n)))
        for kind in TRUTHS:
            for trials in TRIALS:
                where = f"subjects {kind}; {trials[0]} items, {trials[1]} trials"
                found.append(
                    ("coverage", where, subjects, lambda r, k=kind, t=trials, n=subjects: accuracies(r, k, t, n))
                )
        for name, counts in ITEMS.items():
            where = f"no difference; {name}"
            found.append(("coverage", where, subjects, lambda r, c=counts, n=subjects: no_difference(r, c, n)))
        for kind in EFFECTS:
            found.append(("coverage", kind, subjects, lambda r, k=kind, n=subjects: effects(r, k, n)))
    for subjects in NIGHTS:
        for kind in TRUTHS:
            where = f"sleepers {kind}; nights of 4 h"
            found.append(("coverage", where, subjects, lambda r, k=kind, n=subjects: nights(r, k, 240, n)))
    return found


HEADS = {
    "error": "| significant where there is nothing (at most 5 % claimed) | situations |",
    "coverage": "| 95 % interval holds the truth of the population | situations |",
    "not held": "| the same with single labels permuted (evaluate.permute=trials), as before | situation |",
}
"""How the table of each kind of result begins."""


def table(rows: pd.DataFrame, result: str) -> list[str]:
    """Return one of the page's tables as lines of Markdown: the mean over situations and the worst, by subjects."""
    own = rows[rows["result"] == result]
    columns = sorted(own["subjects"].unique())
    lines = [HEADS[result] + "".join(f" {n} |" for n in columns), "|---|---|" + "---|" * len(columns)]
    own = own.assign(group=own["situation"].str.split(";").str[0] if result == "coverage" else own["situation"])
    if result == "error":
        several = own["situation"].isin(list(ITEMS))
        own["group"] = np.where(several, "all sets of items", own["situation"])
    for (statistic, group), part in own.groupby(["statistic", "group"], sort=False):
        told = []
        for n in columns:
            rates = 100 * part.loc[part["subjects"] == n, "rate"]
            worst = rates.min() if result == "coverage" else rates.max()
            brackets = f" ({worst:.1f})" if len(rates) > 1 else ""
            told.append("" if rates.empty else f"{rates.mean():.1f} %{brackets}")
        lines.append(f"| {statistic} | {group} | " + " | ".join(told) + " |")
    return lines


def simulated(task: tuple[int, int, int]) -> tuple[int, list[dict]]:
    """Return the place of a situation among `cells`, and its rows, of so many simulations from a seed."""
    place, simulations, seed = task
    studies = cells()
    names = [f"{result} {situation} {subjects}" for result, situation, subjects, _ in studies]
    result, situation, subjects, study = studies[place]
    # its own numbers, whatever other situations there are; those of one name may be of several studies
    number = names[:place].count(names[place])
    random = np.random.default_rng([seed, zlib.crc32(names[place].encode()), number])
    rates = pd.DataFrame([study(random) for _ in range(simulations)]).astype(float).mean()
    about = {"result": result, "situation": situation, "subjects": subjects, "simulations": simulations}
    return place, [{**about, "statistic": str(statistic), "rate": float(rate)} for statistic, rate in rates.items()]


def all_rows(folder: Path, args: argparse.Namespace) -> list[dict]:
    """Return the rows of all situations; what an interrupted run of the same code has done is not done again."""
    kept, studies = folder / "unfinished.json", cells()
    wanted = [place for place, (result, *_) in enumerate(studies) if args.only in (None, result)]
    head = {"simulations": args.simulations, "seed": args.seed, "code": git_revision(), "situations": len(studies),
            "only": args.only}  # fmt: skip
    before, known = read_json(kept), head["code"] is not None and "+" not in head["code"]
    done = {int(k): own for k, own in before["rows"].items()} if known and before.get("head") == head else {}
    todo = [(place, args.simulations, args.seed) for place in wanted if place not in done]
    with progress(total=len(wanted), initial=len(done), desc="calibration", unit="situation") as bar:
        for place, own in parallel.results(simulated, todo, args.jobs):
            done[place] = own
            write_json(kept, {"head": head, "rows": done})
            bar.update()
    return [row for place in sorted(done) for row in done[place]]


def run(settings: None, folder: Path, args: argparse.Namespace) -> list[str]:
    """Simulate, write calibration.csv (of one table: its own file) and summary.json, put the tables into a page, and
    return them."""
    found = pd.DataFrame(all_rows(folder, args))
    name = "calibration" if args.only is None else args.only.replace(" ", "_")
    with atomic_write(folder / f"{name}.csv") as temporary:
        found.to_csv(temporary, index=False)
    write_json(folder / "summary.json", {"simulations": args.simulations, "seed": args.seed, "only": args.only,
                                         "provenance": record()})  # fmt: skip
    (folder / "unfinished.json").unlink()
    error = 100 * (0.05 * 0.95 / args.simulations) ** 0.5
    intro = (
        f"Measured by `make calibration-study`: {args.simulations} simulated studies in each situation, {PERMUTATIONS} "
        "permutations; by number of subjects (nights), the mean over the situations of a row and in brackets the "
        f"worst of them. By chance alone one situation is off by {error:.1f} points (standard error). Each by "
        "itself is in results/calibration_study/calibration.csv."
    )
    tables = {result: table(found, result) for result in HEADS if result in set(found["result"])}
    lines = [intro, *(line for own in tables.values() for line in ("", *own)), ""]
    if args.page is not None and args.simulations < SIMULATIONS and not args.short_page:
        lines.append(f"{args.page} is left as it is: fewer than {SIMULATIONS} simulations (--short-page)")
    elif args.page is not None:
        text = args.page.read_text(encoding="utf-8")
        begin, end = MARKS
        place = re.search(f"{begin}\n(.*){end}", text, flags=re.DOTALL)
        if place is None:
            raise UserError(f"{args.page}: no place for the table between {begin} and {end}")
        new = "\n".join(lines) + "\n" if args.only is None else _exchanged(place[1], intro, tables, args.page)
        with atomic_write(args.page) as temporary:
            temporary.write_text(text[: place.start(1)] + new + text[place.end(1) :], encoding="utf-8")
    return lines


def _exchanged(text: str, intro: str, tables: dict[str, list[str]], page: Path) -> str:
    """Return a page's tables with those of some kinds of results exchanged, all others made with as many studies."""
    if not text.startswith(intro):
        raise UserError(f"{page}: its tables are of another number of studies; leave out --only")
    for result, lines in tables.items():
        text, count = re.subn(
            rf"{re.escape(HEADS[result])}.*\n(\|.*\n)+", lambda _, own=lines: "\n".join(own) + "\n", text
        )
        if count != 1:
            raise UserError(f"{page}: {count} tables begin with {HEADS[result]!r}; leave out --only")
    return text


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--simulations", type=int, default=SIMULATIONS, metavar="N", help="of each situation")
    parser.add_argument("--short-page", action="store_true", help="change the page after fewer simulations, too")
    parser.add_argument("--only", choices=list(HEADS), help="one of the three tables; the page keeps the others")
    parser.add_argument("--seed", type=int, default=1642)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; changes no number")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the table into this page, between its marks")


main = runner.command(__doc__, "calibration_study", run, arguments=_arguments)

if __name__ == "__main__":
    sys.exit(command_line.run(main))
