"""Finds a lab's recordings: whose they are, what they hold, who is a test subject."""

import contextlib
import difflib
import glob
import os
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import mne
import mne_bids
import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.validation import natural
from sleep_interpreter.data.preparation import pauses, repeated
from sleep_interpreter.data.preparation.bids_tables import frame_of, groups_of
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import display_path, named_in_text, refuse_link_loops
from sleep_interpreter.utils.signal.recording import Recording, reader_options

_FORMATS = (".vhdr", ".edf", ".bdf", ".set", ".fif", ".cnt", ".gdf")
_BIDS_PARTS = ("subject", "session", "task", "run", "acquisition")
SessionKind = Literal["wake", "sleep"]


@dataclass(frozen=True)
class Session:
    """One recording."""

    label: str  # name of its folder: BIDS' session, task and run, or the session that the path names
    kind: SessionKind
    path: Path
    events: Path | None = None  # BIDS: its events.tsv
    bids: mne_bids.BIDSPath | None = None  # to read it through mne-bids
    names: tuple[str, ...] = ()  # what rules call the session: BIDS' session and task, or the one that the path names
    run: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)  # what the path names, by the groups of recordings.pattern
    remarks: tuple[str, ...] = ()  # what was found out about its files

    def is_of(self, session: str | None, run: str | None = None) -> bool:
        """Tell whether it is a recording of this session and run, by what rules call them; None: of any."""
        if session is not None and session.casefold() not in map(str.casefold, self.names):
            return False
        return run is None or (self.run is not None and run.lstrip("0") == self.run.lstrip("0"))


@dataclass(frozen=True)
class Source:
    """One person's recordings, before a name of the published layout is given."""

    name: str  # the lab's own, for example "sub-001"
    sessions: tuple[Session, ...]
    test: bool | None = None  # whether participants.tsv calls it a test subject; None where it says nothing
    fault: str | None = None  # why nothing can be prepared of it: the others can


def find_bids(root: str | Path, settings: Preparation) -> list[Source]:
    """Return the people of a BIDS folder; refuse one without EEG, and sessions that the settings do not know."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: BIDS folder not found")
    refuse_link_loops(root)
    found = mne_bids.find_matching_paths(root, datatypes="eeg", suffixes="eeg", extensions=list(_FORMATS))
    # derivatives/ and sourcedata/ hold the same recordings once more; what is misnamed may seem to lie above
    found = [p for p in found if Path(os.path.relpath(p.fpath, root)).parts[0].startswith(("sub-", ".."))]
    if not found:
        raise UserError(f"{root}: no sub-*/**/eeg/*_eeg.* recording in it; is it a BIDS folder?")
    named_in_text(p.fpath for p in found)
    sessions, faults = dict[str, list[Session]](), dict[str, str]()
    people = {f"sub-{p.subject}" for p in found}
    column = None if settings.split.test else settings.split.group_column
    groups = groups_of(root / "participants.tsv", column, sorted(people, key=natural))
    for path in sorted(found, key=lambda p: natural(p.fpath)):
        both = f"{path.session}_{path.task}" if path.session and path.task else None
        names = tuple(name for name in (both, path.session, path.task) if name)
        own = sessions.setdefault(f"sub-{path.subject}", [])
        try:
            if not os.path.lexists(path.fpath):  # mne-bids makes up its folders by its name
                folders = "/".join(path.fpath.parent.parts[-3 if path.session else -2 :])
                raise UserError(
                    f"{display_path(root)}: {path.fpath.name} lies in other folders than its name tells; put it into "
                    f"{folders}/, or rename it"
                )
            kind = _kind(names, settings, path.fpath)
        except UserError as error:
            faults.setdefault(f"sub-{path.subject}", str(error))
            continue
        events = path.copy().update(suffix="events", extension=".tsv").fpath
        label = "_".join(filter(None, (path.session, path.task, path.run and f"run{path.run}"))) or kind
        there = events if events.is_file() else None
        parts = {key: value for key in _BIDS_PARTS if (value := getattr(path, key))}
        parts["bids"] = path.fpath.name.rpartition("_")[0]
        own.append(Session(label, kind, path.fpath, there, path, names, path.run, parts))
    return _sources(sessions, faults, groups, settings)


def find_recordings(pattern: str | Sequence[str], settings: Preparation) -> list[Source]:
    """Return the people whose files a glob pattern names, or several (what a shell makes of an unquoted one).

    Refuses a pattern that finds no recording, and a path that names no subject or no known session.
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    for one in patterns:
        if "**" in one:
            parts = Path(one).parts
            refuse_link_loops(Path(*parts[: next(k for k, part in enumerate(parts) if glob.has_magic(part))]))
    files = {
        Path(p)
        for one in patterns
        # a file's own name may hold brackets; pathlib's glob takes no absolute patterns
        for p in ([one] if Path(one).is_file() else glob.glob(one, recursive=True))  # noqa: PTH207
    }
    paths = sorted(named_in_text(p for p in files if p.suffix.lower() in _FORMATS), key=natural)
    rule = re.compile(settings.recordings.pattern)
    if settings.stages.file:  # EDF+ scorings look like recordings
        scored = set[Path]()
        for path in paths:
            with contextlib.suppress(UserError):  # a scoring itself may have other parts than recordings
                scored.update(scorings(path, settings.stages.file, _parts(rule, path) or {}))
        paths = [path for path in paths if path not in scored]
    if not paths:
        what = f"{len(files)} files, none of them" if files else "no"
        raise UserError(f"--recordings {' '.join(patterns)!r}: {what} recording ({', '.join(_FORMATS)})")
    sessions, faults = dict[str, list[Session]](), dict[str, str]()
    for path in paths:
        found = _parts(rule, path)
        if found is None:
            text = f"{path.parent.name}/{path.name}"
            raise UserError(f"{path}: recordings.pattern {settings.recordings.pattern!r} finds no subject in {text!r}")
        label, number = (found.get(group, "") for group in ("session", "run"))
        own = sessions.setdefault(found["subject"], [])
        try:
            kind = _kind((label,), settings, path)
        except UserError as error:
            faults.setdefault(found["subject"], str(error))
            continue
        own.append(Session(label or kind, kind, path, names=(label or kind,), run=number or None, parts=found))
    return _sources(sessions, faults, {}, settings)


