"""One recording through all steps, from the lab's file to cleaned EEG, events, stages, slow oscillations."""

import contextlib
import hashlib
import logging
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
import pandas as pd

from sleep_interpreter.data.events import slow_oscillations
from sleep_interpreter.data.events.cue_phases import AtRandom, at_cues
from sleep_interpreter.data.formats.scoring_readers import Hypnogram
from sleep_interpreter.data.preparation import pauses
from sleep_interpreter.data.preparation.artefacts import bad_spans
from sleep_interpreter.data.preparation.channels import (
    Plan,
    called_bad,
    embedded,
    interpolation,
    make_plan,
    refuse_mixed_references,
    rereference,
)
from sleep_interpreter.data.preparation.cleaning import PYPREP, artefact_operator, find_bad
from sleep_interpreter.data.preparation.events import event_of, read_events
from sleep_interpreter.data.preparation.inputs import Session, Source, bids_details, channels_table
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.data.preparation.signal import SignalFile, check_amplitude, derived, filter_file, load, multiply
from sleep_interpreter.data.preparation.stages import find_stages, scoring_file
from sleep_interpreter.data.preparation.trials import with_origin, with_stage
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.core.provenance import MARK, SIDECAR, UNFINISHED_SIDECAR, is_simulated
from sleep_interpreter.utils.signal.channel_names import hint, listed
from sleep_interpreter.utils.signal.gaps import linked_files
from sleep_interpreter.utils.signal.recording import Recording

log = logging.getLogger(__name__)
_PLANTED = re.compile(r"(?:[^/]+/)?true/")
_LEVELS = 5  # folders above a recording that may hold the sidecar of a simulated data set: bids/sub-*/ses-*/eeg/


@dataclass
class Cleaned:
    """One recording after all steps."""

    session: Session
    raw: SignalFile  # as recorded (rows of the plan), 500 Hz and µV
    eeg: SignalFile  # cleaned (rows of the montage), 500 Hz and µV
    plan: Plan
    events: pd.DataFrame  # of `read_events`, with stage and origin; cues also with their slow oscillation
    hypnogram: Hypnogram | None
    stage_source: str | None
    oscillations: pd.DataFrame
    spindles: pd.DataFrame
    at_random: AtRandom  # what random times before the cues met
    bad: dict[str, str]  # {bad channel: reason}; missing ones too
    components: list[dict]  # of the ICA, as `artefact_operator` gives them
    bad_spans: np.ndarray  # annotated artefacts in s, (n, 2)
    gaps: np.ndarray  # where nothing was recorded, in s, (n, 2)
    unmapped: dict[str, int]  # {event that no rule knows: count}
    amplitude: float  # typical SD of 30 s in µV
    truth: pd.DataFrame  # onset_s, duration_s, event: planted in a simulated recording ("true/..."); else empty
    remarks: list[str]
    simulated: bool
    fingerprint: dict

    @property
    def cues(self) -> pd.DataFrame:
        """The events that are cues."""
        return self.events[self.events.modality == "cue"]


