"""Run a Lasso GLM experiment over a cohort: a task and a file a subject, so that runs go on after a kill."""

import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.data.formats import plausibility, trial_origin
from sleep_interpreter.data.formats.single_trials import read_subject
from sleep_interpreter.lasso_glm.engine import fits
from sleep_interpreter.lasso_glm.engine.plans import Plan
from sleep_interpreter.lasso_glm.engine.settings import LassoSettings
from sleep_interpreter.utils.core import parallel
from sleep_interpreter.utils.core.command_line import progress
from sleep_interpreter.utils.core.data_card import ASLEEP, DataCard, published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.file_hashes import content_hash
from sleep_interpreter.utils.core.npz import Npz
from sleep_interpreter.utils.core.own_folder import own_folder
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.metrics import exchangeability

log = logging.getLogger(__name__)

FEW = 5
"""Fewer trials of a class than this are reported."""
ARRAYS = 3
"""Raised when `lasso_glm.engine.fits` returns other arrays: files of an earlier version lack them."""
LIMITING = ("penalty", "scale", "percentile", "folds", "split", "windows", "seed")
"""Settings that change a subject's figures; statistics over subjects are computed anew every time."""
SUBJECTS = "subjects"
"""The folder of the subjects' files."""
RESTARTED = "restarted"
"""Where --restart computes; what was there stays until all is done (`replace_earlier`)."""
_EARLIER = ".before_restart"


@dataclass(frozen=True, eq=False)
class SubjectResult:
    """What became of one subject.

    `header` has "key" (settings and data that it belongs to), "n" {domain: trials}, "missing" {domain: why}, "few"
    {domain: {item: trials}}, "simulated", and "origin" {domain: a dict a trial} where trials say theirs. `arrays` are
    by "train/test" (and by "train" for what the tests share), as `lasso_glm.engine.fits` returns them; what is missing
    is not there.
    """

    name: str
    header: dict
    arrays: dict


def run(
    plan: Plan, settings: LassoSettings, files: Mapping[str, Path], root: Path, folder: Path, card: DataCard, *,
    generalise: bool = False, restart: bool = False, part: tuple[int, int] | None = None, **spread: Any,
) -> dict[str, SubjectResult]:  # fmt: skip
    """Compute what is not yet there in folder/subjects/NAME.npz and return all results, in the order of `files`.

    With `restart` everything is computed in folder/restarted, and so is what goes on with that after an interruption;
    `replace_earlier` puts it in place of what was there, here only if `part` leaves no subject without.
    `files` are {subject: Whole_data.pickle} (`data.formats.single_trials.find_subjects`) of the data set in `root`,
    whose card is `card`.
    `generalise`: temporal generalisation too; `restart`: forget what is there; `part` (I, N): only every Nth subject
    from the Ith (1 to N), a share of the work for one of N machines; `spread`: jobs, backend and scheduler of
    `utils.core.parallel.results`. Refused if a file there belongs to other settings, or a subject's data are.
    """
    kept, jobs, folder = {}, [], own_folder(folder)
    chosen = list(files.items()) if part is None else list(files.items())[part[0] - 1 :: part[1]]
    all_jobs = [_job(plan, settings, name, file, root, generalise, card) for name, file in chosen]
    place = _place(folder, all_jobs, restart, part)
    for job in all_jobs:
        path = place / f"{job['name']}.npz"
        if not restart and path.exists() and (found := _still_good(path, job["key"])):
            kept[job["name"]] = found
        else:
            jobs.append(job)
    if kept:
        log.info("%d of %d subjects are there already", len(kept), len(chosen))
    bar = progress(total=len(chosen), initial=len(kept), desc=plan.name, unit="subject", dynamic_ncols=True)
    with bar:
        for name, header, arrays in parallel.results(compute, jobs, **spread):
            write_subject(place / f"{name}.npz", header, arrays)
            kept[name] = SubjectResult(name, header, _nested(arrays))
            for domain, why in header["missing"].items():
                log.warning("%s, %s: missing (%s)", name, domain, why)
            for domain, few in header["few"].items():
                listed = ", ".join(f"{item} {n}" for item, n in few.items())
                log.warning("%s, %s: fewer than %d trials of %s", name, domain, FEW, listed)
            bar.update()
    if part is not None and place.name == RESTARTED and _are_like(all_jobs, [place / f"{name}.npz" for name in files]):
        replace_earlier(folder)
    return {name: kept[name] for name, _ in chosen}


