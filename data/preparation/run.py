"""All subjects: who is who, what is done already, several at a time, and the manifest of the whole."""

import hashlib
import json
import logging
import multiprocessing
import shutil
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from sleep_interpreter.data.preparation.cleaning import require_package
from sleep_interpreter.data.preparation.inputs import Source, assign_names
from sleep_interpreter.data.preparation.recording import fingerprint
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.data.preparation.subject import PREPARED, RECORD, UNFINISHED, prepare_subject, read_record
from sleep_interpreter.utils.core import data_card, file_locks, parallel, provenance
from sleep_interpreter.utils.core.command_line import set_up_logging
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.provenance import MARK, write_json
from sleep_interpreter.utils.core.safe_pickle import write_pickle
from sleep_interpreter.utils.signal.recording import Recording

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
LABELS = "SI Staging Label/Whole_label_data.pickle"
_NO_RESULT: Any = {"threads": True, "outputs": {"report"}, "recordings": {"chunk_seconds"}}
"""Settings that change no file of the layout, so that another value does not mean another data set."""
Task = tuple[Source, str, Preparation, Path]
"""What `prepare_subject` takes."""


def prepare(
    sources: Sequence[Source], settings: Preparation, out: str | Path, jobs: int = 1,
    only: Collection[str] | None = None, force: bool = False,
) -> dict:  # fmt: skip
    """Prepare subjects into a folder, `jobs` side by side; write its manifest, and return it.

    `only` are the lab's names of those wanted now, None for all. `force` prepares all that are wanted anew, and
    replaces what was prepared with other settings. Refuses a folder that holds a subject prepared with other settings
    or something by somebody else, or that another process prepares into.
    """
    out = Path(out)
    for method in (settings.steps.bad_channels.method, settings.steps.ica.method, settings.rejection.method):
        require_package(method)
    _read_manifest(out)  # a folder of something else stays as it is
    refusal = (
        f"{display_path(out)}: another process is preparing into this folder; wait for its end (several "
        "subjects side by side: --jobs), or choose another --out"
    )
    with file_locks.locked(out / file_locks.LOCK, refusal=refusal):
        tree = settings.model_dump(mode="json", exclude=_NO_RESULT)
        digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
        before = _read_manifest(out)
        replace = bool(before) and before.get("settings_sha256") != digest
        own = {MANIFEST, UNFINISHED, file_locks.LOCK, data_card.FILE}
        holds_subjects = any(path.name not in own for path in out.iterdir()) or any(
            record["status"] == "complete" for record in before.get("subjects", {}).values()
        )  # one that failed leaves nothing
        if replace and holds_subjects and not force:
            raise UserError(
                f"{out / MANIFEST}: this folder was prepared with other settings; choose another --out, "
                "or --force to prepare everything again"
            )
        names = assign_names(sources, settings, {} if replace else before.get("names", {}))
        if unknown := sorted(set(only or ()) - set(names)):
            raise UserError(f"--subjects: no {unknown[0]!r}; there are {', '.join(names)}")
        if replace:
            lost = [r["source"] for r in before["subjects"].values() if r["source"] not in (only or names)]
            if lost and holds_subjects:
                raise UserError(
                    f"{out / MANIFEST}: --force with other settings would remove {', '.join(lost)}, who "
                    "would not be prepared again: prepare all of them, or choose another --out"
                )
            _remove_prepared(out, before)
            before = {}
        manifest = {
            **provenance.record(),
            "settings": settings.model_dump(mode="json"),
            "settings_sha256": digest,
            "names": {**before.get("names", {}), **names},
            "subjects": before.get("subjects", {}),
        }
        data_card.write(settings.card, out)
        write_json(out / MANIFEST, manifest)  # names are fixed before anybody is prepared under them
        todo: list[Task] = []
        for source in (source for source in sources if only is None or source.name in only):
            name = names[source.name]
            record = read_record(out, name)
            if record is not None and not force and record["inputs"] == _fingerprints(source, settings):
                log.info("%s (%s): is there", source.name, name)
                manifest["subjects"][name] = record
            else:
                todo.append((source, name, settings, out))
        for record in _run(todo, jobs):
            manifest["subjects"][record["subject"]] = record
            write_json(out / MANIFEST, manifest)
        _write_labels(out, manifest["subjects"])
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        write_json(out / MANIFEST, manifest)
        return manifest