def clean(session: Session, name: str, settings: Preparation, folder: Path, step: Callable[[str], None]) -> Cleaned:
    """Take one recording of the subject that the lab calls `name` through all steps.

    `folder` takes the working files; `step` is told the name of every step as it begins.
    """
    where = display_path(session.path)
    step("opening")
    recording = Recording(session.path, settings.recordings.encoding)
    remarks = [*session.remarks, *(text for level, text in recording.notices if level >= logging.WARNING)]
    if session.bids is not None and session.events is None:
        remarks.append("there is no events.tsv beside it: events are those in the recording itself")
    for text in remarks:  # now too: who fails has no remarks at the end
        log.warning("WARNING: %s: %s", where, text)
    counted, gaps = settings.recordings.gaps_in_tables, pauses.spans(recording)
    annotations, status = recording.annotations, dict[str, bool]()
    if session.bids is not None:
        annotations, status = bids_details(session, recording, settings.recordings.encoding, counted)
    simulated = _is_simulated(session.path, annotations)
    step("channels")
    stated, notes = _stated_bad(session, recording, name, status, settings)
    plan = make_plan(settings.channels, recording.names, where, stated)
    plan.notes += notes
    refuse_mixed_references(plan, settings.steps.reference, where)
    remarks += _channel_remarks(plan, settings)
    step("events")
    staged = settings.stages.annotation if settings.stages.source in ("auto", "annotations") else None
    events, unmapped = read_events(
        session, recording, annotations, settings.events, remarks, settings.card, counted, staged
    )
    spans = _bad_spans([annotations, recording.annotations], session, recording, settings, remarks)
    step("reading")
    raw = load(recording, plan.picks, settings.recordings, folder / "raw.npy")
    raw.gaps = pauses.in_samples(gaps, raw.shape[1])
    step("units")
    amplitude = check_amplitude(raw, [plan.rows[n] for n in plan.eeg], settings.recordings, where)
    for kind, pair in zip(("EEG", "EOG", "EMG"), plan.derivations, strict=True):
        if pair is not None and session.kind == "sleep":
            label = f"{kind} ({plan.picks[pair[0]]})"
            check_amplitude(raw, [pair[0]], settings.recordings, where, label, others_fit=True)
    hypnogram = source = None
    if session.kind == "sleep":
        step("stages")
        hypnogram, source, more = find_stages(session, annotations, recording, raw, plan, settings.stages, counted)
        remarks += more
        hypnogram = pauses.unscored(hypnogram, gaps)
    step("bad channels")
    bad = _bad_channels(raw, plan, settings, where)
    operator, components = np.eye(len(plan.heads)), list[dict]()
    if session.kind == "wake":
        step("ICA")
        positions = settings.channels.positions
        taken_out, names, components = artefact_operator(raw, plan, bad, settings.steps, settings.seed, positions)
        operator = operator if taken_out is None else embedded(taken_out, names, plan.heads)
    step("filtering")
    working = SignalFile(shutil.copyfile(raw.path, folder / "filtered.npy"))
    working.gaps = raw.gaps
    heads = [plan.rows[n] for n in plan.heads]
    filter_file(working, heads, settings.steps)
    step("interpolation and reference")
    space = [*plan.montage, *(n for n in plan.heads if n not in plan.montage)]
    mending = interpolation(plan.montage, bad, settings.channels.positions, where)
    mending = embedded(mending, plan.montage, space)[:, [space.index(n) for n in plan.heads]]
    mastoids = [n for n in settings.channels.mastoids if n not in plan.bad and n not in bad]
    reference = rereference(space, settings.steps.reference, mastoids, settings.channels.positions, where)
    chain = (reference @ mending @ operator)[: len(plan.montage)]
    eeg = multiply(working, heads, chain, folder / "eeg.npy")
    oscillations, spindles, trace = _sleep_events(
        working, raw, heads, plan, mending @ operator, hypnogram, settings, step, remarks
    )
    working.path.unlink()
    events = with_origin(with_stage(events, hypnogram), session, name, recording.rate, hypnogram)
    own, after = settings.slow_oscillations, settings.spindles.after_cue_s
    cues, shams = (events[events.modality == kind] for kind in ("cue", "sham"))
    known, at_random = at_cues(cues, oscillations, spindles, own, after, trace)
    if len(shams):
        known = pd.concat([known, at_cues(shams, oscillations, spindles, own, after, trace)[0]])
    events = events.join(known[["so_group", "so_phase_rad", "so_row", "spindle_coupled", "so_phase_from"]])
    truth = _planted(annotations if simulated else (), recording.first_time)
    unmapped = {text: n for text, n in unmapped.items() if not _is_understood(text, settings)}
    if unmapped:
        total, most = sum(unmapped.values()), Counter(unmapped).most_common(5)
        there = ", ".join(f"{text!r} ({n})" for text, n in most) + ", ..." * (len(unmapped) > len(most))
        which = f"{total} events are" if len(events) else f"none of the {total} events is"
        remarks.append(f"{which} known by {'no' if len(events) else 'a'} rule of events.rules: {there}")
    return Cleaned(
        session, raw, eeg, plan, events, hypnogram, source, oscillations, spindles, at_random, bad, components,
        spans, gaps, unmapped, amplitude, truth, remarks, simulated, fingerprint(session, recording, settings),
    )  # fmt: skip


def fingerprint(session: Session, recording: Recording, settings: Preparation) -> dict:
    """Return what tells whether a session's files are still the same: recording, markers, tables, scoring."""
    files = [
        session.path.with_suffix(".vmrk"),
        linked_files(session.path).get("markerfile"),
        session.events,
        scoring_file(session, settings.stages),
    ]
    files.append(channels_table(session))
    there = {file.name: file for file in files if file is not None and file.is_file()}
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sorted(there.items())}
    return {**recording.fingerprint(), "beside": hashes}


def _bad_spans(
    said: Sequence[mne.Annotations], session: Session, recording: Recording, settings: Preparation, remarks: list[str]
) -> np.ndarray:
    """Return the annotated artefacts in s, (n, 2), joined where they overlap; how many is added to `remarks`.

    Beside what events.tsv of a BIDS folder says, the marks in the recording itself count; what a rule of the events
    takes for an event is none.
    """
    where, pattern = display_path(session.path), settings.rejection.artefacts

    def is_event(text: str) -> bool:
        return event_of(text, session, settings.events)

    spans = [bad_spans(own, pattern, recording.first_time, where, is_event) for own in said]
    apart = list[list[float]]()
    for start, end in np.unique(np.concatenate(spans), axis=0).tolist():
        if apart and start <= apart[-1][1]:
            apart[-1][1] = max(apart[-1][1], end)
        else:
            apart.append([start, end])
    found = np.array(apart, float).reshape(-1, 2)
    if len(found):
        inside = np.clip(found, 0, recording.seconds)
        minutes = float((inside[:, 1] - inside[:, 0]).sum()) / 60
        remarks.append(f"annotated artefacts and breaks: {len(found)}, {minutes:.1f} min; no trial overlaps one")
    return found


