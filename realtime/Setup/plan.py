"""What is to be run: a new session, one that broke off, or the replay of one."""

import argparse
import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sleep_interpreter.realtime.Cues import loudness_calibration
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Recording.event_log import read_log
from sleep_interpreter.realtime.Recording.recorder import places
from sleep_interpreter.realtime.Recording.session_about import replayed_file, require_about, subject_of
from sleep_interpreter.realtime.Recording.session_recording import segments
from sleep_interpreter.realtime.Sources.recorded_inputs import ReplayedInputs
from sleep_interpreter.realtime.Sources.source import Plan
from sleep_interpreter.realtime.Subject import load_subject
from sleep_interpreter.realtime.Utils.registries import SOURCES
from sleep_interpreter.utils.core import config, file_locks
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import card_of
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.own_folder import own_folder
from sleep_interpreter.utils.core.paths import display_path

FLAGS = {
    "source": "source.kind", "speed": "source.speed", "unit": "source.unit", "start": "source.start",
    "stop": "source.stop", "stager": "staging.stager", "stager_checkpoint": "staging.checkpoint",
    "decoder_checkpoint": "decoder.checkpoint", "cues": "cues.mode", "lsl_markers": "markers.lsl",
}  # fmt: skip
"""Flags of realtime/Main_Decode.py that are short names of settings."""


_NEWEST, _NEWEST_SAMPLES = 500, round(60 * STREAM_RATE)
"""Events, and samples, at the end of a log that tell when its samples were taken."""
_LONGEST_GAP = 4 * 3600.0
"""A night that goes on after a longer break, in s, is asked about."""
_CLOCKS_APART = 2.0
"""So is one whose last sample lies in the future by more."""


