"""Writes a simulated data set and keeps account of it, so that what is there is complete or known not to be.

`simulation.json` is written last: a folder without it is not complete. While writing, and after an
interruption, `simulation.unfinished.json` holds the size and the checksum of every file written so far.
"""

import hashlib
import json
import logging
import re
import shutil
from pathlib import Path

from sleep_interpreter.data.simulation.hypnogram import given_hypnogram
from sleep_interpreter.data.simulation.jobs import PARTS, all_jobs
from sleep_interpreter.data.simulation.memory import Subject
from sleep_interpreter.data.simulation.processes import write_jobs
from sleep_interpreter.utils.core import file_locks
from sleep_interpreter.utils.core.constants import ITEMS
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import shown, writing
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.core.provenance import SIDECAR as COMPLETE
from sleep_interpreter.utils.core.provenance import UNFINISHED_SIDECAR as UNFINISHED

log = logging.getLogger(__name__)

VERSION = 3
"""Raised with every change that makes the simulator write other bytes for the same settings."""
_TEMPORARY = re.compile(r"\.(.+)\.\d+\.tmp(\.\w+)?")
"""Names that `utils.core.paths.writing` and `utils.signal.brainvision_writer` give to unfinished files."""


def write_dataset(settings, out, *, recording_only=False, bids=False, force=False, verify=False, processes=1):
    """Write a simulated data set.

    A complete data set of the same settings is left as it is after a look at every file's size; files that
    are missing or damaged are written again. An unfinished one of the same settings is gone on with, and
    one that lacks a part (raw nights) gets it.

    Parameters
    ----------
    settings : sleep_interpreter.data.simulation.settings.Simulation
    out : str | Path
        Folder of the data set.
    recording_only : bool
        Write only the continuous recording.
    bids : bool
        Write raw nights and wake sessions too, as a BIDS folder.
    force : bool
        Replace a simulated data set of other settings, finished or not. Only files that the simulator wrote
        are removed.
    verify : bool
        Compare every file's checksum too, which reads them all (`force` does so as well).
    processes : int
        How many files are written at the same time; they have the same bytes with any number.

    Returns
    -------
    written : bool
        False when the complete data set was there already.

    Raises
    ------
    UserError
        The folder holds something else, another process writes into it, or there is not enough room.
    """
    if processes < 1:
        raise UserError(f"--jobs {processes}: give at least 1")
    out = Path(out)
    parts = PARTS[:1] if recording_only else PARTS if bids else PARTS[:2]
    if recording_only and bids:
        raise UserError("--recording writes nothing but the short recording; leave out --bids or --recording")
    old = _found(out)
    written, outdated = {}, []
    if old is not None:
        written = old.pop("written", None)
        written = written if isinstance(written, dict) else {}
        # Parts that are there already, with these settings, stay parts of the data set.
        more = tuple(part for part in PARTS if part in parts or part in old.get("parts", ()))
        jobs = all_jobs(settings, more)
        manifest = _manifest(settings, more, jobs)
        if _same(old, manifest):
            parts = more
        else:
            if not force:
                kind = "a" if (out / COMPLETE).is_file() else "an unfinished"
                raise UserError(
                    f"{shown(out)}: holds {kind} simulated data set of other settings (or of another version "
                    "of the simulator); nothing was changed, give --force to replace it or another folder "
                    "with --out"
                )
            written, outdated = {}, [out / file for file in old["files"] if (out / file).is_file()]
    jobs = all_jobs(settings, parts)
    manifest = _manifest(settings, parts, jobs)
    good = _intact(out, manifest["files"], written, verify or force)
    if (out / COMPLETE).is_file() and not outdated:
        lacking = [file for file in manifest["files"] if file not in good]
        if not lacking:
            log.info("%s: complete with these settings already, left as it is", shown(out))
            return False
        damaged = [file for file in lacking if file in old["files"]]
        if damaged:
            log.warning("%s: missing or damaged, written again: %s", shown(out), ", ".join(damaged))
    waiting = [job for job in jobs if not good.issuperset(job.files)]
    _check_room(out, sum(job.size for job in waiting) - sum(file.stat().st_size for file in outdated))
    with file_locks.locked(
        out / file_locks.LOCK,
        refusal=f"{shown(out)}: another process is simulating into this folder; wait for its end, or choose "
        "another with --out",
    ):
        if (out / COMPLETE).is_file():
            (out / COMPLETE).replace(out / UNFINISHED)  # from here on the folder counts as unfinished
        _remove(out, outdated)
        _remove_leftovers(out, manifest["files"])
        kept = {file: written[file] for file in manifest["files"] if file in good}
        _write_files(out, waiting, manifest, kept, processes)
    return True