def _planted(annotations: Iterable[dict], first_time: float) -> pd.DataFrame:
    """Return what annotations "true/..." of a simulated recording say, with onsets from the first sample."""
    rows = [(float(a["onset"]) - first_time, float(a["duration"]), str(a["description"])) for a in annotations]
    planted = [(onset, duration, _PLANTED.sub("", text)) for onset, duration, text in rows if _PLANTED.match(text)]
    return pd.DataFrame(planted, columns=["onset_s", "duration_s", "event"])


def _is_understood(text: str, settings: Preparation) -> bool:
    """Tell whether an event that no rule maps is understood all the same: a stage, an artefact, the truth."""
    text = re.sub(r", value \d+$", "", text)  # as `read_events` tells it
    patterns = [r"(?:true/.*|New Segment/?.*|BAD_ACQ_SKIP)", re.escape(MARK), settings.stages.annotation]
    if settings.rejection.artefacts and re.fullmatch(settings.rejection.artefacts, text):
        return True
    return any(re.fullmatch(p, t) for p in patterns for t in (text, text.partition("/")[2]))


def _is_simulated(path: Path, annotations: mne.Annotations) -> bool:
    marked = any(re.fullmatch(rf"(?:.*/)?{MARK}", str(text)) for text in annotations.description)
    if marked or is_simulated(path):
        return True
    folders = path.resolve().parents[:_LEVELS]
    return any((folder / sidecar).is_file() for folder in folders for sidecar in (SIDECAR, UNFINISHED_SIDECAR))


def _stated_bad(
    session: Session, recording: Recording, name: str, status: Mapping[str, bool], settings: Preparation
) -> tuple[dict[str, str], list[str]]:
    """Return {channel of a recording that is called bad: who says so}, and notes.

    `status` is what channels.tsv says, which counts for more than a mark in the file. Refuses a bad channel in it that
    the recording has not.
    """
    names, rename, where = recording.names, settings.channels.rename, display_path(session.path)
    bad, notes = dict.fromkeys(recording.bads, "marked as bad in the file"), list[str]()
    for channel, is_bad in status.items():
        found = called_bad(channel, names, rename)
        if found is None and is_bad:
            table = channels_table(session)
            raise UserError(
                f"{table and display_path(table)}: {channel!r} is bad, but {where} has no such channel "
                f"({hint(channel, names)}); write the recording's name"
            )
        if found is not None and is_bad:
            bad[found] = "channels.tsv"
        elif found is not None and found in bad:
            del bad[found]
            notes.append(f"{found} is marked as bad in the file, but good in channels.tsv: taken for good")
    for channel in settings.channels.bad.get(name, ()):
        if (found := called_bad(channel, names, rename)) is None:
            notes.append(f"channels.bad names {channel}, which this recording has not")
        else:
            bad.setdefault(found, "channels.bad")
    return bad, notes


def check_called_bad(sources: Sequence[Source], settings: Preparation) -> None:
    """Refuse a subject of `channels.bad` who is not there, and a channel that none of the subject's recordings has.

    A channel that the settings name and that was not recorded is known all the same. Recordings that cannot be read
    are passed over: their preparation says why.
    """
    own = {source.name: source for source in sources}
    channels = settings.channels
    pairs = [pair for pair in (channels.eeg, channels.eog, channels.emg) if pair is not None]
    known = {*channels.montage, *channels.mastoids, *(name for pair in pairs for name in pair if name)}
    for subject, bad in channels.bad.items():
        if subject not in own:
            close = nearest(subject, own, 3)
            hints = f"nearest: {', '.join(close)}" if close else f"there are {listed(own)}"
            raise UserError(f"channels.bad: no subject {subject!r}; {hints}")
        there: list[list[str]] = []
        for session in own[subject].sessions:
            with contextlib.suppress(UserError):
                there.append(Recording(session.path, settings.recordings.encoding).names)
        for channel in bad:
            try:
                found = any(called_bad(channel, names, channels.rename) for names in there)
            except UserError as error:
                raise UserError(f"channels.bad of {subject}: {error}") from None
            if there and not found and channel not in known:
                names = list(dict.fromkeys(name for names in there for name in names))
                raise UserError(
                    f"channels.bad: {subject} has no channel {channel!r} ({hint(channel, [*names, *known])})"
                )


