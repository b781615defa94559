"""One subject from recordings to files: all of them appear at once, at the end, or none."""

import contextlib
import hashlib
import json
import logging
import shutil
import sys
import time
import traceback
from pathlib import Path

import numpy as np

from sleep_interpreter.data.formats.scoring_readers import UNSCORED
from sleep_interpreter.data.formats.tfrecords import AWAKE_SAMPLES, SLEEP_SAMPLES
from sleep_interpreter.data.preparation import trials as cutting
from sleep_interpreter.data.preparation.outputs import write_staging, write_trials
from sleep_interpreter.data.preparation.recording import clean
from sleep_interpreter.data.preparation.report import Details, write_report
from sleep_interpreter.data.preparation.stages import epoch_codes
from sleep_interpreter.utils.core.constants import ITEMS, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import shown, writing
from sleep_interpreter.utils.core.provenance import write_json

log = logging.getLogger(__name__)
PREPARED = "Prepared"
RECORD = "subject.json"
UNFINISHED = ".unfinished"


def prepare_subject(source, name, settings, out):
    """Prepare one subject; whatever fails is told by step and reason.

    Parameters
    ----------
    source : sleep_interpreter.data.preparation.inputs.Source
    name : str
        In the published layout.
    settings : sleep_interpreter.data.preparation.settings.Preparation
    out : Path
        Root of the layout.

    Returns
    -------
    record : dict
        "status" "complete" or "failed"; with "failed" also "step", "reason".
    """
    from threadpoolctl import threadpool_limits

    started, steps = (
        time.perf_counter(),
        {"session": None, "step": "beginning", "seconds": {}, "since": time.perf_counter()},
    )

    def step(text):
        now = time.perf_counter()
        steps["seconds"][steps["step"]] = steps["seconds"].get(steps["step"], 0.0) + now - steps["since"]
        steps["step"], steps["since"] = text, now
        log.info("%s (%s) %s: %s", source.name, name, steps["session"] or "", text)

    work = out / UNFINISHED / name
    shutil.rmtree(work, ignore_errors=True)
    _forget_peak()
    record = {"subject": name, "source": source.name}
    try:
        with threadpool_limits(settings.threads):
            record |= _prepare(source, name, settings, work, steps, step)
        step("moving into place")
        _move(work / "files", out, record)
        record["status"] = "complete"
    except UserError as error:
        record |= {
            "status": "failed",
            "step": steps["step"],
            "session": steps["session"],
            "reason": str(error),
        }
    except Exception as error:  # one subject's trouble must not stop the others
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        record |= {"status": "failed", "step": steps["step"], "session": steps["session"], "reason": reason}
        log.debug("%s", traceback.format_exc())
    finally:
        shutil.rmtree(work, ignore_errors=True)
    step("end")
    record |= {
        "seconds": round(time.perf_counter() - started, 1),
        "seconds_by_step": {k: round(v, 1) for k, v in steps["seconds"].items()},
        "peak_bytes": _peak(),
    }
    if record["status"] == "complete":
        write_json(out / PREPARED / name / RECORD, record)
        log.info("%s (%s): done in %.0f s", source.name, name, record["seconds"])
    else:
        log.error("%s (%s) FAILED at %r: %s", source.name, name, record["step"], record["reason"])
    return record


