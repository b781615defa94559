"""Surveys a data folder: what of the published layout is there, how many trials, what is wrong."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from sleep_interpreter.data.formats import twins
from sleep_interpreter.data.formats.plausibility import remark_on_scale
from sleep_interpreter.data.formats.staging_windows import check_counts
from sleep_interpreter.data.formats.test_trials import DATA_TYPES
from sleep_interpreter.data.formats.validation import natural, scale_remark, subject_name
from sleep_interpreter.data.inventory import files as kinds
from sleep_interpreter.data.inventory.files import EVERY, Findings, Problem, Reader
from sleep_interpreter.utils.core.data_card import AWAKE, DataCard, card_of
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write, display_path, named_in_text
from sleep_interpreter.utils.core.provenance import SIDECAR, UNFINISHED_SIDECAR, is_simulated
from sleep_interpreter.utils.signal.channel_names import listed

FEW = 5
"""Fewer trials of a class than this are reported."""


class Part(NamedTuple):
    """One kind of file of the layout: where, how it is read, whose it is ("train", "test", ""), what for.

    `needs` are the conditions without any of which a data set has no such file: ("N2N3",), or both awake ones.
    """

    pattern: str
    reader: Reader
    group: str
    use: str
    needs: tuple[tuple[str, ...], ...] = ()

    def belongs(self, card: DataCard) -> bool:
        """Tell whether a data set of this card has such files."""
        return all(any(condition in card.conditions for condition in some) for some in self.needs)

    @property
    def domain(self) -> str:
        """The folder's first words: who is a test subject of the decoders may train the stagers."""
        return self.pattern[: len("SI Main")]


TRAIN, TEST = "SI Main Train_tfrecords", "SI Main Test/subject_test_*"
NIGHTS = "SI Staging/Test/subject*"
_N2N3, _REM = ("N2N3",), ("REM",)
PARTS = (
    Part(f"{TRAIN}/N2N3/Whole*", kinds.WHOLE_RECORDS, "train", "train/N23SIMD.py", (_N2N3, AWAKE)),
    Part(f"{TRAIN}/N2N3/sleep*", kinds.SLEEP_RECORDS, "train", "train/N23SISD.py", (_N2N3,)),
    Part(f"{TRAIN}/REM/Whole*", kinds.WHOLE_RECORDS, "train", "train/REMSIMD.py", (_REM, AWAKE)),
    Part("SI Main Train_pickle/REM/sleep*", kinds.SLEEP_PICKLE, "train", "train/REMSISD.py", (_REM,)),
    Part(f"{TEST}/N2N3*", kinds.TEST_PICKLE, "test", "test/N23*.py, fine-tuning", (_N2N3,)),
    Part(f"{TEST}/REM*", kinds.TEST_PICKLE, "test", "test/REM*.py, fine-tuning", (_REM,)),
    Part(f"{TEST}/SO*", kinds.SO_PICKLE, "test", "test/*_SO.py", (_N2N3,)),
    Part(f"{TEST}/precue_N2N3*", kinds.BEFORE_CUE_PICKLE, "test", "control (not in the published data)", (_N2N3,)),
    Part(f"{TEST}/precue_REM*", kinds.BEFORE_CUE_PICKLE, "test", "control (not in the published data)", (_REM,)),
    Part("SI Main Train/subject_*/Whole_data.pickle", kinds.SINGLE_TRIALS_PICKLE, "train", "lasso_glm/"),
    Part(f"{TEST}/Whole_data.pickle", kinds.SINGLE_TRIALS_PICKLE, "test", "lasso_glm/"),
    Part("SI Staging/Train/subject*/Whole*", kinds.STAGING_RECORDS, "train", "train/SIStaging.py"),
    Part(f"{NIGHTS}/Whole*", kinds.WINDOWS_PICKLE, "test", "test/SIStagingtest.py"),
    Part(f"{NIGHTS}/raw*", kinds.EPOCHS_PICKLE, "test", "test/SIStagingtest.py"),
    Part("SI Staging Label/Whole_label_data.pickle", kinds.HYPNOGRAMS_PICKLE, "", "expert hypnograms"),
)
_DECODERS = ("N2N3_SIMD", "N2N3_SISD", "REM_SIMD", "REM_SISD", "N2N3_SIMD_Retrained")
CHECKPOINTS = (*(f"Decoding/{name}.ckpt" for name in _DECODERS), "Staging/Staging_model.ckpt")