def replace_earlier(folder: Path) -> None:
    """Put what a --restart has computed in place of the earlier subjects' files; nothing where there is none."""
    new, here, earlier = (folder / name for name in (RESTARTED, SUBJECTS, _EARLIER))
    if not new.is_dir():
        return
    shutil.rmtree(earlier, ignore_errors=True)
    with suppress(FileNotFoundError):  # none before, or the process of another part was quicker
        here.replace(earlier)
    with suppress(FileNotFoundError):
        new.replace(here)
    shutil.rmtree(earlier, ignore_errors=True)


def _place(folder: Path, jobs: Sequence[Mapping[str, Any]], restart: bool, part: tuple[int, int] | None) -> Path:
    """Return the folder to compute in, after mending what a kill in `replace_earlier` left."""
    new, here, earlier = (folder / name for name in (RESTARTED, SUBJECTS, _EARLIER))
    if earlier.is_dir() and not here.exists():
        earlier.replace(here)
    if restart:
        if part is None:
            shutil.rmtree(new, ignore_errors=True)
        if any(here.glob("*.npz")):
            log.info("the earlier results are kept in %s until all subjects are computed anew", here)
        return new
    if (begun := sorted(new.glob("*.npz"))) and _are_like(jobs, begun[:1]):
        log.info("going on with the --restart in %s", new)
        return new
    return here


def _are_like(jobs: Sequence[Mapping[str, Any]], files: Iterable[Path]) -> bool:
    """Tell whether all files are there and of the settings of the jobs, whatever their data."""
    keys = [read_subject_file(file).header["key"] if file.is_file() else {} for file in files]
    return bool(jobs) and all({**key, "data": None} == {**jobs[0]["key"], "data": None} for key in keys)


def _job(
    plan: Plan, settings: LassoSettings, name: str, file: Path, root: Path, generalise: bool, card: DataCard
) -> dict[str, Any]:
    """Return all that a worker needs to know, as plain data."""
    tree = settings.model_dump(mode="json")
    key = {
        "experiment": plan.name,
        "arrays": ARRAYS,
        "generalise": generalise,
        "settings": {part: tree[part] for part in LIMITING},
        "data": content_hash([file]),
    }
    if card != published():
        key["card"] = card.fingerprint
    places = {"file": str(Path(file).absolute()), "root": str(Path(root).absolute())}
    return {"name": name, **places, "plan": plan, "settings": settings, "key": key}


def _still_good(path: Path, key: Mapping[str, Any]) -> SubjectResult | None:
    """Return the result in a file if it is of these settings and data."""
    result = read_subject_file(path)
    other = result.header["key"]
    if {**other, "data": None} != {**key, "data": None}:
        raise UserError(
            f"{path}: computed with other settings or by an earlier version; pass --restart to compute all subjects "
            "anew, or --results DIR to write elsewhere"
        )
    if other["data"] != key["data"]:
        log.warning("%s: its data have changed, it is computed anew", result.name)
        return None
    return result


