"""All subjects: who is who, what is done already, several at a time, and the manifest of the whole."""

import hashlib
import json
import logging
import multiprocessing
import shutil
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from sleep_interpreter.data.formats.subject_writer import LAYOUT_NAME, is_test
from sleep_interpreter.data.preparation.cleaning import require_package
from sleep_interpreter.data.preparation.inputs import Source, assign_names
from sleep_interpreter.data.preparation.recording import check_called_bad, fingerprint
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.data.preparation.stages import without_shared_scorings
from sleep_interpreter.data.preparation.subject import (
    PREPARED,
    RECORD,
    STEP,
    UNFINISHED,
    failed,
    prepare_subject,
    read_record,
    recorded_files,
)
from sleep_interpreter.utils.core import data_card, file_locks, parallel, provenance
from sleep_interpreter.utils.core.command_line import set_up_logging
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import own_folder
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.provenance import MARK, read_json, require_json, write_json
from sleep_interpreter.utils.core.safe_pickle import write_pickle
from sleep_interpreter.utils.signal.recording import Recording

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
_OF_THE_SYSTEM = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers leave in a folder that they show."""
LABELS = "SI Staging Label/Whole_label_data.pickle"
_NO_RESULT: Any = {"threads": True, "outputs": {"report"}, "recordings": {"chunk_seconds"}}
"""Settings that change no file of the layout, so that another value does not mean another data set."""
_RECORD: dict[str, dict[str, Any]] = {
    "complete": {"simulated": bool, "counts": dict, "notes": list, "sessions": dict, "seconds": (int, float)},
    "failed": {"step": str, "reason": str},
}
"""What a subject's record in the manifest holds, by its status."""
Task = tuple[Source, str, Preparation, Path]
"""What `prepare_subject` takes."""


def prepare(
    sources: Sequence[Source], settings: Preparation, out: str | Path, jobs: int | None = None,
    only: Collection[str] | None = None, force: bool = False,
) -> dict:  # fmt: skip
    """Prepare subjects into a folder, `jobs` side by side; write its manifest, and return it.

    Each has a process of its own, so that one that is killed takes nobody along; `jobs` None: all in this process.
    `only` are the lab's names of those wanted now, None for all. `force` prepares all that are wanted anew, and
    replaces what was prepared with other settings. Refuses a folder that holds a subject prepared with other settings
    or something by somebody else, or that another process prepares into.
    """
    out = Path(out)
    for method in (settings.steps.bad_channels.method, settings.steps.ica.method, settings.rejection.method):
        require_package(method)
    check_called_bad(sources, settings)
    sources = without_shared_scorings(sources, settings)
    _read_manifest(own_folder(out))  # a folder of something else stays as it is
    refusal = (
        f"{display_path(out)}: another process is preparing into this folder; wait for its end (several "
        "subjects side by side: --jobs), or choose another --out"
    )
    with file_locks.locked(out / file_locks.LOCK, refusal=refusal):
        tree = settings.model_dump(mode="json", exclude=_NO_RESULT)
        digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
        before = _read_manifest(out)
        replace = bool(before) and before.get("settings_sha256") != digest
        complete = _complete(before, out)
        holds_subjects = bool(complete)  # what failed leaves nothing
        if replace and holds_subjects and not force:
            raise UserError(
                f"{out / MANIFEST}: this folder was prepared with other settings; choose another --out, "
                "or --force to prepare everything again"
            )
        names = assign_names(sources, settings, {} if replace else _known_names(before, sources, settings, complete))
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
        kept = {
            name: record
            for name, record in before.get("subjects", {}).items()
            if name in complete or names.get(record["source"]) == name  # who failed and left is not missed
        }
        manifest = {
            **provenance.record(),
            "settings": settings.model_dump(mode="json"),
            "settings_sha256": digest,
            "names": {**{lab: name for lab, name in before.get("names", {}).items() if name in complete}, **names},
            "subjects": kept,
        }
        wanted = [source for source in sources if only is None or source.name in only]
        there = {names[source.name]: read_record(out, names[source.name]) for source in wanted}
        write_json(out / MANIFEST, manifest)  # names are fixed before anybody is prepared under them
        data_card.write(settings.card, out)
        todo: list[Task] = []
        for source in wanted:
            name = names[source.name]
            record = None if source.fault else there[name]
            if record is not None and not force and record.get("inputs") == _fingerprints(source, settings):
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


def _run(todo: Sequence[Task], jobs: int | None) -> Iterator[dict]:
    """Yield the record of each subject as it is done."""
    if jobs is None:
        yield from (prepare_subject(*one) for one in todo)
        return
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from (future.result() for future in as_completed([pool.submit(_prepare_apart, one) for one in todo]))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _prepare_apart(one: Task) -> dict:
    """Return the record of a subject that is prepared in a process of its own, also if that is killed."""
    source, name, _, out = one
    # a new process: a forked one would share the state of libraries that hold threads
    context = multiprocessing.get_context("spawn")
    level = log.getEffectiveLevel()
    with ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(level,)) as process:
        try:
            return process.submit(prepare_subject, *one).result()
        except BrokenProcessPool:
            work = out / UNFINISHED / name
            at = read_json(work / STEP)
            shutil.rmtree(work, ignore_errors=True)
            reason = (
                "its process was killed (out of memory?), the other subjects went on; run the same command again, with "
                "fewer --jobs or where there is more memory"
            )
            log.error("%s (%s) FAILED at %r: %s", source.name, name, at.get("step", "beginning"), reason)
            about = failed(at.get("step", "beginning"), at.get("session"), reason)
            return {"subject": name, "source": source.name, **about}