@dataclass
class Inventory:
    """What is there and what is wrong.

    `problems` are what no reader of this project would accept, or what makes results wrong; `warnings` what is worth
    knowing before results are believed.
    """

    root: Path
    fast: bool  # only headers were read
    card: DataCard
    found: dict[Part, list[Findings]] = field(default_factory=dict)  # a part that is missing has an empty list
    checkpoints: dict[str, bool] = field(default_factory=dict)  # released ones by name: complete or not there
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add_problem(self, file: Path, reason: str) -> None:
        """Note what is wrong with a file as a whole."""
        self.problems.append(Problem(file, "", "", reason))

    @property
    def files(self) -> list[tuple[Part, Findings]]:
        """What was found in every file."""
        return [(part, findings) for part, found in self.found.items() for findings in found]

    def select(self, domain: str, group: str) -> list[Findings]:
        """Return the findings of all files of one group of subjects."""
        return [findings for part, findings in self.files if (part.domain, part.group) == (domain, group)]

    @property
    def simulated(self) -> bool:
        """Whether the folder or a trial in it is marked as simulated."""
        return is_simulated(self.root) or any(findings.marked for _, findings in self.files)

    def rows(self) -> Iterator[tuple[str, str, str, str, int]]:
        """Yield (part, subject, section, class, count) of everything counted, zero counts included."""
        for part, findings in self.files:
            for subject, section in dict.fromkeys(key[:2] for key in findings.counts):
                for name in part.reader.classes(self.card):
                    count = findings.counts[subject, section, name]
                    yield part.pattern, subject or subject_name(findings.file), section, name, count

    def write_csv(self, path: Path) -> None:
        """Write `rows` as a table with a header; simulated counts say so in a column."""
        simulated = self.simulated
        with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
            table = csv.writer(handle)
            table.writerow(["part", "subject", "section", "class", "count", "simulated"])
            table.writerows((*row, simulated) for row in self.rows())


def survey_folder(root: str | Path, fast: bool = False) -> Inventory:
    """Find out what a folder of the published layout holds; refuse one that is not there or holds nothing of it.

    With `fast` only headers and labels of TFRecords are read; pickles are found but not counted.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the one that holds `SI Main Train_tfrecords`")
    files = {
        part: sorted(named_in_text(path for path in root.glob(part.pattern) if path.is_file()), key=natural)
        for part in PARTS
    }
    inventory = Inventory(root, fast, card_of(root))
    _find_checkpoints(inventory)
    if not any(files.values()) and not any(inventory.checkpoints.values()):
        raise UserError(
            f"{root}: holds nothing of the published layout ({PARTS[0].pattern}, {PARTS[4].pattern}, "
            "...: see docs/data_format.md); give the folder that holds `SI Main Train_tfrecords`"
        )
    if (root / UNFINISHED_SIDECAR).is_file() and not (root / SIDECAR).is_file():
        reason = "the simulator was interrupted; run the same `python data/simulate.py` command again"
        inventory.add_problem(root / UNFINISHED_SIDECAR, reason)
    _read(inventory, files)
    _compare(inventory)
    return inventory


def _find_checkpoints(inventory: Inventory) -> None:
    """Note which released checkpoints are there; a TensorFlow checkpoint is an index and data files."""
    for name in CHECKPOINTS:
        index = inventory.root / "Model checkpoint" / f"{name}.index"
        data = list(index.parent.glob(f"{index.stem}.data-*"))
        inventory.checkpoints[name] = index.is_file() and bool(data)
        if index.is_file() != bool(data):
            lacking = "its .data-* file" if index.is_file() else "its .index file"
            inventory.add_problem(index.with_suffix(""), f"{lacking} is missing; get it again")


def _read(inventory: Inventory, files: dict[Part, list[Path]]) -> None:
    sizes = {file: file.stat().st_size for some in files.values() for file in some}
    with tqdm(total=sum(sizes.values()), desc="reading", unit="B", unit_scale=True, disable=None) as bar:
        for part, some in files.items():
            inventory.found[part] = []
            for file in some:
                findings = Findings(file)
                try:
                    if inventory.fast and not part.reader.headers:
                        findings.trials = None
                    else:
                        part.reader.read(findings, inventory.card, inventory.fast)
                except UserError as error:
                    findings = Findings(file)
                    findings.add_problem(error)
                bar.update(sizes[file])
                inventory.found[part].append(findings)
                inventory.problems += findings.problems


def _compare(inventory: Inventory) -> None:
    """Add what only shows between files."""
    card, first = inventory.card, dict[tuple[Part, str], Path]()
    for part, findings in inventory.files:
        file, shown = findings.file, display_path(findings.file)
        if findings.trials == 0 and not findings.problems:
            inventory.warnings.append(f"{shown}: holds no {part.reader.unit}")
        if not part.belongs(card):
            reason = f"the data card says that there are trials of {', '.join(card.conditions)} only"
            inventory.add_problem(file, reason)
        if (alone := findings.sleep_alone) and alone == findings.trials:
            text = "no awake trials beside the sleep trials; decoders of sleep alone need none"
            inventory.warnings.append(f"{shown}: {text}")
        elif alone:
            inventory.add_problem(file, f"{alone} of {findings.trials} trials have no awake trials, the others do")
        if card.unit == "robust" and (remark := scale_remark(findings.largest)):
            inventory.warnings.append(f"{shown}: {remark}")
        _look_at_signals(inventory, part, findings)
        subject = subject_name(file)
        if part.group and first.setdefault((part, subject), file) != file:
            beside = display_path(first[part, subject])
            inventory.add_problem(file, f"a second file of {subject} beside {beside}; remove one of them")
    for domain in sorted({part.domain for part in PARTS}):
        _compare_groups(inventory, domain)
        _compare_signals(inventory, domain)
    # real and simulated trials side by side
    marked = [findings.file for _, findings in inventory.files if findings.marked]
    unmarked = [findings.file for _, findings in inventory.files if findings.unmarked]
    if marked and unmarked:
        reason = f"holds simulated trials, but {display_path(unmarked[0])} holds some that are not marked so"
        inventory.add_problem(marked[0], reason)
    _compare_counts(inventory)
    _compare_subjects(inventory)


def _look_at_signals(inventory: Inventory, part: Part, findings: Findings) -> None:
    """Add what cannot be right with a file's sleep trials though each of them can be read."""
    file, still = findings.file, findings.flat_channels
    if findings.flat_trials:
        inventory.add_problem(file, f"{findings.flat_trials} sleep trials are flat in all channels; leave them out")
    if still is not None and still.any() and not still.all():
        names = [name for name, own in zip(inventory.card.channels, still, strict=True) if own]
        inventory.add_problem(file, f"{listed(names)} stand still in all its sleep trials")
    elif findings.partly_flat:
        reason = f"{findings.partly_flat} of {findings.trials} sleep trials have a flat channel"
        inventory.warnings.append(f"{display_path(file)}: {reason}")
    if (same := findings.same_channels) is not None and same.any():
        names = [name for name, own in zip(inventory.card.channels, same, strict=True) if own]
        inventory.add_problem(file, f"{listed(names)} have the signal of another channel in all its sleep trials")
    elif findings.partly_same:
        reason = f"{findings.partly_same} of {findings.trials} sleep trials have channels of one signal"
        inventory.warnings.append(f"{display_path(file)}: {reason}")
    if findings.power is not None and (count := sum(findings.lengths.values())):
        card = inventory.card
        if reason := remark_on_scale(findings.power / count, card.channels, "its sleep trials", card.unit):
            inventory.add_problem(file, reason)
    if part.reader is kinds.SO_PICKLE and (several := sum(len(groups) > 1 for groups in findings.digests.values())):
        inventory.add_problem(file, f"{several} of its trials stand in several groups; a cue has one phase")


