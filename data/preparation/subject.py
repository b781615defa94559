"""One subject from recordings to files: all of them appear at once, at the end, or none."""

import contextlib
import hashlib
import json
import logging
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from sleep_interpreter.data.formats import twins
from sleep_interpreter.data.formats.scoring_readers import UNSCORED
from sleep_interpreter.data.formats.subject_writer import SubjectWriter, is_test
from sleep_interpreter.data.preparation import trials as cutting
from sleep_interpreter.data.preparation.inputs import Source
from sleep_interpreter.data.preparation.outputs import write_staging, write_trials
from sleep_interpreter.data.preparation.recording import Cleaned, clean
from sleep_interpreter.data.preparation.report import SessionDetails, write_report
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.data.preparation.trials import Trials
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import AWAKE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import inside
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.core.provenance import read_json, write_json

log = logging.getLogger(__name__)
PREPARED = "Prepared"
RECORD = "subject.json"
UNFINISHED = ".unfinished"
STEP = "step.json"
"""Beside a subject's working files: the step that it is at."""
_FEW = 5  # fewer trials of an item than this are reported


class _Progress:
    """Logs every step of a subject's preparation as it begins, and adds up the seconds that each takes.

    The step is written to a file too: it is all that is left of a process that is killed.
    """

    def __init__(self, subject: str, file: Path) -> None:
        self.subject, self.file = subject, file
        self.session: str | None = None
        self.step, self.seconds = "beginning", dict[str, float]()
        self._since = time.perf_counter()

    def __call__(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[self.step] = self.seconds.get(self.step, 0.0) + now - self._since
        self.step, self._since = step, now
        log.info("%s %s: %s", self.subject, self.session or "", step)
        with contextlib.suppress(OSError):
            self.file.write_text(json.dumps({"step": step, "session": self.session}), encoding="utf-8")


def prepare_subject(source: Source, name: str, settings: Preparation, out: Path) -> dict:
    """Prepare one subject into the layout below `out`, and return its record.

    Its "status" is "complete" or "failed"; whatever fails is told by "step", "session" and "reason".
    """
    started, label = time.perf_counter(), f"{source.name} ({name})"
    work = out / UNFINISHED / name
    shutil.rmtree(work, ignore_errors=True)
    step = _Progress(label, work / STEP)
    _reset_peak_memory()
    record: dict = {"subject": name, "source": source.name}
    reason = None
    try:
        work.mkdir(parents=True)
        if source.fault is not None:
            step("finding its recordings")
            raise UserError(source.fault)
        with threadpool_limits(settings.threads):
            record |= _prepare(source, name, settings, work, step)
        step("moving into place")
        _move(work / "files", out, record)
        done = _finished(record | {"status": "complete"}, step, started)
        write_json(out / PREPARED / name / RECORD, done)
        log.info("%s: done in %.0f s", label, done["seconds"])
        return done
    except UserError as error:
        reason = str(error)
    except Exception as error:  # one subject's trouble must not stop the others
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        log.debug("%s", traceback.format_exc())
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if read_json(out / PREPARED / name / RECORD).get("status") == "complete":
        reason = f"{reason} (what an earlier run has prepared of it is still there)"
    log.error("%s FAILED at %r: %s", label, step.step, reason)
    return _finished(record | failed(step.step, step.session, reason), step, started)


def failed(step: str, session: str | None, reason: str) -> dict:
    """Return what the record of a subject that failed says of it."""
    return {"status": "failed", "step": step, "session": session, "reason": reason}


def _finished(record: dict, step: _Progress, started: float) -> dict:
    """Return a subject's record with the time and memory that it took."""
    step("end")
    seconds = {name: round(spent, 1) for name, spent in step.seconds.items()}
    record |= {"seconds": round(time.perf_counter() - started, 1), "seconds_by_step": seconds}
    return record | {"peak_bytes": _peak_memory()}


def _reset_peak_memory() -> None:
    """Let the peak of memory count from now on (Linux), so that an earlier subject's is not a later one's."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory() -> int | None:
    """Return the highest resident memory in bytes: since the reset on Linux, else of the process."""
    with contextlib.suppress(OSError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    with contextlib.suppress(ImportError):
        import resource  # lazy: optional dependency (not on Windows)

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return None


def _prepare(source: Source, name: str, settings: Preparation, work: Path, step: _Progress) -> dict:
    """Write all files of a subject below `work`/files and return what there is to say about them."""
    files, card, notes = work / "files", settings.card, list[str]()
    details, nights = list[SessionDetails](), list[tuple[int, Cleaned]]()
    left_out: dict[str, str] = {}
    found: dict[str, list[Trials]] = {kind: [] for kind in cutting.windows(card)}
    for session in source.sessions:
        step.session = session.label
        cleaned = clean(session, source.name, settings, work / session.label, step)
        step("trials")
        dropped = _cut_trials(cleaned, settings, found, left_out)
        details.append(SessionDetails.of(cleaned, dropped, settings.slow_oscillations.channel))
        if cleaned.hypnogram is not None:
            scored = cleaned.hypnogram.epochs(cleaned.raw.seconds) != UNSCORED
            nights.append((int(scored.sum()), cleaned))
            _write_tables(files / PREPARED / name / session.label, cleaned, settings, name)
        if session.kind == "wake":
            shutil.rmtree(work / session.label)
    step.session = None
    step("writing")
    _refuse_twins(source.name, found)
    best = max(nights, key=lambda night: night[0])[1] if nights else None
    others = [night.session.label for epochs, night in nights if night is not best and epochs]
    if best is not None and others:
        which = f"{best.session.label}, the longest scored night; not those of {', '.join(others)}"
        notes.append(f"staging windows and labels are those of {which}")
    trials = {m: cutting.join(found[m], card.awake_shape) for m in AWAKE}
    sleep, before = (cutting.join(found[kind], card.sleep_shape) for kind in ("cue", "precue"))
    for kind, stages in cutting.SLEEP_STAGES.items():
        table, eeg = sleep.select(np.isin(sleep.table.stage.to_numpy(), stages))
        trials[kind] = Trials(table.reset_index(drop=True), eeg)
    cues = [cue for one in details for cue in one.cleaned.events.cue_id.dropna()]
    if twice := [cue for cue, count in Counter(cues).items() if count > 1]:
        raise UserError(
            f"{source.name}: two recordings are called {twice[0].rpartition('_')[0]!r}, and so would be their cues; "
            "rename one of the files"
        )
    for _, one in nights:
        _write_cues(files / PREPARED / name / one.session.label, one, trials, left_out)
    precue = {kind: _matching(before, trials[kind]) for kind in cutting.SLEEP_STAGES if settings.outputs.precue}
    simulated = any(d.cleaned.simulated for d in details)
    if not any(len(own.table) for own in trials.values()) and best is None:
        raise UserError(
            f"{source.name}: no trial and no night in it; look at events.rules and at the report of unknown events"
        )
    writer = SubjectWriter(files, name, card, simulated)
    counts = write_trials(writer, trials, precue, settings, notes)
    hypnogram, counts["staging windows"] = None, 0
    if best is not None:
        step("staging windows")
        night = replace(writer, simulated=best.simulated)
        hypnogram, counts["staging windows"] = write_staging(night, best, settings, notes)
    counted = {kind: own.per_item(len(card.items)) for kind, own in trials.items() if kind in card.conditions}
    for kind, per_item in counted.items():
        few = [f"{item} ({n})" for item, n in zip(card.item_names, per_item, strict=True) if n < _FEW]
        if not per_item.any():
            notes.append(f"no {kind} trial")
        elif few:
            notes.append(f"fewer than {_FEW} {kind} trials of {', '.join(few)}")
    if settings.outputs.report:
        step("report")
        path = files / PREPARED / name / "report.html"
        write_report(path, name, source.name, details, trials, notes, settings)
    return {
        "simulated": simulated,
        "counts": counts,
        "per_item": {kind: per_item.tolist() for kind, per_item in counted.items()},
        "hypnogram": hypnogram,
        "sessions": {d.cleaned.session.label: d.summary() for d in details},
        "notes": notes,
        "inputs": {d.cleaned.session.label: d.cleaned.fingerprint for d in details},
    }


def _cut_trials(
    cleaned: Cleaned, settings: Preparation, found: dict[str, list[Trials]], left_out: dict[str, str]
) -> dict[str, dict]:
    """Cut a recording's trials into `found` and return how many were left out and why; of each cue in `left_out`."""

    def leave_out(events: pd.DataFrame, reason: str) -> int:
        left_out.update((cue, reason) for cue in events.cue_id if cue is not None)
        return len(events)

    leave_out(cleaned.events[cleaned.events.modality == "sham"], "sham")
    counts, card, average = {}, settings.card, settings.steps.reference == "average"
    windows = cutting.windows(card)
    for window in (*AWAKE, "cue"):
        events = cleaned.events[cleaned.events.modality == window]
        dropped: dict = {"events": len(events)}
        if window == "cue":
            events = cutting.with_lengths(events, card)
            asleep = np.isin(events.stage, [code for codes in cutting.SLEEP_STAGES.values() for code in codes])
            dropped["in W/N1 or not scored"] = leave_out(events[~asleep], "in W/N1 or not scored")
            events = events[asleep]
            for kind, codes in cutting.SLEEP_STAGES.items():
                other = np.isin(events.stage, codes)
                if kind not in card.conditions and other.any():
                    reason = f"in {kind}, which the data card has no trials of"
                    dropped[reason] = leave_out(events[other], reason)
                    events = events[~other]
        if window == "cue" and card.varying_lengths:
            early = events["samples"].to_numpy(int) < card.shortest_samples
            reason = "next cue before the earliest end"
            dropped[reason] = leave_out(events[early], reason)
            events = events[~early]
        if len(cleaned.gaps):
            lost = cutting.overlapping(events, windows[window], cleaned.gaps)
            dropped["gap in the recording"] = leave_out(events[lost], "gap in the recording")
            events = events[~lost]
        bad = cutting.overlapping(events, windows[window], cleaned.bad_spans)
        dropped["annotated artefact"] = leave_out(events[bad], "annotated artefact")
        events = events[~bad]
        trials, spans, outside = cutting.cut(cleaned.eeg, events, window, card, average)
        reject, threshold = cutting.rejected(spans, "sleep" if window == "cue" else "wake", settings.rejection)
        kept = trials.select(~reject)
        leave_out(events[~events.onset_sample.isin(trials.table.onset_sample)], "beyond the recording")
        leave_out(trials.table[reject], "amplitude")
        if "samples" not in events and (beyond := cutting.beyond_the_next(kept.table, windows[window])):
            cleaned.remarks.append(
                f"{beyond} of {len(kept.table)} {window} trials reach beyond the next event: what that evokes is in "
                "them; a shorter window of the card leaves it out, or its windows.sleep.earliest_end"
            )
        dropped |= {"beyond the recording": outside, "amplitude": int(reject.sum())}
        if window == "cue" and (total := dropped["events"]):
            reasons = [f"{reason}: {n}" for reason, n in list(dropped.items())[1:] if n]
            cleaned.remarks.append("; ".join([f"{total} cues: {len(kept.table)} kept", *reasons]))
        counts[window] = dropped | {"threshold_uv": threshold, "kept": len(kept.table)}
        found[window].append(kept)
        if window == "cue" and settings.outputs.precue:
            before = kept.table[~cutting.overlapping(kept.table, windows["precue"], cleaned.gaps)]
            found["precue"].append(cutting.cut(cleaned.eeg, before, "precue", card, average)[0])
    return counts


def _refuse_twins(name: str, found: Mapping[str, list[Trials]]) -> None:
    """Refuse two recordings of a subject that hold the same signals: their trials would count twice."""
    for kind, own in found.items():
        several = [trials for trials in own if len(trials.table)]
        if kind == "precue" or len(several) < 2:
            continue
        eeg = np.concatenate([trials.eeg for trials in several])
        table = pd.concat([trials.table for trials in several], ignore_index=True)
        sketches = np.concatenate([twins.sketch(trials.eeg) for trials in several])
        sessions, recordings, onset = table.session.to_numpy(), table.recording.to_numpy(), table.onset_s.to_numpy()
        alike = [
            (i, j)
            for i, j in twins.pairs(sketches)
            if sessions[i] != sessions[j] and abs(twins.likeness(eeg[i], eeg[j])) > twins.SAME
        ]
        if alike:
            i, j = alike[0]
            raise UserError(
                f"{name}: {len(alike)} {kind} trials of {recordings[i]} and {recordings[j]} hold the same signals "
                f"(the first ones: at {onset[i]:.3f} s and at {onset[j]:.3f} s); one recording in two files? Take one "
                "of them away"
            )


def _matching(before: Trials, trials: Trials) -> Trials:
    """Return the trials before the cues of `trials`; the table's index says which they belong to."""
    keys = {key: k for k, key in enumerate(zip(before.table.session, before.table.onset_s, strict=True))}
    cues = zip(trials.table.session, trials.table.onset_s, strict=True)
    places = np.array([keys.get(key, -1) for key in cues], int)
    return Trials(trials.table[places >= 0], before.eeg[places[places >= 0]])


def _write_cues(folder: Path, cleaned: Cleaned, trials: Mapping[str, Trials], left_out: Mapping[str, str]) -> None:
    """Write the cues of a sleep recording, and of each which trial it became, or why none.

    `trials` (N2N3 or REM) and `trial` say the place in the files of that name, counted from 0.
    """
    cues = cleaned.events[cleaned.events.modality.isin(cutting.CUED)]
    became = {
        cue: (kind, place)
        for kind in cutting.SLEEP_STAGES
        for place, cue in enumerate(trials[kind].table.cue_id)
    }  # fmt: skip
    rows = [(*became.get(cue, (None, None)), left_out.get(cue)) for cue in cues.cue_id]
    names = ["trials", "trial", "left_out"]
    found = pd.DataFrame(rows, columns=names, index=cues.index).astype({"trial": "Int64"})
    _write_table(folder / "cues.tsv", cues.join(found))


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with atomic_write(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", float_format="%.4f")


def _write_tables(folder: Path, cleaned: Cleaned, settings: Preparation, name: str) -> None:
    """Write what was found in a sleep recording: stages, oscillations, spindles, the cleaned EEG."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"so": cleaned.oscillations, "spindles": cleaned.spindles}
    if len(cleaned.truth):
        tables["truth"] = cleaned.truth
    for file, table in tables.items():
        _write_table(folder / f"{file}.tsv", table)
    if (epochs := cleaned.hypnogram) is not None:
        rows = zip(epochs.onset, epochs.duration, epochs.stage, epochs.names, strict=True)
        lines = ["onset\tduration\tstage\tname", *(f"{o:g}\t{d:g}\t{s}\t{n}" for o, d, s, n in rows)]
        with atomic_write(folder / "stages.tsv") as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    keep = settings.outputs.continuous
    if keep == "all" or (keep == "test" and is_test(name)):
        cleaned.eeg.path = cleaned.eeg.path.rename(folder / "eeg.npy")
        about = {
            "channels": list(settings.channels.montage),
            "rate": STREAM_RATE,
            "unit": "µV",
            "reference": settings.steps.reference,
            "average_at_window": settings.steps.reference == "average",
            "simulated": cleaned.simulated,
            "recording": cleaned.session.path.name,
        }
        write_json(folder / "eeg.json", about)


def _move(files: Path, out: Path, record: dict) -> None:
    """Move a subject's files to their places and note size and hash of each."""
    record["files"] = {}
    for file in sorted(p for p in files.rglob("*") if p.is_file()):
        with file.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        record["files"][file.relative_to(files).as_posix()] = {"bytes": file.stat().st_size, "sha256": digest}
    path = out / PREPARED / record["subject"] / RECORD
    before = read_json(path).get("files", {})
    old = recorded_files(out, {"files": before}, path)
    # from here on until the new record is there, the subject is unfinished
    write_json(path, {"status": "unfinished", "files": {**before, **record["files"]}})
    for relative in before.keys() - record["files"].keys():
        old[relative].unlink(missing_ok=True)  # what the recordings of now no longer give
    for relative in record["files"]:
        target = out / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        (files / relative).replace(target)


def read_record(out: Path, name: str) -> dict | None:
    """Return the record of a subject whose preparation is complete, all files in place, else None."""
    path = out / PREPARED / name / RECORD
    record = read_json(path)
    files = recorded_files(out, record, path)
    if record.get("status") != "complete":
        return None
    for relative, file in files.items():
        about = record["files"][relative]
        if not file.is_file() or not isinstance(about, dict) or file.stat().st_size != about.get("bytes"):
            log.info("%s: %s is missing or of another size: prepared again", name, file)
            return None
    return record


def recorded_files(out: Path, record: dict, source: Path) -> dict[str, Path]:
    """Return {name: path} of the files that a record of `source` counts as its subject's; `UserError` where one would
    lie outside `out`."""
    files = record.get("files", {})
    if not isinstance(files, dict):
        raise UserError(f"{source}: files is no mapping; remove that record, and the subject is prepared again")
    return {name: inside(out, name, source) for name in files}