def _forget_peak():
    """Let the peak of memory count from now on (Linux), so that an earlier subject's is not a later one's."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak():
    """Return the highest resident memory in bytes: since `_forget_peak` on Linux, else of the process."""
    with contextlib.suppress(OSError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    with contextlib.suppress(ImportError):  # Windows
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return None


def _prepare(source, name, settings, work, steps, step):
    """Write all files of a subject below `work`/files and return what there is to say about them."""
    files, notes, details = work / "files", [], []
    found = {kind: [] for kind in (*cutting.WINDOWS, "sleep")}
    left_out, nights = {}, []
    for session in source.sessions:
        steps["session"] = session.label
        cleaned = clean(session, source.name, settings, work / session.label, step)
        step("trials")
        dropped = _trials(cleaned, settings, found)
        left_out[session.label] = dropped
        detail = Details.of(cleaned, dropped, settings.slow_oscillations.channel)
        details.append(detail)
        if session.kind == "sleep":
            nights.append((_scored(cleaned), cleaned))
            _write_tables(files / PREPARED / name / session.label, cleaned, settings, name)
        if session.kind == "wake":
            shutil.rmtree(work / session.label)
    steps["session"] = None
    step("writing")
    best = max(nights, key=lambda night: night[0])[1] if nights else None
    others = [own.session.label for epochs, own in nights if own is not best and epochs]
    if others:
        notes.append(
            f"staging windows and labels are those of {best.session.label}, the longest scored night; not "
            f"those of {', '.join(others)}"
        )
    channels = len(settings.channels.montage)
    trials = {m: cutting.join(found[m], channels, AWAKE_SAMPLES) for m in ("image", "audio")}
    sleep = cutting.join(found["cue"], channels, SLEEP_SAMPLES)
    before = cutting.join(found["precue"], channels, SLEEP_SAMPLES)
    precue = {}
    for kind, stages in cutting.KINDS.items():
        keep = np.flatnonzero(np.isin(sleep.table.stage.to_numpy(), stages))
        trials[kind] = _reset(sleep.some(keep))
        if settings.outputs.precue:
            precue[kind] = _matching(before, trials[kind])
    simulated = any(d.simulated for d in details)
    if not any(len(own.table) for own in trials.values()) and best is None:
        raise UserError(
            f"{source.name}: no trial and no night in it; look at events.rules and at the report of "
            "unknown events"
        )
    counts = write_trials(files, name, trials, precue, settings, simulated, notes)
    hypnogram, windows = None, 0
    if best is not None:
        step("staging windows")
        hypnogram, windows = write_staging(files, name, best, settings, notes)
    counts["staging windows"] = windows
    notes += _few(trials)
    if settings.outputs.report:
        step("report")
        write_report(
            files / PREPARED / name / "report.html", name, source.name, details, trials, notes, settings
        )
    return {
        "simulated": simulated,
        "counts": counts,
        "per_item": {
            k: np.bincount(t.table.item_index.to_numpy(int), minlength=len(ITEMS)).tolist()
            for k, t in trials.items()
        },
        "hypnogram": hypnogram,
        "sessions": {d.label: d.summary() for d in details},
        "notes": notes,
        "inputs": {d.label: d.fingerprint for d in details},
    }


def _trials(cleaned, settings, found):
    """Cut a recording's trials into `found` and return how many were left out and why."""
    average, session = settings.steps.reference == "average", cleaned.session
    counts = {}
    for window in ("image", "audio", "cue"):
        events = cleaned.events[cleaned.events.modality == window]
        dropped = counts.setdefault(window, {"events": len(events)})
        if window == "cue":
            asleep = np.isin(events.stage, [code for codes in cutting.KINDS.values() for code in codes])
            dropped["in W/N1 or not scored"] = int((~asleep).sum())
            events = events[asleep]
        bad = cutting.overlapping(events, window, cleaned.bad_spans)
        dropped["annotated artefact"] = int(bad.sum())
        events = events[~bad].assign(session=session.label)
        trials, spans, outside = cutting.cut(cleaned.eeg, events, window, average)
        kind = "sleep" if window == "cue" else "wake"
        reject, threshold = cutting.rejected(spans, kind, settings.rejection)
        dropped |= {
            "beyond the recording": outside,
            "amplitude": int(reject.sum()),
            "threshold_uv": threshold,
        }
        kept = trials.some(~reject)
        dropped["kept"] = len(kept.table)
        found[window].append(kept)
        if window == "cue" and settings.outputs.precue:
            found["precue"].append(cutting.cut(cleaned.eeg, kept.table, "precue", average)[0])
    return counts


def _scored(cleaned):
    """Return how many epochs of a night are scored."""
    codes = epoch_codes(cleaned.hypnogram, cleaned.raw.seconds)
    return int((codes != UNSCORED).sum())


def _reset(trials):
    return cutting.Trials(trials.table.reset_index(drop=True), trials.eeg)