def _same(old, manifest):
    """Tell whether a data set that is there has the settings of `manifest`, whatever parts it has."""
    loose = ("files", "parts")
    old, new = ({key: m[key] for key in m if key not in loose} for m in (old, manifest))
    return old == new


def _write_files(out, jobs, manifest, written, processes):
    from tqdm import tqdm

    _write_json({**manifest, "written": written}, out / UNFINISHED)
    done = write_jobs(jobs, out, processes)
    for job in tqdm(done, total=len(jobs), desc="simulating", unit="job", disable=None):
        written |= {file: _description(out / file) for file in job.files}
        _write_json({**manifest, "written": written}, out / UNFINISHED)
    _write_json({**manifest, "written": dict(sorted(written.items()))}, out / COMPLETE)
    (out / UNFINISHED).unlink()


def _remove(out, files):
    """Remove files, and the folders that are empty then."""
    for file in files:
        file.unlink()
        for folder in file.parents:
            if folder == out or any(folder.iterdir()):
                break
            folder.rmdir()


def _remove_leftovers(out, files):
    """Remove the temporary files that a killed simulation left beside the files it was writing."""
    for folder in {(out / file).parent for file in files}:
        for left in folder.glob(".*.tmp*"):
            name = _TEMPORARY.fullmatch(left.name)
            if name and (folder / name[1]).relative_to(out).as_posix() in files:
                left.unlink()
    for left in (out / "bids").glob(".unfinished-*"):
        shutil.rmtree(left)


def _intact(out, files, written, verify):
    """Return those of the files that are as they were written: by size, with `verify` by checksum too."""
    from tqdm import tqdm

    good = set()
    for file in tqdm(files, desc="verifying", unit="file", disable=None if verify else True, leave=False):
        path, entry = out / file, written.get(file)
        if not isinstance(entry, dict) or not path.is_file() or path.stat().st_size != entry.get("size"):
            continue
        if not verify or _description(path) == entry:
            good.add(file)
    return good


def _description(path):
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _manifest(settings, parts, jobs):
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
            "chance": 1 / len(ITEMS),
            "item_components_in_sleep_s": subject.planted_latencies(),
            "share_by_phase_of_slow_oscillation": dict(settings.gate.share),
            "recording_subject": subject.name,
        },
        "parts": list(parts),
        "files": sorted(file for job in jobs for file in job.files),
    }


def _found(out):
    """Return the manifest of what the simulator wrote into the folder before, None if it is empty."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{shown(out)}: is a file; give a folder with --out")
    if not out.exists() or all(path.name == file_locks.LOCK for path in out.iterdir()):
        return None
    path = next((out / name for name in (COMPLETE, UNFINISHED) if (out / name).is_file()), None)
    if path is None:
        raise UserError(
            f"{shown(out)}: holds files that the simulator did not write; "
            "nothing was changed, give an empty folder with --out"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        inside = all((out / file).resolve().is_relative_to(out.resolve()) for file in content["files"])
    except (ValueError, TypeError, KeyError):
        inside = False
    if not inside:
        raise UserError(f"{shown(path)}: not a manifest of the simulator; give another folder with --out")
    return content


def _check_room(out, size):
    place = next(p for p in (out.resolve(), *out.resolve().parents) if p.exists())
    free = shutil.disk_usage(place).free
    needed = int(1.05 * max(size, 0)) + 10_000_000
    if free < needed:
        raise UserError(
            f"{shown(out)}: the data set needs {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free; "
            "make room or give another folder with --out"
        )


def _write_json(content, path):
    with writing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