def _run(todo: Sequence[Task], jobs: int) -> Iterator[dict]:
    """Yield the record of each subject as it is done."""
    if jobs == 1 or len(todo) < 2:
        yield from (prepare_subject(*one) for one in todo)
        return
    # new processes: forked ones would share the state of libraries that hold threads
    context = multiprocessing.get_context("spawn")
    level = log.getEffectiveLevel()
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(level,)) as pool:
        futures = {pool.submit(prepare_subject, *one): {"subject": one[1], "source": one[0].name} for one in todo}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                reason = "its process was killed (out of memory?); run the same command again, with fewer --jobs"
                yield futures[future] | {"status": "failed", "step": "?", "reason": reason}


def _begin(level: int) -> None:
    """Prepare a process: it logs as its parent does, and ends when that does."""
    set_up_logging(level)
    parallel.end_with_parent()


def _fingerprints(source: Source, settings: Preparation) -> dict | None:
    try:
        return {s.label: fingerprint(s, Recording(s.path), settings) for s in source.sessions}
    except UserError:
        return None  # the preparation says what is wrong with it


def _read_manifest(out: Path) -> dict:
    """Return the manifest of an earlier preparation, empty where there is none."""
    path = out / MANIFEST
    if not path.is_file():
        ours = {UNFINISHED, file_locks.LOCK}
        if out.is_dir() and any(p.name not in ours for p in out.iterdir()):
            raise UserError(
                f"{out}: holds files that no preparation has written ({MANIFEST} is missing); nothing "
                "was changed, give an empty folder with --out"
            )
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: no readable JSON ({error}); remove it to begin again") from None


def _remove_prepared(out: Path, manifest: dict) -> None:
    """Remove what an earlier preparation wrote, by its own account and nothing else."""
    for name, record in manifest["subjects"].items():
        (out / PREPARED / name / RECORD).unlink(missing_ok=True)
        for relative in record.get("files", {}):
            (out / relative).unlink(missing_ok=True)
    for name in (LABELS, data_card.FILE):
        (out / name).unlink(missing_ok=True)
    (out / MANIFEST).unlink()


def _write_labels(out: Path, records: dict[str, dict]) -> None:
    """Write the hypnograms of all complete subjects into the one label file."""
    hypnograms = {
        name: {**({MARK: True} if record["simulated"] else {}), **record["hypnogram"]}
        for name, record in sorted(records.items())
        if record["status"] == "complete" and record.get("hypnogram")
    }
    if hypnograms:
        write_pickle(hypnograms, out / LABELS)


def summary_lines(manifest: dict, out: Path) -> list[str]:
    """Return what the command says at its end."""
    result, subjects = [], manifest["subjects"]
    for name, record in subjects.items():
        if record["status"] != "complete":
            result.append(f"{name} ({record['source']}) FAILED at {record['step']!r}: {record['reason']}")
            continue
        counts = ", ".join(f"{kind} {n}" for kind, n in record["counts"].items() if isinstance(n, int))
        peak = "" if record["peak_bytes"] is None else f", {record['peak_bytes'] / 2**30:.1f} GiB"
        mark = ", simulated" if record["simulated"] else ""
        result.append(f"{name} ({record['source']}{mark}): {counts}; {record['seconds']:.0f} s{peak}")
        result += [f"  note: {note}" for note in record["notes"]]
        for label, own in record["sessions"].items():
            result += [f"  note, {label}: {remark}" for remark in own["remarks"]]
    done = sum(record["status"] == "complete" for record in subjects.values())
    return [*result, f"prepared: {done} of {len(subjects)} subjects in {display_path(out)}, account in {MANIFEST}"]