def _compare_groups(inventory: Inventory, domain: str) -> None:
    """Find subjects that are in both groups: a test on them is none."""
    train, test = inventory.select(domain, "train"), inventory.select(domain, "test")
    names = {subject_name(f.file): f.file for f in reversed(train)}
    for subject, file in {subject_name(f.file): f.file for f in reversed(test)}.items():
        if subject in names:
            reason = f"{subject} is a training subject too ({display_path(names[subject])}); a test on it is none"
            inventory.add_problem(file, reason)


def _compare_signals(inventory: Inventory, domain: str) -> None:
    """Find the same signals in two subjects, in two parts of one, and twice in a file; to the bit or nearly so."""
    holders: defaultdict[tuple[str, bytes], list[Findings]] = defaultdict(list)
    group, sketches = dict[str, str](), [np.zeros((0, twins.SIZE), np.float32)]
    some = [(part, findings) for part, findings in inventory.files if part.domain == domain and part.group]
    for part, findings in some:
        subject = subject_name(findings.file)
        group.setdefault(subject, part.group)
        new = [(subject, digest) not in holders for digest in findings.digests]
        sketches.append(findings.sketches[new])
        for digest in findings.digests:
            holders[subject, digest].append(findings)
    keys = list(holders)
    beside: defaultdict[bytes, set[bytes]] = defaultdict(set)  # signals of the same subject that are alike
    elsewhere: defaultdict[tuple[str, str], dict[bytes, Path]] = defaultdict(dict)  # where else signals are
    for pair in twins.pairs(np.concatenate(sketches)):
        (one, first), (other, second) = sorted((keys[k] for k in pair), key=lambda key: group[key[0]] == "test")
        if one == other:
            beside[first].add(second)
            beside[second].add(first)
        else:
            elsewhere[one, other].setdefault(second, holders[one, first][0].file)
    for part, findings in some:
        _look_for_copies(inventory, findings, beside)
        subject = subject_name(findings.file)
        what = "sleep trials" if part.reader.unit == "trials" else f"{part.reader.unit} (every {EVERY}th was compared)"
        for (one, other), files in elsewhere.items():
            known = Counter(file for digest, file in files.items() if other == subject and digest in findings.digests)
            for file, count in known.items():
                test = group[other] == "test" and group[one] != "test"
                why = "a test on them is none" if test else "is one recording there twice? Take one of them away"
                inventory.add_problem(findings.file, f"{count} of its {what} are in {display_path(file)} too; {why}")