def compute(job: Mapping[str, Any]) -> tuple[str, dict, dict[str, np.ndarray]]:
    """Return (name, header, flat arrays) of one subject; runs in a worker."""
    plan, settings, name = job["plan"], job["settings"], job["name"]
    subject = read_subject(job["file"], plan.domains, job["root"])
    card = subject.card.cut_to_shortest()
    items, classes = card.item_names, len(card.items)
    ends = dict.fromkeys(ASLEEP, card.sleep_samples)
    trials = {domain: (own.eeg[:, : ends.get(domain)], own.label) for domain, own in subject.domains.items()}
    runs: dict[str, dict[str, np.ndarray]] = {domain: {} for domain in subject.domains}
    for domain, own in subject.domains.items():
        if (run := exchangeability.runs_of(own.origin)) is not None:
            runs[domain]["run"] = run
        if (order := exchangeability.order_of(own.origin)) is not None:
            runs[domain]["order"] = order
    counts = {domain: np.bincount(label, minlength=classes) for domain, (_, label) in trials.items()}
    few = {domain: {items[k]: int(n) for k, n in enumerate(own) if n < FEW} for domain, own in counts.items()}
    header = {
        "subject": name,
        "key": job["key"],
        "n": {domain: int(count.sum()) for domain, count in counts.items()},
        "few": {domain: own for domain, own in few.items() if own and counts[domain].any()},
        "simulated": subject.simulated,
        "missing": {},
        "remarks": [
            f"{name}: {text}"
            for domain, own in subject.domains.items()
            for text in plausibility.of_domain(own.eeg, card.channels, f"{domain} trials", card.unit)
        ],
        "origin": {
            domain: trial_origin.to_dicts(own.origin)
            for domain, own in subject.domains.items()
            if own.origin is not None and domain in (plan.tests or plan.train)
        },
    }
    arrays = {}
    for train in plan.train:
        eeg, label = trials[train]
        if not plan.tests:
            folds = _folds(settings, name, label, runs[train], job["file"])
            if why := _unfit_for_folds(label, folds, settings.split != "random"):
                header["missing"][train] = why
                continue
            arrays[f"{train}/{train}"] = fits.within(eeg, label, folds, classes, plan.baseline, **settings.glm)
            arrays[f"{train}/{train}"] |= runs[train]
            continue
        if len(np.unique(label)) < 2:
            header["missing"][train] = (
                f"all {len(label)} trials are of {items[label[0]]}" if len(label) else "no trials"
            )
            continue
        tests = {test: trials[test] for test in plan.tests if len(trials[test][1])}
        header["missing"] |= {test: "no trials" for test in plan.tests if test not in tests}
        if tests:
            arrays[train], results = fits.cross(
                (eeg, label), tests, settings.windows.samples(card), classes, job["key"]["generalise"],
                plan.baseline, **settings.glm,
            )  # fmt: skip
            arrays |= {f"{train}/{test}": result | runs[test] for test, result in results.items()}
    if content_hash([Path(job["file"])]) != job["key"]["data"]:
        raise UserError(
            f"{job['file']}: has changed since the run began, the subject's result is not kept; give the same command "
            "again"
        )
    flat = {f"{pair}:{key}": value for pair, own in arrays.items() for key, value in own.items()}
    return name, header, flat


def _folds(
    settings: LassoSettings, name: str, label: np.ndarray, known: Mapping[str, np.ndarray], file: str
) -> list[np.ndarray]:
    """Return the trials of each fold; refuse folds by run where the trials do not say theirs."""
    if settings.split == "random":
        return fits.folds_of(len(label), settings.folds, settings.seed, name)
    if settings.split == "by_run" and "run" not in known:
        raise UserError(
            f"split: by_run, but the trials of {file} do not say in which run they were; prepare the data anew with "
            "data/prepare.py, or set split=contiguous"
        )
    return fits.split_in_time(label, known.get("run"), settings.folds, settings.split == "by_run", known.get("order"))


def _unfit_for_folds(label: np.ndarray, folds: Sequence[np.ndarray], in_time: bool) -> str | None:
    """Return why the trials cannot be decoded in folds, which follow the order of time or not, or None."""
    if len(label) == 0:
        return "no trials"
    if len(label) < len(folds):
        return f"{len(label)} trials, fewer than the {len(folds)} folds"
    if not all(map(len, folds)):
        return f"too few runs or stretches of one item for {len(folds)} folds"
    known = 0
    for k in range(len(folds)):
        train = [folds[o] for o in range(len(folds)) if o not in (k, (k + 1) % len(folds))]
        if len(np.unique(label[np.concatenate(train)])) < 2:
            return f"the trials to train on for fold {k + 1} are all of one item"
        known += np.isin(label[folds[k]], label[np.concatenate(train)]).sum()
    if in_time and not known:
        return "each item is in one stretch or run alone: no fold has an item that it was trained on"
    return None


def write_subject(path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write one subject's result, complete or not at all."""
    content: dict[str, Any] = {"header": np.array(json.dumps(header)), **arrays}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **content)


def read_subject_file(path: Path) -> SubjectResult:
    """Read what `write_subject` wrote."""
    try:
        with Npz(path) as stored:
            arrays = {key: stored.read(key) for key in stored.arrays}
        header = json.loads(str(arrays.pop("header")))
        return SubjectResult(header["subject"], header, _nested(arrays))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a subject's result ({error}); remove it and run again") from None


def _nested(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    nested: dict[str, dict[str, np.ndarray]] = {}
    for key, value in arrays.items():
        pair, _, name = key.partition(":")
        nested.setdefault(pair, {})[name] = value
    return nested