def _sources(
    sessions: Mapping[str, Sequence[Session]], faults: Mapping[str, str], groups: Mapping[str, bool],
    settings: Preparation,
) -> list[Source]:  # fmt: skip
    """Return the people with their recordings; refuse what is at fault with all of them, and rules that never apply."""
    if faults.keys() == sessions.keys():
        raise UserError(next(iter(faults.values())))
    _check_rules(sessions, settings)
    whole, said, repeats = repeated.once(sessions)
    found = {
        name: [replace(one, remarks=tuple(said[one.path])) if one.path in said else one for one in own]
        for name, own in whole.items()
    }
    why = {**repeats, **faults}
    return [Source(name, _distinct(own), groups.get(name), why.get(name)) for name, own in found.items()]


def _check_rules(sessions: Mapping[str, Sequence[Session]], settings: Preparation) -> None:
    """Refuse a rule of a session or run that no recording is of: it would never apply.

    A session that the settings name is known, though no recording of it be among those of now.
    """
    there = [session for own in sessions.values() for session in own]
    found = [name for session in there for name in session.names]
    known = list(dict.fromkeys([*settings.recordings.sessions, *found]))
    for place, rule in settings.events.places.items():
        if rule.session is not None and rule.session.casefold() not in map(str.casefold, known):
            close = nearest(rule.session, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise UserError(f"{place}: no recording is of the session {rule.session!r}; {hint}")
        own = [session for session in there if session.is_of(rule.session)]
        if rule.run is not None and own and not any(session.is_of(rule.session, rule.run) for session in own):
            runs = sorted({session.run for session in own if session.run}, key=natural)
            hint = (
                f"there are {', '.join(runs)}"
                if runs
                else ("none says its run: BIDS has run-1, recordings.pattern may have a group (?P<run>...)")
            )
            of = f" of the session {rule.session!r}" if rule.session else ""
            raise UserError(f"{place}: no recording{of} is of the run {rule.run!r}; {hint}")


def _parts(rule: re.Pattern[str], path: Path) -> dict[str, str] | None:
    """Return what a path names by the groups of `recordings.pattern`; None where it does not match."""
    found = rule.search(path.name) or rule.search(f"{path.parent.name}/{path.name}")
    return None if found is None else {name: text for name, text in found.groupdict().items() if text}


def scorings(path: Path, pattern: str | None, parts: Mapping[str, str]) -> list[Path]:
    """Return the files beside a recording that `stages.file` names.

    {stem} is the recording's name without its ending, or, where this names nothing, up to its first dot; other names in
    braces are `parts` of it. Refuses one that is none of them.
    """
    if pattern is None:
        return []
    for stem in dict.fromkeys((path.stem, path.name.split(".")[0])):
        if found := _beside(path, pattern, {**parts, "stem": stem}):
            return found
    return []


def _beside(path: Path, pattern: str, known: Mapping[str, str]) -> list[Path]:
    """Return the files beside a recording that a pattern with `known` parts in braces names."""

    def part(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise UserError(
                f"stages.file = {pattern!r}: {path.name} has no part {{{found[1]}}}; it has "
                f"{', '.join(f'{{{name}}} = {text!r}' for name, text in known.items())}"
            )
        return glob.escape(known[found[1]])

    wanted = glob.escape(str(path.parent)) + "/" + re.sub(r"{(\w+)}", part, pattern)
    there = {Path(os.path.normpath(other)) for other in glob.glob(wanted, recursive=True)}  # noqa: PTH207
    others = (p for p in there if p != Path(os.path.normpath(path)) and not p.stem.endswith("_description"))
    return sorted(named_in_text(others))


def assign_names(
    sources: Sequence[Source], settings: Preparation, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return {lab's name: name in the published layout}: subject_<n> or subject_test_<n>.

    Those who are `known` from an earlier preparation keep their names. Refuses a `split.test` that names somebody who
    is not there, or who was a training subject before.
    """
    own, known = [source.name for source in sources], known or {}
    names = {name: ours for name, ours in known.items() if name in own}
    for name in settings.split.test:
        if name not in own:
            close = nearest(name, own, 3)
            hint = f"nearest: {', '.join(close)}" if close else f"there are {len(own)}"
            raise UserError(f"split.test: no subject {name!r}; {hint}")
        if not names.get(name, "subject_test_").startswith("subject_test_"):
            raise UserError(
                f"split.test: {name} is the training subject {names[name]} of this folder already; "
                "prepare into another folder"
            )
    test = _test_subjects([s for s in sources if s.name not in names], settings, sources)
    taken = set(known.values())
    for source in sources:
        if source.name not in names:
            prefix = "subject_test_" if source.name in test else "subject_"
            number = next(n for n in range(len(taken) + 1) if f"{prefix}{n}" not in taken)
            names[source.name] = f"{prefix}{number}"
            taken.add(names[source.name])
    return names


def _test_subjects(new: Sequence[Source], settings: Preparation, sources: Sequence[Source]) -> set[str]:
    if settings.split.test:
        return set(settings.split.test)
    if any(source.test is not None for source in sources):
        return {source.name for source in new if source.test}
    # Drawn by everybody's own number from the seed, so that one more subject does not move the others
    count = round(settings.split.test_share * len(sources))
    count = max(count, 1) if settings.split.test_share and len(sources) > 1 else count
    draw = {s.name: np.random.default_rng([settings.seed, *s.name.encode()]).random() for s in sources}
    return set(sorted(draw, key=draw.__getitem__)[:count])


def _kind(labels: Sequence[str | None], settings: Preparation, path: Path) -> SessionKind:
    """Return what a recording holds, by its labels (BIDS: "session_task", session, task)."""
    known = settings.recordings.sessions
    folded = {name.casefold(): kind for name, kind in known.items()}
    named = [label for label in labels if label] or [""]
    if found := {label: folded[label.casefold()] for label in named if label.casefold() in folded}:
        if named[0] not in found and len(set(found.values())) > 1:
            kinds = " and ".join(f"{label}: {kind}" for label, kind in found.items())
            raise UserError(f"{path}: recordings.sessions says {kinds}; say what {named[0]!r} is")
        return next(iter(found.values()))
    if settings.recordings.default_session is None:
        raise UserError(
            f"{path}: session {' or '.join(map(repr, named))} is none of recordings.sessions "
            f"({', '.join(known)}); add it there, or set recordings.default_session"
        )
    return settings.recordings.default_session


def _distinct(sessions: Sequence[Session]) -> tuple[Session, ...]:
    """Number sessions of one label, so that each has a folder of its own."""
    n = Counter(s.label for s in sessions)
    taken = {label for label, count in n.items() if count == 1}
    result = []
    for session in sessions:
        label, number = session.label, 0
        while n[session.label] > 1 and (label == session.label or label in taken):
            label, number = f"{session.label}_{number}", number + 1
        taken.add(label)
        result.append(replace(session, label=label))
    return tuple(result)


def bids_details(
    session: Session, recording: Recording, encoding: str = "utf8", counted: bool | None = None
) -> tuple[mne.Annotations, dict[str, bool]]:
    """Return what a BIDS folder states about a recording: annotations (through mne-bids), {channel: is it bad}.

    `encoding` is that of annotations in the recording itself; `counted` says whether the times of events.tsv count the
    recording's gaps (`pauses.events_in_time`).
    """
    assert session.bids is not None
    status = _channel_status(channels_table(session))
    gaps, table = bool(recording.timeline), session.events
    # BIDS demands a duration, and mne-bids needs it
    if table is not None and "duration" not in (events := frame_of(table, "onset")):
        found = _annotations(table, events)
    else:
        try:
            with warnings.catch_warnings(action="ignore"), reader_options(session.path, encoding) as options:
                # of channels.tsv mne-bids would drop what does not agree with the header to the letter
                raw = mne_bids.read_raw_bids(session.bids, options, on_ch_mismatch="warn", verbose="error")
        except Exception as error:  # as many ways to fail as there are readers
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{session.path}: mne-bids cannot read this recording: {reason[:300]}") from error
        if not gaps:
            return raw.annotations, status
        if table is None:
            return recording.annotations, status
        found = _annotations(table, events)  # those of the Raw end where the stored samples end
    onset = pauses.events_in_time(found.onset, recording.timeline, counted, display_path(table))
    return mne.Annotations(onset + recording.first_time, found.duration, found.description), status


def _annotations(table: Path, events: pd.DataFrame) -> mne.Annotations:
    """Return what mne-bids makes of an events.tsv; one without durations is taken to have markers only."""
    if "duration" not in events:
        events["duration"] = "n/a"
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        whole = Path(folder) / table.name
        events.to_csv(whole, sep="\t", index=False)
        try:
            found = mne_bids.read.events_file_to_annotation_kwargs(whole, verbose="error")
        except (KeyError, ValueError) as error:
            raise UserError(f"{display_path(table)}: mne-bids cannot read this table: {error}") from error
    return mne.Annotations(found["onset"], found["duration"], found["description"])


def channels_table(session: Session) -> Path | None:
    """Return the channels.tsv of a recording in a BIDS folder: beside it, or further up for several."""
    if session.bids is None:
        return None
    try:
        found = session.bids.find_matching_sidecar(suffix="channels", extension=".tsv", on_error="ignore")
    except RuntimeError as error:  # several that fit equally well
        raise UserError(f"{session.path}: {' '.join(str(error).split())[:300]}") from None
    return None if found is None else Path(found)


def _channel_status(table: Path | None) -> dict[str, bool]:
    """Return {channel: is it bad} of the rows of a channels.tsv that say so; refuse a status that BIDS has not."""
    if table is None:
        return {}
    found, rows = dict[str, bool](), frame_of(table, "name", fold=True)
    if "status" not in rows:
        close = difflib.get_close_matches("status", list(map(str, rows)), 1, cutoff=0.8)
        if close:
            raise UserError(f"{display_path(table)}: no column 'status'; write it for {close[0]!r}, or rename that")
        return {}
    for line, name, status in zip(rows.index, rows["name"], rows["status"], strict=True):
        if status.casefold() not in ("good", "bad", "n/a", ""):
            raise UserError(f"{table}, row {line}: status {status!r}; BIDS has good and bad (and n/a)")
        if status.casefold() in ("good", "bad") and name:
            found[name] = status.casefold() == "bad"
    return found