def _look_for_copies(inventory: Inventory, findings: Findings, beside: dict[bytes, set[bytes]]) -> None:
    """Add the trials of a file that hold the signals of others in it; `beside` has what is alike."""
    parts = findings.digests
    alike = {own: [other for other in beside.get(own, ()) if other in parts] for own in parts}
    doubled = {
        own
        for own, others in alike.items()
        if "test" in parts[own] and len({*parts[own]}.union(*(parts[other] for other in others))) > 1
    }
    if doubled:
        count = sum(parts[own]["test"] for own in doubled)
        reason = f"{count} of its test trials are copies of train or val trials; a test on them is none"
        inventory.add_problem(findings.file, reason)
    repeats, seen = findings.repeats, set[bytes]()
    for own in alike.keys() - doubled:
        repeats += not seen.isdisjoint(alike[own])
        seen.add(own)
    if repeats:
        text = f"{repeats} of its trials hold the signals of another one in it and count twice"
        inventory.warnings.append(f"{display_path(findings.file)}: {text}")


def _compare_counts(inventory: Inventory) -> None:
    """Remark on classes with few trials, and on test subjects that lack a part of their trials."""
    for part, found in inventory.found.items():
        totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for findings in found:
            for (subject, _, name), count in findings.counts.items():
                totals[subject or subject_name(findings.file)][name] += count
        classes = part.reader.classes(inventory.card)
        there = {name for counts in totals.values() for name, count in counts.items() if count}
        if part.group == "train" and len(there) == 1 and len(classes) > 1:
            reason = f"all {part.reader.unit} of {part.pattern} are of {there.pop()!r}: nothing can be learnt"
            inventory.add_problem(found[0].file, reason)
        fewest = {subject: min((counts[name], name) for name in classes) for subject, counts in totals.items()}
        if few := [subject for subject, (count, _) in fewest.items() if count < FEW]:
            subject = min(few, key=lambda name: fewest[name])
            count, name = fewest[subject]
            inventory.warnings.append(
                f"{part.pattern}: {len(few)} of {len(totals)} subjects have a class with fewer than {FEW} "
                f"{part.reader.unit} (fewest: {count} of {name!r}, {subject})"
            )
        for findings in found if part.reader is kinds.TEST_PICKLE and not inventory.fast else ():
            sections = {section for _, section, _ in findings.counts}
            lacking = [name for name in DATA_TYPES if name not in sections]
            if lacking and findings.trials:
                types = " or ".join(map(repr, lacking))
                inventory.warnings.append(f"{display_path(findings.file)}: no trial of data_type {types}")


def _compare_subjects(inventory: Inventory) -> None:
    """Remark on subjects that lack a file that others have, and on numbers that do not go together."""
    tables = {
        part.pattern: {subject_name(findings.file): findings for findings in found}
        for part, found in inventory.found.items()
    }
    for part in inventory.found:
        subjects = tables[part.pattern].keys()
        everybody = {subject_name(f.file) for f in inventory.select(part.domain, part.group)}
        lacking = sorted(everybody - subjects, key=natural)
        if part.group and subjects and lacking:
            inventory.warnings.append(f"{part.pattern}: none of {listed(lacking, 5)}")

    def pairs(one: str, other: str) -> Iterator[tuple[str, Findings, Findings]]:
        for subject in sorted(tables[one].keys() & tables[other].keys(), key=natural):
            pair = tables[one][subject], tables[other][subject]
            if not any(findings.problems or findings.trials is None for findings in pair):
                yield subject, *pair

    for subject, whole, sleep in pairs(f"{TRAIN}/N2N3/Whole*", f"{TRAIN}/N2N3/sleep*"):
        if whole.trials != sleep.trials:
            there = f"{whole.trials} trials in {whole.file.name}, {sleep.trials} in {sleep.file.name}"
            inventory.warnings.append(f"{subject}: {there}")
    for _, windows, epochs in pairs(f"{NIGHTS}/Whole*", f"{NIGHTS}/raw*"):
        try:
            check_counts(windows.file, windows.trials or 0, epochs.file, epochs.trials or 0)
        except UserError as error:
            windows.add_problem(error)
            inventory.problems.append(windows.problems[-1])
