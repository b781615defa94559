"""Writes a simulated data set and keeps account of it, so that what is there is complete or known not to be.

`simulation.json` is written last: a folder without it is not complete. While writing, and after an
interruption, `simulation.unfinished.json` holds the size and the checksum of every file written so far.
"""

import hashlib
import logging
import shutil
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sleep_interpreter.data.simulation.hypnogram import given_hypnogram
from sleep_interpreter.data.simulation.jobs import PARTS, Job, all_jobs
from sleep_interpreter.data.simulation.settings import Simulation
from sleep_interpreter.data.simulation.subject import Subject
from sleep_interpreter.utils.core import file_locks, parallel
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import inside, own_folder
from sleep_interpreter.utils.core.paths import display_path, remove_temporary_files
from sleep_interpreter.utils.core.provenance import MARK, read_json, write_json
from sleep_interpreter.utils.core.provenance import SIDECAR as COMPLETE
from sleep_interpreter.utils.core.provenance import UNFINISHED_SIDECAR as UNFINISHED

log = logging.getLogger(__name__)

REPLACEMENT = ".replacement"
"""The folder in a data set where another one is made that is to replace it."""
VERSION = 3
"""Raised with every change that makes the simulator write other bytes for the same settings."""


def write_dataset(
    settings: Simulation, out: str | Path, *, recording_only: bool = False, bids: bool = False, force: bool = False,
    verify: bool = False, processes: int = 1,
) -> bool:  # fmt: skip
    """Write a simulated data set into the folder `out`; return False when the complete one was there already.

    A complete data set of the same settings is left as it is after a look at every file's size, with `verify` or
    `force` at every checksum; files that are missing or damaged are written again. An unfinished one of the same
    settings is gone on with, and one that lacks a part (raw nights) gets it. `recording_only` writes only the
    continuous recording, `bids` raw nights and wake sessions too; `force` replaces a simulated data set of other
    settings, finished or not, but removes only files that the simulator wrote, and of a finished one none before the
    new one is complete (in a hidden folder of `out`, which the same call goes on with). `processes` says how many
    files are written at the same time; they have the same bytes with any number. Raises `UserError` where the folder
    holds something else, another process writes into it, or there is not enough room.
    """
    if processes < 1:
        raise UserError(f"--jobs {processes}: give at least 1")
    out = Path(out)
    parts: tuple[str, ...] = PARTS[:1] if recording_only else PARTS if bids else PARTS[:2]
    if recording_only and bids:
        raise UserError("--recording writes nothing but the short recording; leave out --bids or --recording")
    if (own_folder(out) / REPLACEMENT / COMPLETE).is_file():  # a kill while it was put in place
        with _locked(out):
            _put_in_place(out)
    old, outdated = _found(out), list[Path]()
    written: Any = None if old is None else old.pop("written", None)
    written = written if isinstance(written, dict) else {}
    if old is not None:
        if _is_of(old, settings):
            # Parts that are there already, with these settings, stay parts of the data set.
            parts = tuple(part for part in PARTS if part in parts or part in old.get("parts", ()))
        elif force and (out / COMPLETE).is_file():
            with _locked(out):
                if not _is_begun(out / REPLACEMENT, settings):
                    shutil.rmtree(out / REPLACEMENT, ignore_errors=True)
                log.info("%s: the data set there stays until the new one is complete", out)
                write_dataset(
                    settings, out / REPLACEMENT, recording_only=recording_only, bids=bids, verify=True,
                    processes=processes,
                )  # fmt: skip
                _put_in_place(out)
            return True
        elif force:
            written, outdated = {}, [out / file for file in old["files"] if (out / file).is_file()]
        else:
            kind = "a" if (out / COMPLETE).is_file() else "an unfinished"
            raise UserError(
                f"{out}: holds {kind} simulated data set of other settings (or of another version of the simulator); "
                "nothing was changed, give --force to replace it or another folder with --out"
            )
    jobs = all_jobs(settings, parts)
    manifest = _manifest(settings, parts, jobs)
    good = _intact(out, manifest["files"], written, verify or force)
    if (out / COMPLETE).is_file() and not outdated:
        if not (lacking := [file for file in manifest["files"] if file not in good]):
            log.info("%s: complete with these settings already, left as it is", out)
            return False
        if damaged := [file for file in lacking if old is not None and file in old["files"]]:
            log.warning("%s: missing or damaged, written again: %s", out, ", ".join(damaged))
    waiting = [job for job in jobs if not good.issuperset(job.files)]
    _check_room(out, sum(job.size for job in waiting) - sum(file.stat().st_size for file in outdated))
    with _locked(out):
        if (out / COMPLETE).is_file():
            (out / COMPLETE).replace(out / UNFINISHED)  # from here on the folder counts as unfinished
        _remove(out, outdated)
        for file in manifest["files"]:  # what a killed simulation left of it
            remove_temporary_files((out / file).parent, Path(file).name)
        for left in (out / "bids").glob(".unfinished-*"):
            shutil.rmtree(left)
        kept = {file: written[file] for file in manifest["files"] if file in good}
        _write_files(out, waiting, manifest, kept, processes)
    return True


def _locked(out: Path) -> AbstractContextManager[None]:
    return file_locks.locked(
        out / file_locks.LOCK,
        refusal=f"{display_path(out)}: another process is simulating into this folder; wait for its end, or choose "
        "another with --out",
    )