def _complete(before: dict, out: Path) -> set[str]:
    """Return our names of who was prepared to the end, by the manifest or by the subject's own record."""
    own = {path.parent.name: read_json(path) for path in out.glob(f"{PREPARED}/*/{RECORD}")}
    records = before.get("subjects", {}) | own
    return {name for name, record in records.items() if record.get("status") == "complete"}


def _known_names(
    before: dict, sources: Sequence[Source], settings: Preparation, complete: Collection[str]
) -> dict[str, str]:
    """Return {lab's name: ours} of an earlier preparation of the folder that still holds.

    `complete` are those of our names that were prepared. Who was not and is not there any more, or is a test subject
    now and was none (or the other way round), loses the name; who was keeps it, and another role is refused.
    """
    now, known = {source.name: source for source in sources}, dict[str, str]()
    by_table = not settings.split.test and any(source.test is not None for source in sources)
    for lab, name in before.get("names", {}).items():
        another = lab in now and by_table and is_test(name) != bool(now[lab].test)
        if name in complete and another:
            raise UserError(
                f"participants.tsv: {lab} is the {'test' if is_test(name) else 'training'} subject {name} of this "
                f"folder already, and another now (column {settings.split.group_column!r}); prepare into another folder"
            )
        if name in complete or (lab in now and not another):
            known[lab] = name
    return known


def _begin(level: int) -> None:
    """Prepare a process: it logs as its parent does, and ends when that does."""
    set_up_logging(level)
    parallel.end_with_parent()


def _fingerprints(source: Source, settings: Preparation) -> dict | None:
    if source.fault is not None:
        return None
    try:
        return {
            s.label: fingerprint(s, Recording(s.path, settings.recordings.encoding), settings) for s in source.sessions
        }
    except Exception as error:  # the preparation says what is wrong with it, and stops nobody else
        log.debug("%s: %s", source.name, error)
        return None


def _read_manifest(out: Path) -> dict:
    """Return the manifest of an earlier preparation, empty where there is none."""
    path = out / MANIFEST
    if not path.is_file():
        ours = {UNFINISHED, file_locks.LOCK, *_OF_THE_SYSTEM}
        if out.is_dir() and any(p.name not in ours for p in out.iterdir()):
            raise UserError(
                f"{out}: holds files that no preparation has written ({MANIFEST} is missing); nothing "
                "was changed, give an empty folder with --out"
            )
        return {}
    refusal = "is no manifest of a preparation; nothing was changed, give an empty folder with --out"
    manifest = require_json(path, refusal)
    subjects, names = manifest.get("subjects"), manifest.get("names")
    if not isinstance(subjects, dict) or not isinstance(names, dict) or "settings_sha256" not in manifest:
        raise UserError(f"{path}: {refusal}")
    for name in (*subjects, *names.values()):
        if not (isinstance(name, str) and LAYOUT_NAME.fullmatch(name)):
            raise UserError(f"{path}: {str(name)[:80]!r} is no subject of the layout (subject_0, subject_test_0, ...)")
    for name, record in subjects.items():
        status = record.get("status") if isinstance(record, dict) else None
        wanted = {"source": str, **_RECORD.get(str(status), {})}
        if str(status) not in _RECORD or any(not isinstance(record.get(key), kind) for key, kind in wanted.items()):
            raise UserError(
                f"{path}: {name}: of status, {', '.join(wanted)} one is missing or unknown; give another --out"
            )
        recorded_files(out, record, path)
    return manifest


def _remove_prepared(out: Path, manifest: dict) -> None:
    """Remove what an earlier preparation wrote, by its own account and nothing else."""
    records = {name: dict(record.get("files", {})) for name, record in manifest["subjects"].items()}
    for path in out.glob(f"{PREPARED}/*/{RECORD}"):  # of those too that were interrupted while files were moved
        records.setdefault(path.parent.name, {}).update(read_json(path).get("files", {}))
    for name, files in records.items():
        (out / PREPARED / name / RECORD).unlink(missing_ok=True)
        for path in recorded_files(out, {"files": files}, out / MANIFEST).values():
            path.unlink(missing_ok=True)
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
    result, subjects, lost = [], manifest["subjects"], []
    for name, record in subjects.items():
        if record["status"] != "complete":
            at = f"{record['step']!r}" + (f" of {record['session']}" if record.get("session") else "")
            lost.append(f"{name} ({record['source']}) FAILED at {at}: {record['reason']}")
            continue
        counts = ", ".join(f"{kind} {n}" for kind, n in record["counts"].items() if isinstance(n, int))
        peak = "" if record["peak_bytes"] is None else f", {record['peak_bytes'] / 2**30:.1f} GiB"
        mark = ", simulated" if record["simulated"] else ""
        result.append(f"{name} ({record['source']}{mark}): {counts}; {record['seconds']:.0f} s{peak}")
        result += [f"  note: {note}" for note in record["notes"]]
        for label, own in record["sessions"].items():
            result += [f"  note, {label}: {remark}" for remark in own["remarks"]]
    done = len(subjects) - len(lost)
    account = f"prepared: {done} of {len(subjects)} subjects in {display_path(out)}, account in {MANIFEST}"
    return [*result, *lost, account]  # who failed stands last, where it is seen