def _channel_remarks(plan: Plan, settings: Preparation) -> list[str]:
    """Return what the user should know of the channels at once: what is made up, and what no longer serves."""
    remarks = []
    if plan.missing:
        remarks.append(f"not recorded, interpolated from the others: {listed(plan.missing, 70)}")
    if bad := {name: why for name, why in plan.bad.items() if name not in plan.montage}:
        told = ", ".join(f"{name} ({why})" for name, why in bad.items())
        remarks.append(f"bad and used for no reference: {told}")
    if plan.against and settings.steps.reference == "none":
        told = ", ".join(f"{name} against {side.upper()}" for name, side in plan.against.items())
        remarks.append(f"recorded against one side and kept so: {told}")
    return remarks


def _bad_channels(raw: SignalFile, plan: Plan, settings: Preparation, where: str) -> dict[str, str]:
    """Return {channel: reason} of all that has to be interpolated, or refuse too many."""
    bad = {n: "missing" for n in plan.missing} | {n: why for n, why in plan.bad.items() if n in plan.montage}
    found = find_bad(raw, plan, settings.steps.bad_channels, settings.seed, settings.channels.positions)
    bad |= {n: reason for n, reason in found.items() if n not in bad}
    share = settings.channels.interpolate_share
    if len(bad) > share * len(plan.montage):
        reasons = Counter(part for reason in bad.values() for part in reason.removeprefix(PYPREP).split(", "))
        each = "; ".join(f"{n} ({reason.removeprefix(PYPREP)})" for n, reason in bad.items())
        raise UserError(
            f"{where}: {len(bad)} of {len(plan.montage)} channels are missing or bad "
            f"({', '.join(f'{reason}: {count}' for reason, count in reasons.most_common())}), at most {share:.0%} are "
            "interpolated; look at the recording, or set steps.bad_channels.method (none: no search by pyprep) or "
            f"channels.interpolate_share; channel by channel: {each}"
        )
    return bad


def _sleep_events(
    working: SignalFile, raw: SignalFile, heads: list[int], plan: Plan, mending: np.ndarray,
    hypnogram: Hypnogram | None, settings: Preparation, step: Callable[[str], None], remarks: list[str],
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray | None]:  # fmt: skip
    """Return slow oscillations and spindles of a sleep recording; empty tables otherwise.

    Beside them the channel of the slow oscillations in µV at 500 Hz, from the recording as it was before any filter:
    a zero-phase filter would carry what comes after a cue to the time before it. None where there is none.
    """
    empty = slow_oscillations.detect_so(np.zeros(0), np.zeros(0, int), settings.slow_oscillations)
    none = slow_oscillations.detect_spindles(np.zeros((0, 0)), [], np.zeros(0, int), settings.spindles, empty)
    if hypnogram is None:
        return empty, none, None
    step("slow oscillations and spindles")
    montage, slow, spindle = list(plan.montage), settings.slow_oscillations.channel, settings.spindles.channels
    names = [n for n in (slow, *spindle) if n in montage]
    for channel, what in ((slow, "slow oscillations"), *((n, "spindles") for n in spindle)):
        if channel not in montage:
            setting = "slow_oscillations.channel" if what == "slow oscillations" else "spindles.channels"
            remarks.append(
                f"no {what} were searched at {channel}: it is not in channels.montage; set {setting} to what is there"
            )
    if not names:
        return empty, none, None
    weights = mending[[montage.index(n) for n in names]]
    good = [n for n in settings.channels.mastoids if n in plan.heads and n not in plan.bad]
    there = [plan.heads.index(n) for n in good if plan.against.get(n) == plan.against.get(names[0])]
    if settings.slow_oscillations.reference == "mastoids" and there:
        weights = weights.copy()
        weights[:, there] -= 1 / len(there)
    elif settings.slow_oscillations.reference == "mastoids" and settings.channels.mastoids:
        lacking = "/".join(settings.channels.mastoids)
        remarks.append(f"no good {lacking}: slow oscillations and spindles are searched as recorded")
    signals = derived(working, heads, weights)
    stages = hypnogram.at(np.arange(signals.shape[1]) / slow_oscillations.RATE)
    so = slow_oscillations.detect_so(signals[0], stages, settings.slow_oscillations) if slow in montage else empty
    first = int(slow in montage)
    spindles = slow_oscillations.detect_spindles(signals[first:], names[first:], stages, settings.spindles, so)
    if slow not in montage:
        return so, spindles, None
    trace = np.zeros(raw.shape[1], np.float32)
    for k in np.flatnonzero(weights[0]).tolist():
        trace += np.float32(weights[0, k]) * raw.read(0, raw.shape[1], heads[k])
    return so, spindles, trace