def _is_begun(out: Path, settings: Simulation) -> bool:
    """Tell whether the folder holds a data set of these settings, complete or not."""
    try:
        found = _found(out)
    except UserError:
        return False
    return found is not None and _is_of(found, settings)


def _is_of(manifest: dict[str, Any], settings: Simulation) -> bool:
    """Tell whether a manifest is of these settings, whatever parts there are."""
    return manifest | {"files": [], "parts": [], "written": None} == _manifest(settings, (), []) | {"written": None}


def _put_in_place(out: Path) -> None:
    """Replace the data set by the complete one in its folder `REPLACEMENT`; goes on where a kill stopped it."""
    new = out / REPLACEMENT
    coming, old = _found(new), _found(out)
    assert coming is not None
    if (out / COMPLETE).is_file():
        (out / COMPLETE).replace(out / UNFINISHED)  # from here on the folder counts as unfinished
    gone = set((old or coming)["files"]) - set(coming["files"])
    _remove(out, [out / file for file in sorted(gone) if (out / file).is_file()])
    for file in coming["files"]:
        if (new / file).is_file():
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (new / file).replace(out / file)
    (new / COMPLETE).replace(out / COMPLETE)
    (out / UNFINISHED).unlink(missing_ok=True)
    shutil.rmtree(new)


def _write_files(out: Path, jobs: list[Job], manifest: dict[str, Any], written: dict[str, Any], processes: int) -> None:
    write_json(out / UNFINISHED, {**manifest, "written": written}, indent=1)
    done = parallel.results(partial(_write, out), jobs, max(1, min(processes, len(jobs))))
    bar = tqdm(done, total=len(jobs), desc="simulating", unit="job", disable=None)
    for number, files in enumerate(bar, start=1):
        written |= {file: _description(out / file) for file in files}
        write_json(out / UNFINISHED, {**manifest, "written": written}, indent=1)
        if bar.disable and 10 * number // len(jobs) > 10 * (number - 1) // len(jobs):  # no terminal: a line each 10 %
            log.info("simulated: %d of %d jobs, the last one %s", number, len(jobs), files[0])
    write_json(out / COMPLETE, {**manifest, "written": dict(sorted(written.items()))}, indent=1)
    (out / UNFINISHED).unlink()


def _write(out: Path, job: Job) -> tuple[str, ...]:
    """Write the files of a job into `out` and return their names."""
    job.write(out)
    return job.files


def _remove(out: Path, files: Iterable[Path]) -> None:
    """Remove files, and the folders that are empty then."""
    for file in files:
        file.unlink(missing_ok=True)  # a manifest may name it twice
        for folder in file.parents:
            if folder == out or any(folder.iterdir()):
                break
            folder.rmdir()


def _intact(out: Path, files: Iterable[str], written: dict[str, Any], verify: bool) -> set[str]:
    """Return those of the files that are as they were written: by size, with `verify` by checksum too."""

    def intact(file: str) -> bool:
        path, entry = out / file, written.get(file)
        same = isinstance(entry, dict) and path.is_file() and path.stat().st_size == entry.get("size")
        return same and (not verify or _description(path) == entry)

    bar = tqdm(files, desc="verifying", unit="file", disable=None if verify else True, leave=False)
    return set(filter(intact, bar))


def _description(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _manifest(settings: Simulation, parts: Sequence[str], jobs: Iterable[Job]) -> dict[str, Any]:
    subject = Subject(settings, "test", settings.recording.test_subject)
    given = settings.night.hypnogram
    return {
        MARK: True,
        "note": "written by data/simulate.py; no figure made from it says anything about people",
        "version": VERSION,
        "settings": settings.model_dump(mode="json"),
        # A file that a path in the settings names may change.
        "hypnogram": given_hypnogram(given).tolist() if isinstance(given, str) else None,
        "planted": {
            "chance": 1 / len(settings.card.items),
            "item_components_in_sleep_s": subject.planted_latencies(),
            "share_by_phase_of_slow_oscillation": dict(settings.gate.share),
            "recording_subject": subject.name,
        },
        "parts": list(parts),
        "files": sorted(file for job in jobs for file in job.files),
    }


def _found(out: Path) -> dict[str, Any] | None:
    """Return the manifest of what the simulator wrote into the folder before, None if it is empty."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder with --out")
    if not out.exists() or all(path.name == file_locks.LOCK for path in out.iterdir()):
        return None
    path = next((out / name for name in (COMPLETE, UNFINISHED) if (out / name).is_file()), None)
    if path is None:
        raise UserError(
            f"{out}: holds files that the simulator did not write; nothing was changed, give an empty folder with --out"
        )
    content = read_json(path)
    if not (isinstance(content.get("files"), list) and isinstance(content.get("parts", []), list)):
        raise UserError(f"{path}: not a manifest of the simulator; give another folder with --out")
    for file in content["files"]:
        inside(out, file, path)
    return content


def _check_room(out: Path, size: int) -> None:
    place = next(p for p in (out.resolve(), *out.resolve().parents) if p.exists())
    free = shutil.disk_usage(place).free
    needed = int(1.05 * max(size, 0)) + 10_000_000
    if free < needed:
        raise UserError(
            f"{out}: the data set needs {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free; "
            "make room or give another folder with --out"
        )