def _matching(before, trials):
    """Return the trials before the cues of `trials`; the table's index says which they belong to."""
    keys = {(r.session, r.onset_s): k for k, r in enumerate(before.table.itertuples())}
    pairs = [
        (k, keys[key])
        for k, r in enumerate(trials.table.itertuples())
        if (key := (r.session, r.onset_s)) in keys
    ]
    own = np.array([k for k, _ in pairs], int)
    return cutting.Trials(trials.table.iloc[own], before.eeg[np.array([p for _, p in pairs], int)])


def _few(trials, least=5):
    """Return remarks on items with few trials."""
    notes = []
    for kind, own in trials.items():
        count = np.bincount(own.table.item_index.to_numpy(int), minlength=len(ITEMS))
        few = [f"{ITEMS[k]} ({n})" for k, n in enumerate(count) if n < least]
        if len(own.table) == 0:
            notes.append(f"no {kind} trial")
        elif few:
            notes.append(f"fewer than {least} {kind} trials of {', '.join(few)}")
    return notes


def _write_tables(folder, cleaned, settings, name):
    """Write what was found in a sleep recording: cues, stages, oscillations, spindles, the cleaned EEG."""
    folder.mkdir(parents=True, exist_ok=True)
    cues = cleaned.events[cleaned.events.modality == "cue"]
    epochs = cleaned.hypnogram
    tables = {"cues": cues, "so": cleaned.oscillations, "spindles": cleaned.spindles}
    for file, table in (tables | ({"truth": cleaned.truth} if len(cleaned.truth) else {})).items():
        with writing(folder / f"{file}.tsv") as temporary:
            table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", float_format="%.4f")
    rows = zip(epochs.onset, epochs.duration, epochs.stage, epochs.names, strict=True)
    with writing(folder / "stages.tsv") as temporary:
        lines = [f"{o:g}\t{d:g}\t{s}\t{n}" for o, d, s, n in rows]
        temporary.write_text("\n".join(["onset\tduration\tstage\tname", *lines]) + "\n", encoding="utf-8")
    keep = settings.outputs.continuous
    if keep == "all" or (keep == "test" and name.startswith("subject_test_")):
        cleaned.eeg.path.rename(folder / "eeg.npy")
        cleaned.eeg.path = folder / "eeg.npy"
        write_json(
            folder / "eeg.json",
            {
                "channels": list(settings.channels.montage),
                "rate": STREAM_RATE,
                "unit": "µV",
                "reference": settings.steps.reference,
                "average_at_window": settings.steps.reference == "average",
                "simulated": cleaned.simulated,
                "recording": cleaned.session.path.name,
            },
        )


def _move(files, out, record):
    """Move a subject's files to their places and note size and hash of each."""
    record["files"] = {}
    for file in sorted(p for p in files.rglob("*") if p.is_file()):
        relative = file.relative_to(files).as_posix()
        record["files"][relative] = {"bytes": file.stat().st_size, "sha256": _digest(file)}
    path = out / PREPARED / record["subject"] / RECORD
    before = _files_of(path)
    if before:  # from here on until the new record is there, the subject is unfinished
        write_json(path, {"status": "unfinished", "files": {**before, **record["files"]}})
    for relative in before.keys() - record["files"].keys():
        (out / relative).unlink(missing_ok=True)  # what the recordings of now no longer give
    for relative in record["files"]:
        target = out / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        (files / relative).replace(target)


def _files_of(record):
    """Return the files that a subject's record names, as far as there is one."""
    try:
        return json.loads(record.read_text(encoding="utf-8")).get("files", {})
    except (OSError, ValueError):
        return {}


def _digest(file):
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_record(out, name):
    """Return the record of a subject whose preparation is complete, all files in place, else None."""
    path = Path(out) / PREPARED / name / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if record.get("status") != "complete":
        return None
    for relative, about in record.get("files", {}).items():
        file = Path(out) / relative
        if not file.is_file() or file.stat().st_size != about["bytes"]:
            log.info("%s: %s is missing or of another size: prepared again", name, shown(file))
            return None
    return record
