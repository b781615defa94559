"""An inventory of a data folder as lines of text."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.formats.test_trials import DATA_TYPES
from sleep_interpreter.data.formats.validation import natural
from sleep_interpreter.data.inventory.files import Problem
from sleep_interpreter.data.inventory.survey import Inventory
from sleep_interpreter.utils.core.data_card import FILE, DataCard, published
from sleep_interpreter.utils.core.paths import display_path

PROBLEMS_OF_A_FILE = 5
"""So many problems of one file are listed; the rest is counted."""

_SECTIONS = ("", *DATA_TYPES, *SO_GROUPS, "awake_image", "awake_audio", "N2N3", "REM")
_WIDTH = 52


def summary_lines(inventory: Inventory) -> list[str]:
    """Return what `python data/check.py` prints: files, counts, warnings, problems."""
    simulated = " – simulated: no figure made from it says anything about people" if inventory.simulated else ""
    heading = [f"{display_path(inventory.root)}{simulated}", *_card_lines(inventory.card), ""]
    result = [*heading, *_file_lines(inventory), *_count_lines(inventory)]
    if inventory.fast:
        result += ["", "only headers were read (--fast): signals are unchecked, pickles uncounted"]
    if inventory.warnings:
        result += ["", "to know before results are believed:", *(f"  {text}" for text in inventory.warnings)]
    return [*result, "", *_problem_lines(inventory.problems)]


def _card_lines(card: DataCard) -> list[str]:
    """Say what a data set of an experiment of its own holds; the published one needs no words."""
    if card == published():
        return []
    windows = [
        f"{name} {window.begin:g} to {window.end:g} s ({samples} samples)"
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
    units = {part.pattern: part.reader.unit for part in inventory.found}
    tables: dict[str, dict[tuple[str, str], dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for part, subject, section, name, count in inventory.rows():
        tables[part][subject, section][name] = count
    result = []
    for part, rows in tables.items():
        names = list(next(iter(rows.values())))
        label = max(len(" ".join(key)) for key in rows) + 2
        width = _distinct(names)
        title = f"{'simulated ' if inventory.simulated else ''}{units[part]} by class: {part}"
        result += ["", title, " " * label + "".join(f"{name[:width]:>{width + 1}}" for name in names) + f"{'all':>8}"]
        for key in sorted(rows, key=lambda key: (natural(key[0]), _SECTIONS.index(key[1]))):
            numbers = "".join(f"{rows[key][name]:>{width + 1}}" for name in names)
            result.append(f"{' '.join(key):<{label}}{numbers}{sum(rows[key].values()):>8}")
    return result


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
