"""An inventory of a data folder as lines of text."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.formats.test_trials import DATA_TYPES
from sleep_interpreter.data.formats.validation import natural
from sleep_interpreter.data.inventory.files import Problem
from sleep_interpreter.data.inventory.survey import Inventory
from sleep_interpreter.utils.core.data_card import FILE, DataCard, published
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.signal.channel_names import listed

PROBLEMS_OF_A_FILE = 5
"""So many problems of one file are listed; the rest is counted."""

MOST_ROWS = 16
"""A table of counts with more rows shows what subjects have at least, at most and in the middle instead."""

_SECTIONS = ("", *DATA_TYPES, *SO_GROUPS, "awake_image", "awake_audio", "N2N3", "REM")
_WIDTH = 52


def summary_lines(inventory: Inventory) -> list[str]:
    """Return what `python data/check.py` prints: files, counts, warnings, problems."""
    simulated = " – simulated: no figure made from it says anything about people" if inventory.simulated else ""
    problems = _problem_lines(inventory.problems)
    verdict = f"{problems[0]}; they are named at the end" if inventory.problems else problems[0]
    if many := len(inventory.warnings):
        verdict += f"; {many} remark{'s' * (many > 1)}, to know before results are believed"
    result = [f"{display_path(inventory.root)}{simulated}", verdict, *_card_lines(inventory.card), ""]
    result += [*_file_lines(inventory), *_count_lines(inventory), *_length_lines(inventory)]
    if inventory.fast:
        result += ["", "only headers were read (--fast): signals are unchecked, pickles uncounted"]
    if inventory.warnings:
        result += ["", "to know before results are believed:", *_alike(inventory.warnings)]
    return [*result, "", *problems]


def _card_lines(card: DataCard) -> list[str]:
    """Say what a data set of an experiment of its own holds; the published one needs no words."""
    if card == published():
        return []
    windows = [
        f"{name} {window.span} ({samples} samples)"
        for name, window, samples in (
            ("sleep", card.windows.sleep, card.sleep_samples),
            ("awake", card.windows.wake, card.awake_samples),
        )
    ]
    return [
        f"{FILE}: {card.title}",
        f"  {len(card.items)} items, {len(card.channels)} channels, {card.rate_hz:g} Hz, {', '.join(windows)}; "
        f"trials of {', '.join(card.conditions)}",
    ]


def _file_lines(inventory: Inventory) -> list[str]:
    kind = "simulated " if inventory.simulated else ""
    result = [f"{'part':<{_WIDTH}}{'files':>7}{'holds':>28}  for"]
    missing = []
    for part, found in inventory.found.items():
        if not found:
            if part.belongs(inventory.card):
                missing.append((part.pattern, part.use))
            continue
        counted = [findings.trials for findings in found if findings.trials is not None]
        holds = f"{sum(counted)} {kind}{part.reader.unit}" if len(counted) == len(found) else "not counted"
        result.append(f"{part.pattern:<{_WIDTH}}{len(found):>7}{holds:>28}  {part.use}")
    for name, there in inventory.checkpoints.items():
        if there:
            result.append(f"{'Model checkpoint/' + name:<{_WIDTH}}{'there':>7}")
        elif inventory.card == published():
            missing.append((f"Model checkpoint/{name}", "released weights"))
    if missing:
        result += ["", "missing:", *(f"  {pattern:<{_WIDTH}}{use}" for pattern, use in missing)]
    return result


def _count_lines(inventory: Inventory) -> list[str]:
    """Return tables of counts; a line stands for all subjects with the same numbers."""
    tables: dict[str, dict[tuple[str, str], list[int]]] = defaultdict(lambda: defaultdict(list))
    for pattern, subject, section, _, count in inventory.rows():
        tables[pattern][section, subject].append(count)
    result = []
    for part in inventory.found:
        alike: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
        for (section, subject), counts in tables[part.pattern].items():
            alike[section, (*counts, sum(counts))].append(subject)
        rows = [(section, subjects, numbers) for (section, numbers), subjects in alike.items()]
        rows.sort(key=lambda row: (natural(row[1][0]), _SECTIONS.index(row[0])))
        labels = [f"{_people(subjects)} {section}".rstrip() for section, subjects, _ in rows]
        lines: Iterable[Iterable[float]] = [numbers for *_, numbers in rows]
        more = ""
        if len(rows) > MOST_ROWS:
            (labels, lines), more = _extremes(rows), " (each subject's own: --csv FILE)"
        names, label = part.reader.classes(inventory.card), max(map(len, labels), default=0) + 2
        width = _distinct(names)
        title = f"{'simulated ' if inventory.simulated else ''}{part.reader.unit} by class: {part.pattern}{more}"
        if labels:
            names_line = "".join(f"{name[:width]:>{width + 1}}" for name in names)
            result += ["", title, f"{'':<{label}}{names_line}{'all':>8}"]
        for text, (*numbers, total) in zip(labels, lines, strict=True):
            cells = "".join(f"{number:>{width + 1}g}" for number in numbers)
            result.append(f"{text:<{label}}{cells}{total:>8g}")
    return result


def _people(subjects: list[str]) -> str:
    """Return whose row it is: all names of a few subjects, else how many they are."""
    return ", ".join(subjects) if len(subjects) < 3 else f"{len(subjects)} subjects ({listed(subjects, 1)})"


def _extremes(rows: list[tuple[str, list[str], tuple[int, ...]]]) -> tuple[list[str], list[np.ndarray]]:
    """Return labels and numbers of rows that say what subjects have, section by section."""
    labels, lines = list[str](), list[np.ndarray]()
    for section in sorted({section for section, *_ in rows}, key=_SECTIONS.index):
        table = np.array([numbers for own, subjects, numbers in rows if own == section for _ in subjects])
        labels += [f"{what} of {len(table)} subjects {section}".rstrip() for what in ("fewest", "median", "most")]
        lines += [table.min(axis=0), np.median(table, axis=0), table.max(axis=0)]
    return labels, lines


def _alike(texts: Iterable[str]) -> list[str]:
    """Return lines of texts; of those that differ in their file and in numbers alone, the first and how many more."""
    kinds = defaultdict(list)
    for text in texts:
        kinds[re.sub(r"^[^*]*?: |[\d.]+", "", text)].append(text)
    return [f"  {text}{f' (and {len(more)} more like this)' if more else ''}" for text, *more in kinds.values()]


def _length_lines(inventory: Inventory) -> list[str]:
    """Say where trials of unequal length end, in s after the cue, in quartiles."""
    card, result = inventory.card, list[str]()
    if not card.varying_lengths:
        return result
    for part, found in inventory.found.items():
        lengths = sorted(length for findings in found for length in findings.lengths.elements())
        if lengths:
            ends = card.windows.sleep.begin + np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1]) / card.rate_hz
            whole = sum(length == card.sleep_samples for length in lengths)
            numbers = "".join(f"{end:>9.2f}" for end in ends)
            result.append(f"{part.pattern:<{_WIDTH}}{numbers}{whole:>9}")
    heads = "".join(f"{head:>9}" for head in ("first", "25 %", "median", "75 %", "last", "whole"))
    return ["", f"{'ends of sleep trials, s after the cue':<{_WIDTH}}{heads}", *result] if result else []


def _distinct(names: Sequence[str]) -> int:
    """Return how many letters of names a table shows: 5, or as many as tell them apart."""
    return next(n for n in range(5, 65) if len({name[:n] for name in names}) == len(names))


def _problem_lines(problems: Iterable[Problem]) -> list[str]:
    by_file = defaultdict(list)
    for problem in problems:
        by_file[problem.file].append(problem)
    if not by_file:
        return ["no problem found"]
    result = [f"problems: {sum(map(len, by_file.values()))}"]
    for file, own in by_file.items():
        for problem in own[:PROBLEMS_OF_A_FILE]:
            where = [display_path(file), problem.record, f"field {problem.field!r}" if problem.field else ""]
            result.append(f"  {', '.join(filter(None, where))}: {problem.reason}")
        if len(own) > PROBLEMS_OF_A_FILE:
            result.append(f"  {display_path(file)}: and {len(own) - PROBLEMS_OF_A_FILE} more")
    return result