def lock_session(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from running a session in this folder (`utils.core.file_locks`)."""
    refusal = "the session is still running, in another process: go on there, or end it first"
    return file_locks.locked(folder / file_locks.LOCK, refusal=f"{display_path(folder)}: {refusal}")


def make_plan(args: argparse.Namespace) -> Plan:
    """Return the `Plan` that the command line asks for.

    Raises `UserError`: a folder that holds no session, settings that do not fit, flags that contradict each other.
    """
    if args.resume:
        return _resumed(args)
    if args.session:
        return _replayed(args)
    if args.segment is not None:
        raise UserError("--segment belongs to --session")
    if args.gap is not None:
        raise UserError("--gap belongs to --resume")
    settings = config.load(SessionSettings, args.config or "realtime", overrides=cli_overrides(args))
    subject = load_subject(args.subject, args.subject_file)
    if args.recording is not None and not SOURCES.load(settings.source.kind).takes_recording:
        raise UserError(f"--recording belongs to --source replay, not to {settings.source.kind}")
    settings = loudness_calibration.apply(settings, subject)
    return Plan(settings, subject, None if args.recording is None else Path(args.recording))


def cli_overrides(args: argparse.Namespace) -> list[str]:
    """Return --set and the short flags as overrides."""
    flags = {key: getattr(args, flag) for flag, key in FLAGS.items() if getattr(args, flag) is not None}
    if args.dry_run:
        flags |= {"audio.sink": "null", "markers.lsl": False}
        flags |= dict.fromkeys(("markers.serial", "markers.parallel", "markers.ports"))
    return [*args.overrides, *(f"{key}={json.dumps(value)}" for key, value in flags.items())]


def _resumed(args: argparse.Namespace) -> Plan:
    """Plan to go on with a session in its own folder."""
    folder, settings, about = _open(args.resume, ())
    why = "--resume goes on with the session's own settings"
    flags = [flag for flag in (*FLAGS, "recording", "subject", "subject_file", "config") if flag != "speed"]
    changed = [f"--{flag.replace('_', '-')}" for flag in flags if getattr(args, flag) is not None]
    if changed := changed + (["--set"] if args.overrides else []):
        raise UserError(f"{why}: leave out {', '.join(changed)}")
    if args.dry_run:
        raise UserError(f"{why}, its sound and its markers too: leave out --dry-run")
    if args.speed is not None:
        settings = _open(args.resume, [f"source.speed={args.speed}"])[1]
    if about["ending"] in ("end of recording", "stopped"):
        raise UserError(f"{folder}: the session ended ({about['ending']}); begin a new one")
    with lock_session(folder):
        pass  # told before everything is made ready
    try:
        events = read_log(folder / "log.jsonl", details=True)
    except ValueError as error:
        raise UserError(f"{error}: take that line out (keep a copy), and resume again") from None
    if not events:
        raise UserError(f"{folder}: nothing was logged; begin a new session")
    origin, path = resume_sample(settings, about, events, folder, args.gap), replayed_file(about)
    subject = subject_of(folder, about)
    return Plan(settings, subject, path, folder, tuple(events), origin, card=card_of(folder), gap=args.gap)


def resume_sample(
    settings: SessionSettings, about: dict[str, Any], events: Sequence[dict[str, Any]], folder: Path,
    gap: float | None = None,
) -> int:  # fmt: skip
    """Return the sample at which a session goes on: where its stream is now, and after all that was recorded.

    A live stream's samples were never logged before they came: the log's soonest event of the last minutes tells when
    a sample was taken, on the clock on the wall. `gap`: how long nothing came, s, as the operator says. `UserError`:
    by the clocks that time is negative, or longer than a break of a night.
    """
    last = max(e["sample"] for e in events)
    if not SOURCES.load(settings.source.kind).live:
        if gap is not None:
            raise UserError("--gap belongs to a stream: a recording goes on where it broke off")
        return last + 1
    recorded = _recorded_to(folder)
    if gap is not None:
        if not 0 <= gap <= _LONGEST_GAP * 24:
            raise UserError(f"--gap {gap:g}: permitted are 0 to {_LONGEST_GAP * 24:g} s")
        return max(last + 1, recorded) + round(gap * STREAM_RATE)
    ahead = {n for e in events[-_NEWEST:] if e["event"] == "begun" for n in e["detail"]["numbers"]}  # of their samples
    newest = [
        e for e in events[-_NEWEST:]
        if e["sample"] > last - _NEWEST_SAMPLES and not (e["event"] == "cue" and e["detail"]["number"] in ahead)
    ]  # fmt: skip
    # killed before its first sample: it was about to begin
    times = [(about.get("first_sample_at") or about["started"], 0)] if last == 0 else []
    times += [(e["wall"]["time"], e["detail"].get("taken", e["sample"])) for e in newest]
    began = min(datetime.fromisoformat(time).timestamp() - sample / STREAM_RATE for time, sample in times)
    now = datetime.now(UTC).timestamp()
    away = now - began - max(last + 1, recorded) / STREAM_RATE
    if away < -_CLOCKS_APART or away > _LONGEST_GAP:
        found = "lies in the future" if away < 0 else f"is {away / 3600:.1f} h ago"
        raise UserError(
            f"{display_path(folder)}: by this computer's clock its last sample {found}. If the night goes on, "
            "say how long nothing was recorded, in s: --gap 90; else begin a new session"
        )
    return max(last + 1, recorded, round((now - began) * STREAM_RATE))


def _recorded_to(folder: Path) -> int:
    """Return the sample of the session (500 Hz) after the last one in its recording."""
    if not (folder / "recording").is_dir():
        return 0
    try:
        parts = segments(folder)
    except UserError:  # nothing was recorded, or it cannot be read: the log alone tells
        return 0
    return max(math.ceil(part.end * STREAM_RATE / part.raw.info["sfreq"]) for part in parts)


def _replayed(args: argparse.Namespace) -> Plan:
    """Plan to replay a session from its own recording."""
    number = 1 if args.segment is None else args.segment
    folder = Path(args.session)
    overrides = [
        "source.kind=replay", "source.unit=V", "source.start=0", "source.stop=null", "recording.enabled=false",
        "control.enabled=never", "faults=[]", "source.speed=0", "markers.lsl=false", "markers.serial=null",
        "markers.parallel=null", "markers.ports=null", *cli_overrides(args),
    ]  # fmt: skip
    folder, settings, about = _open(args.session, overrides)
    if settings.audio.sink not in ("file", "null") and not any(o.startswith("audio.sink=") for o in overrides):
        # what the night's sink needs need not be here: as for any other replay
        settings = settings.model_copy(update={"audio": settings.audio.model_copy(update={"sink": "auto"})})
    name = f"segment_{number:03d}.vhdr"
    there = [place / name for place in places(folder) if (place / name).is_file()]
    recording = there[0] if there else folder / "recording" / name
    if not recording.is_file():
        raise UserError(f"{recording}: not there; only live sessions record their stream (a replay: give --recording)")
    events = read_log(folder / "log.jsonl", details=True)
    segments = _recorded_segments(folder, events)
    if recording.name not in segments:
        raise UserError(f"{recording}: it holds no sample; there are {', '.join(segments)}")
    origin, count, lacking = segments[recording.name]
    after = min((first for first, _, _ in segments.values() if first > origin), default=None)
    own = [e for e in events if e["sample"] >= origin and (after is None or e["sample"] < after)]
    before = tuple(e for e in events if e["sample"] < origin)
    ends = [e["sample"] for e in own if e["event"] == "stop"]
    if ends:  # the recording goes on for the moment that closing took
        stop = min((ends[-1] - origin) / STREAM_RATE, count)
        source = settings.source.model_copy(update={"stop": stop})
        settings = settings.model_copy(update={"source": source})
    begun = {0, *(e["sample"] for e in events if e["event"] == "resume")}
    logged = [(e["detail"]["first"], e["detail"]["count"]) for e in own if e["event"] == "gap"]
    # a stream counts from where its process began: only there are the log's gaps the file's too
    gaps = tuple(sorted({*lacking, *(logged if origin in begun else ())}))
    inputs = ReplayedInputs(own, origin)
    return Plan(settings, subject_of(folder, about), recording, None, before, origin, inputs, gaps, card_of(folder))


def _recorded_segments(
    folder: Path, events: Sequence[dict[str, Any]]
) -> dict[str, tuple[int, float, tuple[tuple[int, int], ...]]]:
    """Return {file: (sample of the session at which it begins, its seconds, its gaps)}."""
    resumed = [e["sample"] for e in events if e["event"] == "resume"]
    found: dict[str, tuple[int, float, tuple[tuple[int, int], ...]]] = {}
    for part in segments(folder):
        rate = part.raw.info["sfreq"]
        first = round(part.first * STREAM_RATE / rate)
        first = next((s for s in resumed if abs(s - first) <= STREAM_RATE / rate), first)  # rates that round
        found[part.path.name] = (first, part.raw.n_times / rate, part.gaps)
    return found


def _open(path: str, overrides: Sequence[str]) -> tuple[Path, SessionSettings, dict[str, Any]]:
    """Return a session's folder, settings and session.json."""
    folder = own_folder(path)
    for name in ("settings.yaml", "session.json", "log.jsonl"):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no session is there: {name} is missing")
    tree, origins = config.resolve(folder / "settings.yaml", overrides=overrides)
    tree.get("control", {}).pop("keyboard", None)  # sessions of version 0.1 could be controlled by keys
    settings = config.validate(SessionSettings, tree, display_path(folder / "settings.yaml"), origins)
    return folder, settings, require_about(folder, "started", "ending", "subject", "recording")
